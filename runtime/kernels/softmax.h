/* SPDX-License-Identifier: MIT
 *
 * softmax and log_softmax along n of x[outer][n][inner], and their gradients. The largest element is
 * subtracted first, so no argument overflows. Rows are independent of each other.
 */
#ifndef NN_KERNELS_SOFTMAX_H
#define NN_KERNELS_SOFTMAX_H

#include "kernels/math.h"
#include "kernels/reduce.h"

/* inner = 1: one contiguous row. Returns its largest element, and log of the sum of e^(x - largest). */
NN_INLINE nn_real nn_row_max(nn_dim n, const nn_real *x)
{
    nn_real m = x[0];
    nn_dim i = 1;
    if (n >= 2 * NN_VL) {
        nn_vec v = nn_load(x);
        for (i = NN_VL; i + NN_VL <= n; i += NN_VL) {
            const nn_vec xi = nn_load(x + i);
            v = nn_select(xi > v, xi, v);
        }
        nn_real lane[NN_VL];
        memcpy(lane, &v, sizeof lane);
        NN_UNROLL_FULL
        for (int half = NN_VL / 2; half > 0; half /= 2)
            for (int j = 0; j < half; j++) lane[j] = lane[j + half] > lane[j] ? lane[j + half] : lane[j];
        m = lane[0];
    }
    for (; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

/* y_i = e^(x_i - m) / sum_j e^(x_j - m) */
NN_INLINE void nn_softmax(nn_dim outer, nn_dim n, nn_dim inner, const nn_real *x, nn_real *y)
{
    if (inner == 1) {
        for (nn_dim o = 0; o < outer; o++) {
            const nn_real *p = x + o * n;
            nn_real *q = y + o * n;
            const nn_real m = nn_row_max(n, p);
            NN_IVDEP
            for (nn_dim i = 0; i < n; i++) q[i] = nn_exp_falling(p[i] - m);
            const nn_real scale = NN_R(1.0) / (nn_real)nn_span_sum(n, q, 0, 0);
            for (nn_dim i = 0; i < n; i++) q[i] *= scale;
        }
        return;
    }
    for (nn_dim o = 0; o < outer; o++)
        for (nn_dim j = 0; j < inner; j += NN_SUM_WIDTH) {
            const nn_dim w = nn_min_dim(NN_SUM_WIDTH, inner - j);
            const nn_real *p = x + o * n * inner + j;
            nn_real *q = y + o * n * inner + j;
            nn_real m[NN_SUM_WIDTH], sum[NN_SUM_WIDTH];
            for (nn_dim c = 0; c < w; c++) {
                m[c] = p[c];
                sum[c] = 0;
            }
            for (nn_dim i = 1; i < n; i++)
                for (nn_dim c = 0; c < w; c++) m[c] = p[i * inner + c] > m[c] ? p[i * inner + c] : m[c];
            for (nn_dim i = 0; i < n; i++) {
                NN_IVDEP
                for (nn_dim c = 0; c < w; c++) {
                    q[i * inner + c] = nn_exp(p[i * inner + c] - m[c]);
                    sum[c] += q[i * inner + c];
                }
            }
            for (nn_dim c = 0; c < w; c++) sum[c] = NN_R(1.0) / sum[c];
            for (nn_dim i = 0; i < n; i++)
                for (nn_dim c = 0; c < w; c++) q[i * inner + c] *= sum[c];
        }
}

/* y_i = (x_i - m) - log sum_j e^(x_j - m) */
NN_INLINE void nn_log_softmax(nn_dim outer, nn_dim n, nn_dim inner, const nn_real *x, nn_real *y)
{
    for (nn_dim o = 0; o < outer; o++)
        for (nn_dim j = 0; j < inner; j += NN_SUM_WIDTH) {
            const nn_dim w = nn_min_dim(NN_SUM_WIDTH, inner - j);
            const nn_real *p = x + o * n * inner + j;
            nn_real *q = y + o * n * inner + j;
            nn_real m[NN_SUM_WIDTH], sum[NN_SUM_WIDTH];
            for (nn_dim c = 0; c < w; c++) {
                m[c] = p[c];
                sum[c] = 0;
            }
            for (nn_dim i = 1; i < n; i++)
                for (nn_dim c = 0; c < w; c++) m[c] = p[i * inner + c] > m[c] ? p[i * inner + c] : m[c];
            if (inner == 1) {
                NN_IVDEP
                for (nn_dim i = 0; i < n; i++) q[i] = nn_exp(p[i] - m[0]);
                sum[0] = (nn_real)nn_span_sum(n, q, 0, 0);
            } else {
                for (nn_dim i = 0; i < n; i++)
                    for (nn_dim c = 0; c < w; c++) sum[c] += nn_exp(p[i * inner + c] - m[c]);
            }
            for (nn_dim c = 0; c < w; c++) sum[c] = nn_log(sum[c]);
            for (nn_dim i = 0; i < n; i++) {
                NN_IVDEP
                for (nn_dim c = 0; c < w; c++) q[i * inner + c] = (p[i * inner + c] - m[c]) - sum[c];
            }
        }
}

/* dx_i = y_i (dy_i - sum_j dy_j y_j) */
NN_INLINE void nn_softmax_dx(nn_dim outer, nn_dim n, nn_dim inner, const nn_real *dy, const nn_real *y,
                             nn_real *dx)
{
    if (inner == 1) {
        for (nn_dim o = 0; o < outer; o++, dy += n, y += n, dx += n) {
            nn_vec v = { 0 };
            nn_dim i = 0;
            for (; i + NN_VL <= n; i += NN_VL) v += nn_load(dy + i) * nn_load(y + i);
            nn_real dot = nn_hsum(v);
            for (; i < n; i++) dot += dy[i] * y[i];
            NN_IVDEP
            for (nn_dim k = 0; k < n; k++) dx[k] = y[k] * (dy[k] - dot);
        }
        return;
    }
    for (nn_dim o = 0; o < outer; o++)
        for (nn_dim j = 0; j < inner; j += NN_SUM_WIDTH) {
            const nn_dim w = nn_min_dim(NN_SUM_WIDTH, inner - j), base = o * n * inner + j;
            nn_real dot[NN_SUM_WIDTH];
            for (nn_dim c = 0; c < w; c++) dot[c] = 0;
            for (nn_dim i = 0; i < n; i++)
                for (nn_dim c = 0; c < w; c++) dot[c] += dy[base + i * inner + c] * y[base + i * inner + c];
            for (nn_dim i = 0; i < n; i++) {
                NN_IVDEP
                for (nn_dim c = 0; c < w; c++)
                    dx[base + i * inner + c] = y[base + i * inner + c] * (dy[base + i * inner + c] - dot[c]);
            }
        }
}

/* dx_i = dy_i - e^(y_i) sum_j dy_j */
NN_INLINE void nn_log_softmax_dx(nn_dim outer, nn_dim n, nn_dim inner, const nn_real *dy, const nn_real *y,
                                 nn_real *dx)
{
    for (nn_dim o = 0; o < outer; o++)
        for (nn_dim j = 0; j < inner; j += NN_SUM_WIDTH) {
            const nn_dim w = nn_min_dim(NN_SUM_WIDTH, inner - j), base = o * n * inner + j;
            nn_real sum[NN_SUM_WIDTH];
            for (nn_dim c = 0; c < w; c++) sum[c] = 0;
            for (nn_dim i = 0; i < n; i++)
                for (nn_dim c = 0; c < w; c++) sum[c] += dy[base + i * inner + c];
            for (nn_dim i = 0; i < n; i++) {
                NN_IVDEP
                for (nn_dim c = 0; c < w; c++)
                    dx[base + i * inner + c] = dy[base + i * inner + c] - nn_exp(y[base + i * inner + c]) * sum[c];
            }
        }
}

/* The same along the last axis by the team, which divides `rows` rows of n. */
#define NN_TALL(kernel, ...)                                             \
    nn_dim from, to;                                                     \
    nn_share(team->rank, team->size, rows, 1, &from, &to);               \
    kernel(to - from, n, 1, __VA_ARGS__)

NN_INLINE void nn_softmax_tall(const nn_team *team, nn_dim rows, nn_dim n, const nn_real *x, nn_real *y)
{
    NN_TALL(nn_softmax, x + from * n, y + from * n);
}

NN_INLINE void nn_log_softmax_tall(const nn_team *team, nn_dim rows, nn_dim n, const nn_real *x, nn_real *y)
{
    NN_TALL(nn_log_softmax, x + from * n, y + from * n);
}

NN_INLINE void nn_softmax_dx_tall(const nn_team *team, nn_dim rows, nn_dim n, const nn_real *dy, const nn_real *y,
                                  nn_real *dx)
{
    NN_TALL(nn_softmax_dx, dy + from * n, y + from * n, dx + from * n);
}

NN_INLINE void nn_log_softmax_dx_tall(const nn_team *team, nn_dim rows, nn_dim n, const nn_real *dy, const nn_real *y,
                                      nn_real *dx)
{
    NN_TALL(nn_log_softmax_dx, dy + from * n, y + from * n, dx + from * n);
}
#undef NN_TALL

#endif
