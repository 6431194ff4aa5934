/* SPDX-License-Identifier: MIT
 *
 * Sliding windows, shared by convolution and pooling: paddings as written in source, the number of window
 * positions with its checks and -Wrounding, and the run-time row counts that kernels are called with.
 */
#ifndef NNC_OPS_WINDOW_H
#define NNC_OPS_WINDOW_H

#include "ops/op.h"

/* [top, left, bottom, right] from a list of 0 (none), 1 (all sides), 2 ([h, w]) or 4 numbers. Reports
 * another length or a negative entry. */
bool window_pad(ShapeCtx *c, const IntList *list, int64_t pad[4]);
/* The same for a list that has passed the check. */
void window_pad_get(const IntList *list, int64_t pad[4]);

/* One spatial axis (0: height, 1: width) of a window sliding over `in` positions. */
typedef struct WindowAxis {
    int axis;
    int64_t in, k, stride, dilation, before, after;
    bool ceil;
    int operand; /* the operand whose size is `in` */
} WindowAxis;

/* N = (W - F + P)/S + 1, rounded down, or up when a.ceil; a last window that would start beyond the image and
 * its leading pad is dropped. Reports sizes below 1 and warns where rounding happens. */
bool window_count(ShapeCtx *c, WindowAxis a, int64_t *n);

/* Whether samples of t have so many elements that kernels without much arithmetic divide each between the threads as
 * well, so that all have work with one sample too. */
bool sample_is_large(const TensorType *t);

/* Run-time product of axes [0, upto) of t as C text for cw_stmt: "$batch * 3" or "12". `text.s` is the string. */
typedef struct RowsText {
    char s[64];
} RowsText;
RowsText rows_text(const TensorType *t, int upto);

/* The same for a row-shared kernel: rows of axis 0 in the share times axes [1, upto). */
RowsText share_text(const TensorType *t, int upto);

/* Rules of layers x, weight, bias? (OpDesc.fuse_epilogue, absorb_affine). layer_with_affine: the layer with its
 * weight times scale along `out_axis` of the weight, and bias * scale + shift. */
Node *layer_with_affine(Builder *b, const Node *n, int out_axis, Node *scale, Node *shift);

/* The weight of layer n as `op` gives it, in the form that a kernel reads (OpDesc.prepare), named after the layer. */
Node *prepared_weight(Builder *b, const Node *n, const OpDesc *op, const void *attrs, const char *suffix);

/* Operand 1 of `user`, which takes n as operand 0, where it lies like n, so that n's kernel can read it along with its
 * own result; else NULL. */
Node *branch_beside(const Node *n, const Node *user);

/* OpDesc.fuse_epilogue of n, the gradient of x from dy and weight, or `act` of them already: `act`, with operands dy,
 * weight, add?, y?, takes in the sum with another branch, and relu's gradient of that, unless batch norm's does. */
Node *dx_with_act(Builder *b, const Node *n, const OpDesc *act, const Node *user);

/* Whether the gradient of batch norm applies the gradient of relu, whose result is y, itself (ops/norm.c). */
bool batch_norm_masks(const Node *y);

/* The sum of dy over all axes but one: the gradient of a bias (ops/dense.c). */
Node *mk_bias_grad(Builder *b, Node *dy, int axis);

/* Attributes of convolutions and of their gradients, which alone have `like`. */
typedef struct ConvAttrs {
    TensorType like;
    int64_t stride[2], dilation[2], groups;
    IntList pad;                     /* conv2d: window_pad_get */
    int64_t even_pad[2], output_pad[2]; /* conv2d_transpose */
    int64_t kernel[2];               /* conv2d_winograd and conv2d_panels, whose weights do not show it */
    int64_t tile;                    /* largest that is allowed; of transformed weights: winograd_tile */
    bool ceil, relu;
} ConvAttrs;

/* What a gradient whose result is like n takes from its layer. */
ConvAttrs conv_with_like(const ConvAttrs *a, const Node *n);

/* "NN_CONV(..)": the geometry of a convolution from image type x to image type y with a kernel of r x s. */
typedef struct ConvText {
    char s[400];
} ConvText;
ConvText conv_text(const TensorType *x, const TensorType *y, int64_t r, int64_t s, const ConvAttrs *a,
                   int64_t pad_top, int64_t pad_left);
/* Most lanes that a vector of the kernels has: what is planned in whole vectors is rounded up to these. */
enum { CONV_LANES = 16 };
/* Whether the threads divide an image whose convolution takes so many multiply-adds, or samples only. */
bool conv_is_team(int64_t macs_per_sample);
/* Reals of scratch that gradients of convolutions need (runtime/kernels/conv2d*.h): dx for the transposed
 * weights, dw for partial sums. */
int64_t conv_dx_scratch(const TensorType *w);
int64_t conv_dw_scratch(const TensorType *w);

/* Gradients take their result type from the first field of their attributes. */
#define LIKE_ATTR(T) { "like", ATTR_TYPE, offsetof(T, like), .def = NAN, .doc = "Type of the result." }

#endif
