#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Traces: the circuit of the textbook by hand, as numbers and as a picture; values and gradients of every wire of a
# network and of a loop against PyTorch (make_trace.py; relative L2 1e-5 in f32, 1e-10 in f64), on several threads;
# that the parameters' gradients and the random draws are the step's, bit for bit; pictures of whole examples.

. tests/lib.sh
. tests/e2e/tools.sh
suite trace
R=tests/e2e/ref

# program MODEL NAME FLAGS...: builds $WORK/NAME, a harness.
program() {
    p_model=$1 p_name=$2
    shift 2
    "$NNC" --emit=harness "$@" "$p_model" -o "$WORK/$p_name.c" &&
        "$CC" $NN_FLAGS -O1 -DNN_SMALL_CODE -Wall -Wextra -Werror -I"$WORK" -o "$WORK/$p_name" "$WORK/$p_name.c" "$NNLIB" $NN_LIBS
}
same_text() { # FILE FILE: with the difference as the message
    diff "$1" "$2"
}

TRACED=tests/e2e/models/traced.nn
steps="--trace=circuit --trace=images --trace=time"
try "f32: builds" program $TRACED f32 $steps
try "f64: builds" program $TRACED f64 $steps --real=f64
try "without OpenBLAS: builds" program $TRACED no-blas $steps --no-blas

# f = (x + y) max(z, w) at x = 1, y = 2, z = 2, w = -1: the larger input of max gets the gradient, the other none.
for variant in f32 f64; do
    try "circuit $variant: runs" "$WORK/$variant" --routine circuit_trace --set x=1 --set y=2 --set z=2 --set w=-1 --output "$WORK/circuit-$variant.st"
    try "circuit $variant: picture" "$NNC" --emit=dot --trace=circuit --values="$WORK/circuit-$variant.st" $TRACED -o "$WORK/circuit-$variant.dot" &&
        try "circuit $variant: the textbook's numbers" same_text $R/trace_circuit.dot "$WORK/circuit-$variant.dot"
done

for step in images time; do
    try "$step: inputs" "$B/tools/fill" "$R/trace_$step.spec" "$WORK/$step.in"
    for variant in f32 f64 no-blas; do
        case $variant in f64) tolerance=1e-10 ;; *) tolerance=1e-5 ;; esac
        for t in 1 2 3; do
            try "$step $variant: $t threads" "$WORK/$variant" --routine ${step}_trace --input "$WORK/$step.in" \
                --output "$WORK/$step-$variant-$t.st" --threads $t
        done
        try "$step $variant: PyTorch's values" "$B/tools/compare" "$R/trace_$step.safetensors" "$WORK/$step-$variant-1.st" $tolerance value. value.
        try "$step $variant: PyTorch's gradients" "$B/tools/compare" "$R/trace_$step.safetensors" "$WORK/$step-$variant-1.st" $tolerance grad. grad.
        try "$step $variant: 1 and 2 threads, same bits" cmp "$WORK/$step-$variant-1.st" "$WORK/$step-$variant-2.st"
        try "$step $variant: 1 and 3 threads, same bits" cmp "$WORK/$step-$variant-1.st" "$WORK/$step-$variant-3.st"
        try "$step $variant: the step" "$WORK/$variant" --routine $step --grad-only --input "$WORK/$step.in" --output "$WORK/$step-$variant.st" &&
            try "$step $variant: the step's gradients" "$B/tools/compare" "$WORK/$step-$variant.st" "$WORK/$step-$variant-1.st" 1e-5 grad. grad.
        try "$step $variant: picture" "$NNC" --emit=dot --trace=$step --values="$WORK/$step-$variant-1.st" $TRACED -o "$WORK/$step-$variant.dot"
    done
done

# A trace of a whole example draws what the step draws (dropout, noise), and its loss is the step's.
for at in mlp:train lenet:train vae:train charlm:train transformer:train resnet20:train forecast:train; do
    name=${at%:*} step=${at#*:}
    try "$name: builds" program "examples/$name/model.nn" "$name" --trace="$step" || continue
    try "$name: traced" "$WORK/$name" --routine "${step}_trace" --batch 4 --seed 3 --output "$WORK/$name.st" --threads 2
    try "$name: the step" "$WORK/$name" --routine "$step" --grad-only --batch 4 --seed 3 --output "$WORK/$name-step.st"
    # The step may join and order sums otherwise: it has fewer gradients to compute.
    try "$name: the step's gradients" "$B/tools/compare" "$WORK/$name-step.st" "$WORK/$name.st" 1e-4 grad. grad.
    try "$name: picture" "$NNC" --emit=dot --trace="$step" --values="$WORK/$name.st" "examples/$name/model.nn" -o "$WORK/$name.dot"
    if command -v dot >/dev/null; then try "$name: Graphviz reads it" dot -Tsvg "$WORK/$name.dot" -o "$WORK/$name.svg"; fi
done

# Where PyTorch is at hand, the stored numbers are made again.
if "$B/venv/bin/python" -c 'import torch, safetensors, numpy' 2>/dev/null; then
    if "$B/venv/bin/python" tests/e2e/make_trace.py "$WORK/again" >"$WORK/again.log" 2>&1; then
        for step in images time; do
            try "$step: specification is what the script writes" cmp "$R/trace_$step.spec" "$WORK/again/trace_$step.spec"
            try "$step: stored numbers are the script's" python3 tests/e2e/same_numbers.py "$R/trace_$step.safetensors" "$WORK/again/trace_$step.safetensors"
        done
    else
        fail "make_trace.py" "$WORK/again.log"
    fi
else
    echo "  (PyTorch is not installed: its stored numbers were used and not made again)"
fi
finish
