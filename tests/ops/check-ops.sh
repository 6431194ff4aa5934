#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Checks every operator and every block of the library by its own samples, the ones the manual shows:
# tests/ops/check-ops.sh [NAME...]
# For each sample a model in double precision is generated (generate.awk) and compiled; check_ops.c then compares
# gradients with central differences and products with the Hessian with those of gradients, runs it again, on more
# threads and in a poisoned arena, and compares rows with batches. The graph is written as .nnir and read back.

. tests/lib.sh

flags="-std=gnu11 -O1 -march=native -fno-math-errno -fno-trapping-math -Wall -Wextra -Iruntime -Itests/ops"

one() { # DIRECTORY of a sample: compiles the model in it; leaves objects, or a FAIL line
    d=$1
    id=$(basename "$d")
    op=$(sed -n 's/^nn 1; *# \([a-z0-9_]*\)(.*/\1/p' "$d/case.nn")
    hvp=$(sed -n 's/^  step check(.*/--hvp=check/p' "$d/case.nn")
    if "$NNC" "$d/case.nn" --real=f64 $hvp -o "$d/$id.c" >"$d/nnc.log" 2>&1; then
        pass "$id $op: type"
        try_name="$id $op: generated C compiles"
        printf '#include "check_ops.h"\n#include "glue.h"\n' >"$d/glue.c"
        if gcc $flags -include "$WORK/kernels.h" -I"$d" -c -o "$d/$id.o" "$d/$id.c" >"$d/cc.log" 2>&1 &&
            gcc $flags -I"$d" -c -o "$d/glue.o" "$d/glue.c" >>"$d/cc.log" 2>&1; then
            pass "$try_name"
            echo "case_$id" >"$d/cases"
        else
            rm -f "$d/$id.o" "$d/glue.o"
            fail "$try_name" "$d/cc.log"
        fi
        if "$NNC" "$d/case.nn" --real=f64 $hvp --stop-after=layout -o "$d/first.nnir" >"$d/rt.log" 2>&1 &&
            "$NNC" "$d/first.nnir" --real=f64 --stop-after=check -o "$d/second.nnir" >>"$d/rt.log" 2>&1 &&
            diff -u "$d/first.nnir" "$d/second.nnir" >>"$d/rt.log" 2>&1; then
            pass "$id $op: .nnir round trip"
        else
            fail "$id $op: .nnir round trip" "$d/rt.log"
        fi
    else
        fail "$id $op: type" "$d/nnc.log"
    fi
    # The batched form exists where nnc accepts one of the two ways to put B in front.
    for form in 1 2; do
        [ -e "$d/batch$form.nn" ] || continue
        "$NNC" "$d/batch$form.nn" --real=f64 -o "$d/${id}b.c" >"$d/batch$form.log" 2>&1
        code=$?
        if [ $code = 0 ]; then
            printf '#include "check_ops.h"\n#include "glue_batch%s.h"\n' $form >"$d/glue_batch.c"
            if gcc $flags -include "$WORK/kernels.h" -I"$d" -c -o "$d/${id}b.o" "$d/${id}b.c" >"$d/cc.log" 2>&1 &&
                gcc $flags -I"$d" -c -o "$d/glue_batch.o" "$d/glue_batch.c" >>"$d/cc.log" 2>&1; then
                echo "case_${id}b" >>"$d/cases"
            else
                rm -f "$d/${id}b.o" "$d/glue_batch.o"
                fail "$id $op: batched C compiles" "$d/cc.log"
            fi
            break
        elif [ $code != 1 ]; then
            fail "$id $op: batched form: nnc ended with $code" "$d/batch$form.log"
        fi
    done
}

if [ "${1:-}" = --one ]; then
    shift
    for d; do one "$d"; done
    exit 0
fi

suite check-ops
"$NNC" --list=samples >"$WORK/samples" 2>"$WORK/list.log" || fail "nnc --list=samples" "$WORK/list.log"
awk -v dir="$WORK" -v only="$*" -f tests/ops/generate.awk "$WORK/samples" || fail "generate.awk"
for name; do
    cut -f1 "$WORK/samples" | grep -qx -- "$name" || fail "nothing with samples is called $name"
done
# What every model includes first, read once by gcc.
printf '#define NN_REAL_F64 1\n#include "nn_init.h"\n#include "nn_kernels.h"\n' >"$WORK/kernels.h"
try "kernels.h compiles" gcc $flags -x c-header "$WORK/kernels.h" -o "$WORK/kernels.h.gch"
ls -d "$WORK"/s[0-9]* 2>/dev/null | xargs -P "$JOBS" -n 4 tests/ops/check-ops.sh --one

# One program for all of them.
cat "$WORK"/s*/cases 2>/dev/null | sort >"$WORK/all"
{
    echo '#include "check_ops.h"'
    echo '#include <stddef.h>'
    sed 's/.*/extern const Case &;/' "$WORK/all"
    echo 'const Case *const cases[] = {'
    sed 's/.*/    \&&,/' "$WORK/all"
    echo '    NULL };'
} >"$WORK/table.c"
if gcc $flags -o "$WORK/check_ops" tests/ops/check_ops.c "$WORK/table.c" "$WORK"/s*/*.o "$NNLIB" $NN_LIBS >"$WORK/link.log" 2>&1; then
    timeout 900 "$WORK/check_ops" >"$WORK/lines" 2>"$WORK/err"
    code=$?
    while read -r result text; do
        case $result in
        ok) pass "$text" ;;
        *) fail "$text" ;;
        esac
    done <"$WORK/lines"
    if [ $code -gt 1 ]; then
        { echo "after: $(tail -n 1 "$WORK/lines")"; cat "$WORK/err"; } >"$WORK/end.log"
        fail "check_ops ended with $code" "$WORK/end.log"
    fi
else
    fail "check_ops links" "$WORK/link.log"
fi

# Every operator and block that users can call has samples. The penalties l1 and l2 take paths of parameters and no
# tensor, so no sample can be drawn for them: tests/e2e/training.sh has their values, manual.sh their examples.
if [ -z "${1:-}" ]; then
    for list in ops layers activations losses metrics functions; do "$NNC" --list=$list; done | grep -vx 'l[12]' | sort -u >"$WORK/ops"
    cut -f1 "$WORK/samples" | sort -u >"$WORK/sampled"
    comm -23 "$WORK/ops" "$WORK/sampled" >"$WORK/unsampled"
    if [ -s "$WORK/unsampled" ]; then fail "every operator and block has samples" "$WORK/unsampled"; else pass "every operator and block has samples"; fi
fi
finish
