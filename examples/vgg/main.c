/* SPDX-License-Identifier: MIT
 *
 * Trains the network on 32x32 colour images: digits that the library draws in random colours, or with --data
 * those of MNIST in a frame.
 */
#include <stdio.h>

#include "model.h"
#include "nn_data.h"
#include "nn_train.h"

enum { CLASSES = 10 };

static nn_status step(void *m, const nn_batch *b, double *value)
{
    vgg_train_out out = { 0 };
    nn_status s = vgg_train(m, b->n, b->x, b->y, &out);
    value[0] = out.loss;
    value[1] = out.acc;
    return s;
}

static nn_status eval(void *m, const nn_batch *b, double *value)
{
    float p[VGG_B_MAX * CLASSES];
    nn_status s = vgg_predict(m, b->n, b->x, p);
    value[0] = nn_accuracy(p, b->y, b->n, CLASSES);
    return s;
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 5, .batch = 64, .seed = 1, .out = "vgg.safetensors" };
    int code = nn_args_parse(&args, argc, argv, "Trains the network on 32x32 colour images.");
    if (code >= 0) return code;
    if (args.batch > VGG_B_MAX) return nn_fail(NN_ESIZE, "--batch may be at most 128");

    nn_dataset train, test;
    char why[NN_ERROR_TEXT];
    nn_status s = nn_color_digits_or_mnist(&train, &test, args.data, args.seed, why);
    if (s != NN_OK) return nn_fail(s, why);

    vgg *m = vgg_new(VGG_TRAIN | VGG_PREDICT,
                               &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) vgg_hypers(m)->train_lr = args.lr;

    nn_trainer trainer = { .model = m,
                           .args = &args,
                           .train = &train,
                           .valid = &test,
                           .step = step,
                           .step_values = { "loss", "acc" },
                           .eval = eval,
                           .eval_values = { "test_acc" } };
    nn_train_result result;
    code = nn_train(&trainer, &result);
    if (code == 0) printf("test accuracy: %.4f\n", result.eval[0]);

    vgg_free(m);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return code;
}
