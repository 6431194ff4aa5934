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
