# SPDX-License-Identifier: MIT
# Attributes at their limits and in combination.

def layer(name, code, fn, x, params=None, **more):
    case(name, code, fn, x=("F32", x, -1, 1), params=params or {}, **more)


# ---- convolutions ----

def conv(name, args, x, w, bias=True, fn=None, **torch_args):
    params = {"op.weight": (w, -0.5, 0.5)}
    if bias:
        params["op.bias"] = ([w[0]], -0.5, 0.5)
    else:
        args += ", bias = false"
    one = len(w) == 3
    k = str(w[2]) if one else f"[{w[2]}, {w[3]}]"
    torch_conv = F.conv1d if one else F.conv2d
    layer(name, f"conv{1 if one else 2}d(x, {w[0]}, {k}{args}) @op",
          fn or (lambda t: torch_conv(t["x"], t["op.weight"], t.get("op.bias"), **torch_args)), x, params)


conv("conv2d_dilation_groups", ", dilation = 3, groups = 4", [2, 8, 9, 10], [12, 2, 3, 2], dilation=3, groups=4)
conv("conv2d_depthwise_dilation", ", dilation = [2, 1], stride = [1, 2], pad = [2, 1], groups = 6", [2, 6, 7, 8],
     [12, 1, 3, 3], dilation=(2, 1), stride=(1, 2), padding=(2, 1), groups=6)
conv("conv2d_ceil_pad", ", stride = 3, pad = 1, ceil = true", [2, 3, 6, 5], [4, 3, 3, 3],
     fn=lambda t: F.conv2d(F.pad(t["x"], (1, 1, 1, 2)), t["op.weight"], t["op.bias"], stride=3))
conv("conv2d_ceil_dilation_groups", ", stride = 2, dilation = 2, groups = 2, ceil = true", [2, 4, 8, 7], [6, 2, 3, 2],
     fn=lambda t: F.conv2d(F.pad(t["x"], (0, 1, 0, 1)), t["op.weight"], t["op.bias"], stride=2, dilation=2, groups=2))
conv("conv2d_same_even", ", pad = same", [2, 3, 5, 6], [4, 3, 4, 2], padding="same")
conv("conv2d_same_dilation", ", pad = same, dilation = [2, 3]", [2, 3, 5, 6], [4, 3, 2, 3], padding="same", dilation=(2, 3))
conv("conv2d_1x1_stride_pad", ", stride = 2, pad = 1", [2, 3, 5, 4], [4, 3, 1, 1], stride=2, padding=1)
conv("conv2d_only_pad", ", pad = 3, dilation = 3", [1, 1, 2, 2], [2, 1, 3, 2], padding=3, dilation=3)
conv("conv1d_depthwise", ", groups = 5, pad = 2, dilation = 2", [3, 5, 9], [10, 1, 3], groups=5, padding=2, dilation=2)
conv("conv1d_same_even", ", pad = same", [2, 3, 7], [4, 3, 4], padding="same")
conv("conv1d_one", "", [2, 5, 6], [7, 5, 1])
conv("conv1d_groups_bias", ", groups = 2, stride = 3", [2, 4, 11], [6, 2, 2], groups=2, stride=3)
conv("conv1d_ceil", ", stride = 2, pad = 1, ceil = true", [2, 3, 5], [4, 3, 4],
     fn=lambda t: F.conv1d(F.pad(t["x"], (1, 2)), t["op.weight"], t["op.bias"], stride=2))
conv("conv1d_whole", "", [2, 3, 5], [1, 3, 5])
layer("conv1d_twice", "h = conv1d(x, 6, 3, pad = 1) @op;  s = h + mean(square(h));  return conv1d(relu(s), 2, 1) @out;",
      lambda t: F.conv1d(F.relu((lambda h: h + (h * h).mean())(F.conv1d(t["x"], t["op.weight"], t["op.bias"], padding=1))),
                         t["out.weight"], t["out.bias"]), [2, 3, 7],
      {"op.weight": ([6, 3, 3], -0.5, 0.5), "op.bias": ([6], -0.5, 0.5), "out.weight": ([2, 6, 1], -0.5, 0.5),
       "out.bias": ([2], -0.5, 0.5)})


def up(name, args, x, w, **torch_args):
    n = w[1] * torch_args.get("groups", 1)
    layer(name, f"conv2d_transpose(x, {n}, [{w[2]}, {w[3]}]{args}) @op",
          lambda t: F.conv_transpose2d(t["x"], t["op.weight"], t["op.bias"], **torch_args), x,
          {"op.weight": (w, -0.5, 0.5), "op.bias": ([n], -0.5, 0.5)})


up("transpose_depthwise", ", stride = 2, pad = 1, groups = 4", [2, 4, 3, 5], [4, 1, 3, 4], stride=2, padding=1, groups=4)
up("transpose_depthwise_two", ", stride = [1, 2], groups = 3", [2, 3, 4, 3], [3, 2, 2, 3], stride=(1, 2), groups=3)
up("transpose_output_pad_of_dilation", ", dilation = 3, output_pad = 2", [2, 3, 4, 3], [3, 4, 2, 2], dilation=3, output_padding=2)
up("transpose_stride_over_kernel", ", stride = 4, output_pad = [3, 1]", [2, 3, 3, 2], [3, 2, 2, 3], stride=4, output_padding=(3, 1))
up("transpose_all_pad", ", pad = 2", [2, 3, 4, 4], [3, 2, 3, 3], padding=2)

# ---- pooling: windows that hang over the end, which PyTorch drops when they begin behind the image ----

for h, w, k, s, p in [(5, 4, 2, 3, 1), (4, 7, 3, 3, 1), (1, 3, 3, 2, 1), (7, 8, 3, 4, 1), (9, 5, 4, 4, 2)]:
    tag = f"{h}_{w}_{k}_{s}_{p}"
    args = f"{k}, stride = {s}, pad = {p}"
    layer(f"max_pool2d_{tag}", f"max_pool2d(x, {args})",
          lambda t, a=(k, s, p): F.max_pool2d(t["x"], *a, ceil_mode=True), [2, 3, h, w])
    layer(f"max_pool1d_{tag}", f"max_pool1d(x, {args})", lambda t, a=(k, s, p): F.max_pool1d(t["x"], *a, ceil_mode=True),
          [2, 3, w])
    for count in "false", "true":
        for ceil in "false", "true":
            layer(f"avg_pool2d_{tag}_{count}_{ceil}", f"avg_pool2d(x, {args}, ceil = {ceil}, count_pad = {count})",
                  lambda t, a=(k, s, p), c=count, e=ceil: F.avg_pool2d(t["x"], *a, ceil_mode=e == "true",
                                                                      count_include_pad=c == "true"), [2, 3, h, w])
    layer(f"avg_pool1d_{tag}_count", f"avg_pool1d(x, {args}, count_pad = true)",
          lambda t, a=(k, s, p): F.avg_pool1d(t["x"], *a, ceil_mode=True), [2, 3, w])
layer("global_max_pool_1d", "global_max_pool(x)", lambda t: t["x"].amax(2), [2, 3, 7])
layer("upsample_corners_one_pixel", "upsample(x, [3, 2], mode = bilinear, align_corners = true)",
      lambda t: F.interpolate(t["x"], scale_factor=(3, 2), mode="bilinear", align_corners=True), [2, 3, 1, 1])
layer("upsample_corners_row", "upsample(x, [1, 4], mode = bilinear, align_corners = true)",
      lambda t: F.interpolate(t["x"], scale_factor=(1, 4), mode="bilinear", align_corners=True), [2, 3, 1, 3])
layer("upsample_by_one", "upsample(x, 1, mode = bilinear)", lambda t: t["x"] * 1, [2, 3, 4, 5])
layer("pixel_shuffle_by_one", "pixel_shuffle(x, 1)", lambda t: t["x"] * 1, [2, 3, 4, 5])

# ---- normalisation of sequences ----

affine = {"op.weight": ([6], 0.5, 1.5), "op.bias": ([6], -0.5, 0.5)}
layer("batch_norm_1d", "batch_norm(x) @op",
      lambda t: F.batch_norm(t["x"], t["op.running_mean"], t["op.running_var"], t["op.weight"], t["op.bias"], t["training"]),
      [4, 6, 5], affine, f32=1e-5, state={"op.running_mean": ([6], -0.5, 0.5), "op.running_var": ([6], 0.5, 1.5)})
layer("group_norm_1d", "group_norm(x, 3) @op", lambda t: F.group_norm(t["x"], 3, t["op.weight"], t["op.bias"]), [3, 6, 7], affine,
      f32=1e-5)
layer("instance_norm_1d", "instance_norm(x)", lambda t: F.instance_norm(t["x"]), [3, 6, 7], f32=1e-5)
layer("layer_norm_sequence", "layer_norm(x) @op", lambda t: F.layer_norm(t["x"], (6,), t["op.weight"], t["op.bias"]), [3, 5, 6],
      affine, f32=1e-5)
layer("softmax_of_channels", "softmax(x, axis = 1) + log_softmax(x, axis = -2)",
      lambda t: F.softmax(t["x"], 1) + F.log_softmax(t["x"], -2), [2, 3, 4, 5])
layer("prelu_sequence", "prelu(x, 3) @a", lambda t: F.prelu(t["x"], t["a.weight"]), [2, 3, 7], {"a.weight": ([3], -0.2, 0.4)})

# ---- losses ----

def classes(name, code, fn, z=(6, 5), y=(6,), low=0, weight=True, axis=1, far=4, **more):
    operands = dict(z=("F32", list(z), -far, far), y=("I32", list(y), low, z[axis]))
    if weight:
        operands["w"] = ("F32", [z[axis]], 0.2, 2)
        more["no_grad"] = ("w",)
    case(name, code, fn, **operands, **more)


for reduce in "mean", "sum", "none":
    classes(f"cross_entropy_axis_{reduce}", f"cross_entropy(z, y, w, axis = 2, smoothing = 0.2, ignore_index = 3, reduce = {reduce})",
            lambda t, r=reduce: F.cross_entropy(t["z"].mT, t["y"], t["w"], ignore_index=3, label_smoothing=0.2, reduction=r),
            z=(3, 4, 5), y=(3, 4), axis=2)
    classes(f"cross_entropy_last_{reduce}", f"cross_entropy(z, y, axis = -1, ignore_index = 0, reduce = {reduce})", weight=False,
            fn=lambda t, r=reduce: F.cross_entropy(t["z"].mT, t["y"], ignore_index=0, reduction=r), z=(3, 4, 5), y=(3, 4), axis=2)
    classes(f"nll_axis_{reduce}", f"nll(log_softmax(z, axis = 2), y, w, axis = 2, ignore_index = 1, reduce = {reduce})",
            lambda t, r=reduce: F.nll_loss(F.log_softmax(t["z"].mT, 1), t["y"], t["w"], ignore_index=1, reduction=r), z=(3, 4, 5),
            y=(3, 4), axis=2)
    classes(f"cross_entropy_image_ignored_{reduce}", f"cross_entropy(z, y, smoothing = 0.1, ignore_index = 1, reduce = {reduce})",
            weight=False, z=(2, 3, 4, 5), y=(2, 4, 5),
            fn=lambda t, r=reduce: F.cross_entropy(t["z"], t["y"], ignore_index=1, label_smoothing=0.1, reduction=r))
classes("cross_entropy_all_smoothed", "cross_entropy(z, y, w, smoothing = 1)",
        lambda t: F.cross_entropy(t["z"], t["y"], t["w"], label_smoothing=1.0))
classes("cross_entropy_one_class", "cross_entropy(z, y, smoothing = 0.3)", weight=False, z=(6, 1),
        fn=lambda t: F.cross_entropy(t["z"], t["y"], label_smoothing=0.3))
case("cross_entropy_soft_axis", "cross_entropy(z, y, axis = 2, smoothing = 0.1)",
     lambda t: F.cross_entropy(t["z"].mT, t["y"].mT, label_smoothing=0.1), z=("F32", [3, 4, 5], -4, 4), y=("F32", [3, 4, 5], 0, 0.4),
     no_grad=("y",))
case("cross_entropy_soft_image_weight", "cross_entropy(z, y, w, reduce = sum)",
     lambda t: F.cross_entropy(t["z"], t["y"], t["w"], reduction="sum"), z=("F32", [2, 3, 4, 5], -4, 4),
     y=("F32", [2, 3, 4, 5], 0, 0.6), w=("F32", [3], 0.2, 2), no_grad=("y", "w"))


def binary(name, code, fn, w, x=(-4, 4), y=(0, 1), **more):
    case(name, code, fn, x=("F32", [5, 7], *x), y=("F32", [5, 7], *y), w=("F32", w, 0.3, 3), no_grad=("y", "w"), **more)


for shape in [[1], [5, 1], [5, 7], [1, 7]]:
    tag = "_".join(map(str, shape))
    binary(f"pos_weight_{tag}", "bce_with_logits(x, y, pos_weight = w)", w=shape,
           fn=lambda t: F.binary_cross_entropy_with_logits(t["x"], t["y"], pos_weight=t["w"]))
    binary(f"bce_weight_{tag}", "bce(x, y, w)", w=shape, x=(0.05, 0.95),
           fn=lambda t: F.binary_cross_entropy(t["x"], t["y"], t["w"].expand(5, 7)))
case("pos_weight_number", "bce_with_logits(x, y, pos_weight = 2.5)",
     lambda t: F.binary_cross_entropy_with_logits(t["x"], t["y"], pos_weight=torch.tensor(2.5).double()), x=("F32", [5, 7], -4, 4),
     y=("F32", [5, 7], 0, 1), no_grad=("y",))
case("pos_weight_image", "bce_with_logits(x, y, pos_weight = w)",
     lambda t: F.binary_cross_entropy_with_logits(t["x"], t["y"], pos_weight=t["w"]), x=("F32", [2, 3, 4, 5], -4, 4),
     y=("F32", [2, 3, 4, 5], 0, 1), w=("F32", [3, 1, 1], 0.3, 3), no_grad=("y", "w"))


def focal(t, alpha, gamma):
    p, y = torch.sigmoid(t["x"]), t["y"]
    ce = F.binary_cross_entropy_with_logits(t["x"], y, reduction="none")
    return (alpha * y + (1 - alpha) * (1 - y)) * ce * (1 - (p * y + (1 - p) * (1 - y))) ** gamma


def focal_classes(t, gamma, z, alpha=0.25):
    ce = F.cross_entropy(z, t["y"], reduction="none")
    return alpha * (1 - torch.exp(-ce)) ** gamma * ce


for gamma in 0, 0.5, 1:
    tag = str(gamma).replace(".", "_")
    case(f"focal_gamma_{tag}", f"focal(x, y, gamma = {gamma}, reduce = none)", lambda t, g=gamma: focal(t, 0.25, g),
         x=("F32", [5, 7], -4, 4), y=("F32", [5, 7], 0, 1), no_grad=("y",))
    classes(f"focal_classes_gamma_{tag}", f"focal(z, y, gamma = {gamma}, reduce = none)", weight=False,
            fn=lambda t, g=gamma: focal_classes(t, g, t["z"]))
classes("focal_classes_axis", "focal(z, y, alpha = 1, axis = 2, reduce = sum)", weight=False, z=(3, 4, 5), y=(3, 4), axis=2,
        fn=lambda t: focal_classes(t, 2, t["z"].mT, 1).sum())
classes("focal_classes_image", "focal(z, y)", weight=False, z=(2, 3, 4, 5), y=(2, 4, 5),
        fn=lambda t: focal_classes(t, 2, t["z"]).mean())
classes("focal_classes_sure", "focal(z, y, gamma = 0.5)", weight=False, z=(6, 1), fn=lambda t: 0 * t["z"].sum())


def pair(name, code, fn, lo=-3, hi=3, y=(-2, 2), **more):
    case(name, code, fn, x=("F32", [5, 7], lo, hi), y=("F32", [5, 7], *y), **more)


for reduce in "mean", "sum", "none":
    pair(f"hinge_binary_{reduce}", f"hinge(x, y, margin = 0.5, reduce = {reduce})", no_grad=("y",),
         fn=lambda t, r=reduce: (lambda e: e if r == "none" else getattr(e, r)())(torch.relu(0.5 - t["y"] * t["x"])))
    pair(f"kl_div_log_{reduce}", f"kl_div(x, y, log_target = true, reduce = {reduce})", no_grad=("y",),
         fn=lambda t, r=reduce: F.kl_div(t["x"], t["y"], log_target=True, reduction=r))
pair("smooth_l1_equal", "smooth_l1(x, y) + huber(x, y) + mae(x, y) + mse(x, y)", lo=1, hi=1, y=(1, 1),
     fn=lambda t: F.smooth_l1_loss(t["x"], t["y"]) + F.huber_loss(t["x"], t["y"]) + F.l1_loss(t["x"], t["y"]) +
     F.mse_loss(t["x"], t["y"]))
pair("huber_at_delta", "huber(x, y, delta = 2) + smooth_l1(x, y, beta = 2)", lo=1, hi=1, y=(-1, -1),
     fn=lambda t: F.huber_loss(t["x"], t["y"], delta=2.0) + F.smooth_l1_loss(t["x"], t["y"], beta=2.0))
case("mse_broadcast_weight", "mse(x, y, w)", lambda t: ((t["x"] - t["y"]) ** 2 * t["w"]).sum() / (5 * t["w"].sum()),
     x=("F32", [5, 7], -3, 3), y=("F32", [5, 7], -2, 2), w=("F32", [7], 0, 2), no_grad=("y", "w"))
case("triplet_equal", "triplet(a, b, c)", lambda t: F.triplet_margin_loss(t["a"], t["b"], t["c"]), a=("F32", [4, 6], 1, 1),
     b=("F32", [4, 6], 1, 1), c=("F32", [4, 6], 1, 1))
case("contrastive_equal", "contrastive(a, b, c)",
     lambda t: (lambda d: (0.5 * (t["c"] * d ** 2 + (1 - t["c"]) * torch.relu(1 - d) ** 2)).mean())(
         F.pairwise_distance(t["a"], t["b"])),
     a=("F32", [4, 6], 1, 1), b=("F32", [4, 6], 1, 1), c=("F32", [4], 0, 1), no_grad=("c",))
case("dice_without_smooth", "dice(x, y, smooth = 0, reduce = none) + iou(x, y, smooth = 0, reduce = none)",
     lambda t: (lambda b, s: 2 - 2 * b / s - b / (s - b))((t["x"] * t["y"]).sum(1), (t["x"] + t["y"]).sum(1)),
     x=("F32", [3, 8], 0.1, 1), y=("F32", [3, 8], 0.1, 1), no_grad=("y",))

# ---- recurrent layers without biases, with one unit, one step or no first state ----

def recurrent(name, kind, args, x, n, bias=True, state=(), **torch_args):
    gates = dict(rnn=1, lstm=4, gru=3)[kind] * n
    params = {"op.weight_ih": ([gates, x[2]], -0.6, 0.6), "op.weight_hh": ([gates, n], -0.6, 0.6)}
    if bias:
        params.update({"op.bias_ih": ([gates], -0.3, 0.3), "op.bias_hh": ([gates], -0.3, 0.3)})
    module = dict(rnn=torch.nn.RNN, lstm=torch.nn.LSTM, gru=torch.nn.GRU)[kind]
    net = module(x[2], n, bias=bias, batch_first=True, **torch_args).double()

    def fn(t):
        weights = {k[3:] + "_l0": t[k] for k in params}
        first = tuple(t[k][None] for k in state)
        first = () if not first else (first if kind == "lstm" else first[0],)
        ys, last = torch.func.functional_call(net, weights, (t["x"], *first))
        return (ys, *(v[0] for v in last)) if kind == "lstm" else (ys, last[0])

    out = "ys, y, c" if kind == "lstm" else "ys, y"
    given = "".join(f", {k}" for k in state)
    case(name, f"{out} = {kind}(x{given}, n = {n}{args}{'' if bias else ', bias = false'}) @op;  return {out};", fn,
         x=("F32", x, -1, 1), params=params, f32=5e-6, **{k: ("F32", [x[0], n], -1, 1) for k in state})


recurrent("rnn_relu", "rnn", ", relu = true", [3, 5, 4], 6, nonlinearity="relu")
recurrent("rnn_no_bias", "rnn", "", [3, 5, 4], 6, bias=False, state=("h",))
recurrent("rnn_one", "rnn", "", [1, 1, 1], 1)
recurrent("lstm_no_bias", "lstm", "", [3, 5, 4], 6, bias=False)
recurrent("lstm_one_step", "lstm", "", [3, 1, 4], 5, state=("h", "k"))
recurrent("lstm_one_unit", "lstm", "", [2, 4, 3], 1)
recurrent("gru_no_bias", "gru", "", [3, 5, 4], 6, bias=False)
recurrent("gru_one_step", "gru", "", [3, 1, 4], 5, state=("h",))
recurrent("gru_one_unit", "gru", "", [2, 4, 3], 1)
