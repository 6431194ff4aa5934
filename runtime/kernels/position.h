/* SPDX-License-Identifier: MIT
 *
 * Numbers counted along an axis, and sine and cosine. The functions are the C library's in double precision,
 * rounded once, so that single and double precision agree to the last bit of the former.
 */
#ifndef NN_KERNELS_POSITION_H
#define NN_KERNELS_POSITION_H

#include "kernels/vec.h"

NN_INLINE nn_real nn_sin(nn_real x)
{
    return (nn_real)sin((double)x);
}

NN_INLINE nn_real nn_cos(nn_real x)
{
    return (nn_real)cos((double)x);
}

/* y[outer][n][inner] = start + step * (first + position on the middle axis). */
NN_INLINE void nn_arange(nn_dim outer, nn_dim first, nn_dim n, nn_dim inner, double start, double step, nn_real *y)
{
    for (nn_dim o = 0; o < outer; o++)
        for (nn_dim i = 0; i < n; i++) {
            const nn_real v = (nn_real)(start + step * (double)(first + i));
            for (nn_dim k = 0; k < inner; k++) *y++ = v;
        }
}

/* y[outer][n]: 1 for the first `ones` of each n, 0 for the others. */
NN_INLINE void nn_kernel_mask(nn_dim outer, nn_dim n, nn_dim ones, nn_real *y)
{
    for (nn_dim o = 0; o < outer; o++)
        for (nn_dim i = 0; i < n; i++) *y++ = i < ones ? NN_R(1.0) : NN_R(0.0);
}

#endif
