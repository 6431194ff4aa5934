/* SPDX-License-Identifier: MIT
 *
 * Between storage order and canonical row-major order of a tensor (library-internal). nn_tensor.stride
 * is a permutation of a dense block: canonical element (i, j, ..) is stored at i*stride[0] + j*stride[1] + ..
 */
#ifndef NN_CANONICAL_H
#define NN_CANONICAL_H

#include <string.h>

#include "nn.h"

static inline int nn_is_canonical(const nn_tensor *t)
{
    nn_dim expected = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        /* An axis of one element is never stepped along. */
        if (t->shape[i] != 1 && t->stride[i] != expected) return 0;
        expected *= t->shape[i];
    }
    return 1;
}

/* Storage position of canonical element i. */
static inline nn_dim nn_canonical_to_storage(const nn_tensor *t, nn_dim i)
{
    nn_dim at = 0;
    for (int axis = t->rank - 1; axis >= 0; axis--) {
        at += i % t->shape[axis] * t->stride[axis];
        i /= t->shape[axis];
    }
    return at;
}

/* Copies all elements; `to_canonical` says in which direction. */
static inline void nn_canonical_copy(const nn_tensor *t, void *stored, void *canonical, size_t size,
                                     int to_canonical)
{
    if (nn_is_canonical(t)) {
        if (to_canonical)
            memcpy(canonical, stored, (size_t)t->count * size);
        else
            memcpy(stored, canonical, (size_t)t->count * size);
        return;
    }
    nn_dim index[NN_MAX_RANK] = { 0 }, at = 0;
    for (nn_dim i = 0; i < t->count; i++) {
        unsigned char *s = (unsigned char *)stored + (size_t)at * size;
        unsigned char *c = (unsigned char *)canonical + (size_t)i * size;
        if (size == 4)
            memcpy(to_canonical ? c : s, to_canonical ? s : c, 4);
        else
            memcpy(to_canonical ? c : s, to_canonical ? s : c, 8);
        /* Counts like an odometer, carrying from the last axis to the first. */
        for (int axis = t->rank - 1; axis >= 0; axis--) {
            at += t->stride[axis];
            if (++index[axis] < t->shape[axis]) break;
            at -= index[axis] * t->stride[axis];
            index[axis] = 0;
        }
    }
}

static inline void nn_canonical_read(const nn_tensor *t, const void *stored, void *canonical,
                                     int real_bytes)
{
    nn_canonical_copy(t, (void *)(uintptr_t)stored, canonical, (size_t)real_bytes, 1);
}

static inline void nn_canonical_write(const nn_tensor *t, void *stored, const void *canonical,
                                      int real_bytes)
{
    nn_canonical_copy(t, stored, (void *)(uintptr_t)canonical, (size_t)real_bytes, 0);
}

#endif
