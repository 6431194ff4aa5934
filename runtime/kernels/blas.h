/* SPDX-License-Identifier: MIT
 *
 * Products for which OpenBLAS is faster than the tiles: its packing pays where the right-hand matrix is too
 * large for the near caches. Threads of the team work off blocks of the result whose boundaries depend on the
 * problem alone, and OpenBLAS runs single-threaded, so the bits are the same for any number of threads.
 *
 * Only generated code that calls one of these kernels refers to OpenBLAS: everything here is always inlined.
 */
#ifndef NN_KERNELS_BLAS_H
#define NN_KERNELS_BLAS_H

#include "kernels/dense.h"
#include "kernels/matmul.h"

#if defined(NN_STRICT) || defined(NN_NO_BLAS)

/* How OpenBLAS orders a sum depends on the processor. NN_NO_BLAS: it is not there. */
#define nn_dense_blas    nn_dense_wide
#define nn_dense_dw_blas nn_dense_dw
#define nn_matmul_blas   nn_matmul

#else

/* As in cblas.h, which is not included because it brings complex.h and its macro I along. */
enum { NN_BLAS_ROW_MAJOR = 101, NN_BLAS_AS_IS = 111, NN_BLAS_TRANSPOSED = 112 };
#if defined(NN_REAL_F64)
#define NN_BLAS_GEMM cblas_dgemm
#else
#define NN_BLAS_GEMM cblas_sgemm
#endif
extern void NN_BLAS_GEMM(int order, int trans_a, int trans_b, int m, int n, int k, nn_real alpha, const nn_real *a,
                         int lda, const nn_real *b, int ldb, nn_real beta, nn_real *c, int ldc);

/* y = (add ? y : 0) + a b, each operand transposed if asked. */
NN_INLINE void nn_blas_product(nn_dim m, nn_dim n, nn_dim k, int trans_a, int trans_b, const nn_real *a, nn_dim lda,
                               const nn_real *b, nn_dim ldb, int add, nn_real *y, nn_dim ldy)
{
    NN_BLAS_GEMM(NN_BLAS_ROW_MAJOR, trans_a ? NN_BLAS_TRANSPOSED : NN_BLAS_AS_IS,
                 trans_b ? NN_BLAS_TRANSPOSED : NN_BLAS_AS_IS, (int)m, (int)n, (int)k, 1, a, (int)lda, b, (int)ldb,
                 add ? 1 : 0, y, (int)ldy);
}

/* Blocks of the result, [r0, r1) x [c0, c1), that this thread computes. */
#define NN_BLAS_BLOCKS(rows, cols)                                                                          \
    nn_dim item, end;                                                                                       \
    const nn_dim across = ((cols) + NN_BLAS_COLS - 1) / NN_BLAS_COLS;                                       \
    nn_share(team->rank, team->size, ((rows) + NN_BLAS_ROWS - 1) / NN_BLAS_ROWS * across, 1, &item, &end);  \
    for (; item < end; item++)
#define NN_BLAS_BLOCK(rows, cols)                                                                           \
    const nn_dim r0 = item / across * NN_BLAS_ROWS, r1 = nn_min_dim(rows, r0 + NN_BLAS_ROWS);               \
    const nn_dim c0 = item % across * NN_BLAS_COLS, c1 = nn_min_dim(cols, c0 + NN_BLAS_COLS)
enum { NN_BLAS_ROWS = 128, NN_BLAS_COLS = 1024, NN_BLAS_FEW = 8 };

/* nn_dense_wide. A few samples do not repay the packing: they are left to the tiles. */
NN_INLINE void nn_dense_blas(const nn_team *team, nn_dim rows, nn_dim in, nn_dim out, int relu, const nn_real *x,
                             const nn_real *w, const nn_real *bias, const nn_real *add, nn_real *y)
{
    if (rows < NN_BLAS_FEW) {
        nn_dense_wide(team, rows, in, out, relu, x, w, bias, add, y);
        return;
    }
    NN_BLAS_BLOCKS(rows, out) {
        NN_BLAS_BLOCK(rows, out);
        const size_t width = (size_t)(c1 - c0) * sizeof *y;
        for (nn_dim r = r0; bias && r < r1; r++) memcpy(y + r * out + c0, bias + c0, width);
        nn_blas_product(r1 - r0, c1 - c0, in, 0, 0, x + r0 * in, in, w + c0, out, bias != NULL, y + r0 * out + c0,
                        out);
        for (nn_dim r = r0; (relu || add) && r < r1; r++)
            nn_add_branch(relu, c1 - c0, add ? add + r * out + c0 : NULL, y + r * out + c0);
    }
}

/* nn_dense_dw. Samples are summed in one go, as OpenBLAS orders them. */
NN_INLINE void nn_dense_dw_blas(const nn_team *team, nn_dim rows, nn_dim in, nn_dim out, const nn_real *x,
                                const nn_real *dy, nn_real *dw, int acc)
{
    NN_BLAS_BLOCKS(in, out) {
        NN_BLAS_BLOCK(in, out);
        nn_blas_product(r1 - r0, c1 - c0, rows, 1, 0, x + r0, in, dy + c0, out, acc, dw + r0 * out + c0, out);
    }
}

/* nn_matmul. */
NN_INLINE void nn_matmul_blas(const nn_team *team, nn_dim n0, nn_dim n1, nn_dim n2, nn_steps sa, nn_steps sb, nn_dim m,
                              nn_dim n, nn_dim k, int trans_a, int trans_b, const nn_real *a, const nn_real *b,
                              nn_real *y, int acc)
{
    if (m < NN_BLAS_FEW) {
        nn_matmul(team, n0, n1, n2, sa, sb, m, n, k, trans_a, trans_b, a, b, y, acc);
        return;
    }
    const nn_dim down = (m + NN_BLAS_ROWS - 1) / NN_BLAS_ROWS, each = down * NN_BLAS_ROWS;
    NN_BLAS_BLOCKS(n0 * n1 * n2 * each, n) {
        const nn_dim l = item / across / down, l0 = l / (n1 * n2), l1 = l / n2 % n1, l2 = l % n2;
        const nn_dim r0 = item / across % down * NN_BLAS_ROWS, r1 = nn_min_dim(m, r0 + NN_BLAS_ROWS);
        const nn_dim c0 = item % across * NN_BLAS_COLS, c1 = nn_min_dim(n, c0 + NN_BLAS_COLS);
        const nn_real *al = a + l0 * sa.s0 + l1 * sa.s1 + l2 * sa.s2, *bl = b + l0 * sb.s0 + l1 * sb.s1 + l2 * sb.s2;
        nn_blas_product(r1 - r0, c1 - c0, k, trans_a, trans_b, al + (trans_a ? r0 : r0 * k), trans_a ? m : k,
                        bl + (trans_b ? c0 * k : c0), trans_b ? k : n, acc, y + l * m * n + r0 * n + c0, n);
    }
}

#endif

#endif
