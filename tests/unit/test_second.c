/* SPDX-License-Identifier: MIT
 *
 * The strong-Wolfe line search on the test functions of its literature, and the second-order methods on a
 * quadratic and on functions that are made to fail: what fails leaves weights and state as they were.
 */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn_second.h"
#include "run_suite.h"

/* ---- the line search ---- */

typedef struct Curve {
    double (*fn)(const struct Curve *c, double step, double *slope);
    double a, b;
    int evals;
    double last; /* step of the last call */
} Curve;

static double call(void *ctx, double step, double *slope)
{
    Curve *c = ctx;
    c->evals++;
    c->last = step;
    return c->fn(c, step, slope);
}

static double parabola(const Curve *c, double t, double *slope)
{
    *slope = 2 * (t - c->a);
    return (t - c->a) * (t - c->a);
}

/* The functions of Moré and Thuente, "Line search algorithms with guaranteed sufficient decrease" (1994). */
static double more1(const Curve *c, double t, double *slope)
{
    *slope = (t * t - c->b) / ((t * t + c->b) * (t * t + c->b));
    return -t / (t * t + c->b);
}

static double more2(const Curve *c, double t, double *slope)
{
    const double x = t + c->b;
    *slope = 5 * pow(x, 4) - 8 * pow(x, 3);
    return pow(x, 5) - 2 * pow(x, 4);
}

static double more3(const Curve *c, double t, double *slope)
{
    const double l = 39, pi = 3.14159265358979323846;
    double phi, d;
    if (t <= 1 - c->b) {
        phi = 1 - t, d = -1;
    } else if (t >= 1 + c->b) {
        phi = t - 1, d = 1;
    } else {
        phi = (t - 1) * (t - 1) / (2 * c->b) + c->b / 2, d = (t - 1) / c->b;
    }
    *slope = d + (1 - c->b) * cos(l * pi / 2 * t);
    return phi + 2 * (1 - c->b) / (l * pi) * sin(l * pi / 2 * t);
}

static double gamma_of(double b)
{
    return sqrt(1 + b * b) - b;
}

static double yanai(const Curve *c, double t, double *slope)
{
    const double p = sqrt((1 - t) * (1 - t) + c->b * c->b), q = sqrt(t * t + c->a * c->a);
    *slope = gamma_of(c->a) * (t - 1) / p + gamma_of(c->b) * t / q;
    return gamma_of(c->a) * p + gamma_of(c->b) * q;
}

/* Not a number beyond a, like a loss that overflows. */
static double cliff(const Curve *c, double t, double *slope)
{
    *slope = t < c->a ? 2 * (t - c->b) : NAN;
    return t < c->a ? (t - c->b) * (t - c->b) : NAN;
}

static double without_end(const Curve *c, double t, double *slope)
{
    *slope = -c->a;
    return -c->a * t;
}

static void check_wolfe(Curve *c, const nn_line *line, double first)
{
    double slope0, slope, step = 0;
    const double value0 = c->fn(c, 0, &slope0);
    c->evals = 0;
    ck_assert_msg(nn_line_search(line, call, c, value0, slope0, first, &step) == NN_OK,
                  "a = %g, b = %g, first = %g", c->a, c->b, first);
    ck_assert(step > 0);
    ck_assert(step == c->last); /* the object holds the point that was taken */
    ck_assert_int_le(c->evals, line->max_evals);
    const double value = c->fn(c, step, &slope);
    ck_assert(value <= value0 + line->c1 * step * slope0);
    ck_assert(fabs(slope) <= line->c2 * fabs(slope0));
}

START_TEST(steps_satisfy_the_strong_wolfe_conditions)
{
    const struct {
        Curve curve;
        double c1, c2;
    } cases[] = {
        { { .fn = more1, .b = 2 }, 0.001, 0.1 },
        { { .fn = more2, .b = 0.004 }, 0.1, 0.11 },
        { { .fn = more3, .b = 0.01 }, 0.1, 0.11 },
        { { .fn = yanai, .a = 0.001, .b = 0.001 }, 0.001, 0.0011 },
        { { .fn = yanai, .a = 0.01, .b = 0.001 }, 0.001, 0.0011 },
        { { .fn = yanai, .a = 0.001, .b = 0.01 }, 0.001, 0.0011 },
        { { .fn = parabola, .a = 3 }, 1e-4, 0.9 },
        { { .fn = parabola, .a = 3 }, 1e-4, 1e-3 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (double first = 1e-3; first < 2e3; first *= 100) {
            Curve c = cases[i].curve;
            const nn_line line = { cases[i].c1, cases[i].c2, 60, DBL_EPSILON };
            check_wolfe(&c, &line, first);
        }
}
END_TEST

START_TEST(a_good_first_step_is_taken_at_once)
{
    Curve c = { .fn = parabola, .a = 1 };
    const nn_line line = { 1e-4, 0.9, 25, 0 };
    check_wolfe(&c, &line, 1);
    ck_assert_int_eq(c.evals, 1);
    /* A cubic goes through a parabola's minimum: one more evaluation. */
    Curve far = { .fn = parabola, .a = 0.3 };
    check_wolfe(&far, &line, 1);
    ck_assert_int_eq(far.evals, 2);
    ck_assert_double_eq_tol(far.last, 0.3, 1e-12);
}
END_TEST

START_TEST(values_that_are_not_finite_are_too_large)
{
    const nn_line line = { 1e-4, 0.1, 40, 0 };
    for (double first = 0.2; first < 2e5; first *= 10) {
        Curve c = { .fn = cliff, .a = 0.25, .b = 0.24 };
        check_wolfe(&c, &line, first);
    }
}
END_TEST

START_TEST(hopeless_searches_end)
{
    double step = 7;
    const nn_line line = { 1e-4, 0.9, 12, 0 };
    Curve down = { .fn = without_end, .a = 1 };
    ck_assert_int_eq(nn_line_search(&line, call, &down, 0, -1, 1, &step), NN_ESEARCH);
    ck_assert_int_eq(down.evals, 12);
    /* The slope that is claimed is not the function's. */
    Curve up = { .fn = without_end, .a = -1 };
    ck_assert_int_eq(nn_line_search(&line, call, &up, 0, -1, 1, &step), NN_ESEARCH);
    ck_assert_int_le(up.evals, 12);
    ck_assert(step == 7);
}
END_TEST

START_TEST(bad_arguments_are_refused)
{
    Curve c = { .fn = parabola, .a = 1 };
    double step;
    const nn_line good = { 1e-4, 0.9, 25, 0 };
    ck_assert_int_eq(nn_line_search(&good, call, &c, 1, 0, 1, &step), NN_EINVAL);
    ck_assert_int_eq(nn_line_search(&good, call, &c, 1, 2, 1, &step), NN_EINVAL);
    ck_assert_int_eq(nn_line_search(&good, call, &c, 1, NAN, 1, &step), NN_EINVAL);
    ck_assert_int_eq(nn_line_search(&good, call, &c, NAN, -2, 1, &step), NN_EINVAL);
    ck_assert_int_eq(nn_line_search(&good, call, &c, 1, -2, 0, &step), NN_EINVAL);
    const nn_line bad[] = {
        { 0.9, 0.1, 25, 0 }, { 0, 0.9, 25, 0 }, { 1e-4, 1, 25, 0 }, { 1e-4, NAN, 25, 0 }
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_int_eq(nn_line_search(&bad[i], call, &c, 1, -2, 1, &step), NN_EINVAL);
    ck_assert_int_eq(c.evals, 0);
}
END_TEST

/* Near a minimum the decrease is smaller than the rounding of values; slopes still tell. */
static double on_a_plateau(const Curve *c, double t, double *slope)
{
    *slope = c->b * 2 * (t - c->a);
    return (double)(float)(1 + c->b * (t - c->a) * (t - c->a));
}

START_TEST(slopes_decide_where_values_are_lost_in_rounding)
{
    Curve c = { .fn = on_a_plateau, .a = 0.4, .b = 1e-10 };
    double slope, step = 0;
    const double value = on_a_plateau(&c, 0, &slope);
    const nn_line line = { 1e-4, 0.1, 25, 4 * (double)FLT_EPSILON };
    ck_assert_int_eq(nn_line_search(&line, call, &c, value, slope, 1, &step), NN_OK);
    ck_assert_double_eq_tol(step, 0.4, 0.05);
}
END_TEST

/* ---- the methods ---- */

enum { ROWS = 2, COLS = 3, N = ROWS * COLS, HISTORY = 4, SLOTS = N * N };

/* Stored transposed, as the weights of a dense layer are. */
#define TENSOR(type)                                                                               \
    {                                                                                              \
        .name = "w", .where = "t.nn:1", .dtype = type, .rank = 2, .shape = { ROWS, COLS },         \
        .stride = { 1, ROWS }, .count = N, .trainable = 1                                          \
    }
static const nn_tensor tensors[2] = { TENSOR(NN_F32), TENSOR(NN_F64) };
static const nn_range ranges[] = { { 0, N, 0 } };
static const nn_block square[] = { { "inverse_hessian", N, N, 0 } };
static const nn_block pairs[] = { { "step_history", HISTORY, N, 0 },
                                  { "gradient_history", HISTORY, N, HISTORY *N } };
static const int trained[] = { 0 };
#define INFO(real, index)                                                                          \
    {                                                                                              \
        .name = "t", .real_bytes = real, .object_bytes = sizeof(nn_model), .n_tensors = 1,         \
        .n_routines = 1, .tensors = &tensors[index],                                               \
        .routines =                                                                                \
            (const nn_routine_info[]){                                                             \
                { .name = "train", .arena_bytes = 64, .n_ranges = 1, .ranges = ranges }            \
            },                                                                                     \
        .param_count = N, .grad_count = N, .slot_count = 2 * SLOTS                                 \
    }
static const nn_model_info info[2] = { INFO(4, 0), INFO(8, 1) };

typedef nn_status (*method_fn)(const nn_second *s);
static const struct {
    const char *name;
    method_fn step;
    const nn_block *state;
    int most; /* steps to the minimum of the quadratic */
} methods[] = {
    { "newton", nn_newton, NULL, 1 },
    { "dfp", nn_dfp, square, 60 },
    { "bfgs", nn_bfgs, square, 20 },
    { "lbfgs", nn_lbfgs, pairs, 25 },
};
enum { METHODS = sizeof methods / sizeof *methods };

typedef struct Problem {
    nn_model *m;
    enum { QUADRATIC, BAD_SLOPE, BAD_GRADIENT, CONCAVE } kind;
    int evals;
} Problem;

static double get(const nn_model *m, const void *block, int i)
{
    return m->info->real_bytes == 8 ? ((const double *)block)[i]
                                    : (double)((const float *)block)[i];
}

static void put(const nn_model *m, void *block, int i, double v)
{
    if (m->info->real_bytes == 8)
        ((double *)block)[i] = v;
    else
        ((float *)block)[i] = (float)v;
}

/* Curvatures 1, 2, .. N around the point (1, 2, .. N), with a coupling of neighbours. */
static double evaluate(void *ctx)
{
    Problem *p = ctx;
    nn_model *m = p->m;
    double f = 0, g[N] = { 0 };
    p->evals++;
    for (int i = 0; i < N; i++) {
        const double d = get(m, m->params, i) - (i + 1);
        f += 0.5 * (i + 1) * d * d;
        g[i] += (i + 1) * d;
        if (i + 1 < N) {
            const double e = get(m, m->params, i + 1) - (i + 2);
            f += 0.5 * d * e;
            g[i] += 0.5 * e, g[i + 1] += 0.5 * d;
        }
    }
    if (p->kind == CONCAVE) {
        f = 0;
        for (int i = 0; i < N; i++) {
            const double w = get(m, m->params, i);
            f += cos(w), g[i] = -sin(w);
        }
    }
    for (int i = 0; i < N; i++) put(m, m->grads, i, p->kind == BAD_SLOPE ? -g[i] : g[i]);
    if (p->kind == BAD_GRADIENT) put(m, m->grads, 3, NAN);
    return f;
}

/* Where the canonical element i is stored. */
static int stored(int i)
{
    return i / COLS + i % COLS * ROWS;
}

/* The Hessian of the same functions. Vectors are in canonical order. */
static void multiply(void *ctx, const void *from, void *to)
{
    const Problem *p = ctx;
    double v[N] = { 0 };
    for (int i = 0; i < N; i++) v[stored(i)] = get(p->m, from, i);
    for (int i = 0; i < N; i++) {
        const int k = stored(i);
        double sum = (k + 1) * v[k];
        if (k > 0) sum += 0.5 * v[k - 1];
        if (k + 1 < N) sum += 0.5 * v[k + 1];
        if (p->kind == CONCAVE) sum = -cos(get(p->m, p->m->params, k)) * v[k];
        put(p->m, to, i, sum);
    }
}

static double work[6 * N + 2 * N * N];

static nn_status step(Problem *p, int method, double *loss)
{
    const nn_second s = { .model = p->m,
                          .n_tensors = 1,
                          .tensors = trained,
                          .n = N,
                          .state = methods[method].state,
                          .evaluate = evaluate,
                          .product = multiply,
                          .ctx = p,
                          .work = work,
                          .loss = *loss = evaluate(p),
                          .lr = 1,
                          .c1 = 1e-4,
                          .c2 = methods[method].step == nn_dfp ? 0.1 : 0.9,
                          .max_evals = 25,
                          .tolerance_grad = p->m->info->real_bytes == 8 ? 1e-10 : 1e-4 };
    for (size_t i = 0; i < sizeof work / sizeof *work; i++) work[i] = NAN;
    return methods[method].step(&s);
}

static Problem problem(int real)
{
    Problem p = { .m = nn_model_new(&info[real], 1, NULL) };
    ck_assert_ptr_nonnull(p.m);
    return p;
}

START_TEST(a_quadratic_is_minimised)
{
    for (int real = 0; real < 2; real++)
        for (int k = 0; k < METHODS; k++) {
            Problem p = problem(real);
            double loss, before = INFINITY;
            int steps = 0;
            nn_status s;
            while ((s = step(&p, k, &loss)) == NN_OK && steps < 100) {
                ck_assert_msg(loss <= before * (1 + 1e-6), "%s: %g after %g", methods[k].name, loss,
                              before);
                before = loss;
                steps++;
            }
            ck_assert_msg(s == NN_ESEARCH && steps <= methods[k].most,
                          "%s, %d bytes: %d steps, status %d", methods[k].name,
                          info[real].real_bytes, steps, s);
            for (int i = 0; i < N; i++)
                ck_assert_double_eq_tol(get(p.m, p.m->params, i), i + 1, real ? 1e-9 : 1e-3);
            nn_model_free(p.m);
        }
}
END_TEST

/* A failed step: the same weights and the same state, bit for bit. */
static void check_unchanged(int real, int k, int kind, nn_status expected)
{
    Problem p = problem(real);
    double loss;
    /* The cosines start at their maximum, where the gradient is zero and no direction is known. */
    if (kind != CONCAVE)
        for (int i = 0; i < (methods[k].state ? 2 : 0); i++) /* newton has no state, and one step would do */
            ck_assert_int_eq(step(&p, k, &loss), NN_OK);
    const size_t bytes = (size_t)info[real].real_bytes;
    unsigned char params[N * 8], slots[2 * SLOTS * 8];
    memcpy(params, p.m->params, N * bytes);
    memcpy(slots, p.m->slots, 2 * SLOTS * bytes);
    p.kind = kind;
    const nn_status s = step(&p, k, &loss);
    ck_assert_msg(s == expected, "%s: status %d, expected %d", methods[k].name, s, expected);
    ck_assert_msg(memcmp(params, p.m->params, N * bytes) == 0, "%s: weights", methods[k].name);
    ck_assert_msg(memcmp(slots, p.m->slots, 2 * SLOTS * bytes) == 0, "%s: state", methods[k].name);
    nn_model_free(p.m);
}

START_TEST(a_failed_step_changes_nothing)
{
    for (int real = 0; real < 2; real++)
        for (int k = 0; k < METHODS; k++) {
            check_unchanged(real, k, BAD_SLOPE, NN_ESEARCH);
            check_unchanged(real, k, BAD_GRADIENT, NN_ENONFINITE);
            check_unchanged(real, k, CONCAVE, NN_ESEARCH);
        }
}
END_TEST

START_TEST(negative_curvature_does_not_lead_uphill)
{
    for (int real = 0; real < 2; real++)
        for (int k = 0; k < METHODS; k++) {
            Problem p = problem(real);
            double loss = 0, before = INFINITY;
            p.kind = CONCAVE;
            for (int i = 0; i < N; i++)
                put(p.m, p.m->params, i, 0.1 * (i + 1)); /* near the top of each cosine */
            nn_status s;
            int steps = 0;
            while ((s = step(&p, k, &loss)) == NN_OK && steps++ < 100) {
                ck_assert_msg(loss <= before, "%s: %g after %g", methods[k].name, loss, before);
                before = loss;
            }
            ck_assert_int_eq(s, NN_ESEARCH);
            ck_assert_msg(fabs(loss + N) < 1e-6, "%s: %g", methods[k].name,
                          loss); /* every cosine is -1 */
            nn_model_free(p.m);
        }
}
END_TEST

START_TEST(bad_options_are_refused)
{
    for (int k = 0; k < METHODS; k++) {
        Problem p = problem(1);
        const nn_second good = { .model = p.m,
                                 .n_tensors = 1,
                                 .tensors = trained,
                                 .n = N,
                                 .state = methods[k].state,
                                 .evaluate = evaluate,
                                 .product = multiply,
                                 .ctx = &p,
                                 .work = work,
                                 .loss = evaluate(&p),
                                 .lr = 1,
                                 .c1 = 1e-4,
                                 .c2 = 0.9,
                                 .max_evals = 25 };
        for (int i = 0; i < 5; i++) {
            nn_second s = good;
            if (i == 0) s.lr = 0;
            if (i == 1) s.c1 = 0.95;
            if (i == 2) s.c2 = NAN;
            if (i == 3) s.max_evals = 0;
            if (i == 4) s.weight_decay = INFINITY;
            ck_assert_msg(methods[k].step(&s) == NN_EINVAL, "%s: %d", methods[k].name, i);
        }
        nn_model_free(p.m);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("second");
    TCase *t = tcase_create("second");
    tcase_add_test(t, steps_satisfy_the_strong_wolfe_conditions);
    tcase_add_test(t, a_good_first_step_is_taken_at_once);
    tcase_add_test(t, values_that_are_not_finite_are_too_large);
    tcase_add_test(t, hopeless_searches_end);
    tcase_add_test(t, bad_arguments_are_refused);
    tcase_add_test(t, slopes_decide_where_values_are_lost_in_rounding);
    tcase_add_test(t, a_quadratic_is_minimised);
    tcase_add_test(t, a_failed_step_changes_nothing);
    tcase_add_test(t, negative_curvature_does_not_lead_uphill);
    tcase_add_test(t, bad_options_are_refused);
    suite_add_tcase(s, t);
    return run_suite(s);
}
