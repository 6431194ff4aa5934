/* SPDX-License-Identifier: MIT
 *
 * What a shape hook's want() knows: the node being typed and where its call stands. Private to the
 * builder, the verifier and ops/common.c.
 */
#ifndef NNC_IR_SHAPE_CTX_H
#define NNC_IR_SHAPE_CTX_H

#include "ir/builder.h"

struct ShapeCtx {
    Builder *builder;
    const Node *node;
    Diagnostic *last; /* the message want() reported, for want_hint */
    bool failed;
};

/* Ends the program with exit code 70 and the node's text: a pass built a node that does not type-check. */
_Noreturn void shape_internal_error(const ShapeCtx *c, const char *text);

#endif
