/* SPDX-License-Identifier: MIT
 *
 * The training loop, on a softmax regression whose step is written out here: it learns, an interrupted
 * and resumed run leaves the same file as an uninterrupted one, bad numbers and bad options stop it.
 */
#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nn_init.h"
#include "nn_model.h"
#include "nn_train.h"
#include "run_suite.h"

enum { SIZE = 14, IN = SIZE * SIZE, CLASSES = 10, COUNT = IN * CLASSES };

/* Stored [in][out], like a dense layer's weight. */
static const nn_tensor tensors[] = { { "fc.weight",
                                       "t.nn:1",
                                       NN_F32,
                                       2,
                                       { CLASSES, IN },
                                       { 1, CLASSES },
                                       COUNT,
                                       0,
                                       1,
                                       0,
                                       nn_init_xavier_normal,
                                       { 0 },
                                       IN,
                                       CLASSES } };
static const nn_hyper_info hypers[] = { { "lr", 0.5 } };
static const nn_range ranges[] = { { 0, COUNT, 0 } };
static const char *const slots[] = { "momentum" };
static const nn_routine_info routines[] = {
    { .name = "train", .arena_bytes = 64, .n_ranges = 1, .ranges = ranges, .n_slots = 1, .slots = slots,
      .slot_count = COUNT }
};
static const nn_model_info info = { "softmax", 7,       4,      sizeof(nn_model), 1,     1,
                                    1,         tensors, hypers, routines,         COUNT, COUNT,
                                    COUNT,     0 };

/* What a test wants to happen inside a step. */
static struct {
    uint64_t signal_at, nan_at;
    nn_status fail_with;
    int stuck_after, stuck_without_values; /* calls until a line search finds nothing lower */
    int calls;
} plan;

static void scores(const float *w, const float *x, float *z)
{
    for (int c = 0; c < CLASSES; c++) z[c] = 0;
    for (int i = 0; i < IN; i++)
        for (int c = 0; c < CLASSES; c++) z[c] += x[i] * w[i * CLASSES + c];
}

static nn_status step(void *model, const nn_batch *b, double *value)
{
    nn_model *m = model;
    float *w = m->params, *g = m->grads, *v = m->slots;
    double loss = 0, right = 0;
    if (plan.fail_with) return plan.fail_with;
    const int stuck = plan.stuck_after && ++plan.calls > plan.stuck_after;
    if (stuck && plan.stuck_without_values) return NN_ESEARCH;
    memset(g, 0, COUNT * sizeof *g);
    for (int s = 0; s < b->n; s++) {
        float z[CLASSES], sum = 0, top;
        scores(w, b->x + s * IN, z);
        int best = nn_argmax(z, CLASSES);
        top = z[best];
        right += best == b->y[s];
        for (int c = 0; c < CLASSES; c++) sum += z[c] = expf(z[c] - top);
        loss -= log((double)(z[b->y[s]] / sum) + 1e-30);
        for (int i = 0; i < IN; i++)
            for (int c = 0; c < CLASSES; c++)
                g[i * CLASSES + c] +=
                    b->x[s * IN + i] * (z[c] / sum - (float)(c == b->y[s])) / (float)b->n;
    }
    value[0] = loss / b->n;
    value[1] = right / b->n;
    if (stuck) return NN_ESEARCH;
    for (int i = 0; i < COUNT; i++) {
        v[i] = 0.9F * v[i] + g[i];
        w[i] -= (float)m->hypers[0] * v[i];
    }
    m->steps[0]++;
    m->calls[0]++;
    if (plan.signal_at && m->steps[0] == plan.signal_at) raise(SIGTERM);
    if (plan.nan_at && m->steps[0] >= plan.nan_at) value[0] = NAN;
    return NN_OK;
}

static nn_status eval(void *model, const nn_batch *b, double *value)
{
    float z[64 * CLASSES];
    for (int s = 0; s < b->n; s++)
        scores(((nn_model *)model)->params, b->x + s * IN, z + s * CLASSES);
    value[0] = nn_accuracy(z, b->y, b->n, CLASSES);
    return NN_OK;
}

static nn_dataset train_set, test_set;
static char dir[] = "/tmp/nn-train-XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[8][64];
    static int next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static nn_args defaults(const char *out)
{
    return (nn_args){
        .epochs = 3, .batch = 50, .seed = 3, .threads = 1, .out = out, .progress = NN_PROGRESS_NONE
    };
}

static int run(const nn_args *args, int keep_best, nn_train_result *result)
{
    nn_options o = { .seed = args->seed, .threads = 1 };
    nn_model *m = nn_model_new(&info, 1, &o);
    nn_trainer t = { .model = m,
                     .args = args,
                     .train = &train_set,
                     .valid = &test_set,
                     .step = step,
                     .eval = eval,
                     .step_values = { "loss", "acc" },
                     .eval_values = { "test_acc" },
                     .keep_best = keep_best };
    int code = nn_train(&t, result);
    if (code == 0 && keep_best && result) {
        double again;
        ck_assert_int_eq(nn_evaluate(m, eval, 1, &test_set, 50, &again), NN_OK);
        ck_assert(again == result->best);
    }
    nn_model_free(m);
    return code;
}

static void same_files(const char *a, const char *b)
{
    static char x[1 << 20], y[1 << 20];
    FILE *f = fopen(a, "rb"), *g = fopen(b, "rb");
    ck_assert_msg(f && g, "%s %s", a, b);
    size_t n = fread(x, 1, sizeof x, f), k = fread(y, 1, sizeof y, g);
    fclose(f), fclose(g);
    ck_assert(n > 0 && n < sizeof x && n == k && memcmp(x, y, n) == 0);
}

static void setup(void)
{
    memset(&plan, 0, sizeof plan);
    ck_assert_int_eq(nn_digits(&train_set, 1020, SIZE, 1, 5, NN_DIGITS_TRAIN), NN_OK);
    ck_assert_int_eq(nn_digits(&test_set, 300, SIZE, 1, 5, NN_DIGITS_TEST), NN_OK);
}

static void teardown(void)
{
    nn_dataset_free(&train_set);
    nn_dataset_free(&test_set);
}

START_TEST(it_learns)
{
    nn_train_result r;
    nn_args a = defaults(NULL);
    a.epochs = 5;
    ck_assert_int_eq(run(&a, 0, &r), 0);
    ck_assert_int_eq(r.epochs, 5);
    ck_assert_msg(r.eval[0] > 0.7, "%g", r.eval[0]);
    ck_assert(r.train[0] < 1);
}
END_TEST

START_TEST(without_an_epoch_the_model_is_evaluated_as_it_is)
{
    nn_train_result r;
    nn_args a = defaults(in_dir("none"));
    a.epochs = 0;
    ck_assert_int_eq(run(&a, 0, &r), 0);
    ck_assert(r.epochs == 0 && r.best_epoch == 0 && isnan(r.train[0]));
    ck_assert_msg(r.eval[0] >= 0 && r.eval[0] < 0.5, "%g", r.eval[0]);
    nn_train_result trained, again;
    a.epochs = 2;
    ck_assert_int_eq(run(&a, 0, &trained), 0);
    a.resume = a.out;
    ck_assert_int_eq(run(&a, 0, &again), 0);
    ck_assert(again.epochs == 2 && again.eval[0] == trained.eval[0]);
    unlink(a.out);
}
END_TEST

START_TEST(resumed_equals_uninterrupted_between_epochs)
{
    const char *whole = in_dir("whole"), *part = in_dir("part");
    nn_args a = defaults(whole), b = defaults(part);
    ck_assert_int_eq(run(&a, 1, NULL), 0);
    b.epochs = 1;
    ck_assert_int_eq(run(&b, 1, NULL), 0);
    b.epochs = 3;
    b.resume = part;
    ck_assert_int_eq(run(&b, 1, NULL), 0);
    same_files(whole, part);
    /* Nothing is left to do: the file stays as it is. */
    ck_assert_int_eq(run(&b, 1, NULL), 0);
    same_files(whole, part);
}
END_TEST

START_TEST(resumed_equals_uninterrupted_after_a_signal)
{
    /* Within an epoch, at its last step, and at the first of the run. An epoch has 21 steps. */
    static const uint64_t moments[] = { 30, 21, 1 };
    const char *whole = in_dir("whole"), *part = in_dir("part");
    nn_args a = defaults(whole);
    ck_assert_int_eq(run(&a, 0, NULL), 0);
    for (int i = 0; i < 3; i++) {
        nn_args b = defaults(part);
        plan.signal_at = moments[i];
        ck_assert_int_eq(run(&b, 0, NULL), NN_EXIT_SIGNAL + SIGTERM);
        plan.signal_at = 0;
        b.resume = part;
        ck_assert_int_eq(run(&b, 0, NULL), 0);
        same_files(whole, part);
    }
}
END_TEST

/* With this threshold nothing counts as better, so that the second of each two bad epochs lowers the rate. */
static double run_with_plateau(const nn_args *args)
{
    nn_options o = { .seed = args->seed, .threads = 1 };
    nn_model *m = nn_model_new(&info, 1, &o);
    nn_plateau p = { .factor = 0.5, .patience = 1, .threshold = 1e6, .larger_is_better = 1 };
    nn_trainer t = { .model = m,
                     .args = args,
                     .train = &train_set,
                     .valid = &test_set,
                     .step = step,
                     .eval = eval,
                     .step_values = { "loss", "acc" },
                     .eval_values = { "test_acc" },
                     .plateau = &p,
                     .plateau_scalar = &m->hypers[0] };
    ck_assert_int_eq(nn_train(&t, NULL), 0);
    const double rate = m->hypers[0];
    nn_model_free(m);
    return rate;
}

START_TEST(a_plateau_lowers_the_rate_and_survives_resuming)
{
    const char *whole = in_dir("whole"), *part = in_dir("part");
    nn_args a = defaults(whole), b = defaults(part);
    a.epochs = 5; /* the first is the best; epochs 3 and 5 lower */
    ck_assert(run_with_plateau(&a) == 0.125);
    b.epochs = 2; /* one bad epoch is remembered */
    ck_assert(run_with_plateau(&b) == 0.5);
    b.epochs = 5;
    b.resume = part;
    ck_assert(run_with_plateau(&b) == 0.125);
    same_files(whole, part);
}
END_TEST

START_TEST(other_batches_or_seeds_cannot_resume)
{
    const char *part = in_dir("part");
    nn_args a = defaults(part), b = defaults(part);
    a.epochs = 1;
    ck_assert_int_eq(run(&a, 0, NULL), 0);
    b.resume = part;
    b.batch = 40;
    ck_assert_int_eq(run(&b, 0, NULL), NN_EXIT_CORRUPT);
    b.batch = 50;
    b.seed = 4;
    ck_assert_int_eq(run(&b, 0, NULL), NN_EXIT_CORRUPT);
    b.seed = 3;
    b.resume = in_dir("absent");
    ck_assert_int_eq(run(&b, 0, NULL), NN_EXIT_IO);
}
END_TEST

START_TEST(numbers_that_are_not_finite_stop_and_keep_the_checkpoint)
{
    const char *good = in_dir("whole"), *out = in_dir("part");
    nn_args a = defaults(good), b = defaults(out);
    a.epochs = 1;
    ck_assert_int_eq(run(&a, 0, NULL), 0);
    plan.nan_at = 25; /* in the second epoch */
    ck_assert_int_eq(run(&b, 0, NULL), NN_EXIT_NUMERIC);
    same_files(good, out);
    plan.nan_at = 0;
    plan.fail_with = NN_ENONFINITE;
    ck_assert_int_eq(run(&b, 0, NULL), NN_EXIT_NUMERIC);
    plan.fail_with = NN_EINDEX;
    ck_assert_int_eq(run(&b, 0, NULL), NN_EXIT_CORRUPT);
}
END_TEST

START_TEST(it_stops_early_with_the_best_weights)
{
    nn_train_result r;
    nn_args a = defaults(NULL);
    a.epochs = 200;
    a.patience = 3;
    ck_assert_int_eq(run(&a, 1, &r), 0);
    ck_assert_int_lt(r.epochs, 200);
    ck_assert_int_eq(r.epochs, r.best_epoch + 3);
    ck_assert(r.best >= r.eval[0]);
}
END_TEST

/* 21 batches an epoch: the search fails from the tenth of the second epoch on, so the third is the last. */
START_TEST(a_search_without_end_is_a_good_end)
{
    for (int without = 0; without < 2; without++) {
        nn_train_result r, second;
        nn_args a = defaults(in_dir("converged.safetensors"));
        a.epochs = 9;
        plan.stuck_after = 30;
        plan.stuck_without_values = without;
        plan.calls = 0;
        ck_assert_int_eq(run(&a, 1, &r), 0);
        ck_assert_int_eq(r.epochs, 3);
        ck_assert_int_eq(r.converged, 1);
        ck_assert(r.train[0] > 0 && r.train[0] < 2.5 && r.best > 0.5);
        /* Going on from there finds nothing either. */
        nn_args b = a;
        b.resume = a.out;
        ck_assert_int_eq(run(&b, 1, &second), 0);
        ck_assert_int_eq(second.epochs, 4);
        ck_assert_int_eq(second.converged, 1);
        ck_assert(second.best == r.best && second.train[0] > 0);
        plan.stuck_after = 0;
        ck_assert_int_eq(run(&(nn_args){ .epochs = 1, .batch = 50, .seed = 3, .threads = 1 }, 0, &second), 0);
        ck_assert_int_eq(second.converged, 0);
        unlink(a.out);
    }
}
END_TEST

START_TEST(limits_and_unwritable_files)
{
    nn_train_result r;
    nn_args a = defaults(NULL);
    a.limit_batches = 2;
    a.epochs = 1;
    ck_assert_int_eq(run(&a, 0, &r), 0);
    ck_assert_int_eq(r.epochs, 1);
    a.out = in_dir("no/dir");
    ck_assert_int_eq(run(&a, 0, &r), NN_EXIT_IO);
    a = defaults(NULL);
    a.plot = in_dir("curve.svg");
    ck_assert_int_eq(run(&a, 0, &r), 0);
    FILE *f = fopen(a.plot, "r");
    char text[5] = "";
    ck_assert(f && fread(text, 1, 4, f) == 4 && strcmp(text, "<svg") == 0);
    fclose(f);
    unlink(a.plot);
}
END_TEST

/* ---- options ---- */

static int parse(nn_args *a, const char *line)
{
    static char copy[512];
    char *argv[40] = { "program" };
    int argc = 1;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *w = strtok(copy, " "); w && argc < 40; w = strtok(NULL, " ")) argv[argc++] = w;
    return nn_args_parse(a, argc, argv, "Tests.");
}

START_TEST(options_are_read)
{
    nn_args a = { .epochs = 1, .batch = 8 };
    ck_assert_int_eq(
        parse(&a,
              "--epochs 4 --batch=16 --lr 1e-3 --seed 18446744073709551615 --threads 2 --data d "
              "--out=o --resume r --limit-batches 7 --progress=plain --plot p --patience 2"),
        -1);
    ck_assert(a.epochs == 4 && a.batch == 16 && a.lr == 1e-3 && a.seed == UINT64_MAX &&
              a.threads == 2);
    ck_assert_str_eq(a.data, "d");
    ck_assert_str_eq(a.out, "o");
    ck_assert_str_eq(a.resume, "r");
    ck_assert_str_eq(a.plot, "p");
    ck_assert(a.limit_batches == 7 && a.progress == NN_PROGRESS_PLAIN && a.patience == 2);
    ck_assert_int_eq(parse(&a, ""), -1);
    ck_assert_int_eq(parse(&a, "--help"), 0);
}
END_TEST

START_TEST(wrong_options_are_refused)
{
    static const char *const lines[] = {
        "--epoch 4",
        "epochs",
        "-e",
        "--",
        "--=3",
        "--epochs",
        "--epochs x",
        "--epochs 3x",
        "--epochs -1",
        "--epochs 99999999999",
        "--batch 0",
        "--lr nan",
        "--lr -1",
        "--lr inf",
        "--lr",
        "--seed -1",
        "--seed x",
        "--seed 18446744073709551616",
        "--threads -1",
        "--threads abc",
        "--threads 10000000000",
        "--progress loud",
        "--out=",
        "--data=",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        nn_args a = { .epochs = 1, .batch = 8 };
        ck_assert_msg(parse(&a, lines[i]) == NN_EXIT_USAGE, "%s", lines[i]);
    }
}
END_TEST

int main(void)
{
    if (!mkdtemp(dir)) return 1;
    Suite *s = suite_create("train");
    TCase *t = tcase_create("train");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, it_learns);
    tcase_add_test(t, without_an_epoch_the_model_is_evaluated_as_it_is);
    tcase_add_test(t, resumed_equals_uninterrupted_between_epochs);
    tcase_add_test(t, resumed_equals_uninterrupted_after_a_signal);
    tcase_add_test(t, a_plateau_lowers_the_rate_and_survives_resuming);
    tcase_add_test(t, other_batches_or_seeds_cannot_resume);
    tcase_add_test(t, numbers_that_are_not_finite_stop_and_keep_the_checkpoint);
    tcase_add_test(t, it_stops_early_with_the_best_weights);
    tcase_add_test(t, a_search_without_end_is_a_good_end);
    tcase_add_test(t, limits_and_unwritable_files);
    tcase_add_test(t, options_are_read);
    tcase_add_test(t, wrong_options_are_refused);
    suite_add_tcase(s, t);
    const int code = run_suite(s);
    unlink(in_dir("whole")), unlink(in_dir("part"));
    rmdir(dir);
    return code;
}
