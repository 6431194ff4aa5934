/* SPDX-License-Identifier: MIT
 *
 * Times the routines of any model: MODEL train|infer BATCH THREADS WEIGHTS OUTPUT
 *
 * Linked with the C that `nnc --emit=harness` writes, in place of the library's harness: the tables of that file say
 * which routines there are and what they take. `train` runs every step of the model in turn, `infer` its first infer
 * routine. Inputs are drawn by the formula of tests/e2e/fill.c with seed 1, so that a peer can draw the same ones.
 *
 * Writes the initial weights to WEIGHTS (infer: reads them, if the file is there), runs three times, and prints the
 * losses; infer writes its outputs of one run to OUTPUT as raw numbers. Then each line of standard input that holds a
 * number asks for as many timed runs, and is answered by one line with their times. Training starts again from the
 * initial weights every RESTART runs: a network that has learnt its one batch by heart multiplies numbers too small
 * to be normal ones, which no real training does. At the end of the input: memory. Every line is a JSON object.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "nn_harness.h"

enum { N_FIRST = 3, RESTART = 15, MAX_PORTS = 8, SEED = 1 };

typedef struct Call { /* one routine with its data */
    const nn_harness_routine *r;
    void *in[MAX_PORTS], *out[MAX_PORTS];
    double scalars[MAX_PORTS]; /* of a step: its loss and metrics */
} Call;

typedef struct Bench {
    nn_model *m;
    Call call[NN_MAX_ROUTINES];
    int n_calls, batch, is_train;
    long runs; /* since the weights were the initial ones */
} Bench;

static void stop(int code, const char *what, const char *name)
{
    fprintf(stderr, "bench: %s%s%s\n", what, name ? ": " : "", name ? name : "");
    exit(code);
}

static void check(nn_status s)
{
    if (s != NN_OK) stop(1, nn_strerror(s), NULL);
}

static uint64_t mix64(uint64_t z)
{
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* In [0, 1). */
static double draw(uint64_t hash, uint64_t i)
{
    return (double)(mix64(hash + i) >> 40) * 0x1p-24;
}

static uint64_t hash_of(const char *name)
{
    char salted[160];
    uint64_t h = 0xCBF29CE484222325u;
    snprintf(salted, sizeof salted, "%d/%s", SEED, name);
    for (const char *s = salted; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001B3u;
    return h;
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static size_t port_count(const Bench *b, const nn_harness_port *p)
{
    nn_dim n = p->dim >= 0 ? b->batch : 1;
    for (int i = 0; i < p->rank; i++) n *= p->shape[i];
    return (size_t)n;
}

static void *port_alloc(const Bench *b, const nn_harness_port *p)
{
    const size_t bytes = port_count(b, p) * nn_dtype_size(p->dtype);
    void *x = aligned_alloc(64, (bytes + 64) / 64 * 64);
    if (!x) stop(4, "no memory for", p->name);
    return x;
}

/* Reals in [0, 1), what is called noise with mean 0 and variance 1; integers below the port's limit. */
static void *fill_input(const Bench *b, const nn_harness_port *p)
{
    const size_t n = port_count(b, p);
    const uint64_t h = hash_of(p->name);
    const int noise = !strcmp(p->name, "noise");
    void *x = port_alloc(b, p);
    for (size_t i = 0; i < n; i++) {
        const double u = draw(h, i), real = noise ? (u - 0.5) * 3.4641016151377544 : u;
        if (p->dtype == NN_F32)
            ((float *)x)[i] = (float)real;
        else if (p->dtype == NN_F64)
            ((double *)x)[i] = (double)(float)real;
        else if (p->dtype == NN_I32)
            ((int32_t *)x)[i] = (int32_t)(u * (double)(p->limit ? p->limit : 2));
        else
            stop(2, "the type of this input is not one the benchmark draws", p->name);
    }
    return x;
}

static void add_call(Bench *b, const nn_harness_routine *r)
{
    Call *c = &b->call[b->n_calls++];
    if (r->n_inputs > MAX_PORTS || r->n_outputs > MAX_PORTS)
        stop(2, "too many inputs or outputs", r->name);
    c->r = r;
    for (int i = 0; i < r->n_inputs; i++) c->in[i] = fill_input(b, &r->inputs[i]);
    if (r->is_step)
        c->out[0] = c->scalars;
    else
        for (int i = 0; i < r->n_outputs; i++) c->out[i] = port_alloc(b, &r->outputs[i]);
}

/* One training iteration or one inference. */
static void run_once(Bench *b)
{
    for (int i = 0; i < b->n_calls; i++) {
        Call *c = &b->call[i];
        check(c->r->run(b->m, &b->batch, (const void *const *)c->in, c->out));
    }
    b->runs++;
}

static void write_outputs(const Bench *b, const char *path)
{
    FILE *f = fopen(path, "wb");
    if (!f) stop(3, "cannot write", path);
    for (int i = 0; i < b->call[0].r->n_outputs; i++) {
        const nn_harness_port *p = &b->call[0].r->outputs[i];
        const size_t n = port_count(b, p);
        if (fwrite(b->call[0].out[i], nn_dtype_size(p->dtype), n, f) != n)
            stop(3, "cannot write", path);
    }
    if (fclose(f)) stop(3, "cannot write", path);
}

static void first_runs(Bench *b, const char *output)
{
    printf("{\"losses\": [");
    for (int k = 0; k < N_FIRST; k++) {
        run_once(b);
        for (int i = 0; b->is_train && i < b->n_calls; i++)
            printf("%s%.9g", k + i ? ", " : "", b->call[i].scalars[b->call[i].r->loss]);
    }
    printf("]}\n");
    if (!b->is_train) write_outputs(b, output);
    fflush(stdout);
}

static void timed_runs(Bench *b, long n)
{
    printf("{\"ms\": [");
    for (long i = 0; i < n; i++) {
        if (b->is_train && b->runs >= RESTART) {
            nn_model_reset(b->m, SEED);
            b->runs = 0;
        }
        const double t = now_ms();
        run_once(b);
        printf("%s%.6f", i ? ", " : "", now_ms() - t);
    }
    printf("]}\n");
    fflush(stdout);
}

/* Peak resident memory. getrusage() would count the memory of the program that started this one as well. */
static long peak_kib(void)
{
    char line[128];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1) break;
    if (f) fclose(f);
    return kib;
}

int nn_harness_main(int argc, char **argv, const nn_harness *h)
{
    if (argc != 6) {
        fprintf(stderr, "usage: MODEL train|infer BATCH THREADS WEIGHTS OUTPUT\n");
        return 2;
    }
    Bench b = { .is_train = !strcmp(argv[1], "train"), .batch = atoi(argv[2]) };
    unsigned bits = 0;
    for (int i = 0; i < h->info->n_routines; i++) {
        if (h->routines[i].is_step != b.is_train || (!b.is_train && bits)) continue;
        bits |= 1u << i;
        add_call(&b, &h->routines[i]);
    }
    if (!bits) stop(2, "the model has no routine of this kind", argv[1]);
    b.m = nn_model_new(h->info, bits, &(nn_options){ .seed = SEED, .threads = atoi(argv[3]) });
    if (!b.m) stop(4, "no memory or threads", NULL);
    if (b.is_train || access(argv[4], R_OK))
        check(nn_model_save(b.m, NN_WEIGHTS, argv[4]));
    else
        check(nn_model_load(b.m, NN_WEIGHTS, argv[4], NULL));
    first_runs(&b, argv[5]);

    char line[64];
    while (fgets(line, sizeof line, stdin)) timed_runs(&b, atol(line));

    printf("{\"rss_kib\": %ld, \"object_bytes\": %zu}\n", peak_kib(),
           nn_model_bytes(h->info, bits));
    for (int i = 0; i < b.n_calls; i++) {
        const nn_harness_routine *r = b.call[i].r;
        for (int k = 0; k < r->n_inputs; k++) free(b.call[i].in[k]);
        for (int k = 0; !r->is_step && k < r->n_outputs; k++) free(b.call[i].out[k]);
    }
    nn_model_free(b.m);
    return 0;
}
