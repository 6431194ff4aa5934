#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Runs every suite and ends with one line: N passed, N failed, N skipped. Fails when any test failed, and
# when a suite stopped before it could count.

. tests/lib.sh

mkdir -p "$B/test"
rm -f "$B"/test/*.results
broken=
for s in tests/lint.sh tests/unit.sh tests/run.sh tests/passes/replay.sh tests/errors/generated.sh tests/docs.sh tests/ops/check-ops.sh tests/ops/manual.sh tests/ops/reference.sh tests/e2e/warnings.sh tests/e2e/gradients.sh \
    tests/e2e/reference.sh tests/e2e/draws.sh tests/e2e/training.sh tests/e2e/threads.sh tests/e2e/blas.sh tests/e2e/resume.sh tests/e2e/second.sh tests/e2e/program.sh tests/e2e/sanitize.sh \
    tests/e2e/examples.sh tests/e2e/install.sh tests/e2e/hacking.sh; do
    "$s"
    code=$?
    # 1 is a failed test, which the count shows; anything else is a broken suite.
    [ $code -le 1 ] || broken="$broken $s"
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
