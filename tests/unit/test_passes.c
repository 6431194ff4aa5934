/* SPDX-License-Identifier: MIT
 *
 * Random graphs through all passes. Each is written as .nnir, read, differentiated, optimised and
 * planned; the verifier and the plan's checker run after every pass and end the process when one
 * breaks a rule. Plans are then damaged, and the checker has to notice.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "passes/pass.h"
#include "run_suite.h"

enum { GRAPHS = 150, MAX_VALUES = 64 };

typedef struct Value {
    int id, rank;
    int64_t dim[4];
} Value;

typedef struct Writer {
    StrBuf params, body;
    uint32_t random;
    const char *batch; /* "B" or a number */
    Value value[MAX_VALUES];
    int n_values, n_nodes, n_params;
} Writer;

static uint32_t draw(Writer *w, uint32_t n)
{
    w->random = w->random * 1664525u + 1013904223u;
    return (w->random >> 8) % n;
}

static void put_shape(const Writer *w, StrBuf *sb, const Value *v, bool batched)
{
    sb_puts(sb, "f32[");
    for (int i = 0; i < v->rank; i++) {
        if (i) sb_putc(sb, ',');
        if (i == 0 && batched)
            sb_puts(sb, w->batch);
        else
            sb_printf(sb, "%lld", (long long)v->dim[i]);
    }
    sb_putc(sb, ']');
}

static int new_param(Writer *w, Value shape)
{
    sb_printf(&w->params, "param p%d: ", w->n_params);
    put_shape(w, &w->params, &shape, false);
    sb_puts(&w->params, " = zeros();\n");
    sb_printf(&w->body, "  %%v%d = param p%d : ", w->n_nodes, w->n_params++);
    put_shape(w, &w->body, &shape, false);
    sb_puts(&w->body, ";\n");
    return w->n_nodes++;
}

/* `text`: operator, operands and attributes. Adds the value of this batched shape. */
static void add(Writer *w, const char *text, Value shape, const char *more)
{
    sb_printf(&w->body, "  %%v%d = %s : ", w->n_nodes, text);
    put_shape(w, &w->body, &shape, true);
    sb_printf(&w->body, "%s;\n", more);
    shape.id = w->n_nodes++;
    w->value[w->n_values++] = shape;
}

static void add_random_node(Writer *w, Arena *a)
{
    static const char *const unary[] = { "relu", "sigmoid", "tanh",     "exp",
                                         "neg",  "square",  "stop_grad" };
    static const char *const binary[] = { "add", "mul", "sub", "maximum" };
    const Value x =
        w->value[w->n_values - 1 - (int)draw(w, w->n_values < 6 ? (uint32_t)w->n_values : 6)];
    Value y = x;
    const uint32_t kind = draw(w, 10);
    if (x.rank == 4 && kind < 3) {
        y.dim[1] = 1 + 3 * (int64_t)draw(w, 3);
        const int weight = new_param(w, (Value){ .rank = 4, .dim = { y.dim[1], x.dim[1], 3, 3 } });
        add(w, arena_printf(a, "conv2d(%%v%d, %%v%d, -) {pad = [1, 1, 1, 1]}", x.id, weight), y,
            "");
    } else if (x.rank == 4 && kind == 3 && x.dim[2] > 1) {
        y.dim[2] = y.dim[3] = (x.dim[2] + 1) / 2;
        const char *index =
            arena_printf(a, ", u8[%s,%lld,%lld,%lld]", w->batch, (long long)y.dim[1],
                         (long long)y.dim[2], (long long)y.dim[2]);
        add(w, arena_printf(a, "max_pool2d(%%v%d) {k = [2, 2], stride = [2, 2]}", x.id), y, index);
    } else if (x.rank == 4 && kind == 4) {
        y.rank = 2;
        add(w, arena_printf(a, "global_avg_pool(%%v%d)", x.id), y, "");
    } else if (x.rank == 4 && kind == 5) {
        y.rank = 2;
        y.dim[1] = x.dim[1] * x.dim[2] * x.dim[3];
        add(w,
            arena_printf(a, "reshape(%%v%d) {shape = f32[%s,%lld]}", x.id, w->batch,
                         (long long)y.dim[1]),
            y, "");
    } else if (x.rank == 2 && kind < 4) {
        y.dim[1] = 1 + 8 * (int64_t)draw(w, 3);
        const int weight = new_param(w, (Value){ .rank = 2, .dim = { y.dim[1], x.dim[1] } });
        const int bias = new_param(w, (Value){ .rank = 1, .dim = { y.dim[1] } });
        add(w, arena_printf(a, "dense(%%v%d, %%v%d, %%v%d)", x.id, weight, bias), y, "");
    } else if (x.rank == 2 && kind == 4) {
        add(w, arena_printf(a, "softmax(%%v%d)", x.id), y, "");
    } else if (kind == 6) {
        add(w, arena_printf(a, "dropout(%%v%d) {p = 0.5, stream = %d}", x.id, w->n_nodes + 1), y,
            "");
    } else if (kind < 8) {
        int other = x.id;
        for (int i = 0; i < w->n_values; i++)
            if (w->value[i].rank == x.rank && memcmp(w->value[i].dim, x.dim, sizeof x.dim) == 0 &&
                draw(w, 2))
                other = w->value[i].id;
        add(w, arena_printf(a, "%s(%%v%d, %%v%d)", binary[draw(w, 4)], x.id, other), y, "");
    } else {
        add(w, arena_printf(a, "%s(%%v%d)", unary[draw(w, 7)], x.id), y, "");
    }
}

/* A step whose loss is the mean of several values and a penalty on each parameter, or a routine
 * that gives several values back. */
static const char *random_module(Arena *a, uint32_t seed, bool step)
{
    Writer w = { .random = seed * 2654435761u + 1u };
    sb_init(&w.params, a);
    sb_init(&w.body, a);
    w.batch = draw(&w, 4) ? "B" : "3";
    Value image = { .rank = 4, .dim = { 3, 1 + (int64_t)draw(&w, 3), 5, 5 } };
    if (draw(&w, 2)) image.dim[2] = image.dim[3] = 1 + (int64_t)draw(&w, 6);
    StrBuf text;
    sb_init(&text, a);
    sb_puts(
        &text,
        "nnir 1;\nmodel m \"m.nn\" hash 0000000000000000;\ndim B = 1..32;\nhyper lr lr = 0.1;\n");
    add(&w, "input x", image, "");
    const int n = 3 + (int)draw(&w, 28);
    for (int i = 0; i < n; i++) add_random_node(&w, a);
    if (step && !w.n_params) {
        const Value scalar = { .rank = 0 };
        new_param(&w, scalar);
    }
    StrBuf ports, over;
    sb_init(&ports, a);
    sb_init(&over, a);
    if (step) {
        sb_puts(&ports, "loss: f32[] metric");
        int loss = w.n_nodes++;
        sb_printf(&w.body, "  %%v%d = mean(%%v%d) : f32[];\n", loss, w.value[w.n_values - 1].id);
        for (int i = 0; i < w.n_params; i++) {
            sb_printf(&over, "%sp%d", i ? ", " : "", i);
            /* Every parameter is in the loss, whatever became of its layer. */
            const char *line = strstr(w.body.text, arena_printf(a, "= param p%d :", i));
            const char *type = strchr(line, ':') + 2;
            const int length = (int)strcspn(type, ";");
            sb_printf(&w.body, "  %%q%d = param p%d : %.*s;\n", i, i, length,
                      arena_strndup(a, type, (size_t)length));
            sb_printf(&w.body, "  %%r%d = square(%%q%d) : %.*s;\n", i, i, length,
                      arena_strndup(a, type, (size_t)length));
            sb_printf(&w.body,
                      "  %%s%d = sum(%%r%d) : f32[];\n  %%v%d = add(%%v%d, %%s%d) : f32[];\n", i, i,
                      w.n_nodes, loss, i);
            loss = w.n_nodes++;
        }
        sb_printf(
            &w.body,
            "  %%loss = report(%%v%d) loss : f32[];\n  minimize %%v%d over (%s) using sgd(lr = lr, "
            "momentum = lr, nesterov = 0, weight_decay = lr);\n",
            loss, loss, over.text);
    } else {
        for (int i = 0; i < 3; i++) {
            const Value *v = &w.value[draw(&w, (uint32_t)w.n_values)];
            sb_printf(&ports, "%so%d: ", i ? ", " : "", i);
            put_shape(&w, &ports, v, true);
            sb_printf(&w.body, "  %%o%d = output(%%v%d) o%d : ", i, v->id, i);
            put_shape(&w, &w.body, v, true);
            sb_puts(&w.body, ";\n");
        }
    }
    sb_printf(&text, "%s%s r(x: ", w.params.text, step ? "step" : "infer");
    put_shape(&w, &text, &image, true);
    sb_printf(&text, ") -> (%s) dims (B) {\n%s}\n", ports.text, w.body.text);
    return text.text;
}

static Module *read_module(Arena *a, const char *text)
{
    Diag *diag = diag_new(a, (DiagOptions){ .color = COLOR_NEVER, .max_errors = 20 });
    Module *m = module_parse(a, diag, source_new(a, "random.nnir", text, strlen(text)));
    if (!m) {
        diag_flush(diag, stderr);
        fputs(text, stderr);
    }
    ck_assert_ptr_nonnull(m);
    return m;
}

static const char *printed(Arena *a, const Module *m)
{
    StrBuf sb;
    sb_init(&sb, a);
    module_print(&sb, m);
    return sb.text;
}

START_TEST(the_table_of_operators_is_complete)
{
    ck_assert_int_eq(op_check_all(), 0);
}
END_TEST

START_TEST(random_graphs_obey_the_rules)
{
    static const char *const off[] = { NULL, "fuse", "simplify,fold", "fuse,simplify,fold" };
    for (uint32_t seed = 0; seed < GRAPHS; seed++) {
        Arena *a = arena_new();
        Module *m = read_module(a, random_module(a, seed, seed % 2));
        const PassOptions options = { .off = off[seed / 2 % 4] };
        ck_assert_int_eq(passes_run_until(m, &options), PASSES_DONE);
        const Plan *plan = m->routines.data[0]->plan;
        ck_assert_ptr_nonnull(plan);
        ck_assert_int_ge(plan->arena_bytes, plan->bound_bytes);
        ck_assert_int_eq(plan->arena_bytes % 64, 0);

        /* What is printed now, comments aside, is read back and printed alike. */
        m->routines.data[0]->plan = NULL;
        const char *text = printed(a, m);
        ck_assert_str_eq(text, printed(a, read_module(a, text)));
        arena_free(a);
    }
}
END_TEST

static bool is_sound(Module *m)
{
    Faults faults = { 0 };
    return plan_verify(m, m->routines.data[0], &faults);
}

/* A barrier that the planner placed is needed: without it two threads meet. The checker looks at a
 * few teams and sizes only, and a meeting may need another; that is rare. */
START_TEST(missing_barriers_are_noticed)
{
    int tried = 0, missed = 0;
    for (uint32_t seed = 1; seed < 40; seed += 2) {
        Arena *a = arena_new();
        Module *m = read_module(a, random_module(a, seed, true));
        ck_assert_int_eq(passes_run_until(m, &(PassOptions){ 0 }), PASSES_DONE);
        const Routine *r = m->routines.data[0];
        for (size_t i = 0; i < r->nodes.len; i++) {
            if (!r->plan->barrier_before[i]) continue;
            r->plan->barrier_before[i] = false;
            missed += is_sound(m);
            r->plan->barrier_before[i] = true;
            tried++;
        }
        ck_assert(is_sound(m));
        arena_free(a);
    }
    ck_assert_int_gt(tried, 50);
    ck_assert_msg(missed * 50 <= tried, "%d of %d barriers seem to be needless", missed, tried);
}
END_TEST

/* Two values that are alive together are put on the same bytes. */
START_TEST(overlaps_are_noticed)
{
    int tried = 0;
    for (uint32_t seed = 1; seed < 40; seed += 2) {
        Arena *a = arena_new();
        Module *m = read_module(a, random_module(a, seed, true));
        ck_assert_int_eq(passes_run_until(m, &(PassOptions){ 0 }), PASSES_DONE);
        const Routine *r = m->routines.data[0];
        for (size_t i = 0; i < r->nodes.len; i++) {
            Buffer *x = &r->plan->result[i][0];
            if (x->kind != AT_ARENA || op_has(r->nodes.data[i], OPF_SOURCE | OPF_VIEW)) continue;
            for (size_t j = 0; j < i; j++) {
                const Buffer *y = &r->plan->result[j][0];
                if (y->kind != AT_ARENA || op_has(r->nodes.data[j], OPF_SOURCE | OPF_VIEW) ||
                    y->last <= (int)i || y->offset == x->offset)
                    continue;
                const int64_t offset = x->offset;
                x->offset = y->offset;
                ck_assert_msg(!is_sound(m), "graph %u: node %zu on top of node %zu", seed, i, j);
                x->offset = offset;
                tried++;
            }
        }
        ck_assert(is_sound(m));
        arena_free(a);
    }
    ck_assert_int_gt(tried, 100);
}
END_TEST

/* A scalar is one thread's work: done by all, the threads write the same bytes. */
START_TEST(wrong_parts_are_noticed)
{
    int tried = 0;
    for (uint32_t seed = 1; seed < 40; seed += 2) {
        Arena *a = arena_new();
        Module *m = read_module(a, random_module(a, seed, true));
        ck_assert_int_eq(passes_run_until(m, &(PassOptions){ 0 }), PASSES_DONE);
        const Routine *r = m->routines.data[0];
        for (size_t i = 0; i < r->nodes.len; i++) {
            if (r->plan->part[i] != PART_ONE || r->nodes.data[i]->type.rank) continue;
            const Part part = r->plan->part[i];
            r->plan->part[i] = PART_LEAD;
            ck_assert_msg(!is_sound(m), "graph %u: node %zu by all threads", seed, i);
            r->plan->part[i] = part;
            tried++;
        }
        ck_assert(is_sound(m));
        arena_free(a);
    }
    ck_assert_int_gt(tried, 20);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("passes");
    TCase *t = tcase_create("random graphs");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, the_table_of_operators_is_complete);
    tcase_add_test(t, random_graphs_obey_the_rules);
    tcase_add_test(t, missing_barriers_are_noticed);
    tcase_add_test(t, overlaps_are_noticed);
    tcase_add_test(t, wrong_parts_are_noticed);
    suite_add_tcase(s, t);
    return run_suite(s);
}
