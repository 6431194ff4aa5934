/* SPDX-License-Identifier: MIT
 *
 * What a step of LSTM and GRU does after its products: gates and the next state, in one pass over memory. The products
 * stay layers of their own, so that those with the input move in front of the loop (passes/hoist.c). Where a loop does
 * nothing but such a product and cell, or their gradients, one kernel runs all steps of it (passes/loops.c).
 */
#include "ir/scan.h"
#include "ir/shape_ctx.h"
#include "ops/window.h"

/* Operands: x and s, `parts` gates wide, then the state, one wide. */
static bool cell_shape(ShapeCtx *c, const Node *n, int64_t parts)
{
    const TensorType *state = &n->in[2]->type;
    for (int i = 0; i < 3; i++) {
        const TensorType *t = &n->in[i]->type;
        if (!want(c, t->dtype == DT_F32 && t->rank == 2, IN(i),
                  "expected f32[samples, numbers], got %s",
                  type_text(c->builder->module->arena, t)))
            return false;
        if (i < 2 &&
            !want(c,
                  t->batch == state->batch && t->dim[0] == state->dim[0] &&
                      t->dim[1] == parts * state->dim[1],
                  IN(i),
                  "%s does not fit the state %s: %lld numbers are needed for each of its numbers",
                  type_text(c->builder->module->arena, t),
                  type_text(c->builder->module->arena, state), (ll)parts))
            return false;
    }
    return true;
}

static TensorType widened(const TensorType *t, int64_t parts)
{
    TensorType wide = *t;
    wide.layout = LAYOUT_CANONICAL;
    wide.dim[1] *= parts;
    return wide;
}

static TensorType narrowed(const TensorType *gates)
{
    TensorType t = *gates;
    t.layout = LAYOUT_CANONICAL;
    t.dim[1] /= 4;
    return t;
}

static Work cell_work(const Node *n)
{
    return (Work){ .flops = 40 * type_numel(&n->type, 0, n->type.rank) };
}

/* What the kernels compute, of plain operators: gradients of the values kept for gradients go through these. */

static Node *gate_of(Builder *b, Node *x, int i, int64_t parts)
{
    const int64_t width = x->type.dim[1] / parts;
    return mk_cut(b, x, 1, i * width, width);
}

static Node *one_minus(Builder *b, Node *x)
{
    return mk_sub(b, mk_const(b, DT_F32, 1), x);
}

static Node *sigmoid_of(Builder *b, Node *x)
{
    return mk1(b, &op_sigmoid, NULL, x);
}

static Node *tanh_of(Builder *b, Node *x)
{
    return mk1(b, &op_tanh, NULL, x);
}

/* Slopes of sigmoid and tanh where their values are y. */
static Node *sigmoid_slope(Builder *b, Node *y)
{
    return mk_mul(b, y, one_minus(b, y));
}

static Node *tanh_slope(Builder *b, Node *y)
{
    return one_minus(b, mk1(b, &op_square, NULL, y));
}

/* Rules for loops that one kernel can run, below. */
static Node *lstm_whole(Builder *b, const Node *scan, Node *const *in, const Node *n, int *result_of);
static Node *lstm_dx_whole(Builder *b, const Node *scan, Node *const *in, const Node *n, int *result_of);
static Node *gru_whole(Builder *b, const Node *scan, Node *const *in, const Node *n, int *result_of);
static Node *gru_dx_whole(Builder *b, const Node *scan, Node *const *in, const Node *n, int *result_of);

/* ---- LSTM ---- */

static bool lstm_cell_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    if (!cell_shape(c, n, 4)) return false;
    out[0] = out[1] = widened(&n->in[2]->type, 1);
    out[2] = widened(&n->in[2]->type, 4);
    return true;
}

static void lstm_cell_parts(Builder *b, const Node *n, Node **out)
{
    Node *z = mk_add(b, n->in[0], n->in[1]), *gate[4];
    for (int k = 0; k < 4; k++) gate[k] = (k == 2 ? tanh_of : sigmoid_of)(b, gate_of(b, z, k, 4));
    out[1] = mk_add(b, mk_mul(b, gate[1], n->in[2]), mk_mul(b, gate[0], gate[2]));
    out[0] = mk_mul(b, gate[3], tanh_of(b, out[1]));
    out[2] = mk_join(b, 1, 4, gate);
}

static void lstm_cell_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    if (dy[2]) {
        grad_of_parts(b, n, dy, dx, lstm_cell_parts);
        return;
    }
    Node *gates = mk_result(b, (Node *)n, 2);
    Node *dz = mk4(b, &op_lstm_cell_dx, NULL, gates, n->in[2], dy[0], dy[1]);
    dx[0] = dx[1] = dz;
    dx[2] = mk_result(b, dz, 1);
}

static void lstm_cell_emit(CWriter *w, const Node *n)
{
    cw_stmt(
        w, n,
        "nn_lstm_cell($rows, %lld, $0, $pitch0, $1, $pitch1, $2, $pitch2, $out, $pitch_out, $out1, "
        "$pitch_out1, $out2, $pitch_out2);",
        (ll)n->type.dim[1]);
}

const OpDesc op_lstm_cell = {
    .name = "lstm_cell",
    .summary = "gates and next state of an LSTM",
    .torch = "nn.LSTMCell, after its products",
    .doc =
        "`i, f, g, o` are the four parts of `x + s`, which are the products with the input and with the output of "
        "the step before. `c2 = sigmoid(f) c + sigmoid(i) tanh(g)`, `h = sigmoid(o) tanh(c2)`. Results: `h`, `c2`, "
        "and the values of the gates.",
    .in = { "x", "s", "c" },
    .n_results = 3,
    .flags = OPF_LEAD | OPF_KEPT | OPF_ROW_PITCH,
    .shape = lstm_cell_shape,
    .grad = lstm_cell_grad,
    .work = cell_work,
    .emit = lstm_cell_emit,
    .whole_loop = lstm_whole,
    .onnx = "LSTM, one step",
    .gradient =
        "dc = (dc2 + dh o (1 - tanh(c2)^2)) f; the gates' parts of x and s get theirs by the "
        "product rule",
    .samples = SAMPLES({ "lstm_cell(x: f32[3,20], s: f32[3,20], c: f32[3,5])", "f32[3,5]" },
                       { "lstm_cell(x: f32[1,4], s: f32[1,4], c: f32[1,1])", "f32[1,1]" }),
};

static bool lstm_cell_dx_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    (void)c;
    out[0] = widened(&n->in[0]->type, 1);
    out[1] = narrowed(&n->in[0]->type);
    return true;
}

static void lstm_cell_dx_emit(CWriter *w, const Node *n)
{
    cw_stmt(
        w, n,
        "nn_lstm_cell_dx($rows, %lld, $0, $pitch0, $1, $pitch1, $2, $pitch2, $3, $pitch3, $out, "
        "$pitch_out, $out1, $pitch_out1);",
        (ll)n->type.dim[1] / 4);
}

static void lstm_cell_dx_parts(Builder *b, const Node *n, Node **out)
{
    Node *gates = n->in[0], *c = n->in[1], *dh = n->in[2], *dc2 = n->in[3];
    Node *i = gate_of(b, gates, 0, 4), *f = gate_of(b, gates, 1, 4), *g = gate_of(b, gates, 2, 4),
         *o = gate_of(b, gates, 3, 4);
    Node *t = tanh_of(b, mk_add(b, mk_mul(b, f, c), mk_mul(b, i, g)));
    Node *through = dh ? mk_mul(b, mk_mul(b, dh, o), tanh_slope(b, t)) : NULL;
    Node *d = through && dc2 ? mk_add(b, dc2, through) : through ? through : dc2;
    Node *part[4] = { mk_mul(b, mk_mul(b, d, g), sigmoid_slope(b, i)),
                      mk_mul(b, mk_mul(b, d, c), sigmoid_slope(b, f)),
                      mk_mul(b, mk_mul(b, d, i), tanh_slope(b, g)),
                      dh ? mk_mul(b, mk_mul(b, dh, t), sigmoid_slope(b, o))
                         : mk_fill(b, &n->in[1]->type, 0) };
    out[0] = mk_join(b, 1, 4, part);
    out[1] = mk_mul(b, d, f);
}

static void lstm_cell_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    grad_of_parts(b, n, dy, dx, lstm_cell_dx_parts);
}

const OpDesc op_lstm_cell_dx = {
    .name = "lstm_cell_dx",
    .summary = "gradient of lstm_cell",
    .doc =
        "From the gates, `c`, and the gradients of `h` and `c2`: the gradient of `x` and of `s`, and that of `c`.",
    .in = { "gates", "c", "dh?", "dc2?" },
    .n_results = 2,
    .flags = OPF_LEAD | OPF_INTERNAL | OPF_ROW_PITCH,
    .shape = lstm_cell_dx_shape,
    .grad = lstm_cell_dx_grad,
    .work = cell_work,
    .emit = lstm_cell_dx_emit,
    .whole_loop = lstm_dx_whole,
};

/* ---- GRU ---- */

static bool gru_cell_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    if (!cell_shape(c, n, 3)) return false;
    out[0] = widened(&n->in[2]->type, 1);
    out[1] = widened(&n->in[2]->type, 4);
    return true;
}

static void gru_cell_parts(Builder *b, const Node *n, Node **out)
{
    Node *x = n->in[0], *s = n->in[1], *h = n->in[2], *gate[4];
    for (int k = 0; k < 2; k++)
        gate[k] = sigmoid_of(b, mk_add(b, gate_of(b, x, k, 3), gate_of(b, s, k, 3)));
    gate[3] = gate_of(b, s, 2, 3);
    gate[2] = tanh_of(b, mk_add(b, gate_of(b, x, 2, 3), mk_mul(b, gate[0], gate[3])));
    out[0] = mk_add(b, mk_mul(b, one_minus(b, gate[1]), gate[2]), mk_mul(b, gate[1], h));
    out[1] = mk_join(b, 1, 4, gate);
}

static void gru_cell_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    if (dy[1]) grad_of_parts(b, n, dy, dx, gru_cell_parts);
    if (dy[1] || !dy[0]) return;
    Node *d = mk3(b, &op_gru_cell_dx, NULL, mk_result(b, (Node *)n, 1), n->in[2], dy[0]);
    for (int i = 0; i < 3; i++) dx[i] = mk_result(b, d, i);
}

static void gru_cell_emit(CWriter *w, const Node *n)
{
    cw_stmt(
        w, n,
        "nn_gru_cell($rows, %lld, $0, $pitch0, $1, $pitch1, $2, $pitch2, $out, $pitch_out, $out1, "
        "$pitch_out1);",
        (ll)n->type.dim[1]);
}

const OpDesc op_gru_cell = {
    .name = "gru_cell",
    .summary = "gates and next state of a gated recurrent unit",
    .torch = "nn.GRUCell, after its products",
    .doc =
        "`x` and `s`, the products with the input and with `h`, have three parts each: `r = sigmoid(x_r + s_r)`, "
        "`z = sigmoid(x_z + s_z)`, `m = tanh(x_n + r s_n)`; `h2 = (1 - z) m + z h`. Results: `h2`, and `r, z, m, "
        "s_n`.",
    .in = { "x", "s", "h" },
    .n_results = 2,
    .flags = OPF_LEAD | OPF_KEPT | OPF_ROW_PITCH,
    .shape = gru_cell_shape,
    .grad = gru_cell_grad,
    .work = cell_work,
    .emit = gru_cell_emit,
    .whole_loop = gru_whole,
    .onnx = "GRU, one step",
    .gradient =
        "dh = dy z, plus what goes through the gates into x and s by the product rule, from "
        "the values kept as results",
    .samples = SAMPLES({ "gru_cell(x: f32[3,15], s: f32[3,15], h: f32[3,5])", "f32[3,5]" },
                       { "gru_cell(x: f32[1,3], s: f32[1,3], h: f32[1,1])", "f32[1,1]" }),
};

static bool gru_cell_dx_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    (void)c;
    const TensorType *h = &n->in[1]->type;
    out[0] = out[1] = widened(h, 3);
    out[2] = widened(h, 1);
    return true;
}

static void gru_cell_dx_emit(CWriter *w, const Node *n)
{
    cw_stmt(
        w, n,
        "nn_gru_cell_dx($rows, %lld, $0, $pitch0, $1, $pitch1, $2, $pitch2, $out, $pitch_out, $out1, "
        "$pitch_out1, $out2, $pitch_out2);",
        (ll)n->in[1]->type.dim[1]);
}

static void gru_cell_dx_parts(Builder *b, const Node *n, Node **out)
{
    Node *gates = n->in[0], *h = n->in[1], *d = n->in[2];
    Node *r = gate_of(b, gates, 0, 4), *z = gate_of(b, gates, 1, 4), *m = gate_of(b, gates, 2, 4),
         *s_n = gate_of(b, gates, 3, 4);
    Node *dz = mk_mul(b, mk_mul(b, d, mk_sub(b, h, m)), sigmoid_slope(b, z));
    Node *dm = mk_mul(b, mk_mul(b, d, one_minus(b, z)), tanh_slope(b, m));
    Node *dr = mk_mul(b, mk_mul(b, dm, s_n), sigmoid_slope(b, r));
    out[0] = mk_join(b, 1, 3, (Node *[]){ dr, dz, dm });
    out[1] = mk_join(b, 1, 3, (Node *[]){ dr, dz, mk_mul(b, dm, r) });
    out[2] = mk_mul(b, d, z);
}

static void gru_cell_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    grad_of_parts(b, n, dy, dx, gru_cell_dx_parts);
}

const OpDesc op_gru_cell_dx = {
    .name = "gru_cell_dx",
    .summary = "gradient of gru_cell",
    .doc = "From the gates, `h`, and the gradient of `h2`: the gradients of `x`, `s` and `h`.",
    .in = { "gates", "h", "dh2" },
    .n_results = 3,
    .flags = OPF_LEAD | OPF_INTERNAL | OPF_ROW_PITCH,
    .shape = gru_cell_dx_shape,
    .grad = gru_cell_dx_grad,
    .work = cell_work,
    .emit = gru_cell_dx_emit,
    .whole_loop = gru_dx_whole,
};

/* ---- all steps of a layer ---- */

typedef struct LoopAttrs {
    bool reverse;
} LoopAttrs;

static const AttrDef loop_attrs[] = {
    { "reverse", ATTR_BOOL, offsetof(LoopAttrs, reverse),
      .doc = "From the last step to the first." },
    { 0 },
};

typedef struct PanelAttrs {
    bool transposed;
} PanelAttrs;

static const AttrDef panel_attrs[] = {
    { "transposed", ATTR_BOOL, offsetof(PanelAttrs, transposed), .doc = "For the gradient." },
    { 0 },
};

/* The length of a vector is known only to the C compiler: room for any. */
static bool gate_panels_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *w = &n->in[0]->type;
    const bool transposed = ((const PanelAttrs *)n->attrs)->transposed;
    if (!want(c, w->rank == 2 && !w->batch && w->dim[0] % w->dim[1] == 0, IN(0),
              "a recurrent weight is [parts * n, n]"))
        return false;
    const int64_t units = w->dim[1], wide = transposed ? 64 : 16;
    const int64_t padded = (units + wide - 1) / wide * wide;
    *out = type_of(DT_F32, 1, (int64_t[]){ padded * (w->dim[0] / units) * (units + !transposed) });
    return true;
}

static void gate_panels_emit(CWriter *w, const Node *n)
{
    const TensorType *t = &n->in[0]->type;
    const ll units = (ll)t->dim[1], parts = (ll)(t->dim[0] / t->dim[1]);
    if (((const PanelAttrs *)n->attrs)->transposed)
        cw_stmt(w, n, "nn_gate_panels_dx($team, %lld, %lld, $0, $out);", parts, units);
    else
        cw_stmt(w, n, "nn_gate_panels($team, %lld, %lld, $0, $1, $out);", parts, units);
}

static Work no_work(const Node *n)
{
    (void)n;
    return (Work){ 0 };
}

static const Layout panel_weight[OP_MAX_IN] = { LAYOUT_KERNEL };

const OpDesc op_gate_panels = {
    .name = "gate_panels",
    .summary = "a recurrent weight and its bias in the order in which a loop reads them",
    .doc = "See Note [a layer's loop] in `runtime/kernels/recurrent.h`.",
    .in = { "weight", "bias?" },
    .attrs = panel_attrs,
    .attr_size = sizeof(PanelAttrs),
    .flags = OPF_INTERNAL,
    .operand_layout = panel_weight,
    .shape = gate_panels_shape,
    .no_grad = "it is made after gradients are",
    .work = no_work,
    .emit = gate_panels_emit,
};

/* What a rule found in a body. */
typedef struct LoopMatch {
    const Node *scan;
    Node *const *in;
    Node *const *out; /* values of the body's outputs */
    int n_inner;      /* nodes of the body that compute something */
} LoopMatch;

static LoopMatch loop_match(Builder *b, const Node *scan, Node *const *in)
{
    const Routine *body = scan_attrs(scan)->body;
    LoopMatch m = { scan, in, scan_output_values(b->module->arena, body), 0 };
    for (size_t i = 0; i < body->nodes.len; i++)
        m.n_inner += !op_has(body->nodes.data[i], OPF_SOURCE | OPF_ROOT);
    return m;
}

/* The loop's operand that x, an input of the body, stands for; NULL when x is not one of that role. */
static Node *loop_operand(const LoopMatch *m, const Node *x, ScanRole role)
{
    if (!x || !op_is(x, &op_input)) return NULL;
    const int i = (int)((const IndexAttrs *)x->attrs)->index;
    const ScanAttrs *s = scan_attrs(m->scan);
    if (scan_role(s, i) != role || (role == SCAN_SEQUENCE && scan_axis(s, &x->type) != 1)) return NULL;
    return m->in[i];
}

static bool is_result(const Node *x, const Node *n, int k)
{
    if (k == 0) return x == n;
    return op_is(x, &op_result) && x->in[0] == n && ((const IndexAttrs *)x->attrs)->index == k;
}

/* What the carry `x` becomes. */
static const Node *loop_next(const LoopMatch *m, const Node *x)
{
    return m->out[((const IndexAttrs *)x->attrs)->index - scan_attrs(m->scan)->n_seqs];
}

/* The number of result k of the loop among `n` values of its body; -1: none of them. */
static int loop_result(const LoopMatch *m, int k, int n, const Node *const *node, const int *result)
{
    for (int i = 0; i < n; i++)
        if (node[i] && is_result(m->out[k], node[i], result[i])) return i;
    return -1;
}

/* The carry comes first: result number 0, 1. Yields are values that a step gets or computes. */
static bool loop_results(const LoopMatch *m, int n, const Node *const *node, const int *result, int first,
                         int *result_of)
{
    for (int k = (int)scan_attrs(m->scan)->n_carries; k < m->scan->n_results; k++) {
        const int i = loop_result(m, k, n, node, result);
        if (i < 0) return false;
        result_of[k] = first + i;
    }
    return true;
}

static Node *loop_panels(Builder *b, Node *weight, Node *bias, bool transposed)
{
    return mk2(b, &op_gate_panels, &(PanelAttrs){ transposed }, weight, bias);
}

/* The forward loop of n, a cell behind a dense layer of the state. carries: 1 or 2; kept: the op that also yields what
 * the gradient needs. */
static Node *cell_whole(Builder *b, const Node *scan, Node *const *in, const Node *n, int *result_of,
                        const OpDesc *plain, const OpDesc *kept)
{
    const int carries = op_is(n, &op_lstm_cell) ? 2 : 1;
    const LoopMatch m = loop_match(b, scan, in);
    const Node *dense = n->in[1], *h = dense->in[0];
    if (!op_is(dense, &op_dense) || m.n_inner != 2 || scan_attrs(scan)->n_carries != carries) return NULL;
    if (*(const bool *)attrs_field(&op_dense, (void *)dense->attrs, "relu", ATTR_BOOL)) return NULL;
    Node *x = loop_operand(&m, n->in[0], SCAN_SEQUENCE), *h0 = loop_operand(&m, h, SCAN_CARRY);
    Node *c0 = loop_operand(&m, n->in[2], SCAN_CARRY);
    Node *weight = loop_operand(&m, dense->in[1], SCAN_CAPTURE);
    Node *bias = dense->in[2] ? loop_operand(&m, dense->in[2], SCAN_CAPTURE) : NULL;
    if (!x || !h0 || !c0 || !weight || (dense->in[2] && !bias)) return NULL;
    if (!is_result(loop_next(&m, h), n, 0) || (carries == 1 ? n->in[2] != h : n->in[2] == h)) return NULL;
    if (carries == 2 && !is_result(loop_next(&m, n->in[2]), n, 1)) return NULL;
    for (int k = 0; k < carries; k++) result_of[k] = m.out[k] == n ? 0 : 1;
    /* In the order of the results behind the carries: hs, gates, then the state before the step. */
    const Node *node[4] = { n, n, carries == 2 ? n->in[2] : h, h };
    if (!loop_results(&m, 4, node, (int[]){ 0, carries, 0, 0 }, carries, result_of)) return NULL;
    bool keeps = false;
    for (int k = carries; k < scan->n_results; k++) keeps |= result_of[k] > carries;
    Node *panels = loop_panels(b, weight, bias, false);
    const LoopAttrs a = { scan_attrs(scan)->reverse };
    b->name = scan->name;
    return carries == 2 ? mk4(b, keeps ? kept : plain, &a, x, h0, c0, panels)
                        : mk3(b, keeps ? kept : plain, &a, x, h0, panels);
}

/* The backward loop of n, the gradient of a cell: `product` is the result of n that goes through the weight. */
static Node *cell_dx_whole(Builder *b, const Node *scan, Node *const *in, const Node *n, int *result_of,
                           const OpDesc *op)
{
    const bool lstm = op_is(n, &op_lstm_cell_dx);
    const int carries = lstm ? 2 : 1, product = lstm ? 0 : 1;
    const LoopMatch m = loop_match(b, scan, in);
    const Routine *body = scan_attrs(scan)->body;
    const Node *dense = NULL, *d = n->in[2];
    int n_dense = 0, n_used = 2;
    for (size_t i = 0; i < body->nodes.len; i++)
        if (op_is(body->nodes.data[i], &op_dense_dx)) dense = body->nodes.data[i], n_dense++;
    if (n_dense != 1 || !d || !is_result(dense->in[0], n, product) || scan_attrs(scan)->n_carries != carries)
        return NULL;
    /* The gradient of the state is the carry, to which that of the step's own output may be added. */
    Node *dhs = NULL, *dh = loop_operand(&m, d, SCAN_CARRY);
    const Node *dh_in = d;
    if (op_is(d, &op_add)) {
        const int first = loop_operand(&m, d->in[0], SCAN_CARRY) ? 0 : 1;
        dh_in = d->in[first];
        dh = loop_operand(&m, dh_in, SCAN_CARRY);
        dhs = loop_operand(&m, d->in[1 - first], SCAN_SEQUENCE);
        if (!dhs || !type_same_shape(&d->in[0]->type, &d->in[1]->type)) return NULL;
        n_used++;
    }
    Node *gates = loop_operand(&m, n->in[0], SCAN_SEQUENCE), *state = loop_operand(&m, n->in[1], SCAN_SEQUENCE);
    Node *weight = loop_operand(&m, dense->in[1], SCAN_CAPTURE);
    if (!gates || !state || !weight || !dh) return NULL;
    const Node *next = loop_next(&m, dh_in);
    if (lstm) {
        Node *dc = loop_operand(&m, n->in[3], SCAN_CARRY);
        if (!dc || n->in[3] == dh_in || next != dense || !is_result(loop_next(&m, n->in[3]), n, 1)) return NULL;
        if (m.n_inner != n_used) return NULL;
        for (int k = 0; k < 2; k++) result_of[k] = m.out[k] == dense ? 0 : 1;
        if (!loop_results(&m, 1, (const Node *[]){ n }, (int[]){ 0 }, 2, result_of)) return NULL;
        Node *panels = loop_panels(b, weight, NULL, true);
        b->name = scan->name;
        return mk(b, op, &(LoopAttrs){ scan_attrs(scan)->reverse }, 6,
                  (Node *[]){ gates, state, dh, dc, panels, dhs });
    }
    if (!op_is(next, &op_add) || m.n_inner != n_used + 1) return NULL;
    const int at = next->in[0] == dense ? 0 : 1;
    if (next->in[at] != dense || !is_result(next->in[1 - at], n, 2)) return NULL;
    result_of[0] = 0;
    if (!loop_results(&m, 2, (const Node *[]){ n, n }, (int[]){ 0, 1 }, 1, result_of)) return NULL;
    Node *panels = loop_panels(b, weight, NULL, true);
    b->name = scan->name;
    return mk(b, op, &(LoopAttrs){ scan_attrs(scan)->reverse }, 5, (Node *[]){ gates, state, dh, panels, dhs });
}

/* The sequence x, `from` parts wide, with `to` parts for each step. */
static TensorType sequence_of(const TensorType *x, int64_t from, int64_t to)
{
    TensorType t = *x;
    t.layout = LAYOUT_CANONICAL;
    t.dim[2] = t.dim[2] / from * to;
    return t;
}

static TensorType state_of(const TensorType *h)
{
    TensorType t = *h;
    t.layout = LAYOUT_CANONICAL;
    return t;
}

static bool loop_fits(ShapeCtx *c, const Node *n, int64_t parts)
{
    const TensorType *x = &n->in[0]->type, *h = &n->in[1]->type;
    return want(c, x->rank == 3 && h->rank == 2 && x->dim[2] == parts * h->dim[1], IN(0),
                "a sequence of %lld numbers for each number of the state", (ll)parts);
}

static bool lstm_loop_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    if (!loop_fits(c, n, 4)) return false;
    out[0] = out[1] = state_of(&n->in[1]->type);
    out[2] = sequence_of(&n->in[0]->type, 4, 1);
    return true;
}

static bool lstm_loop_kept_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    if (!lstm_loop_shape(c, n, out)) return false;
    out[3] = sequence_of(&n->in[0]->type, 4, 4);
    out[4] = out[5] = out[2];
    return true;
}

static bool gru_loop_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    if (!loop_fits(c, n, 3)) return false;
    out[0] = state_of(&n->in[1]->type);
    out[1] = sequence_of(&n->in[0]->type, 3, 1);
    return true;
}

static bool gru_loop_kept_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    if (!gru_loop_shape(c, n, out)) return false;
    out[2] = sequence_of(&n->in[0]->type, 3, 4);
    out[3] = out[1];
    return true;
}

/* What the product and the cell would count in each step. h: the state; x: the sequence of products. */
static Work loop_work(const TensorType *x, const TensorType *h, bool bias)
{
    const int64_t products = type_numel(x, 0, 3);
    return (Work){ .macs = products * h->dim[1],
                   .flops = (bias ? products : 0) + 40 * x->dim[1] * type_numel(h, 0, 2) };
}

static Work forward_work(const Node *n)
{
    return loop_work(&n->in[0]->type, &n->in[1]->type, true);
}

static int64_t spare_state(const Node *n)
{
    return type_numel_max(&n->type);
}

static void loop_emit(CWriter *w, const Node *n, const char *kernel, const char *rest)
{
    const TensorType *x = &n->in[0]->type, *h = &n->type;
    cw_stmt(w, n, "%s($team, %s, %lld, %lld, %d, %s);", kernel, rows_text(h, 1).s, (ll)x->dim[1], (ll)h->dim[1],
            ((const LoopAttrs *)n->attrs)->reverse, rest);
}

static void lstm_loop_emit(CWriter *w, const Node *n)
{
    loop_emit(w, n, "nn_lstm_loop", "$0, $1, $2, $3, $scratch, $out, $out1, $out2, NULL, NULL, NULL");
}

static void lstm_loop_kept_emit(CWriter *w, const Node *n)
{
    loop_emit(w, n, "nn_lstm_loop", "$0, $1, $2, $3, $scratch, $out, $out1, $out2, $out3, $out4, $out5");
}

static void gru_loop_emit(CWriter *w, const Node *n)
{
    loop_emit(w, n, "nn_gru_loop", "$0, $1, $2, $scratch, $out, $out1, NULL, NULL");
}

static void gru_loop_kept_emit(CWriter *w, const Node *n)
{
    loop_emit(w, n, "nn_gru_loop", "$0, $1, $2, $scratch, $out, $out1, $out2, $out3");
}

#define LOOP_OP(about, gets)                                                                      \
    .summary = about, .doc = "See Note [a layer's loop] in `runtime/kernels/recurrent.h`.",       \
    .in = gets, .attrs = loop_attrs, .attr_size = sizeof(LoopAttrs), .flags = OPF_INTERNAL,       \
    .no_grad = "it is made after gradients are"
#define GETS(...) { __VA_ARGS__ }

const OpDesc op_lstm_loop = {
    .name = "lstm_loop",
    LOOP_OP("all steps of an LSTM: the last h and c, and every h", GETS("x", "h", "c", "panels")),
    .n_results = 3,
    .shape = lstm_loop_shape,
    .work = forward_work,
    .scratch = spare_state,
    .emit = lstm_loop_emit,
};

const OpDesc op_lstm_loop_kept = {
    .name = "lstm_loop_kept",
    LOOP_OP("lstm_loop that also keeps gates, and c and h before each step", GETS("x", "h", "c", "panels")),
    .n_results = 6,
    .shape = lstm_loop_kept_shape,
    .work = forward_work,
    .scratch = spare_state,
    .emit = lstm_loop_kept_emit,
};

const OpDesc op_gru_loop = {
    .name = "gru_loop",
    LOOP_OP("all steps of a GRU: the last h, and every h", GETS("x", "h", "panels")),
    .n_results = 2,
    .shape = gru_loop_shape,
    .work = forward_work,
    .scratch = spare_state,
    .emit = gru_loop_emit,
};

const OpDesc op_gru_loop_kept = {
    .name = "gru_loop_kept",
    LOOP_OP("gru_loop that also keeps gates, and h before each step", GETS("x", "h", "panels")),
    .n_results = 4,
    .shape = gru_loop_kept_shape,
    .work = forward_work,
    .scratch = spare_state,
    .emit = gru_loop_kept_emit,
};

static bool lstm_loop_dx_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    (void)c;
    out[0] = out[1] = state_of(&n->in[2]->type);
    out[2] = sequence_of(&n->in[0]->type, 4, 4);
    return true;
}

static bool gru_loop_dx_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    (void)c;
    out[0] = state_of(&n->in[2]->type);
    out[1] = out[2] = sequence_of(&n->in[0]->type, 4, 3);
    return true;
}

static Work backward_work(const Node *n)
{
    return loop_work(&n->more[n->n_results - 2], &n->type, false);
}

static void lstm_loop_dx_emit(CWriter *w, const Node *n)
{
    loop_emit(w, n, "nn_lstm_loop_dx", "$0, $1, $2, $3, $4, $5, $out, $out1, $out2");
}

static void gru_loop_dx_emit(CWriter *w, const Node *n)
{
    loop_emit(w, n, "nn_gru_loop_dx", "$0, $1, $2, $3, $4, $out, $out1, $out2");
}

const OpDesc op_lstm_loop_dx = {
    .name = "lstm_loop_dx",
    LOOP_OP("gradient of lstm_loop: of the first h and c, and of x", GETS("gates", "c", "dh", "dc", "panels", "dhs?")),
    .n_results = 3,
    .shape = lstm_loop_dx_shape,
    .work = backward_work,
    .emit = lstm_loop_dx_emit,
};

const OpDesc op_gru_loop_dx = {
    .name = "gru_loop_dx",
    LOOP_OP("gradient of gru_loop: of the first h, of x, and of the products with h",
            GETS("gates", "h", "dh", "panels", "dhs?")),
    .n_results = 3,
    .shape = gru_loop_dx_shape,
    .work = backward_work,
    .emit = gru_loop_dx_emit,
};

static Node *lstm_whole(Builder *b, const Node *scan, Node *const *in, const Node *n, int *result_of)
{
    return cell_whole(b, scan, in, n, result_of, &op_lstm_loop, &op_lstm_loop_kept);
}

static Node *gru_whole(Builder *b, const Node *scan, Node *const *in, const Node *n, int *result_of)
{
    return cell_whole(b, scan, in, n, result_of, &op_gru_loop, &op_gru_loop_kept);
}

static Node *lstm_dx_whole(Builder *b, const Node *scan, Node *const *in, const Node *n, int *result_of)
{
    return cell_dx_whole(b, scan, in, n, result_of, &op_lstm_loop_dx);
}

static Node *gru_dx_whole(Builder *b, const Node *scan, Node *const *in, const Node *n, int *result_of)
{
    return cell_dx_whole(b, scan, in, n, result_of, &op_gru_loop_dx);
}
