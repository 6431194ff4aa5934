/* SPDX-License-Identifier: MIT
 *
 * Window arithmetic of convolution and pooling; see window.h.
 */
#include "ops/window.h"

#include <stdio.h>

void window_pad_get(const IntList *list, int64_t pad[4])
{
    for (int i = 0; i < 4; i++)
        pad[i] = list->n == 0   ? 0
                 : list->n == 1 ? list->v[0]
                 : list->n == 2 ? list->v[i % 2]
                                : list->v[i];
}

bool window_pad(ShapeCtx *c, const IntList *list, int64_t pad[4])
{
    if (!want(c, list->n == 0 || list->n == 1 || list->n == 2 || list->n == 4, ATTR(pad),
              "pad is one number, [h, w] or [top, left, bottom, right], got %d numbers", list->n))
        return false;
    window_pad_get(list, pad);
    for (int i = 0; i < 4; i++)
        if (!want(c, pad[i] >= 0 && pad[i] <= INT32_MAX, ATTR(pad),
                  "pad must be 0 or more, got %lld", (ll)pad[i]))
            return false;
    return true;
}

bool window_count(ShapeCtx *c, WindowAxis a, int64_t *n)
{
    static const char *const size_name[] = { "height", "width" }, *const lines[] = { "row",
                                                                                     "column" };
    const char *what = size_name[a.axis];
    const int64_t padded = a.in + a.before + a.after, window = (a.k - 1) * a.dilation + 1,
                  room = padded - window;
    if (!want(
            c, room >= 0, IN(a.operand),
            "the window is larger than the padded image: %s %lld (kernel %lld, dilation %lld) over %lld + %lld + %lld",
            what, (ll)window, (ll)a.k, (ll)a.dilation, (ll)a.before, (ll)a.in, (ll)a.after))
        return false;
    const int64_t over = room % a.stride;
    *n = room / a.stride + 1;
    if (!over) return true;
    if (!a.ceil) {
        shape_warn(
            c, ATTR(stride), "rounding",
            "%s (%lld - %lld + %lld)/%lld + 1 rounds down to %lld and drops the last %lld %s%s of the padded image",
            what, (ll)a.in, (ll)window, (ll)(a.before + a.after), (ll)a.stride, (ll)*n, (ll)over,
            lines[a.axis], over == 1 ? "" : "s");
        return true;
    }
    if (*n * a.stride >= a.in + a.before) {
        shape_warn(
            c, ATTR(stride), "rounding",
            "%s (%lld - %lld + %lld)/%lld + 1 would round up to %lld, but the last window would start beyond "
            "the image: it is dropped, and with it the last %lld %s%s of the padded image",
            what, (ll)a.in, (ll)window, (ll)(a.before + a.after), (ll)a.stride, (ll)(*n + 1),
            (ll)over, lines[a.axis], over == 1 ? "" : "s");
        return true;
    }
    ++*n;
    shape_warn(
        c, ATTR(stride), "rounding",
        "%s (%lld - %lld + %lld)/%lld + 1 rounds up to %lld; the last window hangs over the padded image by %lld %s%s",
        what, (ll)a.in, (ll)window, (ll)(a.before + a.after), (ll)a.stride, (ll)*n,
        (ll)(a.stride - over), lines[a.axis], a.stride - over == 1 ? "" : "s");
    return true;
}

bool sample_is_large(const TensorType *t)
{
    enum { LARGE = 32768 };
    return type_numel(t, 1, t->rank) >= LARGE;
}

RowsText rows_text(const TensorType *t, int upto)
{
    RowsText r;
    const int64_t count = type_numel(t, 0, upto);
    if (!t->batch || !upto)
        snprintf(r.s, sizeof r.s, "%lld", (ll)count);
    else if (count == 1)
        snprintf(r.s, sizeof r.s, "$batch");
    else
        snprintf(r.s, sizeof r.s, "$batch * %lld", (ll)count);
    return r;
}

RowsText share_text(const TensorType *t, int upto)
{
    RowsText r;
    const int64_t count = type_numel(t, 1, upto);
    if (count == 1)
        snprintf(r.s, sizeof r.s, "$rows");
    else
        snprintf(r.s, sizeof r.s, "($rows) * %lld", (ll)count);
    return r;
}

Node *layer_with_affine(Builder *b, const Node *n, int out_axis, Node *scale, Node *shift)
{
    TensorType along = { .dtype = DT_F32, .rank = n->in[1]->type.rank };
    for (int i = 0; i < along.rank; i++) along.dim[i] = i == out_axis ? scale->type.dim[0] : 1;
    Node *factors = mk_reshape_like(b, scale, &along);
    b->name = arena_printf(b->module->arena, "%s_weight", n->name);
    Node *weight = mk_mul(b, n->in[1], factors), *bias = shift;
    if (n->in[2]) {
        Node *scaled = mk_mul(b, n->in[2], scale);
        b->name = arena_printf(b->module->arena, "%s_bias", n->name);
        bias = mk_add(b, scaled, shift);
    }
    return mk3(b, n->op, n->attrs, n->in[0], weight, bias);
}

Node *branch_beside(const Node *n, const Node *user)
{
    Node *other = user->n_in > 1 ? user->in[1] : NULL;
    return other && type_equal(&other->type, &n->type) && other->type.layout == n->type.layout ? other : NULL;
}

Node *dx_with_act(Builder *b, const Node *n, const OpDesc *act, const Node *user)
{
    const bool acts = op_is(n, act);
    Node *add = acts ? n->in[2] : NULL, *other = branch_beside(n, user);
    if (!other || (acts && n->in[3])) return NULL;
    if (op_is(user, &op_add) && !add) return mk3(b, act, n->attrs, n->in[0], n->in[1], other);
    if (op_is(user, &op_relu_dx) && !batch_norm_masks(other))
        return mk4(b, act, n->attrs, n->in[0], n->in[1], add, other);
    return NULL;
}

Node *prepared_weight(Builder *b, const Node *n, const OpDesc *op, const void *attrs, const char *suffix)
{
    const char *name = b->name;
    b->name = arena_printf(b->module->arena, "%s_%s", n->name, suffix);
    Node *w = mk1(b, op, attrs, n->in[1]);
    b->name = name;
    return w;
}
