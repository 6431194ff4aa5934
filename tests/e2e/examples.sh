#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Every example, or those named, trained briefly to a stated result: tests/e2e/examples.sh [NAME...]. Lines of the
# table: the example, its options, and a condition on the number at the end of its last line.

. tests/lib.sh
suite examples

# example           options                                      last line         condition
table() {
    cat <<'END'
linear              --epochs 10                                  test_loss         < 0.001
logistic            --epochs 15                                  loss              < 0.3000567
mlp                 --epochs 8                                   test_accuracy     > 0.93
lenet               --epochs 2                                   test_accuracy     > 0.95
resnet20            --epochs 3                                   test_accuracy     > 0.88
vae                 --epochs 2                                   train_loss        < 190
charlm              --epochs 2                                   test_perplexity   < 1.6
gan                 --epochs 1 --limit-batches 20                train_loss        > 0
finetune            --epochs 30                                  test_accuracy     > 0.90
autoencoder         --epochs 1                                   test_error        < 0.03
pixelcnn            --epochs 1 --limit-batches 60                test_nll          < 110
transformer         --epochs 2                                   test_perplexity   < 1.5
segmentation        --epochs 3                                   test_dice         > 0.8
vgg                 --epochs 5                                   test_accuracy     > 0.9
imbalanced          --epochs 10                                  average_class_accuracy > 0.87
forecast            --epochs 10                                  test_rmse         < 0.09
backprop            --epochs 1                                   largest_difference < 0.000001
END
}

try "examples build" make B="$B" WERROR=1 examples
for dir in examples/*/; do
    name=$(basename "$dir")
    table | grep -q "^$name " || fail "$name: not in the table of $0"
    [ -s "$dir/README.md" ] && [ -s "$dir/main.c" ] && [ -s "$dir/model.nn" ] || fail "$name: model.nn, main.c or README.md is missing"
done
wanted=" $* "
chosen() { [ "$wanted" = "  " ] || case $wanted in *" $1 "*) ;; *) return 1 ;; esac; }
table | while read -r name options; do
    chosen "$name" || continue
    condition=$(echo "$options" | awk '{ print $(NF - 2), $(NF - 1), $NF }')
    options=$(echo "$options" | awk '{ NF -= 3; print }')
    log=$WORK/$name.log
    # shellcheck disable=SC2086 # options are words
    timeout 300 "$B/examples/$name/app" $options --progress none --out "$WORK/$name.safetensors" >"$log" 2>&1
    code=$?
    last=$(tail -n 1 "$log")
    echo "exit code $code, expected: $condition" >>"$log"
    label=$(echo "$condition" | awk '{ gsub(/_/, " ", $1); print $1 }')
    if [ $code = 0 ] && echo "$last" | grep -q "^$label: " && echo "$last $condition" | awk '{
            value = $(NF - 3); bound = $NF
            if (value !~ /^-?[0-9.]+$/) exit 1
            exit !($(NF - 1) == "<" ? value < bound : value > bound)
        }'; then
        pass "$name: $last"
    else
        fail "$name: $last" "$log"
    fi
done

# Without training: what the model is worth as it is, and no number that is none.
for name in linear logistic mlp finetune vae gan charlm transformer forecast imbalanced segmentation; do
    chosen $name || continue
    log=$WORK/$name-0.log
    if timeout 100 "$B/examples/$name/app" --epochs 0 --progress none --out "$WORK/$name.0" >"$log" 2>&1 && ! grep -qi '\bnan\b' "$log"; then
        pass "$name --epochs 0"
    else
        fail "$name --epochs 0" "$log"
    fi
done

[ $# = 0 ] || { finish; exit; }

# Stopped after two epochs and resumed: the same checkpoint as in one go.
app=$B/examples/mlp/app
try "mlp in one go" "$app" --epochs 3 --limit-batches 20 --progress none --out "$WORK/whole.safetensors"
try "mlp, first part" "$app" --epochs 2 --limit-batches 20 --progress none --out "$WORK/part.safetensors"
try "mlp, resumed" "$app" --epochs 3 --limit-batches 20 --progress none --threads 1 --resume "$WORK/part.safetensors" --out "$WORK/rest.safetensors"
try "resumed equals uninterrupted" cmp "$WORK/whole.safetensors" "$WORK/rest.safetensors"

try "data from IDX files that do not exist: exit code 3" sh -c '"$1" --data no/such/dir; [ $? = 3 ]' sh "$app"
try "an unknown option: exit code 2" sh -c '"$1" --epoch 3; [ $? = 2 ]' sh "$app"
finish
