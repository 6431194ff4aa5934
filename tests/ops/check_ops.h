/* SPDX-License-Identifier: MIT
 *
 * One operator sample as check-ops.sh generates it: a model in double precision whose f32 operands are parameters
 * and whose other operands are inputs, with `value` (infer) and, when the operator has a gradient, `grad`
 * (the gradient half of a step that minimises sum((y + y^2/2) * r)) and `product` (with the Hessian of that step's
 * loss); and the batched form of it, when there is one.
 */
#ifndef TESTS_CHECK_OPS_H
#define TESTS_CHECK_OPS_H

#include "nn_model.h"

enum { CASE_MAX_IN = 8 };

typedef struct CaseInput {
    char dtype;     /* 'i' int32_t, 'b' bool or u8, 'f' real */
    nn_dim count;   /* per unit of batch in a batched case */
    int batched;
} CaseInput;

typedef struct Case {
    const char *id, *op, *expr;
    int random;     /* draws numbers: rows differ, and the call counter is reset before each run */
    int is_batch;   /* the batched form: value takes B, there is no grad */
    nn_model *(*make)(const nn_options *options);
    nn_status (*value)(nn_model *m, int batch, const void *const *in, void *y);
    nn_status (*grad)(nn_model *m, const void *const *in, const double *r, double *loss); /* or NULL */
    nn_status (*product)(nn_model *m, const void *const *in, const double *r, const double *v, double *hv);
    int n_in;
    CaseInput in[CASE_MAX_IN];
    char out_dtype;
    nn_dim out_count; /* per unit of batch in a batched case */
    const char *positive; /* space-separated parameters drawn from (0, ...); "*" all of them */
} Case;

extern const Case *const cases[]; /* ends with NULL */

#endif
