#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Builds the fuzz targets with clang's libFuzzer, ASan and UBSan, and runs each for FUZZ_SECONDS (60).
# tests/fuzz/fuzz.sh [--build] [TARGET...]; targets: nn nnir safetensors idx. With --build nothing is run beyond
# the seeds. The corpus grows in build/fuzz/corpus; inputs that crash are kept in build/fuzz/crashes.

. tests/lib.sh
F=$B/fuzz
build_only=
if [ "${1:-}" = --build ]; then build_only=1; shift; fi
targets=${*:-nn nnir safetensors idx}

# The fuzzer's library is a package of its own, named after the version of clang.
if ! echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { (void)d; (void)n; return 0; }' |
    clang -x c -fsanitize=fuzzer - -o /dev/null 2>/dev/null; then
    version=$(clang -dumpversion | cut -d. -f1)
    sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get install -y -qq "libclang-rt-$version-dev" >/dev/null 2>&1 ||
        { echo "fuzz: clang has no libFuzzer; the package is libclang-rt-$version-dev" >&2; exit 1; }
fi

SAN="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all"
need=
for t in $targets; do case $t in nn*) need="$need $F/libnnc.a" ;; *) need="$need $F/libnn.a" ;; esac; done
# shellcheck disable=SC2086 # a list of targets
need=$(printf "%s\n" $need | sort -u)
make B="$F" CC=clang OPT=-O1 ARCH= SAN="$SAN" $need || exit 1
mkdir -p "$F/tmp" "$F/crashes"
CFLAGS="-std=c11 -D_GNU_SOURCE -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Icompiler -Iruntime -I$F/gen"
FUZZ_TMP=$F/tmp
export FUZZ_TMP

build() { # TARGET
    case $1 in
    nn | nnir)
        define=; [ "$1" = nn ] || define=-DNNIR
        clang $CFLAGS -Dmain=nnc_main -fsanitize=fuzzer-no-link -c -o "$F/main.o" compiler/main.c &&
            clang $CFLAGS $define -Wl,--wrap=exit -o "$F/fuzz_$1" tests/fuzz/fuzz_nnc.c "$F/main.o" "$F/libnnc.a" -ljansson -lm
        ;;
    *) clang $CFLAGS -o "$F/fuzz_$1" "tests/fuzz/fuzz_$1.c" "$F/libnn.a" $NN_LIBS ;;
    esac
}

corpus() { # TARGET: seeds are the examples, the text tests and tests/fuzz/seeds
    mkdir -p "$F/corpus/$1"
    case $1 in
    nn)
        # Unrolled loops over time make large graphs, and large graphs slow fuzzing.
        for f in $(grep -L 'scan ' examples/*/model.nn $(find tests -name '*.nn' -size -16k)); do
            cp "$f" "$F/corpus/nn/seed_$(echo "$f" | tr / _)"
        done
        awk -F '[(,]' '/^KEYWORD/ { print "\"" $2 "\"" }' grammar/keywords.def >"$F/nn.dict"
        "$F/../nnc" --list=ops 2>/dev/null | awk '{ print "\"" $1 "(\"" }' >>"$F/nn.dict"
        printf '"->"\n"@"\n".."\n"f32["\n"i32["\n"[B, 8]"\n"same"\n"adam(lr = 1e-3)"\n' >>"$F/nn.dict"
        ;;
    nnir)
        for f in examples/*/model.nn; do
            "$F/../nnc" "$f" --emit=nnir -o "$F/corpus/nnir/seed_$(echo "$f" | tr / _)ir" 2>/dev/null
        done
        "$F/../nnc" --list=ops 2>/dev/null | awk '{ print "\"" $1 "\"" }' >"$F/nnir.dict"
        ;;
    *) cp "tests/fuzz/seeds/$1"/* "$F/corpus/$1/" ;;
    esac
    [ ! -d "tests/fuzz/seeds/$1" ] || cp "tests/fuzz/seeds/$1"/* "$F/corpus/$1/" 2>/dev/null
    [ -n "$(ls "$F/corpus/$1")" ] || { echo "fuzz: no seeds for $1" >&2; return 1; }
}

bad=0
for t in $targets; do
    echo "  FUZZ   $t"
    build "$t" && corpus "$t" || { bad=1; continue; }
    dict=; [ ! -s "$F/$t.dict" ] || dict=-dict=$F/$t.dict
    seconds=${FUZZ_SECONDS:-60}
    if [ -n "$build_only" ]; then limit=-runs=0; else limit=-max_total_time=$seconds; fi
    # Arenas of runs that end in exit() are lost by design, so leaks are not looked for in the compiler.
    leaks=1; case $t in nn*) leaks=0 ;; esac
    log=$F/$t.log
    if ASAN_OPTIONS=detect_leaks=$leaks:allocator_may_return_null=1 "$F/fuzz_$t" $dict $limit -timeout=60 -rss_limit_mb=4096 \
        -max_len=16384 -detect_leaks=$leaks -close_fd_mask=1 -print_final_stats=1 -artifact_prefix="$F/crashes/$t-" "$F/corpus/$t" >"$log" 2>&1; then
        grep -E 'stat::number_of_executed_units|DONE|INITED' "$log" | tail -n 2 | sed 's/^/    /'
    else
        bad=1
        echo "fuzz: $t failed; the input is in $F/crashes, the log is $log" >&2
        grep -vE '^#[0-9]+' "$log" | tail -n 40 >&2
    fi
done
rm -rf "$F/tmp"
exit $bad
