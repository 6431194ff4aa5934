/* SPDX-License-Identifier: MIT
 *
 * The demo: trains LeNet on digits, saves it, loads the file into a second object that can only predict,
 * checks that both give the same bits, and shows a few digits with what the network thinks of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "nn_data.h"
#include "nn_train.h"

enum { CLASSES = 10, SIDE = 28, SHOWN = 3 };

static nn_status step(void *m, const nn_batch *b, double *value)
{
    lenet_train_out out = { 0 };
    nn_status s = lenet_train(m, b->n, b->x, b->y, &out);
    value[0] = out.loss;
    value[1] = out.acc;
    return s;
}

static nn_status eval(void *m, const nn_batch *b, double *value)
{
    float probs[LENET_B_MAX * CLASSES];
    nn_status s = lenet_predict(m, b->n, b->x, probs);
    value[0] = nn_accuracy(probs, b->y, b->n, CLASSES);
    return s;
}

/* Evaluates the trained object and the one loaded from its file side by side. */
typedef struct Pair {
    lenet *trained, *loaded;
    int differ; /* batches whose probabilities are not the same bits */
} Pair;

static nn_status eval_pair(void *user, const nn_batch *b, double *value)
{
    Pair *pair = user;
    float probs[LENET_B_MAX * CLASSES], again[LENET_B_MAX * CLASSES];
    nn_status s = lenet_predict(pair->trained, b->n, b->x, probs);
    if (s == NN_OK) s = lenet_predict(pair->loaded, b->n, b->x, again);
    if (s != NN_OK) return s;
    pair->differ += memcmp(probs, again, sizeof *probs * CLASSES * (size_t)b->n) != 0;
    value[0] = nn_accuracy(again, b->y, b->n, CLASSES);
    return NN_OK;
}

static nn_status show_some(lenet *m, const nn_dataset *test)
{
    nn_batches b;
    nn_status s = nn_batches_init(&b, test, SHOWN, 0);
    if (s != NN_OK) return s;
    b.shuffle = 0;
    nn_batches_start(&b, 0);
    int n = nn_batches_next(&b);
    float probs[SHOWN * CLASSES];
    s = lenet_predict(m, n, b.batch.x, probs);
    for (int i = 0; i < n && s == NN_OK; i++) {
        int guess = nn_argmax(probs + i * CLASSES, CLASSES);
        nn_print_image(stdout, b.batch.x + i * SIDE * SIDE, SIDE, SIDE);
        printf("predicted %d (%.1f %%), is %d\n\n", guess, 100 * (double)probs[i * CLASSES + guess],
               (int)b.batch.y[i]);
    }
    nn_batches_free(&b);
    return s;
}

/* Saves, reloads and compares; returns an exit code. */
static int check_saved(lenet *m, const nn_args *args, const nn_dataset *test)
{
    nn_load_report report;
    double accuracy;
    Pair pair = { m, lenet_new(LENET_PREDICT, &(nn_options){ .threads = args->threads }), 0 };
    if (!pair.loaded) return nn_fail(NN_ENOMEM, NULL);

    nn_status s = lenet_load(pair.loaded, NN_WEIGHTS, args->out, &report);
    if (s != NN_OK) return nn_fail(s, report.message);
    printf("%s: %d tensors loaded into a second object\n", args->out, report.loaded);

    s = nn_evaluate(&pair, eval_pair, 1, test, args->batch, &accuracy);
    if (s == NN_OK && pair.differ)
        return nn_fail(NN_ECORRUPT, "the reloaded network predicts differently");
    if (s == NN_OK)
        printf("its predictions on %lld images are the same, bit for bit\n\n", (long long)test->n);
    if (s == NN_OK) s = show_some(pair.loaded, test);
    lenet_free(pair.loaded);
    if (s != NN_OK) return nn_fail(s, NULL);
    printf("test accuracy: %.4f\n", accuracy);
    return 0;
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 5, .batch = 64, .seed = 1, .out = "lenet.safetensors" };
    int code =
        nn_args_parse(&args, argc, argv, "Trains LeNet on digits, saves it and checks the file.");
    if (code >= 0) return code;
    if (args.batch > LENET_B_MAX) return nn_fail(NN_ESIZE, "--batch may be at most 256");

    nn_dataset train, test;
    char why[NN_ERROR_TEXT];
    nn_status s = nn_digits_or_mnist(&train, &test, args.data, args.seed, why);
    if (s != NN_OK) return nn_fail(s, why);
    printf("%s: %lld training and %lld test images\n", args.data ? args.data : "rendered digits",
           (long long)train.n, (long long)test.n);

    lenet *m = lenet_new(LENET_TRAIN | LENET_PREDICT,
                         &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) lenet_hypers(m)->train_lr = args.lr;

    nn_trainer trainer = { .model = m,
                           .args = &args,
                           .train = &train,
                           .valid = &test,
                           .step = step,
                           .step_values = { "loss", "acc" },
                           .eval = eval,
                           .eval_values = { "test_acc" } };
    code = nn_train(&trainer, NULL);
    if (code == 0) code = check_saved(m, &args, &test);

    lenet_free(m);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return code;
}
