/* SPDX-License-Identifier: MIT
 *
 * Rotation and mixing of samples. Like all draws, angles, shares and partners are a function of the key and the
 * number of the sample; the functions of the C library that shape them are called in double precision.
 */
#ifndef NN_KERNELS_AUGMENT_H
#define NN_KERNELS_AUGMENT_H

#include "kernels/libm.h"
#include "kernels/random.h"

/* The angle of a sample, in radians, as its cosine and sine. */
NN_INLINE void nn_rotation(nn_key key, nn_dim sample, double degrees, double *cosine, double *sine)
{
    const double u = (double)nn_word(key, sample) * 0x1p-32;
    const double angle = (2 * u - 1) * degrees * (3.14159265358979323846 / 180);
    *cosine = nn_cos64(angle);
    *sine = nn_sin64(angle);
}

/* The pixel of [h,w] that (i, j) of the turned image shows: the upper left of four neighbours, and how
 * far beyond it. */
NN_INLINE void nn_rotated_from(double cosine, double sine, nn_dim h, nn_dim w, nn_dim i, nn_dim j,
                               nn_dim *top, nn_dim *left, nn_real *v, nn_real *u)
{
    const double cy = 0.5 * (double)(h - 1), cx = 0.5 * (double)(w - 1), dy = (double)i - cy,
                 dx = (double)j - cx;
    const double y = cy + sine * dx + cosine * dy, x = cx + cosine * dx - sine * dy;
    *top = (nn_dim)floor(y);
    *left = (nn_dim)floor(x);
    *v = (nn_real)(y - floor(y));
    *u = (nn_real)(x - floor(x));
}

/* Images are [h][w][c]. */
NN_INLINE void nn_random_rotate(nn_key key, nn_dim row0, nn_dim rows, double degrees, nn_dim h,
                                nn_dim w, nn_dim c, const nn_real *x, nn_real *y)
{
    memset(y, 0, (size_t)(rows * h * w * c) * sizeof(nn_real));
    for (nn_dim n = 0; n < rows; n++, x += h * w * c) {
        double cosine, sine;
        nn_rotation(key, row0 + n, degrees, &cosine, &sine);
        for (nn_dim i = 0; i < h; i++)
            for (nn_dim j = 0; j < w; j++, y += c) {
                nn_dim top, left;
                nn_real v, u;
                nn_rotated_from(cosine, sine, h, w, i, j, &top, &left, &v, &u);
                for (int p = 0; p < 4; p++) {
                    const nn_dim row = top + (p >> 1), column = left + (p & 1);
                    if (row < 0 || row >= h || column < 0 || column >= w) continue;
                    const nn_real weight = (p & 2 ? v : 1 - v) * (p & 1 ? u : 1 - u);
                    const nn_real *from = x + (row * w + column) * c;
                    for (nn_dim k = 0; k < c; k++) y[k] += weight * from[k];
                }
            }
    }
}

/* The adjoint: each dy goes to the pixels it was made from. */
NN_INLINE void nn_random_rotate_dx(nn_key key, nn_dim row0, nn_dim rows, double degrees, nn_dim h,
                                   nn_dim w, nn_dim c, const nn_real *dy, nn_real *dx)
{
    memset(dx, 0, (size_t)(rows * h * w * c) * sizeof(nn_real));
    for (nn_dim n = 0; n < rows; n++, dx += h * w * c) {
        double cosine, sine;
        nn_rotation(key, row0 + n, degrees, &cosine, &sine);
        for (nn_dim i = 0; i < h; i++)
            for (nn_dim j = 0; j < w; j++, dy += c) {
                nn_dim top, left;
                nn_real v, u;
                nn_rotated_from(cosine, sine, h, w, i, j, &top, &left, &v, &u);
                for (int p = 0; p < 4; p++) {
                    const nn_dim row = top + (p >> 1), column = left + (p & 1);
                    if (row < 0 || row >= h || column < 0 || column >= w) continue;
                    const nn_real weight = (p & 2 ? v : 1 - v) * (p & 1 ? u : 1 - u);
                    nn_real *to = dx + (row * w + column) * c;
                    for (nn_dim k = 0; k < c; k++) to[k] += weight * dy[k];
                }
            }
    }
}

/* Beta(a, a). Above 1/2 in closed form: the first coordinate of a random point on a sphere, whose radius and angle
 * are drawn. Below, by Johnk's rejection of pairs, in logarithms because the powers underflow; more than nine of
 * ten pairs are taken, so 128 of them never run out. Sample 0 begins after the word that draws the partner. */
NN_INLINE double nn_symmetric_beta(nn_key key, nn_dim sample, double a)
{
    for (nn_dim attempt = 0; attempt < 64; attempt++) {
        uint32_t w[4];
        nn_words4(key, 1 + sample * 64 + attempt, w);
        for (int i = 0; i < 4; i += 2) {
            const double u = ((double)w[i] + 0.5) * 0x1p-32, v = ((double)w[i + 1] + 0.5) * 0x1p-32;
            if (a > 0.5)
                return 0.5 +
                       0.5 * sqrt(1 - nn_pow64(u, 2 / (2 * a - 1))) * nn_cos64(6.28318530717958647692 * v);
            const double p = nn_log64(u) / a, q = nn_log64(v) / a;
            if (nn_exp64(p) + nn_exp64(q) <= 1) return 1 / (1 + nn_exp64(q - p));
        }
    }
    return 0.5;
}

/* Row i of the result is l(i) times row i plus 1 - l(i) times row i + s, around the batch; the adjoint takes row
 * i - s with that row's share. x is the whole batch, y the share of `rows` rows from row0 on. */
NN_INLINE void nn_mixup(nn_key key, nn_dim row0, nn_dim rows, nn_dim batch, double alpha,
                        int adjoint, nn_dim n, const nn_real *x, nn_real *y)
{
    const nn_dim shift =
        batch > 1 ? 1 + (nn_dim)((uint64_t)nn_word(key, 0) * (uint64_t)(batch - 1) >> 32) : 0;
    for (nn_dim r = 0; r < rows; r++, y += n) {
        const nn_dim i = row0 + r, j = adjoint ? (i + batch - shift) % batch : (i + shift) % batch;
        const nn_real own = (nn_real)nn_symmetric_beta(key, i, alpha);
        const nn_real other = 1 - (adjoint ? (nn_real)nn_symmetric_beta(key, j, alpha) : own);
        const nn_real *a = x + i * n, *b = x + j * n;
        NN_IVDEP
        for (nn_dim k = 0; k < n; k++) y[k] = own * a[k] + other * b[k];
    }
}

#endif
