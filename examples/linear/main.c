/* SPDX-License-Identifier: MIT
 *
 * Linear regression on made-up data: t = 2 a - 3 b + 0.5 c + 1 plus a little noise. The coefficients that
 * come out are printed beside the ones that went in.
 */
#include <math.h>
#include <stdio.h>

#include "model.h"
#include "nn_data.h"
#include "nn_init.h"
#include "nn_train.h"

enum { TRAIN = 1000, TEST = 200, SAMPLES = TRAIN + TEST, FEATURES = 3 };

static const float truth[FEATURES + 1] = { 2.0F, -3.0F, 0.5F, 1.0F };

static nn_status step(void *m, const nn_batch *b, double *value)
{
    linear_train_out out = { 0 };
    nn_status s = linear_train(m, b->n, b->x, b->t, &out);
    value[0] = out.loss;
    return s;
}

static nn_status eval(void *m, const nn_batch *b, double *value)
{
    float y[LINEAR_B_MAX];
    nn_status s = linear_predict(m, b->n, b->x, y);
    value[0] = 0;
    for (int i = 0; i < b->n; i++) value[0] += pow((double)(y[i] - b->t[i]), 2) / b->n;
    return s;
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 20, .batch = 50, .seed = 1, .threads = 1 };
    int code = nn_args_parse(&args, argc, argv, "Fits a line through made-up points.");
    if (code >= 0) return code;
    if (args.data) return nn_fail(NN_EINVAL, "--data: this example makes its own points");
    if (args.batch > LINEAR_B_MAX) return nn_fail(NN_ESIZE, "--batch may be at most 64");

    /* The library's initialisers fill arrays with random numbers just as well as weights. */
    static float x[SAMPLES * FEATURES], t[SAMPLES];
    nn_init_normal(x, sizeof *x, SAMPLES * FEATURES, 0, 0, (double[4]){ 1, 0 }, args.seed, 0);
    nn_init_normal(t, sizeof *t, SAMPLES, 0, 0, (double[4]){ 0.02, 0 }, args.seed, 1);
    for (int i = 0; i < SAMPLES; i++) {
        t[i] += truth[FEATURES];
        for (int j = 0; j < FEATURES; j++) t[i] += truth[j] * x[i * FEATURES + j];
    }
    nn_dataset train = nn_dataset_wrap(TRAIN, FEATURES, x, NULL, 1, t);
    nn_dataset test = nn_dataset_wrap(TEST, FEATURES, x + TRAIN * FEATURES, NULL, 1, t + TRAIN);

    linear *m = linear_new(LINEAR_TRAIN | LINEAR_PREDICT,
                           &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) linear_hypers(m)->train_lr = args.lr;

    nn_trainer trainer = { .model = m,
                           .args = &args,
                           .train = &train,
                           .valid = &test,
                           .step = step,
                           .step_values = { "loss" },
                           .eval = eval,
                           .eval_values = { "test_loss" },
                           .eval_smaller_is_better = 1 };
    nn_train_result result;
    code = nn_train(&trainer, &result);
    if (code == 0) {
        float found[FEATURES + 1];
        linear_get(m, LINEAR_NET_WEIGHT, found);
        linear_get(m, LINEAR_NET_BIAS, found + FEATURES);
        double worst = 0;
        for (int i = 0; i <= FEATURES; i++) {
            printf("%-6s true %7.4f  found %7.4f\n", i < FEATURES ? "weight" : "bias",
                   (double)truth[i], (double)found[i]);
            worst = fmax(worst, fabs((double)(found[i] - truth[i])));
        }
        printf("largest error: %.4f\ntest loss: %.6f\n", worst, result.eval[0]);
    }
    linear_free(m);
    return code;
}
