/* SPDX-License-Identifier: MIT
 *
 * Elementary functions of one nn_real, without branches or calls in single precision, so that loops over
 * them vectorise. In double precision they are libm's. NaN gives NaN everywhere; denormal arguments and
 * results are handled. Bounds of the error in single precision, over the whole range with and without FMA
 * (`make ulp`): exp 1.1, log 0.83, tanh 1.34, sigmoid 2.41, erf 1.24, softplus 2.0 ulp.
 *
 * Note [polynomials]: the coefficients are minimax fits in the relative error of the function, found by
 * iteratively reweighted least squares and rounded to single precision.
 */
#ifndef NN_KERNELS_MATH_H
#define NN_KERNELS_MATH_H

#include "kernels/libm.h"
#include "kernels/vec.h"

/* Kept apart from fmax and fmin because NaN must survive: of two operands a NaN wins. */
NN_INLINE nn_real nn_max(nn_real a, nn_real b)
{
    return a > b || a != a ? a : b;
}

NN_INLINE nn_real nn_min(nn_real a, nn_real b)
{
    return a < b || a != a ? a : b;
}

#if defined(NN_REAL_F64)

NN_INLINE nn_real nn_abs(nn_real x)
{
    return fabs(x);
}

NN_INLINE nn_real nn_sqrt(nn_real x)
{
    return sqrt(x);
}

NN_INLINE nn_real nn_exp(nn_real x)
{
    return nn_exp64(x);
}

NN_INLINE nn_real nn_exp_falling(nn_real x)
{
    return nn_exp64(x);
}

NN_INLINE nn_real nn_log(nn_real x)
{
    return nn_log64(x);
}

NN_INLINE nn_real nn_tanh(nn_real x)
{
    return nn_tanh64(x);
}

NN_INLINE nn_real nn_erf(nn_real x)
{
    return nn_erf64(x);
}

/* log(1 + u) for 0 <= u <= 1. */
NN_INLINE nn_real nn_log1p_unit(nn_real u)
{
    return nn_log1p_unit64(u);
}

NN_INLINE nn_real nn_pow(nn_real x, nn_real y)
{
    return nn_pow64(x, y);
}

#else

NN_INLINE nn_real nn_abs(nn_real x)
{
    return fabsf(x);
}

NN_INLINE nn_real nn_sqrt(nn_real x)
{
    return sqrtf(x);
}

/* General powers are rare in networks (squares and roots have operators of their own): libm's, or those of
 * kernels/libm.h. */
NN_INLINE nn_real nn_pow(nn_real x, nn_real y)
{
#if defined(NN_STRICT)
    return (float)nn_pow64((double)x, (double)y);
#else
    return powf(x, y);
#endif
}

NN_INLINE uint32_t nn_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

NN_INLINE float nn_from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* e^x = 2^n * e^r with n = round(x / ln 2). Adding 1.5 * 2^23 rounds to an integer and leaves it in the low
 * bits of *n. The result is e^r. */
NN_INLINE float nn_exp_rest(float x, uint32_t *n)
{
    const float magic = 12582912.0f;
    const float z = x * 1.44269504f + magic;
    const float k = z - magic;
    const float r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
    float q = 1.395072439e-3f;
    q = q * r + 8.369024843e-3f;
    q = q * r + 4.166620225e-2f;
    q = q * r + 1.666651815e-1f;
    q = q * r + 5.000000000e-1f;
    *n = nn_bits(z) - nn_bits(magic);
    return (q * (r * r) + r) + 1.0f;
}

/* 2^n is applied in two halves: n reaches from -150 (denormal results) to 128. A NaN passes both comparisons. */
NN_INLINE nn_real nn_exp(nn_real x)
{
    const float c = x < -104.0f ? -104.0f : x;
    uint32_t n;
    const float p = nn_exp_rest(c > 89.0f ? 89.0f : c, &n);
    const int32_t k = (int32_t)n, half = k >> 1;
    const float s1 = nn_from_bits((uint32_t)(half + 127) << 23);
    const float s2 = nn_from_bits((uint32_t)(k - half + 127) << 23);
    return p * s1 * s2;
}

/* The same numbers for x <= 0, and for 0 <= x; beyond 60 it stays e^60. */
NN_INLINE nn_real nn_exp_falling(nn_real x)
{
    uint32_t n;
    const float p = nn_exp_rest(x < -104.0f ? -104.0f : x, &n);
    return p * nn_from_bits((n + 127u + 64u) << 23) * 5.421010862e-20f; /* 2^-64 */
}

NN_INLINE nn_real nn_exp_rising(nn_real x)
{
    uint32_t n;
    const float p = nn_exp_rest(x > 60.0f ? 60.0f : x, &n);
    return p * nn_from_bits((n + 127u) << 23);
}

/* x = 2^e * m with m in [sqrt(1/2), sqrt(2)); log m = f - f^2/2 + f^3 P(f), f = m - 1. */
NN_INLINE nn_real nn_log(nn_real x)
{
    const uint32_t sqrt_half = 0x3f3504f3u;
    const int tiny = x < 1.17549435e-38f;
    const uint32_t u = nn_bits(tiny ? x * 8388608.0f : x) - sqrt_half;
    const int32_t k = (int32_t)u >> 23;
    const float e = (float)(tiny ? k - 23 : k);
    const float f = nn_from_bits((u & 0x007fffffu) + sqrt_half) - 1.0f;
    float q = 6.747682393e-2f;
    q = q * f - 1.167750284e-1f;
    q = q * f + 1.188871190e-1f;
    q = q * f - 1.240534335e-1f;
    q = q * f + 1.421945095e-1f;
    q = q * f - 1.666800529e-1f;
    q = q * f + 2.000212371e-1f;
    q = q * f - 2.500000894e-1f;
    q = q * f + 3.333331347e-1f;
    const float f2 = f * f;
    const float low = (q * f * f2 - e * 2.12194440e-4f) - 0.5f * f2;
    const float y = (f + low) + e * 0.693359375f;
    const float special = x == 0.0f ? -NN_INF : (float)NAN;
    return x > 0.0f ? (x <= 3.402823466e38f ? y : x) : special;
}

/* log(1 + u) for 0 <= u <= 1: what rounding 1 + u loses is added back to first order. */
NN_INLINE nn_real nn_log1p_unit(nn_real u)
{
    const float w = 1.0f + u;
    return nn_log(w) - ((w - 1.0f) - u) / w;
}

NN_INLINE nn_real nn_tanh(nn_real x)
{
    const float a = fabsf(x), z = x * x;
    float q = 2.097718185e-3f;
    q = q * z - 8.128996938e-3f;
    q = q * z + 2.168164216e-2f;
    q = q * z - 5.394339934e-2f;
    q = q * z + 1.333318055e-1f;
    q = q * z - 3.333333135e-1f;
    const float near = q * z * a + a, far = 1.0f - 2.0f / (nn_exp_rising(2.0f * a) + 1.0f);
    return copysignf(a < 0.625f ? near : far, x);
}

/* |x| < 0.93: x + x P(x^2); beyond: 1 - exp(-|x| + |x| Q(|x|)), which is 1 from 4 on. */
NN_INLINE nn_real nn_erf(nn_real x)
{
    const float z = x * x;
    float p = 8.345224342e-5f;
    p = p * z - 8.137437399e-4f;
    p = p * z + 5.200634245e-3f;
    p = p * z - 2.685927041e-2f;
    p = p * z + 1.128369421e-1f;
    p = p * z - 3.761263490e-1f;
    p = p * z + 1.283791661e-1f;
    const float near = p * x + x;
    float t = fabsf(x);
    t = t > 4.0f ? 4.0f : t;
    float q = -1.043311477e-5f;
    q = q * t + 3.148581018e-4f;
    q = q * t - 3.610342043e-3f;
    q = q * t + 2.369456552e-2f;
    q = q * t - 1.061590463e-1f;
    q = q * t - 6.351980567e-1f;
    q = q * t - 1.286370754e-1f;
    const float far = copysignf(1.0f - nn_exp(q * t - t), x);
    return z < 0.8649f ? near : far;
}

#endif

NN_INLINE nn_real nn_sign(nn_real x)
{
    return x > 0 ? NN_R(1.0) : x < 0 ? NN_R(-1.0) : NN_R(0.0);
}

/* 1 / (1 + e^-x) through e^-|x|, which cannot overflow and keeps small results exact. */
NN_INLINE nn_real nn_sigmoid(nn_real x)
{
    const nn_real e = nn_exp_falling(-nn_abs(x));
    return (x < 0 ? e : NN_R(1.0)) / (NN_R(1.0) + e);
}

/* log(1 + e^x) = max(x, 0) + log(1 + e^-|x|) */
NN_INLINE nn_real nn_softplus(nn_real x)
{
    return (x < 0 ? NN_R(0.0) : x) + nn_log1p_unit(nn_exp_falling(-nn_abs(x)));
}

/* e^x - 1 for x <= 0, without the cancellation near 0: 2 t / (1 - t) with t = tanh(x / 2). */
NN_INLINE nn_real nn_expm1_neg(nn_real x)
{
    const nn_real t = nn_tanh(NN_R(0.5) * x);
    return (t + t) / (NN_R(1.0) - t);
}

/* x tanh(log(1 + e^x)): with n = e^x (e^x + 2) the tanh is n / (n + 2), which is 1 from 20 on. */
NN_INLINE nn_real nn_mish(nn_real x)
{
    const nn_real e = nn_exp(x > 20 ? NN_R(20.0) : x), n = e * (e + NN_R(2.0));
    return x * (n / (n + NN_R(2.0)));
}

/* -y log sigmoid(z) - (1 - y) log(1 - sigmoid(z)) = max(z, 0) - z y + log(1 + e^-|z|) */
NN_INLINE nn_real nn_bce_with_logits(nn_real z, nn_real y)
{
    return ((z < 0 ? NN_R(0.0) : z) - z * y) + nn_log1p_unit(nn_exp_falling(-nn_abs(z)));
}

/* -y log x - (1 - y) log(1 - x), the logarithms at least -100 */
NN_INLINE nn_real nn_bce(nn_real x, nn_real y)
{
    return (y - NN_R(1.0)) * nn_max(nn_log(NN_R(1.0) - x), NN_R(-100.0)) - y * nn_max(nn_log(x), NN_R(-100.0));
}

/* x Phi(x), Phi the distribution function of the standard normal. */
NN_INLINE nn_real nn_gelu_none(nn_real x)
{
    return NN_R(0.5) * x * (NN_R(1.0) + nn_erf(x * NN_R(0.70710678118654752440)));
}

/* Phi(x) + x phi(x) */
NN_INLINE nn_real nn_gelu_dx_none(nn_real x)
{
    const nn_real cdf = NN_R(0.5) * (NN_R(1.0) + nn_erf(x * NN_R(0.70710678118654752440)));
    const nn_real pdf = NN_R(0.39894228040143267794) * nn_exp(NN_R(-0.5) * x * x);
    return cdf + x * pdf;
}

/* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
NN_INLINE nn_real nn_gelu_tanh(nn_real x)
{
    const nn_real u = NN_R(0.79788456080286535588) * (x + NN_R(0.044715) * x * x * x);
    return NN_R(0.5) * x * (NN_R(1.0) + nn_tanh(u));
}

NN_INLINE nn_real nn_gelu_dx_tanh(nn_real x)
{
    const nn_real u = NN_R(0.79788456080286535588) * (x + NN_R(0.044715) * x * x * x);
    const nn_real du = NN_R(0.79788456080286535588) * (NN_R(1.0) + NN_R(0.134145) * x * x);
    const nn_real t = nn_tanh(u), sech2 = NN_R(1.0) - t * t;
    /* Where tanh is saturated sech2 is zero and du may be infinite: the product is taken as zero. */
    return NN_R(0.5) * (NN_R(1.0) + t) + (sech2 != 0 ? NN_R(0.5) * x * sech2 * du : NN_R(0.0));
}

/* Conversions of `cast`: to an integer towards zero, out of range to the nearest, NaN to 0. */
NN_INLINE int32_t nn_real_to_i32(double x)
{
    const double c = x != x ? 0.0 : x < -2147483648.0 ? -2147483648.0 : x > 2147483647.0 ? 2147483647.0 : x;
    return (int32_t)c;
}

NN_INLINE int32_t nn_float_to_i32(float x)
{
    return nn_real_to_i32((double)x);
}

NN_INLINE int32_t nn_int_to_i32(int32_t x)
{
    return x;
}

#define nn_cast_f32(x)  ((nn_real)(x))
#define nn_cast_i32(x)  _Generic((x), float: nn_float_to_i32, double: nn_real_to_i32, default: nn_int_to_i32)(x)
#define nn_cast_bool(x) ((x) != 0)

#endif
