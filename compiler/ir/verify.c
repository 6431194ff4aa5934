/* SPDX-License-Identifier: MIT
 *
 * The rules of ir/graph.h, checked. In: a module between two passes, or one just read from text.
 * Out: the broken rules. A fault after a pass is a fault of that pass, whatever the program; in a
 * text it is the text's, so types are recomputed with the descriptors' own messages.
 */
#include <string.h>

#include "ir/layout.h"
#include "ir/scan.h"
#include "ir/shape_ctx.h"
#include "ir/text.h"

typedef struct Verifier {
    Module *m;
    Routine *r;
    Faults *faults;
    bool first_only; /* the rest of a routine is built on what is broken */
} Verifier;

void fault_add(Arena *a, Faults *faults, const Routine *r, const Node *n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const Fault f = { r, n, arena_vprintf(a, fmt, ap) };
    va_end(ap);
    vec_push(a, faults, f);
}

#define FAULT(v, n, ...) fault_add((v)->m->arena, (v)->faults, (v)->r, (n), __VA_ARGS__)

static void verify_type(const Verifier *v, const Node *n, const TensorType *t)
{
    if (t->rank < 0 || t->rank > MAX_RANK) {
        FAULT(v, n, "rank %d", t->rank);
        return;
    }
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] < 1) FAULT(v, n, "axis %d has size %lld", i, (long long)t->dim[i]);
    if (t->batch && !t->rank) FAULT(v, n, "a scalar has a batch axis");
    if (type_numel_max(t) < 0) FAULT(v, n, "more than 2^48 elements");
    if (!layout_suits(t->layout, t->rank)) FAULT(v, n, "layout %s on rank %d", layout_name(t->layout), t->rank);
    if (t->layout != LAYOUT_CANONICAL && !v->m->has_layouts)
        FAULT(v, n, "layout %s before the layout pass", layout_name(t->layout));
}

/* Everything later checks rely on: operands that exist, stand before their user and fit the
 * descriptor. */
static bool verify_operands(const Verifier *v, const Node *n)
{
    const OpDesc *op = n->op;
    const size_t faults = v->faults->len;
    int least = 0, most = 0;
    for (int i = 0; i < OP_MAX_IN && op->in[i]; i++) {
        const char last = op->in[i][strlen(op->in[i]) - 1];
        most = last == '*' ? n->n_in : most + 1;
        if (last != '*') least = i + 1;
    }
    if (n->n_in < least || n->n_in > most)
        FAULT(v, n, "%s has %d operands, expected %d to %d", op->name, n->n_in, least, most);
    for (int i = 0; i < n->n_in; i++) {
        const Node *x = n->in[i];
        const char *name = i < OP_MAX_IN ? op->in[i] : NULL;
        if (!x) {
            if (i < least && (!name || name[strlen(name) - 1] != '?'))
                FAULT(v, n, "operand %d is absent", i);
            continue;
        }
        if (x->id < 0 || x->id >= n->id || v->r->nodes.data[x->id] != x)
            FAULT(v, n, "operand %d (%s) does not stand before its user", i, x->name);
        else if (op_has(x, OPF_ROOT))
            FAULT(v, n, "operand %d (%s) is a root, which has no value", i, x->name);
        else if (op_is(n, &op_result) && op_is(x, &op_result))
            FAULT(v, n, "a result of a result");
    }
    const int n_results = op == &op_fused  ? ((const FusedAttrs *)n->attrs)->n_results
                          : op == &op_scan ? (int)((const ScanAttrs *)n->attrs)->body->outputs.len
                          : op->n_results  ? op->n_results
                                           : 1;
    if (n->n_results != n_results) FAULT(v, n, "%d results instead of %d", n->n_results, n_results);
    if (!n->attrs && op->attr_size) FAULT(v, n, "no attributes");
    return v->faults->len == faults;
}

static bool index_ok(const Verifier *v, const Node *n, size_t len)
{
    const int64_t i = ((const IndexAttrs *)n->attrs)->index;
    if (i >= 0 && (size_t)i < len) return true;
    FAULT(v, n, "index %lld is not in [0, %zu)", (long long)i, len);
    return false;
}

static void verify_target(const Verifier *v, const Node *n)
{
    const Module *m = v->m;
    if (op_is(n, &op_param) || op_is(n, &op_state) || op_takes_gradient(n) || op_is(n, &op_assign)) {
        if (!index_ok(v, n, m->tensors.len)) return;
        const Tensor *t = m->tensors.data[((const IndexAttrs *)n->attrs)->index];
        const bool is_param = op_is(n, &op_param) || op_takes_gradient(n);
        if (is_param != (t->kind == TENSOR_PARAM)) FAULT(v, n, "%s is of the other kind", t->path);
        if (op_takes_gradient(n) && v->r->kind != ROUTINE_STEP)
            FAULT(v, n, "a gradient is stored outside a step");
        if (op_takes_gradient(n) && v->r->minimize && op_is(n, &op_update) != v->r->minimize->in_backward)
            FAULT(v, n, "%s gradients are kept in this step", v->r->minimize->in_backward ? "no" : "all");
        if (op_has(n, OPF_SOURCE) && n->type.layout != t->type.layout)
            FAULT(v, n, "%s is stored %s", t->path, layout_name(t->type.layout));
    } else if (op_is(n, &op_input)) {
        index_ok(v, n, v->r->inputs.len);
    } else if (op_is(n, &op_output) || op_is(n, &op_report)) {
        if (!index_ok(v, n, v->r->outputs.len)) return;
        const Port *p = &v->r->outputs.data[((const IndexAttrs *)n->attrs)->index];
        if (p->is_metric != op_is(n, &op_report))
            FAULT(v, n, "%s is a port of the other kind", p->name);
    } else if (op_is(n, &op_hyper)) {
        index_ok(v, n, m->hypers.len);
    }
}

static void verify_fused(const Verifier *v, const Node *n)
{
    const FusedAttrs *f = n->attrs;
    if (n->n_in > FUSED_MAX_IN) FAULT(v, n, "%d operands, more than %d", n->n_in, FUSED_MAX_IN);
    for (int i = 0; i < f->n_steps; i++) {
        const FusedStep *s = &f->steps[i];
        if (!(s->op->flags & OPF_ELEMENTWISE))
            FAULT(v, n, "step %d: %s is not elementwise", i, s->op->name);
        for (int k = 0; k < s->n_in; k++)
            if (s->arg[k] >= n->n_in || (s->arg[k] < 0 && ~s->arg[k] >= i))
                FAULT(v, n, "step %d uses a value that is not there", i);
    }
    for (int k = 0; k < f->n_results; k++)
        if (f->result[k] < 0 || f->result[k] >= f->n_steps) FAULT(v, n, "result %d is no step", k);
}

static void verify_inferred(const Verifier *v, const Node *n)
{
    Builder b = {
        .module = v->m, .routine = v->r, .span = n->span, .inst = n->inst, .again = true
    };
    ShapeCtx c = { .builder = &b, .node = n };
    TensorType out[OP_MAX_RESULTS] = { { 0 } };
    if (!n->op->shape(&c, n, out)) {
        FAULT(v, n, "%s does not accept its operands", n->op->name);
        return;
    }
    for (int k = 0; k < n->n_results; k++) {
        const TensorType *t = k ? &n->more[k - 1] : &n->type;
        if (!type_equal(t, &out[k]))
            FAULT(v, n, "result %d is %s, its operands and attributes make it %s", k,
                  type_text(v->m->arena, t), type_text(v->m->arena, &out[k]));
    }
}

static void verify_layouts(const Verifier *v, const Node *n)
{
    const Node *sharer = NULL;
    for (int i = 0; i < n->n_in; i++) {
        const Node *x = n->in[i];
        Layout want;
        if (!x) continue;
        if (!layout_wanted(v->m, v->r, n, i, &want)) {
            if (!layout_shares(n, i)) continue;
            if (!sharer) sharer = x;
            want = n->type.rank == x->type.rank ? n->type.layout : sharer->type.layout;
        }
        if (!type_layouts_coincide(&x->type, x->type.layout, want))
            FAULT(v, n, "operand %d (%s) lies %s, expected %s", i, x->name,
                  layout_name(x->type.layout), layout_name(want));
    }
}

static bool verify_routine(const Verifier *v);

/* A body is a routine that mentions nothing but what it is given. */
static void verify_body(const Verifier *v, const Node *n)
{
    const ScanAttrs *s = n->attrs;
    if (!s->body || s->body->kind != ROUTINE_BODY || s->body->minimize) {
        FAULT(v, n, "the loop has no body");
        return;
    }
    Verifier inner = *v;
    inner.r = s->body;
    verify_routine(&inner);
    bool *given = ARENA_ARRAY(v->m->arena, bool, s->body->outputs.len);
    for (size_t i = 0; i < s->body->nodes.len; i++) {
        const Node *x = s->body->nodes.data[i];
        const int64_t port = op_is(x, &op_output) ? ((const IndexAttrs *)x->attrs)->index : -1;
        if (port >= 0 && (size_t)port < s->body->outputs.len) given[port] = true;
        const bool source = op_has(x, OPF_SOURCE) && !op_is(x, &op_input) && !op_is(x, &op_const) &&
                            !op_is(x, &op_result);
        if (source || (op_has(x, OPF_ROOT) && !op_is(x, &op_output)))
            FAULT(&inner, x, "%s inside a loop", x->op->name);
    }
    for (size_t k = 0; k < s->body->outputs.len; k++)
        if (!given[k]) FAULT(v, n, "output %zu of the body has no value", k);
}

static bool verify_routine(const Verifier *v)
{
    Module *m = v->m;
    const Routine *r = v->r;
    Faults *faults = v->faults;
    const size_t before = faults->len;
    bool *stored = ARENA_ARRAY(m->arena, bool, m->tensors.len);
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (n->id != (int)i) FAULT(v, n, "numbered %d at position %zu", n->id, i);
        if (!n->name || !n->op) FAULT(v, n, "no name or no operator");
    }
    if (faults->len > before) return false;
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (v->first_only && faults->len > before) return false;
        if (!verify_operands(v, n)) continue;
        const size_t faults_of_rest = faults->len;
        for (int k = 0; k < n->n_results; k++) verify_type(v, n, k ? &n->more[k - 1] : &n->type);
        verify_target(v, n);
        if (op_is(n, &op_fused)) verify_fused(v, n);
        if (op_is(n, &op_scan)) verify_body(v, n);
        if (faults->len > faults_of_rest) continue;
        verify_inferred(v, n);
        if (m->has_layouts) verify_layouts(v, n);
        if (op_takes_gradient(n)) {
            bool *once = &stored[((const IndexAttrs *)n->attrs)->index];
            if (*once)
                FAULT(v, n, "a second gradient of %s",
                      m->tensors.data[((const IndexAttrs *)n->attrs)->index]->path);
            *once = true;
        }
    }
    const Minimize *min = r->minimize;
    if (r->kind == ROUTINE_INFER && min) FAULT(v, NULL, "minimize in an infer routine");
    if (r->kind == ROUTINE_STEP && !min) FAULT(v, NULL, "a step without minimize");
    if (min && min->in_backward && (min->clip_norm > 0 || min->optim->driver))
        FAULT(v, NULL, "all gradients are needed before the first update");
    if (min && min->loss) {
        const Node *loss = min->loss;
        if (loss->id < 0 || (size_t)loss->id >= r->nodes.len || r->nodes.data[loss->id] != loss)
            FAULT(v, NULL, "the loss is not among the nodes");
        else if (loss->type.dtype != DT_F32 || loss->type.rank)
            FAULT(v, loss, "the loss is %s, expected f32[]", type_text(m->arena, &loss->type));
    }
    return faults->len == before;
}

bool routine_verify(Module *m, Routine *r, Faults *faults)
{
    return verify_routine(&(Verifier){ .m = m, .r = r, .faults = faults });
}

bool routine_verify_first(Module *m, Routine *r, Faults *faults)
{
    return verify_routine(&(Verifier){ .m = m, .r = r, .faults = faults, .first_only = true });
}

/* Kept inputs are the last ones, and the outputs of the routine that makes them. */
static void verify_kept(const Verifier *v)
{
    const Routine *r = v->r, *made = r->prepare;
    const size_t n = made ? made->outputs.len : 0, len = r->inputs.len;
    for (size_t i = 0; i < len; i++)
        if (r->inputs.data[i].is_kept != (i + n >= len))
            FAULT(v, NULL, "%zu kept inputs stand in the wrong place or are made by nobody", n);
    if (!made) return;
    if (!made->prepares || n == 0 || n > len || made->inputs.len || made->dims.len || made->minimize ||
        r->kind != ROUTINE_INFER) {
        FAULT(v, NULL, "%s cannot prepare anything", made->name);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const TensorType *x = &r->inputs.data[len - n + i].type, *y = &made->outputs.data[i].type;
        if (!type_equal(x, y) || x->layout != y->layout)
            FAULT(v, NULL, "%s is not what %s makes", r->inputs.data[len - n + i].name, made->name);
    }
}

bool module_verify(Module *m, Faults *faults)
{
    const size_t before = faults->len;
    for (size_t i = 0; i < m->tensors.len; i++) {
        const Verifier v = { .m = m, .faults = faults };
        const Tensor *t = m->tensors.data[i];
        if (t->index != (int)i)
            FAULT(&v, NULL, "tensor %s is numbered %d at position %zu", t->path, t->index, i);
        verify_type(&v, NULL, &t->type);
    }
    for (size_t i = 0; i < m->routines.len; i++) {
        Routine *r = m->routines.data[i];
        routine_verify(m, r, faults);
        if (r->prepare) routine_verify(m, r->prepare, faults);
        verify_kept(&(Verifier){ .m = m, .r = r, .faults = faults });
    }
    return faults->len == before;
}
