/* SPDX-License-Identifier: MIT
 *
 * Transposed convolution: the gradient of a convolution with respect to its input, as a layer. Its kernels
 * see the convolution that goes from the result y (large) to x (small).
 */
#include "ops/window.h"

#define TRANSPOSE_ATTRS                                                                            \
    { "stride",                                                                                    \
      ATTR_INT2,                                                                                   \
      offsetof(ConvAttrs, stride),                                                                 \
      .def = 1,                                                                                    \
      .min = 1,                                                                                    \
      .max = INT32_MAX,                                                                            \
      .doc = "Distance of the copies of the kernel in the result." },                              \
        { "pad",                                                                                   \
          ATTR_INT2,                                                                               \
          offsetof(ConvAttrs, even_pad),                                                           \
          .def = 0,                                                                                \
          .min = 0,                                                                                \
          .max = INT32_MAX,                                                                        \
          .doc = "Rows and columns cut off on every side of the result." },                        \
        { "output_pad",                                                                            \
          ATTR_INT2,                                                                               \
          offsetof(ConvAttrs, output_pad),                                                         \
          .def = 0,                                                                                \
          .min = 0,                                                                                \
          .max = INT32_MAX,                                                                        \
          .doc = "Rows and columns added at the bottom and right; less than the stride." },        \
        { "dilation", ATTR_INT2,        offsetof(ConvAttrs, dilation),          .def = 1,          \
          .min = 1,   .max = INT32_MAX, .doc = "Distance of the kernel's taps." },                 \
    {                                                                                              \
        "groups", ATTR_INT, offsetof(ConvAttrs, groups),                                           \
            .def = 1, .min = 1, .max = INT32_MAX,                                                  \
            .doc = "Channels are cut into this many groups that do not see each other."            \
    }

static const AttrDef conv2d_transpose_attrs[] = {
    TRANSPOSE_ATTRS,
    { "relu", ATTR_BOOL, offsetof(ConvAttrs, relu),
      .doc = "Apply relu to the result; set by fusion." },
    { 0 },
};
static const AttrDef conv2d_transpose_grad_attrs[] = { LIKE_ATTR(ConvAttrs),
                                                       TRANSPOSE_ATTRS,
                                                       { 0 } };

static const Layout weight_second[OP_MAX_IN] = { [1] = LAYOUT_KERNEL_T };
static const Layout weight_result[OP_MAX_RESULTS] = { LAYOUT_KERNEL_T };

static bool conv2d_transpose_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    static const char *const size_name[] = { "height", "width" };
    const ConvAttrs *a = n->attrs;
    const TensorType *x = &n->in[0]->type, *w = &n->in[1]->type;
    const Node *bias = n->in[2];
    if (!want(c, x->dtype == DT_F32 && x->rank == 4, IN(0), "x is f32[N, C, H, W]") ||
        !want(c, w->dtype == DT_F32 && w->rank == 4 && !w->batch, IN(1),
              "the weight is f32[in, out / groups, height, width], a constant shape"))
        return false;
    const int64_t g = a->groups, ci = x->dim[1];
    if (!want(c, g >= 1, ATTR(groups), "groups must be at least 1, got %lld", (ll)g) ||
        !want(c, ci % g == 0, ATTR(groups), "%lld groups do not divide the %lld channels of x",
              (ll)g, (ll)ci) ||
        !want(c, w->dim[0] == ci, IN(1), "the kernels read %lld channels, x has %lld",
              (ll)w->dim[0], (ll)ci))
        return false;
    int64_t co;
    if (!want(c, !__builtin_mul_overflow(w->dim[1], g, &co) && co <= INT32_MAX, ATTR(groups),
              "%lld groups of %lld output channels are too many", (ll)g, (ll)w->dim[1]))
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
        const int64_t s = a->stride[i], d = a->dilation[i], p = a->even_pad[i],
                      extra = a->output_pad[i];
        const int64_t in = x->dim[2 + i], f = w->dim[2 + i];
        int64_t span = 0, window = 0;
        if (!want(c, s >= 1, ATTR(stride), "stride must be at least 1, got %lld", (ll)s) ||
            !want(c, d >= 1, ATTR(dilation), "dilation must be at least 1, got %lld", (ll)d) ||
            !want(c, p >= 0, ATTR(pad), "pad must be 0 or more, got %lld", (ll)p) ||
            !want(c, extra >= 0 && (extra < s || extra < d), ATTR(output_pad),
                  "output_pad %lld must be less than the stride %lld or the dilation %lld",
                  (ll)extra, (ll)s, (ll)d) ||
            !want(c,
                  !__builtin_mul_overflow(in - 1, s, &span) &&
                      !__builtin_mul_overflow(f - 1, d, &window) && span < INT64_C(1) << 40 &&
                      window < INT64_C(1) << 40,
                  ATTR(stride), "the result would be too large"))
            return false;
        out->dim[2 + i] = span - 2 * p + window + 1 + extra;
        if (!want(c, out->dim[2 + i] >= 1, ATTR(pad),
                  "%s (%lld - 1)*%lld - 2*%lld + %lld + %lld = %lld is not positive", size_name[i],
                  (ll)in, (ll)s, (ll)p, (ll)(window + 1), (ll)extra, (ll)out->dim[2 + i]))
            return false;
    }
    return true;
}

static void conv2d_transpose_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const ConvAttrs *a = n->attrs, like_x = conv_with_like(a, n->in[0]), like_w = conv_with_like(a, n->in[1]);
    Node *d = a->relu ? mk2(b, &op_relu_dx, NULL, dy[0], (Node *)n) : dy[0];
    dx[0] = mk2(b, &op_conv2d_transpose_dx, &like_x, d, n->in[1]);
    dx[1] = mk2(b, &op_conv2d_transpose_dw, &like_w, n->in[0], d);
    if (n->in[2]) dx[2] = mk_bias_grad(b, d, 1);
}

/* Every input pixel meets every tap once. */
static Work transpose_work(const TensorType *x, const TensorType *w)
{
    return (Work){ .macs = type_numel(x, 0, 4) * type_numel(w, 1, 4) };
}

static Work conv2d_transpose_work(const Node *n)
{
    return transpose_work(&n->in[0]->type, &n->in[1]->type);
}

static ConvText text(const TensorType *y, const TensorType *x, const TensorType *w,
                     const ConvAttrs *a)
{
    return conv_text(y, x, w->dim[2], w->dim[3], a, a->even_pad[0], a->even_pad[1]);
}

static bool conv2d_transpose_is_lead(const Node *n)
{
    return !conv_is_team(type_numel(&n->in[0]->type, 1, 4) * type_numel(&n->in[1]->type, 1, 4));
}

static void conv2d_transpose_emit(CWriter *w, const Node *n)
{
    const ConvAttrs *a = n->attrs;
    const ConvText c = text(&n->type, &n->in[0]->type, &n->in[1]->type, a);
    if (conv2d_transpose_is_lead(n))
        cw_stmt(w, n, "nn_conv2d_transpose($rows, %s, %d, $0, $1, $2, $out);", c.s, a->relu);
    else
        cw_stmt(w, n, "nn_conv2d_transpose_team($team, %s, %s, %d, $0, $1, $2, $out);", rows_text(&n->type, 1).s, c.s,
                a->relu);
}

/* relu in the kernel instead of a node of its own: one node less, so the rule ends. */
static Node *conv2d_transpose_fuse_epilogue(Builder *b, const Node *n, const Node *user)
{
    ConvAttrs a = *(const ConvAttrs *)n->attrs;
    if (!op_is(user, &op_relu) || a.relu) return NULL;
    a.relu = true;
    return mk(b, n->op, &a, n->n_in, n->in);
}

/* Output channels are axis 1 of the weight, unless groups divide them. */
static Node *conv2d_transpose_absorb_affine(Builder *b, const Node *n, Node *scale, Node *shift)
{
    const ConvAttrs *a = n->attrs;
    if (a->relu || a->groups != 1) return NULL;
    return layer_with_affine(b, n, 1, scale, shift);
}

const OpDesc op_conv2d_transpose = {
    .name = "conv2d_transpose",
    .summary = "transposed convolution, the usual learned upsampling",
    .doc =
        "`y[n, o, i*stride + r*dilation - pad, ..] += x[n,k,i,j] * weight[k,o,r,s]`, plus `bias[o]`: the adjoint of "
        "conv2d. The size is `(W - 1)*stride - 2*pad + dilation*(F - 1) + 1 + output_pad`.",
    .torch = "nn.functional.conv_transpose2d",
    .in = { "x", "weight", "bias?" },
    .attrs = conv2d_transpose_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_LEAD | OPF_CHANNELS_LAST,
    .whole = 1 << 1 | 1 << 2,
    .is_lead = conv2d_transpose_is_lead,
    .operand_layout = weight_second,
    .shape = conv2d_transpose_shape,
    .grad = conv2d_transpose_grad,
    .work = conv2d_transpose_work,
    .emit = conv2d_transpose_emit,
    .fuse_epilogue = conv2d_transpose_fuse_epilogue,
    .absorb_affine = conv2d_transpose_absorb_affine,
    .onnx = "ConvTranspose",
    .gradient = "dx is conv2d of dy with the same weight; dweight sums dy times x over samples and "
                "positions; dbias sums dy",
    .samples = SAMPLES(
        { "conv2d_transpose(x: f32[2,3,4,5], weight: f32[3,5,3,2], bias: f32[5])", "f32[2,5,6,6]" },
        { "conv2d_transpose(x: f32[2,4,3,5], weight: f32[4,3,4,4], bias: f32[3], stride = 2, pad = 1)",
          "f32[2,3,6,10]" },
        { "conv2d_transpose(x: f32[1,2,4,3], weight: f32[2,17,3,3], stride = 2, pad = 1, output_pad = 1)",
          "f32[1,17,8,6]" },
        { "conv2d_transpose(x: f32[2,6,3,3], weight: f32[6,2,2,3], bias: f32[4], groups = 2, "
          "stride = [3, 1], dilation = [1, 2])",
          "f32[2,4,8,7]" },
        { "conv2d_transpose(x: f32[1,3,2,2], weight: f32[3,1,3,3], stride = 3, dilation = 2, "
          "pad = [2, 0], output_pad = 1, groups = 3)",
          "f32[1,3,5,9]" },
        { "conv2d_transpose(x: f32[2,24,5,5], weight: f32[24,27,4,4], bias: f32[27], stride = 2, pad = 1)",
          "f32[2,27,10,10]" }),
};

static int64_t conv2d_transpose_dx_scratch(const Node *n)
{
    return conv_dx_scratch(&n->in[1]->type);
}

static Work conv2d_transpose_dx_work(const Node *n)
{
    return transpose_work(&n->type, &n->in[1]->type);
}

static void conv2d_transpose_dx_emit(CWriter *w, const Node *n)
{
    cw_stmt(w, n, "nn_conv2d_transpose_dx($team, %s, %s, $0, $1, $scratch, $out);",
            rows_text(&n->type, 1).s, text(&n->in[0]->type, &n->type, &n->in[1]->type, n->attrs).s);
}

/* Linear in dy and in the weight. */
static void conv2d_transpose_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const ConvAttrs plain = *(const ConvAttrs *)n->attrs, like_w = conv_with_like(&plain, n->in[1]);
    dx[0] = mk2(b, &op_conv2d_transpose, &plain, dy[0], n->in[1]);
    dx[1] = mk2(b, &op_conv2d_transpose_dw, &like_w, dy[0], n->in[0]);
}

const OpDesc op_conv2d_transpose_dx = {
    .name = "conv2d_transpose_dx",
    .summary = "gradient of conv2d_transpose with respect to x",
    .doc = "The convolution of dy with the weight.",
    .in = { "dy", "weight" },
    .attrs = conv2d_transpose_grad_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_INTERNAL | OPF_CHANNELS_LAST,
    .operand_layout = weight_second,
    .shape = shape_from_attr,
    .grad = conv2d_transpose_dx_grad,
    .work = conv2d_transpose_dx_work,
    .scratch = conv2d_transpose_dx_scratch,
    .emit = conv2d_transpose_dx_emit,
};

static int64_t conv2d_transpose_dw_scratch(const Node *n)
{
    return conv_dw_scratch(&n->type);
}

static Work conv2d_transpose_dw_work(const Node *n)
{
    return transpose_work(&n->in[0]->type, &n->type);
}

static void conv2d_transpose_dw_emit(CWriter *w, const Node *n)
{
    const TensorType *x = &n->in[0]->type;
    cw_stmt(w, n, "nn_conv2d_transpose_dw($team, %s, %s, $0, $1, $scratch, $out, $acc);",
            rows_text(x, 1).s, text(&n->in[1]->type, x, &n->type, n->attrs).s);
}

/* The gradient of a weight's gradient has the weight's shape and takes its place. */
static void conv2d_transpose_dw_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const ConvAttrs plain = *(const ConvAttrs *)n->attrs, like_x = conv_with_like(&plain, n->in[0]);
    dx[0] = mk2(b, &op_conv2d_transpose_dx, &like_x, n->in[1], dy[0]);
    dx[1] = mk2(b, &op_conv2d_transpose, &plain, n->in[0], dy[0]);
}

const OpDesc op_conv2d_transpose_dw = {
    .name = "conv2d_transpose_dw",
    .summary = "gradient of conv2d_transpose with respect to the weight",
    .doc =
        "`dweight[k,o,r,s] = sum over n,i,j of x[n,k,i,j] * dy[n, o, i*stride + r*dilation - pad, ..]`",
    .in = { "x", "dy" },
    .attrs = conv2d_transpose_grad_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_INTERNAL | OPF_CHANNELS_LAST | OPF_ACCUMULATE,
    .result_layout = weight_result,
    .shape = shape_from_attr,
    .grad = conv2d_transpose_dw_grad,
    .work = conv2d_transpose_dw_work,
    .scratch = conv2d_transpose_dw_scratch,
    .emit = conv2d_transpose_dw_emit,
};
