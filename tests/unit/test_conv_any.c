/* SPDX-License-Identifier: MIT
 *
 * The tests of test_conv.c for random sizes known only at run time.
 */
#define NN_SMALL_CODE
#include "test_conv.c"
