/* SPDX-License-Identifier: MIT
 *
 * Images enlarged by whole factors: by repetition, or linearly in both directions.
 */
#include "ops/op.h"

typedef struct UpsampleAttrs {
    TensorType like; /* gradient only */
    int64_t scale[2];
    int mode;
    bool align_corners;
} UpsampleAttrs;

#define UPSAMPLE_ATTRS                                                                                   \
    { "scale",                                                                                           \
      ATTR_INT2,                                                                                         \
      offsetof(UpsampleAttrs, scale),                                                                    \
      .def = NAN,                                                                                        \
      .min = 1,                                                                                          \
      .max = 1 << 16,                                                                                    \
      .doc = "How many times larger, [h, w] or one number." },                                           \
        { "mode", ATTR_CHOICE, offsetof(UpsampleAttrs, mode),                                            \
          .choices = CHOICES("nearest", "bilinear"),                                                     \
          .doc = "Repeat, or interpolate linearly in both directions." },                                \
    {                                                                                                    \
        "align_corners", ATTR_BOOL, offsetof(UpsampleAttrs, align_corners),                              \
            .doc =                                                                                       \
                "bilinear: the centres of corner pixels coincide, instead of the corners of the images." \
    }

static const AttrDef upsample_attrs[] = { UPSAMPLE_ATTRS, { 0 } };
static const AttrDef upsample_dx_attrs[] = { { "like", ATTR_TYPE, offsetof(UpsampleAttrs, like),
                                               .def = NAN, .doc = "Type of the result." },
                                             UPSAMPLE_ATTRS,
                                             { 0 } };

static bool upsample_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const UpsampleAttrs *a = n->attrs;
    const TensorType *x = &n->in[0]->type;
    if (!want(c, x->dtype == DT_F32 && x->rank == 4, IN(0), "x is f32[N, C, H, W]")) return false;
    *out = *x;
    out->layout = LAYOUT_CANONICAL;
    for (int i = 0; i < 2; i++) {
        if (!want(c, a->scale[i] >= 1 && a->scale[i] <= INT32_MAX / x->dim[2 + i], ATTR(scale),
                  "a scale of %lld makes %lld pixels from %lld", (ll)a->scale[i],
                  (ll)(a->scale[i] * x->dim[2 + i]), (ll)x->dim[2 + i]))
            return false;
        out->dim[2 + i] = x->dim[2 + i] * a->scale[i];
    }
    return true;
}

static void upsample_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    UpsampleAttrs a = *(const UpsampleAttrs *)n->attrs;
    a.like = n->in[0]->type;
    dx[0] = mk1(b, &op_upsample_dx, &a, dy[0]);
}

static void upsample_emit_call(CWriter *w, const Node *n, const char *call, const TensorType *x)
{
    const UpsampleAttrs *a = n->attrs;
    if (a->mode == 0)
        cw_stmt(w, n, "%s_nearest%s($rows, %lld, %lld, %lld, $scale, $0, $out);", "nn_upsample",
                call, (ll)x->dim[2], (ll)x->dim[3], (ll)x->dim[1]);
    else
        cw_stmt(w, n, "%s_bilinear%s($rows, %lld, %lld, %lld, $scale, %d, $0, $out);",
                "nn_upsample", call, (ll)x->dim[2], (ll)x->dim[3], (ll)x->dim[1], a->align_corners);
}

static void upsample_emit(CWriter *w, const Node *n)
{
    upsample_emit_call(w, n, "", &n->in[0]->type);
}
static void upsample_dx_emit(CWriter *w, const Node *n)
{
    upsample_emit_call(w, n, "_dx", &n->type);
}

static Work upsample_work(const Node *n)
{
    const UpsampleAttrs *a = n->attrs;
    return (Work){ .flops = a->mode == 0 ? 0 : 8 * type_numel(&n->type, 0, 4) };
}

const OpDesc op_upsample = {
    .name = "upsample",
    .summary = "enlarges images",
    .torch = "nn.functional.interpolate",
    .doc =
        "`nearest`: `y[n,c,i,j] = x[n, c, i / scale, j / scale]`. `bilinear`: position `(i + 0.5) / scale - 0.5` of x, "
        "at least 0, between its neighbours; with `align_corners` position `i (H - 1) / (H scale - 1)`. The gradient "
        "goes back with the same weights.",
    .in = { "x" },
    .attrs = upsample_attrs,
    .attr_size = sizeof(UpsampleAttrs),
    .flags = OPF_LEAD | OPF_CHANNELS_LAST,
    .shape = upsample_shape,
    .grad = upsample_grad,
    .work = upsample_work,
    .emit = upsample_emit,
    .onnx = "Resize",
    .gradient = "each pixel gets dy with the weights with which it entered",
    .samples = SAMPLES(
        { "upsample(x: f32[2,3,4,5], scale = 2)", "f32[2,3,8,10]" },
        { "upsample(x: f32[2,17,3,2], scale = [3, 1])", "f32[2,17,9,2]" },
        { "upsample(x: f32[2,3,4,5], scale = 2, mode = bilinear)", "f32[2,3,8,10]" },
        { "upsample(x: f32[1,2,3,4], scale = [2, 3], mode = bilinear, align_corners = true)",
          "f32[1,2,6,12]" },
        { "upsample(x: f32[1,2,1,1], scale = 3, mode = bilinear)", "f32[1,2,3,3]" }),
};

/* The adjoint is linear in dy: its gradient is the operator itself. */
static void upsample_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk1(b, &op_upsample, n->attrs, dy[0]);
}

const OpDesc op_upsample_dx = {
    .name = "upsample_dx",
    .summary = "gradient of upsample",
    .doc = "Each dy is added to the pixels it was made from, with their weights.",
    .in = { "dy" },
    .attrs = upsample_dx_attrs,
    .attr_size = sizeof(UpsampleAttrs),
    .flags = OPF_LEAD | OPF_CHANNELS_LAST | OPF_INTERNAL,
    .shape = shape_from_attr,
    .grad = upsample_dx_grad,
    .work = upsample_work,
    .emit = upsample_dx_emit,
};
