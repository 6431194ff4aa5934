/* SPDX-License-Identifier: MIT
 *
 * Reverse-mode differentiation. In: a step with `minimize LOSS over PARAMETERS`. Out: the same step
 * with the backward graph appended and one grad_store root per parameter; minimize.loss is
 * consumed.
 *
 * A node takes part when it lies on a path from a parameter in `over` to the loss through real
 * values (integers, booleans and stop_grad cut paths). Only such nodes get gradients, so whatever
 * the parameters do not reach has no backward code. Nodes are visited users first: when a node's
 * turn comes, the gradients of all its results are complete sums.
 */
#include "passes/pass.h"

#include <string.h>

typedef Node *Grads[OP_MAX_RESULTS];

typedef struct Autodiff {
    Builder b;
    Module *m;
    Routine *r;
    size_t n_forward; /* nodes before any gradient was built */
    bool *depends;    /* by id: on a parameter in `over` */
    bool *active;     /* ... and the loss depends on it */
    Grads *grads;     /* by id: gradient of each result so far */
} Autodiff;

static bool in_over(const Minimize *min, const Tensor *t)
{
    for (size_t i = 0; i < min->over.len; i++)
        if (min->over.data[i] == t) return true;
    return false;
}

static void find_dependent(Autodiff *ad)
{
    for (size_t i = 0; i < ad->n_forward; i++) {
        const Node *n = ad->r->nodes.data[i];
        if (op_is(n, &op_param)) {
            const int64_t t = ((const IndexAttrs *)n->attrs)->index;
            ad->depends[i] = in_over(ad->r->minimize, ad->m->tensors.data[t]);
        }
        /* An integer result can hide behind a node with a real one: pooling's index is read by
         * op_result. */
        if (op_is(n, &op_stop_grad) || (n->type.dtype != DT_F32 && n->n_results == 1)) continue;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] && ad->depends[n->in[k]->id]) ad->depends[i] = true;
    }
}

static void find_active(Autodiff *ad)
{
    const Node *loss = ad->r->minimize->loss;
    ad->active[loss->id] = ad->depends[loss->id];
    for (size_t i = ad->n_forward; i-- > 0;) {
        const Node *n = ad->r->nodes.data[i];
        if (!ad->active[i]) continue;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] && ad->depends[n->in[k]->id]) ad->active[n->in[k]->id] = true;
    }
}

/* One message for all of them: the first carries the place, the others are notes with theirs. */
static bool check_differentiable(Autodiff *ad)
{
    Diagnostic *d = NULL;
    for (size_t i = 0; i < ad->n_forward; i++) {
        const Node *n = ad->r->nodes.data[i];
        if (!ad->active[i] || op_has(n, OPF_SOURCE) || n->op->grad) continue;
        const char *why = n->op->no_grad ? n->op->no_grad : "it has no gradient rule";
        if (!d) {
            d = diag_error(
                ad->m->diag, n->span, "no-gradient",
                "the loss of step %s depends on trained parameters through %s, which has no gradient: %s",
                ad->r->name, n->op->name, why);
            diag_inst(d, n->inst);
        } else {
            diag_note(d, n->span, "%s has no gradient either: %s", n->op->name, why);
        }
    }
    if (d) diag_hint(d, "stop_grad(...) cuts the path where no gradient is meant to flow");
    return !d;
}

/* The value whose result k is `x`: gradients of op_result nodes belong to the node they read. */
static Node **slot_of(Autodiff *ad, Node *x)
{
    if (!op_is(x, &op_result)) return &ad->grads[x->id][0];
    return &ad->grads[x->in[0]->id][((const IndexAttrs *)x->attrs)->index];
}

/* Names only nodes that this visit made: an older one may be a forward value that happens to be
 * equal. */
static void name_grad(Autodiff *ad, Node *grad, size_t first_new, const Node *of)
{
    for (size_t i = first_new; i < ad->r->nodes.len; i++)
        if (ad->r->nodes.data[i] == grad) grad->name = arena_printf(ad->m->arena, "d_%s", of->name);
}

static void accumulate(Autodiff *ad, Node *x, Node *dx, size_t first_new)
{
    Node **slot = slot_of(ad, x);
    *slot = *slot ? mk2(&ad->b, &op_add, NULL, *slot, dx) : dx;
    name_grad(ad, *slot, first_new, x);
}

static void visit(Autodiff *ad, Node *n)
{
    Node **dy = ad->grads[n->id];
    bool any = false;
    for (int k = 0; k < n->n_results; k++) any |= dy[k] != NULL;
    if (!any || !ad->active[n->id] || op_has(n, OPF_SOURCE)) return;

    Node **dx = ARENA_ARRAY(ad->m->arena, Node *, n->n_in);
    const size_t first_new = ad->r->nodes.len;
    ad->b.span = n->span;
    ad->b.inst = n->inst;
    n->op->grad(&ad->b, n, dy, dx);
    for (int k = 0; k < n->n_in; k++)
        if (dx[k] && n->in[k] && ad->active[n->in[k]->id])
            accumulate(ad, n->in[k], dx[k], first_new);
}

/* The gradient of tensor t, or NULL. CSE leaves one source node per tensor; text may hold
 * several. */
static Node *param_grad(Autodiff *ad, const Tensor *t)
{
    Node *sum = NULL;
    for (size_t i = 0; i < ad->n_forward; i++) {
        Node *n = ad->r->nodes.data[i];
        if (!op_is(n, &op_param) || ((const IndexAttrs *)n->attrs)->index != t->index) continue;
        Node *g = ad->grads[i][0];
        if (g) sum = sum ? mk2(&ad->b, &op_add, NULL, sum, g) : g;
    }
    return sum;
}

static bool store_grads(Autodiff *ad)
{
    const Minimize *min = ad->r->minimize;
    Diagnostic *d = NULL;
    for (size_t i = 0; i < min->over.len; i++) {
        Tensor *t = min->over.data[i];
        Node *grad = param_grad(ad, t);
        if (grad) {
            t->trained = true;
            ad->b.span = t->span;
            ad->b.inst = t->inst;
            ad->b.name = arena_printf(ad->m->arena, "grad_%s", t->path);
            mk1(&ad->b, &op_grad_store, &(IndexAttrs){ t->index }, grad);
        } else if (!d) {
            d = diag_error(ad->m->diag, min->span, "over-unused",
                           "the loss of step %s does not depend on %s", ad->r->name, t->path);
            diag_note(d, t->span, "%s: %s is declared here", t->path,
                      type_text(ad->m->arena, &t->type));
        } else {
            diag_note(d, t->span, "nor on %s", t->path);
        }
    }
    return !d;
}

/* `report` of the loss itself: the front end's, or one made here for a module that came as text. */
static void report_loss(Autodiff *ad)
{
    Routine *r = ad->r;
    Node *loss = r->minimize->loss;
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (op_is(n, &op_report) && n->in[0] == loss) return;
    }
    for (size_t i = 0; i < r->outputs.len; i++)
        if (strcmp(r->outputs.data[i].name, "loss") == 0) return;
    const Port port = {
        .name = "loss", .type = loss->type, .span = r->minimize->span, .is_metric = true
    };
    vec_push(ad->m->arena, &r->outputs, port);
    ad->b.span = r->minimize->span;
    ad->b.inst = NULL;
    ad->b.name = "loss";
    mk1(&ad->b, &op_report, &(IndexAttrs){ (int64_t)r->outputs.len - 1 }, loss);
}

bool pass_autodiff(Module *m, Routine *r)
{
    if (!r->minimize || !r->minimize->loss) return true;
    routine_renumber(r);
    const size_t n = r->nodes.len;
    Autodiff ad = { .m = m,
                    .r = r,
                    .n_forward = n,
                    .depends = ARENA_ARRAY(m->arena, bool, n),
                    .active = ARENA_ARRAY(m->arena, bool, n),
                    .grads = ARENA_ARRAY(m->arena, Grads, n) };
    builder_init(&ad.b, m, r);
    ad.b.quiet = true;
    find_dependent(&ad);
    find_active(&ad);
    if (!check_differentiable(&ad)) return false;

    Node *loss = r->minimize->loss;
    ad.b.span = loss->span;
    ad.b.inst = loss->inst;
    ad.b.name = "d_loss";
    *slot_of(&ad, loss) = mk_const(&ad.b, DT_F32, 1);
    for (size_t i = n; i-- > 0;) visit(&ad, r->nodes.data[i]);
    if (!store_grads(&ad)) return false;
    report_loss(&ad);
    r->minimize->loss = NULL;
    routine_sweep(m, r);
    return true;
}
