/* SPDX-License-Identifier: MIT
 *
 * What a step of LSTM and GRU does after its products: gates and the next state, in one pass over memory. The products
 * stay layers of their own, so that those with the input move in front of the loop (passes/hoist.c).
 */
#include "ir/shape_ctx.h"
#include "ops/op.h"

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
};
