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

/* One spatial axis of a walk: output o and tap t meet input o*step + t*dil + base. */
typedef struct nn_axis {
    nn_dim out, in, taps, step, dil, base;
} nn_axis;

/* A convolution-like walk; all literals in generated code. Distances are in elements. */
typedef struct nn_walk {
    nn_axis h, w;
    nn_dim x_row, x_pix;  /* between rows and pixels of the input */
    nn_dim y_row, y_pix;  /* and of the output */
    nn_dim w_h, w_w, w_c; /* between taps and input channels of the weights */
    nn_dim depth, cols;   /* input channels summed, output channels written */
    nn_dim tap, first;    /* elements of one tap in the weights, and the tap the walk starts with */
} nn_walk;

NN_INLINE nn_dim nn_div_up(nn_dim a, nn_dim b)
{
    return a > 0 ? (a + b - 1) / b : -(-a / b);
}

NN_INLINE nn_dim nn_div_down(nn_dim a, nn_dim b)
{
    return -nn_div_up(-a, b);
}

NN_INLINE nn_dim nn_clamp(nn_dim x, nn_dim lo, nn_dim hi)
{
    return nn_max_dim(lo, nn_min_dim(x, hi));
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

/* One tap of one row of a tile at the image's left or right edge: only rows [lo, hi) of it meet an input. */
NN_INLINE void nn_walk_edge_tap(int mr, int nv, nn_walk g, nn_dim s, nn_dim o0, const nn_real *xr,
                                const nn_real *wr, nn_vec (*restrict acc)[NN_TILE_VECS])
{
    const nn_dim lo = nn_clamp(nn_axis_from(g.w, s) - o0, 0, mr),
                 hi = nn_clamp(nn_axis_to(g.w, s) - o0, lo, mr);
    const nn_dim in = (o0 + lo) * g.w.step + s * g.w.dil + g.w.base;
    if (lo < hi)
        nn_tile_mul((int)(hi - lo), nv, g.depth, xr + in * g.x_pix, g.w.step * g.x_pix, 1,
                    wr + s * g.w_w, g.w_c, acc + lo);
}

/* Taps beyond this width take the pixel-by-pixel path at the edges. */
#define NN_WALK_EDGE_TAPS 7

/* A tile of mr output pixels from column o0 of output row oh, nv vectors of channels, the last one of `tail`
 * lanes (0: all). `inner`: no tap leaves the image sideways. */
NN_INLINE void nn_walk_tile(int mr, int nv, int tail, int inner, int relu, nn_walk g, nn_dim oh,
                            nn_dim o0, const nn_real *x, const nn_real *w, const nn_real *bias,
                            nn_real *y)
{
    nn_vec acc[NN_TILE_ROWS][NN_TILE_VECS];
    nn_real *out = y + oh * g.y_row + o0 * g.y_pix;
    nn_tile_start(mr, nv, tail, NN_FROM_BIAS, bias, out, g.y_pix, acc);
    for (nn_dim r = 0; r < g.h.taps; r++) {
        const nn_dim ih = oh * g.h.step + r * g.h.dil + g.h.base;
        if (ih < 0 || ih >= g.h.in) continue;
        const nn_real *xr = x + ih * g.x_row, *wr = w + r * g.w_h;
        if (inner) {
            /* Neighbouring taps that are neighbours in memory, on both sides, make one long sum. */
            const int merged = g.w.dil == 1 && g.x_pix == g.depth && g.w_w == g.depth * g.w_c;
            for (nn_dim s = 0; s < (merged ? 1 : g.w.taps); s++)
                nn_tile_mul(mr, nv, merged ? g.w.taps * g.depth : g.depth,
                            xr + (o0 * g.w.step + s * g.w.dil + g.w.base) * g.x_pix,
                            g.w.step * g.x_pix, 1, wr + s * g.w_w, g.w_c, acc);
        } else {
            /* Written out, because the rows that take part must be literals. */
#define NN_EDGE(s)                                                                                 \
    if (g.w.taps > s) nn_walk_edge_tap(mr, nv, g, s, o0, xr, wr, acc)
            NN_EDGE(0);
            NN_EDGE(1);
            NN_EDGE(2);
            NN_EDGE(3);
            NN_EDGE(4);
            NN_EDGE(5);
            NN_EDGE(6);
#undef NN_EDGE
        }
    }
    nn_tile_end(mr, nv, tail, relu, out, g.y_pix, acc);
}

/* Output pixels [o0, o1) of row oh for one vector of `lanes` channels: any geometry, for what the tiles do not
 * handle. An ordinary function, compiled once. */
static __attribute__((noinline, unused)) void nn_walk_pixels(int lanes, int relu, const nn_walk *g,
                                                             nn_dim oh, nn_dim o0, nn_dim o1,
                                                             const nn_real *x, const nn_real *w,
                                                             const nn_real *bias, nn_real *y)
{
    for (nn_dim o = o0; o < o1; o++) {
        nn_vec acc = { 0 };
        if (bias) acc = nn_load_part(bias, lanes, 0);
        for (nn_dim r = 0; r < g->h.taps; r++) {
            const nn_dim ih = oh * g->h.step + r * g->h.dil + g->h.base;
            if (ih < 0 || ih >= g->h.in) continue;
            for (nn_dim s = 0; s < g->w.taps; s++) {
                const nn_dim iw = o * g->w.step + s * g->w.dil + g->w.base;
                if (iw < 0 || iw >= g->w.in) continue;
                const nn_real *xp = x + ih * g->x_row + iw * g->x_pix,
                              *wp = w + r * g->w_h + s * g->w_w;
                for (nn_dim c = 0; c < g->depth; c++)
                    acc += nn_splat(xp[c]) * (lanes == NN_VL
                                                  ? nn_load(wp + c * g->w_c)
                                                  : nn_load_part(wp + c * g->w_c, lanes, 0));
            }
        }
        if (relu) acc = (nn_vec)((nn_ivec)acc & ~(acc < (nn_vec){ 0 }));
        nn_store_part(y + oh * g->y_row + o * g->y_pix, acc, lanes);
    }
}

/* The same for all columns from k on. */
static __attribute__((noinline, unused)) void nn_walk_pixels_all(int relu, const nn_walk *g,
                                                                 const nn_real *x, const nn_real *w,
                                                                 const nn_real *bias, nn_real *y)
{
    for (nn_dim k = 0; k < g->cols; k += NN_VL)
        for (nn_dim oh = 0; oh < g->h.out; oh++)
            nn_walk_pixels((int)nn_min_dim(NN_VL, g->cols - k), relu, g, oh, 0, g->w.out, x, w + k,
                           bias ? bias + k : NULL, y + k);
}

/* All pixels of one sample, for a group of nv vectors of output channels. A row is cut into equal tiles; the
 * first and the last one may stick out of the image, those between them normally do not. */
NN_INLINE void nn_walk_columns(int nv, int tail, int relu, nn_walk g, const nn_real *x,
                               const nn_real *w, const nn_real *bias, nn_real *y)
{
    const int most = nv == 1 ? (NN_TILE_ACC > 16 ? 16 : 8) : NN_TILE_ACC / nv;
    const int mr = nn_tile_rows(g.w.out, most), rest = (int)(g.w.out % mr);
    const nn_dim inner_from = nn_axis_inner_from(g.w), inner_to = nn_axis_inner_to(g.w);
    const nn_dim n_full = g.w.out / mr, last = (n_full - 1) * mr;
#define NN_INNER(o, m)       (inner_from <= (o) && (o) + (m) <= inner_to)
#define NN_TILE(m, inner, o) nn_walk_tile(m, nv, tail, inner, relu, g, oh, o, x, w, bias, y)
    const int first_inner = NN_INNER(0, mr), last_inner = NN_INNER(last, mr),
              rest_inner = NN_INNER(last + mr, rest);
    const nn_dim from = first_inner ? 0 : mr, to = last_inner ? n_full * mr : last;
    const int tiles =
        g.w.taps <= NN_WALK_EDGE_TAPS || (first_inner && last_inner && (!rest || rest_inner));
    if (!tiles || (from < to && !NN_INNER(from, to - from))) {
        const nn_walk copy =
            g; /* g itself must stay a set of literals, so its address is not taken */
        for (int j = 0; j < nv; j++)
            for (nn_dim oh = 0; oh < g.h.out; oh++)
                nn_walk_pixels(tail && j == nv - 1 ? tail : NN_VL, relu, &copy, oh, 0, g.w.out, x,
                               w + j * NN_VL, bias ? bias + j * NN_VL : NULL, y + j * NN_VL);
        return;
    }
    for (nn_dim oh = 0; oh < g.h.out; oh++) {
        if (!first_inner) NN_TILE(mr, 0, 0);
        for (nn_dim o = from; o < to; o += mr) NN_TILE(mr, 1, o);
        if (!last_inner && n_full > 1) NN_TILE(mr, 0, last);
        if (rest && rest_inner) NN_TILE(rest, 1, last + mr);
        if (rest && !rest_inner) NN_TILE(rest, 0, last + mr);
    }
#undef NN_INNER
#undef NN_TILE
}

/* Weights of fewer channels than a vector has lanes, copied with whole vectors as rows so that the tiles can load
 * them. Rows beyond NN_WALK_PACK of them are too many; those layers go pixel by pixel. */
#define NN_WALK_PACK (32768 / NN_VL)
NN_INLINE int nn_walk_packs(nn_walk g, nn_dim rows)
{
    return g.cols < NN_VL && rows <= NN_WALK_PACK;
}

/* `samples` samples x_next and y_next apart. taps is the number of taps that lie in w. Narrow images take more
 * vectors of channels per tile, so that there are enough independent sums to keep the multipliers busy. Columns
 * that do not fill a vector are covered by one that overlaps its neighbour; both compute the same bits. */
NN_INLINE void nn_walk_samples(nn_dim samples, nn_dim x_next, nn_dim y_next, nn_dim taps, int relu,
                               nn_walk g, const nn_real *x, const nn_real *w, const nn_real *bias,
                               nn_real *y)
{
    if (g.cols < NN_VL) {
        nn_real pack[NN_WALK_PACK * NN_VL];
        const nn_dim rows = taps * g.depth;
        const int tail = (int)(g.cols % NN_VL);
        if (!nn_walk_packs(g, rows)) {
            const nn_walk copy = g;
            for (nn_dim n = 0; n < samples; n++)
                nn_walk_pixels_all(relu, &copy, x + n * x_next, w + g.first * g.tap, bias,
                                   y + n * y_next);
            return;
        }
        /* Taps are w_w apart in w, rows of a tap w_c. */
        const nn_dim tap = g.tap;
        for (nn_dim t = 0; t < taps; t++)
            for (nn_dim c = 0; c < g.depth; c++)
                nn_store(pack + (t * g.depth + c) * NN_VL,
                         nn_load_part(w + t * tap + c * g.w_c, tail, 0));
        nn_walk p = g;
        p.w_c = NN_VL;
        p.w_w = g.w_w / tap * (g.depth * NN_VL);
        p.w_h = g.w_h / tap * (g.depth * NN_VL);
        for (nn_dim n = 0; n < samples; n++)
            nn_walk_columns(1, tail, relu, p, x + n * x_next, pack + g.first * g.depth * NN_VL,
                            bias, y + n * y_next);
        return;
    }
    const int group = NN_TILE_ACC >= 24 && g.w.out <= 6 ? 4 : 2;
    const nn_dim n_vec = g.cols / NN_VL, n_main = n_vec / group, overlap = g.cols % NN_VL;
    const int rest = (int)(n_vec % group);
    /* Weights that do not fit a near cache are read once for all samples, others samples are. */
    const int far = taps * g.depth * g.cols > 131072;
    const nn_real *w0 = w + g.first * g.tap;
    for (nn_dim i = 0; i < n_main * samples; i++) {
        const nn_dim n = far ? i % samples : i / n_main,
                     k = (far ? i / samples : i % n_main) * group * NN_VL;
        nn_walk_columns(group, 0, relu, g, x + n * x_next, w0 + k, bias ? bias + k : NULL,
                        y + n * y_next + k);
    }
    const nn_dim k = n_main * group * NN_VL, kl = g.cols - NN_VL;
    for (nn_dim n = 0; n < samples; n++) {
        if (rest)
            nn_walk_columns(rest, 0, relu, g, x + n * x_next, w0 + k, bias ? bias + k : NULL,
                            y + n * y_next + k);
        if (overlap)
            nn_walk_columns(1, 0, relu, g, x + n * x_next, w0 + kl, bias ? bias + kl : NULL,
                            y + n * y_next + kl);
    }
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

/* Pixels [o0, o0 + mr) of a row for one vector of channels (n lanes of it). Inner tiles share the weights. */
NN_INLINE void nn_depthwise_tile(int mr, int inner, int relu, nn_conv c, nn_dim oh, nn_dim o0,
                                 int n, const nn_real *x, const nn_real *w, const nn_real *bias,
                                 nn_real *y)
{
    nn_vec acc[8];
    const int tail = n == NN_VL ? 0 : n;
    const nn_vec b = bias ? nn_load_tail(bias, 1, tail) : (nn_vec){ 0 };
    NN_UNROLL_FULL
    for (int i = 0; i < mr; i++) acc[i] = b;
    for (nn_dim r = 0; r < c.r; r++) {
        const nn_dim ih = oh * c.step_h + r * c.dil_h - c.pad_top;
        if (ih < 0 || ih >= c.h) continue;
        for (nn_dim s = 0; s < c.s; s++) {
            const nn_dim iw = o0 * c.step_w + s * c.dil_w - c.pad_left;
            if (!inner && (iw < 0 || iw >= c.w)) continue;
            const nn_vec wv = nn_load_tail(w + (r * c.s + s) * c.co, 1, tail);
            NN_UNROLL_FULL
            for (int i = 0; i < mr; i++)
                acc[i] += nn_load_tail(x + (ih * c.w + iw + i * c.step_w) * c.ci, 1, tail) * wv;
        }
    }
    NN_UNROLL_FULL
    for (int i = 0; i < mr; i++) {
        nn_vec v = acc[i];
        if (relu) v = (nn_vec)((nn_ivec)v & ~(v < (nn_vec){ 0 }));
        nn_store_tail(y + (oh * c.ow + o0 + i) * c.co, v, 1, tail);
    }
}

NN_INLINE void nn_depthwise_sample(int relu, nn_conv c, const nn_real *x, const nn_real *w,
                                   const nn_real *bias, nn_real *y)
{
    enum { ROW = 8 };
    const nn_axis a = { c.ow, c.w, c.s, c.step_w, c.dil_w, -c.pad_left };
    const nn_dim from = nn_axis_inner_from(a), to = nn_max_dim(from, nn_axis_inner_to(a));
#define NN_CHANNELS(n)                                                                             \
    do {                                                                                           \
        const nn_real *b = bias ? bias + k : NULL;                                                 \
        nn_dim o = 0;                                                                              \
        for (; o < from; o++) nn_depthwise_tile(1, 0, relu, c, oh, o, n, x + k, w + k, b, y + k);  \
        for (; o + ROW <= to; o += ROW)                                                            \
            nn_depthwise_tile(ROW, 1, relu, c, oh, o, n, x + k, w + k, b, y + k);                  \
        for (; o < c.ow; o++) nn_depthwise_tile(1, 0, relu, c, oh, o, n, x + k, w + k, b, y + k);  \
    } while (0)
    for (nn_dim oh = 0; oh < c.oh; oh++) {
        nn_dim k = 0;
        for (; k + NN_VL <= c.co; k += NN_VL) NN_CHANNELS(NN_VL);
        if (k < c.co) NN_CHANNELS((int)(c.co % NN_VL));
    }
#undef NN_CHANNELS
}

/* dx[ih,iw,c] = sum over the taps that reach it of dy[oh,ow,c] * w[r,s,c]. */
NN_INLINE void nn_depthwise_dx_sample(nn_conv c, const nn_real *dy, const nn_real *w, nn_real *dx)
{
    for (nn_dim ih = 0; ih < c.h; ih++)
        for (nn_dim iw = 0; iw < c.w; iw++)
            for (nn_dim k = 0; k < c.ci; k += NN_VL) {
                const int last = k + NN_VL > c.ci, tail = (int)(c.ci % NN_VL);
                nn_vec v = { 0 };
                for (nn_dim r = 0; r < c.r; r++) {
                    const nn_dim up = ih + c.pad_top - r * c.dil_h;
                    if (up < 0 || up % c.step_h || up / c.step_h >= c.oh) continue;
                    for (nn_dim s = 0; s < c.s; s++) {
                        const nn_dim left = iw + c.pad_left - s * c.dil_w;
                        if (left < 0 || left % c.step_w || left / c.step_w >= c.ow) continue;
                        const nn_real *d =
                            dy + ((up / c.step_h) * c.ow + left / c.step_w) * c.co + k;
                        const nn_real *wk = w + (r * c.s + s) * c.co + k;
                        if (last && tail)
                            v += nn_load_part(d, tail, 0) * nn_load_part(wk, tail, 0);
                        else
                            v += nn_load(d) * nn_load(wk);
                    }
                }
                if (last && tail)
                    nn_store_part(dx + (ih * c.w + iw) * c.ci + k, v, tail);
                else
                    nn_store(dx + (ih * c.w + iw) * c.ci + k, v);
            }
}

/* dw[r,s,c] += sum over pixels of x * dy, one sample. */
NN_INLINE void nn_depthwise_dw_sample(nn_conv c, const nn_real *x, const nn_real *dy, nn_real *dw)
{
    const nn_axis aw = { c.ow, c.w, c.s, c.step_w, c.dil_w, -c.pad_left };
    for (nn_dim r = 0; r < c.r; r++)
        for (nn_dim s = 0; s < c.s; s++) {
            const nn_dim from = nn_axis_from(aw, s), to = nn_axis_to(aw, s);
            for (nn_dim k = 0; k < c.co; k += NN_VL) {
                const int last = k + NN_VL > c.co, tail = (int)(c.co % NN_VL);
                nn_vec v[4] = { { 0 } };
                nn_real *d = dw + (r * c.s + s) * c.co + k;
                for (nn_dim oh = 0; oh < c.oh; oh++) {
                    const nn_dim ih = oh * c.step_h + r * c.dil_h - c.pad_top;
                    if (ih < 0 || ih >= c.h) continue;
                    const nn_real *xr = x + (ih * c.w + s * c.dil_w - c.pad_left) * c.ci + k;
                    const nn_real *dr = dy + oh * c.ow * c.co + k;
                    const nn_dim xs = c.step_w * c.ci;
                    nn_dim o = from;
                    if (last && tail) {
                        for (; o < to; o++)
                            v[0] += nn_load_part(xr + o * xs, tail, 0) *
                                    nn_load_part(dr + o * c.co, tail, 0);
                    } else {
                        for (; o + 4 <= to; o += 4) {
                            NN_UNROLL_FULL
                            for (int u = 0; u < 4; u++)
                                v[u] += nn_load(xr + (o + u) * xs) * nn_load(dr + (o + u) * c.co);
                        }
                        for (; o < to; o++) v[0] += nn_load(xr + o * xs) * nn_load(dr + o * c.co);
                    }
                }
                const nn_vec sum = (v[0] + v[1]) + (v[2] + v[3]);
                if (last && tail)
                    nn_store_part(d, nn_load_part(d, tail, 0) + sum, tail);
                else
                    nn_store(d, nn_load(d) + sum);
            }
        }
}

/* ---- forward; generated code calls the form that fits the layer ---- */

/* rows samples of y = conv(x, w) + bias, then relu if asked. bias may be NULL. */
NN_INLINE void nn_conv2d(nn_dim rows, nn_conv c, int relu, const nn_real *x, const nn_real *w,
                         const nn_real *bias, nn_real *y)
{
    const nn_dim ci = c.ci / c.groups, co = c.co / c.groups;
    const nn_walk g = {
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
        .tap = ci * c.co,
        .first = 0,
    };
    for (nn_dim q = 0; q < c.groups; q++)
        nn_walk_samples(rows, c.h * c.w * c.ci, c.oh * c.ow * c.co, c.r * c.s, relu, g, x + q * ci,
                        w + q * co, bias ? bias + q * co : NULL, y + q * co);
}

/* 1x1, stride 1, no padding, one group: a dense layer over pixels; blocks keep its input in cache. */
NN_INLINE void nn_conv2d_point(nn_dim rows, nn_conv c, int relu, const nn_real *x, const nn_real *w,
                               const nn_real *bias, nn_real *y)
{
    const nn_dim pixels = rows * c.h * c.w, block = 128;
    for (nn_dim p = 0; p < pixels; p += block)
        nn_product(nn_min_dim(block, pixels - p), c.co, c.ci, NN_FROM_BIAS, relu, x + p * c.ci,
                   c.ci, 1, w, c.co, w + c.ci * c.co, bias, y + p * c.co, c.co);
}

/* groups = ci = co > 1. */
NN_INLINE void nn_conv2d_depthwise(nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                   const nn_real *w, const nn_real *bias, nn_real *y)
{
    for (nn_dim n = 0; n < rows; n++)
        nn_depthwise_sample(relu, c, x + n * c.h * c.w * c.ci, w, bias, y + n * c.oh * c.ow * c.co);
}

/* ---- gradient of the input, and transposed convolution ---- */

/* The taps of one axis that reach inputs i = phase + step*u: t = first + j*period, for which the output is
 * o = u + base - j*dil. Reversed (j' = taps-1-j) it reads forward, which lets neighbouring taps merge. */
typedef struct nn_phase {
    nn_dim taps, first, period, dil, base, count;
} nn_phase;

NN_INLINE nn_phase nn_phase_of(nn_dim phase, nn_dim in, nn_dim taps, nn_dim step, nn_dim dil,
                               nn_dim pad)
{
    nn_phase p = { .taps = 0, .first = 0, .period = step, .dil = dil, .base = 0, .count = 0 };
    if (phase < in) p.count = (in - phase + step - 1) / step;
    /* The greatest common divisor, for the strides that occur with dilation; a loop would not fold. */
    const nn_dim a = step, b = dil % step;
    const nn_dim g = b == 0 ? a : a % b == 0 ? b : b % (a % b) == 0 ? a % b : 1;
    p.period = step / g;
    p.dil = dil / g;
    nn_dim first = -1;
#define NN_FIRST(t)                                                                                \
    if (first < 0 && (t) < taps && (t) < p.period && (phase + pad - (t)*dil) % step == 0)          \
    first = (t)
    NN_FIRST(0);
    NN_FIRST(1);
    NN_FIRST(2);
    NN_FIRST(3);
    if (first < 0 && p.period > 4)
        for (nn_dim t = 4; t < taps && t < p.period && first < 0; t++)
            if ((phase + pad - t * dil) % step == 0) first = t;
#undef NN_FIRST
    if (first < 0) return p;
    p.first = first;
    p.taps = (taps - first + p.period - 1) / p.period;
    p.base = (phase + pad - first * dil) / step;
    return p;
}

/* dx from dy for one phase of the stride and one group. wt holds [co][ci/g] per tap: for conv2d_dx the transposed
 * weights with both tap axes reversed (`flipped`), for transposed convolution the weights as they are. */
NN_INLINE nn_walk nn_phase_walk(nn_conv c, nn_dim ph, nn_dim pw, int flipped)
{
    const nn_phase a = nn_phase_of(ph, c.h, c.r, c.step_h, c.dil_h, c.pad_top);
    const nn_phase b = nn_phase_of(pw, c.w, c.s, c.step_w, c.dil_w, c.pad_left);
    const nn_dim ci = c.ci / c.groups, tap = c.co * ci;
    const nn_dim r0 = flipped ? c.r - 1 - a.first - (a.taps - 1) * a.period : a.first;
    const nn_dim s0 = flipped ? c.s - 1 - b.first - (b.taps - 1) * b.period : b.first;
    return (nn_walk){
        .h = { a.count, c.oh, a.taps, 1, flipped ? a.dil : -a.dil,
               a.base - (flipped ? (a.taps - 1) * a.dil : 0) },
        .w = { b.count, c.ow, b.taps, 1, flipped ? b.dil : -b.dil,
               b.base - (flipped ? (b.taps - 1) * b.dil : 0) },
        .x_row = c.ow * c.co,
        .x_pix = c.co,
        .y_row = c.step_h * c.w * c.ci,
        .y_pix = c.step_w * c.ci,
        .w_h = a.period * c.s * tap,
        .w_w = b.period * tap,
        .w_c = ci,
        .depth = c.co / c.groups,
        .cols = ci,
        .tap = tap,
        .first = a.taps > 0 && b.taps > 0 ? r0 * c.s + s0 : 0,
    };
}

/* `rows` samples of one phase, in tiles (a literal phase). */
NN_INLINE void nn_conv_phase(nn_dim rows, nn_conv c, nn_dim ph, nn_dim pw, int flipped, int relu,
                             const nn_real *dy, const nn_real *wt, const nn_real *bias, nn_real *dx)
{
    const nn_walk g = nn_phase_walk(c, ph, pw, flipped);
    const nn_dim ci = c.ci / c.groups, co = c.co / c.groups;
    if (g.h.out <= 0 || g.w.out <= 0) return;
    for (nn_dim q = 0; q < c.groups; q++)
        nn_walk_samples(rows, c.oh * c.ow * c.co, c.h * c.w * c.ci, c.r * c.s, relu, g, dy + q * co,
                        wt + q * co * ci, bias ? bias + q * ci : NULL,
                        dx + (ph * c.w + pw) * c.ci + q * ci);
}

/* Stride 1. */
NN_INLINE void nn_conv_phases(nn_dim rows, nn_conv c, int flipped, int relu, const nn_real *dy,
                              const nn_real *wt, const nn_real *bias, nn_real *dx)
{
    nn_conv_phase(rows, c, 0, 0, flipped, relu, dy, wt, bias, dx);
}

/* Strides up to 2, the usual case: at most four phases, written out so that their geometry folds to literals. */
NN_INLINE void nn_conv_phases_half(nn_dim rows, nn_conv c, int flipped, int relu, const nn_real *dy,
                                   const nn_real *wt, const nn_real *bias, nn_real *dx)
{
    nn_conv_phase(rows, c, 0, 0, flipped, relu, dy, wt, bias, dx);
    if (c.step_w > 1) nn_conv_phase(rows, c, 0, 1, flipped, relu, dy, wt, bias, dx);
    if (c.step_h > 1) nn_conv_phase(rows, c, 1, 0, flipped, relu, dy, wt, bias, dx);
    if (c.step_h > 1 && c.step_w > 1) nn_conv_phase(rows, c, 1, 1, flipped, relu, dy, wt, bias, dx);
}

/* Any stride, pixel by pixel. */
NN_INLINE void nn_conv_phases_any(nn_dim rows, nn_conv c, int flipped, int relu, const nn_real *dy,
                                  const nn_real *wt, const nn_real *bias, nn_real *dx)
{
    const nn_dim ci = c.ci / c.groups, co = c.co / c.groups;
    for (nn_dim ph = 0; ph < c.step_h; ph++)
        for (nn_dim pw = 0; pw < c.step_w; pw++) {
            const nn_walk g = nn_phase_walk(c, ph, pw, flipped);
            for (nn_dim n = 0; n < rows; n++)
                for (nn_dim q = 0; q < c.groups; q++)
                    nn_walk_pixels_all(relu, &g, dy + n * c.oh * c.ow * c.co + q * co,
                                       wt + q * co * ci + g.first * g.tap,
                                       bias ? bias + q * ci : NULL,
                                       dx + n * c.h * c.w * c.ci + (ph * c.w + pw) * c.ci + q * ci);
        }
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

/* dx = gradient of a convolution of stride 1 with respect to x. scratch holds the weights once more. */
NN_INLINE void nn_conv2d_dx(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *dy,
                            const nn_real *w, nn_real *scratch, nn_real *dx)
{
    nn_dim from, to;
    nn_conv_flip(team, c, w, scratch);
    nn_barrier(team);
    nn_share(team->rank, team->size, rows, 1, &from, &to);
    nn_conv_phases(to - from, c, 1, 0, dy + from * c.oh * c.ow * c.co, scratch, NULL,
                   dx + from * c.h * c.w * c.ci);
}

/* The same for strides of 1 and 2. */
NN_INLINE void nn_conv2d_dx_half(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *dy,
                                 const nn_real *w, nn_real *scratch, nn_real *dx)
{
    nn_dim from, to;
    nn_conv_flip(team, c, w, scratch);
    nn_barrier(team);
    nn_share(team->rank, team->size, rows, 1, &from, &to);
    nn_conv_phases_half(to - from, c, 1, 0, dy + from * c.oh * c.ow * c.co, scratch, NULL,
                        dx + from * c.h * c.w * c.ci);
}

/* The same for any stride. */
NN_INLINE void nn_conv2d_dx_any(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *dy,
                                const nn_real *w, nn_real *scratch, nn_real *dx)
{
    nn_dim from, to;
    nn_conv_flip(team, c, w, scratch);
    nn_barrier(team);
    nn_share(team->rank, team->size, rows, 1, &from, &to);
    nn_conv_phases_any(to - from, c, 1, 0, dy + from * c.oh * c.ow * c.co, scratch, NULL,
                       dx + from * c.h * c.w * c.ci);
}

NN_INLINE void nn_conv2d_depthwise_dx(const nn_team *team, nn_dim rows, nn_conv c,
                                      const nn_real *dy, const nn_real *w, nn_real *scratch,
                                      nn_real *dx)
{
    nn_dim from, to;
    (void)scratch;
    nn_share(team->rank, team->size, rows, 1, &from, &to);
    for (nn_dim n = from; n < to; n++)
        nn_depthwise_dx_sample(c, dy + n * c.oh * c.ow * c.co, w, dx + n * c.h * c.w * c.ci);
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

/* Rows [i, i + mr) of the gradient of tap (r, s), all columns, one sample. */
NN_INLINE void nn_dw_tap_rows(int mr, nn_dw_walk g, nn_dim r, nn_dim s, nn_dim i, const nn_real *a,
                              const nn_real *b, const nn_real *b_end, nn_real *dw)
{
    const nn_dim h0 = nn_axis_from(g.h, r), h1 = nn_axis_to(g.h, r);
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

/* Items [from, to) of the taps times blocks of rows, one sample added to dw. */
NN_INLINE void nn_dw_sample(nn_dw_walk g, nn_dim from, nn_dim to, const nn_real *a,
                            const nn_real *b, const nn_real *b_end, nn_real *dw)
{
    const int mr = nn_dw_rows(g.rows, g.cols), rest = (int)(g.rows % mr);
    const nn_dim blocks = (g.rows + mr - 1) / mr;
    for (nn_dim item = from; item < to; item++) {
        const nn_dim tap = item / blocks, block = item % blocks, r = tap / g.w.taps,
                     s = tap % g.w.taps;
        if (rest && block == blocks - 1)
            nn_dw_tap_rows(rest, g, r, s, block * mr, a, b, b_end, dw);
        else
            nn_dw_tap_rows(mr, g, r, s, block * mr, a, b, b_end, dw);
    }
}

/* With few input channels the rows of a tile are (s, c) together: neighbours in x and in dw. Only pixels for
 * which all taps of a row lie inside are summed that way; at the edges a small zero-padded copy is used. */
enum { NN_DW_MERGED_MAX = 64 };
NN_INLINE void nn_dw_merged_rows(int mr, nn_conv c, nn_dim r, nn_dim i, int nv, int tail, nn_dim k,
                                 const nn_real *x, const nn_real *dy, const nn_real *dy_end,
                                 nn_real *dw)
{
    const nn_axis ah = { c.oh, c.h, c.r, c.step_h, c.dil_h, -c.pad_top };
    const nn_axis aw = { c.ow, c.w, c.s, c.step_w, 1, -c.pad_left };
    const nn_dim h0 = nn_axis_from(ah, r), h1 = nn_axis_to(ah, r);
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

NN_INLINE void nn_dw_merged_sample(nn_conv c, nn_dim from, nn_dim to, const nn_real *x,
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
            nn_dw_merged_rows(rest, c, r, block *mr, nv, tail, k, x, dy, dy_end, dw);              \
        else                                                                                       \
            nn_dw_merged_rows(mr, c, r, block *mr, nv, tail, k, x, dy, dy_end, dw);                \
    } while (0)
        for (nn_dim n = 0; n < n_main; n++, k += group * NN_VL) NN_COLUMNS(group, 0);
        if (last) NN_COLUMNS(last, tail);
#undef NN_COLUMNS
    }
}

/* What the drivers below do with the samples [n0, n1) and the items [from, to) of dw they are responsible for. */
NN_INLINE void nn_dw_samples(nn_conv c, nn_dim n0, nn_dim n1, nn_dim rows, nn_dim from, nn_dim to,
                             const nn_real *x, const nn_real *dy, nn_real *dw)
{
    const nn_dim ci = c.ci / c.groups, co = c.co / c.groups;
    const nn_dw_walk g = {
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
    for (nn_dim n = n0; n < n1; n++)
        for (nn_dim q = 0; q < c.groups; q++)
            nn_dw_sample(g, from, to, x + n * c.h * c.w * c.ci + q * ci,
                         dy + n * c.oh * c.ow * c.co + q * co, dy + rows * c.oh * c.ow * c.co,
                         dw + q * co);
}

NN_INLINE void nn_dw_merged_samples(nn_conv c, nn_dim n0, nn_dim n1, nn_dim rows, nn_dim from,
                                    nn_dim to, const nn_real *x, const nn_real *dy, nn_real *dw)
{
    for (nn_dim n = n0; n < n1; n++)
        nn_dw_merged_sample(c, from, to, x + n * c.h * c.w * c.ci, dy + n * c.oh * c.ow * c.co,
                            dy + rows * c.oh * c.ow * c.co, dw);
}

NN_INLINE void nn_dw_depthwise_samples(nn_conv c, nn_dim n0, nn_dim n1, nn_dim rows, nn_dim from,
                                       nn_dim to, const nn_real *x, const nn_real *dy, nn_real *dw)
{
    (void)rows, (void)from, (void)to;
    for (nn_dim n = n0; n < n1; n++)
        nn_depthwise_dw_sample(c, x + n * c.h * c.w * c.ci, dy + n * c.oh * c.ow * c.co, dw);
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

/* dw = (acc ? dw : 0) + gradient with respect to w. Small gradients are summed in parts of the samples (scratch
 * holds NN_DW_PARTS of them), of large ones (NN_DW_IN_PARTS false) the threads divide the items. */
#define NN_DW_DRIVER(samples, in_parts, taps, row_count, col_count)                                \
    do {                                                                                           \
        const nn_dim size = nn_conv_weights(c), items = nn_dw_items(taps, row_count, col_count);   \
        const nn_dim parts = nn_min_dim(NN_DW_PARTS, rows);                                        \
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
            samples(c, divided ? nn_cut(rows, 1, p, parts) : 0,                                    \
                    divided ? nn_cut(rows, 1, p + 1, parts) : rows, rows, from, to, x, dy, part);  \
        }                                                                                          \
        if (!divided) return;                                                                      \
        nn_barrier(team);                                                                          \
        nn_sum_parts(team, size, parts, scratch, acc, dw);                                         \
    } while (0)

NN_INLINE void nn_conv2d_dw(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *x,
                            const nn_real *dy, nn_real *scratch, nn_real *dw, int acc)
{
    NN_DW_DRIVER(nn_dw_samples, NN_DW_IN_PARTS(size), c.r * c.s, c.ci / c.groups, c.co / c.groups);
}

/* Few input channels (below 8), one group, no dilation in width, s*ci at most NN_DW_MERGED_MAX. */
NN_INLINE void nn_conv2d_dw_merged(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *x,
                                   const nn_real *dy, nn_real *scratch, nn_real *dw, int acc)
{
    NN_DW_DRIVER(nn_dw_merged_samples, NN_DW_IN_PARTS(size), c.r, c.s * c.ci, c.co);
}

NN_INLINE void nn_conv2d_depthwise_dw(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *x,
                                      const nn_real *dy, nn_real *scratch, nn_real *dw, int acc)
{
    NN_DW_DRIVER(nn_dw_depthwise_samples, 1, 1, 1, c.co);
}

#endif
