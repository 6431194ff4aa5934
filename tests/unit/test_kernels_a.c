/* SPDX-License-Identifier: MIT
 *
 * Elementary functions, reductions, softmax, losses, random draws, copies, look-ups and optimizers against
 * plain loops in double precision, and at the edges (NaN, infinities, denormals, ties). What runs on a team
 * must give the same bits on one, two, three and five threads. test_kernels_a_f64.c builds this file in
 * double precision.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/copy.h"
#include "kernels/embedding.h"
#include "kernels/loss.h"
#include "kernels/math.h"
#include "kernels/optim.h"
#include "kernels/random.h"
#include "kernels/reduce.h"
#include "kernels/schedule.h"
#include "kernels/softmax.h"
#include "nn_threads.h"
#include "run_suite.h"

#ifdef NN_REAL_F64
static const double TOLERANCE = 1e-13;
#else
static const double TOLERANCE = 2e-6;
#endif

/* ---- helpers ---- */

static uint32_t seed = 7;

static double uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (double)(seed >> 8) / (1 << 23) - 1;
}

/* Exactly n elements, so that an address sanitizer sees any access outside. */
static nn_real *reals(nn_dim n)
{
    nn_real *x = malloc((size_t)(n ? n : 1) * sizeof *x);
    for (nn_dim i = 0; i < n; i++) x[i] = (nn_real)uniform();
    return x;
}

static nn_real *copy_of(const nn_real *x, nn_dim n)
{
    nn_real *y = malloc((size_t)(n ? n : 1) * sizeof *y);
    memcpy(y, x, (size_t)n * sizeof *y);
    return y;
}

/* Fails for NaN too. */
static void ck_near(double got, double want, double tolerance, const char *what, nn_dim i)
{
    ck_assert_msg(fabs(got - want) <= tolerance * (1 + fabs(want)),
                  "%s[%lld]: got %.17g, want %.17g", what, (long long)i, got, want);
}

#if defined(NN_NO_THREADS)
enum { N_TEAMS = 1 };
#else
enum { N_TEAMS = 4 };
#endif
static const int team_size[] = { 1, 2, 3, 5 };
static nn_pool *pool[N_TEAMS];

static void pools_start(void)
{
#if !defined(NN_NO_THREADS)
    for (int i = 0; i < N_TEAMS; i++) {
        pool[i] = nn_pool_new(team_size[i]);
        ck_assert_ptr_nonnull(pool[i]);
    }
#endif
}

static void pools_stop(void)
{
#if !defined(NN_NO_THREADS)
    for (int i = 0; i < N_TEAMS; i++) nn_pool_free(pool[i]);
#endif
}

/* Runs fn on every team size; `out` (n reals, `bytes` in all) must come out the same. */
static void same_on_all_teams(nn_team_fn fn, void *arg, void *out, size_t bytes, const char *what)
{
    void *first = malloc(bytes), *start = malloc(bytes);
    memcpy(start, out, bytes);
    for (int i = 0; i < N_TEAMS; i++) {
        memcpy(out, start, bytes);
        nn_pool_run(pool[i], fn, arg);
        if (i == 0)
            memcpy(first, out, bytes);
        else
            ck_assert_msg(memcmp(first, out, bytes) == 0, "%s: %d threads give other bits", what,
                          team_size[i]);
    }
    free(first);
    free(start);
}

/* ---- elementary functions ---- */

#ifndef NN_REAL_F64
/* Error in units of the last place of the true value. */
static double ulps(double want, float got)
{
    if (isnan(want)) return isnan(got) ? 0 : INFINITY;
    if (isinf((float)want) || isinf(got)) return (float)want == got ? 0 : INFINITY;
    int e = -125;
    if (fabs(want) >= 0x1p-126) frexp(want, &e);
    return fabs(want - (double)got) / ldexp(1, e - 24);
}

#ifndef ULP_STEP
#define ULP_STEP 4099 /* a prime: every exponent, both signs, NaNs; 1 (make ulp): all numbers */
#endif

typedef float (*Function)(float);
typedef double (*Reference)(double);

static void check_ulps(const char *what, Function f, Reference reference, double limit)
{
    double worst = 0;
    float at = 0;
    for (uint64_t i = 0; i <= UINT32_MAX; i += ULP_STEP) {
        const float x = nn_from_bits((uint32_t)i);
        const double e = ulps(reference((double)x), f(x));
        if (!(e <= worst)) {
            worst = e;
            at = x;
        }
    }
    for (int i = -200000; i <= 200000; i++) { /* where networks live */
        const float x = (float)i * 1e-4f;
        const double e = ulps(reference((double)x), f(x));
        if (!(e <= worst)) {
            worst = e;
            at = x;
        }
    }
    ck_assert_msg(worst <= limit, "%s: %.3f ulp at %a, limit %.2f", what, worst, (double)at, limit);
}

static float exp_f(float x)
{
    return nn_exp(x);
}
static float log_f(float x)
{
    return nn_log(x);
}
static float tanh_f(float x)
{
    return nn_tanh(x);
}
static float sigmoid_f(float x)
{
    return nn_sigmoid(x);
}
static float erf_f(float x)
{
    return nn_erf(x);
}
static float softplus_f(float x)
{
    return nn_softplus(x);
}
static double sigmoid_d(double x)
{
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}
static double softplus_d(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

START_TEST(functions_keep_their_stated_accuracy)
{
    check_ulps("exp", exp_f, exp, 1.1);
    check_ulps("log", log_f, log, 0.85);
    check_ulps("tanh", tanh_f, tanh, 1.4);
    check_ulps("sigmoid", sigmoid_f, sigmoid_d, 2.41);
    check_ulps("erf", erf_f, erf, 1.25);
    check_ulps("softplus", softplus_f, softplus_d, 2.0);
}
END_TEST
#else
START_TEST(functions_keep_their_stated_accuracy)
{
    for (int i = -4000; i <= 4000; i++) {
        const double x = i * 0.01;
        ck_near(nn_sigmoid(x), 1 / (1 + exp(-x)), 1e-15, "sigmoid", i);
        ck_near(nn_softplus(x), x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)), 1e-15, "softplus", i);
        ck_near(nn_tanh(x), tanh(x), 0, "tanh", i);
        ck_near(nn_erf(x), erf(x), 0, "erf", i);
    }
}
END_TEST
#endif

START_TEST(functions_at_the_edges)
{
    const nn_real nan = (nn_real)NAN, inf = NN_INF;
    ck_assert(isnan(nn_max(nan, 1)) && isnan(nn_max(1, nan)) && isnan(nn_min(nan, 1)) &&
              isnan(nn_min(1, nan)));
    ck_assert(nn_max(2, 1) == 2 && nn_max(1, 2) == 2 && nn_min(2, 1) == 1 && nn_min(1, 2) == 1);
    ck_assert(nn_exp(-inf) == 0 && nn_exp(inf) == inf && isnan(nn_exp(nan)) && nn_exp(0) == 1);
    ck_assert(nn_log(0) == -inf && nn_log(inf) == inf && isnan(nn_log(-1)) && isnan(nn_log(nan)) &&
              nn_log(1) == 0);
    ck_assert(nn_tanh(inf) == 1 && nn_tanh(-inf) == -1 && isnan(nn_tanh(nan)) && nn_tanh(0) == 0);
    ck_assert(signbit(nn_tanh(NN_R(-0.0))) != 0);
    ck_assert(nn_sigmoid(inf) == 1 && nn_sigmoid(-inf) == 0 && nn_sigmoid(0) == NN_R(0.5) &&
              isnan(nn_sigmoid(nan)));
    ck_assert(nn_softplus(inf) == inf && nn_softplus(-inf) == 0 && isnan(nn_softplus(nan)));
    ck_assert(nn_sign(-3) == -1 && nn_sign(0) == 0 && nn_sign(2) == 1 && nn_sign(nan) == 0);
    ck_assert(nn_gelu_none(0) == 0 && nn_gelu_tanh(0) == 0 && isnan(nn_gelu_none(nan)) &&
              isnan(nn_gelu_tanh(nan)));
    ck_assert(nn_gelu_dx_tanh(NN_R(1e20)) == 1 && nn_gelu_dx_tanh(NN_R(-1e20)) == 0);
    ck_assert(nn_gelu_dx_none(NN_R(1e20)) == 1 && nn_gelu_dx_none(NN_R(-1e20)) == 0);
    ck_assert(nn_bce_with_logits(NN_R(1e30), 1) == 0 && nn_bce_with_logits(NN_R(-1e30), 0) == 0);
    ck_assert(nn_bce_with_logits(NN_R(1e30), 0) == NN_R(1e30) &&
              nn_bce_with_logits(NN_R(-1e30), 1) == NN_R(1e30));
    ck_assert_int_eq(nn_cast_i32((nn_real)2.9), 2);
    ck_assert_int_eq(nn_cast_i32((nn_real)-2.9), -2);
    ck_assert_int_eq(nn_cast_i32((nn_real)1e20), INT32_MAX);
    ck_assert_int_eq(nn_cast_i32((nn_real)-1e20), INT32_MIN);
    ck_assert_int_eq(nn_cast_i32(nan), 0);
    ck_assert_int_eq(nn_cast_i32((unsigned char)1), 1);
    ck_assert_int_eq(nn_cast_i32((int32_t)16777217), 16777217);
    ck_assert(nn_cast_bool(nan) && nn_cast_bool(-1) && !nn_cast_bool(NN_R(0.0)));
    for (int i = -60; i <= 60; i++) {
        const double x = i * 0.1, u = sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x),
                     phi = 0.5 * (1 + erf(x / sqrt(2)));
        ck_near((double)nn_gelu_none((nn_real)x), x * phi, TOLERANCE, "gelu", i);
        ck_near((double)nn_gelu_tanh((nn_real)x), 0.5 * x * (1 + tanh(u)), TOLERANCE, "gelu tanh",
                i);
        ck_near((double)nn_gelu_dx_none((nn_real)x),
                phi + x * exp(-x * x / 2) / sqrt(2 * acos(-1.0)), TOLERANCE, "gelu_dx", i);
        const double h = 1e-6, v = sqrt(2 / acos(-1.0)) * (x + h + 0.044715 * pow(x + h, 3)),
                     t = sqrt(2 / acos(-1.0)) * (x - h + 0.044715 * pow(x - h, 3));
        const double slope =
            (0.5 * (x + h) * (1 + tanh(v)) - 0.5 * (x - h) * (1 + tanh(t))) / (2 * h);
        ck_near((double)nn_gelu_dx_tanh((nn_real)x), slope, 1e-6, "gelu_dx tanh", i);
    }
}
END_TEST

/* ---- reductions ---- */

typedef struct ReduceCase {
    nn_groups g;
    nn_dim chunks;
    const nn_real *x;
    nn_real *scratch, *y;
    int kind, acc;
} ReduceCase;

static void reduce_body(void *arg, const nn_team *team)
{
    const ReduceCase *c = arg;
    if (c->kind == NN_REDUCE_SUM)
        nn_sum_team(team, c->g, c->chunks, c->x, 0.5, c->scratch, c->y, c->acc);
    else if (c->kind == NN_REDUCE_VAR)
        nn_var_team(team, c->g, c->x, 1, c->y);
    else
        nn_extreme_team(team, c->kind == NN_REDUCE_MAX, c->g, c->chunks, c->x, c->scratch, c->y);
}

static nn_reduction general(nn_groups g)
{
    const nn_dim s1 = g.r1 * g.k2, s0 = g.k1 * s1;
    return (nn_reduction){ { 1, 1, 1, 1, 1, g.k0, g.k1, g.k2 },
                           { 0, 0, 0, 0, 0, g.r0 * s0, s1, 1 },
                           { 0, 0, 0, 0, 0, g.k1 * g.k2, g.k2, 1 },
                           { 1, 1, 1, 1, 1, 1, g.r0, g.r1 },
                           { 0, 0, 0, 0, 0, 0, s0, g.k2 } };
}

static void check_reduce(nn_groups g)
{
    const nn_dim s1 = g.r1 * g.k2, s0 = g.k1 * s1, n = g.k0 * g.r0 * s0, out = g.k0 * g.k1 * g.k2,
                 count = g.r0 * g.r1;
    nn_real *x = reals(n), *sum = reals(out), *var = reals(out), *max = reals(out),
            *min = reals(out);
    nn_real *start = copy_of(sum, out), *any = reals(out);
    nn_sum(g, x, 0.5, sum, 1);
    if (count > 1) nn_var(g, x, 1, var);
    nn_extreme(1, g, x, max);
    nn_extreme(0, g, x, min);
    for (nn_dim i0 = 0; i0 < g.k0; i0++)
        for (nn_dim i1 = 0; i1 < g.k1; i1++)
            for (nn_dim i2 = 0; i2 < g.k2; i2++) {
                const nn_dim at = (i0 * g.k1 + i1) * g.k2 + i2;
                const nn_real *p = x + i0 * g.r0 * s0 + i1 * s1 + i2;
                double s = 0, q = 0, hi = -INFINITY, lo = INFINITY;
                for (nn_dim r = 0; r < g.r0; r++)
                    for (nn_dim u = 0; u < g.r1; u++) {
                        const double v = (double)p[r * s0 + u * g.k2];
                        s += v;
                        hi = fmax(hi, v);
                        lo = fmin(lo, v);
                    }
                for (nn_dim r = 0; r < g.r0; r++)
                    for (nn_dim u = 0; u < g.r1; u++)
                        q += pow((double)p[r * s0 + u * g.k2] - s / (double)count, 2);
                ck_near((double)sum[at], (double)start[at] + 0.5 * s, TOLERANCE * 4, "sum", at);
                if (count > 1)
                    ck_near((double)var[at], q / (double)(count - 1), TOLERANCE * 4, "var", at);
                ck_near((double)max[at], hi, 0, "max", at);
                ck_near((double)min[at], lo, 0, "min", at);
            }
    nn_reduce_any(NN_REDUCE_MAX, general(g), 0, out, x, 0, any, 0);
    ck_assert_mem_eq(any, max, (size_t)out * sizeof *any);
    nn_reduce_any(NN_REDUCE_MIN, general(g), 0, out, x, 0, any, 0);
    ck_assert_mem_eq(any, min, (size_t)out * sizeof *any);
    memcpy(any, start, (size_t)out * sizeof *any);
    nn_reduce_any(NN_REDUCE_SUM, general(g), 0, out, x, 0.5, any, 1);
    for (nn_dim i = 0; i < out; i++)
        ck_near((double)any[i], (double)sum[i], TOLERANCE * 4, "general sum", i);
    if (count > 1) {
        nn_reduce_any(NN_REDUCE_VAR, general(g), 0, out, x, 1, any, 0);
        for (nn_dim i = 0; i < out; i++)
            ck_near((double)any[i], (double)var[i], TOLERANCE * 4, "general var", i);
    }
    if (g.k0 == 1) {
        for (nn_dim chunks = 1; chunks <= 16; chunks += 15) {
            nn_real *scratch = reals(2 * chunks * out), *y = copy_of(start, out);
            ReduceCase c = { g, chunks, x, scratch, y, NN_REDUCE_SUM, 1 };
            same_on_all_teams(reduce_body, &c, y, (size_t)out * sizeof *y, "sum over the batch");
            for (nn_dim i = 0; i < out; i++)
                ck_near((double)y[i], (double)sum[i], TOLERANCE * 4, "team sum", i);
            c.kind = NN_REDUCE_MAX;
            same_on_all_teams(reduce_body, &c, y, (size_t)out * sizeof *y, "max over the batch");
            ck_assert_mem_eq(y, max, (size_t)out * sizeof *y);
            c.kind = NN_REDUCE_MIN;
            same_on_all_teams(reduce_body, &c, y, (size_t)out * sizeof *y, "min over the batch");
            ck_assert_mem_eq(y, min, (size_t)out * sizeof *y);
            c.kind = NN_REDUCE_VAR;
            if (count > 1) {
                same_on_all_teams(reduce_body, &c, y, (size_t)out * sizeof *y,
                                  "var over the batch");
                ck_assert_mem_eq(y, var, (size_t)out * sizeof *y);
            }
            free(scratch);
            free(y);
        }
    }
    free(x);
    free(sum);
    free(var);
    free(max);
    free(min);
    free(start);
    free(any);
}

START_TEST(reductions_match_plain_loops)
{
    static const nn_groups cases[] = {
        { 1, 1, 1, 1, 1 },    { 3, 7, 1, 1, 1 },    { 5, 129, 1, 1, 1 },  { 1, 20011, 1, 1, 1 },
        { 2, 5, 1, 1, 3 },    { 2, 301, 1, 1, 67 }, { 1, 64, 1, 1, 130 }, { 3, 4, 5, 6, 7 },
        { 1, 9, 4, 11, 1 },   { 1, 3, 2, 1, 16 },   { 1, 600, 1, 1, 10 }, { 2, 2, 3, 70, 65 },
        { 1, 33, 17, 2, 33 }, { 1, 2, 1, 5, 64 },   { 7, 1, 1, 1, 3 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_reduce(cases[i]);
}
END_TEST

START_TEST(extremes_keep_nan_and_argmax_takes_the_first)
{
    const nn_real nan = (nn_real)NAN;
    const nn_real x[12] = { 1, 5, 5, 2, nan, 7, 3, nan, -1, -2, -1, -3 };
    nn_real y[3];
    int32_t at[4];
    nn_extreme(1, (nn_groups){ 3, 4, 1, 1, 1 }, x, y);
    ck_assert(y[0] == 5 && isnan(y[1]) && y[2] == -1);
    nn_extreme(0, (nn_groups){ 3, 4, 1, 1, 1 }, x, y);
    ck_assert(y[0] == 1 && isnan(y[1]) && y[2] == -3);
    nn_argmax(3, 4, 1, x, at);
    ck_assert(at[0] == 1 && at[1] == 0 && at[2] == 0);
    nn_argmax(1, 3, 4, x, at);
    ck_assert(at[0] == 1 && at[1] == 1 && at[2] == 0 && at[3] == 1);
}
END_TEST

/* ---- softmax and losses ---- */

static void check_softmax(nn_dim outer, nn_dim n, nn_dim inner, double size)
{
    const nn_dim all = outer * n * inner;
    nn_real *x = reals(all), *y = reals(all), *l = reals(all), *dy = reals(all), *dx = reals(all),
            *dl = reals(all);
    for (nn_dim i = 0; i < all; i++) x[i] *= (nn_real)size;
    nn_softmax(outer, n, inner, x, y);
    nn_log_softmax(outer, n, inner, x, l);
    nn_softmax_dx(outer, n, inner, dy, y, dx);
    nn_log_softmax_dx(outer, n, inner, dy, l, dl);
    for (nn_dim o = 0; o < outer; o++)
        for (nn_dim j = 0; j < inner; j++) {
            double m = -INFINITY, sum = 0, dot = 0, total = 0;
            const nn_dim base = o * n * inner + j;
            for (nn_dim i = 0; i < n; i++) m = fmax(m, (double)x[base + i * inner]);
            for (nn_dim i = 0; i < n; i++) sum += exp((double)x[base + i * inner] - m);
            for (nn_dim i = 0; i < n; i++) {
                dot += (double)dy[base + i * inner] * exp((double)x[base + i * inner] - m) / sum;
                total += (double)dy[base + i * inner];
            }
            for (nn_dim i = 0; i < n; i++) {
                const nn_dim at = base + i * inner;
                const double p = exp((double)x[at] - m) / sum;
                ck_near((double)y[at], p, TOLERANCE, "softmax", at);
                ck_near((double)l[at], (double)x[at] - m - log(sum), TOLERANCE, "log_softmax", at);
                ck_near((double)dx[at], p * ((double)dy[at] - dot), TOLERANCE * 4, "softmax_dx",
                        at);
                ck_near((double)dl[at], (double)dy[at] - p * total, TOLERANCE * 8, "log_softmax_dx",
                        at);
            }
        }
    nn_softmax(outer, n, inner, x, x); /* in place */
    ck_assert_mem_eq(x, y, (size_t)all * sizeof *x);
    free(x);
    free(y);
    free(l);
    free(dy);
    free(dx);
    free(dl);
}

START_TEST(softmax_matches_plain_loops)
{
    check_softmax(3, 10, 1, 5);
    check_softmax(5, 1, 1, 5);
    check_softmax(2, 301, 1, 20);
    check_softmax(2, 7, 3, 5);
    check_softmax(1, 5, 131, 5);
    check_softmax(2, 3, 64, 1000);
}
END_TEST

/* Positions (p, q) of one sample in canonical order [n][p][q] or channels last [p][q][n]. */
static nn_classes classes(nn_dim n, nn_dim pn, nn_dim qn, int last)
{
    return last ? (nn_classes){ n, 1, pn, qn * n, qn, qn, n, 1 }
                : (nn_classes){ n, pn * qn, pn, qn, qn, qn, 1, 1 };
}

static void check_cross_entropy(nn_dim rows, nn_dim n, nn_dim pn, nn_dim qn, int last, double s)
{
    const nn_classes k = classes(n, pn, qn, last);
    const nn_dim positions = pn * qn, all = rows * n * positions;
    nn_real *z = reals(all), *dz = reals(all), *soft = reals(all), *dsoft = reals(all);
    nn_real *loss = reals(rows * positions), *dl = reals(rows * positions),
            *soft_loss = reals(rows * positions);
    int32_t *t = malloc((size_t)(rows * positions) * sizeof *t);
    for (nn_dim i = 0; i < all; i++) z[i] *= 10;
    for (nn_dim i = 0; i < rows * positions; i++) t[i] = i % 5 == 3 ? -7 : (int32_t)((i * 31) % n);
    nn_cross_entropy(rows, k, z, t, (nn_real)s, -7, loss);
    nn_cross_entropy_dx(rows, k, dl, z, t, (nn_real)s, -7, dz);
    nn_cross_entropy_soft(rows, k, z, soft, (nn_real)s, soft_loss);
    nn_cross_entropy_soft_dx(rows, k, dl, z, soft, (nn_real)s, dsoft);
    for (nn_dim b = 0; b < rows; b++)
        for (nn_dim p = 0; p < pn; p++)
            for (nn_dim q = 0; q < qn; q++) {
                const nn_dim base = b * n * positions + p * k.pz + q * k.qz,
                             at = b * positions + p * qn + q;
                double m = -INFINITY, sum = 0, index = 0, dist = 0, weights = 0;
                for (nn_dim c = 0; c < n; c++) m = fmax(m, (double)z[base + c * k.stride]);
                for (nn_dim c = 0; c < n; c++) sum += exp((double)z[base + c * k.stride] - m);
                for (nn_dim c = 0; c < n; c++) {
                    const double nll = m + log(sum) - (double)z[base + c * k.stride];
                    const double w = (1 - s) * (double)soft[base + c * k.stride] + s / (double)n;
                    index += ((c == t[at]) * (1 - s) + s / (double)n) * nll;
                    dist += w * nll;
                    weights += w;
                }
                ck_near((double)loss[at], t[at] == -7 ? 0 : index, TOLERANCE * 4, "loss", at);
                ck_near((double)soft_loss[at], dist, TOLERANCE * 8, "soft loss", at);
                for (nn_dim c = 0; c < n; c++) {
                    const double prob = exp((double)z[base + c * k.stride] - m) / sum;
                    const double w = (1 - s) * (double)soft[base + c * k.stride] + s / (double)n;
                    const double d =
                        t[at] == -7 ? 0 : prob - (c == t[at]) * (1 - s) - s / (double)n;
                    ck_near((double)dz[base + c * k.stride], (double)dl[at] * d, TOLERANCE, "dz",
                            at);
                    ck_near((double)dsoft[base + c * k.stride],
                            (double)dl[at] * (prob * weights - w), TOLERANCE * 4, "soft dz", at);
                }
            }
    free(z);
    free(dz);
    free(soft);
    free(dsoft);
    free(loss);
    free(dl);
    free(soft_loss);
    free(t);
}

START_TEST(cross_entropy_matches_plain_loops)
{
    for (int last = 0; last < 2; last++) {
        check_cross_entropy(5, 10, 1, 1, last, 0);
        check_cross_entropy(7, 3, 1, 1, last, 0.1);
        check_cross_entropy(2, 5, 3, 4, last, 0);
        check_cross_entropy(2, 130, 2, 1, last, 0.3);
        check_cross_entropy(3, 1, 1, 2, last, 0.5);
    }
}
END_TEST

START_TEST(cross_entropy_of_extreme_logits_is_exact)
{
    const nn_classes k = classes(3, 1, 1, 1);
    const nn_real z[6] = { NN_R(1e30), NN_R(-1e30), 0, NN_R(-1e30), NN_R(-1e30), NN_R(-1e30) };
    const int32_t first[2] = { 0, 1 }, second[2] = { 1, 2 }, wrong[2] = { 3, -5 };
    const nn_real dl[2] = { 1, 1 };
    nn_real loss[2], dz[6];
    nn_cross_entropy(2, k, z, first, 0, -100, loss);
    ck_assert(loss[0] == 0);
    ck_near((double)loss[1], log(3), TOLERANCE, "loss", 1);
    nn_cross_entropy(2, k, z, second, 0, -100, loss);
    ck_assert(loss[0] == NN_R(1e30) - NN_R(-1e30));
    nn_cross_entropy_dx(2, k, dl, z, second, 0, -100, dz);
    ck_assert(dz[0] == 1 && dz[1] == -1 && dz[2] == 0);
    nn_cross_entropy(2, k, z, wrong, 0, -100, loss);
    ck_assert(isnan(loss[0]) && isnan(loss[1]));
}
END_TEST

/* ---- random draws ---- */

START_TEST(draws_depend_on_key_and_index_alone)
{
    enum { N = 1003 };
    const nn_key key = nn_key_make(42, 1, 2, 3), other = nn_key_make(42, 1, 2, 4);
    nn_real whole[N], part[N];
    for (int kind = 0; kind < 3; kind++) {
        for (nn_dim from = 0; from < N; from += 97) {
            const nn_dim n = nn_min_dim(97, N - from);
            if (kind == 0)
                nn_rand(key, from, n, part + from);
            else if (kind == 1)
                nn_randn(key, from, n, part + from);
            else
                nn_bernoulli(key, from, n, 0.3, part + from);
        }
        if (kind == 0)
            nn_rand(key, 0, N, whole);
        else if (kind == 1)
            nn_randn(key, 0, N, whole);
        else
            nn_bernoulli(key, 0, N, 0.3, whole);
        ck_assert_mem_eq(whole, part, sizeof whole);
    }
    nn_rand(key, 0, N, whole);
    nn_rand(other, 0, N, part);
    ck_assert(memcmp(whole, part, sizeof whole) != 0);
}
END_TEST

START_TEST(draws_have_their_distribution)
{
    enum { N = 200000 };
    const nn_key key = nn_key_make(1, 0, 1, 0);
    nn_real *x = reals(N);
    double sum = 0, square = 0, fourth = 0, lag = 0;
    nn_rand(key, 0, N, x);
    for (int i = 0; i < N; i++) {
        ck_assert(x[i] >= 0 && x[i] < 1);
        sum += (double)x[i];
    }
    ck_assert(fabs(sum / N - 0.5) < 4 * sqrt(1.0 / 12 / N));
    sum = 0;
    nn_randn(key, 0, N, x);
    for (int i = 0; i < N; i++) {
        const double v = (double)x[i];
        sum += v;
        square += v * v;
        fourth += v * v * v * v;
        lag += i ? v * (double)x[i - 1] : 0;
    }
    ck_assert(fabs(sum / N) < 4 / sqrt(N));
    ck_assert(fabs(square / N - 1) < 4 * sqrt(2.0 / N));
    ck_assert(fabs(fourth / N - 3) < 4 * sqrt(96.0 / N));
    ck_assert(fabs(lag / N) < 4 / sqrt(N));
    /* Box and Muller with libm on the same words. */
    for (int i = 0; i < 1000; i += 2) {
        const double r = sqrt(-2 * log(((double)nn_word(key, i) + 1) / 4294967296.0));
        const double a = 2 * acos(-1.0) * (double)nn_word(key, i + 1) / 4294967296.0;
        ck_near((double)x[i], r * cos(a), NN_REAL_BYTES == 8 ? 1e-14 : 6e-8, "normal", i);
        ck_near((double)x[i + 1], r * sin(a), NN_REAL_BYTES == 8 ? 1e-14 : 6e-8, "normal", i + 1);
    }
    nn_real pair[2];
    nn_normal_pair(UINT32_MAX, 0, &pair[0], &pair[1]); /* u = 1 */
    ck_assert(pair[0] == 0 && pair[1] == 0);
    nn_bernoulli(key, 0, N, 0.3, x);
    sum = 0;
    for (int i = 0; i < N; i++) sum += (double)x[i];
    ck_assert(fabs(sum / N - 0.3) < 4 * sqrt(0.21 / N));
    nn_bernoulli(key, 0, N, 1, x);
    for (int i = 0; i < N; i++) ck_assert(x[i] == 1);
    free(x);
}
END_TEST

START_TEST(dropout_is_the_same_in_any_layout)
{
    enum { B = 3, C = 5, S = 7, N = B * C * S };
    const nn_key key = nn_key_make(9, 0, 4, 1);
    nn_real x[N], y[N], last[N], out[N];
    for (int b = 0; b < B; b++)
        for (int c = 0; c < C; c++)
            for (int s = 0; s < S; s++) {
                x[(b * C + c) * S + s] = (nn_real)(1 + (b * C + c) * S + s);
                last[(b * S + s) * C + c] = x[(b * C + c) * S + s];
            }
    nn_dropout(key, 0, N, 0.25, x, y);
    nn_dropout_channels_last(key, 0, 1, C, S, 0.25, last, out);
    nn_dropout_channels_last(key, 1, B - 1, C, S, 0.25, last + C * S, out + C * S);
    int dropped = 0;
    for (int b = 0; b < B; b++)
        for (int c = 0; c < C; c++)
            for (int s = 0; s < S; s++) {
                const nn_real v = y[(b * C + c) * S + s];
                ck_assert(v == 0 || v == x[(b * C + c) * S + s] * (nn_real)(1 / 0.75));
                ck_assert(v == out[(b * S + s) * C + c]);
                dropped += v == 0;
            }
    ck_assert(dropped > 5 && dropped < 60);
    nn_dropout(key, 0, N, 1, x, y);
    for (int i = 0; i < N; i++) ck_assert(y[i] == 0);
    nn_dropout(key, 0, N, 0, x, y);
    ck_assert_mem_eq(x, y, sizeof x);
}
END_TEST

START_TEST(moving_samples_and_back_is_the_adjoint)
{
    enum { B = 40, C = 2, H = 5, W = 4, N = B * C * H * W };
    const nn_key key = nn_key_make(5, 0, 3, 0);
    nn_real x[N], g[N], y[N], d[N];
    for (int i = 0; i < N; i++) {
        x[i] = (nn_real)uniform();
        g[i] = (nn_real)uniform();
    }
    nn_random_crop(key, 0, B, 2, 1, C, H, W, 1, x, y);
    nn_random_crop(key, 0, B, 2, -1, C, H, W, 1, g, d);
    double forward = 0, backward = 0;
    int moved = 0;
    for (int i = 0; i < N; i++) {
        forward += (double)y[i] * (double)g[i];
        backward += (double)x[i] * (double)d[i];
        moved += y[i] != x[i];
    }
    ck_near(forward, backward, TOLERANCE, "adjoint", 0);
    ck_assert(moved > N / 2);
    nn_random_flip(key, 0, B, C * H, W, 1, x, y);
    nn_random_flip(key, 0, B / 2, C * H, W, 1, y, d);
    nn_random_flip(key, B / 2, B - B / 2, C * H, W, 1, y + N / 2, d + N / 2);
    ck_assert_mem_eq(x, d, sizeof x);
    ck_assert(memcmp(x, y, sizeof x) != 0);
    nn_random_crop(key, 0, B, 0, 1, C, H, W, 1, x, y); /* nowhere to go */
    ck_assert_mem_eq(x, y, sizeof x);
}
END_TEST

/* ---- copies and look-ups ---- */

typedef struct CopyCase {
    nn_box box;
    const nn_real *x;
    nn_real *y;
} CopyCase;

static void copy_body(void *arg, const nn_team *team)
{
    const CopyCase *c = arg;
    nn_copy_team(team, sizeof(nn_real), c->box, c->x, c->y);
}

enum { N0 = 3, N1 = 4, N2 = 5, N3 = 7, N = N0 * N1 * N2 * N3 };

static void permute_body(void *arg, const nn_team *team)
{
    const CopyCase *c = arg;
    nn_permute4_team(team, N0, N2, N3, N1, c->x, N1 * N2 * N3, N3, 1, N2 * N3, c->y);
}

START_TEST(copies_follow_their_strides)
{
    nn_real *x = reals(N), *y = reals(N), *z = reals(N);
    nn_permute4(N0, N2, N3, N1, x, N1 * N2 * N3, N3, 1, N2 * N3, y);
    for (int a = 0; a < N0; a++)
        for (int b = 0; b < N1; b++)
            for (int c = 0; c < N2; c++)
                for (int d = 0; d < N3; d++)
                    ck_assert(y[((a * N2 + c) * N3 + d) * N1 + b] ==
                              x[((a * N1 + b) * N2 + c) * N3 + d]);
    nn_permute4(N0, N1, N2, N3, y, N1 * N2 * N3, 1, N3 * N1, N1, z);
    ck_assert_mem_eq(x, z, N * sizeof *x);
    CopyCase lines = { .x = x, .y = z };
    memset(z, 0, N * sizeof *z);
    same_on_all_teams(permute_body, &lines, z, N * sizeof *z, "permute");
    ck_assert_mem_eq(y, z, N * sizeof *y);
    /* Every other column of the middle rows; the team divides the lines. */
    CopyCase c = {
        { { N0, 1, 1, 1, 2, 4 }, { N1 * N2 * N3, 0, 0, 0, N3, 2 }, { 8, 0, 0, 0, 4, 1 } }, x + N3, y
    };
    memset(y, 0, N * sizeof *y);
    same_on_all_teams(copy_body, &c, y, N * sizeof *y, "copy");
    for (int a = 0; a < N0; a++)
        for (int b = 0; b < 2; b++)
            for (int d = 0; d < 4; d++)
                ck_assert(y[a * 8 + b * 4 + d] == x[a * N1 * N2 * N3 + (b + 1) * N3 + 2 * d]);
    for (int i = 8 * N0; i < N; i++) ck_assert(y[i] == 0);
    /* One line, of which each thread copies a part. */
    CopyCase one = { { { 1, 1, 1, 1, 1, N }, { 0, 0, 0, 0, 0, 1 }, { 0, 0, 0, 0, 0, 1 } }, x, y };
    memset(y, 0, N * sizeof *y);
    same_on_all_teams(copy_body, &one, y, N * sizeof *y, "copy of a line");
    ck_assert_mem_eq(x, y, N * sizeof *y);
    free(x);
    free(y);
    free(z);
}
END_TEST

typedef struct ScatterCase {
    nn_dim outer, n, inner, count;
    const nn_real *dy;
    const int32_t *ids;
    nn_real *dx;
    int acc;
} ScatterCase;

static void scatter_body(void *arg, const nn_team *team)
{
    const ScatterCase *c = arg;
    nn_scatter_add(team, c->outer, c->n, c->inner, c->count, c->dy, c->ids, c->dx, c->acc);
}

START_TEST(scatter_is_the_adjoint_of_gather)
{
    enum {
        OUTER = 2,
        ROWS = 5,
        INNER = 3,
        COUNT = 11,
        NX = OUTER * ROWS * INNER,
        NY = OUTER * COUNT * INNER
    };
    nn_real *x = reals(NX), *dy = reals(NY), *y = reals(NY), *dx = reals(NX),
            *start = copy_of(dx, NX);
    int32_t ids[COUNT];
    for (int i = 0; i < COUNT; i++) ids[i] = i * 3 % 4;
    nn_gather(OUTER, ROWS, INNER, COUNT, sizeof *x, x, ids, y);
    for (int acc = 0; acc < 2; acc++) {
        ScatterCase c = { OUTER, ROWS, INNER, COUNT, dy, ids, dx, acc };
        memcpy(dx, start, NX * sizeof *dx);
        same_on_all_teams(scatter_body, &c, dx, NX * sizeof *dx, "scatter");
        double forward = 0, backward = 0;
        for (int i = 0; i < NY; i++) forward += (double)y[i] * (double)dy[i];
        for (int i = 0; i < NX; i++)
            backward += (double)x[i] * ((double)dx[i] - (acc ? (double)start[i] : 0));
        ck_near(forward, backward, TOLERANCE, "adjoint", acc);
    }
    const int32_t outside[2] = { -3, 99 };
    nn_gather(1, ROWS, INNER, 2, sizeof *x, x, outside, y);
    ck_assert(y[0] == x[0] && y[INNER] == x[(ROWS - 1) * INNER]);
    nn_real hot[2 * ROWS];
    const int32_t some[2] = { 2, 7 };
    nn_one_hot(2, ROWS, some, hot);
    for (int i = 0; i < 2 * ROWS; i++) ck_assert(hot[i] == (i == 2));
    free(x);
    free(dy);
    free(y);
    free(dx);
    free(start);
}
END_TEST

/* ---- optimizers and schedules ---- */

enum { OPT_N = 131, OPT_STEPS = 20 };

static void optim_step(int kind, nn_dim n, nn_real *w, const nn_real *g, nn_real *a, nn_real *b,
                       int64_t t)
{
    switch (kind) {
    case 0: nn_sgd(n, w, g, a, 0.1, 0.9, 0, 0.01); break;
    case 1: nn_sgd(n, w, g, a, 0.1, 0.9, 1, 0.01); break;
    case 2: nn_adam(n, w, g, a, b, 1e-2, 0.9, 0.999, 1e-8, 0.01, t); break;
    case 3: nn_adamw(n, w, g, a, b, 1e-2, 0.9, 0.999, 1e-8, 0.1, t); break;
    case 4: nn_rmsprop(n, w, g, a, b, NULL, 1e-2, 0.99, 1e-8, 0.5, 0.01); break;
    default: nn_adagrad(n, w, g, a, 1e-2, 1e-10, 0.01); break;
    }
}

/* The same update of one weight, from the definition, in double. */
static void optim_reference(int kind, double *w, double g, double *a, double *b, int t)
{
    double lr = 1e-2, m, v;
    if (kind == 3)
        *w *= 1 - lr * 0.1;
    else
        g += 0.01 * *w;
    switch (kind) {
    case 0:
    case 1:
        *a = 0.9 * *a + g;
        *w -= 0.1 * (kind ? g + 0.9 * *a : *a);
        break;
    case 2:
    case 3:
        *a = 0.9 * *a + (1 - 0.9) * g;
        *b = 0.999 * *b + (1 - 0.999) * g * g;
        m = *a / (1 - pow(0.9, t));
        v = *b / (1 - pow(0.999, t));
        *w -= lr * m / (sqrt(v) + 1e-8);
        break;
    case 4:
        *a = 0.99 * *a + 0.01 * g * g;
        *b = 0.5 * *b + g / (sqrt(*a) + 1e-8);
        *w -= lr * *b;
        break;
    default:
        *a += g * g;
        *w -= lr * g / (sqrt(*a) + 1e-10);
        break;
    }
}

START_TEST(optimizers_follow_their_definition)
{
    for (int kind = 0; kind < 6; kind++) {
        nn_real *w = reals(OPT_N), *a = reals(OPT_N), *b = reals(OPT_N);
        nn_real *w2 = copy_of(w, OPT_N), *a2 = reals(OPT_N), *b2 = reals(OPT_N);
        double ref[OPT_N], ra[OPT_N] = { 0 }, rb[OPT_N] = { 0 };
        for (int i = 0; i < OPT_N; i++) {
            ref[i] = (double)w[i];
            a[i] = b[i] = a2[i] = b2[i] = 0;
        }
        for (int t = 1; t <= OPT_STEPS; t++) {
            nn_real *g = reals(OPT_N);
            optim_step(kind, OPT_N, w, g, a, b, t);
            for (nn_dim from = 0; from < OPT_N; from += 37) {
                const nn_dim n = nn_min_dim(37, OPT_N - from);
                optim_step(kind, n, w2 + from, g + from, a2 + from, b2 + from, t);
            }
            for (int i = 0; i < OPT_N; i++)
                optim_reference(kind, &ref[i], (double)g[i], &ra[i], &rb[i], t);
            free(g);
        }
        for (int i = 0; i < OPT_N; i++)
            ck_near((double)w[i], ref[i], NN_REAL_BYTES == 8 ? 1e-12 : 1e-5, "weight", i);
        ck_assert_mem_eq(w, w2, OPT_N * sizeof *w);
        free(w);
        free(a);
        free(b);
        free(w2);
        free(a2);
        free(b2);
    }
}
END_TEST

START_TEST(schedules_have_their_values)
{
    ck_near(nn_schedule_constant(0.5, 1000), 0.5, 0, "constant", 0);
    ck_near(nn_schedule_step_decay(1, 29, 10, 0.1), 0.01, 1e-15, "step", 29);
    ck_near(nn_schedule_step_decay(1, 30, 10, 0.1), 0.001, 1e-15, "step", 30);
    ck_near(nn_schedule_multi_step(1, 9, 0.5, 10, 20, 0, 0, 0, 0), 1, 0, "multi", 9);
    ck_near(nn_schedule_multi_step(1, 20, 0.5, 10, 20, 0, 0, 0, 0), 0.25, 0, "multi", 20);
    ck_near(nn_schedule_exp_decay(2, 6, 0.5, 2), 0.25, 1e-15, "exp", 6);
    ck_near(nn_schedule_inverse_time(1, 10, 0.5, 5), 0.5, 1e-15, "inverse", 10);
    ck_near(nn_schedule_polynomial(1, 5, 10, 2, 0.2), 0.4, 1e-15, "polynomial", 5);
    ck_near(nn_schedule_polynomial(1, 50, 10, 2, 0.2), 0.2, 1e-15, "polynomial", 50);
    ck_near(nn_schedule_cosine(1, 0, 10, 0.2, 0, 1), 1, 1e-15, "cosine", 0);
    ck_near(nn_schedule_cosine(1, 5, 10, 0.2, 0, 1), 0.6, 1e-15, "cosine", 5);
    ck_near(nn_schedule_cosine(1, 99, 10, 0.2, 0, 1), 0.2, 1e-15, "cosine", 99);
    ck_near(nn_schedule_cosine(1, 25, 10, 0, 1, 1), 0.5, 1e-15, "restart", 25);
    /* Periods of 10, 20, 40, ...: step 30 starts the third, step 50 is its middle. */
    ck_near(nn_schedule_cosine(1, 29, 10, 0, 1, 2), 0.5 * (1 + cos(acos(-1.0) * 0.95)), 1e-12,
            "restart", 29);
    ck_near(nn_schedule_cosine(1, 30, 10, 0, 1, 2), 1, 1e-12, "restart", 30);
    ck_near(nn_schedule_cosine(1, 50, 10, 0, 1, 2), 0.5, 1e-12, "restart", 50);
    ck_near(nn_warmup(8, 0, 4), 2, 0, "warm-up", 0);
    ck_near(nn_warmup(8, 3, 4), 8, 0, "warm-up", 3);
    ck_near(nn_warmup(8, 100, 4), 8, 0, "warm-up", 100);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kernels_a");
    TCase *t = tcase_create("kernels_a");
    tcase_set_timeout(t, 200);
    tcase_add_checked_fixture(t, pools_start, pools_stop);
    tcase_add_test(t, functions_keep_their_stated_accuracy);
    tcase_add_test(t, functions_at_the_edges);
    tcase_add_test(t, reductions_match_plain_loops);
    tcase_add_test(t, extremes_keep_nan_and_argmax_takes_the_first);
    tcase_add_test(t, softmax_matches_plain_loops);
    tcase_add_test(t, cross_entropy_matches_plain_loops);
    tcase_add_test(t, cross_entropy_of_extreme_logits_is_exact);
    tcase_add_test(t, draws_depend_on_key_and_index_alone);
    tcase_add_test(t, draws_have_their_distribution);
    tcase_add_test(t, dropout_is_the_same_in_any_layout);
    tcase_add_test(t, moving_samples_and_back_is_the_adjoint);
    tcase_add_test(t, copies_follow_their_strides);
    tcase_add_test(t, scatter_is_the_adjoint_of_gather);
    tcase_add_test(t, optimizers_follow_their_definition);
    tcase_add_test(t, schedules_have_their_values);
    suite_add_tcase(s, t);
    return run_suite(s);
}
