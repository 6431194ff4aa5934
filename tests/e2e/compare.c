/* SPDX-License-Identifier: MIT
 *
 * compare EXPECTED ACTUAL TOLERANCE EXPECTED_PREFIX [ACTUAL_PREFIX [WHOLE_TOLERANCE]]
 *
 * Compares every tensor of EXPECTED whose name begins with EXPECTED_PREFIX with the tensor of the same
 * name (that prefix replaced by ACTUAL_PREFIX) of ACTUAL: relative L2 distance at most TOLERANCE for each, and at
 * most WHOLE_TOLERANCE for all of them taken as one vector. TOLERANCE 0 asks for equal values.
 *
 * NAME#sketch in EXPECTED stands for a tensor by its norm and 64 projections onto random signs: the mean
 * square of a difference's projections estimates its squared norm.
 * Fails when nothing was compared, when a tensor is missing, and on NaN.
 */
#include "tensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Squared distance to, and squared norm of, what the sketch was made from. */
static void sketch_distance(const Tensor *sketch, const Tensor *x, double *d2, double *n2)
{
    double sum = 0;
    if (sketch->count != 65) die("%s: not a sketch", sketch->name);
    for (int k = 0; k < 64; k++) {
        double p = 0;
        for (size_t i = 0; i < x->count; i++)
            p += (mix64(i) >> k & 1) ? -x->data[i] : x->data[i];
        double d = p - sketch->data[1 + k];
        sum += d * d;
    }
    *d2 = sum / 64;
    *n2 = sketch->data[0] * sketch->data[0];
}

int main(int argc, char **argv)
{
    if (argc < 5) die("usage: compare EXPECTED ACTUAL TOLERANCE EXPECTED_PREFIX [ACTUAL_PREFIX [WHOLE]]");
    Tensors expected = tensors_read(argv[1]), actual = tensors_read(argv[2]);
    double tolerance = atof(argv[3]), all_d2 = 0, all_n2 = 0, worst = 0;
    const char *from = argv[4], *to = argc > 5 ? argv[5] : "", *worst_name = "";
    int n = 0, bad = 0;
    for (size_t i = 0; i < expected.len; i++) {
        const Tensor *e = &expected.data[i];
        if (strncmp(e->name, from, strlen(from)) != 0) continue;
        char name[512];
        snprintf(name, sizeof name, "%s%s", to, e->name + strlen(from));
        char *mark = strstr(name, "#sketch");
        if (mark) *mark = 0;
        const Tensor *a = tensors_find(&actual, name);
        n++;
        if (!a) {
            printf("%s: missing in %s\n", name, argv[2]);
            bad++;
            continue;
        }
        double d2 = 0, n2 = 0;
        if (mark) {
            sketch_distance(e, a, &d2, &n2);
        } else {
            if (e->count != a->count) {
                printf("%s: %zu elements, expected %zu\n", name, a->count, e->count);
                bad++;
                continue;
            }
            for (size_t k = 0; k < e->count; k++) {
                double d = a->data[k] - e->data[k];
                d2 += d * d;
                n2 += e->data[k] * e->data[k];
            }
        }
        double r = n2 > 0 ? sqrt(d2 / n2) : sqrt(d2);
        all_d2 += d2;
        all_n2 += n2;
        if (!(r <= worst)) worst = r, worst_name = e->name;
        /* Written so that NaN fails. */
        if (!(r <= tolerance)) {
            printf("%s: relative L2 distance %.3g, allowed %.3g (norm %.4g)\n", name, r, tolerance,
                   sqrt(n2));
            bad++;
        }
    }
    if (n == 0) die("%s: no tensor begins with '%s'", argv[1], from);
    double whole = all_n2 > 0 ? sqrt(all_d2 / all_n2) : sqrt(all_d2);
    if (argc > 6 && !(whole <= atof(argv[6]))) {
        printf("all together: relative L2 distance %.3g, allowed %s\n", whole, argv[6]);
        bad++;
    }
    printf("%d tensors, %d wrong, worst %.3g (%s), all together %.3g\n", n, bad, worst, worst_name, whole);
    return bad ? 1 : 0;
}
