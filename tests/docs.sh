#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The documentation's programs. In every Markdown file, a block marked ```nn is a whole program that must
# compile to C without a warning; ```nn-error one that must be rejected with exit code 1; ```c with a main a
# program around examples/mlp that must compile without a warning. Every file a relative link points to must
# exist, and docs/operators.md must be what the operator table prints.

. tests/lib.sh
suite docs
try "examples/mlp compiles" "$NNC" examples/mlp/model.nn -o "$WORK/model.c"

for doc in README.md ARCHITECTURE.md CONTRIBUTING.md HACKING.md docs/*.md examples/*/README.md grammar/README.md; do
    [ -e "$doc" ] || continue
    stem=$WORK/$(echo "$doc" | tr / _)
    awk -v stem="$stem" '
        /^ *```/ && on { on = 0; close(file); next }
        /^ *```c$/ { on = 1; n++; file = stem "." n ".c"
                     print FILENAME ":" FNR + 1 >(file ".at"); close(file ".at"); next }
        /^ *```nn(-error)?$/ { on = 1; n++; file = stem "." n ($0 ~ /error/ ? ".bad" : ".good") ".nn"
                               print FILENAME ":" FNR + 1 >(file ".at"); close(file ".at"); next }
        on { print >file }
    ' "$doc"
    for program in "$stem".*.nn; do
        [ -e "$program" ] || continue
        at=$(cat "$program.at")
        "$NNC" "$program" -o "$program.c" >"$program.log" 2>&1
        code=$?
        case $program in
        *.good.nn) if [ $code = 0 ] && [ ! -s "$program.log" ]; then pass "$at"; else fail "$at" "$program.log"; fi ;;
        *.bad.nn) if [ $code = 1 ]; then pass "$at"; else fail "$at: exit code $code, expected 1" "$program.log"; fi ;;
        esac
    done
    for program in "$stem".*.c; do
        case $program in *.nn.c) continue ;; esac
        grep -q '^int main(' "$program" 2>/dev/null || continue
        try "$(cat "$program.at")" "$CC" -std=c11 -Wall -Wextra -Wshadow -Werror -Iruntime -I"$WORK" -fsyntax-only "$program"
    done
    # Links: [text](path) and [text](path#anchor), not URLs.
    grep -o '](\([^)#:]*\)[^)]*)' "$doc" | sed 's/^](//; s/[)#].*//' | grep -v '://' | sort -u | while read -r link; do
        [ -n "$link" ] || continue
        if [ -e "$(dirname "$doc")/$link" ]; then pass "$doc: link $link"; else fail "$doc: link $link leads nowhere"; fi
    done
done

"$NNC" --manual >"$WORK/operators.md" 2>"$WORK/manual.log"
if cmp -s "$WORK/operators.md" docs/operators.md; then
    pass "docs/operators.md is current"
else
    diff -u docs/operators.md "$WORK/operators.md" >"$WORK/manual.diff" 2>&1
    echo "if intended: make doc" >>"$WORK/manual.diff"
    fail "docs/operators.md is current" "$WORK/manual.diff"
fi
finish
