/* SPDX-License-Identifier: MIT
 *
 * Arithmetic, element by element, with NumPy's broadcasting. Gradients of broadcast operands are summed back
 * to the operand's shape by grad_put. Where a function has a kink, the derivative is the one stated in the
 * operator's documentation, and it is PyTorch's.
 */
#include "ops/op.h"

static Node *scalar(Builder *b, double v)
{
    return mk_const(b, DT_F32, v);
}

/* ---- add, sub, mul, div ---- */

static double add_fold(double x, double y) { return x + y; }
static double sub_fold(double x, double y) { return x - y; }
static double mul_fold(double x, double y) { return x * y; }
static double div_fold(double x, double y) { return x / y; }
static double neg_fold(double x) { return -x; }

static void add_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    grad_put(b, n, 0, dy[0], dx);
    grad_put(b, n, 1, dy[0], dx);
}

/* x + 0 = x; a + (-b) = a - b, (-a) + b = b - a. Each removes a node or a use of a neg. */
static Node *add_simplify(Builder *b, const Node *n)
{
    Node *x = n->in[0], *y = n->in[1];
    if (const_is(y, 0) && same_as(x, n)) return x;
    if (const_is(x, 0) && same_as(y, n)) return y;
    if (op_is(y, &op_neg)) return mk_sub(b, x, y->in[0]);
    if (op_is(x, &op_neg)) return mk_sub(b, y, x->in[0]);
    return fold2(b, n, add_fold);
}

const OpDesc op_add = {
    .name = "add", .summary = "sum of two tensors", .torch = "torch.add",
    .doc = "`y = a + b`. The upstream gradient goes to both operands.",
    .in = { "a", "b" }, .flags = OPF_ELEMENTWISE | OPF_COMMUTATIVE | OPF_SEEN_THROUGH, .shape = shape_broadcast,
    .grad = add_grad, .simplify = add_simplify, .expr = "$0 + $1",
    .onnx = "Add",
    .gradient = "da = dy, db = dy, summed over axes that were stretched",
    .samples = SAMPLES({ "add(a: f32[3,5,7], b: f32[3,5,7])", "f32[3,5,7]" },
                       { "add(a: f32[3,5,7], b: f32[5,1])", "f32[3,5,7]" }),
};

static void sub_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    grad_put(b, n, 0, dy[0], dx);
    grad_put(b, n, 1, mk_neg(b, dy[0]), dx);
}

/* x - 0 = x; a - (-b) = a + b. Each removes a node or a use of a neg. */
static Node *sub_simplify(Builder *b, const Node *n)
{
    Node *x = n->in[0], *y = n->in[1];
    if (const_is(y, 0) && same_as(x, n)) return x;
    if (op_is(y, &op_neg)) return mk_add(b, x, y->in[0]);
    return fold2(b, n, sub_fold);
}

const OpDesc op_sub = {
    .name = "sub", .summary = "difference of two tensors", .torch = "torch.sub", .doc = "`y = a - b`.",
    .in = { "a", "b" }, .flags = OPF_ELEMENTWISE | OPF_SEEN_THROUGH, .shape = shape_broadcast,
    .grad = sub_grad, .simplify = sub_simplify, .expr = "$0 - $1",
    .onnx = "Sub",
    .gradient = "da = dy, db = -dy",
    .samples = SAMPLES({ "sub(a: f32[2,7], b: f32[2,7])", "f32[2,7]" },
                       { "sub(a: f32[7], b: f32[3,2,1])", "f32[3,2,7]" }),
};

static void mul_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    grad_put(b, n, 0, mk_mul(b, dy[0], n->in[1]), dx);
    grad_put(b, n, 1, mk_mul(b, dy[0], n->in[0]), dx);
}

/* x * 1 = x; x * -1 = -x. The result has fewer operands. x * 0 stays: x may be infinite or NaN. */
static Node *mul_simplify(Builder *b, const Node *n)
{
    for (int i = 0; i < 2; i++) {
        Node *x = n->in[i], *c = n->in[1 - i];
        if (const_is(c, 1) && same_as(x, n)) return x;
        if (const_is(c, -1) && same_as(x, n)) return mk_neg(b, x);
    }
    return fold2(b, n, mul_fold);
}

const OpDesc op_mul = {
    .name = "mul", .summary = "product of two tensors", .torch = "torch.mul",
    .doc = "`y = a b`, element by element. Each operand's gradient is scaled by the other.",
    .in = { "a", "b" }, .flags = OPF_ELEMENTWISE | OPF_COMMUTATIVE | OPF_SEEN_THROUGH | OPF_ON_WEIGHTS,
    .shape = shape_broadcast,
    .grad = mul_grad, .simplify = mul_simplify, .expr = "$0 * $1",
    .onnx = "Mul",
    .gradient = "da = dy b, db = dy a",
    .samples = SAMPLES({ "mul(a: f32[4,3], b: f32[4,3])", "f32[4,3]" },
                       { "mul(a: f32[2,1,5], b: f32[3,1])", "f32[2,3,5]" }),
};

/* da = dy / b, db = -dy y / b */
static void div_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    grad_put(b, n, 0, mk_div(b, dy[0], n->in[1]), dx);
    grad_put(b, n, 1, mk_neg(b, mk_div(b, mk_mul(b, dy[0], (Node *)n), n->in[1])), dx);
}

/* x / 1 = x; x / 2^k = x * 2^-k, exactly. A product never becomes a quotient again. */
static Node *div_simplify(Builder *b, const Node *n)
{
    double c;
    int e;
    if (const_is(n->in[1], 1) && same_as(n->in[0], n)) return n->in[0];
    Node *folded = fold2(b, n, div_fold);
    if (folded) return folded;
    if (!node_const_value(n->in[1], &c) || fabs(frexp(c, &e)) != 0.5 || e < -100 || e > 100) return NULL;
    return mk_mul(b, n->in[0], mk_fill(b, &n->in[1]->type, 1 / c));
}

const OpDesc op_div = {
    .name = "div", .summary = "quotient of two tensors", .torch = "torch.div", .doc = "`y = a / b`.",
    .in = { "a", "b" }, .flags = OPF_ELEMENTWISE | OPF_SEEN_THROUGH, .shape = shape_broadcast,
    .grad = div_grad, .simplify = div_simplify, .expr = "$0 / $1",
    .onnx = "Div",
    .gradient = "da = dy / b, db = -dy a / b^2",
    .samples = SAMPLES({ "div(a: f32[3,7], b: f32[3,7])", "f32[3,7]" },
                       { "div(a: f32[3,5], b: f32[3,1])", "f32[3,5]" }),
};

/* ---- pow ---- */

/* da = dy b a^(b-1), zero where b is zero; db = dy y log a, zero where a is zero and b is not negative. */
static void pow_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *base = n->in[0], *e = n->in[1], *zero = scalar(b, 0);
    double c;
    if (node_const_value(e, &c)) {
        if (c == 0) {
            dx[0] = mk_fill(b, &base->type, 0);
            return;
        }
        Node *less = c == 2 ? base : mk2(b, &op_pow, NULL, base, mk_fill(b, &e->type, c - 1));
        grad_put(b, n, 0, mk_mul(b, mk_scale(b, dy[0], c), less), dx);
        return;
    }
    Node *less = mk2(b, &op_pow, NULL, base, mk_sub(b, e, scalar(b, 1)));
    Node *da = mk_mul(b, mk_mul(b, dy[0], e), less);
    grad_put(b, n, 0, mk3(b, &op_where, NULL, mk2(b, &op_equal, NULL, e, zero), zero, da), dx);
    Node *flat = mk2(b, &op_logical_and, NULL, mk2(b, &op_equal, NULL, base, zero),
                     mk2(b, &op_greater_equal, NULL, e, zero));
    Node *de = mk_mul(b, mk_mul(b, dy[0], (Node *)n), mk1(b, &op_log, NULL, base));
    grad_put(b, n, 1, mk3(b, &op_where, NULL, flat, zero, de), dx);
}

/* x^0 = 1, x^1 = x, x^2 = square(x), x^3 = x square(x), x^(1/2) = sqrt(x), x^-1 = reciprocal(x). None of the
 * results contains a pow. */
static Node *pow_simplify(Builder *b, const Node *n)
{
    Node *x = n->in[0];
    double c;
    Node *folded = fold2(b, n, pow);
    if (folded) return folded;
    if (!node_const_value(n->in[1], &c)) return NULL;
    if (c == 0) return mk_fill(b, &n->type, 1);
    if (!same_as(x, n)) return NULL;
    if (c == 1) return x;
    if (c == 2) return mk1(b, &op_square, NULL, x);
    if (c == 3) return mk_mul(b, x, mk1(b, &op_square, NULL, x));
    if (c == 0.5) return mk1(b, &op_sqrt, NULL, x);
    if (c == -1) return mk1(b, &op_reciprocal, NULL, x);
    return NULL;
}

const OpDesc op_pow = {
    .name = "pow", .summary = "power with a real exponent", .torch = "torch.pow",
    .doc = "`y = a^b`, written `a ^ b`. A negative base with a fractional exponent gives NaN. Whole and half "
           "exponents up to 3 become products and roots. The gradient with respect to the base is zero where the "
           "exponent is zero, that with respect to the exponent is zero where the base is zero.",
    .in = { "a", "b" }, .flags = OPF_ELEMENTWISE, .shape = shape_broadcast,
    .grad = pow_grad, .simplify = pow_simplify, .expr = "nn_pow($0, $1)",
    .onnx = "Pow",
    .gradient = "da = dy b a^(b - 1), db = dy y log(a); 0 where the exponent or the base is",
    .samples = SAMPLES({ "pow(a: f32[3,5], b: f32[3,5])", "f32[3,5]" },
                       { "pow(a: f32[2,7], b: 3)", "f32[2,7]" }, { "pow(a: f32[5], b: -1.5)", "f32[5]" }),
};

/* ---- functions of one operand ---- */

static void neg_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    (void)n;
    dx[0] = mk_neg(b, dy[0]);
}

/* -(-x) = x; one node fewer. */
static Node *neg_simplify(Builder *b, const Node *n)
{
    return op_is(n->in[0], &op_neg) ? n->in[0]->in[0] : fold1(b, n, neg_fold);
}

const OpDesc op_neg = {
    .name = "neg", .summary = "negation", .torch = "torch.neg", .doc = "`y = -x`.",
    .in = { "x" }, .flags = OPF_ELEMENTWISE, .shape = shape_same,
    .grad = neg_grad, .simplify = neg_simplify, .expr = "-($0)",
    .onnx = "Neg",
    .gradient = "dx = -dy",
    .samples = SAMPLES({ "neg(x: f32[3,7])", "f32[3,7]" }),
};

static void exp_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk_mul(b, dy[0], (Node *)n); /* y is kept, not x: exp' = exp */
}

static Node *exp_simplify(Builder *b, const Node *n) { return fold1(b, n, exp); }

const OpDesc op_exp = {
    .name = "exp", .summary = "exponential", .torch = "torch.exp", .doc = "`y = e^x`.",
    .in = { "x" }, .flags = OPF_ELEMENTWISE, .shape = shape_same,
    .grad = exp_grad, .simplify = exp_simplify, .expr = "nn_exp($0)",
    .onnx = "Exp",
    .gradient = "dx = dy y",
    .samples = SAMPLES({ "exp(x: f32[2,3,5])", "f32[2,3,5]" }),
};

static void log_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk_div(b, dy[0], n->in[0]);
}

static Node *log_simplify(Builder *b, const Node *n) { return fold1(b, n, log); }

const OpDesc op_log = {
    .name = "log", .summary = "natural logarithm", .torch = "torch.log",
    .doc = "`y = log x`; minus infinity at 0, NaN below.",
    .in = { "x" }, .flags = OPF_ELEMENTWISE, .shape = shape_same,
    .grad = log_grad, .simplify = log_simplify, .expr = "nn_log($0)",
    .onnx = "Log",
    .gradient = "dx = dy / x",
    .samples = SAMPLES({ "log(x: f32[3,5])", "f32[3,5]" }),
};

static void sqrt_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk_div(b, mk_scale(b, dy[0], 0.5), (Node *)n);
}

static Node *sqrt_simplify(Builder *b, const Node *n) { return fold1(b, n, sqrt); }

const OpDesc op_sqrt = {
    .name = "sqrt", .summary = "square root", .torch = "torch.sqrt",
    .doc = "`y = sqrt x`; NaN below 0. The gradient `dy / (2 y)` is infinite at 0.",
    .in = { "x" }, .flags = OPF_ELEMENTWISE, .shape = shape_same,
    .grad = sqrt_grad, .simplify = sqrt_simplify, .expr = "nn_sqrt($0)",
    .onnx = "Sqrt",
    .gradient = "dx = dy / (2 y)",
    .samples = SAMPLES({ "sqrt(x: f32[7,3])", "f32[7,3]" }),
};

static void abs_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk_mul(b, dy[0], mk1(b, &op_sign, NULL, n->in[0]));
}

/* abs(abs x) = abs x, abs(square x) = square x, abs(-x) = abs x; one node fewer each. */
static Node *abs_simplify(Builder *b, const Node *n)
{
    Node *x = n->in[0];
    if (op_is(x, &op_abs) || op_is(x, &op_square)) return x;
    if (op_is(x, &op_neg)) return mk1(b, &op_abs, NULL, x->in[0]);
    return fold1(b, n, fabs);
}

const OpDesc op_abs = {
    .name = "abs", .summary = "absolute value", .torch = "torch.abs", .doc = "`y = |x|`, with `y' = 0` at 0.",
    .in = { "x" }, .flags = OPF_ELEMENTWISE, .shape = shape_same,
    .grad = abs_grad, .simplify = abs_simplify, .expr = "nn_abs($0)",
    .onnx = "Abs",
    .gradient = "dx = dy sign(x)",
    .samples = SAMPLES({ "abs(x: f32[3,7])", "f32[3,7]" }),
};

static double square_fold(double x) { return x * x; }

static void square_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk_mul(b, mk_scale(b, dy[0], 2), n->in[0]);
}

/* (-x)^2 = |x|^2 = x^2; one node fewer. */
static Node *square_simplify(Builder *b, const Node *n)
{
    Node *x = n->in[0];
    if (op_is(x, &op_neg) || op_is(x, &op_abs)) return mk1(b, &op_square, NULL, x->in[0]);
    return fold1(b, n, square_fold);
}

const OpDesc op_square = {
    .name = "square", .summary = "square", .torch = "torch.square", .doc = "`y = x^2`.",
    .in = { "x" }, .flags = OPF_ELEMENTWISE, .shape = shape_same,
    .grad = square_grad, .simplify = square_simplify, .expr = "$0 * $0",
    .onnx = "Mul(x, x)",
    .gradient = "dx = 2 dy x",
    .samples = SAMPLES({ "square(x: f32[3,5])", "f32[3,5]" }),
};

/* The derivative is zero wherever it exists, and is taken as zero at 0. */
static void sign_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    (void)dy;
    dx[0] = mk_fill(b, &n->type, 0);
}

const OpDesc op_sign = {
    .name = "sign", .summary = "-1, 0 or 1 by the sign", .torch = "torch.sign",
    .doc = "`y = 1` for `x > 0`, `-1` for `x < 0`, else `0` (also for NaN). The gradient is zero.",
    .in = { "x" }, .flags = OPF_ELEMENTWISE, .shape = shape_same, .grad = sign_grad, .expr = "nn_sign($0)",
    .onnx = "Sign",
    .gradient = "dx = 0",
    .samples = SAMPLES({ "sign(x: f32[11])", "f32[11]" }),
};

static double reciprocal_fold(double x) { return 1 / x; }

static void reciprocal_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk_neg(b, mk_mul(b, dy[0], mk1(b, &op_square, NULL, (Node *)n)));
}

static Node *reciprocal_simplify(Builder *b, const Node *n) { return fold1(b, n, reciprocal_fold); }

const OpDesc op_reciprocal = {
    .name = "reciprocal", .summary = "one over x", .torch = "torch.reciprocal",
    .doc = "`y = 1 / x`; the gradient is `-dy y^2`.",
    .in = { "x" }, .flags = OPF_ELEMENTWISE, .shape = shape_same,
    .grad = reciprocal_grad, .simplify = reciprocal_simplify, .expr = "1.0r / ($0)",
    .onnx = "Reciprocal",
    .gradient = "dx = -dy y^2",
    .samples = SAMPLES({ "reciprocal(x: f32[3,5])", "f32[3,5]" }),
};

/* ---- maximum, minimum, clip, where ---- */

/* Piecewise linear: which operand is larger does not change near a point without a tie. */
static void maximum_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    grad_put(b, n, 0, mk3(b, &op_maximum_dx, NULL, dy[0], n->in[1], n->in[2]), dx);
}

const OpDesc op_maximum_dx = {
    .name = "maximum_dx", .summary = "gradient share of the larger operand",
    .doc = "`dy` where `a > b`, half of it where they are equal, else 0.",
    .in = { "dy", "a", "b" }, .flags = OPF_ELEMENTWISE | OPF_INTERNAL, .shape = shape_broadcast,
    .grad = maximum_dx_grad,
    .expr = "$1 > $2 ? $0 : $1 == $2 ? 0.5r * $0 : 0.0r",
};

static void maximum_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    for (int i = 0; i < 2; i++)
        grad_put(b, n, i, mk3(b, &op_maximum_dx, NULL, dy[0], n->in[i], n->in[1 - i]), dx);
}

static double max_fold(double x, double y) { return x > y ? x : y; }
static double min_fold(double x, double y) { return x < y ? x : y; }

/* maximum(x, x) = x; one node fewer. */
static Node *maximum_simplify(Builder *b, const Node *n)
{
    return n->in[0] == n->in[1] ? n->in[0] : fold2(b, n, max_fold);
}

const OpDesc op_maximum = {
    .name = "maximum", .summary = "larger of two tensors", .torch = "torch.maximum",
    .doc = "`y = max(a, b)`, element by element; NaN if either is. The gradient goes to the larger operand, half to "
           "each where they are equal.",
    .in = { "a", "b" }, .flags = OPF_ELEMENTWISE | OPF_COMMUTATIVE, .shape = shape_broadcast,
    .grad = maximum_grad, .simplify = maximum_simplify, .expr = "nn_max($0, $1)",
    .onnx = "Max",
    .gradient = "dy goes to the larger operand, half to each where they are equal",
    .samples = SAMPLES({ "maximum(a: f32[3,7], b: f32[3,7])", "f32[3,7]" },
                       { "maximum(a: f32[2,5,3], b: f32[5,1])", "f32[2,5,3]" }),
};

static void minimum_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    for (int i = 0; i < 2; i++)
        grad_put(b, n, i, mk3(b, &op_maximum_dx, NULL, dy[0], n->in[1 - i], n->in[i]), dx);
}

/* minimum(x, x) = x; one node fewer. */
static Node *minimum_simplify(Builder *b, const Node *n)
{
    return n->in[0] == n->in[1] ? n->in[0] : fold2(b, n, min_fold);
}

const OpDesc op_minimum = {
    .name = "minimum", .summary = "smaller of two tensors", .torch = "torch.minimum",
    .doc = "`y = min(a, b)`, element by element; NaN if either is. The gradient goes to the smaller operand, half to "
           "each where they are equal.",
    .in = { "a", "b" }, .flags = OPF_ELEMENTWISE | OPF_COMMUTATIVE, .shape = shape_broadcast,
    .grad = minimum_grad, .simplify = minimum_simplify, .expr = "nn_min($0, $1)",
    .onnx = "Min",
    .gradient = "dy goes to the smaller operand, half to each where they are equal",
    .samples = SAMPLES({ "minimum(a: f32[3,7], b: f32[3,7])", "f32[3,7]" },
                       { "minimum(a: f32[7], b: f32[3,1])", "f32[3,7]" }),
};

typedef struct ClipAttrs {
    double min, max;
} ClipAttrs;
static const AttrDef clip_attrs[] = {
    { "min", ATTR_FLOAT, offsetof(ClipAttrs, min), .def = NAN, .doc = "Values below become this." },
    { "max", ATTR_FLOAT, offsetof(ClipAttrs, max), .def = NAN, .doc = "Values above become this." },
    { 0 },
};

static bool clip_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const ClipAttrs *a = n->attrs;
    return want(c, isfinite(a->min), ATTR(min), "expected a finite bound") &&
           want(c, isfinite(a->max), ATTR(max), "expected a finite bound") &&
           want(c, a->min <= a->max, ATTR(max), "expected max >= min = %g, got %g", a->min, a->max) &&
           shape_same(c, n, out);
}

static void clip_dx_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_clip_dx, n->attrs, dy[0], n->in[1]);
}

const OpDesc op_clip_dx = {
    .name = "clip_dx", .summary = "gradient of clip", .doc = "`dy` where `min <= x <= max`, else 0.",
    .in = { "dy", "x" }, .attrs = clip_attrs, .attr_size = sizeof(ClipAttrs),
    .flags = OPF_ELEMENTWISE | OPF_INTERNAL, .shape = shape_broadcast,
    .grad = clip_dx_grad,
    .expr = "$1 >= $min && $1 <= $max ? $0 : 0.0r",
};

static void clip_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    dx[0] = mk2(b, &op_clip_dx, n->attrs, dy[0], n->in[0]);
}

const OpDesc op_clip = {
    .name = "clip", .summary = "values limited to a range", .torch = "torch.clamp",
    .doc = "`y = min(max(x, min), max)`; NaN stays NaN. The derivative is 1 within the bounds and at them, 0 beyond.",
    .in = { "x" }, .attrs = clip_attrs, .attr_size = sizeof(ClipAttrs), .flags = OPF_ELEMENTWISE,
    .shape = clip_shape, .grad = clip_grad, .expr = "$0 < $min ? $min : $0 > $max ? $max : $0",
    .onnx = "Clip",
    .gradient = "dx = dy for min <= x <= max, else 0",
    .samples = SAMPLES({ "clip(x: f32[3,7], min = -0.5, max = 0.75)", "f32[3,7]" }),
};

/* The condition, then two values of one type. */
static bool where_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const TensorType *cond = &n->in[0]->type, *x = &n->in[1]->type, *y = &n->in[2]->type;
    TensorType values;
    int axis = 0;
    if (!want(c, cond->dtype == DT_BOOL, IN(0), "the condition is %s, expected bool", dtype_name(cond->dtype)) ||
        !want(c, x->dtype == DT_F32 || x->dtype == DT_I32, IN(1), "expected f32 or i32 values, got %s",
              dtype_name(x->dtype)) ||
        !want(c, x->dtype == y->dtype, IN(2), "expected %s like the other value, got %s", dtype_name(x->dtype),
              dtype_name(y->dtype)) ||
        !want(c, type_broadcast(x, y, &values, &axis), IN(2), "the two values do not broadcast: they differ on axis %d",
              axis) ||
        !want(c, type_broadcast(cond, &values, out, &axis), IN(0),
              "the condition does not broadcast with the values: they differ on axis %d", axis))
        return false;
    out->dtype = x->dtype;
    return true;
}

static void where_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    Node *zero = scalar(b, 0);
    grad_put(b, n, 1, mk3(b, &op_where, NULL, n->in[0], dy[0], zero), dx);
    grad_put(b, n, 2, mk3(b, &op_where, NULL, n->in[0], zero, dy[0]), dx);
}

/* where(true, a, b) = a, where(false, a, b) = b, where(c, a, a) = a; one node fewer. */
static Node *where_simplify(Builder *b, const Node *n)
{
    double c;
    (void)b;
    Node *pick = n->in[1] == n->in[2] ? n->in[1] : NULL;
    if (node_const_value(n->in[0], &c)) pick = n->in[c != 0 ? 1 : 2];
    return pick && same_as(pick, n) ? pick : NULL;
}

const OpDesc op_where = {
    .name = "where", .summary = "one of two values by a condition", .torch = "torch.where",
    .doc = "`y = a` where `cond` holds, else `b`. All three broadcast. The gradient goes to the chosen operand.",
    .in = { "cond", "a", "b" }, .flags = OPF_ELEMENTWISE, .shape = where_shape,
    .grad = where_grad, .simplify = where_simplify, .expr = "$0 ? $1 : $2",
    .onnx = "Where",
    .gradient = "da = dy where cond holds, else 0; db the other way round",
    .samples = SAMPLES({ "where(cond: bool[3,7], a: f32[3,7], b: f32[3,7])", "f32[3,7]" },
                       { "where(cond: bool[5,1], a: f32[2,1,3], b: 0.5)", "f32[2,5,3]" }),
};
