/* SPDX-License-Identifier: MIT
 *
 * String-keyed maps (uthash underneath). Lookup order never reaches any output: whoever prints walks
 * a Vec in the order of declaration, the map only finds.
 */
#ifndef NNC_BASE_MAP_H
#define NNC_BASE_MAP_H

#include "base/arena.h"

typedef struct StrMap StrMap;

StrMap *map_new(Arena *a);                             /* lives in the arena */
void *map_get(const StrMap *m, const char *key);       /* NULL when absent */
void map_set(StrMap *m, const char *key, void *value); /* copies the key; replaces an older value */

#endif
