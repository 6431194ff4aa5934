# SPDX-License-Identifier: MIT
"""Rounds of nnc's program and its peers, one after the other, on a machine that is checked to be quiet.

Each program is a server (bench.c, peer.py): it starts once, shows its first losses or outputs, and then runs as often
as it is asked, so that A/B rounds cost neither starts nor compilations.
"""
import array
import json
import math
import os
import select
import statistics
import subprocess
import sys
import time

from suite import B, WORK

PYTHON = os.path.join(B, "venv", "bin", "python")
TOLERANCE = 1e-5          # first losses, relative, and outputs, relative L2
AFTER_UPDATES = 1e-2      # losses after one and two updates, which amplify rounding
STEAL, DRIFT = 0.02, 0.10  # a round with more of either is measured again
START_LIMIT = int(os.environ.get("START_LIMIT", "300"))  # seconds for a peer to come up, its compilation included
GUARD = os.environ.get("GUARD", "").split()


class Absent(Exception):
    """A peer that is not installed or cannot run a model; the text says why."""


class Server:
    def __init__(self, command, threads, log):
        self.log = log
        with open(log, "w") as f:
            self.p = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=f, text=True, bufsize=1,
                                      env=dict(os.environ, OMP_NUM_THREADS=str(threads)))

    def answer(self, limit):
        if not select.select([self.p.stdout], [], [], limit)[0]:
            self.kill()
            raise Absent(f"no answer within {limit} s")
        line = self.p.stdout.readline()
        if line:
            return json.loads(line)
        code = self.p.wait()
        with open(self.log) as f:
            said = f.read().strip()
        if code == 3:
            raise Absent(said.splitlines()[-1] if said else "no reason given")
        self.kill()
        sys.exit(f"bench: {' '.join(self.p.args)}: exit code {code}\n{said}")

    def times(self, n):
        self.p.stdin.write(f"{n}\n")
        return self.answer(3600)["ms"]

    def finish(self):
        self.p.stdin.close()
        last = self.answer(60)
        self.p.wait()
        return last

    def kill(self):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()


class Quiet:
    """While it is entered, GUARD, a command that runs another and keeps the machine quiet meanwhile, is running."""

    def __enter__(self):
        self.p = None
        if GUARD:
            self.p = subprocess.Popen([*GUARD, "sh", "-c", "echo; read end"], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
            self.p.stdout.readline()
        return self

    def __exit__(self, *_):
        if self.p:
            try:
                self.p.communicate("\n")
            except BrokenPipeError:  # it has run out of time
                self.p.wait()


def ceilings(threads, only=""):
    r = subprocess.run([os.path.join(WORK, "ceilings"), str(threads), *([only] if only else [])], capture_output=True,
                       text=True, check=True)
    return json.loads(r.stdout)


def cpu_ticks():
    """All ticks of all processors, and those stolen by other machines."""
    try:
        with open("/proc/stat") as f:
            ticks = [int(n) for n in f.readline().split()[1:9]]
        return sum(ticks), ticks[7]
    except (OSError, IndexError, ValueError):
        return 0, 0


def close(a, b, tolerance):
    """False for NaN and infinities."""
    return abs(a - b) <= tolerance * max(abs(a), abs(b)) < math.inf


def read_floats(path):
    with open(path, "rb") as f:
        return array.array("f", f.read())


def distance(a, b):
    """Relative L2; infinite for different lengths."""
    if len(a) != len(b):
        return math.inf
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b))) / math.sqrt(sum(y * y for y in b))


class Side:
    """nnc's program (peer "nnc") or a peer, with what it has shown."""

    def __init__(self, peer, name, file, defines, what, batch, threads, n_steps):
        stem = os.path.join(WORK, name)
        self.output = f"{stem}.{peer}.out"
        numbers = [what, batch, threads, stem + ".safetensors", self.output]
        if peer == "nnc":
            command = [stem, *numbers]
        elif not os.path.exists(PYTHON):
            raise Absent(f"no {PYTHON}; make bench-deps installs it")
        else:
            command = [PYTHON, "tests/bench/peer.py", file, *numbers, peer, *(f"{k}={v}" for k, v in defines.items())]
        self.peer, self.what, self.n_steps = peer, what, n_steps
        self.server = Server(command, threads, f"{stem}.{peer}.log")
        self.first = self.server.answer(START_LIMIT)
        self.kept, self.per_round = [], None

    def difference(self, other):
        """None when the first losses or outputs are those of another side, else a sentence."""
        if self.what == "infer":
            d = distance(read_floats(self.output), read_floats(other.output))
            return None if d <= TOLERANCE else f"outputs differ by {d:.1e}"
        a, b = self.first["losses"], other.first["losses"]
        if len(a) != len(b) or not a:
            return f"{len(a)} and {len(b)} losses"
        for i, (x, y) in enumerate(zip(a, b)):
            if not close(x, y, TOLERANCE if i < len(a) // 3 else AFTER_UPDATES):
                return f"loss {i + 1} of {len(a)} is {x:.9g} and {y:.9g}"
        return None

    def probe(self, seconds):
        """How many runs a round has: about `seconds` of them, at least 30, fewer where 30 take ten times as long."""
        self.server.times(2)
        ms = max(min(self.server.times(3)), 1e-3)
        self.per_round = int(max(5, min(1000 * seconds / ms, 1000), min(30, 10000 * seconds / ms)))

    def round(self):
        self.server.times(max(2, self.per_round // 10))
        return self.server.times(self.per_round)

    def result(self):
        memory = self.server.finish()
        ms = sorted(t for r in self.kept for t in r)
        return {"ms": statistics.median(ms), "p10": ms[len(ms) // 10], "p90": ms[len(ms) * 9 // 10],
                "p99": ms[min(len(ms) * 99 // 100, len(ms) - 1)], "steps": len(ms), "rss": memory["rss_kib"] * 1024,
                "version": self.first.get("version")}


def measure(built, model, what, batch, threads, peers, rounds, seconds, absent, reference):
    """One record: times of both sides over quiet rounds. `absent` collects reasons by peer, `reference` the best FMA
    ceiling seen by threads."""
    file = model.file or built.name
    note = {"noisy_rounds": 0, "noise": [], "differs": {}, "absent": {}}
    common = (built.name, file, model.defines, what, batch, threads, 0)
    weights = os.path.join(WORK, built.name + ".safetensors")
    if os.path.exists(weights):
        os.remove(weights)
    sides, every = [], []
    try:
        ours = Side("nnc", *common)
        every.append(ours)
        sides.append(ours)
        for peer in peers:
            if peer in absent:
                note["absent"][peer] = absent[peer]
                continue
            try:
                side = Side(peer, *common)
            except Absent as e:
                note["absent"][peer] = str(e)
                continue
            every.append(side)
            why = side.difference(ours)
            if why:
                note["differs"][peer] = why
            else:
                sides.append(side)
        tries = 0
        while len(ours.kept) < rounds:
            tries += 1
            with Quiet():
                if ours.per_round is None:
                    for side in sides:
                        side.probe(seconds)
                total, stolen = cpu_ticks()
                times = {}
                order = sides if tries % 2 else sides[::-1]
                for side in order:
                    times[side] = side.round()
                fma = ceilings(threads, "fma")["fma_gflops"]
                total, stolen = (b - a for a, b in zip((total, stolen), cpu_ticks()))
            reference[threads] = max(reference.get(threads, 0), fma)
            steal, drift = stolen / max(total, 1), 1 - fma / reference[threads]
            noisy = steal > STEAL or drift > DRIFT
            if noisy:
                note["noisy_rounds"] += 1
                note["noise"].append(f"steal {100 * steal:.1f} %, ceiling down {100 * drift:.0f} %")
            if not noisy or tries >= 3 * rounds:
                for side in sides:
                    side.kept.append(times[side])
                note["noisy"] = note.get("noisy", False) or noisy
        results = {side.peer: side.result() for side in sides}
    finally:
        for side in every:
            side.server.kill()
    mine = results.pop("nnc")
    compared = len(sides) - 1 + len(note["differs"])
    record = {
        "model": built.name, "batch": batch, "threads": threads, "what": what, "ours_ms": mine["ms"],
        "peers": {p: r["ms"] for p, r in results.items()},
        "ratio_best_peer": min(r["ms"] for r in results.values()) / mine["ms"] if results else None,
        "fraction_of_ceiling": 2e-6 * batch * built.macs[what] / mine["ms"] / reference[threads],
        "rss": mine["rss"], "arena": built.arena[what], "arena_bound": built.bound[what],
        "loss_ok": not note["differs"] if compared else None,
    }
    note.update(gflop=2e-9 * batch * built.macs[what], ours=mine, others=results, losses=ours.first["losses"])
    return record, note
