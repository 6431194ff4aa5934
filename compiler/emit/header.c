/* SPDX-License-Identifier: MIT
 *
 * model.h: the documentation of the generated model and its C API. In: a ModelFace. Out: a header that
 * C11 and C++11 accept, with the shape, range and size of everything a caller passes.
 */
#include "emit/emit.h"

#include <math.h>
#include <string.h>

typedef long long ll;

static const char *human(Arena *a, double n, const char *unit)
{
    static const char *const prefix[] = { "", "k", "M", "G", "T" };
    int p = 0;
    while (n >= 1000.0 && p < 4) {
        n /= 1000.0;
        p++;
    }
    return arena_printf(a, p ? "%.3g %s%s" : "%.0f %s%s", n, prefix[p], unit);
}

/* f32[B,784] as a reader of C wants it: "float[B][784], row-major". */
static const char *port_text(const ModelFace *f, const Port *p)
{
    StrBuf sb;
    sb_init(&sb, f->arena);
    sb_printf(&sb, "%s", face_c_type(f, p->type.dtype));
    for (int i = 0; i < p->type.rank; i++) {
        if (i == 0 && p->type.batch) {
            if (p->type.dim[0] != 1)
                sb_printf(&sb, "[%lld*%s]", (ll)p->type.dim[0], p->type.batch->name);
            else
                sb_printf(&sb, "[%s]", p->type.batch->name);
        } else {
            sb_printf(&sb, "[%lld]", (ll)p->type.dim[i]);
        }
    }
    if (!p->type.rank)
        sb_puts(&sb, ", one number");
    else if (p->type.rank == 4)
        sb_puts(&sb, ", row-major (images: N,C,H,W)");
    else if (p->type.rank > 1)
        sb_puts(&sb, ", row-major");
    if (p->index_limit > 0) {
        sb_printf(&sb, ", values in [0, %lld)", (ll)p->index_limit);
        if (p->has_ignore) sb_printf(&sb, " or %lld", (ll)p->index_ignore);
    }
    return comment_text(f->arena, sb.text);
}

/* The functions that compute a step's gradients. */
static const char *calls_text(const ModelFace *f, const Routine *step)
{
    const RoutineNames *rn = &f->routine[step->index];
    return face_keeps_grads(step) ? arena_printf(f->arena, "%s or %s", rn->func, rn->grad) : rn->func;
}

/* What a product with the Hessian promises, and the order of its vectors. */
static void put_product_text(const ModelFace *f, const Routine *r, StrBuf *out)
{
    Arena *a = f->arena;
    const char *v = f->routine[r->index].input[r->inputs.len - 1];
    sb_printf(out,
              " * The product of the Hessian of %s's loss at the current weights with the vector %s. Both hold all\n"
              " * elements that %s trains, row-major, one tensor after another:\n",
              comment_text(a, r->step->name), v, comment_text(a, r->step->name));
    int64_t from = 0;
    for (size_t i = 0; i < f->m->tensors.len; i++) {
        const Tensor *t = f->m->tensors.data[i];
        if (!face_trains(r->step, t)) continue;
        const int64_t n = type_numel(&t->type, 0, t->type.rank);
        sb_printf(out, " *   %s[%lld..%lld] %s: %s\n", v, (ll)from, (ll)(from + n - 1), comment_text(a, t->path),
                  comment_text(a, type_text(a, &t->type)));
        from += n;
    }
    sb_printf(out,
              " * Random numbers and schedules are those of the next call of %s. No weight,\n"
              " * gradient, state or counter changes. Decay of the weights is not part of the loss.\n",
              calls_text(f, r->step));
}

/* What a trace gives. */
static void put_trace_text(const ModelFace *f, const Routine *r, StrBuf *out)
{
    Arena *a = f->arena;
    sb_printf(out,
              " * What %s computes from these inputs at the current weights: value_NAME is the value called NAME,\n"
              " * grad_NAME the gradient of the loss with respect to it. No weight, gradient, state or counter\n"
              " * changes. Random numbers and schedules are those of the next call of %s.\n",
              comment_text(a, r->step->name), calls_text(f, r->step));
}

static void put_routine(const ModelFace *f, const Routine *r, StrBuf *out)
{
    const RoutineNames *rn = &f->routine[r->index];
    Arena *a = f->arena;
    int64_t per_batch, fixed;
    face_work(r, &per_batch, &fixed);
    const char *batch = r->dims.len ? r->dims.data[0]->name : "call";
    sb_printf(out, "\n/* %s %s",
              r->kind == ROUTINE_STEP ? "step"
              : !r->step              ? "infer"
              : r == r->step->trace   ? "trace"
                                      : "product",
              comment_text(a, r->name));
    if (per_batch)
        sb_printf(out, ": %s per unit of %s", human(a, (double)per_batch, "MAC"),
                  comment_text(a, batch));
    if (fixed)
        sb_printf(out, "%s %s per call", per_batch ? "," : ":", human(a, (double)fixed, "MAC"));
    sb_putc(out, '\n');
    for (size_t i = 0; i < r->dims.len; i++)
        sb_printf(out, " *   %-10s in     %lld..%lld\n", rn->dim[i], (ll)face_dim_low(r, r->dims.data[i]),
                  (ll)r->dims.data[i]->hi);
    for (size_t i = 0; i < face_inputs(r); i++)
        sb_printf(out, " *   %-10s in     %s\n", rn->input[i], port_text(f, &r->inputs.data[i]));
    if (r->kind == ROUTINE_INFER) {
        for (size_t i = 0; i < r->outputs.len; i++)
            sb_printf(out, " *   %-10s out    %s\n", rn->output[i],
                      port_text(f, &r->outputs.data[i]));
        if (r->step) (r == r->step->trace ? put_trace_text : put_product_text)(f, r, out);
        sb_puts(out, " */\n");
    } else {
        sb_puts(out, " *   out        out    may be NULL\n");
        if (r->minimize) {
            const Minimize *mini = r->minimize;
            sb_printf(out, " * Trains %zu tensors using %s", mini->over.len, mini->optim->name);
            if (mini->clip_norm > 0)
                sb_printf(out, ", gradient norm clipped to %g", mini->clip_norm);
            if (mini->clip_value > 0)
                sb_printf(out, ", gradients clipped to +-%g", mini->clip_value);
            if (mini->ema > 0) sb_printf(out, ", weights averaged with decay %g", mini->ema);
            sb_puts(out, ".\n");
        }
        if (!face_keeps_grads(r))
            sb_puts(out,
                    " * Updates each tensor as soon as its gradient is known, which is not kept. A loss that is not\n"
                    " * finite gives NN_ENONFINITE and changes no weight and no state. */\n");
        else if (r->minimize && r->minimize->optim->driver)
            sb_printf(
                out,
                " * %s makes one update with a line search: a full batch, whose loss and gradient it\n"
                " * computes several times; out is from before the update. NN_ESEARCH: no step lowers the loss. %s\n"
                " * adds gradients to those of its earlier calls; %s returns NN_EINVAL, for a gradient\n"
                " * alone does not make this update. A call that fails changes no weight and no state. */\n",
                rn->func, rn->grad, rn->apply);
        else
            sb_printf(
                out,
                " * %s does a whole step. Its halves: %s adds gradients to those since the last update,\n"
                " * %s multiplies them by grad_scale and updates the weights. A loss that is not finite gives\n"
                " * NN_ENONFINITE, changes no weight and no state, and discards gradients accumulated so far. */\n",
                rn->func, rn->grad, rn->apply);
        sb_printf(out, "typedef struct %s {\n    double ", rn->out);
        for (size_t i = 0; i < r->outputs.len; i++)
            sb_printf(out, "%s%s", i ? ", " : "", rn->output[i]);
        sb_printf(out, ";\n} %s;\n", rn->out);
    }
    StrBuf formals;
    sb_init(&formals, a);
    sb_printf(&formals, "(%s *m", f->type);
    for (size_t i = 0; i < r->dims.len; i++) sb_printf(&formals, ", int %s", rn->dim[i]);
    for (size_t i = 0; i < face_inputs(r); i++)
        sb_printf(&formals, ", const %s *%s", face_c_type(f, r->inputs.data[i].type.dtype),
                  rn->input[i]);
    if (r->kind == ROUTINE_INFER)
        for (size_t i = 0; i < r->outputs.len; i++)
            sb_printf(&formals, ", %s *%s", face_c_type(f, r->outputs.data[i].type.dtype),
                      rn->output[i]);
    else
        sb_printf(&formals, ", %s *out", rn->out);
    sb_puts(&formals, ");");
    put_text(out, 0, arena_printf(a, "nn_status %s%s", rn->func, formals.text));
    if (face_keeps_grads(r)) {
        put_text(out, 0, arena_printf(a, "nn_status %s%s", rn->grad, formals.text));
        put_text(out, 0,
                 arena_printf(a, "nn_status %s(%s *m, double grad_scale);", rn->apply, f->type));
    }
}

static void put_head(const ModelFace *f, StrBuf *out)
{
    const Module *m = f->m;
    Arena *a = f->arena;
    int64_t n_params = 0, n_state = 0;
    for (size_t i = 0; i < m->tensors.len; i++)
        *(m->tensors.data[i]->kind == TENSOR_STATE ? &n_state : &n_params) += f->tensor[i].count;
    sb_printf(out, " *\n * Model %s: %lld parameters", comment_text(a, m->name), (ll)n_params);
    if (n_state) sb_printf(out, ", %lld numbers of state", (ll)n_state);
    sb_printf(out, ", computed in %s.\n", f->real);
    sb_printf(
        out,
        " *\n"
        " *     %s *m = %s(%s, NULL);     // or %s in memory of your own\n"
        " *     ... call the routines below ...\n"
        " *     %s(m);\n"
        " *\n"
        " * One object is used by one thread at a time; any number of objects may be. Nothing is allocated\n"
        " * after %s. Link with the nn library.\n"
        " */\n",
        f->type, face_api(f, "new"), f->m->routines.len ? f->routine[0].bit : "0",
        face_api(f, "init"), face_api(f, "free"), face_api(f, "new"));
}

static void put_tensor_ids(const ModelFace *f, StrBuf *out)
{
    const Module *m = f->m;
    if (!m->tensors.len) return;
    sb_printf(out, "\n/* Positions in %s[]; offsets are in numbers, shapes canonical. */\nenum {\n",
              face_api(f, "tensors"));
    for (size_t i = 0; i < m->tensors.len; i++) {
        const Tensor *t = m->tensors.data[i];
        sb_printf(out, "    %s = %zu, /* %s %s%s */\n", f->tensor[i].id, i,
                  comment_text(f->arena, t->path),
                  comment_text(f->arena, type_text(f->arena, &t->type)),
                  t->kind == TENSOR_STATE ? ", state"
                  : t->trained            ? ""
                                          : ", not trained");
    }
    sb_puts(out, "};\n");
}

void emit_header(const ModelFace *f, StrBuf *out)
{
    const Module *m = f->m;
    Arena *a = f->arena;
    StrBuf banner;
    sb_init(&banner, a);
    emit_banner(f, &banner);
    sb_putn(out, banner.text, banner.len - strlen(" */\n"));
    sb_putc(out, '\n');
    put_head(f, out);
    sb_printf(out, "#ifndef %s_H\n#define %s_H\n\n#include \"nn_model.h\"\n\n", f->upper, f->upper);
    sb_puts(out, "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
    for (size_t i = 0; i < m->dims.len; i++)
        sb_printf(out, "#define %s %lld\n", f->dim_max[i], (ll)m->dims.data[i]->hi);
    sb_puts(out,
            "\n/* Routines, as bits: what an object can do decides how much memory it takes. */\n");
    for (size_t i = 0; i < m->routines.len; i++)
        sb_printf(out, "#define %s %uu\n", f->routine[i].bit, 1u << i);
    sb_puts(
        out,
        "\n/* Bytes of working memory per routine; an object holds the largest of its routines'. */\n");
    for (size_t i = 0; i < m->routines.len; i++)
        sb_printf(out, "#define %s %lld\n", f->routine[i].bytes,
                  (ll)face_arena_bytes(m->routines.data[i]));
    bool keeps = false;
    for (size_t i = 0; i < m->routines.len; i++) keeps |= m->routines.data[i]->prepare != NULL;
    if (keeps)
        sb_puts(out,
                "\n/* Bytes that an object keeps for a routine besides: what depends on the weights alone, computed\n"
                " * in the first call after they have changed. */\n");
    for (size_t i = 0; i < m->routines.len; i++)
        if (m->routines.data[i]->prepare)
            sb_printf(out, "#define %s %lld\n", f->routine[i].kept_macro,
                      (ll)face_kept_bytes(f, m->routines.data[i]));
    sb_printf(out, "\ntypedef struct %s %s;\n", f->type, f->type);
    for (size_t i = 0; i < m->routines.len; i++) put_routine(f, m->routines.data[i], out);

    sb_puts(out, "\n/* ---- the object ---- */\n\n");
    sb_printf(out, "size_t %s(unsigned routines); /* memory that %s needs */\n",
              face_api(f, "bytes"), face_api(f, "init"));
    put_text(
        out, 0,
        arena_printf(
            a,
            "nn_status %s(%s **out, void *mem, size_t bytes, unsigned routines, const nn_options *options);",
            face_api(f, "init"), f->type));
    put_text(
        out, 0,
        arena_printf(
            a,
            "%s *%s(unsigned routines, const nn_options *options); /* NULL: no memory or threads */",
            f->type, face_api(f, "new")));
    sb_printf(out, "void %s(%s *m);\n", face_api(f, "free"), f->type);
    sb_printf(
        out, "void %s(%s *m, uint64_t seed); /* new weights, cleared optimizer, counters at 0 */\n",
        face_api(f, "reset"), f->type);

    if (m->hypers.len) {
        sb_printf(
            out,
            "\n/* Numbers that may be changed between calls; saved with the training state. */\n"
            "typedef struct %s {\n",
            f->hyper_type);
        for (size_t i = 0; i < m->hypers.len; i++) {
            StrBuf value;
            sb_init(&value, a);
            sb_real(&value, m->hypers.data[i]->value);
            sb_printf(out, "    double %s; /* %s = %s */\n", f->hyper[i],
                      comment_text(a, m->hypers.data[i]->path), comment_text(a, value.text));
        }
        sb_printf(out, "} %s;\n%s *%s(%s *m);\n", f->hyper_type, f->hyper_type,
                  face_api(f, "hypers"), f->type);
    }
    if (f->has_ema) {
        sb_puts(
            out,
            "/* Exchanges the weights that `step` (one of the bits above) trains with their averages; again, "
            "and they are\n"
            " * back. Until then no step runs. */\n");
        sb_printf(out, "nn_status %s(%s *m, unsigned step);\n", face_api(f, "swap_ema"), f->type);
    }
    put_tensor_ids(f, out);
    sb_printf(out, "extern const nn_tensor %s[%zu];\n", face_api(f, "tensors"),
              m->tensors.len ? m->tensors.len : 1);
    sb_printf(out,
              "int %s(const %s *m, const char *name); /* position by name, -1 when absent */\n",
              face_api(f, "find"), f->type);
    sb_puts(out, "/* Canonical, row-major copies. */\n");
    put_text(out, 0,
             arena_printf(a, "nn_status %s(const %s *m, int tensor, %s *x);", face_api(f, "get"),
                          f->type, f->real));
    put_text(out, 0,
             arena_printf(a, "nn_status %s(%s *m, int tensor, const %s *x);", face_api(f, "set"),
                          f->type, f->real));
    put_text(out, 0,
             arena_printf(a, "nn_status %s(const %s *m, int tensor, %s *x);",
                          face_api(f, "get_grad"), f->type, f->real));
    sb_puts(
        out,
        "/* The storage itself, in the order nn_tensor.stride says; NULL where there is none. From then on weights\n"
        " * may change at any time: infer routines compute what they need of them in every call, until data_end\n"
        " * says that nothing is written through such pointers any more. */\n");
    put_text(out, 0,
             arena_printf(a, "%s *%s(%s *m, int tensor);", f->real, face_api(f, "data"), f->type));
    sb_printf(out, "void %s(%s *m);\n", face_api(f, "data_end"), f->type);
    put_text(out, 0,
             arena_printf(a, "%s *%s(%s *m, int tensor);", f->real, face_api(f, "grad"), f->type));
    sb_puts(
        out,
        "\n/* safetensors files. what: NN_WEIGHTS, NN_TRAINING or NN_ALL; loading: also NN_PARTIAL. */\n");
    put_text(out, 0,
             arena_printf(a, "nn_status %s(const %s *m, unsigned what, const char *path);",
                          face_api(f, "save"), f->type));
    put_text(out, 0,
             arena_printf(
                 a, "nn_status %s(%s *m, unsigned what, const char *path, nn_load_report *report);",
                 face_api(f, "load"), f->type));
    put_text(out, 0,
             arena_printf(
                 a, "nn_status %s(const %s *m, unsigned what, nn_write_fn write_fn, void *ctx);",
                 face_api(f, "save_to"), f->type));
    put_text(
        out, 0,
        arena_printf(
            a,
            "nn_status %s(%s *m, unsigned what, nn_read_fn read_fn, size_t size, void *ctx, nn_load_report *report);",
            face_api(f, "load_from"), f->type));
    sb_puts(out, "\n#ifdef __cplusplus\n}\n#endif\n#endif\n");
}
