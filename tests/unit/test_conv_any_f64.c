/* SPDX-License-Identifier: MIT
 *
 * The tests of test_conv.c for random sizes known only at run time, in double precision.
 */
#define NN_SMALL_CODE
#define NN_REAL_F64
#include "test_conv.c"
