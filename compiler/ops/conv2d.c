/* SPDX-License-Identifier: MIT
 *
 * Convolution of images and its two gradients. See runtime/kernels/conv2d.h for how it is computed.
 */
#include "ops/conv2d_norm.h"

#include <stdio.h>

/* In the order of conv2d; the gradients repeat them behind `like`. */
#define CONV_ATTRS                                                                                 \
    { "stride",                                                                                    \
      ATTR_INT2,                                                                                   \
      offsetof(ConvAttrs, stride),                                                                 \
      .def = 1,                                                                                    \
      .min = 1,                                                                                    \
      .max = INT32_MAX,                                                                            \
      .doc = "Distance of windows, [h, w] or one number." },                                       \
        { "pad", ATTR_INTS, offsetof(ConvAttrs, pad),                                              \
          .doc = "Zeros around the image: [top, left, bottom, right]." },                          \
        { "dilation", ATTR_INT2,        offsetof(ConvAttrs, dilation),          .def = 1,          \
          .min = 1,   .max = INT32_MAX, .doc = "Distance of the kernel's taps." },                 \
        { "groups",                                                                                \
          ATTR_INT,                                                                                \
          offsetof(ConvAttrs, groups),                                                             \
          .def = 1,                                                                                \
          .min = 1,                                                                                \
          .max = INT32_MAX,                                                                        \
          .doc = "Channels are cut into this many groups that do not see each other." },           \
        { "tile", ATTR_INT, offsetof(ConvAttrs, tile), .def = 2, .min = 2, .max = 4,               \
          .doc = "2, or 4: results may be computed in tiles of 4x4 where that is faster, which "   \
                 "rounds more." },                                                                 \
    {                                                                                              \
        "ceil", ATTR_BOOL, offsetof(ConvAttrs, ceil),                                              \
            .doc = "Round the number of windows up instead of down."                               \
    }

const AttrDef conv2d_attrs[] = {
    CONV_ATTRS,
    { "relu", ATTR_BOOL, offsetof(ConvAttrs, relu),
      .doc = "Apply relu to the result; set by fusion." },
    { 0 },
};
const AttrDef conv2d_grad_attrs[] = { LIKE_ATTR(ConvAttrs), CONV_ATTRS, { 0 } };

const Layout conv2d_operand_layout[OP_MAX_IN] = { [1] = LAYOUT_KERNEL };
static const Layout weight_result[OP_MAX_RESULTS] = { LAYOUT_KERNEL };

static bool conv2d_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const ConvAttrs *a = n->attrs;
    const TensorType *x = &n->in[0]->type, *w = &n->in[1]->type;
    const Node *bias = n->in[2];
    int64_t pad[4];
    if (!want(c, x->dtype == DT_F32 && x->rank == 4, IN(0), "x is f32[N, C, H, W]") ||
        !want(c, w->dtype == DT_F32 && w->rank == 4 && !w->batch, IN(1),
              "the weight is f32[out, in / groups, height, width], a constant shape"))
        return false;
    const int64_t g = a->groups, ci = x->dim[1], co = w->dim[0];
    if (!want(c, g >= 1, ATTR(groups), "groups must be at least 1, got %lld", (ll)g) ||
        !want(c, ci % g == 0, ATTR(groups), "%lld groups do not divide the %lld channels of x",
              (ll)g, (ll)ci) ||
        !want(c, co % g == 0, ATTR(groups),
              "%lld groups do not divide the %lld channels of the result", (ll)g, (ll)co) ||
        !want(c, w->dim[1] == ci / g, IN(1), "the kernels read %lld channels, x has %lld%s",
              (ll)w->dim[1], (ll)(ci / g), g > 1 ? " per group" : "") ||
        !want(c, a->stride[0] >= 1 && a->stride[1] >= 1, ATTR(stride),
              "stride must be at least 1, got [%lld, %lld]", (ll)a->stride[0], (ll)a->stride[1]) ||
        !want(c, a->dilation[0] >= 1 && a->dilation[1] >= 1, ATTR(dilation),
              "dilation must be at least 1, got [%lld, %lld]", (ll)a->dilation[0],
              (ll)a->dilation[1]) ||
        !want(c, a->tile != 3, ATTR(tile), "tile must be 2 or 4, got %lld", (ll)a->tile) ||
        !window_pad(c, &a->pad, pad))
        return false;
    if (bias && !want(c,
                      bias->type.dtype == DT_F32 && bias->type.rank == 1 &&
                          bias->type.dim[0] == co && !bias->type.batch,
                      IN(2), "the bias is f32[%lld], one number per output channel", (ll)co))
        return false;
    *out = *x;
    out->layout = LAYOUT_CANONICAL;
    out->dim[1] = co;
    for (int i = 0; i < 2; i++) {
        const WindowAxis axis = { i,
                                  x->dim[2 + i],
                                  w->dim[2 + i],
                                  a->stride[i],
                                  a->dilation[i],
                                  pad[i],
                                  pad[2 + i],
                                  a->ceil,
                                  1 };
        if (!window_count(c, axis, &out->dim[2 + i])) return false;
    }
    return true;
}

ConvAttrs conv_with_like(const ConvAttrs *a, const Node *n)
{
    ConvAttrs copy = *a;
    copy.like = n->type;
    copy.relu = false;
    return copy;
}

static void conv2d_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const ConvAttrs *a = n->attrs, like_x = conv_with_like(a, n->in[0]), like_w = conv_with_like(a, n->in[1]);
    Node *d = a->relu ? mk2(b, &op_relu_dx, NULL, dy[0], (Node *)n) : dy[0];
    dx[0] = mk2(b, &op_conv2d_dx, &like_x, d, n->in[1]);
    dx[1] = mk2(b, &op_conv2d_dw, &like_w, n->in[0], d);
    if (n->in[2]) dx[2] = mk_bias_grad(b, d, 1);
}

static Work conv_work(const TensorType *y, const TensorType *w)
{
    const int64_t n = type_numel(y, 0, 4);
    return (Work){ .macs = n * type_numel(w, 1, 4), .flops = n };
}

Work conv2d_work(const Node *n)
{
    return conv_work(&n->type, &n->in[1]->type);
}

ConvText conv_text(const TensorType *x, const TensorType *y, int64_t r, int64_t s,
                   const ConvAttrs *a, int64_t pad_top, int64_t pad_left)
{
    ConvText t;
    snprintf(t.s, sizeof t.s,
             "NN_CONV(%lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, "
             "%lld, %lld, %lld)",
             (ll)x->dim[2], (ll)x->dim[3], (ll)x->dim[1], (ll)y->dim[2], (ll)y->dim[3],
             (ll)y->dim[1], (ll)r, (ll)s, (ll)a->stride[0], (ll)a->stride[1], (ll)pad_top,
             (ll)pad_left, (ll)a->dilation[0], (ll)a->dilation[1], (ll)a->groups);
    return t;
}

/* The same convolution by tiles of that side. */
static ConvText with_tile(ConvText text, int64_t tile)
{
    if (tile != 4) return text;
    ConvText t;
    snprintf(t.s, sizeof t.s, "nn_tiles_4x4(%.*s)", (int)sizeof t.s - 16, text.s);
    return t;
}

ConvText conv2d_text(WinogradPass pass, const TensorType *x, const TensorType *y, const TensorType *w,
                     const ConvAttrs *a)
{
    int64_t pad[4];
    window_pad_get(&a->pad, pad);
    return with_tile(conv_text(x, y, w->dim[2], w->dim[3], a, pad[0], pad[1]), winograd_tile(pass, x, y, w, a));
}

/* weight[O, I/g, R, S] */
bool conv_is_depthwise(const TensorType *w, const ConvAttrs *a)
{
    return a->groups > 1 && w->dim[0] == a->groups && w->dim[1] == 1;
}

/* A 1x1 kernel without stride and padding, onto as many channels as the longest vector has lanes. */
static bool is_pointwise(int64_t r, int64_t s, int64_t channels, const ConvAttrs *a)
{
    int64_t pad[4];
    window_pad_get(&a->pad, pad);
    return r == 1 && s == 1 && a->stride[0] == 1 && a->stride[1] == 1 && a->groups == 1 && channels >= CONV_LANES &&
           !pad[0] && !pad[1] && !pad[2] && !pad[3];
}

const char *conv_form(WinogradPass pass, const TensorType *x, const TensorType *y, const TensorType *w,
                      const ConvAttrs *a)
{
    if (conv_is_depthwise(w, a)) return "_depthwise";
    if (winograd_tile(pass, x, y, w, a)) return "_winograd";
    const int64_t lanes = pass == WINOGRAD_DW ? CONV_LANES : w->dim[pass == WINOGRAD_DX]; /* sums of dw go along both */
    return is_pointwise(w->dim[2], w->dim[3], lanes, a) ? "_pointwise" : "";
}

/* Few input channels: see nn_conv2d_dw_merged. */
static bool merged(const TensorType *w, const ConvAttrs *a)
{
    return a->groups == 1 && w->dim[1] < 8 && a->dilation[1] == 1 && w->dim[3] * w->dim[1] <= 64;
}

/* winograd_tile of the layer: WINOGRAD_Y, or WINOGRAD_KEPT and WINOGRAD_ONE for weights that are transformed once. */
static int conv2d_tile(const Node *n, WinogradPass pass)
{
    return winograd_tile(pass, &n->in[0]->type, &n->type, &n->in[1]->type, n->attrs);
}

/* Below, the barriers around a team's kernel cost more than it gains where there are few samples. A little above they
 * do so on some machines, where calls are found to run faster on one thread (runtime/trial.h). */
bool conv_is_team(int64_t macs_per_sample)
{
    return macs_per_sample >= 100000;
}

/* The direct kernels compute any samples, each by one thread where one is small; Winograd's first transforms the
 * weights, which the threads share. */
static bool conv2d_is_lead(const Node *n)
{
    return !conv2d_tile(n, WINOGRAD_Y) && !conv_is_team(type_numel(&n->type, 1, 4) * type_numel(&n->in[1]->type, 1, 4));
}

int64_t conv2d_scratch(const Node *n)
{
    const int tile = conv2d_tile(n, WINOGRAD_Y);
    return tile ? winograd_scratch(WINOGRAD_Y, tile, &n->in[1]->type) : 0;
}

static void conv2d_emit(CWriter *w, const Node *n)
{
    const ConvAttrs *a = n->attrs;
    const TensorType *x = &n->in[0]->type, *wt = &n->in[1]->type;
    const char *form = conv_form(WINOGRAD_Y, x, &n->type, wt, a),
               *add = op_is(n, &op_conv2d_add) ? ", $3" : conv_is_depthwise(wt, a) ? "" : ", NULL";
    const ConvText text = conv2d_text(WINOGRAD_Y, x, &n->type, wt, a);
    if (conv2d_tile(n, WINOGRAD_Y))
        cw_stmt(w, n, "nn_conv2d%s($team, %s, %s, $relu, $0, $1, $2%s, $scratch, $out);", form, rows_text(x, 1).s,
                text.s, add);
    else if (conv2d_is_lead(n))
        cw_stmt(w, n, "nn_conv2d%s($rows, %s, $relu, $0, $1, $2%s, $out);", form, text.s, add);
    else
        cw_stmt(w, n, "nn_conv2d%s_team($team, %s, %s, $relu, $0, $1, $2%s, $out);", form, rows_text(x, 1).s, text.s,
                add);
}

/* The sum with another branch, then relu, in the kernel: one node less each, so the rule ends. */
static Node *conv2d_fuse_epilogue(Builder *b, const Node *n, const Node *user)
{
    ConvAttrs a = *(const ConvAttrs *)n->attrs;
    const bool plain = op_is(n, &op_conv2d);
    if (a.relu) return NULL;
    if (op_is(user, &op_relu)) {
        a.relu = true;
        return mk(b, n->op, &a, n->n_in, n->in);
    }
    Node *other = branch_beside(n, user);
    if (!op_is(user, &op_add) || !other || (plain ? conv_is_depthwise(&n->in[1]->type, &a) : n->in[3] != NULL))
        return NULL;
    Node *in[OP_MAX_IN] = { n->in[0], n->in[1], n->in[2], other };
    for (int i = 4; i < n->n_in; i++) in[i] = n->in[i];
    return mk(b, plain ? &op_conv2d_add : n->op, &a, plain ? 4 : n->n_in, in);
}

/* Output channels are axis 0 of the weight, in all groups. */
static Node *conv2d_absorb_affine(Builder *b, const Node *n, Node *scale, Node *shift)
{
    if (((const ConvAttrs *)n->attrs)->relu) return NULL;
    return layer_with_affine(b, n, 0, scale, shift);
}

/* ---- with transformed weights ---- */

static const AttrDef tile_attrs[] = {
    { "tile", ATTR_INT, offsetof(ConvAttrs, tile), .def = 2, .min = 2, .max = 4,
      .doc = "Outputs along a side of a tile, 2 or 4." },
    { 0 },
};

static bool winograd_weights_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *w = &n->in[0]->type;
    const ConvAttrs *a = n->attrs;
    *out = type_of(DT_F32, 1, (int64_t[]){ winograd_scratch(WINOGRAD_Y, (int)a->tile, w) });
    return want(c, w->rank == 4, IN(0), "the weight is f32[out, in, 3, 3]");
}

static void winograd_weights_emit(CWriter *w, const Node *n)
{
    const TensorType *wt = &n->in[0]->type;
    const ConvAttrs *a = n->attrs;
    cw_stmt(w, n, "nn_winograd_weights($team, %lld, %lld, %lld, $0, $out);", (ll)a->tile, (ll)wt->dim[1],
            (ll)wt->dim[0]);
}

static const Layout weight_first[OP_MAX_IN] = { [0] = LAYOUT_KERNEL };

const OpDesc op_winograd_weights = {
    .name = "winograd_weights",
    .summary = "kernels of a convolution, transformed for Winograd's algorithm",
    .doc = "16 numbers for each kernel of 3x3, 36 for tiles of 4x4, in the order in which runtime/kernels/winograd.h "
           "reads them.",
    .in = { "weight" },
    .attrs = tile_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_INTERNAL,
    .operand_layout = weight_first,
    .shape = winograd_weights_shape,
    .no_grad = "weights are transformed apart in infer routines only",
    .emit = winograd_weights_emit,
};

/* Of the direct algorithm, as everywhere: what the layer is, not how it is computed. */
static Work prepared_work(const Node *n)
{
    const int64_t *k = ((const ConvAttrs *)n->attrs)->kernel, y = type_numel(&n->type, 0, 4);
    return (Work){ .macs = y * n->in[0]->type.dim[1] * k[0] * k[1], .flops = y };
}

/* The geometry, with the kernel's size from the attribute: such weights do not show it. */
static ConvText prepared_text(const Node *n)
{
    const ConvAttrs *a = n->attrs;
    int64_t pad[4];
    window_pad_get(&a->pad, pad);
    return conv_text(&n->in[0]->type, &n->type, a->kernel[0], a->kernel[1], a, pad[0], pad[1]);
}

static void conv2d_winograd_emit(CWriter *w, const Node *n)
{
    const bool both = n->in[4] != NULL;
    cw_stmt(w, n, "nn_conv2d_%s($team, %s, %s, $relu, $0, $1, %s$2, $3, $out);", both ? "prepared" : "winograd_u",
            rows_text(&n->in[0]->type, 1).s,
            with_tile(prepared_text(n), ((const ConvAttrs *)n->attrs)->tile).s, both ? "$4, " : "");
}

static const AttrDef conv2d_prepared_attrs[] = {
    LIKE_ATTR(ConvAttrs),
    CONV_ATTRS,
    { "kernel", ATTR_INT2, offsetof(ConvAttrs, kernel), .def = 1, .min = 1, .max = INT32_MAX,
      .doc = "Its height and width." },
    { "relu", ATTR_BOOL, offsetof(ConvAttrs, relu), .doc = "Apply relu to the result; set by fusion." },
    { 0 },
};

const OpDesc op_conv2d_winograd = {
    .name = "conv2d_winograd",
    .summary = "conv2d of 3x3 kernels from their transformed weights",
    .doc = "As conv2d, with another tensor added to the result before relu; `like` gives the shape of the result, "
           "which transformed weights do not show. With the weights as panels too (conv2d_panels), calls of one sample "
           "take those: they are fewer to read.",
    .in = { "x", "u", "bias?", "add?", "panels?" },
    .attrs = conv2d_prepared_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_INTERNAL | OPF_CHANNELS_LAST,
    .shape = shape_from_attr,
    .no_grad = "weights are transformed apart in infer routines only",
    .work = prepared_work,
    .emit = conv2d_winograd_emit,
    .fuse_epilogue = conv2d_fuse_epilogue,
};

/* ---- with weights as panels ---- */

/* Weights that the direct kernels copy block by block (NN_WALK_FAR). */
static bool conv2d_panels(const Node *n)
{
    const TensorType *w = &n->in[1]->type;
    const ConvAttrs *a = n->attrs;
    return a->groups == 1 && !conv2d_is_lead(n) && w->dim[0] >= CONV_LANES &&
           type_numel(w, 0, 4) > 131072;
}

static bool panels_weights_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *w = &n->in[0]->type;
    /* As many columns as the widest panel could hold. */
    const int64_t most = 4 * CONV_LANES, cols = (w->dim[0] + most - 1) / most * most;
    *out = type_of(DT_F32, 1, (int64_t[]){ type_numel(w, 1, 4) * cols });
    return want(c, w->rank == 4, IN(0), "the weight is f32[out, in, height, width]");
}

/* Panels are as wide as the tiles of the layer that reads them. */
static void panels_weights_emit(CWriter *w, const Node *n)
{
    const ConvAttrs *a = n->attrs;
    const TensorType *wt = &n->in[0]->type;
    TensorType x = a->like, y = a->like;
    x.dim[1] = wt->dim[1];
    /* A 1x1 kernel without stride sees as many pixels as it writes; no other size is asked for. */
    x.dim[2] = (a->like.dim[2] - 1) * a->stride[0] + 1;
    x.dim[3] = (a->like.dim[3] - 1) * a->stride[1] + 1;
    int64_t pad[4];
    window_pad_get(&a->pad, pad);
    cw_stmt(w, n, "nn_conv2d_panels_weights($team, %s, $0, $out);",
            conv_text(&x, &y, wt->dim[2], wt->dim[3], a, pad[0], pad[1]).s);
}

const OpDesc op_conv2d_panels_weights = {
    .name = "conv2d_panels_weights",
    .summary = "kernels of a convolution in the order in which its tiles read them",
    .doc = "`like` is the result of the layer: how wide its tiles are decides how wide the panels are.",
    .in = { "weight" },
    .attrs = conv2d_grad_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_INTERNAL,
    .operand_layout = weight_first,
    .shape = panels_weights_shape,
    .no_grad = "weights are copied to panels apart in infer routines only",
    .emit = panels_weights_emit,
};

static void conv2d_panels_emit(CWriter *w, const Node *n)
{
    const ConvAttrs *a = n->attrs;
    cw_stmt(w, n, "nn_conv2d%s_panels($team, %s, %s, $relu, $0, $1, $2, $3, $out);",
            is_pointwise(a->kernel[0], a->kernel[1], n->type.dim[1], a) ? "_pointwise" : "",
            rows_text(&n->in[0]->type, 1).s, prepared_text(n).s);
}

const OpDesc op_conv2d_panels = {
    .name = "conv2d_panels",
    .summary = "conv2d from weights as panels",
    .doc = "As conv2d, with another tensor added to the result before relu; `like` gives the shape of the result and "
           "`kernel` that of the kernels, which panels do not show.",
    .in = { "x", "panels", "bias?", "add?" },
    .attrs = conv2d_prepared_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_INTERNAL | OPF_CHANNELS_LAST,
    .shape = shape_from_attr,
    .no_grad = "weights are copied to panels apart in infer routines only",
    .work = prepared_work,
    .emit = conv2d_panels_emit,
    .fuse_epilogue = conv2d_fuse_epilogue,
};

/* Weights in the form that the layer's kernel reads, if that is another one; in both, where one sample likes the other
 * one better than many do. */
static Node *conv2d_prepare(Builder *b, const Node *n)
{
    const int tile = conv2d_tile(n, WINOGRAD_KEPT);
    const bool panels = conv2d_panels(n) && !(tile && conv2d_tile(n, WINOGRAD_ONE));
    if (!tile && !panels) return NULL;
    ConvAttrs a = conv_with_like(n->attrs, n);
    a.tile = tile ? tile : 2;
    Node *u = tile ? prepared_weight(b, n, &op_winograd_weights, &(ConvAttrs){ .tile = tile }, "u") : NULL,
         *p = panels ? prepared_weight(b, n, &op_conv2d_panels_weights, &a, "panels") : NULL;
    a.relu = ((const ConvAttrs *)n->attrs)->relu;
    a.kernel[0] = n->in[1]->type.dim[2];
    a.kernel[1] = n->in[1]->type.dim[3];
    if (!tile) return mk3(b, &op_conv2d_panels, &a, n->in[0], p, n->in[2]);
    Node *in[] = { n->in[0], u, n->in[2], NULL, p };
    return mk(b, &op_conv2d_winograd, &a, 5, in);
}

static void conv2d_window(const Node *n, int64_t extent[2], int64_t stride[2])
{
    const ConvAttrs *a = n->attrs;
    for (int i = 0; i < 2; i++) {
        extent[i] = a->dilation[i] * (n->in[1]->type.dim[2 + i] - 1) + 1;
        stride[i] = a->stride[i];
    }
}

const OpDesc op_conv2d = {
    .name = "conv2d",
    .summary = "2-D convolution of a batch of images",
    .doc =
        "`y[n,k,i,j] = bias[k] + sum over c,r,s of x[n, c, i*stride + r*dilation - pad, ..] * weight[k,c,r,s]`; "
        "outside the image x is 0. `N = (W - F + P)/S + 1` with `F = dilation*(k - 1) + 1`, rounded down; with "
        "`ceil` up, but a last window that would start beyond the image is dropped. Group g of the output channels "
        "reads group g of the input channels; `groups` equal to both makes it depthwise.",
    .torch = "nn.functional.conv2d",
    .in = { "x", "weight", "bias?" },
    .attrs = conv2d_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_LEAD | OPF_CHANNELS_LAST,
    .whole = 1 << 1 | 1 << 2,
    .is_lead = conv2d_is_lead,
    .operand_layout = conv2d_operand_layout,
    .shape = conv2d_shape,
    .grad = conv2d_grad,
    .work = conv2d_work,
    .scratch = conv2d_scratch,
    .window = conv2d_window,
    .emit = conv2d_emit,
    .fuse_epilogue = conv2d_fuse_epilogue,
    .with_sums = conv2d_with_sums,
    .absorb_affine = conv2d_absorb_affine,
    .prepare = conv2d_prepare,
    .onnx = "Conv",
    .gradient =
        "dx is conv2d_transpose of dy with the same weight; dweight sums x times dy over "
        "samples and positions; dbias sums dy",
    .samples = SAMPLES(
        { "conv2d(x: f32[2,3,7,5], weight: f32[5,3,3,2], bias: f32[5])", "f32[2,5,5,4]" },
        { "conv2d(x: f32[2,2,6,9], weight: f32[17,2,3,3], pad = [1, 1, 1, 1])", "f32[2,17,6,9]" },
        { "conv2d(x: f32[3,4,7,8], weight: f32[3,4,3,3], bias: f32[3], stride = 2, pad = [1, 0, 0, 1])",
          "f32[3,3,3,4]" },
        { "conv2d(x: f32[2,1,9,7], weight: f32[6,1,5,5], bias: f32[6], pad = [2, 2, 2, 2], relu = true)",
          "f32[2,6,9,7]" },
        { "conv2d(x: f32[1,9,11,10], weight: f32[4,9,3,3], dilation = [2, 3], pad = [2, 3, 2, 3])",
          "f32[1,4,11,10]" },
        { "conv2d(x: f32[2,6,5,5], weight: f32[9,2,2,3], bias: f32[9], groups = 3, stride = [1, 2])",
          "f32[2,9,4,2]" },
        { "conv2d(x: f32[2,5,6,7], weight: f32[5,1,3,3], bias: f32[5], groups = 5, pad = [1, 1, 1, 1])",
          "f32[2,5,6,7]" },
        { "conv2d(x: f32[2,4,7,7], weight: f32[8,1,3,3], groups = 4, stride = 3, ceil = true)",
          "f32[2,8,3,3]" },
        { "conv2d(x: f32[3,7,3,5], weight: f32[11,7,1,1], bias: f32[11])", "f32[3,11,3,5]" },
        { "conv2d(x: f32[2,3,6,6], weight: f32[4,3,1,1], stride = 2)", "f32[2,4,3,3]" },
        { "conv2d(x: f32[1,2,3,12], weight: f32[2,2,1,9], pad = [0, 4, 0, 4])", "f32[1,2,3,12]" },
        { "conv2d(x: f32[2,16,11,8], weight: f32[32,16,3,3], bias: f32[32], pad = [1, 1, 1, 1], relu = true)",
          "f32[2,32,11,8]" },
        { "conv2d(x: f32[2,70,8,9], weight: f32[60,70,1,1], bias: f32[60])", "f32[2,60,8,9]" },
        { "conv2d(x: f32[1,32,31,30], weight: f32[32,1,3,3], groups = 32, pad = [1, 1, 1, 1])", "f32[1,32,31,30]" }),
};

const OpDesc op_conv2d_add = {
    .name = "conv2d_add",
    .summary = "conv2d, the sum with another branch and relu of that",
    .doc = "`conv2d(x, weight, bias) + add`, then relu if asked.",
    .in = { "x", "weight", "bias?", "add" },
    .attrs = conv2d_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_INTERNAL | OPF_LEAD | OPF_CHANNELS_LAST,
    .whole = 1 << 1 | 1 << 2,
    .is_lead = conv2d_is_lead,
    .operand_layout = conv2d_operand_layout,
    .shape = conv2d_shape,
    .no_grad = "it is made when gradients are there already",
    .work = conv2d_work,
    .scratch = conv2d_scratch,
    .emit = conv2d_emit,
    .fuse_epilogue = conv2d_fuse_epilogue,
};

/* ---- gradients ---- */

int64_t conv_dx_scratch(const TensorType *w)
{
    return type_numel(w, 0, 4);
}

/* NN_DW_PARTS partial sums of a small gradient (NN_DW_SMALL); a depthwise one is always summed so. */
int64_t conv_dw_scratch(const TensorType *w)
{
    const int64_t size = type_numel(w, 0, 4);
    return size <= 16384 || w->dim[1] == 1 ? 8 * size : 0;
}

static int conv2d_dx_tile(const Node *n)
{
    return winograd_tile(WINOGRAD_DX, &n->type, &n->in[0]->type, &n->in[1]->type, n->attrs);
}

int64_t conv2d_dx_scratch(const Node *n)
{
    const TensorType *w = &n->in[1]->type;
    if (conv_is_depthwise(w, n->attrs)) return 0;
    const int tile = conv2d_dx_tile(n);
    return tile ? winograd_scratch(WINOGRAD_DX, tile, w) : conv_dx_scratch(w);
}

Work conv2d_dx_work(const Node *n)
{
    return conv_work(&n->in[0]->type, &n->in[1]->type);
}

static void conv2d_dx_emit(CWriter *w, const Node *n)
{
    const TensorType *wt = &n->in[1]->type;
    const TensorType *dy = &n->in[0]->type;
    cw_stmt(w, n, "nn_conv2d%s_dx($team, %s, %s, $0, $1, $scratch, $out);",
            conv_form(WINOGRAD_DX, &n->type, dy, wt, n->attrs), rows_text(&n->type, 1).s,
            conv2d_text(WINOGRAD_DX, &n->type, dy, wt, n->attrs).s);
}

/* Linear in dy and in the weight. */
static void conv2d_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const ConvAttrs plain = *(const ConvAttrs *)n->attrs, like_w = conv_with_like(&plain, n->in[1]);
    dx[0] = mk2(b, &op_conv2d, &plain, dy[0], n->in[1]);
    dx[1] = mk2(b, &op_conv2d_dw, &like_w, dy[0], n->in[0]);
}

const OpDesc op_conv2d_dx = {
    .name = "conv2d_dx",
    .summary = "gradient of conv2d with respect to x",
    .doc =
        "The convolution of dy with the transposed weights, one per phase of the stride. `like` gives the shape of "
        "x, which dy's shape does not determine when the stride is above 1.",
    .in = { "dy", "weight" },
    .attrs = conv2d_grad_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_INTERNAL | OPF_CHANNELS_LAST,
    .operand_layout = conv2d_operand_layout,
    .shape = shape_from_attr,
    .grad = conv2d_dx_grad,
    .work = conv2d_dx_work,
    .scratch = conv2d_dx_scratch,
    .emit = conv2d_dx_emit,
    .fuse_epilogue = conv2d_dx_fuse_epilogue,
    .with_sums = conv2d_dx_with_sums,
};

static int conv2d_dw_tile(const Node *n)
{
    return winograd_tile(WINOGRAD_DW, &n->in[0]->type, &n->in[1]->type, &n->type, n->attrs);
}

static int64_t conv2d_dw_scratch(const Node *n)
{
    const int tile = conv2d_dw_tile(n);
    return tile ? winograd_scratch(WINOGRAD_DW, tile, &n->type) : conv_dw_scratch(&n->type);
}

static Work conv2d_dw_work(const Node *n)
{
    return conv_work(&n->in[1]->type, &n->type);
}

static void conv2d_dw_emit(CWriter *w, const Node *n)
{
    const TensorType *x = &n->in[0]->type, *dy = &n->in[1]->type;
    const bool few = merged(&n->type, n->attrs) && !conv2d_dw_tile(n);
    cw_stmt(w, n, "nn_conv2d%s_dw%s($team, %s, %s, $0, $1, $scratch, $out, $acc);",
            few ? "" : conv_form(WINOGRAD_DW, x, dy, &n->type, n->attrs), few ? "_merged" : "", rows_text(x, 1).s,
            conv2d_text(WINOGRAD_DW, x, dy, &n->type, n->attrs).s);
}

/* The gradient of a weight's gradient has the weight's shape and takes its place. */
static void conv2d_dw_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const ConvAttrs plain = *(const ConvAttrs *)n->attrs, like_x = conv_with_like(&plain, n->in[0]);
    dx[0] = mk2(b, &op_conv2d_dx, &like_x, n->in[1], dy[0]);
    dx[1] = mk2(b, &op_conv2d, &plain, n->in[0], dy[0]);
}

const OpDesc op_conv2d_dw = {
    .name = "conv2d_dw",
    .summary = "gradient of conv2d with respect to the weight",
    .doc =
        "`dweight[k,c,r,s] = sum over n,i,j of x[n, c, i*stride + r*dilation - pad, ..] * dy[n,k,i,j]`, stored in "
        "the order of the weight.",
    .in = { "x", "dy" },
    .attrs = conv2d_grad_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_INTERNAL | OPF_CHANNELS_LAST | OPF_ACCUMULATE,
    .result_layout = weight_result,
    .shape = shape_from_attr,
    .grad = conv2d_dw_grad,
    .work = conv2d_dw_work,
    .scratch = conv2d_dw_scratch,
    .emit = conv2d_dw_emit,
};
