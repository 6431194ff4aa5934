/* SPDX-License-Identifier: MIT
 *
 * The tests of test_conv.c for random sizes, where all of Winograd's tiles are small and results as near as those of
 * direct sums.
 */
#define NN_SMALL_CODE
#define NN_TILES_2X2

#include "test_conv.c"
