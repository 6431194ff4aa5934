/* SPDX-License-Identifier: MIT
 *
 * The choice between the direct kernels of a convolution and Winograd's F(2x2, 3x3) and F(4x4, 3x3), by estimated cost,
 * from types alone. Where a program keeps both forms of a layer's weights, calls of one sample take the direct one.
 */
#include "ops/winograd.h"

#include <math.h>

/* Costs in multiply-adds, fitted to measurements of runtime/kernels/winograd.h against the direct kernels, by the side
 * of a tile: its transforms for each channel it reads and writes, and one kernel's transform. Transformed weights that
 * leave the near caches are written and read back from far. */
typedef struct TileCost {
    int side, elements, channel;
    int kernel, far_kernel, farthest_kernel, kept_kernel;
    int far, farthest; /* weights of more than so many kernels are */
    double product;    /* of a multiply-add in the products, beside one of a direct kernel */
} TileCost;

static const TileCost small = { .side = 2, .elements = 16, .channel = 80, .kernel = 40, .far_kernel = 512,
                                .farthest_kernel = 1300, .kept_kernel = 40, .far = 65536, .farthest = 131072,
                                .product = 1 },
                      large = { .side = 4, .elements = 36, .channel = 300, .kernel = 90, .far_kernel = 900,
                                .farthest_kernel = 1300, .kept_kernel = 90, .far = 32768, .farthest = 131072,
                                .product = 1.1 };

/* Most kernels for large tiles. Beyond, a step of few samples would wait for 36 numbers a kernel from memory and one
 * of many gains nothing; weights that are kept take memory, too; sums of a gradient are read and written for each
 * block. */
enum { MOST_KERNELS = 65536, MOST_KEPT = 32768, MOST_SUMMED = 16384 };

/* Channels for which the choice is measured, and the widest vectors they may use: partial ones cost as much. */
enum { MOST_CHANNELS = 512, MOST_CHANNELS_DW = 256, LANES = CONV_LANES };

static int64_t wide(int64_t channels)
{
    return (channels + LANES - 1) / LANES * LANES;
}

/* Pairs of an output and a tap along one axis that meet a pixel; direct kernels compute no others. */
static int64_t pairs(int64_t in, int64_t out, int64_t pad)
{
    int64_t n = 0;
    for (int64_t t = 0; t < 3; t++) {
        const int64_t from = pad > t ? pad - t : 0, to = in + pad - t < out ? in + pad - t : out;
        if (from < to) n += to - from;
    }
    return n;
}

static double cost_of(const TileCost *t, WinogradPass pass, double images, const TensorType *out, double kernels,
                      double channels)
{
    const double tiles = (double)((out->dim[2] + t->side - 1) / t->side) *
                         (double)((out->dim[3] + t->side - 1) / t->side);
    const int kernel = pass == WINOGRAD_KEPT || pass == WINOGRAD_ONE ? t->kept_kernel
                       : kernels > t->farthest                     ? t->farthest_kernel
                       : kernels > t->far                          ? t->far_kernel
                                                                   : t->kernel;
    return images * tiles * (t->elements * t->product * kernels + t->channel * channels) + kernels * kernel;
}

int winograd_tile(WinogradPass pass, const TensorType *x, const TensorType *y, const TensorType *w, const ConvAttrs *a)
{
    const int64_t ci = w->dim[1], co = w->dim[0], most = pass == WINOGRAD_DW ? MOST_CHANNELS_DW : MOST_CHANNELS;
    if (w->dim[2] != 3 || w->dim[3] != 3 || a->groups != 1 || a->stride[0] != 1 ||
        a->stride[1] != 1 || a->dilation[0] != 1 || a->dilation[1] != 1 || ci > most || co > most)
        return 0;
    int64_t pad[4];
    window_pad_get(&a->pad, pad);
    const TensorType *out = pass == WINOGRAD_DX ? x : y;
    const double kernels = (double)(ci * co), channels = (double)(wide(ci) + wide(co)),
                 taps = (double)pairs(x->dim[2], y->dim[2], pad[0]) *
                        (double)pairs(x->dim[3], y->dim[3], pad[1]);
    double images = (double)type_numel_max(x) / (double)type_numel(x, 1, 4);
    /* Steps are made for large batches, inference, for which weights are kept, is also for small ones. */
    if (pass == WINOGRAD_KEPT) images = sqrt(images);
    if (pass == WINOGRAD_ONE) images = 1;
    const double by_small = cost_of(&small, pass, images, out, kernels, channels),
                 by_large = cost_of(&large, pass, images, out, kernels, channels);
    const int64_t most_large = pass == WINOGRAD_KEPT ? MOST_KEPT : pass == WINOGRAD_DW ? MOST_SUMMED : MOST_KERNELS;
    bool is_large = a->tile == large.side && by_large < by_small && ci * co <= most_large;
    /* Weights are kept in one form: one sample takes that of many. */
    if (pass == WINOGRAD_ONE) is_large = winograd_tile(WINOGRAD_KEPT, x, y, w, a) == large.side;
    if ((is_large ? by_large : by_small) >= 0.9 * images * taps * kernels) return 0;
    return is_large ? large.side : small.side;
}

/* The transformed weights, all elements of each kernel, rows padded to whole vectors; for dw as many of them as there
 * are parts of the sum, and both transformed images of a block of tiles for each of up to 8 threads. */
int64_t winograd_scratch(WinogradPass pass, int tile, const TensorType *w)
{
    const int64_t ci = w->dim[1], co = w->dim[0], elements = (int64_t)(tile + 2) * (tile + 2);
    if (pass == WINOGRAD_Y) return elements * ci * wide(co);
    if (pass == WINOGRAD_DX) return elements * co * wide(ci);
    const int64_t most = 16384 / (ci * co), parts = most < 1 ? 1 : most > 8 ? 8 : most;
    const int64_t tiles = tile == 4 ? (ci + co <= 128 ? 32 : 16) : ci + co <= 32 ? 16 : 32;
    return parts * elements * ci * wide(co) +
           8 * elements * (tiles * (wide(ci) + wide(co) + 2 * LANES) + 2 * LANES);
}
