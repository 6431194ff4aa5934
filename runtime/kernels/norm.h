/* SPDX-License-Identifier: MIT
 *
 * Batch and layer normalisation. Statistics take two passes: the mean from differences to a first value, then
 * differences to that mean, whose own remainder corrects both results, so a mean of 1e4 costs no digits of a
 * small variance. Sums over a batch are cut into a fixed number of parts that are combined in order, in
 * double precision.
 *
 * Batch normalisation sees memory as [outer][channels][inner]: inner = 1 for features and channels-last images.
 */
#ifndef NN_KERNELS_NORM_H
#define NN_KERNELS_NORM_H

#include "kernels/tile.h"

enum { NN_NORM_PARTS = 32, NN_NORM_SUMS = 3 };

/* n lanes at p; the lanes beyond are whatever follows before `end`, or fill. */
NN_INLINE nn_vec nn_load_before(const nn_real *p, int n, const nn_real *end, nn_real fill)
{
    return n == NN_VL || end - p >= NN_VL ? nn_load(p) : nn_load_part(p, n, fill);
}

/* What is summed about a channel, given c = x - m: c alone; c and c*c; or dy, dy*c and c. */
enum { NN_SUM_MEAN, NN_SUM_VAR, NN_SUM_DX };

NN_INLINE void nn_norm_add(int what, nn_vec x, nn_vec m, nn_vec dy, nn_vec s[NN_NORM_SUMS])
{
    const nn_vec c = x - m;
    if (what == NN_SUM_DX) {
        s[0] += dy;
        s[1] += dy * c;
        s[2] += c;
    } else {
        s[0] += c;
        if (what == NN_SUM_VAR) s[1] += c * c;
    }
}

/* Sums of n channels from k on over rows [r0, r1) of [outer][channels], in blocks so that rounding errors do not
 * pile up. `total` has outer * channels elements. */
NN_INLINE void nn_norm_sum_rows(int what, int n, nn_dim r0, nn_dim r1, nn_dim channels, nn_dim k, nn_dim total,
                                const nn_real *x, const nn_real *dy, const nn_real *m, nn_dim out_step, nn_real *out)
{
    enum { BLOCK = 64, WAYS = 4 };
    const nn_vec mv = nn_load_part(m + k, n, 0);
    nn_vec sum[NN_NORM_SUMS] = { { 0 } };
    for (nn_dim b = r0; b < r1; b += BLOCK) {
        const nn_dim end = nn_min_dim(b + BLOCK, r1);
        nn_vec s[WAYS][NN_NORM_SUMS] = { { { 0 } } };
        nn_dim r = b;
        for (; r + WAYS <= end; r += WAYS) {
            NN_UNROLL_FULL
            for (int u = 0; u < WAYS; u++) {
                const nn_dim at = (r + u) * channels + k;
                const nn_vec d = what == NN_SUM_DX ? nn_load_before(dy + at, n, dy + total, 0) : mv;
                nn_norm_add(what, nn_load_before(x + at, n, x + total, 0), mv, d, s[u]);
            }
        }
        for (; r < end; r++) {
            const nn_dim at = r * channels + k;
            const nn_vec d = what == NN_SUM_DX ? nn_load_before(dy + at, n, dy + total, 0) : mv;
            nn_norm_add(what, nn_load_before(x + at, n, x + total, 0), mv, d, s[0]);
        }
        NN_UNROLL_FULL
        for (int i = 0; i < NN_NORM_SUMS; i++) sum[i] += (s[0][i] + s[1][i]) + (s[2][i] + s[3][i]);
    }
    NN_UNROLL_FULL
    for (int i = 0; i < NN_NORM_SUMS; i++) nn_store_part(out + i * out_step + k, sum[i], n);
}

/* The same for one channel whose `inner` values lie together in each of rows [r0, r1). */
NN_INLINE void nn_norm_sum_inner(int what, nn_dim r0, nn_dim r1, nn_dim channels, nn_dim inner, nn_dim k,
                                 const nn_real *x, const nn_real *dy, const nn_real *m, nn_dim out_step, nn_real *out)
{
    const nn_vec mv = nn_splat(m[k]);
    const int tail = (int)(inner % NN_VL);
    nn_vec sum[NN_NORM_SUMS] = { { 0 } };
    for (nn_dim r = r0; r < r1; r++) {
        const nn_real *xr = x + (r * channels + k) * inner, *dr = dy ? dy + (r * channels + k) * inner : xr;
        nn_vec s[NN_NORM_SUMS] = { { 0 } };
        nn_dim i = 0;
        for (; i + NN_VL <= inner; i += NN_VL) nn_norm_add(what, nn_load(xr + i), mv, nn_load(dr + i), s);
        if (tail) nn_norm_add(what, nn_load_part(xr + i, tail, m[k]), mv, nn_load_part(dr + i, tail, 0), s);
        NN_UNROLL_FULL
        for (int j = 0; j < NN_NORM_SUMS; j++) sum[j] += s[j];
    }
    NN_UNROLL_FULL
    for (int j = 0; j < NN_NORM_SUMS; j++) out[j * out_step + k] = nn_hsum(sum[j]);
}

/* This thread's parts of the sums: part p, sum i of channel c at part[(p*NN_NORM_SUMS + i)*channels + c]. */
NN_INLINE void nn_norm_parts(const nn_team *team, int what, nn_dim parts, nn_dim outer, nn_dim channels, nn_dim inner,
                             const nn_real *x, const nn_real *dy, const nn_real *m, nn_real *part)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, parts, 1, &from, &to);
    for (nn_dim p = from; p < to; p++) {
        const nn_dim r0 = nn_cut(outer, 1, p, parts), r1 = nn_cut(outer, 1, p + 1, parts);
        nn_real *out = part + p * NN_NORM_SUMS * channels;
        nn_dim k = 0;
        if (inner == 1) {
            for (; k + NN_VL <= channels; k += NN_VL)
                nn_norm_sum_rows(what, NN_VL, r0, r1, channels, k, outer * channels, x, dy, m, channels, out);
            if (channels % NN_VL)
                nn_norm_sum_rows(what, (int)(channels % NN_VL), r0, r1, channels, k, outer * channels, x, dy, m,
                                 channels, out);
        } else {
            for (; k < channels; k++) nn_norm_sum_inner(what, r0, r1, channels, inner, k, x, dy, m, channels, out);
        }
    }
}

/* Sum i of channel c over all parts. */
NN_INLINE double nn_norm_total(nn_dim parts, nn_dim channels, nn_dim c, int i, const nn_real *part)
{
    double s = 0;
    for (nn_dim p = 0; p < parts; p++) s += (double)part[(p * NN_NORM_SUMS + i) * channels + c];
    return s;
}

/* y = (x - m[c]) * scale[c] + shift[c], plus dy * gain[c] when dy is given, over rows [r0, r1). */
NN_INLINE void nn_norm_apply(nn_dim r0, nn_dim r1, nn_dim channels, nn_dim inner, nn_dim total, const nn_real *x,
                             const nn_real *dy, const nn_real *m, const nn_real *scale, const nn_real *shift,
                             const nn_real *gain, nn_real *y)
{
    const int tail = (int)((inner == 1 ? channels : inner) % NN_VL);
    for (nn_dim r = r0; r < r1; r++) {
        if (inner == 1) {
            const nn_real *xr = x + r * channels, *dr = dy ? dy + r * channels : NULL;
            nn_real *yr = y + r * channels;
            nn_dim k = 0;
            for (; k + NN_VL <= channels; k += NN_VL) {
                nn_vec v = (nn_load(xr + k) - nn_load(m + k)) * nn_load(scale + k) + nn_load(shift + k);
                if (dy) v += nn_load(dr + k) * nn_load(gain + k);
                nn_store(yr + k, v);
            }
            if (tail) {
                nn_vec v = (nn_load_before(xr + k, tail, x + total, 0) - nn_load_part(m + k, tail, 0)) *
                               nn_load_part(scale + k, tail, 0) + nn_load_part(shift + k, tail, 0);
                if (dy) v += nn_load_before(dr + k, tail, dy + total, 0) * nn_load_part(gain + k, tail, 0);
                nn_store_part(yr + k, v, tail);
            }
            continue;
        }
        for (nn_dim k = 0; k < channels; k++) {
            const nn_dim at = (r * channels + k) * inner;
            const nn_vec mv = nn_splat(m[k]), sv = nn_splat(scale[k]), hv = nn_splat(shift[k]);
            const nn_vec gv = nn_splat(dy ? gain[k] : 0);
            nn_dim i = at;
            for (; i + NN_VL <= at + inner; i += NN_VL) {
                nn_vec v = (nn_load(x + i) - mv) * sv + hv;
                if (dy) v += nn_load(dy + i) * gv;
                nn_store(y + i, v);
            }
            if (tail) {
                nn_vec v = (nn_load_part(x + i, tail, 0) - mv) * sv + hv;
                if (dy) v += nn_load_part(dy + i, tail, 0) * gv;
                nn_store_part(y + i, v, tail);
            }
        }
    }
}

/* y, mean[c] and the biased var[c]; any of them may be NULL. scratch: (NN_NORM_PARTS*NN_NORM_SUMS + 3)*channels. */
NN_INLINE void nn_batch_norm_train(const nn_team *team, nn_dim outer, nn_dim channels, nn_dim inner, nn_real eps,
                                   const nn_real *x, const nn_real *weight, const nn_real *bias, nn_real *scratch,
                                   nn_real *y, nn_real *mean, nn_real *var)
{
    const nn_dim parts = nn_min_dim(NN_NORM_PARTS, outer);
    const double count = (double)(outer * inner);
    nn_real *m = scratch, *scale = m + channels, *shift = scale + channels, *part = shift + channels;
    nn_dim from, to;
    nn_share(team->rank, team->size, channels, 1, &from, &to);
    for (nn_dim c = from; c < to; c++) m[c] = x[c * inner];
    nn_barrier(team);
    nn_norm_parts(team, NN_SUM_MEAN, parts, outer, channels, inner, x, NULL, m, part);
    nn_barrier(team);
    for (nn_dim c = from; c < to; c++)
        m[c] = (nn_real)((double)m[c] + nn_norm_total(parts, channels, c, 0, part) / count);
    nn_barrier(team);
    nn_norm_parts(team, NN_SUM_VAR, parts, outer, channels, inner, x, NULL, m, part);
    nn_barrier(team);
    for (nn_dim c = from; c < to; c++) {
        const double rest = nn_norm_total(parts, channels, c, 0, part) / count;
        const double square = nn_norm_total(parts, channels, c, 1, part) / count - rest * rest;
        const nn_real v = (nn_real)(square > 0 || square != square ? square : 0);
        const double k = (double)weight[c] / sqrt((double)v + (double)eps);
        if (mean) mean[c] = (nn_real)((double)m[c] + rest);
        if (var) var[c] = v;
        scale[c] = (nn_real)k;
        shift[c] = (nn_real)((double)bias[c] - k * rest);
    }
    nn_barrier(team);
    if (!y) return;
    nn_share(team->rank, team->size, outer, 1, &from, &to);
    nn_norm_apply(from, to, channels, inner, outer * channels, x, NULL, m, scale, shift, NULL, y);
}

/* Gradients; any result may be NULL. The remainder of the rounded mean is summed again, so that the gradients are
 * those of the exact statistics. scratch as in nn_batch_norm_train. */
NN_INLINE void nn_batch_norm_train_dx(const nn_team *team, nn_dim outer, nn_dim channels, nn_dim inner, nn_real eps,
                                      const nn_real *dy, const nn_real *x, const nn_real *mean, const nn_real *var,
                                      const nn_real *weight, nn_real *scratch, nn_real *dx, nn_real *dweight,
                                      nn_real *dbias)
{
    const nn_dim parts = nn_min_dim(NN_NORM_PARTS, outer);
    const double count = (double)(outer * inner);
    nn_real *scale = scratch, *shift = scale + channels, *gain = shift + channels, *part = gain + channels;
    nn_dim from, to;
    nn_norm_parts(team, NN_SUM_DX, parts, outer, channels, inner, x, dy, mean, part);
    nn_barrier(team);
    nn_share(team->rank, team->size, channels, 1, &from, &to);
    for (nn_dim c = from; c < to; c++) {
        const double sum_dy = nn_norm_total(parts, channels, c, 0, part);
        const double rest = nn_norm_total(parts, channels, c, 2, part) / count;
        const double sum_dyc = nn_norm_total(parts, channels, c, 1, part) - rest * sum_dy;
        const double rstd = 1 / sqrt((double)var[c] + (double)eps), k = (double)weight[c] * rstd;
        const double slope = rstd * rstd * sum_dyc / count;
        if (dweight) dweight[c] = (nn_real)(rstd * sum_dyc);
        if (dbias) dbias[c] = (nn_real)sum_dy;
        gain[c] = (nn_real)k;
        scale[c] = (nn_real)(-k * slope);
        shift[c] = (nn_real)(k * (slope * rest - sum_dy / count));
    }
    nn_barrier(team);
    if (!dx) return;
    nn_share(team->rank, team->size, outer, 1, &from, &to);
    nn_norm_apply(from, to, channels, inner, outer * channels, x, dy, mean, scale, shift, gain, dx);
}

/* y = (x - mean) / sqrt(var + eps) * weight + bias for the rows of a share. */
NN_INLINE void nn_batch_norm(nn_dim outer, nn_dim channels, nn_dim inner, nn_real eps, const nn_real *x,
                             const nn_real *weight, const nn_real *bias, const nn_real *mean, const nn_real *var,
                             nn_real *y)
{
    enum { SOME = 64 };
    nn_real scale[SOME];
    for (nn_dim c0 = 0; c0 < channels; c0 += SOME) {
        const nn_dim some = nn_min_dim(SOME, channels - c0);
        for (nn_dim c = 0; c < some; c++)
            scale[c] = (nn_real)((double)weight[c0 + c] / sqrt((double)var[c0 + c] + (double)eps));
        for (nn_dim r = 0; r < outer; r++) {
            const nn_dim at = (r * channels + c0) * inner;
            if (inner == 1) {
                NN_IVDEP
                for (nn_dim c = 0; c < some; c++)
                    y[at + c] = (x[at + c] - mean[c0 + c]) * scale[c] + bias[c0 + c];
            } else {
                for (nn_dim c = 0; c < some; c++) {
                    const nn_real m = mean[c0 + c], s = scale[c], b = bias[c0 + c];
                    NN_IVDEP
                    for (nn_dim i = 0; i < inner; i++) y[at + c * inner + i] = (x[at + c * inner + i] - m) * s + b;
                }
            }
        }
    }
}

/* ---- layer normalisation: rows of n values ---- */

/* y, mean and rstd = 1/sqrt(var + eps) of each row; weight and bias may be NULL, and so may the results. */
NN_INLINE void nn_layer_norm(nn_dim rows, nn_dim n, nn_real eps, const nn_real *x, const nn_real *weight,
                             const nn_real *bias, nn_real *y, nn_real *mean, nn_real *rstd)
{
    const int tail = (int)(n % NN_VL);
    const nn_dim main = n - tail;
    for (nn_dim r = 0; r < rows; r++) {
        const nn_real *xr = x + r * n;
        nn_real m = xr[0];
        double rest = 0, square = 0;
        for (int pass = 0; pass < 2; pass++) {
            const nn_vec mv = nn_splat(m);
            nn_vec s0[2] = { { 0 } }, s1[2] = { { 0 } };
            nn_dim i = 0;
            for (; i + 2 * NN_VL <= main; i += 2 * NN_VL) {
                NN_UNROLL_FULL
                for (int u = 0; u < 2; u++) {
                    const nn_vec c = nn_load(xr + i + u * NN_VL) - mv;
                    s0[u] += c;
                    s1[u] += c * c;
                }
            }
            for (; i < n; i += NN_VL) {
                const nn_vec c = (i < main ? nn_load(xr + i) : nn_load_part(xr + i, tail, m)) - mv;
                s0[0] += c;
                s1[0] += c * c;
            }
            rest = (double)nn_hsum(s0[0] + s0[1]) / (double)n;
            square = (double)nn_hsum(s1[0] + s1[1]) / (double)n;
            if (pass == 0) m = (nn_real)((double)m + rest);
        }
        const double v = square - rest * rest;
        const double k = 1 / sqrt((v > 0 || v != v ? v : 0) + (double)eps);
        if (mean) mean[r] = (nn_real)((double)m + rest);
        if (rstd) rstd[r] = (nn_real)k;
        if (!y) continue;
        const nn_vec mv = nn_splat(m), kv = nn_splat((nn_real)k), hv = nn_splat((nn_real)(-k * rest));
        for (nn_dim i = 0; i < main; i += NN_VL) {
            nn_vec h = (nn_load(xr + i) - mv) * kv + hv;
            if (weight) h *= nn_load(weight + i);
            if (bias) h += nn_load(bias + i);
            nn_store(y + r * n + i, h);
        }
        if (tail) {
            nn_vec h = (nn_load_part(xr + main, tail, 0) - mv) * kv + hv;
            if (weight) h *= nn_load_part(weight + main, tail, 0);
            if (bias) h += nn_load_part(bias + main, tail, 0);
            nn_store_part(y + r * n + main, h, tail);
        }
    }
}

/* One vector of a row: lanes of g = dy*weight and c = x - mean. */
NN_INLINE void nn_layer_norm_lanes(int n, nn_real m, const nn_real *dy, const nn_real *x, const nn_real *weight,
                                   nn_vec *d, nn_vec *g, nn_vec *c)
{
    *d = n == NN_VL ? nn_load(dy) : nn_load_part(dy, n, 0);
    *c = (n == NN_VL ? nn_load(x) : nn_load_part(x, n, m)) - nn_splat(m);
    *g = *d;
    if (weight) *g *= n == NN_VL ? nn_load(weight) : nn_load_part(weight, n, 0);
}

/* Gradients; any result may be NULL. dweight and dbias are summed in NN_NORM_PARTS parts of the rows; scratch holds
 * them: 2*NN_NORM_PARTS*n. */
NN_INLINE void nn_layer_norm_dx(const nn_team *team, nn_dim rows, nn_dim n, const nn_real *dy, const nn_real *x,
                                const nn_real *mean, const nn_real *rstd, const nn_real *weight, nn_real *scratch,
                                nn_real *dx, nn_real *dweight, nn_real *dbias)
{
    const nn_dim parts = nn_min_dim(NN_NORM_PARTS, rows);
    const int tail = (int)(n % NN_VL), sums = dweight || dbias;
    nn_real *dw_part = scratch, *db_part = scratch + parts * n;
    nn_dim from, to;
    nn_share(team->rank, team->size, parts, 1, &from, &to);
    for (nn_dim p = from; p < to; p++) {
        nn_real *dw = dw_part + p * n, *db = db_part + p * n;
        if (sums) {
            memset(dw, 0, (size_t)n * sizeof *dw);
            memset(db, 0, (size_t)n * sizeof *db);
        }
        for (nn_dim r = nn_cut(rows, 1, p, parts); r < nn_cut(rows, 1, p + 1, parts); r++) {
            const nn_real *xr = x + r * n, *dr = dy + r * n;
            const nn_real m = mean[r];
            nn_vec s[3] = { { 0 } }, d, g, c;
            for (nn_dim i = 0; i < n; i += NN_VL) {
                nn_layer_norm_lanes(i + NN_VL <= n ? NN_VL : tail, m, dr + i, xr + i, weight ? weight + i : NULL, &d,
                                    &g, &c);
                s[0] += g;
                s[1] += g * c;
                s[2] += c;
            }
            const double sum_g = (double)nn_hsum(s[0]), rest = (double)nn_hsum(s[2]) / (double)n;
            const double sum_gc = (double)nn_hsum(s[1]) - rest * sum_g, k = (double)rstd[r];
            const double slope = k * k * sum_gc / (double)n;
            const nn_vec kv = nn_splat((nn_real)k), sv = nn_splat((nn_real)(-k * slope));
            const nn_vec hv = nn_splat((nn_real)(k * (slope * rest - sum_g / (double)n)));
            const nn_vec rv = nn_splat((nn_real)(-k * rest));
            for (nn_dim i = 0; i < n; i += NN_VL) {
                const int some = i + NN_VL <= n ? NN_VL : tail;
                nn_layer_norm_lanes(some, m, dr + i, xr + i, weight ? weight + i : NULL, &d, &g, &c);
                if (dx) nn_store_part(dx + r * n + i, g * kv + c * sv + hv, some);
                if (!sums) continue;
                nn_store_part(dw + i, nn_load_part(dw + i, some, 0) + d * (c * kv + rv), some);
                nn_store_part(db + i, nn_load_part(db + i, some, 0) + d, some);
            }
        }
    }
    if (!sums) return;
    nn_barrier(team);
    if (dweight) nn_sum_parts(team, n, parts, dw_part, 0, dweight);
    if (dbias) nn_sum_parts(team, n, parts, db_part, 0, dbias);
}

#endif
