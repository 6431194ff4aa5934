/* SPDX-License-Identifier: MIT
 *
 * Built-in functions: of lists, shapes and numbers, computed while the program is read. In: a call whose name may be
 * theirs. Out: its value, or that it is nobody's here; then arguments that were evaluated on the way stand in the list.
 */
#include "front/lower.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static bool has_args(Frame *f, const Expr *e, size_t n, size_t want, const char *usage)
{
    if (n == want) return true;
    Diagnostic *m = report(f, e->span, "argument-count", "%s takes %zu argument%s, found %zu",
                           e->path->head.text, want, want == 1 ? "" : "s", n);
    diag_hint(m, "%s", usage);
    return false;
}

static Value builtin_dimof(Frame *f, const Value *x, const Value *axis, Span span)
{
    int64_t i = 0;
    Node *n = to_node(f, x, NULL);
    if (!n || !to_int(f, axis, "axis", &i)) return v_error();
    const int rank = n->type.rank;
    if (i < -rank || i >= rank) {
        report(f, axis->span, "axis-range", "axis %" PRId64 " is out of range for %s (rank %d)", i,
               type_text(f->lw->a, &n->type), rank);
        return v_error();
    }
    const int k = (int)(i < 0 ? i + rank : i);
    if (k == 0 && n->type.batch)
        return (Value){ .kind = V_SIZE, .i = n->type.dim[0], .dim = n->type.batch, .span = span };
    return v_int(n->type.dim[k], span);
}

/* [top, left, bottom, right] for a window over axes 2 and 3 of x: `same` splits what N = ceil(W/S) needs, an
 * odd rest goes to the end. */
static Value builtin_pads(Frame *f, const Value *v, Span span)
{
    const Value *pad = &v[0];
    if (pad->kind != V_WORD) return *pad;
    Node *x = to_node(f, &v[1], NULL);
    if (!x) return v_error();
    if (x->type.rank != 4) {
        report(f, v[1].span, "shape-rank", "expected an image [N,C,H,W], found %s",
               type_text(f->lw->a, &x->type));
        return v_error();
    }
    int64_t all[4] = { 0 };
    for (int i = 0; i < 2; i++) {
        int64_t k[3];
        for (int j = 0; j < 3; j++) {
            const Value *list = &v[2 + j];
            if (list->kind != V_LIST || list->list->len != 2 || list->list->data[i].kind != V_INT)
                return v_error();
            k[j] = list->list->data[i].i;
            if (k[j] < 1 || k[j] > INT32_MAX) {
                report(f, list->span, "attribute-range",
                       "%s must be in [1, 2147483647], found %" PRId64,
                       j == 0   ? "kernel size"
                       : j == 1 ? "stride"
                                : "dilation",
                       k[j]);
                return v_error();
            }
        }
        const int64_t w = x->type.dim[2 + i], out = (w + k[1] - 1) / k[1];
        int64_t total = (out - 1) * k[1] + (k[0] - 1) * k[2] + 1 - w;
        if (total < 0) total = 0;
        all[i] = total / 2;
        all[2 + i] = total - total / 2;
    }
    ValueVec list = { 0 };
    for (int i = 0; i < 4; i++) vec_push(f->lw->a, &list, v_int(all[i], span));
    return v_list(f->lw, &list, span);
}

static Value whole(Frame *f, double x, Span span)
{
    if (fabs(x) < 9e15) return v_int((int64_t)x, span);
    report(f, span, "overflow", "the number does not fit an integer");
    return v_error();
}

/* min, max, floor and the like on compile-time numbers; *handled is false for anything else. */
static Value number_function(Frame *f, const char *name, const ValueVec *v, Span span,
                             bool *handled)
{
    static const char *const unary[] = {
        "floor", "ceil", "round", "abs", "sqrt", "exp", "log", NULL
    };
    *handled = true;
    for (size_t i = 0; i < v->len; i++)
        if (!v_is_number(&v->data[i])) *handled = false;
    if (!*handled || v->len == 0) {
        *handled = false;
        return v_error();
    }
    const bool is_min = strcmp(name, "min") == 0;
    if ((is_min || strcmp(name, "max") == 0) && v->len > 1) {
        Value best = v->data[0];
        for (size_t i = 1; i < v->len; i++)
            if (is_min ? v_number(&v->data[i]) < v_number(&best)
                       : v_number(&v->data[i]) > v_number(&best))
                best = v->data[i];
        best.span = span;
        return best;
    }
    int k = 0;
    while (unary[k] && strcmp(unary[k], name) != 0) k++;
    if (!unary[k] || v->len != 1) {
        *handled = false;
        return v_error();
    }
    const Value *x = &v->data[0];
    const double d = v_number(x);
    switch (k) {
    case 0: return x->kind == V_INT ? v_int(x->i, span) : whole(f, floor(d), span);
    case 1: return x->kind == V_INT ? v_int(x->i, span) : whole(f, ceil(d), span);
    case 2: return x->kind == V_INT ? v_int(x->i, span) : whole(f, nearbyint(d), span);
    case 3:
        if (x->kind == V_INT && x->i != INT64_MIN) return v_int(x->i < 0 ? -x->i : x->i, span);
        return v_float(fabs(d), span);
    case 4: return d < 0 ? (*handled = false, v_error()) : v_float(sqrt(d), span);
    case 5: return v_float(exp(d), span);
    default: return d <= 0 ? (*handled = false, v_error()) : v_float(log(d), span);
    }
}

Value call_builtin(Frame *f, Expr *e, CallArgVec *args, bool *handled)
{
    static const struct {
        const char *name, *usage;
        size_t n;
    } own[] = { { "len", "len(list)", 1 },
                { "rank", "rank(x)", 1 },
                { "dimof", "dimof(x, axis)", 2 },
                { "given", "given(y)", 1 },
                { "pads", "pads(pad, x, kernel, stride, dilation)", 5 } };
    static const char *const maths[] = { "min", "max",  "floor", "ceil", "round",
                                         "abs", "sqrt", "exp",   "log",  NULL };
    const char *name = e->path->head.text;
    size_t k = 0;
    while (k < sizeof own / sizeof *own && strcmp(own[k].name, name) != 0) k++;
    const bool is_own = k < sizeof own / sizeof *own;
    *handled = is_own;
    if (!is_own) {
        size_t i = 0;
        while (maths[i] && strcmp(maths[i], name) != 0) i++;
        if (!maths[i] || args->len == 0) return v_error();
        for (size_t j = 0; j < args->len; j++)
            if (args->data[j].name.text) return v_error();
    }
    ValueVec v = { 0 };
    for (size_t i = 0; i < args->len; i++) {
        CallArg *arg = &args->data[i];
        if (arg->name.text) {
            report(f, arg->name.span, "argument-unknown", "%s has no named arguments", name);
            return v_error();
        }
        if (arg->expr) arg->value = eval(f, arg->expr);
        arg->expr = NULL;
        if (arg->value.kind == V_ERROR) {
            *handled = true;
            return arg->value;
        }
        if (!is_own && !v_is_number(&arg->value)) return v_error();
        vec_push(f->lw->a, &v, arg->value);
    }
    const Span span =
        f->block && f->block->is_std && v.len && v.data[0].span.source ? v.data[0].span : e->span;
    if (!is_own) return number_function(f, name, &v, span, handled);
    if (!has_args(f, e, v.len, own[k].n, own[k].usage)) return v_error();
    const Value *x = &v.data[0];
    switch (k) {
    case 0:
        if (x->kind == V_LIST) return v_int((int64_t)x->list->len, span);
        report(f, x->span, "type", "len: expected a list, found %s", v_kind_text(f->lw, x));
        return v_error();
    case 1: {
        Node *n = to_node(f, x, NULL);
        return n ? v_int(n->type.rank, span) : v_error();
    }
    case 2: return builtin_dimof(f, x, &v.data[1], span);
    case 3: return v_bool(x->kind != V_ABSENT, span);
    default: return builtin_pads(f, v.data, span);
    }
}
