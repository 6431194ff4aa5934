/* SPDX-License-Identifier: MIT
 *
 * Convolution with a kernel for each position. Images are channels-last, weights [oh][ow][r][s][c][o]: one
 * position's kernel is contiguous, and the innermost loop runs over the outputs.
 */
#ifndef NN_KERNELS_LOCAL_H
#define NN_KERNELS_LOCAL_H

#include "kernels/vec.h"
#include "nn_threads.h"

/* Image [h,w,c], result [oh,ow,o], window [r,s]; all literals in generated code. */
typedef struct nn_local2d {
    nn_dim h, w, c, oh, ow, o, r, s, step_h, step_w, top, left;
} nn_local2d;
#define NN_LOCAL(h, w, c, oh, ow, o, r, s, step_h, step_w, top, left) \
    ((nn_local2d){ h, w, c, oh, ow, o, r, s, step_h, step_w, top, left })

/* Calls BODY with `pixel`, the offset of each pixel of the window at (i, j) inside the image, and `kernel`, that of
 * its weights. */
#define NN_LOCAL_WINDOW(g, i, j, BODY)                                                              \
    for (nn_dim r = 0; r < (g).r; r++) {                                                            \
        const nn_dim row = (i) * (g).step_h - (g).top + r;                                          \
        if (row < 0 || row >= (g).h) continue;                                                      \
        for (nn_dim s = 0; s < (g).s; s++) {                                                        \
            const nn_dim column = (j) * (g).step_w - (g).left + s;                                  \
            if (column < 0 || column >= (g).w) continue;                                            \
            const nn_dim pixel = (row * (g).w + column) * (g).c;                                    \
            const nn_dim kernel = ((((i) * (g).ow + (j)) * (g).r + r) * (g).s + s) * (g).c * (g).o; \
            BODY                                                                                    \
        }                                                                                           \
    }

/* y[k] += a w[k] */
NN_INLINE void nn_local_add(nn_dim n, nn_real a, const nn_real *w, nn_real *y)
{
    nn_dim k = 0;
    for (; k + NN_VL <= n; k += NN_VL) nn_store(y + k, nn_load(y + k) + nn_splat(a) * nn_load(w + k));
    for (; k < n; k++) y[k] += a * w[k];
}

NN_INLINE nn_real nn_local_dot(nn_dim n, const nn_real *a, const nn_real *b)
{
    nn_vec sum = { 0 };
    nn_dim k = 0;
    for (; k + NN_VL <= n; k += NN_VL) sum += nn_load(a + k) * nn_load(b + k);
    nn_real rest = 0;
    for (; k < n; k++) rest += a[k] * b[k];
    return nn_hsum(sum) + rest;
}

NN_INLINE void nn_local(nn_dim rows, nn_local2d g, const nn_real *x, const nn_real *w, nn_real *y)
{
    memset(y, 0, (size_t)(rows * g.oh * g.ow * g.o) * sizeof(nn_real));
    for (nn_dim n = 0; n < rows; n++, x += g.h * g.w * g.c)
        for (nn_dim i = 0; i < g.oh; i++)
            for (nn_dim j = 0; j < g.ow; j++, y += g.o) {
                NN_LOCAL_WINDOW(g, i, j,
                                for (nn_dim c = 0; c < g.c; c++)
                                    nn_local_add(g.o, x[pixel + c], w + kernel + c * g.o, y);)
            }
}

NN_INLINE void nn_local_dx(nn_dim rows, nn_local2d g, const nn_real *dy, const nn_real *w, nn_real *dx)
{
    memset(dx, 0, (size_t)(rows * g.h * g.w * g.c) * sizeof(nn_real));
    for (nn_dim n = 0; n < rows; n++, dx += g.h * g.w * g.c)
        for (nn_dim i = 0; i < g.oh; i++)
            for (nn_dim j = 0; j < g.ow; j++, dy += g.o) {
                NN_LOCAL_WINDOW(g, i, j,
                                for (nn_dim c = 0; c < g.c; c++)
                                    dx[pixel + c] += nn_local_dot(g.o, dy, w + kernel + c * g.o);)
            }
}

/* Threads share the positions; each adds up over all samples, in their order. */
NN_INLINE void nn_local_dw(const nn_team *team, nn_dim rows, nn_local2d g, const nn_real *x, const nn_real *dy,
                           nn_real *dw, int acc)
{
    const nn_dim size = g.r * g.s * g.c * g.o, places = g.oh * g.ow;
    nn_dim from, to;
    nn_share(team->rank, team->size, places, 1, &from, &to);
    if (!acc) memset(dw + from * size, 0, (size_t)((to - from) * size) * sizeof(nn_real));
    for (nn_dim at = from; at < to; at++)
        for (nn_dim n = 0; n < rows; n++) {
            const nn_real *image = x + n * g.h * g.w * g.c, *d = dy + (n * places + at) * g.o;
            NN_LOCAL_WINDOW(g, at / g.ow, at % g.ow,
                            for (nn_dim c = 0; c < g.c; c++)
                                nn_local_add(g.o, image[pixel + c], d, dw + kernel + c * g.o);)
        }
}

#endif
