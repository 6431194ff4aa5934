/* SPDX-License-Identifier: MIT
 *
 * Initial values of parameters. Every function has the type nn_init_fn (nn.h) and fills x[0, n) in
 * canonical row-major order; element i is a pure function of (seed, index, i), so neither the storage
 * order of a tensor nor the number of threads nor the other tensors matter. Drawn in double precision and
 * rounded once when real_bytes is 4.
 *
 * args[] hold what stands in the .nn file. For xavier, he, lecun and orthogonal args[0] is a factor on
 * the standard deviation; 0 means 1. Where fan_in or fan_out is 0, it counts as 1.
 *
 *   name            args             distribution
 *   zeros, ones     -                constant 0, 1
 *   constant        value            constant
 *   normal          std, mean        N(mean, std^2); std = 0 is taken literally
 *   uniform         a, b             U[a, b)
 *   xavier_normal   gain             N(0, 2 / (fan_in + fan_out))
 *   xavier_uniform  gain             U(-r, r), r = sqrt(6 / (fan_in + fan_out))
 *   he_normal       gain             N(0, 2 / fan_in)
 *   he_uniform      gain             U(-r, r), r = sqrt(6 / fan_in)
 *   lecun_normal    gain             N(0, 1 / fan_in)
 *   orthogonal      gain             the [n / fan_in, fan_in] matrix has orthonormal rows (or columns, when
 *                                    it is taller than wide), times gain
 */
#ifndef NN_INIT_H
#define NN_INIT_H

#include "nn.h"

#ifdef __cplusplus
extern "C" {
#endif

#define NN_INIT_DECLARE(NAME)                                                                      \
    void nn_init_##NAME(void *x, int real_bytes, nn_dim n, nn_dim fan_in, nn_dim fan_out,          \
                        const double args[4], uint64_t seed, uint32_t index)
NN_INIT_DECLARE(zeros);
NN_INIT_DECLARE(ones);
NN_INIT_DECLARE(constant);
NN_INIT_DECLARE(normal);
NN_INIT_DECLARE(uniform);
NN_INIT_DECLARE(xavier_normal);
NN_INIT_DECLARE(xavier_uniform);
NN_INIT_DECLARE(he_normal);
NN_INIT_DECLARE(he_uniform);
NN_INIT_DECLARE(lecun_normal);
NN_INIT_DECLARE(orthogonal);
#undef NN_INIT_DECLARE

#ifdef __cplusplus
}
#endif
#endif
