/* SPDX-License-Identifier: MIT
 *
 * The elementwise part of one step of LSTM and GRU, and its gradient, for one share of the rows: what follows the
 * products with the input (x) and with the state (s). `gates` keeps for the backward step what would cost
 * exponentials to compute again. Rows of each tensor are `.._row` apart, so that a step's slice of a sequence
 * is read and written where it lies.
 */
#ifndef NN_KERNELS_RECURRENT_H
#define NN_KERNELS_RECURRENT_H

#include "kernels/math.h"
#include "kernels/tile.h"

/* i, f, g, o = gates of x + s, each n wide; c2 = f c + i g; h = o tanh(c2). gates: i, f, g, o. */
NN_INLINE void nn_lstm_cell(nn_dim rows, nn_dim n, const nn_real *x, nn_dim x_row, const nn_real *s, nn_dim s_row,
                            const nn_real *c, nn_dim c_row, nn_real *h, nn_dim h_row, nn_real *c2, nn_dim c2_row,
                            nn_real *gates, nn_dim gates_row)
{
    for (nn_dim r = 0; r < rows; r++) {
        const nn_real *xr = x + r * x_row, *sr = s + r * s_row, *cr = c + r * c_row;
        nn_real *hr = h + r * h_row, *c2r = c2 + r * c2_row, *gr = gates + r * gates_row;
        NN_IVDEP
        for (nn_dim j = 0; j < n; j++) {
            const nn_real i = nn_sigmoid(xr[j] + sr[j]), f = nn_sigmoid(xr[n + j] + sr[n + j]);
            const nn_real g = nn_tanh(xr[2 * n + j] + sr[2 * n + j]);
            const nn_real o = nn_sigmoid(xr[3 * n + j] + sr[3 * n + j]);
            const nn_real next = f * cr[j] + i * g;
            c2r[j] = next;
            hr[j] = o * nn_tanh(next);
            gr[j] = i;
            gr[n + j] = f;
            gr[2 * n + j] = g;
            gr[3 * n + j] = o;
        }
    }
}

/* dz: gradient of x and of s; dc: of c. dh and dc2 may be NULL (zero). */
NN_INLINE void nn_lstm_cell_dx(nn_dim rows, nn_dim n, const nn_real *gates, nn_dim gates_row, const nn_real *c,
                               nn_dim c_row, const nn_real *dh, nn_dim dh_row, const nn_real *dc2, nn_dim dc2_row,
                               nn_real *dz, nn_dim dz_row, nn_real *dc, nn_dim dc_row)
{
    for (nn_dim r = 0; r < rows; r++) {
        const nn_real *gr = gates + r * gates_row, *cr = c + r * c_row;
        const nn_real *dhr = dh ? dh + r * dh_row : NULL, *dc2r = dc2 ? dc2 + r * dc2_row : NULL;
        nn_real *dzr = dz + r * dz_row, *dcr = dc + r * dc_row;
        NN_IVDEP
        for (nn_dim j = 0; j < n; j++) {
            const nn_real i = gr[j], f = gr[n + j], g = gr[2 * n + j], o = gr[3 * n + j];
            const nn_real t = nn_tanh(f * cr[j] + i * g);
            const nn_real dhj = dh ? dhr[j] : 0;
            const nn_real d = (dc2 ? dc2r[j] : 0) + dhj * o * (1 - t * t);
            dzr[j] = d * g * (i * (1 - i));
            dzr[n + j] = d * cr[j] * (f * (1 - f));
            dzr[2 * n + j] = d * i * (1 - g * g);
            dzr[3 * n + j] = dhj * t * (o * (1 - o));
            dcr[j] = d * f;
        }
    }
}

/* r, z = sigmoid of the first two parts of x + s; m = tanh(x_n + r s_n); h2 = (1 - z) m + z h. gates: r, z, m, s_n. */
NN_INLINE void nn_gru_cell(nn_dim rows, nn_dim n, const nn_real *x, nn_dim x_row, const nn_real *s, nn_dim s_row,
                           const nn_real *h, nn_dim h_row, nn_real *h2, nn_dim h2_row, nn_real *gates,
                           nn_dim gates_row)
{
    for (nn_dim row = 0; row < rows; row++) {
        const nn_real *xr = x + row * x_row, *sr = s + row * s_row, *hr = h + row * h_row;
        nn_real *h2r = h2 + row * h2_row, *gr = gates + row * gates_row;
        NN_IVDEP
        for (nn_dim j = 0; j < n; j++) {
            const nn_real r = nn_sigmoid(xr[j] + sr[j]), z = nn_sigmoid(xr[n + j] + sr[n + j]);
            const nn_real sn = sr[2 * n + j], m = nn_tanh(xr[2 * n + j] + r * sn);
            h2r[j] = (1 - z) * m + z * hr[j];
            gr[j] = r;
            gr[n + j] = z;
            gr[2 * n + j] = m;
            gr[3 * n + j] = sn;
        }
    }
}

NN_INLINE void nn_gru_cell_dx(nn_dim rows, nn_dim n, const nn_real *gates, nn_dim gates_row, const nn_real *h,
                              nn_dim h_row, const nn_real *dh2, nn_dim dh2_row, nn_real *dx, nn_dim dx_row,
                              nn_real *ds, nn_dim ds_row, nn_real *dh, nn_dim dh_row)
{
    for (nn_dim row = 0; row < rows; row++) {
        const nn_real *gr = gates + row * gates_row, *hr = h + row * h_row, *d2r = dh2 + row * dh2_row;
        nn_real *dxr = dx + row * dx_row, *dsr = ds + row * ds_row, *dhr = dh + row * dh_row;
        NN_IVDEP
        for (nn_dim j = 0; j < n; j++) {
            const nn_real r = gr[j], z = gr[n + j], m = gr[2 * n + j], sn = gr[3 * n + j], d = d2r[j];
            const nn_real dm = d * (1 - z) * (1 - m * m), dz = d * (hr[j] - m) * (z * (1 - z));
            const nn_real dr = dm * sn * (r * (1 - r));
            dhr[j] = d * z;
            dxr[j] = dr;
            dsr[j] = dr;
            dxr[n + j] = dz;
            dsr[n + j] = dz;
            dxr[2 * n + j] = dm;
            dsr[2 * n + j] = dm * r;
        }
    }
}

/* ---- all steps of a layer ----
 *
 * Note [a layer's loop]
 * Steps follow each other, but inside one step all rows (samples) and all units are independent. With many rows the
 * team divides these, and nobody waits for anybody until the loop ends. With few rows it divides the units: each
 * thread reads its part of the weights only, which then stays in its own cache from step to step, and what one step
 * passes to the next is exchanged at one barrier. A sum is taken in the same order either way.
 *
 * A block of units is computed at a time with all its gates, whose columns lie together in a panel, so that the state
 * follows while the sums are hot. In the gradient each block of inputs has a panel of transposed rows.
 */
typedef struct nn_loop_share {
    nn_dim r0, r1, u0, u1; /* rows and blocks of units */
    int meet;              /* whether others compute parts of the same rows */
} nn_loop_share;

NN_INLINE nn_loop_share nn_loop_divide(const nn_team *team, nn_dim rows, nn_dim blocks)
{
    enum { MANY = 8 };
    nn_loop_share s = { 0, rows, 0, blocks, 0 };
    if (rows >= MANY * team->size) {
        nn_share(team->rank, team->size, rows, 1, &s.r0, &s.r1);
    } else {
        nn_share(team->rank, team->size, blocks, 1, &s.u0, &s.u1);
        s.meet = 1;
    }
    return s;
}

/* Parts (gates) whose columns are multiplied at a time, and rows of a tile. With few registers, four vectors beside
 * three rows would read more than they multiply. */
#define NN_LOOP_ACC       (NN_TILE_ACC >= 24 ? 24 : 12)
#define NN_GATE_GROUP(parts) (NN_TILE_ACC >= 24 || (parts) % 2 ? (parts) : 2)
#define NN_GATE_ROWS(parts)  (NN_LOOP_ACC / NN_GATE_GROUP(parts))
#define NN_GATE_BLOCKS(n)    (((n) + NN_VL - 1) / NN_VL)

/* Panel p of a weight [n][parts * n]. For each group of parts: a row of the bias (zero for NULL), then n rows, NN_VL
 * numbers for each part of the group. */
NN_INLINE void nn_gate_panels(const nn_team *team, nn_dim parts, nn_dim n, const nn_real *w, const nn_real *bias,
                              nn_real *panels)
{
    const nn_dim group = NN_GATE_GROUP(parts);
    nn_dim p, end;
    nn_share(team->rank, team->size, NN_GATE_BLOCKS(n), 1, &p, &end);
    for (; p < end; p++) {
        nn_real *to = panels + p * (n + 1) * parts * NN_VL;
        const int tail = (p + 1) * NN_VL > n ? (int)(n % NN_VL) : 0;
        for (nn_dim g0 = 0; g0 < parts; g0 += group)
            for (nn_dim k = -1; k < n; k++)
                for (nn_dim g = g0; g < g0 + group; g++, to += NN_VL) {
                    const nn_real *row = k < 0 ? bias : w + k * parts * n;
                    nn_store(to, row ? nn_load_tail(row + g * n + p * NN_VL, 1, tail) : (nn_vec){ 0 });
                }
    }
}

/* Vectors in a block of inputs. */
NN_INLINE int nn_back_vecs(nn_dim n)
{
    if (NN_TILE_ACC < 24) return n % (2 * NN_VL) && n % (3 * NN_VL) == 0 ? 3 : 2;
    return n % (4 * NN_VL) == 0 ? 4 : n % (3 * NN_VL) == 0 ? 3 : 2;
}

/* Panel p of the same weight for the gradient: parts * n rows of one number for each input of block p. */
NN_INLINE void nn_gate_panels_dx(const nn_team *team, nn_dim parts, nn_dim n, const nn_real *w, nn_real *panels)
{
    const nn_dim cols = nn_back_vecs(n) * NN_VL, depth = parts * n;
    nn_dim p, end;
    nn_share(team->rank, team->size, (n + cols - 1) / cols, 1, &p, &end);
    for (; p < end; p++) {
        nn_real *to = panels + p * depth * cols;
        if ((p + 1) * cols <= n) {
            nn_transpose(cols, depth, w + p * cols * depth, depth, to, cols);
        } else {
            memset(to, 0, (size_t)(depth * cols) * sizeof *to);
            nn_transpose(n % cols, depth, w + p * cols * depth, depth, to, cols);
        }
    }
}

/* Lines of a sequence that a block's units will read or write: nothing else foresees them, because rows are a sequence
 * apart. The product before asks for one in each step of its sum, which takes longer than they do to come; all at once
 * would be more than a processor can wait for. */
enum { NN_GATE_SOON = 96 };
typedef struct nn_gate_soon {
    const nn_real *line[NN_GATE_SOON];
    int count;
} nn_gate_soon;

/* The lines of rows [m, m + rows) of a sequence, one for each of its parts; x may be NULL. */
NN_INLINE void nn_gate_ask(nn_gate_soon *soon, nn_dim m, nn_dim rows, nn_dim pitch, nn_dim parts, nn_dim n,
                           const nn_real *x)
{
    if (!x) return;
    for (nn_dim r = m; r < m + rows; r++)
        for (nn_dim g = 0; g < parts; g++) soon->line[soon->count++] = x + r * pitch + g * n;
}

/* One panel times rows of the state: what the gates of these rows and units get from the step before. One or two rows
 * take all parts at once, so that enough sums run side by side. */
NN_INLINE void nn_gate_tile(int rows, int parts, nn_dim n, const nn_real *h, const nn_real *panel, nn_real *z,
                            const nn_gate_soon *soon)
{
    const int group = rows > 2 ? NN_GATE_GROUP(parts) : parts, apart = NN_GATE_GROUP(parts);
    const nn_dim cols = parts * NN_VL, width = apart * NN_VL, next = (n + 1) * width;
    for (int g0 = 0; g0 < parts; g0 += group, panel += next) {
        nn_vec acc[NN_TILE_ROWS][NN_TILE_VECS];
        NN_UNROLL_FULL
        for (int j = 0; j < group; j++) {
            const nn_vec bias = nn_load(panel + j / apart * next + j % apart * NN_VL);
            NN_UNROLL_FULL
            for (int i = 0; i < rows; i++) acc[i][j] = bias;
        }
        for (nn_dim k = 0; k < n; k++) {
            const nn_real *b = panel + (k + 1) * width;
            nn_vec bv[NN_TILE_VECS];
            NN_UNROLL_FULL
            for (int j = 0; j < group; j++) {
                bv[j] = nn_load(b + j / apart * next + j % apart * NN_VL);
                NN_KEEP(rows * group + group, bv[j]);
            }
            if (g0 == 0 && k < soon->count) __builtin_prefetch(soon->line[k]);
            NN_UNROLL_FULL
            for (int i = 0; i < rows; i++) {
                const nn_vec hv = nn_splat(h[i * n + k]);
                NN_UNROLL_FULL
                for (int j = 0; j < group; j++) acc[i][j] += hv * bv[j];
            }
        }
        nn_tile_end(rows, group, 0, 0, z + g0 * NN_VL, cols, acc);
    }
}

/* How many rows from m on a tile takes, at most `end - m`. */
NN_INLINE int nn_gate_rows(int parts, nn_dim m, nn_dim end)
{
    const int most = NN_GATE_ROWS(parts);
    const nn_dim left = end - m;
    return left >= most ? most : left >= 4 && most > 4 ? 4 : left >= 2 ? 2 : 1;
}

NN_INLINE void nn_gate_product(int parts, int rows, nn_dim n, const nn_real *h, const nn_real *panel, nn_real *z,
                               const nn_gate_soon *soon)
{
    const int most = NN_GATE_ROWS(parts);
#define NN_ROWS(rows) nn_gate_tile(rows, parts, n, h, panel, z, soon)
    if (rows == most)
        NN_ROWS(most);
    else if (rows == 4)
        NN_ROWS(4);
    else if (rows == 2)
        NN_ROWS(2);
    else
        NN_ROWS(1);
#undef NN_ROWS
}

/* Products are functions of their own: the constants of a cell, which loops keep in registers, would push the sums of
 * a tile out of them. The shape of the tile is a constant in each; n need not be. */
#define NN_APART_FROM_CELL NN_OUTLINE __attribute__((unused))
NN_APART_FROM_CELL void nn_lstm_rows(int rows, nn_dim n, const nn_real *h, const nn_real *panel, nn_real *z,
                                     const nn_gate_soon *soon)
{
    nn_gate_product(4, rows, n, h, panel, z, soon);
}

NN_APART_FROM_CELL void nn_gru_rows(int rows, nn_dim n, const nn_real *h, const nn_real *panel, nn_real *z,
                                    const nn_gate_soon *soon)
{
    nn_gate_product(3, rows, n, h, panel, z, soon);
}

/* Blocks of units whose products come first, and then their gates. Those of one row are a chain of operations that wait
 * for each other; several chains run side by side. Of many rows, a block is a part of a line of memory, and by the time
 * of the next block its line is gone: rows are a sequence apart, so that few of them stay near. */
enum {
    NN_GATE_TOGETHER = 8,
    NN_GATE_LINE = NN_VL > 1 && 64 / NN_REAL_BYTES > NN_VL ? 64 / NN_REAL_BYTES / NN_VL : 1 /* blocks in a line */
};
#define NN_GATE_PRODUCTS(parts) \
    (NN_GATE_ROWS(parts) * NN_GATE_LINE > NN_GATE_TOGETHER ? NN_GATE_ROWS(parts) * NN_GATE_LINE : NN_GATE_TOGETHER)
NN_INLINE nn_dim nn_gate_together(const nn_loop_share *own, nn_dim u)
{
    return nn_min_dim(own->r1 - own->r0 == 1 ? NN_GATE_TOGETHER : NN_GATE_LINE, own->u1 - u);
}

/* unit(row, first unit, how many, steps, n, products, a) for `rows` rows from m on of the blocks [u, end), whose
 * products z lie block by block. How many is a literal for whole blocks. */
#define NN_GATE_EACH(unit, parts)                                                           \
    for (nn_dim r = 0; r < rows; r++)                                                       \
        for (nn_dim v = u; v < end; v++) {                                                  \
            nn_real *zr = z + ((v - u) * rows + r) * (parts) * NN_VL;                        \
            if ((v + 1) * NN_VL <= n)                                                       \
                unit(m + r, v * NN_VL, NN_VL, steps, n, zr, a);                             \
            else                                                                            \
                unit(m + r, v * NN_VL, n % NN_VL, steps, n, zr, a);                         \
        }

/* Where the state after step s is kept: the last one in the result, the others there and in `spare` by turns. */
NN_INLINE nn_real *nn_state_after(nn_dim s, nn_dim steps, nn_real *last, nn_real *spare)
{
    return (steps - 1 - s) % 2 == 0 ? last : spare;
}

/* Pointers to what a step reads and writes, at sample 0 and unit 0. */
typedef struct nn_lstm_step {
    const nn_real *x, *h, *c;
    nn_real *h2, *c2, *hs, *gates, *c_kept, *h_kept; /* the last three may be NULL */
} nn_lstm_step;

/* The gates of a row; of its products are left the new cell state and o. */
NN_INLINE void nn_lstm_gates(nn_dim r, nn_dim j0, nn_dim count, nn_dim steps, nn_dim n, nn_real *z,
                             const nn_lstm_step *a)
{
    const nn_real *x = a->x + r * steps * 4 * n + j0, *c = a->c + r * n + j0;
    nn_real *gates = a->gates ? a->gates + r * steps * 4 * n + j0 : NULL;
    nn_real *c_kept = a->gates ? a->c_kept + r * steps * n + j0 : NULL;
    NN_IVDEP
    for (nn_dim j = 0; j < count; j++) {
        const nn_real i = nn_sigmoid(z[j] + x[j]), f = nn_sigmoid(z[NN_VL + j] + x[n + j]);
        const nn_real g = nn_tanh(z[2 * NN_VL + j] + x[2 * n + j]);
        const nn_real o = nn_sigmoid(z[3 * NN_VL + j] + x[3 * n + j]), before = c[j];
        if (gates) {
            gates[j] = i;
            gates[n + j] = f;
            gates[2 * n + j] = g;
            gates[3 * n + j] = o;
            c_kept[j] = before;
        }
        z[j] = f * before + i * g;
        z[NN_VL + j] = o;
    }
}

NN_INLINE void nn_lstm_state(nn_dim r, nn_dim j0, nn_dim count, nn_dim steps, nn_dim n, const nn_real *z,
                             const nn_lstm_step *a)
{
    const nn_real *h = a->h + r * n + j0;
    nn_real *h2 = a->h2 + r * n + j0, *c2 = a->c2 + r * n + j0, *hs = a->hs + r * steps * n + j0;
    nn_real *h_kept = a->gates ? a->h_kept + r * steps * n + j0 : NULL;
    NN_IVDEP
    for (nn_dim j = 0; j < count; j++) {
        const nn_real next = z[j], out = z[NN_VL + j] * nn_tanh(next);
        if (h_kept) h_kept[j] = h[j];
        c2[j] = next;
        h2[j] = out;
        hs[j] = out;
    }
}

/* The tanh of the new cell state waits for all gates: those of other rows fill the time. */
NN_INLINE void nn_lstm_units(nn_dim m, nn_dim rows, nn_dim u, nn_dim end, nn_dim steps, nn_dim n, nn_real *z,
                             const nn_lstm_step *a)
{
    NN_GATE_EACH(nn_lstm_gates, 4)
    NN_GATE_EACH(nn_lstm_state, 4)
}

/* All steps of an LSTM: x has the products with the input and their bias, hs gets every step's output, h and c the
 * last state. For the gradient: the gates, and the state before each step; or NULL. `spare` holds rows * n. */
NN_INLINE void nn_lstm_loop(const nn_team *team, nn_dim rows, nn_dim steps, nn_dim n, int reverse, const nn_real *x,
                            const nn_real *h0, const nn_real *c0, const nn_real *panels, nn_real *spare, nn_real *h,
                            nn_real *c, nn_real *hs, nn_real *gates, nn_real *c_kept, nn_real *h_kept)
{
    const nn_loop_share own = nn_loop_divide(team, rows, NN_GATE_BLOCKS(n));
    enum { Z = 4 * NN_VL }; /* products for one row of a block of units */
    nn_real z[NN_GATE_PRODUCTS(4) * Z] __attribute__((aligned(64)));
    for (nn_dim s = 0; s < steps; s++) {
        const nn_dim t = reverse ? steps - 1 - s : s;
        const nn_lstm_step a = { .x = x + t * 4 * n,
                                 .h = s ? nn_state_after(s - 1, steps, h, spare) : h0,
                                 .c = s ? c : c0,
                                 .h2 = nn_state_after(s, steps, h, spare),
                                 .c2 = c,
                                 .hs = hs + t * n,
                                 .gates = gates ? gates + t * 4 * n : NULL,
                                 .c_kept = gates ? c_kept + t * n : NULL,
                                 .h_kept = gates ? h_kept + t * n : NULL };
        for (nn_dim u = own.u0, end; u < own.u1; u = end) {
            end = u + nn_gate_together(&own, u);
            for (nn_dim m = own.r0; m < own.r1;) {
                const int some = nn_gate_rows(4, m, own.r1);
                for (nn_dim v = u; v < end; v++) {
                    nn_gate_soon soon;
                    soon.count = 0;
                    if ((v - u) % NN_GATE_LINE == 0) {
                        nn_gate_ask(&soon, m, some, steps * 4 * n, 4, n, a.x + v * NN_VL);
                        nn_gate_ask(&soon, m, some, steps * n, 1, n, a.hs + v * NN_VL);
                        nn_gate_ask(&soon, m, some, steps * 4 * n, 4, n, gates ? a.gates + v * NN_VL : NULL);
                        nn_gate_ask(&soon, m, some, steps * n, 1, n, gates ? a.c_kept + v * NN_VL : NULL);
                        nn_gate_ask(&soon, m, some, steps * n, 1, n, gates ? a.h_kept + v * NN_VL : NULL);
                    }
                    nn_lstm_rows(some, n, a.h + m * n, panels + v * (n + 1) * Z, z + (v - u) * some * Z, &soon);
                }
                nn_lstm_units(m, some, u, end, steps, n, z, &a);
                m += some;
            }
        }
        if (own.meet) nn_barrier(team);
    }
}

/* Units [j0, j1) of dz and dc of one step; dc is dc2 of the step before. dh is set to 0: the product follows. */
NN_INLINE void nn_lstm_units_dx(nn_dim m0, nn_dim m1, nn_dim j0, nn_dim j1, nn_dim steps, nn_dim n,
                                const nn_real *gates, const nn_real *c, const nn_real *dh2, const nn_real *dhs,
                                const nn_real *dc2, nn_real *dz, nn_real *dh, nn_real *dc)
{
    for (nn_dim m = m0; m < m1; m++) {
        const nn_real *gr = gates + m * steps * 4 * n, *cr = c + m * steps * n;
        const nn_real *dh2r = dh2 + m * n, *dc2r = dc2 + m * n;
        const nn_real *dhsr = dhs ? dhs + m * steps * n : NULL;
        nn_real *dzr = dz + m * steps * 4 * n, *dhr = dh + m * n, *dcr = dc + m * n;
        NN_IVDEP
        for (nn_dim j = j0; j < j1; j++) {
            const nn_real i = gr[j], f = gr[n + j], g = gr[2 * n + j], o = gr[3 * n + j];
            const nn_real t = nn_tanh(f * cr[j] + i * g), dhj = dh2r[j] + (dhs ? dhsr[j] : 0);
            const nn_real d = dc2r[j] + dhj * o * (1 - t * t);
            dzr[j] = d * g * (i * (1 - i));
            dzr[n + j] = d * cr[j] * (f * (1 - f));
            dzr[2 * n + j] = d * i * (1 - g * g);
            dzr[3 * n + j] = dhj * t * (o * (1 - o));
            dcr[j] = d * f;
        }
        /* Apart from the loop, which gcc would compute one by one where dh is dh2. */
        memset(dhr + j0, 0, (size_t)(j1 - j0) * sizeof *dhr);
    }
}

/* dh += the step's dz, `depth` numbers of rows `pitch` apart, times the transposed weight, for a thread's blocks of nv
 * vectors. The last block may be wider than what is left of dh. */
NN_INLINE void nn_gate_back(int nv, const nn_loop_share *own, nn_dim depth, nn_dim pitch, nn_dim n, const nn_real *dz,
                            const nn_real *panels, nn_real *dh)
{
    const int most = NN_LOOP_ACC / nv;
    const nn_dim cols = nv * NN_VL;
    for (nn_dim u = own->u0; u < own->u1; u++) {
        const nn_real *panel = panels + u * depth * cols, *end = panel + depth * cols;
        nn_real *to = dh + u * cols;
        nn_dim m = own->r0;
        if ((u + 1) * cols > n) {
            for (; m < own->r1; m++) {
                nn_real sum[4 * NN_VL];
                nn_tile_product(1, nv, 0, NN_FROM_ZERO, 0, depth, dz + m * pitch, pitch, 1, panel, cols, end, NULL, sum,
                                cols);
                for (nn_dim j = 0; j < n - u * cols; j++) to[m * n + j] += sum[j];
            }
            continue;
        }
#define NN_ROWS(rows)                                                                                            \
    nn_tile_product(rows, nv, 0, NN_FROM_RESULT, 0, depth, dz + m * pitch, pitch, 1, panel, cols, end, NULL,      \
                    to + m * n, n)
        /* Two rows would wait for their own additions: twice four are faster than six and two. */
        for (; m + most <= own->r1 && own->r1 - m != most + 2; m += most) NN_ROWS(most);
        for (; most > 4 && m + 4 <= own->r1; m += 4) NN_ROWS(4);
        for (; m + 2 <= own->r1; m += 2) NN_ROWS(2);
        if (m < own->r1) NN_ROWS(1);
#undef NN_ROWS
    }
}

#define NN_GATE_BACK(nv)                                                                                           \
    NN_APART_FROM_CELL void nn_gate_back_##nv(const nn_loop_share *own, nn_dim depth, nn_dim pitch, nn_dim n,      \
                                              const nn_real *dz, const nn_real *panels, nn_real *dh)               \
    {                                                                                                              \
        nn_gate_back(nv, own, depth, pitch, n, dz, panels, dh);                                                    \
    }
NN_GATE_BACK(2)
NN_GATE_BACK(3)
NN_GATE_BACK(4)
#undef NN_GATE_BACK

NN_INLINE void nn_gate_product_dx(const nn_loop_share *own, nn_dim parts, nn_dim steps, nn_dim n, const nn_real *dz,
                                  const nn_real *panels, nn_real *dh)
{
    const nn_dim depth = parts * n, pitch = steps * depth;
    switch (nn_back_vecs(n)) {
    case 4: nn_gate_back_4(own, depth, pitch, n, dz, panels, dh); break;
    case 3: nn_gate_back_3(own, depth, pitch, n, dz, panels, dh); break;
    default: nn_gate_back_2(own, depth, pitch, n, dz, panels, dh);
    }
}

/* Units of a thread's blocks of inputs. */
NN_INLINE void nn_back_units(const nn_loop_share *own, nn_dim n, nn_dim *j0, nn_dim *j1)
{
    const nn_dim cols = nn_back_vecs(n) * NN_VL;
    *j0 = nn_min_dim(n, own->u0 * cols);
    *j1 = nn_min_dim(n, own->u1 * cols);
}

NN_INLINE nn_loop_share nn_loop_divide_dx(const nn_team *team, nn_dim rows, nn_dim n)
{
    const nn_dim cols = nn_back_vecs(n) * NN_VL;
    return nn_loop_divide(team, rows, (n + cols - 1) / cols);
}

/* The gradient of nn_lstm_loop, whose steps it takes in its own order, `reverse` or not. dh2, dc2: of the last state;
 * dhs: of all outputs, may be NULL. dz: of x, and of the products with the state; dh, dc: of the first state. */
NN_INLINE void nn_lstm_loop_dx(const nn_team *team, nn_dim rows, nn_dim steps, nn_dim n, int reverse,
                               const nn_real *gates, const nn_real *c_kept, const nn_real *dh2, const nn_real *dc2,
                               const nn_real *panels, const nn_real *dhs, nn_real *dh, nn_real *dc, nn_real *dz)
{
    const nn_loop_share own = nn_loop_divide_dx(team, rows, n);
    nn_dim j0, j1;
    nn_back_units(&own, n, &j0, &j1);
    for (nn_dim s = 0; s < steps; s++) {
        const nn_dim t = reverse ? steps - 1 - s : s;
        nn_lstm_units_dx(own.r0, own.r1, j0, j1, steps, n, gates + t * 4 * n, c_kept + t * n, s ? dh : dh2,
                         dhs ? dhs + t * n : NULL, s ? dc : dc2, dz + t * 4 * n, dh, dc);
        if (own.meet) nn_barrier(team);
        nn_gate_product_dx(&own, 4, steps, n, dz + t * 4 * n, panels, dh);
    }
}

typedef struct nn_gru_step {
    const nn_real *x, *h;
    nn_real *h2, *hs, *gates, *h_kept; /* the last two may be NULL */
} nn_gru_step;

/* r and z of a row; of its products are left z and what m is the tanh of. */
NN_INLINE void nn_gru_gates(nn_dim k, nn_dim j0, nn_dim count, nn_dim steps, nn_dim n, nn_real *s,
                            const nn_gru_step *a)
{
    const nn_real *x = a->x + k * steps * 3 * n + j0;
    nn_real *gates = a->gates ? a->gates + k * steps * 4 * n + j0 : NULL;
    NN_IVDEP
    for (nn_dim j = 0; j < count; j++) {
        const nn_real r = nn_sigmoid(x[j] + s[j]), z = nn_sigmoid(x[n + j] + s[NN_VL + j]), sn = s[2 * NN_VL + j];
        if (gates) {
            gates[j] = r;
            gates[n + j] = z;
            gates[3 * n + j] = sn;
        }
        s[j] = z;
        s[NN_VL + j] = x[2 * n + j] + r * sn;
    }
}

NN_INLINE void nn_gru_state(nn_dim k, nn_dim j0, nn_dim count, nn_dim steps, nn_dim n, const nn_real *s,
                            const nn_gru_step *a)
{
    const nn_real *h = a->h + k * n + j0;
    nn_real *h2 = a->h2 + k * n + j0, *hs = a->hs + k * steps * n + j0;
    nn_real *gates = a->gates ? a->gates + k * steps * 4 * n + j0 : NULL;
    nn_real *h_kept = a->gates ? a->h_kept + k * steps * n + j0 : NULL;
    NN_IVDEP
    for (nn_dim j = 0; j < count; j++) {
        const nn_real z = s[j], m = nn_tanh(s[NN_VL + j]), before = h[j], out = (1 - z) * m + z * before;
        if (gates) {
            gates[2 * n + j] = m;
            h_kept[j] = before;
        }
        h2[j] = out;
        hs[j] = out;
    }
}

NN_INLINE void nn_gru_units(nn_dim m, nn_dim rows, nn_dim u, nn_dim end, nn_dim steps, nn_dim n, nn_real *z,
                            const nn_gru_step *a)
{
    NN_GATE_EACH(nn_gru_gates, 3)
    NN_GATE_EACH(nn_gru_state, 3)
}

/* All steps of a GRU; operands are those of nn_lstm_loop. */
NN_INLINE void nn_gru_loop(const nn_team *team, nn_dim rows, nn_dim steps, nn_dim n, int reverse, const nn_real *x,
                           const nn_real *h0, const nn_real *panels, nn_real *spare, nn_real *h, nn_real *hs,
                           nn_real *gates, nn_real *h_kept)
{
    const nn_loop_share own = nn_loop_divide(team, rows, NN_GATE_BLOCKS(n));
    enum { Z = 3 * NN_VL }; /* products for one row of a block of units */
    nn_real z[NN_GATE_PRODUCTS(3) * Z] __attribute__((aligned(64)));
    for (nn_dim s = 0; s < steps; s++) {
        const nn_dim t = reverse ? steps - 1 - s : s;
        const nn_gru_step a = { .x = x + t * 3 * n,
                                .h = s ? nn_state_after(s - 1, steps, h, spare) : h0,
                                .h2 = nn_state_after(s, steps, h, spare),
                                .hs = hs + t * n,
                                .gates = gates ? gates + t * 4 * n : NULL,
                                .h_kept = gates ? h_kept + t * n : NULL };
        for (nn_dim u = own.u0, end; u < own.u1; u = end) {
            end = u + nn_gate_together(&own, u);
            for (nn_dim m = own.r0; m < own.r1;) {
                const int some = nn_gate_rows(3, m, own.r1);
                for (nn_dim v = u; v < end; v++) {
                    nn_gate_soon soon;
                    soon.count = 0;
                    if ((v - u) % NN_GATE_LINE == 0) {
                        nn_gate_ask(&soon, m, some, steps * 3 * n, 3, n, a.x + v * NN_VL);
                        nn_gate_ask(&soon, m, some, steps * n, 1, n, a.hs + v * NN_VL);
                        nn_gate_ask(&soon, m, some, steps * 4 * n, 4, n, gates ? a.gates + v * NN_VL : NULL);
                        nn_gate_ask(&soon, m, some, steps * n, 1, n, gates ? a.h_kept + v * NN_VL : NULL);
                    }
                    nn_gru_rows(some, n, a.h + m * n, panels + v * (n + 1) * Z, z + (v - u) * some * Z, &soon);
                }
                nn_gru_units(m, some, u, end, steps, n, z, &a);
                m += some;
            }
        }
        if (own.meet) nn_barrier(team);
    }
}

/* The gradient of nn_gru_loop; dx: of x, ds: of the products with the state, the others as for the LSTM. */
NN_INLINE void nn_gru_loop_dx(const nn_team *team, nn_dim rows, nn_dim steps, nn_dim n, int reverse,
                              const nn_real *gates, const nn_real *h_kept, const nn_real *dh2, const nn_real *panels,
                              const nn_real *dhs, nn_real *dh, nn_real *dx, nn_real *ds)
{
    const nn_loop_share own = nn_loop_divide_dx(team, rows, n);
    nn_dim j0, j1;
    nn_back_units(&own, n, &j0, &j1);
    for (nn_dim k = 0; k < steps; k++) {
        const nn_dim t = reverse ? steps - 1 - k : k;
        for (nn_dim row = own.r0; row < own.r1; row++) {
            const nn_real *gr = gates + (row * steps + t) * 4 * n, *hr = h_kept + (row * steps + t) * n;
            const nn_real *d2r = (k ? dh : dh2) + row * n, *dhsr = dhs ? dhs + (row * steps + t) * n : NULL;
            nn_real *dxr = dx + (row * steps + t) * 3 * n, *dsr = ds + (row * steps + t) * 3 * n, *dhr = dh + row * n;
            NN_IVDEP
            for (nn_dim j = j0; j < j1; j++) {
                const nn_real r = gr[j], z = gr[n + j], m = gr[2 * n + j], sn = gr[3 * n + j];
                const nn_real d = d2r[j] + (dhs ? dhsr[j] : 0);
                const nn_real dm = d * (1 - z) * (1 - m * m), dz = d * (hr[j] - m) * (z * (1 - z));
                const nn_real dr = dm * sn * (r * (1 - r));
                dxr[j] = dr;
                dsr[j] = dr;
                dxr[n + j] = dz;
                dsr[n + j] = dz;
                dxr[2 * n + j] = dm;
                dsr[2 * n + j] = dm * r;
                dhr[j] = d * z;
            }
        }
        if (own.meet) nn_barrier(team);
        nn_gate_product_dx(&own, 3, steps, n, ds + t * 3 * n, panels, dh);
    }
}

#endif
