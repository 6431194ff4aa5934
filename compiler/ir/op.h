/* SPDX-License-Identifier: MIT
 *
 * Everything nnc knows about one operator stands in one OpDesc (and likewise one InitDesc, OptimDesc,
 * ScheduleDesc). Passes ask the descriptor; they never compare operators except for the handful of
 * structural ones declared at the end of this file.
 */
#ifndef NNC_IR_OP_H
#define NNC_IR_OP_H

#include "ir/graph.h"

enum { OP_MAX_IN = 8, OP_MAX_RESULTS = 24, ATTR_LIST_MAX = MAX_RANK };

typedef enum AttrKind {
    ATTR_INT,    /* int64_t */
    ATTR_INT2,   /* int64_t[2]; one number in source sets both */
    ATTR_FLOAT,  /* double */
    ATTR_BOOL,   /* bool */
    ATTR_CHOICE, /* int: position in `choices`; a bare word in source */
    ATTR_INTS,   /* IntList */
    ATTR_SHAPE,  /* TensorType: a list of sizes in source, `[B, 128, 7, 7]`; its dtype is f32 */
    ATTR_TYPE,   /* TensorType with its dtype; dumps only, not writable in source */
    ATTR_PTR     /* const void *: never printed by value; only for structural ops with their own text form */
} AttrKind;

typedef struct IntList {
    int n;
    int64_t v[ATTR_LIST_MAX];
} IntList;

typedef struct AttrDef {
    const char *name;           /* spelling in source and dumps; NULL ends the table */
    AttrKind kind;
    size_t offset;              /* of the field in the op's attribute struct */
    double def, min, max;       /* default (NAN: required) and inclusive range; min = max = 0: unchecked */
    const char *const *choices; /* ATTR_CHOICE: NULL-terminated, def is an index */
    const char *doc;            /* one line for the manual */
} AttrDef;

/* An example that is printed in the manual and run by `make check-ops`. */
typedef struct OpSample {
    const char *expr; /* "conv2d(x: f32[2,3,8,8], w: f32[4,3,3,3], pad = 1)" */
    const char *type; /* expected type of result 0: "f32[2,4,8,8]" */
} OpSample;

/* Cost of one node per unit of batch (per call when the result is not batched). */
typedef struct Work {
    int64_t macs;    /* multiply-accumulates */
    int64_t flops;   /* other floating-point operations */
} Work;

enum {
    OPF_ELEMENTWISE = 1 << 0,  /* has `expr`; operands broadcast to the result; may be fused and run in place */
    OPF_VIEW        = 1 << 1,  /* result 0 is operand 0's memory under another shape */
    OPF_COMMUTATIVE = 1 << 2,  /* operands 0 and 1 may be swapped */
    OPF_RANDOM      = 1 << 3,  /* draws from the counter-based RNG; never merged with an equal node */
    OPF_ROOT        = 1 << 4,  /* effect: stores a gradient, state, output or metric */
    OPF_SOURCE      = 1 << 5,  /* no computation: input, param, state, hyper, constant, result projection */
    OPF_LEAD        = 1 << 6,  /* the kernel computes any share of axis 0 of its result from the same share of
                                  operands with that leading axis: threads split axis 0 and need no barrier.
                                  Only where axis 0 varies slowest in all layouts involved. */
    OPF_CHANNELS_LAST = 1 << 7, /* rank-4 operands and results must be channels-last */
    OPF_ANY_LAYOUT  = 1 << 8,  /* works in any layout as long as all rank-4 operands and results share it */
    OPF_INTERNAL    = 1 << 9,  /* made by gradients or passes; not callable from source, not in the manual */
    OPF_ACCUMULATE  = 1 << 10, /* kernel can add into its result ($acc): a gradient may be written in place */
    OPF_INPLACE     = 1 << 11, /* result 0 may share operand 0's memory when that dies here */
    OPF_ACTIVATION  = 1 << 12, /* --list=activations names it */
    OPF_KEPT        = 1 << 13, /* worth its memory: a loop hands its results to the backward loop */
    OPF_ROW_PITCH   = 1 << 14, /* OPF_LEAD kernel that takes the distance of rows of every operand and result ($pitch0,
                                  $pitch_out) when these have rank 2: a loop's slices and yields need not be packed
                                  for it */
    /* What `init = default` makes of an operator on the way from a weight to its activation (front/init.c). */
    OPF_RELU         = 1 << 15, /* of the relu family: half of what it gets is lost, so weights start larger */
    OPF_SEEN_THROUGH = 1 << 16, /* scales, shifts or pools operand 0: the way goes on */
    OPF_ON_WEIGHTS   = 1 << 17  /* of a weight it makes a weight: masks it, drops some of it */
};

typedef struct ShapeCtx ShapeCtx;   /* ops/op.h: want() */
typedef struct Builder Builder;     /* ir/builder.h */
typedef struct CWriter CWriter;     /* ops/cwriter.h */

struct OpDesc {
    const char *name, *summary, *doc;  /* doc: Markdown with formula, layout, edge cases */
    const char *torch, *onnx;          /* what PyTorch and ONNX call it, for the manual; NULL: nothing */
    const char *gradient;              /* for the manual, from dy, the gradient of the result: "dx = 2 dy x" */
    const char *in[OP_MAX_IN + 1];     /* operand names; trailing '?' means optional, '*' any number (last) */
    const AttrDef *attrs;              /* NULL when there are none */
    size_t attr_size;
    unsigned flags;
    int n_results;                     /* 0 means 1 */
    unsigned whole; /* OPF_LEAD: bit i: every share gets all of operand i, even when its axis 0 fits the result's */
    unsigned unread; /* bit i: only the type of operand i matters (`like`); its memory is neither kept nor filled */
    /* Operators that are OPF_LEAD for some attributes only (a reduction that keeps axis 0, a concatenation along
       another axis): decides per node instead of the flag; ask op_is_lead(). Nodes it declines are PART_TEAM. */
    bool (*is_lead)(const Node *n);

    /* Result types from operand types and attributes; reports through want(). out[0..n_results). */
    bool (*shape)(ShapeCtx *c, const Node *n, TensorType *out);

    /* Layouts the kernel wants beyond OPF_CHANNELS_LAST; NULL: none. Parameters are stored in the order their
       kernel wants (weights: LAYOUT_KERNEL); any other value is converted by a to_layout node. Results of
       weight gradients are LAYOUT_KERNEL too. LAYOUT_CANONICAL in an entry means "no special wish". */
    const Layout *operand_layout; /* [OP_MAX_IN] */
    const Layout *result_layout;  /* [OP_MAX_RESULTS] */

    /* Reverse rule. dy[k] is the gradient of result k or NULL; sets dx[i] for operands that have one.
       Exactly one of grad and no_grad is set, roots and sources excepted. */
    void (*grad)(Builder *b, const Node *n, Node *const *dy, Node **dx);
    const char *no_grad; /* the reason, as a sentence */
    /* Optional, for what `grad` of another operator builds: one node equal to the sum of x and y, which are both of
       this operator, or NULL. */
    Node *(*join)(Builder *b, const Node *x, const Node *y);

    /* An equal but simpler value, or NULL. Must strictly reduce (nodes, cost) so that rewriting ends. */
    Node *(*simplify)(Builder *b, const Node *n);

    Work (*work)(const Node *n);         /* NULL: one flop per result element */
    /* Optional, for sliding windows: extent (dilation included) and stride per spatial axis, for receptive fields. */
    void (*window)(const Node *n, int64_t extent[2], int64_t stride[2]);
    /* Optional, for gradients of weights stored as [dim 1][dim 0] whose rows the team divides, in multiples of this
       number: the optimizer is then divided alike. 0: not this one. */
    int64_t (*row_grain)(const Node *n);
    /* Optional, for gradients: elements of the piece in which the kernel can hand its result to an update ($update),
       when `emit` finds cw_updates(); $out is then one piece. 0: this one cannot. */
    int64_t (*update_part)(const Node *n);
    int64_t (*scratch)(const Node *n);   /* reals of workspace, shared by all threads; NULL: none */
    int64_t (*index_limit)(const Node *n, int operand); /* operand's integers must be in [0, limit); 0: unchecked */
    /* Optional: one more value (ignore_index) that the operand may hold beside [0, limit). */
    bool (*index_ignore)(const Node *n, int operand, int64_t *value);
    /* Optional: the smallest batch for which the result is defined (statistics over the batch need two values). A
       routine refuses smaller ones. NULL: any. */
    int64_t (*least_batch)(const Node *n);
    /* Optional, for operators that compute integers (argmax): result 0 is in [0, limit). */
    int64_t (*value_limit)(const Node *n);

    /* Optional rules of the optimiser, each beside the operator it knows about.
       fuse_epilogue: a node that computes `user` (whose operand 0 is n, n's only use) inside n's kernel, or NULL. Of
       operators with several results: n is any operand of `user`, the only use of result 0, and the new node's further
       results begin with those of n.
       fuse_prologue: a node that equals n over the operands `in` with the work of in[0], which has no other use, in n's
       kernel, or NULL.
       as_affine (n in an infer routine): n = operand 0 * scale + shift, both of shape [C], along axis 1.
       absorb_affine: a node equal to n * scale + shift along axis 1 of n, with both worked into the weights
       and the bias. The pass has judged the cost by operand 1, the weights. */
    Node *(*fuse_epilogue)(Builder *b, const Node *n, const Node *user);
    Node *(*fuse_prologue)(Builder *b, const Node *n, Node *const *in);
    bool (*as_affine)(Builder *b, const Node *n, Node **scale, Node **shift);
    Node *(*absorb_affine)(Builder *b, const Node *n, Node *scale, Node *shift);
    /* sums_over: n begins with sums over its operand 0 and these others, whose numbers end with 0; NULL: it does not.
       with_sums (n is operand 0): an equal node with one more result, the sums with the values `over` (NULL: an
       optional one that is not there), taken while n's result is near; NULL where that saves nothing.
       take_sums: a node equal to n over the operands `in` that begins with the sums. */
    const int *sums_over;
    Node *(*with_sums)(Builder *b, const Node *n, int n_over, Node *const *over);
    Node *(*take_sums)(Builder *b, const Node *n, Node *const *in, Node *sums);
    /* Optional (n in an infer routine, all its operands but the first known before the call): an equal node that takes
       its weights in another form, made of them by a node of its own. Such forms are computed once for each state of
       the weights. NULL: as it is. */
    Node *(*prepare)(Builder *b, const Node *n);

    /* Optional, about time loops. row_axes: 1 + number of trailing axes of operand 0 that one row of the result
       depends on, when all other operands are needed whole: such a node over a slice of a sequence equals the
       slice of one node over the sequence. 0: no such operator.
       sum_steps: the sum over all steps of n, where in[i] holds operand i of every step along a new axis
       `axis`, which is not the last. in == NULL asks first: NULL where that is not one node, else n. */
    int row_axes;
    Node *(*sum_steps)(Builder *b, Node *n, int axis, Node *const *in);
    /* whole_loop: n stands in the body of the loop `scan`, whose operands are `in`. One node that runs all steps, and
       in result_of[k] the number of its result that result k of the loop is, or NULL for any other body. */
    Node *(*whole_loop)(Builder *b, const Node *scan, Node *const *in, const Node *n, int *result_of);

    const char *expr;                    /* elementwise C template, see ops/cwriter.h ... */
    void (*emit)(CWriter *w, const Node *n); /* ... or a call of a runtime kernel; exactly one (sources: none) */

    const OpSample *samples;             /* ends with an all-NULL row */
};

/* Sorted by name; built from ops/ops.def. */
extern const OpDesc *const op_table[];
extern const size_t op_table_len;
const OpDesc *op_find(const char *name);

/* ---- initialisers, optimizers, schedules: one descriptor each, tables like op_table ---- */

struct InitDesc {
    const char *name, *summary, *doc;
    const char *args[5];    /* names of up to four numbers */
    double def[4];          /* defaults; NAN: required */
    bool positive;          /* the first one is greater than 0 */
    bool ascending;         /* the second one is greater than the first */
    const char *c_function; /* runtime function: void f(nn_real *, n, fan_in, fan_out, args, key) */
    const char *torch;
};
extern const InitDesc *const init_table[];
extern const size_t init_table_len;

typedef struct OptimArg {
    const char *name;       /* "lr", "momentum"; NULL ends */
    double def, min, max;   /* NAN default: required; inclusive range */
    bool is_flag;           /* compile-time true/false (nesterov), not a live scalar */
    bool is_count;          /* compile-time whole number (history), not a live scalar */
    bool is_asked_for;      /* a live scalar only where it is written (momentum), otherwise the constant `def` */
    const char *doc;
} OptimArg;

enum { OPTIM_MAX_SLOTS = 4 };

/* State of a driver: a matrix with a column for each trained element. */
typedef struct OptimBlock {
    const char *name;       /* in checkpoints: "inverse_hessian"; NULL ends */
    const char *rows;       /* name of an is_count scalar; NULL: as many as columns */
} OptimBlock;

struct OptimDesc {
    const char *name, *summary, *doc, *torch;
    const OptimArg *scalars;
    /* Per-parameter state, in checkpoint names: "exp_avg". "NAME?SCALAR" exists only where SCALAR is true or live. */
    const char *slots[OPTIM_MAX_SLOTS + 1];
    /* C call template over a contiguous range: $n $w $g $s0.. (NULL where the slot does not exist) $NAME of a scalar,
       $t step count (from 1) */
    const char *call;
    /* Or, instead of `call`, for methods that see all parameters at once: a function of the library that makes
       a whole step (runtime/nn_second.h), the state it keeps and the doubles it works with. */
    const char *driver;
    const OptimBlock *blocks;
    bool uses_product;       /* it multiplies with the Hessian of the loss: nn_second.product */
    int work_vectors, work_matrices; /* of n and n x n doubles, n trained elements */
    int64_t max_params;              /* largest n, 0: any */
};
/* Of a step that uses a driver, all 0 otherwise: trained elements, rows of its blocks, working memory. */
int64_t optim_columns(const Minimize *m);
int64_t optim_rows(const Minimize *m, const OptimBlock *b);
int64_t optim_work_bytes(const Minimize *m);
extern const OptimDesc *const optim_table[];
extern const size_t optim_table_len;
static inline bool optim_arg_is_fixed(const OptimArg *a) { return a->is_flag || a->is_count; }
/* Options that every optimizer without a driver takes besides its scalars: numbers of compile time, off by default. */
extern const OptimArg optim_options[];

struct ScheduleDesc {
    const char *name, *summary, *doc, *torch;
    const OptimArg *args;   /* after the base value */
    const char *example;    /* "cosine(0.1, steps = 1000)" */
    const char *c_function; /* double f(double base, int64_t step, args...) */
};
extern const ScheduleDesc *const schedule_table[];
extern const size_t schedule_table_len;

/* ---- structural operators: the only ones that generic code may name ---- */

/* Sources. Attributes: index of the port, tensor or hyper they read. */
extern const OpDesc op_input, op_param, op_state, op_hyper, op_const, op_result;
/* Roots. `grad_store`, `update` and `assign` name a tensor, `output` and `report` a port of Routine.outputs. A step has
 * one of the first two for each parameter that it trains. */
extern const OpDesc op_grad_store, op_update, op_assign, op_output, op_report;
/* A fused group of elementwise nodes (passes/fuse.c). */
extern const OpDesc op_fused;
extern const OpDesc op_scan; /* ScanAttrs */
/* Change of physical layout (passes/layout.c). */
extern const OpDesc op_to_layout;
/* What autodiff itself builds: sums of gradients, their reduction to a broadcast operand's shape, and limits. */
extern const OpDesc op_add, op_reduce_to, op_stop_grad, op_clip;

/* A fused group is a little program over elements: step i applies an elementwise operator to operands of
 * the fused node (arg >= 0) or to earlier steps (arg = ~step). Result k of the node is step result[k]. */
typedef struct FusedStep {
    const OpDesc *op;
    const void *attrs;
    DType dtype;         /* of the step's value */
    int n_in, arg[OP_MAX_IN];
    const char *name;    /* the value's name in the .nn file, for comments */
    Span span;
} FusedStep;
/* Most operands of a fused node: streams of memory one loop reads; more do not fit the prefetchers. */
enum { FUSED_MAX_IN = 12, FUSED_MAX_RESULTS = 4 };
typedef struct FusedAttrs {
    int n_steps;
    const FusedStep *steps;
    int n_results, result[FUSED_MAX_RESULTS];
    TensorType type[FUSED_MAX_RESULTS]; /* of the results, layout included */
} FusedAttrs;

/* A time loop: `body` runs `length` times. Operands, in this order, and the body's inputs, one for each:
 * sequences (the body gets the slice of its step), initial values of the carries (the body gets those of the
 * step before) and captured values (the same in every step). Results, and the body's outputs: the carries
 * after the last step, then the yields, stacked. The axis that slices and stacks are taken along is `axis`, or
 * the last one of a value with fewer axes. The body belongs to its node: no two nodes share one. */
typedef struct ScanAttrs {
    Routine *body;
    int64_t length, axis, n_seqs, n_carries;
    bool reverse; /* from the last step to the first */
} ScanAttrs;

typedef struct IndexAttrs { int64_t index; } IndexAttrs;                    /* input param state hyper result roots */
typedef struct ConstAttrs { double value; TensorType type; } ConstAttrs;   /* a scalar or a filled tensor */

static inline bool op_is(const Node *n, const OpDesc *op) { return n->op == op; }
static inline bool op_has(const Node *n, unsigned flag) { return (n->op->flags & flag) != 0; }
static inline bool op_reads(const Node *n, int i) { return n->in[i] && !(i < 32 && (n->op->unread >> i & 1u)); }
/* Does n take the gradient of a parameter? */
static inline bool op_takes_gradient(const Node *n) { return op_is(n, &op_grad_store) || op_is(n, &op_update); }
static inline bool op_is_lead(const Node *n) { return n->op->is_lead ? n->op->is_lead(n) : op_has(n, OPF_LEAD); }

/* Attribute tables, generically: defaults, equality field by field, printing `name = value`. */
void attrs_default(const OpDesc *op, void *attrs);
bool attrs_equal(const OpDesc *op, const void *a, const void *b);
/* Pointer to the field of attribute `name` of that kind; NULL when the operator has no such attribute. */
void *attrs_field(const OpDesc *op, void *attrs, const char *name, AttrKind kind);
void attrs_print(StrBuf *sb, const OpDesc *op, const void *attrs, bool all);

/* Consistency of the whole table (required fields, exactly one of grad/no_grad and expr/emit, sorted,
 * samples present); prints each fault to stderr, returns their number. */
int op_check_all(void);

#endif
