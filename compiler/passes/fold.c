/* SPDX-License-Identifier: MIT
 *
 * Batch norm with fixed statistics disappears into the layer before it. In: an infer routine. Out:
 * the same values, with y = layer(x; w, b) * scale + shift rewritten as layer(x; w * scale, b *
 * scale + shift).
 *
 * Note [folding at run time]
 * Weights change between calls (training, loading), so the folded weights are nodes like any other, which
 * passes/prepare.c moves out of the call. Weights that are computed from the call's inputs cannot be moved: these are
 * folded where they are the smaller of the two at the upper bounds of the run-time sizes. Besides saving work, folding
 * lets the layer's kernel apply the activation.
 */
#include "passes/pass.h"

typedef struct Fold {
    const int *uses; /* by id of the old nodes */
} Fold;

static bool pays(const Node *layer)
{
    const Node *w = layer->n_in > 1 ? layer->in[1] : NULL;
    return w && (op_is(w, &op_param) || type_numel_max(&w->type) <= type_numel_max(&layer->type));
}

static Node *fold_node(Builder *b, const Node *old, Node *const *in, void *ctx)
{
    const Fold *f = ctx;
    if (!old->op->as_affine || !old->in[0] || f->uses[old->in[0]->id] != 1) return NULL;
    if (!in[0]->op->absorb_affine || !pays(in[0])) return NULL;
    Node *scale, *shift, *n = mk_copy(b, old, in);
    if (!n->op->as_affine(b, n, &scale, &shift)) return n;
    b->span = in[0]->span;
    b->inst = in[0]->inst;
    Node *folded = in[0]->op->absorb_affine(b, in[0], scale, shift);
    if (!folded) return n;
    folded->name = old->name;
    return folded;
}

bool pass_fold(Module *m, Routine *r)
{
    if (r->kind != ROUTINE_INFER || r->step) return true;
    routine_renumber(r);
    Fold f = { routine_count_uses(m->arena, r) };
    routine_rewrite(m, r, fold_node, &f);
    routine_sweep(m, r);
    return true;
}
