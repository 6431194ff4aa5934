/* SPDX-License-Identifier: MIT
 *
 * THE central header: what a compiled program is between the front end and the emitter.
 *
 * A Module holds one model: its dims, tensors (parameters and state), hypers and routines. A Routine is
 * a list of SSA nodes in topological order; its effects (gradients stored, state assigned, outputs and
 * metrics written) are nodes too, flagged OPF_ROOT, so that dead-code elimination is "keep what a root
 * needs". Nodes are never changed once other nodes use them: passes build new lists (ir/builder.h).
 * The identity of an operator is the address of its descriptor; there is no enumeration of operators.
 */
#ifndef NNC_IR_GRAPH_H
#define NNC_IR_GRAPH_H

#include "base/arena.h"
#include "base/diag.h"
#include "base/map.h"
#include "base/vec.h"
#include "ir/type.h"

typedef struct OpDesc OpDesc;         /* ir/op.h */
typedef struct InitDesc InitDesc;     /* ir/op.h */
typedef struct OptimDesc OptimDesc;   /* ir/op.h */
typedef struct ScheduleDesc ScheduleDesc;
typedef struct Plan Plan;             /* ir/plan.h */
typedef struct Node Node;

struct Node {
    const OpDesc *op;
    const void *attrs;      /* op->attr_size bytes, NULL when the op has no attributes */
    Node **in;              /* n_in operands; NULL where an optional operand is absent */
    int n_in;
    TensorType type;        /* of result 0; roots have the type of what they store */
    TensorType *more;       /* types of results 1..n_results-1; read through op_result nodes */
    int n_results;          /* >= 1 */
    int id;                 /* position in Routine.nodes; set by routine_renumber */
    const char *name;       /* name for dumps and emitted C: the user's, or derived; never NULL */
    Span span;              /* the piece of .nn text the node came from; backward nodes: of the forward one */
    const Inst *inst;       /* block instantiation, NULL at the top level of a routine */
};

/* A number that the application may change while it runs: `hyper` and every optimizer scalar. */
typedef struct Hyper {
    const char *name;   /* C field name in the hyper struct: "beta", "train_lr" */
    const char *path;   /* "beta", "train.lr": name in dumps and checkpoints */
    double value;       /* initial value */
    const ScheduleDesc *schedule; /* of a scheduled `hyper`; steps follow it by their own count. NULL: none */
    double schedule_args[8];
    double warmup;
    Span span;
    int index;
} Hyper;

typedef enum TensorKind {
    TENSOR_PARAM, /* trained by optimizers, has a gradient slot when some step trains it */
    TENSOR_STATE  /* batch-norm statistics, recurrent state: saved, never differentiated */
} TensorKind;

/* A parameter or a state tensor: what a checkpoint holds. */
typedef struct Tensor {
    const char *path;       /* "net.stage[1][0].a.weight": checkpoint name */
    TensorKind kind;
    TensorType type;        /* canonical shape; type.layout is the storage order, chosen by the layout pass;
                               batch only for `state` tensors: stored for the upper bound */
    const InitDesc *init;   /* initial values; args in init_args */
    double init_args[4];
    int64_t fan_in, fan_out; /* for the initialisers; 0 when the shape gives no meaning to them */
    bool trained;           /* some step's `over` contains it; filled by autodiff */
    Span span;
    const Inst *inst;
    int index;              /* position in Module.tensors */
} Tensor;

/* A named value a routine takes or gives. */
typedef struct Port {
    const char *name;
    TensorType type;
    Span span;
    bool is_metric;    /* outputs of steps: metric/report/loss scalars, fields of the *_out struct */
    bool is_kept;      /* inputs of infer routines: the object keeps it, Routine.prepare makes it. The last ones */
    int64_t index_limit; /* inputs of integers: values must be in [0, index_limit); 0: not checked. Filled
                            by the `check` pass from OpDesc.index_limit. -1 may be allowed: index_ignore */
    int64_t index_ignore;    /* one extra accepted value (ignore_index), when has_ignore */
    bool has_ignore;
} Port;

/* `minimize EXPR over PATHS using OPTIMIZER(...)`. */
typedef struct Minimize {
    const OptimDesc *optim;
    struct OptimScalar {          /* one per OptimDesc.scalars entry, same order */
        Hyper *hyper;             /* the live scalar (the base value of a schedule), NULL: it is fixed */
        double fixed;             /* the value of a flag or count, or of what is not asked for */
        const ScheduleDesc *schedule; /* NULL: constant */
        double schedule_args[8];
        double warmup;            /* steps of linear warm-up in front of the schedule, 0: none */
    } *scalars;
    double clip_norm, clip_value; /* 0: off */
    double ema;                   /* decay of the averaged weights, 0: none are kept */
    bool in_backward;             /* a parameter is updated as soon as its gradient is known, and that is not kept */
    VEC(Tensor *) over;           /* trained tensors, in module order */
    VEC(double) over_scale;       /* of each: what the learning rate is multiplied by */
    Node *loss;                   /* scalar; consumed by autodiff, NULL afterwards */
    Span span;
} Minimize;

typedef enum RoutineKind {
    ROUTINE_INFER,
    ROUTINE_STEP,
    ROUTINE_BODY /* of a scan node: not among Module.routines */
} RoutineKind;

/* A value of a step under the name it is traced by. */
typedef struct Wire {
    const char *name;  /* "net.fc1"; NULL: a constant or a value that nothing needs, not traced */
    const char *value; /* the trace's output that holds it; of a parameter or state: its path */
    const char *grad;  /* the output that holds the loss's gradient with respect to it; NULL: there is none */
} Wire;

/* Where a wire leaves the step: the loss, a metric, a state's new value. */
typedef struct WireEnd {
    const char *name;
    int wire;
    bool is_state;
} WireEnd;

/* The forward graph of a traced step before any pass changes it, which is what --emit=dot draws. */
typedef struct Picture {
    struct Routine *graph; /* without roots */
    Wire *wire;            /* by id of its nodes */
    VEC(WireEnd) ends;
} Picture;

typedef struct Routine {
    const char *name;
    RoutineKind kind;
    int index;
    VEC(const DimVar *) dims;  /* run-time sizes it takes, in order of declaration */
    VEC(Port) inputs;
    VEC(Port) outputs;         /* infer: tensors written to caller's memory; step: scalars of the out struct */
    VEC(Node *) nodes;         /* topological order; nodes[i]->id == i after routine_renumber */
    Minimize *minimize;        /* step only, else NULL */
    Plan *plan;                /* after the plan pass */
    int n_step_inputs;         /* ROUTINE_BODY: the first ones, which differ from step to step */
    bool wants_product;        /* step: --hvp names it */
    struct Routine *product;   /* step: the infer routine that multiplies its Hessian with a vector, or NULL */
    bool wants_trace;          /* step: --trace names it */
    struct Routine *trace;     /* step: the infer routine that gives its wires and their gradients, or NULL */
    Picture *picture;          /* step: of what the trace gives, or NULL */
    const struct Routine *step; /* of such a product or trace: the step, whose draws and counters it uses */
    struct Routine *prepare;   /* infer: makes its kept inputs from the weights, one output each; NULL: it has none.
                                  Not among Module.routines */
    bool prepares;             /* it is one of these */
    Span span;
} Routine;

typedef struct Module {
    Arena *arena;
    Diag *diag;
    const char *name;       /* the model's name: prefix of every emitted symbol */
    const char *source_name; /* base name of the .nn file */
    VEC(const DimVar *) dims;
    VEC(Tensor *) tensors;
    VEC(Hyper *) hypers;
    VEC(Routine *) routines;
    uint64_t hash;          /* of tensors' paths and types: checkpoints carry it */
    bool real_is_f64;       /* --real=f64 */
    bool use_blas;          /* !--no-blas */
    bool has_layouts;       /* set by the layout pass: from then on mk() infers layouts too */
    Span span;
} Module;

void routine_renumber(Routine *r);
Tensor *module_find_tensor(const Module *m, const char *path);

/* The user-visible C name of a span, "model.nn:12", for comments in dumps and emitted code. */
const char *span_text(Arena *a, Span s);

#endif
