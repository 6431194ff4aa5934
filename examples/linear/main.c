/* SPDX-License-Identifier: MIT
 *
 * Linear regression on 400 points of t = 2 a - 3 b + 0.5 c + 1 with a little noise. Prints what was learned.
 */
#include <stdio.h>

#include "model.h"
#include "nn_train.h"

enum { N = 400, N_TEST = 100 };

static float points[N + N_TEST][3], targets[N + N_TEST];

/* A small generator of its own, so that the data is the same everywhere. */
static float uniform(uint32_t *state)
{
    *state = *state * 1664525U + 1013904223U;
    return (float)(*state >> 8) * 0x1p-23F - 1.0F;
}

static void make_points(void)
{
    uint32_t state = 1;
    for (int i = 0; i < N + N_TEST; i++) {
        float *x = points[i];
        for (int k = 0; k < 3; k++) x[k] = uniform(&state);
        targets[i] = 2.0F * x[0] - 3.0F * x[1] + 0.5F * x[2] + 1.0F + 0.02F * uniform(&state);
    }
}

static nn_status step(void *m, const nn_batch *b, double *value)
{
    linear_train_out out;
    const nn_status s = linear_train(m, b->n, b->x, b->t, &out);
    value[0] = out.loss;
    return s;
}

static nn_status eval(void *m, const nn_batch *b, double *value)
{
    float y[LINEAR_B_MAX];
    const nn_status s = linear_predict(m, b->n, b->x, y);
    value[0] = 0;
    for (int i = 0; i < b->n; i++) value[0] += (y[i] - b->t[i]) * (y[i] - b->t[i]) / b->n;
    return s;
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 20, .batch = 16, .seed = 1 };
    const int code = nn_args_parse(&args, argc, argv, "Fits a line in three variables.");
    if (code >= 0) return code;

    make_points();
    const nn_dataset train = nn_dataset_wrap(N, 3, points[0], NULL, 1, targets);
    const nn_dataset test = nn_dataset_wrap(N_TEST, 3, points[N], NULL, 1, targets + N);
    linear *m = linear_new(LINEAR_TRAIN | LINEAR_PREDICT, &(nn_options){ .seed = args.seed, .threads = 1 });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) linear_hypers(m)->train_lr = args.lr;

    const nn_trainer trainer = { .model = m, .args = &args, .train = &train, .valid = &test, .step = step, .eval = eval,
                                 .step_values = { "loss" }, .eval_values = { "test" }, .eval_smaller_is_better = 1 };
    nn_train_result result;
    const int failed = nn_train(&trainer, &result);
    if (!failed) {
        float w[3], bias;
        linear_get(m, linear_find(m, "net.weight"), w);
        linear_get(m, linear_find(m, "net.bias"), &bias);
        printf("t = %.3f a %+.3f b %+.3f c %+.3f\n", w[0], w[1], w[2], bias);
        printf("test loss: %.6f\n", result.eval[0]);
    }
    linear_free(m);
    return failed;
}
