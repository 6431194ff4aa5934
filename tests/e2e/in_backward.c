/* SPDX-License-Identifier: MIT
 *
 * Steps that update within the backward pass, beside equal ones that do not: the same bits of weights, averages, state
 * and metrics on any team, and the same numbers where a penalty's gradient is added in another loop; a loss that is not
 * finite changes nothing; no memory for gradients where no step keeps any.
 * Prints `ok` or `bad` and a sentence for each check.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "in_backward.h"

enum { STEPS = 6 };

static float x[PAIR_B_MAX][1][6][6];
static int32_t y[PAIR_B_MAX];

static void say(int good, const char *what)
{
    printf("%s %s\n", good ? "ok" : "bad", what);
}

/* Of objects with so many threads. */
static void say_on(int threads, int good, const char *what)
{
    printf("%s %d threads: %s\n", good ? "ok" : "bad", threads, what);
}

static void fill(int round)
{
    uint32_t s = 12345u + (uint32_t)round;
    float *p = &x[0][0][0][0];
    for (size_t i = 0; i < sizeof x / sizeof *p; i++) {
        s = s * 1664525u + 1013904223u;
        p[i] = (float)(s >> 8) / 8388608.0f - 1.0f;
    }
    for (int i = 0; i < PAIR_B_MAX; i++) y[i] = (i * 7 + round) % 5;
}

typedef struct Buffer {
    unsigned char data[16 << 20];
    size_t n;
} Buffer;

static int keep(void *ctx, const void *data, size_t n)
{
    Buffer *b = ctx;
    if (b->n + n > sizeof b->data) return 1;
    memcpy(b->data + b->n, data, n);
    b->n += n;
    return 0;
}

/* All weights and states in canonical order. */
static void read_all(const pair *m, Buffer *b)
{
    b->n = 0;
    for (int i = 0; i < (int)(sizeof pair_tensors / sizeof *pair_tensors); i++) {
        float *at = (float *)(void *)(b->data + b->n);
        if (pair_get(m, i, at) != NN_OK) exit(2);
        b->n += (size_t)pair_tensors[i].count * sizeof *at;
    }
}

static Buffer a, b;

static int same(void)
{
    return a.n == b.n && a.n > 0 && memcmp(a.data, b.data, a.n) == 0;
}

/* No element is further away than a millionth of the largest one. */
static int alike(void)
{
    const float *p = (const float *)(const void *)a.data, *q = (const float *)(const void *)b.data;
    const size_t n = a.n / sizeof *p;
    double largest = 0;
    for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)p[i]));
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)p[i] - (double)q[i]) <= 1e-6 * largest)) return 0;
    return n > 0 && a.n == b.n;
}

static pair *object(unsigned routines, int threads)
{
    const nn_options options = { .seed = 3, .threads = threads, .all_threads = 1 };
    pair *m = pair_new(routines, &options);
    if (!m) exit(2);
    return m;
}

static void same_bits(int threads)
{
    pair *m = object(PAIR_FIT, threads), *n = object(PAIR_FIT_IN_BACKWARD, threads);
    pair *p = object(PAIR_PENALISED, threads), *q = object(PAIR_PENALISED_IN_BACKWARD, threads);
    int equal = 1;
    pair_fit_out before = { 0 };
    pair_fit_in_backward_out out = { 0 };
    for (int i = 0; i < STEPS; i++) {
        const int rows = i % 2 ? PAIR_B_MAX : 5;
        fill(i);
        if (pair_fit(m, rows, &x[0][0][0][0], y, &before) != NN_OK) exit(2);
        if (pair_fit_in_backward(n, rows, &x[0][0][0][0], y, &out) != NN_OK) exit(2);
        if (pair_penalised(p, rows, &x[0][0][0][0], y, NULL) != NN_OK) exit(2);
        if (pair_penalised_in_backward(q, rows, &x[0][0][0][0], y, NULL) != NN_OK) exit(2);
        equal &= memcmp(&before.loss, &out.loss, sizeof out.loss) == 0 && before.acc == out.acc;
    }
    say_on(threads, equal, "the same losses and metrics");
    read_all(m, &a);
    read_all(n, &b);
    say_on(threads, same(), "the same weights and state");
    read_all(p, &a);
    read_all(q, &b);
    say_on(threads, alike(), "the same weights but for rounding with penalties");
    pair_swap_ema(m, PAIR_FIT);
    pair_swap_ema(n, PAIR_FIT_IN_BACKWARD);
    read_all(m, &a);
    read_all(n, &b);
    say_on(threads, same(), "the same averages");
    pair_free(m);
    pair_free(n);
    pair_free(p);
    pair_free(q);
}

/* Gradients that are parameters themselves: none may be read when it has been updated. */
static void cross(int threads)
{
    pair *m = object(PAIR_CROSS, threads), *n = object(PAIR_CROSS_IN_BACKWARD, threads);
    for (int i = 0; i < STEPS; i++)
        if (pair_cross(m, NULL) != NN_OK || pair_cross_in_backward(n, NULL) != NN_OK) exit(2);
    read_all(m, &a);
    read_all(n, &b);
    say_on(threads, same(), "each the gradient of the other");
    pair_free(m);
    pair_free(n);
}

/* Everything that a file of the training state holds. */
static void save_all(const pair *m, Buffer *to)
{
    to->n = 0;
    if (pair_save_to(m, NN_ALL, keep, to) != NN_OK) exit(2);
}

static void not_finite(int threads)
{
    pair *m = object(PAIR_FIT_IN_BACKWARD, threads);
    fill(0);
    if (pair_fit_in_backward(m, 9, &x[0][0][0][0], y, NULL) != NN_OK) exit(2);
    save_all(m, &a);
    x[8][0][5][5] = NAN;
    pair_fit_in_backward_out out = { 0 };
    const nn_status s = pair_fit_in_backward(m, 9, &x[0][0][0][0], y, &out);
    say_on(threads, s == NN_ENONFINITE && isnan(out.loss), "NN_ENONFINITE, and out says so");
    save_all(m, &b);
    say_on(threads, same(), "nothing has changed");
    pair_free(m);
}

int main(void)
{
    for (int threads = 1; threads <= 4; threads++) same_bits(threads);
    cross(1);
    cross(3);
    not_finite(1);
    not_finite(3);

    pair *m = object(PAIR_PENALISED_IN_BACKWARD, 1), *n = object(PAIR_PENALISED_IN_BACKWARD | PAIR_PENALISED, 1);
    float g[PAIR_B_MAX * 5];
    say(!pair_grad(m, PAIR_NET_OUT_BIAS) && pair_get_grad(m, PAIR_NET_OUT_BIAS, g) == NN_EINVAL,
        "no gradients to look at");
    say(pair_grad(n, PAIR_NET_OUT_BIAS) && pair_get_grad(n, PAIR_NET_OUT_BIAS, g) == NN_OK,
        "beside a step that keeps them, there are");
    size_t params = 0;
    for (size_t i = 0; i < sizeof pair_tensors / sizeof *pair_tensors; i++)
        params += pair_tensors[i].trainable ? (size_t)pair_tensors[i].count * sizeof(float) : 0;
    say(pair_bytes(PAIR_PENALISED) - pair_bytes(PAIR_PENALISED_IN_BACKWARD) > params / 2,
        "it saves most of the gradients' memory");
    say(pair_bytes(PAIR_PENALISED | PAIR_PENALISED_IN_BACKWARD) > pair_bytes(PAIR_PENALISED_IN_BACKWARD) + params,
        "an object that can do both has room for both");
    pair_free(m);
    pair_free(n);
    return 0;
}
