/* SPDX-License-Identifier: MIT */
#include "ir/layout.h"

#include "ir/scan.h"

bool layout_is_shared(const Node *n)
{
    return op_has(n, OPF_ELEMENTWISE | OPF_ANY_LAYOUT) || op_is(n, &op_fused);
}

bool layout_shares(const Node *n, int i)
{
    const TensorType *x = &n->in[i]->type;
    if (!layout_is_shared(n)) return false;
    if (op_has(n, OPF_ELEMENTWISE) || op_is(n, &op_fused)) return type_same_shape(x, &n->type);
    return x->rank == 4 || x->rank == n->type.rank;
}

bool layout_carried(const Node *view, const TensorType *x)
{
    Layout l;
    return op_has(view, OPF_VIEW) && !op_has(view, OPF_ANY_LAYOUT) && x->layout != LAYOUT_CANONICAL &&
           type_carries_layout(x, &view->type, &l);
}

bool layout_wanted(const Module *m, const Routine *r, const Node *n, int i, Layout *want)
{
    const OpDesc *op = n->op;
    *want = LAYOUT_CANONICAL;
    if (op_is(n, &op_output)) {
        *want = r->outputs.data[((const IndexAttrs *)n->attrs)->index].type.layout;
        return true;
    }
    if (op_takes_gradient(n) || op_is(n, &op_assign)) {
        *want = m->tensors.data[((const IndexAttrs *)n->attrs)->index]->type.layout;
        return true;
    }
    if (op_is(n, &op_scan)) {
        const Routine *body = scan_attrs(n)->body;
        *want = (size_t)i < body->inputs.len ? body->inputs.data[i].type.layout : LAYOUT_CANONICAL;
        return true;
    }
    if (layout_carried(n, &n->in[i]->type)) {
        *want = n->in[i]->type.layout;
        return true;
    }
    if (op->operand_layout && op->operand_layout[i] != LAYOUT_CANONICAL) {
        *want = op->operand_layout[i];
        return true;
    }
    if (op_has(n, OPF_CHANNELS_LAST) && n->in[i]->type.rank == 4) {
        *want = LAYOUT_CHANNELS_LAST;
        return true;
    }
    return !(layout_is_shared(n) || op_is(n, &op_to_layout) || op_is(n, &op_result));
}
