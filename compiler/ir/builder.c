/* SPDX-License-Identifier: MIT
 *
 * The only place where nodes come into being. In: operator, attributes, operands. Out: a typed node at the
 * end of the routine, or an equal one that is already there. Invariants: operands stand before users; a
 * pure value is computed once; every random node has a stream number of its own.
 */
#include "ir/builder.h"
#include "ir/scan.h"
#include "ir/shape_ctx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Open-addressing table of pure nodes, keyed by operator, attributes and operands. */
typedef struct BuilderCse {
    Node **slot;
    size_t cap, used;
    int64_t last_stream; /* highest stream number given to a random node so far */
} BuilderCse;

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ (h >> 29);
}

/* Only what identifies the value: addresses decide the slot, never the order of anything printed. */
static uint64_t node_hash(const Node *n)
{
    uint64_t h = mix(0, (uint64_t)(uintptr_t)n->op);
    for (int i = 0; i < n->n_in; i++) h = mix(h, (uint64_t)(uintptr_t)n->in[i]);
    return h;
}

static bool node_same_value(const Node *a, const Node *b)
{
    if (a->op != b->op || a->n_in != b->n_in) return false;
    for (int i = 0; i < a->n_in; i++)
        if (a->in[i] != b->in[i]) return false;
    return attrs_equal(a->op, a->attrs, b->attrs);
}

/* The slot that holds a node equal to n, or the free slot where n belongs. */
static Node **cse_slot(BuilderCse *c, const Node *n)
{
    size_t i = (size_t)node_hash(n) & (c->cap - 1);
    while (c->slot[i] && !node_same_value(c->slot[i], n)) i = (i + 1) & (c->cap - 1);
    return &c->slot[i];
}

static void cse_insert(Builder *b, Node *n)
{
    BuilderCse *c = b->cse;
    if (2 * (c->used + 1) > c->cap) {
        BuilderCse old = *c;
        c->cap = old.cap ? 2 * old.cap : 64;
        c->slot = ARENA_ARRAY(b->module->arena, Node *, c->cap);
        for (size_t i = 0; i < old.cap; i++)
            if (old.slot[i]) *cse_slot(c, old.slot[i]) = old.slot[i];
    }
    *cse_slot(c, n) = n;
    c->used++;
}

static bool can_merge(const Node *n)
{
    return !op_has(n, OPF_ROOT) && n->op != &op_fused;
}

static int64_t *stream_of(const OpDesc *op, void *attrs)
{
    return op->flags & OPF_RANDOM ? attrs_field(op, attrs, "stream", ATTR_INT) : NULL;
}

void builder_init(Builder *b, Module *m, Routine *r)
{
    *b = (Builder){ .module = m, .routine = r, .cse = ARENA_NEW(m->arena, BuilderCse) };
    for (size_t i = 0; i < r->nodes.len; i++) {
        Node *n = r->nodes.data[i];
        if (can_merge(n)) cse_insert(b, n);
        void *attrs = n->op->attr_size ? arena_dup(m->arena, n->attrs, n->op->attr_size) : NULL;
        const int64_t *stream = stream_of(n->op, attrs);
        if (stream && *stream > b->cse->last_stream) b->cse->last_stream = *stream;
    }
}

void builder_share_streams(Builder *b, const Builder *from)
{
    if (from->cse->last_stream > b->cse->last_stream) b->cse->last_stream = from->cse->last_stream;
}

_Noreturn void shape_internal_error(const ShapeCtx *c, const char *text)
{
    const Node *n = c->node;
    fprintf(stderr, "nnc: internal error: %s: %s\n", n->op->name, text);
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i])
            fprintf(stderr, "  operand %d: %s: %s\n", i, n->in[i]->name,
                    type_text(c->builder->module->arena, &n->in[i]->type));
    exit(70);
}

/* After the layout pass each result has the order its kernel writes; see OpDesc.result_layout. */
static void infer_layout(const Node *n, TensorType *out, int k)
{
    const OpDesc *op = n->op;
    if (op->result_layout && op->result_layout[k] != LAYOUT_CANONICAL) {
        out->layout = op->result_layout[k];
    } else if ((op->flags & OPF_CHANNELS_LAST) && out->rank == 4) {
        out->layout = LAYOUT_CHANNELS_LAST;
    } else if ((op->flags & (OPF_VIEW | OPF_ANY_LAYOUT)) == OPF_VIEW) {
        Layout l;
        out->layout = type_carries_layout(&n->in[0]->type, out, &l) ? l : LAYOUT_CANONICAL;
    } else if (op->flags & (OPF_ELEMENTWISE | OPF_ANY_LAYOUT)) {
        out->layout = LAYOUT_CANONICAL;
        /* Operands of the full shape decide; a broadcast one only where there are none. */
        bool whole = false;
        for (int i = 0; i < n->n_in && (op->flags & OPF_ELEMENTWISE); i++)
            whole |= n->in[i] && type_same_shape(&n->in[i]->type, out);
        for (int i = 0; i < n->n_in; i++) {
            const Node *x = n->in[i];
            if (!x || x->type.rank != out->rank || x->type.layout == LAYOUT_CANONICAL) continue;
            if (whole && !type_same_shape(&x->type, out)) continue;
            out->layout = x->type.layout;
            if (type_same_shape(&x->type, out)) break;
        }
    }
}

static bool infer_types(Builder *b, Node *n)
{
    ShapeCtx c = { .builder = b, .node = n };
    TensorType out[OP_MAX_RESULTS] = { { 0 } };
    if (!n->op->shape(&c, n, out)) {
        if (!c.failed) shape_internal_error(&c, "the shape hook failed without a message");
        return false;
    }
    for (int k = 0; k < n->n_results; k++) {
        if (type_numel_max(&out[k]) < 0) {
            Diagnostic *d = diag_error(b->module->diag, n->span, "size-overflow",
                                       "the result %s of %s has more than 2^48 elements",
                                       type_text(b->module->arena, &out[k]), n->op->name);
            diag_inst(d, n->inst);
            return false;
        }
        if (b->module->has_layouts) infer_layout(n, &out[k], k);
    }
    n->type = out[0];
    if (n->n_results > 1)
        n->more = arena_dup(b->module->arena, out + 1, sizeof out[0] * (size_t)(n->n_results - 1));
    return true;
}

/* Fused groups and loops say themselves how many values they hand on. */
static int n_results_of(const OpDesc *op, const void *attrs)
{
    if (op == &op_fused) return ((const FusedAttrs *)attrs)->n_results;
    if (op == &op_scan) return (int)((const ScanAttrs *)attrs)->body->outputs.len;
    return op->n_results ? op->n_results : 1;
}

/* Sources of a loop's body are its inputs and constants; what else has no operands in the body (parameters,
 * states, further results of nodes around the loop) is made outside and captured by who uses it. */
static bool belongs_outside(const Builder *b, const OpDesc *op, int n_in, Node *const *in)
{
    if (!(op->flags & OPF_SOURCE) || op == &op_const || op == &op_input) return false;
    const Routine *r = b->routine;
    return n_in == 0 || (size_t)in[0]->id >= r->nodes.len || r->nodes.data[in[0]->id] != in[0];
}

Node *mk(Builder *b, const OpDesc *op, const void *attrs, int n_in, Node *const *in)
{
    Arena *a = b->module->arena;
    const char *name = b->name;
    void *own_attrs = NULL;
    b->name = NULL;
    if (op->attr_size) {
        own_attrs = arena_alloc(a, op->attr_size);
        if (attrs) memcpy(own_attrs, attrs, op->attr_size);
        else attrs_default(op, own_attrs);
    }
    for (int i = 0; i < n_in; i++) {
        const char *operand = i < OP_MAX_IN ? op->in[i] : NULL;
        const bool optional = operand && strchr("?*", operand[strlen(operand) - 1]);
        if (!in[i] && !optional) return NULL; /* an erroneous operand silences its users */
    }
    if (b->scan) {
        if (belongs_outside(b, op, n_in, in)) {
            Builder *outer = b->scan->outer;
            outer->span = b->span;
            outer->inst = b->inst;
            outer->name = name;
            return mk(outer, op, own_attrs, n_in, in);
        }
        Node **own_in = ARENA_ARRAY(a, Node *, n_in);
        for (int i = 0; i < n_in; i++) own_in[i] = in[i] ? scan_local(b->scan, in[i]) : NULL;
        in = own_in;
    }
    int64_t *stream = stream_of(op, own_attrs);
    if (stream && *stream == 0) *stream = ++b->cse->last_stream;

    /* Every optional operand has a place, so that hooks may read it without counting. */
    int places = n_in;
    while (places < OP_MAX_IN && op->in[places] && strchr(op->in[places], '?')) places++;

    Node *n = ARENA_NEW(a, Node);
    *n = (Node){ .op = op, .attrs = own_attrs, .n_in = places, .n_results = n_results_of(op, own_attrs),
                 .name = name ? name : op->name, .span = b->span, .inst = b->inst };
    n->in = ARENA_ARRAY(a, Node *, places + 1);
    if (n_in) memcpy(n->in, in, sizeof *in * (size_t)n_in);
    if (can_merge(n) && b->cse->cap) {
        Node *same = *cse_slot(b->cse, n);
        if (same) return same;
    }
    const bool ok = infer_types(b, n);
    b->spans = NULL;
    if (!ok) return NULL;
    n->id = (int)b->routine->nodes.len;
    vec_push(a, &b->routine->nodes, n);
    if (can_merge(n)) cse_insert(b, n);
    return n;
}

Node *mk1(Builder *b, const OpDesc *op, const void *attrs, Node *x)
{
    return mk(b, op, attrs, 1, (Node *[]){ x });
}

Node *mk2(Builder *b, const OpDesc *op, const void *attrs, Node *x, Node *y)
{
    return mk(b, op, attrs, 2, (Node *[]){ x, y });
}

Node *mk3(Builder *b, const OpDesc *op, const void *attrs, Node *x, Node *y, Node *z)
{
    return mk(b, op, attrs, 3, (Node *[]){ x, y, z });
}

Node *mk4(Builder *b, const OpDesc *op, const void *attrs, Node *x, Node *y, Node *z, Node *u)
{
    return mk(b, op, attrs, 4, (Node *[]){ x, y, z, u });
}

Node *mk_result(Builder *b, Node *n, int k)
{
    if (!n || k == 0) return n;
    return mk1(b, &op_result, &(IndexAttrs){ k }, n);
}

Node *mk_fill(Builder *b, const TensorType *t, double value)
{
    return mk(b, &op_const, &(ConstAttrs){ value, *t }, 0, NULL);
}

Node *mk_const(Builder *b, DType t, double value)
{
    const TensorType type = type_scalar(t);
    return mk_fill(b, &type, value);
}

bool node_const_value(const Node *n, double *value)
{
    if (n->op != &op_const) return false;
    *value = ((const ConstAttrs *)n->attrs)->value;
    return true;
}

Node *mk_copy(Builder *b, const Node *n, Node *const *in)
{
    const Span span = b->span;
    const Inst *inst = b->inst;
    b->span = n->span;
    b->inst = n->inst;
    b->name = n->name;
    Node *copy = mk(b, n->op, n->attrs, n->n_in, in);
    b->span = span;
    b->inst = inst;
    return copy;
}

void routine_rewrite(Module *m, Routine *r, RewriteFn map, void *ctx)
{
    Arena *a = m->arena;
    routine_renumber(r);
    const size_t n_old = r->nodes.len;
    Node **old = r->nodes.data;
    Node **new_of = ARENA_ARRAY(a, Node *, n_old);
    r->nodes.data = NULL;
    r->nodes.len = r->nodes.cap = 0;

    Builder b;
    builder_init(&b, m, r);
    b.quiet = true;
    for (size_t i = 0; i < n_old; i++) { /* a stream number freed by the rewrite is never given out again */
        void *attrs = old[i]->op->attr_size ? arena_dup(a, old[i]->attrs, old[i]->op->attr_size) : NULL;
        const int64_t *stream = stream_of(old[i]->op, attrs);
        if (stream && *stream > b.cse->last_stream) b.cse->last_stream = *stream;
    }
    for (size_t i = 0; i < n_old; i++) {
        Node **in = ARENA_ARRAY(a, Node *, old[i]->n_in);
        for (int k = 0; k < old[i]->n_in; k++) in[k] = old[i]->in[k] ? new_of[old[i]->in[k]->id] : NULL;
        b.span = old[i]->span;
        b.inst = old[i]->inst;
        new_of[i] = map(&b, old[i], in, ctx);
        if (!new_of[i]) new_of[i] = mk_copy(&b, old[i], in);
    }
    if (r->minimize && r->minimize->loss) r->minimize->loss = new_of[r->minimize->loss->id];
    routine_renumber(r);
}

static Routine *copy_body(Module *m, const Routine *body);

/* Every node as it is: what was told apart before stays so, and random nodes keep their streams. */
static void copy_nodes(Module *m, const Routine *from, Routine *to, bool roots, Node **copy)
{
    Arena *a = m->arena;
    for (size_t i = 0; i < from->nodes.len; i++) {
        const Node *old = from->nodes.data[i];
        if (op_has(old, OPF_ROOT) && !roots) continue;
        Node *n = arena_dup(a, old, sizeof *old);
        n->in = ARENA_ARRAY(a, Node *, n->n_in + 1);
        for (int k = 0; k < n->n_in; k++) n->in[k] = old->in[k] ? copy[old->in[k]->id] : NULL;
        if (op_is(n, &op_scan)) {
            ScanAttrs *s = arena_dup(a, old->attrs, sizeof *s);
            s->body = copy_body(m, s->body);
            n->attrs = s;
        }
        n->id = (int)to->nodes.len;
        vec_push(a, &to->nodes, n);
        copy[i] = n;
    }
}

static Routine *copy_body(Module *m, const Routine *body)
{
    Routine *r = arena_dup(m->arena, body, sizeof *r);
    r->inputs.data = arena_dup(m->arena, body->inputs.data, body->inputs.len * sizeof *body->inputs.data);
    r->inputs.cap = body->inputs.len;
    r->outputs.data = arena_dup(m->arena, body->outputs.data, body->outputs.len * sizeof *body->outputs.data);
    r->outputs.cap = body->outputs.len;
    r->nodes.data = NULL;
    r->nodes.len = r->nodes.cap = 0;
    copy_nodes(m, body, r, true, ARENA_ARRAY(m->arena, Node *, body->nodes.len + 1));
    return r;
}

Node **routine_copy_nodes(Module *m, const Routine *from, Routine *to)
{
    Node **copy = ARENA_ARRAY(m->arena, Node *, from->nodes.len + 1);
    copy_nodes(m, from, to, false, copy);
    return copy;
}

void routine_sweep(Module *m, Routine *r)
{
    routine_renumber(r);
    const size_t n = r->nodes.len;
    bool *live = ARENA_ARRAY(m->arena, bool, n);
    if (r->minimize && r->minimize->loss) live[r->minimize->loss->id] = true;
    for (size_t i = n; i-- > 0;) {
        const Node *node = r->nodes.data[i];
        if (op_has(node, OPF_ROOT) || op_is(node, &op_input)) live[i] = true;
        if (!live[i]) continue;
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k]) live[node->in[k]->id] = true;
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (live[i]) r->nodes.data[kept++] = r->nodes.data[i];
    r->nodes.len = kept;
    routine_renumber(r);
}
