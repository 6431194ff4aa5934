/* SPDX-License-Identifier: MIT
 *
 * Making scan nodes. Between scan_begin and scan_end a Builder of its own appends to the body; operands
 * that belong to the routine around it become captures by themselves. In: sequences, initial carries
 * and the body's nodes. Out: one node of the routine around the loop.
 */
#ifndef NNC_IR_SCAN_H
#define NNC_IR_SCAN_H

#include "ir/builder.h"

typedef enum ScanRole { SCAN_SEQUENCE, SCAN_CARRY, SCAN_CAPTURE } ScanRole;

typedef struct ScanInput {
    ScanRole role;
    Node *outer; /* the operand: sequence, initial value or captured value */
    Node *inner; /* the op_input node of the body */
    Node *next;  /* SCAN_CARRY: the value for the step after; NULL: the input is dropped */
    int result;  /* SCAN_CARRY, after scan_end: its result, -1 when it was dropped */
} ScanInput;

typedef struct ScanYield {
    Node *value;
    const char *name;
    Span span;
} ScanYield;

typedef struct ScanBuild {
    Builder *outer;
    Builder b;        /* appends to the body */
    const Inst *inst; /* of the loop */
    ScanAttrs attrs;
    VEC(ScanInput) in;
    VEC(ScanYield) yields;
} ScanBuild;

/* s->b starts as a builder of the empty body. The caller may keep it elsewhere in the meantime. */
void scan_begin(ScanBuild *s, Builder *outer, int64_t length, int64_t axis, bool reverse);
/* Further inputs of the body; they return what stands for them inside. */
Node *scan_input(ScanBuild *s, ScanRole role, Node *outer, const char *name);
/* x as a value of the body: x itself, or the capture that stands for it. */
Node *scan_local(ScanBuild *s, Node *x);
/* Drops what nothing reads and makes the node; its results are the carries that are left, then the
 * yields. NULL when nothing is left to compute or there are too many results. */
Node *scan_end(ScanBuild *s, const char *name);

/* The axis of slices and stacks for a value of one step. */
int scan_axis(const ScanAttrs *a, const TensorType *step);
/* The type of the values of all steps together; false when that has too many axes. */
bool scan_stack_type(const ScanAttrs *a, const TensorType *step, TensorType *out);
/* Appends one yield to the loop n: a value of its body. Returns the number of the result, -1 when
 * there are too many. Earlier results keep their numbers. */
int scan_add_yield(Module *m, Node *n, Node *value);
/* A body of its own with the same nodes under the same ids, for a second node like n. */
Routine *scan_clone_body(Module *m, const Node *n);
/* Result k of `clone`, made from n like that, as a result of n, wherever it was added. Returns its number, -1
 * when there are too many. */
int scan_clone_result(Module *m, const Node *clone, int k, Node *n);
/* The op_input nodes of a body by number; NULL where none is left. */
Node **scan_input_nodes(Arena *a, const Routine *body);
/* The values its op_output nodes read, by number. */
Node **scan_output_values(Arena *a, const Routine *body);

/* Where a loop keeps what goes in and out of a step, in bytes from the start of its workspace, after the
 * arena of its (planned) body. */
typedef struct ScanSlots {
    int64_t *slice;      /* by sequence */
    int64_t (*carry)[2]; /* by carry: steps write them by turns */
    int64_t *yield;      /* by yield */
    int64_t bytes;
} ScanSlots;
ScanSlots scan_slots(Arena *a, const Node *n, bool real_is_f64);

static inline const ScanAttrs *scan_attrs(const Node *n)
{
    return n->attrs;
}

/* Role of operand i. */
static inline ScanRole scan_role(const ScanAttrs *a, int i)
{
    return i < a->n_seqs ? SCAN_SEQUENCE : i < a->n_seqs + a->n_carries ? SCAN_CARRY : SCAN_CAPTURE;
}

#endif
