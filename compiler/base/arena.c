/* SPDX-License-Identifier: MIT
 *
 * Chunked bump allocator. A request larger than a chunk gets a chunk of its own, so the cost of an
 * allocation is constant and nothing is ever moved. With -DARENA_DEBUG every allocation is a malloc
 * of its own, so that AddressSanitizer sees each object's bounds.
 */
#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef ARENA_DEBUG
enum { CHUNK_BYTES = 1 };
#else
enum { CHUNK_BYTES = 1 << 16 };
#endif

typedef struct Chunk {
    struct Chunk *next;
    size_t used, size;
    alignas(max_align_t) unsigned char data[];
} Chunk;

struct Arena {
    Chunk *chunks; /* the newest first; only its free tail is used */
};

static _Noreturn void out_of_memory(size_t n)
{
    fprintf(stderr, "nnc: error: out of memory (asked for %zu bytes)\n", n);
    exit(4);
}

Arena *arena_new(void)
{
    Arena *a = calloc(1, sizeof *a);
    if (!a) out_of_memory(sizeof *a);
    return a;
}

void arena_free(Arena *a)
{
    if (!a) return;
    for (Chunk *c = a->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(a);
}

void *arena_alloc(Arena *a, size_t n)
{
    const size_t align = alignof(max_align_t);
    if (n == 0) n = 1;
    if (n > SIZE_MAX - sizeof(Chunk) - align) out_of_memory(n);
    n = (n + align - 1) / align * align;
    Chunk *c = a->chunks;
    if (!c || c->size - c->used < n) {
        const size_t size = n > CHUNK_BYTES ? n : CHUNK_BYTES;
        c = calloc(1, sizeof *c + size);
        if (!c) out_of_memory(n);
        c->size = size;
        c->next = a->chunks;
        a->chunks = c;
    }
    void *p = c->data + c->used;
    c->used += n;
    return p;
}

void *arena_alloc_array(Arena *a, size_t n, size_t size)
{
    if (size && n > SIZE_MAX / size) out_of_memory(SIZE_MAX);
    return arena_alloc(a, n * size);
}

void *arena_dup(Arena *a, const void *src, size_t n)
{
    void *p = arena_alloc(a, n);
    if (n) memcpy(p, src, n);
    return p;
}

char *arena_strndup(Arena *a, const char *s, size_t n)
{
    char *p = arena_alloc(a, n + 1);
    memcpy(p, s, n);
    return p;
}

char *arena_strdup(Arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

char *arena_vprintf(Arena *a, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0) out_of_memory(0);
    char *p = arena_alloc(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    return p;
}

char *arena_printf(Arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *p = arena_vprintf(a, fmt, ap);
    va_end(ap);
    return p;
}
