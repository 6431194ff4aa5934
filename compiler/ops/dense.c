/* SPDX-License-Identifier: MIT
 *
 * Fully connected layers and their gradients, and the gradient of a bias, which convolutions share.
 */
#include "ops/window.h"

typedef struct DenseAttrs {
    TensorType like; /* dense_dx and dense_panels only */
    bool relu;
} DenseAttrs;

static const AttrDef dense_attrs[] = {
    { "relu", ATTR_BOOL, offsetof(DenseAttrs, relu),
      .doc = "Apply relu to the result; set by fusion." },
    { 0 },
};
static const AttrDef dense_dx_attrs[] = { LIKE_ATTR(DenseAttrs), { 0 } };

static const Layout weight_second[OP_MAX_IN] = { [1] = LAYOUT_KERNEL };
static const Layout weight_result[OP_MAX_RESULTS] = { LAYOUT_KERNEL };

/* Which kernel a product gets depends on its weight alone, in and out, because the batch is known only at run time.
 * Measured with one thread on AVX-512 and a quiet machine, GFLOP/s of the tiles and of OpenBLAS (FMA ceiling: 220):
 *
 *   batch x   in x  out   forward: plain, panels, OpenBLAS   dx: rows, panels, OpenBLAS   dw: tiles, OpenBLAS
 *     16 x  784 x  512         91      84        58             109     86        58         141       79
 *     64 x  784 x  512        122     153       104             131    143       115         158      121
 *    256 x  784 x  512        126     171       134             136    171       131         143      134
 *     64 x  512 x  512        133     147       100             125    141       110         152      117
 *    256 x  512 x  512        155     164       133             132    165       126         146      132
 *    256 x 1024 x 1024          -     135       122             126    153       126         129      122
 *    256 x 4096 x 1024          -     113       118             123    141       117         121      113
 *    256 x 1024 x 2048          -     145       120             121    143       126         126      117
 *    256 x 1024 x 4096          -     136       105              91    133       122          66      113
 *
 * OpenBLAS is faster only where sums are very long, and in the weight's gradient where its rows are. */
enum {
    DENSE_LARGE = 512 * 512,      /* larger weights: the team divides the weight instead of the samples, */
    DENSE_LARGE_DEEP = 256 * 512, /* and so it does for these, where sums are long or a sample is one row */
    DENSE_DEEP = 512,
    DENSE_TEAM = 32 * 1024, /* and for these, where a sample is one row and there are fewer of them than threads */
    DENSE_BLAS = 4096 /* from here on sums go to OpenBLAS, and gradients of weights with such rows */
};

static bool is_large(const TensorType *weight)
{
    const int64_t size = weight->dim[0] * weight->dim[1];
    return size > DENSE_LARGE || (size >= DENSE_LARGE_DEEP && weight->dim[1] >= DENSE_DEEP);
}

/* Weights that do not fit a near cache are divided: each thread reads and computes its part of them only, also when
 * there is one sample. Smaller ones are read by all; then threads need not wait for each other between layers. Samples
 * of many rows (time steps, words) use a weight often, and can be divided themselves. y: the result, or the gradient
 * of x. */
static bool is_wide(const TensorType *y, const TensorType *weight)
{
    return is_large(weight) || (y->rank == 2 && weight->dim[0] * weight->dim[1] >= DENSE_LARGE_DEEP);
}

/* axis: of the weight, the one that must be long. */
static bool goes_to_blas(const TensorType *weight, int axis)
{
    return weight->dim[axis] >= DENSE_BLAS && is_large(weight) && weight->dim[0] <= INT32_MAX &&
           weight->dim[1] <= INT32_MAX;
}

/* Samples of many rows (time steps, words) are divided by rows where that repays a barrier, so that all threads have
 * work with one sample too. y: the result, or the gradient of x. */
static bool is_tall(const TensorType *y, const TensorType *weight)
{
    enum { ROWS = 16, MACS = 1 << 18 };
    if (y->rank < 3 || is_wide(y, weight)) return false;
    const int64_t rows = type_numel(y, 1, y->rank - 1);
    return rows >= ROWS && rows * weight->dim[0] * weight->dim[1] >= MACS;
}

/* One sample's product with a smaller weight waits for memory as well: from this size on, what each thread saves by
 * reading a part of it is more than what it waits for the others. Not so backward, where the update that follows reads
 * all of it again, nor in the body of a loop, where the weight is an input: through that, threads run apart. */
static bool is_for_team(const Node *n)
{
    const Node *weight = n->in[1];
    return n->type.rank == 2 && !is_wide(&n->type, &weight->type) && !op_is(weight, &op_input) &&
           weight->type.dim[0] * weight->type.dim[1] >= DENSE_TEAM;
}

static bool dense_dx_is_lead(const Node *n)
{
    return !is_wide(&n->type, &n->in[1]->type) && !is_tall(&n->type, &n->in[1]->type);
}

static bool dense_is_lead(const Node *n)
{
    return dense_dx_is_lead(n) && !is_for_team(n);
}

static bool dense_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *x = &n->in[0]->type, *w = &n->in[1]->type;
    const Node *bias = n->in[2];
    if (!want(c, x->dtype == DT_F32, IN(0), "expected f32 values, got %s", dtype_name(x->dtype)) ||
        !want(c, x->rank >= 2, IN(0), "x has %d ax%s, at least 2 are needed: samples and features",
              x->rank, x->rank == 1 ? "is" : "es") ||
        !want(c, w->dtype == DT_F32 && w->rank == 2 && !w->batch, IN(1),
              "the weight is f32[out, in], a constant shape"))
        return false;
    const int64_t in = x->dim[x->rank - 1];
    if (!want(c, w->dim[1] == in, IN(1), "the weight takes %lld features, x has %lld",
              (ll)w->dim[1], (ll)in))
        return false;
    if (bias && !want(c,
                      bias->type.dtype == DT_F32 && bias->type.rank == 1 &&
                          bias->type.dim[0] == w->dim[0] && !bias->type.batch,
                      IN(2), "the bias is f32[%lld], one number per output", (ll)w->dim[0]))
        return false;
    *out = *x;
    out->layout = LAYOUT_CANONICAL;
    out->dim[x->rank - 1] = w->dim[0];
    return true;
}

static void dense_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const DenseAttrs *a = n->attrs;
    Node *d = a->relu ? mk2(b, &op_relu_dx, NULL, dy[0], (Node *)n) : dy[0];
    dx[0] = mk2(b, &op_dense_dx, &(DenseAttrs){ .like = n->in[0]->type }, d, n->in[1]);
    dx[1] = mk2(b, &op_dense_dw, NULL, n->in[0], d);
    if (n->in[2]) dx[2] = mk_bias_grad(b, d, d->type.rank - 1);
}

static Work dense_work(const Node *n)
{
    const TensorType *y = &n->type, *w = &n->in[1]->type;
    return (Work){ .macs = type_numel(y, 0, y->rank) * w->dim[1],
                   .flops = type_numel(y, 0, y->rank) };
}

static void dense_emit(CWriter *w, const Node *n)
{
    const TensorType *x = &n->in[0]->type, *wt = &n->in[1]->type;
    const int relu = ((const DenseAttrs *)n->attrs)->relu;
    const char *add = op_is(n, &op_dense_add) ? "$3" : "NULL";
    if (!dense_is_lead(n))
        cw_stmt(w, n, "nn_dense_%s($team, %s, %lld, %lld, %d, $0, $1, $2, %s, $out);",
                is_tall(&n->type, wt)                   ? "tall"
                : is_for_team(n)                        ? "team"
                : cw_use_blas(w) && goes_to_blas(wt, 1) ? "blas"
                                                        : "wide",
                rows_text(x, x->rank - 1).s, (ll)wt->dim[1], (ll)wt->dim[0], relu, add);
    else
        cw_stmt(w, n, "nn_dense(%s, %lld, %lld, %d, $0, $1, $2, %s, $out);",
                share_text(x, x->rank - 1).s, (ll)wt->dim[1], (ll)wt->dim[0], relu, add);
}

/* In the body of a loop a step is read and written where it lies in the sequence, which elementwise loops can, and
 * these kernels with what follows cannot. */
static bool takes_branches(const Builder *b)
{
    return b->routine->kind != ROUTINE_BODY;
}

/* The sum with another branch, then relu, in the kernel: one node less each, so the rule ends. */
static Node *dense_fuse_epilogue(Builder *b, const Node *n, const Node *user)
{
    DenseAttrs a = *(const DenseAttrs *)n->attrs;
    if (a.relu) return NULL;
    if (op_is(user, &op_relu)) {
        a.relu = true;
        return mk(b, n->op, &a, n->n_in, n->in);
    }
    const bool plain = op_is(n, &op_dense);
    Node *other = branch_beside(n, user);
    if (!op_is(user, &op_add) || !takes_branches(b) || (!plain && n->in[3]) || !other) return NULL;
    return mk(b, plain ? &op_dense_add : n->op, &a, 4, (Node *[]){ n->in[0], n->in[1], n->in[2], other });
}

/* The channels of rank 2 are the outputs; with more axes they are not. */
static Node *dense_absorb_affine(Builder *b, const Node *n, Node *scale, Node *shift)
{
    if (n->type.rank != 2 || ((const DenseAttrs *)n->attrs)->relu) return NULL;
    return layer_with_affine(b, n, 0, scale, shift);
}

static Node *dense_prepare(Builder *b, const Node *n);

const OpDesc op_dense = {
    .name = "dense",
    .summary = "fully connected layer",
    .doc =
        "`y[.., o] = bias[o] + sum over i of x[.., i] * weight[o, i]` over the last axis of x. The weight is stored "
        "as [in][out].",
    .torch = "nn.functional.linear",
    .in = { "x", "weight", "bias?" },
    .attrs = dense_attrs,
    .attr_size = sizeof(DenseAttrs),
    .is_lead = dense_is_lead,
    .whole = 1 << 1 | 1 << 2,
    .operand_layout = weight_second,
    .shape = dense_shape,
    .grad = dense_grad,
    .work = dense_work,
    .emit = dense_emit,
    .fuse_epilogue = dense_fuse_epilogue,
    .absorb_affine = dense_absorb_affine,
    .prepare = dense_prepare,
    .row_axes = 1 + 1,
    .onnx = "Gemm",
    .gradient = "dx = dy weight, dweight = dy' x summed over all rows, dbias sums dy",
    .samples = SAMPLES(
        { "dense(x: f32[3,5], weight: f32[7,5], bias: f32[7])", "f32[3,7]" },
        { "dense(x: f32[17,37], weight: f32[37,37])", "f32[17,37]" },
        { "dense(x: f32[2,3,19], weight: f32[1,19], bias: f32[1])", "f32[2,3,1]" },
        { "dense(x: f32[5,1], weight: f32[66,1], bias: f32[66], relu = true)", "f32[5,66]" }),
};

const OpDesc op_dense_add = {
    .name = "dense_add",
    .summary = "dense, the sum with another branch and relu of that",
    .doc = "`dense(x, weight, bias) + add`, then relu if asked.",
    .in = { "x", "weight", "bias?", "add" },
    .attrs = dense_attrs,
    .attr_size = sizeof(DenseAttrs),
    .flags = OPF_INTERNAL,
    .is_lead = dense_is_lead,
    .whole = 1 << 1 | 1 << 2,
    .operand_layout = weight_second,
    .shape = dense_shape,
    .no_grad = "it is made when gradients are there already",
    .work = dense_work,
    .emit = dense_emit,
    .fuse_epilogue = dense_fuse_epilogue,
};

/* ---- with weights as panels ---- */

static bool panels_weights_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *w = &n->in[0]->type;
    /* As many columns as the widest panel could hold. */
    const int64_t most = 2 * CONV_LANES, cols = (w->dim[0] + most - 1) / most * most;
    *out = type_of(DT_F32, 1, (int64_t[]){ w->dim[1] * cols });
    return want(c, w->rank == 2, IN(0), "the weight is f32[out, in]");
}

static void panels_weights_emit(CWriter *w, const Node *n)
{
    const TensorType *wt = &n->in[0]->type;
    cw_stmt(w, n, "nn_dense_panels_weights($team, %lld, %lld, $0, $out);", (ll)wt->dim[1], (ll)wt->dim[0]);
}

static const Layout weight_first[OP_MAX_IN] = { LAYOUT_KERNEL };

const OpDesc op_dense_panels_weights = {
    .name = "dense_panels_weights",
    .summary = "weight of a dense layer in the order in which its tiles read it",
    .doc = "Panels of columns, one after another.",
    .in = { "weight" },
    .flags = OPF_INTERNAL,
    .operand_layout = weight_first,
    .shape = panels_weights_shape,
    .no_grad = "weights are copied to panels apart in infer routines only",
    .emit = panels_weights_emit,
};

static Work dense_panels_work(const Node *n)
{
    const TensorType *x = &n->in[0]->type, *y = &n->type;
    return (Work){ .macs = type_numel(y, 0, y->rank) * x->dim[x->rank - 1], .flops = type_numel(y, 0, y->rank) };
}

static void dense_panels_emit(CWriter *w, const Node *n)
{
    const TensorType *x = &n->in[0]->type, *y = &n->type;
    cw_stmt(w, n, "nn_dense_kept($team, %s, %lld, %lld, %d, $0, $1, $2, $3, $out);", rows_text(x, x->rank - 1).s,
            (ll)x->dim[x->rank - 1], (ll)y->dim[y->rank - 1], ((const DenseAttrs *)n->attrs)->relu);
}

static const AttrDef dense_panels_attrs[] = {
    LIKE_ATTR(DenseAttrs),
    { "relu", ATTR_BOOL, offsetof(DenseAttrs, relu), .doc = "Apply relu to the result; set by fusion." },
    { 0 },
};

const OpDesc op_dense_panels = {
    .name = "dense_panels",
    .summary = "dense from a weight as panels",
    .doc = "As dense, + add, then relu if asked; `like` gives the shape of the result, which panels do not show.",
    .in = { "x", "panels", "bias?", "add?" },
    .attrs = dense_panels_attrs,
    .attr_size = sizeof(DenseAttrs),
    .flags = OPF_INTERNAL,
    .whole = 1 << 1 | 1 << 2,
    .shape = shape_from_attr,
    .no_grad = "weights are copied to panels apart in infer routines only",
    .work = dense_panels_work,
    .emit = dense_panels_emit,
    .fuse_epilogue = dense_fuse_epilogue,
};

/* Large weights lie in panels where they are kept: no kernel copies them then, and what a thread reads of them is one
 * piece of memory, which fits a cache better than every other half of rows. */
static Node *dense_prepare(Builder *b, const Node *n)
{
    const TensorType *wt = &n->in[1]->type;
    if (wt->dim[0] * wt->dim[1] < DENSE_LARGE_DEEP || goes_to_blas(wt, 1)) return NULL;
    const DenseAttrs a = { .like = n->type, .relu = ((const DenseAttrs *)n->attrs)->relu };
    Node *w = prepared_weight(b, n, &op_dense_panels_weights, NULL, "panels");
    return mk3(b, &op_dense_panels, &a, n->in[0], w, n->in[2]);
}

/* ---- gradients ---- */

static Work dense_dx_work(const Node *n)
{
    const TensorType *dy = &n->in[0]->type, *w = &n->in[1]->type;
    return (Work){ .macs = type_numel(dy, 0, dy->rank) * w->dim[1] };
}

static void dense_dx_emit(CWriter *w, const Node *n)
{
    const TensorType *dy = &n->in[0]->type, *wt = &n->in[1]->type;
    const bool wide = is_wide(&n->type, wt);
    const char *rest = op_is(n, &op_dense_dx_act) ? "$2, $3" : "NULL, NULL";
    if (wide || is_tall(&n->type, wt))
        cw_stmt(w, n, "nn_dense_dx_%s($team, %s, %lld, %lld, $0, $1, %s, $out);", wide ? "wide" : "tall",
                rows_text(dy, dy->rank - 1).s, (ll)wt->dim[1], (ll)wt->dim[0], rest);
    else if (dy->rank == 2 && cw_has_pitch(w, n))
        cw_stmt(w, n, "nn_dense_dx_rows($rows, %lld, %lld, $0, $pitch0, $1, $out, $pitch_out);",
                (ll)wt->dim[1], (ll)wt->dim[0]);
    else
        cw_stmt(w, n, "nn_dense_dx(%s, %lld, %lld, $0, $1, %s, $out);", share_text(dy, dy->rank - 1).s,
                (ll)wt->dim[1], (ll)wt->dim[0], rest);
}

static Node *dense_dx_fuse_epilogue(Builder *b, const Node *n, const Node *user)
{
    return takes_branches(b) ? dx_with_act(b, n, &op_dense_dx_act, user) : NULL;
}

/* Linear in dy and in the weight: both gradients are products that dense itself is made of. */
static void dense_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_dense, NULL, dy[0], n->in[1]);
    dx[1] = mk2(b, &op_dense_dw, NULL, dy[0], n->in[0]);
}

const OpDesc op_dense_dx = {
    .name = "dense_dx",
    .summary = "gradient of dense with respect to x",
    .doc = "`dx[.., i] = sum over o of dy[.., o] * weight[o, i]`",
    .in = { "dy", "weight" },
    .attrs = dense_dx_attrs,
    .attr_size = sizeof(DenseAttrs),
    .flags = OPF_INTERNAL | OPF_ROW_PITCH,
    .is_lead = dense_dx_is_lead,
    .whole = 1 << 1,
    .operand_layout = weight_second,
    .shape = shape_from_attr,
    .grad = dense_dx_grad,
    .work = dense_dx_work,
    .emit = dense_dx_emit,
    .fuse_epilogue = dense_dx_fuse_epilogue,
};

const OpDesc op_dense_dx_act = {
    .name = "dense_dx_act",
    .summary = "dense_dx, the sum with another branch and relu's gradient of it",
    .doc = "`dense_dx(dy, weight)`, plus `add` where it is given, and 0 where `y <= 0` with y, relu's result.",
    .in = { "dy", "weight", "add?", "y?" },
    .attrs = dense_dx_attrs,
    .attr_size = sizeof(DenseAttrs),
    .flags = OPF_INTERNAL,
    .is_lead = dense_dx_is_lead,
    .whole = 1 << 1,
    .operand_layout = weight_second,
    .shape = shape_from_attr,
    .no_grad = "it is made when gradients are there already",
    .work = dense_dx_work,
    .emit = dense_dx_emit,
    .fuse_epilogue = dense_dx_fuse_epilogue,
};

static bool dense_dw_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *x = &n->in[0]->type, *dy = &n->in[1]->type;
    *out = type_of(DT_F32, 2, (int64_t[]){ dy->dim[dy->rank - 1], x->dim[x->rank - 1] });
    return want(c, x->rank == dy->rank && x->batch == dy->batch, IN(1),
                "x and dy have the same samples");
}

static Work dense_dw_work(const Node *n)
{
    const TensorType *x = &n->in[0]->type, *dy = &n->in[1]->type;
    return (Work){ .macs = type_numel(x, 0, x->rank) * dy->dim[dy->rank - 1] };
}

/* The rows of a tile in nn_dense_dw. */
static int64_t dense_dw_row_grain(const Node *n)
{
    return goes_to_blas(&n->type, 0) ? 0 : 8;
}

/* Whole rows, as many as hold about a quarter of the gradient, and enough to be worth the call of an update. GRAIN: in
 * all builds a multiple of a tile's rows. Rounded down, so that little is left for the last part. */
static int64_t dense_dw_part_rows(const Node *n)
{
    enum { PARTS = 4, LEAST = 4096, GRAIN = 24 };
    const int64_t out = n->type.dim[0], rows = n->type.dim[1] / PARTS, least = (LEAST + out - 1) / out;
    return rows > least + GRAIN ? rows / GRAIN * GRAIN : (least + GRAIN - 1) / GRAIN * GRAIN;
}

static int64_t dense_dw_update_part(const Node *n)
{
    if (!dense_dw_row_grain(n) || n->type.layout != LAYOUT_KERNEL || dense_dw_part_rows(n) >= n->type.dim[1]) return 0;
    return dense_dw_part_rows(n) * n->type.dim[0];
}

static void dense_dw_emit(CWriter *w, const Node *n)
{
    const TensorType *x = &n->in[0]->type;
    if (cw_updates(w, n)) {
        cw_stmt(w, n, "nn_dense_dw_update($team, %s, %lld, %lld, %lld, $0, $1, $out, $update);",
                rows_text(x, x->rank - 1).s, (ll)n->type.dim[1], (ll)n->type.dim[0], (ll)dense_dw_part_rows(n));
        return;
    }
    cw_stmt(w, n, "nn_dense_dw%s($team, %s, %lld, %lld, $0, $1, $out, $acc);",
            cw_use_blas(w) && goes_to_blas(&n->type, 0) ? "_blas" : "",
            rows_text(x, x->rank - 1).s, (ll)n->type.dim[1], (ll)n->type.dim[0]);
}

static Node *dense_dw_sum_steps(Builder *b, Node *n, int axis, Node *const *in)
{
    (void)axis; /* all axes but the last are samples */
    return in ? mk2(b, n->op, NULL, in[0], in[1]) : n;
}

/* The gradient of a weight's gradient has the weight's shape and takes its place. */
static void dense_dw_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_dense_dx, &(DenseAttrs){ .like = n->in[0]->type }, n->in[1], dy[0]);
    dx[1] = mk2(b, &op_dense, NULL, n->in[0], dy[0]);
}

const OpDesc op_dense_dw = {
    .name = "dense_dw",
    .summary = "gradient of dense with respect to the weight",
    .doc = "`dweight[o, i] = sum over samples of x[.., i] * dy[.., o]`, stored as [in][out].",
    .in = { "x", "dy" },
    .attr_size = 0,
    .flags = OPF_INTERNAL | OPF_ACCUMULATE,
    .result_layout = weight_result,
    .shape = dense_dw_shape,
    .grad = dense_dw_grad,
    .work = dense_dw_work,
    .emit = dense_dw_emit,
    .row_grain = dense_dw_row_grain,
    .update_part = dense_dw_update_part,
    .sum_steps = dense_dw_sum_steps,
};

typedef struct BiasGradAttrs {
    int64_t axis;
} BiasGradAttrs;

static const AttrDef bias_grad_attrs[] = {
    { "axis", ATTR_INT, offsetof(BiasGradAttrs, axis), .def = 1, .doc = "The axis that stays." },
    { 0 },
};

static bool bias_grad_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *dy = &n->in[0]->type;
    int axis;
    if (!axis_normalize(c, n, 0, ((const BiasGradAttrs *)n->attrs)->axis, &axis)) return false;
    *out = type_of(DT_F32, 1, &dy->dim[axis]);
    return want(c, axis > 0 || !dy->batch, ATTR(axis), "the batch axis has no bias");
}

Node *mk_bias_grad(Builder *b, Node *dy, int axis)
{
    return mk1(b, &op_bias_grad, &(BiasGradAttrs){ axis }, dy);
}

/* In memory order dy is [outer][channels][inner]. */
static void bias_grad_emit(CWriter *w, const Node *n)
{
    const TensorType *dy = &n->in[0]->type;
    const int64_t given = ((const BiasGradAttrs *)n->attrs)->axis;
    const int axis = (int)(given < 0 ? given + dy->rank : given);
    TensorType stored = *dy;
    int order[MAX_RANK], place = 0;
    layout_order(dy->layout, dy->rank, order);
    for (int i = 0; i < dy->rank; i++) {
        stored.dim[i] = dy->dim[order[i]];
        if (order[i] == axis) place = i;
    }
    cw_stmt(w, n, "nn_bias_grad($team, %s, %lld, %lld, $0, $scratch, $out, $acc);",
            rows_text(&stored, place).s, (ll)stored.dim[place],
            (ll)type_numel(&stored, place + 1, dy->rank));
}

static int64_t bias_grad_scratch(const Node *n)
{
    return 32 * n->type.dim[0]; /* NN_BIAS_PARTS partial sums */
}

static Node *bias_grad_sum_steps(Builder *b, Node *n, int axis, Node *const *in)
{
    const int64_t kept = ((const BiasGradAttrs *)n->attrs)->axis;
    return in ? mk_bias_grad(b, in[0], (int)(kept >= axis ? kept + 1 : kept)) : n;
}

static void bias_grad_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const TensorType *x = &n->in[0]->type;
    const int64_t given = ((const BiasGradAttrs *)n->attrs)->axis;
    const int axis = (int)(given < 0 ? given + x->rank : given);
    TensorType ones = { .dtype = DT_F32, .rank = x->rank };
    for (int i = 0; i < x->rank; i++) ones.dim[i] = i == axis ? x->dim[i] : 1;
    dx[0] = mk_expand_to(b, mk_reshape_like(b, dy[0], &ones), x);
}

const OpDesc op_bias_grad = {
    .name = "bias_grad",
    .summary = "gradient of a bias: the sum over all axes but one",
    .doc = "`db[c] = sum of dy[.., c, ..]`, in a fixed number of parts added in order.",
    .in = { "dy" },
    .attrs = bias_grad_attrs,
    .attr_size = sizeof(BiasGradAttrs),
    .flags = OPF_INTERNAL | OPF_ACCUMULATE | OPF_ANY_LAYOUT,
    .shape = bias_grad_shape,
    .grad = bias_grad_grad,
    .scratch = bias_grad_scratch,
    .emit = bias_grad_emit,
    .sum_steps = bias_grad_sum_steps,
};
