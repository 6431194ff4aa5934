/* SPDX-License-Identifier: MIT
 *
 * The training loop. In: a model's step and evaluation, a data set, options; out: a trained model, lines about
 * each epoch, a checkpoint. Invariant: everything that decides how a run goes on is in the checkpoint
 * (model, optimizer, counters, epoch, batch, sums, best so far), and nothing that depends on time is.
 *
 * In the checkpoint, beside the model's own tensors:
 *   loop/position  I64[5]  epochs finished, batches done in the current one, samples in `sums`, best epoch,
 *                          epochs without improvement
 *   loop/run       I64[3]  batch size, samples of the training set, seed: must not change on resume
 *   loop/sums      F64[n]  sums of the step's values over the current epoch
 *   loop/best      F64     value of the best epoch
 *   loop/history   F64[epochs, values]
 *   best/PATH              weights of the best epoch, with keep_best
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "nn_model.h"
#include "nn_train.h"
#include "file.h"

/* ---- exit codes ---- */

static int exit_code(nn_status s)
{
    switch (s) {
    case NN_OK: return 0;
    case NN_EIO: return NN_EXIT_IO;
    case NN_ENOMEM:
    case NN_ETHREAD: return NN_EXIT_RESOURCE;
    case NN_EINDEX:
    case NN_EFORMAT:
    case NN_ECORRUPT:
    case NN_EMISMATCH: return NN_EXIT_CORRUPT;
    case NN_ENONFINITE:
    case NN_ESEARCH: return NN_EXIT_NUMERIC;
    case NN_ESIZE: return NN_EXIT_USAGE;
    case NN_EINVAL:
    case NN_ESTATE: break;
    }
    return 70;
}

int nn_fail(nn_status s, const char *why)
{
    fprintf(stderr, "error: %s\n", why && *why ? why : nn_strerror(s));
    return exit_code(s);
}

/* ---- values ---- */

int nn_argmax(const float *scores, int classes)
{
    int best = 0;
    for (int i = 1; i < classes; i++)
        if (scores[i] > scores[best]) best = i;
    return best;
}

double nn_accuracy(const float *scores, const int32_t *y, int n, int classes)
{
    int right = 0;
    for (int i = 0; i < n; i++)
        right += nn_argmax(scores + (size_t)i * (size_t)classes, classes) == y[i];
    return n > 0 ? (double)right / n : 0;
}

static int count_names(const char *const *names)
{
    int n = 0;
    while (n < NN_MAX_VALUES && names[n]) n++;
    return n;
}

nn_status nn_evaluate(void *model, nn_batch_fn eval, int n_values, const nn_dataset *d, int batch,
                      double *value)
{
    nn_batches b;
    double sum[NN_MAX_VALUES] = { 0 }, one[NN_MAX_VALUES] = { 0 };
    if (n_values < 0 || n_values > NN_MAX_VALUES) return NN_EINVAL;
    nn_status s = nn_batches_init(&b, d, batch, 0);
    if (s != NN_OK) return s;
    b.shuffle = 0;
    nn_batches_start(&b, 0);
    while (s == NN_OK && nn_batches_next(&b)) {
        s = eval(model, &b.batch, one);
        for (int i = 0; i < n_values; i++) sum[i] += one[i] * b.batch.n;
    }
    for (int i = 0; i < n_values && s == NN_OK; i++) value[i] = sum[i] / (double)d->n;
    nn_batches_free(&b);
    return s;
}

/* ---- signals ---- */

/* Signals belong to the process, so this is the one place of the library that cannot be in an object. */
static volatile sig_atomic_t nn_signal_received;

static void on_signal(int number)
{
    nn_signal_received = number;
}

typedef struct Signals {
    struct sigaction interrupt, terminate, pipe, file_size;
} Signals;

/* SA_RESETHAND: the second signal acts as if nothing had been installed. */
static void take_over(int number, struct sigaction *before)
{
    struct sigaction a = { .sa_handler = on_signal, .sa_flags = (int)(SA_RESETHAND | SA_RESTART) };
    sigemptyset(&a.sa_mask);
    sigaction(number, NULL, before);
    /* Started in the background, the program was told to ignore it. */
    if (before->sa_handler != SIG_IGN) sigaction(number, &a, NULL);
}

static void ignore(int number, struct sigaction *before)
{
    struct sigaction a = { .sa_handler = SIG_IGN };
    sigemptyset(&a.sa_mask);
    sigaction(number, &a, before);
}

static void signals_begin(Signals *s)
{
    nn_signal_received = 0;
    take_over(SIGINT, &s->interrupt);
    take_over(SIGTERM, &s->terminate);
    /* A closed pipe or a full quota is an error to report, not a reason to die with the weights. */
    ignore(SIGPIPE, &s->pipe);
    ignore(SIGXFSZ, &s->file_size);
}

static void signals_end(const Signals *s)
{
    sigaction(SIGINT, &s->interrupt, NULL);
    sigaction(SIGTERM, &s->terminate, NULL);
    sigaction(SIGPIPE, &s->pipe, NULL);
    sigaction(SIGXFSZ, &s->file_size, NULL);
}

/* ---- the run ---- */

typedef struct Run {
    const nn_trainer *t;
    const nn_args *args;
    int n_step, n_eval;
    nn_batches batches;
    int64_t epoch, batch, seen; /* see loop/position */
    double sum[NN_MAX_VALUES];
    double best;
    int64_t best_epoch, stale;
    double *history;          /* [epoch][n_step + n_eval] */
    double untrained[NN_MAX_VALUES]; /* evaluation of a run without an epoch */
    nn_st_file *best_weights; /* NULL until there is a best epoch, and without keep_best */
    int64_t stuck;            /* batches of this epoch whose loss no step lowers (NN_ESEARCH) */
    int converged;            /* ... which were all batches of the last epoch */
    int saved;                /* this run has written args->out */
    char why[NN_ERROR_TEXT];
} Run;

static int n_values(const Run *r)
{
    return r->n_step + r->n_eval;
}

static int add_numbers(nn_st_file *f, const char *name, nn_dtype dtype, nn_dim n, const void *data)
{
    return nn_st_add(f, name, dtype, 1, &n, data) != NULL;
}

static nn_status save_best(const Run *r, nn_st_file *f)
{
    char name[600];
    for (int i = 0; i < nn_st_count(r->best_weights); i++) {
        const nn_st_tensor *t = nn_st_at(r->best_weights, i);
        snprintf(name, sizeof name, "best/%s", t->name);
        if (!nn_st_add(f, name, t->dtype, t->rank, t->shape, t->data)) return NN_ENOMEM;
    }
    return NN_OK;
}

static nn_status save(Run *r)
{
    nn_st_file *f;
    if (!r->args->out) return NN_OK;
    nn_status s = nn_model_to_st(r->t->model, NN_ALL, &f);
    if (s != NN_OK) return s;
    int64_t position[5] = { r->epoch, r->batch, r->seen, r->best_epoch, r->stale };
    int64_t run[3] = { r->args->batch, r->t->train->n, (int64_t)r->args->seed };
    nn_dim table[2] = { r->epoch, n_values(r) };
    int ok = add_numbers(f, "loop/position", NN_I64, 5, position) &&
             add_numbers(f, "loop/run", NN_I64, 3, run) &&
             add_numbers(f, "loop/sums", NN_F64, r->n_step, r->sum) &&
             add_numbers(f, "loop/best", NN_F64, 1, &r->best) &&
             nn_st_add(f, "loop/history", NN_F64, 2, table, r->history) != NULL;
    s = ok ? save_best(r, f) : NN_ENOMEM;
    if (s == NN_OK) s = nn_st_save(f, r->args->out, r->why);
    nn_st_close(f);
    r->saved |= s == NN_OK;
    return s;
}

/* A tensor of the loop with the expected type and count, or NULL after a message. */
static const void *loop_data(Run *r, const nn_st_file *f, const char *name, nn_dtype dtype,
                             nn_dim count)
{
    const nn_st_tensor *t = nn_st_find(f, name);
    if (t && t->dtype == dtype && t->count == count) return t->data;
    nn_say(r->why, "%.120s is no checkpoint of this training program: '%s' is missing or different",
           r->args->resume, name);
    return NULL;
}

static nn_status load_best(Run *r, const nn_st_file *f)
{
    for (int i = 0; i < nn_st_count(f); i++) {
        const nn_st_tensor *t = nn_st_at(f, i);
        if (strncmp(t->name, "best/", 5) != 0) continue;
        if (!r->best_weights) r->best_weights = nn_st_new();
        if (!nn_st_add(r->best_weights, t->name + 5, t->dtype, t->rank, t->shape, t->data))
            return NN_ENOMEM;
    }
    return NN_OK;
}

static double plateau_value(const Run *r, const double *row)
{
    return r->n_eval > 0 ? row[r->n_step] : row[0];
}

static nn_status load_loop(Run *r, const nn_st_file *f)
{
    const int64_t *position = loop_data(r, f, "loop/position", NN_I64, 5);
    const int64_t *run = position ? loop_data(r, f, "loop/run", NN_I64, 3) : NULL;
    const double *sums = run ? loop_data(r, f, "loop/sums", NN_F64, r->n_step) : NULL;
    const double *best = sums ? loop_data(r, f, "loop/best", NN_F64, 1) : NULL;
    if (!best) return NN_EMISMATCH;
    if (position[0] < 0 || position[0] > INT32_MAX || position[1] < 0 || position[2] < 0 ||
        position[3] < 0 || position[4] < 0) {
        nn_say(r->why, "%.120s: impossible position in the run", r->args->resume);
        return NN_ECORRUPT;
    }
    if (run[0] != r->args->batch || run[1] != r->t->train->n || run[2] != (int64_t)r->args->seed) {
        nn_say(
            r->why,
            "%.120s was made with batches of %lld, %lld samples and seed %lld; resume with the same",
            r->args->resume, (long long)run[0], (long long)run[1], (long long)run[2]);
        return NN_EMISMATCH;
    }
    const double *history = loop_data(r, f, "loop/history", NN_F64, position[0] * n_values(r));
    if (!history) return NN_EMISMATCH;
    r->epoch = position[0];
    r->batch = position[1];
    r->seen = position[2];
    r->best_epoch = position[3];
    r->stale = position[4];
    r->best = *best;
    memcpy(r->sum, sums, (size_t)r->n_step * sizeof *sums);
    size_t kept = (size_t)(r->epoch * n_values(r));
    size_t room =
        kept + (size_t)(r->args->epochs > 0 ? r->args->epochs : 0) * (size_t)n_values(r) + 1;
    free(r->history);
    r->history = calloc(room, sizeof *r->history);
    if (!r->history) return NN_ENOMEM;
    memcpy(r->history, history, kept * sizeof *history);
    /* The scalar is in the checkpoint; what the plateau remembers follows from the values so far. */
    for (int64_t i = 0; r->t->plateau && i < r->epoch; i++) {
        double any = 1;
        nn_plateau_step(r->t->plateau, plateau_value(r, r->history + i * n_values(r)), &any);
    }
    return load_best(r, f);
}

static nn_status resume(Run *r)
{
    nn_st_file *f;
    nn_load_report report;
    nn_status s = nn_st_open(&f, r->args->resume, r->why);
    if (s != NN_OK) return s;
    s = load_loop(r, f);
    if (s == NN_OK && (s = nn_model_from_st(r->t->model, NN_ALL, f, &report)) != NN_OK)
        nn_say(r->why, "%.80s: %.170s", r->args->resume,
               report.message[0] ? report.message : nn_strerror(s));
    nn_st_close(f);
    return s;
}

/* ---- what the user sees ---- */

static void status_text(const Run *r, char *out, size_t size)
{
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; i < r->n_step && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s=%.4g", i ? " " : "", r->t->step_values[i],
                              r->seen > 0 ? r->sum[i] / (double)r->seen : 0);
}

static void print_epoch(const Run *r, nn_progress_mode mode, double seconds)
{
    const double *row = r->history + (r->epoch - 1) * n_values(r);
    int bar = mode == NN_PROGRESS_BAR;
    if (r->args->progress == NN_PROGRESS_NONE) return;
    printf(bar ? "epoch %lld/%d" : "epoch=%lld/%d", (long long)r->epoch, r->args->epochs);
    for (int i = 0; i < n_values(r); i++)
        printf(bar ? "  %s %.4f" : " %s=%.4f",
               i < r->n_step ? r->t->step_values[i] : r->t->eval_values[i - r->n_step], row[i]);
    printf(bar ? "  %.1f s\n" : " seconds=%.1f\n", seconds);
    fflush(stdout);
}

static nn_status plot(Run *r)
{
    nn_curve curves[2 * NN_MAX_VALUES];
    nn_status s = NN_OK;
    if (!r->args->plot || r->epoch < 1) return NN_OK;
    double *columns = calloc((size_t)(r->epoch * n_values(r)), sizeof *columns);
    if (!columns) return NN_ENOMEM;
    for (int i = 0; i < n_values(r); i++) {
        double *y = columns + i * r->epoch;
        for (int64_t e = 0; e < r->epoch; e++) y[e] = r->history[e * n_values(r) + i];
        curves[i] =
            (nn_curve){ i < r->n_step ? r->t->step_values[i] : r->t->eval_values[i - r->n_step], y,
                        (int)r->epoch };
    }
    s = nn_plot_curves(r->args->plot, "Training", "epoch", 1, curves, n_values(r), 0, r->why);
    free(columns);
    return s;
}

/* ---- epochs ---- */

/* Steps until the epoch ends, a signal comes or something fails. */
static nn_status run_steps(Run *r, nn_progress *p)
{
    char status[256];
    double value[NN_MAX_VALUES] = { 0 };
    int64_t limit = nn_batches_count(&r->batches);
    if (r->args->limit_batches > 0 && r->args->limit_batches < limit)
        limit = r->args->limit_batches;
    nn_batches_start(&r->batches, r->epoch);
    nn_batches_skip(&r->batches, r->batch);
    while (r->batch < limit && !nn_signal_received && nn_batches_next(&r->batches)) {
        for (int i = 0; i < r->n_step; i++) value[i] = NAN;
        nn_status s = r->t->step(r->t->model, &r->batches.batch, value);
        /* A line search that finds nothing lower has changed nothing: the batch counts, but as one that is done. */
        const int stuck = s == NN_ESEARCH;
        if (stuck) {
            r->stuck++;
            s = NN_OK;
            if (!isfinite(value[0])) {
                r->batch++;
                continue;
            }
        }
        if (s == NN_ENONFINITE || (s == NN_OK && !isfinite(value[0]))) {
            nn_say(r->why, "epoch %lld, step %lld: the %s or a gradient is not finite; %s%s",
                   (long long)r->epoch + 1, (long long)r->batch + 1,
                   r->n_step > 0 ? r->t->step_values[0] : "loss",
                   r->saved ? "the last good checkpoint is " : "no checkpoint was written",
                   r->saved ? r->args->out : "");
            return NN_ENONFINITE;
        }
        if (s == NN_ESIZE)
            nn_say(r->why,
                   "a batch of %d is outside what the model was compiled for (its header has the bounds; the "
                   "last batch of an epoch is what --batch leaves over)",
                   r->batches.batch.n);
        if (s != NN_OK) return s;
        for (int i = 0; i < r->n_step; i++) r->sum[i] += value[i] * r->batches.batch.n;
        r->seen += r->batches.batch.n;
        r->batch++;
        status_text(r, status, sizeof status);
        nn_progress_update(p, r->batches.at, status);
    }
    return NN_OK;
}

int nn_plateau_step(nn_plateau *p, double value, double *scalar)
{
    const double margin = p->larger_is_better ? 1 + p->threshold : 1 - p->threshold;
    const int better =
        !isnan(value) &&
        (!p->known || (p->larger_is_better ? value > p->best * margin : value < p->best * margin));
    if (better) {
        p->best = value;
        p->known = 1;
    }
    p->bad = better || p->cooling > 0 ? 0 : p->bad + 1;
    if (p->cooling > 0) p->cooling--;
    if (p->bad <= p->patience) return 0;
    p->bad = 0;
    p->cooling = p->cooldown;
    const double lower = *scalar * p->factor > p->min ? *scalar * p->factor : p->min;
    if (!(lower < *scalar)) return 0;
    *scalar = lower;
    return 1;
}

static int is_better(const Run *r, double value)
{
    if (r->best_epoch == 0) return !isnan(value);
    return r->t->eval_smaller_is_better ? value < r->best : value > r->best;
}

/* Means, evaluation, history, best epoch: everything between the last step and the checkpoint. */
static nn_status finish_epoch(Run *r)
{
    double *row = r->history + r->epoch * n_values(r);
    nn_status s = NN_OK;
    /* Where no step gave values, they are those of the epoch before: nothing has changed since. */
    for (int i = 0; i < r->n_step; i++)
        row[i] = r->seen > 0    ? r->sum[i] / (double)r->seen
                 : r->epoch > 0 ? row[i - n_values(r)]
                                : 0;
    if (r->n_eval > 0)
        s = nn_evaluate(r->t->model, r->t->eval, r->n_eval, r->t->valid, r->args->batch,
                        row + r->n_step);
    if (s != NN_OK) return s;
    if (r->t->plateau && r->t->plateau_scalar)
        nn_plateau_step(r->t->plateau, plateau_value(r, row), r->t->plateau_scalar);
    r->converged = r->batch > 0 && r->stuck == r->batch;
    r->epoch++;
    r->batch = r->seen = r->stuck = 0;
    memset(r->sum, 0, sizeof r->sum);
    if (r->n_eval == 0) return NN_OK;
    r->stale++;
    if (is_better(r, row[r->n_step])) {
        r->best = row[r->n_step];
        r->best_epoch = r->epoch;
        r->stale = 0;
        if (r->t->keep_best) {
            nn_st_close(r->best_weights);
            r->best_weights = NULL;
            s = nn_model_to_st(r->t->model, NN_WEIGHTS, &r->best_weights);
        }
    }
    return s;
}

static int goes_on(const Run *r)
{
    if (r->args->patience > 0 && r->n_eval > 0 && r->stale >= r->args->patience) return 0;
    return r->epoch < r->args->epochs && !nn_signal_received && !r->converged;
}

static nn_status run_epochs(Run *r)
{
    nn_status s = NN_OK;
    while (s == NN_OK && goes_on(r)) {
        nn_progress p;
        char title[64];
        snprintf(title, sizeof title, "epoch %lld/%d", (long long)r->epoch + 1, r->args->epochs);
        nn_dim total = r->t->train->n;
        if (r->args->limit_batches > 0 && (nn_dim)r->args->limit_batches * r->batches.size < total)
            total = (nn_dim)r->args->limit_batches * r->batches.size;
        nn_progress_start(&p, stderr, r->args->progress, title, total, "samples");
        nn_progress_mode mode = p.mode;
        s = run_steps(r, &p);
        nn_progress_end(&p);
        /* A signal from here on lets the epoch finish. */
        int finished = s == NN_OK && !nn_signal_received;
        if (finished) {
            s = finish_epoch(r);
            if (s == NN_OK) print_epoch(r, mode, nn_progress_seconds(&p));
            if (s == NN_OK && r->converged && r->args->progress != NN_PROGRESS_NONE)
                printf("converged after epoch %lld: no step lowers the loss any more\n", (long long)r->epoch);
        }
        if (s == NN_OK) s = save(r);
        if (s == NN_OK && finished) s = plot(r);
        if (s == NN_OK && finished && r->t->after_epoch)
            r->t->after_epoch(r->t->user, r->t->model, (int)r->epoch);
    }
    /* A resumed run may have nothing left to do: --out is there all the same. */
    return s == NN_OK && !r->saved ? save(r) : s;
}

static void fill_result(const Run *r, nn_train_result *out)
{
    *out = (nn_train_result){ .epochs = (int)r->epoch,
                              .best_epoch = (int)r->best_epoch,
                              .converged = r->converged,
                              .best = r->best };
    for (int i = 0; i < NN_MAX_VALUES; i++) out->train[i] = out->eval[i] = NAN;
    for (int i = 0; r->epoch < 1 && i < r->n_eval; i++) out->eval[i] = r->untrained[i];
    if (r->epoch < 1 || !r->history) return;
    const double *row = r->history + (r->epoch - 1) * n_values(r);
    for (int i = 0; i < r->n_step; i++) out->train[i] = row[i];
    for (int i = 0; i < r->n_eval; i++) out->eval[i] = row[r->n_step + i];
}

int nn_train(const nn_trainer *t, nn_train_result *result)
{
    Run r = { .t = t, .args = t->args };
    Signals before;
    r.n_step = count_names(t->step_values);
    r.n_eval = t->eval && t->valid ? count_names(t->eval_values) : 0;
    if (!t->model || !t->step || !t->train || r.args->epochs < 0 || r.n_step < 1)
        return nn_fail(NN_EINVAL,
                       "nn_train needs a model, a step with a named value and a training set");
    nn_status s = nn_batches_init(&r.batches, t->train, r.args->batch, r.args->seed);
    if (s != NN_OK)
        return nn_fail(s, s == NN_EINVAL ? "the training set is empty or --batch is not positive"
                                         : NULL);
    r.history = calloc((size_t)r.args->epochs * (size_t)n_values(&r) + 1, sizeof *r.history);
    if (!r.history) s = NN_ENOMEM;
    if (s == NN_OK && r.args->resume) s = resume(&r);
    signals_begin(&before);
    if (s == NN_OK) s = run_epochs(&r);
    int stopped_by = (int)nn_signal_received;
    signals_end(&before);
    for (int i = 0; i < NN_MAX_VALUES; i++) r.untrained[i] = NAN;
    if (s == NN_OK && result && r.epoch < 1 && r.n_eval > 0 && !stopped_by)
        s = nn_evaluate(t->model, t->eval, r.n_eval, t->valid, r.args->batch, r.untrained);
    if (s == NN_OK && !stopped_by && r.best_weights)
        s = nn_model_from_st(t->model, NN_WEIGHTS, r.best_weights, NULL);
    if (result) fill_result(&r, result);
    int code = s == NN_OK ? 0 : nn_fail(s, r.why);
    if (code == 0 && stopped_by) {
        fprintf(stderr,
                r.args->out ? "stopped by signal %d; go on with --resume %s\n"
                            : "stopped by signal %d%s\n",
                stopped_by, r.args->out ? r.args->out : "");
        code = NN_EXIT_SIGNAL + stopped_by;
    }
    if (code == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        code = nn_fail(NN_EIO, "cannot write to stdout");
    nn_st_close(r.best_weights);
    free(r.history);
    nn_batches_free(&r.batches);
    return code;
}
