/* SPDX-License-Identifier: MIT
 *
 * embedding: rows of a table by index. The gradient is a deterministic scatter-add: each thread owns rows
 * of the table and adds its terms in the order of the indices.
 */
#include "ops/op.h"

static bool embedding_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *ids = &n->in[0]->type, *w = &n->in[1]->type;
    if (!want(c, ids->dtype == DT_I32, IN(0), "expected i32 indices, got %s",
              dtype_name(ids->dtype)) ||
        !want(c, ids->rank >= 1 && ids->rank < MAX_RANK, IN(0),
              "expected indices of rank 1 to %d, got %d", MAX_RANK - 1, ids->rank) ||
        !want(c, w->dtype == DT_F32 && w->rank == 2 && !w->batch, IN(1),
              "expected a table f32[rows,width]"))
        return false;
    *out = *ids;
    out->dtype = DT_F32;
    out->layout = LAYOUT_CANONICAL;
    out->dim[out->rank++] = w->dim[1];
    return true;
}

static int64_t embedding_limit(const Node *n, int operand)
{
    return operand == 0 ? n->in[1]->type.dim[0] : 0;
}

static void embedding_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    TypeAttrs table = { n->in[1]->type };
    if (!b->module->has_layouts) table.type.layout = LAYOUT_CANONICAL;
    dx[1] = mk2(b, &op_embedding_dw, &table, n->in[0], dy[0]);
}

static Work embedding_work(const Node *n)
{
    (void)n;
    return (Work){ 0 };
}

static void embedding_emit(CWriter *w, const Node *n)
{
    const TensorType *ids = &n->in[0]->type, *table = &n->in[1]->type;
    cw_stmt(w, n, "nn_gather(1, %lld, %lld, $rows%s, sizeof(nn_real), $1, $0, $out);",
            (ll)table->dim[0], (ll)table->dim[1], by(type_numel(ids, 1, ids->rank)).text);
}

const OpDesc op_embedding = {
    .name = "embedding",
    .summary = "rows of a table",
    .torch = "torch.nn.functional.embedding",
    .doc =
        "`y[..., :] = weight[ids[...], :]`. The gradient of a row is the sum over all places that picked it, in "
        "order.",
    .in = { "ids", "weight" },
    .flags = OPF_LEAD,
    .whole = 2,
    .shape = embedding_shape,
    .grad = embedding_grad,
    .work = embedding_work,
    .index_limit = embedding_limit,
    .emit = embedding_emit,
    .row_axes = 1,
    .onnx = "Gather",
    .gradient = "the row of each id gets its dy, added up",
    .samples = SAMPLES({ "embedding(ids: i32[5], weight: f32[7,3])", "f32[5,3]" },
                       { "embedding(ids: i32[2,3], weight: f32[5,4])", "f32[2,3,4]" }),
};

static const AttrDef embedding_dw_attrs[] = {
    { "like", ATTR_TYPE, offsetof(TypeAttrs, type), .doc = "The type of the table." },
    { 0 },
};

static Work embedding_dw_work(const Node *n)
{
    const TensorType *dy = &n->in[1]->type;
    return (Work){ .flops = type_numel(dy, 0, dy->rank) };
}

static void embedding_dw_emit(CWriter *w, const Node *n)
{
    const TensorType *ids = &n->in[0]->type;
    cw_stmt(w, n, "nn_scatter_add($team, 1, %lld, %lld, %lld%s, $1, $0, $out, $acc);",
            (ll)n->type.dim[0], (ll)n->type.dim[1], (ll)type_numel(ids, 0, ids->rank),
            ids->batch ? " * $batch" : "");
}

static void embedding_dw_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[1] = mk2(b, &op_embedding, NULL, n->in[0], dy[0]);
}

const OpDesc op_embedding_dw = {
    .name = "embedding_dw",
    .summary = "gradient of embedding",
    .doc = "Zeros, to which each row of `dy` is added at its index, in the order of `ids`.",
    .in = { "ids", "dy" },
    .attrs = embedding_dw_attrs,
    .attr_size = sizeof(TypeAttrs),
    .flags = OPF_INTERNAL | OPF_ACCUMULATE,
    .shape = shape_from_attr,
    .grad = embedding_dw_grad,
    .work = embedding_dw_work,
    .emit = embedding_dw_emit,
};
