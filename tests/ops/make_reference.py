#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reference numbers from PyTorch for operators, activations, losses and layers.

    pip install torch==2.13.0 safetensors numpy
    python3 tests/ops/make_reference.py [GROUP...]       # all groups by default; --out DIR for another place

A group is a file tests/ops/reference/GROUP.py that calls `case` for each thing to compare:

    case("conv2d_stride",                        # unique in the group, a C identifier
         "conv2d(x, 4, 3, stride = 2) @op",      # .nn: an expression, or a block's statements with `return`
         lambda t: F.conv2d(t["x"], t["op.weight"], t["op.bias"], stride=2),
         x=("F32", [2, 3, 8, 8], -1, 1),         # operands: dtype, shape, range of the numbers drawn
         params={"op.weight": ([4, 3, 3, 3], -0.3, 0.3), "op.bias": ([4], -0.1, 0.1)},
         state={},                               # likewise: states of the layer, compared after the step
         no_grad=(),                             # operands and weights whose gradient is nothing or rounding
         f32=2e-6, f64=1e-10)                    # relative L2 distance allowed

The expression sees the operands under their names; F32 operands get gradients unless they are in no_grad, I32
operands are drawn as floor(LO + (HI - LO) u). A block may return several values; the function then returns a tuple.
t["training"] tells in which of two runs it is called: for the outputs of an `infer` routine, and for the gradients of
a `step`, whose loss is the sum of every result times fixed random numbers. Equal LO and HI make an operand constant,
which is how the values and gradients at kinks are asked for.

Three files per group go to tests/ops/ref: GROUP.nn, a model in which one infer and one step hold all cases; GROUP.spec,
from which tests/e2e/fill.c draws the numbers; GROUP.safetensors, the results in double precision (a sketch for large
ones). tests/ops/reference.sh compares them with generated code in f32 and f64.
"""
import importlib.util
import os
import re
import sys

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = importlib.util.spec_from_file_location("e2e_reference", os.path.join(HERE, "../e2e/make_reference.py"))
e2e = importlib.util.module_from_spec(SHARED)
SHARED.loader.exec_module(e2e)


class Group:
    def __init__(self, name):
        self.name, self.cases = name, []

    def case(self, name, code, torch_fn, params=None, state=None, no_grad=(), f32=2e-6, f64=1e-10, **operands):
        if any(c["name"] == name for c in self.cases):
            raise SystemExit(f"{self.name}: {name} is there twice")
        self.cases.append(dict(name=name, code=code.strip(), fn=torch_fn, params=params or {}, state=state or {},
                               no_grad=no_grad, f32=f32, f64=f64, operands=operands))

    def tensors(self, c, r, training):
        out = {"training": training}
        n = c["name"]
        for k, (dtype, *_rest) in c["operands"].items():
            t = torch.tensor(r.data[f"{n}_{k}"])
            out[k] = t.long() if dtype == "I32" else t.double().requires_grad_(k not in c["no_grad"])
        for k in c["params"]:
            out[k] = torch.tensor(r.data[f"{n}.{k}"]).double().requires_grad_(True)
        for k in c["state"]:
            out[k] = torch.tensor(r.data[f"{n}.{k}"]).double()
        return out

    def write(self, where):
        r = e2e.Reference(self.name)
        head, blocks, members, infer_in, infer_out, infer = [], [], [], [], [], []
        step_in, step, terms, over = [], [], [], []
        for c in self.cases:
            n, names = c["name"], list(c["operands"])
            head.append(f"# case {n} {c['f32']!r} {c['f64']!r}")
            body = c["code"] if re.search(r"\breturn\b", c["code"]) else f"return {c['code']};"
            blocks.append(f"block block_{n}({', '.join(names)}) {{\n  {body}\n}}")
            members.append(f"  layer {n} = block_{n}();")
            grads = []
            for k, (dtype, shape, lo, hi) in c["operands"].items():
                r.add(f"{n}_{k}", dtype, shape, float(lo), float(hi))
                sizes = ", ".join(map(str, shape))
                if dtype == "I32":
                    infer_in.append(f"{n}_{k}: i32[{sizes}]")
                    step_in.append(f"{n}_{k}: i32[{sizes}]")
                else:
                    members.append(f"  param {n}_{k}: f32[{sizes}];")
                    if k not in c["no_grad"]:
                        grads.append((k, f"{n}_{k}"))
                        over.append(f"{n}_{k}")
            for k, (shape, lo, hi) in c["params"].items():
                r.add(f"{n}.{k}", "F32", shape, float(lo), float(hi))
                if k not in c["no_grad"]:
                    grads.append((k, f"{n}.{k}"))
            for k, (shape, lo, hi) in c["state"].items():
                r.add(f"{n}.{k}", "F32", shape, float(lo), float(hi))
            if c["params"]:
                over.append(n)
            # What the infer routine gives.
            y = c["fn"](self.tensors(c, r, False))
            y = y if isinstance(y, tuple) else (y,)
            outs = [f"{n}_out{i + 1}" if len(y) > 1 else f"{n}_out" for i in range(len(y))]
            for o, v in zip(outs, y):
                r.put(f"{n}:infer.{o}", v)
            call = f"{n}({', '.join(f'{n}_{k}' for k in names)})"
            infer_out += outs
            infer.append(f"    {', '.join(outs)} = {call};")
            # What the step gives.
            t = self.tensors(c, r, True)
            y = c["fn"](t)
            y = y if isinstance(y, tuple) else (y,)
            loss = 0
            step.append(f"    {', '.join(outs)} = {call};")
            for o, v in zip(outs, y):
                shape = list(v.shape)
                terms.append(f"sum({o} * {o}_r)")
                step_in.append(f"{o}_r: f32[{', '.join(map(str, shape))}]" if shape else f"{o}_r: f32[1]")
                r.add(f"{o}_r", "F32", shape or [1], 0.5, 1.5)
                w = torch.tensor(r.data[f"{o}_r"]).double()
                loss = loss + (v * (w if shape else w[0])).sum()
                step.append(f"    metric {o}_m = sum(square({o}));")
                r.put(f"{n}:step.{o}_m", (v * v).sum())
            if grads:
                loss.backward()
                for k, path in grads:
                    g = t[k].grad
                    r.put(f"{n}:step.grad.{path}", torch.zeros_like(t[k]) if g is None else g)
            for k in c["state"]:
                r.put(f"{n}:step.{n}.{k}", t[k])
        lines = ["nn 1;", "# SPDX-License-Identifier: MIT", "#",
                 f"# Written by make_reference.py from reference/{self.name}.py. Cases and bounds in f32 and f64:"]
        lines += head + [""] + blocks + ["", f"model {self.name} {{"] + members
        lines += [f"  infer outputs({', '.join(infer_in)}) -> {', '.join(infer_out)} {{"] + infer + ["  }"]
        lines += [f"  step gradients({', '.join(step_in)}) {{"] + step
        lines += ["    minimize " + "\n      + ".join(terms), f"      over {', '.join(over)} using sgd(lr = 0.0);", "  }", "}"]
        with open(os.path.join(where, self.name + ".nn"), "w") as f:
            f.write("\n".join(lines) + "\n")
        r.write(where)


def main():
    args, where = sys.argv[1:], os.path.join(HERE, "ref")
    if "--out" in args:
        where = args[args.index("--out") + 1]
        del args[args.index("--out"):args.index("--out") + 2]
    os.makedirs(where, exist_ok=True)
    sources = os.path.join(HERE, "reference")
    for name in args or sorted(f[:-3] for f in os.listdir(sources) if f.endswith(".py")):
        group = Group(name)
        with open(os.path.join(sources, name + ".py")) as f:
            exec(compile(f.read(), name + ".py", "exec"), {"case": group.case, "torch": torch, "F": torch.nn.functional})
        group.write(where)


main()
