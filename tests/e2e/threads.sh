#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The same bits for any number of threads and from run to run: weights, gradients and losses after five steps of
# LeNet, ResNet-20, the VAE and the recurrent layers on 1, 2 and 3 threads; batches of one and of an odd number of rows.

. tests/lib.sh
. tests/e2e/tools.sh
suite threads
R=tests/e2e/ref

for model in lenet resnet20 vae recurrent; do
    "$B/tools/fill" "$R/$model.spec" "$WORK/$model.in" || fail "$model: inputs"
    for variant in f32 no-blas f64; do
        try "$model $variant: builds" harness $model $variant || continue
        h=$B/harness/$model-$variant
        base=$WORK/$model-$variant
        for t in 1 2 3; do
            try "$model $variant: runs on $t" "$h" --routine train --input "$WORK/$model.in" --output "$base.$t" --steps 5 --threads $t
        done
        try "$model $variant: 1 and 2 threads, same bits" cmp "$base.1" "$base.2"
        try "$model $variant: 1 and 3 threads, same bits" cmp "$base.1" "$base.3"
        try "$model $variant: runs again" "$h" --routine train --input "$WORK/$model.in" --output "$base.again" --steps 5 --threads 2
        try "$model $variant: two runs, same bits" cmp "$base.2" "$base.again"
    done
done
finish
