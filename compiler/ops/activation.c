/* SPDX-License-Identifier: MIT
 *
 * Activation functions, each with its fused gradient. The gradient keeps whichever of operand and result
 * the formula needs, so that the other's memory is free during the backward pass.
 */
#include "ops/op.h"

/* ---- relu ---- */

static void relu_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_relu_dx, NULL, dy[0], n->in[1]); /* constant in y, except at the kink */
}

/* Behind dropout: what was dropped is 0 in its result as well, and what was kept has the sign of y. So no draw is made
 * again; one random node less. */
static Node *relu_dx_of_dropout(Builder *b, const Node *dropped, const Node *y)
{
    for (size_t i = 0; i < b->routine->nodes.len; i++) {
        Node *kept = b->routine->nodes.data[i];
        if (op_is(kept, &op_dropout) && kept->in[0] == y && attrs_equal(kept->op, kept->attrs, dropped->attrs) &&
            kept != dropped)
            return mk_scale(b, mk2(b, &op_relu_dx, NULL, dropped->in[0], kept), dropout_scale(kept));
    }
    return NULL;
}

/* Behind a maximum pool the mask goes on before dy is spread over the windows, where there are fewer values: dy lands
 * where y equals the pool's result, so both have the same sign. The mask moves on to an operand, so this ends. */
static Node *relu_dx_simplify(Builder *b, const Node *n)
{
    const Node *spread = n->in[0], *y = n->in[1];
    if (op_is(spread, &op_dropout)) return relu_dx_of_dropout(b, spread, y);
    if (!op_is(spread, &op_max_pool2d_dx) || !op_is(spread->in[1], &op_result)) return NULL;
    Node *pool = spread->in[1]->in[0];
    if (!op_is(pool, &op_max_pool2d) || pool->in[0] != y) return NULL;
    Node *d = mk2(b, &op_relu_dx, NULL, spread->in[0], pool);
    return mk2(b, &op_max_pool2d_dx, spread->attrs, d, spread->in[1]);
}

const OpDesc op_relu_dx = {
    .name = "relu_dx", .summary = "gradient of relu", .doc = "0 where `y <= 0`, else `dy`.",
    .in = { "dy", "y" }, .flags = OPF_ELEMENTWISE | OPF_INTERNAL, .shape = shape_broadcast,
    .grad = relu_dx_grad, .simplify = relu_dx_simplify, .expr = "$1 <= 0 ? 0.0r : $0",
};

static void relu_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_relu_dx, NULL, dy[0], (Node *)n);
}

static double relu_fold(double x) { return x < 0 ? 0 : x; }

/* relu(relu x) = relu x; one node fewer. */
static Node *relu_simplify(Builder *b, const Node *n)
{
    return op_is(n->in[0], &op_relu) ? n->in[0] : fold1(b, n, relu_fold);
}

const OpDesc op_relu = {
    .name = "relu", .summary = "rectified linear unit", .torch = "torch.nn.functional.relu",
    .doc = "`y = max(x, 0)`; NaN stays NaN. The derivative is 0 for `x <= 0`, so also at 0, and 1 beyond.",
    .in = { "x" }, .flags = OPF_ACTIVATION | OPF_ELEMENTWISE | OPF_RELU, .shape = shape_same,
    .grad = relu_grad, .simplify = relu_simplify, .expr = "$0 < 0 ? 0.0r : $0",
    .onnx = "Relu",
    .gradient = "dx = dy for x > 0, else 0",
    .samples = SAMPLES({ "relu(x: f32[3,7])", "f32[3,7]" }, { "relu(x: f32[2,3,5,1])", "f32[2,3,5,1]" }),
};

/* ---- leaky_relu ---- */

typedef struct LeakyReluAttrs {
    double slope;
} LeakyReluAttrs;
static const AttrDef leaky_relu_attrs[] = {
    { "slope", ATTR_FLOAT, offsetof(LeakyReluAttrs, slope), .def = 0.01, .doc = "Slope for negative x." },
    { 0 },
};

static void leaky_relu_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_leaky_relu_dx, n->attrs, dy[0], n->in[1]);
}

const OpDesc op_leaky_relu_dx = {
    .name = "leaky_relu_dx", .summary = "gradient of leaky_relu", .doc = "`dy` where `x > 0`, else `slope dy`.",
    .in = { "dy", "x" }, .attrs = leaky_relu_attrs, .attr_size = sizeof(LeakyReluAttrs),
    .flags = OPF_ELEMENTWISE | OPF_INTERNAL, .shape = shape_broadcast,
    .grad = leaky_relu_dx_grad, .expr = "$1 > 0 ? $0 : $slope * $0",
};

static void leaky_relu_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_leaky_relu_dx, n->attrs, dy[0], n->in[0]);
}

const OpDesc op_leaky_relu = {
    .name = "leaky_relu", .summary = "relu with a slope below zero", .torch = "torch.nn.functional.leaky_relu",
    .doc = "`y = x` for `x > 0`, else `slope x`. The derivative at 0 is `slope`.",
    .in = { "x" }, .attrs = leaky_relu_attrs, .attr_size = sizeof(LeakyReluAttrs),
    .flags = OPF_ACTIVATION | OPF_ELEMENTWISE | OPF_RELU,
    .shape = shape_same, .grad = leaky_relu_grad, .expr = "$0 > 0 ? $0 : $slope * $0",
    .onnx = "LeakyRelu",
    .gradient = "dx = dy for x > 0, else slope dy",
    .samples = SAMPLES({ "leaky_relu(x: f32[3,7])", "f32[3,7]" },
                       { "leaky_relu(x: f32[2,5], slope = 0.2)", "f32[2,5]" }),
};

/* ---- sigmoid ---- */

/* d(dy y (1 - y)): with respect to dy the same form, with respect to y: g dy (1 - 2 y). */
static void sigmoid_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *one = mk_const(b, DT_F32, 1);
    dx[0] = mk2(b, &op_sigmoid_dx, NULL, dy[0], n->in[1]);
    dx[1] = mk_mul(b, mk_mul(b, dy[0], n->in[0]), mk_sub(b, one, mk_scale(b, n->in[1], 2)));
}

const OpDesc op_sigmoid_dx = {
    .name = "sigmoid_dx", .summary = "gradient of sigmoid", .doc = "`dy y (1 - y)`.",
    .in = { "dy", "y" }, .flags = OPF_ELEMENTWISE | OPF_INTERNAL, .shape = shape_broadcast,
    .grad = sigmoid_dx_grad, .expr = "$0 * $1 * (1.0r - $1)",
};

static void sigmoid_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_sigmoid_dx, NULL, dy[0], (Node *)n);
}

static double sigmoid_fold(double x) { return 1 / (1 + exp(-x)); }
static Node *sigmoid_simplify(Builder *b, const Node *n) { return fold1(b, n, sigmoid_fold); }

const OpDesc op_sigmoid = {
    .name = "sigmoid", .summary = "logistic function", .torch = "torch.sigmoid",
    .doc = "`y = 1 / (1 + e^-x)`, computed through `e^-|x|`, which cannot overflow.",
    .in = { "x" }, .flags = OPF_ACTIVATION | OPF_ELEMENTWISE, .shape = shape_same,
    .grad = sigmoid_grad, .simplify = sigmoid_simplify, .expr = "nn_sigmoid($0)",
    .onnx = "Sigmoid",
    .gradient = "dx = dy y (1 - y)",
    .samples = SAMPLES({ "sigmoid(x: f32[3,7])", "f32[3,7]" }),
};

/* ---- tanh ---- */

/* d(dy (1 - y^2)): with respect to dy the same form, with respect to y: -2 g dy y. */
static void tanh_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_tanh_dx, NULL, dy[0], n->in[1]);
    dx[1] = mk_mul(b, mk_mul(b, mk_scale(b, dy[0], -2), n->in[0]), n->in[1]);
}

const OpDesc op_tanh_dx = {
    .name = "tanh_dx", .summary = "gradient of tanh", .doc = "`dy (1 - y^2)`.",
    .in = { "dy", "y" }, .flags = OPF_ELEMENTWISE | OPF_INTERNAL, .shape = shape_broadcast,
    .grad = tanh_dx_grad, .expr = "$0 * (1.0r - $1 * $1)",
};

static void tanh_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_tanh_dx, NULL, dy[0], (Node *)n);
}

static Node *tanh_simplify(Builder *b, const Node *n) { return fold1(b, n, tanh); }

const OpDesc op_tanh = {
    .name = "tanh", .summary = "hyperbolic tangent", .torch = "torch.tanh", .doc = "`y = tanh x`.",
    .in = { "x" }, .flags = OPF_ACTIVATION | OPF_ELEMENTWISE, .shape = shape_same,
    .grad = tanh_grad, .simplify = tanh_simplify, .expr = "nn_tanh($0)",
    .onnx = "Tanh",
    .gradient = "dx = dy (1 - y^2)",
    .samples = SAMPLES({ "tanh(x: f32[3,7])", "f32[3,7]" }),
};

/* ---- gelu ---- */

typedef struct GeluAttrs {
    int approx;
} GeluAttrs;
static const AttrDef gelu_attrs[] = {
    { "approx", ATTR_CHOICE, offsetof(GeluAttrs, approx), .choices = CHOICES("none", "tanh"),
      .doc = "`none`: exact; `tanh`: the usual approximation." },
    { 0 },
};

static Node *number(Builder *b, double value) { return mk_const(b, DT_F32, value); }

/* phi(x) (2 - x^2), or with u = c (x + k x^3), c = sqrt(2/pi) and t = tanh u: (1 - t^2) (u' - x t u'^2 + x u''/2).
 * Both are 0 long before |x| = 40, where x is cut so that no square overflows. */
static Node *gelu_curvature(Builder *b, Node *x, int approx)
{
    const double c = 0.79788456080286535588, k = 0.044715;
    x = mk2(b, &op_minimum, NULL, mk2(b, &op_maximum, NULL, x, number(b, -40)), number(b, 40));
    Node *square = mk1(b, &op_square, NULL, x);
    if (approx == 0) {
        Node *phi = mk_scale(b, mk1(b, &op_exp, NULL, mk_scale(b, square, -0.5)), 0.5 * 0.79788456080286535588);
        return mk_mul(b, phi, mk_sub(b, number(b, 2), square));
    }
    Node *u = mk_mul(b, x, mk_add(b, number(b, c), mk_scale(b, square, c * k)));
    Node *du = mk_add(b, number(b, c), mk_scale(b, square, 3 * c * k));
    Node *t = mk1(b, &op_tanh, NULL, u);
    Node *bend = mk_mul(b, mk_mul(b, x, t), mk1(b, &op_square, NULL, du));
    Node *sum = mk_add(b, mk_sub(b, du, bend), mk_scale(b, square, 3 * c * k));
    return mk_mul(b, sum, mk_sub(b, number(b, 1), mk1(b, &op_square, NULL, t)));
}

static void gelu_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_gelu_dx, n->attrs, dy[0], n->in[1]);
    dx[1] = mk_mul(b, mk_mul(b, dy[0], n->in[0]),
                   gelu_curvature(b, n->in[1], ((const GeluAttrs *)n->attrs)->approx));
}

const OpDesc op_gelu_dx = {
    .name = "gelu_dx", .summary = "gradient of gelu",
    .doc = "`dy (Phi(x) + x phi(x))`, or the derivative of the approximation.",
    .in = { "dy", "x" }, .attrs = gelu_attrs, .attr_size = sizeof(GeluAttrs),
    .flags = OPF_ELEMENTWISE | OPF_INTERNAL, .shape = shape_broadcast,
    .grad = gelu_dx_grad, .expr = "$0 * nn_gelu_dx_$approx($1)",
};

static void gelu_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_gelu_dx, n->attrs, dy[0], n->in[0]);
}

const OpDesc op_gelu = {
    .name = "gelu", .summary = "Gaussian error linear unit", .torch = "torch.nn.functional.gelu",
    .doc = "`y = x Phi(x)` with the normal distribution function `Phi`; with `approx = tanh`, "
           "`y = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.",
    .in = { "x" }, .attrs = gelu_attrs, .attr_size = sizeof(GeluAttrs),
    .flags = OPF_ACTIVATION | OPF_ELEMENTWISE,
    .shape = shape_same, .grad = gelu_grad, .expr = "nn_gelu_$approx($0)",
    .onnx = "Gelu",
    .gradient =
        "dx = dy (Phi(x) + x phi(x)), phi being the normal density; with approx = tanh the "
        "derivative of that formula",
    .samples = SAMPLES({ "gelu(x: f32[3,7])", "f32[3,7]" }, { "gelu(x: f32[5,2], approx = tanh)", "f32[5,2]" }),
};

/* ---- softplus ---- */

typedef struct SoftplusAttrs {
    double beta, threshold;
} SoftplusAttrs;
static const AttrDef softplus_attrs[] = {
    { "beta", ATTR_FLOAT, offsetof(SoftplusAttrs, beta), .def = 1, .min = 1e-6, .max = 1e6, .doc = "Sharpness." },
    { "threshold", ATTR_FLOAT, offsetof(SoftplusAttrs, threshold), .def = 20, .min = 0, .max = 1e30,
      .doc = "y = x where beta x is greater." },
    { 0 },
};

static void softplus_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    const SoftplusAttrs *a = n->attrs;
    Node *bx = mk_scale(b, n->in[0], a->beta);
    Node *straight = mk2(b, &op_greater, NULL, bx, mk_const(b, DT_F32, a->threshold));
    dx[0] = mk3(b, &op_where, NULL, straight, dy[0], mk_mul(b, dy[0], mk1(b, &op_sigmoid, NULL, bx)));
}

const OpDesc op_softplus = {
    .name = "softplus", .summary = "smooth relu", .torch = "torch.nn.functional.softplus",
    .doc = "`y = log(1 + e^(beta x)) / beta`, computed as `max(x, 0) + log(1 + e^-|beta x|) / beta`; `x` itself where "
           "`beta x > threshold`.",
    .in = { "x" }, .attrs = softplus_attrs, .attr_size = sizeof(SoftplusAttrs),
    .flags = OPF_ACTIVATION | OPF_ELEMENTWISE,
    .shape = shape_same, .grad = softplus_grad,
    .expr = "$beta * $0 > $threshold ? $0 : nn_softplus($beta * $0) / $beta",
    .onnx = "Softplus",
    .gradient = "dx = dy sigmoid(beta x), or dy beyond the threshold",
    .samples = SAMPLES({ "softplus(x: f32[3,7])", "f32[3,7]" },
                       { "softplus(x: f32[3,5], beta = 2, threshold = 10)", "f32[3,5]" }),
};

/* ---- silu, mish ---- */

/* dy (s + y (1 - s)) with s = sigmoid(x) */
static void silu_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *s = mk1(b, &op_sigmoid, NULL, n->in[0]);
    Node *rest = mk_sub(b, mk_const(b, DT_F32, 1), s);
    dx[0] = mk_mul(b, dy[0], mk_add(b, s, mk_mul(b, (Node *)n, rest)));
}

const OpDesc op_silu = {
    .name = "silu", .summary = "x times sigmoid(x)", .torch = "torch.nn.functional.silu",
    .doc = "`y = x / (1 + e^-x)`: swish with `beta = 1`.",
    .in = { "x" },
    .flags = OPF_ACTIVATION | OPF_ELEMENTWISE, .shape = shape_same, .grad = silu_grad, .expr = "$0 * nn_sigmoid($0)",
    .onnx = "Swish",
    .gradient = "dx = dy s (1 + x (1 - s)) with s = sigmoid(x)",
    .samples = SAMPLES({ "silu(x: f32[3,7])", "f32[3,7]" }),
};

/* dy (t + x (1 - t^2) sigmoid(x)) with t = tanh(softplus(x)) */
static void mish_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *x = n->in[0];
    Node *t = mk1(b, &op_tanh, NULL, mk1(b, &op_softplus, &(SoftplusAttrs){ 1, 20 }, x));
    Node *slope = mk_sub(b, mk_const(b, DT_F32, 1), mk_mul(b, t, t));
    dx[0] = mk_mul(b, dy[0], mk_add(b, t, mk_mul(b, mk_mul(b, x, slope), mk1(b, &op_sigmoid, NULL, x))));
}

const OpDesc op_mish = {
    .name = "mish", .summary = "x times tanh(softplus(x))", .torch = "torch.nn.functional.mish",
    .doc = "`y = x tanh(log(1 + e^x))`, computed with one exponential.",
    .in = { "x" },
    .flags = OPF_ACTIVATION | OPF_ELEMENTWISE, .shape = shape_same, .grad = mish_grad, .expr = "nn_mish($0)",
    .onnx = "Mish",
    .gradient = "dx = dy (t + x (1 - t^2) sigmoid(x)) with t = tanh(softplus(x))",
    .samples = SAMPLES({ "mish(x: f32[3,7])", "f32[3,7]" }),
};
