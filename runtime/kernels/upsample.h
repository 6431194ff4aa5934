/* SPDX-License-Identifier: MIT
 *
 * Enlarging channels-last images by whole factors, and the adjoints. All kernels get the samples of a thread's
 * share; h, w and c are those of the small image, sh and sw the factors.
 */
#ifndef NN_KERNELS_UPSAMPLE_H
#define NN_KERNELS_UPSAMPLE_H

#include "kernels/vec.h"

NN_INLINE void nn_upsample_nearest(nn_dim rows, nn_dim h, nn_dim w, nn_dim c, nn_dim sh, nn_dim sw, const nn_real *x,
                                   nn_real *y)
{
    for (nn_dim n = 0; n < rows; n++, x += h * w * c)
        for (nn_dim i = 0; i < h * sh; i++)
            for (nn_dim j = 0; j < w * sw; j++, y += c)
                memcpy(y, x + (i / sh * w + j / sw) * c, (size_t)c * sizeof(nn_real));
}

/* dx = sum of dy over the sh x sw pixels made from it. */
NN_INLINE void nn_upsample_nearest_dx(nn_dim rows, nn_dim h, nn_dim w, nn_dim c, nn_dim sh, nn_dim sw,
                                      const nn_real *dy, nn_real *dx)
{
    memset(dx, 0, (size_t)(rows * h * w * c) * sizeof(nn_real));
    for (nn_dim n = 0; n < rows; n++, dx += h * w * c)
        for (nn_dim i = 0; i < h * sh; i++)
            for (nn_dim j = 0; j < w * sw; j++, dy += c) {
                nn_real *to = dx + (i / sh * w + j / sw) * c;
                NN_IVDEP
                for (nn_dim k = 0; k < c; k++) to[k] += dy[k];
            }
}

/* The two neighbours of position i of the large axis on the small one of n, and the weight of the second. */
NN_INLINE void nn_upsample_between(nn_dim i, nn_dim scale, nn_dim n, int align, nn_dim *first, nn_dim *second,
                                   nn_real *part)
{
    double at = align ? (n * scale > 1 ? (double)(i * (n - 1)) / (double)(n * scale - 1) : 0)
                      : ((double)i + 0.5) / (double)scale - 0.5;
    if (at < 0) at = 0;
    *first = (nn_dim)at;
    *second = nn_min_dim(*first + 1, n - 1);
    *part = (nn_real)(at - (double)*first);
}

NN_INLINE void nn_upsample_bilinear(nn_dim rows, nn_dim h, nn_dim w, nn_dim c, nn_dim sh, nn_dim sw, int align,
                                    const nn_real *x, nn_real *y)
{
    for (nn_dim n = 0; n < rows; n++, x += h * w * c)
        for (nn_dim i = 0; i < h * sh; i++)
            for (nn_dim j = 0; j < w * sw; j++, y += c) {
                nn_dim top, bottom, left, right;
                nn_real v, u;
                nn_upsample_between(i, sh, h, align, &top, &bottom, &v);
                nn_upsample_between(j, sw, w, align, &left, &right, &u);
                const nn_real *a = x + (top * w + left) * c, *b = x + (top * w + right) * c;
                const nn_real *d = x + (bottom * w + left) * c, *e = x + (bottom * w + right) * c;
                NN_IVDEP
                for (nn_dim k = 0; k < c; k++)
                    y[k] = (1 - v) * ((1 - u) * a[k] + u * b[k]) + v * ((1 - u) * d[k] + u * e[k]);
            }
}

NN_INLINE void nn_upsample_bilinear_dx(nn_dim rows, nn_dim h, nn_dim w, nn_dim c, nn_dim sh, nn_dim sw, int align,
                                       const nn_real *dy, nn_real *dx)
{
    memset(dx, 0, (size_t)(rows * h * w * c) * sizeof(nn_real));
    for (nn_dim n = 0; n < rows; n++, dx += h * w * c)
        for (nn_dim i = 0; i < h * sh; i++)
            for (nn_dim j = 0; j < w * sw; j++, dy += c) {
                nn_dim row[2], column[2];
                nn_real v, u;
                nn_upsample_between(i, sh, h, align, &row[0], &row[1], &v);
                nn_upsample_between(j, sw, w, align, &column[0], &column[1], &u);
                for (int p = 0; p < 4; p++) {
                    const nn_real weight = (p & 2 ? v : 1 - v) * (p & 1 ? u : 1 - u);
                    nn_real *to = dx + (row[p >> 1] * w + column[p & 1]) * c;
                    NN_IVDEP
                    for (nn_dim k = 0; k < c; k++) to[k] += weight * dy[k];
                }
            }
}

#endif
