/* SPDX-License-Identifier: MIT
 *
 * What .nnir text is made of: tokens, numbers, places, types and attributes. In: text. Out: what stands at its next
 * characters, or one located error, after which nothing more is read.
 *
 * Places (`@lenet.nn:5:7`) refer to a file that need not exist any more. They become spans into
 * stand-in sources of blanks in which the same line and column exist.
 */
#include "ir/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_STAND_IN = 1 << 22, /* bytes of one stand-in source */
    MAX_FILES = 256
};

Span reader_span(const Reader *p, const char *from)
{
    const uint32_t start = (uint32_t)(from - p->source->text);
    const uint32_t end = (uint32_t)(p->at - p->source->text);
    return (Span){ p->source, start, end > start ? end : start + 1 };
}

void reader_fail(Reader *p, const char *from, const char *fmt, ...)
{
    if (!p->failed) {
        va_list ap;
        va_start(ap, fmt);
        diag_verror(p->diag, reader_span(p, from), "nnir-syntax", fmt, ap);
        va_end(ap);
    }
    p->failed = true;
    p->at = p->end; /* every loop ends */
}

/* ---- tokens ---- */

void reader_skip(Reader *p)
{
    while (p->at < p->end) {
        const char c = *p->at;
        if (c == '#') {
            while (p->at < p->end && *p->at != '\n') p->at++;
        } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
            p->at++;
        } else {
            break;
        }
    }
}

static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool reader_accept(Reader *p, const char *token)
{
    reader_skip(p);
    const size_t n = strlen(token);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, token, n) != 0) return false;
    if (is_word_char(token[n - 1]) && p->at + n < p->end && is_word_char(p->at[n])) return false;
    p->at += n;
    return true;
}

bool reader_expect(Reader *p, const char *token)
{
    if (p->failed) return false;
    reader_skip(p);
    const char *from = p->at;
    if (reader_accept(p, token)) return true;
    if (p->at >= p->end)
        reader_fail(p, from, "expected '%s', found the end of the file", token);
    else
        reader_fail(p, from, "expected '%s'", token);
    return false;
}

bool reader_peek(Reader *p, char c)
{
    reader_skip(p);
    return p->at < p->end && *p->at == c;
}

const char *reader_string(Reader *p)
{
    const char *from = p->at;
    StrBuf sb;
    sb_init(&sb, p->a);
    if (!reader_expect(p, "\"")) return "";
    while (p->at < p->end && *p->at != '"' && *p->at != '\n') {
        char c = *p->at++;
        if (c == '\\' && p->at < p->end) {
            c = *p->at++;
            if (c == 'x') {
                int v = 0;
                for (int i = 0; i < 2 && p->at < p->end; i++, p->at++) {
                    const char *digits = "0123456789abcdef",
                               *d = *p->at ? strchr(digits, *p->at) : NULL;
                    if (!d) {
                        reader_fail(p, from, "expected two hexadecimal digits after \\x");
                        return "";
                    }
                    v = 16 * v + (int)(d - digits);
                }
                c = (char)v;
            } else if (c != '"' && c != '\\') {
                reader_fail(p, from, "unknown escape in a string");
                return "";
            }
        }
        if (c == '\0') {
            reader_fail(p, from, "a string holds a NUL byte");
            return "";
        }
        sb_putc(&sb, c);
    }
    if (p->at >= p->end || *p->at != '"') {
        reader_fail(p, from, "the string does not end on its line");
        return "";
    }
    p->at++;
    return sb.text;
}

const char *reader_name(Reader *p)
{
    if (reader_peek(p, '"')) return reader_string(p);
    const char *from = p->at;
    while (p->at < p->end &&
           (is_word_char(*p->at) || *p->at == '.' || *p->at == '[' || *p->at == ']'))
        p->at++;
    if (p->at == from) {
        reader_fail(p, from, "expected a name");
        return "";
    }
    return arena_strndup(p->a, from, (size_t)(p->at - from));
}

/* A name without dots and brackets. */
const char *reader_word(Reader *p)
{
    reader_skip(p);
    const char *from = p->at;
    while (p->at < p->end && is_word_char(*p->at)) p->at++;
    if (p->at == from) {
        reader_fail(p, from, "expected a word");
        return "";
    }
    return arena_strndup(p->a, from, (size_t)(p->at - from));
}

int64_t reader_int(Reader *p)
{
    reader_skip(p);
    const char *from = p->at;
    bool negative = false;
    if (p->at < p->end && *p->at == '-') {
        negative = true;
        p->at++;
    }
    int64_t v = 0;
    const char *digits = p->at;
    for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++) {
        const int d = *p->at - '0';
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, d, &v)) {
            reader_fail(p, from, "the number does not fit into 64 bits");
            return 0;
        }
    }
    if (p->at == digits) {
        reader_fail(p, from, "expected a whole number");
        return 0;
    }
    /* Collected as a negative number, so that the smallest one can be read. */
    if (!negative && v == INT64_MIN) {
        reader_fail(p, from, "the number does not fit into 64 bits");
        return 0;
    }
    return negative ? v : -v;
}

int64_t reader_int_in(Reader *p, int64_t lo, int64_t hi)
{
    reader_skip(p);
    const char *from = p->at;
    const int64_t v = reader_int(p);
    if (p->failed || (v >= lo && v <= hi)) return p->failed ? lo : v;
    reader_fail(p, from, "%" PRId64 " is not in [%" PRId64 ", %" PRId64 "]", v, lo, hi);
    return lo;
}

double reader_real(Reader *p)
{
    reader_skip(p);
    const char *from = p->at;
    while (p->at < p->end &&
           (is_word_char(*p->at) || *p->at == '.' || *p->at == '+' || *p->at == '-'))
        p->at++;
    if (p->at - from > 64 || p->at == from) {
        reader_fail(p, from, "expected a number");
        return 0;
    }
    const char *text = arena_strndup(p->a, from, (size_t)(p->at - from));
    char *rest;
    const double v = strtod(text, &rest);
    if (*rest) reader_fail(p, from, "'%s' is not a number", text);
    return v;
}

/* ---- places ---- */

void reader_place(Reader *p, Span *span)
{
    if (!reader_accept(p, "@")) return;
    const char *from = p->at, *file;
    if (p->at < p->end && *p->at == '"') {
        file = reader_string(p);
    } else {
        while (p->at < p->end && *p->at != ':' && *p->at != '\n' && *p->at != ' ') p->at++;
        file = arena_strndup(p->a, from, (size_t)(p->at - from));
    }
    reader_expect(p, ":");
    const int line = (int)reader_int_in(p, 1, 1 << 22);
    reader_expect(p, ":");
    const int col = (int)reader_int_in(p, 1, 1 << 20);
    if (!p->failed) vec_push(p->a, &p->places, (PlaceRef){ span, file, line, col });
}

/* One stand-in source per file name: as many lines as are mentioned, each as long as its largest
 * column. */
void reader_make_spans(Reader *p)
{
    StrMap *seen = map_new(p->a);
    int n_files = 0;
    for (size_t i = 0; i < p->places.len && !p->failed; i++) {
        const char *file = p->places.data[i].file;
        if (map_get(seen, file)) continue;
        if (++n_files > MAX_FILES) {
            reader_fail(p, p->source->text, "places in more than %d files", MAX_FILES);
            return;
        }
        int n_lines = 0;
        for (size_t k = i; k < p->places.len; k++)
            if (strcmp(p->places.data[k].file, file) == 0 && p->places.data[k].line > n_lines)
                n_lines = p->places.data[k].line;
        int *width = ARENA_ARRAY(p->a, int, n_lines + 1);
        for (size_t k = i; k < p->places.len; k++) {
            const PlaceRef *q = &p->places.data[k];
            if (strcmp(q->file, file) == 0 && q->col > width[q->line]) width[q->line] = q->col;
        }
        int64_t total = n_lines;
        for (int l = 1; l <= n_lines; l++) total += width[l];
        if (total > MAX_STAND_IN) {
            reader_fail(p, p->source->text, "the places in %s are too far apart", file);
            return;
        }
        char *text = arena_alloc(p->a, (size_t)total + 1), *t = text;
        for (int l = 1; l <= n_lines; l++) {
            memset(t, ' ', (size_t)width[l]);
            t += width[l];
            *t++ = '\n';
        }
        Source *s = source_new(p->a, file, text, (size_t)total);
        s->is_std = strncmp(file, "<std>", 5) == 0;
        map_set(seen, file, s);
    }
    for (size_t i = 0; i < p->places.len && !p->failed; i++) {
        const PlaceRef *q = &p->places.data[i];
        const Source *s = map_get(seen, q->file);
        const uint32_t start = s->line_start[q->line - 1] + (uint32_t)q->col - 1;
        *q->span = (Span){ s, start, start + 1 };
    }
}

/* ---- types and attributes ---- */

DType reader_dtype(Reader *p)
{
    reader_skip(p);
    const char *from = p->at, *word = reader_word(p);
    for (DType t = DT_F32; t <= DT_BOOL; t++)
        if (strcmp(dtype_name(t), word) == 0) return t;
    reader_fail(p, from, "unknown element type '%s'", word);
    return DT_F32;
}

/* open: one size may be -1, to be found from the number of elements. */
static TensorType read_shape(Reader *p, bool open)
{
    reader_skip(p);
    const char *from = p->at;
    TensorType t = { .dtype = reader_dtype(p) };
    reader_expect(p, "[");
    while (!p->failed && !reader_peek(p, ']')) {
        if (t.rank) reader_expect(p, ",");
        reader_skip(p);
        const char *size = p->at;
        if (t.rank == MAX_RANK) {
            reader_fail(p, size, "more than %d axes", MAX_RANK);
            break;
        }
        if (open && reader_accept(p, "-1")) {
            t.dim[t.rank++] = -1;
            continue;
        }
        int64_t n = 1;
        const bool number = p->at < p->end && *p->at >= '0' && *p->at <= '9';
        if (number) n = reader_int_in(p, 1, INT64_C(1) << 48);
        if (!number || reader_accept(p, "*")) {
            const char *name = reader_word(p);
            t.batch = map_get(p->dims, name);
            if (!p->failed && (!t.batch || t.rank)) {
                reader_fail(p, size,
                     t.batch ? "'%s' may only stand on the first axis" : "unknown dim '%s'", name);
                break;
            }
        }
        t.dim[t.rank++] = n;
    }
    reader_expect(p, "]");
    if (reader_accept(p, ":")) {
        const char *word = reader_word(p);
        Layout l = LAYOUT_CANONICAL;
        while (l < N_LAYOUTS && strcmp(layout_name(l), word) != 0) l++;
        if (l == N_LAYOUTS) {
            reader_fail(p, from, "unknown layout '%s'", word);
            l = LAYOUT_CANONICAL;
        }
        if (!layout_suits(l, t.rank))
            reader_fail(p, from, "layout %s does not suit rank %d", word, t.rank);
        t.layout = l;
    }
    TensorType known = t;
    for (int i = 0; i < t.rank; i++)
        if (t.dim[i] < 0) known.dim[i] = 1;
    if (!p->failed && type_numel_max(&known) < 0) reader_fail(p, from, "more than 2^48 elements");
    return t;
}

TensorType reader_type(Reader *p)
{
    return read_shape(p, false);
}

static void read_value(Reader *p, const AttrDef *d, void *field)
{
    reader_skip(p);
    const char *from = p->at;
    switch (d->kind) {
    case ATTR_INT: *(int64_t *)field = reader_int(p); break;
    case ATTR_INT2: {
        int64_t *v = field;
        if (reader_accept(p, "[")) {
            v[0] = reader_int(p);
            reader_expect(p, ",");
            v[1] = reader_int(p);
            reader_expect(p, "]");
        } else {
            v[0] = v[1] = reader_int(p);
        }
        break;
    }
    case ATTR_FLOAT: *(double *)field = reader_real(p); break;
    case ATTR_BOOL:
        *(bool *)field = reader_accept(p, "true");
        if (!*(bool *)field) reader_expect(p, "false");
        break;
    case ATTR_CHOICE: {
        const char *word = reader_word(p);
        int k = 0;
        while (d->choices[k] && strcmp(d->choices[k], word) != 0) k++;
        if (!d->choices[k])
            reader_fail(p, from, "%s cannot be '%s'", d->name, word);
        else
            *(int *)field = k;
        break;
    }
    case ATTR_INTS: {
        IntList *l = field;
        *l = (IntList){ 0 };
        reader_expect(p, "[");
        while (!p->failed && !reader_peek(p, ']')) {
            if (l->n) reader_expect(p, ",");
            if (l->n == ATTR_LIST_MAX) {
                reader_fail(p, from, "more than %d numbers", ATTR_LIST_MAX);
                break;
            }
            l->v[l->n++] = reader_int(p);
        }
        reader_expect(p, "]");
        break;
    }
    case ATTR_SHAPE: *(TensorType *)field = read_shape(p, true); break;
    case ATTR_TYPE: *(TensorType *)field = reader_type(p); break;
    case ATTR_PTR: reader_fail(p, from, "%s has no text form", d->name); break;
    }
    /* The ranges hold for single numbers; lists are checked by their operator's shape rule. */
    const double v = d->kind == ATTR_INT     ? (double)*(int64_t *)field
                     : d->kind == ATTR_FLOAT ? *(double *)field
                                             : d->min;
    if (!p->failed && d->min < d->max && !(v >= d->min && v <= d->max))
        reader_fail(p, from, "%s = %g is not in [%g, %g]", d->name, v, d->min, d->max);
}

void reader_attrs(Reader *p, const OpDesc *op, void *attrs)
{
    bool first = true;
    if (!reader_accept(p, "{")) return;
    while (!p->failed && !reader_peek(p, '}')) {
        if (!first) reader_expect(p, ",");
        first = false;
        reader_skip(p);
        const char *from = p->at, *name = reader_word(p);
        const AttrDef *d = op->attrs;
        while (d && d->name && strcmp(d->name, name) != 0) d++;
        if (!d || !d->name) {
            reader_fail(p, from, "%s has no attribute '%s'", op->name, name);
            return;
        }
        reader_expect(p, "=");
        if (!p->failed) read_value(p, d, (char *)attrs + d->offset);
    }
    reader_expect(p, "}");
}

const OpDesc *reader_op(Reader *p)
{
    reader_skip(p);
    const char *from = p->at, *name = reader_word(p);
    const OpDesc *op = p->failed ? NULL : op_find(name);
    if (!p->failed && !op) reader_fail(p, from, "unknown operator '%s'", name);
    return op;
}
