/* SPDX-License-Identifier: MIT
 *
 * Augmentations that need a kernel: rotation, and mixing each sample with another one of the batch. Draws belong to
 * samples, so that neither threads nor layouts change them. The gradients are the adjoints, with the same draws.
 */
#include "ops/op.h"

#define STREAM(T)                                                                                  \
    {                                                                                              \
        "stream", ATTR_INT, offsetof(T, stream),                                                   \
            .doc = "Stream number; 0: chosen by the compiler."                                     \
    }

/* ---- random_rotate ---- */

typedef struct RotateAttrs {
    double degrees;
    int64_t stream;
} RotateAttrs;
static const AttrDef rotate_attrs[] = {
    { "degrees", ATTR_FLOAT, offsetof(RotateAttrs, degrees), .def = NAN, .min = 0, .max = 180,
      .doc = "The largest angle, either way." },
    STREAM(RotateAttrs),
    { 0 },
};

static bool rotate_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    return shape_same(c, n, out) && want(c, out->rank == 4, IN(0),
                                         "expected images f32[N, C, H, W], got rank %d", out->rank);
}

static void rotate_emit_signed(CWriter *w, const Node *n, const char *call)
{
    const TensorType *t = &n->type;
    cw_stmt(w, n, "%s($key, $row0, $rows, $degrees.double, %lld, %lld, %lld, $0, $out);", call,
            (ll)t->dim[2], (ll)t->dim[3], (ll)t->dim[1]);
}

static void rotate_emit(CWriter *w, const Node *n)
{
    rotate_emit_signed(w, n, "nn_random_rotate");
}
static void rotate_dx_emit(CWriter *w, const Node *n)
{
    rotate_emit_signed(w, n, "nn_random_rotate_dx");
}

static void rotate_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk1(b, &op_random_rotate_dx, n->attrs, dy[0]);
}

static void rotate_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk1(b, &op_random_rotate, n->attrs, dy[0]);
}

static Work rotate_work(const Node *n)
{
    return (Work){ .flops = 8 * type_numel(&n->type, 0, n->type.rank) };
}

const OpDesc op_random_rotate = {
    .name = "random_rotate",
    .summary = "turns images by random angles",
    .torch = "torchvision RandomRotation(BILINEAR)",
    .doc =
        "Each image is turned counter-clockwise about its centre by an angle drawn uniformly from `-degrees` to "
        "`degrees`. Pixels are interpolated linearly in both directions; beyond the image there are zeros. The "
        "gradient goes back with the same weights.",
    .in = { "x" },
    .attrs = rotate_attrs,
    .attr_size = sizeof(RotateAttrs),
    .flags = OPF_RANDOM | OPF_CHANNELS_LAST | OPF_LEAD,
    .shape = rotate_shape,
    .grad = rotate_grad,
    .work = rotate_work,
    .emit = rotate_emit,
    .gradient = "each pixel gets dy with the weights with which it entered",
    .samples = SAMPLES({ "random_rotate(x: f32[3,2,6,7], degrees = 30)", "f32[3,2,6,7]" },
                       { "random_rotate(x: f32[2,17,1,1], degrees = 180)", "f32[2,17,1,1]" }),
};

const OpDesc op_random_rotate_dx = {
    .name = "random_rotate_dx",
    .summary = "gradient of random_rotate",
    .doc = "Each dy is added to the pixels it was made from, with their weights.",
    .in = { "dy" },
    .attrs = rotate_attrs,
    .attr_size = sizeof(RotateAttrs),
    .flags = OPF_RANDOM | OPF_CHANNELS_LAST | OPF_LEAD | OPF_INTERNAL,
    .shape = rotate_shape,
    .grad = rotate_dx_grad,
    .work = rotate_work,
    .emit = rotate_dx_emit,
};

/* ---- mixup ---- */

typedef struct MixupAttrs {
    double alpha;
    int64_t stream;
} MixupAttrs;
static const AttrDef mixup_attrs[] = {
    { "alpha", ATTR_FLOAT, offsetof(MixupAttrs, alpha), .def = 0.2, .min = 1e-3, .max = 1e3,
      .doc = "Shape of the distribution of l, Beta(alpha, alpha)." },
    STREAM(MixupAttrs),
    { 0 },
};

static bool mixup_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *x = &n->in[0]->type, *y = &n->in[1]->type;
    if (!want(c, x->dtype == DT_F32 && x->rank >= 1, IN(0), "expected f32 samples, got %s",
              dtype_name(x->dtype)))
        return false;
    if (!want(c, y->dtype == DT_F32, IN(1), "expected f32 targets, got %s", dtype_name(y->dtype))) {
        want_hint(c, "one_hot(y, n = CLASSES) turns classes into probabilities");
        return false;
    }
    if (!want(c, y->rank >= 1 && y->dim[0] == x->dim[0] && y->batch == x->batch, IN(1),
              "there are not as many targets as samples"))
        return false;
    out[0] = *x;
    out[1] = *y;
    return true;
}

/* The number of samples, at run time. */
static void mixup_emit_one(CWriter *w, const Node *n, const TensorType *t, int adjoint,
                           const char *rest)
{
    const char *batch = t->batch ? "$batch * " : "";
    cw_stmt(w, n, "nn_mixup($key, $row0, $rows, %s%lld, $alpha.double, %d, %lld, %s);", batch,
            (ll)t->dim[0], adjoint, (ll)type_numel(t, 1, t->rank), rest);
}

static void mixup_emit(CWriter *w, const Node *n)
{
    mixup_emit_one(w, n, &n->in[0]->type, 0, "$0, $out");
    mixup_emit_one(w, n, &n->in[1]->type, 0, "$1, $out1");
}

static void mixup_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    for (int i = 0; i < 2; i++)
        if (dy[i]) dx[i] = mk1(b, &op_mixup_dx, n->attrs, dy[i]);
}

const OpDesc op_mixup = {
    .name = "mixup",
    .summary = "mixes each sample and its target with another one of the batch",
    .doc =
        "`x'[i] = l[i] x[i] + (1 - l[i]) x[(i + s) mod N]` and `y'` likewise, with one `s` in [1, N) for the batch and "
        "`l[i]` from Beta(alpha, alpha) for each sample (Zhang and others, 2018). `y` are probabilities or numbers, "
        "not classes. The gradient goes back to both samples.",
    .torch = "torchvision.transforms.v2.MixUp",
    .in = { "x", "y" },
    .attrs = mixup_attrs,
    .attr_size = sizeof(MixupAttrs),
    .flags = OPF_RANDOM | OPF_ANY_LAYOUT | OPF_LEAD,
    .n_results = 2,
    .whole = 3,
    .shape = mixup_shape,
    .grad = mixup_grad,
    .emit = mixup_emit,
    .gradient = "each sample gets dy times the shares with which it entered",
    .samples = SAMPLES({ "mixup(x: f32[5,2,3,2], y: f32[5,3], alpha = 0.4)", "f32[5,2,3,2]" },
                       { "mixup(x: f32[4,3], y: f32[4], alpha = 2)", "f32[4,3]" },
                       { "mixup(x: f32[1,3], y: f32[1,2])", "f32[1,3]" }),
};

static void mixup_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const TensorType *t = &n->type;
    TensorType column = { .dtype = DT_F32, .rank = 1, .dim = { t->dim[0] }, .batch = t->batch };
    dx[0] = mk2(b, &op_mixup, n->attrs, dy[0], mk_fill(b, &column, 0));
}

static void mixup_dx_emit(CWriter *w, const Node *n)
{
    mixup_emit_one(w, n, &n->type, 1, "$0, $out");
}

const OpDesc op_mixup_dx = {
    .name = "mixup_dx",
    .summary = "gradient of mixup",
    .doc = "`dx[i] = l[i] dy[i] + (1 - l[j]) dy[j]` with `j = (i - s) mod N`.",
    .in = { "dy" },
    .attrs = mixup_attrs,
    .attr_size = sizeof(MixupAttrs),
    .flags = OPF_RANDOM | OPF_ANY_LAYOUT | OPF_LEAD | OPF_INTERNAL,
    .whole = 1,
    .shape = shape_same,
    .grad = mixup_dx_grad,
    .emit = mixup_dx_emit,
};
