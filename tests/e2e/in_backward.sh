#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Updates within the backward pass: a program (in_backward.c), and for models and optimizers of the other tests the same
# bits after five steps as without the option.

. tests/lib.sh
. tests/e2e/tools.sh
suite in_backward

if "$NNC" tests/e2e/models/in_backward.nn -o "$WORK/in_backward.c" >"$WORK/log" 2>&1 &&
    "$CC" $NN_FLAGS -O2 -Wall -Wextra -Werror -I"$WORK" -o "$WORK/in_backward" tests/e2e/in_backward.c "$WORK/in_backward.c" "$NNLIB" $NN_LIBS >"$WORK/log" 2>&1; then
    pass "in_backward.nn and in_backward.c compile"
else
    fail "in_backward.nn and in_backward.c compile" "$WORK/log"
    finish
    exit
fi
timeout 120 "$WORK/in_backward" >"$WORK/out" 2>"$WORK/log" || fail "in_backward: ends well" "$WORK/log"
while read -r result name; do
    if [ "$result" = ok ]; then pass "$name"; else fail "$name"; fi
done <"$WORK/out"
if grep -q "pair_fit_grad" "$WORK/in_backward.h" && ! grep -q "in_backward_grad\|in_backward_apply" "$WORK/in_backward.h"; then
    pass "a step that keeps no gradients has no halves"
else
    fail "a step that keeps no gradients has no halves"
fi

# Every step of a model but those that clip the norm or search lines, with the option added.
harnesses lenet:f32 recurrent:f32 optimizers:f32 nested:f32
for model in lenet recurrent optimizers nested; do
    sed -E '/clip_norm/!s/using ([a-z]+)\((.*)\);/using \1(\2, in_backward = true);/; s/\(, in_backward/(in_backward/' \
        "tests/e2e/models/$model.nn" >"$WORK/$model.nn"
    try "$model: builds" harness $model f32 || continue
    try "$model: builds with updates within backward" sh -c "\"\$NNC\" --emit=harness \"$WORK/$model.nn\" -o \"$WORK/$model.c\" &&
        \"\$CC\" $NN_FLAGS -O2 -Wall -Wextra -Werror -I\"$WORK\" -o \"$WORK/$model\" \"$WORK/$model.c\" \"\$NNLIB\" $NN_LIBS" || continue
    for step in $("$WORK/$model" --list | sed -n 's/^step //p'); do
        "$B/harness/$model-f32" --routine "$step" --steps 5 --threads 2 --output "$WORK/expected" >"$WORK/log" 2>&1 ||
            { fail "$model $step: runs" "$WORK/log"; continue; }
        for threads in 1 3; do
            try "$model $step: runs on $threads" "$WORK/$model" --routine "$step" --steps 5 --threads $threads --output "$WORK/actual" || continue
            try "$model $step: same bits on $threads" "$B/tools/compare" "$WORK/actual" "$WORK/expected" 0 ""
        done
    done
done
finish
