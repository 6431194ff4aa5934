/* SPDX-License-Identifier: MIT
 *
 * Elementary functions in double precision: libm's, except under NN_STRICT. C libraries round these functions as
 * they like, so under NN_STRICT there are own ones, made of additions, multiplications, divisions and square roots
 * alone: the same bits everywhere, within a few units of the last place (nn_pow64: of 4 |y log x| more). Angles beyond
 * 2^20 are reduced by the rounded 2 pi, an error of 4e-17 |x|: far less than a float's own spacing there.
 */
#ifndef NN_KERNELS_LIBM_H
#define NN_KERNELS_LIBM_H

#include "kernels/vec.h"

#if defined(NN_STRICT)

NN_INLINE double nn_from_bits64(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

NN_INLINE uint64_t nn_bits64(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

/* e^x = 2^n e^r with n = round(x / ln 2), 2^n applied in two halves as in nn_exp. */
NN_INLINE double nn_exp64(double x)
{
    const double magic = 6755399441055744.0; /* 1.5 * 2^52 */
    double c = x < -746 ? -746 : x;          /* a NaN passes both comparisons */
    c = c > 710 ? 710 : c;
    const double z = c * 1.44269504088896340736 + magic, n = z - magic;
    const double r = (c - n * 6.93147180369123816490e-1) - n * 1.90821492927058770002e-10;
    double q = 1.0 / 6227020800;
    q = q * r + 1.0 / 479001600;
    q = q * r + 1.0 / 39916800;
    q = q * r + 1.0 / 3628800;
    q = q * r + 1.0 / 362880;
    q = q * r + 1.0 / 40320;
    q = q * r + 1.0 / 5040;
    q = q * r + 1.0 / 720;
    q = q * r + 1.0 / 120;
    q = q * r + 1.0 / 24;
    q = q * r + 1.0 / 6;
    q = q * r + 0.5;
    const double p = (q * (r * r) + r) + 1;
    const int64_t k = (int64_t)(nn_bits64(z) - nn_bits64(magic)), half = k >> 1;
    return p * nn_from_bits64((uint64_t)(half + 1023) << 52) *
           nn_from_bits64((uint64_t)(k - half + 1023) << 52);
}

/* 2 artanh((m - 1) / (m + 1)) with m in [sqrt(1/2), sqrt(2)), x = 2^e m. */
NN_INLINE double nn_log64(double x)
{
    const uint64_t sqrt_half = 0x3fe6a09e667f3bcdu;
    if (!(x > 0)) return x == 0 ? -(double)INFINITY : (double)NAN;
    if (x > 1.7976931348623157e308) return x;
    const int tiny = x < 2.2250738585072014e-308;
    const uint64_t u = nn_bits64(tiny ? x * 18014398509481984.0 : x) - sqrt_half;
    const double e = (double)(((int64_t)u >> 52) - (tiny ? 54 : 0));
    const double m = nn_from_bits64((u & 0x000fffffffffffffu) + sqrt_half);
    const double s = (m - 1) / (m + 1), z = s * s;
    double p = 1.0 / 21;
    for (int k = 19; k >= 3; k -= 2) p = p * z + 1.0 / k;
    return (2 * s * (p * z) + e * 1.90821492927058770002e-10) + 2 * s +
           e * 6.93147180369123816490e-1;
}

/* log(1 + u) for 0 <= u <= 1: what rounding 1 + u loses is added back to first order. */
NN_INLINE double nn_log1p_unit64(double u)
{
    const double w = 1 + u;
    return nn_log64(w) - ((w - 1) - u) / w;
}

NN_INLINE double nn_pow64(double x, double y)
{
    if (y == 0 || x == 1) return 1;
    const double a = fabs(x);
    const int whole = floor(y) == y,
              odd = whole && fabs(y) < 9007199254740992.0 && floor(y / 2) != y / 2;
    double r;
    if (x != x || y != y)
        r = x + y;
    else if (a == 1)
        r = 1;
    else if (a == 0 || a > 1.7976931348623157e308 || fabs(y) > 1.7976931348623157e308)
        r = (a > 1) == (y > 0) ? (double)INFINITY : 0;
    else
        r = nn_exp64(y * nn_log64(a));
    const int negative = x < 0 || (x == 0 && 1 / x < 0);
    if (x < 0 && !whole && a <= 1.7976931348623157e308) return (double)NAN;
    return negative && odd ? -r : r;
}

/* Sine and cosine of x = n pi/2 + r, |r| <= pi/4; pi/2 is taken in three parts of 33 bits. */
NN_INLINE void nn_sincos64(double x, double *sine, double *cosine)
{
    if (fabs(x) > 1048576) x = fmod(x, 6.28318530717958647692); /* exact; NaN for infinities */
    const double n = floor(x * 0.63661977236758134308 + 0.5);
    const double r = ((x - n * 1.57079632673412561417) - n * 6.07710050630396597660e-11) -
                     n * 2.02226624879595063154e-21;
    const double z = r * r;
    double s = 1.0 / 355687428096000;
    s = 1.0 / 1307674368000 - s * z;
    s = 1.0 / 6227020800 - s * z;
    s = 1.0 / 39916800 - s * z;
    s = 1.0 / 362880 - s * z;
    s = 1.0 / 5040 - s * z;
    s = 1.0 / 120 - s * z;
    s = 1.0 / 6 - s * z;
    s = r - r * (z * s);
    double c = 1.0 / 20922789888000;
    c = 1.0 / 87178291200 - c * z;
    c = 1.0 / 479001600 - c * z;
    c = 1.0 / 3628800 - c * z;
    c = 1.0 / 40320 - c * z;
    c = 1.0 / 720 - c * z;
    c = 1.0 / 24 - c * z;
    c = 0.5 - c * z;
    c = 1 - c * z;
    const int quarter = n == n ? (int)(n - 4 * floor(n / 4)) : 0;
    const double a = quarter & 1 ? c : s, b = quarter & 1 ? s : c;
    *sine = quarter & 2 ? -a : a;
    *cosine = quarter == 1 || quarter == 2 ? -b : b;
}

NN_INLINE double nn_sin64(double x)
{
    double s, c;
    nn_sincos64(x, &s, &c);
    return s;
}

NN_INLINE double nn_cos64(double x)
{
    double s, c;
    nn_sincos64(x, &s, &c);
    return c;
}

/* sinh / cosh by their series near 0, 1 - 2 / (e^2x + 1) beyond. */
NN_INLINE double nn_tanh64(double x)
{
    const double a = fabs(x), z = x * x;
    double s = 0, c = 0;
    for (int k = 20; k >= 2; k -= 2) {
        s = (s + 1) * z / (k * (k + 1));
        c = (c + 1) * z / (k * (k - 1));
    }
    return a < 0.5 ? x * (s + 1) / (c + 1) : copysign(1 - 2 / (nn_exp64(2 * a) + 1), x);
}

/* |x| < 2.5: 2 / sqrt(pi) x e^-x^2 sum of (2 x^2)^k / (1 3 5 .. 2k+1), whose terms are all positive. Beyond: 1 minus
 * the continued fraction of erfc, which matters only to its first digits. */
NN_INLINE double nn_erf64(double x)
{
    const double a = fabs(x), z = x * x;
    if (!(a > 0)) return x;
    if (a < 2.5) {
        double sum = 0;
        for (int k = 60; k >= 1; k--) sum = (sum + 1) * (2 * z) / (2 * k + 1);
        return x * 1.12837916709551257390 * (sum + 1) * nn_exp64(-z);
    }
    if (a > 6) return copysign(1, x);
    double f = a;
    for (int k = 80; k >= 1; k--) f = a + 0.5 * k / f;
    return copysign(1 - nn_exp64(-z) / (f * 1.77245385090551602730), x);
}

#else

NN_INLINE double nn_exp64(double x)
{
    return exp(x);
}

NN_INLINE double nn_log64(double x)
{
    return log(x);
}

NN_INLINE double nn_log1p_unit64(double u)
{
    return log1p(u);
}

NN_INLINE double nn_pow64(double x, double y)
{
    return pow(x, y);
}

NN_INLINE double nn_sin64(double x)
{
    return sin(x);
}

NN_INLINE double nn_cos64(double x)
{
    return cos(x);
}

NN_INLINE double nn_tanh64(double x)
{
    return tanh(x);
}

NN_INLINE double nn_erf64(double x)
{
    return erf(x);
}

#endif

#endif
