/* SPDX-License-Identifier: MIT
 *
 * The operator manual as Markdown, made from the tables: operators, layers and losses of the standard
 * library, optimizers, schedules, initialisers. What it says about one name is what --help-op prints.
 */
#include "emit/manual.h"

#include <math.h>
#include <string.h>

static void put_real(StrBuf *out, double v)
{
    if (isinf(v))
        sb_puts(out, v > 0 ? "inf" : "-inf");
    else
        sb_real(out, v);
}

static void put_default(StrBuf *out, const AttrDef *d)
{
    if (isnan(d->def)) {
        sb_puts(out, "required");
        return;
    }
    if (d->kind == ATTR_BOOL)
        sb_puts(out, d->def != 0 ? "true" : "false");
    else if (d->kind == ATTR_CHOICE)
        sb_puts(out, d->choices[(int)d->def]);
    else if (d->kind == ATTR_INTS || d->kind == ATTR_SHAPE)
        sb_puts(out, "[]");
    else
        put_real(out, d->def);
}

static const char *kind_name(AttrKind k)
{
    static const char *const name[] = {
        [ATTR_INT] = "int",      [ATTR_INT2] = "int or [int, int]",
        [ATTR_FLOAT] = "float",  [ATTR_BOOL] = "bool",
        [ATTR_CHOICE] = "word",  [ATTR_INTS] = "list of int",
        [ATTR_SHAPE] = "shape",  [ATTR_TYPE] = "type",
        [ATTR_PTR] = "internal",
    };
    return name[k];
}

static bool is_writable(const AttrDef *d)
{
    return d->kind != ATTR_PTR && d->kind != ATTR_TYPE;
}

/* Text between Markdown table bars. */
static void put_cell(StrBuf *out, const char *s)
{
    for (; s && *s; s++) {
        if (*s == '|')
            sb_puts(out, "\\|");
        else
            sb_putc(out, *s == '\n' ? ' ' : *s);
    }
}

/* The names of n results: y, or y1, y2, ...; `loss` of a loss. */
static void put_results(StrBuf *out, int n, const char *name)
{
    for (int i = 0; i < n; i++) {
        sb_printf(out, "%s%s", i ? ", " : "", name);
        if (n > 1) sb_printf(out, "%d", i + 1);
    }
}

static bool is_type(const char *s)
{
    return !strncmp(s, "f32[", 4) || !strncmp(s, "i32[", 4) || !strncmp(s, "bool[", 5) ||
           !strncmp(s, "u8[", 3);
}

/*
 * A sample as a statement to paste, with the operands' types in a comment: "dense(x: f32[4,3], n = 5)" of type
 * "f32[4,5]" is "y = dense(x, n = 5);   # x: f32[4,3] -> f32[4,5]". A sample may name its results: "a, b = f(x)".
 */
static void put_sample(StrBuf *out, const char *expr, const char *type, int n_results,
                       const char *result, const char *prefix)
{
    const size_t to_bracket = strcspn(expr, "(");
    const char *equals = strstr(expr, " = ");
    if (equals && (size_t)(equals - expr) < to_bracket) {
        sb_printf(out, "%.*s", (int)(equals + 3 - expr), expr);
        expr = equals + 3;
    } else {
        put_results(out, n_results, result);
        sb_puts(out, " = ");
    }
    StrBuf types;
    sb_init(&types, out->arena);
    const char *p = expr + strcspn(expr, "(") + 1;
    sb_printf(out, "%s%.*s", prefix, (int)(p - expr), expr);
    while (*p) {
        /* An operand is "name: type", a type holds no blank. */
        const size_t word =
            strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
        if (word && p[word] == ':' && is_type(p + word + 2)) {
            const size_t end = word + strcspn(p + word, "]") + 1;
            sb_printf(&types, "%s%.*s", types.len ? ", " : "", (int)end, p);
            sb_printf(out, "%.*s", (int)word, p);
            p += end;
        } else if (word && p[word] == ':') {
            p += word + 2; /* an operand that is a number */
        } else if (word) {
            sb_printf(out, "%.*s", (int)word, p);
            p += word;
        } else {
            sb_putc(out, *p++);
        }
    }
    sb_printf(out, ";   # %s%s%s\n", types.text, types.len ? " -> " : "", type);
}

void manual_op(const OpDesc *op, bool is_hidden, StrBuf *out)
{
    sb_printf(out, "### %s\n\n`%s(", op->name, op->name);
    int put = 0;
    for (int i = 0; i < OP_MAX_IN && op->in[i]; i++)
        sb_printf(out, "%s%s", put++ ? ", " : "", op->in[i]);
    for (const AttrDef *d = op->attrs; d && d->name; d++) {
        if (!is_writable(d)) continue;
        sb_printf(out, "%s%s", put++ ? ", " : "", d->name);
        if (!isnan(d->def)) {
            sb_puts(out, " = ");
            put_default(out, d);
        }
    }
    sb_printf(out, ")` : %s\n\n", op->summary);
    if (op->doc && *op->doc) sb_printf(out, "%s\n\n", op->doc);
    bool any = false;
    for (const AttrDef *d = op->attrs; d && d->name; d++) {
        if (!is_writable(d)) continue;
        if (!any) sb_puts(out, "| attribute | kind | default | meaning |\n|---|---|---|---|\n");
        any = true;
        sb_printf(out, "| `%s` | %s", d->name, kind_name(d->kind));
        if (d->kind == ATTR_CHOICE) {
            sb_puts(out, ": ");
            for (int i = 0; d->choices[i]; i++)
                sb_printf(out, "%s%s", i ? ", " : "", d->choices[i]);
        } else if (d->min != 0 || d->max != 0) {
            sb_puts(out, " in [");
            put_real(out, d->min);
            sb_puts(out, ", ");
            put_real(out, d->max);
            sb_putc(out, ']');
        }
        sb_puts(out, " | ");
        put_default(out, d);
        sb_puts(out, " | ");
        put_cell(out, d->doc);
        sb_puts(out, " |\n");
    }
    if (any) sb_putc(out, '\n');
    if (op->no_grad) sb_printf(out, "No gradient: %s.\n\n", op->no_grad);
    if (op->gradient) sb_printf(out, "Gradient: %s.\n\n", op->gradient);
    if (op->torch || op->onnx)
        sb_printf(out, "%s%s%s%s%s%s%s.\n\n", op->torch ? "PyTorch: `" : "",
                  op->torch ? op->torch : "", op->torch ? "`" : "",
                  op->torch && op->onnx ? "; " : "", op->onnx ? "ONNX: `" : "",
                  op->onnx ? op->onnx : "", op->onnx ? "`" : "");
    if (op->samples && op->samples[0].expr) {
        sb_puts(out, "```\n");
        for (const OpSample *s = op->samples; s->expr; s++)
            put_sample(out, s->expr, s->type, op->n_results ? op->n_results : 1, "y",
                       is_hidden ? "ops." : "");
        sb_puts(out, "```\n\n");
    }
}

void manual_block(const StdBlock *b, StrBuf *out)
{
    sb_printf(out, "### %s\n\n`%s`\n\n", b->name, b->signature);
    if (b->doc && *b->doc) sb_printf(out, "%s\n\n", b->doc);
    for (size_t i = 0; i < b->n_ranges; i++)
        sb_printf(out, "%s`%s`%s", i ? ", " : "Allowed: ", b->ranges[i], i + 1 == b->n_ranges ? ".\n\n" : "");
    if (b->torch) sb_printf(out, "PyTorch: `%s`.\n\n", b->torch);
    if (b->n_examples) {
        sb_puts(out, "```\n");
        for (size_t i = 0; i < b->n_examples; i++)
            put_sample(out, b->examples[i].expr, b->examples[i].type, 1,
                       strcmp(b->list, "losses") == 0 ? "loss" : "y", "");
        sb_puts(out, "```\n\nIts definition:\n\n");
    }
    if (b->text) {
        const size_t n = strlen(b->text);
        sb_printf(out, "```\n%s%s```\n\n", b->text, n && b->text[n - 1] == '\n' ? "" : "\n");
    }
}

static void put_args(StrBuf *out, const OptimArg *args)
{
    if (!args || !args->name) return;
    sb_puts(out, "| argument | default | range | meaning |\n|---|---|---|---|\n");
    for (; args->name; args++) {
        sb_printf(out, "| `%s` | ", args->name);
        if (isnan(args->def))
            sb_puts(out, "required");
        else if (args->is_flag)
            sb_puts(out, args->def != 0 ? "true" : "false");
        else
            put_real(out, args->def);
        sb_puts(out, " | ");
        if (args->is_flag)
            sb_puts(out, "true, false");
        else if (args->min != 0 || args->max != 0) {
            sb_putc(out, '[');
            put_real(out, args->min);
            sb_puts(out, ", ");
            put_real(out, args->max);
            sb_putc(out, ']');
        }
        sb_puts(out, " | ");
        put_cell(out, args->doc);
        sb_puts(out, " |\n");
    }
    sb_putc(out, '\n');
}

static void put_signature(StrBuf *out, const char *name, const OptimArg *args)
{
    sb_printf(out, "### %s\n\n`%s(", name, name);
    for (int i = 0; args && args[i].name; i++) {
        sb_printf(out, "%s%s", i ? ", " : "", args[i].name);
        if (isnan(args[i].def)) continue;
        sb_puts(out, " = ");
        if (args[i].is_flag)
            sb_puts(out, args[i].def != 0 ? "true" : "false");
        else
            put_real(out, args[i].def);
    }
    sb_puts(out, ")` : ");
}

static void put_doc(StrBuf *out, const char *summary, const char *doc)
{
    sb_printf(out, "%s\n\n", summary);
    if (doc && *doc) sb_printf(out, "%s\n\n", doc);
}

/* The statement in which an optimizer is written; `how` has two strings. */
__attribute__((format(printf, 2, 0))) static void put_minimize(StrBuf *out, const char *how, ...)
{
    va_list ap;
    sb_puts(out, "```\nminimize mse(net(x), t) over net using ");
    va_start(ap, how);
    sb_vprintf(out, how, ap);
    va_end(ap);
    sb_puts(out, ";\n```\n\n");
}

void manual_optim(const OptimDesc *o, StrBuf *out)
{
    put_signature(out, o->name, o->scalars);
    put_doc(out, o->summary, o->doc);
    put_args(out, o->scalars);
    if (o->slots[0]) {
        sb_puts(out, "State per parameter: ");
        for (int i = 0; o->slots[i]; i++) {
            const char *mark = strchr(o->slots[i], '?');
            sb_printf(out, "%s`%.*s`", i ? ", " : "", (int)strcspn(o->slots[i], "?"), o->slots[i]);
            if (mark) sb_printf(out, " (with `%s`)", mark + 1);
        }
        sb_puts(out, ".\n\n");
    }
    if (o->blocks) {
        sb_puts(out, "State for all n trained numbers together: ");
        for (const OptimBlock *b = o->blocks; b->name; b++)
            sb_printf(out, "%s`%s` [%s, n]", b == o->blocks ? "" : ", ", b->name,
                      b->rows ? b->rows : "n");
        sb_puts(out, ".\n\n");
    }
    if (o->driver) {
        sb_printf(out, "Working memory: %d n", o->work_vectors);
        if (o->work_matrices) sb_printf(out, " + %d n^2", o->work_matrices);
        sb_puts(
            out,
            " doubles. It takes no `clip_norm`, `clip_value` or `in_backward`, and the `_apply` half of its step "
            "returns `NN_EINVAL`.\n\n");
    }
    if (o->torch) sb_printf(out, "PyTorch: `%s`.\n\n", o->torch);
    put_minimize(out, "%s(%s)", o->name, o->scalars && isnan(o->scalars[0].def) ? "lr = 0.01" : "");
}

void manual_option(const OptimArg *o, StrBuf *out)
{
    sb_printf(out, "### %s\n\nAn argument of every optimizer of first order. %s\n\n", o->name,
              o->doc);
    put_minimize(out, "sgd(lr = 0.1, %s = %s)", o->name, o->is_flag ? "true" : o->max < INFINITY ? "0.99" : "1.0");
}

void manual_topic(const Topic *t, StrBuf *out)
{
    sb_printf(out, "### %s\n\n`%s` : %s\n\n%s\n\n", t->name, t->signature, t->summary, t->doc);
    if (t->torch) sb_printf(out, "PyTorch: `%s`.\n\n", t->torch);
    if (t->example) sb_printf(out, "```\n%s\n```\n\n", t->example);
}

void manual_schedule(const ScheduleDesc *s, StrBuf *out)
{
    put_signature(out, s->name, s->args);
    put_doc(out, s->summary, s->doc);
    put_args(out, s->args);
    if (s->torch) sb_printf(out, "PyTorch: `%s`.\n\n", s->torch);
    put_minimize(out, "sgd(lr = %s)%s", s->example, "");
}

void manual_init(const InitDesc *d, StrBuf *out)
{
    sb_printf(out, "### %s\n\n`%s(", d->name, d->name);
    for (int i = 0; i < 4 && d->args[i]; i++) {
        sb_printf(out, "%s%s", i ? ", " : "", d->args[i]);
        if (isnan(d->def[i])) continue;
        sb_puts(out, " = ");
        put_real(out, d->def[i]);
    }
    sb_puts(out, ")` : ");
    put_doc(out, d->summary, d->doc);
    if (d->torch) sb_printf(out, "PyTorch: `%s`.\n\n", d->torch);
    sb_printf(out, "```\nlayer net = dense(3, init = %s(", d->name);
    for (int i = 0; i < 4 && d->args[i] && isnan(d->def[i]); i++)
        sb_printf(out, "%s%s", i ? ", " : "", d->args[i][0] == 'a' ? "-0.1" : "0.1");
    sb_puts(out, "));\n```\n\n");
}

static void put_topics(const char *list, StrBuf *out)
{
    for (const Topic *t = front_topics; t->name; t++)
        if (!strcmp(t->list, list)) manual_topic(t, out);
}

static void put_blocks(const StdBlock *blocks, size_t n, const char *list, const char *heading,
                       StrBuf *out)
{
    sb_printf(out, "## %s\n\n", heading);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(blocks[i].list, list)) manual_block(&blocks[i], out);
}

static bool has_block(const StdBlock *blocks, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(blocks[i].name, name)) return true;
    return false;
}

Words manual_names(Arena *a, const char *list, const StdBlock *blocks, size_t n)
{
    Words names = { 0 };
    const bool ops = !strcmp(list, "ops"), active = !strcmp(list, "activations");
    for (size_t i = 0; i < op_table_len; i++) {
        const unsigned flags = op_table[i]->flags;
        if ((ops && !(flags & OPF_INTERNAL)) || (active && (flags & OPF_ACTIVATION)))
            vec_push(a, &names, op_table[i]->name);
    }
    for (size_t i = 0; i < n; i++)
        if (!strcmp(blocks[i].list, list)) vec_push(a, &names, blocks[i].name);
    for (size_t i = 0; !strcmp(list, "optimizers") && i < optim_table_len; i++)
        vec_push(a, &names, optim_table[i]->name);
    for (const OptimArg *o = optim_options; !strcmp(list, "options") && o->name; o++)
        vec_push(a, &names, o->name);
    for (size_t i = 0; !strcmp(list, "schedules") && i < schedule_table_len; i++)
        vec_push(a, &names, schedule_table[i]->name);
    for (size_t i = 0; !strcmp(list, "inits") && i < init_table_len; i++)
        vec_push(a, &names, init_table[i]->name);
    for (const Topic *t = front_topics; t->name; t++)
        if (!strcmp(t->list, list)) vec_push(a, &names, t->name);
    return names;
}

/* Links to all entries. The second heading of a name is linked as "name-1". */
static void put_index(StrBuf *out, const StdBlock *blocks, size_t n)
{
    static const char *const lists[] = { "layers",    "activations", "losses",     "metrics",
                                         "functions", "ops",         "optimizers", "options",
                                         "schedules", "inits" };
    StrMap *seen = map_new(out->arena);
    sb_puts(out, "| `--list=` | |\n|---|---|\n");
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const Words names = manual_names(out->arena, lists[i], blocks, n);
        sb_printf(out, "| %s |", lists[i]);
        for (size_t k = 0; k < names.len; k++) {
            const char *name = names.data[k], *first = map_get(seen, name);
            /* Activations stand among the operators, too: the same entry. */
            const bool second = first && strcmp(first, "activations") != 0;
            sb_printf(out, " [`%s`](#%s%s)", name, name, second ? "-1" : "");
            if (!first) map_set(seen, name, (void *)lists[i]);
        }
        sb_puts(out, " |\n");
    }
    sb_puts(out, "\n");
}

void manual_all(const StdBlock *blocks, size_t n_blocks, StrBuf *out)
{
    sb_puts(
        out,
        "# Operators, layers, losses and optimizers\n\n"
        "Generated by `nnc --manual` from the tables of the compiler and its standard library.\n\n"
        "A bare `NAME(...)` in a program means the first of: a block of the program, a block of the\n"
        "standard library, an operator. `ops.NAME(...)` is always the operator.\n\n"
        "A line of an example is a statement to paste into a block or a step; the comment behind it gives the types\n"
        "of its operands and results. What has parameters belongs into a block, or directly into a model as in\n"
        "`layer net = dense(5);`. The gradient of a block is that of the operators in its definition.\n\n");
    put_index(out, blocks, n_blocks);
    put_blocks(blocks, n_blocks, "layers", "Layers", out);
    put_blocks(blocks, n_blocks, "activations", "Activations", out);
    put_blocks(blocks, n_blocks, "losses", "Losses", out);
    put_topics("losses", out);
    put_blocks(blocks, n_blocks, "metrics", "Metrics", out);
    put_blocks(blocks, n_blocks, "functions", "Functions", out);
    sb_puts(out, "## Operators\n\n");
    for (size_t i = 0; i < op_table_len; i++)
        if (!(op_table[i]->flags & OPF_INTERNAL))
            manual_op(op_table[i], has_block(blocks, n_blocks, op_table[i]->name), out);
    sb_puts(out, "## Optimizers\n\n");
    for (size_t i = 0; i < optim_table_len; i++) manual_optim(optim_table[i], out);
    sb_puts(out, "## Options of training\n\n");
    for (const OptimArg *o = optim_options; o->name; o++) manual_option(o, out);
    put_topics("options", out);
    sb_puts(out, "## Schedules\n\n");
    for (size_t i = 0; i < schedule_table_len; i++) manual_schedule(schedule_table[i], out);
    put_topics("schedules", out);
    sb_puts(out, "## Initialisers\n\n");
    for (size_t i = 0; i < init_table_len; i++) manual_init(init_table[i], out);
}
