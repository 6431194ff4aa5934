/* SPDX-License-Identifier: MIT
 *
 * The tests of test_pool_norm.c in double precision.
 */
#define NN_REAL_F64
#include "test_pool_norm.c"
