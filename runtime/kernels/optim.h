/* SPDX-License-Identifier: MIT
 *
 * Optimizer updates over a contiguous range of parameters w with gradients g and as many slots as the
 * method keeps. In: live scalars as doubles, t = updates including this one. Out: w and slots updated in
 * place, element by element, so that any division of a range among threads gives the same bits. The
 * order of operations is PyTorch's, so that weights agree with its optimizers step by step.
 */
#ifndef NN_KERNELS_OPTIM_H
#define NN_KERNELS_OPTIM_H

#include "kernels/math.h"
#include "kernels/vec.h"

/* v = momentum v + g;  w -= lr v   (nesterov: w -= lr (g + momentum v)), g with weight decay added. */
NN_INLINE void nn_sgd(nn_dim n, nn_real *w, const nn_real *g, nn_real *v, double lr, double momentum,
                      int nesterov, double weight_decay)
{
    const nn_real rate = (nn_real)lr, mu = (nn_real)momentum, decay = (nn_real)weight_decay;
    NN_IVDEP
    for (nn_dim i = 0; i < n; i++) {
        const nn_real d = g[i] + decay * w[i], m = mu * v[i] + d;
        v[i] = m;
        w[i] -= rate * (nesterov ? d + mu * m : m);
    }
}

/* m and v: running means of g and g^2, both corrected for their start at zero (in double). */
NN_INLINE void nn_adam_update(nn_dim n, nn_real *w, const nn_real *g, nn_real *m, nn_real *v, double lr,
                              double beta1, double beta2, double eps, double decay_in, double decay_out,
                              int64_t t)
{
    const nn_real b1 = (nn_real)beta1, b2 = (nn_real)beta2, c1 = (nn_real)(1 - beta1), c2 = (nn_real)(1 - beta2);
    const nn_real step = (nn_real)(lr / (1 - pow(beta1, (double)t)));
    const nn_real root = (nn_real)sqrt(1 - pow(beta2, (double)t)), e = (nn_real)eps;
    const nn_real add = (nn_real)decay_in, keep = (nn_real)(1 - lr * decay_out);
    NN_IVDEP
    for (nn_dim i = 0; i < n; i++) {
        const nn_real x = w[i] * keep, d = g[i] + add * x;
        const nn_real mi = b1 * m[i] + c1 * d, vi = b2 * v[i] + c2 * d * d;
        m[i] = mi;
        v[i] = vi;
        w[i] = x - step * mi / (nn_sqrt(vi) / root + e);
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

/* q = alpha q + (1 - alpha) g^2;  v = momentum v + g / (sqrt(q) + eps);  w -= lr v */
NN_INLINE void nn_rmsprop(nn_dim n, nn_real *w, const nn_real *g, nn_real *q, nn_real *v, double lr, double alpha,
                          double eps, double momentum, double weight_decay)
{
    const nn_real rate = (nn_real)lr, a = (nn_real)alpha, b = (nn_real)(1 - alpha), e = (nn_real)eps;
    const nn_real mu = (nn_real)momentum, decay = (nn_real)weight_decay;
    NN_IVDEP
    for (nn_dim i = 0; i < n; i++) {
        const nn_real d = g[i] + decay * w[i], qi = a * q[i] + b * d * d;
        const nn_real vi = mu * v[i] + d / (nn_sqrt(qi) + e);
        q[i] = qi;
        v[i] = vi;
        w[i] -= rate * vi;
    }
}

/* q += g^2;  w -= lr g / (sqrt(q) + eps) */
NN_INLINE void nn_adagrad(nn_dim n, nn_real *w, const nn_real *g, nn_real *q, double lr, double eps,
                          double weight_decay)
{
    const nn_real rate = (nn_real)lr, e = (nn_real)eps, decay = (nn_real)weight_decay;
    NN_IVDEP
    for (nn_dim i = 0; i < n; i++) {
        const nn_real d = g[i] + decay * w[i], qi = q[i] + d * d;
        q[i] = qi;
        w[i] -= rate * d / (nn_sqrt(qi) + e);
    }
}

#endif
