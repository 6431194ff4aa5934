/* SPDX-License-Identifier: MIT
 *
 * Trains the forecaster on the first part of a made-up series (a daily and a weekly wave, a slow drift and noise),
 * tests it on the rest, and lets it run on by itself for two days, each forecast becoming the input of the next.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model.h"
#include "nn_data.h"
#include "nn_init.h"
#include "nn_log.h"
#include "nn_train.h"

enum { T = 48, DAY = 24, WEEK = 7 * DAY, TRAIN = 2000, TEST = 500, HOURS = TRAIN + TEST + T, AHEAD = 2 * DAY };

static const float noise_deviation = 0.05F;

static nn_status step(void *m, const nn_batch *b, double *value)
{
    forecast_train_out out = { 0 };
    nn_status s = forecast_train(m, b->n, b->x, b->t, &out);
    value[0] = out.loss;
    return s;
}

/* Mean squared error of the forecasts, and of taking the last value for the next. */
static nn_status eval(void *m, const nn_batch *b, double *value)
{
    float y[FORECAST_B_MAX];
    nn_status s = forecast_predict(m, b->n, b->x, y);
    value[0] = value[1] = 0;
    for (int i = 0; i < b->n; i++) {
        value[0] += pow((double)(y[i] - b->t[i]), 2) / b->n;
        value[1] += pow((double)(b->x[i * T + T - 1] - b->t[i]), 2) / b->n;
    }
    return s;
}

static void make_series(float *series, uint64_t seed)
{
    const float turn = 6.2831853F;
    nn_init_normal(series, sizeof *series, HOURS, 0, 0, (double[4]){ (double)noise_deviation, 0 }, seed, 0);
    for (int i = 0; i < HOURS; i++) {
        const float t = (float)i;
        series[i] += sinf(turn * t / DAY) * (1 + 0.5F * sinf(turn * t / WEEK)) + 0.3F * sinf(turn * t / 1000);
    }
}

/* Every window of T values, and the value after it. */
static void make_windows(const float *series, float *x, float *t)
{
    for (int i = 0; i < TRAIN + TEST; i++) {
        memcpy(x + (size_t)i * T, series + i, T * sizeof *x);
        t[i] = series[i + T];
    }
}

static nn_status run_on(forecast *m, const float *series, const char *path, char *why)
{
    double said[AHEAD], is[AHEAD];
    float window[T + AHEAD];
    memcpy(window, series + HOURS - AHEAD - T, T * sizeof *window);
    for (int i = 0; i < AHEAD; i++) {
        nn_status s = forecast_predict(m, 1, window + i, window + T + i);
        if (s != NN_OK) return s;
        said[i] = (double)window[T + i];
        is[i] = (double)series[HOURS - AHEAD + i];
    }
    const nn_curve curves[2] = { { "series", is, AHEAD }, { "forecast", said, AHEAD } };
    return nn_plot_curves(path, "two days ahead", "hours", 1, curves, 2, 0, why);
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 10, .batch = 64, .seed = 1, .out = "forecast.safetensors" };
    int code = nn_args_parse(&args, argc, argv, "Trains an LSTM to forecast a made-up series.");
    if (code >= 0) return code;
    if (args.data) return nn_fail(NN_EINVAL, "--data: this example makes its own series");
    if (args.batch > FORECAST_B_MAX) return nn_fail(NN_ESIZE, "--batch may be at most 256");

    static float series[HOURS], x[(TRAIN + TEST) * T], t[TRAIN + TEST];
    make_series(series, args.seed);
    make_windows(series, x, t);
    nn_dataset train = nn_dataset_wrap(TRAIN, T, x, NULL, 1, t);
    nn_dataset test = nn_dataset_wrap(TEST, T, x + TRAIN * T, NULL, 1, t + TRAIN);

    forecast *m = forecast_new(FORECAST_TRAIN | FORECAST_PREDICT,
                               &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) forecast_hypers(m)->train_lr = args.lr;

    nn_trainer trainer = { .model = m, .args = &args, .train = &train, .valid = &test,
                           .step = step, .step_values = { "loss" },
                           .eval = eval, .eval_values = { "test_mse" }, .eval_smaller_is_better = 1 };
    code = nn_train(&trainer, NULL);
    if (code == 0) {
        char picture[1024], why[NN_ERROR_TEXT] = "";
        double error[2];
        snprintf(picture, sizeof picture, "%s.svg", args.out);
        nn_status s = nn_evaluate(m, eval, 2, &test, args.batch, error);
        if (s == NN_OK) s = run_on(m, series, picture, why);
        if (s != NN_OK)
            code = nn_fail(s, why);
        else
            printf("%s: two days ahead\nthe last value for the next: %.4f, noise: %.4f\ntest rmse: %.4f\n", picture,
                   sqrt(error[1]), (double)noise_deviation, sqrt(error[0]));
    }
    forecast_free(m);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return code;
}
