/* SPDX-License-Identifier: MIT
 *
 * Fully connected layers: y[m][o] = bias[o] + sum over i of x[m][i] * w[i][o], and its gradients. Weights
 * are stored [in][out]. Row-shared kernels get the rows of their share; team kernels divide the weights.
 */
#ifndef NN_KERNELS_DENSE_H
#define NN_KERNELS_DENSE_H

#include "kernels/tile.h"
#include "kernels/update.h"

/* Rows are worked off in blocks that stay in cache while all columns are computed. */
enum { NN_DENSE_ROWS = 96 };

/* Note [panels]
 * A large weight is read in columns, a few lines out of each row of it: no prefetcher follows that, and all rows of
 * these columns are wanted again for the next samples. So these columns are copied to a panel where they lie densely,
 * and which stays in the nearest cache while all samples pass. Where a tile has many rows, the first tile writes the
 * panel while it multiplies, and asks for the lines of the rows after the next ones: both go on beside its
 * multiply-adds. A tile of few rows has no time for that; there several panels are copied at a time, and the lines of
 * the next block are asked for before each tile. With few samples the copy does not pay.
 */
enum {
    NN_PANEL_VECS = 2,
    NN_PANEL_COLS = NN_PANEL_VECS * NN_VL,
    NN_PANEL_ROWS = NN_TILE_ACC / NN_PANEL_VECS,                 /* samples in a tile */
    NN_PANEL_DEPTH = 256,                                        /* most inputs in a panel */
    NN_PANEL_SAMPLES = 256,                                      /* that pass over one panel */
    NN_PANEL_FEW = 32,                                           /* fewer samples than this do without */
    NN_PANEL_WEIGHT = 128 * 512,                                 /* and so do smaller weights */
    NN_NEAR = 1024 * 1024 / NN_REAL_BYTES,                       /* elements a near cache holds beside others */
    NN_PANEL_BESIDE = NN_TILE_ACC >= 24,                         /* copied by the first tile */
    NN_PANEL_NEXT = 12,                                          /* rows ahead that it asks for */
    NN_PANEL_ALONE = NN_PANEL_BESIDE || NN_PANEL_COLS > 64 || NN_VL == 1,
    NN_PANEL_BLOCK = NN_PANEL_ALONE ? 1 : 64 / NN_PANEL_COLS     /* panels copied at a time else */
};

/* y = start + a times nv vectors of columns of b, whose rows are b_k apart, + add, which lies like y or is NULL; start
 * is as for other tiles, or the sum is taken by itself and added to what y holds. With `copy`, the columns are copied
 * there. */
enum { NN_ADD_RESULT = NN_FROM_BIAS + 1 };
NN_INLINE void nn_panel_tile(int mr, int nv, int tail, int from, int relu, nn_dim depth, const nn_real *a, nn_dim a_m,
                             nn_dim a_k, const nn_real *b, nn_dim b_k, nn_real *copy, const nn_real *bias,
                             const nn_real *add, nn_real *y, nn_dim y_m)
{
    nn_vec acc[NN_TILE_ROWS][NN_TILE_VECS];
    nn_tile_start(mr, nv, tail, from == NN_ADD_RESULT ? NN_FROM_ZERO : from, bias, y, y_m, acc);
    NN_UNROLL(NN_TILE_STEPS)
    for (nn_dim k = 0; k < depth; k++) {
        nn_vec bv[NN_TILE_VECS];
        NN_UNROLL_FULL
        for (int j = 0; j < nv; j++) {
            bv[j] = nn_load(b + k * b_k + j * NN_VL);
            if (!copy) continue;
            __builtin_prefetch(b + (k + NN_PANEL_NEXT) * b_k + j * NN_VL);
            nn_store(copy + (k * nv + j) * NN_VL, bv[j]);
        }
        NN_UNROLL_FULL
        for (int i = 0; i < mr; i++) {
            const nn_vec av = nn_splat(a[i * a_m + k * a_k]);
            NN_UNROLL_FULL
            for (int j = 0; j < nv; j++) acc[i][j] += av * bv[j];
        }
        NN_LONE(mr * nv, acc[0][0]);
    }
    nn_tile_add(mr, nv, tail, from == NN_ADD_RESULT ? y : add, y_m, acc);
    nn_tile_end(mr, nv, tail, relu, y, y_m, acc);
}

/* All samples over one panel of nv vectors, in tiles of mr. With `copy`, b is a part of a matrix; the first tile copies
 * it there, for the others. */
NN_INLINE void nn_panel_product(int mr, int nv, int tail, int from, int relu, nn_dim rows, nn_dim depth,
                                const nn_real *a, nn_dim a_m, const nn_real *b, nn_dim b_k, nn_real *copy,
                                const nn_real *bias, const nn_real *add, nn_real *y, nn_dim y_m, nn_ahead *ahead)
{
#define NN_ROWS(n, to)                                                                              \
    nn_panel_tile(n, nv, tail, from, relu, depth, a + m * a_m, a_m, 1, b, b_k, to, bias,            \
                  add ? add + m * y_m : NULL, y + m * y_m, y_m)
    nn_dim m = 0;
    if (copy && rows >= 2 * mr) {
        NN_ROWS(mr, copy);
        b = copy;
        b_k = nv * NN_VL;
        m = mr;
    }
    for (; m + mr <= rows; m += mr) {
        if (ahead) nn_ask_ahead(ahead);
        NN_ROWS(mr, NULL);
    }
    if (mr > 8 && m + 8 <= rows) {
        NN_ROWS(8, NULL);
        m += 8;
    }
    for (; m + 4 <= rows; m += 4) NN_ROWS(4, NULL);
    for (; m < rows; m++) NN_ROWS(1, NULL);
#undef NN_ROWS
}

/* Where a tile has few rows, their addresses need no literal distances, so that one function serves all layers; many
 * rows are addressed in the code of each call. */
#if NN_TILE_ACC >= 24
#define NN_SHARED_TILE NN_INLINE
#else
#define NN_SHARED_TILE static __attribute__((noinline, unused))
#endif

/* The same for whole panels. */
NN_SHARED_TILE void nn_panel_whole(int from, int relu, nn_dim rows, nn_dim depth, const nn_real *a, nn_dim a_m,
                                   const nn_real *panel, const nn_real *bias, const nn_real *add, nn_real *y,
                                   nn_dim y_m, nn_ahead *ahead)
{
    nn_panel_product(NN_PANEL_ROWS, NN_PANEL_VECS, 0, from, relu, rows, depth, a, a_m, panel, NN_PANEL_COLS, NULL, bias,
                     add, y, y_m, ahead);
}

/* Note [rows in one place]
 * A tile reads one number of each of its rows. Where rows are a multiple of 2 KiB long, these lie in few sets of the
 * nearest cache and push each other out, so the part that belongs to a panel is copied to rows that are not; but not
 * without vectors, where there is little stack as a rule.
 */
#define NN_ROWS_CLASH(row) (NN_VL > 1 && (row) % (2048 / (nn_dim)sizeof(nn_real)) == 0)
enum {
    NN_APART_SAMPLES = 128, /* so many rows go there for a panel */
    NN_APART = NN_PANEL_DEPTH + 16
};

/* Copies columns of rows that clash to *where, and returns where to read them and how far apart. */
NN_INLINE const nn_real *nn_set_apart(nn_dim rows, nn_dim depth, const nn_real *a, nn_dim *a_m, nn_real *where,
                                      nn_dim where_m)
{
    if (!NN_ROWS_CLASH(*a_m)) return a;
    for (nn_dim m = 0; m < rows; m++) memcpy(where + m * where_m, a + m * *a_m, (size_t)depth * sizeof *a);
    *a_m = where_m;
    return where;
}

/* `count` panels of columns of y = x w + bias, each nv vectors wide, over inputs [d, end); next: the block of columns
 * or of inputs after this one. */
NN_INLINE void nn_dense_block(int count, int nv, int tail, int relu, nn_dim rows, nn_dim d, nn_dim end, nn_dim in,
                              nn_dim out, const nn_real *x, nn_dim x_m, const nn_real *w, const nn_real *bias,
                              const nn_real *add, nn_real *y, const nn_real *next)
{
    nn_real panels[NN_PANEL_BLOCK * NN_PANEL_DEPTH * NN_PANEL_COLS] __attribute__((aligned(64)));
    const nn_real *wd = w + d * out;
    const nn_dim depth = end - d, cols = nv * NN_VL, tiles = nn_max_dim(1, rows / NN_PANEL_ROWS);
    const int from = d ? NN_FROM_RESULT : NN_FROM_BIAS, end_relu = relu && end == in;
    if (end < in) add = NULL;
    if (NN_PANEL_BESIDE && !tail) {
        nn_panel_product(NN_PANEL_ROWS, nv, 0, from, end_relu, rows, depth, x, x_m, wd, out, panels, bias, add, y, out,
                         NULL);
        return;
    }
    for (nn_dim k = 0; k < depth; k++)
        for (int p = 0; p < count; p++) {
            NN_UNROLL_FULL
            for (int j = 0; j < nv; j++)
                nn_store(panels + (p * depth + k) * cols + j * NN_VL,
                         nn_load_tail(wd + k * out + p * cols + j * NN_VL, j == nv - 1, tail));
        }
    nn_ahead ahead = nn_ahead_of(next, next ? depth : 0, out, NN_PANEL_BLOCK * NN_PANEL_COLS, tiles * count);
    for (int p = 0; p < count; p++) {
        const nn_real *panel = panels + p * depth * cols, *bp = bias ? bias + p * cols : NULL;
        const nn_real *ap = add ? add + p * cols : NULL;
        if (cols == NN_PANEL_COLS && !tail)
            nn_panel_whole(from, end_relu, rows, depth, x, x_m, panel, bp, ap, y + p * cols, out, &ahead);
        else
            nn_panel_product(NN_PANEL_ROWS, nv, tail, from, end_relu, rows, depth, x, x_m, panel, cols, NULL, bp, ap,
                             y + p * cols, out, &ahead);
    }
}

/* Columns [c0, to) of y = x w + bias + add, panel by panel. With `kept`, w holds the panels, each with all inputs, and
 * zeros in place of columns beyond the last. */
NN_INLINE void nn_dense_panels(int kept, nn_dim c0, nn_dim to, nn_dim rows, nn_dim in, nn_dim out, int relu,
                               const nn_real *x, const nn_real *w, const nn_real *bias, const nn_real *add,
                               nn_real *y)
{
    enum { COLS = NN_PANEL_COLS, WIDE = NN_PANEL_BLOCK * COLS };
    const int rest = (int)(out % COLS), rest_vecs = (rest + NN_VL - 1) / NN_VL;
    const nn_dim chunks = (in + NN_PANEL_DEPTH - 1) / NN_PANEL_DEPTH, whole = to - (to - c0) % COLS;
    nn_real apart[NN_APART_SAMPLES * NN_APART] __attribute__((aligned(64)));
    for (nn_dim q = 0; q < chunks; q++) {
        const nn_dim d = nn_cut(in, 1, q, chunks), end = nn_cut(in, 1, q + 1, chunks);
        nn_dim x_m = in;
        const nn_real *xd = nn_set_apart(rows, end - d, x + d, &x_m, apart, NN_APART);
        for (nn_dim c = c0; kept && c < to; c += COLS) {
            nn_ahead ahead = { .rows = 0 };
            const int from = d ? NN_FROM_RESULT : NN_FROM_BIAS, end_relu = relu && end == in;
            const nn_real *panel = w + c * in + d * COLS, *bc = bias ? bias + c : NULL;
            const nn_real *ac = add && end == in ? add + c : NULL;
            if (c < whole)
                nn_panel_whole(from, end_relu, rows, end - d, xd, x_m, panel, bc, ac, y + c, out, &ahead);
            else if (rest)
                nn_panel_product(NN_PANEL_ROWS, rest_vecs, rest % NN_VL, from, end_relu, rows, end - d, xd, x_m, panel,
                                 COLS, NULL, bc, ac, y + c, out, &ahead);
        }
        for (nn_dim c = c0; !kept && c < whole; c += WIDE) {
            /* The last block of a chunk is followed by the first one of the next, whose rows begin where these end. */
            const nn_real *next = c + WIDE < whole ? w + d * out + c + WIDE : end < in ? w + end * out + c0 : NULL;
            const int count = (int)nn_min_dim(NN_PANEL_BLOCK, (whole - c) / COLS);
            nn_dense_block(count, NN_PANEL_VECS, 0, relu, rows, d, end, in, out, xd, x_m, w + c, bias ? bias + c : NULL,
                           add ? add + c : NULL, y + c, next);
        }
        if (!kept && rest && whole < to)
            nn_dense_block(1, rest_vecs, rest % NN_VL, relu, rows, d, end, in, out, xd, x_m, w + whole,
                           bias ? bias + whole : NULL, add ? add + whole : NULL, y + whole, NULL);
    }
}

/* The same for any number of rows. */
NN_INLINE void nn_dense_panel_columns(int kept, nn_dim c0, nn_dim to, nn_dim rows, nn_dim in, nn_dim out, int relu,
                                      const nn_real *x, const nn_real *w, const nn_real *bias, const nn_real *add,
                                      nn_real *y)
{
    const nn_dim most = NN_ROWS_CLASH(in) ? NN_APART_SAMPLES : NN_PANEL_SAMPLES;
    for (nn_dim m = 0; m < rows; m += most)
        nn_dense_panels(kept, c0, to, nn_min_dim(most, rows - m), in, out, relu, x + m * in, w, bias,
                        add ? add + m * out : NULL, y + m * out);
}

/* Columns of one sample, nv vectors of them, the last one of `tail` lanes (0: all) and `back` columns nearer to the one
 * before it than the others are, which it overlaps then: the weight is read once, in long pieces. Its rows are w_k
 * apart, and its panels, of NN_PANEL_VECS vectors, `apart`. */
NN_INLINE void nn_dense_piece(int nv, int tail, nn_dim back, int relu, nn_dim in, const nn_real *x, const nn_real *w,
                              nn_dim w_k, nn_dim apart, const nn_real *bias, nn_real *y)
{
    nn_vec acc[16];
#define NN_BACK(j) ((j) == nv - 1 ? back : 0)
    NN_UNROLL_FULL
    for (int j = 0; j < nv; j++)
        acc[j] = bias ? nn_load_tail(bias + j * NN_VL - NN_BACK(j), j == nv - 1, tail) : (nn_vec){ 0 };
    NN_UNROLL(2)
    for (nn_dim k = 0; k < in; k++) {
        const nn_vec xk = nn_splat(x[k]);
        NN_UNROLL_FULL
        for (int j = 0; j < nv; j++)
            acc[j] += xk * nn_load(w + j / NN_PANEL_VECS * apart + k * w_k + j % NN_PANEL_VECS * NN_VL - NN_BACK(j));
        NN_LONE(nv, acc[0]);
    }
    NN_UNROLL_FULL
    for (int j = 0; j < nv; j++) {
        if (relu) acc[j] = nn_relu(acc[j]);
        nn_store_tail(y + j * NN_VL - NN_BACK(j), acc[j], j == nv - 1, tail);
    }
#undef NN_BACK
}

/* All columns of one sample, a literal number of them: equal pieces with as many sums as they need, up to 16. Where
 * columns do not fill them, the last piece, or the last vector of the only one, overlaps the one before it. */
NN_INLINE void nn_dense_whole_row(int relu, nn_dim in, nn_dim out, const nn_real *x, const nn_real *w,
                                  const nn_real *bias, nn_real *y)
{
    enum { MOST = NN_TILE_ACC > 16 ? 16 : 8 };
    const nn_dim vecs = (out + NN_VL - 1) / NN_VL, pieces = (vecs + MOST - 1) / MOST;
    const int nv = (int)((vecs + pieces - 1) / pieces);
    const nn_dim cols = nn_min_dim(out, nv * NN_VL);
    for (nn_dim p = 0; p < pieces; p++) {
        const nn_dim c = nn_min_dim(p * cols, out - cols);
        nn_dense_piece(nv, 0, nv * NN_VL - cols, relu, in, x, w + c, out, NN_PANEL_COLS, bias ? bias + c : NULL, y + c);
    }
}

/* Columns [c, end) of one sample; c is a multiple of NN_PANEL_COLS, and so is `end` unless it is `out`. As many sums at
 * a time as there are columns for: a few would wait for their own additions. With `kept`, w holds panels. */
NN_INLINE void nn_dense_row(int kept, nn_dim c, nn_dim end, int relu, nn_dim in, nn_dim out, const nn_real *x,
                            const nn_real *w, const nn_real *bias, nn_real *y)
{
    const int rest = (int)(out % NN_PANEL_COLS);
    const nn_dim w_k = kept ? NN_PANEL_COLS : out, apart = kept ? in * NN_PANEL_COLS : NN_PANEL_COLS;
#define NN_PIECE(nv, tail)                                                                                         \
    nn_dense_piece(nv, tail, 0, relu, in, x, w + (kept ? c * in : c), w_k, apart, bias ? bias + c : NULL, y + c)
#define NN_PIECES(nv) \
    for (; c + (nv) * NN_VL <= end; c += (nv) * NN_VL) NN_PIECE(nv, 0)
    if (NN_TILE_ACC > 16) NN_PIECES(16);
    NN_PIECES(8);
    NN_PIECES(4);
    NN_PIECES(NN_PANEL_VECS);
    if (rest && c < end && kept)
        NN_PIECE((rest + NN_VL - 1) / NN_VL, rest % NN_VL);
    else if (rest && c < end)
        nn_product(1, rest, in, NN_FROM_BIAS, relu, x, 0, 1, w + c, out, w + in * out, bias ? bias + c : NULL, y + c,
                   out);
#undef NN_PIECES
#undef NN_PIECE
}

/* Columns [c, end) of y = y + add, then relu if asked; nothing where add is NULL. */
NN_INLINE void nn_dense_add(nn_dim c, nn_dim end, nn_dim rows, nn_dim out, int relu, const nn_real *add, nn_real *y)
{
    for (nn_dim m = 0; add && m < rows; m++) nn_add_branch(relu, end - c, add + m * out + c, y + m * out + c);
}

/* Columns [c0, end) of y = x w + bias + add, then relu if asked; add lies like y, apart from it, or is NULL; c0 is a
 * multiple of NN_PANEL_COLS, and so is `end` unless it is `out`. Whichever way is taken, an element's sum runs over the
 * inputs in order: the bits are the same. */
NN_INLINE void nn_dense_columns(nn_dim c0, nn_dim end, nn_dim rows, nn_dim in, nn_dim out, int relu, const nn_real *x,
                                const nn_real *w, const nn_real *bias, const nn_real *add, nn_real *y)
{
    enum { COLS = NN_PANEL_COLS };
    const int rest = (int)(out % COLS), now = relu && !add;
    if (rows >= NN_PANEL_FEW) {
        nn_dense_panel_columns(0, c0, end, rows, in, out, relu, x, w, bias, add, y);
        return;
    }
    if (rows == 1) {
        nn_dense_row(0, c0, end, now, in, out, x, w, bias, y);
    } else {
        for (nn_dim c = c0; c < end; c += COLS) {
            const nn_real *bc = bias ? bias + c : NULL;
            if (rest && c + COLS > out)
                nn_product(rows, rest, in, NN_FROM_BIAS, now, x, in, 1, w + c, out, w + in * out, bc, y + c, out);
            else
                nn_product(rows, COLS, in, NN_FROM_BIAS, now, x, in, 1, w + c, out, w + in * out, bc, y + c, out);
        }
    }
    nn_dense_add(c0, end, rows, out, relu, add, y);
}

/* y = x w + bias + add, then relu if asked. bias and add may be NULL; add lies like y, apart from it. */
NN_INLINE void nn_dense(nn_dim rows, nn_dim in, nn_dim out, int relu, const nn_real *x, const nn_real *w,
                        const nn_real *bias, const nn_real *add, nn_real *y)
{
    if (in * out >= NN_PANEL_WEIGHT && rows >= NN_PANEL_FEW) {
        nn_dense_columns(0, out, rows, in, out, relu, x, w, bias, add, y);
        return;
    }
    const int now = relu && !add;
    for (nn_dim m = 0, some; m < rows; m += some) {
        some = nn_min_dim(NN_DENSE_ROWS, rows - m);
        if (rows == 1 && __builtin_constant_p(out) && out >= NN_VL)
            nn_dense_whole_row(now, in, out, x, w, bias, y);
        else if (rows == 1)
            nn_dense_row(0, 0, out, now, in, out, x, w, bias, y);
        else
            nn_product(some, out, in, NN_FROM_BIAS, now, x + m * in, in, 1, w, out, w + in * out, bias, y + m * out,
                       out);
        nn_dense_add(0, out, some, out, relu, add ? add + m * out : NULL, y + m * out);
    }
}

/* The same for large weights, by the team, which divides the columns, so that each thread reads its part of w only.
 * Where there are many samples, their blocks are divided as well. */
NN_INLINE void nn_dense_wide(const nn_team *team, nn_dim rows, nn_dim in, nn_dim out, int relu, const nn_real *x,
                             const nn_real *w, const nn_real *bias, const nn_real *add, nn_real *y)
{
    const nn_dim strips = (out + NN_PANEL_COLS - 1) / NN_PANEL_COLS;
    nn_dim item, end;
    nn_share(team->rank, team->size, (rows + NN_PANEL_SAMPLES - 1) / NN_PANEL_SAMPLES * strips, 1, &item, &end);
    while (item < end) {
        const nn_dim m = item / strips * NN_PANEL_SAMPLES, first = item % strips;
        const nn_dim last = nn_min_dim(strips, first + end - item);
        nn_dense_columns(first * NN_PANEL_COLS, nn_min_dim(out, last * NN_PANEL_COLS),
                         nn_min_dim(NN_PANEL_SAMPLES, rows - m), in, out, relu, x + m * in, w, bias,
                         add ? add + m * out : NULL, y + m * out);
        item += last - first;
    }
}

/* A weight as panels of columns, one after another, each with all inputs; columns beyond the last are zero. The team
 * divides the panels. */
NN_INLINE void nn_dense_panels_weights(const nn_team *team, nn_dim in, nn_dim out, const nn_real *w, nn_real *panels)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, (out + NN_PANEL_COLS - 1) / NN_PANEL_COLS, 1, &from, &to);
    from *= NN_PANEL_COLS;
    nn_pack_panels(in, nn_min_dim(out, to * NN_PANEL_COLS) - from, NN_PANEL_COLS, w + from, out, panels + from * in);
}

/* nn_dense from such panels: nothing is copied, and what a thread reads of them is one piece of memory. Rows are
 * divided where there are many, panels where there are few; the bits are those of nn_dense_wide. */
NN_INLINE void nn_dense_kept(const nn_team *team, nn_dim rows, nn_dim in, nn_dim out, int relu, const nn_real *x,
                             const nn_real *panels, const nn_real *bias, const nn_real *add, nn_real *y)
{
    enum { MANY = 4 * NN_PANEL_ROWS };
    nn_dim from = 0, to = rows, c = 0, end = out;
    if (rows >= MANY * team->size) {
        nn_share(team->rank, team->size, rows, NN_PANEL_ROWS, &from, &to);
    } else {
        nn_share(team->rank, team->size, (out + NN_PANEL_COLS - 1) / NN_PANEL_COLS, 1, &c, &end);
        c *= NN_PANEL_COLS;
        end = nn_min_dim(out, end * NN_PANEL_COLS);
    }
    if (rows == 1) {
        nn_dense_row(1, c, end, relu && !add, in, out, x, panels, bias, y);
        nn_dense_add(c, end, 1, out, relu, add, y);
    } else {
        nn_dense_panel_columns(1, c, end, to - from, in, out, relu, x + from * in, panels, bias,
                               add ? add + from * out : NULL, y + from * out);
    }
}

/* nn_dense for samples of many rows: the team divides these, however few samples there are. */
NN_INLINE void nn_dense_tall(const nn_team *team, nn_dim rows, nn_dim in, nn_dim out, int relu, const nn_real *x,
                             const nn_real *w, const nn_real *bias, const nn_real *add, nn_real *y)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, rows, 4, &from, &to);
    nn_dense(to - from, in, out, relu, x + from * in, w, bias, add ? add + from * out : NULL, y + from * out);
}

/* nn_dense for weights that take longer to read than threads to wait for each other: the team divides the samples, or
 * the columns where there are fewer samples than threads. The bits are those of nn_dense. */
NN_INLINE void nn_dense_team(const nn_team *team, nn_dim rows, nn_dim in, nn_dim out, int relu, const nn_real *x,
                             const nn_real *w, const nn_real *bias, const nn_real *add, nn_real *y)
{
    nn_dim from, to;
    if (rows >= team->size) {
        nn_share(team->rank, team->size, rows, 1, &from, &to);
        nn_dense(to - from, in, out, relu, x + from * in, w, bias, add ? add + from * out : NULL, y + from * out);
        return;
    }
    nn_share(team->rank, team->size, out, NN_PANEL_COLS, &from, &to);
    nn_dense_columns(from, to, rows, in, out, relu, x, w, bias, add, y);
}

/* What follows a gradient, dx: the sum with `add`, then 0 where y <= 0, for columns [c, end). Both lie like dx, apart
 * from it, or are NULL. */
NN_INLINE void nn_dense_act(nn_dim c, nn_dim end, nn_dim rows, nn_dim in, const nn_real *add, const nn_real *y,
                            nn_real *dx)
{
    if (!add && !y) return;
    for (nn_dim m = 0; m < rows; m++)
        nn_act_dx(c, end, add ? add + m * in : NULL, y ? y + m * in : NULL, dx + m * in);
}

/* dx[m][i] = sum over o of dy[m][o] * w[i][o], rows of dy and dx dy_m and dx_m apart. Long rows of w are
 * multiplied as they lie; short ones are transposed block by block, because summing over the lanes would cost
 * more than the product. */
#define NN_DENSE_SHORT 160
NN_INLINE void nn_dense_dx_rows(nn_dim rows, nn_dim in, nn_dim out, const nn_real *dy, nn_dim dy_m,
                                const nn_real *w, nn_real *dx, nn_dim dx_m)
{
    if (out >= NN_DENSE_SHORT) {
        for (nn_dim m = 0; m < rows; m += NN_DENSE_ROWS)
            nn_product_dot(nn_min_dim(NN_DENSE_ROWS, rows - m), in, out, 0, dy + m * dy_m, dy_m, w, out,
                           dx + m * dx_m, dx_m);
        return;
    }
    nn_real panel[NN_DENSE_SHORT * 2 * NN_VL];
    const nn_dim width = 2 * NN_VL, main = in / width * width, rest = in - main;
    for (nn_dim i = 0; i < main; i += width) {
        nn_transpose(width, out, w + i * out, out, panel, width);
        nn_product(rows, width, out, NN_FROM_ZERO, 0, dy, dy_m, 1, panel, width, panel + out * width, NULL,
                   dx + i, dx_m);
    }
    if (rest) {
        nn_transpose(rest, out, w + main * out, out, panel, rest);
        nn_product(rows, rest, out, NN_FROM_ZERO, 0, dy, dy_m, 1, panel, rest, panel + out * rest, NULL,
                   dx + main, dx_m);
    }
}

/* dx = dy w^T + add, then 0 where y <= 0, by blocks that stay in cache; add and y as in nn_dense_act. */
NN_INLINE void nn_dense_dx(nn_dim rows, nn_dim in, nn_dim out, const nn_real *dy, const nn_real *w, const nn_real *add,
                           const nn_real *y, nn_real *dx)
{
    const nn_dim most = add || y ? 4 * NN_DENSE_ROWS : rows;
    for (nn_dim m = 0, some; m < rows; m += some) {
        some = nn_min_dim(most, rows - m);
        nn_dense_dx_rows(some, in, out, dy + m * out, out, w, dx + m * in, in);
        nn_dense_act(0, in, some, in, add ? add + m * in : NULL, y ? y + m * in : NULL, dx + m * in);
    }
}

/* Inputs of dx, nv vectors, over the transposed rows of w, outputs [d, end). */
enum { NN_DX_DEPTH = 128 }; /* of a panel: its sum is taken by itself, and such sums round less than one long one */
NN_INLINE void nn_dense_dx_strip(int nv, int tail, nn_dim rows, nn_dim d, nn_dim end, nn_dim in, nn_dim out,
                                 const nn_real *dy, nn_dim dy_m, const nn_real *w, nn_real *dx, const nn_real *next)
{
    const nn_dim width = nv * NN_VL, used = tail ? width - NN_VL + tail : width;
    nn_real panel[NN_DX_DEPTH * NN_PANEL_COLS] __attribute__((aligned(64)));
    if (tail) memset(panel, 0, sizeof panel);
    nn_transpose(used, end - d, w + d, out, panel, width);
    /* With as many sums as would fit, gcc spills one of those that are added to dx. */
    nn_ahead ahead = nn_ahead_of(next, next ? used : 0, out, end - d, nn_max_dim(1, rows / (NN_PANEL_ROWS - 1)));
    nn_panel_product(NN_PANEL_ROWS - 1, nv, tail, d ? NN_ADD_RESULT : NN_FROM_ZERO, 0, rows, end - d, dy, dy_m, panel,
                     width, NULL, NULL, NULL, dx, in, &ahead);
}

/* Inputs [from, to) of dx, panel by panel, and what follows. */
NN_INLINE void nn_dense_dx_panels(nn_dim from, nn_dim to, nn_dim rows, nn_dim in, nn_dim out, const nn_real *dy,
                                  const nn_real *w, const nn_real *add, const nn_real *y, nn_real *dx)
{
    enum { COLS = NN_PANEL_COLS, APART = NN_DX_DEPTH + 16 };
    const int rest = (int)(in % COLS), rest_vecs = (rest + NN_VL - 1) / NN_VL;
    const nn_dim most = NN_PANEL_SAMPLES, chunks = (out + NN_DX_DEPTH - 1) / NN_DX_DEPTH;
    /* What a far cache holds is asked for; from a near one it comes in time. */
    const int far = !NN_PANEL_BESIDE || in * out > NN_NEAR;
    nn_real apart[NN_PANEL_SAMPLES * APART] __attribute__((aligned(64)));
    for (nn_dim m = 0, some; m < rows; m += some) {
        some = nn_min_dim(most, rows - m);
        for (nn_dim q = 0; q < chunks; q++) {
            const nn_dim d = nn_cut(out, NN_VL, q, chunks), end = nn_cut(out, NN_VL, q + 1, chunks);
            nn_dim dy_m = out;
            const nn_real *dyd = nn_set_apart(some, end - d, dy + m * out + d, &dy_m, apart, APART);
            for (nn_dim i = from; i < to; i += COLS) {
                const nn_real *wi = w + i * out;
                nn_real *dxi = dx + m * in + i;
                const nn_real *next = far && i + 2 * COLS <= to ? wi + COLS * out + d : NULL;
                if (rest && i + COLS > in)
                    nn_dense_dx_strip(rest_vecs, rest % NN_VL, some, d, end, in, out, dyd, dy_m, wi, dxi, NULL);
                else
                    nn_dense_dx_strip(NN_PANEL_VECS, 0, some, d, end, in, out, dyd, dy_m, wi, dxi, next);
            }
        }
        nn_dense_act(from, to, some, in, add ? add + m * in : NULL, y ? y + m * in : NULL, dx + m * in);
    }
}

/* The same for large weights, by the team, which divides the inputs. Few samples are multiplied with the rows of w as
 * they lie, many with panels of transposed rows: the order of a sum depends on the batch, not on the team. */
NN_INLINE void nn_dense_dx_wide(const nn_team *team, nn_dim rows, nn_dim in, nn_dim out, const nn_real *dy,
                                const nn_real *w, const nn_real *add, const nn_real *y, nn_real *dx)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, in, NN_PANEL_COLS, &from, &to);
    if (rows < NN_PANEL_FEW) {
        nn_product_dot(rows, to - from, out, 0, dy, out, w + from * out, out, dx + from, in);
        nn_dense_act(from, to, rows, in, add, y, dx);
    } else {
        nn_dense_dx_panels(from, to, rows, in, out, dy, w, add, y, dx);
    }
}

/* The same for samples of many rows: the team divides these, however few samples there are, or the inputs where turning
 * the weight round is much of the work. */
NN_INLINE void nn_dense_dx_tall(const nn_team *team, nn_dim rows, nn_dim in, nn_dim out, const nn_real *dy,
                                const nn_real *w, const nn_real *add, const nn_real *y, nn_real *dx)
{
    nn_dim from, to;
    if (in * out >= NN_PANEL_WEIGHT && rows < NN_PANEL_SAMPLES * team->size) {
        nn_share(team->rank, team->size, in, NN_PANEL_COLS, &from, &to);
        nn_dense_dx_panels(from, to, rows, in, out, dy, w, add, y, dx);
        return;
    }
    nn_share(team->rank, team->size, rows, 4, &from, &to);
    if (add) add += from * in;
    if (y) y += from * in;
    if (in * out >= NN_PANEL_WEIGHT)
        nn_dense_dx_panels(0, in, to - from, in, out, dy + from * out, w, add, y, dx + from * in);
    else
        nn_dense_dx(to - from, in, out, dy + from * out, w, add, y, dx + from * in);
}

/* A tile of dw from panels of x and of dy. */
enum {
    NN_DW_ROWS = NN_TILE_ACC >= 24 ? 8 : 6,
    NN_DW_VECS = NN_TILE_ACC >= 24 ? 3 : 2,
    NN_DW_COLS = NN_DW_VECS * NN_VL
};
NN_SHARED_TILE void nn_dense_dw_tile(int start, nn_dim depth, const nn_real *left, const nn_real *right, nn_real *dw,
                                     nn_dim out)
{
    nn_tile_product(NN_DW_ROWS, NN_DW_VECS, 0, start, 0, depth, left, 1, NN_DW_ROWS, right, NN_DW_COLS,
                    right + depth * NN_DW_COLS, NULL, dw, out);
}

/* Where the rows of a matrix lie that are pixels of images: row p is column p % w of line p / w, and images have h
 * lines. */
typedef struct nn_grid {
    nn_dim w, h, col, row, next; /* distances between columns, lines and images */
} nn_grid;

#define NN_ROWS_APART(m) ((nn_grid){ 1, 1, 0, 0, m })

NN_INLINE nn_dim nn_grid_at(nn_grid g, nn_dim p)
{
    const nn_dim line = p / g.w;
    return p % g.w * g.col + line % g.h * g.row + line / g.h * g.next;
}

/* Rows [from, to) of dw[i][o] = (acc ? dw : 0) + sum over m of x[m][i] * dy[m][o], multiples of NN_DW_ROWS but for the
 * last of all. Each element is summed over blocks of samples, in order. Both operands are walked down their columns,
 * from row to row; where rows are long, or many, what a block of dw needs of them is copied to panels first. Rows of x
 * that are not side by side (g) need at least NN_DENSE_SHORT outputs. */
NN_INLINE void nn_dense_dw_rows(nn_dim from, nn_dim to, nn_dim rows, nn_dim in, nn_dim out, nn_grid g,
                                const nn_real *x, const nn_real *dy, nn_real *dw, int acc)
{
    /* 176: the panels of a block do not lie a multiple of 4 KiB apart. Without vectors nothing is copied but the last
     * rows: there is little stack as a rule. */
    enum { SAMPLES = NN_VL == 1 ? 32 : NN_TILE_ACC >= 24 ? 176 : 256 };
    enum { ROWS = NN_DW_ROWS, VECS = NN_DW_VECS, COLS = NN_DW_COLS };
    enum { BLOCK = (NN_VL == 1 ? 1 : NN_PANEL_BESIDE ? 16 : 32) * ROWS, FEW = 24, MANY = 1024 };
    enum { SOME = NN_PANEL_BESIDE ? 1 : 2, LINE = 64 / NN_REAL_BYTES }; /* panels of dy at a time */
    const nn_real *const dy_end = dy + rows * out;
    const nn_dim least = NN_TILE_ACC >= 24 && rows >= MANY ? COLS : NN_DENSE_SHORT;
    const nn_dim cols = NN_VL > 1 && out >= least ? out / COLS * COLS : 0, rest = out - cols;
    const int plain = g.w == 1 && g.h == 1;
    const nn_dim last = from + (to - from) / ROWS * ROWS; /* only the last rows of the matrix are fewer */
    for (nn_dim m = 0; m < rows || m == 0; m += SAMPLES) {
        const nn_dim depth = nn_min_dim(SAMPLES, rows - m);
        const int start = m > 0 || acc ? NN_FROM_RESULT : NN_FROM_ZERO;
        const nn_real *dym = dy + m * out;
        nn_real left[SAMPLES * BLOCK], right[SOME * SAMPLES * COLS];
        if (plain && (!cols || depth < FEW)) {
            for (nn_dim i = from; i < last; i += ROWS)
                nn_product(ROWS, out, depth, start, 0, x + nn_grid_at(g, m) + i, 1, g.next, dym, out, dy_end, NULL,
                           dw + i * out, out);
        } else {
            for (nn_dim i0 = from; i0 < last; i0 += BLOCK) {
                const nn_dim i1 = nn_min_dim(last, i0 + BLOCK);
                for (nn_dim k = 0; k < depth; k++) {
                    const nn_real *xk = x + nn_grid_at(g, m + k);
                    for (nn_dim i = i0; i < i1; i += ROWS)
                        memcpy(left + ((i - i0) * SAMPLES + k * ROWS), xk + i, ROWS * sizeof *left);
                }
                for (nn_dim c = 0, some; c < cols; c += some * COLS) {
                    some = nn_min_dim(SOME, (cols - c) / COLS);
                    /* The lines of the next panels lie a row apart; they are asked for while these are multiplied. */
                    const nn_real *ahead = dym + (c + some * COLS < cols ? c + some * COLS : c);
                    const nn_dim each = NN_PANEL_BESIDE ? SAMPLES / 16 : (depth * ROWS + i1 - i0 - 1) / (i1 - i0);
                    if (NN_PANEL_BESIDE) {
                        nn_panel_tile(ROWS, VECS, 0, start, 0, depth, left, 1, ROWS, dym + c, out, right, NULL,
                                      NULL, dw + i0 * out + c, out);
                    } else {
                        for (nn_dim k = 0; k < depth; k++)
                            for (nn_dim p = 0; p < some; p++)
                                for (int j = 0; j < COLS; j += NN_VL)
                                    nn_store(right + (p * SAMPLES + k) * COLS + j,
                                             nn_load(dym + k * out + c + p * COLS + j));
                    }
                    for (nn_dim p = 0; p < some; p++)
                        for (nn_dim i = NN_PANEL_BESIDE ? i0 + ROWS : i0; i < i1; i += ROWS) {
                            const nn_dim first = (i - i0) / ROWS * each;
                            for (nn_dim k = first; k < nn_min_dim(depth, first + each); k++)
                                for (int j = 0; j < COLS; j += LINE)
                                    __builtin_prefetch(ahead + k * out + p * COLS + j, 0, 2);
                            nn_dense_dw_tile(start, depth, left + (i - i0) * SAMPLES, right + p * SAMPLES * COLS,
                                             dw + i * out + c + p * COLS, out);
                        }
                }
                for (nn_dim i = i0; rest && i < i1; i += ROWS)
                    nn_product(ROWS, rest, depth, start, 0, left + (i - i0) * SAMPLES, 1, ROWS, dym + cols, out, dy_end,
                               NULL, dw + i * out + cols, out);
            }
        }
        if (last < to) {
            for (nn_dim k = 0; k < depth; k++)
                memcpy(left + k * ROWS, x + nn_grid_at(g, m + k) + last, (size_t)(in % ROWS) * sizeof *left);
            nn_product(in % ROWS, out, depth, start, 0, left, 1, ROWS, dym, out, dy_end, NULL, dw + last * out, out);
        }
    }
}

/* All of dw; the team divides its rows. */
NN_INLINE void nn_dense_dw_grid(const nn_team *team, nn_dim rows, nn_dim in, nn_dim out, nn_grid g, const nn_real *x,
                                const nn_real *dy, nn_real *dw, int acc)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, in, NN_DW_ROWS, &from, &to);
    nn_dense_dw_rows(from, to, rows, in, out, g, x, dy, dw, acc);
}

NN_INLINE void nn_dense_dw(const nn_team *team, nn_dim rows, nn_dim in, nn_dim out, const nn_real *x,
                           const nn_real *dy, nn_real *dw, int acc)
{
    nn_dense_dw_grid(team, rows, in, out, NN_ROWS_APART(in), x, dy, dw, acc);
}

/* nn_dense_dw whose result goes to the update of the weight, `part` rows at a time: g holds so many. A thread computes
 * the same rows of every part and hands them over itself, so that nobody waits. */
NN_INLINE void nn_dense_dw_update(const nn_team *team, nn_dim rows, nn_dim in, nn_dim out, nn_dim part,
                                  const nn_real *x, const nn_real *dy, nn_real *g, const nn_update *u)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, part, NN_DW_ROWS, &from, &to);
    for (nn_dim i = 0; from < to && i + from < in; i += part) {
        const nn_dim n = nn_min_dim(to, in - i) - from;
        nn_dense_dw_rows(0, n, rows, n, out, NN_ROWS_APART(in), x + i + from, dy, g + from * out, 0);
        u->run(u, (i + from) * out, n * out, g + from * out);
    }
}

/* Adds n rows to their sum s. */
NN_INLINE void nn_bias_rows(int n, nn_dim channels, const nn_real *d, nn_real *restrict s)
{
    const nn_dim whole = channels / NN_VL * NN_VL;
    for (nn_dim c = 0; c < whole; c += NN_VL) {
        nn_vec v = nn_load(d + c);
        NN_UNROLL_FULL
        for (int i = 1; i < n; i++) v += nn_load(d + i * channels + c);
        nn_store(s + c, nn_load(s + c) + v);
    }
    for (nn_dim c = whole; c < channels; c++) {
        nn_real v = d[c];
        for (int i = 1; i < n; i++) v += d[i * channels + c];
        s[c] += v;
    }
}

/* db[c] = (acc ? db : 0) + sum over n and p of dy[n][c][p], n < outer, p < inner. Partial sums of at most
 * 32 parts of the outer axis, then their sum in order; scratch holds 32 * channels. */
enum { NN_BIAS_PARTS = 32 };
NN_INLINE void nn_bias_grad(const nn_team *team, nn_dim outer, nn_dim channels, nn_dim inner,
                            const nn_real *dy, nn_real *scratch, nn_real *db, int acc)
{
    const nn_dim parts = nn_max_dim(1, nn_min_dim(NN_BIAS_PARTS, outer / 8));
    nn_dim from, to;
    nn_share(team->rank, team->size, parts, 1, &from, &to);
    for (nn_dim p = from; p < to; p++) {
        const nn_dim n0 = nn_cut(outer, 1, p, parts), n1 = nn_cut(outer, 1, p + 1, parts);
        nn_real *s = scratch + p * channels;
        if (inner == 1 && channels < NN_VL) {
            /* Vectors of neighbouring rows: lane i of vector j holds channel (j * NN_VL + i) % channels. */
            nn_vec v[NN_VL] = { { 0 } };
            nn_real lanes[NN_VL * NN_VL];
            nn_dim n = n0;
            for (; n + NN_VL <= n1; n += NN_VL) {
                NN_UNROLL_FULL
                for (int j = 0; j < NN_VL; j++)
                    if (j < channels) v[j] += nn_load(dy + n * channels + j * NN_VL);
            }
            memcpy(lanes, v, sizeof lanes);
            for (nn_dim c = 0; c < channels; c++) {
                nn_real sum = 0;
                for (nn_dim i = c; i < channels * NN_VL; i += channels) sum += lanes[i];
                for (nn_dim rest = n; rest < n1; rest++) sum += dy[rest * channels + c];
                s[c] = sum;
            }
        } else if (inner == 1) {
            /* Whole rows, as they lie in memory, on sums that stay in a near cache. */
            memset(s, 0, (size_t)channels * sizeof *s);
            for (nn_dim n = n0; n < n1; n += 4) {
                const nn_real *d = dy + n * channels;
                if (n + 4 <= n1)
                    nn_bias_rows(4, channels, d, s);
                else
                    for (nn_dim i = 0; i < n1 - n; i++) nn_bias_rows(1, channels, d + i * channels, s);
            }
        } else {
            for (nn_dim c = 0; c < channels; c++) {
                nn_vec v = { 0 };
                nn_real rest = 0;
                for (nn_dim n = n0; n < n1; n++) {
                    const nn_real *d = dy + (n * channels + c) * inner;
                    nn_dim i = 0;
                    for (; i + NN_VL <= inner; i += NN_VL) v += nn_load(d + i);
                    for (; i < inner; i++) rest += d[i];
                }
                s[c] = nn_hsum(v) + rest;
            }
        }
    }
    nn_barrier(team);
    nn_sum_parts(team, channels, parts, scratch, acc, db);
}

#endif
