#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How time and memory grow with batch, width, depth and image size, beside a peer: growth.py [TABLE...]

Every table changes one number and keeps the others. The last columns of a row say by which power of that number the
time of either side has grown since the row above; a row is marked where nnc's grows faster by more than 0.2 and nnc is
the slower one. Writes build/growth.json.

Variables: ROUNDS (1), THREADS (the last of "1 2" counts), PEERS (its first word: eager), WHAT ("train infer"), ROUND_SECONDS
(0.5), GUARD as in bench.py.
"""
import json
import math
import os
import sys

from measure import ceilings, measure, Quiet
from suite import build, CC, FLAGS, Model, OUT, run, WORK

POWERS = [1, 4, 16, 64, 256]
TABLES = {  # title: (file, what changes, its values, batch, numbers that stay)
    "mlp-batch": ("growth_mlp", "batch", POWERS, None, {}),
    "mlp-width": ("growth_mlp", "WIDTH", [64, 256, 1024], 64, {}),
    "mlp-depth": ("growth_mlp", "DEPTH", [1, 4, 16], 64, {}),
    "conv-batch": ("growth_conv", "batch", POWERS, None, {}),
    "conv-width": ("growth_conv", "WIDTH", [8, 32, 128], 16, {}),
    "conv-depth": ("growth_conv", "DEPTH", [1, 4, 16], 16, {}),
    "conv-size": ("growth_conv", "SIZE", [8, 32, 128], 4, {}),
}


def power(rows, name):
    if len(rows) < 2 or not rows[-1][name] or not rows[-2][name]:
        return None
    return math.log(rows[-1][name] / rows[-2][name]) / math.log(rows[-1]["value"] / rows[-2]["value"])


def main():
    chosen = sys.argv[1:] or list(TABLES)
    for t in chosen:
        if t not in TABLES:
            sys.exit(f"growth: no table {t}; there are {' '.join(TABLES)}")
    threads = int(os.environ.get("THREADS", "1 2").split()[-1])
    rounds, seconds = int(os.environ.get("ROUNDS", "1")), float(os.environ.get("ROUND_SECONDS", "0.5"))
    peers = os.environ.get("PEERS", "eager").split()[:1]
    os.makedirs(WORK, exist_ok=True)
    run(CC, *FLAGS, "-o", os.path.join(WORK, "ceilings"), "tests/bench/ceilings.c", "-lopenblas", "-lpthread")
    with Quiet():
        reference = {threads: ceilings(threads, "fma")["fma_gflops"]}
    peer, absent, tables = peers[0] if peers else "", {}, []
    for title in chosen:
        file, axis, values, batch, fixed = TABLES[title]
        for what in os.environ.get("WHAT", "train infer").split():
            rows = []
            print(f"{title} {what}, {threads} thread(s)" + (f", B = {batch}" if batch else ""))
            print(f"  {axis:>6} {'nnc ms':>10} {peer + ' ms':>12} {'ratio':>7} {'nnc MiB':>8} {'peer MiB':>8} {'arena MiB':>9}"
                  f" {'time^':>6} {'peer^':>6}")
            for v in values:
                defines = dict(fixed) if axis == "batch" else {**fixed, axis: v}
                name = "_".join([file] + [f"{k.lower()}{n}" for k, n in defines.items()])
                model = Model(title, [], file, defines)
                b = build(name, model)
                r, note = measure(b, model, what, batch or v, threads, peers, rounds, seconds, absent, reference)
                other = note["others"].get(peer, {})
                rows.append({"value": v, "nnc_ms": r["ours_ms"], "peer_ms": r["peers"].get(peer),
                             "nnc_rss": r["rss"], "peer_rss": other.get("rss"), "arena": r["arena"],
                             "loss_ok": r["loss_ok"]})
                row = rows[-1]
                row["nnc_power"], row["peer_power"] = power(rows, "nnc_ms"), power(rows, "peer_ms")
                row["faster_growth"] = bool(row["peer_power"] is not None and row["nnc_ms"] > row["peer_ms"]
                                            and row["nnc_power"] > row["peer_power"] + 0.2)

                def cell(x, form, width):
                    return f"{x:{width}{form}}" if x is not None else f"{'-':>{width}}"

                ratio = row["peer_ms"] / row["nnc_ms"] if row["peer_ms"] else None
                print(f"  {v:6} {row['nnc_ms']:10.3f} {cell(row['peer_ms'], '.3f', 12)} {cell(ratio, '.2f', 6)}x"
                      f" {row['nnc_rss'] / 2**20:8.1f} {cell(row['peer_rss'] and row['peer_rss'] / 2**20, '.1f', 8)}"
                      f" {row['arena'] / 2**20:9.2f} {cell(row['nnc_power'], '.2f', 6)} {cell(row['peer_power'], '.2f', 6)}"
                      + ("  grows faster than the peer" if row["faster_growth"] else "")
                      + ("" if row["loss_ok"] is not False else f"  DIFFERS: {note['differs']}"), flush=True)
            tables.append({"table": title, "what": what, "axis": axis, "batch": batch, "threads": threads, "peer": peer,
                           "rows": rows})
    for p, why in absent.items():
        print(f"absent: {p}: {why}")
    path = os.path.join(OUT, "growth.json")
    with open(path, "w") as f:
        json.dump(tables, f, indent=1)
        f.write("\n")
    print(f"written: {path}")
    if any(r["loss_ok"] is False for t in tables for r in t["rows"]):
        sys.exit("growth: first losses or outputs differ from the peer's")


main()
