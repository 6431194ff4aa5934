#!/bin/sh
# SPDX-License-Identifier: MIT
#
# all.sh [SUITE...]: runs every suite, or the named ones, in their order here, and ends with one line:
# N passed, N failed, N skipped. Fails when any test failed, and when a suite stopped before it could count.
#
# Suites marked & run one after the other beside the rest, which keep a processor waiting now and then: they take one
# processor, and share no file with others that one of them writes. What they print comes at the end.

. tests/lib.sh

SUITES="
lint:tests/lint.sh
unit:tests/unit.sh:&
spills:tests/spills/spills.sh
text:tests/run.sh
replay:tests/passes/replay.sh
generated:tests/errors/generated.sh
docs:tests/docs.sh
check-ops:tests/ops/check-ops.sh
manual:tests/ops/manual.sh
op-reference:tests/ops/reference.sh
warnings:tests/e2e/warnings.sh
gradients:tests/e2e/gradients.sh
reference:tests/e2e/reference.sh
draws:tests/e2e/draws.sh
training:tests/e2e/training.sh
threads:tests/e2e/threads.sh
in_backward:tests/e2e/in_backward.sh
kept:tests/e2e/kept.sh
blas:tests/e2e/blas.sh
resume:tests/e2e/resume.sh:&
second:tests/e2e/second.sh:&
hvp:tests/e2e/hvp.sh:&
trace:tests/e2e/trace.sh:&
program:tests/e2e/program.sh:&
sanitize:tests/e2e/sanitize.sh
examples:tests/e2e/examples.sh
targets:tests/targets/targets.sh:&
install:tests/e2e/install.sh:&
hacking:tests/e2e/hacking.sh:&
bench:tests/bench/bench.sh:&
"

for name in "$@"; do
    case " $(echo $SUITES) " in *" $name:"*) continue ;; esac
    echo "all.sh: no suite '$name'; there are:" $(for s in $SUITES; do echo "${s%%:*}"; done) >&2
    exit 2
done
mkdir -p "$B/test"
rm -f "$B"/test/*.results "$B"/test/*.code
. tests/e2e/tools.sh # built before two suites find them missing

# lane MARK [NAME...]: runs the suites of this mark among those named, and leaves the exit code of each.
lane() {
    mark=$1
    shift
    for s in $SUITES; do
        name=${s%%:*} rest=${s#*:}
        [ "${rest#"${rest%:&}"}" = "$mark" ] || continue
        case "${*:+ $* }" in "" | *" $name "*) ;; *) continue ;; esac
        "${rest%:&}"
        echo $? >"$B/test/$name.code"
    done
}
lane ':&' "$@" >"$B/test/beside.log" 2>&1 &
trap "kill $!; exit 130" INT TERM # a shell's background is deaf to the keyboard
lane '' "$@"
wait
trap - INT TERM
cat "$B/test/beside.log"

broken=
for code in "$B"/test/*.code; do
    # 1 is a failed test, which the count shows; anything else is a broken suite.
    [ "$(cat "$code")" -le 1 ] || broken="$broken $(basename "$code" .code)"
done

passed=$(cat "$B"/test/*.results | grep -c '^PASS ')
failed=$(cat "$B"/test/*.results | grep -c '^FAIL ')
skipped=$(cat "$B"/test/*.results | grep -c '^SKIP ')
for s in $broken; do
    echo "FAIL $s ended early" >&2
    failed=$((failed + 1))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
