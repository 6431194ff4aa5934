/* SPDX-License-Identifier: MIT
 *
 * Kernels of pooling and normalisation against plain loops in double precision, on teams of one, two and three threads,
 * which must give the same bits. They have no tiles, so sizes known only at run time say it all. test_pool_norm_f64.c
 * builds this file in double precision.
 */
#define NN_SMALL_CODE
#include "kernels_check.h"

/* ---- pooling ---- */

typedef struct Pool {
    nn_pool2d g;
    nn_dim rows, end_h, end_w;
    int bytes, count_pad;
    nn_real *x, *dy, *y, *dx, *avg, *davg;
    void *index;
} Pool;

static void pool_any(void *arg, const nn_team *team)
{
    const Pool *p = arg;
    const nn_pool2d g = p->g;
    const nn_dim image = g.h * g.w * g.c, map = g.oh * g.ow * g.c;
    nn_dim from, to;
    nn_share(team->rank, team->size, p->rows, 1, &from, &to);
    char *index = (char *)p->index + from * map * p->bytes;
    nn_max_pool2d(to - from, g, p->x + from * image, p->y + from * map, index, p->bytes);
    nn_max_pool2d_dx(to - from, g, p->dy + from * map, index, p->bytes, p->dx + from * image);
    if (g.dil_h != 1 || g.dil_w != 1) return;
    nn_avg_pool2d(to - from, g, p->count_pad, p->end_h, p->end_w, p->x + from * image,
                  p->avg + from * map);
    nn_avg_pool2d_dx(to - from, g, p->count_pad, p->end_h, p->end_w, p->dy + from * map,
                     p->davg + from * image);
}

/* Lines divided by the team instead of samples, with positions and without. */
static void pool_lines(void *arg, const nn_team *team)
{
    const Pool *p = arg;
    nn_max_pool2d_team(team, p->rows, p->g, p->x, p->y, p->index, p->bytes);
}

static void check_pool(Pool p)
{
    const nn_pool2d g = p.g;
    const nn_dim nx = p.rows * g.h * g.w * g.c, ny = p.rows * g.oh * g.ow * g.c;
    p.x = reals(nx, 1);
    for (nn_dim i = 0; i < nx; i += 3) p.x[i] = (nn_real)floor((double)p.x[i] * 4); /* ties */
    if (nx > 5) p.x[5] = (nn_real)NAN;
    if (nx > 9) p.x[9] = -NN_INF;
    p.dy = reals(ny, 1);
    p.y = reals(ny, 0), p.avg = reals(ny, 0), p.dx = reals(nx, 0), p.davg = reals(nx, 0);
    p.index = malloc((size_t)(ny * p.bytes));
    double *y = doubles(ny), *dx = doubles(nx), *avg = doubles(ny), *davg = doubles(nx);
    for (int t = 1; t <= TEAMS; t++) nn_pool_run(pools[t], pool_any, &p);
    nn_real *alone = reals(ny, 0); /* without positions, in two shares */
    const nn_dim half = p.rows / 2;
    nn_max_pool2d(half, g, p.x, alone, NULL, p.bytes);
    nn_max_pool2d(p.rows - half, g, p.x + half * (nx / p.rows), alone + half * (ny / p.rows), NULL, p.bytes);
    ck_assert_mem_eq(alone, p.y, (size_t)ny * sizeof *alone);
    void *index = malloc((size_t)(ny * p.bytes));
    for (int t = 1; t <= TEAMS; t++)
        for (int positions = 0; positions < 2; positions++) {
            Pool lines = p;
            lines.y = alone;
            lines.index = positions ? index : NULL;
            memset(alone, 0, (size_t)ny * sizeof *alone);
            nn_pool_run(pools[t], pool_lines, &lines);
            ck_assert_mem_eq(alone, p.y, (size_t)ny * sizeof *alone);
            if (positions) ck_assert_mem_eq(index, p.index, (size_t)(ny * p.bytes));
        }
    free(index);
    free(alone);
    for (nn_dim o = 0; o < ny; o++) {
        const nn_dim k = o % g.c, j = o / g.c % g.ow, i = o / g.c / g.ow % g.oh,
                     n = o / g.c / g.ow / g.oh;
        const nn_dim h0 = i * g.step_h - g.pad_top, w0 = j * g.step_w - g.pad_left;
        double best = 0, sum = 0;
        nn_dim at = -1, at_x = 0, count = 0;
        for (nn_dim r = 0; r < g.kh; r++)
            for (nn_dim s = 0; s < g.kw; s++) {
                const nn_dim ih = h0 + r * g.dil_h, iw = w0 + s * g.dil_w;
                if (p.count_pad && ih < p.end_h && iw < p.end_w) count++;
                if (ih < 0 || ih >= g.h || iw < 0 || iw >= g.w) continue;
                if (!p.count_pad) count++;
                const nn_dim here = ((n * g.h + ih) * g.w + iw) * g.c + k;
                const double v = (double)p.x[here];
                sum += v;
                if (at < 0 || v > best || isnan(v)) best = v, at = r * g.kw + s, at_x = here;
            }
        if (at < 0) { /* a dilated window may miss the image altogether */
            ck_assert(p.y[o] == -NN_INF);
            continue;
        }
        y[o] = best;
        dx[at_x] += (double)p.dy[o];
        ck_assert(isnan(best) ? isnan(p.y[o]) : (double)p.y[o] == best);
        const nn_dim got = p.bytes == 1 ? ((uint8_t *)p.index)[o] : ((int32_t *)p.index)[o];
        ck_assert_int_eq((int)got, (int)at);
        if (g.dil_h != 1 || g.dil_w != 1) continue;
        avg[o] = sum / (double)count;
        if (isfinite(avg[o]))
            ck_assert(fabs((double)p.avg[o] - avg[o]) <= 1e-5);
        else
            ck_assert(!isfinite(p.avg[o]));
        for (nn_dim r = 0; r < g.kh; r++)
            for (nn_dim s = 0; s < g.kw; s++) {
                const nn_dim ih = h0 + r, iw = w0 + s;
                if (ih < 0 || ih >= g.h || iw < 0 || iw >= g.w) continue;
                davg[((n * g.h + ih) * g.w + iw) * g.c + k] += (double)p.dy[o] / (double)count;
            }
    }
    expect_close("max_pool2d_dx", nx, p.dx, dx);
    if (g.dil_h == 1 && g.dil_w == 1) expect_close("avg_pool2d_dx", nx, p.davg, davg);
    free(p.x), free(p.dy), free(p.y), free(p.avg), free(p.dx), free(p.davg), free(p.index);
    free(y), free(dx), free(avg), free(davg);
}

START_TEST(pooling_matches_plain_loops)
{
    for (int i = 0; i < CASES(400);) {
        nn_pool2d g = { .h = draw(1, 9),
                        .w = draw(1, 9),
                        .c = draw(1, 40),
                        .kh = draw(1, 4),
                        .kw = draw(1, 4),
                        .step_h = draw(1, 4),
                        .step_w = draw(1, 4),
                        .dil_h = 1,
                        .dil_w = 1 };
        if (i % 5 == 0) g.step_h = g.kh = 2, g.step_w = g.kw = 2;
        if (i % 7 == 0) g.dil_h = draw(1, 3), g.dil_w = draw(1, 3);
        if (i % 11 == 0) g.step_h = g.kh, g.step_w = g.kw, g.w = draw(30, 90), g.c = draw(1, 15);
        g.pad_top = i % 11 ? draw(0, (int)g.kh / 2) : 0;
        g.pad_left = i % 11 ? draw(0, (int)g.kw / 2) : 0;
        const nn_dim bottom = draw(0, (int)g.kh / 2), right = draw(0, (int)g.kw / 2);
        const nn_dim h = g.h + g.pad_top + bottom - ((g.kh - 1) * g.dil_h + 1);
        const nn_dim w = g.w + g.pad_left + right - ((g.kw - 1) * g.dil_w + 1);
        if (h < 0 || w < 0) continue;
        g.oh = (h + g.step_h - 1) / g.step_h + 1;
        g.ow = (w + g.step_w - 1) / g.step_w + 1;
        if ((g.oh - 1) * g.step_h >= g.h + g.pad_top) g.oh--;
        if ((g.ow - 1) * g.step_w >= g.w + g.pad_left) g.ow--;
        check_pool((Pool){ .g = g,
                           .rows = draw(1, 4),
                           .end_h = g.h + bottom,
                           .end_w = g.w + right,
                           .bytes = i % 3 ? 1 : 4,
                           .count_pad = i & 1 });
        i++;
    }
}
END_TEST

START_TEST(global_pooling_matches_plain_loops)
{
    for (int i = 0; i < 40; i++) {
        const nn_dim rows = draw(1, 4), channels = draw(1, 40), inner = draw(1, 30), last = i & 1;
        const nn_dim c_step = last ? 1 : inner, i_step = last ? channels : 1, n = rows * channels;
        nn_real *x = reals(n * inner, 1), *y = reals(n, 0), *m = reals(n, 0),
                *dx = reals(n * inner, 0);
        int32_t *index = malloc((size_t)n * sizeof *index);
        nn_global_avg_pool(rows, channels, inner, c_step, i_step, x, y);
        nn_global_max_pool(rows, channels, inner, c_step, i_step, x, m, index);
        nn_global_max_pool_dx(rows, channels, inner, c_step, i_step, m, index, dx);
        for (nn_dim o = 0; o < n; o++) {
            const nn_dim at = o / channels * channels * inner + o % channels * c_step;
            double sum = 0, best = -1;
            for (nn_dim j = 0; j < inner; j++) {
                const double v = (double)x[at + j * i_step];
                sum += v;
                best = v > best ? v : best;
                ck_assert((double)dx[at + j * i_step] == (index[o] == j ? (double)m[o] : 0));
            }
            ck_assert(fabs((double)y[o] - sum / (double)inner) <= 1e-6);
            ck_assert((double)m[o] == best);
            ck_assert((double)x[at + index[o] * i_step] == best);
        }
        free(x), free(y), free(m), free(dx), free(index);
    }
}
END_TEST

/* ---- normalisation ---- */

typedef struct Norm {
    nn_dim outer, channels, inner;
    nn_real eps, *x, *dy, *weight, *bias, *scratch, *y, *mean, *var, *dx, *dw, *db, *y2;
} Norm;

static void batch_norm_any(void *arg, const nn_team *team)
{
    const Norm *p = arg;
    nn_batch_norm_train(team, p->outer, p->channels, p->inner, p->eps, p->x, p->weight, p->bias,
                        p->scratch, p->y, p->mean, p->var);
    nn_barrier(team);
    nn_batch_norm_train_dx(team, p->outer, p->channels, p->inner, p->eps, p->dy, p->x, p->mean,
                           p->var, p->weight, p->scratch, p->dx, p->dw, p->db);
    nn_dim from, to;
    nn_share(team->rank, team->size, p->outer, 1, &from, &to);
    const nn_dim row = p->channels * p->inner;
    nn_batch_norm(to - from, p->channels, p->inner, p->eps, p->x + from * row, p->weight, p->bias,
                  p->mean, p->var, p->y2 + from * row);
}

static void check_batch_norm(nn_dim outer, nn_dim channels, nn_dim inner, double offset,
                             double spread)
{
    const nn_dim n = outer * channels * inner;
    const double count = (double)(outer * inner);
    Norm p = { .outer = outer, .channels = channels, .inner = inner, .eps = (nn_real)1e-5 };
    p.x = reals(n, 1);
    p.dy = reals(n, 1);
    p.weight = reals(channels, 1);
    p.bias = reals(channels, 1);
    for (nn_dim i = 0; i < n; i++) p.x[i] = (nn_real)(offset + spread * (double)p.x[i]);
    p.scratch = reals((NN_NORM_PARTS * NN_NORM_SUMS + 3) * channels + NN_NORM_PARTS, 0);
    /* The reference takes differences to a first value, too: doubles alone would lose digits at a large mean. */
    double *y = doubles(n), *dx = doubles(n), *mean = doubles(channels), *var = doubles(channels);
    double *dw = doubles(channels), *db = doubles(channels), *h = doubles(n),
           *x_scale = doubles(channels);
    double *dy_scale = doubles(channels), *rest = doubles(channels);
    for (nn_dim i = 0; i < n; i++) {
        const nn_dim c = i / inner % channels;
        rest[c] += ((double)p.x[i] - (double)p.x[c * inner]) / count;
        x_scale[c] += fabs((double)p.x[i]) / count;
        dy_scale[c] += fabs((double)p.dy[i]);
    }
    for (nn_dim c = 0; c < channels; c++) mean[c] = (double)p.x[c * inner] + rest[c];
    for (nn_dim i = 0; i < n; i++) {
        const nn_dim c = i / inner % channels;
        h[i] = (double)p.x[i] - (double)p.x[c * inner] - rest[c];
        var[c] += h[i] * h[i] / count;
    }
    for (nn_dim i = 0; i < n; i++) {
        const nn_dim c = i / inner % channels;
        h[i] /= sqrt(var[c] + (double)p.eps);
        y[i] = h[i] * (double)p.weight[c] + (double)p.bias[c];
        dw[c] += (double)p.dy[i] * h[i];
        db[c] += (double)p.dy[i];
    }
    for (nn_dim i = 0; i < n; i++) {
        const nn_dim c = i / inner % channels;
        dx[i] = (double)p.weight[c] / sqrt(var[c] + (double)p.eps) *
                ((double)p.dy[i] - db[c] / count - h[i] * dw[c] / count);
    }
    nn_real *first[5] = { NULL };
    for (int t = 1; t <= TEAMS; t++) {
        nn_real **const got[] = { &p.y, &p.dx, &p.dw, &p.db, &p.y2 };
        const nn_dim size[] = { n, n, channels, channels, n };
        p.mean = reals(channels, 0), p.var = reals(channels, 0);
        for (int i = 0; i < 5; i++) *got[i] = reals(size[i], 0);
        nn_pool_run(pools[t], batch_norm_any, &p);
        if (t == 1) {
            expect_close("batch_norm_train", n, p.y, y);
            expect_sum("batch_norm_train mean", channels, p.mean, mean, x_scale);
            expect_close("batch_norm_train var", channels, p.var, var);
            expect_close("batch_norm_train_dx", n, p.dx, dx);
            expect_sum("batch_norm_train dweight", channels, p.dw, dw, dy_scale);
            expect_sum("batch_norm_train dbias", channels, p.db, db, dy_scale);
            if (offset == 0) expect_close("batch_norm", n, p.y2, y);
            for (int i = 0; i < 5; i++) first[i] = *got[i];
        } else {
            for (int i = 0; i < 5; i++) {
                expect_same("batch_norm_train", size[i], *got[i], first[i]);
                free(*got[i]);
            }
        }
        free(p.mean), free(p.var);
    }
    for (int i = 0; i < 5; i++) free(first[i]);
    free(p.x), free(p.dy), free(p.weight), free(p.bias), free(p.scratch);
    free(y), free(dx), free(mean), free(var), free(dw), free(db);
    free(h), free(x_scale), free(dy_scale), free(rest);
}

/* With relu and a sum in the kernels: what plain batch norm, a loop and plain gradients give. */
typedef struct NormAct {
    nn_dim outer, channels, inner;
    nn_real *x, *dy, *more, *weight, *bias, *scratch, *y, *sum, *mean, *var, *scale, *shift, *dx, *dw, *db;
} NormAct;

static void batch_norm_act_any(void *arg, const nn_team *team)
{
    const NormAct *p = arg;
    const nn_real eps = (nn_real)1e-5;
    nn_batch_norm_act(team, p->outer, p->channels, p->inner, eps, 1, p->x, p->weight, p->bias, p->more, NULL,
                      p->scratch, p->sum, NULL, NULL, NULL, NULL);
    nn_barrier(team);
    nn_batch_norm_act(team, p->outer, p->channels, p->inner, eps, 1, p->x, p->weight, p->bias, NULL, NULL, p->scratch,
                      p->y, p->mean, p->var, p->scale, p->shift);
    nn_barrier(team);
    nn_batch_norm_act_dx(team, p->outer, p->channels, p->inner, eps, 1, p->dx, p->x, p->mean, p->var, p->weight,
                         p->scale, p->shift, NULL, p->scratch, p->dx, p->dw, p->db);
}

static void check_batch_norm_act(nn_dim outer, nn_dim channels, nn_dim inner)
{
    const nn_dim n = outer * channels * inner;
    NormAct p = { .outer = outer, .channels = channels, .inner = inner };
    nn_real **const per_channel[] = { &p.mean, &p.var, &p.scale, &p.shift, &p.dw, &p.db };
    p.x = reals(n, 1), p.dy = reals(n, 1), p.more = reals(n, 1);
    p.weight = reals(channels, 1), p.bias = reals(channels, 1);
    p.y = reals(n, 0), p.sum = reals(n, 0), p.dx = reals(n, 0);
    for (int i = 0; i < 6; i++) *per_channel[i] = reals(channels, 0);
    p.scratch = reals((NN_NORM_PARTS * NN_NORM_SUMS + 3) * channels + NN_NORM_PARTS, 0);
    Norm plain = { .outer = outer, .channels = channels, .inner = inner, .eps = (nn_real)1e-5 };
    plain.x = p.x, plain.weight = p.weight, plain.bias = p.bias, plain.scratch = p.scratch;
    plain.y = reals(n, 0), plain.y2 = reals(n, 0), plain.dx = reals(n, 0), plain.dy = reals(n, 0);
    plain.mean = reals(channels, 0), plain.var = reals(channels, 0);
    plain.dw = reals(channels, 0), plain.db = reals(channels, 0);
    double *y = doubles(n), *sum = doubles(n), *dx = doubles(n), *dw = doubles(channels), *db = doubles(channels);
    double *scale = doubles(channels);
    batch_norm_any(&plain, &(const nn_team){ 0, 1, NULL });
    for (nn_dim i = 0; i < n; i++) {
        y[i] = (double)plain.y[i] < 0 ? 0 : (double)plain.y[i];
        sum[i] = (double)plain.y[i] + (double)p.more[i];
        sum[i] = sum[i] < 0 ? 0 : sum[i];
        plain.dy[i] = plain.y[i] <= 0 ? 0 : p.dy[i];
        scale[i / inner % channels] += fabs((double)p.dy[i]);
    }
    batch_norm_any(&plain, &(const nn_team){ 0, 1, NULL });
    for (nn_dim i = 0; i < n; i++) dx[i] = (double)plain.dx[i];
    for (nn_dim c = 0; c < channels; c++) dw[c] = (double)plain.dw[c], db[c] = (double)plain.db[c];
    nn_real *first = reals(n, 0);
    for (int t = 1; t <= TEAMS; t++) {
        memcpy(p.dx, p.dy, (size_t)n * sizeof *p.dx);
        nn_pool_run(pools[t], batch_norm_act_any, &p);
        expect_close("batch_norm_act", n, p.y, y);
        expect_close("batch_norm_act with a sum", n, p.sum, sum);
        expect_close("batch_norm_act_dx", n, p.dx, dx);
        expect_sum("batch_norm_act dweight", channels, p.dw, dw, scale);
        expect_sum("batch_norm_act dbias", channels, p.db, db, scale);
        if (t > 1) expect_same("batch_norm_act_dx", n, p.dx, first);
        memcpy(first, p.dx, (size_t)n * sizeof *first);
    }
    for (int i = 0; i < 6; i++) free(*per_channel[i]);
    free(p.x), free(p.dy), free(p.more), free(p.weight), free(p.bias), free(p.y), free(p.sum), free(p.dx);
    free(p.scratch), free(first), free(y), free(sum), free(dx), free(dw), free(db), free(scale);
    free(plain.y), free(plain.y2), free(plain.dx), free(plain.dy), free(plain.mean), free(plain.var);
    free(plain.dw), free(plain.db);
}

START_TEST(batch_norm_takes_relu_and_a_sum_in)
{
    for (int i = 0; i < CASES(30); i++) check_batch_norm_act(draw(5, 200), draw(1, 40), i & 1 ? 1 : draw(2, 40));
}
END_TEST

START_TEST(batch_norm_matches_plain_loops)
{
    for (int i = 0; i < CASES(60); i++)
        check_batch_norm(draw(5, 200), draw(1, 40), i & 1 ? 1 : draw(2, 40), 0, 2);
}
END_TEST

START_TEST(batch_norm_keeps_digits_at_a_large_mean)
{
    for (int i = 0; i < CASES(10); i++) {
        check_batch_norm(draw(50, 3000), draw(1, 20), 1, 1e4, 1);
        check_batch_norm(draw(5, 50), draw(1, 20), draw(10, 50), -1e4, 1);
    }
}
END_TEST

typedef struct LayerNorm {
    nn_dim rows, n;
    nn_real eps, *x, *dy, *weight, *bias, *scratch, *y, *mean, *rstd, *dx, *dw, *db;
} LayerNorm;

static void layer_norm_any(void *arg, const nn_team *team)
{
    const LayerNorm *p = arg;
    nn_dim from, to;
    nn_share(team->rank, team->size, p->rows, 1, &from, &to);
    nn_layer_norm(to - from, p->n, p->eps, p->x + from * p->n, p->weight, p->bias,
                  p->y + from * p->n, p->mean + from, p->rstd + from);
    nn_barrier(team);
    nn_layer_norm_dx(team, p->rows, p->n, p->dy, p->x, p->mean, p->rstd, p->weight, p->scratch,
                     p->dx, p->dw, p->db);
}

static void check_layer_norm(nn_dim rows, nn_dim n, double offset, int affine)
{
    LayerNorm p = { .rows = rows, .n = n, .eps = (nn_real)1e-5 };
    p.x = reals(rows * n, 1);
    p.dy = reals(rows * n, 1);
    p.weight = affine ? reals(n, 1) : NULL;
    p.bias = affine ? reals(n, 1) : NULL;
    p.scratch = reals(2 * NN_NORM_PARTS * n, 0);
    for (nn_dim i = 0; i < rows * n; i++) p.x[i] += (nn_real)offset;
    double *y = doubles(rows * n), *dx = doubles(rows * n), *dw = doubles(n), *db = doubles(n);
    for (nn_dim r = 0; r < rows; r++) {
        double mean = 0, var = 0, sum_g = 0, sum_gh = 0;
        const nn_real *x = p.x + r * n, *dy = p.dy + r * n;
        const double first_x = (double)x[0]; /* as above: differences keep their digits */
        for (nn_dim i = 0; i < n; i++) mean += ((double)x[i] - first_x) / (double)n;
        for (nn_dim i = 0; i < n; i++)
            var += ((double)x[i] - first_x - mean) * ((double)x[i] - first_x - mean) / (double)n;
        const double rstd = 1 / sqrt(var + (double)p.eps);
        for (nn_dim i = 0; i < n; i++) {
            const double h = ((double)x[i] - first_x - mean) * rstd,
                         g = (double)dy[i] * (affine ? (double)p.weight[i] : 1);
            y[r * n + i] = affine ? h * (double)p.weight[i] + (double)p.bias[i] : h;
            sum_g += g / (double)n;
            sum_gh += g * h / (double)n;
            dw[i] += (double)dy[i] * h;
            db[i] += (double)dy[i];
        }
        for (nn_dim i = 0; i < n; i++) {
            const double h = ((double)x[i] - first_x - mean) * rstd,
                         g = (double)dy[i] * (affine ? (double)p.weight[i] : 1);
            dx[r * n + i] = rstd * (g - sum_g - h * sum_gh);
        }
    }
    nn_real *first[4] = { NULL };
    for (int t = 1; t <= TEAMS; t++) {
        nn_real **const got[] = { &p.y, &p.dx, &p.dw, &p.db };
        double *const want[] = { y, dx, dw, db };
        const nn_dim size[] = { rows * n, rows * n, n, n };
        p.mean = reals(rows, 0), p.rstd = reals(rows, 0);
        for (int i = 0; i < 4; i++) *got[i] = reals(size[i], 0);
        nn_pool_run(pools[t], layer_norm_any, &p);
        for (int i = 0; i < 4; i++) {
            static const char *const what[] = { "layer_norm", "layer_norm_dx", "dweight", "dbias" };
            if (t == 1) {
                expect_close(what[i], size[i], *got[i], want[i]);
                first[i] = *got[i];
            } else {
                expect_same(what[i], size[i], *got[i], first[i]);
                free(*got[i]);
            }
        }
        free(p.mean), free(p.rstd);
    }
    for (int i = 0; i < 4; i++) free(first[i]);
    free(p.x), free(p.dy), free(p.weight), free(p.bias), free(p.scratch), free(y), free(dx),
        free(dw), free(db);
}

START_TEST(layer_norm_matches_plain_loops)
{
    for (int i = 0; i < CASES(40); i++)
        check_layer_norm(draw(1, 50), draw(4, 200), i % 4 == 3 ? 1e4 : 0, i & 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pool_norm");
    TCase *t = kernels_case(s, "pool_norm");
    tcase_add_test(t, pooling_matches_plain_loops);
    tcase_add_test(t, global_pooling_matches_plain_loops);
    tcase_add_test(t, batch_norm_matches_plain_loops);
    tcase_add_test(t, batch_norm_takes_relu_and_a_sum_in);
    tcase_add_test(t, batch_norm_keeps_digits_at_a_large_mean);
    tcase_add_test(t, layer_norm_matches_plain_loops);
    return run_suite(s);
}
