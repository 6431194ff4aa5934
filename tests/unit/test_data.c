/* SPDX-License-Identifier: MIT
 *
 * Data sets, batches, rendered digits, pictures: every sample once per epoch, orders that depend on seed
 * and epoch alone, splits without overlap, digits that are reproducible and differ.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nn_data.h"
#include "nn_log.h"
#include "run_suite.h"

enum { N = 103 };

static float x[N][3], t[N][2];
static int32_t y[N];

static nn_dataset sample(void)
{
    for (int i = 0; i < N; i++) {
        y[i] = i % 7;
        for (int k = 0; k < 3; k++) x[i][k] = (float)(i * 3 + k);
        for (int k = 0; k < 2; k++) t[i][k] = (float)-(i * 2 + k);
    }
    return nn_dataset_wrap(N, 3, x[0], y, 2, t[0]);
}

START_TEST(an_epoch_has_every_sample_once)
{
    nn_dataset d = sample();
    nn_batches b;
    ck_assert_int_eq(d.classes, 7);
    ck_assert_int_eq(nn_batches_init(&b, &d, 10, 1), NN_OK);
    ck_assert_int_eq(nn_batches_count(&b), 11);
    int first[2] = { -1, -1 };
    for (int epoch = 0; epoch < 2; epoch++) {
        int seen[N] = { 0 }, batches = 0, n;
        nn_batches_start(&b, epoch);
        while ((n = nn_batches_next(&b)) > 0) {
            ck_assert_int_eq(n, batches == 10 ? 3 : 10);
            for (int i = 0; i < n; i++) {
                int row = (int)b.batch.x[i * 3] / 3;
                if (first[epoch] < 0) first[epoch] = row;
                seen[row]++;
                ck_assert_int_eq(b.batch.y[i], row % 7);
                ck_assert(b.batch.t[i * 2 + 1] == (float)-(row * 2 + 1));
            }
            batches++;
        }
        for (int i = 0; i < N; i++) ck_assert_int_eq(seen[i], 1);
    }
    ck_assert_int_ne(first[0], first[1]);
    nn_batches_free(&b);
}
END_TEST

START_TEST(skipping_leads_to_the_same_batches)
{
    nn_dataset d = sample();
    nn_batches a, b;
    nn_batches_init(&a, &d, 10, 9);
    nn_batches_init(&b, &d, 10, 9);
    for (int skip = 0; skip <= 12; skip++) {
        nn_batches_start(&a, 5);
        for (int i = 0; i < skip; i++) nn_batches_next(&a);
        nn_batches_start(&b, 5);
        nn_batches_skip(&b, skip);
        int n = nn_batches_next(&a);
        ck_assert_int_eq(n, nn_batches_next(&b));
        ck_assert(memcmp(a.x, b.x, (size_t)n * 3 * sizeof(float)) == 0);
    }
    nn_batches_skip(&b, INT64_MAX);
    ck_assert_int_eq(nn_batches_next(&b), 0);
    nn_batches_free(&a), nn_batches_free(&b);
}
END_TEST

START_TEST(shuffles_are_uniform)
{
    /* Each of the 24 orders of four is drawn about 1000 times: chi-square with 23 degrees, 0.1 %. */
    int count[256] = { 0 };
    for (uint64_t round = 0; round < 24000; round++) {
        nn_dim o[4];
        nn_shuffle(o, 4, 11, round);
        count[o[0] * 64 + o[1] * 16 + o[2] * 4 + o[3]]++;
    }
    double chi = 0;
    int kinds = 0;
    for (int i = 0; i < 256; i++)
        if (count[i]) kinds++, chi += (count[i] - 1000.0) * (count[i] - 1000.0) / 1000;
    ck_assert_int_eq(kinds, 24);
    ck_assert_msg(chi < 49.7, "%g", chi);
}
END_TEST

START_TEST(splits_do_not_overlap)
{
    nn_dataset d = sample(), rest, held, again, inner;
    ck_assert_int_eq(nn_dataset_split(&d, 0.25, 3, &rest, &held), NN_OK);
    ck_assert(rest.n == 78 && held.n == 25);
    int seen[N] = { 0 };
    for (int i = 0; i < rest.n; i++) seen[rest.rows[i]]++;
    for (int i = 0; i < held.n; i++) seen[held.rows[i]]++;
    for (int i = 0; i < N; i++) ck_assert_int_eq(seen[i], 1);
    /* A split of a split selects from it. */
    ck_assert_int_eq(nn_dataset_split(&held, 0.5, 3, &again, &inner), NN_OK);
    for (int i = 0; i < inner.n; i++) {
        int found = 0;
        for (int k = 0; k < held.n; k++) found |= held.rows[k] == inner.rows[i];
        ck_assert(found);
    }
    nn_batches b;
    ck_assert_int_eq(nn_batches_init(&b, &inner, 100, 0), NN_OK);
    ck_assert_int_eq(nn_batches_next(&b), 12);
    nn_batches_free(&b);
    ck_assert_int_eq(nn_dataset_split(&d, (double)NAN, 3, &again, &inner), NN_EINVAL);
    nn_dataset_free(&rest), nn_dataset_free(&held), nn_dataset_free(&again),
        nn_dataset_free(&inner);
    ck_assert_int_eq(nn_batches_init(&b, &rest, 10, 0), NN_EINVAL);
    ck_assert_int_eq(nn_batches_init(&b, &d, 0, 0), NN_EINVAL);
}
END_TEST

START_TEST(digits_are_reproducible_and_differ)
{
    unsigned char a[784], b[784], blank[784] = { 0 };
    for (int label = 0; label < 10; label++) {
        nn_digit_draw(a, 28, 1, label, 1, NN_DIGITS_TRAIN, 5);
        nn_digit_draw(b, 28, 1, label, 1, NN_DIGITS_TRAIN, 5);
        ck_assert(memcmp(a, b, sizeof a) == 0);
        ck_assert(memcmp(a, blank, sizeof a) != 0);
        nn_digit_draw(b, 28, 1, label, 1, NN_DIGITS_TEST, 5);
        ck_assert(memcmp(a, b, sizeof a) != 0);
        nn_digit_draw(b, 28, 1, label, 2, NN_DIGITS_TRAIN, 5);
        ck_assert(memcmp(a, b, sizeof a) != 0);
        nn_digit_draw(b, 28, 1, label, 1, NN_DIGITS_TRAIN, 6);
        ck_assert(memcmp(a, b, sizeof a) != 0);
    }
}
END_TEST

START_TEST(digit_sets_are_balanced_and_learnable)
{
    nn_dataset d, e;
    ck_assert_int_eq(nn_digits(&d, 2000, 28, 1, 1, NN_DIGITS_TRAIN), NN_OK);
    ck_assert_int_eq(nn_digits(&e, 500, 28, 1, 1, NN_DIGITS_TEST), NN_OK);
    int count[10] = { 0 }, in_order = 0, right = 0;
    for (int i = 0; i < 2000; i++) count[d.y[i]]++, in_order += d.y[i] == i % 10;
    for (int c = 0; c < 10; c++) ck_assert_int_eq(count[c], 200);
    ck_assert_int_lt(in_order, 400);
    /* The nearest of 2000 neighbours knows most digits, though not all: neither noise nor a toy. */
    const unsigned char *u = d.x, *v = e.x;
    for (int i = 0; i < 500; i++) {
        long best = -1, label = 0;
        for (int k = 0; k < 2000; k++) {
            long s = 0;
            for (int p = 0; p < 784; p++)
                s += (u[k * 784 + p] - v[i * 784 + p]) * (u[k * 784 + p] - v[i * 784 + p]);
            if (best < 0 || s < best) best = s, label = d.y[k];
        }
        right += label == e.y[i];
    }
    printf("nearest neighbour: %d of 500\n", right);
    ck_assert_int_gt(right, 375);
    ck_assert_int_lt(right, 485);
    nn_dataset_free(&d), nn_dataset_free(&e);
    ck_assert_int_eq(nn_digits(&d, 0, 28, 1, 1, 0), NN_EINVAL);
    ck_assert_int_eq(nn_digits(&d, 10, 28, 2, 1, 0), NN_EINVAL);
    ck_assert_int_eq(nn_digits(&d, 10, 32, 3, 1, 0), NN_OK);
    ck_assert(d.x_rank == 3 && d.x_shape[0] == 3 && d.x_shape[2] == 32 && d.x_size == 3072);
    nn_dataset_free(&d);
}
END_TEST

START_TEST(written_digits_are_the_drawn_ones)
{
    char dir[] = "/tmp/nn-digits-XXXXXX", why[NN_ERROR_TEXT], path[128];
    nn_dataset train, test, drawn;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_msg(nn_digits_write(dir, 50, 20, 4, why) == NN_OK, "%s", why);
    ck_assert_msg(nn_digits_or_mnist(&train, &test, dir, 4, why) == NN_OK, "%s", why);
    ck_assert_int_eq(nn_digits(&drawn, 20, 28, 1, 4, NN_DIGITS_TEST), NN_OK);
    ck_assert(train.n == 50 && test.n == 20);
    ck_assert(memcmp(test.x, drawn.x, 20 * 784) == 0);
    ck_assert(memcmp(test.y, drawn.y, 20 * sizeof(int32_t)) == 0);
    nn_dataset_free(&train), nn_dataset_free(&test), nn_dataset_free(&drawn);
    /* In a black frame of two pixels, three equal channels from -1 to 1. */
    ck_assert_msg(nn_color_digits_or_mnist(&train, &test, dir, 4, why) == NN_OK, "%s", why);
    ck_assert(test.n == 20 && test.x_rank == 3 && test.x_size == 3 * 32 * 32 && test.x_shape[1] == 32);
    nn_batches b;
    ck_assert_int_eq(nn_digits(&drawn, 20, 28, 1, 4, NN_DIGITS_TEST), NN_OK);
    ck_assert_int_eq(nn_batches_init(&b, &test, 20, 0), NN_OK);
    b.shuffle = 0;
    nn_batches_start(&b, 0);
    ck_assert_int_eq(nn_batches_next(&b), 20);
    for (int i = 0; i < 20 * 3 * 32 * 32; i++) {
        const int sample = i / 3072, row = i / 32 % 32 - 2, column = i % 32 - 2;
        const int inside = row >= 0 && row < 28 && column >= 0 && column < 28;
        const unsigned char byte =
            inside ? ((const unsigned char *)drawn.x)[sample * 784 + row * 28 + column] : 0;
        ck_assert(fabs((double)b.batch.x[i] - (2.0 * byte / 255 - 1)) < 1e-6);
    }
    nn_batches_free(&b);
    nn_dataset_free(&train), nn_dataset_free(&test), nn_dataset_free(&drawn);
    ck_assert_int_eq(nn_color_digits_or_mnist(&train, &test, NULL, 4, why), NN_OK);
    ck_assert(train.n == 5000 && test.n == 1000 && test.x_size == 3 * 32 * 32 && test.scale > 0.007F);
    nn_dataset_free(&train), nn_dataset_free(&test);
    static const char *const files[] = { "train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                         "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte" };
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        ck_assert_int_eq(unlink(path), 0);
    }
    ck_assert_int_eq(rmdir(dir), 0);
    ck_assert_int_eq(nn_digits_or_mnist(&train, &test, dir, 4, why), NN_EIO);
    ck_assert_int_eq(nn_color_digits_or_mnist(&train, &test, dir, 4, why), NN_EIO);
    ck_assert_int_eq(nn_digits_write(dir, 50, 20, 4, why), NN_EIO);
}
END_TEST

/* ---- pictures and progress ---- */

static size_t slurp(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "rb");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(out, 1, size - 1, f);
    out[n] = '\0';
    fclose(f);
    return n;
}

START_TEST(pictures_are_written)
{
    static char text[1 << 16];
    char why[NN_ERROR_TEXT];
    const char *path = "/tmp/nn-test-picture";
    double loss[] = { 2.3, 0.5, (double)NAN, 0.25 }, acc[] = { 0.1, 0.9 };
    nn_curve curves[] = { { "loss <train> & more", loss, 4 }, { "acc", acc, 2 } };
    ck_assert_int_eq(nn_plot_curves(path, "T", "epoch", 1, curves, 2, 0, why), NN_OK);
    slurp(path, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "loss &lt;train> &amp; more"));
    ck_assert_ptr_null(strstr(text, "nan"));
    ck_assert_int_eq(nn_plot_curves(path, "T", "epoch", 1, curves, 2, 1, why), NN_OK);
    ck_assert_int_eq(nn_plot_curves(path, "T", "epoch", 1, NULL, 0, 0, why), NN_OK);

    float images[2 * 3 * 4 * 5];
    for (int i = 0; i < 120; i++) images[i] = (float)i / 120;
    images[7] = NAN;
    ck_assert_int_eq(nn_plot_images(path, images, 2, 3, 4, 5, 8, 2, 0, 1, why), NN_OK);
    ck_assert_uint_gt(slurp(path, text, sizeof text), 60);
    ck_assert(memcmp(text, "\x89PNG\r\n\x1a\n", 8) == 0);
    ck_assert_int_eq(text[19], (2 * 6 + 1) * 2); /* width */
    ck_assert_int_eq(text[23], (5 + 1) * 2);     /* height */
    ck_assert_int_eq(nn_plot_images(path, images, 0, 3, 4, 5, 8, 2, 0, 1, why), NN_EINVAL);
    ck_assert_int_eq(nn_plot_images("/tmp/no/such/dir.png", images, 2, 3, 4, 5, 8, 2, 0, 1, why),
                     NN_EIO);
    unlink(path);
}
END_TEST

START_TEST(progress_draws_one_line_and_removes_it)
{
    char text[4096];
    FILE *f = tmpfile();
    nn_progress p;
    nn_progress_start(&p, f, NN_PROGRESS_BAR, "epoch 1/2", 100, "samples");
    nn_progress_update(&p, 50, "loss=0.5");
    nn_progress_update(&p, 51, "loss=0.4"); /* too soon: not drawn */
    nn_progress_end(&p);
    nn_progress_update(&p, 52, "after"); /* has ended: not drawn */
    rewind(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = '\0';
    ck_assert_ptr_nonnull(
        strstr(text, "\repoch 1/2 [###############---------------]  50%  loss=0.5"));
    ck_assert_ptr_null(strstr(text, "0.4"));
    ck_assert_ptr_null(strstr(text, "after"));
    ck_assert_ptr_null(strstr(text, "\033"));
    ck_assert_ptr_null(strstr(text, "\n"));
    ck_assert_int_eq(text[n - 1], '\r');
    fclose(f);
    nn_progress_mode mode;
    ck_assert_int_eq(nn_progress_parse("plain", &mode), NN_OK);
    ck_assert_int_eq(mode, NN_PROGRESS_PLAIN);
    ck_assert_int_eq(nn_progress_parse("fancy", &mode), NN_EINVAL);
    ck_assert_int_eq(nn_progress_parse(NULL, &mode), NN_EINVAL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("data");
    TCase *c = tcase_create("data");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, an_epoch_has_every_sample_once);
    tcase_add_test(c, skipping_leads_to_the_same_batches);
    tcase_add_test(c, shuffles_are_uniform);
    tcase_add_test(c, splits_do_not_overlap);
    tcase_add_test(c, digits_are_reproducible_and_differ);
    tcase_add_test(c, digit_sets_are_balanced_and_learnable);
    tcase_add_test(c, written_digits_are_the_drawn_ones);
    tcase_add_test(c, pictures_are_written);
    tcase_add_test(c, progress_draws_one_line_and_removes_it);
    suite_add_tcase(s, c);
    return run_suite(s);
}
