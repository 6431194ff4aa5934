# SPDX-License-Identifier: MIT
"""What is measured: the models with their batches, and how each is built and described by nnc itself."""
from dataclasses import dataclass, field
import hashlib
import json
import os
import re
import subprocess
import sys
import time

B = os.environ.get("B", "build")
CC = os.environ.get("CC", "gcc")
OUT = os.environ.get("OUT", B)  # where results go
WORK = os.path.join(OUT, "bench")
NNC = os.path.join(B, "nnc")
FLAGS = ["-std=gnu11", *os.environ.get("BENCH_OPT", "-O3 -march=native").split(), "-fno-math-errno",
         "-fno-trapping-math", "-Iruntime", "-I" + WORK]
LIBS = [os.path.join(B, "libnn.a"), "-lopenblas", "-lz", "-lpthread", "-lm"]


@dataclass
class Model:
    title: str
    batches: list
    file: str = ""  # in tests/bench/models, without .nn
    defines: dict = field(default_factory=dict)

    def infer_batches(self):
        return sorted({1, max(self.batches)})


MODELS = {
    "m1": Model("MLP 784-64-10", [1, 64]),
    "m2": Model("MLP 784-512-512-10", [1, 64, 256]),
    "m3": Model("LeNet-5", [1, 64]),
    "m4": Model("ResNet-20, 32x32", [1, 128]),
    "m5": Model("VGG-11, 32x32", [1, 64]),
    "m6": Model("MobileNet v1, 224x224", [1, 16]),
    "m7": Model("ResNet-50, 224x224", [1, 8]),
    "m8": Model("LSTM 2x256, T=64", [1, 64]),
    "m9": Model("GRU 2x256, T=64", [1, 64]),
    "m10": Model("transformer encoder, 4 layers", [1, 16]),
    "m11": Model("autoencoder 784-256-64", [64]),
    "m12": Model("VAE 784-400-20", [64]),
    "m13": Model("DCGAN, 32x32", [64]),
    "m4t": Model("ResNet-20, tile = 4", [128], "m4", {"TILE": 4}),
    "m5t": Model("VGG-11, tile = 4", [64], "m5", {"TILE": 4}),
}


def run(*command, env=None):
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=env)
    if r.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, command))}: exit code {r.returncode}\n{r.stdout}{r.stderr}")
    return r.stdout


def numbers(pattern, text, name):
    """All matches of a pattern of integers, which nnc groups by commas in its summary."""
    found = [[int(n.replace(",", "")) for n in m.groups()] for m in re.finditer(pattern, text, re.M)]
    if not found:
        sys.exit(f"bench: nothing in what nnc says of {name} matches {pattern}")
    return found


@dataclass
class Built:
    name: str
    program: str
    macs: dict  # per sample, by train and infer
    arena: dict
    bound: dict
    nnc_s: float
    cc_s: float
    lines: int
    code_bytes: int
    parameters: int


def source_of(name, model):
    """What of nnc's command line says which model."""
    return [f"tests/bench/models/{model.file or name}.nn", *(f"-D{k}={v}" for k, v in model.defines.items())]


def build(name, model):
    """Compiles a model, or takes what an earlier run compiled from the same C and headers with the same flags."""
    source = source_of(name, model)
    c, program = os.path.join(WORK, name + ".c"), os.path.join(WORK, name)
    t = time.monotonic()
    run(NNC, *source, f"--prefix={name}", "-o", os.path.join(WORK, "plain.c"))
    nnc_s = time.monotonic() - t
    with open(os.path.join(WORK, "plain.c")) as f:
        lines = sum(1 for _ in f)
    run(NNC, *source, f"--prefix={name}", "--emit=harness", "-o", c)

    key = hashlib.sha256(repr([CC, FLAGS[:-1]]).encode())
    files = [c, "tests/bench/bench.c", LIBS[0]]
    for folder in ("runtime", "runtime/kernels"):
        files += [os.path.join(folder, f) for f in sorted(os.listdir(folder)) if f.endswith(".h")]
    for path in files:
        with open(path, "rb") as f:
            key.update(f.read())
    note = {"key": key.hexdigest()}
    noted = os.path.join(WORK, name + ".json")
    try:
        with open(noted) as f:
            old = json.load(f)
    except (OSError, ValueError):
        old = {}
    if old.get("key") == note["key"] and os.path.exists(program):
        note = old
    else:
        used = os.times()
        run(CC, *FLAGS, "-c", "-o", program + ".o", c)
        now = os.times()
        note["cc_s"] = now.children_user + now.children_system - used.children_user - used.children_system
        run(CC, *FLAGS, "-o", program, "tests/bench/bench.c", program + ".o", *LIBS)
        with open(noted, "w") as f:
            json.dump(note, f)
    size = run("size", program + ".o").splitlines()[1].split()

    summary = run(NNC, *source, "--emit=summary")
    kinds = {"train": "step", "infer": "infer"}
    macs, arena, bound = {}, {}, {}
    for what, kind in kinds.items():
        found = numbers(rf"^{kind} \w+: ([\d,]+) MACs.*working memory ([\d,]+) bytes, lower bound ([\d,]+)", summary, name)
        if what == "infer":
            found = found[:1]
        macs[what] = sum(f[0] for f in found)
        arena[what], bound[what] = max((f[1], f[2]) for f in found)
    [parameters] = numbers(r"^parameters ([\d,]+)", summary, name)[0]
    return Built(name, program, macs, arena, bound, nnc_s, note["cc_s"], lines, int(size[0]) + int(size[1]), parameters)
