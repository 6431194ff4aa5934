/* SPDX-License-Identifier: MIT
 *
 * safetensors: 8 bytes little-endian header length, a JSON object {name: {dtype, shape, data_offsets}},
 * then the data. The hosts these tools run on are little-endian.
 */
#include "tensors.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(3);
}

uint64_t mix64(uint64_t z)
{
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static size_t dtype_bytes(const char *t)
{
    if (!strcmp(t, "F64") || !strcmp(t, "I64")) return 8;
    if (!strcmp(t, "F32") || !strcmp(t, "I32")) return 4;
    if (!strcmp(t, "U8") || !strcmp(t, "BOOL")) return 1;
    die("unknown dtype %s", t);
}

static double element_get(const char *t, const unsigned char *p)
{
    union {
        double f64;
        float f32;
        int64_t i64;
        int32_t i32;
    } u;
    memcpy(&u, p, dtype_bytes(t));
    if (!strcmp(t, "F64")) return u.f64;
    if (!strcmp(t, "F32")) return (double)u.f32;
    if (!strcmp(t, "I64")) return (double)u.i64;
    if (!strcmp(t, "I32")) return (double)u.i32;
    return *p;
}

static void element_put(const char *t, double x, FILE *f)
{
    float f32 = (float)x;
    int64_t i64 = (int64_t)x;
    int32_t i32 = (int32_t)x;
    unsigned char u8 = (unsigned char)x;
    if (!strcmp(t, "F64")) fwrite(&x, 8, 1, f);
    else if (!strcmp(t, "F32")) fwrite(&f32, 4, 1, f);
    else if (!strcmp(t, "I64")) fwrite(&i64, 8, 1, f);
    else if (!strcmp(t, "I32")) fwrite(&i32, 4, 1, f);
    else fwrite(&u8, 1, 1, f);
}

Tensors tensors_read(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) die("%s: cannot be opened", path);
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    unsigned char *bytes = malloc((size_t)size + 1);
    if (size < 8 || fread(bytes, 1, (size_t)size, f) != (size_t)size) die("%s: cannot be read", path);
    fclose(f);
    uint64_t header;
    memcpy(&header, bytes, 8);
    if (header > (uint64_t)size - 8) die("%s: header longer than the file", path);

    json_error_t err;
    json_t *root = json_loadb((char *)bytes + 8, (size_t)header, 0, &err);
    if (!root) die("%s: header: %s", path, err.text);
    Tensors out = { calloc(json_object_size(root) + 1, sizeof(Tensor)), 0 };
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value)
    {
        if (!strcmp(name, "__metadata__")) continue;
        Tensor *t = &out.data[out.len++];
        t->name = strdup(name);
        snprintf(t->dtype, sizeof t->dtype, "%s", json_string_value(json_object_get(value, "dtype")));
        json_t *shape = json_object_get(value, "shape");
        t->rank = (int)json_array_size(shape);
        if (t->rank > 8) die("%s: %s has rank %d", path, name, t->rank);
        t->count = 1;
        for (int i = 0; i < t->rank; i++) {
            t->shape[i] = json_integer_value(json_array_get(shape, (size_t)i));
            t->count *= (size_t)t->shape[i];
        }
        size_t from = (size_t)json_integer_value(
            json_array_get(json_object_get(value, "data_offsets"), 0));
        if (8 + header + from + t->count * dtype_bytes(t->dtype) > (uint64_t)size)
            die("%s: %s lies outside the file", path, name);
        t->data = malloc((t->count + 1) * sizeof *t->data);
        for (size_t i = 0; i < t->count; i++)
            t->data[i] =
                element_get(t->dtype, bytes + 8 + header + from + i * dtype_bytes(t->dtype));
    }
    json_decref(root);
    free(bytes);
    return out;
}

const Tensor *tensors_find(const Tensors *t, const char *name)
{
    for (size_t i = 0; i < t->len; i++)
        if (!strcmp(t->data[i].name, name)) return &t->data[i];
    return NULL;
}

void tensors_write(const char *path, const Tensors *ts)
{
    json_t *root = json_object();
    size_t at = 0;
    for (size_t i = 0; i < ts->len; i++) {
        const Tensor *t = &ts->data[i];
        json_t *shape = json_array();
        for (int k = 0; k < t->rank; k++) json_array_append_new(shape, json_integer(t->shape[k]));
        size_t end = at + t->count * dtype_bytes(t->dtype);
        json_object_set_new(root, t->name,
                            json_pack("{s:s, s:o, s:[I,I]}", "dtype", t->dtype, "shape", shape,
                                      "data_offsets", (json_int_t)at, (json_int_t)end));
        at = end;
    }
    char *text = json_dumps(root, JSON_COMPACT);
    size_t len = strlen(text), padded = (len + 7) / 8 * 8;
    uint64_t header = padded;
    FILE *f = fopen(path, "wb");
    if (!f) die("%s: cannot be created", path);
    fwrite(&header, 8, 1, f);
    fwrite(text, 1, len, f);
    for (; len < padded; len++) fputc(' ', f);
    for (size_t i = 0; i < ts->len; i++)
        for (size_t k = 0; k < ts->data[i].count; k++)
            element_put(ts->data[i].dtype, ts->data[i].data[k], f);
    if (fclose(f)) die("%s: cannot be written", path);
    json_decref(root);
    free(text);
}
