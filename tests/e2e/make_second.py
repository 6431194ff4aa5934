#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reference trajectories of the second-order methods for tests/e2e/models/second.nn.

    pip install torch==2.13.0 safetensors numpy
    python3 tests/e2e/make_second.py [OUTPUT_DIRECTORY]

lbfgs is PyTorch's, with its strong-Wolfe line search. newton (with the exact Hessian), dfp and bfgs are
written out here with matrices. Where a method's first trial step satisfies the strong Wolfe conditions
every line search takes it, so that trajectories can be compared; the conditions are checked at each step.
PyTorch's search interpolates by the same cubic, so that its second trial may be compared as well.
"""
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F

from make_reference import Reference

C1, C2 = 1e-4, 0.9
MARKS = (1, 3, 6, 10)
SIZES = (3, 7), (3,)


def split(w):
    return w[:21].reshape(3, 7), w[21:]


class Problem:
    """The regression as a function of one vector, in double precision."""

    def __init__(self, r):
        t = r.tensors(torch.float64)
        self.x = torch.cat([t["a"], t["b"]], 1)
        self.y = t["y"]
        self.start = torch.cat([t[k].detach().reshape(-1) for k in r.params])

    def loss(self, w):
        weight, bias = split(w)
        return F.cross_entropy(F.linear(self.x, weight, bias), self.y) + 0.01 * (w * w).sum()

    def at(self, w):
        w = torch.tensor(w, requires_grad=True)
        loss = self.loss(w)
        loss.backward()
        return float(loss.detach()), w.grad.numpy().copy()

    def hessian(self, w):
        return torch.autograd.functional.hessian(self.loss, torch.tensor(w)).numpy()


def put(r, name, w):
    weight, bias = split(torch.as_tensor(w))
    r.put(name + ".net.fc.weight", weight)
    r.put(name + ".net.fc.bias", bias)


def accepted(name, step, f0, s0, f1, s1):
    """The strong Wolfe conditions, by a margin that rounding does not reach."""
    if not (f1 < f0 + C1 * s0 - 1e-9 and abs(s1) < 0.999 * C2 * abs(s0)):
        sys.exit(f"{name}: the first trial of step {step} is not taken: choose other data")


def newton(p, r):
    w = p.start.numpy().copy()
    for step in range(1, 5):
        f, g = p.at(w)
        d = -np.linalg.solve(p.hessian(w), g)
        f1, g1 = p.at(w + d)
        accepted("newton", step, f, g @ d, f1, g1 @ d)
        w = w + d
        put(r, f"newton.w{step}", w)


def quasi(p, r, name, update):
    w = p.start.numpy().copy()
    f, g = p.at(w)
    h = None
    for step in range(1, max(MARKS) + 1):
        d = -g * min(1.0, 1.0 / np.abs(g).sum()) if h is None else -h @ g
        f1, g1 = p.at(w + d)
        accepted(name, step, f, g @ d, f1, g1 @ d)
        y = g1 - g
        if h is None:
            h = np.eye(len(w)) * (d @ y) / (y @ y)
        h = update(h, d, y)
        w, f, g = w + d, f1, g1
        if step in MARKS:
            put(r, f"{name}.w{step}", w)


def update_dfp(h, s, y):
    """The inverse of the rank-two update of the Hessian."""
    b = np.linalg.inv(h)
    t = np.eye(len(s)) - np.outer(y, s) / (y @ s)
    return np.linalg.inv(t @ b @ t.T + np.outer(y, y) / (y @ s))


def update_bfgs(h, s, y):
    t = np.eye(len(s)) - np.outer(s, y) / (y @ s)
    return t @ h @ t.T + np.outer(s, s) / (y @ s)


def lbfgs(p, r, name, history):
    w = p.start.clone().requires_grad_(True)
    opt = torch.optim.LBFGS([w], lr=1, max_iter=1, max_eval=100, history_size=history, tolerance_grad=0,
                            tolerance_change=0, line_search_fn="strong_wolfe")
    for step in range(1, max(MARKS) + 1):
        def closure():
            opt.zero_grad()
            loss = p.loss(w)
            loss.backward()
            return loss
        f = float(closure().detach())
        g, before = w.grad.clone(), w.detach().clone()
        opt.step(closure)
        d = (w - before).detach()
        f1 = float(closure().detach())
        accepted(name, step, f, float(g @ d), f1, float(w.grad @ d))
        if step in MARKS:
            put(r, f"{name}.w{step}", w.detach())


def minimum(path):
    """Where the regression of tests/e2e/second.c ends: its data by the same formula, Newton's method to the end."""
    z, u = 1, []
    for _ in range(64 * 7):
        z = (z * 6364136223846793005 + 1442695040888963407) % 2**64
        u.append((z >> 40) * 2.0**-23 - 1)
    u = np.array(u).reshape(64, 7)
    p = Problem.__new__(Problem)
    x = np.concatenate([u[:, :4], 3 * u[:, 4:]], 1)
    p.x = torch.tensor(x)
    p.y = torch.tensor((u[:, 0] + u[:, 4] > 0).astype(int) + (u[:, 1] - u[:, 5] > 0.3))
    w = np.zeros(24)
    for _ in range(20):
        w = w - np.linalg.solve(p.hessian(w), p.at(w)[1])
    if np.abs(p.at(w)[1]).max() > 1e-14:
        sys.exit("the minimum was not found")
    with open(path, "w") as f:
        f.write("/* SPDX-License-Identifier: MIT\n * Written by make_second.py. */\n")
        f.write("".join(f"{float(v)!r},\n" for v in w))


def main():
    where = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "ref")
    os.makedirs(where, exist_ok=True)
    r = Reference("second")
    r.add("a", "F32", [48, 4], -1.0, 1.0)
    r.add("b", "F32", [48, 3], -3.0, 3.0)
    r.add("y", "I32", [48], 0, 3)
    r.param("net.fc.weight", [3, 7], -0.2, 0.2)
    r.param("net.fc.bias", [3], -0.1, 0.1)
    p = Problem(r)
    newton(p, r)
    quasi(p, r, "dfp", update_dfp)
    quasi(p, r, "bfgs", update_bfgs)
    lbfgs(p, r, "lbfgs", 10)
    lbfgs(p, r, "lbfgs_short", 3)
    r.write(where)
    minimum(os.path.join(where, "second_minimum.h"))


if __name__ == "__main__":
    main()
