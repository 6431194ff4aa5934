#!/bin/sh
# SPDX-License-Identifier: MIT
#
# A program with two models (program.c): normal, under ThreadSanitizer, and without BLAS; and what nm says
# about generated code: no writable data, no allocation, no output.

. tests/lib.sh
suite program

for m in lenet vae; do
    "$NNC" "tests/e2e/models/$m.nn" -o "$WORK/$m.c" >"$WORK/$m.log" 2>&1 || fail "$m: nnc" "$WORK/$m.log"
    mkdir -p "$WORK/plain"
    "$NNC" --no-blas "tests/e2e/models/$m.nn" -o "$WORK/plain/$m.c" >"$WORK/$m.log" 2>&1 || fail "$m: nnc --no-blas" "$WORK/$m.log"
done

run() { # NAME DIRECTORY LIBRARY LIBS FLAGS...: builds and runs; every line the program prints is a test
    name=$1 dir=$2 lib=$3 libs=$4
    shift 4
    if ! "$CC" $NN_FLAGS -g -Wall "$@" -I"$dir" -o "$WORK/$name" tests/e2e/program.c "$dir/lenet.c" "$dir/vae.c" "$lib" $libs >"$WORK/$name.log" 2>&1; then
        fail "$name: does not build" "$WORK/$name.log"
        return
    fi
    mkdir -p "$WORK/$name.out"
    timeout 300 "$WORK/$name" "$WORK/$name.out" >"$WORK/$name.lines" 2>"$WORK/$name.err"
    code=$?
    while read -r result what; do
        if [ "$result" = ok ]; then pass "$name: $what"; else fail "$name: $what"; fi
    done <"$WORK/$name.lines"
    if [ $code != 0 ] || [ -s "$WORK/$name.err" ]; then
        { echo "exit code $code"; cat "$WORK/$name.err"; } >"$WORK/$name.log"
        fail "$name: ends well" "$WORK/$name.log"
    else
        pass "$name: ends well"
    fi
}

run program "$WORK" "$NNLIB" "$NN_LIBS" -O2
run program-no-blas "$WORK/plain" "$NNLIB" "-lz -lpthread -lm" -O2
if make B="$B/tsan" SAN=-fsanitize=thread "$B/tsan/libnn.a" >"$WORK/tsan.log" 2>&1; then
    run program-tsan "$WORK/plain" "$B/tsan/libnn.a" "-lz -lpthread -lm" -O1 -fsanitize=thread
else
    fail "the library builds under ThreadSanitizer" "$WORK/tsan.log"
fi

for m in lenet vae; do
    "$CC" $NN_FLAGS -O2 -I"$WORK" -c -o "$WORK/$m.o" "$WORK/$m.c"
    # Tables of constants with pointers in them are relocated, hence .data.rel.ro ("d" in position-independent code).
    objdump -t "$WORK/$m.o" | awk '$0 ~ / O / && ($0 ~ / \.data / || $0 ~ / \.bss / || $0 ~ / \*COM\* /)' >"$WORK/$m.data"
    if [ -s "$WORK/$m.data" ]; then fail "$m.c has no writable data" "$WORK/$m.data"; else pass "$m.c has no writable data"; fi
    nm -u "$WORK/$m.o" | grep -wE 'malloc|calloc|realloc|free|exit|abort|printf|puts|fopen|fwrite|__assert_fail|putchar' >"$WORK/$m.calls"
    if [ -s "$WORK/$m.calls" ]; then fail "$m.c allocates, prints and exits nowhere" "$WORK/$m.calls"; else pass "$m.c allocates, prints and exits nowhere"; fi
done
finish
