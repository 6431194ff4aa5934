/* SPDX-License-Identifier: MIT
 *
 * Activations of several pieces beside relu and leaky_relu: linear or exponential on either side of a kink. Their
 * gradients read the operand, so that the piece a value lies on is never in doubt; what the derivative is at a kink
 * stands in each operator's documentation and is PyTorch's.
 */
#include "ops/op.h"

/* ---- the derivative of a clipped value ---- */

typedef struct WindowAttrs {
    double min, max;
} WindowAttrs;
static const AttrDef window_attrs[] = {
    { "min", ATTR_FLOAT, offsetof(WindowAttrs, min), .def = NAN, .doc = "Lower end." },
    { "max", ATTR_FLOAT, offsetof(WindowAttrs, max), .def = NAN, .doc = "Upper end." },
    { 0 },
};

static Node *mk_window(Builder *b, Node *dy, Node *x, double min, double max)
{
    return mk2(b, &op_window_dx, &(WindowAttrs){ min, max }, dy, x);
}

static void window_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_window_dx, n->attrs, dy[0], n->in[1]);
}

const OpDesc op_window_dx = {
    .name = "window_dx",
    .summary = "gradient of a value cut at two ends",
    .doc = "`dy` where `min < x < max`, else 0.",
    .in = { "dy", "x" },
    .attrs = window_attrs,
    .attr_size = sizeof(WindowAttrs),
    .flags = OPF_ELEMENTWISE | OPF_INTERNAL,
    .shape = shape_broadcast,
    .grad = window_dx_grad,
    .expr = "$1 > $min && $1 < $max ? $0 : 0.0r",
};

/* ---- relu6 ---- */

static void relu6_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk_window(b, dy[0], n->in[0], 0, 6);
}

const OpDesc op_relu6 = {
    .name = "relu6",
    .summary = "relu that ends at 6",
    .torch = "torch.nn.functional.relu6",
    .doc =
        "`y = min(max(x, 0), 6)`; NaN stays NaN. The derivative is 1 between 0 and 6, else 0, so also at 0 and 6.",
    .in = { "x" },
    .flags = OPF_ACTIVATION | OPF_ELEMENTWISE | OPF_RELU,
    .shape = shape_same,
    .grad = relu6_grad,
    .expr = "$0 < 0 ? 0.0r : $0 > 6 ? 6.0r : $0",
    .onnx = "Clip(min=0, max=6)",
    .gradient = "dx = dy for 0 < x < 6, else 0",
    .samples = SAMPLES({ "relu6(x: f32[3,7])", "f32[3,7]" }),
};

/* ---- hard_sigmoid ---- */

static void hard_sigmoid_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk_window(b, mk_scale(b, dy[0], 0.2), n->in[0], -2.5, 2.5);
}

const OpDesc op_hard_sigmoid = {
    .name = "hard_sigmoid",
    .summary = "sigmoid of three straight pieces",

    .doc =
        "`y = min(max(0.2 x + 0.5, 0), 1)`; NaN stays NaN. The derivative is 0.2 for `|x| < 2.5`, else 0. "
        "`torch.nn.functional.hardsigmoid` has the slope 1/6 instead.",
    .in = { "x" },
    .flags = OPF_ACTIVATION | OPF_ELEMENTWISE,
    .shape = shape_same,
    .grad = hard_sigmoid_grad,
    .expr = "$0 <= -2.5r ? 0.0r : $0 >= 2.5r ? 1.0r : 0.2r * $0 + 0.5r",
    .onnx = "HardSigmoid(alpha=0.2, beta=0.5)",
    .gradient = "dx = 0.2 dy for |x| < 2.5, else 0",
    .samples = SAMPLES({ "hard_sigmoid(x: f32[3,7])", "f32[3,7]" }),
};

/* ---- hard_swish ---- */

/* The slope x/3 + 1/2 changes by 1/3 within the window and not at all outside it. */
static void hard_swish_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_hard_swish_dx, NULL, dy[0], n->in[1]);
    dx[1] = mk_window(b, mk_scale(b, mk_mul(b, dy[0], n->in[0]), 1.0 / 3), n->in[1], -3, 3);
}

const OpDesc op_hard_swish_dx = {
    .name = "hard_swish_dx",
    .summary = "gradient of hard_swish",
    .doc = "0 for `x <= -3`, `dy` for `x >= 3`, else `dy (x/3 + 1/2)`.",
    .in = { "dy", "x" },
    .flags = OPF_ELEMENTWISE | OPF_INTERNAL,
    .shape = shape_broadcast,
    .grad = hard_swish_dx_grad,
    .expr = "$1 <= -3 ? 0.0r : $1 >= 3 ? $0 : $0 * ($1 / 3.0r + 0.5r)",
};

static void hard_swish_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_hard_swish_dx, NULL, dy[0], n->in[0]);
}

const OpDesc op_hard_swish = {
    .name = "hard_swish",
    .summary = "x times relu6(x + 3) / 6",
    .torch = "torch.nn.functional.hardswish",
    .doc = "`y = x min(max(x + 3, 0), 6) / 6`. The derivative at -3 is 0 and at 3 is 1.",
    .in = { "x" },
    .flags = OPF_ACTIVATION | OPF_ELEMENTWISE,
    .shape = shape_same,
    .grad = hard_swish_grad,
    .expr = "$0 <= -3 ? 0.0r : $0 >= 3 ? $0 : $0 * ($0 + 3.0r) / 6.0r",
    .onnx = "HardSwish",
    .gradient = "dx = 0 for x <= -3, dy for x >= 3, between them dy (2 x + 3) / 6",
    .samples = SAMPLES({ "hard_swish(x: f32[3,7])", "f32[3,7]" }),
};

/* ---- elu, selu ---- */

typedef struct EluAttrs {
    double alpha;
} EluAttrs;
static const AttrDef elu_attrs[] = {
    { "alpha", ATTR_FLOAT, offsetof(EluAttrs, alpha), .def = 1,
      .doc = "The value for very negative x is -alpha." },
    { 0 },
};

/* Its derivative is the curved part alone: the difference to relu_dx, which holds the straight part. */
static void elu_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *d = mk_mul(b, dy[0], n->in[0]);
    dx[0] = mk2(b, &op_elu_dx, n->attrs, dy[0], n->in[1]);
    dx[1] = mk_sub(b, mk2(b, &op_elu_dx, n->attrs, d, n->in[1]),
                   mk2(b, &op_relu_dx, NULL, d, n->in[1]));
}

const OpDesc op_elu_dx = {
    .name = "elu_dx",
    .summary = "gradient of elu",
    .doc = "`dy` where `x > 0`, else `dy alpha e^x`.",
    .in = { "dy", "x" },
    .attrs = elu_attrs,
    .attr_size = sizeof(EluAttrs),
    .flags = OPF_ELEMENTWISE | OPF_INTERNAL,
    .shape = shape_broadcast,
    .grad = elu_dx_grad,
    .expr = "$1 > 0 ? $0 : $0 * ($alpha * nn_exp($1))",
};

static void elu_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_elu_dx, n->attrs, dy[0], n->in[0]);
}

const OpDesc op_elu = {
    .name = "elu",
    .summary = "exponential linear unit",
    .torch = "torch.nn.functional.elu",
    .doc = "`y = x` for `x > 0`, else `alpha (e^x - 1)`. The derivative at 0 is `alpha`.",
    .in = { "x" },
    .attrs = elu_attrs,
    .attr_size = sizeof(EluAttrs),
    .flags = OPF_ACTIVATION | OPF_ELEMENTWISE | OPF_RELU,
    .shape = shape_same,
    .grad = elu_grad,
    .expr = "$0 > 0 ? $0 : $alpha * nn_expm1_neg($0)",
    .onnx = "Elu",
    .gradient = "dx = dy for x > 0, else dy alpha e^x",
    .samples = SAMPLES({ "elu(x: f32[3,7])", "f32[3,7]" },
                       { "elu(x: f32[2,5], alpha = 0.5)", "f32[2,5]" }),
};

#define SELU_ALPHA 1.6732632423543772848170429916717
#define SELU_SCALE 1.0507009873554804934193349852946

static void selu_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_elu_dx, &(EluAttrs){ SELU_ALPHA }, mk_scale(b, dy[0], SELU_SCALE), n->in[0]);
}

const OpDesc op_selu = {
    .name = "selu",
    .summary = "scaled elu that keeps mean 0 and variance 1",
    .torch = "torch.nn.functional.selu",
    .doc =
        "`y = 1.0507 x` for `x > 0`, else `1.0507 * 1.6733 (e^x - 1)`, with the constants of Klambauer et al. (2017). "
        "Goes with `init = lecun_normal()`. The derivative at 0 is 1.7581, that of the exponential.",
    .in = { "x" },
    .flags = OPF_ACTIVATION | OPF_ELEMENTWISE,
    .shape = shape_same,
    .grad = selu_grad,
    .expr = "$0 > 0 ? 1.05070098735548049342r * $0 : 1.75809934084737685994r * nn_expm1_neg($0)",
    .onnx = "Selu",
    .gradient = "dx = 1.0507 dy for x > 0, else 1.7581 dy e^x",
    .samples = SAMPLES({ "selu(x: f32[3,7])", "f32[3,7]" }),
};

/* ---- prelu ---- */

static void prelu_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    grad_put(b, n, 0, mk3(b, &op_prelu_dx, NULL, dy[0], n->in[1], n->in[2]), dx);
    grad_put(b, n, 2, mk2(b, &op_prelu_dslope, NULL, mk_mul(b, dy[0], n->in[0]), n->in[1]), dx);
}

const OpDesc op_prelu_dx = {
    .name = "prelu_dx",
    .summary = "gradient of prelu for x",
    .doc = "`dy` where `x > 0`, else `slope dy`.",
    .in = { "dy", "x", "slope" },
    .flags = OPF_ELEMENTWISE | OPF_INTERNAL,
    .shape = shape_broadcast,
    .grad = prelu_dx_grad,
    .expr = "$1 > 0 ? $0 : $2 * $0",
};

static void prelu_dslope_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    grad_put(b, n, 0, mk2(b, &op_prelu_dslope, NULL, dy[0], n->in[1]), dx);
}

/* Applied to (dy, x) it is 0 or dy; the slope's gradient is that times x. */
const OpDesc op_prelu_dslope = {
    .name = "prelu_dslope",
    .summary = "the part of dy that the slope answers for",
    .doc = "0 where `x > 0`, else `dy`.",
    .in = { "dy", "x" },
    .flags = OPF_ELEMENTWISE | OPF_INTERNAL,
    .shape = shape_broadcast,
    .grad = prelu_dslope_grad,
    .expr = "$1 > 0 ? 0.0r : $0",
};

static void prelu_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *x = n->in[0], *slope = n->in[1];
    grad_put(b, n, 0, mk3(b, &op_prelu_dx, NULL, dy[0], x, slope), dx);
    grad_put(b, n, 1, mk_mul(b, mk2(b, &op_prelu_dslope, NULL, dy[0], x), x), dx);
}

const OpDesc op_prelu = {
    .name = "prelu",
    .summary = "relu with a given slope below zero",
    .torch = "torch.nn.functional.prelu",
    .doc =
        "`y = x` for `x > 0`, else `slope x`; the slope broadcasts. The derivative at 0 is `slope`. The layer of this "
        "name learns its slope.",
    .in = { "x", "slope" },
    .flags = OPF_ELEMENTWISE | OPF_RELU,
    .shape = shape_broadcast,
    .grad = prelu_grad,
    .expr = "$0 > 0 ? $0 : $1 * $0",
    .onnx = "PRelu",
    .gradient = "dx = dy for x > 0, else slope dy; dslope sums dy x over x <= 0",
    .samples = SAMPLES({ "prelu(x: f32[3,7], slope: f32[1])", "f32[3,7]" },
                       { "prelu(x: f32[2,3,4,5], slope: f32[3,1,1])", "f32[2,3,4,5]" }),
};
