#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Averaged weights, scheduled hypers and rrelu in a program (training.c).

. tests/lib.sh
suite training

if "$NNC" tests/e2e/models/training.nn -o "$WORK/training.c" >"$WORK/log" 2>&1 &&
    "$CC" $NN_FLAGS -O1 -Wall -Wextra -Werror -I"$WORK" -o "$WORK/training" tests/e2e/training.c "$WORK/training.c" "$NNLIB" $NN_LIBS >"$WORK/log" 2>&1; then
    timeout 60 "$WORK/training" "$WORK/weights.safetensors" >"$WORK/lines" 2>"$WORK/log"
    code=$?
    while read -r result what; do
        if [ "$result" = ok ]; then pass "$what"; else fail "$what"; fi
    done <"$WORK/lines"
    if [ $code = 0 ]; then pass "ends well"; else fail "ended with $code" "$WORK/log"; fi
else
    fail "builds" "$WORK/log"
fi
finish
