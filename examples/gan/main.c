/* SPDX-License-Identifier: MIT
 *
 * Trains a generator against a discriminator on digits, each with its own step and optimizer, and writes
 * a PNG of 64 generated digits after every epoch.
 */
#include <stdio.h>

#include "model.h"
#include "nn_data.h"
#include "nn_init.h"
#include "nn_log.h"
#include "nn_train.h"

enum { Z = 64, SIDE = 28, SAMPLES = 64, COLUMNS = 8 };

/* One update of the discriminator, then one of the generator. */
static nn_status step(void *m, const nn_batch *b, double *value)
{
    gan_d_out d = { 0 };
    gan_g_out g = { 0 };
    nn_status s = gan_d(m, b->n, b->x, &d);
    if (s == NN_OK) s = gan_g(m, b->n, &g);
    value[0] = d.loss;
    value[1] = g.loss;
    return s;
}

static nn_status write_samples(gan *m, const char *path, char *why)
{
    static float z[SAMPLES * Z], image[SAMPLES * SIDE * SIDE];
    nn_init_normal(z, sizeof *z, SAMPLES * Z, 0, 0, (double[4]){ 1, 0 }, 7, 0);
    nn_status s = gan_generate(m, SAMPLES, z, image);
    if (s != NN_OK) return s;
    return nn_plot_images(path, image, SAMPLES, 1, SIDE, SIDE, COLUMNS, 2, -1.0F, 1.0F, why);
}

/* The same points of the latent space each time, so that the pictures show one development. */
static void after_epoch(void *user, void *model, int epoch)
{
    char why[NN_ERROR_TEXT] = "";
    (void)epoch;
    nn_status s = write_samples(model, user, why);
    if (s != NN_OK) nn_fail(s, why);
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 5, .batch = 64, .seed = 1, .out = "gan.safetensors" };
    int code =
        nn_args_parse(&args, argc, argv, "Trains a generative adversarial network on digits.");
    if (code >= 0) return code;
    if (args.batch > GAN_B_MAX) return nn_fail(NN_ESIZE, "--batch may be at most 64");

    nn_dataset train, test;
    char why[NN_ERROR_TEXT] = "", picture[1024];
    nn_status s = nn_digits_or_mnist(&train, &test, args.data, args.seed, why);
    if (s != NN_OK) return nn_fail(s, why);
    train.scale = 2.0F / 255.0F; /* the generator ends in tanh: images are -1..1 */
    train.shift = -1.0F;

    gan *m = gan_new(GAN_D | GAN_G | GAN_GENERATE,
                     &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) gan_hypers(m)->lr = args.lr;

    snprintf(picture, sizeof picture, "%s.png", args.out);
    nn_trainer trainer = { .model = m,
                           .args = &args,
                           .train = &train,
                           .step = step,
                           .step_values = { "d_loss", "g_loss" },
                           .after_epoch = after_epoch,
                           .user = picture };
    nn_train_result result;
    code = nn_train(&trainer, &result);
    if (code == 0) {
        s = write_samples(m, picture, why);
        if (s != NN_OK)
            code = nn_fail(s, why);
        else
            printf("%s: %d samples\n", picture, SAMPLES);
        if (code == 0 && result.epochs > 0)
            printf("train loss: discriminator %.3f, generator %.3f\n", result.train[0],
                   result.train[1]);
    }
    gan_free(m);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return code;
}
