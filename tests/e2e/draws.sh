#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Layers that draw in a step and do not in an infer: draws.c says what is checked.

. tests/lib.sh
suite draws

if "$NNC" tests/e2e/models/draws.nn -o "$WORK/draws.c" >"$WORK/build.log" 2>&1 &&
    "$CC" $NN_FLAGS -O1 -Wall -Wextra -Werror -I"$WORK" -o "$WORK/draws" tests/e2e/draws.c "$WORK/draws.c" "$NNLIB" $NN_LIBS \
        >>"$WORK/build.log" 2>&1; then
    pass "builds"
else
    fail "builds" "$WORK/build.log"
    finish
    exit 1
fi
"$WORK/draws" >"$WORK/lines" 2>&1
code=$?
while read -r result text; do
    case $result in
    ok) pass "$text" ;;
    *) fail "$result $text" ;;
    esac
done <"$WORK/lines"
[ $code -le 1 ] || fail "draws ended with $code"
finish
