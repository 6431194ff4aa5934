#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What infer routines keep from call to call (kept.c): never older than the weights, with and without BLAS, and the same
# bits as without keeping anything.

. tests/lib.sh
suite kept

run() { # NAME OPTIONS...: every line that the program prints is a test; the last answers go to NAME.bits
    name=$1
    shift
    mkdir -p "$WORK/$name"
    if ! "$NNC" "$@" tests/e2e/models/kept.nn -o "$WORK/$name/kept.c" >"$WORK/$name.log" 2>&1 ||
        ! "$CC" $NN_FLAGS -O2 -Wall -Werror -I"$WORK/$name" -o "$WORK/$name/app" tests/e2e/kept.c "$WORK/$name/kept.c" \
            "$NNLIB" $NN_LIBS >"$WORK/$name.log" 2>&1; then
        fail "$name: does not build" "$WORK/$name.log"
        return
    fi
    timeout 120 "$WORK/$name/app" >"$WORK/$name.lines" 2>"$WORK/$name.bits"
    code=$?
    while read -r result what; do
        if [ "$result" = ok ]; then pass "$name: $what"; else fail "$name: $what"; fi
    done <"$WORK/$name.lines"
    if [ $code = 0 ] && [ -s "$WORK/$name.bits" ]; then pass "$name: ends well"; else fail "$name: exit code $code"; fi
}

run kept
run made-anew --no-pass=prepare
try "the same bits whether values are kept or not" cmp "$WORK/kept.bits" "$WORK/made-anew.bits"
if grep -q _KEPT_BYTES "$WORK/kept/kept.h" && ! grep -q _KEPT_BYTES "$WORK/made-anew/kept.h"; then
    pass "--no-pass=prepare keeps nothing"
else
    fail "--no-pass=prepare keeps nothing"
fi
finish
