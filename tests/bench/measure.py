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
# A round is measured again when more than these shares of the processors' time went to other machines or to other
# programs, or when the FMA ceiling was lower than the best of the run by more than that.
STEAL, OTHERS, DRIFT = 0.02, 0.03, 0.10
REALTIME_OTHERS = 0.08  # of real-time programs Linux takes a twentieth of each second for the rest
START_LIMIT = int(os.environ.get("START_LIMIT", "300"))  # seconds for a peer to come up, its compilation included
TRIES = int(os.environ.get("TRIES", "3"))  # of each round
REALTIME = os.environ.get("REALTIME") == "1"
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
    """While it is entered, GUARD, a command that runs another and keeps the machine quiet meanwhile, is running, and with
    REALTIME=1 (which needs the right to) this program and `pids` come before all ordinary programs."""

    def __init__(self, pids=()):
        self.pids = [os.getpid(), *pids]

    def schedule(self, policy, priority):
        for pid in self.pids if REALTIME else ():
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setscheduler(int(thread), policy, os.sched_param(priority))

    def __enter__(self):
        self.p = None
        if GUARD:
            self.p = subprocess.Popen([*GUARD, "sh", "-c", "echo; read end"], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
            self.p.stdout.readline()
        self.schedule(os.SCHED_FIFO, 1)
        return self

    def __exit__(self, *_):
        self.schedule(os.SCHED_OTHER, 0)
        self.ended_early = self.p is not None and self.p.poll() is not None
        if self.p:
            try:
                self.p.communicate("\n")
            except BrokenPipeError:  # it has run out of time
                self.p.wait()


def ceilings(threads, only=""):
    r = subprocess.run([os.path.join(WORK, "ceilings"), str(threads), *([only] if only else [])], capture_output=True,
                       text=True, check=True)
    return json.loads(r.stdout)


def process_ticks(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return sum(int(n) for n in f.read().rsplit(")", 1)[1].split()[11:15])  # with children it has waited for
    except (OSError, IndexError, ValueError):
        return 0


class Load:
    """What the processors did from its making to shares(): the parts stolen by other machines and taken by programs
    that are neither this one nor one of `pids`."""

    def __init__(self, pids):
        self.pids = [os.getpid(), *pids]
        self.start = self.read()

    def read(self):
        try:
            with open("/proc/stat") as f:
                ticks = [int(n) for n in f.readline().split()[1:9]]
        except (OSError, IndexError, ValueError):
            return 0, 0, 0
        user, nice, system, idle, wait, irq, soft, steal = ticks
        return sum(ticks), steal, user + nice + system - sum(process_ticks(p) for p in self.pids)

    def shares(self):
        total, steal, others = (b - a for a, b in zip(self.start, self.read()))
        return steal / max(total, 1), max(others, 0) / max(total, 1)


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
        ms = min(self.server.times(2))
        if ms < 300:
            self.server.times(5)
            ms = max(statistics.median(self.server.times(5)), 1e-3)
        self.per_round = int(max(5, min(1000 * seconds / ms, 1000), min(30, 10000 * seconds / ms)))

    def round(self):
        self.server.times(max(1, self.per_round // 10))
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
    note = {"noise": [], "differs": {}, "absent": {}}
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
        tries = []  # (how noisy, times by side); at most 1 is quiet
        while sum(noise <= 1 for noise, _ in tries) < rounds and len(tries) < TRIES * rounds:
            with Quiet([side.server.p.pid for side in sides]) as quiet:
                if ours.per_round is None:
                    for side in sides:
                        side.probe(seconds)
                load = Load([side.server.p.pid for side in sides])
                times, states = {}, [ceilings(threads, "fma")]
                for side in sides if len(tries) % 2 else sides[::-1]:
                    times[side] = side.round()
                    states.append(ceilings(threads, "fma"))
                fma, most = (f(state["fma_gflops"] for state in states) for f in (min, max))
                steal, others = load.shares()
            reference[threads] = max(reference.get(threads, 0), most)
            drift = 1 - fma / reference[threads]
            noise = math.inf if quiet.ended_early else max(steal / STEAL, others / (REALTIME_OTHERS if REALTIME else OTHERS), drift / DRIFT)
            tries.append((noise, times))
            note["fma_gflops"] = max(note.get("fma_gflops", 0), most)
            note["trip_ns"] = states[-1]["trip_ns"]  # of the last round
            if noise > 1:
                note["noise"].append(f"steal {100 * steal:.1f} %, other programs {100 * others:.1f} %, ceiling down "
                                     f"{100 * drift:.0f} %{', guard ended early' if quiet.ended_early else ''}")
        tries.sort(key=lambda t: t[0])
        note["noisy"], note["noisy_rounds"] = tries[rounds - 1][0] > 1, sum(noise > 1 for noise, _ in tries)
        for _, times in tries[:rounds]:
            for side in sides:
                side.kept.append(times[side])
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
