/* SPDX-License-Identifier: MIT
 *
 * Trains the PixelCNN on digits and draws new ones: pixel by pixel in reading order, each from the probability
 * that the network gives it after the ones before.
 */
#include <stdio.h>

#include "model.h"
#include "nn_data.h"
#include "nn_init.h"
#include "nn_log.h"
#include "nn_train.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE, SAMPLES = 16, COLUMNS = 8 };

static nn_status step(void *m, const nn_batch *b, double *value)
{
    pixelcnn_train_out out = { 0 };
    nn_status s = pixelcnn_train(m, b->n, b->x, &out);
    value[0] = out.loss;
    return s;
}

static nn_status eval(void *m, const nn_batch *b, double *value)
{
    float nll[PIXELCNN_B_MAX];
    nn_status s = pixelcnn_score(m, b->n, b->x, nll);
    value[0] = 0;
    for (int i = 0; i < b->n; i++) value[0] += (double)nll[i] / b->n;
    return s;
}

static nn_status write_samples(pixelcnn *m, uint64_t seed, const char *path, char *why)
{
    static float image[SAMPLES * PIXELS], p[SAMPLES * PIXELS], u[SAMPLES * PIXELS];
    nn_init_uniform(u, sizeof *u, SAMPLES * PIXELS, 0, 0, (double[4]){ 0, 1 }, seed, 0);
    for (int at = 0; at < PIXELS; at++) {
        nn_status s = pixelcnn_predict(m, SAMPLES, image, p);
        if (s != NN_OK) return s;
        for (int i = 0; i < SAMPLES; i++)
            image[i * PIXELS + at] = u[i * PIXELS + at] < p[i * PIXELS + at] ? 1.0F : 0.0F;
    }
    return nn_plot_images(path, image, SAMPLES, 1, SIDE, SIDE, COLUMNS, 3, 0.0F, 1.0F, why);
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 3, .batch = 32, .seed = 1, .out = "pixelcnn.safetensors" };
    int code = nn_args_parse(&args, argc, argv, "Trains a PixelCNN on digits and draws new ones.");
    if (code >= 0) return code;
    if (args.batch > PIXELCNN_B_MAX) return nn_fail(NN_ESIZE, "--batch may be at most 128");

    nn_dataset train, test;
    char why[NN_ERROR_TEXT] = "", picture[1024];
    nn_status s = nn_digits_or_mnist(&train, &test, args.data, args.seed, why);
    if (s != NN_OK) return nn_fail(s, why);

    pixelcnn *m = pixelcnn_new(PIXELCNN_TRAIN | PIXELCNN_SCORE | PIXELCNN_PREDICT,
                               &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) pixelcnn_hypers(m)->train_lr = args.lr;

    nn_dataset_head(&test, 512);
    nn_trainer trainer = { .model = m, .args = &args, .train = &train, .valid = &test,
                           .step = step, .step_values = { "loss" },
                           .eval = eval, .eval_values = { "test_nll" }, .eval_smaller_is_better = 1 };
    nn_train_result result;
    code = nn_train(&trainer, &result);
    if (code == 0) {
        snprintf(picture, sizeof picture, "%s.png", args.out);
        s = write_samples(m, args.seed, picture, why);
        if (s != NN_OK) code = nn_fail(s, why);
        else printf("%s: %d samples\ntest nll: %.2f\n", picture, SAMPLES, result.eval[0]);
    }
    pixelcnn_free(m);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return code;
}
