/* SPDX-License-Identifier: MIT */
#include "ir/plan.h"

#include "ir/op.h"

bool node_divides_operand(const Node *n, int i)
{
    const TensorType *x = &n->in[i]->type, *y = &n->type;
    if (x->rank == 0 || y->rank == 0 || (i < 32 && (n->op->whole >> i & 1u))) return false;
    /* Broadcasting lines shapes up from the right: a shorter operand has no leading axis in
     * common. */
    if ((op_has(n, OPF_ELEMENTWISE) || op_is(n, &op_fused)) && x->rank != y->rank) return false;
    if (x->batch || y->batch) return x->batch == y->batch;
    return x->dim[0] == y->dim[0];
}
