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

static const char *int_literal(const CWriter *w, int64_t v)
{
    if (v > INT32_MIN && v <= INT32_MAX) return arena_printf(w->arena, "%lld", (ll)v);
    return arena_printf(w->arena, "INT64_C(%lld)", (ll)v);
}

const char *cw_const(const CWriter *w, DType t, double v)
{
    if (t == DT_F32) return cw_real(w, v);
    const char *text = int_literal(w, (int64_t)v);
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
            int_literal(w, offset));
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
                      int_literal(w, b->offset));
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

/* ---- templates ---- */

typedef struct Template {
    CWriter *w;
    const OpDesc *op;
    const void *attrs;
    const char *const *operand; /* of an expression; NULL: a statement about `node` */
    int n_in;
    const Node *node;
} Template;

static const char *attr_literal(CWriter *w, const AttrDef *def, const void *attrs, bool in_expr)
{
    const void *field = (const char *)attrs + def->offset;
    switch (def->kind) {
    case ATTR_INT: {
        const char *text = int_literal(w, *(const int64_t *)field);
        return in_expr && *text == '-' ? arena_printf(w->arena, "(%s)", text) : text;
    }
    case ATTR_INT2: {
        const int64_t *v = field;
        return arena_printf(w->arena, "%s, %s", int_literal(w, v[0]), int_literal(w, v[1]));
    }
    case ATTR_FLOAT: return cw_real(w, *(const double *)field);
    case ATTR_BOOL: return *(const bool *)field ? "1" : "0";
    case ATTR_CHOICE: return def->choices[*(const int *)field];
    case ATTR_INTS: {
        const IntList *list = field;
        StrBuf sb;
        sb_init(&sb, w->arena);
        for (int i = 0; i < list->n; i++)
            sb_printf(&sb, "%s%s", i ? ", " : "", int_literal(w, list->v[i]));
        return sb.text;
    }
    case ATTR_SHAPE:
    case ATTR_TYPE:
    case ATTR_PTR: break;
    }
    if (!w->fault)
        w->fault = arena_printf(w->arena, "attribute %s cannot stand in C text", def->name);
    return "0";
}

bool cw_runs_lead(const CWriter *w, const Node *n)
{
    return w->plan->part[n->id] == PART_LEAD;
}

bool cw_is_lead(const CWriter *w, const Node *n)
{
    return cw_runs_lead(w, n);
}

bool cw_result_is_read(const CWriter *w, const Node *n, int k)
{
    const Buffer *b = &w->plan->result[n->id][k];
    return b->kind != AT_ARENA || b->last > n->id;
}

bool cw_has_pitch(const CWriter *w, const Node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        int k;
        const Node *base = n->in[i] ? cw_base(n->in[i], &k) : NULL;
        if (base &&
            cw_port_pitch(w, w->plan->result[base->id][k].kind, w->plan->result[base->id][k].index))
            return true;
    }
    for (int k = 0; k < n->n_results; k++)
        if (cw_port_pitch(w, w->plan->result[n->id][k].kind, w->plan->result[n->id][k].index))
            return true;
    return false;
}

bool cw_updates(const CWriter *w, const Node *n)
{
    return w->plan->updates[n->id] >= 0;
}

bool cw_use_blas(const CWriter *w)
{
    return w->face->m->use_blas;
}

/* `name + from * rows` for a thread's first row, or the bare name. */
static const char *share_pointer(CWriter *w, const char *name, const Buffer *b, const TensorType *t)
{
    const char *from, *to;
    int64_t scale;
    cw_share(w, t, &from, &to, &scale);
    const int64_t row = (t->batch ? t->dim[0] : 1) * cw_pitch(w, b, t);
    if (row == 1) return arena_printf(w->arena, "%s + %s", name, from);
    return arena_printf(w->arena, "%s + %s * %s", name, from, int_literal(w, row));
}

static const char *operand_text(CWriter *w, const Node *n, int i)
{
    if (i >= n->n_in || !n->in[i]) return "NULL";
    int k;
    const Node *base = cw_base(n->in[i], &k);
    const char *name = cw_pointer(w, base, k);
    if (cw_runs_lead(w, n) && node_divides_operand(n, i))
        return share_pointer(w, name, &w->plan->result[base->id][k], &n->in[i]->type);
    return name;
}

/* $pitch0, $pitch_out, ...: see ops/cwriter.h. */
static const char *pitch_text(CWriter *w, const Node *n, const char *of)
{
    if (isdigit((unsigned char)*of)) {
        const int i = atoi(of);
        if (i >= n->n_in || !n->in[i]) return "0";
        int k;
        const Node *base = cw_base(n->in[i], &k);
        return int_literal(w, cw_pitch(w, &w->plan->result[base->id][k], &n->in[i]->type));
    }
    const int k = of[3] ? atoi(of + 3) : 0; /* "out", "out1" */
    return int_literal(w, cw_pitch(w, &w->plan->result[n->id][k], k ? &n->more[k - 1] : &n->type));
}

static const char *result_text(CWriter *w, const Node *n, int k)
{
    if (w->plan->result[n->id][k].kind == AT_NOWHERE) return "NULL";
    const TensorType *t = k ? &n->more[k - 1] : &n->type;
    const char *name = cw_pointer(w, n, k);
    return cw_runs_lead(w, n) ? share_pointer(w, name, &w->plan->result[n->id][k], t) : name;
}

static const char *rows_text(CWriter *w, const Node *n)
{
    if (!n->type.rank) return "1";
    if (!cw_runs_lead(w, n)) {
        if (!n->type.batch) return int_literal(w, n->type.dim[0]);
        const char *size = cw_dim(w, n->type.batch);
        return n->type.dim[0] == 1
                   ? size
                   : arena_printf(w->arena, "(%lld * %s)", (ll)n->type.dim[0], size);
    }
    const char *from, *to;
    int64_t scale;
    cw_share(w, &n->type, &from, &to, &scale);
    return scale == 1 ? arena_printf(w->arena, "(%s - %s)", to, from)
                      : arena_printf(w->arena, "(%lld * (%s - %s))", (ll)scale, to, from);
}

static const char *row0_text(CWriter *w, const Node *n)
{
    if (!cw_runs_lead(w, n)) return "0";
    const char *from, *to;
    int64_t scale;
    cw_share(w, &n->type, &from, &to, &scale);
    return scale == 1 ? from : arena_printf(w->arena, "(%lld * %s)", (ll)scale, from);
}

static const char *batch_text(CWriter *w, const Node *n)
{
    if (n->type.batch) return cw_dim(w, n->type.batch);
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && n->in[i]->type.batch) return cw_dim(w, n->in[i]->type.batch);
    return "1";
}

static const char *scratch_text(CWriter *w, const Node *n)
{
    const Buffer *b = &w->plan->scratch[n->id];
    if (!b->bytes) return "NULL";
    w->uses_arena = true;
    return arena_printf(w->arena, "(%s *)(arena + %s)", w->face->real, int_literal(w, b->offset));
}

static const char *key_text(CWriter *w, const Node *n)
{
    int64_t stream = 0;
    for (const AttrDef *d = n->op->attrs; d && d->name; d++)
        if (!strcmp(d->name, "stream"))
            stream = *(const int64_t *)((const char *)n->attrs + d->offset);
    const int top = face_clock(w->face, w->routine);
    /* Each step of a loop has streams of its own. */
    if (w->routine->kind == ROUTINE_BODY)
        return arena_printf(
            w->arena,
            "nn_key_make(a->m->base.seed, %d, (uint32_t)(%lld + 65536 * a->t), a->m->base.calls[%d])",
            top, (ll)stream, top);
    return arena_printf(w->arena, "nn_key_make(a->m->base.seed, %d, %lld, a->m->base.calls[%d])",
                        top, (ll)stream, top);
}

static const char *double_literal(const CWriter *w, double v)
{
    StrBuf sb;
    sb_init(&sb, w->arena);
    if (isinf(v) || isnan(v))
        return isnan(v) ? "(double)NAN" : v > 0 ? "(double)INFINITY" : "-(double)INFINITY";
    put_double(&sb, v);
    return sb.text;
}

/* What updates a parameter from pieces of its gradient. */
static const char *update_text(CWriter *w, int tensor)
{
    const ParamRange *range = face_range(w->face, w->routine, tensor);
    const int64_t offset = w->face->tensor[tensor].offset;
    return arena_printf(w->arena, "&(const nn_update){ %s_update, a, %lld, %lld, %s }",
                        w->face->routine[w->routine->index].base, (ll)offset,
                        (ll)(range->slot_offset + offset - range->offset), double_literal(w, range->scale));
}

static const char *word_text(Template *t, const char *word, bool as_double)
{
    CWriter *w = t->w;
    if (!strcmp(word, "real")) return w->face->real;
    if (!t->operand) {
        const Node *n = t->node;
        if (!strncmp(word, "out", 3) && (!word[3] || (isdigit((unsigned char)word[3]) && !word[4])))
            return result_text(w, n, word[3] ? word[3] - '0' : 0);
        if (!strncmp(word, "pitch", 5) && word[5])
            return pitch_text(w, n, word + 5 + (word[5] == '_'));
        if (!strcmp(word, "rows")) return rows_text(w, n);
        if (!strcmp(word, "row0")) return row0_text(w, n);
        if (!strcmp(word, "batch")) return batch_text(w, n);
        if (!strcmp(word, "scratch")) return scratch_text(w, n);
        if (!strcmp(word, "key")) return key_text(w, n);
        if (!strcmp(word, "team")) {
            w->uses_team = true;
            return "team";
        }
        if (!strcmp(word, "update")) return update_text(w, w->plan->updates[n->id]);
        if (!strcmp(word, "acc")) {
            if (!w->plan->accumulate[n->id]) return "0";
            w->uses_acc = true;
            return "acc";
        }
    }
    for (const AttrDef *d = t->op->attrs; d && d->name; d++)
        if (!strcmp(d->name, word))
            return as_double && d->kind == ATTR_FLOAT
                       ? double_literal(w, *(const double *)((const char *)t->attrs + d->offset))
                       : attr_literal(w, d, t->attrs, t->operand != NULL);
    if (!w->fault)
        w->fault =
            arena_printf(w->arena, "$%s in the template of %s means nothing", word, t->op->name);
    return "0";
}

static const char *expand(Template *t, const char *s)
{
    StrBuf sb;
    sb_init(&sb, t->w->arena);
    while (*s) {
        if (*s == '$') {
            s++;
            if (*s == '$') {
                sb_putc(&sb, *s++);
                continue;
            }
            const char *start = s;
            if (isdigit((unsigned char)*s)) {
                int i = 0;
                while (isdigit((unsigned char)*s) && i < 100) i = i * 10 + (*s++ - '0');
                if (t->operand)
                    sb_puts(&sb, i < t->n_in && t->operand[i] ? t->operand[i] : "0");
                else
                    sb_puts(&sb, operand_text(t->w, t->node, i));
                continue;
            }
            while (isalnum((unsigned char)*s) || *s == '_') s++;
            const char *word = arena_strndup(t->w->arena, start, (size_t)(s - start));
            const bool as_double = !strncmp(s, ".double", 7);
            sb_puts(&sb, word_text(t, word, as_double));
            if (as_double) s += 7;
            continue;
        }
        if (isalpha((unsigned char)*s) || *s == '_') {
            while (isalnum((unsigned char)*s) || *s == '_') sb_putc(&sb, *s++);
            continue;
        }
        if (isdigit((unsigned char)*s)) {
            const char *start = s;
            while (isalnum((unsigned char)*s) || *s == '.' ||
                   ((*s == '-' || *s == '+') && (s[-1] == 'e' || s[-1] == 'E')))
                s++;
            if (s[-1] != 'r') {
                sb_putn(&sb, start, (size_t)(s - start));
                continue;
            }
            const size_t len = (size_t)(s - start) - 1;
            sb_putn(&sb, start, len);
            if (!memchr(start, '.', len) && !memchr(start, 'e', len)) sb_puts(&sb, ".0");
            if (!t->w->face->m->real_is_f64) sb_putc(&sb, 'f');
            continue;
        }
        sb_putc(&sb, *s++);
    }
    return sb.text;
}

const char *cw_expand_expr(CWriter *w, const OpDesc *op, const void *attrs,
                           const char *const *operand, int n_in)
{
    static const char *const none[1] = { NULL };
    Template t = {
        .w = w, .op = op, .attrs = attrs, .operand = operand ? operand : none, .n_in = n_in
    };
    return expand(&t, op->expr);
}

/* ---- kernels as functions of their own ----
 *
 * Note [outlining]
 * A kernel is an always-inline template that the C compiler specialises for literal arguments. Inlined
 * into the routine, the text of a deep network would become one function that takes compilers minutes and
 * gigabytes. So each call goes into a small function that holds the literals; what differs from call to call
 * (pointers, rows, the team) are its parameters, and layers of the same shape share one function.
 */
typedef struct Param {
    const char *word; /* "0", "out", "rows": what stood behind the '$' */
    const char *name, *type;
    const char *actual; /* the argument of this call */
} Param;

typedef struct Outline {
    CWriter *w;
    const Node *n;
    NameTable *names;
    VEC(Param) params;
} Outline;

static bool is_literal(const char *text)
{
    return !strcmp(text, "NULL") ||
           (isdigit((unsigned char)*text) && text[strspn(text, "0123456789")] == '\0');
}

static const char *pointer_type(Outline *o, DType t, bool writable)
{
    return arena_printf(o->w->arena, "%s%s *", writable ? "" : "const ",
                        face_c_type(o->w->face, t));
}

static const char *operand_word(const Node *n, int i, Arena *a)
{
    int last = 0;
    while (n->op->in[last + 1] && last < i) last++;
    const char *name = n->op->in[last] ? n->op->in[last] : "x";
    const size_t len = strcspn(name, "?*");
    return name[len] == '*' ? arena_printf(a, "%.*s%d", (int)len, name, i - last)
                            : arena_strndup(a, name, len);
}

/* How the outlined function spells $WORD: a parameter, or the text itself when it is the same for all. */
static const char *outlined_word(Outline *o, const char *word)
{
    CWriter *w = o->w;
    const Node *n = o->n;
    for (size_t i = 0; i < o->params.len; i++)
        if (!strcmp(o->params.data[i].word, word)) return o->params.data[i].name;
    Param p = { .word = word };
    const char *wanted = word;
    if (isdigit((unsigned char)*word)) {
        const int i = atoi(word);
        p.actual = operand_text(w, n, i);
        if (is_literal(p.actual)) return p.actual;
        p.type = pointer_type(o, n->in[i]->type.dtype, false);
        wanted = operand_word(n, i, w->arena);
    } else {
        Template t = { .w = w, .op = n->op, .attrs = n->attrs, .node = n };
        p.actual = word_text(&t, word, false);
        if (is_literal(p.actual)) return p.actual;
        if (!strncmp(word, "out", 3)) {
            const int k = word[3] ? word[3] - '0' : 0;
            p.type = pointer_type(o, (k ? n->more[k - 1] : n->type).dtype, true);
        } else if (!strcmp(word, "scratch")) {
            p.type = pointer_type(o, DT_F32, true);
        } else {
            static const char *const words[][2] = {
                { "rows", "nn_dim " },         { "row0", "nn_dim " }, { "batch", "nn_dim " },
                { "team", "const nn_team *" }, { "acc", "int " },     { "key", "nn_key " },
                { "update", "const nn_update *" }
            };
            for (size_t i = 0; i < sizeof words / sizeof *words; i++)
                if (!strcmp(words[i][0], word)) p.type = words[i][1];
            if (!p.type) return p.actual; /* an attribute or a type */
        }
    }
    p.name = names_add(o->names, wanted);
    const size_t len = strlen(p.actual);
    if (*p.actual == '(' && p.actual[len - 1] == ')' && strchr(p.actual, ')') == p.actual + len - 1)
        p.actual = arena_strndup(w->arena, p.actual + 1, len - 2);
    vec_push(w->arena, &o->params, p);
    return p.name;
}

/* The template with parameters in place of what differs; numbers and attributes become literals. */
static const char *outlined_body(Outline *o, const char *text)
{
    StrBuf sb;
    sb_init(&sb, o->w->arena);
    while (*text) {
        if (*text != '$' || text[1] == '$') {
            if (*text == '$') sb_putc(&sb, *text++);
            sb_putc(&sb, *text++);
            continue;
        }
        const char *start = ++text;
        if (isdigit((unsigned char)*text))
            text += strspn(text, "0123456789");
        else
            while (isalnum((unsigned char)*text) || *text == '_') text++;
        const char *word = arena_strndup(o->w->arena, start, (size_t)(text - start));
        if (!strncmp(text, ".double", 7))
            sb_printf(&sb, "$%s", word); /* an attribute: expanded below */
        else
            sb_puts(&sb, outlined_word(o, word));
    }
    Template t = { .w = o->w, .op = o->n->op, .attrs = o->n->attrs, .node = o->n };
    return expand(&t, sb.text);
}

/* A single call of a kernel, as opposed to statements that a template spells out. */
static bool is_kernel_call(const char *text)
{
    const size_t len = strlen(text);
    return !strncmp(text, "nn_", 3) &&
           strcspn(text, "(") == strspn(text, "abcdefghijklmnopqrstuvwxyz_0123456789$") &&
           len > 2 && !strcmp(text + len - 2, ");") && !memchr(text, ';', len - 1);
}

static void put_outlined(CWriter *w, const Node *n, const char *text)
{
    ModelFace *f = w->face;
    Outline o = { .w = w, .n = n, .names = names_new(w->arena, NULL) };
    names_reserve(o.names,
                  (const char *const[]){ f->type, NULL }); /* a parameter must not hide it */
    const char *body = outlined_body(&o, text);
    StrBuf formals, call;
    sb_init(&formals, w->arena);
    sb_init(&call, w->arena);
    for (size_t i = 0; i < o.params.len; i++)
        sb_printf(&formals, "%s%s%s", i ? ", " : "", o.params.data[i].type, o.params.data[i].name);
    const char *key = arena_printf(w->arena, "%s|%s", formals.text, body);
    const char *name = map_get(f->kernel, key);
    if (!name) {
        name = names_add(w->locals, arena_printf(w->arena, "run_%s", n->op->name));
        names_reserve(f->names, (const char *const[]){ name, NULL });
        map_set(f->kernel, key, (void *)name);
        sb_putc(&f->kernels, '\n');
        put_text(&f->kernels, 0,
                 arena_printf(w->arena, "NN_OUTLINE void %s(%s)", name, formals.text));
        sb_puts(&f->kernels, "{\n");
        put_text(&f->kernels, 1, body);
        sb_puts(&f->kernels, "}\n");
    }
    sb_printf(&call, "%s(", name);
    for (size_t i = 0; i < o.params.len; i++)
        sb_printf(&call, "%s%s", i ? ", " : "", o.params.data[i].actual);
    sb_puts(&call, ");");
    cw_text(w, call.text);
}

void cw_stmt(CWriter *w, const Node *n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const char *text = arena_vprintf(w->arena, fmt, ap);
    va_end(ap);
    if (is_kernel_call(text)) {
        put_outlined(w, n, text);
        return;
    }
    Template t = { .w = w, .op = n->op, .attrs = n->attrs, .node = n };
    cw_text(w, expand(&t, text));
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
                                update_text(w, tensor), (ll)type_numel_max(&n->type), g));
        return true;
    }
    w->uses_team = true;
    cw_text(w, arena_printf(w->arena, "nn_update_rows(team, %lld, %lld, %lld, %s, %s);",
                            grain ? (ll)n->type.dim[1] : (ll)type_numel_max(&n->type),
                            grain ? (ll)n->type.dim[0] : 1LL, grain ? (ll)grain : (ll)w->face->align,
                            update_text(w, tensor), g));
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
