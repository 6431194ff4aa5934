/* SPDX-License-Identifier: MIT
 *
 * Each operator's own simplify rule, applied until none fires. In: any graph before layouts are
 * chosen. Out: an equal graph with no more nodes. Rebuilding through the builder merges equal pure
 * values; the sweep drops what no root needs. Terminates because every rule strictly reduces; see
 * OpDesc.simplify.
 */
#include "passes/pass.h"

#include <stdlib.h>

enum { MAX_ROUNDS = 1000 }; /* far beyond any chain of strict reductions */

typedef struct Simplify {
    bool changed;
} Simplify;

/* A rule sees operands that are already simple, so most routines need one round and one that finds
 * nothing more to do. */
static Node *simplify_node(Builder *b, const Node *old, Node *const *in, void *ctx)
{
    Simplify *s = ctx;
    double value;
    if (op_has(old, OPF_VIEW) && node_const_value(in[0], &value))
        return mk_fill(b, &old->type, value);
    Node *n = mk_copy(b, old, in);
    while (n->op->simplify) {
        const size_t first_new = b->routine->nodes.len;
        Node *simpler = n->op->simplify(b, n);
        if (!simpler || simpler == n) break;
        /* The user's name stays with the value, unless that value had a name before. */
        if (first_new < b->routine->nodes.len &&
            b->routine->nodes.data[b->routine->nodes.len - 1] == simpler)
            simpler->name = old->name;
        n = simpler;
        s->changed = true;
    }
    return n;
}

bool pass_simplify(Module *m, Routine *r)
{
    Simplify s = { true };
    for (int round = 0; s.changed; round++) {
        if (round == MAX_ROUNDS) {
            fprintf(stderr, "nnc: internal error: simplify rules of routine %s do not end\n",
                    r->name);
            exit(70);
        }
        s.changed = false;
        routine_rewrite(m, r, simplify_node, &s);
        routine_sweep(m, r);
    }
    return true;
}
