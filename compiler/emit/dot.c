/* SPDX-License-Identifier: MIT
 *
 * --emit=dot: the graph as a picture. Every routine is a cluster; what exists only for gradients is drawn in another
 * colour. With --trace or --values the picture is of the traced steps as they were written: operators as boxes or
 * gates, on each edge the value that flows along it and the gradient that flows back. Labels are escaped for Graphviz.
 */
#include "emit/emit.h"

#include <string.h>

#include "ir/scan.h"

static void put_label(StrBuf *out, const char *s)
{
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\' || c == '{' || c == '}' || c == '<' || c == '>' || c == '|')
            sb_putc(out, '\\');
        sb_putc(out, c < 32 || c > 126 ? '?' : (char)c);
    }
}

static bool *forward_nodes(const Module *m, const Routine *r)
{
    bool *forward = ARENA_ARRAY(m->arena, bool, r->nodes.len + 1);
    for (size_t i = r->nodes.len; i-- > 0;) {
        const Node *n = r->nodes.data[i];
        if (op_has(n, OPF_ROOT) && !op_takes_gradient(n)) forward[i] = true;
        for (int k = 0; forward[i] && k < n->n_in; k++)
            if (n->in[k]) forward[n->in[k]->id] = true;
    }
    return forward;
}

static const char *root_target(const Module *m, const Routine *r, const Node *n)
{
    const int64_t i = ((const IndexAttrs *)n->attrs)->index;
    const bool port = op_is(n, &op_output) || op_is(n, &op_report);
    return port ? r->outputs.data[i].name : m->tensors.data[i]->path;
}

static void put_node(StrBuf *out, const Module *m, const Routine *r, const Node *n, bool forward)
{
    const bool source = op_has(n, OPF_SOURCE), root = op_has(n, OPF_ROOT);
    const char *fill = root ? "#f4cccc" : source ? "#eeeeee" : forward ? "#cfe2f3" : "#fce5cd";
    sb_printf(out, "    r%dn%d [shape=%s, fillcolor=\"%s\", label=\"", r->index, n->id,
              source || root ? "ellipse" : "box", fill);
    put_label(out, root ? n->op->name : n->name);
    if (root) {
        sb_puts(out, "\\n");
        put_label(out, root_target(m, r, n));
    } else if (op_is(n, &op_fused)) {
        const FusedAttrs *f = n->attrs;
        sb_puts(out, "\\n");
        for (int i = 0; i < f->n_steps; i++) {
            if (i) sb_puts(out, ", ");
            put_label(out, f->steps[i].op->name);
        }
    } else if (strncmp(n->name, n->op->name, strlen(n->op->name))) {
        sb_puts(out, "\\n");
        put_label(out, n->op->name);
    }
    sb_puts(out, "\"];\n");
}

void emit_dot(const Module *m, StrBuf *out)
{
    sb_printf(out, "digraph \"");
    put_label(out, m->name);
    sb_puts(out,
            "\" {\n  rankdir=TB;\n  node [style=filled, fontname=\"Helvetica\", fontsize=10];\n"
            "  edge [fontname=\"Helvetica\", fontsize=8];\n");
    for (size_t i = 0; i < m->routines.len; i++) {
        const Routine *r = m->routines.data[i];
        const bool *forward = forward_nodes(m, r);
        sb_printf(out, "  subgraph cluster_%d {\n    label=\"%s ", r->index,
                  r->kind == ROUTINE_STEP ? "step" : "infer");
        put_label(out, r->name);
        sb_puts(out, "\";\n");
        for (size_t k = 0; k < r->nodes.len; k++) put_node(out, m, r, r->nodes.data[k], forward[k]);
        for (size_t k = 0; k < r->nodes.len; k++) {
            const Node *n = r->nodes.data[k];
            for (int j = 0; j < n->n_in; j++) {
                if (!n->in[j]) continue;
                sb_printf(out, "    r%dn%d -> r%dn%d [label=\"", r->index, n->in[j]->id, r->index,
                          n->id);
                put_label(out, type_text(m->arena, &n->in[j]->type));
                sb_printf(out, "\"%s];\n",
                          forward[n->in[j]->id] && !forward[n->id] ? ", style=dashed" : "");
            }
        }
        sb_puts(out, "  }\n");
    }
    sb_puts(out, "}\n");
}

/* ---- traced steps ---- */

typedef struct Drawing {
    const Module *m;
    const Picture *p;
    const bool *several; /* by id of the picture's nodes: more than one wire leaves it, so they are told apart */
    Values *values;
    StrBuf *out;
    const char *fault;
} Drawing;

static void put_html(StrBuf *out, const char *s)
{
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c == '<' || c == '>' || c == '&' || c == '"')
            sb_printf(out, "&#%d;", c);
        else
            sb_putc(out, c < 32 || c > 126 ? '?' : (char)c);
    }
}

/* The operator of an elementwise template: "$0 + $1" -> "+", and "+ 3" or "2 *" where an operand is a constant. NULL:
 * it is not of this form. */
static const char *infix_text(Arena *a, const Node *n)
{
    const char *expr = n->op->expr;
    if (n->n_in != 2 || !expr || strncmp(expr, "$0 ", 3)) return NULL;
    const size_t len = strcspn(expr + 3, " ");
    if (strcmp(expr + 3 + len, " $1")) return NULL;
    double left = 0, right = 0;
    const bool has_left = node_const_value(n->in[0], &left), has_right = node_const_value(n->in[1], &right);
    StrBuf sb;
    sb_init(&sb, a);
    if (has_left) sb_real(&sb, left);
    if (has_left) sb_putc(&sb, ' ');
    sb_putn(&sb, expr + 3, len);
    if (has_right) sb_putc(&sb, ' ');
    if (has_right) sb_real(&sb, right);
    return sb.text;
}

/* "nn_max($0, $1)" -> "max". */
static const char *function_text(Arena *a, const Node *n)
{
    const char *expr = n->op->expr;
    if (!expr || strncmp(expr, "nn_", 3)) return NULL;
    const size_t len = strcspn(expr, "($");
    return strcmp(expr + len, n->n_in == 1 ? "($0)" : "($0, $1)") ? NULL : arena_strndup(a, expr + 3, len - 3);
}

static void put_number(StrBuf *out, const TensorType *t, double x)
{
    sb_printf(out, t->dtype == DT_F32 ? "%.4g" : "%.0f", x);
}

/* Small tensors whole, of others what shows whether they are well: of values the mean, of gradients the norm. */
static void put_stats(StrBuf *out, const TensorType *t, const ValueStats *s, bool gradient)
{
    if (s->n <= VALUES_SHOWN) {
        if (t->rank) sb_putc(out, '[');
        for (int64_t i = 0; i < s->n; i++) {
            if (i) sb_puts(out, ", ");
            put_number(out, t, s->shown[i]);
        }
        if (t->rank) sb_putc(out, ']');
        return;
    }
    if (s->n_bad < s->n) {
        sb_printf(out, gradient ? "norm %.4g, " : "mean %.4g, ", gradient ? s->norm : s->mean);
        put_number(out, t, s->min);
        sb_puts(out, " .. ");
        put_number(out, t, s->max);
    }
    if (s->n_bad)
        sb_printf(out, "%s%lld of %lld not finite", s->n_bad < s->n ? "<br/>" : "", (long long)s->n_bad,
                  (long long)s->n);
}

static void put_line(Drawing *d, const char *name, const TensorType *t, bool gradient)
{
    ValueStats s;
    if (!d->fault) d->fault = values_read(d->values, name, t, &s);
    if (d->fault) return;
    sb_printf(d->out, "<font color=\"%s\">", gradient ? "#cc0000" : "#006600");
    put_stats(d->out, t, &s, gradient);
    sb_puts(d->out, "</font>");
}

/* The next line of a label. */
static void begin_line(Drawing *d, bool *empty)
{
    sb_puts(d->out, *empty ? " [label=<" : "<br/>");
    *empty = false;
}

/* The wire out of node n, which may be a further result of its operand. */
static void put_wire(Drawing *d, const Node *n, const char *to)
{
    const Wire *w = &d->p->wire[n->id];
    const bool further = op_is(n, &op_result), real = n->type.dtype == DT_F32;
    bool empty = true;
    sb_printf(d->out, "    s%dn%d -> %s", d->p->graph->index, further ? n->in[0]->id : n->id, to);
    if (d->several[further ? n->in[0]->id : n->id]) {
        begin_line(d, &empty);
        put_html(d->out, w->name);
    }
    if (d->values) {
        begin_line(d, &empty);
        put_line(d, w->value, &n->type, false);
    } else if (n->type.rank || !real) {
        begin_line(d, &empty);
        put_html(d->out, type_text(d->m->arena, &n->type));
    }
    if (w->grad && d->values) {
        begin_line(d, &empty);
        put_line(d, w->grad, &n->type, true);
    } else if (!w->grad && real) {
        begin_line(d, &empty);
        sb_puts(d->out, "<font color=\"#888888\">no gradient</font>");
    }
    if (!empty) sb_putc(d->out, '>');
    if (!w->grad) sb_printf(d->out, "%sstyle=dashed, color=\"#888888\"", empty ? " [" : ", ");
    sb_puts(d->out, empty && w->grad ? ";\n" : "];\n");
}

static void put_box(Drawing *d, const Node *n)
{
    StrBuf *out = d->out;
    const Wire *w = &d->p->wire[n->id];
    const char *infix = infix_text(d->m->arena, n), *function = function_text(d->m->arena, n);
    const char *what = infix ? infix : function ? function : n->op->name;
    const bool source = op_has(n, OPF_SOURCE), tensor = op_is(n, &op_param) || op_is(n, &op_state);
    sb_printf(out, "    s%dn%d [shape=%s, fillcolor=\"%s\", label=\"", d->p->graph->index, n->id,
              source ? "ellipse" : (infix || function) && !n->type.rank ? "circle" : "box",
              tensor   ? "#fff2cc"
              : source ? "#eeeeee"
                       : "#cfe2f3");
    /* A wire that has only the name of its operator needs no second one; results of a loop have theirs on the edges. */
    const char *last = strrchr(w->name, '.');
    const bool named = !d->several[n->id] && strncmp(last ? last + 1 : w->name, n->op->name, strlen(n->op->name));
    if (source || named) put_label(out, w->name);
    if (!source && named) sb_puts(out, "\\n");
    if (!source) put_label(out, what);
    if (op_is(n, &op_scan))
        sb_printf(out, "\\n%lld steps", (long long)((const ScanAttrs *)n->attrs)->length);
    if (n->type.rank && !d->several[n->id]) {
        sb_puts(out, "\\n");
        put_label(out, type_text(d->m->arena, &n->type));
    }
    sb_puts(out, "\"];\n");
}

static void put_operands(Drawing *d, const Node *n)
{
    Arena *a = d->m->arena;
    const int step = d->p->graph->index;
    const bool infix = infix_text(a, n) != NULL;
    for (int k = 0; k < n->n_in; k++) {
        const Node *x = n->in[k];
        double constant;
        if (!x) continue;
        if (!node_const_value(x, &constant)) {
            put_wire(d, x, arena_printf(a, "s%dn%d", step, n->id));
        } else if (!infix) {
            sb_printf(d->out, "    s%dn%dc%d [shape=plaintext, style=\"\", label=\"", step, n->id, k);
            sb_real(d->out, constant);
            sb_printf(d->out, "\"];\n    s%dn%dc%d -> s%dn%d [color=\"#888888\"];\n", step, n->id, k, step, n->id);
        }
    }
}

static void put_traced(Drawing *d, const Routine *r)
{
    Arena *a = d->m->arena;
    d->p = r->picture;
    const Routine *graph = d->p->graph;
    bool *several = ARENA_ARRAY(a, bool, graph->nodes.len + 1);
    for (size_t i = 0; i < graph->nodes.len; i++) {
        const Node *n = graph->nodes.data[i];
        if (d->p->wire[i].name && op_is(n, &op_result)) several[n->in[0]->id] = true;
    }
    d->several = several;
    sb_printf(d->out, "  subgraph cluster_%d {\n    label=\"step ", graph->index);
    put_label(d->out, r->name);
    sb_puts(d->out, d->values ? ": values, and below them the gradients of the loss\";\n" : "\";\n");
    for (size_t i = 0; i < graph->nodes.len; i++) {
        const Node *n = graph->nodes.data[i];
        if (!d->p->wire[i].name || op_is(n, &op_result)) continue;
        put_box(d, n);
        put_operands(d, n);
    }
    for (size_t i = 0; i < d->p->ends.len; i++) {
        const WireEnd *e = &d->p->ends.data[i];
        const char *id = arena_printf(a, "s%de%zu", graph->index, i);
        sb_printf(d->out, "    %s [shape=ellipse, fillcolor=\"#f4cccc\", label=\"%s", id, e->is_state ? "new " : "");
        put_label(d->out, e->name);
        sb_puts(d->out, "\"];\n");
        const Node *n = graph->nodes.data[e->wire];
        if (d->p->wire[e->wire].name) put_wire(d, n, id);
    }
    sb_puts(d->out, "  }\n");
}

const char *emit_picture(const Module *m, Values *values, StrBuf *out)
{
    Drawing d = { .m = m, .values = values, .out = out };
    sb_puts(out, "digraph \"");
    put_label(out, m->name);
    sb_puts(out, "\" {\n  rankdir=LR;\n  node [style=filled, fontname=\"Helvetica\", fontsize=10];\n"
                 "  edge [fontname=\"Helvetica\", fontsize=9];\n");
    for (size_t i = 0; i < m->routines.len; i++)
        if (m->routines.data[i]->picture) put_traced(&d, m->routines.data[i]);
    sb_puts(out, "}\n");
    return d.fault;
}
