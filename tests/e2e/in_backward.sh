#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Updates within the backward pass: a program (in_backward.c), and for models and optimizers of the other tests the same
# bits after five steps as without the option.

. tests/lib.sh
. tests/e2e/tools.sh

program() {
    if ! "$NNC" tests/e2e/models/in_backward.nn -o "$WORK/in_backward.c" >"$WORK/log" 2>&1 ||
        ! "$CC" $NN_FLAGS -O1 -Wall -Wextra -Werror -I"$WORK" -o "$WORK/in_backward" tests/e2e/in_backward.c \
            "$WORK/in_backward.c" "$NNLIB" $NN_LIBS >"$WORK/log" 2>&1; then
        fail "in_backward.nn and in_backward.c compile" "$WORK/log"
        return
    fi
    pass "in_backward.nn and in_backward.c compile"
    try "in_backward: ends well" sh -c "timeout 120 \"$WORK/in_backward\" >\"$WORK/out\""
    while read -r result name; do
        if [ "$result" = ok ]; then pass "$name"; else fail "$name"; fi
    done <"$WORK/out"
    if grep -q "pair_fit_grad" "$WORK/in_backward.h" && ! grep -q "in_backward_grad\|in_backward_apply" "$WORK/in_backward.h"; then
        pass "a step that keeps no gradients has no halves"
    else
        fail "a step that keeps no gradients has no halves"
    fi
}

# What looks at gradients says that there are none.
no_gradients() { # PROGRAM OPTION
    "$1" --routine train "$2" >"$WORK/options.log" 2>&1
    code=$?
    if [ $code = 2 ] && grep -q "keep their gradients" "$WORK/options.log"; then
        pass "$2 is refused"
    else
        echo "exit code $code" >>"$WORK/options.log"
        fail "$2 is refused" "$WORK/options.log"
    fi
}

# Every step of a model but those that clip the norm, with the option added.
model() { # NAME
    sed -E '/clip_norm/!s/using ([a-z]+)\((.*)\);/using \1(\2, in_backward = true);/; s/\(, in_backward/(in_backward/' \
        "tests/e2e/models/$1.nn" >"$WORK/$1.nn"
    try "$1: builds" harness "$1" f32 || return
    try "$1: builds with updates within backward" sh -c "\"\$NNC\" --emit=harness \"$WORK/$1.nn\" -o \"$WORK/$1.c\" &&
        \"\$CC\" $NN_FLAGS -O2 -Wall -Wextra -Werror -I\"$WORK\" -o \"$WORK/$1\" \"$WORK/$1.c\" \"\$NNLIB\" $NN_LIBS" || return
    for step in $("$WORK/$1" --list | sed -n 's/^step //p'); do
        "$B/harness/$1-f32" --routine "$step" --steps 5 --threads 2 --output "$WORK/$1.expected" >"$WORK/$1.log" 2>&1 ||
            { fail "$1 $step: runs" "$WORK/$1.log"; continue; }
        for threads in 1 3; do
            try "$1 $step: runs on $threads" "$WORK/$1" --routine "$step" --steps 5 --threads $threads --output "$WORK/$1.actual" || continue
            try "$1 $step: same bits on $threads" "$B/tools/compare" "$WORK/$1.actual" "$WORK/$1.expected" 0 ""
        done
    done
}

if [ "${1:-}" = --one ]; then
    case $2 in program) program ;; *) model "$2" ;; esac
    [ "$2" != lenet ] || for option in --grad-only --check-grad; do no_gradients "$WORK/lenet" $option; done
    exit 0
fi
suite in_backward
printf '%s\n' program lenet optimizers recurrent | xargs -P "$JOBS" -n 1 "$0" --one
finish
