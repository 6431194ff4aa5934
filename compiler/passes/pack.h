/* SPDX-License-Identifier: MIT
 *
 * Packing of intervals: buffers with sizes and lifetimes get offsets so that buffers alive together
 * do not overlap and the whole is small (dynamic storage allocation).
 */
#ifndef NNC_PASSES_PACK_H
#define NNC_PASSES_PACK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"

enum { PACK_ALIGN = 64 };

typedef struct PackItem {
    int64_t bytes;   /* rounded up to PACK_ALIGN by the packer; 0 takes no room */
    int first, last; /* alive at positions first..last, inclusive */
    int64_t offset;  /* result: a multiple of PACK_ALIGN */
} PackItem;

/* The largest sum of sizes alive at one position: no packing can be smaller. */
int64_t pack_bound(Arena *a, const PackItem *item, int n);

/* Fills in the offsets; returns the bytes needed. Deterministic. `search`: improves on the
 * first-fit orders where they miss the bound. */
int64_t pack_items(Arena *a, PackItem *item, int n, bool search);

/* The first-fit orders by themselves, for callers that judge packings by more than their size. */
enum { PACK_ORDERS = 7 };
int64_t pack_in_order(Arena *a, PackItem *item, int n, int order);

#endif
