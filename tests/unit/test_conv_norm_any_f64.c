/* SPDX-License-Identifier: MIT
 *
 * The tests of test_conv_norm.c for sizes known only at run time, in double precision.
 */
#define NN_SMALL_CODE
#define NN_REAL_F64
#include "test_conv_norm.c"
