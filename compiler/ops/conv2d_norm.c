/* SPDX-License-Identifier: MIT
 *
 * Convolutions with what follows in training: forward with the moments that batch norm begins with, backward with the
 * gradient of another branch, relu's gradient and the sums that batch norm's gradient begins with. The kernels do it
 * piece by piece while the result is near (runtime/kernels/conv2d_norm.h); weights that do not stay near beside it
 * would be read again for each piece, so such layers keep to one pass after the other.
 */
#include "ops/conv2d_norm.h"

enum { NEAR_WEIGHTS = 131072, NEAR_KERNELS = 16384 }; /* NN_WALK_FAR, nn_winograd_far */

static bool is_near(WinogradPass pass, const TensorType *x, const TensorType *y, const TensorType *w,
                    const ConvAttrs *a)
{
    if (winograd_tile(pass, x, y, w, a)) return w->dim[0] * w->dim[1] <= NEAR_KERNELS;
    return type_numel(w, 0, 4) <= NEAR_WEIGHTS;
}

/* ---- forward ---- */

static bool conv2d_moments_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    if (!op_conv2d.shape(c, n, out)) return false;
    out[1] = type_of(DT_F32, 1, (int64_t[]){ norm_sums_numel(out[0].dim[1]) });
    return true;
}

static void conv2d_moments_emit(CWriter *w, const Node *n)
{
    const ConvAttrs *a = n->attrs;
    const TensorType *x = &n->in[0]->type, *wt = &n->in[1]->type;
    cw_stmt(w, n, "nn_conv2d%s_moments($team, %s, %s, $relu, $0, $1, $2, $scratch, $out, $out1);",
            conv_form(WINOGRAD_Y, x, &n->type, wt, a), rows_text(x, 1).s,
            conv2d_text(WINOGRAD_Y, x, &n->type, wt, a).s);
}

const OpDesc op_conv2d_moments = {
    .name = "conv2d_moments",
    .summary = "conv2d with the moments of its result",
    .doc = "Result 1 are the moments of each channel as runtime/kernels/norm.h describes them.",
    .in = { "x", "weight", "bias?" },
    .attrs = conv2d_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_INTERNAL | OPF_CHANNELS_LAST,
    .n_results = 2,
    .operand_layout = conv2d_operand_layout,
    .shape = conv2d_moments_shape,
    .no_grad = "it is made when gradients are there already",
    .work = conv2d_work,
    .scratch = conv2d_scratch,
    .emit = conv2d_moments_emit,
};

Node *conv2d_with_sums(Builder *b, const Node *n, int n_over, Node *const *over)
{
    (void)over; /* moments need none */
    if (n_over || !is_near(WINOGRAD_Y, &n->in[0]->type, &n->type, &n->in[1]->type, n->attrs)) return NULL;
    return mk3(b, &op_conv2d_moments, n->attrs, n->in[0], n->in[1], n->in[2]);
}

/* ---- backward ---- */

static bool dx_is_near(const Node *n)
{
    const ConvAttrs *a = n->attrs;
    const TensorType *w = &n->in[1]->type;
    return is_near(WINOGRAD_DX, &n->type, &n->in[0]->type, w, a) && n->type.dim[2] % a->stride[0] == 0;
}

static void conv2d_dx_act_call(CWriter *w, const Node *n, const char *operands)
{
    const TensorType *dy = &n->in[0]->type, *wt = &n->in[1]->type;
    cw_stmt(w, n, "nn_conv2d%s_act_dx($team, %s, %s, $0, $1, $2, $3, %s);",
            conv_form(WINOGRAD_DX, &n->type, dy, wt, n->attrs), rows_text(&n->type, 1).s,
            conv2d_text(WINOGRAD_DX, &n->type, dy, wt, n->attrs).s, operands);
}

static void conv2d_dx_act_emit(CWriter *w, const Node *n)
{
    conv2d_dx_act_call(w, n, "NULL, NULL, NULL, NULL, $scratch, $out, NULL");
}

static void conv2d_dx_sums_emit(CWriter *w, const Node *n)
{
    conv2d_dx_act_call(w, n, "$4, $5, $6, $7, $scratch, $out, $out1");
}

static bool conv2d_dx_sums_shape(ShapeCtx *c, const Node *n, TensorType *out)
{
    shape_from_attr(c, n, out);
    out[1] = type_of(DT_F32, 1, (int64_t[]){ norm_sums_numel(out[0].dim[1]) });
    return true;
}

Node *conv2d_dx_fuse_epilogue(Builder *b, const Node *n, const Node *user)
{
    return dx_is_near(n) ? dx_with_act(b, n, &op_conv2d_dx_act, user) : NULL;
}

Node *conv2d_dx_with_sums(Builder *b, const Node *n, int n_over, Node *const *over)
{
    const bool acts = op_is(n, &op_conv2d_dx_act);
    if (n_over != NORM_DX_OVER || !dx_is_near(n)) return NULL;
    Node *in[] = { n->in[0], n->in[1], acts ? n->in[2] : NULL, acts ? n->in[3] : NULL, over[0], over[1], over[2],
                   over[3] };
    return mk(b, &op_conv2d_dx_sums, n->attrs, 8, in);
}

const OpDesc op_conv2d_dx_act = {
    .name = "conv2d_dx_act",
    .summary = "conv2d_dx, the sum with another branch and relu's gradient of it",
    .doc = "`conv2d_dx(dy, weight)`, plus `add` where it is given, and 0 where `y <= 0` with y, relu's result.",
    .in = { "dy", "weight", "add?", "y?" },
    .attrs = conv2d_grad_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_INTERNAL | OPF_CHANNELS_LAST,
    .operand_layout = conv2d_operand_layout,
    .shape = shape_from_attr,
    .no_grad = "it is made when gradients are there already",
    .work = conv2d_dx_work,
    .scratch = conv2d_dx_scratch,
    .emit = conv2d_dx_act_emit,
    .fuse_epilogue = conv2d_dx_fuse_epilogue,
    .with_sums = conv2d_dx_with_sums,
};

const OpDesc op_conv2d_dx_sums = {
    .name = "conv2d_dx_sums",
    .summary = "conv2d_dx_act with the sums that batch norm's gradient begins with",
    .doc = "Result 1 are the sums of result 0 with x and its mean as runtime/kernels/norm.h describes them; with "
           "`scale` and `shift` they leave out what batch_norm_train_dx takes for 0.",
    .in = { "dy", "weight", "add?", "y?", "x", "mean", "scale?", "shift?" },
    .attrs = conv2d_grad_attrs,
    .attr_size = sizeof(ConvAttrs),
    .flags = OPF_INTERNAL | OPF_CHANNELS_LAST,
    .n_results = 2,
    .operand_layout = conv2d_operand_layout,
    .shape = conv2d_dx_sums_shape,
    .no_grad = "it is made when gradients are there already",
    .work = conv2d_dx_work,
    .scratch = conv2d_dx_scratch,
    .emit = conv2d_dx_sums_emit,
};
