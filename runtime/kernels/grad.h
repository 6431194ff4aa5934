/* SPDX-License-Identifier: MIT
 *
 * What happens to gradients between a backward pass and the optimizer: scaling, clipping by value, and
 * the sums of squares behind a clipped norm. In: a thread's range of the gradient block; for norms, one of
 * NN_NORM_CHUNKS parts whose boundaries depend on the range alone.
 */
#ifndef NN_KERNELS_GRAD_H
#define NN_KERNELS_GRAD_H

#include "kernels/vec.h"

enum { NN_NORM_CHUNKS = 64 };

NN_INLINE void nn_grad_scale(nn_dim n, nn_real *g, double scale)
{
    const nn_real s = (nn_real)scale;
    if (s == NN_R(1.0)) return;
    NN_IVDEP
    for (nn_dim i = 0; i < n; i++) g[i] *= s;
}

/* g = min(max(g, -limit), limit); NaN stays NaN. */
NN_INLINE void nn_grad_clip(nn_dim n, nn_real *g, double limit)
{
    const nn_real hi = (nn_real)limit;
    NN_IVDEP
    for (nn_dim i = 0; i < n; i++) g[i] = g[i] > hi ? hi : g[i] < -hi ? -hi : g[i];
}

/* Sum of g^2 over part `chunk` of [0, n), in double, as eight running sums. */
NN_INLINE double nn_norm_chunk(nn_dim n, const nn_real *g, nn_dim chunk)
{
    const nn_dim to = nn_cut(n, 8, chunk + 1, NN_NORM_CHUNKS);
    nn_dim i = nn_cut(n, 8, chunk, NN_NORM_CHUNKS);
    double sum[8] = { 0, 0, 0, 0, 0, 0, 0, 0 };
    for (; i + 8 <= to; i += 8)
        for (int k = 0; k < 8; k++) sum[k] += (double)g[i + k] * (double)g[i + k];
    for (int k = 0; i < to; i++, k++) sum[k] += (double)g[i] * (double)g[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

#endif
