/* SPDX-License-Identifier: MIT
 *
 * What the files of the lowering share. The AST is interpreted once per routine: compile-time values are
 * computed, blocks are instantiated, loops unrolled, and what remains is graph built through the Builder.
 *
 *   value.c          compile-time values and what they convert to
 *   eval.c           expressions
 *   call.c           calls: what a name means, blocks and layers
 *   call_operator.c  calls of operators
 *   builtin.c        built-in functions
 *   stmt.c           statements
 *   train.c          minimize: paths, optimizers, schedules, penalties
 *   init.c           initialisers and the rule behind `init = default`
 *   compile.c        declarations, imports, models, routines
 *
 * An erroneous value is V_ERROR: whatever is made of it is V_ERROR too and nothing more is reported.
 */
#ifndef NNC_FRONT_LOWER_H
#define NNC_FRONT_LOWER_H

#include "front/ast.h"
#include "front/front.h"
#include "ir/scan.h"

enum {
    MAX_INSTANCES = 100000, /* of blocks in one model */
    MAX_BLOCK_DEPTH = 200,  /* blocks that call blocks */
    MAX_STEPS = 1000000,    /* statements and iterations executed at compile time */
    MAX_LIST = 100000       /* elements of a compile-time list */
};

typedef struct Value Value;
typedef VEC(Value) ValueVec;
typedef struct Decl Decl;
typedef struct Layer Layer;
typedef struct Lower Lower;

typedef enum ValueKind {
    V_ERROR,
    V_ABSENT, /* an optional argument that was not given; a layer's open tensor */
    V_INT,
    V_FLOAT,
    V_BOOL,
    V_WORD, /* a bare word: same, mean */
    V_SIZE, /* i * dim: a run-time size */
    V_LIST,
    V_TUPLE, /* the results of a block with several */
    V_TENSOR,
    V_HYPER,
    V_INIT,
    V_LAYER
} ValueKind;

struct Value {
    ValueKind kind;
    Span span; /* where it was written: the user's text also when the standard library handles it */
    int64_t i; /* INT, BOOL, SIZE: the factor */
    double f;
    const char *word;
    const DimVar *dim;
    const ValueVec *list; /* LIST, TUPLE */
    Node *node;
    Hyper *hyper;
    const InitDesc *init; /* NULL: default */
    double init_args[4];
    Layer *layer;
};

/* A name of a file: const, dim, block, loss or model. */
struct Decl {
    const Item *item;
    Name name;
    bool is_std;
    bool is_main;      /* declared in the main file */
    Value value;       /* CONST */
    const DimVar *dim; /* DIM */
};

/* `layer net = block(...)`: compile-time arguments are bound, tensors are open. */
struct Layer {
    const char *name;
    const Decl *block;
    Value *bound; /* one per formal; V_ABSENT: open */
    const char *args_text;
    Span span;
    bool called;
};

typedef struct Binding {
    Value value;
    Target *target;         /* the assignment it came from, for the warning about unused values */
    const Formal *formal;   /* or the input */
    struct StateVar *state; /* not NULL: assigning stores a state at the end of the routine */
    bool used, fixed; /* fixed: consts, loop indices, compile-time arguments keep their value */
} Binding;

/* A state tensor as a routine sees it: the value it has by now. */
typedef struct StateVar {
    Tensor *tensor;
    Value now;
    bool assigned, in_block;
    bool carried;      /* by a scan that is being executed */
    const char *owner; /* path of the instance that declares it */
    Span span;
} StateVar;

/* What a tensor's declaration leaves open until all routines are known. */
typedef struct TensorInfo {
    Tensor *tensor;
    bool default_init;
    Span span, first_call; /* declaration; the call that created the instance */
    const char *layer; /* the model's layer it belongs to, "" when declared in the model itself */
    bool in_over;
} TensorInfo;

typedef struct Yield {
    const char *name;
    Span span;
    VEC(Node *) values;
} Yield;

/* One execution of a body: a routine or one call of a block. */
typedef struct Frame {
    Lower *lw;
    struct Frame *caller;
    const Decl *block; /* NULL: a routine */
    StrMap *names;     /* Binding */
    StrMap *labels;    /* label -> Expr: each names one place only */
    const Inst *inst;
    const char *path; /* of the instance, "" in a routine */
    bool may_own;     /* parameters may be declared: inside a layer */
    int depth;
    VEC(int64_t) loops; /* indices of the loops around the current statement */
    struct Scan {
        struct Scan *outer;
        VEC(Yield) yields;
        struct ScanBuild *build; /* NULL: unrolled */
    } * scan;
    bool returned;
    Value result;
} Frame;

struct Lower {
    Arena *a;
    Diag *d;
    const FrontOptions *options;
    FrontFiles *files;
    int *exit_code;
    StrMap *globals;   /* Decl by name: the user's files */
    StrMap *std;       /* Decl by name: the standard library */
    VEC(Decl *) decls; /* both, in order */
    StrMap *imported;  /* path -> itself */
    int import_depth;

    Module *m;
    StrMap *members; /* Binding: layers, hypers, consts, params and states of the model */
    VEC(Layer *) layers;
    StrMap *infos; /* path -> TensorInfo */
    VEC(TensorInfo *) info_list;
    VEC(Target *) assigned; /* for the warning about unused values */
    StrMap *used_hypers;

    Builder b;
    Routine *r; /* the routine under construction */
    const Stmt *r_stmt;
    StrMap *states; /* path -> StateVar of this routine */
    VEC(StateVar *) state_list;
    StrMap *touched; /* paths of the parameters this routine reads */
    const Stmt *minimize;
    VEC(Name) reported;
    const char *typing; /* the tensor whose declared type is being evaluated, for messages */
    bool stop;          /* a limit was reached: give up quietly */
    int n_instances;
    int64_t n_steps;
};

/* ---- value.c ---- */
Value v_error(void);
Value v_int(int64_t i, Span span);
Value v_float(double f, Span span);
Value v_bool(bool b, Span span);
Value v_word(const char *word, Span span);
Value v_node(Node *n, Span span); /* V_ERROR for NULL */
Value v_list(Lower *lw, const ValueVec *v, Span span);
bool v_is_number(const Value *v); /* V_INT or V_FLOAT */
double v_number(const Value *v);
bool v_is_tensor_like(const Value *v);              /* converts to a tensor */
const char *v_kind_text(Lower *lw, const Value *v); /* "an integer", "f32[B,10]" */
void v_print(StrBuf *sb, const Value *v);

/* "in [0, 1]", "at least 1", "greater than 0" */
const char *range_text(Lower *lw, double min, double max);
/* Reports with the instantiation stack; NULL when nothing is to be added. */
Diagnostic *report(Frame *f, Span span, const char *id, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* What happens inside the standard library happens, for the user, at the call of its block. */
Span caller_span(const Frame *f, Span span);
/* Adds `did you mean` when a known name is near. */
void suggest(Diagnostic *m, const char *word, const char *const *names, size_t n);
/* The same; where none is near, lists what there is. */
void suggest_all(Arena *a, Diagnostic *m, const char *word, const char *const *names, size_t n);
/* Does PyTorch call what the manual says is its `torch` so, case and underscores apart? Linear is nn.Linear. */
bool is_torch_name(const char *word, const char *torch);
/* Adds that PyTorch's `word` is called `name` here. */
void suggest_torch(Diagnostic *m, const char *torch, const char *name);
/* What the comment in front of a block of the library says. */
StdBlock block_doc(Arena *a, const Decl *d);

/* Tensors are computed in routines only; false after reporting. */
bool can_build(Frame *f, Span span);
/* The value as a tensor node; NULL after reporting. `like` gives numbers their element type. */
Node *to_node(Frame *f, const Value *v, const TensorType *like);
/* `what` begins the message: "size of axis 0". */
bool to_int(Frame *f, const Value *v, const char *what, int64_t *out);
bool to_float(Frame *f, const Value *v, const char *what, double *out);
bool to_bool(Frame *f, const Value *v, const char *what, bool *out);
/* A shape from a list of sizes. `open` allows one -1. */
bool to_shape(Frame *f, const Value *v, DType dtype, bool open, TensorType *out);

/* ---- eval.c ---- */
typedef enum FormalKind {
    FK_TENSOR,
    FK_F32, /* a tensor of this element type, of any shape */
    FK_I32,
    FK_INT,
    FK_FLOAT,
    FK_BOOL,
    FK_LIST,
    FK_INT2,
    FK_PAD,
    FK_NAME,
    FK_REDUCTION,
    FK_INIT,
    FK_TYPED
} FormalKind;

Value eval(Frame *f, Expr *e);
Value eval_as(Frame *f, Expr *e,
              FormalKind kind); /* words and initialisers have a syntax of their own */
Value eval_pair(Frame *f, ExprOp op, Span span, Value x, Value y); /* x op y */
bool eval_type(Frame *f, const TypeExpr *t, TensorType *out);
Binding *lookup(Frame *f, const char *name);
Value read_binding(Frame *f, Binding *b, Span span);
Value read_state(Frame *f, StateVar *s, Span span);
bool formal_kind(Frame *f, const Formal *formal, FormalKind *kind);
/* Converts an argument to what its formal wants; V_ERROR after reporting. */
Value convert(Frame *f, const Formal *formal, Value v);

/* ---- call.c ---- */
typedef struct CallArg {
    Name name;
    Expr *expr; /* NULL: `value` is given (the head of a pipe) */
    Value value;
} CallArg;
typedef VEC(CallArg) CallArgVec;

Value eval_call(Frame *f, Expr *e, const Value *piped);
Layer *bind_layer(Frame *f, const char *name, Expr *call);
Decl *find_block(Lower *lw, const char *name, bool *is_user);

/* ---- builtin.c ---- */
/* *handled: whether the name is a built-in function's, for these arguments. Those that were evaluated on the way stand
 * in `args`, so that nothing is evaluated twice. */
Value call_builtin(Frame *f, Expr *e, CallArgVec *args, bool *handled);

/* ---- call_operator.c ---- */
Value call_operator(Frame *f, const OpDesc *op, const CallArgVec *args, Span span);
/* An operator on nodes, by name, with integer attributes given by name. */
Node *apply(Frame *f, const char *op, int n_in, Node *const *in, Span span);
Node *apply_ints(Frame *f, const char *op, Node *x, Span span, int n, const char *const *names,
                 const int64_t *values);
Node *apply_shape(Frame *f, const char *op, Node *x, Span span, const TensorType *shape);
const OpDesc *need_op(Frame *f, const char *name, Span span);
bool set_attr(Frame *f, const OpDesc *op, void *attrs, const AttrDef *def, const Value *v);

/* ---- stmt.c ---- */
void exec_body(Frame *f, const StmtVec *body);
Frame *frame_new(Lower *lw, Frame *caller);
void bind(Frame *f, const char *name, Value v, Binding extra);
bool count_step(Frame *f, Span span); /* false when the program runs too long */
void declare_tensor(Frame *f, const Stmt *s);
void assign_state(Frame *f, StateVar *s, Value v, Span span);
Value param_value(Frame *f, TensorInfo *info, Span span);
StateVar *state_var(Frame *f, TensorInfo *info, bool in_block);

/* ---- init.c ---- */
Value eval_init(Frame *f, Expr *e);
void resolve_default_inits(Lower *lw);
void tensor_fans(Tensor *t);

/* ---- train.c ---- */
void exec_minimize(Frame *f, const Stmt *s);
void finish_minimize(Frame *f); /* at the routine's end: what `over` covers */
bool state_is_stored(Lower *lw, const StateVar *s);
Value eval_penalty(Frame *f, const Expr *call, bool squared);
bool set_hyper(Frame *f, Hyper *h, Expr *e); /* `hyper NAME = e`: a number or a schedule of one */
const char *path_text(Frame *f, const Path *p); /* indices evaluated; NULL after an error */
void warn_untrained(Lower *lw);

#endif
