/* SPDX-License-Identifier: MIT
 *
 * The face of a generated model: its public names and the layout of its object. In: a module after the
 * plan pass. Out: a ModelFace that source, header and harness read. Invariants: all names of the file
 * scope are distinct; every tensor starts on a 64-byte boundary of its block; the ranges of a step cover
 * exactly its trained tensors and the padding between neighbours.
 */
#include "emit/emit.h"

#include <math.h>
#include <string.h>

/* What a generated file defines whatever the model is called: NAME_new, NAME_free ... */
static const char *const api_words[] = { "bytes",   "init",      "new",      "free", "reset",
                                         "hyper",   "hypers",    "tensors",  "data", "grad",
                                         "get",     "set",       "find",     "save", "load",
                                         "save_to", "load_from", "get_grad", "info", "swap_ema",
                                         "data_end",
                                         NULL };

/* Static names of model.c and macros of its headers that user names must leave alone. */
static const char *const file_words[] = {
    "m",          "model", "arena", "team",         "arg",        "a",       "acc",
    "params",     "grads", "state", "hypers",       "i",          "j",       "k",
    "l",          "i4",    "i5",    "i6",           "i7",         "out",     "half",
    "run",        "scale", "from",  "to",           "base",       "status",  "norm",
    "step",       "slots", "apply", "metric",       "partial",    "harness", "tensor_info",
    "hyper_info", "ready", "store", "routine_info", "model_info", "main",    NULL
};

/* Parameters in the header's prototypes. A model with such a name, or with that of a local, calls its type
 * NAME_model, so that nothing hides it. */
static const char *const formal_words[] = { "m",    "mem",    "bytes",    "routines", "options", "seed",
                                            "name", "tensor", "x",        "what",     "path",    "report",
                                            "ctx",  "size",   "write_fn", "read_fn",  "out",     "grad_scale",
                                            NULL };

const char *face_c_type(const ModelFace *f, DType t)
{
    static const char *const type[] = {
        [DT_F32] = NULL, [DT_I32] = "int32_t", [DT_U8] = "uint8_t", [DT_BOOL] = "uint8_t"
    };
    return t == DT_F32 ? f->real : type[t];
}

const char *face_api(const ModelFace *f, const char *what)
{
    return arena_printf(f->arena, "%s_%s", f->stem, what);
}

int face_loss_port(const Routine *r)
{
    for (size_t i = 0; i < r->outputs.len; i++)
        if (!strcmp(r->outputs.data[i].name, "loss")) return (int)i;
    return -1;
}

/* The factor of the learning rate for t, 0 when the step does not train it. */
static double train_scale(const Routine *r, const Tensor *t)
{
    if (!r->minimize) return 0;
    for (size_t i = 0; i < r->minimize->over.len; i++)
        if (r->minimize->over.data[i] == t) return r->minimize->over_scale.data[i];
    return 0;
}

bool face_trains(const Routine *r, const Tensor *t)
{
    return train_scale(r, t) != 0;
}

bool face_assigns_state(const Routine *r)
{
    for (size_t i = 0; i < r->nodes.len; i++)
        if (op_is(r->nodes.data[i], &op_assign)) return true;
    return false;
}

bool face_keeps_grads(const Routine *r)
{
    return r->kind == ROUTINE_STEP && !updates_in_backward(r);
}

const ParamRange *face_range(const ModelFace *f, const Routine *r, int tensor)
{
    const StepPlace *s = &f->step[r->index];
    size_t i = 0;
    while (i + 1 < s->ranges.len && s->ranges.data[i].last < tensor) i++;
    return &s->ranges.data[i];
}

/* The gradient of a tensor, NULL: none. */
static const Node *gradient_of(const Routine *r, int tensor)
{
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (op_takes_gradient(n) && ((const IndexAttrs *)n->attrs)->index == tensor) return n->in[0];
    }
    return NULL;
}

int64_t face_row_grain(const Routine *r, int tensor)
{
    enum { SMALL = 1 << 15 };
    const Node *g = gradient_of(r, tensor);
    return g && g->op->row_grain && g->type.layout == LAYOUT_KERNEL && type_numel_max(&g->type) >= SMALL
               ? g->op->row_grain(g)
               : 0;
}

bool face_same_storage(const ModelFace *f, const Routine *a, const Routine *b)
{
    for (size_t i = 0; i < f->m->tensors.len; i++)
        if (face_trains(a, f->m->tensors.data[i]) && face_trains(b, f->m->tensors.data[i]))
            return true;
    return false;
}

int64_t face_arena_bytes(const Routine *r)
{
    return face_work_offset(r) + optim_work_bytes(r->minimize);
}

int64_t face_work_offset(const Routine *r)
{
    const bool multiplies = r->product && r->minimize->optim->uses_product;
    const Routine *other = multiplies ? r->product : r->prepare;
    const int64_t own = r->plan->arena_bytes, bytes = other ? other->plan->arena_bytes : 0;
    return own > bytes ? own : bytes;
}

size_t face_inputs(const Routine *r)
{
    size_t n = 0;
    while (n < r->inputs.len && !r->inputs.data[n].is_kept) n++;
    return n;
}

int64_t face_kept_bytes(const ModelFace *f, const Routine *r)
{
    return r->prepare ? f->routine[r->prepare->index].kept_bytes : 0;
}

/* Every kept value on a boundary of 64 bytes, in the order of outputs. */
static void place_kept(ModelFace *f, const Routine *prepare)
{
    RoutineNames *rn = &f->routine[prepare->index];
    rn->kept = ARENA_ARRAY(f->arena, int64_t, prepare->outputs.len + 1);
    for (size_t i = 0; i < prepare->outputs.len; i++) {
        const TensorType *t = &prepare->outputs.data[i].type;
        rn->kept[i] = rn->kept_bytes;
        rn->kept_bytes += (type_numel_max(t) * dtype_size(t->dtype, f->m->real_is_f64) + 63) / 64 * 64;
    }
}

int face_clock(const ModelFace *f, const Routine *r)
{
    const int top = f->routine[r->index].top;
    const Routine *step = f->m->routines.data[top]->step;
    return step ? step->index : top;
}

int64_t face_dim_low(const Routine *r, const DimVar *dim)
{
    int64_t low = dim->lo;
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (n->op->least_batch && n->in[0]->type.batch == dim && n->op->least_batch(n) > low)
            low = n->op->least_batch(n);
    }
    return low;
}

void face_work(const Routine *r, int64_t *per_batch, int64_t *fixed)
{
    *per_batch = *fixed = 0;
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (!n->op->work) continue;
        bool batched = n->type.batch != NULL;
        for (int k = 0; k < n->n_in; k++) batched |= n->in[k] && n->in[k]->type.batch;
        *(batched ? per_batch : fixed) += n->op->work(n).macs;
    }
}

static void place_tensors(ModelFace *f)
{
    const Module *m = f->m;
    f->tensor = ARENA_ARRAY(f->arena, TensorPlace, m->tensors.len + 1);
    for (size_t i = 0; i < m->tensors.len; i++) {
        const Tensor *t = m->tensors.data[i];
        int64_t *end = t->kind == TENSOR_STATE ? &f->state_count : &f->param_count;
        const int64_t count = type_numel_max(&t->type);
        f->tensor[i] = (TensorPlace){ .offset = *end, .count = count };
        *end += (count + f->align - 1) / f->align * f->align;
        f->tensor[i].id = names_add(
            f->names, arena_printf(f->arena, "%s_%s", f->upper,
                                   names_upper(f->arena, names_mangle(f->arena, t->path))));
    }
}

/* Is a scalar that a slot is for true, or live? */
static bool is_asked_for(const Minimize *min, const char *scalar)
{
    for (int i = 0; min->optim->scalars[i].name; i++)
        if (!strcmp(min->optim->scalars[i].name, scalar))
            return min->scalars[i].hyper || min->scalars[i].fixed != 0;
    return false;
}

static void place_slots(ModelFace *f, const Minimize *min, StepPlace *s)
{
    s->ema_at = -1;
    if (!min || !min->optim) return;
    for (int k = 0; min->optim->slots[k]; k++) {
        const char *name = min->optim->slots[k], *mark = strchr(name, '?');
        s->slot_at[k] = mark && !is_asked_for(min, mark + 1) ? -1 : s->n_slots;
        if (s->slot_at[k] >= 0)
            s->slot[s->n_slots++] =
                arena_strndup(f->arena, name, mark ? (size_t)(mark - name) : strlen(name));
    }
    if (min->ema == 0) return;
    s->ema_at = s->n_slots;
    s->slot[s->n_slots++] = "ema";
    f->has_ema = true;
}

static void place_steps(ModelFace *f)
{
    const Module *m = f->m;
    f->step = ARENA_ARRAY(f->arena, StepPlace, m->routines.len + 1);
    for (size_t r = 0; r < m->routines.len; r++) {
        const Routine *routine = m->routines.data[r];
        StepPlace *s = &f->step[r];
        if (routine->kind != ROUTINE_STEP) continue;
        f->keeps_grads |= face_keeps_grads(routine);
        bool open =
            false; /* the previous parameter is trained too: the range goes on through the padding */
        for (size_t i = 0; i < m->tensors.len; i++) {
            const Tensor *t = m->tensors.data[i];
            if (t->kind == TENSOR_STATE) continue;
            const TensorPlace *p = &f->tensor[i];
            if (!face_trains(routine, t)) {
                open = false;
                continue;
            }
            const double scale = train_scale(routine, t);
            if (!open || s->ranges.data[s->ranges.len - 1].scale != scale)
                vec_push(f->arena, &s->ranges,
                         (ParamRange){ .offset = p->offset, .first = (int)i, .scale = scale });
            ParamRange *range = &s->ranges.data[s->ranges.len - 1];
            range->count =
                (p->offset + p->count + f->align - 1) / f->align * f->align - range->offset;
            range->last = (int)i;
            open = true;
        }
        for (size_t i = 0; i < s->ranges.len; i++) {
            s->ranges.data[i].slot_offset = s->slot_count;
            s->slot_count += s->ranges.data[i].count;
        }
        place_slots(f, routine->minimize, s);
        s->slots_offset = f->slot_count;
        f->slot_count += s->slot_count * s->n_slots;
        if (!routine->minimize || !routine->minimize->optim->blocks) continue;
        for (const OptimBlock *b = routine->minimize->optim->blocks; b->name; b++) {
            const BlockPlace place = { .rows = optim_rows(routine->minimize, b),
                                       .cols = optim_columns(routine->minimize),
                                       .offset = f->slot_count };
            vec_push(f->arena, &s->blocks, place);
            f->slot_count += (place.rows * place.cols + f->align - 1) / f->align * f->align;
        }
    }
}

static bool all_free(const ModelFace *f, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (names_taken(f->names, names[i])) return false;
    return true;
}

/* All names of one routine share a stem, so that mlp_train, mlp_train_grad and MLP_TRAIN stay together. */
static void name_routine(ModelFace *f, const Routine *r, RoutineNames *rn)
{
    Arena *a = f->arena;
    const char *stem = names_mangle(a, r->name);
    static const char *const suffix[] = { "body",     "args",       "run",        "update",
                                          "norm",     "apply_body", "ranges",     "slots",
                                          "call",     "grad_call",  "apply_call", "inputs",
                                          "outputs",  "dims",       "blocks",     "trained",
                                          "evaluate", "second",     "product" };
    enum { N_STATIC = sizeof suffix / sizeof *suffix };
    for (int i = 2;; i++) {
        rn->func = arena_printf(a, "%s_%s", f->stem, stem);
        rn->grad = arena_printf(a, "%s_grad", rn->func);
        rn->apply = arena_printf(a, "%s_apply", rn->func);
        rn->out = arena_printf(a, "%s_out", rn->func);
        rn->bit = arena_printf(a, "%s_%s", f->upper, names_upper(a, stem));
        rn->bytes = arena_printf(a, "%s_BYTES", rn->bit);
        rn->kept_macro = arena_printf(a, "%s_KEPT_BYTES", rn->bit);
        const char *all[6 + N_STATIC] = { rn->func, rn->bit, rn->bytes };
        int n = 3;
        for (int k = 0; k < N_STATIC; k++) all[n++] = arena_printf(a, "%s_%s", stem, suffix[k]);
        if (r->kind == ROUTINE_STEP) {
            all[n++] = rn->grad;
            all[n++] = rn->apply;
            all[n++] = rn->out;
        } else {
            all[n++] = rn->kept_macro;
        }
        if (all_free(f, all, n)) {
            for (int k = 0; k < n; k++)
                names_reserve(f->names, (const char *const[]){ all[k], NULL });
            break;
        }
        stem = arena_printf(a, "%s_%d", names_mangle(a, r->name), i);
    }
    rn->base = stem;

    NameTable *formal = names_new(a, f->names);
    if (r->kind == ROUTINE_BODY)
        names_reserve(formal, (const char *const[]){ "a", "arena", "m", "t", "team", NULL });
    rn->dim = ARENA_ARRAY(a, const char *, r->dims.len + 1);
    rn->input = ARENA_ARRAY(a, const char *, r->inputs.len + 1);
    rn->output = ARENA_ARRAY(a, const char *, r->outputs.len + 1);
    for (size_t i = 0; i < r->dims.len; i++) rn->dim[i] = names_add(formal, r->dims.data[i]->name);
    for (size_t i = 0; i < r->inputs.len; i++)
        rn->input[i] = names_add(formal, r->inputs.data[i].name);
    if (r->kind == ROUTINE_STEP)
        formal = names_new(a, NULL); /* fields have a name space of their own */
    for (size_t i = 0; i < r->outputs.len; i++)
        rn->output[i] = names_add(formal, r->outputs.data[i].name);
}

/* Bodies get indices behind the module's routines, and names after the routine that runs them. */
static void collect_bodies(ModelFace *f, const Routine *r, const char *stem)
{
    for (size_t i = 0; i < r->nodes.len; i++) {
        if (!op_is(r->nodes.data[i], &op_scan)) continue;
        const ScanAttrs *s = r->nodes.data[i]->attrs;
        Routine *body = s->body;
        body->name = arena_printf(f->arena, "%s_%s", stem, s->reverse ? "scan_back" : "scan");
        collect_bodies(f, body, stem);
        body->index = (int)(f->m->routines.len + f->bodies.len);
        vec_push(f->arena, &f->bodies, body);
    }
    if (!r->prepare) return;
    r->prepare->index = (int)(f->m->routines.len + f->bodies.len);
    vec_push(f->arena, &f->bodies, r->prepare);
}

static void set_top(ModelFace *f, const Routine *r, int top)
{
    f->routine[r->index].top = top;
    if (r->prepare) {
        set_top(f, r->prepare, top);
        place_kept(f, r->prepare);
    }
    for (size_t i = 0; i < r->nodes.len; i++)
        if (op_is(r->nodes.data[i], &op_scan))
            set_top(f, ((const ScanAttrs *)r->nodes.data[i]->attrs)->body, top);
}

ModelFace *face_new(const Module *m, const EmitOptions *opt)
{
    Arena *a = m->arena;
    ModelFace *f = ARENA_NEW(a, ModelFace);
    *f = (ModelFace){ .m = m, .opt = opt, .arena = a, .names = names_new(a, NULL) };
    f->kernel = map_new(a);
    sb_init(&f->kernels, a);
    f->real = m->real_is_f64 ? "double" : "float";
    f->align = m->real_is_f64 ? 8 : 16;

    /* names_add on a scratch table escapes words such as `int` and `nn`. */
    const char *wanted = opt->prefix ? opt->prefix : m->name;
    NameTable *scratch = names_new(a, NULL);
    f->type = names_add(scratch, wanted);
    f->stem = f->type;
    const size_t len = strlen(f->stem);
    if (len > 1 && f->stem[len - 1] == '_') f->stem = arena_strndup(a, f->stem, len - 1);
    const char *with_tail = arena_printf(a, "%s_x", f->stem);
    if (strcmp(names_add(scratch, with_tail),
               with_tail)) /* pthread, nn: the family owns NAME_anything */
        f->stem = f->type = arena_printf(a, "v_%s", f->stem);
    NameTable *locals = names_new(a, NULL);
    names_reserve(locals, file_words);
    names_reserve(locals, formal_words);
    if (names_taken(locals, f->type)) f->type = arena_printf(a, "%s_model", f->stem);
    f->upper = names_upper(a, f->stem);

    names_reserve(f->names, file_words);
    names_reserve(f->names, (const char *const[]){ f->type, f->upper,
                                                   arena_printf(a, "%s_H", f->upper), NULL });
    for (const char *const *w = api_words; *w; w++)
        names_reserve(f->names, (const char *const[]){ face_api(f, *w), NULL });
    f->hyper_type = face_api(f, "hyper");

    f->dim_max = ARENA_ARRAY(a, const char *, m->dims.len + 1);
    for (size_t i = 0; i < m->dims.len; i++)
        f->dim_max[i] = names_add(f->names, arena_printf(a, "%s_%s_MAX", f->upper,
                                                         names_upper(a, m->dims.data[i]->name)));
    for (size_t i = 0; i < m->routines.len; i++)
        collect_bodies(f, m->routines.data[i], m->routines.data[i]->name);
    f->routine = ARENA_ARRAY(a, RoutineNames, m->routines.len + f->bodies.len + 1);
    for (size_t i = 0; i < m->routines.len; i++)
        name_routine(f, m->routines.data[i], &f->routine[i]);
    for (size_t i = 0; i < f->bodies.len; i++)
        name_routine(f, f->bodies.data[i], &f->routine[f->bodies.data[i]->index]);
    for (size_t i = 0; i < m->routines.len; i++)
        set_top(f, m->routines.data[i], (int)i);
    place_tensors(f);
    place_steps(f);
    NameTable *fields = names_new(a, NULL);
    f->hyper = ARENA_ARRAY(a, const char *, m->hypers.len + 1);
    for (size_t i = 0; i < m->hypers.len; i++)
        f->hyper[i] = names_add(fields, m->hypers.data[i]->name);
    return f;
}
