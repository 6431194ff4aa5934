/* SPDX-License-Identifier: MIT
 *
 * Operators that move elements without computing: views (reshape, flatten, stop_grad) and strided copies.
 * The batch axis stays axis 0 throughout. Copies are boxes of runtime/kernels/copy.h: extents with a
 * stride on either side, sorted by the order of the result in memory and merged where both sides allow.
 */
#include "ops/window.h"

/* ---- boxes ---- */

typedef struct Box {
    int n; /* axes besides axis 0 */
    int64_t size[MAX_RANK], xs[MAX_RANK], ys[MAX_RANK];
    int64_t rows, row_xs, row_ys; /* axis 0, per unit of batch; rows = 0: as many as the thread has */
    int64_t x_offset, y_offset;   /* elements; where the box starts on either side */
} Box;

/* Sorts by stride in the result, merges axes that are contiguous on both sides. False: more than five remain. */
static bool box_pack(Box *box)
{
    int n = 0;
    for (int i = 0; i < box->n; i++) {
        if (box->size[i] == 1) continue;
        int at = n++;
        const int64_t size = box->size[i], xs = box->xs[i], ys = box->ys[i];
        for (; at > 0 && box->ys[at - 1] < ys; at--) {
            box->size[at] = box->size[at - 1];
            box->xs[at] = box->xs[at - 1];
            box->ys[at] = box->ys[at - 1];
        }
        box->size[at] = size;
        box->xs[at] = xs;
        box->ys[at] = ys;
    }
    int m = 0;
    for (int i = 0; i < n; i++) {
        if (m && box->xs[m - 1] == box->xs[i] * box->size[i] &&
            box->ys[m - 1] == box->ys[i] * box->size[i]) {
            box->size[m - 1] *= box->size[i];
        } else {
            box->size[m] = box->size[i];
            m++;
        }
        box->xs[m - 1] = box->xs[i];
        box->ys[m - 1] = box->ys[i];
    }
    box->n = m;
    return m <= 5;
}

static const char *const element_size[] = {
    [DT_F32] = "sizeof(nn_real)", [DT_I32] = "sizeof(int32_t)", [DT_U8] = "1", [DT_BOOL] = "1"
};

/* One nn_copy of operand `k`, or nn_copy_team where threads divide the lines of the whole box. */
static void box_emit(CWriter *w, const Node *n, int k, Box *box)
{
    Arena *a = arena_new();
    StrBuf size, xs, ys;
    const bool lead = op_is_lead(n);
    box_pack(box);
    sb_init(&size, a);
    sb_init(&xs, a);
    sb_init(&ys, a);
    sb_puts(&size, box->rows ? arena_printf(a, "%s%lld", n->type.batch ? "$batch * " : "", (ll)box->rows) : "$rows");
    sb_printf(&xs, "%lld", (ll)box->row_xs);
    sb_printf(&ys, "%lld", (ll)box->row_ys);
    for (int i = 0; i < 5; i++) {
        const int at = i - (5 - box->n);
        const bool used = at >= 0;
        sb_printf(&size, ", %lld", used ? (ll)box->size[at] : 1LL);
        sb_printf(&xs, ", %lld", used ? (ll)box->xs[at] : 0LL);
        sb_printf(&ys, ", %lld", used ? (ll)box->ys[at] : 0LL);
    }
    const char *x = box->x_offset ? arena_printf(a, "$%d + %lld", k, (ll)box->x_offset)
                                  : arena_printf(a, "$%d", k);
    const char *y = box->y_offset ? arena_printf(a, "$out + %lld", (ll)box->y_offset) : "$out";
    cw_stmt(w, n, "%s%s, (nn_box){ { %s }, { %s }, { %s } }, %s, %s);",
            lead ? "nn_copy(" : "nn_copy_team($team, ", element_size[n->type.dtype], size.text,
            xs.text, ys.text, x, y);
    arena_free(a);
}

/* Fills the result, before a box is copied into it. */
static void fill_emit(CWriter *w, const Node *n, const char *value)
{
    const int64_t per_row = type_numel(&n->type, 1, n->type.rank);
    if (op_is_lead(n)) {
        cw_stmt(w, n, "nn_fill($rows%s, %s, $out);", by(per_row).text, value);
    } else {
        cw_stmt(w, n, "nn_fill_team($team, %s * %lld, %s, $out);", rows_text(&n->type, 1).s, (ll)per_row, value);
        cw_stmt(w, n, "nn_barrier($team);");
    }
}

/* A box over all of `x` whose axis i goes to axis i of the result. */
static Box box_of(const Node *n, const TensorType *x)
{
    int64_t xs[MAX_RANK], ys[MAX_RANK];
    Box box = { .n = x->rank - 1 };
    type_strides(x, xs);
    type_strides(&n->type, ys);
    box.rows = op_is_lead(n) ? 0 : x->dim[0];
    box.row_xs = xs[0];
    box.row_ys = ys[0];
    for (int i = 1; i < x->rank; i++) {
        box.size[i - 1] = x->dim[i];
        box.xs[i - 1] = xs[i];
        box.ys[i - 1] = ys[i];
    }
    return box;
}

static int axis_of(const TensorType *t, int64_t axis)
{
    return (int)(axis < 0 ? axis + t->rank : axis);
}

/* Copies are limited by the loops of nn_copy. */
static bool want_few_axes(ShapeCtx *c, const Node *n)
{
    const int rank = n->in[0]->type.rank;
    return want(c, rank >= 1 && rank <= 6, IN(0), "expected 1 to 6 axes, got %d", rank);
}

static Work copy_work(const Node *n)
{
    (void)n;
    return (Work){ 0 };
}

/* ---- reshape, flatten, stop_grad ---- */

static const AttrDef reshape_attrs[] = {
    { "shape", ATTR_SHAPE, offsetof(TypeAttrs, type), .def = NAN,
      .doc = "The new shape; one entry may be -1 and is worked out from the others." },
    { 0 },
};

static bool reshape_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *x = &n->in[0]->type;
    Arena *a = arena_new();
    int64_t known = 1, all = type_numel(x, 0, x->rank);
    int unknown = -1;
    *out = ((const TypeAttrs *)n->attrs)->type;
    out->dtype = x->dtype;
    out->layout = LAYOUT_CANONICAL;
    bool ok = true;
    for (int i = 0; i < out->rank && ok; i++) {
        if (out->dim[i] == -1) {
            ok = want(c, unknown < 0, ATTR(shape), "only one size may be -1");
            unknown = i;
        } else {
            ok = want(c, out->dim[i] >= 1, ATTR(shape), "size %lld of axis %d is not positive",
                      (ll)out->dim[i], i);
            if (ok && __builtin_mul_overflow(known, out->dim[i], &known)) known = INT64_MAX;
        }
    }
    if (ok && unknown >= 0) {
        ok = want(c, all % known == 0, ATTR(shape), "%lld elements are not divisible by %lld",
                  (ll)all, (ll)known);
        if (ok) {
            out->dim[unknown] = all / known;
            if (unknown == 0) out->batch = x->batch;
            known = all;
        }
    }
    ok = ok && want(c, out->batch == x->batch, ATTR(shape),
                    x->batch ? "the batch axis of the operand must stay axis 0"
                             : "the operand has no batch axis");
    ok = ok &&
         want(c, known == all, ATTR(shape), "%s has %lld elements%s, the new shape %lld",
              type_text(a, x), (ll)all, x->batch ? " per unit of the batch size" : "", (ll)known);
    arena_free(a);
    return ok;
}

static void reshape_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk_reshape_like(b, dy[0], &n->in[0]->type);
}

static Node *reshape_to(Builder *b, Node *x, const TensorType *t)
{
    TypeAttrs attrs = { *t };
    attrs.type.dtype = DT_F32; /* the element type is the operand's */
    return mk1(b, &op_reshape, &attrs, x);
}

/* reshape of reshape or flatten = one reshape; a reshape to the same shape is its operand; one of a constant is a
 * constant. One node fewer each. */
static Node *reshape_simplify(Builder *b, const Node *n)
{
    Node *x = n->in[0];
    double v;
    if (same_as(x, n)) return x;
    if (node_const_value(x, &v)) return mk_fill(b, &n->type, v);
    if (op_is(x, &op_reshape) || op_is(x, &op_flatten)) return reshape_to(b, x->in[0], &n->type);
    return NULL;
}

const OpDesc op_reshape = {
    .name = "reshape",
    .summary = "another shape for the same elements",
    .torch = "torch.reshape",
    .doc =
        "Elements keep their row-major order. The batch axis stays axis 0: `f32[B,T,D]` may become "
        "`f32[T*B,D]`. No element moves.",
    .in = { "x" },
    .attrs = reshape_attrs,
    .attr_size = sizeof(TypeAttrs),
    .flags = OPF_VIEW,
    .shape = reshape_shape,
    .grad = reshape_grad,
    .simplify = reshape_simplify,
    .work = copy_work,
    .onnx = "Reshape",
    .gradient = "dx is dy in the shape of x",
    .samples = SAMPLES({ "reshape(x: f32[3,4,5], shape = [3, 20])", "f32[3,20]" },
                       { "reshape(x: f32[2,6,5], shape = [2, -1, 3, 5])", "f32[2,2,3,5]" }),
};

typedef struct FlattenAttrs {
    int64_t start;
} FlattenAttrs;
static const AttrDef flatten_attrs[] = {
    { "start", ATTR_INT, offsetof(FlattenAttrs, start), .def = 1,
      .doc = "The first axis that is merged." },
    { 0 },
};

static bool flatten_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *x = &n->in[0]->type;
    const int64_t given = ((const FlattenAttrs *)n->attrs)->start;
    const int64_t start = given < 0 ? given + x->rank : given;
    if (!want(c, start >= 0 && start <= x->rank, ATTR(start),
              "axis %lld is out of range for rank %d", (ll)given, x->rank))
        return false;
    *out = (TensorType){ .dtype = x->dtype, .batch = x->batch, .rank = (int)start + 1 };
    if (!want(c, out->rank <= MAX_RANK, ATTR(start), "the result would have %d axes", out->rank))
        return false;
    for (int i = 0; i < start; i++) out->dim[i] = x->dim[i];
    out->dim[start] = type_numel(x, (int)start, x->rank);
    return true;
}

/* A flatten is a reshape; to the same shape it is its operand. A reshape never becomes a flatten. */
static Node *flatten_simplify(Builder *b, const Node *n)
{
    return same_as(n->in[0], n) ? n->in[0] : reshape_to(b, n->in[0], &n->type);
}

const OpDesc op_flatten = {
    .name = "flatten",
    .summary = "merges all axes from one on",
    .torch = "torch.flatten",
    .doc = "`f32[B,16,5,5]` becomes `f32[B,400]`. No element moves.",
    .in = { "x" },
    .attrs = flatten_attrs,
    .attr_size = sizeof(FlattenAttrs),
    .flags = OPF_VIEW,
    .shape = flatten_shape,
    .grad = reshape_grad,
    .simplify = flatten_simplify,
    .work = copy_work,
    .onnx = "Flatten",
    .gradient = "dx is dy in the shape of x",
    .samples = SAMPLES({ "flatten(x: f32[2,3,5,7])", "f32[2,105]" },
                       { "flatten(x: f32[2,3,5,7], start = 2)", "f32[2,3,35]" }),
};

static void stop_grad_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    (void)b;
    (void)n;
    (void)dy;
    (void)dx; /* autodiff does not follow this operator; whoever asks gets no gradient */
}

const OpDesc op_stop_grad = {
    .name = "stop_grad",
    .summary = "the value without its gradient",
    .torch = "torch.Tensor.detach",
    .doc = "`y = x`; what led to `x` gets no gradient through `y`. No element moves.",
    .in = { "x" },
    .flags = OPF_VIEW | OPF_ANY_LAYOUT,
    .shape = shape_like_operand0,
    .grad = stop_grad_grad,
    .work = copy_work,
    .gradient = "none goes to x",
    .samples = SAMPLES({ "stop_grad(x: f32[3,5])", "f32[3,5]" }),
};

/* ---- permute ---- */

typedef struct PermuteAttrs {
    IntList axes;
} PermuteAttrs;
static const AttrDef permute_attrs[] = {
    { "axes", ATTR_INTS, offsetof(PermuteAttrs, axes), .def = NAN,
      .doc = "Axis i of the result is axis axes[i] of x." },
    { 0 },
};

static bool permute_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const IntList *axes = &((const PermuteAttrs *)n->attrs)->axes;
    const TensorType *x = &n->in[0]->type;
    bool used[MAX_RANK] = { false };
    if (!want_few_axes(c, n) ||
        !want(c, axes->n == x->rank, ATTR(axes), "expected %d axes, got %d", x->rank, axes->n))
        return false;
    *out = (TensorType){ .dtype = x->dtype, .batch = x->batch, .rank = x->rank };
    for (int i = 0; i < x->rank; i++) {
        const int from = axis_of(x, axes->v[i]);
        if (!want(c, from >= 0 && from < x->rank, ATTR(axes),
                  "axis %lld is out of range for rank %d", (ll)axes->v[i], x->rank) ||
            !want(c, !used[from], ATTR(axes), "axis %d is named twice", from))
            return false;
        used[from] = true;
        out->dim[i] = x->dim[from];
    }
    return want(c, !x->batch || axis_of(x, axes->v[0]) == 0, ATTR(axes),
                "the batch axis must stay axis 0");
}

static void permute_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const IntList *axes = &((const PermuteAttrs *)n->attrs)->axes;
    PermuteAttrs back = { { .n = axes->n } };
    for (int i = 0; i < axes->n; i++) back.axes.v[axis_of(&n->type, axes->v[i])] = i;
    dx[0] = mk1(b, &op_permute, &back, dy[0]);
}

/* The identity is its operand; permute of permute is one permute. One node fewer each. */
static Node *permute_simplify(Builder *b, const Node *n)
{
    const IntList *axes = &((const PermuteAttrs *)n->attrs)->axes;
    Node *x = n->in[0];
    bool identity = true;
    for (int i = 0; i < axes->n; i++) identity &= axis_of(&n->type, axes->v[i]) == i;
    if (identity && same_as(x, n)) return x;
    if (!op_is(x, &op_permute)) return NULL;
    const IntList *inner = &((const PermuteAttrs *)x->attrs)->axes;
    PermuteAttrs both = { { .n = axes->n } };
    for (int i = 0; i < axes->n; i++)
        both.axes.v[i] = axis_of(&n->type, inner->v[axis_of(&n->type, axes->v[i])]);
    return mk1(b, &op_permute, &both, x->in[0]);
}

static bool permute_is_lead(const Node *n)
{
    const IntList *axes = &((const PermuteAttrs *)n->attrs)->axes;
    return axes->n > 0 && axis_of(&n->type, axes->v[0]) == 0 && !sample_is_large(&n->type);
}

static void permute_emit(CWriter *w, const Node *n)
{
    const IntList *axes = &((const PermuteAttrs *)n->attrs)->axes;
    int64_t xs[MAX_RANK], ys[MAX_RANK];
    Box box = { .rows = permute_is_lead(n) ? 0 : n->type.dim[0], .n = n->type.rank - 1 };
    type_strides(&n->in[0]->type, xs);
    type_strides(&n->type, ys);
    box.row_xs = xs[axis_of(&n->type, axes->v[0])];
    box.row_ys = ys[0];
    for (int i = 1; i < n->type.rank; i++) {
        box.size[i - 1] = n->type.dim[i];
        box.xs[i - 1] = xs[axis_of(&n->type, axes->v[i])];
        box.ys[i - 1] = ys[i];
    }
    box_emit(w, n, 0, &box);
}

const OpDesc op_permute = {
    .name = "permute",
    .summary = "axes in another order",
    .torch = "torch.permute",
    .doc =
        "Axis `i` of the result is axis `axes[i]` of `x`; a transposition is `axes = [1, 0]`. The batch axis stays "
        "axis 0.",
    .in = { "x" },
    .attrs = permute_attrs,
    .attr_size = sizeof(PermuteAttrs),
    .is_lead = permute_is_lead,
    .shape = permute_shape,
    .grad = permute_grad,
    .simplify = permute_simplify,
    .work = copy_work,
    .emit = permute_emit,
    .onnx = "Transpose",
    .gradient = "dx is dy permuted back",
    .samples = SAMPLES({ "permute(x: f32[3,5], axes = [1, 0])", "f32[5,3]" },
                       { "permute(x: f32[2,3,5,7], axes = [0, 2, 3, 1])", "f32[2,5,7,3]" },
                       { "permute(x: f32[2,3,2,5,3], axes = [0, 3, 1, 4, 2])", "f32[2,5,3,3,2]" }),
};

/* ---- slice ---- */

static const double TO_THE_END = 281474976710656.0; /* 2^48: larger than any axis */

typedef struct SliceAttrs {
    int64_t axis, start, stop, step;
    TensorType like; /* slice_dx: the type of the operand of slice */
} SliceAttrs;
#define SLICE_ATTRS                                                                                \
    { "axis", ATTR_INT, offsetof(SliceAttrs, axis), .def = NAN, .doc = "The axis that is cut." },  \
        { "start", ATTR_INT, offsetof(SliceAttrs, start),                                          \
          .doc = "The first index; negative ones count from the end." },                           \
        { "stop", ATTR_INT, offsetof(SliceAttrs, stop), .def = 281474976710656.0,                  \
          .doc = "One past the last index; negative ones count from the end. Default: the end." }, \
    {                                                                                              \
        "step", ATTR_INT, offsetof(SliceAttrs, step),                                              \
            .def = 1, .min = 1, .max = 281474976710656.0, .doc = "Distance between indices."       \
    }

static const AttrDef slice_attrs[] = { SLICE_ATTRS, { 0 } };
static const AttrDef slice_dx_attrs[] = {
    SLICE_ATTRS,
    { "like", ATTR_TYPE, offsetof(SliceAttrs, like), .doc = "The type of the result." },
    { 0 },
};

static int64_t slice_start(const SliceAttrs *a, const TensorType *x)
{
    return a->start < 0 ? a->start + x->dim[axis_of(x, a->axis)] : a->start;
}

static int64_t slice_stop(const SliceAttrs *a, const TensorType *x)
{
    const int64_t size = x->dim[axis_of(x, a->axis)];
    return a->stop < 0 ? a->stop + size : a->stop == (int64_t)TO_THE_END ? size : a->stop;
}

static bool slice_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const SliceAttrs *a = n->attrs;
    const TensorType *x = &n->in[0]->type;
    int axis;
    if (!want_few_axes(c, n) || !axis_normalize(c, n, 0, a->axis, &axis) ||
        !want(c, axis > 0 || !x->batch, ATTR(axis), "the batch axis cannot be cut"))
        return false;
    const int64_t size = x->dim[axis], start = slice_start(a, x), stop = slice_stop(a, x);
    if (!want(c, start >= 0 && start < size, ATTR(start),
              "start %lld is outside axis %d of size %lld", (ll)a->start, axis, (ll)size) ||
        !want(c, stop <= size, ATTR(stop), "stop %lld is outside axis %d of size %lld", (ll)a->stop,
              axis, (ll)size) ||
        !want(c, stop > start, ATTR(stop), "the slice is empty: start %lld, stop %lld", (ll)start,
              (ll)stop) ||
        !want(c, a->step >= 1, ATTR(step), "step %lld is not positive", (ll)a->step))
        return false;
    *out = *x;
    out->layout = LAYOUT_CANONICAL;
    out->dim[axis] = (stop - start + a->step - 1) / a->step;
    return true;
}

static bool slice_is_lead(const Node *n)
{
    return axis_of(&n->type, ((const SliceAttrs *)n->attrs)->axis) > 0 && !sample_is_large(&n->type);
}

static void slice_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    SliceAttrs back = *(const SliceAttrs *)n->attrs;
    back.like = n->in[0]->type;
    if (!b->module->has_layouts) back.like.layout = LAYOUT_CANONICAL;
    dx[0] = mk1(b, &op_slice_dx, &back, dy[0]);
}

/* A slice of everything is its operand; one of a constant is a constant. One node fewer. */
static Node *slice_simplify(Builder *b, const Node *n)
{
    double v;
    if (same_as(n->in[0], n) && ((const SliceAttrs *)n->attrs)->step == 1) return n->in[0];
    return node_const_value(n->in[0], &v) ? mk_fill(b, &n->type, v) : NULL;
}

/* The box of the slice: `whole` is the uncut side, `part` the cut one. */
static Box slice_box(const Node *n, const TensorType *whole, const TensorType *part, bool to_part)
{
    const SliceAttrs *a = n->attrs;
    const int axis = axis_of(whole, a->axis);
    int64_t ws[MAX_RANK], ps[MAX_RANK];
    Box box = { .n = part->rank - 1 };
    type_strides(whole, ws);
    type_strides(part, ps);
    const int64_t offset = slice_start(a, whole) * ws[axis];
    ws[axis] *= a->step;
    box.rows = op_is_lead(n) ? 0 : part->dim[0];
    box.row_xs = to_part ? ws[0] : ps[0];
    box.row_ys = to_part ? ps[0] : ws[0];
    box.x_offset = to_part ? offset : 0;
    box.y_offset = to_part ? 0 : offset;
    for (int i = 1; i < part->rank; i++) {
        box.size[i - 1] = part->dim[i];
        box.xs[i - 1] = to_part ? ws[i] : ps[i];
        box.ys[i - 1] = to_part ? ps[i] : ws[i];
    }
    return box;
}

static void slice_emit(CWriter *w, const Node *n)
{
    Box box = slice_box(n, &n->in[0]->type, &n->type, true);
    box_emit(w, n, 0, &box);
}

const OpDesc op_slice = {
    .name = "slice",
    .summary = "part of one axis",
    .torch = "torch.Tensor[start:stop:step]",
    .doc =
        "Indices `start, start + step, ...` below `stop` of `axis`. A range that leaves the axis is an error. The "
        "batch axis cannot be cut.",
    .in = { "x" },
    .attrs = slice_attrs,
    .attr_size = sizeof(SliceAttrs),
    .flags = OPF_ANY_LAYOUT,
    .is_lead = slice_is_lead,
    .shape = slice_shape,
    .grad = slice_grad,
    .simplify = slice_simplify,
    .work = copy_work,
    .emit = slice_emit,
    .onnx = "Slice",
    .gradient = "dx is dy at the places taken, else 0",
    .samples = SAMPLES({ "slice(x: f32[3,7], axis = 1, start = 2, stop = 5)", "f32[3,3]" },
                       { "slice(x: f32[2,3,9,2], axis = 2, start = 1, step = 3)", "f32[2,3,3,2]" },
                       { "slice(x: f32[7,3], axis = 0, start = -3, stop = -1)", "f32[2,3]" }),
};

static bool slice_dx_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    (void)c;
    *out = ((const SliceAttrs *)n->attrs)->like;
    return true;
}

static void slice_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk1(b, &op_slice, n->attrs, dy[0]);
}

static void slice_dx_emit(CWriter *w, const Node *n)
{
    Box box = slice_box(n, &n->type, &n->in[0]->type, false);
    fill_emit(w, n, "0");
    box_emit(w, n, 0, &box);
}

/* The ends of two slices that meet. Slices that together are everything are concatenated; in between, the parts of
 * a concatenation grow. */
static Node *slice_dx_join(Builder *b, const Node *x, const Node *y)
{
    const SliceAttrs *ax = x->attrs, *ay = y->attrs;
    const TensorType *t = &x->type;
    const int axis = axis_of(t, ax->axis);
    if (!same_as(x, y) || axis != axis_of(&y->type, ay->axis) || ax->step != 1 || ay->step != 1)
        return NULL;
    if (slice_start(ay, t) < slice_start(ax, t)) return slice_dx_join(b, y, x);
    if (slice_stop(ax, t) != slice_start(ay, t)) return NULL;
    Node *part[OP_MAX_IN];
    int n = 0;
    const Node *const both[2] = { x, y };
    for (int i = 0; i < 2; i++) {
        Node *dy = both[i]->in[0];
        const bool joined = op_is(dy, &op_concat) &&
                            axis_of(&dy->type, ((const AxisAttrs *)dy->attrs)->axis) == axis;
        const int count = joined ? dy->n_in : 1;
        if (n + count > OP_MAX_IN) return NULL;
        for (int k = 0; k < count; k++) part[n++] = joined ? dy->in[k] : dy;
    }
    Node *parts = mk(b, &op_concat, &(AxisAttrs){ .axis = axis }, n, part);
    SliceAttrs whole = *ax;
    whole.start = slice_start(ax, t);
    whole.stop = slice_stop(ay, t);
    if (whole.start == 0 && whole.stop == t->dim[axis]) return parts;
    return mk1(b, &op_slice_dx, &whole, parts);
}

const OpDesc op_slice_dx = {
    .name = "slice_dx",
    .summary = "gradient of slice",
    .doc = "Zeros, with `dy` where the slice was taken.",
    .in = { "dy" },
    .attrs = slice_dx_attrs,
    .attr_size = sizeof(SliceAttrs),
    .flags = OPF_ANY_LAYOUT | OPF_INTERNAL,
    .is_lead = slice_is_lead,
    .shape = slice_dx_shape,
    .grad = slice_dx_grad,
    .join = slice_dx_join,
    .work = copy_work,
    .emit = slice_dx_emit,
};

/* ---- concat ---- */

static const AttrDef concat_attrs[] = {
    { "axis", ATTR_INT, offsetof(AxisAttrs, axis), .def = 1,
      .doc = "The axis along which operands are joined." },
    { 0 },
};

static bool concat_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *x = &n->in[0]->type;
    int axis;
    if (!want_few_axes(c, n) ||
        !axis_normalize(c, n, 0, ((const AxisAttrs *)n->attrs)->axis, &axis))
        return false;
    *out = *x;
    out->layout = LAYOUT_CANONICAL;
    if (!want(c, axis > 0 || !x->batch, ATTR(axis), "cannot join along the batch axis"))
        return false;
    for (int k = 1; k < n->n_in; k++) {
        const TensorType *t = &n->in[k]->type;
        if (!want(c, t->dtype == x->dtype, IN(k), "expected %s like operand 0, got %s",
                  dtype_name(x->dtype), dtype_name(t->dtype)) ||
            !want(c, t->rank == x->rank, IN(k), "expected rank %d like operand 0, got %d", x->rank,
                  t->rank))
            return false;
        for (int i = 0; i < x->rank; i++)
            if (!want(c, i == axis || (t->dim[i] == x->dim[i] && (i || t->batch == x->batch)),
                      IN(k), "operands differ on axis %d: only axis %d may", i, axis))
                return false;
        if (!want(c, !t->batch || axis > 0, IN(k), "cannot join along the batch axis"))
            return false;
        if (__builtin_add_overflow(out->dim[axis], t->dim[axis], &out->dim[axis]))
            out->dim[axis] = INT64_MAX;
    }
    return true;
}

static bool concat_is_lead(const Node *n)
{
    return axis_of(&n->type, ((const AxisAttrs *)n->attrs)->axis) > 0 && !sample_is_large(&n->type);
}

static void concat_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const int axis = axis_of(&n->type, ((const AxisAttrs *)n->attrs)->axis);
    int64_t start = 0;
    for (int k = 0; k < n->n_in; k++) {
        const int64_t size = n->in[k]->type.dim[axis];
        const SliceAttrs part = { .axis = axis, .start = start, .stop = start + size, .step = 1 };
        dx[k] = mk1(b, &op_slice, &part, dy[0]);
        start += size;
    }
}

/* concat of one operand is that operand; one node fewer. */
static Node *concat_simplify(Builder *b, const Node *n)
{
    (void)b;
    return n->n_in == 1 && same_as(n->in[0], n) ? n->in[0] : NULL;
}

static void concat_emit(CWriter *w, const Node *n)
{
    const int axis = axis_of(&n->type, ((const AxisAttrs *)n->attrs)->axis);
    int64_t ys[MAX_RANK], start = 0;
    type_strides(&n->type, ys);
    for (int k = 0; k < n->n_in; k++) {
        Box box = box_of(n, &n->in[k]->type);
        box.y_offset = start * ys[axis];
        box_emit(w, n, k, &box);
        start += n->in[k]->type.dim[axis];
    }
}

const OpDesc op_concat = {
    .name = "concat",
    .summary = "joins tensors along an axis",
    .torch = "torch.cat",
    .doc =
        "Operands agree in all other axes. Joining along axis 1 of images joins channels. The batch axis cannot be "
        "joined.",
    .in = { "x*" },
    .attrs = concat_attrs,
    .attr_size = sizeof(AxisAttrs),
    .flags = OPF_ANY_LAYOUT,
    .is_lead = concat_is_lead,
    .shape = concat_shape,
    .grad = concat_grad,
    .simplify = concat_simplify,
    .work = copy_work,
    .emit = concat_emit,
    .onnx = "Concat",
    .gradient = "each operand gets its part of dy",
    .samples =
        SAMPLES({ "concat(a: f32[2,3], b: f32[2,5], axis = 1)", "f32[2,8]" },
                { "concat(a: f32[2,3,5,2], b: f32[2,1,5,2], c: f32[2,2,5,2])", "f32[2,6,5,2]" },
                { "concat(a: f32[3,5], b: f32[2,5], axis = 0)", "f32[5,5]" }),
};

/* ---- pad ---- */

typedef struct PadAttrs {
    IntList before, after;
    double value;
} PadAttrs;
static const AttrDef pad_attrs[] = {
    { "before", ATTR_INTS, offsetof(PadAttrs, before), .def = NAN,
      .doc = "Elements added in front, per axis." },
    { "after", ATTR_INTS, offsetof(PadAttrs, after), .def = NAN,
      .doc = "Elements added at the end, per axis." },
    { "value", ATTR_FLOAT, offsetof(PadAttrs, value), .doc = "What is added." },
    { 0 },
};

static bool pad_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const PadAttrs *a = n->attrs;
    const TensorType *x = &n->in[0]->type;
    if (!want(c, x->dtype == DT_F32, IN(0), "expected f32 values, got %s", dtype_name(x->dtype)) ||
        !want_few_axes(c, n) ||
        !want(c, a->before.n == x->rank, ATTR(before), "expected %d numbers, got %d", x->rank,
              a->before.n) ||
        !want(c, a->after.n == x->rank, ATTR(after), "expected %d numbers, got %d", x->rank,
              a->after.n) ||
        !want(c, isfinite(a->value), ATTR(value), "expected a finite value"))
        return false;
    *out = *x;
    out->layout = LAYOUT_CANONICAL;
    for (int i = 0; i < x->rank; i++) {
        const int64_t most = INT64_C(1) << 40;
        if (!want(c, a->before.v[i] >= 0 && a->before.v[i] <= most, ATTR(before),
                  "%lld is not a number of elements to add", (ll)a->before.v[i]) ||
            !want(c, a->after.v[i] >= 0 && a->after.v[i] <= most, ATTR(after),
                  "%lld is not a number of elements to add", (ll)a->after.v[i]))
            return false;
        out->dim[i] += a->before.v[i] + a->after.v[i];
    }
    return want(c, !x->batch || out->dim[0] == x->dim[0], ATTR(before),
                "the batch axis cannot be padded");
}

static bool pad_is_lead(const Node *n)
{
    const PadAttrs *a = n->attrs;
    return n->type.rank > 0 && a->before.v[0] == 0 && a->after.v[0] == 0 && !sample_is_large(&n->type);
}

static void pad_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const PadAttrs *a = n->attrs;
    Node *d = dy[0];
    for (int i = 0; i < n->type.rank; i++) {
        const int64_t start = a->before.v[i], stop = start + n->in[0]->type.dim[i];
        if (start == 0 && stop == n->type.dim[i]) continue;
        const SliceAttrs part = { .axis = i, .start = start, .stop = stop, .step = 1 };
        d = mk1(b, &op_slice, &part, d);
    }
    dx[0] = d;
}

/* Padding by nothing is the operand; one node fewer. */
static Node *pad_simplify(Builder *b, const Node *n)
{
    (void)b;
    return same_as(n->in[0], n) ? n->in[0] : NULL;
}

static void pad_emit(CWriter *w, const Node *n)
{
    const PadAttrs *a = n->attrs;
    int64_t ys[MAX_RANK];
    Box box = box_of(n, &n->in[0]->type);
    type_strides(&n->type, ys);
    for (int i = 0; i < n->type.rank; i++) box.y_offset += a->before.v[i] * ys[i];
    fill_emit(w, n, "$value");
    box_emit(w, n, 0, &box);
}

const OpDesc op_pad = {
    .name = "pad",
    .summary = "adds a border",
    .torch = "torch.nn.functional.pad",
    .doc =
        "Adds `before[i]` elements in front of axis `i` and `after[i]` behind it, all equal to `value`.",
    .in = { "x" },
    .attrs = pad_attrs,
    .attr_size = sizeof(PadAttrs),
    .flags = OPF_ANY_LAYOUT,
    .is_lead = pad_is_lead,
    .shape = pad_shape,
    .grad = pad_grad,
    .simplify = pad_simplify,
    .work = copy_work,
    .emit = pad_emit,
    .onnx = "Pad",
    .gradient = "dx is dy without the border",
    .samples = SAMPLES(
        { "pad(x: f32[2,3], before = [0, 1], after = [0, 2], value = 0.5)", "f32[2,6]" },
        { "pad(x: f32[2,3,5,3], before = [0, 0, 1, 2], after = [0, 0, 3, 0])", "f32[2,3,9,5]" },
        { "pad(x: f32[3], before = [2], after = [1])", "f32[6]" }),
};

/* ---- gather ---- */

typedef struct GatherAttrs {
    int64_t axis;
    TensorType like; /* gather_dx: the type of the operand of gather */
} GatherAttrs;
#define GATHER_AXIS                                                                                \
    {                                                                                              \
        "axis", ATTR_INT, offsetof(GatherAttrs, axis),                                             \
            .doc = "The axis that ids are positions on."                                           \
    }

static const AttrDef gather_attrs[] = { GATHER_AXIS, { 0 } };
static const AttrDef gather_dx_attrs[] = {
    GATHER_AXIS,
    { "like", ATTR_TYPE, offsetof(GatherAttrs, like), .doc = "The type of the result." },
    { 0 },
};

static bool gather_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *x = &n->in[0]->type, *ids = &n->in[1]->type;
    int axis;
    if (!want(c, ids->dtype == DT_I32, IN(1), "expected i32 positions, got %s",
              dtype_name(ids->dtype)) ||
        !axis_normalize(c, n, 0, ((const GatherAttrs *)n->attrs)->axis, &axis) ||
        !want(c, axis > 0 || !x->batch, ATTR(axis), "cannot pick from the batch axis") ||
        !want(c, axis == 0 || !ids->batch, IN(1), "positions on axis %d cannot have a batch axis",
              axis) ||
        !want(c, x->rank - 1 + ids->rank <= MAX_RANK, IN(1), "the result would have %d axes",
              x->rank - 1 + ids->rank))
        return false;
    *out = (TensorType){ .dtype = x->dtype, .batch = axis == 0 ? ids->batch : x->batch };
    for (int i = 0; i < axis; i++) out->dim[out->rank++] = x->dim[i];
    for (int i = 0; i < ids->rank; i++) out->dim[out->rank++] = ids->dim[i];
    for (int i = axis + 1; i < x->rank; i++) out->dim[out->rank++] = x->dim[i];
    return true;
}

static int64_t gather_limit(const Node *n, int operand)
{
    const TensorType *x = &n->in[0]->type;
    return operand == 1 ? x->dim[axis_of(x, ((const GatherAttrs *)n->attrs)->axis)] : 0;
}

static void gather_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    GatherAttrs back = *(const GatherAttrs *)n->attrs;
    back.like = n->in[0]->type;
    if (n->type.dtype == DT_F32) dx[0] = mk2(b, &op_gather_dx, &back, dy[0], n->in[1]);
}

/* Along axis 0 threads share the positions, else the rows of x; both operands come whole and are advanced here. */
static bool gather_is_lead(const Node *n)
{
    const GatherAttrs *a = n->attrs;
    return axis_of(&n->in[0]->type, a->axis) > 0 || n->in[1]->type.rank > 0;
}

static void gather_emit(CWriter *w, const Node *n)
{
    const TensorType *x = &n->in[0]->type, *ids = &n->in[1]->type;
    const int axis = axis_of(x, ((const GatherAttrs *)n->attrs)->axis);
    const ll size = (ll)x->dim[axis], inner = (ll)type_numel(x, axis + 1, x->rank);
    const char *bytes = element_size[x->dtype];
    if (!gather_is_lead(n)) {
        cw_stmt(w, n, "if ($team->rank == 0) nn_gather(1, %lld, %lld, 1, %s, $0, $1, $out);", size,
                inner, bytes);
    } else if (axis == 0) {
        const Times per_row = by(type_numel(ids, 1, ids->rank));
        cw_stmt(w, n, "nn_gather(1, %lld, %lld, $rows%s, %s, $0, $1 + $row0%s, $out);", size, inner,
                per_row.text, bytes, per_row.text);
    } else {
        const Times per_row = by(type_numel(x, 1, x->rank));
        cw_stmt(w, n, "nn_gather($rows%s, %lld, %lld, %lld, %s, $0 + $row0%s, $1, $out);",
                by(type_numel(x, 1, axis)).text, size, inner, (ll)type_numel(ids, 0, ids->rank),
                bytes, per_row.text);
    }
}

const OpDesc op_gather = {
    .name = "gather",
    .summary = "picks slices by position",
    .torch = "torch.index_select",
    .doc =
        "Axis `axis` of `x` is replaced by the axes of `ids`: the slices of `x` at those positions. The gradient adds "
        "up what was picked more than once.",
    .in = { "x", "ids" },
    .attrs = gather_attrs,
    .attr_size = sizeof(GatherAttrs),
    .whole = 3,
    .is_lead = gather_is_lead,
    .shape = gather_shape,
    .grad = gather_grad,
    .work = copy_work,
    .index_limit = gather_limit,
    .emit = gather_emit,
    .onnx = "Gather",
    .gradient = "the slice of each id gets its dy, added up",
    .samples = SAMPLES({ "gather(x: f32[7,3], ids: i32[5])", "f32[5,3]" },
                       { "gather(x: f32[7], ids: i32[2,3])", "f32[2,3]" },
                       { "gather(x: f32[2,5,3], ids: i32[4], axis = 1)", "f32[2,4,3]" }),
};

static bool gather_dx_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    (void)c;
    *out = ((const GatherAttrs *)n->attrs)->like;
    out->layout = LAYOUT_CANONICAL;
    return true;
}

/* The operand of gather has no batch axis when axis is 0; otherwise its rows are counted at run time. */
static void gather_dx_emit(CWriter *w, const Node *n)
{
    const TensorType *x = &n->type, *ids = &n->in[1]->type;
    const int axis = axis_of(x, ((const GatherAttrs *)n->attrs)->axis);
    const ll size = (ll)x->dim[axis], inner = (ll)type_numel(x, axis + 1, x->rank);
    const ll outer = (ll)type_numel(x, 0, axis), count = (ll)type_numel(ids, 0, ids->rank);
    cw_stmt(w, n, "nn_scatter_add($team, %lld%s, %lld, %lld, %lld%s, $0, $1, $out, $acc);", outer,
            x->batch ? " * $batch" : "", size, inner, count, ids->batch ? " * $batch" : "");
}

static void gather_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_gather, n->attrs, dy[0], n->in[1]);
}

const OpDesc op_gather_dx = {
    .name = "gather_dx",
    .summary = "gradient of gather",
    .doc = "Zeros, to which each slice of `dy` is added at its position, in the order of `ids`.",
    .in = { "dy", "ids" },
    .attrs = gather_dx_attrs,
    .attr_size = sizeof(GatherAttrs),
    .flags = OPF_INTERNAL | OPF_ACCUMULATE,
    .shape = gather_dx_shape,
    .grad = gather_dx_grad,
    .emit = gather_dx_emit,
};

/* ---- one_hot ---- */

#define NO_CLASS (-2147483649.0) /* no i32 has this value */

typedef struct OneHotAttrs {
    int64_t n, ignore_index;
} OneHotAttrs;
static const AttrDef one_hot_attrs[] = {
    { "n", ATTR_INT, offsetof(OneHotAttrs, n), .def = NAN, .min = 1, .max = 2147483647,
      .doc = "Number of classes." },
    { "ignore_index", ATTR_INT, offsetof(OneHotAttrs, ignore_index), .def = NO_CLASS,
      .min = NO_CLASS, .max = 2147483647.0,
      .doc = "One more accepted class; outside [0, n) it gives zeros. -2147483649: none." },
    { 0 },
};

static bool one_hot_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *ids = &n->in[0]->type;
    if (!want(c, ids->dtype == DT_I32, IN(0), "expected i32 classes, got %s",
              dtype_name(ids->dtype)) ||
        !want(c, ids->rank < MAX_RANK, IN(0), "the result would have %d axes", ids->rank + 1))
        return false;
    *out = *ids;
    out->dtype = DT_F32;
    out->layout = LAYOUT_CANONICAL;
    out->dim[out->rank++] = ((const OneHotAttrs *)n->attrs)->n;
    return true;
}

static bool one_hot_is_lead(const Node *n)
{
    return n->in[0]->type.rank > 0;
}

static int64_t one_hot_limit(const Node *n, int operand)
{
    (void)operand;
    return ((const OneHotAttrs *)n->attrs)->n;
}

static bool one_hot_ignore(const Node *n, int operand, int64_t *value)
{
    (void)operand;
    *value = ((const OneHotAttrs *)n->attrs)->ignore_index;
    return *value >= INT32_MIN;
}

static void one_hot_emit(CWriter *w, const Node *n)
{
    const TensorType *ids = &n->in[0]->type;
    if (one_hot_is_lead(n))
        cw_stmt(w, n, "nn_one_hot($rows%s, $n, $0, $out);", by(type_numel(ids, 1, ids->rank)).text);
    else
        cw_stmt(w, n, "if ($team->rank == 0) nn_one_hot(1, $n, $0, $out);");
}

const OpDesc op_one_hot = {
    .name = "one_hot",
    .summary = "classes as unit vectors",
    .torch = "torch.nn.functional.one_hot",
    .doc = "A new last axis of size `n` that is 1 at the class and 0 elsewhere, as `f32`.",
    .in = { "ids" },
    .attrs = one_hot_attrs,
    .attr_size = sizeof(OneHotAttrs),
    .is_lead = one_hot_is_lead,
    .shape = one_hot_shape,
    .no_grad = "a class has no gradient",
    .work = copy_work,
    .index_limit = one_hot_limit,
    .index_ignore = one_hot_ignore,
    .emit = one_hot_emit,
    .onnx = "OneHot",
    .samples = SAMPLES({ "one_hot(ids: i32[5], n = 7)", "f32[5,7]" },
                       { "one_hot(ids: i32[2,3], n = 4)", "f32[2,3,4]" }),
};
