/* SPDX-License-Identifier: MIT
 *
 * What all kernels are written in: the real type, one vector type no wider than the target's registers,
 * unaligned loads and stores, and a horizontal sum in a fixed order. GNU vector extensions only, no
 * intrinsics; gcc and clang turn each function below into one or two instructions.
 */
#ifndef NN_KERNELS_VEC_H
#define NN_KERNELS_VEC_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "nn.h"

/* NN_STRICT: the same bits from every compiler, at every level of optimisation, on every processor with IEEE
 * arithmetic. Products are not contracted into multiply-adds, vectors have one length everywhere (below), and neither
 * BLAS nor functions of libm that round as they like take part (kernels/blas.h, kernels/libm.h). */
#if defined(NN_STRICT)
#if defined(__FAST_MATH__) || (__FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16)
#error "NN_STRICT needs arithmetic in the declared precision: no -ffast-math, and -msse2 -mfpmath=sse on 32-bit x86"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif
#endif

/* Kernels are inlined into calls with literal sizes and specialised there. NN_SMALL_CODE makes them ordinary
 * functions without unrolled loops, for sizes that are known only at run time. */
#if defined(NN_SMALL_CODE)
#define NN_INLINE static __attribute__((noinline, unused))
#else
#define NN_INLINE static inline __attribute__((always_inline, unused))
#endif
/* An ordinary function, compiled once whatever literals it is called with: for copies, and for sums that memory bounds,
 * which gain nothing from them. */
#if defined(__clang__)
#define NN_ONCE static __attribute__((noinline, unused))
#else
#define NN_ONCE static __attribute__((noinline, noclone, unused))
#endif
/* What generated code puts a specialised kernel in: never merged into its callers. */
#define NN_OUTLINE static __attribute__((noinline))

#if defined(NN_REAL_F64)
typedef double nn_real;
typedef int64_t nn_rint;   /* signed integer as wide as nn_real */
typedef uint64_t nn_ruint; /* unsigned, likewise */
#define NN_R(x) x          /* a literal of type nn_real: NN_R(0.5) */
#define NN_REAL_BYTES 8
#define NN_REAL_MAX 1.7976931348623157e308
#else
typedef float nn_real;
typedef int32_t nn_rint;
typedef uint32_t nn_ruint;
#define NN_R(x) x##f
#define NN_REAL_BYTES 4
#define NN_REAL_MAX 3.402823466e38f
#endif
#define NN_INF ((nn_real)INFINITY)

/* Bytes of a vector. -DNN_VBYTES=N overrides what the target suggests; N = sizeof(nn_real) makes every vector a
 * scalar, which is right where there are no vector registers: a vector that is cut into scalars spills. 32-bit NEON
 * counts as none, because it flushes subnormals and compilers leave it alone. */
#if defined(NN_VBYTES)
#elif defined(NN_STRICT)
#define NN_VBYTES 16
#elif defined(__AVX512F__)
#define NN_VBYTES 64
#elif defined(__AVX__)
#define NN_VBYTES 32
#elif defined(__SSE2__) || defined(__aarch64__) || defined(__ALTIVEC__) || defined(__VX__) || defined(__VEC__) || \
    defined(__wasm_simd128__) || defined(__loongarch_sx) || defined(__mips_msa)
#define NN_VBYTES 16
#else
#define NN_VBYTES NN_REAL_BYTES
#endif
#define NN_VL (NN_VBYTES / NN_REAL_BYTES) /* lanes */

typedef nn_real nn_vec __attribute__((vector_size(NN_VBYTES)));
typedef nn_rint nn_ivec __attribute__((vector_size(NN_VBYTES))); /* what comparing two nn_vec gives */
/* The same in memory: no more aligned than one element, and allowed to alias it. */
typedef nn_real nn_vec_mem
    __attribute__((vector_size(NN_VBYTES), aligned(NN_REAL_BYTES), may_alias));

/* Placed before a for loop. NN_UNROLL(n): n copies of the body; NN_UNROLL_FULL: all of a short loop whose
 * count is a constant. NN_IVDEP: iterations are independent though pointers may be equal (clang finds
 * out at run time and would warn about every loop that cannot be vectorised). */
#define NN_PRAGMA(x) _Pragma(#x)
#if defined(NN_SMALL_CODE)
#define NN_UNROLL(n)
#define NN_UNROLL_FULL
#define NN_IVDEP
#elif defined(__clang__)
#define NN_UNROLL(n) NN_PRAGMA(clang loop unroll_count(n))
#define NN_UNROLL_FULL NN_PRAGMA(clang loop unroll(full))
#define NN_IVDEP
#else
#define NN_UNROLL(n) NN_PRAGMA(GCC unroll n)
#define NN_UNROLL_FULL NN_PRAGMA(GCC unroll 64)
#define NN_IVDEP NN_PRAGMA(GCC ivdep)
#endif

NN_INLINE nn_vec nn_load(const nn_real *p)
{
    return *(const nn_vec_mem *)p;
}

NN_INLINE void nn_store(nn_real *p, nn_vec v)
{
    *(nn_vec_mem *)p = v;
}

/* Note [lone chains]
 * Tuned for some processors (-march=native on AMD's), gcc computes a multiply-add that waits for nothing but the one
 * before it in a loop as a product and a sum: less to wait for, but twice rounded, where a tile of several sums side by
 * side gets multiply-adds. Then an element's bits would depend on the tile it falls into, hence on the number of
 * threads. What passes through this is no chain in the compiler's eyes. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__FMA__)
#if NN_VL == 1 /* a vector of one number is not what registers hold */
#define NN_LONE_TYPE nn_real
#define NN_LONE_OF(v) (v)[0]
#else
#define NN_LONE_TYPE nn_vec
#define NN_LONE_OF(v) (v)
#endif
#define NN_LONE(sums, v)                         \
    do {                                         \
        if ((sums) == 1) {                       \
            NN_LONE_TYPE lone = NN_LONE_OF(v);   \
            __asm__("" : "+v"(lone));            \
            NN_LONE_OF(v) = lone;                \
        }                                        \
    } while (0)
#else
#define NN_LONE(sums, v) (void)0
#endif

NN_INLINE nn_vec nn_splat(nn_real a)
{
    return a - (nn_vec){ 0 };
}

/* The first n lanes (0 <= n <= NN_VL); the others are `fill` and never touched in memory. */
NN_INLINE nn_vec nn_load_part(const nn_real *p, nn_dim n, nn_real fill)
{
    nn_vec v = nn_splat(fill);
    memcpy(&v, p, (size_t)n * sizeof(nn_real));
    return v;
}

NN_INLINE void nn_store_part(nn_real *p, nn_vec v, nn_dim n)
{
    memcpy(p, &v, (size_t)n * sizeof(nn_real));
}

/* Lanes of a where mask is all ones, of b where it is zero. */
NN_INLINE nn_vec nn_select(nn_ivec mask, nn_vec a, nn_vec b)
{
    return (nn_vec)((mask & (nn_ivec)a) | (~mask & (nn_ivec)b));
}

/* 0 where v is negative; NaN stays. */
NN_INLINE nn_vec nn_relu(nn_vec v)
{
    return (nn_vec)((nn_ivec)v & ~(v < (nn_vec){ 0 }));
}

/* Sum of the lanes: halves are added until one is left, so the order is a function of NN_VL alone. */
NN_INLINE nn_real nn_hsum(nn_vec v)
{
    nn_real lane[NN_VL];
    memcpy(lane, &v, sizeof v);
    NN_UNROLL_FULL
    for (int half = NN_VL / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lane[i] += lane[i + half];
    return lane[0];
}

NN_INLINE nn_dim nn_min_dim(nn_dim a, nn_dim b)
{
    return a < b ? a : b;
}

NN_INLINE nn_dim nn_max_dim(nn_dim a, nn_dim b)
{
    return a > b ? a : b;
}

/* Part `index` of [0, n) cut into `count` parts of nearly equal size, boundaries on multiples of `grain`. */
NN_INLINE nn_dim nn_cut(nn_dim n, nn_dim grain, nn_dim index, nn_dim count)
{
    const nn_dim blocks = (n + grain - 1) / grain;
    return nn_min_dim(n, blocks * index / count * grain);
}

/* A thread's share [*from, *to) of n output items; only who computes what depends on the team. */
NN_INLINE void nn_share(int rank, int size, nn_dim n, nn_dim grain, nn_dim *from, nn_dim *to)
{
    *from = nn_cut(n, grain, rank, size);
    *to = nn_cut(n, grain, rank + 1, size);
}

#endif
