/* SPDX-License-Identifier: MIT
 *
 * The choice between the direct kernels of a convolution and Winograd's F(2x2, 3x3), by estimated cost, from types
 * alone. Where a program keeps both forms of a layer's weights, calls of one sample take the direct one.
 */
#include "ops/winograd.h"

#include <math.h>

/* Costs in multiply-adds, fitted to measurements of runtime/kernels/winograd.h against the direct kernels on AVX-512:
 * a tile's transforms for each channel it reads and writes, and one kernel's transform. Transformed weights that
 * leave the near caches are written and read back from far. */
enum { TILE_CHANNEL = 80, KERNEL = 40, FAR_KERNEL = 512, FARTHEST_KERNEL = 1300, KEPT_KERNEL = 40 };
enum { FAR_WEIGHTS = 65536, FARTHEST_WEIGHTS = 131072 }; /* from more than so many kernels on */

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

bool winograd_pays(WinogradPass pass, const TensorType *x, const TensorType *y, const TensorType *w,
                   const ConvAttrs *a)
{
    const int64_t ci = w->dim[1], co = w->dim[0], most = pass == WINOGRAD_DW ? MOST_CHANNELS_DW : MOST_CHANNELS;
    if (w->dim[2] != 3 || w->dim[3] != 3 || a->groups != 1 || a->stride[0] != 1 ||
        a->stride[1] != 1 || a->dilation[0] != 1 || a->dilation[1] != 1 || ci > most || co > most)
        return false;
    int64_t pad[4];
    window_pad_get(&a->pad, pad);
    const TensorType *out = pass == WINOGRAD_DX ? x : y;
    const double kernels = (double)(ci * co), channels = (double)(wide(ci) + wide(co)),
                 tiles = (double)((out->dim[2] + 1) / 2) * (double)((out->dim[3] + 1) / 2),
                 taps = (double)pairs(x->dim[2], y->dim[2], pad[0]) *
                        (double)pairs(x->dim[3], y->dim[3], pad[1]);
    double images = (double)type_numel_max(x) / (double)type_numel(x, 1, 4);
    /* Steps are made for large batches, inference, for which weights are kept, is also for small ones. */
    if (pass == WINOGRAD_KEPT) images = sqrt(images);
    if (pass == WINOGRAD_ONE) images = 1;
    const int kernel = pass == WINOGRAD_KEPT || pass == WINOGRAD_ONE ? KEPT_KERNEL
                       : kernels > FARTHEST_WEIGHTS                ? FARTHEST_KERNEL
                       : kernels > FAR_WEIGHTS                     ? FAR_KERNEL
                                                                   : KERNEL;
    const double winograd = images * tiles * (16 * kernels + TILE_CHANNEL * channels) + kernels * kernel;
    return winograd < 0.9 * images * taps * kernels;
}

/* The transformed weights, 16 elements for each kernel, rows padded to whole vectors; for dw as many of them as there
 * are parts of the sum, and both transformed images of a block of tiles for each of up to 8 threads. */
int64_t winograd_scratch(WinogradPass pass, const TensorType *w)
{
    const int64_t ci = w->dim[1], co = w->dim[0];
    if (pass == WINOGRAD_Y) return 16 * ci * wide(co);
    if (pass == WINOGRAD_DX) return 16 * co * wide(ci);
    const int64_t most = 16384 / (ci * co), parts = most < 1 ? 1 : most > 8 ? 8 : most;
    const int64_t tiles = ci + co <= 32 ? 8 : 32;
    return parts * 16 * ci * wide(co) + 8 * 16 * (tiles * (wide(ci) + wide(co) + 2 * LANES) + 2 * LANES);
}
