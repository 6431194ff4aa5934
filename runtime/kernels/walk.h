/* SPDX-License-Identifier: MIT
 *
 * The walk that convolutions are made of: channels-last images, without im2col. Every output row is a row of register
 * tiles (tile.h) whose summed index runs over channels and kernel taps; images narrower than a tile take any pixels.
 * In: images, weights [R][S][I/g][O] or panels of them, which part of the output a thread computes. Out: that part.
 * Invariant: an element's sum has the same order whatever part it is computed in.
 */
#ifndef NN_KERNELS_WALK_H
#define NN_KERNELS_WALK_H

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
    int asks;             /* tiles ask for what the next row reads and writes */
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

/* A team divides channels where weights are so much more than what they are applied to that one thread should read
 * each of them, as far as there are `vecs` vectors of channels. Else a thread goes on with the rows that are in its
 * cache. */
NN_INLINE nn_part nn_part_of(const nn_team *team, nn_dim weights, nn_dim input, nn_dim vecs)
{
    int cols = weights > 4 * input ? (int)nn_clamp(vecs, 1, team->size) : 1;
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
 * the first pixel of a row counts where first <= s, the last one where s < last; elsewhere `zeros` stand for it.
 * Each step of the sum asks for `asks` lines (a literal) of what is wanted soon, and then for the ones soon_next on;
 * and, in the first add_rows steps, for `add_asks` lines (a literal) of what is added at the end, add_next apart: all
 * at once would be more than a processor can wait for. */
typedef struct nn_taps {
    nn_dim n_h, n_w, depth, x_h, x_w, w_h, w_w, w_c;
    nn_dim first, last;
    const nn_real *zeros;
    int asks, add_asks;
    const nn_real *soon, *add;
    nn_dim soon_next, add_next, add_rows;
} nn_taps;

/* Rows of a tile, nv vectors wide and y_m apart, as what is added to it; where there are none, `any` line stands for
 * them. */
NN_INLINE void nn_walk_ask_add(nn_taps *t, int nv, nn_dim rows, const nn_real *add, nn_dim y_m, const nn_real *any)
{
    t->add_asks = (nv * NN_VL + NN_LINE - 1) / NN_LINE;
    t->add = add ? add : any;
    t->add_next = y_m;
    t->add_rows = add ? rows : 0;
}

/* The one tile all walks are made of: mr pixels a_m apart in x and y_m apart in y, nv vectors of channels, the last
 * one of `tail` lanes (0: all). Each call of it is code of its own, so a walk has one or two. */
NN_INLINE void nn_walk_tile(int mr, int nv, int tail, int start, int relu, nn_taps t, nn_dim a_m,
                            const nn_real *x, const nn_real *w, const nn_real *bias, const nn_real *add, nn_real *y,
                            nn_dim y_m)
{
    nn_vec acc[NN_TILE_ROWS][NN_TILE_VECS];
    if (start == NN_FROM_BIAS)
        nn_tile_start(mr, nv, tail, NN_FROM_BIAS, bias, y, y_m, acc);
    else
        nn_tile_start(mr, nv, tail, NN_FROM_RESULT, bias, y, y_m, acc);
    nn_dim left = t.add_rows;
    NN_UNROLL(1)
    for (nn_dim r = 0; r < t.n_h; r++) {
        NN_UNROLL(1)
        for (nn_dim s = 0; s < t.n_w; s++) {
            const nn_real *a = x + r * t.x_h + s * t.x_w, *b = w + r * t.w_h + s * t.w_w;
            const nn_real *first = s >= t.first && (mr > 1 || s < t.last) ? a : t.zeros,
                          *last = s < t.last ? a + (mr - 1) * a_m : t.zeros;
            NN_UNROLL(NN_TILE_STEPS)
            for (nn_dim k = 0; k < t.depth; k++) {
                nn_vec bv[NN_TILE_VECS];
                NN_FRESH_LOADS;
                NN_UNROLL_FULL
                for (int j = 0; j < nv; j++) bv[j] = nn_load(b + k * t.w_c + j * NN_VL);
                NN_UNROLL_FULL
                for (int j = 0; j < t.asks; j++) __builtin_prefetch(t.soon + k * t.soon_next + j * NN_LINE, 0, 2);
                NN_UNROLL_FULL
                for (int j = 0; j < t.add_asks; j++) __builtin_prefetch(t.add + j * NN_LINE, 0, 2);
                if (t.add_asks) t.add += --left > 0 ? t.add_next : 0;
                NN_UNROLL_FULL
                for (int i = 0; i < mr; i++) {
                    const nn_vec av = nn_splat(i == 0 ? first[k] : i == mr - 1 ? last[k] : a[i * a_m + k]);
                    NN_UNROLL_FULL
                    for (int j = 0; j < nv; j++) acc[i][j] += av * bv[j];
                }
                NN_LONE(mr * nv, acc[0][0]);
            }
        }
    }
    nn_tile_add(mr, nv, tail, add, y_m, acc);
    nn_tile_end(mr, nv, tail, relu, y, y_m, acc);
}

/* Prepared panels come from a far cache, one block of a pane after the other: tile `i` of a block asks for its part of
 * the block that follows, until that is all; then again and again for a line it has. */
NN_INLINE void nn_walk_ask(nn_taps *t, int panels, const nn_real *pane, nn_dim width, nn_dim i)
{
    const nn_dim part = t->asks * t->depth * NN_LINE, all = t->depth * width;
    const int some = panels && i * part < all;
    t->soon = some ? pane + all + i * part : pane;
    t->soon_next = some ? t->asks * NN_LINE : 0;
}

/* `n` pixels of x for each of `rows` rows, x_row and step*x_pix apart, from column `col` on; columns outside [0, in)
 * are zero. */
NN_ONCE void nn_walk_gather(nn_dim rows, nn_dim n, nn_dim depth, const nn_real *x, nn_dim x_row, nn_dim x_pix,
                            nn_dim col, nn_dim step, nn_dim in, nn_real *to, nn_dim to_row, nn_dim to_pix)
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
NN_ONCE void nn_walk_copy(nn_dim m, nn_dim n, nn_dim last, const nn_real *from, nn_dim from_row, nn_real *to,
                          nn_dim to_row)
{
    for (nn_dim i = 0; i < m; i++)
        memcpy(to + i * to_row, from + i * from_row, (size_t)(i == m - 1 ? last : n) * sizeof *to);
}

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
                            const nn_real *bias, const nn_real *add, nn_real *y)
{
    const int mr = nn_tile_rows(width, nv == 1 ? (NN_TILE_ACC > 16 ? 16 : 8) : NN_TILE_ACC / nv);
    const nn_dim a_m = g.w.step * g.x_pix, span = (mr - 1) * g.w.step + (g.w.taps - 1) * g.w.dil + 1;
    nn_real patch[NN_WALK_PATCH], some[NN_TILE_ROWS * NN_TILE_VECS * NN_VL],
        beside[NN_TILE_ROWS * NN_TILE_VECS * NN_VL];
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
    if (add) memset(beside, 0, sizeof beside);
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
                              .last = g.w.taps, .zeros = patch, .asks = g.asks };
                if (g.asks) {
                    /* With short sums, x and y come from far away about as fast as they are used. */
                    const nn_dim tile = i * ((out + mr - 1) / mr) + at / mr, first = tile * g.depth * NN_LINE,
                                 xs = out * g.x_pix, ys = out * g.y_pix;
                    const int more = row + 1 < last_row && first < xs + ys;
                    t.soon = !more ? xt : first < xs ? x + (n + 1) * x_next + first : y + (n + 1) * y_next + first - xs;
                    t.soon_next = more ? NN_LINE : 0;
                }
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
                const nn_real *at_y = add ? add + (yr - y) + o * g.y_pix : NULL,
                              *addt = whole || !add ? at_y : beside;
                const nn_dim y_m = dense || whole ? g.y_pix : nv * NN_VL, some_m = nn_min_dim(mr, out - o),
                             some_last = o + mr < out || g.last == g.cols ? lanes : g.last;
                if (add && !whole) nn_walk_copy(some_m, lanes, some_last, at_y, g.y_pix, beside, y_m);
                if (add) nn_walk_ask_add(&t, nv, some_m, at_y, g.y_pix, at_y);
                nn_walk_tile(mr, nv, tail, NN_FROM_BIAS, relu, t, a_m, xt, w + r0 * g.w_h + k,
                             bias ? bias + k : NULL, addt, yt, y_m);
                if (!whole) nn_walk_copy(some_m, lanes, some_last, some, y_m, yr + o * g.y_pix, g.y_pix);
            }
        }
    }
}

/* Weights that do not fit a near cache, and images too deep for a patch: blocks of the summed index and of the
 * columns are copied side by side, then all pixels take them; meanwhile the next block is asked for. Sums go through y
 * from block to block. */
NN_INLINE void nn_walk_far(int nv, nn_dim width, int relu, nn_part part, nn_dim samples, nn_dim x_next, nn_dim y_next,
                           nn_walk g, const nn_real *x, const nn_real *w, const nn_real *bias, const nn_real *add,
                           nn_real *y)
{
    enum { DEPTH = 256, COLS = 8 * NN_VL, PIXELS = 512 };
    const int mr = nn_tile_rows(width, nv == 1 ? (NN_TILE_ACC > 16 ? 16 : 8) : NN_TILE_ACC / nv);
    const nn_dim block = nn_max_dim(1, PIXELS / nn_max_dim(1, g.w.out)), pane = nv * NN_VL, most = COLS / pane * pane;
    nn_real panel[DEPTH * COLS], rows[NN_TILE_ROWS * DEPTH], some[NN_TILE_ROWS * NN_TILE_VECS * NN_VL], start[COLS],
        beside[NN_TILE_ROWS * NN_TILE_VECS * NN_VL];
    const int empty = g.h.taps * g.w.taps == 0; /* a phase of a stride that no tap reaches */
    const nn_dim steps = (g.depth + DEPTH - 1) / DEPTH, blocks = empty ? 1 : g.h.taps * g.w.taps * steps;
    nn_dim row0, last_row, from, to;
    nn_share(part.row, part.rows, samples * g.h.out, 1, &row0, &last_row);
    nn_share(part.col, part.cols, g.cols, pane, &from, &to);
    if (add) memset(beside, 0, sizeof beside);
    for (; row0 < last_row; row0 += block)
        for (nn_dim k0 = from; k0 < to; k0 += most) {
            const nn_dim cols = nn_min_dim(most, to - k0);
            memset(start, 0, sizeof start);
            if (bias) memcpy(start, bias + k0, (size_t)cols * sizeof *start);
            for (nn_dim b = 0; b < blocks; b++) {
                const nn_dim r = empty ? 0 : b / steps / g.w.taps, s = empty ? 0 : b / steps % g.w.taps,
                             c = b % steps * DEPTH, depth = empty ? 0 : nn_min_dim(DEPTH, g.depth - c);
                if (!g.panels)
                    nn_pack_panels(depth, cols, pane, w + r * g.w_h + s * g.w_w + c * g.w_c + k0, g.w_c, panel);
                /* The panes of this block, and their distance. */
                const nn_dim all = g.h.taps * g.w.taps * g.depth;
                const nn_real *panes = g.panels ? w + k0 * all + ((r * g.w.taps + s) * g.depth + c) * pane : panel;
                const nn_dim apart = g.panels ? all * pane : depth * pane;
                const nn_dim b2 = b + 1 < blocks ? b + 1 : 0, k2 = b + 1 < blocks ? k0 : k0 + most,
                             c2 = b2 % steps * DEPTH;
                const int more = !g.panels && !empty && k2 < to && c2 + depth <= g.depth;
                const nn_real *next = more ? w + b2 / steps / g.w.taps * g.w_h + b2 / steps % g.w.taps * g.w_w +
                                                 c2 * g.w_c + k2
                                           : NULL;
                const nn_dim tiles = (cols + pane - 1) / pane * nn_min_dim(block, last_row - row0) *
                                     nn_max_dim(1, g.w.out / mr);
                nn_ahead ahead = nn_ahead_of(next, more ? depth : 0, g.w_c, nn_min_dim(most, to - k2), tiles);
                nn_dim done = 0; /* tiles of each pane */
                for (nn_dim row = row0; row < nn_min_dim(last_row, row0 + block); row++) {
                    const nn_dim n = row / g.h.out, oh = row % g.h.out, ih = oh * g.h.step + r * g.h.dil + g.h.base;
                    const int inside = ih >= 0 && ih < g.h.in;
                    if (!inside && b > 0 && b < blocks - 1) continue;
                    const nn_dim out = g.total ? nn_min_dim(g.w.out, g.total - n * g.w.out) : g.w.out;
                    nn_taps t = { .n_h = inside, .n_w = 1, .depth = depth, .w_c = pane, .last = 1, .asks = 1 };
                    for (nn_dim o = 0; o < out; o += mr, done++) {
                        const nn_dim m = nn_min_dim(mr, out - o);
                        if (inside)
                            nn_walk_gather(1, mr, depth, x + n * x_next + ih * g.x_row + c, 0, g.x_pix,
                                           o * g.w.step + s * g.w.dil + g.w.base, g.w.step, g.total ? out : g.w.in,
                                           rows, 0, DEPTH);
                        for (nn_dim k = 0; k < cols; k += pane) {
                            nn_real *yt = y + n * y_next + oh * g.y_row + o * g.y_pix + k0 + k;
                            const nn_dim some_cols = nn_min_dim(pane, cols - k);
                            const int whole = m == mr && some_cols == pane;
                            nn_ask_ahead(&ahead);
                            if (!whole && b > 0) nn_walk_copy(m, some_cols, some_cols, yt, g.y_pix, some, pane);
                            const nn_real *addt = add && b == blocks - 1 ? add + (yt - y) : NULL;
                            if (add) nn_walk_ask_add(&t, nv, m, addt, g.y_pix, rows);
                            if (addt && !whole) {
                                nn_walk_copy(m, some_cols, some_cols, addt, g.y_pix, beside, pane);
                                addt = beside;
                            }
                            nn_walk_ask(&t, g.panels, panes + k / pane * apart, pane, done);
#define NN_ROWS(mr)                                                                                             \
    nn_walk_tile(mr, nv, 0, b ? NN_FROM_RESULT : NN_FROM_BIAS, relu && b == blocks - 1, t, DEPTH, rows,               \
                 panes + k / pane * apart, start + k, addt, whole ? yt : some, whole ? g.y_pix : pane)
                            if (g.total && mr > 8 && m <= (mr + 1) / 2) /* the last pixels of few */
                                NN_ROWS((mr + 1) / 2);
                            else
                                NN_ROWS(mr);
#undef NN_ROWS
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
                                 nn_walk g, const nn_real *x, const nn_real *w, const nn_real *bias,
                                 const nn_real *add, nn_real *y)
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
                    nn_pack_panels(depth, cols, pane, w + r * g.w_h + s * g.w_w + first * g.w_c + k0, g.w_c, panel);
                const nn_real *panes = g.panels ? w + k0 * all + c * pane : panel;
                const nn_dim apart = g.panels ? all * pane : depth * pane;
                nn_taps t = { .n_h = 1, .n_w = 1, .depth = depth, .w_c = pane, .last = 1, .asks = 2 };
                nn_dim done = 0; /* tiles of each pane */
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
                        nn_walk_ask(&t, g.panels, panes + k / pane * apart, pane, done);
                        nn_walk_tile(mr, nv, 0, NN_FROM_RESULT, 0, t, DEPTH, rows, panes + k / pane * apart, NULL, NULL,
                                     some, pane);
                        for (int i = 0; i < m; i++) memcpy(to[i] + k, some + i * pane, bytes);
                    }
                    m = 0;
                    done++;
                }
            }
            for (nn_dim p = p0; p < p1 && (relu || add); p++) {
                const nn_dim row = p / g.w.out, n = row / g.h.out;
                const nn_dim at = n * y_next + row % g.h.out * g.y_row + p % g.w.out * g.y_pix + k0;
                nn_add_branch(relu, cols, add ? add + at : NULL, y + at);
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

/* Images that are narrower are walked by scattered pixels: with few registers wider ones too, so that tiles are full
 * (nn_tile_rows_and_rest). */
#define NN_WALK_NARROW(vecs) (NN_TILE_FEW ? 9 : NN_TILE_ACC / (vecs))

/* Whether blocks of weights are copied: `weights` are all of the layer, a tile's patch has `patch` elements. */
#define NN_WALK_FAR(weights, patch) ((weights) > 131072 || (patch) > NN_WALK_PATCH)

/* A part of `samples` samples x_next and y_next apart, at most `width` outputs per row. `add` lies like y and is added
 * before relu, or is NULL. */
NN_INLINE void nn_walk_samples(int far, nn_dim width, int relu, nn_part part, nn_dim samples, nn_dim x_next,
                               nn_dim y_next, nn_walk g, const nn_real *x, const nn_real *w, const nn_real *bias,
                               const nn_real *add, nn_real *y)
{
    if (g.h.out <= 0 || g.w.out <= 0) return;
    const int vecs = nn_walk_vecs(width, g.cols / NN_VL), tail = (int)(g.cols % NN_VL);
    if (far && !g.total && width < NN_WALK_NARROW(vecs) && NN_VL > 1) {
        nn_walk_scattered(vecs, relu, part, samples, x_next, y_next, g, x, w, bias, add, y);
    } else if (far) {
        nn_walk_far(vecs, width, relu, part, samples, x_next, y_next, g, x, w, bias, add, y);
    } else {
        /* One call for all literals, of which one is left: each call written here is copied for every layer. */
        const int few = g.cols < NN_VL;
        const nn_dim main = g.cols / NN_VL / vecs, from = main * vecs * NN_VL;
        const int rest = few ? 0 : (int)((g.cols - from + NN_VL - 1) / NN_VL);
        nn_walk_near(few ? 1 : vecs, few ? tail : 0, few ? 1 : main + (rest == vecs), width, relu, part, samples,
                     x_next, y_next, g, x, w, bias, add, y);
        if (rest && rest != vecs && part.col == part.cols - 1) {
            const nn_dim k = g.cols - rest * NN_VL;
            part.col = 0;
            part.cols = 1;
            nn_walk_near(rest, 0, 1, width, relu, part, samples, x_next, y_next, g, x, w + k, bias ? bias + k : NULL,
                         add ? add + k : NULL, y + k);
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
NN_ONCE void nn_walk_widen(nn_widen m, nn_dim n_r, nn_dim n_s, nn_dim tap, nn_dim w_c, nn_dim depth, nn_dim cols,
                           int back, const nn_real *w, nn_real *pack)
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
    nn_dim tile; /* 4: by large tiles, where Winograd's algorithm computes it (nn_tiles_4x4) */
} nn_conv;

#define NN_CONV(h, w, ci, oh, ow, co, r, s, step_h, step_w, pad_top, pad_left, dil_h, dil_w,       \
                groups)                                                                            \
    ((nn_conv){ h, w, ci, oh, ow, co, r, s, step_h, step_w, pad_top, pad_left, dil_h, dil_w,       \
                groups, 0 })

NN_INLINE nn_dim nn_conv_weights(nn_conv c)
{
    return c.r * c.s * (c.ci / c.groups) * c.co;
}

#endif
