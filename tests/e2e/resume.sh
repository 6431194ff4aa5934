#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Interrupted equals uninterrupted: a run stopped and resumed, or killed at any moment and resumed, ends with the same
# bytes as one that was never interrupted. tests/e2e/resume.sh [KILLS] (12).

. tests/lib.sh
suite resume
kills=${1:-12}

if "$NNC" tests/e2e/models/resume.nn -o "$WORK/resume.c" >"$WORK/build.log" 2>&1 &&
    "$CC" $NN_FLAGS -O2 -Wall -Wextra -I"$WORK" -o "$WORK/resume" tests/e2e/resume.c "$WORK/resume.c" "$NNLIB" $NN_LIBS >>"$WORK/build.log" 2>&1; then
    pass "builds"
else
    fail "builds" "$WORK/build.log"
    finish
    exit 1
fi

try "uninterrupted run" "$WORK/resume" "$WORK/whole.st" 60 1 1000
try "run with two threads" "$WORK/resume" "$WORK/threads.st" 60 2 1000
try "two threads, same bytes" cmp "$WORK/whole.st" "$WORK/threads.st"
try "first part" "$WORK/resume" "$WORK/parts.st" 17 1 1000
try "second part" "$WORK/resume" "$WORK/parts.st" 41 2 1000
try "third part" "$WORK/resume" "$WORK/parts.st" 60 1 1000
try "three parts, same bytes" cmp "$WORK/whole.st" "$WORK/parts.st"

# Killed while it trains and saves after every update. The checkpoint must load after every kill.
STEPS=4000
try "uninterrupted long run" "$WORK/resume" "$WORK/long.st" $STEPS 1 1000000
i=0 survived=0
while [ $i -lt "$kills" ]; do
    i=$((i + 1))
    "$WORK/resume" "$WORK/killed.st" $STEPS 1 1 2>"$WORK/kill.$i.err" &
    pid=$!
    sleep "0.$((i * 37 % 17 + 3))"
    kill -9 $pid 2>/dev/null && survived=$((survived + 1))
    wait $pid 2>/dev/null
    if [ -s "$WORK/kill.$i.err" ]; then fail "kill $i: the checkpoint is whole" "$WORK/kill.$i.err"; else pass "kill $i: the checkpoint is whole"; fi
done
if [ $survived -gt 0 ]; then pass "runs were killed in the middle"; else fail "no run was killed in the middle: raise STEPS"; fi
try "the last run ends" "$WORK/resume" "$WORK/killed.st" $STEPS 1 100000
try "killed and resumed, same bytes" cmp "$WORK/long.st" "$WORK/killed.st"

# Damage is found: every bit of a byte in the header and in the data, and truncation.
if command -v python3 >/dev/null; then
    cat >"$WORK/damage.py" <<'PY'
import subprocess, sys
program, good, bad = sys.argv[1:4]
data = open(good, "rb").read()
missed = []
places = list(range(0, len(data), max(1, len(data) // 60))) + [len(data) - 1]
def refused(what, content):
    open(bad, "wb").write(content)
    r = subprocess.run([program, bad, "0", "1"], capture_output=True)
    if r.returncode != 5:
        missed.append(f"{what}: exit code {r.returncode}")
for i in places:
    flipped = bytearray(data)
    flipped[i] ^= 1 << (i % 8)
    refused(f"bit {i % 8} of byte {i}", bytes(flipped))
for i in places:
    refused(f"cut to {i} bytes", data[:i])
refused("one byte more", data + b"\0")
print("\n".join(missed))
sys.exit(1 if missed else 0)
PY
    try "flipped bits, cuts and extra bytes are found" python3 "$WORK/damage.py" "$WORK/resume" "$WORK/whole.st" "$WORK/bad.st"
else
    skip "flipped bits, cuts and extra bytes are found" "python3 is not installed"
fi
finish
