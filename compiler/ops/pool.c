/* SPDX-License-Identifier: MIT
 *
 * Pooling over windows of images and over whole images. Maximum pooling keeps the position of each maximum
 * within its window for the backward pass, in a byte when that suffices.
 */
#include "ops/window.h"

#include <stdio.h>

typedef struct PoolAttrs {
    TensorType like; /* gradients only */
    int64_t k[2], stride[2], dilation[2];
    IntList pad;
    bool ceil, count_pad;
} PoolAttrs;

#define WINDOW_ATTRS                                                                               \
    { "k",                                                                                         \
      ATTR_INT2,                                                                                   \
      offsetof(PoolAttrs, k),                                                                      \
      .def = NAN,                                                                                  \
      .min = 1,                                                                                    \
      .max = INT32_MAX,                                                                            \
      .doc = "Size of the window, [h, w] or one number." },                                        \
        { "stride", ATTR_INT2,        offsetof(PoolAttrs, stride),  .def = NAN,                    \
          .min = 1, .max = INT32_MAX, .doc = "Distance of windows." },                             \
        { "pad", ATTR_INTS, offsetof(PoolAttrs, pad),                                              \
          .doc = "Padding: [top, left, bottom, right], at most half the window." },                \
    {                                                                                              \
        "ceil", ATTR_BOOL, offsetof(PoolAttrs, ceil),                                              \
            .def = 1, .doc = "Round the number of windows up instead of down."                     \
    }
#define DILATION_ATTR                                                                              \
    {                                                                                              \
        "dilation", ATTR_INT2, offsetof(PoolAttrs, dilation),                                      \
            .def = 1, .min = 1, .max = INT32_MAX, .doc = "Distance of the window's positions."     \
    }
#define COUNT_ATTR                                                                                 \
    {                                                                                              \
        "count_pad", ATTR_BOOL, offsetof(PoolAttrs, count_pad),                                    \
            .doc = "Padding counts in the divisor."                                                \
    }

static const AttrDef max_attrs[] = { WINDOW_ATTRS, DILATION_ATTR, { 0 } };
static const AttrDef max_dx_attrs[] = { LIKE_ATTR(PoolAttrs), WINDOW_ATTRS, DILATION_ATTR, { 0 } };
static const AttrDef avg_attrs[] = { WINDOW_ATTRS, COUNT_ATTR, { 0 } };
static const AttrDef avg_dx_attrs[] = { LIKE_ATTR(PoolAttrs), WINDOW_ATTRS, COUNT_ATTR, { 0 } };
static const AttrDef like_attrs[] = { LIKE_ATTR(PoolAttrs), { 0 } };

/* avg_pool2d has no dilation attribute: its field is zero and means one. */
static int64_t dilation_of(const PoolAttrs *a, int i)
{
    return a->dilation[i] ? a->dilation[i] : 1;
}

static bool pool_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    static const char *const size_name[] = { "height", "width" };
    const PoolAttrs *a = n->attrs;
    const TensorType *x = &n->in[0]->type;
    int64_t pad[4];
    if (!want(c, x->dtype == DT_F32 && x->rank == 4, IN(0), "x is f32[N, C, H, W]") ||
        !window_pad(c, &a->pad, pad))
        return false;
    *out = *x;
    out->layout = LAYOUT_CANONICAL;
    for (int i = 0; i < 2; i++) {
        const int64_t most = a->k[i] / 2, p = pad[i] > pad[2 + i] ? pad[i] : pad[2 + i];
        if (!want(c, a->k[i] >= 1 && a->k[i] <= INT32_MAX, ATTR(k),
                  "the window's %s must be at least 1, got %lld", size_name[i], (ll)a->k[i]) ||
            !want(c, a->stride[i] >= 1, ATTR(stride), "stride must be at least 1, got %lld",
                  (ll)a->stride[i]) ||
            !want(c, dilation_of(a, i) >= 1 && dilation_of(a, i) <= INT32_MAX, ATTR(dilation),
                  "dilation must be at least 1, got %lld", (ll)a->dilation[i]) ||
            !want(c, p <= most, ATTR(pad), "pad %lld is more than half the window's %s %lld", (ll)p,
                  size_name[i], (ll)a->k[i]))
            return false;
        const WindowAxis axis = {
            i,          x->dim[2 + i], a->k[i], a->stride[i], dilation_of(a, i), pad[i],
            pad[2 + i], a->ceil,       0
        };
        if (!window_count(c, axis, &out->dim[2 + i])) return false;
    }
    return true;
}

static bool max_pool2d_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const PoolAttrs *a = n->attrs;
    if (!pool_shape(c, n, &out[0])) return false;
    out[1] = out[0];
    out[1].dtype = a->k[0] * a->k[1] <= 255 ? DT_U8 : DT_I32;
    return true;
}

static PoolAttrs with_like(const Node *n)
{
    PoolAttrs a = *(const PoolAttrs *)n->attrs;
    a.like = n->in[0]->type;
    return a;
}

/* The kernel's call with "h, w, c, oh, ow, kh, kw, step_h, step_w, top, left, dil_h, dil_w"; `team`: of the form that
 * divides all samples. */
static void pool_emit(CWriter *w, const Node *n, const char *call, bool team, const TensorType *x, const TensorType *y,
                      const char *rest)
{
    const PoolAttrs *a = n->attrs;
    int64_t pad[4];
    window_pad_get(&a->pad, pad);
    cw_stmt(w, n,
            "%s%s%s, NN_POOL(%lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld, %lld), %s);", call,
            team ? "_team($team, " : "(", team ? rows_text(x, 1).s : "$rows", (ll)x->dim[2], (ll)x->dim[3],
            (ll)x->dim[1], (ll)y->dim[2], (ll)y->dim[3], (ll)a->k[0], (ll)a->k[1], (ll)a->stride[0], (ll)a->stride[1],
            (ll)pad[0], (ll)pad[1], (ll)dilation_of(a, 0), (ll)dilation_of(a, 1), rest);
}

static Work pool_work(const Node *n)
{
    const PoolAttrs *a = n->attrs;
    return (Work){ .flops = type_numel(&n->type, 0, 4) * a->k[0] * a->k[1] };
}

static Work pool_dx_work(const Node *n)
{
    const PoolAttrs *a = n->attrs;
    return (Work){ .flops = type_numel(&n->in[0]->type, 0, 4) * a->k[0] * a->k[1] };
}

/* ---- maximum ---- */

static void max_pool2d_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const PoolAttrs a = with_like(n);
    if (dy[0]) dx[0] = mk2(b, &op_max_pool2d_dx, &a, dy[0], mk_result(b, (Node *)n, 1));
}

/* The team divides the lines of large images, and of those whose lines it has computed: what a thread pools then lies
 * in its own near cache, also where there is one image. */
static bool max_pool2d_is_lead(const Node *n)
{
    const Node *x = n->in[0];
    return !sample_is_large(&x->type) && !(x->op->is_lead && !op_is_lead(x));
}

static void max_pool2d_emit(CWriter *w, const Node *n)
{
    pool_emit(w, n, n->more[0].dtype == DT_U8 ? "nn_max_pool2d_u8" : "nn_max_pool2d_i32", !max_pool2d_is_lead(n),
              &n->in[0]->type, &n->type, cw_result_is_read(w, n, 1) ? "$0, $out, $out1" : "$0, $out, NULL");
}

static void pool_window(const Node *n, int64_t extent[2], int64_t stride[2])
{
    const PoolAttrs *a = n->attrs;
    for (int i = 0; i < 2; i++) {
        extent[i] = (a->dilation[i] > 0 ? a->dilation[i] : 1) * (a->k[i] - 1) + 1;
        stride[i] = a->stride[i];
    }
}

const OpDesc op_max_pool2d = {
    .name = "max_pool2d",
    .summary = "maximum over windows of an image",
    .doc =
        "`y[n,c,i,j] = max over r,s of x[n, c, i*stride + r*dilation - pad, ..]`; padding never wins. The number of "
        "windows is rounded up unless `ceil = false`; a last window that would start beyond the image is dropped. "
        "The gradient goes to the first maximum; NaN wins over every number. Result 1 is the position within "
        "the window.",
    .torch = "nn.functional.max_pool2d",
    .in = { "x" },
    .attrs = max_attrs,
    .attr_size = sizeof(PoolAttrs),
    .flags = OPF_CHANNELS_LAST | OPF_SEEN_THROUGH,
    .is_lead = max_pool2d_is_lead,
    .n_results = 2,
    .shape = max_pool2d_shape,
    .grad = max_pool2d_grad,
    .work = pool_work,
    .window = pool_window,
    .emit = max_pool2d_emit,
    .onnx = "MaxPool",
    .gradient = "dy goes to the first maximum of its window",
    .samples = SAMPLES(
        { "max_pool2d(x: f32[2,3,6,8], k = 2, stride = 2)", "f32[2,3,3,4]" },
        { "max_pool2d(x: f32[2,17,5,7], k = 2, stride = 2)", "f32[2,17,3,4]" },
        { "max_pool2d(x: f32[1,5,9,8], k = 3, stride = 2, pad = [1, 1, 1, 1], ceil = false)",
          "f32[1,5,5,4]" },
        { "max_pool2d(x: f32[2,2,7,9], k = [2, 3], stride = [1, 2], dilation = [2, 1])",
          "f32[2,2,5,4]" },
        { "max_pool2d(x: f32[1,3,5,5], k = 1, stride = 3)", "f32[1,3,2,2]" },
        { "max_pool2d(x: f32[1,2,17,17], k = 16, stride = 1)", "f32[1,2,2,2]" }),
};

static void max_pool2d_dx_emit(CWriter *w, const Node *n)
{
    pool_emit(w, n, n->in[1]->type.dtype == DT_U8 ? "nn_max_pool2d_dx_u8" : "nn_max_pool2d_dx_i32", false,
              &n->type, &n->in[0]->type, "$0, $1, $out");
}

static void max_pool2d_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_max_pool2d_pick, n->attrs, dy[0], n->in[1]);
}

const OpDesc op_max_pool2d_dx = {
    .name = "max_pool2d_dx",
    .summary = "gradient of max_pool2d",
    .doc = "Each dy goes to the position of its window's maximum.",
    .in = { "dy", "index" },
    .attrs = max_dx_attrs,
    .attr_size = sizeof(PoolAttrs),
    .flags = OPF_LEAD | OPF_CHANNELS_LAST | OPF_INTERNAL,
    .shape = shape_from_attr,
    .grad = max_pool2d_dx_grad,
    .work = pool_dx_work,
    .emit = max_pool2d_dx_emit,
};

static bool pick_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *x = &n->in[0]->type, *index = &n->in[1]->type;
    *out = *index;
    out->dtype = DT_F32;
    out->layout = LAYOUT_CANONICAL;
    return want(c, x->dtype == DT_F32 && x->dim[1] == index->dim[1] && x->batch == index->batch,
                IN(1), "there is a position for each channel of x");
}

static void max_pool2d_pick_emit(CWriter *w, const Node *n)
{
    pool_emit(w, n,
              n->in[1]->type.dtype == DT_U8 ? "nn_max_pool2d_pick_u8" : "nn_max_pool2d_pick_i32", false,
              &n->in[0]->type, &n->type, "$0, $1, $out");
}

static void max_pool2d_pick_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const PoolAttrs a = with_like(n);
    dx[0] = mk2(b, &op_max_pool2d_dx, &a, dy[0], n->in[1]);
}

const OpDesc op_max_pool2d_pick = {
    .name = "max_pool2d_pick",
    .summary = "elements of an image where another one had its maxima",
    .doc = "The adjoint of max_pool2d_dx: of each window of x the element at `index`.",
    .in = { "x", "index" },
    .attrs = max_attrs,
    .attr_size = sizeof(PoolAttrs),
    .flags = OPF_LEAD | OPF_CHANNELS_LAST | OPF_INTERNAL,
    .shape = pick_shape,
    .grad = max_pool2d_pick_grad,
    .emit = max_pool2d_pick_emit,
};

/* ---- average ---- */

static void avg_pool2d_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const PoolAttrs a = with_like(n);
    dx[0] = mk1(b, &op_avg_pool2d_dx, &a, dy[0]);
}

/* The padded size bounds the divisor when padding counts. */
static const char *avg_rest(const Node *n, char text[64])
{
    const PoolAttrs *a = n->attrs;
    const TensorType *x = op_is(n, &op_avg_pool2d) ? &n->in[0]->type : &n->type;
    int64_t pad[4];
    window_pad_get(&a->pad, pad);
    snprintf(text, 64, "%d, %lld, %lld, $0, $out", a->count_pad, (ll)(x->dim[2] + pad[2]),
             (ll)(x->dim[3] + pad[3]));
    return text;
}

static void avg_pool2d_emit(CWriter *w, const Node *n)
{
    char rest[64];
    pool_emit(w, n, "nn_avg_pool2d", false, &n->in[0]->type, &n->type, avg_rest(n, rest));
}

const OpDesc op_avg_pool2d = {
    .name = "avg_pool2d",
    .summary = "mean over windows of an image",
    .doc =
        "`y[n,c,i,j] = sum over the window of x / number of its positions`. With `count_pad` positions in the "
        "padding count, otherwise only those in the image. The number of windows is rounded up unless "
        "`ceil = false`.",
    .torch = "nn.functional.avg_pool2d",
    .in = { "x" },
    .attrs = avg_attrs,
    .attr_size = sizeof(PoolAttrs),
    .flags = OPF_LEAD | OPF_CHANNELS_LAST | OPF_SEEN_THROUGH,
    .shape = pool_shape,
    .grad = avg_pool2d_grad,
    .work = pool_work,
    .window = pool_window,
    .emit = avg_pool2d_emit,
    .onnx = "AveragePool",
    .gradient = "each position of a window gets dy divided by the number that y was divided by",
    .samples = SAMPLES(
        { "avg_pool2d(x: f32[2,3,6,8], k = 2, stride = 2)", "f32[2,3,3,4]" },
        { "avg_pool2d(x: f32[2,17,5,7], k = 3, stride = 2, pad = [1, 1, 1, 1])", "f32[2,17,3,4]" },
        { "avg_pool2d(x: f32[1,5,8,8], k = 3, stride = 2, pad = [1, 1, 1, 1], count_pad = true)",
          "f32[1,5,5,5]" },
        { "avg_pool2d(x: f32[1,2,5,9], k = [2, 3], stride = [3, 1], ceil = false)",
          "f32[1,2,2,7]" }),
};

static void avg_pool2d_dx_emit(CWriter *w, const Node *n)
{
    char rest[64];
    pool_emit(w, n, "nn_avg_pool2d_dx", false, &n->type, &n->in[0]->type, avg_rest(n, rest));
}

static void avg_pool2d_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk1(b, &op_avg_pool2d, n->attrs, dy[0]);
}

const OpDesc op_avg_pool2d_dx = {
    .name = "avg_pool2d_dx",
    .summary = "gradient of avg_pool2d",
    .doc = "Each dy, divided as in the forward pass, goes to every position of its window.",
    .in = { "dy" },
    .attrs = avg_dx_attrs,
    .attr_size = sizeof(PoolAttrs),
    .flags = OPF_LEAD | OPF_CHANNELS_LAST | OPF_INTERNAL,
    .shape = shape_from_attr,
    .grad = avg_pool2d_dx_grad,
    .work = pool_dx_work,
    .emit = avg_pool2d_dx_emit,
};

/* ---- the whole image ---- */

static bool global_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *x = &n->in[0]->type;
    if (!want(c, x->dtype == DT_F32 && x->rank >= 3, IN(0),
              "x is f32[N, C, ...] with at least one axis to pool over"))
        return false;
    *out = *x;
    out->layout = LAYOUT_CANONICAL;
    for (int i = 2; i < x->rank; i++) out->dim[i] = 0;
    out->rank = 2;
    return true;
}

static bool global_max_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    if (!global_shape(c, n, &out[0])) return false;
    out[1] = out[0];
    out[1].dtype = DT_I32;
    return true;
}

/* Distances between positions and between channels: channels-last for images, else as declared. */
static void global_emit(CWriter *w, const Node *n, const char *call, const TensorType *x,
                        const char *rest)
{
    const ll channels = (ll)x->dim[1], inner = (ll)type_numel(x, 2, x->rank);
    const bool last = x->layout == LAYOUT_CHANNELS_LAST;
    cw_stmt(w, n, "%s($rows, %lld, %lld, %lld, %lld, %s);", call, channels, inner, last ? 1 : inner,
            last ? channels : 1, rest);
}

static Work global_work(const Node *n)
{
    return (Work){ .flops = type_numel(&n->in[0]->type, 0, n->in[0]->type.rank) };
}

static void global_avg_pool_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const TensorType *x = &n->in[0]->type;
    TensorType ones = *x;
    for (int i = 2; i < x->rank; i++) ones.dim[i] = 1;
    Node *d = mk_scale(b, dy[0], 1.0 / (double)type_numel(x, 2, x->rank));
    dx[0] = mk_expand_to(b, mk_reshape_like(b, d, &ones), x);
}

static void global_avg_pool_emit(CWriter *w, const Node *n)
{
    global_emit(w, n, "nn_global_avg_pool", &n->in[0]->type, "$0, $out");
}

const OpDesc op_global_avg_pool = {
    .name = "global_avg_pool",
    .summary = "mean of each channel over all positions",
    .doc = "`y[n,c] = mean of x[n,c,..]`",
    .torch = "AdaptiveAvgPool2d(1)",
    .in = { "x" },
    .flags = OPF_LEAD | OPF_CHANNELS_LAST,
    .shape = global_shape,
    .grad = global_avg_pool_grad,
    .work = global_work,
    .emit = global_avg_pool_emit,
    .onnx = "GlobalAveragePool",
    .gradient = "each position gets dy divided by their number",
    .samples = SAMPLES({ "global_avg_pool(x: f32[2,17,3,5])", "f32[2,17]" },
                       { "global_avg_pool(x: f32[3,4,7])", "f32[3,4]" },
                       { "global_avg_pool(x: f32[2,3,2,2,5])", "f32[2,3]" }),
};

static void global_max_pool_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const PoolAttrs a = { .like = n->in[0]->type };
    if (dy[0]) dx[0] = mk2(b, &op_global_max_pool_dx, &a, dy[0], mk_result(b, (Node *)n, 1));
}

static void global_max_pool_emit(CWriter *w, const Node *n)
{
    global_emit(w, n, "nn_global_max_pool", &n->in[0]->type, "$0, $out, $out1");
}

const OpDesc op_global_max_pool = {
    .name = "global_max_pool",
    .summary = "maximum of each channel over all positions",
    .doc =
        "`y[n,c] = max of x[n,c,..]`; the gradient goes to the first maximum, NaN wins. Result 1 is its position.",
    .torch = "AdaptiveMaxPool2d(1)",
    .in = { "x" },
    .flags = OPF_LEAD | OPF_CHANNELS_LAST,
    .n_results = 2,
    .shape = global_max_shape,
    .grad = global_max_pool_grad,
    .work = global_work,
    .emit = global_max_pool_emit,
    .onnx = "GlobalMaxPool",
    .gradient = "dy goes to the first maximum",
    .samples = SAMPLES({ "global_max_pool(x: f32[2,17,3,5])", "f32[2,17]" },
                       { "global_max_pool(x: f32[3,4,7])", "f32[3,4]" }),
};

static void global_max_pool_dx_emit(CWriter *w, const Node *n)
{
    global_emit(w, n, "nn_global_max_pool_dx", &n->type, "$0, $1, $out");
}

static Work global_dx_work(const Node *n)
{
    return (Work){ .flops = type_numel(&n->type, 0, n->type.rank) };
}

static void global_max_pool_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_pool_pick, NULL, dy[0], n->in[1]);
}

const OpDesc op_global_max_pool_dx = {
    .name = "global_max_pool_dx",
    .summary = "gradient of global_max_pool",
    .doc = "dy at the position of the maximum, zero elsewhere.",
    .in = { "dy", "index" },
    .attrs = like_attrs,
    .attr_size = sizeof(PoolAttrs),
    .flags = OPF_LEAD | OPF_CHANNELS_LAST | OPF_INTERNAL,
    .shape = shape_from_attr,
    .grad = global_max_pool_dx_grad,
    .work = global_dx_work,
    .emit = global_max_pool_dx_emit,
};

/* Distances between positions and between channels of x and of the result. */
static void pool_pick_emit(CWriter *w, const Node *n)
{
    const TensorType *x = &n->in[0]->type, *y = &n->type;
    const ll channels = (ll)x->dim[1], inner = (ll)type_numel(x, 2, x->rank);
    const ll windows = (ll)type_numel(y, 2, y->rank);
    const bool x_last = x->layout == LAYOUT_CHANNELS_LAST, y_last = y->layout == LAYOUT_CHANNELS_LAST;
    cw_stmt(w, n, "nn_pool_pick($rows, %lld, %lld, %lld, %lld, %lld, %lld, %lld, $0, $1, $out);", channels,
            inner, windows, x_last ? 1 : inner, x_last ? channels : 1, y_last ? 1 : windows,
            y_last ? channels : 1);
}

static void pool_pick_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const OpDesc *op = n->type.rank == 2 ? &op_global_max_pool_dx : &op_fractional_max_pool2d_dx;
    void *attrs = arena_alloc(b->module->arena, op->attr_size);
    attrs_default(op, attrs);
    *(TensorType *)attrs_field(op, attrs, "like", ATTR_TYPE) = n->in[0]->type;
    dx[0] = mk2(b, op, attrs, dy[0], n->in[1]);
}

const OpDesc op_pool_pick = {
    .name = "pool_pick",
    .summary = "elements of an image at given positions",
    .doc = "`y[n,c,..] = x[n,c, index[n,c,..]]`: the adjoint of global_max_pool_dx and "
           "fractional_max_pool2d_dx.",
    .in = { "x", "index" },
    .flags = OPF_LEAD | OPF_CHANNELS_LAST | OPF_INTERNAL,
    .shape = pick_shape,
    .grad = pool_pick_grad,
    .emit = pool_pick_emit,
};
