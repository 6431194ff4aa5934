/* SPDX-License-Identifier: MIT
 *
 * The harness: options, tensors in, a routine run some times, tensors out; and central differences against
 * the gradients of the generated code, differences of gradients against its products with the Hessian.
 *
 * Output file: infer outputs by name; of a step its loss and metrics (of the last run), `grad.NAME` of every
 * parameter it trains, and in either case all weights and states after the runs.
 */
#include "nn_harness.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn_safetensors.h"

enum { CODE_GOOD, CODE_FAILED, CODE_USAGE, CODE_IO, CODE_RESOURCE, CODE_DATA, CODE_NUMERIC };

enum { MAX_SET = 64 };

typedef struct Run {
    const nn_harness *h;
    const nn_harness_routine *r;
    nn_model *m;
    const char *routine, *input, *output;
    long steps, threads, batch, check_max;
    uint64_t seed;
    const char *set[MAX_SET]; /* NAME=NUMBERS of each --set */
    int n_set;
    int grad_only, check_grad, check_hvp, help, list;
    nn_st_file *in_file, *out_file;
    int dims[8];
    void **in, **out; /* by port; a step's outputs are doubles in out[0] */
} Run;

static int fail(int code, const char *what, const char *name)
{
    fprintf(stderr, "harness: %s%s%s\n", what, name ? ": " : "", name ? name : "");
    return code;
}

static int code_of(nn_status s)
{
    switch (s) {
    case NN_OK: return CODE_GOOD;
    case NN_ENOMEM:
    case NN_ETHREAD: return CODE_RESOURCE;
    case NN_EIO: return CODE_IO;
    case NN_EFORMAT:
    case NN_ECORRUPT:
    case NN_EMISMATCH:
    case NN_ESIZE:
    case NN_EINDEX: return CODE_DATA;
    case NN_ENONFINITE:
    case NN_ESEARCH: return CODE_NUMERIC;
    case NN_EINVAL:
    case NN_ESTATE: break;
    }
    return CODE_FAILED;
}

/* ---- options ---- */

static void usage(FILE *to)
{
    fputs(
        "usage: PROGRAM [--routine NAME] [--input FILE] [--output FILE] [options]\n"
        "  --routine NAME   which routine to run (the first)\n"
        "  --input FILE     safetensors: inputs by name, and weights and states by name where present;\n"
        "                   without it inputs are drawn from the seed\n"
        "  --set NAME=X     an input, weight or state: one number for all elements, or X,Y,.. for each of them\n"
        "  --output FILE    safetensors: outputs, loss, metrics, grad.NAME, weights and states\n"
        "  --steps N        run the routine N times (1)\n"
        "  --seed N         of initial weights and random operators (0)\n"
        "  --threads N      (1)\n"
        "  --batch N        run-time size where no input file gives it (the upper bound)\n"
        "  --grad-only      of a step: gradients, no update; they add up over --steps\n"
        "  --check-grad     compare gradients with central differences (programs made with --real=f64)\n"
        "  --check-hvp      compare products with the Hessian with differences of gradients (the same, and --hvp)\n"
        "  --check-max N    at most N elements of each tensor, evenly spread (all)\n"
        "  --list           print the routines with their inputs and outputs\n",
        to);
}

static int parse_number(const char *text, long lo, long hi, long *n)
{
    char *end;
    errno = 0;
    const long v = strtol(text, &end, 10);
    if (errno || *end || end == text || v < lo || v > hi) return 0;
    *n = v;
    return 1;
}

static int parse_options(Run *run, int argc, char **argv)
{
    const struct {
        const char *name, **text;
        long *number, lo, hi;
        int *flag;
    } options[] = {
        { "--routine", &run->routine, NULL, 0, 0, NULL },
        { "--input", &run->input, NULL, 0, 0, NULL },
        { "--output", &run->output, NULL, 0, 0, NULL },
        { "--steps", NULL, &run->steps, 1, 1000000000, NULL },
        { "--threads", NULL, &run->threads, 1, 1024, NULL },
        { "--batch", NULL, &run->batch, 1, 2147483647, NULL },
        { "--check-max", NULL, &run->check_max, 1, 2147483647, NULL },
        { "--grad-only", NULL, NULL, 0, 0, &run->grad_only },
        { "--check-grad", NULL, NULL, 0, 0, &run->check_grad },
        { "--check-hvp", NULL, NULL, 0, 0, &run->check_hvp },
        { "--list", NULL, NULL, 0, 0, &run->list },
        { "--help", NULL, NULL, 0, 0, &run->help },
    };
    const size_t n_options = sizeof options / sizeof *options;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        size_t k = 0;
        if (!strcmp(argv[i], "--seed")) {
            char *end;
            errno = 0;
            if (!value) return fail(CODE_USAGE, "--seed needs a value", NULL);
            run->seed = strtoull(value, &end, 10);
            if (errno || *end || *value < '0' || *value > '9')
                return fail(CODE_USAGE, "not a seed", value);
            i++;
            continue;
        }
        if (!strcmp(argv[i], "--set")) {
            if (!value || !strchr(value, '=')) return fail(CODE_USAGE, "--set needs NAME=NUMBER", value);
            if (run->n_set == MAX_SET) return fail(CODE_USAGE, "--set is given too often", value);
            run->set[run->n_set++] = value;
            i++;
            continue;
        }
        while (k < n_options && strcmp(options[k].name, argv[i])) k++;
        if (k == n_options) return fail(CODE_USAGE, "unknown option", argv[i]);
        if (options[k].flag) {
            *options[k].flag = 1;
            continue;
        }
        if (!value) return fail(CODE_USAGE, "a value is missing after", argv[i]);
        if (options[k].text)
            *options[k].text = value;
        else if (!parse_number(value, options[k].lo, options[k].hi, options[k].number))
            return fail(CODE_USAGE, "not a number in range", value);
        i++;
    }
    return CODE_GOOD;
}

static void list_routines(const nn_harness *h)
{
    for (int i = 0; i < h->info->n_routines; i++) {
        const nn_harness_routine *r = &h->routines[i];
        printf("%s %s\n", r->is_step ? "step" : "infer", r->name);
        for (int k = 0; k < r->n_inputs + r->n_outputs; k++) {
            const nn_harness_port *p =
                k < r->n_inputs ? &r->inputs[k] : &r->outputs[k - r->n_inputs];
            printf("  %s %s [", k < r->n_inputs ? "in " : "out", p->name);
            for (int d = 0; d < p->rank; d++) {
                if (d) printf(",");
                if (d == 0 && p->dim >= 0) {
                    if (p->shape[0] != 1) printf("%lld*", (long long)p->shape[0]);
                    printf("%s", r->dims[p->dim].name);
                } else {
                    printf("%lld", (long long)p->shape[d]);
                }
            }
            printf("]\n");
        }
    }
}

static int choose_routine(Run *run)
{
    const nn_harness *h = run->h;
    if (!run->routine) {
        run->r = &h->routines[0];
        return CODE_GOOD;
    }
    for (int i = 0; i < h->info->n_routines; i++)
        if (!strcmp(h->routines[i].name, run->routine)) run->r = &h->routines[i];
    return run->r ? CODE_GOOD : fail(CODE_USAGE, "no such routine", run->routine);
}

/* ---- tensors in ---- */

static nn_dim port_count(const Run *run, const nn_harness_port *p)
{
    nn_dim n = p->dim >= 0 ? run->dims[p->dim] : 1;
    for (int i = 0; i < p->rank; i++) n *= p->shape[i];
    return n;
}

static void *port_alloc(const Run *run, const nn_harness_port *p)
{
    return calloc((size_t)port_count(run, p) + 1, nn_dtype_size(p->dtype));
}

static int put_value(void *data, nn_dtype t, nn_dim i, double v)
{
    switch (t) {
    case NN_F32: ((float *)data)[i] = (float)v; return 1;
    case NN_F64: ((double *)data)[i] = v; return 1;
    case NN_I32:
        if (!(v >= -2147483648.0 && v <= 2147483647.0) || v != floor(v)) return 0;
        ((int32_t *)data)[i] = (int32_t)v;
        return 1;
    case NN_U8:
    case NN_BOOL:
        if (!(v >= 0 && v <= (t == NN_U8 ? 255 : 1)) || v != floor(v)) return 0;
        ((unsigned char *)data)[i] = (unsigned char)v;
        return 1;
    case NN_I64: break;
    }
    return 0;
}

/* Is it --set that gives `name`? Returns the numbers, the last ones where it is given twice. */
static const char *set_text(const Run *run, const char *name)
{
    const size_t len = strlen(name);
    const char *text = NULL;
    for (int i = 0; i < run->n_set; i++)
        if (!strncmp(run->set[i], name, len) && run->set[i][len] == '=') text = run->set[i] + len + 1;
    return text;
}

/* Run-time sizes follow from the inputs; all inputs that share one must agree. */
static int find_dims(Run *run)
{
    const nn_harness_routine *r = run->r;
    int known[8] = { 0 };
    for (int i = 0; i < r->n_dims; i++) run->dims[i] = run->batch ? (int)run->batch : r->dims[i].hi;
    for (int i = 0; run->in_file && i < r->n_inputs; i++) {
        const nn_harness_port *p = &r->inputs[i];
        const nn_st_tensor *t = nn_st_find(run->in_file, p->name);
        if (!t && set_text(run, p->name)) continue;
        if (!t) return fail(CODE_DATA, "the input file lacks", p->name);
        int fits = t->rank == p->rank;
        for (int d = p->dim >= 0 ? 1 : 0; fits && d < p->rank; d++)
            fits = t->shape[d] == p->shape[d];
        if (fits && p->dim >= 0) {
            const nn_dim b = t->shape[0] / p->shape[0];
            fits = t->shape[0] % p->shape[0] == 0 && (!known[p->dim] || run->dims[p->dim] == b);
            run->dims[p->dim] = b <= 2147483647 ? (int)b : 2147483647;
            known[p->dim] = 1;
        }
        if (!fits) return fail(CODE_DATA, "the shape in the input file does not fit", p->name);
    }
    for (int i = 0; i < r->n_dims; i++)
        if (run->dims[i] < r->dims[i].lo || run->dims[i] > r->dims[i].hi)
            return fail(CODE_DATA, "size out of its bounds", r->dims[i].name);
    return CODE_GOOD;
}

/* splitmix64: inputs for runs without a file only have to be varied and repeatable. */
static double draw(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

/* n elements from one number or n of them. */
static int put_numbers(void *data, nn_dtype type, nn_dim n, const char *text, const char *name)
{
    nn_dim k = 0;
    double v = 0;
    for (const char *at = text;; k++) {
        char *end;
        v = strtod(at, &end);
        if (end == at || (*end && *end != ',')) return fail(CODE_USAGE, "--set: not a number", text);
        if (k < n && !put_value(data, type, k, v)) return fail(CODE_DATA, "a value does not fit the type of", name);
        if (!*end) break;
        at = end + 1;
    }
    for (nn_dim i = 1; k == 0 && i < n; i++) put_value(data, type, i, v);
    return k == 0 || k + 1 == n ? CODE_GOOD : fail(CODE_DATA, "--set: the count of numbers does not fit", name);
}

static int read_inputs(Run *run)
{
    const nn_harness_routine *r = run->r;
    uint64_t state = run->seed + 1;
    for (int i = 0; i < r->n_inputs; i++) {
        const nn_harness_port *p = &r->inputs[i];
        const nn_dim n = port_count(run, p);
        const nn_st_tensor *t = run->in_file ? nn_st_find(run->in_file, p->name) : NULL;
        run->in[i] = port_alloc(run, p);
        if (!run->in[i]) return fail(CODE_RESOURCE, "not enough memory for", p->name);
        const int is_real = p->dtype == NN_F32 || p->dtype == NN_F64;
        for (nn_dim k = 0; k < n; k++) {
            const double unit = t ? 0 : draw(&state);
            const double v = t         ? nn_st_value(t, k)
                             : is_real ? 2 * unit - 1
                                       : floor(unit * (p->limit ? (double)p->limit : 2));
            if (!put_value(run->in[i], p->dtype, k, v))
                return fail(CODE_DATA, "a value does not fit the type of", p->name);
        }
        const char *text = set_text(run, p->name);
        const int code = text ? put_numbers(run->in[i], p->dtype, n, text, p->name) : CODE_GOOD;
        if (code) return code;
    }
    return CODE_GOOD;
}

static int is_input_name(const nn_harness *h, const char *name)
{
    for (int i = 0; i < h->info->n_routines; i++)
        for (int k = 0; k < h->routines[i].n_inputs; k++)
            if (!strcmp(h->routines[i].inputs[k].name, name)) return 1;
    return 0;
}

/* Weights and states the file names replace the initial ones. */
static int read_weights(Run *run)
{
    const int f64 = run->h->info->real_bytes == 8;
    for (int i = 0; run->in_file && i < nn_st_count(run->in_file); i++) {
        const nn_st_tensor *t = nn_st_at(run->in_file, i);
        const int tensor = nn_model_find(run->m, t->name);
        if (tensor < 0) {
            if (!is_input_name(run->h, t->name))
                fail(0, "ignored, the model has no such tensor", t->name);
            continue;
        }
        const nn_tensor *want = &run->h->info->tensors[tensor];
        int fits = t->rank == want->rank;
        for (int d = 0; fits && d < t->rank; d++) fits = t->shape[d] == want->shape[d];
        if (!fits) return fail(CODE_DATA, "the shape in the input file does not fit", t->name);
        void *x = calloc((size_t)t->count + 1, sizeof(double));
        if (!x) return fail(CODE_RESOURCE, "not enough memory for", t->name);
        for (nn_dim k = 0; k < t->count; k++)
            put_value(x, f64 ? NN_F64 : NN_F32, k, nn_st_value(t, k));
        const nn_status s = nn_model_set(run->m, tensor, x);
        free(x);
        if (s != NN_OK) return fail(code_of(s), nn_strerror(s), t->name);
    }
    return CODE_GOOD;
}

/* What --set says of weights and states, and that it says nothing of unknown names. */
static int set_weights(Run *run)
{
    const nn_dtype type = run->h->info->real_bytes == 8 ? NN_F64 : NN_F32;
    for (int i = 0; i < run->n_set; i++) {
        char name[256];
        const size_t len = (size_t)(strchr(run->set[i], '=') - run->set[i]);
        snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), run->set[i]);
        int known = 0;
        for (int k = 0; k < run->r->n_inputs; k++) known |= !strcmp(run->r->inputs[k].name, name);
        const int tensor = nn_model_find(run->m, name);
        if (tensor < 0) {
            if (!known) return fail(CODE_USAGE, "--set: no such input, weight or state", name);
            continue;
        }
        const nn_tensor *t = &run->h->info->tensors[tensor];
        nn_dim n = 1;
        for (int d = 0; d < t->rank; d++) n *= t->shape[d];
        void *x = calloc((size_t)n + 1, sizeof(double));
        if (!x) return fail(CODE_RESOURCE, "not enough memory for", name);
        const int code = put_numbers(x, type, n, set_text(run, name), name);
        const nn_status s = code ? NN_OK : nn_model_set(run->m, tensor, x);
        free(x);
        if (code || s != NN_OK) return code ? code : fail(code_of(s), nn_strerror(s), name);
    }
    return CODE_GOOD;
}

/* ---- runs ---- */

static int alloc_outputs(Run *run)
{
    const nn_harness_routine *r = run->r;
    if (r->is_step) {
        run->out[0] = calloc((size_t)r->n_outputs + 1, sizeof(double));
        return run->out[0] ? CODE_GOOD : fail(CODE_RESOURCE, "not enough memory", NULL);
    }
    for (int i = 0; i < r->n_outputs; i++) {
        run->out[i] = port_alloc(run, &r->outputs[i]);
        if (!run->out[i]) return fail(CODE_RESOURCE, "not enough memory for", r->outputs[i].name);
    }
    return CODE_GOOD;
}

static nn_status call(Run *run, nn_harness_fn fn)
{
    return fn(run->m, run->dims, (const void *const *)run->in, run->out);
}

/* Options that look at gradients are for steps that keep them. */
static int need_gradients(const nn_harness_routine *r, const char *option)
{
    char text[128];
    snprintf(text, sizeof text, r->is_step ? "%s is for steps that keep their gradients (no in_backward), not for"
                                           : "%s is for steps, not for", option);
    return r->grad ? CODE_GOOD : fail(CODE_USAGE, text, r->name);
}

static int run_steps(Run *run)
{
    const nn_harness_routine *r = run->r;
    if (run->grad_only && need_gradients(r, "--grad-only")) return CODE_USAGE;
    for (long i = 0; i < run->steps; i++) {
        const nn_status s = call(run, run->grad_only ? r->grad : r->run);
        if (s != NN_OK) {
            fprintf(stderr, "harness: run %ld of %s: %s\n", i + 1, r->name, nn_strerror(s));
            return code_of(s);
        }
    }
    return CODE_GOOD;
}

/* ---- tensors out ---- */

static int add_tensor(Run *run, const char *prefix, const nn_tensor *t, const void *x)
{
    char name[512];
    snprintf(name, sizeof name, "%s%s", prefix, t->name);
    return nn_st_add(run->out_file, name, t->dtype, t->rank, t->shape, x)
               ? CODE_GOOD
               : fail(CODE_RESOURCE, "cannot add to the output", name);
}

static int is_trained(const Run *run, const nn_tensor *t)
{
    const nn_routine_info *info = &run->h->info->routines[run->r - run->h->routines];
    if (t->is_state) return 0;
    for (int i = 0; i < info->n_ranges; i++)
        if (t->offset >= info->ranges[i].offset &&
            t->offset < info->ranges[i].offset + info->ranges[i].count)
            return 1;
    return 0;
}

static int write_outputs(Run *run)
{
    const nn_harness_routine *r = run->r;
    char why[NN_ERROR_TEXT];
    run->out_file = nn_st_new();
    if (!run->out_file) return fail(CODE_RESOURCE, "not enough memory", NULL);
    for (int i = 0; i < r->n_outputs; i++) {
        const nn_harness_port *p = &r->outputs[i];
        nn_dim shape[NN_MAX_RANK];
        memcpy(shape, p->shape, sizeof shape);
        if (p->dim >= 0) shape[0] *= run->dims[p->dim];
        const nn_st_tensor *t =
            r->is_step
                ? nn_st_add(run->out_file, p->name, NN_F64, 0, NULL, (double *)run->out[0] + i)
                : nn_st_add(run->out_file, p->name, p->dtype, p->rank, shape, run->out[i]);
        if (!t) return fail(CODE_RESOURCE, "cannot add to the output", p->name);
    }
    for (int i = 0; i < run->h->info->n_tensors; i++) {
        const nn_tensor *t = &run->h->info->tensors[i];
        void *x = calloc((size_t)t->count + 1, sizeof(double));
        int code = x ? CODE_GOOD : fail(CODE_RESOURCE, "not enough memory for", t->name);
        if (!code && nn_model_get(run->m, i, x) == NN_OK) code = add_tensor(run, "", t, x);
        if (!code && r->is_step && is_trained(run, t) && nn_model_get_grad(run->m, i, x) == NN_OK)
            code = add_tensor(run, "grad.", t, x);
        free(x);
        if (code) return code;
    }
    const nn_status s = nn_st_save(run->out_file, run->output, why);
    return s == NN_OK ? CODE_GOOD : fail(code_of(s), why, NULL);
}

/* ---- gradients against central differences ---- */

typedef struct Snapshot {
    void *state;
    size_t bytes;
    uint64_t calls[NN_MAX_ROUTINES];
} Snapshot;

/* Runs the gradient half as if it were the first call: same state, same random numbers, empty slots. */
static nn_status grad_again(Run *run, const Snapshot *s)
{
    memcpy(run->m->state, s->state, s->bytes);
    memcpy(run->m->calls, s->calls, sizeof s->calls);
    memset(run->m->grads_ready, 0, sizeof run->m->grads_ready);
    return call(run, run->r->grad);
}

/* Note [kinks]
 * Where a relu switches within the distance of a difference, the difference is wrong and the gradient is right. A
 * smaller distance leaves the kink outside; a wrong gradient agrees with none. So an element that disagrees is measured
 * again at up to three smaller distances, and the closest counts. An operand that lies exactly on its kink disagrees
 * at all of them.
 */
static nn_status difference(Run *run, const Snapshot *snap, double *w, double eps, double *numeric)
{
    const double *loss = (const double *)run->out[0] + run->r->loss;
    const double x = *w;
    *w = x + eps;
    nn_status s = grad_again(run, snap);
    const double above = *loss, x1 = *w;
    *w = x - eps;
    if (s == NN_OK) s = grad_again(run, snap);
    *numeric = (above - *loss) / (x1 - *w);
    *w = x;
    return s;
}

static int check_tensor(Run *run, const Snapshot *snap, int index)
{
    const nn_tensor *t = &run->h->info->tensors[index];
    double *w = nn_model_data(run->m, index), *g = nn_model_grad(run->m, index);
    const double *loss = (const double *)run->out[0] + run->r->loss;
    const nn_dim n = run->check_max && run->check_max < t->count ? run->check_max : t->count;
    double *exact = malloc(((size_t)t->count + 1) * sizeof *exact);
    if (!exact) return fail(CODE_RESOURCE, "not enough memory for", t->name);
    nn_status s = grad_again(run, snap);
    memcpy(exact, g, (size_t)t->count * sizeof *exact);
    double d2 = 0, n2 = 0, e2 = 0;
    nn_dim again = 0;
    const double at = fabs(*loss);
    for (nn_dim k = 0; k < n && s == NN_OK; k++) {
        const nn_dim i = k * t->count / n;
        double eps = 1e-5 * (fabs(w[i]) > 1 ? fabs(w[i]) : 1), numeric = NAN;
        for (int attempt = 0; attempt < 4 && s == NN_OK; attempt++, eps /= 10) {
            double d;
            s = difference(run, snap, &w[i], eps, &d);
            if (attempt == 0 || fabs(exact[i] - d) < fabs(exact[i] - numeric)) numeric = d;
            const double size = fabs(d) > fabs(exact[i]) ? fabs(d) : fabs(exact[i]);
            if (fabs(exact[i] - numeric) <= 1e-6 * size + 1e-9 * (at > 1 ? at : 1)) break;
            if (attempt == 0) again++;
        }
        d2 += (exact[i] - numeric) * (exact[i] - numeric);
        n2 += numeric * numeric;
        e2 += exact[i] * exact[i];
    }
    free(exact);
    if (s != NN_OK) return fail(code_of(s), nn_strerror(s), t->name);
    /* Differences of a loss cannot be known better than its rounding allows: a gradient that is zero in
     * truth (a bias in front of batch norm) is compared with that floor. */
    const double floor_ = 1e-9 * sqrt((double)n) * (at > 1 ? at : 1);
    const double norm = sqrt(n2 > e2 ? n2 : e2), distance = sqrt(d2),
                 relative = norm > 0 ? distance / norm : distance;
    const int good = relative <= 1e-6 || distance <= floor_;
    printf("%-4s %-40s relative error %.2e, norm %.4g, %lld elements", good ? "ok" : "FAIL", t->name, relative, norm,
           (long long)n);
    if (again) printf(", %lld of them measured again (kinks)", (long long)again);
    putchar('\n');
    return good ? CODE_GOOD : CODE_FAILED;
}

/* What both checks need: a step, double precision, and a copy of what calls change. */
static int begin_check(const Run *run, const char *option, Snapshot *snap)
{
    char text[128];
    if (need_gradients(run->r, option)) return CODE_USAGE;
    snprintf(text, sizeof text,
             "%s needs double precision: make the program with nnc --real=f64", option);
    if (run->h->info->real_bytes != 8) return fail(CODE_USAGE, text, NULL);
    snap->bytes = (size_t)run->h->info->state_count * sizeof(double);
    snap->state = malloc(snap->bytes + 1);
    if (!snap->state) return fail(CODE_RESOURCE, "not enough memory", NULL);
    memcpy(snap->state, run->m->state, snap->bytes);
    memcpy(snap->calls, run->m->calls, sizeof snap->calls);
    return CODE_GOOD;
}

static int check_gradients(Run *run)
{
    const nn_model_info *info = run->h->info;
    Snapshot snap = { 0 };
    const int fault = begin_check(run, "--check-grad", &snap);
    if (fault) return fault;
    int code = CODE_GOOD, checked = 0;
    for (int i = 0; i < info->n_tensors && code <= CODE_FAILED; i++) {
        if (!is_trained(run, &info->tensors[i])) continue;
        const int one = check_tensor(run, &snap, i);
        if (one) code = one;
        checked++;
    }
    free(snap.state);
    if (!checked)
        return fail(CODE_FAILED, "nothing was checked: the step trains no parameter", run->r->name);
    return code;
}

/* ---- products with the Hessian against differences of gradients ---- */

/* The trained elements as one vector in canonical order: a tensor's part of it. */
typedef struct Part {
    int tensor;
    nn_dim from, count;
} Part;

typedef struct Products {
    Run *run;
    Part part[4096];
    int n_parts;
    nn_dim n;
    double *w, *v, *hv, *above, *below;
} Products;

static nn_status move_weights(const Products *p, double step)
{
    nn_status s = NN_OK;
    for (nn_dim i = 0; i < p->n; i++) p->below[i] = p->w[i] + step * p->v[i];
    for (int k = 0; k < p->n_parts && s == NN_OK; k++)
        s = nn_model_set(p->run->m, p->part[k].tensor, p->below + p->part[k].from);
    return s;
}

static nn_status gradient_at(const Products *p, const Snapshot *snap, double step, double *g)
{
    nn_status s = move_weights(p, step);
    if (s == NN_OK) s = grad_again(p->run, snap);
    for (int k = 0; k < p->n_parts && s == NN_OK; k++)
        s = nn_model_get_grad(p->run->m, p->part[k].tensor, g + p->part[k].from);
    return s;
}

static nn_status product(const Products *p, const Snapshot *snap)
{
    const Run *run = p->run;
    const void *in[64];
    for (int i = 0; i < run->r->n_inputs; i++) in[i] = run->in[i];
    in[run->r->n_inputs] = p->v;
    memcpy(run->m->state, snap->state, snap->bytes);
    memcpy(run->m->calls, snap->calls, sizeof snap->calls);
    return run->h->routines[run->r->product].run(run->m, run->dims, in, (void *[]){ p->hv });
}

/* One direction; the verdict is by tensor, over all elements of its part of H v. */
static int check_direction(Products *p, const Snapshot *snap, int number)
{
    const double eps = 1e-5;
    uint64_t state = p->run->seed + 1000 + (uint64_t)number;
    for (nn_dim i = 0; i < p->n; i++) p->v[i] = 2 * draw(&state) - 1;
    nn_status s = product(p, snap);
    if (s == NN_OK) s = gradient_at(p, snap, eps, p->above);
    if (s == NN_OK) s = gradient_at(p, snap, -eps, p->below);
    double d2 = 0, n2 = 0, largest = 0;
    for (nn_dim i = 0; i < p->n; i++) {
        const double d = (p->above[i] - p->below[i]) / (2 * eps) - p->hv[i];
        d2 += d * d;
        n2 += p->hv[i] * p->hv[i];
        largest = fabs(p->above[i]) > largest ? fabs(p->above[i]) : largest;
    }
    if (s == NN_OK) s = move_weights(p, 0);
    if (s != NN_OK) return fail(code_of(s), nn_strerror(s), p->run->r->name);
    /* As for gradients, differences are known to their rounding only. */
    const double floor_ = 1e-10 * sqrt((double)p->n) * (largest > 1 ? largest : 1);
    const double norm = sqrt(n2), distance = sqrt(d2);
    const int good = isfinite(norm) && (distance <= 1e-6 * norm || distance <= floor_);
    printf("%-4s H v, direction %d %*s relative error %.2e, norm %.4g, %lld elements\n",
           good ? "ok" : "FAIL", number + 1, 21, "", norm > 0 ? distance / norm : distance, norm,
           (long long)p->n);
    return good ? CODE_GOOD : CODE_FAILED;
}

static int check_products(Run *run)
{
    enum { DIRECTIONS = 5 };
    const nn_model_info *info = run->h->info;
    Products *p = calloc(1, sizeof *p);
    Snapshot snap = { 0 };
    int code = p ? CODE_GOOD : fail(CODE_RESOURCE, "not enough memory", NULL);
    if (!code && !run->r->product)
        code = fail(CODE_USAGE, "--check-hvp needs the product: make the program with nnc --hvp",
                    run->r->name);
    if (!code) code = begin_check(run, "--check-hvp", &snap);
    for (int i = 0; !code && i < info->n_tensors; i++) {
        if (!is_trained(run, &info->tensors[i])) continue;
        if (p->n_parts == sizeof p->part / sizeof *p->part || run->r->n_inputs > 62)
            code = fail(CODE_RESOURCE, "too many tensors or inputs", run->r->name);
        else
            p->part[p->n_parts++] = (Part){ i, p->n, info->tensors[i].count };
        p->n += info->tensors[i].count;
    }
    if (!code) {
        p->run = run;
        p->w = calloc(5 * (size_t)p->n + 1, sizeof *p->w);
        if (!p->w) code = fail(CODE_RESOURCE, "not enough memory", NULL);
    }
    if (!code) {
        p->v = p->w + p->n;
        p->hv = p->v + p->n;
        p->above = p->hv + p->n;
        p->below = p->above + p->n;
        for (int k = 0; k < p->n_parts; k++)
            nn_model_get(run->m, p->part[k].tensor, p->w + p->part[k].from);
        for (int k = 0; k < DIRECTIONS && code <= CODE_FAILED; k++) {
            const int one = check_direction(p, &snap, k);
            if (one) code = one;
        }
    }
    free(snap.state);
    if (p) free(p->w);
    free(p);
    return code;
}

/* ---- all of it ---- */

static int run_all(Run *run)
{
    char why[NN_ERROR_TEXT];
    int code = choose_routine(run);
    if (code) return code;
    if (run->r->n_dims > 8) return fail(CODE_USAGE, "too many run-time sizes in", run->r->name);
    if (run->input) {
        const nn_status s = nn_st_open(&run->in_file, run->input, why);
        if (s != NN_OK) return fail(code_of(s), why, NULL);
    }
    if ((code = find_dims(run))) return code;
    const nn_options options = { .seed = run->seed, .threads = (int)run->threads, .all_threads = 1 };
    unsigned routines = 1u << (run->r - run->h->routines);
    if (run->check_hvp && run->r->product) routines |= 1u << run->r->product;
    run->m = nn_model_new(run->h->info, routines, &options);
    if (!run->m) return fail(CODE_RESOURCE, "not enough memory or threads", NULL);
    run->in = calloc((size_t)run->r->n_inputs + 1, sizeof *run->in);
    run->out = calloc((size_t)run->r->n_outputs + 1, sizeof *run->out);
    if (!run->in || !run->out) return fail(CODE_RESOURCE, "not enough memory", NULL);
    if ((code = read_weights(run)) || (code = set_weights(run))) return code;
    if ((code = read_inputs(run)) || (code = alloc_outputs(run))) return code;
    if (run->check_grad) return check_gradients(run);
    if (run->check_hvp) return check_products(run);
    if ((code = run_steps(run))) return code;
    if (run->r->is_step)
        for (int i = 0; i < run->r->n_outputs; i++)
            printf("%s %.9g\n", run->r->outputs[i].name, ((double *)run->out[0])[i]);
    return run->output ? write_outputs(run) : CODE_GOOD;
}

int nn_harness_main(int argc, char **argv, const nn_harness *h)
{
    Run run = { .h = h, .steps = 1, .threads = 1 };
    int code = parse_options(&run, argc, argv);
    if (code) {
        usage(stderr);
        return code;
    }
    if (run.help)
        usage(stdout);
    else if (run.list)
        list_routines(h);
    else
        code = run_all(&run);
    for (int i = 0; run.r && run.in && i < run.r->n_inputs; i++) free(run.in[i]);
    for (int i = 0; run.r && run.out && i < run.r->n_outputs + (run.r->n_outputs == 0); i++)
        free(run.out[i]);
    free(run.in);
    free(run.out);
    nn_st_close(run.in_file);
    nn_st_close(run.out_file);
    if (run.m) nn_model_free(run.m);
    if (fflush(stdout) || ferror(stdout)) code = code ? code : CODE_IO;
    return code;
}
