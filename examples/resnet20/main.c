/* SPDX-License-Identifier: MIT
 *
 * Trains ResNet-20 on 32x32 colour images: rendered digits in random colours, or MNIST in a frame with --data DIR.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "nn_train.h"

enum { SIZE = 32, CHANNELS = 3 };

/* 28x28 grey images as 32x32 colour images: a black frame, three equal channels. */
static nn_status widen(nn_dataset *d)
{
    const size_t plane = SIZE * SIZE;
    unsigned char *x = calloc((size_t)d->n, CHANNELS * plane);
    if (!x) return NN_ENOMEM;
    for (nn_dim i = 0; i < d->n; i++) {
        const unsigned char *from = (const unsigned char *)d->x + i * 784;
        unsigned char *to = x + (size_t)i * CHANNELS * plane;
        for (int r = 0; r < 28; r++) memcpy(to + (r + 2) * SIZE + 2, from + r * 28, 28);
        for (int c = 1; c < CHANNELS; c++) memcpy(to + (size_t)c * plane, to, plane);
    }
    free(d->owned[0]);
    d->owned[0] = x;
    d->x = x;
    d->x_size = CHANNELS * SIZE * SIZE;
    d->x_rank = 3;
    d->x_shape[0] = CHANNELS;
    d->x_shape[1] = d->x_shape[2] = SIZE;
    return NN_OK;
}

static nn_status load(nn_dataset *train, nn_dataset *test, const nn_args *args, char *why)
{
    nn_status s;
    if (!args->data) {
        snprintf(why, NN_ERROR_TEXT, "no memory for the images");
        s = nn_digits(train, 5000, SIZE, CHANNELS, args->seed, NN_DIGITS_TRAIN);
        return s != NN_OK ? s : nn_digits(test, 1000, SIZE, CHANNELS, args->seed, NN_DIGITS_TEST);
    }
    s = nn_dataset_mnist(train, test, args->data, why);
    if (s == NN_OK) s = widen(train);
    return s != NN_OK ? s : widen(test);
}

static nn_status step(void *m, const nn_batch *b, double *value)
{
    resnet20_train_out out;
    const nn_status s = resnet20_train(m, b->n, b->x, b->y, &out);
    value[0] = out.loss;
    value[1] = out.top1;
    return s;
}

static nn_status eval(void *m, const nn_batch *b, double *value)
{
    static float probs[RESNET20_B_MAX * 10];
    const nn_status s = resnet20_predict(m, b->n, b->x, probs);
    value[0] = nn_accuracy(probs, b->y, b->n, 10);
    return s;
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 3, .batch = 64, .seed = 1 };
    const int code = nn_args_parse(&args, argc, argv, "Trains ResNet-20 on 32x32 colour images.");
    if (code >= 0) return code;

    nn_dataset train, test;
    char why[NN_ERROR_TEXT];
    const nn_status s = load(&train, &test, &args, why);
    if (s != NN_OK) return nn_fail(s, why);
    resnet20 *m = resnet20_new(RESNET20_TRAIN | RESNET20_PREDICT, &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) resnet20_hypers(m)->train_lr = args.lr;

    const nn_trainer trainer = { .model = m, .args = &args, .train = &train, .valid = &test, .step = step, .eval = eval,
                                 .step_values = { "loss", "top1" }, .eval_values = { "test" } };
    nn_train_result result;
    const int failed = nn_train(&trainer, &result);
    if (!failed) printf("test accuracy: %.4f\n", result.eval[0]);
    resnet20_free(m);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return failed;
}
