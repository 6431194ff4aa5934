#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Golden runner: tests/run.sh [--bless] [FILE or DIRECTORY...]
#
# A test is a file whose first lines say how to run it:
#     # RUN: nnc --emit=nnir %s        a shell command; %s is the test file, %t a path to write to
#     # EXIT: 1                        the expected exit code, 0 when the line is missing
#     # NOT: asan                      only for the plain build: what it tests and a sanitizer exclude each other
# Where the file itself cannot hold such lines (it is empty, not text, ...), STEM.cmd does, and %s is
# STEM.nn. Goldens stand beside the test under the same stem:
#     .err   stderr (missing: nothing may be printed there)
#     .out   stdout, or .nnir .dot .txt, for what it is (missing: nothing may be printed)
#     .c .h and others: what the run wrote to %t.c, %t.h, ...
# --bless rewrites the goldens of failing tests, and only of those that are named.

. tests/lib.sh

# One test per process, so that several run at once; this script calls itself.
run_one() {
    test=$1
    stem=${test%.*}
    tmp=$WORK/$(echo "$stem" | tr / _)
    cmds=$(head -n 8 "$test" | tr -d '\000\r')
    cmd=$(printf "%s\n" "$cmds" | sed -n 's/^# RUN: //p' | head -n 1)
    want=$(printf "%s\n" "$cmds" | sed -n 's/^# EXIT: //p' | head -n 1)
    subject=$test
    case $test in *.cmd) subject=$stem.nn ;; esac
    cmd=$(printf "%s\n" "$cmd" | sed -e "s|%s|$subject|g" -e "s|%t|$tmp|g")

    timeout "${TEST_TIMEOUT:-20}" sh -c "$cmd" >"$tmp.stdout" 2>"$tmp.stderr"
    code=$?
    : >"$tmp.diff"
    [ "$code" = "${want:-0}" ] || echo "exit code $code, expected ${want:-0}" >>"$tmp.diff"

    # What stdout is called when there is no golden yet.
    out=out
    case $cmd in
    *--dump-ir* | *--emit=nnir* | *--stop-after*) out=nnir ;;
    *--emit=dot*) out=dot ;;
    *--emit=summary* | *--report* | *--help* | *--list*) out=txt ;;
    esac
    case $test in *.nnir) [ "$out" != nnir ] || out=out ;; esac
    for ext in out nnir dot txt; do
        [ "$stem.$ext" = "$test" ] || [ ! -e "$stem.$ext" ] || [ -e "$tmp.$ext" ] || out=$ext
    done
    : >"$tmp.blessed"
    compare "$stem.err" "$tmp.stderr"
    compare "$stem.$out" "$tmp.stdout"
    for written in "$tmp".*; do
        ext=${written##*.}
        case $ext in stdout | stderr | diff | blessed) continue ;; esac
        compare "$stem.$ext" "$written"
    done
    # A golden nothing was compared with is as bad as a difference.
    for golden in "$stem".err "$stem".out "$stem".nnir "$stem".dot "$stem".txt "$stem".c "$stem".h; do
        [ -e "$golden" ] && [ "$golden" != "$test" ] && [ "$golden" != "$stem.err" ] &&
            [ "$golden" != "$stem.$out" ] && [ ! -e "$tmp.${golden##*.}" ] &&
            echo "$golden: the run wrote no such file" >>"$tmp.diff"
    done

    if [ ! -s "$tmp.diff" ]; then
        pass "$test"
    elif [ -n "$BLESS" ]; then
        if grep -q '^exit code' "$tmp.diff"; then
            { grep '^exit code' "$tmp.diff"; cat "$tmp.stderr"; } >"$tmp.diff2"
            fail "$test (not blessed: wrong exit code)" "$tmp.diff2"
        else
            sed 's/^/  BLESS /' "$tmp.blessed"
            pass "$test"
        fi
    else
        {
            cat "$tmp.diff"
            printf '%s\n' "again:       PATH=$(dirname "$NNC"):\$PATH sh -c '$cmd'"
            echo "if intended: make bless T=$test"
        } >"$tmp.report"
        fail "$test" "$tmp.report"
    fi
}

compare() { # GOLDEN ACTUAL
    if [ -n "$BLESS" ]; then
        golden_now=/dev/null
        [ ! -e "$1" ] || golden_now=$1
        cmp -s "$golden_now" "$2" && return
        echo "differs $1" >>"$tmp.diff"
        # A wrong exit code is never blessed away.
        [ "$code" = "${want:-0}" ] || return
        if [ -s "$2" ]; then cp "$2" "$1"; else rm -f "$1"; fi
        echo "$1" >>"$tmp.blessed"
    elif [ -e "$1" ]; then
        diff -u "$1" "$2" >>"$tmp.diff" 2>&1
    elif [ -s "$2" ]; then
        diff -u --label "$1 (no such golden)" --label "$2" /dev/null "$2" >>"$tmp.diff"
    fi
}

if [ "${1:-}" = --one ]; then
    shift
    for one; do run_one "$one"; done
    exit 0
fi

BLESS=
if [ "${1:-}" = --bless ]; then
    shift
    BLESS=1
    [ -z "${CI:-}" ] || { echo "bless: refused, CI is set: goldens are changed by people" >&2; exit 2; }
    [ $# -gt 0 ] || { echo "bless: which tests? make bless T='tests/errors/dim*'" >&2; exit 2; }
fi
export BLESS
PATH=$(cd "$(dirname "$NNC")" && pwd):$PATH
export PATH

suite "text$(case $NNC in build/nnc) ;; *) echo "-$(basename "$(dirname "$NNC")")" ;; esac)"
[ $# -gt 0 ] || set -- tests
for arg; do
    if [ -d "$arg" ]; then
        find "$arg" -name '*.nn' -o -name '*.nnir' -o -name '*.cmd'
    else
        case $arg in *.nn | *.nnir | *.cmd) echo "$arg" ;; esac
    fi
done | sort -u | while read -r f; do
    [ -e "$f" ] && head -n 8 "$f" | tr -d '\000' | grep -q '^# RUN: ' || continue
    head -n 8 "$f" | tr -d '\000' | grep -qx "# NOT: $(basename "$(dirname "$NNC")")" || echo "$f"
done >"$WORK.list"
xargs -P "$JOBS" -n 8 tests/run.sh --one <"$WORK.list"
if [ -n "$BLESS" ] && command -v git >/dev/null; then git --no-pager diff --stat -- tests; fi
finish
