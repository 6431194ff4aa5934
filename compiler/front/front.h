/* SPDX-License-Identifier: MIT
 *
 * The front end. In: a `.nn` file and the command line's options. Out: a Module whose routines are typed
 * graphs, each step with its loss, its trained tensors and its optimizer. Invariant: whatever the input
 * holds, every fault is a diagnostic; a Module is only good to use while diag_errors() is 0.
 */
#ifndef NNC_FRONT_FRONT_H
#define NNC_FRONT_FRONT_H

#include <stdio.h>

#include "base/diag.h"
#include "ir/graph.h"

enum { FRONT_MAX_BYTES = 16 * 1024 * 1024 };

typedef struct FrontOptions {
    const char *const *include_dirs; /* -I */
    size_t n_include_dirs;
    const char *const *defines; /* -D: "NAME=VALUE"; "NAME" means NAME=true */
    size_t n_defines;
    const char *model;  /* which model; NULL: the only one */
    const char *prefix; /* of emitted symbols; NULL: the model's name */
} FrontOptions;

typedef VEC(const char *) FrontFiles;

/* Reads a whole file ("-": stdin) and checks that it is text. NULL after an error, which has been
 * reported; *exit_code is then 1 (not text), 3 (cannot be read) or 4 (too large). */
const Source *front_read(Arena *a, Diag *d, const char *path, int *exit_code);

/* NULL, or a module that may be used when diag_errors(d) is 0. `files`, when given, gets every file that
 * was read besides the standard library, the main one first. *exit_code is set when an import cannot be
 * read or a limit is reached. */
Module *front_compile(Arena *a, Diag *d, const Source *main, const FrontOptions *options,
                      FrontFiles *files, int *exit_code);

/* The syntax tree as text, one line a statement; false after errors. */
bool front_dump_ast(Arena *a, Diag *d, const Source *main, FILE *to);

/* A call that the manual shows and `make check-ops` runs. */
typedef struct StdExample {
    const char *expr; /* "dense(x: f32[4,3], n = 5)" */
    const char *type; /* of the results, separated by ", ": "f32[4,5]" */
} StdExample;

/* One block of the standard library, for --list and --help-op. */
typedef struct StdBlock {
    const char *name;
    const char *signature; /* "dense(x, n: int, bias: bool = true, init: init = default)" */
    const char *doc; /* the comment in front of the block, without the lines of the next fields */
    const char *list;  /* "layers", "losses", "metrics" or "functions" */
    const char *torch; /* PyTorch's name, or NULL */
    const StdExample *examples;
    size_t n_examples;
    const char *const *ranges; /* "delta in (0, inf)", "upper in [lower, inf)": what arguments must be */
    size_t n_ranges;
    const char *text;  /* the block itself, as it stands in the library */
} StdBlock;

/* Something the language has under a name that is neither an operator nor a block. */
typedef struct Topic {
    const char *name, *list; /* as in StdBlock */
    const char *signature, *summary, *doc, *torch;
    const char *example;     /* a `minimize` statement of a step with x, t and the layer `net`, or NULL */
} Topic;

extern const Topic front_topics[]; /* ended by a row of NULLs */

/* In the order of the library's files; *n is their number. */
const StdBlock *front_std_blocks(Arena *a, Diag *d, size_t *n);

#endif
