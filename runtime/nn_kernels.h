/* SPDX-License-Identifier: MIT
 *
 * Umbrella for generated code: every kernel template. All are static inline, so a program pays only for
 * the ones it calls. Define NN_REAL_F64 before including it for the double-precision build.
 */
#ifndef NN_KERNELS_H
#define NN_KERNELS_H

#include "kernels/vec.h"

#endif
