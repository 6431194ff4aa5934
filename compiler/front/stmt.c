/* SPDX-License-Identifier: MIT
 *
 * Executes statements: bindings, loops, branches, declarations of tensors, and the time loop `scan`.
 * Invariant: after an error the statement's names are bound to V_ERROR, so that one
 * fault is one message.
 */
#include "front/lower.h"

#include <inttypes.h>
#include <string.h>

Frame *frame_new(Lower *lw, Frame *caller)
{
    Frame *f = ARENA_NEW(lw->a, Frame);
    f->lw = lw;
    f->caller = caller;
    f->names = map_new(lw->a);
    f->labels = map_new(lw->a);
    f->path = "";
    f->depth = caller ? caller->depth + 1 : 0;
    return f;
}

bool count_step(Frame *f, Span span)
{
    Lower *lw = f->lw;
    if (lw->stop) return false;
    if (++lw->n_steps <= MAX_STEPS) return true;
    report(f, span, "limit-steps", "the program executes more than %d statements at compile time",
           MAX_STEPS);
    *lw->exit_code = 4;
    lw->stop = true;
    return false;
}

void bind(Frame *f, const char *name, Value v, Binding extra)
{
    Binding *b = map_get(f->names, name);
    if (!b) {
        b = ARENA_NEW(f->lw->a, Binding);
        map_set(f->names, name, b);
    }
    *b = extra;
    b->value = v;
}

/* ---- state ---- */

static void put_state(Lower *lw, StateVar *s)
{
    map_set(lw->states, s->tensor->path, s);
    vec_push(lw->a, &lw->state_list, s);
}

StateVar *state_var(Frame *f, TensorInfo *info, bool in_block)
{
    Lower *lw = f->lw;
    StateVar *s = map_get(lw->states, info->tensor->path);
    if (s) return s;
    s = ARENA_NEW(lw->a, StateVar);
    *s = (StateVar){
        .tensor = info->tensor, .in_block = in_block, .owner = f->path, .span = info->span
    };
    lw->b.span = caller_span(f, info->span);
    lw->b.inst = f->inst;
    lw->b.name = strrchr(info->tensor->path, '.') ? strrchr(info->tensor->path, '.') + 1
                                                  : info->tensor->path;
    s->now =
        v_node(mk(&lw->b, &op_state, &(IndexAttrs){ info->tensor->index }, 0, NULL), info->span);
    put_state(lw, s);
    return s;
}

void assign_state(Frame *f, StateVar *s, Value v, Span span)
{
    Lower *lw = f->lw;
    if (lw->b.scan && s->in_block && !s->carried) {
        Diagnostic *d =
            report(f, span, "scan-state", "%s cannot be assigned inside a scan", s->tensor->path);
        diag_hint(d, "pass the value in and out of the block instead");
        return;
    }
    s->assigned = true;
    Node *n = to_node(f, &v, &s->tensor->type);
    s->now = v_node(n, caller_span(f, span));
    if (!n || type_equal(&n->type, &s->tensor->type)) return;
    Diagnostic *m =
        report(f, span, "state-type", "%s is %s, the assigned value is %s", s->tensor->path,
               type_text(lw->a, &s->tensor->type), type_text(lw->a, &n->type));
    diag_note(m, s->span, "declared here");
    s->now = v_error();
}

/* ---- tensors ---- */

Value param_value(Frame *f, TensorInfo *info, Span span)
{
    Lower *lw = f->lw;
    const char *path = info->tensor->path;
    map_set(lw->touched, path, info);
    lw->b.span = info->tensor->span;
    lw->b.inst = info->tensor->inst;
    lw->b.name = strrchr(path, '.') ? strrchr(path, '.') + 1 : path;
    return v_node(mk(&lw->b, &op_param, &(IndexAttrs){ info->tensor->index }, 0, NULL), span);
}

static TensorInfo *new_tensor(Frame *f, const Stmt *s, const char *path, const TensorType *type)
{
    Lower *lw = f->lw;
    TensorInfo *info = ARENA_NEW(lw->a, TensorInfo);
    Tensor *t = ARENA_NEW(lw->a, Tensor);
    t->path = path;
    t->kind = s->kind == ST_PARAM ? TENSOR_PARAM : TENSOR_STATE;
    t->type = *type;
    t->span = caller_span(f, s->span);
    t->inst = f->inst;
    t->index = (int)lw->m->tensors.len;
    Value init = s->a ? eval_init(f, s->a) : (Value){ .kind = V_INIT };
    if (init.kind == V_INIT && init.init) {
        t->init = init.init;
        memcpy(t->init_args, init.init_args, sizeof t->init_args);
    } else if (init.kind == V_INIT) {
        info->default_init = true;
    }
    if (t->kind == TENSOR_PARAM) tensor_fans(t);
    const Inst *top = f->inst;
    while (top && top->parent) top = top->parent;
    info->tensor = t;
    info->span = s->span;
    info->first_call = f->inst ? f->inst->call : s->span;
    info->layer = top ? top->label : "";
    vec_push(lw->a, &lw->m->tensors, t);
    vec_push(lw->a, &lw->info_list, info);
    map_set(lw->infos, path, info);
    return info;
}

/* The same instance met again, in this routine or another, must want the same tensor. */
static bool same_tensor(Frame *f, const Stmt *s, const TensorInfo *info, const TensorType *type)
{
    const Tensor *t = info->tensor;
    if (type_equal(&t->type, type)) return true;
    Diagnostic *m = report(f, f->inst ? f->inst->call : s->span, "shared-shape",
                           "%s is %s here, but %s at an earlier call of the same instance", t->path,
                           type_text(f->lw->a, type), type_text(f->lw->a, &t->type));
    diag_note(m, info->first_call, "the earlier call");
    return false;
}

void declare_tensor(Frame *f, const Stmt *s)
{
    Lower *lw = f->lw;
    const char *word = s->kind == ST_PARAM ? "parameter" : "state";
    const char *path =
        *f->path ? arena_printf(lw->a, "%s.%s", f->path, s->name.text) : s->name.text;
    const bool in_model = !f->inst && !lw->r;
    bind(f, s->name.text, v_error(), (Binding){ .used = true });
    if (!in_model && !f->may_own) {
        Diagnostic *m;
        f->returned = f->block != NULL;
        if (!f->inst) {
            m = report(f, s->span, "param-routine", "a routine cannot declare a %s", word);
            diag_hint(m, "declare it in the model or in a block");
            return;
        }
        const Inst *top = f->inst;
        while (top->parent) top = top->parent;
        m = report(f, top->call, "param-routine", "%s has %s '%s' and must be a layer of the model",
                   top->block, s->kind == ST_PARAM ? "the parameter" : "the state", s->name.text);
        diag_hint(m, "declare `layer NAME = %s(...);` in the model, so that routines share it",
                  top->block);
        return;
    }
    TensorType type;
    lw->typing = path;
    const bool typed = eval_type(f, s->type, &type);
    lw->typing = NULL;
    if (!typed) {
        f->returned = f->block != NULL; /* without its tensor the block means nothing */
        return;
    }
    if (s->kind == ST_PARAM && (type.dtype != DT_F32 || type.batch)) {
        report(f, s->type->span, "param-type", "a parameter is f32 with constant sizes, found %s",
               type_text(lw->a, &type));
        return;
    }
    TensorInfo *info = map_get(lw->infos, path);
    if (!info) {
        info = new_tensor(f, s, path, &type);
    } else if (info->span.start != s->span.start || info->span.source != s->span.source) {
        Diagnostic *m = report(f, s->span, "name-twice", "%s is declared twice", path);
        diag_note(m, info->span, "the first declaration");
        return;
    } else if (!same_tensor(f, s, info, &type)) {
        return;
    }
    if (in_model) {
        return;
    } else if (s->kind == ST_PARAM) {
        bind(f, s->name.text, param_value(f, info, s->span),
             (Binding){ .used = true, .fixed = true });
    } else {
        StateVar *state = state_var(f, info, true);
        bind(f, s->name.text, state->now, (Binding){ .used = true, .state = state });
    }
}

/* ---- assignment ---- */

static void assign(Frame *f, Target *t, Value v)
{
    Lower *lw = f->lw;
    const char *name = t->name.text;
    if (t->type && v.kind != V_ERROR) {
        TensorType want;
        Node *n = to_node(f, &v, NULL);
        if (n && eval_type(f, t->type, &want) && !type_equal(&want, &n->type)) {
            Diagnostic *m = report(f, t->type->span, "type-annotation",
                                   "%s is annotated %s, but its value is %s", name,
                                   type_text(lw->a, &want), type_text(lw->a, &n->type));
            diag_also(m, v.span);
        }
        v = v_node(n, v.span);
    }
    Binding *b = map_get(f->names, name);
    if (!b && !f->block && lw->members) {
        Binding *member = map_get(lw->members, name);
        TensorInfo *info = member && member->value.kind == V_ABSENT
                               ? map_get(lw->infos, member->value.word)
                               : NULL;
        if (info && info->tensor->kind == TENSOR_STATE) {
            member->used = true;
            assign_state(f, state_var(f, info, false), v, t->name.span);
            return;
        }
        if (member) {
            report(f, t->name.span, "assign-fixed",
                   "%s belongs to the model and cannot be assigned", name);
            return;
        }
    }
    if (b && b->state) {
        assign_state(f, b->state, v, t->name.span);
        return;
    }
    if (b && b->fixed) {
        report(f, t->name.span, "assign-fixed", "%s is fixed and cannot be assigned", name);
        return;
    }
    if (!t->bound) vec_push(lw->a, &lw->assigned, t);
    t->bound = true;
    if (v.kind == V_ERROR) t->used = true;
    const bool is_std =
        f->block && f->block->is_std; /* the library's names would tell the user nothing */
    if (v.kind == V_TENSOR && !is_std && !op_has(v.node, OPF_SOURCE) &&
        strcmp(v.node->name, v.node->op->name) == 0)
        v.node->name = name;
    bind(f, name, v, (Binding){ .target = t });
}

static void exec_assign(Frame *f, Stmt *s)
{
    Lower *lw = f->lw;
    ValueVec all = { 0 };
    bool failed = false;
    for (size_t i = 0; i < s->values.len; i++) {
        Value v = eval(f, s->values.data[i]);
        failed |= v.kind == V_ERROR;
        const bool spread =
            s->values.len == 1 && s->targets.len > 1 && (v.kind == V_TUPLE || v.kind == V_LIST);
        for (size_t k = 0; spread && k < v.list->len; k++) vec_push(lw->a, &all, v.list->data[k]);
        if (!spread) vec_push(lw->a, &all, v);
    }
    if (!failed && !lw->stop && all.len == 1 && s->targets.len == 1 &&
        all.data[0].kind == V_TUPLE) {
        report(f, s->span, "assign-count", "%zu values for one name", all.data[0].list->len);
        failed = true;
    } else if (!failed && !lw->stop && all.len != s->targets.len) {
        report(f, s->span, "assign-count", "%zu value%s for %zu names", all.len,
               all.len == 1 ? "" : "s", s->targets.len);
        failed = true;
    }
    for (size_t i = 0; i < s->targets.len; i++)
        assign(f, &s->targets.data[i], failed ? v_error() : all.data[i]);
}

/* ---- loops and branches ---- */

static void exec_if(Frame *f, const Stmt *s)
{
    for (size_t i = 0; i < s->arms.len; i++) {
        const IfArm *arm = &s->arms.data[i];
        bool yes = true;
        if (arm->cond) {
            Value c = eval(f, arm->cond);
            if (!to_bool(f, &c, "condition of if", &yes)) {
                /* Which branch was meant is unknown, so are the names it would bind: stop this body. */
                f->returned = true;
                f->result = v_error();
                return;
            }
        }
        if (!yes) continue;
        exec_body(f, &arm->body);
        return;
    }
}

static void exec_for(Frame *f, const Stmt *s)
{
    Lower *lw = f->lw;
    Value from = eval(f, s->a), to = eval(f, s->b);
    int64_t lo, hi;
    if (!to_int(f, &from, "start of the loop", &lo) || !to_int(f, &to, "end of the loop", &hi)) {
        f->returned = true;
        f->result = v_error();
        return;
    }
    const Binding *before = map_get(f->names, s->name.text);
    Binding *outer = before ? arena_dup(lw->a, before, sizeof *before) : NULL;
    vec_push(lw->a, &f->loops, 0);
    for (int64_t i = lo; i < hi && !f->returned && count_step(f, s->span); i++) {
        f->loops.data[f->loops.len - 1] = i;
        bind(f, s->name.text, v_int(i, s->name.span), (Binding){ .fixed = true });
        exec_body(f, &s->body);
    }
    f->loops.len--;
    map_set(f->names, s->name.text, outer);
}

/* One step's slice of a sequence, without the time axis. */
static Node *take_step(Frame *f, Node *x, int axis, int64_t t, Span span)
{
    static const char *const names[] = { "axis", "start", "stop" };
    Node *part = apply_ints(f, "slice", x, span, 3, names, (int64_t[]){ axis, t, t + 1 });
    if (!part) return NULL;
    TensorType shape = part->type;
    memmove(&shape.dim[axis], &shape.dim[axis + 1],
            sizeof shape.dim[0] * (size_t)(shape.rank - axis - 1));
    shape.dim[--shape.rank] = 0;
    return apply_shape(f, "reshape", part, span, &shape);
}

static Node *add_axis(Frame *f, Node *x, int axis, Span span)
{
    if (!x) return NULL;
    TensorType shape = x->type;
    if (shape.rank == MAX_RANK || axis > shape.rank) {
        report(f, span, "scan-yield", "cannot stack %s along axis %d",
               type_text(f->lw->a, &x->type), axis);
        return NULL;
    }
    memmove(&shape.dim[axis + 1], &shape.dim[axis],
            sizeof shape.dim[0] * (size_t)(shape.rank - axis));
    shape.dim[axis] = 1;
    shape.rank++;
    return apply_shape(f, "reshape", x, span, &shape);
}

static Value stack_yield(Frame *f, const Yield *y, int axis)
{
    Lower *lw = f->lw;
    const OpDesc *concat = need_op(f, "concat", y->span);
    CallArgVec args = { 0 };
    if (!concat) return v_error();
    for (size_t i = 0; i < y->values.len; i++) {
        Node *n = add_axis(f, y->values.data[i], axis, y->span);
        if (!n) return v_error();
        vec_push(lw->a, &args, (CallArg){ .value = v_node(n, y->span) });
    }
    /* An operator has a bounded number of operands: join in groups, then the groups. */
    while (args.len > 1) {
        CallArgVec joined = { 0 };
        for (size_t i = 0; i < args.len; i += OP_MAX_IN) {
            CallArgVec group = { 0 };
            for (size_t k = i; k < args.len && k < i + OP_MAX_IN; k++)
                vec_push(lw->a, &group, args.data[k]);
            Value v = group.data[0].value;
            if (group.len > 1) {
                Expr *number = expr_new(lw->a, EX_INT, y->span);
                number->i = axis;
                vec_push(lw->a, &group, (CallArg){ .name = { "axis", y->span }, .expr = number });
                v = call_operator(f, concat, &group, y->span);
            }
            if (v.kind == V_ERROR) return v;
            vec_push(lw->a, &joined, (CallArg){ .value = v });
        }
        args = joined;
    }
    return args.len ? args.data[0].value : v_error();
}

typedef struct ScanSource {
    Name name;
    Node *node;
} ScanSource;
typedef VEC(ScanSource) ScanSources;

static bool scan_sources(Frame *f, const Stmt *s, ScanSources *sources, int *axis)
{
    Lower *lw = f->lw;
    int64_t k = INT64_MIN;
    bool ok = true;
    Span axis_span = s->span;
    for (size_t i = 0; i < s->scan.len; i++) {
        const ScanItem *item = &s->scan.data[i];
        Value v = eval(f, item->value);
        if (item->is_option && strcmp(item->name.text, "axis") == 0) {
            ok &= to_int(f, &v, "axis", &k);
            axis_span = item->value->span;
        } else if (item->is_option) {
            Diagnostic *m = report(f, item->name.span, "argument-unknown",
                                   "scan has no option '%s'", item->name.text);
            suggest(m, item->name.text, (const char *const[]){ "axis" }, 1);
            ok = false;
        } else {
            Node *n = to_node(f, &v, NULL);
            ok &= n != NULL;
            vec_push(lw->a, sources, (ScanSource){ item->name, n });
        }
    }
    if (!ok) return false;
    if (sources->len == 0 || k == INT64_MIN) {
        report(f, s->span, "scan",
               sources->len ? "scan needs its axis: scan x in xs, axis = 1 { ... }"
                            : "scan needs a sequence: scan x in xs, axis = 1 { ... }");
        return false;
    }
    for (size_t i = 0; i < sources->len; i++) {
        const TensorType *t = &sources->data[i].node->type;
        if (k < 0 && sources->len == 1) k += t->rank;
        if (k < 0 || k >= t->rank) {
            report(f, axis_span, "axis-range", "axis %" PRId64 " is out of range for %s (rank %d)",
                   k, type_text(lw->a, t), t->rank);
            return false;
        }
        if (k == 0 && t->batch) {
            report(f, axis_span, "scan", "scan cannot run over the batch axis");
            return false;
        }
        const TensorType *first = &sources->data[0].node->type;
        if (t->dim[k] != first->dim[k]) {
            report(f, sources->data[i].name.span, "scan",
                   "the sequences differ in length: %s and %s", type_text(lw->a, first),
                   type_text(lw->a, t));
            return false;
        }
    }
    *axis = (int)k;
    return true;
}

/* ---- scan as a loop of the program ----
 *
 * Note [what a loop carries]
 * The body is executed once, in a graph of its own. A name that is bound to a tensor before the loop and
 * assigned in it, or a state that is, is carried: the body reads what the step before left. Other
 * names that the body binds belong to the step. Where compile-time values change from step to step
 * there is no such body, and the loop is unrolled instead.
 */
typedef struct Carry {
    const char *name;
    Span span;
    StateVar *state; /* NULL: a name of the frame */
    Node *init, *inner;
    Binding before;
    size_t input;     /* of the ScanBuild */
    bool was_carried; /* the state, by a loop around this one */
} Carry;

typedef struct Loop {
    VEC(Carry) carries;
    VEC(const char *) locals; /* names that are bound in the body only */
    bool unroll;
} Loop;

static TensorInfo *model_state(const Frame *f, const char *name)
{
    Binding *member = !f->block && f->lw->members ? map_get(f->lw->members, name) : NULL;
    TensorInfo *info =
        member && member->value.kind == V_ABSENT ? map_get(f->lw->infos, member->value.word) : NULL;
    if (!info || info->tensor->kind != TENSOR_STATE) return NULL;
    member->used = true;
    return info;
}

static void loop_name(Frame *f, Loop *loop, const Name *name)
{
    Lower *lw = f->lw;
    for (size_t i = 0; i < loop->carries.len; i++)
        if (!strcmp(loop->carries.data[i].name, name->text)) return;
    for (size_t i = 0; i < loop->locals.len; i++)
        if (!strcmp(loop->locals.data[i], name->text)) return;
    const Binding *b = map_get(f->names, name->text);
    TensorInfo *info = b ? NULL : model_state(f, name->text);
    Carry c = { .name = name->text, .span = name->span };
    if (b && b->state)
        c.state = b->state;
    else if (info)
        c.state = state_var(f, info, false);
    if (c.state) {
        Value v = read_state(f, c.state, name->span);
        c.init = v.kind == V_TENSOR ? v.node : NULL;
        loop->unroll |= !c.init;
        if (b) c.before = *b;
    } else if (!b) {
        vec_push(lw->a, &loop->locals, name->text);
        return;
    } else if (b->value.kind == V_TENSOR && !b->fixed) {
        c.init = b->value.node;
        c.before = *b;
        if (b->target) b->target->used = true; /* by the first step */
    } else {
        loop->unroll = true;
    }
    if (!loop->unroll) vec_push(lw->a, &loop->carries, c);
}

/* What a loop inside the body yields is bound there, too; the names of its sequences are gone after it. */
static void loop_names(Frame *f, Loop *loop, const StmtVec *body, bool inside)
{
    for (size_t i = 0; i < body->len; i++) {
        Stmt *s = body->data[i];
        switch (s->kind) {
        case ST_ASSIGN:
            for (size_t k = 0; k < s->targets.len; k++)
                loop_name(f, loop, &s->targets.data[k].name);
            break;
        case ST_IF:
            for (size_t k = 0; k < s->arms.len; k++)
                loop_names(f, loop, &s->arms.data[k].body, inside);
            break;
        case ST_FOR: loop_names(f, loop, &s->body, inside); break;
        case ST_SCAN: loop_names(f, loop, &s->body, true); break;
        case ST_YIELD:
            if (inside) loop_name(f, loop, &s->name);
            break;
        default: loop->unroll = true; break; /* tensors and results: step by step */
        }
    }
}

static void unbind(Frame *f, const char *name)
{
    map_set(f->names, name, NULL);
}

/* The carry's value after the step; NULL after reporting. */
static Node *next_value(Frame *f, const Carry *c)
{
    Value v;
    if (c->state) {
        v = c->state->now;
    } else {
        const Binding *b = map_get(f->names, c->name);
        v = b ? b->value : v_error();
        if (b && b->target) b->target->used = true; /* by the next step */
    }
    Node *n = v.kind == V_ERROR ? NULL : to_node(f, &v, &c->init->type);
    if (!n || type_equal(&n->type, &c->init->type)) return n;
    Diagnostic *m =
        report(f, c->span, "scan-carry", "%s is %s before the loop and %s after a step", c->name,
               type_text(f->lw->a, &c->init->type), type_text(f->lw->a, &n->type));
    diag_hint(m, "what a scan carries keeps its type: give %s its full shape before the loop",
              c->name);
    return NULL;
}

static bool is_read(const Routine *body, const Node *x)
{
    for (size_t i = 0; i < body->nodes.len; i++)
        for (int k = 0; k < body->nodes.data[i]->n_in; k++)
            if (body->nodes.data[i]->in[k] == x) return true;
    return false;
}

static void set_carry(Frame *f, const Carry *c, Node *n, Span span)
{
    const Value v = n ? v_node(n, span) : v_error();
    if (!c->state) {
        bind(f, c->name, v,
             (Binding){ .target = c->before.target, .formal = c->before.formal, .used = true });
        return;
    }
    c->state->now = v;
}

static void loop_scan(Frame *f, const Stmt *s, const ScanSources *sources, int axis, Loop *loop)
{
    Lower *lw = f->lw;
    ScanBuild build;
    Builder around = lw->b;
    around.span = caller_span(f, s->span);
    around.inst = f->inst;
    around.name = NULL;
    around.spans = NULL;
    const int64_t length = sources->data[0].node->type.dim[axis];
    const int errors = diag_errors(lw->d);
    scan_begin(&build, &around, length, axis, false);
    struct Scan scan = { .outer = f->scan, .build = &build };
    for (size_t i = 0; i < sources->len; i++) {
        const Name *name = &sources->data[i].name;
        Node *n = scan_input(&build, SCAN_SEQUENCE, sources->data[i].node, name->text);
        bind(f, name->text, v_node(n, name->span), (Binding){ 0 });
    }
    for (size_t i = 0; i < loop->carries.len; i++) {
        Carry *c = &loop->carries.data[i];
        c->input = build.in.len;
        c->inner = scan_input(&build, SCAN_CARRY, c->init, c->name);
        if (c->state) {
            c->was_carried = c->state->carried;
            c->state->carried = true;
        }
        set_carry(f, c, c->inner, c->span);
    }
    f->scan = &scan;
    lw->b = build.b;
    exec_body(f, &s->body);
    const bool failed = f->returned || lw->stop || diag_errors(lw->d) > errors;
    for (size_t i = 0; i < loop->carries.len && !failed; i++) {
        Carry *c = &loop->carries.data[i];
        const Binding *b = c->state ? NULL : map_get(f->names, c->name);
        /* A name that each step assigns before it reads it is the step's own, whatever it was before. */
        const bool own = b && !is_read(build.attrs.body, c->inner) && b->value.kind == V_TENSOR &&
                         !type_equal(&b->value.node->type, &c->init->type);
        build.in.data[c->input].next = own ? NULL : next_value(f, c);
    }
    Node *node = NULL;
    bool ok = !failed && diag_errors(lw->d) == errors;
    for (size_t i = 0; i < scan.yields.len && ok; i++) {
        const Yield *y = &scan.yields.data[i];
        Node *value = y->values.data[0];
        if (y->values.len != 1) {
            report(f, y->span, "scan-yield", "%s is yielded %zu times in one step", y->name,
                   y->values.len);
            ok = false;
        } else if (axis > value->type.rank || value->type.rank == MAX_RANK) {
            report(f, y->span, "scan-yield", "cannot stack %s along axis %d",
                   type_text(lw->a, &value->type), axis);
            ok = false;
        } else {
            vec_push(lw->a, &build.yields, (ScanYield){ value, y->name, y->span });
        }
    }
    if (ok) {
        size_t n_results = build.yields.len;
        for (size_t i = 0; i < build.in.len; i++) n_results += build.in.data[i].next != NULL;
        if (n_results > OP_MAX_RESULTS) {
            report(f, s->span, "limit-list",
                   "the loop carries and yields %zu values, at most %d are possible", n_results,
                   OP_MAX_RESULTS);
            ok = false;
        }
    }
    build.b = lw->b;
    build.b.spans = NULL;
    if (ok) node = scan_end(&build, "scan");
    f->scan = scan.outer;
    lw->b.routine = around.routine;
    lw->b.scan = around.scan;
    lw->b.cse = around.cse;
    lw->b.spans = NULL;
    lw->b.name = NULL;

    for (size_t i = 0; i < sources->len; i++) unbind(f, sources->data[i].name.text);
    for (size_t i = 0; i < loop->locals.len; i++) unbind(f, loop->locals.data[i]);
    int n_carries = 0;
    for (size_t i = 0; i < loop->carries.len; i++) {
        Carry *c = &loop->carries.data[i];
        const int k = node ? build.in.data[c->input].result : -1;
        n_carries += k >= 0;
        if (c->state) c->state->carried = c->was_carried;
        lw->b.name = c->name;
        lw->b.span = caller_span(f, c->span);
        lw->b.inst = f->inst;
        if (ok && k < 0 && !c->state)
            unbind(f, c->name);
        else
            set_carry(f, c, k >= 0 ? mk_result(&lw->b, node, k) : NULL, c->span);
    }
    for (size_t i = 0; i < scan.yields.len; i++) {
        const Yield *y = &scan.yields.data[i];
        lw->b.name = y->name;
        lw->b.span = caller_span(f, y->span);
        Node *n = node ? mk_result(&lw->b, node, n_carries + (int)i) : NULL;
        bind(f, y->name, n ? v_node(n, y->span) : v_error(), (Binding){ 0 });
    }
    lw->b.name = NULL;
}

/* Labels are not extended by the step: every step of the loop uses the same parameters. */
static void exec_scan(Frame *f, const Stmt *s)
{
    ScanSources sources = { 0 };
    int axis = 0;
    if (!scan_sources(f, s, &sources, &axis)) {
        f->returned = true;
        f->result = v_error();
        return;
    }
    Loop loop = { 0 };
    loop_names(f, &loop, &s->body, false);
    if (!loop.unroll) {
        loop_scan(f, s, &sources, axis, &loop);
        return;
    }
    struct Scan scan = { .outer = f->scan };
    f->scan = &scan;
    const int64_t length = sources.data[0].node->type.dim[axis];
    for (int64_t t = 0; t < length && !f->returned && count_step(f, s->span); t++) {
        for (size_t i = 0; i < sources.len; i++) {
            const Name *name = &sources.data[i].name;
            Node *n = take_step(f, sources.data[i].node, axis, t, name->span);
            bind(f, name->text, v_node(n, name->span), (Binding){ 0 });
        }
        exec_body(f, &s->body);
    }
    f->scan = scan.outer;
    if (f->returned || f->lw->stop) return;
    for (size_t i = 0; i < scan.yields.len; i++) {
        const Yield *y = &scan.yields.data[i];
        if ((int64_t)y->values.len != length) {
            report(f, y->span, "scan-yield", "%s is yielded %zu times in %" PRId64 " steps",
                   y->name, y->values.len, length);
            continue;
        }
        Value v = stack_yield(f, y, axis);
        bind(f, y->name, v, (Binding){ 0 });
    }
}

static void exec_yield(Frame *f, const Stmt *s)
{
    Lower *lw = f->lw;
    if (!f->scan) {
        report(f, s->span, "scan-yield", "yield belongs inside a scan");
        return;
    }
    Value v = eval(f, s->a);
    Node *n = to_node(f, &v, NULL);
    size_t i = 0;
    while (i < f->scan->yields.len && strcmp(f->scan->yields.data[i].name, s->name.text) != 0) i++;
    if (i == AST_MAX_LIST) {
        report(f, s->span, "limit-list", "more than %d stacked results", AST_MAX_LIST);
        return;
    }
    if (i == f->scan->yields.len)
        vec_push(lw->a, &f->scan->yields, (Yield){ .name = s->name.text, .span = s->span });
    vec_push(lw->a, &f->scan->yields.data[i].values, n);
}

/* ---- results ---- */

static void exec_return(Frame *f, const Stmt *s)
{
    Lower *lw = f->lw;
    if (!f->block) {
        report(f, s->span, "return-routine", "return belongs in a block");
        return;
    }
    ValueVec *all = ARENA_NEW(lw->a, ValueVec);
    bool failed = false;
    for (size_t i = 0; i < s->values.len; i++) {
        Value v = eval(f, s->values.data[i]);
        failed |= v.kind == V_ERROR;
        const bool spread = v.kind == V_TUPLE;
        for (size_t k = 0; spread && k < v.list->len; k++) vec_push(lw->a, all, v.list->data[k]);
        if (!spread) vec_push(lw->a, all, v);
    }
    f->returned = true;
    if (failed)
        f->result = v_error();
    else if (all->len == 1)
        f->result = all->data[0];
    else
        f->result = (Value){ .kind = V_TUPLE, .list = all, .span = s->span };
}

static void report_value(Frame *f, const Report *r)
{
    Lower *lw = f->lw;
    const char *name = r->name.text;
    Expr *own = r->value;
    if (!own) {
        Path *path = ARENA_NEW(lw->a, Path);
        path->head = r->name;
        path->span = r->name.span;
        own = expr_new(lw->a, EX_PATH, r->name.span);
        own->path = path;
    }
    Value v = eval(f, own);
    Node *n = to_node(f, &v, NULL);
    if (!n) return;
    if (n->type.rank != 0) {
        Diagnostic *m =
            report(f, own->span, "metric-shape", "%s is %s, a step reports single numbers", name,
                   type_text(lw->a, &n->type));
        diag_hint(m, "mean(%s) is one", name);
        return;
    }
    if (n->type.dtype != DT_F32) {
        report(f, own->span, "metric-type", "%s is %s, a step reports f32 values", name,
               type_text(lw->a, &n->type));
        return;
    }
    for (size_t i = 0; i < lw->reported.len; i++) {
        if (strcmp(lw->reported.data[i].text, name) != 0) continue;
        Diagnostic *m = report(f, r->name.span, "name-twice", "%s is reported twice", name);
        diag_also(m, lw->reported.data[i].span);
        return;
    }
    vec_push(lw->a, &lw->reported, r->name);
    const Port port = { .name = name, .type = n->type, .span = r->name.span, .is_metric = true };
    vec_push(lw->a, &lw->r->outputs, port);
    if (strcmp(n->name, n->op->name) == 0 && !op_has(n, OPF_SOURCE)) n->name = name;
    lw->b.span = r->name.span;
    lw->b.inst = f->inst;
    lw->b.name = name;
    mk1(&lw->b, &op_report, &(IndexAttrs){ (int64_t)lw->r->outputs.len - 1 }, n);
}

static void exec_reports(Frame *f, const Stmt *s)
{
    const char *word = s->kind == ST_METRIC ? "metric" : "report";
    if (f->block || f->lw->r->kind != ROUTINE_STEP) {
        report(f, s->span, "metric-step", "%s belongs in a step", word);
        return;
    }
    for (size_t i = 0; i < s->reports.len; i++) report_value(f, &s->reports.data[i]);
}

static void exec_const(Frame *f, const Stmt *s)
{
    Value v = eval(f, s->a);
    if (v.kind == V_TENSOR || v.kind == V_HYPER || v.kind == V_TUPLE) {
        report(f, s->a->span, "const-value", "const %s: expected a compile-time value, found %s",
               s->name.text, v_kind_text(f->lw, &v));
        v = v_error();
    }
    Binding *before = map_get(f->names, s->name.text);
    if (before && !before->fixed) {
        report(f, s->name.span, "name-twice", "%s is already the name of a value", s->name.text);
        return;
    }
    bind(f, s->name.text, v, (Binding){ .fixed = true, .used = true });
}

void exec_body(Frame *f, const StmtVec *body)
{
    for (size_t i = 0; i < body->len; i++) {
        Stmt *s = body->data[i];
        if (f->lw->stop || !count_step(f, s->span)) return;
        if (f->returned) return;
        switch (s->kind) {
        case ST_ASSIGN: exec_assign(f, s); break;
        case ST_IF: exec_if(f, s); break;
        case ST_FOR: exec_for(f, s); break;
        case ST_SCAN: exec_scan(f, s); break;
        case ST_YIELD: exec_yield(f, s); break;
        case ST_RETURN: exec_return(f, s); break;
        case ST_METRIC:
        case ST_REPORT: exec_reports(f, s); break;
        case ST_MINIMIZE: exec_minimize(f, s); break;
        case ST_PARAM:
        case ST_STATE: declare_tensor(f, s); break;
        case ST_CONST: exec_const(f, s); break;
        case ST_ERROR:
        case ST_HYPER:
        case ST_LAYER:
        case ST_INFER:
        case ST_STEP: break;
        }
    }
}
