#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The walk-throughs of HACKING.md, applied to a copy of the tree. A block whose fence names a file is put there: into a
# new file, or, where the file exists, at the place the text describes.

. tests/lib.sh
suite hacking
tree=$WORK/tree
mkdir -p "$tree"
{ git ls-files; git ls-files --others --exclude-standard; } | sort -u | tar -cf - -T - 2>/dev/null | tar -xf - -C "$tree"

awk -v out="$WORK/block" '
    /^```/ && on { on = 0; close(file); next }
    /^```[a-z]+ [^ ]+\// { on = 1; file = out "." ++n; print $2 >(file ".path"); close(file ".path"); next }
    on { print >file }
' HACKING.md

i=0
while [ -e "$WORK/block.$((i + 1))" ]; do
    i=$((i + 1))
    block=$WORK/block.$i path=$tree/$(cat "$WORK/block.$i.path")
    case $path in
    *.def) { grep '^OP' "$path"; cat "$block"; } | LC_ALL=C sort >"$path.ops"; { grep -v '^OP' "$path"; cat "$path.ops"; } >"$path.new" && mv "$path.new" "$path" && rm "$path.ops" ;;
    */nn_kernels.h) sed -i "0,/^#include/s|^#include|$(cat "$block")\\n#include|" "$path" ;;
    */pass.h) sed -i "/^bool pass_plan/r $block" "$path" ;;
    */pass.c) awk -v block="$block" '/\{ "autodiff"/ { while ((getline line <block) > 0) print line } { print }' "$path" >"$path.new" && mv "$path.new" "$path" ;;
    *) if [ -e "$path" ]; then { echo; cat "$block"; } >>"$path"; else cat "$block" >"$path"; fi ;;
    esac
done
if [ $i -ge 9 ]; then pass "all blocks found"; else fail "only $i blocks of code found in HACKING.md"; fi

root=$(pwd)
cd "$tree" || exit 2
results=$RESULTS work=$WORK given=$B
WORK=$root/$WORK RESULTS=$root/$RESULTS
unset NNC NNLIB
B=build
export B
log=$WORK/build.log
if make WERROR=1 all >"$log" 2>&1; then pass "the changed tree builds"; else fail "the changed tree builds" "$log"; cd - >/dev/null; finish; exit 1; fi
try "make check-ops OP=softsign" make check-ops OP=softsign
try "make check-ops OP=cumsum" make check-ops OP=cumsum
try "make bless" env -u CI make bless T=tests/errors/unused-input.nn
try "the warning is as described" grep -q 'unused-input.nn:4:.*warning: nothing in f uses y \[-Wunused-input\]' tests/errors/unused-input.err
try "the new test passes" make text T=tests/errors/unused-input.nn
try "the pass can be stopped after" build/nnc examples/linear/model.nn --stop-after=inputs
try "the pass can be left out" build/nnc examples/linear/model.nn --no-pass=inputs -o build/x.c
try "lint" make lint
cd - >/dev/null || exit 2
WORK=$work RESULTS=$results B=$given
rm -rf "$WORK/tree"
finish
