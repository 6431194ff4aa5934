/* SPDX-License-Identifier: MIT
 *
 * Trains a variational autoencoder on digits and draws new ones from its prior. With --out FILE the pictures are also
 * written to FILE.png.
 */
#include <stdio.h>

#include "model.h"
#include "nn_train.h"

enum { Z = 20, SHOWN = 16 };

static nn_status step(void *m, const nn_batch *b, double *value)
{
    vae_train_out out;
    const nn_status s = vae_train(m, b->n, b->x, &out);
    value[0] = out.loss;
    value[1] = out.rec;
    value[2] = out.kl;
    return s;
}

/* Sums of twelve uniform numbers are close enough to normal ones for a picture. */
static void noise(float *z, int n, uint64_t seed)
{
    uint64_t state = seed * 2 + 1;
    for (int i = 0; i < n; i++) {
        z[i] = -6.0F;
        for (int k = 0; k < 12; k++) {
            state = state * 6364136223846793005U + 1442695040888963407U;
            z[i] += (float)(state >> 40) * 0x1p-24F;
        }
    }
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 8, .batch = 64, .seed = 1 };
    const int code = nn_args_parse(&args, argc, argv, "Trains a variational autoencoder and draws digits with it.");
    if (code >= 0) return code;

    nn_dataset train, test;
    char why[NN_ERROR_TEXT];
    nn_status s = nn_digits_or_mnist(&train, &test, args.data, args.seed, why);
    if (s != NN_OK) return nn_fail(s, why);
    vae *m = vae_new(VAE_TRAIN | VAE_SAMPLE, &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) vae_hypers(m)->train_lr = args.lr;

    const nn_trainer trainer = { .model = m, .args = &args, .train = &train, .step = step,
                                 .step_values = { "loss", "rec", "kl" } };
    nn_train_result result;
    int failed = nn_train(&trainer, &result);
    if (!failed) {
        static float z[SHOWN * Z], image[SHOWN * 784];
        noise(z, SHOWN * Z, args.seed);
        s = vae_sample(m, SHOWN, z, image);
        if (s != NN_OK) failed = nn_fail(s, NULL);
        else nn_print_image(stdout, image, 28, 28);
        if (!failed && args.out) {
            char path[1024];
            snprintf(path, sizeof path, "%s.png", args.out);
            s = nn_plot_images(path, image, SHOWN, 1, 28, 28, 4, 4, 0, 1, why);
            if (s != NN_OK) failed = nn_fail(s, why);
            else printf("written: %s\n", path);
        }
    }
    if (!failed) printf("train loss: %.2f\n", result.train[0]);
    vae_free(m);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return failed;
}
