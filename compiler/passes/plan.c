/* SPDX-License-Identifier: MIT
 *
 * Who computes what, when threads wait, and where values lie. In: the final graph of a routine. Out:
 * its nodes in the order of execution and a Plan (ir/plan.h).
 *
 * 1. Order: effects stand where they are due (gradients and outputs behind their producer, so that
 *    buffers die early; reports, then state assignments at the end; Note [updates]). Other orders that
 *    free memory sooner are tried and taken when they make the arena smaller; then one that gathers
 *    what can run between two barriers.
 * 2. Places: views repeat their operand's buffer; a value that goes straight into an output or a
 *    gradient slot is computed there; elementwise results replace operands that die.
 * 3. Arena: passes/pack.c.
 * 4. Barriers, last, because they depend on which values share memory: see Note [hazards].
 */
#include <stdlib.h>

#include "ir/scan.h"
#include "passes/pack.h"
#include "passes/pass.h"

enum {
    SMALL =
        4096 /* elements without a batch axis that one thread computes faster than a team meets */
};

typedef struct Storage {
    BufferKind kind;
    int index;
    int64_t bytes;
    int first, last; /* ids */
    int n_uses;
    int merged; /* storage whose memory this one takes over in place, -1: none */
    int item;   /* position among the packed items, -1: none */
} Storage;

/* The root that updates parameter `index`, and the node that does it: the root itself, or the kernel that computes the
 * gradient and hands it over piece by piece. */
typedef struct Update {
    const Node *root, *by;
    int index;
} Update;

/* `first` runs before `then`, though neither uses the other's value. */
typedef struct Precedence {
    const Node *first, *then;
} Precedence;

typedef struct Planner {
    Module *m;
    Routine *r;
    Arena *a;
    int n;
    int (*storage_of)[OP_MAX_RESULTS]; /* by node id and result */
    VEC(Storage) storage;
    VEC(PackItem) items;
    int *scratch; /* by node id: storage, -1: none */
    VEC(Update) updates;
    VEC(Precedence) precedences;
    Plan *plan;
} Planner;

static int64_t index_of(const Node *n)
{
    return ((const IndexAttrs *)n->attrs)->index;
}

static const TensorType *type_of_result(const Node *n, int k)
{
    return k ? &n->more[k - 1] : &n->type;
}

static int64_t bytes_of(const Planner *p, const TensorType *t)
{
    return type_numel_max(t) * dtype_size(t->dtype, p->m->real_is_f64);
}

static bool is_elementwise(const Node *n)
{
    return op_has(n, OPF_ELEMENTWISE) || op_is(n, &op_fused);
}

/* The node and result behind op_result. */
static const Node *value_of(const Node *x, int *k)
{
    *k = op_is(x, &op_result) ? (int)index_of(x) : 0;
    return *k ? x->in[0] : x;
}

static int storage_of(const Planner *p, const Node *x)
{
    int k;
    const Node *n = value_of(x, &k);
    return p->storage_of[n->id][k];
}

/* The storage whose place is decided: follows in-place replacement. */
static Storage *home(const Planner *p, int s)
{
    while (p->storage.data[s].merged >= 0) s = p->storage.data[s].merged;
    return &p->storage.data[s];
}

/* A kernel's value, as opposed to a source's: only such a value can be computed somewhere else. */
static bool is_computed(const Node *n)
{
    return !op_has(n, OPF_SOURCE | OPF_ROOT | OPF_VIEW);
}

/* The node and result whose memory x is: behind views. */
static const Node *producer_of(const Node *x, int *k)
{
    for (;;) {
        x = value_of(x, k);
        if (!op_has(x, OPF_VIEW)) return x;
        x = x->in[0];
    }
}

/* ---- updates within backward ----
 *
 * Note [updates]
 * Where a step updates its parameters within the backward pass, an update runs as soon as the gradient is there and
 * all others that read the parameter have run: the layer's own gradient of its input above all, but also
 * every other use, which may stand behind. It also waits for the reports, because the generated code looks at the
 * loss before the first update and leaves when it is not finite. Neither is a use of a value, so both are
 * kept as pairs of nodes beside the graph; every order that is tried respects them.
 * A kernel that can hand its result over in pieces (OpDesc.update_part) updates the parameter itself, and
 * there is memory for one piece only. Nobody else must read its result.
 * Whoever updates reads no parameter: two of them, each waiting for the other to have read, would wait for ever. A
 * kernel that does leaves the update to the root, and a root whose gradient is a parameter gets a copy of it.
 */
enum { ANY_PARAM = -1 };

static bool reads_param(const Node *n, int index)
{
    if (op_has(n, OPF_SOURCE | OPF_VIEW)) return false;
    for (int i = 0; i < n->n_in; i++) {
        int k;
        if (!op_reads(n, i)) continue;
        const Node *x = producer_of(n->in[i], &k);
        if (op_is(x, &op_param) && (index == ANY_PARAM || index_of(x) == index)) return true;
    }
    return false;
}

static int count_uses(const Routine *r, const Node *x)
{
    int n_uses = 0;
    for (size_t i = (size_t)x->id + 1; i < r->nodes.len; i++)
        for (int k = 0; k < r->nodes.data[i]->n_in; k++) n_uses += r->nodes.data[i]->in[k] == x;
    return n_uses;
}

static void list_updates(Planner *p)
{
    const Routine *r = p->r;
    for (int i = 0; i < p->n; i++) {
        const Node *root = r->nodes.data[i], *n = root->in ? root->in[0] : NULL;
        if (!op_is(root, &op_update)) continue;
        const int index = (int)index_of(root);
        const bool in_kernel = n->op->update_part && n->op->update_part(n) > 0 && count_uses(r, n) == 1 &&
                               !reads_param(n, ANY_PARAM);
        vec_push(p->a, &p->updates, (Update){ root, in_kernel ? n : root, index });
    }
    for (size_t u = 0; u < p->updates.len; u++) {
        const Update *update = &p->updates.data[u];
        for (int i = 0; i < p->n; i++) {
            const Node *n = r->nodes.data[i];
            if (op_is(n, &op_report) || reads_param(n, update->index))
                vec_push(p->a, &p->precedences, (Precedence){ n, update->by });
        }
    }
}

/* ---- order ---- */

typedef VEC(int) Ids;

/* For every node: those that wait for it. missing[i]: how many node i waits for. */
static Ids *list_waiting(const Planner *p, int *missing)
{
    Ids *waiting = arena_alloc_array(p->a, (size_t)p->n, sizeof *waiting);
    for (int i = 0; i < p->n; i++) {
        const Node *n = p->r->nodes.data[i];
        for (int k = 0; k < n->n_in; k++) {
            if (!n->in[k]) continue;
            missing[i]++;
            vec_push(p->a, &waiting[n->in[k]->id], i);
        }
    }
    for (size_t i = 0; i < p->precedences.len; i++) {
        const Precedence *x = &p->precedences.data[i];
        missing[x->then->id]++;
        vec_push(p->a, &waiting[x->first->id], x->then->id);
    }
    return waiting;
}

static void set_order(Planner *p, Node **nodes)
{
    p->r->nodes.data = nodes;
    p->r->nodes.len = p->r->nodes.cap = (size_t)p->n;
    routine_renumber(p->r);
}

/* As they stand, but for nodes that have to wait: these follow the last one they wait for. */
static void respect_precedences(Planner *p)
{
    if (!p->precedences.len) return;
    int *missing = ARENA_ARRAY(p->a, int, p->n);
    bool *done = ARENA_ARRAY(p->a, bool, p->n);
    Node **old = p->r->nodes.data, **out = ARENA_ARRAY(p->a, Node *, p->n);
    const Ids *waiting = list_waiting(p, missing);
    for (int len = 0, first = 0; len < p->n; len++) {
        while (done[first]) first++;
        int i = first;
        while (done[i] || missing[i]) i++;
        done[i] = true;
        out[len] = old[i];
        for (size_t k = 0; k < waiting[i].len; k++) missing[waiting[i].data[k]]--;
    }
    set_order(p, out);
}

/* Reports are due before the first update, where there are any. */
static bool is_late_root(const Planner *p, const Node *n)
{
    return op_is(n, &op_assign) || (op_is(n, &op_report) && !p->updates.len);
}

/* The order that the passes left, with effects where they are due. */
static void order_roots(Planner *p)
{
    VEC(Node *) out = { 0 };
    const Routine *r = p->r;
    VEC(Node *) *early = arena_alloc_array(p->a, (size_t)p->n, sizeof *early);
    for (int i = 0; i < p->n; i++) {
        Node *n = r->nodes.data[i];
        if (op_has(n, OPF_ROOT) && !is_late_root(p, n)) vec_push(p->a, &early[n->in[0]->id], n);
    }
    for (int i = 0; i < p->n; i++) {
        if (op_has(r->nodes.data[i], OPF_ROOT)) continue;
        vec_push(p->a, &out, r->nodes.data[i]);
        for (size_t k = 0; k < early[i].len; k++) vec_push(p->a, &out, early[i].data[k]);
    }
    for (int i = 0; i < p->n; i++)
        if (op_is(r->nodes.data[i], &op_report) && is_late_root(p, r->nodes.data[i]))
            vec_push(p->a, &out, r->nodes.data[i]);
    for (int i = 0; i < p->n; i++)
        if (op_is(r->nodes.data[i], &op_assign)) vec_push(p->a, &out, r->nodes.data[i]);
    set_order(p, out.data);
    respect_precedences(p);
}

/* ---- storages ---- */

/* Bytes of workspace. A loop's: the arena of its body, then one buffer for each slice and yield of a step
 * and two for each carry, see scan_slots(). */
static int64_t workspace_of(const Planner *p, const Node *n)
{
    if (op_is(n, &op_scan)) return scan_slots(p->a, n, p->m->real_is_f64).bytes;
    const int64_t reals = n->op->scratch ? n->op->scratch(n) : 0;
    if (reals > (INT64_C(1) << 58) / 8) return INT64_C(1) << 58;
    return reals * dtype_size(DT_F32, p->m->real_is_f64);
}

static int new_storage(Planner *p, BufferKind kind, int index, int64_t bytes, int id)
{
    const Storage s = { .kind = kind,
                        .index = index,
                        .bytes = bytes,
                        .first = id,
                        .last = id,
                        .merged = -1,
                        .item = -1 };
    vec_push(p->a, &p->storage, s);
    return (int)p->storage.len - 1;
}

/* A filled constant is written to memory only for kernels and updates: loops and other roots have its value
 * in the text. */
static bool kernel_reads(const Planner *p, const Node *c)
{
    if (type_numel_max(&c->type) == 1) return false;
    for (int i = c->id + 1; i < p->n; i++) {
        const Node *n = p->r->nodes.data[i];
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] == c && op_reads(n, k) && !is_elementwise(n) && (!op_has(n, OPF_ROOT) || op_is(n, &op_update)))
                return true;
    }
    return false;
}

static void make_storages(Planner *p)
{
    for (int i = 0; i < p->n; i++) {
        const Node *n = p->r->nodes.data[i];
        for (int k = 0; k < OP_MAX_RESULTS; k++) p->storage_of[i][k] = -1;
        p->scratch[i] = -1;
        if (op_has(n, OPF_ROOT)) continue;
        if (op_is(n, &op_result) || op_has(n, OPF_VIEW)) {
            p->storage_of[i][0] = storage_of(p, op_is(n, &op_result) ? n : n->in[0]);
            continue;
        }
        for (int k = 0; k < n->n_results; k++) {
            BufferKind kind = AT_ARENA;
            int index = 0;
            if (op_is(n, &op_input))
                kind = AT_INPUT;
            else if (op_is(n, &op_param))
                kind = AT_PARAM;
            else if (op_is(n, &op_state))
                kind = AT_STATE;
            else if (op_is(n, &op_hyper))
                kind = AT_HYPER;
            else if (op_is(n, &op_const) && !kernel_reads(p, n))
                kind = AT_NOWHERE;
            if (op_has(n, OPF_SOURCE) && !op_is(n, &op_const)) index = (int)index_of(n);
            p->storage_of[i][k] = new_storage(p, kind, index, bytes_of(p, type_of_result(n, k)), i);
        }
        const int64_t scratch = workspace_of(p, n);
        if (scratch > 0) p->scratch[i] = new_storage(p, AT_ARENA, 0, scratch, i);
    }
    for (int i = 0; i < p->n; i++) {
        const Node *n = p->r->nodes.data[i];
        if (op_is(n, &op_result) || op_has(n, OPF_VIEW)) continue;
        for (int k = 0; k < n->n_in; k++) {
            if (!op_reads(n, k)) continue;
            Storage *s = &p->storage.data[storage_of(p, n->in[k])];
            s->last = i;
            s->n_uses++;
        }
    }
}

/* Outputs and gradient slots as the place of computation. */
static void place_effects(Planner *p)
{
    bool *taken = ARENA_ARRAY(p->a, bool, p->r->outputs.len);
    for (int i = 0; i < p->n; i++) {
        const Node *root = p->r->nodes.data[i];
        if (!op_is(root, &op_output) && !op_is(root, &op_grad_store)) continue;
        int k;
        const Node *n = producer_of(root->in[0], &k);
        Storage *s = &p->storage.data[p->storage_of[n->id][k]];
        const int64_t index = index_of(root);
        if (s->kind != AT_ARENA || !is_computed(n) || s->bytes != bytes_of(p, &root->type))
            continue;
        if (op_is(root, &op_output)) {
            if (taken[index]) continue;
            taken[index] = true;
            s->kind = AT_OUTPUT;
            s->index = (int)index;
        } else if (s->n_uses == 1 && n->n_results == 1 &&
                   (is_elementwise(n) || op_has(n, OPF_ACCUMULATE))) {
            /* With gradients accumulated over calls the slot holds a sum, not this value: nobody
             * else may read it. */
            s->kind = AT_GRAD;
            s->index = (int)index;
            p->plan->accumulate[n->id] = true;
        }
    }
    for (size_t u = 0; u < p->updates.len; u++) {
        const Update *update = &p->updates.data[u];
        const Node *n = update->by;
        if (n == update->root) continue;
        p->plan->updates[n->id] = update->index;
        p->storage.data[p->storage_of[n->id][0]].bytes =
            n->op->update_part(n) * dtype_size(n->type.dtype, p->m->real_is_f64);
    }
}

/* ---- in place ---- */

/* Same element at the same place: then each element is read before it is overwritten. */
static bool same_elements(const TensorType *x, const TensorType *y)
{
    return type_equal(x, y) && type_layouts_coincide(x, x->layout, y->layout);
}

static bool can_replace(const Planner *p, const Node *n, int k, int i)
{
    const Node *x = n->in[i];
    if (!op_reads(n, i) || !same_elements(&x->type, type_of_result(n, k))) return false;
    if (!is_elementwise(n) && (i != 0 || k != 0 || !op_has(n, OPF_INPLACE) || n->op->whole & 1u))
        return false;
    const Storage *s = home(p, storage_of(p, x));
    const Storage *own = &p->storage.data[storage_of(p, x)];
    if (s->kind != AT_ARENA || s->last != n->id || own->last != n->id || own->bytes != s->bytes)
        return false;
    /* Another operand in the same memory must be read in step with this one. */
    for (int j = 0; j < n->n_in; j++)
        if (j != i && op_reads(n, j) && home(p, storage_of(p, n->in[j])) == s &&
            (!is_elementwise(n) || !same_elements(&n->in[j]->type, &x->type)))
            return false;
    return true;
}

static void replace_operands(Planner *p)
{
    for (int i = 0; i < p->n; i++) {
        const Node *n = p->r->nodes.data[i];
        if (!is_computed(n) || !(is_elementwise(n) || op_has(n, OPF_INPLACE)) ||
            p->plan->accumulate[i])
            continue;
        for (int k = 0; k < n->n_results; k++) {
            Storage *y = &p->storage.data[p->storage_of[i][k]];
            if (y->kind != AT_ARENA || y->last == i) continue;
            for (int j = 0; j < n->n_in; j++) {
                if (!can_replace(p, n, k, j)) continue;
                Storage *x = home(p, storage_of(p, n->in[j]));
                y->merged = (int)(x - p->storage.data);
                x->last = y->last; /* beyond i, so no second result can take the memory */
                break;
            }
        }
    }
}

/* ---- arena ---- */

/* The values whose place in the arena is still open become items of the packer. */
static void list_items(Planner *p)
{
    p->items.len = 0;
    for (size_t i = 0; i < p->storage.len; i++) {
        Storage *s = &p->storage.data[i];
        if (s->kind != AT_ARENA || s->merged >= 0) continue;
        s->item = (int)p->items.len;
        /* The values of one step are small beside those that are kept for all steps. Where each has memory of
         * its own, threads need not wait for each other only because one value took another's place. */
        const int last = p->r->kind == ROUTINE_BODY ? p->n : s->last;
        vec_push(p->a, &p->items, (PackItem){ s->bytes, s->first, last, 0 });
    }
}

static void take_offsets(Planner *p)
{
    for (int i = 0; i < p->n; i++) {
        const Node *n = p->r->nodes.data[i];
        for (int k = 0; k < n->n_results; k++) {
            const int s = p->storage_of[i][k];
            if (s < 0) continue;
            const Storage *h = home(p, s);
            p->plan->result[i][k] =
                (Buffer){ .kind = h->kind,
                          .index = h->index,
                          .bytes = p->storage.data[s].bytes,
                          .first = p->storage.data[s].first,
                          .last = p->storage.data[s].last,
                          .offset = h->item >= 0 ? p->items.data[h->item].offset : 0 };
        }
        if (p->scratch[i] >= 0) {
            const Storage *s = &p->storage.data[p->scratch[i]];
            p->plan->scratch[i] = (Buffer){ .kind = AT_ARENA,
                                            .offset = p->items.data[s->item].offset,
                                            .bytes = s->bytes,
                                            .first = i,
                                            .last = i };
        }
    }
}

static void pack(Planner *p, bool search)
{
    p->plan->bound_bytes = pack_bound(p->a, p->items.data, (int)p->items.len);
    p->plan->arena_bytes = pack_items(p->a, p->items.data, (int)p->items.len, search);
    take_offsets(p);
}

/* ---- parts ---- */

static bool axis0_is_slowest(const TensorType *t)
{
    return t->layout == LAYOUT_CHANNELS_LAST ||
           type_layouts_coincide(t, t->layout, LAYOUT_CANONICAL);
}

static Part loop_part(const TensorType *t)
{
    if (t->rank == 0) return PART_ONE;
    if (t->batch) return PART_LEAD;
    return t->dim[0] > 1 && type_numel_max(t) >= SMALL ? PART_LEAD : PART_ONE;
}

/* A large elementwise loop after kernels that divide their own work waits for all threads as it is. Where operands lie
 * like the result, it is divided by elements, not by samples: then all threads work however few of these there are. */
static bool loop_is_flat(const Planner *p, const Node *n)
{
    if (!n->type.batch || type_numel(&n->type, 0, n->type.rank) < SMALL) return false;
    bool waits = false;
    for (int i = 0; i < n->n_in; i++) {
        if (!op_reads(n, i)) continue;
        if (n->in[i]->type.rank && !same_elements(&n->in[i]->type, &n->type)) return false;
        int k;
        const Part part = p->plan->part[value_of(n->in[i], &k)->id];
        if (part == PART_LEAD || part == PART_ONE) return false;
        waits |= part == PART_TEAM;
    }
    return waits;
}

/* Does every node that reads input i of a body, directly or as a view, read a thread's own rows of it? */
static bool reads_own_rows(const Routine *body, int i)
{
    for (size_t j = 0; j < body->nodes.len; j++) {
        const Node *n = body->nodes.data[j];
        if (op_has(n, OPF_SOURCE | OPF_VIEW)) continue;
        for (int k = 0; k < n->n_in; k++) {
            int result;
            if (!op_reads(n, k)) continue;
            const Node *x = producer_of(n->in[k], &result);
            if (op_is(x, &op_input) && index_of(x) == i &&
                (body->plan->part[j] == PART_TEAM || body->plan->part[j] == PART_ONE ||
                 (body->plan->part[j] == PART_LEAD && !node_divides_operand(n, k))))
                return false;
        }
    }
    return true;
}

/* A loop through which threads run apart is divided like a kernel that works on rows. */
static bool loop_is_lead(const Node *n)
{
    const ScanAttrs *s = n->attrs;
    if (!s->body->plan->apart || !n->type.batch) return false;
    for (int k = 0; k < n->n_results; k++)
        if (type_of_result(n, k)->batch != n->type.batch) return false;
    for (int i = (int)(s->n_seqs + s->n_carries); i < n->n_in; i++)
        if (node_divides_operand(n, i) && !reads_own_rows(s->body, i)) return false;
    return true;
}

static Part kernel_part(const Node *n)
{
    bool reads = false;
    for (int i = 0; i < n->n_in; i++) reads |= op_reads(n, i);
    if (!reads && n->type.rank == 0) return PART_ONE;
    if (!op_is_lead(n) && !(op_is(n, &op_scan) && loop_is_lead(n))) return PART_TEAM;
    if (n->type.rank == 0 || (!n->type.batch && n->type.dim[0] == 1)) return PART_ONE;
    for (int k = 0; k < n->n_results; k++)
        if (!axis0_is_slowest(type_of_result(n, k))) return PART_ONE;
    for (int i = 0; i < n->n_in; i++)
        if (op_reads(n, i) && node_divides_operand(n, i) && !axis0_is_slowest(&n->in[i]->type))
            return PART_ONE;
    return PART_LEAD;
}

static bool root_in_place(const Planner *p, const Node *root)
{
    int k;
    const Node *n = value_of(root->in[0], &k);
    const Buffer *at = &p->plan->result[n->id][k];
    if (op_is(root, &op_update)) return p->plan->updates[n->id] == index_of(root);
    return at->kind == root_place(root) && at->index == index_of(root);
}

/* The team divides an update by elements, in the order in which they lie. */
static Part part_of_update(const Node *n)
{
    return type_numel_max(&n->type) >= SMALL ? PART_TEAM : PART_ONE;
}

static void choose_parts(Planner *p)
{
    for (int i = 0; i < p->n; i++) {
        const Node *n = p->r->nodes.data[i];
        Part part = PART_NONE;
        if (op_has(n, OPF_ROOT))
            part = root_in_place(p, n) ? PART_NONE : op_is(n, &op_update) ? part_of_update(n) : loop_part(&n->type);
        else if (op_is(n, &op_const))
            part = p->plan->result[i][0].kind == AT_ARENA ? loop_part(&n->type) : PART_NONE;
        else if (is_elementwise(n))
            part = loop_is_flat(p, n) ? PART_TEAM : loop_part(&n->type);
        else if (is_computed(n))
            part = kernel_part(n);
        p->plan->part[i] = part;
    }
}

/* ---- barriers ----
 *
 * Note [hazards]
 * Between two barriers the threads run at their own pace. Two accesses of different nodes to
 * overlapping memory, at least one of them a write, need a barrier between them unless the
 * same thread makes both of any pair that overlaps. That is so when thread 0 alone makes both, or
 * when both are divided by axis 0 in the same way: the same number of units (one batch variable, or
 * one constant dim[0]), starting at the same address, with the same stride per unit and the same
 * period. A barrier is placed as late as possible, right before the first node in conflict, which
 * for a fixed order gives the fewest.
 */
typedef enum Who { BY_THREAD_0, BY_SHARE, BY_ANYONE } Who;

typedef struct Access {
    BufferKind kind;
    int index;
    int64_t from, to; /* bytes */
    bool write;
    Who who;
    int64_t units;          /* BY_SHARE: -1 - index of the batch variable, or dim[0] */
    int64_t stride, period; /* BY_SHARE: bytes from unit to unit; bytes after which units repeat */
} Access;

typedef VEC(Access) Accesses;

static void add_access(const Planner *p, Accesses *list, const Buffer *b, const TensorType *t,
                       Part part, bool divided, bool write)
{
    if (b->kind == AT_NOWHERE || b->kind == AT_HYPER) return;
    Access x = { .kind = b->kind,
                 .index = b->kind == AT_ARENA ? 0 : b->index,
                 .from = b->offset,
                 .to = b->offset + b->bytes,
                 .write = write,
                 .who = BY_ANYONE };
    if (part == PART_ONE) {
        x.who = BY_THREAD_0;
    } else if (part == PART_LEAD && divided && t->rank) {
        int64_t stride[MAX_RANK];
        type_strides(t, stride);
        x.who = BY_SHARE;
        x.units = t->batch ? -1 - t->batch->index : t->dim[0];
        x.stride = stride[0] * (t->batch ? t->dim[0] : 1) * dtype_size(t->dtype, p->m->real_is_f64);
        /* When axis 0 is the slowest, its units never repeat and the period says nothing. */
        x.period = axis0_is_slowest(t) ? 0 : x.stride * t->dim[0];
    }
    vec_push(p->a, list, x);
}

static bool conflict(const Access *x, const Access *y)
{
    if (!x->write && !y->write) return false;
    if (x->kind != y->kind || x->index != y->index || x->to <= y->from || y->to <= x->from)
        return false;
    if (x->who == BY_THREAD_0 && y->who == BY_THREAD_0) return false;
    return !(x->who == BY_SHARE && y->who == BY_SHARE && x->from == y->from &&
             x->units == y->units && x->stride == y->stride && x->period == y->period);
}

/* An update changes its parameter, and all threads look at the loss before the first one. */
static void list_update(const Planner *p, int index, Part part, Accesses *list)
{
    const TensorType *t = &p->m->tensors.data[index]->type, scalar = type_scalar(DT_F32);
    const Buffer param = { .kind = AT_PARAM, .index = index, .bytes = bytes_of(p, t) };
    add_access(p, list, &param, t, part, false, true);
    for (size_t i = 0; i < p->r->outputs.len; i++) {
        const Buffer metric = { .kind = AT_METRIC, .index = (int)i, .bytes = bytes_of(p, &scalar) };
        add_access(p, list, &metric, &scalar, PART_TEAM, false, false);
    }
}

static void list_accesses(const Planner *p, const Node *n, Accesses *list)
{
    const Plan *plan = p->plan;
    const Part part = plan->part[n->id];
    if (op_is(n, &op_update)) list_update(p, (int)index_of(n), part, list);
    if (plan->updates[n->id] >= 0) list_update(p, plan->updates[n->id], part, list);
    for (int i = 0; i < n->n_in; i++) {
        if (!op_reads(n, i)) continue;
        int k;
        const Node *x = value_of(n->in[i], &k);
        add_access(p, list, &plan->result[x->id][k], &n->in[i]->type, part,
                   node_divides_operand(n, i), false);
    }
    if (op_is(n, &op_update)) return;
    if (op_has(n, OPF_ROOT)) {
        const Buffer to = { .kind = root_place(n),
                            .index = (int)index_of(n),
                            .bytes = bytes_of(p, &n->type) };
        add_access(p, list, &to, &n->type, part, true, true);
        return;
    }
    for (int k = 0; k < n->n_results; k++) {
        const TensorType *t = type_of_result(n, k);
        const bool divided =
            t->batch == n->type.batch && (t->batch || (t->rank && t->dim[0] == n->type.dim[0]));
        add_access(p, list, &plan->result[n->id][k], t, part, divided, true);
    }
    if (!plan->scratch[n->id].bytes) return;
    add_access(p, list, &plan->scratch[n->id], &n->type, part, false, true);
    if (part != PART_LEAD || !op_is(n, &op_scan)) return;
    /* All that lies in the workspace of a divided loop is divided by the batch, but only the loop knows where. */
    Access *own = &list->data[list->len - 1];
    own->who = BY_SHARE;
    own->units = -1 - n->type.batch->index;
    own->stride = -1 - n->id;
}

static void place_barriers(Planner *p)
{
    Accesses before = { 0 }, now = { 0 };
    p->plan->n_barriers = 0;
    for (int i = 0; i < p->n; i++) {
        const Node *n = p->r->nodes.data[i];
        p->plan->barrier_before[i] = false;
        if (p->plan->part[i] == PART_NONE) continue;
        now.len = 0;
        list_accesses(p, n, &now);
        bool wait = false;
        for (size_t x = 0; x < now.len && !wait; x++)
            for (size_t y = 0; y < before.len && !wait; y++)
                wait = conflict(&now.data[x], &before.data[y]);
        if (wait) {
            p->plan->barrier_before[i] = true;
            p->plan->n_barriers++;
            before.len = 0;
        }
        for (size_t x = 0; x < now.len; x++) vec_push(p->a, &before, now.data[x]);
    }
}

/* ---- orders that need less memory ---- */

/* A list schedule: of the nodes that are ready and stand at most `window` places behind the first
 * unscheduled one, the one that leaves the least memory alive. A window of 1 keeps the order. */
static void reorder(Planner *p, int window)
{
    const int n = p->n;
    Node **old = p->r->nodes.data;
    int *missing = ARENA_ARRAY(p->a, int, n), *left = ARENA_ARRAY(p->a, int, (int)p->storage.len);
    bool *done = ARENA_ARRAY(p->a, bool, n);
    const Ids *waiting = list_waiting(p, missing);
    int fixed = n; /* reports and assignments stay at the end */
    while (fixed > 0 && is_late_root(p, old[fixed - 1])) fixed--;
    for (size_t s = 0; s < p->storage.len; s++) left[s] = p->storage.data[s].n_uses;
    Node **out = ARENA_ARRAY(p->a, Node *, n);
    for (int len = 0, first = 0; len < n; len++) {
        while (done[first]) first++;
        int best = -1;
        int64_t best_growth = 0;
        const int end = first >= fixed           ? first + 1
                        : first + window < fixed ? first + window
                                                 : fixed;
        for (int i = first; i < end; i++) {
            if (done[i] || missing[i]) continue;
            int64_t growth = 0;
            for (int k = 0; k < old[i]->n_results; k++) {
                const int s = p->storage_of[i][k];
                if (s >= 0 && is_computed(old[i]) && p->storage.data[s].kind == AT_ARENA)
                    growth += p->storage.data[s].bytes;
            }
            for (int k = 0; k < old[i]->n_in && is_computed(old[i]); k++) {
                const int s = op_reads(old[i], k) ? storage_of(p, old[i]->in[k]) : -1;
                if (s >= 0 && p->storage.data[s].kind == AT_ARENA && left[s] == 1)
                    growth -= p->storage.data[s].bytes;
            }
            if (best >= 0 && growth >= best_growth) continue;
            best = i;
            best_growth = growth;
        }
        done[best] = true;
        out[len] = old[best];
        for (size_t k = 0; k < waiting[best].len; k++) missing[waiting[best].data[k]]--;
        if (!op_is(old[best], &op_result) && !op_has(old[best], OPF_VIEW))
            for (int k = 0; k < old[best]->n_in; k++)
                if (op_reads(old[best], k)) left[storage_of(p, old[best]->in[k])]--;
    }
    set_order(p, out);
}

/* Everything but the offsets, for the order in which the nodes stand. */
static void decide_places(Planner *p)
{
    Plan *plan = ARENA_NEW(p->a, Plan);
    const int n = p->n;
    p->plan = plan;
    plan->part = ARENA_ARRAY(p->a, Part, n);
    plan->barrier_before = ARENA_ARRAY(p->a, bool, n);
    plan->accumulate = ARENA_ARRAY(p->a, bool, n);
    plan->updates = ARENA_ARRAY(p->a, int, n);
    for (int i = 0; i < n; i++) plan->updates[i] = -1;
    plan->scratch = ARENA_ARRAY(p->a, Buffer, n);
    plan->result = arena_alloc_array(p->a, (size_t)n, sizeof *plan->result);
    p->storage_of = arena_alloc_array(p->a, (size_t)n, sizeof *p->storage_of);
    p->scratch = ARENA_ARRAY(p->a, int, n);
    p->storage.len = 0;
    make_storages(p);
    place_effects(p);
    replace_operands(p);
    list_items(p);
}

static void decide_memory(Planner *p, bool search)
{
    decide_places(p);
    pack(p, search);
}

/* A new order must earn its keep: the text of the routine follows the user's, unless memory is
 * saved. */
static void choose_order(Planner *p)
{
    static const int windows[] = { 4, 16, 64 };
    decide_memory(p, false);
    int64_t best = p->plan->arena_bytes;
    Node **best_nodes = p->r->nodes.data;
    const int64_t wanted = best - best / 50;
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        Node **start = p->r->nodes.data;
        reorder(p, windows[i]);
        decide_memory(p, false);
        if (p->plan->arena_bytes <= wanted && p->plan->arena_bytes < best) {
            best = p->plan->arena_bytes;
            best_nodes = p->r->nodes.data;
        }
        p->r->nodes.data = start;
        routine_renumber(p->r);
        decide_memory(p, false); /* the next order starts from the storages of this one */
    }
    p->r->nodes.data = best_nodes;
    routine_renumber(p->r);
    decide_memory(p, true);
}

typedef struct Smallest {
    int64_t bytes;
    int item;
} Smallest;

static int compare_smallest(const void *a, const void *b)
{
    const Smallest *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

/* Memory that is used again soon costs a barrier. The smallest items, as many as together fit into
 * `allowance` bytes, keep theirs to the end of the routine. */
static PackItem *keep_small_items(const Planner *p, int64_t allowance)
{
    const int n = (int)p->items.len;
    PackItem *item = arena_dup(p->a, p->items.data, sizeof *item * (size_t)n);
    Smallest *by_size = ARENA_ARRAY(p->a, Smallest, n);
    for (int i = 0; i < n; i++) by_size[i] = (Smallest){ item[i].bytes, i };
    qsort(by_size, (size_t)n, sizeof *by_size, compare_smallest);
    for (int i = 0; i < n; i++) {
        allowance -= by_size[i].bytes + PACK_ALIGN;
        if (allowance < 0) break;
        item[by_size[i].item].last = p->n;
    }
    return item;
}

/* Packings differ in which values share bytes, and so in the barriers they need. One that needs
 * fewer may be larger by SLACK. */
static void choose_packing(Planner *p)
{
    enum { SLACK = 50 }; /* one fiftieth */
    const int n = (int)p->items.len;
    const int64_t least = p->plan->arena_bytes, limit = least + least / SLACK;
    PackItem *const own = p->items.data, *const kept = keep_small_items(p, least / SLACK);
    int64_t *best = ARENA_ARRAY(p->a, int64_t, n);
    place_barriers(p);
    int fewest = p->plan->n_barriers;
    for (int i = 0; i < n; i++) best[i] = own[i].offset;
    for (int variant = 0; variant < 2 * PACK_ORDERS; variant++) {
        p->items.data = variant < PACK_ORDERS ? own : kept;
        const int64_t size = pack_in_order(p->a, p->items.data, n, variant % PACK_ORDERS);
        if (size > limit) continue;
        take_offsets(p);
        place_barriers(p);
        if (p->plan->n_barriers > fewest ||
            (p->plan->n_barriers == fewest && size >= p->plan->arena_bytes))
            continue;
        fewest = p->plan->n_barriers;
        p->plan->arena_bytes = size;
        for (int i = 0; i < n; i++) best[i] = p->items.data[i].offset;
    }
    p->items.data = own;
    for (int i = 0; i < n; i++) own[i].offset = best[i];
    take_offsets(p);
    place_barriers(p);
}

/* ---- orders that need fewer barriers ---- */

static bool meets(const Planner *p, const Node *n, const Accesses *before, Accesses *now)
{
    now->len = 0;
    if (p->plan->part[n->id] == PART_NONE) return false;
    list_accesses(p, n, now);
    for (size_t x = 0; x < now->len; x++)
        for (size_t y = 0; y < before->len; y++)
            if (conflict(&now->data[x], &before->data[y])) return true;
    return false;
}

/* Of the nodes that are ready and near, the first that can run without a barrier. Every value is
 * given memory of its own for this, so that only what the values themselves demand counts. */
static void gather_between_barriers(Planner *p)
{
    enum { WINDOW = 32 };
    const int n = p->n;
    Node **old = p->r->nodes.data, **out = ARENA_ARRAY(p->a, Node *, n);
    int *missing = ARENA_ARRAY(p->a, int, n), fixed = n;
    bool *done = ARENA_ARRAY(p->a, bool, n);
    const Ids *waiting = list_waiting(p, missing);
    Accesses before = { 0 }, now = { 0 };
    int64_t end = 0;
    decide_places(p);
    for (size_t i = 0; i < p->items.len; i++) {
        p->items.data[i].offset = end;
        end += p->items.data[i].bytes;
    }
    take_offsets(p);
    choose_parts(p);
    while (fixed > 0 && is_late_root(p, old[fixed - 1])) fixed--;
    for (int len = 0, first = 0; len < n; len++) {
        while (done[first]) first++;
        const int last = first >= fixed           ? first + 1
                         : first + WINDOW < fixed ? first + WINDOW
                                                  : fixed;
        int next = -1;
        for (int i = first; i < last && next < 0; i++)
            if (!done[i] && !missing[i] && !meets(p, old[i], &before, &now)) next = i;
        if (next < 0) {
            next = first; /* everything before it is done, so it is ready */
            before.len = 0;
            meets(p, old[next], &before, &now);
        }
        for (size_t x = 0; x < now.len; x++) vec_push(p->a, &before, now.data[x]);
        done[next] = true;
        out[len] = old[next];
        for (size_t k = 0; k < waiting[next].len; k++) missing[waiting[next].data[k]]--;
    }
    set_order(p, out);
}

/* Keeps the order with fewer barriers unless it costs memory. */
static void choose_barriers(Planner *p)
{
    Node **nodes = p->r->nodes.data;
    Plan *plan = p->plan;
    gather_between_barriers(p);
    decide_memory(p, true);
    choose_parts(p);
    choose_packing(p);
    if (p->plan->n_barriers < plan->n_barriers &&
        p->plan->arena_bytes <= plan->arena_bytes + plan->arena_bytes / 50)
        return;
    p->r->nodes.data = nodes;
    routine_renumber(p->r);
    p->plan = plan;
}

/* ---- the graph's last change ---- */

/* Assignments run one after the other, and so do updates: a state that is assigned another state's old value, a
 * parameter whose gradient is a parameter, need a copy made before. x + -0.0 is x for every x. */
static Node *copy_old_values(Builder *b, const Node *old, Node *const *in, void *ctx)
{
    (void)ctx;
    const bool assigns = op_is(old, &op_assign);
    if ((!assigns && !op_is(old, &op_update)) || old->type.dtype != DT_F32) return NULL;
    const Node *x = old->in[0];
    while (op_has(x, OPF_VIEW)) x = x->in[0];
    if (!op_is(x, assigns ? &op_state : &op_param) || (assigns && index_of(x) == index_of(old))) return NULL;
    Node *nothing = mk_const(b, DT_F32, -0.0);
    b->name = arena_printf(b->module->arena, "%s_copy", old->in[0]->name);
    Node *copy = mk2(b, &op_add, NULL, in[0], nothing);
    return mk_copy(b, old, (Node *[]){ copy });
}

/* Every sum of sizes below stays far from the end of 64 bits. */
static bool check_sizes(const Planner *p)
{
    const int64_t limit = INT64_C(1) << 58;
    int64_t sum = 0;
    for (int i = 0; i < p->n; i++) {
        const Node *n = p->r->nodes.data[i];
        for (int k = 0; k < n->n_results; k++) sum += bytes_of(p, type_of_result(n, k));
        const int64_t scratch = workspace_of(p, n);
        if (sum <= limit && scratch < limit)
            sum += scratch;
        else
            sum = limit + 1;
        if (sum <= limit) continue;
        Diagnostic *d = diag_error(p->m->diag, p->r->span, "memory",
                                   "routine %s needs more than 2^58 bytes", p->r->name);
        diag_note(d, n->span, "the limit is passed at %s: %s", n->name, type_text(p->a, &n->type));
        return false;
    }
    return true;
}

/* Can threads run through the steps of a loop without ever waiting? In one step and across the border of
 * two, no two accesses may meet, and what differs from step to step must be divided by the batch,
 * because the loop itself cuts slices and stacks yields by the same shares. */
static bool runs_apart(const Planner *p)
{
    Accesses all = { 0 };
    if (p->plan->n_barriers) return false;
    for (int i = 0; i < p->n; i++) {
        const Node *n = p->r->nodes.data[i];
        if (p->plan->part[i] == PART_NONE) continue;
        if (p->plan->part[i] != PART_LEAD || !n->type.batch) return false;
        list_accesses(p, n, &all);
    }
    for (size_t x = 0; x < all.len; x++) {
        const Access *a = &all.data[x];
        if (a->kind == AT_OUTPUT && (a->who != BY_SHARE || a->units >= 0)) return false;
        if (a->kind == AT_INPUT && a->index < p->r->n_step_inputs &&
            (a->who != BY_SHARE || a->units >= 0))
            return false;
        for (size_t y = 0; y <= x; y++)
            if (conflict(a, &all.data[y])) return false;
    }
    return true;
}

/* Does every node of a body reach the values at (kind, index) row by row, at any distance of rows? */
static bool takes_pitch(const Routine *body, BufferKind kind, int index)
{
    const Plan *plan = body->plan;
    for (size_t i = 0; i < body->nodes.len; i++) {
        const Node *n = body->nodes.data[i];
        if (op_has(n, OPF_VIEW | OPF_SOURCE)) continue;
        const bool able =
            is_elementwise(n) || op_is(n, &op_output) ||
            (op_has(n, OPF_ROW_PITCH) && plan->part[i] == PART_LEAD && n->type.rank == 2);
        for (int j = 0; j < n->n_in; j++) {
            if (!op_reads(n, j)) continue;
            int k;
            const Node *x = value_of(n->in[j], &k);
            const Buffer *b = &plan->result[x->id][k];
            if (b->kind == kind && b->index == index && (!able || op_has(x, OPF_VIEW)))
                return false;
        }
        for (int k = 0; k < n->n_results && !op_has(n, OPF_ROOT); k++) {
            const Buffer *b = &plan->result[i][k];
            if (b->kind == kind && b->index == index && !able) return false;
        }
    }
    return true;
}

/* Rows of a step are `steps` rows apart in the sequence; without an axis in front of time a step is in one piece. */
static int64_t pitch_of(const ScanAttrs *s, const TensorType *step, BufferKind kind, int index)
{
    const int axis = scan_axis(s, step);
    if (step->layout != LAYOUT_CANONICAL) return 0;
    if (axis == 0) return -1;
    return axis == 1 && takes_pitch(s->body, kind, index)
               ? s->length * type_numel(step, 1, step->rank)
               : 0;
}

/* Slices and yields that need no copy. Known only here, where both the planned body and its loop are. */
static void choose_pitches(const Planner *p, const Node *scan)
{
    const ScanAttrs *s = scan->attrs;
    const Routine *body = s->body;
    Plan *plan = body->plan;
    plan->pitch_in = ARENA_ARRAY(p->a, int64_t, body->inputs.len + 1);
    plan->pitch_out = ARENA_ARRAY(p->a, int64_t, body->outputs.len + 1);
    for (int i = 0; i < (int)s->n_seqs; i++)
        plan->pitch_in[i] = pitch_of(s, &body->inputs.data[i].type, AT_INPUT, i);
    for (int k = (int)s->n_carries; k < (int)body->outputs.len; k++)
        plan->pitch_out[k] = pitch_of(s, &body->outputs.data[k].type, AT_OUTPUT, k);
}

bool pass_plan(Module *m, Routine *r)
{
    r->plan = NULL;
    routine_rewrite(m, r, copy_old_values, NULL);
    routine_sweep(m, r);
    Planner p = { .m = m, .r = r, .a = m->arena, .n = (int)r->nodes.len };
    for (int i = 0; i < p.n; i++)
        if (op_is(r->nodes.data[i], &op_scan)) choose_pitches(&p, r->nodes.data[i]);
    if (!check_sizes(&p)) return false;
    list_updates(&p);
    order_roots(&p);
    choose_order(&p);
    choose_parts(&p);
    choose_packing(&p);
    choose_barriers(&p);
    r->plan = p.plan;
    if (r->kind == ROUTINE_BODY) r->plan->apart = runs_apart(&p);
    return true;
}
