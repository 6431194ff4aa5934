# SPDX-License-Identifier: MIT
#
# Shared by every test script (sourced, from the root of the project). A script calls `suite NAME`, then
# pass, fail or skip once per test, then `finish`. Results are lines in a file, so that tests may run in
# parallel; tests/all.sh adds them up.

set -u
LC_ALL=C
export LC_ALL
# A make that a test starts is on its own: the job server of the make that started the tests is out of reach.
unset MAKEFLAGS MFLAGS MAKELEVEL

B=${B:-build}
NNC=${NNC:-$B/nnc}
NNLIB=${NNLIB:-$B/libnn.a}
CC=${CC:-gcc}
JOBS=${JOBS:-$(nproc 2>/dev/null || echo 2)}
export B NNC NNLIB CC JOBS

# Flags for generated code: the recommended ones, and the strict ones it must also compile under.
NN_FLAGS="-std=gnu11 -march=native -fno-math-errno -fno-trapping-math -Iruntime"
NN_LIBS="-lopenblas -lz -lpthread -lm"
NN_STRICT="-std=c11 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wdouble-promotion \
-Wstrict-prototypes -Wvla -Wundef -Werror"

suite() { # NAME: starts a script's tests; leaves $WORK, an empty directory, and $RESULTS
    SUITE=$1
    WORK=$B/test/$SUITE
    RESULTS=$B/test/$SUITE.results
    rm -rf "$WORK" "$RESULTS"
    mkdir -p "$WORK"
    : >"$RESULTS"
    SUITE_START=$(date +%s)
    export SUITE WORK RESULTS
}

pass() { echo "PASS $1" >>"$RESULTS"; [ -z "${VERBOSE:-}" ] || echo "PASS $SUITE: $1"; }
fail() { # NAME [FILE with details]
    echo "FAIL $1" >>"$RESULTS"
    {
        echo "FAIL $SUITE: $1"
        [ $# -lt 2 ] || [ ! -s "$2" ] || head -n "${FAIL_LINES:-60}" "$2" | sed 's/^/    /'
    } >&2
}
skip() { # NAME REASON: always printed, a skipped test is never silent
    echo "SKIP $1" >>"$RESULTS"
    echo "SKIP $SUITE: $1: $2" >&2
}

# try NAME COMMAND...: the test passes when the command does; its output is shown only when it fails.
try() {
    try_name=$1
    shift
    try_log=$WORK/$(echo "$try_name" | tr -c 'A-Za-z0-9.\n' '_').log
    if "$@" >"$try_log" 2>&1; then
        pass "$try_name"
    else
        { echo "exit code $?: $*"; cat "$try_log"; } >"$try_log.fail"
        fail "$try_name" "$try_log.fail"
        return 1
    fi
}

count() { grep -c "^$1 " "$RESULTS" || true; }

finish() { # prints the suite's line; fails when a test failed or none ran
    p=$(count PASS) f=$(count FAIL) s=$(count SKIP)
    printf '  %-12s %4d passed, %d failed, %d skipped  (%d s)\n' "$SUITE" "$p" "$f" "$s" \
        $(($(date +%s) - SUITE_START))
    if [ "$((p + f + s))" = 0 ]; then
        fail "no test was found"
        exit 1
    fi
    [ "$f" = 0 ]
}
