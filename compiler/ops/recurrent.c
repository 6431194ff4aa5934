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

/* ---- LSTM ---- */

static bool lstm_cell_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    if (!cell_shape(c, n, 4)) return false;
    out[0] = out[1] = widened(&n->in[2]->type, 1);
    out[2] = widened(&n->in[2]->type, 4);
    return true;
}

static void lstm_cell_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
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

const OpDesc op_lstm_cell_dx = {
    .name = "lstm_cell_dx",
    .summary = "gradient of lstm_cell",
    .doc =
        "From the gates, `c`, and the gradients of `h` and `c2`: the gradient of `x` and of `s`, and that of `c`.",
    .in = { "gates", "c", "dh?", "dc2?" },
    .n_results = 2,
    .flags = OPF_LEAD | OPF_INTERNAL | OPF_ROW_PITCH,
    .shape = lstm_cell_dx_shape,
    .no_grad = "second derivatives are not taken",
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

static void gru_cell_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    if (!dy[0]) return;
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

const OpDesc op_gru_cell_dx = {
    .name = "gru_cell_dx",
    .summary = "gradient of gru_cell",
    .doc = "From the gates, `h`, and the gradient of `h2`: the gradients of `x`, `s` and `h`.",
    .in = { "gates", "h", "dh2" },
    .n_results = 3,
    .flags = OPF_LEAD | OPF_INTERNAL | OPF_ROW_PITCH,
    .shape = gru_cell_dx_shape,
    .no_grad = "second derivatives are not taken",
    .work = cell_work,
    .emit = gru_cell_dx_emit,
};
