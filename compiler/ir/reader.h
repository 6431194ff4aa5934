/* SPDX-License-Identifier: MIT
 *
 * The pieces that the reader of a module (parse.c) is put together from. Every function skips blanks and comments in
 * front of what it reads. After the first error the text is at its end, `failed` is set, and what functions return is
 * valid but means nothing.
 */
#ifndef NNC_IR_READER_H
#define NNC_IR_READER_H

#include "ir/op.h"

typedef struct PlaceRef {
    Span *span; /* where the finished span goes */
    const char *file;
    int line, col;
} PlaceRef;

typedef struct Reader {
    Arena *a;
    Diag *diag;
    const Source *source;
    const char *at, *end;
    Module *m;
    Routine *r;
    StrMap *refs; /* "%h~2" -> Node */
    StrMap *dims, *hypers, *tensors;
    VEC(Inst *) insts;
    VEC(PlaceRef) places;
    int depth; /* of bodies */
    bool failed;
} Reader;

Span reader_span(const Reader *p, const char *from); /* from there to where the text is now */
void reader_fail(Reader *p, const char *from, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- tokens ---- */

void reader_skip(Reader *p);
/* Punctuation or a word; a word only matches as a whole. reader_expect reports where it is missing. */
bool reader_accept(Reader *p, const char *token);
bool reader_expect(Reader *p, const char *token);
bool reader_peek(Reader *p, char c);
const char *reader_string(Reader *p); /* unquoted */
const char *reader_name(Reader *p);
const char *reader_word(Reader *p);
int64_t reader_int(Reader *p);
int64_t reader_int_in(Reader *p, int64_t lo, int64_t hi);
double reader_real(Reader *p);

/* ---- places ---- */

/* *span is filled in by reader_make_spans, at the end. */
void reader_place(Reader *p, Span *span);
void reader_make_spans(Reader *p);

/* ---- types and attributes ---- */

DType reader_dtype(Reader *p);
TensorType reader_type(Reader *p);
/* `{name = value, ..}`, if there is one, into the operator's attributes, which hold its defaults. */
void reader_attrs(Reader *p, const OpDesc *op, void *attrs);
const OpDesc *reader_op(Reader *p);

#endif
