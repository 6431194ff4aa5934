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
    if command -v dot >/dev/null; then
        try "$name: Graphviz reads it" dot -Tsvg "$WORK/$name.dot" -o "$WORK/$name.svg"
    else
        skip "$name: Graphviz reads it" "dot is not installed"
    fi
done

# Files that are not what the trace wrote: exit code 3 and a sentence, whatever they hold.
# refused NAME SENTENCE FILE: of the circuit's values.
refused() {
    "$NNC" --emit=dot --trace=circuit --values="$3" $TRACED -o "$WORK/refused.dot" >"$WORK/refused.log" 2>&1
    code=$?
    if [ $code = 3 ] && [ ! -e "$WORK/refused.dot" ] && grep -q "^nnc: --values: $3: .*$2" "$WORK/refused.log"; then
        pass "refused: $1"
    else
        echo "exit code $code, expected 3 and: $2" >>"$WORK/refused.log"
        fail "refused: $1" "$WORK/refused.log"
    fi
}
# st NAME HEADER [BYTES]: a file with this header, padded to 64 bytes, and 4 bytes of data.
st() {
    printf '\100\0\0\0\0\0\0\0%-64s%s' "$2" "${3-abcd}" >"$WORK/$1"
}
refused "no such file" "No such file" "$WORK/nothing.st"
refused "a directory" "not a file" "$WORK"
refused "a device" "not a file" /dev/zero
: >"$WORK/empty.st"
refused "an empty file" "too short" "$WORK/empty.st"
printf 'nn 1; model m { }\n' >"$WORK/text.st"
refused "text" "a header of .* bytes in a file of 18" "$WORK/text.st"
printf '\377\377\377\377\377\377\377\377{}' >"$WORK/huge.st"
refused "a header without end" "a header of 18446744073709551615 bytes" "$WORK/huge.st"
st open.st '{"value.x": '
refused "a header that breaks off" "the header is not JSON" "$WORK/open.st"
st list.st '[1, 2]'
refused "a list" "the header is not a JSON object" "$WORK/list.st"
st twice.st '{"a": 1, "a": 2}'
refused "a name twice" "the header is not JSON: duplicate" "$WORK/twice.st"
st none.st '{}'
refused "no tensors" "it lacks value.x" "$WORK/none.st"
st string.st '{"value.x": "F32"}'
refused "no tensor" "value.x has elements of an unknown type" "$WORK/string.st"
st type.st '{"value.x": {"dtype": "F16"}}'
refused "another type" "value.x has elements of an unknown type" "$WORK/type.st"
st rank.st '{"value.x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
refused "another shape" "the shape of value.x does not fit f32" "$WORK/rank.st"
st place.st '{"value.x":{"dtype":"F32","shape":[]}}'
refused "no place" "value.x has no place in the file" "$WORK/place.st"
st long.st '{"value.x":{"dtype":"F32","shape":[],"data_offsets":[0,8]}}'
refused "a place of another size" "the place of value.x does not fit" "$WORK/long.st"
st behind.st '{"value.x":{"dtype":"F32","shape":[],"data_offsets":[4,8]}}'
refused "a place behind the end" "the place of value.x does not fit" "$WORK/behind.st"
st before.st '{"value.x":{"dtype":"F32","shape":[],"data_offsets":[-4,0]}}'
refused "a place before the data" "the place of value.x does not fit" "$WORK/before.st"
st more.st '{"value.x":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}'
refused "the next one is missing" "it lacks grad.x" "$WORK/more.st"
refused "the values of another step" "it lacks value.x" "$WORK/time-f32-1.st"
head -c 700 "$WORK/circuit-f32.st" >"$WORK/cut.st"
refused "a file that was cut" "" "$WORK/cut.st"

# Numbers that are no numbers show.
try "not finite: runs" "$WORK/f32" --routine images_trace --set x=inf --set y=0 --batch 2 --output "$WORK/nan.st"
try "not finite: picture" "$NNC" --emit=dot --trace=images --values="$WORK/nan.st" $TRACED -o "$WORK/nan.dot" &&
    try "not finite: the picture says so" grep -q 'not finite' "$WORK/nan.dot"

# --set of a harness.
# says CODE SENTENCE OPTIONS...
says() {
    want=$1 sentence=$2
    shift 2
    "$WORK/f32" "$@" >"$WORK/says.log" 2>&1
    code=$?
    if [ $code = "$want" ] && grep -q "$sentence" "$WORK/says.log"; then pass "harness $*"; else
        echo "exit code $code, expected $want and: $sentence" >>"$WORK/says.log"
        fail "harness $*" "$WORK/says.log"
    fi
}
says 0 "^loss 7.5$" --routine circuit --grad-only --set x=1 --set y=2 --set z=1 --set w=2.5
says 0 "^loss 6$" --routine circuit --grad-only --set x=5 --set y=2 --set x=1 --set z=2 --set w=-1
says 2 "no such input, weight or state: q" --routine circuit --set q=1
says 2 "not a number: 1,a" --routine images --set y=1,a
says 2 "not a number: $" --routine images --set y=
says 2 "needs NAME=NUMBER: y" --routine images --set y
says 5 "the count of numbers does not fit: y" --routine images --batch 4 --set y=1,2,0
says 5 "does not fit the type of: y" --routine images --set y=0.5
says 5 "the count of numbers does not fit: seen" --routine images --set seen=1,2

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
