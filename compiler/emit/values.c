/* SPDX-License-Identifier: MIT
 *
 * Reads tensors of a safetensors file. In: a file that anything may have written. Out: statistics, or a sentence.
 * Invariant: nothing is read that the file's size, its header and the tensor's own shape do not agree about; the
 * file is read piece by piece, so its size costs no memory.
 */
#include "emit/values.h"

#include <errno.h>
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LENGTH_BYTES = 8, HEADER_MAX = 100000000, PIECE = 1 << 16 };

struct Values {
    Arena *arena;
    FILE *file;
    json_t *header;
    int64_t data_at, data_len;
};

typedef struct Element {
    const char *name;
    size_t size;
    double (*get)(const unsigned char *p);
} Element;

/* The format is little-endian whatever the machine is. */
static uint64_t bits_of(const unsigned char *p, int n)
{
    uint64_t x = 0;
    for (int i = n; i-- > 0;) x = x << 8 | p[i];
    return x;
}

static double get_f32(const unsigned char *p)
{
    const uint32_t x = (uint32_t)bits_of(p, 4);
    float f;
    memcpy(&f, &x, sizeof f);
    return (double)f;
}

static double get_f64(const unsigned char *p)
{
    const uint64_t x = bits_of(p, 8);
    double f;
    memcpy(&f, &x, sizeof f);
    return f;
}

static double get_i32(const unsigned char *p)
{
    const int64_t x = (int64_t)bits_of(p, 4);
    return (double)(x < INT64_C(0x80000000) ? x : x - INT64_C(0x100000000));
}

static double get_i64(const unsigned char *p)
{
    const uint64_t x = bits_of(p, 8);
    return x >> 63 ? -(double)(~x + 1) : (double)x;
}

static double get_u8(const unsigned char *p)
{
    return (double)*p;
}

static const Element elements[] = {
    { "F32", 4, get_f32 }, { "F64", 8, get_f64 }, { "I32", 4, get_i32 },
    { "I64", 8, get_i64 }, { "U8", 1, get_u8 },   { "BOOL", 1, get_u8 },
};
enum { N_ELEMENTS = sizeof elements / sizeof *elements };

/* Reads the header. NULL, or what is wrong. */
static const char *read_header(Values *v, int64_t size)
{
    unsigned char length[LENGTH_BYTES];
    if (fread(length, 1, sizeof length, v->file) != sizeof length) return "not a safetensors file: it is too short";
    const uint64_t n = bits_of(length, LENGTH_BYTES);
    if (n > HEADER_MAX || (int64_t)n > size - LENGTH_BYTES)
        return arena_printf(v->arena, "not a safetensors file: a header of %llu bytes in a file of %lld",
                            (unsigned long long)n, (long long)size);
    char *text = arena_alloc(v->arena, (size_t)n + 1);
    if (fread(text, 1, (size_t)n, v->file) != n) return "the header cannot be read";
    json_error_t error;
    v->header = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &error);
    if (!v->header) return arena_printf(v->arena, "the header is not JSON: %s", error.text);
    if (!json_is_object(v->header)) return "the header is not a JSON object";
    v->data_at = LENGTH_BYTES + (int64_t)n;
    v->data_len = size - v->data_at;
    return NULL;
}

Values *values_open(Arena *a, const char *path, const char **fault)
{
    Values *v = ARENA_NEW(a, Values);
    v->arena = a;
    v->file = fopen(path, "rb");
    struct stat st;
    if (!v->file || fstat(fileno(v->file), &st))
        *fault = arena_strdup(a, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        *fault = "not a file";
    else
        *fault = read_header(v, (int64_t)st.st_size);
    if (!*fault) return v;
    values_close(v);
    return NULL;
}

void values_close(Values *v)
{
    if (!v) return;
    if (v->header) json_decref(v->header);
    if (v->file) fclose(v->file);
}

/* A run-time size is what the file says it is, the same multiple of the type's first axis or not. */
static bool fits(const json_t *shape, const TensorType *t, int64_t *n)
{
    *n = 1;
    if (!json_is_array(shape) || json_array_size(shape) != (size_t)t->rank) return false;
    for (int i = 0; i < t->rank; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        const json_int_t size = json_is_integer(d) ? json_integer_value(d) : -1;
        const bool free_axis = i == 0 && t->batch;
        if (size < 1 || (free_axis ? size % t->dim[0] != 0 : size != t->dim[i])) return false;
        if (__builtin_mul_overflow(*n, (int64_t)size, n)) return false;
    }
    return true;
}

static void add_element(ValueStats *s, double x)
{
    if (s->n < VALUES_SHOWN) s->shown[s->n] = x;
    s->n++;
    if (!isfinite(x)) {
        s->n_bad++;
        return;
    }
    if (x < s->min) s->min = x;
    if (x > s->max) s->max = x;
    s->mean += x;
    s->norm += x * x;
}

const char *values_read(Values *v, const char *name, const TensorType *t, ValueStats *out)
{
    Arena *a = v->arena;
    const json_t *entry = json_object_get(v->header, name);
    if (!entry) return arena_printf(a, "it lacks %s; is it what the trace of this model wrote?", name);
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const Element *e = NULL;
    for (int i = 0; dtype && i < N_ELEMENTS; i++)
        if (!strcmp(elements[i].name, dtype)) e = &elements[i];
    if (!e)
        return arena_printf(a, "%s has elements of an unknown type", name);
    int64_t n, bytes;
    if (!fits(json_object_get(entry, "shape"), t, &n))
        return arena_printf(a, "the shape of %s does not fit %s", name, type_text(a, t));
    const json_t *place = json_object_get(entry, "data_offsets");
    const json_t *from = json_array_get(place, 0), *to = json_array_get(place, 1);
    if (json_array_size(place) != 2 || !json_is_integer(from) || !json_is_integer(to))
        return arena_printf(a, "%s has no place in the file", name);
    const json_int_t begin = json_integer_value(from), end = json_integer_value(to);
    if (begin < 0 || begin > end || end > v->data_len || __builtin_mul_overflow(n, (int64_t)e->size, &bytes) ||
        end - begin != bytes)
        return arena_printf(a, "the place of %s does not fit its shape or the file", name);
    if (fseeko(v->file, (off_t)(v->data_at + begin), SEEK_SET))
        return arena_printf(a, "%s: %s", name, strerror(errno));

    *out = (ValueStats){ .min = DBL_MAX, .max = -DBL_MAX };
    unsigned char *piece = malloc(PIECE);
    if (!piece) return "not enough memory";
    bool good = true;
    for (int64_t left = n; left > 0 && good;) {
        const int64_t most = PIECE / (int64_t)e->size, now = left < most ? left : most;
        good = fread(piece, e->size, (size_t)now, v->file) == (size_t)now;
        for (int64_t i = 0; good && i < now; i++) add_element(out, e->get(piece + (size_t)i * e->size));
        left -= now;
    }
    free(piece);
    if (!good) return arena_printf(a, "%s cannot be read", name);
    const int64_t finite = out->n - out->n_bad;
    if (finite) out->mean /= (double)finite;
    out->norm = sqrt(out->norm);
    return NULL;
}
