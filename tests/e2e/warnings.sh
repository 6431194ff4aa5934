#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Everything compiles without a warning: generated code of every example and test model in f32, f64 and without
# BLAS, with gcc and clang under the full set of warnings; its header in a C++ program; and the project's own
# sources with both compilers.

. tests/lib.sh

# Most warnings come from the compilers' front ends, which read the kernels once for all models. Those that need
# optimisation come from gcc -O1, for one precision of each model that no other suite builds in it with optimisation and
# -Wall -Wextra -Werror, as examples.sh does and whoever asks for NAME:f32. The benchmark's models, which are large
# variations of others, are checked in f32 only and without optimisation.
cc_strict() { # COMPILER REAL FILE
    dir=$(dirname "$3")
    case $1 in
    gcc-O1) gcc $NN_STRICT -O1 -Wno-psabi -Iruntime -I"$dir" -c -o /dev/null "$3" ;;
    gcc) gcc $NN_STRICT -fsyntax-only -Wno-psabi -Iruntime -I"$dir" -include "$dir/kernels-$2.h" "$3" ;;
    clang) clang $NN_STRICT -fsyntax-only -Iruntime -I"$dir" -include-pch "$dir/kernels-$2.pch" "$3" ;;
    g++ | clang++) printf '#include "%s"\nint main() { return 0; }\n' "$(basename "$3" .c).h" |
        $1 -std=c++11 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -fsyntax-only -Iruntime -I"$dir" -x c++ - ;;
    esac
}

read_kernels() { # COMPILER REAL: what generated code includes first
    h=$WORK/kernels-$2.h
    case $1 in
    gcc) gcc $NN_STRICT -Wno-psabi -Iruntime -x c-header "$h" -o "$h.gch" ;;
    clang) clang $NN_STRICT -Iruntime -x c-header "$h" -o "${h%.h}.pch" ;;
    esac
}

one() { # MODEL
    model=$1
    name=$(echo "${model%.nn}" | tr / _)
    for variant in f32 f64 no-blas; do
        case $variant-$model in f64-tests/bench/* | no-blas-tests/bench/*) continue ;; esac
        case $variant in f32) flags= real=f32 ;; f64) flags=--real=f64 real=f64 ;; *) flags=--no-blas real=f32 ;; esac
        out=$WORK/$name.$variant.c
        if ! "$NNC" "$model" $flags -o "$out" >"$out.log" 2>&1; then
            fail "$model $variant: nnc" "$out.log"
            continue
        fi
        for cc in gcc clang gcc-O1; do
            case $cc-$variant-$model in gcc-O1-f64-* | gcc-O1-no-blas-* | gcc-O1-f32-tests/bench/* | gcc-O1-f32-examples/*) continue ;; esac
            [ $cc != gcc-O1 ] || ! grep -qw "$(basename "${model%.nn}"):f32" tests/e2e/[!w]*.sh || continue
            try "$model $variant $cc" cc_strict $cc $real "$out"
        done
    done
    for cc in g++ clang++; do try "$model header $cc" cc_strict $cc f32 "$WORK/$name.f32.c"; done
}

if [ "${1:-}" = --one ]; then
    one "$2"
    exit 0
fi
suite warnings
for real in f32 f64; do
    {
        [ $real != f64 ] || echo '#define NN_REAL_F64 1'
        printf '#include "nn_init.h"\n#include "nn_kernels.h"\n'
    } >"$WORK/kernels-$real.h"
    for cc in gcc clang; do try "kernels $real $cc" read_kernels $cc $real; done
done

# The largest first, so that the last process does not run alone.
ls -S examples/*/model.nn tests/e2e/models/*.nn tests/bench/models/*.nn | xargs -P "$JOBS" -n 1 "$0" --one

own() { # COMPILER FILE
    case $2 in
    compiler/*) $1 -std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -fsyntax-only -Icompiler -I"$B/gen" "$2" ;;
    runtime/*) $1 -std=gnu11 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -Wno-psabi -fsyntax-only -Iruntime "$2" ;;
    *) $1 -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Wshadow -Wconversion -Werror -fsyntax-only -Iruntime -Icompiler "$2" ;;
    esac
}
for f in $(find compiler runtime -name '*.c') tests/e2e/fill.c tests/e2e/compare.c tests/e2e/tensors.c; do
    for cc in gcc clang; do try "$f $cc" own $cc "$f"; done
done
finish
