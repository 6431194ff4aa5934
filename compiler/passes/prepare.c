/* SPDX-License-Identifier: MIT
 *
 * What an infer routine computes from the weights alone is computed once for each state of the weights. In: an infer
 * routine. Out: the routine without those nodes, and Routine.prepare, which makes their values from parameters and
 * state and leaves them in memory that the object keeps. Each value that crosses is an output of the one and an input
 * of the other, at the same place: the kept inputs are the last ones, in the order of the outputs.
 *
 * Note [kept values]
 * Folded batch norms, weights in another order and positional encodings are the cases this is for, and operators that
 * name a form of their weights which their kernel likes better (OpDesc.prepare). Training changes weights in every
 * step, so steps do without. A kept value can only be wrong when weights change behind the object's back: every
 * function of the object that may change them counts (nn_model.weights), and as long as a pointer from NAME_data may
 * be written through, the values are made anew in every call. State that infer routines themselves assign is no
 * weight.
 */
#include <string.h>

#include "passes/pass.h"

typedef struct Split {
    Module *m;
    Routine *r, *prepare;
    Builder b;         /* appends to `prepare` */
    bool *early;       /* by id of the old nodes: depends on weights and constants alone */
    Node **kept;       /* by id: the input that stands for it */
    Node **main;       /* by id: the node in the routine that is left */
    StrMap *taken;     /* names of ports -> the last number behind that name (int *) */
} Split;

static int64_t index_of(const Node *n)
{
    return ((const IndexAttrs *)n->attrs)->index;
}

/* State that some infer routine assigns: recurrent state, by index of the tensor. */
static bool *find_live_state(const Module *m)
{
    bool *live = ARENA_ARRAY(m->arena, bool, m->tensors.len + 1);
    for (size_t i = 0; i < m->routines.len; i++) {
        const Routine *r = m->routines.data[i];
        for (size_t k = 0; r->kind == ROUTINE_INFER && k < r->nodes.len; k++)
            if (op_is(r->nodes.data[k], &op_assign)) live[index_of(r->nodes.data[k])] = true;
    }
    return live;
}

static bool *find_early(const Module *m, const Routine *r)
{
    const bool *live = find_live_state(m);
    bool *early = ARENA_ARRAY(m->arena, bool, r->nodes.len + 1);
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        early[i] = !op_has(n, OPF_ROOT | OPF_RANDOM) && !op_is(n, &op_input) && !op_is(n, &op_hyper) &&
                   !op_is(n, &op_scan) && !n->type.batch && !(op_is(n, &op_state) && live[index_of(n)]);
        for (int k = 0; k < n->n_in && early[i]; k++)
            if (n->in[k]) early[i] = early[n->in[k]->id];
        for (int k = 1; k < n->n_results && early[i]; k++) early[i] = !n->more[k - 1].batch;
    }
    return early;
}

static bool is_computed(const Node *n)
{
    return !op_has(n, OPF_VIEW) && (!op_has(n, OPF_SOURCE) || op_is(n, &op_result));
}

/* An operator may want its weights in a form that depends on nothing else. */
static Node *ask_operator(Builder *b, const Node *old, Node *const *in, void *ctx)
{
    const bool *early = ctx;
    if (!old->op->prepare || early[old->id]) return NULL;
    for (int i = 1; i < old->n_in; i++)
        if (old->in[i] && op_reads(old, i) && !early[old->in[i]->id]) return NULL;
    Node *copy = mk_copy(b, old, in);
    b->name = old->name;
    Node *n = old->op->prepare(b, copy);
    return n ? n : copy;
}

static void take_name(Split *s, const char *name)
{
    int *last = ARENA_NEW(s->m->arena, int);
    *last = 1;
    map_set(s->taken, name, last);
}

/* The value's own name, which equal layers share, with a number where it is taken. */
static const char *port_name(Split *s, const Node *n)
{
    Arena *a = s->m->arena;
    const char *name = n->name;
    int *last = map_get(s->taken, name);
    if (last) {
        do name = arena_printf(a, "%s_%d", n->name, ++*last);
        while (map_get(s->taken, name));
    }
    take_name(s, name);
    return name;
}

/* n as a value of the routine that is left. */
static Node *in_main(Split *s, Builder *b, const Node *n)
{
    if (s->main[n->id]) return s->main[n->id];
    Node *x;
    if (s->early[n->id] && is_computed(n)) {
        const Port port = { .name = port_name(s, n), .type = n->type, .span = n->span, .is_kept = true };
        vec_push(s->m->arena, &s->r->inputs, port);
        const Node *early = s->kept[n->id];
        b->span = s->b.span = n->span;
        b->inst = s->b.inst = n->inst;
        b->name = n->name;
        x = mk(b, &op_input, &(IndexAttrs){ (int64_t)s->r->inputs.len - 1 }, 0, NULL);
        vec_push(s->m->arena, &s->prepare->outputs, port);
        s->prepare->outputs.data[s->prepare->outputs.len - 1].is_kept = false;
        mk1(&s->b, &op_output, &(IndexAttrs){ (int64_t)s->prepare->outputs.len - 1 }, (Node *)early);
    } else {
        Node **in = ARENA_ARRAY(s->m->arena, Node *, n->n_in + 1);
        for (int k = 0; k < n->n_in; k++) in[k] = n->in[k] ? in_main(s, b, n->in[k]) : NULL;
        x = mk_copy(b, n, in);
    }
    return s->main[n->id] = x;
}

static bool crosses(const Routine *r, const bool *early)
{
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        for (int k = 0; k < n->n_in && !early[i]; k++) {
            const Node *x = n->in[k];
            while (x && op_has(x, OPF_VIEW)) x = x->in[0];
            if (x && early[x->id] && is_computed(x)) return true;
        }
    }
    return false;
}

bool pass_prepare(Module *m, Routine *r)
{
    if (r->kind != ROUTINE_INFER || r->step || r->prepare || r->prepares) return true;
    routine_renumber(r);
    routine_rewrite(m, r, ask_operator, find_early(m, r));
    routine_sweep(m, r);
    Split s = { .m = m, .r = r, .early = find_early(m, r) };
    if (!crosses(r, s.early)) return true;

    Arena *a = m->arena;
    const size_t n_old = r->nodes.len;
    Node **old = r->nodes.data;
    s.prepare = ARENA_NEW(a, Routine);
    *s.prepare = (Routine){ .name = arena_printf(a, "%s_prepare", r->name), .kind = ROUTINE_INFER, .prepares = true,
                            .span = r->span };
    s.kept = ARENA_ARRAY(a, Node *, n_old + 1);
    s.main = ARENA_ARRAY(a, Node *, n_old + 1);
    s.taken = map_new(a);
    for (size_t i = 0; i < r->inputs.len; i++) take_name(&s, r->inputs.data[i].name);
    for (size_t i = 0; i < r->outputs.len; i++) take_name(&s, r->outputs.data[i].name);
    builder_init(&s.b, m, s.prepare);
    s.b.quiet = true;
    for (size_t i = 0; i < n_old; i++) {
        if (!s.early[i]) continue;
        Node **in = ARENA_ARRAY(a, Node *, old[i]->n_in + 1);
        for (int k = 0; k < old[i]->n_in; k++) in[k] = old[i]->in[k] ? s.kept[old[i]->in[k]->id] : NULL;
        s.kept[i] = mk_copy(&s.b, old[i], in);
    }
    /* The ports that are there stay where they are. */
    r->inputs.data = arena_dup(a, r->inputs.data, r->inputs.len * sizeof *r->inputs.data);
    r->inputs.cap = r->inputs.len;
    r->nodes.data = NULL;
    r->nodes.len = r->nodes.cap = 0;
    Builder b;
    builder_init(&b, m, r);
    b.quiet = true;
    for (size_t i = 0; i < n_old; i++)
        if (!s.early[i]) in_main(&s, &b, old[i]);
    r->prepare = s.prepare;
    routine_sweep(m, s.prepare);
    routine_sweep(m, r);
    return true;
}
