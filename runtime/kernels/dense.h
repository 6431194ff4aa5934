/* SPDX-License-Identifier: MIT
 *
 * Fully connected layers: y[m][o] = bias[o] + sum over i of x[m][i] * w[i][o], and its gradients. Weights
 * are stored [in][out]. Row-shared kernels get the rows of their share; team kernels divide the weights.
 */
#ifndef NN_KERNELS_DENSE_H
#define NN_KERNELS_DENSE_H

#include "kernels/tile.h"

/* Rows are worked off in blocks that stay in cache while all columns are computed. */
enum { NN_DENSE_ROWS = 96 };

/* y = x w + bias, then relu if asked. bias may be NULL. */
NN_INLINE void nn_dense(nn_dim rows, nn_dim in, nn_dim out, int relu, const nn_real *x, const nn_real *w,
                        const nn_real *bias, nn_real *y)
{
    if (rows == 1) {
        nn_product_row(out, in, NN_FROM_BIAS, relu, x, 1, w, out, w + in * out, bias, y);
        return;
    }
    for (nn_dim m = 0; m < rows; m += NN_DENSE_ROWS)
        nn_product(nn_min_dim(NN_DENSE_ROWS, rows - m), out, in, NN_FROM_BIAS, relu, x + m * in, in, 1, w, out,
                   w + in * out, bias, y + m * out, out);
}

/* The same for large weights, by the team, which divides blocks of the result. Columns and long sums are cut, so
 * that the part of w in use stays in cache while the rows of a block pass. */
NN_INLINE void nn_dense_wide(const nn_team *team, nn_dim rows, nn_dim in, nn_dim out, int relu, const nn_real *x,
                             const nn_real *w, const nn_real *bias, nn_real *y)
{
    enum { COLS = 3 * NN_VL, DEPTH = 256 };
    const nn_dim across = (out + COLS - 1) / COLS, rest = out % COLS;
    const nn_real *const w_end = w + in * out;
    nn_real panel[DEPTH * COLS];
    nn_dim item, end;
    nn_share(team->rank, team->size, (rows + NN_DENSE_ROWS - 1) / NN_DENSE_ROWS * across, 1, &item, &end);
    for (; item < end; item++) {
        const nn_dim m = item / across * NN_DENSE_ROWS, some = nn_min_dim(NN_DENSE_ROWS, rows - m);
        const nn_dim c = item % across * COLS;
        for (nn_dim d = 0; d < in; d += DEPTH) {
            const nn_dim depth = nn_min_dim(DEPTH, in - d);
            const int from = d ? NN_FROM_RESULT : NN_FROM_BIAS, last = relu && d + depth == in;
            const nn_real *xd = x + m * in + d, *wd = w + d * out + c, *bc = bias ? bias + c : NULL;
            if (rest && c + COLS > out) {
                nn_product(some, rest, depth, from, last, xd, in, 1, wd, out, w_end, bc, y + m * out + c, out);
            } else if (some < 16) {
                nn_product(some, COLS, depth, from, last, xd, in, 1, wd, out, w_end, bc, y + m * out + c, out);
            } else {
                for (nn_dim k = 0; k < depth; k++)
                    for (int j = 0; j < COLS; j++) panel[k * COLS + j] = wd[k * out + j];
                nn_product(some, COLS, depth, from, last, xd, in, 1, panel, COLS, panel + depth * COLS, bc,
                           y + m * out + c, out);
            }
        }
    }
}

/* dx[m][i] = sum over o of dy[m][o] * w[i][o], rows of dy and dx dy_m and dx_m apart. Long rows of w are
 * multiplied as they lie; short ones are transposed block by block, because summing over the lanes would cost
 * more than the product. */
#define NN_DENSE_SHORT 160
NN_INLINE void nn_dense_dx_rows(nn_dim rows, nn_dim in, nn_dim out, const nn_real *dy, nn_dim dy_m,
                                const nn_real *w, nn_real *dx, nn_dim dx_m)
{
    if (out >= NN_DENSE_SHORT) {
        for (nn_dim m = 0; m < rows; m += NN_DENSE_ROWS)
            nn_product_dot(nn_min_dim(NN_DENSE_ROWS, rows - m), in, out, 0, dy + m * dy_m, dy_m, w, out,
                           dx + m * dx_m, dx_m);
        return;
    }
    nn_real panel[NN_DENSE_SHORT * 2 * NN_VL];
    const nn_dim width = 2 * NN_VL, main = in / width * width, rest = in - main;
    for (nn_dim i = 0; i < main; i += width) {
        nn_transpose(width, out, w + i * out, out, panel, width);
        nn_product(rows, width, out, NN_FROM_ZERO, 0, dy, dy_m, 1, panel, width, panel + out * width, NULL,
                   dx + i, dx_m);
    }
    if (rest) {
        nn_transpose(rest, out, w + main * out, out, panel, rest);
        nn_product(rows, rest, out, NN_FROM_ZERO, 0, dy, dy_m, 1, panel, rest, panel + out * rest, NULL,
                   dx + main, dx_m);
    }
}

NN_INLINE void nn_dense_dx(nn_dim rows, nn_dim in, nn_dim out, const nn_real *dy, const nn_real *w,
                           nn_real *dx)
{
    nn_dense_dx_rows(rows, in, out, dy, out, w, dx, in);
}

/* The same by the team, which divides the rows. */
NN_INLINE void nn_dense_dx_team(const nn_team *team, nn_dim rows, nn_dim in, nn_dim out, const nn_real *dy,
                                const nn_real *w, nn_real *dx)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, rows, 1, &from, &to);
    nn_dense_dx(to - from, in, out, dy + from * out, w, dx + from * in);
}

/* dw[i][o] = (acc ? dw : 0) + sum over m of x[m][i] * dy[m][o]. The team divides the rows of dw; each
 * element is summed by one thread over blocks of samples, in order. Both operands are walked down their columns, from
 * row to row; where rows are long, what a block of dw needs of them is copied to panels first. */
NN_INLINE void nn_dense_dw(const nn_team *team, nn_dim rows, nn_dim in, nn_dim out, const nn_real *x,
                           const nn_real *dy, nn_real *dw, int acc)
{
    enum { SAMPLES = 128, ROWS = NN_TILE_ACC >= 24 ? 8 : 6, VECS = NN_TILE_ACC >= 24 ? 3 : 2 };
    enum { BLOCK = 16 * ROWS, COLS = VECS * NN_VL, FEW = 24 };
    const nn_real *const dy_end = dy + rows * out;
    const nn_dim cols = out >= NN_DENSE_SHORT ? out / COLS * COLS : 0, rest = out - cols;
    nn_dim from, to;
    nn_share(team->rank, team->size, in, ROWS, &from, &to);
    const nn_dim last = from + (to - from) / ROWS * ROWS; /* only the last rows of the matrix are fewer */
    for (nn_dim m = 0; m < rows || m == 0; m += SAMPLES) {
        const nn_dim depth = nn_min_dim(SAMPLES, rows - m);
        const int start = m > 0 || acc ? NN_FROM_RESULT : NN_FROM_ZERO;
        const nn_real *xm = x + m * in, *dym = dy + m * out;
        if (!cols || depth < FEW) {
            for (nn_dim i = from; i < last; i += ROWS)
                nn_product(ROWS, out, depth, start, 0, xm + i, 1, in, dym, out, dy_end, NULL, dw + i * out, out);
        } else {
            for (nn_dim i0 = from; i0 < last; i0 += BLOCK) {
                nn_real left[SAMPLES * BLOCK], right[SAMPLES * COLS];
                const nn_dim i1 = nn_min_dim(last, i0 + BLOCK);
                for (nn_dim i = i0; i < i1; i += ROWS)
                    for (nn_dim k = 0; k < depth; k++)
                        memcpy(left + ((i - i0) * SAMPLES + k * ROWS), xm + k * in + i, ROWS * sizeof *left);
                for (nn_dim c = 0; c < cols; c += COLS) {
                    for (nn_dim k = 0; k < depth; k++)
                        for (int j = 0; j < VECS; j++)
                            nn_store(right + k * COLS + j * NN_VL, nn_load(dym + k * out + c + j * NN_VL));
                    for (nn_dim i = i0; i < i1; i += ROWS)
                        nn_tile_product(ROWS, VECS, 0, start, 0, depth, left + (i - i0) * SAMPLES, 1, ROWS, right, COLS,
                                        right + depth * COLS, NULL, dw + i * out + c, out);
                }
                for (nn_dim i = i0; rest && i < i1; i += ROWS)
                    nn_product(ROWS, rest, depth, start, 0, left + (i - i0) * SAMPLES, 1, ROWS, dym + cols, out, dy_end,
                               NULL, dw + i * out + cols, out);
            }
        }
        if (last < to)
            nn_product(in % ROWS, out, depth, start, 0, xm + last, 1, in, dym, out, dy_end, NULL, dw + last * out, out);
    }
}

/* db[c] = (acc ? db : 0) + sum over n and p of dy[n][c][p], n < outer, p < inner. Partial sums of at most
 * 32 parts of the outer axis, then their sum in order; scratch holds 32 * channels. */
enum { NN_BIAS_PARTS = 32 };
NN_INLINE void nn_bias_grad(const nn_team *team, nn_dim outer, nn_dim channels, nn_dim inner,
                            const nn_real *dy, nn_real *scratch, nn_real *db, int acc)
{
    const nn_dim parts = nn_max_dim(1, nn_min_dim(NN_BIAS_PARTS, outer / 8));
    nn_dim from, to;
    nn_share(team->rank, team->size, parts, 1, &from, &to);
    for (nn_dim p = from; p < to; p++) {
        const nn_dim n0 = nn_cut(outer, 1, p, parts), n1 = nn_cut(outer, 1, p + 1, parts);
        nn_real *s = scratch + p * channels;
        if (inner == 1 && channels < NN_VL) {
            /* Vectors of neighbouring rows: lane i of vector j holds channel (j * NN_VL + i) % channels. */
            nn_vec v[NN_VL] = { { 0 } };
            nn_real lanes[NN_VL * NN_VL];
            nn_dim n = n0;
            for (; n + NN_VL <= n1; n += NN_VL) {
                NN_UNROLL_FULL
                for (int j = 0; j < NN_VL; j++)
                    if (j < channels) v[j] += nn_load(dy + n * channels + j * NN_VL);
            }
            memcpy(lanes, v, sizeof lanes);
            for (nn_dim c = 0; c < channels; c++) {
                nn_real sum = 0;
                for (nn_dim i = c; i < channels * NN_VL; i += channels) sum += lanes[i];
                for (nn_dim rest = n; rest < n1; rest++) sum += dy[rest * channels + c];
                s[c] = sum;
            }
        } else if (inner == 1) {
            nn_dim c = 0;
            for (; c + NN_VL <= channels; c += NN_VL) {
                nn_vec v[4] = { { 0 } };
                nn_dim n = n0;
                for (; n + 4 <= n1; n += 4) {
                    NN_UNROLL_FULL
                    for (int u = 0; u < 4; u++) v[u] += nn_load(dy + (n + u) * channels + c);
                }
                for (; n < n1; n++) v[0] += nn_load(dy + n * channels + c);
                nn_store(s + c, (v[0] + v[1]) + (v[2] + v[3]));
            }
            if (channels % NN_VL) {
                const int tail = (int)(channels % NN_VL);
                nn_vec v = { 0 };
                nn_dim n = n0;
                const nn_dim whole = (outer * channels - c - NN_VL) / channels + 1;
                for (; n < nn_min_dim(n1, outer * channels >= c + NN_VL ? whole : 0); n++)
                    v += nn_load(dy + n * channels + c);
                for (; n < n1; n++) v += nn_load_part(dy + n * channels + c, tail, 0);
                nn_store_part(s + c, v, tail);
            }
        } else {
            for (nn_dim c = 0; c < channels; c++) {
                nn_vec v = { 0 };
                nn_real rest = 0;
                for (nn_dim n = n0; n < n1; n++) {
                    const nn_real *d = dy + (n * channels + c) * inner;
                    nn_dim i = 0;
                    for (; i + NN_VL <= inner; i += NN_VL) v += nn_load(d + i);
                    for (; i < inner; i++) rest += d[i];
                }
                s[c] = nn_hsum(v) + rest;
            }
        }
    }
    nn_barrier(team);
    nn_sum_parts(team, channels, parts, scratch, acc, db);
}

#endif
