/* SPDX-License-Identifier: MIT
 *
 * Second-order steps: newton, dfp, bfgs and lbfgs, each with a strong-Wolfe line search. Generated steps
 * call these functions once per update, after they have computed loss and gradients at the current weights.
 *
 * In: the trained tensors of an object, their gradients, a function that computes loss and gradients anew.
 * Out: new weights, and the method's state, or nothing changed and the reason. Vectors are in double and
 * in canonical order, one tensor after another. Everything here runs on the calling thread in one fixed
 * order: only the evaluations use the team, whose size does not show in their results.
 */
#ifndef NN_SECOND_H
#define NN_SECOND_H

#include "nn_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the line search ---- */

/* Value of a function along a line, at `step` from its start, and its derivative along the line there. */
typedef double (*nn_line_fn)(void *ctx, double step, double *slope);

typedef struct nn_line {
    double c1, c2; /* 0 < c1 < c2 < 1: of sufficient decrease and of curvature */
    int max_evals;
    double rounding; /* relative error of values: smaller differences of them decide nothing */
} nn_line;

/* Finds a step > 0 that satisfies the strong Wolfe conditions
 *     value(step) <= value(0) + c1 step slope(0)    and    |slope(step)| <= c2 |slope(0)|
 * by bracketing and cubic interpolation (Nocedal and Wright, algorithms 3.5 and 3.6), from `first` on. Where
 * the decrease is lost in rounding, slope(step) <= (2 c1 - 1) slope(0) stands for the first condition (Hager
 * and Zhang). Values that are not finite count as too large. The last call of fn is at the step returned.
 * NN_EINVAL: slope(0) is not negative, or bad options. NN_ESEARCH: no such step within max_evals. */
nn_status nn_line_search(const nn_line *line, nn_line_fn fn, void *ctx, double value0,
                         double slope0, double first, double *step);

/* ---- methods ---- */

/* Computes loss and gradients at the current weights; returns the loss. */
typedef double (*nn_second_fn)(void *ctx);

/* to = H from with the Hessian H of the loss at the current weights; n reals of the object's type each, in the order
 * of the vectors here. Changes nothing but `to`. */
typedef void (*nn_product_fn)(void *ctx, const void *from, void *to);

typedef struct nn_second {
    nn_model *model;
    int n_tensors;
    const int *tensors;    /* the trained ones, ascending */
    nn_dim n;              /* their elements */
    const nn_block *state; /* of the routine, see OptimDesc.blocks; NULL: none */
    nn_second_fn evaluate;
    nn_product_fn product; /* newton only */
    void *ctx;
    double *work; /* memory the compiler reserved for the method */
    double loss;  /* at the current weights, whose gradients are in their slots */
    double lr;    /* first step that the search tries, in units of the direction */
    double c1, c2, max_evals, tolerance_grad, weight_decay;
} nn_second;

/* NN_ESEARCH: no step lowers the loss, or no gradient is larger than tolerance_grad. NN_ENONFINITE: a
 * gradient is not finite. NN_EINVAL: an option out of its range, c1 >= c2. In all cases weights and state
 * are as they were. */
nn_status nn_newton(const nn_second *s);
nn_status nn_dfp(const nn_second *s);
nn_status nn_bfgs(const nn_second *s);
nn_status nn_lbfgs(const nn_second *s);

#ifdef __cplusplus
}
#endif
#endif
