/* SPDX-License-Identifier: MIT
 *
 * What a step trains and how: `minimize LOSS over PATHS using OPTIMIZER(...)`, and the penalties l1 and l2.
 */
#include "front/lower.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- paths ---- */

const char *path_text(Frame *f, const Path *p)
{
    StrBuf sb;
    sb_init(&sb, f->lw->a);
    sb_puts(&sb, p->head.text);
    for (size_t i = 0; i < p->steps.len; i++) {
        const PathStep *step = &p->steps.data[i];
        if (step->field) {
            sb_printf(&sb, ".%s", step->field);
            continue;
        }
        Value v = eval(f, step->index);
        int64_t k;
        if (!to_int(f, &v, "index", &k)) return NULL;
        sb_printf(&sb, "[%" PRId64 "]", k);
    }
    return sb.text;
}

static bool path_covers(const char *prefix, const char *path)
{
    const size_t n = strlen(prefix);
    return strncmp(prefix, path, n) == 0 && (path[n] == '\0' || path[n] == '.' || path[n] == '[');
}

/* Every tensor and every instance that holds one, for `did you mean`. */
static void unknown_path(Frame *f, const Path *p, const char *text)
{
    Lower *lw = f->lw;
    VEC(const char *) known = { 0 };
    for (size_t i = 0; i < lw->info_list.len; i++) {
        const char *path = lw->info_list.data[i]->tensor->path;
        for (size_t n = 1; path[n - 1]; n++)
            if (path[n] == '.' || path[n] == '[' || path[n] == '\0')
                vec_push(lw->a, &known, arena_strndup(lw->a, path, n));
    }
    for (size_t i = 0; i < lw->layers.len; i++) vec_push(lw->a, &known, lw->layers.data[i]->name);
    Diagnostic *m = report(f, p->span, "path-unknown", "no parameter has the path %s", text);
    suggest(m, text, known.data, known.len);
}

/* ---- penalties ---- */

Value eval_penalty(Frame *f, const Expr *call, bool squared)
{
    Lower *lw = f->lw;
    if (f->block || !lw->r || lw->r->kind != ROUTINE_STEP) {
        report(f, call->span, "penalty-step", "%s(...) over parameters belongs in a step",
               call->path->head.text);
        return v_error();
    }
    if (call->args.len == 0) {
        Diagnostic *m = report(f, call->span, "argument-missing",
                               "%s needs the paths of parameters", call->path->head.text);
        diag_hint(m, "for example %s(net)", call->path->head.text);
        return v_error();
    }
    Node *sum = NULL;
    for (size_t i = 0; i < call->args.len; i++) {
        const Arg *arg = &call->args.data[i];
        if (arg->name.text || arg->value->kind != EX_PATH) {
            report(f, arg->value->span, "path",
                   "expected the path of parameters, such as net.fc1.weight");
            return v_error();
        }
        const char *text = path_text(f, arg->value->path);
        if (!text) return v_error();
        bool any = false;
        for (size_t k = 0; k < lw->info_list.len; k++) {
            TensorInfo *info = lw->info_list.data[k];
            if (info->tensor->kind != TENSOR_PARAM || !path_covers(text, info->tensor->path))
                continue;
            any = true;
            Value w = param_value(f, info, arg->value->span);
            Node *term = apply(f, squared ? "square" : "abs", 1, &w.node, call->span);
            term = apply(f, "sum", 1, &term, call->span);
            if (!term) return v_error();
            sum = sum ? apply(f, "add", 2, (Node *[]){ sum, term }, call->span) : term;
        }
        if (!any) {
            if (map_get(lw->members, text)) {
                Diagnostic *m =
                    report(f, arg->value->span, "path-unknown", "%s has no parameters yet", text);
                diag_hint(m, "call %s before its penalty", text);
            } else {
                unknown_path(f, arg->value->path, text);
            }
            return v_error();
        }
    }
    return v_node(sum, call->span);
}

/* ---- optimizers ---- */

static const OptimDesc *find_optim(Frame *f, const Path *p)
{
    VEC(const char *) known = { 0 };
    for (size_t i = 0; i < optim_table_len; i++) {
        if (p->steps.len == 0 && strcmp(optim_table[i]->name, p->head.text) == 0)
            return optim_table[i];
        vec_push(f->lw->a, &known, optim_table[i]->name);
    }
    Diagnostic *m = report(f, p->span, "optimizer-unknown", "unknown optimizer '%s'", p->head.text);
    for (size_t i = 0; i < optim_table_len; i++)
        if (is_torch_name(p->head.text, optim_table[i]->torch)) {
            suggest_torch(m, optim_table[i]->torch, optim_table[i]->name);
            return NULL;
        }
    suggest_all(f->lw->a, m, p->head.text, known.data, known.len);
    return NULL;
}

static const ScheduleDesc *find_schedule(const char *name)
{
    for (size_t i = 0; i < schedule_table_len; i++)
        if (strcmp(schedule_table[i]->name, name) == 0) return schedule_table[i];
    return NULL;
}

static bool check_range(Frame *f, const OptimArg *arg, double x, Span span)
{
    if (isfinite(x) && x >= arg->min && x <= arg->max) return true;
    report(f, span, "optimizer-range", "%s must be %s, found %g", arg->name,
           range_text(f->lw, arg->min, arg->max), x);
    return false;
}

static Hyper *new_hyper(Lower *lw, const char *step, const char *scalar, double value, Span span)
{
    Hyper *h = ARENA_NEW(lw->a, Hyper);
    h->name = arena_printf(lw->a, "%s_%s", step, scalar);
    h->path = arena_printf(lw->a, "%s.%s", step, scalar);
    h->value = value;
    h->span = span;
    h->index = (int)lw->m->hypers.len;
    vec_push(lw->a, &lw->m->hypers, h);
    return h;
}

/* A number makes a scalar of the step's own; a hyper of the model is used as it is. */
static bool set_scalar(Frame *f, const OptimArg *arg, struct OptimScalar *s, Expr *e)
{
    Lower *lw = f->lw;
    Value v = eval(f, e);
    if (s->hyper) { /* a hyper of the model that gets its value and schedule */
        return to_float(f, &v, arg->name, &s->hyper->value) &&
               check_range(f, arg, s->hyper->value, e->span);
    }
    if (v.kind == V_HYPER && optim_arg_is_fixed(arg)) {
        Diagnostic *m = report(f, e->span, "type", "%s: expected %s, not a hyper", arg->name,
                               arg->is_flag ? "true or false" : "a number");
        diag_hint(m, arg->is_flag ? "it is fixed at compile time"
                                  : "it decides how much memory an object takes");
        return false;
    }
    if (v.kind == V_HYPER) {
        map_set(lw->used_hypers, v.hyper->path, v.hyper);
        if (v.hyper->schedule || v.hyper->warmup != 0) {
            if (s->schedule || s->warmup != 0) {
                Diagnostic *m = report(f, e->span, "schedule-twice", "%s has a schedule already",
                                       v.hyper->path);
                diag_note(m, v.hyper->span, "declared here");
                return false;
            }
            s->schedule = v.hyper->schedule;
            memcpy(s->schedule_args, v.hyper->schedule_args, sizeof s->schedule_args);
            s->warmup = v.hyper->warmup;
        }
        s->hyper = v.hyper;
        return check_range(f, arg, v.hyper->value, e->span);
    }
    if (v.kind == V_TENSOR) {
        Diagnostic *m =
            report(f, e->span, "type", "%s: expected a number, a hyper or a schedule", arg->name);
        diag_hint(m, "a computed value cannot drive the optimizer");
        return false;
    }
    double x = 0;
    if (arg->is_flag) {
        bool on = false;
        if (!to_bool(f, &v, arg->name, &on)) return false;
        x = on;
    } else if (arg->is_count) {
        int64_t n = 0;
        if (!to_int(f, &v, arg->name, &n) || !check_range(f, arg, (double)n, e->span)) return false;
        x = (double)n;
    } else if (!to_float(f, &v, arg->name, &x) || !check_range(f, arg, x, e->span)) {
        return false;
    }
    if (optim_arg_is_fixed(arg))
        s->fixed = x;
    else
        s->hyper = new_hyper(lw, lw->r->name, arg->name, x, e->span);
    return true;
}

static bool schedule_number(Frame *f, Expr *e, const char *what, double min, double *out)
{
    Value v = eval(f, e);
    if (!to_float(f, &v, what, out)) return false;
    if (isfinite(*out) && *out >= min) return true;
    report(f, e->span, "schedule-range", "%s must be at least %g, found %g", what, min, *out);
    return false;
}

static bool set_scheduled(Frame *f, const OptimArg *arg, struct OptimScalar *s, Expr *e);

/* warmup(steps, inner) */
static bool set_warmup(Frame *f, const OptimArg *arg, struct OptimScalar *s, Expr *e)
{
    if (e->args.len != 2 || e->args.data[0].name.text || e->args.data[1].name.text) {
        Diagnostic *m = report(f, e->span, "argument-count",
                               "warmup takes a number of steps and a value or schedule");
        diag_hint(m, "for example warmup(500, cosine(0.1, steps = 10000))");
        return false;
    }
    if (s->warmup != 0) {
        report(f, e->span, "argument-twice", "warmup is given twice");
        return false;
    }
    return schedule_number(f, e->args.data[0].value, "warmup", 0, &s->warmup) &&
           set_scheduled(f, arg, s, e->args.data[1].value);
}

static bool set_schedule_arg(Frame *f, struct OptimScalar *s, const Arg *arg, size_t position,
                             bool given[8])
{
    const ScheduleDesc *d = s->schedule;
    size_t k = position;
    if (arg->name.text)
        for (k = 0; k < 8 && d->args && d->args[k].name; k++)
            if (strcmp(d->args[k].name, arg->name.text) == 0) break;
    if (k < 8 && d->args && d->args[k].name) {
        if (given[k]) {
            report(f, arg->value->span, "argument-twice", "%s is given twice", d->args[k].name);
            return false;
        }
        given[k] = true;
        double x = 0;
        Value v = eval(f, arg->value);
        if (d->args[k].is_flag && v.kind == V_BOOL) v = v_int(v.i != 0, v.span);
        if (!to_float(f, &v, d->args[k].name, &x) ||
            !check_range(f, &d->args[k], x, arg->value->span))
            return false;
        s->schedule_args[k] = x;
        return true;
    }
    if (arg->name.text && strcmp(arg->name.text, "warmup") == 0) {
        if (s->warmup != 0) {
            report(f, arg->name.span, "argument-twice", "warmup is given twice");
            return false;
        }
        return schedule_number(f, arg->value, "warmup", 0, &s->warmup);
    }
    if (!arg->name.text) {
        report(f, arg->value->span, "argument-count", "%s: too many arguments", d->name);
        return false;
    }
    const char *known[9];
    size_t n = 0;
    for (; n < 8 && d->args && d->args[n].name; n++) known[n] = d->args[n].name;
    known[n++] = "warmup";
    Diagnostic *m = report(f, arg->name.span, "argument-unknown", "%s has no argument '%s'",
                           d->name, arg->name.text);
    suggest_all(f->lw->a, m, arg->name.text, known, n);
    return false;
}

static bool set_schedule(Frame *f, const OptimArg *arg, struct OptimScalar *s, Expr *e,
                         const ScheduleDesc *d)
{
    if (e->args.len == 0 || e->args.data[0].name.text) {
        Diagnostic *m = report(f, e->span, "argument-missing",
                               "%s needs the base value as its first argument", d->name);
        diag_hint(m, "for example %s = %s(0.1, ...)", arg->name, d->name);
        return false;
    }
    s->schedule = d;
    bool given[8] = { false };
    for (size_t i = 1; i < e->args.len; i++)
        if (!set_schedule_arg(f, s, &e->args.data[i], i - 1, given)) return false;
    for (size_t k = 0; k < 8 && d->args && d->args[k].name; k++) {
        if (given[k]) continue;
        if (isnan(d->args[k].def)) {
            report(f, e->span, "argument-missing", "%s needs its argument '%s'", d->name,
                   d->args[k].name);
            return false;
        }
        s->schedule_args[k] = d->args[k].def;
    }
    return set_scalar(f, arg, s, e->args.data[0].value);
}

static bool set_scheduled(Frame *f, const OptimArg *arg, struct OptimScalar *s, Expr *e)
{
    if (e->kind != EX_CALL || e->path->steps.len) return set_scalar(f, arg, s, e);
    const char *name = e->path->head.text;
    const ScheduleDesc *d = find_schedule(name);
    const bool warmup = strcmp(name, "warmup") == 0;
    if (!d && !warmup) {
        bool is_user = false;
        if (find_block(f->lw, name, &is_user) || op_find(name) || strcmp(name, "min") == 0 ||
            strcmp(name, "max") == 0)
            return set_scalar(f, arg, s, e);
        VEC(const char *) known = { 0 };
        for (size_t i = 0; i < schedule_table_len; i++)
            vec_push(f->lw->a, &known, schedule_table[i]->name);
        vec_push(f->lw->a, &known, "warmup");
        Diagnostic *m = report(f, e->path->span, "schedule-unknown", "unknown schedule '%s'", name);
        for (size_t i = 0; i < schedule_table_len; i++)
            if (is_torch_name(name, schedule_table[i]->torch)) {
                suggest_torch(m, schedule_table[i]->torch, schedule_table[i]->name);
                return false;
            }
        suggest_all(f->lw->a, m, name, known.data, known.len);
        return false;
    }
    if (arg->is_flag) {
        report(f, e->span, "schedule-flag", "%s is true or false and takes no schedule", arg->name);
        return false;
    }
    if (arg->is_count) {
        report(f, e->span, "schedule-flag", "%s is a fixed number and takes no schedule",
               arg->name);
        return false;
    }
    return warmup ? set_warmup(f, arg, s, e) : set_schedule(f, arg, s, e, d);
}

bool set_hyper(Frame *f, Hyper *h, Expr *e)
{
    const OptimArg arg = { .name = h->name, .min = -1e300, .max = 1e300 };
    struct OptimScalar s = { .hyper = h };
    if (!set_scheduled(f, &arg, &s, e)) return false;
    h->schedule = s.schedule;
    memcpy(h->schedule_args, s.schedule_args, sizeof h->schedule_args);
    h->warmup = s.warmup;
    return true;
}

/* The options of optim_options, in its order. */
enum { CLIP_NORM, CLIP_VALUE, EMA, IN_BACKWARD, N_COMMON };

static bool set_common(Frame *f, Minimize *min, const Arg *arg, size_t option)
{
    double *const to[N_COMMON] = { [CLIP_NORM] = &min->clip_norm, [CLIP_VALUE] = &min->clip_value, [EMA] = &min->ema };
    const bool bounded = optim_options[option].max < INFINITY;
    const double below = bounded ? 1 : INFINITY;
    double x;
    Value v = eval(f, arg->value);
    if (option == IN_BACKWARD) return to_bool(f, &v, arg->name.text, &min->in_backward);
    if (!to_float(f, &v, arg->name.text, &x)) return false;
    *to[option] = x;
    if (x > 0 && x < below) return true;
    report(f, arg->value->span, "optimizer-range", "%s must be greater than 0%s, found %g",
           arg->name.text, bounded ? " and below 1" : "", x);
    return false;
}

static bool set_option(Frame *f, Minimize *min, const Arg *arg, size_t position, Span *given)
{
    const OptimArg *scalars = min->optim->scalars;
    size_t n = 0, k = position;
    while (scalars && scalars[n].name) n++;
    if (arg->name.text)
        for (k = 0; k < n; k++)
            if (strcmp(scalars[k].name, arg->name.text) == 0) break;
    size_t common = 0;
    while (common < N_COMMON &&
           !(arg->name.text && strcmp(arg->name.text, optim_options[common].name) == 0))
        common++;
    const size_t slot = common < N_COMMON ? n + common : k;
    if (k >= n && common == N_COMMON) {
        if (!arg->name.text) {
            report(f, arg->value->span, "argument-count", "%s: too many arguments",
                   min->optim->name);
            return false;
        }
        VEC(const char *) known = { 0 };
        for (size_t i = 0; i < n; i++) vec_push(f->lw->a, &known, scalars[i].name);
        for (size_t i = 0; i < N_COMMON; i++) vec_push(f->lw->a, &known, optim_options[i].name);
        Diagnostic *m = report(f, arg->name.span, "argument-unknown", "%s has no option '%s'",
                               min->optim->name, arg->name.text);
        suggest_all(f->lw->a, m, arg->name.text, known.data, known.len);
        return false;
    }
    const Span here = arg->name.text ? arg->name.span : arg->value->span;
    if (min->optim->driver && slot >= n && common != EMA) {
        Diagnostic *m = report(f, here, "optimizer-option", "%s does not go with %s",
                               arg->name.text, min->optim->name);
        diag_hint(m, common == IN_BACKWARD ? "its line search needs all gradients before a weight changes"
                                           : "its line search needs the loss and its gradient as they are");
        return false;
    }
    if (given[slot].source) {
        Diagnostic *m = report(f, here, "argument-twice", "%s is given twice",
                               arg->name.text ? arg->name.text : scalars[k].name);
        diag_also(m, given[slot]);
        return false;
    }
    given[slot] = here;
    if (common < N_COMMON) return set_common(f, min, arg, common);
    return set_scheduled(f, &scalars[k], &min->scalars[k], arg->value);
}

static bool set_optimizer(Frame *f, Minimize *min, Expr *e)
{
    Lower *lw = f->lw;
    if (e->label.text) report(f, e->label.span, "label-layer", "an optimizer has no label");
    min->optim = find_optim(f, e->path);
    if (!min->optim) return false;
    const OptimArg *scalars = min->optim->scalars;
    size_t n = 0;
    while (scalars && scalars[n].name) n++;
    min->scalars = arena_alloc_array(lw->a, n + 1, sizeof *min->scalars);
    Span *given = ARENA_ARRAY(lw->a, Span, n + N_COMMON);
    bool ok = true, named = false;
    for (size_t i = 0; i < e->args.len; i++) {
        const Arg *arg = &e->args.data[i];
        if (arg->name.text)
            named = true;
        else if (named) {
            report(f, arg->value->span, "argument-order",
                   "arguments after a named one must be named");
            return false;
        }
        ok &= set_option(f, min, arg, i, given);
    }
    if (min->in_backward && given[n + CLIP_NORM].source) {
        Diagnostic *m = report(f, given[n + IN_BACKWARD], "optimizer-option", "in_backward does not go with clip_norm");
        diag_also(m, given[n + CLIP_NORM]);
        diag_hint(m, "the norm is known when the last gradient is; clip_value looks at one element at a time");
        ok = false;
    }
    for (size_t k = 0; k < n; k++) {
        if (min->scalars[k].hyper || given[k].source) continue;
        if (isnan(scalars[k].def)) {
            report(f, e->span, "argument-missing", "%s needs its option '%s'", min->optim->name,
                   scalars[k].name);
            ok = false;
            continue;
        }
        if (optim_arg_is_fixed(&scalars[k]) || scalars[k].is_asked_for) {
            min->scalars[k].fixed = scalars[k].def;
            continue;
        }
        min->scalars[k].hyper =
            new_hyper(lw, lw->r->name, scalars[k].name, scalars[k].def, e->span);
    }
    return ok;
}

void exec_minimize(Frame *f, const Stmt *s)
{
    Lower *lw = f->lw;
    if (f->block || lw->r->kind != ROUTINE_STEP) {
        report(f, s->span, "minimize-step", "minimize belongs in a step");
        return;
    }
    if (lw->minimize) {
        Diagnostic *m = report(f, s->span, "minimize-twice", "a step has one minimize");
        diag_note(m, lw->minimize->span, "the first one");
        diag_hint(m, "add the losses, or write a second step");
        return;
    }
    lw->minimize = s;
    Value v = eval(f, s->a);
    Node *loss = to_node(f, &v, NULL);
    if (loss && loss->type.rank != 0) {
        Diagnostic *m =
            report(f, s->a->span, "loss-shape", "the loss must be a single number, it is %s",
                   type_text(lw->a, &loss->type));
        diag_hint(m, "mean(...) or sum(...) makes one of it");
        loss = NULL;
    } else if (loss && loss->type.dtype != DT_F32) {
        report(f, s->a->span, "loss-type", "the loss must be f32, it is %s",
               type_text(lw->a, &loss->type));
        loss = NULL;
    }
    Minimize *min = ARENA_NEW(lw->a, Minimize);
    min->span = s->span;
    min->loss = loss;
    if (!set_optimizer(f, min, s->optimizer)) return;
    lw->r->minimize = min;
    if (!loss) return;
    if (!op_has(loss, OPF_SOURCE) && strcmp(loss->name, loss->op->name) == 0) loss->name = "loss";
    lw->r->outputs.data[0].type = loss->type;
    lw->r->outputs.data[0].span = s->span;
    lw->b.span = s->span;
    lw->b.inst = NULL;
    lw->b.name = "loss";
    mk1(&lw->b, &op_report, &(IndexAttrs){ 0 }, loss);
}

/* ---- what is trained ---- */

/* Without `over`: the parameters from which a differentiable path leads to the loss. */
static bool *loss_depends(Lower *lw, const Routine *r, const Node *loss)
{
    bool *on = ARENA_ARRAY(lw->a, bool, r->nodes.len);
    bool *tensor = ARENA_ARRAY(lw->a, bool, lw->m->tensors.len);
    if (loss->id >= 0 && (size_t)loss->id < r->nodes.len) on[loss->id] = true;
    for (size_t i = r->nodes.len; i-- > 0;) {
        const Node *n = r->nodes.data[i];
        if (!on[i]) continue;
        if (op_is(n, &op_param)) tensor[((const IndexAttrs *)n->attrs)->index] = true;
        if (op_is(n, &op_stop_grad) || op_has(n, OPF_ROOT)) continue;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] && (n->op->grad || op_is(n, &op_result) || op_is(n, &op_scan)) &&
                n->in[k]->type.dtype == DT_F32)
                on[n->in[k]->id] = true;
    }
    return tensor;
}

static void mark_over(Lower *lw, TensorInfo *info, double scale)
{
    info->in_over = true;
    vec_push(lw->a, &lw->r->minimize->over, info->tensor);
    vec_push(lw->a, &lw->r->minimize->over_scale, scale);
}

/* What the paths of `over` say of one tensor: the longest that covers it decides. */
typedef struct Wanted {
    size_t length;
    double scale;
} Wanted;

static bool over_scale(Frame *f, Expr *e, double *scale)
{
    *scale = 1;
    if (!e) return true;
    Value v = eval(f, e);
    if (!to_float(f, &v, "the factor of the learning rate", scale)) return false;
    if (*scale > 0 && isfinite(*scale)) return true;
    Diagnostic *m =
        report(f, e->span, "over-scale",
               "the factor of the learning rate must be greater than 0, found %g", *scale);
    if (*scale == 0) diag_hint(m, "what `over` does not name stays as it is");
    return false;
}

static bool cover_path(Frame *f, const Path *p, Expr *factor, Wanted *wanted)
{
    Lower *lw = f->lw;
    double scale;
    const char *text = path_text(f, p);
    if (!text || !over_scale(f, factor, &scale)) return false;
    bool any = false, known = false;
    for (size_t i = 0; i < lw->info_list.len; i++) {
        const TensorInfo *info = lw->info_list.data[i];
        if (!path_covers(text, info->tensor->path)) continue;
        if (info->tensor->kind != TENSOR_PARAM) continue;
        known = true;
        if (!map_get(lw->touched, info->tensor->path)) continue;
        any = true;
        if (strlen(text) >= wanted[i].length) wanted[i] = (Wanted){ strlen(text), scale };
    }
    if (any) return true;
    if (known || map_get(lw->members, text))
        report(f, p->span, "over-unused",
               "the loss of step %s does not depend on any parameter of %s", lw->r->name, text);
    else
        unknown_path(f, p, text);
    return false;
}

void finish_minimize(Frame *f)
{
    Lower *lw = f->lw;
    Routine *r = lw->r;
    const Stmt *s = lw->minimize;
    if (!s) {
        Diagnostic *m =
            report(f, r->span, "minimize-missing", "step %s minimizes nothing", r->name);
        diag_hint(m, "add minimize LOSS over NET using OPTIMIZER(...); or make it an infer");
        return;
    }
    if (!r->minimize || !r->minimize->loss) return;
    Wanted *wanted = ARENA_ARRAY(lw->a, Wanted, lw->info_list.len);
    for (size_t i = 0; i < s->over.len; i++)
        if (!cover_path(f, s->over.data[i], s->over_scale.data[i], wanted)) return;
    for (size_t i = 0; i < s->over.len; i++)
        if (r->minimize->optim->driver && s->over_scale.data[i])
            report(f, s->over_scale.data[i]->span, "over-scale",
                   "%s has one learning rate for all parameters", r->minimize->optim->name);
    const bool *depends = loss_depends(lw, r, r->minimize->loss);
    for (size_t i = 0; i < lw->info_list.len; i++) {
        TensorInfo *info = lw->info_list.data[i];
        const bool all =
            s->over.len == 0 && info->tensor->kind == TENSOR_PARAM && depends[info->tensor->index];
        if (wanted[i].length || all) mark_over(lw, info, wanted[i].length ? wanted[i].scale : 1);
    }
    if (r->minimize->over.len == 0)
        report(f, s->span, "over-empty", "the loss of step %s depends on no parameter", r->name);
    const OptimDesc *optim = r->minimize->optim;
    const int64_t n = optim_columns(r->minimize);
    if (optim->max_params && n > optim->max_params) {
        Diagnostic *m = report(f, s->span, "optimizer-size",
                               "%s is for at most %" PRId64 " parameters, step %s trains %" PRId64,
                               optim->name, optim->max_params, r->name, n);
        diag_hint(m, "its matrix would have as many rows and columns; lbfgs takes any number");
    }
}

bool state_is_stored(Lower *lw, const StateVar *s)
{
    if (!s->assigned) return false;
    if (!s->in_block || lw->r->kind != ROUTINE_STEP || !lw->minimize || lw->minimize->over.len == 0)
        return true;
    Frame *f = frame_new(lw, NULL);
    for (size_t i = 0; i < lw->minimize->over.len; i++) {
        const char *text = path_text(f, lw->minimize->over.data[i]);
        if (text && path_covers(text, s->owner)) return true;
    }
    return false;
}

/* One warning for all untrained parameters of a layer. */
void warn_untrained(Lower *lw)
{
    typedef struct Group {
        const char *layer;
        Span span;
        int n;
        StrBuf names;
    } Group;
    VEC(Group *) groups = { 0 };
    StrMap *by_layer = map_new(lw->a);
    bool any_step = false;
    for (size_t i = 0; i < lw->m->routines.len; i++)
        any_step |= lw->m->routines.data[i]->kind == ROUTINE_STEP;
    for (size_t i = 0; any_step && i < lw->info_list.len; i++) {
        const TensorInfo *info = lw->info_list.data[i];
        if (info->in_over || info->tensor->kind != TENSOR_PARAM) continue;
        Group *g = map_get(by_layer, info->layer);
        if (!g) {
            g = ARENA_NEW(lw->a, Group);
            g->layer = info->layer;
            g->span = info->span;
            sb_init(&g->names, lw->a);
            map_set(by_layer, info->layer, g);
            vec_push(lw->a, &groups, g);
        }
        if (++g->n <= 4) sb_printf(&g->names, "%s%s", g->n > 1 ? ", " : "", info->tensor->path);
    }
    for (size_t i = 0; i < groups.len; i++) {
        Group *g = groups.data[i];
        for (size_t k = 0; k < lw->layers.len; k++)
            if (strcmp(lw->layers.data[k]->name, g->layer) == 0) g->span = lw->layers.data[k]->span;
        diag_warning(lw->d, g->span, "untrained", "no step trains %s%s", g->names.text,
                     g->n > 4 ? " and others" : "");
    }
}
