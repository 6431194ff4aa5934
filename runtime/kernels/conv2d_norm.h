/* SPDX-License-Identifier: MIT
 *
 * Convolutions with what comes next, done while the result is near. Forward: the moments of each channel, which batch
 * norm begins with. Backward: the gradient of the input plus that of another branch, relu's gradient of it, and the
 * sums that batch norm's gradient begins with. The tensors are large and little is computed, so what counts is how
 * often they pass through memory.
 *
 * In: what the kernels of conv2d.h, depthwise.h and winograd.h take. Out: their result in its final form, and the sums
 * in the parts of norm.h. Invariant: a part is computed and summed by one thread, in pieces that a near cache holds;
 * both are a function of the problem alone, so bits do not depend on the team.
 */
#ifndef NN_KERNELS_CONV2D_NORM_H
#define NN_KERNELS_CONV2D_NORM_H

#include "kernels/norm.h"
#include "kernels/winograd.h"

/* `parts` parts of `each` pieces. */
typedef struct nn_pieces {
    nn_dim parts, each;
} nn_pieces;

/* Of `pixels` pixels of a result with so many channels. */
NN_INLINE nn_pieces nn_pieces_of(nn_dim pixels, nn_dim channels)
{
    enum { PIECE = 262144 / NN_REAL_BYTES };
    const nn_dim parts = nn_norm_parts_of(pixels, 1);
    return (nn_pieces){ parts, nn_max_dim(1, pixels / parts * channels / PIECE) };
}

/* Cut p of `pieces` equal ones through the lines of `rows` images of h lines, each `step` of which are computed
 * together, as a pixel; through any pixels where lines do not count (NN_CONV_ROW). */
NN_INLINE nn_dim nn_piece_cut(nn_dim p, nn_dim pieces, int any, nn_dim rows, nn_dim h, nn_dim w, nn_dim step)
{
    if (any) return nn_cut(rows * h * w, NN_TILE_ACC / 2, p, pieces);
    const nn_dim some = (h + step - 1) / step, line = nn_cut(rows * some, 1, p, pieces);
    return (line / some * h + line % some * step) * w;
}

/* Piece i: the part of a convolution that it is, the pixels [r0, r1) of all images, and how many pixels the pieces
 * before it in its part have. */
typedef struct nn_piece {
    nn_part part;
    nn_dim r0, r1, before;
} nn_piece;

NN_INLINE nn_piece nn_piece_of(nn_pieces q, nn_dim i, int any, nn_dim rows, nn_dim h, nn_dim w, nn_dim step)
{
    const nn_dim all = q.parts * q.each, r0 = nn_piece_cut(i, all, any, rows, h, w, step);
    return (nn_piece){ .part = { (int)i, (int)all, 0, 1 }, .r0 = r0,
                       .r1 = nn_piece_cut(i + 1, all, any, rows, h, w, step),
                       .before = r0 - nn_piece_cut(i / q.each * q.each, all, any, rows, h, w, step) };
}

/* A piece by Winograd's algorithm, whose tiles are several lines. */
NN_INLINE void nn_winograd_piece(nn_piece p, nn_dim rows, nn_conv c, int relu, const nn_real *x, const nn_real *u,
                                 const nn_real *bias, nn_beside beside, nn_real *y)
{
    const nn_dim lines = rows * nn_winograd_down(c), tiles = nn_winograd_across(c);
    nn_dim from, to;
    nn_share(p.part.row, p.part.rows, lines, 1, &from, &to);
    nn_winograd_some(from * tiles, to * tiles, 0, nn_winograd_groups(c), c, relu, x, u, bias, NULL, beside, y);
}

/* ---- forward ---- */

/* The end of all forms: `compute` is piece p of y. Lines count one by one or by `step`, or not at all (`any`). */
#define NN_MOMENTS_OF_PIECES(any, step, compute)                                                    \
    do {                                                                                            \
        const nn_pieces q = nn_pieces_of(rows * c.oh * c.ow, c.co);                                 \
        nn_dim from, to;                                                                            \
        nn_share(team->rank, team->size, q.parts, 1, &from, &to);                                   \
        for (nn_dim i = from * q.each; i < to * q.each; i++) {                                      \
            const nn_piece p = nn_piece_of(q, i, any, rows, c.oh, c.ow, step);                      \
            compute;                                                                                \
            nn_norm_part(0, i / q.each, p.before, p.r0, p.r1, c.co, 1, (nn_norm_dy){ .x = y }, moments); \
        }                                                                                           \
    } while (0)

/* y = conv(x, w) + bias, then relu if asked, and its moments, as nn_batch_norm_act takes them. scratch: as the
 * convolution's, for Winograd's algorithm. Each form of conv2d.h has its own, of which a compiler copies no other. */
NN_INLINE void nn_conv2d_moments(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                 const nn_real *w, const nn_real *bias, nn_real *scratch, nn_real *y, nn_real *moments)
{
    (void)scratch;
    NN_MOMENTS_OF_PIECES(0, 1, nn_conv2d_part(p.part, rows, c, 0, relu, x, w, bias, NULL, y));
}

NN_INLINE void nn_conv2d_pointwise_moments(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                           const nn_real *w, const nn_real *bias, nn_real *scratch, nn_real *y,
                                           nn_real *moments)
{
    (void)scratch;
    NN_MOMENTS_OF_PIECES(1, 1, nn_conv2d_pointwise_part(p.part, rows, c, 0, relu, x, w, bias, NULL, y));
}

NN_INLINE void nn_conv2d_depthwise_moments(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                           const nn_real *w, const nn_real *bias, nn_real *scratch, nn_real *y,
                                           nn_real *moments)
{
    (void)scratch;
    NN_MOMENTS_OF_PIECES(0, 1, nn_depthwise_walk(p.part, rows, nn_depthwise_forward(c, relu), x, w, bias, y));
}

NN_INLINE void nn_conv2d_winograd_moments(const nn_team *team, nn_dim rows, nn_conv c, int relu, const nn_real *x,
                                          const nn_real *w, const nn_real *bias, nn_real *scratch, nn_real *y,
                                          nn_real *moments)
{
    nn_winograd_weights(team, nn_winograd_side(c), c.ci, c.co, w, scratch);
    nn_barrier(team);
    NN_MOMENTS_OF_PIECES(0, nn_winograd_side(c),
                         nn_winograd_piece(p, rows, c, relu, x, scratch, bias, (nn_beside){ { NULL } }, y));
}

/* ---- backward ---- */

/* As above: `compute` is piece p of dx. */
#define NN_ACT_DX_OF_PIECES(any, step, compute)                                                     \
    do {                                                                                            \
        const nn_pieces q = nn_pieces_of(rows * c.h * c.w, c.ci);                                   \
        nn_dim from, to;                                                                            \
        nn_share(team->rank, team->size, q.parts, 1, &from, &to);                                   \
        for (nn_dim i = from * q.each; i < to * q.each; i++) {                                      \
            const nn_piece p = nn_piece_of(q, i, any, rows, c.h, c.w, step);                        \
            compute;                                                                                \
            if (add || y) nn_act_dx(p.r0 * c.ci, p.r1 * c.ci, add, y, dx);                          \
            if (sums)                                                                               \
                nn_norm_part(scale != NULL, i / q.each, p.before, p.r0, p.r1, c.ci, 1,              \
                             (nn_norm_dy){ .x = x, .dy = dx, .m = mean, .scale = scale, .shift = shift }, sums); \
        }                                                                                           \
    } while (0)
/* dx from dy, plus `add`, and 0 where y is not positive; `add` and y may be NULL. sums, where not NULL: of dx for the
 * gradient of batch norm of x (nn_batch_norm_act_dx), with scale and shift where relu followed that layer. Where the
 * stride is not 1, it divides the height. scratch: as the convolution's. */
NN_INLINE void nn_conv2d_act_dx(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *dy, const nn_real *w,
                                const nn_real *add, const nn_real *y, const nn_real *x, const nn_real *mean,
                                const nn_real *scale, const nn_real *shift, nn_real *scratch, nn_real *dx,
                                nn_real *sums)
{
    nn_conv_flip(team, c, w, scratch);
    nn_barrier(team);
    NN_ACT_DX_OF_PIECES(0, c.step_h, nn_conv_phases(p.part, rows, c, 1, 0, dy, scratch, NULL, dx));
}

NN_INLINE void nn_conv2d_pointwise_act_dx(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *dy,
                                          const nn_real *w, const nn_real *add, const nn_real *y, const nn_real *x,
                                          const nn_real *mean, const nn_real *scale, const nn_real *shift,
                                          nn_real *scratch, nn_real *dx, nn_real *sums)
{
    nn_conv_flip(team, c, w, scratch);
    nn_barrier(team);
    NN_ACT_DX_OF_PIECES(1, 1, nn_conv_pointwise_phase(p.part, rows, c, 0, dy, scratch, NULL, dx));
}

NN_INLINE void nn_conv2d_depthwise_act_dx(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *dy,
                                          const nn_real *w, const nn_real *add, const nn_real *y, const nn_real *x,
                                          const nn_real *mean, const nn_real *scale, const nn_real *shift,
                                          nn_real *scratch, nn_real *dx, nn_real *sums)
{
    (void)scratch;
    NN_ACT_DX_OF_PIECES(0, 1, nn_depthwise_walk(p.part, rows, nn_depthwise_backward(c), dy, w, NULL, dx));
}

NN_INLINE void nn_conv2d_winograd_act_dx(const nn_team *team, nn_dim rows, nn_conv c, const nn_real *dy,
                                         const nn_real *w, const nn_real *add, const nn_real *y, const nn_real *x,
                                         const nn_real *mean, const nn_real *scale, const nn_real *shift,
                                         nn_real *scratch, nn_real *dx, nn_real *sums)
{
    const nn_conv back = nn_winograd_back(c);
    const nn_beside beside = { { add, y, sums ? x : NULL } };
    nn_winograd_weights_dx(team, nn_winograd_side(back), back.ci, back.co, w, scratch);
    nn_barrier(team);
    NN_ACT_DX_OF_PIECES(0, nn_winograd_side(back), nn_winograd_piece(p, rows, back, 0, dy, scratch, NULL, beside, dx));
}

#endif
