/* SPDX-License-Identifier: MIT
 *
 * One measurement of one model: bench train|predict BATCH THREADS WARMUP STEPS [WEIGHTS_TO_WRITE]
 *
 * Compiled once per model with -DMODEL=m3 -DMODEL_B_MAX=M3_B_MAX -DX_COUNT=784 -DCLASSES=10. Prints one JSON
 * object: first losses, median, 10th and 90th percentile in ms, peak resident memory. With a last
 * argument the initial weights are saved there, so that a peer can start from the same ones. Inputs come from the
 * formula of tests/e2e/fill.c with seed 1 and the names x and y.
 */
#define _GNU_SOURCE
#include MODEL_HEADER

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define CAT_(a, b)  a##b
#define CAT(a, b)   CAT_(a, b)
#define API(name)   CAT(MODEL, name)
#define BIT(name)   CAT(MODEL_UPPER, name)

enum { N_LOSSES = 3 };

static uint64_t mix64(uint64_t z)
{
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double draw(const char *salted, uint64_t i)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (; *salted; salted++) h = (h ^ (unsigned char)*salted) * 0x100000001B3u;
    return (double)(mix64(h + i) >> 40) * 0x1p-24;
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void check(nn_status s)
{
    if (s == NN_OK) return;
    fprintf(stderr, "bench: %s\n", nn_strerror(s));
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "usage: bench train|predict BATCH THREADS WARMUP STEPS [WEIGHTS_TO_WRITE]\n");
        return 2;
    }
    int train = !strcmp(argv[1], "train"), batch = atoi(argv[2]), steps = atoi(argv[5]);
    int warmup = atoi(argv[4]);
    nn_options options = { .seed = 1, .threads = atoi(argv[3]) };
    MODEL *m = API(_new)(train ? BIT(_TRAIN) : BIT(_PREDICT), &options);
    if (!m) {
        fprintf(stderr, "bench: no memory\n");
        return 4;
    }
    if (argc > 6) check(API(_save)(m, NN_WEIGHTS, argv[6]));

    size_t n = (size_t)batch * X_COUNT;
    float *x = aligned_alloc(64, (n * sizeof *x + 63) / 64 * 64);
    float *p = aligned_alloc(64, ((size_t)batch * CLASSES * sizeof *p + 63) / 64 * 64);
    int32_t *y = malloc((size_t)batch * sizeof *y);
    double *ms = malloc((size_t)steps * sizeof *ms), loss[N_LOSSES] = { 0 };
    if (!x || !p || !y || !ms) return 4;
    for (size_t i = 0; i < n; i++) x[i] = (float)draw("1/x", i);
    for (int i = 0; i < batch; i++) y[i] = (int32_t)(CLASSES * draw("1/y", (uint64_t)i));

    for (int i = -warmup; i < steps; i++) {
        double t = now_ms();
        if (train) {
            CAT(MODEL, _train_out) out;
            check(API(_train)(m, batch, x, y, &out));
            if (i + warmup < N_LOSSES) loss[i + warmup] = (double)out.loss;
        } else {
            check(API(_predict)(m, batch, x, p));
        }
        if (i >= 0) ms[i] = now_ms() - t;
    }
    /* For inference the sum of the first row's probabilities weighted by class stands in for the loss. */
    if (!train)
        for (int k = 0; k < CLASSES; k++) loss[0] += (double)p[k] * (k + 1);

    qsort(ms, (size_t)steps, sizeof *ms, by_value);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"ms\": %.6f, \"p10\": %.6f, \"p90\": %.6f, \"p99\": %.6f, \"losses\": [%.9g, %.9g, %.9g], "
           "\"rss_kib\": %ld, \"object_bytes\": %zu}\n",
           ms[steps / 2], ms[steps / 10], ms[steps * 9 / 10], ms[steps * 99 / 100], loss[0], loss[1], loss[2],
           usage.ru_maxrss, API(_bytes)(train ? BIT(_TRAIN) : BIT(_PREDICT)));
    API(_free)(m);
    free(x);
    free(p);
    free(y);
    free(ms);
    return 0;
}
