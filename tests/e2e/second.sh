#!/bin/sh
# SPDX-License-Identifier: MIT
#
# newton, dfp, bfgs and lbfgs: known minima in the textbook number of updates, resumed equals uninterrupted (second.c);
# updates against PyTorch's lbfgs and methods written out with matrices (make_second.py), the bounds of reference.sh;
# the same bits for any number of threads.

. tests/lib.sh
. tests/e2e/tools.sh
suite second
R=tests/e2e/ref

for variant in f32 f64; do
    case $variant in f32) flags= define= ;; f64) flags=--real=f64 define=-DREAL64 ;; esac
    dir=$WORK/$variant
    mkdir -p "$dir"
    for model in rosenbrock second logistic driven; do
        try "$model $variant: compiles" "$NNC" $flags tests/e2e/models/$model.nn -o "$dir/$model.c"
    done
    try "$variant: builds" "$CC" $NN_FLAGS $define -O2 -Wall -Wextra -I"$dir" -I$R -o "$dir/second" tests/e2e/second.c \
        "$dir/rosenbrock.c" "$dir/second.c" "$dir/logistic.c" "$dir/driven.c" "$NNLIB" $NN_LIBS || continue
    try "$variant: minima and resumed runs" "$dir/second" "$dir"
    notes=${NN_TABULAR:-}/banknote_authentication.csv
    if [ -r "$notes" ]; then
        try "$variant: minima, with the bank notes" "$dir/second" "$dir" "$notes"
    else
        skip "$variant: logistic regression of the bank notes" "NN_TABULAR is not a directory with banknote_authentication.csv"
    fi
done

try "inputs" "$B/tools/fill" "$R/second.spec" "$WORK/second.in"
# updates METHOD STEPS VARIANT THREADS: leaves $out
updates() {
    out=$WORK/$1-$2-$3-$4.safetensors
    "$B/harness/second-$3" --routine "$1" --input "$WORK/second.in" --output "$out" --steps "$2" --threads "$4"
}
for variant in f32 f64; do
    try "$variant: harness builds" harness second $variant || continue
    for method in newton dfp bfgs lbfgs lbfgs_short; do
        case $method in newton) marks="1 2 3 4" ;; *) marks="1 3 6 10" ;; esac
        case $variant in f32) tolerance=1e-5 ;; f64) tolerance=1e-9 ;; esac
        for steps in $marks; do
            try "$method $variant: $steps updates" updates $method $steps $variant 1 &&
                try "$method $variant: weights after $steps updates" "$B/tools/compare" "$R/second.safetensors" "$out" \
                    $tolerance $method.w$steps.
        done
        one=$out
        for threads in 2 3; do
            try "$method $variant: on $threads threads" updates $method $steps $variant $threads &&
                try "$method $variant: 1 and $threads threads, same bits" cmp "$one" "$out"
        done
    done
done

# Where PyTorch is at hand, the stored numbers are made again.
if "$B/venv/bin/python" -c 'import torch, safetensors, numpy' 2>/dev/null; then
    if "$B/venv/bin/python" tests/e2e/make_second.py "$WORK/again" >"$WORK/again.log" 2>&1; then
        try "specification is what the script writes" cmp "$R/second.spec" "$WORK/again/second.spec"
        try "stored numbers are the script's" python3 tests/e2e/same_numbers.py "$R/second.safetensors" "$WORK/again/second.safetensors"
    else
        fail "make_second.py" "$WORK/again.log"
    fi
else
    echo "  (PyTorch is not installed: its stored numbers were used and not made again)"
fi
finish
