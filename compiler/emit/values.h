/* SPDX-License-Identifier: MIT
 *
 * What a trace gave: tensors of a safetensors file, read as far as a picture needs them.
 */
#ifndef NNC_EMIT_VALUES_H
#define NNC_EMIT_VALUES_H

#include "ir/graph.h"

enum { VALUES_SHOWN = 6 }; /* a tensor of up to as many elements is shown whole */

typedef struct Values Values;

/* What a label says of a tensor. The statistics are of its finite elements. */
typedef struct ValueStats {
    int64_t n, n_bad; /* elements, and those of them that are NaN or infinite */
    double shown[VALUES_SHOWN];
    double min, max, mean, norm;
} ValueStats;

/* NULL after setting *fault to what is wrong with the file. */
Values *values_open(Arena *a, const char *path, const char **fault);
void values_close(Values *v);

/* The tensor called `name`, which must have the shape of t. NULL, or what is wrong. */
const char *values_read(Values *v, const char *name, const TensorType *t, ValueStats *out);

#endif
