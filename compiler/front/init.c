/* SPDX-License-Identifier: MIT
 *
 * Initialisers: their syntax, the fans they scale with, and the rule behind `init = default`.
 *
 * Note [default initialisers]: a parameter with fewer than two axes starts at zero. A weight is looked at
 * where a routine uses it: from the operator it feeds, the walk goes forward through views, normalisation,
 * pooling and affine arithmetic until it meets an activation. One of the relu family means he_normal,
 * anything else xavier_uniform. The first routine that uses the weight decides.
 */
#include "front/lower.h"

#include <math.h>
#include <string.h>

static const InitDesc *find_init(const char *name)
{
    for (size_t i = 0; i < init_table_len; i++)
        if (strcmp(init_table[i]->name, name) == 0) return init_table[i];
    return NULL;
}

static Value unknown_init(Frame *f, const char *name, Span span)
{
    VEC(const char *) known = { 0 };
    vec_push(f->lw->a, &known, "default");
    for (size_t i = 0; i < init_table_len; i++) vec_push(f->lw->a, &known, init_table[i]->name);
    Diagnostic *m = report(f, span, "init-unknown", "unknown initialiser '%s'", name);
    for (size_t i = 0; i < init_table_len; i++)
        if (is_torch_name(name, init_table[i]->torch)) {
            suggest_torch(m, init_table[i]->torch, init_table[i]->name);
            return v_error();
        }
    suggest_all(f->lw->a, m, name, known.data, known.len);
    return v_error();
}

static bool put_init_arg(Frame *f, const InitDesc *d, const Arg *arg, size_t position, Value *v,
                         bool given[4])
{
    size_t k = position;
    if (arg->name.text) {
        for (k = 0; k < 4 && d->args[k]; k++)
            if (strcmp(d->args[k], arg->name.text) == 0) break;
    }
    if (k >= 4 || !d->args[k]) {
        if (arg->name.text) {
            size_t n = 0;
            while (n < 4 && d->args[n]) n++;
            Diagnostic *m = report(f, arg->name.span, "argument-unknown", "%s has no argument '%s'",
                                   d->name, arg->name.text);
            suggest_all(f->lw->a, m, arg->name.text, d->args, n);
        } else {
            report(f, arg->value->span, "argument-count", "%s: too many arguments", d->name);
        }
        return false;
    }
    if (given[k]) {
        report(f, arg->value->span, "argument-twice", "%s is given twice", d->args[k]);
        return false;
    }
    given[k] = true;
    const Value x = eval(f, arg->value);
    return to_float(f, &x, d->args[k], &v->init_args[k]);
}

static bool init_in_range(Frame *f, const InitDesc *d, const Expr *e, const Value *v)
{
    const double *x = v->init_args;
    Diagnostic *m = NULL;
    if (d->positive && !(x[0] > 0))
        m = report(f, e->span, "argument-range", "%s must be greater than 0, found %g", d->args[0], x[0]);
    else if (d->ascending && !(x[1] > x[0]))
        m = report(f, e->span, "argument-range", "%s must be greater than %s = %g, found %g", d->args[1], d->args[0],
                   x[0], x[1]);
    if (m && d->args[1])
        diag_note(m, (Span){ 0 }, "the arguments of %s are %s and %s", d->name, d->args[0], d->args[1]);
    return !m;
}

Value eval_init(Frame *f, Expr *e)
{
    const char *name;
    if (expr_is_name(e, &name)) {
        Binding *b = map_get(f->names, name);
        if (b && b->value.kind == V_INIT) return read_binding(f, b, e->span);
        if (strcmp(name, "default") == 0) return (Value){ .kind = V_INIT, .span = e->span };
        if (find_init(name)) {
            Diagnostic *m = report(f, e->span, "init-call", "an initialiser is called");
            diag_hint(m, "write %s()", name);
            return v_error();
        }
        return unknown_init(f, name, e->span);
    }
    if (e->kind == EX_ERROR) return v_error();
    if (e->kind != EX_CALL || e->path->steps.len || e->label.text) {
        Diagnostic *m = report(f, e->span, "init-call", "expected an initialiser");
        if (e->kind == EX_INT || e->kind == EX_FLOAT)
            diag_hint(m, "constant(VALUE) starts every element at VALUE");
        return v_error();
    }
    const InitDesc *d = find_init(e->path->head.text);
    if (!d) return unknown_init(f, e->path->head.text, e->path->span);
    Value v = { .kind = V_INIT, .init = d, .span = e->span };
    bool given[4] = { false };
    memcpy(v.init_args, d->def, sizeof v.init_args);
    for (size_t i = 0; i < e->args.len; i++)
        if (!put_init_arg(f, d, &e->args.data[i], i, &v, given)) return v_error();
    for (size_t k = 0; k < 4 && d->args[k]; k++) {
        if (given[k] || !isnan(d->def[k])) continue;
        report(f, e->span, "argument-missing", "%s needs its argument '%s'", d->name, d->args[k]);
        return v_error();
    }
    return init_in_range(f, d, e, &v) ? v : v_error();
}

/* The field's convention for [out, in, window...]. */
void tensor_fans(Tensor *t)
{
    if (t->type.rank < 2) return;
    const int64_t window = type_numel(&t->type, 2, t->type.rank);
    t->fan_in = t->type.dim[1] * window;
    t->fan_out = t->type.dim[0] * window;
}

/* ---- init = default ---- */

/* Joining is passed too: its operands meet the same activation. */
static bool is_seen_through(const Node *n)
{
    const bool joins = n->op->in[0] && strchr(n->op->in[0], '*') && !op_is(n, &op_scan);
    return joins || op_has(n, OPF_VIEW | OPF_SEEN_THROUGH);
}

/* weight[id]: the value is still a weight; reach[id]: it is the weight's product, seen through what the walk passes. */
static bool feeds_relu(Lower *lw, const Routine *r, const Node *param)
{
    bool *reach = ARENA_ARRAY(lw->a, bool, r->nodes.len), *weight = ARENA_ARRAY(lw->a, bool, r->nodes.len);
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        for (int k = 0; k < n->n_in; k++) {
            const Node *x = n->in[k];
            if (!x) continue;
            if (op_is(n, &op_scan) && x == param) {
                const Routine *body = scan_attrs(n)->body;
                const Node *inner = scan_input_nodes(lw->a, body)[k];
                if (inner && feeds_relu(lw, body, inner)) return true;
                continue;
            }
            const bool known = x->id < (int)i && r->nodes.data[x->id] == x;
            if ((x == param || (known && weight[x->id])) && !op_has(n, OPF_ROOT)) {
                reach[i] = true;
                if (k == 0 && op_has(n, OPF_VIEW | OPF_ON_WEIGHTS)) weight[i] = true;
            }
            if (known && reach[x->id]) {
                if (op_has(n, OPF_RELU)) return true;
                if (is_seen_through(n) && k == 0) reach[i] = true;
            }
        }
    }
    return false;
}

static const Node *find_param(const Routine *r, const Tensor *t)
{
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (op_is(n, &op_param) && ((const IndexAttrs *)n->attrs)->index == t->index) return n;
    }
    return NULL;
}

void resolve_default_inits(Lower *lw)
{
    const InitDesc *zeros = find_init("zeros"), *he = find_init("he_normal"),
                   *xavier = find_init("xavier_uniform");
    for (size_t i = 0; i < lw->info_list.len; i++) {
        const TensorInfo *info = lw->info_list.data[i];
        Tensor *t = info->tensor;
        if (!info->default_init) continue;
        t->init = zeros;
        if (t->kind == TENSOR_PARAM && t->type.rank >= 2) {
            t->init = xavier;
            for (size_t k = 0; k < lw->m->routines.len; k++) {
                const Routine *r = lw->m->routines.data[k];
                const Node *param = find_param(r, t);
                if (!param) continue;
                if (feeds_relu(lw, r, param)) t->init = he;
                break;
            }
        }
        if (t->init) {
            for (int k = 0; k < 4; k++) t->init_args[k] = t->init->args[k] ? t->init->def[k] : 0;
        }
    }
}
