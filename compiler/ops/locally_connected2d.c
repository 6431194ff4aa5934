/* SPDX-License-Identifier: MIT
 *
 * Convolution whose kernel is not shared: every position of the result has weights of its own. The weight is
 * [OH, OW, R, S, C, O], so that one position's kernel is contiguous and its outputs are neighbours.
 */
#include "ops/window.h"

static const AttrDef local_attrs[] = {
    { "stride", ATTR_INT2, offsetof(ConvAttrs, stride), .def = 1, .min = 1, .max = INT32_MAX,
      .doc = "Distance of positions, [h, w] or one number." },
    { "pad", ATTR_INTS, offsetof(ConvAttrs, pad),
      .doc = "Zero padding: [top, left, bottom, right]." },
    { 0 },
};
static const AttrDef local_dx_attrs[] = {
    LIKE_ATTR(ConvAttrs),
    { "stride", ATTR_INT2, offsetof(ConvAttrs, stride), .def = 1, .min = 1, .max = INT32_MAX,
      .doc = "Stride." },
    { "pad", ATTR_INTS, offsetof(ConvAttrs, pad), .doc = "Zero padding." },
    { 0 },
};

static bool local_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const ConvAttrs *a = n->attrs;
    const TensorType *x = &n->in[0]->type, *w = &n->in[1]->type;
    int64_t pad[4];
    if (!want(c, x->dtype == DT_F32 && x->rank == 4, IN(0), "x is f32[N, C, H, W]") ||
        !want(c, w->dtype == DT_F32 && w->rank == 6 && !w->batch, IN(1),
              "weight is f32[OH, OW, R, S, C, O]") ||
        !want(c, w->dim[4] == x->dim[1], IN(1), "weight is for %lld channels, x has %lld",
              (ll)w->dim[4], (ll)x->dim[1]) ||
        !window_pad(c, &a->pad, pad))
        return false;
    *out = *x;
    out->layout = LAYOUT_CANONICAL;
    out->dim[1] = w->dim[5];
    for (int i = 0; i < 2; i++) {
        if (!want(c, a->stride[i] >= 1, ATTR(stride), "stride must be at least 1, got %lld",
                  (ll)a->stride[i]))
            return false;
        const WindowAxis axis = { i, x->dim[2 + i], w->dim[2 + i], a->stride[i],
                                  1, pad[i],        pad[2 + i],    false,
                                  0 };
        if (!window_count(c, axis, &out->dim[2 + i]) ||
            !want(c, out->dim[2 + i] == w->dim[i], IN(1),
                  "weight is for %lld positions on axis %d, there are %lld", (ll)w->dim[i], i,
                  (ll)out->dim[2 + i]))
            return false;
    }
    return true;
}

static void local_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    ConvAttrs a = *(const ConvAttrs *)n->attrs;
    a.like = n->in[0]->type;
    dx[0] = mk2(b, &op_locally_connected2d_dx, &a, dy[0], n->in[1]);
    a.like = n->in[1]->type;
    dx[1] = mk2(b, &op_locally_connected2d_dw, &a, n->in[0], dy[0]);
}

/* NN_LOCAL(h, w, c, oh, ow, o, r, s, step_h, step_w, top, left) of image x and weight w */
static void local_emit(CWriter *cw, const Node *n, const char *call, const TensorType *x,
                       const TensorType *w, const char *rest)
{
    const ConvAttrs *a = n->attrs;
    int64_t pad[4];
    window_pad_get(&a->pad, pad);
    cw_stmt(
        cw, n,
        "%s, NN_LOCAL(%lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld), %s);",
        call, (ll)x->dim[2], (ll)x->dim[3], (ll)x->dim[1], (ll)w->dim[0], (ll)w->dim[1],
        (ll)w->dim[5], (ll)w->dim[2], (ll)w->dim[3], (ll)a->stride[0], (ll)a->stride[1], (ll)pad[0],
        (ll)pad[1], rest);
}

static void local_forward_emit(CWriter *w, const Node *n)
{
    local_emit(w, n, "nn_local($rows", &n->in[0]->type, &n->in[1]->type, "$0, $1, $out");
}

/* Every weight meets every sample once: forward, dx and dw cost the same. */
static Work local_cost(const TensorType *x, const TensorType *w)
{
    return (Work){ .macs = x->dim[0] * type_numel(w, 0, 6) };
}

static Work local_work(const Node *n)
{
    return local_cost(&n->in[0]->type, &n->in[1]->type);
}
static Work local_dw_work(const Node *n)
{
    return local_cost(&n->in[0]->type, &n->type);
}

static void local_window(const Node *n, int64_t extent[2], int64_t stride[2])
{
    const ConvAttrs *a = n->attrs;
    for (int i = 0; i < 2; i++) {
        extent[i] = n->in[1]->type.dim[2 + i];
        stride[i] = a->stride[i];
    }
}

const OpDesc op_locally_connected2d = {
    .name = "locally_connected2d",
    .summary = "convolution with a kernel for each position",
    .doc =
        "`y[n,o,i,j] = sum over c,r,s of x[n, c, i*stride + r - pad, j*stride + s - pad] * weight[i,j,r,s,c,o]`; the "
        "number of positions is that of conv2d and is rounded down.",
    .in = { "x", "weight" },
    .attrs = local_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_LEAD | OPF_CHANNELS_LAST,
    .whole = 2,
    .shape = local_shape,
    .grad = local_grad,
    .work = local_work,
    .window = local_window,
    .emit = local_forward_emit,
    .gradient = "as that of conv2d, but each position has a kernel of its own",
    .samples = SAMPLES(
        { "locally_connected2d(x: f32[2,3,5,6], w: f32[3,4,3,3,3,5])", "f32[2,5,3,4]" },
        { "locally_connected2d(x: f32[3,2,4,3], w: f32[3,2,2,3,2,17], stride = [2, 1], pad = [1, 0, 1, 1])",
          "f32[3,17,3,2]" },
        { "locally_connected2d(x: f32[1,2,1,1], w: f32[1,1,3,3,2,1], pad = [1])", "f32[1,1,1,1]" }),
};

static void local_dx_emit(CWriter *w, const Node *n)
{
    local_emit(w, n, "nn_local_dx($rows", &n->type, &n->in[1]->type, "$0, $1, $out");
}

/* Linear in dy and in the weight. */
static void local_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    ConvAttrs a = *(const ConvAttrs *)n->attrs;
    dx[0] = mk2(b, &op_locally_connected2d, &a, dy[0], n->in[1]);
    a.like = n->in[1]->type;
    dx[1] = mk2(b, &op_locally_connected2d_dw, &a, dy[0], n->in[0]);
}

const OpDesc op_locally_connected2d_dx = {
    .name = "locally_connected2d_dx",
    .summary = "gradient of locally_connected2d for x",
    .doc = "Each dy, times its weights, goes to the window it came from.",
    .in = { "dy", "weight" },
    .attrs = local_dx_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_LEAD | OPF_CHANNELS_LAST | OPF_INTERNAL,
    .whole = 2,
    .shape = shape_from_attr,
    .grad = local_dx_grad,
    .work = local_work,
    .emit = local_dx_emit,
};

static void local_dw_emit(CWriter *w, const Node *n)
{
    char call[96];
    const RowsText rows = rows_text(&n->in[0]->type, 1);
    call[0] = '\0';
    strcat(strcat(call, "nn_local_dw($team, "), rows.s);
    local_emit(w, n, call, &n->in[0]->type, &n->type, "$0, $1, $out, $acc");
}

/* The gradient of a weight's gradient has the weight's shape and takes its place. */
static void local_dw_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    ConvAttrs a = *(const ConvAttrs *)n->attrs;
    dx[1] = mk2(b, &op_locally_connected2d, &a, n->in[0], dy[0]);
    a.like = n->in[0]->type;
    dx[0] = mk2(b, &op_locally_connected2d_dx, &a, n->in[1], dy[0]);
}

const OpDesc op_locally_connected2d_dw = {
    .name = "locally_connected2d_dw",
    .summary = "gradient of locally_connected2d for the weights",
    .doc =
        "`dw[i,j,r,s,c,o] = sum over n of x[n, c, ..] * dy[n,o,i,j]`, in the order of the samples.",
    .in = { "x", "dy" },
    .attrs = local_dx_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_CHANNELS_LAST | OPF_INTERNAL | OPF_ACCUMULATE,
    .shape = shape_from_attr,
    .grad = local_dw_grad,
    .work = local_dw_work,
    .emit = local_dw_emit,
};
