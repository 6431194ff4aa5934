/* SPDX-License-Identifier: MIT
 *
 * What predict keeps is never older than the weights: after everything that may change them, its answers have the bits
 * of an object that has just been given the same weights. Prints "ok" or "bad" and the name of each test.
 */
#include <stdio.h>
#include <string.h>

#include "kept.h"

enum { B = 3, N_X = B * 16 * 12 * 12, N_P = B * 3, BYTES = 1 << 18 };

static float x[N_X], other[64 * 1024];
static int32_t y[B] = { 0, 1, 2 };
static unsigned char file[BYTES];
static size_t file_len, file_at;

static void say(int good, const char *what)
{
    printf("%s %s\n", good ? "ok" : "bad", what);
}

static int put(void *ctx, const void *data, size_t n)
{
    (void)ctx;
    if (n > BYTES - file_len) return 1;
    memcpy(file + file_len, data, n);
    file_len += n;
    return 0;
}

static int get(void *ctx, void *data, size_t n)
{
    (void)ctx;
    if (n > file_len - file_at) return 1;
    memcpy(data, file + file_at, n);
    file_at += n;
    return 0;
}

static void keep_file(const kept *m)
{
    file_len = 0;
    if (kept_save_to(m, NN_WEIGHTS, put, NULL) != NN_OK) say(0, "save");
}

/* Does m predict what a new object with its weights does, and something else than `before`? */
static void check(kept *m, float *before, const char *what)
{
    float p[N_P], q[N_P];
    kept *fresh = kept_new(KEPT_PREDICT, NULL);
    keep_file(m);
    file_at = 0;
    int good = kept_load_from(fresh, NN_WEIGHTS, get, file_len, NULL, NULL) == NN_OK &&
               kept_predict(fresh, B, x, q) == NN_OK && kept_predict(m, B, x, p) == NN_OK;
    good = good && memcmp(p, q, sizeof p) == 0 && memcmp(p, before, sizeof p) != 0;
    good = good && kept_predict(m, B, x, p) == NN_OK && memcmp(p, q, sizeof p) == 0;
    memcpy(before, p, sizeof p);
    kept_free(fresh);
    say(good, what);
}

int main(void)
{
    float before[N_P] = { 0 }, z[N_P];
    const nn_options options = { .seed = 1, .threads = 2, .all_threads = 1 };
    kept *m = kept_new(KEPT_PREDICT | KEPT_WATCH | KEPT_TRAIN, &options);
    if (!m) return 4;
    for (int i = 0; i < N_X; i++) x[i] = (float)(i * 7919 % 1000) / 1000.0f - 0.5f;
    check(m, before, "first call");
    kept_train(m, B, x, y, NULL);
    check(m, before, "a training step");
    kept_train_grad(m, B, x, y, NULL);
    check(m, before, "running statistics of a gradient");
    kept_train_apply(m, 1.0);
    check(m, before, "an update from a gradient");
    kept_swap_ema(m, KEPT_TRAIN);
    check(m, before, "averages");
    kept_swap_ema(m, KEPT_TRAIN);
    check(m, before, "the weights again");

    const int t = KEPT_N_A_WEIGHT;
    kept_get(m, t, other);
    other[5] += 1;
    kept_set(m, t, other);
    check(m, before, "set");
    float *w = kept_data(m, KEPT_N_B_WEIGHT);
    w[7] += 1;
    check(m, before, "a write through a pointer");
    w[8] += 1;
    check(m, before, "a second write through it");
    w[9] += 1;
    kept_data_end(m);
    check(m, before, "a write before data_end");
    for (int i = 0; i < 2; i++) {
        kept_watch(m, B, x, z);
        check(m, before, "state that another infer routine assigns");
    }
    keep_file(m);
    const size_t len = file_len;
    unsigned char copy[BYTES];
    memcpy(copy, file, len);
    kept_reset(m, 5);
    check(m, before, "reset");
    memcpy(file, copy, len);
    file_len = len;
    file_at = 0;
    say(kept_load_from(m, NN_WEIGHTS, get, len, NULL, NULL) == NN_OK, "loads");
    check(m, before, "load");
    fwrite(before, sizeof *before, N_P, stderr);
    kept_free(m);
    return 0;
}
