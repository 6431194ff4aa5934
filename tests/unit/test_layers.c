/* SPDX-License-Identifier: MIT
 *
 * Kernels of augmentation, fractional pooling, unshared convolution, enlarging and places: their draws by statistics
 * (within four standard deviations), by seed and by share of the batch, their adjoints by the inner product.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/augment.h"
#include "kernels/fractional.h"
#include "kernels/local.h"
#include "kernels/position.h"
#include "kernels/upsample.h"
#include "nn_threads.h"
#include "run_suite.h"

static uint32_t seed = 5;

static nn_real uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (nn_real)(seed >> 8) / (1 << 23) - 1;
}

static nn_real *reals(nn_dim n)
{
    nn_real *x = malloc((size_t)n * sizeof *x);
    for (nn_dim i = 0; i < n; i++) x[i] = uniform();
    return x;
}

static double dot(const nn_real *a, const nn_real *b, nn_dim n)
{
    double sum = 0;
    for (nn_dim i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

static void ck_close(double got, double want, double tolerance, const char *what)
{
    ck_assert_msg(fabs(got - want) <= tolerance, "%s: got %.9g, want %.9g within %.3g", what, got,
                  want, tolerance);
}

/* ---- rotation ---- */

START_TEST(rotation_angles_are_uniform)
{
    enum { N = 20000 };
    const nn_key key = nn_key_make(3, 1, 1, 7);
    double sum = 0, square = 0, most = 0;
    for (nn_dim i = 0; i < N; i++) {
        double c, s;
        nn_rotation(key, i, 30, &c, &s);
        const double a = atan2(s, c) * 180 / 3.14159265358979323846;
        sum += a;
        square += a * a;
        most = fmax(most, fabs(a));
    }
    /* Of U(-30, 30): mean 0, variance 300, fourth moment 30^4 / 5. */
    ck_close(sum / N, 0, 4 * sqrt(300.0 / N), "mean angle");
    ck_close(square / N, 300, 4 * sqrt((810000.0 / 5 - 90000) / N), "variance of the angle");
    ck_assert(most <= 30 && most > 29.9);
}
END_TEST

START_TEST(rotation_turns_and_its_gradient_is_the_adjoint)
{
    enum { ROWS = 5, H = 7, W = 6, C = 3, N = H * W * C };
    const nn_key key = nn_key_make(3, 1, 1, 7);
    nn_real *x = reals(ROWS * N), *dy = reals(ROWS * N), *y = reals(ROWS * N),
            *dx = reals(ROWS * N), *z = reals(ROWS * N);
    nn_random_rotate(key, 0, ROWS, 90, H, W, C, x, y);
    nn_random_rotate_dx(key, 0, ROWS, 90, H, W, C, dy, dx);
    ck_close(dot(y, dy, ROWS * N), dot(x, dx, ROWS * N), 1e-4, "adjoint");
    /* The same draws whatever the shares; others with another call. */
    nn_random_rotate(key, 0, 2, 90, H, W, C, x, z);
    nn_random_rotate(key, 2, ROWS - 2, 90, H, W, C, x + 2 * N, z + 2 * N);
    ck_assert(memcmp(y, z, ROWS * N * sizeof *y) == 0);
    nn_random_rotate(nn_key_make(3, 1, 1, 8), 0, ROWS, 90, H, W, C, x, z);
    ck_assert(memcmp(y, z, ROWS * N * sizeof *y) != 0);
    /* By no angle nothing moves. */
    nn_random_rotate(key, 0, ROWS, 0, H, W, C, x, z);
    ck_assert(memcmp(x, z, ROWS * N * sizeof *x) == 0);
    /* A bright pixel right of the middle goes up when the picture turns counter-clockwise. */
    nn_dim top, left;
    nn_real v, u;
    nn_rotated_from(0, 1, 5, 5, 0, 2, &top, &left, &v, &u);
    ck_close((double)(nn_real)top + (double)v, 2, 1e-6, "row seen from above the middle");
    ck_close((double)(nn_real)left + (double)u, 4, 1e-6, "column seen from above the middle");
    free(x), free(dy), free(y), free(dx), free(z);
}
END_TEST

/* ---- mixup ---- */

START_TEST(shares_have_the_beta_distribution)
{
    enum { N = 20000 };
    static const double alphas[] = { 0.05, 0.2, 0.5, 0.75, 1, 4 };
    for (size_t k = 0; k < sizeof alphas / sizeof *alphas; k++) {
        const double a = alphas[k], variance = 1 / (4 * (2 * a + 1));
        /* Fourth central moment of Beta(a, a). */
        const double fourth = 3 / (16 * (2 * a + 1) * (2 * a + 3));
        double sum = 0, square = 0;
        for (nn_dim i = 0; i < N; i++) {
            const double l = nn_symmetric_beta(nn_key_make(11, 0, 1, 0), i, a);
            ck_assert_msg(l >= 0 && l <= 1, "alpha %g: a share of %g", a, l);
            sum += l;
            square += (l - 0.5) * (l - 0.5);
        }
        ck_close(sum / N, 0.5, 4 * sqrt(variance / N), "mean share");
        ck_close(square / N, variance, 4 * sqrt((fourth - variance * variance) / N),
                 "variance of the share");
    }
}
END_TEST

START_TEST(mixup_is_the_same_for_any_share_of_the_batch)
{
    enum { B = 6, N = 5 };
    nn_real *x = reals(B * N), *y = reals(B * N), *z = reals(B * N), *d = reals(B * N);
    for (uint64_t call = 0; call < 20; call++) {
        const nn_key key = nn_key_make(1, 0, 2, call);
        nn_mixup(key, 0, B, B, 0.4, 0, N, x, y);
        for (nn_dim from = 0; from < B; from += 2)
            nn_mixup(key, from, 2, B, 0.4, 0, N, x, z + from * N);
        ck_assert(memcmp(y, z, B * N * sizeof *y) == 0);
        nn_mixup(key, 0, B, B, 0.4, 1, N, d, z);
        ck_close(dot(y, d, B * N), dot(x, z, B * N), 1e-5, "adjoint");
        /* A constant stays: the shares of each sample add up to one. */
        for (nn_dim i = 0; i < B * N; i++) z[i] = 1;
        nn_real ones[B * N];
        nn_mixup(key, 0, B, B, 0.4, 0, N, z, ones);
        for (nn_dim i = 0; i < B * N; i++) ck_close((double)ones[i], 1, 1e-6, "sum of shares");
    }
    nn_mixup(nn_key_make(1, 0, 2, 0), 0, 1, 1, 0.4, 0, N, x,
             y); /* alone in its batch: mixed with itself */
    for (nn_dim i = 0; i < N; i++) ck_close((double)y[i], (double)x[i], 1e-6, "one sample");
    free(x), free(y), free(z), free(d);
}
END_TEST

START_TEST(partners_are_uniform_and_never_oneself)
{
    enum { B = 5, CALLS = 8000 };
    int count[B] = { 0 };
    nn_real x[B], y[B];
    for (uint64_t call = 0; call < CALLS; call++) {
        for (int i = 0; i < B; i++) x[i] = i == 0 ? 1 : 0;
        nn_mixup(nn_key_make(1, 0, 2, call), 0, B, B, 1, 0, 1, x, y);
        for (int i = 1; i < B; i++) count[i] += y[i] > 0; /* sample i was mixed with sample 0 */
    }
    for (int i = 1; i < B; i++)
        ck_close(count[i], CALLS / 4.0, 4 * sqrt(CALLS * 0.25 * 0.75), "partner");
}
END_TEST

/* ---- fractional pooling ---- */

START_TEST(fractional_windows_cover_the_axis)
{
    for (int i = 0; i < 2000; i++) {
        const nn_dim out = 1 + i % 9, k = 1 + i % 3, in = out + k - 1 + i % (int)out;
        const double u = (double)(uniform() + 1) / 2;
        nn_dim before = 0;
        for (nn_dim j = 0; j < out; j++) {
            const nn_dim at = nn_fractional_start(u < 1 ? u : 0, in, out, k, j);
            ck_assert_msg(at >= 0 && at + k <= in && (j == 0 || at >= before),
                          "window %d of %d at %d of %d", (int)j, (int)out, (int)at, (int)in);
            if (j == 0 && out > 1) ck_assert_int_eq((int)at, 0);
            if (j == out - 1) ck_assert_int_eq((int)at, (int)(in - k));
            before = at;
        }
    }
}
END_TEST

START_TEST(fractional_places_are_drawn_by_sample)
{
    enum { ROWS = 400, IN = 25, OUT = 17, K = 2 };
    nn_real *x = malloc(ROWS * IN * IN * sizeof *x), *y = malloc(ROWS * OUT * OUT * sizeof *y),
            *z = malloc(ROWS * OUT * OUT * sizeof *y);
    int32_t *index = malloc(ROWS * OUT * OUT * sizeof *index);
    for (int i = 0; i < ROWS * IN * IN; i++)
        x[i] = (nn_real)(i % (IN * IN)); /* the maximum is the last of its window */
    const nn_key key = nn_key_make(9, 0, 1, 0);
    nn_fractional_max_pool2d(key, 0, ROWS, 1, IN, IN, 1, OUT, OUT, K, K, x, y, index);
    int differ = 0;
    double second = 0;
    for (int n = 0; n < ROWS; n++) {
        differ += n > 0 && memcmp(y, y + n * OUT * OUT, OUT * OUT * sizeof *y) != 0;
        second += index[n * OUT * OUT + OUT] / IN - 1; /* where the second row of windows begins */
        for (int i = 0; i < OUT * OUT; i++)
            ck_assert(y[n * OUT * OUT + i] == (nn_real)index[n * OUT * OUT + i]);
    }
    ck_assert_int_gt(differ, ROWS * 9 / 10);
    /* What a fine grid of u gives. */
    double mean = 0, variance = 0;
    for (int i = 0; i < 16000; i++)
        mean += (double)nn_fractional_start((i + 0.5) / 16000, IN, OUT, K, 1) / 16000;
    for (int i = 0; i < 16000; i++)
        variance +=
            pow((double)nn_fractional_start((i + 0.5) / 16000, IN, OUT, K, 1) - mean, 2) / 16000;
    ck_close(second / ROWS, mean, 4 * sqrt(variance / ROWS), "mean place of the second window");
    nn_fractional_max_pool2d(key, 100, 1, 1, IN, IN, 1, OUT, OUT, K, K, x + 100 * IN * IN, z,
                             index);
    ck_assert(memcmp(z, y + 100 * OUT * OUT, OUT * OUT * sizeof *y) == 0);
    free(x), free(y), free(z), free(index);
}
END_TEST

/* ---- unshared convolution ---- */

typedef struct Local {
    nn_local2d g;
    nn_dim rows;
    const nn_real *x, *dy;
    nn_real *dw;
} Local;

static void local_dw(void *arg, const nn_team *team)
{
    const Local *a = arg;
    nn_local_dw(team, a->rows, a->g, a->x, a->dy, a->dw, 0);
}

START_TEST(unshared_convolution_against_plain_loops)
{
    enum { ROWS = 3, H = 5, W = 4, C = 3, OH = 3, OW = 4, O = 19, R = 3, S = 2 };
    const nn_local2d g = NN_LOCAL(H, W, C, OH, OW, O, R, S, 2, 1, 1, 1);
    const nn_dim nx = ROWS * H * W * C, nw = OH * OW * R * S * C * O, ny = ROWS * OH * OW * O;
    nn_real *x = reals(nx), *w = reals(nw), *y = reals(ny), *dy = reals(ny), *dx = reals(nx),
            *dw = reals(nw), *again = reals(nw);
    nn_local(ROWS, g, x, w, y);
    for (int n = 0; n < ROWS; n++)
        for (int i = 0; i < OH; i++)
            for (int j = 0; j < OW; j++)
                for (int o = 0; o < O; o++) {
                    double sum = 0;
                    for (int r = 0; r < R; r++)
                        for (int s = 0; s < S; s++)
                            for (int c = 0; c < C; c++) {
                                const int row = 2 * i - 1 + r, column = j - 1 + s;
                                if (row < 0 || row >= H || column < 0 || column >= W) continue;
                                sum +=
                                    (double)x[((n * H + row) * W + column) * C + c] *
                                    (double)w[((((i * OW + j) * R + r) * S + s) * C + c) * O + o];
                            }
                    ck_close((double)y[((n * OH + i) * OW + j) * O + o], sum, 1e-5, "y");
                }
    nn_local_dx(ROWS, g, dy, w, dx);
    ck_close(dot(x, dx, nx), dot(y, dy, ny), 1e-3, "adjoint in x");
    for (int threads = 1; threads <= 5; threads += 2) {
        nn_pool *pool = nn_pool_new(threads);
        nn_pool_run(pool, local_dw, &(Local){ g, ROWS, x, dy, threads == 1 ? dw : again });
        nn_pool_free(pool);
        if (threads > 1) ck_assert(memcmp(dw, again, (size_t)nw * sizeof *dw) == 0);
    }
    ck_close(dot(w, dw, nw), dot(y, dy, ny), 1e-3, "adjoint in the weights");
    free(x), free(w), free(y), free(dy), free(dx), free(dw), free(again);
}
END_TEST

/* ---- enlarging, places ---- */

START_TEST(enlarging_has_its_adjoint)
{
    enum { ROWS = 2, H = 3, W = 4, C = 5, SH = 2, SW = 3 };
    const nn_dim nx = ROWS * H * W * C, ny = nx * SH * SW;
    nn_real *x = reals(nx), *y = reals(ny), *dy = reals(ny), *dx = reals(nx);
    nn_upsample_nearest(ROWS, H, W, C, SH, SW, x, y);
    nn_upsample_nearest_dx(ROWS, H, W, C, SH, SW, dy, dx);
    ck_close(dot(x, dx, nx), dot(y, dy, ny), 1e-3, "nearest");
    for (int align = 0; align < 2; align++) {
        nn_upsample_bilinear(ROWS, H, W, C, SH, SW, align, x, y);
        nn_upsample_bilinear_dx(ROWS, H, W, C, SH, SW, align, dy, dx);
        ck_close(dot(x, dx, nx), dot(y, dy, ny), 1e-3, "bilinear");
    }
    free(x), free(y), free(dy), free(dx);
}
END_TEST

START_TEST(places_and_masks)
{
    nn_real y[12];
    nn_arange(2, 0, 3, 2, 1, 0.5, y);
    const nn_real want[] = { 1, 1, 1.5, 1.5, 2, 2 };
    for (int i = 0; i < 12; i++) ck_assert(y[i] == want[i % 6]);
    nn_kernel_mask(1, 1, 1, 1, 9, 4, 0, y);
    for (int i = 0; i < 9; i++) ck_assert(y[i] == (i < 4 ? 1 : 0));
    /* Three colours of one channel each: A leaves the middle to earlier colours, B to their own too. */
    nn_kernel_mask(3, 3, 1, 3, 1, 0, 0, y);
    for (int o = 0; o < 3; o++)
        for (int i = 0; i < 3; i++) ck_assert(y[o * 3 + i] == (i < o ? 1 : 0));
    nn_kernel_mask(3, 3, 1, 3, 1, 0, 1, y);
    for (int o = 0; o < 3; o++)
        for (int i = 0; i < 3; i++) ck_assert(y[o * 3 + i] == (i <= o ? 1 : 0));
    /* In two groups the second one's first input is the third of four, and so of the second colour. */
    nn_kernel_mask(4, 2, 2, 2, 1, 0, 0, y);
    for (int i = 0; i < 8; i++) ck_assert(y[i] == 0);
    nn_kernel_mask(2, 4, 1, 2, 1, 0, 0, y);
    for (int i = 0; i < 8; i++) ck_assert(y[i] == (i >= 4 && i < 6 ? 1 : 0));
}
END_TEST

START_TEST(dropout_of_weights_counts_in_canonical_order)
{
    enum { A = 5, B = 7, N = A * B };
    const nn_key key = nn_key_make(2, 0, 1, 0);
    nn_real *x = reals(N), *t = reals(N), *y = reals(N), *z = reals(N);
    for (int i = 0; i < A; i++)
        for (int j = 0; j < B; j++) t[j * A + i] = x[i * B + j];
    nn_dropout(key, 0, N, 0.4, x, y);
    nn_dropout_strided(key, NN_BOX4(1, 1, A, B), NN_BOX4(0, 0, 1, A), 0.4, t, z);
    for (int i = 0; i < A; i++)
        for (int j = 0; j < B; j++) ck_assert(z[j * A + i] == y[i * B + j]);
    free(x), free(t), free(y), free(z);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("layers");
    TCase *tc = tcase_create("layers");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, rotation_angles_are_uniform);
    tcase_add_test(tc, rotation_turns_and_its_gradient_is_the_adjoint);
    tcase_add_test(tc, shares_have_the_beta_distribution);
    tcase_add_test(tc, mixup_is_the_same_for_any_share_of_the_batch);
    tcase_add_test(tc, partners_are_uniform_and_never_oneself);
    tcase_add_test(tc, fractional_windows_cover_the_axis);
    tcase_add_test(tc, fractional_places_are_drawn_by_sample);
    tcase_add_test(tc, unshared_convolution_against_plain_loops);
    tcase_add_test(tc, enlarging_has_its_adjoint);
    tcase_add_test(tc, places_and_masks);
    tcase_add_test(tc, dropout_of_weights_counts_in_canonical_order);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
