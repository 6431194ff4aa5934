/* SPDX-License-Identifier: MIT
 *
 * First fit in several orders, then local search. The problem is NP-hard, but most networks reach
 * the bound with the first orders: large buffers first, so that small ones fill the gaps they
 * leave. What does not is improved by moving the items that stick out to the front of the best
 * order. The effort is bounded by a count of comparisons, not by time, so that the result is the
 * same everywhere.
 */
#include "passes/pack.h"

#include <stdlib.h>
#include <string.h>

enum { SEARCH_EFFORT = 20000000, MAX_ROUNDS = 400 };

typedef struct Placed { /* an item with an offset: alive from first to last at [from, to) */
    int first, last;
    int64_t from, to;
} Placed;

typedef struct Packer {
    const PackItem *item;
    int n;
    Placed *placed;  /* sorted by offset; copies, because all comparisons walk along them */
    int64_t *offset; /* by item, of the packing under construction */
} Packer;

static int64_t rounded(int64_t bytes)
{
    return (bytes + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
}

int64_t pack_bound(Arena *a, const PackItem *item, int n)
{
    int end = 0;
    for (int i = 0; i < n; i++)
        if (item[i].last >= end) end = item[i].last + 1;
    int64_t *change = ARENA_ARRAY(a, int64_t, end + 2), live = 0, bound = 0;
    for (int i = 0; i < n; i++) {
        change[item[i].first] += rounded(item[i].bytes);
        change[item[i].last + 1] -= rounded(item[i].bytes);
    }
    for (int t = 0; t <= end; t++) {
        live += change[t];
        if (live > bound) bound = live;
    }
    return bound;
}

/* Lowest offset at which item i overlaps nothing that is alive with it. */
static int64_t first_fit(const Packer *p, int n_placed, int i)
{
    const PackItem *x = &p->item[i];
    const int64_t bytes = rounded(x->bytes);
    int64_t at = 0;
    for (const Placed *y = p->placed, *end = y + n_placed; y < end; y++) {
        if (y->last < x->first || y->first > x->last) continue;
        if (y->from >= at + bytes) break;
        if (y->to > at) at = y->to;
    }
    return at;
}

/* Highest offset below `limit` where item i overlaps nothing alive with it; negative when there
 * is none. */
static int64_t last_fit(const Packer *p, int n_placed, int i, int64_t limit)
{
    const PackItem *x = &p->item[i];
    const int64_t bytes = rounded(x->bytes);
    int64_t at = limit - bytes;
    for (const Placed *y = p->placed + n_placed; y-- > p->placed;) {
        if (y->last < x->first || y->first > x->last || y->to <= at) continue;
        if (y->from - bytes < at) at = y->from - bytes;
    }
    return at;
}

/* Does the item placed last in time before i lie at the bottom? Then i belongs at the top: in a
 * chain, where each value dies when the next is ready, neighbours at opposite ends reach the bound. */
static bool top_is_next(const Packer *p, int k, const int *order)
{
    return k > 0 && p->offset[order[k - 1]] == 0;
}

/* Places the items in this order; with a limit above 0, at both ends of an arena of that size.
 * Returns the bytes needed. */
static int64_t place(Packer *p, const int *order, int64_t limit)
{
    int64_t end = 0;
    for (int k = 0; k < p->n; k++) {
        const int i = order[k];
        int64_t at = limit && top_is_next(p, k, order) ? last_fit(p, k, i, limit) : -1;
        if (at < 0) at = first_fit(p, k, i);
        int j = k;
        for (; j > 0 && p->placed[j - 1].from > at; j--) p->placed[j] = p->placed[j - 1];
        p->placed[j] = (Placed){ p->item[i].first, p->item[i].last, at, at + rounded(p->item[i].bytes) };
        p->offset[i] = at;
        if (p->placed[j].to > end) end = p->placed[j].to;
    }
    return end;
}

/* ---- orders ---- */

typedef struct Key {
    int64_t key, second;
    int item;
} Key;

/* Descending keys; equal items keep their order, which makes the result independent of qsort. */
static int compare_keys(const void *a, const void *b)
{
    const Key *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? 1 : -1;
    if (x->second != y->second) return x->second < y->second ? 1 : -1;
    return (x->item > y->item) - (x->item < y->item);
}

enum { BY_SIZE, BY_AREA, BY_LENGTH, BY_START, BY_END, BY_PEAK, BY_START_TWO_ENDS };

static void make_order(Arena *a, const PackItem *item, int n, int kind, int peak, int *order)
{
    Key *key = ARENA_ARRAY(a, Key, n);
    for (int i = 0; i < n; i++) {
        const PackItem *x = &item[i];
        const int64_t bytes = rounded(x->bytes), length = (int64_t)x->last - x->first + 1;
        key[i] = (Key){ bytes, length, i };
        switch (kind) {
        case BY_AREA: key[i].key = bytes / PACK_ALIGN * length; break;
        case BY_LENGTH: key[i] = (Key){ length, bytes, i }; break;
        case BY_START:
        case BY_START_TWO_ENDS: key[i] = (Key){ -x->first, bytes, i }; break;
        case BY_END: key[i] = (Key){ x->last, bytes, i }; break;
        case BY_PEAK: key[i] = (Key){ x->first <= peak && peak <= x->last, bytes, i }; break;
        default: break;
        }
    }
    qsort(key, (size_t)n, sizeof *key, compare_keys);
    for (int i = 0; i < n; i++) order[i] = key[i].item;
}

/* The first position where the most bytes are alive. */
static int find_peak(Arena *a, const PackItem *item, int n, int64_t bound)
{
    int end = 0;
    for (int i = 0; i < n; i++)
        if (item[i].last >= end) end = item[i].last + 1;
    int64_t *change = ARENA_ARRAY(a, int64_t, end + 2), live = 0;
    for (int i = 0; i < n; i++) {
        change[item[i].first] += rounded(item[i].bytes);
        change[item[i].last + 1] -= rounded(item[i].bytes);
    }
    for (int t = 0; t < end; t++)
        if ((live += change[t]) == bound) return t;
    return 0;
}

static int64_t limit_of(int kind, int64_t bound)
{
    return kind == BY_START_TWO_ENDS ? bound : 0;
}

int64_t pack_in_order(Arena *a, PackItem *item, int n, int kind)
{
    Packer p = {
        .item = item, .n = n, .placed = ARENA_ARRAY(a, Placed, n), .offset = ARENA_ARRAY(a, int64_t, n)
    };
    int *order = ARENA_ARRAY(a, int, n);
    const int64_t bound = pack_bound(a, item, n);
    make_order(a, item, n, kind, find_peak(a, item, n, bound), order);
    const int64_t end = place(&p, order, limit_of(kind, bound));
    for (int i = 0; i < n; i++) item[i].offset = p.offset[i];
    return end;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

int64_t pack_items(Arena *a, PackItem *item, int n, bool search)
{
    if (n == 0) return 0;
    Packer p = {
        .item = item, .n = n, .placed = ARENA_ARRAY(a, Placed, n), .offset = ARENA_ARRAY(a, int64_t, n)
    };
    const int64_t bound = pack_bound(a, item, n);
    const int peak = find_peak(a, item, n, bound);
    int *order = ARENA_ARRAY(a, int, n), *best_order = ARENA_ARRAY(a, int, n);
    int64_t best = INT64_MAX;
    const size_t order_bytes = (size_t)n * sizeof *order;
    for (int kind = 0; kind < PACK_ORDERS && best > bound; kind++) {
        make_order(a, item, n, kind, peak, order);
        const int64_t end = place(&p, order, limit_of(kind, bound));
        if (end >= best) continue;
        best = end;
        memcpy(best_order, order, order_bytes);
        for (int i = 0; i < n; i++) item[i].offset = p.offset[i];
    }

    /* Items that reach the end come too late in the order: each round moves one of them, and
     * sometimes any other, further to the front. */
    uint32_t random = 1;
    int64_t rounds = search ? SEARCH_EFFORT / ((int64_t)n * n + 1) : 0;
    if (rounds > MAX_ROUNDS) rounds = MAX_ROUNDS;
    int *current = ARENA_ARRAY(a, int, n);
    int64_t *offset = ARENA_ARRAY(a, int64_t, n); /* of the current order */
    const size_t offset_bytes = (size_t)n * sizeof *offset;
    memcpy(current, best_order, order_bytes);
    int64_t current_end = place(&p, current, 0);
    memcpy(offset, p.offset, offset_bytes);
    for (int64_t round = 0; round < rounds && best > bound; round++) {
        memcpy(order, current, order_bytes);
        int from = -1;
        for (int k = 0; k < n; k++)
            if (offset[order[k]] + rounded(item[order[k]].bytes) == current_end && k > 0) from = k;
        if (from < 0 || next_random(&random) % 4 == 0)
            from = (int)(next_random(&random) % (uint32_t)n);
        const int to = from ? (int)(next_random(&random) % (uint32_t)from) : 0, moved = order[from];
        memmove(order + to + 1, order + to, (size_t)(from - to) * sizeof *order);
        order[to] = moved;
        const int64_t end = place(&p, order, 0);
        if (end <= current_end) {
            memcpy(current, order, order_bytes);
            memcpy(offset, p.offset, offset_bytes);
            current_end = end;
        }
        if (end >= best) continue;
        best = end;
        for (int i = 0; i < n; i++) item[i].offset = p.offset[i];
    }
    return best;
}
