/* SPDX-License-Identifier: MIT
 *
 * The tests of test_kernels_b.c for random sizes known only at run time.
 */
#define NN_SMALL_CODE
#include "test_kernels_b.c"
