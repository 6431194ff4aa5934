# SPDX-License-Identifier: MIT
# Convolutions with every attribute, and at edge shapes: one pixel, one sample, windows wider than the image.

def layer(name, code, fn, x, params=None, **more):
    case(name, code, fn, x=("F32", x, -1, 1), params=params or {}, **more)


def conv(name, args, x, w, bias=True, fn=None, **torch_args):
    params = {"op.weight": (w, -0.5, 0.5)}
    if bias:
        params["op.bias"] = ([w[0]], -0.5, 0.5)
    else:
        args += ", bias = false"
    k = f"[{w[2]}, {w[3]}]"
    layer(name, f"conv2d(x, {w[0]}, {k}{args}) @op",
          fn or (lambda t: F.conv2d(t["x"], t["op.weight"], t.get("op.bias"), **torch_args)), x, params)


conv("conv2d", "", [2, 3, 8, 7], [4, 3, 3, 3])
conv("conv2d_no_bias", "", [2, 3, 8, 7], [5, 3, 2, 3], bias=False)
conv("conv2d_stride", ", stride = [2, 3]", [2, 3, 9, 8], [4, 3, 3, 2], stride=(2, 3))
conv("conv2d_pad", ", pad = [2, 1]", [2, 3, 5, 6], [4, 3, 3, 3], padding=(2, 1))
conv("conv2d_pad_uneven", ", pad = [0, 2, 1, 1]", [2, 3, 5, 6], [4, 3, 3, 3],
     fn=lambda t: F.conv2d(F.pad(t["x"], (2, 1, 0, 1)), t["op.weight"], t["op.bias"]))
conv("conv2d_same", ", pad = same", [2, 3, 5, 6], [4, 3, 3, 5], padding="same")
conv("conv2d_dilation", ", dilation = [2, 3], pad = 2", [2, 3, 9, 9], [4, 3, 3, 2], dilation=(2, 3), padding=2)
conv("conv2d_groups", ", groups = 2", [2, 6, 6, 5], [8, 3, 3, 3], groups=2)
conv("conv2d_depthwise", ", groups = 17, pad = 1", [2, 17, 5, 5], [17, 1, 3, 3], groups=17, padding=1)
conv("conv2d_depthwise_two", ", groups = 3, stride = 2, pad = 1", [2, 3, 7, 6], [6, 1, 3, 3], groups=3, stride=2,
     padding=1)
conv("conv2d_everything", ", stride = 2, pad = [2, 3], dilation = 2, groups = 3", [2, 6, 11, 10], [9, 2, 3, 4],
     stride=2, padding=(2, 3), dilation=2, groups=3)
conv("conv2d_ceil", ", stride = 2, ceil = true", [2, 3, 6, 8], [4, 3, 3, 3],
     fn=lambda t: F.conv2d(F.pad(t["x"], (0, 1, 0, 1)), t["op.weight"], t["op.bias"], stride=2))
conv("conv2d_1x1", "", [2, 5, 4, 3], [7, 5, 1, 1])
conv("conv2d_one_pixel", ", pad = 1", [3, 4, 1, 1], [5, 4, 3, 3], padding=1)
conv("conv2d_narrow", ", pad = 2", [2, 3, 2, 3], [4, 3, 5, 5], padding=2)
conv("conv2d_one_sample", ", pad = 1", [1, 1, 4, 4], [1, 1, 3, 3], padding=1)
conv("conv2d_whole_image", "", [2, 3, 4, 5], [6, 3, 4, 5])


def kernel_mask(r, s, more):
    m = torch.zeros(r * s).double()
    m[:r // 2 * s + s // 2 + more] = 1
    return m.view(r, s)


conv("conv2d_mask_a", ", pad = same, mask = A", [2, 1, 6, 5], [4, 1, 5, 5],
     fn=lambda t: F.conv2d(t["x"], t["op.weight"] * kernel_mask(5, 5, 0), t["op.bias"], padding="same"))
conv("conv2d_mask_b", ", pad = 1, mask = B, groups = 2", [2, 4, 6, 5], [4, 2, 3, 3],
     fn=lambda t: F.conv2d(t["x"], t["op.weight"] * kernel_mask(3, 3, 1), t["op.bias"], padding=1, groups=2))


def color_mask(o, i, r, s, colors, more):
    """[o, i, r, s]: the middle tap sees the colours before its own, with `more` its own too."""
    m = kernel_mask(r, s, 0).expand(o, i, r, s).clone()
    own, other = torch.arange(o) * colors // o, torch.arange(i) * colors // i
    m[:, :, r // 2, s // 2] = (other[None] < own[:, None] + more).double()
    return m


for kind, more in (("A", 0), ("B", 1)):
    conv(f"conv2d_mask_colors_{kind.lower()}", f", pad = same, mask = {kind}, colors = 3", [2, 3 + 3 * more, 6, 5],
         [6, 3 + 3 * more, 3, 3], fn=lambda t, b=more: F.conv2d(
             t["x"], t["op.weight"] * color_mask(6, 3 + 3 * b, 3, 3, 3, b), t["op.bias"], padding="same"))


def conv1(name, args, x, w, bias=True, **torch_args):
    params = {"op.weight": (w, -0.5, 0.5)}
    if bias:
        params["op.bias"] = ([w[0]], -0.5, 0.5)
    layer(name, f"conv1d(x, {w[0]}, {w[2]}{args}{'' if bias else ', bias = false'}) @op",
          lambda t: F.conv1d(t["x"], t["op.weight"], t.get("op.bias"), **torch_args), x, params)


conv1("conv1d", "", [2, 3, 8], [4, 3, 3])
conv1("conv1d_pad", ", pad = 2", [2, 3, 2], [4, 3, 5], padding=2)
conv1("conv1d_same", ", pad = same", [2, 3, 7], [4, 3, 5], padding="same")
conv1("conv1d_everything", ", stride = 2, pad = 3, dilation = 2, groups = 2", [3, 4, 11], [6, 2, 3], bias=False,
      stride=2, padding=3, dilation=2, groups=2)


def up(name, args, x, w, bias=True, **torch_args):
    params = {"op.weight": (w, -0.5, 0.5)}
    n = w[1] * torch_args.get("groups", 1)
    if bias:
        params["op.bias"] = ([n], -0.5, 0.5)
    layer(name, f"conv2d_transpose(x, {n}, [{w[2]}, {w[3]}]{args}{'' if bias else ', bias = false'}) @op",
          lambda t: F.conv_transpose2d(t["x"], t["op.weight"], t.get("op.bias"), **torch_args), x, params)


up("conv2d_transpose", "", [2, 3, 4, 5], [3, 4, 3, 3])
up("conv2d_transpose_stride", ", stride = [2, 3], bias = true", [2, 3, 4, 3], [3, 4, 3, 2], stride=(2, 3))
up("conv2d_transpose_output_pad", ", stride = 2, pad = 1, output_pad = 1", [2, 3, 4, 5], [3, 4, 3, 3], stride=2,
   padding=1, output_padding=1)
up("conv2d_transpose_everything", ", stride = 2, pad = [1, 2], output_pad = [1, 0], dilation = 2, groups = 2",
   [2, 4, 4, 5], [4, 3, 3, 3], bias=False, stride=2, padding=(1, 2), output_padding=(1, 0), dilation=2, groups=2)
up("conv2d_transpose_one_pixel", ", stride = 2", [1, 2, 1, 1], [2, 3, 4, 4], stride=2)


def local(x, w, bias, stride, pad):
    oh, ow, r, s, c, o = w.shape
    u = F.unfold(F.pad(x, (pad[1], pad[3], pad[0], pad[2])), (r, s), stride=stride).view(len(x), c, r, s, oh, ow)
    y = torch.einsum("ncrsij,ijrsco->noij", u, w)
    return y if bias is None else y + bias


layer("local", "locally_connected2d(x, 5, 3) @op",
      lambda t: local(t["x"], t["op.weight"], t["op.bias"], 1, (0, 0, 0, 0)), [2, 3, 5, 6],
      {"op.weight": ([3, 4, 3, 3, 3, 5], -0.5, 0.5), "op.bias": ([5, 3, 4], -0.5, 0.5)})
layer("local_everything", "locally_connected2d(x, 17, [2, 3], stride = [2, 1], pad = [1, 0, 1, 1], bias = false) @op",
      lambda t: local(t["x"], t["op.weight"], None, (2, 1), (1, 0, 1, 1)), [3, 2, 4, 5],
      {"op.weight": ([3, 4, 2, 3, 2, 17], -0.5, 0.5)})
layer("local_one_pixel", "locally_connected2d(x, 1, 3, pad = 1) @op",
      lambda t: local(t["x"], t["op.weight"], t["op.bias"], 1, (1, 1, 1, 1)), [1, 2, 1, 1],
      {"op.weight": ([1, 1, 3, 3, 2, 1], -0.5, 0.5), "op.bias": ([1, 1, 1], -0.5, 0.5)})
