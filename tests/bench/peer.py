#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A peer beside bench.c: peer.py MODEL train|infer BATCH THREADS WEIGHTS OUTPUT PEER [NAME=NUMBER...]

PEER is eager, compile, channels_last (PyTorch with images stored as nnc stores them) or onnxruntime (infer only).
Weights come from the file nnc's program saved, inputs from the same formula, and it talks the same way: the first
losses or outputs, then as many timed runs as each line of standard input asks for, then memory.
Exit code 3 and a sentence on stderr: this peer is not there or cannot run this model.
"""
import json
import os
import sys
import time

MODEL, WHAT, BATCH, THREADS, WEIGHTS, OUTPUT, PEER = sys.argv[1:8]
BATCH, THREADS = int(BATCH), int(THREADS)
DEFINES = {k: int(v) for k, v in (d.split("=") for d in sys.argv[8:])}
FIRST, RESTART = 3, 15  # as in bench.c
os.environ["OMP_NUM_THREADS"] = str(THREADS)
# What torch.compile has compiled stays beside the weights: another round need not compile it again.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(os.path.dirname(os.path.abspath(WEIGHTS)), "inductor"))


def absent(why):
    print(" ".join(str(why).split())[:300], file=sys.stderr)
    sys.exit(3)


try:
    import numpy as np
    import torch
    from safetensors.numpy import load_file
    if PEER == "onnxruntime":
        import onnxruntime
except ImportError as e:
    absent(e)
import twins

torch.set_num_threads(THREADS)
torch.manual_seed(1)


def mix(z):
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def draw(port):
    """The same numbers as fill_input() in bench.c."""
    h = 0xCBF29CE484222325
    for c in f"1/{port.name}".encode():
        h = ((h ^ c) * 0x100000001B3) & ((1 << 64) - 1)
    n = BATCH * int(np.prod(port.shape, dtype=np.int64))
    with np.errstate(over="ignore"):
        u = (mix(np.arange(n, dtype=np.uint64) + np.uint64(h)) >> np.uint64(40)).astype(np.float64) * 2.0 ** -24
    if port.limit:
        x = torch.tensor((u * port.limit).astype(np.int64))
    elif port.name == "noise":
        x = torch.tensor(((u - 0.5) * 3.4641016151377544).astype(np.float32))
    else:
        x = torch.tensor(u.astype(np.float32))
    return x.reshape([BATCH] + port.shape)


def load(twin):
    net = twin.net()
    given = {k: torch.tensor(v.astype(np.float32)) for k, v in load_file(WEIGHTS).items()}
    own = [k for k in net.state_dict() if not k.endswith("num_batches_tracked")]
    missing, _ = net.load_state_dict({k: twin.name(k, given) for k in own}, strict=False)
    if any(not k.endswith("num_batches_tracked") for k in missing):
        sys.exit(f"peer: not in {WEIGHTS}: {' '.join(missing)}")
    if PEER == "channels_last":
        net = net.to(memory_format=torch.channels_last)
    return net


def inputs(ports):
    xs = [draw(p) for p in ports]
    if PEER == "channels_last":
        xs = [x.to(memory_format=torch.channels_last) if x.dim() == 4 else x for x in xs]
    return xs


class Training:
    def __init__(self, twin):
        self.net = load(twin).train()
        self.start = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.steps = []
        for s in twin.steps:
            parameters = list(s.trains(self.net).parameters())
            loss = torch.compile(s.loss) if PEER == "compile" else s.loss
            self.steps.append((loss, inputs(s.inputs), s.optimizer(parameters), parameters))

    def run(self):
        self.losses = []
        for loss, xs, optimizer, parameters in self.steps:
            if len(self.steps) > 1:  # of a network that this step does not train, no gradient is wanted
                self.net.requires_grad_(False)
                for p in parameters:
                    p.requires_grad_(True)
            optimizer.zero_grad(set_to_none=True)
            value = loss(self.net, *xs)
            value.backward()
            optimizer.step()
            self.losses.append(value.detach())

    def first(self):
        losses = []
        for _ in range(FIRST):
            self.run()
            losses += [float(v) for v in self.losses]
        return losses

    def restart(self):
        """The initial weights and moments, in the memory they have."""
        with torch.no_grad():
            for k, v in self.net.state_dict().items():
                v.copy_(self.start[k])
            for _, _, optimizer, _ in self.steps:
                for state in optimizer.state.values():
                    for v in state.values():
                        if torch.is_tensor(v):
                            v.zero_()


class Inference:
    def __init__(self, twin):
        net = load(twin).eval()
        self.x = inputs([twin.first])[0]
        predict = torch.compile(twin.predict) if PEER == "compile" else twin.predict

        def run():
            with torch.inference_mode():
                self.y = predict(net, self.x)

        self.run = run

    def first(self):
        for _ in range(FIRST):
            self.run()
        np.asarray(self.y, dtype=np.float32).tofile(OUTPUT)
        return []

    def restart(self):
        pass


class OnnxInference(Inference):
    def __init__(self, twin):
        import io
        import warnings

        class Whole(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.net = load(twin)

            def forward(self, x):
                return twin.predict(self.net, x)

        torch.backends.mha.set_fastpath_enabled(False)  # it has no counterpart in ONNX
        x = inputs([twin.first])[0]
        f = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(Whole().eval(), (x,), f, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(f.getvalue(), options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: x.numpy()}

        def run():
            self.y = session.run(None, feed)[0]

        self.run = run


def main():
    if PEER == "onnxruntime" and WHAT == "train":
        absent("ONNX Runtime's package does not train")
    twin = twins.find(MODEL, DEFINES)
    side = Training(twin) if WHAT == "train" else OnnxInference(twin) if PEER == "onnxruntime" else Inference(twin)
    version = onnxruntime.__version__ if PEER == "onnxruntime" else torch.__version__
    print(json.dumps({"losses": side.first(), "version": version}), flush=True)
    runs = FIRST
    for line in sys.stdin:
        ms = []
        for _ in range(int(line)):
            if runs >= RESTART:
                side.restart()
                runs = 0
            t = time.perf_counter()
            side.run()
            ms.append(round((time.perf_counter() - t) * 1e3, 6))
            runs += 1
        print(json.dumps({"ms": ms}), flush=True)
    with open("/proc/self/status") as f:
        peak = [int(line.split()[1]) for line in f if line.startswith("VmHWM:")]
    print(json.dumps({"rss_kib": peak[0]}), flush=True)


try:
    main()
except Exception as e:
    if PEER not in ("compile", "onnxruntime"):
        raise
    absent(f"{type(e).__name__}: {e}")
