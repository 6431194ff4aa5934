/* SPDX-License-Identifier: MIT
 *
 * From files to a Module: declarations, imports, -D, the choice of the model, its members and routines.
 * In: a Source. Out: a Module. Invariant: blocks may be used before they are declared, everything else
 * only after; a fault in one routine does not keep the others from being checked.
 */
#include "front/lower.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "front/parse.h"
#include "front/std.h"

enum { MAX_IMPORT_DEPTH = 64 };

static const char *const builtin_names[] = { "len",  "rank",     "dimof", "given",
                                             "pads", "training", "ops" };
enum { N_BUILTIN_NAMES = sizeof builtin_names / sizeof *builtin_names };

typedef struct Define {
    const char *name;
    Expr *value;
    Span span;
    bool used;
} Define;

typedef struct Compile {
    Lower lw;
    VEC(Define) defines;
    VEC(const Item *) models;
    StrMap *model_names;
    bool same_model; /* two of one name */
    int dummy_exit;
} Compile;

static bool is_builtin(const char *name)
{
    for (size_t i = 0; i < N_BUILTIN_NAMES; i++)
        if (strcmp(builtin_names[i], name) == 0) return true;
    return false;
}

/* ---- the command line's constants ---- */

static void read_defines(Compile *c)
{
    Lower *lw = &c->lw;
    for (size_t i = 0; i < lw->options->n_defines; i++) {
        const char *given = lw->options->defines[i];
        const size_t n = strcspn(given, "=");
        const char *name = arena_strndup(lw->a, given, n);
        const char *value = given[n] ? given + n + 1 : "true";
        if (strlen(given) > MAX_TOKEN_BYTES || n == 0 ||
            strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != n) {
            diag_error(lw->d, (Span){ 0 }, "define", "-D needs NAME=VALUE, found '%.60s'", given);
            continue;
        }
        const char *text = arena_printf(lw->a, "nn 1; const %s = %s;", name, value);
        const Source *s = source_new(lw->a, arena_printf(lw->a, "-D %s", name), text, strlen(text));
        File *f = parse_file(lw->a, lw->d, s);
        if (!f) continue;
        if (f->items.len != 1 || f->items.data[0]->kind != IT_CONST) {
            diag_error(lw->d, (Span){ 0 }, "define", "-D needs NAME=VALUE, found '%.60s'", given);
            continue;
        }
        const Item *item = f->items.data[0];
        vec_push(lw->a, &c->defines, (Define){ name, item->a, item->a->span, false });
    }
}

/* An override has the kind of the value in the file; a whole number may replace a float. */
static Value override(Compile *c, Frame *f, const Name *name, Value v)
{
    for (size_t i = 0; i < c->defines.len; i++) {
        Define *d = &c->defines.data[i];
        if (strcmp(d->name, name->text) != 0) continue;
        d->used = true;
        Value own = eval(f, d->value);
        if (own.kind == V_ERROR || v.kind == V_ERROR) return own;
        if (own.kind == V_INT && v.kind == V_FLOAT) own = v_float((double)own.i, own.span);
        if (own.kind != v.kind) {
            Diagnostic *m =
                report(f, d->span, "define", "-D %s: expected a value like %s, found %s", d->name,
                       v_kind_text(f->lw, &v), v_kind_text(f->lw, &own));
            diag_note(m, name->span, "the constant is declared here");
            return v_error();
        }
        v = own;
    }
    return v;
}

static void check_defines_used(Compile *c)
{
    Lower *lw = &c->lw;
    VEC(const char *) known = { 0 };
    for (size_t i = 0; i < lw->decls.len; i++)
        if (lw->decls.data[i]->item->kind == IT_CONST)
            vec_push(lw->a, &known, lw->decls.data[i]->name.text);
    for (size_t i = 0; i < c->defines.len; i++) {
        const Define *d = &c->defines.data[i];
        if (d->used) continue;
        Diagnostic *m = diag_error(lw->d, (Span){ 0 }, "define",
                                   "-D %s: the program has no constant of this name", d->name);
        suggest(m, d->name, known.data, known.len);
    }
}

/* ---- declarations ---- */

static void declare_const(Compile *c, Decl *d)
{
    Lower *lw = &c->lw;
    Frame *f = frame_new(lw, NULL);
    Value v = eval(f, d->item->a);
    if (v.kind == V_SIZE || v.kind == V_TUPLE || v.kind == V_TENSOR) {
        report(f, d->item->a->span, "const-value",
               "const %s: expected a compile-time value, found %s", d->name.text,
               v_kind_text(lw, &v));
        v = v_error();
    }
    d->value = override(c, f, &d->name, v);
}

static void declare_dim(Compile *c, Decl *d)
{
    Lower *lw = &c->lw;
    Frame *f = frame_new(lw, NULL);
    Value from = eval(f, d->item->a), to = eval(f, d->item->b);
    int64_t lo, hi;
    if (!to_int(f, &from, "lower bound", &lo) || !to_int(f, &to, "upper bound", &hi)) return;
    if (lo < 1) {
        report(f, from.span, "dim-bounds", "a dim starts at 1 or above, found %" PRId64, lo);
    } else if (hi < lo) {
        report(f, span_join(from.span, to.span), "dim-bounds",
               "the upper bound %" PRId64 " is below the lower bound %" PRId64, hi, lo);
    } else if (hi > INT32_MAX) {
        report(f, to.span, "dim-bounds", "a dim is at most %d, found %" PRId64, INT32_MAX, hi);
    } else {
        DimVar *dim = ARENA_NEW(lw->a, DimVar);
        *dim = (DimVar){ .name = d->name.text,
                         .lo = lo,
                         .hi = hi,
                         .index = (int)lw->m->dims.len,
                         .span = d->name.span };
        vec_push(lw->a, &lw->m->dims, dim);
        d->dim = dim;
    }
}

/* Two formals of one name would hide each other. */
static void check_formals(Lower *lw, const FormalVec *v)
{
    for (size_t i = 0; i < v->len; i++) {
        const Name *name = &v->data[i].name;
        if (is_builtin(name->text))
            diag_error(lw->d, name->span, "name-builtin", "%s is built into the language",
                       name->text);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(v->data[k].name.text, name->text) != 0) continue;
            Diagnostic *m =
                diag_error(lw->d, name->span, "name-twice", "%s is declared twice", name->text);
            diag_also(m, v->data[k].name.span);
            break;
        }
    }
}

static Decl *declare(Compile *c, const Item *item, bool is_std, bool is_main)
{
    Lower *lw = &c->lw;
    StrMap *names = is_std ? lw->std : lw->globals;
    Decl *d = ARENA_NEW(lw->a, Decl);
    *d = (Decl){ .item = item, .name = item->name, .is_std = is_std, .is_main = is_main };
    const Decl *before = map_get(names, item->name.text);
    if (before) {
        Diagnostic *m = diag_error(lw->d, item->name.span, "name-twice", "%s is declared twice",
                                   item->name.text);
        diag_note(m, before->name.span, "the first declaration");
        return NULL;
    }
    if (is_builtin(item->name.text)) {
        diag_error(lw->d, item->name.span, "name-builtin", "%s is built into the language",
                   item->name.text);
        return NULL;
    }
    map_set(names, item->name.text, d);
    vec_push(lw->a, &lw->decls, d);
    return d;
}

static void declare_file(Compile *c, const File *file, bool is_std, bool is_main);

/* Imports stay inside the folders the user named: the importing file's own and those given with -I. */
static void import_file(Compile *c, const Item *item)
{
    Lower *lw = &c->lw;
    const char *name = item->name.text;
    const char *from = item->span.source->name;
    if (!*name || *name == '/' || strstr(name, "..") || strchr(name, '\\')) {
        Diagnostic *m = diag_error(lw->d, item->name.span, "import-path",
                                   "an import names a file below a known folder");
        diag_hint(m, "-I DIR adds a folder");
        return;
    }
    const char *slash = strrchr(from, '/');
    const char *path =
        slash ? arena_printf(lw->a, "%.*s/%s", (int)(slash - from), from, name) : name;
    struct stat st;
    bool found = stat(path, &st) == 0;
    for (size_t i = 0; !found && i < lw->options->n_include_dirs; i++) {
        path = arena_printf(lw->a, "%s/%s", lw->options->include_dirs[i], name);
        found = stat(path, &st) == 0;
    }
    if (!found) {
        Diagnostic *m =
            diag_error(lw->d, item->name.span, "import-missing", "cannot find the file %s", name);
        diag_hint(m, "it is looked for beside the importing file and in the folders given with -I");
        *lw->exit_code = 3;
        return;
    }
    if (map_get(lw->imported, path)) return;
    map_set(lw->imported, path, lw);
    if (++lw->import_depth > MAX_IMPORT_DEPTH) {
        diag_error(lw->d, item->span, "import-depth", "imports are nested more than %d deep",
                   MAX_IMPORT_DEPTH);
        return;
    }
    const Source *s = front_read(lw->a, lw->d, path, lw->exit_code);
    const File *file = s ? parse_file(lw->a, lw->d, s) : NULL;
    if (s && lw->files) vec_push(lw->a, lw->files, path);
    if (file) declare_file(c, file, false, false);
    lw->import_depth--;
}

static void declare_file(Compile *c, const File *file, bool is_std, bool is_main)
{
    Lower *lw = &c->lw;
    for (size_t i = 0; i < file->items.len; i++) {
        const Item *item = file->items.data[i];
        Decl *d;
        switch (item->kind) {
        case IT_IMPORT: import_file(c, item); break;
        case IT_CONST:
            d = declare(c, item, is_std, is_main);
            if (d) declare_const(c, d);
            break;
        case IT_DIM:
            d = declare(c, item, is_std, is_main);
            if (d) declare_dim(c, d);
            break;
        case IT_BLOCK:
        case IT_LOSS:
            check_formals(lw, &item->formals);
            ast_number_calls(lw->a, &item->body, item->a);
            declare(c, item, is_std, is_main);
            break;
        case IT_MODEL: {
            const Item *before = map_get(c->model_names, item->name.text);
            if (before) {
                Diagnostic *m = diag_error(lw->d, item->name.span, "name-twice",
                                           "model %s is declared twice", item->name.text);
                diag_note(m, before->name.span, "the first declaration");
                c->same_model = true;
            } else {
                map_set(c->model_names, item->name.text, arena_dup(lw->a, item, sizeof *item));
            }
            if (is_main) vec_push(lw->a, &c->models, item);
            break;
        }
        }
    }
}

static void load_std(Compile *c)
{
    Lower *lw = &c->lw;
    for (const StdFile *file = front_std_files; file->name; file++) {
        Source *s = source_new(lw->a, file->name, file->text, strlen(file->text));
        s->is_std = true;
        const File *parsed = parse_file(lw->a, lw->d, s);
        if (parsed) declare_file(c, parsed, true, false);
    }
}

/* ---- the model's members ---- */

static Binding *add_member(Compile *c, const Stmt *s, Value v)
{
    Lower *lw = &c->lw;
    if (map_get(lw->members, s->name.text)) {
        diag_error(lw->d, s->name.span, "name-twice", "the model already has a member %s",
                   s->name.text);
        return NULL;
    }
    if (is_builtin(s->name.text)) {
        diag_error(lw->d, s->name.span, "name-builtin", "%s is built into the language",
                   s->name.text);
        return NULL;
    }
    Binding *b = ARENA_NEW(lw->a, Binding);
    b->value = v;
    b->fixed = true;
    map_set(lw->members, s->name.text, b);
    return b;
}

static void add_hyper(Compile *c, Frame *f, const Stmt *s)
{
    Lower *lw = &c->lw;
    Hyper *h = ARENA_NEW(lw->a, Hyper);
    *h = (Hyper){ .name = s->name.text, .path = s->name.text, .span = s->name.span };
    if (!set_hyper(f, h, s->a)) {
        add_member(c, s, v_error());
        return;
    }
    h->index = (int)lw->m->hypers.len;
    vec_push(lw->a, &lw->m->hypers, h);
    add_member(c, s, (Value){ .kind = V_HYPER, .hyper = h, .span = s->name.span });
}

static void add_layer(Compile *c, Frame *f, const Stmt *s)
{
    Lower *lw = &c->lw;
    Layer *layer = bind_layer(f, s->name.text, s->a);
    if (!layer) {
        add_member(c, s, v_error());
        return;
    }
    layer->span = s->span;
    if (add_member(c, s, (Value){ .kind = V_LAYER, .layer = layer, .span = s->name.span }))
        vec_push(lw->a, &lw->layers, layer);
}

static void add_members(Compile *c, const Item *model)
{
    Lower *lw = &c->lw;
    Frame *f = frame_new(lw, NULL);
    for (size_t i = 0; i < model->body.len; i++) {
        Stmt *s = model->body.data[i];
        switch (s->kind) {
        case ST_HYPER: add_hyper(c, f, s); break;
        case ST_LAYER: add_layer(c, f, s); break;
        case ST_CONST: {
            Value v = eval(f, s->a);
            add_member(c, s, v);
            break;
        }
        case ST_PARAM:
        case ST_STATE:
            if (add_member(c, s,
                           (Value){ .kind = V_ABSENT, .word = s->name.text, .span = s->name.span }))
                declare_tensor(f, s);
            break;
        default: break;
        }
    }
}

/* ---- routines ---- */

static bool input_type(Frame *f, const Formal *p, TensorType *type)
{
    f->lw->typing = p->name.text;
    const bool ok = eval_type(f, p->type, type);
    f->lw->typing = NULL;
    return ok;
}

/* The C function has a parameter for every dim, input and output: their names must differ. */
static void check_port_name(Lower *lw, const Name *name)
{
    const Decl *d = map_get(lw->globals, name->text);
    if (!d || d->item->kind != IT_DIM) return;
    Diagnostic *m =
        diag_error(lw->d, name->span, "name-twice", "%s is already the name of a dim", name->text);
    diag_note(m, d->name.span, "declared here");
}

static void add_input(Compile *c, Frame *f, const Formal *p)
{
    Lower *lw = &c->lw;
    TensorType type;
    Value v = v_error();
    check_port_name(lw, &p->name);
    if (!p->type || !p->type->shaped || p->optional || p->def) {
        Diagnostic *m =
            report(f, p->name.span, "input-type", "input %s needs a full type", p->name.text);
        diag_hint(m, "for example %s: f32[B, 10]", p->name.text);
    } else if (input_type(f, p, &type)) {
        const Port port = { .name = p->name.text, .type = type, .span = p->name.span };
        vec_push(lw->a, &lw->r->inputs, port);
        lw->b.span = p->name.span;
        lw->b.inst = NULL;
        lw->b.name = p->name.text;
        v = v_node(mk(&lw->b, &op_input, &(IndexAttrs){ (int64_t)lw->r->inputs.len - 1 }, 0, NULL),
                   p->name.span);
    }
    bind(f, p->name.text, v, (Binding){ .formal = p, .used = v.kind == V_ERROR });
}

static void add_output(Compile *c, Frame *f, const Target *t)
{
    Lower *lw = &c->lw;
    Path *path = ARENA_NEW(lw->a, Path);
    path->head = t->name;
    path->span = t->name.span;
    Expr *e = expr_new(lw->a, EX_PATH, t->name.span);
    e->path = path;
    Binding *b = lookup(f, t->name.text);
    if (!b) {
        report(f, t->name.span, "output-missing", "output %s is never assigned", t->name.text);
        return;
    }
    Value v = eval(f, e);
    Node *n = to_node(f, &v, NULL);
    TensorType want;
    if (!n) return;
    if (t->type && eval_type(f, t->type, &want) && !type_equal(&want, &n->type)) {
        report(f, t->type->span, "type-annotation", "%s is annotated %s, but its value is %s",
               t->name.text, type_text(lw->a, &want), type_text(lw->a, &n->type));
        return;
    }
    for (size_t i = 0; i < lw->r->outputs.len; i++) {
        if (strcmp(lw->r->outputs.data[i].name, t->name.text) != 0) continue;
        Diagnostic *m =
            report(f, t->name.span, "name-twice", "output %s is named twice", t->name.text);
        diag_also(m, lw->r->outputs.data[i].span);
        return;
    }
    for (size_t i = 0; i < lw->r->inputs.len; i++) {
        if (strcmp(lw->r->inputs.data[i].name, t->name.text) != 0) continue;
        Diagnostic *m = report(f, t->name.span, "name-twice", "%s is both an input and an output",
                               t->name.text);
        diag_also(m, lw->r->inputs.data[i].span);
        return;
    }
    check_port_name(lw, &t->name);
    const Port port = { .name = t->name.text, .type = n->type, .span = t->name.span };
    vec_push(lw->a, &lw->r->outputs, port);
    lw->b.span = t->name.span;
    lw->b.inst = NULL;
    lw->b.name = t->name.text;
    mk1(&lw->b, &op_output, &(IndexAttrs){ (int64_t)lw->r->outputs.len - 1 }, n);
}

static void store_states(Compile *c)
{
    Lower *lw = &c->lw;
    for (size_t i = 0; i < lw->state_list.len; i++) {
        StateVar *s = lw->state_list.data[i];
        if (s->now.kind != V_TENSOR || !state_is_stored(lw, s)) continue;
        lw->b.span = s->now.span;
        lw->b.inst = NULL;
        lw->b.name = s->tensor->path;
        mk1(&lw->b, &op_assign, &(IndexAttrs){ s->tensor->index }, s->now.node);
    }
}

static void collect_dims(Lower *lw, Routine *r)
{
    bool *used = ARENA_ARRAY(lw->a, bool, lw->m->dims.len);
    for (size_t i = 0; i < r->inputs.len; i++)
        if (r->inputs.data[i].type.batch) used[r->inputs.data[i].type.batch->index] = true;
    for (size_t i = 0; i < r->nodes.len; i++)
        if (r->nodes.data[i]->type.batch) used[r->nodes.data[i]->type.batch->index] = true;
    for (size_t i = 0; i < lw->m->dims.len; i++)
        if (used[i]) vec_push(lw->a, &r->dims, lw->m->dims.data[i]);
}

static void warn_inputs(Lower *lw, Frame *f, const Stmt *s)
{
    for (size_t i = 0; i < s->inputs.len; i++) {
        const Name *name = &s->inputs.data[i].name;
        const Binding *b = map_get(f->names, name->text);
        /* A rebound input was read by its own rebinding, or hidden by another value of that name. */
        if (b && b->formal && !b->used)
            diag_warning(lw->d, name->span, "unused", "input %s is not used", name->text);
    }
}

/* Losses on logits apply softmax or sigmoid themselves; once before them is once too often. */
static void warn_double_activation(Lower *lw)
{
    static const struct {
        const char *loss, *activation;
    } pairs[] = { { "cross_entropy", "softmax" },
                  { "cross_entropy", "log_softmax" },
                  { "bce_with_logits", "sigmoid" } };
    for (size_t i = 0; i < lw->r->nodes.len; i++) {
        const Node *n = lw->r->nodes.data[i];
        for (size_t k = 0; k < sizeof pairs / sizeof *pairs && n->n_in > 0 && n->in[0]; k++) {
            if (strcmp(n->op->name, pairs[k].loss) != 0 ||
                strcmp(n->in[0]->op->name, pairs[k].activation) != 0)
                continue;
            Diagnostic *m = diag_warning(lw->d, n->in[0]->span, "activation-twice",
                                         "%s expects logits and applies %s itself", pairs[k].loss,
                                         k == 2 ? "sigmoid" : "softmax");
            diag_note(m, n->span, "the loss");
        }
    }
}

static void compile_routine(Compile *c, Stmt *s)
{
    Lower *lw = &c->lw;
    Routine *r = ARENA_NEW(lw->a, Routine);
    r->name = s->name.text;
    r->kind = s->kind == ST_INFER ? ROUTINE_INFER : ROUTINE_STEP;
    r->index = (int)lw->m->routines.len;
    r->span = s->span;
    vec_push(lw->a, &lw->m->routines, r);
    lw->r = r;
    lw->r_stmt = s;
    lw->states = map_new(lw->a);
    lw->state_list.len = 0;
    lw->touched = map_new(lw->a);
    lw->minimize = NULL;
    lw->reported.len = 0;
    const int before = diag_errors(lw->d);
    builder_init(&lw->b, lw->m, r);
    Frame *f = frame_new(lw, NULL);
    check_formals(lw, &s->inputs);
    ast_number_calls(lw->a, &s->body, NULL);
    for (size_t i = 0; i < s->inputs.len; i++) add_input(c, f, &s->inputs.data[i]);
    if (r->kind == ROUTINE_STEP) {
        const Port loss = {
            .name = "loss", .type = type_scalar(DT_F32), .span = s->span, .is_metric = true
        };
        vec_push(lw->a, &r->outputs, loss);
    }
    exec_body(f, &s->body);
    if (!lw->stop && !f->returned) {
        for (size_t i = 0; i < s->outputs.len && diag_errors(lw->d) == before; i++)
            add_output(c, f, &s->outputs.data[i]);
        if (r->kind == ROUTINE_STEP) finish_minimize(f);
        store_states(c);
        if (diag_errors(lw->d) == 0) {
            warn_inputs(lw, f, s);
            warn_double_activation(lw);
        }
    }
    collect_dims(lw, r);
    if (diag_errors(lw->d) == before) routine_sweep(lw->m, r);
    lw->r = NULL;
    lw->r_stmt = NULL;
}

static void compile_routines(Compile *c, const Item *model)
{
    Lower *lw = &c->lw;
    StrMap *routines = map_new(lw->a);
    bool any = false;
    for (size_t i = 0; i < model->body.len && !lw->stop; i++) {
        Stmt *s = model->body.data[i];
        if (s->kind != ST_INFER && s->kind != ST_STEP) continue;
        any = true;
        const Stmt *before = map_get(routines, s->name.text);
        if (before || map_get(lw->members, s->name.text)) {
            Diagnostic *m = diag_error(lw->d, s->name.span, "name-twice",
                                       "the model already has a member %s", s->name.text);
            if (before) diag_note(m, before->name.span, "the first declaration");
            continue;
        }
        map_set(routines, s->name.text, s);
        compile_routine(c, s);
    }
    if (!any && diag_errors(lw->d) == 0)
        diag_error(lw->d, model->name.span, "model-empty", "model %s has no infer and no step",
                   model->name.text);
}

/* ---- after all routines ---- */

static void warn_unused(Compile *c)
{
    Lower *lw = &c->lw;
    for (size_t i = 0; i < lw->assigned.len; i++) {
        const Target *t = lw->assigned.data[i];
        if (t->used || t->name.text[0] == '_' || t->name.span.source->is_std) continue;
        diag_warning(lw->d, t->name.span, "unused", "%s is not used", t->name.text);
    }
    for (size_t i = 0; i < lw->layers.len; i++)
        if (!lw->layers.data[i]->called)
            diag_warning(lw->d, lw->layers.data[i]->span, "unused", "layer %s is not used",
                         lw->layers.data[i]->name);
    for (size_t i = 0; i < lw->m->hypers.len; i++) {
        const Hyper *h = lw->m->hypers.data[i];
        if (!strchr(h->path, '.') && !map_get(lw->used_hypers, h->path))
            diag_warning(lw->d, h->span, "unused", "hyper %s is not used", h->name);
    }
}

/* hyper train_lr and the lr of step train would be one field of the C struct. */
static void check_hyper_names(Lower *lw)
{
    StrMap *names = map_new(lw->a);
    for (size_t i = 0; i < lw->m->hypers.len; i++) {
        Hyper *h = lw->m->hypers.data[i];
        const Hyper *before = map_get(names, h->name);
        if (before) {
            Diagnostic *m =
                diag_error(lw->d, h->span, "name-twice", "%s and %s have the same name in C: %s",
                           before->path, h->path, h->name);
            diag_note(m, before->span, "%s comes from here", before->path);
        }
        map_set(names, h->name, h);
    }
}

static uint64_t hash_text(uint64_t h, const char *s)
{
    for (; *s; s++) h = (h ^ (unsigned char)*s) * UINT64_C(1099511628211);
    return (h ^ 0xff) * UINT64_C(1099511628211);
}

static uint64_t hash_module(Lower *lw)
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < lw->m->tensors.len; i++) {
        h = hash_text(h, lw->m->tensors.data[i]->path);
        h = hash_text(h, type_text(lw->a, &lw->m->tensors.data[i]->type));
    }
    return h;
}

static const Item *choose_model(Compile *c, const Source *main)
{
    Lower *lw = &c->lw;
    const char *want = lw->options->model;
    if (c->models.len == 0) {
        diag_error(lw->d, (Span){ main, 0, 0 }, "model-missing",
                   "no network is defined: the file has no model");
        return NULL;
    }
    StrBuf sb;
    sb_init(&sb, lw->a);
    VEC(const char *) known = { 0 };
    for (size_t i = 0; i < c->models.len; i++) {
        const char *name = c->models.data[i]->name.text;
        if (want && strcmp(name, want) == 0) return c->models.data[i];
        if (i < 8) sb_printf(&sb, "%s%s", i ? ", " : "", name);
        vec_push(lw->a, &known, name);
    }
    if (c->models.len > 8) sb_printf(&sb, " and %zu others", c->models.len - 8);
    if (want) {
        Diagnostic *m = diag_error(lw->d, (Span){ 0 }, "model-missing",
                                   "there is no model %s; the file has %s", want, sb.text);
        suggest(m, want, known.data, known.len);
        return NULL;
    }
    if (c->models.len == 1) return c->models.data[0];
    Diagnostic *m = diag_error(lw->d, c->models.data[1]->name.span, "model-choice",
                               "the file has several models: %s", sb.text);
    diag_hint(m, "choose one with --model=NAME");
    return NULL;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void init_compile(Compile *c, Arena *a, Diag *d, const FrontOptions *options,
                         FrontFiles *files, int *exit_code)
{
    static const FrontOptions none = { 0 };
    Lower *lw = &c->lw;
    lw->a = a;
    lw->d = d;
    lw->options = options ? options : &none;
    lw->files = files;
    lw->exit_code = exit_code ? exit_code : &c->dummy_exit;
    lw->globals = map_new(a);
    lw->std = map_new(a);
    lw->imported = map_new(a);
    lw->infos = map_new(a);
    lw->used_hypers = map_new(a);
    lw->states = map_new(a);
    lw->touched = map_new(a);
    lw->m = ARENA_NEW(a, Module);
    lw->m->arena = a;
    lw->m->diag = d;
    lw->b.module = lw->m;
}

Module *front_compile(Arena *a, Diag *d, const Source *main, const FrontOptions *options,
                      FrontFiles *files, int *exit_code)
{
    Compile c = { 0 };
    Lower *lw = &c.lw;
    init_compile(&c, a, d, options, files, exit_code);
    c.model_names = map_new(a);
    if (files) vec_push(a, files, main->name);
    map_set(lw->imported, main->name, lw);
    const File *file = parse_file(a, d, main);
    if (!file) return NULL;
    if (file->items.len == 0) {
        diag_error(d, (Span){ main, 0, 0 }, "model-missing",
                   "no network is defined: the file has no model");
        return NULL;
    }
    load_std(&c);
    read_defines(&c);
    declare_file(&c, file, false, true);
    check_defines_used(&c);
    if (c.same_model) return NULL;
    const Item *model = diag_errors(d) == 0 || c.models.len ? choose_model(&c, main) : NULL;
    if (!model || lw->stop) return NULL;
    lw->m->name = lw->options->prefix ? lw->options->prefix : model->name.text;
    lw->m->source_name = base_name(main->name);
    lw->m->span = model->span;
    lw->members = map_new(a);
    add_members(&c, model);
    compile_routines(&c, model);
    if (diag_errors(d)) return NULL;
    check_hyper_names(lw);
    resolve_default_inits(lw);
    warn_untrained(lw);
    warn_unused(&c);
    lw->m->hash = hash_module(lw);
    return diag_errors(d) ? NULL : lw->m;
}

bool front_dump_ast(Arena *a, Diag *d, const Source *main, FILE *to)
{
    const File *file = parse_file(a, d, main);
    if (!file) return false;
    StrBuf sb;
    sb_init(&sb, a);
    ast_dump(&sb, file);
    fwrite(sb.text, 1, sb.len, to);
    return true;
}

/* ---- the standard library as a list ---- */

/* Where the comment lines directly in front of `start` begin. */
static size_t comment_start(const Source *s, size_t start)
{
    size_t from = start;
    while (from > 0) {
        size_t line = from - 1;
        while (line > 0 && s->text[line - 1] != '\n') line--;
        if (s->text[line] != '#') break;
        from = line;
    }
    return from;
}

/* "dense(x: f32[4,3], n = 5) -> f32[4,5]" in two. */
static StdExample read_example(Arena *a, const char *text)
{
    const char *arrow = strstr(text, " -> ");
    if (!arrow) return (StdExample){ .expr = text, .type = "" };
    return (StdExample){ .expr = arena_strndup(a, text, (size_t)(arrow - text)),
                         .type = arrow + 4 };
}

/* The comment in front of a block; its `list:`, `torch:`, `range:` and `example:` lines are taken out. */
static void read_doc(Arena *a, const Source *s, size_t start, StdBlock *b)
{
    VEC(StdExample) examples = { 0 };
    Words ranges = { 0 };
    StrBuf doc;
    sb_init(&doc, a);
    for (size_t at = comment_start(s, start); at < start;) {
        const char *end = memchr(s->text + at, '\n', start - at);
        const size_t n = end ? (size_t)(end - (s->text + at)) : start - at;
        const char *line = arena_strndup(a, s->text + at, n);
        line += strspn(line, "# ");
        if (strncmp(line, "list: ", 6) == 0)
            b->list = line + 6;
        else if (strncmp(line, "torch: ", 7) == 0)
            b->torch = line + 7;
        else if (strncmp(line, "range: ", 7) == 0)
            vec_push(a, &ranges, line + 7);
        else if (strncmp(line, "example: ", 9) == 0)
            vec_push(a, &examples, read_example(a, line + 9));
        else
            sb_printf(&doc, "%s%s", doc.len ? "\n" : "", line);
        at += n + 1;
    }
    b->doc = doc.text;
    b->examples = examples.data;
    b->n_examples = examples.len;
    b->ranges = ranges.data;
    b->n_ranges = ranges.len;
}

StdBlock block_doc(Arena *a, const Decl *d)
{
    StdBlock b = { .name = d->name.text };
    read_doc(a, d->item->span.source, d->item->span.start, &b);
    return b;
}

/* "dense(x, n: int)": name and formals on one line. */
static const char *head_text(Arena *a, const char *head)
{
    StrBuf sb;
    sb_init(&sb, a);
    int depth = 0;
    for (; *head; head++) {
        if (*head == ' ' || *head == '\n') {
            if (head[1] != ' ' && head[1] != '\n') sb_putc(&sb, ' ');
            continue;
        }
        sb_putc(&sb, *head);
        depth += (*head == '(') - (*head == ')');
        if (*head == ')' && depth == 0) break;
    }
    return sb.text;
}

const StdBlock *front_std_blocks(Arena *a, Diag *d, size_t *n)
{
    VEC(StdBlock) all = { 0 };
    for (const StdFile *file = front_std_files; file->name; file++) {
        Source *s = source_new(a, file->name, file->text, strlen(file->text));
        s->is_std = true;
        const File *parsed = parse_file(a, d, s);
        for (size_t i = 0; parsed && i < parsed->items.len; i++) {
            const Item *item = parsed->items.data[i];
            if (item->kind != IT_BLOCK && item->kind != IT_LOSS) continue;
            StdBlock b = { .name = item->name.text, .list = "functions" };
            const char *head =
                s->text + item->span.start + strcspn(s->text + item->span.start, " ") + 1;
            b.signature = head_text(a, head);
            const size_t next =
                i + 1 < parsed->items.len ? parsed->items.data[i + 1]->span.start : s->len;
            size_t end = i + 1 < parsed->items.len ? comment_start(s, next) : next;
            while (end > item->span.start && s->text[end - 1] != '}' && s->text[end - 1] != ';')
                end--;
            b.text = arena_strndup(a, s->text + item->span.start, end - item->span.start);
            read_doc(a, s, item->span.start, &b);
            vec_push(a, &all, b);
        }
    }
    *n = all.len;
    return all.data;
}
