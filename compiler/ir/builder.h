/* SPDX-License-Identifier: MIT
 *
 * Building graph. Every node is made through a Builder, which infers its type through the descriptor
 * (reporting a located error and returning an error node when that fails), gives it a name, span and
 * instantiation, and appends it to the routine under construction. Equal pure nodes are built once
 * (common subexpressions merge while building).
 */
#ifndef NNC_IR_BUILDER_H
#define NNC_IR_BUILDER_H

#include "ir/op.h"

/* Where the operands and attributes of a call stand in the source, so that a failed shape check underlines
 * the culprit and not the whole call. Entries may be empty spans. */
typedef struct CallSpans {
    const Span *in;
    int n_in;
    const char *const *attr_names;
    const Span *attr_spans;
    int n_attrs;
} CallSpans;

struct Builder {
    Module *module;
    Routine *routine;  /* nodes are appended to routine->nodes */
    Span span;         /* given to new nodes */
    const Inst *inst;
    const char *name;  /* name for the next node only; NULL: derived from the operator */
    const CallSpans *spans; /* of the next node only; NULL: the whole span is underlined */
    bool quiet;        /* internal passes: a failed shape check is an internal error (exit 70), not the user's */
    bool again;        /* the verifier types what was typed before: warnings have been given */
    struct BuilderCse *cse;
    struct ScanBuild *scan; /* not NULL: appends to the body of a loop (ir/scan.h), captures foreign operands */
};

void builder_init(Builder *b, Module *m, Routine *r);

/* The general constructor. `attrs` is copied; `in` has n_in entries, NULL for absent optional operands.
 * Returns NULL after reporting an error (never NULL when b->quiet). */
Node *mk(Builder *b, const OpDesc *op, const void *attrs, int n_in, Node *const *in);
Node *mk1(Builder *b, const OpDesc *op, const void *attrs, Node *x);
Node *mk2(Builder *b, const OpDesc *op, const void *attrs, Node *x, Node *y);
Node *mk3(Builder *b, const OpDesc *op, const void *attrs, Node *x, Node *y, Node *z);
Node *mk4(Builder *b, const OpDesc *op, const void *attrs, Node *x, Node *y, Node *z, Node *u);

Node *mk_result(Builder *b, Node *n, int k);            /* result k of a node; n itself for k = 0 */
Node *mk_const(Builder *b, DType t, double value);      /* a scalar */
Node *mk_fill(Builder *b, const TensorType *t, double value);
Node *mk_scale(Builder *b, Node *x, double factor);     /* x * factor */
Node *mk_reduce_to(Builder *b, Node *x, const TensorType *t); /* undoes broadcasting: sums x to t's shape */
/* Between tensors and one flat vector of f32: its elements from `from` on in the shape of t, and the elements of
 * all n parts, one part after another. */
Node *mk_unpack(Builder *b, Node *flat, int64_t from, const TensorType *t);
Node *mk_pack(Builder *b, Node *const *part, size_t n);
bool node_const_value(const Node *n, double *value);    /* is it a constant (scalar or filled)? */

/* Random nodes that b makes from now on have other streams than those of `from` so far. */
void builder_share_streams(Builder *b, const Builder *from);

/* Copies `n` into b's routine with other operands (same op, attrs, name, span). For passes. */
Node *mk_copy(Builder *b, const Node *n, Node *const *in);

/* Rebuilds a routine node by node: `map` gets each old node with its operands already mapped and returns
 * the new node (mk_copy by default when map returns NULL). Roots keep their order. */
typedef Node *(*RewriteFn)(Builder *b, const Node *old, Node *const *in, void *ctx);
void routine_rewrite(Module *m, Routine *r, RewriteFn map, void *ctx);

/* Copies the nodes of `from` without its roots to the empty routine `to`, loops with bodies of their own; by id of
 * from's nodes, what each became. */
Node **routine_copy_nodes(Module *m, const Routine *from, Routine *to);

/* Drops nodes no root needs. Inputs stay (they are the interface). */
void routine_sweep(Module *m, Routine *r);

#endif
