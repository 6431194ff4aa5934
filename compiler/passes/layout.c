/* SPDX-License-Identifier: MIT
 *
 * Chooses the order of every value in memory. In: canonical layouts everywhere. Out: each operand
 * lies as its kernel demands (ir/layout.h); conversions are to_layout nodes, one per value and
 * order, and none where both orders put every element at the same place.
 *
 * Parameters are stored in the order of the kernel that reads them, first routine and first use
 * first; a kernel with another wish gets a converted copy. Operators that take any order pass on
 * the order of their operands, so that images stay channels-last from the first convolution to the
 * last.
 */
#include "ir/layout.h"
#include "ir/scan.h"
#include "passes/pass.h"

/* The same values in order `want`. Constants have no memory and are only relabelled. */
static Node *in_layout(Builder *b, Node *x, Layout want)
{
    if (type_layouts_coincide(&x->type, x->type.layout, want)) return x;
    TensorType type = x->type;
    double value;
    type.layout = want;
    b->name = x->name;
    if (node_const_value(x, &value)) return mk_fill(b, &type, value);
    const Span span = b->span;
    const Inst *inst = b->inst;
    b->span = x->span;
    b->inst = x->inst;
    Node *y = mk1(b, &op_to_layout, &type, x);
    b->span = span;
    b->inst = inst;
    return y;
}

/* The order that operands without a wish of the node's share: a kernel's order wins over the
 * canonical one, because the value is about to be used by, or came from, such a kernel. */
static Layout shared_layout(const Node *old, Node *const *in)
{
    for (int i = 0; i < old->n_in; i++)
        if (in[i] && layout_shares(old, i) && in[i]->type.layout != LAYOUT_CANONICAL)
            return in[i]->type.layout;
    return LAYOUT_CANONICAL;
}

static Node *layout_node(Builder *b, const Node *old, Node *const *mapped, void *ctx)
{
    const Module *m = ctx;
    Node **in = ARENA_ARRAY(m->arena, Node *, old->n_in);
    const Layout shared = shared_layout(old, mapped);
    for (int i = 0; i < old->n_in; i++) {
        Layout want = shared;
        in[i] = mapped[i];
        if (!in[i]) continue;
        if (layout_carried(old, &in[i]->type)) continue;
        if (layout_wanted(m, b->routine, old, i, &want))
            in[i] = in_layout(b, in[i], want);
        else if (layout_shares(old, i))
            in[i] = in_layout(b, in[i], shared);
    }
    /* A view of a constant would have to lie somewhere; a constant of the view's shape need not. */
    double value;
    if (op_has(old, OPF_VIEW) && node_const_value(in[0], &value))
        return mk_fill(b, &old->type, value);
    return mk_copy(b, old, in);
}

/* The order in which a loop's body wants its input i. Only captures have a choice: slices are cut out of
 * canonical values, and carries go round. */
static Layout body_wish(const Node *scan, int i)
{
    const Routine *body = scan_attrs(scan)->body;
    if (scan_role(scan_attrs(scan), i) != SCAN_CAPTURE) return LAYOUT_CANONICAL;
    for (size_t k = 0; k < body->nodes.len; k++) {
        const Node *n = body->nodes.data[k];
        for (int j = 0; j < n->n_in; j++) {
            const Node *x = n->in[j];
            if (!x || !op_is(x, &op_input) || ((const IndexAttrs *)x->attrs)->index != i) continue;
            Layout want = LAYOUT_CANONICAL;
            if (op_is(n, &op_scan))
                want = body_wish(n, j);
            else if (n->op->operand_layout && j < OP_MAX_IN)
                want = n->op->operand_layout[j];
            if (!type_layouts_coincide(&x->type, LAYOUT_CANONICAL, want)) return want;
        }
    }
    return LAYOUT_CANONICAL;
}

/* Gives every parameter below n the order `want`: n itself, what it is seen as without axes of size one (the weight of
 * conv1d), or what elementwise operators made of it (the folded weights of an infer routine). */
static void wish(Module *m, const Node *n, Layout want, int depth)
{
    if (want == LAYOUT_CANONICAL) return;
    if (op_has(n, OPF_VIEW) && !op_has(n, OPF_ANY_LAYOUT)) {
        TensorType view = n->type;
        view.layout = want;
        if (type_carries_layout(&view, &n->in[0]->type, &want)) wish(m, n->in[0], want, depth);
    } else if (op_is(n, &op_param)) {
        Tensor *t = m->tensors.data[((const IndexAttrs *)n->attrs)->index];
        if (t->type.layout == LAYOUT_CANONICAL &&
            !type_layouts_coincide(&t->type, LAYOUT_CANONICAL, want))
            t->type.layout = want;
    } else if (depth > 0 && op_has(n, OPF_ELEMENTWISE)) {
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] && type_same_shape(&n->in[i]->type, &n->type))
                wish(m, n->in[i], want, depth - 1);
    }
}

/* Once per module, before any routine is rewritten: direct uses first, then those through
 * arithmetic. */
static void choose_storage(Module *m)
{
    for (int depth = 0; depth <= 4; depth += 4) {
        for (size_t k = 0; k < m->routines.len; k++) {
            const Routine *r = m->routines.data[k];
            for (size_t i = 0; i < r->nodes.len; i++) {
                const Node *n = r->nodes.data[i];
                const Layout *wanted = n->op->operand_layout;
                for (int j = 0; op_is(n, &op_scan) && j < n->n_in; j++)
                    wish(m, n->in[j], body_wish(n, j), depth);
                for (int j = 0; wanted && j < n->n_in && j < OP_MAX_IN; j++)
                    if (n->in[j] && wanted[j] != LAYOUT_CANONICAL)
                        wish(m, n->in[j], wanted[j], depth);
            }
        }
    }
}

bool pass_layout(Module *m, Routine *r)
{
    if (!m->has_layouts) {
        choose_storage(m);
        m->has_layouts = true;
    }
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        for (int k = 0; op_is(n, &op_scan) && k < n->n_in; k++)
            scan_attrs(n)->body->inputs.data[k].type.layout = body_wish(n, k);
        if (op_is(n, &op_scan)) pass_layout(m, scan_attrs(n)->body);
    }
    routine_rewrite(m, r, layout_node, m);
    routine_sweep(m, r);
    return true;
}
