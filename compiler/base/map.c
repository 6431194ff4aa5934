/* SPDX-License-Identifier: MIT
 *
 * StrMap on uthash, with uthash's tables taken from the arena, so that a map needs no destructor.
 * uthash gives no context to its allocation macros; the functions below therefore all name their
 * arena variable `arena_`.
 */
#include "base/map.h"

#define uthash_malloc(n)  arena_alloc(arena_, (n))
#define uthash_free(p, n) ((void)(p), (void)(n))
#include <uthash.h>

typedef struct Entry {
    char *key;
    void *value;
    UT_hash_handle hh;
} Entry;

struct StrMap {
    Arena *arena;
    Entry *entries;
};

StrMap *map_new(Arena *a)
{
    StrMap *m = ARENA_NEW(a, StrMap);
    m->arena = a;
    return m;
}

void *map_get(const StrMap *m, const char *key)
{
    Entry *e = NULL;
    HASH_FIND_STR(m->entries, key, e);
    return e ? e->value : NULL;
}

void map_set(StrMap *m, const char *key, void *value)
{
    Arena *arena_ = m->arena;
    Entry *e = NULL;
    HASH_FIND_STR(m->entries, key, e);
    if (!e) {
        e = ARENA_NEW(arena_, Entry);
        e->key = arena_strdup(arena_, key);
        HASH_ADD_KEYPTR(hh, m->entries, e->key, strlen(e->key), e);
    }
    e->value = value;
}
