/* SPDX-License-Identifier: MIT
 *
 * The body of one routine, statement by statement. In: a planned routine. Out: C statements with the
 * pointers, shares and barriers they need. Invariant: declarations of a function's sources stand at its
 * top, a pointer into the arena stands right before the statement that first writes it, and every name is
 * distinct in the function.
 */
#include "emit/emit.h"
#include "ir/builder.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef long long ll;
enum { COLUMNS = 100 };

/* ---- lines ---- */

void cw_line(CWriter *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    for (int i = 0; i < w->indent; i++) sb_puts(w->out, "    ");
    sb_vprintf(w->out, fmt, ap);
    sb_putc(w->out, '\n');
    va_end(ap);
}

/* Breaks `text` after ", " (or " " in prose) so that lines stay within the columns where that is possible. */
static void put_lines(StrBuf *out, int columns, int indent, const char *text, const char *breaks,
                      int hang)
{
    bool first = true;
    while (*text) {
        const int lead = indent * 4 + (first ? 0 : hang);
        for (int i = 0; i < lead; i++) sb_putc(out, ' ');
        size_t len = strlen(text), cut = 0;
        const size_t room = (size_t)(columns - lead);
        if (len > room) {
            for (size_t i = 0; i + 1 < len && (i < room || !cut); i++)
                if (text[i + 1] == ' ' && strchr(breaks, text[i])) cut = i + 1;
        }
        if (!cut) cut = len;
        sb_putn(out, text, cut);
        sb_putc(out, '\n');
        text += cut;
        while (*text == ' ') text++;
        first = false;
    }
}

static void put_wrapped(StrBuf *out, int indent, const char *text, const char *breaks, int hang)
{
    put_lines(out, COLUMNS, indent, text, breaks, hang);
}

void put_text(StrBuf *out, int indent, const char *statement)
{
    put_wrapped(out, indent, statement, ",+?:&|", 4);
}

void cw_text(CWriter *w, const char *statement)
{
    put_text(w->out, w->indent, statement);
}

static void put_comment(CWriter *w, const char *text)
{
    StrBuf sb;
    sb_init(&sb, w->arena);
    sb_printf(&sb, "/* %s", comment_text(w->arena, text));
    while (sb.text[sb.len - 1] == ' ') sb.text[--sb.len] = '\0';
    put_lines(w->out, COLUMNS - 3, w->indent, sb.text, ",;:abcdefghijklmnopqrstuvwxyz])", 3);
    w->out->text[--w->out->len] = '\0'; /* the newline: the end of the comment stays on the line */
    sb_puts(w->out, " */\n");
}

/* ---- literals ---- */

const char *cw_real(const CWriter *w, double v)
{
    const bool f64 = w->face->m->real_is_f64;
    char text[48];
    if (isnan(v)) return "((nn_real)NAN)";
    if (!f64) v = (double)(float)v;
    if (isinf(v)) return v > 0 ? "NN_INF" : "(-NN_INF)";
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (f64 ? strtod(text, NULL) == v : (double)strtof(text, NULL) == v) break;
    }
    if (!strpbrk(text, ".e")) strcat(text, ".0");
    return arena_printf(w->arena, signbit(v) ? "(%s%s)" : "%s%s", text, f64 ? "" : "f");
}

const char *cw_int(const CWriter *w, int64_t v)
{
    if (v > INT32_MIN && v <= INT32_MAX) return arena_printf(w->arena, "%lld", (ll)v);
    return arena_printf(w->arena, "INT64_C(%lld)", (ll)v);
}

const char *cw_const(const CWriter *w, DType t, double v)
{
    if (t == DT_F32) return cw_real(w, v);
    const char *text = cw_int(w, (int64_t)v);
    return v < 0 ? arena_printf(w->arena, "(%s)", text) : text;
}

/* ---- values and where they lie ---- */

const Node *cw_base(const Node *n, int *k)
{
    *k = 0;
    for (;;) {
        if (op_is(n, &op_result)) {
            *k = (int)((const IndexAttrs *)n->attrs)->index;
            return n->in[0];
        }
        if (!op_has(n, OPF_VIEW)) return n;
        n = n->in[0];
    }
}

static const char *local(CWriter *w, const char *wanted)
{
    return names_add(w->locals, wanted);
}

static void put_top(CWriter *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put_top(CWriter *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    StrBuf sb;
    sb_init(&sb, w->arena);
    sb_vprintf(&sb, fmt, ap);
    va_end(ap);
    put_wrapped(&w->top, 1, sb.text, "=,", 4);
}

static const char *c_type_of(const CWriter *w, const Node *n, int k)
{
    return face_c_type(w->face, (k ? n->more[k - 1] : n->type).dtype);
}

/* One local per block entry, declared at the top of the function when it is first used. */
static const char *block_pointer(CWriter *w, const char **slot, const char *block, int64_t offset,
                                 bool writable)
{
    if (**slot != '!') return *slot;
    const char *name = *slot + 1;
    *slot = name;
    put_top(w, "%s%s *const %s = %s + %s;", writable ? "" : "const ", w->face->real, name, block,
            cw_int(w, offset));
    return name;
}

static const char *port_pointer(CWriter *w, const char **slot, const char *field, const char *type,
                                bool writable)
{
    if (**slot != '!') return *slot;
    const char *name = *slot + 1;
    *slot = name;
    put_top(w, "%s%s *const %s = a->%s;", writable ? "" : "const ", type, name, field);
    return name;
}

/* The local that holds the value of a hyper, read once at the top. */
const char *cw_hyper(CWriter *w, const Node *n)
{
    const int64_t i = ((const IndexAttrs *)n->attrs)->index;
    const char *real = w->face->real;
    if (*w->hyper[i] == '!') {
        w->hyper[i]++;
        const Hyper *h = w->face->m->hypers.data[i];
        const char *value = arena_printf(w->arena, "a->m->base.hypers[%lld]", (ll)i);
        if (w->routine->kind == ROUTINE_STEP || w->routine->step)
            value = scheduled_text(w->arena, value,
                                   arena_printf(w->arena, "(int64_t)a->m->base.steps[%d]",
                                                face_clock(w->face, w->routine)),
                                   h->schedule, h->schedule_args, h->warmup);
        put_top(w, "const %s %s = (%s)%s;", real, w->hyper[i], real, value);
    }
    return w->hyper[i];
}

const char *cw_pointer(CWriter *w, const Node *n, int k)
{
    const ModelFace *f = w->face;
    const Buffer *b = &w->plan->result[n->id][k];
    const RoutineNames *rn = &f->routine[w->routine->index];
    switch (b->kind) {
    case AT_ARENA:
        if (*w->pointer[n->id][k] == '!') {
            const char *type = c_type_of(w, n, k);
            w->pointer[n->id][k]++;
            w->uses_arena = true;
            StrBuf sb;
            sb_init(&sb, w->arena);
            sb_printf(&sb, "%s *const %s = (%s *)(arena + %s);", type, w->pointer[n->id][k], type,
                      cw_int(w, b->offset));
            put_wrapped(&w->body, 1, sb.text, "=", 4);
        }
        return w->pointer[n->id][k];
    case AT_INPUT:
        return port_pointer(w, &w->input[b->index], rn->input[b->index],
                            face_c_type(f, w->routine->inputs.data[b->index].type.dtype), false);
    case AT_OUTPUT:
        return port_pointer(w, &w->output[b->index], rn->output[b->index],
                            face_c_type(f, w->routine->outputs.data[b->index].type.dtype), true);
    case AT_PARAM:
        w->uses_params = true;
        return block_pointer(w, &w->param[b->index], "params", f->tensor[b->index].offset, false);
    case AT_GRAD:
        w->uses_grads = true;
        return block_pointer(w, &w->grad[b->index], "grads", f->tensor[b->index].offset, true);
    case AT_STATE:
        w->uses_state = true;
        return block_pointer(w, &w->state[b->index], "state", f->tensor[b->index].offset, true);
    case AT_METRIC: return arena_printf(w->arena, "(a->metric + %d)", b->index);
    case AT_HYPER:
    case AT_NOWHERE: break;
    }
    if (op_is(n, &op_hyper)) return arena_printf(w->arena, "&%s", cw_hyper(w, n));
    double v;
    if (node_const_value(n, &v) && type_numel_max(&n->type) == 1) {
        if (*w->pointer[n->id][k] == '!') {
            const char *type = c_type_of(w, n, k);
            w->pointer[n->id][k]++;
            put_top(w, "const %s %s = %s;", type, w->pointer[n->id][k],
                    cw_const(w, n->type.dtype, v));
        }
        return arena_printf(w->arena, "&%s", w->pointer[n->id][k]);
    }
    if (!w->fault)
        w->fault = arena_printf(w->arena, "value %s of %s in %s has no place in memory", n->name,
                                n->op->name, w->routine->name);
    return "NULL";
}

int64_t cw_port_pitch(const CWriter *w, BufferKind kind, int64_t index)
{
    const int64_t *pitch = kind == AT_INPUT    ? w->plan->pitch_in
                           : kind == AT_OUTPUT ? w->plan->pitch_out
                                               : NULL;
    return pitch && pitch[index] > 0 ? pitch[index] : 0;
}

int64_t cw_pitch(const CWriter *w, const Buffer *b, const TensorType *t)
{
    const int64_t pitch = cw_port_pitch(w, b->kind, b->index);
    return pitch ? pitch : t->rank ? type_numel(t, 1, t->rank) : 1;
}

const char *cw_dim(CWriter *w, const DimVar *d)
{
    if (*w->dim[d->index] == '!') {
        w->dim[d->index]++;
        for (size_t i = 0; i < w->routine->dims.len; i++)
            if (w->routine->dims.data[i] == d)
                put_top(w, "const nn_dim %s = a->%s;", w->dim[d->index],
                        w->face->routine[w->routine->index].dim[i]);
    }
    return w->dim[d->index];
}

static struct ConstShare *const_share(CWriter *w, int64_t n)
{
    for (size_t i = 0; i < w->n_shares; i++)
        if (w->shares[i].n == n) return &w->shares[i];
    if (w->n_shares == w->cap_shares)
        w->shares = vec_grow(w->arena, w->shares, w->n_shares, &w->cap_shares, sizeof *w->shares);
    struct ConstShare *s = &w->shares[w->n_shares++];
    s->n = n;
    s->from = local(w, arena_printf(w->arena, "from_%lld", (ll)n));
    s->to = local(w, arena_printf(w->arena, "to_%lld", (ll)n));
    return s;
}

/* This thread's part of axis 0 of a value of type t: [*from, *to) units of *scale rows. */
void cw_share(CWriter *w, const TensorType *t, const char **from, const char **to, int64_t *scale)
{
    w->uses_team = true;
    if (t->batch) {
        const int i = t->batch->index;
        if (*w->dim0[i] == '!') {
            w->dim0[i]++;
            w->dim1[i]++;
            const char *size = cw_dim(w, t->batch);
            put_top(w, "nn_dim %s, %s; /* this thread's share of %s */", w->dim0[i], w->dim1[i],
                    size);
            put_top(w, "nn_share(team->rank, team->size, %s, 1, &%s, &%s);", size, w->dim0[i],
                    w->dim1[i]);
        }
        *from = w->dim0[i];
        *to = w->dim1[i];
        *scale = t->dim[0];
        return;
    }
    struct ConstShare *s = const_share(w, t->rank ? t->dim[0] : 1);
    if (!s->declared) {
        put_top(w, "nn_dim %s, %s;", s->from, s->to);
        put_top(w, "nn_share(team->rank, team->size, %lld, 1, &%s, &%s);", (ll)s->n, s->from,
                s->to);
        s->declared = true;
    }
    *from = s->from;
    *to = s->to;
    *scale = 1;
}

/* ---- nodes ---- */

/* The place in the user's own file: nodes of standard layers point at the call of the layer. */
static Span user_span(const Node *n)
{
    Span s = n->span;
    const Inst *inst = n->inst;
    while (inst && (!s.source || s.source->is_std)) {
        s = inst->call;
        inst = inst->parent;
    }
    return s;
}

static const char *where_text(CWriter *w, Span s)
{
    if (!s.source) return "";
    const char *name = strrchr(s.source->name, '/');
    return arena_printf(w->arena, "%s:%d  ", name ? name + 1 : s.source->name, span_place(s).line);
}

static bool kept_for_backward(const CWriter *w, const Node *n)
{
    if (!w->backward || w->backward[n->id]) return false;
    for (size_t i = (size_t)n->id + 1; i < w->routine->nodes.len; i++) {
        const Node *user = w->routine->nodes.data[i];
        if (!w->backward[i] || op_has(user, OPF_VIEW | OPF_SOURCE)) continue;
        for (int k = 0; k < user->n_in; k++) {
            int result;
            if (op_reads(user, k) && cw_base(user->in[k], &result) == n) return true;
        }
    }
    return false;
}

static void put_op_names(StrBuf *sb, const Node *n)
{
    if (!op_is(n, &op_fused)) {
        sb_puts(sb, n->op->name);
        return;
    }
    const FusedAttrs *f = n->attrs;
    for (int i = 0; i < f->n_steps && i < 6; i++)
        sb_printf(sb, "%s%s", i ? ", " : "", f->steps[i].op->name);
    if (f->n_steps > 6) sb_puts(sb, " ...");
}

/* "f32[B,400], f32[120,400] -> f32[B,120]": what the node reads and writes. */
static void put_types(StrBuf *sb, const Node *n)
{
    for (int i = 0, put = 0; i < n->n_in; i++) {
        double v;
        if (!op_reads(n, i) || (type_is_scalar(&n->in[i]->type) && node_const_value(n->in[i], &v)))
            continue;
        if (put++) sb_puts(sb, ", ");
        type_print(sb, &n->in[i]->type);
    }
    sb_puts(sb, " -> ");
    type_print(sb, &n->type);
    for (int k = 1; k < n->n_results; k++) {
        sb_puts(sb, ", ");
        type_print(sb, &n->more[k - 1]);
    }
}

/* Everything that is executed gets a line that says what it is, where it comes from and its shapes. */
static void put_node_comment(CWriter *w, const Node *n)
{
    StrBuf sb;
    sb_init(&sb, w->arena);
    sb_puts(&sb, where_text(w, user_span(n)));
    if (w->backward && w->backward[n->id]) sb_puts(&sb, "backward ");
    if (n->inst && n->inst->path && *n->inst->path) sb_printf(&sb, "%s: ", n->inst->path);
    if (op_takes_gradient(n) || op_is(n, &op_assign))
        sb_printf(&sb, "%s %s",
                  op_is(n, &op_assign)   ? "new"
                  : op_is(n, &op_update) ? "update of"
                                         : "gradient of",
                  w->face->m->tensors.data[((const IndexAttrs *)n->attrs)->index]->path);
    else if (op_is(n, &op_output) || op_is(n, &op_report))
        sb_printf(&sb, "%s %s", n->op->name,
                  w->routine->outputs.data[((const IndexAttrs *)n->attrs)->index].name);
    else
        put_op_names(&sb, n);
    sb_puts(&sb, "  ");
    put_types(&sb, n);
    if (kept_for_backward(w, n)) sb_puts(&sb, "; kept for backward");
    if (cw_updates(w, n)) sb_printf(&sb, "; updates %s", w->face->m->tensors.data[w->plan->updates[n->id]]->path);
    put_comment(w, sb.text);
}

void cw_flush_one(CWriter *w)
{
    if (!w->one.len) return;
    w->uses_team = true;
    sb_puts(&w->body, "    if (team->rank == 0) {\n");
    sb_puts(&w->body, w->one.text);
    sb_puts(&w->body, "    }\n");
    sb_init(&w->one, w->arena);
}

static bool same_place(const Buffer *a, BufferKind kind, int64_t index)
{
    return a->kind == kind && a->index == index;
}

/* A tensor whose gradient is divided by rows is updated alike: a thread updates what it has just computed. Nothing is
 * left to do where the gradient's kernel has updated it. */
static bool update_code(CWriter *w, const Node *n, int tensor)
{
    if (w->plan->part[n->id] == PART_NONE) return false;
    int k;
    const Node *from = cw_base(n->in[0], &k);
    const int64_t grain = face_row_grain(w->routine, tensor);
    const char *g = cw_pointer(w, from, k);
    put_node_comment(w, n);
    if (w->plan->part[n->id] == PART_ONE) {
        cw_text(w, arena_printf(w->arena, "%s_update(%s, 0, %lld, %s);", w->face->routine[w->routine->index].base,
                                cw_update(w, tensor), (ll)type_numel_max(&n->type), g));
        return true;
    }
    w->uses_team = true;
    cw_text(w, arena_printf(w->arena, "nn_update_rows(team, %lld, %lld, %lld, %s, %s);",
                            grain ? (ll)n->type.dim[1] : (ll)type_numel_max(&n->type),
                            grain ? (ll)n->type.dim[0] : 1LL, grain ? (ll)grain : (ll)w->face->align,
                            cw_update(w, tensor), g));
    return true;
}

/* Copies a root's operand to where the effect goes, unless it was computed there. */
static bool root_code(CWriter *w, const Node *n)
{
    const int64_t index = ((const IndexAttrs *)n->attrs)->index;
    if (op_is(n, &op_update)) return update_code(w, n, (int)index);
    int k;
    const Node *from = cw_base(n->in[0], &k);
    const Buffer *at = &w->plan->result[from->id][k];
    Buffer to = { .kind = AT_NOWHERE, .index = (int)index };
    TensorType type = n->type;
    bool add = false;
    if (op_is(n, &op_output)) {
        to.kind = AT_OUTPUT;
        type = w->routine->outputs.data[index].type;
    } else if (op_is(n, &op_report)) {
        to.kind = AT_METRIC;
        type = type_scalar(DT_F32);
    } else if (op_is(n, &op_assign)) {
        to.kind = AT_STATE;
        type = w->face->m->tensors.data[index]->type;
    } else if (op_is(n, &op_grad_store)) {
        to.kind = AT_GRAD;
        type = w->face->m->tensors.data[index]->type;
        add = true;
    }
    if (same_place(at, to.kind, index)) return false;
    const char *target;
    const RoutineNames *rn = &w->face->routine[w->routine->index];
    switch (to.kind) {
    case AT_OUTPUT:
        target = port_pointer(w, &w->output[index], rn->output[index],
                              face_c_type(w->face, type.dtype), true);
        break;
    case AT_METRIC: target = arena_printf(w->arena, "a->metric + %lld", (ll)index); break;
    case AT_STATE:
        w->uses_state = true;
        target = block_pointer(w, &w->state[index], "state", w->face->tensor[index].offset, true);
        break;
    default:
        w->uses_grads = true;
        target = block_pointer(w, &w->grad[index], "grads", w->face->tensor[index].offset, true);
        break;
    }
    put_node_comment(w, n);
    if (to.kind == AT_METRIC) target = arena_printf(w->arena, "a->metric");
    if (to.kind == AT_METRIC) {
        double v;
        const char *value = node_const_value(from, &v) ? cw_real(w, v)
                            : op_is(from, &op_hyper)
                                ? cw_hyper(w, from)
                                : arena_printf(w->arena, "%s[0]", cw_pointer(w, from, k));
        cw_line(w, "%s[%lld] = %s;", target, (ll)index, value);
        return true;
    }
    cw_copy(w, n, n->in[0], target, &type, cw_port_pitch(w, to.kind, index), add);
    return true;
}

/* A constant or a hyper that some kernel wants to read from memory. */
static bool needs_fill(const CWriter *w, const Node *n)
{
    return (op_is(n, &op_const) || op_is(n, &op_hyper)) &&
           w->plan->result[n->id][0].kind == AT_ARENA;
}

void cw_node(CWriter *w, const Node *n)
{
    if (w->plan->barrier_before[n->id]) {
        cw_flush_one(w);
        w->uses_team = true;
        sb_puts(&w->body, "    nn_barrier(team);\n");
    }
    if (w->guard && (op_is(n, &op_update) || cw_updates(w, n))) {
        cw_flush_one(w);
        sb_puts(&w->body, w->guard);
        w->guard = NULL;
    }
    const bool source = op_has(n, OPF_SOURCE | OPF_VIEW) && !needs_fill(w, n);
    if (source) return;
    const bool one = w->plan->part[n->id] != PART_LEAD && w->plan->part[n->id] != PART_TEAM;
    if (!one) cw_flush_one(w);
    StrBuf code;
    sb_init(&code, w->arena);
    w->indent = one ? 2 : 1;
    bool some = true;
    /* Pointers that the statement declares go straight to the body, before it. */
    w->out = one || op_has(n, OPF_ROOT) ? &code : &w->body;
    if (op_has(n, OPF_ROOT)) {
        some = root_code(w, n);
    } else {
        put_node_comment(w, n);
        w->out = &code;
        if (op_is(n, &op_scan))
            cw_scan(w, n);
        else if (n->op->emit)
            n->op->emit(w, n);
        else
            cw_elementwise(w, n);
    }
    w->indent = 1;
    w->out = &w->body;
    if (some) sb_puts(one ? &w->one : &w->body, code.text);
}

/* Which nodes only gradients and updates need: all that no metric, output or new state depends on. */
static bool *find_backward(const ModelFace *f, const Routine *r)
{
    if (r->kind != ROUTINE_STEP) return NULL;
    bool *backward = ARENA_ARRAY(f->arena, bool, r->nodes.len + 1);
    for (size_t i = 0; i < r->nodes.len; i++) backward[i] = true;
    for (size_t i = r->nodes.len; i-- > 0;) {
        const Node *n = r->nodes.data[i];
        if (op_is(n, &op_report) || op_is(n, &op_output) || op_is(n, &op_assign))
            backward[i] = false;
        if (backward[i]) continue;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k]) backward[n->in[k]->id] = false;
    }
    return backward;
}

/* Names of sources are chosen before anything is written, so that a loop's own locals avoid them; the '!'
 * in front says that the declaration has not been needed yet. */
static const char *pending(CWriter *w, const char *wanted)
{
    return arena_printf(w->arena, "!%s", names_add(w->locals, wanted));
}

/* What a further result is called: the step that computes it, or the node that reads it. */
static const char *result_name(Arena *a, const Routine *r, const Node *n, int k)
{
    if (op_is(n, &op_fused)) {
        const FusedAttrs *f = n->attrs;
        const FusedStep *step = &f->steps[f->result[k]];
        return step->name ? step->name : step->op->name;
    }
    for (size_t i = (size_t)n->id + 1; k && i < r->nodes.len; i++) {
        const Node *x = r->nodes.data[i];
        const bool reads =
            op_is(x, &op_result) && x->in[0] == n && ((const IndexAttrs *)x->attrs)->index == k;
        if (reads && strncmp(x->name, "result", strlen("result"))) return x->name;
    }
    return k ? arena_printf(a, "%s_r%d", n->name, k) : n->name;
}

static bool has_local(const Plan *plan, const Node *n, int k)
{
    if (op_has(n, OPF_VIEW | OPF_ROOT) || op_is(n, &op_result)) return false;
    return plan->result[n->id][k].kind == AT_ARENA || op_is(n, &op_const);
}

void cw_init(CWriter *w, ModelFace *f, const Routine *r)
{
    Arena *a = f->arena;
    const Module *m = f->m;
    *w = (CWriter){
        .face = f, .routine = r, .plan = r->plan, .arena = a, .locals = names_new(a, f->names)
    };
    sb_init(&w->top, a);
    sb_init(&w->body, a);
    sb_init(&w->one, a);
    w->out = &w->body;
    w->indent = 1;
    w->pointer = arena_alloc_array(a, r->nodes.len + 1, sizeof *w->pointer);
    w->backward = find_backward(f, r);
    w->param = ARENA_ARRAY(a, const char *, m->tensors.len + 1);
    w->grad = ARENA_ARRAY(a, const char *, m->tensors.len + 1);
    w->state = ARENA_ARRAY(a, const char *, m->tensors.len + 1);
    w->hyper = ARENA_ARRAY(a, const char *, m->hypers.len + 1);
    w->input = ARENA_ARRAY(a, const char *, r->inputs.len + 1);
    w->output = ARENA_ARRAY(a, const char *, r->outputs.len + 1);
    w->dim = ARENA_ARRAY(a, const char *, m->dims.len + 1);
    w->dim0 = ARENA_ARRAY(a, const char *, m->dims.len + 1);
    w->dim1 = ARENA_ARRAY(a, const char *, m->dims.len + 1);
    for (size_t i = 0; i < m->dims.len; i++) {
        char *lower = names_mangle(a, m->dims.data[i]->name);
        for (char *p = lower; *p; p++) *p = (char)tolower((unsigned char)*p);
        w->dim[i] = pending(w, m->dims.data[i]->name);
        w->dim0[i] = pending(w, arena_printf(a, "%s0", lower));
        w->dim1[i] = pending(w, arena_printf(a, "%s1", lower));
    }
    for (size_t i = 0; i < r->inputs.len; i++) w->input[i] = pending(w, r->inputs.data[i].name);
    if (r->kind != ROUTINE_STEP)
        for (size_t i = 0; i < r->outputs.len; i++)
            w->output[i] = pending(w, r->outputs.data[i].name);
    bool *used = ARENA_ARRAY(a, bool, m->tensors.len + 1);
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (op_is(n, &op_param) || op_is(n, &op_state) || op_is(n, &op_assign) || op_takes_gradient(n))
            used[((const IndexAttrs *)n->attrs)->index] = true;
        for (int k = 0; k < n->n_results; k++)
            if (has_local(r->plan, n, k)) w->pointer[i][k] = pending(w, result_name(a, r, n, k));
        if (r->plan->part[i] == PART_LEAD && !n->type.batch && n->type.rank)
            const_share(w, n->type.dim[0]);
        if (op_is(n, &op_hyper)) {
            const int64_t h = ((const IndexAttrs *)n->attrs)->index;
            if (!w->hyper[h]) w->hyper[h] = pending(w, m->hypers.data[h]->name);
        }
    }
    for (size_t i = 0; i < m->tensors.len; i++) {
        if (!used[i]) continue;
        const Tensor *t = m->tensors.data[i];
        const char **slot = t->kind == TENSOR_STATE ? &w->state[i] : &w->param[i];
        *slot = pending(w, t->path);
        if (t->kind == TENSOR_PARAM && face_keeps_grads(r))
            w->grad[i] = pending(w, arena_printf(a, "d_%s", t->path));
    }
}
