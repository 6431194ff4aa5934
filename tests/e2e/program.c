/* SPDX-License-Identifier: MIT
 *
 * What a host program relies on: two models in one program, several objects in several threads, memory of the
 * caller, status codes for wrong arguments, the halves of a step, save and load. Each check prints a line
 * that begins with "ok" or "FAIL"; the exit code is the number of failures.
 */
#include "lenet.h"
#include "vae.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 4, PIXELS = 784 };

static int failures;

static void expect(int good, const char *what)
{
    printf("%s %s\n", good ? "ok" : "FAIL", what);
    if (!good) failures++;
}

static void inputs(float *x, int32_t *y)
{
    for (int i = 0; i < BATCH * PIXELS; i++) x[i] = (float)((i * 37 + i / 11) % 101) / 100.0F;
    for (int i = 0; i < BATCH; i++) y[i] = i % 10;
}

typedef struct Job {
    uint64_t seed;
    double loss;
    int bad;
} Job;

static void *train_alone(void *arg)
{
    Job *j = arg;
    float x[BATCH * PIXELS];
    int32_t y[BATCH];
    inputs(x, y);
    nn_options options = { .seed = j->seed, .threads = 1 };
    lenet *m = lenet_new(LENET_TRAIN, &options);
    if (!m) {
        j->bad = 1;
        return NULL;
    }
    lenet_train_out out = { 0 };
    for (int i = 0; i < 3; i++) j->bad |= lenet_train(m, BATCH, x, y, &out) != NN_OK;
    j->loss = (double)out.loss;
    lenet_free(m);
    return NULL;
}

static int same_bytes(const char *a, const char *b)
{
    FILE *f = fopen(a, "rb"), *g = fopen(b, "rb");
    int same = f && g, c, d;
    while (same) {
        c = getc(f);
        d = getc(g);
        if (c != d) same = 0;
        if (c == EOF || d == EOF) break;
    }
    if (f) fclose(f);
    if (g) fclose(g);
    return same;
}

/* Pictures so dark that every value of the network is below the normal range. */
static void flushes_denormals(float *x)
{
    static float z[3][BATCH * 10], p[BATCH * 10];
    int32_t y[BATCH];
    for (int i = 0; i < BATCH * PIXELS; i++) x[i] = 1e-39F * (float)(1 + i % 7);
    for (int i = 0; i < 3; i++) {
        const nn_options options = {
            .seed = 7, .threads = i == 2 ? 2 : 1, .all_threads = 1, .flush_denormals = i > 0
        };
        lenet *m = lenet_new(LENET_PREDICT, &options);
        expect(m && lenet_predict(m, BATCH, x, z[i], p) == NN_OK, "predicts on dark pictures");
        lenet_free(m);
    }
    int kept = 0, flushed = 0;
    for (int i = 0; i < BATCH * 10; i++) {
        kept += z[0][i] != 0.0F;
        flushed += z[1][i] == 0.0F;
    }
    expect(kept > 0, "numbers below the normal range are kept unless asked otherwise");
    expect(flushed == BATCH * 10, "flush_denormals makes zeros of them");
    expect(memcmp(z[1], z[2], sizeof z[1]) == 0, "flush_denormals: 1 and 2 threads, same bits");
    volatile float small = 1e-39F, half = 0.5F;
    expect(small * half != 0.0F, "the caller's own arithmetic keeps them");
    inputs(x, y);
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    char path_a[512], path_b[512];
    snprintf(path_a, sizeof path_a, "%s/a.safetensors", argv[1]);
    snprintf(path_b, sizeof path_b, "%s/b.safetensors", argv[1]);
    static float x[BATCH * PIXELS], p[BATCH * 10], q[BATCH * 10], z[BATCH * 10];
    int32_t y[BATCH];
    inputs(x, y);

    /* Two models, two objects each. */
    nn_options options = { .seed = 7, .threads = 2, .all_threads = 1 };
    lenet *m = lenet_new(LENET_TRAIN | LENET_PREDICT, &options);
    vae *v = vae_new(VAE_TRAIN | VAE_ENCODE, &options);
    expect(m != NULL && v != NULL, "objects of two models live side by side");
    if (!m || !v) return 1;
    lenet_train_out out = { 0 };
    vae_train_out vout = { 0 };
    static float eps[BATCH * 20];
    expect(vae_train(v, BATCH, x, eps, &vout) == NN_OK && isfinite(vout.loss),
           "the second model trains");
    expect(isfinite(vout.rec) && isfinite(vout.kl) &&
               fabsf(vout.rec + vout.kl - vout.loss) <= 1e-4F * fabsf(vout.loss),
           "reported values add up to the loss");

    /* Wrong arguments change nothing. */
    expect(lenet_predict(m, BATCH, x, z, p) == NN_OK, "predict works");
    expect(lenet_predict(m, 0, x, z, q) == NN_ESIZE, "a batch below the bound is refused");
    expect(lenet_predict(m, LENET_B_MAX + 1, x, z, q) == NN_ESIZE,
           "a batch above the bound is refused");
    expect(lenet_predict(m, BATCH, NULL, z, q) == NN_EINVAL, "a null pointer is refused");
    expect(lenet_train_apply(m, 1.0F) == NN_ESTATE, "apply without gradients is refused");
    y[1] = 10;
    expect(lenet_train(m, BATCH, x, y, &out) == NN_EINDEX, "a class that is too large is refused");
    y[1] = -1;
    expect(lenet_train(m, BATCH, x, y, &out) == NN_EINDEX, "a negative class is refused");
    y[1] = 1;
    x[5] = NAN;
    expect(lenet_train(m, BATCH, x, y, &out) == NN_ENONFINITE,
           "a loss that is not finite is refused");
    inputs(x, y);
    lenet_predict(m, BATCH, x, z, q);
    expect(memcmp(p, q, sizeof p) == 0, "refused calls leave the weights alone");
    lenet *only = lenet_new(LENET_PREDICT, NULL);
    expect(only && lenet_train(only, BATCH, x, y, &out) == NN_EINVAL,
           "a routine the object was not made for is refused");
    expect(lenet_bytes(LENET_PREDICT) < lenet_bytes(LENET_TRAIN),
           "prediction alone needs less memory");
    lenet_free(only);

    flushes_denormals(x);

    /* Memory of the caller. */
    size_t bytes = lenet_bytes(LENET_PREDICT);
    void *mem = aligned_alloc(64, (bytes + 63) / 64 * 64);
    lenet *own = NULL;
    expect(mem && lenet_init(&own, mem, bytes, LENET_PREDICT,
                             &(nn_options){ .seed = 7, .threads = 1 }) == NN_OK,
           "an object lives in memory of the caller");
    if (own) {
        lenet_predict(own, BATCH, x, z, q);
        expect(memcmp(p, q, sizeof p) == 0, "same seed, same weights");
        lenet_free(own);
    }
    lenet *small = NULL;
    expect(lenet_init(&small, mem, bytes - 1, LENET_PREDICT, NULL) == NN_ENOMEM,
           "too little memory is refused");
    free(mem);

    /* The halves of a step, and accumulation: two equal batches with half the scale are one batch. */
    lenet *a = lenet_new(LENET_TRAIN, &options), *b = lenet_new(LENET_TRAIN, &options);
    if (!a || !b) return 1;
    lenet_train(a, BATCH, x, y, &out);
    expect(lenet_train_grad(b, BATCH, x, y, &out) == NN_OK && lenet_train_apply(b, 1.0F) == NN_OK,
           "a step runs in halves");
    lenet_save(a, NN_ALL, path_a);
    lenet_save(b, NN_ALL, path_b);
    expect(same_bytes(path_a, path_b), "both halves make the same update");
    lenet_reset(b, 7);
    lenet_train_grad(b, BATCH, x, y, &out);
    lenet_train_grad(b, BATCH, x, y, &out);
    lenet_train_apply(b, 0.5F);
    float wa[84 * 10], wb[84 * 10];
    int t = lenet_find(a, "net.f3.weight");
    expect(t >= 0 && lenet_get(a, t, wa) == NN_OK && lenet_get(b, t, wb) == NN_OK,
           "a tensor is found by name");
    double worst = 0;
    for (int i = 0; i < 84 * 10; i++) worst = fmax(worst, fabs((double)wa[i] - (double)wb[i]));
    expect(worst <= 1e-6, "gradients accumulate");

    /* Live scalars. */
    lenet_hypers(a)->train_lr = 0.0;
    lenet_get(a, t, wa);
    lenet_train(a, BATCH, x, y, &out);
    lenet_get(a, t, wb);
    expect(memcmp(wa, wb, sizeof wa) == 0, "a learning rate of zero stands still");

    /* Partial load: the same names, another model. */
    nn_load_report report;
    expect(vae_load(v, NN_WEIGHTS, path_a, &report) == NN_EMISMATCH && report.message[0],
           "a foreign checkpoint is refused");
    expect(vae_load(v, NN_WEIGHTS | NN_PARTIAL, path_a, &report) == NN_OK && report.loaded == 0 &&
               report.missing > 0 && report.unexpected > 0,
           "a partial load reports what did not match");
    expect(lenet_load(a, NN_ALL, "no/such/file", &report) == NN_EIO, "a missing file is reported");
    lenet_free(a);
    lenet_free(b);

    /* Objects in several threads at once. */
    Job jobs[4] = { { .seed = 1 }, { .seed = 2 }, { .seed = 1 }, { .seed = 2 } };
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, train_alone, &jobs[i]);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    expect(!jobs[0].bad && !jobs[1].bad && !jobs[2].bad && !jobs[3].bad,
           "four objects train in four threads");
    expect(memcmp(&jobs[0].loss, &jobs[2].loss, sizeof(double)) == 0 &&
               memcmp(&jobs[1].loss, &jobs[3].loss, sizeof(double)) == 0 &&
               jobs[0].loss != jobs[1].loss,
           "each thread gets the result of its seed");
    lenet_free(m);
    vae_free(v);
    return failures;
}
