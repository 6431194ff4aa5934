/* SPDX-License-Identifier: MIT
 *
 * The pool of threads behind SPMD routines. In: a function and its argument; out: the function has run
 * once on every thread. Invariant: a thread that waits spins for tens of microseconds and then sleeps,
 * so a step's barriers cost well under a microsecond while an idle pool costs nothing.
 *
 * All waiting goes through one primitive, the Event: a counter that only grows, with a condition variable
 * for those who have given up spinning. Look up "Dekker's handshake" for why the two seq_cst accesses on
 * each side are enough to lose no wake-up.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "nn_threads.h"

/* OpenBLAS must not start threads of its own inside a team. The symbol is weak so that programs built
 * without BLAS link all the same. */
extern void openblas_set_num_threads(int n) __attribute__((weak));

enum {
    MAX_THREADS = 1024,
    SPINS = 1500,       /* pauses before sleeping: about 20 to 60 microseconds */
    SPINS_CROWDED = 30, /* when a thread that is waited for may need this very processor */
    YIELDS = 4          /* offers of the processor between spinning and sleeping */
};

typedef struct Event {
    alignas(64) atomic_uint value;
    alignas(64) atomic_int sleepers;
    pthread_mutex_t lock;
    pthread_cond_t wake;
} Event;

struct nn_barrier_state {
    alignas(64) atomic_int arrived;
    int spins;
    Event generation;
};

typedef struct Worker {
    nn_pool *pool;
    nn_team team;
    pthread_t thread;
} Worker;

struct nn_pool {
    nn_barrier_state barrier;
    Event job;                      /* one more for every nn_pool_run */
    Event done;                     /* one more when the last worker has finished a job */
    alignas(64) atomic_int running; /* workers that have not finished the job */
    int size, spins;
    int stop; /* written before the last job is announced */
    nn_team_fn fn;
    void *arg;
    pthread_mutex_t run_lock; /* callers take turns */
    Worker *workers;          /* [1, size); entry 0 is unused: the caller */
};

static inline void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ __volatile__("yield" ::: "memory");
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static int event_init(Event *e)
{
    atomic_init(&e->value, 0);
    atomic_init(&e->sleepers, 0);
    if (pthread_mutex_init(&e->lock, NULL) != 0) return -1;
    if (pthread_cond_init(&e->wake, NULL) != 0) {
        pthread_mutex_destroy(&e->lock);
        return -1;
    }
    return 0;
}

static void event_destroy(Event *e)
{
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
}

static void event_advance(Event *e)
{
    atomic_fetch_add(&e->value, 1);
    if (atomic_load(&e->sleepers) == 0) return;
    pthread_mutex_lock(&e->lock);
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

/* Returns once the event's value differs from `seen`. */
static void event_wait(Event *e, unsigned seen, int spins)
{
    for (int i = 0; i < spins; i++) {
        if (atomic_load_explicit(&e->value, memory_order_acquire) != seen) return;
        cpu_pause();
    }
    for (int i = 0; i < YIELDS; i++) {
        if (atomic_load_explicit(&e->value, memory_order_acquire) != seen) return;
        sched_yield();
    }
    pthread_mutex_lock(&e->lock);
    atomic_fetch_add(&e->sleepers, 1);
    while (atomic_load(&e->value) == seen) pthread_cond_wait(&e->wake, &e->lock);
    atomic_fetch_sub(&e->sleepers, 1);
    pthread_mutex_unlock(&e->lock);
}

void nn_barrier(const nn_team *team)
{
    nn_barrier_state *b = team->barrier;
    if (team->size <= 1 || b == NULL) return;
    /* The generation cannot advance before this thread has arrived. */
    unsigned generation = atomic_load_explicit(&b->generation.value, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == team->size - 1) {
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        event_advance(&b->generation);
    } else {
        event_wait(&b->generation, generation, b->spins);
    }
}

static void *worker_main(void *arg)
{
    Worker *w = arg;
    nn_pool *pool = w->pool;
    for (unsigned seen = 0;; seen++) {
        event_wait(&pool->job, seen, pool->spins);
        if (pool->stop) return NULL;
        pool->fn(pool->arg, &w->team);
        if (atomic_fetch_sub_explicit(&pool->running, 1, memory_order_acq_rel) == 1)
            event_advance(&pool->done);
    }
}

/* Processors this process may run on; at least 1. */
static int processors(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        int n = CPU_COUNT(&set);
        if (n > 0) return n;
    }
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (int)n;
}

/* Ends and joins the workers [1, n). */
static void workers_stop(nn_pool *pool, int n)
{
    pool->stop = 1;
    event_advance(&pool->job);
    for (int i = 1; i < n; i++) pthread_join(pool->workers[i].thread, NULL);
}

static int pool_events_init(nn_pool *pool)
{
    if (event_init(&pool->barrier.generation) != 0) return -1;
    if (event_init(&pool->job) == 0) {
        if (event_init(&pool->done) == 0) {
            if (pthread_mutex_init(&pool->run_lock, NULL) == 0) return 0;
            event_destroy(&pool->done);
        }
        event_destroy(&pool->job);
    }
    event_destroy(&pool->barrier.generation);
    return -1;
}

static void pool_release(nn_pool *pool)
{
    pthread_mutex_destroy(&pool->run_lock);
    event_destroy(&pool->done);
    event_destroy(&pool->job);
    event_destroy(&pool->barrier.generation);
    free(pool->workers);
    free(pool);
}

nn_pool *nn_pool_new(int threads)
{
    if (openblas_set_num_threads) openblas_set_num_threads(1);
    int cpus = processors();
    int size = threads == 0 ? cpus : threads;
    if (size < 1 || size > MAX_THREADS) return NULL;

    nn_pool *pool = aligned_alloc(64, (sizeof *pool + 63) / 64 * 64);
    if (!pool) return NULL;
    *pool = (nn_pool){ .size = size, .spins = size > cpus ? SPINS_CROWDED : SPINS };
    pool->barrier.spins = pool->spins;
    atomic_init(&pool->barrier.arrived, 0);
    atomic_init(&pool->running, 0);
    pool->workers = calloc((size_t)size, sizeof *pool->workers);
    if (!pool->workers || pool_events_init(pool) != 0) {
        free(pool->workers);
        free(pool);
        return NULL;
    }

    /* Workers take no signals: handlers run on the application's own threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int started = 1;
    for (; started < size; started++) {
        Worker *w = &pool->workers[started];
        *w = (Worker){ .pool = pool, .team = { started, size, &pool->barrier } };
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started < size) {
        workers_stop(pool, started);
        pool_release(pool);
        return NULL;
    }
    return pool;
}

void nn_pool_free(nn_pool *pool)
{
    if (!pool) return;
    workers_stop(pool, pool->size);
    pool_release(pool);
}

int nn_pool_size(const nn_pool *pool)
{
    return pool ? pool->size : 1;
}

void nn_pool_run(nn_pool *pool, nn_team_fn fn, void *arg)
{
    if (!pool || pool->size == 1) {
        nn_team alone = { 0, 1, NULL };
        fn(arg, &alone);
        return;
    }
    pthread_mutex_lock(&pool->run_lock);
    pool->fn = fn;
    pool->arg = arg;
    atomic_store_explicit(&pool->running, pool->size - 1, memory_order_relaxed);
    unsigned done = atomic_load_explicit(&pool->done.value, memory_order_relaxed);
    event_advance(&pool->job);
    nn_team team = { 0, pool->size, &pool->barrier };
    fn(arg, &team);
    event_wait(&pool->done, done, pool->spins);
    pthread_mutex_unlock(&pool->run_lock);
}
