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

#endif
