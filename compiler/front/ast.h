/* SPDX-License-Identifier: MIT
 *
 * The abstract syntax tree: what the parser builds and the lowering walks. Every node keeps its span.
 * Invariants: no list of names, arguments or paths has more than AST_MAX_LIST elements (lists of values may);
 * no expression is nested deeper than AST_MAX_DEPTH (chains of left-associative operators and
 * of pipes count as one level and are walked in loops), and every string lives in the arena.
 */
#ifndef NNC_FRONT_AST_H
#define NNC_FRONT_AST_H

#include "base/arena.h"
#include "base/diag.h"
#include "base/strbuf.h"
#include "base/vec.h"

enum { AST_MAX_DEPTH = 256, AST_MAX_LIST = 1000, MAX_NAME_BYTES = 255, MAX_TOKEN_BYTES = 4096 };

typedef struct Expr Expr;
typedef struct Stmt Stmt;

typedef struct Name {
    const char *text; /* NULL: absent */
    Span span;
} Name;
typedef VEC(Name) NameVec;
typedef VEC(Expr *) ExprVec;
typedef VEC(Stmt *) StmtVec;

typedef struct PathStep {
    const char *field; /* `.field`, or NULL */
    Expr *index;       /* `[index]`, or NULL */
    Span span;
} PathStep;

/* net.stage[1].weight */
typedef struct Path {
    Name head;
    VEC(PathStep) steps;
    Span span;
} Path;
typedef VEC(Path *) PathVec;

typedef struct Arg {
    Name name; /* text NULL: positional */
    Expr *value;
} Arg;
typedef VEC(Arg) ArgVec;

typedef enum ExprKind {
    EX_ERROR, /* left by error recovery; silences what uses it */
    EX_INT,
    EX_FLOAT,
    EX_BOOL,
    EX_STRING,
    EX_PATH,
    EX_CALL,
    EX_PIPE,
    EX_LIST,
    EX_UNARY,
    EX_BINARY,
    EX_COND
} ExprKind;

typedef enum ExprOp {
    XO_ADD,
    XO_SUB,
    XO_MUL,
    XO_DIV,
    XO_MOD,
    XO_POW,
    XO_EQ,
    XO_NE,
    XO_LT,
    XO_LE,
    XO_GT,
    XO_GE,
    XO_AND,
    XO_OR,
    XO_NEG,
    XO_NOT
} ExprOp;

struct Expr {
    ExprKind kind;
    ExprOp op;
    int depth;
    Span span;
    Span op_span;  /* of the operator sign */
    int64_t i;     /* EX_INT; EX_BOOL: 0 or 1 */
    double f;      /* EX_FLOAT */
    const char *s; /* EX_STRING */
    Path *path;    /* EX_PATH; EX_CALL: what is called */
    ArgVec args;   /* EX_CALL */
    bool parens;   /* EX_CALL: `f()` rather than a bare pipe stage `f` */
    Name label;    /* EX_CALL: `@label` */
    int ordinal; /* EX_CALL: how many calls of that name stand before it in the same body, plus one */
    Expr *a, *b, *c; /* operands; EX_PIPE: a is the head */
    ExprVec list;    /* EX_LIST elements; EX_PIPE: the stages, each an EX_CALL */
};

/* f32[B, 784]; or, in formals, a word such as int. */
typedef struct TypeExpr {
    Name name;
    bool shaped; /* has brackets */
    ExprVec dims;
    Span span;
} TypeExpr;

typedef struct Target {
    Name name;
    TypeExpr *type;   /* checked annotation, or NULL */
    bool bound, used; /* for the warning about values that nothing uses: set by the lowering */
} Target;
typedef VEC(Target) TargetVec;

typedef struct Formal {
    Name name;
    bool optional;  /* `y?` */
    TypeExpr *type; /* NULL: a tensor */
    Expr *def;      /* default, or NULL */
} Formal;
typedef VEC(Formal) FormalVec;

typedef struct ScanItem {
    Name name;
    bool is_option; /* `axis = 1` rather than `et in e` */
    Expr *value;
} ScanItem;
typedef VEC(ScanItem) ScanVec;

typedef struct Report {
    Name name;
    Expr *value; /* NULL: the variable of that name */
} Report;
typedef VEC(Report) ReportVec;

typedef struct IfArm {
    Expr *cond; /* NULL: else */
    StmtVec body;
} IfArm;

typedef enum StmtKind {
    ST_ERROR,
    ST_ASSIGN,
    ST_IF,
    ST_FOR,
    ST_SCAN,
    ST_YIELD,
    ST_RETURN,
    ST_METRIC,
    ST_REPORT,
    ST_MINIMIZE,
    ST_PARAM,
    ST_STATE,
    ST_CONST,
    ST_HYPER,
    ST_LAYER,
    ST_INFER,
    ST_STEP
} StmtKind;

/* Statements and model members alike. */
struct Stmt {
    StmtKind kind;
    int depth;
    Span span;
    Name name;         /* declared name; FOR: the index; YIELD: the stacked name */
    TargetVec targets; /* ASSIGN */
    ExprVec values;    /* ASSIGN, RETURN */
    Expr *a,
        *b; /* CONST, HYPER, LAYER, YIELD, MINIMIZE: a; FOR: a .. b; PARAM, STATE: a = initialiser */
    TypeExpr *type;    /* PARAM, STATE */
    VEC(IfArm) arms;   /* IF */
    ScanVec scan;      /* SCAN */
    ReportVec reports; /* METRIC, REPORT */
    PathVec over;      /* MINIMIZE, and what the learning rate is multiplied by there; NULL: 1 */
    ExprVec over_scale;
    Expr *optimizer;   /* MINIMIZE: an EX_CALL */
    FormalVec inputs;  /* INFER, STEP */
    TargetVec outputs; /* INFER */
    StmtVec body;      /* FOR, SCAN, INFER, STEP */
};

typedef enum ItemKind { IT_IMPORT, IT_CONST, IT_DIM, IT_BLOCK, IT_LOSS, IT_MODEL } ItemKind;

typedef struct Item {
    ItemKind kind;
    Name name; /* IMPORT: the quoted file name */
    Span span;
    Expr *a, *b;       /* CONST, LOSS: a; DIM: a .. b */
    FormalVec formals; /* BLOCK, LOSS */
    StmtVec body;      /* BLOCK statements, MODEL members */
} Item;
typedef VEC(Item *) ItemVec;

typedef struct File {
    const Source *source;
    ItemVec items;
} File;

/* The nodes' constructors join spans and compute depths. */
Expr *expr_new(Arena *a, ExprKind kind, Span span);
Expr *expr_unary(Arena *a, ExprOp op, Span op_span, Expr *x);
Expr *expr_binary(Arena *a, ExprOp op, Span op_span, Expr *x, Expr *y);
Expr *expr_cond(Arena *a, Expr *cond, Expr *yes, Expr *no);
Expr *expr_call(Arena *a, Path *target, const ArgVec *args, Name label, Span span);
Expr *expr_list(Arena *a, const ExprVec *elements, Span span);
Stmt *stmt_new(Arena *a, StmtKind kind, Span span);
Item *item_new(Arena *a, ItemKind kind, Name name, Span span);
Name name_new(Arena *a, const char *text, Span span);

/* Gives every call in a body its ordinal, from which unlabelled instances are named: dense_1, dense_2. */
void ast_number_calls(Arena *a, const StmtVec *body, Expr *value);

const char *expr_op_sign(ExprOp op);
bool expr_is_name(const Expr *e, const char **name); /* a bare name: a path without steps */
void path_print(StrBuf *sb, const Path *p);
void expr_print(StrBuf *sb, const Expr *e);
void ast_dump(StrBuf *sb, const File *f); /* one line per statement, with positions */

#endif
