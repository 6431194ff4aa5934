/* SPDX-License-Identifier: MIT
 *
 * What the rewrite rules and emit hooks of operators share. A rule returns an equal but simpler
 * value; each states above itself why rewriting ends.
 */
#include "ops/op.h"

#include <float.h>
#include <stdio.h>

bool const_is(const Node *x, double value)
{
    double v;
    return node_const_value(x, &v) && v == value;
}

bool same_as(const Node *x, const Node *n)
{
    return type_equal(&x->type, &n->type) && x->type.layout == n->type.layout;
}

static Node *fold_to(Builder *b, const Node *n, double v)
{
    const double size = fabs(v);
    if (v != 0 && !(size >= (double)FLT_MIN && size <= (double)FLT_MAX)) return NULL;
    return mk_fill(b, &n->type, v);
}

/* f(constant) is a constant: a constant has no operands left to rewrite. */
Node *fold1(Builder *b, const Node *n, double (*f)(double))
{
    double x;
    return node_const_value(n->in[0], &x) ? fold_to(b, n, f(x)) : NULL;
}

/* f(constant, constant), likewise. */
Node *fold2(Builder *b, const Node *n, double (*f)(double, double))
{
    double x, y;
    if (!node_const_value(n->in[0], &x) || !node_const_value(n->in[1], &y)) return NULL;
    return fold_to(b, n, f(x, y));
}

Times by(int64_t factor)
{
    Times t = { "" };
    if (factor != 1) snprintf(t.text, sizeof t.text, " * %lld", (ll)factor);
    return t;
}
