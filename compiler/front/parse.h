/* SPDX-License-Identifier: MIT
 *
 * What scanner and parser share, and the function that runs them. In: a Source. Out: a File, with every
 * error reported. Invariant: the source's text is not changed; the scanner works on a copy of its own.
 */
#ifndef NNC_FRONT_PARSE_H
#define NNC_FRONT_PARSE_H

#include "front/ast.h"

typedef struct Parse {
    Arena *arena;
    Diag *diag;
    const Source *source;
    File *file;
    uint32_t offset;   /* where the next token starts */
    Span last, before; /* the newest token and the one before it */
    int nesting;       /* open brackets */
    bool stop;         /* gave up: what follows is not reported */
    int errors;
    int bad_line; /* where the newest malformed token stands; 0: none */
    bool has_header;
} Parse;

/* NULL when there were errors. */
File *parse_file(Arena *a, Diag *d, const Source *source);

/* Called by the scanner: the token of a reserved word, or 0. */
int keyword_token(const char *text, size_t len);

Diagnostic *parse_error(Parse *p, Span span, const char *id, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
