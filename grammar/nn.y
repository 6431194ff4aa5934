/* SPDX-License-Identifier: MIT
 *
 * The grammar, LALR(1) without conflicts. In: tokens with byte spans. Out: the File of the Parse.
 * The actions only build AST nodes. What keeps the grammar free of conflicts: every statement except
 * assignment begins with a keyword, braces are mandatory, pipes and arithmetic are different
 * nonterminals, and subscripts stand only on paths. Lists are left-recursive: any number of elements
 * needs constant stack.
 */
%require "3.8"
%define api.prefix {nn_yy}
%define api.pure full
%define api.location.type {Span}
%define parse.error custom
%define parse.lac full
%define parse.trace false
%locations
%expect 0
%param {void *scanner}
%parse-param {Parse *p}

%code requires {
#include "front/parse.h"
}

%code {
#include <string.h>

/* Deep enough for every program within the nesting limit; reaching it is reported like the limit. */
#define YYMAXDEPTH 20000
#define YYLLOC_DEFAULT(cur, rhs, n)                                                   \
    do {                                                                              \
        if (n) {                                                                      \
            (cur) = span_join(YYRHSLOC(rhs, 1), YYRHSLOC(rhs, n));                    \
        } else {                                                                      \
            (cur) = YYRHSLOC(rhs, 0);                                                 \
            (cur).start = (cur).end;                                                  \
        }                                                                             \
    } while (0)

int nn_yylex(NN_YYSTYPE *value, Span *span, void *scanner);
static void nn_yyerror(Span *span, void *scanner, Parse *p, const char *text);

/* New elements are pushed to vectors behind pointers, because a semantic value is copied around. */
#define LIST(T) arena_alloc(p->arena, sizeof(T))
#define PUSH(list, x) vec_push(p->arena, (list), (x))

static Expr *deep(Parse *p, Expr *e)
{
    if (e->depth <= AST_MAX_DEPTH || p->stop) return e;
    parse_error(p, e->span, "syntax-depth", "expression is nested deeper than %d", AST_MAX_DEPTH);
    p->stop = true;
    return e;
}

static Expr *binary(Parse *p, ExprOp op, Span op_span, Expr *x, Expr *y)
{
    return deep(p, expr_binary(p->arena, op, op_span, x, y));
}

/* Lists that later stages compare pair by pair stay short. */
static void bounded(Parse *p, size_t len, Span span, const char *what)
{
    if (len <= AST_MAX_LIST || p->stop) return;
    parse_error(p, span, "limit-list", "more than %d %s", AST_MAX_LIST, what);
    p->stop = true;
}

static Stmt *named(Parse *p, StmtKind kind, const char *name, Span at, Span span)
{
    Stmt *s = stmt_new(p->arena, kind, span);
    s->name = name_new(p->arena, name, at);
    return s;
}
}

%union {
    int64_t i;
    double f;
    const char *text;
    Name name;
    Expr *expr;
    Stmt *stmt;
    Item *item;
    Path *path;
    TypeExpr *type;
    ArgVec *args;
    Arg arg;
    ExprVec *exprs;
    StmtVec *stmts;
    Target target;
    TargetVec *targets;
    Formal formal;
    FormalVec *formals;
    ScanItem scan;
    ScanVec *scans;
    Report report;
    ReportVec *reports;
    PathVec *paths;
}

%token END 0 "the end of the file"
%token <text> IDENT "a name" STRING "a string"
%token <i> INT "an integer"
%token <f> FLOAT "a number"
%token ARROW "->" DOTS ".." EQ "==" NE "!=" LE "<=" GE ">=" AND "&&" OR "||"
%token NN "nn" IMPORT "import" CONST "const" DIM "dim" BLOCK "block" LOSS "loss" MODEL "model"
%token LAYER "layer" PARAM "param" STATE "state" HYPER "hyper" INFER "infer" STEP "step"
%token IF "if" ELSE "else" FOR "for" IN "in" SCAN "scan" YIELD "yield" AS "as" RETURN "return"
%token METRIC "metric" REPORT "report" MINIMIZE "minimize" OVER "over" USING "using"
%token TRUE "true" FALSE "false"

%type <item> item
%type <stmt> stmt member if_chain const_stmt param_stmt state_stmt over trained
%type <stmts> body stmts members
%type <expr> value expr or and equality relation sum product unary power postfix pipe stage primary
%type <expr> call init scale
%type <exprs> values exprs
%type <args> args arg_list
%type <arg> arg
%type <path> path
%type <type> type ftype
%type <target> target
%type <targets> targets
%type <formal> formal
%type <formals> formals formal_list
%type <scan> scan_item
%type <scans> scan_items
%type <report> report
%type <reports> reports
%type <name> label

%%

file: header items ;

header:
    %empty
  | NN INT ';'          {
                            p->has_header = true;
                            if ($2 != 1) {
                                parse_error(p, @2, "syntax-version",
                                            "version %lld of the language is not known; this compiler reads version 1",
                                            (long long)$2);
                                p->stop = true;
                                YYACCEPT;
                            }
                        }
  | NN error ';'        { p->has_header = true; }
  ;

items:
    %empty
  | items item          { if ($2) PUSH(&p->file->items, $2); }
  ;

item:
    IMPORT STRING ';'   { $$ = item_new(p->arena, IT_IMPORT, name_new(p->arena, $2, @2), @$); }
  | CONST IDENT '=' value ';'
                        { $$ = item_new(p->arena, IT_CONST, name_new(p->arena, $2, @2), @$); $$->a = $4; }
  | DIM IDENT '=' expr DOTS expr ';'
                        {
                            $$ = item_new(p->arena, IT_DIM, name_new(p->arena, $2, @2), @$);
                            $$->a = $4;
                            $$->b = $6;
                        }
  | BLOCK IDENT formals body
                        {
                            $$ = item_new(p->arena, IT_BLOCK, name_new(p->arena, $2, @2), span_join(@1, @3));
                            $$->formals = *$3;
                            $$->body = *$4;
                        }
  | LOSS IDENT formals '=' value ';'
                        {
                            $$ = item_new(p->arena, IT_LOSS, name_new(p->arena, $2, @2), @$);
                            $$->formals = *$3;
                            $$->a = $5;
                        }
  | MODEL IDENT '{' members '}'
                        {
                            $$ = item_new(p->arena, IT_MODEL, name_new(p->arena, $2, @2), span_join(@1, @2));
                            $$->body = *$4;
                        }
  | MODEL IDENT '{' members error '}'
                        { $$ = NULL; }
  | error ';'           { $$ = NULL; }
  | error '}'           { $$ = NULL; }
  ;

members:
    %empty              { $$ = LIST(StmtVec); }
  | members member      { $$ = $1; PUSH($$, $2); }
  ;

member:
    LAYER IDENT '=' call ';'
                        { $$ = named(p, ST_LAYER, $2, @2, @$); $$->a = $4; }
  | HYPER IDENT '=' value ';'
                        { $$ = named(p, ST_HYPER, $2, @2, @$); $$->a = $4; }
  | const_stmt
  | param_stmt
  | state_stmt
  | INFER IDENT formals ARROW targets body
                        {
                            $$ = named(p, ST_INFER, $2, @2, span_join(@1, @5));
                            $$->inputs = *$3;
                            $$->outputs = *$5;
                            $$->body = *$6;
                        }
  | STEP IDENT formals body
                        {
                            $$ = named(p, ST_STEP, $2, @2, span_join(@1, @3));
                            $$->inputs = *$3;
                            $$->body = *$4;
                        }
  | error ';'           { $$ = stmt_new(p->arena, ST_ERROR, @$); }
  ;

const_stmt:
    CONST IDENT '=' value ';'
                        { $$ = named(p, ST_CONST, $2, @2, @$); $$->a = $4; }
  ;

param_stmt:
    PARAM IDENT ':' type init ';'
                        { $$ = named(p, ST_PARAM, $2, @2, @$); $$->type = $4; $$->a = $5; }
  ;

state_stmt:
    STATE IDENT ':' type init ';'
                        { $$ = named(p, ST_STATE, $2, @2, @$); $$->type = $4; $$->a = $5; }
  ;

init:
    %empty              { $$ = NULL; }
  | '=' value           { $$ = $2; }
  ;

body:
    '{' stmts '}'       { $$ = $2; }
  | '{' stmts error '}' { $$ = $2; }
  ;

stmts:
    %empty              { $$ = LIST(StmtVec); }
  | stmts stmt          { $$ = $1; PUSH($$, $2); }
  ;

stmt:
    targets '=' values ';'
                        {
                            $$ = stmt_new(p->arena, ST_ASSIGN, @$);
                            $$->targets = *$1;
                            $$->values = *$3;
                        }
  | if_chain
  | if_chain ELSE body  { $$ = $1; PUSH(&$$->arms, ((IfArm){ NULL, *$3 })); }
  | FOR IDENT IN expr DOTS expr body
                        {
                            $$ = named(p, ST_FOR, $2, @2, span_join(@1, @6));
                            $$->a = $4;
                            $$->b = $6;
                            $$->body = *$7;
                        }
  | SCAN scan_items body
                        {
                            $$ = stmt_new(p->arena, ST_SCAN, span_join(@1, @2));
                            $$->scan = *$2;
                            $$->body = *$3;
                        }
  | YIELD value AS IDENT ';'
                        { $$ = named(p, ST_YIELD, $4, @4, @$); $$->a = $2; }
  | RETURN values ';'   { $$ = stmt_new(p->arena, ST_RETURN, @$); $$->values = *$2; }
  | METRIC reports ';'  { $$ = stmt_new(p->arena, ST_METRIC, @$); $$->reports = *$2; }
  | REPORT reports ';'  { $$ = stmt_new(p->arena, ST_REPORT, @$); $$->reports = *$2; }
  | MINIMIZE value over USING call ';'
                        {
                            $$ = $3;
                            $$->span = @$;
                            $$->a = $2;
                            $$->optimizer = $5;
                        }
  | const_stmt
  | param_stmt
  | state_stmt
  | error ';'           { $$ = stmt_new(p->arena, ST_ERROR, @$); }
  ;

if_chain:
    IF '(' value ')' body
                        {
                            $$ = stmt_new(p->arena, ST_IF, span_join(@1, @4));
                            PUSH(&$$->arms, ((IfArm){ $3, *$5 }));
                        }
  | IF '(' error ')' body
                        { $$ = stmt_new(p->arena, ST_ERROR, @$); }
  | if_chain ELSE IF '(' value ')' body
                        { $$ = $1; PUSH(&$$->arms, ((IfArm){ $5, *$7 })); }
  ;

scan_items:
    scan_item           { $$ = LIST(ScanVec); PUSH($$, $1); }
  | scan_items ',' scan_item
                        { $$ = $1; PUSH($$, $3); bounded(p, $$->len, @3, "sequences"); }
  ;

scan_item:
    IDENT IN expr       { $$ = (ScanItem){ name_new(p->arena, $1, @1), false, $3 }; }
  | IDENT '=' expr      { $$ = (ScanItem){ name_new(p->arena, $1, @1), true, $3 }; }
  ;

reports:
    report              { $$ = LIST(ReportVec); PUSH($$, $1); }
  | reports ',' report  { $$ = $1; PUSH($$, $3); bounded(p, $$->len, @3, "reports"); }
  ;

report:
    IDENT               { $$ = (Report){ name_new(p->arena, $1, @1), NULL }; }
  | IDENT '=' value     { $$ = (Report){ name_new(p->arena, $1, @1), $3 }; }
  ;

over:
    %empty              { $$ = stmt_new(p->arena, ST_MINIMIZE, @$); }
  | OVER trained        { $$ = $2; }
  ;

trained:
    path scale          {
                            $$ = stmt_new(p->arena, ST_MINIMIZE, @$);
                            PUSH(&$$->over, $1);
                            PUSH(&$$->over_scale, $2);
                        }
  | trained ',' path scale
                        {
                            $$ = $1;
                            PUSH(&$$->over, $3);
                            PUSH(&$$->over_scale, $4);
                            bounded(p, $$->over.len, @3, "paths");
                        }
  ;

scale:
    %empty              { $$ = NULL; }
  | '*' unary           { $$ = $2; }
  ;

targets:
    target              { $$ = LIST(TargetVec); PUSH($$, $1); }
  | targets ',' target  { $$ = $1; PUSH($$, $3); bounded(p, $$->len, @3, "names"); }
  ;

target:
    IDENT               { $$ = (Target){ .name = name_new(p->arena, $1, @1) }; }
  | IDENT ':' type      { $$ = (Target){ .name = name_new(p->arena, $1, @1), .type = $3 }; }
  ;

type:
    IDENT '[' ']'       {
                            $$ = arena_alloc(p->arena, sizeof *$$);
                            *$$ = (TypeExpr){ .name = name_new(p->arena, $1, @1), .shaped = true, .span = @$ };
                        }
  | IDENT '[' exprs ']' {
                            $$ = arena_alloc(p->arena, sizeof *$$);
                            *$$ = (TypeExpr){ .name = name_new(p->arena, $1, @1), .shaped = true, .span = @$ };
                            $$->dims = *$3;
                        }
  ;

ftype:
    type
  | IDENT               {
                            $$ = arena_alloc(p->arena, sizeof *$$);
                            *$$ = (TypeExpr){ .name = name_new(p->arena, $1, @1), .span = @$ };
                        }
  ;

formals:
    '(' ')'             { $$ = LIST(FormalVec); }
  | '(' formal_list ')' { $$ = $2; }
  | '(' error ')'       { $$ = LIST(FormalVec); }
  ;

formal_list:
    formal              { $$ = LIST(FormalVec); PUSH($$, $1); }
  | formal_list ',' formal
                        { $$ = $1; PUSH($$, $3); bounded(p, $$->len, @3, "arguments"); }
  ;

formal:
    IDENT               { $$ = (Formal){ .name = name_new(p->arena, $1, @1) }; }
  | IDENT '?'           { $$ = (Formal){ .name = name_new(p->arena, $1, @1), .optional = true }; }
  | IDENT ':' ftype     { $$ = (Formal){ .name = name_new(p->arena, $1, @1), .type = $3 }; }
  | IDENT ':' ftype '=' value
                        { $$ = (Formal){ .name = name_new(p->arena, $1, @1), .type = $3, .def = $5 }; }
  ;

values:
    value               { $$ = LIST(ExprVec); PUSH($$, $1); }
  | values ',' value    { $$ = $1; PUSH($$, $3); }
  ;

exprs:
    expr                { $$ = LIST(ExprVec); PUSH($$, $1); }
  | exprs ',' expr      { $$ = $1; PUSH($$, $3); }
  ;

/* A pipe is the loosest construct: next to an operator it needs parentheses. */
value:
    expr
  | pipe
  ;

pipe:
    postfix ARROW stage {
                            $$ = expr_new(p->arena, EX_PIPE, @$);
                            $$->a = $1;
                            $$->depth = ($1->depth > $3->depth ? $1->depth : $3->depth) + 1;
                            PUSH(&$$->list, $3);
                            deep(p, $$);
                        }
  | pipe ARROW stage    {
                            $$ = $1;
                            $$->span = @$;
                            if ($3->depth >= $$->depth) $$->depth = $3->depth + 1;
                            PUSH(&$$->list, $3);
                            deep(p, $$);
                        }
  ;

stage:
    path label          { $$ = expr_call(p->arena, $1, NULL, $2, @$); }
  | path args label     { $$ = expr_call(p->arena, $1, $2, $3, @$); deep(p, $$); }
  ;

expr:
    or
  | or '?' expr ':' expr
                        { $$ = deep(p, expr_cond(p->arena, $1, $3, $5)); }
  ;

or:
    and
  | or OR and           { $$ = binary(p, XO_OR, @2, $1, $3); }
  ;

and:
    equality
  | and AND equality    { $$ = binary(p, XO_AND, @2, $1, $3); }
  ;

equality:
    relation
  | relation EQ relation { $$ = binary(p, XO_EQ, @2, $1, $3); }
  | relation NE relation { $$ = binary(p, XO_NE, @2, $1, $3); }
  ;

relation:
    sum
  | sum '<' sum         { $$ = binary(p, XO_LT, @2, $1, $3); }
  | sum LE sum          { $$ = binary(p, XO_LE, @2, $1, $3); }
  | sum '>' sum         { $$ = binary(p, XO_GT, @2, $1, $3); }
  | sum GE sum          { $$ = binary(p, XO_GE, @2, $1, $3); }
  ;

sum:
    product
  | sum '+' product     { $$ = binary(p, XO_ADD, @2, $1, $3); }
  | sum '-' product     { $$ = binary(p, XO_SUB, @2, $1, $3); }
  ;

product:
    unary
  | product '*' unary   { $$ = binary(p, XO_MUL, @2, $1, $3); }
  | product '/' unary   { $$ = binary(p, XO_DIV, @2, $1, $3); }
  | product '%' unary   { $$ = binary(p, XO_MOD, @2, $1, $3); }
  ;

unary:
    power
  | '-' unary           { $$ = deep(p, expr_unary(p->arena, XO_NEG, @1, $2)); }
  | '!' unary           { $$ = deep(p, expr_unary(p->arena, XO_NOT, @1, $2)); }
  ;

/* `^` binds tighter than the minus in front of it and groups to the right: -x^2^k is -(x^(2^k)). */
power:
    postfix
  | postfix '^' unary   { $$ = binary(p, XO_POW, @2, $1, $3); }
  ;

postfix:
    primary
  | path                { $$ = expr_new(p->arena, EX_PATH, @$); $$->path = $1; }
  | call
  ;

call:
    path args label     { $$ = deep(p, expr_call(p->arena, $1, $2, $3, @$)); }
  ;

label:
    %empty              { $$ = (Name){ NULL, @$ }; }
  | '@' IDENT           { $$ = name_new(p->arena, $2, @$); }
  ;

primary:
    INT                 { $$ = expr_new(p->arena, EX_INT, @$); $$->i = $1; }
  | FLOAT               { $$ = expr_new(p->arena, EX_FLOAT, @$); $$->f = $1; }
  | TRUE                { $$ = expr_new(p->arena, EX_BOOL, @$); $$->i = 1; }
  | FALSE               { $$ = expr_new(p->arena, EX_BOOL, @$); $$->i = 0; }
  | STRING              { $$ = expr_new(p->arena, EX_STRING, @$); $$->s = $1; }
  | '(' value ')'       { $$ = $2; $$->span = @$; $$->depth++; deep(p, $$); }
  | '(' error ')'       { $$ = expr_new(p->arena, EX_ERROR, @$); }
  | '[' ']'             { $$ = expr_list(p->arena, NULL, @$); }
  | '[' values ']'      { $$ = deep(p, expr_list(p->arena, $2, @$)); }
  | '[' error ']'       { $$ = expr_new(p->arena, EX_ERROR, @$); }
  ;

path:
    IDENT               {
                            $$ = arena_alloc(p->arena, sizeof *$$);
                            *$$ = (Path){ .head = name_new(p->arena, $1, @1), .span = @$ };
                        }
  | path '.' IDENT      {
                            $$ = $1;
                            PUSH(&$$->steps, ((PathStep){ $3, NULL, @3 }));
                            $$->span = @$;
                        }
  | path '[' expr ']'   {
                            $$ = $1;
                            PUSH(&$$->steps, ((PathStep){ NULL, deep(p, $3), @3 }));
                            $$->span = @$;
                        }
  ;

args:
    '(' ')'             { $$ = LIST(ArgVec); }
  | '(' arg_list ')'    { $$ = $2; }
  | '(' error ')'       {
                            $$ = LIST(ArgVec);
                            PUSH($$, ((Arg){ .value = expr_new(p->arena, EX_ERROR, @$) }));
                        }
  ;

arg_list:
    arg                 { $$ = LIST(ArgVec); PUSH($$, $1); }
  | arg_list ',' arg    { $$ = $1; PUSH($$, $3); bounded(p, $$->len, @3, "arguments"); }
  ;

arg:
    value               { $$ = (Arg){ .value = $1 }; }
  | IDENT '=' value     { $$ = (Arg){ name_new(p->arena, $1, @1), $3 }; }
    /* The one attribute that is called like a keyword. No expression begins with it. */
  | STEP '=' value      { $$ = (Arg){ name_new(p->arena, "step", @1), $3 }; }
  ;

%%

/* ---- messages ---- */

static bool is_keyword(int kind)
{
    return kind >= YYSYMBOL_NN && kind <= YYSYMBOL_FALSE;
}

static const char *token_text(Parse *p, Span s)
{
    const size_t n = s.end - s.start;
    return arena_printf(p->arena, "%.*s%s", n > 40 ? 40 : (int)n, s.source->text + s.start,
                        n > 40 ? "..." : "");
}

/* A word that stands where a keyword is expected, or directly before the fault: is it a misspelt one? */
static const char *meant_keyword(Parse *p, Span word, const yysymbol_kind_t *expected, int n)
{
    const char *text = arena_strndup(p->arena, word.source->text + word.start, word.end - word.start);
    if (!*text || keyword_token(text, strlen(text))) return NULL;
    char lower[16] = "";
    for (size_t i = 0; i < sizeof lower - 1 && text[i]; i++)
        lower[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 32) : text[i];
    const char *names[YYNTOKENS];
    size_t n_names = 0;
    for (int i = 0; i < n; i++)
        if (is_keyword(expected[i])) names[n_names++] = yysymbol_name(expected[i]);
    return str_nearest(lower, names, n_names);
}

/* What may stand at the beginning of a statement and of a model's member. */
static const yysymbol_kind_t statement_words[] = { YYSYMBOL_IF,     YYSYMBOL_FOR,      YYSYMBOL_SCAN,
                                                   YYSYMBOL_YIELD,  YYSYMBOL_RETURN,   YYSYMBOL_METRIC,
                                                   YYSYMBOL_REPORT, YYSYMBOL_MINIMIZE, YYSYMBOL_CONST,
                                                   YYSYMBOL_PARAM,  YYSYMBOL_STATE };
enum { N_STATEMENT_WORDS = sizeof statement_words / sizeof *statement_words };

static bool among(yysymbol_kind_t kind, const yysymbol_kind_t *set, int n)
{
    for (int i = 0; i < n; i++)
        if (set[i] == kind) return true;
    return false;
}

static const yysymbol_kind_t operators[] = { YYSYMBOL_ARROW, YYSYMBOL_EQ, YYSYMBOL_NE, YYSYMBOL_LE,
                                             YYSYMBOL_GE,    YYSYMBOL_AND, YYSYMBOL_OR };
enum { N_OPERATORS = sizeof operators / sizeof *operators };

static bool has_text(const yysymbol_kind_t *expected, int n, const char *text)
{
    for (int i = 0; i < n; i++)
        if (strcmp(yysymbol_name(expected[i]), text) == 0) return true;
    return false;
}

/* "expected ';'" or "expected an expression or ')'" */
static const char *expectation(Parse *p, const yysymbol_kind_t *expected, int n)
{
    const bool statement = among(YYSYMBOL_RETURN, expected, n) && among(YYSYMBOL_IF, expected, n);
    const bool expression = among(YYSYMBOL_INT, expected, n) && among(YYSYMBOL_IDENT, expected, n) &&
                            among(YYSYMBOL_FLOAT, expected, n);
    /* After a whole operand any operator and any further piece of a path may follow: only what ends the
       expression is worth a mention. */
    const bool operand = among(YYSYMBOL_EQ, expected, n) && among(YYSYMBOL_AND, expected, n);
    const bool path = has_text(expected, n, "'['") && has_text(expected, n, "'.'");
    const char *words[YYNTOKENS + 2];
    int n_words = 0;
    if (statement) words[n_words++] = "a statement";
    if (expression) words[n_words++] = "an expression";
    for (int i = 0; i < n; i++) {
        const yysymbol_kind_t k = expected[i];
        if (statement && (k == YYSYMBOL_IDENT || among(k, statement_words, N_STATEMENT_WORDS))) continue;
        if (expression && (k == YYSYMBOL_IDENT || k == YYSYMBOL_INT || k == YYSYMBOL_FLOAT ||
                           k == YYSYMBOL_STRING || k == YYSYMBOL_TRUE || k == YYSYMBOL_FALSE))
            continue;
        const char *name = yysymbol_name(k);
        if (expression && (strcmp(name, "'('") == 0 || strcmp(name, "'['") == 0 ||
                           strcmp(name, "'-'") == 0 || strcmp(name, "'!'") == 0))
            continue;
        if (operand && ((name[0] == '\'' && strchr("+-*/%^<>?", name[1])) || among(k, operators, N_OPERATORS))) continue;
        if ((operand || path) && (strcmp(name, "'['") == 0 || strcmp(name, "'.'") == 0)) continue;
        if (operand && (strcmp(name, "'('") == 0 || strcmp(name, "'@'") == 0)) continue;
        const bool quoted = *name == '\'' || name[0] == 'a' || k == YYSYMBOL_YYEOF;
        words[n_words++] = quoted && k != YYSYMBOL_AS ? name : arena_printf(p->arena, "'%s'", name);
    }
    if (n_words == 0 || n_words > 6) return NULL;
    StrBuf sb;
    sb_init(&sb, p->arena);
    for (int i = 0; i < n_words; i++)
        sb_printf(&sb, "%s%s", i == 0 ? "" : i == n_words - 1 ? " or " : ", ", words[i]);
    return sb.text;
}

static int yyreport_syntax_error(const yypcontext_t *ctx, void *scanner, Parse *p)
{
    (void)scanner;
    if (p->stop) return 0;
    yysymbol_kind_t expected[YYNTOKENS];
    const int n = yypcontext_expected_tokens(ctx, expected, YYNTOKENS);
    const yysymbol_kind_t found = yypcontext_token(ctx);
    Span at = *yypcontext_location(ctx);
    /* What the scanner has complained about on this line explains the rest of the line. */
    if (p->bad_line && (span_place(at).line == p->bad_line || span_place(p->before).line == p->bad_line)) return 0;
    const char *what = expectation(p, expected, n > 0 ? n : 0);
    /* Where only a ';' is missing at the end of a line, the end of that line is the place to look at. */
    const bool next_line = p->before.source && span_place(p->before).line < span_place(at).line;
    const bool semicolon = has_text(expected, n, "';'");
    const char *found_text = found == YYSYMBOL_YYEOF ? "the end of the file"
                             : is_keyword(found) ? arena_printf(p->arena, "the keyword '%s'", token_text(p, at))
                                                 : arena_printf(p->arena, "'%s'", token_text(p, at));
    Diagnostic *m;
    if (next_line && semicolon) {
        const Span end = { at.source, p->before.end, p->before.end };
        m = parse_error(p, end, "syntax", "expected ';' after '%s'", token_text(p, p->before));
    } else if (what) {
        m = parse_error(p, at, "syntax", "expected %s, found %s", what, found_text);
    } else {
        m = parse_error(p, at, "syntax", "unexpected %s", found_text);
    }
    const char *meant = NULL;
    if (found == YYSYMBOL_IDENT) meant = meant_keyword(p, at, expected, n);
    if (!meant && found != YYSYMBOL_ARROW && p->before.source) {
        yysymbol_kind_t all[YYNTOKENS];
        int n_all = 0;
        for (int k = YYSYMBOL_NN; k <= YYSYMBOL_FALSE; k++) all[n_all++] = (yysymbol_kind_t)k;
        const char c = p->before.source->text[p->before.start];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) meant = meant_keyword(p, p->before, all, n_all);
    }
    if (found == YYSYMBOL_ARROW)
        diag_hint(m, "next to an operator a pipe needs parentheses: (a + b) -> f");
    else if (meant)
        diag_hint(m, "did you mean '%s'?", meant);
    else if (is_keyword(found) && among(YYSYMBOL_IDENT, expected, n))
        diag_hint(m, "keywords cannot be names");
    return 0;
}

/* With custom messages the parser itself only calls this when its stack is exhausted. */
static void nn_yyerror(Span *span, void *scanner, Parse *p, const char *text)
{
    (void)scanner;
    (void)text;
    if (p->stop) return;
    parse_error(p, *span, "syntax-depth", "program is nested too deeply");
    p->stop = true;
}
