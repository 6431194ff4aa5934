/* SPDX-License-Identifier: MIT
 *
 * The same bits whatever share a thread computes, where shares leave tiles of one sum: see the note on lone chains in
 * kernels/vec.h. Each kernel runs as the threads of teams of one to four would, one after the other. Prints `ok NAME`
 * for each; exit code 1 where bits differ. Compiled with the tuning that takes lone chains apart.
 */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/conv2d_dw.h"

enum { TEAMS = 4, MOST = 400000 };
static nn_real x[MOST], w[MOST], b[MOST], y[MOST], first[MOST], scratch[MOST];

typedef void chain_fn(const nn_team *team);

static int failed;

static void check(const char *name, nn_dim n, chain_fn *fn)
{
    int same = 1;
    for (int size = 1; size <= TEAMS; size++) {
        nn_real *const to = size == 1 ? first : y;
        for (nn_dim i = 0; i < n; i++) y[i] = 0;
        for (int rank = 0; rank < size; rank++) {
            const nn_team team = { .rank = rank, .size = size };
            fn(&team);
        }
        if (to == first)
            memcpy(first, y, (size_t)n * sizeof *y);
        else
            same = same && memcmp(first, y, (size_t)n * sizeof *y) == 0;
    }
    printf("%s %s\n", same ? "ok" : "differs", name);
    failed = failed || !same;
}

static void dense_row(const nn_team *team)
{
    nn_dense_wide(team, 1, 520, 150, 0, x, w, b, NULL, y);
}

static void dense_rows(const nn_team *team)
{
    nn_dense_tall(team, 7, 130, 40, 1, x, w, NULL, NULL, y);
}

static void point(const nn_team *team)
{
    nn_conv2d_team(team, 1, NN_CONV(5, 5, 24, 5, 5, 40, 1, 1, 1, 1, 0, 0, 1, 1, 1), 0, x, w, b, NULL, y);
}

static void windows(const nn_team *team)
{
    nn_conv2d_team(team, 3, NN_CONV(3, 1, 20, 3, 1, 8, 3, 1, 1, 1, 1, 0, 1, 1, 1), 0, x, w, b, NULL, y);
}

static void deep(const nn_team *team)
{
    nn_conv2d_team(team, 3, NN_CONV(4, 4, 512, 1, 1, 40, 4, 4, 1, 1, 0, 0, 1, 1, 1), 0, x, w, b, NULL, y);
}

static void depthwise(const nn_team *team)
{
    nn_conv2d_depthwise_team(team, 1, NN_CONV(5, 1, 40, 5, 1, 40, 3, 1, 1, 1, 1, 0, 1, 1, 40), 0, x, w, b, y);
}

static void weights(const nn_team *team)
{
    nn_conv2d_dw(team, 2, NN_CONV(6, 6, 140, 6, 6, 121, 1, 1, 1, 1, 0, 0, 1, 1, 1), x, w, scratch, y, 0);
}

int main(void)
{
    uint32_t state = 1;
    for (int i = 0; i < MOST; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (nn_real)(state >> 8) / 8388608 - 1;
        state = state * 1664525u + 1013904223u;
        w[i] = (nn_real)(state >> 8) / 8388608 - 1;
        b[i] = x[i] * w[i];
    }
    check("dense, one row", 150, dense_row);
    check("dense, rows", 7 * 40, dense_rows);
    check("point convolution", 25 * 40, point);
    check("convolution of one column", 3 * 3 * 8, windows);
    check("convolution of many channels", 3 * 40, deep);
    check("depthwise convolution", 5 * 40, depthwise);
    check("gradient of the weights", 140 * 121, weights);
    return failed;
}
