/* SPDX-License-Identifier: MIT
 *
 * Batched matrix products y = a b over the last two axes, either operand transposed. The team divides blocks
 * of result rows, so it does not matter which thread computes which.
 */
#ifndef NN_KERNELS_MATMUL_H
#define NN_KERNELS_MATMUL_H

#include "kernels/tile.h"

/* Distances, in elements, between the matrices of three leading axes; 0 where an operand broadcasts. */
typedef struct nn_steps {
    nn_dim s0, s1, s2;
} nn_steps;
#define NN_STEPS(a, b, c) ((nn_steps){ a, b, c })

/* How far matrix l lies from the first, where the two inner axes have n1 and n2. */
NN_INLINE nn_dim nn_steps_to(nn_steps s, nn_dim l, nn_dim n1, nn_dim n2)
{
    return l / (n1 * n2) * s.s0 + l / n2 % n1 * s.s1 + l % n2 * s.s2;
}

/* Rows [r0, r1) of one product; m rows, n columns, k summed in all. */
NN_INLINE void nn_matmul_rows(nn_dim r0, nn_dim r1, nn_dim m, nn_dim n, nn_dim k, int trans_a, int trans_b,
                              const nn_real *a, const nn_real *b, nn_real *y, int acc)
{
    enum { DEPTH = 256, ROWS = 8, COLS = (NN_TILE_ACC >= 24 ? 3 : 2) * NN_VL, MANY = 32 };
    const nn_dim rows = r1 - r0;
    if (!trans_b) {
        /* Long sums are cut into blocks, which keeps b in cache and rounding errors small. */
        const nn_dim a_m = trans_a ? 1 : k, a_k = trans_a ? m : 1;
        for (nn_dim d = 0; d < k; d += DEPTH)
            nn_product(rows, n, nn_min_dim(DEPTH, k - d), d > 0 || acc ? NN_FROM_RESULT : NN_FROM_ZERO, 0,
                       a + r0 * a_m + d * a_k, a_m, a_k, b + d * n, n, b + k * n, NULL, y + r0 * n, n);
    } else if (!trans_a && m >= MANY) {
        /* Panels of b', which many rows pass over: no sums over lanes. */
        nn_real panel[DEPTH * COLS] __attribute__((aligned(64)));
        for (nn_dim c = 0; c < n; c += COLS) {
            const nn_dim cols = nn_min_dim(COLS, n - c);
            for (nn_dim d = 0; d < k; d += DEPTH) {
                const nn_dim depth = nn_min_dim(DEPTH, k - d);
                const int from = d > 0 || acc ? NN_FROM_RESULT : NN_FROM_ZERO;
                nn_transpose(cols, depth, b + c * k + d, k, panel, cols);
                if (cols == COLS)
                    nn_product(rows, COLS, depth, from, 0, a + r0 * k + d, k, 1, panel, COLS, panel + depth * COLS,
                               NULL, y + r0 * n + c, n);
                else
                    nn_product(rows, n % COLS, depth, from, 0, a + r0 * k + d, k, 1, panel, cols, panel + depth * cols,
                               NULL, y + r0 * n + c, n);
            }
        }
    } else if (!trans_a) {
        nn_product_dot(rows, n, k, acc, a + r0 * k, k, b, k, y + r0 * n, n);
    } else {
        /* Both transposed: rows of a' are gathered into a block first. */
        nn_real block[ROWS * DEPTH];
        for (nn_dim r = r0; r < r1; r += ROWS) {
            const nn_dim some = nn_min_dim(ROWS, r1 - r);
            for (nn_dim d = 0; d < k; d += DEPTH) {
                const nn_dim depth = nn_min_dim(DEPTH, k - d);
                nn_transpose(depth, some, a + d * m + r, m, block, DEPTH);
                nn_product_dot(some, n, depth, d > 0 || acc, block, DEPTH, b + d, k, y + r * n, n);
            }
        }
    }
}

/* y[l][i][j] = (acc ? y : 0) + sum over k of a[l][i][k] * b[l][k][j] for all leading indices l = (l0, l1, l2). */
NN_INLINE void nn_matmul(const nn_team *team, nn_dim n0, nn_dim n1, nn_dim n2, nn_steps sa, nn_steps sb, nn_dim m,
                         nn_dim n, nn_dim k, int trans_a, int trans_b, const nn_real *a, const nn_real *b, nn_real *y,
                         int acc)
{
    enum { BLOCK = 64 };
    const nn_dim blocks = (m + BLOCK - 1) / BLOCK;
    nn_dim from, to;
    nn_share(team->rank, team->size, n0 * n1 * n2 * blocks, 1, &from, &to);
    for (nn_dim item = from; item < to; item++) {
        const nn_dim l = item / blocks, r0 = item % blocks * BLOCK, r1 = nn_min_dim(m, r0 + BLOCK);
        if (trans_a && item + 1 < to) {
            /* Pieces of rows: no prefetcher of the hardware sees them. */
            const nn_dim next = (item + 1) / blocks, from_row = (item + 1) % blocks * BLOCK;
            const nn_real *an = a + nn_steps_to(sa, next, n1, n2);
            for (nn_dim i = 0; i < k; i++)
                for (nn_dim r = from_row; r < nn_min_dim(m, from_row + BLOCK); r += NN_LINE)
                    __builtin_prefetch(an + i * m + r, 0, 2);
        }
        nn_matmul_rows(r0, r1, m, n, k, trans_a, trans_b, a + nn_steps_to(sa, l, n1, n2),
                       b + nn_steps_to(sb, l, n1, n2), y + l * m * n, acc);
    }
}

#endif
