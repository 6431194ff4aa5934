/* SPDX-License-Identifier: MIT
 *
 * A training loop for programs around generated models, and the options such programs share.
 *
 *   static nn_status step(void *m, const nn_batch *b, double *value) {
 *       lenet_train_out out;
 *       nn_status s = lenet_train(m, b->n, b->x, b->y, &out);
 *       value[0] = out.loss, value[1] = out.acc;
 *       return s;
 *   }
 *   int main(int argc, char **argv) {
 *       nn_args args = { .epochs = 5, .batch = 64, .out = "lenet.safetensors" };
 *       int code = nn_args_parse(&args, argc, argv, "Trains LeNet on digits.");
 *       if (code >= 0) return code;
 *       ...
 *       nn_trainer t = { .model = m, .args = &args, .train = &train, .step = step,
 *                        .step_values = { "loss", "acc" } };
 *       return nn_train(&t, NULL);
 *   }
 *
 * A run that is interrupted (Ctrl-C, SIGTERM, power) and resumed ends with the same bits as one that is not.
 */
#ifndef NN_TRAIN_H
#define NN_TRAIN_H

#include "nn.h"
#include "nn_data.h"
#include "nn_log.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- options ---- */

/* Fill in the defaults, then parse. Strings point into argv. */
typedef struct nn_args {
    const char *data;          /* --data DIR: MNIST files; NULL: rendered digits */
    const char *out;           /* --out FILE: checkpoint; NULL: none is written */
    const char *resume;        /* --resume FILE: go on from this checkpoint; NULL: start anew */
    const char *plot;          /* --plot FILE: SVG of the values per epoch; NULL: none */
    int epochs;                /* --epochs N */
    int batch;                 /* --batch N: samples per step */
    double lr;                 /* --lr X: 0 means the model's own */
    uint64_t seed;             /* --seed N */
    int threads;               /* --threads N: 0 means one per processor */
    int limit_batches;         /* --limit-batches N: at most N steps per epoch; 0: all */
    int patience;              /* --patience N: stop after N epochs without improvement; 0: never */
    nn_progress_mode progress; /* --progress auto|bar|plain|none */
} nn_args;

/* Reads `--name value` and `--name=value`. -1: go on; otherwise the exit code of main: 0 after --help, 2
 * after a mistake, which has been reported on stderr. `about` is one sentence for --help. */
int nn_args_parse(nn_args *a, int argc, char **argv, const char *about);

/* ---- exit codes of training programs ---- */

enum {
    NN_EXIT_USAGE = 2,
    NN_EXIT_IO = 3,
    NN_EXIT_RESOURCE = 4,
    NN_EXIT_CORRUPT = 5, /* data or checkpoint */
    NN_EXIT_NUMERIC = 6, /* the loss is no longer finite */
    NN_EXIT_SIGNAL = 128 /* plus the number of the signal */
};

/* The exit code for a status, after printing "error: WHY" to stderr (why NULL or "": nn_strerror). */
int nn_fail(nn_status s, const char *why);

/* ---- the loop ---- */

enum { NN_MAX_VALUES = 8 };

/* Lowers a live scalar when a value stops improving, as PyTorch's ReduceLROnPlateau does: after more than `patience`
 * values in a row that do not improve the best by a share of `threshold`, the scalar is multiplied by `factor`, down to
 * `min`, and the next `cooldown` values do not count as bad. Start it as
 *     nn_plateau p = { .factor = 0.1, .patience = 10, .threshold = 1e-4 }; */
typedef struct nn_plateau {
    double factor, threshold, min;
    int patience, cooldown;
    int larger_is_better; /* 0: the value is a loss */
    double best;          /* the rest is its memory, 0 at first */
    int known, bad, cooling;
} nn_plateau;

/* Takes the next value. Returns 1 when it has lowered *scalar, for instance lenet_hypers(m)->train_lr. */
int nn_plateau_step(nn_plateau *p, double value, double *scalar);

/* One step or one evaluation on a batch; sets the values that are named in nn_trainer, each a mean over the
 * batch. A status other than NN_OK ends the run. */
typedef nn_status (*nn_batch_fn)(void *model, const nn_batch *batch, double *value);

typedef struct nn_trainer {
    void *model; /* a generated object, `lenet *` */
    const nn_args *args;
    const nn_dataset *train;
    const nn_dataset *valid; /* NULL: no evaluation */
    nn_batch_fn step;
    nn_batch_fn eval;                           /* NULL: no evaluation */
    const char *step_values[NN_MAX_VALUES + 1]; /* names, NULL at the end; the first is the loss */
    const char *eval_values[NN_MAX_VALUES + 1]; /* the first decides what is best */
    int eval_smaller_is_better;                 /* 0: larger, as for an accuracy */
    int keep_best; /* 1: the run ends with the weights of its best epoch (needs eval) */
    /* May be NULL. Called after each epoch and its checkpoint, for samples and pictures. */
    void (*after_epoch)(void *user, void *model, int epoch);
    void *user;
    /* May be NULL. Gets the first value of each evaluation, without one the loss, and lowers *plateau_scalar. */
    nn_plateau *plateau;
    double *plateau_scalar;
} nn_trainer;

typedef struct nn_train_result {
    int epochs;     /* finished, earlier runs included */
    int best_epoch; /* from 1; 0: none was evaluated */
    int converged;  /* in the last epoch no step found a lower loss (NN_ESEARCH) */
    double best;
    double train[NN_MAX_VALUES]; /* of the last finished epoch; NaN before the first */
    double eval[NN_MAX_VALUES];  /* likewise; of the model as it is, when there was no epoch */
} nn_train_result;

/* Trains for args->epochs epochs. Every epoch ends with a line on stdout and, when args->out is set, a
 * checkpoint that holds the model, its optimizer and the position in the run. On SIGINT or SIGTERM the step
 * is finished, the checkpoint is written, and the result is 128 + signal; a second signal ends the
 * program at once. A step that returns NN_ESEARCH has found no lower loss and changed nothing: training goes
 * on with the next batch, and an epoch of nothing else is the last one, a good end. When a value of a step is not
 * finite, the run stops with NN_EXIT_NUMERIC and the last good checkpoint stays. Returns an exit code, 0 when
 * all is well; the reason has been printed to stderr. result may be NULL. */
int nn_train(const nn_trainer *t, nn_train_result *result);

/* Mean values of `eval` over a whole set, in its order, `batch` samples at a time. */
nn_status nn_evaluate(void *model, nn_batch_fn eval, int n_values, const nn_dataset *d, int batch,
                      double *value);

/* Share of the n rows of scores[n][classes] whose largest element (the first, in a tie) stands at y[i]. */
double nn_accuracy(const float *scores, const int32_t *y, int n, int classes);
int nn_argmax(const float *scores, int classes);

#ifdef __cplusplus
}
#endif
#endif
