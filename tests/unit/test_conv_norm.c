/* SPDX-License-Identifier: MIT
 *
 * Convolutions with what follows (conv2d_norm.h) against the same in single steps: the same bits of the results, sums
 * that lead batch norm to the same statistics and gradients, and the same bits on any team. test_conv_norm_any.c builds
 * this file for sizes known only at run time, the _f64 files in double precision.
 */
#include "kernels_check.h"

typedef struct Layer {
    nn_conv c;
    nn_dim rows;
    int relu, plus, mask, follows; /* `follows`: relu behind batch norm */
    nn_real *x, *w, *bias, *dy, *add, *y, *scratch; /* of the convolution */
    nn_real *of, *mean, *var, *weight, *shift, *norm; /* of the batch norm whose gradient is taken */
    nn_real *out, *moments, *dx, *sums; /* together */
    nn_real *stat[8]; /* y, mean, var, scale, shift; dx, dweight, dbias */
} Layer;

/* Forward and backward, each form by itself. */
NN_INLINE void steps(const nn_team *team, nn_conv c, const Layer *a)
{
    nn_conv2d_team(team, a->rows, c, a->relu, a->x, a->w, a->bias, NULL, a->out);
    nn_conv2d_dx(team, a->rows, c, a->dy, a->w, a->scratch, a->dx);
}

NN_INLINE void steps_pointwise(const nn_team *team, nn_conv c, const Layer *a)
{
    steps(team, c, a); /* the form for any geometry computes the same bits */
}

NN_INLINE void steps_depthwise(const nn_team *team, nn_conv c, const Layer *a)
{
    nn_conv2d_depthwise_team(team, a->rows, c, a->relu, a->x, a->w, a->bias, a->out);
    nn_conv2d_depthwise_dx(team, a->rows, c, a->dy, a->w, a->scratch, a->dx);
}

NN_INLINE void steps_winograd(const nn_team *team, nn_conv c, const Layer *a)
{
    nn_conv2d_winograd(team, a->rows, c, a->relu, a->x, a->w, a->bias, NULL, a->scratch, a->out);
    nn_barrier(team);
    nn_conv2d_winograd_dx(team, a->rows, c, a->dy, a->w, a->scratch, a->dx);
}

/* What batch norm makes of the moments and sums of a convolution. */
NN_INLINE void norms_together(const nn_team *team, nn_conv c, const Layer *a)
{
    const nn_dim nx = a->rows * c.h * c.w, ny = a->rows * c.oh * c.ow;
    const nn_real eps = (nn_real)1e-5;
    nn_batch_norm_act(team, ny, c.co, 1, eps, 0, a->out, a->bias, a->bias, NULL, a->moments, a->norm, a->stat[0],
                      a->stat[1], a->stat[2], a->stat[3], a->stat[4]);
    nn_barrier(team);
    nn_batch_norm_act_dx(team, nx, c.ci, 1, eps, a->follows, a->dx, a->of, a->mean, a->var, a->weight, a->weight,
                         a->shift, a->sums, a->norm, a->stat[5], a->stat[6], a->stat[7]);
}

/* One pass after the other. `out` and dx hold what the steps before left. */
NN_INLINE void norms_apart(const nn_team *team, nn_conv c, const Layer *a)
{
    const nn_dim nx = a->rows * c.h * c.w, ny = a->rows * c.oh * c.ow;
    const nn_real eps = (nn_real)1e-5;
    nn_barrier(team);
    nn_dim from, to;
    nn_share(team->rank, team->size, nx * c.ci, 1, &from, &to);
    for (nn_dim i = from; i < to; i++) {
        if (a->plus) a->dx[i] += a->add[i];
        if (a->mask && a->y[i] <= 0) a->dx[i] = 0;
    }
    nn_barrier(team);
    nn_batch_norm_act(team, ny, c.co, 1, eps, 0, a->out, a->bias, a->bias, NULL, NULL, a->norm, a->stat[0], a->stat[1],
                      a->stat[2], a->stat[3], a->stat[4]);
    nn_barrier(team);
    nn_batch_norm_act_dx(team, nx, c.ci, 1, eps, a->follows, a->dx, a->of, a->mean, a->var, a->weight, a->weight,
                         a->shift, NULL, a->norm, a->stat[5], a->stat[6], a->stat[7]);
}

static void check_layer(const char *name, nn_team_fn together, nn_team_fn apart, nn_dim rows, nn_conv c)
{
    const nn_dim nx = rows * c.h * c.w * c.ci, ny = rows * c.oh * c.ow * c.co, most = nn_max_dim(c.ci, c.co),
                 sums = NN_NORM_PARTS * (NN_NORM_SUMS * most + 1),
                 stat[8] = { ny, c.co, c.co, c.co, c.co, nx, c.ci, c.ci };
    Layer a = { .c = c, .rows = rows, .relu = draw(0, 1), .plus = draw(0, 1), .mask = draw(0, 1),
                .follows = draw(0, 1) };
    a.x = reals(nx, 1), a.dy = reals(ny, 1), a.add = reals(nx, 1), a.y = reals(nx, 1), a.of = reals(nx, 1);
    a.w = reals(nn_conv_weights(c), 1), a.bias = reals(c.co, 1);
    a.mean = reals(c.ci, 1), a.var = reals(c.ci, 1), a.weight = reals(c.ci, 1), a.shift = reals(c.ci, 1);
    for (nn_dim i = 0; i < c.ci; i++) a.var[i] += 1;
    for (nn_dim i = 0; i < nx; i += 5) a.y[i] = 0;
    const nn_dim u = NN_WINOGRAD_ELEMENTS * nn_winograd_wide(c.ci) * nn_winograd_wide(c.co);
    a.scratch = reals(nn_max_dim(nn_conv_weights(c), u), 0);
    a.norm = reals(3 * most + sums, 0);
    nn_real *stats[TEAMS + 1][8], *out[TEAMS + 1], *dx[TEAMS + 1];
    for (int t = 0; t <= TEAMS; t++) {
        out[t] = a.out = reals(ny, 0), dx[t] = a.dx = reals(nx, 0);
        a.moments = reals(sums, 0), a.sums = reals(sums, 0);
        for (int i = 0; i < 8; i++) stats[t][i] = a.stat[i] = reals(stat[i], 0);
        nn_pool_run(pools[t ? t : 1], t ? together : apart, &a);
        free(a.moments), free(a.sums);
        expect_same(name, ny, out[t], out[0]);
        expect_same(name, nx, dx[t], dx[0]);
        for (int i = 0; i < 8; i++) {
            if (t > 1) {
                expect_same(name, stat[i], stats[t][i], stats[1][i]);
                continue;
            }
            if (!t) continue;
            double *want = doubles(stat[i]);
            for (nn_dim k = 0; k < stat[i]; k++) want[k] = (double)stats[0][i][k];
            /* Sums over all pixels may cancel: of so many numbers of size 1 they are as large as this, squared. */
            const double sums_norm = i > 5 ? (double)(stat[i] * rows * c.h * c.w) : 0;
            expect_within(name, stat[i], stats[1][i], want, square_sum(stat[i], want) + sums_norm);
            free(want);
        }
    }
    for (int t = 0; t <= TEAMS; t++) {
        free(out[t]), free(dx[t]);
        for (int i = 0; i < 8; i++) free(stats[t][i]);
    }
    free(a.x), free(a.dy), free(a.add), free(a.y), free(a.of), free(a.w), free(a.bias), free(a.mean), free(a.var);
    free(a.weight), free(a.shift), free(a.scratch), free(a.norm);
}

/* A layer of one form: `form` is what the kernels' names have behind nn_conv2d. */
#define LAYER(name, form, geometry)                                                                        \
    static void name##_together(void *arg, const nn_team *team)                                            \
    {                                                                                                      \
        const Layer *a = arg;                                                                              \
        const nn_conv c = geometry;                                                                        \
        nn_conv2d##form##_moments(team, a->rows, c, a->relu, a->x, a->w, a->bias, a->scratch, a->out,      \
                                  a->moments);                                                             \
        nn_barrier(team);                                                                                  \
        nn_conv2d##form##_act_dx(team, a->rows, c, a->dy, a->w, a->plus ? a->add : NULL,                   \
                                 a->mask ? a->y : NULL, a->of, a->mean, a->follows ? a->weight : NULL,     \
                                 a->follows ? a->shift : NULL, a->scratch, a->dx, a->sums);                \
        nn_barrier(team);                                                                                  \
        norms_together(team, c, a);                                                                        \
    }                                                                                                      \
    static void name##_apart(void *arg, const nn_team *team)                                               \
    {                                                                                                      \
        const nn_conv c = geometry;                                                                        \
        steps##form(team, c, arg);                                                                         \
        norms_apart(team, c, arg);                                                                         \
    }

#ifdef NN_SMALL_CODE
#define ANY ((const Layer *)arg)->c
LAYER(direct, , ANY)
LAYER(pointwise, _pointwise, ANY)
LAYER(depthwise, _depthwise, ANY)
LAYER(winograd, _winograd, ANY)

/* Strides divide the height where sums are taken. */
START_TEST(steps_together_match_steps_apart)
{
    for (int i = 0; i < CASES(60); i++) {
        const nn_dim step = draw(1, 2), r = draw(1, 3), s = draw(1, 3), h = step * draw(3, 9), w = draw(4, 17),
                     ci = draw(1, 40), co = draw(1, 40), pad = draw(0, 1), rows = draw(1, 9);
        check_layer("direct", direct_together, direct_apart, rows,
                    NN_CONV(h, w, ci, (h + 2 * pad - r) / step + 1, (w + 2 * pad - s) / step + 1, co, r, s, step, step,
                            pad, pad, 1, 1, 1));
        check_layer("pixels", direct_together, direct_apart, rows,
                    NN_CONV(h, w, ci, h, w, co, 1, 1, 1, 1, 0, 0, 1, 1, 1));
        const nn_dim wide = draw(NN_VL, 40), deep = draw(NN_VL, 40);
        check_layer("pointwise", pointwise_together, pointwise_apart, rows,
                    NN_CONV(h, w, wide, h, w, deep, 1, 1, 1, 1, 0, 0, 1, 1, 1));
        check_layer("depthwise", depthwise_together, depthwise_apart, rows,
                    NN_CONV(h, w, ci, (h + 2 * pad - r) / step + 1, (w + 2 * pad - s) / step + 1, ci, r, s, step, step,
                            pad, pad, 1, 1, ci));
        check_layer("winograd", winograd_together, winograd_apart, rows,
                    NN_CONV(h, w, ci, h + 2 * pad - 2, w + 2 * pad - 2, co, 3, 3, 1, 1, pad, pad, 1, 1, 1));
        check_layer("large tiles", winograd_together, winograd_apart, rows,
                    nn_tiles_4x4(NN_CONV(h, w, ci, h + 2 * pad - 2, w + 2 * pad - 2, co, 3, 3, 1, 1, pad, pad, 1, 1,
                                         1)));
    }
}
END_TEST
#else
/* name, rows, form, geometry; some parts have several pieces, and some layers fewer lines than there are parts. */
#define LAYERS(X)                                                                             \
    X(few_channels, 3, , 12, 14, 3, 12, 14, 7, 3, 3, 1, 1, 1, 1, 1, 1, 1)       \
    X(stride, 4, , 16, 15, 16, 8, 8, 32, 3, 3, 2, 2, 1, 1, 1, 1, 1)             \
    X(points, 2, _pointwise, 40, 40, 16, 40, 40, 64, 1, 1, 1, 1, 0, 0, 1, 1, 1)           \
    X(point_stride, 5, , 8, 8, 32, 4, 4, 48, 1, 1, 2, 2, 0, 0, 1, 1, 1)         \
    X(deep, 3, _depthwise, 30, 11, 33, 30, 11, 33, 3, 3, 1, 1, 1, 1, 1, 1, 33)         \
    X(deep_stride, 3, _depthwise, 14, 14, 32, 7, 7, 32, 3, 3, 2, 2, 1, 1, 1, 1, 32)    \
    X(odd_tiles, 3, _winograd, 9, 7, 24, 9, 7, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1)          \
    X(many_tiles, 2, _winograd, 64, 64, 16, 64, 64, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1)     \
    X(one_sample, 1, _winograd, 4, 4, 16, 4, 4, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1)
/* By tiles of 4x4. */
#define LARGE(X)                                                                              \
    X(odd_large, 3, _winograd, 9, 7, 24, 9, 7, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1)          \
    X(many_large, 2, _winograd, 64, 64, 16, 64, 64, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1)
#define DEFINE(name, rows, form, ...) LAYER(name, form, NN_CONV(__VA_ARGS__))
#define DEFINE_LARGE(name, rows, form, ...) LAYER(name, form, nn_tiles_4x4(NN_CONV(__VA_ARGS__)))
LAYERS(DEFINE)
LARGE(DEFINE_LARGE)

START_TEST(steps_together_match_steps_apart)
{
#define CHECK(name, rows, form, ...)  check_layer(#name, name##_together, name##_apart, rows, NN_CONV(__VA_ARGS__));
#define CHECK_LARGE(name, rows, form, ...) \
    check_layer(#name, name##_together, name##_apart, rows, nn_tiles_4x4(NN_CONV(__VA_ARGS__)));
    for (int i = 0; i < CASES(5); i++) { LAYERS(CHECK) LARGE(CHECK_LARGE) }
}
END_TEST
#endif

int main(void)
{
    Suite *s = suite_create("conv_norm");
    TCase *t = kernels_case(s, "conv_norm");
    tcase_add_test(t, steps_together_match_steps_apart);
    return run_suite(s);
}
