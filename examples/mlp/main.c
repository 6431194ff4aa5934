/* SPDX-License-Identifier: MIT
 *
 * Trains a multi-layer perceptron on digits: rendered ones, or MNIST with --data DIR.
 */
#include <stdio.h>

#include "model.h"
#include "nn_train.h"

static nn_status step(void *m, const nn_batch *b, double *value)
{
    mlp_train_out out;
    const nn_status s = mlp_train(m, b->n, b->x, b->y, &out);
    value[0] = out.loss;
    value[1] = out.acc;
    return s;
}

static nn_status eval(void *m, const nn_batch *b, double *value)
{
    static float probs[MLP_B_MAX * 10];
    const nn_status s = mlp_predict(m, b->n, b->x, probs);
    value[0] = nn_accuracy(probs, b->y, b->n, 10);
    return s;
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 5, .batch = 64, .seed = 1 };
    const int code = nn_args_parse(&args, argc, argv, "Trains a multi-layer perceptron on digits.");
    if (code >= 0) return code;

    nn_dataset train, test;
    char why[NN_ERROR_TEXT];
    const nn_status loaded = nn_digits_or_mnist(&train, &test, args.data, args.seed, why);
    if (loaded != NN_OK) return nn_fail(loaded, why);
    mlp *m = mlp_new(MLP_TRAIN | MLP_PREDICT, &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) mlp_hypers(m)->train_lr = args.lr;

    const nn_trainer trainer = { .model = m, .args = &args, .train = &train, .valid = &test, .step = step, .eval = eval,
                                 .step_values = { "loss", "acc" }, .eval_values = { "test" } };
    nn_train_result result;
    const int failed = nn_train(&trainer, &result);
    if (!failed) printf("test accuracy: %.4f\n", result.eval[0]);
    mlp_free(m);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return failed;
}
