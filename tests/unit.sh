#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Runs the unit tests (build/unit/test_*, one libcheck program each) and counts every check of them.

. tests/lib.sh
UNIT=${UNIT:-$B/unit}
suite "unit$(case $UNIT in build/unit) ;; *) echo "-$(basename "$(dirname "$UNIT")")" ;; esac)"

for src in tests/unit/test_*.c; do
    [ -e "$src" ] || continue
    name=$(basename "$src" .c)
    log=$WORK/$name.log
    if [ ! -x "$UNIT/$name" ]; then
        fail "$name: not built"
        continue
    fi
    CK_VERBOSITY=verbose timeout 300 "$UNIT/$name" >"$log" 2>&1
    code=$?
    # file.c:12:P:case:test:0: Passed
    grep -E '^[^ ]+:[0-9]+:P:' "$log" | while IFS=: read -r _ _ _ _ test _; do pass "$name.$test"; done
    if [ $code -ne 0 ]; then
        if grep -qE '^[^ ]+:[0-9]+:[FE]:' "$log"; then
            grep -E '^[^ ]+:[0-9]+:[FE]:' "$log" >"$log.lines"
            while IFS= read -r line; do
                echo "$line" >"$log.one"
                fail "$name.$(echo "$line" | cut -d: -f5)" "$log.one"
            done <"$log.lines"
        else
            tail -n 40 "$log" >"$log.tail"
            fail "$name: exit code $code" "$log.tail"
        fi
    elif ! grep -q ':P:' "$log"; then
        fail "$name: passed without checking anything" "$log"
    fi
done
finish
