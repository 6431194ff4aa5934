#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Generated code against PyTorch's stored numbers (make_reference.py): outputs, losses, gradients, and weights
# after 1, 10 and 100 steps. Bounds are relative L2 distances from results in double precision:
#   f32   outputs and gradients 1e-6, weights 1e-6 after one step and 1e-5 after ten
#   f64   outputs and gradients 1e-10, weights 1e-9 after a hundred steps
# The gradients of ResNet-20 pass 22 layers with weights and 21 batch norms. Rounding each stored value to f32 and
# computing everything else in f64 already moves single tensors by 8e-7, and PyTorch's own f32 lies 2.6e-6 from its f64
# (1.2e-6 for all gradients as one vector). There each may differ by 5e-6, and all of them together by 2e-6.

. tests/lib.sh
. tests/e2e/tools.sh
suite reference
R=tests/e2e/ref
harnesses resnet20:f32 resnet20:no-blas resnet20:f64 recurrent:f32 recurrent:no-blas recurrent:f64 lenet:f32 lenet:no-blas \
    lenet:f64 vae:f32 vae:no-blas vae:f64 optimizers:f32 optimizers:f64 optimizers_conv:f32 optimizers_conv:f64

# run MODEL VARIANT ROUTINE STEPS: leaves $out
run() {
    out=$WORK/$1-$2-$3-$4.safetensors
    "$B/harness/$1-$2" --routine "$3" --input "$WORK/$1.in" --output "$out" --steps "$4" --threads 2
}

# check NAME MODEL ROUTINE STEPS VARIANT TOLERANCE EXPECTED_PREFIX [ACTUAL_PREFIX [WHOLE]]
check() {
    name=$1 model=$2 routine=$3 steps=$4 variant=$5
    shift 5
    log=$WORK/check.log
    if run "$model" "$variant" "$routine" "$steps" >"$log" 2>&1 &&
        "$B/tools/compare" "$R/$model.safetensors" "$out" "$@" >"$log" 2>&1; then
        pass "$model $variant: $name"
        [ -z "${VERBOSE:-}" ] || tail -n 1 "$log"
    else
        fail "$model $variant: $name" "$log"
    fi
}

for model in lenet vae resnet20 recurrent optimizers optimizers_conv; do
    "$B/tools/fill" "$R/$model.spec" "$WORK/$model.in" || fail "$model: inputs"
done

for variant in f32 no-blas f64; do
    for model in lenet vae resnet20 recurrent optimizers optimizers_conv; do
        case $model$variant in optimizers*no-blas) continue ;; esac
        try "$model $variant: builds" harness $model $variant || continue
        one=1e-6 ten=1e-5 grad=1e-6 whole=1e-6
        [ $model != resnet20 ] || { grad=5e-6 whole=2e-6; }
        [ $variant != f64 ] || { one=1e-10 ten=1e-10 grad=1e-10 whole=1e-10; }
        case $model in
        lenet | resnet20 | recurrent) check "outputs" $model predict 1 $variant $one predict. ;;
        vae)
            check "encoder's outputs" vae encode 1 $variant $one encode.
            check "decoder's outputs" vae sample 1 $variant $one sample.
            ;;
        optimizers*)
            # The names of the steps begin like others do: the mark ends with a dot.
            for step in $(sed -n 's/^ *step \([a-z_]*\)(.*/\1/p' "tests/e2e/models/$model.nn"); do
                if [ $variant = f64 ]; then
                    check "$step, weights after 10 steps" $model $step 10 $variant 1e-10 $step.w10.
                    check "$step, weights after 100 steps" $model $step 100 $variant 1e-9 $step.w100.
                else
                    check "$step, weights after 10 steps" $model $step 10 $variant 1e-5 $step.w10.
                fi
            done
            continue
            ;;
        esac
        check "loss" $model train 1 $variant $one train.loss loss
        case $model in
        lenet) check "metric" $model train 1 $variant 1e-6 train.acc acc ;;
        resnet20) check "metric" $model train 1 $variant 1e-6 train.top1 top1 ;;
        vae)
            check "reported values" $model train 1 $variant $one train.rec rec
            check "reported values" $model train 1 $variant $one train.kl kl
            ;;
        esac
        check "gradients" $model train 1 $variant $grad train.grad. grad. $whole
        check "weights after 1 step" $model train 1 $variant $one train.w1.
        check "weights after 10 steps" $model train 10 $variant $ten train.w10.
        [ $variant != f64 ] || check "weights after 100 steps" $model train 100 $variant 1e-9 train.w100.
    done
done

# Where PyTorch is at hand, the stored numbers are made again.
if "$B/venv/bin/python" -c 'import torch, safetensors, numpy' 2>/dev/null; then
    if "$B/venv/bin/python" tests/e2e/make_reference.py "$WORK/again" >"$WORK/again.log" 2>&1; then
        for model in lenet vae resnet20 recurrent optimizers optimizers_conv; do
            try "$model: specification is what the script writes" cmp "$R/$model.spec" "$WORK/again/$model.spec"
            try "$model: stored numbers are PyTorch's" python3 tests/e2e/same_numbers.py "$R/$model.safetensors" "$WORK/again/$model.safetensors"
        done
    else
        fail "make_reference.py" "$WORK/again.log"
    fi
else
    echo "  (PyTorch is not installed: its stored numbers were used and not made again)"
fi
finish
