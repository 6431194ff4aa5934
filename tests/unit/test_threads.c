/* SPDX-License-Identifier: MIT
 *
 * The thread pool: every thread runs the function once per call, barriers order memory, callers on
 * several threads take turns, more threads than processors make progress.
 */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "nn_threads.h"
#include "run_suite.h"

enum { MAX = 16, ROUNDS = 200 };

typedef struct Sum {
    long cell[MAX][16]; /* one cache line per thread */
    int wrong;
} Sum;

/* After each barrier every thread must see what all the others wrote before it. */
static void exchange(void *arg, const nn_team *team)
{
    Sum *s = arg;
    for (int round = 1; round <= ROUNDS; round++) {
        s->cell[team->rank][0] = round * (team->rank + 1);
        nn_barrier(team);
        for (int r = 0; r < team->size; r++)
            if (s->cell[r][0] != round * (r + 1))
                __atomic_fetch_add(&s->wrong, 1, __ATOMIC_RELAXED);
        nn_barrier(team);
    }
}

START_TEST(barriers_order_memory)
{
    for (int threads = 1; threads <= 5; threads++) {
        nn_pool *pool = nn_pool_new(threads);
        ck_assert_ptr_nonnull(pool);
        ck_assert_int_eq(nn_pool_size(pool), threads);
        Sum s = { 0 };
        nn_pool_run(pool, exchange, &s);
        ck_assert_int_eq(s.wrong, 0);
        for (int r = 0; r < threads; r++) ck_assert_int_eq(s.cell[r][0], ROUNDS * (r + 1));
        nn_pool_free(pool);
    }
}
END_TEST

static void count_ranks(void *arg, const nn_team *team)
{
    int *seen = arg;
    seen[team->rank]++;
    if (team->size == 1) seen[MAX - 1] = 1;
}

START_TEST(every_rank_runs_once_per_call)
{
    nn_pool *pool = nn_pool_new(3);
    ck_assert_ptr_nonnull(pool);
    int seen[MAX] = { 0 };
    for (int i = 0; i < 1000; i++) nn_pool_run(pool, count_ranks, seen);
    for (int r = 0; r < 3; r++) ck_assert_int_eq(seen[r], 1000);
    ck_assert_int_eq(seen[3], 0);
    nn_pool_free(pool);
}
END_TEST

START_TEST(no_pool_means_the_caller_alone)
{
    int seen[MAX] = { 0 };
    nn_pool_run(NULL, count_ranks, seen);
    ck_assert_int_eq(seen[0], 1);
    ck_assert_int_eq(seen[MAX - 1], 1);
    ck_assert_int_eq(nn_pool_size(NULL), 1);
    nn_pool_free(NULL);
}
END_TEST

START_TEST(sleeping_workers_wake_up)
{
    nn_pool *pool = nn_pool_new(4);
    ck_assert_ptr_nonnull(pool);
    int seen[MAX] = { 0 };
    for (int i = 0; i < 20; i++) {
        nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
        nn_pool_run(pool, count_ranks, seen);
    }
    for (int r = 0; r < 4; r++) ck_assert_int_eq(seen[r], 20);
    nn_pool_free(pool);
}
END_TEST

typedef struct Caller {
    nn_pool *pool;
    Sum sum;
} Caller;

static void *call_many(void *arg)
{
    Caller *c = arg;
    for (int i = 0; i < 10; i++) nn_pool_run(c->pool, exchange, &c->sum);
    return NULL;
}

START_TEST(callers_take_turns)
{
    nn_pool *pool = nn_pool_new(2);
    ck_assert_ptr_nonnull(pool);
    static Caller callers[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        callers[i] = (Caller){ .pool = pool };
        ck_assert_int_eq(pthread_create(&threads[i], NULL, call_many, &callers[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(callers[i].sum.wrong, 0);
    }
    nn_pool_free(pool);
}
END_TEST

START_TEST(impossible_sizes_are_refused)
{
    ck_assert_ptr_null(nn_pool_new(-1));
    ck_assert_ptr_null(nn_pool_new(1000000000));
    nn_pool *pool = nn_pool_new(0);
    ck_assert_ptr_nonnull(pool);
    ck_assert_int_ge(nn_pool_size(pool), 1);
    nn_pool_free(pool);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("threads");
    TCase *t = tcase_create("threads");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, barriers_order_memory);
    tcase_add_test(t, every_rank_runs_once_per_call);
    tcase_add_test(t, no_pool_means_the_caller_alone);
    tcase_add_test(t, sleeping_workers_wake_up);
    tcase_add_test(t, callers_take_turns);
    tcase_add_test(t, impossible_sizes_are_refused);
    suite_add_tcase(s, t);
    return run_suite(s);
}
