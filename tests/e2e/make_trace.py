#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Values and gradients of wires from PyTorch for tests/e2e/models/traced.nn.

    pip install torch==2.13.0 safetensors numpy
    python3 tests/e2e/make_trace.py [OUTPUT_DIRECTORY]

In double precision; every intermediate value keeps its gradient (retain_grad), under the name the trace gives it.
"""
import os
import sys

import torch
import torch.nn.functional as F

from make_reference import Reference


class Wires:
    """The named values of one forward run."""

    def __init__(self, r):
        self.r, self.values = r, {}
        self.t = r.tensors(torch.float64)
        for v in self.t.values():
            v.requires_grad_(v.is_floating_point())

    def __call__(self, name, value):
        if value.requires_grad:
            value.retain_grad()
        self.values[name] = value
        return value

    def finish(self, where, loss):
        loss.backward()
        for name, v in self.values.items():
            self.r.put(f"value.{name}", v)
        for name, v in {**self.t, **self.values}.items():
            if v.is_floating_point() and v.grad is not None:
                self.r.put(f"grad.{name}", v.grad)
        self.r.write(where)


def images(where):
    r = Reference("trace_images")
    r.add("x", "F32", [6, 2, 6, 6], -1.0, 1.0)
    r.add("y", "I32", [6], 0, 3)
    r.conv("conv.c1", 5, 2, 3, bias=False)
    r.param("conv.n1.weight", [5], 0.5, 1.5)
    r.param("conv.n1.bias", [5], -0.2, 0.2)
    r.conv("conv.c2", 4, 5, 3)
    r.dense("conv.out", 3, 16)
    w = Wires(r)
    t = w.t
    x = w("c1", F.conv2d(t["x"], t["conv.c1.weight"], padding=1))
    x = w("n1", F.batch_norm(x, None, None, t["conv.n1.weight"], t["conv.n1.bias"], training=True))
    x = w("h", F.max_pool2d(w("relu", F.relu(x)), 2))
    x = w("c2", F.conv2d(x, t["conv.c2.weight"], t["conv.c2.bias"], stride=2, padding=1))
    x = w("flatten", w("tanh", torch.tanh(x)).flatten(1))
    z = w("out", F.linear(x, t["conv.out.weight"], t["conv.out.bias"]))
    w("argmax", z.argmax(1))
    w("acc", (z.argmax(1) == t["y"]).double().mean())
    w("mean", z.detach().mean(0))
    size = w("size", w("square", z * z).mean())
    anchor = w("anchor", w("mul", z * w("stop_grad", torch.sigmoid(z).detach())).mean())
    ce = w("cross_entropy", F.cross_entropy(z, t["y"], reduction="none"))
    w.finish(where, w("loss", w("add", ce.mean() + w("mul_2", 0.5 * size)) + anchor))


def time(where):
    r = Reference("trace_time")
    r.add("xs", "F32", [6, 4, 2], -1.0, 1.0)
    r.add("h", "F32", [6, 3], -1.0, 1.0)
    r.add("c", "F32", [6, 3], -1.0, 1.0)
    r.add("t", "F32", [6, 4, 3], -1.0, 1.0)
    r.dense("lstm.wx", 12, 2)
    r.param("lstm.wh.weight", [12, 3], -1.0, 1.0)
    w = Wires(r)
    t = w.t
    h, c, hs = t["h"], t["c"], []
    for k in range(4):
        g = F.linear(t["xs"][:, k], t["lstm.wx.weight"], t["lstm.wx.bias"]) + F.linear(h, t["lstm.wh.weight"])
        i, f, u, o = g.chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(u)
        h = torch.sigmoid(o) * torch.tanh(c)
        hs.append(h)
    w("h_2", h.detach())
    c = w("c_2", c.clone())  # what leaves the loop, not what its last step goes on with
    e = w("e", w("hs", torch.stack(hs, 1)) - t["t"])
    w.finish(where, w("loss", w("mean", w("mul", e * e).mean()) + w("mul_3", 0.1 * w("mean_2", w("mul_2", c * c).mean()))))


def main():
    where = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "ref")
    os.makedirs(where, exist_ok=True)
    images(where)
    time(where)


if __name__ == "__main__":
    main()
