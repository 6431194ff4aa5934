/* SPDX-License-Identifier: MIT
 *
 * Schedules: the value of a scalar at a step, from its base value and the schedule's numbers. `step` counts
 * the updates already applied, from 0. Plain doubles, evaluated once per update.
 */
#ifndef NN_KERNELS_SCHEDULE_H
#define NN_KERNELS_SCHEDULE_H

#include "kernels/libm.h"
#include "kernels/vec.h"

/* Linear warm-up in front of any schedule: step 0 gets 1 / warmup of the value, step warmup - 1 all of it. */
NN_INLINE double nn_warmup(double value, int64_t step, double warmup)
{
    const double part = ((double)step + 1) / (warmup > 1 ? warmup : 1);
    return part < 1 ? value * part : value;
}

NN_INLINE double nn_schedule_constant(double base, int64_t step)
{
    (void)step;
    return base;
}

NN_INLINE double nn_schedule_step_decay(double base, int64_t step, double every, double factor)
{
    return base * nn_pow64(factor, floor((double)step / every));
}

NN_INLINE double nn_schedule_multi_step(double base, int64_t step, double factor, double at1, double at2,
                                        double at3, double at4, double at5, double at6)
{
    const double at[6] = { at1, at2, at3, at4, at5, at6 };
    for (int i = 0; i < 6; i++)
        if (at[i] > 0 && (double)step >= at[i]) base *= factor;
    return base;
}

NN_INLINE double nn_schedule_exp_decay(double base, int64_t step, double factor, double every)
{
    return base * nn_pow64(factor, (double)step / every);
}

NN_INLINE double nn_schedule_inverse_time(double base, int64_t step, double rate, double every)
{
    return base / (1 + rate * (double)step / every);
}

NN_INLINE double nn_schedule_polynomial(double base, int64_t step, double steps, double power, double floor_)
{
    const double left = (double)step < steps ? 1 - (double)step / steps : 0;
    return floor_ + (base - floor_) * nn_pow64(left, power);
}

/* Half a cosine from base to floor_ over `steps`, held there; with restarts every period starts anew and is
 * `mult` times as long as the one before. */
NN_INLINE double nn_schedule_cosine(double base, int64_t step, double steps, double floor_, double restarts,
                                    double mult)
{
    double at = (double)step, period = steps;
    if (restarts != 0) {
        if (mult > 1) {
            const double n = floor(nn_log64(1 + at * (mult - 1) / steps) / nn_log64(mult) + 1e-9);
            at -= steps * (nn_pow64(mult, n) - 1) / (mult - 1);
            period = steps * nn_pow64(mult, n);
        } else {
            at -= steps * floor(at / steps);
        }
    }
    if (at < 0) at = 0;
    if (at > period) at = period;
    return floor_ + (base - floor_) * 0.5 * (1 + nn_cos64(3.14159265358979323846 * at / period));
}

/* A straight line from `start` to base over `steps`, held there. */
NN_INLINE double nn_schedule_linear(double base, int64_t step, double steps, double start)
{
    return (double)step < steps ? start + (base - start) * ((double)step / steps) : base;
}

/* Half a cosine up from base / div to base, half a cosine down to base / div / final_div, held there. */
NN_INLINE double nn_schedule_one_cycle(double base, int64_t step, double steps, double rise, double div,
                                       double final_div)
{
    const double top = rise * steps - 1, end = steps - 1, first = base / div, last = first / final_div;
    const double at = (double)step < end ? (double)step : end;
    const int up = at <= top && top > 0;
    const double from = up ? first : base, to = up ? base : last;
    const double begin = up || top < 0 ? 0 : top, part = (at - begin) / ((up ? top : end) - begin);
    return to + (from - to) * 0.5 * (1 + nn_cos64(3.14159265358979323846 * part));
}

#endif
