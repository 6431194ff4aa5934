/* SPDX-License-Identifier: MIT
 *
 * Random operators. Draws are a function of (seed, routine, stream, call, element index), see
 * runtime/kernels/random.h. The builder gives every node a stream of its own; a gradient that must see the
 * same draws copies the stream of its forward node. Elements are counted in canonical order whatever the
 * layout, so layouts never change results.
 */
#include "ops/op.h"

#define STREAM(T)                                                                                  \
    {                                                                                              \
        "stream", ATTR_INT, offsetof(T, stream),                                                   \
            .doc = "Stream number; 0: chosen by the compiler."                                     \
    }
#define PROBABILITY(T, text)                                                                       \
    {                                                                                              \
        "p", ATTR_FLOAT, offsetof(T, p), .def = NAN, .min = 0, .max = 1, .doc = text               \
    }

/* kernel($key, index of the first element, number of elements ... */
static void draw_emit(CWriter *w, const Node *n, const char *kernel, const char *rest)
{
    const Times row = by(type_numel(&n->type, 1, n->type.rank));
    if (n->type.rank > 0)
        cw_stmt(w, n, "%s($key, $row0%s, $rows%s, %s$out);", kernel, row.text, row.text, rest);
    else
        cw_stmt(w, n, "if ($team->rank == 0) %s($key, 0, 1, %s$out);", kernel, rest);
}

static bool rows_are_lead(const Node *n)
{
    return n->type.rank > 0;
}

static Work draw_work(const Node *n)
{
    return (Work){ .flops = 20 * type_numel(&n->type, 0, n->type.rank) };
}

/* ---- tensors of draws: of a given shape, or of another tensor's ---- */

typedef struct DrawAttrs {
    TensorType shape; /* unused by the _like forms */
    double p;
    int64_t stream;
} DrawAttrs;

#define SHAPE_ATTR                                                                                 \
    {                                                                                              \
        "shape", ATTR_SHAPE, offsetof(DrawAttrs, shape), .def = NAN,                               \
                                                         .doc = "The shape of the result."         \
    }
static const AttrDef shape_attrs[] = { SHAPE_ATTR, STREAM(DrawAttrs), { 0 } };
static const AttrDef like_attrs[] = { STREAM(DrawAttrs), { 0 } };
static const AttrDef bernoulli_attrs[] = {
    SHAPE_ATTR, PROBABILITY(DrawAttrs, "Probability of 1."), STREAM(DrawAttrs), { 0 }
};
static const AttrDef bernoulli_like_attrs[] = { PROBABILITY(DrawAttrs, "Probability of 1."),
                                                STREAM(DrawAttrs),
                                                { 0 } };

static const char NO_OPERAND[] = "it has no operand";

static bool draw_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    *out = ((const DrawAttrs *)n->attrs)->shape;
    out->dtype = DT_F32;
    out->layout = LAYOUT_CANONICAL;
    for (int i = 0; i < out->rank; i++)
        if (!want(c, out->dim[i] >= 1, ATTR(shape), "size %lld of axis %d is not positive",
                  (ll)out->dim[i], i))
            return false;
    return true;
}

static bool like_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    (void)c;
    *out = n->in[0]->type;
    out->dtype = DT_F32;
    out->layout = LAYOUT_CANONICAL;
    return true;
}

/* A draw does not depend on the values of x. */
static void like_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    (void)dy;
    if (n->in[0]->type.dtype == DT_F32) dx[0] = mk_fill(b, &n->in[0]->type, 0);
}

/* X_like(x) = X(shape of x) with the same stream: one operand fewer, and x need not be kept. */
static Node *like_to_shape(Builder *b, const Node *n, const OpDesc *op)
{
    DrawAttrs a = *(const DrawAttrs *)n->attrs;
    if (a.stream == 0) return NULL;
    a.shape = n->type;
    return n->type.layout == LAYOUT_CANONICAL ? mk(b, op, &a, 0, NULL) : NULL;
}

static Node *randn_like_simplify(Builder *b, const Node *n)
{
    return like_to_shape(b, n, &op_randn);
}
static Node *rand_like_simplify(Builder *b, const Node *n)
{
    return like_to_shape(b, n, &op_rand);
}
static Node *bernoulli_like_simplify(Builder *b, const Node *n)
{
    return like_to_shape(b, n, &op_bernoulli);
}

static void randn_emit(CWriter *w, const Node *n)
{
    draw_emit(w, n, "nn_randn", "");
}
static void rand_emit(CWriter *w, const Node *n)
{
    draw_emit(w, n, "nn_rand", "");
}
static void bernoulli_emit(CWriter *w, const Node *n)
{
    draw_emit(w, n, "nn_bernoulli", "$p.double, ");
}

/* What all draws have in common, of a stated shape and of x's. */
#define DRAWN                                                                                                     \
    .in = { NULL }, .attr_size = sizeof(DrawAttrs), .flags = OPF_RANDOM, .is_lead = rows_are_lead,                \
    .shape = draw_shape, .no_grad = NO_OPERAND, .work = draw_work
#define DRAWN_LIKE                                                                                                \
    .in = { "x" }, .attr_size = sizeof(DrawAttrs), .flags = OPF_RANDOM, .is_lead = rows_are_lead,                 \
    .shape = like_shape, .grad = like_grad, .work = draw_work, .gradient = "none goes to x"

const OpDesc op_randn = {
    .name = "randn",
    .summary = "standard normal numbers",
    .torch = "torch.randn",
    .doc =
        "By Box and Muller from Philox 4x32-10; a function of seed, routine, call and element only.",
    .attrs = shape_attrs,
    DRAWN,
    .emit = randn_emit,
    .onnx = "RandomNormal",
    .samples = SAMPLES({ "randn(shape = [3, 5])", "f32[3,5]" }),
};

const OpDesc op_rand = {
    .name = "rand",
    .summary = "uniform numbers in [0, 1)",
    .torch = "torch.rand",
    .doc = "24 random bits each; a function of seed, routine, call and element only.",
    .attrs = shape_attrs,
    DRAWN,
    .emit = rand_emit,
    .onnx = "RandomUniform",
    .samples = SAMPLES({ "rand(shape = [3, 7])", "f32[3,7]" }),
};

const OpDesc op_bernoulli = {
    .name = "bernoulli",
    .summary = "1 with probability p, else 0",
    .torch = "torch.bernoulli",
    .doc = "A function of seed, routine, call and element only.",
    .attrs = bernoulli_attrs,
    DRAWN,
    .emit = bernoulli_emit,
    .onnx = "Bernoulli",
    .samples = SAMPLES({ "bernoulli(shape = [5, 7], p = 0.3)", "f32[5,7]" }),
};

const OpDesc op_randn_like = {
    .name = "randn_like",
    .summary = "standard normal numbers in x's shape",
    .torch = "torch.randn_like",
    .doc = "`randn` in the shape of `x`. No gradient flows to `x`.",
    .attrs = like_attrs,
    DRAWN_LIKE,
    .simplify = randn_like_simplify,
    .emit = randn_emit,
    .onnx = "RandomNormalLike",
    .samples = SAMPLES({ "randn_like(x: f32[3,5])", "f32[3,5]" }),
};

const OpDesc op_rand_like = {
    .name = "rand_like",
    .summary = "uniform numbers in x's shape",
    .torch = "torch.rand_like",
    .doc = "`rand` in the shape of `x`. No gradient flows to `x`.",
    .attrs = like_attrs,
    DRAWN_LIKE,
    .simplify = rand_like_simplify,
    .emit = rand_emit,
    .onnx = "RandomUniformLike",
    .samples = SAMPLES({ "rand_like(x: f32[2,3,5])", "f32[2,3,5]" }),
};

const OpDesc op_bernoulli_like = {
    .name = "bernoulli_like",
    .summary = "1 with probability p, else 0, in x's shape",
    .torch = "torch.bernoulli",
    .doc = "`bernoulli` in the shape of `x`. No gradient flows to `x`.",
    .attrs = bernoulli_like_attrs,
    DRAWN_LIKE,
    .simplify = bernoulli_like_simplify,
    .emit = bernoulli_emit,
    .onnx = "Bernoulli",
    .samples = SAMPLES({ "bernoulli_like(x: f32[5,3], p = 0.8)", "f32[5,3]" }),
};

/* ---- dropout ---- */

typedef struct DropoutAttrs {
    double p;
    int64_t stream;
} DropoutAttrs;
static const AttrDef dropout_attrs[] = {
    { "p", ATTR_FLOAT, offsetof(DropoutAttrs, p), .def = NAN, .min = 0, .max = 0x1.fffffffffffffp-1,
      .doc = "Probability that an element is dropped, below 1." },
    STREAM(DropoutAttrs),
    { 0 }
};

double dropout_scale(const Node *n)
{
    return 1 / (1 - ((const DropoutAttrs *)n->attrs)->p);
}

/* The same elements are dropped and the same factor applied: the operator itself, with its stream. */
static void same_draws_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk1(b, n->op, n->attrs, dy[0]);
}

/* dropout(x, 0) = x; one node fewer. */
static Node *dropout_simplify(Builder *b, const Node *n)
{
    (void)b;
    return ((const DropoutAttrs *)n->attrs)->p == 0 ? n->in[0] : NULL;
}

static bool dropout_is_lead(const Node *n)
{
    return n->type.rank > 0 &&
           (n->type.layout == LAYOUT_CANONICAL || n->type.layout == LAYOUT_CHANNELS_LAST);
}

static bool dropout_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    return shape_same(c, n, out) &&
           want(c, out->rank > 0, IN(0), "expected a tensor with axes, got a scalar");
}

/* Weights in the order of their kernels: rank 2 to 4, no batch. */
static void dropout_emit_strided(CWriter *w, const Node *n)
{
    const TensorType *t = &n->type;
    ll size[4] = { 1, 1, 1, 1 }, step[4] = { 0 };
    int64_t stride[MAX_RANK];
    type_strides(t, stride);
    for (int i = 0; i < t->rank; i++) {
        size[4 - t->rank + i] = (ll)t->dim[i];
        step[4 - t->rank + i] = (ll)stride[i];
    }
    cw_stmt(w, n,
            "if ($team->rank == 0) nn_dropout_strided($key, NN_BOX4(%lld, %lld, %lld, %lld), "
            "NN_BOX4(%lld, %lld, %lld, %lld), $p.double, $0, $out);",
            size[0], size[1], size[2], size[3], step[0], step[1], step[2], step[3]);
}

static void dropout_emit(CWriter *w, const Node *n)
{
    const TensorType *t = &n->type;
    if (t->layout == LAYOUT_CHANNELS_LAST &&
        !type_layouts_coincide(t, LAYOUT_CANONICAL, LAYOUT_CHANNELS_LAST))
        cw_stmt(w, n,
                "nn_dropout_channels_last($key, $row0, $rows, %lld, %lld, $p.double, $0, $out);",
                (ll)t->dim[1], (ll)(t->dim[2] * t->dim[3]));
    else if (dropout_is_lead(n) || type_layouts_coincide(t, LAYOUT_CANONICAL, t->layout))
        draw_emit(w, n, "nn_dropout", "$p.double, $0, ");
    else
        dropout_emit_strided(w, n);
}

const OpDesc op_dropout = {
    .name = "dropout",
    .summary = "sets elements to zero at random",
    .torch = "torch.nn.functional.dropout",
    .doc =
        "Each element is 0 with probability `p`, else `x / (1 - p)`, so that the expectation is `x`. With `p = 1` "
        "all are 0. The gradient drops the same elements. The block `dropout` is the identity in `infer`; the "
        "operator always drops.",
    .in = { "x" },
    .attrs = dropout_attrs,
    .attr_size = sizeof(DropoutAttrs),
    .flags = OPF_RANDOM | OPF_ANY_LAYOUT | OPF_INPLACE | OPF_SEEN_THROUGH | OPF_ON_WEIGHTS,
    .is_lead = dropout_is_lead,
    .shape = dropout_shape,
    .grad = same_draws_grad,
    .simplify = dropout_simplify,
    .work = draw_work,
    .emit = dropout_emit,
    .onnx = "Dropout",
    .gradient = "dx = dy / (1 - p) where x was kept, else 0",
    .samples = SAMPLES({ "dropout(x: f32[3,7], p = 0.25)", "f32[3,7]" },
                       { "dropout(x: f32[2,3,5,3], p = 0.5)", "f32[2,3,5,3]" }),
};

/* ---- random_flip, random_crop: one draw per sample ---- */

typedef struct FlipAttrs {
    int64_t axis, stream;
} FlipAttrs;
static const AttrDef flip_attrs[] = {
    { "axis", ATTR_INT, offsetof(FlipAttrs, axis), .def = -1, .doc = "The axis that is mirrored." },
    STREAM(FlipAttrs),
    { 0 },
};

static bool flip_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    int axis;
    return shape_same(c, n, out) &&
           axis_normalize(c, n, 0, ((const FlipAttrs *)n->attrs)->axis, &axis) &&
           want(c, axis > 0, ATTR(axis), "axis 0 counts the samples and cannot be mirrored");
}

/* A row of t as [outer][size of axis][inner], in the order of its layout. */
static void split_at(const TensorType *t, int axis, ll *outer, ll *inner)
{
    int order[MAX_RANK];
    bool before = true;
    *outer = *inner = 1;
    layout_order(t->layout, t->rank, order);
    for (int pos = 1; pos < t->rank; pos++) {
        if (order[pos] == axis)
            before = false;
        else if (before)
            *outer *= (ll)t->dim[order[pos]];
        else
            *inner *= (ll)t->dim[order[pos]];
    }
}

static void flip_emit(CWriter *w, const Node *n)
{
    const TensorType *t = &n->type;
    const int64_t given = ((const FlipAttrs *)n->attrs)->axis;
    const int axis = (int)(given < 0 ? given + t->rank : given);
    ll outer, inner;
    split_at(t, axis, &outer, &inner);
    cw_stmt(w, n, "nn_random_flip($key, $row0, $rows, %lld, %lld, %lld, $0, $out);", outer,
            (ll)t->dim[axis], inner);
}

static Work move_work(const Node *n)
{
    (void)n;
    return (Work){ 0 };
}

const OpDesc op_random_flip = {
    .name = "random_flip",
    .summary = "mirrors half of the samples",
    .torch = "torchvision RandomHorizontalFlip",
    .doc =
        "Each sample is mirrored along `axis` with probability 1/2: `axis = 3` flips images left to right. The "
        "gradient is mirrored alike.",
    .in = { "x" },
    .attrs = flip_attrs,
    .attr_size = sizeof(FlipAttrs),
    .flags = OPF_RANDOM | OPF_ANY_LAYOUT | OPF_LEAD,
    .shape = flip_shape,
    .grad = same_draws_grad,
    .work = move_work,
    .emit = flip_emit,
    .gradient = "dx is dy mirrored alike",
    .samples = SAMPLES({ "random_flip(x: f32[5,3,4,7], axis = 3)", "f32[5,3,4,7]" },
                       { "random_flip(x: f32[7,5])", "f32[7,5]" }),
};

typedef struct CropAttrs {
    int64_t pad, stream;
} CropAttrs;
static const AttrDef crop_attrs[] = {
    { "pad", ATTR_INT, offsetof(CropAttrs, pad), .def = NAN, .min = 0, .max = 1 << 20,
      .doc = "Zeros added on every side before cutting; the largest shift." },
    STREAM(CropAttrs),
    { 0 },
};

static bool crop_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    return shape_same(c, n, out) &&
           want(c, out->rank >= 3, IN(0), "expected samples with at least two axes, got rank %d",
                out->rank);
}

static void crop_emit_signed(CWriter *w, const Node *n, int sign)
{
    const TensorType *t = &n->type;
    ll outer, inner, unused;
    split_at(t, t->rank - 2, &outer, &unused);
    split_at(t, t->rank - 1, &unused, &inner);
    cw_stmt(w, n, "nn_random_crop($key, $row0, $rows, $pad, %d, %lld, %lld, %lld, %lld, $0, $out);",
            sign, outer, (ll)t->dim[t->rank - 2], (ll)t->dim[t->rank - 1], inner);
}

static void crop_emit(CWriter *w, const Node *n)
{
    crop_emit_signed(w, n, 1);
}
static void crop_dx_emit(CWriter *w, const Node *n)
{
    crop_emit_signed(w, n, -1);
}

static void crop_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk1(b, &op_random_crop_dx, n->attrs, dy[0]);
}

static void crop_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk1(b, &op_random_crop, n->attrs, dy[0]);
}

const OpDesc op_random_crop = {
    .name = "random_crop",
    .summary = "shifts samples at random",
    .torch = "torchvision RandomCrop",
    .doc =
        "Each sample is padded by `pad` zeros on all sides of its last two axes and cut back to its size at a random "
        "place. The gradient is shifted back.",
    .in = { "x" },
    .attrs = crop_attrs,
    .attr_size = sizeof(CropAttrs),
    .flags = OPF_RANDOM | OPF_ANY_LAYOUT | OPF_LEAD,
    .shape = crop_shape,
    .grad = crop_grad,
    .work = move_work,
    .emit = crop_emit,
    .gradient = "dx is dy moved back",
    .samples = SAMPLES({ "random_crop(x: f32[5,3,7,4], pad = 2)", "f32[5,3,7,4]" },
                       { "random_crop(x: f32[3,5,5], pad = 1)", "f32[3,5,5]" }),
};

const OpDesc op_random_crop_dx = {
    .name = "random_crop_dx",
    .summary = "gradient of random_crop",
    .doc = "Shifts back by what random_crop drew.",
    .in = { "dy" },
    .attrs = crop_attrs,
    .attr_size = sizeof(CropAttrs),
    .flags = OPF_RANDOM | OPF_ANY_LAYOUT | OPF_LEAD | OPF_INTERNAL,
    .shape = crop_shape,
    .grad = crop_dx_grad,
    .work = move_work,
    .emit = crop_dx_emit,
};
