#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Under ASan and UBSan: the compiler on every text test, and the generated code of all examples and test models, a
# few steps each, with gcc and clang.

. tests/lib.sh
. tests/e2e/tools.sh

A=$B/asan
SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"

one() { # MODEL COMPILER: the harness runs every routine on drawn inputs
    name=$(echo "${1%.nn}" | tr / _)
    h=$WORK/$name-$2
    # clang's runtime cannot be mixed with objects that gcc instrumented. Compilers need minutes for kernels that are
    # unrolled and instrumented, so they get them as loops; of models that have all kernels gcc sees the unrolled form.
    # clang, many times slower on instrumented code when it optimises, does not: every access of the text is then checked.
    case $2 in clang) lib=$NNLIB opt=-O0 ;; *) lib=$A/libnn.a opt=-O1 ;; esac
    case $2-$1 in gcc-tests/e2e/models/layers.nn | gcc-*/lenet/* | gcc-*/vae/* | gcc-*/recurrent.nn) small= ;; *) small=-DNN_SMALL_CODE ;; esac
    if ! "$NNC" --emit=harness "$1" -o "$h.c" >"$h.log" 2>&1 ||
        ! $2 $NN_FLAGS $small $opt -g1 $SANITIZE -I"$WORK" -o "$h" "$h.c" "$lib" $NN_LIBS >>"$h.log" 2>&1; then
        fail "$1 $2: builds" "$h.log"
        return
    fi
    # gcc 12 places a frame for vectors of 64 bytes as the machine's stack needs it, then moves it to where returned
    # frames are watched, 32 bytes off: an aligned access faults there. Returned frames are watched in clang's build.
    case $2 in clang) watch=1 ;; *) watch=0 ;; esac
    "$h" --list | awk '$1 == "infer" || $1 == "step" { print $2 }' >"$h.routines"
    [ -s "$h.routines" ] || fail "$1 $2: no routines"
    while read -r routine; do
        try "$1 $2: $routine" env ASAN_OPTIONS=detect_stack_use_after_return=$watch "$h" --routine "$routine" --batch 3 --steps 2 --threads 2 --seed 1
    done <"$h.routines"
}

if [ "${1:-}" = --one ]; then
    one "$2" gcc
    one "$2" clang
    exit 0
fi

if ! make B="$A" OPT=-O1 SAN="$SANITIZE" "$A/nnc" "$A/libnn.a" >"$B/test/asan.log" 2>&1; then
    suite sanitize
    fail "sanitized build" "$B/test/asan.log"
    finish
    exit 1
fi
UBSAN_OPTIONS=print_stacktrace=1
ASAN_OPTIONS=detect_stack_use_after_return=1
export UBSAN_OPTIONS ASAN_OPTIONS
text=0
NNC=$A/nnc tests/run.sh || text=1

suite sanitize
ls -S examples/*/model.nn tests/e2e/models/*.nn | xargs -P "$JOBS" -n 1 "$0" --one
finish && [ $text = 0 ]
