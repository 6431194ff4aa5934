/* SPDX-License-Identifier: MIT
 *
 * Draws a circuit of gates with the value (above) and the gradient (below) of each wire, as text and as a Graphviz
 * file; then checks each gradient by moving the value a little.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model.h"
#include "nn_train.h"

/* A wire of the circuit: what feeds it, and where its gradient is. */
typedef struct Wire {
    const char *name, *gate;
    int tensor, from[2]; /* wires, -1: none */
} Wire;

enum { X, Y, Z, W, PRODUCT, LARGER, TOTAL, F, WIRES };

static const Wire wires[WIRES] = {
    [X] = { "x", NULL, BACKPROP_X, { -1, -1 } },
    [Y] = { "y", NULL, BACKPROP_Y, { -1, -1 } },
    [Z] = { "z", NULL, BACKPROP_Z, { -1, -1 } },
    [W] = { "w", NULL, BACKPROP_W, { -1, -1 } },
    [PRODUCT] = { "p", "*", BACKPROP_PRODUCT_D, { X, Y } },
    [LARGER] = { "m", "max", BACKPROP_LARGER_D, { Z, W } },
    [TOTAL] = { "s", "+", BACKPROP_TOTAL_D, { PRODUCT, LARGER } },
    [F] = { "f", "* 2", BACKPROP_F_D, { TOTAL, -1 } },
};

static nn_status run(backprop *m, double *value, double *gradient)
{
    backprop_backward_out out = { 0 };
    float number;
    backprop_reset(m, 1); /* clears the gradients of the run before */
    nn_status s = backprop_backward_grad(m, &out);
    for (int i = 0; i < WIRES && s == NN_OK; i++) {
        s = backprop_get(m, wires[i].tensor, &number);
        value[i] = (double)number;
        if (s == NN_OK) s = backprop_get_grad(m, wires[i].tensor, &number);
        gradient[i] = (double)number;
    }
    value[PRODUCT] = (double)out.p, value[LARGER] = (double)out.m, value[TOTAL] = (double)out.s;
    value[F] = (double)out.loss;
    return s;
}

static void show(const double *v, const double *g)
{
    printf("  x %4g\n    %4g ---.\n", v[X], g[X]);
    printf("             (*)--- %4g\n", v[PRODUCT]);
    printf("  y %4g ---'       %4g ---.\n", v[Y], g[PRODUCT]);
    printf("    %4g                     |\n", g[Y]);
    printf("                           (+)--- %4g ---(* 2)--- %4g\n", v[TOTAL], v[F]);
    printf("  z %4g                     |    %4g           %4g\n", v[Z], g[TOTAL], g[F]);
    printf("    %4g ---.               |\n", g[Z]);
    printf("            (max)-- %4g ---'\n", v[LARGER]);
    printf("  w %4g ---'       %4g\n", v[W], g[LARGER]);
    printf("    %4g\n\n", g[W]);
}

static nn_status write_dot(const char *path, const double *value, const double *gradient)
{
    FILE *f = fopen(path, "w");
    if (!f) return NN_EIO;
    fprintf(f, "digraph backprop {\n  rankdir=LR;\n  node [shape=circle, fontname=\"Helvetica\"];\n"
               "  edge [fontname=\"Helvetica\"];\n  out [shape=plaintext, label=\"\"];\n");
    for (int i = 0; i < WIRES; i++)
        fprintf(f, "  %s [label=\"%s\"%s];\n", wires[i].name, wires[i].gate ? wires[i].gate : wires[i].name,
                wires[i].gate ? "" : ", shape=plaintext");
    for (int i = 0; i <= WIRES; i++)
        for (int k = 0; k < 2; k++) {
            const int from = i < WIRES ? wires[i].from[k] : k == 0 ? F : -1;
            if (from < 0) continue;
            fprintf(f, "  %s -> %s [label=<<font color=\"darkgreen\">%g</font><br/>", wires[from].name,
                    i < WIRES ? wires[i].name : "out", value[from]);
            fprintf(f, "<font color=\"red\">%g</font>>];\n", gradient[from]);
        }
    fprintf(f, "}\n");
    const int bad = ferror(f);
    return fclose(f) != 0 || bad ? NN_EIO : NN_OK;
}

/* df/dx by moving x both ways. f is linear in each value around this point, so the difference is exact. */
static nn_status difference(backprop *m, int tensor, double *out)
{
    const float step = 0.25F;
    double f[2];
    for (int side = 0; side < 2; side++) {
        backprop_backward_out result = { 0 };
        float v;
        backprop_reset(m, 1);
        nn_status s = backprop_get(m, tensor, &v);
        v += side ? step : -step;
        if (s == NN_OK) s = backprop_set(m, tensor, &v);
        if (s == NN_OK) s = backprop_backward_grad(m, &result);
        if (s != NN_OK) return s;
        f[side] = (double)result.loss;
    }
    *out = (f[1] - f[0]) / (2 * (double)step);
    return NN_OK;
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 1, .batch = 1, .seed = 1, .out = "backprop.dot" };
    int code = nn_args_parse(&args, argc, argv, "Draws values and gradients of a small circuit as a Graphviz file.");
    if (code >= 0) return code;
    if (args.data) return nn_fail(NN_EINVAL, "--data: this example has no data");
    backprop *m = backprop_new(BACKPROP_BACKWARD, &(nn_options){ .threads = 1 });
    if (!m) return nn_fail(NN_ENOMEM, NULL);

    double value[WIRES], gradient[WIRES], worst = 0;
    nn_status s = run(m, value, gradient);
    if (s != NN_OK) return nn_fail(s, NULL);
    show(value, gradient);
    s = write_dot(args.out, value, gradient);
    if (s != NN_OK) {
        code = nn_fail(s, strerror(errno));
    } else {
        for (int i = 0; i < WIRES && s == NN_OK; i++) {
            double d = 0;
            s = difference(m, wires[i].tensor, &d);
            printf("df/d%s: %4g, by differences %4g\n", wires[i].name, gradient[i], d);
            worst = fmax(worst, fabs(d - gradient[i]));
        }
        if (s != NN_OK) code = nn_fail(s, NULL);
        else printf("%s: the picture (dot -Tsvg)\nlargest difference: %.6f\n", args.out, worst);
    }
    backprop_free(m);
    return s == NN_OK ? 0 : code;
}
