/* SPDX-License-Identifier: MIT
 *
 * Kernels of products (dense and recurrent layers, matmul) against plain loops in double precision. Every case runs on
 * teams of one, two and three threads and must give the same bits. This file is built with literal sizes, as generated
 * code calls the kernels; test_kernels_b_any.c builds it for many random sizes known only at run time; the _f64 files
 * do both in double precision.
 */
#include "kernels_check.h"

/* ---- dense ---- */

typedef struct Dense {
    nn_dim rows, in, out;
    int relu, acc;
    nn_real *x, *w, *bias, *add, *dy, *y, *dx, *dw, *db, *scratch;
    nn_real *branch, *mask; /* what follows dx; NULL: nothing */
    nn_real *panels, *y_kept; /* of kernels that read large weights as panels */
    int *keeps;               /* set by those */
    nn_real *part, *handed;   /* part of dw that goes to an update, and what all updates were given */
} Dense;

enum { PART = 48 };

static void hand_over(const nn_update *u, nn_dim from, nn_dim n, const nn_real *g)
{
    const Dense *d = u->args;
    memcpy(d->handed + u->param + from, g, (size_t)n * sizeof *g);
}

NN_INLINE void dense_all(const nn_team *team, const Dense *d, nn_dim in, nn_dim out)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, d->rows, 1, &from, &to);
    nn_dense(to - from, in, out, d->relu, d->x + from * in, d->w, d->bias, d->add ? d->add + from * out : NULL,
             d->y + from * out);
    nn_dense_dx(to - from, in, out, d->dy + from * out, d->w, d->branch ? d->branch + from * in : NULL,
                d->mask ? d->mask + from * in : NULL, d->dx + from * in);
    nn_dense_dw(team, d->rows, in, out, d->x, d->dy, d->dw, d->acc);
    nn_bias_grad(team, d->rows, out, 1, d->dy, d->scratch, d->db, d->acc);
}

/* What large weights get, with OpenBLAS and without. */
NN_INLINE void dense_large(const nn_team *team, const Dense *d, nn_dim in, nn_dim out, int blas)
{
    if (blas) {
        nn_dense_blas(team, d->rows, in, out, d->relu, d->x, d->w, d->bias, d->add, d->y);
        nn_dense_dx_wide(team, d->rows, in, out, d->dy, d->w, d->branch, d->mask, d->dx);
        nn_dense_dw_blas(team, d->rows, in, out, d->x, d->dy, d->dw, d->acc);
    } else {
        nn_dense_wide(team, d->rows, in, out, d->relu, d->x, d->w, d->bias, d->add, d->y);
        nn_dense_panels_weights(team, in, out, d->w, d->panels);
        if (team->rank == 0) *d->keeps = 1;
        nn_barrier(team);
        nn_dense_kept(team, d->rows, in, out, d->relu, d->x, d->panels, d->bias, d->add, d->y_kept);
        nn_dense_dx_wide(team, d->rows, in, out, d->dy, d->w, d->branch, d->mask, d->dx);
        nn_dense_dw(team, d->rows, in, out, d->x, d->dy, d->dw, d->acc);
        nn_dense_dw_update(team, d->rows, in, out, PART, d->x, d->dy, d->part,
                           &(const nn_update){ .run = hand_over, .args = (void *)(uintptr_t)d });
    }
    nn_bias_grad(team, d->rows, out, 1, d->dy, d->scratch, d->db, d->acc);
}

NN_INLINE void dense_gradients(const nn_team *team, const Dense *d, nn_dim in, nn_dim out)
{
    nn_dense_dx_tall(team, d->rows, in, out, d->dy, d->w, d->branch, d->mask, d->dx);
    nn_dense_dw(team, d->rows, in, out, d->x, d->dy, d->dw, d->acc);
    nn_bias_grad(team, d->rows, out, 1, d->dy, d->scratch, d->db, d->acc);
}

/* What samples of many rows get. */
NN_INLINE void dense_tall(const nn_team *team, const Dense *d, nn_dim in, nn_dim out)
{
    nn_dense_tall(team, d->rows, in, out, d->relu, d->x, d->w, d->bias, d->add, d->y);
    dense_gradients(team, d, in, out);
}

/* What weights of some size get, forward. */
NN_INLINE void dense_team(const nn_team *team, const Dense *d, nn_dim in, nn_dim out)
{
    nn_dense_team(team, d->rows, in, out, d->relu, d->x, d->w, d->bias, d->add, d->y);
    dense_gradients(team, d, in, out);
}

#ifdef NN_SMALL_CODE
static void dense_tall_any(void *arg, const nn_team *team)
{
    const Dense *d = arg;
    dense_tall(team, d, d->in, d->out);
}

static void dense_team_any(void *arg, const nn_team *team)
{
    const Dense *d = arg;
    dense_team(team, d, d->in, d->out);
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
    d.add = draw(0, 1) ? reals(rows * out, 1) : NULL;
    d.branch = draw(0, 1) ? reals(rows * in, 1) : NULL;
    d.mask = draw(0, 1) ? reals(rows * in, 1) : NULL;
    d.dy = reals(rows * out, 1);
    d.scratch = reals(NN_BIAS_PARTS * out, 0);
    int keeps = 0;
    d.keeps = &keeps;
    d.panels = reals(in * (out + NN_PANEL_COLS), 1);
    d.y_kept = reals(rows * out, 1);
    d.part = reals(PART * out, 1);
    d.handed = reals(in * out, 1);
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
            if (d.add) s += (double)d.add[m * out + o];
            y[m * out + o] = d.relu && s < 0 ? 0 : s;
        }
    for (nn_dim i = 0; i < rows * in; i++) {
        if (d.branch) dx[i] += (double)d.branch[i];
        if (d.mask && d.mask[i] <= 0) dx[i] = 0;
    }
    for (int t = 1; t <= TEAMS; t++) {
        d.y = reals(rows * out, 0);
        d.dx = reals(rows * in, 0);
        d.dw = reals(in * out, 0);
        d.db = reals(out, 0);
        d.acc = 0;
        nn_pool_run(pools[t], fn, &d);
        if (keeps) expect_same("dense, kept panels", rows * out, d.y_kept, d.y);
        if (keeps) expect_same("dense_dw, handed to an update", in * out, d.handed, d.dw);
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
    free(d.x), free(d.w), free(d.bias), free(d.dy), free(d.scratch), free(d.panels), free(d.y_kept), free(d.part),
        free(d.handed), free(y), free(dx), free(dw), free(db), free(db_scale);
}

#ifdef NN_SMALL_CODE
START_TEST(dense_matches_plain_loops)
{
    for (int i = 0; i < CASES(60); i++) check_dense(dense_any, draw(1, 40), draw(1, 70), draw(1, 140));
    for (int i = 0; i < CASES(30); i++) {
        check_dense(dense_wide_any, draw(1, 40), draw(1, 70), draw(1, 140));
        check_dense(dense_blas_any, draw(1, 40), draw(1, 70), draw(1, 140));
        check_dense(dense_team_any, draw(1, TEAMS + 1), draw(1, 70), draw(1, 140));
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
#define DENSE(name, kernels, in, out)                                                              \
    static void name(void *arg, const nn_team *team)                                               \
    {                                                                                              \
        kernels(team, (const Dense *)arg, in, out);                                                \
    }
DENSE(dense_784_10, dense_all, 784, 10)
DENSE(dense_120_84, dense_all, 120, 84)
DENSE(dense_37_65, dense_all, 37, 65)
DENSE(dense_1_1, dense_all, 1, 1)
DENSE(dense_3_31, dense_all, 3, 31)
DENSE(dense_130_200, dense_all, 130, 200)
DENSE(dense_9_283, dense_all, 9, 283)
#define DENSE_LARGE(name, in, out, blas)                                                           \
    static void name(void *arg, const nn_team *team)                                               \
    {                                                                                              \
        dense_large(team, (const Dense *)arg, in, out, blas);                                      \
    }
DENSE(dense_team_400_120, dense_team, 400, 120)
DENSE(dense_team_784_64, dense_team, 784, 64)
DENSE(dense_tall_512_130, dense_tall, 512, 130)
DENSE(dense_tall_130_512, dense_tall, 130, 512)
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
        check_dense(dense_team_400_120, rows, 400, 120);
        check_dense(dense_team_784_64, rows, 784, 64);
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

int main(void)
{
    Suite *s = suite_create("kernels_b");
    TCase *t = kernels_case(s, "kernels_b");
    tcase_add_test(t, dense_matches_plain_loops);
    tcase_add_test(t, bias_grad_sums_positions);
    tcase_add_test(t, recurrent_loops_match_steps);
    tcase_add_test(t, matmul_matches_plain_loops);
    return run_suite(s);
}
