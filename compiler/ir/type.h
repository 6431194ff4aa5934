/* SPDX-License-Identifier: MIT
 *
 * The type of a tensor: element type, shape with at most a bounded first axis, physical layout.
 * Shapes are always written canonically (images N,C,H,W); `layout` only says how the elements lie in
 * memory, so that no shape rule ever depends on it.
 */
#ifndef NNC_IR_TYPE_H
#define NNC_IR_TYPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/diag.h"
#include "base/strbuf.h"

enum { MAX_RANK = 8 };

/* f32 is "the real type": it becomes double under --real=f64. bool and u8 take one byte. */
typedef enum DType { DT_F32, DT_I32, DT_U8, DT_BOOL } DType;

/* Order of the axes in memory. Everything is canonical until the layout pass; afterwards each value and
 * each parameter has the order its kernels want (OpDesc.operand_layout, OPF_CHANNELS_LAST). */
typedef enum Layout {
    LAYOUT_CANONICAL,     /* row-major in the order of the shape */
    LAYOUT_CHANNELS_LAST, /* rank 4: N,C,H,W stored as N,H,W,C */
    LAYOUT_KERNEL,        /* weights: rank 2 [out,in] stored [in][out]; rank 3 [O,I,R] stored [R][I][O]; rank 4
                             [O,I,R,S] stored [R][S][I][O] */
    LAYOUT_KERNEL_T,      /* weights of transposed convolution: rank 4 [I,O,R,S] stored [R][S][I][O] */
    N_LAYOUTS
} Layout;

const char *layout_name(Layout l); /* "canonical", "channels_last", "kernel", "kernel_t" */
/* Axes from the slowest to the fastest varying in memory; order[0..rank). */
void layout_order(Layout l, int rank, int order[MAX_RANK]);

/* `dim B = 1..128;` A run-time size with compile-time bounds. */
typedef struct DimVar {
    const char *name;
    int64_t lo, hi; /* inclusive; 1 <= lo <= hi */
    int index;      /* position among the module's dims */
    Span span;
} DimVar;

typedef struct TensorType {
    DType dtype;
    Layout layout;
    int rank;               /* 0: a scalar */
    int64_t dim[MAX_RANK];  /* each >= 1; unused entries are 0 */
    const DimVar *batch;    /* not NULL: axis 0 has dim[0] * batch elements at run time */
} TensorType;

TensorType type_scalar(DType t);
TensorType type_of(DType t, int rank, const int64_t *dim); /* constant shape, canonical layout */

bool type_equal(const TensorType *a, const TensorType *b);       /* dtype, shape and batch; not layout */
bool type_same_shape(const TensorType *a, const TensorType *b);  /* shape and batch; not dtype */
bool type_is_scalar(const TensorType *t);                        /* rank 0 */

/* Elements at the batch variable's upper bound; checked: -1 on overflow of 2^48 elements. */
int64_t type_numel_max(const TensorType *t);
/* Product of axes [from, to); axis 0 counts dim[0] only (elements per unit of batch when batched). */
int64_t type_numel(const TensorType *t, int from, int to);
int64_t dtype_size(DType t, bool real_is_f64); /* bytes */
const char *dtype_name(DType t);               /* "f32" */

/* Strides in elements of the physical layout, in the order of the shape. */
void type_strides(const TensorType *t, int64_t stride[MAX_RANK]);

/* True when layouts a and b put every element of the shape at the same offset (C = 1, or H = W = 1 ...). */
bool type_layouts_coincide(const TensorType *t, Layout a, Layout b);

/* Is there a layout *l of shape `to` in which its elements lie as they do in `from`? There is when only axes of size
 * one come or go and `to` has an order of its long axes like that of `from`. */
bool type_carries_layout(const TensorType *from, const TensorType *to, Layout *l);
/* Do tensors of this rank know layout l? */
bool layout_suits(Layout l, int rank);

void type_print(StrBuf *sb, const TensorType *t);         /* f32[B,32,16,16], f32[2*B,7], f32[] */
const char *type_text(Arena *a, const TensorType *t);

/* NumPy's broadcasting rule. False when the shapes do not fit; *axis is then the offending axis of the
 * result (counted from the left). */
bool type_broadcast(const TensorType *a, const TensorType *b, TensorType *out, int *axis);

#endif
