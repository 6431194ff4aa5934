#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Products with the Hessian of whole steps: against differences of gradients in double precision (perceptrons, images
# with batch norm, embeddings and attention, loops over time, random operators), against PyTorch's
# torch.autograd.functional.hvp (make_hvp.py; relative L2 1e-6 in f32, 1e-10 in f64), on several threads, and that
# they change nothing.

. tests/lib.sh
. tests/e2e/tools.sh
suite hvp
R=tests/e2e/ref

# program NAME VARIANT: builds $WORK/NAME-VARIANT with the products of all steps; leaves the steps in $steps.
program() {
    steps=$(sed -n 's/^ *step \([a-z_0-9]*\)(.*/\1/p' "tests/e2e/models/$1.nn")
    [ -n "$steps" ] || return 1
    flags=
    for step in $steps; do flags="$flags --hvp=$step"; done
    [ "$2" = f32 ] || flags="$flags --real=f64"
    "$NNC" --emit=harness $flags "tests/e2e/models/$1.nn" -o "$WORK/$1-$2.c" &&
        "$CC" $NN_FLAGS -O1 -DNN_SMALL_CODE -Wall -Wextra -Werror -I"$WORK" -o "$WORK/$1-$2" "$WORK/$1-$2.c" "$NNLIB" $NN_LIBS
}

for model in smooth loops nested hvp layers; do
    try "$model f64: builds" program $model f64 || continue
    for step in $steps; do
        # Batch norm has nothing to normalise over in a batch of one.
        try "$model, $step: differences of gradients" "$WORK/$model-f64" --routine $step --batch 4 --seed 3 --check-hvp --threads 2
    done
done

try "hvp f32: builds" program hvp f32
for step in images reading time; do
    try "$step: inputs" "$B/tools/fill" "$R/hvp_$step.spec" "$WORK/$step.in"
    for variant in f32 f64; do
        case $variant in f32) tolerance=1e-6 ;; f64) tolerance=1e-10 ;; esac
        for t in 1 2 3; do
            try "$step $variant: product on $t threads" "$WORK/hvp-$variant" --routine ${step}_hvp --input "$WORK/$step.in" \
                --output "$WORK/$step-$variant-$t.st" --threads $t
        done
        try "$step $variant: PyTorch's product" "$B/tools/compare" "$R/hvp_$step.safetensors" "$WORK/$step-$variant-1.st" $tolerance hv hv
        try "$step $variant: 1 and 2 threads, same bits" cmp "$WORK/$step-$variant-1.st" "$WORK/$step-$variant-2.st"
        try "$step $variant: 1 and 3 threads, same bits" cmp "$WORK/$step-$variant-1.st" "$WORK/$step-$variant-3.st"
    done
done

# What a product leaves alone, and the draws it shares with the step.
try "a program with products: compiles" "$NNC" --real=f64 --hvp=train tests/e2e/models/driven.nn -o "$WORK/driven.c" &&
    try "a program with products: builds" "$CC" $NN_FLAGS -O1 -Wall -Wextra -Werror -I"$WORK" -o "$WORK/products" tests/e2e/hvp.c \
        "$WORK/driven.c" "$NNLIB" $NN_LIBS &&
    try "products change nothing and share the step's draws" "$WORK/products"

# Where PyTorch is at hand, the stored numbers are made again.
if "$B/venv/bin/python" -c 'import torch, safetensors, numpy' 2>/dev/null; then
    if "$B/venv/bin/python" tests/e2e/make_hvp.py "$WORK/again" >"$WORK/again.log" 2>&1; then
        for step in images reading time; do
            try "$step: specification is what the script writes" cmp "$R/hvp_$step.spec" "$WORK/again/hvp_$step.spec"
            try "$step: stored numbers are the script's" python3 tests/e2e/same_numbers.py "$R/hvp_$step.safetensors" "$WORK/again/hvp_$step.safetensors"
        done
    else
        fail "make_hvp.py" "$WORK/again.log"
    fi
else
    echo "  (PyTorch is not installed: its stored numbers were used and not made again)"
fi
finish
