/* SPDX-License-Identifier: MIT
 *
 * The operator table, from ops.def: one OP(name) line per descriptor, sorted by name.
 */
#include "ir/op.h"

#define OP(name) extern const OpDesc op_##name;
#include "ops/ops.def"
#undef OP

const OpDesc *const op_table[] = {
#define OP(name) &op_##name,
#include "ops/ops.def"
#undef OP
};
const size_t op_table_len = sizeof op_table / sizeof *op_table;
