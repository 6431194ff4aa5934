/* SPDX-License-Identifier: MIT
 *
 * Runs every operator sample: gradients against central differences, products with the Hessian against differences
 * of gradients, the same bits from run to run, for any
 * number of threads and with a poisoned arena, and row by row the same as in a batch. Prints one line a check,
 * "ok ID WHAT" or "FAIL ID WHAT: DETAIL"; the exit code is 1 when one failed.
 */
#include "check_ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_DIFFERENCES = 160
}; /* elements of a tensor that are moved; larger tensors are sampled evenly */
static const double TOLERANCE = 1e-6;

static int failures;

static void verdict(const Case *c, int good, const char *what, const char *detail)
{
    if (good)
        printf("ok %s %s: %s\n", c->id, c->op, what);
    else
        printf("FAIL %s %s: %s: %s: %s\n", c->id, c->op, what, c->expr, detail);
    failures += !good;
}

static double draw(uint64_t seed, uint64_t i)
{
    uint64_t z = seed * 0x9E3779B97F4A7C15u + i * 0xD1342543DE82EF95u + 0x632BE59BD9B4E019u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

/* At least 0.15 away from 0, where many operators have a kink; no two values alike. */
static double operand_value(uint64_t seed, nn_dim i, int positive)
{
    const double u = draw(seed, (uint64_t)i);
    if (positive == 2) return 0.1 + 0.8 * u; /* a probability */
    if (positive) return 0.3 + 1.2 * u;
    return draw(seed + 77, (uint64_t)i) < 0.5 ? -0.15 - 1.2 * u : 0.15 + 1.2 * u;
}

static int is_positive(const Case *c, const char *name)
{
    if (!strcmp(c->positive, "unit")) return 2;
    if (!strcmp(c->positive, "*")) return 1;
    const size_t n = strlen(name);
    for (const char *p = c->positive; (p = strstr(p, name)) != NULL; p += n)
        if ((p == c->positive || p[-1] == ' ') && (p[n] == 0 || p[n] == ' ')) return 1;
    return 0;
}

static void *checked(void *p)
{
    if (!p) {
        fprintf(stderr, "check_ops: no memory\n");
        exit(4);
    }
    return p;
}

static size_t dtype_bytes(char t)
{
    return t == 'i' ? 4 : t == 'b' ? 1 : sizeof(double);
}

/* Everything one case runs on. */
typedef struct Bench {
    const Case *c;
    nn_model *m;
    void *in[CASE_MAX_IN];
    double *r;
    unsigned char *y;
    size_t y_bytes;
    int batch;
} Bench;

static void inputs_fill(Bench *b, int modulus)
{
    for (int k = 0; k < b->c->n_in; k++) {
        const CaseInput *in = &b->c->in[k];
        const nn_dim n = in->count * (in->batched ? b->batch : 1);
        for (nn_dim i = 0; i < n; i++) {
            const double u = draw(100 + (uint64_t)k, (uint64_t)i);
            if (in->dtype == 'i')
                ((int32_t *)b->in[k])[i] = (int32_t)(u * modulus);
            else if (in->dtype == 'b')
                ((unsigned char *)b->in[k])[i] = u < 0.5;
            else
                ((double *)b->in[k])[i] =
                    operand_value(100 + (uint64_t)k, i, is_positive(b->c, "*"));
        }
    }
}

static int bench_open(Bench *b, const Case *c, int threads, int batch)
{
    const nn_options options = { .seed = 5, .threads = threads, .all_threads = 1 };
    *b = (Bench){ .c = c, .batch = batch };
    b->m = c->make(&options);
    if (!b->m) return 0;
    for (int t = 0; t < b->m->info->n_tensors; t++) {
        const nn_tensor *x = &b->m->info->tensors[t];
        double *values = checked(malloc((size_t)(x->count + 1) * sizeof *values));
        for (nn_dim i = 0; i < x->count; i++)
            values[i] = operand_value(1000 + (uint64_t)t, i, is_positive(c, x->name));
        if (nn_model_set(b->m, t, values) != NN_OK) return 0;
        free(values);
    }
    for (int k = 0; k < c->n_in; k++)
        b->in[k] = checked(
            aligned_alloc(64, ((size_t)(c->in[k].count * (c->in[k].batched ? batch : 1) + 1) *
                                   dtype_bytes(c->in[k].dtype) +
                               63) /
                                  64 * 64));
    inputs_fill(b, 3);
    const nn_dim n = c->out_count * batch;
    b->r = checked(malloc((size_t)n * sizeof *b->r + 64));
    for (nn_dim i = 0; i < n; i++) b->r[i] = 0.5 + draw(9, (uint64_t)i);
    b->y_bytes = (size_t)n * dtype_bytes(c->out_dtype);
    b->y = checked(calloc(b->y_bytes + 64, 1));
    return 1;
}

static void bench_close(Bench *b)
{
    nn_model_free(b->m);
    for (int k = 0; k < b->c->n_in; k++) free(b->in[k]);
    free(b->r);
    free(b->y);
}

/* Same state of the object before every run, and nothing but NaN in its working memory. */
static void prepare(Bench *b)
{
    size_t arena = 0;
    for (int i = 0; i < b->m->info->n_routines; i++) {
        b->m->calls[i] = 0;
        b->m->grads_ready[i] = 0;
        if (b->m->info->routines[i].arena_bytes > arena)
            arena = b->m->info->routines[i].arena_bytes;
    }
    if (b->m->arena) memset(b->m->arena, 0xFF, arena);
}

static nn_status run_value(Bench *b)
{
    prepare(b);
    memset(b->y, 0xFF, b->y_bytes);
    return b->c->value(b->m, b->batch, (const void *const *)b->in, b->y);
}

static nn_status run_grad(Bench *b, double *loss)
{
    prepare(b);
    *loss = NAN;
    return b->c->grad(b->m, (const void *const *)b->in, b->r, loss);
}

/* All gradients of the model one after another, in canonical order. */
static double *gradients(Bench *b, nn_dim *count)
{
    *count = 0;
    for (int t = 0; t < b->m->info->n_tensors; t++) *count += b->m->info->tensors[t].count;
    double *g = checked(calloc((size_t)*count + 1, sizeof *g));
    nn_dim at = 0;
    for (int t = 0; t < b->m->info->n_tensors; t++) {
        if (b->m->info->tensors[t].trainable) nn_model_get_grad(b->m, t, g + at);
        at += b->m->info->tensors[t].count;
    }
    return g;
}

/* Integer operands may have a smaller range than 3. */
static nn_status settle_inputs(Bench *b)
{
    nn_status s = run_value(b);
    for (int modulus = 2; s == NN_EINDEX && modulus >= 1; modulus--) {
        inputs_fill(b, modulus);
        s = run_value(b);
    }
    return s;
}

static void check_finite(Bench *b)
{
    char detail[128] = "";
    int good = 1;
    if (b->c->out_dtype == 'f')
        for (size_t i = 0; i < b->y_bytes / sizeof(double) && good; i++) {
            const double v = ((double *)b->y)[i];
            good = isfinite(v);
            if (!good) snprintf(detail, sizeof detail, "element %zu is %g", i, v);
        }
    verdict(b->c, good, "finite", detail);
}

static void check_differences(Bench *b)
{
    double loss;
    if (run_grad(b, &loss) != NN_OK) {
        verdict(b->c, 0, "gradient", "the step failed");
        return;
    }
    nn_dim n, at = 0;
    double *g = gradients(b, &n);
    for (int t = 0; t < b->m->info->n_tensors; t++) {
        const nn_tensor *x = &b->m->info->tensors[t];
        char what[160], detail[160];
        snprintf(what, sizeof what, "gradient of %s", x->name);
        if (!x->trainable) {
            at += x->count;
            continue;
        }
        double *values = checked(malloc((size_t)x->count * sizeof *values + 8)), d2 = 0, n2 = 0;
        nn_model_get(b->m, t, values);
        const nn_dim stride = (x->count + MAX_DIFFERENCES - 1) / MAX_DIFFERENCES;
        nn_status s = NN_OK;
        for (nn_dim i = (stride - 1) / 2; i < x->count && s == NN_OK; i += stride) {
            const double v = values[i], eps = 1e-5 * fmax(1, fabs(v));
            double up, down;
            values[i] = v + eps;
            nn_model_set(b->m, t, values);
            s = run_grad(b, &up);
            values[i] = v - eps;
            nn_model_set(b->m, t, values);
            if (s == NN_OK) s = run_grad(b, &down);
            values[i] = v;
            if (s != NN_OK) break;
            const double d = (up - down) / (2 * eps) - g[at + i];
            d2 += d * d;
            n2 += g[at + i] * g[at + i];
        }
        nn_model_set(b->m, t, values);
        /* The differences themselves are exact to a few units of the loss's last place over eps. */
        const double distance = sqrt(d2),
                     allowed = TOLERANCE * sqrt(n2) + 1e-10 * fmax(1, fabs(loss));
        snprintf(detail, sizeof detail,
                 "%s, L2 distance from central differences %.3g, allowed %.3g, norm %.3g",
                 s == NN_OK ? "wrong" : nn_strerror(s), distance, allowed, sqrt(n2));
        verdict(b->c, s == NN_OK && distance <= allowed && isfinite(n2), what, detail);
        at += x->count;
        free(values);
    }
    free(g);
}

/* A direction over all trained elements, and w + step v. */
static double *direction(nn_dim n, uint64_t seed)
{
    double *v = checked(malloc((size_t)(n + 1) * sizeof *v));
    for (nn_dim i = 0; i < n; i++) v[i] = 2 * draw(seed, (uint64_t)i) - 1;
    return v;
}

static void move_by(Bench *b, double *const *values, const double *v, double step)
{
    for (int t = 0; t < b->m->info->n_tensors; t++) {
        const nn_tensor *x = &b->m->info->tensors[t];
        if (!x->trainable) continue;
        double *moved = checked(malloc((size_t)(x->count + 1) * sizeof *moved));
        for (nn_dim i = 0; i < x->count; i++) moved[i] = values[t][i] + step * v[i];
        nn_model_set(b->m, t, moved);
        free(moved);
        v += x->count;
    }
}

/* The gradient of the trained elements alone, one tensor after another: the order of a product's vectors. */
static double *trained_gradient(Bench *b, nn_dim *count)
{
    nn_dim at = 0, kept = 0;
    double *g = gradients(b, count);
    for (int t = 0; t < b->m->info->n_tensors; t++) {
        const nn_tensor *x = &b->m->info->tensors[t];
        if (x->trainable) memmove(g + kept, g + at, (size_t)x->count * sizeof *g);
        at += x->count;
        kept += x->trainable ? x->count : 0;
    }
    *count = kept;
    return g;
}

static nn_status run_product(Bench *b, const double *v, double *hv, nn_dim n)
{
    prepare(b);
    memset(hv, 0xFF, (size_t)n * sizeof *hv);
    return b->c->product(b->m, (const void *const *)b->in, b->r, v, hv);
}

/* H v against (g(w + e v) - g(w - e v)) / 2e along some directions v. */
static void check_product(Bench *b)
{
    enum { DIRECTIONS = 3 };
    const double eps = 1e-5;
    double loss, d2 = 0, n2 = 0, largest = 0;
    nn_dim n;
    free(trained_gradient(b, &n));
    double **values = checked(calloc((size_t)b->m->info->n_tensors + 1, sizeof *values));
    for (int t = 0; t < b->m->info->n_tensors; t++) {
        values[t] = checked(malloc((size_t)(b->m->info->tensors[t].count + 1) * sizeof **values));
        nn_model_get(b->m, t, values[t]);
    }
    double *hv = checked(malloc((size_t)(n + 1) * sizeof *hv));
    nn_status s = NN_OK;
    for (int k = 0; k < DIRECTIONS && s == NN_OK; k++) {
        double *v = direction(n, 500 + (uint64_t)k), *up = NULL, *down = NULL;
        s = run_product(b, v, hv, n);
        move_by(b, values, v, eps);
        if (s == NN_OK) s = run_grad(b, &loss);
        up = trained_gradient(b, &n);
        move_by(b, values, v, -eps);
        if (s == NN_OK) s = run_grad(b, &loss);
        down = trained_gradient(b, &n);
        move_by(b, values, v, 0);
        for (nn_dim i = 0; i < n; i++) {
            const double d = (up[i] - down[i]) / (2 * eps) - hv[i];
            d2 += d * d;
            n2 += hv[i] * hv[i];
            largest = fmax(largest, fabs(up[i]));
        }
        free(v);
        free(up);
        free(down);
    }
    char detail[160];
    /* The differences are exact to a few units of a gradient's last place over eps. */
    const double distance = sqrt(d2), allowed = TOLERANCE * sqrt(n2) + 1e-10 * fmax(1, largest);
    snprintf(detail, sizeof detail,
             "%s, L2 distance from differences of gradients %.3g, allowed %.3g, norm %.3g",
             s == NN_OK ? "wrong" : nn_strerror(s), distance, allowed, sqrt(n2));
    verdict(b->c, s == NN_OK && distance <= allowed && isfinite(n2), "product with the Hessian",
            detail);
    for (int t = 0; t < b->m->info->n_tensors; t++) free(values[t]);
    free(values);
    free(hv);
}

static void check_threads(Bench *b)
{
    unsigned char *y = checked(malloc(b->y_bytes + 1));
    run_value(b);
    memcpy(y, b->y, b->y_bytes);
    run_value(b);
    verdict(b->c, memcmp(y, b->y, b->y_bytes) == 0, "same bits twice",
            "a second run gave other bits");

    nn_dim n = 0;
    double loss = 0, *g = NULL, *v = NULL, *hv = NULL, *other_hv = NULL;
    if (b->c->grad && run_grad(b, &loss) == NN_OK) g = gradients(b, &n);
    if (g && b->c->product) {
        v = direction(n, 500);
        hv = checked(calloc((size_t)n + 1, sizeof *hv));
        other_hv = checked(calloc((size_t)n + 1, sizeof *hv));
        run_product(b, v, hv, n);
    }
    for (int threads = 2; threads <= 3; threads++) {
        Bench other;
        char what[64];
        snprintf(what, sizeof what, "same bits with %d threads", threads);
        if (!bench_open(&other, b->c, threads, b->batch)) {
            verdict(b->c, 0, what, "no object");
            continue;
        }
        for (int k = 0; k < b->c->n_in; k++)
            memcpy(other.in[k], b->in[k],
                   (size_t)(b->c->in[k].count * (b->c->in[k].batched ? b->batch : 1)) *
                       dtype_bytes(b->c->in[k].dtype));
        int good = run_value(&other) == NN_OK && memcmp(y, other.y, b->y_bytes) == 0;
        if (g) {
            double other_loss;
            nn_dim m;
            good &= run_grad(&other, &other_loss) == NN_OK &&
                    memcmp(&loss, &other_loss, sizeof loss) == 0;
            double *h = gradients(&other, &m);
            good &= m == n && memcmp(g, h, (size_t)n * sizeof *g) == 0;
            free(h);
        }
        if (hv)
            good &= run_product(&other, v, other_hv, n) == NN_OK &&
                    memcmp(hv, other_hv, (size_t)n * sizeof *hv) == 0;
        verdict(b->c, good, what, "value, loss, gradient or product differ from one thread");
        bench_close(&other);
    }
    free(g);
    free(v);
    free(hv);
    free(other_hv);
    free(y);
}

/* Batch 2 in one call against its two rows in calls of their own. */
static void check_batch(const Case *c)
{
    Bench two, one;
    if (!bench_open(&two, c, 1, 2) || settle_inputs(&two) != NN_OK || !bench_open(&one, c, 2, 1)) {
        verdict(c, 0, "batch 1 and 2", "the batched form does not run");
        return;
    }
    int good = 1;
    const size_t row = two.y_bytes / 2;
    for (int i = 0; i < (c->random ? 1 : 2); i++) {
        for (int k = 0; k < c->n_in; k++) {
            const size_t bytes = (size_t)c->in[k].count * dtype_bytes(c->in[k].dtype);
            memcpy(one.in[k], (char *)two.in[k] + (c->in[k].batched ? (size_t)i * bytes : 0),
                   bytes);
        }
        good &= run_value(&one) == NN_OK && memcmp(one.y, two.y + (size_t)i * row, row) == 0;
    }
    verdict(c, good, "batch 1 and 2", "a row depends on the rows beside it");
    bench_close(&one);
    bench_close(&two);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; cases[i]; i++) {
        const Case *c = cases[i];
        if (c->is_batch) {
            check_batch(c);
            continue;
        }
        Bench b;
        if (!bench_open(&b, c, 1, 1)) {
            verdict(c, 0, "object", "could not be made");
            continue;
        }
        const nn_status s = settle_inputs(&b);
        verdict(c, s == NN_OK, "runs", nn_strerror(s));
        if (s == NN_OK) {
            check_finite(&b);
            check_threads(&b);
            if (c->grad) check_differences(&b);
            if (c->product) check_product(&b);
        }
        bench_close(&b);
    }
    return failures ? 1 : 0;
}
