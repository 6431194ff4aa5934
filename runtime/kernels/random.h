/* SPDX-License-Identifier: MIT
 *
 * Random operators: draws are a pure function of (key, element index), so neither threads nor batches
 * nor layouts change them. Philox 4x32-10: element i takes word i % 4 of block i / 4, where i counts
 * elements in canonical order (samples first). Uniform draws have 24 bits and are the same numbers in
 * single and double precision; normal draws are computed in double and rounded once.
 */
#ifndef NN_KERNELS_RANDOM_H
#define NN_KERNELS_RANDOM_H

#include "kernels/vec.h"
#include "philox.h"

typedef struct nn_key {
    uint32_t v[4]; /* Philox key, and the upper half of the counter */
} nn_key;

/* The stream of one random node of one call. */
NN_INLINE nn_key nn_key_make(uint64_t seed, uint32_t routine, uint32_t stream, uint64_t call)
{
    const philox4x32_ctr_t c = { { routine, stream, (uint32_t)call, (uint32_t)(call >> 32) } };
    const philox4x32_key_t k = { { (uint32_t)seed, (uint32_t)(seed >> 32) } };
    const philox4x32_ctr_t r = philox4x32(c, k);
    return (nn_key){ { r.v[0], r.v[1], r.v[2], r.v[3] } };
}

/* Words 4 * block .. 4 * block + 3 of the stream. */
NN_INLINE void nn_words4(nn_key key, nn_dim block, uint32_t out[4])
{
    const philox4x32_ctr_t c = { { (uint32_t)block, (uint32_t)(block >> 32), key.v[2], key.v[3] } };
    const philox4x32_key_t k = { { key.v[0], key.v[1] } };
    const philox4x32_ctr_t r = philox4x32(c, k);
    for (int i = 0; i < 4; i++) out[i] = r.v[i];
}

/* Words at .. at + NN_WORDS - 1 of the stream, at a multiple of NN_WORDS: the same rounds for several blocks side by
 * side, each word in a lane that its products fit into. All draws of a tensor are made in such groups, also where their
 * first and last words are not wanted, so that no draw depends on which way it was computed. */
typedef uint64_t nn_u64vec __attribute__((vector_size(NN_VBYTES < 8 ? 8 : NN_VBYTES)));
enum { NN_WORDS = 64, NN_WORD_LANES = sizeof(nn_u64vec) / 8 };
NN_INLINE void nn_words(nn_key key, nn_dim at, uint32_t out[NN_WORDS])
{
    const uint64_t low = 0xffffffffu;
    for (int l = 0; l < NN_WORDS / 4; l += NN_WORD_LANES) {
        nn_u64vec c0 = { 0 }, c1, c2 = key.v[2] - c0, c3 = key.v[3] - c0;
        uint32_t k0 = key.v[0], k1 = key.v[1];
        for (int i = 0; i < NN_WORD_LANES; i++) c0[i] = (uint64_t)(at / 4 + l + i);
        c1 = c0 >> 32;
        c0 &= low;
        for (int round = 0; round < 10; round++, k0 += PHILOX_W32_0, k1 += PHILOX_W32_1) {
            const nn_u64vec p = c0 * (uint64_t)PHILOX_M4x32_0, q = c2 * (uint64_t)PHILOX_M4x32_1;
            c0 = (q >> 32) ^ c1 ^ (uint64_t)k0;
            c1 = q & low;
            c2 = (p >> 32) ^ c3 ^ (uint64_t)k1;
            c3 = p & low;
        }
        for (int i = 0; i < NN_WORD_LANES; i++) {
            out[4 * (l + i)] = (uint32_t)c0[i];
            out[4 * (l + i) + 1] = (uint32_t)c1[i];
            out[4 * (l + i) + 2] = (uint32_t)c2[i];
            out[4 * (l + i) + 3] = (uint32_t)c3[i];
        }
    }
}

/* A loop over the groups that hold draws [first, first + n); in each, draws [from, to) are wanted. */
#define NN_DRAWS(at, from, to, first, n)                                                                      \
    for (nn_dim at = (first) / NN_WORDS * NN_WORDS, from, to;                                                 \
         at < (first) + (n) && (from = nn_max_dim(at, first), to = nn_min_dim(at + NN_WORDS, (first) + (n)), 1); \
         at += NN_WORDS)

NN_INLINE uint32_t nn_word(nn_key key, nn_dim i)
{
    uint32_t w[4];
    nn_words4(key, i / 4, w);
    return w[i % 4];
}

NN_INLINE nn_real nn_uniform_from(uint32_t word)
{
    return (nn_real)(word >> 8) * NN_R(5.9604644775390625e-8);
}

/* Probability p as a threshold: a word below it happens with probability p to 2^-32; p = 1 always happens. */
NN_INLINE uint64_t nn_threshold(double p)
{
    return (uint64_t)(p * 4294967296.0);
}

/* log of x in (0, 1], through 2 artanh((m - 1) / (m + 1)); |s| <= 0.172 makes 11 terms enough for double. */
NN_INLINE double nn_unit_log(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    u -= 0x3fe6a09e667f3bcdu;
    const double e = (double)((int64_t)u >> 52);
    u = (u & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu;
    double m;
    memcpy(&m, &u, sizeof m);
    const double s = (m - 1) / (m + 1), z = s * s;
    double p = 1.0 / 21;
    p = p * z + 1.0 / 19;
    p = p * z + 1.0 / 17;
    p = p * z + 1.0 / 15;
    p = p * z + 1.0 / 13;
    p = p * z + 1.0 / 11;
    p = p * z + 1.0 / 9;
    p = p * z + 1.0 / 7;
    p = p * z + 1.0 / 5;
    p = p * z + 1.0 / 3;
    return 2 * s * (p * z + 1) + e * 0.69314718055994530942;
}

/* Two normal numbers by Box and Muller: sqrt(-2 log u) (cos, sin)(2 pi v) with u in (0, 1], v in [0, 1). The
 * angle is reduced exactly, to a quarter turn and a rest of at most an eighth on either side. */
NN_INLINE void nn_normal_pair(uint32_t a, uint32_t b, nn_real *first, nn_real *second)
{
    const double radius = sqrt(-2 * nn_unit_log(((double)a + 1) * 0x1p-32));
    const uint32_t quarter = (b + 0x20000000u) >> 30;
    const double t = (double)(int32_t)(b - (quarter << 30)) * (6.28318530717958647692 * 0x1p-32),
                 z = t * t;
    double s = -1.0 / 1307674368000;
    s = s * z + 1.0 / 6227020800;
    s = s * z - 1.0 / 39916800;
    s = s * z + 1.0 / 362880;
    s = s * z - 1.0 / 5040;
    s = s * z + 1.0 / 120;
    s = s * z - 1.0 / 6;
    s = s * z * t + t;
    double c = 1.0 / 20922789888000;
    c = c * z - 1.0 / 87178291200;
    c = c * z + 1.0 / 479001600;
    c = c * z - 1.0 / 3628800;
    c = c * z + 1.0 / 40320;
    c = c * z - 1.0 / 720;
    c = c * z + 1.0 / 24;
    c = c * z - 1.0 / 2;
    c = c * z + 1;
    const double x = quarter & 1 ? s : c, y = quarter & 1 ? c : s;
    *first = (nn_real)(radius * (quarter == 1 || quarter == 2 ? -x : x));
    *second = (nn_real)(radius * (quarter >= 2 && quarter <= 3 ? -y : y));
}

/* y[i] = draw first + i, i in [0, n). */
NN_INLINE void nn_rand(nn_key key, nn_dim first, nn_dim n, nn_real *y)
{
    NN_DRAWS(at, from, to, first, n) {
        uint32_t w[NN_WORDS];
        nn_words(key, at, w);
        for (nn_dim i = from; i < to; i++) y[i - first] = nn_uniform_from(w[i - at]);
    }
}

NN_INLINE void nn_randn(nn_key key, nn_dim first, nn_dim n, nn_real *y)
{
    NN_DRAWS(at, from, to, first, n) {
        uint32_t w[NN_WORDS];
        nn_real v[NN_WORDS];
        nn_words(key, at, w);
        for (int i = 0; i < NN_WORDS; i += 2) nn_normal_pair(w[i], w[i + 1], &v[i], &v[i + 1]);
        for (nn_dim i = from; i < to; i++) y[i - first] = v[i - at];
    }
}

/* 1 with probability p, else 0. */
NN_INLINE void nn_bernoulli(nn_key key, nn_dim first, nn_dim n, double p, nn_real *y)
{
    const uint64_t limit = nn_threshold(p);
    NN_DRAWS(at, from, to, first, n) {
        uint32_t w[NN_WORDS];
        nn_words(key, at, w);
        for (nn_dim i = from; i < to; i++) y[i - first] = w[i - at] < limit ? NN_R(1.0) : NN_R(0.0);
    }
}

/* y = x / (1 - p) where draw i is kept, else 0. x and y may be the same memory. */
NN_INLINE void nn_dropout(nn_key key, nn_dim first, nn_dim n, double p, const nn_real *x,
                          nn_real *y)
{
    const uint64_t limit = nn_threshold(p);
    const nn_real scale = p < 1 ? (nn_real)(1 / (1 - p)) : NN_R(0.0);
    NN_DRAWS(at, from, to, first, n) {
        uint32_t w[NN_WORDS];
        nn_words(key, at, w);
        NN_IVDEP
        for (nn_dim i = from; i < to; i++) y[i - first] = w[i - at] < limit ? NN_R(0.0) : x[i - first] * scale;
    }
}

/* The same for channels-last memory: element (b, c, s) lies at (b, s, c) but draws as number (b, c, s). */
NN_INLINE void nn_dropout_channels_last(nn_key key, nn_dim row0, nn_dim rows, nn_dim channels,
                                        nn_dim spatial, double p, const nn_real *x, nn_real *y)
{
    const uint64_t limit = nn_threshold(p);
    const nn_real scale = p < 1 ? (nn_real)(1 / (1 - p)) : NN_R(0.0);
    for (nn_dim b = 0; b < rows; b++) {
        const nn_dim first = (row0 + b) * channels * spatial, base = b * channels * spatial;
        nn_dim c = 0, s = 0;
        NN_DRAWS(at, from, to, first, channels * spatial) {
            uint32_t w[NN_WORDS];
            nn_words(key, at, w);
            for (nn_dim i = from; i < to; i++) {
                const nn_dim here = base + s * channels + c;
                y[here] = w[i - at] < limit ? NN_R(0.0) : x[here] * scale;
                if (++s == spatial) s = 0, c++;
            }
        }
    }
}

/* The same for up to four axes in any order of memory: element (i0, i1, i2, i3) lies at the sum of
 * i * step but draws by its place in canonical order. */
typedef struct nn_box4 {
    nn_dim v[4];
} nn_box4;
#define NN_BOX4(a, b, c, d) ((nn_box4){ { a, b, c, d } })

NN_INLINE void nn_dropout_strided(nn_key key, nn_box4 size, nn_box4 step, double p,
                                  const nn_real *x, nn_real *y)
{
    const uint64_t limit = nn_threshold(p);
    const nn_real scale = p < 1 ? (nn_real)(1 / (1 - p)) : NN_R(0.0);
    uint32_t w[4] = { 0 };
    nn_dim draw = 0;
    for (nn_dim a = 0; a < size.v[0]; a++)
        for (nn_dim b = 0; b < size.v[1]; b++)
            for (nn_dim c = 0; c < size.v[2]; c++)
                for (nn_dim d = 0; d < size.v[3]; d++, draw++) {
                    const nn_dim at = a * step.v[0] + b * step.v[1] + c * step.v[2] + d * step.v[3];
                    if (draw % 4 == 0) nn_words4(key, draw / 4, w);
                    y[at] = w[draw % 4] < limit ? NN_R(0.0) : x[at] * scale;
                }
}

/* Sample row0 + b of [outer][n][inner] is mirrored along n when its draw says so. Its own inverse. */
NN_INLINE void nn_random_flip(nn_key key, nn_dim row0, nn_dim rows, nn_dim outer, nn_dim n,
                              nn_dim inner, const nn_real *x, nn_real *y)
{
    for (nn_dim b = 0; b < rows; b++) {
        const int flip = (int)(nn_word(key, row0 + b) >> 31);
        for (nn_dim o = 0; o < outer; o++, x += n * inner, y += n * inner)
            for (nn_dim i = 0; i < n; i++)
                memcpy(y + (flip ? n - 1 - i : i) * inner, x + i * inner,
                       (size_t)inner * sizeof(nn_real));
    }
}

/* Sample of [outer][h][w][inner], zero-padded by `pad` on all sides, cut back to h x w at a random place: a
 * shift by (dv, du) in [-pad, pad]^2. sign = 1 shifts, sign = -1 shifts back (the adjoint). */
NN_INLINE void nn_random_crop(nn_key key, nn_dim row0, nn_dim rows, nn_dim pad, int sign,
                              nn_dim outer, nn_dim h, nn_dim w, nn_dim inner, const nn_real *x,
                              nn_real *y)
{
    const uint64_t places = (uint64_t)(2 * pad + 1);
    for (nn_dim b = 0; b < rows; b++) {
        const nn_dim dv = sign * ((nn_dim)(nn_word(key, 2 * (row0 + b)) * places >> 32) - pad);
        const nn_dim du = sign * ((nn_dim)(nn_word(key, 2 * (row0 + b) + 1) * places >> 32) - pad);
        for (nn_dim o = 0; o < outer; o++, x += h * w * inner, y += h * w * inner)
            for (nn_dim v = 0; v < h; v++)
                for (nn_dim u = 0; u < w; u++) {
                    const nn_dim sv = v + dv, su = u + du;
                    nn_real *to = y + (v * w + u) * inner;
                    if (sv >= 0 && sv < h && su >= 0 && su < w)
                        memcpy(to, x + (sv * w + su) * inner, (size_t)inner * sizeof(nn_real));
                    else
                        for (nn_dim i = 0; i < inner; i++) to[i] = 0;
                }
    }
}

#endif
