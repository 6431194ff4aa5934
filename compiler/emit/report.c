/* SPDX-License-Identifier: MIT
 *
 * --report: the memory plan of every routine. One line per buffer of the arena with its place, its size and
 * the nodes between which it is live, the peak, and the lower bound that no plan for this order can beat.
 */
#include "emit/emit.h"

typedef long long ll;

static void put_buffer(StrBuf *out, const Routine *r, const char *name, const char *type, const Buffer *b)
{
    (void)r;
    sb_printf(out, "  %10lld %10lld  %5d..%-5d  %-24s %s\n", (ll)b->offset, (ll)b->bytes, b->first, b->last, name, type);
}

/* The step at which most bytes are live. */
static void put_peak(StrBuf *out, const Routine *r, Arena *a)
{
    const Plan *p = r->plan;
    int64_t *live = ARENA_ARRAY(a, int64_t, r->nodes.len + 1);
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (op_has(n, OPF_VIEW) || op_is(n, &op_result)) continue;
        for (int k = 0; k < n->n_results; k++) {
            const Buffer *b = &p->result[i][k];
            if (b->kind != AT_ARENA) continue;
            for (int at = b->first; at <= b->last && at < (int)r->nodes.len; at++) live[at] += b->bytes;
        }
        if (p->scratch[i].bytes) live[i] += p->scratch[i].bytes;
    }
    size_t peak = 0;
    for (size_t i = 1; i < r->nodes.len; i++)
        if (live[i] > live[peak]) peak = i;
    if (!r->nodes.len) return;
    const Node *n = r->nodes.data[peak];
    sb_printf(out, "  most is live at node %zu: %s = %s, %lld bytes\n", peak, n->name, n->op->name, (ll)live[peak]);
}

static void put_routine(StrBuf *out, const Module *m, const Routine *r)
{
    const Plan *p = r->plan;
    sb_printf(out, "%s %s: arena %lld bytes, lower bound %lld, ratio ", r->kind == ROUTINE_STEP ? "step" : "infer",
              r->name, (ll)p->arena_bytes, (ll)p->bound_bytes);
    if (p->bound_bytes) sb_printf(out, "%.3f", (double)p->arena_bytes / (double)p->bound_bytes);
    else sb_puts(out, "1.000");
    sb_printf(out, "; %zu nodes, %d barriers\n", r->nodes.len, p->n_barriers);
    put_peak(out, r, m->arena);
    sb_puts(out, "      offset      bytes  live at nodes  value                    type\n");
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *n = r->nodes.data[i];
        if (op_has(n, OPF_VIEW) || op_is(n, &op_result)) continue;
        for (int k = 0; k < n->n_results; k++) {
            const Buffer *b = &p->result[i][k];
            if (b->kind != AT_ARENA) continue;
            const char *name = k ? arena_printf(m->arena, "%s.%d", n->name, k) : n->name;
            put_buffer(out, r, name, type_text(m->arena, k ? &n->more[k - 1] : &n->type), b);
        }
        if (p->scratch[i].bytes)
            put_buffer(out, r, arena_printf(m->arena, "(workspace of %s)", n->name), "", &p->scratch[i]);
    }
    sb_putc(out, '\n');
}

void emit_report(const Module *m, StrBuf *out)
{
    int64_t params = 0, state = 0, trained = 0;
    for (size_t i = 0; i < m->tensors.len; i++) {
        const Tensor *t = m->tensors.data[i];
        const int64_t bytes = type_numel_max(&t->type) * dtype_size(t->type.dtype, m->real_is_f64);
        *(t->kind == TENSOR_STATE ? &state : &params) += bytes;
        if (t->trained) trained += bytes;
    }
    sb_printf(out, "model %s: parameters %lld bytes (%lld trained), state %lld bytes\n\n", m->name, (ll)params,
              (ll)trained, (ll)state);
    for (size_t i = 0; i < m->routines.len; i++) put_routine(out, m, m->routines.data[i]);
}
