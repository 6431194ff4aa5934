/* SPDX-License-Identifier: MIT
 *
 * In: loops over time. Out: the same loops with less in them. An operator that works row by row
 * (OpDesc.row_axes) on a slice of a sequence, with nothing else that changes from step to step,
 * is run once on the whole sequence in front of the loop: one large product instead of many small
 * ones. The loop gets slices of its result. The input products of recurrent layers are the case
 * that this is for.
 */
#include "ir/scan.h"
#include "passes/pass.h"

/* Sequence i of the loop when x is its slice, -1 otherwise. */
static int sequence_of(const ScanBuild *s, const Node *x)
{
    for (size_t i = 0; i < s->in.len; i++)
        if (s->in.data[i].inner == x && s->in.data[i].role == SCAN_SEQUENCE) return (int)i;
    return -1;
}

static Node *invariant_of(const ScanBuild *s, const Node *x)
{
    for (size_t i = 0; i < s->in.len; i++)
        if (s->in.data[i].inner == x && s->in.data[i].role == SCAN_CAPTURE)
            return s->in.data[i].outer;
    return NULL;
}

/* The node over all steps at once, or NULL. in: the operands inside the loop. */
static Node *over_sequence(ScanBuild *s, const Node *n, Node *const *in)
{
    Arena *a = s->outer->module->arena;
    if (!n->op->row_axes || op_has(n, OPF_RANDOM) || n->n_results != 1 || !in[0]) return NULL;
    const int i = sequence_of(s, in[0]);
    if (i < 0) return NULL;
    Node *sequence = s->in.data[i].outer;
    /* The axis of time must lie in front of the axes of a row, before and after. */
    const int axis = scan_axis(&s->attrs, &in[0]->type);
    if (axis > in[0]->type.rank - (n->op->row_axes - 1) || axis != scan_axis(&s->attrs, &n->type))
        return NULL;
    Node **outer = ARENA_ARRAY(a, Node *, n->n_in);
    outer[0] = sequence;
    for (int k = 1; k < n->n_in; k++) {
        if (!in[k]) continue;
        outer[k] = invariant_of(s, in[k]);
        if (!outer[k]) return NULL;
    }
    s->outer->span = n->span;
    s->outer->inst = n->inst;
    s->outer->name = n->name;
    return mk(s->outer, n->op, n->attrs, n->n_in, outer);
}

static bool is_hoistable(const Node *scan)
{
    const ScanAttrs *s = scan->attrs;
    for (size_t i = 0; i < s->body->nodes.len; i++) {
        const Node *n = s->body->nodes.data[i];
        if (n->op->row_axes && n->in[0] && op_is(n->in[0], &op_input) &&
            ((const IndexAttrs *)n->in[0]->attrs)->index < s->n_seqs)
            return true;
    }
    return false;
}

static Node *hoist_node(Builder *b, const Node *old, Node *const *in, void *ctx)
{
    const Module *m = ctx;
    if (!op_is(old, &op_scan) || !is_hoistable(old)) return NULL;
    const ScanAttrs *a = old->attrs;
    const Routine *body = a->body;
    ScanBuild s;
    scan_begin(&s, b, a->length, a->axis, a->reverse);
    Node **new_of = ARENA_ARRAY(m->arena, Node *, body->nodes.len + 1);
    Node **inner = ARENA_ARRAY(m->arena, Node *, old->n_in + 1);
    for (int i = 0; i < old->n_in; i++)
        inner[i] = scan_input(&s, scan_role(a, i), in[i], body->inputs.data[i].name);
    for (size_t i = 0; i < body->nodes.len; i++) {
        const Node *n = body->nodes.data[i];
        if (op_is(n, &op_input)) {
            new_of[i] = inner[((const IndexAttrs *)n->attrs)->index];
            continue;
        }
        if (op_is(n, &op_output)) continue;
        Node **operand = ARENA_ARRAY(m->arena, Node *, n->n_in + 1);
        for (int k = 0; k < n->n_in; k++) operand[k] = n->in[k] ? new_of[n->in[k]->id] : NULL;
        Node *whole = over_sequence(&s, n, operand);
        new_of[i] =
            whole ? scan_input(&s, SCAN_SEQUENCE, whole, n->name) : mk_copy(&s.b, n, operand);
    }
    Node **out = scan_output_values(m->arena, body);
    for (int64_t i = 0; i < a->n_carries; i++) s.in.data[a->n_seqs + i].next = new_of[out[i]->id];
    for (size_t k = (size_t)a->n_carries; k < body->outputs.len; k++)
        vec_push(m->arena, &s.yields,
                 (ScanYield){ new_of[out[k]->id], body->outputs.data[k].name,
                              body->outputs.data[k].span });
    s.attrs.body->dims = body->dims;
    b->span = old->span;
    b->inst = old->inst;
    return scan_end(&s, old->name);
}

bool pass_hoist(Module *m, Routine *r)
{
    bool any = false;
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        any |= op_is(n, &op_scan) && is_hoistable(n);
    }
    if (!any) return true;
    routine_rewrite(m, r, hoist_node, m);
    routine_sweep(m, r);
    return true;
}
