#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Operators, activations, losses and layers against PyTorch's stored numbers (make_reference.py): results, gradients
# of every operand and weight, and states after a step, in f32 and f64: tests/ops/reference.sh [GROUP...]
# A case passes when each of its tensors lies within the relative L2 distance that the group's file states.

. tests/lib.sh
. tests/e2e/tools.sh
[ "${1:-}" = --one ] || suite op-reference
R=tests/ops/ref

# build GROUP VARIANT: $WORK/GROUP-VARIANT
build() {
    h=$WORK/$1-$2
    case $2 in f64) flags=--real=f64 ;; *) flags= ;; esac
    "$NNC" --emit=harness $flags "$R/$1.nn" -o "$h.c" &&
        "$CC" $NN_FLAGS -O1 -Wall -Wextra -Werror -I"$WORK" -o "$h" "$h.c" "$NNLIB" $NN_LIBS
}

# one GROUP VARIANT
one() {
    build "$1" "$2" >"$WORK/$1-$2.log" 2>&1 || { fail "$1 $2: builds" "$WORK/$1-$2.log"; return; }
    "$B/tools/fill" "$R/$1.spec" "$WORK/$1-$2.in" || { fail "$1: inputs"; return; }
    for r in outputs gradients; do
        only=
        [ $r = outputs ] || only=--grad-only
        if ! "$WORK/$1-$2" --routine $r --input "$WORK/$1-$2.in" --output "$WORK/$1-$2.$r" --threads 2 $only \
            >"$WORK/$1-$2.log" 2>&1; then
            fail "$1 $2: $r" "$WORK/$1-$2.log"
            return
        fi
    done
    sed -n 's/^# case //p' "$R/$1.nn" | while read -r name f32 f64; do
        case $2 in f64) bound=$f64 ;; *) bound=$f32 ;; esac
        log=$WORK/$1-$2-$name.log
        if "$B/tools/compare" "$R/$1.safetensors" "$WORK/$1-$2.outputs" "$bound" "$name:infer." >"$log" 2>&1 &&
            "$B/tools/compare" "$R/$1.safetensors" "$WORK/$1-$2.gradients" "$bound" "$name:step." >"$log" 2>&1; then
            pass "$1 $2: $name"
        else
            fail "$1 $2: $name" "$log"
        fi
    done
}

if [ "${1:-}" = --one ]; then
    one "${2%:*}" "${2#*:}"
    exit 0
fi

[ $# -gt 0 ] || set -- $(ls $R/*.nn | sed 's|.*/\(.*\)\.nn|\1|')
for g; do printf '%s:f32\n%s:f64\n' "$g" "$g"; done | xargs -P "$JOBS" -n 1 tests/ops/reference.sh --one

# Where PyTorch is at hand, the stored numbers are made again.
if "$B/venv/bin/python" -c 'import torch, safetensors, numpy' 2>/dev/null; then
    if "$B/venv/bin/python" -W ignore tests/ops/make_reference.py --out "$WORK/again" "$@" >"$WORK/again.log" 2>&1; then
        for g; do
            try "$g: model is what the script writes" cmp "$R/$g.nn" "$WORK/again/$g.nn"
            try "$g: specification is what the script writes" cmp "$R/$g.spec" "$WORK/again/$g.spec"
            try "$g: stored numbers are PyTorch's" python3 tests/e2e/same_numbers.py "$R/$g.safetensors" "$WORK/again/$g.safetensors"
        done
    else
        fail "make_reference.py" "$WORK/again.log"
    fi
else
    echo "  (PyTorch is not installed: its stored numbers were used and not made again)"
fi
finish
