#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The benchmark's models in PyTorch: torch_peer.py MODEL MODE BATCH THREADS WARMUP STEPS WEIGHTS PEER

MODE is train or predict, PEER is eager, compile or onnxruntime (predict only). Weights come from the file
nnc's program saved, inputs from the same formula, so that the first losses of both can be compared. Prints one JSON
object like bench.c's. Exit code 3 and a sentence on stderr: this peer is not installed.
"""
import json
import os
import resource
import sys
import time

model, mode, batch, threads, warmup, steps, weights, peer = sys.argv[1:9]
batch, threads, warmup, steps = int(batch), int(threads), int(warmup), int(steps)
os.environ.setdefault("OMP_NUM_THREADS", str(threads))
try:
    import numpy as np
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
    from safetensors.numpy import load_file
    if peer == "onnxruntime":
        import onnxruntime
except ImportError as e:
    print(f"{peer}: {e}", file=sys.stderr)
    sys.exit(3)

torch.set_num_threads(threads)
torch.manual_seed(1)


def mix(z):
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def draw(name, n):
    h = 0xCBF29CE484222325
    for c in name.encode():
        h = ((h ^ c) * 0x100000001B3) & ((1 << 64) - 1)
    with np.errstate(over="ignore"):
        index = np.arange(n, dtype=np.uint64) + np.uint64(h)
    return (mix(index) >> np.uint64(40)).astype(np.float64) * 2.0 ** -24


class ConvBn(nn.Module):
    def __init__(self, i, o, k, s):
        super().__init__()
        self.conv = nn.Conv2d(i, o, k, s, (k - 1) // 2, bias=False)
        self.bn = nn.BatchNorm2d(o)

    def forward(self, x):
        return self.bn(self.conv(x))


class Residual(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.a, self.b = ConvBn(i, o, 3, s), ConvBn(o, o, 3, 1)
        self.proj = ConvBn(i, o, 1, s) if s != 1 or i != o else None

    def forward(self, x):
        h = self.b(F.relu(self.a(x)))
        return F.relu(h + (x if self.proj is None else self.proj(x)))


class Mlp(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
            setattr(self, f"fc{i + 1}", nn.Linear(a, b))
        self.n = len(sizes) - 1

    def forward(self, x):
        for i in range(1, self.n):
            x = F.relu(getattr(self, f"fc{i}")(x))
        return getattr(self, f"fc{self.n}")(x)


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.f1, self.f2, self.f3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        x = F.max_pool2d(F.relu(self.c2(x)), 2).flatten(1)
        return self.f3(F.relu(self.f2(F.relu(self.f1(x)))))


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = ConvBn(3, 16, 3, 1)
        self.stage = nn.ModuleList()
        i = 16
        for k in range(3):
            row = nn.ModuleList()
            for j in range(3):
                row.append(Residual(i, 16 * 2 ** k, 2 if k > 0 and j == 0 else 1))
                i = 16 * 2 ** k
            self.stage.append(row)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for row in self.stage:
            for block in row:
                x = block(x)
        return self.head(x.mean((2, 3)))


SGD, ADAM = torch.optim.SGD, torch.optim.Adam
MODELS = {
    "m1": (lambda: Mlp(784, 64, 10), [784], lambda p: SGD(p, lr=0.01)),
    "m2": (lambda: Mlp(784, 512, 512, 10), [784], lambda p: ADAM(p, lr=1e-3)),
    "m3": (LeNet, [1, 28, 28], lambda p: ADAM(p, lr=1e-3)),
    "m4": (ResNet20, [3, 32, 32], lambda p: SGD(p, lr=0.01, momentum=0.9)),
}


def main():
    build, shape, optimizer = MODELS[model]
    net = build()
    given = load_file(weights)
    own = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    loaded = {}
    for name in own:
        path = "net." + name
        for i in range(3):
            for j in range(3):
                path = path.replace(f"stage.{i}.{j}.", f"stage[{i}][{j}].")
        if path not in given:
            sys.exit(f"torch_peer: {path} is not in {weights}")
        loaded[name] = torch.tensor(given[path].astype(np.float32))
    net.load_state_dict(loaded, strict=False)

    n = int(np.prod(shape))
    x = torch.tensor(draw("1/x", batch * n).astype(np.float32)).reshape([batch] + shape)
    y = torch.tensor((10 * draw("1/y", batch)).astype(np.int64))
    losses, times = [], []

    if mode == "train":
        net.train()
        opt = optimizer(net.parameters())
        run_net = torch.compile(net) if peer == "compile" else net

        def step():
            opt.zero_grad(set_to_none=True)
            loss = F.cross_entropy(run_net(x), y)
            loss.backward()
            opt.step()
            return loss
    else:
        net.eval()
        if peer == "onnxruntime":
            import io
            f = io.BytesIO()
            torch.onnx.export(nn.Sequential(net, nn.Softmax(1)), (x,), f, dynamo=False)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(f.getvalue(), options, providers=["CPUExecutionProvider"])
            name, array = session.get_inputs()[0].name, x.numpy()

            def step():
                return session.run(None, {name: array})[0]
        else:
            run_net = torch.compile(net) if peer == "compile" else net

            def step():
                with torch.inference_mode():
                    return F.softmax(run_net(x), 1)

    for i in range(-warmup, steps):
        t = time.perf_counter()
        out = step()
        if mode == "train" and len(losses) < 3:
            losses.append(float(out.detach()))
        dt = (time.perf_counter() - t) * 1e3
        if i >= 0:
            times.append(dt)
    if mode != "train":
        p = np.asarray(out)[0]
        losses = [float((p * np.arange(1, 11)).sum()), 0.0, 0.0]
    times.sort()
    print(json.dumps({
        "ms": times[len(times) // 2], "p10": times[len(times) // 10], "p90": times[len(times) * 9 // 10],
        "p99": times[len(times) * 99 // 100], "losses": losses,
        "rss_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "version": torch.__version__,
    }))


main()
