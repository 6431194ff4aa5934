#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Gradients of whole steps against central differences in double precision, with passes on and off: gradients, losses
# and outputs may differ between the two by rounding only.

. tests/lib.sh
. tests/e2e/tools.sh

# Kernels as loops: what a pass changes is the graph.
if [ "${1:-}" = --without ]; then # MODEL PASSES: builds $WORK/MODEL-without-PASSES
    name=$WORK/$2-without-$(echo "$3" | tr , -)
    "$NNC" --emit=harness --real=f64 --no-pass="$3" "tests/e2e/models/$2.nn" -o "$name.c" >"$name.log" 2>&1 &&
        "$CC" $NN_FLAGS -O1 -DNN_SMALL_CODE -I"$WORK" -o "$name" "$name.c" "$NNLIB" $NN_LIBS >>"$name.log" 2>&1
    exit
fi
suite gradients
harnesses smooth:f64 layers:f64 nested:f64 loops:f64

try "layers f64: builds" harness layers f64 || { finish; exit 1; }
for step in train_images train_sequences train_encoder train_augmented; do
    for batch in 1 4; do
        try "$step, batch $batch: central differences" "$B/harness/layers-f64" --routine $step --batch $batch --seed 3 --check-grad --threads 2
    done
done

for model in smooth loops nested; do
    try "$model f64: builds" harness $model f64 || { finish; exit 1; }
    h=$B/harness/$model-f64
    "$h" --list | awk '$1 == "step" { print $2 }' >"$WORK/steps"
    [ -s "$WORK/steps" ] || fail "$model: no steps"
    while read -r step; do
        for batch in 1 4; do
            # Batch norm has nothing to normalise over in a batch of one of a small image; it is in `images` only.
            try "$step, batch $batch: central differences" "$h" --routine "$step" --batch $batch --seed 3 --check-grad --threads 2
        done
    done <"$WORK/steps"

    # Optional passes, one at a time and all together.
    optional=
    for p in $("$NNC" --list=passes); do
        "$NNC" tests/e2e/models/$model.nn --no-pass="$p" --emit=nnir -o "$WORK/x.nnir" >/dev/null 2>&1 && optional="$optional $p"
    done
    echo "$optional" | grep -q fuse || fail "$model: no optional passes found"
    all=$(echo $optional | tr ' ' ,)
    printf '%s\n' $optional "$all" | xargs -P "$JOBS" -n 1 "$0" --without $model
    for off in $optional "$all"; do
        name=$WORK/$model-without-$(echo "$off" | tr , -)
        if [ ! -x "$name" ]; then
            fail "$model without $off: builds" "$name.log"
            continue
        fi
        while read -r step; do
            "$h" --routine "$step" --batch 4 --seed 3 --output "$WORK/with.st" --steps 2 >"$name.log" 2>&1 &&
                "$name" --routine "$step" --batch 4 --seed 3 --output "$WORK/without.st" --steps 2 >>"$name.log" 2>&1 || fail "without $off, $step: runs" "$name.log"
            try "without $off, $step: same results" "$B/tools/compare" "$WORK/with.st" "$WORK/without.st" 1e-11 ""
        done <"$WORK/steps"
    done
done

# A loop, and a loop inside a loop, and the same steps written out, on the same weights.
for pair in loops:looped:written_out nested:loops:written_out; do
    model=${pair%%:*} a=$(echo $pair | cut -d: -f2) b=${pair##*:}
    h=$B/harness/$model-f64
    for step in $a $b; do
        for n in 1 3; do
            "$h" --routine $step --batch 3 --seed 3 --output "$WORK/$step-$n.st" --steps $n >"$WORK/$step.log" 2>&1 || fail "$model, $step: runs" "$WORK/$step.log"
        done
    done
    try "$model and its steps written out: same results" "$B/tools/compare" "$WORK/$a-3.st" "$WORK/$b-3.st" 1e-11 ""
    try "$model and its steps written out: same bits of the loss" "$B/tools/compare" "$WORK/$a-1.st" "$WORK/$b-1.st" 0 loss loss
    # Threads that run apart and threads that wait for each other.
    "$h" --list | awk '$1 == "step" { print $2 }' >"$WORK/steps"
    while read -r step; do
        for t in 1 2 3; do
            "$h" --routine "$step" --batch 4 --seed 5 --output "$WORK/$t.st" --steps 3 --threads $t >"$WORK/$t.log" 2>&1 || fail "$step: runs on $t" "$WORK/$t.log"
        done
        try "$model, $step: 1 and 2 threads, same bits" cmp "$WORK/1.st" "$WORK/2.st"
        try "$model, $step: 1 and 3 threads, same bits" cmp "$WORK/1.st" "$WORK/3.st"
    done <"$WORK/steps"
done
finish
