# SPDX-License-Identifier: MIT
# Normalisation, dense and its relatives, and layers that draw where there is no choice.

def layer(name, code, fn, x, params=None, **more):
    case(name, code, fn, x=("F32", x, -1, 1), params=params or {}, **more)


norm = {"op.weight": ([6], 0.5, 1.5), "op.bias": ([6], -0.5, 0.5)}
layer("batch_norm", "batch_norm(x) @op",
      lambda t: F.batch_norm(t["x"], t["op.running_mean"], t["op.running_var"], t["op.weight"], t["op.bias"],
                             t["training"]), [4, 6, 3, 2], norm, f32=1e-5,
      state={"op.running_mean": ([6], -0.5, 0.5), "op.running_var": ([6], 0.5, 1.5)})
layer("batch_norm_momentum", "batch_norm(x, momentum = 0.3, eps = 0.01) @op",
      lambda t: F.batch_norm(t["x"], t["op.running_mean"], t["op.running_var"], t["op.weight"], t["op.bias"],
                             t["training"], 0.3, 0.01), [5, 6], norm, f32=1e-5,
      state={"op.running_mean": ([6], -0.5, 0.5), "op.running_var": ([6], 0.5, 1.5)})
layer("layer_norm", "layer_norm(x) @op", lambda t: F.layer_norm(t["x"], (6,), t["op.weight"], t["op.bias"]), [5, 6],
      norm, f32=1e-5)
layer("layer_norm_image", "layer_norm(x, axis = 1, eps = 0.01) @op",
      lambda t: F.layer_norm(t["x"], (3, 4, 5), t["op.weight"], t["op.bias"], 0.01), [2, 3, 4, 5],
      {"op.weight": ([3, 4, 5], 0.5, 1.5), "op.bias": ([3, 4, 5], -0.5, 0.5)}, f32=1e-5)
layer("layer_norm_plain", "layer_norm(x, affine = false)", lambda t: F.layer_norm(t["x"], (7,)), [5, 7], f32=1e-5)
for groups in 1, 2, 6:
    layer(f"group_norm_{groups}", f"group_norm(x, {groups}) @op",
          lambda t, g=groups: F.group_norm(t["x"], g, t["op.weight"], t["op.bias"]), [3, 6, 4, 5], norm, f32=1e-5)
layer("group_norm_features", "group_norm(x, 2, eps = 0.01, affine = false)", lambda t: F.group_norm(t["x"], 2, eps=0.01),
      [3, 6], f32=1e-5)
layer("instance_norm", "instance_norm(x)", lambda t: F.instance_norm(t["x"]), [3, 6, 4, 5], f32=1e-5)
layer("instance_norm_affine", "instance_norm(x, eps = 0.01, affine = true) @op",
      lambda t: F.instance_norm(t["x"], weight=t["op.weight"], bias=t["op.bias"], eps=0.01), [3, 6, 4, 5], norm,
      f32=1e-5)

# ---- dense and its relatives; draws that have no choice ----

dense = {"op.weight": ([4, 6], -0.5, 0.5), "op.bias": ([4], -0.5, 0.5)}
layer("dense", "dense(x, 4) @op", lambda t: F.linear(t["x"], t["op.weight"], t["op.bias"]), [5, 6], dense)
layer("dense_sequence", "dense(x, 4, bias = false) @op", lambda t: F.linear(t["x"], t["op.weight"]), [2, 3, 6],
      {"op.weight": ([4, 6], -0.5, 0.5)})
layer("maxout", "maxout(x, 4, 3) @op",
      lambda t: F.linear(t["x"], t["op.weight"], t["op.bias"]).view(5, 4, 3).amax(2), [5, 6],
      {"op.weight": ([12, 6], -0.5, 0.5), "op.bias": ([12], -0.5, 0.5)})
layer("maxout_sequence", "maxout(x, 4, bias = false) @op",
      lambda t: F.linear(t["x"], t["op.weight"]).view(2, 3, 4, 2).amax(3), [2, 3, 6],
      {"op.weight": ([8, 6], -0.5, 0.5)})
layer("drop_connect_0", "drop_connect(x, 4, p = 0) @op", lambda t: F.linear(t["x"], t["op.weight"], t["op.bias"]),
      [5, 6], dense)
layer("drop_connect_1", "drop_connect(x, 4, p = 0.9999999999) @op",
      lambda t: F.linear(t["x"], t["op.weight"] * (0 if t["training"] else 1), t["op.bias"]), [5, 6], dense)
layer("stochastic_depth_0", "x + stochastic_depth(square(x), 0)", lambda t: t["x"] + t["x"] ** 2, [5, 6])
layer("stochastic_depth_1", "x + stochastic_depth(square(x), 1)",
      lambda t: t["x"] if t["training"] else t["x"] + t["x"] ** 2, [5, 2, 3, 4])
case("embedding", "embedding(x, 7, 4) @op", lambda t: F.embedding(t["x"], t["op.weight"]), x=("I32", [3, 5], 0, 7),
     params={"op.weight": ([7, 4], -1, 1)})
case("one_hot", "one_hot(x, 7)", lambda t: F.one_hot(t["x"], 7).double(), x=("I32", [3, 5], 0, 7))

# ---- augmentation that leaves no choice ----

layer("random_rotate_0", "random_rotate(x, 0)", lambda t: t["x"] * 1, [3, 2, 5, 4])
layer("random_crop_0", "random_crop(x, 0)", lambda t: t["x"] * 1, [3, 2, 5, 4])
layer("color_jitter_0", "color_jitter(x)", lambda t: t["x"] * 1, [3, 2, 5, 4])
layer("gaussian_noise_0", "gaussian_noise(x, 0)", lambda t: t["x"] * 1, [3, 2, 5, 4])
layer("cutout_all", "cutout(x, 20)", lambda t: t["x"] * (0 if t["training"] else 1), [3, 2, 5, 4])

# ---- places ----

layer("sin_cos", "sin(x) * cos(3 * x)", lambda t: torch.sin(t["x"]) * torch.cos(3 * t["x"]), [5, 6])
layer("arange", "x * arange([4, 3, 1], axis = 0, start = 2, step = 0.5)",
      lambda t: t["x"] * torch.arange(2, 4, 0.5).double().view(4, 1, 1), [4, 3, 5])
