/* SPDX-License-Identifier: MIT
 *
 * --emit=summary: the table people know. In: the module as the front end made it (layers, shapes, work) and
 * after the passes (working memory). A row is a layer of the standard library or an operator the program
 * calls itself; a layer that several routines call stands where it is called first.
 *
 * Receptive fields follow r' = r + (extent - 1) * jump, jump' = jump * stride per spatial axis; where paths
 * meet, the larger one counts.
 */
#include "emit/emit.h"

#include <string.h>

typedef long long ll;

typedef struct Field {
    bool known;
    int64_t r[2], jump[2];
} Field;

typedef struct Row {
    const char *path, *kind;
    const Routine *routine; /* that showed the layer first */
    TensorType type;
    int64_t params, macs, bytes;
    Field field;
} Row;

struct Summary {
    Arena *arena;
    VEC(Row) rows;
};

static bool same_span(Span a, Span b)
{
    return a.source == b.source && a.start == b.start && a.end == b.end;
}

/* The layer a node belongs to. What the body of a library block builds carries the place of the call: the
 * outermost instance with that place is the layer. Anything else is an operator of the program's own text. */
static const char *layer_of(Arena *a, const Node *n, const char **kind)
{
    const Inst *layer = NULL;
    for (const Inst *i = n->inst;
         i && (same_span(i->call, n->span) || (n->span.source && n->span.source->is_std));
         i = i->parent)
        layer = i;
    if (layer) {
        *kind = layer->block;
        return *layer->path ? layer->path
                            : layer->block; /* calls of functions have no path of their own */
    }
    *kind = n->op->name;
    return n->inst && *n->inst->path ? arena_printf(a, "%s.%s", n->inst->path, n->name) : n->name;
}

static Field field_of(const Node *n, const Field *fields)
{
    Field f = { .known = false };
    if (op_is(n, &op_input)) return (Field){ n->type.rank == 4, { 1, 1 }, { 1, 1 } };
    if (n->type.rank != 4) return f;
    for (int k = 0; k < n->n_in; k++) {
        if (!n->in[k] || !fields[n->in[k]->id].known) continue;
        const Field *x = &fields[n->in[k]->id];
        for (int axis = 0; axis < 2; axis++) {
            if (x->r[axis] > f.r[axis]) f.r[axis] = x->r[axis];
            if (x->jump[axis] > f.jump[axis]) f.jump[axis] = x->jump[axis];
        }
        f.known = true;
    }
    if (f.known && n->op->window) {
        int64_t extent[2], stride[2];
        n->op->window(n, extent, stride);
        for (int axis = 0; axis < 2; axis++) {
            f.r[axis] += (extent[axis] - 1) * f.jump[axis];
            f.jump[axis] *= stride[axis];
        }
    } else if (f.known && n->n_in && n->in[0] && n->in[0]->type.rank == 4 && !n->op->expr &&
               n->op->work) {
        /* An operator that computes over space but is no window: its field is not tracked. */
        for (int i = 2; i < 4; i++)
            if (n->in[0]->type.dim[i] != n->type.dim[i]) f.known = false;
    }
    return f;
}

/* What outputs, metrics and the loss depend on; the rest only carries state from call to call. */
static bool *find_shown(Summary *s, const Routine *r)
{
    bool *shown = ARENA_ARRAY(s->arena, bool, r->nodes.len + 1);
    if (r->minimize && r->minimize->loss) shown[r->minimize->loss->id] = true;
    for (size_t i = r->nodes.len; i-- > 0;) {
        const Node *n = r->nodes.data[i];
        if (op_is(n, &op_output) || op_is(n, &op_report)) shown[i] = true;
        for (int k = 0; shown[i] && k < n->n_in; k++)
            if (n->in[k]) shown[n->in[k]->id] = true;
    }
    return shown;
}

static Row *find_row(Summary *s, const char *path)
{
    for (size_t k = 0; k < s->rows.len; k++)
        if (!strcmp(s->rows.data[k].path, path)) return &s->rows.data[k];
    return NULL;
}

/* r: a routine of the module, or the body of a loop that `top` runs, for all its steps. */
static void collect_routine(Summary *s, const Module *m, const Routine *r, const Routine *top,
                            int64_t steps)
{
    const bool *shown = find_shown(s, r);
    Field *fields = ARENA_ARRAY(s->arena, Field, r->nodes.len + 1);
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        fields[i] = field_of(n, fields);
        if (op_has(n, OPF_SOURCE | OPF_ROOT) || !shown[i]) continue;
        if (op_is(n, &op_scan)) {
            const ScanAttrs *loop = n->attrs;
            collect_routine(s, m, loop->body, top, steps * loop->length);
            continue;
        }
        const char *kind;
        const char *path = layer_of(s->arena, n, &kind);
        Row *row = find_row(s, path);
        /* Parts of a layer that stand at another place than its call. */
        if (!row && n->inst && *n->inst->path) row = find_row(s, n->inst->path);
        if (row && row->routine != top) continue;
        if (!row) {
            vec_push(s->arena, &s->rows, (Row){ .path = path, .kind = kind, .routine = top });
            row = &s->rows.data[s->rows.len - 1];
            for (size_t t = 0; t < m->tensors.len; t++) {
                const Tensor *tensor = m->tensors.data[t];
                const size_t len = strlen(path);
                if (tensor->kind == TENSOR_PARAM && !strncmp(tensor->path, path, len) &&
                    tensor->path[len] == '.')
                    row->params += type_numel_max(&tensor->type);
            }
        }
        row->type = n->type;
        row->field = fields[i];
        row->bytes = type_numel_max(&n->type) * dtype_size(n->type.dtype, m->real_is_f64);
        if (n->op->work) row->macs += steps * n->op->work(n).macs;
    }
}

/* Inference shows a network plainly; steps add what only they use (losses, a discriminator). */
Summary *summary_collect(const Module *m)
{
    Summary *s = ARENA_NEW(m->arena, Summary);
    s->arena = m->arena;
    for (int kind = 0; kind < 2; kind++)
        for (size_t i = 0; i < m->routines.len; i++) {
            const Routine *r = m->routines.data[i];
            if ((r->kind == ROUTINE_INFER) == (kind == 0)) collect_routine(s, m, r, r, 1);
        }
    return s;
}

/* 1234567 -> 1,234,567 */
static const char *grouped(Arena *a, int64_t n)
{
    char digits[32], text[48];
    const int len = snprintf(digits, sizeof digits, "%lld", (ll)n);
    int k = 0;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0 && digits[i - 1] != '-') text[k++] = ',';
        text[k++] = digits[i];
    }
    text[k] = '\0';
    return arena_strdup(a, text);
}

static const char *field_text(Arena *a, const Field *f)
{
    return f->known ? arena_printf(a, "%lldx%lld", (ll)f->r[0], (ll)f->r[1]) : "-";
}

static void put_totals(const Module *m, const Summary *s, StrBuf *out)
{
    int64_t params = 0, trained = 0, state = 0;
    for (size_t i = 0; i < m->tensors.len; i++) {
        const Tensor *t = m->tensors.data[i];
        const int64_t count = type_numel_max(&t->type);
        *(t->kind == TENSOR_STATE ? &state : &params) += count;
        if (t->trained) trained += count;
    }
    sb_printf(out, "parameters %s", grouped(s->arena, params));
    sb_printf(out, " (%s trained by some step)", grouped(s->arena, trained));
    if (state) sb_printf(out, ", state %s", grouped(s->arena, state));
    sb_printf(out, "; %s\n\n", m->real_is_f64 ? "f64" : "f32");
}

void emit_summary(const Summary *s, const Module *m, StrBuf *out)
{
    Arena *a = s->arena;
    int wide[3] = { 5, 4, 6 };
    for (size_t i = 0; i < s->rows.len; i++) {
        const Row *r = &s->rows.data[i];
        const int len[3] = { (int)strlen(r->path), (int)strlen(r->kind),
                             (int)strlen(type_text(a, &r->type)) };
        for (int k = 0; k < 3; k++)
            if (len[k] > wide[k]) wide[k] = len[k];
    }
    sb_printf(out, "model %s\n\n%-*s  %-*s  %-*s  %12s  %14s  %9s  %14s\n", m->name, wide[0],
              "layer", wide[1], "kind", wide[2], "output", "parameters", "MACs/sample", "field",
              "bytes");
    const Routine *last = NULL;
    for (size_t i = 0; i < s->rows.len; i++) {
        const Row *r = &s->rows.data[i];
        if (r->routine != last)
            sb_printf(out, "-- %s %s\n", r->routine->kind == ROUTINE_STEP ? "step" : "infer",
                      r->routine->name);
        last = r->routine;
        sb_printf(out, "%-*s  %-*s  %-*s  %12s  %14s  %9s  %14s\n", wide[0], r->path, wide[1],
                  r->kind, wide[2], type_text(a, &r->type), r->params ? grouped(a, r->params) : "-",
                  r->macs ? grouped(a, r->macs) : "-", field_text(a, &r->field),
                  grouped(a, r->bytes));
    }
    sb_putc(out, '\n');
    put_totals(m, s, out);
    for (size_t i = 0; i < m->routines.len; i++) {
        const Routine *r = m->routines.data[i];
        int64_t per_batch, fixed;
        face_work(r, &per_batch, &fixed);
        sb_printf(out, "%s %s: %s MACs per sample",
                  r->kind == ROUTINE_STEP ? "step"
                  : !r->step              ? "infer"
                  : r == r->step->trace   ? "trace"
                                          : "product",
                  r->name, grouped(a, per_batch));
        if (fixed) sb_printf(out, " and %s per call", grouped(a, fixed));
        if (r->plan)
            sb_printf(out, "; working memory %s bytes, lower bound %s",
                      grouped(a, face_arena_bytes(r)),
                      grouped(a, r->plan->bound_bytes + optim_work_bytes(r->minimize)));
        int64_t kept = 0;
        for (size_t k = 0; r->prepare && k < r->prepare->outputs.len; k++)
            kept += type_numel_max(&r->prepare->outputs.data[k].type) * (m->real_is_f64 ? 8 : 4);
        if (kept) sb_printf(out, "; %s bytes kept for it", grouped(a, kept));
        sb_putc(out, '\n');
    }
    if (m->dims.len) {
        sb_puts(out, "\nBytes are those of the output for");
        for (size_t i = 0; i < m->dims.len; i++)
            sb_printf(out, "%s %s = %lld", i ? "," : "", m->dims.data[i]->name,
                      (ll)m->dims.data[i]->hi);
        sb_puts(out, ".\n");
    }
}
