/* SPDX-License-Identifier: MIT
 *
 * The tests of test_kernels_a.c, in double precision.
 */
#define NN_REAL_F64
#include "test_kernels_a.c"
