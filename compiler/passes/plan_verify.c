/* SPDX-License-Identifier: MIT
 *
 * Proof of a plan, by another way than it was made. In: a planned routine. Out: broken promises.
 *
 * Memory: the routine is executed on labels instead of numbers. Every write puts the label of its
 * value on its bytes and removes what it overlaps; every read must find its operand's label, whole.
 * So any overlap of buffers that are alive together, any effect that clobbers a value and any wrong
 * replacement in place shows as a read of the wrong value, however it came about.
 *
 * Threads: for teams and run-time sizes, small and large, the bytes that each thread touches are
 * listed node by node; between two barriers no thread may touch what another writes.
 */
#include "passes/pass.h"

typedef struct Label {
    BufferKind kind;
    int index;
    int64_t from, to;
    const Node
        *node; /* the value: result k of node; NULL: the new value of a state, gradient or port */
    int k;
} Label;

typedef struct Touch {
    BufferKind kind;
    int index;
    int64_t from, to;
    bool write;
    int thread;
    const Node *node;
    int64_t stride, period; /* of one share of an interleaved value; 0: the bytes are contiguous */
    int64_t first, end;     /* units of the share when interleaved */
} Touch;

typedef struct Team {
    int size;
    int64_t batch; /* run-time sizes, as far as their bounds allow */
} Team;

typedef struct Checker {
    Module *m;
    const Routine *r;
    const Plan *plan;
    Faults *faults;
    VEC(Label) labels;
    VEC(Touch) touches; /* since the last barrier */
} Checker;

#define FAULT(c, n, ...) fault_add((c)->m->arena, (c)->faults, (c)->r, (n), __VA_ARGS__)

static const TensorType *result_type(const Node *n, int k)
{
    return k ? &n->more[k - 1] : &n->type;
}

static int64_t type_bytes(const Checker *c, const TensorType *t)
{
    return type_numel_max(t) * dtype_size(t->dtype, c->m->real_is_f64);
}

/* Through views and result projections to the node that owns the memory. */
static const Node *owner(const Node *x, int *k)
{
    *k = 0;
    while (op_is(x, &op_result) || op_has(x, OPF_VIEW)) {
        if (op_is(x, &op_result)) {
            *k = (int)((const IndexAttrs *)x->attrs)->index;
            return x->in[0];
        }
        x = x->in[0];
    }
    return x;
}

static bool has_memory(const Buffer *b)
{
    return b->kind != AT_NOWHERE && b->kind != AT_HYPER;
}

static int space_of(const Buffer *b)
{
    return b->kind == AT_ARENA ? 0 : b->index;
}

static bool overlap(const Buffer *x, const Buffer *y)
{
    return has_memory(x) && x->kind == y->kind && space_of(x) == space_of(y) &&
           x->offset < y->offset + y->bytes && y->offset < x->offset + x->bytes;
}

/* ---- memory ---- */

static void write_label(Checker *c, const Buffer *b, const Node *n, int k)
{
    if (!has_memory(b)) return;
    size_t kept = 0;
    for (size_t i = 0; i < c->labels.len; i++) {
        const Label *l = &c->labels.data[i];
        const Buffer at = {
            .kind = l->kind, .index = l->index, .offset = l->from, .bytes = l->to - l->from
        };
        if (!overlap(&at, b)) c->labels.data[kept++] = *l;
    }
    c->labels.len = kept;
    vec_push(c->m->arena, &c->labels,
             (Label){ b->kind, space_of(b), b->offset, b->offset + b->bytes, n, k });
}

static void read_label(Checker *c, const Node *user, const Node *x)
{
    int k;
    const Node *n = owner(x, &k);
    const Buffer *b = &c->plan->result[n->id][k];
    if (!has_memory(b)) return;
    /* With gradients accumulated over calls a slot holds a sum, which only its root may see. */
    if (b->kind == AT_GRAD &&
        !(op_is(user, &op_grad_store) && ((const IndexAttrs *)user->attrs)->index == b->index))
        FAULT(c, user, "reads %s from a gradient slot", x->name);
    for (size_t i = 0; i < c->labels.len; i++) {
        const Label *l = &c->labels.data[i];
        if (l->node == n && l->k == k && l->kind == b->kind && l->index == space_of(b) &&
            l->from == b->offset && l->to == b->offset + b->bytes)
            return;
    }
    FAULT(c, user, "reads %s after its memory was given away", x->name);
}

static Buffer param_target(const Checker *c, int index)
{
    return (Buffer){ .kind = AT_PARAM, .index = index, .bytes = type_bytes(c, &c->m->tensors.data[index]->type) };
}

static Buffer root_target(const Checker *c, const Node *n)
{
    return (Buffer){ .kind = root_place(n),
                     .index = (int)((const IndexAttrs *)n->attrs)->index,
                     .bytes = type_bytes(c, &n->type) };
}

/* May a result lie on an operand? Only element on element, where the operator reads before it
 * writes. */
static bool may_replace(const Node *n, int k, int i, const Buffer *y, const Buffer *x)
{
    const TensorType *ty = result_type(n, k), *tx = &n->in[i]->type;
    const bool loop = op_has(n, OPF_ELEMENTWISE) || op_is(n, &op_fused);
    if (!loop && !(op_has(n, OPF_INPLACE) && k == 0 && i == 0)) return false;
    return x->offset == y->offset && x->bytes == y->bytes && type_equal(tx, ty) &&
           type_layouts_coincide(tx, tx->layout, ty->layout);
}

/* A kernel that updates a parameter: who else reads its result finds one piece of it. */
static void check_kernel_update(Checker *c, const Node *n, const Node *x)
{
    if (!op_is(n, &op_update) || c->plan->updates[x->id] != (int)((const IndexAttrs *)n->attrs)->index)
        FAULT(c, n, "reads a result that its kernel hands to an update");
    if (c->plan->part[n->id] != PART_NONE) FAULT(c, n, "the parameter is updated twice");
}

static void check_node_memory(Checker *c, const Node *n)
{
    const Plan *plan = c->plan;
    const Buffer *scratch = &plan->scratch[n->id];
    for (int i = 0; i < n->n_in; i++) {
        if (!op_reads(n, i)) continue;
        int k;
        const Node *x = owner(n->in[i], &k);
        read_label(c, n, n->in[i]);
        if (plan->updates[x->id] >= 0) check_kernel_update(c, n, x);
    }
    for (int k = 0; k < n->n_results; k++) {
        const Buffer *y = &plan->result[n->id][k];
        if (y->kind == AT_ARENA &&
            (y->offset < 0 || y->offset % 64 || y->offset + y->bytes > plan->arena_bytes))
            FAULT(c, n, "result %d lies outside the arena or is not aligned", k);
        const int64_t bytes = plan->updates[n->id] < 0
                                  ? type_bytes(c, result_type(n, k))
                                  : n->op->update_part(n) * dtype_size(n->type.dtype, c->m->real_is_f64);
        if (has_memory(y) && y->bytes != bytes)
            FAULT(c, n, "result %d has %lld bytes", k, (long long)y->bytes);
        for (int j = 0; j < k; j++)
            if (overlap(y, &plan->result[n->id][j])) FAULT(c, n, "results %d and %d overlap", j, k);
        if (scratch->bytes && overlap(y, scratch))
            FAULT(c, n, "result %d overlaps the workspace", k);
        for (int i = 0; i < n->n_in; i++) {
            if (!op_reads(n, i)) continue;
            int ik;
            const Node *x = owner(n->in[i], &ik);
            const Buffer *bx = &plan->result[x->id][ik];
            if (overlap(y, bx) && !may_replace(n, k, i, y, bx))
                FAULT(c, n, "result %d overlaps operand %d", k, i);
            if (scratch->bytes && overlap(bx, scratch))
                FAULT(c, n, "operand %d overlaps the workspace", i);
        }
    }
    if (scratch->bytes) {
        if (scratch->offset < 0 || scratch->offset + scratch->bytes > plan->arena_bytes)
            FAULT(c, n, "the workspace lies outside the arena");
        write_label(c, scratch, NULL, 0);
    }
    for (int k = 0; k < n->n_results; k++) write_label(c, &plan->result[n->id][k], n, k);
    if (plan->updates[n->id] < 0) return;
    const Buffer target = param_target(c, plan->updates[n->id]);
    write_label(c, &target, NULL, 0);
}

static void check_root_memory(Checker *c, const Node *n)
{
    int k;
    const Node *x = owner(n->in[0], &k);
    const Buffer target = root_target(c, n), *at = &c->plan->result[x->id][k];
    read_label(c, n, n->in[0]);
    if (c->plan->updates[x->id] >= 0) {
        check_kernel_update(c, n, x);
        return;
    }
    if (c->plan->part[n->id] != PART_NONE) {
        if (overlap(at, &target)) FAULT(c, n, "copies onto its own operand");
        write_label(c, &target, NULL, 0);
    } else if (at->kind != target.kind || at->index != target.index) {
        FAULT(c, n, "has no effect");
    }
    if (at->kind == AT_GRAD && !c->plan->accumulate[x->id])
        FAULT(c, n, "a gradient slot is overwritten");
}

/* No parameter changes before the loss is known. */
static void check_reports(Checker *c)
{
    bool updated = false;
    for (size_t i = 0; i < c->r->nodes.len; i++) {
        const Node *n = c->r->nodes.data[i];
        updated |= c->plan->updates[i] >= 0 || (op_is(n, &op_update) && c->plan->part[i] != PART_NONE);
        if (op_is(n, &op_report) && updated) FAULT(c, n, "stands behind an update");
    }
}

static void check_memory(Checker *c)
{
    for (size_t i = 0; i < c->r->nodes.len; i++) {
        const Node *n = c->r->nodes.data[i];
        if (op_has(n, OPF_ROOT))
            check_root_memory(c, n);
        else if (!op_is(n, &op_result) && !op_has(n, OPF_VIEW))
            check_node_memory(c, n);
    }
    check_reports(c);
    /* An output must still hold its value when the routine ends. */
    for (size_t i = 0; i < c->r->nodes.len; i++) {
        const Node *n = c->r->nodes.data[i];
        if (op_is(n, &op_output) && c->plan->part[i] == PART_NONE) read_label(c, n, n->in[0]);
    }
    if (c->plan->bound_bytes > c->plan->arena_bytes) FAULT(c, NULL, "the arena is below its bound");
}

/* ---- threads ---- */

static int64_t clamped(int64_t n, const DimVar *d)
{
    return n < d->lo ? d->lo : n > d->hi ? d->hi : n;
}

/* Bytes of buffer b that a thread of the team touches in node n. */
static void touch(Checker *c, const Node *n, const Buffer *b, const TensorType *t, bool divided,
                  bool write, int thread, Team team)
{
    const Part part = c->plan->part[n->id];
    if (!has_memory(b) || (part == PART_ONE && thread)) return;
    Touch x = { .kind = b->kind,
                .index = space_of(b),
                .from = b->offset,
                .to = b->offset + b->bytes,
                .write = write,
                .thread = thread,
                .node = n };
    if (part == PART_LEAD && divided && t->rank) {
        int64_t stride[MAX_RANK];
        type_strides(t, stride);
        const int64_t most = t->batch ? t->batch->hi : t->dim[0];
        const int64_t units = t->batch ? clamped(team.batch, t->batch) : most;
        const int64_t unit =
            stride[0] * (t->batch ? t->dim[0] : 1) * dtype_size(t->dtype, c->m->real_is_f64);
        x.first = units * thread / team.size;
        x.end = units * (thread + 1) / team.size;
        if (x.first == x.end) return;
        if (unit * most == b->bytes) {
            x.to = x.from + x.end * unit;
            x.from += x.first * unit;
        } else {
            x.stride = unit;
            x.period = unit * most;
        }
    }
    vec_push(c->m->arena, &c->touches, x);
}

/* True when two interleaved shares interlock without meeting. */
static bool interlock(const Touch *x, const Touch *y)
{
    return x->stride && x->stride == y->stride && x->period == y->period && x->from == y->from &&
           (x->end <= y->first || y->end <= x->first);
}

/* Before an update every thread looks at the loss. */
static void touch_metrics(Checker *c, const Node *n, int thread)
{
    for (size_t i = 0; i < c->r->outputs.len; i++)
        vec_push(c->m->arena, &c->touches,
                 (Touch){ .kind = AT_METRIC, .index = (int)i, .to = 1, .thread = thread, .node = n });
}

static void touch_node(Checker *c, const Node *n, int thread, Team team)
{
    const Plan *plan = c->plan;
    for (int i = 0; i < n->n_in; i++) {
        if (!op_reads(n, i)) continue;
        int k;
        const Node *x = owner(n->in[i], &k);
        touch(c, n, &plan->result[x->id][k], &n->in[i]->type, node_divides_operand(n, i), false,
              thread, team);
    }
    if (op_has(n, OPF_ROOT)) {
        const Buffer target = root_target(c, n);
        touch(c, n, &target, &n->type, true, true, thread, team);
        if (op_is(n, &op_update)) touch_metrics(c, n, thread);
        return;
    }
    if (plan->updates[n->id] >= 0) {
        const Buffer target = param_target(c, plan->updates[n->id]);
        touch(c, n, &target, &n->type, false, true, thread, team);
        touch_metrics(c, n, thread);
    }
    for (int k = 0; k < n->n_results; k++) {
        const TensorType *t = result_type(n, k);
        const bool divided =
            t->rank && t->batch == n->type.batch && (t->batch || t->dim[0] == n->type.dim[0]);
        touch(c, n, &plan->result[n->id][k], t, divided, true, thread, team);
    }
    if (plan->scratch[n->id].bytes)
        touch(c, n, &plan->scratch[n->id], &n->type, false, true, thread, team);
}

/* New touches against all since the last barrier. Inside a team kernel the kernel's own barriers
 * rule. */
static void check_races(Checker *c, size_t first_new)
{
    for (size_t i = first_new; i < c->touches.len; i++) {
        const Touch *x = &c->touches.data[i];
        for (size_t j = 0; j < i; j++) {
            const Touch *y = &c->touches.data[j];
            if (x->thread == y->thread || (!x->write && !y->write) || x->kind != y->kind ||
                x->index != y->index || x->to <= y->from || y->to <= x->from || interlock(x, y))
                continue;
            /* Inside a loop the plan of its body rules. */
            if (x->node == y->node &&
                (c->plan->part[x->node->id] == PART_TEAM || op_is(x->node, &op_scan)))
                continue;
            FAULT(c, x->node, "races with %s in memory that threads %d and %d share", y->node->name,
                  y->thread, x->thread);
            return;
        }
    }
}

static void check_threads(Checker *c, Team team)
{
    c->touches.len = 0;
    for (size_t i = 0; i < c->r->nodes.len; i++) {
        const Node *n = c->r->nodes.data[i];
        if (c->plan->barrier_before[i]) c->touches.len = 0;
        if (c->plan->part[i] == PART_NONE) continue;
        const size_t first_new = c->touches.len;
        for (int t = 0; t < team.size; t++) touch_node(c, n, t, team);
        check_races(c, first_new);
    }
}

bool plan_verify(Module *m, const Routine *r, Faults *faults)
{
    const size_t before = faults->len;
    Checker c = { .m = m, .r = r, .plan = r->plan, .faults = faults };
    check_memory(&c);
    /* All rows on a few threads, fewer rows than threads, and one row for each. */
    static const Team teams[] = {
        { 2, INT64_MAX }, { 3, INT64_MAX }, { 7, INT64_MAX }, { 3, 1 }, { 7, 7 }
    };
    for (size_t i = 0; i < sizeof teams / sizeof *teams; i++) check_threads(&c, teams[i]);
    return faults->len == before;
}
