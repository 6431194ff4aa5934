/* SPDX-License-Identifier: MIT
 *
 * Philox 4x32-10 of Random123, for the library and for generated code alike, in plain integers. Random123's interface
 * to vector registers, which nothing here uses, includes the compiler's header of all vector instructions:
 * two megabytes that cost more time in every generated file than the model in it.
 */
#ifndef NN_PHILOX_H
#define NN_PHILOX_H

#ifndef R123_USE_SSE
#define R123_USE_SSE 0
#endif
#include <Random123/philox.h>

#endif
