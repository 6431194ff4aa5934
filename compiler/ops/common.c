/* SPDX-License-Identifier: MIT
 *
 * What operator files share: the want() check behind every shape hook, the common shape rules, and the
 * constructors gradients are written with.
 */
#include "ops/op.h"
#include "ir/shape_ctx.h"

static Span culprit_span(const ShapeCtx *c, Culprit who)
{
    const CallSpans *s = c->builder->spans;
    if (s && who.attr) {
        for (int i = 0; i < s->n_attrs; i++)
            if (strcmp(s->attr_names[i], who.attr) == 0 && s->attr_spans[i].source) return s->attr_spans[i];
    } else if (s && who.operand < s->n_in && s->in[who.operand].source) {
        return s->in[who.operand];
    }
    return c->node->span;
}

/* "x: f32[32,1,28,28], weight: f32[6,3,5,5]" */
static const char *operand_types(const ShapeCtx *c)
{
    StrBuf sb;
    const Node *n = c->node;
    sb_init(&sb, c->builder->module->arena);
    for (int i = 0; i < n->n_in; i++) {
        if (!n->in[i]) continue;
        const char *name = i < OP_MAX_IN && n->op->in[i] ? n->op->in[i] : "x";
        sb_printf(&sb, "%s%.*s: ", sb.len ? ", " : "", (int)strcspn(name, "?*"), name);
        type_print(&sb, &n->in[i]->type);
    }
    return sb.text;
}

bool want(ShapeCtx *c, bool cond, Culprit who, const char *fmt, ...)
{
    if (cond) return true;
    Module *m = c->builder->module;
    va_list ap;
    va_start(ap, fmt);
    const char *text = arena_vprintf(m->arena, fmt, ap);
    va_end(ap);
    if (c->builder->quiet) shape_internal_error(c, text);
    const char *id = arena_printf(m->arena, "%s-%.*s", c->node->op->name,
                                  (int)(who.attr ? strlen(who.attr) : 5), who.attr ? who.attr : "shape");
    c->last = diag_error(m->diag, culprit_span(c, who), id, "%s: %s", c->node->op->name, text);
    if (c->node->n_in) diag_note(c->last, (Span){ 0 }, "%s", operand_types(c));
    diag_inst(c->last, c->node->inst);
    c->failed = true;
    return false;
}

void want_hint(ShapeCtx *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    diag_hint(c->last, "%s", arena_vprintf(c->builder->module->arena, fmt, ap));
    va_end(ap);
}

void shape_warn(ShapeCtx *c, Culprit who, const char *id, const char *fmt, ...)
{
    if (c->builder->quiet || c->builder->again) return; /* passes retype what the front end has already warned about */
    Module *m = c->builder->module;
    va_list ap;
    va_start(ap, fmt);
    const char *text = arena_vprintf(m->arena, fmt, ap);
    va_end(ap);
    Diagnostic *d = diag_warning(m->diag, culprit_span(c, who), id, "%s: %s", c->node->op->name, text);
    diag_inst(d, c->node->inst);
}

/* ---- shape rules ---- */

bool shape_like_operand0(ShapeCtx *c, const Node *n, TensorType *out)
{
    (void)c;
    *out = n->in[0]->type;
    return true;
}

bool shape_same(ShapeCtx *c, const Node *n, TensorType *out)
{
    *out = n->in[0]->type;
    return want(c, out->dtype == DT_F32, IN(0), "expected f32 values, got %s", dtype_name(out->dtype));
}

/* Broadcasts all operands; false after a message that shows both shapes. */
static bool broadcast_all(ShapeCtx *c, const Node *n, TensorType *out)
{
    *out = n->in[0]->type;
    for (int i = 1; i < n->n_in; i++) {
        const TensorType left = *out, *right = &n->in[i]->type;
        int axis = 0;
        if (type_broadcast(&left, right, out, &axis)) continue;
        Arena *a = c->builder->module->arena;
        if (!want(c, false, IN(i), "%s and %s do not broadcast: they differ on axis %d",
                  type_text(a, &left), type_text(a, right), axis)) {
            diag_also(c->last, culprit_span(c, IN(0)));
            want_hint(c, "sizes must be equal, or 1, counted from the last axis");
        }
        return false;
    }
    return true;
}

bool shape_broadcast(ShapeCtx *c, const Node *n, TensorType *out)
{
    for (int i = 0; i < n->n_in; i++)
        if (!want(c, n->in[i]->type.dtype == DT_F32, IN(i), "expected f32 values, got %s",
                  type_text(c->builder->module->arena, &n->in[i]->type)))
            return false;
    return broadcast_all(c, n, out);
}

bool shape_compare(ShapeCtx *c, const Node *n, TensorType *out)
{
    const DType first = n->in[0]->type.dtype;
    for (int i = 1; i < n->n_in; i++)
        if (!want(c, n->in[i]->type.dtype == first, IN(i), "cannot compare %s with %s", dtype_name(first),
                  dtype_name(n->in[i]->type.dtype)))
            return false;
    if (!broadcast_all(c, n, out)) return false;
    out->dtype = DT_BOOL;
    return true;
}

bool shape_from_attr(ShapeCtx *c, const Node *n, TensorType *out)
{
    (void)c;
    *out = *(const TensorType *)n->attrs;
    return true;
}

bool axis_normalize(ShapeCtx *c, const Node *n, int operand, int64_t axis, int *out)
{
    const TensorType *t = &n->in[operand]->type;
    if (!want(c, axis >= -t->rank && axis < t->rank, ATTR(axis), "axis %lld is out of range for %s (rank %d)",
              (ll)axis, type_text(c->builder->module->arena, t), t->rank))
        return false;
    *out = (int)(axis < 0 ? axis + t->rank : axis);
    return true;
}

/* ---- constructors ---- */

Node *mk_add(Builder *b, Node *x, Node *y) { return mk2(b, &op_add, NULL, x, y); }
Node *mk_sub(Builder *b, Node *x, Node *y) { return mk2(b, &op_sub, NULL, x, y); }
Node *mk_mul(Builder *b, Node *x, Node *y) { return mk2(b, &op_mul, NULL, x, y); }
Node *mk_div(Builder *b, Node *x, Node *y) { return mk2(b, &op_div, NULL, x, y); }
Node *mk_neg(Builder *b, Node *x) { return mk1(b, &op_neg, NULL, x); }

Node *mk_scale(Builder *b, Node *x, double factor)
{
    return factor == 1 ? x : mk_mul(b, x, mk_const(b, DT_F32, factor));
}

/* Operators whose result type is an attribute of its own: the type goes into the attribute `shape` or `type`. */
static Node *mk_with_type(Builder *b, const OpDesc *op, Node *x, const TensorType *t)
{
    void *attrs = arena_alloc(b->module->arena, op->attr_size);
    attrs_default(op, attrs);
    TensorType *field = attrs_field(op, attrs, "shape", ATTR_SHAPE);
    if (!field) field = attrs_field(op, attrs, "type", ATTR_TYPE);
    *field = *t;
    if (!b->module->has_layouts) field->layout = LAYOUT_CANONICAL;
    return mk1(b, op, attrs, x);
}

Node *mk_reduce_to(Builder *b, Node *x, const TensorType *t)
{
    return type_same_shape(&x->type, t) ? x : mk_with_type(b, &op_reduce_to, x, t);
}

Node *mk_expand_to(Builder *b, Node *x, const TensorType *t)
{
    return type_same_shape(&x->type, t) ? x : mk_with_type(b, &op_expand, x, t);
}

Node *mk_reshape_like(Builder *b, Node *x, const TensorType *t)
{
    return type_same_shape(&x->type, t) ? x : mk_with_type(b, &op_reshape, x, t);
}

Node *mk_sum_axes(Builder *b, Node *x, int n_axes, const int *axes, bool keepdims)
{
    void *attrs = arena_alloc(b->module->arena, op_sum.attr_size);
    attrs_default(&op_sum, attrs);
    IntList *axis = attrs_field(&op_sum, attrs, "axis", ATTR_INTS);
    for (int i = 0; i < n_axes; i++) axis->v[axis->n++] = axes[i];
    *(bool *)attrs_field(&op_sum, attrs, "keepdims", ATTR_BOOL) = keepdims;
    return mk1(b, &op_sum, attrs, x);
}

static void set_int(const OpDesc *op, void *attrs, const char *name, int64_t value)
{
    *(int64_t *)attrs_field(op, attrs, name, ATTR_INT) = value;
}

Node *mk_cut(Builder *b, Node *x, int axis, int64_t from, int64_t size)
{
    void *attrs = arena_alloc(b->module->arena, op_slice.attr_size);
    attrs_default(&op_slice, attrs);
    set_int(&op_slice, attrs, "axis", axis);
    set_int(&op_slice, attrs, "start", from);
    set_int(&op_slice, attrs, "stop", from + size);
    return mk1(b, &op_slice, attrs, x);
}

Node *mk_join(Builder *b, int axis, int n, Node *const *x)
{
    return mk(b, &op_concat, &(AxisAttrs){ axis }, n, x);
}

Node *mk_unpack(Builder *b, Node *flat, int64_t from, const TensorType *t)
{
    return mk_reshape_like(b, mk_cut(b, flat, 0, from, type_numel(t, 0, t->rank)), t);
}

/* In groups, so that no node has very many operands. */
Node *mk_pack(Builder *b, Node *const *part, size_t n)
{
    enum { GROUP = 32 };
    Node **row = ARENA_ARRAY(b->module->arena, Node *, n);
    for (size_t i = 0; i < n; i++) {
        const int64_t size = type_numel(&part[i]->type, 0, part[i]->type.rank);
        const TensorType flat = type_of(DT_F32, 1, &size);
        row[i] = mk_reshape_like(b, part[i], &flat);
    }
    while (n > 1) {
        size_t groups = 0;
        for (size_t i = 0; i < n; i += GROUP) {
            const size_t many = n - i < GROUP ? n - i : GROUP;
            row[groups++] = many == 1 ? row[i] : mk_join(b, 0, (int)many, row + i);
        }
        n = groups;
    }
    return row[0];
}

void grad_put(Builder *b, const Node *n, int i, Node *d, Node **dx)
{
    dx[i] = n->in[i]->type.dtype == DT_F32 ? mk_reduce_to(b, d, &n->in[i]->type) : NULL;
}

/* ---- gradients by parts ---- */

typedef struct Parts {
    const Node *n;
    bool *reached, *depends; /* by id: some result is made of it; it is made of an operand */
    Node *(*grad)[OP_MAX_RESULTS];
} Parts;

static bool is_operand(const Node *n, const Node *x)
{
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] == x) return true;
    return false;
}

/* Operands are where the parts begin, whatever they themselves are made of. */
static bool reach(Parts *p, const Node *x)
{
    if (p->reached[x->id]) return p->depends[x->id];
    p->reached[x->id] = true;
    bool depends = is_operand(p->n, x);
    if (!depends)
        for (int i = 0; i < x->n_in; i++)
            if (x->in[i] && reach(p, x->in[i])) depends = true;
    return p->depends[x->id] = depends && x->type.dtype == DT_F32;
}

static void put_grad(Builder *b, Parts *p, Node *x, Node *d)
{
    const bool result = op_is(x, &op_result) && !is_operand(p->n, x);
    Node **slot = result ? &p->grad[x->in[0]->id][((const IndexAttrs *)x->attrs)->index] : &p->grad[x->id][0];
    *slot = *slot ? mk_add(b, *slot, d) : d;
}

void grad_of_parts(Builder *b, const Node *n, Node *const *dy, Node **dx, PartsFn parts)
{
    Arena *a = b->module->arena;
    Node *out[OP_MAX_RESULTS] = { NULL };
    parts(b, n, out);
    const size_t end = b->routine->nodes.len; /* the gradients come behind */
    Parts p = { .n = n, .reached = ARENA_ARRAY(a, bool, end + 1), .depends = ARENA_ARRAY(a, bool, end + 1) };
    p.grad = arena_alloc_array(a, end + 1, sizeof *p.grad);
    for (int k = 0; k < n->n_results; k++)
        if (dy[k] && reach(&p, out[k])) put_grad(b, &p, out[k], dy[k]);
    for (size_t i = end; i-- > 0;) {
        Node *x = b->routine->nodes.data[i], *back[OP_MAX_IN] = { NULL };
        bool any = false;
        for (int k = 0; k < x->n_results; k++) any |= p.grad[i][k] != NULL;
        if (!any || is_operand(n, x) || op_has(x, OPF_SOURCE)) continue;
        x->op->grad(b, x, p.grad[i], back);
        for (int k = 0; k < x->n_in; k++)
            if (back[k] && p.depends[x->in[k]->id]) put_grad(b, &p, x->in[k], back[k]);
    }
    for (int i = 0; i < n->n_in; i++) {
        if (!n->in[i]) continue;
        dx[i] = p.grad[n->in[i]->id][0];
        p.grad[n->in[i]->id][0] = NULL; /* an operand that stands twice gets its gradient once */
    }
}
