/* SPDX-License-Identifier: MIT
 *
 * Convolution of 3x3 kernels, stride 1, by Winograd's algorithms F(2x2, 3x3) and F(4x4, 3x3): 16 multiplications for
 * four results, or 36 for 16, instead of 36 and 144. An image is cut into tiles of 2x2 or 4x4 outputs (nn_tiles_4x4);
 * what a tile reads is 4x4 or 6x6 pixels d. With the transforms of winograd_transform.h,
 *
 *   V = B^T d B,  U = G w G^T,  M = sum over channels of V * U, element by element,  y = A^T M A
 *
 * the sums over channels are matrix products of tiles by output channels, one for each element e of the square. The
 * gradient of the input is the same convolution with the kernels turned round and transposed. The gradient of the
 * weights is the adjoint: dU = sum over tiles of V * (A dy A^T), dw = G^T dU G.
 *
 * In: channels-last images, weights [3][3][I][O], as for conv2d.h; any padding, any size. Tiles that stick out of the
 * image read zeros there and store only what is inside. Invariant: a result depends on its own tile alone (dw: on
 * parts of the tiles fixed by the problem), so its bits do not depend on the team or on how tiles are grouped.
 */
#ifndef NN_KERNELS_WINOGRAD_H
#define NN_KERNELS_WINOGRAD_H

#include "kernels/conv2d.h"
#include "kernels/winograd_transform.h"

/* A thread transforms a block of tiles at a time, which stays in a near cache: at most so many reals, which allows
 * NN_WINOGRAD_CHANNELS input channels (less than half of them by large tiles), and so many tiles. Each block passes
 * over all of U: where that comes from a far cache, blocks are as large as the next one holds. */
enum { NN_WINOGRAD_CHANNELS = 2048 };
enum { NN_WINOGRAD_BLOCK = 32768, NN_WINOGRAD_TILES = 16 };
enum { NN_WINOGRAD_FAR_BLOCK = NN_VL > 1 ? 131072 : NN_WINOGRAD_BLOCK, NN_WINOGRAD_FAR_TILES = 32 };

/* Elements of V, M and W lie this much further apart than their tiles need: equal distances of a power of two would
 * send all of them to one set of the cache. */
#define NN_WINOGRAD_GAP NN_VL

/* Of the largest tile: outputs and pixels along a side, and elements. */
enum { NN_WINOGRAD_SIDE = 4, NN_WINOGRAD_REACH = 6, NN_WINOGRAD_ELEMENTS = 36 };

/* Steps of a transform, for each row or column. The 16 vectors of a small tile stay in registers; the 36 of a large one
 * would be spilled, so it goes through a loop from one array to the next. */
#define NN_WINOGRAD_EACH(side, i, n, step)        \
    do {                                          \
        if ((side) == 2) {                        \
            NN_UNROLL_FULL                        \
            for (int i = 0; i < (n); i++) step;   \
        } else {                                  \
            NN_UNROLL(1)                          \
            for (int i = 0; i < (n); i++) step;   \
        }                                         \
    } while (0)

_Static_assert(NN_VL <= 16, "scratch is planned for vectors of up to 16 lanes");

static const nn_real nn_winograd_zero[NN_VL] __attribute__((unused));

NN_INLINE nn_dim nn_winograd_wide(nn_dim channels)
{
    return (channels + NN_VL - 1) / NN_VL * NN_VL;
}

/* The same convolution by tiles of 4x4 outputs. */
NN_INLINE nn_conv nn_tiles_4x4(nn_conv c)
{
    c.tile = 4;
    return c;
}

/* Outputs along a side of a tile, and elements of what it reads, both literals. */
NN_INLINE int nn_winograd_side(nn_conv c)
{
    return c.tile == 4 ? 4 : 2;
}

NN_INLINE int nn_winograd_elements(nn_conv c)
{
    return (nn_winograd_side(c) + 2) * (nn_winograd_side(c) + 2);
}

/* Rows and columns of tiles of one image, and all of them. */
NN_INLINE nn_dim nn_winograd_down(nn_conv c)
{
    return (c.oh + nn_winograd_side(c) - 1) / nn_winograd_side(c);
}

NN_INLINE nn_dim nn_winograd_across(nn_conv c)
{
    return (c.ow + nn_winograd_side(c) - 1) / nn_winograd_side(c);
}

NN_INLINE nn_dim nn_winograd_tiles(nn_conv c)
{
    return nn_winograd_down(c) * nn_winograd_across(c);
}

/* Vectors of output channels that are computed together. */
NN_INLINE int nn_winograd_group(nn_dim cols)
{
    return cols <= NN_VL ? 1 : 2;
}

/* Whether U is far, and reals and tiles of a block. */
NN_INLINE int nn_winograd_far(nn_conv c)
{
    return nn_winograd_elements(c) * c.ci * c.co > NN_NEAR;
}

NN_INLINE nn_dim nn_winograd_reals(nn_conv c)
{
    return nn_winograd_far(c) ? NN_WINOGRAD_FAR_BLOCK : NN_WINOGRAD_BLOCK;
}

/* Tiles in a register tile, a literal; a divisor of those of an image where these are enough. */
NN_INLINE int nn_winograd_rows(nn_conv c)
{
    const int group = nn_winograd_group(c.co),
              most = group == 1 ? (NN_TILE_ACC > 16 ? 16 : 8) : NN_TILE_ACC / group,
              fit = (int)nn_min_dim(most, nn_winograd_reals(c) / (nn_winograd_elements(c) * nn_winograd_wide(c.ci)));
    return nn_tile_rows_and_rest(nn_max_dim(8, nn_winograd_tiles(c)), group, fit);
}

/* Tiles in a block. */
NN_INLINE nn_dim nn_winograd_block(nn_conv c)
{
    const nn_dim mr = nn_winograd_rows(c), most = nn_winograd_far(c) ? NN_WINOGRAD_FAR_TILES : NN_WINOGRAD_TILES;
    return nn_min_dim(most, nn_winograd_reals(c) / (nn_winograd_elements(c) * nn_winograd_wide(c.ci))) / mr * mr;
}

/* ---- weights: U[group of columns][e][row][column], groups as in nn_winograd_group ---- */

NN_INLINE nn_real *nn_winograd_u(int side, nn_dim rows, nn_dim cols, nn_dim row, nn_dim col, nn_real *u,
                                 nn_dim *e_next)
{
    const nn_dim width = nn_winograd_group(cols) * NN_VL, g = col / width;
    const nn_dim here = nn_min_dim(width, nn_winograd_wide(cols) - g * width);
    *e_next = rows * here;
    return u + (side + 2) * (side + 2) * rows * g * width + row * here + col % width;
}

/* Row i of a kernel's square from its columns. */
NN_INLINE void nn_winograd_weight_row(int side, int i, nn_vec (*t)[NN_WINOGRAD_REACH], nn_real *u, nn_dim e_next)
{
    nn_vec row[NN_WINOGRAD_REACH];
    nn_winograd_of_weights(side, t[0][i], t[1][i], t[2][i], row);
    NN_UNROLL_FULL
    for (int j = 0; j < side + 2; j++) {
        const nn_vec scale = nn_splat(nn_winograd_scale(side, i) * nn_winograd_scale(side, j));
        nn_store(u + ((side + 2) * i + j) * e_next, row[j] * scale);
    }
}

/* One vector of kernels w[3][3] to u[side + 2][side + 2], e_next apart. */
NN_INLINE void nn_winograd_weight(int side, nn_vec (*w)[3], nn_real *u, nn_dim e_next)
{
    nn_vec t[3][NN_WINOGRAD_REACH];
    NN_UNROLL_FULL
    for (int s = 0; s < 3; s++) nn_winograd_of_weights(side, w[0][s], w[1][s], w[2][s], t[s]);
    NN_WINOGRAD_EACH(side, i, side + 2, nn_winograd_weight_row(side, i, t, u, e_next));
}

NN_INLINE nn_vec nn_winograd_load(const nn_real *p, nn_dim n)
{
    return n >= NN_VL ? nn_load(p) : nn_load_part(p, n, 0);
}

/* U of a convolution; the team divides the rows. */
NN_INLINE void nn_winograd_weights(const nn_team *team, int side, nn_dim rows, nn_dim cols, const nn_real *w,
                                   nn_real *u)
{
    nn_dim from, to, e_next;
    nn_share(team->rank, team->size, rows, 1, &from, &to);
    for (nn_dim k = 0; k < cols; k += NN_VL)
        for (nn_dim c = from; c < to; c++) {
            nn_vec t[3][3];
            NN_UNROLL_FULL
            for (int r = 0; r < 9; r++)
                t[r / 3][r % 3] = nn_winograd_load(w + (r * rows + c) * cols + k, cols - k);
            nn_real *out = nn_winograd_u(side, rows, cols, c, k, u, &e_next);
            nn_winograd_weight(side, t, out, e_next);
        }
}

/* U of the gradient of the input of a convolution with weights [3][3][cols][rows]: transposed and turned round. */
NN_INLINE void nn_winograd_weights_dx(const nn_team *team, int side, nn_dim rows, nn_dim cols,
                                      const nn_real *w, nn_real *u)
{
    nn_dim from, to, e_next;
    nn_share(team->rank, team->size, rows, NN_VL, &from, &to);
    for (nn_dim k = from; k < to; k += NN_VL)
        for (nn_dim c = 0; c < cols; c += NN_VL) {
            nn_vec turned[9][NN_VL];
            const nn_dim n = nn_min_dim(NN_VL, cols - c);
            for (int r = 0; r < 9; r++) {
                nn_vec v[NN_VL];
                for (nn_dim i = 0; i < NN_VL; i++)
                    v[i] = i < n ? nn_winograd_load(w + (r * cols + c + i) * rows + k, to - k)
                                 : (nn_vec){ 0 };
                nn_transpose_square(v, turned[8 - r]);
            }
            for (nn_dim i = 0; i < nn_min_dim(NN_VL, to - k); i++) {
                nn_vec t[3][3];
                NN_UNROLL_FULL
                for (int r = 0; r < 9; r++) t[r / 3][r % 3] = turned[r][i];
                nn_real *out = nn_winograd_u(side, rows, cols, k + i, c, u, &e_next);
                nn_winograd_weight(side, t, out, e_next);
            }
        }
}

/* ---- input: V[e][tile][channel] ---- */

/* One column of a row of tiles, transformed downwards: t = B^T d. p[r] is row r of the tiles, step[r] the distance of
 * its pixels (0 where the row lies outside the image: p[r] is zero then). */
NN_INLINE void nn_winograd_column(int side, int last, int tail, nn_dim width, const nn_real *const *p,
                                  const nn_dim *step, nn_dim iw, nn_vec *t)
{
    nn_vec d[NN_WINOGRAD_REACH] = { { 0 } };
    if (iw < 0 || iw >= width) {
        NN_UNROLL_FULL
        for (int r = 0; r < side + 2; r++) t[r] = (nn_vec){ 0 };
        return;
    }
    NN_UNROLL_FULL
    for (int r = 0; r < side + 2; r++) d[r] = nn_load_tail(p[r] + iw * step[r], last, tail);
    nn_winograd_of_pixels(side, d, t);
}

/* Row r of V's square from its columns, of which the next tile begins with the last two. */
NN_INLINE void nn_winograd_pixel_row(int side, int r, nn_vec (*a)[NN_WINOGRAD_REACH], nn_real *v, nn_dim e_next)
{
    nn_vec d[NN_WINOGRAD_REACH] = { { 0 } }, t[NN_WINOGRAD_REACH];
    NN_UNROLL_FULL
    for (int i = 0; i < side + 2; i++) d[i] = a[i][r];
    nn_winograd_of_pixels(side, d, t);
    NN_UNROLL_FULL
    for (int i = 0; i < side + 2; i++) nn_store(v + ((side + 2) * r + i) * e_next, t[i]);
    a[0][r] = d[side];
    a[1][r] = d[side + 1];
}

/* `count` neighbouring tiles of a row of tiles for one vector of channels. Neighbours share two columns. */
NN_INLINE void nn_winograd_stripe(int last, int tail, nn_conv c, nn_dim count, nn_dim ih, nn_dim iw,
                                  const nn_real *x, nn_real *v, nn_dim e_next, nn_dim t_next)
{
    const int side = nn_winograd_side(c);
    const nn_real *p[NN_WINOGRAD_REACH];
    nn_dim step[NN_WINOGRAD_REACH];
    nn_vec a[NN_WINOGRAD_REACH][NN_WINOGRAD_REACH]; /* column, row */
    NN_UNROLL_FULL
    for (int r = 0; r < side + 2; r++) {
        const int inside = ih + r >= 0 && ih + r < c.h;
        p[r] = inside ? x + (ih + r) * c.w * c.ci : nn_winograd_zero;
        step[r] = inside ? c.ci : 0;
    }
    nn_winograd_column(side, last, tail, c.w, p, step, iw, a[0]);
    nn_winograd_column(side, last, tail, c.w, p, step, iw + 1, a[1]);
    iw += 2;
    for (nn_dim j = 0; j < count; j++, v += t_next, iw += side) {
        NN_WINOGRAD_EACH(side, i, side, nn_winograd_column(side, last, tail, c.w, p, step, iw + i, a[2 + i]));
        NN_WINOGRAD_EACH(side, r, side + 2, nn_winograd_pixel_row(side, r, a, v, e_next));
    }
}

/* Tiles [t0, t1) of all images: V from channel c0 to c1 (c0 a multiple of NN_VL). */
NN_INLINE void nn_winograd_input(nn_conv c, nn_dim t0, nn_dim t1, nn_dim c0, nn_dim c1,
                                 const nn_real *x, nn_real *v, nn_dim e_next, nn_dim t_next)
{
    const nn_dim th = nn_winograd_down(c), tw = nn_winograd_across(c), side = nn_winograd_side(c);
    const int tail = (int)(c.ci % NN_VL);
    for (nn_dim t = t0, count; t < t1; t += count, v += count * t_next) {
        const nn_dim j = t % tw, i = t / tw % th, n = t / (tw * th);
        const nn_real *image = x + n * c.h * c.w * c.ci;
        count = nn_min_dim(tw - j, t1 - t);
        nn_dim k = c0;
        for (; k < c1 && k + NN_VL <= c.ci; k += NN_VL)
            nn_winograd_stripe(0, 0, c, count, side * i - c.pad_top, side * j - c.pad_left, image + k,
                               v + k, e_next, t_next);
        if (tail && k < c1)
            nn_winograd_stripe(1, tail, c, count, side * i - c.pad_top, side * j - c.pad_left, image + k,
                               v + k, e_next, t_next);
    }
}

/* Asks for the next tiles' memory while the products of these run: they touch little of it at a time, in pieces too
 * short for the hardware to see a pattern. As many pixels as it has outputs are new in each tile. */
NN_INLINE void nn_winograd_ask(const nn_real *p, nn_dim n, int write)
{
    for (nn_dim i = 0; i < n; i += 64 / NN_REAL_BYTES) {
        if (write)
            __builtin_prefetch(p + i, 1);
        else
            __builtin_prefetch(p + i, 0);
    }
}

NN_INLINE void nn_winograd_ask_input(nn_conv c, nn_dim t0, nn_dim t1, const nn_real *x)
{
    const nn_dim th = nn_winograd_down(c), tw = nn_winograd_across(c), side = nn_winograd_side(c);
    for (nn_dim t = t0; t < t1; t++) {
        const nn_dim j = t % tw, i = t / tw % th, n = t / (tw * th);
        const nn_dim ih = side * i - c.pad_top + 2, iw = side * j - c.pad_left + 1;
        for (nn_dim r = 0; r < side; r++)
            if (ih + r >= 0 && ih + r < c.h && iw >= 0 && iw + side <= c.w)
                nn_winograd_ask(x + ((n * c.h + ih + r) * c.w + iw) * c.ci, side * c.ci, 0);
    }
}

/* y or dy: the pixels of the tiles, n channels of them. */
NN_INLINE void nn_winograd_ask_output(nn_conv c, nn_dim t0, nn_dim t1, nn_dim n, const nn_real *y,
                                      int write)
{
    const nn_dim th = nn_winograd_down(c), tw = nn_winograd_across(c), side = nn_winograd_side(c);
    for (nn_dim t = t0; t < t1; t++) {
        const nn_dim j = t % tw, i = t / tw % th, image = t / (tw * th);
        for (nn_dim r = 0; r < side; r++)
            if (side * i + r < c.oh && side * (j + 1) <= c.ow) {
                const nn_real *p = y + ((image * c.oh + side * i + r) * c.ow + side * j) * c.co;
                for (nn_dim s = 0; s < side; s++) nn_winograd_ask(p + s * c.co, n, write);
            }
    }
}

/* Tensors that lie like the result and are wanted right behind it: tiles ask for their part of them, too. */
typedef struct nn_beside {
    const nn_real *at[3]; /* NULL: fewer */
} nn_beside;

NN_INLINE void nn_winograd_ask_beside(nn_conv c, nn_dim t0, nn_dim t1, nn_dim k, nn_dim n, nn_beside b)
{
    NN_UNROLL_FULL
    for (int i = 0; i < 3; i++)
        if (b.at[i]) nn_winograd_ask_output(c, t0, t1, n, b.at[i] + k, 0);
}

/* ---- output ---- */

/* Column e of the sums, transformed downwards. */
NN_INLINE void nn_winograd_sum_column(int side, int e, const nn_real *m, nn_dim e_next, nn_vec (*s)[NN_WINOGRAD_SIDE])
{
    nn_vec d[NN_WINOGRAD_REACH] = { { 0 } };
    NN_UNROLL_FULL
    for (int r = 0; r < side + 2; r++) d[r] = nn_load(m + ((side + 2) * r + e) * e_next);
    nn_winograd_of_sums(side, d, s[e]);
}

/* `wide` pixels of row h of a tile, k_next apart, at y and add. */
NN_INLINE void nn_winograd_result_row(int side, int h, int last, int tail, int relu, nn_vec (*s)[NN_WINOGRAD_SIDE],
                                      nn_dim wide, nn_dim k_next, nn_vec b, const nn_real *add, nn_real *y)
{
    nn_vec d[NN_WINOGRAD_REACH] = { { 0 } }, r[NN_WINOGRAD_SIDE];
    NN_UNROLL_FULL
    for (int e = 0; e < side + 2; e++) d[e] = s[e][h];
    nn_winograd_of_sums(side, d, r);
    NN_UNROLL_FULL
    for (int w = 0; w < side; w++) {
        if (w >= wide) continue;
        r[w] += b;
        if (add) r[w] += nn_load_tail(add + w * k_next, last, tail);
        if (relu) r[w] = nn_relu(r[w]);
        nn_store_tail(y + w * k_next, r[w], last, tail);
    }
}

/* Outputs of row or column t of tiles that lie in an image of n; a literal where all do. */
NN_INLINE nn_dim nn_winograd_inside(int side, nn_dim n, nn_dim t)
{
    return n % side == 0 ? side : nn_min_dim(side, n - side * t);
}

/* y = A^T M A + bias + add for tiles [t0, t0 + count) and nv vectors of channels; `add` lies like y, or is NULL. */
NN_INLINE void nn_winograd_output(int nv, int tail, int relu, nn_conv c, nn_dim t0, nn_dim count,
                                  const nn_real *m, nn_dim e_next, nn_dim t_next,
                                  const nn_real *bias, const nn_real *add, nn_real *y)
{
    const int side = nn_winograd_side(c);
    const nn_dim th = nn_winograd_down(c), tw = nn_winograd_across(c);
    for (nn_dim q = 0; q < count; q++, m += t_next) {
        const nn_dim t = t0 + q, j = t % tw, i = t / tw % th, n = t / (tw * th);
        const nn_dim at = ((n * c.oh + side * i) * c.ow + side * j) * c.co, line = c.ow * c.co,
                     high = nn_winograd_inside(side, c.oh, i), wide = nn_winograd_inside(side, c.ow, j);
        for (int k = 0; k < nv; k++) {
            const int last = k == nv - 1;
            const nn_vec b = bias ? nn_load_tail(bias + k * NN_VL, last, tail) : (nn_vec){ 0 };
            nn_real *const o = y + at + k * NN_VL;
            const nn_real *const plus = add ? add + at + k * NN_VL : NULL;
            nn_vec s[NN_WINOGRAD_REACH][NN_WINOGRAD_SIDE]; /* column of M, row of y */
            NN_WINOGRAD_EACH(side, e, side + 2, nn_winograd_sum_column(side, e, m + k * NN_VL, e_next, s));
            NN_WINOGRAD_EACH(side, h, side,
                             if (h < high) nn_winograd_result_row(side, h, last, tail, relu, s, wide, c.co, b,
                                                                  plus ? plus + h * line : NULL, o + h * line));
        }
    }
}

/* ---- forward ---- */

/* One register tile of a product: mr tiles of V, all channels, times nv vectors of columns of U. */
NN_INLINE void nn_winograd_product(int mr, int nv, nn_dim depth, const nn_real *v, nn_dim t_next, const nn_real *u,
                                   const nn_real *soon, nn_real *m, nn_dim m_row)
{
    nn_vec acc[NN_TILE_ROWS][NN_TILE_VECS];
    nn_tile_start(mr, nv, 0, NN_FROM_ZERO, NULL, m, m_row, acc);
    nn_tile_mul_ask(mr, nv, depth, v, t_next, 1, u, nv * NN_VL, soon, acc);
    nn_tile_end(mr, nv, 0, 0, m, m_row, acc);
}

/* Tiles of few registers, each compiled once for all layers. */
#define NN_WINOGRAD_TILE(mr)                                                                                        \
    NN_SHARED_TILE void nn_winograd_tile_##mr(nn_dim depth, const nn_real *v, nn_dim t_next, const nn_real *u,      \
                                              nn_real *m, nn_dim m_row)                                             \
    {                                                                                                               \
        nn_winograd_product(mr, 2, depth, v, t_next, u, NULL, m, m_row);                                            \
    }
NN_WINOGRAD_TILE(6)
NN_WINOGRAD_TILE(4)
NN_WINOGRAD_TILE(2)
#undef NN_WINOGRAD_TILE

/* The products and the results of tiles [t0, t0 + count) for one group of columns, from column k on; u is the group's.
 * What the next product reads of a far U follows there; it is asked for meanwhile. */
NN_INLINE void nn_winograd_columns(int nv, int tail, int relu, nn_conv c, nn_dim t0, nn_dim count, nn_dim k,
                                   nn_real *v, nn_dim e_next, nn_dim t_next, const nn_real *u, const nn_real *bias,
                                   const nn_real *add, nn_beside beside, const nn_real *ahead, nn_real *y)
{
    nn_real apart[NN_WINOGRAD_ELEMENTS * (NN_WINOGRAD_FAR_TILES * 2 * NN_VL + NN_WINOGRAD_GAP)]
        __attribute__((aligned(64)));
    const int mr = nn_winograd_rows(c), elements = nn_winograd_elements(c);
    const nn_dim width = nv * NN_VL;
    /* A single group of columns that fits takes the place of V, whose rows are in registers by then. */
    const int inside = nn_winograd_wide(c.co) == width && width <= t_next;
    nn_real *const m = inside ? v : apart;
    const nn_dim m_row = inside ? t_next : width,
                 m_next = inside ? e_next : nn_winograd_block(c) * width + NN_WINOGRAD_GAP;
    for (nn_dim e = 0; e < elements; e++) {
        const nn_dim a0 = nn_cut(count, 1, e, elements), a1 = nn_cut(count, 1, e + 1, elements);
        if (ahead) nn_winograd_ask_input(c, t0 + count + a0, t0 + count + a1, ahead);
        nn_winograd_ask_output(c, t0 + a0, t0 + a1, width, y + k, 1);
        nn_winograd_ask_beside(c, t0 + a0, t0 + a1, k, width, beside);
        const nn_real *ue = u + e * c.ci * width, *soon = ue + c.ci * width;
        nn_dim t = 0;
        for (; nn_winograd_far(c) && t < count && soon < ue + 2 * c.ci * width; t += mr, soon += c.ci * NN_LINE)
            nn_winograd_product(mr, nv, c.ci, v + e * e_next + t * t_next, t_next, ue, soon, m + e * m_next + t * m_row,
                                m_row);
#define NN_OF_TILE v + e * e_next + t * t_next, t_next, ue
#define NN_TO_TILE m + e * m_next + t * m_row, m_row
        if (NN_TILE_FEW && nv == 2 && mr == 6) {
            for (; t + 6 <= count; t += 6) nn_winograd_tile_6(c.ci, NN_OF_TILE, NN_TO_TILE);
            if (t < count && count - t <= 2)
                nn_winograd_tile_2(c.ci, NN_OF_TILE, NN_TO_TILE);
            else if (t < count && count - t <= 4)
                nn_winograd_tile_4(c.ci, NN_OF_TILE, NN_TO_TILE);
            else if (t < count)
                nn_winograd_tile_6(c.ci, NN_OF_TILE, NN_TO_TILE);
        } else {
            for (; t < count; t += mr) nn_winograd_product(mr, nv, c.ci, NN_OF_TILE, NULL, NN_TO_TILE);
        }
#undef NN_OF_TILE
#undef NN_TO_TILE
    }
    nn_winograd_output(nv, tail, relu, c, t0, count, m, m_next, m_row, bias ? bias + k : NULL, add ? add + k : NULL,
                       y + k);
}

/* Tiles [from, to) of all images, and groups of columns [g0, g1), of y. */
NN_INLINE void nn_winograd_some(nn_dim from, nn_dim to, nn_dim g0, nn_dim g1, nn_conv c, int relu, const nn_real *x,
                                const nn_real *u, const nn_real *bias, const nn_real *add, nn_beside beside,
                                nn_real *y)
{
    nn_real v[NN_WINOGRAD_FAR_BLOCK + NN_WINOGRAD_ELEMENTS * NN_WINOGRAD_GAP] __attribute__((aligned(64)));
    const nn_dim block = nn_winograd_block(c), mr = nn_winograd_rows(c),
                 t_next = nn_winograd_wide(c.ci), e_next = block * t_next + NN_WINOGRAD_GAP;
    const int group = nn_winograd_group(c.co), elements = nn_winograd_elements(c);
    const nn_dim n_vec = (c.co + NN_VL - 1) / NN_VL, n_main = c.co / NN_VL / group;
    const int rest = (int)(n_vec - n_main * group), tail = (int)(c.co % NN_VL);
    for (nn_dim t = from; t < to; t += block) {
        const nn_dim count = nn_min_dim(block, to - t);
        const nn_real *ahead = t + 2 * block <= to ? x : NULL;
        nn_winograd_input(c, t, t + count, 0, c.ci, x, v, e_next, t_next);
        for (nn_dim e = 0; e < elements && count % mr; e++)
            memset(v + e * e_next + count * t_next, 0,
                   (size_t)((mr - count % mr) * t_next) * sizeof *v);
        nn_dim g = g0, k = g0 * group * NN_VL;
        for (; g < nn_min_dim(g1, n_main); g++, k += group * NN_VL)
            nn_winograd_columns(group, 0, relu, c, t, count, k, v, e_next, t_next, u + elements * c.ci * k, bias, add,
                                beside, g == g0 ? ahead : NULL, y);
        if (rest && g1 > n_main)
            nn_winograd_columns(rest, tail, relu, c, t, count, k, v, e_next, t_next, u + elements * c.ci * k, bias, add,
                                beside, g == g0 ? ahead : NULL, y);
    }
}

NN_INLINE nn_dim nn_winograd_groups(nn_conv c)
{
    const nn_dim width = nn_winograd_group(c.co) * NN_VL;
    return (c.co + width - 1) / width;
}

/* A part of the tiles of `rows` samples and of the groups of columns of y. */
NN_INLINE void nn_winograd_part(nn_part part, nn_dim rows, nn_conv c, int relu, const nn_real *x, const nn_real *u,
                                const nn_real *bias, const nn_real *add, nn_real *y)
{
    nn_dim from, to, g0, g1;
    nn_share(part.row, part.rows, rows * nn_winograd_tiles(c), nn_winograd_rows(c), &from, &to);
    nn_share(part.col, part.cols, nn_winograd_groups(c), 1, &g0, &g1);
    nn_winograd_some(from, to, g0, g1, c, relu, x, u, bias, add, (nn_beside){ { NULL } }, y);
}

/* Threads divide the groups of columns where U is more than the images, so that each element of it is read by one. */
NN_INLINE nn_part nn_winograd_part_of(const nn_team *team, nn_dim rows, nn_conv c)
{
    return nn_part_of(team, nn_winograd_elements(c) * c.ci * c.co, rows * c.h * c.w * c.ci,
                      c.co / NN_VL / nn_winograd_group(c.co));
}

/* `rows` samples of y = conv(x, w) + bias + add, then relu if asked, from U; bias and add may be NULL. */
NN_INLINE void nn_conv2d_winograd_u(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                    const nn_real *u, const nn_real *bias, const nn_real *add, nn_real *y)
{
    nn_winograd_part(nn_winograd_part_of(team, rows, c), rows, c, relu, x, u, bias, add, y);
}

/* The same where both U and panels (nn_conv2d_panels_weights) are kept: one sample takes the panels, which are fewer to
 * read, so its last bits may differ from those it has among others. */
NN_INLINE void nn_conv2d_prepared(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                  const nn_real *u, const nn_real *panels, const nn_real *bias, const nn_real *add,
                                  nn_real *y)
{
    if (rows == 1)
        nn_conv2d_panels(team, 1, c, relu, x, panels, bias, add, y);
    else
        nn_conv2d_winograd_u(team, rows, c, relu, x, u, bias, add, y);
}

/* The same from the weights; scratch holds U. */
NN_INLINE void nn_conv2d_winograd(const nn_team *team, nn_dim rows, nn_conv c, int relu,
                                  const nn_real *x, const nn_real *w, const nn_real *bias,
                                  const nn_real *add, nn_real *scratch, nn_real *y)
{
    nn_winograd_weights(team, nn_winograd_side(c), c.ci, c.co, w, scratch);
    nn_barrier(team);
    nn_conv2d_winograd_u(team, rows, c, relu, x, scratch, bias, add, y);
}

/* The convolution of dy that gives dx: the same with another frame. */
NN_INLINE nn_conv nn_winograd_back(nn_conv c)
{
    return (nn_conv){ .h = c.oh,
                      .w = c.ow,
                      .ci = c.co,
                      .oh = c.h,
                      .ow = c.w,
                      .co = c.ci,
                      .r = 3,
                      .s = 3,
                      .step_h = 1,
                      .step_w = 1,
                      .pad_top = 2 - c.pad_top,
                      .pad_left = 2 - c.pad_left,
                      .dil_h = 1,
                      .dil_w = 1,
                      .groups = 1,
                      .tile = c.tile };
}

NN_INLINE void nn_conv2d_winograd_dx(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *dy,
                                     const nn_real *w, nn_real *scratch, nn_real *dx)
{
    const nn_conv b = nn_winograd_back(c);
    nn_winograd_weights_dx(team, nn_winograd_side(b), b.ci, b.co, w, scratch);
    nn_barrier(team);
    nn_winograd_part(nn_winograd_part_of(team, rows, b), rows, b, 0, dy, scratch, NULL, NULL, dx);
}

/* ---- gradient of the weights ---- */

/* The tiles are cut into parts, each with its own sum dU; into more where dU is small. Within a part threads divide the
 * input channels. Each thread keeps V and W of a block of tiles in scratch. */
enum { NN_WINOGRAD_ITEMS = 8 };
NN_INLINE nn_dim nn_winograd_dw_tiles(nn_conv c)
{
    if (nn_winograd_side(c) == 4) return c.ci + c.co <= 128 ? 32 : 16;
    return c.ci + c.co <= 32 ? 16 : 32;
}

NN_INLINE nn_dim nn_winograd_parts(nn_conv c)
{
    return nn_clamp(16384 / (c.ci * c.co), 1, NN_WINOGRAD_ITEMS);
}

/* Column q of a tile of dy, of which `high` pixels lie in the image, transformed downwards. */
NN_INLINE void nn_winograd_dy_column(int side, int q, int last, int tail, nn_dim high, nn_dim wide, nn_dim line,
                                     nn_dim k_next, const nn_real *dy, nn_vec (*s)[NN_WINOGRAD_REACH])
{
    nn_vec y[NN_WINOGRAD_SIDE] = { { 0 } };
    NN_UNROLL_FULL
    for (int r = 0; r < side; r++)
        y[r] = r < high && q < wide ? nn_load_tail(dy + r * line + q * k_next, last, tail) : (nn_vec){ 0 };
    nn_winograd_of_gradient(side, y, s[q]);
}

/* Row r of W's square. */
NN_INLINE void nn_winograd_dy_row(int side, int r, nn_vec (*s)[NN_WINOGRAD_REACH], nn_real *w, nn_dim e_next)
{
    nn_vec y[NN_WINOGRAD_SIDE] = { { 0 } }, row[NN_WINOGRAD_REACH];
    NN_UNROLL_FULL
    for (int q = 0; q < side; q++) y[q] = s[q][r];
    nn_winograd_of_gradient(side, y, row);
    NN_UNROLL_FULL
    for (int q = 0; q < side + 2; q++) nn_store(w + ((side + 2) * r + q) * e_next, row[q]);
}

/* A dy A^T of tiles [t0, t1): W[e][tile][channel]. */
NN_INLINE void nn_winograd_dy_vec(int last, int tail, nn_conv c, nn_dim t0, nn_dim t1,
                                  const nn_real *dy, nn_real *w, nn_dim e_next, nn_dim t_next)
{
    const int side = nn_winograd_side(c);
    const nn_dim th = nn_winograd_down(c), tw = nn_winograd_across(c);
    for (nn_dim t = t0; t < t1; t++, w += t_next) {
        const nn_dim j = t % tw, i = t / tw % th, n = t / (tw * th), high = nn_winograd_inside(side, c.oh, i),
                     wide = nn_winograd_inside(side, c.ow, j);
        const nn_real *d = dy + ((n * c.oh + side * i) * c.ow + side * j) * c.co;
        nn_vec s[NN_WINOGRAD_SIDE][NN_WINOGRAD_REACH]; /* column of dy, row of W */
        NN_WINOGRAD_EACH(side, q, side,
                         nn_winograd_dy_column(side, q, last, tail, high, wide, c.ow * c.co, c.co, d, s));
        NN_WINOGRAD_EACH(side, r, side + 2, nn_winograd_dy_row(side, r, s, w, e_next));
    }
}

/* Columns [k0, k1); w begins with k0. */
NN_INLINE void nn_winograd_dy(nn_conv c, nn_dim t0, nn_dim t1, nn_dim k0, nn_dim k1, const nn_real *dy, nn_real *w,
                              nn_dim e_next, nn_dim t_next)
{
    nn_dim k = k0;
    for (; k + NN_VL <= nn_min_dim(c.co, k1); k += NN_VL)
        nn_winograd_dy_vec(0, 0, c, t0, t1, dy + k, w + k - k0, e_next, t_next);
    if (c.co % NN_VL && k < k1)
        nn_winograd_dy_vec(1, (int)(c.co % NN_VL), c, t0, t1, dy + k, w + k - k0, e_next, t_next);
}

/* Vectors of columns, and rows, of a tile of dU. */
NN_INLINE int nn_winograd_dw_group(nn_conv c)
{
    const nn_dim n_vec = nn_winograd_wide(c.co) / NN_VL;
    return n_vec == 1 ? 1 : n_vec % 4 == 0 && NN_TILE_ACC >= 24 ? 4 : 2;
}

NN_INLINE int nn_winograd_dw_rows(nn_conv c)
{
    const int group = nn_winograd_dw_group(c);
    return nn_tile_rows_and_rest(c.ci, group, group == 1 ? (NN_TILE_ACC > 16 ? 16 : 8) : NN_TILE_ACC / group);
}

/* mr rows and nv vectors of dU for one element, the sum over `count` tiles of V * W, added to what the tiles before
 * gave unless these are the first. */
NN_INLINE void nn_winograd_dw_tile(int mr, int nv, int first, nn_dim count, const nn_real *v,
                                   nn_dim v_next, const nn_real *w, nn_dim w_next, nn_real *du, nn_dim du_next)
{
    nn_vec acc[NN_TILE_ROWS][NN_TILE_VECS];
    if (first)
        nn_tile_start(mr, nv, 0, NN_FROM_ZERO, NULL, du, du_next, acc);
    else
        nn_tile_start(mr, nv, 0, NN_FROM_RESULT, NULL, du, du_next, acc);
    nn_tile_mul(mr, nv, count, v, 1, v_next, w, w_next, acc);
    nn_tile_end(mr, nv, 0, 0, du, du_next, acc);
}

/* Compiled once for all layers: see nn_winograd_tile_6. */
NN_SHARED_TILE void nn_winograd_dw_tile_6(int first, nn_dim count, const nn_real *v, nn_dim v_next, const nn_real *w,
                                          nn_dim w_next, nn_real *du, nn_dim du_next)
{
    nn_winograd_dw_tile(6, 2, first, count, v, v_next, w, w_next, du, du_next);
}

/* The same for rows [c0, c1). */
NN_INLINE void nn_winograd_dw_columns(int nv, int first, nn_conv c, nn_dim c0, nn_dim c1,
                                      nn_dim count, const nn_real *v, nn_dim v_next,
                                      const nn_real *w, nn_dim w_next, nn_real *du, nn_dim du_next)
{
    const int mr = nn_winograd_dw_rows(c), rest = (int)(c.ci % mr);
    nn_dim i = c0;
#define NN_ROWS(n)                                                                                 \
    nn_winograd_dw_tile(n, nv, first, count, v + i, v_next, w, w_next, du + i * du_next, du_next)
    if (NN_TILE_FEW && mr == 6 && nv == 2) {
        for (; i + 6 <= c1; i += 6)
            nn_winograd_dw_tile_6(first, count, v + i, v_next, w, w_next, du + i * du_next, du_next);
    } else {
        for (; i + mr <= c1; i += mr) NN_ROWS(mr);
    }
    if (rest && i < c1) NN_ROWS(rest);
#undef NN_ROWS
}

/* Reals of scratch: dU of all parts, and V and W of a block for each thread that works. */
NN_INLINE nn_dim nn_winograd_dw_block(nn_conv c)
{
    const nn_dim channels = nn_winograd_wide(c.ci) + nn_winograd_wide(c.co);
    return nn_winograd_elements(c) *
           (nn_winograd_dw_tiles(c) * (channels + 2 * NN_WINOGRAD_GAP) + 2 * NN_WINOGRAD_GAP);
}

/* Columns of dU that a thread computes at a time, a whole number of groups: dU is loaded and stored for each block of
 * tiles, so what half of a layer's rows have of it shall stay in a near cache. dU[e][block of columns][row][column]. */
enum { NN_WINOGRAD_DW_NEAR = 131072 };
NN_INLINE nn_dim nn_winograd_dw_cols(nn_conv c)
{
    const nn_dim group = nn_winograd_dw_group(c) * NN_VL,
                 most = 2 * NN_WINOGRAD_DW_NEAR / (nn_winograd_elements(c) * c.ci);
    return nn_min_dim(nn_winograd_wide(c.co), nn_max_dim(1, most / group) * group);
}

/* dU of input channels [c0, c1) and columns [k0, k1) over tiles [t0, t1). */
NN_INLINE void nn_winograd_dw_block_of(nn_conv c, nn_dim c0, nn_dim c1, nn_dim k0, nn_dim k1, nn_dim t0, nn_dim t1,
                                       const nn_real *x, const nn_real *dy, nn_real *v, nn_real *du)
{
    const nn_dim cols = nn_winograd_wide(c.co), size = c.ci * cols;
    /* Tiles, too, lie further apart than their channels: see NN_WINOGRAD_GAP. */
    const nn_dim v_next = nn_winograd_wide(c.ci) + NN_WINOGRAD_GAP, w_next = nn_winograd_dw_cols(c) + NN_WINOGRAD_GAP;
    const int group = nn_winograd_dw_group(c), rest = (int)(cols / NN_VL % group), elements = nn_winograd_elements(c);
    const nn_dim block = nn_winograd_dw_tiles(c), v_e = block * v_next + NN_WINOGRAD_GAP,
                 w_e = block * w_next + NN_WINOGRAD_GAP;
    nn_real *w = v + elements * v_e;
    for (nn_dim t = t0; t < t1; t += block) {
        const nn_dim count = nn_min_dim(block, t1 - t);
        nn_winograd_input(c, t, t + count, c0 / NN_VL * NN_VL, c1, x, v, v_e, v_next);
        nn_winograd_dy(c, t, t + count, k0, k1, dy, w, w_e, w_next);
        for (nn_dim e = 0; e < elements; e++) {
            nn_dim k = k0;
            if (t + 2 * block <= t1) {
                const nn_dim a0 = t + block + nn_cut(block, 1, e, elements),
                             a1 = t + block + nn_cut(block, 1, e + 1, elements);
                nn_winograd_ask_input(c, a0, a1, x);
                nn_winograd_ask_output(c, a0, a1, nn_min_dim(k1, c.co) - k0, dy + k0, 0);
            }
            for (; k + group * NN_VL <= k1; k += group * NN_VL)
                nn_winograd_dw_columns(group, t == t0, c, c0, c1, count, v + e * v_e, v_next, w + e * w_e + k - k0,
                                       w_next, du + e * size + k0 * c.ci + k - k0, k1 - k0);
            if (rest && k < k1)
                nn_winograd_dw_columns(rest, t == t0, c, c0, c1, count, v + e * v_e, v_next, w + e * w_e + k - k0,
                                       w_next, du + e * size + k0 * c.ci + k - k0, k1 - k0);
        }
    }
}

NN_INLINE void nn_winograd_dw_part(nn_conv c, nn_dim c0, nn_dim c1, nn_dim t0, nn_dim t1, const nn_real *x,
                                   const nn_real *dy, nn_real *v, nn_real *du)
{
    const nn_dim cols = nn_winograd_dw_cols(c), all = nn_winograd_wide(c.co);
    for (nn_dim k = 0; k < all; k += cols)
        nn_winograd_dw_block_of(c, c0, c1, k, nn_min_dim(all, k + cols), t0, t1, x, dy, v, du);
}

/* A column of dU, its elements side + 2 times `size` apart, summed over the parts and transformed downwards. */
NN_INLINE void nn_winograd_du_column(int side, nn_dim parts, const nn_real *du, nn_dim size, nn_dim part, nn_vec *t)
{
    nn_vec s[NN_WINOGRAD_REACH] = { { 0 } };
    NN_UNROLL_FULL
    for (int r = 0; r < side + 2; r++) {
        s[r] = nn_load(du + (side + 2) * r * size);
        for (nn_dim n = 1; n < parts; n++) s[r] += nn_load(du + (side + 2) * r * size + n * part);
    }
    nn_winograd_to_weights(side, s, t);
}

/* dw = (acc ? dw : 0) + G^T dU G, dU summed over the parts; the team divides the rows. */
NN_INLINE void nn_winograd_dw_end(const nn_team *team, nn_conv c, nn_dim parts, const nn_real *du,
                                  nn_real *dw, int acc)
{
    const nn_dim all = nn_winograd_wide(c.co), size = c.ci * all, cols = nn_winograd_dw_cols(c);
    const int side = nn_winograd_side(c), elements = nn_winograd_elements(c);
    nn_dim from, to;
    nn_share(team->rank, team->size, c.ci, 1, &from, &to);
    for (nn_dim i = from; i < to; i++)
        for (nn_dim k = 0; k < c.co; k += NN_VL) {
            const nn_dim k0 = k / cols * cols, at = k0 * c.ci + i * nn_min_dim(cols, all - k0) + k - k0;
            nn_vec t[NN_WINOGRAD_REACH][3]; /* column of dU, row of dw */
            NN_WINOGRAD_EACH(side, q, side + 2,
                             nn_winograd_du_column(side, parts, du + q * size + at, size, elements * size, t[q]));
            NN_UNROLL_FULL
            for (int r = 0; r < 3; r++) {
                nn_vec s[NN_WINOGRAD_REACH] = { { 0 } }, g[3];
                NN_UNROLL_FULL
                for (int q = 0; q < side + 2; q++) s[q] = t[q][r];
                nn_winograd_to_weights(side, s, g);
                NN_UNROLL_FULL
                for (int q = 0; q < 3; q++) {
                    nn_real *out = dw + ((3 * r + q) * c.ci + i) * c.co + k;
                    const nn_dim n = nn_min_dim(NN_VL, c.co - k);
                    if (n == NN_VL)
                        nn_store(out, acc ? nn_load(out) + g[q] : g[q]);
                    else
                        nn_store_part(out, acc ? nn_load_part(out, n, 0) + g[q] : g[q], n);
                }
            }
        }
}

/* dw = (acc ? dw : 0) + gradient with respect to w. */
NN_INLINE void nn_conv2d_winograd_dw(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *x,
                                     const nn_real *dy, nn_real *scratch, nn_real *dw, int acc)
{
    const nn_dim tiles = rows * nn_winograd_tiles(c), most = nn_winograd_parts(c);
    const nn_dim parts = nn_clamp(tiles / nn_winograd_dw_tiles(c), 1, most),
                 slices = NN_WINOGRAD_ITEMS / parts;
    const nn_dim size = nn_winograd_elements(c) * c.ci * nn_winograd_wide(c.co), mr = nn_winograd_dw_rows(c);
    nn_dim from, to;
    nn_share(team->rank, team->size, parts * slices, 1, &from, &to);
    nn_real *block = scratch + most * size + from * nn_winograd_dw_block(c);
    while (from < to) {
        const nn_dim p = from / slices, s0 = from % slices, s1 = nn_min_dim(slices, s0 + to - from);
        nn_winograd_dw_part(c, nn_cut(c.ci, mr, s0, slices), nn_cut(c.ci, mr, s1, slices),
                            nn_cut(tiles, 1, p, parts), nn_cut(tiles, 1, p + 1, parts), x, dy,
                            block, scratch + p * size);
        from += s1 - s0;
    }
    nn_barrier(team);
    nn_winograd_dw_end(team, c, parts, scratch, dw, acc);
}

#endif
