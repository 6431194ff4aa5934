/* SPDX-License-Identifier: MIT
 *
 * What tests of kernels share: random numbers, comparisons with results in double precision, teams of one, two and
 * three threads. A file that includes this one is built in single precision or, with NN_REAL_F64, in double.
 */
#ifndef KERNELS_CHECK_H
#define KERNELS_CHECK_H

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn_kernels.h"
#include "nn_threads.h"
#include "run_suite.h"

#ifdef NN_REAL_F64
static const double TOLERANCE = 1e-13;
#else
static const double TOLERANCE = 1e-6;
#endif

#if defined(NN_NO_THREADS)
enum { TEAMS = 1 };
#else
enum { TEAMS = 3 };
#endif

/* Random cases are a part of what they are here where the processor is an emulated one. */
#ifndef TARGET_FEWER
#define TARGET_FEWER 1
#endif
#define CASES(n) (((n) + TARGET_FEWER - 1) / TARGET_FEWER)

/* No test needs all of these. */
#define MAYBE static __attribute__((unused))

static uint32_t seed = 1;

MAYBE double uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (double)(seed >> 8) / (1 << 24) - 0.5;
}

MAYBE int draw(int lo, int hi)
{
    return lo + (int)((uniform() + 0.5) * (hi - lo + 1));
}

/* Exactly n elements, so that an address sanitizer sees any access outside. */
MAYBE nn_real *reals(nn_dim n, int random)
{
    nn_real *p = malloc((size_t)n * sizeof *p);
    ck_assert_ptr_nonnull(p);
    for (nn_dim i = 0; i < n; i++) p[i] = random ? (nn_real)uniform() : (nn_real)NAN;
    return p;
}

MAYBE double *doubles(nn_dim n)
{
    double *p = calloc((size_t)(n ? n : 1), sizeof *p);
    ck_assert_ptr_nonnull(p);
    return p;
}

MAYBE double square_sum(nn_dim n, const double *x)
{
    double sum = 0;
    for (nn_dim i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

/* `norm`: of what the error is measured against, squared. */
MAYBE void expect_within(const char *what, nn_dim n, const nn_real *got, const double *want, double norm)
{
    double error = 0;
    for (nn_dim i = 0; i < n; i++) {
        const double d = (double)got[i] - want[i];
        error += d * d;
    }
    ck_assert_msg(sqrt(error) <= TOLERANCE * sqrt(norm) + 1e-30,
                  "%s: relative error %g over %lld elements", what,
                  sqrt(error / (norm > 0 ? norm : 1)), (long long)n);
}

MAYBE void expect_close(const char *what, nn_dim n, const nn_real *got, const double *want)
{
    expect_within(what, n, got, want, square_sum(n, want));
}

/* For sums that may cancel: the error is measured against `scale`, the size of what was added. */
MAYBE void expect_sum(const char *what, nn_dim n, const nn_real *got, const double *want,
                      const double *scale)
{
    for (nn_dim i = 0; i < n; i++)
        ck_assert_msg(fabs((double)got[i] - want[i]) <= TOLERANCE * scale[i],
                      "%s: element %lld is %.17g instead of %.17g", what, (long long)i,
                      (double)got[i], want[i]);
}

MAYBE void expect_same(const char *what, nn_dim n, const nn_real *a, const nn_real *b)
{
    ck_assert_msg(memcmp(a, b, (size_t)n * sizeof *a) == 0,
                  "%s: bits depend on the number of threads", what);
}

/* Teams of 1..TEAMS threads, between pools_start and pools_stop; the first one is no pool. */
static nn_pool *pools[TEAMS + 1];

MAYBE void pools_start(void)
{
#if !defined(NN_NO_THREADS)
    for (int t = 2; t <= TEAMS; t++) ck_assert_ptr_nonnull(pools[t] = nn_pool_new(t));
#endif
}

MAYBE void pools_stop(void)
{
#if !defined(NN_NO_THREADS)
    for (int t = 2; t <= TEAMS; t++) nn_pool_free(pools[t]);
#endif
}

/* The one case of a suite, whose tests have teams. */
MAYBE TCase *kernels_case(Suite *s, const char *name)
{
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 200);
    tcase_add_checked_fixture(t, pools_start, pools_stop);
    suite_add_tcase(s, t);
    return t;
}

#endif
