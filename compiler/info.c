/* SPDX-License-Identifier: MIT
 *
 * Lists and explanations, straight from the tables.
 */
#include "info.h"

#include <string.h>

#include "emit/emit.h"
#include "emit/manual.h"
#include "passes/pass.h"

typedef struct Names {
    Arena *arena;
    Words words;
} Names;

static void add(Names *n, const char *word)
{
    vec_push(n->arena, &n->words, word);
}

static int count_types(const char *types)
{
    int n = 1;
    for (const char *p = types; (p = strstr(p, "], ")) != NULL; p += 3) n++;
    return n;
}

/* What tests/ops checks: one sample a line, with the number of results and what a test must know. */
static void print_samples(const StdBlock *blocks, size_t n_blocks, FILE *to)
{
    for (size_t i = 0; i < op_table_len; i++) {
        const OpDesc *op = op_table[i];
        for (const OpSample *s = op->samples; s && s->expr; s++)
            fprintf(to, "%s\t%s\t%s\t%d\t%s%s%s\n", op->name, s->expr, s->type,
                    op->n_results ? op->n_results : 1, op->no_grad ? "nograd " : "",
                    op->flags & OPF_RANDOM ? "random " : "",
                    op->flags & OPF_INTERNAL ? "internal" : "");
    }
    for (size_t i = 0; i < n_blocks; i++) {
        const StdBlock *b = &blocks[i];
        for (size_t k = 0; k < b->n_examples; k++) {
            const int n = count_types(b->examples[k].type);
            const char *end = n > 1 ? strstr(b->examples[k].type, "], ") + 1 : NULL;
            fprintf(to, "%s\t%s\t%.*s\t%d\tblock %s\n", b->name, b->examples[k].expr,
                    end ? (int)(end - b->examples[k].type) : (int)strlen(b->examples[k].type),
                    b->examples[k].type, n, b->list);
        }
    }
}

static void print_list(Arena *a, Diag *d, const char *what, FILE *to)
{
    size_t n_blocks;
    const StdBlock *blocks = front_std_blocks(a, d, &n_blocks);
    if (!strcmp(what, "samples")) {
        print_samples(blocks, n_blocks, to);
        return;
    }
    Words names = manual_names(a, what, blocks, n_blocks);
    for (size_t i = 0; !strcmp(what, "passes") && i < pass_table_len; i++)
        vec_push(a, &names, pass_table[i].name);
    for (size_t i = 0; i < names.len; i++) fprintf(to, "%s\n", names.data[i]);
}

/* One name may be a layer and the operator it is built on: both are explained. */
static bool explain(Arena *a, Diag *d, const char *name, FILE *to)
{
    Names known = { .arena = a };
    StrBuf sb;
    sb_init(&sb, a);
    size_t n_blocks;
    const StdBlock *blocks = front_std_blocks(a, d, &n_blocks);
    bool is_block = false;
    for (size_t i = 0; i < n_blocks; i++) {
        add(&known, blocks[i].name);
        if (strcmp(blocks[i].name, name) != 0) continue;
        manual_block(&blocks[i], &sb);
        is_block = true;
    }
    for (size_t i = 0; i < op_table_len; i++) {
        if (op_table[i]->flags & OPF_INTERNAL) continue;
        add(&known, op_table[i]->name);
        if (!strcmp(op_table[i]->name, name)) manual_op(op_table[i], is_block, &sb);
    }
    for (size_t i = 0; i < optim_table_len; i++) {
        add(&known, optim_table[i]->name);
        if (!strcmp(optim_table[i]->name, name)) manual_optim(optim_table[i], &sb);
    }
    for (size_t i = 0; i < schedule_table_len; i++) {
        add(&known, schedule_table[i]->name);
        if (!strcmp(schedule_table[i]->name, name)) manual_schedule(schedule_table[i], &sb);
    }
    for (size_t i = 0; i < init_table_len; i++) {
        add(&known, init_table[i]->name);
        if (!strcmp(init_table[i]->name, name)) manual_init(init_table[i], &sb);
    }
    for (const OptimArg *o = optim_options; o->name; o++) {
        add(&known, o->name);
        if (!strcmp(o->name, name)) manual_option(o, &sb);
    }
    for (const Topic *t = front_topics; t->name; t++) {
        add(&known, t->name);
        if (!strcmp(t->name, name)) manual_topic(t, &sb);
    }
    if (sb.len) {
        fputs(sb.text, to);
        return true;
    }
    const char *near = str_nearest(name, known.words.data, known.words.len);
    if (near)
        fprintf(stderr, "nnc: nothing is called '%s'; did you mean '%s'?\n", name, near);
    else
        fprintf(stderr, "nnc: nothing is called '%s'\n", name);
    return false;
}

bool info_print(Arena *a, Diag *d, const Options *o, FILE *to, int *exit_code)
{
    if (o->help) {
        options_help(to);
    } else if (o->version) {
        fprintf(to, "nnc %s\n", NNC_VERSION);
    } else if (o->list) {
        print_list(a, d, o->list, to);
    } else if (o->help_op) {
        if (!explain(a, d, o->help_op, to)) {
            *exit_code = EXIT_USAGE;
            return false;
        }
    } else {
        size_t n_blocks;
        const StdBlock *blocks = front_std_blocks(a, d, &n_blocks);
        StrBuf sb;
        sb_init(&sb, a);
        manual_all(blocks, n_blocks, &sb);
        fputs(sb.text, to);
    }
    return true;
}
