#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The benchmark runs without peers, and what it writes has the documented form. Times are not judged.

. tests/lib.sh
suite bench

try "make bench M=m1 without peers" env OUT="$WORK/out" BENCH_OPT=-O1 CEILINGS=fma ROUND_SECONDS=0.01 \
    make bench "B=$B" "CC=$CC" M=m1 ROUNDS=1 THREADS=1 BATCH=1 PEERS= &&
    try "what it writes" python3 tests/bench/selftest.py "$WORK/out"
if make bench "B=$B" M=m99 >"$WORK/unknown.log" 2>&1; then
    fail "an unknown model is refused"
elif grep -q 'no model m99; there are m1 ' "$WORK/unknown.log"; then
    pass "an unknown model is refused"
else
    fail "an unknown model is refused" "$WORK/unknown.log"
fi

if env OUT="$WORK/out" BENCH_OPT=-O1 RUNS=5 make bench-profile "B=$B" "CC=$CC" M=m1 >"$WORK/profile.log" 2>&1 &&
    grep -q '^m1 train, B = 64' "$WORK/profile.log" && grep -q '^dense_dw  *2 ' "$WORK/profile.log" &&
    grep -q 'm1.nn:.* dense_dw f32\[' "$WORK/profile.log"; then
    pass "make bench-profile M=m1"
else
    fail "make bench-profile M=m1" "$WORK/profile.log"
fi

# The models compile without a warning, and those of PyTorch's side have the same names.
for model in tests/bench/models/*.nn; do
    name=$(basename "$model" .nn)
    if "$NNC" -Werror "$model" -o "$WORK/$name.c" >"$WORK/$name.log" 2>&1 && [ ! -s "$WORK/$name.log" ]; then
        pass "$name"
    else
        fail "$name" "$WORK/$name.log"
    fi
    case $name in growth_*) continue ;; esac
    if grep -q "^    \"$name\": " tests/bench/twins.py && grep -q "^    \"$name\": " tests/bench/suite.py; then
        pass "$name has a twin"
    else
        fail "$name has no twin"
    fi
done
finish
