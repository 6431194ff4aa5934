/* SPDX-License-Identifier: MIT
 *
 * Losses per position, without reduction: the standard library's blocks of the same names average them.
 * Cross-entropy takes classes on any axis but 0 and any layout of the logits; what the emitted call
 * states is how classes and positions lie in memory (nn_classes of runtime/kernels/loss.h).
 */
#include "ops/op.h"

typedef struct CrossEntropyAttrs {
    int64_t axis;
    double smoothing;
    int64_t ignore_index;
} CrossEntropyAttrs;
static const AttrDef cross_entropy_attrs[] = {
    { "axis", ATTR_INT, offsetof(CrossEntropyAttrs, axis), .def = 1,
      .doc = "The axis of the classes." },
    { "smoothing", ATTR_FLOAT, offsetof(CrossEntropyAttrs, smoothing), .min = 0, .max = 1,
      .doc = "Part of the target spread evenly over all classes." },
    { "ignore_index", ATTR_INT, offsetof(CrossEntropyAttrs, ignore_index), .def = -100,
      .min = -2147483648.0, .max = 2147483647.0,
      .doc = "Positions with this target have loss 0 and gradient 0." },
    { 0 },
};

/* Operand 0 of cross_entropy is z, of cross_entropy_dx it is the gradient of the loss. */
static const TensorType *logits_of(const Node *n)
{
    return &n->in[op_is(n, &op_cross_entropy_dx)]->type;
}

static const TensorType *target_of(const Node *n)
{
    return &n->in[op_is(n, &op_cross_entropy_dx) + 1]->type;
}

static int class_axis(const Node *n)
{
    const int64_t axis = ((const CrossEntropyAttrs *)n->attrs)->axis;
    return (int)(axis < 0 ? axis + logits_of(n)->rank : axis);
}

static bool same_size(const TensorType *a, int i, const TensorType *b, int j)
{
    return a->dim[i] == b->dim[j] && (i ? NULL : a->batch) == (j ? NULL : b->batch);
}

/* The class axis under which i32 targets would fit, for the hint; -1: none. */
static int fitting_axis(const TensorType *z, const TensorType *t)
{
    for (int axis = 1; axis < z->rank && t->rank == z->rank - 1; axis++) {
        bool fits = true;
        for (int i = 0, k = 0; i < z->rank; i++)
            if (i != axis) fits &= same_size(z, i, t, k++);
        if (fits) return axis;
    }
    return -1;
}

static bool cross_entropy_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const CrossEntropyAttrs *a = n->attrs;
    const TensorType *z = &n->in[0]->type, *t = &n->in[1]->type;
    int axis;
    if (!want(c, z->dtype == DT_F32, IN(0), "expected f32 logits, got %s", dtype_name(z->dtype)) ||
        !want(c, z->rank >= 2 && z->rank <= 4, IN(0), "expected logits of rank 2 to 4, got %d",
              z->rank) ||
        !axis_normalize(c, n, 0, a->axis, &axis) ||
        !want(c, axis > 0, ATTR(axis),
              "axis 0 counts the samples; the classes must stand on another one") ||
        !want(c, t->dtype == DT_I32 || t->dtype == DT_F32, IN(1),
              "expected i32 classes or f32 distributions, got %s", dtype_name(t->dtype)))
        return false;
    *out = (TensorType){ .dtype = DT_F32, .batch = z->batch };
    for (int i = 0; i < z->rank; i++)
        if (i != axis) out->dim[out->rank++] = z->dim[i];
    if (t->dtype == DT_F32)
        return want(c, type_same_shape(t, z), IN(1),
                    "distributions must have the shape of the logits");
    if (want(c, type_same_shape(t, out), IN(1),
             "expected one class per position: the shape of the logits without axis %d", axis))
        return true;
    const int other = fitting_axis(z, t);
    if (other > 0) want_hint(c, "the shapes fit with axis = %d", other);
    return false;
}

static bool cross_entropy_dx_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    (void)c;
    *out = n->in[1]->type;
    return true;
}

static int64_t cross_entropy_limit(const Node *n, int operand)
{
    const bool target = operand == op_is(n, &op_cross_entropy_dx) + 1;
    return target && target_of(n)->dtype == DT_I32 ? logits_of(n)->dim[class_axis(n)] : 0;
}

static bool cross_entropy_ignore(const Node *n, int operand, int64_t *value)
{
    *value = ((const CrossEntropyAttrs *)n->attrs)->ignore_index;
    return cross_entropy_limit(n, operand) > 0;
}

/* dz by one kernel; a distribution's gradient is -(1 - smoothing) log_softmax(z). */
static void cross_entropy_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *z = n->in[0], *t = n->in[1];
    dx[0] = mk3(b, &op_cross_entropy_dx, n->attrs, dy[0], z, t);
    if (t->type.dtype != DT_F32) return;
    const int axis = class_axis(n);
    TensorType kept = z->type;
    kept.dim[axis] = 1;
    Node *d = mk_expand_to(b, mk_reshape_like(b, dy[0], &kept), &z->type);
    Node *log_p = mk1(b, &op_log_softmax, &(AxisAttrs){ axis }, z);
    dx[1] = mk_mul(b, d, mk_scale(b, log_p, ((const CrossEntropyAttrs *)n->attrs)->smoothing - 1));
}

/* (nn_classes){ ... }: the positions of a sample are at most two axes, merged where both sides allow. */
static const char *classes_text(Arena *a, const Node *n)
{
    const TensorType *z = logits_of(n);
    const int axis = class_axis(n);
    int64_t zs[MAX_RANK], size[2] = { 1, 1 }, zp[2] = { 0, 0 }, lp[2] = { 0, 0 }, step = 1;
    int k = 2;
    type_strides(z, zs);
    for (int i = z->rank - 1; i > 0; i--) {
        if (i == axis) continue;
        k--;
        size[k] = z->dim[i];
        zp[k] = zs[i];
        lp[k] = step;
        step *= z->dim[i];
    }
    if (zp[0] == zp[1] * size[1] && size[0] > 1) {
        size[1] *= size[0];
        size[0] = 1;
        zp[0] = lp[0] = 0;
    }
    return arena_printf(a, "(nn_classes){ %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld }",
                        (ll)z->dim[axis], (ll)zs[axis], (ll)size[0], (ll)zp[0], (ll)lp[0],
                        (ll)size[1], (ll)zp[1], (ll)lp[1]);
}

static void cross_entropy_emit(CWriter *w, const Node *n)
{
    Arena *a = arena_new();
    const bool dx = op_is(n, &op_cross_entropy_dx), soft = target_of(n)->dtype == DT_F32;
    const ll ignore = (ll)((const CrossEntropyAttrs *)n->attrs)->ignore_index;
    /* INT_MIN has no literal of its own type. */
    const char *last =
        soft ? "" : arena_printf(a, ", %s%lld", ignore < -2147483647LL ? "(int32_t)" : "", ignore);
    cw_stmt(w, n, "nn_cross_entropy%s%s($rows, %s, $0, $1%s, $smoothing%s, $out);",
            soft ? "_soft" : "", dx ? "_dx" : "", classes_text(a, n), dx ? ", $2" : "", last);
    arena_free(a);
}

static Work cross_entropy_work(const Node *n)
{
    const TensorType *z = logits_of(n);
    return (Work){ .flops = 12 * type_numel(z, 0, z->rank) };
}

const OpDesc op_cross_entropy = {
    .name = "cross_entropy",
    .summary = "cross-entropy of logits, per position",
    .torch = "torch.nn.functional.cross_entropy(reduction='none')",
    .doc =
        "For a class `t`: `(1 - s) (lse(z) - z_t) + s mean_c(lse(z) - z_c)` with `lse(z) = log sum_c e^(z_c)` and "
        "`s = smoothing`; for a distribution `t`: `sum_c ((1 - s) t_c + s / n) (lse(z) - z_c)`. Classes stand on "
        "`axis`; the result has the shape of `z` without it. Finite for logits of any finite size. Targets equal "
        "to `ignore_index` give 0 and no gradient.",
    .in = { "z", "target" },
    .attrs = cross_entropy_attrs,
    .attr_size = sizeof(CrossEntropyAttrs),
    .flags = OPF_LEAD | OPF_ANY_LAYOUT,
    .shape = cross_entropy_shape,
    .grad = cross_entropy_grad,
    .work = cross_entropy_work,
    .index_limit = cross_entropy_limit,
    .index_ignore = cross_entropy_ignore,
    .emit = cross_entropy_emit,
    .onnx = "SoftmaxCrossEntropyLoss",
    .gradient = "dz = dy (softmax(z) - q) with q = (1 - s) t + s / n, t being the target as "
                "probabilities; none for the target, and 0 where it is ignored",
    .samples = SAMPLES(
        { "cross_entropy(z: f32[5,7], target: i32[5])", "f32[5]" },
        { "cross_entropy(z: f32[3,5,2,3], target: i32[3,2,3], smoothing = 0.1)", "f32[3,2,3]" },
        { "cross_entropy(z: f32[2,3,5], target: i32[2,3], axis = 2)", "f32[2,3]" },
        { "cross_entropy(z: f32[3,5], target: f32[3,5], smoothing = 0.2)", "f32[3]" }),
};

/* x[n, ..] of the loss's shape, repeated over the classes. */
static Node *over_classes(Builder *b, const Node *n, Node *x)
{
    TensorType kept = *logits_of(n);
    kept.dim[class_axis(n)] = 1;
    return mk_expand_to(b, mk_reshape_like(b, x, &kept), logits_of(n));
}

/* For a distribution: dy (softmax(z) sum_c w_c - w) with w = (1 - s) t + s / n. */
static void soft_parts(Builder *b, const Node *n, Node **out)
{
    Node *dy = n->in[0], *z = n->in[1], *t = n->in[2];
    const double s = ((const CrossEntropyAttrs *)n->attrs)->smoothing;
    const int axis = class_axis(n);
    Node *w = mk_scale(b, t, 1 - s);
    if (s != 0) w = mk_add(b, w, mk_const(b, DT_F32, s / (double)z->type.dim[axis]));
    Node *p = mk1(b, &op_softmax, &(AxisAttrs){ axis }, z);
    Node *rest = mk_sub(b, mk_mul(b, p, mk_sum_axes(b, w, 1, &axis, true)), w);
    out[0] = mk_mul(b, over_classes(b, n, dy), rest);
}

/* For a class: with respect to dy the same at dy = 1, summed over the classes; with respect to z the gradient of
 * dy softmax(z), without the positions that are ignored. */
static void cross_entropy_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *g = dy[0], *z = n->in[1], *t = n->in[2];
    if (t->type.dtype == DT_F32) {
        grad_of_parts(b, n, dy, dx, soft_parts);
        return;
    }
    const int axis = class_axis(n);
    Node *unit = mk3(b, &op_cross_entropy_dx, n->attrs, mk_fill(b, &n->in[0]->type, 1), z, t);
    dx[0] = mk_sum_axes(b, mk_mul(b, g, unit), 1, &axis, false);
    const double ignore = (double)((const CrossEntropyAttrs *)n->attrs)->ignore_index;
    Node *counts = mk2(b, &op_not_equal, NULL, t, mk_const(b, DT_I32, ignore));
    Node *weight = mk_mul(b, n->in[0], mk1(b, &op_cast, &(CastAttrs){ 0 }, counts));
    Node *p = mk1(b, &op_softmax, &(AxisAttrs){ axis }, z);
    dx[1] = mk2(b, &op_softmax_dx, &(AxisAttrs){ axis }, mk_mul(b, over_classes(b, n, weight), g), p);
}

const OpDesc op_cross_entropy_dx = {
    .name = "cross_entropy_dx",
    .summary = "gradient of cross_entropy",
    .doc =
        "`dy (softmax(z) - target)`, the target smoothed and as a distribution; 0 where it is ignored.",
    .in = { "dy", "z", "target" },
    .attrs = cross_entropy_attrs,
    .attr_size = sizeof(CrossEntropyAttrs),
    .flags = OPF_LEAD | OPF_ANY_LAYOUT | OPF_INTERNAL,
    .shape = cross_entropy_dx_shape,
    .grad = cross_entropy_dx_grad,
    .work = cross_entropy_work,
    .index_limit = cross_entropy_limit,
    .index_ignore = cross_entropy_ignore,
    .emit = cross_entropy_emit,
};

/* dz = dl (sigmoid(z) - y), dy = -dl z */
static void bce_with_logits_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *z = n->in[0], *y = n->in[1];
    grad_put(b, n, 0, mk_mul(b, dy[0], mk_sub(b, mk1(b, &op_sigmoid, NULL, z), y)), dx);
    grad_put(b, n, 1, mk_neg(b, mk_mul(b, dy[0], z)), dx);
}

const OpDesc op_bce_with_logits = {
    .name = "bce_with_logits",
    .summary = "binary cross-entropy of logits, per element",
    .torch = "torch.nn.functional.binary_cross_entropy_with_logits(reduction='none')",
    .doc =
        "`max(z, 0) - z y + log(1 + e^-|z|)`, finite for any finite `z`. Targets `y` are in [0, 1] and broadcast.",
    .in = { "z", "y" },
    .flags = OPF_ELEMENTWISE,
    .shape = shape_broadcast,
    .grad = bce_with_logits_grad,
    .expr = "nn_bce_with_logits($0, $1)",
    .gradient = "dz = dy (sigmoid(z) - target), dtarget = -dy z",
    .samples = SAMPLES({ "bce_with_logits(z: f32[3,7], y: f32[3,7])", "f32[3,7]" },
                       { "bce_with_logits(z: f32[5,2], y: 1)", "f32[5,2]" }),
};

static Node *log_at_least(Builder *b, Node *x)
{
    return mk2(b, &op_maximum, NULL, mk1(b, &op_log, NULL, x), mk_const(b, DT_F32, -100));
}

/* dx = dl (x - y) / max(x (1 - x), 1e-12), which is finite at 0 and 1, and dy = dl (log(1 - x) - log x) */
static void bce_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *x = n->in[0], *y = n->in[1], *rest = mk_sub(b, mk_const(b, DT_F32, 1), x);
    Node *slope = mk2(b, &op_maximum, NULL, mk_mul(b, x, rest), mk_const(b, DT_F32, 1e-12));
    grad_put(b, n, 0, mk_div(b, mk_mul(b, dy[0], mk_sub(b, x, y)), slope), dx);
    grad_put(b, n, 1, mk_mul(b, dy[0], mk_sub(b, log_at_least(b, rest), log_at_least(b, x))), dx);
}

const OpDesc op_bce = {
    .name = "bce",
    .summary = "binary cross-entropy of probabilities, per element",
    .torch = "torch.nn.functional.binary_cross_entropy(reduction='none')",
    .doc = "`-y log(x) - (1 - y) log(1 - x)`, both logarithms at least -100. The derivative is "
           "`(x - y) / max(x (1 - x), 1e-12)`. `x` and `y` are in [0, 1] and broadcast.",
    .in = { "x", "y" },
    .flags = OPF_ELEMENTWISE,
    .shape = shape_broadcast,
    .grad = bce_grad,
    .expr = "nn_bce($0, $1)",
    .gradient = "dx = dy (x - y) / max(x (1 - x), 1e-12), dtarget = dy (log(1 - x) - log(x))",
    .samples = SAMPLES({ "bce(x: f32[3,7], y: f32[3,7])", "f32[3,7]" },
                       { "bce(x: f32[5,2], y: 1)", "f32[5,2]" }),
};
