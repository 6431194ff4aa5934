/* SPDX-License-Identifier: MIT
 *
 * Constructors of AST nodes and the text form that --dump-ast and the parse tests print.
 */
#include "front/ast.h"

#include <inttypes.h>
#include <string.h>

#include "base/map.h"

Name name_new(Arena *a, const char *text, Span span)
{
    (void)a;
    return (Name){ text, span };
}

Expr *expr_new(Arena *a, ExprKind kind, Span span)
{
    Expr *e = ARENA_NEW(a, Expr);
    e->kind = kind;
    e->span = span;
    e->depth = 1;
    return e;
}

static int max_depth(const ExprVec *v)
{
    int depth = 0;
    for (size_t i = 0; i < v->len; i++)
        if (v->data[i]->depth > depth) depth = v->data[i]->depth;
    return depth;
}

Expr *expr_unary(Arena *a, ExprOp op, Span op_span, Expr *x)
{
    Expr *e = expr_new(a, EX_UNARY, span_join(op_span, x->span));
    e->op = op;
    e->op_span = op_span;
    e->a = x;
    e->depth = x->depth + 1;
    return e;
}

/* A chain such as a + b + c leans to the left; its left spine counts once, because every walk over it is
 * a loop. */
Expr *expr_binary(Arena *a, ExprOp op, Span op_span, Expr *x, Expr *y)
{
    Expr *e = expr_new(a, EX_BINARY, span_join(x->span, y->span));
    e->op = op;
    e->op_span = op_span;
    e->a = x;
    e->b = y;
    const int left = x->kind == EX_BINARY && op != XO_POW ? x->depth : x->depth + 1;
    e->depth = left > y->depth + 1 ? left : y->depth + 1;
    return e;
}

Expr *expr_cond(Arena *a, Expr *cond, Expr *yes, Expr *no)
{
    Expr *e = expr_new(a, EX_COND, span_join(cond->span, no->span));
    e->a = cond;
    e->b = yes;
    e->c = no;
    int depth = cond->depth > yes->depth ? cond->depth : yes->depth;
    if (no->depth > depth) depth = no->depth;
    e->depth = depth + 1;
    return e;
}

Expr *expr_call(Arena *a, Path *target, const ArgVec *args, Name label, Span span)
{
    Expr *e = expr_new(a, EX_CALL, span);
    e->path = target;
    e->label = label;
    if (args) {
        e->args = *args;
        e->parens = true;
        for (size_t i = 0; i < args->len; i++)
            if (args->data[i].value->depth >= e->depth) e->depth = args->data[i].value->depth + 1;
    }
    return e;
}

Expr *expr_list(Arena *a, const ExprVec *elements, Span span)
{
    Expr *e = expr_new(a, EX_LIST, span);
    if (elements) e->list = *elements;
    e->depth = max_depth(&e->list) + 1;
    return e;
}

Stmt *stmt_new(Arena *a, StmtKind kind, Span span)
{
    Stmt *s = ARENA_NEW(a, Stmt);
    s->kind = kind;
    s->span = span;
    return s;
}

Item *item_new(Arena *a, ItemKind kind, Name name, Span span)
{
    Item *item = ARENA_NEW(a, Item);
    item->kind = kind;
    item->name = name;
    item->span = span;
    return item;
}

const char *expr_op_sign(ExprOp op)
{
    static const char *const sign[] = {
        [XO_ADD] = "+",  [XO_SUB] = "-", [XO_MUL] = "*", [XO_DIV] = "/",
        [XO_MOD] = "%",  [XO_POW] = "^", [XO_EQ] = "==", [XO_NE] = "!=",
        [XO_LT] = "<",   [XO_LE] = "<=", [XO_GT] = ">",  [XO_GE] = ">=",
        [XO_AND] = "&&", [XO_OR] = "||", [XO_NEG] = "-", [XO_NOT] = "!",
    };
    return sign[op];
}

bool expr_is_name(const Expr *e, const char **name)
{
    if (e->kind != EX_PATH || e->path->steps.len) return false;
    *name = e->path->head.text;
    return true;
}

/* ---- numbering ---- */

typedef struct Numbering {
    Arena *a;
    StrMap *count; /* name -> int */
} Numbering;

static void number_expr(const Numbering *n, Expr *e);

static void number_list(const Numbering *n, const ExprVec *v)
{
    for (size_t i = 0; i < v->len; i++) number_expr(n, v->data[i]);
}

/* Arguments come first: in f(g(x)) the call of g is the earlier one. */
static void number_call(const Numbering *n, Expr *e)
{
    for (size_t i = 0; i < e->args.len; i++) number_expr(n, e->args.data[i].value);
    const char *name = e->path->head.text;
    int *count = map_get(n->count, name);
    if (!count) {
        count = ARENA_NEW(n->a, int);
        map_set(n->count, name, count);
    }
    if (!e->label.text) e->ordinal = ++*count;
}

static void number_expr(const Numbering *n, Expr *e)
{
    VEC(Expr *) spine = { 0 };
    for (; e->kind == EX_BINARY; e = e->a) vec_push(n->a, &spine, e);
    if (e->kind == EX_CALL) {
        number_call(n, e);
    } else {
        if (e->a) number_expr(n, e->a);
        if (e->b) number_expr(n, e->b);
        if (e->c) number_expr(n, e->c);
        number_list(n, &e->list);
    }
    for (size_t i = spine.len; i-- > 0;) number_expr(n, spine.data[i]->b);
}

static void number_body(const Numbering *n, const StmtVec *body)
{
    for (size_t i = 0; i < body->len; i++) {
        Stmt *s = body->data[i];
        number_list(n, &s->values);
        if (s->a) number_expr(n, s->a);
        if (s->b) number_expr(n, s->b);
        for (size_t k = 0; k < s->scan.len; k++) number_expr(n, s->scan.data[k].value);
        for (size_t k = 0; k < s->reports.len; k++)
            if (s->reports.data[k].value) number_expr(n, s->reports.data[k].value);
        for (size_t k = 0; k < s->arms.len; k++) {
            if (s->arms.data[k].cond) number_expr(n, s->arms.data[k].cond);
            number_body(n, &s->arms.data[k].body);
        }
        number_body(n, &s->body);
    }
}

void ast_number_calls(Arena *a, const StmtVec *body, Expr *value)
{
    const Numbering n = { a, map_new(a) };
    number_body(&n, body);
    if (value) number_expr(&n, value);
}

/* ---- printing ---- */

void path_print(StrBuf *sb, const Path *p)
{
    sb_puts(sb, p->head.text);
    for (size_t i = 0; i < p->steps.len; i++) {
        if (p->steps.data[i].field) {
            sb_printf(sb, ".%s", p->steps.data[i].field);
        } else {
            sb_putc(sb, '[');
            expr_print(sb, p->steps.data[i].index);
            sb_putc(sb, ']');
        }
    }
}

static void print_list(StrBuf *sb, const ExprVec *v)
{
    for (size_t i = 0; i < v->len; i++) {
        if (i) sb_puts(sb, ", ");
        expr_print(sb, v->data[i]);
    }
}

static void print_call(StrBuf *sb, const Expr *e)
{
    path_print(sb, e->path);
    if (e->parens) {
        sb_putc(sb, '(');
        for (size_t i = 0; i < e->args.len; i++) {
            if (i) sb_puts(sb, ", ");
            if (e->args.data[i].name.text) sb_printf(sb, "%s = ", e->args.data[i].name.text);
            expr_print(sb, e->args.data[i].value);
        }
        sb_putc(sb, ')');
    }
    if (e->label.text) sb_printf(sb, " @%s", e->label.text);
}

/* Fully parenthesised, so that a dump shows how an expression was grouped. */
void expr_print(StrBuf *sb, const Expr *e)
{
    switch (e->kind) {
    case EX_ERROR: sb_puts(sb, "<error>"); break;
    case EX_INT: sb_printf(sb, "%" PRId64, e->i); break;
    case EX_FLOAT: sb_real(sb, e->f); break;
    case EX_BOOL: sb_puts(sb, e->i ? "true" : "false"); break;
    case EX_STRING: sb_printf(sb, "\"%s\"", e->s); break;
    case EX_PATH: path_print(sb, e->path); break;
    case EX_CALL: print_call(sb, e); break;
    case EX_PIPE:
        sb_putc(sb, '(');
        expr_print(sb, e->a);
        for (size_t i = 0; i < e->list.len; i++) {
            sb_puts(sb, " -> ");
            print_call(sb, e->list.data[i]);
        }
        sb_putc(sb, ')');
        break;
    case EX_LIST:
        sb_putc(sb, '[');
        print_list(sb, &e->list);
        sb_putc(sb, ']');
        break;
    case EX_UNARY:
        sb_printf(sb, "(%s", expr_op_sign(e->op));
        expr_print(sb, e->a);
        sb_putc(sb, ')');
        break;
    case EX_BINARY: {
        VEC(const Expr *) spine = { 0 };
        const Expr *left = e;
        for (; left->kind == EX_BINARY; left = left->a) vec_push(sb->arena, &spine, left);
        for (size_t i = 0; i < spine.len; i++) sb_putc(sb, '(');
        expr_print(sb, left);
        for (size_t i = spine.len; i-- > 0;) {
            sb_printf(sb, " %s ", expr_op_sign(spine.data[i]->op));
            expr_print(sb, spine.data[i]->b);
            sb_putc(sb, ')');
        }
        break;
    }
    case EX_COND:
        sb_putc(sb, '(');
        expr_print(sb, e->a);
        sb_puts(sb, " ? ");
        expr_print(sb, e->b);
        sb_puts(sb, " : ");
        expr_print(sb, e->c);
        sb_putc(sb, ')');
        break;
    }
}

static void print_type(StrBuf *sb, const TypeExpr *t)
{
    sb_puts(sb, t->name.text);
    if (!t->shaped) return;
    sb_putc(sb, '[');
    print_list(sb, &t->dims);
    sb_putc(sb, ']');
}

static void print_formals(StrBuf *sb, const FormalVec *v)
{
    sb_putc(sb, '(');
    for (size_t i = 0; i < v->len; i++) {
        const Formal *f = &v->data[i];
        sb_printf(sb, "%s%s%s", i ? ", " : "", f->name.text, f->optional ? "?" : "");
        if (f->type) {
            sb_puts(sb, ": ");
            print_type(sb, f->type);
        }
        if (f->def) {
            sb_puts(sb, " = ");
            expr_print(sb, f->def);
        }
    }
    sb_putc(sb, ')');
}

static void print_targets(StrBuf *sb, const TargetVec *v)
{
    for (size_t i = 0; i < v->len; i++) {
        sb_printf(sb, "%s%s", i ? ", " : "", v->data[i].name.text);
        if (v->data[i].type) {
            sb_puts(sb, ": ");
            print_type(sb, v->data[i].type);
        }
    }
}

/* Every line begins with the position of what it shows. */
static void begin_line(StrBuf *sb, Span span, int indent)
{
    const Place p = span_place(span);
    const size_t from = sb->len;
    sb_printf(sb, "%d:%d", p.line, p.col);
    while (sb->len < from + 8) sb_putc(sb, ' ');
    for (int i = 0; i < indent; i++) sb_puts(sb, "  ");
}

static void dump_stmts(StrBuf *sb, const StmtVec *v, int indent);

static void dump_reports(StrBuf *sb, const Stmt *s)
{
    sb_puts(sb, s->kind == ST_METRIC ? "metric " : "report ");
    for (size_t i = 0; i < s->reports.len; i++) {
        sb_printf(sb, "%s%s", i ? ", " : "", s->reports.data[i].name.text);
        if (s->reports.data[i].value) {
            sb_puts(sb, " = ");
            expr_print(sb, s->reports.data[i].value);
        }
    }
    sb_putc(sb, '\n');
}

static void dump_minimize(StrBuf *sb, const Stmt *s)
{
    sb_puts(sb, "minimize ");
    expr_print(sb, s->a);
    for (size_t i = 0; i < s->over.len; i++) {
        sb_puts(sb, i ? ", " : " over ");
        path_print(sb, s->over.data[i]);
        if (s->over_scale.data[i]) {
            sb_puts(sb, " * ");
            expr_print(sb, s->over_scale.data[i]);
        }
    }
    sb_puts(sb, " using ");
    expr_print(sb, s->optimizer);
    sb_putc(sb, '\n');
}

static void dump_stmt(StrBuf *sb, const Stmt *s, int indent)
{
    begin_line(sb, s->span, indent);
    switch (s->kind) {
    case ST_ERROR: sb_puts(sb, "<error>\n"); break;
    case ST_ASSIGN:
        print_targets(sb, &s->targets);
        sb_puts(sb, " = ");
        print_list(sb, &s->values);
        sb_putc(sb, '\n');
        break;
    case ST_IF:
        for (size_t i = 0; i < s->arms.len; i++) {
            if (i) {
                sb_puts(sb, "        ");
                for (int k = 0; k < indent; k++) sb_puts(sb, "  ");
                sb_puts(sb, "else ");
            }
            if (s->arms.data[i].cond) {
                sb_puts(sb, "if ");
                expr_print(sb, s->arms.data[i].cond);
            }
            sb_putc(sb, '\n');
            dump_stmts(sb, &s->arms.data[i].body, indent + 1);
        }
        break;
    case ST_FOR:
        sb_printf(sb, "for %s in ", s->name.text);
        expr_print(sb, s->a);
        sb_puts(sb, " .. ");
        expr_print(sb, s->b);
        sb_putc(sb, '\n');
        dump_stmts(sb, &s->body, indent + 1);
        break;
    case ST_SCAN:
        sb_puts(sb, "scan ");
        for (size_t i = 0; i < s->scan.len; i++) {
            sb_printf(sb, "%s%s %s ", i ? ", " : "", s->scan.data[i].name.text,
                      s->scan.data[i].is_option ? "=" : "in");
            expr_print(sb, s->scan.data[i].value);
        }
        sb_putc(sb, '\n');
        dump_stmts(sb, &s->body, indent + 1);
        break;
    case ST_YIELD:
        sb_puts(sb, "yield ");
        expr_print(sb, s->a);
        sb_printf(sb, " as %s\n", s->name.text);
        break;
    case ST_RETURN:
        sb_puts(sb, "return ");
        print_list(sb, &s->values);
        sb_putc(sb, '\n');
        break;
    case ST_METRIC:
    case ST_REPORT: dump_reports(sb, s); break;
    case ST_MINIMIZE: dump_minimize(sb, s); break;
    case ST_PARAM:
    case ST_STATE:
        sb_printf(sb, "%s %s: ", s->kind == ST_PARAM ? "param" : "state", s->name.text);
        print_type(sb, s->type);
        if (s->a) {
            sb_puts(sb, " = ");
            expr_print(sb, s->a);
        }
        sb_putc(sb, '\n');
        break;
    case ST_CONST:
    case ST_HYPER:
    case ST_LAYER:
        sb_printf(sb, "%s %s = ",
                  s->kind == ST_CONST   ? "const"
                  : s->kind == ST_HYPER ? "hyper"
                                        : "layer",
                  s->name.text);
        expr_print(sb, s->a);
        sb_putc(sb, '\n');
        break;
    case ST_INFER:
    case ST_STEP:
        sb_printf(sb, "%s %s", s->kind == ST_INFER ? "infer" : "step", s->name.text);
        print_formals(sb, &s->inputs);
        if (s->kind == ST_INFER) {
            sb_puts(sb, " -> ");
            print_targets(sb, &s->outputs);
        }
        sb_putc(sb, '\n');
        dump_stmts(sb, &s->body, indent + 1);
        break;
    }
}

static void dump_stmts(StrBuf *sb, const StmtVec *v, int indent)
{
    for (size_t i = 0; i < v->len; i++) dump_stmt(sb, v->data[i], indent);
}

void ast_dump(StrBuf *sb, const File *f)
{
    for (size_t i = 0; i < f->items.len; i++) {
        const Item *item = f->items.data[i];
        begin_line(sb, item->span, 0);
        switch (item->kind) {
        case IT_IMPORT: sb_printf(sb, "import \"%s\"\n", item->name.text); break;
        case IT_CONST:
            sb_printf(sb, "const %s = ", item->name.text);
            expr_print(sb, item->a);
            sb_putc(sb, '\n');
            break;
        case IT_DIM:
            sb_printf(sb, "dim %s = ", item->name.text);
            expr_print(sb, item->a);
            sb_puts(sb, " .. ");
            expr_print(sb, item->b);
            sb_putc(sb, '\n');
            break;
        case IT_BLOCK:
            sb_printf(sb, "block %s", item->name.text);
            print_formals(sb, &item->formals);
            sb_putc(sb, '\n');
            dump_stmts(sb, &item->body, 1);
            break;
        case IT_LOSS:
            sb_printf(sb, "loss %s", item->name.text);
            print_formals(sb, &item->formals);
            sb_puts(sb, " = ");
            expr_print(sb, item->a);
            sb_putc(sb, '\n');
            break;
        case IT_MODEL:
            sb_printf(sb, "model %s\n", item->name.text);
            dump_stmts(sb, &item->body, 1);
            break;
        }
    }
}
