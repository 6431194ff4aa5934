#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Rules that no compiler checks: the order of folders, the order of tables, operators named outside their
# family, mutable globals, marks of unfinished work, and the layout of text files.

. tests/lib.sh
suite lint

files() { git ls-files "$@" 2>/dev/null; }

# Passes when what the check printed is empty.
none() { # NAME; the offending lines come on stdin
    cat >"$WORK/out"
    if [ -s "$WORK/out" ]; then fail "$1" "$WORK/out"; else pass "$1"; fi
}

# base < ir < ops < front < passes < emit < main
rank() { case $1 in base) echo 1 ;; ir) echo 2 ;; ops) echo 3 ;; front) echo 4 ;; passes) echo 5 ;; emit) echo 6 ;; *) echo 7 ;; esac; }
files 'compiler/*.c' 'compiler/*.h' | while read -r f; do
    here=$(rank "$(echo "$f" | cut -d/ -f2)")
    grep -n '^#include "' "$f" | sed 's/#include "//; s/".*//' | while IFS=: read -r line inc; do
        case $inc in
        */*) [ "$(rank "${inc%%/*}")" -le "$here" ] || echo "$f:$line: includes $inc, which stands above it" ;;
        nn.tab.h | nn.lex.h | *.inc) ;;
        *) [ "$here" = 7 ] || echo "$f:$line: \"$inc\" should be a path from compiler/" ;;
        esac
    done
done | none "folders include only downwards"

files 'compiler/*.c' 'compiler/*.h' | xargs grep -nE '#include [<"](nn_|nn\.h|kernels/)' | none "the compiler includes no runtime header"
files 'runtime/*.c' 'runtime/*.h' | xargs grep -nE '#include [<"](base|ir|ops|front|passes|emit)/' | none "the runtime includes no compiler header"

# Passes and the emitter know structural operators only: those declared in ir/op.h.
structural=$(sed -n '/structural operators/,$p' compiler/ir/op.h | grep -oE '\bop_[a-z0-9_]+' | sort -u | tr '\n' '|' | sed 's/|$//')
files 'compiler/passes/*.c' 'compiler/emit/*.c' | xargs -r grep -noE '&op_[a-z0-9_]+' | grep -vE "&($structural)\$" |
    none "passes and emitter name structural operators only"

for table in compiler/ops/*.def; do
    [ -e "$table" ] || continue
    grep -oE '^[A-Z_]+\([a-z0-9_]+\)' "$table" | sed 's/.*(//; s/)//' >"$WORK/names"
    LC_ALL=C sort -u "$WORK/names" | diff "$WORK/names" - | none "$table is sorted"
done

# An operator that the table lacks works in the compiler, and its text form cannot be read back.
grep -rohE --include='*.c' '^const OpDesc op_[a-z0-9_]+' compiler | sed 's/.* op_//' | LC_ALL=C sort >"$WORK/defined"
grep -oE '^OP\([a-z0-9_]+\)' compiler/ops/ops.def | sed 's/OP(//; s/)//' | diff "$WORK/defined" - | none "every operator is in the table"

# Generated code and library keep their state in objects; the compiler in its arena. Constant tables of
# pointers (.data.rel.ro) are no state. The one exception is what a signal handler must write.
for archive in "$NNLIB" "$B/libnnc.a"; do
    [ -e "$archive" ] || continue
    objdump -t "$archive" 2>/dev/null |
        awk '/^[^ ]*\.o:/ { obj = $1 } / O (\.(data|bss|tdata|tbss)|\*COM\*)[ \t]/ && obj !~ /^nn\.(tab|lex)/ { print obj, $0 }' |
        grep -vw nn_signal_received | none "no mutable globals in $(basename "$archive")"
done

files '*.c' '*.h' '*.l' '*.y' '*.nn' '*.sh' 'Makefile' | grep -v '^tests/lint.sh$' |
    xargs grep -nwE 'TODO|FIXME|XXX' | none "no marks of unfinished work"
files '*.c' '*.h' '*.y' '*.l' '*.sh' '*.py' '.ci/run' Makefile | grep -v '^tests/emit/' | while read -r f; do
    head -n 4 "$f" | grep -q 'SPDX-License-Identifier: MIT' || echo "$f"
done | none "every source begins with its licence"
files '*.c' '*.h' '*.y' '*.l' '*.md' '*.sh' '*.nn' '*.def' | grep -vE '^tests/(errors|front|fuzz)/' | xargs grep -nE '[ 	]+$' | head -n 20 |
    none "no blanks at line ends"
files '*.c' '*.h' '*.y' '*.l' '*.nn' | grep -vE '^tests/(errors|front|fuzz)/' | xargs grep -n "$(printf '\t')" | head -n 20 | none "no tabs"
files '*.c' '*.h' | grep -v '^tests/emit/' | xargs awk 'length($0) > 120 { print FILENAME ":" FNR ": " length($0) " columns" }' |
    none "no line longer than 120 columns"
files | while read -r f; do
    [ ! -f "$f" ] || [ "$(wc -c <"$f")" -le 1048576 ] || echo "$f"
done | none "no file over 1 MiB"
files '*.c' '*.h' '*.md' '*.sh' '*.py' '*.nn' Makefile .ci/run | grep -v '^tests/lint.sh$' | xargs grep -nE '(^|[ "(])/(home|root|work|Users)/' |
    none "no paths of a machine"

# Note [...] references resolve.
files '*.c' '*.h' '*.y' '*.l' | xargs grep -ohE 'see Note \[[^]]+\]' | sed 's/see //' | sort -u | while read -r note; do
    files '*.c' '*.h' '*.y' '*.l' | xargs grep -hF "$note" | grep -qv "see $note" || echo "$note is referred to but not written"
done | none "notes resolve"

for s in $(files '*.sh' .ci/run); do sh -n "$s" 2>&1; done | none "shell scripts parse"
sh grammar/editors/generate.sh --check >"$WORK/editors" 2>&1 || echo "grammar/editors: run generate.sh" >>"$WORK/editors"
none "syntax files for editors are current" <"$WORK/editors"

for s in $(files '*.py'); do python3 -c "import ast, sys; ast.parse(open('$s').read())" 2>&1; done | none "Python scripts parse"

# Every diagnostic id has a test that shows it.
if ls tests/errors/*.nn >/dev/null 2>&1; then
    files 'compiler/*.c' grammar/nn.y grammar/nn.l | xargs grep -ohE 'diag_(error|warning|verror)\([^"]*"[a-z0-9]+(-[a-z0-9]+)*"' |
        grep -oE '"[a-z0-9-]+"' | tr -d '"' | sort -u >"$WORK/ids"
    pass "diagnostic ids: $(wc -l <"$WORK/ids") in the sources"
fi
finish
