#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Where the time of one cell goes: profiler.py MODEL

Reads a clock around every kernel's call and every barrier in the generated routines, builds that beside the benchmark's
own program, and prints what each call takes per run on the thread that needs longest: by operator, then the TOP (25)
longest by name. The first two runs, in which memory is touched for the first time, are left out. Barriers inside a
kernel are part of it. The clock costs about 50 ns a call, which small models notice.

Variables: WHAT (train), BATCH (the model's largest), THREADS (the last of "1 2" counts), RUNS (30), TOP (25).
"""
import os
import re
import subprocess
import sys
from collections import defaultdict

from suite import CC, FLAGS, LIBS, MODELS, NNC, OUT, run, WORK

SKIP = 2
CALL = re.compile(r"/\*(.*?)\*/|^( +)((run_\w+|nn_barrier)\([^;{}]*\);)", re.S | re.M)
HEAD = """#include <stdio.h>
#include <time.h>
enum {{ SITES = {sites}, THREADS = 64 }};
static struct {{ double ns[SITES]; long runs; }} profile[THREADS];
static double profile_now(void)
{{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}}
#define PROFILE(site, call) do {{ const double from = profile_now(); call \\
    if (profile[team->rank].runs > {skip}) profile[team->rank].ns[site] += profile_now() - from; }} while (0);
__attribute__((destructor)) static void profile_print(void)
{{
    for (int i = 0; i < THREADS; i++)
        for (int s = 0; s < SITES && profile[i].runs > {skip}; s++)
            if (profile[i].ns[s] > 0)
                fprintf(stderr, "site %d %d %.0f\\n", s, i, profile[i].ns[s] / (double)(profile[i].runs - {skip}));
}}
"""


def instrument(text, routines):
    """The program with a clock around its calls, and for each of them its kernel and what the comment above it says."""
    sites, out, at = [], [], 0
    bodies = rf"^static void (?:{'|'.join(routines)})_body\(void \*arg, const nn_team \*team\)\n\{{\n"
    for i, body in enumerate(re.finditer(bodies, text, re.M)):
        end = text.index("\n}\n", body.end())
        out += [text[at:body.end()], "    profile[team->rank].runs++;\n" if i == 0 else ""]
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
    return text[:first] + HEAD.format(sites=max(1, len(sites)), skip=SKIP) + text[first:], sites


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in MODELS:
        sys.exit(f"profile: one model of {' '.join(MODELS)}")
    name, model = sys.argv[1], MODELS[sys.argv[1]]
    what = os.environ.get("WHAT", "train").split()[0]
    batch = int(os.environ.get("BATCH", max(model.batches)))
    threads = int(os.environ.get("THREADS", "1 2").split()[-1])
    runs, top = int(os.environ.get("RUNS", "30")), int(os.environ.get("TOP", "25"))
    os.makedirs(WORK, exist_ok=True)
    c, program = os.path.join(WORK, name + ".c"), os.path.join(WORK, name + "_profile")
    source = f"tests/bench/models/{model.file or name}.nn"
    run(NNC, source, *[f"-D{k}={v}" for k, v in model.defines.items()], f"--prefix={name}", "--emit=harness", "-o", c)
    with open(c) as f:
        text = f.read()
    summary = run(NNC, source, *[f"-D{k}={v}" for k, v in model.defines.items()], "--emit=summary")
    kind = "step" if what == "train" else "infer"
    routines = re.findall(rf"^{kind} (\w+):", summary, re.M)
    text, sites = instrument(text, routines if what == "train" else routines[:1])
    with open(program + ".c", "w") as f:
        f.write(text)
    run(CC, *FLAGS, "-o", program, "tests/bench/bench.c", program + ".c", *LIBS)
    weights = program + ".safetensors"
    if os.path.exists(weights):
        os.remove(weights)
    r = subprocess.run([program, what, str(batch), str(threads), weights, program + ".out"], input=f"{runs}\n",
                       capture_output=True, text=True, env=dict(os.environ, OMP_NUM_THREADS="1"))
    if r.returncode != 0:
        sys.exit(f"profile: {program}: exit code {r.returncode}\n{r.stderr}")
    times = defaultdict(lambda: [0.0] * threads)
    for site, thread, ns in re.findall(r"^site (\d+) (\d+) (\d+)$", r.stderr, re.M):
        times[int(site)][int(thread)] = float(ns) / 1e3

    waiting = sum(min(t) for s, t in times.items() if sites[s][0] == "nn_barrier")
    calls = [(max(t), *sites[s]) for s, t in times.items() if sites[s][0] != "nn_barrier"]
    total = waiting + sum(t for t, _, _ in calls)
    groups = defaultdict(lambda: [0, 0.0])
    for t, kernel, _ in calls:
        group = groups[re.sub(r"_\d+$", "", kernel[len("run_"):])]
        group[0] += 1
        group[1] += t
    groups["barriers"] = [sum(1 for s in times if sites[s][0] == "nn_barrier"), waiting]
    print(f"{name} {what}, B = {batch}, {threads} thread(s): {total / 1e3:.3f} ms a run, {runs} runs")
    print(f"{'operator':<28} {'calls':>6} {'us':>10} {'share':>7}")
    for group, (n, t) in sorted(groups.items(), key=lambda g: -g[1][1]):
        print(f"{group:<28} {n:>6} {t:>10.1f} {t / total:>7.1%}")
    print(f"\n{'us':>10} {'share':>6}  longest calls")
    for t, kernel, comment in sorted(calls, reverse=True)[:top]:
        print(f"{t:>10.1f} {t / total:>6.1%}  {comment or kernel}")


main()
