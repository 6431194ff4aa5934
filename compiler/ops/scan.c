/* SPDX-License-Identifier: MIT
 *
 * The time loop. One node whose attribute holds the body, a routine that is run once per step; what
 * its operands and results are stands at ScanAttrs in ir/op.h. Passes treat the body as a routine of
 * its own, autodiff derives it (passes/autodiff.c), the C writer writes it (emit/scan.c).
 */
#include "ir/scan.h"
#include "ir/shape_ctx.h"
#include "ops/op.h"

static const AttrDef scan_table[] = {
    { "body", ATTR_PTR, offsetof(ScanAttrs, body), .doc = "What one step computes." },
    { "length", ATTR_INT, offsetof(ScanAttrs, length), .def = 1, .min = 1, .max = 1 << 24,
      .doc = "Number of steps." },
    { "axis", ATTR_INT, offsetof(ScanAttrs, axis), .def = 1, .min = 0, .max = MAX_RANK,
      .doc = "Axis of slices and stacks." },
    { "seqs", ATTR_INT, offsetof(ScanAttrs, n_seqs), .def = 0, .min = 0, .max = 1 << 20,
      .doc = "Operands that are sliced; they come first." },
    { "carries", ATTR_INT, offsetof(ScanAttrs, n_carries), .def = 0, .min = 0, .max = 1 << 20,
      .doc = "Operands that are initial values; they come next." },
    { "reverse", ATTR_BOOL, offsetof(ScanAttrs, reverse),
      .doc = "From the last step to the first." },
    { 0 },
};

static bool scan_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const ScanAttrs *s = n->attrs;
    Arena *a = c->builder->module->arena;
    if (!want(c, s->body && s->length >= 1 && s->axis >= 0 && s->n_seqs >= 0 && s->n_carries >= 0,
              ATTR(length), "a loop has a body and runs at least once"))
        return false;
    const Routine *body = s->body;
    if (!want(c,
              body->inputs.len == (size_t)n->n_in && s->n_seqs + s->n_carries <= n->n_in &&
                  body->outputs.len >= (size_t)s->n_carries && body->outputs.len <= OP_MAX_RESULTS,
              ATTR(seqs), "the body has %zu inputs and %zu outputs, which does not fit",
              body->inputs.len, body->outputs.len))
        return false;
    for (int i = 0; i < n->n_in; i++) {
        const TensorType *t = &body->inputs.data[i].type;
        TensorType whole = *t;
        if (scan_role(s, i) == SCAN_SEQUENCE &&
            !want(c, scan_stack_type(s, t, &whole), IN(i), "more than %d axes", MAX_RANK))
            return false;
        if (!want(c, type_equal(&whole, &n->in[i]->type), IN(i),
                  "the body takes %s, the operand is %s", type_text(a, &whole),
                  type_text(a, &n->in[i]->type)))
            return false;
    }
    for (size_t k = 0; k < body->outputs.len; k++) {
        const TensorType *t = &body->outputs.data[k].type;
        out[k] = *t;
        out[k].layout = LAYOUT_CANONICAL;
        if ((int64_t)k < s->n_carries) {
            if (!want(c, type_equal(t, &body->inputs.data[s->n_seqs + (int64_t)k].type),
                      ATTR(carries), "carry %zu is %s before a step and %s after it", k,
                      type_text(a, &body->inputs.data[s->n_seqs + (int64_t)k].type),
                      type_text(a, t)))
                return false;
        } else if (!want(c, scan_stack_type(s, t, &out[k]), ATTR(axis), "more than %d axes",
                         MAX_RANK)) {
            return false;
        }
    }
    return true;
}

static Work scan_work(const Node *n)
{
    const ScanAttrs *s = n->attrs;
    Work sum = { 0 };
    for (size_t i = 0; i < s->body->nodes.len; i++) {
        const Node *x = s->body->nodes.data[i];
        if (op_has(x, OPF_SOURCE | OPF_ROOT | OPF_VIEW)) continue;
        const Work w =
            x->op->work ? x->op->work(x) : (Work){ .flops = type_numel(&x->type, 0, x->type.rank) };
        sum.macs += s->length * w.macs;
        sum.flops += s->length * w.flops;
    }
    return sum;
}

/* What the check pass found for the body's own input. */
static int64_t scan_index_limit(const Node *n, int operand)
{
    return scan_attrs(n)->body->inputs.data[operand].index_limit;
}

static bool scan_index_ignore(const Node *n, int operand, int64_t *value)
{
    const Port *p = &scan_attrs(n)->body->inputs.data[operand];
    *value = p->index_ignore;
    return p->has_ignore;
}

const OpDesc op_scan = {
    .name = "scan",
    .summary = "a loop over time",
    .doc =
        "Runs a body once per step, with slices of sequences and the carries of the step before.",
    .in = { "x*" },
    .attrs = scan_table,
    .attr_size = sizeof(ScanAttrs),
    .flags = OPF_INTERNAL,
    .shape = scan_shape,
    .no_grad = "autodiff derives its body",
    .work = scan_work,
    .index_limit = scan_index_limit,
    .index_ignore = scan_index_ignore,
};
