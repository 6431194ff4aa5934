/* SPDX-License-Identifier: MIT
 *
 * Convolution and the gradient of its input, which is a convolution of dy with the transposed weights, one walk per
 * phase of the stride; transposed convolution is made of the same parts. Weights are stored [R][S][I/g][O].
 *
 * Forward: y[n,i,j,k] = bias[k] + sum over r,s,c of x[n, i*step + r*dil - pad, j*step + s*dil - pad, c] *
 * w[r,s,c,k], where terms outside the image are left out.
 */
#ifndef NN_KERNELS_CONV2D_H
#define NN_KERNELS_CONV2D_H

#include "kernels/dense.h"
#include "kernels/depthwise.h"

/* ---- forward; generated code calls the form that fits the layer ---- */

/* Samples of a 1x1 convolution without stride and padding are one long row, cut into rows of this many pixels, whole
 * tiles of them. */
enum { NN_CONV_ROW = NN_TILE_ACC >= 24 ? 112 : 96 };

NN_INLINE int nn_conv_is_point(nn_conv c)
{
    return c.r == 1 && c.s == 1 && c.step_h == 1 && c.step_w == 1 && c.pad_top == 0 && c.pad_left == 0 &&
           c.h == c.oh && c.w == c.ow && c.groups == 1;
}

/* The same but for a stride, which leaves out some of x: a product over the pixels of y. */
NN_INLINE int nn_conv_is_product(nn_conv c)
{
    return c.r == 1 && c.s == 1 && c.pad_top == 0 && c.pad_left == 0 && c.groups == 1;
}

NN_INLINE nn_walk nn_conv_point_walk(nn_dim pixels, nn_dim depth, nn_dim cols)
{
    return (nn_walk){ .h = { 1, 1, 1, 1, 1, 0 }, .w = { NN_CONV_ROW, NN_CONV_ROW, 1, 1, 1, 0 }, .x_pix = depth,
                      .y_pix = cols, .w_h = depth * cols, .w_w = depth * cols, .w_c = cols, .depth = depth,
                      .cols = cols, .last = cols, .total = pixels, .asks = NN_VL > 1 };
}

/* A part of y[p] = bias + x[p] * w + add[p] for all pixels p of the samples. Ends of parts are multiples of a tile.
 * Where tiles have few rows, these are read where they lie, as those of a dense layer: they are not worth a copy. */
NN_INLINE void nn_walk_points(int far, int panels, int relu, nn_part part, nn_dim pixels, nn_dim ci, nn_dim co,
                              const nn_real *x, const nn_real *w, const nn_real *bias, const nn_real *add, nn_real *y)
{
    nn_dim from, to;
    nn_share(part.row, part.rows, pixels, NN_TILE_ACC / 2, &from, &to);
    if ((far || ci >= 32) && NN_TILE_ACC < 24 && co >= NN_PANEL_COLS) {
        nn_dim c0, c1;
        nn_share(part.col, part.cols, co, NN_PANEL_COLS, &c0, &c1);
        nn_dense_panel_columns(panels, c0, c1, to - from, ci, co, relu, x + from * ci, w, bias,
                               add ? add + from * co : NULL, y + from * co);
        return;
    }
    part.row = 0;
    part.rows = 1;
    nn_walk g = nn_conv_point_walk(to - from, ci, co);
    g.panels = panels;
    nn_walk_samples(far, NN_CONV_ROW, relu, part, (to - from + NN_CONV_ROW - 1) / NN_CONV_ROW, NN_CONV_ROW * ci,
                    NN_CONV_ROW * co, g, x + from * ci, w, bias, add ? add + from * co : NULL, y + from * co);
}

/* Weights, or a tile's patch of the image, that do not fit a near cache. */
NN_INLINE int nn_conv2d_is_far(nn_conv c)
{
    return NN_WALK_FAR(nn_conv_weights(c), c.r * (15 * c.step_w + (c.s - 1) * c.dil_w + 1) * c.ci);
}

/* A part of rows samples of y = conv(x, w) + bias + add, then relu if asked. bias and add may be NULL; add lies like
 * y, apart from it; `panels`: w holds panels. This form is for a 1x1 kernel without stride and padding, of one group
 * and at least NN_VL channels of y. */
NN_INLINE void nn_conv2d_pointwise_part(nn_part part, nn_dim rows, nn_conv c, int panels, int relu, const nn_real *x,
                                        const nn_real *w, const nn_real *bias, const nn_real *add, nn_real *y)
{
    nn_walk_points(nn_conv2d_is_far(c), panels, relu, part, rows * c.h * c.w, c.ci, c.co, x, w, bias, add, y);
}

/* The same for any geometry: pointwise ones too, but not as fast. */
NN_INLINE void nn_conv2d_part(nn_part part, nn_dim rows, nn_conv c, int panels, int relu, const nn_real *x,
                              const nn_real *w, const nn_real *bias, const nn_real *add, nn_real *y)
{
    const nn_dim ci = c.ci / c.groups, co = c.co / c.groups, x_next = c.h * c.w * c.ci, y_next = c.oh * c.ow * c.co;
    const int far = nn_conv2d_is_far(c);
    nn_walk g = {
        .h = { c.oh, c.h, c.r, c.step_h, c.dil_h, -c.pad_top },
        .w = { c.ow, c.w, c.s, c.step_w, c.dil_w, -c.pad_left },
        .x_row = c.w * c.ci,
        .x_pix = c.ci,
        .y_row = c.ow * c.co,
        .y_pix = c.co,
        .w_h = c.s * ci * c.co,
        .w_w = ci * c.co,
        .w_c = c.co,
        .depth = ci,
        .cols = co,
        .last = co,
        .panels = panels,
    };
    const nn_dim wide = c.groups == 1 && c.dil_w == 1 ? nn_max_dim(1, nn_min_dim(c.ow, NN_VL / co)) : 1,
                 taps = wide == 1 ? c.s : (wide - 1) * c.step_w + c.s;
    const int widened = co < NN_VL && !far && c.r * taps * ci <= NN_WALK_PACK;
    nn_real pack[NN_WALK_PACK * NN_VL], lanes[NN_VL];
    const nn_widen m = { wide, taps, 0, -c.step_w, 1, 1 };
    if (widened) {
        g.w.out = (c.ow + wide - 1) / wide;
        g.w.taps = taps;
        g.w.step = wide * c.step_w;
        g.y_pix = wide == 1 ? c.co : wide * co;
        g.w_h = taps * ci * NN_VL;
        g.w_w = ci * NN_VL;
        g.w_c = NN_VL;
        g.cols = wide * co;
        g.last = (c.ow - (g.w.out - 1) * wide) * co;
    }
    for (nn_dim q = 0; q < c.groups; q++) {
        const nn_real *wq = w + q * co, *bias_q = bias ? bias + q * co : NULL;
        if (widened) {
            nn_walk_widen(m, c.r, c.s, ci * c.co, c.co, ci, co, 0, wq, pack);
            nn_walk_widen_bias(wide, co, bias_q, lanes);
        }
        nn_walk_samples(widened ? 0 : far || co < NN_VL, widened ? g.w.out : c.ow, relu, part, rows, x_next, y_next, g,
                        x + q * ci, widened ? pack : wq, widened ? lanes : bias_q, add ? add + q * co : NULL,
                        y + q * co);
    }
}

NN_INLINE void nn_conv2d(nn_dim rows, nn_conv c, int relu, const nn_real *x, const nn_real *w, const nn_real *bias,
                         const nn_real *add, nn_real *y)
{
    nn_conv2d_part(NN_WHOLE, rows, c, 0, relu, x, w, bias, add, y);
}

/* The same, divided by a team. */
NN_INLINE nn_part nn_conv2d_part_of(const nn_team *team, nn_dim rows, nn_conv c)
{
    return nn_part_of(team, nn_conv_weights(c), rows * c.h * c.w * c.ci, c.co / c.groups / NN_VL);
}

NN_INLINE void nn_conv2d_team(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                              const nn_real *w, const nn_real *bias, const nn_real *add, nn_real *y)
{
    nn_conv2d_part(nn_conv2d_part_of(team, rows, c), rows, c, 0, relu, x, w, bias, add, y);
}

NN_INLINE void nn_conv2d_pointwise(nn_dim rows, nn_conv c, int relu, const nn_real *x, const nn_real *w,
                                   const nn_real *bias, const nn_real *add, nn_real *y)
{
    nn_conv2d_pointwise_part(NN_WHOLE, rows, c, 0, relu, x, w, bias, add, y);
}

NN_INLINE void nn_conv2d_pointwise_team(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                        const nn_real *w, const nn_real *bias, const nn_real *add, nn_real *y)
{
    nn_conv2d_pointwise_part(nn_conv2d_part_of(team, rows, c), rows, c, 0, relu, x, w, bias, add, y);
}

/* Large weights (NN_WALK_FAR) of one group as panels of as many columns as a tile has, one panel after another, each
 * with all taps and input channels; columns beyond the last are zero. The team divides the panels. */
NN_INLINE void nn_conv2d_panels_weights(const nn_team *team, nn_conv c, const nn_real *w, nn_real *panels)
{
    const nn_dim width = nn_conv_is_point(c) ? NN_CONV_ROW : c.ow, pane = nn_walk_vecs(width, c.co / NN_VL) * NN_VL,
                 all = c.r * c.s * c.ci;
    nn_dim from, to;
    nn_share(team->rank, team->size, c.co, pane, &from, &to);
    nn_pack_panels(all, to - from, pane, w + from, c.co, panels + from * all);
}

/* nn_conv2d_team of such panels; of a pointwise convolution's the other one, whose tiles are of another width. */
NN_INLINE void nn_conv2d_panels(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                const nn_real *panels, const nn_real *bias, const nn_real *add, nn_real *y)
{
    nn_conv2d_part(nn_conv2d_part_of(team, rows, c), rows, c, 1, relu, x, panels, bias, add, y);
}

NN_INLINE void nn_conv2d_pointwise_panels(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                          const nn_real *panels, const nn_real *bias, const nn_real *add, nn_real *y)
{
    nn_conv2d_pointwise_part(nn_conv2d_part_of(team, rows, c), rows, c, 1, relu, x, panels, bias, add, y);
}

/* groups = ci = co > 1. */
NN_INLINE void nn_conv2d_depthwise(nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                   const nn_real *w, const nn_real *bias, nn_real *y)
{
    nn_depthwise_walk(NN_WHOLE, rows, nn_depthwise_forward(c, relu), x, w, bias, y);
}

NN_INLINE void nn_conv2d_depthwise_team(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                        const nn_real *w, const nn_real *bias, nn_real *y)
{
    nn_depthwise_walk(nn_depthwise_part(team, rows, c), rows, nn_depthwise_forward(c, relu), x, w, bias, y);
}

/* ---- gradient of the input, and transposed convolution ---- */

/* The taps of one axis that reach inputs i = phase + step*u: t = first + j*period, for which the output is
 * o = u + base - j*dil. Taken from the last one (j' = taps-1-j) it reads forward. */
typedef struct nn_phase {
    nn_dim taps, first, period, dil, base, count;
} nn_phase;

NN_INLINE nn_phase nn_phase_of(nn_dim phase, nn_dim in, nn_dim taps, nn_dim step, nn_dim dil,
                               nn_dim pad)
{
    nn_phase p = { .taps = 0, .first = 0, .period = 1, .dil = 1, .base = 0, .count = 0 };
    if (phase < in) p.count = (in - phase + step - 1) / step;
    nn_dim first = 0;
    while (first < taps && first < step && (phase + pad - first * dil) % step != 0) first++;
    if (first == taps || first == step) return p;
    nn_dim period = 1;
    while (period * dil % step != 0) period++;
    p.period = period;
    p.dil = period * dil / step;
    p.first = first;
    p.taps = (taps - first + period - 1) / period;
    p.base = (phase + pad - first * dil) / step;
    return p;
}

/* The axis of a walk for a phase, and where its taps begin and how far they are apart in the weights. `flipped`: the
 * weights' taps are stored in reverse. */
NN_INLINE nn_axis nn_phase_axis(nn_phase p, nn_dim out, nn_dim taps, int flipped, nn_dim *first, nn_dim *apart)
{
    const nn_dim last = p.first + (p.taps - 1) * p.period;
    *first = p.taps == 0 ? 0 : flipped ? taps - 1 - last : last;
    *apart = flipped ? p.period : -p.period;
    return (nn_axis){ p.count, out, p.taps, 1, p.dil, p.base - (p.taps - 1) * p.dil };
}

NN_INLINE int nn_conv_phase_is_far(nn_conv c)
{
    return NN_WALK_FAR(nn_div_up(c.r, c.step_h) * nn_div_up(c.s, c.step_w) * (c.ci / c.groups) * c.co,
                       c.r * (15 + c.s * c.dil_w) * c.co);
}

/* nn_conv_phases below where nn_conv2d_pointwise_part fits the gradient: at least NN_VL channels of dx. */
NN_INLINE void nn_conv_pointwise_phase(nn_part part, nn_dim rows, nn_conv c, int relu, const nn_real *dy,
                                       const nn_real *wt, const nn_real *bias, nn_real *dx)
{
    nn_walk_points(nn_conv_phase_is_far(c), 0, relu, part, rows * c.h * c.w, c.co, c.ci, dy, wt, bias, NULL, dx);
}

/* Few channels of dx, stride 1: all taps of a line of the kernel side by side fill the vectors that the channels of a
 * pixel do not, and no tap meets a zero beyond dy. A pixel o of dy gives T[o][s][c], the sum over lines of the kernel
 * and channels of dy; dx[p][c] is the sum of T[p + pad - s][s][c] over s. */
NN_INLINE int nn_conv_taps_vecs(nn_conv c)
{
    return (int)((c.s * c.ci + NN_VL - 1) / NN_VL);
}

/* Whether that takes fewer multiply-adds than wide pixels (nn_widen). */
NN_INLINE int nn_conv_is_by_taps(nn_conv c)
{
    const nn_dim vecs = nn_conv_taps_vecs(c), wide = NN_VL / nn_min_dim(c.ci, NN_VL), taps = wide + c.s - 1;
    return c.groups == 1 && c.step_h == 1 && c.step_w == 1 && c.dil_w == 1 && c.ci < NN_VL && vecs <= NN_TILE_VECS &&
           !nn_conv_phase_is_far(c) && c.r * c.co * vecs <= NN_WALK_PACK &&
           (c.ow * vecs + 1) * NN_VL <= NN_WALK_BLOCK && c.ow * vecs < (c.w + wide - 1) / wide * taps;
}

/* nn_conv_phases below for such a convolution. */
NN_INLINE void nn_conv_by_taps(nn_part part, nn_dim rows, nn_conv c, int flipped, int relu, const nn_real *dy,
                               const nn_real *wt, const nn_real *bias, nn_real *dx)
{
    const int nv = nn_conv_taps_vecs(c), mr = nn_tile_rows(c.ow, NN_TILE_FEW && nv == 4 ? 2 : NN_TILE_ACC / nv);
    const nn_dim pane = nv * NN_VL, ci = c.ci;
    nn_real pack[NN_WALK_PACK * NN_VL], sums[NN_WALK_BLOCK], lanes[NN_VL];
    memset(pack, 0, (size_t)(c.r * c.co * pane) * sizeof *pack);
    for (nn_dim i = 0; i < c.r * c.s; i++) {
        const nn_real *tap = wt + (flipped ? c.r * c.s - 1 - i : i) * c.co * ci;
        nn_walk_copy(c.co, ci, ci, tap, ci, pack + i / c.s * c.co * pane + i % c.s * ci, pane);
    }
    nn_walk_widen_bias(1, ci, bias, lanes);
    memset(sums + c.ow * pane, 0, sizeof lanes);
    nn_dim line, last;
    nn_share(part.row, part.rows, rows * c.h, 1, &line, &last);
    for (; line < last; line++) {
        const nn_dim n = line / c.h, h = line % c.h + c.pad_top,
                     r0 = nn_clamp(nn_div_up(h - c.oh + 1, c.dil_h), 0, c.r),
                     r1 = nn_clamp(nn_div_down(h, c.dil_h) + 1, r0, c.r);
        const nn_real *from = dy + (n * c.oh + h - r0 * c.dil_h) * c.ow * c.co;
        const nn_taps t = { .n_h = r1 - r0, .n_w = 1, .depth = c.co, .x_h = -c.dil_h * c.ow * c.co,
                            .w_h = c.co * pane, .w_c = pane, .last = 1 };
        for (nn_dim at = 0; at < c.ow; at += mr) {
            const nn_dim o = nn_min_dim(at, c.ow - mr);
            nn_walk_tile(mr, nv, 0, NN_FROM_BIAS, 0, t, c.co, from + o * c.co, pack + r0 * c.co * pane, NULL, NULL,
                         sums + o * pane, pane);
        }
        nn_real *to = dx + line * c.w * ci;
        for (nn_dim p = 0; p < c.w; p++) {
            const nn_dim q = p + c.pad_left, s0 = nn_clamp(q - c.ow + 1, 0, c.s), s1 = nn_clamp(q + 1, s0, c.s);
            nn_vec v = nn_load(lanes);
            for (nn_dim s = s0; s < s1; s++) v += nn_load(sums + (q - s) * pane + s * ci);
            if (relu) v = nn_relu(v);
            /* What is stored beyond a pixel is the next one's place. */
            if (p * ci + NN_VL <= c.w * ci)
                nn_store(to + p * ci, v);
            else
                nn_store_part(to + p * ci, v, ci);
        }
    }
}

/* A part of dx from dy, rows samples. wt holds [co][ci/g] per tap: for conv2d_dx the transposed weights with both tap
 * axes reversed (`flipped`), for transposed convolution the weights as they are. One walk per phase of the stride; few
 * channels are computed for neighbouring pixels at once, whatever their phase. */
NN_INLINE void nn_conv_phases(nn_part part, nn_dim rows, nn_conv c, int flipped, int relu, const nn_real *dy,
                              const nn_real *wt, const nn_real *bias, nn_real *dx)
{
    if (nn_conv_is_by_taps(c)) {
        nn_conv_by_taps(part, rows, c, flipped, relu, dy, wt, bias, dx);
        return;
    }
    const nn_dim ci = c.ci / c.groups, co = c.co / c.groups, tap = c.co * ci;
    const nn_dim x_next = c.oh * c.ow * c.co, y_next = c.h * c.w * c.ci;
    const nn_dim width = (c.w + c.step_w - 1) / c.step_w;
    const int far = nn_conv_phase_is_far(c);
    /* Where the stride is wider than the kernel, some pixels meet no tap: rows are set to zero once, and only the
     * others are computed. */
    const int gaps = nn_conv_is_product(c) && c.step_h * c.step_w > 1 && c.oh == (c.h - 1) / c.step_h + 1 &&
                     ci >= NN_VL && !bias && part.cols == 1;
    if (gaps) {
        nn_dim line, last;
        nn_share(part.row, part.rows, rows * c.oh, 1, &line, &last);
        for (; line < last; line++) {
            const nn_dim h = line % c.oh * c.step_h, lines = nn_min_dim(c.step_h, c.h - h);
            memset(dx + line / c.oh * y_next + h * c.w * c.ci, 0, (size_t)(lines * c.w * c.ci) * sizeof *dx);
        }
    }
    /* Pixels of a wide one are side by side in memory only where there is one group. */
    const nn_dim wide = c.dil_w != 1 || ci > NN_VL ? 0
                        : c.groups == 1            ? NN_VL / ci / c.step_w * c.step_w
                                                   : c.step_w == 1;
    /* Pixel d of a wide one and tap t meet output (d + pad - t) / step, counted from that of d = 0 and the last tap. */
    const nn_dim least = nn_div_up(c.pad_left - (c.s - 1), c.step_w),
                 most = nn_div_down(wide - 1 + c.pad_left, c.step_w), taps = most - least + 1;
    const int widened = wide > 0 && taps > 0 && !far && c.r * taps * co <= NN_WALK_PACK;
    nn_real pack[NN_WALK_PACK * NN_VL], lanes[NN_VL];
    for (nn_dim i = 0; i < c.groups * c.step_h; i++) {
        const nn_dim q = i / c.step_h, ph = i % c.step_h;
        nn_dim r0, s0, w_h, w_w;
        const nn_axis h = nn_phase_axis(nn_phase_of(ph, c.h, c.r, c.step_h, c.dil_h, c.pad_top), c.oh, c.r, flipped,
                                        &r0, &w_h);
        const nn_real *wq = wt + q * co * ci, *bias_q = bias ? bias + q * ci : NULL;
        nn_walk g = { .h = h, .x_row = c.ow * c.co, .x_pix = c.co, .y_row = c.step_h * c.w * c.ci, .depth = co };
        if (widened) {
            g.w = (nn_axis){ (c.w + wide - 1) / wide, c.ow, taps, wide / c.step_w, 1, least };
            g.cols = wide * ci;
            g.y_pix = c.groups == 1 ? wide * ci : c.ci;
            g.last = (c.w - (g.w.out - 1) * wide) * ci;
            g.w_h = w_h * taps * co * NN_VL;
            g.w_w = co * NN_VL;
            g.w_c = NN_VL;
            if (ph == 0) {
                const nn_widen m = { wide, taps, c.pad_left - c.step_w * least, 1, -c.step_w, 1 };
                nn_walk_widen(m, c.r, c.s, tap, ci, co, ci, flipped, wq, pack);
                nn_walk_widen_bias(wide, ci, bias_q, lanes);
            }
        } else {
            g.y_pix = c.step_w * c.ci;
            g.cols = g.last = g.w_c = ci;
            g.w_h = w_h * c.s * tap;
        }
        for (nn_dim pw = 0; pw < (widened ? 1 : c.step_w); pw++) {
            if (gaps && ph + pw > 0) break;
            nn_dim first = r0 * taps * co * NN_VL;
            if (!widened) {
                g.w = nn_phase_axis(nn_phase_of(pw, c.w, c.s, c.step_w, c.dil_w, c.pad_left), c.ow, c.s, flipped, &s0,
                                    &w_w);
                g.w_w = w_w * tap;
                first = (r0 * c.s + s0) * tap;
            }
            nn_walk_samples(widened ? 0 : far || ci < NN_VL, widened ? (c.w + wide - 1) / wide : width, relu, part,
                            rows, x_next, y_next, g, dy + q * co, (widened ? pack : wq) + first,
                            widened ? lanes : bias_q, NULL, dx + (ph * c.w + pw) * c.ci + q * ci);
        }
    }
}

NN_INLINE nn_part nn_part_of_dx(const nn_team *team, nn_dim rows, nn_conv c)
{
    return nn_part_of(team, nn_conv_weights(c), rows * c.oh * c.ow * c.co, c.ci / c.groups / NN_VL);
}

/* nn_transpose, compiled once: all of a layer's weights are turned round in a few calls. */
NN_ONCE void nn_conv_turn(nn_dim rows, nn_dim cols, const nn_real *x, nn_dim x_row, nn_real *restrict t,
                          nn_dim t_row)
{
    nn_transpose(rows, cols, x, x_row, t, t_row);
}

/* wt[R-1-r][S-1-s][k][c] = w[r][s][c][k], per group: [.][k of all groups][c of a group]. The team divides
 * the taps and blocks of channels. */
NN_INLINE void nn_conv_flip(const nn_team *team, nn_conv c, const nn_real *w, nn_real *wt)
{
    const nn_dim ci = c.ci / c.groups, items = c.r * c.s;
    nn_dim from, to;
    nn_share(team->rank, team->size, items * c.co, 1, &from, &to);
    while (from < to) {
        const nn_dim t = from / c.co, k0 = from % c.co, k1 = nn_min_dim(c.co, k0 + (to - from));
        nn_conv_turn(ci, k1 - k0, w + t * ci * c.co + k0, c.co, wt + ((items - 1 - t) * c.co + k0) * ci, ci);
        from += k1 - k0;
    }
}

/* dx = gradient of a convolution with respect to x. scratch holds the weights once more. */
NN_INLINE void nn_conv2d_dx(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *dy,
                            const nn_real *w, nn_real *scratch, nn_real *dx)
{
    nn_conv_flip(team, c, w, scratch);
    nn_barrier(team);
    nn_conv_phases(nn_part_of_dx(team, rows, c), rows, c, 1, 0, dy, scratch, NULL, dx);
}

NN_INLINE void nn_conv2d_pointwise_dx(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *dy,
                                      const nn_real *w, nn_real *scratch, nn_real *dx)
{
    nn_conv_flip(team, c, w, scratch);
    nn_barrier(team);
    nn_conv_pointwise_phase(nn_part_of_dx(team, rows, c), rows, c, 0, dy, scratch, NULL, dx);
}

NN_INLINE void nn_conv2d_depthwise_dx(const nn_team *team, nn_dim rows, nn_conv c,
                                      const nn_real *dy, const nn_real *w, nn_real *scratch,
                                      nn_real *dx)
{
    (void)scratch;
    nn_depthwise_walk(nn_depthwise_part(team, rows, c), rows, nn_depthwise_backward(c), dy, w, NULL, dx);
}

#endif
