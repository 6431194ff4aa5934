/* SPDX-License-Identifier: MIT
 *
 * Umbrella for generated code: every kernel template. All are static inline, so a program pays only for
 * the ones it calls. Define NN_REAL_F64 before including it for the double-precision build.
 */
#ifndef NN_KERNELS_H
#define NN_KERNELS_H

#include "kernels/augment.h"
#include "kernels/blas.h"
#include "kernels/conv2d.h"
#include "kernels/conv2d_dw.h"
#include "kernels/conv2d_norm.h"
#include "kernels/conv2d_transpose.h"
#include "kernels/copy.h"
#include "kernels/dense.h"
#include "kernels/depthwise.h"
#include "kernels/embedding.h"
#include "kernels/fractional.h"
#include "kernels/grad.h"
#include "kernels/libm.h"
#include "kernels/local.h"
#include "kernels/loss.h"
#include "kernels/math.h"
#include "kernels/matmul.h"
#include "kernels/norm.h"
#include "kernels/optim.h"
#include "kernels/pool.h"
#include "kernels/position.h"
#include "kernels/random.h"
#include "kernels/recurrent.h"
#include "kernels/reduce.h"
#include "kernels/schedule.h"
#include "kernels/softmax.h"
#include "kernels/tile.h"
#include "kernels/update.h"
#include "kernels/upsample.h"
#include "kernels/vec.h"
#include "kernels/walk.h"
#include "kernels/winograd.h"

#endif
