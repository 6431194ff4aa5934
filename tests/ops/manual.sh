#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The manual as a stranger uses it. Every name of every list has an entry with an example to paste. The examples of
# optimizers, options, schedules and initialisers are pasted into a model here, one step each, which is trained
# (operators' and blocks' examples are run by check-ops.sh); and every name occurs in a comparison with PyTorch or with
# an independent computation, or in a test of its statistics: the table of names and places is $WORK/table.

. tests/lib.sh
suite manual

# ---- every name has an entry, and a test against something independent ----

# Where comparisons are, and what of a file is searched. Names that PyTorch knows in another form have a row below.
sources="tests/ops/reference/*.py tests/e2e/make_reference.py tests/e2e/make_second.py tests/e2e/models/draws.nn \
tests/e2e/models/training.nn tests/unit/test_schedules.c tests/unit/test_model.c tests/unit/test_train.c"

# Helpers of other blocks, and operators under another name: what is compared instead.
elsewhere() {
    case $1 in
    into_heads) echo multi_head_attention ;;
    feed_forward) echo transformer_encoder_layer ;;
    reduced | weighted) echo mse ;;
    axis_last) echo cross_entropy ;;
    power) echo focal ;;
    per_sample) echo dice ;;
    batch_norm_train) echo batch_norm ;;
    bernoulli_like | bernoulli) echo stochastic_depth ;;
    randn_like | randn) echo gaussian_noise ;;
    rand_like) echo rrelu ;;
    rand) echo color_jitter ;;
    cast | logical_and | logical_or | logical_not) echo logic ;;
    lstm_cell) echo lstm ;;
    gru_cell) echo gru ;;
    warmup) echo nn_warmup ;;
    plateau) echo nn_plateau_step ;;
    accumulation) echo training_fit_apply ;;
    over) echo scaled ;;
    clip_norm) echo clip_grad_norm_ ;;
    clip_value) echo clip_grad_value_ ;;
    ema) echo training_swap_ema ;;
    in_backward) echo pair_fit_in_backward ;;
    l1 | l2) echo training_ridge ;;
    *) echo "$1" ;;
    esac
}

for list in ops layers activations losses metrics functions optimizers options schedules inits; do
    "$NNC" --list=$list >"$WORK/$list.names" 2>"$WORK/$list.log" || fail "--list=$list" "$WORK/$list.log"
    [ -s "$WORK/$list.names" ] || fail "--list=$list names nothing"
    while read -r name; do
        "$NNC" --help-op="$name" >"$WORK/entry" 2>&1 || { fail "$list: $name: --help-op" "$WORK/entry"; continue; }
        grep -qx "### $name" docs/operators.md || { fail "$list: $name has no entry in docs/operators.md"; continue; }
        case $name in
        plateau | accumulation) ;; # of the program, not of the model
        *) grep -q '^```' "$WORK/entry" || { fail "$list: $name has no example" "$WORK/entry"; continue; } ;;
        esac
        word=$(elsewhere "$name")
        # shellcheck disable=SC2086 # sources are several files
        where=$(grep -lE "(\\b|nn_init_|nn_schedule_)$word\\b" $sources tests/e2e/training.c tests/e2e/draws.c tests/e2e/in_backward.c | head -n 1)
        if [ -n "$where" ]; then
            pass "$list: $name"
            echo "$list $name $where" >>"$WORK/table"
        else
            fail "$list: $name is compared with nothing"
        fi
    done <"$WORK/$list.names"
done

# ---- statements to paste: each trains a layer of its own ----

"$NNC" --manual | awk '
    /^### / { name = $2 }
    /^minimize mse\(net/ { print name "\t" $0 }
    /^layer net = / { print name "\t" $0 }' >"$WORK/statements"
for list in optimizers options schedules inits; do
    while read -r name; do
        case $name in plateau | accumulation) continue ;; esac
        cut -f1 "$WORK/statements" | grep -qx "$name" || fail "$list: $name has no statement to paste"
    done <"$WORK/$list.names"
done

# paste PART: a model and a program of $WORK/PART.statements, which trains each of them.
paste() {
    {
        echo 'nn 1;'
        echo 'dim B = 1..16;'
        echo "model $1 {"
        awk -F '\t' '
            { n = "n" NR; statement = $2; gsub(/net/, n, statement) }
            statement ~ /^layer/ { print "  " statement; statement = "minimize mse(" n "(x), t) over " n " using sgd(lr = 0.1);" }
            $2 !~ /^layer/ { print "  layer " n " = dense(3);" }
            { print "  step s" NR "(x: f32[B, 4], t: f32[B, 3]) { " statement " }   # " $1 }' "$WORK/$1.statements"
        echo '}'
    } >"$WORK/$1.nn"
    {
        printf '#include <math.h>\n#include <stdio.h>\n#include "%s.h"\ntypedef %s Part;\n' "$1" "$1"
        printf '#define NAME(x) %s_##x\n#define PART(x) %s_##x\n' "$1" "$(echo "$1" | tr a-z A-Z)"
        cat <<'END'
enum { B = 16, UPDATES = 40 };
static float x[B * 4], t[B * 3];
#define RUN(what, step, STEP)                                                                              \
    {                                                                                                      \
        Part *m = NAME(new)(PART(STEP), &(nn_options){ .seed = 3 });                                       \
        NAME(step##_out) out = { 0 };                                                                      \
        double first = NAN, last = NAN;                                                                    \
        nn_status s = m ? NN_OK : NN_ENOMEM;                                                               \
        for (int i = 0; i < UPDATES && s == NN_OK; i++) {                                                  \
            s = NAME(step)(m, B, x, t, &out);                                                              \
            last = (double)out.loss;                                                                       \
            if (i == 0) first = last;                                                                      \
        }                                                                                                  \
        const int good = (s == NN_OK || s == NN_ESEARCH) && last < first; /* a line search may arrive */   \
        printf("%s %s: loss %g, after training %g\n", good ? "ok" : "FAIL", what, first, last);            \
        NAME(free)(m);                                                                                     \
    }
int main(void)
{
    for (int i = 0; i < B * 4; i++) x[i] = (float)((i * 37 + i / 5) % 41) / 20 - 1;
    for (int i = 0; i < B * 3; i++) t[i] = x[i / 3 * 4] - 2 * x[i / 3 * 4 + 1 + i % 3] + 0.5F;
END
        awk -F '\t' '{ print "    RUN(\"" $1 "\", s" NR ", S" NR ")" }' "$WORK/$1.statements"
        printf '    return 0;\n}\n'
    } >"$WORK/$1.main.c"
    if "$NNC" "$WORK/$1.nn" -o "$WORK/$1.c" >"$WORK/$1.log" 2>&1 &&
        "$CC" $NN_FLAGS -O1 -I"$WORK" -o "$WORK/$1" "$WORK/$1.main.c" "$WORK/$1.c" "$NNLIB" $NN_LIBS >>"$WORK/$1.log" 2>&1; then
        pass "$1 statements compile"
        "$WORK/$1" >"$WORK/$1.lines" 2>&1 || fail "the $1 program ended with $?"
        while read -r result text; do
            if [ "$result" = ok ]; then pass "$text"; else fail "$text"; fi
        done <"$WORK/$1.lines"
    else
        fail "$1 statements compile" "$WORK/$1.log"
    fi
}

# A model has at most 32 routines.
head -n 24 "$WORK/statements" >"$WORK/first.statements"
tail -n +25 "$WORK/statements" >"$WORK/second.statements"
paste first
paste second
finish
