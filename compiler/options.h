/* SPDX-License-Identifier: MIT
 *
 * The command line of nnc. One table describes every option; it feeds the parser and --help. In: argv.
 * Out: Options, or one line on stderr and exit code 2.
 */
#ifndef NNC_OPTIONS_H
#define NNC_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/vec.h"


typedef struct Options {
    const char *input;  /* a .nn or .nnir file, or "-" */
    const char *output; /* -o; NULL or "-": stdout */
    const char *header; /* --header; NULL: beside the output */
    const char *emit;   /* c nnir dot summary harness ast */
    const char *model, *prefix;
    Words include_dirs, defines;
    const char *real; /* f32 or f64 */
    bool no_blas;
    Words products, traces; /* --hvp, --trace */
    const char *values;     /* --values: what a trace gave, for --emit=dot */
    const char *dump_ir, *stop_after, *no_pass;
    bool report;
    const char *max_memory;
    const char *disabled_warnings, *error_warnings; /* ids separated by spaces */
    bool werror;
    const char *color, *diagnostics;
    bool depend;         /* -MD */
    const char *depfile; /* -MF, --depfile */
    const char *list, *help_op;
    bool manual, help, version;
} Options;

/* Exit codes of the command. */
enum {
    EXIT_GOOD = 0,
    EXIT_PROGRAM = 1,
    EXIT_USAGE = 2,
    EXIT_IO = 3,
    EXIT_LIMIT = 4,
    EXIT_INTERNAL = 70
};

bool options_parse(Arena *a, Options *o, int argc, char **argv, FILE *err);
void options_help(FILE *to);

/* "1.5G" -> bytes; -1 when it is no size. */
long long options_bytes(const char *text);

#endif
