/* SPDX-License-Identifier: MIT
 *
 * What this machine can do, measured the same way before and after the models: ceilings THREADS [fma]
 *   fma     GFLOP/s of fused multiply-adds on registers alone
 *   sgemm   GFLOP/s of OpenBLAS on 1024^3, one call per thread
 *   triad   GB/s of a[i] = b[i] + s * c[i] on arrays far larger than the caches
 *   trip    nanoseconds that a line of the cache takes to another processor and back. In a virtual machine this may
 *           change within minutes, as processors come to share a cache or not, and with it what threads gain
 * `fma` measures multiply-adds and the trip alone, which takes a moment: whether a machine is as it was.
 */
#define _GNU_SOURCE
#include <cblas.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

extern void openblas_set_num_threads(int n);

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
typedef float vec __attribute__((vector_size(LANES * sizeof(float))));
enum { CHAINS = 12 }; /* more than latency times ports, fewer than registers */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

typedef struct Job {
    int what;
    double work, sink, from, to; /* seconds */
    pthread_barrier_t *start;
} Job;

/* Each waits for the others when its data is ready, so that only the work itself is timed. */
static void begin(Job *j)
{
    pthread_barrier_wait(j->start);
    j->from = now();
}

static double run_fma(Job *j)
{
    enum { N = 20000000 };
    vec acc[CHAINS], a = (vec){ 0 } + 1.0000001F, b = (vec){ 0 } + 1e-7F;
    for (int k = 0; k < CHAINS; k++) acc[k] = a * (float)(k + 1);
    begin(j);
    for (int i = 0; i < N; i++) {
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++) acc[k] = acc[k] * a + b;
        /* The compiler may not reason across iterations. */
        __asm__ volatile("");
    }
    for (int k = 0; k < CHAINS; k++) j->sink += (double)acc[k][0];
    return 2.0 * N * CHAINS * LANES * 1e-9;
}

static double run_sgemm(Job *j)
{
    enum { N = 1024, REPEAT = 10 };
    float *a = malloc(3 * N * N * sizeof *a), *b = a + N * N, *c = b + N * N;
    for (int i = 0; i < N * N; i++) a[i] = b[i] = (float)(i % 7) * 0.1F;
    begin(j);
    for (int r = 0; r < REPEAT; r++)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, N, N, N, 1, a, N, b, N, 0, c, N);
    j->sink += (double)c[5];
    free(a);
    return 2.0 * N * N * N * REPEAT * 1e-9;
}

static double run_triad(Job *j)
{
    enum { N = 16 << 20, REPEAT = 5 };
    float *a = malloc(3UL * N * sizeof *a), *b = a + N, *c = b + N;
    for (long i = 0; i < N; i++) a[i] = b[i] = c[i] = (float)(i & 15);
    begin(j);
    for (int r = 0; r < REPEAT; r++) {
        for (long i = 0; i < N; i++) a[i] = b[i] + 0.5F * c[i];
        j->sink += (double)a[r];
        __asm__ volatile("" ::"r"(a) : "memory");
    }
    free(a);
    return 3.0 * N * sizeof(float) * REPEAT * 1e-9;
}

/* ---- the trip ---- */

enum { TRIPS = 10000 };
typedef struct Line {
    _Alignas(64) atomic_int turn;
    int cpu; /* of the thread that answers */
} Line;

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

/* Where both threads share a processor all the same, waiting gives way. */
static void wait_for(Line *l, int turn)
{
    for (int n = 1; atomic_load(&l->turn) != turn; n++)
        if (n % 100000 == 0) sched_yield();
}

static void *answer(void *arg)
{
    Line *l = arg;
    pin(l->cpu);
    for (int i = 0; i < TRIPS; i++) {
        wait_for(l, 2 * i + 1);
        atomic_store(&l->turn, 2 * i + 2);
    }
    return NULL;
}

/* Between the first two processors that this process may run on; 0 where there is one. */
static double trip_ns(void)
{
    cpu_set_t allowed;
    int cpu[2], n = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return 0;
    for (int i = 0; i < CPU_SETSIZE && n < 2; i++)
        if (CPU_ISSET(i, &allowed)) cpu[n++] = i;
    if (n < 2) return 0;
    Line l = { 0, cpu[1] };
    pthread_t other;
    pthread_create(&other, NULL, answer, &l);
    pin(cpu[0]);
    double from = now();
    for (int i = 0; i < TRIPS; i++) {
        if (i == TRIPS / 2) from = now();
        atomic_store(&l.turn, 2 * i + 1);
        wait_for(&l, 2 * i + 2);
    }
    const double t = now() - from;
    pthread_join(other, NULL);
    pthread_setaffinity_np(pthread_self(), sizeof allowed, &allowed);
    return 1e9 * t / (TRIPS - TRIPS / 2);
}

static void *run(void *arg)
{
    Job *j = arg;
    j->work = j->what == 0 ? run_fma(j) : j->what == 1 ? run_sgemm(j) : run_triad(j);
    j->to = now();
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    if (threads < 1 || threads > 64) return 2;
    openblas_set_num_threads(1);
    double best[3] = { 0 };
    const int kinds = argc > 2 && !strcmp(argv[2], "fma") ? 1 : 3;
    for (int what = 0; what < kinds; what++) {
        for (int round = 0; round < (what == 0 ? 6 : 2); round++) {
            Job job[64];
            pthread_t thread[64];
            pthread_barrier_t start;
            pthread_barrier_init(&start, NULL, (unsigned)threads);
            for (int i = 0; i < threads; i++) {
                job[i] = (Job){ .what = what, .start = &start };
                pthread_create(&thread[i], NULL, run, &job[i]);
            }
            double work = 0, from = 0, to = 0;
            for (int i = 0; i < threads; i++) {
                pthread_join(thread[i], NULL);
                work += job[i].work;
                if (i == 0 || job[i].from < from) from = job[i].from;
                if (i == 0 || job[i].to > to) to = job[i].to;
            }
            const double t = to - from;
            if (work / t > best[what]) best[what] = work / t;
            pthread_barrier_destroy(&start);
        }
    }
    printf("{\"threads\": %d, \"fma_gflops\": %.1f, \"sgemm_gflops\": %.1f, \"triad_gbs\": %.1f, "
           "\"trip_ns\": %.0f}\n",
           threads, best[0], best[1], best[2], threads > 1 ? trip_ns() : 0.0);
    return 0;
}
