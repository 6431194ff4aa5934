/* SPDX-License-Identifier: MIT
 *
 * How a step updates what it trains, by an optimizer of first order: the functions that its body calls, the norm of its
 * gradients, averages of its weights. In: a step with its place among parameters and slots (StepPlace). Out: static
 * functions. Invariant: every element is updated once in a step, by whichever thread.
 */
#include "emit/emit.h"

#include <math.h>
#include <string.h>

typedef long long ll;

const char *scheduled_text(Arena *a, const char *base, const char *step, const ScheduleDesc *d,
                           const double *args, double warmup)
{
    if (d) {
        StrBuf call;
        sb_init(&call, a);
        sb_printf(&call, "%s(%s, %s", d->c_function, base, step);
        for (int i = 0; d->args && d->args[i].name; i++) {
            sb_puts(&call, ", ");
            put_double(&call, args[i]);
        }
        sb_putc(&call, ')');
        base = call.text;
    }
    if (warmup > 0) {
        StrBuf call;
        sb_init(&call, a);
        sb_printf(&call, "nn_warmup(%s, %s, ", base, step);
        put_double(&call, warmup);
        sb_putc(&call, ')');
        base = call.text;
    }
    return base;
}

static bool word_is(const char *s, size_t len, const char *word)
{
    return strlen(word) == len && !strncmp(s, word, len);
}

/* How the elements that one call updates are spelt. */
typedef struct Piece {
    const char *n, *w, *g;
    const char *slot_from; /* behind the start of a slot: where they begin in it */
    int64_t slot_offset;   /* a part of that which is known */
    const char *rate;      /* factor of the learning rate, NULL: 1 */
} Piece;

static const char *slot_text(const ModelFace *f, const StepPlace *place, const Piece *p, int slot)
{
    if (slot < 0) return "NULL";
    return arena_printf(f->arena, "slots + %lld + %s",
                        (ll)(place->slots_offset + slot * place->slot_count + p->slot_offset), p->slot_from);
}

/* Elements [from, to) of a range of parameters. */
static Piece piece_of_range(const ModelFace *f, const ParamRange *p)
{
    StrBuf rate;
    sb_init(&rate, f->arena);
    put_double(&rate, p->scale);
    return (Piece){ .n = "to - from",
                    .w = arena_printf(f->arena, "params + %lld + from", (ll)p->offset),
                    .g = arena_printf(f->arena, "grads + %lld + from", (ll)p->offset),
                    .slot_from = "from",
                    .slot_offset = p->slot_offset,
                    .rate = p->scale != 1 ? rate.text : NULL };
}

/* What an nn_update is asked for: n elements of the parameter u->param, of which g is the gradient. */
static Piece piece_of_update(const StepPlace *place)
{
    bool scaled = false;
    for (size_t i = 0; i < place->ranges.len; i++) scaled |= place->ranges.data[i].scale != 1;
    return (Piece){ .n = "n",
                    .w = "params + u->param + from",
                    .g = "g",
                    .slot_from = "u->slot + from",
                    .rate = scaled ? "u->rate" : NULL };
}

static const char *optim_call(const ModelFace *f, const Routine *r, const Piece *p)
{
    const OptimDesc *o = r->minimize->optim;
    const StepPlace *place = &f->step[r->index];
    StrBuf sb;
    sb_init(&sb, f->arena);
    for (const char *s = o->call; *s;) {
        if (*s != '$') {
            sb_putc(&sb, *s++);
            continue;
        }
        const char *word = ++s;
        while ((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9') || *s == '_') s++;
        const size_t len = (size_t)(s - word);
        if (word_is(word, len, "n"))
            sb_puts(&sb, p->n);
        else if (word_is(word, len, "w"))
            sb_puts(&sb, p->w);
        else if (word_is(word, len, "g"))
            sb_puts(&sb, p->g);
        else if (word_is(word, len, "t"))
            sb_puts(&sb, "step + 1");
        else if (len == 2 && word[0] == 's' && word[1] >= '0' && word[1] <= '9')
            sb_puts(&sb, slot_text(f, place, p, place->slot_at[word[1] - '0']));
        else if (word_is(word, len, "lr") && p->rate)
            sb_printf(&sb, "lr_ * %s", p->rate);
        else
            for (int i = 0; o->scalars[i].name; i++)
                if (word_is(word, len, o->scalars[i].name)) {
                    const struct OptimScalar *x = &r->minimize->scalars[i];
                    if (o->scalars[i].is_flag)
                        sb_puts(&sb, x->fixed != 0 ? "1" : "0");
                    else if (!x->hyper)
                        put_double(&sb, x->fixed);
                    else
                        sb_printf(&sb, "%s_", o->scalars[i].name);
                    break;
                }
    }
    if (sb.len && sb.text[sb.len - 1] != ';') sb_putc(&sb, ';');
    return sb.text;
}

static void put_norm(const ModelFace *f, const Routine *r, StrBuf *out)
{
    const RoutineNames *rn = &f->routine[r->index];
    const StepPlace *s = &f->step[r->index];
    sb_printf(
        out,
        "\n/* Euclidean norm of the scaled gradient: a number of partial sums that does not depend on the team,\n"
        " * added in one order. */\n"
        "static void %s_norm(%s_args *a, const nn_team *team)\n{\n"
        "    const %s *const grads = a->m->base.grads;\n"
        "    nn_dim from, to;\n"
        "    nn_share(team->rank, team->size, NN_NORM_CHUNKS, 1, &from, &to);\n"
        "    for (nn_dim i = from; i < to; i++) {\n"
        "        double sum = 0.0;\n",
        rn->base, rn->base, f->real);
    for (size_t i = 0; i < s->ranges.len; i++)
        sb_printf(out, "        sum += nn_norm_chunk(%lld, grads + %lld, i);\n",
                  (ll)s->ranges.data[i].count, (ll)s->ranges.data[i].offset);
    sb_puts(
        out,
        "        a->partial[i] = sum;\n    }\n    nn_barrier(team);\n    if (team->rank == 0) {\n"
        "        double sum = 0.0;\n"
        "        for (int i = 0; i < NN_NORM_CHUNKS; i++) sum += a->partial[i];\n"
        "        a->norm = sqrt(sum) * fabs(a->scale);\n    }\n    nn_barrier(team);\n}\n");
}

static const char *ema_call(const ModelFace *f, const Routine *r, const Piece *p)
{
    const StepPlace *s = &f->step[r->index];
    StrBuf decay;
    sb_init(&decay, f->arena);
    put_double(&decay, r->minimize->ema);
    return arena_printf(f->arena, "nn_ema(%s, %s, %s, %s, step + 1);", p->n, p->w,
                        slot_text(f, s, p, s->ema_at), decay.text);
}

/* The averages of a step whose update the library makes. */
void emit_average(const ModelFace *f, const Routine *r, StrBuf *out)
{
    const StepPlace *s = &f->step[r->index];
    sb_printf(out,
              "\n/* The weights' averages after an update. */\n"
              "static void %s_average(const %s_args *a)\n{\n"
              "    const %s *const params = a->m->base.params;\n"
              "    %s *const slots = a->m->base.slots;\n"
              "    const int64_t step = (int64_t)a->m->base.steps[%d];\n"
              "    const nn_dim from = 0;\n    nn_dim to;\n",
              f->routine[r->index].base, f->routine[r->index].base, f->real, f->real, r->index);
    for (size_t i = 0; i < s->ranges.len; i++) {
        sb_printf(out, "    to = %lld;\n", (ll)s->ranges.data[i].count);
        const Piece piece = piece_of_range(f, &s->ranges.data[i]);
        put_text(out, 1, ema_call(f, r, &piece));
    }
    sb_puts(out, "}\n");
}

/* The beginning of a comment on what the optimizer does. */
void emit_using(const ModelFace *f, const Routine *r, StrBuf *out)
{
    const Minimize *mini = r->minimize;
    sb_printf(out, "\n/* %s  using %s: ", comment_text(f->arena, span_text(f->arena, mini->span)), mini->optim->name);
}

static void put_calls(const ModelFace *f, const Routine *r, const Piece *piece, StrBuf *body, StrBuf *calls)
{
    const char *call = optim_call(f, r, piece);
    put_text(body, 1, call);
    sb_puts(calls, call);
    if (f->step[r->index].ema_at < 0) return;
    call = ema_call(f, r, piece);
    put_text(body, 1, call);
    sb_puts(calls, call);
}

/* The update of the tensors of p: all of them as one row, or the rows of one tensor. */
static void put_piece(const ModelFace *f, const Routine *r, const ParamRange *p, int64_t grain, StrBuf *body,
                      StrBuf *calls)
{
    const Minimize *mini = r->minimize;
    const Tensor *t = f->m->tensors.data[p->first];
    const char *first = comment_text(f->arena, t->path);
    const char *last = comment_text(f->arena, f->m->tensors.data[p->last]->path);
    sb_printf(body, "    /* %s%s%s */\n", first, p->first == p->last ? "" : " .. ", p->first == p->last ? "" : last);
    sb_printf(body, "    nn_share(team->rank, team->size, %lld, %lld, &from, &to);\n",
              grain ? (ll)t->type.dim[1] : (ll)p->count, grain ? (ll)grain : (ll)f->align);
    if (grain) sb_printf(body, "    from *= %lld, to *= %lld;\n", (ll)t->type.dim[0], (ll)t->type.dim[0]);
    put_text(body, 1,
             arena_printf(f->arena, "nn_grad_scale(to - from, grads + %lld + from, scale);", (ll)p->offset));
    if (mini->clip_value > 0) {
        StrBuf clip;
        sb_init(&clip, f->arena);
        put_double(&clip, mini->clip_value);
        put_text(body, 1,
                 arena_printf(f->arena, "nn_grad_clip(to - from, grads + %lld + from, %s);", (ll)p->offset, clip.text));
    }
    const Piece piece = piece_of_range(f, p);
    put_calls(f, r, &piece, body, calls);
}

/* The first trained parameter from i on; states stand between them and lie elsewhere. */
static int next_trained(const ModelFace *f, const Routine *r, int i, int last)
{
    for (; i <= last; i++) {
        const Tensor *t = f->m->tensors.data[i];
        if (t->kind == TENSOR_PARAM && face_trains(r, t)) break;
    }
    return i;
}

/* A range in pieces. A large tensor whose gradient is divided by rows is one: then a thread updates what it has just
 * computed, and fetches no gradient from another processor's cache. What lies between is another. */
static void put_range(const ModelFace *f, const Routine *r, const ParamRange *range, StrBuf *body, StrBuf *calls)
{
    for (int i = range->first; i <= range->last;) {
        const int64_t grain = face_row_grain(r, i);
        ParamRange piece = *range;
        piece.offset = f->tensor[i].offset;
        piece.slot_offset += piece.offset - range->offset;
        piece.first = piece.last = i;
        i = next_trained(f, r, i + 1, range->last);
        while (!grain && i <= range->last && !face_row_grain(r, i)) {
            piece.last = i;
            i = next_trained(f, r, i + 1, range->last);
        }
        piece.count = (i <= range->last ? f->tensor[i].offset : range->offset + range->count) - piece.offset;
        put_piece(f, r, &piece, grain, body, calls);
    }
}

/* The locals that the text of optimizer calls mentions. */
static void put_optim_locals(const ModelFace *f, const Routine *r, const char *calls, StrBuf *out)
{
    const Minimize *mini = r->minimize;
    if (strstr(calls, "slots + "))
        sb_printf(out, "    %s *const slots = a->m->base.slots;\n", f->real);
    bool uses_h = false, uses_step = strstr(calls, "step + 1") != NULL;
    StrBuf scalars;
    sb_init(&scalars, f->arena);
    for (int i = 0; mini->optim->scalars && mini->optim->scalars[i].name; i++) {
        const OptimArg *arg = &mini->optim->scalars[i];
        if (!mini->scalars[i].hyper || !strstr(calls, arena_printf(f->arena, "%s_", arg->name))) continue;
        uses_h = true;
        const struct OptimScalar *const x = &mini->scalars[i];
        if (x->schedule || x->warmup > 0) uses_step = true;
        put_text(
            &scalars, 1,
            arena_printf(f->arena, "const double %s_ = %s;", arg->name,
                         scheduled_text(f->arena, arena_printf(f->arena, "h[%d]", x->hyper->index),
                                        "step", x->schedule, x->schedule_args, x->warmup)));
    }
    if (uses_h) sb_puts(out, "    const double *const h = a->m->base.hypers;\n");
    if (uses_step)
        sb_printf(out, "    const int64_t step = (int64_t)a->m->base.steps[%d];\n", r->index);
    sb_puts(out, scalars.text);
}

/* What the routine's body calls where a gradient, or a piece of one, is complete. */
static void put_update_in_backward(const ModelFace *f, const Routine *r, StrBuf *out)
{
    const RoutineNames *rn = &f->routine[r->index];
    const Piece piece = piece_of_update(&f->step[r->index]);
    StrBuf calls, body;
    sb_init(&calls, f->arena);
    sb_init(&body, f->arena);
    put_calls(f, r, &piece, &body, &calls);
    emit_using(f, r, out);
    sb_puts(out, "n elements of parameter u from their gradient, as soon as it is known. */\n");
    put_text(out, 0,
             arena_printf(f->arena, "static void %s_update(const nn_update *u, nn_dim from, nn_dim n, const %s *g)",
                          rn->base, f->real));
    sb_printf(out, "{\n    const %s_args *const a = u->args;\n    %s *const params = a->m->base.params;\n", rn->base,
              f->real);
    put_optim_locals(f, r, calls.text, out);
    sb_printf(out, "%s}\n", body.text);
}

static void put_update_behind(const ModelFace *f, const Routine *r, StrBuf *out)
{
    const RoutineNames *rn = &f->routine[r->index];
    const Minimize *mini = r->minimize;
    const StepPlace *s = &f->step[r->index];
    if (clips_norm(r)) put_norm(f, r, out);
    emit_using(f, r, out);
    sb_printf(out,
              "every thread updates its share of the trained parameters. */\n"
              "static void %s_update(const %s_args *a, const nn_team *team)\n{\n",
              rn->base, rn->base);
    StrBuf calls, body;
    sb_init(&calls, f->arena);
    sb_init(&body, f->arena);
    for (size_t i = 0; i < s->ranges.len; i++) put_range(f, r, &s->ranges.data[i], &body, &calls);
    sb_printf(out, "    %s *const params = a->m->base.params, *const grads = a->m->base.grads;\n",
              f->real);
    put_optim_locals(f, r, calls.text, out);
    if (clips_norm(r)) {
        StrBuf clip;
        sb_init(&clip, f->arena);
        put_double(&clip, mini->clip_norm);
        sb_printf(out,
                  "    const double shrink = %s / (a->norm + 1e-6);\n"
                  "    const double scale = shrink < 1.0 ? a->scale * shrink : a->scale;\n",
                  clip.text);
    } else {
        sb_puts(out, "    const double scale = a->scale;\n");
    }
    sb_puts(out, "    nn_dim from, to;\n");
    sb_puts(out, body.text);
    sb_puts(out, "}\n");
    sb_printf(out,
              "\nstatic void %s_apply_body(void *arg, const nn_team *team)\n{\n"
              "    %s_args *const a = arg;\n",
              rn->base, rn->base);
    if (clips_norm(r))
        sb_printf(out, "    %s_norm(a, team);\n    if (!isfinite(a->norm)) return;\n", rn->base);
    sb_printf(out, "    %s_update(a, team);\n}\n", rn->base);
}

void emit_update(const ModelFace *f, const Routine *r, StrBuf *out)
{
    if (updates_in_backward(r))
        put_update_in_backward(f, r, out);
    else
        put_update_behind(f, r, out);
}
