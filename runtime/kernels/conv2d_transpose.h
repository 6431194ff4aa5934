/* SPDX-License-Identifier: MIT
 *
 * Transposed convolution: the gradient of a convolution with respect to its input, taken as a layer. The
 * geometry `c` is that of the convolution from the (large) output y to the (small) input x, so c.ci are y's
 * channels and c.co are x's. Weights are stored [R][S][co][ci/g] (in words: [R][S][I][O/g] of the layer).
 */
#ifndef NN_KERNELS_CONV2D_TRANSPOSE_H
#define NN_KERNELS_CONV2D_TRANSPOSE_H

#include "kernels/conv2d_dw.h"

/* rows samples of y[i*step + r*dil - pad, .., o] += x[i, .., k] * w[r,s,k,o], plus bias, then relu if
 * asked. */
NN_INLINE void nn_conv2d_transpose(nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                   const nn_real *w, const nn_real *bias, nn_real *y)
{
    nn_conv_phases(NN_WHOLE, rows, c, 0, relu, x, w, bias, y);
}

/* The same, divided by a team. */
NN_INLINE void nn_conv2d_transpose_team(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                        const nn_real *w, const nn_real *bias, nn_real *y)
{
    nn_conv_phases(nn_part_of_dx(team, rows, c), rows, c, 0, relu, x, w, bias, y);
}

/* dx = conv(dy, w): the convolution this layer is the transpose of. scratch holds the weights as
 * [R][S][ci/g][co]. */
NN_INLINE void nn_conv2d_transpose_dx(const nn_team *team, nn_dim rows, nn_conv c,
                                      const nn_real *dy, const nn_real *w, nn_real *scratch,
                                      nn_real *dx)
{
    const nn_dim ci = c.ci / c.groups;
    nn_dim from, to;
    nn_share(team->rank, team->size, c.r * c.s, 1, &from, &to);
    for (nn_dim t = from; t < to; t++)
        nn_transpose(c.co, ci, w + t * c.co * ci, ci, scratch + t * ci * c.co, c.co);
    nn_barrier(team);
    nn_conv2d_team(team, rows, c, 0, dy, scratch, NULL, NULL, dx);
}

/* dw[r,s,k,o] = (acc ? dw : 0) + sum over samples and pixels of x[i,j,k] * dy[i*step + r*dil - pad, .., o]. */
NN_INLINE void nn_conv2d_transpose_dw(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *x,
                                      const nn_real *dy, nn_real *scratch, nn_real *dw, int acc)
{
    const nn_dim size = nn_conv_weights(c), ci = c.ci / c.groups, co = c.co / c.groups;
    const nn_real *dy_end = dy + rows * c.h * c.w * c.ci;
    const nn_dw_walk g = {
        .h = { c.oh, c.h, c.r, c.step_h, c.dil_h, -c.pad_top },
        .w = { c.ow, c.w, c.s, c.step_w, c.dil_w, -c.pad_left },
        .a_row = c.ow * c.co,
        .a_pix = c.co,
        .b_row = c.w * c.ci,
        .b_pix = c.ci,
        .rows = co,
        .cols = ci,
        .dw_c = ci,
        .dw_tap = c.co * ci,
        .a_moves = 0,
    };
    const nn_dim mr = nn_dw_rows(co, ci), blocks = (co + mr - 1) / mr, items = c.r * c.s * blocks;
    nn_dim from = 0, to = items, p0 = 0, p1 = 1;
    const int in_parts = NN_DW_IN_PARTS(size);
    const nn_dim lines = rows * c.oh, parts = in_parts ? nn_dw_parts(lines, c.ow) : 1;
    if (in_parts)
        nn_share(team->rank, team->size, parts, 1, &p0, &p1);
    else
        nn_share(team->rank, team->size, items, 1, &from, &to);
    for (nn_dim p = p0; p < p1; p++) {
        nn_real *part = in_parts ? scratch + p * size : dw;
        if (in_parts) {
            memset(part, 0, (size_t)size * sizeof *part);
        } else if (!acc) {
            for (nn_dim item = from; item < to; item++) {
                const nn_dim tap = item / blocks, i = item % blocks * mr,
                             n = nn_min_dim(mr, co - i);
                for (nn_dim q = 0; q < c.groups; q++)
                    memset(dw + tap * c.co * ci + (q * co + i) * ci, 0,
                           (size_t)(n * ci) * sizeof *dw);
            }
        }
        nn_dim line = nn_cut(lines, 1, p, parts);
        const nn_dim last = nn_cut(lines, 1, p + 1, parts);
        NN_DW_LINES(c.oh, for (nn_dim q = 0; q < c.groups; q++)
                              nn_dw_sample(g, l0, l1, from, to, x + n * c.oh * c.ow * c.co + q * co,
                                           dy + n * c.h * c.w * c.ci + q * ci, dy_end, part + q * co * ci))
    }
    if (!in_parts) return;
    nn_barrier(team);
    nn_sum_parts(team, size, parts, scratch, acc, dw);
}

#endif
