/* SPDX-License-Identifier: MIT
 *
 * Optimizers: live scalars, state kept per parameter, and the call that updates a contiguous range. The
 * updates are inline functions of runtime/kernels/optim.h; order of operations and slot names are
 * PyTorch's, so that its checkpoints can be compared value by value.
 */
#include "ops/op.h"

#include <string.h>

#define BIG        1e30
#define LR_MAX     1e6 /* a larger learning rate is a slip of the pen: no weight survives it */
#define BELOW_ONE  0x1.fffffffffffffp-1
#define ABOVE_ZERO 1e-300
#define LR(d)                                                                                      \
    {                                                                                              \
        "lr", .def = (d), .min = 0, .max = LR_MAX, .doc = "Learning rate."                            \
    }
#define WEIGHT_DECAY(d, text)                                                                      \
    {                                                                                              \
        "weight_decay", .def = (d), .min = 0, .max = BIG, .doc = text                              \
    }
#define EPS(d)                                                                                     \
    {                                                                                              \
        "eps", .def = (d), .min = ABOVE_ZERO, .max = BIG,                                          \
               .doc = "Added to the root, against division by zero."                               \
    }
static const char DECAY_IN_GRADIENT[] = "Times the weight, added to the gradient.";

static const OptimArg sgd_scalars[] = {
    LR(NAN),
    { "momentum", .def = 0, .min = 0, .max = BELOW_ONE, .is_asked_for = true,
      .doc = "Part of the last update that is kept. Where it is not written there is no buffer for it." },
    { "nesterov", .def = 0, .min = 0, .max = 1, .is_flag = true,
      .doc = "Look ahead along the momentum." },
    WEIGHT_DECAY(0, DECAY_IN_GRADIENT),
    { 0 },
};
static const OptimDesc optim_sgd = {
    .name = "sgd",
    .summary = "gradient descent, with momentum on request",
    .torch = "torch.optim.SGD",
    .doc =
        "`g += weight_decay w; v = momentum v + g; w -= lr v`, or with `nesterov = true`, `w -= lr (g + momentum v)`.",
    .scalars = sgd_scalars,
    .slots = { "momentum_buffer?momentum" },
    .call = "nn_sgd($n, $w, $g, $s0, $lr, $momentum, $nesterov, $weight_decay);",
};

#define ADAM_SCALARS(decay, text)                                                                  \
    LR(1e-3),                                                                                      \
        { "beta1", .def = 0.9, .min = 0, .max = BELOW_ONE,                                         \
          .doc = "Decay of the mean of gradients." },                                              \
        { "beta2", .def = 0.999, .min = 0, .max = BELOW_ONE,                                       \
          .doc = "Decay of the mean of squared gradients." },                                      \
        EPS(1e-8), WEIGHT_DECAY(decay, text)

static const OptimArg adam_scalars[] = { ADAM_SCALARS(0, DECAY_IN_GRADIENT), { 0 } };
static const OptimDesc optim_adam = {
    .name = "adam",
    .summary = "adaptive moments",
    .torch = "torch.optim.Adam",
    .doc =
        "`g += weight_decay w; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;` then "
        "`w -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)`.",
    .scalars = adam_scalars,
    .slots = { "exp_avg", "exp_avg_sq" },
    .call = "nn_adam($n, $w, $g, $s0, $s1, $lr, $beta1, $beta2, $eps, $weight_decay, $t);",
};

static const OptimArg adamw_scalars[] = {
    ADAM_SCALARS(0.01, "Shrinks weights by `lr weight_decay` a step."), { 0 }
};
static const OptimDesc optim_adamw = {
    .name = "adamw",
    .summary = "adam with decoupled weight decay",
    .torch = "torch.optim.AdamW",
    .doc = "`w *= 1 - lr weight_decay`, then adam without weight decay in the gradient.",
    .scalars = adamw_scalars,
    .slots = { "exp_avg", "exp_avg_sq" },
    .call = "nn_adamw($n, $w, $g, $s0, $s1, $lr, $beta1, $beta2, $eps, $weight_decay, $t);",
};

static const OptimArg rmsprop_scalars[] = {
    LR(0.01),
    { "alpha", .def = 0.99, .min = 0, .max = BELOW_ONE,
      .doc = "Decay of the mean of squared gradients." },
    EPS(1e-8),
    { "momentum", .def = 0, .min = 0, .max = BELOW_ONE, .is_asked_for = true,
      .doc = "Part of the last update that is kept. Where it is not written there is no buffer for it." },
    WEIGHT_DECAY(0, DECAY_IN_GRADIENT),
    { "centered", .def = 0, .min = 0, .max = 1, .is_flag = true,
      .doc = "Divide by the standard deviation." },
    { 0 },
};
static const OptimDesc optim_rmsprop = {
    .name = "rmsprop",
    .summary = "gradients scaled by their running root mean square",
    .torch = "torch.optim.RMSprop",
    .doc =
        "`g += weight_decay w; q = alpha q + (1 - alpha) g^2; v = momentum v + g / (sqrt(q) + eps); w -= lr v`. With "
        "`centered = true` the root is that of `q - c^2`, where `c = alpha c + (1 - alpha) g`.",
    .scalars = rmsprop_scalars,
    .slots = { "square_avg", "momentum_buffer?momentum", "grad_avg?centered" },
    .call = "nn_rmsprop($n, $w, $g, $s0, $s1, $s2, $lr, $alpha, $eps, $momentum, $weight_decay);",
};

static const OptimArg adagrad_scalars[] = {
    LR(0.01), EPS(1e-10), WEIGHT_DECAY(0, DECAY_IN_GRADIENT), { 0 }
};
static const OptimDesc optim_adagrad = {
    .name = "adagrad",
    .summary = "gradients scaled by the root of their summed squares",
    .torch = "torch.optim.Adagrad",
    .doc = "`g += weight_decay w; q += g^2; w -= lr g / (sqrt(q) + eps)`.",
    .scalars = adagrad_scalars,
    .slots = { "sum" },
    .call = "nn_adagrad($n, $w, $g, $s0, $lr, $eps, $weight_decay);",
};

static const OptimArg momentum_scalars[] = {
    LR(NAN),
    { "momentum", .def = 0.9, .min = 0, .max = BELOW_ONE,
      .doc = "Part of the last update that is kept." },
    WEIGHT_DECAY(0, DECAY_IN_GRADIENT),
    { 0 },
};
static const OptimDesc optim_momentum = {
    .name = "momentum",
    .summary = "gradient descent with momentum",
    .torch = "torch.optim.SGD(momentum=0.9)",
    .doc = "`g += weight_decay w; v = momentum v + g; w -= lr v`: `sgd` with a momentum of 0.9.",
    .scalars = momentum_scalars,
    .slots = { "momentum_buffer" },
    .call = "nn_sgd($n, $w, $g, $s0, $lr, $momentum, 0, $weight_decay);",
};
static const OptimDesc optim_nesterov = {
    .name = "nesterov",
    .summary = "gradient descent with Nesterov's momentum",
    .torch = "torch.optim.SGD(momentum=0.9, nesterov=True)",
    .doc =
        "`g += weight_decay w; v = momentum v + g; w -= lr (g + momentum v)`: `sgd` that looks ahead.",
    .scalars = momentum_scalars,
    .slots = { "momentum_buffer" },
    .call = "nn_sgd($n, $w, $g, $s0, $lr, $momentum, 1, $weight_decay);",
};

static const OptimArg adadelta_scalars[] = {
    LR(1),
    { "rho", .def = 0.9, .min = 0, .max = BELOW_ONE, .doc = "Decay of both running means." },
    EPS(1e-6),
    WEIGHT_DECAY(0, DECAY_IN_GRADIENT),
    { 0 },
};
static const OptimDesc optim_adadelta = {
    .name = "adadelta",
    .summary = "steps scaled by those before them",
    .torch = "torch.optim.Adadelta",
    .doc =
        "`g += weight_decay w; q = rho q + (1 - rho) g^2; d = g sqrt(u + eps) / sqrt(q + eps);` then "
        "`u = rho u + (1 - rho) d^2; w -= lr d`.",
    .scalars = adadelta_scalars,
    .slots = { "square_avg", "acc_delta" },
    .call = "nn_adadelta($n, $w, $g, $s0, $s1, $lr, $rho, $eps, $weight_decay);",
};

static const OptimDesc optim_amsgrad = {
    .name = "amsgrad",
    .summary = "adam whose steps cannot grow again",
    .torch = "torch.optim.Adam(amsgrad=True)",
    .doc = "As `adam`, but divided by the root of the largest `v` so far: `u = max(u, v)`, then "
           "`w -= lr / (1 - beta1^t) m / (sqrt(u) / sqrt(1 - beta2^t) + eps)`.",
    .scalars = adam_scalars,
    .slots = { "exp_avg", "exp_avg_sq", "max_exp_avg_sq" },
    .call = "nn_amsgrad($n, $w, $g, $s0, $s1, $s2, $lr, $beta1, $beta2, $eps, $weight_decay, $t);",
};

static const OptimArg nadam_scalars[] = {
    LR(2e-3),
    { "beta1", .def = 0.9, .min = 0, .max = BELOW_ONE, .doc = "Decay of the mean of gradients." },
    { "beta2", .def = 0.999, .min = 0, .max = BELOW_ONE,
      .doc = "Decay of the mean of squared gradients." },
    EPS(1e-8),
    WEIGHT_DECAY(0, DECAY_IN_GRADIENT),
    { "momentum_decay", .def = 4e-3, .min = 0, .max = BIG,
      .doc = "How fast the momentum reaches beta1." },
    { 0 },
};
static const OptimDesc optim_nadam = {
    .name = "nadam",
    .summary = "adam with Nesterov's momentum",
    .torch = "torch.optim.NAdam",
    .doc =
        "`m` and `v` as in `adam`; with `mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)` and `p_t` the product of "
        "`mu_1 .. mu_t`: `w -= lr ((1 - mu_t) / (1 - p_t) g + mu_(t+1) / (1 - p_(t+1)) m) / "
        "(sqrt(v / (1 - beta2^t)) + eps)`.",
    .scalars = nadam_scalars,
    .slots = { "exp_avg", "exp_avg_sq" },
    .call =
        "nn_nadam($n, $w, $g, $s0, $s1, $lr, $beta1, $beta2, $eps, $momentum_decay, $weight_decay, $t);",
};

static const OptimArg lion_scalars[] = {
    LR(1e-4),
    { "beta1", .def = 0.9, .min = 0, .max = BELOW_ONE,
      .doc = "Share of the memory in the step's direction." },
    { "beta2", .def = 0.99, .min = 0, .max = BELOW_ONE, .doc = "Decay of the mean of gradients." },
    WEIGHT_DECAY(0, "Shrinks weights by `lr weight_decay` a step."),
    { 0 },
};
static const OptimDesc optim_lion = {
    .name = "lion",
    .summary = "steps of one size along the sign of the momentum",
    .doc =
        "`w -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay w); m = beta2 m + (1 - beta2) g` (Chen et al., 2023).",
    .scalars = lion_scalars,
    .slots = { "exp_avg" },
    .call = "nn_lion($n, $w, $g, $s0, $lr, $beta1, $beta2, $weight_decay);",
};

/* ---- second order: the whole step is a function of runtime/second.c ---- */

#define SEARCH_SCALARS(curvature)                                                                   \
    { "lr", .def = 1, .min = ABOVE_ZERO, .max = LR_MAX,                                                \
      .doc = "First step the line search tries, times the direction." },                            \
        { "tolerance_grad", .def = 1e-7, .min = 0, .max = BIG,                                      \
          .doc =                                                                                    \
              "A gradient with no larger element counts as zero: the step returns `NN_ESEARCH`." }, \
        { "c1", .def = 1e-4, .min = ABOVE_ZERO, .max = 0.5, .doc = "Of sufficient decrease." },     \
        { "c2", .def = (curvature), .min = ABOVE_ZERO, .max = BELOW_ONE,                            \
          .doc = "Of curvature; larger than `c1`." },                                               \
        { "max_evals", .def = 25, .min = 1, .max = 1e6,                                             \
          .doc = "Most evaluations of one line search." },                                          \
        WEIGHT_DECAY(0, "Half of it times the sum of squared weights is added to the loss.")

#define FULL_BATCH                                                                                                 \
    " For full batches: the line search evaluates the step's inputs several times. The step length satisfies the " \
    "strong Wolfe conditions. Where no step lowers the loss, weights stay and the step returns `NN_ESEARCH`."

enum { WORK_VECTORS = 6 };

static const OptimArg newton_scalars[] = { SEARCH_SCALARS(0.9), { 0 } };
static const OptimDesc optim_newton = {
    .name = "newton",
    .summary = "Newton's method, for at most 1,024 parameters",
    .doc =
        "`w -= lr (H + damping)^-1 g`. The Hessian H is exact, one product of `STEP_hvp` a parameter; as much of the "
        "identity is added as makes it positive definite." FULL_BATCH,
    .scalars = newton_scalars,
    .driver = "nn_newton",
    .uses_product = true,
    .work_vectors = WORK_VECTORS,
    .work_matrices = 2,
    .max_params = 1024,
};

static const OptimBlock inverse_hessian[] = { { "inverse_hessian", NULL }, { 0 } };

static const OptimArg bfgs_scalars[] = { SEARCH_SCALARS(0.9), { 0 } };
static const OptimDesc optim_bfgs = {
    .name = "bfgs",
    .summary =
        "quasi-Newton method of Broyden, Fletcher, Goldfarb and Shanno, for at most 4,096 parameters",
    .doc =
        "`w -= lr H g`, then with s and y, the changes of weights and gradient, and r = 1/(y's), "
        "`H = (I - r s y') H (I - r y s') + r s s'`. The first step goes along the gradient and sets H to "
        "s'y/(y'y)." FULL_BATCH,
    .scalars = bfgs_scalars,
    .driver = "nn_bfgs",
    .blocks = inverse_hessian,
    .work_vectors = WORK_VECTORS,
    .max_params = 4096,
};

static const OptimArg dfp_scalars[] = { SEARCH_SCALARS(0.1), { 0 } };
static const OptimDesc optim_dfp = {
    .name = "dfp",
    .summary = "quasi-Newton method of Davidon, Fletcher and Powell, for at most 4,096 parameters",
    .doc =
        "As bfgs, with `H = H - H y y' H / (y' H y) + s s' / (y's)`. It needs more accurate line searches than "
        "bfgs, hence its smaller `c2`." FULL_BATCH,
    .scalars = dfp_scalars,
    .driver = "nn_dfp",
    .blocks = inverse_hessian,
    .work_vectors = WORK_VECTORS,
    .max_params = 4096,
};

static const OptimArg lbfgs_scalars[] = {
    SEARCH_SCALARS(0.9),
    { "history", .def = 10, .min = 1, .max = 100, .is_count = true,
      .doc = "Pairs of changes that are kept." },
    { 0 },
};
static const OptimBlock lbfgs_blocks[] = { { "step_history", "history" },
                                           { "gradient_history", "history" },
                                           { 0 } };
static const OptimDesc optim_lbfgs = {
    .name = "lbfgs",
    .summary = "bfgs with limited memory, for any number of parameters",
    .torch = "torch.optim.LBFGS(line_search_fn=\"strong_wolfe\")",
    .doc =
        "The direction of bfgs from the last `history` changes of weights and gradient instead of a matrix "
        "(two-loop recursion). The first step goes along the gradient, by min(1, 1/|g|_1) lr at first." FULL_BATCH,
    .scalars = lbfgs_scalars,
    .driver = "nn_lbfgs",
    .blocks = lbfgs_blocks,
    .work_vectors = WORK_VECTORS,
};

const OptimDesc *const optim_table[] = {
#define OPTIM(name) &optim_##name,
#include "ops/optims.def"
#undef OPTIM
};
const size_t optim_table_len = sizeof optim_table / sizeof *optim_table;

const OptimArg optim_options[] = {
    { "clip_norm", .min = ABOVE_ZERO, .max = INFINITY,
      .doc =
          "Scales all gradients of the step by min(1, clip_norm / (norm + 1e-6)), where norm is that of all of "
          "them together (torch.nn.utils.clip_grad_norm_)." },
    { "clip_value", .min = ABOVE_ZERO, .max = INFINITY,
      .doc = "Cuts each element of the gradients to -clip_value .. clip_value, after clip_norm "
             "(torch.nn.utils.clip_grad_value_)." },
    { "ema", .min = ABOVE_ZERO, .max = BELOW_ONE,
      .doc =
          "Keeps averages of the weights: after each update, `a = ema a + (1 - ema) w` (Polyak averaging). "
          "`NAME_swap_ema` exchanges weights and averages, so that `infer` routines and saved files use them "
          "(torch.optim.swa_utils.AveragedModel)." },
    { "in_backward", .is_flag = true,
      .doc =
          "Updates each parameter as soon as its gradient is known, during the backward pass. Gradients are not kept: "
          "each takes memory that another value has done with, a large dense layer's a quarter of its size, and the "
          "step has no `_grad` and `_apply` halves. The update is the same. Not with `clip_norm`, which needs all "
          "gradients first." },
    { 0 },
};

int64_t optim_columns(const Minimize *m)
{
    int64_t n = 0;
    if (!m || !m->optim->driver) return 0;
    for (size_t i = 0; i < m->over.len; i++) n += type_numel_max(&m->over.data[i]->type);
    return n;
}

int64_t optim_rows(const Minimize *m, const OptimBlock *b)
{
    for (int i = 0; b->rows && m->optim->scalars[i].name; i++)
        if (!strcmp(m->optim->scalars[i].name, b->rows)) return (int64_t)m->scalars[i].fixed;
    return optim_columns(m);
}

int64_t optim_work_bytes(const Minimize *m)
{
    const int64_t n = optim_columns(m);
    if (!n) return 0;
    return (n * (m->optim->work_vectors + n * m->optim->work_matrices) * 8 + 63) / 64 * 64;
}
