/* SPDX-License-Identifier: MIT
 *
 * Trains the variational autoencoder on digits and writes vae.png: 64 images decoded from random points.
 */
#include <stdio.h>

#include "model.h"
#include "nn_data.h"
#include "nn_init.h"
#include "nn_log.h"
#include "nn_train.h"

enum { Z = 20, SIDE = 28, SAMPLES = 64, COLUMNS = 8 };

static nn_status step(void *m, const nn_batch *b, double *value)
{
    vae_train_out out = { 0 };
    nn_status s = vae_train(m, b->n, b->x, &out);
    value[0] = out.loss;
    value[1] = out.rec;
    value[2] = out.kl;
    return s;
}

static nn_status write_samples(vae *m, const char *path, char *why)
{
    static float z[SAMPLES * Z], image[SAMPLES * SIDE * SIDE];
    nn_init_normal(z, sizeof *z, SAMPLES * Z, 0, 0, (double[4]){ 1, 0 }, 7, 0);
    nn_status s = vae_sample(m, SAMPLES, z, image);
    if (s != NN_OK) return s;
    return nn_plot_images(path, image, SAMPLES, 1, SIDE, SIDE, COLUMNS, 2, 0.0F, 1.0F, why);
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 10, .batch = 128, .seed = 1, .out = "vae.safetensors" };
    int code = nn_args_parse(&args, argc, argv, "Trains a variational autoencoder on digits.");
    if (code >= 0) return code;
    if (args.batch > VAE_B_MAX) return nn_fail(NN_ESIZE, "--batch may be at most 256");

    nn_dataset train, test;
    char why[NN_ERROR_TEXT] = "", picture[1024];
    nn_status s = nn_digits_or_mnist(&train, &test, args.data, args.seed, why);
    if (s != NN_OK) return nn_fail(s, why);

    vae *m = vae_new(VAE_TRAIN | VAE_SAMPLE,
                     &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) vae_hypers(m)->train_lr = args.lr;

    nn_trainer trainer = { .model = m,
                           .args = &args,
                           .train = &train,
                           .step = step,
                           .step_values = { "loss", "rec", "kl" } };
    nn_train_result result;
    code = nn_train(&trainer, &result);
    if (code == 0) {
        snprintf(picture, sizeof picture, "%s.png", args.out);
        s = write_samples(m, picture, why);
        if (s != NN_OK)
            code = nn_fail(s, why);
        else
            printf("%s: %d samples\n", picture, SAMPLES);
        if (code == 0 && result.epochs > 0) printf("train loss: %.2f\n", result.train[0]);
    }
    vae_free(m);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return code;
}
