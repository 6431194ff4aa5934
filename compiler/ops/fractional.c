/* SPDX-License-Identifier: MIT
 *
 * Fractional maximum pooling: windows of one size at pseudo-random distances, so that images shrink by factors
 * between one and two. Each sample draws one number for its rows and one for its columns.
 */
#include "ops/op.h"

typedef struct FractionalAttrs {
    TensorType like; /* gradient only */
    int64_t size[2], k[2], stream;
    bool random;
} FractionalAttrs;

static const AttrDef fractional_attrs[] = {
    { "size", ATTR_INT2, offsetof(FractionalAttrs, size), .def = NAN, .min = 1, .max = INT32_MAX,
      .doc = "Size of the result, [h, w] or one number." },
    { "k", ATTR_INT2, offsetof(FractionalAttrs, k), .def = 2, .min = 1, .max = INT32_MAX,
      .doc = "Size of the window." },
    { "random", ATTR_BOOL, offsetof(FractionalAttrs, random), .def = 1,
      .doc = "Draw u; without it u is 1/2." },
    { "stream", ATTR_INT, offsetof(FractionalAttrs, stream),
      .doc = "Stream number; 0: chosen by the compiler." },
    { 0 },
};
static const AttrDef fractional_dx_attrs[] = { { "like", ATTR_TYPE, offsetof(FractionalAttrs, like),
                                                 .def = NAN, .doc = "Type of the result." },
                                               { 0 } };

static bool fractional_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const FractionalAttrs *a = n->attrs;
    const TensorType *x = &n->in[0]->type;
    if (!want(c, x->dtype == DT_F32 && x->rank == 4, IN(0), "x is f32[N, C, H, W]")) return false;
    out[0] = *x;
    out[0].layout = LAYOUT_CANONICAL;
    for (int i = 0; i < 2; i++) {
        if (!want(c, a->k[i] <= x->dim[2 + i], ATTR(k), "a window of %lld does not fit into %lld",
                  (ll)a->k[i], (ll)x->dim[2 + i]) ||
            !want(c, a->size[i] + a->k[i] - 1 <= x->dim[2 + i], ATTR(size),
                  "%lld windows of %lld do not fit into %lld", (ll)a->size[i], (ll)a->k[i],
                  (ll)x->dim[2 + i]))
            return false;
        out[0].dim[2 + i] = a->size[i];
    }
    if (!want(c, x->dim[2] * x->dim[3] <= INT32_MAX, IN(0),
              "an image has more than 2^31 - 1 positions"))
        return false;
    out[1] = out[0];
    out[1].dtype = DT_I32;
    return true;
}

static void fractional_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const FractionalAttrs a = { .like = n->in[0]->type };
    if (dy[0]) dx[0] = mk2(b, &op_fractional_max_pool2d_dx, &a, dy[0], mk_result(b, (Node *)n, 1));
}

static void fractional_emit(CWriter *w, const Node *n)
{
    const FractionalAttrs *a = n->attrs;
    const TensorType *x = &n->in[0]->type;
    cw_stmt(
        w, n,
        "nn_fractional_max_pool2d(%s, $row0, $rows, %d, %lld, %lld, %lld, $size, $k, $0, $out, $out1);",
        a->random ? "$key" : "(nn_key){ { 0 } }", a->random, (ll)x->dim[2], (ll)x->dim[3],
        (ll)x->dim[1]);
}

static Work fractional_work(const Node *n)
{
    const FractionalAttrs *a = n->attrs;
    return (Work){ .flops = type_numel(&n->type, 0, 4) * a->k[0] * a->k[1] };
}

const OpDesc op_fractional_max_pool2d = {
    .name = "fractional_max_pool2d",
    .summary = "maximum over windows at pseudo-random distances",
    .doc =
        "Window `i` of `size` begins at `floor((i + u) a) - floor(u a)` with `a = (H - k) / (size - 1)`, the last "
        "one at `H - k`; rows and columns likewise. `u` in [0, 1) is drawn for each sample and each of the two axes "
        "(Graham 2014), or is 1/2 without `random`, as in `infer`. The gradient goes to the first maximum, NaN wins. "
        "Result 1 is the position in the image.",
    .torch = "nn.functional.fractional_max_pool2d",
    .in = { "x" },
    .attrs = fractional_attrs,
    .attr_size = sizeof(FractionalAttrs),
    .flags = OPF_RANDOM | OPF_LEAD | OPF_CHANNELS_LAST,
    .n_results = 2,
    .shape = fractional_shape,
    .grad = fractional_grad,
    .work = fractional_work,
    .emit = fractional_emit,
    .gradient = "dy goes to the first maximum of its window",
    .samples =
        SAMPLES({ "fractional_max_pool2d(x: f32[3,2,9,10], size = [6, 7])", "f32[3,2,6,7]" },
                { "fractional_max_pool2d(x: f32[2,17,7,7], size = 5, k = 3, random = false)",
                  "f32[2,17,5,5]" },
                { "fractional_max_pool2d(x: f32[1,2,3,2], size = 1, k = [3, 2])", "f32[1,2,1,1]" }),
};

static void fractional_dx_emit(CWriter *w, const Node *n)
{
    const TensorType *x = &n->type, *y = &n->in[0]->type;
    cw_stmt(w, n, "nn_fractional_max_pool2d_dx($rows, %lld, %lld, %lld, $0, $1, $out);",
            (ll)(x->dim[2] * x->dim[3]), (ll)(y->dim[2] * y->dim[3]), (ll)x->dim[1]);
}

static Work fractional_dx_work(const Node *n)
{
    return (Work){ .flops = type_numel(&n->in[0]->type, 0, 4) };
}

static void fractional_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_pool_pick, NULL, dy[0], n->in[1]);
}

const OpDesc op_fractional_max_pool2d_dx = {
    .name = "fractional_max_pool2d_dx",
    .summary = "gradient of fractional_max_pool2d",
    .doc = "Each dy is added at the position of its maximum.",
    .in = { "dy", "index" },
    .attrs = fractional_dx_attrs,
    .attr_size = sizeof(FractionalAttrs),
    .flags = OPF_LEAD | OPF_CHANNELS_LAST | OPF_INTERNAL,
    .shape = shape_from_attr,
    .grad = fractional_dx_grad,
    .work = fractional_dx_work,
    .emit = fractional_dx_emit,
};
