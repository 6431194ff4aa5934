/* SPDX-License-Identifier: MIT
 *
 * Pooling of channels-last images, a vector of channels at a time, and pooling over whole images. All kernels
 * get the samples of a thread's share.
 */
#ifndef NN_KERNELS_POOL_H
#define NN_KERNELS_POOL_H

#include "kernels/vec.h"

/* Image [h,w,c], result [oh,ow,c], window [kh,kw]; all literals in generated code. */
typedef struct nn_pool2d {
    nn_dim h, w, c, oh, ow, kh, kw, step_h, step_w, pad_top, pad_left, dil_h, dil_w;
} nn_pool2d;
#define NN_POOL(h, w, c, oh, ow, kh, kw, step_h, step_w, pad_top, pad_left, dil_h, dil_w) \
    ((nn_pool2d){ h, w, c, oh, ow, kh, kw, step_h, step_w, pad_top, pad_left, dil_h, dil_w })

typedef uint8_t nn_u8vec __attribute__((vector_size(NN_VL)));
typedef uint16_t nn_u16vec __attribute__((vector_size(2 * NN_VL)));
typedef int32_t nn_i32vec __attribute__((vector_size(4 * NN_VL)));
typedef uint8_t nn_u8vec_mem __attribute__((vector_size(NN_VL), aligned(1), may_alias));

NN_INLINE nn_vec nn_load_lanes(const nn_real *p, int n)
{
    return n == NN_VL ? nn_load(p) : nn_load_part(p, n, 0);
}

NN_INLINE void nn_store_lanes(nn_real *p, nn_vec v, int n)
{
    if (n == NN_VL)
        nn_store(p, v);
    else
        nn_store_part(p, v, n);
}

/* The first n lanes of the positions as bytes or as 32-bit integers. From step to step the width doubles: gcc takes
 * vectors apart for greater steps. */
NN_INLINE void nn_store_index(void *p, nn_dim i, nn_ivec v, int n, int bytes)
{
    if (bytes == 1) {
        const nn_i32vec word = __builtin_convertvector(v, nn_i32vec);
        const nn_u8vec b = __builtin_convertvector(__builtin_convertvector(word, nn_u16vec), nn_u8vec);
        if (n == NN_VL)
            *(nn_u8vec_mem *)((uint8_t *)p + i) = b;
        else
            memcpy((uint8_t *)p + i, &b, (size_t)nn_min_dim(n, NN_VL));
    } else {
        const nn_i32vec b = __builtin_convertvector(v, nn_i32vec);
        memcpy((int32_t *)p + i, &b, (size_t)n * 4);
    }
}

NN_INLINE nn_ivec nn_load_index(const void *p, nn_dim i, int n, int bytes)
{
    if (bytes == 1) {
        nn_u8vec b = { 0 };
        if (n == NN_VL)
            b = *(const nn_u8vec_mem *)((const uint8_t *)p + i);
        else
            memcpy(&b, (const uint8_t *)p + i, (size_t)nn_min_dim(n, NN_VL));
        const nn_i32vec word = __builtin_convertvector(__builtin_convertvector(b, nn_u16vec), nn_i32vec);
        return __builtin_convertvector(word, nn_ivec);
    }
    nn_i32vec b = { 0 };
    memcpy(&b, (const int32_t *)p + i, (size_t)n * 4);
    return __builtin_convertvector(b, nn_ivec);
}

/* The maximum so far and its position; the first of equal values stays, NaN beats numbers. */
NN_INLINE void nn_max_take(nn_vec v, nn_rint position, nn_vec *best, nn_ivec *at)
{
    const nn_ivec wins = (nn_ivec)(v > *best) | (nn_ivec)(v != v);
    *best = nn_select(wins, v, *best);
    *at = (wins & (position - (nn_ivec){ 0 })) | (~wins & *at);
}

/* One window, n channels from channel k on. `whole`: the lanes beyond them may be read, and written, because what
 * comes there is written later. */
NN_INLINE void nn_max_window(nn_pool2d g, nn_dim ih, nn_dim iw, nn_dim k, int n, int whole, const nn_real *x,
                             nn_real *y, void *index, nn_dim at_y, int bytes)
{
    const int lanes = whole ? NN_VL : n;
    nn_vec best = nn_splat(-NN_INF);
    nn_ivec at = { 0 };
    int first = 1;
    for (nn_dim r = 0; r < g.kh; r++) {
        const nn_dim i = ih + r * g.dil_h;
        if (i < 0 || i >= g.h) continue;
        for (nn_dim s = 0; s < g.kw; s++) {
            const nn_dim j = iw + s * g.dil_w;
            if (j < 0 || j >= g.w) continue;
            const nn_vec v = nn_load_lanes(x + (i * g.w + j) * g.c + k, lanes);
            if (first) { /* so that a window of -inf still points into the image */
                best = v;
                at = (nn_rint)(r * g.kw + s) - (nn_ivec){ 0 };
                first = 0;
            } else {
                nn_max_take(v, (nn_rint)(r * g.kw + s), &best, &at);
            }
        }
    }
    nn_store_lanes(y + at_y, best, lanes);
    if (index) nn_store_index(index, at_y, at, lanes, bytes);
}

/* Whether channels that do not fill a vector may be read and written as if they did, in output row oh of sample n:
 * what follows still belongs to the samples. */
NN_INLINE int nn_pool_whole(nn_pool2d g, nn_dim samples, nn_dim n, nn_dim oh)
{
    const nn_dim last = nn_min_dim(g.h, oh * g.step_h - g.pad_top + (g.kh - 1) * g.dil_h + 1);
    const nn_dim spill = NN_VL - g.c % NN_VL;
    return (n * g.h + last) * g.w * g.c + spill <= samples * g.h * g.w * g.c &&
           (n * g.oh + oh + 1) * g.ow * g.c + spill <= samples * g.oh * g.ow * g.c;
}

enum { NN_POOL_SOME = 16, NN_POOL_WIDTH = 4 }; /* windows at a time, and pixels across one of them, at most */

/* Windows that neither overlap nor leave gaps write every element of dx once. */
NN_INLINE int nn_pool_partition(nn_pool2d g)
{
    return g.step_h == g.kh && g.step_w == g.kw && g.dil_h == 1 && g.dil_w == 1 && g.pad_top == 0 &&
           g.pad_left == 0 && g.oh * g.kh >= g.h && g.ow * g.kw >= g.w;
}

/* Maxima of windows that neither overlap nor leave gaps, of fewer channels than a vector has lanes: first down the
 * rows, where vectors are full, then across what is left. Lines [from, to) of the results. */
NN_INLINE void nn_max_narrow(nn_dim from, nn_dim to, nn_pool2d g, const nn_real *x, nn_real *y)
{
    nn_real best[(NN_POOL_SOME * NN_POOL_WIDTH + 1) * NN_VL] = { 0 };
    const nn_real *const end = y + to * g.ow * g.c;
    nn_ivec none = { 0 };
    y += from * g.ow * g.c;
    for (nn_dim i = from; i < to; i++) {
        const nn_dim n = i / g.oh, ih = i % g.oh * g.kh, down = nn_min_dim(g.kh, g.h - ih);
        for (nn_dim ow = 0; ow < g.ow; ow += NN_POOL_SOME) {
            const nn_dim across = nn_min_dim(g.w - ow * g.kw, NN_POOL_SOME * g.kw), size = across * g.c;
            const nn_real *xr = x + ((n * g.h + ih) * g.w + ow * g.kw) * g.c;
            for (nn_dim j = 0; j < size; j += NN_VL) {
                const int lanes = (int)nn_min_dim(NN_VL, size - j);
                nn_vec top = nn_load_lanes(xr + j, lanes);
                for (nn_dim r = 1; r < down; r++)
                    nn_max_take(nn_load_lanes(xr + r * g.w * g.c + j, lanes), 0, &top, &none);
                nn_store(best + j, top);
            }
            for (nn_dim s = 0; s < across; s += g.kw, y += g.c) {
                nn_vec top = nn_load(best + s * g.c);
                for (nn_dim k = 1; k < nn_min_dim(g.kw, across - s); k++)
                    nn_max_take(nn_load(best + (s + k) * g.c), 0, &top, &none);
                nn_store_lanes(y, top, end - y >= NN_VL ? NN_VL : (int)g.c); /* the lanes beyond are written next */
            }
        }
    }
}

/* y = maximum, index = its position within the window (r*kw + s), for lines [from, to) of the results of `rows`
 * samples; index may be NULL. Nothing of other lines is written. */
NN_INLINE void nn_max_lines(nn_dim rows, nn_dim from, nn_dim to, nn_pool2d g, const nn_real *x, nn_real *y, void *index,
                            int bytes)
{
    const int tail = (int)(g.c % NN_VL);
    if (!index && g.c < NN_VL && g.kw <= NN_POOL_WIDTH && nn_pool_partition(g)) {
        nn_max_narrow(from, to, g, x, y);
        return;
    }
    for (nn_dim i = from; i < to; i++) {
        const nn_dim n = i / g.oh, oh = i % g.oh;
        const int whole = nn_pool_whole(g, rows, n, oh) && (to - i - 1) * g.ow * g.c >= NN_VL - tail;
        for (nn_dim ow = 0; ow < g.ow; ow++) {
            const nn_dim ih = oh * g.step_h - g.pad_top, iw = ow * g.step_w - g.pad_left;
            const nn_dim at = (i * g.ow + ow) * g.c;
            const nn_real *xn = x + n * g.h * g.w * g.c;
            nn_dim k = 0;
            for (; k + NN_VL <= g.c; k += NN_VL) nn_max_window(g, ih, iw, k, NN_VL, 1, xn, y, index, at + k, bytes);
            if (tail && whole)
                nn_max_window(g, ih, iw, k, tail, 1, xn, y, index, at + k, bytes);
            else if (tail)
                nn_max_window(g, ih, iw, k, tail, 0, xn, y, index, at + k, bytes);
        }
    }
}

NN_INLINE void nn_max_pool2d(nn_dim rows, nn_pool2d g, const nn_real *x, nn_real *y, void *index, int bytes)
{
    nn_max_lines(rows, 0, rows * g.oh, g, x, y, index, bytes);
}

NN_INLINE void nn_max_pool2d_u8(nn_dim rows, nn_pool2d g, const nn_real *x, nn_real *y, uint8_t *index)
{
    nn_max_pool2d(rows, g, x, y, index, 1);
}

NN_INLINE void nn_max_pool2d_i32(nn_dim rows, nn_pool2d g, const nn_real *x, nn_real *y, int32_t *index)
{
    nn_max_pool2d(rows, g, x, y, index, 4);
}

/* The same, lines divided by the team. */
NN_INLINE void nn_max_pool2d_team(const nn_team *team, nn_dim rows, nn_pool2d g, const nn_real *x, nn_real *y,
                                  void *index, int bytes)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, rows * g.oh, 1, &from, &to);
    nn_max_lines(rows, from, to, g, x, y, index, bytes);
}

NN_INLINE void nn_max_pool2d_u8_team(const nn_team *team, nn_dim rows, nn_pool2d g, const nn_real *x, nn_real *y,
                                     uint8_t *index)
{
    nn_max_pool2d_team(team, rows, g, x, y, index, 1);
}

NN_INLINE void nn_max_pool2d_i32_team(const nn_team *team, nn_dim rows, nn_pool2d g, const nn_real *x, nn_real *y,
                                      int32_t *index)
{
    nn_max_pool2d_team(team, rows, g, x, y, index, 4);
}

/* n channels of the pixel at `position` of its window. */
NN_INLINE void nn_max_pixel_dx(nn_dim position, int n, const nn_real *dy, const void *index, nn_dim at_y, int bytes,
                               nn_real *dx)
{
    const nn_ivec here = nn_load_index(index, at_y, n, bytes) == (nn_rint)position - (nn_ivec){ 0 };
    nn_store_lanes(dx, nn_select(here, nn_load_lanes(dy + at_y, n), (nn_vec){ 0 }), n);
}

/* dx of windows that neither overlap nor leave gaps: it is written in order, so that all but the last rows may spill
 * into what follows. */
NN_INLINE void nn_max_parts_dx(nn_dim rows, nn_pool2d g, const nn_real *dy, const void *index, int bytes, nn_real *dx)
{
    const int tail = (int)(g.c % NN_VL);
    for (nn_dim i = 0; i < rows * g.h; i++) {
        const nn_dim n = i / g.h, oh = i % g.h / g.kh, r = i % g.h % g.kh;
        const int whole = (i + 1) * g.w * g.c - tail + NN_VL <= rows * g.h * g.w * g.c &&
                          (n * g.oh + oh + 1) * g.ow * g.c - tail + NN_VL <= rows * g.oh * g.ow * g.c;
        for (nn_dim ow = 0; ow < g.ow; ow++) {
            const nn_dim at = ((n * g.oh + oh) * g.ow + ow) * g.c;
            for (nn_dim s = 0; s < g.kw && ow * g.kw + s < g.w; s++) {
                nn_real *out = dx + (i * g.w + ow * g.kw + s) * g.c;
                nn_dim k = 0;
                for (; k + NN_VL <= g.c; k += NN_VL)
                    nn_max_pixel_dx(r * g.kw + s, NN_VL, dy, index, at + k, bytes, out + k);
                if (tail && whole)
                    nn_max_pixel_dx(r * g.kw + s, NN_VL, dy, index, at + k, bytes, out + k);
                else if (tail)
                    nn_max_pixel_dx(r * g.kw + s, tail, dy, index, at + k, bytes, out + k);
            }
        }
    }
}

/* The same for fewer channels than a vector has lanes: gradients and positions of a row of windows are repeated for the
 * pixels across a window, then all rows of pixels take from them with full vectors. */
NN_INLINE void nn_max_narrow_dx(nn_dim rows, nn_pool2d g, const nn_real *dy, const void *index, int bytes, nn_real *dx)
{
    nn_real d[(NN_POOL_SOME * NN_POOL_WIDTH + 1) * NN_VL];
    nn_rint at[(NN_POOL_SOME * NN_POOL_WIDTH + 1) * NN_VL]; /* positions less the pixel's own column */
    const nn_dim all = rows * g.oh * g.ow * g.c;
    for (nn_dim i = 0; i < rows * g.oh; i++) {
        const nn_dim n = i / g.oh, ih = i % g.oh * g.kh, down = nn_min_dim(g.kh, g.h - ih);
        for (nn_dim ow = 0; ow < g.ow; ow += NN_POOL_SOME) {
            const nn_dim across = nn_min_dim(g.w - ow * g.kw, NN_POOL_SOME * g.kw), size = across * g.c;
            nn_dim from = (i * g.ow + ow) * g.c, to = 0;
            for (nn_dim s = 0; s < across; s += g.kw, from += g.c) {
                const int lanes = from + NN_VL <= all ? NN_VL : (int)g.c;
                const nn_vec value = nn_load_lanes(dy + from, lanes);
                const nn_ivec where = nn_load_index(index, from, lanes, bytes);
                for (nn_dim k = 0; k < nn_min_dim(g.kw, across - s); k++, to += g.c) {
                    const nn_ivec column = where - ((nn_rint)k - (nn_ivec){ 0 });
                    nn_store(d + to, value);
                    memcpy(at + to, &column, sizeof column);
                }
            }
            for (nn_dim r = 0; r < down; r++) {
                nn_real *out = dx + ((n * g.h + ih + r) * g.w + ow * g.kw) * g.c;
                for (nn_dim j = 0; j < size; j += NN_VL) {
                    nn_ivec here;
                    memcpy(&here, at + j, sizeof here);
                    const nn_ivec own = here == (nn_rint)(r * g.kw) - (nn_ivec){ 0 };
                    nn_store_lanes(out + j, nn_select(own, nn_load(d + j), (nn_vec){ 0 }),
                                   (int)nn_min_dim(NN_VL, size - j));
                }
            }
        }
    }
}

NN_INLINE void nn_max_window_dx(nn_pool2d g, nn_dim ih, nn_dim iw, nn_dim k, int n, const nn_real *dy,
                                const void *index, nn_dim at_y, int bytes, nn_real *dx)
{
    const nn_vec d = nn_load_lanes(dy + at_y, n);
    const nn_ivec at = nn_load_index(index, at_y, n, bytes);
    for (nn_dim r = 0; r < g.kh; r++) {
        const nn_dim i = ih + r * g.dil_h;
        if (i < 0 || i >= g.h) continue;
        for (nn_dim s = 0; s < g.kw; s++) {
            const nn_dim j = iw + s * g.dil_w;
            if (j < 0 || j >= g.w) continue;
            const nn_ivec here = (nn_ivec)(at == (nn_rint)(r * g.kw + s) - (nn_ivec){ 0 });
            nn_real *out = dx + (i * g.w + j) * g.c + k;
            nn_store_lanes(out, nn_load_lanes(out, n) + nn_select(here, d, (nn_vec){ 0 }), n);
        }
    }
}

/* dx: each dy at its window's maximum. Windows are visited in order, so overlapping ones add in order. */
NN_INLINE void nn_max_pool2d_dx(nn_dim rows, nn_pool2d g, const nn_real *dy, const void *index, int bytes, nn_real *dx)
{
    const int tail = (int)(g.c % NN_VL);
    if (nn_pool_partition(g)) {
        if (g.c < NN_VL && g.kw <= NN_POOL_WIDTH)
            nn_max_narrow_dx(rows, g, dy, index, bytes, dx);
        else
            nn_max_parts_dx(rows, g, dy, index, bytes, dx);
        return;
    }
    memset(dx, 0, (size_t)(rows * g.h * g.w * g.c) * sizeof *dx);
    for (nn_dim n = 0; n < rows; n++)
        for (nn_dim oh = 0; oh < g.oh; oh++)
            for (nn_dim ow = 0; ow < g.ow; ow++) {
                const nn_dim ih = oh * g.step_h - g.pad_top, iw = ow * g.step_w - g.pad_left;
                const nn_dim at = ((n * g.oh + oh) * g.ow + ow) * g.c;
                nn_real *dxn = dx + n * g.h * g.w * g.c;
                nn_dim k = 0;
                for (; k + NN_VL <= g.c; k += NN_VL)
                    nn_max_window_dx(g, ih, iw, k, NN_VL, dy, index, at + k, bytes, dxn);
                if (tail) nn_max_window_dx(g, ih, iw, k, tail, dy, index, at + k, bytes, dxn);
            }
}

NN_INLINE void nn_max_pool2d_dx_u8(nn_dim rows, nn_pool2d g, const nn_real *dy, const uint8_t *index, nn_real *dx)
{
    nn_max_pool2d_dx(rows, g, dy, index, 1, dx);
}

NN_INLINE void nn_max_pool2d_dx_i32(nn_dim rows, nn_pool2d g, const nn_real *dy, const int32_t *index, nn_real *dx)
{
    nn_max_pool2d_dx(rows, g, dy, index, 4, dx);
}

/* y: of each window of x the element at index; padding is never picked. */
NN_INLINE void nn_max_pool2d_pick(nn_dim rows, nn_pool2d g, const nn_real *x, const void *index, int bytes, nn_real *y)
{
    for (nn_dim n = 0; n < rows; n++)
        for (nn_dim oh = 0; oh < g.oh; oh++)
            for (nn_dim ow = 0; ow < g.ow; ow++) {
                const nn_dim ih = oh * g.step_h - g.pad_top, iw = ow * g.step_w - g.pad_left;
                const nn_dim at = ((n * g.oh + oh) * g.ow + ow) * g.c;
                for (nn_dim k = 0; k < g.c; k++) {
                    const nn_dim p = bytes == 1 ? ((const uint8_t *)index)[at + k] : ((const int32_t *)index)[at + k];
                    const nn_dim i = ih + p / g.kw * g.dil_h, j = iw + p % g.kw * g.dil_w;
                    y[at + k] = x[((n * g.h + i) * g.w + j) * g.c + k];
                }
            }
}

NN_INLINE void nn_max_pool2d_pick_u8(nn_dim rows, nn_pool2d g, const nn_real *x, const uint8_t *index, nn_real *y)
{
    nn_max_pool2d_pick(rows, g, x, index, 1, y);
}

NN_INLINE void nn_max_pool2d_pick_i32(nn_dim rows, nn_pool2d g, const nn_real *x, const int32_t *index, nn_real *y)
{
    nn_max_pool2d_pick(rows, g, x, index, 4, y);
}

/* ---- averages ---- */

/* 1 / number of positions of the window at (ih, iw) that count: those in the image, or in the padded image. */
NN_INLINE nn_real nn_avg_weight(nn_pool2d g, int count_pad, nn_dim end_h, nn_dim end_w, nn_dim ih, nn_dim iw)
{
    nn_dim h = nn_min_dim(ih + g.kh, count_pad ? end_h : g.h) - (count_pad ? ih : nn_max_dim(ih, 0));
    nn_dim w = nn_min_dim(iw + g.kw, count_pad ? end_w : g.w) - (count_pad ? iw : nn_max_dim(iw, 0));
    return (nn_real)1 / (nn_real)(h * w);
}

/* y = sum over the window / count. end_h, end_w: end of the bottom and right padding. */
NN_INLINE void nn_avg_pool2d(nn_dim rows, nn_pool2d g, int count_pad, nn_dim end_h, nn_dim end_w, const nn_real *x,
                             nn_real *y)
{
    const int tail = (int)(g.c % NN_VL);
    for (nn_dim n = 0; n < rows; n++)
        for (nn_dim oh = 0; oh < g.oh; oh++)
            for (nn_dim ow = 0; ow < g.ow; ow++) {
                const nn_dim ih = oh * g.step_h - g.pad_top, iw = ow * g.step_w - g.pad_left;
                const nn_dim r0 = nn_max_dim(ih, 0), r1 = nn_min_dim(ih + g.kh, g.h);
                const nn_dim s0 = nn_max_dim(iw, 0), s1 = nn_min_dim(iw + g.kw, g.w);
                const nn_real weight = nn_avg_weight(g, count_pad, end_h, end_w, ih, iw);
                const nn_real *xn = x + n * g.h * g.w * g.c;
                nn_real *out = y + ((n * g.oh + oh) * g.ow + ow) * g.c;
                nn_dim k = 0;
                for (; k + NN_VL <= g.c; k += NN_VL) {
                    nn_vec sum = { 0 };
                    for (nn_dim r = r0; r < r1; r++)
                        for (nn_dim s = s0; s < s1; s++) sum += nn_load(xn + (r * g.w + s) * g.c + k);
                    nn_store(out + k, sum * nn_splat(weight));
                }
                if (tail) {
                    nn_vec sum = { 0 };
                    for (nn_dim r = r0; r < r1; r++)
                        for (nn_dim s = s0; s < s1; s++) sum += nn_load_part(xn + (r * g.w + s) * g.c + k, tail, 0);
                    nn_store_part(out + k, sum * nn_splat(weight), tail);
                }
            }
}

NN_INLINE void nn_avg_pool2d_dx(nn_dim rows, nn_pool2d g, int count_pad, nn_dim end_h, nn_dim end_w, const nn_real *dy,
                                nn_real *dx)
{
    const int tail = (int)(g.c % NN_VL), add = !nn_pool_partition(g);
    if (add) memset(dx, 0, (size_t)(rows * g.h * g.w * g.c) * sizeof *dx);
    for (nn_dim n = 0; n < rows; n++)
        for (nn_dim oh = 0; oh < g.oh; oh++)
            for (nn_dim ow = 0; ow < g.ow; ow++) {
                const nn_dim ih = oh * g.step_h - g.pad_top, iw = ow * g.step_w - g.pad_left;
                const nn_dim r0 = nn_max_dim(ih, 0), r1 = nn_min_dim(ih + g.kh, g.h);
                const nn_dim s0 = nn_max_dim(iw, 0), s1 = nn_min_dim(iw + g.kw, g.w);
                const nn_vec weight = nn_splat(nn_avg_weight(g, count_pad, end_h, end_w, ih, iw));
                const nn_real *d = dy + ((n * g.oh + oh) * g.ow + ow) * g.c;
                nn_real *dxn = dx + n * g.h * g.w * g.c;
                nn_dim k = 0;
                for (; k + NN_VL <= g.c; k += NN_VL) {
                    const nn_vec v = nn_load(d + k) * weight;
                    for (nn_dim r = r0; r < r1; r++)
                        for (nn_dim s = s0; s < s1; s++) {
                            nn_real *out = dxn + (r * g.w + s) * g.c + k;
                            nn_store(out, add ? nn_load(out) + v : v);
                        }
                }
                if (tail) {
                    const nn_vec v = nn_load_part(d + k, tail, 0) * weight;
                    for (nn_dim r = r0; r < r1; r++)
                        for (nn_dim s = s0; s < s1; s++) {
                            nn_real *out = dxn + (r * g.w + s) * g.c + k;
                            nn_store_part(out, add ? nn_load_part(out, tail, 0) + v : v, tail);
                        }
                }
            }
}

/* ---- whole images: `channels` channels c_step apart with `inner` positions i_step apart ---- */

NN_INLINE void nn_global_avg_pool(nn_dim rows, nn_dim channels, nn_dim inner, nn_dim c_step, nn_dim i_step,
                                  const nn_real *x, nn_real *y)
{
    const nn_real weight = (nn_real)1 / (nn_real)inner;
    for (nn_dim n = 0; n < rows; n++) {
        const nn_real *xn = x + n * channels * inner;
        nn_dim c = 0;
        if (c_step == 1)
            for (; c + NN_VL <= channels; c += NN_VL) {
                nn_vec sum = { 0 };
                for (nn_dim i = 0; i < inner; i++) sum += nn_load(xn + c + i * i_step);
                nn_store(y + n * channels + c, sum * nn_splat(weight));
            }
        for (; c < channels; c++) {
            nn_real sum = 0;
            for (nn_dim i = 0; i < inner; i++) sum += xn[c * c_step + i * i_step];
            y[n * channels + c] = sum * weight;
        }
    }
}

/* index may be NULL. */
NN_INLINE void nn_global_max_pool(nn_dim rows, nn_dim channels, nn_dim inner, nn_dim c_step, nn_dim i_step,
                                  const nn_real *x, nn_real *y, int32_t *index)
{
    for (nn_dim n = 0; n < rows; n++)
        for (nn_dim c = 0; c < channels; c++) {
            const nn_real *xc = x + n * channels * inner + c * c_step;
            nn_real best = xc[0];
            nn_dim at = 0;
            for (nn_dim i = 1; i < inner; i++) {
                const nn_real v = xc[i * i_step];
                if (v > best || isnan(v)) {
                    best = v;
                    at = i;
                }
            }
            y[n * channels + c] = best;
            if (index) index[n * channels + c] = (int32_t)at;
        }
}

NN_INLINE void nn_global_max_pool_dx(nn_dim rows, nn_dim channels, nn_dim inner, nn_dim c_step, nn_dim i_step,
                                     const nn_real *dy, const int32_t *index, nn_real *dx)
{
    memset(dx, 0, (size_t)(rows * channels * inner) * sizeof *dx);
    for (nn_dim n = 0; n < rows; n++)
        for (nn_dim c = 0; c < channels; c++)
            dx[n * channels * inner + c * c_step + index[n * channels + c] * i_step] = dy[n * channels + c];
}

/* y: `windows` elements of each channel of x, at the positions in index, which lies in memory like y. */
NN_INLINE void nn_pool_pick(nn_dim rows, nn_dim channels, nn_dim inner, nn_dim windows, nn_dim x_channel, nn_dim x_step,
                            nn_dim y_channel, nn_dim y_step, const nn_real *x, const int32_t *index, nn_real *y)
{
    for (nn_dim n = 0; n < rows; n++, x += channels * inner, y += channels * windows, index += channels * windows)
        for (nn_dim i = 0; i < windows; i++)
            for (nn_dim c = 0; c < channels; c++) {
                const nn_dim at = c * y_channel + i * y_step;
                y[at] = x[c * x_channel + index[at] * x_step];
            }
}

#endif
