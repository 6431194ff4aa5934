/* SPDX-License-Identifier: MIT
 *
 * Updates within the backward pass: who knows the gradient of some elements of a parameter, be it a step's body or a
 * kernel that has just computed them, hands them to the step's update and keeps nothing. In: gradients in storage
 * order. Invariant: an element is handed over once in a step, so any division of the work gives the same bits.
 */
#ifndef NN_KERNELS_UPDATE_H
#define NN_KERNELS_UPDATE_H

#include "kernels/vec.h"

/* What is updated, and by what. Generated code makes one where it needs it. */
typedef struct nn_update {
    /* Updates elements [from, from + n) of the parameter, of which g holds the gradient. */
    void (*run)(const struct nn_update *u, nn_dim from, nn_dim n, const nn_real *g);
    void *args;         /* of the routine that runs */
    nn_dim param, slot; /* where the parameter begins in its block, and in each of the step's slots */
    double rate;        /* what the learning rate is multiplied by */
} nn_update;

/* A parameter of rows x cols elements with gradient g: the team divides the rows, in multiples of `grain`. */
NN_INLINE void nn_update_rows(const nn_team *team, nn_dim rows, nn_dim cols, nn_dim grain, const nn_update *u,
                              const nn_real *g)
{
    nn_dim from, to;
    nn_share(team->rank, team->size, rows, grain, &from, &to);
    if (from < to) u->run(u, from * cols, (to - from) * cols, g + from * cols);
}

#endif
