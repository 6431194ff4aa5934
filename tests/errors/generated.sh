#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Bad input that cannot be a text file in the repository: bytes that are no text, huge tokens, deep nesting,
# files that are no files. Each case makes its input and checks exit code and first message.

. tests/lib.sh
suite generated
NNC=$(cd "$(dirname "$NNC")" && pwd)/$(basename "$NNC")
cd "$WORK" || exit 1
RESULTS=$OLDPWD/$RESULTS

# check NAME EXIT FILE PATTERN [EMIT]: FILE may be - for what stands on stdin; EMIT is ast (syntax only) or
# summary (the whole front end). A line of stderr must begin with the pattern. No death by a signal or a
# sanitizer is accepted.
check() {
    name=$1 want=$2 file=$3 pattern=$4
    timeout 20 "$NNC" --emit="${5:-ast}" "$file" >out 2>err
    code=$?
    if [ $code -ne "$want" ]; then
        { echo "exit code $code, expected $want"; head -c 2000 err; } >why
        fail "$name" why
    elif [ -n "$pattern" ] && ! grep -aqE "^$pattern" err; then
        { echo "no line matches: $pattern"; head -c 2000 err; } >why
        fail "$name" why
    elif [ $(wc -c <err) -gt 65536 ]; then
        echo "$(wc -c <err) bytes of messages" >why
        fail "$name" why
    else
        pass "$name"
    fi
}

# repeat TEXT N
repeat() { awk -v t="$1" -v n="$2" 'BEGIN { for (i = 0; i < n; i++) printf "%s", t }'; }
MODEL='model m { infer r(x: f32[2]) -> y { y = x; } }'

# ---- bytes ----
: >f.nn; check "an empty file" 1 f.nn 'f.nn:1:1: error: no network is defined' summary
printf ' \n\t\n' >f.nn; check "only blanks" 1 f.nn 'f.nn:1:1: error: no network is defined' summary
printf 'nn 1;\n\000model' >f.nn; check "a NUL byte" 1 f.nn 'f.nn:2:1: error: byte 0x00'
printf 'nn 1;\nx \377' >f.nn; check "an invalid byte" 1 f.nn 'f.nn:2:3: error: byte 0xff is not valid UTF-8'
printf 'nn 1; # \355\240\200\n' >f.nn; check "a lone surrogate" 1 f.nn 'f.nn:1:9: error: byte 0xed'
printf 'nn 1; # \300\257\n' >f.nn; check "an overlong encoding" 1 f.nn 'f.nn:1:9: error: byte 0xc0'
printf 'nn 1; # \001\n' >f.nn; check "a control character" 1 f.nn 'f.nn:1:9: error: byte 0x01'
printf 'nn 1; # \342\200\256\n' >f.nn; check "a bidi control in a comment" 1 f.nn 'f.nn:1:9: error: invisible character U.202E'
printf 'nn 1; a\342\200\213b\n' >f.nn; check "a zero-width space" 1 f.nn 'f.nn:1:8: error: invisible character U.200B'
printf 'nn 1;\nconst \320\260 = 1;\n' >f.nn; check "a Cyrillic letter in a name" 1 f.nn 'f.nn:2:7: error: unexpected character U.0430'
printf 'nn 1; # \303\244\n%s\n' "$MODEL" >f.nn; check "UTF-8 in a comment is fine" 0 f.nn ''
printf '\357\273\277nn 1;\n%s\n' "$MODEL" >f.nn; check "a byte order mark is skipped" 0 f.nn ''
printf '\357\273\277nn 2;\n' >f.nn; check "columns after a byte order mark" 1 f.nn 'f.nn:1:4: error: version 2'
printf '\377\376n\000n\000 \0001\000' >f.nn; check "UTF-16, little endian" 1 f.nn 'f.nn:1:1: error: file looks like UTF-16'
printf '\376\377\000n\000n\000 \0001' >f.nn; check "UTF-16, big endian" 1 f.nn 'f.nn:1:1: error: file looks like UTF-16'
printf 'n\000n\000 \0001\000' >f.nn; check "UTF-16 without a mark" 1 f.nn 'f.nn:1:1: error: file looks like UTF-16'
printf 'nn 1;\r\ndim B = 0..1;\r\n' >f.nn
check "CR LF counts as one line end" 1 f.nn 'f.nn:2:9: error: a dim starts at 1' summary
printf 'nn 1;\rdim B = 0..1;' >f.nn
check "CR alone, no final newline" 1 f.nn 'f.nn:2:9: error: a dim starts at 1' summary
printf 'nn 1;\n%s # \\' "$MODEL" >f.nn; check "a comment that ends in a backslash" 0 f.nn ''

# ---- size ----
{ printf 'nn 1;\nconst '; repeat aaaaaaaaaaaaaaaaaaaa 500000; printf ' = 1;\n'; } >f.nn
check "a name of 10 MB" 1 f.nn 'f.nn:2:7: error: name of 10000000 bytes; a name has at most 255'
{ printf 'nn 1;\nconst a = '; repeat 11111111111111111111 500000; printf ';\n'; } >f.nn
check "a number of 10 MB" 1 f.nn 'f.nn:2:11: error: number of 10000000 digits'
{ printf 'nn 1;\nimport "'; repeat aaaaaaaaaaaaaaaaaaaa 500000; printf '";\n'; } >f.nn
check "a string of 10 MB" 1 f.nn 'f.nn:2:8: error: string of 10000002 bytes'
{ printf 'nn 1;\nimport "'; repeat aaaaaaaaaaaaaaaaaaaa 500000; } >f.nn
check "a string that never ends" 1 f.nn 'f.nn:2:8: error: string is not closed'
{ printf 'nn 1;\n#'; repeat aaaaaaaaaaaaaaaaaaaa 500000; printf '\n'; } >f.nn
check "a comment of 10 MB" 1 f.nn 'f.nn:2:1: error: comment of 10000001 bytes in one line; the limit is 4096'
{ printf 'nn 1;\nconst '; repeat a 255; printf ' = 1;\n'; } >f.nn; check "a name of 255 bytes is fine" 0 f.nn ''
{ printf 'nn 1;\nconst '; repeat a 256; printf ' = 1;\n'; } >f.nn; check "a name of 256 bytes is not" 1 f.nn 'f.nn:2:7: error: name of 256'
{ printf 'nn 1;\n'; repeat '# filler filler filler filler ful
' 600000; } >f.nn
check "a file over 16 MiB" 4 f.nn 'nnc: error: cannot read f.nn: larger than the limit of 16 MiB'
check "stdin over 16 MiB" 4 - 'nnc: error: cannot read <stdin>: larger than' <f.nn
check "/dev/zero on stdin" 4 - 'nnc: error: cannot read <stdin>: larger than' </dev/zero
check "/dev/zero as a file" 3 /dev/zero 'nnc: error: cannot read /dev/zero: not a regular file'
printf 'nn 2;\n' >f.nn; check "stdin" 1 - '<stdin>:1:4: error: version 2' <f.nn

# ---- files ----
check "a missing file" 3 missing.nn 'nnc: error: cannot read missing.nn: No such file'
mkdir -p d.nn; check "a directory" 3 d.nn 'nnc: error: cannot read d.nn: it is a directory'
rm -f p.nn; mkfifo p.nn; check "a FIFO" 3 p.nn 'nnc: error: cannot read p.nn: not a regular file'
if [ "$(id -u)" != 0 ]; then
    printf 'nn 1;' >s.nn; chmod 0 s.nn; check "a file without permission" 3 s.nn 'nnc: error: cannot read s.nn: Permission'
fi
printf 'nn 2;\n' >"$(printf 'a\nb.nn')"
check "a newline in the file's name" 1 "$(printf 'a\nb.nn')" 'a.b.nn:1:4: error: version 2'
printf 'nn 1;\nimport "i2.nn";\n' >i1.nn; printf 'nn 1;\nimport "i1.nn";\nblock f(x) { return x; }\n' >i2.nn
printf 'nn 1;\nimport "i1.nn";\n%s\n' "$MODEL" >f.nn; check "imports in a circle" 0 f.nn '' summary

# ---- nesting ----
for n in 300 100000 1000000; do
    { printf 'nn 1;\nconst a = '; repeat '(' $n; printf 1; repeat ')' $n; printf ';\n'; } >f.nn
    check "$n parentheses" 1 f.nn 'f.nn:2:[0-9]+: error: (brackets are nested deeper|expression is nested deeper)'
    { printf 'nn 1;\nconst a = '; repeat '[' $n; printf 1; repeat ']' $n; printf ';\n'; } >f.nn
    check "$n brackets" 1 f.nn 'f.nn:2:[0-9]+: error: (brackets are nested deeper|expression is nested deeper)'
    { printf 'nn 1;\nconst a = '; repeat '-' $n; printf '1;\n'; } >f.nn
    check "$n signs" 1 f.nn 'f.nn:2:[0-9]+: error: (expression is nested deeper|program is nested too deeply)'
    { printf 'nn 1;\nconst a = '; repeat '1^' $n; printf '1;\n'; } >f.nn
    check "$n powers" 1 f.nn 'f.nn:2:[0-9]+: error: (expression is nested deeper|program is nested too deeply)'
    { printf 'nn 1;\nconst a = '; repeat 'true ? 1 : ' $n; printf '1;\n'; } >f.nn
    check "$n conditions" 1 f.nn 'f.nn:2:[0-9]+: error: (expression is nested deeper|program is nested too deeply)'
    { printf 'nn 1;\nconst a = '; repeat 'f(' $n; printf 1; repeat ')' $n; printf ';\n'; } >f.nn
    check "$n calls" 1 f.nn 'f.nn:2:[0-9]+: error: (brackets are nested deeper|expression is nested deeper)'
    { printf 'nn 1;\nblock f(x) { '; repeat 'if (true) { ' $n; repeat '}' $n; printf ' }\n'; } >f.nn
    check "$n branches" 1 f.nn 'f.nn:2:[0-9]+: error: brackets are nested deeper'
done
{ printf 'nn 1;\nblock f(x) { if (true) { }'; repeat ' else if (true) { }' 100000; printf ' return x; }\n%s\n' "$MODEL"; } >f.nn
check "a chain of 100000 else-ifs is fine" 0 f.nn ''
{ printf 'nn 1;\nconst a = 1'; repeat ' + 1' 1000000; printf ';\n%s\n' "$MODEL"; } >f.nn
check "a sum of a million terms is fine" 0 f.nn '' summary
{ printf 'nn 1;\nmodel m { infer r(x: f32[2]) -> y { y = x'; repeat ' -> relu' 20000; printf '; } }\n'; } >f.nn
check "a pipe of 20000 stages is fine" 0 f.nn ''
{ printf 'nn 1;\n'; repeat 'const a = 1 +;
' 100000; } >f.nn
check "100000 errors stop at 20" 1 f.nn 'nnc: stopped after 20 errors'
{ printf 'nn 1;\nmodel m { infer r(x: f32[2]) -> y { y = x;'; repeat ' y = y + y;' 50000; printf ' } }\n'; } >f.nn
check "50000 statements are fine" 0 f.nn ''
{ printf 'nn 1;\nconst a = 1;\n# '; repeat 'é' 100; printf '\n\t\tconst b = c;\n%s\n' "$MODEL"; } >f.nn
check "columns after tabs" 1 f.nn 'f.nn:4:13: error: unknown name' summary

# ---- length ----
{ printf 'nn 1;\nblock f(a'; awk 'BEGIN { for (i = 0; i < 300000; i++) printf ",a%d", i }'; printf ') { return a; }\n'; } >f.nn
check "300000 formals" 1 f.nn 'f.nn:2:[0-9]+: error: more than 1000 arguments'
{ printf 'nn 1;\nconst a = f(1'; repeat ',1' 300000; printf ');\n'; } >f.nn
check "300000 values in a call" 1 f.nn 'f.nn:2:[0-9]+: error: more than 1000 arguments'
{ printf 'nn 1;\nconst a = [1'; repeat ',1' 300000; printf '];\n%s\n' "$MODEL"; } >f.nn
check "300000 values in a list" 1 f.nn 'f.nn:2:11: error: a list has at most 100000 elements' summary
{ printf 'nn 1;\n'; awk 'BEGIN { for (i = 0; i < 200000; i++) printf "model m%d { }\n", i }'; } >f.nn
check "200000 models" 1 f.nn 'f.nn:3:7: error: the file has several models' summary
{ printf 'nn 1;\n'; awk 'BEGIN { for (i = 0; i < 200000; i++) printf "const a%d = %d;\n", i, i }'; echo "$MODEL"; } >f.nn
check "200000 constants are fine" 0 f.nn '' summary
{ printf 'nn 1;\nmodel m { layer n = dense(1);\n'
  awk 'BEGIN { for (i = 0; i < 20000; i++) printf "infer r%d(x: f32[1, 2]) -> y { y = n(x); }\n", i }'; printf '}\n'; } >f.nn
check "20000 routines are fine" 0 f.nn ''

finish
