/* SPDX-License-Identifier: MIT
 *
 * The program around a model that `nnc --emit=harness` makes: it runs one routine on tensors from a
 * safetensors file and writes everything that came out to another. Generated code supplies tables and
 * trampolines, nn_harness_main does the rest. Used to verify a port and to check gradients.
 */
#ifndef NN_HARNESS_H
#define NN_HARNESS_H

#include "nn_model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nn_harness_dim {
    const char *name;
    int lo, hi;
} nn_harness_dim;

/* An input or an output. The real type is NN_F32 or NN_F64. */
typedef struct nn_harness_port {
    const char *name;
    nn_dtype dtype;
    int rank;
    nn_dim shape[NN_MAX_RANK];
    int dim; /* >= 0: axis 0 has shape[0] times that run-time size; -1: all sizes are constant */
    nn_dim limit; /* inputs of integers: values are in [0, limit); 0: any */
} nn_harness_port;

/* Steps get one `out`: an array of as many doubles as the step has outputs. */
typedef nn_status (*nn_harness_fn)(nn_model *m, const int *dims, const void *const *in,
                                   void *const *out);

typedef struct nn_harness_routine {
    const char *name;
    int is_step, loss; /* loss: its position among the outputs of a step */
    int n_dims, n_inputs, n_outputs;
    const nn_harness_dim *dims;
    const nn_harness_port *inputs, *outputs;
    nn_harness_fn run, grad; /* grad, apply: steps that keep their gradients, otherwise NULL */
    nn_status (*apply)(nn_model *m, double grad_scale);
    int product; /* of a step: the routine that multiplies with its Hessian, 0: none */
} nn_harness_routine;

typedef struct nn_harness {
    const nn_model_info *info; /* info->n_routines rows follow, in the same order */
    const nn_harness_routine *routines;
} nn_harness;

/* Exit codes: 0 good, 1 a check of gradients failed, 2 usage, 3 input or output, 4 memory or threads, 5 bad data,
 * 6 the loss is not finite. */
int nn_harness_main(int argc, char **argv, const nn_harness *h);

#ifdef __cplusplus
}
#endif
#endif
