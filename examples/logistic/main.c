/* SPDX-License-Identifier: MIT
 *
 * Logistic regression by lbfgs, on a CSV file (--data FILE: four features and a class, 0 or 1, in each line) or
 * on made-up points. Features are shifted and scaled to mean 0 and variance 1 of the training part.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "nn_data.h"
#include "nn_init.h"
#include "nn_train.h"

enum { FEATURES = 4, MOST = LOGISTIC_B_MAX, MADE_UP = 1000 };

static float x[MOST * FEATURES], t[MOST];

/* Every update sees the whole training set. At the minimum it returns NN_ESEARCH, which ends the training. */
static nn_status step(void *m, const nn_batch *b, double *value)
{
    logistic_train_out out = { 0 };
    nn_status s = logistic_train(m, b->n, b->x, b->t, &out);
    value[0] = out.loss;
    return s;
}

static nn_status eval(void *m, const nn_batch *b, double *value)
{
    float p[MOST];
    nn_status s = logistic_predict(m, b->n, b->x, p);
    value[0] = 0;
    for (int i = 0; i < b->n; i++) value[0] += (double)((p[i] > 0.5F) == (b->t[i] > 0.5F)) / b->n;
    return s;
}

/* One line, "3.6,8.7,-2.8,-0.4,0": 0 when it is anything else. */
static int read_sample(const char *line, int i)
{
    for (int j = 0; j <= FEATURES; j++) {
        char *end;
        float v = strtof(line, &end);
        if (end == line || !isfinite(v)) return 0;
        if (j == FEATURES) {
            t[i] = v;
            return (v == 0 || v == 1) && end[strspn(end, " \r\n")] == '\0';
        }
        if (*end != ',') return 0;
        x[i * FEATURES + j] = v;
        line = end + 1;
    }
    return 0;
}

/* Samples read, or -1 after a message and the exit code in *code. */
static int read_csv(const char *path, int *code)
{
    char line[512], why[NN_ERROR_TEXT];
    int n = 0;
    FILE *f = fopen(path, "r");
    if (!f) {
        snprintf(why, sizeof why, "%.180s: %s", path, strerror(errno));
        *code = nn_fail(NN_EIO, why);
        return -1;
    }
    nn_status s = NN_OK;
    while (s == NN_OK && fgets(line, sizeof line, f)) {
        if (n == MOST)
            s = NN_ESIZE;
        else if (read_sample(line, n))
            n++;
        else
            s = NN_EFORMAT;
    }
    if (s == NN_OK && ferror(f)) s = NN_EIO;
    fclose(f);
    if (s == NN_OK && n < 10) s = NN_EFORMAT;
    if (s == NN_OK) return n;
    snprintf(why, sizeof why, "%.120s:%d: expected %d numbers and 0 or 1, separated by commas, 10 to %d lines", path,
             n + 1, FEATURES, MOST);
    *code = nn_fail(s, why);
    return -1;
}

/* Normal features; the odds of class 1 are exp(2 a - 3 b + c / 2 + 1). */
static int make_samples(uint64_t seed)
{
    static const float truth[FEATURES] = { 2, -3, 0.5F, 0 };
    static float chance[MADE_UP];
    nn_init_normal(x, sizeof *x, MADE_UP * FEATURES, 0, 0, (double[4]){ 1, 0 }, seed, 0);
    nn_init_uniform(chance, sizeof *chance, MADE_UP, 0, 0, (double[4]){ 0, 1 }, seed, 1);
    for (int i = 0; i < MADE_UP; i++) {
        float z = 1;
        for (int j = 0; j < FEATURES; j++) z += truth[j] * x[i * FEATURES + j];
        t[i] = chance[i] < 1 / (1 + expf(-z));
    }
    return MADE_UP;
}

static void standardise(const nn_dataset *train, int n)
{
    for (int j = 0; j < FEATURES; j++) {
        double sum = 0, squares = 0;
        for (nn_dim k = 0; k < train->n; k++) sum += (double)x[train->rows[k] * FEATURES + j];
        const double mean = sum / (double)train->n;
        for (nn_dim k = 0; k < train->n; k++)
            squares += pow((double)x[train->rows[k] * FEATURES + j] - mean, 2);
        const double deviation = sqrt(squares / (double)train->n);
        for (int i = 0; i < n; i++)
            x[i * FEATURES + j] = (float)(((double)x[i * FEATURES + j] - mean) / (deviation > 0 ? deviation : 1));
    }
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 25, .batch = MOST, .seed = 1, .threads = 1 };
    int code = nn_args_parse(&args, argc, argv, "Fits a logistic regression to made-up points, or to --data FILE.csv.");
    if (code >= 0) return code;

    const int n = args.data ? read_csv(args.data, &code) : make_samples(args.seed);
    if (n < 0) return code;
    nn_dataset all = nn_dataset_wrap(n, FEATURES, x, NULL, 1, t), train, test;
    nn_status s = nn_dataset_split(&all, 0.25, args.seed, &train, &test);
    if (s != NN_OK) return nn_fail(s, NULL);
    standardise(&train, n);
    args.batch = (int)train.n;

    logistic *m = logistic_new(LOGISTIC_TRAIN | LOGISTIC_PREDICT,
                               &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) logistic_hypers(m)->train_lr = args.lr;

    nn_trainer trainer = { .model = m, .args = &args, .train = &train, .valid = &test,
                           .step = step, .step_values = { "loss" },
                           .eval = eval, .eval_values = { "test_acc" } };
    nn_train_result result;
    code = nn_train(&trainer, &result);
    if (code == 0) {
        float w[FEATURES], bias;
        logistic_get(m, LOGISTIC_NET_WEIGHT, w);
        logistic_get(m, LOGISTIC_NET_BIAS, &bias);
        printf("weights: %.4f %.4f %.4f %.4f, bias %.4f\n", (double)w[0], (double)w[1], (double)w[2], (double)w[3],
               (double)bias);
        printf("test accuracy: %.4f\n", result.eval[0]);
        if (result.epochs > 0) printf("loss: %.7f\n", result.train[0]);
    }
    logistic_free(m);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return code;
}
