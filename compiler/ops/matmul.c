/* SPDX-License-Identifier: MIT
 *
 * Matrix products over the last two axes, batched over the others.
 */
#include "ops/window.h"

typedef struct MatmulAttrs {
    bool trans_a, trans_b;
} MatmulAttrs;

static const AttrDef matmul_attrs[] = {
    { "trans_a", ATTR_BOOL, offsetof(MatmulAttrs, trans_a),
      .doc = "Use a with its last two axes exchanged." },
    { "trans_b", ATTR_BOOL, offsetof(MatmulAttrs, trans_b),
      .doc = "Use b with its last two axes exchanged." },
    { 0 },
};

enum { MATMUL_LEAD_AXES = 3 };

static TensorType leading(const TensorType *t)
{
    TensorType l = *t;
    l.rank -= 2;
    if (!l.rank) l.batch = NULL;
    return l;
}

static bool matmul_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    const MatmulAttrs *at = n->attrs;
    const TensorType *a = &n->in[0]->type, *b = &n->in[1]->type;
    for (int i = 0; i < 2; i++) {
        const TensorType *t = &n->in[i]->type;
        if (!want(c, t->dtype == DT_F32 && t->rank >= 2 && t->rank <= 2 + MATMUL_LEAD_AXES, IN(i),
                  "expected f32 with 2 to %d axes, got %s with %d", 2 + MATMUL_LEAD_AXES,
                  dtype_name(t->dtype), t->rank))
            return false;
    }
    const int ar = a->rank, br = b->rank;
    const int64_t m = a->dim[ar - 1 - !at->trans_a], ka = a->dim[ar - 1 - at->trans_a];
    const int64_t kb = b->dim[br - 1 - !at->trans_b], nn = b->dim[br - 1 - at->trans_b];
    /* A batched axis 0 of a matrix may be a's rows or the summed axis of both, never the result's columns. */
    const DimVar *am = ar == 2 && !at->trans_a ? a->batch : NULL,
                 *ak = ar == 2 && at->trans_a ? a->batch : NULL;
    const DimVar *bk = br == 2 && !at->trans_b ? b->batch : NULL,
                 *bn = br == 2 && at->trans_b ? b->batch : NULL;
    if (!want(c, !bn, IN(1),
              "the batch axis must stay axis 0, here it would become the result's columns") ||
        !want(c, ka == kb && ak == bk, IN(1),
              "the summed axes differ: %lld%s%s in a, %lld%s%s in b", (ll)ka, ak ? "*" : "",
              ak ? ak->name : "", (ll)kb, bk ? "*" : "", bk ? bk->name : ""))
        return false;
    const TensorType la = leading(a), lb = leading(b);
    int axis = 0;
    if (!want(c, type_broadcast(&la, &lb, out, &axis), IN(1),
              "the leading axes of a and b do not broadcast (axis %d)", axis) ||
        !want(c, !am || !out->rank, IN(0),
              "the batch axis must stay axis 0, but b has leading axes in front of it"))
        return false;
    out->layout = LAYOUT_CANONICAL;
    if (!out->rank) out->batch = am;
    out->dim[out->rank++] = m;
    out->dim[out->rank++] = nn;
    return true;
}

static Node *product(Builder *b, Node *x, bool tx, Node *y, bool ty)
{
    return mk2(b, &op_matmul, &(MatmulAttrs){ tx, ty }, x, y);
}

/* y = A B with A = a or a', B = b or b': dA = dy B', dB = A' dy, transposed back where needed. */
static void matmul_grad(Builder *bd, const Node *n, Node *const *dy, Node **dx)
{
    const MatmulAttrs *at = n->attrs;
    Node *a = n->in[0], *b = n->in[1], *d = dy[0];
    const bool ta = at->trans_a, tb = at->trans_b;
    Node *da = ta ? product(bd, b, tb, d, true) : product(bd, d, false, b, !tb);
    dx[0] = mk_reduce_to(bd, da, &a->type);
    if (b->type.rank == 2 && a->type.rank > 2 && !ta) {
        /* One matrix for many products: their rows are one long matrix, so the sum over them is one product. */
        TensorType rows = a->type, cols = d->type;
        rows.rank = cols.rank = 2;
        rows.dim[0] = cols.dim[0] = type_numel(&a->type, 0, a->type.rank - 1);
        rows.dim[1] = a->type.dim[a->type.rank - 1];
        cols.dim[1] = d->type.dim[d->type.rank - 1];
        a = mk_reshape_like(bd, a, &rows);
        d = mk_reshape_like(bd, d, &cols);
    }
    Node *db = tb ? product(bd, d, true, a, ta) : product(bd, a, !ta, d, false);
    dx[1] = mk_reduce_to(bd, db, &b->type);
}

/* Two matrices in each step: the axis of time joins the summed one where it lies beside it, in both operands in the
 * same order. */
static Node *matmul_sum_steps(Builder *b, Node *n, int axis, Node *const *in)
{
    const MatmulAttrs *at = n->attrs;
    const bool summed_first = at->trans_a;
    Node *merged[2];
    if (at->trans_a == at->trans_b || (axis == 0 && !summed_first) || n->in[0]->type.rank != 2 ||
        n->in[1]->type.rank != 2)
        return NULL;
    if (!in) return n;
    for (int i = 0; i < 2; i++) {
        TensorType t = in[i]->type;
        const int at_axis = summed_first ? 0 : 1;
        t.dim[at_axis] *= t.dim[at_axis + 1];
        t.dim[1] = summed_first ? t.dim[2] : t.dim[1];
        t.dim[2] = 0;
        t.rank = 2;
        merged[i] = mk_reshape_like(b, in[i], &t);
    }
    return product(b, merged[0], at->trans_a, merged[1], at->trans_b);
}

static Work matmul_work(const Node *n)
{
    const MatmulAttrs *at = n->attrs;
    const TensorType *a = &n->in[0]->type;
    return (Work){ .macs =
                       type_numel(&n->type, 0, n->type.rank) * a->dim[a->rank - 1 - at->trans_a] };
}

/* Distance, in matrices, from one entry of leading axis i (from the left of the result) to the next. */
static ll lead_step(const TensorType *t, const TensorType *y, int i)
{
    const int own = i - (y->rank - t->rank);
    if (own < 0 || (t->dim[own] == 1 && !(own == 0 && t->batch))) return 0;
    return (ll)type_numel(t, own + 1, t->rank);
}

/* Measured with one thread on AVX-512, GFLOP/s of the tiles and of OpenBLAS, m x k x n: 512 x 1024 x 1024 95 and 108,
 * 256 x 1024 x 4096 70 and 89, 256 x 3072 x 512 95 and 106; but 256 x 784 x 512 151 and 114, 512 x 512 x 1024 109 and
 * 108. So it pays once b does not fit the near caches. */
static bool goes_to_blas(const TensorType *b)
{
    const int64_t rows = b->dim[b->rank - 2], cols = b->dim[b->rank - 1];
    return !(b->rank == 2 && b->batch) && rows * cols >= 1024 * 1024 && rows <= INT32_MAX &&
           cols <= INT32_MAX;
}

static void matmul_emit(CWriter *w, const Node *n)
{
    const MatmulAttrs *at = n->attrs;
    const TensorType *a = &n->in[0]->type, *b = &n->in[1]->type, *y = &n->type;
    const int lead = y->rank - 2;
    const char *m_batch = y->rank == 2 && y->batch ? "$batch * " : "";
    const char *k_batch = a->rank == 2 && at->trans_a && a->batch ? "$batch * " : "";
    const char *l_batch = lead && y->batch ? "$batch * " : "";
    ll size[MATMUL_LEAD_AXES] = { 1, 1, 1 }, sa[MATMUL_LEAD_AXES] = { 0 },
       sb[MATMUL_LEAD_AXES] = { 0 };
    for (int i = 0; i < lead; i++) {
        const int to = i + (i ? MATMUL_LEAD_AXES - lead : 0);
        size[to] = (ll)y->dim[i];
        sa[to] = lead_step(a, y, i);
        sb[to] = lead_step(b, y, i);
    }
    cw_stmt(
        w, n,
        "nn_matmul%s($team, %s%lld, %lld, %lld, NN_STEPS(%lld, %lld, %lld), NN_STEPS(%lld, %lld, %lld), "
        "%s%lld, %lld, %s%lld, %d, %d, $0, $1, $out, $acc);",
        cw_use_blas(w) && goes_to_blas(b) ? "_blas" : "", l_batch, size[0], size[1], size[2], sa[0],
        sa[1], sa[2], sb[0], sb[1], sb[2], m_batch, (ll)y->dim[y->rank - 2],
        (ll)y->dim[y->rank - 1], k_batch, (ll)a->dim[a->rank - 1 - at->trans_a], at->trans_a,
        at->trans_b);
}

const OpDesc op_matmul = {
    .name = "matmul",
    .summary = "matrix product over the last two axes",
    .doc =
        "`y[.., i, j] = sum over k of a[.., i, k] * b[.., k, j]`; the leading axes broadcast. `trans_a` and `trans_b` "
        "exchange the last two axes of an operand first. With `trans_a` two matrices may be multiplied over their "
        "common batch axis.",
    .torch = "matmul",
    .in = { "a", "b" },
    .attrs = matmul_attrs,
    .attr_size = sizeof(MatmulAttrs),
    .flags = OPF_ACCUMULATE,
    .shape = matmul_shape,
    .grad = matmul_grad,
    .work = matmul_work,
    .emit = matmul_emit,
    .sum_steps = matmul_sum_steps,
    .onnx = "MatMul",
    .gradient = "da = dy b', db = a' dy, summed over axes that were stretched",
    .samples = SAMPLES({ "matmul(a: f32[5,7], b: f32[7,3])", "f32[5,3]" },
                       { "matmul(a: f32[7,5], b: f32[7,19], trans_a = true)", "f32[5,19]" },
                       { "matmul(a: f32[2,5,37], b: f32[2,3,37], trans_b = true)", "f32[2,5,3]" },
                       { "matmul(a: f32[2,3,7,5], b: f32[2,1,2,7], trans_a = true, trans_b = true)",
                         "f32[2,3,5,2]" },
                       { "matmul(a: f32[3,2,5], b: f32[5,4])", "f32[3,2,4]" },
                       { "matmul(a: f32[4,5], b: f32[3,5,1])", "f32[3,4,1]" },
                       { "matmul(a: f32[2,1,1], b: f32[2,1,1])", "f32[2,1,1]" }),
};
