/* SPDX-License-Identifier: MIT
 *
 * Moving elements between strided boxes: permute, slice, pad, concat and changes of layout. In: up to six
 * extents with a stride for each side, and the size of an element in bytes. Out: y[i.ys] = x[i.xs] for every
 * index i of the box. The first extent is the axis that threads share, or they divide lines of it.
 */
#ifndef NN_KERNELS_COPY_H
#define NN_KERNELS_COPY_H

#include "kernels/vec.h"
#include "nn_threads.h"

typedef struct nn_box {
    nn_dim n[6], xs[6], ys[6]; /* extents, strides in elements; the last extent is the innermost loop */
} nn_box;

/* Lines [line, end) of the box: index i of the first five extents, of which the last one runs fastest. */
NN_INLINE void nn_copy_lines(size_t size, nn_box b, nn_dim line, nn_dim end, const void *x, void *y)
{
    const unsigned char *from = x;
    unsigned char *to = y;
    const nn_dim bytes = (nn_dim)size;
    while (line < end) {
        const nn_dim o3 = line / b.n[4], i3 = o3 % b.n[3], o2 = o3 / b.n[3], i2 = o2 % b.n[2], o1 = o2 / b.n[2];
        const nn_dim i1 = o1 % b.n[1], i0 = o1 / b.n[1], first = line % b.n[4];
        const nn_dim last = nn_min_dim(b.n[4], first + end - line);
        const unsigned char *p = from + (i0 * b.xs[0] + i1 * b.xs[1] + i2 * b.xs[2] + i3 * b.xs[3]) * bytes;
        unsigned char *q = to + (i0 * b.ys[0] + i1 * b.ys[1] + i2 * b.ys[2] + i3 * b.ys[3]) * bytes;
        for (nn_dim i4 = first; i4 < last; i4++) {
            const unsigned char *src = p + i4 * b.xs[4] * bytes;
            unsigned char *dst = q + i4 * b.ys[4] * bytes;
            if (b.xs[5] == 1 && b.ys[5] == 1) {
                memcpy(dst, src, (size_t)b.n[5] * size);
            } else {
                NN_IVDEP
                for (nn_dim i5 = 0; i5 < b.n[5]; i5++)
                    memcpy(dst + i5 * b.ys[5] * bytes, src + i5 * b.xs[5] * bytes, size);
            }
        }
        line += last - first;
    }
}

NN_INLINE nn_dim nn_box_lines(nn_box b)
{
    return b.n[0] * b.n[1] * b.n[2] * b.n[3] * b.n[4];
}

NN_INLINE void nn_copy(size_t size, nn_box b, const void *x, void *y)
{
    nn_copy_lines(size, b, 0, nn_box_lines(b), x, y);
}

/* The same; the team divides the lines, or what is in them where there are too few. */
NN_INLINE void nn_copy_team(const nn_team *team, size_t size, nn_box b, const void *x, void *y)
{
    const nn_dim lines = nn_box_lines(b);
    const int by_line = lines >= team->size;
    nn_dim from, to;
    nn_share(team->rank, team->size, by_line ? lines : b.n[5], by_line ? 1 : NN_VL, &from, &to);
    if (by_line) {
        nn_copy_lines(size, b, from, to, x, y);
        return;
    }
    b.n[5] = to - from;
    nn_copy_lines(size, b, 0, lines, (const unsigned char *)x + from * b.xs[5] * (nn_dim)size,
                  (unsigned char *)y + from * b.ys[5] * (nn_dim)size);
}

/* Step t of a sequence x[rows][steps][inner]: rows [from, to), packed, to y[rows][inner]. */
NN_INLINE void nn_step_get(size_t size, nn_dim from, nn_dim to, nn_dim steps, nn_dim inner, nn_dim t,
                           const void *x, void *y)
{
    const nn_dim bytes = inner * (nn_dim)size;
    for (nn_dim r = from; r < to; r++)
        memcpy((unsigned char *)y + r * bytes, (const unsigned char *)x + (r * steps + t) * bytes, (size_t)bytes);
}

/* The reverse: rows of x[rows][inner] become step t of y[rows][steps][inner]. */
NN_INLINE void nn_step_put(size_t size, nn_dim from, nn_dim to, nn_dim steps, nn_dim inner, nn_dim t,
                           const void *x, void *y)
{
    const nn_dim bytes = inner * (nn_dim)size;
    for (nn_dim r = from; r < to; r++)
        memcpy((unsigned char *)y + (r * steps + t) * bytes, (const unsigned char *)x + r * bytes, (size_t)bytes);
}

/* y, dense in the order of the loops, from x with a stride per loop. */
NN_INLINE nn_box nn_permute_box(nn_dim n0, nn_dim n1, nn_dim n2, nn_dim n3, nn_dim s0, nn_dim s1, nn_dim s2, nn_dim s3)
{
    return (nn_box){ { n0, 1, 1, n1, n2, n3 }, { s0, 0, 0, s1, s2, s3 }, { n1 * n2 * n3, 0, 0, n2 * n3, n3, 1 } };
}

NN_INLINE void nn_permute4(nn_dim n0, nn_dim n1, nn_dim n2, nn_dim n3, const nn_real *x, nn_dim s0, nn_dim s1,
                           nn_dim s2, nn_dim s3, nn_real *y)
{
    nn_copy(sizeof(nn_real), nn_permute_box(n0, n1, n2, n3, s0, s1, s2, s3), x, y);
}

NN_INLINE void nn_permute4_team(const nn_team *team, nn_dim n0, nn_dim n1, nn_dim n2, nn_dim n3, const nn_real *x,
                                nn_dim s0, nn_dim s1, nn_dim s2, nn_dim s3, nn_real *y)
{
    nn_copy_team(team, sizeof(nn_real), nn_permute_box(n0, n1, n2, n3, s0, s1, s2, s3), x, y);
}

NN_INLINE void nn_fill(nn_dim n, nn_real value, nn_real *y)
{
    for (nn_dim i = 0; i < n; i++) y[i] = value;
}

NN_INLINE void nn_fill_team(const nn_team *team, nn_dim n, nn_real value, nn_real *y)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, n, NN_VL, &from, &to);
    nn_fill(to - from, value, y + from);
}

#endif
