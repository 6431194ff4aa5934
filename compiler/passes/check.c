/* SPDX-License-Identifier: MIT
 *
 * What must hold before anything is derived. In: a routine from the front end. Out: the run-time
 * sizes it takes, and for each integer input the range that its consumers index with, which the
 * generated code checks before it touches memory. Integers that no range can be given are an error
 * here.
 */
#include "passes/pass.h"

#include "ir/scan.h"

typedef struct Range {
    int64_t limit; /* values in [0, limit) */
    bool has_ignore;
    int64_t ignore;
} Range;

static void add_dim(Module *m, Routine *r, const DimVar *d)
{
    if (!d) return;
    for (size_t i = 0; i < r->dims.len; i++)
        if (r->dims.data[i] == d) return;
    vec_push(m->arena, &r->dims, d);
}

/* Every dim that a value or port mentions, in the order of declaration. */
static void find_dims(Module *m, Routine *r)
{
    bool *used = ARENA_ARRAY(m->arena, bool, m->dims.len);
    for (size_t i = 0; i < r->dims.len; i++) used[r->dims.data[i]->index] = true;
    for (size_t i = 0; i < r->inputs.len; i++)
        if (r->inputs.data[i].type.batch) used[r->inputs.data[i].type.batch->index] = true;
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (n->type.batch) used[n->type.batch->index] = true;
        for (size_t k = 0; op_is(n, &op_scan) && k < scan_attrs(n)->body->dims.len; k++)
            used[scan_attrs(n)->body->dims.data[k]->index] = true;
        for (int k = 1; k < n->n_results; k++)
            if (n->more[k - 1].batch) used[n->more[k - 1].batch->index] = true;
    }
    r->dims.len = 0;
    for (size_t i = 0; i < m->dims.len; i++)
        if (used[i]) add_dim(m, r, m->dims.data[i]);
}

static void narrow_port(Port *p, const Range *range)
{
    if (p->type.dtype == DT_U8 && range->limit >= 256) return;
    const bool first = p->index_limit == 0;
    if (first || range->limit < p->index_limit) p->index_limit = range->limit;
    /* The extra value is allowed only when every consumer allows the same one. */
    if (first) {
        p->has_ignore = range->has_ignore;
        p->index_ignore = range->ignore;
    } else if (!range->has_ignore || range->ignore != p->index_ignore) {
        p->has_ignore = false;
    }
}

typedef struct Walk {
    Module *m;
    Routine *r;
    int *seen, stamp; /* by id: the walk that came by last */
    const Node **stack;
} Walk;

static bool is_bounded(const Node *x, const Range *range)
{
    double value;
    if (node_const_value(x, &value)) return value >= 0 && value < (double)range->limit;
    return x->op->value_limit && x->op->value_limit(x) <= range->limit;
}

static bool unbounded(const Walk *w, const Node *user, const Node *x)
{
    Diagnostic *d =
        diag_error(w->m->diag, user->span, "index-unbounded",
                   "%s indexes with %s, whose values have no known range", user->op->name, x->name);
    diag_inst(d, user->inst);
    if (x->span.source) diag_note(d, x->span, "%s is computed here by %s", x->name, x->op->name);
    diag_hint(d, "indices must come from an integer input or from argmax");
    return false;
}

/* Follows integers to where they come from. Operators on integers only move them (arithmetic is
 * done in f32), so a bound on the result is a bound on the operands. */
static bool bound(Walk *w, const Node *user, const Node *from, const Range *range)
{
    int depth = 0;
    w->stamp++;
    w->stack[depth++] = from;
    w->seen[from->id] = w->stamp;
    while (depth) {
        const Node *x = w->stack[--depth];
        if (op_is(x, &op_input)) {
            narrow_port(&w->r->inputs.data[((const IndexAttrs *)x->attrs)->index], range);
            continue;
        }
        if (is_bounded(x, range)) continue;
        bool moved = false;
        if (op_is(x, &op_scan)) return unbounded(w, user, x); /* its body may make any number */
        for (int i = 0; i < x->n_in; i++) {
            const Node *y = x->in[i];
            if (!y || y->type.dtype != x->type.dtype) continue;
            /* The positions a gather reads from are bounded by their own rule. */
            if (x->op->index_limit && x->op->index_limit(x, i) > 0) continue;
            moved = true;
            if (w->seen[y->id] == w->stamp) continue;
            w->seen[y->id] = w->stamp;
            w->stack[depth++] = y;
        }
        if (!moved) return unbounded(w, user, x);
    }
    return true;
}

static bool find_index_limits(Module *m, Routine *r)
{
    const size_t n_nodes = r->nodes.len;
    Walk w = { .m = m,
               .r = r,
               .seen = ARENA_ARRAY(m->arena, int, n_nodes),
               .stack = ARENA_ARRAY(m->arena, const Node *, n_nodes) };
    bool ok = true;
    for (size_t i = 0; i < n_nodes; i++) {
        const Node *n = r->nodes.data[i];
        if (!n->op->index_limit) continue;
        for (int k = 0; k < n->n_in; k++) {
            Range range = { .limit = n->in[k] ? n->op->index_limit(n, k) : 0 };
            if (range.limit <= 0) continue;
            if (op_is(n, &op_scan) && scan_role(scan_attrs(n), k) == SCAN_CARRY) {
                ok &= unbounded(&w, n, n->in[k]); /* later steps get what the body makes of it */
                continue;
            }
            if (n->op->index_ignore) range.has_ignore = n->op->index_ignore(n, k, &range.ignore);
            ok &= bound(&w, n, n->in[k], &range);
        }
    }
    return ok;
}

/* A file that asks for more than any machine has is told so here, with the tensor that is to
 * blame. */
static bool check_memory(Module *m, const Routine *r)
{
    const int64_t limit = INT64_C(1)
                          << 44; /* 16 TiB, beyond what one address space maps comfortably */
    int64_t total = 0;
    const Tensor *largest = NULL;
    for (size_t i = 0; i < m->tensors.len; i++) {
        const Tensor *t = m->tensors.data[i];
        const int64_t n = type_numel_max(&t->type);
        const int64_t bytes = n < 0 ? limit : n * dtype_size(t->type.dtype, m->real_is_f64);
        if (!largest || bytes > type_numel_max(&largest->type) *
                                    dtype_size(largest->type.dtype, m->real_is_f64))
            largest = t;
        total = total > limit - bytes ? limit : total + bytes;
    }
    if (total < limit) return true;
    if (r->index > 0) return false; /* said once */
    Diagnostic *d = diag_error(m->diag, largest->span, "memory",
                               "the parameters and states need more than 16 TiB");
    diag_note(d, largest->span, "the largest is %s: %s", largest->path,
              type_text(m->arena, &largest->type));
    return false;
}

bool pass_check(Module *m, Routine *r)
{
    routine_renumber(r);
    find_dims(m, r);
    const bool ok = check_memory(m, r);
    return find_index_limits(m, r) && ok;
}
