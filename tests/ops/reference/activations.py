# SPDX-License-Identifier: MIT
# Activations, over a range that covers each of their pieces, at their kinks, and far out.

def act(name, code, fn, **more):
    case(name, code, fn, x=("F32", [7, 19], -8, 8), **more)


act("relu", "relu(x)", lambda t: F.relu(t["x"]))
act("leaky_relu", "leaky_relu(x)", lambda t: F.leaky_relu(t["x"]))
act("leaky_relu_slope", "leaky_relu(x, slope = 0.3)", lambda t: F.leaky_relu(t["x"], 0.3))
act("sigmoid", "sigmoid(x)", lambda t: torch.sigmoid(t["x"]))
act("tanh", "tanh(x)", lambda t: torch.tanh(t["x"]))
act("gelu", "gelu(x)", lambda t: F.gelu(t["x"]))
act("gelu_tanh", "gelu(x, approx = tanh)", lambda t: F.gelu(t["x"], approximate="tanh"))
act("softmax", "softmax(x)", lambda t: F.softmax(t["x"], -1))
act("softmax_axis", "softmax(x, axis = 1)", lambda t: F.softmax(t["x"], 1))
act("log_softmax", "log_softmax(x)", lambda t: F.log_softmax(t["x"], -1))
act("log_softmax_axis", "log_softmax(x, axis = 1)", lambda t: F.log_softmax(t["x"], 1))
act("hard_sigmoid", "hard_sigmoid(x)", lambda t: torch.clamp(0.2 * t["x"] + 0.5, 0, 1))
act("relu6", "relu6(x)", lambda t: F.relu6(t["x"]))
act("elu", "elu(x)", lambda t: F.elu(t["x"]))
act("elu_alpha", "elu(x, alpha = 0.3)", lambda t: F.elu(t["x"], 0.3))
act("selu", "selu(x)", lambda t: F.selu(t["x"]))
act("silu", "silu(x)", lambda t: F.silu(t["x"]))
act("swish", "swish(x)", lambda t: F.silu(t["x"]))
act("swish_beta", "swish(x, beta = 1.7)", lambda t: t["x"] * torch.sigmoid(1.7 * t["x"]))
act("swish_learned", "swish(x, learn = true) @a", lambda t: t["x"] * torch.sigmoid(t["a.weight"] * t["x"]),
    params={"a.weight": ([1], 0.5, 1.5)})
act("hard_swish", "hard_swish(x)", lambda t: F.hardswish(t["x"]))
act("softplus", "softplus(x)", lambda t: F.softplus(t["x"]))
act("softplus_beta", "softplus(x, beta = 3, threshold = 5)", lambda t: F.softplus(t["x"], 3, 5))
act("mish", "mish(x)", lambda t: F.mish(t["x"]))
act("prelu", "prelu(x) @a", lambda t: F.prelu(t["x"], t["a.weight"]), params={"a.weight": ([1], 0.1, 0.4)})
act("prelu_features", "prelu(x, 19) @a", lambda t: F.prelu(t["x"], t["a.weight"]),
    params={"a.weight": ([19], -0.2, 0.4)})
case("prelu_channels", "prelu(x, 3) @a", lambda t: F.prelu(t["x"], t["a.weight"]), x=("F32", [2, 3, 5, 4], -2, 2),
     params={"a.weight": ([3], -0.2, 0.4)})
case("prelu_one", "prelu(x) @a", lambda t: F.prelu(t["x"], t["a.weight"]), x=("F32", [2, 3, 5, 4], -2, 2),
     params={"a.weight": ([1], -0.2, 0.4)})

# Far out: no overflow, and the exact limits.
for name, fn in dict(sigmoid=torch.sigmoid, tanh=torch.tanh, elu=F.elu, selu=F.selu, silu=F.silu, mish=F.mish,
                     softplus=F.softplus, gelu=F.gelu, hard_swish=F.hardswish, relu6=F.relu6).items():
    for far in (-1e4, 1e4, -30.0, 30.0):
        if (name, far) == ("sigmoid", 30.0):
            continue  # 1 - y is 1e-13 there: nothing single precision could hold
        sign = "minus_" if far < 0 else ""
        case(f"{name}_{sign}{abs(far):g}", f"{name}(x)", lambda t, fn=fn: fn(t["x"]), x=("F32", [3], far, far))

# At the kinks: values and derivatives by PyTorch's conventions.
for name, fn, where in [
        ("relu", F.relu, [0]), ("relu6", F.relu6, [0, 6]), ("leaky_relu", F.leaky_relu, [0]), ("elu", F.elu, [0]),
        ("selu", F.selu, [0]), ("hard_swish", F.hardswish, [-3, 0, 3]), ("abs", torch.abs, [0])]:
    for at in where:
        case(f"{name}_at_{'minus_' if at < 0 else ''}{abs(at)}", f"{name}(x)", lambda t, fn=fn: fn(t["x"]),
             x=("F32", [3], at, at))
case("elu_alpha_at_0", "elu(x, alpha = 0.3)", lambda t: F.elu(t["x"], 0.3), x=("F32", [3], 0, 0))
case("prelu_at_0", "prelu(x) @a", lambda t: F.prelu(t["x"], t["a.weight"]), x=("F32", [3], 0, 0),
     params={"a.weight": ([1], 0.3, 0.3)})
case("clip_at_its_bounds", "clip(x, min = -0.5, max = 0.5) + clip(y, min = -0.5, max = 0.5)",
     lambda t: torch.clamp(t["x"], -0.5, 0.5) + torch.clamp(t["y"], -0.5, 0.5), x=("F32", [3], -0.5, -0.5),
     y=("F32", [3], 0.5, 0.5))
# PyTorch's clamp has the derivative 1 at its bounds, hard_sigmoid here as in hardsigmoid 0.
case("hard_sigmoid_at_its_corners", "hard_sigmoid(x) + hard_sigmoid(y)",
     lambda t: F.hardsigmoid(1.2 * t["x"]) + F.hardsigmoid(1.2 * t["y"]), x=("F32", [3], -2.5, -2.5),
     y=("F32", [3], 2.5, 2.5))
