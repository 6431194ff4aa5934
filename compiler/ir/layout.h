/* SPDX-License-Identifier: MIT
 *
 * Which layouts a node demands of its operands, read off its descriptor: asked by the layout pass,
 * which satisfies the demands, and by the verifier, which checks that it did.
 */
#ifndef NNC_IR_LAYOUT_H
#define NNC_IR_LAYOUT_H

#include "ir/op.h"

/* True when operand i must have layout *want (or one that coincides with it); false when the node
 * takes whatever order its operands share. r: the routine of n, whose ports say how outputs lie: canonical at the API,
 * kept values as their users want them. */
bool layout_wanted(const Module *m, const Routine *r, const Node *n, int i, Layout *want);

/* True for nodes that take any order their operands share: elementwise operators, fused groups,
 * OPF_ANY_LAYOUT. */
bool layout_is_shared(const Node *n);

/* Whether operand i of such a node is one of those that must share: element for element where
 * operands may broadcast (the others are read by their own strides), by rank elsewhere. */
bool layout_shares(const Node *n, int i);

/* Whether a view, a reshape that only adds or drops axes of size one, takes its operand x as it lies: its result then
 * lies the same way. */
bool layout_carried(const Node *view, const TensorType *x);

#endif
