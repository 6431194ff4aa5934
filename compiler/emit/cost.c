/* SPDX-License-Identifier: MIT
 *
 * What a call of a routine costs, estimated from its plan, and the statements that run a body by the team if that pays.
 */
#include "emit/emit.h"

#include <math.h>

typedef long long ll;

/* Note [what a call costs]
 * A team pays only where the work it divides outweighs its waiting. Both are estimated here, in nanoseconds of the
 * machine of docs/benchmarks.md, for each call's sizes: the order of magnitude decides. Measured there: 76 multiply-
 * accumulates a nanosecond in dense layers, 90 bytes a nanosecond of weights that are read, computed or updated, 0.3
 * microseconds for a barrier, and 10 bytes a nanosecond for weights that one processor updated and another one reads.
 */
#define NS_PER_MAC (1.0 / 64)
#define NS_PER_FLOP (1.0 / 4)
#define NS_PER_BYTE (1.0 / 64)
#define NS_PER_TRAVELLED_BYTE (1.0 / 10)
#define NS_PER_BARRIER 300.0

typedef struct Cost {
    double fixed; /* of one thread, per call */
    double *per;  /* the same per unit of each of the routine's dims */
    double team;  /* what a team adds */
} Cost;

static Cost cost_of_update(const ModelFace *f, const Routine *r)
{
    Cost c = { 0 };
    const StepPlace *s = &f->step[r->index];
    double bytes = 0;
    for (size_t i = 0; i < s->ranges.len; i++)
        bytes += (double)s->ranges.data[i].count * (f->m->real_is_f64 ? 8 : 4);
    c.fixed = bytes * (3 + 2 * s->n_slots) * NS_PER_BYTE;
    c.team = bytes * NS_PER_TRAVELLED_BYTE;
    return c;
}

static Cost cost_of_body(const ModelFace *f, const Routine *r)
{
    Cost c = { 0 };
    int waits = 1 + r->plan->n_barriers;
    const int real = f->m->real_is_f64 ? 8 : 4;
    if (r->kind == ROUTINE_STEP && !is_driven(r)) c = cost_of_update(f, r);
    c.per = ARENA_ARRAY(f->arena, double, r->dims.len + 1);
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        const Part part = r->plan->part[i];
        const bool kept = op_is(n, &op_input) && r->inputs.data[((const IndexAttrs *)n->attrs)->index].is_kept;
        if (op_is(n, &op_param) || op_is(n, &op_grad_store) || kept)
            c.fixed += (double)type_numel_max(&n->type) * real * NS_PER_BYTE;
        if (part == PART_NONE) continue;
        if (part == PART_TEAM) waits++;
        const DimVar *batch = n->type.batch;
        for (int k = 0; k < n->n_in && !batch; k++)
            if (n->in[k]) batch = n->in[k]->type.batch;
        const Work w =
            n->op->work ? n->op->work(n) : (Work){ .flops = type_numel(&n->type, 0, n->type.rank) };
        double *sum = &c.fixed;
        for (size_t d = 0; d < r->dims.len; d++)
            if (r->dims.data[d] == batch) sum = &c.per[d];
        *sum += ((double)w.macs * NS_PER_MAC + (double)w.flops * NS_PER_FLOP) * real / 4;
    }
    c.team += waits * NS_PER_BARRIER;
    return c;
}

const char *run_text(const ModelFace *f, const Routine *r, const char *self, const char *arg, const char *where)
{
    const RoutineNames *rn = &f->routine[r->index];
    const Cost c = cost_of_body(f, r);
    StrBuf work, sb;
    sb_init(&work, f->arena);
    sb_init(&sb, f->arena);
    for (size_t d = 0; d < r->dims.len; d++)
        if (c.per[d] > 0)
            sb_printf(&work, "(nn_dim)%s%s * %.0f + ", where, rn->dim[d], ceil(c.per[d]));
    sb_printf(&work, "%.0f", ceil(c.fixed));
    put_text(&sb, 1,
             arena_printf(f->arena, "nn_model_run(&%s->base, %s_body, %s, %s, %.0f);", self,
                          rn->base, arg, work.text, ceil(c.team)));
    return sb.text;
}

const char *run_apply_text(const ModelFace *f, const Routine *r)
{
    const Cost c = cost_of_update(f, r);
    return arena_printf(f->arena, "    nn_model_run(&m->base, %s_apply_body, &a, %.0f, %.0f);\n",
                        f->routine[r->index].base, ceil(c.fixed), ceil(c.team));
}
