/* SPDX-License-Identifier: MIT
 *
 * Markdown about everything that has a name in the language, made from the descriptors.
 */
#ifndef NNC_EMIT_MANUAL_H
#define NNC_EMIT_MANUAL_H

#include "front/front.h"
#include "ir/op.h"

/* is_hidden: a block of the library has the operator's name, which is then written ops.NAME. */
void manual_op(const OpDesc *op, bool is_hidden, StrBuf *out);
void manual_block(const StdBlock *b, StrBuf *out);
void manual_optim(const OptimDesc *o, StrBuf *out);
void manual_schedule(const ScheduleDesc *s, StrBuf *out);
void manual_init(const InitDesc *d, StrBuf *out);
void manual_option(const OptimArg *option, StrBuf *out);
void manual_topic(const Topic *t, StrBuf *out);
/* What --list=LIST prints: "ops", "layers", "optimizers", ... */
Words manual_names(Arena *a, const char *list, const StdBlock *blocks, size_t n);
void manual_all(const StdBlock *blocks, size_t n_blocks, StrBuf *out);

#endif
