/* SPDX-License-Identifier: MIT
 *
 * Three classes that overlap, 90, 8 and 2 of a hundred samples: trains the classifier twice, with equal weights and
 * with weights inversely proportional to the frequency of each class, and shows what share of each class it finds.
 */
#include <stdio.h>

#include "model.h"
#include "nn_data.h"
#include "nn_init.h"
#include "nn_train.h"

enum { FEATURES = 8, CLASSES = 3, TRAIN = 6000, TEST = IMBALANCED_B_MAX, SAMPLES = TRAIN + TEST };

static const char *const class_name[CLASSES] = { "frequent", "uncommon", "rare" };
static float weight[CLASSES]; /* of each class in the loss */

static nn_status step(void *m, const nn_batch *b, double *value)
{
    imbalanced_train_out out = { 0 };
    nn_status s = imbalanced_train(m, b->n, b->x, b->y, weight, &out);
    value[0] = out.loss;
    return s;
}

/* The share of each class that is found, their mean, and the share of all samples that are right. */
static nn_status eval(void *m, const nn_batch *b, double *value)
{
    static float probs[TEST * CLASSES];
    double found[CLASSES] = { 0 }, count[CLASSES] = { 0 };
    nn_status s = imbalanced_predict(m, b->n, b->x, probs);
    for (int i = 0; i < b->n; i++) {
        count[b->y[i]]++;
        found[b->y[i]] += nn_argmax(probs + i * CLASSES, CLASSES) == b->y[i];
    }
    value[CLASSES] = 0;
    for (int k = 0; k < CLASSES; k++) {
        value[k] = count[k] > 0 ? found[k] / count[k] : 0;
        value[CLASSES] += value[k] / CLASSES;
    }
    value[CLASSES + 1] = nn_accuracy(probs, b->y, b->n, CLASSES);
    return s;
}

/* Class k lies around 2 on feature k and 0 on the others; all have unit variance. */
static void make_samples(float *x, int32_t *y, uint64_t seed)
{
    static float u[SAMPLES];
    nn_init_normal(x, sizeof *x, SAMPLES * FEATURES, 0, 0, (double[4]){ 1, 0 }, seed, 0);
    nn_init_uniform(u, sizeof *u, SAMPLES, 0, 0, (double[4]){ 0, 1 }, seed, 1);
    for (int i = 0; i < SAMPLES; i++) {
        y[i] = u[i] < 0.9F ? 0 : u[i] < 0.98F ? 1 : 2;
        x[i * FEATURES + y[i]] += 2;
    }
}

/* Trains a new network with the present weights; returns an exit code. */
static int run(const nn_args *args, const nn_dataset *train, const nn_dataset *test, double *result)
{
    imbalanced *m = imbalanced_new(IMBALANCED_TRAIN | IMBALANCED_PREDICT,
                                   &(nn_options){ .seed = args->seed, .threads = args->threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args->lr > 0) imbalanced_hypers(m)->train_lr = args->lr;
    printf("weights %.2f %.2f %.2f\n", (double)weight[0], (double)weight[1], (double)weight[2]);
    nn_trainer trainer = { .model = m, .args = args, .train = train, .step = step, .step_values = { "loss" } };
    int code = nn_train(&trainer, NULL);
    if (code == 0) {
        nn_status s = nn_evaluate(m, eval, CLASSES + 2, test, TEST, result);
        if (s != NN_OK) code = nn_fail(s, NULL);
    }
    imbalanced_free(m);
    return code;
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 10, .batch = 64, .seed = 1, .threads = 1, .out = "imbalanced.safetensors" };
    int code = nn_args_parse(&args, argc, argv, "Trains a classifier on a rare class, without and with class weights.");
    if (code >= 0) return code;
    if (args.data) return nn_fail(NN_EINVAL, "--data: this example makes its own samples");
    if (args.batch > IMBALANCED_B_MAX) return nn_fail(NN_ESIZE, "--batch may be at most 3000");

    static float x[SAMPLES * FEATURES];
    static int32_t y[SAMPLES];
    make_samples(x, y, args.seed);
    nn_dataset train = nn_dataset_wrap(TRAIN, FEATURES, x, y, 0, NULL);
    nn_dataset test = nn_dataset_wrap(TEST, FEATURES, x + TRAIN * FEATURES, y + TRAIN, 0, NULL);

    double equal[CLASSES + 2], weighted[CLASSES + 2], count[CLASSES] = { 0 };
    nn_args first = args;
    first.out = first.resume = first.plot = NULL;
    for (int k = 0; k < CLASSES; k++) weight[k] = 1;
    code = run(&first, &train, &test, equal);
    for (int i = 0; i < TRAIN; i++) count[y[i]]++;
    for (int k = 0; k < CLASSES; k++) weight[k] = (float)(TRAIN / (CLASSES * count[k]));
    if (code == 0) code = run(&args, &train, &test, weighted);
    if (code != 0) return code;

    printf("\nfound of each class   equal weights   by frequency\n");
    for (int k = 0; k < CLASSES; k++) printf("%-19s %15.3f %14.3f\n", class_name[k], equal[k], weighted[k]);
    printf("%-19s %15.3f %14.3f\n", "all samples", equal[CLASSES + 1], weighted[CLASSES + 1]);
    printf("mean of the classes with equal weights: %.4f\n", equal[CLASSES]);
    printf("average class accuracy: %.4f\n", weighted[CLASSES]);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return 0;
}
