/* SPDX-License-Identifier: MIT
 *
 * Which convolutions Winograd's algorithm computes (runtime/kernels/winograd.h), and the scratch they need then.
 */
#ifndef NNC_OPS_WINOGRAD_H
#define NNC_OPS_WINOGRAD_H

#include "ops/window.h"

/* The three kernels of a convolution from x to y with weights w. */
typedef enum WinogradPass {
    WINOGRAD_Y,    /* forward */
    WINOGRAD_KEPT, /* the same from weights that are transformed once and kept */
    WINOGRAD_ONE,  /* the same for one sample */
    WINOGRAD_DX,   /* gradient of the input */
    WINOGRAD_DW    /* gradient of the weights */
} WinogradPass;

/* Outputs along a side of its tiles, 2, or 4 where a->tile allows; 0 where direct kernels are as fast, and for all but
 * 3x3 kernels of stride 1. */
int winograd_tile(WinogradPass pass, const TensorType *x, const TensorType *y, const TensorType *w, const ConvAttrs *a);
/* In reals. */
int64_t winograd_scratch(WinogradPass pass, int tile, const TensorType *w);

#endif
