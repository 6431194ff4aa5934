/* SPDX-License-Identifier: MIT
 *
 * What checkpoints need of safetensors files beyond the public interface (library-internal).
 */
#ifndef NN_SAFETENSORS_INTERNAL_H
#define NN_SAFETENSORS_INTERNAL_H

#include "nn_safetensors.h"

/* As nn_st_set_meta, reserved keys included. */
nn_status nn_st_set_meta_any(nn_st_file *f, const char *key, const char *value);

/* A number below nn_st_count for every tensor of the file; -1 when there is none of that name. */
int nn_st_position(const nn_st_file *f, const char *name);

const char *nn_dtype_name(nn_dtype t); /* "F32" */

#endif
