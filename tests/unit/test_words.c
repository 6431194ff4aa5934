/* SPDX-License-Identifier: MIT
 *
 * What a mistyped word is answered with, and which reshapes keep the order of a tensor in memory.
 */
#include <check.h>
#include <string.h>

#include "base/strbuf.h"
#include "ir/type.h"
#include "run_suite.h"

static const char *const names[] = { "train", "max_pool2d", "batch_norm", "he_normal", "he_uniform", "bce",
                                     "cross_entropy", "relu", "conv2d", "l1" };

static const char *nearest(const char *word)
{
    const char *near = str_nearest(word, names, sizeof names / sizeof *names);
    return near ? near : "";
}

START_TEST(a_word_is_near_by_edits)
{
    ck_assert_str_eq(nearest("trian"), "train"); /* neighbours that changed places are one edit */
    ck_assert_str_eq(nearest("tarin"), "train");
    ck_assert_str_eq(nearest("rleu"), "relu");
    ck_assert_str_eq(nearest("crosentropy"), "cross_entropy");
    ck_assert_str_eq(nearest("conv3d"), "conv2d");
    ck_assert_str_eq(nearest("qqqqq"), "");
    char longer[200];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    ck_assert_str_eq(nearest(longer), "");
}
END_TEST

START_TEST(a_word_is_near_by_its_beginning)
{
    ck_assert_str_eq(nearest("maxpool"), "max_pool2d");
    ck_assert_str_eq(nearest("BatchNorm2d"), "batch_norm");
    ck_assert_str_eq(nearest("CrossEntropyLoss"), "cross_entropy");
    ck_assert_str_eq(nearest("he"), "he_normal");
    ck_assert_str_eq(nearest("bcexyzw"), ""); /* three letters in common say nothing */
}
END_TEST

static TensorType shape(Layout l, int rank, const int64_t *dim)
{
    TensorType t = type_of(DT_F32, rank, dim);
    t.layout = l;
    return t;
}

/* The layout that carries over, or -1. */
static int carried(TensorType from, TensorType to)
{
    Layout l;
    return type_carries_layout(&from, &to, &l) ? (int)l : -1;
}

START_TEST(axes_of_one_keep_the_order)
{
    const int64_t oik[] = { 6, 4, 3 }, oirs[] = { 6, 4, 1, 3 }, other[] = { 6, 4, 3, 1 }, nchw[] = { 2, 4, 1, 3 };
    const int64_t ncl[] = { 2, 4, 3 }, flat[] = { 6, 12 }, square[] = { 4, 4, 1 }, one[] = { 4, 1, 1, 4 };
    ck_assert_int_eq(carried(shape(LAYOUT_KERNEL, 3, oik), shape(LAYOUT_CANONICAL, 4, oirs)), LAYOUT_KERNEL);
    ck_assert_int_eq(carried(shape(LAYOUT_KERNEL, 4, oirs), shape(LAYOUT_CANONICAL, 3, oik)), LAYOUT_KERNEL);
    ck_assert_int_eq(carried(shape(LAYOUT_KERNEL, 4, oirs), shape(LAYOUT_CANONICAL, 4, other)), LAYOUT_KERNEL);
    ck_assert_int_eq(carried(shape(LAYOUT_CANONICAL, 4, oirs), shape(LAYOUT_CANONICAL, 3, oik)), LAYOUT_CANONICAL);
    ck_assert_int_eq(carried(shape(LAYOUT_CHANNELS_LAST, 4, nchw), shape(LAYOUT_CANONICAL, 3, ncl)), -1);
    ck_assert_int_eq(carried(shape(LAYOUT_KERNEL, 3, oik), shape(LAYOUT_CANONICAL, 2, flat)), -1);
    ck_assert_int_eq(carried(shape(LAYOUT_KERNEL, 3, square), shape(LAYOUT_CANONICAL, 4, one)), LAYOUT_KERNEL);
}
END_TEST

START_TEST(a_batched_axis_stays_what_it_is)
{
    static const DimVar b = { .name = "B", .lo = 1, .hi = 4 };
    const int64_t from[] = { 1, 4, 1, 1 }, to[] = { 1, 4 };
    TensorType x = shape(LAYOUT_CHANNELS_LAST, 4, from), y = shape(LAYOUT_CANONICAL, 2, to);
    x.batch = y.batch = &b;
    ck_assert_int_eq(carried(x, y), LAYOUT_CANONICAL);
    y.batch = NULL;
    ck_assert_int_eq(carried(x, y), -1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("words");
    TCase *t = tcase_create("words and shapes");
    tcase_add_test(t, a_word_is_near_by_edits);
    tcase_add_test(t, a_word_is_near_by_its_beginning);
    tcase_add_test(t, axes_of_one_keep_the_order);
    tcase_add_test(t, a_batched_axis_stays_what_it_is);
    suite_add_tcase(s, t);
    return run_suite(s);
}
