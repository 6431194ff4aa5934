/* SPDX-License-Identifier: MIT
 *
 * Convolution on channels-last images, without im2col: every output row is a row of register tiles (tile.h)
 * whose summed index runs over channels and kernel taps. Weights are stored [R][S][I/g][O]. One walk serves
 * the forward pass, the gradient of the input (a convolution of dy with the transposed weights, one walk per
 * phase of the stride) and transposed convolution; a second one serves all weight gradients.
 *
 * Forward: y[n,i,j,k] = bias[k] + sum over r,s,c of x[n, i*step + r*dil - pad, j*step + s*dil - pad, c] *
 * w[r,s,c,k], where terms outside the image are left out.
 */
#ifndef NN_KERNELS_CONV2D_H
#define NN_KERNELS_CONV2D_H

#include "kernels/tile.h"

/* One spatial axis of a walk: output o and tap t meet input o*step + t*dil + base; dil is positive. */
typedef struct nn_axis {
    nn_dim out, in, taps, step, dil, base;
} nn_axis;

/* A convolution-like walk. Distances are in elements. In generated code all are literals, but for the axes and w_h,
 * w_w of the phases of a stride. */
typedef struct nn_walk {
    nn_axis h, w;
    nn_dim x_row, x_pix;  /* between rows and pixels of the input */
    nn_dim y_row, y_pix;  /* and of the output */
    nn_dim w_h, w_w, w_c; /* between taps and input channels of the weights */
    nn_dim depth, cols;   /* input channels summed, output channels written */
    nn_dim last;          /* output channels of the last pixel of a row: fewer than cols in widened walks */
    nn_dim total;         /* where the samples are parts of one long row: its outputs, else 0 */
    int panels;           /* the weights are those of nn_conv2d_panels_weights */
} nn_walk;

NN_INLINE nn_dim nn_clamp(nn_dim x, nn_dim lo, nn_dim hi)
{
    return nn_max_dim(lo, nn_min_dim(x, hi));
}

/* The part of a walk that a thread computes: one of rows x cols parts, part (row, col). Rows of the output of all
 * samples are divided, and output channels. */
typedef struct nn_part {
    int row, rows, col, cols;
} nn_part;

#define NN_WHOLE ((nn_part){ 0, 1, 0, 1 })

/* A team divides channels where weights are more than what they are applied to, so that each weight is read by one
 * thread, as far as there are `vecs` vectors of channels. */
NN_INLINE nn_part nn_part_of(const nn_team *team, nn_dim weights, nn_dim input, nn_dim vecs)
{
    int cols = weights > input ? (int)nn_clamp(vecs, 1, team->size) : 1;
    while (team->size % cols) cols--;
    return (nn_part){ team->rank / cols, team->size / cols, team->rank % cols, cols };
}

NN_INLINE nn_dim nn_div_up(nn_dim a, nn_dim b)
{
    return a > 0 ? (a + b - 1) / b : -(-a / b);
}

NN_INLINE nn_dim nn_div_down(nn_dim a, nn_dim b)
{
    return -nn_div_up(-a, b);
}

/* Outputs [from, to) for which tap t meets an input. */
NN_INLINE nn_dim nn_axis_from(nn_axis a, nn_dim t)
{
    return nn_clamp(nn_div_up(-(t * a.dil + a.base), a.step), 0, a.out);
}

NN_INLINE nn_dim nn_axis_to(nn_axis a, nn_dim t)
{
    return nn_clamp(nn_div_down(a.in - 1 - (t * a.dil + a.base), a.step) + 1, nn_axis_from(a, t),
                    a.out);
}

/* Outputs [from, to) for which every tap meets an input; the first and the last tap decide. */
NN_INLINE nn_dim nn_axis_inner_from(nn_axis a)
{
    return nn_max_dim(nn_axis_from(a, 0), nn_axis_from(a, a.taps - 1));
}

NN_INLINE nn_dim nn_axis_inner_to(nn_axis a)
{
    return nn_min_dim(nn_axis_to(a, 0), nn_axis_to(a, a.taps - 1));
}

/* Taps [from, to) that meet an input at output o. */
NN_INLINE void nn_axis_taps(nn_axis a, nn_dim o, nn_dim *from, nn_dim *to)
{
    const nn_dim at = o * a.step + a.base;
    *from = at < 0 ? nn_div_up(-at, a.dil) : 0;
    *to = at < a.in ? nn_min_dim(a.taps, (a.in - 1 - at) / a.dil + 1) : 0;
    if (*to < *from) *to = *from;
}

/* What a tile of a walk sums over: taps n_h x n_w and `depth` channels; distances between taps of x and of w. At tap s
 * the first pixel of a row counts where first <= s, the last one where s < last; elsewhere `zeros` stand for it. */
typedef struct nn_taps {
    nn_dim n_h, n_w, depth, x_h, x_w, w_h, w_w, w_c;
    nn_dim first, last;
    const nn_real *zeros;
    const nn_real *next; /* asked for meanwhile: an element every next_c, for each channel; NULL: nothing */
    nn_dim next_c;
} nn_taps;

/* The one tile all walks are made of: mr pixels a_m apart in x and y_m apart in y, nv vectors of channels, the last
 * one of `tail` lanes (0: all). Each call of it is code of its own, so a walk has one or two. */
NN_INLINE void nn_walk_tile(int mr, int nv, int tail, int start, int relu, nn_taps t, nn_dim a_m,
                            const nn_real *x, const nn_real *w, const nn_real *bias, nn_real *y,
                            nn_dim y_m)
{
    nn_vec acc[NN_TILE_ROWS][NN_TILE_VECS];
    if (start == NN_FROM_BIAS)
        nn_tile_start(mr, nv, tail, NN_FROM_BIAS, bias, y, y_m, acc);
    else
        nn_tile_start(mr, nv, tail, NN_FROM_RESULT, bias, y, y_m, acc);
    NN_UNROLL(1)
    for (nn_dim r = 0; r < t.n_h; r++) {
        NN_UNROLL(1)
        for (nn_dim s = 0; s < t.n_w; s++) {
            const nn_real *a = x + r * t.x_h + s * t.x_w, *b = w + r * t.w_h + s * t.w_w;
            const nn_real *first = s >= t.first && (mr > 1 || s < t.last) ? a : t.zeros,
                          *last = s < t.last ? a + (mr - 1) * a_m : t.zeros;
            for (nn_dim k = 0; k < t.depth; k++) {
                nn_vec bv[NN_TILE_VECS];
                NN_FRESH_LOADS;
                if (t.next) __builtin_prefetch(t.next + k * t.next_c, 0, 2);
                NN_UNROLL_FULL
                for (int j = 0; j < nv; j++) bv[j] = nn_load(b + k * t.w_c + j * NN_VL);
                NN_UNROLL_FULL
                for (int i = 0; i < mr; i++) {
                    const nn_vec av = nn_splat(i == 0 ? first[k] : i == mr - 1 ? last[k] : a[i * a_m + k]);
                    NN_UNROLL_FULL
                    for (int j = 0; j < nv; j++) acc[i][j] += av * bv[j];
                }
            }
        }
    }
    nn_tile_end(mr, nv, tail, relu, y, y_m, acc);
}

/* `n` pixels of x for each of `rows` rows, x_row and step*x_pix apart, from column `col` on; columns outside [0, in)
 * are zero. An ordinary function, compiled once, as are the next two. */
static __attribute__((noinline, unused)) void nn_walk_gather(nn_dim rows, nn_dim n, nn_dim depth, const nn_real *x,
                                                             nn_dim x_row, nn_dim x_pix, nn_dim col, nn_dim step,
                                                             nn_dim in, nn_real *to, nn_dim to_row, nn_dim to_pix)
{
    const nn_dim lo = nn_clamp(nn_div_up(-col, step), 0, n), hi = nn_clamp(nn_div_down(in - 1 - col, step) + 1, lo, n);
    for (nn_dim r = 0; r < rows; r++, x += x_row, to += to_row) {
        for (nn_dim i = 0; i < lo; i++) memset(to + i * to_pix, 0, (size_t)depth * sizeof *to);
        if (step == 1 && x_pix == depth && to_pix == depth) {
            memcpy(to + lo * depth, x + (col + lo) * depth, (size_t)((hi - lo) * depth) * sizeof *to);
        } else {
            for (nn_dim i = lo; i < hi; i++)
                memcpy(to + i * to_pix, x + (col + i * step) * x_pix, (size_t)depth * sizeof *to);
        }
        for (nn_dim i = hi; i < n; i++) memset(to + i * to_pix, 0, (size_t)depth * sizeof *to);
    }
}

/* m rows of n elements, the last one of `last`. */
static __attribute__((noinline, unused)) void nn_walk_copy(nn_dim m, nn_dim n, nn_dim last, const nn_real *from,
                                                           nn_dim from_row, nn_real *to, nn_dim to_row)
{
    for (nn_dim i = 0; i < m; i++)
        memcpy(to + i * to_row, from + i * from_row, (size_t)(i == m - 1 ? last : n) * sizeof *to);
}

/* `rows` rows of `cols` columns of weights as panels of `width` columns; columns beyond the last are zero. Rows
 * are far apart in memory, which no prefetcher of the hardware sees. */
static __attribute__((noinline, unused)) void nn_walk_pack(nn_dim rows, nn_dim cols, nn_dim width, const nn_real *w,
                                                           nn_dim w_row, nn_real *panel)
{
    for (nn_dim k = 0; k < cols; k += width) {
        const nn_dim n = nn_min_dim(width, cols - k);
        for (nn_dim c = 0; c < rows; c++, panel += width) {
            const nn_real *from = w + c * w_row + k;
            if (n < width) {
                memset(panel, 0, (size_t)width * sizeof *panel);
                memcpy(panel, from, (size_t)n * sizeof *panel);
                continue;
            }
            for (nn_dim j = 0; j < width; j += NN_VL) {
                __builtin_prefetch(from + 16 * w_row + j);
                nn_store(panel + j, nn_load(from + j));
            }
        }
    }
}

enum { NN_LINE = 64 / NN_REAL_BYTES }; /* elements of a line of the cache */

/* Elements of the zero-padded copy of what a tile at an edge reads, of what a block of rows reads, and rows of weights
 * with few columns. */
#if NN_VL > 1
enum { NN_WALK_PATCH = 20480, NN_WALK_BLOCK = 8192, NN_WALK_PACK = 32768 / NN_VL };
#else /* no vectors to fill, and as a rule little stack */
enum { NN_WALK_PATCH = 1024, NN_WALK_BLOCK = 512, NN_WALK_PACK = 1 };
#endif

/* `groups` groups of nv vectors of output channels; the last one may overlap its neighbour, as the last tile of a
 * row does, and computes the same bits. Tiles that stick out of the image read a copy with zeros around it. */
NN_INLINE void nn_walk_near(int nv, int tail, nn_dim groups, nn_dim width, int relu, nn_part part, nn_dim samples,
                            nn_dim x_next, nn_dim y_next, nn_walk g, const nn_real *x, const nn_real *w,
                            const nn_real *bias, nn_real *y)
{
    const int mr = nn_tile_rows(width, nv == 1 ? (NN_TILE_ACC > 16 ? 16 : 8) : NN_TILE_ACC / nv);
    const nn_dim a_m = g.w.step * g.x_pix, span = (mr - 1) * g.w.step + (g.w.taps - 1) * g.w.dil + 1;
    nn_real patch[NN_WALK_PATCH], some[NN_TILE_ROWS * NN_TILE_VECS * NN_VL];
    /* Neighbouring taps that are neighbours in memory, on both sides, make one long sum. */
    const int merged = g.w.dil == 1 && g.x_pix == g.depth && g.w_w == g.depth * g.w_c;
    const int dense = tail && g.y_pix == tail;
    const nn_dim lanes = tail ? tail : nv * NN_VL;
    /* Where more than one pixel of a tile sticks out, rows of x with the zeros beyond them are copied for a block of
     * output rows, or for single tiles, whichever copies less. */
    const nn_dim padded = nn_max_dim(1, (g.w.out - 1) * g.w.step + (g.w.taps - 1) * g.w.dil + 1);
    const nn_dim fits = NN_WALK_BLOCK / (padded * g.x_pix) - (g.h.taps - 1) * g.h.dil - 1;
    const int left = g.w.base + g.w.step < 0,
              right = g.w.base + nn_max_dim(0, mr - g.w.out) * g.w.step + padded - g.w.step > g.w.in;
    const int edges = g.w.out > mr ? left + right : left || right;
    const int blocks = !g.total && fits >= 0 && edges * g.h.taps * span > g.h.step * padded;
    const nn_dim block = blocks ? fits / g.h.step + 1 : g.h.out;
    nn_dim row, last_row, k0, k1;
    nn_share(part.row, part.rows, samples * g.h.out, 1, &row, &last_row);
    nn_share(part.col, part.cols, groups, 1, &k0, &k1);
    if (!left && !right) memset(patch, 0, (size_t)nn_min_dim(g.depth, NN_WALK_PATCH) * sizeof *patch);
    for (nn_dim lines; row < last_row; row += lines) {
        const nn_dim n = row / g.h.out, from = row % g.h.out;
        const nn_dim to = nn_min_dim(nn_min_dim(g.h.out, from + block), from + last_row - row);
        const nn_dim out = g.total ? nn_min_dim(g.w.out, g.total - n * g.w.out) : g.w.out;
        const nn_dim in = g.total ? out : g.w.in;
        const nn_real *xn = x + n * x_next;
        nn_dim x_h = g.x_row, x_col = g.w.base * g.x_pix, top = 0; /* the image's row that xn begins with */
        lines = to - from;
        if (blocks) {
            top = nn_max_dim(0, from * g.h.step + g.h.base);
            const nn_dim end = nn_min_dim(g.h.in, (to - 1) * g.h.step + (g.h.taps - 1) * g.h.dil + 1 + g.h.base);
            x_h = padded * g.x_pix;
            nn_walk_gather(end - top, padded, g.depth, xn + top * g.x_row, g.x_row, g.x_pix, g.w.base, 1, in,
                           patch, x_h, g.x_pix);
            xn = patch;
            x_col = 0;
        }
        for (nn_dim i = 0; i < (k1 - k0) * lines; i++) {
            const nn_dim k = nn_min_dim((k0 + i / lines) * nv * NN_VL, nn_max_dim(0, g.cols - nv * NN_VL));
            const nn_dim oh = from + i % lines;
            nn_dim r0, r1;
            nn_axis_taps(g.h, oh, &r0, &r1);
            const nn_real *xr = xn + (oh * g.h.step + r0 * g.h.dil + g.h.base - top) * x_h;
            nn_real *yr = y + n * y_next + oh * g.y_row + k;
            for (nn_dim at = 0; at < out; at += mr) {
                const nn_dim o = nn_max_dim(0, nn_min_dim(at, out - mr)), col = o * g.w.step + g.w.base;
                const int whole = out >= mr && (g.last == g.cols || o + mr < out);
                const int inner = blocks || (col >= 0 && col + span <= in);
                const nn_real *xt = xr + o * a_m + x_col;
                nn_taps t = { .n_h = r1 - r0, .n_w = g.w.taps, .depth = g.depth, .x_h = g.h.dil * x_h,
                              .x_w = g.w.dil * g.x_pix, .w_h = g.w_h, .w_w = g.w_w, .w_c = g.w_c, .first = 0,
                              .last = g.w.taps, .zeros = patch };
                if (inner && merged) {
                    t.n_w = 1;
                    t.depth = g.w.taps * g.depth;
                }
                if (!inner && (left || right || g.total)) {
                    nn_walk_gather(t.n_h, span, g.depth, xr, t.x_h, g.x_pix, col, 1, in, patch, span * g.x_pix,
                                   g.x_pix);
                    xt = patch;
                    t.x_h = span * g.x_pix;
                } else if (!inner) {
                    t.first = col < 0 ? nn_div_up(-col, g.w.dil) : 0;
                    t.last = nn_clamp(nn_div_down(in - 1 - col - (mr - 1) * g.w.step, g.w.dil) + 1, 0, g.w.taps);
                }
                nn_real *yt = whole ? yr + o * g.y_pix : some;
                nn_walk_tile(mr, nv, tail, NN_FROM_BIAS, relu, t, a_m, xt, w + r0 * g.w_h + k,
                             bias ? bias + k : NULL, yt, dense ? g.y_pix : whole ? g.y_pix : nv * NN_VL);
                if (!whole)
                    nn_walk_copy(nn_min_dim(mr, out - o), lanes,
                                 o + mr < out || g.last == g.cols ? lanes : g.last, some,
                                 dense ? g.y_pix : nv * NN_VL, yr + o * g.y_pix, g.y_pix);
            }
        }
    }
}

/* Weights that do not fit a near cache, and images too deep for a patch: blocks of the summed index and of the
 * columns are copied side by side, then all pixels take them; meanwhile the next block is asked for. Sums go through y
 * from block to block. */
NN_INLINE void nn_walk_far(int nv, nn_dim width, int relu, nn_part part, nn_dim samples, nn_dim x_next, nn_dim y_next,
                           nn_walk g, const nn_real *x, const nn_real *w, const nn_real *bias, nn_real *y)
{
    enum { DEPTH = 256, COLS = 8 * NN_VL, PIXELS = 512 };
    const int mr = nn_tile_rows(width, nv == 1 ? (NN_TILE_ACC > 16 ? 16 : 8) : NN_TILE_ACC / nv);
    const nn_dim block = nn_max_dim(1, PIXELS / nn_max_dim(1, g.w.out)), pane = nv * NN_VL, most = COLS / pane * pane;
    nn_real panel[DEPTH * COLS], rows[NN_TILE_ROWS * DEPTH], some[NN_TILE_ROWS * NN_TILE_VECS * NN_VL], start[COLS];
    const int empty = g.h.taps * g.w.taps == 0; /* a phase of a stride that no tap reaches */
    const nn_dim steps = (g.depth + DEPTH - 1) / DEPTH, blocks = empty ? 1 : g.h.taps * g.w.taps * steps;
    nn_dim row0, last_row, from, to;
    nn_share(part.row, part.rows, samples * g.h.out, 1, &row0, &last_row);
    nn_share(part.col, part.cols, g.cols, pane, &from, &to);
    for (; row0 < last_row; row0 += block)
        for (nn_dim k0 = from; k0 < to; k0 += most) {
            const nn_dim cols = nn_min_dim(most, to - k0);
            memset(start, 0, sizeof start);
            if (bias) memcpy(start, bias + k0, (size_t)cols * sizeof *start);
            for (nn_dim b = 0; b < blocks; b++) {
                const nn_dim r = empty ? 0 : b / steps / g.w.taps, s = empty ? 0 : b / steps % g.w.taps,
                             c = b % steps * DEPTH, depth = empty ? 0 : nn_min_dim(DEPTH, g.depth - c);
                if (!g.panels)
                    nn_walk_pack(depth, cols, pane, w + r * g.w_h + s * g.w_w + c * g.w_c + k0, g.w_c, panel);
                /* The panes of this block, and their distance. */
                const nn_dim all = g.h.taps * g.w.taps * g.depth;
                const nn_real *panes = g.panels ? w + k0 * all + ((r * g.w.taps + s) * g.depth + c) * pane : panel;
                const nn_dim apart = g.panels ? all * pane : depth * pane;
                const nn_dim b2 = b + 1 < blocks ? b + 1 : 0, k2 = b + 1 < blocks ? k0 : k0 + most,
                             c2 = b2 % steps * DEPTH;
                const int more = !g.panels && !empty && k2 < to && c2 + depth <= g.depth;
                const nn_real *next = more ? w + b2 / steps / g.w.taps * g.w_h + b2 / steps % g.w.taps * g.w_w +
                                                 c2 * g.w_c + k2
                                           : start;
                nn_dim asked = more ? 0 : most; /* columns of it */
                for (nn_dim row = row0; row < nn_min_dim(last_row, row0 + block); row++) {
                    const nn_dim n = row / g.h.out, oh = row % g.h.out, ih = oh * g.h.step + r * g.h.dil + g.h.base;
                    const int inside = ih >= 0 && ih < g.h.in;
                    if (!inside && b > 0 && b < blocks - 1) continue;
                    const nn_dim out = g.total ? nn_min_dim(g.w.out, g.total - n * g.w.out) : g.w.out;
                    nn_taps t = { .n_h = inside, .n_w = 1, .depth = depth, .w_c = pane, .last = 1 };
                    for (nn_dim o = 0; o < out; o += mr) {
                        const nn_dim m = nn_min_dim(mr, out - o);
                        if (inside)
                            nn_walk_gather(1, mr, depth, x + n * x_next + ih * g.x_row + c, 0, g.x_pix,
                                           o * g.w.step + s * g.w.dil + g.w.base, g.w.step, g.total ? out : g.w.in,
                                           rows, 0, DEPTH);
                        for (nn_dim k = 0; k < cols; k += pane) {
                            nn_real *yt = y + n * y_next + oh * g.y_row + o * g.y_pix + k0 + k;
                            const nn_dim some_cols = nn_min_dim(pane, cols - k);
                            const int whole = m == mr && some_cols == pane;
                            const int asks = asked < nn_min_dim(most, to - k2);
                            t.next = asks ? next + asked : start;
                            t.next_c = asks ? g.w_c : 0;
                            asked += NN_LINE;
                            if (!whole && b > 0) nn_walk_copy(m, some_cols, some_cols, yt, g.y_pix, some, pane);
                            nn_walk_tile(mr, nv, 0, b ? NN_FROM_RESULT : NN_FROM_BIAS, relu && b == blocks - 1, t,
                                         DEPTH, rows, panes + k / pane * apart, start + k, whole ? yt : some,
                                         whole ? g.y_pix : pane);
                            if (!whole) nn_walk_copy(m, some_cols, some_cols, some, pane, yt, g.y_pix);
                        }
                    }
                }
            }
        }
}

/* The same for images narrower than a tile: its rows are any pixels that meet a tap, of whatever line and sample. What
 * a tap has no input for is left out, which of a 2x2 image and a 3x3 kernel is more than half. */
NN_INLINE void nn_walk_scattered(int nv, int relu, nn_part part, nn_dim samples, nn_dim x_next, nn_dim y_next,
                                 nn_walk g, const nn_real *x, const nn_real *w, const nn_real *bias, nn_real *y)
{
    enum { DEPTH = 256, COLS = 8 * NN_VL, PIXELS = 512 };
    const int mr = NN_TILE_ACC / nv < NN_TILE_ROWS ? NN_TILE_ACC / nv : NN_TILE_ROWS;
    const nn_dim block = nn_max_dim(1, PIXELS / g.w.out), pane = nv * NN_VL, most = COLS / pane * pane,
                 all = g.h.taps * g.w.taps * g.depth;
    nn_real panel[DEPTH * COLS], rows[NN_TILE_ROWS * DEPTH] = { 0 }, some[NN_TILE_ROWS * NN_TILE_VECS * NN_VL] = { 0 };
    nn_real *to[NN_TILE_ROWS];
    nn_dim row0, last_row, from, end;
    nn_share(part.row, part.rows, samples * g.h.out, 1, &row0, &last_row);
    nn_share(part.col, part.cols, g.cols, pane, &from, &end);
    for (; row0 < last_row; row0 += block)
        for (nn_dim k0 = from; k0 < end; k0 += most) {
            const nn_dim cols = nn_min_dim(most, end - k0), p0 = row0 * g.w.out,
                         p1 = nn_min_dim(last_row, row0 + block) * g.w.out;
            for (nn_dim p = p0; p < p1; p++) {
                const nn_dim row = p / g.w.out, n = row / g.h.out;
                nn_real *yp = y + n * y_next + row % g.h.out * g.y_row + p % g.w.out * g.y_pix + k0;
                if (bias)
                    memcpy(yp, bias + k0, (size_t)cols * sizeof *yp);
                else
                    memset(yp, 0, (size_t)cols * sizeof *yp);
            }
            for (nn_dim c = 0, depth; c < all; c += depth) { /* of taps and channels, all channels of a tap together */
                const nn_dim tap = c / g.depth, first = c % g.depth, r = tap / g.w.taps, s = tap % g.w.taps;
                depth = nn_min_dim(DEPTH, g.depth - first);
                if (!g.panels)
                    nn_walk_pack(depth, cols, pane, w + r * g.w_h + s * g.w_w + first * g.w_c + k0, g.w_c, panel);
                const nn_real *panes = g.panels ? w + k0 * all + c * pane : panel;
                const nn_dim apart = g.panels ? all * pane : depth * pane;
                const nn_taps t = { .n_h = 1, .n_w = 1, .depth = depth, .w_c = pane, .last = 1 };
                int m = 0;
                for (nn_dim p = p0; p <= p1; p++) {
                    if (p < p1) {
                        const nn_dim row = p / g.w.out, n = row / g.h.out, oh = row % g.h.out, o = p % g.w.out,
                                     ih = oh * g.h.step + r * g.h.dil + g.h.base,
                                     iw = o * g.w.step + s * g.w.dil + g.w.base;
                        if (ih < 0 || ih >= g.h.in || iw < 0 || iw >= g.w.in) continue;
                        memcpy(rows + m * DEPTH, x + n * x_next + ih * g.x_row + iw * g.x_pix + first,
                               (size_t)depth * sizeof *rows);
                        to[m++] = y + n * y_next + oh * g.y_row + o * g.y_pix + k0;
                        if (m < mr) continue;
                    }
                    for (nn_dim k = 0; k < cols && m > 0; k += pane) {
                        const size_t bytes = (size_t)nn_min_dim(pane, cols - k) * sizeof *some;
                        for (int i = 0; i < m; i++) memcpy(some + i * pane, to[i] + k, bytes);
                        nn_walk_tile(mr, nv, 0, NN_FROM_RESULT, 0, t, DEPTH, rows, panes + k / pane * apart, NULL, some,
                                     pane);
                        for (int i = 0; i < m; i++) memcpy(to[i] + k, some + i * pane, bytes);
                    }
                    m = 0;
                }
            }
            for (nn_dim p = p0; p < p1 && relu; p++) {
                const nn_dim row = p / g.w.out, n = row / g.h.out;
                nn_real *yp = y + n * y_next + row % g.h.out * g.y_row + p % g.w.out * g.y_pix + k0;
                for (nn_dim k = 0; k < cols; k++) yp[k] = yp[k] < 0 ? 0 : yp[k];
            }
        }
}

/* Vectors of columns in a tile: narrow images take more, so that there are enough independent sums. */
NN_INLINE int nn_walk_vecs(nn_dim width, nn_dim full)
{
    return full <= 1                 ? 1
           : width <= NN_TILE_ACC / 4 ? (int)nn_min_dim(NN_TILE_VECS, full)
           : full == 3 && NN_TILE_ACC >= 24 ? 3
                                            : 2;
}

/* Whether blocks of weights are copied: `weights` are all of the layer, a tile's patch has `patch` elements. */
#define NN_WALK_FAR(weights, patch) ((weights) > 131072 || (patch) > NN_WALK_PATCH)

/* A part of `samples` samples x_next and y_next apart, at most `width` outputs per row. */
NN_INLINE void nn_walk_samples(int far, nn_dim width, int relu, nn_part part, nn_dim samples, nn_dim x_next,
                               nn_dim y_next, nn_walk g, const nn_real *x, const nn_real *w, const nn_real *bias,
                               nn_real *y)
{
    if (g.h.out <= 0 || g.w.out <= 0) return;
    const int vecs = nn_walk_vecs(width, g.cols / NN_VL), tail = (int)(g.cols % NN_VL);
    if (far && !g.total && width < NN_TILE_ACC / vecs && NN_VL > 1) {
        nn_walk_scattered(vecs, relu, part, samples, x_next, y_next, g, x, w, bias, y);
    } else if (far) {
        nn_walk_far(vecs, width, relu, part, samples, x_next, y_next, g, x, w, bias, y);
    } else if (g.cols < NN_VL) {
        nn_walk_near(1, tail, 1, width, relu, part, samples, x_next, y_next, g, x, w, bias, y);
    } else {
        const nn_dim main = g.cols / NN_VL / vecs, from = main * vecs * NN_VL;
        const int rest = (int)((g.cols - from + NN_VL - 1) / NN_VL);
        nn_walk_near(vecs, 0, main + (rest == vecs), width, relu, part, samples, x_next, y_next, g, x, w, bias, y);
        if (rest && rest != vecs && part.col == part.cols - 1) {
            const nn_dim k = g.cols - rest * NN_VL;
            part.col = 0;
            part.cols = 1;
            nn_walk_near(rest, 0, 1, width, relu, part, samples, x_next, y_next, g, x, w + k, bias ? bias + k : NULL,
                         y + k);
        }
    }
}

/* ---- few output channels ---- */

/* Where output channels do not fill a vector, `wide` neighbouring pixels of y are computed as one pixel of
 * wide*cols channels: with weights that hold zeros where a tap of one pixel misses the other. Tap u of the widened
 * kernel and pixel d of the wide one meet tap (zero + d*by_d + u*by_u) / dil of the layer, if that is one. */
typedef struct nn_widen {
    nn_dim wide, taps, zero, by_d, by_u, dil;
} nn_widen;

/* pack[r][u][c][lanes] from w, whose taps [r][s] are `tap` apart, rows w_c; `back` reverses s. */
static __attribute__((noinline, unused)) void nn_walk_widen(nn_widen m, nn_dim n_r, nn_dim n_s, nn_dim tap,
                                                            nn_dim w_c, nn_dim depth, nn_dim cols, int back,
                                                            const nn_real *w, nn_real *pack)
{
    memset(pack, 0, (size_t)(n_r * m.taps * depth * NN_VL) * sizeof *pack);
    for (nn_dim r = 0; r < n_r; r++)
        for (nn_dim u = 0; u < m.taps; u++)
            for (nn_dim d = 0; d < m.wide; d++) {
                const nn_dim at = m.zero + d * m.by_d + u * m.by_u, s = at / m.dil;
                if (at < 0 || at % m.dil || s >= n_s) continue;
                const nn_real *from = w + (r * n_s + (back ? n_s - 1 - s : s)) * tap;
                nn_real *to = pack + (r * m.taps + u) * depth * NN_VL + d * cols;
                for (nn_dim c = 0; c < depth; c++)
                    for (nn_dim k = 0; k < cols; k++) to[c * NN_VL + k] = from[c * w_c + k];
            }
}

/* The bias of every pixel of a wide one. */
NN_INLINE void nn_walk_widen_bias(nn_dim wide, nn_dim cols, const nn_real *bias, nn_real lanes[NN_VL])
{
    for (nn_dim i = 0; i < NN_VL; i++) lanes[i] = bias && i < wide * cols ? bias[i % cols] : 0;
}

/* ---- geometry of the operators ---- */

/* A convolution's sizes: x [h,w,ci], kernel [r,s], y [oh,ow,co]; all literals in generated code. */
typedef struct nn_conv {
    nn_dim h, w, ci, oh, ow, co, r, s;
    nn_dim step_h, step_w, pad_top, pad_left, dil_h, dil_w, groups;
} nn_conv;

#define NN_CONV(h, w, ci, oh, ow, co, r, s, step_h, step_w, pad_top, pad_left, dil_h, dil_w,       \
                groups)                                                                            \
    ((nn_conv){ h, w, ci, oh, ow, co, r, s, step_h, step_w, pad_top, pad_left, dil_h, dil_w,       \
                groups })

NN_INLINE nn_dim nn_conv_weights(nn_conv c)
{
    return c.r * c.s * (c.ci / c.groups) * c.co;
}

/* ---- depthwise: y[i,j,c] = bias[c] + sum over r,s of x[.., .., c] * w[r,s,c] ---- */

/* One axis of a depthwise walk: output o and tap t meet input (o*step + t*dil - pad) / div, where there is one. The
 * gradient of the input reads dy with the taps in reverse, and `div` is the layer's stride. */
typedef struct nn_reach {
    nn_dim out, in, taps, step, dil, div, pad;
} nn_reach;

/* The input that output 0 and tap 0 meet, rounded down, and how many inputs n outputs reach from there on. */
NN_INLINE nn_dim nn_reach_base(nn_reach a)
{
    return nn_div_down(-a.pad, a.div);
}

NN_INLINE nn_dim nn_reach_span(nn_reach a, nn_dim n)
{
    return ((n - 1) * a.step + (a.taps - 1) * a.dil - a.pad - nn_reach_base(a) * a.div) / a.div + 1;
}

/* A depthwise layer as a walk over channels [from, to), whole vectors but for the last one of all channels; `back`
 * reverses the order of the weights. */
typedef struct nn_deep {
    nn_reach h, w;
    nn_dim channels, from, to;
    int back, relu;
} nn_deep;

/* nr rows (1 where rows have phases) of mr pixels, one vector of channels (`tail` lanes of it; 0: all). Each input is
 * read once for all that it is added to. x begins at the tile's first column, of which [lo, hi) are in the image. */
NN_INLINE void nn_depthwise_tile(int nr, int mr, nn_dim lo, nn_dim hi, int tail, nn_deep g, nn_dim oh,
                                 const nn_real *x, const nn_real *w, const nn_real *bias, nn_real *y)
{
    nn_vec acc[2][8];
    const nn_dim c = g.channels, top = oh * g.h.step - g.h.pad, rest = -g.w.pad - nn_reach_base(g.w) * g.w.div,
                 reach = nr == 1 ? g.h.taps : (nr - 1) * g.h.step + (g.h.taps - 1) * g.h.dil + 1;
    const nn_vec b = bias ? nn_load_tail(bias, 1, tail) : (nn_vec){ 0 };
    NN_UNROLL_FULL
    for (int i = 0; i < nr * mr; i++) acc[i / mr][i % mr] = b;
    NN_UNROLL_FULL
    for (nn_dim u = 0; u < reach; u++) {
        const nn_dim at = top + (nr == 1 ? u * g.h.dil : u), ih = at / g.h.div;
        if (at < 0 || at % g.h.div || ih >= g.h.in) continue;
        const nn_real *row = x + ih * g.w.in * c;
        NN_UNROLL_FULL
        for (nn_dim j = lo; j < hi; j++) {
            const nn_vec v = nn_load_tail(row + j * c, 1, tail);
            NN_UNROLL_FULL
            for (int q = 0; q < nr; q++) {
                const nn_dim far = u - q * g.h.step, r = nr == 1 ? u : far / g.h.dil;
                if (nr > 1 && (far < 0 || far % g.h.dil || r >= g.h.taps)) continue;
                NN_UNROLL_FULL
                for (nn_dim t = 0; t < g.w.taps; t++) {
                    const nn_dim d = j * g.w.div - t * g.w.dil - rest, i = d / g.w.step;
                    if (d < 0 || d % g.w.step || i >= mr) continue;
                    const nn_dim tap = r * g.w.taps + t;
                    acc[q][i] += v * nn_load_tail(w + (g.back ? g.h.taps * g.w.taps - 1 - tap : tap) * c, 1, tail);
                }
            }
        }
    }
    NN_UNROLL_FULL
    for (int i = 0; i < nr * mr; i++) {
        nn_vec v = acc[i / mr][i % mr];
        if (g.relu) v = (nn_vec)((nn_ivec)v & ~(v < (nn_vec){ 0 }));
        nn_store_tail(y + (i / mr * g.w.out + i % mr) * c, v, 1, tail);
    }
}

/* The same for one pixel anywhere, and for kernels of many taps. */
NN_INLINE void nn_depthwise_pixel(int tail, nn_deep g, nn_dim oh, nn_dim ow, const nn_real *x, const nn_real *w,
                                  const nn_real *bias, nn_real *y)
{
    const nn_dim c = g.channels;
    nn_vec v = bias ? nn_load_tail(bias, 1, tail) : (nn_vec){ 0 };
    NN_UNROLL(1)
    for (nn_dim r = 0; r < g.h.taps; r++) {
        const nn_dim up = oh * g.h.step + r * g.h.dil - g.h.pad;
        if (up < 0 || up % g.h.div || up / g.h.div >= g.h.in) continue;
        NN_UNROLL(1)
        for (nn_dim t = 0; t < g.w.taps; t++) {
            const nn_dim left = ow * g.w.step + t * g.w.dil - g.w.pad, tap = r * g.w.taps + t;
            if (left < 0 || left % g.w.div || left / g.w.div >= g.w.in) continue;
            v += nn_load_tail(x + (up / g.h.div * g.w.in + left / g.w.div) * c, 1, tail) *
                 nn_load_tail(w + (g.back ? g.h.taps * g.w.taps - 1 - tap : tap) * c, 1, tail);
        }
    }
    if (g.relu) v = (nn_vec)((nn_ivec)v & ~(v < (nn_vec){ 0 }));
    nn_store_tail(y, v, 1, tail);
}

/* Pixels of a tile: an even division of the row. Tiles begin at the same phase of the stride. */
NN_INLINE int nn_depthwise_width(nn_reach w)
{
    return w.out <= 8 ? (int)w.out : w.div > 1 ? 8 : nn_tile_rows(w.out, 8);
}

/* nr rows of a sample from row oh on, all columns and channels. */
NN_INLINE void nn_depthwise_lines(int nr, nn_deep g, nn_dim oh, const nn_real *x, const nn_real *w,
                                  const nn_real *bias, nn_real *y)
{
    const int mr = nn_depthwise_width(g.w), tail = (int)(g.channels % NN_VL);
    const nn_dim c = g.channels, base = nn_reach_base(g.w), span = nn_reach_span(g.w, mr), last = g.w.out - mr;
    const int few = span <= 24 && g.w.taps <= 7 && g.h.taps <= 7 && (g.w.out <= mr || mr % g.w.div == 0);
    y += oh * g.w.out * c;
    for (nn_dim at = 0; at < g.w.out; at += mr) {
        /* The last tile may overlap its neighbour, and computes the same bits. */
        const nn_dim o = last % g.w.div ? at : nn_min_dim(at, last), col = o * g.w.step / g.w.div + base;
        const nn_dim m = nn_min_dim(mr, g.w.out - o);
        const int inner = col >= 0 && col + span <= g.w.in;
        nn_dim k = g.from;
#define NN_TILE(lo, hi, tail)                                                                                      \
    nn_depthwise_tile(nr, mr, lo, hi, tail, g, oh, x + col * c + k, w + k, bias ? bias + k : NULL, y + o * c + k)
#define NN_CHANNELS(lo, hi)                                      \
    do {                                                         \
        for (; k + NN_VL <= g.to; k += NN_VL) NN_TILE(lo, hi, 0); \
        if (tail && k < g.to) NN_TILE(lo, hi, tail);              \
    } while (0)
        if (few && inner && m == mr) {
            NN_CHANNELS(0, span);
        } else if (few && o == 0 && m == mr) {
            NN_CHANNELS(nn_max_dim(0, -base), nn_min_dim(span, g.w.in - base));
        } else if (few && o == last && m == mr) {
            NN_CHANNELS(nn_max_dim(0, -(last * g.w.step / g.w.div + base)),
                        nn_min_dim(span, g.w.in - (last * g.w.step / g.w.div + base)));
        } else {
            for (nn_dim i = 0; i < nr * m; i++) {
                const nn_dim q = i / m, ow = o + i % m;
                for (k = g.from; k < g.to; k += NN_VL) {
                    const nn_real *b = bias ? bias + k : NULL;
                    if (tail && k + NN_VL > c)
                        nn_depthwise_pixel(tail, g, oh + q, ow, x + k, w + k, b, y + (q * g.w.out + ow) * c + k);
                    else
                        nn_depthwise_pixel(0, g, oh + q, ow, x + k, w + k, b, y + (q * g.w.out + ow) * c + k);
                }
            }
        }
#undef NN_CHANNELS
#undef NN_TILE
    }
}

/* A part of all samples; two rows at a time where registers allow and rows have no phases. */
NN_INLINE void nn_depthwise_walk(nn_part part, nn_dim rows, nn_deep g, const nn_real *x, const nn_real *w,
                                 const nn_real *bias, nn_real *y)
{
    nn_dim row, last;
    nn_share(part.row, part.rows, rows * g.h.out, 1, &row, &last);
    nn_share(part.col, part.cols, g.channels, NN_VL, &g.from, &g.to);
    const int pairs = NN_TILE_ACC >= 24 && g.h.div == 1 && g.h.taps <= 3;
    while (row < last) {
        const nn_dim n = row / g.h.out, oh = row % g.h.out;
        const nn_real *xn = x + n * g.h.in * g.w.in * g.channels;
        nn_real *yn = y + n * g.h.out * g.w.out * g.channels;
        if (pairs && oh + 2 <= g.h.out && row + 2 <= last) {
            nn_depthwise_lines(2, g, oh, xn, w, bias, yn);
            row += 2;
        } else {
            nn_depthwise_lines(1, g, oh, xn, w, bias, yn);
            row++;
        }
    }
}

/* Point convolutions before and after a depthwise layer divide channels where they outnumber pixels (nn_part_of). A
 * thread that computes the same channels here finds them in its cache. */
NN_INLINE nn_part nn_depthwise_part(const nn_team *team, nn_dim rows, nn_conv c)
{
    return nn_part_of(team, c.co, rows * c.oh * c.ow, c.co / NN_VL);
}

NN_INLINE nn_deep nn_depthwise_forward(nn_conv c, int relu)
{
    return (nn_deep){ .h = { c.oh, c.h, c.r, c.step_h, c.dil_h, 1, c.pad_top },
                      .w = { c.ow, c.w, c.s, c.step_w, c.dil_w, 1, c.pad_left },
                      .channels = c.co, .from = 0, .to = c.co, .back = 0, .relu = relu };
}

/* dx[i] = sum over taps t of dy[(i + pad - t*dil) / stride] * w[t]. */
NN_INLINE nn_deep nn_depthwise_backward(nn_conv c)
{
    return (nn_deep){ .h = { c.h, c.oh, c.r, 1, c.dil_h, c.step_h, c.dil_h * (c.r - 1) - c.pad_top },
                      .w = { c.w, c.ow, c.s, 1, c.dil_w, c.step_w, c.dil_w * (c.s - 1) - c.pad_left },
                      .channels = c.co, .from = 0, .to = c.co, .back = 1, .relu = 0 };
}

/* Adds to the gradients of the taps what line u of the image has to do with the lines d of dy: for one line, or where
 * all taps are in registers (`whole`), acc counts through all; otherwise it is those of a row. */
NN_INLINE void nn_depthwise_dw_line(int nr, int mr, int whole, nn_dim lo, nn_dim hi, int tail, nn_conv c, nn_dim u,
                                    const nn_real *x, nn_vec (*restrict d)[7], nn_vec *restrict acc)
{
    NN_UNROLL_FULL
    for (nn_dim j = lo; j < hi; j++) {
        NN_FRESH_LOADS;
        const nn_vec v = nn_load_tail(x + j * c.ci, 1, tail);
        NN_UNROLL_FULL
        for (int q = 0; q < nr; q++) {
            const nn_dim far = u - q * c.step_h, r = whole ? far / c.dil_h : 0;
            if (whole && (far < 0 || far % c.dil_h || r >= c.r)) continue;
            NN_UNROLL_FULL
            for (nn_dim t = 0; t < c.s; t++) {
                const nn_dim e = j - t * c.dil_w, i = e / c.step_w;
                if (e < 0 || e % c.step_w || i >= mr) continue;
                acc[r * c.s + t] += v * d[q][i];
            }
        }
    }
}

/* Adds nr rows of mr pixels, of whose columns of x [lo, hi) are in the image, to the gradients of all taps, which
 * are in memory between tiles. x begins at the tile's first column. */
NN_INLINE void nn_depthwise_dw_tile(int nr, int mr, nn_dim lo, nn_dim hi, int tail, nn_conv c, nn_dim oh,
                                    const nn_real *x, const nn_real *dy, nn_real *dw)
{
    nn_vec acc[NN_TILE_ACC], d[2][7];
    const nn_dim top = oh * c.step_h - c.pad_top, row = c.w * c.ci;
    NN_UNROLL_FULL
    for (int i = 0; i < nr * mr; i++)
        d[i / mr][i % mr] = nn_load_tail(dy + (i / mr * c.ow + i % mr) * c.co, 1, tail);
    if (nr > 1) {
        NN_UNROLL_FULL
        for (nn_dim t = 0; t < c.r * c.s; t++) acc[t] = nn_load_tail(dw + t * c.co, 1, tail);
        NN_UNROLL_FULL
        for (nn_dim u = 0; u < (nr - 1) * c.step_h + (c.r - 1) * c.dil_h + 1; u++)
            if (top + u >= 0 && top + u < c.h)
                nn_depthwise_dw_line(nr, mr, 1, lo, hi, tail, c, u, x + (top + u) * row, d, acc);
        NN_UNROLL_FULL
        for (nn_dim t = 0; t < c.r * c.s; t++) nn_store_tail(dw + t * c.co, acc[t], 1, tail);
        return;
    }
    NN_UNROLL(1)
    for (nn_dim r = 0; r < c.r; r++) {
        const nn_dim ih = top + r * c.dil_h;
        if (ih < 0 || ih >= c.h) continue;
        NN_UNROLL_FULL
        for (nn_dim t = 0; t < c.s; t++) acc[t] = nn_load_tail(dw + (r * c.s + t) * c.co, 1, tail);
        nn_depthwise_dw_line(1, mr, 0, lo, hi, tail, c, r, x + ih * row, d, acc);
        NN_UNROLL_FULL
        for (nn_dim t = 0; t < c.s; t++) nn_store_tail(dw + (r * c.s + t) * c.co, acc[t], 1, tail);
    }
}

/* The same for one pixel anywhere. */
NN_INLINE void nn_depthwise_dw_pixel(int tail, nn_conv c, nn_dim oh, nn_dim ow, const nn_real *x, const nn_real *dy,
                                     nn_real *dw)
{
    const nn_vec d = nn_load_tail(dy, 1, tail);
    NN_UNROLL(1)
    for (nn_dim r = 0; r < c.r; r++) {
        const nn_dim ih = oh * c.step_h + r * c.dil_h - c.pad_top;
        if (ih < 0 || ih >= c.h) continue;
        NN_UNROLL(1)
        for (nn_dim t = 0; t < c.s; t++) {
            const nn_dim iw = ow * c.step_w + t * c.dil_w - c.pad_left;
            nn_real *to = dw + (r * c.s + t) * c.co;
            if (iw < 0 || iw >= c.w) continue;
            nn_store_tail(to, nn_load_tail(to, 1, tail) + nn_load_tail(x + (ih * c.w + iw) * c.ci, 1, tail) * d, 1,
                          tail);
        }
    }
}

NN_INLINE void nn_depthwise_dw_lines(int nr, nn_conv c, nn_dim oh, const nn_real *x, const nn_real *dy, nn_real *dw)
{
    const int mr = nn_tile_rows(c.ow, 7), tail = (int)(c.co % NN_VL);
    const nn_dim span = (mr - 1) * c.step_w + (c.s - 1) * c.dil_w + 1, last = c.ow / mr * mr - mr,
                 right = last * c.step_w - c.pad_left;
    const int few = span <= 24 && c.s <= 7 && c.r <= 7;
    dy += oh * c.ow * c.co;
    for (nn_dim o = 0; o < c.ow; o += mr) {
        const nn_dim col = o * c.step_w - c.pad_left, m = nn_min_dim(mr, c.ow - o);
        const int inner = col >= 0 && col + span <= c.w;
        nn_dim k = 0;
#define NN_TILE(lo, hi, tail) \
    nn_depthwise_dw_tile(nr, mr, lo, hi, tail, c, oh, x + col * c.ci + k, dy + o * c.co + k, dw + k)
#define NN_CHANNELS(lo, hi)                                       \
    do {                                                          \
        for (; k + NN_VL <= c.co; k += NN_VL) NN_TILE(lo, hi, 0); \
        if (tail) NN_TILE(lo, hi, tail);                          \
    } while (0)
        if (few && inner && m == mr) {
            NN_CHANNELS(0, span);
        } else if (few && o == 0 && m == mr) {
            NN_CHANNELS(nn_max_dim(0, c.pad_left), nn_min_dim(span, c.w + c.pad_left));
        } else if (few && o == last && m == mr) {
            NN_CHANNELS(nn_max_dim(0, -right), nn_min_dim(span, c.w - right));
        } else {
            for (nn_dim i = 0; i < nr * m; i++) {
                const nn_dim q = i / m, ow = o + i % m;
                for (k = 0; k < c.co; k += NN_VL) {
                    const nn_real *d = dy + (q * c.ow + ow) * c.co + k;
                    if (tail && k + NN_VL > c.co)
                        nn_depthwise_dw_pixel(tail, c, oh + q, ow, x + k, d, dw + k);
                    else
                        nn_depthwise_dw_pixel(0, c, oh + q, ow, x + k, d, dw + k);
                }
            }
        }
#undef NN_CHANNELS
#undef NN_TILE
    }
}

/* ---- forward; generated code calls the form that fits the layer ---- */

/* Samples of a 1x1 convolution without stride and padding are one long row, cut into rows of this many pixels. */
enum { NN_CONV_ROW = 112 };

NN_INLINE int nn_conv_is_point(nn_conv c)
{
    return c.r == 1 && c.s == 1 && c.step_h == 1 && c.step_w == 1 && c.pad_top == 0 && c.pad_left == 0 &&
           c.h == c.oh && c.w == c.ow && c.groups == 1;
}

NN_INLINE nn_walk nn_conv_point_walk(nn_dim pixels, nn_dim depth, nn_dim cols)
{
    return (nn_walk){ .h = { 1, 1, 1, 1, 1, 0 }, .w = { NN_CONV_ROW, NN_CONV_ROW, 1, 1, 1, 0 }, .x_pix = depth,
                      .y_pix = cols, .w_h = depth * cols, .w_w = depth * cols, .w_c = cols, .depth = depth,
                      .cols = cols, .last = cols, .total = pixels };
}

/* A part of y[p] = bias + x[p] * w for all pixels p of the samples. Ends of parts are multiples of a tile. */
NN_INLINE void nn_walk_points(int far, int panels, int relu, nn_part part, nn_dim pixels, nn_dim ci, nn_dim co,
                              const nn_real *x, const nn_real *w, const nn_real *bias, nn_real *y)
{
    nn_dim from, to;
    nn_share(part.row, part.rows, pixels, 14, &from, &to);
    part.row = 0;
    part.rows = 1;
    nn_walk g = nn_conv_point_walk(to - from, ci, co);
    g.panels = panels;
    nn_walk_samples(far, NN_CONV_ROW, relu, part, (to - from + NN_CONV_ROW - 1) / NN_CONV_ROW, NN_CONV_ROW * ci,
                    NN_CONV_ROW * co, g, x + from * ci, w, bias, y + from * co);
}

/* A part of rows samples of y = conv(x, w) + bias, then relu if asked. bias may be NULL; `panels`: w holds panels. */
NN_INLINE void nn_conv2d_part(nn_part part, nn_dim rows, nn_conv c, int panels, int relu, const nn_real *x,
                              const nn_real *w, const nn_real *bias, nn_real *y)
{
    const nn_dim ci = c.ci / c.groups, co = c.co / c.groups, x_next = c.h * c.w * c.ci, y_next = c.oh * c.ow * c.co;
    const int far = NN_WALK_FAR(nn_conv_weights(c), c.r * (15 * c.step_w + (c.s - 1) * c.dil_w + 1) * c.ci);
    if (nn_conv_is_point(c) && co >= NN_VL) {
        nn_walk_points(far, panels, relu, part, rows * c.h * c.w, ci, co, x, w, bias, y);
        return;
    }
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
    if (co < NN_VL && !far && c.r * taps * ci <= NN_WALK_PACK) {
        nn_real pack[NN_WALK_PACK * NN_VL], lanes[NN_VL];
        const nn_widen m = { wide, taps, 0, -c.step_w, 1, 1 };
        g.w.out = (c.ow + wide - 1) / wide;
        g.w.taps = taps;
        g.w.step = wide * c.step_w;
        g.y_pix = wide == 1 ? c.co : wide * co;
        g.w_h = taps * ci * NN_VL;
        g.w_w = ci * NN_VL;
        g.w_c = NN_VL;
        g.cols = wide * co;
        g.last = (c.ow - (g.w.out - 1) * wide) * co;
        for (nn_dim q = 0; q < c.groups; q++) {
            nn_walk_widen(m, c.r, c.s, ci * c.co, c.co, ci, co, 0, w + q * co, pack);
            nn_walk_widen_bias(wide, co, bias ? bias + q * co : NULL, lanes);
            nn_walk_samples(0, g.w.out, relu, part, rows, x_next, y_next, g, x + q * ci, pack, lanes, y + q * co);
        }
        return;
    }
    for (nn_dim q = 0; q < c.groups; q++)
        nn_walk_samples(far || co < NN_VL, c.ow, relu, part, rows, x_next, y_next, g, x + q * ci, w + q * co,
                        bias ? bias + q * co : NULL, y + q * co);
}

NN_INLINE void nn_conv2d(nn_dim rows, nn_conv c, int relu, const nn_real *x, const nn_real *w, const nn_real *bias,
                         nn_real *y)
{
    nn_conv2d_part(NN_WHOLE, rows, c, 0, relu, x, w, bias, y);
}

/* The same, divided by a team. */
NN_INLINE void nn_conv2d_team(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                              const nn_real *w, const nn_real *bias, nn_real *y)
{
    nn_conv2d_part(nn_part_of(team, nn_conv_weights(c), rows * c.h * c.w * c.ci, c.co / c.groups / NN_VL), rows, c, 0,
                   relu, x, w, bias, y);
}

/* Large weights (NN_WALK_FAR) of one group as panels of as many columns as a tile has, one panel after another, each
 * with all taps and input channels; columns beyond the last are zero. The team divides the panels. */
NN_INLINE void nn_conv2d_panels_weights(const nn_team *team, nn_conv c, const nn_real *w, nn_real *panels)
{
    const nn_dim width = nn_conv_is_point(c) ? NN_CONV_ROW : c.ow, pane = nn_walk_vecs(width, c.co / NN_VL) * NN_VL,
                 all = c.r * c.s * c.ci;
    nn_dim from, to;
    nn_share(team->rank, team->size, c.co, pane, &from, &to);
    for (nn_dim k = from; k < to; k += pane)
        nn_walk_pack(all, nn_min_dim(pane, to - k), pane, w + k, c.co, panels + k * all);
}

/* nn_conv2d_team of such panels. */
NN_INLINE void nn_conv2d_panels(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                const nn_real *panels, const nn_real *bias, nn_real *y)
{
    nn_conv2d_part(nn_part_of(team, nn_conv_weights(c), rows * c.h * c.w * c.ci, c.co / NN_VL), rows, c, 1, relu, x,
                   panels, bias, y);
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

/* A part of dx from dy, rows samples. wt holds [co][ci/g] per tap: for conv2d_dx the transposed weights with both tap
 * axes reversed (`flipped`), for transposed convolution the weights as they are. One walk per phase of the stride; few
 * channels are computed for neighbouring pixels at once, whatever their phase. */
NN_INLINE void nn_conv_phases(nn_part part, nn_dim rows, nn_conv c, int flipped, int relu, const nn_real *dy,
                              const nn_real *wt, const nn_real *bias, nn_real *dx)
{
    const nn_dim ci = c.ci / c.groups, co = c.co / c.groups, tap = c.co * ci;
    const nn_dim x_next = c.oh * c.ow * c.co, y_next = c.h * c.w * c.ci;
    const nn_dim width = (c.w + c.step_w - 1) / c.step_w;
    const int far = NN_WALK_FAR(nn_conv_weights(c) / (c.step_h * c.step_w), c.r * (15 + c.s * c.dil_w) * c.co);
    if (nn_conv_is_point(c) && ci >= NN_VL) {
        nn_walk_points(far, 0, relu, part, rows * c.h * c.w, co, ci, dy, wt, bias, dx);
        return;
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
            const nn_widen m = { wide, taps, c.pad_left - c.step_w * least, 1, -c.step_w, 1 };
            g.w = (nn_axis){ (c.w + wide - 1) / wide, c.ow, taps, wide / c.step_w, 1, least };
            g.cols = wide * ci;
            g.y_pix = c.groups == 1 ? wide * ci : c.ci;
            g.last = (c.w - (g.w.out - 1) * wide) * ci;
            g.w_h = w_h * taps * co * NN_VL;
            g.w_w = co * NN_VL;
            g.w_c = NN_VL;
            if (ph == 0) {
                nn_walk_widen(m, c.r, c.s, tap, ci, co, ci, flipped, wq, pack);
                nn_walk_widen_bias(wide, ci, bias_q, lanes);
            }
            nn_walk_samples(0, (c.w + wide - 1) / wide, relu, part, rows, x_next, y_next, g, dy + q * co,
                            pack + r0 * taps * co * NN_VL, lanes, dx + ph * c.w * c.ci + q * ci);
            continue;
        }
        g.y_pix = c.step_w * c.ci;
        g.cols = g.last = g.w_c = ci;
        g.w_h = w_h * c.s * tap;
        for (nn_dim pw = 0; pw < c.step_w; pw++) {
            g.w = nn_phase_axis(nn_phase_of(pw, c.w, c.s, c.step_w, c.dil_w, c.pad_left), c.ow, c.s, flipped, &s0,
                                &w_w);
            g.w_w = w_w * tap;
            nn_walk_samples(far || ci < NN_VL, width, relu, part, rows, x_next, y_next, g, dy + q * co,
                            wq + (r0 * c.s + s0) * tap, bias_q, dx + (ph * c.w + pw) * c.ci + q * ci);
        }
    }
}

NN_INLINE nn_part nn_part_of_dx(const nn_team *team, nn_dim rows, nn_conv c)
{
    return nn_part_of(team, nn_conv_weights(c), rows * c.oh * c.ow * c.co, c.ci / c.groups / NN_VL);
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
        nn_transpose(ci, k1 - k0, w + t * ci * c.co + k0, c.co,
                     wt + ((items - 1 - t) * c.co + k0) * ci, ci);
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

NN_INLINE void nn_conv2d_depthwise_dx(const nn_team *team, nn_dim rows, nn_conv c,
                                      const nn_real *dy, const nn_real *w, nn_real *scratch,
                                      nn_real *dx)
{
    (void)scratch;
    nn_depthwise_walk(nn_depthwise_part(team, rows, c), rows, nn_depthwise_backward(c), dy, w, NULL, dx);
}

/* ---- gradient of the weights ---- */

/* Small gradients are summed in parts, each over a fixed share of the samples, so that threads can divide
 * samples; of large ones the threads divide the elements. */
enum { NN_DW_PARTS = 8, NN_DW_SMALL = 16384 };
#define NN_DW_IN_PARTS(weights) ((weights) <= NN_DW_SMALL)

/* The walk of a weight gradient: dw[r,s][a][b] += sum over o of fixed side * moved side, where the moved side
 * is read at o*step + tap*dil + base. For conv2d x moves and gives the rows (a), dy is fixed and gives the
 * columns; for transposed convolution dy moves and gives the columns. */
typedef struct nn_dw_walk {
    nn_axis h, w;
    nn_dim a_row, a_pix, b_row, b_pix; /* distances in the row side and the column side */
    nn_dim rows, cols;                 /* channels of a group on either side */
    nn_dim dw_c;                       /* between rows of dw; a tap has dw_tap elements */
    nn_dim dw_tap;
    int a_moves;
} nn_dw_walk;

/* dw[i][j] += sum over `rows` rows of `depth` pixels of a[i] * b[j], lane by lane: for the end of b's memory. An
 * ordinary function, compiled once. */
static __attribute__((noinline, unused)) void
nn_dw_last_rows(int mr, int nv, int tail, nn_dim rows, nn_dim depth, const nn_real *a, nn_dim a_row,
                nn_dim a_k, const nn_real *b, nn_dim b_row, nn_dim b_k, nn_real *dw, nn_dim dw_c)
{
    const nn_dim cols = (nn_dim)(nv - 1) * NN_VL + tail;
    for (nn_dim r = 0; r < rows; r++)
        for (nn_dim p = 0; p < depth; p++)
            for (int i = 0; i < mr; i++)
                for (nn_dim j = 0; j < cols; j++)
                    dw[i * dw_c + j] += a[r * a_row + p * a_k + i] * b[r * b_row + p * b_k + j];
}

/* Rows [i, i + mr) of the gradient of tap (r, s), all columns, lines [l0, l1) of one sample. */
NN_INLINE void nn_dw_tap_rows(int mr, nn_dw_walk g, nn_dim l0, nn_dim l1, nn_dim r, nn_dim s, nn_dim i,
                              const nn_real *a, const nn_real *b, const nn_real *b_end, nn_real *dw)
{
    const nn_dim h0 = nn_max_dim(l0, nn_axis_from(g.h, r)), h1 = nn_min_dim(l1, nn_axis_to(g.h, r));
    const nn_dim w0 = nn_axis_from(g.w, s), w1 = nn_axis_to(g.w, s);
    const int group = mr <= NN_TILE_ACC / 3 && NN_TILE_ACC >= 24 ? 3 : 2;
    const nn_dim n_main = g.cols / NN_VL / group;
    const int tail = (int)(g.cols % NN_VL),
              rest = (int)((g.cols + NN_VL - 1) / NN_VL - n_main * group);
    const nn_dim a_step = g.a_moves ? g.w.step * g.a_pix : g.a_pix,
                 b_step = g.a_moves ? g.b_pix : g.w.step * g.b_pix;
    nn_real *out = dw + (r * g.w.taps + s) * g.dw_tap + i * g.dw_c;
    if (h0 >= h1 || w0 >= w1) return;
    const nn_dim w_moved = w0 * g.w.step + s * g.w.dil + g.w.base, depth = w1 - w0;
    const nn_real *ap = a + (g.a_moves ? w_moved * g.a_pix : w0 * g.a_pix) + i;
    const nn_real *bp = b + (g.a_moves ? w0 * g.b_pix : w_moved * g.b_pix);
#define NN_MOVED(o) ((o)*g.h.step + r * g.h.dil + g.h.base)
#define NN_A_ROW(o) (ap + (g.a_moves ? NN_MOVED(o) : (o)) * g.a_row)
#define NN_B_ROW(o) (bp + (g.a_moves ? (o) : NN_MOVED(o)) * g.b_row)
    /* Only the last rows of the last sample can end too close to b's end; they are added apart, so that the main
       loop stays a loop of whole vectors. */
#define NN_DW_TILE(nv, tail, k)                                                                    \
    do {                                                                                           \
        nn_vec acc[NN_TILE_ROWS][NN_TILE_VECS];                                                    \
        nn_dim o = h0;                                                                             \
        nn_tile_start(mr, nv, tail, NN_FROM_RESULT, NULL, out + (k), g.dw_c, acc);                 \
        for (; o < h1; o++) {                                                                      \
            if (tail && NN_B_ROW(o) + (k) + (depth - 1) * b_step + (nv)*NN_VL > b_end) break;      \
            nn_tile_mul(mr, nv, depth, NN_A_ROW(o), 1, a_step, NN_B_ROW(o) + (k), b_step, acc);    \
        }                                                                                          \
        nn_tile_end(mr, nv, tail, 0, out + (k), g.dw_c, acc);                                      \
        if (tail && o < h1)                                                                        \
            nn_dw_last_rows(mr, nv, tail, h1 - o, depth, NN_A_ROW(o), NN_A_ROW(1) - NN_A_ROW(0),   \
                            a_step, NN_B_ROW(o) + (k), NN_B_ROW(1) - NN_B_ROW(0), b_step,          \
                            out + (k), g.dw_c);                                                    \
    } while (0)
    nn_dim k = 0;
    for (nn_dim n = 0; n < n_main; n++, k += group * NN_VL) NN_DW_TILE(group, 0, k);
    if (rest) NN_DW_TILE(rest, tail, k);
#undef NN_DW_TILE
#undef NN_A_ROW
#undef NN_B_ROW
#undef NN_MOVED
}

/* Rows of dw in one item of work, a literal. */
NN_INLINE int nn_dw_rows(nn_dim rows, nn_dim cols)
{
    return nn_tile_rows(rows, cols <= NN_VL       ? (NN_TILE_ACC > 16 ? 16 : 8)
                              : NN_TILE_ACC >= 24 ? 8
                                                  : 6);
}

/* Items [from, to) of the taps times blocks of rows, lines [l0, l1) of one sample added to dw. */
NN_INLINE void nn_dw_sample(nn_dw_walk g, nn_dim l0, nn_dim l1, nn_dim from, nn_dim to, const nn_real *a,
                            const nn_real *b, const nn_real *b_end, nn_real *dw)
{
    const int mr = nn_dw_rows(g.rows, g.cols), rest = (int)(g.rows % mr);
    const nn_dim blocks = (g.rows + mr - 1) / mr;
    for (nn_dim item = from; item < to; item++) {
        const nn_dim tap = item / blocks, block = item % blocks, r = tap / g.w.taps,
                     s = tap % g.w.taps;
        if (rest && block == blocks - 1)
            nn_dw_tap_rows(rest, g, l0, l1, r, s, block * mr, a, b, b_end, dw);
        else
            nn_dw_tap_rows(mr, g, l0, l1, r, s, block * mr, a, b, b_end, dw);
    }
}

/* With few input channels the rows of a tile are (s, c) together: neighbours in x and in dw. Only pixels for
 * which all taps of a row lie inside are summed that way; at the edges a small zero-padded copy is used. */
enum { NN_DW_MERGED_MAX = 64 };
NN_INLINE void nn_dw_merged_rows(int mr, nn_conv c, nn_dim l0, nn_dim l1, nn_dim r, nn_dim i, int nv, int tail,
                                 nn_dim k, const nn_real *x, const nn_real *dy, const nn_real *dy_end,
                                 nn_real *dw)
{
    const nn_axis ah = { c.oh, c.h, c.r, c.step_h, c.dil_h, -c.pad_top };
    const nn_axis aw = { c.ow, c.w, c.s, c.step_w, 1, -c.pad_left };
    const nn_dim h0 = nn_max_dim(l0, nn_axis_from(ah, r)), h1 = nn_min_dim(l1, nn_axis_to(ah, r));
    const nn_dim w0 = nn_axis_inner_from(aw), w1 = nn_max_dim(w0, nn_axis_inner_to(aw));
    nn_real *out = dw + (r * c.s * c.ci + i) * c.co + k;
    nn_vec acc[NN_TILE_ROWS][NN_TILE_VECS];
    nn_tile_start(mr, nv, tail, NN_FROM_RESULT, NULL, out, c.co, acc);
    for (nn_dim oh = h0; oh < h1; oh++) {
        const nn_real *xr = x + (oh * c.step_h + r * c.dil_h - c.pad_top) * c.w * c.ci;
        const nn_real *dr = dy + oh * c.ow * c.co + k;
        for (nn_dim o = 0; o < c.ow; o++) {
            if (o == w0) o = w1; /* the inner pixels come below */
            if (o >= c.ow) break;
            nn_real edge[NN_TILE_ROWS];
            const nn_dim left = (o * c.step_w - c.pad_left) * c.ci + i;
            for (int j = 0; j < mr; j++)
                edge[j] = left + j >= 0 && left + j < c.w * c.ci ? xr[left + j] : 0;
            nn_tile_mul_tail(mr, nv, tail, 1, edge, 1, 0, dr + o * c.co, c.co, dy_end, acc);
        }
        nn_tile_mul_tail(mr, nv, tail, w1 - w0, xr + (w0 * c.step_w - c.pad_left) * c.ci + i, 1,
                         c.step_w * c.ci, dr + w0 * c.co, c.co, dy_end, acc);
    }
    nn_tile_end(mr, nv, tail, 0, out, c.co, acc);
}

NN_INLINE void nn_dw_merged_sample(nn_conv c, nn_dim l0, nn_dim l1, nn_dim from, nn_dim to, const nn_real *x,
                                   const nn_real *dy, const nn_real *dy_end, nn_real *dw)
{
    const nn_dim rows = c.s * c.ci;
    const int mr = nn_dw_rows(rows, c.co), rest = (int)(rows % mr),
              group = NN_TILE_ACC >= 24 ? 3 : 2;
    const nn_dim blocks = (rows + mr - 1) / mr, n_main = c.co / NN_VL / group;
    const int tail = (int)(c.co % NN_VL), last = (int)((c.co + NN_VL - 1) / NN_VL - n_main * group);
    for (nn_dim item = from; item < to; item++) {
        const nn_dim r = item / blocks, block = item % blocks;
        nn_dim k = 0;
#define NN_COLUMNS(nv, tail)                                                                       \
    do {                                                                                           \
        if (rest && block == blocks - 1)                                                           \
            nn_dw_merged_rows(rest, c, l0, l1, r, block *mr, nv, tail, k, x, dy, dy_end, dw);              \
        else                                                                                       \
            nn_dw_merged_rows(mr, c, l0, l1, r, block *mr, nv, tail, k, x, dy, dy_end, dw);                \
    } while (0)
        for (nn_dim n = 0; n < n_main; n++, k += group * NN_VL) NN_COLUMNS(group, 0);
        if (last) NN_COLUMNS(last, tail);
#undef NN_COLUMNS
    }
}

/* ---- one vector of output channels or less, and few input channels ---- */

/* As many pixels of dy as fill a vector are taken as one (see nn_widen), and the rows of a tile are elements (u, c) of
 * the widened kernel's row, of one or several of its rows. x is copied with zeros around it. */
typedef struct nn_dw_wide {
    nn_dim wide, taps, row; /* pixels in one, width of the widened kernel, its elements per row */
    nn_dim padded;          /* elements of a row of x with its zeros */
    nn_dim cells;           /* wide pixels of a row of dy */
} nn_dw_wide;

enum { NN_DW_WIDE_ROWS = 256 };

NN_INLINE nn_dw_wide nn_dw_wide_of(nn_conv c)
{
    const nn_dim wide = nn_max_dim(1, nn_min_dim(c.ow, NN_VL / c.co)), cells = (c.ow + wide - 1) / wide,
                 taps = (wide - 1) * c.step_w + c.s;
    return (nn_dw_wide){ wide, taps, taps * c.ci, ((cells - 1) * wide * c.step_w + taps) * c.ci, cells };
}

NN_INLINE int nn_dw_wide_fits(nn_conv c)
{
    const nn_dw_wide g = nn_dw_wide_of(c);
    return c.groups == 1 && c.dil_w == 1 && c.co <= NN_VL && g.row <= NN_TILE_ACC && c.r * g.row <= NN_DW_WIDE_ROWS &&
           ((c.r - 1) * c.dil_h + 1) * g.padded <= NN_WALK_BLOCK && g.cells * NN_VL <= NN_WALK_BLOCK &&
           NN_DW_IN_PARTS(c.r * c.s * c.ci * c.co);
}

/* Adds `lines` rows of dy to n_r rows of the widened gradient. Of x, rows of taps are x_row apart, rows of pixels
 * x_next, wide pixels a_k. */
NN_INLINE void nn_dw_wide_tile(int n_r, nn_dim row, nn_dim lines, nn_dim cells, const nn_real *x, nn_dim x_row,
                               nn_dim x_next, nn_dim a_k, const nn_real *dy, nn_dim dy_next, nn_dim dy_k, nn_real *sum)
{
    nn_vec acc[NN_TILE_ROWS];
    const int mr = n_r * (int)row;
    NN_UNROLL_FULL
    for (int i = 0; i < mr; i++) acc[i] = nn_load(sum + i * NN_VL);
    for (nn_dim n = 0; n < lines; n++, x += x_next, dy += dy_next)
        for (nn_dim j = 0; j < cells; j++) {
            NN_FRESH_LOADS;
            const nn_vec b = nn_load(dy + j * dy_k);
            NN_UNROLL_FULL
            for (int i = 0; i < mr; i++) acc[i] += nn_splat(x[i / row * x_row + i % row + j * a_k]) * b;
        }
    NN_UNROLL_FULL
    for (int i = 0; i < mr; i++) nn_store(sum + i * NN_VL, acc[i]);
}

NN_INLINE void nn_dw_wide_lines(nn_conv c, nn_dim line0, nn_dim line1, const nn_real *x, const nn_real *dy,
                                  const nn_real *dy_end, nn_real *dw)
{
    const nn_dw_wide g = nn_dw_wide_of(c);
    const int some = (int)nn_max_dim(1, nn_min_dim(c.r, NN_TILE_ACC / g.row)),
              n_r = (int)((c.r + (c.r + some - 1) / some - 1) / ((c.r + some - 1) / some)), rest = (int)(c.r % n_r);
    const nn_dim block = (NN_WALK_BLOCK / g.padded - (c.r - 1) * c.dil_h - 1) / c.step_h + 1;
    nn_real sum[NN_DW_WIDE_ROWS * NN_VL], rows[NN_WALK_BLOCK], line[NN_WALK_BLOCK];
    memset(sum, 0, sizeof sum);
    for (nn_dim at = line0, done; at < line1; at += done) {
        const nn_dim n = at / c.oh, from = at % c.oh;
        done = nn_min_dim(nn_min_dim(block, line1 - at), c.oh - from);
        const nn_dim to = from + done, top = from * c.step_h - c.pad_top,
                     bottom = (to - 1) * c.step_h + (c.r - 1) * c.dil_h + 1 - c.pad_top;
        const nn_dim lo = nn_clamp(top, 0, c.h), hi = nn_clamp(bottom, lo, c.h);
        memset(rows, 0, (size_t)((lo - top) * g.padded) * sizeof *rows);
        nn_walk_gather(hi - lo, g.padded / c.ci, c.ci, x + (n * c.h + lo) * c.w * c.ci, c.w * c.ci, c.ci,
                       -c.pad_left, 1, c.w, rows + (lo - top) * g.padded, g.padded, c.ci);
        memset(rows + (hi - top) * g.padded, 0, (size_t)((bottom - hi) * g.padded) * sizeof *rows);
        for (nn_dim oh = from, lines; oh < to; oh += lines) {
            const nn_real *d = dy + (n * c.oh + oh) * c.ow * c.co, *a = rows + (oh - from) * c.step_h * g.padded;
            /* All at once but for rows that end inside a wide pixel or too close to dy's end. */
            const nn_dim whole = c.ow % g.wide ? 0 : (dy_end - d - (g.cells - 1) * g.wide * c.co - NN_VL);
            lines = whole < 0 || c.ow % g.wide ? 1 : nn_min_dim(to - oh, whole / (c.ow * c.co) + 1);
            if (whole < 0 || c.ow % g.wide) {
                memset(line + (g.cells - 1) * g.wide * c.co, 0, NN_VL * sizeof *line);
                memcpy(line, d, (size_t)(c.ow * c.co) * sizeof *line);
                d = line;
            }
            nn_dim r = 0;
#define NN_ROWS(n_r)                                                                                                  \
    nn_dw_wide_tile(n_r, g.row, lines, g.cells, a + r * c.dil_h * g.padded, c.dil_h *g.padded, c.step_h *g.padded,    \
                g.wide *c.step_w *c.ci, d, c.ow *c.co, g.wide *c.co, sum + r * g.row * NN_VL)
            for (; r + n_r <= c.r; r += n_r) NN_ROWS(n_r);
            if (rest) NN_ROWS(rest);
#undef NN_ROWS
        }
    }
    for (nn_dim r = 0; r < c.r; r++)
        for (nn_dim i = 0; i < c.s * c.ci; i++)
            for (nn_dim d = 0; d < g.wide; d++)
                for (nn_dim k = 0; k < c.co; k++)
                    dw[(r * c.s * c.ci + i) * c.co + k] +=
                        sum[(r * g.row + d * c.step_w * c.ci + i) * NN_VL + d * c.co + k];
}

/* What the drivers below do with lines [line, last) of dy, counted through all samples, and the items [from, to) of
 * dw. NN_DW_LINES runs its last argument for each sample n among them, lines [l0, l1) of it. */
#define NN_DW_LINES(lines, ...)                                                              \
    for (nn_dim next; line < last; line = next) {                                            \
        const nn_dim n = line / (lines), l0 = line % (lines);                                \
        const nn_dim l1 = nn_min_dim(lines, l0 + last - line);                               \
        next = line + l1 - l0;                                                               \
        __VA_ARGS__;                                                                         \
    }

/* A point convolution's gradient is a product over all pixels, in blocks that stay in a near cache for all items. */
enum { NN_DW_NEAR = 98304 };

/* Of small images, pixels of many samples that a tap brings together are gathered side by side: then a tile of dw is
 * loaded and stored once for all of them. */
enum { NN_DW_GATHER = 32768 };
#define NN_DW_SCATTERED(c, rows, cols) \
    ((c).groups == 1 && (c).ow <= 8 && NN_VL > 1 && NN_DW_GATHER / ((rows) + (cols)) >= 16)

NN_INLINE void nn_dw_scattered(nn_conv c, nn_dw_walk g, nn_dim line, nn_dim last, nn_dim from, nn_dim to,
                               const nn_real *x, const nn_real *dy, nn_real *dw)
{
    nn_real near[NN_DW_GATHER];
    const nn_axis ah = g.h, aw = g.w;
    const nn_dim most = NN_DW_GATHER / (c.ci + c.co), mr = nn_dw_rows(c.ci, c.co), blocks = (c.ci + mr - 1) / mr;
    nn_real *const d = near + most * c.ci;
    g.h = (nn_axis){ 1, 1, 1, 1, 1, 0 };
    while (from < to) {
        const nn_dim tap = from / blocks, r = tap / c.s, s = tap % c.s, i1 = nn_min_dim(to, (tap + 1) * blocks);
        nn_dim m = 0;
        for (nn_dim p = line * c.ow; p <= last * c.ow; p++) {
            if (p < last * c.ow) {
                const nn_dim o = p % c.ow, l = p / c.ow, ih = l % c.oh * ah.step + r * ah.dil + ah.base,
                             iw = o * aw.step + s * aw.dil + aw.base;
                if (ih < 0 || ih >= c.h || iw < 0 || iw >= c.w) continue;
                memcpy(near + m * c.ci, x + ((l / c.oh * c.h + ih) * c.w + iw) * c.ci, (size_t)c.ci * sizeof *x);
                memcpy(d + m * c.co, dy + p * c.co, (size_t)c.co * sizeof *dy);
                if (++m < most) continue;
            }
            if (m == 0) break;
            g.w = (nn_axis){ m, m, 1, 1, 1, 0 };
            nn_dw_sample(g, 0, 1, from - tap * blocks, i1 - tap * blocks, near, d, near + NN_DW_GATHER,
                         dw + tap * g.dw_tap);
            m = 0;
        }
        from = i1;
    }
}

NN_INLINE void nn_dw_lines(nn_conv c, nn_dim line, nn_dim last, nn_dim rows, nn_dim from, nn_dim to,
                           const nn_real *x, const nn_real *dy, nn_real *dw)
{
    const nn_dim ci = c.ci / c.groups, co = c.co / c.groups;
    nn_dw_walk g = {
        .h = { c.oh, c.h, c.r, c.step_h, c.dil_h, -c.pad_top },
        .w = { c.ow, c.w, c.s, c.step_w, c.dil_w, -c.pad_left },
        .a_row = c.w * c.ci,
        .a_pix = c.ci,
        .b_row = c.ow * c.co,
        .b_pix = c.co,
        .rows = ci,
        .cols = co,
        .dw_c = c.co,
        .dw_tap = ci * c.co,
        .a_moves = 1,
    };
    const nn_real *dy_end = dy + rows * c.oh * c.ow * c.co;
    if (nn_conv_is_point(c)) {
        const nn_dim block = nn_max_dim(32, NN_DW_NEAR / (ci + co));
        for (nn_dim p = line * c.ow, n; p < last * c.ow; p += n) {
            n = nn_min_dim(block, last * c.ow - p);
            g.h = (nn_axis){ 1, 1, 1, 1, 1, 0 };
            g.w = (nn_axis){ n, n, 1, 1, 1, 0 };
            nn_dw_sample(g, 0, 1, from, to, x + p * ci, dy + p * co, dy_end, dw);
        }
        return;
    }
    if (NN_DW_SCATTERED(c, ci, co) && !NN_DW_IN_PARTS(nn_conv_weights(c))) {
        nn_dw_scattered(c, g, line, last, from, to, x, dy, dw);
        return;
    }
    NN_DW_LINES(c.oh, for (nn_dim q = 0; q < c.groups; q++)
                          nn_dw_sample(g, l0, l1, from, to, x + n * c.h * c.w * c.ci + q * ci,
                                       dy + n * c.oh * c.ow * c.co + q * co, dy_end, dw + q * co))
}

NN_INLINE void nn_dw_merged_lines(nn_conv c, nn_dim line, nn_dim last, nn_dim rows, nn_dim from, nn_dim to,
                                  const nn_real *x, const nn_real *dy, nn_real *dw)
{
    const nn_real *dy_end = dy + rows * c.oh * c.ow * c.co;
    if (nn_dw_wide_fits(c)) {
        nn_dw_wide_lines(c, line, last, x, dy, dy_end, dw);
        return;
    }
    NN_DW_LINES(c.oh, nn_dw_merged_sample(c, l0, l1, from, to, x + n * c.h * c.w * c.ci,
                                          dy + n * c.oh * c.ow * c.co, dy_end, dw))
}

NN_INLINE void nn_dw_depthwise_lines(nn_conv c, nn_dim line, nn_dim last, nn_dim rows, nn_dim from, nn_dim to,
                                     const nn_real *x, const nn_real *dy, nn_real *dw)
{
    const int pairs = NN_TILE_ACC >= 24 && c.r * c.s <= 9;
    (void)rows, (void)from, (void)to;
    while (line < last) {
        const nn_dim n = line / c.oh, oh = line % c.oh;
        const nn_real *xn = x + n * c.h * c.w * c.ci, *dn = dy + n * c.oh * c.ow * c.co;
        if (pairs && oh + 2 <= c.oh && line + 2 <= last) {
            nn_depthwise_dw_lines(2, c, oh, xn, dn, dw);
            line += 2;
        } else {
            nn_depthwise_dw_lines(1, c, oh, xn, dn, dw);
            line++;
        }
    }
}

/* `taps` items of `rows` rows each, in blocks: the number of work items the threads divide. */
NN_INLINE nn_dim nn_dw_items(nn_dim taps, nn_dim rows, nn_dim cols)
{
    const nn_dim mr = nn_dw_rows(rows, cols);
    return taps * ((rows + mr - 1) / mr);
}

/* Sets what items [from, to) write to zero; a row of dw has `width` elements. */
NN_INLINE void nn_dw_clear(nn_dim rows, nn_dim cols, nn_dim width, nn_dim from, nn_dim to,
                           nn_real *dw)
{
    const nn_dim mr = nn_dw_rows(rows, cols), blocks = (rows + mr - 1) / mr;
    const nn_dim r0 = from / blocks * rows + from % blocks * mr,
                 r1 = to / blocks * rows + to % blocks * mr;
    if (r0 < r1) memset(dw + r0 * width, 0, (size_t)((r1 - r0) * width) * sizeof *dw);
}

/* How many parts: few lines are summed in fewer, because a part costs as much as its weights. */
NN_INLINE nn_dim nn_dw_parts(nn_dim lines, nn_dim width)
{
    return nn_clamp(lines * width / 128, 1, nn_min_dim(NN_DW_PARTS, lines));
}

/* dw = (acc ? dw : 0) + gradient with respect to w. Small gradients are summed in parts of the lines of dy (scratch
 * holds NN_DW_PARTS of them), of large ones (NN_DW_IN_PARTS false) the threads divide the items. */
#define NN_DW_DRIVER(part_of_lines, in_parts, taps, row_count, col_count)                          \
    do {                                                                                           \
        const nn_dim size = nn_conv_weights(c), items = nn_dw_items(taps, row_count, col_count);   \
        const nn_dim lines = rows * c.oh, parts = nn_dw_parts(lines, c.ow);                        \
        const int divided = in_parts;                                                              \
        nn_dim from = 0, to = items, p0 = 0, p1 = 1;                                               \
        if (divided)                                                                               \
            nn_share(team->rank, team->size, parts, 1, &p0, &p1);                                  \
        else                                                                                       \
            nn_share(team->rank, team->size, items, 1, &from, &to);                                \
        if (!divided && !acc) nn_dw_clear(row_count, col_count, c.co, from, to, dw);               \
        for (nn_dim p = p0; p < p1; p++) {                                                         \
            nn_real *part = divided ? scratch + p * size : dw;                                     \
            if (divided) memset(part, 0, (size_t)size * sizeof *dw);                               \
            part_of_lines(c, divided ? nn_cut(lines, 1, p, parts) : 0,                             \
                          divided ? nn_cut(lines, 1, p + 1, parts) : lines, rows, from, to, x, dy, \
                          part);                                                                   \
        }                                                                                          \
        if (!divided) return;                                                                      \
        nn_barrier(team);                                                                          \
        nn_sum_parts(team, size, parts, scratch, acc, dw);                                         \
    } while (0)

NN_INLINE void nn_conv2d_dw(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *x,
                            const nn_real *dy, nn_real *scratch, nn_real *dw, int acc)
{
    NN_DW_DRIVER(nn_dw_lines, NN_DW_IN_PARTS(size), c.r * c.s, c.ci / c.groups, c.co / c.groups);
}

/* Few input channels (below 8), one group, no dilation in width, s*ci at most NN_DW_MERGED_MAX. */
NN_INLINE void nn_conv2d_dw_merged(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *x,
                                   const nn_real *dy, nn_real *scratch, nn_real *dw, int acc)
{
    NN_DW_DRIVER(nn_dw_merged_lines, NN_DW_IN_PARTS(size), c.r, c.s * c.ci, c.co);
}

NN_INLINE void nn_conv2d_depthwise_dw(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *x,
                                      const nn_real *dy, nn_real *scratch, nn_real *dw, int acc)
{
    NN_DW_DRIVER(nn_dw_depthwise_lines, 1, 1, 1, c.co);
}

#endif
