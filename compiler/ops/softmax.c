/* SPDX-License-Identifier: MIT
 *
 * softmax and log_softmax along one axis, in any layout: a row of axis 0 is seen as [outer][n][inner] in
 * memory. Along axis 0 itself (of a tensor without a batch axis) one thread does all.
 */
#include "ops/op.h"

static const AttrDef softmax_attrs[] = {
    { "axis", ATTR_INT, offsetof(AxisAttrs, axis), .def = -1, .doc = "The axis that sums to one." },
    { 0 },
};

static int softmax_axis(const Node *n)
{
    const int64_t axis = ((const AxisAttrs *)n->attrs)->axis;
    return (int)(axis < 0 ? axis + n->type.rank : axis);
}

static bool softmax_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    int axis;
    return shape_same(c, n, out) && axis_normalize(c, n, 0, ((const AxisAttrs *)n->attrs)->axis, &axis) &&
           want(c, axis > 0 || !out->batch, ATTR(axis), "cannot normalise along the batch axis");
}

/* Large samples are divided by rows, so that all threads have work with one sample too. */
static bool softmax_is_tall(const Node *n)
{
    enum { LARGE = 1 << 14 };
    const TensorType *t = &n->type;
    int order[MAX_RANK];
    layout_order(t->layout, t->rank, order);
    return t->rank >= 3 && softmax_axis(n) == order[t->rank - 1] && type_numel(t, 1, t->rank) >= LARGE &&
           t->dim[softmax_axis(n)] < LARGE / 4;
}

static bool softmax_is_lead(const Node *n)
{
    int order[MAX_RANK];
    layout_order(n->type.layout, n->type.rank, order);
    return softmax_axis(n) > 0 && order[0] == 0 && !softmax_is_tall(n);
}

static void softmax_emit_call(CWriter *w, const Node *n, const char *kernel, const char *operands)
{
    const TensorType *t = &n->type;
    const int axis = softmax_axis(n);
    const bool lead = softmax_is_lead(n);
    int order[MAX_RANK];
    ll outer = 1, inner = 1;
    bool before = true;
    if (softmax_is_tall(n)) {
        const char *batch = t->batch ? "$batch * " : "";
        const ll size = (ll)t->dim[axis], rows = (ll)type_numel(t, 0, t->rank) / size;
        cw_stmt(w, n, "%s_tall($team, %s%lld, %lld, %s, $out);", kernel, batch, rows, size, operands);
        return;
    }
    layout_order(t->layout, t->rank, order);
    for (int pos = lead ? 1 : 0; pos < t->rank; pos++) {
        if (order[pos] == axis) before = false;
        else if (before) outer *= (ll)t->dim[order[pos]];
        else inner *= (ll)t->dim[order[pos]];
    }
    if (lead)
        cw_stmt(w, n, "%s($rows%s, %lld, %lld, %s, $out);", kernel, by(outer).text, (ll)t->dim[axis], inner, operands);
    else
        cw_stmt(w, n, "if ($team->rank == 0) %s(%lld, %lld, %lld, %s, $out);", kernel, outer, (ll)t->dim[axis], inner,
                operands);
}

static Work softmax_work(const Node *n)
{
    return (Work){ .flops = 12 * type_numel(&n->type, 0, n->type.rank) };
}

static void softmax_emit(CWriter *w, const Node *n) { softmax_emit_call(w, n, "nn_softmax", "$0"); }
static void log_softmax_emit(CWriter *w, const Node *n) { softmax_emit_call(w, n, "nn_log_softmax", "$0"); }
static void softmax_dx_emit(CWriter *w, const Node *n) { softmax_emit_call(w, n, "nn_softmax_dx", "$0, $1"); }
static void log_softmax_dx_emit(CWriter *w, const Node *n) { softmax_emit_call(w, n, "nn_log_softmax_dx", "$0, $1"); }

static Node *class_sum(Builder *b, const Node *n, Node *x)
{
    return mk_sum_axes(b, x, 1, (int[]){ softmax_axis(n) }, true);
}

static void softmax_parts(Builder *b, const Node *n, Node **out)
{
    Node *dy = n->in[0], *y = n->in[1];
    out[0] = mk_mul(b, y, mk_sub(b, dy, class_sum(b, n, mk_mul(b, dy, y))));
}

static void softmax_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    grad_of_parts(b, n, dy, dx, softmax_parts);
}

const OpDesc op_softmax_dx = {
    .name = "softmax_dx", .summary = "gradient of softmax", .doc = "`y (dy - sum(dy y))` along the axis.",
    .in = { "dy", "y" }, .attrs = softmax_attrs, .attr_size = sizeof(AxisAttrs),
    .flags = OPF_ANY_LAYOUT | OPF_INTERNAL, .is_lead = softmax_is_lead, .shape = softmax_shape,
    .grad = softmax_dx_grad, .work = softmax_work, .emit = softmax_dx_emit,
};

static void log_softmax_parts(Builder *b, const Node *n, Node **out)
{
    Node *dy = n->in[0], *y = n->in[1];
    out[0] = mk_sub(b, dy, mk_mul(b, mk1(b, &op_exp, NULL, y), class_sum(b, n, dy)));
}

static void log_softmax_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    grad_of_parts(b, n, dy, dx, log_softmax_parts);
}

const OpDesc op_log_softmax_dx = {
    .name = "log_softmax_dx", .summary = "gradient of log_softmax", .doc = "`dy - e^y sum(dy)` along the axis.",
    .in = { "dy", "y" }, .attrs = softmax_attrs, .attr_size = sizeof(AxisAttrs),
    .flags = OPF_ANY_LAYOUT | OPF_INTERNAL, .is_lead = softmax_is_lead, .shape = softmax_shape,
    .grad = log_softmax_dx_grad, .work = softmax_work, .emit = log_softmax_dx_emit,
};

static void softmax_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_softmax_dx, n->attrs, dy[0], (Node *)n);
}

static void log_softmax_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_log_softmax_dx, n->attrs, dy[0], (Node *)n);
}

const OpDesc op_softmax = {
    .name = "softmax", .summary = "positive numbers that sum to one", .torch = "torch.softmax",
    .doc = "`y_i = e^(x_i - m) / sum_j e^(x_j - m)` with the largest element `m` along `axis` (the last by default).",
    .in = { "x" }, .attrs = softmax_attrs, .attr_size = sizeof(AxisAttrs),
    .flags = OPF_ACTIVATION | OPF_ANY_LAYOUT | OPF_INPLACE,
    .is_lead = softmax_is_lead, .shape = softmax_shape, .grad = softmax_grad, .work = softmax_work,
    .emit = softmax_emit,
    .onnx = "Softmax",
    .gradient = "dx_i = y_i (dy_i - sum_j dy_j y_j)",
    .samples = SAMPLES({ "softmax(x: f32[3,7])", "f32[3,7]" }, { "softmax(x: f32[2,5,3,2], axis = 1)", "f32[2,5,3,2]" },
                       { "softmax(x: f32[7], axis = 0)", "f32[7]" }),
};

const OpDesc op_log_softmax = {
    .name = "log_softmax", .summary = "logarithm of softmax", .torch = "torch.log_softmax",
    .doc = "`y_i = (x_i - m) - log sum_j e^(x_j - m)` with the largest element `m` along `axis` (the last by default).",
    .in = { "x" }, .attrs = softmax_attrs, .attr_size = sizeof(AxisAttrs),
    .flags = OPF_ACTIVATION | OPF_ANY_LAYOUT,
    .is_lead = softmax_is_lead, .shape = softmax_shape, .grad = log_softmax_grad, .work = softmax_work,
    .emit = log_softmax_emit,
    .onnx = "LogSoftmax",
    .gradient = "dx_i = dy_i - softmax(x)_i sum_j dy_j",
    .samples = SAMPLES({ "log_softmax(x: f32[3,7])", "f32[3,7]" },
                       { "log_softmax(x: f32[2,3,5], axis = 1)", "f32[2,3,5]" }),
};
