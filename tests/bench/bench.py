#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Times the benchmark's models against their peers: bench.py [MODEL...]

Ceilings of the machine first and last; for every model, batch size and number of threads, rounds of nnc's program and
each peer in turn. Before anything is timed, first losses and outputs of both are compared. Prints tables and writes
build/bench.json (the records), build/bench-details.json (spread, percentiles, memory of the peers, ceilings,
compilation) and build/bench.svg.

Variables: ROUNDS (3), THREADS ("1 2"), PEERS ("eager compile onnxruntime"; channels_last is another), WHAT ("train
infer"), BATCH (all of the model), ROUND_SECONDS (of each program, 1), START_LIMIT (seconds for a peer to start and
compile, 300), TRIES (of a round on a busy machine, 3), GUARD (a command that runs each round, given as its arguments, and keeps the machine quiet meanwhile),
REALTIME=1 (rounds run before all ordinary programs; for a machine that is not yours alone).
KEEP=1 keeps the records of other models and cells that the files hold. OUT=DIR writes there, not to build.
CEILINGS=fma leaves out the ceilings that take seconds.
"""
import json
import os
import platform
import sys

import chart
from measure import ceilings, measure, Quiet
from suite import build, CC, FLAGS, MODELS, OUT, run, WORK

RECORD = ["model", "batch", "threads", "what", "ours_ms", "peers", "ratio_best_peer", "fraction_of_ceiling", "rss",
          "arena", "arena_bound", "loss_ok"]
PEERS = ["eager", "compile", "channels_last", "onnxruntime"]
SHORT = {"eager": "eager", "compile": "compile", "channels_last": "chan.last", "onnxruntime": "onnxrt"}


def words(name, default):
    return os.environ.get(name, default).split()


def mib(n):
    return n / 2 ** 20


def row_text(r, note, peers):
    def cell(p):
        if p in r["peers"]:
            return f"{r['peers'][p]:10.3f}"
        return f"{'differs' if p in note['differs'] else 'absent' if p in note['absent'] else '-':>10}"

    ratio = f"{r['ratio_best_peer']:6.2f}x" if r["ratio_best_peer"] else f"{'-':>7}"
    loss = {True: "agree", False: "DIFFER", None: "not compared"}[r["loss_ok"]]
    others = [mib(o["rss"]) for o in note["others"].values()]
    return (f"{r['model']:5} {r['what']:5} {r['batch']:4} {r['threads']:3} {r['ours_ms']:10.3f} "
            + " ".join(cell(p) for p in peers)
            + f" {ratio} {100 * r['fraction_of_ceiling']:6.1f}% {note['ours']['p10']:9.3f}..{note['ours']['p90']:<9.3f}"
            f" {note['ours']['p99']:9.3f} {note['ours']['steps']:5} {mib(r['rss']):7.1f}"
            f" {min(others) if others else 0:8.1f}  {loss}{', noisy' if note['noisy'] else ''}")


def machine():
    model = "processor unknown"
    try:
        with open("/proc/cpuinfo") as f:
            for line in f:
                if line.startswith("model name"):
                    model = line.split(":", 1)[1].strip()
                    break
    except OSError:
        pass
    return {"processor": model, "processors": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}",
            "compiler": run(CC, "--version").splitlines()[0], "flags": " ".join(f for f in FLAGS if not f.startswith("-I"))}


def read_old(path, empty):
    try:
        with open(path) as f:
            return json.load(f)
    except (OSError, ValueError):
        return empty


def key(r):
    return [r["model"], r["what"], r["batch"], r["threads"]]


def save(records, notes, builds, before, after, rounds):
    """Writes what there is so far; the best ceiling of the run counts, also for what was measured before it was seen."""
    for r, note in zip(records, notes):
        best = max([n["fma_gflops"] for n in notes if n["cell"][3] == r["threads"]]
                   + [c[r["threads"]]["fma_gflops"] for c in (before, after) if c])
        r["fraction_of_ceiling"] = note["gflop"] / (r["ours_ms"] * 1e-3) / best
        note["ceiling_gflops"] = best
    paths = [os.path.join(OUT, name) for name in ("bench.json", "bench-details.json", "bench.svg")]
    details = {"machine": machine(), "ceilings": {"before": before, "after": after}, "rounds": rounds,
               "seconds": float(os.environ.get("ROUND_SECONDS", "1")), "realtime": os.environ.get("REALTIME") == "1",
               "builds": builds, "notes": notes}
    if os.environ.get("KEEP"):
        old = read_old(paths[1], {"notes": [], "builds": {}})
        new = [n["cell"] for n in notes]
        records = [r for r in read_old(paths[0], []) if key(r) not in new] + records
        details["notes"] = [n for n in old["notes"] if n["cell"] not in new] + notes
        details["builds"] = {**old["builds"], **builds}
        for when, new in details["ceilings"].items():
            kept = old.get("ceilings", {}).get(when, {})
            details["ceilings"][when] = {**kept, **{str(t): c for t, c in new.items()}}
    for path, data in zip(paths, (records, details)):
        with open(path, "w") as f:
            json.dump(data, f, indent=1)
            f.write("\n")
    with open(paths[2], "w") as f:
        f.write(chart.svg(records, details))
    return paths


def main():
    chosen = sys.argv[1:] or list(MODELS)
    for name in chosen:
        if name not in MODELS:
            sys.exit(f"bench: no model {name}; there are {' '.join(MODELS)}")
    rounds, seconds = int(os.environ.get("ROUNDS", "3")), float(os.environ.get("ROUND_SECONDS", "1"))
    threads = [int(t) for t in words("THREADS", "1 2")]
    batches = [int(b) for b in words("BATCH", "")]
    peers, kinds = words("PEERS", "eager compile onnxruntime"), words("WHAT", "train infer")
    for p in peers:
        if p not in PEERS:
            sys.exit(f"bench: no peer {p}; there are {' '.join(PEERS)}")
    only = "fma" if os.environ.get("CEILINGS") == "fma" else ""
    os.makedirs(WORK, exist_ok=True)
    run(CC, *FLAGS, "-o", os.path.join(WORK, "ceilings"), "tests/bench/ceilings.c", "-lopenblas", "-lpthread")
    with Quiet():
        before = {t: ceilings(t, only) for t in threads}
    reference = {t: c["fma_gflops"] for t, c in before.items()}

    records, notes, builds, absent = [], [], {}, {}
    print(f"{'':5} {'':5} {'B':>4} {'thr':>3} {'nnc ms':>10} " + " ".join(f"{SHORT[p]:>10}" for p in peers)
          + f" {'ratio':>7} {'of FMA':>7} {'p10':>9}..{'p90':9} {'p99':>9} {'steps':>5} {'RSS MiB':>7} {'peer':>8}  losses")
    for name in chosen:
        model = MODELS[name]
        b = build(name, model)
        builds[name] = {"title": model.title, "parameters": b.parameters, "nnc_s": b.nnc_s, "cc_s": b.cc_s,
                        "lines": b.lines, "code_bytes": b.code_bytes, "macs": b.macs, "arena": b.arena,
                        "bound": b.bound}
        for what in kinds:
            for batch in (model.batches if what == "train" else model.infer_batches()):
                for t in threads:
                    if batches and batch not in batches:
                        continue
                    asked = [p for p in peers if not (p == "onnxruntime" and what == "train")]
                    r, note = measure(b, model, what, batch, t, asked, rounds, seconds, absent, reference)
                    assert list(r) == RECORD
                    records.append(r)
                    notes.append(dict(cell=key(r), **note))
                    save(records, notes, builds, before, {}, rounds)
                    print(row_text(r, note, peers), flush=True)
                    for p, why in {**note["absent"], **note["differs"]}.items():
                        print(f"      {p}: {why}")
                    if note["noisy_rounds"]:
                        print(f"      {note['noisy_rounds']} noisy round(s), "
                              f"{'the least noisy kept' if note['noisy'] else 'discarded'}: {note['noise'][-1]}")
    with Quiet():
        after = {t: ceilings(t, only) for t in threads}
    print(f"\n{'':5} {'parameters':>12} {'nnc s':>6} {'cc s':>6} {'lines':>6} {'code KiB':>8}  "
          "arena / lower bound MiB: train, infer")
    for name, b in builds.items():
        memory = ", ".join(f"{mib(b['arena'][w]):.2f} / {mib(b['bound'][w]):.2f} ({b['arena'][w] / max(b['bound'][w], 1):.3f})"
                           for w in ("train", "infer"))
        print(f"{name:5} {b['parameters']:12,} {b['nnc_s']:6.2f} {b['cc_s']:6.1f} {b['lines']:6} "
              f"{b['code_bytes'] / 1024:8.0f}  {memory}")
    for t in threads:
        x, y = before[t], after[t]
        drift = abs(x["fma_gflops"] - y["fma_gflops"]) / x["fma_gflops"]
        rest = (f", sgemm {x['sgemm_gflops']} and {y['sgemm_gflops']} GFLOP/s, triad {x['triad_gbs']} and "
                f"{y['triad_gbs']} GB/s") if not only else ""
        print(f"ceilings, {t} thread(s), first and last: FMA {x['fma_gflops']} and {y['fma_gflops']} GFLOP/s{rest}"
              + (f"; {100 * drift:.0f} % drift: the machine was not quiet" if drift > 0.1 else ""))

    paths = save(records, notes, builds, before, after, rounds)
    print("written: " + ", ".join(paths))
    if any(r["loss_ok"] is False for r in records):
        sys.exit("bench: first losses or outputs differ from a peer's, which was then not timed")


main()
