/* SPDX-License-Identifier: MIT
 *
 * Teams of threads for SPMD routines. A pool of T threads runs one function on all of them at once;
 * thread 0 is the caller. Between runs the others spin briefly, then sleep.
 *
 * With NN_NO_THREADS there is no pool, and nothing below needs threads.c: everything runs on the caller.
 */
#ifndef NN_THREADS_H
#define NN_THREADS_H

#include "nn.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nn_barrier_state nn_barrier_state;

/* A thread's view of its team. rank 0 is the caller; size >= 1. */
typedef struct nn_team {
    int rank, size;
    nn_barrier_state *barrier; /* NULL when size is 1 */
} nn_team;

typedef void (*nn_team_fn)(void *arg, const nn_team *team);

#if defined(NN_NO_THREADS)

static inline void nn_barrier(const nn_team *team)
{
    (void)team;
}

static inline int nn_pool_size(const nn_pool *pool)
{
    (void)pool;
    return 1;
}

static inline void nn_pool_run(nn_pool *pool, nn_team_fn fn, void *arg)
{
    const nn_team alone = { 0, 1, NULL };
    (void)pool;
    fn(arg, &alone);
}

#else

/* Waits until all threads of the team are here; what was written before is visible after. */
void nn_barrier(const nn_team *team);

/* threads = 0: one per processor this process may run on. NULL when a thread could not be started. */
nn_pool *nn_pool_new(int threads);
void nn_pool_free(nn_pool *pool);
int nn_pool_size(const nn_pool *pool); /* 1 for NULL */

/* Runs fn on every thread and returns when all are done. pool = NULL runs it on the caller alone. Calls
 * from several threads on one pool are serialised; calls from inside fn are an error (they deadlock). */
void nn_pool_run(nn_pool *pool, nn_team_fn fn, void *arg);

int64_t nn_now_ns(void); /* a clock that only runs forward, in nanoseconds */

#endif

#ifdef __cplusplus
}
#endif
#endif
