/* SPDX-License-Identifier: MIT
 *
 * The tests of test_kernels_b.c, in double precision.
 */
#define NN_REAL_F64
#include "test_kernels_b.c"
