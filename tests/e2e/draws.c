/* SPDX-License-Identifier: MIT
 *
 * Layers that draw: their statistics over 400 samples and 10 calls, within four standard deviations; other draws with
 * each call and seed; the same bits again and on other numbers of threads; the identity in infer routines. Prints a
 * line per test, "ok NAME" or "FAIL NAME".
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draws.h"

enum { N = 400, CALLS = 10, IMAGE = 2 * 8 * 8, FEATURES = 16 };

static float x[N * IMAGE], f[N * FEATURES], r[N * IMAGE];
static int failures;

static void report(int ok, const char *name, double got, double want, double within)
{
    failures += !ok;
    printf("%s %s: %.6g, expected %.6g within %.3g\n", ok ? "ok" : "FAIL", name, got, want, within);
}

/* Mean of CALLS values, each the mean of `count` numbers of standard deviation `deviation`. */
static void near(const char *name, double sum, double want, double deviation, double count)
{
    const double within = 4 * deviation / sqrt(count * CALLS) + 1e-6, got = sum / CALLS;
    report(fabs(got - want) <= within, name, got, want, within);
}

static void check(const char *name, int ok)
{
    failures += !ok;
    printf("%s %s\n", ok ? "ok" : "FAIL", name);
}

static draws *make(uint64_t seed, int threads)
{
    draws *m = draws_new(DRAWS_DRAW | DRAWS_SAME | DRAWS_MIXED | DRAWS_DENSE | DRAWS_POOL,
                         &(nn_options){ .seed = seed, .threads = threads, .all_threads = 1 });
    if (!m) exit(2);
    return m;
}

static draws_draw_out draw(draws *m)
{
    draws_draw_out out;
    memset(&out, 0, sizeof out);
    if (draws_draw(m, N, x, f, r, &out) != NN_OK) exit(2);
    return out;
}

static void statistics(void)
{
    draws *m = make(1, 2);
    draws_draw_out o, t;
    memset(&t, 0, sizeof t);
    double torn = 0, moved = 0, mix = 0;
    for (int call = 0; call < CALLS; call++) {
        o = draw(m);
#define ADD(name) t.name += o.name
        ADD(dropped), ADD(drop_mean), ADD(depth_gone), ADD(depth_mean), ADD(connect_mean), ADD(connect_var);
        ADD(noise_mean), ADD(noise_var), ADD(bright_mean), ADD(bright_var), ADD(contrast_mean), ADD(contrast_var);
        ADD(cut), ADD(flipped), ADD(cropped), ADD(slope_mean), ADD(slope_var);
        check("rrelu: slopes within the bounds", o.slope_least >= 0.2F && o.slope_largest <= 0.6F);
        check("rrelu: nothing changes above 0", o.above_zero == 0);
        torn = fmax(torn, fabs((double)o.depth_torn));
        moved = fmax(moved, (double)o.contrast_moved);
        mix = fmax(mix, fabs((double)o.mix_sum - 1));
        check("mixup moves samples", o.mix_moved > 0.01);
    }
    const double all = N * IMAGE;
    near("dropout: share of zeros", (double)t.dropped, 0.3, sqrt(0.3 * 0.7), all);
    near("dropout: mean stays", (double)t.drop_mean, 1, sqrt(0.3 / 0.7), all);
    near("stochastic_depth: share of branches dropped", (double)t.depth_gone, 0.2, sqrt(0.2 * 0.8), N);
    near("stochastic_depth: mean stays", (double)t.depth_mean, 1, sqrt(0.2 / 0.8), N);
    check("stochastic_depth: whole branches", torn == 0);
    /* 64 sums of 16 weights, the same for all samples: 16 (1/(1-p) - 1) = 16/3 is the variance of one. */
    near("drop_connect: mean stays", (double)t.connect_mean, 16, sqrt(16 / 3.0), 64);
    near("drop_connect: variance", (double)t.connect_var, 16 / 3.0, sqrt(2.0) * 16 / 3, 64);
    /* Of U(l, u) with d = u - l: variance d^2 / 12, fourth central moment d^4 / 80. */
    near("rrelu: mean of the slopes", (double)t.slope_mean, 0.4, 0.4 / sqrt(12), all);
    near("rrelu: variance of the slopes", (double)t.slope_var, 0.16 / 12, 0.16 * sqrt(1 / 80.0 - 1 / 144.0), all);
    near("gaussian_noise: mean", (double)t.noise_mean, 0, 0.5, all);
    near("gaussian_noise: variance", (double)t.noise_var, 0.25, sqrt(2.0) * 0.25, all);
    /* Of U(1 - a, 1 + a): variance a^2 / 3, fourth moment a^4 / 5. */
    near("color_jitter: mean of brightness", (double)t.bright_mean, 1, 0.4 / sqrt(3), N);
    near("color_jitter: variance of brightness", (double)t.bright_var, 0.16 / 3, 0.16 * sqrt(1 / 5.0 - 1 / 9.0), N);
    near("color_jitter: mean of contrast", (double)t.contrast_mean, 1, 0.5 / sqrt(3), N);
    near("color_jitter: variance of contrast", (double)t.contrast_var, 0.25 / 3, 0.25 * sqrt(1 / 5.0 - 1 / 9.0), N);
    report(moved < 1e-5, "color_jitter: contrast keeps the mean", moved, 0, 1e-5);
    /* A side of 3 about a middle in 0..7, cut off at both ends: 22/8 on average. */
    near("cutout: share of zeros", (double)t.cut, 22.0 * 22 / 64 / 64, 9.0 / 64, N);
    near("random_flip: half of the samples", (double)t.flipped, 0.5, 0.5, N);
    near("random_crop: all but the middle place of 9", (double)t.cropped, 8 / 9.0, sqrt(8.0) / 9, N);
    report(mix < 1e-6, "mixup: targets stay distributions", mix, 0, 1e-6);
    draws_free(m);
}

static void seeds(void)
{
    draws *a = make(1, 1), *b = make(1, 3), *c = make(2, 1);
    const draws_draw_out first = draw(a), other = draw(c), second = draw(a);
    draws_draw_out again = draw(b);
    check("the same seed on other threads: same bits", memcmp(&first, &again, sizeof first) == 0);
    again = draw(b);
    check("the second call too", memcmp(&second, &again, sizeof first) == 0);
#define DIFFER(name) check(#name ": another call, another draw", first.name != second.name); \
                     check(#name ": another seed, another draw", first.name != other.name)
    DIFFER(drop_mean);
    DIFFER(connect_var);
    DIFFER(noise_mean);
    DIFFER(bright_mean);
    DIFFER(slope_mean);
    DIFFER(contrast_mean);
    DIFFER(mix_moved);
    DIFFER(pool_mean);
    draws_free(a), draws_free(b), draws_free(c);
}

static void inference(void)
{
    static float y[N * IMAGE], u[N * IMAGE], v[N * 3], h[N * 64], p[2][N * 2 * 5 * 5];
    draws *m = make(1, 2);
    check("infer runs", draws_same(m, N, r, y) == NN_OK && draws_mixed(m, N, r, f, u, v) == NN_OK &&
                            draws_dense(m, N, f, h) == NN_OK);
    check("infer: identity", memcmp(y, r, sizeof y) == 0);
    check("infer: mixup is the identity", memcmp(u, r, sizeof u) == 0 && memcmp(v, f, sizeof v) == 0);
    int whole = 1;
    for (int i = 0; i < N * 64; i++) whole = whole && h[i] == 16;
    check("infer: drop_connect keeps every weight", whole);
    check("infer: fractional pooling draws nothing", draws_pool(m, N, r, p[0]) == NN_OK &&
                                                         draws_pool(m, N, r, p[1]) == NN_OK &&
                                                         memcmp(p[0], p[1], sizeof p[0]) == 0);
    draws_free(m);
}

int main(void)
{
    uint32_t state = 1;
    for (int i = 0; i < N * IMAGE; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = 1;
        r[i] = (float)(state >> 8) / (1 << 24);
    }
    for (int i = 0; i < N * FEATURES; i++) f[i] = 1;
    statistics();
    seeds();
    inference();
    return failures ? 1 : 0;
}
