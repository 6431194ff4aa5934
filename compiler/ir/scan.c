/* SPDX-License-Identifier: MIT
 *
 * In: what a loop's body computes in one step. Out: a scan node (ir/op.h: ScanAttrs). Invariants: the
 * body mentions nothing but its inputs, constants and its own nodes; inputs and outputs are numbered
 * in the order of the node's operands and results.
 */
#include "ir/scan.h"

#include "ir/plan.h"

#include <string.h>

void scan_begin(ScanBuild *s, Builder *outer, int64_t length, int64_t axis, bool reverse)
{
    Module *m = outer->module;
    Routine *body = ARENA_NEW(m->arena, Routine);
    *body = (Routine){ .name = "scan", .kind = ROUTINE_BODY, .span = outer->span };
    *s = (ScanBuild){ .outer = outer,
                      .inst = outer->inst,
                      .attrs = {
                          .body = body, .length = length, .axis = axis, .reverse = reverse } };
    builder_init(&s->b, m, body);
    builder_share_streams(&s->b, outer);
    s->b.span = outer->span;
    s->b.inst = outer->inst;
    s->b.quiet = outer->quiet;
    s->b.scan = s;
}

int scan_axis(const ScanAttrs *a, const TensorType *step)
{
    const int least = step->batch ? 1 : 0;
    int axis = (int)a->axis < least ? least : (int)a->axis;
    return axis < step->rank ? axis : step->rank;
}

bool scan_stack_type(const ScanAttrs *a, const TensorType *step, TensorType *out)
{
    *out = *step;
    out->layout = LAYOUT_CANONICAL;
    if (step->rank == MAX_RANK) return false;
    const int axis = scan_axis(a, step);
    memmove(&out->dim[axis + 1], &out->dim[axis], sizeof out->dim[0] * (size_t)(out->rank - axis));
    out->dim[axis] = a->length;
    out->rank++;
    return true;
}

static TensorType slice_type(const ScanAttrs *a, const TensorType *stack)
{
    TensorType t = *stack;
    const int axis = (int)a->axis < t.rank ? (int)a->axis : t.rank - 1;
    const int at = t.batch && axis == 0 ? 1 : axis;
    memmove(&t.dim[at], &t.dim[at + 1], sizeof t.dim[0] * (size_t)(t.rank - at - 1));
    t.dim[--t.rank] = 0;
    t.layout = LAYOUT_CANONICAL;
    return t;
}

static bool is_foreign(const Routine *r, const Node *x)
{
    return x->id < 0 || (size_t)x->id >= r->nodes.len || r->nodes.data[x->id] != x;
}

/* Ports are told apart by name in the text form and in C. */
static const char *port_name(Arena *a, const Port *ports, size_t n, const char *wanted)
{
    const char *name = wanted;
    for (int k = 2;; k++) {
        size_t i = 0;
        while (i < n && strcmp(ports[i].name, name) != 0) i++;
        if (i == n) return name;
        name = arena_printf(a, "%s_%d", wanted, k);
    }
}

/* The builder that appends to the body right now may be a copy of s->b. */
Node *scan_input(ScanBuild *s, ScanRole role, Node *outer, const char *name)
{
    Module *m = s->outer->module;
    Routine *body = s->attrs.body;
    if (s->outer->scan && is_foreign(s->outer->routine, outer))
        outer = scan_local(s->outer->scan, outer);
    const TensorType type =
        role == SCAN_SEQUENCE ? slice_type(&s->attrs, &outer->type) : outer->type;
    const int64_t index = (int64_t)body->inputs.len;
    name = port_name(m->arena, body->inputs.data, body->inputs.len, name);
    vec_push(m->arena, &body->inputs, (Port){ .name = name, .type = type, .span = outer->span });
    Builder b = s->b;
    b.spans = NULL;
    b.name = name;
    b.span = outer->span;
    b.inst = outer->inst;
    Node *inner = mk(&b, &op_input, &(IndexAttrs){ index }, 0, NULL);
    vec_push(m->arena, &s->in, (ScanInput){ role, outer, inner, NULL, -1 });
    return inner;
}

Node *scan_local(ScanBuild *s, Node *x)
{
    if (!is_foreign(s->attrs.body, x)) return x;
    for (size_t i = 0; i < s->in.len; i++)
        if (s->in.data[i].role == SCAN_CAPTURE && s->in.data[i].outer == x)
            return s->in.data[i].inner;
    if (op_is(x, &op_const)) {
        Builder b = s->b;
        b.spans = NULL;
        return mk(&b, &op_const, x->attrs, 0, NULL);
    }
    /* A value of the routine around the routine around: it is captured there first. */
    if (s->outer->scan && is_foreign(s->outer->routine, x)) {
        Node *middle = scan_local(s->outer->scan, x);
        if (middle != x) return scan_local(s, middle);
    }
    return scan_input(s, SCAN_CAPTURE, x, x->name);
}

Node **scan_input_nodes(Arena *a, const Routine *body)
{
    Node **in = ARENA_ARRAY(a, Node *, body->inputs.len + 1);
    for (size_t i = 0; i < body->nodes.len; i++) {
        Node *n = body->nodes.data[i];
        if (op_is(n, &op_input)) in[((const IndexAttrs *)n->attrs)->index] = n;
    }
    return in;
}

Node **scan_output_values(Arena *a, const Routine *body)
{
    Node **out = ARENA_ARRAY(a, Node *, body->outputs.len + 1);
    for (size_t i = 0; i < body->nodes.len; i++) {
        const Node *n = body->nodes.data[i];
        if (op_is(n, &op_output)) out[((const IndexAttrs *)n->attrs)->index] = n->in[0];
    }
    return out;
}

static void add_output(ScanBuild *s, Node *value, const char *name, Span span)
{
    Routine *body = s->attrs.body;
    TensorType type = value->type;
    type.layout = LAYOUT_CANONICAL;
    name = port_name(s->outer->module->arena, body->outputs.data, body->outputs.len, name);
    vec_push(s->outer->module->arena, &body->outputs,
             (Port){ .name = name, .type = type, .span = span });
    Builder b = s->b;
    b.spans = NULL;
    b.span = span;
    b.name = name;
    mk1(&b, &op_output, &(IndexAttrs){ (int64_t)body->outputs.len - 1 }, value);
}

/* By id: what the outputs need. */
static bool *find_live(Arena *a, const Routine *body)
{
    bool *live = ARENA_ARRAY(a, bool, body->nodes.len + 1);
    for (size_t i = body->nodes.len; i-- > 0;) {
        const Node *n = body->nodes.data[i];
        if (op_has(n, OPF_ROOT)) live[i] = true;
        for (int k = 0; live[i] && k < n->n_in; k++)
            if (n->in[k]) live[n->in[k]->id] = true;
    }
    return live;
}

Node *scan_end(ScanBuild *s, const char *name)
{
    Module *m = s->outer->module;
    Arena *a = m->arena;
    Routine *body = s->attrs.body;
    size_t n_carries = 0;
    for (size_t i = 0; i < s->in.len; i++) n_carries += s->in.data[i].next != NULL;
    if (n_carries + s->yields.len == 0 || n_carries + s->yields.len > OP_MAX_RESULTS) return NULL;
    int result = 0;
    for (size_t i = 0; i < s->in.len; i++) {
        ScanInput *x = &s->in.data[i];
        if (!x->next) continue;
        add_output(s, scan_local(s, x->next), body->inputs.data[i].name, x->next->span);
        s->in.data[i].result = result++;
    }
    for (size_t i = 0; i < s->yields.len; i++) {
        const ScanYield *y = &s->yields.data[i];
        add_output(s, scan_local(s, y->value), y->name, y->span);
    }
    routine_renumber(body);

    /* Inputs in the order of roles; those that nothing reads go, but every carry keeps its own. */
    const bool *live = find_live(a, body);
    VEC(Port) ports = { 0 };
    VEC(Node *) operands = { 0 };
    for (ScanRole role = SCAN_SEQUENCE; role <= SCAN_CAPTURE; role++) {
        for (size_t i = 0; i < s->in.len; i++) {
            ScanInput *x = &s->in.data[i];
            if (x->role != role || (role == SCAN_CARRY ? !x->next : !live[x->inner->id])) continue;
            x->inner->attrs = arena_dup(a, &(IndexAttrs){ (int64_t)ports.len }, sizeof(IndexAttrs));
            vec_push(a, &ports, body->inputs.data[i]);
            vec_push(a, &operands, x->outer);
            s->attrs.n_seqs += role == SCAN_SEQUENCE;
            s->attrs.n_carries += role == SCAN_CARRY;
        }
    }
    /* Inputs in front: some are made after what reads them. */
    VEC(Node *) nodes = { 0 };
    for (ScanRole role = SCAN_SEQUENCE; role <= SCAN_CAPTURE; role++)
        for (size_t i = 0; i < s->in.len; i++) {
            const ScanInput *x = &s->in.data[i];
            if (x->role == role && (role == SCAN_CARRY ? x->next != NULL : live[x->inner->id]))
                vec_push(a, &nodes, x->inner);
        }
    for (size_t i = 0; i < body->nodes.len; i++)
        if (live[i] && !op_is(body->nodes.data[i], &op_input))
            vec_push(a, &nodes, body->nodes.data[i]);
    body->nodes.data = nodes.data;
    body->nodes.len = body->nodes.cap = nodes.len;
    routine_renumber(body);
    body->inputs.data = ports.data;
    body->inputs.len = body->inputs.cap = ports.len;
    body->n_step_inputs = (int)(s->attrs.n_seqs + s->attrs.n_carries);
    builder_share_streams(s->outer, &s->b);
    s->outer->span = body->span;
    s->outer->inst = s->inst;
    s->outer->name = name;
    return mk(s->outer, &op_scan, &s->attrs, (int)operands.len, operands.data);
}

int scan_add_yield(Module *m, Node *n, Node *value)
{
    const ScanAttrs *a = n->attrs;
    Routine *body = a->body;
    TensorType stacked, type = value->type;
    if (n->n_results == OP_MAX_RESULTS || !scan_stack_type(a, &type, &stacked)) return -1;
    for (size_t i = 0; i < body->nodes.len; i++) {
        const Node *out = body->nodes.data[i];
        if (op_is(out, &op_output) && out->in[0] == value &&
            ((const IndexAttrs *)out->attrs)->index >= a->n_carries)
            return (int)((const IndexAttrs *)out->attrs)->index;
    }
    type.layout = LAYOUT_CANONICAL;
    const char *name = port_name(m->arena, body->outputs.data, body->outputs.len, value->name);
    vec_push(m->arena, &body->outputs, (Port){ .name = name, .type = type, .span = value->span });
    Builder b;
    builder_init(&b, m, body);
    b.quiet = true;
    b.span = value->span;
    b.inst = value->inst;
    b.name = name;
    mk1(&b, &op_output, &(IndexAttrs){ n->n_results }, value);
    TensorType *more = arena_alloc(m->arena, sizeof *more * (size_t)n->n_results);
    if (n->n_results > 1) memcpy(more, n->more, sizeof *more * (size_t)(n->n_results - 1));
    more[n->n_results - 1] = stacked;
    n->more = more;
    return n->n_results++;
}

Routine *scan_clone_body(Module *m, const Node *n)
{
    Arena *a = m->arena;
    const Routine *from = scan_attrs(n)->body;
    Routine *body = arena_dup(a, from, sizeof *from);
    body->inputs.data = arena_dup(a, from->inputs.data, sizeof(Port) * (from->inputs.len + 1));
    body->outputs.data = arena_dup(a, from->outputs.data, sizeof(Port) * (from->outputs.len + 1));
    body->inputs.cap = from->inputs.len;
    body->outputs.cap = from->outputs.len;
    body->nodes.data = ARENA_ARRAY(a, Node *, from->nodes.len + 1);
    body->nodes.cap = from->nodes.len;
    for (size_t i = 0; i < from->nodes.len; i++) {
        Node *x = arena_dup(a, from->nodes.data[i], sizeof *x);
        Node **in = ARENA_ARRAY(a, Node *, x->n_in + 1);
        for (int k = 0; k < x->n_in; k++) in[k] = x->in[k] ? body->nodes.data[x->in[k]->id] : NULL;
        x->in = in;
        if (op_is(x, &op_scan)) {
            ScanAttrs *attrs = arena_dup(a, x->attrs, sizeof *attrs);
            attrs->body = scan_clone_body(m, x);
            x->attrs = attrs;
        }
        body->nodes.data[i] = x;
    }
    return body;
}

/* The node that x was cloned from. Results of loops that were added since have no such node yet. */
static Node *original_of(Module *m, const Node *x, Routine *body)
{
    if (!op_is(x, &op_result) || !op_is(x->in[0], &op_scan)) return body->nodes.data[x->id];
    Node *loop = body->nodes.data[x->in[0]->id];
    const int k = scan_clone_result(m, x->in[0], (int)((const IndexAttrs *)x->attrs)->index, loop);
    if (k < 0) return NULL;
    Builder b;
    builder_init(&b, m, body);
    b.quiet = true;
    b.span = x->span;
    b.inst = x->inst;
    b.name = x->name;
    return mk_result(&b, loop, k);
}

int scan_clone_result(Module *m, const Node *clone, int k, Node *n)
{
    const ScanAttrs *a = clone->attrs;
    if (k < a->n_carries) return k;
    Node *value = original_of(m, scan_output_values(m->arena, a->body)[k], scan_attrs(n)->body);
    return value ? scan_add_yield(m, n, value) : -1;
}

static int64_t take(int64_t *end, const TensorType *t, bool f64)
{
    const int64_t at = *end;
    *end += (type_numel_max(t) * dtype_size(t->dtype, f64) + 63) / 64 * 64;
    return at;
}

ScanSlots scan_slots(Arena *a, const Node *n, bool f64)
{
    const ScanAttrs *s = n->attrs;
    const Routine *body = s->body;
    ScanSlots slots = { .slice = ARENA_ARRAY(a, int64_t, s->n_seqs + 1),
                        .carry =
                            arena_alloc_array(a, (size_t)s->n_carries + 1, sizeof *slots.carry),
                        .yield = ARENA_ARRAY(a, int64_t, body->outputs.len + 1),
                        .bytes = body->plan->arena_bytes };
    const Plan *plan = body->plan;
    for (int64_t i = 0; i < s->n_seqs; i++)
        if (!plan->pitch_in || !plan->pitch_in[i])
            slots.slice[i] = take(&slots.bytes, &body->inputs.data[i].type, f64);
    for (int64_t i = 0; i < s->n_carries; i++)
        for (int k = 0; k < 2; k++)
            slots.carry[i][k] = take(&slots.bytes, &body->outputs.data[i].type, f64);
    for (size_t i = (size_t)s->n_carries; i < body->outputs.len; i++)
        if (!plan->pitch_out || !plan->pitch_out[i])
            slots.yield[i - (size_t)s->n_carries] =
                take(&slots.bytes, &body->outputs.data[i].type, f64);
    return slots;
}
