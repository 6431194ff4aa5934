/* SPDX-License-Identifier: MIT
 *
 * Files as the library reads and writes them (library-internal). Output goes to a temporary file beside
 * the target that is synced and renamed at the end, so that a reader never sees a half-written file.
 */
#ifndef NN_FILE_H
#define NN_FILE_H

#include <stdarg.h>

#include "nn.h"
#include "nn_safetensors.h" /* NN_ERROR_TEXT */

/* Formats one sentence into `why` (NN_ERROR_TEXT bytes, may be NULL), control characters replaced, since
 * names and paths come from outside. */
void nn_say(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What a file that begins with these bytes appears to be ("a gzip file"); NULL when nothing is known. */
const char *nn_sniff(const unsigned char *head, size_t n);

typedef struct nn_out {
    int fd;
    int dir;    /* the folder of the target, to be synced after the rename; -1: cannot be */
    char *path; /* the target, symbolic links resolved */
    char *tmp;  /* NULL: the target is a device or pipe and is written directly */
} nn_out;

nn_status nn_out_open(nn_out *o, const char *path, char *why);
int nn_out_write(void *o, const void *data, size_t n); /* an nn_write_fn; errno on failure */
nn_status nn_out_commit(nn_out *o, char *why); /* syncs, closes, renames; on failure as abort */
void nn_out_abort(nn_out *o);                  /* removes the temporary file; errno is kept */

typedef struct nn_in {
    int fd;
    size_t size;
} nn_in;

nn_status nn_in_open(nn_in *in, const char *path, char *why); /* regular files only */
int nn_in_read(void *in, void *data, size_t n); /* an nn_read_fn: all n bytes or non-zero */
int nn_in_at_end(nn_in *in);
void nn_in_close(nn_in *in);

#endif
