/* SPDX-License-Identifier: MIT
 *
 * Normalisation over a batch (per channel) and over a sample. Statistics are taken in two passes, the second
 * around the first one's mean, so that a large mean costs no digits.
 *
 * In training a layer, the sum behind it and relu are one node, batch_norm_act, and the gradient of relu is worked
 * into that of the layer (fuse_epilogue, fuse_prologue): the tensors are large and little is computed, so what counts
 * is how often they pass through memory.
 */
#include "ops/conv2d_norm.h"

typedef struct NormAttrs {
    double eps;
    int64_t axis; /* layer_norm: first normalised axis */
    bool relu;    /* batch_norm_act */
} NormAttrs;

#define EPS_ATTR                                                                                   \
    {                                                                                              \
        "eps", ATTR_FLOAT, offsetof(NormAttrs, eps), .def = 1e-5, .min = 0, .max = 1,              \
                                                     .doc = "Added to the variance."               \
    }

static const AttrDef batch_norm_attrs[] = { EPS_ATTR, { 0 } };
static const AttrDef batch_norm_act_attrs[] = {
    EPS_ATTR,
    { "relu", ATTR_BOOL, offsetof(NormAttrs, relu), .doc = "Apply relu to the result." },
    { 0 },
};
static const AttrDef layer_norm_attrs[] = {
    { "axis", ATTR_INT, offsetof(NormAttrs, axis), .def = -1,
      .doc = "First of the normalised axes, which run to the last." },
    EPS_ATTR,
    { 0 },
};

static bool eps_ok(ShapeCtx *c, double eps)
{
    return want(c, eps >= 0 && eps <= 1, ATTR(eps), "eps must lie between 0 and 1, got %g", eps);
}

static Node *fill_like(Builder *b, const Node *n, double value)
{
    TensorType t = n->type;
    if (!b->module->has_layouts) t.layout = LAYOUT_CANONICAL;
    return mk_fill(b, &t, value);
}

/* ---- batch normalisation ---- */

/* x[N, C, ...] of rank 2 to 4 and operands from..to with one number per channel. */
static bool channels_ok(ShapeCtx *c, const Node *n, const TensorType *x, int from, int to)
{
    if (!want(c, x->dtype == DT_F32 && x->rank >= 2 && x->rank <= 4, IN(0),
              "x is f32 with 2 to 4 axes, channels second"))
        return false;
    for (int i = from; i <= to; i++) {
        const TensorType *t = &n->in[i]->type;
        if (!want(c, t->dtype == DT_F32 && t->rank == 1 && t->dim[0] == x->dim[1] && !t->batch,
                  IN(i), "expected f32[%lld], one number per channel", (ll)x->dim[1]))
            return false;
    }
    return true;
}

static bool batch_norm_train_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *x = &n->in[0]->type;
    if (!channels_ok(c, n, x, 1, 2) || !eps_ok(c, ((const NormAttrs *)n->attrs)->eps)) return false;
    const int64_t most = (x->batch ? x->batch->hi : 1) * (type_numel(x, 0, x->rank) / x->dim[1]);
    if (!want(
            c, most > 1, IN(0),
            "one value per channel has no variance: the batch and the positions are all of size 1"))
        return false;
    out[0] = *x;
    out[0].layout = LAYOUT_CANONICAL;
    out[1] = out[2] = type_of(DT_F32, 1, &x->dim[1]);
    return true;
}

/* A batch of one sample without positions has one value per channel: its variance is 0 and says nothing. */
static int64_t batch_norm_train_least(const Node *n)
{
    const TensorType *x = &n->in[0]->type;
    return type_numel(x, 0, x->rank) / x->dim[1] > 1 ? 1 : 2;
}

static void batch_norm_train_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *x = n->in[0], *self = (Node *)n;
    if (dy[0]) {
        Node *in[] = { dy[0], x, mk_result(b, self, 1), mk_result(b, self, 2), n->in[1] };
        Node *d = mk(b, &op_batch_norm_train_dx, n->attrs, 5, in);
        dx[0] = d;
        dx[1] = mk_result(b, d, 1);
        dx[2] = mk_result(b, d, 2);
    }
    /* A loss that reads the statistics themselves: the gradients of mean and var of x, as operators know them. */
    const OpDesc *const stat[] = { &op_mean, &op_var };
    for (int k = 0; k < 2; k++) {
        if (!dy[k + 1]) continue;
        ReduceAttrs a = { .axis = { .n = 0 } };
        for (int i = 0; i < x->type.rank; i++)
            if (i != 1) a.axis.v[a.axis.n++] = i;
        Node *s = mk1(b, stat[k], &a, x), *part[OP_MAX_IN] = { NULL };
        stat[k]->grad(b, s, &dy[k + 1], part);
        dx[0] = dx[0] && part[0] ? mk_add(b, dx[0], part[0]) : part[0] ? part[0] : dx[0];
    }
}

/* "outer, channels, inner": the memory of x is [outer][channels][inner]. */
static void batch_norm_call(CWriter *w, const Node *n, const char *call, const TensorType *x,
                            const char *rest)
{
    const bool last = x->rank == 4 && x->layout == LAYOUT_CHANNELS_LAST;
    TensorType flat = *x;
    if (last) { /* every pixel is a row */
        flat.dim[1] = x->dim[2];
        flat.dim[2] = x->dim[3];
    }
    cw_stmt(w, n, "%s($team, %s, %lld, %lld, %s);", call, rows_text(&flat, last ? 3 : 1).s,
            (ll)x->dim[1], last ? 1 : (ll)type_numel(x, 2, x->rank), rest);
}

/* NN_NORM_PARTS = 32 parts of three sums per channel, with their numbers of rows. */
int64_t norm_sums_numel(int64_t channels)
{
    return 32 * (3 * channels + 1);
}

/* Three combined values for each channel, and the sums where these are no operand. */
static int64_t batch_norm_train_scratch(const Node *n)
{
    return 3 * n->type.dim[1] + norm_sums_numel(n->type.dim[1]);
}

static int64_t batch_norm_act_scratch(const Node *n)
{
    return n->in[4] ? 3 * n->type.dim[1] : batch_norm_train_scratch(n);
}

static int64_t batch_norm_train_dx_scratch(const Node *n)
{
    return n->in[7] ? 3 * n->type.dim[1] : batch_norm_train_scratch(n);
}

static Work norm_work(const Node *n)
{
    return (Work){ .flops = 8 * type_numel(&n->type, 0, n->type.rank) };
}

static void batch_norm_train_emit(CWriter *w, const Node *n)
{
    batch_norm_call(w, n, "nn_batch_norm_train", &n->in[0]->type,
                    "$eps, $0, $1, $2, $scratch, $out, $out1, $out2");
}

/* The node of a sum or of relu behind the layer, in the layer's kernel: the results keep their numbers. */
static Node *batch_norm_fuse_epilogue(Builder *b, const Node *n, const Node *user)
{
    NormAttrs a = *(const NormAttrs *)n->attrs;
    Node *more = op_is(n, &op_batch_norm_act) ? n->in[3] : NULL;
    if (a.relu) return NULL;
    if (op_is(user, &op_add) && !more) {
        more = user->in[user->in[0] == n];
        if (more == n || !type_equal(&more->type, &n->type)) return NULL;
    } else if (op_is(user, &op_relu)) {
        a.relu = true;
    } else {
        return NULL;
    }
    return mk4(b, &op_batch_norm_act, &a, n->in[0], n->in[1], n->in[2], more);
}

static const int over_x_alone[] = { 0 };

static Node *batch_norm_take_moments(Builder *b, const Node *n, Node *const *in, Node *moments)
{
    return mk(b, &op_batch_norm_act, n->attrs, 5,
              (Node *[]){ in[0], in[1], in[2], op_is(n, &op_batch_norm_act) ? in[3] : NULL, moments });
}

const OpDesc op_batch_norm_train = {
    .name = "batch_norm_train",
    .summary = "batch normalisation with the batch's own statistics",
    .doc =
        "Per channel c of x[N, C, ...]: `y = (x - mean) / sqrt(var + eps) * weight[c] + bias[c]` with the mean and the "
        "biased variance over all other axes, which are results 1 and 2.",
    .torch = "nn.functional.batch_norm(training=True)",
    .in = { "x", "weight", "bias" },
    .attrs = batch_norm_attrs,
    .attr_size = sizeof(NormAttrs),
    .flags = OPF_CHANNELS_LAST | OPF_SEEN_THROUGH,
    .n_results = 3,
    .shape = batch_norm_train_shape,
    .grad = batch_norm_train_grad,
    .work = norm_work,
    .scratch = batch_norm_train_scratch,
    .least_batch = batch_norm_train_least,
    .emit = batch_norm_train_emit,
    .fuse_epilogue = batch_norm_fuse_epilogue,
    .sums_over = over_x_alone,
    .take_sums = batch_norm_take_moments,
    .onnx = "BatchNormalization(training_mode=1)",
    .gradient = "dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(var + eps) with g = dy weight and "
                "means over the channel; dweight and dbias sum dy xhat and dy",
    .samples = SAMPLES(
        { "batch_norm_train(x: f32[5,3], weight: f32[3], bias: f32[3])", "f32[5,3]" },
        { "batch_norm_train(x: f32[3,17,2,5], weight: f32[17], bias: f32[17], eps = 0.001)",
          "f32[3,17,2,5]" },
        { "batch_norm_train(x: f32[3,2,19], weight: f32[2], bias: f32[2])", "f32[3,2,19]" },
        { "batch_norm_train(x: f32[2,1,1,1], weight: f32[1], bias: f32[1])", "f32[2,1,1,1]" }),
};

static bool batch_norm_act_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const Node *more = n->in[3];
    if (!batch_norm_train_shape(c, n, out) ||
        !want(c, !more || (more->type.dtype == DT_F32 && type_same_shape(&more->type, &n->in[0]->type)), IN(3),
              "what is added has the shape of x"))
        return false;
    out[3] = out[4] = out[1];
    return true;
}

static void batch_norm_act_emit(CWriter *w, const Node *n)
{
    char text[96];
    snprintf(text, sizeof text, "$eps, %d, $0, $1, $2, $3, $4, $scratch, $out, $out1, $out2, %s, %s",
             ((const NormAttrs *)n->attrs)->relu, cw_result_is_read(w, n, 3) ? "$out3" : "NULL",
             cw_result_is_read(w, n, 4) ? "$out4" : "NULL");
    batch_norm_call(w, n, "nn_batch_norm_act", &n->in[0]->type, text);
}

const OpDesc op_batch_norm_act = {
    .name = "batch_norm_act",
    .summary = "batch_norm_train with a sum and relu",
    .doc =
        "`batch_norm_train(x, weight, bias)`, plus `more` where it is given, and relu of that with `relu`. Results 3 "
        "and 4 are the scale and the shift of the layer as `(x - mean) * scale + shift`. `moments` are those of x, if "
        "another kernel took them.",
    .in = { "x", "weight", "bias", "more?", "moments?" },
    .attrs = batch_norm_act_attrs,
    .attr_size = sizeof(NormAttrs),
    .flags = OPF_CHANNELS_LAST | OPF_INTERNAL,
    .n_results = 5,
    .shape = batch_norm_act_shape,
    .no_grad = "it is made when gradients are there already",
    .work = norm_work,
    .scratch = batch_norm_act_scratch,
    .least_batch = batch_norm_train_least,
    .emit = batch_norm_act_emit,
    .fuse_epilogue = batch_norm_fuse_epilogue,
    .sums_over = over_x_alone,
    .take_sums = batch_norm_take_moments,
};

static bool batch_norm_train_dx_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *x = &n->in[1]->type;
    out[0] = n->in[0]->type;
    out[1] = out[2] = type_of(DT_F32, 1, &x->dim[1]);
    return want(c, type_same_shape(&n->in[0]->type, x), IN(0), "dy and x have the same shape");
}

static void batch_norm_train_dx_emit(CWriter *w, const Node *n)
{
    const bool relu = n->in[5] != NULL;
    if (relu || n->in[7])
        batch_norm_call(w, n, "nn_batch_norm_act_dx", &n->in[1]->type,
                        relu ? "$eps, 1, $0, $1, $2, $3, $4, $5, $6, $7, $scratch, $out, $out1, $out2"
                             : "$eps, 0, $0, $1, $2, $3, $4, $5, $6, $7, $scratch, $out, $out1, $out2");
    else
        batch_norm_call(w, n, "nn_batch_norm_train_dx", &n->in[1]->type,
                        "$eps, $0, $1, $2, $3, $4, $scratch, $out, $out1, $out2");
}

/* From what the layer reads anyway: without a sum in between, relu's operand is the layer's formula. */
bool batch_norm_masks(const Node *y)
{
    return op_is(y, &op_batch_norm_act) && ((const NormAttrs *)y->attrs)->relu && !y->in[3];
}

static Node *batch_norm_train_dx_fuse_prologue(Builder *b, const Node *n, Node *const *in)
{
    if (n->in[5] || !op_is(in[0], &op_relu_dx)) return NULL;
    Node *y = in[0]->in[1];
    if (!batch_norm_masks(y) || y->in[0] != in[1] || !type_equal(&in[0]->in[0]->type, &in[1]->type)) return NULL;
    Node *operand[] = { in[0]->in[0], in[1], in[2], in[3], in[4], mk_result(b, y, 3), mk_result(b, y, 4) };
    return mk(b, n->op, n->attrs, 7, operand);
}

static const int norm_dx_over[NORM_DX_OVER + 1] = { 1, 2, 5, 6, 0 };

static Node *batch_norm_train_dx_take_sums(Builder *b, const Node *n, Node *const *in, Node *sums)
{
    return mk(b, n->op, n->attrs, 8, (Node *[]){ in[0], in[1], in[2], in[3], in[4], in[5], in[6], sums });
}

/* x[N, C, ...] from one number per channel. */
static Node *per_channel(Builder *b, Node *v, const TensorType *x)
{
    TensorType ones = { .dtype = DT_F32, .rank = x->rank };
    for (int i = 0; i < x->rank; i++) ones.dim[i] = i == 1 ? x->dim[i] : 1;
    return mk_reshape_like(b, v, &ones);
}

static Node *inverse_sqrt(Builder *b, Node *x)
{
    return mk1(b, &op_reciprocal, NULL, mk1(b, &op_sqrt, NULL, x));
}

static void batch_norm_train_dx_parts(Builder *b, const Node *n, Node **out)
{
    Node *dy = n->in[0], *x = n->in[1];
    const TensorType *t = &x->type;
    ReduceAttrs others = { .keepdims = true };
    for (int i = 0; i < t->rank; i++)
        if (i != 1) others.axis.v[others.axis.n++] = i;
    Node *mean = per_channel(b, n->in[2], t), *var = per_channel(b, n->in[3], t);
    Node *rstd =
        inverse_sqrt(b, mk_add(b, var, mk_const(b, DT_F32, ((const NormAttrs *)n->attrs)->eps)));
    Node *h = mk_mul(b, mk_sub(b, x, mean), rstd), *dyh = mk_mul(b, dy, h);
    Node *rest = mk_sub(b, mk_sub(b, dy, mk1(b, &op_mean, &others, dy)),
                        mk_mul(b, h, mk1(b, &op_mean, &others, dyh)));
    out[0] = mk_mul(b, rest, mk_mul(b, per_channel(b, n->in[4], t), rstd));
    out[1] = mk_bias_grad(b, dyh, 1);
    out[2] = mk_bias_grad(b, dy, 1);
}

static void batch_norm_train_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    grad_of_parts(b, n, dy, dx, batch_norm_train_dx_parts);
}

const OpDesc op_batch_norm_train_dx = {
    .name = "batch_norm_train_dx",
    .summary = "gradients of batch_norm_train",
    .doc =
        "With `h = (x - mean) / sqrt(var + eps)`: `dbias = sum dy`, `dweight = sum dy*h`, "
        "`dx = weight / sqrt(var + eps) * (dy - dbias/M - h*dweight/M)` over the M values of a channel. With `scale` "
        "and `shift` of the layer `dy` is 0 where `(x - mean) * scale + shift <= 0`. `sums` are those of dy, where "
        "another kernel took them.",
    .in = { "dy", "x", "mean", "var", "weight", "scale?", "shift?", "sums?" },
    .attrs = batch_norm_attrs,
    .attr_size = sizeof(NormAttrs),
    .flags = OPF_CHANNELS_LAST | OPF_INTERNAL | OPF_INPLACE,
    .n_results = 3,
    .shape = batch_norm_train_dx_shape,
    .grad = batch_norm_train_dx_grad,
    .work = norm_work,
    .scratch = batch_norm_train_dx_scratch,
    .emit = batch_norm_train_dx_emit,
    .fuse_prologue = batch_norm_train_dx_fuse_prologue,
    .sums_over = norm_dx_over,
    .take_sums = batch_norm_train_dx_take_sums,
};

static bool batch_norm_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    *out = n->in[0]->type;
    out->layout = LAYOUT_CANONICAL;
    return channels_ok(c, n, &n->in[0]->type, 1, 4) &&
           eps_ok(c, ((const NormAttrs *)n->attrs)->eps);
}

/* The layer is affine in x, weight and bias, so its gradients are the layer itself with other constants. */
static void batch_norm_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *weight = n->in[1], *zero = fill_like(b, weight, 0), *one = fill_like(b, weight, 1);
    dx[0] = mk(b, &op_batch_norm, n->attrs, 5, (Node *[]){ dy[0], weight, zero, zero, n->in[4] });
    Node *h =
        mk(b, &op_batch_norm, n->attrs, 5, (Node *[]){ n->in[0], one, zero, n->in[3], n->in[4] });
    dx[1] = mk_bias_grad(b, mk_mul(b, dy[0], h), 1);
    dx[2] = mk_bias_grad(b, dy[0], 1);
}

static void batch_norm_emit(CWriter *w, const Node *n)
{
    const TensorType *x = &n->in[0]->type;
    const bool last = x->rank == 4 && x->layout == LAYOUT_CHANNELS_LAST;
    const ll inner = (ll)type_numel(x, 2, x->rank);
    if (last)
        cw_stmt(w, n, "nn_batch_norm(($rows) * %lld, %lld, 1, $eps, $0, $1, $2, $3, $4, $out);",
                inner, (ll)x->dim[1]);
    else
        cw_stmt(w, n, "nn_batch_norm($rows, %lld, %lld, $eps, $0, $1, $2, $3, $4, $out);",
                (ll)x->dim[1], inner);
}

/* (x - mean) / sqrt(var + eps) * weight + bias = x * scale + shift. */
static bool batch_norm_as_affine(Builder *b, const Node *n, Node **scale, Node **shift)
{
    Node *var = mk_add(b, n->in[4], mk_const(b, DT_F32, ((const NormAttrs *)n->attrs)->eps));
    Node *deviation = mk1(b, &op_sqrt, NULL, var);
    b->name = arena_printf(b->module->arena, "%s_scale", n->name);
    *scale = mk_div(b, n->in[1], deviation);
    Node *centre = mk_mul(b, n->in[3], *scale);
    b->name = arena_printf(b->module->arena, "%s_shift", n->name);
    *shift = mk_sub(b, n->in[2], centre);
    return true;
}

const OpDesc op_batch_norm = {
    .name = "batch_norm",
    .summary = "batch normalisation with given statistics",
    .doc =
        "Per channel c: `y = (x - mean[c]) / sqrt(var[c] + eps) * weight[c] + bias[c]`. Not differentiated with "
        "respect to mean and var.",
    .torch = "nn.functional.batch_norm(training=False)",
    .in = { "x", "weight", "bias", "mean", "var" },
    .attrs = batch_norm_attrs,
    .attr_size = sizeof(NormAttrs),
    .flags = OPF_LEAD | OPF_CHANNELS_LAST | OPF_SEEN_THROUGH,
    .whole = 0x1e,
    .shape = batch_norm_shape,
    .grad = batch_norm_grad,
    .work = norm_work,
    .emit = batch_norm_emit,
    .as_affine = batch_norm_as_affine,
    .onnx = "BatchNormalization",
    .gradient = "dx = dy weight / sqrt(var + eps); dweight and dbias sum dy xhat and dy, where y = "
                "xhat weight + bias; none for mean and var",
    .samples = SAMPLES(
        { "batch_norm(x: f32[3,5], weight: f32[5], bias: f32[5], mean: f32[5], var: f32[5])",
          "f32[3,5]" },
        { "batch_norm(x: f32[2,17,3,2], weight: f32[17], bias: f32[17], mean: f32[17], var: f32[17], eps = 0.01)",
          "f32[2,17,3,2]" },
        { "batch_norm(x: f32[2,3,7], weight: f32[3], bias: f32[3], mean: f32[3], var: f32[3])",
          "f32[2,3,7]" }),
};

/* ---- layer normalisation ---- */

static bool layer_norm_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const NormAttrs *a = n->attrs;
    const TensorType *x = &n->in[0]->type;
    int axis;
    if (!want(c, x->dtype == DT_F32, IN(0), "expected f32 values, got %s", dtype_name(x->dtype)) ||
        !axis_normalize(c, n, 0, a->axis, &axis) || !eps_ok(c, a->eps) ||
        !want(c, axis > 0, ATTR(axis), "axis 0 holds the samples; normalise over later axes"))
        return false;
    for (int i = 1; i <= 2; i++) {
        if (!n->in[i]) continue;
        const TensorType *t = &n->in[i]->type;
        bool fits = t->dtype == DT_F32 && t->rank == x->rank - axis && !t->batch;
        for (int k = 0; fits && k < t->rank; k++) fits = t->dim[k] == x->dim[axis + k];
        if (!want(c, fits, IN(i), "%s has the shape of x's axes from %d on",
                  i == 1 ? "weight" : "bias", axis))
            return false;
    }
    out[0] = *x;
    out[0].layout = LAYOUT_CANONICAL;
    out[1] = out[0];
    out[1].rank = axis;
    for (int i = axis; i < x->rank; i++) out[1].dim[i] = 0;
    out[2] = out[1];
    return true;
}

static int norm_axis(const Node *n, const TensorType *x)
{
    const int64_t axis = ((const NormAttrs *)n->attrs)->axis;
    return (int)(axis < 0 ? axis + x->rank : axis);
}

static void layer_norm_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *x = n->in[0], *self = (Node *)n;
    if (dy[0]) {
        Node *in[] = { dy[0], x, mk_result(b, self, 1), mk_result(b, self, 2), n->in[1] };
        Node *d = mk(b, &op_layer_norm_dx, n->attrs, 5, in);
        dx[0] = d;
        if (n->in[1]) dx[1] = mk_result(b, d, 1);
        if (n->in[2]) dx[2] = mk_result(b, d, 2);
    }
    /* Results 1 and 2 are kept for the backward pass; a loss that reads them differentiates the plain reductions. */
    ReduceAttrs a = { .axis = { .n = 0 } };
    for (int i = norm_axis(n, &x->type); i < x->type.rank; i++) a.axis.v[a.axis.n++] = i;
    Node *part[OP_MAX_IN] = { NULL };
    if (dy[1]) {
        op_mean.grad(b, mk1(b, &op_mean, &a, x), &dy[1], part);
        dx[0] = dx[0] && part[0] ? mk_add(b, dx[0], part[0]) : part[0] ? part[0] : dx[0];
    }
    if (dy[2]) { /* rstd = (var + eps)^-1/2, so drstd/dvar = -rstd^3 / 2 */
        Node *r = mk_result(b, self, 2),
             *d = mk_scale(b, mk_mul(b, dy[2], mk_mul(b, r, mk_mul(b, r, r))), -0.5);
        part[0] = NULL;
        op_var.grad(b, mk1(b, &op_var, &a, x), &d, part);
        dx[0] = dx[0] && part[0] ? mk_add(b, dx[0], part[0]) : part[0] ? part[0] : dx[0];
    }
}

/* Large samples are divided by rows, so that all threads have work with one sample too. */
static bool layer_norm_is_lead(const Node *n)
{
    enum { ROWS = 16, LARGE = 1 << 14 };
    const TensorType *x = &n->in[0]->type;
    return type_numel(x, 1, norm_axis(n, x)) < ROWS || type_numel(x, 1, x->rank) < LARGE;
}

static void layer_norm_emit(CWriter *w, const Node *n)
{
    const TensorType *x = &n->in[0]->type;
    const int axis = norm_axis(n, x);
    if (!layer_norm_is_lead(n)) {
        cw_stmt(w, n, "nn_layer_norm_tall($team, %s, %lld, $eps, $0, $1, $2, $out, $out1, $out2);",
                rows_text(x, axis).s, (ll)type_numel(x, axis, x->rank));
        return;
    }
    cw_stmt(w, n, "nn_layer_norm(%s, %lld, $eps, $0, $1, $2, $out, $out1, $out2);",
            share_text(x, axis).s, (ll)type_numel(x, axis, x->rank));
}

const OpDesc op_layer_norm = {
    .name = "layer_norm",
    .summary = "normalisation of each sample over its last axes",
    .doc =
        "Over the axes from `axis` on: `y = (x - mean) / sqrt(var + eps) * weight + bias` with the biased variance. "
        "Results 1 and 2 are the mean and 1/sqrt(var + eps).",
    .torch = "nn.functional.layer_norm",
    .in = { "x", "weight?", "bias?" },
    .attrs = layer_norm_attrs,
    .attr_size = sizeof(NormAttrs),
    .flags = OPF_SEEN_THROUGH,
    .is_lead = layer_norm_is_lead,
    .whole = 1 << 1 | 1 << 2,
    .n_results = 3,
    .shape = layer_norm_shape,
    .grad = layer_norm_grad,
    .work = norm_work,
    .emit = layer_norm_emit,
    .onnx = "LayerNormalization",
    .gradient = "dx = (g - mean(g) - xhat mean(g xhat)) rstd with g = dy weight and means over the "
                "sample; dweight and dbias sum dy xhat and dy",
    .samples = SAMPLES({ "layer_norm(x: f32[5,37], weight: f32[37], bias: f32[37])", "f32[5,37]" },
                       { "layer_norm(x: f32[3,5,7])", "f32[3,5,7]" },
                       { "layer_norm(x: f32[2,3,5,4], weight: f32[3,5,4], axis = 1, eps = 0.001)",
                         "f32[2,3,5,4]" }),
};

static bool layer_norm_dx_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *x = &n->in[1]->type;
    const int axis = norm_axis(n, x);
    out[0] = *x;
    out[0].layout = LAYOUT_CANONICAL;
    out[1] = out[2] = type_of(DT_F32, x->rank - axis, &x->dim[axis]);
    return want(c, type_same_shape(&n->in[0]->type, x), IN(0), "dy and x have the same shape");
}

static int64_t layer_norm_dx_scratch(const Node *n)
{
    return 2 * 32 *
           type_numel(&n->more[0], 0,
                      n->more[0].rank); /* NN_NORM_PARTS partial sums of two results */
}

static void layer_norm_dx_emit(CWriter *w, const Node *n)
{
    const TensorType *x = &n->in[1]->type;
    const int axis = norm_axis(n, x);
    cw_stmt(w, n,
            "nn_layer_norm_dx($team, %s, %lld, $0, $1, $2, $3, $4, $scratch, $out, $out1, $out2);",
            rows_text(x, axis).s, (ll)type_numel(x, axis, x->rank));
}

static void layer_norm_dx_parts(Builder *b, const Node *n, Node **out)
{
    Node *dy = n->in[0], *x = n->in[1];
    const int axis = norm_axis(n, &x->type);
    TensorType row = x->type;
    ReduceAttrs last = { .keepdims = true };
    for (int i = axis; i < row.rank; i++) {
        row.dim[i] = 1;
        last.axis.v[last.axis.n++] = i;
    }
    Node *rstd = mk_reshape_like(b, n->in[3], &row);
    Node *h = mk_mul(b, mk_sub(b, x, mk_reshape_like(b, n->in[2], &row)), rstd), *dyh = mk_mul(b, dy, h);
    Node *g = n->in[4] ? mk_mul(b, dy, n->in[4]) : dy;
    Node *rest = mk_sub(b, mk_sub(b, g, mk1(b, &op_mean, &last, g)),
                        mk_mul(b, h, mk1(b, &op_mean, &last, mk_mul(b, g, h))));
    out[0] = mk_mul(b, rest, rstd);
    out[1] = mk_reduce_to(b, dyh, &n->more[0]);
    out[2] = mk_reduce_to(b, dy, &n->more[1]);
}

static void layer_norm_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    grad_of_parts(b, n, dy, dx, layer_norm_dx_parts);
}

const OpDesc op_layer_norm_dx = {
    .name = "layer_norm_dx",
    .summary = "gradients of layer_norm",
    .doc =
        "With `h = (x - mean) * rstd` and `g = dy * weight`: `dx = rstd * (g - mean(g) - h * mean(g*h))` per sample, "
        "`dweight = sum dy*h` and `dbias = sum dy` over samples.",
    .in = { "dy", "x", "mean", "rstd", "weight?" },
    .attrs = layer_norm_attrs,
    .attr_size = sizeof(NormAttrs),
    .flags = OPF_INTERNAL,
    .n_results = 3,
    .shape = layer_norm_dx_shape,
    .grad = layer_norm_dx_grad,
    .work = norm_work,
    .scratch = layer_norm_dx_scratch,
    .emit = layer_norm_dx_emit,
};
