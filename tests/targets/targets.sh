#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Generated code and library on other processors than this one, emulated by qemu: 64-bit ARM (NEON), 32-bit ARM (scalar)
# and s390x (big-endian), and on this one with vectors of every length. The kernels against plain loops, a LeNet whose
# numbers are the host's, files that mean the same on either side, and with NN_STRICT the same bits from every compiler,
# level of optimisation and processor. Processors whose compiler is not installed are skipped: `make targets` installs.

. tests/lib.sh
suite targets

BARE="-DNN_NO_THREADS -DNN_NO_FILES -DNN_NO_HEAP"
FLAGS="-std=gnu11 -fno-math-errno -fno-trapping-math -Iruntime -Wall -Wextra -Wno-psabi"
OBJECT="runtime/model.c runtime/init.c runtime/status.c"

# build MODEL PROGRAM COMPILER FLAGS...: tests/targets/net.c with a generated model and what it needs of the library.
build() {
    model=$1 program=$2
    shift 2
    "$@" $FLAGS -I"$WORK/$model" -o "$WORK/$program" tests/targets/net.c "$WORK/$model/net.c" $OBJECT -lm
}

run() { # PROGRAM RUNNER...: its output goes to PROGRAM.out
    program=$1
    shift
    timeout 120 "$@" "$WORK/$program" >"$WORK/$program.out"
}

# close A B: the same names, numbers within rounding.
close() {
    paste -d ' ' "$1" "$2" | grep -v '^bits ' | awk '
        function abs(v) { return v < 0 ? -v : v }
        { n++; if ($1 != $3 || NF != 4 || !(abs($2 - $4) <= 2e-5 * (abs($4) + 0.05))) { print; bad = 1 } }
        END { exit bad || n < 50 }'
}

kernels() { # NAME COMPILER RUNNER FLAGS...: unit tests of kernels, each line of them a test
    name=$1 cc=$2 runner=$3
    shift 3
    for test in kernels_a kernels_b_any conv_any conv_norm_any pool_norm; do
        log=$WORK/$name-$test
        if ! $cc -std=gnu11 -D_GNU_SOURCE -O1 -fno-math-errno -fno-trapping-math -Itests/targets -Iruntime -Wno-psabi \
            -DTARGET_FEWER=40 -DNN_NO_THREADS -DNN_NO_BLAS "$@" -o "$log" tests/unit/test_$test.c runtime/model.c -lm >"$log.log" 2>&1; then
            fail "$name: $test builds" "$log.log"
            continue
        fi
        timeout 600 $runner "$log" >"$log.out" 2>&1
        code=$?
        grep '^ok ' "$log.out" | while read -r _ what; do pass "$name: $what"; done
        [ $code = 0 ] || fail "$name: $test" "$log.out"
    done
}

# chains FLAGS...: shares of a team under the tuning that takes lone chains of multiply-adds apart; gcc knows it.
chains() {
    if ! "$CC" -mtune=znver3 -E -x c /dev/null >"$WORK/chain.log" 2>&1; then
        skip "lone chains" "$CC has no -mtune=znver3"
        return
    fi
    try "lone chains: builds" "$CC" $FLAGS -O2 "$@" -mtune=znver3 -o "$WORK/chain" tests/targets/chain.c -lm || return
    "$WORK/chain" >"$WORK/chain.out" 2>&1
    [ $? -le 1 ] || fail "lone chains: runs" "$WORK/chain.out"
    while read -r result name; do
        case $result in ok) pass "lone chains: $name" ;; *) fail "lone chains: $name" ;; esac
    done <"$WORK/chain.out"
}

for model in lenet strict; do
    mkdir -p "$WORK/$model"
    try "$model: nnc" "$NNC" --no-blas tests/targets/$model.nn -o "$WORK/$model/net.c"
done

# ---- this processor: the reference, and other lengths of vectors ----

try "host: lenet builds" build lenet host "$CC" -O1 -march=native $BARE
try "host: lenet runs" run host
vectors() { # NAME FLAGS...
    name=$1
    shift
    try "$name: lenet builds" build lenet "$name" "$CC" -O1 $BARE "$@" || return
    try "$name: lenet runs" run "$name"
    try "$name: lenet as on the host" close "$WORK/$name.out" "$WORK/host.out"
}
vectors host-scalar -march=native -DNN_VBYTES=4
kernels host-scalar "$CC" "" -march=native -DNN_VBYTES=4
case $(uname -m) in
x86_64)
    vectors host-sse2 -march=x86-64
    if grep -qw avx2 /proc/cpuinfo; then
        vectors host-avx2 -march=haswell
        kernels host-avx2 "$CC" "" -march=haswell
        chains -march=haswell
    else
        skip "host: AVX2" "this processor has none"
    fi
    ;;
esac

# ---- other processors ----

strict=$WORK/strict.bits
: >"$strict"
strict() { # NAME RUNNER COMPILER...
    name=strict-$1 runner=$2
    shift 2
    if try "$name builds" build strict "$name" "$@" -DNN_STRICT && try "$name runs" run "$name" $runner; then
        echo "$(sed -n 's/^bits //p' "$WORK/$name.out") $name" >>"$strict"
    fi
}

target() { # PREFIX QEMU
    cc=$1-gcc qemu=$2 name=${1%%-*}
    if ! command -v "$cc" >/dev/null || ! command -v "$qemu" >/dev/null; then
        skip "$name" "$cc or $qemu is not installed: make targets"
        return
    fi
    try "$name: lenet builds" build lenet "$name" "$cc" -static -O1 $BARE
    try "$name: lenet runs" run "$name" "$qemu"
    try "$name: lenet as on the host" close "$WORK/$name.out" "$WORK/host.out"
    kernels "$name" "$cc" "$qemu" -static
    strict "$name" "$qemu" "$cc" -static -O2 $BARE

    files=$WORK/$name-files
    mkdir -p "$files.host" "$files.there"
    if try "$name: readers build" "$cc" $FLAGS -D_GNU_SOURCE -static -O1 -o "$files" tests/targets/files.c tests/targets/zlib.c \
        runtime/safetensors.c runtime/idx.c runtime/file.c runtime/status.c -ffunction-sections -Wl,--gc-sections; then
        try "$name: files are written" "$qemu" "$files" write "$files.there"
        try "$name: own files are read" "$qemu" "$files" read "$files.there"
        try "host: files are written" "$WORK/host-files" write "$files.host"
        try "$name: the same bytes as from the host" diff -r "$files.there" "$files.host"
    fi
}

try "host: readers build" "$CC" $FLAGS -D_GNU_SOURCE -O1 -o "$WORK/host-files" tests/targets/files.c "$NNLIB" -lz -lm -lpthread
target aarch64-linux-gnu qemu-aarch64
target arm-linux-gnueabihf qemu-arm
target s390x-linux-gnu qemu-s390x

# ---- the same bits ----

for o in -O0 -O2 -O3; do strict "gcc$o" "" gcc $o -march=native $BARE; done
strict gcc-plain "" gcc -O2 $BARE
strict gcc-small "" gcc -Os -march=native -DNN_SMALL_CODE $BARE
for o in -O0 -O2; do strict "clang$o" "" clang $o -march=native -DNN_SMALL_CODE $BARE; done
if [ "$(cut -d' ' -f1 "$strict" | sort -u | wc -l)" = 1 ] && [ "$(wc -l <"$strict")" -ge 7 ]; then
    pass "NN_STRICT: $(wc -l <"$strict") builds, the same bits"
else
    fail "NN_STRICT: the same bits" "$strict"
fi

# ---- what a microcontroller needs ----

"$CC" $FLAGS -O2 $BARE -I"$WORK/lenet" -r -nostdlib -o "$WORK/bare.o" "$WORK/lenet/net.c" $OBJECT >"$WORK/bare.log" 2>&1 ||
    fail "bare: links" "$WORK/bare.log"
nm -u "$WORK/bare.o" | awk '{ print $2 }' |
    grep -vxE '_GLOBAL_OFFSET_TABLE_|mem(cpy|set|move|cmp)|strcmp|(sqrt|floor|fmod|sin|cos|exp|log|pow|log1p)f?' >"$WORK/bare.needs"
if [ -s "$WORK/bare.o" ] && [ ! -s "$WORK/bare.needs" ]; then
    pass "bare: model.c, init.c and status.c need strings and libm alone"
else
    fail "bare: model.c, init.c and status.c need strings and libm alone" "$WORK/bare.needs"
fi
finish
