/* SPDX-License-Identifier: MIT
 *
 * Sums, variances, extremes and their positions over any set of axes. An operand is seen as
 * x[k0][r0][k1][r1][k2], dense, where the k axes are kept and the r axes are reduced; what does not fit that
 * form (three separate reduced groups, a result in another order) goes through nn_reduce_any.
 *
 * Sums are taken in nn_real over short runs and combined in double. Note [order of sums]: the order in
 * which an output's terms are added is a function of the extents alone: columns do not know which other
 * columns share their vector, and sums over samples are cut into a fixed number of chunks.
 */
#ifndef NN_KERNELS_REDUCE_H
#define NN_KERNELS_REDUCE_H

#include "kernels/math.h"
#include "kernels/vec.h"
#include "nn_threads.h"

typedef struct nn_groups {
    nn_dim k0, r0, k1, r1, k2;
} nn_groups;

enum { NN_SUM_WIDTH = 4 * NN_VL, NN_SUM_RUN = 256 };

/* Sum of x - mu, or of its square, over n contiguous elements. */
NN_INLINE double nn_span_sum(nn_dim n, const nn_real *x, nn_real mu, int square)
{
    double total = 0;
    const nn_vec m = nn_splat(mu);
    for (nn_dim start = 0; start < n; start += NN_SUM_RUN * NN_SUM_WIDTH) {
        const nn_dim end = nn_min_dim(n, start + NN_SUM_RUN * NN_SUM_WIDTH);
        nn_vec acc[4] = { { 0 } };
        nn_dim i = start;
        for (; i + NN_SUM_WIDTH <= end; i += NN_SUM_WIDTH) {
            NN_UNROLL_FULL
            for (int v = 0; v < 4; v++) {
                const nn_vec d = nn_load(x + i + v * NN_VL) - m;
                acc[v] += square ? d * d : d;
            }
        }
        for (; i < end; i += NN_VL) {
            const nn_vec d = nn_load_part(x + i, nn_min_dim(NN_VL, end - i), mu) - m;
            acc[0] += square ? d * d : d;
        }
        total += (double)nn_hsum((acc[0] + acc[1]) + (acc[2] + acc[3]));
    }
    return total;
}

/* The same for each of w <= NN_SUM_WIDTH neighbouring columns: out[j] += sum over rows of x[i * stride + j]. */
NN_INLINE void nn_columns_sum(nn_dim rows, nn_dim stride, nn_dim w, const nn_real *x, const nn_real *mu,
                              int square, double *out)
{
    for (nn_dim start = 0; start < rows; start += NN_SUM_RUN) {
        const nn_dim end = nn_min_dim(rows, start + NN_SUM_RUN);
        nn_real sum[NN_SUM_WIDTH] = { 0 };
        if (w == NN_SUM_WIDTH) {
            nn_vec acc[4] = { { 0 } };
            for (nn_dim i = start; i < end; i++) {
                NN_UNROLL_FULL
                for (int v = 0; v < 4; v++) {
                    const nn_vec d = nn_load(x + i * stride + v * NN_VL) - nn_load(mu + v * NN_VL);
                    acc[v] += square ? d * d : d;
                }
            }
            NN_UNROLL_FULL
            for (int v = 0; v < 4; v++) nn_store(sum + v * NN_VL, acc[v]);
        } else {
            for (nn_dim j = 0; j < w; j += NN_VL) {
                const nn_dim lanes = nn_min_dim(NN_VL, w - j);
                const nn_vec m = nn_load_part(mu + j, lanes, 0);
                nn_vec acc = { 0 };
                for (nn_dim i = start; i < end; i++) {
                    const nn_vec d = nn_load_part(x + i * stride + j, lanes, 0) - m;
                    acc += square ? d * d : d;
                }
                nn_store_part(sum + j, acc, lanes);
            }
        }
        for (nn_dim j = 0; j < w; j++) out[j] += (double)sum[j];
    }
}

/* Sums of one block of outputs: columns [j, j + w) of slice (i0, i1). */
NN_INLINE void nn_block_sum(nn_groups g, nn_dim i0, nn_dim i1, nn_dim j, nn_dim w, const nn_real *x,
                            const nn_real *mu, int square, double *out)
{
    const nn_dim s1 = g.r1 * g.k2, s0 = g.k1 * s1;
    const nn_real *p = x + i0 * g.r0 * s0 + i1 * s1 + j;
    for (nn_dim c = 0; c < w; c++) out[c] = 0;
    if (g.k2 == 1) {
        if (g.k1 == 1) {
            out[0] = nn_span_sum(g.r0 * g.r1, p, mu[0], square);
        } else {
            for (nn_dim r = 0; r < g.r0; r++) out[0] += nn_span_sum(g.r1, p + r * s0, mu[0], square);
        }
    } else if (g.k1 == 1) {
        nn_columns_sum(g.r0 * g.r1, g.k2, w, p, mu, square, out);
    } else if (g.r1 == 1) {
        nn_columns_sum(g.r0, s0, w, p, mu, square, out);
    } else {
        for (nn_dim r = 0; r < g.r0; r++) nn_columns_sum(g.r1, g.k2, w, p + r * s0, mu, square, out);
    }
}

NN_INLINE void nn_sum_blocks(nn_groups g, const nn_real *x, double scale, nn_real *y, int acc, double *part)
{
    const nn_real zero[NN_SUM_WIDTH] = { 0 };
    double out[NN_SUM_WIDTH];
    for (nn_dim i0 = 0; i0 < g.k0; i0++)
        for (nn_dim i1 = 0; i1 < g.k1; i1++)
            for (nn_dim j = 0; j < g.k2; j += NN_SUM_WIDTH) {
                const nn_dim w = nn_min_dim(NN_SUM_WIDTH, g.k2 - j), at = (i0 * g.k1 + i1) * g.k2 + j;
                nn_block_sum(g, i0, i1, j, w, x, zero, 0, out);
                for (nn_dim c = 0; c < w; c++) {
                    if (part) part[at + c] = out[c];
                    else y[at + c] = (acc ? y[at + c] : NN_R(0.0)) + (nn_real)(out[c] * scale);
                }
            }
}

/* y[k0][k1][k2] = scale * sum of x over r0, r1 (added to y when acc). */
NN_INLINE void nn_sum(nn_groups g, const nn_real *x, double scale, nn_real *y, int acc)
{
    nn_sum_blocks(g, x, scale, y, acc, NULL);
}

/* y[k1][k2] = scale * sum over r0, r1; k0 is 1. chunks > 1: r0 is cut into that many parts, whose sums lie in
 * scratch (chunks * k1 * k2 doubles) and are combined in order. chunks = 1: threads share the outputs. */
NN_INLINE void nn_sum_team(const nn_team *team, nn_groups g, nn_dim chunks, const nn_real *x, double scale,
                           nn_real *scratch, nn_real *y, int acc)
{
    const nn_dim count = g.k1 * g.k2, s0 = g.k1 * g.r1 * g.k2;
    nn_dim from, to;
    if (chunks == 1) {
        const nn_real zero[NN_SUM_WIDTH] = { 0 };
        double out[NN_SUM_WIDTH];
        const nn_dim blocks = (g.k2 + NN_SUM_WIDTH - 1) / NN_SUM_WIDTH;
        nn_share(team->rank, team->size, g.k1 * blocks, 1, &from, &to);
        for (nn_dim b = from; b < to; b++) {
            const nn_dim i1 = b / blocks, j = b % blocks * NN_SUM_WIDTH, w = nn_min_dim(NN_SUM_WIDTH, g.k2 - j);
            nn_block_sum(g, 0, i1, j, w, x, zero, 0, out);
            nn_real *row = y + i1 * g.k2 + j;
            for (nn_dim c = 0; c < w; c++)
                row[c] = (acc ? row[c] : NN_R(0.0)) + (nn_real)(out[c] * scale);
        }
        return;
    }
    double *part = (double *)(void *)scratch;
    nn_share(team->rank, team->size, chunks, 1, &from, &to);
    for (nn_dim c = from; c < to; c++) {
        nn_groups sub = g;
        const nn_dim r = nn_cut(g.r0, 1, c, chunks);
        sub.r0 = nn_cut(g.r0, 1, c + 1, chunks) - r;
        nn_sum_blocks(sub, x + r * s0, 1, NULL, 0, part + c * count);
    }
    nn_barrier(team);
    nn_share(team->rank, team->size, count, NN_VL, &from, &to);
    for (nn_dim i = from; i < to; i++) {
        double total = 0;
        for (nn_dim c = 0; c < chunks; c++) total += part[c * count + i];
        y[i] = (acc ? y[i] : NN_R(0.0)) + (nn_real)(total * scale);
    }
}

/* y = sum of (x - mean)^2 / (n - correction), in two passes over each output's elements. */
NN_INLINE void nn_var(nn_groups g, const nn_real *x, double correction, nn_real *y)
{
    const nn_real zero[NN_SUM_WIDTH] = { 0 };
    const double n = (double)(g.r0 * g.r1);
    double out[NN_SUM_WIDTH];
    nn_real mu[NN_SUM_WIDTH];
    for (nn_dim i0 = 0; i0 < g.k0; i0++)
        for (nn_dim i1 = 0; i1 < g.k1; i1++)
            for (nn_dim j = 0; j < g.k2; j += NN_SUM_WIDTH) {
                const nn_dim w = nn_min_dim(NN_SUM_WIDTH, g.k2 - j);
                nn_block_sum(g, i0, i1, j, w, x, zero, 0, out);
                for (nn_dim c = 0; c < w; c++) mu[c] = (nn_real)(out[c] / n);
                nn_block_sum(g, i0, i1, j, w, x, mu, 1, out);
                for (nn_dim c = 0; c < w; c++)
                    y[(i0 * g.k1 + i1) * g.k2 + j + c] = (nn_real)(out[c] / (n - correction));
            }
}

/* Largest (max = 1) or smallest of each output's elements; a NaN among them is the result. */
NN_INLINE void nn_extreme(int max, nn_groups g, const nn_real *x, nn_real *y)
{
    const nn_dim s1 = g.r1 * g.k2, s0 = g.k1 * s1;
    for (nn_dim i0 = 0; i0 < g.k0; i0++)
        for (nn_dim i1 = 0; i1 < g.k1; i1++) {
            const nn_real *p = x + i0 * g.r0 * s0 + i1 * s1;
            nn_real *out = y + (i0 * g.k1 + i1) * g.k2;
            for (nn_dim j = 0; j < g.k2; j++) out[j] = p[j];
            for (nn_dim r = 0; r < g.r0 * g.r1; r++) {
                const nn_real *row = p + r / g.r1 * s0 + r % g.r1 * g.k2;
                NN_IVDEP
                for (nn_dim j = 0; j < g.k2; j++) out[j] = max ? nn_max(row[j], out[j]) : nn_min(row[j], out[j]);
            }
        }
}

NN_INLINE void nn_extreme_team(const nn_team *team, int max, nn_groups g, nn_dim chunks, const nn_real *x,
                               nn_real *scratch, nn_real *y)
{
    const nn_dim count = g.k1 * g.k2, s0 = g.k1 * g.r1 * g.k2;
    nn_dim from, to;
    nn_share(team->rank, team->size, chunks, 1, &from, &to);
    for (nn_dim c = from; c < to; c++) {
        nn_groups sub = g;
        const nn_dim r = nn_cut(g.r0, 1, c, chunks);
        sub.r0 = nn_cut(g.r0, 1, c + 1, chunks) - r;
        if (sub.r0) {
            nn_extreme(max, sub, x + r * s0, scratch + c * count);
        } else { /* fewer rows than chunks: the first element counts twice */
            sub.r0 = 1;
            nn_extreme(max, sub, x, scratch + c * count);
        }
    }
    nn_barrier(team);
    nn_share(team->rank, team->size, count, NN_VL, &from, &to);
    for (nn_dim i = from; i < to; i++) {
        nn_real best = scratch[i];
        for (nn_dim c = 1; c < chunks; c++)
            best = max ? nn_max(scratch[c * count + i], best) : nn_min(scratch[c * count + i], best);
        y[i] = best;
    }
}

/* Variance over the batch: each thread computes whole outputs, which may be few. */
NN_INLINE void nn_var_team(const nn_team *team, nn_groups g, const nn_real *x, double correction, nn_real *y)
{
    const nn_real zero[NN_SUM_WIDTH] = { 0 };
    const double n = (double)(g.r0 * g.r1);
    const nn_dim blocks = (g.k2 + NN_SUM_WIDTH - 1) / NN_SUM_WIDTH;
    double out[NN_SUM_WIDTH];
    nn_real mu[NN_SUM_WIDTH];
    nn_dim from, to;
    nn_share(team->rank, team->size, g.k1 * blocks, 1, &from, &to);
    for (nn_dim b = from; b < to; b++) {
        const nn_dim i1 = b / blocks, j = b % blocks * NN_SUM_WIDTH, w = nn_min_dim(NN_SUM_WIDTH, g.k2 - j);
        nn_block_sum(g, 0, i1, j, w, x, zero, 0, out);
        for (nn_dim c = 0; c < w; c++) mu[c] = (nn_real)(out[c] / n);
        nn_block_sum(g, 0, i1, j, w, x, mu, 1, out);
        for (nn_dim c = 0; c < w; c++) y[i1 * g.k2 + j + c] = (nn_real)(out[c] / (n - correction));
    }
}

/* Position of the largest along r of x[k0][r][k2]; the first of equal ones; a NaN counts as the largest. */
NN_INLINE void nn_argmax(nn_dim k0, nn_dim r, nn_dim k2, const nn_real *x, int32_t *y)
{
    for (nn_dim i = 0; i < k0; i++)
        for (nn_dim j = 0; j < k2; j++) {
            const nn_real *p = x + i * r * k2 + j;
            nn_real best = p[0];
            nn_dim at = 0;
            for (nn_dim a = 1; a < r; a++) {
                const nn_real v = p[a * k2];
                const int wins = v > best || (v != v && best == best);
                best = wins ? v : best;
                at = wins ? a : at;
            }
            y[i * k2 + j] = (int32_t)at;
        }
}

/* Any other arrangement, one output after another. Unused extents are 1. */
typedef struct nn_reduction {
    nn_dim kn[8], kx[8], ky[8]; /* kept axes: extent, stride in x, stride in y */
    nn_dim rn[8], rx[8];        /* reduced axes */
} nn_reduction;

enum { NN_REDUCE_SUM, NN_REDUCE_MAX, NN_REDUCE_MIN, NN_REDUCE_VAR };

NN_INLINE nn_dim nn_reduction_offset(const nn_dim n[8], const nn_dim stride[8], nn_dim i)
{
    nn_dim offset = 0;
    for (int a = 7; a >= 0; a--) {
        offset += i % n[a] * stride[a];
        i /= n[a];
    }
    return offset;
}

/* Outputs [from, to) in the order of the kept axes. `factor` scales sums and is the correction of variances. */
NN_INLINE void nn_reduce_any(int kind, nn_reduction a, nn_dim from, nn_dim to, const nn_real *x, double factor,
                              nn_real *y, int acc)
{
    nn_dim n = 1;
    for (int i = 0; i < 8; i++) n *= a.rn[i];
    for (nn_dim k = from; k < to; k++) {
        const nn_real *p = x + nn_reduction_offset(a.kn, a.kx, k);
        nn_real *out = y + nn_reduction_offset(a.kn, a.ky, k);
        nn_real best = p[0];
        double sum = 0, square = 0;
        for (nn_dim r = 0; r < n; r++) {
            const nn_real v = p[nn_reduction_offset(a.rn, a.rx, r)];
            if (kind == NN_REDUCE_MAX) best = nn_max(v, best);
            else if (kind == NN_REDUCE_MIN) best = nn_min(v, best);
            else sum += (double)v;
        }
        if (kind == NN_REDUCE_VAR) {
            const double mean = sum / (double)n;
            for (nn_dim r = 0; r < n; r++) {
                const double d = (double)p[nn_reduction_offset(a.rn, a.rx, r)] - mean;
                square += d * d;
            }
            best = (nn_real)(square / ((double)n - factor));
        } else if (kind == NN_REDUCE_SUM) {
            best = (nn_real)(sum * factor);
        }
        *out = acc ? *out + best : best;
    }
}

NN_INLINE void nn_reduce_any_team(const nn_team *team, int kind, nn_reduction a, const nn_real *x, double factor,
                                   nn_real *y, int acc)
{
    nn_dim count = 1, from, to;
    for (int i = 0; i < 8; i++) count *= a.kn[i];
    nn_share(team->rank, team->size, count, 1, &from, &to);
    nn_reduce_any(kind, a, from, to, x, factor, y, acc);
}

#endif
