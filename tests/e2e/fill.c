/* SPDX-License-Identifier: MIT
 *
 * fill SPEC OUTPUT [PREFIX...]: writes a safetensors file with the tensors a reference was computed from.
 *
 * The first line of SPEC is `seed N`, each further one `NAME DTYPE D0,D1,.. LO HI`. Element i of tensor NAME is
 *     LO + (HI - LO) * (mix64(i + fnv1a("N/NAME")) >> 40) / 2^24
 * rounded to float, or floored for I32: the formula of make_reference.py, so that big weights need not be
 * stored. With PREFIX arguments only tensors whose names begin with one of them are written.
 */
#include "tensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t fnv1a(const char *s)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001B3u;
    return h;
}

int main(int argc, char **argv)
{
    if (argc < 3) die("usage: fill SPEC OUTPUT [PREFIX...]");
    FILE *f = fopen(argv[1], "r");
    if (!f) die("%s: cannot be opened", argv[1]);
    unsigned long seed;
    if (fscanf(f, "seed %lu", &seed) != 1) die("%s: no seed", argv[1]);

    Tensors out = { NULL, 0 };
    char name[256], dtype[8], shape[128], salted[300];
    double lo, hi;
    while (fscanf(f, "%255s %7s %127s %lf %lf", name, dtype, shape, &lo, &hi) == 5) {
        int chosen = argc == 3;
        for (int i = 3; i < argc; i++) chosen |= !strncmp(name, argv[i], strlen(argv[i]));
        if (!chosen) continue;
        out.data = realloc(out.data, (out.len + 1) * sizeof *out.data);
        Tensor *t = &out.data[out.len++];
        memset(t, 0, sizeof *t);
        t->name = strdup(name);
        snprintf(t->dtype, sizeof t->dtype, "%s", dtype);
        t->count = 1;
        for (char *p = strtok(shape, ","); p; p = strtok(NULL, ",")) {
            t->shape[t->rank++] = atoll(p);
            t->count *= (size_t)atoll(p);
        }
        t->data = malloc(t->count * sizeof *t->data);
        snprintf(salted, sizeof salted, "%lu/%s", seed, name);
        uint64_t h = fnv1a(salted);
        for (size_t i = 0; i < t->count; i++) {
            double u = (double)(mix64(h + i) >> 40) * 0x1p-24, x = lo + (hi - lo) * u;
            t->data[i] = !strcmp(dtype, "I32") ? floor(x) : (double)(float)x;
        }
    }
    if (!feof(f)) die("%s: a line is not NAME DTYPE SHAPE LO HI", argv[1]);
    tensors_write(argv[2], &out);
    return 0;
}
