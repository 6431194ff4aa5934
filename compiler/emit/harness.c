/* SPDX-License-Identifier: MIT
 *
 * The generated part of --emit=harness: tables of routines with their inputs and outputs, trampolines from
 * arrays of pointers to the typed functions, and main.
 */
#include "emit/emit.h"

typedef long long ll;

static const char *dtype_text(const ModelFace *f, DType t)
{
    static const char *const text[] = {
        [DT_F32] = "NN_F32", [DT_I32] = "NN_I32", [DT_U8] = "NN_U8", [DT_BOOL] = "NN_BOOL"
    };
    return t == DT_F32 && f->m->real_is_f64 ? "NN_F64" : text[t];
}

static void put_ports(const ModelFace *f, const Routine *r, const Port *ports, size_t n,
                      const char *what, StrBuf *out)
{
    if (!n) return;
    sb_printf(out, "static const nn_harness_port %s_%s[%zu] = {\n", f->routine[r->index].base, what,
              n);
    for (size_t i = 0; i < n; i++) {
        const Port *p = &ports[i];
        int dim = -1;
        for (size_t d = 0; d < r->dims.len; d++)
            if (p->type.batch == r->dims.data[d]) dim = (int)d;
        sb_printf(out, "    { .name = %s, .dtype = %s, .rank = %d, ", c_string(f->arena, p->name),
                  dtype_text(f, p->type.dtype), p->type.rank);
        if (p->type.rank) {
            sb_puts(out, ".shape = { ");
            for (int k = 0; k < p->type.rank; k++)
                sb_printf(out, "%s%lld", k ? ", " : "", (ll)p->type.dim[k]);
            sb_puts(out, " }, ");
        }
        sb_printf(out, ".dim = %d, .limit = %lld },\n", dim, (ll)p->index_limit);
    }
    sb_puts(out, "};\n");
}

static void put_trampoline(const ModelFace *f, const Routine *r, const char *name, const char *func,
                           StrBuf *out)
{
    const RoutineNames *rn = &f->routine[r->index];
    sb_putc(out, '\n');
    put_text(
        out, 0,
        arena_printf(
            f->arena,
            "static nn_status %s_%s(nn_model *m, const int *dims, const void *const *in, void *const *out)",
            rn->base, name));
    sb_puts(out, "{\n");
    if (!r->dims.len) sb_printf(out, "    (void)dims;\n");
    const size_t n_inputs = face_inputs(r);
    if (!n_inputs) sb_printf(out, "    (void)in;\n");
    StrBuf call;
    sb_init(&call, f->arena);
    sb_printf(&call, "%s((%s *)(void *)m", func, f->type);
    for (size_t i = 0; i < r->dims.len; i++) sb_printf(&call, ", dims[%zu]", i);
    for (size_t i = 0; i < n_inputs; i++) sb_printf(&call, ", in[%zu]", i);
    if (r->kind == ROUTINE_INFER) {
        for (size_t i = 0; i < r->outputs.len; i++) sb_printf(&call, ", out[%zu]", i);
        if (!r->outputs.len) sb_printf(out, "    (void)out;\n");
        put_text(out, 1, arena_printf(f->arena, "return %s);", call.text));
    } else {
        sb_printf(out, "    %s scalars = { 0 };\n", rn->out);
        sb_printf(out, "    double *const values = out[0];\n");
        put_text(out, 1,
                 arena_printf(f->arena, "const nn_status status = %s, &scalars);", call.text));
        for (size_t i = 0; i < r->outputs.len; i++)
            sb_printf(out, "    values[%zu] = scalars.%s;\n", i, rn->output[i]);
        sb_printf(out, "    return status;\n");
    }
    sb_puts(out, "}\n");
}

void emit_harness_tables(const ModelFace *f, StrBuf *out)
{
    const Module *m = f->m;
    sb_puts(out, "\n/* ---- the harness ---- */\n\n");
    for (size_t i = 0; i < m->routines.len; i++) {
        const Routine *r = m->routines.data[i];
        const RoutineNames *rn = &f->routine[i];
        put_ports(f, r, r->inputs.data, face_inputs(r), "inputs", out);
        put_ports(f, r, r->outputs.data, r->outputs.len, "outputs", out);
        if (r->dims.len) {
            sb_printf(out, "static const nn_harness_dim %s_dims[%zu] = {\n", rn->base, r->dims.len);
            for (size_t d = 0; d < r->dims.len; d++)
                sb_printf(out, "    { %s, %lld, %lld },\n",
                          c_string(f->arena, r->dims.data[d]->name), (ll)r->dims.data[d]->lo,
                          (ll)r->dims.data[d]->hi);
            sb_puts(out, "};\n");
        }
        put_trampoline(f, r, "call", rn->func, out);
        if (!face_keeps_grads(r)) continue;
        put_trampoline(f, r, "grad_call", rn->grad, out);
        sb_printf(out,
                  "\nstatic nn_status %s_apply_call(nn_model *m, double grad_scale)\n{\n"
                  "    return %s((%s *)(void *)m, grad_scale);\n}\n",
                  rn->base, rn->apply, f->type);
    }
    sb_printf(out, "\nstatic const nn_harness_routine harness_routines[%zu] = {\n",
              m->routines.len);
    for (size_t i = 0; i < m->routines.len; i++) {
        const Routine *r = m->routines.data[i];
        const char *base = f->routine[i].base;
        sb_printf(out, "    { .name = %s, .is_step = %d, .loss = %d,\n",
                  c_string(f->arena, r->name), r->kind == ROUTINE_STEP,
                  r->kind == ROUTINE_STEP ? face_loss_port(r) : -1);
        sb_printf(out, "      .n_dims = %zu, .n_inputs = %zu, .n_outputs = %zu,", r->dims.len,
                  face_inputs(r), r->outputs.len);
        if (r->dims.len) sb_printf(out, " .dims = %s_dims,", base);
        if (face_inputs(r)) sb_printf(out, " .inputs = %s_inputs,", base);
        if (r->outputs.len) sb_printf(out, " .outputs = %s_outputs,", base);
        sb_printf(out, "\n      .run = %s_call", base);
        if (r->product) sb_printf(out, ", .product = %d", r->product->index);
        if (face_keeps_grads(r))
            sb_printf(out, ", .grad = %s_grad_call, .apply = %s_apply_call", base, base);
        sb_puts(out, " },\n");
    }
    sb_puts(out, "};\n\nint main(int argc, char **argv)\n{\n"
                 "    const nn_harness harness = { &model_info, harness_routines };\n"
                 "    return nn_harness_main(argc, argv, &harness);\n}\n");
}
