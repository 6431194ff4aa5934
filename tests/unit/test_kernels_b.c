/* SPDX-License-Identifier: MIT
 *
 * Kernels of products and convolution against plain loops in double precision. Every
 * case runs on teams of one, two and three threads and must give the same bits. This file is built with
 * literal sizes, as generated code calls the kernels; test_kernels_b_any.c builds it for many random sizes
 * known only at run time; the _f64 files do both in double precision.
 */
#include "kernels_check.h"

/* ---- dense ---- */

typedef struct Dense {
    nn_dim rows, in, out;
    int relu, acc;
    nn_real *x, *w, *bias, *dy, *y, *dx, *dw, *db, *scratch;
    nn_real *panels, *y_kept; /* of kernels that read large weights as panels */
    int *keeps;               /* set by those */
} Dense;

NN_INLINE void dense_all(const nn_team *team, const Dense *d, nn_dim in, nn_dim out)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, d->rows, 1, &from, &to);
    nn_dense(to - from, in, out, d->relu, d->x + from * in, d->w, d->bias, d->y + from * out);
    nn_dense_dx(to - from, in, out, d->dy + from * out, d->w, d->dx + from * in);
    nn_dense_dw(team, d->rows, in, out, d->x, d->dy, d->dw, d->acc);
    nn_bias_grad(team, d->rows, out, 1, d->dy, d->scratch, d->db, d->acc);
}

/* What large weights get, with OpenBLAS and without. */
NN_INLINE void dense_large(const nn_team *team, const Dense *d, nn_dim in, nn_dim out, int blas)
{
    if (blas) {
        nn_dense_blas(team, d->rows, in, out, d->relu, d->x, d->w, d->bias, d->y);
        nn_dense_dx_wide(team, d->rows, in, out, d->dy, d->w, d->dx);
        nn_dense_dw_blas(team, d->rows, in, out, d->x, d->dy, d->dw, d->acc);
    } else {
        nn_dense_wide(team, d->rows, in, out, d->relu, d->x, d->w, d->bias, d->y);
        nn_dense_panels_weights(team, in, out, d->w, d->panels);
        if (team->rank == 0) *d->keeps = 1;
        nn_barrier(team);
        nn_dense_kept(team, d->rows, in, out, d->relu, d->x, d->panels, d->bias, d->y_kept);
        nn_dense_dx_wide(team, d->rows, in, out, d->dy, d->w, d->dx);
        nn_dense_dw(team, d->rows, in, out, d->x, d->dy, d->dw, d->acc);
    }
    nn_bias_grad(team, d->rows, out, 1, d->dy, d->scratch, d->db, d->acc);
}

/* What samples of many rows get. */
NN_INLINE void dense_tall(const nn_team *team, const Dense *d, nn_dim in, nn_dim out)
{
    nn_dense_tall(team, d->rows, in, out, d->relu, d->x, d->w, d->bias, d->y);
    nn_dense_dx_tall(team, d->rows, in, out, d->dy, d->w, d->dx);
    nn_dense_dw(team, d->rows, in, out, d->x, d->dy, d->dw, d->acc);
    nn_bias_grad(team, d->rows, out, 1, d->dy, d->scratch, d->db, d->acc);
}

#ifdef NN_SMALL_CODE
static void dense_tall_any(void *arg, const nn_team *team)
{
    const Dense *d = arg;
    dense_tall(team, d, d->in, d->out);
}

static void dense_wide_any(void *arg, const nn_team *team)
{
    const Dense *d = arg;
    dense_large(team, d, d->in, d->out, 0);
}

static void dense_blas_any(void *arg, const nn_team *team)
{
    const Dense *d = arg;
    dense_large(team, d, d->in, d->out, 1);
}

static void dense_any(void *arg, const nn_team *team)
{
    const Dense *d = arg;
    dense_all(team, d, d->in, d->out);
}
#endif

static void check_dense(nn_team_fn fn, nn_dim rows, nn_dim in, nn_dim out)
{
    Dense d = { .rows = rows, .in = in, .out = out, .relu = draw(0, 1) };
    d.x = reals(rows * in, 1);
    d.w = reals(in * out, 1);
    d.bias = draw(0, 2) ? reals(out, 1) : NULL;
    d.dy = reals(rows * out, 1);
    d.scratch = reals(NN_BIAS_PARTS * out, 0);
    int keeps = 0;
    d.keeps = &keeps;
    d.panels = reals(in * (out + NN_PANEL_COLS), 1);
    d.y_kept = reals(rows * out, 1);
    double *y = doubles(rows * out), *dx = doubles(rows * in), *dw = doubles(in * out),
           *db = doubles(out);
    double *db_scale = doubles(out);
    nn_real *first[4] = { NULL };
    for (nn_dim m = 0; m < rows; m++)
        for (nn_dim o = 0; o < out; o++) {
            double s = d.bias ? (double)d.bias[o] : 0;
            const double g = (double)d.dy[m * out + o];
            for (nn_dim i = 0; i < in; i++) {
                s += (double)d.x[m * in + i] * (double)d.w[i * out + o];
                dx[m * in + i] += g * (double)d.w[i * out + o];
                dw[i * out + o] += g * (double)d.x[m * in + i];
            }
            db[o] += g;
            db_scale[o] += fabs(g);
            y[m * out + o] = d.relu && s < 0 ? 0 : s;
        }
    for (int t = 1; t <= TEAMS; t++) {
        d.y = reals(rows * out, 0);
        d.dx = reals(rows * in, 0);
        d.dw = reals(in * out, 0);
        d.db = reals(out, 0);
        d.acc = 0;
        nn_pool_run(pools[t], fn, &d);
        if (keeps) expect_same("dense, kept panels", rows * out, d.y_kept, d.y);
        if (t == 1) {
            expect_close("dense", rows * out, d.y, y);
            expect_close("dense_dx", rows * in, d.dx, dx);
            expect_close("dense_dw", in * out, d.dw, dw);
            expect_sum("bias_grad", out, d.db, db, db_scale);
            first[0] = d.y, first[1] = d.dx, first[2] = d.dw, first[3] = d.db;
            d.dw = reals(in * out, 0), d.db = reals(out, 0);
            for (nn_dim i = 0; i < in * out; i++) d.dw[i] = first[2][i], dw[i] *= 2;
            for (nn_dim i = 0; i < out; i++) d.db[i] = first[3][i], db[i] *= 2;
            d.acc = 1;
            nn_pool_run(pools[t], fn, &d);
            expect_close("dense_dw, added", in * out, d.dw, dw);
            expect_sum("bias_grad, added", out, d.db, db, db_scale);
        } else {
            expect_same("dense", rows * out, d.y, first[0]);
            expect_same("dense_dx", rows * in, d.dx, first[1]);
            expect_same("dense_dw", in * out, d.dw, first[2]);
            expect_same("bias_grad", out, d.db, first[3]);
            free(d.y), free(d.dx);
        }
        free(d.dw), free(d.db);
    }
    for (int i = 0; i < 4; i++) free(first[i]);
    free(d.x), free(d.w), free(d.bias), free(d.dy), free(d.scratch), free(d.panels), free(d.y_kept), free(y), free(dx),
        free(dw), free(db), free(db_scale);
}

#ifdef NN_SMALL_CODE
START_TEST(dense_matches_plain_loops)
{
    for (int i = 0; i < CASES(60); i++) check_dense(dense_any, draw(1, 40), draw(1, 70), draw(1, 140));
    for (int i = 0; i < CASES(30); i++) {
        check_dense(dense_wide_any, draw(1, 40), draw(1, 70), draw(1, 140));
        check_dense(dense_blas_any, draw(1, 40), draw(1, 70), draw(1, 140));
    }
    /* Several blocks of rows, columns and depth, the last ones cut. */
    const int few = TARGET_FEWER > 1;
    for (int i = 0; i < CASES(2); i++) {
        check_dense(dense_wide_any, draw(97, few ? 100 : 300), draw(257, few ? 260 : 600), draw(50, few ? 60 : 300));
        check_dense(dense_tall_any, draw(60, few ? 70 : 300), draw(257, few ? 260 : 600), draw(256, few ? 260 : 300));
#if !defined(NN_NO_BLAS)
        check_dense(dense_blas_any, draw(129, 300), draw(129, 300), draw(1025, 1100));
#endif
    }
}
END_TEST
#else
#define DENSE(name, in, out)                                                                       \
    static void name(void *arg, const nn_team *team)                                               \
    {                                                                                              \
        dense_all(team, (const Dense *)arg, in, out);                                              \
    }
DENSE(dense_784_10, 784, 10)
DENSE(dense_120_84, 120, 84)
DENSE(dense_37_65, 37, 65)
DENSE(dense_1_1, 1, 1)
DENSE(dense_3_31, 3, 31)
DENSE(dense_130_200, 130, 200)
DENSE(dense_9_283, 9, 283)
#define DENSE_LARGE(name, in, out, blas)                                                           \
    static void name(void *arg, const nn_team *team)                                               \
    {                                                                                              \
        dense_large(team, (const Dense *)arg, in, out, blas);                                      \
    }
#define DENSE_TALL(name, in, out)                                                                  \
    static void name(void *arg, const nn_team *team)                                               \
    {                                                                                              \
        dense_tall(team, (const Dense *)arg, in, out);                                             \
    }
DENSE_TALL(dense_tall_512_130, 512, 130)
DENSE_TALL(dense_tall_130_512, 130, 512)
DENSE_LARGE(dense_wide_520_150, 520, 150, 0)
DENSE_LARGE(dense_wide_256_48, 256, 48, 0)
DENSE_LARGE(dense_blas_130_1030, 130, 1030, 1)

START_TEST(dense_matches_plain_loops)
{
    for (int i = 0; i < 3; i++) {
        const nn_dim rows = (nn_dim[]){ 1, 15, 200 }[i];
        check_dense(dense_wide_520_150, rows, 520, 150);
        check_dense(dense_wide_256_48, rows, 256, 48);
        check_dense(dense_tall_512_130, rows, 512, 130);
        check_dense(dense_tall_130_512, rows, 130, 512);
        check_dense(dense_blas_130_1030, rows, 130, 1030);
    }
    /* A thread with one row divides its columns in another way than one with several. */
    for (nn_dim rows = 1; rows <= TEAMS; rows++) {
        check_dense(dense_120_84, rows, 120, 84);
        check_dense(dense_37_65, rows, 37, 65);
        check_dense(dense_3_31, rows, 3, 31);
        check_dense(dense_130_200, rows, 130, 200);
        check_dense(dense_9_283, rows, 9, 283);
    }
    check_dense(dense_784_10, 33, 784, 10);
    check_dense(dense_120_84, 7, 120, 84);
    check_dense(dense_37_65, 129, 37, 65);
    check_dense(dense_1_1, 1, 1, 1);
    check_dense(dense_3_31, 300, 3, 31);
    check_dense(dense_130_200, 13, 130, 200);
}
END_TEST
#endif

/* ---- recurrent layers ---- */

/* A layer's loop beside the same steps of a dense layer and a cell. parts: 4 LSTM, 3 GRU. */
typedef struct Recurrent {
    nn_dim rows, steps, n;
    int parts, reverse, kept;
    nn_real *x, *w, *bias, *h0, *c0, *panels, *back, *spare, *dh2, *dc2, *dhs;
    nn_real *h, *c, *hs, *gates, *c_kept, *h_kept, *dh, *dc, *dx, *ds;
} Recurrent;

NN_INLINE void recurrent_all(const nn_team *team, const Recurrent *a, int parts, nn_dim n)
{
    nn_gate_panels(team, parts, n, a->w, a->bias, a->panels);
    nn_gate_panels_dx(team, parts, n, a->w, a->back);
    nn_barrier(team);
    if (parts == 4) {
        nn_lstm_loop(team, a->rows, a->steps, n, a->reverse, a->x, a->h0, a->c0, a->panels, a->spare, a->h, a->c, a->hs,
                     a->kept ? a->gates : NULL, a->c_kept, a->h_kept);
        nn_barrier(team);
        if (a->kept)
            nn_lstm_loop_dx(team, a->rows, a->steps, n, !a->reverse, a->gates, a->c_kept, a->dh2, a->dc2, a->back,
                            a->dhs, a->dh, a->dc, a->dx);
    } else {
        nn_gru_loop(team, a->rows, a->steps, n, a->reverse, a->x, a->h0, a->panels, a->spare, a->h, a->hs,
                    a->kept ? a->gates : NULL, a->h_kept);
        nn_barrier(team);
        if (a->kept)
            nn_gru_loop_dx(team, a->rows, a->steps, n, !a->reverse, a->gates, a->h_kept, a->dh2, a->back, a->dhs, a->dh,
                           a->dx, a->ds);
    }
}

#ifdef NN_SMALL_CODE
static void recurrent_lstm(void *arg, const nn_team *team)
{
    recurrent_all(team, arg, 4, ((const Recurrent *)arg)->n);
}

static void recurrent_gru(void *arg, const nn_team *team)
{
    recurrent_all(team, arg, 3, ((const Recurrent *)arg)->n);
}
#else
#define RECURRENT(name, parts, n)                              \
    static void name(void *arg, const nn_team *team)           \
    {                                                          \
        recurrent_all(team, (const Recurrent *)arg, parts, n); \
    }
RECURRENT(recurrent_lstm, 4, 37)
RECURRENT(recurrent_gru, 3, 48)
RECURRENT(recurrent_lstm_64, 4, 64)
#endif

static double *widen(nn_dim n, const nn_real *x)
{
    double *y = doubles(n);
    for (nn_dim i = 0; i < n; i++) y[i] = (double)x[i];
    return y;
}

static void expect_like(const char *what, nn_dim n, const nn_real *got, const nn_real *want)
{
    double *wide = widen(n, want);
    expect_close(what, n, got, wide);
    free(wide);
}

/* y[m][o] = bias[o] + sum over k of x[m][k] * w[k * w_k + o * w_o]. */
static void plain_product(nn_dim rows, nn_dim depth, nn_dim cols, const nn_real *x, const nn_real *w, nn_dim w_k,
                          nn_dim w_o, const nn_real *bias, nn_real *y)
{
    for (nn_dim m = 0; m < rows; m++)
        for (nn_dim o = 0; o < cols; o++) {
            double s = bias ? (double)bias[o] : 0;
            for (nn_dim k = 0; k < depth; k++) s += (double)x[m * depth + k] * (double)w[k * w_k + o * w_o];
            y[m * cols + o] = (nn_real)s;
        }
}

/* Step by step, with the kernels of a cell; packed slices go to and fro. */
static void recurrent_plainly(const Recurrent *a)
{
    const nn_dim rows = a->rows, n = a->n, wide = a->parts * n, steps = a->steps;
    nn_real *s = reals(rows * wide, 0), *d = reals(rows * n, 0), *z = reals(rows * wide, 0), *h = reals(rows * n, 0),
            *c = reals(rows * n, 0), *next = reals(rows * n, 0);
    for (nn_dim i = 0; i < rows * n; i++) h[i] = a->h0[i], c[i] = a->c0[i];
    for (nn_dim k = 0; k < steps; k++) {
        const nn_dim t = a->reverse ? steps - 1 - k : k;
        plain_product(rows, n, wide, h, a->w, wide, 1, a->bias, s);
        for (nn_dim r = 0; r < rows; r++)
            for (nn_dim j = 0; j < n; j++) {
                a->h_kept[(r * steps + t) * n + j] = h[r * n + j];
                a->c_kept[(r * steps + t) * n + j] = c[r * n + j];
            }
        if (a->parts == 4)
            nn_lstm_cell(rows, n, a->x + t * wide, steps * wide, s, wide, c, n, h, n, next, n, a->gates + t * 4 * n,
                         steps * 4 * n);
        else
            nn_gru_cell(rows, n, a->x + t * wide, steps * wide, s, wide, h, n, next, n, a->gates + t * 4 * n,
                        steps * 4 * n);
        for (nn_dim i = 0; i < rows * n; i++) (a->parts == 4 ? c : h)[i] = next[i];
        for (nn_dim r = 0; r < rows; r++)
            for (nn_dim j = 0; j < n; j++) a->hs[(r * steps + t) * n + j] = h[r * n + j];
    }
    for (nn_dim i = 0; i < rows * n; i++) a->h[i] = h[i], a->c[i] = c[i], h[i] = a->dh2[i], c[i] = a->dc2[i];
    for (nn_dim k = 0; k < steps; k++) {
        const nn_dim t = a->reverse ? k : steps - 1 - k;
        for (nn_dim r = 0; r < rows; r++)
            for (nn_dim j = 0; j < n; j++)
                d[r * n + j] = h[r * n + j] + (a->dhs ? a->dhs[(r * steps + t) * n + j] : 0);
        if (a->parts == 4) {
            nn_lstm_cell_dx(rows, n, a->gates + t * 4 * n, steps * 4 * n, a->c_kept + t * n, steps * n, d, n, c, n, z,
                            wide, next, n);
            for (nn_dim i = 0; i < rows * n; i++) c[i] = next[i];
            plain_product(rows, wide, n, z, a->w, 1, wide, NULL, h);
        } else {
            nn_gru_cell_dx(rows, n, a->gates + t * 4 * n, steps * 4 * n, a->h_kept + t * n, steps * n, d, n, s, wide, z,
                           wide, next, n);
            plain_product(rows, wide, n, z, a->w, 1, wide, NULL, h);
            for (nn_dim i = 0; i < rows * n; i++) h[i] += next[i];
        }
        for (nn_dim r = 0; r < rows; r++)
            for (nn_dim j = 0; j < wide; j++) {
                a->dx[(r * steps + t) * wide + j] = (a->parts == 4 ? z : s)[r * wide + j];
                a->ds[(r * steps + t) * wide + j] = z[r * wide + j];
            }
    }
    for (nn_dim i = 0; i < rows * n; i++) a->dh[i] = h[i], a->dc[i] = c[i];
    free(s), free(d), free(z), free(h), free(c), free(next);
}

static void recurrent_results(Recurrent *a)
{
    const nn_dim state = a->rows * a->n, all = state * a->steps;
    a->h = reals(state, 0), a->c = reals(state, 0), a->dh = reals(state, 0), a->dc = reals(state, 0);
    a->hs = reals(all, 0), a->c_kept = reals(all, 0), a->h_kept = reals(all, 0);
    a->gates = reals(4 * all, 0), a->dx = reals(4 * all, 0), a->ds = reals(4 * all, 0);
}

static void recurrent_free(Recurrent *a)
{
    free(a->h), free(a->c), free(a->dh), free(a->dc), free(a->hs), free(a->c_kept), free(a->h_kept);
    free(a->gates), free(a->dx), free(a->ds);
}

typedef void (*ExpectFn)(const char *what, nn_dim n, const nn_real *got, const nn_real *want);

static void recurrent_compare(ExpectFn expect, const Recurrent *a, const Recurrent *b)
{
    const nn_dim state = a->rows * a->n, all = state * a->steps;
    const int lstm = a->parts == 4;
    expect("last h", state, a->h, b->h);
    if (lstm) expect("last c", state, a->c, b->c);
    expect("every h", all, a->hs, b->hs);
    if (!a->kept) return;
    expect("gates", 4 * all, a->gates, b->gates);
    expect("h before", all, a->h_kept, b->h_kept);
    if (lstm) expect("c before", all, a->c_kept, b->c_kept);
    expect("dh", state, a->dh, b->dh);
    if (lstm) expect("dc", state, a->dc, b->dc);
    expect("dx", a->parts * all, a->dx, b->dx);
    if (!lstm) expect("ds", 3 * all, a->ds, b->ds);
}

static void check_recurrent(nn_team_fn fn, int parts, nn_dim rows, nn_dim steps, nn_dim n)
{
    const nn_dim state = rows * n;
    Recurrent a = { .rows = rows, .steps = steps, .n = n, .parts = parts, .reverse = draw(0, 1) == 1,
                    .kept = draw(0, 3) > 0 };
    a.x = reals(state * steps * parts, 1), a.w = reals(n * n * parts, 1);
    a.bias = draw(0, 2) ? reals(n * parts, 1) : NULL;
    a.h0 = reals(state, 1), a.c0 = reals(state, 1), a.dh2 = reals(state, 1), a.dc2 = reals(state, 1);
    a.dhs = draw(0, 2) ? reals(state * steps, 1) : NULL;
    for (nn_dim i = 0; i < n * n * parts; i++) a.w[i] *= NN_R(0.2);
    /* As many as the compiler reserves. */
    a.panels = reals((n + 15) / 16 * 16 * parts * (n + 1), 0), a.back = reals((n + 63) / 64 * 64 * parts * n, 0);
    a.spare = reals(state, 0);
    Recurrent plain = a, first = a;
    recurrent_results(&plain);
    recurrent_plainly(&plain);
    for (int t = 1; t <= TEAMS; t++) {
        Recurrent got = a;
        recurrent_results(&got);
        nn_pool_run(pools[t], fn, &got);
        if (t == 1) {
            recurrent_compare(expect_like, &got, &plain);
            first = got;
        } else {
            recurrent_compare(expect_same, &got, &first);
            recurrent_free(&got);
        }
    }
    recurrent_free(&first), recurrent_free(&plain);
    free(a.x), free(a.w), free(a.bias), free(a.h0), free(a.c0), free(a.dh2), free(a.dc2), free(a.dhs);
    free(a.panels), free(a.back), free(a.spare);
}

START_TEST(recurrent_loops_match_steps)
{
#ifdef NN_SMALL_CODE
    for (int i = 0; i < CASES(30); i++) {
        check_recurrent(recurrent_lstm, 4, draw(1, 30), draw(1, 4), draw(1, 70));
        check_recurrent(recurrent_gru, 3, draw(1, 30), draw(1, 4), draw(1, 70));
    }
#else
    for (int i = 0; i < 4; i++) {
        const nn_dim rows = (nn_dim[]){ 1, 3, 11, 40 }[i];
        check_recurrent(recurrent_lstm, 4, rows, 3, 37);
        check_recurrent(recurrent_gru, 3, rows, 3, 48);
        check_recurrent(recurrent_lstm_64, 4, rows, 2, 64);
    }
#endif
}
END_TEST

/* dy[n][c][p] with positions innermost, as rank-3 tensors lie. */
typedef struct Bias {
    nn_dim outer, channels, inner;
    nn_real *dy, *scratch, *db;
} Bias;

static void bias_any(void *arg, const nn_team *team)
{
    const Bias *b = arg;
    nn_bias_grad(team, b->outer, b->channels, b->inner, b->dy, b->scratch, b->db, 0);
}

START_TEST(bias_grad_sums_positions)
{
    for (int i = 0; i < CASES(20); i++) {
        Bias b = { draw(1, 100), draw(1, 20), draw(2, 40), NULL, NULL, NULL };
        b.dy = reals(b.outer * b.channels * b.inner, 1);
        b.scratch = reals(NN_BIAS_PARTS * b.channels, 0);
        double *db = doubles(b.channels), *scale = doubles(b.channels);
        for (nn_dim j = 0; j < b.outer * b.channels * b.inner; j++) {
            db[j / b.inner % b.channels] += (double)b.dy[j];
            scale[j / b.inner % b.channels] += fabs((double)b.dy[j]);
        }
        nn_real *first = NULL;
        for (int t = 1; t <= TEAMS; t++) {
            b.db = reals(b.channels, 0);
            nn_pool_run(pools[t], bias_any, &b);
            if (t == 1) {
                expect_sum("bias_grad", b.channels, b.db, db, scale);
                first = b.db;
            } else {
                expect_same("bias_grad", b.channels, b.db, first);
                free(b.db);
            }
        }
        free(first), free(b.dy), free(b.scratch), free(db), free(scale);
    }
}
END_TEST

/* ---- matmul ---- */

typedef struct Matmul {
    nn_dim n0, n1, n2, m, n, k;
    nn_steps sa, sb;
    int ta, tb, acc;
    nn_real *a, *b, *y;
} Matmul;

static void matmul_blas_any(void *arg, const nn_team *team)
{
    const Matmul *p = arg;
    nn_matmul_blas(team, p->n0, p->n1, p->n2, p->sa, p->sb, p->m, p->n, p->k, p->ta, p->tb, p->a,
                   p->b, p->y, p->acc);
}

#ifdef NN_SMALL_CODE
static void matmul_any(void *arg, const nn_team *team)
{
    const Matmul *p = arg;
    nn_matmul(team, p->n0, p->n1, p->n2, p->sa, p->sb, p->m, p->n, p->k, p->ta, p->tb, p->a, p->b,
              p->y, p->acc);
}
#else
static void matmul_nn(void *arg, const nn_team *team)
{
    const Matmul *p = arg;
    nn_matmul(team, p->n0, p->n1, p->n2, p->sa, p->sb, 70, 50, 300, 0, 0, p->a, p->b, p->y, p->acc);
}

static void matmul_tn(void *arg, const nn_team *team)
{
    const Matmul *p = arg;
    nn_matmul(team, p->n0, p->n1, p->n2, p->sa, p->sb, 70, 50, 300, 1, 0, p->a, p->b, p->y, p->acc);
}

static void matmul_nt(void *arg, const nn_team *team)
{
    const Matmul *p = arg;
    nn_matmul(team, p->n0, p->n1, p->n2, p->sa, p->sb, 70, 50, 300, 0, 1, p->a, p->b, p->y, p->acc);
}

static void matmul_tt(void *arg, const nn_team *team)
{
    const Matmul *p = arg;
    nn_matmul(team, p->n0, p->n1, p->n2, p->sa, p->sb, 70, 50, 300, 1, 1, p->a, p->b, p->y, p->acc);
}
#endif

static void check_matmul(nn_team_fn fn, Matmul p, int wide_a, int wide_b)
{
    const nn_dim ma = p.m * p.k, mb = p.k * p.n, my = p.m * p.n, count = p.n0 * p.n1 * p.n2;
    /* The first leading axis always counts; an operand that is not `wide` broadcasts over the others. */
    p.sa = wide_a ? NN_STEPS(p.n1 * p.n2 * ma, p.n2 * ma, ma) : NN_STEPS(ma, 0, 0);
    p.sb = wide_b ? NN_STEPS(p.n1 * p.n2 * mb, p.n2 * mb, mb) : NN_STEPS(mb, 0, 0);
    p.a = reals((wide_a ? count : p.n0) * ma, 1);
    p.b = reals((wide_b ? count : p.n0) * mb, 1);
    double *y = doubles(count * my);
    for (nn_dim l = 0; l < count; l++) {
        const nn_dim l0 = l / (p.n1 * p.n2), l1 = l / p.n2 % p.n1, l2 = l % p.n2;
        const nn_real *a = p.a + l0 * p.sa.s0 + l1 * p.sa.s1 + l2 * p.sa.s2;
        const nn_real *b = p.b + l0 * p.sb.s0 + l1 * p.sb.s1 + l2 * p.sb.s2;
        for (nn_dim i = 0; i < p.m; i++)
            for (nn_dim j = 0; j < p.n; j++)
                for (nn_dim k = 0; k < p.k; k++)
                    y[l * my + i * p.n + j] += (double)a[p.ta ? k * p.m + i : i * p.k + k] *
                                               (double)b[p.tb ? j * p.k + k : k * p.n + j];
    }
    nn_real *first = NULL;
    for (int t = 1; t <= TEAMS; t++) {
        p.y = reals(count * my, 0);
        p.acc = 0;
        nn_pool_run(pools[t], fn, &p);
        if (t == 1) {
            expect_close("matmul", count * my, p.y, y);
            first = p.y;
            p.y = reals(count * my, 0);
            memcpy(p.y, first, (size_t)(count * my) * sizeof *first);
            p.acc = 1;
            nn_pool_run(pools[t], fn, &p);
            for (nn_dim i = 0; i < count * my; i++) y[i] *= 2;
            expect_close("matmul, added", count * my, p.y, y);
        } else {
            expect_same("matmul", count * my, p.y, first);
        }
        free(p.y);
    }
    free(first), free(p.a), free(p.b), free(y);
}

START_TEST(matmul_matches_plain_loops)
{
    for (int i = 0; i < CASES(8); i++) {
        const int ta = i & 1, tb = i >> 1 & 1;
        check_matmul(matmul_blas_any,
                     (Matmul){ .n0 = 2,
                               .n1 = 2,
                               .n2 = 3,
                               .m = draw(1, 40),
                               .n = draw(1, 40),
                               .k = draw(1, 40),
                               .ta = ta,
                               .tb = tb },
                     i & 1, i >> 2);
#if !defined(NN_NO_BLAS)
        check_matmul(matmul_blas_any,
                     (Matmul){ .n0 = 1,
                               .n1 = 1,
                               .n2 = 1,
                               .m = draw(129, 200),
                               .n = draw(1025, 1100),
                               .k = 30,
                               .ta = ta,
                               .tb = tb },
                     0, 0);
#endif
    }
#ifdef NN_SMALL_CODE
    for (int i = 0; i < CASES(100); i++)
        check_matmul(matmul_any,
                     (Matmul){ .n0 = draw(1, 3),
                               .n1 = draw(1, 2),
                               .n2 = draw(1, 2),
                               .m = draw(1, 70),
                               .n = draw(1, 40),
                               .k = draw(1, 40),
                               .ta = i & 1,
                               .tb = i >> 1 & 1 },
                     draw(0, 1), draw(0, 1));
#else
    const nn_team_fn literal[] = { matmul_nn, matmul_tn, matmul_nt, matmul_tt };
    for (int i = 0; i < 4; i++)
        check_matmul(
            literal[i],
            (Matmul){
                .n0 = 2, .n1 = 1, .n2 = 1, .m = 70, .n = 50, .k = 300, .ta = i & 1, .tb = i >> 1 },
            1, 1);
#endif
}
END_TEST

/* ---- convolution ---- */

typedef struct Conv {
    nn_conv c;
    nn_dim rows;
    int relu, acc;
    /* convolution: x, w, y; transposed convolution: ty from tx, with weights tw. */
    nn_real *x, *w, *bias, *dy, *scratch, *y, *dx, *dw;
    nn_real *tw, *tbias, *ty, *tdx, *tdw;
} Conv;

/* What generated code does with forms that compute any samples: each thread has its own. */
NN_INLINE void lead_conv2d(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x, const nn_real *w,
                           const nn_real *bias, nn_real *y)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, rows, 1, &from, &to);
    nn_conv2d(to - from, c, relu, x + from * c.h * c.w * c.ci, w, bias, NULL, y + from * c.oh * c.ow * c.co);
}

NN_INLINE void lead_depthwise(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                              const nn_real *w, const nn_real *bias, nn_real *y)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, rows, 1, &from, &to);
    nn_conv2d_depthwise(to - from, c, relu, x + from * c.h * c.w * c.ci, w, bias, y + from * c.oh * c.ow * c.co);
}

NN_INLINE void lead_transpose(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                              const nn_real *w, const nn_real *bias, nn_real *y)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, rows, 1, &from, &to);
    nn_conv2d_transpose(to - from, c, relu, x + from * c.oh * c.ow * c.co, w, bias, y + from * c.h * c.w * c.ci);
}

/* The team's form with its weights as panels, which generated code makes in a routine of its own. */
static nn_real panels_of_weights[1 << 20];
NN_INLINE void panels_conv2d(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x, const nn_real *w,
                             const nn_real *bias, nn_real *y)
{
    nn_conv2d_panels_weights(team, c, w, panels_of_weights);
    nn_barrier(team);
    nn_conv2d_panels(team, rows, c, relu, x, panels_of_weights, bias, NULL, y);
}

NN_INLINE void team_conv2d(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x, const nn_real *w,
                           const nn_real *bias, nn_real *y)
{
    nn_conv2d_team(team, rows, c, relu, x, w, bias, NULL, y);
}

/* One case: the forward form, the form of the input's and of the weights' gradient, and of transposed convolution. */
#define CONV_CASE(name, forward, dx_form, dw_form, transpose, geometry)                            \
    static void name(void *arg, const nn_team *team)                                               \
    {                                                                                              \
        const Conv *a = arg;                                                                       \
        const nn_conv c = geometry;                                                                \
        forward(team, a->rows, c, a->relu, a->x, a->w, a->bias, a->y);                             \
        transpose(team, a->rows, c, a->relu, a->dy, a->tw, a->tbias, a->ty);                       \
        dx_form(team, a->rows, c, a->dy, a->w, a->scratch, a->dx);                                 \
        nn_barrier(team);                                                                          \
        dw_form(team, a->rows, c, a->x, a->dy, a->scratch, a->dw, a->acc);                         \
        nn_barrier(team);                                                                          \
        nn_conv2d_transpose_dx(team, a->rows, c, a->x, a->tw, a->scratch, a->tdx);                 \
        nn_barrier(team);                                                                          \
        nn_conv2d_transpose_dw(team, a->rows, c, a->dy, a->x, a->scratch, a->tdw, a->acc);         \
    }

#ifdef NN_SMALL_CODE
#define ANY ((const Conv *)arg)->c
CONV_CASE(conv_plain_form, lead_conv2d, nn_conv2d_dx, nn_conv2d_dw, lead_transpose, ANY)
CONV_CASE(conv_merged, lead_conv2d, nn_conv2d_dx, nn_conv2d_dw_merged, lead_transpose, ANY)
CONV_CASE(conv_depthwise, lead_depthwise, nn_conv2d_depthwise_dx, nn_conv2d_depthwise_dw, lead_transpose, ANY)
CONV_CASE(conv_plain_team, team_conv2d, nn_conv2d_dx, nn_conv2d_dw, nn_conv2d_transpose_team, ANY)
CONV_CASE(conv_depthwise_team, nn_conv2d_depthwise_team, nn_conv2d_depthwise_dx, nn_conv2d_depthwise_dw,
          nn_conv2d_transpose_team, ANY)
#endif

/* Winograd's algorithm for all three passes; transposed convolution again as above. */
#define WINOGRAD_CASE(name, geometry)                                                              \
    static void name(void *arg, const nn_team *team)                                               \
    {                                                                                              \
        const Conv *a = arg;                                                                       \
        const nn_conv c = geometry;                                                                \
        nn_conv2d_winograd(team, a->rows, c, a->relu, a->x, a->w, a->bias, NULL, a->scratch, a->y); \
        nn_barrier(team);                                                                          \
        nn_conv2d_winograd_dx(team, a->rows, c, a->dy, a->w, a->scratch, a->dx);                   \
        nn_barrier(team);                                                                          \
        nn_conv2d_winograd_dw(team, a->rows, c, a->x, a->dy, a->scratch, a->dw, a->acc);           \
        lead_transpose(team, a->rows, c, a->relu, a->dy, a->tw, a->tbias, a->ty);                  \
        nn_barrier(team);                                                                          \
        nn_conv2d_transpose_dx(team, a->rows, c, a->x, a->tw, a->scratch, a->tdx);                 \
        nn_barrier(team);                                                                          \
        nn_conv2d_transpose_dw(team, a->rows, c, a->dy, a->x, a->scratch, a->tdw, a->acc);         \
    }

#ifdef NN_SMALL_CODE
WINOGRAD_CASE(conv_winograd, ANY)
#endif

/* The most that a pass needs. */
static nn_dim conv_scratch(nn_conv c)
{
    const nn_dim weights = nn_conv_weights(c), ci = nn_winograd_wide(c.ci), co = nn_winograd_wide(c.co);
    nn_dim most = NN_DW_PARTS * weights;
    most = nn_max_dim(most, 16 * nn_max_dim(c.ci * co, c.co * ci));
    return nn_max_dim(most, nn_winograd_parts(c) * 16 * c.ci * co +
                                NN_WINOGRAD_ITEMS * nn_winograd_dw_block(c));
}

/* Plain loops: y and dx, dw of the convolution with weights w, ty etc. of its transpose with weights tw. The norms are
 * those before relu, which may leave nothing but the smallest values. */
static void conv_plain(const Conv *a, double *y, double *dx, double *dw, double *ty, double *tdx,
                       double *tdw, double *norm_y, double *norm_ty)
{
    const nn_conv c = a->c;
    const nn_dim ci = c.ci / c.groups, co = c.co / c.groups;
    for (nn_dim n = 0; n < a->rows; n++)
        for (nn_dim i = 0; i < c.oh; i++)
            for (nn_dim j = 0; j < c.ow; j++)
                for (nn_dim k = 0; k < c.co; k++) {
                    const nn_dim at_y = ((n * c.oh + i) * c.ow + j) * c.co + k;
                    const double g = (double)a->dy[at_y];
                    for (nn_dim r = 0; r < c.r; r++)
                        for (nn_dim s = 0; s < c.s; s++) {
                            const nn_dim ih = i * c.step_h + r * c.dil_h - c.pad_top;
                            const nn_dim iw = j * c.step_w + s * c.dil_w - c.pad_left;
                            if (ih < 0 || ih >= c.h || iw < 0 || iw >= c.w) continue;
                            for (nn_dim q = 0; q < ci; q++) {
                                const nn_dim at_x =
                                    ((n * c.h + ih) * c.w + iw) * c.ci + k / co * ci + q;
                                const nn_dim at_w = ((r * c.s + s) * ci + q) * c.co + k;
                                const nn_dim at_tw = ((r * c.s + s) * c.co + k) * ci + q;
                                y[at_y] += (double)a->x[at_x] * (double)a->w[at_w];
                                dx[at_x] += g * (double)a->w[at_w];
                                dw[at_w] += g * (double)a->x[at_x];
                                ty[at_x] += g * (double)a->tw[at_tw];
                                tdx[at_y] += (double)a->x[at_x] * (double)a->tw[at_tw];
                                tdw[at_tw] += g * (double)a->x[at_x];
                            }
                        }
                }
    const nn_dim ny = a->rows * c.oh * c.ow * c.co, nx = a->rows * c.h * c.w * c.ci;
    for (nn_dim i = 0; a->bias && i < ny; i++) y[i] += (double)a->bias[i % c.co];
    for (nn_dim i = 0; a->tbias && i < nx; i++) ty[i] += (double)a->tbias[i % c.ci];
    *norm_y = square_sum(ny, y);
    *norm_ty = square_sum(nx, ty);
    for (nn_dim i = 0; a->relu && i < ny; i++) y[i] = y[i] < 0 ? 0 : y[i];
    for (nn_dim i = 0; a->relu && i < nx; i++) ty[i] = ty[i] < 0 ? 0 : ty[i];
}

static void check_conv(nn_team_fn fn, nn_dim rows, nn_conv c)
{
    const nn_dim nx = rows * c.h * c.w * c.ci, ny = rows * c.oh * c.ow * c.co,
                 nw = nn_conv_weights(c);
    static const char *const what[] = {
        "conv2d",           "conv2d_dx",           "conv2d_dw",
        "conv2d_transpose", "conv2d_transpose_dx", "conv2d_transpose_dw"
    };
    const nn_dim size[6] = { ny, nx, nw, nx, ny, nw };
    Conv a = { .c = c, .rows = rows, .relu = draw(0, 1) };
    double *want[6];
    nn_real *first[6];
    for (int i = 0; i < 6; i++) want[i] = doubles(size[i]);
    a.x = reals(nx, 1);
    a.dy = reals(ny, 1);
    a.w = reals(nw, 1);
    a.tw = reals(nw, 1);
    a.bias = draw(0, 1) ? reals(c.co, 1) : NULL;
    a.tbias = draw(0, 1) ? reals(c.ci, 1) : NULL;
    a.scratch = reals(conv_scratch(c), 0);
    double norm[6];
    conv_plain(&a, want[0], want[1], want[2], want[3], want[4], want[5], &norm[0], &norm[3]);
    for (int i = 0; i < 6; i++)
        if (i % 3 != 0) norm[i] = square_sum(size[i], want[i]);
    for (int t = 1; t <= TEAMS; t++) {
        nn_real **const got[6] = { &a.y, &a.dx, &a.dw, &a.ty, &a.tdx, &a.tdw };
        for (int i = 0; i < 6; i++) *got[i] = reals(size[i], 0);
        a.acc = 0;
        nn_pool_run(pools[t], fn, &a);
        for (int i = 0; i < 6; i++) {
            if (t == 1) {
                char text[400];
                snprintf(text, sizeof text,
                         "%s %lldx%lldx%lld -> %lldx%lldx%lld, kernel %lldx%lld, stride %lld,%lld, "
                         "pad %lld,%lld, dilation %lld,%lld, groups %lld",
                         what[i], (long long)c.h, (long long)c.w, (long long)c.ci, (long long)c.oh,
                         (long long)c.ow, (long long)c.co, (long long)c.r, (long long)c.s,
                         (long long)c.step_h, (long long)c.step_w, (long long)c.pad_top,
                         (long long)c.pad_left, (long long)c.dil_h, (long long)c.dil_w,
                         (long long)c.groups);
                expect_within(text, size[i], *got[i], want[i], norm[i]);
                first[i] = *got[i];
            } else {
                expect_same(what[i], size[i], *got[i], first[i]);
                free(*got[i]);
            }
        }
        if (t > 1) continue;
        for (int i = 0; i < 6; i++) {
            *got[i] = reals(size[i], 0);
            memcpy(*got[i], first[i], (size_t)size[i] * sizeof **got[i]);
        }
        a.acc = 1;
        nn_pool_run(pools[t], fn, &a);
        for (nn_dim i = 0; i < nw; i++) want[2][i] *= 2, want[5][i] *= 2;
        expect_close("conv2d_dw, added", nw, a.dw, want[2]);
        expect_close("conv2d_transpose_dw, added", nw, a.tdw, want[5]);
        for (int i = 0; i < 6; i++) free(*got[i]);
    }
    for (int i = 0; i < 6; i++) free(want[i]), free(first[i]);
    free(a.x), free(a.dy), free(a.w), free(a.tw), free(a.bias), free(a.tbias), free(a.scratch);
}

#ifdef NN_SMALL_CODE
START_TEST(convolution_matches_plain_loops)
{
    for (int i = 0; i < CASES(400);) {
        nn_conv c = { .r = draw(1, 5),
                      .s = draw(1, 9),
                      .step_h = draw(1, 4),
                      .step_w = draw(1, 4),
                      .dil_h = draw(1, 3),
                      .dil_w = draw(1, 3),
                      .groups = 1,
                      .h = draw(1, 12),
                      .w = draw(1, 20) };
        c.ci = draw(1, 10);
        c.co = draw(1, 40);
        if (i % 4 == 1) c.groups = draw(2, 3), c.ci *= c.groups, c.co *= c.groups;
        if (i % 4 == 2) c.ci = c.co = c.groups = draw(1, 40);
        c.pad_top = draw(0, 3);
        c.pad_left = draw(0, 3);
        const nn_dim h = c.h + c.pad_top + draw(0, 3) - ((c.r - 1) * c.dil_h + 1);
        const nn_dim w = c.w + c.pad_left + draw(0, 3) - ((c.s - 1) * c.dil_w + 1);
        if (h < 0 || w < 0) continue;
        c.oh = h / c.step_h + 1;
        c.ow = w / c.step_w + 1;
        const nn_dim rows = draw(1, 9);
        check_conv(i & 1 ? conv_plain_team : conv_plain_form, rows, c);
        if (c.groups == 1 && c.dil_w == 1 && c.s * c.ci <= NN_DW_MERGED_MAX)
            check_conv(conv_merged, rows, c);
        if (c.groups > 1 && c.groups == c.ci && c.groups == c.co)
            check_conv(draw(0, 1) ? conv_depthwise_team : conv_depthwise, rows, c);
        i++;
    }
    for (int i = 0; i < CASES(200);) {
        nn_conv c = { .r = 3, .s = 3, .step_h = 1, .step_w = 1, .dil_h = 1, .dil_w = 1, .groups = 1 };
        c.h = draw(1, 9), c.w = draw(1, 11), c.ci = draw(1, 40), c.co = draw(1, 40);
        c.pad_top = draw(0, 3), c.pad_left = draw(0, 3);
        c.oh = c.h + c.pad_top + draw(0, 3) - 2;
        c.ow = c.w + c.pad_left + draw(0, 3) - 2;
        if (c.oh < 1 || c.ow < 1) continue;
        check_conv(conv_winograd, draw(1, 20), c);
        i++;
    }
}
END_TEST
#else
/* name, samples, forms; h, w, ci, oh, ow, co, r, s, step, pad, dilation, groups */
#define PLAIN     lead_conv2d, nn_conv2d_dx, nn_conv2d_dw, lead_transpose
#define MERGED    lead_conv2d, nn_conv2d_dx, nn_conv2d_dw_merged, lead_transpose
#define DEPTHWISE lead_depthwise, nn_conv2d_depthwise_dx, nn_conv2d_depthwise_dw, lead_transpose
#define TEAM      team_conv2d, nn_conv2d_dx, nn_conv2d_dw, nn_conv2d_transpose_team
#define PANELS    panels_conv2d, nn_conv2d_dx, nn_conv2d_dw, nn_conv2d_transpose_team
#define TEAM_MERGED team_conv2d, nn_conv2d_dx, nn_conv2d_dw_merged, nn_conv2d_transpose_team
#define TEAM_DEPTHWISE \
    nn_conv2d_depthwise_team, nn_conv2d_depthwise_dx, nn_conv2d_depthwise_dw, nn_conv2d_transpose_team
#define CONVS(C)                                                                                   \
    C(lenet1, 3, MERGED, 28, 28, 1, 24, 24, 6, 5, 5, 1, 1, 0, 0, 1, 1, 1)                          \
    C(lenet2, 9, MERGED, 12, 12, 6, 8, 8, 16, 5, 5, 1, 1, 0, 0, 1, 1, 1)                           \
    C(digits, 3, TEAM_MERGED, 28, 28, 1, 28, 28, 6, 5, 5, 1, 1, 2, 2, 1, 1, 1)                          \
    C(few, 2, MERGED, 11, 13, 2, 6, 7, 5, 3, 3, 2, 2, 1, 1, 1, 1, 1)                               \
    C(stem, 2, MERGED, 32, 32, 3, 32, 32, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1)                           \
    C(half32, 3, TEAM, 16, 16, 16, 8, 8, 32, 3, 3, 2, 2, 1, 1, 1, 1, 1)                            \
    C(same64, 2, PLAIN, 8, 8, 64, 8, 8, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1)                             \
    C(point, 3, PLAIN, 5, 7, 20, 5, 7, 24, 1, 1, 1, 1, 0, 0, 1, 1, 1)                              \
    C(odd, 2, TEAM, 19, 17, 20, 19, 17, 24, 3, 3, 1, 1, 1, 1, 1, 1, 1)                            \
    C(dilated, 2, PLAIN, 15, 15, 5, 15, 15, 7, 3, 3, 1, 1, 2, 2, 2, 2, 1)                          \
    C(grouped, 2, PLAIN, 9, 8, 8, 5, 4, 12, 3, 3, 2, 2, 1, 1, 1, 1, 4)                              \
    C(depthwise, 2, DEPTHWISE, 14, 14, 40, 14, 14, 40, 3, 3, 1, 1, 1, 1, 1, 1, 40)                 \
    C(depthwise_half, 2, DEPTHWISE, 9, 11, 21, 5, 6, 21, 3, 3, 2, 2, 1, 1, 1, 1, 21)               \
    C(deep_even, 1, TEAM_DEPTHWISE, 16, 16, 48, 8, 8, 48, 3, 3, 2, 2, 1, 1, 1, 1, 48)               \
    C(deep_narrow, 3, TEAM_DEPTHWISE, 7, 7, 52, 7, 7, 52, 3, 3, 1, 1, 1, 1, 1, 1, 52)              \
    C(deep_large, 2, TEAM_DEPTHWISE, 13, 18, 20, 13, 18, 20, 5, 5, 1, 1, 2, 2, 1, 1, 20)           \
    C(deep_apart, 2, TEAM_DEPTHWISE, 11, 24, 16, 11, 24, 16, 3, 3, 1, 1, 2, 2, 2, 2, 16)           \
    C(cardinal, 2, TEAM, 7, 9, 12, 7, 9, 12, 3, 3, 1, 1, 1, 1, 1, 1, 4)                           \
    C(wide, 2, PLAIN, 9, 30, 3, 9, 30, 4, 1, 11, 1, 1, 0, 5, 1, 1, 1)                              \
    C(stride3, 2, TEAM, 20, 20, 4, 7, 7, 18, 5, 5, 3, 3, 2, 2, 1, 1, 1)                         \
    C(tiny, 5, TEAM, 2, 2, 70, 2, 2, 130, 3, 3, 1, 1, 1, 1, 1, 1, 1)                              \
    C(far, 3, TEAM, 6, 5, 300, 6, 5, 70, 3, 3, 1, 1, 1, 1, 1, 1, 1)                               \
    C(far_half, 2, TEAM, 7, 9, 290, 4, 5, 210, 3, 3, 2, 2, 1, 1, 1, 1, 1)                         \
    C(far_point, 3, TEAM, 9, 7, 520, 9, 7, 260, 1, 1, 1, 1, 0, 0, 1, 1, 1)                        \
    C(far_lines, 2, TEAM, 11, 13, 160, 11, 13, 100, 3, 3, 1, 1, 1, 1, 1, 1, 1)                    \
    C(panels, 3, PANELS, 6, 5, 300, 6, 5, 70, 3, 3, 1, 1, 1, 1, 1, 1, 1)                          \
    C(panels_half, 2, PANELS, 7, 19, 290, 4, 10, 130, 3, 3, 2, 2, 1, 1, 1, 1, 1)                  \
    C(panels_point, 3, PANELS, 9, 7, 520, 9, 7, 260, 1, 1, 1, 1, 0, 0, 1, 1, 1)                   \
    C(deep, 1, TEAM, 4, 40, 280, 4, 40, 9, 5, 1, 1, 1, 2, 0, 1, 1, 1)                             \
    C(many_points, 2, TEAM, 13, 11, 40, 13, 11, 40, 1, 1, 1, 1, 0, 0, 1, 1, 1)                    \
    C(colours, 2, PLAIN, 14, 17, 3, 7, 9, 20, 4, 4, 2, 2, 1, 1, 1, 1, 1)                           \
    C(skipped, 2, TEAM, 9, 13, 20, 3, 5, 18, 2, 1, 3, 3, 0, 0, 1, 1, 1)                            \
    C(sparse, 3, TEAM, 10, 12, 100, 5, 6, 170, 1, 1, 2, 2, 0, 0, 1, 1, 1)                         \
    C(sparse_odd, 2, TEAM, 9, 11, 101, 3, 6, 190, 1, 1, 3, 2, 0, 0, 1, 1, 1)                      \
    C(sparse_far, 2, TEAM, 8, 9, 300, 4, 5, 450, 1, 1, 2, 2, 0, 0, 1, 1, 1)                       \
    C(point_parts, 3, TEAM, 13, 11, 42, 13, 11, 170, 1, 1, 1, 1, 0, 0, 1, 1, 1)                   \
    C(point_many, 9, TEAM, 13, 11, 140, 13, 11, 130, 1, 1, 1, 1, 0, 0, 1, 1, 1)                   \
    C(stem_wide, 2, TEAM_MERGED, 60, 64, 3, 30, 32, 64, 7, 7, 2, 2, 3, 3, 1, 1, 1)

#define DEFINE(name, rows, forms, ...) CONV_CASE_(conv_##name, forms, NN_CONV(__VA_ARGS__))
#define CONV_CASE_(...)                CONV_CASE(__VA_ARGS__)
CONVS(DEFINE)

#define WINOGRADS(C)                                                                               \
    C(w_even, 3, 12, 16, 16, 12, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1)                                \
    C(w_odd, 5, 7, 5, 24, 7, 5, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1)                                     \
    C(w_valid, 2, 9, 10, 33, 7, 8, 17, 3, 3, 1, 1, 0, 0, 1, 1, 1)                                  \
    C(w_full, 3, 6, 3, 64, 8, 5, 64, 3, 3, 1, 1, 2, 2, 1, 1, 1)                                    \
    C(w_pixel, 9, 1, 1, 5, 1, 1, 6, 3, 3, 1, 1, 1, 1, 1, 1, 1)                                     \
    C(w_deep, 2, 4, 4, 300, 4, 4, 130, 3, 3, 1, 1, 1, 1, 1, 1, 1)

#define DEFINE_WINOGRAD(name, rows, ...) WINOGRAD_CASE(conv_##name, NN_CONV(__VA_ARGS__))
WINOGRADS(DEFINE_WINOGRAD)

START_TEST(convolution_matches_plain_loops)
{
#define CHECK(name, rows, forms, ...)    check_conv(conv_##name, rows, NN_CONV(__VA_ARGS__));
#define CHECK_WINOGRAD(name, rows, ...)  check_conv(conv_##name, rows, NN_CONV(__VA_ARGS__));
    CONVS(CHECK)
    WINOGRADS(CHECK_WINOGRAD)
}
END_TEST
#endif

/* ---- another branch ---- */

/* A residual branch is added, and relu applied, where results are stored: the same bits as afterwards, in all forms and
 * where tiles stick out. */
#define BRANCHES(F)                                                                   \
    F(winograd, 7, 5, 24, 7, 5, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1)                        \
    F(team, 9, 10, 16, 9, 10, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1)                          \
    F(team, 9, 29, 6, 5, 15, 32, 5, 5, 2, 2, 2, 2, 1, 1, 2)      /* groups */         \
    F(team, 11, 10, 1, 11, 10, 6, 5, 5, 1, 1, 2, 2, 1, 1, 1)     /* wide pixels */    \
    F(team, 7, 9, 48, 7, 9, 40, 1, 1, 1, 1, 0, 0, 1, 1, 1)       /* points */         \
    F(team, 13, 14, 96, 13, 14, 156, 3, 3, 1, 1, 1, 1, 1, 1, 1)  /* far weights */    \
    F(team, 8, 8, 96, 4, 4, 156, 3, 3, 2, 2, 1, 1, 1, 1, 1)      /* scattered ones */ \
    F(team, 5, 5, 300, 5, 5, 450, 1, 1, 1, 1, 0, 0, 1, 1, 1)     /* far points */     \
    F(panels, 13, 14, 96, 13, 14, 156, 3, 3, 1, 1, 1, 1, 1, 1, 1)                     \
    F(panels, 8, 8, 96, 4, 4, 156, 3, 3, 2, 2, 1, 1, 1, 1, 1)                         \
    F(panels, 5, 5, 300, 5, 5, 450, 1, 1, 1, 1, 0, 0, 1, 1, 1)

typedef struct Branch {
    int form_index; /* in BRANCHES */
    const nn_real *x, *w, *bias, *add;
    nn_real *scratch, *plain, *sum;
} Branch;

enum { BRANCH_ROWS = 3 };
#define BY_winograd(relu, add, y) \
    nn_conv2d_winograd(team, BRANCH_ROWS, c, relu, a->x, a->w, a->bias, add, a->scratch, y)
#define BY_team(relu, add, y) nn_conv2d_team(team, BRANCH_ROWS, c, relu, a->x, a->w, a->bias, add, y)
#define BY_panels(relu, add, y)                                                         \
    nn_conv2d_panels_weights(team, c, a->w, panels_of_weights);                      \
    nn_barrier(team);                                                                \
    nn_conv2d_panels(team, BRANCH_ROWS, c, relu, a->x, panels_of_weights, a->bias, add, y)
#define BRANCH(form, ...)                       \
    if (a->form_index == at++) {                \
        const nn_conv c = NN_CONV(__VA_ARGS__); \
        BY_##form(0, NULL, a->plain);           \
        nn_barrier(team);                       \
        BY_##form(1, a->add, a->sum);           \
    }

static void branch(void *arg, const nn_team *team)
{
    const Branch *a = arg;
    int at = 0;
    BRANCHES(BRANCH)
}

START_TEST(another_branch_is_added)
{
#define GEOMETRY(form, ...) NN_CONV(__VA_ARGS__),
    const nn_conv geometry[] = { BRANCHES(GEOMETRY) };
    for (int i = 0; i < (int)(sizeof geometry / sizeof *geometry); i++) {
        const nn_conv c = geometry[i];
        const nn_dim nx = BRANCH_ROWS * c.h * c.w * c.ci, ny = BRANCH_ROWS * c.oh * c.ow * c.co;
        nn_real *x = reals(nx, 1), *w = reals(nn_conv_weights(c), 1), *bias = reals(c.co, 1), *add = reals(ny, 1);
        Branch a = { .form_index = i, .x = x, .w = w, .bias = bias, .add = add,
                     .scratch = reals(16 * c.ci * nn_winograd_wide(c.co), 0), .plain = reals(ny, 0),
                     .sum = reals(ny, 0) };
        for (int t = 1; t <= TEAMS; t++) {
            nn_pool_run(pools[t], branch, &a);
            for (nn_dim k = 0; k < ny; k++) {
                const nn_real y = a.plain[k] + add[k];
                a.plain[k] = y < 0 ? 0 : y;
            }
            expect_same("conv2d and another branch", ny, a.sum, a.plain);
        }
        free(x), free(w), free(bias), free(add), free(a.scratch), free(a.plain), free(a.sum);
    }
}
END_TEST

/* One sample from panels, several from transformed weights: the same convolution. */
#define PREPARED NN_CONV(4, 5, 96, 4, 5, 156, 3, 3, 1, 1, 1, 1, 1, 1, 1)
typedef struct Prepared {
    nn_dim rows;
    const nn_real *x, *w, *bias;
    nn_real *u, *y, *plain;
} Prepared;

static void prepared(void *arg, const nn_team *team)
{
    const Prepared *a = arg;
    const nn_conv c = PREPARED;
    nn_winograd_weights(team, c.ci, c.co, a->w, a->u);
    nn_conv2d_panels_weights(team, c, a->w, panels_of_weights);
    nn_barrier(team);
    nn_conv2d_prepared(team, a->rows, c, 1, a->x, a->u, panels_of_weights, a->bias, NULL, a->y);
    nn_conv2d_team(team, a->rows, c, 1, a->x, a->w, a->bias, NULL, a->plain);
}

START_TEST(prepared_convolution_takes_any_batch)
{
    const nn_conv c = PREPARED;
    for (nn_dim rows = 1; rows <= 3; rows += 2) {
        const nn_dim nx = rows * c.h * c.w * c.ci, ny = rows * c.oh * c.ow * c.co;
        nn_real *x = reals(nx, 1), *w = reals(nn_conv_weights(c), 1), *bias = reals(c.co, 1);
        Prepared a = { .rows = rows, .x = x, .w = w, .bias = bias,
                       .u = reals(16 * c.ci * nn_winograd_wide(c.co), 0), .y = reals(ny, 0), .plain = reals(ny, 0) };
        double *want = doubles(ny);
        for (int t = 1; t <= TEAMS; t++) {
            nn_pool_run(pools[t], prepared, &a);
            for (nn_dim i = 0; i < ny; i++) want[i] = (double)a.plain[i];
            expect_within("prepared conv2d", ny, a.y, want, square_sum(ny, want));
            for (nn_dim i = 0; i < ny; i++) a.y[i] = (nn_real)NAN;
        }
        free(x), free(w), free(bias), free(a.u), free(a.y), free(a.plain), free(want);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kernels_b");
    TCase *t = kernels_case(s, "kernels_b");
    tcase_add_test(t, dense_matches_plain_loops);
    tcase_add_test(t, bias_grad_sums_positions);
    tcase_add_test(t, recurrent_loops_match_steps);
    tcase_add_test(t, matmul_matches_plain_loops);
    tcase_add_test(t, convolution_matches_plain_loops);
    tcase_add_test(t, another_branch_is_added);
    tcase_add_test(t, prepared_convolution_takes_any_batch);
    return run_suite(s);
}
