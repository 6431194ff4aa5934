/* SPDX-License-Identifier: MIT
 *
 * net [THREADS]: trains the generated model `net` for a few steps on drawn samples, in memory of its own, and prints
 * what came out: a line "NAME VALUE" per number, and as "bits" a sum over the bits of all of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"

enum { SIZE = 28 * 28, STEPS = 4, BATCH = 8 };

static _Alignas(64) unsigned char memory[12 << 20];
static float x[BATCH * SIZE], p[BATCH * 10], values[60000];
static int32_t y[BATCH];
static uint64_t bits = UINT64_C(0xcbf29ce484222325);
static uint32_t drawn = 1;

static uint32_t draw(void)
{
    drawn = drawn * 1664525u + 1013904223u;
    return drawn >> 8;
}

static void add_bits(const float *v, nn_dim n)
{
    for (nn_dim i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &v[i], sizeof u);
        bits = (bits ^ u) * UINT64_C(0x100000001b3);
    }
}

static void check(nn_status s, const char *what)
{
    if (s == NN_OK) return;
    printf("%s: status %d\n", what, (int)s);
    exit(1);
}

int main(int argc, char **argv)
{
    const unsigned routines = NET_TRAIN | NET_PREDICT;
    net *m;
    nn_options options = { .seed = 5, .threads = argc > 1 ? atoi(argv[1]) : 1, .all_threads = 1 };
    if (net_bytes(routines) > sizeof memory) check(NN_ENOMEM, "memory");
    check(net_init(&m, memory, sizeof memory, routines, &options), "init");
    for (int step = 0; step < STEPS; step++) {
        net_train_out out;
        for (int i = 0; i < BATCH * SIZE; i++) x[i] = (float)draw() * 0x1p-24f - 0.3f;
        for (int i = 0; i < BATCH; i++) y[i] = (int32_t)(draw() % 10);
        check(net_train(m, BATCH - step, x, y, &out), "train");
        const float loss = (float)out.loss;
        printf("loss %.9g\n", (double)loss);
        add_bits(&loss, 1);
    }
    check(net_predict(m, BATCH, x, p), "predict");
    add_bits(p, BATCH * 10);
    for (int i = 0; i < BATCH * 10; i++) printf("p%d %.9g\n", i, (double)p[i]);
    for (int t = 0; t < (int)(sizeof net_tensors / sizeof *net_tensors); t++) {
        const nn_tensor *tensor = &net_tensors[t];
        if (tensor->count > (nn_dim)(sizeof values / sizeof *values)) check(NN_ENOMEM, tensor->name);
        check(net_get(m, t, values), tensor->name);
        add_bits(values, tensor->count);
        double plus = 0, square = 0;
        for (nn_dim i = 0; i < tensor->count; i++) {
            plus += (i % 3 ? 1 : -1) * (double)values[i];
            square += (double)values[i] * (double)values[i];
        }
        printf("%s.sum %.9g\n%s.square %.9g\n", tensor->name, plus, tensor->name, square);
    }
    printf("bits %016llx\n", (unsigned long long)bits);
    net_free(m);
    return 0;
}
