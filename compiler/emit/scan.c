/* SPDX-License-Identifier: MIT
 *
 * The loop around a body. In: a scan node with a planned body. Out: a C loop that cuts the slices of
 * a step out of the sequences, calls the body's function and stacks what it yields. Every thread
 * runs the whole loop on its share of rows; where threads touch each other's memory they wait for
 * each other around the body.
 */
#include "emit/emit.h"
#include "ir/scan.h"

typedef long long ll;

typedef struct LoopText {
    CWriter *w;
    const Node *n;
    const ScanAttrs *s;
    const RoutineNames *names; /* of the body */
    ScanSlots slots;
    int64_t workspace;
    const char *args, *step; /* locals */
} LoopText;

/* The workspace at an offset, as a pointer to elements of type t. */
static const char *slot(const LoopText *l, int64_t offset, DType t)
{
    CWriter *w = l->w;
    w->uses_arena = true;
    return arena_printf(w->arena, "(%s *)(arena + %lld)", face_c_type(w->face, t),
                        (ll)(l->workspace + offset));
}

/* Slice i, or result k, is reached where it lies in the sequence. */
static bool in_sequence(const int64_t *pitch, int64_t i)
{
    return pitch && pitch[i];
}

/* args.NAME = the step's place in a sequence. */
static void put_place(const LoopText *l, const char *name, const TensorType *step,
                      const char *sequence)
{
    CWriter *w = l->w;
    const ll inner = (ll)type_numel(step, scan_axis(l->s, step), step->rank);
    cw_text(w, inner == 1
                   ? arena_printf(w->arena, "%s.%s = %s + %s;", l->args, name, sequence, l->step)
                   : arena_printf(w->arena, "%s.%s = %s + %s * %lld;", l->args, name, sequence,
                                  l->step, inner));
}

static const char *operand(const LoopText *l, int64_t i)
{
    int k;
    const Node *base = cw_base(l->n->in[i], &k);
    return cw_pointer(l->w, base, k);
}

/* nn_step_get or nn_step_put for a value of one step: rows in front of the axis of time, of which each
 * thread copies its share, and what lies behind it. */
static void put_step(const LoopText *l, const char *kernel, const TensorType *t, const char *from,
                     const char *to)
{
    CWriter *w = l->w;
    const int axis = scan_axis(l->s, t);
    const int64_t rows = type_numel(t, 0, axis), inner = type_numel(t, axis, t->rank);
    const char *lo = "0", *hi = arena_printf(w->arena, "%lld", (ll)rows);
    w->uses_team = true;
    if (t->batch) {
        int64_t scale;
        cw_share(w, t, &lo, &hi, &scale);
        if (rows != 1) {
            lo = arena_printf(w->arena, "%s * %lld", lo, (ll)rows);
            hi = arena_printf(w->arena, "%s * %lld", hi, (ll)rows);
        }
    }
    cw_text(w, arena_printf(w->arena, "%s%s(sizeof(%s), %s, %s, %lld, %lld, %s, %s, %s);",
                            t->batch ? "" : "if (team->rank == 0) ", kernel,
                            face_c_type(w->face, t->dtype), lo, hi, (ll)l->s->length, (ll)inner,
                            l->step, from, to));
}

/* What stays the same in all steps. */
static void put_args(const LoopText *l)
{
    CWriter *w = l->w;
    const Routine *body = l->s->body;
    const RoutineNames *outer = &w->face->routine[w->routine->index];
    StrBuf sb;
    sb_init(&sb, w->arena);
    sb_printf(&sb, "%s_args %s = { .m = a->m", l->names->base, l->args);
    for (size_t i = 0; i < body->dims.len; i++)
        for (size_t k = 0; k < w->routine->dims.len; k++)
            if (w->routine->dims.data[k] == body->dims.data[i])
                sb_printf(&sb, ", .%s = a->%s", l->names->dim[i], outer->dim[k]);
    sb_printf(&sb, ", .arena = arena + %lld", (ll)l->workspace);
    w->uses_arena = true;
    for (int i = 0; i < l->n->n_in; i++) {
        const TensorType *t = &body->inputs.data[i].type;
        if (scan_role(l->s, i) == SCAN_SEQUENCE && in_sequence(body->plan->pitch_in, i)) continue;
        if (scan_role(l->s, i) == SCAN_SEQUENCE)
            sb_printf(&sb, ", .%s = %s", l->names->input[i], slot(l, l->slots.slice[i], t->dtype));
        else if (scan_role(l->s, i) == SCAN_CAPTURE)
            sb_printf(&sb, ", .%s = %s", l->names->input[i], operand(l, i));
    }
    for (size_t k = (size_t)l->s->n_carries; k < body->outputs.len; k++) {
        if (in_sequence(body->plan->pitch_out, (int64_t)k)) continue;
        sb_printf(
            &sb, ", .%s = %s", l->names->output[k],
            slot(l, l->slots.yield[k - (size_t)l->s->n_carries], body->outputs.data[k].type.dtype));
    }
    sb_puts(&sb, " };");
    cw_text(w, sb.text);
}

/* Carries go to and fro between two buffers; the first step reads the initial value, the last one
 * writes the result. */
static void put_carries(const LoopText *l, const char *count)
{
    CWriter *w = l->w;
    const Routine *body = l->s->body;
    const ll last = (ll)l->s->length - 1;
    for (int64_t j = 0; j < l->s->n_carries; j++) {
        const DType t = body->outputs.data[j].type.dtype;
        const char *even = slot(l, l->slots.carry[j][0], t),
                   *odd = slot(l, l->slots.carry[j][1], t);
        const char *in = operand(l, l->s->n_seqs + j), *out = cw_pointer(w, l->n, (int)j);
        cw_text(w, arena_printf(w->arena, "%s.%s = %s == 0 ? %s : %s %% 2 == 0 ? %s : %s;", l->args,
                                l->names->input[l->s->n_seqs + j], count, in, count, odd, even));
        cw_text(w, arena_printf(w->arena, "%s.%s = %s == %lld ? %s : %s %% 2 == 0 ? %s : %s;",
                                l->args, l->names->output[j], count, last, out, count, even, odd));
    }
}

void cw_scan(CWriter *w, const Node *n)
{
    const ScanAttrs *s = n->attrs;
    const Routine *body = s->body;
    LoopText l = { .w = w,
                   .n = n,
                   .s = s,
                   .names = &w->face->routine[body->index],
                   .slots = scan_slots(w->arena, n, w->face->m->real_is_f64),
                   .workspace = w->plan->scratch[n->id].offset,
                   .args = names_add(w->locals, "s"),
                   .step = names_add(w->locals, "t") };
    const char *count = s->reverse ? names_add(w->locals, "n") : l.step;
    w->uses_team = true;
    cw_line(w, "{");
    w->indent++;
    put_args(&l);
    cw_line(w, "for (nn_dim %s = 0; %s < %lld; %s++) {", count, count, (ll)s->length, count);
    w->indent++;
    if (s->reverse)
        cw_line(w, "const nn_dim %s = %lld - %s; /* backwards in time */", l.step,
                (ll)s->length - 1, count);
    if (w->routine->kind == ROUTINE_BODY)
        cw_line(w, "%s.t = a->t * %lld + %s;", l.args, (ll)s->length, l.step);
    else
        cw_line(w, "%s.t = %s;", l.args, l.step);
    for (int64_t i = 0; i < s->n_seqs; i++) {
        const TensorType *t = &body->inputs.data[i].type;
        if (in_sequence(body->plan->pitch_in, i)) {
            put_place(&l, l.names->input[i], t, operand(&l, i));
            continue;
        }
        put_step(&l, "nn_step_get", t, operand(&l, i), slot(&l, l.slots.slice[i], t->dtype));
    }
    for (int64_t k = s->n_carries; k < (int64_t)body->outputs.len; k++)
        if (in_sequence(body->plan->pitch_out, k))
            put_place(&l, l.names->output[k], &body->outputs.data[k].type,
                      cw_pointer(w, n, (int)k));
    put_carries(&l, count);
    if (!body->plan->apart) cw_line(w, "nn_barrier(team);");
    cw_line(w, "%s_body(&%s, team);", l.names->base, l.args);
    if (!body->plan->apart) cw_line(w, "nn_barrier(team);");
    for (size_t k = (size_t)s->n_carries; k < body->outputs.len; k++) {
        const TensorType *t = &body->outputs.data[k].type;
        if (in_sequence(body->plan->pitch_out, (int64_t)k)) continue;
        put_step(&l, "nn_step_put", t, slot(&l, l.slots.yield[k - (size_t)s->n_carries], t->dtype),
                 cw_pointer(w, n, (int)k));
    }
    w->indent--;
    cw_line(w, "}");
    w->indent--;
    cw_line(w, "}");
}
