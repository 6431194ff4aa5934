/* SPDX-License-Identifier: MIT
 *
 * The pool of threads behind SPMD routines. In: a function and its argument; out: the function has run
 * once on every thread. Invariant: a thread that waits spins for a while and then sleeps, so a step's
 * barriers cost well under a microsecond while an idle pool costs nothing; see Note [how long to spin].
 *
 * All waiting goes through one primitive, the Event: a counter that only grows, with a condition variable
 * for those who have given up spinning. Look up "Dekker's handshake" for why the two seq_cst accesses on
 * each side are enough to lose no wake-up.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity, sched_getcpu */
#endif
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "nn_threads.h"

/* OpenBLAS must not start threads of its own inside a team. The symbol is weak so that programs built
 * without BLAS link all the same. */
extern void openblas_set_num_threads(int n) __attribute__((weak));

/* Note [how long to spin]
 * Waking a sleeping thread takes 5 microseconds on a plain machine and 40 on a virtual one. A barrier that
 * spins for less than that falls into step with the wake-ups: the first to arrive sleeps, is woken, arrives
 * late at the next barrier, where the other one sleeps already, and every barrier of the routine costs a
 * wake-up instead of 0.3 microseconds. So threads inside a routine spin for longer than any wake-up takes,
 * by the clock, because a pause takes 10 ns on one processor and 50 on the next. Between routines a call may
 * follow at once or never: workers wait about as long as it takes to fill a batch. Who spins for long
 * offers the processor now and then, in case the one it waits for needs it.
 */
enum {
    MAX_THREADS = 1024,
    PAUSES = 64,               /* between two looks at the clock */
    SPIN_JOB_NS = 200 * 1000,  /* for the next job */
    SPIN_TEAM_NS = 1000 * 1000, /* for another thread of the team, at a barrier or at the end of a job */
    SPIN_ALONE_NS = 20 * 1000, /* of these, before the processor is offered to others */
    YIELDS = 4                 /* offers before sleeping where there are more threads than processors */
};

typedef struct Event {
    alignas(64) atomic_uint value;
    alignas(64) atomic_int sleepers;
    pthread_mutex_t lock;
    pthread_cond_t wake;
} Event;

struct nn_barrier_state {
    alignas(64) atomic_int arrived;
    int crowded;
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
    int size;
    int crowded;    /* a thread that is waited for may need the processor of the one that waits */
    int stop;       /* written before the last job is announced */
    int caller_cpu; /* where the job was announced, -1: unknown */
    nn_team_fn fn;
    void *arg;
    pthread_mutex_t run_lock; /* callers take turns */
    Worker *workers;          /* [1, size); entry 0 is unused: the caller */
#ifdef __linux__
    cpu_set_t cpus; /* that the threads may use */
#endif
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

int64_t nn_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int event_has_passed(Event *e, unsigned seen, int pauses)
{
    for (int i = 0; i < pauses; i++) {
        if (atomic_load_explicit(&e->value, memory_order_acquire) != seen) return 1;
        cpu_pause();
    }
    return 0;
}

/* Returns once the event's value differs from `seen`. */
static void event_wait(Event *e, unsigned seen, int64_t spin_ns, int crowded)
{
    if (event_has_passed(e, seen, PAUSES)) return;
    if (crowded) {
        for (int i = 0; i < YIELDS; i++) {
            sched_yield();
            if (event_has_passed(e, seen, 1)) return;
        }
    } else {
        const int64_t start = nn_now_ns();
        for (int64_t spun = 0; spun < spin_ns; spun = nn_now_ns() - start) {
            if (spun > SPIN_ALONE_NS) sched_yield();
            if (event_has_passed(e, seen, PAUSES)) return;
        }
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
        event_wait(&b->generation, generation, SPIN_TEAM_NS, b->crowded);
    }
}

/* ---- processors ---- */

static int current_cpu(void)
{
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

/* Some schedulers wake a worker on the processor of the thread that woke it, where it cannot run until that
 * one sleeps. A worker that finds itself there leaves, for one of the other processors it was started with,
 * and stays away until the caller moves. */
static void leave_cpu(const nn_pool *pool, int cpu)
{
#ifdef __linux__
    cpu_set_t others = pool->cpus;
    if (cpu >= CPU_SETSIZE) return;
    CPU_CLR((size_t)cpu, &others);
    if (CPU_COUNT(&others) > 0) sched_setaffinity(0, sizeof others, &others);
#else
    (void)pool;
    (void)cpu;
#endif
}

static void *worker_main(void *arg)
{
    Worker *w = arg;
    nn_pool *pool = w->pool;
    for (unsigned seen = 0;; seen++) {
        event_wait(&pool->job, seen, SPIN_JOB_NS, pool->crowded);
        if (pool->stop) return NULL;
        if (!pool->crowded && pool->caller_cpu >= 0 && pool->caller_cpu == current_cpu())
            leave_cpu(pool, pool->caller_cpu);
        pool->fn(pool->arg, &w->team);
        if (atomic_fetch_sub_explicit(&pool->running, 1, memory_order_acq_rel) == 1)
            event_advance(&pool->done);
    }
}

/* Notes the processors this thread may run on; their number, at least 1. */
static int processors(nn_pool *pool)
{
#ifdef __linux__
    CPU_ZERO(&pool->cpus);
    if (sched_getaffinity(0, sizeof pool->cpus, &pool->cpus) == 0) {
        int n = CPU_COUNT(&pool->cpus);
        if (n > 0) return n;
    }
#else
    (void)pool;
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
    nn_pool *pool = threads >= 0 ? aligned_alloc(64, (sizeof *pool + 63) / 64 * 64) : NULL;
    if (!pool) return NULL;
    *pool = (nn_pool){ .caller_cpu = -1 };
    const int cpus = processors(pool), size = threads == 0 ? cpus : threads;
    if (size > MAX_THREADS) {
        free(pool);
        return NULL;
    }
    pool->size = size;
    pool->crowded = pool->barrier.crowded = size > cpus;
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
    pool->caller_cpu = current_cpu();
    atomic_store_explicit(&pool->running, pool->size - 1, memory_order_relaxed);
    unsigned done = atomic_load_explicit(&pool->done.value, memory_order_relaxed);
    event_advance(&pool->job);
    nn_team team = { 0, pool->size, &pool->barrier };
    fn(arg, &team);
    event_wait(&pool->done, done, SPIN_TEAM_NS, pool->crowded);
    pthread_mutex_unlock(&pool->run_lock);
}
