/* SPDX-License-Identifier: MIT
 *
 * Batch norm with fixed statistics disappears into the layer before it. In: an infer routine. Out:
 * the same values, with y = layer(x; w, b) * scale + shift rewritten as layer(x; w * scale, b *
 * scale + shift).
 *
 * Note [folding at run time]
 * Weights change between calls (training, loading), so the folded weights are computed in the
 * routine, as nodes like any other: one multiplication per weight and call, against one per element
 * of the result when the affine map runs after the layer. Folding is done where the weights are the
 * smaller of the two at the upper bounds of the run-time sizes; besides saving work it lets the
 * layer's kernel apply the activation. Elsewhere batch norm stays as it is. No cached copy of
 * folded weights exists that could go stale.
 */
#include "passes/pass.h"

typedef struct Fold {
    const int *uses; /* by id of the old nodes */
} Fold;

static bool pays(const Node *layer)
{
    return layer->n_in > 1 && layer->in[1] &&
           type_numel_max(&layer->in[1]->type) <= type_numel_max(&layer->type);
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
