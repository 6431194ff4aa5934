/* SPDX-License-Identifier: MIT
 *
 * The tests of test_conv.c, in double precision.
 */
#define NN_REAL_F64
#include "test_conv.c"
