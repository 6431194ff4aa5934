/* SPDX-License-Identifier: MIT
 *
 * Trains the autoencoder on digits and writes a picture: rows of test images, each above what came back from its
 * code of 16 numbers.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model.h"
#include "nn_data.h"
#include "nn_log.h"
#include "nn_train.h"

enum { PIXELS = 28 * 28, COLUMNS = 12, PAIRS = 3 };

static nn_status step(void *m, const nn_batch *b, double *value)
{
    autoencoder_train_out out = { 0 };
    nn_status s = autoencoder_train(m, b->n, b->x, &out);
    value[0] = out.loss;
    value[1] = out.error;
    return s;
}

static nn_status eval(void *m, const nn_batch *b, double *value)
{
    static float y[AUTOENCODER_B_MAX * PIXELS];
    nn_status s = autoencoder_rebuild(m, b->n, b->x, y);
    double sum = 0;
    for (int i = 0; i < b->n * PIXELS; i++) sum += pow((double)(y[i] - b->x[i]), 2);
    value[0] = sum / (b->n * PIXELS);
    return s;
}

/* PAIRS times a row of originals and the row that was rebuilt from them. */
static nn_status write_picture(autoencoder *m, const nn_dataset *test, const char *path, char *why)
{
    static float y[COLUMNS * PIXELS], image[2 * PAIRS * COLUMNS * PIXELS];
    nn_batches b;
    nn_status s = nn_batches_init(&b, test, COLUMNS, 0);
    if (s != NN_OK) return s;
    b.shuffle = 0;
    nn_batches_start(&b, 0);
    for (int i = 0; i < PAIRS && s == NN_OK && nn_batches_next(&b) == COLUMNS; i++) {
        s = autoencoder_rebuild(m, COLUMNS, b.batch.x, y);
        memcpy(image + 2 * i * COLUMNS * PIXELS, b.batch.x, sizeof y);
        memcpy(image + (2 * i + 1) * COLUMNS * PIXELS, y, sizeof y);
    }
    nn_batches_free(&b);
    if (s != NN_OK) return s;
    return nn_plot_images(path, image, 2 * PAIRS * COLUMNS, 1, 28, 28, COLUMNS, 2, 0.0F, 1.0F, why);
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 4, .batch = 64, .seed = 1, .out = "autoencoder.safetensors" };
    int code = nn_args_parse(&args, argc, argv, "Trains an autoencoder on digits.");
    if (code >= 0) return code;
    if (args.batch > AUTOENCODER_B_MAX) return nn_fail(NN_ESIZE, "--batch may be at most 256");

    nn_dataset train, test;
    char why[NN_ERROR_TEXT] = "", picture[1024];
    nn_status s = nn_digits_or_mnist(&train, &test, args.data, args.seed, why);
    if (s != NN_OK) return nn_fail(s, why);

    autoencoder *m = autoencoder_new(AUTOENCODER_TRAIN | AUTOENCODER_REBUILD,
                                     &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) autoencoder_hypers(m)->train_lr = args.lr;

    nn_trainer trainer = { .model = m, .args = &args, .train = &train, .valid = &test,
                           .step = step, .step_values = { "loss", "error" },
                           .eval = eval, .eval_values = { "test_error" }, .eval_smaller_is_better = 1 };
    nn_train_result result;
    code = nn_train(&trainer, &result);
    if (code == 0) {
        snprintf(picture, sizeof picture, "%s.png", args.out);
        s = write_picture(m, &test, picture, why);
        if (s != NN_OK) code = nn_fail(s, why);
        else printf("%s: %d digits and what came back\ntest error: %.4f\n", picture, PAIRS * COLUMNS, result.eval[0]);
    }
    autoencoder_free(m);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return code;
}
