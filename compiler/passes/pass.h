/* SPDX-License-Identifier: MIT
 *
 * The passes between the front end and the emitter, in the order in which they run. A pass takes a
 * routine that obeys ir/graph.h and leaves one that does; the verifier runs after each.
 */
#ifndef NNC_PASSES_PASS_H
#define NNC_PASSES_PASS_H

#include <stdio.h>

#include "ir/builder.h"
#include "ir/plan.h"
#include "ir/text.h"

typedef struct Pass {
    const char *name, *summary;         /* the name of --dump-ir=after-NAME */
    bool (*run)(Module *m, Routine *r); /* false after reporting errors */
    bool bodies;                        /* runs on the bodies of loops, too, and on them first */
    bool optional;                      /* may be switched off: results are the same without it */
} Pass;

extern const Pass pass_table[];
extern const size_t pass_table_len;
const Pass *pass_find(const char *name);

typedef struct PassOptions {
    const char
        *dump; /* --dump-ir: "after-NAME[,after-NAME...]", "all", "changed"; NULL: none. after-front
                           is the module before the first pass */
    const char *stop_after; /* --stop-after=NAME; NULL: run all */
    const char *off; /* --no-pass: names of optional passes, separated by commas; NULL: none */
    FILE *dump_to;   /* where dumps go */
} PassOptions;

typedef enum PassOutcome { PASSES_DONE, PASSES_STOPPED, PASSES_FAILED } PassOutcome;

/* NULL when the names in the options are known, else what is wrong with them, for exit code 2. */
const char *passes_check_options(Arena *a, const PassOptions *options);

/* Runs the passes over every routine. FAILED after reporting errors in the program. A module that
 * breaks a rule after a pass ends the process with exit code 70: that is a fault of the pass. */
PassOutcome passes_run_until(Module *m, const PassOptions *options);
/* The same; true when the last pass has run or --stop-after was reached. */
bool passes_run(Module *m, const PassOptions *options);

/* ---- the passes ---- */
bool pass_check(Module *m, Routine *r);
bool pass_hoist(Module *m, Routine *r);
bool pass_loops(Module *m, Routine *r);
bool pass_autodiff(Module *m, Routine *r);
bool pass_simplify(Module *m, Routine *r);
bool pass_fold(Module *m, Routine *r);
bool pass_layout(Module *m, Routine *r);
bool pass_prepare(Module *m, Routine *r);
bool pass_fuse(Module *m, Routine *r);
bool pass_plan(Module *m, Routine *r);

/* ---- what passes share ---- */

/* The picture of step r, whose loss is still there; every wire that depends on something real has a name for its
 * gradient, which autodiff takes away again where the loss does not depend on it. */
Picture *picture_of(Module *m, const Routine *r);

/* Number of uses of each node's values, roots included; by node id. op_result nodes count for
 * their node. */
int *routine_count_uses(Arena *a, const Routine *r);

/* Recomputes from the graph alone, and without the plan's own bookkeeping, which values and
 * workspaces are alive together and which accesses of different threads meet; reports overlaps and
 * missing barriers. */
bool plan_verify(Module *m, const Routine *r, Faults *faults);

#endif
