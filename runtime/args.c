/* SPDX-License-Identifier: MIT
 *
 * The options that training programs share. In: argv; out: nn_args, or a message and an exit code.
 */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn_train.h"

typedef enum Kind { TEXT, COUNT, REAL, SEED, PROGRESS } Kind;

typedef struct Option {
    const char *name;
    Kind kind;
    size_t offset;
    int least; /* COUNT */
    const char *value, *help;
} Option;

#define AT(field) offsetof(nn_args, field)
static const Option options[] = {
    { "data", TEXT, AT(data), 0, "DIR", "MNIST files; without it, digits are drawn" },
    { "epochs", COUNT, AT(epochs), 0, "N", "passes over the training set" },
    { "batch", COUNT, AT(batch), 1, "N", "samples per step" },
    { "lr", REAL, AT(lr), 0, "X", "learning rate; 0 means the model's own" },
    { "seed", SEED, AT(seed), 0, "N", "initial weights, order of samples, random operators" },
    { "threads", COUNT, AT(threads), 0, "N", "0 means one per processor" },
    { "out", TEXT, AT(out), 0, "FILE", "checkpoint, written after every epoch" },
    { "resume", TEXT, AT(resume), 0, "FILE", "go on from this checkpoint" },
    { "plot", TEXT, AT(plot), 0, "FILE", "write the values of each epoch as an SVG" },
    { "limit-batches", COUNT, AT(limit_batches), 0, "N", "at most N steps per epoch; 0 means all" },
    { "patience", COUNT, AT(patience), 0, "N",
      "stop after N epochs without improvement; 0 means never" },
    { "progress", PROGRESS, AT(progress), 0, "auto|bar|plain|none", "what long work shows" },
};
enum { N_OPTIONS = sizeof options / sizeof *options };

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void help(const nn_args *a, const char *program, const char *about)
{
    printf("usage: %s [options]\n%s\n\n", base_name(program), about);
    for (int i = 0; i < N_OPTIONS; i++) {
        const Option *o = &options[i];
        const char *field = (const char *)a + o->offset;
        char left[64];
        snprintf(left, sizeof left, "--%s %s", o->name, o->value);
        printf("  %-30s %s", left, o->help);
        if (o->kind == COUNT && *(const int *)(const void *)field != 0)
            printf(" (%d)", *(const int *)(const void *)field);
        if (o->kind == REAL && *(const double *)(const void *)field != 0)
            printf(" (%g)", *(const double *)(const void *)field);
        const char *text = NULL;
        if (o->kind == TEXT) memcpy(&text, field, sizeof text);
        if (text) printf(" (%s)", text);
        putchar('\n');
    }
}

/* Stores `text` into the option's field; 0 when it is no value of its kind. */
static int store(nn_args *a, const Option *o, const char *text)
{
    char *field = (char *)a + o->offset, *end;
    errno = 0;
    switch (o->kind) {
    case TEXT:
        if (!*text) return 0;
        memcpy(field, &text, sizeof text);
        return 1;
    case COUNT: {
        long n = strtol(text, &end, 10);
        if (end == text || *end || errno || n < o->least || n > INT_MAX) return 0;
        int value = (int)n;
        memcpy(field, &value, sizeof value);
        return 1;
    }
    case REAL: {
        double x = strtod(text, &end);
        if (end == text || *end || !isfinite(x) || x < 0) return 0;
        memcpy(field, &x, sizeof x);
        return 1;
    }
    case SEED: {
        unsigned long long n = strtoull(text, &end, 10);
        if (*text < '0' || *text > '9' || *end || errno) return 0;
        uint64_t value = n;
        memcpy(field, &value, sizeof value);
        return 1;
    }
    case PROGRESS: {
        nn_progress_mode mode;
        if (nn_progress_parse(text, &mode) != NN_OK) return 0;
        memcpy(field, &mode, sizeof mode);
        return 1;
    }
    }
    return 0;
}

static const char *expected(const Option *o)
{
    switch (o->kind) {
    case COUNT: return o->least > 0 ? "a whole number from 1 on" : "a whole number from 0 on";
    case SEED: return "a whole number below 2^64";
    case REAL: return "a number from 0 on";
    case TEXT:
    case PROGRESS: break;
    }
    return o->value;
}

static const Option *find_option(const char *name, size_t n)
{
    for (int i = 0; i < N_OPTIONS; i++)
        if (strlen(options[i].name) == n && strncmp(options[i].name, name, n) == 0)
            return &options[i];
    return NULL;
}

int nn_args_parse(nn_args *a, int argc, char **argv, const char *about)
{
    const char *program = argc > 0 ? base_name(argv[0]) : "program";
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            help(a, program, about);
            return fflush(stdout) == 0 ? 0 : NN_EXIT_IO;
        }
        const char *equals = strchr(arg, '=');
        size_t n = equals ? (size_t)(equals - arg) : strlen(arg);
        const Option *o = strncmp(arg, "--", 2) == 0 && n > 2 ? find_option(arg + 2, n - 2) : NULL;
        if (!o) {
            fprintf(stderr, "%s: unknown option '%.100s'; --help lists them\n", program, arg);
            return NN_EXIT_USAGE;
        }
        const char *text = equals ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (!text) {
            fprintf(stderr, "%s: --%s needs a value: %s\n", program, o->name, o->value);
            return NN_EXIT_USAGE;
        }
        if (!store(a, o, text)) {
            fprintf(stderr, "%s: --%s: expected %s, found '%.100s'\n", program, o->name,
                    expected(o), text);
            return NN_EXIT_USAGE;
        }
    }
    return -1;
}
