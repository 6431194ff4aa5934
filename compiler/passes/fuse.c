/* SPDX-License-Identifier: MIT
 *
 * Fewer passes over memory. In: a graph with layouts. Out: activations inside the kernels that can
 * apply them (OpDesc.fuse_epilogue, fuse_prologue), sums inside the kernels that compute what is summed
 * (with_sums), and elementwise nodes of one shape grouped into op_fused loops.
 *
 * A group grows along edges from producer to user as long as the groups stay acyclic: no path may
 * leave a group and come back, since the loop runs as one. Values that are needed outside become
 * results; nothing is computed twice. A value that outsiders use anyway is grouped with a user only
 * when no kernel stands between the two: a user of the backward pass hoisted into a loop of the
 * forward pass would keep its result alive all the while. Random and root nodes are never part of a
 * group.
 */
#include "passes/pass.h"

enum { MAX_STEPS = 64, MAX_OPERANDS = FUSED_MAX_IN };

/* ---- epilogues ---- */

/* A kernel with several results takes a user of result 0 in where it stands itself, because users of its other results
 * may come before that user does. So all other operands of the user must be there already. */
typedef struct Absorb {
    const Node **user; /* by id: the only user of result 0, NULL: none or several */
    const Node **by;   /* by id: the node that took this one in */
    Node **new_of;
} Absorb;

static Node *absorb_users(Builder *b, const Node *old, Node *const *in, void *ctx)
{
    Absorb *f = ctx;
    if (f->by[old->id]) return f->new_of[old->id] = f->new_of[f->by[old->id]->id];
    Node *n = mk_copy(b, old, in);
    const Node *last = old;
    while (n->n_results > 1 && n->op->fuse_epilogue) {
        const Node *user = f->user[last->id];
        if (!user) break;
        Node **operand = ARENA_ARRAY(b->module->arena, Node *, user->n_in + 1);
        bool ready = true;
        for (int k = 0; k < user->n_in; k++) {
            const Node *x = user->in[k];
            operand[k] = x == last ? n : x && x->id < old->id ? f->new_of[x->id] : NULL;
            ready &= !x || operand[k];
        }
        Node asked = *user; /* no node of the graph, where it would turn up when nothing comes of it */
        asked.in = operand;
        Node *fused = ready ? n->op->fuse_epilogue(b, n, &asked) : NULL;
        if (!fused) break;
        fused->name = user->name;
        f->by[user->id] = old;
        last = user;
        n = fused;
    }
    return f->new_of[old->id] = n;
}

static void fuse_early(Module *m, Routine *r)
{
    Arena *a = m->arena;
    const size_t n = r->nodes.len;
    bool *several = ARENA_ARRAY(a, bool, n);
    Absorb f = { .user = ARENA_ARRAY(a, const Node *, n),
                 .by = ARENA_ARRAY(a, const Node *, n),
                 .new_of = ARENA_ARRAY(a, Node *, n) };
    for (size_t i = 0; i < n; i++) {
        const Node *user = r->nodes.data[i];
        if (op_is(user, &op_result)) continue;
        for (int k = 0; k < user->n_in; k++) {
            const Node *x = user->in[k];
            if (!x) continue;
            several[x->id] |= f.user[x->id] != NULL;
            f.user[x->id] = user;
        }
    }
    for (size_t i = 0; i < n; i++)
        if (several[i]) f.user[i] = NULL;
    routine_rewrite(m, r, absorb_users, &f);
    routine_sweep(m, r);
}

static Node *prologue_node(Builder *b, const Node *old, Node *const *in, const int *uses)
{
    if (!old->op->fuse_prologue || !old->in[0] || uses[old->in[0]->id] != 1) return NULL;
    Node *fused = old->op->fuse_prologue(b, old, in);
    if (fused) fused->name = old->name;
    return fused;
}

static Node *epilogue_node(Builder *b, const Node *old, Node *const *in, void *ctx)
{
    const int *uses = ctx;
    if (old->op->fuse_prologue) return prologue_node(b, old, in, uses);
    const int n_in = op_has(old, OPF_ROOT) ? 0 : op_has(old, OPF_COMMUTATIVE) ? 2 : old->n_in ? 1 : 0;
    for (int k = 0; k < n_in; k++) {
        if (!old->in[k] || uses[old->in[k]->id] != 1 || !in[k]->op->fuse_epilogue || in[k]->n_results > 1) continue;
        Node *swapped[2] = { in[k], n_in > 1 ? in[1 - k] : NULL };
        Node *user = mk_copy(b, old, k ? swapped : in);
        /* The statement is the kernel's; the name of the value is the user's. */
        b->span = in[k]->span;
        b->inst = in[k]->inst;
        Node *fused = in[k]->op->fuse_epilogue(b, in[k], user);
        if (!fused) continue;
        fused->name = old->name;
        return fused;
    }
    return NULL;
}

/* ---- sums ---- */

/* A user that begins with sums over a value, and who computes that value with them. */
typedef struct Sums {
    const Node **user; /* by id of the value: the first user that wants sums over it, NULL: none */
    bool *taken;       /* by id of the user: its operand 0 gives them */
    Node **new_of;
} Sums;

/* What stands for x where `before` is being built; a projection may be made earlier than the routine has it. */
static Node *new_before(Builder *b, const Sums *s, const Node *before, const Node *x)
{
    if (x->id < before->id) return s->new_of[x->id];
    if (!op_is(x, &op_result) || x->in[0]->id >= before->id) return NULL;
    return mk_result(b, s->new_of[x->in[0]->id], (int)((const IndexAttrs *)x->attrs)->index);
}

static Node *with_sums(Builder *b, const Sums *s, const Node *old, Node *const *in)
{
    const Node *user = s->user[old->id];
    Node *over[OP_MAX_IN] = { NULL };
    int n_over = 0;
    if (!user || !old->op->with_sums) return NULL;
    for (const int *k = user->op->sums_over; *k; k++) {
        const Node *x = user->in[*k];
        Node *new_x = x ? new_before(b, s, old, x) : NULL;
        if (x && !new_x) return NULL;
        over[n_over++] = new_x;
    }
    Node asked = *old;
    asked.in = (Node **)in;
    Node *n = old->op->with_sums(b, &asked, n_over, over);
    if (n) n->name = old->name;
    return n;
}

static Node *sum_early(Builder *b, const Node *old, Node *const *in, void *ctx)
{
    Sums *s = ctx;
    Node *n = with_sums(b, s, old, in);
    if (n) s->taken[s->user[old->id]->id] = true;
    if (!n && s->taken[old->id]) {
        n = old->op->take_sums(b, old, in, mk_result(b, in[0], in[0]->n_results - 1));
        n->name = old->name;
    }
    return s->new_of[old->id] = n ? n : mk_copy(b, old, in);
}

static void fuse_sums(Module *m, Routine *r)
{
    Arena *a = m->arena;
    routine_renumber(r);
    const size_t n = r->nodes.len;
    Sums s = { .user = ARENA_ARRAY(a, const Node *, n),
               .taken = ARENA_ARRAY(a, bool, n),
               .new_of = ARENA_ARRAY(a, Node *, n) };
    for (size_t i = 0; i < n; i++) {
        const Node *user = r->nodes.data[i];
        if (user->op->sums_over && !s.user[user->in[0]->id]) s.user[user->in[0]->id] = user;
    }
    routine_rewrite(m, r, sum_early, &s);
    routine_sweep(m, r);
}

/* ---- groups ---- */

typedef struct Fuse {
    Module *m;
    Routine *r;
    size_t n;
    int *group;       /* by id: representative of its group, itself when alone */
    int *last;        /* by representative: largest id in the group */
    int *next_member; /* chain of members in order of id, -1 ends */
    int *size;        /* by representative */
    int *heavy;       /* by id: kernels among nodes [0, id) */
    int **users;      /* by id: ids of users */
    int *n_users;
    int *mark, stamp; /* of the search for paths */
    int *stack;
    int *step_of; /* by id, in the group under construction */
} Fuse;

static bool can_fuse(const Node *n)
{
    return op_has(n, OPF_ELEMENTWISE) && !op_has(n, OPF_RANDOM | OPF_ROOT) && n->type.rank > 0 &&
           n->n_results == 1;
}

static bool same_loop(const Node *a, const Node *b)
{
    return type_same_shape(&a->type, &b->type) &&
           type_layouts_coincide(&a->type, a->type.layout, b->type.layout);
}

static void find_users(Fuse *f)
{
    Arena *a = f->m->arena;
    for (size_t i = 0; i < f->n; i++) {
        const Node *n = f->r->nodes.data[i];
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k]) f->n_users[n->in[k]->id]++;
        const bool kernel = !op_has(n, OPF_ELEMENTWISE | OPF_SOURCE | OPF_VIEW | OPF_ROOT);
        f->heavy[i + 1] = f->heavy[i] + kernel;
    }
    for (size_t i = 0; i < f->n; i++) {
        f->users[i] = ARENA_ARRAY(a, int, f->n_users[i]);
        f->n_users[i] = 0;
    }
    for (size_t i = 0; i < f->n; i++) {
        const Node *n = f->r->nodes.data[i];
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k]) f->users[n->in[k]->id][f->n_users[n->in[k]->id]++] = (int)i;
    }
}

/* Is there a path from group a to group b that passes through another group? Groups are the
 * vertices: who enters one through any member may leave it through any other. */
static bool detour(Fuse *f, int a, int b)
{
    int depth = 0;
    f->stamp++;
    f->mark[a] = f->stamp;
    f->stack[depth++] = a;
    while (depth) {
        const int g = f->stack[--depth];
        for (int x = g; x >= 0; x = f->next_member[x]) {
            for (int k = 0; k < f->n_users[x]; k++) {
                const int u = f->group[f->users[x][k]];
                if (u == b) {
                    if (g != a) return true;
                    continue;
                }
                if (f->mark[u] == f->stamp) continue;
                f->mark[u] = f->stamp;
                f->stack[depth++] = u;
            }
        }
    }
    return false;
}

/* Operands and results that a group of the members of a and b would have. */
static bool fits(const Fuse *f, int a, int b)
{
    int n_operands = 0, n_results = 0;
    const Node *operand[MAX_OPERANDS];
    if (f->size[a] + f->size[b] > MAX_STEPS) return false;
    for (int pass = 0; pass < 2; pass++) {
        for (int x = pass ? b : a; x >= 0; x = f->next_member[x]) {
            const Node *n = f->r->nodes.data[x];
            bool outside = false;
            for (int k = 0; k < f->n_users[x]; k++) {
                const int g = f->group[f->users[x][k]];
                outside |= g != a && g != b;
            }
            n_results += outside;
            for (int k = 0; k < n->n_in; k++) {
                const Node *in = n->in[k];
                if (!in || f->group[in->id] == a || f->group[in->id] == b) continue;
                int i = 0;
                while (i < n_operands && operand[i] != in) i++;
                if (i < n_operands) continue;
                if (n_operands == MAX_OPERANDS) return false;
                operand[n_operands++] = in;
            }
        }
    }
    return n_results <= FUSED_MAX_RESULTS;
}

/* Joins b into a; the chain of members stays sorted, so that steps come out in order. */
static void join(Fuse *f, int a, int b)
{
    if (b < a) {
        const int t = a;
        a = b;
        b = t;
    }
    for (int x = b; x >= 0; x = f->next_member[x]) f->group[x] = a;
    int x = a, y = b;
    while (y >= 0) {
        if (f->next_member[x] < 0 || f->next_member[x] > y) {
            const int rest = f->next_member[x];
            f->next_member[x] = y;
            y = rest;
        }
        x = f->next_member[x];
    }
    f->size[a] += f->size[b];
    if (f->last[b] > f->last[a]) f->last[a] = f->last[b];
}

static bool worth(const Fuse *f, int producer, int user)
{
    if (f->heavy[user] == f->heavy[producer]) return true;
    for (int k = 0; k < f->n_users[producer]; k++) {
        const int u = f->users[producer][k];
        if (u != user && f->group[u] != f->group[user]) return false;
    }
    return true;
}

static void find_groups(Fuse *f)
{
    for (size_t i = 0; i < f->n; i++) {
        const Node *n = f->r->nodes.data[i];
        if (!can_fuse(n)) continue;
        for (int k = 0; k < n->n_in; k++) {
            const Node *x = n->in[k];
            if (!x || !can_fuse(x) || !same_loop(x, n)) continue;
            const int a = f->group[x->id], b = f->group[i];
            if (a == b || !worth(f, x->id, (int)i) || !fits(f, a, b)) continue;
            /* Both directions: b may already hold a producer of a's members' users. */
            if (detour(f, a, b) || detour(f, b, a)) continue;
            join(f, a, b);
        }
    }
}

/* ---- rebuilding ---- */

typedef struct Rebuild {
    Builder b;
    Node **new_of; /* by old id */
} Rebuild;

static void build_single(Rebuild *w, const Node *old)
{
    Node **in = ARENA_ARRAY(w->b.module->arena, Node *, old->n_in);
    for (int k = 0; k < old->n_in; k++) in[k] = old->in[k] ? w->new_of[old->in[k]->id] : NULL;
    w->new_of[old->id] = mk_copy(&w->b, old, in);
}

static void build_group(const Fuse *f, Rebuild *w, int g)
{
    Arena *a = f->m->arena;
    FusedAttrs attrs = { .n_steps = f->size[g] };
    FusedStep *steps = ARENA_ARRAY(a, FusedStep, attrs.n_steps);
    Node *operand[MAX_OPERANDS];
    int n_operands = 0, n_steps = 0;
    const Node *result[FUSED_MAX_RESULTS];
    for (int x = g; x >= 0; x = f->next_member[x]) {
        const Node *n = f->r->nodes.data[x];
        FusedStep *s = &steps[n_steps];
        *s = (FusedStep){ .op = n->op,
                          .attrs = n->attrs,
                          .dtype = n->type.dtype,
                          .n_in = n->n_in,
                          .name = n->name,
                          .span = n->span };
        for (int k = 0; k < n->n_in; k++) {
            if (f->group[n->in[k]->id] == g) {
                s->arg[k] = ~f->step_of[n->in[k]->id];
                continue;
            }
            Node *in = w->new_of[n->in[k]->id];
            int i = 0;
            while (i < n_operands && operand[i] != in) i++;
            if (i == n_operands) operand[n_operands++] = in;
            s->arg[k] = i;
        }
        bool outside = false;
        for (int k = 0; k < f->n_users[x]; k++) outside |= f->group[f->users[x][k]] != g;
        if (outside) {
            attrs.type[attrs.n_results] = n->type;
            attrs.type[attrs.n_results].layout = f->r->nodes.data[g]->type.layout;
            result[attrs.n_results] = n;
            attrs.result[attrs.n_results++] = n_steps;
        }
        f->step_of[x] = n_steps++;
    }
    attrs.steps = steps;
    const Node *main = result[0];
    w->b.span = main->span;
    w->b.inst = main->inst;
    w->b.name = main->name;
    Node *fused = mk(&w->b, &op_fused, &attrs, n_operands, operand);
    for (int k = 0; k < attrs.n_results; k++) {
        w->b.span = result[k]->span;
        w->b.inst = result[k]->inst;
        w->b.name = k ? result[k]->name : NULL;
        w->new_of[result[k]->id] = mk_result(&w->b, fused, k);
    }
    w->b.name = NULL;
}

/* A heap of groups that are ready, smallest key first: the old order wherever groups allow it. */
static void heap_push(int *heap, int *len, const int *key, int g)
{
    int i = (*len)++;
    for (; i && key[heap[(i - 1) / 2]] > key[g]; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = g;
}

static int heap_pop(int *heap, int *len, const int *key)
{
    const int top = heap[0], g = heap[--*len];
    int i = 0;
    for (int child; (child = 2 * i + 1) < *len; i = child) {
        if (child + 1 < *len && key[heap[child + 1]] < key[heap[child]]) child++;
        if (key[heap[child]] >= key[g]) break;
        heap[i] = heap[child];
    }
    heap[i] = g;
    return top;
}

static void rebuild(Fuse *f)
{
    Arena *a = f->m->arena;
    Routine *r = f->r;
    Routine old = *r;
    int *missing = ARENA_ARRAY(a, int, f->n), *heap = ARENA_ARRAY(a, int, f->n), len = 0;
    f->r = &old;
    for (size_t i = 0; i < f->n; i++)
        for (int k = 0; k < f->n_users[i]; k++)
            if (f->group[f->users[i][k]] != f->group[i]) missing[f->group[f->users[i][k]]]++;
    for (size_t i = 0; i < f->n; i++)
        if (f->group[i] == (int)i && !missing[i]) heap_push(heap, &len, f->last, (int)i);

    Rebuild w = { .new_of = ARENA_ARRAY(a, Node *, f->n) };
    r->nodes.data = NULL;
    r->nodes.len = r->nodes.cap = 0;
    builder_init(&w.b, f->m, r);
    w.b.quiet = true;
    while (len) {
        const int g = heap_pop(heap, &len, f->last);
        if (f->size[g] > 1)
            build_group(f, &w, g);
        else
            build_single(&w, old.nodes.data[g]);
        for (int x = g; x >= 0; x = f->next_member[x])
            for (int k = 0; k < f->n_users[x]; k++) {
                const int u = f->group[f->users[x][k]];
                if (u != g && --missing[u] == 0) heap_push(heap, &len, f->last, u);
            }
    }
    if (r->minimize && r->minimize->loss) r->minimize->loss = w.new_of[r->minimize->loss->id];
    routine_renumber(r);
}

bool pass_fuse(Module *m, Routine *r)
{
    Arena *a = m->arena;
    routine_renumber(r);
    fuse_early(m, r);
    routine_rewrite(m, r, epilogue_node, routine_count_uses(a, r));
    routine_sweep(m, r);
    fuse_sums(m, r);

    const size_t n = r->nodes.len;
    Fuse f = { .m = m,
               .r = r,
               .n = n,
               .group = ARENA_ARRAY(a, int, n),
               .last = ARENA_ARRAY(a, int, n),
               .next_member = ARENA_ARRAY(a, int, n),
               .size = ARENA_ARRAY(a, int, n),
               .heavy = ARENA_ARRAY(a, int, n + 1),
               .users = ARENA_ARRAY(a, int *, n),
               .n_users = ARENA_ARRAY(a, int, n),
               .mark = ARENA_ARRAY(a, int, n),
               .stack = ARENA_ARRAY(a, int, n),
               .step_of = ARENA_ARRAY(a, int, n) };
    for (size_t i = 0; i < n; i++) {
        f.group[i] = f.last[i] = (int)i;
        f.next_member[i] = -1;
        f.size[i] = 1;
    }
    find_users(&f);
    find_groups(&f);
    rebuild(&f);
    return true;
}
