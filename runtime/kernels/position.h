/* SPDX-License-Identifier: MIT
 *
 * Numbers counted along an axis, and sine and cosine. The functions are the C library's in double precision,
 * rounded once, so that single and double precision agree to the last bit of the former.
 */
#ifndef NN_KERNELS_POSITION_H
#define NN_KERNELS_POSITION_H

#include "kernels/libm.h"
#include "kernels/vec.h"

NN_INLINE nn_real nn_sin(nn_real x)
{
    return (nn_real)nn_sin64((double)x);
}

NN_INLINE nn_real nn_cos(nn_real x)
{
    return (nn_real)nn_cos64((double)x);
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

/* y[o_n][i_n][n] for kernels of n taps: 1 for the first `middle` taps, 0 for those after it. The tap in the middle is 1
   where the colour of the input comes before that of the output, or, with `same`, is the output's own. Channels are cut
   into `colors` parts in their order; output o reads the i_n inputs of its group. */
NN_INLINE void nn_kernel_mask(nn_dim o_n, nn_dim i_n, nn_dim groups, nn_dim colors, nn_dim n, nn_dim middle, int same,
                              nn_real *y)
{
    for (nn_dim o = 0; o < o_n; o++) {
        const nn_dim group = o * groups / o_n, own = o * colors / o_n;
        for (nn_dim i = 0; i < i_n; i++) {
            const nn_dim color = (group * i_n + i) * colors / (groups * i_n);
            const nn_dim ones = middle + (color < own + same);
            for (nn_dim k = 0; k < n; k++) *y++ = k < ones ? NN_R(1.0) : NN_R(0.0);
        }
    }
}

#endif
