/* SPDX-License-Identifier: MIT
 *
 * Compile-time values: making, naming, printing and converting them.
 */
#include "front/lower.h"

#include <ctype.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

Value v_error(void)
{
    return (Value){ .kind = V_ERROR };
}

Value v_int(int64_t i, Span span)
{
    return (Value){ .kind = V_INT, .i = i, .span = span };
}

Value v_float(double f, Span span)
{
    return (Value){ .kind = V_FLOAT, .f = f, .span = span };
}

Value v_bool(bool b, Span span)
{
    return (Value){ .kind = V_BOOL, .i = b, .span = span };
}

Value v_word(const char *word, Span span)
{
    return (Value){ .kind = V_WORD, .word = word, .span = span };
}

Value v_node(Node *n, Span span)
{
    return n ? (Value){ .kind = V_TENSOR, .node = n, .span = span } : v_error();
}

Value v_list(Lower *lw, const ValueVec *v, Span span)
{
    ValueVec *copy = ARENA_NEW(lw->a, ValueVec);
    *copy = *v;
    return (Value){ .kind = V_LIST, .list = copy, .span = span };
}

bool v_is_number(const Value *v)
{
    return v->kind == V_INT || v->kind == V_FLOAT;
}

double v_number(const Value *v)
{
    return v->kind == V_INT ? (double)v->i : v->f;
}

bool v_is_tensor_like(const Value *v)
{
    return v->kind == V_TENSOR || v->kind == V_HYPER || v->kind == V_SIZE || v_is_number(v) ||
           v->kind == V_BOOL;
}

void v_print(StrBuf *sb, const Value *v)
{
    switch (v->kind) {
    case V_ERROR: sb_puts(sb, "<error>"); break;
    case V_ABSENT: sb_puts(sb, "nothing"); break;
    case V_INT: sb_printf(sb, "%" PRId64, v->i); break;
    case V_FLOAT: sb_real(sb, v->f); break;
    case V_BOOL: sb_puts(sb, v->i ? "true" : "false"); break;
    case V_WORD: sb_puts(sb, v->word); break;
    case V_SIZE:
        if (v->i != 1) sb_printf(sb, "%" PRId64 "*", v->i);
        sb_puts(sb, v->dim->name);
        break;
    case V_LIST:
    case V_TUPLE:
        sb_putc(sb, '[');
        for (size_t i = 0; i < v->list->len && i < 8; i++) {
            if (i) sb_puts(sb, ", ");
            v_print(sb, &v->list->data[i]);
        }
        sb_puts(sb, v->list->len > 8 ? ", ...]" : "]");
        break;
    case V_TENSOR: type_print(sb, &v->node->type); break;
    case V_HYPER: sb_puts(sb, v->hyper->path); break;
    case V_INIT: sb_puts(sb, v->init ? v->init->name : "default"); break;
    case V_LAYER: sb_puts(sb, v->layer->name); break;
    }
}

const char *v_kind_text(Lower *lw, const Value *v)
{
    StrBuf sb;
    sb_init(&sb, lw->a);
    switch (v->kind) {
    case V_ERROR: return "an erroneous value";
    case V_ABSENT: return "an argument that was not given";
    case V_INT:
    case V_FLOAT:
    case V_BOOL: break;
    case V_WORD: sb_puts(&sb, "the word "); break;
    case V_SIZE: sb_puts(&sb, "the run-time size "); break;
    case V_LIST: sb_puts(&sb, "the list "); break;
    case V_TUPLE: return arena_printf(lw->a, "%zu values", v->list->len);
    case V_TENSOR: sb_puts(&sb, "a tensor "); break;
    case V_HYPER: sb_puts(&sb, "the hyper "); break;
    case V_INIT: sb_puts(&sb, "the initialiser "); break;
    case V_LAYER: sb_puts(&sb, "the layer "); break;
    }
    v_print(&sb, v);
    return sb.text;
}

/* ---- messages ---- */

const char *range_text(Lower *lw, double min, double max)
{
    StrBuf sb;
    sb_init(&sb, lw->a);
    const bool below_one =
        max < 1 && max > 0.999999999; /* the largest number below 1 stands for "less than 1" */
    if (max >= 9e14) {
        if (min > 0 && min < 1e-200)
            sb_puts(&sb, "greater than 0");
        else
            sb_puts(&sb, "at least ");
        if (!(min > 0 && min < 1e-200)) sb_real(&sb, min);
    } else if (min <= -9e14) {
        sb_puts(&sb, "at most ");
        sb_real(&sb, max);
    } else {
        sb_puts(&sb, "in [");
        sb_real(&sb, min);
        sb_puts(&sb, ", ");
        sb_real(&sb, below_one ? 1 : max);
        sb_putc(&sb, below_one ? ')' : ']');
    }
    return sb.text;
}

Diagnostic *report(Frame *f, Span span, const char *id, const char *fmt, ...)
{
    if (f->lw->stop) return NULL;
    va_list ap;
    va_start(ap, fmt);
    Diagnostic *m = diag_verror(f->lw->d, caller_span(f, span), id, fmt, ap);
    va_end(ap);
    diag_inst(m, f->inst);
    if (diag_full(f->lw->d)) f->lw->stop = true;
    return m;
}

Span caller_span(const Frame *f, Span span)
{
    if (!span.source || !span.source->is_std) return span;
    const Inst *inst = f->inst;
    while (inst && inst->call.source && inst->call.source->is_std) inst = inst->parent;
    return inst && inst->call.source ? inst->call : span;
}

void suggest(Diagnostic *m, const char *word, const char *const *names, size_t n)
{
    /* Any name is near to a single letter. */
    const char *near = strlen(word) < 2 ? NULL : str_nearest(word, names, n);
    if (near) diag_hint(m, "did you mean '%s'?", near);
}

/* The last part of a dotted name: "nn.functional.cross_entropy(reduction='none')" -> cross_entropy. */
static size_t last_part(const char *torch, const char **part)
{
    const size_t n =
        strspn(torch, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.");
    *part = torch;
    for (size_t i = 0; i < n; i++)
        if (torch[i] == '.') *part = torch + i + 1;
    return (size_t)(torch + n - *part);
}

bool is_torch_name(const char *word, const char *torch)
{
    const char *part;
    if (!torch || strlen(word) < 2) return false;
    const size_t n = last_part(torch, &part);
    const char *const end = part + n;
    for (;;) {
        while (*word == '_') word++;
        while (part < end && *part == '_') part++;
        if (!*word || part == end) return !*word && part == end;
        if (tolower((unsigned char)*word++) != tolower((unsigned char)*part++)) return false;
    }
}

void suggest_torch(Diagnostic *m, const char *torch, const char *name)
{
    const char *part;
    const size_t n = last_part(torch, &part);
    diag_hint(m, "did you mean '%s'? PyTorch calls it %.*s", name, (int)(part - torch + (ptrdiff_t)n), torch);
}

void suggest_all(Arena *a, Diagnostic *m, const char *word, const char *const *names, size_t n)
{
    const char *near = strlen(word) < 2 ? NULL : str_nearest(word, names, n);
    if (near) {
        diag_hint(m, "did you mean '%s'?", near);
        return;
    }
    StrBuf all;
    sb_init(&all, a);
    for (size_t i = 0; i < n; i++) sb_printf(&all, "%s%s", i ? ", " : "", names[i]);
    if (n) diag_hint(m, "there %s %s", n == 1 ? "is" : "are", all.text);
}

/* ---- conversions ---- */

/* A run-time size as a number: the sum of as many ones. */
static Node *size_node(Frame *f, const Value *v)
{
    f->lw->b.span = caller_span(f, v->span);
    TensorType t = { .dtype = DT_F32, .rank = 1, .dim = { v->i }, .batch = v->dim };
    Node *ones = mk_fill(&f->lw->b, &t, 1);
    return apply(f, "sum", 1, &ones, v->span);
}

bool can_build(Frame *f, Span span)
{
    if (f->lw->r) return true;
    report(f, span, "const-value", "a tensor cannot be computed here, only in a routine");
    return false;
}

Node *to_node(Frame *f, const Value *v, const TensorType *like)
{
    if (v->kind != V_ERROR && v->kind != V_TENSOR && v_is_tensor_like(v) && !can_build(f, v->span))
        return NULL;
    Builder *b = &f->lw->b;
    b->span = caller_span(f, v->span);
    b->inst = f->inst;
    switch (v->kind) {
    case V_TENSOR: return v->node;
    case V_INT:
    case V_FLOAT: {
        const bool whole = like && v->kind == V_INT && like->dtype == DT_I32;
        if (whole && (v->i > INT32_MAX || v->i < INT32_MIN)) {
            report(f, v->span, "type", "%" PRId64 " does not fit an i32", v->i);
            return NULL;
        }
        return mk_const(b, whole ? DT_I32 : DT_F32, v_number(v));
    }
    case V_BOOL: return mk_const(b, DT_BOOL, (double)v->i);
    case V_SIZE: return size_node(f, v);
    case V_HYPER:
        b->name = v->hyper->name;
        map_set(f->lw->used_hypers, v->hyper->path, v->hyper);
        return mk(b, &op_hyper, &(IndexAttrs){ v->hyper->index }, 0, NULL);
    case V_ERROR: return NULL;
    case V_TUPLE: {
        Diagnostic *m =
            report(f, v->span, "type", "expected one tensor, found %zu values", v->list->len);
        diag_hint(m, "give each value a name first: a, b = ...;");
        return NULL;
    }
    case V_LAYER: {
        Diagnostic *m =
            report(f, v->span, "type", "expected a tensor, found the layer %s", v->layer->name);
        diag_hint(m, "call it: %s(x)", v->layer->name);
        return NULL;
    }
    case V_ABSENT:
    case V_WORD:
    case V_LIST:
    case V_INIT: break;
    }
    report(f, v->span, "type", "expected a tensor, found %s", v_kind_text(f->lw, v));
    return NULL;
}

bool to_int(Frame *f, const Value *v, const char *what, int64_t *out)
{
    if (v->kind == V_INT) {
        *out = v->i;
        return true;
    }
    if (v->kind == V_ERROR) return false;
    Diagnostic *m = report(f, v->span, "type", "%s: expected an integer, found %s", what,
                           v_kind_text(f->lw, v));
    if (v->kind == V_SIZE) diag_hint(m, "%s is only known at run time", v->dim->name);
    return false;
}

bool to_float(Frame *f, const Value *v, const char *what, double *out)
{
    if (v_is_number(v)) {
        *out = v_number(v);
        return true;
    }
    if (v->kind == V_ERROR) return false;
    Diagnostic *m =
        report(f, v->span, "type", "%s: expected a number, found %s", what, v_kind_text(f->lw, v));
    if (v->kind == V_HYPER)
        diag_hint(m, "a hyper is only known at run time; a const is a compile-time number");
    return false;
}

bool to_bool(Frame *f, const Value *v, const char *what, bool *out)
{
    if (v->kind == V_BOOL) {
        *out = v->i != 0;
        return true;
    }
    if (v->kind == V_ERROR) return false;
    Diagnostic *m = report(f, v->span, "type", "%s: expected true or false, found %s", what,
                           v_kind_text(f->lw, v));
    if (v->kind == V_TENSOR)
        diag_hint(m, "this is decided at compile time; where(c, a, b) chooses at run time");
    return false;
}

static bool to_shape_axis(Frame *f, const Value *size, size_t axis, bool open, TensorType *out)
{
    if (size->kind == V_SIZE) {
        if (axis > 0) {
            Diagnostic *m =
                report(f, size->span, "shape-batch",
                       "the run-time size %s may only be the first axis", size->dim->name);
            diag_hint(m, "every other axis is a constant");
            return false;
        }
        out->batch = size->dim;
        out->dim[0] = size->i;
        return true;
    }
    int64_t n = 0;
    if (!to_int(f, size, arena_printf(f->lw->a, "size of axis %zu", axis), &n)) return false;
    if (n < 1 && !(open && n == -1)) {
        report(f, size->span, "shape-size",
               "%s%ssize of axis %zu must be at least 1, found %" PRId64,
               f->lw->typing ? f->lw->typing : "", f->lw->typing ? ": " : "", axis, n);
        return false;
    }
    out->dim[axis] = n;
    return true;
}

bool to_shape(Frame *f, const Value *v, DType dtype, bool open, TensorType *out)
{
    *out = (TensorType){ .dtype = dtype };
    if (v->kind == V_ERROR) return false;
    if (v->kind != V_LIST) {
        report(f, v->span, "type", "expected a list of sizes, found %s", v_kind_text(f->lw, v));
        return false;
    }
    if (v->list->len > MAX_RANK) {
        report(f, v->span, "shape-rank", "a tensor has at most %d axes, found %zu", MAX_RANK,
               v->list->len);
        return false;
    }
    int n_open = 0;
    for (size_t i = 0; i < v->list->len; i++) {
        if (!to_shape_axis(f, &v->list->data[i], i, open, out)) return false;
        n_open += out->dim[i] == -1;
    }
    out->rank = (int)v->list->len;
    if (n_open > 1) {
        report(f, v->span, "shape-size", "only one size may be -1");
        return false;
    }
    if (n_open == 0 && type_numel_max(out) < 0) {
        report(f, v->span, "size-overflow", "%s %s has more than 2^48 elements",
               f->lw->typing ? f->lw->typing : "a tensor", type_text(f->lw->a, out));
        return false;
    }
    return true;
}
