/* SPDX-License-Identifier: MIT
 *
 * Initialisers: distributions of a parameter's first values. The functions are the runtime library's
 * (runtime/nn_init.h); fan_in and fan_out are the connections into and out of one unit of the layer.
 */
#include "ops/op.h"

#define GAIN .args = { "gain" }, .def = { 1 }, .positive = true

static const InitDesc init_zeros = {
    .name = "zeros",
    .torch = "nn.init.zeros_",
    .summary = "all 0",
    .doc = "The default of biases and states.",
    .c_function = "nn_init_zeros",
};
static const InitDesc init_ones = {
    .name = "ones",
    .torch = "nn.init.ones_",
    .summary = "all 1",
    .doc = "The default of the scale of normalisation layers.",
    .c_function = "nn_init_ones",
};
static const InitDesc init_constant = {
    .name = "constant",
    .torch = "nn.init.constant_",
    .summary = "all equal",
    .doc = "Every element is `value`.",
    .args = { "value" },
    .def = { NAN },
    .c_function = "nn_init_constant",
};
static const InitDesc init_normal = {
    .name = "normal",
    .torch = "nn.init.normal_",
    .summary = "normal distribution",
    .doc = "Mean `mean`, standard deviation `std`.",
    .args = { "std", "mean" },
    .def = { NAN, 0 },
    .positive = true,
    .c_function = "nn_init_normal",
};
static const InitDesc init_uniform = {
    .name = "uniform",
    .torch = "nn.init.uniform_",
    .summary = "uniform distribution",
    .doc = "Between `a` (inclusive) and `b`.",
    .args = { "a", "b" },
    .def = { NAN, NAN },
    .ascending = true,
    .c_function = "nn_init_uniform",
};
static const InitDesc init_xavier_normal = {
    .name = "xavier_normal",
    .torch = "nn.init.xavier_normal_",
    .summary = "normal, variance 2 / (fan_in + fan_out)",
    .doc =
        "For layers followed by a symmetric activation (Glorot and Bengio, 2010). `gain` multiplies the standard "
        "deviation.",
    GAIN,
    .c_function = "nn_init_xavier_normal",
};
static const InitDesc init_xavier_uniform = {
    .name = "xavier_uniform",
    .torch = "nn.init.xavier_uniform_",
    .summary = "uniform, variance 2 / (fan_in + fan_out)",
    .doc =
        "Within `gain sqrt(6 / (fan_in + fan_out))` of 0: the default of layers not followed by the relu family.",
    GAIN,
    .c_function = "nn_init_xavier_uniform",
};
static const InitDesc init_he_normal = {
    .name = "he_normal",
    .torch = "nn.init.kaiming_normal_",
    .summary = "normal, variance 2 / fan_in",
    .doc =
        "For layers followed by relu (He et al., 2015). `gain` multiplies the standard deviation.",
    GAIN,
    .c_function = "nn_init_he_normal",
};
static const InitDesc init_he_uniform = {
    .name = "he_uniform",
    .torch = "nn.init.kaiming_uniform_",
    .summary = "uniform, variance 2 / fan_in",
    .doc = "Within `gain sqrt(6 / fan_in)` of 0.",
    GAIN,
    .c_function = "nn_init_he_uniform",
};
static const InitDesc init_lecun_normal = {
    .name = "lecun_normal",
    .summary = "normal, variance 1 / fan_in",
    .doc = "For self-normalising networks. `gain` multiplies the standard deviation.",
    GAIN,
    .c_function = "nn_init_lecun_normal",
};
static const InitDesc init_orthogonal = {
    .name = "orthogonal",
    .torch = "nn.init.orthogonal_",
    .summary = "orthonormal rows or columns",
    .doc =
        "The weights as a matrix with `fan_in` columns have orthonormal rows (columns where it is taller than wide), "
        "times `gain`.",
    GAIN,
    .c_function = "nn_init_orthogonal",
};

const InitDesc *const init_table[] = {
#define INIT(name) &init_##name,
#include "ops/inits.def"
#undef INIT
};
const size_t init_table_len = sizeof init_table / sizeof *init_table;
