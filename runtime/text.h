/* SPDX-License-Identifier: MIT
 *
 * Bytes that grow, for files that are built in memory before they are written. `failed` is sticky: after
 * an allocation has failed nothing more is added, and the writer asks once at the end. The owner frees data.
 */
#ifndef NN_TEXT_H
#define NN_TEXT_H

#include <stdlib.h>
#include <string.h>

typedef struct Text {
    char *data;
    size_t len, cap;
    int failed;
} Text;

static inline void text_put(Text *t, const void *bytes, size_t n)
{
    if (n == 0) return;
    if (t->cap - t->len < n) {
        size_t wanted = (t->cap + n) * 2;
        char *more = t->failed ? NULL : realloc(t->data, wanted);
        if (!more) {
            t->failed = 1;
            return;
        }
        t->data = more;
        t->cap = wanted;
    }
    memcpy(t->data + t->len, bytes, n);
    t->len += n;
}

#endif
