/* SPDX-License-Identifier: MIT
 *
 * Comparisons and logic, with booleans as results, and conversions between element types.
 */
#include "ops/op.h"

static const char FLAT[] = "its result is a boolean, which has no gradient";

/* Two operands of one type, f32 or i32. */
static bool compare_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const DType t = n->in[0]->type.dtype;
    return want(c, t == DT_F32 || t == DT_I32, IN(0), "expected f32 or i32 values, got %s",
                dtype_name(t)) &&
           shape_compare(c, n, out);
}

static bool logical_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    for (int i = 0; i < n->n_in; i++) {
        const DType t = n->in[i]->type.dtype;
        if (!want(c, t == DT_BOOL, IN(i), "expected bool values, got %s", dtype_name(t)))
            return false;
    }
    return shape_compare(c, n, out);
}

const OpDesc op_equal = {
    .name = "equal",
    .summary = "a == b",
    .torch = "torch.eq",
    .doc = "True where both are equal. NaN equals nothing.",
    .in = { "a", "b" },
    .flags = OPF_ELEMENTWISE | OPF_COMMUTATIVE,
    .shape = compare_shape,
    .no_grad = FLAT,
    .expr = "$0 == $1",
    .onnx = "Equal",
    .samples = SAMPLES({ "equal(a: f32[3,7], b: f32[3,7])", "bool[3,7]" },
                       { "equal(a: i32[5], b: i32[3,1])", "bool[3,5]" }),
};

const OpDesc op_not_equal = {
    .name = "not_equal",
    .summary = "a != b",
    .torch = "torch.ne",
    .doc = "True where they differ, or where one is NaN.",
    .in = { "a", "b" },
    .flags = OPF_ELEMENTWISE | OPF_COMMUTATIVE,
    .shape = compare_shape,
    .no_grad = FLAT,
    .expr = "$0 != $1",
    .onnx = "Not(Equal)",
    .samples = SAMPLES({ "not_equal(a: i32[3,7], b: i32[7])", "bool[3,7]" }),
};

const OpDesc op_less = {
    .name = "less",
    .summary = "a < b",
    .torch = "torch.lt",
    .doc = "True where `a < b`; false where one is NaN.",
    .in = { "a", "b" },
    .flags = OPF_ELEMENTWISE,
    .shape = compare_shape,
    .no_grad = FLAT,
    .expr = "$0 < $1",
    .onnx = "Less",
    .samples = SAMPLES({ "less(a: f32[2,7], b: f32[2,7])", "bool[2,7]" },
                       { "less(a: f32[5], b: 0.5)", "bool[5]" }),
};

const OpDesc op_less_equal = {
    .name = "less_equal",
    .summary = "a <= b",
    .torch = "torch.le",
    .doc = "True where `a <= b`; false where one is NaN.",
    .in = { "a", "b" },
    .flags = OPF_ELEMENTWISE,
    .shape = compare_shape,
    .no_grad = FLAT,
    .expr = "$0 <= $1",
    .onnx = "LessOrEqual",
    .samples = SAMPLES({ "less_equal(a: i32[3,5], b: i32[3,5])", "bool[3,5]" }),
};

const OpDesc op_greater = {
    .name = "greater",
    .summary = "a > b",
    .torch = "torch.gt",
    .doc = "True where `a > b`; false where one is NaN.",
    .in = { "a", "b" },
    .flags = OPF_ELEMENTWISE,
    .shape = compare_shape,
    .no_grad = FLAT,
    .expr = "$0 > $1",
    .onnx = "Greater",
    .samples = SAMPLES({ "greater(a: f32[3,1], b: f32[1,5])", "bool[3,5]" }),
};

const OpDesc op_greater_equal = {
    .name = "greater_equal",
    .summary = "a >= b",
    .torch = "torch.ge",
    .doc = "True where `a >= b`; false where one is NaN.",
    .in = { "a", "b" },
    .flags = OPF_ELEMENTWISE,
    .shape = compare_shape,
    .no_grad = FLAT,
    .expr = "$0 >= $1",
    .onnx = "GreaterOrEqual",
    .samples = SAMPLES({ "greater_equal(a: f32[7], b: f32[7])", "bool[7]" }),
};

const OpDesc op_logical_and = {
    .name = "logical_and",
    .summary = "both",
    .torch = "torch.logical_and",
    .doc = "True where both operands are.",
    .in = { "a", "b" },
    .flags = OPF_ELEMENTWISE | OPF_COMMUTATIVE,
    .shape = logical_shape,
    .no_grad = FLAT,
    .expr = "$0 && $1",
    .onnx = "And",
    .samples = SAMPLES({ "logical_and(a: bool[3,7], b: bool[7])", "bool[3,7]" }),
};

const OpDesc op_logical_or = {
    .name = "logical_or",
    .summary = "either",
    .torch = "torch.logical_or",
    .doc = "True where an operand is.",
    .in = { "a", "b" },
    .flags = OPF_ELEMENTWISE | OPF_COMMUTATIVE,
    .shape = logical_shape,
    .no_grad = FLAT,
    .expr = "$0 || $1",
    .onnx = "Or",
    .samples = SAMPLES({ "logical_or(a: bool[3,7], b: bool[3,1])", "bool[3,7]" }),
};

/* not not x = x; one node fewer. */
static Node *logical_not_simplify(Builder *b, const Node *n)
{
    (void)b;
    return op_is(n->in[0], &op_logical_not) ? n->in[0]->in[0] : NULL;
}

const OpDesc op_logical_not = {
    .name = "logical_not",
    .summary = "negation",
    .torch = "torch.logical_not",
    .doc = "True where `x` is false.",
    .in = { "x" },
    .flags = OPF_ELEMENTWISE,
    .shape = logical_shape,
    .simplify = logical_not_simplify,
    .no_grad = FLAT,
    .expr = "!$0",
    .onnx = "Not",
    .samples = SAMPLES({ "logical_not(x: bool[3,5])", "bool[3,5]" }),
};

/* ---- cast ---- */

static const DType cast_types[] = { DT_F32, DT_I32, DT_BOOL };
static const AttrDef cast_attrs[] = {
    { "to", ATTR_CHOICE, offsetof(CastAttrs, to), .def = NAN,
      .choices = CHOICES("f32", "i32", "bool"), .doc = "The element type of the result." },
    { 0 },
};

static bool cast_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    (void)c;
    *out = n->in[0]->type;
    out->dtype = cast_types[((const CastAttrs *)n->attrs)->to];
    return true;
}

/* Reached only from f32 to f32: other element types cut gradients. */
static void cast_grad(Builder *b, const Node *n, Node *const *dy, Node **dx)
{
    (void)b;
    if (n->in[0]->type.dtype == DT_F32) dx[0] = dy[0];
}

/* A cast to the type x already has is x, a cast of a constant is a constant; one node fewer. */
static Node *cast_simplify(Builder *b, const Node *n)
{
    double v;
    if (n->in[0]->type.dtype == n->type.dtype) return n->in[0];
    if (!node_const_value(n->in[0], &v) || !(fabs(v) < 2147483648.0)) return NULL;
    return mk_fill(b, &n->type,
                   n->type.dtype == DT_BOOL  ? v != 0
                   : n->type.dtype == DT_I32 ? trunc(v)
                                             : v);
}

/* Bytes and booleans stay small; what comes from real numbers may be anything. */
static int64_t cast_limit(const Node *n)
{
    const DType from = n->in[0]->type.dtype;
    return from == DT_BOOL ? 2 : from == DT_U8 ? 256 : INT64_MAX;
}

const OpDesc op_cast = {
    .name = "cast",
    .summary = "another element type",
    .torch = "torch.Tensor.to",
    .doc =
        "To `i32`: towards zero, numbers out of range to the nearest, NaN to 0. To `bool`: true where not zero. "
        "Booleans become 0 and 1. Integers and booleans carry no gradient.",
    .in = { "x" },
    .attrs = cast_attrs,
    .attr_size = sizeof(CastAttrs),
    .flags = OPF_ELEMENTWISE,
    .shape = cast_shape,
    .grad = cast_grad,
    .simplify = cast_simplify,
    .value_limit = cast_limit,
    .expr = "nn_cast_$to($0)",
    .onnx = "Cast",
    .gradient = "none through integers and booleans",
    .samples = SAMPLES({ "cast(x: i32[3,5], to = f32)", "f32[3,5]" },
                       { "cast(x: f32[7], to = i32)", "i32[7]" },
                       { "cast(x: bool[2,3], to = f32)", "f32[2,3]" },
                       { "cast(x: f32[5], to = bool)", "bool[5]" }),
};
