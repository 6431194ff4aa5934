#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Times the benchmark's models against their peers: bench.py [MODEL...]

Ceilings first and last; then, for every model, batch size and number of threads, rounds of nnc's program and each
peer in turn, and medians over the rounds. Before anything is timed the first losses of both are compared. Writes
build/bench.json and prints a table. A peer that is not installed is reported as absent.

Variables: ROUNDS (3), THREADS ("1 2"), PEERS ("eager compile onnxruntime").
"""
import json
import os
import re
import statistics
import subprocess
import sys

B = os.environ.get("B", "build")
CC = os.environ.get("CC", "gcc")
ROUNDS = int(os.environ.get("ROUNDS", "3"))
THREADS = [int(t) for t in os.environ.get("THREADS", "1 2").split()]
PEERS = os.environ.get("PEERS", "eager compile onnxruntime").split()
WORK = os.path.join(B, "bench")
PYTHON = os.path.join(B, "venv", "bin", "python")
FLAGS = ["-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-Iruntime", "-I" + WORK]
LIBS = [os.path.join(B, "libnn.a"), "-lopenblas", "-lz", "-lpthread", "-lm"]


def dense(*sizes):
    """Multiply-accumulates of one sample: forward, and in training the two products of the backward pass (only one
    for the first layer, whose input needs no gradient)."""
    layers = [a * b for a, b in zip(sizes, sizes[1:])]
    return sum(layers), 3 * sum(layers) - layers[0]


def lenet():
    layers = [28 * 28 * 6 * 25, 10 * 10 * 16 * 150, 400 * 120, 120 * 84, 84 * 10]
    return sum(layers), 3 * sum(layers) - layers[0]


def resnet20():
    layers, c_in, size = [32 * 32 * 16 * 27], 16, 32
    for i in range(3):
        for j in range(3):
            c, s = 16 * 2 ** i, 2 if i > 0 and j == 0 else 1
            size //= s
            layers += [size * size * c * c_in * 9, size * size * c * c * 9]
            if s != 1:
                layers.append(size * size * c * c_in)
            c_in = c
    layers.append(640)
    return sum(layers), 3 * sum(layers) - layers[0]


# name: (elements of one input, multiply-accumulates, training batches, prediction batches)
MODELS = {
    "m1": (784, dense(784, 64, 10), [1, 64], [1]),
    "m2": (784, dense(784, 512, 512, 10), [1, 64, 256], [1]),
    "m3": (784, lenet(), [1, 64], [1]),
    "m4": (3072, resnet20(), [1, 128], [1]),
}


def run(*command, check=True, env=None):
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=env)
    if check and r.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, command))}: exit code {r.returncode}\n{r.stdout}{r.stderr}")
    return r


def build(name):
    x_count = MODELS[name][0]
    c = os.path.join(WORK, name + ".c")
    run(os.path.join(B, "nnc"), f"tests/bench/models/{name}.nn", "-o", c)
    program = os.path.join(WORK, name)
    run(CC, *FLAGS, f"-DMODEL={name}", f"-DMODEL_UPPER={name.upper()}", f'-DMODEL_HEADER="{name}.h"',
        f"-DX_COUNT={x_count}", "-DCLASSES=10", "-o", program, "tests/bench/bench.c", c, *LIBS)
    report = run(os.path.join(B, "nnc"), f"tests/bench/models/{name}.nn", "--report", "-o", "/dev/null").stdout
    found = re.search(r"^step train: arena (\d+) bytes, lower bound (\d+)", report, re.M)
    if not found:
        sys.exit(f"bench: no memory report of {name}")
    arena, bound = int(found[1]), int(found[2])
    return program, arena, bound


def ceilings(threads):
    return json.loads(run(os.path.join(WORK, "ceilings"), threads).stdout)


def steps_for(ms):
    """At least 30 steps, and about a second of them."""
    return max(30, min(2000, int(1000 / max(ms, 1e-3))))


def measure(program, name, what, batch, threads, absent):
    weights = os.path.join(WORK, name + ".safetensors")
    probe = json.loads(run(program, what, batch, threads, 3, 5, weights).stdout)
    steps = steps_for(probe["ms"])
    ours, peers, versions = [], {}, {}
    names = [p for p in PEERS if not (p == "onnxruntime" and what == "train")]
    peer_steps = {}
    for _ in range(ROUNDS):
        ours.append(json.loads(run(program, what, batch, threads, max(3, steps // 10), steps).stdout))
        for peer in names:
            if peer in absent:
                continue
            if not os.path.exists(PYTHON):
                absent[peer] = "no build/venv; make bench-deps installs it"
                continue
            n = peer_steps.get(peer, 30)
            r = run(PYTHON, "tests/bench/torch_peer.py", name, what, batch, threads, max(5, n // 10), n, weights, peer,
                    check=False, env=dict(os.environ, OMP_NUM_THREADS=str(threads)))
            if r.returncode == 0:
                result = json.loads(r.stdout.strip().splitlines()[-1])
                peer_steps[peer] = steps_for(result["ms"])
                peers.setdefault(peer, []).append(result)
            else:
                absent[peer] = r.stderr.strip().splitlines()[-1] if r.stderr.strip() else f"exit code {r.returncode}"
                if r.returncode != 3:
                    print(f"  {peer} failed: {absent[peer]}", file=sys.stderr)

    def median(results):
        return statistics.median(r["ms"] for r in results)

    loss_ok = None
    for peer, results in peers.items():
        for a, b in zip(ours[0]["losses"], results[0]["losses"]):
            good = abs(a - b) <= 1e-4 * max(1.0, abs(b))
            loss_ok = good if loss_ok is None else loss_ok and good
    record = {
        "model": name, "what": what, "batch": batch, "threads": threads, "ours_ms": median(ours),
        "ours_spread_ms": [min(r["p10"] for r in ours), max(r["p90"] for r in ours)],
        "ours_p99_ms": statistics.median(r["p99"] for r in ours),
        "peers": {p: median(r) for p, r in peers.items()}, "absent": {p: absent[p] for p in names if p in absent},
        "rss_kib": ours[0]["rss_kib"], "peer_rss_kib": {p: r[0]["rss_kib"] for p, r in peers.items()},
        "object_bytes": ours[0]["object_bytes"], "losses": ours[0]["losses"],
        "peer_losses": {p: r[0]["losses"] for p, r in peers.items()}, "loss_ok": loss_ok,
    }
    record["ratio_best_peer"] = min(record["peers"].values()) / record["ours_ms"] if record["peers"] else None
    return record


def main():
    chosen = sys.argv[1:] or list(MODELS)
    for name in chosen:
        if name not in MODELS:
            sys.exit(f"bench: no model {name}; there are {' '.join(MODELS)}")
    os.makedirs(WORK, exist_ok=True)
    run(CC, *FLAGS, "-o", os.path.join(WORK, "ceilings"), "tests/bench/ceilings.c", "-lopenblas", "-lpthread")
    before = {t: ceilings(t) for t in THREADS}
    records, absent = [], {}
    head = f"{'model':5} {'what':8} {'B':>4} {'thr':>3} {'ours ms':>9} {'eager':>9} {'compile':>9} {'onnxrt':>9} " \
           f"{'ratio':>6} {'of FMA':>7} {'RSS MiB':>8}  first losses"
    print(head)
    for name in chosen:
        program, arena, bound = build(name)
        _, macs, train_batches, predict_batches = MODELS[name]
        for what, batches in (("train", train_batches), ("predict", predict_batches)):
            for batch in batches:
                for threads in THREADS:
                    r = measure(program, name, what, batch, threads, absent)
                    flops = 2 * batch * macs[1 if what == "train" else 0]
                    r["fraction_of_ceiling"] = flops / (r["ours_ms"] * 1e6) / before[threads]["fma_gflops"]
                    r["arena"], r["arena_bound"] = (arena, bound) if what == "train" else (None, None)
                    r["rss"] = r["rss_kib"] * 1024
                    records.append(r)

                    def cell(p):
                        return f"{r['peers'][p]:9.3f}" if p in r["peers"] else f"{'absent' if p in r['absent'] else '-':>9}"

                    ratio = f"{r['ratio_best_peer']:5.2f}x" if r["ratio_best_peer"] else f"{'-':>6}"
                    loss = {True: "agree", False: "DIFFER", None: "not compared"}[r["loss_ok"]]
                    print(f"{name:5} {what:8} {batch:4} {threads:3} {r['ours_ms']:9.3f} {cell('eager')} {cell('compile')} "
                          f"{cell('onnxruntime')} {ratio} {100 * r['fraction_of_ceiling']:6.1f}% "
                          f"{r['rss_kib'] / 1024:8.1f}  {loss}", flush=True)
    after = {t: ceilings(t) for t in THREADS}
    for t in THREADS:
        a, b = before[t], after[t]
        drift = abs(a["fma_gflops"] - b["fma_gflops"]) / a["fma_gflops"]
        print(f"ceilings, {t} thread(s): FMA {a['fma_gflops']} and {b['fma_gflops']} GFLOP/s, sgemm {a['sgemm_gflops']} and "
              f"{b['sgemm_gflops']} GFLOP/s, triad {a['triad_gbs']} and {b['triad_gbs']} GB/s"
              + (f"; the machine was not quiet ({100 * drift:.0f} % drift): measure again" if drift > 0.15 else ""))
    for peer, why in absent.items():
        print(f"absent: {peer}: {why}")
    with open(os.path.join(B, "bench.json"), "w") as f:
        json.dump({"ceilings": {"before": before, "after": after}, "absent": absent, "records": records}, f, indent=1)
    print(f"written: {os.path.join(B, 'bench.json')}")
    if any(r["loss_ok"] is False for r in records):
        sys.exit("bench: first losses differ from a peer's; the times are not comparable")


main()
