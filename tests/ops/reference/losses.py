# SPDX-License-Identifier: MIT
# Losses: every option, and the extremes (logits of +-1e4, targets of 0 and 1, nothing but ignored targets).

def pair(name, code, fn, no_grad=("y",), lo=-3, hi=3, **more):
    case(name, code, fn, x=("F32", [5, 7], lo, hi), y=("F32", [5, 7], -2, 2), no_grad=no_grad, **more)


for loss, torch_loss, options in [
        ("mse", F.mse_loss, {}), ("mae", F.l1_loss, {}), ("smooth_l1", F.smooth_l1_loss, {}),
        ("smooth_l1", F.smooth_l1_loss, {"beta": 0.3}), ("smooth_l1", F.smooth_l1_loss, {"beta": 0.0}),
        ("huber", F.huber_loss, {}), ("huber", F.huber_loss, {"delta": 0.7})]:
    text = "".join(f", {k} = {v}" for k, v in options.items())
    name = loss + "".join(f"_{k}_{v}".replace(".", "_") for k, v in options.items())
    for reduce in ("mean", "sum", "none"):
        pair(f"{name}_{reduce}", f"{loss}(x, y{text}, reduce = {reduce})", no_grad=(),
             fn=lambda t, f=torch_loss, o=options, r=reduce: f(t["x"], t["y"], reduction=r, **o))
    case(f"{name}_weight", f"{loss}(x, y, w{text})",
         lambda t, f=torch_loss, o=options: (f(t["x"], t["y"], reduction="none", **o) * t["w"]).sum()
         / (t["w"].sum() * 7), x=("F32", [5, 7], -3, 3), y=("F32", [5, 7], -2, 2), w=("F32", [5, 1], 0, 2),
         no_grad=("y", "w"))
case("mse_weight_empty", "mse(x, y, w)", lambda t: 0 * t["x"].sum(), x=("F32", [5, 7], -3, 3),
     y=("F32", [5, 7], -2, 2), w=("F32", [5, 1], 0, 0), no_grad=("y", "w"))


def classes(name, code, fn, shape=(6, 5), low=0, far=4, weight=True, **more):
    operands = dict(z=("F32", list(shape), -far, far), y=("I32", [shape[0], *shape[2:]], low, shape[1]))
    if weight:
        operands["w"] = ("F32", [shape[1]], 0.2, 2)
        more["no_grad"] = ("w",)
    case(name, code, fn, **operands, **more)


for reduce in ("mean", "sum", "none"):
    classes(f"cross_entropy_{reduce}", f"cross_entropy(z, y, reduce = {reduce})", weight=False,
            fn=lambda t, r=reduce: F.cross_entropy(t["z"], t["y"], reduction=r))
    classes(f"cross_entropy_weight_{reduce}",
            f"cross_entropy(z, y, w, smoothing = 0.1, ignore_index = -1, reduce = {reduce})", low=-1,
            fn=lambda t, r=reduce: F.cross_entropy(t["z"], t["y"], t["w"], ignore_index=-1, label_smoothing=0.1,
                                                   reduction=r))
    classes(f"nll_{reduce}", f"nll(log_softmax(z, axis = 1), y, w, ignore_index = -1, reduce = {reduce})", low=-1,
            fn=lambda t, r=reduce: F.nll_loss(F.log_softmax(t["z"], 1), t["y"], t["w"], ignore_index=-1, reduction=r))
classes("cross_entropy_ignored_class", "cross_entropy(z, y, w, ignore_index = 2)",
        lambda t: F.cross_entropy(t["z"], t["y"], t["w"], ignore_index=2))
classes("cross_entropy_smoothing", "cross_entropy(z, y, smoothing = 0.2, ignore_index = 1)", weight=False,
        fn=lambda t: F.cross_entropy(t["z"], t["y"], ignore_index=1, label_smoothing=0.2))
classes("cross_entropy_image", "cross_entropy(z, y, w, smoothing = 0.1)", shape=(2, 3, 4, 5),
        fn=lambda t: F.cross_entropy(t["z"], t["y"], t["w"], label_smoothing=0.1))
classes("nll_image", "nll(log_softmax(z, axis = 1), y)", shape=(2, 3, 4, 5), weight=False,
        fn=lambda t: F.nll_loss(F.log_softmax(t["z"], 1), t["y"]))
classes("cross_entropy_far", "cross_entropy(z, y, reduce = none)", far=1e4, weight=False,
        fn=lambda t: F.cross_entropy(t["z"], t["y"], reduction="none"))
classes("cross_entropy_weight_far", "cross_entropy(z, y, w, reduce = none)", far=1e4,
        fn=lambda t: F.cross_entropy(t["z"], t["y"], t["w"], reduction="none"))
# All targets ignored: 0, where PyTorch divides 0 by 0.
case("cross_entropy_nothing", "cross_entropy(z, y, ignore_index = 1) + cross_entropy(z, y, w, ignore_index = 1) + "
     "nll(z, y, w, ignore_index = 1)", lambda t: 0 * t["z"].sum(), z=("F32", [6, 5], -4, 4), y=("I32", [6], 1, 1),
     w=("F32", [5], 0.2, 2), no_grad=("w",))
for options in ("", ", smoothing = 0.1"):
    eps = 0.1 if options else 0.0
    case("cross_entropy_soft" + ("_smooth" if eps else ""), f"cross_entropy(z, y, w{options})",
         lambda t, e=eps: F.cross_entropy(t["z"], t["y"], t["w"], label_smoothing=e), z=("F32", [6, 5], -4, 4),
         y=("F32", [6, 5], 0, 0.4), w=("F32", [5], 0.2, 2), no_grad=("w", "y"))


def binary(name, code, fn, x=(-4, 4), y=(0, 1), **more):
    case(name, code, fn, x=("F32", [5, 7], *x), y=("F32", [5, 7], *y), w=("F32", [7], 0.3, 3), no_grad=("y", "w"), **more)


for reduce in ("mean", "sum", "none"):
    binary(f"bce_{reduce}", f"bce(x, y, w, reduce = {reduce})", x=(0.02, 0.98),
           fn=lambda t, r=reduce: F.binary_cross_entropy(t["x"], t["y"], t["w"].expand(5, 7), reduction=r))
    binary(f"bce_with_logits_{reduce}", f"bce_with_logits(x, y, w, w, reduce = {reduce})",
           lambda t, r=reduce: F.binary_cross_entropy_with_logits(t["x"], t["y"], t["w"], pos_weight=t["w"], reduction=r))
for x in (0, 1):
    for y in (0, 1):
        binary(f"bce_at_{x}_{y}", "bce(x, y)", lambda t: F.binary_cross_entropy(t["x"], t["y"]), x=(x, x), y=(y, y),
               f64=1e-8)  # the 1e-12 in PyTorch's gradient is a number of single precision
for x in (-1e4, 1e4):
    for y in (0, 1):
        name = f"far_{'minus' if x < 0 else 'plus'}_{y}"
        binary("bce_with_logits_" + name, "bce_with_logits(x, y)", x=(x, x), y=(y, y),
               fn=lambda t: F.binary_cross_entropy_with_logits(t["x"], t["y"]))
        binary("bce_with_pos_weight_" + name, "bce_with_logits(x, y, pos_weight = w)", x=(x, x), y=(y, y),
               fn=lambda t: F.binary_cross_entropy_with_logits(t["x"], t["y"], pos_weight=t["w"]))
        binary("focal_" + name, "focal(x, y)", lambda t: focal(t), x=(x, x), y=(y, y))


def focal(t, alpha=0.25, gamma=2.0):
    """torchvision.ops.sigmoid_focal_loss"""
    p, y = torch.sigmoid(t["x"]), t["y"]
    ce = F.binary_cross_entropy_with_logits(t["x"], y, reduction="none")
    return ((alpha * y + (1 - alpha) * (1 - y)) * ce * (1 - (p * y + (1 - p) * (1 - y))) ** gamma).mean()


binary("focal", "focal(x, y)", lambda t: focal(t))
binary("focal_options", "focal(x, y, alpha = 0.6, gamma = 1.5)", lambda t: focal(t, 0.6, 1.5))


def focal_classes(t, alpha=0.25, gamma=2.0):
    ce = F.cross_entropy(t["z"], t["y"], reduction="none")
    return (alpha * (1 - torch.exp(-ce)) ** gamma * ce).mean()


classes("focal_classes", "focal(z, y)", focal_classes, weight=False)
classes("focal_classes_options", "focal(z, y, alpha = 1, gamma = 3)", lambda t: focal_classes(t, 1, 3), weight=False)
classes("focal_classes_far", "focal(z, y)", focal_classes, weight=False, far=1e4)


def overlap(t, dice, smooth):
    x, y = t["x"].flatten(1), t["y"].flatten(1)
    both, all_ = (x * y).sum(1), x.sum(1) + y.sum(1)
    return (1 - (2 * both + smooth) / (all_ + smooth) if dice else 1 - (both + smooth) / (all_ - both + smooth)).mean()


for name, is_dice in (("dice", True), ("iou", False)):
    for tag, top in (("", 1), ("_empty", 0)):
        case(name + tag, f"{name}(x, y)", lambda t, d=is_dice: overlap(t, d, 1.0), x=("F32", [3, 2, 4, 5], 0, 1),
             y=("F32", [3, 2, 4, 5], 0, top), no_grad=("y",))
    case(name + "_smooth", f"{name}(x, y, smooth = 0.1)", lambda t, d=is_dice: overlap(t, d, 0.1),
         x=("F32", [3, 8], 0, 1), y=("F32", [3, 8], 0, 1), no_grad=("y",))

classes("hinge", "hinge(z, y)", lambda t: F.multi_margin_loss(t["z"], t["y"]), weight=False)
classes("hinge_margin", "hinge(z, y, margin = 0.4, reduce = none)", weight=False,
        fn=lambda t: F.multi_margin_loss(t["z"], t["y"], margin=0.4, reduction="none"))
pair("hinge_binary", "hinge(x, y)", lambda t: torch.relu(1 - t["y"] * t["x"]).mean())
for reduce in ("mean", "sum", "none"):
    binary(f"kl_div_{reduce}", f"kl_div(x, y, reduce = {reduce})", lambda t, r=reduce: F.kl_div(t["x"], t["y"], reduction=r))
binary("kl_div_of_0", "kl_div(x, y)", lambda t: F.kl_div(t["x"], t["y"], reduction="mean"), y=(0, 0))
pair("kl_div_log", "kl_div(x, y, log_target = true)",
     lambda t: F.kl_div(t["x"], t["y"], log_target=True, reduction="mean"))
pair("kl_normal", "kl_normal(x, y)", no_grad=(), fn=lambda t: torch.distributions.kl_divergence(
    torch.distributions.Normal(t["x"], torch.exp(0.5 * t["y"])),
    torch.distributions.Normal(torch.zeros(5, 7), torch.ones(5, 7))).sum(1).mean())


def vectors(name, code, fn, third=("F32", [6, 9], -1, 1), **more):
    case(name, code, fn, a=("F32", [6, 9], -1, 1), b=("F32", [6, 9], -1, 1), c=third, **more)


def contrastive(t, margin):
    d = F.pairwise_distance(t["a"], t["b"])
    return (0.5 * (t["c"] * d ** 2 + (1 - t["c"]) * torch.relu(margin - d) ** 2)).mean()


vectors("contrastive", "contrastive(a, b, c)", lambda t: contrastive(t, 1.0), third=("F32", [6], 0, 1), no_grad=("c",))
vectors("contrastive_margin", "contrastive(a, b, c, margin = 3)", lambda t: contrastive(t, 3.0), third=("F32", [6], 0, 1),
        no_grad=("c",))
for reduce in ("mean", "sum", "none"):
    vectors(f"triplet_{reduce}", f"triplet(a, b, c, margin = 0.7, reduce = {reduce})",
            lambda t, r=reduce: F.triplet_margin_loss(t["a"], t["b"], t["c"], margin=0.7, reduction=r))
case("cosine_similarity", "cosine_similarity(a, b)", lambda t: F.cosine_similarity(t["a"], t["b"]),
     a=("F32", [3, 4, 5], -1, 1), b=("F32", [3, 4, 5], -1, 1))
case("cosine_similarity_of_0", "cosine_similarity(a, b)", lambda t: 0 * t["b"].sum(1), a=("F32", [3, 4], 0, 0),
     b=("F32", [3, 4], -1, 1), no_grad=("a",))
vectors("cosine_embedding", "cosine_embedding(a, b, c, margin = 0.1)",
        lambda t: F.cosine_embedding_loss(t["a"], t["b"], torch.sign(t["c"]), margin=0.1), third=("F32", [6], -1, 1),
        no_grad=("c",))
