/* SPDX-License-Identifier: MIT
 *
 * A program with tests/e2e/models/driven.nn in double precision, whose step has batch norm, dropout and a state:
 * products with its Hessian leave every byte of the object alone, are those of the draws of the next gradient, and
 * are refused where they cannot be had. Exit code 1 after any fault.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driven.h"

enum { B = 20 };
static double x[B * 6];
static int32_t y[B];
static int faults;

static void want(int condition, const char *what)
{
    if (condition) return;
    printf("FAULT %s\n", what);
    faults++;
}

typedef struct Bytes {
    char data[1 << 18];
    size_t n;
} Bytes;

static int append(void *ctx, const void *data, size_t n)
{
    Bytes *to = ctx;
    if (n > sizeof to->data - to->n) return 1;
    memcpy(to->data + to->n, data, n);
    to->n += n;
    return 0;
}

static void snapshot(driven *m, Bytes *to)
{
    to->n = 0;
    want(driven_save_to(m, NN_ALL, append, to) == NN_OK && to->n > 0, "no snapshot");
}

/* The gradient at w + step v, as the call after `calls` others computes it. */
static void gradient(driven *m, const double *w, const double *v, double step, double *g)
{
    driven_train_out out;
    nn_model *base = (nn_model *)(void *)m;
    for (int i = 0; i < base->info->n_tensors; i++) {
        const nn_tensor *t = &base->info->tensors[i];
        double moved[256];
        if (!t->trainable) continue;
        for (nn_dim k = 0; k < t->count; k++) moved[k] = *w++ + step * *v++;
        driven_set(m, i, moved);
    }
    for (int i = 0; i < base->info->n_routines; i++) base->grads_ready[i] = 0;
    const uint64_t calls = base->calls[1];
    want(driven_train_grad(m, B, x, y, &out) == NN_OK, "no gradient");
    base->calls[1] = calls;
    for (int i = 0; i < base->info->n_tensors; i++) {
        const nn_tensor *t = &base->info->tensors[i];
        if (!t->trainable) continue;
        driven_get_grad(m, i, g);
        g += t->count;
    }
}

int main(void)
{
    static Bytes before, after;
    static double w[1024], v[1024], hv[1024], again[1024], up[1024], down[1024];
    driven_train_out out;
    int n = 0;
    for (int i = 0; i < B * 6; i++) x[i] = sin(1.7 * i + 0.3);
    for (int i = 0; i < B; i++) y[i] = i % 3;
    driven *m = driven_new(DRIVEN_TRAIN | DRIVEN_TRAIN_HVP, &(nn_options){ .seed = 4, .threads = 2 });
    if (!m) return 4;
    nn_model *base = (nn_model *)(void *)m;
    for (int i = 0; i < 3; i++) want(driven_train(m, B, x, y, &out) == NN_OK, "an update failed");
    want(driven_train_grad(m, B, x, y, &out) == NN_OK, "no gradient");
    for (int i = 0; i < base->info->n_tensors; i++) {
        const nn_tensor *t = &base->info->tensors[i];
        if (!t->trainable) continue;
        driven_get(m, i, w + n);
        n += (int)t->count;
    }
    for (int i = 0; i < n; i++) v[i] = cos(2.3 * i);

    double *const grads = malloc((size_t)base->info->grad_count * sizeof *grads);
    memcpy(grads, base->grads, (size_t)base->info->grad_count * sizeof *grads);
    snapshot(m, &before);
    want(driven_train_hvp(m, B, x, y, v, hv) == NN_OK, "no product");
    snapshot(m, &after);
    want(before.n == after.n && !memcmp(before.data, after.data, before.n), "a product changed the object");
    want(!memcmp(grads, base->grads, (size_t)base->info->grad_count * sizeof *grads), "a product changed a gradient");
    want(base->grads_ready[1] == 1, "a product forgot that a gradient is ready");
    free(grads);
    want(driven_train_hvp(m, B, x, y, v, again) == NN_OK && !memcmp(hv, again, (size_t)n * sizeof *hv),
         "another product with the same vector has other bits");

    /* Of the draws of the next gradient, and of no others. */
    double d2 = 0, n2 = 0, other = 0;
    gradient(m, w, v, 1e-5, up);
    gradient(m, w, v, -1e-5, down);
    for (int i = 0; i < n; i++) {
        const double d = (up[i] - down[i]) / 2e-5 - hv[i];
        d2 += d * d;
        n2 += hv[i] * hv[i];
    }
    want(n2 > 0 && sqrt(d2) <= 1e-6 * sqrt(n2), "the product is not the derivative of the next gradient");
    gradient(m, w, v, 0, up);
    base->calls[1]++;
    want(driven_train_hvp(m, B, x, y, v, again) == NN_OK, "no product");
    for (int i = 0; i < n; i++) other += fabs(again[i] - hv[i]);
    want(other > 1e-3 * sqrt(n2), "dropout draws the same in every call");

    want(driven_train_hvp(NULL, B, x, y, v, hv) == NN_EINVAL, "no object");
    want(driven_train_hvp(m, B, x, y, NULL, hv) == NN_EINVAL, "no vector");
    want(driven_train_hvp(m, B, x, y, v, NULL) == NN_EINVAL, "no place for the product");
    want(driven_train_hvp(m, 0, x, y, v, hv) == NN_ESIZE, "a batch of none");
    y[2] = 3;
    want(driven_train_hvp(m, B, x, y, v, hv) == NN_EINDEX, "a class out of range");
    driven_free(m);
    m = driven_new(DRIVEN_TRAIN, NULL);
    want(driven_train_hvp(m, B, x, y, v, hv) == NN_EINVAL, "an object without the routine");
    driven_free(m);
    return faults != 0;
}
