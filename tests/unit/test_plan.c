/* SPDX-License-Identifier: MIT
 *
 * The packer of the plan pass on random lifetimes: what is alive together never overlaps, no
 * packing beats the bound, cases with a known optimum reach it, equal input gives equal output.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "passes/pack.h"
#include "run_suite.h"

enum { MAX_ITEMS = 200 };

static uint32_t draw(uint32_t *state, uint32_t n)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % n;
}

static int64_t aligned(int64_t bytes)
{
    return (bytes + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
}

static void check_packing(const PackItem *item, int n, int64_t total, int64_t bound)
{
    int64_t end = 0;
    ck_assert_int_ge(total, bound);
    for (int i = 0; i < n; i++) {
        ck_assert_int_ge(item[i].offset, 0);
        ck_assert_int_eq(item[i].offset % PACK_ALIGN, 0);
        if (item[i].offset + aligned(item[i].bytes) > end)
            end = item[i].offset + aligned(item[i].bytes);
        for (int j = 0; j < i; j++) {
            const bool together = item[i].first <= item[j].last && item[j].first <= item[i].last;
            const bool apart = item[i].offset + item[i].bytes <= item[j].offset ||
                               item[j].offset + item[j].bytes <= item[i].offset;
            ck_assert_msg(!together || apart, "items %d and %d overlap", i, j);
        }
    }
    ck_assert_int_eq(total, end);
}

/* By counting at every position, unlike the packer's running sum. */
static int64_t slow_bound(const PackItem *item, int n)
{
    int64_t bound = 0;
    for (int t = 0; t < 1000; t++) {
        int64_t live = 0;
        for (int i = 0; i < n; i++)
            if (item[i].first <= t && t <= item[i].last) live += aligned(item[i].bytes);
        if (live > bound) bound = live;
    }
    return bound;
}

START_TEST(random_lifetimes_never_overlap)
{
    uint32_t seed = 7;
    for (int round = 0; round < 100; round++) {
        Arena *a = arena_new();
        PackItem item[MAX_ITEMS], again[MAX_ITEMS];
        const int n = (int)draw(&seed, MAX_ITEMS + 1), length = 1 + (int)draw(&seed, 40);
        for (int i = 0; i < n; i++) {
            const int first = (int)draw(&seed, 900);
            const int64_t bytes =
                draw(&seed, 4) ? 1 + (int64_t)draw(&seed, 5000) : 64 << draw(&seed, 12);
            item[i] = (PackItem){ bytes, first, first + (int)draw(&seed, (uint32_t)length), -1 };
        }
        memcpy(again, item, sizeof item);
        const int64_t bound = pack_bound(a, item, n), total = pack_items(a, item, n, true);
        ck_assert_int_eq(bound, slow_bound(item, n));
        check_packing(item, n, total, bound);
        ck_assert_int_eq(pack_items(a, again, n, true), total);
        for (int i = 0; i < n; i++) ck_assert_int_eq(item[i].offset, again[i].offset);
        for (int order = 0; order < PACK_ORDERS; order++) {
            const int64_t size = pack_in_order(a, again, n, order);
            check_packing(again, n, size, bound);
            ck_assert_int_ge(size, total);
        }
        arena_free(a);
    }
}
END_TEST

/* The lifetimes of a training step: each activation lives until its mirror image in the backward
 * pass. Such a nest packs without a gap. */
START_TEST(nested_lifetimes_reach_the_bound)
{
    uint32_t seed = 3;
    for (int round = 0; round < 50; round++) {
        Arena *a = arena_new();
        PackItem item[60];
        const int n = 2 + (int)draw(&seed, 58);
        for (int i = 0; i < n; i++)
            item[i] = (PackItem){ 1 + (int64_t)draw(&seed, 100000), i, 2 * n - i, -1 };
        const int64_t bound = pack_bound(a, item, n);
        ck_assert_int_eq(pack_items(a, item, n, true), bound);
        arena_free(a);
    }
}
END_TEST

/* A chain: each value dies when the next is ready. Two buffers of the largest neighbours
 * suffice. */
START_TEST(chains_reach_the_bound)
{
    uint32_t seed = 5;
    for (int round = 0; round < 50; round++) {
        Arena *a = arena_new();
        PackItem item[60];
        const int n = 2 + (int)draw(&seed, 58);
        for (int i = 0; i < n; i++)
            item[i] = (PackItem){ 64 * (1 + (int64_t)draw(&seed, 1000)), i, i + 1, -1 };
        const int64_t bound = pack_bound(a, item, n), total = pack_items(a, item, n, true);
        check_packing(item, n, total, bound);
        ck_assert_int_eq(total, bound);
        arena_free(a);
    }
}
END_TEST

START_TEST(nothing_needs_nothing)
{
    Arena *a = arena_new();
    ck_assert_int_eq(pack_items(a, NULL, 0, true), 0);
    ck_assert_int_eq(pack_bound(a, NULL, 0), 0);
    arena_free(a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan");
    TCase *t = tcase_create("pack");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, random_lifetimes_never_overlap);
    tcase_add_test(t, nested_lifetimes_reach_the_bound);
    tcase_add_test(t, chains_reach_the_bound);
    tcase_add_test(t, nothing_needs_nothing);
    suite_add_tcase(s, t);
    return run_suite(s);
}
