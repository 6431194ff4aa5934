# SPDX-License-Identifier: MIT
# Arithmetic, comparisons, reductions, products and changes of shape, and what they do at the edges: NaN and ties.

def one(name, code, fn, x=(3, 4, 5), lo=-2, hi=2, **more):
    case(name, code, fn, x=("F32", list(x), lo, hi), **more)


def two(name, code, fn, x=(3, 4, 5), y=(4, 1), lo=-2, hi=2, **more):
    case(name, code, fn, x=("F32", list(x), lo, hi), y=("F32", list(y), lo, hi), **more)


two("add", "x + y", lambda t: t["x"] + t["y"])
two("sub", "x - y", lambda t: t["x"] - t["y"])
two("mul", "x * y", lambda t: t["x"] * t["y"])
two("div", "x / y", lambda t: t["x"] / t["y"], lo=0.5)
two("pow", "x ^ y", lambda t: t["x"] ** t["y"], lo=0.2)
one("pow_cube", "x ^ 3", lambda t: t["x"] ** 3)
one("pow_square", "x ^ 2", lambda t: t["x"] ** 2)
one("pow_inverse", "x ^ -1.5", lambda t: t["x"] ** -1.5, lo=0.3)
one("pow_base", "2 ^ x", lambda t: 2 ** t["x"])
one("scalars", "3 - 2 * x / 4 + -x", lambda t: 3 - 2 * t["x"] / 4 - t["x"])
one("neg", "neg(x)", lambda t: -t["x"])
for name, fn, lo in [("exp", torch.exp, -3), ("log", torch.log, 0.1), ("sqrt", torch.sqrt, 0.1), ("abs", torch.abs, -2),
                     ("square", torch.square, -2), ("sign", torch.sign, -2), ("sin", torch.sin, -3),
                     ("cos", torch.cos, -3), ("reciprocal", torch.reciprocal, 0.3)]:
    one(name, f"{name}(x)", lambda t, f=fn: f(t["x"]), lo=lo, no_grad=("x",) if name == "sign" else ())
one("clip", "clip(x, min = -0.5, max = 1)", lambda t: torch.clamp(t["x"], -0.5, 1))
two("maximum", "maximum(x, y)", lambda t: torch.maximum(t["x"], t["y"]))
two("minimum", "minimum(x, y)", lambda t: torch.minimum(t["x"], t["y"]))
two("max_of_two", "max(x, y)", lambda t: torch.maximum(t["x"], t["y"]))
two("min_of_two", "min(x, y)", lambda t: torch.minimum(t["x"], t["y"]))
two("where", "where(x > y, x, 2 * y)", lambda t: torch.where(t["x"] > t["y"], t["x"], 2 * t["y"]))
for name, sign in [("less", "<"), ("less_equal", "<="), ("greater", ">"), ("greater_equal", ">="), ("equal", "=="),
                   ("not_equal", "!=")]:
    case(name, f"cast(x {sign} y, to = f32) + cast({name}(x, 1), to = f32)",
         lambda t, s=sign: eval(f"(t['x'] {s} t['y']).double() + (t['x'] {s} 1).double()"), x=("I32", [4, 5], 0, 3),
         y=("I32", [5], 0, 3))
case("logic", "cast((x > 0 && y > 0) || !(x > 1), to = f32)",
     lambda t: ((t["x"] > 0) & (t["y"] > 0) | ~(t["x"] > 1)).double(), x=("I32", [4, 5], 0, 3), y=("I32", [5], 0, 3))

# ---- reductions ----

for name, fn in [("sum", torch.sum), ("mean", torch.mean), ("max", torch.amax), ("min", torch.amin),
                 ("var", lambda x, *a, **k: torch.var(x, *a, correction=0, **k))]:
    one(f"{name}_all", f"{name}(x)", lambda t, f=fn: f(t["x"], (0, 1, 2)))
    one(f"{name}_axes", f"{name}(x, axis = [0, 2])", lambda t, f=fn: f(t["x"], (0, 2)))
    one(f"{name}_last_kept", f"{name}(x, axis = [-1], keepdims = true)", lambda t, f=fn: f(t["x"], -1, keepdim=True))
one("var_unbiased", "var(x, axis = [1], unbiased = true)", lambda t: torch.var(t["x"], 1))
one("argmax", "cast(argmax(x, axis = 1), to = f32)", lambda t: t["x"].argmax(1).double(), no_grad=("x",))
one("argmax_kept", "cast(argmax(x, keepdims = true), to = f32)", lambda t: t["x"].argmax(-1, keepdim=True).double(),
    no_grad=("x",))

# ---- products ----

two("matmul", "matmul(x, y)", lambda t: t["x"] @ t["y"], y=(5, 7))
two("matmul_batched", "matmul(x, y, trans_b = true)", lambda t: t["x"] @ t["y"].mT, x=(2, 1, 4, 5), y=(3, 7, 5))
two("matmul_both", "matmul(x, y, trans_a = true, trans_b = true)", lambda t: t["x"].mT @ t["y"].mT, x=(2, 5, 4), y=(2, 7, 5))

# ---- shapes ----

one("permute", "permute(x, [2, 0, 1])", lambda t: t["x"].permute(2, 0, 1))
one("transpose", "transpose(x, 1, -1)", lambda t: t["x"].transpose(1, -1))
one("reshape", "reshape(x, [5, -1, 2])", lambda t: t["x"].reshape(5, -1, 2))
one("flatten", "flatten(x)", lambda t: t["x"].flatten(1))
two("concat", "concat(x, y, x, axis = 1)", lambda t: torch.cat((t["x"], t["y"], t["x"]), 1), y=(3, 2, 5))
one("split", "a, b = split(x, 2, axis = 1);  return a, b;", lambda t: tuple(t["x"].chunk(2, 1)))
one("slice", "slice(x, axis = 1, start = 1, stop = -1)", lambda t: t["x"][:, 1:-1])
one("slice_step", "slice(x, axis = 2, step = 2)", lambda t: t["x"][:, :, ::2])
one("pad", "pad(x, before = [0, 1, 2], after = [0, 0, 1], value = 0.5)", lambda t: F.pad(t["x"], (2, 1, 1, 0), value=0.5))
one("expand", "expand(x, [2, 3, 4, 5])", lambda t: t["x"].expand(2, 3, 4, 5), x=(3, 1, 5))
case("gather", "gather(x, ids, axis = 1)", lambda t: t["x"].index_select(1, t["ids"]), x=("F32", [3, 4, 5], -1, 1),
     ids=("I32", [6], 0, 4))
case("gather_rows", "gather(x, ids)", lambda t: t["x"][t["ids"]], x=("F32", [4, 5], -1, 1), ids=("I32", [2, 3], 0, 4))
one("cast_and_back", "cast(cast(3 * x, to = i32), to = f32)", lambda t: torch.trunc(3 * t["x"]), no_grad=("x",))
one("stop_grad", "x * stop_grad(square(x))", lambda t: t["x"] * t["x"].square().detach())

# ---- the classic gates: + hands the gradient on, max routes it, * scales it by the other side ----

case("gates", "2 * (x * y + max(z, w))", lambda t: 2 * (t["x"] * t["y"] + torch.maximum(t["z"], t["w"])),
     x=("F32", [1], 3, 3), y=("F32", [1], -4, -4), z=("F32", [1], 2, 2), w=("F32", [1], -1, -1))

# ---- NaN: 1 where the result is one ----

NAN = dict(x=("F32", [2, 3], 0, 0), y=("F32", [2, 3], 0, 0), no_grad=("x", "y"))
for name, code, fn in [
        ("relu", "relu(x / y)", F.relu), ("relu6", "relu6(x / y)", F.relu6), ("leaky_relu", "leaky_relu(x / y)", F.leaky_relu),
        ("clip", "clip(x / y, min = -1, max = 1)", lambda x: x.clamp(-1, 1)), ("max", "max(x / y, axis = [1])", lambda x: x.amax(1)),
        ("maximum", "maximum(x / y, 1)", lambda x: torch.maximum(x, torch.ones_like(x))),
        ("sum", "sum(x / y, axis = [1])", lambda x: x.sum(1)), ("softmax", "softmax(x / y)", lambda x: x.softmax(-1)),
        ("sigmoid", "sigmoid(x / y)", torch.sigmoid), ("elu", "elu(x / y)", F.elu)]:
    case(f"nan_{name}", f"z = {code};  return where(z == z, 0.0, 1.0);", lambda t, f=fn: f(t["x"] / t["y"]).isnan().double(),
         **NAN)
case("nan_max_pool2d", "z = max_pool2d(x / y, 2);  return where(z == z, 0.0, 1.0);",
     lambda t: F.max_pool2d(t["x"] / t["y"], 2).isnan().double(), x=("F32", [1, 2, 4, 4], 0, 0),
     y=("F32", [1, 2, 4, 4], 0, 0), no_grad=("x", "y"))
case("nan_is_the_largest", "cast(argmax(concat(y, x / x, y, axis = 1), axis = 1), to = f32)",
     lambda t: torch.cat((t["y"], t["x"] / t["x"], t["y"]), 1).argmax(1).double(), x=("F32", [2, 3], 0, 0),
     y=("F32", [2, 3], -1, 1), no_grad=("x", "y"))

# ---- ties ----

EQUAL = dict(x=(2, 3, 4, 4), lo=1, hi=1)
one("ties_argmax", "cast(argmax(x, axis = 2), to = f32)", lambda t: 0 * t["x"].sum(2).detach(), no_grad=("x",), **EQUAL)
one("ties_max_pool2d", "max_pool2d(x, 3, stride = 2, pad = 1)",
    lambda t: F.max_pool2d(t["x"], 3, 2, 1, ceil_mode=True), **EQUAL)
one("ties_global_max_pool", "global_max_pool(x)", lambda t: F.adaptive_max_pool2d(t["x"], 1).flatten(1), **EQUAL)
one("ties_max", "max(x, axis = [2, 3])", lambda t: t["x"].amax((2, 3)), **EQUAL)
two("ties_maximum", "maximum(x, y)", lambda t: torch.maximum(t["x"], t["y"]), lo=1, hi=1)
