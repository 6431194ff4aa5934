/* SPDX-License-Identifier: MIT
 *
 * Attributes, generically: every use of an attribute struct outside its own operator goes through the
 * operator's table, field by field, so that padding never matters and a new attribute needs no code here.
 */
#include "ir/op.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const void *field(const void *attrs, const AttrDef *d)
{
    return (const char *)attrs + d->offset;
}

void attrs_default(const OpDesc *op, void *attrs)
{
    if (!op->attr_size) return;
    memset(attrs, 0, op->attr_size);
    for (const AttrDef *d = op->attrs; d && d->name; d++) {
        void *p = (char *)attrs + d->offset;
        const double def = isnan(d->def) ? 0 : d->def;
        switch (d->kind) {
        case ATTR_INT: *(int64_t *)p = (int64_t)def; break;
        case ATTR_INT2: ((int64_t *)p)[0] = ((int64_t *)p)[1] = (int64_t)def; break;
        case ATTR_FLOAT: *(double *)p = def; break;
        case ATTR_BOOL: *(bool *)p = def != 0; break;
        case ATTR_CHOICE: *(int *)p = (int)def; break;
        case ATTR_INTS: case ATTR_SHAPE: case ATTR_TYPE: case ATTR_PTR: break;
        }
    }
}

void *attrs_field(const OpDesc *op, void *attrs, const char *name, AttrKind kind)
{
    for (const AttrDef *d = op->attrs; d && d->name; d++)
        if (strcmp(d->name, name) == 0 && d->kind == kind) return (char *)attrs + d->offset;
    return NULL;
}

static bool field_equal(const AttrDef *d, const void *a, const void *b)
{
    const void *p = field(a, d), *q = field(b, d);
    switch (d->kind) {
    case ATTR_INT: return *(const int64_t *)p == *(const int64_t *)q;
    case ATTR_INT2: return memcmp(p, q, 2 * sizeof(int64_t)) == 0;
    case ATTR_FLOAT: return memcmp(p, q, sizeof(double)) == 0; /* -0 and 0 differ, NaN equals itself */
    case ATTR_BOOL: return *(const bool *)p == *(const bool *)q;
    case ATTR_CHOICE: return *(const int *)p == *(const int *)q;
    case ATTR_INTS: {
        const IntList *x = p, *y = q;
        return x->n == y->n && memcmp(x->v, y->v, sizeof x->v[0] * (size_t)x->n) == 0;
    }
    case ATTR_SHAPE:
    case ATTR_TYPE: {
        const TensorType *x = p, *y = q;
        return type_equal(x, y) && x->layout == y->layout;
    }
    case ATTR_PTR: return *(const void *const *)p == *(const void *const *)q;
    }
    return false;
}

bool attrs_equal(const OpDesc *op, const void *a, const void *b)
{
    for (const AttrDef *d = op->attrs; d && d->name; d++)
        if (!field_equal(d, a, b)) return false;
    return true;
}

void attrs_print(StrBuf *sb, const OpDesc *op, const void *attrs, bool all)
{
    if (!op->attr_size) return;
    char *defaults = arena_alloc(sb->arena, op->attr_size);
    attrs_default(op, defaults);
    bool first = true;
    for (const AttrDef *d = op->attrs; d && d->name; d++) {
        if (d->kind == ATTR_PTR) continue;
        if (!all && !isnan(d->def) && field_equal(d, attrs, defaults)) continue;
        const void *p = field(attrs, d);
        sb_printf(sb, "%s%s = ", first ? "" : ", ", d->name);
        first = false;
        switch (d->kind) {
        case ATTR_INT: sb_printf(sb, "%lld", (long long)*(const int64_t *)p); break;
        case ATTR_INT2: {
            const int64_t *v = p;
            if (v[0] == v[1]) sb_printf(sb, "%lld", (long long)v[0]);
            else sb_printf(sb, "[%lld, %lld]", (long long)v[0], (long long)v[1]);
            break;
        }
        case ATTR_FLOAT: sb_real(sb, *(const double *)p); break;
        case ATTR_BOOL: sb_puts(sb, *(const bool *)p ? "true" : "false"); break;
        case ATTR_CHOICE: sb_puts(sb, d->choices[*(const int *)p]); break;
        case ATTR_INTS: {
            const IntList *l = p;
            sb_putc(sb, '[');
            for (int i = 0; i < l->n; i++) sb_printf(sb, "%s%lld", i ? ", " : "", (long long)l->v[i]);
            sb_putc(sb, ']');
            break;
        }
        case ATTR_SHAPE:
        case ATTR_TYPE: {
            const TensorType *t = p;
            type_print(sb, t);
            if (t->layout != LAYOUT_CANONICAL) sb_printf(sb, "{%s}", layout_name(t->layout));
            break;
        }
        case ATTR_PTR: break;
        }
    }
}

const OpDesc *op_find(const char *name)
{
    size_t lo = 0, hi = op_table_len;
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        const int c = strcmp(name, op_table[mid]->name);
        if (c == 0) return op_table[mid];
        if (c < 0) hi = mid;
        else lo = mid + 1;
    }
    return NULL;
}

static int fault(const OpDesc *op, const char *what)
{
    fprintf(stderr, "op table: %s: %s\n", op->name ? op->name : "?", what);
    return 1;
}

int op_check_all(void)
{
    int n = 0;
    for (size_t i = 0; i < op_table_len; i++) {
        const OpDesc *op = op_table[i];
        const bool structural = (op->flags & (OPF_ROOT | OPF_SOURCE)) || op == &op_fused ||
                                op == &op_to_layout || op == &op_scan;
        const bool internal = (op->flags & OPF_INTERNAL) != 0;
        if (!op->name || !op->summary || !op->doc) n += fault(op, "name, summary and doc are required");
        if (i && strcmp(op_table[i - 1]->name, op->name) >= 0) n += fault(op, "ops.def is not sorted");
        if (!op->shape) n += fault(op, "shape is required");
        if (!structural && !op->grad == !op->no_grad)
            n += fault(op, "exactly one of grad and no_grad is required");
        if (op->grad && !structural && !internal && !op->gradient)
            n += fault(op, "a gradient is stated for the manual");
        if (!structural && !(op->flags & OPF_VIEW) && !op->expr == !op->emit)
            n += fault(op, "exactly one of expr and emit is required");
        if (!!(op->flags & OPF_ELEMENTWISE) != !!op->expr) n += fault(op, "elementwise and expr go together");
        if (!structural && !internal && !(op->samples && op->samples->expr)) n += fault(op, "a sample is required");
        if (op->n_results > OP_MAX_RESULTS) n += fault(op, "too many results");
        for (const AttrDef *d = op->attrs; d && d->name; d++) {
            if (!d->doc) n += fault(op, "every attribute needs a doc line");
            if (d->kind == ATTR_CHOICE && !d->choices) n += fault(op, "a choice attribute needs its choices");
            if (d->offset >= op->attr_size) n += fault(op, "attribute outside the struct");
        }
    }
    return n;
}
