/* SPDX-License-Identifier: MIT
 *
 * The thread pool: every thread runs the function once per call, barriers order memory, callers on
 * several threads take turns, more threads than processors make progress. And the trial that chooses
 * between the caller alone and all of them.
 */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "nn_model.h"
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

/* Counts calls of which one takes `alone` and `team` nanoseconds, from the second on; the first takes 50 times as long.
 * How many of them ran by the team? */
static int by_team(nn_trial *t, int calls, int64_t alone, int64_t team)
{
    int n = 0;
    for (int i = 0; i < calls; i++) {
        const int chosen = nn_trial_by_team(t);
        n += chosen;
        nn_trial_count(t, (i == 0 ? 50 : 1) * (chosen ? team : alone));
    }
    return n;
}

START_TEST(a_trial_finds_the_faster)
{
    enum { OPEN = 2 * NN_TRIAL_TRIES, MORE = 100 };
    nn_trial t = { 0 };
    ck_assert_int_eq(by_team(&t, OPEN, 1000, 600), NN_TRIAL_TRIES);
    ck_assert_int_eq(by_team(&t, MORE, 1000, 600), MORE);
    t = (nn_trial){ 0 };
    ck_assert_int_eq(by_team(&t, OPEN, 1000, 900), NN_TRIAL_TRIES); /* faster, but not by an eighth */
    ck_assert_int_eq(by_team(&t, MORE, 1000, 900), 0);
    t = (nn_trial){ 0 };
    by_team(&t, OPEN, 1000, 5000);
    ck_assert_int_eq(by_team(&t, NN_TRIAL_AGAIN - OPEN, 1000, 5000), 0);
    ck_assert(nn_trial_is_open(&t)); /* and anew: now the team is faster */
    by_team(&t, OPEN, 1000, 500);
    ck_assert_int_eq(by_team(&t, MORE, 1000, 500), MORE);
}
END_TEST

/* A call that sleeps on one kind of team and counts the calls of the other. */
typedef struct Sleeper {
    int slow_size, fast_calls;
} Sleeper;

static void sleep_or_count(void *arg, const nn_team *team)
{
    Sleeper *s = arg;
    if (team->rank != 0) return;
    if (team->size == s->slow_size)
        nanosleep(&(struct timespec){ .tv_nsec = 20 * 1000 * 1000 }, NULL);
    else
        s->fast_calls++;
}

START_TEST(calls_run_as_their_trial_says)
{
    enum { WORK_NS = 10000, TEAM_NS = 300, CALLS = 2 * NN_TRIAL_TRIES + 10 };
    nn_pool *pool = nn_pool_new(2);
    ck_assert_ptr_nonnull(pool);
    for (int slow = 1; slow <= 2; slow++) {
        static nn_model m;
        m = (nn_model){ .pool = pool };
        Sleeper s = { .slow_size = slow };
        for (int i = 0; i < CALLS; i++) nn_model_run(&m, sleep_or_count, &s, WORK_NS, TEAM_NS);
        ck_assert_int_eq(s.fast_calls, CALLS - NN_TRIAL_TRIES);

        /* Nothing is tried where the statement is sure, or the caller wants all threads. */
        s = (Sleeper){ .slow_size = 3 - slow };
        m = (nn_model){ .pool = pool };
        for (int i = 0; i < CALLS; i++)
            nn_model_run(&m, sleep_or_count, &s, slow == 1 ? 10 : 100 * 1000 * 1000, TEAM_NS);
        ck_assert_int_eq(s.fast_calls, CALLS);
        s = (Sleeper){ .slow_size = 1 };
        m = (nn_model){ .pool = pool, .all_threads = 1 };
        for (int i = 0; i < CALLS; i++) nn_model_run(&m, sleep_or_count, &s, WORK_NS, TEAM_NS);
        ck_assert_int_eq(s.fast_calls, CALLS);
    }
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
    tcase_add_test(t, a_trial_finds_the_faster);
    tcase_add_test(t, calls_run_as_their_trial_says);
    suite_add_tcase(s, t);
    return run_suite(s);
}
