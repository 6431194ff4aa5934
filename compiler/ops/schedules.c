/* SPDX-License-Identifier: MIT
 *
 * Schedules: a scalar as a function of the number of updates applied so far, from its base value. The
 * functions stand in runtime/kernels/schedule.h. Linear warm-up can be put in front of any of them.
 */
#include "ops/op.h"

#define STEPS_MAX 1e15
#define FLOOR                                                                                      \
    {                                                                                              \
        "min", .def = 0, .min = -1e30, .max = 1e30, .doc = "The value at the end."                 \
    }

static const ScheduleDesc schedule_constant = {
    .name = "constant",
    .example = "constant(0.1)",
    .summary = "the base value",
    .doc = "`base`.",
    .torch = "torch.optim.lr_scheduler.ConstantLR",
    .args = (const OptimArg[]){ { 0 } },
    .c_function = "nn_schedule_constant",
};

static const OptimArg step_decay_args[] = {
    { "every", .def = NAN, .min = 1, .max = STEPS_MAX, .doc = "Updates between two drops." },
    { "factor", .def = 0.1, .min = 0, .max = 1e30, .doc = "What each drop multiplies with." },
    { 0 },
};
static const ScheduleDesc schedule_step_decay = {
    .name = "step_decay",
    .example = "step_decay(0.1, every = 30, factor = 0.5)",
    .summary = "drops at regular intervals",
    .doc = "`base factor^floor(step / every)`.",
    .torch = "torch.optim.lr_scheduler.StepLR",
    .args = step_decay_args,
    .c_function = "nn_schedule_step_decay",
};

#define MILESTONE(name, d)                                                                         \
    {                                                                                              \
        name, .def = (d), .min = 0, .max = STEPS_MAX, .doc = "Update of a drop; 0: none."          \
    }
static const OptimArg multi_step_args[] = {
    { "factor", .def = 0.1, .min = 0, .max = 1e30, .doc = "What each drop multiplies with." },
    MILESTONE("at1", NAN),
    MILESTONE("at2", 0),
    MILESTONE("at3", 0),
    MILESTONE("at4", 0),
    MILESTONE("at5", 0),
    MILESTONE("at6", 0),
    { 0 },
};
static const ScheduleDesc schedule_multi_step = {
    .name = "multi_step",
    .example = "multi_step(0.1, at1 = 50, at2 = 80)",
    .summary = "drops at given updates",
    .doc = "`base factor^k`, `k` the number of `at1`, `at2`, ... that `step` has reached.",
    .torch = "torch.optim.lr_scheduler.MultiStepLR",
    .args = multi_step_args,
    .c_function = "nn_schedule_multi_step",
};

static const OptimArg exp_decay_args[] = {
    { "factor", .def = NAN, .min = 0, .max = 1e30, .doc = "What `every` updates multiply with." },
    { "every", .def = 1, .min = 1, .max = STEPS_MAX, .doc = "Updates per factor." },
    { 0 },
};
static const ScheduleDesc schedule_exp_decay = {
    .name = "exp_decay",
    .example = "exp_decay(0.1, factor = 0.99)",
    .summary = "exponential decay",
    .doc = "`base factor^(step / every)`.",
    .torch = "torch.optim.lr_scheduler.ExponentialLR",
    .args = exp_decay_args,
    .c_function = "nn_schedule_exp_decay",
};

static const OptimArg inverse_time_args[] = {
    { "rate", .def = NAN, .min = 0, .max = 1e30, .doc = "Decay per `every` updates." },
    { "every", .def = 1, .min = 1, .max = STEPS_MAX, .doc = "Updates per unit of time." },
    { 0 },
};
static const ScheduleDesc schedule_inverse_time = {
    .name = "inverse_time",
    .example = "inverse_time(0.1, rate = 0.01)",
    .summary = "decay with the inverse of time",
    .doc = "`base / (1 + rate step / every)`.",
    .args = inverse_time_args,
    .c_function = "nn_schedule_inverse_time",
};

static const OptimArg polynomial_args[] = {
    { "steps", .def = NAN, .min = 1, .max = STEPS_MAX, .doc = "Updates until the end." },
    { "power", .def = 1, .min = 0, .max = 100, .doc = "Exponent; 1 is a straight line." },
    FLOOR,
    { 0 },
};
static const ScheduleDesc schedule_polynomial = {
    .name = "polynomial",
    .example = "polynomial(0.1, steps = 100, power = 2)",
    .summary = "polynomial decay to a floor",
    .doc = "`min + (base - min) (1 - step / steps)^power`, then `min`.",
    .torch = "torch.optim.lr_scheduler.PolynomialLR",
    .args = polynomial_args,
    .c_function = "nn_schedule_polynomial",
};

static const OptimArg cosine_args[] = {
    { "steps", .def = NAN, .min = 1, .max = STEPS_MAX,
      .doc = "Updates until the end, or of the first period." },
    FLOOR,
    { "restarts", .def = 0, .min = 0, .max = 1, .is_flag = true, .doc = "Start anew after each period." },
    { "mult", .def = 1, .min = 1, .max = 1e6,
      .doc = "Each period is this much longer than the one before." },
    { 0 },
};
static const ScheduleDesc schedule_cosine = {
    .name = "cosine",
    .example = "cosine(0.1, steps = 100, warmup = 10)",
    .summary = "half a cosine to a floor, with restarts on request",
    .doc =
        "`min + (base - min) (1 + cos(pi step / steps)) / 2`, then `min`; with `restarts = true` it starts anew after "
        "each period, as for snapshot ensembles.",
    .torch = "torch.optim.lr_scheduler.CosineAnnealingWarmRestarts",
    .args = cosine_args,
    .c_function = "nn_schedule_cosine",
};

static const OptimArg linear_args[] = {
    { "steps", .def = NAN, .min = 1, .max = STEPS_MAX,
      .doc = "Updates until the base value is reached." },
    { "start", .def = 0, .min = -1e30, .max = 1e30, .doc = "The value at first." },
    { 0 },
};
static const ScheduleDesc schedule_linear = {
    .name = "linear",
    .example = "linear(0.1, steps = 100, start = 0.01)",
    .summary = "a straight line to the base value",
    .torch = "torch.optim.lr_scheduler.LinearLR",
    .doc =
        "`start + (base - start) step / steps`, then `base`: for weights of terms that come in slowly.",
    .args = linear_args,
    .c_function = "nn_schedule_linear",
};

static const OptimArg one_cycle_args[] = {
    { "steps", .def = NAN, .min = 2, .max = STEPS_MAX, .doc = "Updates of the whole cycle." },
    { "rise", .def = 0.3, .min = 0, .max = 1, .doc = "Part of them that rises." },
    { "div", .def = 25, .min = 1, .max = 1e30, .doc = "The first value is base / div." },
    { "final_div", .def = 1e4, .min = 1, .max = 1e30,
      .doc = "The last value is the first / final_div." },
    { 0 },
};
static const ScheduleDesc schedule_one_cycle = {
    .name = "one_cycle",
    .example = "one_cycle(0.1, steps = 100)",
    .summary = "one rise to the base value and one fall",
    .torch = "torch.optim.lr_scheduler.OneCycleLR",
    .doc =
        "Half a cosine from `base / div` up to `base`, which is reached after `rise steps` updates, and one down to "
        "`base / (div final_div)` at the last of `steps`, then that.",
    .args = one_cycle_args,
    .c_function = "nn_schedule_one_cycle",
};

const ScheduleDesc *const schedule_table[] = {
#define SCHEDULE(name) &schedule_##name,
#include "ops/schedules.def"
#undef SCHEDULE
};
const size_t schedule_table_len = sizeof schedule_table / sizeof *schedule_table;
