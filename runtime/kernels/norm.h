/* SPDX-License-Identifier: MIT
 *
 * Batch and layer normalisation. Statistics take two passes, the mean from differences to a first value, then
 * differences to that mean, so a mean of 1e4 costs no digits of a small variance. For a batch both passes go over one
 * block at a time, which is still in the nearest cache the second time; blocks are combined as they come, and parts
 * in order, in double precision. Where x or dy comes from a convolution, that takes the sums (conv2d_norm.h).
 *
 * Batch normalisation sees memory as [outer][channels][inner]: inner = 1 for features and channels-last images.
 */
#ifndef NN_KERNELS_NORM_H
#define NN_KERNELS_NORM_H

#include "kernels/tile.h"

enum { NN_NORM_PARTS = 32, NN_NORM_SUMS = 3 };

/* n lanes at p; the lanes beyond are whatever follows before `end`, or fill. */
NN_INLINE nn_vec nn_load_before(const nn_real *p, int n, const nn_real *end, nn_real fill)
{
    return n == NN_VL || end - p >= NN_VL ? nn_load(p) : nn_load_part(p, n, fill);
}

/* ---- statistics of a batch ---- */

/* The rows of a batch are summed in parts, whose number depends on the rows alone. A part's sums lie together:
 * number i of channel c of part p at part[(p * NN_NORM_SUMS + i) * channels + c]. */
NN_INLINE nn_dim nn_norm_parts_of(nn_dim rows, nn_dim inner)
{
    return nn_max_dim(1, nn_min_dim(NN_NORM_PARTS, inner > 1 ? rows : rows / 8));
}

/* Moments are three numbers for each channel: a value of the part (its first), the mean of the differences to it, and
 * the sum of squared differences to that mean. Behind those of NN_NORM_PARTS parts stands how many rows each part has.
 */
NN_INLINE nn_dim nn_norm_counts_at(nn_dim channels)
{
    return NN_NORM_PARTS * NN_NORM_SUMS * channels;
}

/* Moments of n channels from k on over rows [r0, r1) of [outer][channels]. `before` rows were counted earlier, whose
 * moments `out` holds, `out_step` between its three numbers. Memory of x ends with row r1. A block's sums are taken
 * around the mean of the blocks before it, so that squares of a distance that has nothing to do with the variance
 * matter in none but the first, which is passed twice. */
NN_INLINE void nn_norm_moments_rows(int n, nn_dim before, nn_dim r0, nn_dim r1, nn_dim channels, nn_dim k,
                                    const nn_real *x, nn_dim out_step, nn_real *out)
{
    enum { BLOCK = 64, WAYS = 4 };
    const nn_real *const stop = x + r1 * channels;
    const nn_vec ref = before ? nn_load_part(out + k, n, 0) : nn_load_before(x + r0 * channels + k, n, stop, 0);
    nn_vec mean = { 0 }, square = { 0 };
    if (before) {
        mean = nn_load_part(out + out_step + k, n, 0);
        square = nn_load_part(out + 2 * out_step + k, n, 0);
    }
    for (nn_dim b = r0; b < r1; b += BLOCK) {
        const nn_dim end = nn_min_dim(b + BLOCK, r1), had = before + b - r0;
        const nn_real part = (nn_real)1 / (nn_real)(end - b), weight = (nn_real)(end - b) / (nn_real)(end - b + had);
        for (int pass = had > 0; pass < 2; pass++) {
            const nn_vec centre = ref + mean;
            nn_vec s[WAYS] = { { 0 } }, q[WAYS] = { { 0 } };
            nn_dim r = b;
            for (; r + WAYS <= end; r += WAYS) {
                NN_UNROLL_FULL
                for (int u = 0; u < WAYS; u++) {
                    const nn_vec c = nn_load_before(x + (r + u) * channels + k, n, stop, 0) - centre;
                    s[u] += c;
                    q[u] += c * c;
                }
            }
            for (; r < end; r++) {
                const nn_vec c = nn_load_before(x + r * channels + k, n, stop, 0) - centre;
                s[0] += c;
                q[0] += c * c;
            }
            const nn_vec sum = (s[0] + s[1]) + (s[2] + s[3]), rest = sum * part;
            const nn_vec from_ref = (centre - ref) + rest, apart = from_ref - mean;
            if (pass) {
                square += ((q[0] + q[1]) + (q[2] + q[3])) - sum * rest + apart * apart * ((nn_real)had * weight);
                mean += apart * weight;
            } else {
                mean = from_ref;
            }
        }
    }
    nn_store_part(out + k, ref, n);
    nn_store_part(out + out_step + k, mean, n);
    nn_store_part(out + 2 * out_step + k, square, n);
}

/* The same for one channel whose `inner` values lie together in each of rows [r0, r1). */
NN_INLINE void nn_norm_moments_inner(nn_dim r0, nn_dim r1, nn_dim channels, nn_dim inner, nn_dim k, const nn_real *x,
                                     nn_dim out_step, nn_real *out)
{
    const nn_real ref = x[(r0 * channels + k) * inner];
    const int tail = (int)(inner % NN_VL);
    nn_real mean = 0, square = 0;
    for (int pass = 0; pass < 2; pass++) {
        const nn_vec mv = nn_splat(mean);
        nn_vec sum = { 0 };
        for (nn_dim r = r0; r < r1; r++) {
            const nn_real *xr = x + (r * channels + k) * inner;
            nn_vec s = { 0 };
            nn_dim i = 0;
            for (; i + NN_VL <= inner; i += NN_VL) {
                const nn_vec c = nn_load(xr + i) - ref - mv;
                s += pass ? c * c : c;
            }
            if (tail) {
                nn_vec c = nn_load_part(xr + i, tail, ref) - ref;
                if (pass) { /* lanes without a value count nothing */
                    nn_vec m = { 0 };
                    memcpy(&m, &mv, (size_t)tail * sizeof(nn_real));
                    c -= m;
                    c *= c;
                }
                s += c;
            }
            sum += s;
        }
        if (pass)
            square = nn_hsum(sum);
        else
            mean = nn_hsum(sum) / (nn_real)((r1 - r0) * inner);
    }
    out[k] = ref;
    out[out_step + k] = mean;
    out[2 * out_step + k] = square;
}

/* ---- sums for the gradients: dy, dy*c and c, where c = x - m ---- */

/* What the gradients are about. scale and shift NULL: dy is taken as it is; else relu followed, and dy counts where
 * (x - m) * scale + shift was positive. */
typedef struct nn_norm_dy {
    const nn_real *x, *dy, *m, *scale, *shift;
} nn_norm_dy;

NN_INLINE nn_vec nn_norm_masked(nn_vec dy, nn_vec c, nn_vec scale, nn_vec shift)
{
    const nn_ivec off = c * scale + shift <= (nn_vec){ 0 };
    return (nn_vec)((nn_ivec)dy & ~off);
}

NN_INLINE void nn_norm_add(nn_vec dy, nn_vec c, nn_vec s[NN_NORM_SUMS])
{
    s[0] += dy;
    s[1] += dy * c;
    s[2] += c;
}

/* Sums of n channels from k on over rows [r0, r1) of [outer][channels], in blocks so that rounding errors do not
 * pile up; with `before` added to those that `out` holds. Memory of x and dy ends with row r1. */
NN_INLINE void nn_norm_sum_rows(int relu, int n, nn_dim before, nn_dim r0, nn_dim r1, nn_dim channels, nn_dim k,
                                nn_norm_dy g, nn_dim out_step, nn_real *out)
{
    enum { BLOCK = 64, WAYS = 4 };
    const nn_dim total = r1 * channels;
    const nn_vec mv = nn_load_part(g.m + k, n, 0);
    const nn_vec scale = relu ? nn_load_part(g.scale + k, n, 0) : mv;
    const nn_vec shift = relu ? nn_load_part(g.shift + k, n, 0) : mv;
    nn_vec sum[NN_NORM_SUMS] = { { 0 } };
    for (nn_dim b = r0; b < r1; b += BLOCK) {
        const nn_dim end = nn_min_dim(b + BLOCK, r1);
        nn_vec s[WAYS][NN_NORM_SUMS] = { { { 0 } } };
        nn_dim r = b;
        for (; r + WAYS <= end; r += WAYS) {
            NN_UNROLL_FULL
            for (int u = 0; u < WAYS; u++) {
                const nn_dim at = (r + u) * channels + k;
                const nn_vec d = nn_load_before(g.dy + at, n, g.dy + total, 0);
                const nn_vec c = nn_load_before(g.x + at, n, g.x + total, 0) - mv;
                nn_norm_add(relu ? nn_norm_masked(d, c, scale, shift) : d, c, s[u]);
            }
        }
        for (; r < end; r++) {
            const nn_dim at = r * channels + k;
            const nn_vec d = nn_load_before(g.dy + at, n, g.dy + total, 0);
            const nn_vec c = nn_load_before(g.x + at, n, g.x + total, 0) - mv;
            nn_norm_add(relu ? nn_norm_masked(d, c, scale, shift) : d, c, s[0]);
        }
        NN_UNROLL_FULL
        for (int i = 0; i < NN_NORM_SUMS; i++) sum[i] += (s[0][i] + s[1][i]) + (s[2][i] + s[3][i]);
    }
    NN_UNROLL_FULL
    for (int i = 0; i < NN_NORM_SUMS; i++) {
        if (before) sum[i] += nn_load_part(out + i * out_step + k, n, 0);
        nn_store_part(out + i * out_step + k, sum[i], n);
    }
}

/* The same for one channel whose `inner` values lie together in each of rows [r0, r1). */
NN_INLINE void nn_norm_sum_inner(int relu, nn_dim r0, nn_dim r1, nn_dim channels, nn_dim inner, nn_dim k, nn_norm_dy g,
                                 nn_dim out_step, nn_real *out)
{
    const nn_vec mv = nn_splat(g.m[k]);
    const nn_vec scale = nn_splat(relu ? g.scale[k] : 0), shift = nn_splat(relu ? g.shift[k] : 0);
    const int tail = (int)(inner % NN_VL);
    nn_vec sum[NN_NORM_SUMS] = { { 0 } };
    for (nn_dim r = r0; r < r1; r++) {
        const nn_real *xr = g.x + (r * channels + k) * inner, *dr = g.dy + (r * channels + k) * inner;
        nn_vec s[NN_NORM_SUMS] = { { 0 } };
        for (nn_dim i = 0; i < inner; i += NN_VL) {
            const int whole = i + NN_VL <= inner;
            const nn_vec c = (whole ? nn_load(xr + i) : nn_load_part(xr + i, tail, g.m[k])) - mv;
            const nn_vec d = whole ? nn_load(dr + i) : nn_load_part(dr + i, tail, 0);
            nn_norm_add(relu ? nn_norm_masked(d, c, scale, shift) : d, c, s);
        }
        NN_UNROLL_FULL
        for (int j = 0; j < NN_NORM_SUMS; j++) sum[j] += s[j];
    }
    NN_UNROLL_FULL
    for (int j = 0; j < NN_NORM_SUMS; j++) out[j * out_step + k] = nn_hsum(sum[j]);
}

/* Rows [r0, r1) of part p: moments of g.x where g.dy is NULL, else sums for the gradients, added to those of the
 * `before` rows of the part that were counted earlier (inner = 1 only). */
NN_ONCE void nn_norm_part(int relu, nn_dim p, nn_dim before, nn_dim r0, nn_dim r1, nn_dim channels, nn_dim inner,
                          nn_norm_dy g, nn_real *part)
{
    const int tail = (int)(channels % NN_VL);
    nn_real *out = part + p * NN_NORM_SUMS * channels;
    nn_dim k = 0;
    if (!g.dy) part[nn_norm_counts_at(channels) + p] = (nn_real)((before + r1 - r0) * inner);
    if (r0 == r1) {
        if (!before) memset(out, 0, (size_t)(NN_NORM_SUMS * channels) * sizeof *out);
    } else if (inner > 1) {
        for (; k < channels; k++) {
            if (g.dy)
                nn_norm_sum_inner(relu, r0, r1, channels, inner, k, g, channels, out);
            else
                nn_norm_moments_inner(r0, r1, channels, inner, k, g.x, channels, out);
        }
    } else if (g.dy && relu) {
        for (; k + NN_VL <= channels; k += NN_VL)
            nn_norm_sum_rows(1, NN_VL, before, r0, r1, channels, k, g, channels, out);
        if (tail) nn_norm_sum_rows(1, tail, before, r0, r1, channels, k, g, channels, out);
    } else if (g.dy) {
        for (; k + NN_VL <= channels; k += NN_VL)
            nn_norm_sum_rows(0, NN_VL, before, r0, r1, channels, k, g, channels, out);
        if (tail) nn_norm_sum_rows(0, tail, before, r0, r1, channels, k, g, channels, out);
    } else {
        for (; k + NN_VL <= channels; k += NN_VL)
            nn_norm_moments_rows(NN_VL, before, r0, r1, channels, k, g.x, channels, out);
        if (tail) nn_norm_moments_rows(tail, before, r0, r1, channels, k, g.x, channels, out);
    }
}

/* This thread's parts. The last part comes first: the end of what was just computed is in a near cache, and so is the
 * beginning when the parts are done. */
NN_INLINE void nn_norm_all_parts(const nn_team *team, int relu, nn_dim outer, nn_dim channels, nn_dim inner,
                                 nn_norm_dy g, nn_real *part)
{
    const nn_dim parts = nn_norm_parts_of(outer, inner);
    nn_dim from, to;
    nn_share(team->rank, team->size, parts, 1, &from, &to);
    for (nn_dim p = to - 1; p >= from; p--)
        nn_norm_part(relu, p, 0, nn_cut(outer, 1, p, parts), nn_cut(outer, 1, p + 1, parts), channels, inner, g, part);
}

/* Sum i of channel c over all parts. */
NN_INLINE double nn_norm_total(nn_dim parts, nn_dim channels, nn_dim c, int i, const nn_real *part)
{
    double s = 0;
    for (nn_dim p = 0; p < parts; p++) s += (double)part[(p * NN_NORM_SUMS + i) * channels + c];
    return s;
}

/* ---- the results, over rows [r0, r1) ---- */

/* One vector of y or, given dy, of dx; n lanes of it. */
typedef struct nn_norm_lane {
    nn_vec m, scale, shift, gain, was_shift;
} nn_norm_lane;

NN_INLINE nn_norm_lane nn_norm_lanes(nn_dim k, int n, const nn_real *m, const nn_real *scale, const nn_real *shift,
                                     const nn_real *gain, const nn_real *was_shift)
{
    nn_norm_lane c = { .m = nn_load_part(m + k, n, 0), .scale = nn_load_part(scale + k, n, 0),
                       .shift = nn_load_part(shift + k, n, 0) };
    if (gain) c.gain = nn_load_part(gain + k, n, 0);
    if (was_shift) c.was_shift = nn_load_part(was_shift + k, n, 0);
    return c;
}

NN_INLINE nn_norm_lane nn_norm_splat(nn_dim k, const nn_real *m, const nn_real *scale, const nn_real *shift,
                                     const nn_real *gain, const nn_real *was_shift)
{
    nn_norm_lane c = { .m = nn_splat(m[k]), .scale = nn_splat(scale[k]), .shift = nn_splat(shift[k]) };
    if (gain) c.gain = nn_splat(gain[k]);
    if (was_shift) c.was_shift = nn_splat(was_shift[k]);
    return c;
}

/* (x - m) * scale + shift, then plus `more` and relu if asked. */
NN_INLINE nn_vec nn_norm_y(nn_norm_lane c, int relu, int has_more, nn_vec x, nn_vec more)
{
    nn_vec v = (x - c.m) * c.scale + c.shift;
    if (has_more) v += more;
    return relu ? nn_relu(v) : v;
}

/* (x - m) * scale + shift + dy * gain; with relu dy counts where (x - m) * gain + was_shift was positive. */
NN_INLINE nn_vec nn_norm_dx(nn_norm_lane c, int relu, nn_vec x, nn_vec dy)
{
    const nn_vec d = relu ? nn_norm_masked(dy, x - c.m, c.gain, c.was_shift) : dy;
    return (x - c.m) * c.scale + c.shift + d * c.gain;
}

/* y of x, where `more` may be NULL, or, given gain, dx of x and of dy = more. */
NN_INLINE void nn_norm_apply(nn_dim r0, nn_dim r1, nn_dim channels, nn_dim inner, nn_dim total, int relu,
                             const nn_real *x, const nn_real *more, const nn_real *m, const nn_real *scale,
                             const nn_real *shift, const nn_real *gain, const nn_real *was_shift, nn_real *y)
{
#define NN_VALUE(c, a, b) (gain ? nn_norm_dx(c, relu, a, b) : nn_norm_y(c, relu, more != NULL, a, b))
    const int tail = (int)((inner == 1 ? channels : inner) % NN_VL);
    for (nn_dim r = r0; r < r1; r++) {
        if (inner == 1) {
            const nn_dim at = r * channels;
            nn_dim k = 0;
            for (; k + NN_VL <= channels; k += NN_VL) {
                const nn_norm_lane c = nn_norm_lanes(k, NN_VL, m, scale, shift, gain, was_shift);
                const nn_vec a = nn_load(x + at + k), b = more ? nn_load(more + at + k) : a;
                nn_store(y + at + k, NN_VALUE(c, a, b));
            }
            if (tail) {
                const nn_norm_lane c = nn_norm_lanes(k, tail, m, scale, shift, gain, was_shift);
                const nn_vec a = nn_load_before(x + at + k, tail, x + total, 0);
                const nn_vec b = more ? nn_load_before(more + at + k, tail, more + total, 0) : a;
                nn_store_part(y + at + k, NN_VALUE(c, a, b), tail);
            }
            continue;
        }
        for (nn_dim k = 0; k < channels; k++) {
            const nn_dim at = (r * channels + k) * inner;
            const nn_norm_lane c = nn_norm_splat(k, m, scale, shift, gain, was_shift);
            nn_dim i = at;
            for (; i + NN_VL <= at + inner; i += NN_VL) {
                const nn_vec a = nn_load(x + i), b = more ? nn_load(more + i) : a;
                nn_store(y + i, NN_VALUE(c, a, b));
            }
            if (tail) {
                const nn_vec a = nn_load_part(x + i, tail, 0), b = more ? nn_load_part(more + i, tail, 0) : a;
                nn_store_part(y + i, NN_VALUE(c, a, b), tail);
            }
        }
    }
#undef NN_VALUE
}

/* What y = (x - mean) * scale + shift needs, for this thread's share of the channels, from the moments of `parts` parts
 * of count values: m is the mean as rounded, which the shift makes up for. mean and var may be NULL. */
NN_ONCE void nn_norm_statistics(const nn_team *team, nn_dim parts, nn_dim channels, double count, nn_real eps,
                                const nn_real *part, const nn_real *weight, const nn_real *bias, nn_real *m,
                                nn_real *mean, nn_real *var, nn_real *scale, nn_real *shift)
{
    const nn_real *rows = part + nn_norm_counts_at(channels);
    nn_dim from, to;
    nn_share(team->rank, team->size, channels, 1, &from, &to);
    for (nn_dim c = from; c < to; c++) {
        const double ref = (double)part[c]; /* distances to it are small and keep their digits */
        double sum = 0, square = 0;
        for (nn_dim p = 0; p < parts; p++) {
            const nn_real *at = part + p * NN_NORM_SUMS * channels + c;
            sum += (double)rows[p] * (((double)at[0] - ref) + (double)at[channels]);
        }
        for (nn_dim p = 0; p < parts; p++) {
            const nn_real *at = part + p * NN_NORM_SUMS * channels + c;
            const double apart = (((double)at[0] - ref) + (double)at[channels]) - sum / count;
            square += (double)at[2 * channels] + (double)rows[p] * apart * apart;
        }
        const nn_real v = (nn_real)(square / count);
        const double k = (double)weight[c] / sqrt((double)v + (double)eps);
        m[c] = (nn_real)(ref + sum / count);
        if (mean) mean[c] = m[c];
        if (var) var[c] = v;
        scale[c] = (nn_real)k;
        shift[c] = (nn_real)((double)bias[c] - k * (sum / count - ((double)m[c] - ref)));
    }
}

/* y = (x - mean) / sqrt(var + eps) * weight + bias, plus `more`, then relu if asked; mean[c], the biased var[c], and
 * the factors of y = (x - mean) * scale + shift, whose shift makes up for the rounding of the mean. more and any result
 * may be NULL. moments: of x, where they are known, else NULL; scratch: 3*channels, and without moments
 * NN_NORM_PARTS*(NN_NORM_SUMS*channels + 1) more. */
NN_INLINE void nn_batch_norm_act(const nn_team *team, nn_dim outer, nn_dim channels, nn_dim inner, nn_real eps,
                                 int relu, const nn_real *x, const nn_real *weight, const nn_real *bias,
                                 const nn_real *more, const nn_real *moments, nn_real *scratch, nn_real *y,
                                 nn_real *mean, nn_real *var, nn_real *scale, nn_real *shift)
{
    const nn_dim parts = nn_norm_parts_of(outer, inner);
    const double count = (double)(outer * inner);
    nn_real *const m = scratch;
    const nn_real *part = moments;
    nn_dim from, to;
    if (!scale) scale = scratch + channels;
    if (!shift) shift = scratch + 2 * channels;
    if (!moments) {
        nn_real *const own = scratch + 3 * channels;
        nn_norm_all_parts(team, 0, outer, channels, inner, (nn_norm_dy){ .x = x }, own);
        nn_barrier(team);
        part = own;
    }
    nn_norm_statistics(team, parts, channels, count, eps, part, weight, bias, m, mean, var, scale, shift);
    nn_barrier(team);
    if (!y) return;
    nn_share(team->rank, team->size, outer, 1, &from, &to);
    nn_norm_apply(from, to, channels, inner, outer * channels, relu, x, more, m, scale, shift, NULL, NULL, y);
}

NN_INLINE void nn_batch_norm_train(const nn_team *team, nn_dim outer, nn_dim channels, nn_dim inner, nn_real eps,
                                   const nn_real *x, const nn_real *weight, const nn_real *bias, nn_real *scratch,
                                   nn_real *y, nn_real *mean, nn_real *var)
{
    nn_batch_norm_act(team, outer, channels, inner, eps, 0, x, weight, bias, NULL, NULL, scratch, y, mean, var, NULL,
                      NULL);
}

/* What dx = (x - mean) * scale + shift + dy * gain needs, for this thread's share of the channels; dweight and dbias
 * may be NULL. The remainder of the rounded mean is summed again, so that the gradients are those of the exact
 * statistics. */
NN_ONCE void nn_norm_slopes(const nn_team *team, nn_dim parts, nn_dim channels, double count, nn_real eps,
                            const nn_real *part, const nn_real *var, const nn_real *weight, nn_real *scale,
                            nn_real *shift, nn_real *gain, nn_real *dweight, nn_real *dbias)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, channels, 1, &from, &to);
    for (nn_dim c = from; c < to; c++) {
        const double sum_dy = nn_norm_total(parts, channels, c, 0, part);
        const double rest = nn_norm_total(parts, channels, c, 2, part) / count;
        const double sum_dyc = nn_norm_total(parts, channels, c, 1, part) - rest * sum_dy;
        const double deviation = sqrt((double)var[c] + (double)eps), rstd = 1 / deviation;
        const double k = (double)weight[c] / deviation, slope = rstd * rstd * sum_dyc / count;
        if (dweight) dweight[c] = (nn_real)(rstd * sum_dyc);
        if (dbias) dbias[c] = (nn_real)sum_dy;
        gain[c] = (nn_real)k; /* the very scale of the forward pass */
        scale[c] = (nn_real)(-k * slope);
        shift[c] = (nn_real)(k * (slope * rest - sum_dy / count));
    }
}

/* Gradients; any result may be NULL, and dx may be dy. relu: of relu after the layer, whose scale and shift are given.
 * sums: of dy, where they are known, else NULL; scratch: 3*channels, and without sums
 * NN_NORM_PARTS*NN_NORM_SUMS*channels more. */
NN_INLINE void nn_batch_norm_act_dx(const nn_team *team, nn_dim outer, nn_dim channels, nn_dim inner, nn_real eps,
                                    int relu, const nn_real *dy, const nn_real *x, const nn_real *mean,
                                    const nn_real *var, const nn_real *weight, const nn_real *was_scale,
                                    const nn_real *was_shift, const nn_real *sums, nn_real *scratch, nn_real *dx,
                                    nn_real *dweight, nn_real *dbias)
{
    const nn_dim parts = nn_norm_parts_of(outer, inner);
    const double count = (double)(outer * inner);
    nn_real *scale = scratch, *shift = scale + channels, *gain = shift + channels;
    const nn_real *part = sums;
    nn_dim from, to;
    if (!sums) {
        nn_real *const own = gain + channels;
        nn_norm_all_parts(team, relu, outer, channels, inner,
                          (nn_norm_dy){ .x = x, .dy = dy, .m = mean, .scale = was_scale, .shift = was_shift }, own);
        nn_barrier(team);
        part = own;
    }
    nn_norm_slopes(team, parts, channels, count, eps, part, var, weight, scale, shift, gain, dweight, dbias);
    nn_barrier(team);
    if (!dx) return;
    nn_share(team->rank, team->size, outer, 1, &from, &to);
    nn_norm_apply(from, to, channels, inner, outer * channels, relu, x, dy, mean, scale, shift, gain, was_shift, dx);
}

NN_INLINE void nn_batch_norm_train_dx(const nn_team *team, nn_dim outer, nn_dim channels, nn_dim inner, nn_real eps,
                                      const nn_real *dy, const nn_real *x, const nn_real *mean, const nn_real *var,
                                      const nn_real *weight, nn_real *scratch, nn_real *dx, nn_real *dweight,
                                      nn_real *dbias)
{
    nn_batch_norm_act_dx(team, outer, channels, inner, eps, 0, dy, x, mean, var, weight, NULL, NULL, NULL, scratch, dx,
                         dweight, dbias);
}

/* y = (x - mean) / sqrt(var + eps) * weight + bias for the rows of a share. */
NN_INLINE void nn_batch_norm(nn_dim outer, nn_dim channels, nn_dim inner, nn_real eps, const nn_real *x,
                             const nn_real *weight, const nn_real *bias, const nn_real *mean, const nn_real *var,
                             nn_real *y)
{
    enum { SOME = 64 };
    nn_real scale[SOME];
    for (nn_dim c0 = 0; c0 < channels; c0 += SOME) {
        const nn_dim some = nn_min_dim(SOME, channels - c0);
        for (nn_dim c = 0; c < some; c++)
            scale[c] = (nn_real)((double)weight[c0 + c] / sqrt((double)var[c0 + c] + (double)eps));
        for (nn_dim r = 0; r < outer; r++) {
            const nn_dim at = (r * channels + c0) * inner;
            if (inner == 1) {
                NN_IVDEP
                for (nn_dim c = 0; c < some; c++)
                    y[at + c] = (x[at + c] - mean[c0 + c]) * scale[c] + bias[c0 + c];
            } else {
                for (nn_dim c = 0; c < some; c++) {
                    const nn_real m = mean[c0 + c], s = scale[c], b = bias[c0 + c];
                    NN_IVDEP
                    for (nn_dim i = 0; i < inner; i++) y[at + c * inner + i] = (x[at + c * inner + i] - m) * s + b;
                }
            }
        }
    }
}

/* ---- layer normalisation: rows of n values ---- */

/* y, mean and rstd = 1/sqrt(var + eps) of each row; weight and bias may be NULL, and so may the results. */
NN_INLINE void nn_layer_norm(nn_dim rows, nn_dim n, nn_real eps, const nn_real *x, const nn_real *weight,
                             const nn_real *bias, nn_real *y, nn_real *mean, nn_real *rstd)
{
    const int tail = (int)(n % NN_VL);
    const nn_dim main = n - tail;
    for (nn_dim r = 0; r < rows; r++) {
        const nn_real *xr = x + r * n;
        nn_real m = xr[0];
        double rest = 0, square = 0;
        for (int pass = 0; pass < 2; pass++) {
            const nn_vec mv = nn_splat(m);
            nn_vec s0[2] = { { 0 } }, s1[2] = { { 0 } };
            nn_dim i = 0;
            for (; i + 2 * NN_VL <= main; i += 2 * NN_VL) {
                NN_UNROLL_FULL
                for (int u = 0; u < 2; u++) {
                    const nn_vec c = nn_load(xr + i + u * NN_VL) - mv;
                    s0[u] += c;
                    s1[u] += c * c;
                }
            }
            for (; i < n; i += NN_VL) {
                const nn_vec c = (i < main ? nn_load(xr + i) : nn_load_part(xr + i, tail, m)) - mv;
                s0[0] += c;
                s1[0] += c * c;
            }
            rest = (double)nn_hsum(s0[0] + s0[1]) / (double)n;
            square = (double)nn_hsum(s1[0] + s1[1]) / (double)n;
            if (pass == 0) m = (nn_real)((double)m + rest);
        }
        const double v = square - rest * rest;
        const double k = 1 / sqrt((v > 0 || v != v ? v : 0) + (double)eps);
        if (mean) mean[r] = (nn_real)((double)m + rest);
        if (rstd) rstd[r] = (nn_real)k;
        if (!y) continue;
        const nn_vec mv = nn_splat(m), kv = nn_splat((nn_real)k), hv = nn_splat((nn_real)(-k * rest));
        for (nn_dim i = 0; i < main; i += NN_VL) {
            nn_vec h = (nn_load(xr + i) - mv) * kv + hv;
            if (weight) h *= nn_load(weight + i);
            if (bias) h += nn_load(bias + i);
            nn_store(y + r * n + i, h);
        }
        if (tail) {
            nn_vec h = (nn_load_part(xr + main, tail, 0) - mv) * kv + hv;
            if (weight) h *= nn_load_part(weight + main, tail, 0);
            if (bias) h += nn_load_part(bias + main, tail, 0);
            nn_store_part(y + r * n + main, h, tail);
        }
    }
}

/* The same by the team, which divides the rows. */
NN_INLINE void nn_layer_norm_tall(const nn_team *team, nn_dim rows, nn_dim n, nn_real eps, const nn_real *x,
                                  const nn_real *weight, const nn_real *bias, nn_real *y, nn_real *mean,
                                  nn_real *rstd)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, rows, 1, &from, &to);
    nn_layer_norm(to - from, n, eps, x + from * n, weight, bias, y ? y + from * n : NULL, mean ? mean + from : NULL,
                  rstd ? rstd + from : NULL);
}

/* One vector of a row: lanes of g = dy*weight and c = x - mean. */
NN_INLINE void nn_layer_norm_lanes(int n, nn_real m, const nn_real *dy, const nn_real *x, const nn_real *weight,
                                   nn_vec *d, nn_vec *g, nn_vec *c)
{
    *d = n == NN_VL ? nn_load(dy) : nn_load_part(dy, n, 0);
    *c = (n == NN_VL ? nn_load(x) : nn_load_part(x, n, m)) - nn_splat(m);
    *g = *d;
    if (weight) *g *= n == NN_VL ? nn_load(weight) : nn_load_part(weight, n, 0);
}

/* Gradients; any result may be NULL. dweight and dbias are summed in NN_NORM_PARTS parts of the rows; scratch holds
 * them: 2*NN_NORM_PARTS*n. */
NN_INLINE void nn_layer_norm_dx(const nn_team *team, nn_dim rows, nn_dim n, const nn_real *dy, const nn_real *x,
                                const nn_real *mean, const nn_real *rstd, const nn_real *weight, nn_real *scratch,
                                nn_real *dx, nn_real *dweight, nn_real *dbias)
{
    const nn_dim parts = nn_min_dim(NN_NORM_PARTS, rows);
    const int tail = (int)(n % NN_VL), sums = dweight || dbias;
    nn_real *dw_part = scratch, *db_part = scratch + parts * n;
    nn_dim from, to;
    nn_share(team->rank, team->size, parts, 1, &from, &to);
    for (nn_dim p = from; p < to; p++) {
        nn_real *dw = dw_part + p * n, *db = db_part + p * n;
        if (sums) {
            memset(dw, 0, (size_t)n * sizeof *dw);
            memset(db, 0, (size_t)n * sizeof *db);
        }
        for (nn_dim r = nn_cut(rows, 1, p, parts); r < nn_cut(rows, 1, p + 1, parts); r++) {
            const nn_real *xr = x + r * n, *dr = dy + r * n;
            const nn_real m = mean[r];
            nn_vec s[3] = { { 0 } }, d, g, c;
            for (nn_dim i = 0; i < n; i += NN_VL) {
                nn_layer_norm_lanes(i + NN_VL <= n ? NN_VL : tail, m, dr + i, xr + i, weight ? weight + i : NULL, &d,
                                    &g, &c);
                s[0] += g;
                s[1] += g * c;
                s[2] += c;
            }
            const double sum_g = (double)nn_hsum(s[0]), rest = (double)nn_hsum(s[2]) / (double)n;
            const double sum_gc = (double)nn_hsum(s[1]) - rest * sum_g, k = (double)rstd[r];
            const double slope = k * k * sum_gc / (double)n;
            const nn_vec kv = nn_splat((nn_real)k), sv = nn_splat((nn_real)(-k * slope));
            const nn_vec hv = nn_splat((nn_real)(k * (slope * rest - sum_g / (double)n)));
            const nn_vec rv = nn_splat((nn_real)(-k * rest));
            for (nn_dim i = 0; i < n; i += NN_VL) {
                const int some = i + NN_VL <= n ? NN_VL : tail;
                nn_layer_norm_lanes(some, m, dr + i, xr + i, weight ? weight + i : NULL, &d, &g, &c);
                if (dx) nn_store_part(dx + r * n + i, g * kv + c * sv + hv, some);
                if (!sums) continue;
                nn_store_part(dw + i, nn_load_part(dw + i, some, 0) + d * (c * kv + rv), some);
                nn_store_part(db + i, nn_load_part(db + i, some, 0) + d, some);
            }
        }
    }
    if (!sums) return;
    nn_barrier(team);
    if (dweight) nn_sum_parts(team, n, parts, dw_part, 0, dweight);
    if (dbias) nn_sum_parts(team, n, parts, db_part, 0, dbias);
}

#endif
