/* SPDX-License-Identifier: MIT
 *
 * In: loops over time. Out: where an operator of the body knows a kernel that runs all steps (OpDesc.whole_loop), its
 * node instead of the loop. Runs after autodiff, which derives bodies and not such kernels.
 */
#include "ir/scan.h"
#include "passes/pass.h"

typedef struct Loops {
    Arena *arena;
    Node **whole;                     /* by id of the old loop; NULL: it stays */
    int (*result_of)[OP_MAX_RESULTS]; /* likewise */
} Loops;

static Node *loops_node(Builder *b, const Node *old, Node *const *in, void *ctx)
{
    const Loops *l = ctx;
    if (op_is(old, &op_result)) {
        const int scan = old->in[0]->id;
        return l->whole[scan]
                   ? mk_result(b, l->whole[scan],
                               l->result_of[scan][((const IndexAttrs *)old->attrs)->index])
                   : NULL;
    }
    if (!op_is(old, &op_scan)) return NULL;
    const Routine *body = scan_attrs(old)->body;
    Node *whole = NULL;
    for (size_t i = 0; i < body->nodes.len && !whole; i++) {
        const Node *n = body->nodes.data[i];
        b->name = old->name;
        if (n->op->whole_loop)
            whole = n->op->whole_loop(b, old, in, n, l->result_of[old->id]);
    }
    b->name = NULL;
    l->whole[old->id] = whole;
    return whole ? mk_result(b, whole, l->result_of[old->id][0]) : NULL;
}

bool pass_loops(Module *m, Routine *r)
{
    bool any = false;
    for (size_t i = 0; i < r->nodes.len; i++) any |= op_is(r->nodes.data[i], &op_scan);
    if (!any) return true;
    routine_renumber(r);
    Loops l = { m->arena, ARENA_ARRAY(m->arena, Node *, r->nodes.len),
                arena_alloc_array(m->arena, r->nodes.len, sizeof *l.result_of) };
    routine_rewrite(m, r, loops_node, &l);
    routine_sweep(m, r);
    return true;
}
