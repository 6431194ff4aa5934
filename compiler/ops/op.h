/* SPDX-License-Identifier: MIT
 *
 * The one header a file in ops/ includes: descriptors, builders, the shape-check context and the C
 * writer's interface, with the small helpers that most operators share.
 */
#ifndef NNC_OPS_OP_H
#define NNC_OPS_OP_H

#include <math.h>
#include <string.h>

#include "ir/builder.h"
#include "ir/op.h"
#include "ops/cwriter.h"

typedef long long ll;

/* Every operator, so that gradients and rules can build any other. */
#define OP(name) extern const OpDesc op_##name;
#include "ops/ops.def"
#undef OP

/* Attributes that several families share or that gradients fill in. */
typedef struct AxisAttrs {
    int64_t axis;
} AxisAttrs;
typedef struct ReduceAttrs {
    IntList axis; /* none: all axes */
    bool keepdims;
    bool unbiased; /* var only */
} ReduceAttrs;
typedef struct TypeAttrs {
    TensorType type; /* of the result */
} TypeAttrs;
typedef struct CastAttrs {
    int to; /* position in f32, i32, bool */
} CastAttrs;

/* Who is to blame in a failed shape check: an operand or an attribute of the call. The caret lands there. */
typedef struct Culprit {
    int operand;      /* >= 0: operand index */
    const char *attr; /* or the attribute's name */
} Culprit;
#define IN(i)   ((Culprit){ .operand = (i) })
#define ATTR(a) ((Culprit){ .operand = -1, .attr = #a })

/* Reports when cond is false and returns cond. The text says what was expected and what was found; the
 * caller's shapes are added to the message by the context. */
bool want(ShapeCtx *c, bool cond, Culprit who, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* At most one hint, for the failure just reported. */
void want_hint(ShapeCtx *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* -Wrounding: the layer's window does not divide the padded size evenly. */
void shape_warn(ShapeCtx *c, Culprit who, const char *id, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#define SAMPLES(...) ((const OpSample[]){ __VA_ARGS__, { NULL, NULL } })
#define CHOICES(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* What a node of op_dropout multiplies the elements with that it keeps. */
double dropout_scale(const Node *n);

/* Shape rules shared by families. */
bool shape_same(ShapeCtx *c, const Node *n,
                TensorType *out); /* type of operand 0, which must be f32 */
bool shape_broadcast(ShapeCtx *c, const Node *n, TensorType *out); /* f32 operands, NumPy's rule */
bool shape_compare(ShapeCtx *c, const Node *n, TensorType *out);   /* like broadcast, result bool */
bool shape_like_operand0(ShapeCtx *c, const Node *n,
                         TensorType *out); /* type of operand 0, any dtype */
bool shape_from_attr(ShapeCtx *c, const Node *n,
                     TensorType *out); /* attrs begin with a TensorType */

/* axis in [-rank, rank) -> [0, rank); reports otherwise. */
bool axis_normalize(ShapeCtx *c, const Node *n, int operand, int64_t axis, int *out);

/* " * factor" for emitted code, nothing for 1. */
typedef struct Times {
    char text[24];
} Times;
Times by(int64_t factor);

/* Constructors used by gradients; each is one mk* call. */
Node *mk_add(Builder *b, Node *x, Node *y);
Node *mk_sub(Builder *b, Node *x, Node *y);
Node *mk_mul(Builder *b, Node *x, Node *y);
Node *mk_div(Builder *b, Node *x, Node *y);
Node *mk_neg(Builder *b, Node *x);
Node *mk_sum_axes(Builder *b, Node *x, int n_axes, const int *axes, bool keepdims);
Node *mk_reshape_like(Builder *b, Node *x, const TensorType *t);
Node *mk_cut(Builder *b, Node *x, int axis, int64_t from, int64_t size); /* part of an axis */
Node *mk_join(Builder *b, int axis, int n, Node *const *x);              /* along an axis */
Node *
mk_expand_to(Builder *b, Node *x,
             const TensorType *t); /* broadcasts x to t's shape (a view of strides 0 when fused) */

/* Rewrite rules. const_is: every element of x is `value`. same_as: x may stand for n (type and layout agree).
 * fold1, fold2: the constant f gives for constant operands, NULL when one is not constant or when the result
 * would not be a normal single-precision number (then the run-time arithmetic decides). */
bool const_is(const Node *x, double value);
bool same_as(const Node *x, const Node *n);
Node *fold1(Builder *b, const Node *n, double (*f)(double));
Node *fold2(Builder *b, const Node *n, double (*f)(double, double));

/* dx[i] = reduce_to(d, operand i): what the gradient of a broadcasting elementwise operator ends with. */
void grad_put(Builder *b, const Node *n, int i, Node *d, Node **dx);

/* The gradient of a node whose kernel has none of its own: `parts` builds equal values, out[k] for result k, of
 * operators that have gradients, and those are followed back from out to n's operands. */
typedef void (*PartsFn)(Builder *b, const Node *n, Node **out);
void grad_of_parts(Builder *b, const Node *n, Node *const *dy, Node **dx, PartsFn parts);

#endif
