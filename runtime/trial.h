/* SPDX-License-Identifier: MIT
 *
 * Whether a call runs on the calling thread alone or on all threads of its object, found out by trying. In: the times
 * of calls so far; out: the choice for the next. Invariant: results have the same bits whatever is chosen, so a choice
 * may depend on a clock.
 *
 * Note [alone or by the team]
 * Generated code states what a call costs in nanoseconds of one machine. On another one work may take a tenth of that
 * or ten times as long, while what a team loses by waiting stays about the same, so that between calls that are surely
 * too small for a team and those that surely are not, the statement cannot tell. Such calls are timed: TRIES in a row
 * alone, TRIES by the team, in a row because calls that take turns fetch each other's lines of the cache. The least
 * time of each counts, since whatever disturbs a call only ever adds to it. Where processors share a cache may change
 * while a program runs (a virtual machine is moved), so the trial is repeated now and then.
 */
#ifndef NN_TRIAL_H
#define NN_TRIAL_H

#include <stdint.h>

enum {
    NN_TRIAL_TRIES = 8,
    NN_TRIAL_AGAIN = 1 << 12, /* calls from one trial to the next */
    NN_TRIAL_RANGE = 64,      /* how much slower than stated a machine is taken to be at most */
    NN_TRIAL_SURE = 8         /* a team that is expected to save so many times what it must is not questioned */
};

/* Of one call with its sizes, or of none yet: all zeros. */
typedef struct nn_trial {
    int64_t ns[2]; /* least time alone, by the team; 0: not known */
    int calls;     /* since the trial began */
} nn_trial;

/* May a trial change what the statement says? saved_ns: what a team is expected to save, cost_ns: what it must. */
static inline int nn_trial_pays(int64_t saved_ns, int64_t cost_ns)
{
    return saved_ns > cost_ns / NN_TRIAL_RANGE && saved_ns < cost_ns * NN_TRIAL_SURE;
}

/* Is the next call to be timed? */
static inline int nn_trial_is_open(const nn_trial *t)
{
    return t->calls < 2 * NN_TRIAL_TRIES;
}

/* Does the next call run by the team? After the trial only if that takes an eighth less: whoever waits for the call
 * gains little by less, and another processor is busy for it. */
static inline int nn_trial_by_team(const nn_trial *t)
{
    if (nn_trial_is_open(t)) return t->calls >= NN_TRIAL_TRIES;
    return t->ns[1] < t->ns[0] - t->ns[0] / 8;
}

/* A call has run as nn_trial_by_team said. ns: how long it took, where the trial is open. */
static inline void nn_trial_count(nn_trial *t, int64_t ns)
{
    if (nn_trial_is_open(t)) {
        int64_t *least = &t->ns[nn_trial_by_team(t)];
        if (*least == 0 || ns < *least) *least = ns;
    }
    if (++t->calls < NN_TRIAL_AGAIN) return;
    t->calls = 0;
    t->ns[0] = t->ns[1] = 0;
}

#endif
