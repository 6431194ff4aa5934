#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The same bits for any number of threads and from run to run: weights, gradients and losses after five steps of
# LeNet, ResNet-20, the VAE and the recurrent layers on 1, 2 and 3 threads; batches of one and of an odd number of rows.
# Copies of large samples, which threads divide: what moves there and back is what stands still. Convolutions by tiles of
# 4x4: the same bits, gradients by central differences, and f32 near f64.

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

for variant in f32 f64; do
    try "copies $variant: builds" harness copies $variant || continue
    h=$B/harness/copies-$variant
    for batch in 1 5; do
        for t in 1 2 3; do
            out=$WORK/copies-$variant-$batch-$t
            try "copies $variant, batch $batch, $t threads: runs" "$h" --routine both --batch $batch --output "$out" --threads $t
            try "copies $variant, batch $batch, $t threads: equal" "$B/tools/compare" "$out" "$out" 0 still moving
        done
    done
done
try "copies f64: central differences" "$B/harness/copies-f64" --routine train --batch 1 --seed 3 --check-grad --threads 3

for variant in f32 f64; do
    try "tiles $variant: builds" harness tiles $variant || continue
    h=$B/harness/tiles-$variant
    for t in 1 2 3; do
        out=$WORK/tiles-$variant-$t
        try "tiles $variant, $t threads: trains" "$h" --routine train --batch 5 --seed 3 --output "$out" --steps 3 --threads $t
        try "tiles $variant, $t threads: same bits" cmp "$out" "$WORK/tiles-$variant-1"
    done
    try "tiles $variant: predicts" "$h" --routine predict --batch 5 --seed 3 --output "$WORK/tiles-$variant"
done
try "tiles: f32 and f64" "$B/tools/compare" "$WORK/tiles-f32" "$WORK/tiles-f64" 2e-6 z z
try "tiles f64: central differences" "$B/harness/tiles-f64" --routine train --batch 3 --seed 3 --check-grad --threads 3
finish
