/* SPDX-License-Identifier: MIT
 *
 * Module -> .nnir text. In: a module at any stage. Out: text that is a pure function of the module (no
 * addresses, no absolute paths) and that parse.c reads back.
 *
 *   file    = "nnir 1;" model (dim | hyper | inst | tensor)* routine*
 *   model   = "model" NAME STRING flag* "hash" HEX place? ";"        flag = f64 | no_blas | layouts
 *   dim     = "dim" NAME "=" INT ".." INT place? ";"
 *   hyper   = "hyper" NAME NAME "=" REAL place? ";"                  field name, path, initial value
 *   inst    = "inst" INT STRING STRING STRING STRING ("in" INT)? place? ";"   block, args, path, label
 *   tensor  = ("param" | "state") NAME ":" type ("=" NAME "(" REAL* ")")? ("fan" INT INT)? "trained"?
 *             ("inst" INT)? place? ";"
 *   routine = ("infer" | "step") NAME "(" port* ")" "->" "(" port* ")" "dims" "(" NAME* ")"
 *             (("of" | "traces") NAME)? place? "{" node* minimize? "}"       a product or trace and its step
 *   port    = NAME ":" type "metric"? ("limit" INT)? ("ignore" INT)? place?
 *   node    = ref "=" OP "(" (ref | "-")* ")" target? attrs? fused? body? ":" type+ ("inst" INT)? place? ";"
 *   ref     = "%" NAME ("~" INT)?       the second node called h is %h~2
 *   target  = NAME | INT | REAL         what a source reads or a root writes
 *   attrs   = "{" (NAME "=" value)* "}" only values that differ from the default
 *   fused   = "[" (INT "=" OP "(" ("$" INT | "~" INT)* ")" attrs? ":" DTYPE NAME place? ";")* "->" INT* "]"
 *   body    = "body" "(" port* ")" "->" "(" port* ")" "dims" "(" NAME* ")" "{" node* "}"   of a scan
 *   type    = DTYPE "[" ((INT "*")? NAME | INT)* "]" (":" LAYOUT)?
 *   place   = "@" FILE ":" LINE ":" COL
 *
 * Lists are separated by commas. NAME is quoted unless it consists of letters, digits and `_ . [ ]`.
 * `#` starts a comment.
 */
#include <string.h>

#include "ir/plan.h"
#include "ir/scan.h"
#include "ir/text.h"

typedef struct Printer {
    StrBuf *sb;
    const Module *m;
    VEC(const Inst *) insts;
    const char **ref; /* by node id: "%h~2" */
    int depth;        /* bodies around the routine that is printed */
} Printer;

static bool is_bare(const char *s)
{
    if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || *s == '_')) return false;
    return s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.[]")] ==
           '\0';
}

static void put_string(StrBuf *sb, const char *s)
{
    sb_putc(sb, '"');
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            sb_printf(sb, "\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            sb_printf(sb, "\\x%02x", c);
        else
            sb_putc(sb, (char)c);
    }
    sb_putc(sb, '"');
}

static void put_name(StrBuf *sb, const char *s)
{
    if (is_bare(s))
        sb_puts(sb, s);
    else
        put_string(sb, s);
}

static void put_type(StrBuf *sb, const TensorType *t)
{
    type_print(sb, t);
    if (t->layout != LAYOUT_CANONICAL) sb_printf(sb, ":%s", layout_name(t->layout));
}

/* Only the last component of the file's name: dumps do not depend on where the source lies. */
static void put_place(StrBuf *sb, Span s)
{
    if (!s.source) return;
    const Place at = span_place(s);
    const char *slash = strrchr(s.source->name, '/');
    const char *base = slash ? slash + 1 : s.source->name;
    StrBuf file;
    sb_init(&file, sb->arena);
    if (s.source->is_std && strncmp(s.source->name, "<std>", 5) == 0)
        base = s.source->name;
    else if (s.source->is_std)
        sb_puts(&file, "<std>/");
    sb_puts(&file, base);
    sb_puts(sb, " @");
    if (file.text[strspn(file.text,
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.<>/-")])
        put_string(sb, file.text);
    else
        sb_puts(sb, file.text);
    sb_printf(sb, ":%d:%d", at.line, at.col);
}

/* ---- attributes ---- */

static const void *field(const AttrDef *d, const void *attrs)
{
    return (const char *)attrs + d->offset;
}

static size_t field_size(AttrKind k)
{
    switch (k) {
    case ATTR_INT: return sizeof(int64_t);
    case ATTR_INT2: return 2 * sizeof(int64_t);
    case ATTR_FLOAT: return sizeof(double);
    case ATTR_BOOL: return sizeof(bool);
    case ATTR_CHOICE: return sizeof(int);
    case ATTR_INTS: return sizeof(IntList);
    case ATTR_SHAPE:
    case ATTR_TYPE: return sizeof(TensorType);
    case ATTR_PTR: break;
    }
    return 0;
}

static bool field_equal(AttrKind k, const void *a, const void *b)
{
    if (k == ATTR_INTS) {
        const IntList *x = a, *y = b;
        return x->n == y->n && memcmp(x->v, y->v, (size_t)x->n * sizeof x->v[0]) == 0;
    }
    if (k == ATTR_SHAPE || k == ATTR_TYPE) {
        const TensorType *x = a, *y = b;
        return type_equal(x, y) && x->layout == y->layout;
    }
    /* Bits, not values: -0.0 and NaN survive the round trip. */
    return memcmp(a, b, field_size(k)) == 0;
}

static void put_value(StrBuf *sb, const AttrDef *d, const void *v)
{
    switch (d->kind) {
    case ATTR_INT: sb_printf(sb, "%lld", (long long)*(const int64_t *)v); break;
    case ATTR_INT2:
        sb_printf(sb, "[%lld, %lld]", (long long)((const int64_t *)v)[0],
                  (long long)((const int64_t *)v)[1]);
        break;
    case ATTR_FLOAT: sb_real(sb, *(const double *)v); break;
    case ATTR_BOOL: sb_puts(sb, *(const bool *)v ? "true" : "false"); break;
    case ATTR_CHOICE: sb_puts(sb, d->choices[*(const int *)v]); break;
    case ATTR_INTS: {
        const IntList *l = v;
        sb_putc(sb, '[');
        for (int i = 0; i < l->n; i++) sb_printf(sb, "%s%lld", i ? ", " : "", (long long)l->v[i]);
        sb_putc(sb, ']');
        break;
    }
    case ATTR_SHAPE:
    case ATTR_TYPE: put_type(sb, v); break;
    case ATTR_PTR: break;
    }
}

static void put_attrs(StrBuf *sb, const OpDesc *op, const void *attrs)
{
    if (!op->attrs || !attrs) return;
    void *def = arena_alloc(sb->arena, op->attr_size);
    attrs_default(op, def);
    bool any = false;
    for (const AttrDef *d = op->attrs; d->name; d++) {
        if (d->kind == ATTR_PTR || field_equal(d->kind, field(d, attrs), field(d, def))) continue;
        sb_printf(sb, "%s%s = ", any ? ", " : " {", d->name);
        put_value(sb, d, field(d, attrs));
        any = true;
    }
    if (any) sb_putc(sb, '}');
}

/* ---- nodes ---- */

static int inst_number(const Printer *p, const Inst *inst)
{
    for (size_t i = 0; i < p->insts.len; i++)
        if (p->insts.data[i] == inst) return (int)i;
    return -1;
}

/* Parents before children, in the order of first use. */
static void collect_inst(Printer *p, const Inst *inst)
{
    if (!inst || inst_number(p, inst) >= 0) return;
    collect_inst(p, inst->parent);
    vec_push(p->sb->arena, &p->insts, inst);
}

static void collect_insts(Printer *p, const Routine *r)
{
    for (size_t i = 0; i < r->nodes.len; i++) {
        collect_inst(p, r->nodes.data[i]->inst);
        if (op_is(r->nodes.data[i], &op_scan)) collect_insts(p, scan_attrs(r->nodes.data[i])->body);
    }
}

static void put_inst(const Printer *p, const Inst *inst)
{
    if (inst) sb_printf(p->sb, " inst %d", inst_number(p, inst));
}

static const char *name_refs_key(Arena *a, const char *name, int k)
{
    return arena_printf(a, "%s~%d", name, k);
}

/* Names of nodes need not be unique; references are. */
static void name_refs(Printer *p, const Routine *r)
{
    Arena *a = p->sb->arena;
    StrMap *count = map_new(a);
    p->ref = ARENA_ARRAY(a, const char *, r->nodes.len + 1);
    for (size_t i = 0; i < r->nodes.len; i++) {
        const char *name = r->nodes.data[i]->name;
        int *seen = map_get(count, name);
        if (!seen) {
            seen = ARENA_NEW(a, int);
            map_set(count, name, seen);
        }
        StrBuf s;
        sb_init(&s, a);
        sb_putc(&s, '%');
        ++*seen;
        if (*seen == 1)
            put_name(&s, name);
        else if (is_bare(name))
            sb_puts(&s, name_refs_key(a, name, *seen));
        else {
            put_string(&s, name);
            sb_printf(&s, "~%d", *seen);
        }
        p->ref[i] = s.text;
    }
}

static void put_ref(const Printer *p, const Routine *r, const Node *n)
{
    if (!n)
        sb_putc(p->sb, '-');
    else if (n->id >= 0 && (size_t)n->id < r->nodes.len && r->nodes.data[n->id] == n)
        sb_puts(p->sb, p->ref[n->id]);
    else /* only in dumps of broken graphs */
        sb_printf(p->sb, "%%!%s", n->name);
}

static void put_fused(const Printer *p, const FusedAttrs *f)
{
    StrBuf *sb = p->sb;
    sb_puts(sb, " [\n");
    for (int i = 0; i < f->n_steps; i++) {
        const FusedStep *s = &f->steps[i];
        sb_printf(sb, "    %d = %s(", i, s->op->name);
        for (int k = 0; k < s->n_in; k++)
            sb_printf(sb, "%s%c%d", k ? ", " : "", s->arg[k] < 0 ? '~' : '$',
                      s->arg[k] < 0 ? ~s->arg[k] : s->arg[k]);
        sb_putc(sb, ')');
        put_attrs(sb, s->op, s->attrs);
        sb_printf(sb, " : %s ", dtype_name(s->dtype));
        put_name(sb, s->name ? s->name : "_");
        put_place(sb, s->span);
        sb_puts(sb, ";\n");
    }
    sb_puts(sb, "    ->");
    for (int k = 0; k < f->n_results; k++) sb_printf(sb, "%s %d", k ? "," : "", f->result[k]);
    sb_puts(sb, "\n  ]");
}

/* What a source reads or a root writes, by name. */
static bool put_target(const Printer *p, const Routine *r, const Node *n)
{
    StrBuf *sb = p->sb;
    if (op_is(n, &op_const)) {
        sb_putc(sb, ' ');
        sb_real(sb, ((const ConstAttrs *)n->attrs)->value);
        return true;
    }
    const bool tensor = op_is(n, &op_param) || op_is(n, &op_state) || op_takes_gradient(n) || op_is(n, &op_assign);
    const bool in = op_is(n, &op_input), out = op_is(n, &op_output) || op_is(n, &op_report);
    if (!tensor && !in && !out && !op_is(n, &op_hyper) && !op_is(n, &op_result)) return false;
    const int64_t i = ((const IndexAttrs *)n->attrs)->index;
    const size_t u = (size_t)i;
    sb_putc(sb, ' ');
    if (tensor && u < p->m->tensors.len)
        put_name(sb, p->m->tensors.data[u]->path);
    else if (in && u < r->inputs.len)
        put_name(sb, r->inputs.data[u].name);
    else if (out && u < r->outputs.len)
        put_name(sb, r->outputs.data[u].name);
    else if (op_is(n, &op_hyper) && u < p->m->hypers.len)
        put_name(sb, p->m->hypers.data[u]->path);
    else
        sb_printf(sb, "%lld", (long long)i);
    return true;
}

static void put_buffer(StrBuf *sb, const Buffer *b)
{
    static const char *const kind[] = {
        [AT_NOWHERE] = "-",     [AT_ARENA] = "arena", [AT_INPUT] = "input",
        [AT_OUTPUT] = "output", [AT_PARAM] = "param", [AT_GRAD] = "grad",
        [AT_STATE] = "state",   [AT_HYPER] = "hyper", [AT_METRIC] = "metric"
    };
    sb_printf(sb, " %s", kind[b->kind]);
    if (b->kind == AT_ARENA)
        sb_printf(sb, " %lld+%lld live %d..%d", (long long)b->offset, (long long)b->bytes, b->first,
                  b->last);
    else if (b->kind != AT_NOWHERE)
        sb_printf(sb, " %d", b->index);
}

static void put_plan(StrBuf *sb, const Plan *plan, const Node *n)
{
    static const char *const part[] = { "none", "one", "lead", "team" };
    sb_printf(sb, "  # %d %s%s", n->id, part[plan->part[n->id]],
              plan->accumulate[n->id]       ? " accumulates"
              : plan->updates[n->id] >= 0 ? " updates"
                                          : "");
    for (int k = 0; k < n->n_results; k++) put_buffer(sb, &plan->result[n->id][k]);
    if (plan->scratch[n->id].bytes) {
        sb_puts(sb, ", scratch");
        put_buffer(sb, &plan->scratch[n->id]);
    }
}

static void put_ports(StrBuf *sb, const Port *ports, size_t n);
static void put_dims(StrBuf *sb, const Routine *r);
static void put_node(const Printer *p, const Routine *r, const Node *n);

/* References inside are the body's own. */
static void put_body(const Printer *p, const Routine *body)
{
    StrBuf *sb = p->sb;
    Printer inner = *p;
    inner.depth++;
    sb_puts(sb, " body ");
    put_ports(sb, body->inputs.data, body->inputs.len);
    sb_puts(sb, " -> ");
    put_ports(sb, body->outputs.data, body->outputs.len);
    put_dims(sb, body);
    sb_puts(sb, " {");
    if (body->plan)
        sb_printf(sb, "  # arena %lld, bound %lld, barriers %d%s",
                  (long long)body->plan->arena_bytes, (long long)body->plan->bound_bytes,
                  body->plan->n_barriers, body->plan->apart ? ", apart" : "");
    sb_putc(sb, '\n');
    name_refs(&inner, body);
    for (size_t i = 0; i < body->nodes.len; i++) put_node(&inner, body, body->nodes.data[i]);
    sb_printf(sb, "%*s}", 2 * p->depth + 2, "");
}

static void put_node(const Printer *p, const Routine *r, const Node *n)
{
    StrBuf *sb = p->sb;
    const int indent = 2 * p->depth + 2;
    if (r->plan && r->plan->barrier_before[n->id]) sb_printf(sb, "%*s# barrier\n", indent, "");
    sb_printf(sb, "%*s%s = %s", indent, "", p->ref[n->id], n->op->name);
    if (n->n_in || !op_has(n, OPF_SOURCE)) {
        sb_putc(sb, '(');
        for (int i = 0; i < n->n_in; i++) {
            if (i) sb_puts(sb, ", ");
            put_ref(p, r, n->in[i]);
        }
        sb_putc(sb, ')');
    }
    if (op_is(n, &op_fused))
        put_fused(p, n->attrs);
    else if (!put_target(p, r, n))
        put_attrs(sb, n->op, n->attrs);
    if (op_is(n, &op_scan)) put_body(p, scan_attrs(n)->body);
    sb_puts(sb, " : ");
    put_type(sb, &n->type);
    for (int k = 1; k < n->n_results; k++) {
        sb_puts(sb, ", ");
        put_type(sb, &n->more[k - 1]);
    }
    put_inst(p, n->inst);
    put_place(sb, n->span);
    sb_putc(sb, ';');
    if (r->plan) put_plan(sb, r->plan, n);
    sb_putc(sb, '\n');
}

/* ---- the rest of a module ---- */

static void put_ports(StrBuf *sb, const Port *ports, size_t n)
{
    sb_putc(sb, '(');
    for (size_t i = 0; i < n; i++) {
        const Port *q = &ports[i];
        if (i) sb_puts(sb, ", ");
        put_name(sb, q->name);
        sb_puts(sb, ": ");
        put_type(sb, &q->type);
        if (q->is_metric) sb_puts(sb, " metric");
        if (q->is_kept) sb_puts(sb, " kept");
        if (q->index_limit) sb_printf(sb, " limit %lld", (long long)q->index_limit);
        if (q->has_ignore) sb_printf(sb, " ignore %lld", (long long)q->index_ignore);
        put_place(sb, q->span);
    }
    sb_putc(sb, ')');
}

static void put_schedule(StrBuf *sb, const ScheduleDesc *d, const double *args, double warmup)
{
    if (d) {
        sb_printf(sb, " %s(", d->name);
        for (int k = 0; k < 8 && d->args && d->args[k].name; k++) {
            if (k) sb_puts(sb, ", ");
            sb_real(sb, args[k]);
        }
        sb_putc(sb, ')');
    }
    if (warmup != 0) {
        sb_puts(sb, " warmup ");
        sb_real(sb, warmup);
    }
}

static void put_minimize(const Printer *p, const Routine *r, const Minimize *min)
{
    StrBuf *sb = p->sb;
    sb_puts(sb, "  minimize ");
    put_ref(p, r, min->loss);
    sb_puts(sb, " over (");
    for (size_t i = 0; i < min->over.len; i++) {
        if (i) sb_puts(sb, ", ");
        put_name(sb, min->over.data[i]->path);
        if (min->over_scale.data[i] != 1) {
            sb_puts(sb, " * ");
            sb_real(sb, min->over_scale.data[i]);
        }
    }
    sb_printf(sb, ") using %s(", min->optim->name);
    for (int i = 0; min->optim->scalars && min->optim->scalars[i].name; i++) {
        const struct OptimScalar *s = &min->scalars[i];
        sb_printf(sb, "%s%s = ", i ? ", " : "", min->optim->scalars[i].name);
        if (s->hyper)
            put_name(sb, s->hyper->path);
        else
            sb_real(sb, s->fixed);
        put_schedule(sb, s->schedule, s->schedule_args, s->warmup);
    }
    sb_putc(sb, ')');
    if (min->clip_norm != 0) {
        sb_puts(sb, " clip_norm ");
        sb_real(sb, min->clip_norm);
    }
    if (min->clip_value != 0) {
        sb_puts(sb, " clip_value ");
        sb_real(sb, min->clip_value);
    }
    if (min->ema != 0) {
        sb_puts(sb, " ema ");
        sb_real(sb, min->ema);
    }
    if (min->in_backward) sb_puts(sb, " in_backward");
    put_place(sb, min->span);
    sb_puts(sb, ";\n");
}

static void put_dims(StrBuf *sb, const Routine *r)
{
    sb_puts(sb, " dims (");
    for (size_t i = 0; i < r->dims.len; i++)
        sb_printf(sb, "%s%s", i ? ", " : "", r->dims.data[i]->name);
    sb_putc(sb, ')');
}

/* user: the infer routine that r prepares, or NULL. */
static void put_routine(Printer *p, const Routine *r, const Routine *user)
{
    StrBuf *sb = p->sb;
    sb_printf(sb, "\n%s ", r->kind == ROUTINE_STEP ? "step" : user ? "prepare" : "infer");
    put_name(sb, r->name);
    put_ports(sb, r->inputs.data, r->inputs.len);
    sb_puts(sb, " -> ");
    put_ports(sb, r->outputs.data, r->outputs.len);
    put_dims(sb, r);
    if (r->step || user) {
        sb_puts(sb, r->step && r == r->step->trace ? " traces " : " of ");
        put_name(sb, user ? user->name : r->step->name);
    }
    put_place(sb, r->span);
    sb_puts(sb, " {\n");
    if (r->plan)
        sb_printf(sb, "  # arena %lld bytes, bound %lld, %d barriers\n",
                  (long long)r->plan->arena_bytes, (long long)r->plan->bound_bytes,
                  r->plan->n_barriers);
    name_refs(p, r);
    for (size_t i = 0; i < r->nodes.len; i++) put_node(p, r, r->nodes.data[i]);
    if (r->minimize) put_minimize(p, r, r->minimize);
    sb_puts(sb, "}\n");
    if (r->prepare) put_routine(p, r->prepare, r);
}

static void put_tensor(const Printer *p, const Tensor *t)
{
    StrBuf *sb = p->sb;
    sb_puts(sb, t->kind == TENSOR_PARAM ? "param " : "state ");
    put_name(sb, t->path);
    sb_puts(sb, ": ");
    put_type(sb, &t->type);
    if (t->init) {
        sb_printf(sb, " = %s(", t->init->name);
        for (int i = 0; i < 4 && t->init->args[i]; i++) {
            if (i) sb_puts(sb, ", ");
            sb_real(sb, t->init_args[i]);
        }
        sb_putc(sb, ')');
    }
    if (t->fan_in || t->fan_out)
        sb_printf(sb, " fan %lld %lld", (long long)t->fan_in, (long long)t->fan_out);
    if (t->trained) sb_puts(sb, " trained");
    put_inst(p, t->inst);
    put_place(sb, t->span);
    sb_puts(sb, ";\n");
}

void module_print(StrBuf *sb, const Module *m)
{
    Printer p = { .sb = sb, .m = m };
    for (size_t i = 0; i < m->tensors.len; i++) collect_inst(&p, m->tensors.data[i]->inst);
    for (size_t i = 0; i < m->routines.len; i++) {
        const Routine *r = m->routines.data[i];
        collect_insts(&p, r);
        if (r->prepare) collect_insts(&p, r->prepare);
    }
    sb_puts(sb, "nnir 1;\nmodel ");
    put_name(sb, m->name);
    sb_putc(sb, ' ');
    put_string(sb, m->source_name ? m->source_name : "");
    if (m->real_is_f64) sb_puts(sb, " f64");
    if (!m->use_blas) sb_puts(sb, " no_blas");
    if (m->has_layouts) sb_puts(sb, " layouts");
    sb_printf(sb, " hash %016llx", (unsigned long long)m->hash);
    put_place(sb, m->span);
    sb_puts(sb, ";\n");
    for (size_t i = 0; i < m->dims.len; i++) {
        const DimVar *d = m->dims.data[i];
        sb_printf(sb, "dim %s = %lld..%lld", d->name, (long long)d->lo, (long long)d->hi);
        put_place(sb, d->span);
        sb_puts(sb, ";\n");
    }
    for (size_t i = 0; i < m->hypers.len; i++) {
        const Hyper *h = m->hypers.data[i];
        sb_puts(sb, "hyper ");
        put_name(sb, h->name);
        sb_putc(sb, ' ');
        put_name(sb, h->path);
        sb_puts(sb, " = ");
        sb_real(sb, h->value);
        put_schedule(sb, h->schedule, h->schedule_args, h->warmup);
        put_place(sb, h->span);
        sb_puts(sb, ";\n");
    }
    for (size_t i = 0; i < p.insts.len; i++) {
        const Inst *s = p.insts.data[i];
        const char *const text[] = { s->block, s->args, s->path, s->label };
        sb_printf(sb, "inst %zu", i);
        for (int k = 0; k < 4; k++) {
            sb_putc(sb, ' ');
            put_string(sb, text[k] ? text[k] : "");
        }
        if (s->parent) sb_printf(sb, " in %d", inst_number(&p, s->parent));
        put_place(sb, s->call);
        sb_puts(sb, ";\n");
    }
    for (size_t i = 0; i < m->tensors.len; i++) put_tensor(&p, m->tensors.data[i]);
    for (size_t i = 0; i < m->routines.len; i++) put_routine(&p, m->routines.data[i], NULL);
}
