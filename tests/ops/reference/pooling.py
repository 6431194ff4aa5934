# SPDX-License-Identifier: MIT
# Pools with every attribute, and larger images; also of one pixel.

def layer(name, code, fn, x, params=None, **more):
    case(name, code, fn, x=("F32", x, -1, 1), params=params or {}, **more)


layer("max_pool2d", "max_pool2d(x, 2)", lambda t: F.max_pool2d(t["x"], 2, ceil_mode=True), [2, 3, 5, 6])
layer("max_pool2d_floor", "max_pool2d(x, [3, 2], stride = 2, ceil = false)",
      lambda t: F.max_pool2d(t["x"], (3, 2), 2), [2, 3, 6, 7])
layer("max_pool2d_everything", "max_pool2d(x, 3, stride = [2, 1], pad = 1, dilation = 2)",
      lambda t: F.max_pool2d(t["x"], 3, (2, 1), 1, 2, ceil_mode=True), [2, 17, 9, 8])
layer("max_pool2d_one_pixel", "max_pool2d(x, 3, stride = 2, pad = 1)",
      lambda t: F.max_pool2d(t["x"], 3, 2, 1, ceil_mode=True), [1, 2, 1, 1])
layer("avg_pool2d", "avg_pool2d(x, 2)", lambda t: F.avg_pool2d(t["x"], 2, ceil_mode=True, count_include_pad=False),
      [2, 3, 5, 6])
layer("avg_pool2d_pad", "avg_pool2d(x, 3, stride = 2, pad = 1)",
      lambda t: F.avg_pool2d(t["x"], 3, 2, 1, ceil_mode=True, count_include_pad=False), [2, 3, 6, 7])
layer("avg_pool2d_count_pad", "avg_pool2d(x, [3, 2], stride = 2, pad = 1, ceil = false, count_pad = true)",
      lambda t: F.avg_pool2d(t["x"], (3, 2), 2, 1), [2, 3, 6, 7])
layer("avg_pool2d_one_pixel", "avg_pool2d(x, 3, stride = 2, pad = 1)",
      lambda t: F.avg_pool2d(t["x"], 3, 2, 1, count_include_pad=False), [1, 2, 1, 1])
layer("max_pool1d", "max_pool1d(x, 3, stride = 2, pad = 1)",
      lambda t: F.max_pool1d(t["x"], 3, 2, 1, ceil_mode=True), [2, 3, 8])
layer("max_pool1d_dilation", "max_pool1d(x, 3, stride = 1, dilation = 2, ceil = false)",
      lambda t: F.max_pool1d(t["x"], 3, 1, 0, 2), [2, 3, 8])
layer("avg_pool1d", "avg_pool1d(x, 3, stride = 2, pad = 1)",
      lambda t: F.avg_pool1d(t["x"], 3, 2, 1, ceil_mode=True, count_include_pad=False), [2, 3, 8])
layer("global_avg_pool", "global_avg_pool(x)", lambda t: t["x"].mean((2, 3)), [2, 17, 3, 5])
layer("global_avg_pool_1d", "global_avg_pool(x)", lambda t: t["x"].mean(2), [2, 3, 7])
layer("global_max_pool", "global_max_pool(x)", lambda t: t["x"].amax((2, 3)), [2, 17, 3, 5])


def fractional(t, size, k):
    half = torch.full((t["x"].shape[0], t["x"].shape[1], 2), 0.5).double()
    return F.fractional_max_pool2d(t["x"], k, output_size=size, _random_samples=half)


layer("fractional_max_pool2d", "y, _i = ops.fractional_max_pool2d(x, size = [6, 7], random = false);  return y;",
      lambda t: fractional(t, (6, 7), 2), [2, 3, 9, 10])
layer("fractional_max_pool2d_k", "y, _i = ops.fractional_max_pool2d(x, size = 5, k = [3, 2], random = false);  return y;",
      lambda t: fractional(t, (5, 5), (3, 2)), [1, 2, 7, 8])



layer("upsample", "upsample(x, 2)", lambda t: F.interpolate(t["x"], scale_factor=2), [2, 3, 4, 5])
layer("upsample_uneven", "upsample(x, [3, 1])", lambda t: F.interpolate(t["x"], scale_factor=(3, 1)), [2, 3, 4, 5])
layer("upsample_bilinear", "upsample(x, [2, 3], mode = bilinear)",
      lambda t: F.interpolate(t["x"], scale_factor=(2, 3), mode="bilinear"), [2, 17, 4, 5])
layer("upsample_corners", "upsample(x, [2, 3], mode = bilinear, align_corners = true)",
      lambda t: F.interpolate(t["x"], scale_factor=(2, 3), mode="bilinear", align_corners=True), [2, 3, 4, 5])
layer("upsample_one_pixel", "upsample(x, 3, mode = bilinear)",
      lambda t: F.interpolate(t["x"], scale_factor=3, mode="bilinear"), [1, 2, 1, 1])
layer("pixel_shuffle", "pixel_shuffle(x, 3)", lambda t: F.pixel_shuffle(t["x"], 3), [2, 18, 2, 3])
