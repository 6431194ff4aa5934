/* SPDX-License-Identifier: MIT
 *
 * The text form of a Module (.nnir) and the rules every Module obeys. What module_print writes,
 * module_parse reads back into an equal module: dims, hypers, tensors, routines with their ports,
 * `minimize`, nodes with attributes, types, layouts, names, places and instantiations. The plan of
 * a routine is printed as comments only: it is recomputed, never read. The grammar stands in
 * print.c.
 */
#ifndef NNC_IR_TEXT_H
#define NNC_IR_TEXT_H

#include "ir/op.h"

void module_print(StrBuf *sb, const Module *m);

/* NULL after reporting located errors. A module that comes back obeys module_verify. */
Module *module_parse(Arena *a, Diag *diag, const Source *source);

/* A broken rule. node may be NULL when the routine or the module as a whole is at fault. */
typedef struct Fault {
    const Routine *routine;
    const Node *node;
    const char *text;
} Fault;
typedef VEC(Fault) Faults;

/* Checks every rule of ir/graph.h that can be checked: numbering, operands, attributes, types
 * (through the descriptors' shape rules), layouts, ports. Faults are appended in order; true when
 * there are none. */
bool module_verify(Module *m, Faults *faults);
bool routine_verify(Module *m, Routine *r, Faults *faults);
bool routine_verify_first(Module *m, Routine *r,
                          Faults *faults); /* stops behind the first faulty node */
void fault_add(Arena *a, Faults *faults, const Routine *r, const Node *n, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

#endif
