/* SPDX-License-Identifier: MIT
 *
 * Convolution, transposed convolution and their gradients against plain loops in double precision, and what is added to
 * a convolution. Every case runs on teams of one, two and three threads and must give the same bits. This file is
 * built with literal sizes, as generated code calls the kernels; test_conv_any.c builds it for many random sizes known
 * only at run time; the _f64 files do both in double precision.
 */
#include "kernels_check.h"

typedef struct Conv {
    nn_conv c;
    nn_dim rows;
    int relu, acc;
    /* convolution: x, w, y; transposed convolution: ty from tx, with weights tw. */
    nn_real *x, *w, *bias, *dy, *scratch, *y, *dx, *dw;
    nn_real *tw, *tbias, *ty, *tdx, *tdw;
} Conv;

/* What generated code does with forms that compute any samples: each thread has its own. */
NN_INLINE void lead_conv2d(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x, const nn_real *w,
                           const nn_real *bias, nn_real *y)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, rows, 1, &from, &to);
    nn_conv2d(to - from, c, relu, x + from * c.h * c.w * c.ci, w, bias, NULL, y + from * c.oh * c.ow * c.co);
}

NN_INLINE void lead_depthwise(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                              const nn_real *w, const nn_real *bias, nn_real *y)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, rows, 1, &from, &to);
    nn_conv2d_depthwise(to - from, c, relu, x + from * c.h * c.w * c.ci, w, bias, y + from * c.oh * c.ow * c.co);
}

NN_INLINE void lead_transpose(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                              const nn_real *w, const nn_real *bias, nn_real *y)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, rows, 1, &from, &to);
    nn_conv2d_transpose(to - from, c, relu, x + from * c.oh * c.ow * c.co, w, bias, y + from * c.h * c.w * c.ci);
}

NN_INLINE void lead_pointwise(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                              const nn_real *w, const nn_real *bias, nn_real *y)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, rows, 1, &from, &to);
    nn_conv2d_pointwise(to - from, c, relu, x + from * c.h * c.w * c.ci, w, bias, NULL, y + from * c.oh * c.ow * c.co);
}

/* The team's form with its weights as panels, which generated code makes in a routine of its own. */
static nn_real panels_of_weights[1 << 20];
NN_INLINE void panels_conv2d(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x, const nn_real *w,
                             const nn_real *bias, nn_real *y)
{
    nn_conv2d_panels_weights(team, c, w, panels_of_weights);
    nn_barrier(team);
    nn_conv2d_panels(team, rows, c, relu, x, panels_of_weights, bias, NULL, y);
}

NN_INLINE void pointwise_panels(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                const nn_real *w, const nn_real *bias, nn_real *y)
{
    nn_conv2d_panels_weights(team, c, w, panels_of_weights);
    nn_barrier(team);
    nn_conv2d_pointwise_panels(team, rows, c, relu, x, panels_of_weights, bias, NULL, y);
}

NN_INLINE void team_pointwise(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                              const nn_real *w, const nn_real *bias, nn_real *y)
{
    nn_conv2d_pointwise_team(team, rows, c, relu, x, w, bias, NULL, y);
}

NN_INLINE void team_conv2d(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x, const nn_real *w,
                           const nn_real *bias, nn_real *y)
{
    nn_conv2d_team(team, rows, c, relu, x, w, bias, NULL, y);
}

/* One case: the forward form, the form of the input's and of the weights' gradient, and of transposed convolution. */
#define CONV_CASE(name, forward, dx_form, dw_form, transpose, geometry)                            \
    static void name(void *arg, const nn_team *team)                                               \
    {                                                                                              \
        const Conv *a = arg;                                                                       \
        const nn_conv c = geometry;                                                                \
        forward(team, a->rows, c, a->relu, a->x, a->w, a->bias, a->y);                             \
        transpose(team, a->rows, c, a->relu, a->dy, a->tw, a->tbias, a->ty);                       \
        dx_form(team, a->rows, c, a->dy, a->w, a->scratch, a->dx);                                 \
        nn_barrier(team);                                                                          \
        dw_form(team, a->rows, c, a->x, a->dy, a->scratch, a->dw, a->acc);                         \
        nn_barrier(team);                                                                          \
        nn_conv2d_transpose_dx(team, a->rows, c, a->x, a->tw, a->scratch, a->tdx);                 \
        nn_barrier(team);                                                                          \
        nn_conv2d_transpose_dw(team, a->rows, c, a->dy, a->x, a->scratch, a->tdw, a->acc);         \
    }

#ifdef NN_SMALL_CODE
#define ANY ((const Conv *)arg)->c
CONV_CASE(conv_plain_form, lead_conv2d, nn_conv2d_dx, nn_conv2d_dw, lead_transpose, ANY)
CONV_CASE(conv_merged, lead_conv2d, nn_conv2d_dx, nn_conv2d_dw_merged, lead_transpose, ANY)
CONV_CASE(conv_depthwise, lead_depthwise, nn_conv2d_depthwise_dx, nn_conv2d_depthwise_dw, lead_transpose, ANY)
CONV_CASE(conv_plain_team, team_conv2d, nn_conv2d_dx, nn_conv2d_dw, nn_conv2d_transpose_team, ANY)
CONV_CASE(conv_pointwise, lead_pointwise, nn_conv2d_pointwise_dx, nn_conv2d_pointwise_dw, lead_transpose, ANY)
CONV_CASE(conv_pointwise_team, team_pointwise, nn_conv2d_pointwise_dx, nn_conv2d_pointwise_dw,
          nn_conv2d_transpose_team, ANY)
CONV_CASE(conv_depthwise_team, nn_conv2d_depthwise_team, nn_conv2d_depthwise_dx, nn_conv2d_depthwise_dw,
          nn_conv2d_transpose_team, ANY)
#endif

/* Winograd's algorithm for all three passes; transposed convolution again as above. */
#define WINOGRAD_CASE(name, geometry)                                                              \
    static void name(void *arg, const nn_team *team)                                               \
    {                                                                                              \
        const Conv *a = arg;                                                                       \
        const nn_conv c = geometry;                                                                \
        nn_conv2d_winograd(team, a->rows, c, a->relu, a->x, a->w, a->bias, NULL, a->scratch, a->y); \
        nn_barrier(team);                                                                          \
        nn_conv2d_winograd_dx(team, a->rows, c, a->dy, a->w, a->scratch, a->dx);                   \
        nn_barrier(team);                                                                          \
        nn_conv2d_winograd_dw(team, a->rows, c, a->x, a->dy, a->scratch, a->dw, a->acc);           \
        lead_transpose(team, a->rows, c, a->relu, a->dy, a->tw, a->tbias, a->ty);                  \
        nn_barrier(team);                                                                          \
        nn_conv2d_transpose_dx(team, a->rows, c, a->x, a->tw, a->scratch, a->tdx);                 \
        nn_barrier(team);                                                                          \
        nn_conv2d_transpose_dw(team, a->rows, c, a->dy, a->x, a->scratch, a->tdw, a->acc);         \
    }

#ifdef NN_SMALL_CODE
WINOGRAD_CASE(conv_winograd, ANY)
#endif

/* The most that a pass needs. */
static nn_dim conv_scratch(nn_conv c)
{
    const nn_dim weights = nn_conv_weights(c), ci = nn_winograd_wide(c.ci), co = nn_winograd_wide(c.co);
    nn_dim most = NN_DW_PARTS * weights;
    most = nn_max_dim(most, nn_winograd_elements(c) * nn_max_dim(c.ci * co, c.co * ci));
    return nn_max_dim(most, nn_winograd_parts(c) * nn_winograd_elements(c) * c.ci * co +
                                NN_WINOGRAD_ITEMS * nn_winograd_dw_block(c));
}

/* Plain loops: y and dx, dw of the convolution with weights w, ty etc. of its transpose with weights tw. The norms are
 * those before relu, which may leave nothing but the smallest values. */
static void conv_plain(const Conv *a, double *y, double *dx, double *dw, double *ty, double *tdx,
                       double *tdw, double *norm_y, double *norm_ty)
{
    const nn_conv c = a->c;
    const nn_dim ci = c.ci / c.groups, co = c.co / c.groups;
    for (nn_dim n = 0; n < a->rows; n++)
        for (nn_dim i = 0; i < c.oh; i++)
            for (nn_dim j = 0; j < c.ow; j++)
                for (nn_dim k = 0; k < c.co; k++) {
                    const nn_dim at_y = ((n * c.oh + i) * c.ow + j) * c.co + k;
                    const double g = (double)a->dy[at_y];
                    for (nn_dim r = 0; r < c.r; r++)
                        for (nn_dim s = 0; s < c.s; s++) {
                            const nn_dim ih = i * c.step_h + r * c.dil_h - c.pad_top;
                            const nn_dim iw = j * c.step_w + s * c.dil_w - c.pad_left;
                            if (ih < 0 || ih >= c.h || iw < 0 || iw >= c.w) continue;
                            for (nn_dim q = 0; q < ci; q++) {
                                const nn_dim at_x =
                                    ((n * c.h + ih) * c.w + iw) * c.ci + k / co * ci + q;
                                const nn_dim at_w = ((r * c.s + s) * ci + q) * c.co + k;
                                const nn_dim at_tw = ((r * c.s + s) * c.co + k) * ci + q;
                                y[at_y] += (double)a->x[at_x] * (double)a->w[at_w];
                                dx[at_x] += g * (double)a->w[at_w];
                                dw[at_w] += g * (double)a->x[at_x];
                                ty[at_x] += g * (double)a->tw[at_tw];
                                tdx[at_y] += (double)a->x[at_x] * (double)a->tw[at_tw];
                                tdw[at_tw] += g * (double)a->x[at_x];
                            }
                        }
                }
    const nn_dim ny = a->rows * c.oh * c.ow * c.co, nx = a->rows * c.h * c.w * c.ci;
    for (nn_dim i = 0; a->bias && i < ny; i++) y[i] += (double)a->bias[i % c.co];
    for (nn_dim i = 0; a->tbias && i < nx; i++) ty[i] += (double)a->tbias[i % c.ci];
    *norm_y = square_sum(ny, y);
    *norm_ty = square_sum(nx, ty);
    for (nn_dim i = 0; a->relu && i < ny; i++) y[i] = y[i] < 0 ? 0 : y[i];
    for (nn_dim i = 0; a->relu && i < nx; i++) ty[i] = ty[i] < 0 ? 0 : ty[i];
}

static void check_conv(nn_team_fn fn, nn_dim rows, nn_conv c)
{
    const nn_dim nx = rows * c.h * c.w * c.ci, ny = rows * c.oh * c.ow * c.co,
                 nw = nn_conv_weights(c);
    static const char *const what[] = {
        "conv2d",           "conv2d_dx",           "conv2d_dw",
        "conv2d_transpose", "conv2d_transpose_dx", "conv2d_transpose_dw"
    };
    const nn_dim size[6] = { ny, nx, nw, nx, ny, nw };
    Conv a = { .c = c, .rows = rows, .relu = draw(0, 1) };
    double *want[6];
    nn_real *first[6];
    for (int i = 0; i < 6; i++) want[i] = doubles(size[i]);
    a.x = reals(nx, 1);
    a.dy = reals(ny, 1);
    a.w = reals(nw, 1);
    a.tw = reals(nw, 1);
    a.bias = draw(0, 1) ? reals(c.co, 1) : NULL;
    a.tbias = draw(0, 1) ? reals(c.ci, 1) : NULL;
    a.scratch = reals(conv_scratch(c), 0);
    /* By large tiles a result is off by more (kernels/winograd_transform.h): the square of how many times so much. */
    const double off = nn_winograd_side(c) == 4 ? 9 : 1;
    double norm[6];
    conv_plain(&a, want[0], want[1], want[2], want[3], want[4], want[5], &norm[0], &norm[3]);
    for (int i = 0; i < 6; i++)
        if (i % 3 != 0) norm[i] = square_sum(size[i], want[i]);
    for (int i = 0; i < 3; i++) norm[i] *= off;
    for (int t = 1; t <= TEAMS; t++) {
        nn_real **const got[6] = { &a.y, &a.dx, &a.dw, &a.ty, &a.tdx, &a.tdw };
        for (int i = 0; i < 6; i++) *got[i] = reals(size[i], 0);
        a.acc = 0;
        nn_pool_run(pools[t], fn, &a);
        for (int i = 0; i < 6; i++) {
            if (t == 1) {
                char text[400];
                snprintf(text, sizeof text,
                         "%s %lldx%lldx%lld -> %lldx%lldx%lld, kernel %lldx%lld, stride %lld,%lld, "
                         "pad %lld,%lld, dilation %lld,%lld, groups %lld, tile %lld",
                         what[i], (long long)c.h, (long long)c.w, (long long)c.ci, (long long)c.oh,
                         (long long)c.ow, (long long)c.co, (long long)c.r, (long long)c.s,
                         (long long)c.step_h, (long long)c.step_w, (long long)c.pad_top,
                         (long long)c.pad_left, (long long)c.dil_h, (long long)c.dil_w,
                         (long long)c.groups, (long long)c.tile);
                expect_within(text, size[i], *got[i], want[i], norm[i]);
                first[i] = *got[i];
            } else {
                expect_same(what[i], size[i], *got[i], first[i]);
                free(*got[i]);
            }
        }
        if (t > 1) continue;
        for (int i = 0; i < 6; i++) {
            *got[i] = reals(size[i], 0);
            memcpy(*got[i], first[i], (size_t)size[i] * sizeof **got[i]);
        }
        a.acc = 1;
        nn_pool_run(pools[t], fn, &a);
        for (nn_dim i = 0; i < nw; i++) want[2][i] *= 2, want[5][i] *= 2;
        expect_within("conv2d_dw, added", nw, a.dw, want[2], off * square_sum(nw, want[2]));
        expect_close("conv2d_transpose_dw, added", nw, a.tdw, want[5]);
        for (int i = 0; i < 6; i++) free(*got[i]);
    }
    for (int i = 0; i < 6; i++) free(want[i]), free(first[i]);
    free(a.x), free(a.dy), free(a.w), free(a.tw), free(a.bias), free(a.tbias), free(a.scratch);
}

#ifdef NN_SMALL_CODE
START_TEST(convolution_matches_plain_loops)
{
    for (int i = 0; i < CASES(400);) {
        nn_conv c = { .r = draw(1, 5),
                      .s = draw(1, 9),
                      .step_h = draw(1, 4),
                      .step_w = draw(1, 4),
                      .dil_h = draw(1, 3),
                      .dil_w = draw(1, 3),
                      .groups = 1,
                      .h = draw(1, 12),
                      .w = draw(1, 20) };
        c.ci = draw(1, 10);
        c.co = draw(1, 40);
        if (i % 4 == 1) c.groups = draw(2, 3), c.ci *= c.groups, c.co *= c.groups;
        if (i % 4 == 2) c.ci = c.co = c.groups = draw(1, 40);
        c.pad_top = draw(0, 3);
        c.pad_left = draw(0, 3);
        const nn_dim h = c.h + c.pad_top + draw(0, 3) - ((c.r - 1) * c.dil_h + 1);
        const nn_dim w = c.w + c.pad_left + draw(0, 3) - ((c.s - 1) * c.dil_w + 1);
        if (h < 0 || w < 0) continue;
        c.oh = h / c.step_h + 1;
        c.ow = w / c.step_w + 1;
        const nn_dim rows = draw(1, 9);
        check_conv(i & 1 ? conv_plain_team : conv_plain_form, rows, c);
        if (c.groups == 1 && c.dil_w == 1 && c.s * c.ci <= NN_DW_MERGED_MAX)
            check_conv(conv_merged, rows, c);
        if (c.groups > 1 && c.groups == c.ci && c.groups == c.co)
            check_conv(draw(0, 1) ? conv_depthwise_team : conv_depthwise, rows, c);
        i++;
    }
    for (int i = 0; i < CASES(100); i++) {
        const nn_dim ci = draw(NN_VL, 70), co = draw(NN_VL, 70), h = draw(1, 12), w = draw(1, 20);
        check_conv(i & 1 ? conv_pointwise_team : conv_pointwise, draw(1, 9),
                   NN_CONV(h, w, ci, h, w, co, 1, 1, 1, 1, 0, 0, 1, 1, 1));
    }
    for (int i = 0; i < CASES(200);) {
        nn_conv c = { .r = 3, .s = 3, .step_h = 1, .step_w = 1, .dil_h = 1, .dil_w = 1, .groups = 1 };
        c.h = draw(1, 9), c.w = draw(1, 11), c.ci = draw(1, 40), c.co = draw(1, 40);
        c.pad_top = draw(0, 3), c.pad_left = draw(0, 3);
        c.oh = c.h + c.pad_top + draw(0, 3) - 2;
        c.ow = c.w + c.pad_left + draw(0, 3) - 2;
        c.tile = draw(0, 1) * 4;
        if (c.oh < 1 || c.ow < 1) continue;
        check_conv(conv_winograd, draw(1, 20), c);
        i++;
    }
}
END_TEST
#else
/* name, samples, forms; h, w, ci, oh, ow, co, r, s, step, pad, dilation, groups */
#define PLAIN     lead_conv2d, nn_conv2d_dx, nn_conv2d_dw, lead_transpose
#define MERGED    lead_conv2d, nn_conv2d_dx, nn_conv2d_dw_merged, lead_transpose
#define DEPTHWISE lead_depthwise, nn_conv2d_depthwise_dx, nn_conv2d_depthwise_dw, lead_transpose
#define TEAM      team_conv2d, nn_conv2d_dx, nn_conv2d_dw, nn_conv2d_transpose_team
#define POINTWISE lead_pointwise, nn_conv2d_pointwise_dx, nn_conv2d_pointwise_dw, lead_transpose
#define TEAM_POINTWISE team_pointwise, nn_conv2d_pointwise_dx, nn_conv2d_pointwise_dw, nn_conv2d_transpose_team
#define POINTWISE_PANELS pointwise_panels, nn_conv2d_pointwise_dx, nn_conv2d_pointwise_dw, nn_conv2d_transpose_team
#define PANELS    panels_conv2d, nn_conv2d_dx, nn_conv2d_dw, nn_conv2d_transpose_team
#define TEAM_MERGED team_conv2d, nn_conv2d_dx, nn_conv2d_dw_merged, nn_conv2d_transpose_team
#define TEAM_DEPTHWISE \
    nn_conv2d_depthwise_team, nn_conv2d_depthwise_dx, nn_conv2d_depthwise_dw, nn_conv2d_transpose_team
#define CONVS(C)                                                                                   \
    C(lenet1, 3, MERGED, 28, 28, 1, 24, 24, 6, 5, 5, 1, 1, 0, 0, 1, 1, 1)                          \
    C(lenet2, 9, MERGED, 12, 12, 6, 8, 8, 16, 5, 5, 1, 1, 0, 0, 1, 1, 1)                           \
    C(digits, 3, TEAM_MERGED, 28, 28, 1, 28, 28, 6, 5, 5, 1, 1, 2, 2, 1, 1, 1)                          \
    C(few, 2, MERGED, 11, 13, 2, 6, 7, 5, 3, 3, 2, 2, 1, 1, 1, 1, 1)                               \
    C(stem, 2, MERGED, 32, 32, 3, 32, 32, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1)                           \
    C(half32, 3, TEAM, 16, 16, 16, 8, 8, 32, 3, 3, 2, 2, 1, 1, 1, 1, 1)                            \
    C(same64, 2, PLAIN, 8, 8, 64, 8, 8, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1)                             \
    C(point, 3, POINTWISE, 5, 7, 20, 5, 7, 24, 1, 1, 1, 1, 0, 0, 1, 1, 1)                              \
    C(odd, 2, TEAM, 19, 17, 20, 19, 17, 24, 3, 3, 1, 1, 1, 1, 1, 1, 1)                            \
    C(dilated, 2, PLAIN, 15, 15, 5, 15, 15, 7, 3, 3, 1, 1, 2, 2, 2, 2, 1)                          \
    C(grouped, 2, PLAIN, 9, 8, 8, 5, 4, 12, 3, 3, 2, 2, 1, 1, 1, 1, 4)                              \
    C(depthwise, 2, DEPTHWISE, 14, 14, 40, 14, 14, 40, 3, 3, 1, 1, 1, 1, 1, 1, 40)                 \
    C(depthwise_half, 2, DEPTHWISE, 9, 11, 21, 5, 6, 21, 3, 3, 2, 2, 1, 1, 1, 1, 21)               \
    C(deep_even, 1, TEAM_DEPTHWISE, 16, 16, 48, 8, 8, 48, 3, 3, 2, 2, 1, 1, 1, 1, 48)               \
    C(deep_narrow, 3, TEAM_DEPTHWISE, 7, 7, 52, 7, 7, 52, 3, 3, 1, 1, 1, 1, 1, 1, 52)              \
    C(deep_large, 2, TEAM_DEPTHWISE, 13, 18, 20, 13, 18, 20, 5, 5, 1, 1, 2, 2, 1, 1, 20)           \
    C(deep_apart, 2, TEAM_DEPTHWISE, 11, 24, 16, 11, 24, 16, 3, 3, 1, 1, 2, 2, 2, 2, 16)           \
    C(cardinal, 2, TEAM, 7, 9, 12, 7, 9, 12, 3, 3, 1, 1, 1, 1, 1, 1, 4)                           \
    C(wide, 2, PLAIN, 9, 30, 3, 9, 30, 4, 1, 11, 1, 1, 0, 5, 1, 1, 1)                              \
    C(stride3, 2, TEAM, 20, 20, 4, 7, 7, 18, 5, 5, 3, 3, 2, 2, 1, 1, 1)                         \
    C(tiny, 5, TEAM, 2, 2, 70, 2, 2, 130, 3, 3, 1, 1, 1, 1, 1, 1, 1)                              \
    C(far, 3, TEAM, 6, 5, 300, 6, 5, 70, 3, 3, 1, 1, 1, 1, 1, 1, 1)                               \
    C(far_half, 2, TEAM, 7, 9, 290, 4, 5, 210, 3, 3, 2, 2, 1, 1, 1, 1, 1)                         \
    C(far_point, 3, TEAM_POINTWISE, 9, 7, 520, 9, 7, 260, 1, 1, 1, 1, 0, 0, 1, 1, 1)                        \
    C(far_lines, 2, TEAM, 11, 13, 160, 11, 13, 100, 3, 3, 1, 1, 1, 1, 1, 1, 1)                    \
    C(panels, 3, PANELS, 6, 5, 300, 6, 5, 70, 3, 3, 1, 1, 1, 1, 1, 1, 1)                          \
    C(panels_half, 2, PANELS, 7, 19, 290, 4, 10, 130, 3, 3, 2, 2, 1, 1, 1, 1, 1)                  \
    C(panels_point, 3, POINTWISE_PANELS, 9, 7, 520, 9, 7, 260, 1, 1, 1, 1, 0, 0, 1, 1, 1)                   \
    C(deep, 1, TEAM, 4, 40, 280, 4, 40, 9, 5, 1, 1, 1, 2, 0, 1, 1, 1)                             \
    C(many_points, 2, TEAM, 13, 11, 40, 13, 11, 40, 1, 1, 1, 1, 0, 0, 1, 1, 1)                    \
    C(colours, 2, PLAIN, 14, 17, 3, 7, 9, 20, 4, 4, 2, 2, 1, 1, 1, 1, 1)                           \
    C(skipped, 2, TEAM, 9, 13, 20, 3, 5, 18, 2, 1, 3, 3, 0, 0, 1, 1, 1)                            \
    C(sparse, 3, TEAM, 10, 12, 100, 5, 6, 170, 1, 1, 2, 2, 0, 0, 1, 1, 1)                         \
    C(sparse_odd, 2, TEAM, 9, 11, 101, 3, 6, 190, 1, 1, 3, 2, 0, 0, 1, 1, 1)                      \
    C(sparse_far, 2, TEAM, 8, 9, 300, 4, 5, 450, 1, 1, 2, 2, 0, 0, 1, 1, 1)                       \
    C(point_parts, 3, TEAM_POINTWISE, 13, 11, 42, 13, 11, 170, 1, 1, 1, 1, 0, 0, 1, 1, 1)                   \
    C(point_many, 9, TEAM_POINTWISE, 13, 11, 140, 13, 11, 130, 1, 1, 1, 1, 0, 0, 1, 1, 1)                   \
    C(stem_wide, 2, TEAM_MERGED, 60, 64, 3, 30, 32, 64, 7, 7, 2, 2, 3, 3, 1, 1, 1)

#define DEFINE(name, rows, forms, ...) CONV_CASE_(conv_##name, forms, NN_CONV(__VA_ARGS__))
#define CONV_CASE_(...)                CONV_CASE(__VA_ARGS__)
CONVS(DEFINE)

#define WINOGRADS(C)                                                                               \
    C(w_even, 3, 12, 16, 16, 12, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1)                                \
    C(w_odd, 5, 7, 5, 24, 7, 5, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1)                                     \
    C(w_valid, 2, 9, 10, 33, 7, 8, 17, 3, 3, 1, 1, 0, 0, 1, 1, 1)                                  \
    C(w_full, 3, 6, 3, 64, 8, 5, 64, 3, 3, 1, 1, 2, 2, 1, 1, 1)                                    \
    C(w_pixel, 9, 1, 1, 5, 1, 1, 6, 3, 3, 1, 1, 1, 1, 1, 1, 1)                                     \
    C(w_deep, 2, 4, 4, 300, 4, 4, 130, 3, 3, 1, 1, 1, 1, 1, 1, 1)

#define DEFINE_WINOGRAD(name, rows, ...)             \
    WINOGRAD_CASE(conv_##name, NN_CONV(__VA_ARGS__)) \
    WINOGRAD_CASE(conv_large_##name, nn_tiles_4x4(NN_CONV(__VA_ARGS__)))
WINOGRADS(DEFINE_WINOGRAD)

START_TEST(convolution_matches_plain_loops)
{
#define CHECK(name, rows, forms, ...)    check_conv(conv_##name, rows, NN_CONV(__VA_ARGS__));
#define CHECK_WINOGRAD(name, rows, ...)                    \
    check_conv(conv_##name, rows, NN_CONV(__VA_ARGS__)); \
    check_conv(conv_large_##name, rows, nn_tiles_4x4(NN_CONV(__VA_ARGS__)));
    CONVS(CHECK)
    WINOGRADS(CHECK_WINOGRAD)
}
END_TEST
#endif

/* ---- another branch ---- */

/* A residual branch is added, and relu applied, where results are stored: the same bits as afterwards, in all forms and
 * where tiles stick out. */
#define BRANCHES(F)                                                                   \
    F(winograd, 7, 5, 24, 7, 5, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1)                        \
    F(large, 7, 9, 24, 7, 9, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1)      /* large tiles */    \
    F(team, 9, 10, 16, 9, 10, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1)                          \
    F(team, 9, 29, 6, 5, 15, 32, 5, 5, 2, 2, 2, 2, 1, 1, 2)      /* groups */         \
    F(team, 11, 10, 1, 11, 10, 6, 5, 5, 1, 1, 2, 2, 1, 1, 1)     /* wide pixels */    \
    F(team, 7, 9, 48, 7, 9, 40, 1, 1, 1, 1, 0, 0, 1, 1, 1)       /* points */         \
    F(team, 13, 14, 96, 13, 14, 156, 3, 3, 1, 1, 1, 1, 1, 1, 1)  /* far weights */    \
    F(team, 8, 8, 96, 4, 4, 156, 3, 3, 2, 2, 1, 1, 1, 1, 1)      /* scattered ones */ \
    F(team, 5, 5, 300, 5, 5, 450, 1, 1, 1, 1, 0, 0, 1, 1, 1)     /* far points */     \
    F(panels, 13, 14, 96, 13, 14, 156, 3, 3, 1, 1, 1, 1, 1, 1, 1)                     \
    F(panels, 8, 8, 96, 4, 4, 156, 3, 3, 2, 2, 1, 1, 1, 1, 1)                         \
    F(panels, 5, 5, 300, 5, 5, 450, 1, 1, 1, 1, 0, 0, 1, 1, 1)

typedef struct Branch {
    int form_index; /* in BRANCHES */
    const nn_real *x, *w, *bias, *add;
    nn_real *scratch, *plain, *sum;
} Branch;

enum { BRANCH_ROWS = 3 };
#define BY_winograd(relu, add, y) \
    nn_conv2d_winograd(team, BRANCH_ROWS, c, relu, a->x, a->w, a->bias, add, a->scratch, y)
#define BY_large(relu, add, y)                                                                                    \
    nn_conv2d_winograd(team, BRANCH_ROWS, nn_tiles_4x4(c), relu, a->x, a->w, a->bias, add, a->scratch, y)
#define BY_team(relu, add, y) nn_conv2d_team(team, BRANCH_ROWS, c, relu, a->x, a->w, a->bias, add, y)
#define BY_panels(relu, add, y)                                                         \
    nn_conv2d_panels_weights(team, c, a->w, panels_of_weights);                      \
    nn_barrier(team);                                                                \
    nn_conv2d_panels(team, BRANCH_ROWS, c, relu, a->x, panels_of_weights, a->bias, add, y)
#define BRANCH(form, ...)                       \
    if (a->form_index == at++) {                \
        const nn_conv c = NN_CONV(__VA_ARGS__); \
        BY_##form(0, NULL, a->plain);           \
        nn_barrier(team);                       \
        BY_##form(1, a->add, a->sum);           \
    }

static void branch(void *arg, const nn_team *team)
{
    const Branch *a = arg;
    int at = 0;
    BRANCHES(BRANCH)
}

START_TEST(another_branch_is_added)
{
#define GEOMETRY(form, ...) NN_CONV(__VA_ARGS__),
    const nn_conv geometry[] = { BRANCHES(GEOMETRY) };
    for (int i = 0; i < (int)(sizeof geometry / sizeof *geometry); i++) {
        const nn_conv c = geometry[i];
        const nn_dim nx = BRANCH_ROWS * c.h * c.w * c.ci, ny = BRANCH_ROWS * c.oh * c.ow * c.co;
        nn_real *x = reals(nx, 1), *w = reals(nn_conv_weights(c), 1), *bias = reals(c.co, 1), *add = reals(ny, 1);
        Branch a = { .form_index = i, .x = x, .w = w, .bias = bias, .add = add,
                     .scratch = reals(NN_WINOGRAD_ELEMENTS * c.ci * nn_winograd_wide(c.co), 0), .plain = reals(ny, 0),
                     .sum = reals(ny, 0) };
        for (int t = 1; t <= TEAMS; t++) {
            nn_pool_run(pools[t], branch, &a);
            for (nn_dim k = 0; k < ny; k++) {
                const nn_real y = a.plain[k] + add[k];
                a.plain[k] = y < 0 ? 0 : y;
            }
            expect_same("conv2d and another branch", ny, a.sum, a.plain);
        }
        free(x), free(w), free(bias), free(add), free(a.scratch), free(a.plain), free(a.sum);
    }
}
END_TEST

/* One sample from panels, several from transformed weights: the same convolution. */
#define PREPARED NN_CONV(4, 5, 96, 4, 5, 156, 3, 3, 1, 1, 1, 1, 1, 1, 1)
typedef struct Prepared {
    nn_dim rows;
    const nn_real *x, *w, *bias;
    nn_real *u, *y, *plain;
} Prepared;

static void prepared(void *arg, const nn_team *team)
{
    const Prepared *a = arg;
    const nn_conv c = PREPARED;
    nn_winograd_weights(team, nn_winograd_side(c), c.ci, c.co, a->w, a->u);
    nn_conv2d_panels_weights(team, c, a->w, panels_of_weights);
    nn_barrier(team);
    nn_conv2d_prepared(team, a->rows, c, 1, a->x, a->u, panels_of_weights, a->bias, NULL, a->y);
    nn_conv2d_team(team, a->rows, c, 1, a->x, a->w, a->bias, NULL, a->plain);
}

START_TEST(prepared_convolution_takes_any_batch)
{
    const nn_conv c = PREPARED;
    for (nn_dim rows = 1; rows <= 3; rows += 2) {
        const nn_dim nx = rows * c.h * c.w * c.ci, ny = rows * c.oh * c.ow * c.co;
        nn_real *x = reals(nx, 1), *w = reals(nn_conv_weights(c), 1), *bias = reals(c.co, 1);
        Prepared a = { .rows = rows, .x = x, .w = w, .bias = bias,
                       .u = reals(16 * c.ci * nn_winograd_wide(c.co), 0), .y = reals(ny, 0), .plain = reals(ny, 0) };
        double *want = doubles(ny);
        for (int t = 1; t <= TEAMS; t++) {
            nn_pool_run(pools[t], prepared, &a);
            for (nn_dim i = 0; i < ny; i++) want[i] = (double)a.plain[i];
            expect_within("prepared conv2d", ny, a.y, want, square_sum(ny, want));
            for (nn_dim i = 0; i < ny; i++) a.y[i] = (nn_real)NAN;
        }
        free(x), free(w), free(bias), free(a.u), free(a.y), free(a.plain), free(want);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("conv");
    TCase *t = kernels_case(s, "conv");
    tcase_add_test(t, convolution_matches_plain_loops);
    tcase_add_test(t, another_branch_is_added);
    tcase_add_test(t, prepared_convolution_takes_any_batch);
    return run_suite(s);
}
