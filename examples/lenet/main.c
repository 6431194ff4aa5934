/* SPDX-License-Identifier: MIT
 *
 * Trains LeNet-5 on digits (rendered ones, or MNIST with --data DIR), saves it, loads it into a second object that
 * can only predict, and shows what that one makes of some test images.
 */
#include <stdio.h>

#include "model.h"
#include "nn_train.h"

enum { SHOWN = 3 };

static nn_status step(void *m, const nn_batch *b, double *value)
{
    lenet_train_out out;
    const nn_status s = lenet_train(m, b->n, b->x, b->y, &out);
    value[0] = out.loss;
    value[1] = out.acc;
    return s;
}

static nn_status eval(void *m, const nn_batch *b, double *value)
{
    static float probs[LENET_B_MAX * 10];
    const nn_status s = lenet_predict(m, b->n, b->x, probs);
    value[0] = nn_accuracy(probs, b->y, b->n, 10);
    return s;
}

static void show(lenet *m, const nn_dataset *test)
{
    nn_batches b;
    float probs[SHOWN * 10];
    if (nn_batches_init(&b, test, SHOWN, 1) != NN_OK) return;
    nn_batches_start(&b, 0);
    if (nn_batches_next(&b) == SHOWN && lenet_predict(m, SHOWN, b.batch.x, probs) == NN_OK)
        for (int i = 0; i < SHOWN; i++) {
            const int k = nn_argmax(probs + i * 10, 10);
            nn_print_image(stdout, b.batch.x + i * 784, 28, 28);
            printf("this is a %d, says the network with probability %.3f; it is a %d\n\n", k, probs[i * 10 + k], b.batch.y[i]);
        }
    nn_batches_free(&b);
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 5, .batch = 64, .seed = 1, .out = "lenet.safetensors" };
    const int code = nn_args_parse(&args, argc, argv, "Trains LeNet-5 on digits and shows what it predicts.");
    if (code >= 0) return code;

    nn_dataset train, test;
    char why[NN_ERROR_TEXT];
    nn_status s = nn_digits_or_mnist(&train, &test, args.data, args.seed, why);
    if (s != NN_OK) return nn_fail(s, why);
    printf("%lld training and %lld test images (%s)\n", (long long)train.n, (long long)test.n,
           args.data ? args.data : "rendered digits; --data DIR takes MNIST files");

    const nn_options options = { .seed = args.seed, .threads = args.threads };
    lenet *m = lenet_new(LENET_TRAIN | LENET_PREDICT, &options);
    if (!m) return nn_fail(NN_ENOMEM, NULL);
    if (args.lr > 0) lenet_hypers(m)->train_lr = args.lr;

    const nn_trainer trainer = { .model = m, .args = &args, .train = &train, .valid = &test, .step = step, .eval = eval,
                                 .step_values = { "loss", "acc" }, .eval_values = { "test" } };
    int failed = nn_train(&trainer, NULL);
    lenet_free(m);
    if (failed) return failed;

    /* A new object with the saved weights; it has no gradients and no optimizer. */
    lenet *p = lenet_new(LENET_PREDICT, &options);
    nn_load_report report;
    double accuracy = 0;
    if (!p) return nn_fail(NN_ENOMEM, NULL);
    if ((s = lenet_load(p, NN_WEIGHTS, args.out, &report)) != NN_OK) return nn_fail(s, report.message);
    printf("loaded %d tensors from %s\n\n", report.loaded, args.out);
    show(p, &test);
    s = nn_evaluate(p, eval, 1, &test, 256, &accuracy);
    if (s == NN_OK) printf("test accuracy: %.4f\n", accuracy);
    else failed = nn_fail(s, NULL);
    lenet_free(p);
    nn_dataset_free(&train);
    nn_dataset_free(&test);
    return failed;
}
