/* SPDX-License-Identifier: MIT
 *
 * What the language itself offers under a name, for the lists and the manual: neither operators nor blocks.
 */
#include "front/front.h"

const Topic front_topics[] = {
    { "l1", "losses", "l1(PATHS)", "the sum of the absolute values of parameters",
      "`sum |w|` over all elements of the parameters that the paths cover, with derivative `sign(w)`. A penalty: it is "
      "added to a loss, times a factor, after the calls of the layers it names.",
      "sum(p.abs().sum() for p in parameters)",
      "minimize mse(net(x), t) + 1e-4 * l1(net) over net using sgd(lr = 0.1);" },
    { "l2", "losses", "l2(PATHS)", "the sum of the squares of parameters",
      "`sum w^2` over all elements of the parameters that the paths cover, with derivative `2 w`; there is no factor "
      "of one half. A penalty: it is added to a loss, times a factor, after the calls of the layers it names.",
      "sum(p.square().sum() for p in parameters)",
      "minimize mse(net(x), t) + 1e-4 * l2(net.weight) over net using sgd(lr = 0.1);" },
    { "over", "options", "minimize LOSS over PATH, PATH * FACTOR using ...",
      "what is trained, and at which part of the learning rate",
      "Only the parameters that the paths cover are trained; the others are frozen, get no backward code, and their "
      "layers' running statistics stay. A factor multiplies the learning rate of what its path covers; of several "
      "paths the longest decides.",
      "optimizer parameter groups, requires_grad_(False)",
      "minimize mse(net(x), t) over net, net.bias * 0.1 using sgd(lr = 0.1);" },
    { "accumulation", "options", "NAME_STEP_grad(...), NAME_STEP_apply(m, factor)",
      "one update from the gradients of several calls",
      "Each call of the `_grad` half of a step adds its gradients to those that wait; the `_apply` half multiplies "
      "them with its argument, updates and clears them. For the mean over k batches, call `_grad` k times and then "
      "`_apply(m, 1.0 / k)`.",
      "loss.backward() several times before optimizer.step()", NULL },
    { "warmup", "schedules", "warmup(steps, X)", "a linear rise in front of a number or a schedule",
      "Multiplies X, a number or a schedule, with `min(1, (step + 1) / steps)`. Every schedule also takes it as its "
      "last argument: `cosine(0.1, steps = 1000, warmup = 50)`.",
      "torch.optim.lr_scheduler.LinearLR in front, by SequentialLR",
      "minimize mse(net(x), t) over net using sgd(lr = warmup(50, step_decay(0.1, every = 100)));" },
    { "plateau", "schedules", "nn_plateau, nn_plateau_step (nn_train.h)",
      "lowers a scalar when nothing improves any more",
      "Driven by the training loop, because only it knows what improves: with `nn_plateau p = { .factor = 0.1, "
      ".patience = 3, .threshold = 1e-4 }` in an `nn_trainer`, or called after each evaluation, the scalar is "
      "multiplied with `factor` when the value has not become better by the part `threshold` in more than `patience` "
      "evaluations.",
      "torch.optim.lr_scheduler.ReduceLROnPlateau", NULL },
    { NULL, NULL, NULL, NULL, NULL, NULL, NULL },
};
