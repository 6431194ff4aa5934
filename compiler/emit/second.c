/* SPDX-License-Identifier: MIT
 *
 * A step whose whole update is a function of the library: what that asks of the step, and its call. In: a step with a
 * driver (OptimDesc.driver). Out: static functions.
 */
#include "emit/emit.h"

#include <string.h>

typedef long long ll;

/* The product with the Hessian as the library calls it: for the inputs of the step that is under way. */
static void put_product(const ModelFace *f, const Routine *r, StrBuf *out)
{
    const Routine *p = r->product;
    const RoutineNames *rn = &f->routine[r->index], *pn = &f->routine[p->index];
    StrBuf call;
    sb_init(&call, f->arena);
    sb_printf(&call, "%s_args run = { .m = a->m", pn->base);
    for (size_t i = 0; i < r->dims.len; i++) sb_printf(&call, ", .%s = a->%s", pn->dim[i], rn->dim[i]);
    for (size_t i = 0; i < r->inputs.len; i++) sb_printf(&call, ", .%s = a->%s", pn->input[i], rn->input[i]);
    sb_printf(&call, ", .%s = from, .%s = to };", pn->input[r->inputs.len], pn->output[0]);
    sb_printf(out,
              "\n/* to = H from at the current weights. */\n"
              "static void %s_product(void *arg, const void *from, void *to)\n{\n"
              "    const %s_args *const a = arg;\n",
              rn->base, rn->base);
    put_text(out, 1, call.text);
    sb_printf(out, "%s}\n", run_text(f, p, "a->m", "&run", "run."));
}

/* What the library's method asks of a step, and the call of that method. */
void emit_second(const ModelFace *f, const Routine *r, StrBuf *out)
{
    const RoutineNames *rn = &f->routine[r->index];
    const Minimize *mini = r->minimize;
    const StepPlace *s = &f->step[r->index];
    sb_printf(out, "\nstatic const int %s_trained[%zu] = {", rn->base, mini->over.len);
    for (size_t i = 0, k = 0; i < f->m->tensors.len; i++)
        if (face_trains(r, f->m->tensors.data[i])) sb_printf(out, "%s%zu", k++ ? ", " : " ", i);
    sb_printf(out,
              " };\n\n/* Loss and gradients at the current weights. */\n"
              "static double %s_evaluate(void *arg)\n{\n"
              "    %s_args *const a = arg;\n"
              "%s"
              "    return (double)a->metric[%d];\n}\n",
              rn->base, rn->base, run_text(f, r, "a->m", "a", "a->"), face_loss_port(r));
    if (mini->optim->uses_product) put_product(f, r, out);
    if (s->ema_at >= 0) emit_average(f, r, out);
    emit_using(f, r, out);
    sb_printf(
        out,
        "one update, from the loss and gradients that were just computed. */\n"
        "static nn_status %s_second(%s_args *a)\n{\n",
        rn->base, rn->base);
    StrBuf fields;
    sb_init(&fields, f->arena);
    for (int i = 0; mini->optim->scalars[i].name; i++) {
        if (optim_arg_is_fixed(&mini->optim->scalars[i])) continue;
        const struct OptimScalar *const x = &mini->scalars[i];
        const char *base = arena_printf(f->arena, "a->m->base.hypers[%d]", x->hyper->index);
        const char *step = arena_printf(f->arena, "(int64_t)a->m->base.steps[%d]", r->index);
        sb_printf(&fields, "        .%s = %s,\n", mini->optim->scalars[i].name,
                  scheduled_text(f->arena, base, step, x->schedule, x->schedule_args, x->warmup));
    }
    /* No locals: the model's own name may be any word. */
    sb_printf(out,
              "    %s%s(&(const nn_second){\n"
              "        .model = &a->m->base,\n"
              "        .n_tensors = %zu,\n"
              "        .tensors = %s_trained,\n"
              "        .n = %lld,\n",
              face_assigns_state(r) ? "const nn_status status = " : "return ", mini->optim->driver,
              mini->over.len, rn->base, (ll)optim_columns(mini));
    if (s->blocks.len) sb_printf(out, "        .state = %s_blocks,\n", rn->base);
    if (mini->optim->uses_product) sb_printf(out, "        .product = %s_product,\n", rn->base);
    sb_printf(out,
              "        .evaluate = %s_evaluate,\n"
              "        .ctx = a,\n"
              "        .work = (double *)(void *)(a->m->base.arena + %lld),\n"
              "        .loss = (double)a->metric[%d],\n%s    });\n",
              rn->base, (ll)face_work_offset(r), face_loss_port(r), fields.text);
    if (face_assigns_state(r))
        sb_printf(out,
                  "    if (status != NN_OK) return status;\n"
                  "    a->store = 1; /* state follows from the new weights */\n"
                  "    %s_evaluate(a);\n"
                  "    return NN_OK;\n",
                  rn->base);
    sb_puts(out, "}\n");
}
