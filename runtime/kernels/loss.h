/* SPDX-License-Identifier: MIT
 *
 * Cross-entropy of logits and its gradient, one loss per position. In: logits with n classes a stride apart,
 * targets as indices or as distributions. Out: losses that stay finite for logits of any size, because
 * log sum e^(z - m) is added to m - z_t and never to m itself.
 */
#ifndef NN_KERNELS_LOSS_H
#define NN_KERNELS_LOSS_H

#include "kernels/math.h"
#include "kernels/reduce.h"
#include "kernels/softmax.h"

/* The positions of one sample: two loops p, q with strides in the logits and in the loss. Each sample's
 * logits and losses are dense: n * pn * qn and pn * qn elements. */
typedef struct nn_classes {
    nn_dim n, stride;          /* classes */
    nn_dim pn, pz, pl;         /* positions: extent, stride in z, stride in the loss */
    nn_dim qn, qz, ql;
} nn_classes;

/* Largest logit and log of the sum of e^(z - largest) of one position. */
NN_INLINE nn_real nn_log_sum(nn_dim n, nn_dim stride, const nn_real *z, nn_real *largest)
{
    nn_real m = z[0], block[NN_SUM_WIDTH];
    for (nn_dim c = 1; c < n; c++) m = z[c * stride] > m ? z[c * stride] : m;
    double sum = 0;
    for (nn_dim c = 0; c < n; c += NN_SUM_WIDTH) {
        const nn_dim w = nn_min_dim(NN_SUM_WIDTH, n - c);
        for (nn_dim i = 0; i < w; i++) block[i] = nn_exp(z[(c + i) * stride] - m);
        sum += nn_span_sum(w, block, 0, 0);
    }
    *largest = m;
    return nn_log((nn_real)sum);
}

/* Indices: l = (1 - s) (lse - z_t) + s / n sum_c (lse - z_c); zero where t is `ignore`; NaN where t is no class. */
NN_INLINE void nn_cross_entropy(nn_dim rows, nn_classes k, const nn_real *z, const int32_t *t, nn_real s,
                                int32_t ignore, nn_real *loss)
{
    const nn_dim positions = k.pn * k.qn;
    for (nn_dim b = 0; b < rows; b++, z += k.n * positions, t += positions, loss += positions)
        for (nn_dim p = 0; p < k.pn; p++)
            for (nn_dim q = 0; q < k.qn; q++) {
                const nn_real *x = z + p * k.pz + q * k.qz;
                const nn_dim at = p * k.pl + q * k.ql;
                if (t[at] == ignore || t[at] < 0 || t[at] >= k.n) {
                    loss[at] = t[at] == ignore ? NN_R(0.0) : (nn_real)NAN;
                    continue;
                }
                nn_real m;
                const nn_real log_sum = nn_log_sum(k.n, k.stride, x, &m);
                nn_real l = (m - x[t[at] * k.stride]) + log_sum;
                if (s != 0) {
                    double spread = 0;
                    for (nn_dim c = 0; c < k.n; c++) spread += (double)m - (double)x[c * k.stride];
                    l = (NN_R(1.0) - s) * l + s * ((nn_real)(spread / (double)k.n) + log_sum);
                }
                loss[at] = l;
            }
}

/* dz_c = dl (softmax(z)_c - (1 - s) [c = t] - s / n) */
NN_INLINE void nn_cross_entropy_dx(nn_dim rows, nn_classes k, const nn_real *dl, const nn_real *z,
                                   const int32_t *t, nn_real s, int32_t ignore, nn_real *dz)
{
    const nn_dim positions = k.pn * k.qn, size = k.n * positions;
    for (nn_dim b = 0; b < rows; b++, z += size, dz += size, t += positions, dl += positions)
        for (nn_dim p = 0; p < k.pn; p++)
            for (nn_dim q = 0; q < k.qn; q++) {
                const nn_real *x = z + p * k.pz + q * k.qz;
                nn_real *dx = dz + p * k.pz + q * k.qz;
                const nn_dim at = p * k.pl + q * k.ql;
                if (t[at] == ignore || t[at] < 0 || t[at] >= k.n) {
                    const nn_real d = t[at] == ignore ? NN_R(0.0) : (nn_real)NAN;
                    for (nn_dim c = 0; c < k.n; c++) dx[c * k.stride] = d;
                    continue;
                }
                nn_real m, sum = 0;
                m = x[0];
                for (nn_dim c = 1; c < k.n; c++) m = x[c * k.stride] > m ? x[c * k.stride] : m;
                NN_IVDEP
                for (nn_dim c = 0; c < k.n; c++) dx[c * k.stride] = nn_exp(x[c * k.stride] - m);
                if (k.stride == 1) sum = (nn_real)nn_span_sum(k.n, dx, 0, 0);
                else for (nn_dim c = 0; c < k.n; c++) sum += dx[c * k.stride];
                const nn_real scale = dl[at] / sum, low = dl[at] * s / (nn_real)k.n;
                const nn_real own = dx[t[at] * k.stride] / sum - (NN_R(1.0) - s) - s / (nn_real)k.n;
                NN_IVDEP
                for (nn_dim c = 0; c < k.n; c++) dx[c * k.stride] = dx[c * k.stride] * scale - low;
                dx[t[at] * k.stride] = dl[at] * own;
            }
}

/* Distributions t over the classes, laid out like z: l = sum_c w_c (lse - z_c), w = (1 - s) t + s / n. */
NN_INLINE void nn_cross_entropy_soft(nn_dim rows, nn_classes k, const nn_real *z, const nn_real *t, nn_real s,
                                     nn_real *loss)
{
    const nn_dim positions = k.pn * k.qn, size = k.n * positions;
    for (nn_dim b = 0; b < rows; b++, z += size, t += size, loss += positions)
        for (nn_dim p = 0; p < k.pn; p++)
            for (nn_dim q = 0; q < k.qn; q++) {
                const nn_dim from = p * k.pz + q * k.qz;
                nn_real m;
                const double log_sum = (double)nn_log_sum(k.n, k.stride, z + from, &m);
                double l = 0;
                for (nn_dim c = 0; c < k.n; c++) {
                    const nn_dim at = from + c * k.stride;
                    const double weight = (double)((NN_R(1.0) - s) * t[at] + s / (nn_real)k.n);
                    l += weight * (((double)m - (double)z[at]) + log_sum);
                }
                loss[p * k.pl + q * k.ql] = (nn_real)l;
            }
}

/* dz_c = dl (softmax(z)_c sum_j w_j - w_c) */
NN_INLINE void nn_cross_entropy_soft_dx(nn_dim rows, nn_classes k, const nn_real *dl, const nn_real *z,
                                        const nn_real *t, nn_real s, nn_real *dz)
{
    const nn_dim positions = k.pn * k.qn, size = k.n * positions;
    for (nn_dim b = 0; b < rows; b++, z += size, dz += size, t += size, dl += positions)
        for (nn_dim p = 0; p < k.pn; p++)
            for (nn_dim q = 0; q < k.qn; q++) {
                const nn_dim from = p * k.pz + q * k.qz;
                const nn_real d = dl[p * k.pl + q * k.ql], low = s / (nn_real)k.n;
                nn_real m = z[from];
                for (nn_dim c = 1; c < k.n; c++) m = z[from + c * k.stride] > m ? z[from + c * k.stride] : m;
                double sum = 0, weights = 0;
                for (nn_dim c = 0; c < k.n; c++) {
                    const nn_dim at = from + c * k.stride;
                    dz[at] = nn_exp(z[at] - m);
                    sum += (double)dz[at];
                    weights += (double)((NN_R(1.0) - s) * t[at] + low);
                }
                const nn_real scale = (nn_real)(weights / sum);
                for (nn_dim c = 0; c < k.n; c++) {
                    const nn_dim at = from + c * k.stride;
                    dz[at] = d * (dz[at] * scale - ((NN_R(1.0) - s) * t[at] + low));
                }
            }
}

#endif
