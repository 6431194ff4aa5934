/* SPDX-License-Identifier: MIT
 *
 * The transforms of Winograd's algorithms F(2x2, 3x3) and F(4x4, 3x3) along one axis, for vectors of channels:
 *
 *   u = G w,  t = B^T d,  y = A^T m
 *
 * of 3 weights, of the `side` + 2 pixels that a tile reads and of the sums of products, to `side` results. They
 * evaluate polynomials at side + 1 points and infinity: 0, 1, -1 for a side of 2; 0, 1/2, -1/2, 2, -2 for 4. With these
 * the result is off by 1.1e-6 for 64 channels (relative L2 of uniform numbers, products summed in a row), with the
 * usual 0, 1, -1, 2, -2 by 1.7e-6; a direct sum is off by 4e-7, F(2x2) by 2.5e-7.
 *
 * In, out: arrays of vectors, which the compiler keeps in registers; `side` is a literal, 2 or 4. Invariant: forward,
 * no sum has two products that round, so that compilers, which contract one of them into a multiply-add, have no
 * choice that changes bits: all copies of a kernel give the same.
 * Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015.
 */
#ifndef NN_KERNELS_WINOGRAD_TRANSFORM_H
#define NN_KERNELS_WINOGRAD_TRANSFORM_H

#include "kernels/vec.h"

/* The points of large tiles and their squares, whose product is 1. */
#define NN_POINT_A  NN_R(0.5)
#define NN_POINT_B  NN_R(2.0)
#define NN_POINT_AA NN_R(0.25)
#define NN_POINT_BB NN_R(4.0)
/* Over the product of a point's distances from the others. */
#define NN_OVER_A (NN_R(-8.0) / 15)
#define NN_OVER_B (NN_R(1.0) / 30)

/* What of u = G w is left to multiply element i by. A row of G is 1, p, p^2 for its point p, over the product of p's
 * distances from the other points. */
NN_INLINE nn_real nn_winograd_scale(int side, int i)
{
    static const nn_real large[] = { 1, NN_OVER_A, NN_OVER_A, NN_OVER_B, NN_OVER_B, 1 };
    return side == 2 ? 1 : large[i];
}

NN_INLINE void nn_winograd_of_weights(int side, nn_vec w0, nn_vec w1, nn_vec w2, nn_vec *u)
{
    if (side == 2) {
        const nn_vec half = nn_splat(NN_R(0.5)), sum = (w0 + w2) * half, mid = w1 * half;
        u[0] = w0;
        u[1] = sum + mid;
        u[2] = sum - mid;
        u[3] = w2;
    } else {
        const nn_vec even_a = w0 + nn_splat(NN_POINT_AA) * w2, odd_a = nn_splat(NN_POINT_A) * w1,
                     even_b = w0 + nn_splat(NN_POINT_BB) * w2, odd_b = nn_splat(NN_POINT_B) * w1;
        u[0] = w0;
        u[1] = even_a + odd_a;
        u[2] = even_a - odd_a;
        u[3] = even_b + odd_b;
        u[4] = even_b - odd_b;
        u[5] = w2;
    }
}

/* t = B^T d. A row of B^T has the coefficients of the product of x - q over the other points q. */
NN_INLINE void nn_winograd_of_pixels(int side, const nn_vec *d, nn_vec *t)
{
    if (side == 2) {
        t[0] = d[0] - d[2];
        t[1] = d[1] + d[2];
        t[2] = d[2] - d[1];
        t[3] = d[1] - d[3];
    } else {
        const nn_vec a = nn_splat(NN_POINT_A), b = nn_splat(NN_POINT_B), aa = nn_splat(NN_POINT_AA),
                     bb = nn_splat(NN_POINT_BB), both = nn_splat(NN_POINT_AA + NN_POINT_BB);
        const nn_vec even_a = d[4] - bb * d[2], odd_a = d[3] - bb * d[1], even_b = d[4] - aa * d[2],
                     odd_b = d[3] - aa * d[1];
        t[0] = d[4] - both * d[2] + d[0];
        t[1] = even_a + a * odd_a;
        t[2] = even_a - a * odd_a;
        t[3] = even_b + b * odd_b;
        t[4] = even_b - b * odd_b;
        t[5] = d[5] - both * d[3] + d[1];
    }
}

/* y = A^T m. Row k of A^T has the k-th powers of the points; infinity counts in the last row. */
NN_INLINE void nn_winograd_of_sums(int side, const nn_vec *m, nn_vec *y)
{
    if (side == 2) {
        y[0] = m[0] + m[1] + m[2];
        y[1] = m[1] - m[2] - m[3];
    } else {
        const nn_vec even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
        y[0] = m[0] + even_a + even_b;
        y[1] = nn_splat(NN_POINT_A) * odd_a + nn_splat(NN_POINT_B) * odd_b;
        y[2] = nn_splat(NN_POINT_AA) * even_a + nn_splat(NN_POINT_BB) * even_b;
        y[3] = nn_splat(NN_POINT_AA * NN_POINT_A) * odd_a + nn_splat(NN_POINT_BB * NN_POINT_B) * odd_b + m[5];
    }
}

/* ---- the adjoints, for the gradient of the weights ---- */

/* w = A y */
NN_INLINE void nn_winograd_of_gradient(int side, const nn_vec *y, nn_vec *w)
{
    if (side == 2) {
        w[0] = y[0];
        w[1] = y[0] + y[1];
        w[2] = y[0] - y[1];
        w[3] = -y[1];
    } else {
        const nn_vec a = nn_splat(NN_POINT_A), b = nn_splat(NN_POINT_B), aa = nn_splat(NN_POINT_AA),
                     bb = nn_splat(NN_POINT_BB);
        const nn_vec even_a = y[0] + aa * y[2], odd_a = y[1] + aa * y[3], even_b = y[0] + bb * y[2],
                     odd_b = y[1] + bb * y[3];
        w[0] = y[0];
        w[1] = even_a + a * odd_a;
        w[2] = even_a - a * odd_a;
        w[3] = even_b + b * odd_b;
        w[4] = even_b - b * odd_b;
        w[5] = y[3];
    }
}

/* g = G^T u */
NN_INLINE void nn_winograd_to_weights(int side, const nn_vec *u, nn_vec *g)
{
    if (side == 2) {
        const nn_vec half = nn_splat(NN_R(0.5)), sum = (u[1] + u[2]) * half;
        g[0] = u[0] + sum;
        g[1] = (u[1] - u[2]) * half;
        g[2] = sum + u[3];
    } else {
        const nn_vec a = nn_splat(NN_OVER_A), b = nn_splat(NN_OVER_B);
        const nn_vec even_a = u[1] + u[2], odd_a = u[1] - u[2], even_b = u[3] + u[4], odd_b = u[3] - u[4];
        g[0] = u[0] + a * even_a + b * even_b;
        g[1] = a * (nn_splat(NN_POINT_A) * odd_a) + b * (nn_splat(NN_POINT_B) * odd_b);
        g[2] = u[5] + a * (nn_splat(NN_POINT_AA) * even_a) + b * (nn_splat(NN_POINT_BB) * even_b);
    }
}

#endif
