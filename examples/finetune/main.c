/* SPDX-License-Identifier: MIT
 *
 * Puts a trained network to a new task by training its last layer only. The task: digits darker than
 * their background, while the network has seen brighter ones. The weights come from a checkpoint that is named first on
 * the command line (examples/mlp writes one); without it, a network is trained first.
 */
#include <stdio.h>

#include "model.h"
#include "nn_data.h"
#include "nn_train.h"

enum { CLASSES = 10 };

static nn_status step_train(void *m, const nn_batch *b, double *value)
{
    mlp_train_out out = { 0 };
    nn_status s = mlp_train(m, b->n, b->x, b->y, &out);
    value[0] = out.loss;
    return s;
}

static nn_status step_finetune(void *m, const nn_batch *b, double *value)
{
    mlp_finetune_out out = { 0 };
    nn_status s = mlp_finetune(m, b->n, b->x, b->y, &out);
    value[0] = out.loss;
    return s;
}

static nn_status eval(void *m, const nn_batch *b, double *value)
{
    float probs[MLP_B_MAX * CLASSES];
    nn_status s = mlp_predict(m, b->n, b->x, probs);
    value[0] = nn_accuracy(probs, b->y, b->n, CLASSES);
    return s;
}

/* Trains a network on ordinary digits and leaves its weights in `path`. Returns an exit code. */
static int pretrain(const nn_args *args, const nn_dataset *train, const char *path)
{
    nn_args own = *args;
    own.epochs = 2;
    own.lr = 0;
    own.out = own.resume = NULL;
    mlp *m = mlp_new(MLP_TRAIN, &(nn_options){ .seed = args->seed, .threads = args->threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    nn_trainer t = {
        .model = m, .args = &own, .train = train, .step = step_train, .step_values = { "loss" }
    };
    int code = nn_train(&t, NULL);
    nn_status s = code == 0 ? mlp_save(m, NN_WEIGHTS, path) : NN_OK;
    mlp_free(m);
    return s == NN_OK ? code : nn_fail(s, path);
}

static void invert(nn_dataset *d) /* images are given as x * scale + shift: 0..255 becomes 0..-1 */
{
    d->scale = -1.0F / 255.0F;
}

int main(int argc, char **argv)
{
    nn_args args = {
        .epochs = 3, .batch = 64, .seed = 1, .lr = 0.1, .out = "finetune.safetensors"
    };
    const char *weights = NULL;
    if (argc > 1 && argv[1][0] != '-') {
        weights = argv[1];
        argv[1] = argv[0];
        argc--, argv++;
    }
    int code = nn_args_parse(&args, argc, argv,
                             "[WEIGHTS] Trains the last layer of a network on inverted digits.");
    if (code >= 0) return code;
    if (args.batch > MLP_B_MAX) return nn_fail(NN_ESIZE, "--batch may be at most 256");

    nn_dataset train, test;
    char why[NN_ERROR_TEXT];
    nn_status s = nn_digits_or_mnist(&train, &test, args.data, args.seed, why);
    if (s != NN_OK) return nn_fail(s, why);
    char own[1024];
    if (!weights) {
        snprintf(own, sizeof own, "%s.base", args.out);
        weights = own;
        if ((code = pretrain(&args, &train, weights)) != 0) return code;
    }

    /* No MLP_TRAIN: this object holds optimizer state for net.fc2 alone. */
    mlp *m = mlp_new(MLP_FINETUNE | MLP_PREDICT,
                     &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    nn_load_report report;
    s = mlp_load(m, NN_WEIGHTS | NN_PARTIAL, weights, &report);
    if (s == NN_OK && report.loaded == 0) s = NN_EMISMATCH;
    if (s != NN_OK) return nn_fail(s, report.message);
    printf("%s: %d tensors loaded, %d missing, %d of another shape\n", weights, report.loaded,
           report.missing, report.mismatched);
    mlp_hypers(m)->finetune_lr = args.lr;

    double ordinary, before, after; /* accuracies */
    s = nn_evaluate(m, eval, 1, &test, args.batch, &ordinary);
    invert(&train);
    invert(&test);
    if (s == NN_OK) s = nn_evaluate(m, eval, 1, &test, args.batch, &before);
    if (s != NN_OK) return nn_fail(s, NULL);
    printf("before: %.4f on ordinary digits, %.4f on inverted ones\n", ordinary, before);

    nn_trainer trainer = { .model = m,
                           .args = &args,
                           .train = &train,
                           .valid = &test,
                           .step = step_finetune,
                           .step_values = { "loss" },
                           .eval = eval,
                           .eval_values = { "test_acc" } };
    code = nn_train(&trainer, NULL);
    if (code == 0) {
        s = nn_evaluate(m, eval, 1, &test, args.batch, &after);
        if (s != NN_OK)
            code = nn_fail(s, NULL);
        else
            printf("after: %.4f on inverted digits\ntest accuracy: %.4f\n", after, after);
    }
    mlp_free(m);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return code;
}
