/* SPDX-License-Identifier: MIT
 *
 * The gradient of a convolution's weights: dw[r,s,c,k] = sum over samples and positions of x[.., c] * dy[.., k]. In:
 * channels-last x and dy. Out: dw, stored [R][S][I/g][O], replaced or added to. Invariant: the samples are cut into
 * parts, and parts are added, in an order that the sizes alone decide.
 */
#ifndef NN_KERNELS_CONV2D_DW_H
#define NN_KERNELS_CONV2D_DW_H

#include "kernels/conv2d.h"

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

/* dw[i][j] += sum over `rows` rows of `depth` pixels of a[i] * b[j], lane by lane: for the end of b's memory. */
NN_ONCE void nn_dw_last_rows(int mr, int nv, int tail, nn_dim rows, nn_dim depth, const nn_real *a, nn_dim a_row,
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
    return nn_tile_rows_and_rest(rows, cols <= NN_VL ? 1 : 2,
                                 cols <= NN_VL       ? (NN_TILE_ACC > 16 ? 16 : 8)
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
            NN_LONE(mr, acc[0]);
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
/* Or panels of both sides are copied, where there are vectors. */
enum { NN_DW_PANELS = NN_VL > 1 };
/* Elements of dy that the nearest cache holds beside others. */
enum { NN_DW_BLOCK = 4096 };

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

NN_INLINE nn_dw_walk nn_dw_walk_of(nn_conv c)
{
    const nn_dim ci = c.ci / c.groups, co = c.co / c.groups;
    return (nn_dw_walk){
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
}

/* Where nn_conv_is_point: lines are nothing but pixels. */
NN_INLINE void nn_dw_pointwise_lines(nn_conv c, nn_dim line, nn_dim last, nn_dim rows, nn_dim from, nn_dim to,
                                     const nn_real *x, const nn_real *dy, nn_real *dw)
{
    const nn_real *dy_end = dy + rows * c.oh * c.ow * c.co;
    if (NN_DW_PANELS && c.co >= NN_DW_COLS) {
        nn_dense_dw_rows(0, c.ci, (last - line) * c.ow, c.ci, c.co, NN_ROWS_APART(c.ci), x + line * c.ow * c.ci,
                         dy + line * c.ow * c.co, dw, 1);
        return;
    }
    nn_dw_walk g = nn_dw_walk_of(c);
    const nn_dim block = nn_max_dim(32, NN_DW_NEAR / (c.ci + c.co));
    for (nn_dim p = line * c.ow, n; p < last * c.ow; p += n) {
        n = nn_min_dim(block, last * c.ow - p);
        g.h = (nn_axis){ 1, 1, 1, 1, 1, 0 };
        g.w = (nn_axis){ n, n, 1, 1, 1, 0 };
        nn_dw_sample(g, 0, 1, from, to, x + p * c.ci, dy + p * c.co, dy_end, dw);
    }
}

NN_INLINE void nn_dw_lines(nn_conv c, nn_dim line, nn_dim last, nn_dim rows, nn_dim from, nn_dim to,
                           const nn_real *x, const nn_real *dy, nn_real *dw)
{
    const nn_dim ci = c.ci / c.groups, co = c.co / c.groups;
    const nn_dw_walk g = nn_dw_walk_of(c);
    const nn_real *dy_end = dy + rows * c.oh * c.ow * c.co;
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
    /* Each item reads all of dy: a few lines of it stay in the nearest cache for all of them. */
    const nn_dim block = nn_max_dim(1, NN_DW_BLOCK / (c.ow * c.co));
    NN_DW_LINES(c.oh, for (nn_dim l = l0; l < l1; l += block)
                          nn_dw_merged_sample(c, l, nn_min_dim(l1, l + block), from, to, x + n * c.h * c.w * c.ci,
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

/* Whether a 1x1 kernel's gradient is one product over the pixels of y, computed as that of a dense layer. `panels`:
 * whether y has channels enough. */
NN_INLINE int nn_dw_is_dense(nn_conv c, int panels)
{
    return nn_conv_is_product(c) && panels && !NN_DW_IN_PARTS(nn_conv_weights(c));
}

NN_INLINE void nn_conv2d_dw(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *x,
                            const nn_real *dy, nn_real *scratch, nn_real *dw, int acc)
{
    if (nn_dw_is_dense(c, c.co >= NN_DENSE_SHORT)) {
        const nn_grid g = { c.ow, c.oh, c.step_w * c.ci, c.step_h * c.w * c.ci, c.h * c.w * c.ci };
        nn_dense_dw_grid(team, rows * c.oh * c.ow, c.ci, c.co, g, x, dy, dw, acc);
        return;
    }
    NN_DW_DRIVER(nn_dw_lines, NN_DW_IN_PARTS(size), c.r * c.s, c.ci / c.groups, c.co / c.groups);
}

/* Where nn_conv_is_point. */
NN_INLINE void nn_conv2d_pointwise_dw(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *x,
                                      const nn_real *dy, nn_real *scratch, nn_real *dw, int acc)
{
    if (nn_dw_is_dense(c, !NN_DW_PANELS || c.co >= NN_DW_COLS)) {
        nn_dense_dw_grid(team, rows * c.oh * c.ow, c.ci, c.co, NN_ROWS_APART(c.ci), x, dy, dw, acc);
        return;
    }
    NN_DW_DRIVER(nn_dw_pointwise_lines, NN_DW_IN_PARTS(size), 1, c.ci, c.co);
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
