/* SPDX-License-Identifier: MIT
 *
 * Looking rows up by index, one-hot vectors, and the scatter-add that is the gradient of a look-up. Indices
 * that routines receive are checked before a kernel runs; computed ones outside the table read its
 * nearest end, so that no kernel leaves its memory.
 */
#ifndef NN_KERNELS_EMBEDDING_H
#define NN_KERNELS_EMBEDDING_H

#include "kernels/vec.h"
#include "nn_threads.h"

NN_INLINE nn_dim nn_index(int32_t i, nn_dim n)
{
    return i < 0 ? 0 : i < n ? i : n - 1;
}

/* y[o][j][inner] = x[o][ids[j]][inner]; `size` is the bytes of one element. */
NN_INLINE void nn_gather(nn_dim outer, nn_dim n, nn_dim inner, nn_dim count, size_t size, const void *x,
                         const int32_t *ids, void *y)
{
    const size_t row = (size_t)inner * size;
    const unsigned char *from = x;
    unsigned char *to = y;
    for (nn_dim o = 0; o < outer; o++, from += (size_t)n * row)
        for (nn_dim j = 0; j < count; j++, to += row) memcpy(to, from + (size_t)nn_index(ids[j], n) * row, row);
}

/* dx[o][i][inner] = sum of dy[o][j][inner] over j with ids[j] = i. Threads own the rows (o, i), and each adds its
 * terms in the order of j: the same sum for any team. */
NN_INLINE void nn_scatter_add(const nn_team *team, nn_dim outer, nn_dim n, nn_dim inner, nn_dim count,
                              const nn_real *dy, const int32_t *ids, nn_real *dx, int acc)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, outer * n, 1, &from, &to);
    if (!acc) memset(dx + from * inner, 0, (size_t)((to - from) * inner) * sizeof(nn_real));
    for (nn_dim o = from / n; o * n < to; o++)
        for (nn_dim j = 0; j < count; j++) {
            const nn_dim at = o * n + nn_index(ids[j], n);
            if (at < from || at >= to) continue;
            const nn_real *d = dy + (o * count + j) * inner;
            nn_real *g = dx + at * inner;
            NN_IVDEP
            for (nn_dim c = 0; c < inner; c++) g[c] += d[c];
        }
}

/* y[j][i] = 1 where ids[j] = i, else 0; all zeros for an index outside [0, n). */
NN_INLINE void nn_one_hot(nn_dim count, nn_dim n, const int32_t *ids, nn_real *y)
{
    memset(y, 0, (size_t)(count * n) * sizeof(nn_real));
    for (nn_dim j = 0; j < count; j++)
        if (ids[j] >= 0 && ids[j] < n) y[j * n + ids[j]] = 1;
}

#endif
