#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Where the time of one cell goes: profiler.py MODEL

Reads a clock around every kernel's call, every barrier and the update in the generated routine, builds that beside the
benchmark's own program, and prints what each call takes in the median run, on the thread that needs longest: by
operator, then the TOP (25) longest by name. What is left of the median run, mostly elementwise loops, is "rest".
Barriers inside a kernel are part of it. The clock costs about 50 ns a call, which small models notice.

Variables: WHAT (train), BATCH (the model's largest), THREADS (the last of "1 2" counts), RUNS (30), TOP (25).
"""
import json
import os
import re
import statistics
import subprocess
import sys
from collections import defaultdict

from suite import CC, FLAGS, LIBS, MODELS, NNC, OUT, run, source_of, WORK

# The first runs: memory is touched for the first time, and calls run alone and by all threads to find out which is
# faster (runtime/trial.h: eight each).
SKIP = 18
CALL = re.compile(r"/\*(.*?)\*/|^( +(?:if \(a->apply\) )?)((run_\w+|nn_barrier|\w+_update)\([^;{}]*\);)", re.S | re.M)
COUNT = "    profile_runs[team->rank] += profile_runs[team->rank] < RUNS - 1;\n"
HEAD = """#include <stdio.h>
#include <time.h>
enum {{ SITES = {sites}, THREADS = {threads}, RUNS = {runs} }};
static double profile_ns[THREADS][RUNS][SITES];
static int profile_runs[THREADS];
static double profile_now(void)
{{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}}
#define PROFILE(site, call) {{ const double from = profile_now(); call \\
    profile_ns[team->rank][profile_runs[team->rank]][site] += profile_now() - from; }}
__attribute__((destructor)) static void profile_print(void)
{{
    for (int i = 0; i < THREADS; i++)
        for (int r = {skip}; r <= profile_runs[i]; r++)
            for (int s = 0; s < SITES; s++) fprintf(stderr, "site %d %d %.0f\\n", s, i, profile_ns[i][r][s]);
}}
"""


def instrument(text, routines, threads, runs):
    """The program with a clock around its calls, and for each of them its kernel and what the comment above it says."""
    sites, out, at = [], [], 0
    bodies = rf"^static void (?:{'|'.join(routines)})_body\(void \*arg, const nn_team \*team\)\n\{{\n"
    for i, body in enumerate(re.finditer(bodies, text, re.M)):
        end = text.index("\n}\n", body.end())
        out += [text[at:body.end()], COUNT if i == 0 else ""]
        at, comment = body.end(), ""
        for m in CALL.finditer(text, body.end(), end):
            if m.group(1) is not None:
                comment = " ".join(m.group(1).split())
                continue
            out += [text[at:m.start(2)], m.group(2), f"PROFILE({len(sites)}, {m.group(3)})"]
            at = m.end(3)
            sites.append((m.group(4), comment))
    out.append(text[at:])
    text = "".join(out)
    first = text.index("NN_OUTLINE")
    head = HEAD.format(sites=max(1, len(sites)), threads=threads, runs=runs, skip=SKIP)
    return text[:first] + head + text[first:], sites


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in MODELS:
        sys.exit(f"profile: one model of {' '.join(MODELS)}")
    name, model = sys.argv[1], MODELS[sys.argv[1]]
    what = os.environ.get("WHAT", "train").split()[0]
    batch = int(os.environ.get("BATCH", max(model.batches)))
    threads = int(os.environ.get("THREADS", "1 2").split()[-1])
    runs, top = int(os.environ.get("RUNS", "30")), int(os.environ.get("TOP", "25"))
    if runs < 1:
        sys.exit(f"profile: RUNS={runs}, but at least one is needed")
    os.makedirs(WORK, exist_ok=True)
    c, program = os.path.join(WORK, name + ".c"), os.path.join(WORK, name + "_profile")
    source = source_of(name, model)
    run(NNC, *source, f"--prefix={name}", "--emit=harness", "-o", c)
    with open(c) as f:
        text = f.read()
    summary = run(NNC, *source, "--emit=summary")
    kind = "step" if what == "train" else "infer"
    routines = re.findall(rf"^{kind} (\w+):", summary, re.M)
    text, sites = instrument(text, routines if what == "train" else routines[:1], threads, SKIP + runs + 8)
    with open(program + ".c", "w") as f:
        f.write(text)
    run(CC, *FLAGS, "-o", program, "tests/bench/bench.c", program + ".c", *LIBS)
    weights = program + ".safetensors"
    if os.path.exists(weights):
        os.remove(weights)
    r = subprocess.run([program, what, str(batch), str(threads), weights, program + ".out"], input=f"{SKIP + runs}\n",
                       capture_output=True, text=True, env=dict(os.environ, OMP_NUM_THREADS="1"))
    if r.returncode != 0:
        sys.exit(f"profile: {program}: exit code {r.returncode}\n{r.stderr}")
    all_runs = defaultdict(list)
    for site, thread, ns in re.findall(r"^site (\d+) (\d+) (\d+)$", r.stderr, re.M):
        all_runs[int(site), int(thread)].append(float(ns) / 1e3)
    times = defaultdict(lambda: [0.0] * threads)
    for (site, thread), us in all_runs.items():
        times[site][thread] = statistics.median(us)
    whole = 1e3 * statistics.median(json.loads(r.stdout.splitlines()[1])["ms"][SKIP:])

    waiting = sum(min(t) for s, t in times.items() if sites[s][0] == "nn_barrier")
    calls = [(max(t), *sites[s]) for s, t in times.items() if sites[s][0] != "nn_barrier"]
    total = max(whole, waiting + sum(t for t, _, _ in calls))
    groups = defaultdict(lambda: [0, 0.0])
    for t, kernel, _ in calls:
        group = groups[re.sub(r"_\d+$", "", kernel.removeprefix("run_"))]
        group[0] += 1
        group[1] += t
    groups["barriers"] = [sum(1 for s in times if sites[s][0] == "nn_barrier"), waiting]
    groups["rest"] = [0, total - waiting - sum(t for t, _, _ in calls)]
    print(f"{name} {what}, B = {batch}, {threads} thread(s): {total / 1e3:.3f} ms a run, {runs} runs")
    print(f"{'operator':<28} {'calls':>6} {'us':>10} {'share':>7}")
    for group, (n, t) in sorted(groups.items(), key=lambda g: -g[1][1]):
        print(f"{group:<28} {n:>6} {t:>10.1f} {t / total:>7.1%}")
    print(f"\n{'us':>10} {'share':>6}  longest calls")
    for t, kernel, comment in sorted(calls, reverse=True)[:top]:
        print(f"{t:>10.1f} {t / total:>6.1%}  {comment if kernel.startswith('run_') else kernel}")


main()
