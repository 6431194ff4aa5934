#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the results of `make bench` and `make bench-growth` (build/*.json) between the marks of docs/benchmarks.md,
and the picture beside it."""
import json
import os
import shutil
import sys

from chart import model_number, NAMES
from suite import MODELS, OUT

DOC, PICTURE = "docs/benchmarks.md", "docs/benchmarks.svg"
BEGIN, END = "<!-- results: make bench-doc writes this part -->", "<!-- end of results -->"
TARGETS = {  # (model, what, batch): the ratio that performance is aimed at
    ("m1", "train", 1): 10, ("m2", "train", 64): 1.8, ("m3", "train", 64): 4, ("m4", "train", 128): 3,
    ("m5", "train", 64): 2.2, ("m6", "train", 16): 1.5, ("m7", "train", 8): 1.5, ("m8", "train", 64): 2,
    ("m9", "train", 64): 2, ("m10", "train", 16): 1.3, ("m11", "train", 64): 2.5, ("m12", "train", 64): 2.5,
    ("m1", "infer", 1): 5, ("m2", "infer", 1): 1.2, ("m3", "infer", 1): 3, ("m4", "infer", 1): 1.6, ("m5", "infer", 1): 1.8,
    ("m6", "infer", 1): 1.1, ("m7", "infer", 1): 1.3, ("m8", "infer", 1): 2, ("m9", "infer", 1): 2, ("m10", "infer", 1): 1.2,
    ("m11", "infer", 1): 2, ("m12", "infer", 1): 2,
}


def read(name, default=None):
    try:
        with open(os.path.join(OUT, name)) as f:
            return json.load(f)
    except OSError:
        if default is None:
            sys.exit(f"doc: no {os.path.join(OUT, name)}; make bench writes it")
        return default


def table(head, align, rows):
    return ["| " + " | ".join(head) + " |", "|" + "|".join(align) + "|"] + ["| " + " | ".join(r) + " |" for r in rows] + [""]


def ms(x):
    return f"{x:.3f}" if x < 10 else f"{x:.1f}" if x < 1000 else f"{x:.0f}"


def mib(n):
    return f"{n / 2 ** 20:.2f}" if n < 10 * 2 ** 20 else f"{n / 2 ** 20:.0f}"


def order(r):
    return (model_number(r["model"]), r["what"] != "train", r["batch"], r["threads"])


def results(records, details):
    notes = {tuple(n["cell"]): n for n in details["notes"]}
    peers = [p for p in NAMES if any(p in r["peers"] for r in records)]
    rows, last = [], None
    for r in sorted(records, key=order):
        note = notes[(r["model"], r["what"], r["batch"], r["threads"])]
        others = [o["rss"] for o in note["others"].values()]
        aim = TARGETS.get((r["model"], r["what"], r["batch"]))
        said = f"{r['ratio_best_peer']:.2f}" if r["ratio_best_peer"] else "-"
        if aim and r["ratio_best_peer"] and r["threads"] == 2:
            said += f" ({'≥' if r['ratio_best_peer'] >= aim else '<'} {aim})"
        rows.append([f"{r['model']} {MODELS[r['model']].title}" if r["model"] != last else "", r["what"], str(r["batch"]),
                     str(r["threads"]), ms(r["ours_ms"]) + ("*" if note["noisy"] else ""),
                     f"{ms(note['ours']['p10'])} .. {ms(note['ours']['p90'])}", ms(note["ours"]["p99"]),
                     *(ms(r["peers"][p]) if p in r["peers"] else "-" for p in peers), said,
                     f"{100 * r['fraction_of_ceiling']:.0f} %", mib(r["rss"]), mib(min(others)) if others else "-",
                     f"{note['trip_ns']:.0f}" if note.get("trip_ns") else "-", str(note["ours"]["steps"]), {True: "agree", False: "**differ**", None: "-"}[r["loss_ok"]]])
        last = r["model"]
    head = ["model", "what", "B", "threads", "nnc ms", "p10 .. p90", "p99", *(NAMES[p] for p in peers), "ratio", "of FMA",
            "nnc MiB", "least peer MiB", "trip ns", "runs", "losses"]
    return table(head, ["---", "---"] + ["---:"] * (len(head) - 3) + ["---"], rows)


def builds(details):
    rows = []
    for name, b in sorted(details["builds"].items(), key=lambda kv: model_number(kv[0])):
        rows.append([name, f"{b['parameters']:,}", f"{b['macs']['infer'] / 1e6:.2f}", f"{b['macs']['train'] / 1e6:.2f}",
                     f"{b['nnc_s']:.2f}", f"{b['cc_s']:.1f}", str(b["lines"]), f"{b['code_bytes'] / 1024:.0f}"]
                    + [f"{mib(b['arena'][w])} ({b['arena'][w] / max(b['bound'][w], 1):.3f})" for w in ("train", "infer")])
    return table(["model", "parameters", "MMAC infer", "MMAC train", "nnc s", "C compiler s", "lines", "code KiB",
                  "arena train MiB (over bound)", "arena infer MiB (over bound)"], ["---"] + ["---:"] * 9, rows)


def growth(tables):
    out = []
    for t in tables:
        said = f" (B = {t['batch']})" if t["batch"] else ""
        out += [f"**{t['table']}**, {t['what']}{said}, {t['threads']} thread(s):", ""]
        rows = []
        for r in t["rows"]:
            rows.append([str(r["value"]), ms(r["nnc_ms"]), ms(r["peer_ms"]) if r["peer_ms"] else "-",
                         f"{r['peer_ms'] / r['nnc_ms']:.2f}" if r["peer_ms"] else "-", mib(r["nnc_rss"]),
                         mib(r["peer_rss"]) if r["peer_rss"] else "-",
                         f"{r['nnc_power']:.2f}" if r["nnc_power"] is not None else "",
                         f"{r['peer_power']:.2f}" if r["peer_power"] is not None else ""])
        out += table([t["axis"], "nnc ms", f"{t['peer'] or 'peer'} ms", "ratio", "nnc MiB", "peer MiB", "nnc grows by power",
                      "peer by"], ["---:"] * 8, rows)
    return out


def main():
    records, details, tables = read("bench.json"), read("bench-details.json"), read("growth.json", [])
    m, c = details["machine"], details["ceilings"]
    versions = sorted({f"{NAMES[p]} {o['version']}" for n in details["notes"] for p, o in n["others"].items()})
    absent = {}  # reason by peer: the cells
    for n in details["notes"]:
        for p, why in n["absent"].items():
            absent.setdefault((p, why), []).append(f"{n['cell'][0]} {n['cell'][1]} B={n['cell'][2]}")
    out = [BEGIN, "", f"{m['processor']}, {m['processors']} processors, {m['system']}; {m['compiler']}, `{m['flags']}`; "
           + ", ".join(versions) + f". Rounds: {details['rounds']}, each of {details['seconds']} s a "
           "program" + (", at real-time priority on a machine where other programs ran" if details["realtime"] else "")
           + ".", ""]
    rows = []
    for t in sorted(c["before"], key=int):
        x, y = c["before"][t], c["after"].get(t, {})
        rows.append([t] + [f"{x[k] or '-'} / {y.get(k) or '-'}" for k in ("fma_gflops", "sgemm_gflops", "triad_gbs")])
    out += table(["threads", "FMA GFLOP/s, first / last", "sgemm GFLOP/s", "triad GB/s"], ["---:"] * 4, rows)
    out += ["![every model as a fraction of the ceiling](benchmarks.svg)", ""]
    out += results(records, details)
    if any(n["noisy"] for n in details["notes"]):
        out += ["\\* other programs ran meanwhile, and no round was quiet: the least noisy one.", ""]
    noisy = sum(n["noisy_rounds"] for n in details["notes"])
    out += [f"Rounds discarded as noisy: {noisy}.", ""]
    for (p, why), cells in sorted(absent.items()):
        out += [f"{NAMES[p]} is absent for {', '.join(cells)}: {why}", ""]
    out += builds(details)
    if tables:
        out += ["### Growth", ""] + growth(tables)
    out.append(END)
    with open(DOC) as f:
        doc = f.read()
    if BEGIN not in doc or END not in doc:
        sys.exit(f"doc: {DOC} has no marks to write between")
    doc = doc[:doc.index(BEGIN)] + "\n".join(out) + doc[doc.index(END) + len(END):]
    with open(DOC, "w") as f:
        f.write(doc)
    shutil.copy(os.path.join(OUT, "bench.svg"), PICTURE)
    print(f"written: {DOC}, {PICTURE}")


main()
