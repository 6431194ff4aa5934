/* SPDX-License-Identifier: MIT
 *
 * Numbers that depend on the place in a tensor, and the periodic functions that turn them into encodings. Masks of
 * convolutions and of attention, positional encodings and cut-out squares are written with them in the library.
 */
#include "ops/op.h"

typedef struct ArangeAttrs {
    TensorType shape;
    int64_t axis;
    double start, step;
} ArangeAttrs;

static const AttrDef arange_attrs[] = {
    { "shape", ATTR_SHAPE, offsetof(ArangeAttrs, shape), .def = NAN,
      .doc = "The shape of the result." },
    { "axis", ATTR_INT, offsetof(ArangeAttrs, axis), .def = -1,
      .doc = "The axis that is counted along." },
    { "start", ATTR_FLOAT, offsetof(ArangeAttrs, start), .def = 0, .doc = "The first number." },
    { "step", ATTR_FLOAT, offsetof(ArangeAttrs, step), .def = 1,
      .doc = "The distance of neighbours." },
    { 0 },
};

static int arange_axis(const Node *n)
{
    const ArangeAttrs *a = n->attrs;
    return (int)(a->axis < 0 ? a->axis + n->type.rank : a->axis);
}

static bool arange_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const ArangeAttrs *a = n->attrs;
    *out = a->shape;
    out->dtype = DT_F32;
    out->layout = LAYOUT_CANONICAL;
    for (int i = 0; i < out->rank; i++)
        if (!want(c, out->dim[i] >= 1, ATTR(shape), "size %lld of axis %d is not positive",
                  (ll)out->dim[i], i))
            return false;
    return want(c, out->rank >= 1, ATTR(shape), "a scalar has no axis to count along") &&
           want(c, a->axis >= -out->rank && a->axis < out->rank, ATTR(axis),
                "axis %lld is out of range for rank %d", (ll)a->axis, out->rank);
}

static void arange_emit(CWriter *w, const Node *n)
{
    const TensorType *t = &n->type;
    const int axis = arange_axis(n);
    if (axis == 0)
        cw_stmt(w, n, "nn_arange(1, $row0, $rows, %lld, $start.double, $step.double, $out);",
                (ll)type_numel(t, 1, t->rank));
    else
        cw_stmt(w, n, "nn_arange($rows%s, 0, %lld, %lld, $start.double, $step.double, $out);",
                by(type_numel(t, 1, axis)).text, (ll)t->dim[axis],
                (ll)type_numel(t, axis + 1, t->rank));
}

const OpDesc op_arange = {
    .name = "arange",
    .summary = "numbers counted along an axis",
    .torch = "torch.arange",
    .doc =
        "`y[.., i, ..] = start + step * i` with `i` on `axis`; the same along all other axes. Comparing two of them "
        "gives masks: `arange([T, T], axis = 1) <= arange([T, T], axis = 0)` is true up to the diagonal.",
    .in = { NULL },
    .attrs = arange_attrs,
    .attr_size = sizeof(ArangeAttrs),
    .flags = OPF_LEAD,
    .shape = arange_shape,
    .no_grad = "it has no operand",
    .emit = arange_emit,
    .onnx = "Range",
    .samples = SAMPLES({ "arange(shape = [3, 5])", "f32[3,5]" },
                       { "arange(shape = [7], axis = 0, start = 1, step = 0.5)", "f32[7]" },
                       { "arange(shape = [2, 3, 4, 5], axis = 1, start = -1)", "f32[2,3,4,5]" }),
};

/* ---- sin, cos ---- */

static void sin_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk_mul(b, dy[0], mk1(b, &op_cos, NULL, n->in[0]));
}

static Node *sin_simplify(Builder *b, const Node *n)
{
    return fold1(b, n, sin);
}

const OpDesc op_sin = {
    .name = "sin",
    .summary = "sine",
    .torch = "torch.sin",
    .doc = "`y = sin(x)`, x in radians.",
    .in = { "x" },
    .flags = OPF_ELEMENTWISE,
    .shape = shape_same,
    .grad = sin_grad,
    .simplify = sin_simplify,
    .expr = "nn_sin($0)",
    .onnx = "Sin",
    .gradient = "dx = dy cos(x)",
    .samples = SAMPLES({ "sin(x: f32[3,7])", "f32[3,7]" }),
};

static void cos_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk_neg(b, mk_mul(b, dy[0], mk1(b, &op_sin, NULL, n->in[0])));
}

static Node *cos_simplify(Builder *b, const Node *n)
{
    return fold1(b, n, cos);
}

const OpDesc op_cos = {
    .name = "cos",
    .summary = "cosine",
    .torch = "torch.cos",
    .doc = "`y = cos(x)`, x in radians.",
    .in = { "x" },
    .flags = OPF_ELEMENTWISE,
    .shape = shape_same,
    .grad = cos_grad,
    .simplify = cos_simplify,
    .expr = "nn_cos($0)",
    .onnx = "Cos",
    .gradient = "dx = -dy sin(x)",
    .samples = SAMPLES({ "cos(x: f32[3,7])", "f32[3,7]" }),
};

/* ---- kernel_mask ---- */

typedef struct KernelMaskAttrs {
    TensorType shape;
    int mask;
    int64_t colors, groups;
} KernelMaskAttrs;

static const AttrDef kernel_mask_attrs[] = {
    { "shape", ATTR_SHAPE, offsetof(KernelMaskAttrs, shape), .def = NAN,
      .doc = "The shape; its last two axes are [R, S]." },
    { "mask", ATTR_CHOICE, offsetof(KernelMaskAttrs, mask), .choices = CHOICES("A", "B"),
      .doc = "A: zero from the middle on; B: zero behind the middle." },
    { "colors", ATTR_INT, offsetof(KernelMaskAttrs, colors), .def = 1, .min = 1, .max = INT32_MAX,
      .doc = "Parts that the channels are cut into, which see each other in order." },
    { "groups", ATTR_INT, offsetof(KernelMaskAttrs, groups), .def = 1, .min = 1, .max = INT32_MAX,
      .doc = "Groups of the convolution." },
    { 0 },
};

static bool kernel_mask_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const KernelMaskAttrs *a = n->attrs;
    *out = a->shape;
    out->dtype = DT_F32;
    out->layout = LAYOUT_CANONICAL;
    if (!want(c, out->rank >= 2 && !out->batch, ATTR(shape),
              "expected constant sizes that end in [R, S]"))
        return false;
    for (int i = 0; i < out->rank; i++)
        if (!want(c, out->dim[i] >= 1, ATTR(shape), "size %lld of axis %d is not positive",
                  (ll)out->dim[i], i))
            return false;
    if (a->colors == 1) return true;
    return want(c, out->rank == 4, ATTR(shape), "with colors, expected [outputs, inputs, R, S]") &&
           want(c, out->dim[0] % a->groups == 0, ATTR(groups),
                "%lld outputs do not divide into %lld groups", (ll)out->dim[0], (ll)a->groups) &&
           want(c, out->dim[0] % a->colors == 0, ATTR(colors),
                "%lld outputs do not divide into %lld colors", (ll)out->dim[0], (ll)a->colors) &&
           want(c, out->dim[1] * a->groups % a->colors == 0, ATTR(colors),
                "%lld inputs do not divide into %lld colors", (ll)(out->dim[1] * a->groups),
                (ll)a->colors);
}

static void kernel_mask_emit(CWriter *w, const Node *n)
{
    const KernelMaskAttrs *a = n->attrs;
    const TensorType *t = &n->type;
    const ll r = (ll)t->dim[t->rank - 2], s = (ll)t->dim[t->rank - 1];
    const ll all = (ll)type_numel(t, 0, t->rank - 2), outputs = a->colors > 1 ? (ll)t->dim[0] : 1;
    cw_stmt(w, n,
            "if ($team->rank == 0) nn_kernel_mask(%lld, %lld, %lld, %lld, %lld, %lld, %d, $out);",
            outputs, all / outputs, (ll)(a->colors > 1 ? a->groups : 1), (ll)a->colors, r * s,
            r / 2 * s + s / 2, a->mask);
}

const OpDesc op_kernel_mask = {
    .name = "kernel_mask",
    .summary = "masks of convolutions that see only earlier pixels",
    .doc =
        "1 for the taps of an R x S kernel that come before its middle [R / 2, S / 2] in reading order, and with "
        "`mask = B` for the middle too; 0 for the others. Times a kernel it makes every output depend on pixels above "
        "and to the left only, as pixel-by-pixel models need: A in the first layer, B in the others (van den Oord and "
        "others, 2016). With `colors` above 1 the channels of the kernel [outputs, inputs, R, S] are cut into that "
        "many parts in their order, red, green and blue for instance, and the middle tap is 1 where the input's part "
        "comes before the output's, or with B is the same: each colour of a pixel sees those before it.",
    .in = { NULL },
    .attrs = kernel_mask_attrs,
    .attr_size = sizeof(KernelMaskAttrs),
    .shape = kernel_mask_shape,
    .no_grad = "it has no operand",
    .emit = kernel_mask_emit,
    .samples =
        SAMPLES({ "kernel_mask(shape = [1, 1, 5, 3], mask = A)", "f32[1,1,5,3]" },
                { "kernel_mask(shape = [2, 3, 3], mask = B)", "f32[2,3,3]" },
                { "kernel_mask(shape = [6, 3, 3, 3], mask = A, colors = 3)", "f32[6,3,3,3]" }),
};
