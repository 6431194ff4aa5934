/* SPDX-License-Identifier: MIT
 *
 * What an operator's `emit` may ask of the C writer (implemented in emit/). An emit function prints
 * statements that call kernels of runtime/kernels; the writer supplies pointers, shares of threads,
 * comments and barriers.
 *
 * Template syntax, in cw_stmt and in OpDesc.expr:
 *   $0 $1 ...    operand. In statements: pointer to its data; for a PART_LEAD node, operands that share the
 *                node's leading axis point at this thread's first row. In expr: a scalar local variable.
 *   $out $out1   results, likewise
 *   $pitch0 ..   distance between rows of axis 0 of operand 0, in elements; OPF_ROW_PITCH kernels take it
 *   $pitch_out, $pitch_out1  of the results
 *   $rows        PART_LEAD: rows of axis 0 in this thread's share (type nn_dim); else dim[0] at run time
 *   $row0        index of the share's first row of axis 0 (for random streams and position-dependent ops)
 *   $batch       the run-time value of the batch variable of the result (or of the first batched operand)
 *   $scratch     the node's workspace (nn_real *)
 *   $team        const nn_team *: thread index, count and barrier, for PART_TEAM kernels
 *   $acc         int: 0 stores, 1 adds (OPF_ACCUMULATE kernels); the literal 0 outside gradient slots
 *   $update      const nn_update *, where cw_updates() says so
 *   $key         nn_key of this random node: seed, routine, stream and call counter
 *   $NAME.double a float attribute as a literal of type double, whatever the real type is
 *   $real        float or double
 *   $NAME        value of the attribute NAME, printed as a literal of its kind (int2: "a, b";
 *                a choice: its word, so that "f_$mode(x)" names a function)
 *   1.5r         a real literal: 1.5f or 1.5
 *   $$           a dollar sign
 * Further printf-style conversions in cw_stmt's format are expanded before the template.
 */
#ifndef NNC_OPS_CWRITER_H
#define NNC_OPS_CWRITER_H

#include "ir/op.h"

/* One statement (the final ';' included by the caller), indented, wrapped at 100 columns after commas. */
void cw_stmt(CWriter *w, const Node *n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* True when the node runs as PART_LEAD in this routine: the emit hook of an OPF_LEAD operator always does. */
bool cw_is_lead(const CWriter *w, const Node *n);
/* Does anything read result k? A kernel that does without says so by NULL in the text. */
bool cw_result_is_read(const CWriter *w, const Node *n, int k);
/* True when rows of an operand or result of the node are not packed, see $pitch0. */
bool cw_has_pitch(const CWriter *w, const Node *n);
/* Does the kernel update a parameter with its result, piece by piece ($update, OpDesc.update_part)? */
bool cw_updates(const CWriter *w, const Node *n);
/* Whether large plain products may go to OpenBLAS in this build. */
bool cw_use_blas(const CWriter *w);

#endif
