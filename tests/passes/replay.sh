#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The text form loses nothing: a model printed after any pass and read back gives, through the passes that are
# left and those that run again, the same C as the model itself. Not after plan: a plan starts from the order of the
# nodes that it finds, and its own order is one of several that are as good.

. tests/lib.sh
suite replay

for model in examples/*/model.nn tests/e2e/models/*.nn; do
    name=$(echo "${model%.nn}" | tr / _)
    try "$model: compiles" "$NNC" "$model" -o "$WORK/$name.c" || continue
    mv "$WORK/$name.c" "$WORK/$name.direct"
    for pass in check autodiff simplify fold layout fuse; do
        try "$model after $pass: prints" "$NNC" --stop-after=$pass "$model" -o "$WORK/$name.nnir" || continue
        try "$model after $pass: reads" "$NNC" "$WORK/$name.nnir" -o "$WORK/$name.c" || continue
        try "$model after $pass: same code" cmp "$WORK/$name.c" "$WORK/$name.direct"
    done
done
finish
