#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of the benchmark itself on what a run without peers has written: selftest.py DIR"""
import json
import math
import sys
import xml.etree.ElementTree as tree

import chart
import measure

out = sys.argv[1]
with open(f"{out}/bench.json") as f:
    records = json.load(f)
with open(f"{out}/bench-details.json") as f:
    details = json.load(f)

# The records are what docs/benchmarks.md says they are.
types = {"model": str, "batch": int, "threads": int, "what": str, "ours_ms": float, "peers": dict,
         "ratio_best_peer": type(None), "fraction_of_ceiling": float, "rss": int, "arena": int, "arena_bound": int,
         "loss_ok": type(None)}
assert [(r["what"], r["batch"]) for r in records] == [("train", 1), ("infer", 1)], records
for r in records:
    assert list(r) == list(types), list(r)
    for name, kind in types.items():
        assert isinstance(r[name], kind), (name, r[name])
    assert r["model"] == "m1" and r["peers"] == {} and r["ours_ms"] > 0 and 0 < r["fraction_of_ceiling"] < math.inf
    assert r["arena"] >= r["arena_bound"] > 0 and r["rss"] > 1 << 20
note = details["notes"][0]
assert note["ours"]["steps"] >= 5 and len(note["losses"]) == 3 and note["losses"][0] > note["losses"][2] > 0, note
assert note["ours"]["p10"] <= note["ours"]["ms"] <= note["ours"]["p90"] <= note["ours"]["p99"], note
# 784 x 64 + 64 x 10 multiply-accumulates; in training three times as many less the first layer's input gradient.
assert details["builds"]["m1"]["macs"] == {"infer": 50816, "train": 3 * 50816 - 50176}, details["builds"]

# A picture that an XML parser reads, with a bar for a peer.
for r, n in zip(records, details["notes"]):
    r["peers"]["eager"] = 2 * r["ours_ms"]
    n["others"]["eager"] = dict(n["ours"], version="0")
picture = tree.fromstring(chart.svg(records, details))
assert sum(1 for e in picture.iter() if e.get("fill") == chart.COLOURS["eager"]) == 3  # two bars and the legend

# Different numbers are seen, and NaN never agrees.
assert measure.close(1.0, 1.000009, 1e-5) and not measure.close(1.0, 1.00002, 1e-5)
assert not measure.close(math.nan, math.nan, 1e-5) and not measure.close(1.0, math.inf, 1e-5)
assert measure.distance([3.0, 4.0], [3.0, 4.0]) == 0 and measure.distance([1.0], [1.0, 2.0]) == math.inf
assert not measure.distance([math.nan], [1.0]) <= measure.TOLERANCE


class Shown:
    def __init__(self, *losses):
        self.what, self.first = "train", {"losses": list(losses)}


def difference(a, b):
    return measure.Side.difference(a, b)


assert difference(Shown(2.0, 1.0, 0.5), Shown(2.00001, 1.001, 0.501)) is None
assert "loss 1 of 3" in difference(Shown(2.0, 1.0, 0.5), Shown(2.0001, 1.0, 0.5))
assert "loss 2 of 3" in difference(Shown(2.0, 1.0, 0.5), Shown(2.0, 1.1, 0.5))
assert "loss 3 of 3" in difference(Shown(2.0, 1.0, math.nan), Shown(2.0, 1.0, math.nan))
assert difference(Shown(), Shown())

# A program that stops is not waited for.
for command, said in ((["sh", "-c", "echo no such thing >&2; exit 3"], "no such thing"), (["sleep", "5"], "no answer")):
    server = measure.Server(command, 1, f"{out}/selftest.log")
    try:
        server.answer(0.2)
        raise AssertionError(command)
    except measure.Absent as e:
        assert said in str(e), e
print("good")
