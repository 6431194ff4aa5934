/* SPDX-License-Identifier: MIT
 *
 * Trains a DCGAN on digits: in each step the discriminator, then the generator. With --out FILE pictures are written
 * to FILE.png after every epoch.
 */
#include <stdio.h>

#include "model.h"
#include "nn_train.h"

enum { Z = 64, SHOWN = 16 };

typedef struct Show {
    const char *out;
    float z[SHOWN * Z], image[SHOWN * 784];
} Show;

static nn_status step(void *m, const nn_batch *b, double *value)
{
    gan_d_out d;
    gan_g_out g = { 0 };
    nn_status s = gan_d(m, b->n, b->x, &d);
    if (s == NN_OK) s = gan_g(m, b->n, &g);
    value[0] = d.loss;
    value[1] = g.loss;
    return s;
}

static void after_epoch(void *user, void *m, int epoch)
{
    Show *show = user;
    char path[1024], why[NN_ERROR_TEXT];
    (void)epoch;
    if (!show->out || gan_generate(m, SHOWN, show->z, show->image) != NN_OK) return;
    snprintf(path, sizeof path, "%s.png", show->out);
    if (nn_plot_images(path, show->image, SHOWN, 1, 28, 28, 4, 4, -1, 1, why) != NN_OK) fprintf(stderr, "%s\n", why);
}

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
    nn_args args = { .epochs = 5, .batch = 64, .seed = 1 };
    const int code = nn_args_parse(&args, argc, argv, "Trains a generator of digits against a discriminator.");
    if (code >= 0) return code;

    nn_dataset train, test;
    char why[NN_ERROR_TEXT];
    const nn_status s = nn_digits_or_mnist(&train, &test, args.data, args.seed, why);
    if (s != NN_OK) return nn_fail(s, why);
    /* The generator ends in tanh: images go from -1 to 1. */
    train.scale = 2.0F / 255.0F;
    train.shift = -1.0F;

    gan *m = gan_new(GAN_D | GAN_G | GAN_GENERATE, &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) gan_hypers(m)->lr = args.lr;
    static Show show;
    show.out = args.out;
    noise(show.z, SHOWN * Z, args.seed);

    const nn_trainer trainer = { .model = m, .args = &args, .train = &train, .step = step,
                                 .step_values = { "d", "g" }, .after_epoch = after_epoch, .user = &show };
    nn_train_result result;
    const int failed = nn_train(&trainer, &result);
    if (!failed) {
        if (gan_generate(m, SHOWN, show.z, show.image) == NN_OK) {
            for (int i = 0; i < 784; i++) show.image[i] = 0.5F * show.image[i] + 0.5F;
            nn_print_image(stdout, show.image, 28, 28);
        }
        printf("train loss: discriminator %.3f, generator %.3f\n", result.train[0], result.train[1]);
    }
    gan_free(m);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return failed;
}
