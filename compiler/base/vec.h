/* SPDX-License-Identifier: MIT
 *
 * Growable arrays in an arena: `VEC(Node *) nodes = {0}; vec_push(a, &nodes, n); nodes.data[i]`.
 * Growing copies; the old array stays in the arena until it is freed, so pointers into `data` stay
 * readable but go stale after a push.
 */
#ifndef NNC_BASE_VEC_H
#define NNC_BASE_VEC_H

#include "base/arena.h"

#define VEC(T)            \
    struct {              \
        T *data;          \
        size_t len, cap;  \
    }

#define vec_push(a, v, ...)                                                               \
    do {                                                                                  \
        if ((v)->len == (v)->cap)                                                         \
            (v)->data = vec_grow((a), (v)->data, (v)->len, &(v)->cap, sizeof *(v)->data); \
        (v)->data[(v)->len++] = (__VA_ARGS__);                                            \
    } while (0)

void *vec_grow(Arena *a, void *data, size_t len, size_t *cap, size_t size);

typedef VEC(const char *) Words;

#endif
