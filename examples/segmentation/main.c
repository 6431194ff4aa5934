/* SPDX-License-Identifier: MIT
 *
 * Trains the U-Net to find discs among squares, in images that are made up here, and writes a picture: images, true
 * masks and what the network says, row by row.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "nn_data.h"
#include "nn_init.h"
#include "nn_log.h"
#include "nn_train.h"

enum { SIDE = 32, PIXELS = SIDE * SIDE, TRAIN = 1200, TEST = 200, SHAPES = 4, SHOWN = 12 };

/* Two discs and two squares of random size, place and brightness on a noisy ground; later ones cover earlier ones. */
static void make_image(const float *u, const float *noise, float *x, float *t)
{
    for (int i = 0; i < PIXELS; i++) {
        x[i] = 0.2F + 0.1F * noise[i];
        t[i] = 0;
    }
    for (int k = 0; k < SHAPES; k++, u += 4) {
        const float cy = u[0] * SIDE, cx = u[1] * SIDE, r = 3 + 5 * u[2], bright = 0.4F + 0.6F * u[3];
        for (int i = 0; i < PIXELS; i++) {
            const float dy = fabsf((float)(i / SIDE) - cy), dx = fabsf((float)(i % SIDE) - cx);
            const int disc = k % 2;
            if (disc ? dy * dy + dx * dx >= r * r : dy >= 0.85F * r || dx >= 0.85F * r) continue;
            x[i] = bright + 0.1F * noise[i];
            t[i] = (float)disc;
        }
    }
}

static nn_status step(void *m, const nn_batch *b, double *value)
{
    segmentation_train_out out = { 0 };
    nn_status s = segmentation_train(m, b->n, b->x, b->t, &out);
    value[0] = out.loss;
    return s;
}

/* Dice coefficient of the masks cut at one half, over the whole batch. */
static nn_status eval(void *m, const nn_batch *b, double *value)
{
    static float p[SEGMENTATION_B_MAX * PIXELS];
    nn_status s = segmentation_predict(m, b->n, b->x, p);
    double both = 0, sum = 0;
    for (int i = 0; i < b->n * PIXELS; i++) {
        const int said = p[i] > 0.5F, is = b->t[i] > 0.5F;
        both += said && is;
        sum += said + is;
    }
    value[0] = sum > 0 ? 2 * both / sum : 1;
    return s;
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 6, .batch = 20, .seed = 1, .out = "segmentation.safetensors" };
    int code = nn_args_parse(&args, argc, argv, "Trains a small U-Net to find discs among squares.");
    if (code >= 0) return code;
    if (args.data) return nn_fail(NN_EINVAL, "--data: this example makes its own images");
    if (args.batch > SEGMENTATION_B_MAX) return nn_fail(NN_ESIZE, "--batch may be at most 64");

    static float x[(TRAIN + TEST) * PIXELS], t[(TRAIN + TEST) * PIXELS], u[(TRAIN + TEST) * SHAPES * 4];
    nn_init_uniform(u, sizeof *u, (TRAIN + TEST) * SHAPES * 4, 0, 0, (double[4]){ 0, 1 }, args.seed, 0);
    nn_init_normal(t, sizeof *t, (TRAIN + TEST) * PIXELS, 0, 0, (double[4]){ 1, 0 }, args.seed, 1);
    for (int i = 0; i < TRAIN + TEST; i++) {
        float noise[PIXELS];
        memcpy(noise, t + i * PIXELS, sizeof noise);
        make_image(u + i * SHAPES * 4, noise, x + i * PIXELS, t + i * PIXELS);
    }
    nn_dataset train = nn_dataset_wrap(TRAIN, PIXELS, x, NULL, PIXELS, t);
    nn_dataset test = nn_dataset_wrap(TEST, PIXELS, x + TRAIN * PIXELS, NULL, PIXELS, t + TRAIN * PIXELS);

    segmentation *m = segmentation_new(SEGMENTATION_TRAIN | SEGMENTATION_PREDICT,
                                       &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) segmentation_hypers(m)->train_lr = args.lr;

    nn_trainer trainer = { .model = m, .args = &args, .train = &train, .valid = &test,
                           .step = step, .step_values = { "loss" }, .eval = eval, .eval_values = { "test_dice" } };
    nn_train_result result;
    code = nn_train(&trainer, &result);
    if (code == 0) {
        static float image[3 * SHOWN * PIXELS];
        char picture[1024], why[NN_ERROR_TEXT] = "";
        const float *from = x + TRAIN * PIXELS;
        snprintf(picture, sizeof picture, "%s.png", args.out);
        memcpy(image, from, SHOWN * PIXELS * sizeof *image);
        memcpy(image + SHOWN * PIXELS, t + TRAIN * PIXELS, SHOWN * PIXELS * sizeof *image);
        nn_status s = segmentation_predict(m, SHOWN, from, image + 2 * SHOWN * PIXELS);
        if (s == NN_OK)
            s = nn_plot_images(picture, image, 3 * SHOWN, 1, SIDE, SIDE, SHOWN, 2, 0.0F, 1.0F, why);
        if (s != NN_OK) code = nn_fail(s, why);
        else printf("%s: images, discs, and what the network says\ntest dice: %.4f\n", picture, result.eval[0]);
    }
    segmentation_free(m);
    return code;
}
