#!/bin/sh
# SPDX-License-Identifier: MIT
#
# A long run for what short ones find rarely: kills at random moments, fuzzing, operators and examples again and again,
# for SOAK_SECONDS (3600). Ends with the number of rounds; stops at the first failure.

. tests/lib.sh
end=$(($(date +%s) + ${SOAK_SECONDS:-3600}))
round=0
while [ "$(date +%s)" -lt "$end" ]; do
    round=$((round + 1))
    echo "round $round"
    tests/e2e/resume.sh 60 || exit 1
    tests/e2e/threads.sh || exit 1
    tests/e2e/program.sh || exit 1
    FUZZ_SECONDS=120 tests/fuzz/fuzz.sh || exit 1
done
echo "$round rounds without a failure"
