/* SPDX-License-Identifier: MIT
 *
 * Calls. In: a call expression and, in a pipe, the value in front of it. Out: its value. A name means
 * a layer of the model, a built-in function (builtin.c), the user's block, the standard library's block, or an
 * operator (call_operator.c), in this order.
 */
#include "front/lower.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- blocks ---- */

Decl *find_block(Lower *lw, const char *name, bool *is_user)
{
    Decl *d = map_get(lw->globals, name);
    *is_user = d && (d->item->kind == IT_BLOCK || d->item->kind == IT_LOSS);
    return *is_user ? d : map_get(lw->std, name);
}

static const char *signature(Lower *lw, const Decl *d)
{
    StrBuf sb;
    sb_init(&sb, lw->a);
    sb_printf(&sb, "%s(", d->name.text);
    for (size_t i = 0; i < d->item->formals.len; i++) {
        const Formal *p = &d->item->formals.data[i];
        sb_printf(&sb, "%s%s%s", i ? ", " : "", p->name.text, p->optional ? "?" : "");
        if (p->type) sb_printf(&sb, ": %s%s", p->type->name.text, p->type->shaped ? "[...]" : "");
        if (p->def) {
            sb_puts(&sb, " = ");
            expr_print(&sb, p->def);
        }
    }
    sb_putc(&sb, ')');
    return sb.text;
}

static bool is_tensor_formal(const Formal *p)
{
    return !p->type || p->type->shaped || strcmp(p->type->name.text, "f32") == 0 ||
           strcmp(p->type->name.text, "i32") == 0;
}

typedef struct BlockCall {
    const Decl *block;
    Value *values; /* per formal */
    bool *given;
    const Layer *layer; /* not NULL: only open tensors may be given */
    bool binding;       /* `layer` declaration: only compile-time arguments may be given */
    bool failed;
} BlockCall;

/* May this formal be given by position in this kind of call? */
static bool takes_position(const BlockCall *c, size_t i)
{
    const Formal *p = &c->block->item->formals.data[i];
    if (c->given[i]) return false;
    if (c->layer) return is_tensor_formal(p);
    if (c->binding) return !is_tensor_formal(p);
    return true;
}

static void put_formal(Frame *f, BlockCall *c, size_t i, const CallArg *arg)
{
    const Formal *p = &c->block->item->formals.data[i];
    FormalKind kind = FK_TENSOR;
    Value v = arg->value;
    if (!formal_kind(f, p, &kind)) {
        c->failed = true;
        return;
    }
    if (arg->expr) v = eval_as(f, arg->expr, kind);
    if (!arg->expr || v.kind != V_ERROR) {
        if (!(f->block && f->block->is_std) && arg->expr) v.span = arg->expr->span;
        v = convert(f, p, v);
    }
    if (v.kind == V_ERROR) c->failed = true;
    c->values[i] = v;
    c->given[i] = true;
}

static void put_named_formal(Frame *f, BlockCall *c, const CallArgVec *args, size_t at)
{
    const CallArg *arg = &args->data[at];
    const FormalVec *formals = &c->block->item->formals;
    VEC(const char *) known = { 0 };
    for (size_t i = 0; i < formals->len; i++) {
        const Formal *p = &formals->data[i];
        vec_push(f->lw->a, &known, p->name.text);
        if (strcmp(p->name.text, arg->name.text) != 0) continue;
        const bool open = is_tensor_formal(p);
        if ((c->layer && !open) || (c->binding && open)) {
            Diagnostic *m = report(f, arg->name.span, "argument-layer", "%s is %s", p->name.text,
                                   open ? "a tensor: it is given when the layer is called"
                                        : "bound in the layer's declaration");
            if (c->layer) diag_note(m, c->layer->span, "%s is declared here", c->layer->name);
            c->failed = true;
            return;
        }
        if (c->given[i]) {
            Diagnostic *m =
                report(f, arg->name.span, "argument-twice", "%s is given twice", p->name.text);
            if (c->values[i].span.source) diag_also(m, c->values[i].span);
            for (size_t k = 0; k < at; k++)
                if (args->data[k].name.text && strcmp(args->data[k].name.text, arg->name.text) == 0)
                    diag_also(m, args->data[k].name.span);
            c->failed = true;
            return;
        }
        put_formal(f, c, i, arg);
        return;
    }
    Diagnostic *m = report(f, arg->name.span, "argument-unknown", "%s has no argument '%s'",
                           c->block->name.text, arg->name.text);
    suggest(m, arg->name.text, known.data, known.len);
    diag_note(m, (Span){ 0 }, "%s", signature(f->lw, c->block));
    c->failed = true;
}

static void put_block_args(Frame *f, BlockCall *c, const CallArgVec *args)
{
    const FormalVec *formals = &c->block->item->formals;
    size_t next = 0;
    bool named = false;
    for (size_t i = 0; i < args->len && !f->lw->stop; i++) {
        const CallArg *arg = &args->data[i];
        if (arg->name.text) {
            named = true;
            put_named_formal(f, c, args, i);
            continue;
        }
        const Span span = arg->expr ? arg->expr->span : arg->value.span;
        if (named) {
            report(f, span, "argument-order", "arguments after a named one must be named");
            c->failed = true;
            return;
        }
        while (next < formals->len && !takes_position(c, next)) next++;
        if (next == formals->len) {
            Diagnostic *m = report(f, span, "argument-count", "%s: too many arguments",
                                   c->layer ? c->layer->name : c->block->name.text);
            diag_note(m, (Span){ 0 }, "%s", signature(f->lw, c->block));
            if (c->layer) diag_hint(m, "compile-time arguments stand in the layer's declaration");
            if (c->binding) diag_hint(m, "tensors are given when the layer is called");
            c->failed = true;
            return;
        }
        put_formal(f, c, next++, arg);
    }
}

/* Defaults are evaluated in the block's own scope: they may use formals to their left. */
static void put_default(Frame *body, BlockCall *c, size_t i)
{
    const Formal *p = &c->block->item->formals.data[i];
    FormalKind kind = FK_TENSOR;
    if (!formal_kind(body, p, &kind)) {
        c->failed = true;
        return;
    }
    if (p->optional) {
        c->values[i] = (Value){ .kind = V_ABSENT };
    } else if (p->def) {
        c->values[i] = convert(body, p, eval_as(body, p->def, kind));
        if (c->values[i].kind == V_ERROR) c->failed = true;
    }
}

/* A bound of a range: a number, or what another argument was given. */
static double range_bound(const BlockCall *c, const char *text, size_t n, char *shown, size_t size)
{
    snprintf(shown, size, "%.*s", (int)n, text);
    const FormalVec *formals = &c->block->item->formals;
    for (size_t i = 0; i < formals->len; i++) {
        const Value *v = &c->values[i];
        const char *name = formals->data[i].name.text;
        if (strlen(name) != n || strncmp(name, text, n)) continue;
        const double x = v->kind == V_INT ? (double)v->i : v->kind == V_FLOAT ? v->f : NAN;
        snprintf(shown, size, "%s = %g", name, x);
        return x;
    }
    return strtod(text, NULL);
}

static bool wrong_rank(Frame *f, BlockCall *c, const Formal *p, const Value *v, const char *range)
{
    const int least = atoi(range + strcspn(range, "0123456789"));
    const bool exact = strchr(range, '=') && !strchr(range, '>');
    if (v->kind != V_TENSOR || (exact ? v->node->type.rank == least : v->node->type.rank >= least)) return false;
    report(f, v->span, "argument-range", "%s: %s must have %s%d axes, found %s", c->block->name.text, p->name.text,
           exact ? "" : "at least ", least, type_text(f->lw->a, &v->node->type));
    return true;
}

static bool out_of_range(Frame *f, const BlockCall *c, const Formal *p, const Value *v, const char *range)
{
    if (v->kind != V_INT && v->kind != V_FLOAT) return false;
    const char *open = range + strcspn(range, "[("), *comma = range + strcspn(range, ","), *from = open + 1;
    const char *to = comma + strspn(comma, ", "), *end = to + strcspn(to, ")]");
    char low[64], high[64];
    const double x = v->kind == V_INT ? (double)v->i : v->f;
    const double min = range_bound(c, from, (size_t)(comma - from), low, sizeof low);
    const double max = range_bound(c, to, (size_t)(end - to), high, sizeof high);
    const bool below = *open == '(' ? x <= min : x < min, above = *end == ')' ? x >= max : x > max;
    if (!below && !above) return false;
    if (isinf(max))
        report(f, v->span, "argument-range", "%s must be %s %s, found %g", p->name.text,
               *open == '(' ? "greater than" : "at least", low, x);
    else
        report(f, v->span, "argument-range", "%s must be in %c%s, %s%c, found %g", p->name.text, *open, low, high, *end,
               x);
    return true;
}

/* What a block of the library states in front of it: "delta in (0, inf)", "rank(x) = 3", "rank(x) >= 2". */
static void check_ranges(Frame *f, BlockCall *c)
{
    const FormalVec *formals = &c->block->item->formals;
    if (!c->block->is_std || c->failed) return;
    const StdBlock doc = block_doc(f->lw->a, c->block);
    for (size_t k = 0; k < doc.n_ranges && !c->failed; k++) {
        const bool rank = strncmp(doc.ranges[k], "rank(", 5) == 0;
        const char *name = doc.ranges[k] + (rank ? 5 : 0);
        for (size_t i = 0; i < formals->len && !c->failed; i++) {
            const Formal *p = &formals->data[i];
            const size_t n = strlen(p->name.text);
            if (strncmp(p->name.text, name, n) || (name[n] != ' ' && name[n] != ')')) continue;
            c->failed = rank ? wrong_rank(f, c, p, &c->values[i], doc.ranges[k])
                             : out_of_range(f, c, p, &c->values[i], doc.ranges[k]);
        }
    }
}

static bool complete_args(Frame *f, Frame *body, BlockCall *c, Span span)
{
    const FormalVec *formals = &c->block->item->formals;
    check_ranges(f, c); /* what was given, before defaults are made of it */
    for (size_t i = 0; i < formals->len && !c->failed; i++) {
        const Formal *p = &formals->data[i];
        if (!c->given[i] && !p->optional && !p->def) {
            Diagnostic *m = report(f, span, "argument-missing", "%s needs its argument '%s'",
                                   c->layer ? c->layer->name : c->block->name.text, p->name.text);
            diag_note(m, (Span){ 0 }, "%s", signature(f->lw, c->block));
            c->failed = true;
            break;
        }
        if (!c->given[i]) put_default(body, c, i);
        bind(body, p->name.text, c->values[i],
             (Binding){ .formal = p, .fixed = !is_tensor_formal(p) });
    }
    check_ranges(f, c);
    return !c->failed;
}

static const char *args_text(Lower *lw, const BlockCall *c)
{
    StrBuf sb;
    sb_init(&sb, lw->a);
    for (size_t i = 0; i < c->block->item->formals.len; i++) {
        const Formal *p = &c->block->item->formals.data[i];
        if (is_tensor_formal(p) || !c->given[i]) continue;
        sb_printf(&sb, "%s%s = ", sb.len ? ", " : "", p->name.text);
        v_print(&sb, &c->values[i]);
    }
    return sb.text;
}

static bool may_enter(Frame *f, const Decl *block, Span span)
{
    Lower *lw = f->lw;
    for (Frame *at = f; at; at = at->caller) {
        if (at->block != block) continue;
        report(f, span, "block-recursion", "block %s calls itself", block->name.text);
        return false;
    }
    if (f->depth >= MAX_BLOCK_DEPTH) {
        report(f, span, "limit-depth", "blocks call blocks more than %d levels deep",
               MAX_BLOCK_DEPTH);
        *lw->exit_code = 4;
        lw->stop = true;
        return false;
    }
    if (++lw->n_instances > MAX_INSTANCES) {
        report(f, span, "limit-instances", "the model has more than %d block instances",
               MAX_INSTANCES);
        *lw->exit_code = 4;
        lw->stop = true;
        return false;
    }
    return true;
}

static Value run_block(Frame *body, const Decl *block, Span span)
{
    if (block->item->kind == IT_LOSS) return eval(body, block->item->a);
    exec_body(body, &block->item->body);
    if (body->returned) return body->result;
    if (!body->lw->stop) {
        Diagnostic *m = report(body, block->item->span, "block-return", "block %s returns nothing",
                               block->name.text);
        if (m) diag_note(m, span, "called here");
    }
    return v_error();
}

static const char *with_loops(Frame *f, const char *label)
{
    StrBuf sb;
    sb_init(&sb, f->lw->a);
    sb_puts(&sb, label);
    for (size_t i = 0; i < f->loops.len; i++) sb_printf(&sb, "[%" PRId64 "]", f->loops.data[i]);
    return sb.text;
}

/* One name, loop indices included, means one place in a body. */
static bool claim_label(Frame *f, const char *label, Expr *e)
{
    Expr *other = map_get(f->labels, label);
    if (other && other != e) {
        Diagnostic *m = report(f, e->label.text ? e->label.span : e->span, "label-twice",
                               "the name %s is already taken in this body", label);
        diag_note(m, other->label.text ? other->label.span : other->span, "by this call");
        return false;
    }
    map_set(f->labels, label, e);
    return true;
}

/* Readable names in dumps and in generated code: a value is called like the instance that made it. */
static void name_result(Value *v, const char *label)
{
    if (v->kind != V_TENSOR || !label || op_has(v->node, OPF_SOURCE)) return;
    if (strcmp(v->node->name, v->node->op->name) == 0) v->node->name = label;
}

static Value call_block(Frame *f, const Decl *block, const CallArgVec *args, Expr *e)
{
    Lower *lw = f->lw;
    const size_t n = block->item->formals.len;
    BlockCall c = { .block = block,
                    .values = ARENA_ARRAY(lw->a, Value, n),
                    .given = ARENA_ARRAY(lw->a, bool, n) };
    put_block_args(f, &c, args);
    if (c.failed || lw->stop || !may_enter(f, block, e->span)) return v_error();
    const char *label =
        e->label.text ? e->label.text : arena_printf(lw->a, "%s_%d", block->name.text, e->ordinal);
    const char *full = with_loops(f, label);
    if (!claim_label(f, full, e)) return v_error();
    Frame *body = frame_new(lw, f);
    Inst *inst = ARENA_NEW(lw->a, Inst);
    inst->parent = f->inst;
    inst->block = block->name.text;
    inst->args = args_text(lw, &c);
    inst->label = full;
    inst->path = *f->path ? arena_printf(lw->a, "%s.%s", f->path, inst->label) : inst->label;
    inst->call = e->span;
    body->block = block;
    body->inst = f->block && f->block->is_std
                     ? f->inst
                     : inst; /* how the library is built is its own affair */
    body->path = inst->path;
    body->may_own = f->may_own;
    if (!complete_args(f, body, &c, e->span)) return v_error();
    Value v = run_block(body, block, e->span);
    name_result(&v, e->label.text);
    if (!(f->block && f->block->is_std)) v.span = e->span;
    return v;
}

static Value call_layer(Frame *f, Layer *layer, const CallArgVec *args, Expr *e)
{
    Lower *lw = f->lw;
    const size_t n = layer->block->item->formals.len;
    BlockCall c = { .block = layer->block,
                    .layer = layer,
                    .values = ARENA_ARRAY(lw->a, Value, n),
                    .given = ARENA_ARRAY(lw->a, bool, n) };
    layer->called = true;
    for (size_t i = 0; i < n; i++) {
        c.values[i] = layer->bound[i];
        c.given[i] = layer->bound[i].kind != V_ABSENT;
    }
    put_block_args(f, &c, args);
    if (c.failed || lw->stop || !may_enter(f, layer->block, e->span)) return v_error();
    Frame *body = frame_new(lw, f);
    Inst *inst = ARENA_NEW(lw->a, Inst);
    inst->parent = f->inst;
    inst->block = layer->block->name.text;
    inst->args = layer->args_text;
    inst->label = layer->name;
    inst->path = layer->name;
    inst->call = e->span;
    body->block = layer->block;
    body->inst = inst;
    body->path = layer->name;
    body->may_own = true;
    if (!complete_args(f, body, &c, e->span)) return v_error();
    Value v = run_block(body, layer->block, e->span);
    v.span = e->span;
    return v;
}

static void collect_args(Frame *f, const Expr *e, const Value *piped, CallArgVec *args)
{
    if (piped) vec_push(f->lw->a, args, (CallArg){ .value = *piped });
    for (size_t i = 0; i < e->args.len; i++)
        vec_push(f->lw->a, args,
                 (CallArg){ .name = e->args.data[i].name, .expr = e->args.data[i].value });
}

/* A hint where PyTorch knows a block of the library or an operator by this name. */
static bool suggest_twin(Lower *lw, Diagnostic *m, const char *name)
{
    for (size_t i = 0; i < lw->decls.len; i++) {
        const Decl *d = lw->decls.data[i];
        if (!d->is_std || (d->item->kind != IT_BLOCK && d->item->kind != IT_LOSS)) continue;
        const StdBlock doc = block_doc(lw->a, d);
        if (!is_torch_name(name, doc.torch)) continue;
        suggest_torch(m, doc.torch, d->name.text);
        return true;
    }
    for (size_t i = 0; i < op_table_len; i++) {
        if ((op_table[i]->flags & OPF_INTERNAL) || !is_torch_name(name, op_table[i]->torch)) continue;
        suggest_torch(m, op_table[i]->torch, op_table[i]->name);
        return true;
    }
    return false;
}

static Value unknown_function(Frame *f, const Expr *e)
{
    Lower *lw = f->lw;
    VEC(const char *) known = { 0 };
    for (size_t i = 0; i < lw->layers.len; i++) vec_push(lw->a, &known, lw->layers.data[i]->name);
    for (size_t i = 0; i < lw->decls.len; i++) {
        const ItemKind kind = lw->decls.data[i]->item->kind;
        if (kind == IT_BLOCK || kind == IT_LOSS)
            vec_push(lw->a, &known, lw->decls.data[i]->name.text);
    }
    for (size_t i = 0; i < op_table_len; i++)
        if (!(op_table[i]->flags & OPF_INTERNAL)) vec_push(lw->a, &known, op_table[i]->name);
    const char *name = e->path->head.text;
    Diagnostic *m =
        report(f, e->path->head.span, "name-unknown", "unknown block or operator '%s'", name);
    if (f->block && lw->members && map_get(lw->members, name))
        diag_hint(m, "%s belongs to the model; a block cannot see it", name);
    else if (!suggest_twin(lw, m, name))
        suggest(m, name, known.data, known.len);
    return v_error();
}

Layer *bind_layer(Frame *f, const char *name, Expr *call)
{
    Lower *lw = f->lw;
    bool is_user = false;
    const char *block_name = call->path->head.text;
    const Decl *block = find_block(lw, block_name, &is_user);
    if (call->label.text)
        report(f, call->label.span, "label-layer", "a layer already has its name: %s", name);
    if (call->path->steps.len || !block || block->item->kind != IT_BLOCK) {
        if (call->path->steps.len || op_find(block_name) || block) {
            Diagnostic *m =
                report(f, call->span, "layer-block",
                       "a layer is an instance of a block; '%s' is not one", block_name);
            diag_hint(m, "operators and losses have no parameters and are called directly");
        } else {
            unknown_function(f, call);
        }
        return NULL;
    }
    const size_t n = block->item->formals.len;
    BlockCall c = { .block = block,
                    .binding = true,
                    .values = ARENA_ARRAY(lw->a, Value, n),
                    .given = ARENA_ARRAY(lw->a, bool, n) };
    CallArgVec args = { 0 };
    collect_args(f, call, NULL, &args);
    put_block_args(f, &c, &args);
    if (c.failed) return NULL;
    for (size_t i = 0; i < n; i++) {
        const Formal *p = &block->item->formals.data[i];
        if (!c.given[i]) c.values[i] = (Value){ .kind = V_ABSENT };
        if (c.given[i] || is_tensor_formal(p) || p->def) continue;
        Diagnostic *m = report(f, call->span, "argument-missing", "%s needs its argument '%s'",
                               block_name, p->name.text);
        diag_note(m, (Span){ 0 }, "%s", signature(lw, block));
        return NULL;
    }
    Layer *layer = ARENA_NEW(lw->a, Layer);
    *layer = (Layer){ .name = name,
                      .block = block,
                      .bound = c.values,
                      .args_text = args_text(lw, &c),
                      .span = call->span };
    return layer;
}

/* ---- calls ---- */

Value eval_call(Frame *f, Expr *e, const Value *piped)
{
    Lower *lw = f->lw;
    const Path *p = e->path;
    const char *name = p->head.text;
    CallArgVec args = { 0 };
    if (p->steps.len) {
        const char *field = p->steps.data[0].field;
        if (strcmp(name, "ops") != 0 || p->steps.len != 1 || !field) {
            report(f, p->span, "call", "only blocks, layers and operators can be called");
            return v_error();
        }
        const OpDesc *op = op_find(field);
        if (!op || (op->flags & OPF_INTERNAL)) {
            VEC(const char *) known = { 0 };
            for (size_t i = 0; i < op_table_len; i++)
                if (!(op_table[i]->flags & OPF_INTERNAL))
                    vec_push(lw->a, &known, op_table[i]->name);
            Diagnostic *m =
                report(f, p->steps.data[0].span, "name-unknown", "unknown operator '%s'", field);
            suggest(m, field, known.data, known.len);
            return v_error();
        }
        collect_args(f, e, piped, &args);
        Value v = call_operator(f, op, &args, e->span);
        name_result(&v, e->label.text);
        return v;
    }
    Binding *b = lookup(f, name);
    if (b && b->value.kind == V_ERROR && !map_get(f->names, name)) return v_error();
    if (b && b->value.kind == V_LAYER && !map_get(f->names, name)) {
        if (e->label.text) {
            report(f, e->label.span, "label-layer", "the layer %s already has its name", name);
            return v_error();
        }
        collect_args(f, e, piped, &args);
        return call_layer(f, b->value.layer, &args, e);
    }
    bool is_user = false, handled = false;
    const Decl *block = find_block(lw, name, &is_user);
    if (f->block && f->block->is_std && is_user) block = map_get(lw->std, name);
    is_user = is_user && block && !block->is_std;
    collect_args(f, e, piped, &args);
    if (!is_user) {
        Value v = call_builtin(f, e, &args, &handled);
        if (handled) return v;
        if (lw->stop) return v_error();
        if ((strcmp(name, "l1") == 0 || strcmp(name, "l2") == 0) && !piped)
            return eval_penalty(f, e, name[1] == '2');
    }
    if (block) return call_block(f, block, &args, e);
    const OpDesc *op = op_find(name);
    if (!op || (op->flags & OPF_INTERNAL)) return unknown_function(f, e);
    Value v = call_operator(f, op, &args, e->span);
    name_result(&v, e->label.text);
    return v;
}
