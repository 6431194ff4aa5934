/* SPDX-License-Identifier: MIT
 *
 * Counter-based random numbers for the library's own sources (initial values, shuffles, digits): Philox
 * 4x32-10. A stream is (seed, domain, index); block i of a stream is a pure function of these. The domain
 * keeps the streams of different uses apart.
 */
#ifndef NN_RANDOM_H
#define NN_RANDOM_H

#include <stdint.h>

#include "philox.h"

enum { NN_DOMAIN_INIT = 0x494e4954, NN_DOMAIN_SHUFFLE = 0x53485546, NN_DOMAIN_DIGITS = 0x44494749 };

typedef struct nn_stream {
    uint64_t seed;
    uint32_t domain, index;
} nn_stream;

static inline philox4x32_ctr_t nn_stream_block(const nn_stream *s, uint64_t block)
{
    philox4x32_ctr_t c = { { (uint32_t)block, (uint32_t)(block >> 32), s->index, s->domain } };
    philox4x32_key_t k = { { (uint32_t)s->seed, (uint32_t)(s->seed >> 32) } };
    return philox4x32(c, k);
}

/* [0, 1) with 53 bits. */
static inline double nn_unit(uint32_t hi, uint32_t lo)
{
    return (double)(((uint64_t)hi << 32 | lo) >> 11) * 0x1p-53;
}

/* A cursor over a stream, for code that draws one number after another. */
typedef struct nn_draws {
    nn_stream stream;
    uint64_t block;
    int used; /* words of `word` already handed out; 4: none are left */
    uint32_t word[4];
} nn_draws;

static inline nn_draws nn_draws_from(uint64_t seed, uint32_t domain, uint32_t index, uint64_t block)
{
    nn_draws d = { { seed, domain, index }, block, 4, { 0, 0, 0, 0 } };
    return d;
}

static inline uint32_t nn_draw_u32(nn_draws *d)
{
    if (d->used == 4) {
        philox4x32_ctr_t r = nn_stream_block(&d->stream, d->block++);
        for (int i = 0; i < 4; i++) d->word[i] = r.v[i];
        d->used = 0;
    }
    return d->word[d->used++];
}

static inline uint64_t nn_draw_u64(nn_draws *d)
{
    uint64_t hi = nn_draw_u32(d);
    return hi << 32 | nn_draw_u32(d);
}

static inline double nn_draw_unit(nn_draws *d)
{
    uint32_t hi = nn_draw_u32(d);
    return nn_unit(hi, nn_draw_u32(d));
}

/* Uniform in [0, n), n > 0, without bias: draws below 2^64 mod n are rejected. */
static inline uint64_t nn_draw_below(nn_draws *d, uint64_t n)
{
    uint64_t skip = (0 - n) % n, r;
    do r = nn_draw_u64(d);
    while (r < skip);
    return r % n;
}

#endif
