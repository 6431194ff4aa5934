/* SPDX-License-Identifier: MIT
 *
 * Reverse-mode differentiation. In: a step with `minimize LOSS over PARAMETERS`. Out: the same step
 * with the backward graph appended and one grad_store or update root per parameter; minimize.loss is
 * consumed. Where an optimizer or --hvp asks for it, also a routine STEP_hvp: Note [products with the Hessian];
 * where --trace does, a routine STEP_trace: Note [traces].
 *
 * A node takes part when it lies on a path from a parameter in `over` to the loss through real
 * values (integers, booleans and stop_grad cut paths). Only such nodes get gradients, so whatever
 * the parameters do not reach has no backward code. Nodes are visited users first: when a node's
 * turn comes, the gradients of all its results are complete sums.
 */
#include "ir/scan.h"
#include "passes/pass.h"

#include <string.h>

typedef Node *Grads[OP_MAX_RESULTS];

typedef struct Autodiff {
    Builder b;
    Module *m;
    Routine *r;
    const Minimize *min;
    size_t n_forward; /* nodes before this sweep built any gradient */
    bool second;      /* the sweep follows the gradient, not the loss */
    bool every;       /* gradients of all real values, not only of what depends on `over` */
    bool *depends;    /* by id: on a parameter in `over` */
    bool *active;     /* ... and the loss depends on it */
    Grads *grads;     /* by id: gradient of each result so far */
} Autodiff;

static bool in_over(const Minimize *min, const Tensor *t)
{
    for (size_t i = 0; i < min->over.len; i++)
        if (min->over.data[i] == t) return true;
    return false;
}

static void find_dependent(Autodiff *ad)
{
    for (size_t i = 0; i < ad->n_forward; i++) {
        const Node *n = ad->r->nodes.data[i];
        if (ad->every && !n->n_in) {
            ad->depends[i] = n->type.dtype == DT_F32 && !op_is(n, &op_const);
        } else if (op_is(n, &op_param)) {
            const int64_t t = ((const IndexAttrs *)n->attrs)->index;
            ad->depends[i] = in_over(ad->min, ad->m->tensors.data[t]);
        }
        /* An integer result can hide behind a node with a real one: pooling's index is read by
         * op_result. */
        if (op_is(n, &op_stop_grad) || (n->type.dtype != DT_F32 && n->n_results == 1)) continue;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] && ad->depends[n->in[k]->id]) ad->depends[i] = true;
    }
}

/* A value that the sweep starts from and its gradient. */
typedef struct Seed {
    Node *value, *grad;
} Seed;

static void find_active(Autodiff *ad, const Seed *seeds, size_t n_seeds)
{
    for (size_t k = 0; k < n_seeds; k++)
        ad->active[seeds[k].value->id] = ad->depends[seeds[k].value->id];
    for (size_t i = ad->n_forward; i-- > 0;) {
        const Node *n = ad->r->nodes.data[i];
        if (!ad->active[i]) continue;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] && ad->depends[n->in[k]->id]) ad->active[n->in[k]->id] = true;
    }
}

/* ---- which part of a loop's body takes part ---- */

/* By id of the body's nodes, over all steps. */
typedef struct Activity {
    bool *depends, *active;
} Activity;

static void body_depends(const Routine *body, bool *depends)
{
    for (size_t i = 0; i < body->nodes.len; i++) {
        const Node *n = body->nodes.data[i];
        if (op_is(n, &op_stop_grad) || (n->type.dtype != DT_F32 && n->n_results == 1)) continue;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] && depends[n->in[k]->id]) depends[i] = true;
    }
}

static void body_active(const Routine *body, const bool *depends, bool *active)
{
    for (size_t i = body->nodes.len; i-- > 0;) {
        const Node *n = body->nodes.data[i];
        if (!active[i]) continue;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] && depends[n->in[k]->id]) active[n->in[k]->id] = true;
    }
}

/* What depends on operand i where given[i], and what result k depends on where wanted[k]. What a step
 * hands to the next makes both grow until nothing changes. */
static Activity find_activity(Arena *a, const Node *scan, const bool *given, const bool *wanted)
{
    const ScanAttrs *s = scan->attrs;
    const Routine *body = s->body;
    Node **in = scan_input_nodes(a, body), **out = scan_output_values(a, body);
    Activity x = { ARENA_ARRAY(a, bool, body->nodes.len + 1),
                   ARENA_ARRAY(a, bool, body->nodes.len + 1) };
    for (int i = 0; i < scan->n_in; i++)
        if (in[i] && given[i]) x.depends[in[i]->id] = true;
    for (bool grows = true; grows;) {
        grows = false;
        body_depends(body, x.depends);
        for (int64_t j = 0; j < s->n_carries; j++) {
            const Node *c = in[s->n_seqs + j];
            if (!c || x.depends[c->id] || !x.depends[out[j]->id] || c->type.dtype != DT_F32)
                continue;
            x.depends[c->id] = grows = true;
        }
    }
    for (size_t k = 0; k < body->outputs.len; k++)
        if (wanted[k] && x.depends[out[k]->id]) x.active[out[k]->id] = true;
    for (bool grows = true; grows;) {
        grows = false;
        body_active(body, x.depends, x.active);
        for (int64_t j = 0; j < s->n_carries; j++) {
            const Node *c = in[s->n_seqs + j];
            if (!c || !x.active[c->id] || x.active[out[j]->id] || !x.depends[out[j]->id]) continue;
            x.active[out[j]->id] = grows = true;
        }
    }
    return x;
}

static bool *depending_operands(const Autodiff *ad, const Node *n)
{
    bool *given = ARENA_ARRAY(ad->m->arena, bool, n->n_in + 1);
    for (int i = 0; i < n->n_in; i++)
        given[i] = ad->depends[n->in[i]->id] && n->in[i]->type.dtype == DT_F32;
    return given;
}

typedef struct Complaint {
    Autodiff *ad;
    Diagnostic *d;
} Complaint;

static void complain(Complaint *c, const Node *n, const char *why)
{
    if (!c->d && c->ad->second) {
        c->d = diag_error(c->ad->m->diag, n->span, "no-second-gradient",
                          "the Hessian of the loss of step %s cannot be had: %s has no gradient: %s",
                          c->ad->r->step->name, n->op->name, why);
        diag_inst(c->d, n->inst);
    } else if (!c->d) {
        c->d = diag_error(
            c->ad->m->diag, n->span, "no-gradient",
            "the loss of step %s depends on trained parameters through %s, which has no gradient: %s",
            c->ad->r->name, n->op->name, why);
        diag_inst(c->d, n->inst);
    } else {
        diag_note(c->d, n->span, "%s has no gradient either: %s", n->op->name, why);
    }
}

static void check_nodes(Complaint *c, const Routine *r, size_t n_nodes, const bool *depends,
                        const bool *active);

/* depends, active: of the routine that the loop stands in. */
static void check_body(Complaint *c, const Routine *around, size_t n_nodes, const Node *scan,
                       const bool *depends, const bool *active)
{
    Arena *a = c->ad->m->arena;
    const Routine *body = scan_attrs(scan)->body;
    bool *wanted = ARENA_ARRAY(a, bool, body->outputs.len + 1);
    bool *given = ARENA_ARRAY(a, bool, scan->n_in + 1);
    wanted[0] = true;
    for (size_t i = 0; i < n_nodes; i++) {
        const Node *x = around->nodes.data[i];
        if (op_is(x, &op_result) && x->in[0] == scan && active[i])
            wanted[((const IndexAttrs *)x->attrs)->index] = true;
    }
    for (int i = 0; i < scan->n_in; i++)
        given[i] = depends[scan->in[i]->id] && scan->in[i]->type.dtype == DT_F32;
    const Activity x = find_activity(a, scan, given, wanted);
    check_nodes(c, body, body->nodes.len, x.depends, x.active);
}

static void check_nodes(Complaint *c, const Routine *r, size_t n_nodes, const bool *depends,
                        const bool *active)
{
    for (size_t i = 0; i < n_nodes; i++) {
        const Node *n = r->nodes.data[i];
        if (!active[i] || !n->n_in || op_has(n, OPF_SOURCE | OPF_ROOT) || n->op->grad) continue;
        if (op_is(n, &op_scan))
            check_body(c, r, n_nodes, n, depends, active);
        else
            complain(c, n, n->op->no_grad ? n->op->no_grad : "it has no gradient rule");
    }
}

/* One message for all of them: the first carries the place, the others are notes with theirs. */
static bool check_differentiable(Autodiff *ad)
{
    Complaint c = { .ad = ad };
    check_nodes(&c, ad->r, ad->n_forward, ad->depends, ad->active);
    Diagnostic *d = c.d;
    if (d && ad->second)
        diag_note(d, ad->min->span, "%s needs the Hessian",
                  ad->r->step->wants_product ? "--hvp" : ad->min->optim->name);
    if (d) diag_hint(d, "stop_grad(...) cuts the path where no gradient is meant to flow");
    return !d;
}

/* The value whose result k is `x`: gradients of op_result nodes belong to the node they read. */
static Node **slot_of(Autodiff *ad, Node *x)
{
    if (!op_is(x, &op_result)) return &ad->grads[x->id][0];
    return &ad->grads[x->in[0]->id][((const IndexAttrs *)x->attrs)->index];
}

/* Names only nodes that this visit made: an older one may be a forward value that happens to be
 * equal. */
static void name_grad(Autodiff *ad, Node *grad, size_t first_new, const Node *of)
{
    for (size_t i = first_new; i < ad->r->nodes.len; i++)
        if (ad->r->nodes.data[i] == grad) grad->name = arena_printf(ad->m->arena, "d_%s", of->name);
}

/* Joins dx with one of the terms of `sum`, where that is possible, and returns the others; NULL: none is left. */
static Node *join_terms(Autodiff *ad, Node *sum, Node **dx, bool *joined)
{
    if (*joined) return sum;
    if (op_is(sum, &op_add) && (size_t)sum->id >= ad->n_forward &&
        type_equal(&sum->in[0]->type, &sum->in[1]->type)) {
        Node *x = join_terms(ad, sum->in[0], dx, joined),
             *y = join_terms(ad, sum->in[1], dx, joined);
        if (x == sum->in[0] && y == sum->in[1]) return sum;
        return x && y ? mk2(&ad->b, &op_add, NULL, x, y) : x ? x : y;
    }
    Node *both = sum->op == (*dx)->op && sum->op->join ? sum->op->join(&ad->b, sum, *dx) : NULL;
    if (!both) return sum;
    *dx = both;
    *joined = true;
    return NULL;
}

/* Parts of one tensor that were cut out one by one are put together again in one step. */
static Node *sum_of(Autodiff *ad, Node *sum, Node *dx)
{
    for (bool joined = true; sum && joined && dx->op->join;) {
        joined = false;
        sum = join_terms(ad, sum, &dx, &joined);
    }
    return sum ? mk2(&ad->b, &op_add, NULL, sum, dx) : dx;
}

static void accumulate(Autodiff *ad, Node *x, Node *dx, size_t first_new)
{
    Node **slot = slot_of(ad, x);
    *slot = sum_of(ad, *slot, dx);
    name_grad(ad, *slot, first_new, x);
}

/* ---- loops ----
 *
 * Note [the backward loop]
 * A loop's gradient is a loop from the last step to the first. It carries the gradients of the
 * forward loop's carries; its sequences are slices of the gradients of the yields and of what the
 * forward step had. Its body is a copy of the forward body with the reverse sweep appended: of the
 * copy, what is cheap is computed again, products and random values are handed over as additional
 * yields of the forward loop (Note: only those that the sweep reads), and so are the carries that
 * went into the step. The gradient of a captured value is a sum over steps. Where the operator
 * knows it as one node over all steps (OpDesc.sum_steps: a weight's gradient is one large product),
 * its operands are yielded and the node follows behind the loop; elsewhere the sum is carried.
 * A loop inside the body is derived by the same rule on its copy: what its backward loop asks of it
 * becomes further yields of the copy, and those are yields of the forward loops like any product.
 */
typedef struct Term {
    int operand;         /* of the forward loop: a capture */
    Node *node;          /* in the backward body: what each step adds */
    int from[OP_MAX_IN]; /* operand k: yield of the backward loop, or ~input of it */
} Term;

typedef struct Back {
    Autodiff *ad;
    Node *scan; /* the forward loop */
    ScanBuild g;
    size_t n_copied;     /* nodes of the backward body before the sweep */
    const Node **source; /* by id below n_copied: the forward node */
    int *uses;
    Node **saved;           /* by id: the input that replaces it */
    bool *visited, *again;  /* by id; again: a node with several results is computed again */
    bool overflows;         /* the forward loop has no result left for what this one needs */
    Node **input, **output; /* of the forward body, in the copy */
    VEC(Term) terms;
} Back;

static void visit(Autodiff *ad, Node *n);

static bool is_expensive(const Node *n)
{
    if (op_is(n, &op_result)) return is_expensive(n->in[0]);
    if (op_is(n, &op_scan)) return true;
    if (op_has(n, OPF_SOURCE | OPF_ROOT | OPF_VIEW)) return false;
    return op_has(n, OPF_RANDOM | OPF_KEPT) || (n->op->work && n->op->work(n).macs > 0);
}

/* A sequence of the backward loop that holds what the forward node had in each step. */
static Node *save(Back *k, const Node *forward)
{
    const int result = scan_add_yield(k->ad->m, k->scan, (Node *)forward);
    if (result < 0) return NULL;
    Builder *b = &k->ad->b;
    b->span = forward->span;
    b->inst = forward->inst;
    b->name = arena_printf(k->ad->m->arena, "%s_steps", forward->name);
    Node *stack = mk_result(b, k->scan, result);
    return scan_input(&k->g, SCAN_SEQUENCE, stack, forward->name);
}

/* Is x made of an expensive value that nothing but x reads? Then x is handed over in its place. */
static bool stands_for_operand(const Back *k, const Node *x)
{
    if (!op_has(x, OPF_ELEMENTWISE)) return false;
    for (int i = 0; i < x->n_in; i++) {
        const Node *y = x->in[i];
        if (y && (size_t)y->id < k->n_copied && k->source[y->id] && is_expensive(y) &&
            k->uses[y->id] == 1 && type_equal(&y->type, &x->type))
            return true;
    }
    return false;
}

/* How many of the nodes that the backward step needs read each value. */
static void count_uses(Back *k, const Routine *body)
{
    Arena *a = k->ad->m->arena;
    bool *live = ARENA_ARRAY(a, bool, body->nodes.len + 1);
    k->uses = ARENA_ARRAY(a, int, body->nodes.len + 1);
    for (size_t i = 0; i < k->g.in.len; i++)
        if (k->g.in.data[i].next) live[k->g.in.data[i].next->id] = true;
    for (size_t i = 0; i < k->g.yields.len; i++) live[k->g.yields.data[i].value->id] = true;
    for (size_t i = 0; i < k->terms.len; i++) {
        const Node *n = k->terms.data[i].node;
        for (int j = 0; n && j < n->n_in; j++) {
            live[n->in[j]->id] = true;
            k->uses[n->in[j]->id]++;
        }
    }
    for (size_t i = body->nodes.len; i-- > 0;) {
        const Node *n = body->nodes.data[i];
        for (int j = 0; live[i] && j < n->n_in; j++)
            if (n->in[j]) {
                live[n->in[j]->id] = true;
                k->uses[n->in[j]->id]++;
            }
    }
}

/* A further result of a node of the copy, which its gradient asked for, in the forward body: of an inner loop, or of
 * a node that is worth keeping. */
static Node *forward_result(Back *k, const Node *x)
{
    const size_t id = (size_t)x->in[0]->id;
    if (id >= k->n_copied || !k->source[id] || !is_expensive(x->in[0])) return NULL;
    Node *forward = (Node *)k->source[id];
    const int index = (int)((const IndexAttrs *)x->attrs)->index;
    const int result =
        op_is(forward, &op_scan) ? scan_clone_result(k->ad->m, x->in[0], index, forward) : index;
    if (result < 0) return NULL;
    Builder b;
    builder_init(&b, k->ad->m, scan_attrs(k->scan)->body);
    b.quiet = true;
    b.span = x->span;
    b.inst = x->inst;
    b.name = x->name;
    return mk_result(&b, forward, result);
}

/* Walks from a value that the backward step needs to where it comes from, and replaces copies of
 * forward values that are handed over. Returns what stands for x. */
static Node *need(Back *k, Node *x)
{
    const size_t id = (size_t)x->id;
    const bool copy = id < k->n_copied && k->source[id];
    if (k->saved[id]) return k->saved[id];
    if (k->visited[id]) return x;
    k->visited[id] = true;
    const bool carry = copy && op_is(x, &op_input);
    const Node *forward = NULL;
    if (copy && (carry || is_expensive(x) || stands_for_operand(k, x)))
        forward = k->source[id];
    else if (!copy && op_is(x, &op_result))
        forward = forward_result(k, x);
    if (forward) {
        Node *input = save(k, forward);
        if (input) return k->saved[id] = input;
        k->overflows |= carry;
    }
    Node *from = x;
    if (op_is(x, &op_result)) {
        from = x->in[0];
        if (k->again[from->id]) return x;
        k->again[from->id] = true;
    }
    for (int i = 0; i < from->n_in; i++)
        if (from->in[i]) from->in[i] = need(k, from->in[i]);
    return x;
}

static bool can_stack(const Back *k, Node *term)
{
    if ((size_t)term->id < k->n_copied || !term->op->sum_steps || term->n_in > OP_MAX_IN)
        return false;
    const int axis = term->in[0] ? scan_axis(&k->g.attrs, &term->in[0]->type) : 0;
    for (int i = 0; i < term->n_in; i++) {
        const TensorType *t = term->in[i] ? &term->in[i]->type : NULL;
        if (!t || t->rank == MAX_RANK || scan_axis(&k->g.attrs, t) != axis || axis >= t->rank)
            return false;
    }
    return term->op->sum_steps(&k->ad->b, term, axis, NULL) != NULL;
}

static int yield_of(Back *k, Node *x)
{
    for (size_t i = 0; i < k->g.yields.len; i++)
        if (k->g.yields.data[i].value == x) return (int)i;
    vec_push(k->ad->m->arena, &k->g.yields, (ScanYield){ x, x->name, x->span });
    return (int)k->g.yields.len - 1;
}

/* Splits what accumulate() added up. */
static void add_terms(Back *k, Autodiff *in, int operand, Node *sum)
{
    Arena *a = k->ad->m->arena;
    if ((size_t)sum->id >= k->n_copied && op_is(sum, &op_add) &&
        type_equal(&sum->in[0]->type, &sum->type) && type_equal(&sum->in[1]->type, &sum->type)) {
        add_terms(k, in, operand, sum->in[0]);
        add_terms(k, in, operand, sum->in[1]);
        return;
    }
    if (can_stack(k, sum)) {
        vec_push(a, &k->terms, (Term){ .operand = operand, .node = sum });
        return;
    }
    Builder *b = &k->ad->b;
    const Node *of = k->scan->in[operand];
    const size_t at = k->g.in.len;
    b->span = of->span;
    Node *zero = mk_fill(b, &sum->type, 0);
    Node *acc = scan_input(&k->g, SCAN_CARRY, zero, arena_printf(a, "d_%s", of->name));
    k->g.in.data[at].next = mk2(&in->b, &op_add, NULL, acc, sum);
    vec_push(a, &k->terms, (Term){ .operand = operand, .from = { ~(int)at } });
}

/* The sequence whose slice x is, as ~(position among the inputs), or a new yield. */
static int stack_of(Back *k, Node *x)
{
    x = need(k, x);
    for (size_t i = 0; i < k->g.in.len; i++)
        if (k->g.in.data[i].inner == x && k->g.in.data[i].role == SCAN_SEQUENCE) return ~(int)i;
    return yield_of(k, x);
}

/* The forward body inside the backward one, and its sweep. Ids of the copy count from 0. */
static Autodiff copy_body(Back *k, const Activity *x)
{
    Autodiff *ad = k->ad;
    Arena *a = ad->m->arena;
    const ScanAttrs *s = k->scan->attrs;
    const Routine *forward = s->body;
    const size_t n = forward->nodes.len;
    Node **copy = ARENA_ARRAY(a, Node *, n + 1);
    k->source = ARENA_ARRAY(a, const Node *, n + 1);
    Autodiff in = { .b = k->g.b, .m = ad->m, .r = k->g.attrs.body };
    in.active = ARENA_ARRAY(a, bool, n + 1);
    in.depends = ARENA_ARRAY(a, bool, n + 1);
    in.grads = ARENA_ARRAY(a, Grads, n + 1);
    for (size_t i = 0; i < n; i++) {
        const Node *f = forward->nodes.data[i];
        if (op_is(f, &op_output)) continue;
        if (op_is(f, &op_input)) {
            const int index = (int)((const IndexAttrs *)f->attrs)->index;
            const ScanRole role = scan_role(s, index);
            /* A carry's input is a sequence here, but which one turns out when it is needed. */
            if (role == SCAN_CARRY) {
                vec_push(a, &k->g.attrs.body->inputs,
                         (Port){ .name = f->name, .type = f->type, .span = f->span });
                vec_push(a, &k->g.in, (ScanInput){ .role = SCAN_CARRY, .result = -1 });
                in.b.name = f->name;
                in.b.span = f->span;
                copy[i] = mk(&in.b, &op_input,
                             &(IndexAttrs){ (int64_t)k->g.attrs.body->inputs.len - 1 }, 0, NULL);
                k->g.in.data[k->g.in.len - 1].inner = copy[i];
                k->source[copy[i]->id] = f;
            } else {
                copy[i] = scan_input(&k->g, role, k->scan->in[index], f->name);
            }
        } else {
            Node **operand = ARENA_ARRAY(a, Node *, f->n_in + 1);
            for (int j = 0; j < f->n_in; j++) operand[j] = f->in[j] ? copy[f->in[j]->id] : NULL;
            Node one = *f;
            ScanAttrs attrs;
            if (op_is(f, &op_scan)) { /* a body belongs to its node */
                attrs = *scan_attrs(f);
                attrs.body = scan_clone_body(ad->m, f);
                one.attrs = &attrs;
            }
            copy[i] = mk_copy(&in.b, &one, operand);
            k->source[copy[i]->id] = f;
        }
        in.active[copy[i]->id] |= x->active[i];
        in.depends[copy[i]->id] |= x->depends[i];
    }
    k->n_copied = in.n_forward = k->g.attrs.body->nodes.len;
    /* By position in the forward body from here on. */
    Node **inputs = scan_input_nodes(a, forward), **outputs = scan_output_values(a, forward);
    for (size_t i = 0; i < forward->inputs.len; i++)
        if (inputs[i]) inputs[i] = copy[inputs[i]->id];
    for (size_t i = 0; i < forward->outputs.len; i++) outputs[i] = copy[outputs[i]->id];
    k->input = inputs;
    k->output = outputs;
    return in;
}

static void scan_grad(Autodiff *ad, Node *n, Node *const *dy, Node **dx)
{
    Arena *a = ad->m->arena;
    const ScanAttrs *s = n->attrs;
    const int n_results = n->n_results;
    bool *wanted = ARENA_ARRAY(a, bool, n_results + 1);
    for (int i = 0; i < n_results; i++) wanted[i] = dy[i] != NULL;
    const bool *given = depending_operands(ad, n);
    const Activity x = find_activity(a, n, given, wanted);
    Node **f_in = scan_input_nodes(a, s->body), **f_out = scan_output_values(a, s->body);

    Back k = { .ad = ad, .scan = n };
    scan_begin(&k.g, &ad->b, s->length, s->axis, !s->reverse);
    k.g.attrs.body->dims = ad->r->dims;
    Autodiff in = copy_body(&k, &x);

    /* Seeds. */
    int *carry = ARENA_ARRAY(a, int, s->n_carries + 1);
    for (int64_t j = 0; j < n_results; j++) {
        Node *seed = NULL;
        const char *name = arena_printf(a, "d_%s", s->body->outputs.data[j].name);
        if (j < s->n_carries) {
            const Node *c = f_in[s->n_seqs + j];
            carry[j] = -1;
            const bool reaches = x.active[f_out[j]->id] && (dy[j] || (c && x.active[c->id]));
            if (!reaches) continue;
            carry[j] = (int)k.g.in.len;
            Node *last = dy[j] ? dy[j] : mk_fill(&ad->b, &f_out[j]->type, 0);
            seed = scan_input(&k.g, SCAN_CARRY, last, name);
        } else if (dy[j] && x.active[f_out[j]->id]) {
            seed = scan_input(&k.g, SCAN_SEQUENCE, dy[j], name);
        }
        if (seed) accumulate(&in, k.output[j], seed, in.r->nodes.len);
    }
    for (size_t i = in.n_forward; i-- > 0;) visit(&in, in.r->nodes.data[i]);

    /* What each step hands on, gives out and adds. */
    int *yield = ARENA_ARRAY(a, int, n->n_in + 1);
    for (int64_t j = 0; j < s->n_carries; j++) {
        if (carry[j] < 0) continue;
        Node *c = k.input[s->n_seqs + j];
        Node *d = c ? *slot_of(&in, c) : NULL;
        k.g.in.data[carry[j]].next = d ? d : mk_fill(&in.b, &f_out[j]->type, 0);
    }
    for (int i = 0; i < n->n_in; i++) {
        yield[i] = -1;
        if (!k.input[i] || !given[i]) continue;
        Node *d = *slot_of(&in, k.input[i]);
        if (!d) continue;
        if (scan_role(s, i) == SCAN_SEQUENCE) yield[i] = yield_of(&k, d);
        if (scan_role(s, i) == SCAN_CAPTURE) add_terms(&k, &in, i, d);
    }

    /* From there back to what the forward loop hands over. */
    count_uses(&k, in.r);
    const size_t most = 2 * in.r->nodes.len + 1; /* each node may get an input that replaces it */
    k.saved = ARENA_ARRAY(a, Node *, most);
    k.visited = ARENA_ARRAY(a, bool, most);
    k.again = ARENA_ARRAY(a, bool, most);
    for (size_t i = 0; i < k.g.in.len; i++)
        if (k.g.in.data[i].next) {
            Node *next = need(&k, k.g.in.data[i].next); /* may grow the list */
            k.g.in.data[i].next = next;
        }
    for (size_t i = 0; i < k.g.yields.len; i++) {
        Node *value = need(&k, k.g.yields.data[i].value);
        k.g.yields.data[i].value = value;
    }
    for (size_t t = 0; t < k.terms.len; t++) {
        Term *term = &k.terms.data[t];
        for (int i = 0; term->node && i < term->node->n_in; i++)
            term->from[i] = stack_of(&k, term->node->in[i]);
    }

    ad->b.span = n->span;
    ad->b.inst = n->inst;
    int n_results_of_loop = (int)k.g.yields.len;
    for (size_t i = 0; i < k.g.in.len; i++) n_results_of_loop += k.g.in.data[i].next != NULL;
    if (k.overflows || n_results_of_loop > OP_MAX_RESULTS) {
        Diagnostic *d =
            diag_error(ad->m->diag, n->span, "limit-list",
                       "the loop and its gradient hand on more than %d values", OP_MAX_RESULTS);
        diag_inst(d, n->inst);
        return;
    }
    if (!n_results_of_loop) return;
    Node *loop = scan_end(&k.g, arena_printf(a, "d_%s", n->name));
    int n_carries = 0;
    for (size_t i = 0; i < k.g.in.len; i++) n_carries += k.g.in.data[i].result >= 0;
    for (int64_t j = 0; j < s->n_carries; j++)
        if (carry[j] >= 0 && given[s->n_seqs + j])
            dx[s->n_seqs + j] = mk_result(&ad->b, loop, k.g.in.data[carry[j]].result);
    for (int i = 0; i < n->n_in; i++)
        if (yield[i] >= 0) dx[i] = mk_result(&ad->b, loop, n_carries + yield[i]);
    for (size_t t = 0; t < k.terms.len; t++) {
        const Term *term = &k.terms.data[t];
        Node *d;
        if (!term->node) {
            d = mk_result(&ad->b, loop, k.g.in.data[~term->from[0]].result);
        } else {
            Node *stack[OP_MAX_IN] = { NULL };
            for (int i = 0; i < term->node->n_in; i++)
                stack[i] = term->from[i] < 0 ? k.g.in.data[~term->from[i]].outer
                                             : mk_result(&ad->b, loop, n_carries + term->from[i]);
            ad->b.span = term->node->span;
            ad->b.inst = term->node->inst;
            d = term->node->op->sum_steps(&ad->b, term->node,
                                          scan_axis(s, &term->node->in[0]->type), stack);
        }
        Node **sum = &dx[term->operand];
        *sum = *sum ? mk2(&ad->b, &op_add, NULL, *sum, d) : d;
    }
}

static void visit(Autodiff *ad, Node *n)
{
    Node **dy = ad->grads[n->id];
    bool any = false;
    for (int k = 0; k < n->n_results; k++) any |= dy[k] != NULL;
    if (!any || !ad->active[n->id] || !n->n_in || op_has(n, OPF_SOURCE)) return;

    Node **dx = ARENA_ARRAY(ad->m->arena, Node *, n->n_in);
    const size_t first_new = ad->r->nodes.len;
    ad->b.span = n->span;
    ad->b.inst = n->inst;
    if (op_is(n, &op_scan))
        scan_grad(ad, n, dy, dx);
    else
        n->op->grad(&ad->b, n, dy, dx);
    for (int k = 0; k < n->n_in; k++)
        if (dx[k] && n->in[k] && ad->active[n->in[k]->id])
            accumulate(ad, n->in[k], dx[k], first_new);
}

/* The gradient of tensor t, or NULL. CSE leaves one source node per tensor; text may hold
 * several. */
static Node *param_grad(Autodiff *ad, const Tensor *t)
{
    Node *sum = NULL;
    for (size_t i = 0; i < ad->n_forward; i++) {
        Node *n = ad->r->nodes.data[i];
        if (!op_is(n, &op_param) || ((const IndexAttrs *)n->attrs)->index != t->index) continue;
        Node *g = ad->grads[i][0];
        if (g) sum = sum ? mk2(&ad->b, &op_add, NULL, sum, g) : g;
    }
    return sum;
}

static Node *limited(Autodiff *ad, Node *grad, double limit)
{
    void *attrs = arena_alloc(ad->m->arena, op_clip.attr_size);
    attrs_default(&op_clip, attrs);
    *(double *)attrs_field(&op_clip, attrs, "min", ATTR_FLOAT) = -limit;
    *(double *)attrs_field(&op_clip, attrs, "max", ATTR_FLOAT) = limit;
    return mk1(&ad->b, &op_clip, attrs, grad);
}

static bool store_grads(Autodiff *ad)
{
    const Minimize *min = ad->r->minimize;
    Diagnostic *d = NULL;
    for (size_t i = 0; i < min->over.len; i++) {
        Tensor *t = min->over.data[i];
        Node *grad = param_grad(ad, t);
        if (grad) {
            t->trained = true;
            ad->b.span = t->span;
            ad->b.inst = t->inst;
            ad->b.name = arena_printf(ad->m->arena, "grad_%s", t->path);
            /* What is kept is clipped where it lies; here the gradient may be a value that others use. */
            if (min->in_backward && min->clip_value > 0) grad = limited(ad, grad, min->clip_value);
            mk1(&ad->b, min->in_backward ? &op_update : &op_grad_store, &(IndexAttrs){ t->index }, grad);
        } else if (!d) {
            d = diag_error(ad->m->diag, min->span, "over-unused",
                           "the loss of step %s does not depend on %s", ad->r->name, t->path);
            diag_note(d, t->span, "%s: %s is declared here", t->path,
                      type_text(ad->m->arena, &t->type));
        } else {
            diag_note(d, t->span, "nor on %s", t->path);
        }
    }
    return !d;
}

/* `report` of the loss itself: the front end's, or one made here for a module that came as text. */
static void report_loss(Autodiff *ad)
{
    Routine *r = ad->r;
    Node *loss = r->minimize->loss;
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (op_is(n, &op_report) && n->in[0] == loss) return;
    }
    for (size_t i = 0; i < r->outputs.len; i++)
        if (strcmp(r->outputs.data[i].name, "loss") == 0) return;
    const Port port = {
        .name = "loss", .type = loss->type, .span = r->minimize->span, .is_metric = true
    };
    vec_push(ad->m->arena, &r->outputs, port);
    ad->b.span = r->minimize->span;
    ad->b.inst = NULL;
    ad->b.name = "loss";
    mk1(&ad->b, &op_report, &(IndexAttrs){ (int64_t)r->outputs.len - 1 }, loss);
}

/* One reverse sweep over what the routine holds now. The arrays are by id of those nodes. */
static bool sweep(Autodiff *ad, const Seed *seeds, size_t n_seeds)
{
    Arena *a = ad->m->arena;
    const size_t n = ad->n_forward = ad->r->nodes.len;
    ad->depends = ARENA_ARRAY(a, bool, n + 1);
    ad->active = ARENA_ARRAY(a, bool, n + 1);
    ad->grads = ARENA_ARRAY(a, Grads, n + 1);
    find_dependent(ad);
    find_active(ad, seeds, n_seeds);
    if (!check_differentiable(ad)) return false;
    for (size_t k = 0; k < n_seeds; k++)
        if (ad->active[seeds[k].value->id]) accumulate(ad, seeds[k].value, seeds[k].grad, n);
    for (size_t i = n; i-- > 0;) visit(ad, ad->r->nodes.data[i]);
    return !diag_errors(ad->m->diag);
}

static Autodiff autodiff_of(Module *m, Routine *r, const Minimize *min)
{
    Autodiff ad = { .m = m, .r = r, .min = min };
    routine_renumber(r);
    builder_init(&ad.b, m, r);
    ad.b.quiet = true;
    return ad;
}

static bool sweep_from_loss(Autodiff *ad, Node *loss)
{
    ad->b.span = loss->span;
    ad->b.inst = loss->inst;
    ad->b.name = "d_loss";
    return sweep(ad, &(Seed){ loss, mk_const(&ad->b, DT_F32, 1) }, 1);
}

/* ---- products with the Hessian ----
 *
 * Note [products with the Hessian]
 * H v is the gradient of <g, v>, where g is the gradient and v does not depend on the parameters: a second reverse
 * sweep over the forward and backward graph, whose seeds are the pieces of v at the gradients they belong to. The
 * routine takes what the step takes, then v, and gives H v, both over all trained elements: tensors in the module's
 * order, each in canonical order. It is built from a copy of the step's forward graph, so its random nodes have
 * the streams of the step's. Nothing of it is stored: states, metrics and gradient slots stay as they are.
 */
static const char *free_port(Arena *a, const Routine *r, const char *wanted)
{
    const char *name = wanted;
    for (int k = 2;; k++) {
        bool taken = false;
        for (size_t i = 0; i < r->inputs.len; i++) taken |= !strcmp(r->inputs.data[i].name, name);
        if (!taken) return name;
        name = arena_printf(a, "%s_%d", wanted, k);
    }
}

/* An empty routine beside a step that takes what the step takes. what, who: for the message when its name is taken. */
static Routine *companion_begin(Module *m, Routine *step, const char *suffix, const char *what, const char *who)
{
    Arena *a = m->arena;
    const Span span = step->minimize->span;
    Routine *r = ARENA_NEW(a, Routine);
    *r = (Routine){ .name = arena_printf(a, "%s_%s", step->name, suffix), .kind = ROUTINE_INFER, .step = step,
                    .span = span };
    for (size_t i = 0; i < m->routines.len; i++) {
        if (strcmp(m->routines.data[i]->name, r->name) != 0) continue;
        Diagnostic *d = diag_error(m->diag, m->routines.data[i]->span, "name-twice", what, r->name, step->name);
        diag_note(d, span, "%s needs it", who);
        diag_hint(d, "call the routine something else");
        return NULL;
    }
    for (size_t i = 0; i < step->dims.len; i++) vec_push(a, &r->dims, step->dims.data[i]);
    for (size_t i = 0; i < step->inputs.len; i++) vec_push(a, &r->inputs, step->inputs.data[i]);
    return r;
}

static Routine *product_begin(Module *m, Routine *step)
{
    return companion_begin(m, step, "hvp", "%s is also what the product of step %s's Hessian with a vector is called",
                           step->wants_product ? "--hvp" : step->minimize->optim->name);
}

static int64_t trained_elements(const Minimize *min)
{
    int64_t n = 0;
    for (size_t i = 0; i < min->over.len; i++) {
        const TensorType *t = &min->over.data[i]->type;
        n += type_numel(t, 0, t->rank);
    }
    return n;
}

static bool derive_product(Module *m, Routine *r, const Minimize *min, Node *loss)
{
    Arena *a = m->arena;
    Autodiff ad = autodiff_of(m, r, min);
    if (!sweep_from_loss(&ad, loss)) return false;

    const int64_t n = trained_elements(min);
    const TensorType flat = type_of(DT_F32, 1, &n);
    const char *from_name = free_port(a, r, "v"), *to_name = free_port(a, r, "hv");
    vec_push(a, &r->inputs, (Port){ .name = from_name, .type = flat, .span = min->span });
    vec_push(a, &r->outputs, (Port){ .name = to_name, .type = flat, .span = min->span });
    ad.b.span = min->span;
    ad.b.inst = NULL;
    ad.b.name = from_name;
    Node *v = mk(&ad.b, &op_input, &(IndexAttrs){ (int64_t)r->inputs.len - 1 }, 0, NULL);
    VEC(Seed) seeds = { 0 };
    int64_t from = 0;
    for (size_t i = 0; i < min->over.len; i++) {
        const Tensor *t = min->over.data[i];
        Node *g = param_grad(&ad, t);
        ad.b.name = arena_printf(a, "v_%s", t->path);
        if (g) vec_push(a, &seeds, (Seed){ g, mk_unpack(&ad.b, v, from, &t->type) });
        from += type_numel(&t->type, 0, t->type.rank);
    }

    ad.second = true;
    if (!sweep(&ad, seeds.data, seeds.len)) return false;
    Node **part = ARENA_ARRAY(a, Node *, min->over.len + 1);
    for (size_t i = 0; i < min->over.len; i++) {
        const Tensor *t = min->over.data[i];
        Node *g = param_grad(&ad, t);
        part[i] = g ? g : mk_fill(&ad.b, &t->type, 0);
    }
    Node *hv = mk_pack(&ad.b, part, min->over.len);
    ad.b.name = to_name;
    mk1(&ad.b, &op_output, &(IndexAttrs){ 0 }, hv);
    routine_sweep(m, r);
    return true;
}

/* ---- traces ----
 *
 * Note [traces]
 * A trace is a copy of the step's forward graph with one reverse sweep from the loss, in which every real source counts
 * as something to differentiate by: parameters whether they are trained or not, inputs, states, random draws. Its
 * outputs are the values of all wires and the gradients of those that the loss depends on (passes/trace.c names them).
 * Parameters and states are not given: who runs the trace has them. Like a product it stores nothing.
 */
static void put_wire(Autodiff *ad, const char *name, Node *value, const Node *wire)
{
    const Port port = { .name = name, .type = value->type, .span = wire->span };
    vec_push(ad->m->arena, &ad->r->outputs, port);
    ad->b.span = wire->span;
    ad->b.inst = wire->inst;
    ad->b.name = name;
    mk1(&ad->b, &op_output, &(IndexAttrs){ (int64_t)ad->r->outputs.len - 1 }, value);
}

static bool derive_trace(Module *m, Routine *r, const Minimize *min, Node *loss, Picture *picture)
{
    Autodiff ad = autodiff_of(m, r, min);
    ad.every = true;
    if (!sweep_from_loss(&ad, loss)) return false;
    for (size_t i = 0; i < picture->graph->nodes.len; i++) {
        Wire *w = &picture->wire[i];
        if (!w->name) continue;
        Node *n = r->nodes.data[i], *g = ad.active[i] ? *slot_of(&ad, n) : NULL;
        if (!op_is(n, &op_param) && !op_is(n, &op_state)) put_wire(&ad, w->value, n, n);
        if (g)
            put_wire(&ad, w->grad, g, n);
        else
            w->grad = NULL;
    }
    routine_sweep(m, r);
    return true;
}

static bool wants_product(const Routine *r)
{
    return r->wants_product || (r->minimize->optim && r->minimize->optim->uses_product);
}

static void add_routine(Module *m, Routine *r)
{
    r->index = (int)m->routines.len;
    vec_push(m->arena, &m->routines, r);
}

bool pass_autodiff(Module *m, Routine *r)
{
    if (!r->minimize || !r->minimize->loss) return true;
    Autodiff ad = autodiff_of(m, r, r->minimize);
    Node *loss = r->minimize->loss, *product_loss = NULL, *trace_loss = NULL;
    Routine *product = NULL, *trace = NULL;
    Picture *picture = NULL;
    if (wants_product(r) && !r->product) {
        if (!(product = product_begin(m, r))) return false;
        product_loss = routine_copy_nodes(m, r, product)[loss->id];
    }
    if (r->wants_trace && !r->trace) {
        trace = companion_begin(m, r, "trace", "%s is also what the trace of step %s is called", "--trace");
        if (!trace) return false;
        trace_loss = routine_copy_nodes(m, r, trace)[loss->id];
        picture = picture_of(m, r);
    }

    if (!sweep_from_loss(&ad, loss) || !store_grads(&ad)) return false;
    report_loss(&ad);
    r->minimize->loss = NULL;
    routine_sweep(m, r);
    if (product) {
        if (!derive_product(m, product, r->minimize, product_loss)) return false;
        r->product = product;
        add_routine(m, product);
    }
    if (trace) {
        if (!derive_trace(m, trace, r->minimize, trace_loss, picture)) return false;
        r->trace = trace;
        r->picture = picture;
        add_routine(m, trace);
    }
    return true;
}
