/* SPDX-License-Identifier: MIT
 *
 * Calls. In: a call expression and, in a pipe, the value in front of it. Out: its value. A name means
 * a layer of the model, a built-in function, the user's block, the standard library's block, or an
 * operator, in this order.
 */
#include "front/lower.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- operators ---- */

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

/* ---- blocks ---- */

Decl *find_block(Lower *lw, const char *name, bool *is_user)
{
    Decl *d = map_get(lw->globals, name);
    *is_user = d && (d->item->kind == IT_BLOCK || d->item->kind == IT_LOSS);
    return *is_user ? d : map_get(lw->std, name);
}

static const char *signature(Lower *lw, const Decl *d)
{
    StrBuf sb;
    sb_init(&sb, lw->a);
    sb_printf(&sb, "%s(", d->name.text);
    for (size_t i = 0; i < d->item->formals.len; i++) {
        const Formal *p = &d->item->formals.data[i];
        sb_printf(&sb, "%s%s%s", i ? ", " : "", p->name.text, p->optional ? "?" : "");
        if (p->type) sb_printf(&sb, ": %s%s", p->type->name.text, p->type->shaped ? "[...]" : "");
        if (p->def) {
            sb_puts(&sb, " = ");
            expr_print(&sb, p->def);
        }
    }
    sb_putc(&sb, ')');
    return sb.text;
}

static bool is_tensor_formal(const Formal *p)
{
    return !p->type || p->type->shaped || strcmp(p->type->name.text, "f32") == 0 ||
           strcmp(p->type->name.text, "i32") == 0;
}

typedef struct BlockCall {
    const Decl *block;
    Value *values; /* per formal */
    bool *given;
    const Layer *layer; /* not NULL: only open tensors may be given */
    bool binding;       /* `layer` declaration: only compile-time arguments may be given */
    bool failed;
} BlockCall;

/* May this formal be given by position in this kind of call? */
static bool takes_position(const BlockCall *c, size_t i)
{
    const Formal *p = &c->block->item->formals.data[i];
    if (c->given[i]) return false;
    if (c->layer) return is_tensor_formal(p);
    if (c->binding) return !is_tensor_formal(p);
    return true;
}

static void put_formal(Frame *f, BlockCall *c, size_t i, const CallArg *arg)
{
    const Formal *p = &c->block->item->formals.data[i];
    FormalKind kind = FK_TENSOR;
    Value v = arg->value;
    if (!formal_kind(f, p, &kind)) {
        c->failed = true;
        return;
    }
    if (arg->expr) v = eval_as(f, arg->expr, kind);
    if (!arg->expr || v.kind != V_ERROR) {
        if (!(f->block && f->block->is_std) && arg->expr) v.span = arg->expr->span;
        v = convert(f, p, v);
    }
    if (v.kind == V_ERROR) c->failed = true;
    c->values[i] = v;
    c->given[i] = true;
}

static void put_named_formal(Frame *f, BlockCall *c, const CallArgVec *args, size_t at)
{
    const CallArg *arg = &args->data[at];
    const FormalVec *formals = &c->block->item->formals;
    VEC(const char *) known = { 0 };
    for (size_t i = 0; i < formals->len; i++) {
        const Formal *p = &formals->data[i];
        vec_push(f->lw->a, &known, p->name.text);
        if (strcmp(p->name.text, arg->name.text) != 0) continue;
        const bool open = is_tensor_formal(p);
        if ((c->layer && !open) || (c->binding && open)) {
            Diagnostic *m = report(f, arg->name.span, "argument-layer", "%s is %s", p->name.text,
                                   open ? "a tensor: it is given when the layer is called"
                                        : "bound in the layer's declaration");
            if (c->layer) diag_note(m, c->layer->span, "%s is declared here", c->layer->name);
            c->failed = true;
            return;
        }
        if (c->given[i]) {
            Diagnostic *m =
                report(f, arg->name.span, "argument-twice", "%s is given twice", p->name.text);
            if (c->values[i].span.source) diag_also(m, c->values[i].span);
            for (size_t k = 0; k < at; k++)
                if (args->data[k].name.text && strcmp(args->data[k].name.text, arg->name.text) == 0)
                    diag_also(m, args->data[k].name.span);
            c->failed = true;
            return;
        }
        put_formal(f, c, i, arg);
        return;
    }
    Diagnostic *m = report(f, arg->name.span, "argument-unknown", "%s has no argument '%s'",
                           c->block->name.text, arg->name.text);
    suggest(m, arg->name.text, known.data, known.len);
    diag_note(m, (Span){ 0 }, "%s", signature(f->lw, c->block));
    c->failed = true;
}

static void put_block_args(Frame *f, BlockCall *c, const CallArgVec *args)
{
    const FormalVec *formals = &c->block->item->formals;
    size_t next = 0;
    bool named = false;
    for (size_t i = 0; i < args->len && !f->lw->stop; i++) {
        const CallArg *arg = &args->data[i];
        if (arg->name.text) {
            named = true;
            put_named_formal(f, c, args, i);
            continue;
        }
        const Span span = arg->expr ? arg->expr->span : arg->value.span;
        if (named) {
            report(f, span, "argument-order", "arguments after a named one must be named");
            c->failed = true;
            return;
        }
        while (next < formals->len && !takes_position(c, next)) next++;
        if (next == formals->len) {
            Diagnostic *m = report(f, span, "argument-count", "%s: too many arguments",
                                   c->layer ? c->layer->name : c->block->name.text);
            diag_note(m, (Span){ 0 }, "%s", signature(f->lw, c->block));
            if (c->layer) diag_hint(m, "compile-time arguments stand in the layer's declaration");
            if (c->binding) diag_hint(m, "tensors are given when the layer is called");
            c->failed = true;
            return;
        }
        put_formal(f, c, next++, arg);
    }
}

/* Defaults are evaluated in the block's own scope: they may use formals to their left. */
static void put_default(Frame *body, BlockCall *c, size_t i)
{
    const Formal *p = &c->block->item->formals.data[i];
    FormalKind kind = FK_TENSOR;
    if (!formal_kind(body, p, &kind)) {
        c->failed = true;
        return;
    }
    if (p->optional) {
        c->values[i] = (Value){ .kind = V_ABSENT };
    } else if (p->def) {
        c->values[i] = convert(body, p, eval_as(body, p->def, kind));
        if (c->values[i].kind == V_ERROR) c->failed = true;
    }
}

/* A bound of a range: a number, or what another argument was given. */
static double range_bound(const BlockCall *c, const char *text, size_t n, char *shown, size_t size)
{
    snprintf(shown, size, "%.*s", (int)n, text);
    const FormalVec *formals = &c->block->item->formals;
    for (size_t i = 0; i < formals->len; i++) {
        const Value *v = &c->values[i];
        const char *name = formals->data[i].name.text;
        if (strlen(name) != n || strncmp(name, text, n)) continue;
        const double x = v->kind == V_INT ? (double)v->i : v->kind == V_FLOAT ? v->f : NAN;
        snprintf(shown, size, "%s = %g", name, x);
        return x;
    }
    return strtod(text, NULL);
}

static bool wrong_rank(Frame *f, BlockCall *c, const Formal *p, const Value *v, const char *range)
{
    const int least = atoi(range + strcspn(range, "0123456789"));
    const bool exact = strchr(range, '=') && !strchr(range, '>');
    if (v->kind != V_TENSOR || (exact ? v->node->type.rank == least : v->node->type.rank >= least)) return false;
    report(f, v->span, "argument-range", "%s: %s must have %s%d axes, found %s", c->block->name.text, p->name.text,
           exact ? "" : "at least ", least, type_text(f->lw->a, &v->node->type));
    return true;
}

static bool out_of_range(Frame *f, const BlockCall *c, const Formal *p, const Value *v, const char *range)
{
    if (v->kind != V_INT && v->kind != V_FLOAT) return false;
    const char *open = range + strcspn(range, "[("), *comma = range + strcspn(range, ","), *from = open + 1;
    const char *to = comma + strspn(comma, ", "), *end = to + strcspn(to, ")]");
    char low[64], high[64];
    const double x = v->kind == V_INT ? (double)v->i : v->f;
    const double min = range_bound(c, from, (size_t)(comma - from), low, sizeof low);
    const double max = range_bound(c, to, (size_t)(end - to), high, sizeof high);
    const bool below = *open == '(' ? x <= min : x < min, above = *end == ')' ? x >= max : x > max;
    if (!below && !above) return false;
    if (isinf(max))
        report(f, v->span, "argument-range", "%s must be %s %s, found %g", p->name.text,
               *open == '(' ? "greater than" : "at least", low, x);
    else
        report(f, v->span, "argument-range", "%s must be in %c%s, %s%c, found %g", p->name.text, *open, low, high, *end,
               x);
    return true;
}

/* What a block of the library states in front of it: "delta in (0, inf)", "rank(x) = 3", "rank(x) >= 2". */
static void check_ranges(Frame *f, BlockCall *c)
{
    const FormalVec *formals = &c->block->item->formals;
    if (!c->block->is_std || c->failed) return;
    const StdBlock doc = block_doc(f->lw->a, c->block);
    for (size_t k = 0; k < doc.n_ranges && !c->failed; k++) {
        const bool rank = strncmp(doc.ranges[k], "rank(", 5) == 0;
        const char *name = doc.ranges[k] + (rank ? 5 : 0);
        for (size_t i = 0; i < formals->len && !c->failed; i++) {
            const Formal *p = &formals->data[i];
            const size_t n = strlen(p->name.text);
            if (strncmp(p->name.text, name, n) || (name[n] != ' ' && name[n] != ')')) continue;
            c->failed = rank ? wrong_rank(f, c, p, &c->values[i], doc.ranges[k])
                             : out_of_range(f, c, p, &c->values[i], doc.ranges[k]);
        }
    }
}

static bool complete_args(Frame *f, Frame *body, BlockCall *c, Span span)
{
    const FormalVec *formals = &c->block->item->formals;
    check_ranges(f, c); /* what was given, before defaults are made of it */
    for (size_t i = 0; i < formals->len && !c->failed; i++) {
        const Formal *p = &formals->data[i];
        if (!c->given[i] && !p->optional && !p->def) {
            Diagnostic *m = report(f, span, "argument-missing", "%s needs its argument '%s'",
                                   c->layer ? c->layer->name : c->block->name.text, p->name.text);
            diag_note(m, (Span){ 0 }, "%s", signature(f->lw, c->block));
            c->failed = true;
            break;
        }
        if (!c->given[i]) put_default(body, c, i);
        bind(body, p->name.text, c->values[i],
             (Binding){ .formal = p, .fixed = !is_tensor_formal(p) });
    }
    check_ranges(f, c);
    return !c->failed;
}

static const char *args_text(Lower *lw, const BlockCall *c)
{
    StrBuf sb;
    sb_init(&sb, lw->a);
    for (size_t i = 0; i < c->block->item->formals.len; i++) {
        const Formal *p = &c->block->item->formals.data[i];
        if (is_tensor_formal(p) || !c->given[i]) continue;
        sb_printf(&sb, "%s%s = ", sb.len ? ", " : "", p->name.text);
        v_print(&sb, &c->values[i]);
    }
    return sb.text;
}

static bool may_enter(Frame *f, const Decl *block, Span span)
{
    Lower *lw = f->lw;
    for (Frame *at = f; at; at = at->caller) {
        if (at->block != block) continue;
        report(f, span, "block-recursion", "block %s calls itself", block->name.text);
        return false;
    }
    if (f->depth >= MAX_BLOCK_DEPTH) {
        report(f, span, "limit-depth", "blocks call blocks more than %d levels deep",
               MAX_BLOCK_DEPTH);
        *lw->exit_code = 4;
        lw->stop = true;
        return false;
    }
    if (++lw->n_instances > MAX_INSTANCES) {
        report(f, span, "limit-instances", "the model has more than %d block instances",
               MAX_INSTANCES);
        *lw->exit_code = 4;
        lw->stop = true;
        return false;
    }
    return true;
}

static Value run_block(Frame *body, const Decl *block, Span span)
{
    if (block->item->kind == IT_LOSS) return eval(body, block->item->a);
    exec_body(body, &block->item->body);
    if (body->returned) return body->result;
    if (!body->lw->stop) {
        Diagnostic *m = report(body, block->item->span, "block-return", "block %s returns nothing",
                               block->name.text);
        if (m) diag_note(m, span, "called here");
    }
    return v_error();
}

static const char *with_loops(Frame *f, const char *label)
{
    StrBuf sb;
    sb_init(&sb, f->lw->a);
    sb_puts(&sb, label);
    for (size_t i = 0; i < f->loops.len; i++) sb_printf(&sb, "[%" PRId64 "]", f->loops.data[i]);
    return sb.text;
}

/* One name, loop indices included, means one place in a body. */
static bool claim_label(Frame *f, const char *label, Expr *e)
{
    Expr *other = map_get(f->labels, label);
    if (other && other != e) {
        Diagnostic *m = report(f, e->label.text ? e->label.span : e->span, "label-twice",
                               "the name %s is already taken in this body", label);
        diag_note(m, other->label.text ? other->label.span : other->span, "by this call");
        return false;
    }
    map_set(f->labels, label, e);
    return true;
}

/* Readable names in dumps and in generated code: a value is called like the instance that made it. */
static void name_result(Value *v, const char *label)
{
    if (v->kind != V_TENSOR || !label || op_has(v->node, OPF_SOURCE)) return;
    if (strcmp(v->node->name, v->node->op->name) == 0) v->node->name = label;
}

static Value call_block(Frame *f, const Decl *block, const CallArgVec *args, Expr *e)
{
    Lower *lw = f->lw;
    const size_t n = block->item->formals.len;
    BlockCall c = { .block = block,
                    .values = ARENA_ARRAY(lw->a, Value, n),
                    .given = ARENA_ARRAY(lw->a, bool, n) };
    put_block_args(f, &c, args);
    if (c.failed || lw->stop || !may_enter(f, block, e->span)) return v_error();
    const char *label =
        e->label.text ? e->label.text : arena_printf(lw->a, "%s_%d", block->name.text, e->ordinal);
    const char *full = with_loops(f, label);
    if (!claim_label(f, full, e)) return v_error();
    Frame *body = frame_new(lw, f);
    Inst *inst = ARENA_NEW(lw->a, Inst);
    inst->parent = f->inst;
    inst->block = block->name.text;
    inst->args = args_text(lw, &c);
    inst->label = full;
    inst->path = *f->path ? arena_printf(lw->a, "%s.%s", f->path, inst->label) : inst->label;
    inst->call = e->span;
    body->block = block;
    body->inst = f->block && f->block->is_std
                     ? f->inst
                     : inst; /* how the library is built is its own affair */
    body->path = inst->path;
    body->may_own = f->may_own;
    if (!complete_args(f, body, &c, e->span)) return v_error();
    Value v = run_block(body, block, e->span);
    name_result(&v, e->label.text);
    if (!(f->block && f->block->is_std)) v.span = e->span;
    return v;
}

static Value call_layer(Frame *f, Layer *layer, const CallArgVec *args, Expr *e)
{
    Lower *lw = f->lw;
    const size_t n = layer->block->item->formals.len;
    BlockCall c = { .block = layer->block,
                    .layer = layer,
                    .values = ARENA_ARRAY(lw->a, Value, n),
                    .given = ARENA_ARRAY(lw->a, bool, n) };
    layer->called = true;
    for (size_t i = 0; i < n; i++) {
        c.values[i] = layer->bound[i];
        c.given[i] = layer->bound[i].kind != V_ABSENT;
    }
    put_block_args(f, &c, args);
    if (c.failed || lw->stop || !may_enter(f, layer->block, e->span)) return v_error();
    Frame *body = frame_new(lw, f);
    Inst *inst = ARENA_NEW(lw->a, Inst);
    inst->parent = f->inst;
    inst->block = layer->block->name.text;
    inst->args = layer->args_text;
    inst->label = layer->name;
    inst->path = layer->name;
    inst->call = e->span;
    body->block = layer->block;
    body->inst = inst;
    body->path = layer->name;
    body->may_own = true;
    if (!complete_args(f, body, &c, e->span)) return v_error();
    Value v = run_block(body, layer->block, e->span);
    v.span = e->span;
    return v;
}

static void collect_args(Frame *f, const Expr *e, const Value *piped, CallArgVec *args)
{
    if (piped) vec_push(f->lw->a, args, (CallArg){ .value = *piped });
    for (size_t i = 0; i < e->args.len; i++)
        vec_push(f->lw->a, args,
                 (CallArg){ .name = e->args.data[i].name, .expr = e->args.data[i].value });
}

/* A hint where PyTorch knows a block of the library or an operator by this name. */
static bool suggest_twin(Lower *lw, Diagnostic *m, const char *name)
{
    for (size_t i = 0; i < lw->decls.len; i++) {
        const Decl *d = lw->decls.data[i];
        if (!d->is_std || (d->item->kind != IT_BLOCK && d->item->kind != IT_LOSS)) continue;
        const StdBlock doc = block_doc(lw->a, d);
        if (!is_torch_name(name, doc.torch)) continue;
        suggest_torch(m, doc.torch, d->name.text);
        return true;
    }
    for (size_t i = 0; i < op_table_len; i++) {
        if ((op_table[i]->flags & OPF_INTERNAL) || !is_torch_name(name, op_table[i]->torch)) continue;
        suggest_torch(m, op_table[i]->torch, op_table[i]->name);
        return true;
    }
    return false;
}

static Value unknown_function(Frame *f, const Expr *e)
{
    Lower *lw = f->lw;
    VEC(const char *) known = { 0 };
    for (size_t i = 0; i < lw->layers.len; i++) vec_push(lw->a, &known, lw->layers.data[i]->name);
    for (size_t i = 0; i < lw->decls.len; i++) {
        const ItemKind kind = lw->decls.data[i]->item->kind;
        if (kind == IT_BLOCK || kind == IT_LOSS)
            vec_push(lw->a, &known, lw->decls.data[i]->name.text);
    }
    for (size_t i = 0; i < op_table_len; i++)
        if (!(op_table[i]->flags & OPF_INTERNAL)) vec_push(lw->a, &known, op_table[i]->name);
    const char *name = e->path->head.text;
    Diagnostic *m =
        report(f, e->path->head.span, "name-unknown", "unknown block or operator '%s'", name);
    if (f->block && lw->members && map_get(lw->members, name))
        diag_hint(m, "%s belongs to the model; a block cannot see it", name);
    else if (!suggest_twin(lw, m, name))
        suggest(m, name, known.data, known.len);
    return v_error();
}

Layer *bind_layer(Frame *f, const char *name, Expr *call)
{
    Lower *lw = f->lw;
    bool is_user = false;
    const char *block_name = call->path->head.text;
    const Decl *block = find_block(lw, block_name, &is_user);
    if (call->label.text)
        report(f, call->label.span, "label-layer", "a layer already has its name: %s", name);
    if (call->path->steps.len || !block || block->item->kind != IT_BLOCK) {
        if (call->path->steps.len || op_find(block_name) || block) {
            Diagnostic *m =
                report(f, call->span, "layer-block",
                       "a layer is an instance of a block; '%s' is not one", block_name);
            diag_hint(m, "operators and losses have no parameters and are called directly");
        } else {
            unknown_function(f, call);
        }
        return NULL;
    }
    const size_t n = block->item->formals.len;
    BlockCall c = { .block = block,
                    .binding = true,
                    .values = ARENA_ARRAY(lw->a, Value, n),
                    .given = ARENA_ARRAY(lw->a, bool, n) };
    CallArgVec args = { 0 };
    collect_args(f, call, NULL, &args);
    put_block_args(f, &c, &args);
    if (c.failed) return NULL;
    for (size_t i = 0; i < n; i++) {
        const Formal *p = &block->item->formals.data[i];
        if (!c.given[i]) c.values[i] = (Value){ .kind = V_ABSENT };
        if (c.given[i] || is_tensor_formal(p) || p->def) continue;
        Diagnostic *m = report(f, call->span, "argument-missing", "%s needs its argument '%s'",
                               block_name, p->name.text);
        diag_note(m, (Span){ 0 }, "%s", signature(lw, block));
        return NULL;
    }
    Layer *layer = ARENA_NEW(lw->a, Layer);
    *layer = (Layer){ .name = name,
                      .block = block,
                      .bound = c.values,
                      .args_text = args_text(lw, &c),
                      .span = call->span };
    return layer;
}

/* ---- built-in functions ---- */

static bool has_args(Frame *f, const Expr *e, size_t n, size_t want, const char *usage)
{
    if (n == want) return true;
    Diagnostic *m = report(f, e->span, "argument-count", "%s takes %zu argument%s, found %zu",
                           e->path->head.text, want, want == 1 ? "" : "s", n);
    diag_hint(m, "%s", usage);
    return false;
}

static Value builtin_dimof(Frame *f, const Value *x, const Value *axis, Span span)
{
    int64_t i = 0;
    Node *n = to_node(f, x, NULL);
    if (!n || !to_int(f, axis, "axis", &i)) return v_error();
    const int rank = n->type.rank;
    if (i < -rank || i >= rank) {
        report(f, axis->span, "axis-range", "axis %" PRId64 " is out of range for %s (rank %d)", i,
               type_text(f->lw->a, &n->type), rank);
        return v_error();
    }
    const int k = (int)(i < 0 ? i + rank : i);
    if (k == 0 && n->type.batch)
        return (Value){ .kind = V_SIZE, .i = n->type.dim[0], .dim = n->type.batch, .span = span };
    return v_int(n->type.dim[k], span);
}

/* [top, left, bottom, right] for a window over axes 2 and 3 of x: `same` splits what N = ceil(W/S) needs, an
 * odd rest goes to the end. */
static Value builtin_pads(Frame *f, const Value *v, Span span)
{
    const Value *pad = &v[0];
    if (pad->kind != V_WORD) return *pad;
    Node *x = to_node(f, &v[1], NULL);
    if (!x) return v_error();
    if (x->type.rank != 4) {
        report(f, v[1].span, "shape-rank", "expected an image [N,C,H,W], found %s",
               type_text(f->lw->a, &x->type));
        return v_error();
    }
    int64_t all[4] = { 0 };
    for (int i = 0; i < 2; i++) {
        int64_t k[3];
        for (int j = 0; j < 3; j++) {
            const Value *list = &v[2 + j];
            if (list->kind != V_LIST || list->list->len != 2 || list->list->data[i].kind != V_INT)
                return v_error();
            k[j] = list->list->data[i].i;
            if (k[j] < 1 || k[j] > INT32_MAX) {
                report(f, list->span, "attribute-range",
                       "%s must be in [1, 2147483647], found %" PRId64,
                       j == 0   ? "kernel size"
                       : j == 1 ? "stride"
                                : "dilation",
                       k[j]);
                return v_error();
            }
        }
        const int64_t w = x->type.dim[2 + i], out = (w + k[1] - 1) / k[1];
        int64_t total = (out - 1) * k[1] + (k[0] - 1) * k[2] + 1 - w;
        if (total < 0) total = 0;
        all[i] = total / 2;
        all[2 + i] = total - total / 2;
    }
    ValueVec list = { 0 };
    for (int i = 0; i < 4; i++) vec_push(f->lw->a, &list, v_int(all[i], span));
    return v_list(f->lw, &list, span);
}

static Value whole(Frame *f, double x, Span span)
{
    if (fabs(x) < 9e15) return v_int((int64_t)x, span);
    report(f, span, "overflow", "the number does not fit an integer");
    return v_error();
}

/* min, max, floor and the like on compile-time numbers; *handled is false for anything else. */
static Value number_function(Frame *f, const char *name, const ValueVec *v, Span span,
                             bool *handled)
{
    static const char *const unary[] = {
        "floor", "ceil", "round", "abs", "sqrt", "exp", "log", NULL
    };
    *handled = true;
    for (size_t i = 0; i < v->len; i++)
        if (!v_is_number(&v->data[i])) *handled = false;
    if (!*handled || v->len == 0) {
        *handled = false;
        return v_error();
    }
    const bool is_min = strcmp(name, "min") == 0;
    if ((is_min || strcmp(name, "max") == 0) && v->len > 1) {
        Value best = v->data[0];
        for (size_t i = 1; i < v->len; i++)
            if (is_min ? v_number(&v->data[i]) < v_number(&best)
                       : v_number(&v->data[i]) > v_number(&best))
                best = v->data[i];
        best.span = span;
        return best;
    }
    int k = 0;
    while (unary[k] && strcmp(unary[k], name) != 0) k++;
    if (!unary[k] || v->len != 1) {
        *handled = false;
        return v_error();
    }
    const Value *x = &v->data[0];
    const double d = v_number(x);
    switch (k) {
    case 0: return x->kind == V_INT ? v_int(x->i, span) : whole(f, floor(d), span);
    case 1: return x->kind == V_INT ? v_int(x->i, span) : whole(f, ceil(d), span);
    case 2: return x->kind == V_INT ? v_int(x->i, span) : whole(f, nearbyint(d), span);
    case 3:
        if (x->kind == V_INT && x->i != INT64_MIN) return v_int(x->i < 0 ? -x->i : x->i, span);
        return v_float(fabs(d), span);
    case 4: return d < 0 ? (*handled = false, v_error()) : v_float(sqrt(d), span);
    case 5: return v_float(exp(d), span);
    default: return d <= 0 ? (*handled = false, v_error()) : v_float(log(d), span);
    }
}

/* Arguments that were evaluated on the way stand in `args`, so that nothing is evaluated twice. */
static Value call_builtin(Frame *f, Expr *e, CallArgVec *args, bool *handled)
{
    static const struct {
        const char *name, *usage;
        size_t n;
    } own[] = { { "len", "len(list)", 1 },
                { "rank", "rank(x)", 1 },
                { "dimof", "dimof(x, axis)", 2 },
                { "given", "given(y)", 1 },
                { "pads", "pads(pad, x, kernel, stride, dilation)", 5 } };
    static const char *const maths[] = { "min", "max",  "floor", "ceil", "round",
                                         "abs", "sqrt", "exp",   "log",  NULL };
    const char *name = e->path->head.text;
    size_t k = 0;
    while (k < sizeof own / sizeof *own && strcmp(own[k].name, name) != 0) k++;
    const bool is_own = k < sizeof own / sizeof *own;
    *handled = is_own;
    if (!is_own) {
        size_t i = 0;
        while (maths[i] && strcmp(maths[i], name) != 0) i++;
        if (!maths[i] || args->len == 0) return v_error();
        for (size_t j = 0; j < args->len; j++)
            if (args->data[j].name.text) return v_error();
    }
    ValueVec v = { 0 };
    for (size_t i = 0; i < args->len; i++) {
        CallArg *arg = &args->data[i];
        if (arg->name.text) {
            report(f, arg->name.span, "argument-unknown", "%s has no named arguments", name);
            return v_error();
        }
        if (arg->expr) arg->value = eval(f, arg->expr);
        arg->expr = NULL;
        if (arg->value.kind == V_ERROR) {
            *handled = true;
            return arg->value;
        }
        if (!is_own && !v_is_number(&arg->value)) return v_error();
        vec_push(f->lw->a, &v, arg->value);
    }
    const Span span =
        f->block && f->block->is_std && v.len && v.data[0].span.source ? v.data[0].span : e->span;
    if (!is_own) return number_function(f, name, &v, span, handled);
    if (!has_args(f, e, v.len, own[k].n, own[k].usage)) return v_error();
    const Value *x = &v.data[0];
    switch (k) {
    case 0:
        if (x->kind == V_LIST) return v_int((int64_t)x->list->len, span);
        report(f, x->span, "type", "len: expected a list, found %s", v_kind_text(f->lw, x));
        return v_error();
    case 1: {
        Node *n = to_node(f, x, NULL);
        return n ? v_int(n->type.rank, span) : v_error();
    }
    case 2: return builtin_dimof(f, x, &v.data[1], span);
    case 3: return v_bool(x->kind != V_ABSENT, span);
    default: return builtin_pads(f, v.data, span);
    }
}

/* ---- calls ---- */

Value eval_call(Frame *f, Expr *e, const Value *piped)
{
    Lower *lw = f->lw;
    const Path *p = e->path;
    const char *name = p->head.text;
    CallArgVec args = { 0 };
    if (p->steps.len) {
        const char *field = p->steps.data[0].field;
        if (strcmp(name, "ops") != 0 || p->steps.len != 1 || !field) {
            report(f, p->span, "call", "only blocks, layers and operators can be called");
            return v_error();
        }
        const OpDesc *op = op_find(field);
        if (!op || (op->flags & OPF_INTERNAL)) {
            VEC(const char *) known = { 0 };
            for (size_t i = 0; i < op_table_len; i++)
                if (!(op_table[i]->flags & OPF_INTERNAL))
                    vec_push(lw->a, &known, op_table[i]->name);
            Diagnostic *m =
                report(f, p->steps.data[0].span, "name-unknown", "unknown operator '%s'", field);
            suggest(m, field, known.data, known.len);
            return v_error();
        }
        collect_args(f, e, piped, &args);
        Value v = call_operator(f, op, &args, e->span);
        name_result(&v, e->label.text);
        return v;
    }
    Binding *b = lookup(f, name);
    if (b && b->value.kind == V_ERROR && !map_get(f->names, name)) return v_error();
    if (b && b->value.kind == V_LAYER && !map_get(f->names, name)) {
        if (e->label.text) {
            report(f, e->label.span, "label-layer", "the layer %s already has its name", name);
            return v_error();
        }
        collect_args(f, e, piped, &args);
        return call_layer(f, b->value.layer, &args, e);
    }
    bool is_user = false, handled = false;
    const Decl *block = find_block(lw, name, &is_user);
    if (f->block && f->block->is_std && is_user) block = map_get(lw->std, name);
    is_user = is_user && block && !block->is_std;
    collect_args(f, e, piped, &args);
    if (!is_user) {
        Value v = call_builtin(f, e, &args, &handled);
        if (handled) return v;
        if (lw->stop) return v_error();
        if ((strcmp(name, "l1") == 0 || strcmp(name, "l2") == 0) && !piped)
            return eval_penalty(f, e, name[1] == '2');
    }
    if (block) return call_block(f, block, &args, e);
    const OpDesc *op = op_find(name);
    if (!op || (op->flags & OPF_INTERNAL)) return unknown_function(f, e);
    Value v = call_operator(f, op, &args, e->span);
    name_result(&v, e->label.text);
    return v;
}
