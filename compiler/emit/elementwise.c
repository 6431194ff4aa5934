/* SPDX-License-Identifier: MIT
 *
 * Loops for elementwise operators, fused groups and copies. In: operands with their layouts, an expression
 * per step. Out: a loop nest in the memory order of the result, as few loops as the strides of all operands
 * allow, the innermost one free of dependences. Broadcast axes have stride 0; what is constant in all
 * loops is read before them. Invariant: element e of the result is computed from elements e of the operands
 * alone, so a result may lie on an operand that dies here.
 */
#include "emit/emit.h"
#include "ir/builder.h"

#include <string.h>

typedef long long ll;
enum { MAX_VALUES = FUSED_MAX_IN + FUSED_MAX_RESULTS };
_Static_assert((int)FUSED_MAX_IN >= (int)OP_MAX_IN, "an elementwise operator's operands fit, too");

/* Something a loop reads or writes. */
typedef struct Access {
    const char *pointer; /* NULL: `literal` */
    const char *literal;
    const TensorType *type;
    int64_t stride[MAX_RANK]; /* by axis of the result; 0 where broadcast */
    const char *text;         /* how expressions spell its current element */
    int uses;                 /* by expressions */
} Access;

typedef struct Loop {
    const char *lo, *hi; /* bounds before scaling; lo NULL: [0, extent) */
    int64_t scale;       /* of both bounds */
    int64_t extent;      /* of a constant loop */
    int64_t stride[MAX_VALUES];
    const char *var;
} Loop;

typedef struct Nest {
    CWriter *w;
    const TensorType *type;   /* shape and order that are walked */
    Access value[MAX_VALUES]; /* operands, then targets */
    int n_in, n_values;
    Loop loop[MAX_RANK];
    int n_loops;
} Nest;

/* pitch: of rows of axis 0, 0: as the type says. */
static void access_type(Nest *nest, Access *x, const TensorType *t, int64_t pitch)
{
    int64_t stride[MAX_RANK];
    type_strides(t, stride);
    if (pitch) stride[0] = pitch;
    const int lead = nest->type->rank - t->rank;
    x->type = t;
    for (int i = 0; i < t->rank; i++) {
        const bool one = t->dim[i] == 1 && !(i == 0 && t->batch);
        x->stride[lead + i] = one ? 0 : stride[i];
    }
}

static void add_operand(Nest *nest, const Node *n)
{
    CWriter *w = nest->w;
    Access *x = &nest->value[nest->n_values++];
    nest->n_in = nest->n_values;
    if (!n) {
        *x = (Access){ .literal = "0" };
        return;
    }
    int k;
    const Node *base = cw_base(n, &k);
    double v;
    access_type(
        nest, x, &n->type,
        cw_port_pitch(w, w->plan->result[base->id][k].kind, w->plan->result[base->id][k].index));
    if (node_const_value(base, &v)) {
        x->literal = cw_const(w, n->type.dtype, v);
        return;
    }
    if (op_is(base, &op_hyper)) {
        x->literal = cw_hyper(w, base);
        return;
    }
    x->pointer = cw_pointer(w, base, k);
}

static void add_target(Nest *nest, const char *pointer, const TensorType *t, int64_t pitch)
{
    Access *x = &nest->value[nest->n_values++];
    x->pointer = pointer;
    access_type(nest, x, t, pitch);
}

/* ---- the loops ---- */

static bool can_merge(const Nest *nest, const Loop *outer, const Loop *inner)
{
    if (inner->lo) return false;
    for (int i = 0; i < nest->n_values; i++)
        if (nest->value[i].pointer && outer->stride[i] != inner->stride[i] * inner->extent)
            return false;
    return true;
}

/* part: PART_LEAD divides axis 0, PART_TEAM the outermost loop, whatever it has become (see open_share). */
static void make_loops(Nest *nest, Part part)
{
    const bool lead = part == PART_LEAD;
    CWriter *w = nest->w;
    const TensorType *t = nest->type;
    int order[MAX_RANK];
    layout_order(t->layout, t->rank, order);
    for (int pos = 0; pos < t->rank; pos++) {
        const int axis = order[pos];
        Loop loop = { .scale = 1, .extent = t->dim[axis] };
        for (int i = 0; i < nest->n_values; i++) loop.stride[i] = nest->value[i].stride[axis];
        if (axis == 0 && lead) {
            cw_share(w, t, &loop.lo, &loop.hi, &loop.scale);
        } else if (axis == 0 && t->batch) {
            loop.lo = "0";
            loop.hi = cw_dim(w, t->batch);
            loop.scale = t->dim[0];
        } else if (loop.extent == 1) {
            continue;
        }
        Loop *outer = nest->n_loops ? &nest->loop[nest->n_loops - 1] : NULL;
        if (outer && can_merge(nest, outer, &loop)) {
            outer->scale *= loop.extent;
            outer->extent *= loop.extent;
            memcpy(outer->stride, loop.stride, sizeof loop.stride);
            continue;
        }
        nest->loop[nest->n_loops++] = loop;
    }
    static const char *const vars[MAX_RANK] = { "i", "j", "k", "l", "i4", "i5", "i6", "i7" };
    for (int i = 0; i < nest->n_loops; i++) nest->loop[i].var = vars[i];
}

static const char *bound(CWriter *w, const char *text, int64_t scale)
{
    if (scale == 1 || !strcmp(text, "0")) return text;
    return arena_printf(w->arena, "%s * %lld", text, (ll)scale);
}

static const char *element(const Nest *nest, int i)
{
    CWriter *w = nest->w;
    StrBuf sb;
    sb_init(&sb, w->arena);
    sb_printf(&sb, "%s[", nest->value[i].pointer);
    bool some = false;
    for (int k = 0; k < nest->n_loops; k++) {
        const int64_t stride = nest->loop[k].stride[i];
        if (!stride) continue;
        if (some) sb_puts(&sb, " + ");
        sb_puts(&sb, nest->loop[k].var);
        if (stride != 1) sb_printf(&sb, " * %lld", (ll)stride);
        some = true;
    }
    sb_puts(&sb, some ? "]" : "0]");
    return sb.text;
}

static bool is_invariant(const Nest *nest, int i)
{
    for (int k = 0; k < nest->n_loops; k++)
        if (nest->loop[k].stride[i]) return false;
    return true;
}

/* A loop of all elements is cut at lines of the cache. */
static void open_share(Nest *nest, NameTable *names)
{
    CWriter *w = nest->w;
    Loop *l = &nest->loop[0];
    const char *from = names_add(names, "i0"), *to = names_add(names, "i1");
    w->uses_team = true;
    cw_line(w, "{");
    w->indent++;
    cw_line(w, "nn_dim %s, %s;", from, to);
    cw_line(w, "nn_share(team->rank, team->size, %s, %d, &%s, &%s);", bound(w, l->hi, l->scale),
            nest->n_loops == 1 ? 64 : 1, from, to);
    l->lo = from;
    l->hi = to;
    l->scale = 1;
}

static void open_loops(Nest *nest)
{
    CWriter *w = nest->w;
    for (int k = 0; k < nest->n_loops; k++) {
        const Loop *l = &nest->loop[k];
        const bool inner = k + 1 == nest->n_loops;
        if (inner) cw_line(w, "NN_IVDEP");
        if (l->lo)
            cw_line(w, "for (nn_dim %s = %s; %s < %s; %s++) {", l->var, bound(w, l->lo, l->scale),
                    l->var, bound(w, l->hi, l->scale), l->var);
        else
            cw_line(w, "for (nn_dim %s = 0; %s < %lld; %s++) {", l->var, l->var, (ll)l->extent,
                    l->var);
        w->indent++;
    }
}

static void close_loops(Nest *nest)
{
    for (int k = 0; k < nest->n_loops; k++) {
        nest->w->indent--;
        cw_line(nest->w, "}");
    }
}

/* ---- locals ---- */

/* Integers narrower than int are computed with as int. */
static const char *local_type(const CWriter *w, DType t)
{
    return t == DT_F32 ? w->face->real : t == DT_I32 ? "int32_t" : "int";
}

static const char *stored(const CWriter *w, DType t, const char *value)
{
    if (t == DT_F32 || t == DT_I32) return value;
    return arena_printf(w->arena, "(uint8_t)(%s)", value);
}

static int count_uses(const char *expr, int operand)
{
    int uses = 0;
    for (const char *p = expr; (p = strchr(p, '$')); p++) {
        if (p[1] < '0' || p[1] > '9') continue;
        int i = 0;
        for (const char *d = p + 1; *d >= '0' && *d <= '9' && i < 100; d++) i = i * 10 + (*d - '0');
        uses += i == operand;
    }
    return uses;
}

static const char *local_name(NameTable *t, const char *name, Arena *a)
{
    return names_add(t, names_taken(t, name) ? arena_printf(a, "%s_i", name) : name);
}

/* Reads what the loops do not change before them, opens a block for it when there is any. */
static bool hoist(Nest *nest, NameTable *names, const char *const *wanted, bool has_locals)
{
    CWriter *w = nest->w;
    bool any = false;
    for (int i = 0; i < nest->n_in && !any; i++) any = !nest->n_loops && nest->value[i].uses > 1;
    any |=
        has_locals && !nest->n_loops; /* without a loop nothing else bounds the scope of locals */
    if (any) {
        cw_line(w, "{");
        w->indent++;
    }
    for (int i = 0; i < nest->n_in; i++) {
        Access *x = &nest->value[i];
        if (!x->pointer || !nest->n_loops || !is_invariant(nest, i)) continue;
        if (!any) {
            cw_line(w, "{");
            w->indent++;
        }
        any = true;
        x->text = local_name(names, wanted[i], w->arena);
        cw_line(w, "const %s %s = %s[0];", local_type(w, x->type->dtype), x->text, x->pointer);
    }
    return any;
}

static void read_operands(Nest *nest, NameTable *names, const char *const *wanted)
{
    CWriter *w = nest->w;
    for (int i = 0; i < nest->n_in; i++) {
        Access *x = &nest->value[i];
        if (x->text) continue;
        if (x->literal) {
            x->text = x->literal;
        } else if (x->uses <= 1) {
            x->text = element(nest, i);
        } else {
            x->text = local_name(names, wanted[i], w->arena);
            cw_line(w, "const %s %s = %s;", local_type(w, x->type->dtype), x->text,
                    element(nest, i));
        }
    }
}

static void store(Nest *nest, int target, const char *value, bool add)
{
    CWriter *w = nest->w;
    const int i = nest->n_in + target;
    const char *at = element(nest, i);
    const DType dtype = nest->value[i].type->dtype;
    if (add) {
        w->uses_acc = true;
        cw_text(w, arena_printf(w->arena, "%s = (acc ? %s : %s) + (%s);", at, at, cw_real(w, 0),
                                value));
    } else {
        cw_text(w, arena_printf(w->arena, "%s = %s;", at, stored(w, dtype, value)));
    }
}

/* ---- what calls it ---- */

static const char *operand_name(const Node *n)
{
    int k;
    return n ? cw_base(n, &k)->name : "none";
}

static void fused_body(Nest *nest, const Node *n, NameTable *names)
{
    CWriter *w = nest->w;
    const FusedAttrs *f = n->attrs;
    const bool add = w->plan->accumulate[n->id];
    const char **step = ARENA_ARRAY(w->arena, const char *, f->n_steps + 1);
    for (int s = 0; s < f->n_steps; s++) {
        const FusedStep *st = &f->steps[s];
        const char *operand[OP_MAX_IN] = { 0 };
        for (int i = 0; i < st->n_in; i++)
            operand[i] = st->arg[i] >= 0 ? nest->value[st->arg[i]].text : step[~st->arg[i]];
        const char *value = cw_expand_expr(w, st->op, st->attrs, operand, st->n_in);
        if (s + 1 == f->n_steps && f->n_results == 1 && f->result[0] == s) {
            store(nest, 0, value, add);
            return;
        }
        step[s] = local_name(names, st->name ? st->name : st->op->name, w->arena);
        cw_text(w, arena_printf(w->arena, "const %s %s = %s;", local_type(w, st->dtype), step[s],
                                value));
    }
    /* A result may lie on an operand: nothing is stored before everything is read. */
    for (int k = 0; k < f->n_results; k++) store(nest, k, step[f->result[k]], add);
}

static void count_operand_uses(Nest *nest, const Node *n)
{
    if (op_is(n, &op_fused)) {
        const FusedAttrs *f = n->attrs;
        for (int s = 0; s < f->n_steps; s++)
            for (int i = 0; i < f->steps[s].n_in; i++)
                if (f->steps[s].arg[i] >= 0)
                    nest->value[f->steps[s].arg[i]].uses += count_uses(f->steps[s].op->expr, i);
        return;
    }
    for (int i = 0; i < nest->n_in; i++)
        nest->value[i].uses = n->op->expr ? count_uses(n->op->expr, i) : 1;
}

void cw_elementwise(CWriter *w, const Node *n)
{
    Nest nest = { .w = w, .type = &n->type };
    const char *wanted[FUSED_MAX_IN] = { 0 };
    double fill;
    const bool is_const = node_const_value(n, &fill), is_fill = is_const || op_is(n, &op_hyper);
    for (int i = 0; i < n->n_in; i++) {
        add_operand(&nest, n->in[i]);
        wanted[i] = operand_name(n->in[i]);
    }
    for (int k = 0; k < n->n_results; k++)
        add_target(
            &nest, cw_pointer(w, n, k), k ? &n->more[k - 1] : &n->type,
            cw_port_pitch(w, w->plan->result[n->id][k].kind, w->plan->result[n->id][k].index));
    const Part part = w->plan->part[n->id];
    make_loops(&nest, part);
    count_operand_uses(&nest, n);

    NameTable *names = names_new(w->arena, w->locals);
    if (part == PART_TEAM) open_share(&nest, names);
    const bool block = hoist(&nest, names, wanted, op_is(n, &op_fused));
    open_loops(&nest);
    read_operands(&nest, names, wanted);
    if (is_fill) {
        store(&nest, 0, is_const ? cw_const(w, n->type.dtype, fill) : cw_hyper(w, n), false);
    } else if (op_is(n, &op_fused)) {
        fused_body(&nest, n, names);
    } else {
        const char *operand[OP_MAX_IN] = { 0 };
        for (int i = 0; i < n->n_in; i++) operand[i] = nest.value[i].text;
        store(&nest, 0, cw_expand_expr(w, n->op, n->attrs, operand, n->n_in),
              w->plan->accumulate[n->id]);
    }
    close_loops(&nest);
    for (int blocks = block + (part == PART_TEAM); blocks > 0; blocks--) {
        w->indent--;
        cw_line(w, "}");
    }
}

void cw_copy(CWriter *w, const Node *n, const Node *from, const char *target, const TensorType *to,
             int64_t pitch, bool add)
{
    Nest nest = { .w = w, .type = to };
    const char *wanted[1] = { operand_name(from) };
    add_operand(&nest, from);
    add_target(&nest, target, to, pitch);
    make_loops(&nest, w->plan->part[n->id]);
    nest.value[0].uses = 1;
    NameTable *names = names_new(w->arena, w->locals);
    const bool block = hoist(&nest, names, wanted, false);
    open_loops(&nest);
    read_operands(&nest, names, wanted);
    store(&nest, 0, nest.value[0].text, add);
    close_loops(&nest);
    if (block) {
        w->indent--;
        cw_line(w, "}");
    }
}
