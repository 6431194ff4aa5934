/* SPDX-License-Identifier: MIT
 *
 * Optimizer updates over a contiguous range of parameters w with gradients g and as many slots as the
 * method keeps. In: live scalars as doubles, t = updates including this one. Out: w and slots updated in
 * place, element by element, so that any division of a range among threads gives the same bits. The
 * order of operations is PyTorch's, so that weights agree with its optimizers step by step; only factors that are the
 * same for all elements are inverted once, because a division costs more than all the rest of an update.
 */
#ifndef NN_KERNELS_OPTIM_H
#define NN_KERNELS_OPTIM_H

#include "kernels/libm.h"
#include "kernels/math.h"
#include "kernels/vec.h"

/* Note [weights come from other threads]
 * Every thread has read all weights in the forward pass, so the lines that it updates now are shared. Loads hit
 * them, no prefetcher stirs, and each first store waits for the other processors to give up their copies: some 50 ns
 * a line, one after the other, which is more than the update itself takes. Lines are therefore asked for ahead.
 */
enum { NN_UPDATE_BLOCK = 256 };

/* End of the block of an update that starts at i; asks for the weights of the block after it. */
NN_INLINE nn_dim nn_update_block(nn_dim i, nn_dim n, const nn_real *w)
{
    enum { LINE = 64 / NN_REAL_BYTES };
    const nn_dim end = nn_min_dim(n, i + NN_UPDATE_BLOCK), next = nn_min_dim(n, end + NN_UPDATE_BLOCK);
    for (nn_dim k = i ? end : 0; k < next; k += LINE) __builtin_prefetch(w + k, 1);
    return end;
}

/* A loop over all i < n in which weights are updated. */
#define NN_UPDATE(i, n, w)                                                                          \
    for (nn_dim i##_from = 0, i##_to; i##_from < (n); i##_from = i##_to)                            \
        NN_IVDEP                                                                                    \
        for (nn_dim i = (i##_to = nn_update_block(i##_from, n, w), i##_from); i < i##_to; i++)

/* v = momentum v + g;  w -= lr v   (nesterov: w -= lr (g + momentum v)), g with weight decay added. v is NULL where
 * momentum is 0 for good. */
NN_INLINE void nn_sgd(nn_dim n, nn_real *w, const nn_real *g, nn_real *v, double lr, double momentum,
                      int nesterov, double weight_decay)
{
    const nn_real rate = (nn_real)lr, mu = (nn_real)momentum, decay = (nn_real)weight_decay;
    NN_UPDATE(i, n, w)
    {
        const nn_real d = g[i] + decay * w[i], m = v ? mu * v[i] + d : d;
        if (v) v[i] = m;
        w[i] -= rate * (nesterov ? d + mu * m : m);
    }
}

/* m and v: running means of g and g^2, both corrected for their start at zero (in double). */
NN_INLINE void nn_adam_update(nn_dim n, nn_real *w, const nn_real *g, nn_real *m, nn_real *v, double lr,
                              double beta1, double beta2, double eps, double decay_in, double decay_out,
                              int64_t t)
{
    const nn_real b1 = (nn_real)beta1, b2 = (nn_real)beta2, c1 = (nn_real)(1 - beta1), c2 = (nn_real)(1 - beta2);
    const nn_real step = (nn_real)(lr / (1 - nn_pow64(beta1, (double)t)));
    const nn_real root = (nn_real)(1 / sqrt(1 - nn_pow64(beta2, (double)t))), e = (nn_real)eps;
    const nn_real add = (nn_real)decay_in, keep = (nn_real)(1 - lr * decay_out);
    NN_UPDATE(i, n, w)
    {
        const nn_real x = w[i] * keep, d = g[i] + add * x;
        const nn_real mi = b1 * m[i] + c1 * d, vi = b2 * v[i] + c2 * d * d;
        m[i] = mi;
        v[i] = vi;
        w[i] = x - step * mi / (nn_sqrt(vi) * root + e);
    }
}

/* Weight decay is added to the gradient. */
NN_INLINE void nn_adam(nn_dim n, nn_real *w, const nn_real *g, nn_real *m, nn_real *v, double lr, double beta1,
                       double beta2, double eps, double weight_decay, int64_t t)
{
    nn_adam_update(n, w, g, m, v, lr, beta1, beta2, eps, weight_decay, 0, t);
}

/* Weight decay shrinks the weights directly: w *= 1 - lr * weight_decay. */
NN_INLINE void nn_adamw(nn_dim n, nn_real *w, const nn_real *g, nn_real *m, nn_real *v, double lr, double beta1,
                        double beta2, double eps, double weight_decay, int64_t t)
{
    nn_adam_update(n, w, g, m, v, lr, beta1, beta2, eps, 0, weight_decay, t);
}

/* q = alpha q + (1 - alpha) g^2;  v = momentum v + g / (sqrt(q) + eps);  w -= lr v
 * v is NULL where momentum is 0 for good. Centered (c is not NULL): c = alpha c + (1 - alpha) g, and q - c^2, the
 * variance, stands in the root. */
NN_INLINE void nn_rmsprop(nn_dim n, nn_real *w, const nn_real *g, nn_real *q, nn_real *v, nn_real *c, double lr,
                          double alpha, double eps, double momentum, double weight_decay)
{
    const nn_real rate = (nn_real)lr, a = (nn_real)alpha, b = (nn_real)(1 - alpha), e = (nn_real)eps;
    const nn_real mu = (nn_real)momentum, decay = (nn_real)weight_decay;
    NN_UPDATE(i, n, w)
    {
        const nn_real d = g[i] + decay * w[i], qi = a * q[i] + b * d * d;
        nn_real r = qi;
        if (c) {
            const nn_real ci = c[i] + b * (d - c[i]), left = qi - ci * ci;
            c[i] = ci;
            r = left > 0 ? left : NN_R(0.0); /* the difference may round to less than nothing */
        }
        const nn_real step = d / (nn_sqrt(r) + e), vi = v ? mu * v[i] + step : step;
        q[i] = qi;
        if (v) v[i] = vi;
        w[i] -= rate * vi;
    }
}

/* q += g^2;  w -= lr g / (sqrt(q) + eps) */
NN_INLINE void nn_adagrad(nn_dim n, nn_real *w, const nn_real *g, nn_real *q, double lr, double eps,
                          double weight_decay)
{
    const nn_real rate = (nn_real)lr, e = (nn_real)eps, decay = (nn_real)weight_decay;
    NN_UPDATE(i, n, w)
    {
        const nn_real d = g[i] + decay * w[i], qi = q[i] + d * d;
        q[i] = qi;
        w[i] -= rate * d / (nn_sqrt(qi) + e);
    }
}

/* q = rho q + (1 - rho) g^2;  d = g sqrt(u + eps) / sqrt(q + eps);  u = rho u + (1 - rho) d^2;  w -= lr d */
NN_INLINE void nn_adadelta(nn_dim n, nn_real *w, const nn_real *g, nn_real *q, nn_real *u, double lr, double rho,
                           double eps, double weight_decay)
{
    const nn_real rate = (nn_real)lr, a = (nn_real)rho, b = (nn_real)(1 - rho), e = (nn_real)eps;
    const nn_real decay = (nn_real)weight_decay;
    NN_UPDATE(i, n, w)
    {
        const nn_real x = g[i] + decay * w[i], qi = a * q[i] + b * x * x;
        const nn_real d = nn_sqrt(u[i] + e) / nn_sqrt(qi + e) * x;
        q[i] = qi;
        u[i] = a * u[i] + b * d * d;
        w[i] -= rate * d;
    }
}

/* Adam whose root is that of the largest v so far. */
NN_INLINE void nn_amsgrad(nn_dim n, nn_real *w, const nn_real *g, nn_real *m, nn_real *v, nn_real *top, double lr,
                          double beta1, double beta2, double eps, double weight_decay, int64_t t)
{
    const nn_real b1 = (nn_real)beta1, b2 = (nn_real)beta2, c1 = (nn_real)(1 - beta1), c2 = (nn_real)(1 - beta2);
    const nn_real step = (nn_real)(lr / (1 - nn_pow64(beta1, (double)t)));
    const nn_real root = (nn_real)(1 / sqrt(1 - nn_pow64(beta2, (double)t))), e = (nn_real)eps;
    const nn_real decay = (nn_real)weight_decay;
    NN_UPDATE(i, n, w)
    {
        const nn_real d = g[i] + decay * w[i];
        const nn_real mi = b1 * m[i] + c1 * d, vi = b2 * v[i] + c2 * d * d, ti = nn_max(top[i], vi);
        m[i] = mi;
        v[i] = vi;
        top[i] = ti;
        w[i] -= step * mi / (nn_sqrt(ti) * root + e);
    }
}

/* Product of the first t momentum factors beta1 (1 - 0.96^(k psi) / 2): a function of t, so no state is needed. Below
 * 1e-20 it no longer matters: 1 - p is 1. */
NN_INLINE double nn_nadam_product(double beta1, double psi, int64_t t)
{
    double product = 1;
    for (int64_t k = 1; k <= t && product > 1e-20; k++) product *= beta1 * (1 - 0.5 * nn_pow64(0.96, (double)k * psi));
    return product;
}

/* Adam with Nesterov momentum: w -= lr ((1 - mu_t) g / (1 - p_t) + mu_(t+1) m / (1 - p_(t+1))) / (sqrt(v^) + eps). */
NN_INLINE void nn_nadam(nn_dim n, nn_real *w, const nn_real *g, nn_real *m, nn_real *v, double lr, double beta1,
                        double beta2, double eps, double momentum_decay, double weight_decay, int64_t t)
{
    const double mu = beta1 * (1 - 0.5 * nn_pow64(0.96, (double)t * momentum_decay));
    const double mu_next = beta1 * (1 - 0.5 * nn_pow64(0.96, (double)(t + 1) * momentum_decay));
    const double p = nn_nadam_product(beta1, momentum_decay, t);
    const nn_real b1 = (nn_real)beta1, b2 = (nn_real)beta2, c1 = (nn_real)(1 - beta1), c2 = (nn_real)(1 - beta2);
    const nn_real of_g = (nn_real)(lr * (1 - mu) / (1 - p)), of_m = (nn_real)(lr * mu_next / (1 - p * mu_next));
    const nn_real correct = (nn_real)(1 / (1 - nn_pow64(beta2, (double)t)));
    const nn_real e = (nn_real)eps, decay = (nn_real)weight_decay;
    NN_UPDATE(i, n, w)
    {
        const nn_real d = g[i] + decay * w[i];
        const nn_real mi = b1 * m[i] + c1 * d, vi = b2 * v[i] + c2 * d * d;
        m[i] = mi;
        v[i] = vi;
        w[i] -= (of_g * d + of_m * mi) / (nn_sqrt(vi * correct) + e);
    }
}

/* w -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay w);  m = beta2 m + (1 - beta2) g */
NN_INLINE void nn_lion(nn_dim n, nn_real *w, const nn_real *g, nn_real *m, double lr, double beta1, double beta2,
                       double weight_decay)
{
    const nn_real rate = (nn_real)lr, keep = (nn_real)(1 - lr * weight_decay);
    const nn_real b1 = (nn_real)beta1, b2 = (nn_real)beta2, c1 = (nn_real)(1 - beta1), c2 = (nn_real)(1 - beta2);
    NN_UPDATE(i, n, w)
    {
        w[i] = w[i] * keep - rate * nn_sign(b1 * m[i] + c1 * g[i]);
        m[i] = b2 * m[i] + c2 * g[i];
    }
}

/* Polyak averaging: e = w at the first update, then e += (1 - decay) (w - e). */
NN_INLINE void nn_ema(nn_dim n, const nn_real *w, nn_real *e, double decay, int64_t t)
{
    const nn_real part = t <= 1 ? NN_R(1.0) : (nn_real)(1 - decay);
    NN_IVDEP
    for (nn_dim i = 0; i < n; i++) e[i] += part * (w[i] - e[i]);
}

#endif
