/* SPDX-License-Identifier: MIT
 *
 * Reductions over any set of axes, and expand, their adjoint. A reduction that keeps axis 0 runs on rows;
 * one over axis 0 is a team kernel that cuts the rows into a number of chunks fixed by the types. Any layout
 * is taken as it is: axes are sorted by their order in memory, and neighbours of one kind are merged until
 * the operand looks like x[k0][r0][k1][r1][k2] (kept, reduced, kept, ...) of runtime/kernels/reduce.h.
 */
#include "ops/op.h"

enum { CHUNKS = 16, MANY_OUTPUTS = 4096, FEW_ELEMENTS = 8192 };

/* How one node reduces: which axes go, and where the kept ones stand in the result. */
typedef struct Reduction {
    const TensorType *x, *y;
    bool gone[MAX_RANK];
    int axis_in_y[MAX_RANK]; /* -1: not an axis of the result */
    int64_t count;           /* elements per result, without the batch variable */
    bool over_batch;
} Reduction;

static Reduction reduction_of(const Node *n)
{
    Reduction r = { .x = &n->in[0]->type, .y = &n->type, .count = 1 };
    const int rank = r.x->rank, missing = rank - r.y->rank;
    if (op_is(n, &op_reduce_to)) {
        for (int i = 0; i < rank; i++) {
            const int o = i - missing;
            const bool one = o >= 0 && r.y->dim[o] == 1 && !(o == 0 && r.y->batch);
            r.gone[i] = o < 0 || (one && (r.x->dim[i] != 1 || (i == 0 && r.x->batch)));
            r.axis_in_y[i] = o;
        }
    } else {
        const ReduceAttrs *a = n->attrs;
        for (int i = 0; i < a->axis.n; i++) r.gone[a->axis.v[i] + (a->axis.v[i] < 0 ? rank : 0)] = true;
        for (int i = 0, o = 0; i < rank; i++) {
            if (a->axis.n == 0) r.gone[i] = true;
            r.axis_in_y[i] = a->keepdims ? i : r.gone[i] ? -1 : o++;
        }
    }
    for (int i = 0; i < rank; i++)
        if (r.gone[i]) r.count *= r.x->dim[i];
    r.over_batch = rank > 0 && r.gone[0] && r.x->batch;
    return r;
}

static bool reduce_is_lead(const Node *n)
{
    const Reduction r = reduction_of(n);
    int order[MAX_RANK];
    if (r.x->rank == 0 || r.y->rank == 0 || r.gone[0] || r.axis_in_y[0] != 0) return false;
    layout_order(r.x->layout, r.x->rank, order);
    return order[0] == 0;
}

/* The extents of x[k0][r0][k1][r1][k2]; axis 0 is counted apart: it is `rows` of slot `row_slot`. */
typedef struct Groups {
    bool fits;
    int64_t size[5];
    int row_slot; /* -1: axis 0 has no run-time extent */
} Groups;

static bool is_kept_slot(int slot) { return slot % 2 == 0; }

/* Do the kept axes lie in the result in the order they have in the operand? */
static bool keeps_order(const Reduction *r, const int *order)
{
    int64_t stride[MAX_RANK], expected = 1;
    type_strides(r->y, stride);
    for (int pos = r->x->rank - 1; pos >= 0; pos--) {
        const int axis = order[pos];
        if (r->gone[axis]) continue;
        const bool rows = axis == 0 && r->x->batch;
        if ((rows || r->x->dim[axis] != 1) && stride[r->axis_in_y[axis]] != expected) return false;
        expected *= r->x->dim[axis];
    }
    return true;
}

static Groups groups_of(const Reduction *r, bool lead)
{
    Groups g = { .fits = true, .size = { 1, 1, 1, 1, 1 }, .row_slot = -1 };
    int order[MAX_RANK], slot = lead ? 0 : 1;
    layout_order(r->x->layout, r->x->rank, order);
    for (int pos = 0; pos < r->x->rank; pos++) {
        const int axis = order[pos];
        const bool rows = axis == 0 && (lead || r->x->batch);
        if (!rows && r->x->dim[axis] == 1) continue;
        while (slot < 5 && is_kept_slot(slot) == r->gone[axis]) slot++;
        if (slot == 5) return (Groups){ .fits = false, .row_slot = -1 };
        if (rows) g.row_slot = slot;
        if (!rows || !lead) g.size[slot] *= r->x->dim[axis];
    }
    if (g.size[3] == 1 && g.row_slot != 3) { /* nothing reduced between k1 and k2: they are one */
        g.size[4] *= g.size[2];
        g.size[2] = 1;
        if (g.row_slot == 2) g.row_slot = 4;
    }
    g.fits = keeps_order(r, order) && g.row_slot != 2 && g.row_slot != 4;
    return g;
}

/* A number fixed by the types, so that the order of summation is. */
static int64_t chunks_of(const Reduction *r, const Groups *g)
{
    const int64_t rows = g->size[1] * (g->row_slot == 1 ? r->x->batch->hi : 1), outputs = g->size[2] * g->size[4];
    if (outputs >= MANY_OUTPUTS || rows * outputs * g->size[3] < FEW_ELEMENTS) return 1;
    return rows < CHUNKS ? rows : CHUNKS;
}

static const char *times(Arena *a, int64_t factor, const char *text)
{
    return !text ? arena_printf(a, "%lld", (ll)factor)
                 : factor == 1 ? text : arena_printf(a, "%lld * %s", (ll)factor, text);
}

static const char *groups_text(Arena *a, const Groups *g, bool lead)
{
    const char *size[5];
    for (int i = 0; i < 5; i++)
        size[i] = times(a, g->size[i], i == g->row_slot ? lead ? "$rows" : "$batch" : NULL);
    return arena_printf(a, "(nn_groups){ %s, %s, %s, %s, %s }", size[0], size[1], size[2], size[3], size[4]);
}

/* nn_reduction for arrangements that five groups do not cover. */
static const char *walk_text(Arena *a, const Reduction *r, bool lead)
{
    int64_t xs[MAX_RANK], ys[MAX_RANK];
    const char *kn[8], *kx[8], *ky[8], *rn[8], *rx[8];
    int nk = 0, nr = 0;
    type_strides(r->x, xs);
    type_strides(r->y, ys);
    for (int i = 0; i < 8; i++) {
        kn[i] = rn[i] = "1";
        kx[i] = ky[i] = rx[i] = "0";
    }
    for (int i = 0; i < r->x->rank; i++) {
        const bool rows = i == 0 && (lead || r->x->batch);
        const char *size = rows && lead ? "$rows" : times(a, r->x->dim[i], rows ? "$batch" : NULL);
        if (r->gone[i]) {
            rn[nr] = size;
            rx[nr++] = arena_printf(a, "%lld", (ll)xs[i]);
        } else {
            kn[nk] = size;
            kx[nk] = arena_printf(a, "%lld", (ll)xs[i]);
            ky[nk++] = arena_printf(a, "%lld", (ll)ys[r->axis_in_y[i]]);
        }
    }
    StrBuf sb;
    sb_init(&sb, a);
    const char *const *const rowsets[] = { kn, kx, ky, rn, rx };
    sb_puts(&sb, "(nn_reduction){ ");
    for (int s = 0; s < 5; s++) {
        sb_puts(&sb, s ? ", { " : "{ ");
        for (int i = 0; i < 8; i++) sb_printf(&sb, "%s%s", i ? ", " : "", rowsets[s][i]);
        sb_puts(&sb, " }");
    }
    sb_puts(&sb, " }");
    return sb.text;
}

typedef enum ReduceKind { REDUCE_SUM, REDUCE_MAX, REDUCE_MIN, REDUCE_VAR } ReduceKind;

/* `factor`: what sums are multiplied with, or the correction of a variance; a C expression of type double. */
static void reduce_emit(CWriter *w, const Node *n, ReduceKind kind, const char *factor)
{
    static const char *const walk_kind[] = { "NN_REDUCE_SUM", "NN_REDUCE_MAX", "NN_REDUCE_MIN", "NN_REDUCE_VAR" };
    const Reduction r = reduction_of(n);
    const bool lead = reduce_is_lead(n);
    const Groups g = groups_of(&r, lead);
    Arena *a = arena_new();
    const char *acc = op_has(n, OPF_ACCUMULATE) ? "$acc" : "0";
    if (!g.fits) {
        const char *walk = walk_text(a, &r, lead);
        if (lead)
            cw_stmt(w, n, "nn_reduce_any(%s, %s, 0, %s, $0, %s, $out, %s);", walk_kind[kind], walk,
                    times(a, type_numel(r.y, 1, r.y->rank), "$rows"), factor, acc);
        else
            cw_stmt(w, n, "nn_reduce_any_team($team, %s, %s, $0, %s, $out, %s);", walk_kind[kind], walk, factor, acc);
        arena_free(a);
        return;
    }
    const char *groups = groups_text(a, &g, lead);
    const int max = kind == REDUCE_MAX;
    if (lead) {
        if (kind == REDUCE_SUM) cw_stmt(w, n, "nn_sum(%s, $0, %s, $out, %s);", groups, factor, acc);
        else if (kind == REDUCE_VAR) cw_stmt(w, n, "nn_var(%s, $0, %s, $out);", groups, factor);
        else cw_stmt(w, n, "nn_extreme(%d, %s, $0, $out);", max, groups);
    } else {
        const ll chunks = (ll)chunks_of(&r, &g);
        if (kind == REDUCE_SUM)
            cw_stmt(w, n, "nn_sum_team($team, %s, %lld, $0, %s, %s, $out, %s);", groups, chunks, factor,
                    chunks > 1 ? "$scratch" : "NULL", acc);
        else if (kind == REDUCE_VAR)
            cw_stmt(w, n, "nn_var_team($team, %s, $0, %s, $out);", groups, factor);
        else
            cw_stmt(w, n, "nn_extreme_team($team, %d, %s, %lld, $0, $scratch, $out);", max, groups, chunks);
    }
    arena_free(a);
}

/* Partial results of each chunk: sums are doubles, two reals each. */
static int64_t reduce_scratch(const Node *n)
{
    const Reduction r = reduction_of(n);
    if (reduce_is_lead(n)) return 0;
    const Groups g = groups_of(&r, false);
    if (!g.fits) return 0;
    const int64_t chunks = chunks_of(&r, &g), outputs = g.size[2] * g.size[4];
    if (op_is(n, &op_max) || op_is(n, &op_min)) return chunks * outputs;
    return chunks > 1 && !op_is(n, &op_var) ? 2 * chunks * outputs : 0;
}

static Work reduce_work(const Node *n)
{
    const TensorType *x = &n->in[0]->type;
    return (Work){ .flops = type_numel(x, 0, x->rank) * (op_is(n, &op_var) ? 4 : 1) };
}

/* ---- shape and gradient shared by sum, mean, max, min, var ---- */

static bool reduce_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const ReduceAttrs *a = n->attrs;
    const TensorType *x = &n->in[0]->type;
    bool gone[MAX_RANK] = { false };
    if (!want(c, x->dtype == DT_F32, IN(0), "expected f32 values, got %s", dtype_name(x->dtype))) return false;
    for (int i = 0; i < a->axis.n; i++) {
        int axis;
        if (!axis_normalize(c, n, 0, a->axis.v[i], &axis) ||
            !want(c, !gone[axis], ATTR(axis), "axis %d is named twice", axis))
            return false;
        gone[axis] = true;
    }
    *out = (TensorType){ .dtype = DT_F32 };
    for (int i = 0; i < x->rank; i++) {
        const bool goes = a->axis.n == 0 || gone[i];
        if (goes && !a->keepdims) continue;
        if (i == 0 && !goes) out->batch = x->batch;
        out->dim[out->rank++] = goes ? 1 : x->dim[i];
    }
    return true;
}

/* x's shape with 1 for every reduced axis. */
static TensorType kept_type(const Node *n)
{
    const Reduction r = reduction_of(n);
    TensorType t = *r.x;
    for (int i = 0; i < t.rank; i++)
        if (r.gone[i]) t.dim[i] = 1;
    if (r.over_batch) t.batch = NULL;
    return t;
}

static Node *spread(Builder *b, const Node *n, Node *d)
{
    const TensorType kept = kept_type(n);
    return mk_expand_to(b, mk_reshape_like(b, d, &kept), &n->in[0]->type);
}

/* A reduction of one element per result is a change of shape: one node of another kind. */
static Node *reduce_simplify(Builder *b, const Node *n)
{
    const Reduction r = reduction_of(n);
    const bool bare = r.x->layout == LAYOUT_CANONICAL && n->type.layout == LAYOUT_CANONICAL;
    return r.count == 1 && !r.over_batch && bare ? mk_reshape_like(b, n->in[0], &n->type) : NULL;
}

#define REDUCE_ATTRS                                                                             \
    { "axis", ATTR_INTS, offsetof(ReduceAttrs, axis),                                            \
      .doc = "Axes to reduce over, one number or a list; negative ones count from the end. None: all." }, \
    { "keepdims", ATTR_BOOL, offsetof(ReduceAttrs, keepdims), .doc = "Keep reduced axes with size 1." }

static const AttrDef reduce_attrs[] = { REDUCE_ATTRS, { 0 } };
static const AttrDef var_attrs[] = {
    REDUCE_ATTRS,
    { "unbiased", ATTR_BOOL, offsetof(ReduceAttrs, unbiased), .doc = "Divide by n - 1 instead of n." },
    { 0 },
};

/* ---- sum ---- */

static void sum_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = spread(b, n, dy[0]);
}

static void sum_emit(CWriter *w, const Node *n) { reduce_emit(w, n, REDUCE_SUM, "1"); }

const OpDesc op_sum = {
    .name = "sum", .summary = "sum over axes", .torch = "torch.sum",
    .doc = "Terms are added in single precision over short runs, which are combined in double. Over the batch, "
           "the order of addition does not depend on the number of threads.",
    .in = { "x" }, .attrs = reduce_attrs, .attr_size = sizeof(ReduceAttrs),
    .flags = OPF_ANY_LAYOUT | OPF_ACCUMULATE, .is_lead = reduce_is_lead, .shape = reduce_shape, .grad = sum_grad,
    .simplify = reduce_simplify, .work = reduce_work, .scratch = reduce_scratch, .emit = sum_emit,
    .onnx = "ReduceSum",
    .gradient = "dx = dy, stretched",
    .samples = SAMPLES({ "sum(x: f32[3,5,7])", "f32[]" }, { "sum(x: f32[3,5,7], axis = 1)", "f32[3,7]" },
                       { "sum(x: f32[3,2,5,7], axis = [0, 2, 3])", "f32[2]" },
                       { "sum(x: f32[2,3,5], axis = [-1], keepdims = true)", "f32[2,3,1]" },
                       { "sum(x: f32[2,3,2,3,2], axis = [0, 2, 4])", "f32[3,3]" }),
};

/* ---- mean ---- */

typedef struct CountAttrs {
    int64_t factor;
} CountAttrs;
static const AttrDef count_attrs[] = {
    { "factor", ATTR_INT, offsetof(CountAttrs, factor), .def = 1, .doc = "Multiplies the count." },
    { 0 },
};

static bool inverse_count_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    (void)c;
    (void)n;
    *out = type_scalar(DT_F32);
    return true;
}

static void inverse_count_emit(CWriter *w, const Node *n)
{
    const int64_t count = ((const CountAttrs *)n->attrs)->factor * n->in[0]->type.dim[0];
    cw_stmt(w, n, "if ($team->rank == 0) *$out = ($real)(1.0 / ((double)$batch * %lld));", (ll)count);
}

const OpDesc op_inverse_count = {
    .name = "inverse_count", .summary = "one over the number of samples",
    .doc = "`1 / (factor n)` with the run-time size `n` of axis 0 of `like`: what the gradient of a mean over the "
           "batch is scaled with.",
    .in = { "like" }, .unread = 1, .attrs = count_attrs, .attr_size = sizeof(CountAttrs), .flags = OPF_INTERNAL,
    .shape = inverse_count_shape, .no_grad = "a size is not differentiable", .emit = inverse_count_emit,
};

/* d / (elements per result), before it is spread over them. */
static Node *divide_by_count(Builder *b, const Node *n, Node *d, double scale)
{
    const Reduction r = reduction_of(n);
    if (!r.over_batch) return mk_scale(b, d, scale / (double)r.count);
    const TensorType rows = { .dtype = DT_F32, .rank = 1, .dim = { r.x->dim[0] }, .batch = r.x->batch };
    const CountAttrs count = { r.count / r.x->dim[0] };
    return mk_mul(b, mk_scale(b, d, scale), mk1(b, &op_inverse_count, &count, mk_fill(b, &rows, 1)));
}

static void mean_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = spread(b, n, divide_by_count(b, n, dy[0], 1));
}

static void mean_emit(CWriter *w, const Node *n)
{
    const Reduction r = reduction_of(n);
    Arena *a = arena_new();
    reduce_emit(w, n, REDUCE_SUM,
                r.over_batch ? arena_printf(a, "1.0 / ((double)$batch * %lld)", (ll)r.count)
                             : arena_printf(a, "1.0 / %lld", (ll)r.count));
    arena_free(a);
}

const OpDesc op_mean = {
    .name = "mean", .summary = "mean over axes", .torch = "torch.mean",
    .doc = "The sum divided by the number of elements; over the batch, by the number of samples of this call.",
    .in = { "x" }, .attrs = reduce_attrs, .attr_size = sizeof(ReduceAttrs),
    .flags = OPF_ANY_LAYOUT | OPF_ACCUMULATE, .is_lead = reduce_is_lead, .shape = reduce_shape, .grad = mean_grad,
    .simplify = reduce_simplify, .work = reduce_work, .scratch = reduce_scratch, .emit = mean_emit,
    .onnx = "ReduceMean",
    .gradient = "dx = dy / n",
    .samples = SAMPLES({ "mean(x: f32[3,5,7])", "f32[]" }, { "mean(x: f32[3,5,7], axis = [1, 2])", "f32[3]" },
                       { "mean(x: f32[5,2,3], axis = 0, keepdims = true)", "f32[1,2,3]" }),
};

/* ---- max, min ---- */

/* Each result's gradient is divided evenly among the elements equal to it. */
static void extreme_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *x = n->in[0];
    Node *hit = mk1(b, &op_cast, &(CastAttrs){ 0 }, mk2(b, &op_equal, NULL, x, spread(b, n, (Node *)n)));
    Node *count = mk1(b, &op_sum, n->attrs, hit);
    dx[0] = mk_mul(b, hit, spread(b, n, mk_div(b, dy[0], count)));
}

static void max_emit(CWriter *w, const Node *n) { reduce_emit(w, n, REDUCE_MAX, "0"); }
static void min_emit(CWriter *w, const Node *n) { reduce_emit(w, n, REDUCE_MIN, "0"); }

const OpDesc op_max = {
    .name = "max", .summary = "largest over axes", .torch = "torch.amax",
    .doc = "NaN where an element is NaN. The gradient is divided evenly among the elements equal to the result.",
    .in = { "x" }, .attrs = reduce_attrs, .attr_size = sizeof(ReduceAttrs),
    .flags = OPF_ANY_LAYOUT, .is_lead = reduce_is_lead, .shape = reduce_shape, .grad = extreme_grad,
    .simplify = reduce_simplify, .work = reduce_work, .scratch = reduce_scratch, .emit = max_emit,
    .onnx = "ReduceMax",
    .gradient = "dy divided evenly among the elements equal to the result",
    .samples = SAMPLES({ "max(x: f32[3,5,7])", "f32[]" }, { "max(x: f32[3,5,7], axis = 2)", "f32[3,5]" },
                       { "max(x: f32[3,5,7], axis = [0, 2], keepdims = true)", "f32[1,5,1]" }),
};

const OpDesc op_min = {
    .name = "min", .summary = "smallest over axes", .torch = "torch.amin",
    .doc = "NaN where an element is NaN. The gradient is divided evenly among the elements equal to the result.",
    .in = { "x" }, .attrs = reduce_attrs, .attr_size = sizeof(ReduceAttrs),
    .flags = OPF_ANY_LAYOUT, .is_lead = reduce_is_lead, .shape = reduce_shape, .grad = extreme_grad,
    .simplify = reduce_simplify, .work = reduce_work, .scratch = reduce_scratch, .emit = min_emit,
    .onnx = "ReduceMin",
    .gradient = "dy divided evenly among the elements equal to the result",
    .samples = SAMPLES({ "min(x: f32[3,5,7], axis = 1)", "f32[3,7]" }, { "min(x: f32[5,3], axis = 0)", "f32[3]" }),
};

/* ---- var ---- */

static bool var_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const ReduceAttrs *a = n->attrs;
    if (!reduce_shape(c, n, out)) return false;
    const TensorType *x = &n->in[0]->type;
    const int64_t kept = type_numel(out, 0, out->rank), all = type_numel(x, 0, x->rank);
    const bool over_batch = x->batch && !out->batch;
    return want(c, !a->unbiased || over_batch || all > kept, ATTR(unbiased),
                "the unbiased variance needs at least two elements, got one");
}

/* dx = dy 2 (x - mean) / (n - correction) */
static void var_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const Reduction r = reduction_of(n);
    const ReduceAttrs *a = n->attrs;
    Node *x = n->in[0], *mean = mk1(b, &op_mean, &(ReduceAttrs){ a->axis, a->keepdims, false }, x);
    Node *d;
    if (!a->unbiased) {
        d = divide_by_count(b, n, dy[0], 2);
    } else if (!r.over_batch) {
        d = mk_scale(b, dy[0], 2.0 / (double)(r.count - 1));
    } else { /* 1 / (n - 1) = (1 / n) / (1 - 1 / n) */
        Node *inverse = divide_by_count(b, n, mk_const(b, DT_F32, 1), 1);
        d = mk_mul(b, mk_scale(b, dy[0], 2), mk_div(b, inverse, mk_sub(b, mk_const(b, DT_F32, 1), inverse)));
    }
    dx[0] = mk_mul(b, mk_sub(b, x, spread(b, n, mean)), spread(b, n, d));
}

static void var_emit(CWriter *w, const Node *n)
{
    reduce_emit(w, n, REDUCE_VAR, ((const ReduceAttrs *)n->attrs)->unbiased ? "1" : "0");
}

const OpDesc op_var = {
    .name = "var", .summary = "variance over axes", .torch = "torch.var",
    .doc = "`sum (x - mean)^2 / n`, or `/ (n - 1)` with `unbiased = true` (PyTorch's default), in two passes.",
    .in = { "x" }, .attrs = var_attrs, .attr_size = sizeof(ReduceAttrs),
    .flags = OPF_ANY_LAYOUT, .is_lead = reduce_is_lead, .shape = var_shape, .grad = var_grad,
    .work = reduce_work, .scratch = reduce_scratch, .emit = var_emit,
    .onnx = "ReduceVariance",
    .gradient = "dx = 2 dy (x - mean) / n, or / (n - 1)",
    .samples = SAMPLES({ "var(x: f32[3,5,7], axis = [1, 2])", "f32[3]" },
                       { "var(x: f32[5,3], axis = 0, unbiased = true)", "f32[3]" },
                       { "var(x: f32[2,3,5])", "f32[]" }),
};

/* ---- reduce_to, expand ---- */

static const AttrDef reduce_to_attrs[] = {
    { "type", ATTR_TYPE, offsetof(TypeAttrs, type), .doc = "The type of the result." },
    { 0 },
};

static bool reduce_to_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *t = &((const TypeAttrs *)n->attrs)->type, *x = &n->in[0]->type;
    TensorType all;
    int axis = 0;
    *out = *t;
    return want(c, x->dtype == DT_F32, IN(0), "expected f32 values, got %s", dtype_name(x->dtype)) &&
           want(c, type_broadcast(t, x, &all, &axis) && type_same_shape(&all, x), IN(0),
                "the operand is not a broadcast of the result");
}

static void reduce_to_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk_expand_to(b, dy[0], &n->in[0]->type);
}

/* reduce_to(x, type of x) = x; one node fewer. */
static Node *reduce_to_simplify(Builder *b, const Node *n)
{
    (void)b;
    return same_as(n->in[0], n) ? n->in[0] : NULL;
}

/* Axes that the result has not are summed out, and steps with them when they stand in front. */
static Node *reduce_to_sum_steps(Builder *b, Node *n, int axis, Node *const *in)
{
    const TensorType *t = &((const TypeAttrs *)n->attrs)->type;
    if (t->batch || axis > n->in[0]->type.rank - t->rank) return NULL;
    return in ? mk_reduce_to(b, in[0], t) : n;
}

const OpDesc op_reduce_to = {
    .name = "reduce_to", .summary = "sums out what broadcasting repeated",
    .doc = "The adjoint of broadcasting: sums over the axes along which an operand of the given type is repeated.",
    .in = { "x" }, .attrs = reduce_to_attrs, .attr_size = sizeof(TypeAttrs),
    .flags = OPF_INTERNAL | OPF_ANY_LAYOUT | OPF_ACCUMULATE, .is_lead = reduce_is_lead,
    .shape = reduce_to_shape, .grad = reduce_to_grad, .simplify = reduce_to_simplify, .work = reduce_work,
    .scratch = reduce_scratch, .emit = sum_emit, .sum_steps = reduce_to_sum_steps,
};

static const AttrDef expand_attrs[] = {
    { "shape", ATTR_SHAPE, offsetof(TypeAttrs, type), .def = NAN, .doc = "The shape of the result." },
    { 0 },
};

static bool expand_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *x = &n->in[0]->type;
    TensorType t = ((const TypeAttrs *)n->attrs)->type, all;
    int axis = 0;
    t.dtype = x->dtype;
    *out = t;
    return want(c, type_broadcast(&t, x, &all, &axis) && type_same_shape(&all, &t), ATTR(shape),
                "the operand does not broadcast to the shape asked for: they differ on axis %d", axis);
}

static void expand_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk_reduce_to(b, dy[0], &n->in[0]->type);
}

/* expand(x, shape of x) = x, expand of a constant is a constant; one node fewer. */
static Node *expand_simplify(Builder *b, const Node *n)
{
    double v;
    if (same_as(n->in[0], n)) return n->in[0];
    return node_const_value(n->in[0], &v) ? mk_fill(b, &n->type, v) : NULL;
}

const OpDesc op_expand = {
    .name = "expand", .summary = "repeats along axes of size 1", .torch = "torch.Tensor.expand",
    .doc = "NumPy's broadcasting to a given shape. Costs nothing where it is fused with its consumer.",
    .in = { "x" }, .attrs = expand_attrs, .attr_size = sizeof(TypeAttrs), .flags = OPF_ELEMENTWISE,
    .shape = expand_shape, .grad = expand_grad, .simplify = expand_simplify, .expr = "$0",
    .onnx = "Expand",
    .gradient = "dx sums dy over the axes that were stretched",
    .samples = SAMPLES({ "expand(x: f32[3,1,5], shape = [2, 3, 7, 5])", "f32[2,3,7,5]" },
                       { "expand(x: f32[7], shape = [3, 7])", "f32[3,7]" }),
};

/* ---- argmax ---- */

typedef struct ArgmaxAttrs {
    int64_t axis;
    bool keepdims;
} ArgmaxAttrs;
static const AttrDef argmax_attrs[] = {
    { "axis", ATTR_INT, offsetof(ArgmaxAttrs, axis), .def = -1, .doc = "The axis to search." },
    { "keepdims", ATTR_BOOL, offsetof(ArgmaxAttrs, keepdims), .doc = "Keep the axis with size 1." },
    { 0 },
};

static int argmax_axis(const Node *n)
{
    const int64_t axis = ((const ArgmaxAttrs *)n->attrs)->axis;
    return (int)(axis < 0 ? axis + n->in[0]->type.rank : axis);
}

static bool argmax_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const ArgmaxAttrs *a = n->attrs;
    const TensorType *x = &n->in[0]->type;
    int axis;
    if (!want(c, x->dtype == DT_F32, IN(0), "expected f32 values, got %s", dtype_name(x->dtype)) ||
        !axis_normalize(c, n, 0, a->axis, &axis) ||
        !want(c, axis > 0 || !x->batch, ATTR(axis), "cannot search along the batch axis"))
        return false;
    *out = (TensorType){ .dtype = DT_I32, .batch = x->batch };
    for (int i = 0; i < x->rank; i++)
        if (i != axis || a->keepdims) out->dim[out->rank++] = i == axis ? 1 : x->dim[i];
    return true;
}

static bool argmax_is_lead(const Node *n) { return argmax_axis(n) > 0; }
static int64_t argmax_limit(const Node *n) { return n->in[0]->type.dim[argmax_axis(n)]; }

static void argmax_emit(CWriter *w, const Node *n)
{
    const TensorType *x = &n->in[0]->type;
    const int axis = argmax_axis(n);
    const ll size = (ll)x->dim[axis], inner = (ll)type_numel(x, axis + 1, x->rank);
    if (axis == 0)
        cw_stmt(w, n, "if ($team->rank == 0) nn_argmax(1, %lld, %lld, $0, $out);", size, inner);
    else
        cw_stmt(w, n, "nn_argmax($rows%s, %lld, %lld, $0, $out);", by(type_numel(x, 1, axis)).text, size, inner);
}

const OpDesc op_argmax = {
    .name = "argmax", .summary = "position of the largest", .torch = "torch.argmax",
    .doc = "The first position of the largest element along `axis`, as `i32`; a NaN counts as the largest.",
    .in = { "x" }, .attrs = argmax_attrs, .attr_size = sizeof(ArgmaxAttrs), .is_lead = argmax_is_lead,
    .shape = argmax_shape, .no_grad = "a position has no gradient", .work = reduce_work,
    .value_limit = argmax_limit, .emit = argmax_emit,
    .onnx = "ArgMax",
    .samples = SAMPLES({ "argmax(x: f32[3,7])", "i32[3]" },
                       { "argmax(x: f32[2,5,3], axis = 1, keepdims = true)", "i32[2,1,3]" }),
};
