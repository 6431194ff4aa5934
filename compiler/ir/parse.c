/* SPDX-License-Identifier: MIT
 *
 * .nnir text -> Module. In: text in the grammar that heads print.c. Out: a verified module, or one
 * located error and NULL: the text is written by the compiler, so the first fault is the only one
 * worth showing. A recursive-descent reader without a separate scanner; only bodies of loops nest,
 * to a fixed depth.
 *
 * Places (`@lenet.nn:5:7`) refer to a file that need not exist any more. They become spans into
 * stand-in sources of blanks in which the same line and column exist.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/scan.h"
#include "ir/text.h"

enum {
    MAX_STAND_IN = 1 << 22, /* bytes of one stand-in source */
    MAX_FILES = 256,
    MAX_BODY_DEPTH = 16
};

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

static Span span_here(const Reader *p, const char *from)
{
    const uint32_t start = (uint32_t)(from - p->source->text);
    const uint32_t end = (uint32_t)(p->at - p->source->text);
    return (Span){ p->source, start, end > start ? end : start + 1 };
}

static void fail(Reader *p, const char *from, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void fail(Reader *p, const char *from, const char *fmt, ...)
{
    if (!p->failed) {
        va_list ap;
        va_start(ap, fmt);
        diag_verror(p->diag, span_here(p, from), "nnir-syntax", fmt, ap);
        va_end(ap);
    }
    p->failed = true;
    p->at = p->end; /* every loop ends */
}

/* ---- tokens ---- */

static void skip(Reader *p)
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

/* Punctuation or a word; a word only matches as a whole. */
static bool accept(Reader *p, const char *token)
{
    skip(p);
    const size_t n = strlen(token);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, token, n) != 0) return false;
    if (is_word_char(token[n - 1]) && p->at + n < p->end && is_word_char(p->at[n])) return false;
    p->at += n;
    return true;
}

static bool expect(Reader *p, const char *token)
{
    if (p->failed) return false;
    skip(p);
    const char *from = p->at;
    if (accept(p, token)) return true;
    if (p->at >= p->end)
        fail(p, from, "expected '%s', found the end of the file", token);
    else
        fail(p, from, "expected '%s'", token);
    return false;
}

static bool peek(Reader *p, char c)
{
    skip(p);
    return p->at < p->end && *p->at == c;
}

static const char *read_string(Reader *p)
{
    const char *from = p->at;
    StrBuf sb;
    sb_init(&sb, p->a);
    if (!expect(p, "\"")) return "";
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
                        fail(p, from, "expected two hexadecimal digits after \\x");
                        return "";
                    }
                    v = 16 * v + (int)(d - digits);
                }
                c = (char)v;
            } else if (c != '"' && c != '\\') {
                fail(p, from, "unknown escape in a string");
                return "";
            }
        }
        if (c == '\0') {
            fail(p, from, "a string holds a NUL byte");
            return "";
        }
        sb_putc(&sb, c);
    }
    if (p->at >= p->end || *p->at != '"') {
        fail(p, from, "the string does not end on its line");
        return "";
    }
    p->at++;
    return sb.text;
}

static const char *read_name(Reader *p)
{
    if (peek(p, '"')) return read_string(p);
    const char *from = p->at;
    while (p->at < p->end &&
           (is_word_char(*p->at) || *p->at == '.' || *p->at == '[' || *p->at == ']'))
        p->at++;
    if (p->at == from) {
        fail(p, from, "expected a name");
        return "";
    }
    return arena_strndup(p->a, from, (size_t)(p->at - from));
}

/* A name without dots and brackets. */
static const char *read_word(Reader *p)
{
    skip(p);
    const char *from = p->at;
    while (p->at < p->end && is_word_char(*p->at)) p->at++;
    if (p->at == from) {
        fail(p, from, "expected a word");
        return "";
    }
    return arena_strndup(p->a, from, (size_t)(p->at - from));
}

static int64_t read_int(Reader *p)
{
    skip(p);
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
            fail(p, from, "the number does not fit into 64 bits");
            return 0;
        }
    }
    if (p->at == digits) {
        fail(p, from, "expected a whole number");
        return 0;
    }
    /* Collected as a negative number, so that the smallest one can be read. */
    if (!negative && v == INT64_MIN) {
        fail(p, from, "the number does not fit into 64 bits");
        return 0;
    }
    return negative ? v : -v;
}

static int64_t read_int_in(Reader *p, int64_t lo, int64_t hi)
{
    skip(p);
    const char *from = p->at;
    const int64_t v = read_int(p);
    if (p->failed || (v >= lo && v <= hi)) return p->failed ? lo : v;
    fail(p, from, "%" PRId64 " is not in [%" PRId64 ", %" PRId64 "]", v, lo, hi);
    return lo;
}

static double read_real(Reader *p)
{
    skip(p);
    const char *from = p->at;
    while (p->at < p->end &&
           (is_word_char(*p->at) || *p->at == '.' || *p->at == '+' || *p->at == '-'))
        p->at++;
    if (p->at - from > 64 || p->at == from) {
        fail(p, from, "expected a number");
        return 0;
    }
    const char *text = arena_strndup(p->a, from, (size_t)(p->at - from));
    char *rest;
    const double v = strtod(text, &rest);
    if (*rest) fail(p, from, "'%s' is not a number", text);
    return v;
}

/* ---- places ---- */

static void read_place(Reader *p, Span *span)
{
    if (!accept(p, "@")) return;
    const char *from = p->at, *file;
    if (p->at < p->end && *p->at == '"') {
        file = read_string(p);
    } else {
        while (p->at < p->end && *p->at != ':' && *p->at != '\n' && *p->at != ' ') p->at++;
        file = arena_strndup(p->a, from, (size_t)(p->at - from));
    }
    expect(p, ":");
    const int line = (int)read_int_in(p, 1, 1 << 22);
    expect(p, ":");
    const int col = (int)read_int_in(p, 1, 1 << 20);
    if (!p->failed) vec_push(p->a, &p->places, (PlaceRef){ span, file, line, col });
}

/* One stand-in source per file name: as many lines as are mentioned, each as long as its largest
 * column. */
static void make_spans(Reader *p)
{
    StrMap *seen = map_new(p->a);
    int n_files = 0;
    for (size_t i = 0; i < p->places.len && !p->failed; i++) {
        const char *file = p->places.data[i].file;
        if (map_get(seen, file)) continue;
        if (++n_files > MAX_FILES) {
            fail(p, p->source->text, "places in more than %d files", MAX_FILES);
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
            fail(p, p->source->text, "the places in %s are too far apart", file);
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

static DType read_dtype(Reader *p)
{
    skip(p);
    const char *from = p->at, *word = read_word(p);
    for (DType t = DT_F32; t <= DT_BOOL; t++)
        if (strcmp(dtype_name(t), word) == 0) return t;
    fail(p, from, "unknown element type '%s'", word);
    return DT_F32;
}

/* open: one size may be -1, to be found from the number of elements. */
static TensorType read_shape(Reader *p, bool open)
{
    skip(p);
    const char *from = p->at;
    TensorType t = { .dtype = read_dtype(p) };
    expect(p, "[");
    while (!p->failed && !peek(p, ']')) {
        if (t.rank) expect(p, ",");
        skip(p);
        const char *size = p->at;
        if (t.rank == MAX_RANK) {
            fail(p, size, "more than %d axes", MAX_RANK);
            break;
        }
        if (open && accept(p, "-1")) {
            t.dim[t.rank++] = -1;
            continue;
        }
        int64_t n = 1;
        const bool number = p->at < p->end && *p->at >= '0' && *p->at <= '9';
        if (number) n = read_int_in(p, 1, INT64_C(1) << 48);
        if (!number || accept(p, "*")) {
            const char *name = read_word(p);
            t.batch = map_get(p->dims, name);
            if (!p->failed && (!t.batch || t.rank)) {
                fail(p, size,
                     t.batch ? "'%s' may only stand on the first axis" : "unknown dim '%s'", name);
                break;
            }
        }
        t.dim[t.rank++] = n;
    }
    expect(p, "]");
    if (accept(p, ":")) {
        const char *word = read_word(p);
        Layout l = LAYOUT_CANONICAL;
        while (l < N_LAYOUTS && strcmp(layout_name(l), word) != 0) l++;
        if (l == N_LAYOUTS) {
            fail(p, from, "unknown layout '%s'", word);
            l = LAYOUT_CANONICAL;
        }
        if (!layout_suits(l, t.rank))
            fail(p, from, "layout %s does not suit rank %d", word, t.rank);
        t.layout = l;
    }
    TensorType known = t;
    for (int i = 0; i < t.rank; i++)
        if (t.dim[i] < 0) known.dim[i] = 1;
    if (!p->failed && type_numel_max(&known) < 0) fail(p, from, "more than 2^48 elements");
    return t;
}

static TensorType read_type(Reader *p)
{
    return read_shape(p, false);
}

static void read_value(Reader *p, const AttrDef *d, void *field)
{
    skip(p);
    const char *from = p->at;
    switch (d->kind) {
    case ATTR_INT: *(int64_t *)field = read_int(p); break;
    case ATTR_INT2: {
        int64_t *v = field;
        if (accept(p, "[")) {
            v[0] = read_int(p);
            expect(p, ",");
            v[1] = read_int(p);
            expect(p, "]");
        } else {
            v[0] = v[1] = read_int(p);
        }
        break;
    }
    case ATTR_FLOAT: *(double *)field = read_real(p); break;
    case ATTR_BOOL:
        *(bool *)field = accept(p, "true");
        if (!*(bool *)field) expect(p, "false");
        break;
    case ATTR_CHOICE: {
        const char *word = read_word(p);
        int k = 0;
        while (d->choices[k] && strcmp(d->choices[k], word) != 0) k++;
        if (!d->choices[k])
            fail(p, from, "%s cannot be '%s'", d->name, word);
        else
            *(int *)field = k;
        break;
    }
    case ATTR_INTS: {
        IntList *l = field;
        *l = (IntList){ 0 };
        expect(p, "[");
        while (!p->failed && !peek(p, ']')) {
            if (l->n) expect(p, ",");
            if (l->n == ATTR_LIST_MAX) {
                fail(p, from, "more than %d numbers", ATTR_LIST_MAX);
                break;
            }
            l->v[l->n++] = read_int(p);
        }
        expect(p, "]");
        break;
    }
    case ATTR_SHAPE: *(TensorType *)field = read_shape(p, true); break;
    case ATTR_TYPE: *(TensorType *)field = read_type(p); break;
    case ATTR_PTR: fail(p, from, "%s has no text form", d->name); break;
    }
    /* The ranges hold for single numbers; lists are checked by their operator's shape rule. */
    const double v = d->kind == ATTR_INT     ? (double)*(int64_t *)field
                     : d->kind == ATTR_FLOAT ? *(double *)field
                                             : d->min;
    if (!p->failed && d->min < d->max && !(v >= d->min && v <= d->max))
        fail(p, from, "%s = %g is not in [%g, %g]", d->name, v, d->min, d->max);
}

static void read_attrs(Reader *p, const OpDesc *op, void *attrs)
{
    bool first = true;
    if (!accept(p, "{")) return;
    while (!p->failed && !peek(p, '}')) {
        if (!first) expect(p, ",");
        first = false;
        skip(p);
        const char *from = p->at, *name = read_word(p);
        const AttrDef *d = op->attrs;
        while (d && d->name && strcmp(d->name, name) != 0) d++;
        if (!d || !d->name) {
            fail(p, from, "%s has no attribute '%s'", op->name, name);
            return;
        }
        expect(p, "=");
        if (!p->failed) read_value(p, d, (char *)attrs + d->offset);
    }
    expect(p, "}");
}

static const OpDesc *read_op(Reader *p)
{
    skip(p);
    const char *from = p->at, *name = read_word(p);
    const OpDesc *op = p->failed ? NULL : op_find(name);
    if (!p->failed && !op) fail(p, from, "unknown operator '%s'", name);
    return op;
}

/* ---- nodes ---- */

/* The key of a reference is its text with the name unquoted. `name` gets the part before '~'. */
static const char *read_ref(Reader *p, const char **name)
{
    expect(p, "%");
    const char *text = read_name(p);
    if (name) *name = text;
    if (!accept(p, "~")) return text;
    return arena_printf(p->a, "%s~%" PRId64, text, read_int_in(p, 2, INT32_MAX));
}

static Node *read_operand(Reader *p)
{
    skip(p);
    const char *from = p->at;
    if (accept(p, "-")) return NULL;
    const char *key = read_ref(p, NULL);
    Node *n = p->failed ? NULL : map_get(p->refs, key);
    if (!p->failed && !n)
        fail(p, from, "unknown value %%%s: a value is defined before it is used", key);
    return n;
}

static const FusedAttrs *read_fused(Reader *p, int n_in)
{
    VEC(FusedStep) steps = { 0 };
    FusedAttrs *f = ARENA_NEW(p->a, FusedAttrs);
    VEC(PlaceRef) step_places = { 0 };
    expect(p, "[");
    while (!p->failed && !accept(p, "->")) {
        FusedStep s = { 0 };
        if (read_int(p) != (int64_t)steps.len) fail(p, p->at, "steps are numbered from 0");
        expect(p, "=");
        s.op = read_op(p);
        if (s.op && !op_has(&(Node){ .op = s.op }, OPF_ELEMENTWISE))
            fail(p, p->at, "%s is not elementwise", s.op->name);
        expect(p, "(");
        while (!p->failed && !accept(p, ")")) {
            if (s.n_in) expect(p, ",");
            if (s.n_in == OP_MAX_IN) {
                fail(p, p->at, "more than %d operands", OP_MAX_IN);
                break;
            }
            const bool step = accept(p, "~");
            if (!step) expect(p, "$");
            const int i = (int)read_int_in(p, 0, (step ? (int64_t)steps.len : n_in) - 1);
            s.arg[s.n_in++] = step ? ~i : i;
        }
        if (p->failed) break;
        void *attrs = NULL;
        if (s.op->attr_size) {
            attrs = arena_alloc(p->a, s.op->attr_size);
            attrs_default(s.op, attrs);
        }
        read_attrs(p, s.op, attrs);
        s.attrs = attrs;
        expect(p, ":");
        s.dtype = read_dtype(p);
        s.name = read_name(p);
        /* The place is remembered by number: the array of steps still moves. */
        const size_t before = p->places.len;
        Span unused;
        read_place(p, &unused);
        if (p->places.len > before) {
            PlaceRef q = p->places.data[--p->places.len];
            q.span = NULL;
            vec_push(p->a, &step_places, q);
        } else {
            vec_push(p->a, &step_places, (PlaceRef){ 0 });
        }
        expect(p, ";");
        vec_push(p->a, &steps, s);
    }
    do {
        if (f->n_results == FUSED_MAX_RESULTS) {
            fail(p, p->at, "more than %d results", FUSED_MAX_RESULTS);
            break;
        }
        f->result[f->n_results++] = (int)read_int_in(p, 0, (int64_t)steps.len - 1);
    } while (!p->failed && accept(p, ","));
    expect(p, "]");
    f->n_steps = (int)steps.len;
    f->steps = steps.data;
    for (size_t i = 0; i < step_places.len && !p->failed; i++) {
        PlaceRef q = step_places.data[i];
        if (!q.file) continue;
        q.span = &steps.data[i].span;
        vec_push(p->a, &p->places, q);
    }
    return f;
}

static int64_t find_port(Reader *p, const Port *ports, size_t n, const char *from, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(ports[i].name, name) == 0) return (int64_t)i;
    fail(p, from, "unknown port '%s'", name);
    return 0;
}

/* What a source reads or a root writes; true when the operator has such a target. */
static bool read_target(Reader *p, const OpDesc *op, void *attrs)
{
    skip(p);
    const char *from = p->at;
    IndexAttrs *index = attrs;
    if (op == &op_const) {
        ((ConstAttrs *)attrs)->value = read_real(p);
    } else if (op == &op_result) {
        index->index = read_int_in(p, 1, OP_MAX_RESULTS - 1);
    } else if (op == &op_input) {
        index->index = find_port(p, p->r->inputs.data, p->r->inputs.len, from, read_name(p));
    } else if (op == &op_output || op == &op_report) {
        index->index = find_port(p, p->r->outputs.data, p->r->outputs.len, from, read_name(p));
    } else if (op == &op_param || op == &op_state || op == &op_grad_store || op == &op_update ||
               op == &op_assign) {
        const Tensor *t = map_get(p->tensors, read_name(p));
        if (t)
            index->index = t->index;
        else
            fail(p, from, "unknown tensor");
    } else if (op == &op_hyper) {
        const Hyper *h = map_get(p->hypers, read_name(p));
        if (h)
            index->index = h->index;
        else
            fail(p, from, "unknown hyper");
    } else {
        return false;
    }
    return true;
}

static const Inst *read_inst_ref(Reader *p)
{
    if (!accept(p, "inst")) return NULL;
    skip(p);
    const char *from = p->at;
    const int64_t i = read_int(p);
    if (i >= 0 && (size_t)i < p->insts.len) return p->insts.data[i];
    fail(p, from, "unknown inst %" PRId64, i);
    return NULL;
}

/* How many operands a node has: absent optional ones are written `-`, so that hooks find each at
 * its place. */
static void operand_range(const OpDesc *op, int *least, int *most)
{
    *least = *most = 0;
    for (int i = 0; i < OP_MAX_IN && op->in[i]; i++) {
        const char last = op->in[i][strlen(op->in[i]) - 1];
        ++*most;
        if (last == '*') *most = INT32_MAX;
        if (last != '*') *least = i + 1;
    }
}

static void read_node(Reader *p, Span *where);
static void read_ports(Reader *p, Port **ports, size_t *len);

static void read_dims(Reader *p, Routine *r)
{
    expect(p, "dims");
    expect(p, "(");
    while (!p->failed && !accept(p, ")")) {
        if (r->dims.len) expect(p, ",");
        skip(p);
        const char *from = p->at;
        const DimVar *d = map_get(p->dims, read_word(p));
        if (!d)
            fail(p, from, "unknown dim");
        else
            vec_push(p->a, &r->dims, d);
    }
}

/* The body of a loop: a routine whose references are its own. */
static Routine *read_body(Reader *p)
{
    Routine *outer = p->r, *r = ARENA_NEW(p->a, Routine);
    StrMap *refs = p->refs;
    skip(p);
    if (++p->depth > MAX_BODY_DEPTH) fail(p, p->at, "more than %d bodies in each other", MAX_BODY_DEPTH);
    *r = (Routine){ .name = "scan", .kind = ROUTINE_BODY };
    p->r = r;
    p->refs = map_new(p->a);
    expect(p, "body");
    read_ports(p, &r->inputs.data, &r->inputs.len);
    r->inputs.cap = r->inputs.len;
    expect(p, "->");
    read_ports(p, &r->outputs.data, &r->outputs.len);
    r->outputs.cap = r->outputs.len;
    read_dims(p, r);
    expect(p, "{");
    while (!p->failed && peek(p, '%')) {
        Span where;
        read_node(p, &where);
    }
    expect(p, "}");
    if (r->outputs.len == 0 || r->outputs.len > OP_MAX_RESULTS)
        fail(p, p->at, "a body has 1 to %d outputs", OP_MAX_RESULTS);
    p->r = outer;
    p->refs = refs;
    p->depth--;
    return r;
}

static void read_node(Reader *p, Span *where)
{
    skip(p);
    const char *from = p->at;
    const char *name, *key = read_ref(p, &name);
    if (!p->failed && map_get(p->refs, key)) fail(p, from, "%%%s is defined twice", key);
    expect(p, "=");
    const OpDesc *op = read_op(p);
    if (p->failed) return;
    Node *n = ARENA_NEW(p->a, Node);
    VEC(Node *) in = { 0 };
    if (accept(p, "(")) {
        while (!p->failed && !accept(p, ")")) {
            if (in.len) expect(p, ",");
            Node *x = read_operand(p);
            vec_push(p->a, &in, x);
        }
    }
    if (p->failed) return;
    int least, most;
    operand_range(op, &least, &most);
    bool fits = (int64_t)in.len >= least && (int64_t)in.len <= most;
    for (size_t i = 0; i < in.len && (int)i < least; i++) {
        const char *operand = op->in[i];
        if (!in.data[i] && operand[strlen(operand) - 1] != '?') fits = false;
    }
    if (!fits) {
        fail(p, from, "%s does not take these %zu operands", op->name, in.len);
        return;
    }
    void *attrs = op->attr_size ? arena_alloc(p->a, op->attr_size) : NULL;
    if (attrs) attrs_default(op, attrs);
    int n_results = op->n_results ? op->n_results : 1;
    if (op == &op_fused) {
        const FusedAttrs *f = read_fused(p, (int)in.len);
        memcpy(attrs, f, sizeof *f);
        n_results = f->n_results;
    } else if (!read_target(p, op, attrs)) {
        read_attrs(p, op, attrs);
    }
    if (op == &op_scan) {
        ScanAttrs *s = attrs;
        s->body = read_body(p);
        s->body->n_step_inputs = (int)(s->n_seqs + s->n_carries);
        n_results = (int)s->body->outputs.len;
    }
    if (p->failed) return;
    expect(p, ":");
    TensorType type[OP_MAX_RESULTS];
    for (int k = 0; k < n_results && !p->failed; k++) {
        if (k) expect(p, ",");
        type[k] = read_type(p);
    }
    if (p->failed) return;
    if (op == &op_const) ((ConstAttrs *)attrs)->type = type[0];
    if (op == &op_fused)
        memcpy(((FusedAttrs *)attrs)->type, type, sizeof type[0] * (size_t)n_results);
    *n = (Node){ .op = op,
                 .attrs = attrs,
                 .in = in.data ? in.data : arena_alloc(p->a, 0),
                 .n_in = (int)in.len,
                 .type = type[0],
                 .n_results = n_results,
                 .id = (int)p->r->nodes.len,
                 .name = name };
    if (n_results > 1)
        n->more = arena_dup(p->a, type + 1, sizeof type[0] * (size_t)(n_results - 1));
    n->inst = read_inst_ref(p);
    read_place(p, &n->span);
    expect(p, ";");
    if (p->failed) return;
    *where = span_here(p, from);
    map_set(p->refs, key, n);
    vec_push(p->a, &p->r->nodes, n);
}

/* ---- the rest of a module ---- */

static void read_ports(Reader *p, Port **ports, size_t *len)
{
    VEC(Port) v = { 0 };
    VEC(size_t) place = { 0 };
    const size_t first_place = p->places.len;
    expect(p, "(");
    while (!p->failed && !accept(p, ")")) {
        if (v.len) expect(p, ",");
        Port q = { .name = read_name(p) };
        expect(p, ":");
        q.type = read_type(p);
        q.is_metric = accept(p, "metric");
        q.is_kept = accept(p, "kept");
        if (accept(p, "limit")) q.index_limit = read_int_in(p, 0, INT64_MAX);
        q.has_ignore = accept(p, "ignore");
        if (q.has_ignore) q.index_ignore = read_int(p);
        const size_t before = p->places.len;
        read_place(p, &q.span);
        if (p->places.len > before) vec_push(p->a, &place, v.len);
        vec_push(p->a, &v, q);
    }
    for (size_t i = 0; i < place.len && !p->failed; i++)
        p->places.data[first_place + i].span = &v.data[place.data[i]].span;
    *ports = v.data;
    *len = v.len;
}

/* [NAME(numbers)] [warmup N] */
static void read_schedule(Reader *p, const ScheduleDesc **d, double *args, double *warmup)
{
    if (!accept(p, "warmup")) {
        skip(p);
        const char *from = p->at, *name = read_word(p);
        for (size_t k = 0; k < schedule_table_len; k++)
            if (strcmp(schedule_table[k]->name, name) == 0) *d = schedule_table[k];
        if (!*d) {
            fail(p, from, "unknown schedule '%s'", name);
            return;
        }
        expect(p, "(");
        for (int k = 0; k < 8 && !p->failed && (*d)->args && (*d)->args[k].name; k++) {
            if (k) expect(p, ",");
            args[k] = read_real(p);
        }
        expect(p, ")");
        if (!accept(p, "warmup")) return;
    }
    *warmup = read_real(p);
}

static void read_minimize(Reader *p)
{
    Minimize *min = ARENA_NEW(p->a, Minimize);
    p->r->minimize = min;
    min->loss = read_operand(p);
    expect(p, "over");
    expect(p, "(");
    bool first = true;
    while (!p->failed && !accept(p, ")")) {
        if (!first) expect(p, ",");
        first = false;
        skip(p);
        const char *from = p->at;
        Tensor *t = map_get(p->tensors, read_name(p));
        if (!t || t->kind != TENSOR_PARAM)
            fail(p, from, "expected a parameter");
        else {
            vec_push(p->a, &min->over, t);
            vec_push(p->a, &min->over_scale, accept(p, "*") ? read_real(p) : 1);
        }
    }
    expect(p, "using");
    skip(p);
    const char *from = p->at, *name = read_word(p);
    for (size_t i = 0; i < optim_table_len; i++)
        if (strcmp(optim_table[i]->name, name) == 0) min->optim = optim_table[i];
    if (!min->optim) {
        fail(p, from, "unknown optimizer '%s'", name);
        return;
    }
    int n = 0;
    while (min->optim->scalars && min->optim->scalars[n].name) n++;
    min->scalars = arena_alloc_array(p->a, (size_t)n, sizeof *min->scalars);
    expect(p, "(");
    for (int i = 0; i < n && !p->failed; i++) {
        struct OptimScalar *s = &min->scalars[i];
        if (i) expect(p, ",");
        expect(p, min->optim->scalars[i].name);
        expect(p, "=");
        skip(p);
        from = p->at;
        const OptimArg *arg = &min->optim->scalars[i];
        if (optim_arg_is_fixed(arg) || (arg->is_asked_for && isdigit((unsigned char)*p->at))) {
            s->fixed = read_real(p);
            if (!(s->fixed >= arg->min && s->fixed <= arg->max && s->fixed == floor(s->fixed)))
                fail(p, from, "%s is out of range", arg->name);
            continue;
        }
        s->hyper = map_get(p->hypers, read_name(p));
        if (!s->hyper) fail(p, from, "unknown hyper");
        if (!peek(p, ',') && !peek(p, ')'))
            read_schedule(p, &s->schedule, s->schedule_args, &s->warmup);
    }
    expect(p, ")");
    if (accept(p, "clip_norm")) min->clip_norm = read_real(p);
    if (accept(p, "clip_value")) min->clip_value = read_real(p);
    if (accept(p, "ema")) min->ema = read_real(p);
    min->in_backward = accept(p, "in_backward");
    read_place(p, &min->span);
    expect(p, ";");
}

/* The step that a product with its Hessian belongs to. */
static void read_step(Reader *p, Routine *r)
{
    skip(p);
    const char *from = p->at, *name = read_name(p);
    for (size_t i = 0; i < p->m->routines.len && !p->failed; i++) {
        Routine *step = p->m->routines.data[i];
        if (step->kind != ROUTINE_STEP || step->product || strcmp(step->name, name) != 0) continue;
        r->step = step;
        step->product = r;
    }
    if (!p->failed && (!r->step || r->kind != ROUTINE_INFER || r->outputs.len != 1 || !r->inputs.len))
        fail(p, from, "expected the name of a step, of which this is the product with its Hessian");
}

/* The infer routine, just read, that r prepares. */
static void read_user(Reader *p, Routine *r)
{
    expect(p, "of");
    skip(p);
    const char *from = p->at, *name = read_name(p);
    Routine *user = p->m->routines.len ? p->m->routines.data[p->m->routines.len - 1] : NULL;
    if (!p->failed && (!user || user->kind != ROUTINE_INFER || user->prepare || strcmp(user->name, name) != 0))
        fail(p, from, "expected the name of the infer routine before this one");
    if (!p->failed) user->prepare = r;
}

/* The step that a trace belongs to. */
static void read_traced(Reader *p, Routine *r)
{
    skip(p);
    const char *from = p->at, *name = read_name(p);
    for (size_t i = 0; i < p->m->routines.len && !p->failed; i++) {
        Routine *step = p->m->routines.data[i];
        if (step->kind != ROUTINE_STEP || step->trace || strcmp(step->name, name) != 0) continue;
        r->step = step;
        step->trace = r;
    }
    if (!p->failed && (!r->step || r->kind != ROUTINE_INFER))
        fail(p, from, "expected the name of a step, of which this is the trace");
}

static void read_routine(Reader *p, RoutineKind kind, bool prepares)
{
    Routine *r = ARENA_NEW(p->a, Routine);
    r->kind = kind;
    r->index = (int)p->m->routines.len;
    p->r = r;
    p->refs = map_new(p->a);
    r->name = read_name(p);
    read_ports(p, &r->inputs.data, &r->inputs.len);
    r->inputs.cap = r->inputs.len;
    expect(p, "->");
    read_ports(p, &r->outputs.data, &r->outputs.len);
    r->outputs.cap = r->outputs.len;
    read_dims(p, r);
    r->prepares = prepares;
    if (prepares)
        read_user(p, r);
    else if (accept(p, "of"))
        read_step(p, r);
    else if (accept(p, "traces"))
        read_traced(p, r);
    read_place(p, &r->span);
    expect(p, "{");
    VEC(Span) where = { 0 };
    while (!p->failed && peek(p, '%')) {
        Span span = { 0 };
        read_node(p, &span);
        vec_push(p->a, &where, span);
    }
    if (accept(p, "minimize")) read_minimize(p);
    expect(p, "}");
    if (p->failed) return;
    if (!prepares) vec_push(p->a, &p->m->routines, r);

    /* Faults are reported where the node stands in this text; its own places come back
     * afterwards. */
    Span *own = ARENA_ARRAY(p->a, Span, r->nodes.len);
    for (size_t i = 0; i < r->nodes.len; i++) {
        own[i] = r->nodes.data[i]->span;
        r->nodes.data[i]->span = where.data[i];
    }
    Faults faults = { 0 };
    const int errors = diag_errors(p->diag);
    if (!routine_verify_first(p->m, r, &faults)) {
        /* What a shape rule has explained needs no second message. */
        if (diag_errors(p->diag) > errors) faults.len = 0;
        for (size_t i = 0; i < faults.len; i++)
            diag_error(p->diag,
                       faults.data[i].node ? faults.data[i].node->span : span_here(p, p->at - 1),
                       "nnir-invalid", "%s", faults.data[i].text);
        p->failed = true;
    }
    for (size_t i = 0; i < r->nodes.len; i++) r->nodes.data[i]->span = own[i];
}

static void read_tensor(Reader *p, TensorKind kind)
{
    skip(p);
    const char *from = p->at;
    Tensor *t = ARENA_NEW(p->a, Tensor);
    t->kind = kind;
    t->index = (int)p->m->tensors.len;
    t->path = read_name(p);
    if (!p->failed && map_get(p->tensors, t->path))
        fail(p, from, "tensor %s is defined twice", t->path);
    expect(p, ":");
    t->type = read_type(p);
    if (accept(p, "=")) {
        skip(p);
        from = p->at;
        const char *init = read_word(p);
        for (size_t i = 0; i < init_table_len; i++)
            if (strcmp(init_table[i]->name, init) == 0) t->init = init_table[i];
        if (!p->failed && !t->init) fail(p, from, "unknown initialiser '%s'", init);
        expect(p, "(");
        for (int i = 0; i < 4 && !p->failed && t->init->args[i]; i++) {
            if (i) expect(p, ",");
            t->init_args[i] = read_real(p);
        }
        expect(p, ")");
    }
    if (accept(p, "fan")) {
        t->fan_in = read_int_in(p, 0, INT64_C(1) << 48);
        t->fan_out = read_int_in(p, 0, INT64_C(1) << 48);
    }
    t->trained = accept(p, "trained");
    t->inst = read_inst_ref(p);
    read_place(p, &t->span);
    expect(p, ";");
    if (p->failed) return;
    map_set(p->tensors, t->path, t);
    vec_push(p->a, &p->m->tensors, t);
}

static void read_dim(Reader *p)
{
    DimVar *d = ARENA_NEW(p->a, DimVar);
    d->index = (int)p->m->dims.len;
    d->name = read_word(p);
    expect(p, "=");
    d->lo = read_int_in(p, 1, INT64_C(1) << 32);
    expect(p, "..");
    d->hi = read_int_in(p, d->lo, INT64_C(1) << 32);
    read_place(p, &d->span);
    expect(p, ";");
    if (p->failed) return;
    map_set(p->dims, d->name, d);
    vec_push(p->a, &p->m->dims, d);
}

static void read_hyper(Reader *p)
{
    Hyper *h = ARENA_NEW(p->a, Hyper);
    h->index = (int)p->m->hypers.len;
    h->name = read_name(p);
    h->path = read_name(p);
    expect(p, "=");
    h->value = read_real(p);
    if (!peek(p, ';') && !peek(p, '@'))
        read_schedule(p, &h->schedule, h->schedule_args, &h->warmup);
    read_place(p, &h->span);
    expect(p, ";");
    if (p->failed) return;
    map_set(p->hypers, h->path, h);
    vec_push(p->a, &p->m->hypers, h);
}

static void read_inst(Reader *p)
{
    Inst *s = ARENA_NEW(p->a, Inst);
    skip(p);
    const char *from = p->at;
    if (read_int(p) != (int64_t)p->insts.len) fail(p, from, "insts are numbered from 0");
    s->block = read_string(p);
    s->args = read_string(p);
    s->path = read_string(p);
    s->label = read_string(p);
    if (accept(p, "in")) {
        const int64_t i = read_int_in(p, 0, (int64_t)p->insts.len - 1);
        if (!p->failed) s->parent = p->insts.data[i];
    }
    read_place(p, &s->call);
    expect(p, ";");
    if (!p->failed) vec_push(p->a, &p->insts, s);
}

static void read_model(Reader *p)
{
    Module *m = p->m;
    expect(p, "nnir");
    read_int_in(p, 1, 1);
    expect(p, ";");
    expect(p, "model");
    m->name = read_name(p);
    m->source_name = read_string(p);
    m->real_is_f64 = accept(p, "f64");
    m->use_blas = !accept(p, "no_blas");
    m->has_layouts = accept(p, "layouts");
    expect(p, "hash");
    skip(p);
    const char *from = p->at, *hex = read_word(p);
    char *rest;
    m->hash = strtoull(hex, &rest, 16);
    if (!p->failed && (*rest || strlen(hex) != 16)) fail(p, from, "expected 16 hexadecimal digits");
    read_place(p, &m->span);
    expect(p, ";");
}

Module *module_parse(Arena *a, Diag *diag, const Source *source)
{
    Reader p = { .a = a,
                 .diag = diag,
                 .source = source,
                 .at = source->text,
                 .end = source->text + source->len,
                 .m = ARENA_NEW(a, Module),
                 .dims = map_new(a),
                 .hypers = map_new(a),
                 .tensors = map_new(a) };
    p.m->arena = a;
    p.m->diag = diag;
    read_model(&p);
    for (;;) {
        skip(&p);
        const char *from = p.at;
        if (p.failed || p.at >= p.end) break;
        if (accept(&p, "dim"))
            read_dim(&p);
        else if (accept(&p, "hyper"))
            read_hyper(&p);
        else if (accept(&p, "inst"))
            read_inst(&p);
        else if (accept(&p, "param"))
            read_tensor(&p, TENSOR_PARAM);
        else if (accept(&p, "state"))
            read_tensor(&p, TENSOR_STATE);
        else if (accept(&p, "infer"))
            read_routine(&p, ROUTINE_INFER, false);
        else if (accept(&p, "step"))
            read_routine(&p, ROUTINE_STEP, false);
        else if (accept(&p, "prepare"))
            read_routine(&p, ROUTINE_INFER, true);
        else
            fail(&p, from, "expected a dim, hyper, inst, param, state, infer, step or prepare");
    }
    if (!p.failed) make_spans(&p);
    return p.failed ? NULL : p.m;
}
