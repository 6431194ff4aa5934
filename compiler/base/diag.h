/* SPDX-License-Identifier: MIT
 *
 * Sources, spans and diagnostics. In: text of `.nn` (or `.nnir`) files and byte ranges into it. Out:
 * errors, warnings and notes as `file:line:col: error: text`, the source line, an underlined span, notes
 * and at most one hint; or one JSON object a line. Invariant: nothing is printed before diag_flush, and
 * the order of printing is the order of reporting.
 */
#ifndef NNC_BASE_DIAG_H
#define NNC_BASE_DIAG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"

typedef struct Source {
    const char *name; /* as given on the command line or in an import; "<stdin>" for "-" */
    const char *text; /* NUL-terminated after `len` bytes; may hold NUL bytes itself */
    size_t len;
    const uint32_t *line_start; /* byte offset of each line's first byte; filled by source_new */
    size_t n_lines;
    bool is_std; /* the embedded standard library: shown to users as <std>/NAME.nn */
} Source;

/* `text` must outlive the arena's users; CR LF and lone CR count as one line end each. */
Source *source_new(Arena *a, const char *name, const char *text, size_t len);

/* A half-open byte range. source == NULL: no place in any text (built-in or generated). */
typedef struct Span {
    const Source *source;
    uint32_t start, end;
} Span;

typedef struct Place {
    int line, col; /* from 1; col counts bytes */
} Place;

Place span_place(Span s);
Span span_join(Span a, Span b); /* smallest span that covers both; the one with a source if only one has */

/* The chain of block instantiations a piece of graph came from, innermost first. */
typedef struct Inst {
    const struct Inst *parent; /* NULL at the routine's top level */
    const char *block;         /* "residual" */
    const char *args;          /* "c = 32, s = 2": the compile-time arguments */
    const char *path;          /* "net.stage[1][0]": full path of the instance */
    const char *label;         /* "stage[1][0]": last component */
    Span call;                 /* the call that created the instance */
} Inst;

typedef enum Severity { SEV_ERROR, SEV_WARNING, SEV_NOTE } Severity;
typedef enum ColorMode { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER } ColorMode;

typedef struct Diag Diag;                 /* the collector, one per run */
typedef struct Diagnostic Diagnostic;     /* one message being built */

typedef struct DiagOptions {
    ColorMode color;  /* AUTO: a terminal without NO_COLOR */
    bool json;        /* --diagnostics=json */
    bool werror;      /* every warning counts as an error */
    int max_errors;   /* 20 by default; 0: no limit */
    const char *disabled; /* space-separated ids of warnings that are off: "rounding unused" */
    const char *as_error; /* ids of -Werror=ID */
} DiagOptions;

Diag *diag_new(Arena *a, DiagOptions options);

/* Starts a message. `id` is kebab-case ("shape-broadcast"); warnings show it as [-Wid]. The text starts
 * in lower case, has no final stop, and shows the numbers involved. */
Diagnostic *diag_error(Diag *d, Span span, const char *id, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
Diagnostic *diag_warning(Diag *d, Span span, const char *id, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
Diagnostic *diag_verror(Diag *d, Span span, const char *id, const char *fmt, va_list ap);

/* Additions to a message; `m` may be NULL (then nothing happens). A secondary span is underlined with ~
 * when it is on the same line as the primary one, otherwise it becomes a note of its own. */
void diag_also(Diagnostic *m, Span span);
void diag_note(Diagnostic *m, Span span, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void diag_hint(Diagnostic *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void diag_inst(Diagnostic *m, const Inst *inst); /* "note: in residual(c = 32) @stage[1][0], called at ..." */

int diag_errors(const Diag *d);   /* errors so far, -Werror included */
int diag_warnings(const Diag *d);
bool diag_full(const Diag *d);    /* max_errors reached: stop looking for more */
void diag_flush(Diag *d, FILE *to); /* prints what is pending; ends with "N errors" when the limit cut */

#endif
