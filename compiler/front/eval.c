/* SPDX-License-Identifier: MIT
 *
 * Evaluates expressions. Numbers, booleans and lists are computed here; as soon as a tensor takes part,
 * graph is built instead. All integer arithmetic is checked.
 */
#include "front/lower.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static bool in_std(const Frame *f)
{
    return f->block && f->block->is_std;
}

/* Faults in the standard library are faults of its caller: prefer the place in the user's text. */
static Span user_span(const Frame *f, Span own, const Value *x, const Value *y)
{
    if (!in_std(f)) return own;
    if (x && x->span.source && !x->span.source->is_std) return x->span;
    if (y && y->span.source && !y->span.source->is_std) return y->span;
    return own;
}

/* ---- names ---- */

Value read_state(Frame *f, StateVar *s, Span span)
{
    (void)f;
    Value v = s->now;
    v.span = span;
    return v;
}

Value read_binding(Frame *f, Binding *b, Span span)
{
    b->used = true;
    if (b->target) b->target->used = true;
    if (b->state) return read_state(f, b->state, span);
    Value v = b->value;
    if (!in_std(f) || !v.span.source) v.span = span;
    return v;
}

Binding *lookup(Frame *f, const char *name)
{
    Binding *b = map_get(f->names, name);
    if (!b && !f->block && f->lw->members) b = map_get(f->lw->members, name);
    return b;
}

/* A model's tensors become nodes at their first use in a routine. */
static Value read_member(Frame *f, Binding *b, Span span)
{
    if (b->value.kind == V_ABSENT) {
        TensorInfo *info = map_get(f->lw->infos, b->value.word);
        if (!info) return v_error();
        b->used = true;
        if (info->tensor->kind == TENSOR_PARAM) return param_value(f, info, span);
        return read_state(f, state_var(f, info, false), span);
    }
    if (b->value.kind == V_LAYER) b->value.layer->called = true;
    return read_binding(f, b, span);
}

typedef VEC(const char *) NameList;

static bool find_value(Frame *f, const char *name, Span span, Value *out)
{
    Lower *lw = f->lw;
    Binding *b = map_get(f->names, name);
    if (b) {
        *out = read_binding(f, b, span);
        return true;
    }
    if (!f->block && lw->members && (b = map_get(lw->members, name))) {
        *out = read_member(f, b, span);
        return true;
    }
    if (strcmp(name, "training") == 0) {
        if (!lw->r) return false;
        *out = v_bool(lw->r->kind == ROUTINE_STEP, span);
        return true;
    }
    /* The library does not see the user's constants. */
    const Decl *d = in_std(f) ? NULL : map_get(lw->globals, name);
    if (d && d->item->kind == IT_CONST) {
        *out = d->value;
        out->span = span;
        return true;
    }
    if (d && d->item->kind == IT_DIM) {
        if (!d->dim) {
            *out = v_error();
            return true;
        }
        *out = (Value){ .kind = V_SIZE, .i = 1, .dim = d->dim, .span = span };
        return true;
    }
    return false;
}

/* Everything a name could have meant, for `did you mean`. */
static void known_names(Frame *f, NameList *list)
{
    Lower *lw = f->lw;
    for (size_t i = 0; i < lw->decls.len; i++) {
        const ItemKind kind = lw->decls.data[i]->item->kind;
        if (kind == IT_CONST || kind == IT_DIM) vec_push(lw->a, list, lw->decls.data[i]->name.text);
    }
    for (size_t i = 0; i < lw->assigned.len; i++) {
        const char *name = lw->assigned.data[i]->name.text;
        if (map_get(f->names, name)) vec_push(lw->a, list, name);
    }
    if (f->block)
        for (size_t i = 0; i < f->block->item->formals.len; i++)
            vec_push(lw->a, list, f->block->item->formals.data[i].name.text);
    else if (lw->r_stmt)
        for (size_t i = 0; i < lw->r_stmt->inputs.len; i++)
            vec_push(lw->a, list, lw->r_stmt->inputs.data[i].name.text);
    if (!f->block)
        for (size_t i = 0; i < lw->layers.len; i++) vec_push(lw->a, list, lw->layers.data[i]->name);
}

static Value unknown_name(Frame *f, const char *name, Span span)
{
    Lower *lw = f->lw;
    Diagnostic *m = report(f, span, "name-unknown", "unknown name '%s'", name);
    if (!m) return v_error();
    bool is_user = false;
    const char *word = name;
    if (find_block(lw, word, &is_user) || op_find(word)) {
        diag_hint(m, "%s is called with arguments: %s(...)", name, name);
    } else if (strcmp(name, "nan") == 0 || strcmp(name, "inf") == 0) {
        diag_hint(m, "numbers are finite");
    } else if (f->block && lw->members && map_get(lw->members, name)) {
        diag_hint(m, "a block sees its arguments and the file's constants; pass %s as an argument",
                  name);
    } else {
        NameList list = { 0 };
        known_names(f, &list);
        suggest(m, name, list.data, list.len);
    }
    return v_error();
}

static Value index_list(Frame *f, Value list, Expr *index)
{
    Value i = eval(f, index);
    int64_t k = 0;
    if (list.kind == V_ERROR || !to_int(f, &i, "index", &k)) return v_error();
    if (list.kind != V_LIST) {
        Diagnostic *m = report(f, index->span, "index", "only lists have elements, this is %s",
                               v_kind_text(f->lw, &list));
        if (list.kind == V_TENSOR)
            diag_hint(m, "slice(x, axis = ..., start = ..., stop = ...) takes a part of a tensor");
        return v_error();
    }
    if (k < 0 || (uint64_t)k >= list.list->len) {
        report(f, i.span, "index", "index %" PRId64 " is outside the list of %zu elements", k,
               list.list->len);
        return v_error();
    }
    Value v = list.list->data[k];
    if (!in_std(f)) v.span = index->span;
    return v;
}

static Value eval_path(Frame *f, Expr *e)
{
    const Path *p = e->path;
    Value v;
    if (!find_value(f, p->head.text, p->head.span, &v))
        return unknown_name(f, p->head.text, p->head.span);
    for (size_t i = 0; i < p->steps.len; i++) {
        const PathStep *step = &p->steps.data[i];
        if (step->index) {
            v = index_list(f, v, step->index);
        } else {
            if (v.kind != V_ERROR)
                report(f, step->span, "path", "%s has no part '%s' that could be used as a value",
                       p->head.text, step->field);
            return v_error();
        }
    }
    if (!in_std(f) && v.kind != V_ERROR) v.span = e->span;
    return v;
}

/* ---- arithmetic ---- */

static Value overflow(Frame *f, Span span, ExprOp op, const Value *x, const Value *y)
{
    report(f, span, "overflow", "%" PRId64 " %s %" PRId64 " does not fit 64 bits", x->i,
           expr_op_sign(op), y->i);
    return v_error();
}

static Value int_power(Frame *f, Span span, const Value *x, const Value *y)
{
    if (y->i < 0) return v_float(pow((double)x->i, (double)y->i), span);
    int64_t r = 1, base = x->i, n = y->i;
    while (n) {
        if ((n & 1) && __builtin_mul_overflow(r, base, &r)) return overflow(f, span, XO_POW, x, y);
        n >>= 1;
        if (n && __builtin_mul_overflow(base, base, &base)) return overflow(f, span, XO_POW, x, y);
    }
    return v_int(r, span);
}

static Value int_divide(Frame *f, Span span, ExprOp op, const Value *x, const Value *y)
{
    if (y->i == 0) {
        report(f, span, "divide", "division by zero");
        return v_error();
    }
    if (x->i == INT64_MIN && y->i == -1) return overflow(f, span, op, x, y);
    const int64_t rest = x->i % y->i;
    if (op == XO_MOD) return v_int(rest, span);
    if (rest == 0) return v_int(x->i / y->i, span);
    Diagnostic *m =
        report(f, span, "divide", "%" PRId64 " / %" PRId64 " is not a whole number", x->i, y->i);
    diag_hint(m,
              "write floor(%" PRId64 ".0 / %" PRId64
              ") or ceil(...) for a whole number, a float for a fraction",
              x->i, y->i);
    return v_error();
}

static Value int_pair(Frame *f, ExprOp op, Span span, const Value *x, const Value *y)
{
    int64_t r = 0;
    switch (op) {
    case XO_ADD:
        if (__builtin_add_overflow(x->i, y->i, &r)) return overflow(f, span, op, x, y);
        return v_int(r, span);
    case XO_SUB:
        if (__builtin_sub_overflow(x->i, y->i, &r)) return overflow(f, span, op, x, y);
        return v_int(r, span);
    case XO_MUL:
        if (__builtin_mul_overflow(x->i, y->i, &r)) return overflow(f, span, op, x, y);
        return v_int(r, span);
    case XO_DIV:
    case XO_MOD: return int_divide(f, span, op, x, y);
    case XO_POW: return int_power(f, span, x, y);
    case XO_EQ: return v_bool(x->i == y->i, span);
    case XO_NE: return v_bool(x->i != y->i, span);
    case XO_LT: return v_bool(x->i < y->i, span);
    case XO_LE: return v_bool(x->i <= y->i, span);
    case XO_GT: return v_bool(x->i > y->i, span);
    case XO_GE: return v_bool(x->i >= y->i, span);
    case XO_AND:
    case XO_OR:
    case XO_NEG:
    case XO_NOT: break;
    }
    report(f, span, "type", "'%s' needs true or false, found %s", expr_op_sign(op),
           v_kind_text(f->lw, x));
    return v_error();
}

static Value float_pair(Frame *f, ExprOp op, Span span, const Value *vx, const Value *vy)
{
    const double x = v_number(vx), y = v_number(vy);
    double r = 0;
    switch (op) {
    case XO_ADD: r = x + y; break;
    case XO_SUB: r = x - y; break;
    case XO_MUL: r = x * y; break;
    case XO_DIV:
        if (y == 0) {
            report(f, span, "divide", "division by zero");
            return v_error();
        }
        r = x / y;
        break;
    case XO_MOD: report(f, span, "type", "'%%' needs integers"); return v_error();
    case XO_POW: r = pow(x, y); break;
    case XO_EQ: return v_bool(x == y, span);
    case XO_NE: return v_bool(x != y, span);
    case XO_LT: return v_bool(x < y, span);
    case XO_LE: return v_bool(x <= y, span);
    case XO_GT: return v_bool(x > y, span);
    case XO_GE: return v_bool(x >= y, span);
    case XO_AND:
    case XO_OR:
    case XO_NEG:
    case XO_NOT:
        report(f, span, "type", "'%s' needs true or false, found %s", expr_op_sign(op),
               v_kind_text(f->lw, vx));
        return v_error();
    }
    if (!isfinite(r)) {
        report(f, span, "overflow", "the result of '%s' is not a finite number", expr_op_sign(op));
        return v_error();
    }
    return v_float(r, span);
}

static Value size_scale(Frame *f, ExprOp op, Span span, Value size, int64_t by)
{
    if (op == XO_MUL && (by < 1 || __builtin_mul_overflow(size.i, by, &size.i))) {
        report(f, span, "shape-size", "a size must be at least 1");
        return v_error();
    }
    if (op == XO_DIV) {
        if (by < 1 || size.i % by != 0) {
            report(f, span, "divide", "%s is not a whole multiple of %" PRId64,
                   v_kind_text(f->lw, &size), by);
            return v_error();
        }
        size.i /= by;
    }
    size.span = span;
    return size;
}

static const char *tensor_op(ExprOp op)
{
    static const char *const name[] = {
        [XO_ADD] = "add",         [XO_SUB] = "sub",       [XO_MUL] = "mul",
        [XO_DIV] = "div",         [XO_MOD] = NULL,        [XO_POW] = "pow",
        [XO_EQ] = "equal",        [XO_NE] = "not_equal",  [XO_LT] = "less",
        [XO_LE] = "less_equal",   [XO_GT] = "greater",    [XO_GE] = "greater_equal",
        [XO_AND] = "logical_and", [XO_OR] = "logical_or", [XO_NEG] = "neg",
        [XO_NOT] = "logical_not",
    };
    return name[op];
}

/* Builds an operator whose message, if its shapes do not fit, underlines the operands. */
static Value tensor_pair(Frame *f, ExprOp op, Span span, const Value *x, const Value *y)
{
    Lower *lw = f->lw;
    const char *name = tensor_op(op);
    if (!name) {
        report(f, span, "type", "'%s' works on compile-time numbers only", expr_op_sign(op));
        return v_error();
    }
    const TensorType *tx = x->kind == V_TENSOR ? &x->node->type : NULL;
    const TensorType *ty = y->kind == V_TENSOR ? &y->node->type : NULL;
    Node *in[2] = { to_node(f, x, ty), NULL };
    if (!in[0]) return v_error();
    in[1] = to_node(f, y, tx);
    if (!in[1]) return v_error();
    const OpDesc *desc = need_op(f, name, span);
    if (!desc) return v_error();
    const Span spans[2] = { x->span, y->span };
    const CallSpans call = { .in = spans, .n_in = 2 };
    lw->b.span = caller_span(f, span);
    lw->b.inst = f->inst;
    lw->b.spans = &call;
    Node *n = mk2(&lw->b, desc, NULL, in[0], in[1]);
    lw->b.spans = NULL;
    return v_node(n, span);
}

static bool lists_equal(Frame *f, const Value *x, const Value *y, bool *equal)
{
    *equal = x->list->len == y->list->len;
    for (size_t i = 0; *equal && i < x->list->len; i++) {
        Value v = eval_pair(f, XO_EQ, x->span, x->list->data[i], y->list->data[i]);
        if (v.kind != V_BOOL) return false;
        *equal = v.i != 0;
    }
    return true;
}

static Value list_pair(Frame *f, ExprOp op, Span span, const Value *x, const Value *y)
{
    Lower *lw = f->lw;
    if (op == XO_ADD) {
        ValueVec all = { 0 };
        if (x->list->len + y->list->len > MAX_LIST) {
            report(f, span, "limit-list", "a list has at most %d elements", MAX_LIST);
            return v_error();
        }
        for (size_t i = 0; i < x->list->len; i++) vec_push(lw->a, &all, x->list->data[i]);
        for (size_t i = 0; i < y->list->len; i++) vec_push(lw->a, &all, y->list->data[i]);
        return v_list(lw, &all, span);
    }
    if (op == XO_EQ || op == XO_NE) {
        bool equal = false;
        if (!lists_equal(f, x, y, &equal)) return v_error();
        return v_bool(equal == (op == XO_EQ), span);
    }
    report(f, span, "type", "lists can be joined with '+' and compared with '==' and '!='");
    return v_error();
}

Value eval_pair(Frame *f, ExprOp op, Span span, Value x, Value y)
{
    if (x.kind == V_ERROR || y.kind == V_ERROR) return v_error();
    if (x.kind == V_INT && y.kind == V_INT) return int_pair(f, op, span, &x, &y);
    if (v_is_number(&x) && v_is_number(&y)) return float_pair(f, op, span, &x, &y);
    const bool compares = op == XO_EQ || op == XO_NE;
    if (compares && x.kind == V_BOOL && y.kind == V_BOOL)
        return v_bool((x.i == y.i) == (op == XO_EQ), span);
    if (compares && (x.kind == V_WORD || y.kind == V_WORD)) {
        const bool same = x.kind == V_WORD && y.kind == V_WORD && strcmp(x.word, y.word) == 0;
        return v_bool(same == (op == XO_EQ), span);
    }
    if (x.kind == V_LIST && y.kind == V_LIST) return list_pair(f, op, span, &x, &y);
    if (x.kind == V_SIZE && y.kind == V_INT && (op == XO_MUL || op == XO_DIV))
        return size_scale(f, op, span, x, y.i);
    if (x.kind == V_INT && y.kind == V_SIZE && op == XO_MUL) return size_scale(f, op, span, y, x.i);
    if (x.kind == V_SIZE && y.kind == V_SIZE && compares && x.dim == y.dim)
        return v_bool((x.i == y.i) == (op == XO_EQ), span);
    if (v_is_tensor_like(&x) && v_is_tensor_like(&y)) return tensor_pair(f, op, span, &x, &y);
    const Value *odd = v_is_tensor_like(&x) ? &y : &x;
    if (odd->kind == V_TUPLE || odd->kind == V_LAYER) {
        to_node(f, odd, NULL);
    } else {
        report(f, odd->span.source ? odd->span : span, "type", "'%s' does not work on %s",
               expr_op_sign(op), v_kind_text(f->lw, odd));
    }
    return v_error();
}

/* A bare word is a value only next to another word: reduce == mean. */
static Value eval_word_or_value(Frame *f, Expr *e, const Value *other)
{
    const char *name;
    Value v;
    if (!expr_is_name(e, &name)) return eval(f, e);
    const bool local = map_get(f->names, name) != NULL;
    if (other->kind == V_WORD && !local) return v_word(name, e->span);
    if (find_value(f, name, e->span, &v)) return v;
    return other->kind == V_LIST ? v_word(name, e->span) : eval(f, e);
}

static Value eval_logic(Frame *f, Expr *e, Value x)
{
    if (x.kind == V_BOOL) {
        if ((x.i != 0) == (e->op == XO_OR)) return v_bool(x.i != 0, e->span);
        Value y = eval(f, e->b);
        if (y.kind == V_BOOL) return v_bool(y.i != 0, e->span);
        if (y.kind == V_TENSOR || y.kind == V_ERROR) return y;
        report(f, y.span, "type", "'%s' needs true or false, found %s", expr_op_sign(e->op),
               v_kind_text(f->lw, &y));
        return v_error();
    }
    Value y = eval(f, e->b);
    return eval_pair(f, e->op, e->span, x, y);
}

static Value eval_binary(Frame *f, Expr *e)
{
    VEC(Expr *) spine = { 0 };
    Expr *left = e;
    for (; left->kind == EX_BINARY; left = left->a) vec_push(f->lw->a, &spine, left);
    Value x = spine.data[spine.len - 1]->op == XO_EQ || spine.data[spine.len - 1]->op == XO_NE
                  ? eval_word_or_value(f, left, &(Value){ .kind = V_ABSENT })
                  : eval(f, left);
    for (size_t i = spine.len; i-- > 0;) {
        Expr *at = spine.data[i];
        if (f->lw->stop) return v_error();
        if (at->op == XO_AND || at->op == XO_OR) {
            x = eval_logic(f, at, x);
            continue;
        }
        Value y =
            at->op == XO_EQ || at->op == XO_NE ? eval_word_or_value(f, at->b, &x) : eval(f, at->b);
        x = eval_pair(f, at->op, user_span(f, at->span, &x, &y), x, y);
    }
    return x;
}

static Value eval_unary(Frame *f, Expr *e)
{
    Value x = eval(f, e->a);
    const Span span = user_span(f, e->span, &x, NULL);
    if (x.kind == V_ERROR) return x;
    if (e->op == XO_NOT && x.kind == V_BOOL) return v_bool(!x.i, span);
    if (e->op == XO_NEG && x.kind == V_FLOAT) return v_float(-x.f, span);
    if (e->op == XO_NEG && x.kind == V_INT) {
        if (x.i == INT64_MIN) {
            report(f, span, "overflow", "-(%" PRId64 ") does not fit 64 bits", x.i);
            return v_error();
        }
        return v_int(-x.i, span);
    }
    if (x.kind == V_TENSOR || x.kind == V_HYPER || x.kind == V_SIZE) {
        Node *in = to_node(f, &x, NULL);
        return in ? v_node(apply(f, tensor_op(e->op), 1, &in, span), span) : v_error();
    }
    report(f, span, "type", "'%s' does not work on %s", expr_op_sign(e->op),
           v_kind_text(f->lw, &x));
    return v_error();
}

static Value eval_list(Frame *f, Expr *e)
{
    ValueVec all = { 0 };
    if (e->list.len > MAX_LIST) {
        report(f, e->span, "limit-list", "a list has at most %d elements", MAX_LIST);
        return v_error();
    }
    for (size_t i = 0; i < e->list.len; i++) {
        Value v = eval(f, e->list.data[i]);
        if (v.kind == V_ERROR) return v;
        if (v.kind == V_TUPLE) {
            to_node(f, &v, NULL);
            return v_error();
        }
        vec_push(f->lw->a, &all, v);
    }
    Value list = v_list(f->lw, &all, e->span);
    return list;
}

static Value eval_pipe(Frame *f, Expr *e)
{
    Value x = eval(f, e->a);
    for (size_t i = 0; i < e->list.len; i++) {
        if (x.kind == V_ERROR) return x;
        if (x.kind == V_TUPLE) {
            to_node(f, &x, NULL);
            return v_error();
        }
        x = eval_call(f, e->list.data[i], &x);
    }
    return x;
}

Value eval(Frame *f, Expr *e)
{
    if (f->lw->stop) return v_error();
    switch (e->kind) {
    case EX_ERROR: return v_error();
    case EX_INT: return v_int(e->i, e->span);
    case EX_FLOAT: return v_float(e->f, e->span);
    case EX_BOOL: return v_bool(e->i != 0, e->span);
    case EX_STRING: {
        Diagnostic *m = report(f, e->span, "type", "a string is only used by import");
        if (*e->s && strspn(e->s, "0123456789.-") == strlen(e->s))
            diag_hint(m, "write the number without quotes");
        return v_error();
    }
    case EX_PATH: return eval_path(f, e);
    case EX_CALL: return eval_call(f, e, NULL);
    case EX_PIPE: return eval_pipe(f, e);
    case EX_LIST: return eval_list(f, e);
    case EX_UNARY: return eval_unary(f, e);
    case EX_BINARY: return eval_binary(f, e);
    case EX_COND: {
        Value c = eval(f, e->a);
        bool yes = false;
        if (!to_bool(f, &c, "condition", &yes)) return v_error();
        return eval(f, yes ? e->b : e->c);
    }
    }
    return v_error();
}

/* ---- types and formals ---- */

static bool dtype_of(const char *name, DType *t)
{
    static const DType all[] = { DT_F32, DT_I32, DT_U8, DT_BOOL };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(dtype_name(all[i]), name) == 0) {
            *t = all[i];
            return true;
        }
    }
    return false;
}

bool eval_type(Frame *f, const TypeExpr *t, TensorType *out)
{
    DType dtype = DT_F32;
    bool ok = dtype_of(t->name.text, &dtype);
    if (!ok) {
        Diagnostic *m =
            report(f, t->name.span, "type-unknown", "unknown element type '%s'", t->name.text);
        if (strncmp(t->name.text, "f", 1) == 0)
            diag_hint(m, "the real type is f32; --real=f64 compiles it to double");
        else
            diag_hint(m, "element types are f32, i32, u8 and bool");
    }
    ValueVec sizes = { 0 };
    for (size_t i = 0; i < t->dims.len; i++) {
        Value v = eval(f, t->dims.data[i]);
        if (v.kind == V_ERROR) ok = false;
        /* A list stands for its elements: f32[sizes]. */
        for (size_t k = 0; v.kind == V_LIST && k < v.list->len; k++)
            vec_push(f->lw->a, &sizes, v.list->data[k]);
        if (v.kind != V_LIST) vec_push(f->lw->a, &sizes, v);
    }
    if (!ok) return false;
    Value list = v_list(f->lw, &sizes, t->span);
    return to_shape(f, &list, dtype, false, out);
}

bool formal_kind(Frame *f, const Formal *formal, FormalKind *kind)
{
    static const struct {
        const char *word;
        FormalKind kind;
    } words[] = { { "int", FK_INT },   { "float", FK_FLOAT }, { "bool", FK_BOOL },
                  { "list", FK_LIST }, { "int2", FK_INT2 },   { "pad", FK_PAD },
                  { "name", FK_NAME }, { "init", FK_INIT },   { "reduction", FK_REDUCTION },
                  { "f32", FK_F32 },   { "i32", FK_I32 } };
    *kind = FK_TENSOR;
    if (!formal->type) return true;
    *kind = FK_TYPED;
    if (formal->type->shaped) return true;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(words[i].word, formal->type->name.text) == 0) {
            *kind = words[i].kind;
            return true;
        }
    }
    Diagnostic *m =
        report(f, formal->type->span, "type-unknown", "unknown type '%s'", formal->type->name.text);
    diag_hint(m, "arguments are int, float, bool, list, int2, pad, name, reduction, init, or a "
                 "tensor: f32 or i32 of any shape, or such as f32[B, 10]");
    return false;
}

Value eval_as(Frame *f, Expr *e, FormalKind kind)
{
    const char *name;
    if (kind == FK_INIT) return eval_init(f, e);
    const bool is_word = kind == FK_NAME || kind == FK_REDUCTION;
    if ((is_word || kind == FK_PAD) && expr_is_name(e, &name)) {
        Value v;
        if (find_value(f, name, e->span, &v) && (kind == FK_PAD || v.kind == V_WORD)) return v;
        if (is_word || strcmp(name, "same") == 0) return v_word(name, e->span);
        Diagnostic *m = report(f, e->span, "name-unknown", "unknown name '%s'", name);
        diag_hint(m, "pad is a number, [h, w], [top, left, bottom, right], or the word same");
        return v_error();
    }
    return eval(f, e);
}

static Value to_int_list(Frame *f, const Formal *formal, const Value *v, size_t n)
{
    Lower *lw = f->lw;
    ValueVec all = { 0 };
    if (v->kind == V_INT) {
        for (size_t i = 0; i < n; i++) vec_push(lw->a, &all, *v);
        return v_list(lw, &all, v->span);
    }
    const bool pad = n == 4;
    if (v->kind == V_LIST && (v->list->len == n || (pad && v->list->len == 2))) {
        for (size_t i = 0; i < n; i++) {
            const Value *x = &v->list->data[i % v->list->len];
            int64_t k;
            if (!to_int(f, x, formal->name.text, &k)) return v_error();
            vec_push(lw->a, &all, *x);
        }
        return v_list(lw, &all, v->span);
    }
    report(f, v->span, "type", "%s: expected %s, found %s", formal->name.text,
           pad ? "an integer, [h, w], [top, left, bottom, right] or same" : "an integer or [h, w]",
           v_kind_text(lw, v));
    return v_error();
}

Value convert(Frame *f, const Formal *formal, Value v)
{
    FormalKind kind;
    if (v.kind == V_ERROR || !formal_kind(f, formal, &kind)) return v_error();
    const char *name = formal->name.text;
    switch (kind) {
    case FK_TENSOR:
        if (formal->optional && v.kind == V_ABSENT) return v;
        return v_node(to_node(f, &v, NULL), v.span);
    case FK_F32:
    case FK_I32: {
        const DType dtype = kind == FK_F32 ? DT_F32 : DT_I32;
        Node *n = to_node(f, &v, NULL);
        if (!n) return v_error();
        if (n->type.dtype == dtype) return v_node(n, v.span);
        Diagnostic *m = report(f, v.span, "type-argument", "%s: expected %s, found %s", name,
                               dtype_name(dtype), type_text(f->lw->a, &n->type));
        diag_hint(m,
                  dtype == DT_I32 ? "classes are whole numbers from 0 on"
                  : n->type.dtype == DT_I32
                      ? "cast(.., to = f32) makes numbers of classes, one_hot(.., n) shares of them"
                      : "cast(.., to = f32) makes numbers of it");
        return v_error();
    }
    case FK_TYPED: {
        TensorType want;
        Node *n = to_node(f, &v, NULL);
        if (!n || !eval_type(f, formal->type, &want)) return v_error();
        if (!type_equal(&want, &n->type)) {
            report(f, v.span, "type-argument", "%s: expected %s, found %s", name,
                   type_text(f->lw->a, &want), type_text(f->lw->a, &n->type));
            return v_error();
        }
        return v_node(n, v.span);
    }
    case FK_INT: {
        int64_t i;
        return to_int(f, &v, name, &i) ? v : v_error();
    }
    case FK_FLOAT: {
        double x;
        return to_float(f, &v, name, &x) ? v_float(x, v.span) : v_error();
    }
    case FK_BOOL: {
        bool b;
        return to_bool(f, &v, name, &b) ? v : v_error();
    }
    case FK_LIST:
        if (v.kind == V_INT) return to_int_list(f, formal, &v, 1);
        if (v.kind == V_LIST) return v;
        report(f, v.span, "type", "%s: expected a list, found %s", name, v_kind_text(f->lw, &v));
        return v_error();
    case FK_INT2: return to_int_list(f, formal, &v, 2);
    case FK_PAD:
        if (v.kind == V_WORD && strcmp(v.word, "same") == 0) return v;
        return to_int_list(f, formal, &v, 4);
    case FK_REDUCTION: {
        static const char *const words[] = { "mean", "sum", "none" };
        for (int i = 0; i < 3; i++)
            if (v.kind == V_WORD && strcmp(v.word, words[i]) == 0) return v;
        Diagnostic *m = report(f, v.span, "reduction", "%s: expected mean, sum or none, found %s",
                               name, v_kind_text(f->lw, &v));
        if (v.kind == V_WORD) suggest(m, v.word, words, 3);
        return v_error();
    }
    case FK_NAME:
        if (v.kind == V_WORD) return v;
        report(f, v.span, "type", "%s: expected a word, found %s", name, v_kind_text(f->lw, &v));
        return v_error();
    case FK_INIT:
        if (v.kind == V_INIT) return v;
        report(f, v.span, "type", "%s: expected an initialiser, found %s", name,
               v_kind_text(f->lw, &v));
        return v_error();
    }
    return v_error();
}
