/* SPDX-License-Identifier: MIT
 *
 * files write DIRECTORY: a safetensors file and IDX files with every type of element.
 * files read DIRECTORY: reads them and compares every value. Written here and read there, the bytes must mean the same
 * to processors of either byte order.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn_data.h"
#include "nn_safetensors.h"

enum { N = 6 };
static const nn_dim shape[2] = { 2, 3 };
static const float f32[N] = { 0, -1.5f, 3.1415927f, 1e-40f, 3e38f, -0.0f };
static const double f64[N] = { 0, -1.5, 3.141592653589793, 5e-324, 1e308, 0.1 };
static const int32_t i32[N] = { 0, 1, -1, 2147483647, -2147483647 - 1, 16909060 };
static const int64_t i64[N] = { 0, 1, -1, INT64_MAX, INT64_MIN, INT64_C(72623859790382856) };
static const unsigned char u8[N] = { 0, 1, 127, 128, 254, 255 };
static const struct {
    const char *name;
    nn_dtype dtype;
    const void *data;
    int idx;
} table[] = { { "f32", NN_F32, f32, 1 },
              { "f64", NN_F64, f64, 1 },
              { "i32", NN_I32, i32, 1 },
              { "i64", NN_I64, i64, 0 },
              { "u8", NN_U8, u8, 1 } };
enum { TYPES = sizeof table / sizeof *table };

static char path[1000], why[NN_ERROR_TEXT];

static const char *in(const char *dir, const char *name)
{
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void need(int ok, const char *what)
{
    if (ok) return;
    printf("%s: %s\n", what, why);
    exit(1);
}

static void put(const char *dir)
{
    nn_st_file *f = nn_st_new();
    need(f != NULL, "nn_st_new");
    for (int i = 0; i < TYPES; i++) {
        need(nn_st_add(f, table[i].name, table[i].dtype, 2, shape, table[i].data) != NULL, "nn_st_add");
        if (table[i].idx)
            need(nn_idx_write(in(dir, table[i].name), table[i].dtype, 2, shape, table[i].data, why) == NN_OK, path);
    }
    need(nn_st_save(f, in(dir, "all.safetensors"), why) == NN_OK, path);
    nn_st_close(f);
}

static void take(const char *dir)
{
    nn_st_file *f;
    need(nn_st_open(&f, in(dir, "all.safetensors"), why) == NN_OK, path);
    for (int i = 0; i < TYPES; i++) {
        const size_t bytes = N * nn_dtype_size(table[i].dtype);
        const nn_st_tensor *t = nn_st_find(f, table[i].name);
        need(t && t->dtype == table[i].dtype && t->rank == 2 && t->count == N, table[i].name);
        need(memcmp(t->data, table[i].data, bytes) == 0, table[i].name);
        if (!table[i].idx) continue;
        nn_idx x;
        need(nn_idx_read(&x, in(dir, table[i].name), why) == NN_OK, path);
        need(x.dtype == table[i].dtype && x.rank == 2 && x.shape[1] == 3 && x.count == N, path);
        need(memcmp(x.data, table[i].data, bytes) == 0, path);
        nn_idx_free(&x);
    }
    nn_st_close(f);
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    if (strcmp(argv[1], "write") == 0)
        put(argv[2]);
    else
        take(argv[2]);
    return 0;
}
