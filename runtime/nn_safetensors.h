/* SPDX-License-Identifier: MIT
 *
 * safetensors files: named tensors of plain numbers. A file is opened as a whole into memory and checked
 * before anything is returned; reading never runs code, never allocates more than the file holds and
 * never opens a path named inside a file. Files written here carry checksums that detect every flipped
 * bit and every truncation; files of other programs, without them, are read too.
 *
 *   nn_st_file *f;
 *   char why[NN_ERROR_TEXT];
 *   if (nn_st_open(&f, "in.safetensors", why) != NN_OK) { fprintf(stderr, "%s\n", why); return 5; }
 *   const nn_st_tensor *x = nn_st_find(f, "x");      // x->data, x->dtype, x->rank, x->shape
 *   nn_st_close(f);
 *
 *   nn_st_file *out = nn_st_new();
 *   nn_dim shape[] = { 2, 3 };
 *   nn_st_add(out, "y", NN_F32, 2, shape, values);   // copies; NULL leaves zeros to be filled in
 *   nn_st_save(out, "out.safetensors", why);
 *   nn_st_close(out);
 */
#ifndef NN_SAFETENSORS_H
#define NN_SAFETENSORS_H

#include "nn.h"
#include "nn_model.h" /* nn_read_fn, nn_write_fn */

#ifdef __cplusplus
extern "C" {
#endif

enum { NN_ERROR_TEXT = 256 }; /* bytes of a message buffer; messages are cut to fit */

typedef struct nn_st_tensor {
    char *name;
    nn_dtype dtype;
    int rank;
    nn_dim shape[NN_MAX_RANK]; /* row-major */
    nn_dim count;              /* elements */
    size_t bytes;
    void *data; /* in the machine's byte order, 64-byte aligned; never NULL */
} nn_st_tensor;

typedef struct nn_st_file nn_st_file; /* owns its tensors and everything they point to */

/* ---- reading ----
 * All return NN_OK and a file to be closed with nn_st_close, or a status, *out = NULL and one sentence in
 * `why` (of NN_ERROR_TEXT bytes; may be NULL): NN_EIO, NN_ENOMEM, NN_EFORMAT (not safetensors, or an
 * element type outside F32 F64 I32 I64 U8 BOOL), NN_ECORRUPT (truncated, inconsistent, wrong checksum). */
nn_status nn_st_open(nn_st_file **out, const char *path, char *why);
nn_status nn_st_read(nn_st_file **out, nn_read_fn read, size_t size, void *ctx, char *why);
nn_status nn_st_parse(nn_st_file **out, const void *bytes, size_t size, char *why);

int nn_st_count(const nn_st_file *f);
nn_st_tensor *nn_st_at(const nn_st_file *f, int i); /* in the order of their data; NULL beyond */
nn_st_tensor *nn_st_find(const nn_st_file *f, const char *name); /* NULL when absent */
const char *nn_st_meta(const nn_st_file *f, const char *key);    /* NULL when absent */

/* Element i as a double, whatever the type (I64 beyond 2^53 is rounded). */
double nn_st_value(const nn_st_tensor *t, nn_dim i);

/* ---- writing ---- */
nn_st_file *nn_st_new(void); /* NULL: out of memory */

/* Appends a tensor and copies `data` into it (NULL: zeros). The result is valid until the file is closed.
 * NULL when memory is short, the name is empty, taken or not UTF-8, or a size is negative or too large. */
nn_st_tensor *nn_st_add(nn_st_file *f, const char *name, nn_dtype dtype, int rank,
                        const nn_dim *shape, const void *data);
/* Keys beginning with "nn." and "crc32." belong to this library. NN_EINVAL when the key is taken or
 * text is not UTF-8. */
nn_status nn_st_set_meta(nn_st_file *f, const char *key, const char *value);

/* Writes a temporary file beside `path`, syncs it and renames it, so that `path` holds the old content or
 * the new, never a mixture. A path that is a device or a pipe is written directly. */
nn_status nn_st_save(const nn_st_file *f, const char *path, char *why);
nn_status nn_st_write(const nn_st_file *f, nn_write_fn write, void *ctx, char *why);

void nn_st_close(nn_st_file *f); /* NULL is fine */

/* ---- checkpoints in memory ----
 * What nn_model_save writes, as an object, for programs that keep tensors of their own in the same file: give
 * them names with a '/' in them ("loop/position"), which loading a model passes over. `what` as in nn_model.h. */
nn_status nn_model_to_st(const nn_model *m, unsigned what, nn_st_file **out);
nn_status nn_model_from_st(nn_model *m, unsigned what, const nn_st_file *f, nn_load_report *report);

#ifdef __cplusplus
}
#endif
#endif
