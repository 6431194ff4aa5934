/* SPDX-License-Identifier: MIT
 *
 * What the plan pass decides for one routine: which thread computes what, where barriers stand, and
 * where each value lies in the arena. Arrays are indexed by node id.
 *
 * Concurrency model. A routine is one SPMD function: every thread of the team runs it. A node is run
 *   PART_ONE   by thread 0 alone (scalars);
 *   PART_LEAD  by all, each on its share of axis 0 of the result (OPF_LEAD and elementwise ops);
 *   PART_TEAM  by all inside the kernel, which divides its own work and may contain barriers.
 * A barrier stands before a node when, since the last barrier, some other node touched overlapping memory
 * in a way that another thread's share could conflict with. Shares never depend on sums, and every
 * reduction has a shape fixed by the problem, so results have the same bits for any number of threads.
 *
 * Shares. A batched node is divided by units of its batch variable: thread t of T computes the rows
 * dim[0] * [B*t/T, B*(t+1)/T). A node without a batch axis is divided likewise by dim[0]. Two nodes
 * with the same batch variable, or with the same constant dim[0], therefore give a thread the same
 * rows, which lets one follow the other without a barrier. Kernels are PART_LEAD only when axis 0
 * varies slowest in memory in all values they divide; OPF_LEAD nodes where that is not so run
 * PART_ONE over all rows. Elementwise loops are divided by axis 0 wherever it lies; a large one between
 * PART_TEAM kernels, whose operands lie like its result, is PART_TEAM itself and divided by elements.
 *
 * Memory. A value that is computed in place has the buffer of the operand it replaces, so pointers of
 * one node may be equal (never partly overlapping, and never both written). Scalar constants and
 * hypers are AT_NOWHERE and AT_HYPER, filled constants AT_NOWHERE unless a kernel reads them: then
 * they are AT_ARENA, the source node has part ONE or LEAD, and the writer fills the buffer there.
 * Roots whose value is already in place (AT_OUTPUT, AT_GRAD with `accumulate`, updates that the kernel
 * makes itself) have PART_NONE; the others copy, or update. All assign roots stand at the end, after every
 * read of any state; updates of a parameter stand behind everything that reads it, and behind all reports.
 */
#ifndef NNC_IR_PLAN_H
#define NNC_IR_PLAN_H

#include "ir/op.h"

typedef enum Part { PART_NONE, PART_ONE, PART_LEAD, PART_TEAM } Part;

/* Where a value lies. */
typedef enum Place_ {
    AT_NOWHERE,  /* constants, roots, values inlined into expressions */
    AT_ARENA,    /* offset bytes into the routine's arena */
    AT_INPUT,    /* the caller's memory: port index */
    AT_OUTPUT,   /* the caller's memory: port index */
    AT_PARAM,    /* tensor index, value */
    AT_GRAD,     /* tensor index, gradient slot */
    AT_STATE,    /* tensor index */
    AT_HYPER,    /* hyper index */
    AT_METRIC    /* port index of a step's scalar outputs */
} BufferKind;

typedef struct Buffer {
    BufferKind kind;
    int index;        /* port, tensor or hyper */
    int64_t offset;   /* AT_ARENA: bytes from the arena's start, a multiple of 64 */
    int64_t bytes;    /* at the dims' upper bounds */
    int first, last;  /* ids of the nodes between which it is live */
} Buffer;

struct Plan {
    Part *part;                 /* [n_nodes] */
    bool *barrier_before;       /* [n_nodes] */
    Buffer (*result)[OP_MAX_RESULTS]; /* [n_nodes][OP_MAX_RESULTS]; views repeat their operand's buffer */
    Buffer *scratch;            /* [n_nodes]; bytes = 0 when unused */
    bool *accumulate;           /* [n_nodes]: writes into a gradient slot directly, honouring the accumulate flag */
    int *updates;               /* [n_nodes]: the parameter that the kernel itself updates with its result, piece by
                                   piece (OpDesc.update_part): the result's buffer holds one piece; -1: none */
    int64_t arena_bytes;        /* what the routine needs, a multiple of 64 */
    int64_t bound_bytes;        /* liveness lower bound for this order */
    int n_barriers;
    /* Of a body, by port: elements between rows of a step's slice or yield that is read or written where it lies in
       the sequence; -1: it is one piece there; 0: it is copied. NULL: all are. */
    int64_t *pitch_in, *pitch_out;
    bool apart;                 /* of a body: no thread touches what another one writes, in this step or the next */
};

/* Where a root's effect goes. */
static inline BufferKind root_place(const Node *root)
{
    return op_is(root, &op_output)       ? AT_OUTPUT
           : op_is(root, &op_assign)     ? AT_STATE
           : op_is(root, &op_grad_store) ? AT_GRAD
           : op_is(root, &op_update)     ? AT_PARAM
                                         : AT_METRIC;
}

/* True when each thread's share of n reads only the same share of operand i: the operand has the result's
 * leading axis and the descriptor does not ask for all of it. Only meaningful for PART_LEAD nodes. */
bool node_divides_operand(const Node *n, int i);

#endif
