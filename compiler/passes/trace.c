/* SPDX-License-Identifier: MIT
 *
 * Names of the wires of a traced step. In: a step as the front end made it. Out: its picture. A wire is called what
 * the .nn file calls it, or else like its operator; parameters and states by their paths. Where several would have
 * the same name, the path of the block that each stands in comes first, and then numbers tell them apart. The names
 * depend on the step alone.
 */
#include "ir/scan.h"
#include "passes/pass.h"

#include <string.h>

/* What the values of the step are needed for: roots, and the loss. */
static bool *needed_nodes(const Module *m, const Routine *r)
{
    bool *needed = ARENA_ARRAY(m->arena, bool, r->nodes.len + 1);
    needed[r->minimize->loss->id] = true;
    for (size_t i = r->nodes.len; i-- > 0;) {
        const Node *n = r->nodes.data[i];
        if (op_has(n, OPF_ROOT)) needed[i] = true;
        for (int k = 0; needed[i] && k < n->n_in; k++)
            if (n->in[k]) needed[n->in[k]->id] = true;
    }
    return needed;
}

static bool is_tensor(const Node *n)
{
    return op_is(n, &op_param) || op_is(n, &op_state);
}

/* The first result of a loop is the node itself, which has the loop's name; the others have names of their own. */
static const char *short_name(const Module *m, const Node *n)
{
    if (is_tensor(n)) return m->tensors.data[((const IndexAttrs *)n->attrs)->index]->path;
    if (op_is(n, &op_scan) && !strcmp(n->name, n->op->name)) return scan_attrs(n)->body->outputs.data[0].name;
    return n->name;
}

static const char *long_name(const Module *m, const Node *n)
{
    const char *name = short_name(m, n);
    if (is_tensor(n) || !n->inst) return name;
    if (!strcmp(n->inst->label, name)) return n->inst->path;
    return arena_printf(m->arena, "%s.%s", n->inst->path, name);
}

/* A file holds what a trace gave beside the parameters and states, so no name may be that of a tensor. */
static bool is_free(const Module *m, const StrMap *taken, const char *name)
{
    return !map_get(taken, name) && !map_get(taken, arena_printf(m->arena, "value.%s", name)) &&
           !map_get(taken, arena_printf(m->arena, "grad.%s", name));
}

/* In `uses` a name stands for the first wire that asked for it, or for `several`. */
static void name_wires(Module *m, const Routine *graph, Wire *wire)
{
    Arena *a = m->arena;
    static const char several[] = "several";
    StrMap *uses = map_new(a), *taken = map_new(a);
    for (size_t i = 0; i < graph->nodes.len; i++) {
        if (!wire[i].name) continue;
        const char *name = short_name(m, graph->nodes.data[i]);
        map_set(uses, name, (void *)(map_get(uses, name) ? several : name));
    }
    for (size_t i = 0; i < m->tensors.len; i++) map_set(taken, m->tensors.data[i]->path, m);
    for (size_t i = 0; i < graph->nodes.len; i++) {
        const Node *n = graph->nodes.data[i];
        Wire *w = &wire[i];
        if (!w->name) continue;
        const char *name = short_name(m, n);
        if (!is_tensor(n)) {
            if (map_get(uses, name) == several || !is_free(m, taken, name)) name = long_name(m, n);
            const char *base = name;
            for (int k = 2; !is_free(m, taken, name); k++) name = arena_printf(a, "%s_%d", base, k);
            map_set(taken, name, m);
        }
        w->name = name;
        w->value = is_tensor(n) ? name : arena_printf(a, "value.%s", name);
        w->grad = arena_printf(a, "grad.%s", name);
    }
}

static void find_ends(Module *m, const Routine *r, Node *const *copy, Picture *p)
{
    bool has_loss = false;
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (!op_has(n, OPF_ROOT)) continue;
        const int64_t k = ((const IndexAttrs *)n->attrs)->index;
        const bool report = op_is(n, &op_report);
        has_loss |= report && n->in[0] == r->minimize->loss;
        const WireEnd end = { .name = report ? r->outputs.data[k].name : m->tensors.data[k]->path,
                              .wire = copy[n->in[0]->id]->id,
                              .is_state = !report };
        vec_push(m->arena, &p->ends, end);
    }
    if (has_loss) return;
    vec_push(m->arena, &p->ends, (WireEnd){ .name = "loss", .wire = copy[r->minimize->loss->id]->id });
}

Picture *picture_of(Module *m, const Routine *r)
{
    Arena *a = m->arena;
    Picture *p = ARENA_NEW(a, Picture);
    p->graph = ARENA_NEW(a, Routine);
    *p->graph = (Routine){ .name = r->name, .kind = ROUTINE_STEP, .index = r->index, .span = r->span };
    Node **copy = routine_copy_nodes(m, r, p->graph);
    const bool *needed = needed_nodes(m, r);
    p->wire = ARENA_ARRAY(a, Wire, p->graph->nodes.len + 1);
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (op_has(n, OPF_ROOT) || op_is(n, &op_const) || !needed[i]) continue;
        p->wire[copy[i]->id].name = n->name;
    }
    name_wires(m, p->graph, p->wire);
    find_ends(m, r, copy, p);
    return p;
}
