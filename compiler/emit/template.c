/* SPDX-License-Identifier: MIT
 *
 * The text that operators give (ops/cwriter.h) becomes C. In: a template, and the node or the expression it is about.
 * Out: the text with pointers, shares and literals in place of its words; a call of a kernel becomes a function of its
 * own and the call of that. Invariant: a word that means nothing is a fault of the writer, never text.
 */
#include "emit/emit.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef long long ll;

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
        const char *text = cw_int(w, *(const int64_t *)field);
        return in_expr && *text == '-' ? arena_printf(w->arena, "(%s)", text) : text;
    }
    case ATTR_INT2: {
        const int64_t *v = field;
        return arena_printf(w->arena, "%s, %s", cw_int(w, v[0]), cw_int(w, v[1]));
    }
    case ATTR_FLOAT: return cw_real(w, *(const double *)field);
    case ATTR_BOOL: return *(const bool *)field ? "1" : "0";
    case ATTR_CHOICE: return def->choices[*(const int *)field];
    case ATTR_INTS: {
        const IntList *list = field;
        StrBuf sb;
        sb_init(&sb, w->arena);
        for (int i = 0; i < list->n; i++)
            sb_printf(&sb, "%s%s", i ? ", " : "", cw_int(w, list->v[i]));
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
    return arena_printf(w->arena, "%s + %s * %s", name, from, cw_int(w, row));
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
        return cw_int(w, cw_pitch(w, &w->plan->result[base->id][k], &n->in[i]->type));
    }
    const int k = of[3] ? atoi(of + 3) : 0; /* "out", "out1" */
    return cw_int(w, cw_pitch(w, &w->plan->result[n->id][k], k ? &n->more[k - 1] : &n->type));
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
        if (!n->type.batch) return cw_int(w, n->type.dim[0]);
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
    return arena_printf(w->arena, "(%s *)(arena + %s)", w->face->real, cw_int(w, b->offset));
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

const char *cw_update(CWriter *w, int tensor)
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
        if (!strcmp(word, "update")) return cw_update(w, w->plan->updates[n->id]);
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
