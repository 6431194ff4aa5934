/* SPDX-License-Identifier: MIT
 *
 * Depthwise convolution: y[i,j,c] = bias[c] + sum over r,s of x[.., .., c] * w[r,s,c], on channels-last images, and its
 * gradients. A tile is a few pixels of one or two lines by a vector of channels; what it reads of x is read once.
 */
#ifndef NN_KERNELS_DEPTHWISE_H
#define NN_KERNELS_DEPTHWISE_H

#include "kernels/walk.h"

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
        NN_LONE(nr * mr, acc[0][0]);
    }
    NN_UNROLL_FULL
    for (int i = 0; i < nr * mr; i++) {
        nn_vec v = acc[i / mr][i % mr];
        if (g.relu) v = nn_relu(v);
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
    if (g.relu) v = nn_relu(v);
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

#endif
