/* SPDX-License-Identifier: MIT
 *
 * What convolution (ops/conv2d.c), batch norm (ops/norm.c) and the operators that do both in one kernel
 * (ops/conv2d_norm.c) know of each other.
 */
#ifndef NNC_OPS_CONV2D_NORM_H
#define NNC_OPS_CONV2D_NORM_H

#include "ops/winograd.h"

/* ---- of convolution: attributes, layouts and hooks that the operators with sums share, and their rules ---- */

extern const AttrDef conv2d_attrs[], conv2d_grad_attrs[];
extern const Layout conv2d_operand_layout[OP_MAX_IN];
/* The form of the kernels for this convolution, as their names have it behind nn_conv2d: "_depthwise", "_winograd",
 * "_pointwise", or "" where none of these fits. A kernel that knows its form is compiled faster: the code of the others
 * need not be copied and thrown away. */
const char *conv_form(WinogradPass pass, const TensorType *x, const TensorType *y, const TensorType *w,
                      const ConvAttrs *a);
bool conv_is_depthwise(const TensorType *w, const ConvAttrs *a);
/* conv_text of a node of conv2d or its gradients, with the tiles that its form has. */
ConvText conv2d_text(WinogradPass pass, const TensorType *x, const TensorType *y, const TensorType *w,
                     const ConvAttrs *a);
Work conv2d_work(const Node *n);
Work conv2d_dx_work(const Node *n);
int64_t conv2d_scratch(const Node *n);
int64_t conv2d_dx_scratch(const Node *n);

Node *conv2d_with_sums(Builder *b, const Node *n, int n_over, Node *const *over);
Node *conv2d_dx_with_sums(Builder *b, const Node *n, int n_over, Node *const *over);
Node *conv2d_dx_fuse_epilogue(Builder *b, const Node *n, const Node *user);

/* ---- of batch norm ---- */

/* Numbers in the moments of a batch of so many channels, or in the sums for batch norm's gradient
 * (runtime/kernels/norm.h). */
int64_t norm_sums_numel(int64_t channels);
/* How many values the sums for the gradient are made of beside dy: x, mean, scale, shift. Moments need none. */
enum { NORM_DX_OVER = 4 };

#endif
