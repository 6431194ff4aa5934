/* SPDX-License-Identifier: MIT
 *
 * Memory by lifetime: everything one run of the compiler builds lives in one arena and dies with it.
 * In: sizes. Out: zeroed, maximally aligned memory. Invariant: arena_alloc never returns NULL; when
 * the system has no memory left (or the arena's limit is reached) the program ends with exit code 4.
 */
#ifndef NNC_BASE_ARENA_H
#define NNC_BASE_ARENA_H

#include <stdarg.h>
#include <stddef.h>

typedef struct Arena Arena;

Arena *arena_new(void);
void arena_free(Arena *a); /* frees the arena and all that was allocated from it; NULL is allowed */

/* `n` zeroed bytes that live until arena_free. n = 0 gives a valid, unique pointer. */
void *arena_alloc(Arena *a, size_t n);
void *arena_dup(Arena *a, const void *src, size_t n);
char *arena_strndup(Arena *a, const char *s, size_t n); /* NUL-terminated copy of n bytes */
char *arena_strdup(Arena *a, const char *s);
char *arena_printf(Arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *arena_vprintf(Arena *a, const char *fmt, va_list ap);

#define ARENA_NEW(a, T)      ((T *)arena_alloc((a), sizeof(T)))
#define ARENA_ARRAY(a, T, n) ((T *)arena_alloc_array((a), (size_t)(n), sizeof(T)))
void *arena_alloc_array(Arena *a, size_t n, size_t size); /* n * size with overflow check */

#endif
