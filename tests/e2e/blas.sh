#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Large products: the same results with OpenBLAS and without, in single precision as in double, the same bits for any
# number of threads, and OpenBLAS referred to exactly where it is used.

. tests/lib.sh
. tests/e2e/tools.sh
suite blas

for variant in f32 no-blas f64; do
    try "large $variant: builds" harness large $variant || continue
    h=$B/harness/large-$variant
    base=$WORK/$variant
    for t in 1 2 3; do
        try "large $variant: runs on $t" "$h" --routine train --batch 130 --seed 3 --output "$base.$t" --steps 2 --threads $t
    done
    try "large $variant: 1 and 2 threads, same bits" cmp "$base.1" "$base.2"
    try "large $variant: 1 and 3 threads, same bits" cmp "$base.1" "$base.3"
    nm -u "$h" | grep -q "cblas_" && refers=yes || refers=no
    [ $variant = no-blas ] && expected=no || expected=yes
    if [ $refers = $expected ]; then pass "large $variant: refers to OpenBLAS: $refers"; else fail "large $variant: refers to OpenBLAS: $refers"; fi
done
for variant in f32 no-blas; do
    try "large $variant: as in double precision" "$B/tools/compare" "$WORK/f64.1" "$WORK/$variant.1" 2e-6 ""
done
finish
