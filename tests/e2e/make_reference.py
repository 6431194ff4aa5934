#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reference numbers from PyTorch for the models of tests/e2e/models.

    pip install torch==2.13.0 safetensors numpy
    python3 tests/e2e/make_reference.py [OUTPUT_DIRECTORY]

For each model it writes two small files: NAME.spec lists the inputs, weights and states with the
ranges they are drawn from (tests/e2e/fill.c draws the same numbers from the same formula), and
NAME.safetensors holds what PyTorch computes from them in double precision: outputs, losses, gradients, and
weights after 1, 10 and 100 steps. Tensors of more than FULL elements are stored as a sketch: their norm and
64 projections onto random signs, from which the relative error of another tensor can be estimated.
"""
import math
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

FULL = 1024
RESNET_SEED = 51
RESNET_MARGIN = 1.5e-6
M64 = (1 << 64) - 1
torch.set_num_threads(2)
torch.set_default_dtype(torch.float64)  # NAdam keeps the product of its momenta in this type


# ---- numbers from a formula (the same as in fill.c) ----

def mix(z):
    """splitmix64's finaliser, on an array of uint64."""
    with np.errstate(over="ignore"):
        z = (z + np.uint64(0x9E3779B97F4A7C15))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def name_hash(name):
    h = 0xCBF29CE484222325
    for c in name.encode():
        h = ((h ^ c) * 0x100000001B3) & M64
    return h


def draw(seed, name, dtype, shape, lo, hi):
    n = int(np.prod(shape))
    with np.errstate(over="ignore"):
        index = np.arange(n, dtype=np.uint64) + np.uint64(name_hash(f"{seed}/{name}"))
    u = (mix(index) >> np.uint64(40)).astype(np.float64) * 2.0 ** -24
    x = lo + (hi - lo) * u
    if dtype == "I32":
        return np.floor(x).astype(np.int32).reshape(shape)
    return x.astype(np.float32).reshape(shape)


def sketch(x):
    """Norm, then 64 projections: bit k of mix(i) is the sign of element i in projection k."""
    x = x.reshape(-1).astype(np.float64)
    bits = mix(np.arange(x.size, dtype=np.uint64))
    out = [np.linalg.norm(x)]
    for k in range(64):
        sign = 1.0 - 2.0 * ((bits >> np.uint64(k)) & np.uint64(1)).astype(np.float64)
        out.append(float(np.sum(sign * x)))
    return np.array(out)


class Reference:
    """Collects the specification of a model's inputs and the results computed from them."""

    def __init__(self, name, seed=1):
        self.name, self.seed, self.spec = name, seed, [f"seed {seed}"]
        self.data, self.results = {}, {}
        self.params, self.state = [], []

    def add(self, name, dtype, shape, lo, hi):
        self.spec.append(f"{name} {dtype} {','.join(map(str, shape))} {lo!r} {hi!r}")
        self.data[name] = draw(self.seed, name, dtype, shape, lo, hi)

    def param(self, name, shape, lo, hi):
        self.params.append(name)
        self.add(name, "F32", shape, lo, hi)

    def buffer(self, name, shape, lo, hi):
        self.state.append(name)
        self.add(name, "F32", shape, lo, hi)

    def conv(self, name, o, i, k, bias=True):
        r = math.sqrt(6.0 / (i * k * k))
        self.param(f"{name}.weight", [o, i, k, k], -r, r)
        if bias:
            self.param(f"{name}.bias", [o], -0.1, 0.1)

    def dense(self, name, o, i):
        r = math.sqrt(3.0 / i)
        self.param(f"{name}.weight", [o, i], -r, r)
        self.param(f"{name}.bias", [o], -0.1, 0.1)

    def norm(self, name, c):
        self.param(f"{name}.weight", [c], 0.5, 1.5)
        self.param(f"{name}.bias", [c], -0.2, 0.2)
        self.buffer(f"{name}.running_mean", [c], -0.1, 0.1)
        self.buffer(f"{name}.running_var", [c], 0.5, 1.5)

    def tensors(self, dtype):
        """A fresh set of leaf tensors."""
        out = {}
        for k, v in self.data.items():
            t = torch.tensor(v)
            out[k] = t.long() if v.dtype == np.int32 else t.to(dtype)
        for k in self.params:
            out[k].requires_grad_(True)
        return out

    def put(self, name, t):
        x = t.detach().to(torch.float64).numpy()
        if x.size > FULL:
            self.results[name + "#sketch"] = sketch(x)
        else:
            self.results[name] = np.array(x, order="C")  # a copy: x may share memory with a weight that goes on changing

    def train(self, prefix, loss_of, optimizer, marks=(1, 10, 100), steps=100, schedule=None,
              before_step=None, gradients=True, dtype=torch.float64):
        """Runs the training step; stores loss, gradients of the first step and weights at the marks."""
        t = self.tensors(dtype)
        weights = [t[k] for k in self.params]
        opt = optimizer(weights)
        for step in range(1, steps + 1):
            if schedule:
                for group in opt.param_groups:
                    group["lr"] = schedule(step - 1)
            opt.zero_grad()
            loss, extra = loss_of(t)
            loss.backward()
            if step == 1:
                self.put(prefix + "loss", loss)
                for k, v in extra.items():
                    self.put(prefix + k, v)
                if gradients:
                    for k in self.params:
                        self.put(prefix + "grad." + k, t[k].grad)
            if before_step:
                before_step(weights)
            opt.step()
            if step in marks:
                for k in self.params + self.state:
                    self.put(f"{prefix}w{step}.{k}", t[k])
        return t

    def write(self, where):
        with open(os.path.join(where, self.name + ".spec"), "w") as f:
            f.write("\n".join(self.spec) + "\n")
        path = os.path.join(where, self.name + ".safetensors")
        save_file(self.results, path)
        print(f"{path}: {os.path.getsize(path)} bytes, {len(self.results)} tensors")


# ---- the models ----

def accuracy(z, y):
    return (z.argmax(1) == y).double().mean()


def lenet():
    r = Reference("lenet")
    r.add("x", "F32", [8, 1, 28, 28], 0.0, 1.0)
    r.add("y", "I32", [8], 0, 10)
    r.conv("net.c1", 6, 1, 5)
    r.conv("net.c2", 16, 6, 5)
    r.dense("net.f1", 120, 400)
    r.dense("net.f2", 84, 120)
    r.dense("net.f3", 10, 84)

    def forward(t):
        h = F.max_pool2d(F.relu(F.conv2d(t["x"], t["net.c1.weight"], t["net.c1.bias"], padding=2)), 2)
        h = F.max_pool2d(F.relu(F.conv2d(h, t["net.c2.weight"], t["net.c2.bias"])), 2).flatten(1)
        h = F.relu(F.linear(h, t["net.f1.weight"], t["net.f1.bias"]))
        h = F.relu(F.linear(h, t["net.f2.weight"], t["net.f2.bias"]))
        return F.linear(h, t["net.f3.weight"], t["net.f3.bias"])

    def loss_of(t):
        z = forward(t)
        return F.cross_entropy(z, t["y"]), {"acc": accuracy(z, t["y"])}

    z = forward(r.tensors(torch.float64))
    r.put("predict.z", z)
    r.put("predict.p", F.softmax(z, 1))
    r.train("train.", loss_of, lambda w: torch.optim.SGD(w, lr=0.05, momentum=0.9))
    return r, forward, loss_of, lambda w: torch.optim.SGD(w, lr=0.05, momentum=0.9)


def resnet20(seed=RESNET_SEED, margin=None):
    """A relu whose operand lies within rounding error of zero may pass in one correct program and not in
    another, and one such flip moves the gradients by 1e-4. The seed is one for which no operand of the
    first ten steps lies within RESNET_MARGIN of zero (search_resnet_seed found it)."""
    r = Reference("resnet20", seed)
    r.add("x", "F32", [2, 3, 32, 32], -1.0, 1.0)
    r.add("y", "I32", [2], 0, 10)

    def relu(x):
        if margin is not None:
            margin.append(float(x.detach().abs().min()))
        return F.relu(x)

    def conv_bn(name, o, i, k):
        r.conv(name + ".conv", o, i, k, bias=False)
        r.norm(name + ".bn", o)

    conv_bn("net.stem", 16, 3, 3)
    blocks, c_in = [], 16
    for i in range(3):
        for j in range(3):
            c, s = 16 * 2 ** i, 2 if i > 0 and j == 0 else 1
            name = f"net.stage[{i}][{j}]"
            proj = s != 1 or c_in != c
            conv_bn(name + ".a", c, c_in, 3)
            conv_bn(name + ".b", c, c, 3)
            if proj:
                conv_bn(name + ".proj", c, c_in, 1)
            blocks.append((name, s, proj))
            c_in = c
    r.dense("net.head", 10, 64)

    def forward(t, training):
        def cb(x, name, s=1):
            w = t[name + ".conv.weight"]
            k = w.shape[2]
            # "same" with an even stride and an odd image size pads more at the end.
            total = max((math.ceil(x.shape[2] / s) - 1) * s + k - x.shape[2], 0)
            lo, hi = total // 2, total - total // 2
            x = F.conv2d(F.pad(x, (lo, hi, lo, hi)), w, stride=s)
            return F.batch_norm(x, t[name + ".bn.running_mean"], t[name + ".bn.running_var"],
                                t[name + ".bn.weight"], t[name + ".bn.bias"], training, 0.1, 1e-5)

        x = relu(cb(t["x"], "net.stem"))
        for name, s, proj in blocks:
            h = cb(relu(cb(x, name + ".a", s)), name + ".b")
            if proj:
                x = cb(x, name + ".proj", s)
            x = relu(h + x)
        return F.linear(x.mean((2, 3)), t["net.head.weight"], t["net.head.bias"])

    def loss_of(t):
        z = forward(t, True)
        return F.cross_entropy(z, t["y"], label_smoothing=0.1), {"top1": accuracy(z, t["y"])}

    sgd = lambda w: torch.optim.SGD(w, lr=1e-3, momentum=0.9, nesterov=True)
    if margin is not None:
        t = r.tensors(torch.float64)
        opt = sgd([t[k] for k in r.params])
        for _ in range(10):
            opt.zero_grad()
            loss = loss_of(t)[0]
            if min(margin) <= RESNET_MARGIN:
                break
            loss.backward()
            opt.step()
        return r, None, None, None
    r.put("predict.z", forward(r.tensors(torch.float64), False))
    r.train("train.", loss_of, sgd)
    return r, lambda t: forward(t, False), loss_of, sgd


def search_resnet_seed():
    for seed in range(int(sys.argv[2]), int(sys.argv[3])):
        margin = []
        resnet20(seed, margin)
        if min(margin) > RESNET_MARGIN:
            print(seed, min(margin), flush=True)


def vae():
    r = Reference("vae")
    r.add("x", "F32", [16, 784], 0.0, 1.0)
    r.add("eps", "F32", [16, 20], -2.0, 2.0)
    r.add("z", "F32", [16, 20], -2.0, 2.0)
    r.dense("enc.fc", 400, 784)
    r.dense("enc.mu", 20, 400)
    r.dense("enc.logvar", 20, 400)
    r.dense("dec.fc1", 400, 20)
    r.dense("dec.fc2", 784, 400)

    def lin(t, x, name):
        return F.linear(x, t[name + ".weight"], t[name + ".bias"])

    def encode(t):
        h = F.relu(lin(t, t["x"], "enc.fc"))
        return lin(t, h, "enc.mu"), lin(t, h, "enc.logvar")

    def decode(t, z):
        return lin(t, F.relu(lin(t, z, "dec.fc1")), "dec.fc2")

    def loss_of(t):
        mu, lv = encode(t)
        z = mu + torch.exp(0.5 * lv) * t["eps"]
        rec = F.binary_cross_entropy_with_logits(decode(t, z), t["x"], reduction="none").sum(1).mean()
        kl = -0.5 * (1 + lv - mu ** 2 - lv.exp()).sum(1).mean()
        return rec + kl, {"rec": rec, "kl": kl}

    t = r.tensors(torch.float64)
    mu, lv = encode(t)
    r.put("encode.mu", mu)
    r.put("encode.lv", lv)
    r.put("sample.img", torch.sigmoid(decode(t, t["z"])))
    opt = lambda w: torch.optim.Adam(w, lr=1e-3)
    r.train("train.", loss_of, opt)
    return r, lambda t: encode(t)[0], loss_of, opt


def recurrent():
    r = Reference("recurrent")
    r.add("x", "F32", [3, 7, 5], -1.0, 1.0)
    r.add("h", "F32", [3, 8], -1.0, 1.0)
    r.add("c", "F32", [3, 8], -1.0, 1.0)
    r.add("y", "F32", [3, 7, 4], -1.0, 1.0)
    layers = {"lstm": (4, 8, 5), "gru": (3, 8, 8), "rnn": (1, 4, 8)}  # gates, units, inputs
    for name, (gates, n, m) in layers.items():
        for kind, columns in ("ih", m), ("hh", n):
            r.param(f"net.{name}.weight_{kind}", [gates * n, columns], -0.5, 0.5)
        for kind in "ih", "hh":
            r.param(f"net.{name}.bias_{kind}", [gates * n], -0.2, 0.2)

    def run(f, t, name, x, state):
        w = [t[f"net.{name}.{k}"] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        return f(x, state, w, True, 1, 0.0, False, False, True)

    def net(t):
        a, h, c = run(torch.lstm, t, "lstm", t["x"], (t["h"][None], t["c"][None]))
        b, k = run(torch.gru, t, "gru", a, h)
        z, _ = run(torch.rnn_tanh, t, "rnn", b, torch.zeros(1, 3, 4, dtype=b.dtype))
        return z, c[0], k[0]

    def loss_of(t):
        z, c, k = net(t)
        return F.mse_loss(z, t["y"]) + 0.1 * (c * k).mean(), {}

    z, c, k = net(r.tensors(torch.float64))
    r.put("predict.z", z)
    r.put("predict.cell", c)
    r.put("predict.k", k)
    opt = lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.9)
    r.train("train.", loss_of, opt)
    return r, lambda t: net(t)[0], loss_of, opt


class Lion(torch.optim.Optimizer):
    """Chen et al., Symbolic Discovery of Optimization Algorithms, 2023, algorithm 2."""

    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for w in group["params"]:
                m = self.state.setdefault(w, {"m": torch.zeros_like(w)})["m"]
                c = b1 * m + (1 - b1) * w.grad
                w -= group["lr"] * (c.sign() + group["weight_decay"] * w)
                m.mul_(b2).add_(w.grad, alpha=1 - b2)


def optimizer_cases():
    def cosine(step, base=0.2, steps=80, warmup=10):
        """Half a cosine over all steps; the warm-up scales its first values."""
        return base * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps)) * min(1.0, (step + 1) / warmup)

    def warm_exponential(step):
        return 0.02 * 0.9 ** (step / 5) * min(1.0, (step + 1) / 8)

    def restarts(step, base=0.01, low=0.001):
        """Periods of 10, 20 and 40 updates."""
        period = 10
        while step >= period:
            step, period = step - period, period * 2
        return low + (base - low) * 0.5 * (1 + math.cos(math.pi * step / period))

    cycle_opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
    plan, cycle = torch.optim.lr_scheduler.OneCycleLR(cycle_opt, 0.2, total_steps=101, cycle_momentum=False), []
    for _ in range(100):
        cycle.append(plan.get_last_lr()[0])
        cycle_opt.step()
        plan.step()

    def scaled(w, lr=0.1):
        """The first layer learns at a tenth of the rate, its bias at half of it."""
        return [dict(params=[w[0]], lr=lr * 0.1), dict(params=[w[1]], lr=lr * 0.5), dict(params=w[2:])]

    def some(w):
        return [p for i, p in enumerate(w) if i != 1]

    o = torch.optim
    clip = torch.nn.utils
    return {
        "sgd": dict(optimizer=lambda w: o.SGD(w, lr=0.1)),
        "sgd_decay": dict(optimizer=lambda w: o.SGD(w, lr=0.1, momentum=0.9, weight_decay=0.01)),
        "momentum": dict(optimizer=lambda w: o.SGD(w, lr=0.05, momentum=0.9)),
        "nesterov": dict(optimizer=lambda w: o.SGD(w, lr=0.05, momentum=0.9, nesterov=True)),
        "clip": dict(optimizer=lambda w: o.SGD(w, lr=0.5), before_step=lambda w: clip.clip_grad_norm_(w, 0.25)),
        "clip_value": dict(optimizer=lambda w: o.SGD(w, lr=0.5), before_step=lambda w: clip.clip_grad_value_(w, 0.01)),
        "adam": dict(optimizer=lambda w: o.Adam(w, lr=0.01)),
        "adam_decay": dict(optimizer=lambda w: o.Adam(w, lr=0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.05)),
        "adamw": dict(optimizer=lambda w: o.AdamW(w, lr=0.01, weight_decay=0.1)),
        "amsgrad": dict(optimizer=lambda w: o.Adam(w, lr=0.01, betas=(0.7, 0.8), weight_decay=0.02, amsgrad=True)),
        "nadam": dict(optimizer=lambda w: o.NAdam(w, lr=0.01)),
        "nadam_decay": dict(optimizer=lambda w: o.NAdam(w, lr=0.005, betas=(0.8, 0.99), eps=1e-3, momentum_decay=0.02,
                                                        weight_decay=0.01)),
        "adagrad": dict(optimizer=lambda w: o.Adagrad(w, lr=0.05)),
        "adagrad_decay": dict(optimizer=lambda w: o.Adagrad(w, lr=0.05, weight_decay=0.05, eps=1e-6)),
        "adadelta": dict(optimizer=lambda w: o.Adadelta(w)),
        "adadelta_decay": dict(optimizer=lambda w: o.Adadelta(w, lr=0.5, rho=0.8, eps=1e-4, weight_decay=0.05)),
        "rmsprop": dict(optimizer=lambda w: o.RMSprop(w, lr=0.01)),
        "rmsprop_all": dict(optimizer=lambda w: o.RMSprop(w, lr=0.01, alpha=0.9, eps=1e-4, momentum=0.8,
                                                          weight_decay=0.02, centered=True)),
        "lion": dict(optimizer=lambda w: Lion(w, lr=0.003)),
        "lion_decay": dict(optimizer=lambda w: Lion(w, lr=0.003, betas=(0.8, 0.95), weight_decay=0.1)),
        "scaled": dict(optimizer=lambda w: o.SGD(scaled(w), lr=0.1)),
        "frozen": dict(optimizer=lambda w: o.Adam(some(w), lr=0.01)),
        "step_lr": dict(optimizer=lambda w: o.SGD(w, lr=0.2), schedule=lambda s: 0.2 * 0.5 ** (s // 7)),
        "cosine_lr": dict(optimizer=lambda w: o.SGD(w, lr=0.2), schedule=cosine),
        "sgd_all": dict(optimizer=lambda w: o.SGD(w, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
                        before_step=lambda w: clip.clip_grad_norm_(w, 0.2)),
        "adam_clip": dict(optimizer=lambda w: o.Adam(w, lr=0.02, weight_decay=0.05), schedule=warm_exponential,
                          before_step=lambda w: clip.clip_grad_value_(w, 0.01)),
        "adamw_scaled": dict(optimizer=lambda w: o.AdamW(scaled(w, 0.01), lr=0.01, weight_decay=0.1),
                             before_step=lambda w: clip.clip_grad_norm_(w, 0.1)),
        "lion_scaled": dict(optimizer=lambda w: Lion(scaled(w, 0.003), lr=0.003, weight_decay=0.1)),
        "rmsprop_frozen": dict(optimizer=lambda w: o.RMSprop(some(w), lr=0.01, momentum=0.5, centered=True),
                               before_step=lambda w: clip.clip_grad_norm_(some(w), 0.1)),
        "restarts_lr": dict(optimizer=lambda w: o.NAdam(w, lr=0.01), schedule=restarts),
        "one_cycle_lr": dict(optimizer=lambda w: o.SGD(w, lr=0.2, momentum=0.5), schedule=lambda s: cycle[s]),
    }


def optimizers():
    r = Reference("optimizers")
    r.add("x", "F32", [16, 12], -1.0, 1.0)
    r.add("y", "I32", [16], 0, 4)
    r.dense("net.a", 16, 12)
    r.dense("net.b", 4, 16)

    def forward(t):
        h = torch.tanh(F.linear(t["x"], t["net.a.weight"], t["net.a.bias"]))
        return F.linear(h, t["net.b.weight"], t["net.b.bias"])

    def loss_of(t):
        return F.cross_entropy(forward(t), t["y"]), {}

    cases = optimizer_cases()
    for name, how in cases.items():
        r.train(name + ".", loss_of, marks=(10, 100), gradients=name == "sgd", **how)
    return r, forward, loss_of, cases["sgd"]["optimizer"]


def optimizers_conv():
    """The same optimizers on weights in another storage order: a small convolution with mean squared error."""
    r = Reference("optimizers_conv")
    r.add("x", "F32", [4, 2, 6, 6], -1.0, 1.0)
    r.add("y", "F32", [4, 3], -1.0, 1.0)
    r.conv("net.a", 5, 2, 3)
    r.dense("net.b", 3, 5)

    def forward(t):
        h = F.silu(F.conv2d(t["x"], t["net.a.weight"], t["net.a.bias"])).mean((2, 3))
        return F.linear(h, t["net.b.weight"], t["net.b.bias"])

    def loss_of(t):
        return F.mse_loss(forward(t), t["y"]), {}

    cases = optimizer_cases()
    for name, how in cases.items():
        r.train(name + ".", loss_of, marks=(10, 100), gradients=name == "sgd", **how)
    return r, forward, loss_of, cases["sgd"]["optimizer"]


def single_precision_error(r, forward, loss_of, optimizer):
    """How far PyTorch's own f32 lies from its f64: what the fixtures can ask of anyone."""
    out = {}
    for dtype in (torch.float64, torch.float32):
        t = r.tensors(dtype)
        z = forward(t)
        weights = [t[k] for k in r.params]
        opt = optimizer(weights)
        grads = None
        for _ in range(10):
            opt.zero_grad()
            loss_of(t)[0].backward()
            grads = grads or [w.grad.clone() for w in weights]
            opt.step()
        out[dtype] = [z.detach()], grads, [w.detach() for w in weights]
    names = "outputs", "gradients", "weights after 10 steps"
    for what, a, b in zip(names, out[torch.float64], out[torch.float32]):
        worst = max(float((x - y.double()).norm() / x.norm()) for x, y in zip(a, b))
        print(f"  {r.name}: f32 against f64, {what}: worst tensor {worst:.1e}")


def main():
    if sys.argv[1:2] == ["--search-resnet-seed"]:  # FROM TO
        return search_resnet_seed()
    where = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "ref")
    os.makedirs(where, exist_ok=True)
    for build in (lenet, resnet20, vae, recurrent, optimizers, optimizers_conv):
        r, forward, loss_of, optimizer = build()
        r.write(where)
        single_precision_error(r, forward, loss_of, optimizer)


if __name__ == "__main__":
    main()
