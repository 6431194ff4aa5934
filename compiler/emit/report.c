/* SPDX-License-Identifier: MIT
 *
 * --report: the memory plan of every routine. One line per buffer of the arena with its place, its size and
 * the nodes between which it is live, the peak, and the lower bound that no plan for this order can beat.
 */
#include "emit/emit.h"

#include <stdlib.h>

typedef long long ll;

static void put_buffer(StrBuf *out, const char *name, const char *type, const Buffer *b)
{
    sb_printf(out, "  %10lld %10lld  %5d..%-5d  %-24s %s\n", (ll)b->offset, (ll)b->bytes, b->first,
              b->last, name, type);
}

typedef struct Piece {
    int64_t from, to;
} Piece;

static int by_start(const void *x, const void *y)
{
    const Piece *a = x, *b = y;
    return a->from < b->from ? -1 : a->from > b->from;
}

static void add_piece(Piece *piece, int *n, const Buffer *b, int at)
{
    if (b->kind == AT_ARENA && b->bytes && b->first <= at && at <= b->last)
        piece[(*n)++] = (Piece){ b->offset, b->offset + b->bytes };
}

/* Bytes of the arena that hold something while node `at` runs; values computed in place count once. */
static int64_t live_bytes(const Routine *r, int at, Piece *piece)
{
    const Plan *p = r->plan;
    int n = 0;
    for (size_t i = 0; i < r->nodes.len; i++) {
        const Node *x = r->nodes.data[i];
        if (op_has(x, OPF_VIEW) || op_is(x, &op_result)) continue;
        for (int k = 0; k < x->n_results; k++) add_piece(piece, &n, &p->result[i][k], at);
        add_piece(piece, &n, &p->scratch[i], at);
    }
    qsort(piece, (size_t)n, sizeof *piece, by_start);
    int64_t bytes = 0, end = 0;
    for (int i = 0; i < n; i++) {
        const int64_t from = piece[i].from > end ? piece[i].from : end;
        if (piece[i].to > from) bytes += piece[i].to - from;
        if (piece[i].to > end) end = piece[i].to;
    }
    return bytes;
}

/* The node at which most bytes are live. */
static void put_peak(StrBuf *out, const Routine *r, Arena *a)
{
    Piece *piece = ARENA_ARRAY(a, Piece, r->nodes.len * (OP_MAX_RESULTS + 1) + 1);
    size_t peak = 0;
    int64_t most = -1;
    for (size_t i = 0; i < r->nodes.len; i++) {
        const int64_t bytes = live_bytes(r, (int)i, piece);
        if (bytes > most) {
            most = bytes;
            peak = i;
        }
    }
    if (!r->nodes.len) return;
    const Node *n = r->nodes.data[peak];
    sb_printf(out, "  most is live at node %zu: %s = %s, %lld bytes\n", peak, n->name, n->op->name,
              (ll)most);
}

static void put_routine(StrBuf *out, const Module *m, const Routine *r, const char *title);

/* Values that the object keeps for an infer routine, and the plan of what makes them. */
static void put_kept(StrBuf *out, const Module *m, const Routine *r)
{
    int64_t sum = 0;
    for (size_t i = 0; i < r->prepare->outputs.len; i++) {
        const Port *p = &r->prepare->outputs.data[i];
        const int64_t bytes = type_numel_max(&p->type) * dtype_size(p->type.dtype, m->real_is_f64);
        sb_printf(out, "  keeps %10lld bytes: %-24s %s\n", (ll)bytes, p->name, type_text(m->arena, &p->type));
        sum += (bytes + 63) / 64 * 64;
    }
    sb_printf(out, "  keeps %10lld bytes in all, computed once for each state of the weights:\n\n", (ll)sum);
    put_routine(out, m, r->prepare, r->prepare->name);
}

static void put_routine(StrBuf *out, const Module *m, const Routine *r, const char *title)
{
    const Plan *p = r->plan;
    sb_printf(out, "%s %s: arena %lld bytes, lower bound %lld, ratio ",
              r->kind == ROUTINE_STEP    ? "step"
              : r->step && r == r->step->trace ? "trace"
              : r->step                  ? "product"
              : r->kind == ROUTINE_INFER ? "infer"
                                         : "one step of",
              title, (ll)p->arena_bytes, (ll)p->bound_bytes);
    if (p->bound_bytes)
        sb_printf(out, "%.3f", (double)p->arena_bytes / (double)p->bound_bytes);
    else
        sb_puts(out, "1.000");
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
            put_buffer(out, name, type_text(m->arena, k ? &n->more[k - 1] : &n->type), b);
        }
        if (p->scratch[i].bytes)
            put_buffer(out, arena_printf(m->arena, "(workspace of %s)", n->name), "",
                       &p->scratch[i]);
    }
    sb_putc(out, '\n');
    if (r->prepare) put_kept(out, m, r);
    /* The arena of a body is part of its loop's workspace. */
    for (size_t i = 0; i < r->nodes.len; i++)
        if (op_is(r->nodes.data[i], &op_scan))
            put_routine(out, m, ((const ScanAttrs *)r->nodes.data[i]->attrs)->body,
                        arena_printf(m->arena, "%s, loop %s", title, r->nodes.data[i]->name));
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
    sb_printf(out, "model %s: parameters %lld bytes (%lld trained), state %lld bytes\n\n", m->name,
              (ll)params, (ll)trained, (ll)state);
    for (size_t i = 0; i < m->routines.len; i++)
        put_routine(out, m, m->routines.data[i], m->routines.data[i]->name);
}
