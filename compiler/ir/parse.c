/* SPDX-License-Identifier: MIT
 *
 * .nnir text -> Module. In: text in the grammar that heads print.c. Out: a verified module, or one
 * located error and NULL: the text is written by the compiler, so the first fault is the only one
 * worth showing. A recursive-descent reader without a separate scanner (reader.c has its tokens); only bodies of loops
 * nest, to a fixed depth.
 */
#include "ir/reader.h"
#include "ir/scan.h"
#include "ir/text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BODY_DEPTH = 16 };

/* ---- nodes ---- */

/* The key of a reference is its text with the name unquoted. `name` gets the part before '~'. */
static const char *read_ref(Reader *p, const char **name)
{
    reader_expect(p, "%");
    const char *text = reader_name(p);
    if (name) *name = text;
    if (!reader_accept(p, "~")) return text;
    return arena_printf(p->a, "%s~%" PRId64, text, reader_int_in(p, 2, INT32_MAX));
}

static Node *read_operand(Reader *p)
{
    reader_skip(p);
    const char *from = p->at;
    if (reader_accept(p, "-")) return NULL;
    const char *key = read_ref(p, NULL);
    Node *n = p->failed ? NULL : map_get(p->refs, key);
    if (!p->failed && !n)
        reader_fail(p, from, "unknown value %%%s: a value is defined before it is used", key);
    return n;
}

static const FusedAttrs *read_fused(Reader *p, int n_in)
{
    VEC(FusedStep) steps = { 0 };
    FusedAttrs *f = ARENA_NEW(p->a, FusedAttrs);
    VEC(PlaceRef) step_places = { 0 };
    reader_expect(p, "[");
    while (!p->failed && !reader_accept(p, "->")) {
        FusedStep s = { 0 };
        if (reader_int(p) != (int64_t)steps.len) reader_fail(p, p->at, "steps are numbered from 0");
        reader_expect(p, "=");
        s.op = reader_op(p);
        if (s.op && !op_has(&(Node){ .op = s.op }, OPF_ELEMENTWISE))
            reader_fail(p, p->at, "%s is not elementwise", s.op->name);
        reader_expect(p, "(");
        while (!p->failed && !reader_accept(p, ")")) {
            if (s.n_in) reader_expect(p, ",");
            if (s.n_in == OP_MAX_IN) {
                reader_fail(p, p->at, "more than %d operands", OP_MAX_IN);
                break;
            }
            const bool step = reader_accept(p, "~");
            if (!step) reader_expect(p, "$");
            const int i = (int)reader_int_in(p, 0, (step ? (int64_t)steps.len : n_in) - 1);
            s.arg[s.n_in++] = step ? ~i : i;
        }
        if (p->failed) break;
        void *attrs = NULL;
        if (s.op->attr_size) {
            attrs = arena_alloc(p->a, s.op->attr_size);
            attrs_default(s.op, attrs);
        }
        reader_attrs(p, s.op, attrs);
        s.attrs = attrs;
        reader_expect(p, ":");
        s.dtype = reader_dtype(p);
        s.name = reader_name(p);
        /* The place is remembered by number: the array of steps still moves. */
        const size_t before = p->places.len;
        Span unused;
        reader_place(p, &unused);
        if (p->places.len > before) {
            PlaceRef q = p->places.data[--p->places.len];
            q.span = NULL;
            vec_push(p->a, &step_places, q);
        } else {
            vec_push(p->a, &step_places, (PlaceRef){ 0 });
        }
        reader_expect(p, ";");
        vec_push(p->a, &steps, s);
    }
    do {
        if (f->n_results == FUSED_MAX_RESULTS) {
            reader_fail(p, p->at, "more than %d results", FUSED_MAX_RESULTS);
            break;
        }
        f->result[f->n_results++] = (int)reader_int_in(p, 0, (int64_t)steps.len - 1);
    } while (!p->failed && reader_accept(p, ","));
    reader_expect(p, "]");
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
    reader_fail(p, from, "unknown port '%s'", name);
    return 0;
}

/* What a source reads or a root writes; true when the operator has such a target. */
static bool read_target(Reader *p, const OpDesc *op, void *attrs)
{
    reader_skip(p);
    const char *from = p->at;
    IndexAttrs *index = attrs;
    if (op == &op_const) {
        ((ConstAttrs *)attrs)->value = reader_real(p);
    } else if (op == &op_result) {
        index->index = reader_int_in(p, 1, OP_MAX_RESULTS - 1);
    } else if (op == &op_input) {
        index->index = find_port(p, p->r->inputs.data, p->r->inputs.len, from, reader_name(p));
    } else if (op == &op_output || op == &op_report) {
        index->index = find_port(p, p->r->outputs.data, p->r->outputs.len, from, reader_name(p));
    } else if (op == &op_param || op == &op_state || op == &op_grad_store || op == &op_update ||
               op == &op_assign) {
        const Tensor *t = map_get(p->tensors, reader_name(p));
        if (t)
            index->index = t->index;
        else
            reader_fail(p, from, "unknown tensor");
    } else if (op == &op_hyper) {
        const Hyper *h = map_get(p->hypers, reader_name(p));
        if (h)
            index->index = h->index;
        else
            reader_fail(p, from, "unknown hyper");
    } else {
        return false;
    }
    return true;
}

static const Inst *read_inst_ref(Reader *p)
{
    if (!reader_accept(p, "inst")) return NULL;
    reader_skip(p);
    const char *from = p->at;
    const int64_t i = reader_int(p);
    if (i >= 0 && (size_t)i < p->insts.len) return p->insts.data[i];
    reader_fail(p, from, "unknown inst %" PRId64, i);
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
    reader_expect(p, "dims");
    reader_expect(p, "(");
    while (!p->failed && !reader_accept(p, ")")) {
        if (r->dims.len) reader_expect(p, ",");
        reader_skip(p);
        const char *from = p->at;
        const DimVar *d = map_get(p->dims, reader_word(p));
        if (!d)
            reader_fail(p, from, "unknown dim");
        else
            vec_push(p->a, &r->dims, d);
    }
}

/* The body of a loop: a routine whose references are its own. */
static Routine *read_body(Reader *p)
{
    Routine *outer = p->r, *r = ARENA_NEW(p->a, Routine);
    StrMap *refs = p->refs;
    reader_skip(p);
    if (++p->depth > MAX_BODY_DEPTH) reader_fail(p, p->at, "more than %d bodies in each other", MAX_BODY_DEPTH);
    *r = (Routine){ .name = "scan", .kind = ROUTINE_BODY };
    p->r = r;
    p->refs = map_new(p->a);
    reader_expect(p, "body");
    read_ports(p, &r->inputs.data, &r->inputs.len);
    r->inputs.cap = r->inputs.len;
    reader_expect(p, "->");
    read_ports(p, &r->outputs.data, &r->outputs.len);
    r->outputs.cap = r->outputs.len;
    read_dims(p, r);
    reader_expect(p, "{");
    while (!p->failed && reader_peek(p, '%')) {
        Span where;
        read_node(p, &where);
    }
    reader_expect(p, "}");
    if (r->outputs.len == 0 || r->outputs.len > OP_MAX_RESULTS)
        reader_fail(p, p->at, "a body has 1 to %d outputs", OP_MAX_RESULTS);
    p->r = outer;
    p->refs = refs;
    p->depth--;
    return r;
}

static void read_node(Reader *p, Span *where)
{
    reader_skip(p);
    const char *from = p->at;
    const char *name, *key = read_ref(p, &name);
    if (!p->failed && map_get(p->refs, key)) reader_fail(p, from, "%%%s is defined twice", key);
    reader_expect(p, "=");
    const OpDesc *op = reader_op(p);
    if (p->failed) return;
    Node *n = ARENA_NEW(p->a, Node);
    VEC(Node *) in = { 0 };
    if (reader_accept(p, "(")) {
        while (!p->failed && !reader_accept(p, ")")) {
            if (in.len) reader_expect(p, ",");
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
        reader_fail(p, from, "%s does not take these %zu operands", op->name, in.len);
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
        reader_attrs(p, op, attrs);
    }
    if (op == &op_scan) {
        ScanAttrs *s = attrs;
        s->body = read_body(p);
        s->body->n_step_inputs = (int)(s->n_seqs + s->n_carries);
        n_results = (int)s->body->outputs.len;
    }
    if (p->failed) return;
    reader_expect(p, ":");
    TensorType type[OP_MAX_RESULTS];
    for (int k = 0; k < n_results && !p->failed; k++) {
        if (k) reader_expect(p, ",");
        type[k] = reader_type(p);
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
    reader_place(p, &n->span);
    reader_expect(p, ";");
    if (p->failed) return;
    *where = reader_span(p, from);
    map_set(p->refs, key, n);
    vec_push(p->a, &p->r->nodes, n);
}

/* ---- the rest of a module ---- */

static void read_ports(Reader *p, Port **ports, size_t *len)
{
    VEC(Port) v = { 0 };
    VEC(size_t) place = { 0 };
    const size_t first_place = p->places.len;
    reader_expect(p, "(");
    while (!p->failed && !reader_accept(p, ")")) {
        if (v.len) reader_expect(p, ",");
        Port q = { .name = reader_name(p) };
        reader_expect(p, ":");
        q.type = reader_type(p);
        q.is_metric = reader_accept(p, "metric");
        q.is_kept = reader_accept(p, "kept");
        if (reader_accept(p, "limit")) q.index_limit = reader_int_in(p, 0, INT64_MAX);
        q.has_ignore = reader_accept(p, "ignore");
        if (q.has_ignore) q.index_ignore = reader_int(p);
        const size_t before = p->places.len;
        reader_place(p, &q.span);
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
    if (!reader_accept(p, "warmup")) {
        reader_skip(p);
        const char *from = p->at, *name = reader_word(p);
        for (size_t k = 0; k < schedule_table_len; k++)
            if (strcmp(schedule_table[k]->name, name) == 0) *d = schedule_table[k];
        if (!*d) {
            reader_fail(p, from, "unknown schedule '%s'", name);
            return;
        }
        reader_expect(p, "(");
        for (int k = 0; k < 8 && !p->failed && (*d)->args && (*d)->args[k].name; k++) {
            if (k) reader_expect(p, ",");
            args[k] = reader_real(p);
        }
        reader_expect(p, ")");
        if (!reader_accept(p, "warmup")) return;
    }
    *warmup = reader_real(p);
}

static void read_minimize(Reader *p)
{
    Minimize *min = ARENA_NEW(p->a, Minimize);
    p->r->minimize = min;
    min->loss = read_operand(p);
    reader_expect(p, "over");
    reader_expect(p, "(");
    bool first = true;
    while (!p->failed && !reader_accept(p, ")")) {
        if (!first) reader_expect(p, ",");
        first = false;
        reader_skip(p);
        const char *from = p->at;
        Tensor *t = map_get(p->tensors, reader_name(p));
        if (!t || t->kind != TENSOR_PARAM)
            reader_fail(p, from, "expected a parameter");
        else {
            vec_push(p->a, &min->over, t);
            vec_push(p->a, &min->over_scale, reader_accept(p, "*") ? reader_real(p) : 1);
        }
    }
    reader_expect(p, "using");
    reader_skip(p);
    const char *from = p->at, *name = reader_word(p);
    for (size_t i = 0; i < optim_table_len; i++)
        if (strcmp(optim_table[i]->name, name) == 0) min->optim = optim_table[i];
    if (!min->optim) {
        reader_fail(p, from, "unknown optimizer '%s'", name);
        return;
    }
    int n = 0;
    while (min->optim->scalars && min->optim->scalars[n].name) n++;
    min->scalars = arena_alloc_array(p->a, (size_t)n, sizeof *min->scalars);
    reader_expect(p, "(");
    for (int i = 0; i < n && !p->failed; i++) {
        struct OptimScalar *s = &min->scalars[i];
        if (i) reader_expect(p, ",");
        reader_expect(p, min->optim->scalars[i].name);
        reader_expect(p, "=");
        reader_skip(p);
        from = p->at;
        const OptimArg *arg = &min->optim->scalars[i];
        if (optim_arg_is_fixed(arg) || (arg->is_asked_for && isdigit((unsigned char)*p->at))) {
            s->fixed = reader_real(p);
            if (!(s->fixed >= arg->min && s->fixed <= arg->max && s->fixed == floor(s->fixed)))
                reader_fail(p, from, "%s is out of range", arg->name);
            continue;
        }
        s->hyper = map_get(p->hypers, reader_name(p));
        if (!s->hyper) reader_fail(p, from, "unknown hyper");
        if (!reader_peek(p, ',') && !reader_peek(p, ')'))
            read_schedule(p, &s->schedule, s->schedule_args, &s->warmup);
    }
    reader_expect(p, ")");
    if (reader_accept(p, "clip_norm")) min->clip_norm = reader_real(p);
    if (reader_accept(p, "clip_value")) min->clip_value = reader_real(p);
    if (reader_accept(p, "ema")) min->ema = reader_real(p);
    min->in_backward = reader_accept(p, "in_backward");
    reader_place(p, &min->span);
    reader_expect(p, ";");
}

/* The step that a product with its Hessian belongs to. */
static void read_step(Reader *p, Routine *r)
{
    reader_skip(p);
    const char *from = p->at, *name = reader_name(p);
    for (size_t i = 0; i < p->m->routines.len && !p->failed; i++) {
        Routine *step = p->m->routines.data[i];
        if (step->kind != ROUTINE_STEP || step->product || strcmp(step->name, name) != 0) continue;
        r->step = step;
        step->product = r;
    }
    if (!p->failed && (!r->step || r->kind != ROUTINE_INFER || r->outputs.len != 1 || !r->inputs.len))
        reader_fail(p, from, "expected the name of a step, of which this is the product with its Hessian");
}

/* The infer routine, just read, that r prepares. */
static void read_user(Reader *p, Routine *r)
{
    reader_expect(p, "of");
    reader_skip(p);
    const char *from = p->at, *name = reader_name(p);
    Routine *user = p->m->routines.len ? p->m->routines.data[p->m->routines.len - 1] : NULL;
    if (!p->failed && (!user || user->kind != ROUTINE_INFER || user->prepare || strcmp(user->name, name) != 0))
        reader_fail(p, from, "expected the name of the infer routine before this one");
    if (!p->failed) user->prepare = r;
}

/* The step that a trace belongs to. */
static void read_traced(Reader *p, Routine *r)
{
    reader_skip(p);
    const char *from = p->at, *name = reader_name(p);
    for (size_t i = 0; i < p->m->routines.len && !p->failed; i++) {
        Routine *step = p->m->routines.data[i];
        if (step->kind != ROUTINE_STEP || step->trace || strcmp(step->name, name) != 0) continue;
        r->step = step;
        step->trace = r;
    }
    if (!p->failed && (!r->step || r->kind != ROUTINE_INFER))
        reader_fail(p, from, "expected the name of a step, of which this is the trace");
}

static void read_routine(Reader *p, RoutineKind kind, bool prepares)
{
    Routine *r = ARENA_NEW(p->a, Routine);
    r->kind = kind;
    r->index = (int)p->m->routines.len;
    p->r = r;
    p->refs = map_new(p->a);
    r->name = reader_name(p);
    read_ports(p, &r->inputs.data, &r->inputs.len);
    r->inputs.cap = r->inputs.len;
    reader_expect(p, "->");
    read_ports(p, &r->outputs.data, &r->outputs.len);
    r->outputs.cap = r->outputs.len;
    read_dims(p, r);
    r->prepares = prepares;
    if (prepares)
        read_user(p, r);
    else if (reader_accept(p, "of"))
        read_step(p, r);
    else if (reader_accept(p, "traces"))
        read_traced(p, r);
    reader_place(p, &r->span);
    reader_expect(p, "{");
    VEC(Span) where = { 0 };
    while (!p->failed && reader_peek(p, '%')) {
        Span span = { 0 };
        read_node(p, &span);
        vec_push(p->a, &where, span);
    }
    if (reader_accept(p, "minimize")) read_minimize(p);
    reader_expect(p, "}");
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
                       faults.data[i].node ? faults.data[i].node->span : reader_span(p, p->at - 1),
                       "nnir-invalid", "%s", faults.data[i].text);
        p->failed = true;
    }
    for (size_t i = 0; i < r->nodes.len; i++) r->nodes.data[i]->span = own[i];
}

static void read_tensor(Reader *p, TensorKind kind)
{
    reader_skip(p);
    const char *from = p->at;
    Tensor *t = ARENA_NEW(p->a, Tensor);
    t->kind = kind;
    t->index = (int)p->m->tensors.len;
    t->path = reader_name(p);
    if (!p->failed && map_get(p->tensors, t->path))
        reader_fail(p, from, "tensor %s is defined twice", t->path);
    reader_expect(p, ":");
    t->type = reader_type(p);
    if (reader_accept(p, "=")) {
        reader_skip(p);
        from = p->at;
        const char *init = reader_word(p);
        for (size_t i = 0; i < init_table_len; i++)
            if (strcmp(init_table[i]->name, init) == 0) t->init = init_table[i];
        if (!p->failed && !t->init) reader_fail(p, from, "unknown initialiser '%s'", init);
        reader_expect(p, "(");
        for (int i = 0; i < 4 && !p->failed && t->init->args[i]; i++) {
            if (i) reader_expect(p, ",");
            t->init_args[i] = reader_real(p);
        }
        reader_expect(p, ")");
    }
    if (reader_accept(p, "fan")) {
        t->fan_in = reader_int_in(p, 0, INT64_C(1) << 48);
        t->fan_out = reader_int_in(p, 0, INT64_C(1) << 48);
    }
    t->trained = reader_accept(p, "trained");
    t->inst = read_inst_ref(p);
    reader_place(p, &t->span);
    reader_expect(p, ";");
    if (p->failed) return;
    map_set(p->tensors, t->path, t);
    vec_push(p->a, &p->m->tensors, t);
}

static void read_dim(Reader *p)
{
    DimVar *d = ARENA_NEW(p->a, DimVar);
    d->index = (int)p->m->dims.len;
    d->name = reader_word(p);
    reader_expect(p, "=");
    d->lo = reader_int_in(p, 1, INT64_C(1) << 32);
    reader_expect(p, "..");
    d->hi = reader_int_in(p, d->lo, INT64_C(1) << 32);
    reader_place(p, &d->span);
    reader_expect(p, ";");
    if (p->failed) return;
    map_set(p->dims, d->name, d);
    vec_push(p->a, &p->m->dims, d);
}

static void read_hyper(Reader *p)
{
    Hyper *h = ARENA_NEW(p->a, Hyper);
    h->index = (int)p->m->hypers.len;
    h->name = reader_name(p);
    h->path = reader_name(p);
    reader_expect(p, "=");
    h->value = reader_real(p);
    if (!reader_peek(p, ';') && !reader_peek(p, '@'))
        read_schedule(p, &h->schedule, h->schedule_args, &h->warmup);
    reader_place(p, &h->span);
    reader_expect(p, ";");
    if (p->failed) return;
    map_set(p->hypers, h->path, h);
    vec_push(p->a, &p->m->hypers, h);
}

static void read_inst(Reader *p)
{
    Inst *s = ARENA_NEW(p->a, Inst);
    reader_skip(p);
    const char *from = p->at;
    if (reader_int(p) != (int64_t)p->insts.len) reader_fail(p, from, "insts are numbered from 0");
    s->block = reader_string(p);
    s->args = reader_string(p);
    s->path = reader_string(p);
    s->label = reader_string(p);
    if (reader_accept(p, "in")) {
        const int64_t i = reader_int_in(p, 0, (int64_t)p->insts.len - 1);
        if (!p->failed) s->parent = p->insts.data[i];
    }
    reader_place(p, &s->call);
    reader_expect(p, ";");
    if (!p->failed) vec_push(p->a, &p->insts, s);
}

static void read_model(Reader *p)
{
    Module *m = p->m;
    reader_expect(p, "nnir");
    reader_int_in(p, 1, 1);
    reader_expect(p, ";");
    reader_expect(p, "model");
    m->name = reader_name(p);
    m->source_name = reader_string(p);
    m->real_is_f64 = reader_accept(p, "f64");
    m->use_blas = !reader_accept(p, "no_blas");
    m->has_layouts = reader_accept(p, "layouts");
    reader_expect(p, "hash");
    reader_skip(p);
    const char *from = p->at, *hex = reader_word(p);
    char *rest;
    m->hash = strtoull(hex, &rest, 16);
    if (!p->failed && (*rest || strlen(hex) != 16)) reader_fail(p, from, "expected 16 hexadecimal digits");
    reader_place(p, &m->span);
    reader_expect(p, ";");
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
        reader_skip(&p);
        const char *from = p.at;
        if (p.failed || p.at >= p.end) break;
        if (reader_accept(&p, "dim"))
            read_dim(&p);
        else if (reader_accept(&p, "hyper"))
            read_hyper(&p);
        else if (reader_accept(&p, "inst"))
            read_inst(&p);
        else if (reader_accept(&p, "param"))
            read_tensor(&p, TENSOR_PARAM);
        else if (reader_accept(&p, "state"))
            read_tensor(&p, TENSOR_STATE);
        else if (reader_accept(&p, "infer"))
            read_routine(&p, ROUTINE_INFER, false);
        else if (reader_accept(&p, "step"))
            read_routine(&p, ROUTINE_STEP, false);
        else if (reader_accept(&p, "prepare"))
            read_routine(&p, ROUTINE_INFER, true);
        else
            reader_fail(&p, from, "expected a dim, hyper, inst, param, state, infer, step or prepare");
    }
    if (!p.failed) reader_make_spans(&p);
    return p.failed ? NULL : p.m;
}
