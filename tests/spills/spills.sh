#!/bin/sh
# SPDX-License-Identifier: MIT
#
# No hot loop of a kernel keeps its sums in memory: kernels.c compiled with the flags of the README for AVX-512 and for
# AVX2, disassembled and read by spills.py. Register allocation is gcc's; other compilers and processors are left out.

. tests/lib.sh
suite spills

case $(uname -m) in
x86_64) ;;
*)
    skip "all" "the checker reads x86-64 code"
    finish
    exit
    ;;
esac
if ! gcc --version >"$WORK/version" 2>&1; then
    skip "all" "gcc is not installed"
    finish
    exit
fi

disassemble() { # TARGET NAME FLAGS..
    target=$1 object=$WORK/$2
    shift 2
    gcc -std=gnu11 -O3 "-march=$target" -fno-math-errno -fno-trapping-math -Iruntime "$@" -c -o "$object.o" \
        tests/spills/kernels.c && objdump -d --no-show-raw-insn "$object.o" >"$object.s"
}
for target in x86-64-v4 x86-64-v3; do
    disassemble $target $target -DSPILLING 2>"$WORK/$target.log" &
done
wait

# Every function of kernels.c must have a hot loop, or call one that has, or the checker would look at nothing; the
# products of recurrent layers, and tiles that serve all layers, are functions of their own.
for target in x86-64-v4 x86-64-v3; do
    names=$(nm "$WORK/$target.o" | awk '$2 == "T" && $3 !~ /spilling|_loop/ || $3 ~ /_gate_|_rows|nn_panel_whole|nn_dense_dw_tile/ { print $3 }')
    case $names in *nn_gru_rows*nn_lstm_rows*) ;; *) names= ;; esac
    [ -n "$names" ] || { fail "$target compiles" "$WORK/$target.log"; continue; }
    python3 tests/spills/spills.py "$WORK/$target.s" >"$WORK/$target.found"
    for name in $names; do
        if grep -qx "$name: good" "$WORK/$target.found"; then
            pass "$target $name"
        else
            { grep "^$name: " "$WORK/$target.found" || echo "no hot loop"; } >"$WORK/out"
            fail "$target $name" "$WORK/out"
        fi
    done
    if grep -q '^spilling: a loop of 40 ' "$WORK/$target.found"; then
        pass "$target: the checker sees a spill"
    else
        fail "$target: the checker does not see a spill"
    fi
done
finish
