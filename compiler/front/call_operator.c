/* SPDX-License-Identifier: MIT
 *
 * Calls of operators. In: an operator of the table and the arguments of a call, or operands and attributes that the
 * front end itself gives. Out: the node's value. Arguments are sorted into operands and attributes, and what does not
 * fit is reported where it stands in the program.
 */
#include "front/lower.h"

#include <math.h>
#include <string.h>

const OpDesc *need_op(Frame *f, const char *name, Span span)
{
    const OpDesc *op = op_find(name);
    if (!op) report(f, span, "operator-missing", "this compiler has no operator '%s'", name);
    return op;
}

/* Builds a node whose operands and attributes stand nowhere in particular. */
static Node *build(Frame *f, const OpDesc *op, const void *attrs, int n_in, Node *const *in,
                   Span span)
{
    Builder *b = &f->lw->b;
    if (!op || !can_build(f, span)) return NULL;
    for (int i = 0; i < n_in; i++)
        if (!in[i]) return NULL;
    b->span = caller_span(f, span);
    b->inst = f->inst;
    b->spans = NULL;
    return mk(b, op, attrs, n_in, in);
}

Node *apply(Frame *f, const char *name, int n_in, Node *const *in, Span span)
{
    return build(f, need_op(f, name, span), NULL, n_in, in, span);
}

static void *default_attrs(Frame *f, const OpDesc *op)
{
    if (!op->attr_size) return NULL;
    void *attrs = arena_alloc(f->lw->a, op->attr_size);
    attrs_default(op, attrs);
    return attrs;
}

static const AttrDef *find_attr(const OpDesc *op, const char *name)
{
    for (const AttrDef *d = op->attrs; d && d->name; d++)
        if (strcmp(d->name, name) == 0) return d;
    return NULL;
}

Node *apply_ints(Frame *f, const char *name, Node *x, Span span, int n, const char *const *names,
                 const int64_t *values)
{
    const OpDesc *op = need_op(f, name, span);
    if (!op || !x) return NULL;
    void *attrs = default_attrs(f, op);
    for (int i = 0; i < n; i++) {
        const AttrDef *d = find_attr(op, names[i]);
        const Value v = v_int(values[i], span);
        if (!d || !set_attr(f, op, attrs, d, &v)) return NULL;
    }
    return build(f, op, attrs, 1, &x, span);
}

Node *apply_shape(Frame *f, const char *name, Node *x, Span span, const TensorType *shape)
{
    const OpDesc *op = need_op(f, name, span);
    if (!op || !x) return NULL;
    void *attrs = default_attrs(f, op);
    TensorType *t = attrs_field(op, attrs, "shape", ATTR_SHAPE);
    if (!t) return NULL;
    *t = *shape;
    t->dtype = DT_F32;
    t->layout = LAYOUT_CANONICAL;
    return build(f, op, attrs, 1, &x, span);
}

static bool in_range(Frame *f, const AttrDef *d, const Value *v, double x)
{
    if (isnan(x)) {
        report(f, v->span, "attribute-range", "%s must be a number", d->name);
        return false;
    }
    if ((d->min == 0 && d->max == 0) || (x >= d->min && x <= d->max)) return true;
    report(f, v->span, "attribute-range", "%s must be %s, found %g", d->name,
           range_text(f->lw, d->min, d->max), x);
    return false;
}

static bool set_ints(Frame *f, const AttrDef *d, const Value *v, int64_t *out, size_t max,
                     size_t *n)
{
    *n = 0;
    if (v->kind == V_INT) {
        if (!in_range(f, d, v, (double)v->i)) return false;
        out[(*n)++] = v->i;
        return true;
    }
    if (v->kind != V_LIST || v->list->len > max) {
        report(f, v->span, "type",
               "%s: expected an integer or a list of at most %zu integers, found %s", d->name, max,
               v_kind_text(f->lw, v));
        return false;
    }
    for (size_t i = 0; i < v->list->len; i++) {
        const Value *x = &v->list->data[i];
        if (!to_int(f, x, d->name, &out[i]) || !in_range(f, d, x, (double)out[i])) return false;
    }
    *n = v->list->len;
    return true;
}

static bool set_choice(Frame *f, const AttrDef *d, const Value *v, int *out)
{
    size_t n = 0;
    for (; d->choices[n]; n++) {
        if (v->kind == V_WORD && strcmp(d->choices[n], v->word) == 0) {
            *out = (int)n;
            return true;
        }
    }
    StrBuf sb;
    sb_init(&sb, f->lw->a);
    for (size_t i = 0; i < n; i++) sb_printf(&sb, "%s%s", i ? ", " : "", d->choices[i]);
    Diagnostic *m = report(f, v->span, "attribute-choice", "%s must be one of %s; found %s",
                           d->name, sb.text, v_kind_text(f->lw, v));
    if (v->kind == V_WORD) suggest(m, v->word, d->choices, n);
    return false;
}

bool set_attr(Frame *f, const OpDesc *op, void *attrs, const AttrDef *d, const Value *v)
{
    void *p = (char *)attrs + d->offset;
    if (v->kind == V_ERROR) return false;
    switch (d->kind) {
    case ATTR_INT: return to_int(f, v, d->name, p) && in_range(f, d, v, (double)*(int64_t *)p);
    case ATTR_INT2: {
        int64_t *pair = p;
        size_t n = 0;
        if (!set_ints(f, d, v, pair, 2, &n)) return false;
        if (n == 1) pair[1] = pair[0];
        if (n > 0) return true;
        report(f, v->span, "type", "%s: expected an integer or [h, w], found []", d->name);
        return false;
    }
    case ATTR_FLOAT: return to_float(f, v, d->name, p) && in_range(f, d, v, *(double *)p);
    case ATTR_BOOL: return to_bool(f, v, d->name, p);
    case ATTR_CHOICE: return set_choice(f, d, v, p);
    case ATTR_INTS: {
        IntList *list = p;
        size_t n = 0;
        if (!set_ints(f, d, v, list->v, ATTR_LIST_MAX, &n)) return false;
        list->n = (int)n;
        return true;
    }
    case ATTR_SHAPE: return to_shape(f, v, DT_F32, true, p);
    case ATTR_TYPE:
    case ATTR_PTR: break;
    }
    report(f, v->span, "argument-unknown", "%s: %s cannot be written in a program", op->name,
           d->name);
    return false;
}

/* One operator call while its arguments are sorted into operands and attributes. */
typedef struct OpCall {
    const OpDesc *op;
    void *attrs;
    VEC(Node *) in;
    VEC(Span) in_spans;
    VEC(const char *) attr_names;
    VEC(Span) attr_spans;
    StrMap *given; /* name -> Span */
    int n_fixed;   /* operands in the table; a starred one takes any number */
    bool starred, failed;
    const AttrDef *next_attr;
    int next_operand;
} OpCall;

static size_t base_length(const char *operand)
{
    return strcspn(operand, "?*");
}

static void note_given(Frame *f, OpCall *c, const char *name, Span span)
{
    const Span *before = map_get(c->given, name);
    if (before) {
        Diagnostic *m = report(f, span, "argument-twice", "%s is given twice", name);
        diag_also(m, *before);
        c->failed = true;
        return;
    }
    map_set(c->given, name, arena_dup(f->lw->a, &span, sizeof span));
}

static void put_operand(Frame *f, OpCall *c, int i, const Value *v)
{
    Lower *lw = f->lw;
    while ((int)c->in.len <= i) {
        vec_push(lw->a, &c->in, NULL);
        vec_push(lw->a, &c->in_spans, (Span){ 0 });
    }
    const TensorType *like = NULL;
    for (size_t k = 0; k < c->in.len && !like; k++)
        if (c->in.data[k]) like = &c->in.data[k]->type;
    if (v->kind == V_ABSENT) return;
    Node *n = to_node(f, v, like);
    if (!n) c->failed = true;
    c->in.data[i] = n;
    c->in_spans.data[i] = v->span;
}

static void put_attr(Frame *f, OpCall *c, const AttrDef *d, const Value *v)
{
    note_given(f, c, d->name, v->span);
    vec_push(f->lw->a, &c->attr_names, d->name);
    vec_push(f->lw->a, &c->attr_spans, v->span);
    if (!set_attr(f, c->op, c->attrs, d, v)) c->failed = true;
}

static void put_starred(Frame *f, OpCall *c, const Value *v)
{
    if (v->kind == V_LIST) {
        for (size_t i = 0; i < v->list->len; i++) put_starred(f, c, &v->list->data[i]);
        return;
    }
    put_operand(f, c, (int)c->in.len, v);
}

static void put_positional(Frame *f, OpCall *c, const CallArg *arg)
{
    const OpDesc *op = c->op;
    Value v = arg->value;
    if (c->next_operand < c->n_fixed || c->starred) {
        const char *operand =
            op->in[c->next_operand < c->n_fixed ? c->next_operand : c->n_fixed - 1];
        const bool optional = operand[base_length(operand)] == '?';
        if (arg->expr) v = eval(f, arg->expr);
        if (v.kind == V_ERROR) { /* it takes its place, so that the next is not taken for it */
            c->failed = true;
            if (operand[base_length(operand)] != '*') c->next_operand++;
            return;
        }
        if (operand[base_length(operand)] == '*') {
            put_starred(f, c, &v);
            return;
        }
        if (!optional || v.kind == V_TENSOR || v.kind == V_HYPER || v.kind == V_ABSENT) {
            const char *name = arena_strndup(f->lw->a, operand, base_length(operand));
            note_given(f, c, name, v.span);
            put_operand(f, c, c->next_operand++, &v);
            return;
        }
        c->next_operand = c->n_fixed;
    } else if (arg->expr) {
        v = c->next_attr && c->next_attr->name && c->next_attr->kind == ATTR_CHOICE
                ? eval_as(f, arg->expr, FK_NAME)
                : eval(f, arg->expr);
    }
    if (v.kind == V_ERROR) {
        c->failed = true;
        return;
    }
    if (!c->next_attr || !c->next_attr->name) {
        report(f, v.span, "argument-count", "%s: too many arguments", op->name);
        c->failed = true;
        return;
    }
    put_attr(f, c, c->next_attr++, &v);
}

static void unknown_argument(Frame *f, OpCall *c, const Name *name)
{
    VEC(const char *) known = { 0 };
    for (int i = 0; i < c->n_fixed; i++)
        vec_push(f->lw->a, &known,
                 arena_strndup(f->lw->a, c->op->in[i], base_length(c->op->in[i])));
    for (const AttrDef *d = c->op->attrs; d && d->name; d++)
        if (d->kind != ATTR_TYPE && d->kind != ATTR_PTR) vec_push(f->lw->a, &known, d->name);
    Diagnostic *m = report(f, name->span, "argument-unknown", "%s has no argument '%s'",
                           c->op->name, name->text);
    suggest_all(f->lw->a, m, name->text, known.data, known.len);
    c->failed = true;
}

static void put_named(Frame *f, OpCall *c, const CallArg *arg)
{
    const AttrDef *d = find_attr(c->op, arg->name.text);
    if (d && d->kind != ATTR_TYPE && d->kind != ATTR_PTR) {
        const Value v = eval_as(f, arg->expr, d->kind == ATTR_CHOICE ? FK_NAME : FK_INT);
        if (v.kind == V_ERROR)
            c->failed = true;
        else
            put_attr(f, c, d, &v);
        return;
    }
    for (int i = 0; i < c->n_fixed; i++) {
        const char *operand = c->op->in[i];
        if (strlen(arg->name.text) != base_length(operand) ||
            strncmp(operand, arg->name.text, base_length(operand)) != 0)
            continue;
        const Value v = eval(f, arg->expr);
        note_given(f, c, arg->name.text, v.span);
        if (v.kind == V_ERROR)
            c->failed = true;
        else
            put_operand(f, c, i, &v);
        return;
    }
    unknown_argument(f, c, &arg->name);
}

static void check_complete(Frame *f, OpCall *c, Span span)
{
    for (int i = 0; i < c->n_fixed && !c->failed; i++) {
        const char *operand = c->op->in[i];
        const int len = (int)base_length(operand);
        if (operand[len] == '?') continue;
        if (operand[len] == '*' ? (int)c->in.len > i : (int)c->in.len > i && c->in.data[i])
            continue;
        report(f, span, "argument-missing", "%s needs its argument '%.*s'", c->op->name, len,
               operand);
        c->failed = true;
    }
    for (const AttrDef *d = c->op->attrs; d && d->name && !c->failed; d++) {
        if (!isnan(d->def) || map_get(c->given, d->name)) continue;
        report(f, span, "argument-missing", "%s needs its argument '%s'", c->op->name, d->name);
        c->failed = true;
    }
}

/* A place inside the standard library is no place to point at; the call is. */
static Span visible(Span span)
{
    return span.source && span.source->is_std ? (Span){ 0 } : span;
}

Value call_operator(Frame *f, const OpDesc *op, const CallArgVec *args, Span span)
{
    Lower *lw = f->lw;
    OpCall c = {
        .op = op, .attrs = default_attrs(f, op), .given = map_new(lw->a), .next_attr = op->attrs
    };
    while (c.n_fixed < OP_MAX_IN && op->in[c.n_fixed]) c.n_fixed++;
    c.starred = c.n_fixed > 0 && strchr(op->in[c.n_fixed - 1], '*');
    bool named = false;
    for (size_t i = 0; i < args->len && !lw->stop; i++) {
        const CallArg *arg = &args->data[i];
        if (arg->name.text) {
            named = true;
            put_named(f, &c, arg);
        } else if (named) {
            report(f, arg->expr ? arg->expr->span : arg->value.span, "argument-order",
                   "arguments after a named one must be named");
            c.failed = true;
        } else {
            put_positional(f, &c, arg);
        }
    }
    check_complete(f, &c, span);
    while (!c.starred && (int)c.in.len < c.n_fixed) {
        vec_push(lw->a, &c.in, NULL);
        vec_push(lw->a, &c.in_spans, (Span){ 0 });
    }
    if (c.failed || lw->stop || !can_build(f, span)) return v_error();
    for (size_t i = 0; i < c.in_spans.len; i++) c.in_spans.data[i] = visible(c.in_spans.data[i]);
    for (size_t i = 0; i < c.attr_spans.len; i++)
        c.attr_spans.data[i] = visible(c.attr_spans.data[i]);
    const CallSpans spans = { .in = c.in_spans.data,
                              .n_in = (int)c.in_spans.len,
                              .attr_names = c.attr_names.data,
                              .attr_spans = c.attr_spans.data,
                              .n_attrs = (int)c.attr_names.len };
    lw->b.span = caller_span(f, span);
    lw->b.inst = f->inst;
    lw->b.spans = &spans;
    Node *n = mk(&lw->b, op, c.attrs, (int)c.in.len, c.in.data);
    lw->b.spans = NULL;
    if (!n) return v_error();
    if (n->n_results == 1) return v_node(n, span);
    ValueVec *all = ARENA_NEW(lw->a, ValueVec);
    for (int k = 0; k < n->n_results; k++)
        vec_push(lw->a, all, v_node(mk_result(&lw->b, n, k), span));
    return (Value){ .kind = V_TUPLE, .list = all, .span = span };
}
