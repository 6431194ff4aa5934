/* SPDX-License-Identifier: MIT
 *
 * From a planned module to text: C source and header, the graph picture, the summary and the memory
 * report. In: a Module whose routines carry plans. Out: bytes in a StrBuf; nothing here
 * opens a file. Invariant: every output is a pure function of module and options.
 */
#ifndef NNC_EMIT_EMIT_H
#define NNC_EMIT_EMIT_H

#include "ir/op.h"
#include "emit/values.h"
#include "ir/plan.h"
#include "ops/cwriter.h"

#define NNC_VERSION "0.1.0"

typedef struct EmitOptions {
    const char *prefix; /* --prefix; NULL: the model's name */
    const char *header; /* what model.c includes: "model.h" */
    bool harness;       /* add the tables and the main of --emit=harness */
} EmitOptions;

/* ---- names.c: user names to C identifiers ---- */

/* A scope of C identifiers. A name that is taken here or in an enclosing scope, or that C, C++, POSIX or
 * libm own, gets a suffix; two different requests never get the same identifier. */
typedef struct NameTable NameTable;
NameTable *names_new(Arena *a, const NameTable *parent);
const char *names_add(NameTable *t, const char *wanted); /* the identifier to use */
void names_reserve(NameTable *t,
                   const char *const *words); /* NULL-terminated; used by the writer itself */
bool names_taken(const NameTable *t, const char *name);
char *names_mangle(Arena *a,
                   const char *path); /* "net.stage[1].w" -> "net_stage_1_w"; not yet unique */
char *names_upper(Arena *a, const char *s);
/* Text for a comment: anything that could end the comment or join lines becomes '_'. */
char *comment_text(Arena *a, const char *s);
/* A C string literal with its quotes; every unusual byte is escaped. */
char *c_string(Arena *a, const char *s);

/* ---- layout of the object and its public names, shared by source, header and harness ---- */

typedef struct RoutineNames {
    const char *base;               /* train: stem of static names */
    const char *func;               /* mlp_train */
    const char *grad, *apply, *out; /* mlp_train_grad, mlp_train_apply, mlp_train_out; steps only */
    const char *bit;                /* MLP_TRAIN */
    const char *bytes;              /* MLP_TRAIN_BYTES */
    const char *kept_macro;         /* MLP_PREDICT_KEPT_BYTES; infer only */
    const char **input;             /* parameter names, by port */
    const char **output;            /* parameter or field names, by port */
    const char **dim;               /* parameter names, by position in Routine.dims */
    int top;                        /* the module's routine that runs it: another one for bodies of loops */
    int64_t *kept;                  /* of a routine that prepares another one: bytes from the start of what the object
                                       keeps for that one, by output */
    int64_t kept_bytes;
} RoutineNames;

typedef struct TensorPlace {
    int64_t offset, count; /* in reals: of the parameter block or of the state block */
    const char *id;        /* MLP_NET_FC1_WEIGHT: position in NAME_tensors[] */
} TensorPlace;

/* Runs of adjacent trained parameters of one step: what an optimizer walks over. */
typedef struct ParamRange {
    int64_t offset, count, slot_offset;
    int first, last; /* tensors */
    double scale;    /* of the learning rate */
} ParamRange;

/* State of a driver: rows x cols reals. */
typedef struct BlockPlace {
    int64_t rows, cols, offset;
} BlockPlace;

typedef struct StepPlace {
    VEC(ParamRange) ranges;
    VEC(BlockPlace) blocks; /* as OptimDesc.blocks */
    int n_slots;
    const char *slot[OPTIM_MAX_SLOTS + 1]; /* names; the optimizer's, then the average's */
    int slot_at[OPTIM_MAX_SLOTS];          /* position of each of OptimDesc.slots, -1: it is not kept */
    int ema_at;                            /* position of the average, -1: none */
    int64_t slot_count, slots_offset;
} StepPlace;

typedef struct ModelFace {
    const Module *m;
    const EmitOptions *opt;
    Arena *arena;
    NameTable *names;                /* file scope, public names included */
    const char *stem, *type, *upper; /* "mlp" of mlp_train, "mlp" the struct, "MLP" */
    const char *hyper_type;          /* mlp_hyper */
    const char **hyper;              /* field names */
    const char **dim_max;            /* MLP_B_MAX by module dim */
    RoutineNames *routine;    /* the module's, then `bodies` */
    VEC(const Routine *) bodies; /* of loops, inner ones first, and what prepares the routine, last */
    TensorPlace *tensor;
    StepPlace *step; /* by routine; empty for infer */
    int64_t param_count, state_count, slot_count;
    bool keeps_grads; /* some step does */
    bool has_ema;
    const char *real; /* float or double */
    int align;        /* reals per 64 bytes */
    StrMap *kernel;   /* outlined kernel calls: parameters and body -> function name */
    StrBuf kernels;   /* text of those that are not written yet */
    const char
        *fault; /* set by emit_source: what the writer could not express, an internal error */
} ModelFace;

ModelFace *face_new(const Module *m, const EmitOptions *opt);
const char *face_c_type(const ModelFace *f, DType t); /* of an element at the API and in memory */
/* Name of an API function: face_api(f, "save") = "mlp_save". */
const char *face_api(const ModelFace *f, const char *what);
/* Inputs that the caller gives: all but the kept ones. */
size_t face_inputs(const Routine *r);
/* Bytes that the object keeps for r from one state of the weights to the next. */
int64_t face_kept_bytes(const ModelFace *f, const Routine *r);
/* The smallest run-time size of `dim` that every operator of the routine is defined for: at least its lower bound. */
int64_t face_dim_low(const Routine *r, const DimVar *dim);
/* Multiply-accumulates of one routine per unit of batch (per_batch) and per call (fixed). */
void face_work(const Routine *r, int64_t *per_batch, int64_t *fixed);
/* The plan's arena (the largest one where routines take turns: a driven step and its product, an infer routine and what
 * prepares it) and, behind it, what a driver works with. */
int64_t face_arena_bytes(const Routine *r);
int64_t face_work_offset(const Routine *r);
/* The routine whose counters r's random numbers and schedules follow: its own, or those of the step it belongs to. */
int face_clock(const ModelFace *f, const Routine *r);
int face_loss_port(const Routine *r); /* position of the loss among a step's outputs, -1 if none */
bool face_trains(const Routine *r, const Tensor *t); /* is t under `over` of the step? */
bool face_assigns_state(const Routine *r);
/* Of a step: does it clip the norm of its gradients; does the library make the whole step, calling its body for loss
 * and gradients; does it update each parameter as soon as its gradient is known? */
static inline bool clips_norm(const Routine *r) { return r->minimize && r->minimize->clip_norm > 0; }
static inline bool is_driven(const Routine *r) { return r->minimize && r->minimize->optim->driver; }
static inline bool updates_in_backward(const Routine *r) { return r->minimize && r->minimize->in_backward; }
bool face_keeps_grads(const Routine *r); /* a step that leaves its gradients, for _grad and _apply and to be seen */
/* In multiples of how many rows the team divides a tensor's gradient, 0: not by rows, or too small to care. */
int64_t face_row_grain(const Routine *r, int tensor);
/* The range of step r that holds a tensor it trains. */
const ParamRange *face_range(const ModelFace *f, const Routine *r, int tensor);
bool face_same_storage(const ModelFace *f, const Routine *a,
                       const Routine *b); /* do their trained sets meet? */

/* ---- pieces of the source ---- */

/* The functions of a step that update what it trains; its averages after an update that the library made. */
void emit_update(const ModelFace *f, const Routine *r, StrBuf *out);
void emit_average(const ModelFace *f, const Routine *r, StrBuf *out);
void emit_using(const ModelFace *f, const Routine *r, StrBuf *out); /* the beginning of a comment on the optimizer */
void emit_second(const ModelFace *f, const Routine *r, StrBuf *out); /* of a driven step: the call of its method */
/* The statement that runs a routine's body. `self` is the object, `arg` the arguments; `where` leads to the sizes. */
const char *run_text(const ModelFace *f, const Routine *r, const char *self, const char *arg, const char *where);
const char *run_apply_text(const ModelFace *f, const Routine *r); /* and a step's update alone */
void put_double(StrBuf *out, double v); /* a literal of type double */

/* ---- the writers ---- */

void emit_source(ModelFace *f, StrBuf *out);
void emit_header(const ModelFace *f, StrBuf *out);
void emit_harness_tables(const ModelFace *f, StrBuf *out); /* called by emit_source */
void emit_banner(const ModelFace *f, StrBuf *out);

/* The summary describes layers as they were written, so they are collected before the passes run. */
typedef struct Summary Summary;
Summary *summary_collect(const Module *m);
void emit_summary(const Summary *s, const Module *m, StrBuf *out);
void emit_dot(const Module *m, StrBuf *out);
/* The traced steps; values may be NULL. NULL, or what is wrong with the values. */
const char *emit_picture(const Module *m, Values *values, StrBuf *out);
void emit_report(const Module *m, StrBuf *out);

/* ---- cwriter.c, elementwise.c and scan.c: bodies of routines ---- */

struct CWriter {
    ModelFace *face;
    const Routine *routine;
    const Plan *plan;
    Arena *arena;
    NameTable *locals;
    StrBuf top;     /* declarations that open the function */
    StrBuf body;    /* statements so far */
    StrBuf one;     /* pending statements of thread 0 */
    StrBuf *out;    /* where statements go now: body or one */
    int indent;     /* levels of four spaces */
    bool *backward; /* [n_nodes] only gradients need it */
    const char *(
        *pointer)[OP_MAX_RESULTS]; /* [n_nodes] name of the local that points at a result */
    const char **param, **grad, **state, **input, **output, **metric,
        **hyper;                      /* locals, NULL until used */
    const char **dim, **dim0, **dim1; /* run-time sizes and this thread's share, by module dim */
    struct ConstShare {
        int64_t n;
        const char *from, *to;
        bool declared;
    } * shares;
    size_t n_shares, cap_shares;
    bool uses_arena, uses_params, uses_grads, uses_state, uses_acc, uses_m, uses_team;
    const char *guard; /* statements due before the first update within backward; NULL: none, or written */
    const char *fault; /* first thing the writer could not express: an internal error */
};

void cw_init(CWriter *w, ModelFace *f, const Routine *r);
void cw_line(CWriter *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cw_text(CWriter *w, const char *statement); /* indented and wrapped after commas */
void put_text(StrBuf *out, int indent, const char *statement); /* the same without a writer */
void cw_node(CWriter *w, const Node *n); /* comment, barrier, declarations and code of one node */
void cw_flush_one(CWriter *w);           /* writes what thread 0 does so far */
const char *cw_pointer(CWriter *w, const Node *n, int k); /* local that points at result k */
/* Elements between rows of axis 0 of a value of type t that lies there; of a port, 0 where they are packed. */
int64_t cw_port_pitch(const CWriter *w, BufferKind kind, int64_t index);
int64_t cw_pitch(const CWriter *w, const Buffer *b, const TensorType *t);
const char *cw_hyper(CWriter *w, const Node *n);          /* local that holds a hyper's value */
/* A live scalar at `step`, the number of updates so far: its base, the schedule, the warm-up in front. */
const char *scheduled_text(Arena *a, const char *base, const char *step, const ScheduleDesc *d,
                           const double *args, double warmup);
const char *cw_dim(CWriter *w, const DimVar *d);
void cw_share(CWriter *w, const TensorType *t, const char **from, const char **to, int64_t *scale);
const char *cw_real(const CWriter *w, double v); /* literal of the real type */
const char *cw_int(const CWriter *w, int64_t v);
const char *cw_const(const CWriter *w, DType t, double v);
/* Root of a view chain; *k becomes the result's number. */
const Node *cw_base(const Node *n, int *k);
/* Loops for an elementwise or fused node, or a copy into `target` (NULL: the node's own results). */
void cw_elementwise(CWriter *w, const Node *n);
/* pitch: elements between rows of the target, 0: as its type says. */
void cw_copy(CWriter *w, const Node *n, const Node *from, const char *target, const TensorType *to,
             int64_t pitch, bool add);
/* scan.c: the loop around a body. */
void cw_scan(CWriter *w, const Node *n);

/* ---- template.c: what operators write, see also ops/cwriter.h ---- */

/* Replaces $0.. by operand[i], $NAME by the attribute and 1.5r by a real literal. */
const char *cw_expand_expr(CWriter *w, const OpDesc *op, const void *attrs,
                           const char *const *operand, int n_in);
/* The address of what updates a parameter from pieces of its gradient. */
const char *cw_update(CWriter *w, int tensor);
bool cw_runs_lead(const CWriter *w, const Node *n);

#endif
