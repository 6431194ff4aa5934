#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Difference of everything nnc generates between another revision and the working tree:
# tests/emit-diff.sh [BASE]. For each example, benchmark and test model: C, header, graph and plan.

. tests/lib.sh
base=${1:-HEAD}
D=$B/emit-diff
rm -rf "$D"
mkdir -p "$D/old" "$D/new"
git rev-parse --verify -q "$base^{commit}" >/dev/null || { echo "emit-diff: no revision $base" >&2; exit 2; }
git worktree prune
git worktree add -q --detach "$D/tree" "$base" || exit 1
trap 'git worktree remove --force "$D/tree"' EXIT
make -C "$D/tree" build/nnc >"$D/make.log" 2>&1 || { tail -n 20 "$D/make.log" >&2; echo "emit-diff: $base does not build" >&2; exit 1; }

generate() { # NNC OUTPUT_DIRECTORY
    for f in examples/*/model.nn tests/bench/models/*.nn tests/e2e/models/*.nn; do
        stem=$2/$(echo "${f%.nn}" | tr / _)
        "$1" "$f" -o "$stem.c" 2>"$stem.err"
        "$1" "$f" --emit=nnir -o "$stem.nnir" 2>>"$stem.err"
        "$1" "$f" --report -o /dev/null >"$stem.report" 2>>"$stem.err"
    done
}
generate "$D/tree/build/nnc" "$D/old"
generate "$NNC" "$D/new"
if diff -ru "$D/old" "$D/new"; then
    echo "no difference from $base in $(ls "$D/new" | wc -l) files"
else
    diff -rq "$D/old" "$D/new" | wc -l | sed 's/$/ files differ/'
fi
