/* SPDX-License-Identifier: MIT
 *
 * One function for each class of kernel and layer that spills.sh disassembles, with literal sizes as generated code
 * has them. -DSPILLING adds a function whose hot loop must spill, for the test of the checker.
 */
#include "nn_kernels.h"

#define CONV(kind, name, ...)                                                                                         \
    void kind##_##name(const nn_team *team, nn_dim rows, const nn_real *x, const nn_real *w, const nn_real *bias,     \
                       nn_real *scratch, nn_real *y)                                                                  \
    {                                                                                                                 \
        const nn_conv c = NN_CONV(__VA_ARGS__);                                                                       \
        (void)team, (void)bias, (void)scratch;                                                                        \
        kind;                                                                                                         \
    }

/* h, w, ci, oh, ow, co, r, s, step, pad, dilation, groups */
#define forward nn_conv2d_team(team, rows, c, 1, x, w, bias, NULL, y)
#define alone   nn_conv2d(rows, c, 1, x, w, bias, NULL, y)
#define kept    nn_conv2d_panels(team, rows, c, 1, x, w, bias, NULL, y)
#define added   nn_conv2d_team(team, rows, c, 1, x, w, bias, scratch, y) /* scratch: what is added */
#define dx      nn_conv2d_dx(team, rows, c, x, w, scratch, y)
#define dw      nn_conv2d_dw(team, rows, c, x, w, scratch, y, 0)
#define merged  nn_conv2d_dw_merged(team, rows, c, x, w, scratch, y, 0)
#define pointwise         nn_conv2d_pointwise_team(team, rows, c, 1, x, w, bias, NULL, y)
#define pointwise_kept    nn_conv2d_pointwise_panels(team, rows, c, 1, x, w, bias, NULL, y)
#define pointwise_added   nn_conv2d_pointwise_team(team, rows, c, 1, x, w, bias, scratch, y)
#define pointwise_kept_added nn_conv2d_pointwise_panels(team, rows, c, 1, x, w, bias, scratch, y)
#define pointwise_dx      nn_conv2d_pointwise_dx(team, rows, c, x, w, scratch, y)
#define pointwise_dw      nn_conv2d_pointwise_dw(team, rows, c, x, w, scratch, y, 0)
#define ALL(name, ...)           \
    CONV(forward, name, __VA_ARGS__) \
    CONV(dx, name, __VA_ARGS__)      \
    CONV(dw, name, __VA_ARGS__)
#define POINTWISE(name, ...)           \
    CONV(pointwise, name, __VA_ARGS__)     \
    CONV(pointwise_dx, name, __VA_ARGS__)  \
    CONV(pointwise_dw, name, __VA_ARGS__)
ALL(same16, 32, 32, 16, 32, 32, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1)
ALL(half32, 32, 32, 16, 16, 16, 32, 3, 3, 2, 2, 1, 1, 1, 1, 1)
POINTWISE(near, 28, 28, 128, 28, 28, 256, 1, 1, 1, 1, 0, 0, 1, 1, 1)
POINTWISE(far, 7, 7, 512, 7, 7, 1024, 1, 1, 1, 1, 0, 0, 1, 1, 1)
ALL(far, 14, 14, 512, 7, 7, 512, 3, 3, 2, 2, 1, 1, 1, 1, 1)
CONV(pointwise_kept, far, 7, 7, 512, 7, 7, 1024, 1, 1, 1, 1, 0, 0, 1, 1, 1)
CONV(kept, far, 14, 14, 512, 7, 7, 512, 3, 3, 2, 2, 1, 1, 1, 1, 1)
CONV(added, half32, 32, 32, 16, 16, 16, 32, 3, 3, 2, 2, 1, 1, 1, 1, 1)
CONV(pointwise_added, near, 28, 28, 128, 28, 28, 256, 1, 1, 1, 1, 0, 0, 1, 1, 1)
CONV(pointwise_kept_added, far, 14, 14, 256, 14, 14, 1024, 1, 1, 1, 1, 0, 0, 1, 1, 1)
CONV(forward, stem, 224, 224, 3, 112, 112, 64, 7, 7, 2, 2, 3, 3, 1, 1, 1)
CONV(merged, stem, 224, 224, 3, 112, 112, 64, 7, 7, 2, 2, 3, 3, 1, 1, 1)
CONV(alone, digits, 28, 28, 1, 28, 28, 6, 5, 5, 1, 1, 2, 2, 1, 1, 1)
CONV(alone, five, 14, 14, 6, 10, 10, 16, 5, 5, 1, 1, 0, 0, 1, 1, 1)
CONV(dx, five, 14, 14, 6, 10, 10, 16, 5, 5, 1, 1, 0, 0, 1, 1, 1)
CONV(merged, five, 14, 14, 6, 10, 10, 16, 5, 5, 1, 1, 0, 0, 1, 1, 1)

#define transpose    nn_conv2d_transpose_team(team, rows, c, 1, x, w, bias, y)
#define transpose_dx nn_conv2d_transpose_dx(team, rows, c, x, w, scratch, y)
#define transpose_dw nn_conv2d_transpose_dw(team, rows, c, x, w, scratch, y, 0)
CONV(transpose, up, 16, 16, 64, 8, 8, 128, 4, 4, 2, 2, 1, 1, 1, 1, 1)
CONV(transpose_dx, up, 16, 16, 64, 8, 8, 128, 4, 4, 2, 2, 1, 1, 1, 1, 1)
CONV(transpose_dw, up, 16, 16, 64, 8, 8, 128, 4, 4, 2, 2, 1, 1, 1, 1, 1)

#define deep    nn_conv2d_depthwise_team(team, rows, c, 1, x, w, bias, y)
#define deep_dx nn_conv2d_depthwise_dx(team, rows, c, x, w, scratch, y)
#define deep_dw nn_conv2d_depthwise_dw(team, rows, c, x, w, scratch, y, 0)
#define DEPTHWISE(name, ...)     \
    CONV(deep, name, __VA_ARGS__)    \
    CONV(deep_dx, name, __VA_ARGS__) \
    CONV(deep_dw, name, __VA_ARGS__)
DEPTHWISE(wide, 56, 56, 128, 56, 56, 128, 3, 3, 1, 1, 1, 1, 1, 1, 128)
DEPTHWISE(half, 56, 56, 128, 28, 28, 128, 3, 3, 2, 2, 1, 1, 1, 1, 128)
DEPTHWISE(narrow, 7, 7, 1024, 7, 7, 1024, 3, 3, 1, 1, 1, 1, 1, 1, 1024)

#define winograd    nn_conv2d_winograd(team, rows, c, 1, x, w, bias, NULL, scratch, y)
#define winograd_dx nn_conv2d_winograd_dx(team, rows, c, x, w, scratch, y)
#define winograd_dw nn_conv2d_winograd_dw(team, rows, c, x, w, scratch, y, 0)
#define WINOGRAD(name, ...)          \
    CONV(winograd, name, __VA_ARGS__)    \
    CONV(winograd_dx, name, __VA_ARGS__) \
    CONV(winograd_dw, name, __VA_ARGS__)
WINOGRAD(images, 32, 32, 64, 32, 32, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1)

#define large    nn_conv2d_winograd(team, rows, nn_tiles_4x4(c), 1, x, w, bias, NULL, scratch, y)
#define large_dx nn_conv2d_winograd_dx(team, rows, nn_tiles_4x4(c), x, w, scratch, y)
#define large_dw nn_conv2d_winograd_dw(team, rows, nn_tiles_4x4(c), x, w, scratch, y, 0)
#define LARGE(name, ...)              \
    CONV(large, name, __VA_ARGS__)    \
    CONV(large_dx, name, __VA_ARGS__) \
    CONV(large_dw, name, __VA_ARGS__)
/* 96 channels are whole tiles: of those that 64 leave over, gcc 12 keeps one vector of 20 in memory with AVX-512. */
LARGE(images, 32, 32, 96, 32, 32, 96, 3, 3, 1, 1, 1, 1, 1, 1, 1)

#define DENSE(in, out)                                                                                                \
    void dense_##in##_##out(nn_dim rows, const nn_real *x, const nn_real *w, const nn_real *bias, nn_real *y)         \
    {                                                                                                                 \
        nn_dense(rows, in, out, 1, x, w, bias, NULL, y);                                                              \
    }                                                                                                                 \
    void dense_wide_##in##_##out(const nn_team *team, nn_dim rows, const nn_real *x, const nn_real *w,                \
                                 const nn_real *bias, nn_real *y)                                                     \
    {                                                                                                                 \
        nn_dense_wide(team, rows, in, out, 1, x, w, bias, NULL, y);                                                   \
    }                                                                                                                 \
    void dense_kept_##in##_##out(const nn_team *team, nn_dim rows, const nn_real *x, const nn_real *w,                \
                                 const nn_real *bias, nn_real *y)                                                     \
    {                                                                                                                 \
        nn_dense_kept(team, rows, in, out, 1, x, w, bias, NULL, y);                                                   \
    }                                                                                                                 \
    void dense_dx_##in##_##out(nn_dim rows, const nn_real *dy, const nn_real *w, nn_real *y)                          \
    {                                                                                                                 \
        nn_dense_dx(rows, in, out, dy, w, NULL, NULL, y);                                                             \
    }                                                                                                                 \
    void dense_dx_wide_##in##_##out(const nn_team *team, nn_dim rows, const nn_real *dy, const nn_real *w,            \
                                    nn_real *y)                                                                       \
    {                                                                                                                 \
        nn_dense_dx_wide(team, rows, in, out, dy, w, NULL, NULL, y);                                                  \
    }                                                                                                                 \
    void dense_dw_##in##_##out(const nn_team *team, nn_dim rows, const nn_real *x, const nn_real *dy, nn_real *w)     \
    {                                                                                                                 \
        nn_dense_dw(team, rows, in, out, x, dy, w, 0);                                                                \
    }
DENSE(784, 512)
DENSE(512, 10)

#define DENSE_ADD(in, out)                                                                                            \
    void dense_add_##in##_##out(const nn_team *team, nn_dim rows, const nn_real *x, const nn_real *w,                 \
                                const nn_real *bias, const nn_real *add, nn_real *y)                                  \
    {                                                                                                                 \
        nn_dense_wide(team, rows, in, out, 0, x, w, bias, add, y);                                                    \
    }                                                                                                                 \
    void dense_add_kept_##in##_##out(const nn_team *team, nn_dim rows, const nn_real *x, const nn_real *w,            \
                                     const nn_real *bias, const nn_real *add, nn_real *y)                             \
    {                                                                                                                 \
        nn_dense_kept(team, rows, in, out, 0, x, w, bias, add, y);                                                    \
    }
DENSE_ADD(1024, 256)

#define MATMUL(name, m, n, k, ta, tb)                                                                                 \
    void matmul_##name(const nn_team *team, const nn_real *a, const nn_real *b, nn_real *y)                           \
    {                                                                                                                 \
        nn_matmul(team, 16, 4, 1, (nn_steps){ 128 * 256, 64, 0 }, (nn_steps){ 128 * 256, 64, 0 }, m, n, k, ta, tb, a, \
                  b, y, 0);                                                                                           \
    }
MATMUL(scores, 128, 128, 256, 0, 1)
MATMUL(values, 128, 64, 128, 0, 0)
MATMUL(back, 128, 64, 128, 1, 0)

void lstm_loop(const nn_team *team, nn_dim rows, const nn_real *x, const nn_real *s, const nn_real *panels,
               nn_real *spare, nn_real *h)
{
    nn_lstm_loop(team, rows, 64, 256, 0, x, s, s, panels, spare, h, h, h, h, h, h);
}

void lstm_loop_dx(const nn_team *team, nn_dim rows, const nn_real *gates, const nn_real *dh2, const nn_real *panels,
                  nn_real *dh)
{
    nn_lstm_loop_dx(team, rows, 64, 256, 0, gates, gates, dh2, dh2, panels, dh2, dh, dh, dh);
}

void gru_loop(const nn_team *team, nn_dim rows, const nn_real *x, const nn_real *s, const nn_real *panels,
              nn_real *spare, nn_real *h)
{
    nn_gru_loop(team, rows, 64, 256, 0, x, s, panels, spare, h, h, h, h);
}

#ifdef SPILLING
/* More sums than any processor has registers. */
void spilling(nn_dim n, const nn_real *a, const nn_real *b, nn_real *y)
{
    nn_vec acc[40];
    NN_UNROLL_FULL
    for (int i = 0; i < 40; i++) acc[i] = nn_load(y + i * NN_VL);
    for (nn_dim k = 0; k < n; k++) {
        const nn_vec v = nn_load(b + k * NN_VL);
        NN_UNROLL_FULL
        for (int i = 0; i < 40; i++) acc[i] += nn_splat(a[k * 40 + i]) * v;
    }
    NN_UNROLL_FULL
    for (int i = 0; i < 40; i++) nn_store(y + i * NN_VL, acc[i]);
}
#endif
