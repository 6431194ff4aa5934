/* SPDX-License-Identifier: MIT
 *
 * Draws a circuit of gates with the value (above) and the gradient (below) of each wire, and writes both to a file that
 * `nnc --emit=dot` draws from; then checks the gradients by moving the numbers that go in a little.
 */
#include <math.h>
#include <stdio.h>

#include "model.h"
#include "nn_safetensors.h"
#include "nn_train.h"

enum { X, Y, Z, W, PRODUCT, LARGER, SUM, F, WIRES };

static const char *const names[WIRES] = { "x", "y", "z", "w", "p", "m", "s", "f" };
static const int tensors[] = { [X] = BACKPROP_X, [Y] = BACKPROP_Y, [Z] = BACKPROP_Z, [W] = BACKPROP_W };

/* v: value, g: gradient of each wire. The trace gives them all but the parameters' values, which the program has. */
static nn_status trace(backprop *m, float *v, float *g)
{
    for (int i = X; i <= W; i++) {
        const nn_status s = backprop_get(m, tensors[i], &v[i]);
        if (s != NN_OK) return s;
    }
    return backprop_backward_trace(m, &g[X], &g[Y], &v[PRODUCT], &g[PRODUCT], &g[Z], &g[W], &v[LARGER], &g[LARGER],
                                   &v[SUM], &g[SUM], &v[F], &g[F]);
}

static void show(const float *v, const float *g)
{
    printf("  x %4g\n    %4g ---.\n", v[X], g[X]);
    printf("             (*)--- %4g\n", v[PRODUCT]);
    printf("  y %4g ---'       %4g ---.\n", v[Y], g[PRODUCT]);
    printf("    %4g                     |\n", g[Y]);
    printf("                           (+)--- %4g ---(* 2)--- %4g\n", v[SUM], v[F]);
    printf("  z %4g                     |    %4g           %4g\n", v[Z], g[SUM], g[F]);
    printf("    %4g ---.               |\n", g[Z]);
    printf("            (max)-- %4g ---'\n", v[LARGER]);
    printf("  w %4g ---'       %4g\n", v[W], g[LARGER]);
    printf("    %4g\n\n", g[W]);
}

/* Under the names that nnc --emit=dot --values looks for. */
static nn_status save(const char *path, const float *v, const float *g, char *why)
{
    nn_st_file *f = nn_st_new();
    nn_status s = f ? NN_OK : NN_ENOMEM;
    for (int i = 0; i < WIRES && s == NN_OK; i++) {
        char value[16], gradient[16];
        snprintf(value, sizeof value, i <= W ? "%s" : "value.%s", names[i]);
        snprintf(gradient, sizeof gradient, "grad.%s", names[i]);
        const nn_st_tensor *a = nn_st_add(f, value, NN_F32, 0, NULL, &v[i]);
        const nn_st_tensor *b = nn_st_add(f, gradient, NN_F32, 0, NULL, &g[i]);
        if (!a || !b) s = NN_ENOMEM;
    }
    if (s == NN_OK) s = nn_st_save(f, path, why);
    nn_st_close(f);
    return s;
}

/* df/dx by moving x both ways. f is linear in each value around this point, so the difference is exact. */
static nn_status difference(backprop *m, int tensor, float at, double *out)
{
    const float step = 0.25F;
    double f[2];
    nn_status s = NN_OK;
    for (int side = 0; side < 2 && s == NN_OK; side++) {
        float v[WIRES], g[WIRES];
        const float moved = at + (side ? step : -step);
        s = backprop_set(m, tensor, &moved);
        if (s == NN_OK) s = trace(m, v, g);
        if (s == NN_OK) f[side] = (double)v[F];
    }
    if (s == NN_OK) s = backprop_set(m, tensor, &at);
    if (s == NN_OK) *out = (f[1] - f[0]) / (2 * (double)step);
    return s;
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 1, .batch = 1, .seed = 1, .out = "backprop.safetensors" };
    const int code = nn_args_parse(&args, argc, argv, "Shows values and gradients of a small circuit.");
    if (code >= 0) return code;
    if (args.data) return nn_fail(NN_EINVAL, "--data: this example has no data");
    backprop *m = backprop_new(BACKPROP_BACKWARD_TRACE, &(nn_options){ .threads = 1 });
    if (!m) return nn_fail(NN_ENOMEM, NULL);

    float value[WIRES], gradient[WIRES];
    double worst = 0;
    char why[NN_ERROR_TEXT] = "";
    nn_status s = trace(m, value, gradient);
    if (s == NN_OK) {
        show(value, gradient);
        s = save(args.out, value, gradient, why);
    }
    for (int i = X; i <= W && s == NN_OK; i++) {
        double d = 0;
        s = difference(m, tensors[i], value[i], &d);
        printf("df/d%s: %4g, by differences %4g\n", names[i], gradient[i], d);
        worst = fmax(worst, fabs(d - (double)gradient[i]));
    }
    backprop_free(m);
    if (s != NN_OK) return nn_fail(s, *why ? why : NULL);
    printf("%s: for nnc --emit=dot --values\nlargest difference: %.6f\n", args.out, worst);
    return 0;
}
