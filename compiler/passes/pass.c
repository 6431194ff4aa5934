/* SPDX-License-Identifier: MIT
 *
 * Runs the pass table. In: a module from the front end (or read from .nnir) and options. Out:
 * planned routines, or errors. Between two passes the verifier runs and dumps are written.
 */
#include "passes/pass.h"

#include "ir/scan.h"

#include <stdlib.h>
#include <string.h>

const Pass pass_table[] = {
    { "check", "index bounds of integer inputs, run-time sizes, sizes of tensors", pass_check, true,
      false },
    { "hoist", "what a loop computes row by row from its sequences, once for all steps", pass_hoist,
      false, true },
    { "autodiff", "the backward graph of each step, pruned by `over`", pass_autodiff, false,
      false },
    { "simplify", "algebraic rules, constant folding, common subexpressions, dead code",
      pass_simplify, true, true },
    { "loops", "loops that one kernel runs from the first step to the last", pass_loops, false, true },
    { "fold", "batch norm with fixed statistics worked into the layer before it", pass_fold, false,
      true },
    { "layout", "the order of each value in memory", pass_layout, false, false },
    { "prepare", "what depends on the weights alone, computed once for each state of them", pass_prepare,
      false, true },
    { "fuse", "epilogues and elementwise chains", pass_fuse, true, true },
    { "plan", "threads, barriers, places in the arena", pass_plan, true, false },
};
const size_t pass_table_len = sizeof pass_table / sizeof *pass_table;

const Pass *pass_find(const char *name)
{
    for (size_t i = 0; i < pass_table_len; i++)
        if (strcmp(pass_table[i].name, name) == 0) return &pass_table[i];
    return NULL;
}

/* The next entry of a comma-separated list, NULL at its end. */
static const char *next_word(Arena *a, const char **list)
{
    if (!*list || !**list) return NULL;
    const size_t n = strcspn(*list, ",");
    const char *word = arena_strndup(a, *list, n);
    *list += n + ((*list)[n] == ',');
    return word;
}

static bool has_word(Arena *a, const char *list, const char *word)
{
    for (const char *w; (w = next_word(a, &list));)
        if (strcmp(w, word) == 0) return true;
    return false;
}

static const char *unknown(Arena *a, const char *option, const char *word)
{
    const char *names[sizeof pass_table / sizeof *pass_table];
    for (size_t i = 0; i < pass_table_len; i++) names[i] = pass_table[i].name;
    const char *near = str_nearest(word, names, pass_table_len);
    return near ? arena_printf(a, "%s: unknown pass '%s'; did you mean '%s'?", option, word, near)
                : arena_printf(a, "%s: unknown pass '%s'", option, word);
}

const char *passes_check_options(Arena *a, const PassOptions *o)
{
    const char *list = o->dump;
    for (const char *w; (w = next_word(a, &list));) {
        if (strcmp(w, "all") == 0 || strcmp(w, "changed") == 0 || strcmp(w, "after-front") == 0)
            continue;
        if (strncmp(w, "after-", 6) != 0)
            return arena_printf(a, "--dump-ir: expected after-PASS, all or changed, not '%s'", w);
        if (!pass_find(w + 6)) return unknown(a, "--dump-ir", w + 6);
    }
    if (o->stop_after && !pass_find(o->stop_after))
        return unknown(a, "--stop-after", o->stop_after);
    list = o->off;
    for (const char *w; (w = next_word(a, &list));) {
        if (!pass_find(w)) return unknown(a, "--no-pass", w);
        if (!pass_find(w)->optional)
            return arena_printf(a, "--no-pass: pass '%s' is not optional", w);
    }
    return NULL;
}

/* A dump of the state after `pass`. Returns the text that --dump-ir=changed compares with. */
static const char *dump(const Module *m, const PassOptions *o, const char *pass, const char *before)
{
    Arena *a = m->arena;
    const bool all = has_word(a, o->dump, "all"), changed = has_word(a, o->dump, "changed");
    const bool named = has_word(a, o->dump, arena_printf(a, "after-%s", pass));
    if (!all && !changed && !named) return NULL;
    StrBuf sb;
    sb_init(&sb, a);
    module_print(&sb, m);
    if (all || named || !before || strcmp(before, sb.text) != 0)
        fprintf(o->dump_to, "# after %s\n%s", pass, sb.text);
    return sb.text;
}

static void verify_plans(Module *m, const Routine *r, Faults *faults)
{
    if (r->prepare) verify_plans(m, r->prepare, faults);
    if (!r->plan) return;
    plan_verify(m, r, faults);
    for (size_t i = 0; i < r->nodes.len; i++)
        if (op_is(r->nodes.data[i], &op_scan))
            verify_plans(m, scan_attrs(r->nodes.data[i])->body, faults);
}

/* The dump goes to stderr, so that a fault can be replayed with the text. */
static void verify(Module *m, const char *pass)
{
    Faults faults = { 0 };
    module_verify(m, &faults);
    for (size_t i = 0; !faults.len && i < m->routines.len; i++)
        verify_plans(m, m->routines.data[i], &faults);
    if (!faults.len) return;
    diag_flush(m->diag, stderr);
    fprintf(stderr, "nnc: internal error: after pass %s:\n", pass);
    for (size_t i = 0; i < faults.len && i < 20; i++) {
        const Fault *f = &faults.data[i];
        fprintf(stderr, "  %s%s%s: %s\n", f->routine ? f->routine->name : "module",
                f->node ? " %" : "", f->node ? f->node->name : "", f->text);
    }
    exit(70);
}

/* Bodies first: what a loop costs and where its operands must lie is read off its planned body. */
static bool run_pass(Module *m, const Pass *pass, Routine *r)
{
    bool ok = true;
    for (size_t i = 0; pass->bodies && i < r->nodes.len; i++)
        if (op_is(r->nodes.data[i], &op_scan))
            ok &= run_pass(m, pass, scan_attrs(r->nodes.data[i])->body);
    if (r->prepare) ok &= run_pass(m, pass, r->prepare);
    return ok && pass->run(m, r);
}

PassOutcome passes_run_until(Module *m, const PassOptions *o)
{
    verify(m, "front");
    const char *text = o->dump ? dump(m, o, "front", NULL) : NULL;
    for (size_t i = 0; i < pass_table_len; i++) {
        const Pass *pass = &pass_table[i];
        if (!has_word(m->arena, o->off, pass->name)) {
            bool ok = true;
            for (size_t k = 0; k < m->routines.len; k++)
                ok &= run_pass(m, pass, m->routines.data[k]);
            if (!ok || diag_errors(m->diag)) return PASSES_FAILED;
            verify(m, pass->name);
        }
        if (o->dump) text = dump(m, o, pass->name, text);
        if (o->stop_after && strcmp(o->stop_after, pass->name) == 0) return PASSES_STOPPED;
    }
    return PASSES_DONE;
}

bool passes_run(Module *m, const PassOptions *o)
{
    return passes_run_until(m, o) != PASSES_FAILED;
}

int *routine_count_uses(Arena *a, const Routine *r)
{
    int *uses = ARENA_ARRAY(a, int, r->nodes.len + 1);
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (op_is(n, &op_result)) continue;
        for (int k = 0; k < n->n_in; k++) {
            const Node *x = n->in[k];
            if (x) uses[op_is(x, &op_result) ? x->in[0]->id : x->id]++;
        }
    }
    return uses;
}
