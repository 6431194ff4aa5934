/* SPDX-License-Identifier: MIT
 *
 * The operators that generic code may name: where values come from (inputs, parameters, state, hypers,
 * constants, further results of a node), where effects go, and what passes insert.
 */
#include "ops/window.h"
#include "ir/shape_ctx.h"

static const AttrDef index_attrs[] = {
    { "index", ATTR_INT, offsetof(IndexAttrs, index), .doc = "Position in the module's or routine's table." },
    { 0 },
};

static int64_t index_of(const Node *n)
{
    return ((const IndexAttrs *)n->attrs)->index;
}

static bool in_table(ShapeCtx *c, const Node *n, size_t len)
{
    return want(c, index_of(n) >= 0 && (size_t)index_of(n) < len, ATTR(index), "index %lld is not in [0, %zu)",
                (ll)index_of(n), len);
}

/* ---- sources ---- */

static bool input_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const Routine *r = c->builder->routine;
    if (!in_table(c, n, r->inputs.len)) return false;
    *out = r->inputs.data[index_of(n)].type;
    return true;
}

const OpDesc op_input = {
    .name = "input", .summary = "an input of the routine, in the caller's memory",
    .doc = "Canonical layout; never written.", .flags = OPF_SOURCE | OPF_INTERNAL,
    .attrs = index_attrs, .attr_size = sizeof(IndexAttrs), .shape = input_shape,
    .no_grad = "an input is not a parameter",
};

static bool tensor_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const Module *m = c->builder->module;
    if (!in_table(c, n, m->tensors.len)) return false;
    *out = m->tensors.data[index_of(n)]->type;
    return true;
}

const OpDesc op_param = {
    .name = "param", .summary = "a parameter", .doc = "In storage order once layouts are chosen.",
    .flags = OPF_SOURCE | OPF_INTERNAL, .attrs = index_attrs, .attr_size = sizeof(IndexAttrs),
    .shape = tensor_shape, .no_grad = "autodiff stores its gradient",
};

const OpDesc op_state = {
    .name = "state", .summary = "a state tensor as it was when the routine was called",
    .doc = "An `assign` root stores the new value at the end of the routine.",
    .flags = OPF_SOURCE | OPF_INTERNAL, .attrs = index_attrs, .attr_size = sizeof(IndexAttrs),
    .shape = tensor_shape, .no_grad = "state is carried between calls, not differentiated",
};

static bool hyper_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    *out = type_scalar(DT_F32);
    return in_table(c, n, c->builder->module->hypers.len);
}

const OpDesc op_hyper = {
    .name = "hyper", .summary = "a scalar the application may change between calls", .doc = "A rank-0 f32.",
    .flags = OPF_SOURCE | OPF_INTERNAL, .attrs = index_attrs, .attr_size = sizeof(IndexAttrs),
    .shape = hyper_shape, .no_grad = "a hyper is not a parameter",
};

static const AttrDef const_attrs[] = {
    { "value", ATTR_FLOAT, offsetof(ConstAttrs, value), .doc = "The value of every element." },
    { "type", ATTR_TYPE, offsetof(ConstAttrs, type), .doc = "A scalar's or a filled tensor's type." },
    { 0 },
};

static bool const_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    (void)c;
    *out = ((const ConstAttrs *)n->attrs)->type;
    return true;
}

const OpDesc op_const = {
    .name = "const", .summary = "a constant", .doc = "Every element has the same value.",
    .flags = OPF_SOURCE | OPF_INTERNAL, .attrs = const_attrs, .attr_size = sizeof(ConstAttrs),
    .shape = const_shape, .no_grad = "a constant does not depend on parameters",
};

static bool result_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const int64_t k = index_of(n);
    if (!want(c, k >= 1 && k < n->in[0]->n_results, ATTR(index), "%s has %d results", n->in[0]->op->name,
              n->in[0]->n_results))
        return false;
    *out = n->in[0]->more[k - 1];
    return true;
}

const OpDesc op_result = {
    .name = "result", .summary = "a further result of a node with several", .doc = "Result 0 is the node itself.",
    .in = { "x" }, .flags = OPF_SOURCE | OPF_INTERNAL | OPF_SEEN_THROUGH,
    .attrs = index_attrs, .attr_size = sizeof(IndexAttrs),
    .shape = result_shape, .no_grad = "autodiff hands its gradient to the node itself",
};

/* ---- roots ---- */

static bool store_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const Module *m = c->builder->module;
    if (!in_table(c, n, m->tensors.len)) return false;
    const Tensor *t = m->tensors.data[index_of(n)];
    *out = n->in[0]->type;
    return want(c, type_equal(&t->type, out), IN(0), "%s is %s, the value is %s", t->path,
                type_text(m->arena, &t->type), type_text(m->arena, out));
}

const OpDesc op_grad_store = {
    .name = "grad_store", .summary = "adds the gradient of a parameter to its slot", .doc = "Written or added.",
    .in = { "x" }, .flags = OPF_ROOT | OPF_INTERNAL, .attrs = index_attrs, .attr_size = sizeof(IndexAttrs),
    .shape = store_shape,
};

const OpDesc op_update = {
    .name = "update", .summary = "updates a parameter by its gradient",
    .doc = "Behind everything else that reads the parameter, and only where the loss is finite.",
    .in = { "x" }, .flags = OPF_ROOT | OPF_INTERNAL, .attrs = index_attrs, .attr_size = sizeof(IndexAttrs),
    .shape = store_shape,
};

const OpDesc op_assign = {
    .name = "assign", .summary = "the new value of a state tensor", .doc = "Stored when the routine succeeds.",
    .in = { "x" }, .flags = OPF_ROOT | OPF_INTERNAL, .attrs = index_attrs, .attr_size = sizeof(IndexAttrs),
    .shape = store_shape,
};

static bool port_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const Module *m = c->builder->module;
    const Routine *r = c->builder->routine;
    if (!in_table(c, n, r->outputs.len)) return false;
    const Port *p = &r->outputs.data[index_of(n)];
    *out = n->in[0]->type;
    return want(c, type_equal(&p->type, out), IN(0), "%s is %s, the value is %s", p->name,
                type_text(m->arena, &p->type), type_text(m->arena, out));
}

const OpDesc op_output = {
    .name = "output", .summary = "a result of the routine, in the caller's memory", .doc = "Canonical layout.",
    .in = { "x" }, .flags = OPF_ROOT | OPF_INTERNAL, .attrs = index_attrs, .attr_size = sizeof(IndexAttrs),
    .shape = port_shape,
};

const OpDesc op_report = {
    .name = "report", .summary = "a scalar in the step's out struct: loss, metrics", .doc = "A rank-0 f32.",
    .in = { "x" }, .flags = OPF_ROOT | OPF_INTERNAL, .attrs = index_attrs, .attr_size = sizeof(IndexAttrs),
    .shape = port_shape,
};

/* ---- what passes insert ---- */

static const AttrDef fused_attrs[] = {
    { "steps", ATTR_PTR, offsetof(FusedAttrs, steps), .doc = "The program over elements." },
    { 0 },
};

/* The fuse pass types its nodes itself: the result type of a group is that of the nodes it replaces. */
static bool fused_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const FusedAttrs *f = n->attrs;
    (void)c;
    for (int k = 0; k < f->n_results; k++) out[k] = f->type[k];
    return true;
}

const OpDesc op_fused = {
    .name = "fused", .summary = "several elementwise operators in one loop",
    .doc = "Each element runs through the steps in order; intermediate values stay in registers.",
    .in = { "x*" }, .flags = OPF_INTERNAL | OPF_INPLACE, .attrs = fused_attrs, .attr_size = sizeof(FusedAttrs),
    .shape = fused_shape, .no_grad = "fusion runs after autodiff",
};

typedef struct ToLayoutAttrs { TensorType type; } ToLayoutAttrs;
static const AttrDef to_layout_attrs[] = {
    { "type", ATTR_TYPE, offsetof(ToLayoutAttrs, type), .doc = "The operand's type in the new layout." },
    { 0 },
};

/* Large samples are divided by lines, so that all threads have work with one sample too. */
static bool to_layout_is_lead(const Node *n)
{
    int order[MAX_RANK];
    layout_order(n->type.layout, n->type.rank, order);
    return n->type.rank != 4 || order[0] != 0 || !sample_is_large(&n->type);
}

/* A transposition between two orders is a loop over the result's order with the operand's strides. Orders
 * that keep axis 0 in front let every thread convert its own rows, or a part of all; otherwise the plan gives the
 * whole node to one thread. */
static void to_layout_emit(CWriter *w, const Node *n)
{
    const TensorType *to = &n->type, *from = &n->in[0]->type;
    int64_t stride[MAX_RANK], size[4] = { 1, 1, 1, 1 }, step[4] = { 0, 0, 0, 0 };
    int order[MAX_RANK];
    type_strides(from, stride);
    layout_order(to->layout, to->rank, order);
    for (int i = 0; i < to->rank; i++) {
        size[4 - to->rank + i] = to->dim[order[i]];
        step[4 - to->rank + i] = stride[order[i]];
    }
    if (to->rank == 4 && order[0] == 0) {
        const bool lead = to_layout_is_lead(n);
        cw_stmt(w, n, "nn_permute4%s%s, %lld, %lld, %lld, $0, %lld, %lld, %lld, %lld, $out);",
                lead ? "(" : "_team($team, ", lead ? "$rows" : rows_text(to, 1).s, (ll)size[1], (ll)size[2],
                (ll)size[3], (ll)step[0], (ll)step[1], (ll)step[2], (ll)step[3]);
    } else {
        cw_stmt(w, n, "nn_permute4(%lld, %lld, %lld, %lld, $0, %lld, %lld, %lld, %lld, $out);", (ll)size[0],
                (ll)size[1], (ll)size[2], (ll)size[3], (ll)step[0], (ll)step[1], (ll)step[2], (ll)step[3]);
    }
}

const OpDesc op_to_layout = {
    .name = "to_layout", .summary = "the same values in another order in memory",
    .doc = "Inserted where a kernel wants another layout than its operand has.",
    .in = { "x" }, .flags = OPF_INTERNAL, .attrs = to_layout_attrs, .attr_size = sizeof(ToLayoutAttrs),
    .is_lead = to_layout_is_lead,
    .shape = shape_from_attr, .no_grad = "layouts are chosen after autodiff", .emit = to_layout_emit,
};
