/* SPDX-License-Identifier: MIT
 *
 * The tests of test_conv_norm.c for sizes known only at run time.
 */
#define NN_SMALL_CODE
#include "test_conv_norm.c"
