/* SPDX-License-Identifier: MIT
 *
 * Trains ResNet-20 on 32x32 colour images: digits that the library draws in random colours, or with --data
 * those of MNIST in a frame.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "nn_data.h"
#include "nn_train.h"

enum {
    CLASSES = 10,
    SIDE = 32,
    CHANNELS = 3,
    PLANE = SIDE * SIDE,
    MNIST_SIDE = 28,
    TRAIN = 5000,
    TEST = 1000
};

/* Grey images as N,C,H,W colour images: a black frame of two pixels, three equal channels. */
static nn_status frame(nn_dataset *d)
{
    unsigned char *x = calloc((size_t)d->n, CHANNELS * PLANE);
    if (!x) return NN_ENOMEM;
    for (nn_dim i = 0; i < d->n; i++) {
        const unsigned char *from = (const unsigned char *)d->x + i * d->x_size;
        unsigned char *to = x + i * CHANNELS * PLANE;
        for (int r = 0; r < MNIST_SIDE; r++)
            memcpy(to + (r + 2) * SIDE + 2, from + r * MNIST_SIDE, MNIST_SIDE);
        for (int c = 1; c < CHANNELS; c++) memcpy(to + c * PLANE, to, PLANE);
    }
    free(d->owned[0]);
    d->owned[0] = x; /* nn_dataset_free frees it */
    d->x = x;
    d->x_size = CHANNELS * PLANE;
    d->x_rank = 3;
    d->x_shape[0] = CHANNELS;
    d->x_shape[1] = d->x_shape[2] = SIDE;
    return NN_OK;
}

static nn_status read_data(nn_dataset *train, nn_dataset *test, const nn_args *args, char *why)
{
    nn_status s;
    if (args->data) {
        s = nn_dataset_mnist(train, test, args->data, why);
        if (s == NN_OK && train->x_size != MNIST_SIDE * MNIST_SIDE) s = NN_EFORMAT;
        if (s == NN_OK) s = frame(train);
        if (s == NN_OK) s = frame(test);
    } else {
        s = nn_digits(train, TRAIN, SIDE, CHANNELS, args->seed, NN_DIGITS_TRAIN);
        if (s == NN_OK) s = nn_digits(test, TEST, SIDE, CHANNELS, args->seed, NN_DIGITS_TEST);
    }
    train->scale = test->scale = 2.0F / 255.0F; /* 0..255 to -1..1 */
    train->shift = test->shift = -1.0F;
    return s;
}

static nn_status step(void *m, const nn_batch *b, double *value)
{
    resnet20_train_out out = { 0 };
    nn_status s = resnet20_train(m, b->n, b->x, b->y, &out);
    value[0] = out.loss;
    value[1] = out.top1;
    return s;
}

static nn_status eval(void *m, const nn_batch *b, double *value)
{
    float p[RESNET20_B_MAX * CLASSES];
    nn_status s = resnet20_predict(m, b->n, b->x, p);
    value[0] = nn_accuracy(p, b->y, b->n, CLASSES);
    return s;
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 5, .batch = 64, .seed = 1, .out = "resnet20.safetensors" };
    int code = nn_args_parse(&args, argc, argv, "Trains ResNet-20 on 32x32 colour images.");
    if (code >= 0) return code;
    if (args.batch > RESNET20_B_MAX) return nn_fail(NN_ESIZE, "--batch may be at most 128");

    nn_dataset train = { 0 }, test = { 0 };
    char why[NN_ERROR_TEXT] = "";
    nn_status s = read_data(&train, &test, &args, why);
    if (s != NN_OK) return nn_fail(s, why);

    resnet20 *m = resnet20_new(RESNET20_TRAIN | RESNET20_PREDICT,
                               &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) resnet20_hypers(m)->train_lr = args.lr;

    nn_trainer trainer = { .model = m,
                           .args = &args,
                           .train = &train,
                           .valid = &test,
                           .step = step,
                           .step_values = { "loss", "top1" },
                           .eval = eval,
                           .eval_values = { "test_acc" } };
    nn_train_result result;
    code = nn_train(&trainer, &result);
    if (code == 0) printf("test accuracy: %.4f\n", result.eval[0]);

    resnet20_free(m);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return code;
}
