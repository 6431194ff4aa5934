#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Products with the Hessian from PyTorch for tests/e2e/models/hvp.nn.

    pip install torch==2.13.0 safetensors numpy
    python3 tests/e2e/make_hvp.py [OUTPUT_DIRECTORY]

torch.autograd.functional.hvp in double precision, for each step over one vector of all its parameters in the order of
the model; the network is rebuilt here with PyTorch's functions.
"""
import os
import sys

import torch
import torch.nn.functional as F

from make_reference import Reference


def finish(r, where, loss_of):
    """Draws v, and stores the product at the weights of the specification."""
    t = r.tensors(torch.float64)
    sizes = [t[k].numel() for k in r.params]
    r.add("v", "F32", [sum(sizes)], -1.0, 1.0)
    v = r.tensors(torch.float64)["v"]

    def loss(flat):
        parts = flat.split(sizes)
        weights = {k: p.view(t[k].shape) for k, p in zip(r.params, parts)}
        return loss_of({**t, **weights})

    start = torch.cat([t[k].detach().reshape(-1) for k in r.params])
    value, hv = torch.autograd.functional.hvp(loss, start, v)
    r.put("loss", value)
    r.put("hv", hv)
    r.write(where)


def images(where):
    r = Reference("hvp_images")
    r.add("x", "F32", [6, 2, 6, 6], -1.0, 1.0)
    r.add("y", "I32", [6], 0, 3)
    r.conv("conv.c1", 5, 2, 3)
    r.param("conv.n1.weight", [5], 0.5, 1.5)
    r.param("conv.n1.bias", [5], -0.2, 0.2)
    r.conv("conv.c2", 4, 5, 3)
    r.dense("conv.out", 3, 16)

    def loss(t):
        x = F.conv2d(t["x"], t["conv.c1.weight"], t["conv.c1.bias"], padding=1)
        x = F.batch_norm(x, None, None, t["conv.n1.weight"], t["conv.n1.bias"], training=True)
        x = F.max_pool2d(F.relu(x), 2)
        x = torch.tanh(F.conv2d(x, t["conv.c2.weight"], t["conv.c2.bias"], stride=2, padding=1))
        z = F.linear(x.flatten(1), t["conv.out.weight"], t["conv.out.bias"])
        return F.cross_entropy(z, t["y"], label_smoothing=0.1)
    finish(r, where, loss)


def reading(where):
    r = Reference("hvp_reading")
    r.add("ids", "I32", [6, 4], 0, 9)
    r.add("y", "I32", [6], 0, 3)
    r.param("text.table.weight", [9, 6], -1.0, 1.0)
    r.param("text.norm.weight", [6], 0.5, 1.5)
    r.param("text.norm.bias", [6], -0.2, 0.2)
    r.dense("text.mix", 7, 24)
    r.dense("text.out", 3, 7)

    def loss(t):
        e = F.layer_norm(F.embedding(t["ids"], t["text.table.weight"]), (6,), t["text.norm.weight"], t["text.norm.bias"])
        s = torch.softmax(e @ e.transpose(1, 2) / 2, -1)
        x = F.gelu(F.linear((s @ e).flatten(1), t["text.mix.weight"], t["text.mix.bias"]))
        z = F.linear(x, t["text.out.weight"], t["text.out.bias"])
        l2 = (t["text.mix.weight"] ** 2).sum() + (t["text.mix.bias"] ** 2).sum()
        return F.cross_entropy(z, t["y"], ignore_index=0) + 1e-2 * l2
    finish(r, where, loss)


def time(where):
    r = Reference("hvp_time")
    r.add("xs", "F32", [6, 4, 2], -1.0, 1.0)
    r.add("h", "F32", [6, 3], -1.0, 1.0)
    r.add("c", "F32", [6, 3], -1.0, 1.0)
    r.add("t", "F32", [6, 4, 3], -1.0, 1.0)
    r.dense("lstm.wx", 12, 2)
    r.param("lstm.wh.weight", [12, 3], -1.0, 1.0)

    def loss(t):
        h, c, hs = t["h"], t["c"], []
        for k in range(4):
            g = F.linear(t["xs"][:, k], t["lstm.wx.weight"], t["lstm.wx.bias"]) + F.linear(h, t["lstm.wh.weight"])
            i, f, u, o = g.chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(u)
            h = torch.sigmoid(o) * torch.tanh(c)
            hs.append(h)
        return F.mse_loss(torch.stack(hs, 1), t["t"]) + 0.1 * (c * c).mean()
    finish(r, where, loss)


def main():
    where = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "ref")
    os.makedirs(where, exist_ok=True)
    images(where)
    reading(where)
    time(where)


if __name__ == "__main__":
    main()
