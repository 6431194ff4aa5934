# SPDX-License-Identifier: MIT
#
# What the numerical tests share (sourced after lib.sh): the tools fill and compare, and harness programs.

mkdir -p "$B/tools"
for tool in fill compare; do
    if [ ! -x "$B/tools/$tool" ] || [ -n "$(find tests/e2e/$tool.c tests/e2e/tensors.c tests/e2e/tensors.h -newer "$B/tools/$tool")" ]; then
        "$CC" -std=gnu11 -O2 -Wall -Wextra -o "$B/tools/$tool" tests/e2e/$tool.c tests/e2e/tensors.c -ljansson -lm || exit 2
    fi
done

# harness NAME VARIANT: builds $B/harness/NAME-VARIANT from tests/e2e/models/NAME.nn unless it is newer than what
# it is made of. Variants: f32, f64, no-blas.
harness() {
    h=$B/harness/$1-$2
    [ -x "$h" ] && [ "$h" -nt "$NNC" ] && [ "$h" -nt "$NNLIB" ] && [ "$h" -nt "tests/e2e/models/$1.nn" ] &&
        [ -z "$(find runtime -name "*.h" -newer "$h")" ] && return
    mkdir -p "$B/harness"
    # What users run is optimised as they do it; the other variants take the compiler a quarter less.
    case $2 in
    f32) flags= libs=$NN_LIBS opt=-O2 ;;
    f64) flags=--real=f64 libs=$NN_LIBS opt=-O1 ;;
    no-blas) flags=--no-blas libs="-lz -lpthread -lm" opt=-O1 ;;
    esac
    "$NNC" --emit=harness $flags "tests/e2e/models/$1.nn" -o "$h.c" &&
        "$CC" $NN_FLAGS $opt -Wall -Wextra -Werror -I"$B/harness" -o "$h" "$h.c" "$NNLIB" $libs
}

# harnesses NAME:VARIANT...: builds those, several at a time. What does not build is reported by who asks for it again.
harnesses() {
    printf '%s\n' "$@" | xargs -P "$JOBS" -n 1 sh -c '. tests/lib.sh; . tests/e2e/tools.sh
        harness "${0%:*}" "${0#*:}"' >/dev/null 2>&1
}
