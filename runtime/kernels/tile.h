/* SPDX-License-Identifier: MIT
 *
 * The register tile every product is made of: mr rows times nv vectors of accumulators that stay in
 * registers while the summed index runs. Dense layers, convolutions and their gradients are the same
 * tile with other strides. Everything here is inlined into calls with literal sizes; mr, nv and tail are
 * constants there, so that each use compiles to a straight loop of multiply-adds.
 *
 * Invariant: an element's sum runs over the index in ascending order, whatever tile it falls into, so its
 * bits do not depend on how rows are grouped. Nothing outside the operands is read or written: the last,
 * partial vector of columns is loaded whole only where the following elements belong to the operand.
 */
#ifndef NN_KERNELS_TILE_H
#define NN_KERNELS_TILE_H

#include "kernels/vec.h"
#include "nn_threads.h"

/* Accumulators that fit beside a row of b and a broadcast. */
#if (defined(__AVX512F__) || defined(__aarch64__)) && !defined(NN_STRICT)
#define NN_TILE_ACC 28
#else
#define NN_TILE_ACC 12
#endif
/* Steps of a tile's sum in one turn of its loop: few accumulators leave a step so short that the loop's own
 * instructions would cost a tenth of it. */
#define NN_TILE_STEPS (NN_TILE_ACC >= 24 ? 1 : 2)
#define NN_TILE_ROWS NN_TILE_ACC /* most rows a tile may have */
#define NN_TILE_VECS 4           /* most vectors */

/* How a tile starts: from zero, from what the result holds, or from a vector of one value per column. */
enum { NN_FROM_ZERO, NN_FROM_RESULT, NN_FROM_BIAS };

/* The largest divisor of n that is at most `most` (and at least half of it), or an even split. A chain of
 * conditions instead of a loop: it must fold to a literal before loops are unrolled. */
#define NN_DIVIDES(n, d, most) ((d) <= (most) && 2 * (d) >= (most) && (n) % (d) == 0)
NN_INLINE int nn_tile_rows(nn_dim n, int most)
{
    return n <= most                     ? (int)n
           : NN_DIVIDES(n, 28, most)     ? 28
           : NN_DIVIDES(n, 26, most)     ? 26
           : NN_DIVIDES(n, 24, most)     ? 24
           : NN_DIVIDES(n, 16, most)     ? 16
           : NN_DIVIDES(n, 15, most)     ? 15
           : NN_DIVIDES(n, 14, most)     ? 14
           : NN_DIVIDES(n, 13, most)     ? 13
           : NN_DIVIDES(n, 12, most)     ? 12
           : NN_DIVIDES(n, 11, most)     ? 11
           : NN_DIVIDES(n, 10, most)     ? 10
           : NN_DIVIDES(n, 9, most)      ? 9
           : NN_DIVIDES(n, 8, most)      ? 8
           : NN_DIVIDES(n, 7, most)      ? 7
           : NN_DIVIDES(n, 6, most)      ? 6
           : NN_DIVIDES(n, 5, most)      ? 5
           : NN_DIVIDES(n, 4, most)      ? 4
                                         : (int)((n + (n + most - 1) / most - 1) / ((n + most - 1) / most));
}

/* The same for tiles of nv vectors where what n leaves over becomes a smaller tile. With few registers a tile needs all
 * of them, or its sums wait for their own additions: divisors are mostly four rows, eight sums. */
#define NN_TILE_FEW (NN_TILE_ACC < 24 && NN_VL > 1)
NN_INLINE int nn_tile_rows_and_rest(nn_dim n, int nv, int most)
{
    return NN_TILE_FEW && nv > 1 ? (int)nn_min_dim(n, most) : nn_tile_rows(n, most);
}

/* Where rows of a overlap, gcc would carry what it has read from one step to the next, in registers that the
 * accumulators need; reading again is cheaper. */
#define NN_FRESH_LOADS __asm__ volatile("" ::: "memory")

/* Where registers are left, one of them for a number of a, a row of b stays in them: gcc, which sees that it equals
 * what lies in memory, would read it again for every row of a. */
#define NN_TILE_KEEPS (NN_TILE_ACC >= 24 ? NN_TILE_ACC + 1 : 15)
#if defined(NN_SMALL_CODE) || NN_VL == 1
#define NN_KEEP(acc_count, v) (void)0
#elif defined(__x86_64__) && defined(__SSE__)
#define NN_KEEP(acc_count, v)                                                                        \
    do {                                                                                             \
        if ((acc_count) <= NN_TILE_KEEPS) __asm__("" : "+v"(v));                                   \
    } while (0)
#elif defined(__aarch64__)
#define NN_KEEP(acc_count, v)                                                                        \
    do {                                                                                             \
        if ((acc_count) <= NN_TILE_KEEPS) __asm__("" : "+w"(v));                                   \
    } while (0)
#else
#define NN_KEEP(acc_count, v) (void)0
#endif

/* acc[i][j] += sum over k of a[i*a_m + k*a_k] * b[k*b_k + j*NN_VL ..]; unless NULL, `soon` is memory that is wanted
 * soon: each step asks for a line of it. */
enum { NN_LINE = 64 / NN_REAL_BYTES }; /* elements of a line */
NN_INLINE void nn_tile_mul_ask(int mr, int nv, nn_dim depth, const nn_real *a, nn_dim a_m, nn_dim a_k,
                               const nn_real *b, nn_dim b_k, const nn_real *soon,
                               nn_vec (*restrict acc)[NN_TILE_VECS])
{
    NN_UNROLL(NN_TILE_STEPS)
    for (nn_dim k = 0; k < depth; k++) {
        nn_vec bv[NN_TILE_VECS] = { { 0 } }; /* for compilers that do not see that nv bounds both loops */
        NN_FRESH_LOADS;
        if (soon) __builtin_prefetch(soon + k * NN_LINE, 0, 2);
        NN_UNROLL_FULL
        for (int j = 0; j < nv; j++) {
            nn_vec v = nn_load(b + k * b_k + j * NN_VL);
            NN_KEEP(mr * nv + nv, v);
            bv[j] = v;
        }
        NN_UNROLL_FULL
        for (int i = 0; i < mr; i++) {
            const nn_vec av = nn_splat(a[i * a_m + k * a_k]);
            NN_UNROLL_FULL
            for (int j = 0; j < nv; j++) acc[i][j] += av * bv[j];
        }
        NN_LONE(mr * nv, acc[0][0]);
    }
}

NN_INLINE void nn_tile_mul(int mr, int nv, nn_dim depth, const nn_real *a, nn_dim a_m, nn_dim a_k,
                           const nn_real *b, nn_dim b_k, nn_vec (*restrict acc)[NN_TILE_VECS])
{
    nn_tile_mul_ask(mr, nv, depth, a, a_m, a_k, b, b_k, NULL, acc);
}

/* How many leading rows of b may be read in whole vectors when b's memory ends at b_end. */
NN_INLINE nn_dim nn_tile_whole(int nv, nn_dim depth, const nn_real *b, nn_dim b_k, const nn_real *b_end)
{
    const nn_dim room = b_end - b - (nn_dim)nv * NN_VL;
    return room < 0 ? 0 : nn_min_dim(depth, room / b_k + 1);
}

/* The same where only `tail` lanes of the last vector count (0: all) and b's memory ends at b_end. */
NN_INLINE void nn_tile_mul_tail(int mr, int nv, int tail, nn_dim depth, const nn_real *a, nn_dim a_m, nn_dim a_k,
                                const nn_real *b, nn_dim b_k, const nn_real *b_end,
                                nn_vec (*restrict acc)[NN_TILE_VECS])
{
    const nn_dim whole = tail ? nn_tile_whole(nv, depth, b, b_k, b_end) : depth;
    nn_tile_mul(mr, nv, whole, a, a_m, a_k, b, b_k, acc);
    if (!tail) return;
    for (nn_dim k = whole; k < depth; k++) {
        nn_vec bv[NN_TILE_VECS];
        NN_UNROLL_FULL
        for (int j = 0; j < nv - 1; j++) bv[j] = nn_load(b + k * b_k + j * NN_VL);
        bv[nv - 1] = nn_load_part(b + k * b_k + (nv - 1) * NN_VL, tail, 0);
        NN_UNROLL_FULL
        for (int i = 0; i < mr; i++) {
            const nn_vec av = nn_splat(a[i * a_m + k * a_k]);
            NN_UNROLL_FULL
            for (int j = 0; j < nv; j++) acc[i][j] += av * bv[j];
        }
        NN_LONE(mr * nv, acc[0][0]);
    }
}

NN_INLINE nn_vec nn_load_tail(const nn_real *p, int last, int tail)
{
    return last && tail ? nn_load_part(p, tail, 0) : nn_load(p);
}

NN_INLINE void nn_store_tail(nn_real *p, nn_vec v, int last, int tail)
{
    if (last && tail)
        nn_store_part(p, v, tail);
    else
        nn_store(p, v);
}

/* Start of a tile's accumulators; `bias` points to the tile's first column and may be NULL (zero). */
NN_INLINE void nn_tile_start(int mr, int nv, int tail, int from, const nn_real *bias, const nn_real *y,
                             nn_dim y_m, nn_vec (*restrict acc)[NN_TILE_VECS])
{
    NN_UNROLL_FULL
    for (int j = 0; j < nv; j++) {
        nn_vec v = { 0 };
        if (from == NN_FROM_BIAS && bias) v = nn_load_tail(bias + j * NN_VL, j == nv - 1, tail);
        NN_UNROLL_FULL
        for (int i = 0; i < mr; i++)
            acc[i][j] = from == NN_FROM_RESULT ? nn_load_tail(y + i * y_m + j * NN_VL, j == nv - 1, tail) : v;
    }
}

/* y = y + add, then relu if asked, for n elements; add may be NULL. */
NN_INLINE void nn_add_branch(int relu, nn_dim n, const nn_real *add, nn_real *y)
{
    NN_IVDEP
    for (nn_dim i = 0; i < n; i++) {
        const nn_real sum = add ? y[i] + add[i] : y[i];
        y[i] = relu && sum < 0 ? 0 : sum;
    }
}

/* d[i] = (y[i] > 0) * (d[i] + add[i]) for i in [from, to); without y the sum alone, and without `add` the product. */
NN_INLINE void nn_act_dx(nn_dim from, nn_dim to, const nn_real *add, const nn_real *y, nn_real *d)
{
    NN_IVDEP
    for (nn_dim i = from; i < to; i++) {
        const nn_real sum = add ? d[i] + add[i] : d[i];
        d[i] = y && y[i] <= 0 ? 0 : sum;
    }
}

/* Adds what lies like the tile's rows of y; NULL for nothing. */
NN_INLINE void nn_tile_add(int mr, int nv, int tail, const nn_real *add, nn_dim y_m,
                           nn_vec (*restrict acc)[NN_TILE_VECS])
{
    if (!add) return;
    NN_UNROLL_FULL
    for (int i = 0; i < mr; i++) {
        NN_UNROLL_FULL
        for (int j = 0; j < nv; j++) acc[i][j] += nn_load_tail(add + i * y_m + j * NN_VL, j == nv - 1, tail);
    }
}

/* Stores a tile; relu keeps NaN. Where a tile spans whole rows of y, a row's last vector is stored whole and the
 * rows below overwrite what it puts there; only the last rows are cut. */
NN_INLINE void nn_tile_end(int mr, int nv, int tail, int relu, nn_real *y, nn_dim y_m,
                           nn_vec (*restrict acc)[NN_TILE_VECS])
{
    const nn_dim width = tail ? (nn_dim)(nv - 1) * NN_VL + tail : 0; /* of the rows, if they have a tail */
    NN_UNROLL_FULL
    for (int i = 0; i < mr; i++) {
        const int cut = tail && !(y_m == width && i * width + nv * NN_VL <= mr * width);
        NN_UNROLL_FULL
        for (int j = 0; j < nv; j++) {
            nn_vec v = acc[i][j];
            if (relu) v = nn_relu(v);
            nn_real *to = y + i * y_m + j * NN_VL;
            if (cut && j == nv - 1) { /* by lanes: gcc would keep a sum whose address is taken in memory */
                NN_UNROLL_FULL
                for (int n = 0; n < tail; n++) to[n] = v[n];
            } else {
                nn_store(to, v);
            }
        }
    }
}

/* What will be wanted soon: `lines` lines of the cache in each of `rows` rows, some asked for before each tile. */
typedef struct nn_ahead {
    const nn_real *at; /* the row whose lines are asked for */
    nn_dim rows, pitch, lines, line, at_a_time;
} nn_ahead;

NN_INLINE nn_ahead nn_ahead_of(const nn_real *at, nn_dim rows, nn_dim pitch, nn_dim cols, nn_dim tiles)
{
    const nn_dim lines = (cols + NN_LINE - 1) / NN_LINE;
    return (nn_ahead){ at, rows, pitch, lines, 0, (rows * lines + tiles - 1) / nn_max_dim(1, tiles) };
}

NN_INLINE void nn_ask_ahead(nn_ahead *a)
{
    for (nn_dim n = 0; n < a->at_a_time && a->rows > 0; n++) {
        __builtin_prefetch(a->at + a->line * NN_LINE, 0, 2);
        if (++a->line < a->lines) continue;
        a->line = 0;
        a->at += a->pitch;
        a->rows--;
    }
}

/* One whole tile of a matrix product. */
NN_INLINE void nn_tile_product(int mr, int nv, int tail, int from, int relu, nn_dim depth, const nn_real *a,
                               nn_dim a_m, nn_dim a_k, const nn_real *b, nn_dim b_k, const nn_real *b_end,
                               const nn_real *bias, nn_real *y, nn_dim y_m)
{
    nn_vec acc[NN_TILE_ROWS][NN_TILE_VECS];
    nn_tile_start(mr, nv, tail, from, bias, y, y_m, acc);
    nn_tile_mul_tail(mr, nv, tail, depth, a, a_m, a_k, b, b_k, b_end, acc);
    nn_tile_end(mr, nv, tail, relu, y, y_m, acc);
}

/* All rows of a group of nv vectors of columns. A literal number of rows is cut into equal tiles. */
NN_INLINE void nn_product_columns(int nv, int tail, int from, int relu, nn_dim rows, nn_dim depth,
                                  const nn_real *a, nn_dim a_m, nn_dim a_k, const nn_real *b, nn_dim b_k,
                                  const nn_real *b_end, const nn_real *bias, nn_real *y, nn_dim y_m)
{
#define NN_ROWS(n)                                                                                       \
    nn_tile_product(n, nv, tail, from, relu, depth, a + m * a_m, a_m, a_k, b, b_k, b_end, bias, y + m * y_m, \
                    y_m)
    const int most = nv == 1 ? (NN_TILE_ACC > 16 ? 16 : 8) : NN_TILE_ACC / nv;
    nn_dim m = 0;
    if (__builtin_constant_p(rows)) {
        const int mr = nn_tile_rows(rows, most), rest = (int)(rows % mr);
        for (; m + mr <= rows; m += mr) NN_ROWS(mr);
        if (rest) NN_ROWS(rest);
    } else if (NN_TILE_ACC / nv >= 8) {
        for (; m + 8 <= rows; m += 8) NN_ROWS(8);
        if (rows - m >= 4) {
            NN_ROWS(4);
            m += 4;
        }
        if (rows - m >= 2) {
            NN_ROWS(2);
            m += 2;
        }
        if (rows - m >= 1) NN_ROWS(1);
    } else {
        for (; m + 4 <= rows; m += 4) NN_ROWS(4);
        for (; m < rows; m++) NN_ROWS(1);
    }
#undef NN_ROWS
}

/* y[m][n] = start + sum over k of a[m*a_m + k*a_k] * b[k*b_k + n], then relu if asked; b_end is the end of
 * b's memory, y_m the distance of y's rows. */
NN_INLINE void nn_product(nn_dim rows, nn_dim cols, nn_dim depth, int from, int relu, const nn_real *a,
                          nn_dim a_m, nn_dim a_k, const nn_real *b, nn_dim b_k, const nn_real *b_end,
                          const nn_real *bias, nn_real *y, nn_dim y_m)
{
    const int group = NN_TILE_ACC >= 24 ? 3 : 2;
    const nn_dim n_main = cols / NN_VL / group;
    const int tail = (int)(cols % NN_VL), rest = (int)((cols + NN_VL - 1) / NN_VL - n_main * group);
    nn_dim n = 0;
    for (nn_dim g = 0; g < n_main; g++, n += group * NN_VL)
        nn_product_columns(group, 0, from, relu, rows, depth, a, a_m, a_k, b + n, b_k, b_end,
                           bias ? bias + n : NULL, y + n, y_m);
    if (rest)
        nn_product_columns(rest, tail, from, relu, rows, depth, a, a_m, a_k, b + n, b_k, b_end,
                           bias ? bias + n : NULL, y + n, y_m);
}

/* ---- products of rows with rows: y[m][n] = sum over k of a[m][k] * b[n][k] ---- */

/* Sums of the lanes of NN_VL vectors: lane i of the result is the sum of v[i]. Each step adds one half
 * of a vector to the other for two vectors at once. */
#if defined(__clang__) || __GNUC__ >= 12
#if NN_VL == 16
#define NN_HALVES_A(a, b)                                                                                  \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +               \
     __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
#define NN_HALVES_B(a, b)                                                                                  \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +             \
     __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31))
#define NN_HALVES_C(a, b)                                                                                  \
    (__builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +             \
     __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31))
#define NN_HALVES_D(a, b)                                                                                  \
    (__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +            \
     __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31))
#elif NN_VL == 8
#define NN_HALVES_B(a, b)                                                                                  \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +                                             \
     __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15))
#define NN_HALVES_C(a, b)                                                                                  \
    (__builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13) +                                             \
     __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15))
#define NN_HALVES_D(a, b)                                                                                  \
    (__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) +                                            \
     __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15))
#elif NN_VL == 4
#define NN_HALVES_C(a, b) \
    (__builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7))
#define NN_HALVES_D(a, b) \
    (__builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7))
#elif NN_VL == 2
#define NN_HALVES_D(a, b) (__builtin_shufflevector(a, b, 0, 2) + __builtin_shufflevector(a, b, 1, 3))
#endif
#endif

NN_INLINE nn_vec nn_hsum_each(nn_vec *v)
{
#if defined(NN_HALVES_D)
    int n = NN_VL;
#if defined(NN_HALVES_A)
    n /= 2;
    NN_UNROLL_FULL
    for (int i = 0; i < NN_VL / 2; i++) v[i] = NN_HALVES_A(v[2 * i], v[2 * i + 1]);
#endif
#if defined(NN_HALVES_B)
    n /= 2;
    NN_UNROLL_FULL
    for (int i = 0; i < n; i++) v[i] = NN_HALVES_B(v[2 * i], v[2 * i + 1]);
#endif
#if defined(NN_HALVES_C)
    n /= 2;
    NN_UNROLL_FULL
    for (int i = 0; i < n; i++) v[i] = NN_HALVES_C(v[2 * i], v[2 * i + 1]);
#endif
    (void)n;
    return NN_HALVES_D(v[0], v[1]);
#else
    nn_vec sum = { 0 };
    for (int i = 0; i < NN_VL; i++) {
        const nn_real s = nn_hsum(v[i]);
        memcpy((char *)&sum + (size_t)i * sizeof s, &s, sizeof s);
    }
    return sum;
#endif
}

/* NN_DOT_ROWS x NN_DOT_COLS sums at a time, together one vector of results. */
#define NN_DOT_ROWS (NN_VL >= 8 ? 4 : NN_VL >= 2 ? 2 : 1)
#define NN_DOT_COLS (NN_VL / NN_DOT_ROWS)

/* y[m*y_m + n] = (add ? y : 0) + sum over k < depth of a[m*a_m + k] * b[n*b_n + k]. Rows beyond the end
 * repeat the last one and are not stored. */
NN_INLINE void nn_product_dot(nn_dim rows, nn_dim cols, nn_dim depth, int add, const nn_real *a, nn_dim a_m,
                              const nn_real *b, nn_dim b_n, nn_real *y, nn_dim y_m)
{
    const nn_dim whole = depth / NN_VL * NN_VL;
    const int tail = (int)(depth - whole);
    for (nn_dim n = 0; n < cols; n += NN_DOT_COLS) {
        const nn_dim nn = nn_min_dim(NN_DOT_COLS, cols - n);
        const nn_real *bp[NN_DOT_COLS];
        NN_UNROLL_FULL
        for (int j = 0; j < NN_DOT_COLS; j++) bp[j] = b + nn_min_dim(n + j, cols - 1) * b_n;
        for (nn_dim m = 0; m < rows; m += NN_DOT_ROWS) {
            const nn_dim mm = nn_min_dim(NN_DOT_ROWS, rows - m);
            const nn_real *ap[NN_DOT_ROWS];
            NN_UNROLL_FULL
            for (int i = 0; i < NN_DOT_ROWS; i++) ap[i] = a + nn_min_dim(m + i, rows - 1) * a_m;
            nn_vec acc[NN_VL];
            NN_UNROLL_FULL
            for (int i = 0; i < NN_VL; i++) acc[i] = (nn_vec){ 0 };
            for (nn_dim k = 0; k < whole; k += NN_VL) {
                nn_vec bv[NN_DOT_COLS];
                NN_UNROLL_FULL
                for (int j = 0; j < NN_DOT_COLS; j++) bv[j] = nn_load(bp[j] + k);
                NN_UNROLL_FULL
                for (int i = 0; i < NN_DOT_ROWS; i++) {
                    const nn_vec av = nn_load(ap[i] + k);
                    NN_UNROLL_FULL
                    for (int j = 0; j < NN_DOT_COLS; j++) acc[i * NN_DOT_COLS + j] += av * bv[j];
                }
            }
            if (tail) {
                nn_vec bv[NN_DOT_COLS];
                NN_UNROLL_FULL
                for (int j = 0; j < NN_DOT_COLS; j++) bv[j] = nn_load_part(bp[j] + whole, tail, 0);
                NN_UNROLL_FULL
                for (int i = 0; i < NN_DOT_ROWS; i++) {
                    const nn_vec av = nn_load_part(ap[i] + whole, tail, 0);
                    NN_UNROLL_FULL
                    for (int j = 0; j < NN_DOT_COLS; j++) acc[i * NN_DOT_COLS + j] += av * bv[j];
                }
            }
            const nn_vec sum = nn_hsum_each(acc);
            nn_real lane[NN_VL];
            memcpy(lane, &sum, sizeof lane);
            for (nn_dim i = 0; i < mm; i++)
                for (nn_dim j = 0; j < nn; j++) {
                    nn_real *out = y + (m + i) * y_m + n + j;
                    *out = add ? *out + lane[i * NN_DOT_COLS + j] : lane[i * NN_DOT_COLS + j];
                }
        }
    }
}

/* t[j] = lane j of every x[i]: a square of NN_VL x NN_VL, transposed. Halves are interleaved until every lane is in
 * place; x is used up. */
#if defined(NN_HALVES_D)
#if NN_VL == 16
#define NN_ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define NN_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif NN_VL == 8
#define NN_ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define NN_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#elif NN_VL == 4
#define NN_ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define NN_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#elif NN_VL == 2
#define NN_ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 2)
#define NN_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 1, 3)
#endif
#endif

NN_INLINE void nn_transpose_square(nn_vec *x, nn_vec *t)
{
#if defined(NN_ZIP_LOW)
    NN_UNROLL_FULL
    for (int n = 1; n < NN_VL; n *= 2) {
        NN_UNROLL_FULL
        for (int i = 0; i < NN_VL / 2; i++) {
            t[2 * i] = NN_ZIP_LOW(x[i], x[i + NN_VL / 2]);
            t[2 * i + 1] = NN_ZIP_HIGH(x[i], x[i + NN_VL / 2]);
        }
        NN_UNROLL_FULL
        for (int i = 0; i < NN_VL; i++) x[i] = t[i];
    }
#else
    for (int i = 0; i < NN_VL; i++)
        for (int j = 0; j < NN_VL; j++)
            memcpy((char *)&t[j] + (size_t)i * sizeof(nn_real), (const char *)&x[i] + (size_t)j * sizeof(nn_real),
                   sizeof(nn_real));
#endif
}

/* t[j][i] = x[i][j]: a block of a matrix, transposed into a panel whose rows are t_row apart. */
NN_INLINE void nn_transpose(nn_dim rows, nn_dim cols, const nn_real *x, nn_dim x_row, nn_real *restrict t,
                            nn_dim t_row)
{
    const nn_dim whole = NN_VL >= 4 ? cols / NN_VL * NN_VL : 0;
    nn_dim i0 = 0;
    for (; i0 + NN_VL <= rows && whole; i0 += NN_VL) {
        for (nn_dim j = 0; j < whole; j += NN_VL) {
            nn_vec in[NN_VL], out[NN_VL];
            NN_UNROLL_FULL
            for (int i = 0; i < NN_VL; i++) in[i] = nn_load(x + (i0 + i) * x_row + j);
            nn_transpose_square(in, out);
            NN_UNROLL_FULL
            for (int i = 0; i < NN_VL; i++) nn_store(t + (j + i) * t_row + i0, out[i]);
        }
        for (nn_dim j = whole; j < cols; j++)
            for (nn_dim i = i0; i < i0 + NN_VL; i++) t[j * t_row + i] = x[i * x_row + j];
    }
    for (; i0 < rows; i0 += 16) {
        const nn_dim i1 = nn_min_dim(i0 + 16, rows);
        for (nn_dim j = 0; j < cols; j++)
            for (nn_dim i = i0; i < i1; i++) t[j * t_row + i] = x[i * x_row + j];
    }
}

/* ---- sums of partial results ---- */

/* dst[i] = (add ? dst[i] : 0) + part 0 + part 1 + ..., in this order, over this thread's share of n
 * elements; part p starts at part + p*n. */
NN_INLINE void nn_sum_parts(const nn_team *team, nn_dim n, nn_dim parts, const nn_real *part, int add,
                            nn_real *dst)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, n, 64, &from, &to);
    nn_dim i = from;
    for (; i + NN_VL <= to; i += NN_VL) {
        nn_vec s = add ? nn_load(dst + i) : (nn_vec){ 0 };
        for (nn_dim p = 0; p < parts; p++) s += nn_load(part + p * n + i);
        nn_store(dst + i, s);
    }
    for (; i < to; i++) {
        nn_real s = add ? dst[i] : 0;
        for (nn_dim p = 0; p < parts; p++) s += part[p * n + i];
        dst[i] = s;
    }
}

/* `rows` rows of `cols` columns of weights as panels of `width` columns; columns beyond the last are zero. Rows
 * are far apart in memory, which no prefetcher of the hardware sees. */
NN_ONCE void nn_pack_panels(nn_dim rows, nn_dim cols, nn_dim width, const nn_real *w, nn_dim w_row, nn_real *panel)
{
    for (nn_dim k = 0; k < cols; k += width) {
        const nn_dim n = nn_min_dim(width, cols - k);
        for (nn_dim c = 0; c < rows; c++, panel += width) {
            const nn_real *from = w + c * w_row + k;
            if (n < width) {
                memset(panel, 0, (size_t)width * sizeof *panel);
                memcpy(panel, from, (size_t)n * sizeof *panel);
                continue;
            }
            for (nn_dim j = 0; j < width; j += NN_VL) {
                __builtin_prefetch(from + 16 * w_row + j);
                nn_store(panel + j, nn_load(from + j));
            }
        }
    }
}

#endif
