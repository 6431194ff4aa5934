/* SPDX-License-Identifier: MIT
 *
 * Initial values of parameters. In: counts, fans and the arguments of the .nn file; out: x[0, n). Element
 * i of a random initialiser comes from half (i & 1) of block i / 2 of the stream (seed, INIT, index).
 */
/* The same weights from the same seed on every machine, to the last bit. */
#ifndef NN_STRICT
#define NN_STRICT
#endif
#include "kernels/libm.h"
#include "nn_init.h"
#include "random.h"

static inline void put(void *x, int real_bytes, nn_dim i, double v)
{
    if (real_bytes == 8)
        ((double *)x)[i] = v;
    else
        ((float *)x)[i] = (float)v;
}

static inline double get(const void *x, int real_bytes, nn_dim i)
{
    return real_bytes == 8 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

static void fill(void *x, int real_bytes, nn_dim n, double v)
{
    for (nn_dim i = 0; i < n; i++) put(x, real_bytes, i, v);
}

static void fill_uniform(void *x, int real_bytes, nn_dim n, double a, double b, uint64_t seed,
                         uint32_t index)
{
    nn_stream s = { seed, NN_DOMAIN_INIT, index };
    for (nn_dim i = 0; i < n; i += 2) {
        philox4x32_ctr_t r = nn_stream_block(&s, (uint64_t)i / 2);
        put(x, real_bytes, i, a + (b - a) * nn_unit(r.v[0], r.v[1]));
        if (i + 1 < n) put(x, real_bytes, i + 1, a + (b - a) * nn_unit(r.v[2], r.v[3]));
    }
}

/* Box-Muller: a block gives two normal deviates. */
static void fill_normal(void *x, int real_bytes, nn_dim n, double std, double mean, uint64_t seed,
                        uint32_t index)
{
    const double two_pi = 6.28318530717958647692;
    nn_stream s = { seed, NN_DOMAIN_INIT, index };
    for (nn_dim i = 0; i < n; i += 2) {
        philox4x32_ctr_t r = nn_stream_block(&s, (uint64_t)i / 2);
        /* 1 - u lies in (0, 1], so the logarithm is finite. */
        double radius = std * sqrt(-2 * nn_log64(1 - nn_unit(r.v[0], r.v[1])));
        double angle = two_pi * nn_unit(r.v[2], r.v[3]);
        double sine, cosine;
        nn_sincos64(angle, &sine, &cosine);
        put(x, real_bytes, i, mean + radius * cosine);
        if (i + 1 < n) put(x, real_bytes, i + 1, mean + radius * sine);
    }
}

static double gain(const double args[4])
{
    return args[0] != 0 ? args[0] : 1;
}
static double fan(nn_dim n)
{
    return n > 0 ? (double)n : 1;
}

#define INIT(NAME)                                                                                 \
    void nn_init_##NAME(void *x, int real_bytes, nn_dim n, nn_dim fan_in, nn_dim fan_out,          \
                        const double args[4], uint64_t seed, uint32_t index)
#define UNUSED(a) (void)(a)

INIT(zeros)
{
    UNUSED(fan_in), UNUSED(fan_out), UNUSED(args), UNUSED(seed), UNUSED(index);
    fill(x, real_bytes, n, 0);
}

INIT(ones)
{
    UNUSED(fan_in), UNUSED(fan_out), UNUSED(args), UNUSED(seed), UNUSED(index);
    fill(x, real_bytes, n, 1);
}

INIT(constant)
{
    UNUSED(fan_in), UNUSED(fan_out), UNUSED(seed), UNUSED(index);
    fill(x, real_bytes, n, args[0]);
}

INIT(normal)
{
    UNUSED(fan_in), UNUSED(fan_out);
    fill_normal(x, real_bytes, n, args[0], args[1], seed, index);
}

INIT(uniform)
{
    UNUSED(fan_in), UNUSED(fan_out);
    fill_uniform(x, real_bytes, n, args[0], args[1], seed, index);
}

INIT(xavier_normal)
{
    double std = gain(args) * sqrt(2 / (fan(fan_in) + fan(fan_out)));
    fill_normal(x, real_bytes, n, std, 0, seed, index);
}

INIT(xavier_uniform)
{
    double r = gain(args) * sqrt(6 / (fan(fan_in) + fan(fan_out)));
    fill_uniform(x, real_bytes, n, -r, r, seed, index);
}

INIT(he_normal)
{
    UNUSED(fan_out);
    fill_normal(x, real_bytes, n, gain(args) * sqrt(2 / fan(fan_in)), 0, seed, index);
}

INIT(he_uniform)
{
    UNUSED(fan_out);
    double r = gain(args) * sqrt(6 / fan(fan_in));
    fill_uniform(x, real_bytes, n, -r, r, seed, index);
}

INIT(lecun_normal)
{
    UNUSED(fan_out);
    fill_normal(x, real_bytes, n, gain(args) * sqrt(1 / fan(fan_in)), 0, seed, index);
}

/* Gram-Schmidt on the rows of a normal matrix, or on its columns when it is taller than wide. Each vector
 * is projected twice: once would leave an error that grows with the condition number. */
INIT(orthogonal)
{
    UNUSED(fan_out);
    nn_dim cols = fan_in > 0 && n % fan_in == 0 ? fan_in : n, rows = cols > 0 ? n / cols : 0;
    int tall = rows > cols;
    nn_dim count = tall ? cols : rows, len = tall ? rows : cols;
    nn_dim next = tall ? 1 : cols, step = tall ? cols : 1; /* between vectors, within a vector */
    fill_normal(x, real_bytes, n, 1, 0, seed, index);
    for (nn_dim v = 0; v < count; v++) {
        for (int pass = 0; pass < 2; pass++) {
            for (nn_dim u = 0; u < v; u++) {
                double dot = 0;
                for (nn_dim i = 0; i < len; i++)
                    dot += get(x, real_bytes, u * next + i * step) *
                           get(x, real_bytes, v * next + i * step);
                for (nn_dim i = 0; i < len; i++)
                    put(x, real_bytes, v * next + i * step,
                        get(x, real_bytes, v * next + i * step) -
                            dot * get(x, real_bytes, u * next + i * step));
            }
            double norm = 0;
            for (nn_dim i = 0; i < len; i++) {
                double e = get(x, real_bytes, v * next + i * step);
                norm += e * e;
            }
            double scale = norm > 0 ? 1 / sqrt(norm) : 0;
            for (nn_dim i = 0; i < len; i++)
                put(x, real_bytes, v * next + i * step,
                    scale * get(x, real_bytes, v * next + i * step));
        }
    }
    for (nn_dim i = 0; i < n; i++) put(x, real_bytes, i, gain(args) * get(x, real_bytes, i));
}
