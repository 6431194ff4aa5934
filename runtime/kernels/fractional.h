/* SPDX-License-Identifier: MIT
 *
 * Fractional maximum pooling of channels-last images. The places of the windows are a function of the key and the
 * sample alone; they are the same for all channels.
 */
#ifndef NN_KERNELS_FRACTIONAL_H
#define NN_KERNELS_FRACTIONAL_H

#include "kernels/random.h"

/* Where window i of `out` windows of k positions begins in [0, in). */
NN_INLINE nn_dim nn_fractional_start(double u, nn_dim in, nn_dim out, nn_dim k, nn_dim i)
{
    if (i == out - 1) return in - k;
    const double a = (double)(in - k) / (double)(out - 1);
    return (nn_dim)(((double)i + u) * a) - (nn_dim)(u * a);
}

/* y = maximum, index = its position in the image; the first of equal values, NaN before any number. */
NN_INLINE void nn_fractional_max_pool2d(nn_key key, nn_dim row0, nn_dim rows, int random, nn_dim h, nn_dim w, nn_dim c,
                                        nn_dim oh, nn_dim ow, nn_dim kh, nn_dim kw, const nn_real *x, nn_real *y,
                                        int32_t *index)
{
    for (nn_dim n = 0; n < rows; n++, x += h * w * c) {
        const double u = random ? (double)nn_word(key, 2 * (row0 + n)) * 0x1p-32 : 0.5;
        const double v = random ? (double)nn_word(key, 2 * (row0 + n) + 1) * 0x1p-32 : 0.5;
        for (nn_dim i = 0; i < oh; i++) {
            const nn_dim top = nn_fractional_start(u, h, oh, kh, i);
            for (nn_dim j = 0; j < ow; j++, y += c, index += c) {
                const nn_dim left = nn_fractional_start(v, w, ow, kw, j);
                for (nn_dim k = 0; k < c; k++) {
                    nn_dim at = top * w + left;
                    nn_real best = x[at * c + k];
                    for (nn_dim r = 0; r < kh; r++)
                        for (nn_dim s = 0; s < kw; s++) {
                            const nn_dim p = (top + r) * w + left + s;
                            const nn_real value = x[p * c + k];
                            if (value > best || (value != value && best == best)) {
                                best = value;
                                at = p;
                            }
                        }
                    y[k] = best;
                    index[k] = (int32_t)at;
                }
            }
        }
    }
}

/* places and windows: positions of the image and of the result. Windows may overlap, so the gradients add up. */
NN_INLINE void nn_fractional_max_pool2d_dx(nn_dim rows, nn_dim places, nn_dim windows, nn_dim c, const nn_real *dy,
                                           const int32_t *index, nn_real *dx)
{
    memset(dx, 0, (size_t)(rows * places * c) * sizeof(nn_real));
    for (nn_dim n = 0; n < rows; n++, dx += places * c)
        for (nn_dim i = 0; i < windows; i++, dy += c, index += c)
            for (nn_dim k = 0; k < c; k++) dx[index[k] * c + k] += dy[k];
}

#endif
