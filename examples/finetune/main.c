/* SPDX-License-Identifier: MIT
 *
 * Fine-tuning: an MLP learns the ten digits and is saved. A second object loads it, gets a fresh last layer, and
 * learns from 500 images whether a digit is odd, with the first layer frozen.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "nn_train.h"

enum { FEW = 500 };

static nn_status step(void *m, const nn_batch *b, double *value)
{
    mlp_train_out out;
    const nn_status s = mlp_train(m, b->n, b->x, b->y, &out);
    value[0] = out.loss;
    value[1] = out.acc;
    return s;
}

static nn_status finetune_step(void *m, const nn_batch *b, double *value)
{
    mlp_finetune_out out;
    const nn_status s = mlp_finetune(m, b->n, b->x, b->y, &out);
    value[0] = out.loss;
    return s;
}

static nn_status eval(void *m, const nn_batch *b, double *value)
{
    static float probs[MLP_B_MAX * 10];
    const nn_status s = mlp_predict(m, b->n, b->x, probs);
    value[0] = nn_accuracy(probs, b->y, b->n, 10);
    return s;
}

/* The labels of the new task: 0 for even digits, 1 for odd ones. */
static int32_t *parity(nn_dataset *d)
{
    int32_t *y = malloc((size_t)d->n * sizeof *y);
    if (!y) return NULL;
    for (nn_dim i = 0; i < d->n; i++) y[i] = d->y[i] % 2;
    d->y = y;
    return y;
}

/* Loads all of `path` but the last layer, which keeps the values it was born with. */
static nn_status load_trunk(mlp *m, const char *path, nn_load_report *report)
{
    static const char *const head[] = { "net.fc2.weight", "net.fc2.bias" };
    float *fresh[2];
    nn_status s = NN_OK;
    for (int i = 0; i < 2; i++) {
        const int t = mlp_find(m, head[i]);
        fresh[i] = malloc((size_t)mlp_tensors[t].count * sizeof(float));
        if (!fresh[i]) return NN_ENOMEM;
        mlp_get(m, t, fresh[i]);
    }
    s = mlp_load(m, NN_WEIGHTS, path, report);
    for (int i = 0; i < 2; i++) {
        if (s == NN_OK) s = mlp_set(m, mlp_find(m, head[i]), fresh[i]);
        free(fresh[i]);
    }
    return s;
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 3, .batch = 50, .seed = 1, .out = "mlp.safetensors" };
    const int code = nn_args_parse(&args, argc, argv, "Teaches a saved MLP a new task from few images.");
    if (code >= 0) return code;
    nn_dataset train, test;
    char why[NN_ERROR_TEXT];
    nn_status s = nn_digits_or_mnist(&train, &test, args.data, args.seed, why);
    if (s != NN_OK) return nn_fail(s, why);
    const nn_options options = { .seed = args.seed, .threads = args.threads };

    /* The first task. */
    mlp *m = mlp_new(MLP_TRAIN | MLP_PREDICT, &options);
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    const nn_trainer first = { .model = m, .args = &args, .train = &train, .valid = &test, .step = step, .eval = eval,
                               .step_values = { "loss", "acc" }, .eval_values = { "test" } };
    int failed = nn_train(&first, NULL);
    mlp_free(m);
    if (failed) return failed;

    /* The second one. Its object needs no memory for the first layer's gradients. */
    mlp *f = mlp_new(MLP_FINETUNE | MLP_PREDICT, &(nn_options){ .seed = args.seed + 1, .threads = args.threads });
    nn_load_report report;
    if (!f) return nn_fail(NN_ENOMEM, NULL);
    s = load_trunk(f, args.out, &report);
    if (s != NN_OK) return nn_fail(s, report.message);
    printf("loaded %d tensors from %s, with a fresh last layer\n", report.loaded, args.out);
    int32_t *labels = parity(&train), *test_labels = parity(&test);
    if (!labels || !test_labels) return nn_fail(NN_ENOMEM, NULL);
    nn_dataset_head(&train, FEW);

    double before = 0, after = 0;
    nn_evaluate(f, eval, 1, &test, MLP_B_MAX, &before);
    nn_args second_args = args;
    second_args.epochs = 40;
    second_args.out = NULL;
    second_args.resume = NULL;
    mlp_hypers(f)->finetune_lr = args.lr > 0 ? args.lr : 0.1;
    const nn_trainer second = { .model = f, .args = &second_args, .train = &train, .step = finetune_step,
                                .step_values = { "loss" } };
    failed = nn_train(&second, NULL);
    if (!failed) {
        nn_evaluate(f, eval, 1, &test, MLP_B_MAX, &after);
        printf("odd or even: %.4f of the test images before, %.4f after\n", before, after);
        printf("test accuracy: %.4f\n", after);
    }
    mlp_free(f);
    free(labels);
    free(test_labels);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return failed;
}
