/* SPDX-License-Identifier: MIT
 *
 * What a training program relies on beyond single steps: averages of the weights and their exchange, hypers that
 * follow a schedule, penalties, gradients of several batches, slopes that rrelu draws. Prints a line
 * that begins with "ok" or "FAIL" per check; the exit code is the number of failures.
 */
#include "training.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 64, WIDE = 256 };

static int failures;
static float x[ROWS * 3], t[ROWS], wide[ROWS * WIDE], out[ROWS * WIDE];

static void expect(int good, const char *what)
{
    printf("%s %s\n", good ? "ok" : "FAIL", what);
    if (!good) failures++;
}

static int near(const float *a, const double *b, int n)
{
    int good = 1;
    for (int i = 0; i < n; i++) good &= fabs((double)a[i] - b[i]) <= 1e-6;
    return good;
}

static void averages(const char *path)
{
    const unsigned all = TRAINING_FIT | TRAINING_RAMP | TRAINING_PREDICT;
    training *m = training_new(all, NULL);
    const int fc = TRAINING_NET_FC_WEIGHT;
    float w[3], kept[3];
    double mean[3];
    training_fit_out result;
    expect(training_swap_ema(m, TRAINING_FIT) == NN_ESTATE, "there is no average before the first update");
    expect(training_swap_ema(m, TRAINING_RAMP) == NN_EINVAL && training_swap_ema(m, TRAINING_PREDICT) == NN_EINVAL &&
               training_swap_ema(NULL, TRAINING_FIT) == NN_EINVAL && training_swap_ema(m, 0) == NN_EINVAL,
           "only a step with ema has one");
    for (int step = 0; step < 6; step++) {
        if (training_fit(m, ROWS, x, t, &result) != NN_OK) failures++;
        training_get(m, fc, w);
        for (int i = 0; i < 3; i++) mean[i] = step == 0 ? (double)w[i] : 0.75 * mean[i] + 0.25 * (double)w[i];
    }
    memcpy(kept, w, sizeof w);
    expect(training_swap_ema(m, TRAINING_FIT) == NN_OK, "weights and averages are exchanged");
    training_get(m, fc, w);
    expect(near(w, mean, 3), "the averages are 0.75 of those before and 0.25 of the weights");
    float y[ROWS];
    const int predicted = training_predict(m, ROWS, x, y) == NN_OK;
    const double first = mean[0] * (double)x[0] + mean[1] * (double)x[1] + mean[2] * (double)x[2];
    expect(predicted && near(y, &first, 1), "an infer uses them");
    expect(training_fit(m, ROWS, x, t, NULL) == NN_ESTATE && training_fit_grad(m, ROWS, x, t, NULL) == NN_ESTATE &&
               training_fit_apply(m, 1.0) == NN_ESTATE && training_ramp(m, ROWS, x, t, NULL) == NN_ESTATE,
           "no step runs meanwhile");
    expect(training_save(m, NN_ALL, path) == NN_ESTATE && training_save(m, NN_WEIGHTS, path) == NN_OK,
           "they can be saved as weights only");
    expect(training_load(m, NN_WEIGHTS, path, NULL) == NN_ESTATE, "nothing is loaded over them");
    expect(training_swap_ema(m, TRAINING_FIT) == NN_OK, "they are exchanged back");
    training_get(m, fc, w);
    expect(memcmp(w, kept, sizeof w) == 0, "the weights are what they were");
    expect(training_fit(m, ROWS, x, t, NULL) == NN_OK && training_save(m, NN_ALL, path) == NN_OK, "training goes on");
    training *other = training_new(all, NULL);
    float a[3], b[3];
    expect(training_load(other, NN_ALL, path, NULL) == NN_OK && training_swap_ema(other, TRAINING_FIT) == NN_OK &&
               training_swap_ema(m, TRAINING_FIT) == NN_OK && training_get(m, fc, a) == NN_OK &&
               training_get(other, fc, b) == NN_OK && memcmp(a, b, sizeof a) == 0,
           "a checkpoint holds the averages");
    training_free(other);
    training_free(m);
}

/* A step whose update is a line search averages the weights that each search ends with. */
static void averages_of_searches(void)
{
    training *m = training_new(TRAINING_SETTLE, NULL);
    float w[3], first[3] = { 0 };
    double mean[3] = { 0 };
    int good = m != NULL;
    for (int step = 0; step < 4; step++) {
        good &= training_settle(m, ROWS, x, t, NULL) == NN_OK;
        training_get(m, TRAINING_NET_FC_WEIGHT, w);
        if (step == 0) memcpy(first, w, sizeof w);
        for (int i = 0; i < 3; i++) mean[i] = step == 0 ? (double)w[i] : 0.75 * mean[i] + 0.25 * (double)w[i];
    }
    expect(good && memcmp(first, w, sizeof w) != 0, "lbfgs makes several updates");
    expect(training_swap_ema(m, TRAINING_SETTLE) == NN_OK && training_get(m, TRAINING_NET_FC_WEIGHT, w) == NN_OK &&
               near(w, mean, 3),
           "it averages the weights after each");
    training_free(m);
}

/* One update of w by sgd(lr = 0.1) on the mean of (x w - t)^2, worked out in double precision. */
static void expected_update(const double *w, double ridge, double lasso, double *after)
{
    double g[3] = { 0 };
    for (int i = 0; i < ROWS; i++) {
        double error = -(double)t[i];
        for (int k = 0; k < 3; k++) error += w[k] * (double)x[3 * i + k];
        for (int k = 0; k < 3; k++) g[k] += 2 * error * (double)x[3 * i + k] / ROWS;
    }
    for (int k = 0; k < 3; k++)
        after[k] = w[k] - 0.1 * (g[k] + 2 * ridge * w[k] + lasso * (w[k] > 0 ? 1 : w[k] < 0 ? -1 : 0));
}

static void penalties_and_accumulation(void)
{
    training *m = training_new(TRAINING_FIT | TRAINING_RIDGE, NULL);
    const int fc = TRAINING_NET_FC_WEIGHT;
    const float first[3] = { 0.5F, 0, -2 };
    const double w[3] = { 0.5, 0, -2 };
    double after[3];
    float got[3];
    training_ridge_out plain, with;
    training_set(m, fc, first);
    expected_update(w, 0.5, 0.25, after);
    expect(training_ridge(m, ROWS, x, t, &with) == NN_OK && training_get(m, fc, got) == NN_OK && near(got, after, 3),
           "l2 has the derivative 2 w, l1 the sign, which is 0 at 0");
    training_set(m, fc, first);
    expect(training_fit_grad(m, ROWS, x, t, (training_fit_out *)&plain) == NN_OK &&
               fabs((double)with.loss - (double)plain.loss - 0.5 * 4.25 - 0.25 * 2.5) < 1e-5,
           "l2 is the sum of squares, l1 that of absolute values");
    training_reset(m, 1);
    training_set(m, fc, first);
    expected_update(w, 0, 0, after);
    int good = 1;
    const int quarter = ROWS / 4;
    for (int i = 0; i < 4; i++)
        good &= training_fit_grad(m, quarter, x + i * quarter * 3, t + i * quarter, NULL) == NN_OK;
    expect(good && training_get(m, fc, got) == NN_OK && memcmp(got, first, sizeof got) == 0,
           "the gradient half leaves the weights");
    expect(training_fit_apply(m, 0.25) == NN_OK && training_get(m, fc, got) == NN_OK && near(got, after, 3),
           "four quarters of a batch, accumulated, make the update of the whole");
    expect(training_fit_apply(m, 0.25) == NN_ESTATE, "which uses the gradients up");
    training_free(m);
}

static void schedule(void)
{
    static const double expected[] = { 0.5, 0.625, 0.75, 0.875, 1, 1 };
    training *m = training_new(TRAINING_RAMP, NULL);
    training_ramp_out r;
    int good = 1;
    for (int i = 0; i < 6; i++) {
        good &= training_ramp_grad(m, ROWS, x, t, NULL) == NN_OK && training_ramp_apply(m, 1.0) == NN_OK;
        if (i + 1 < 6) {
            good &= training_ramp_grad(m, ROWS, x, t, &r) == NN_OK;
            good &= fabs(r.factor - expected[i + 1]) < 1e-6;
        }
    }
    expect(good, "a hyper follows its schedule by the updates of the step");
    training_hypers(m)->beta = 3;
    expect(training_ramp(m, ROWS, x, t, &r) == NN_OK && fabs(r.factor - 3) < 1e-6, "its base value stays live");
    training_free(m);
}

static void slopes(void)
{
    const nn_options one = { .seed = 3, .threads = 1 }, two = { .seed = 3, .threads = 2, .all_threads = 1 };
    training *m = training_new(TRAINING_DRAW | TRAINING_STILL, &one), *n = training_new(TRAINING_DRAW, &two);
    training_draw_out a, b, c;
    for (int i = 0; i < ROWS * WIDE; i++) wide[i] = -1;
    training_still(m, ROWS, wide, out);
    int same = 1;
    for (int i = 0; i < ROWS * WIDE; i++) same &= fabs((double)out[i] + 0.4) < 1e-6;
    expect(same, "rrelu in an infer has the mean slope");
    training_draw(m, ROWS, wide, &a);
    training_draw(n, ROWS, wide, &b);
    training_draw(m, ROWS, wide, &c);
    const double variance = a.square - a.average * a.average;
    /* 16384 slopes: 5 standard deviations of their mean, and of their variance (kurtosis 1.8). */
    const double sd = 0.4 / sqrt(12.0) / 128, sv = 0.16 / 12 * sqrt(0.8) / 128;
    expect(fabs(a.average + 0.4) < 5 * sd, "its slopes in a step have the right mean");
    expect(fabs(variance - 0.16 / 12) < 5 * sv, "and variance");
    expect(a.average == b.average && a.square == b.square, "the same for every number of threads");
    expect(a.average != c.average, "and others in the next call");
    for (int i = 0; i < ROWS * WIDE; i++) wide[i] = 2;
    training_draw(m, ROWS, wide, &c);
    expect(c.average == 2 && c.square == 4, "values above 0 are untouched");
    training_free(m);
    training_free(n);
}

int main(int argc, char **argv)
{
    if (argc != 2) return 99;
    for (int i = 0; i < ROWS * 3; i++) x[i] = (float)((i * 37 + i / 5) % 41) / 20 - 1;
    for (int i = 0; i < ROWS; i++) t[i] = 2 * x[3 * i] - x[3 * i + 1] + 0.1F * x[3 * i + 2];
    averages(argv[1]);
    averages_of_searches();
    penalties_and_accumulation();
    schedule();
    slopes();
    return failures;
}
