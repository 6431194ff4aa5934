/* SPDX-License-Identifier: MIT
 *
 * Atomic output and checked input. Invariant: after a failure the target is untouched and no temporary
 * file is left; after nn_out_commit the new content has reached the disk under the target's name.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_NOFOLLOW, realpath */
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

void nn_say(char *why, const char *fmt, ...)
{
    if (!why) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, NN_ERROR_TEXT, fmt, ap);
    va_end(ap);
    for (char *c = why; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
}

const char *nn_sniff(const unsigned char *head, size_t n)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *what;
    } known[] = {
        { "\x1f\x8b", 2, "a gzip file" },
        { "PK\x03\x04", 4, "a zip archive (.npz or a PyTorch file)" },
        { "\x93NUMPY", 6, "a NumPy array" },
        { "\x89HDF", 4, "an HDF5 file" },
        { "\x89PNG", 4, "a PNG image" },
        { "\xff\xd8\xff", 3, "a JPEG image" },
        { "\x80\x02", 2, "a Python pickle" },
        { "GGUF", 4, "a GGUF file" },
        { "\x7f"
          "ELF",
          4, "a program" },
        { "%PDF", 4, "a PDF document" },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n >= known[i].n && memcmp(head, known[i].bytes, known[i].n) == 0) return known[i].what;
    if (n >= 4 && head[0] == 0 && head[1] == 0 && head[2] >= 8 && head[2] <= 14 && head[3] > 0 &&
        head[3] <= 8)
        return "an IDX file";
    if (n > 8 && head[8] == '{' && head[6] == 0 && head[7] == 0) return "a safetensors file";
    size_t text = 0;
    while (text < n && (head[text] >= 0x20 || (head[text] >= 9 && head[text] <= 13))) text++;
    return n > 0 && text == n ? "a text file" : NULL;
}

/* ---- output ---- */

static nn_status out_failed(nn_out *o, char *why, const char *path, const char *verb)
{
    int error = errno;
    nn_say(why, "%s: cannot %s: %s", path, verb, strerror(error));
    nn_out_abort(o);
    errno = error;
    return NN_EIO;
}

/* The folder of a path, opened; -1 when it cannot be. Shortens `path` for a moment. */
static int open_folder(char *path)
{
    char *slash = strrchr(path, '/');
    const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    if (!slash) return open(".", flags);
    if (slash == path) return open("/", flags);
    *slash = '\0';
    int fd = open(path, flags);
    *slash = '/';
    return fd;
}

nn_status nn_out_open(nn_out *o, const char *path, char *why)
{
    *o = (nn_out){ .fd = -1, .dir = -1 };
    struct stat st;
    int exists = stat(path, &st) == 0;
    if (exists && !S_ISREG(st.st_mode)) {
        o->fd = open(path, O_WRONLY | O_CLOEXEC);
        return o->fd < 0 ? out_failed(o, why, path, "open") : NN_OK;
    }
    o->path = exists ? realpath(path, NULL) : strdup(path);
    size_t size = o->path ? strlen(o->path) + 40 : 0;
    o->tmp = o->path ? malloc(size) : NULL;
    if (!o->tmp) {
        nn_say(why, "%s: out of memory", path);
        nn_out_abort(o);
        return NN_ENOMEM;
    }
    o->dir = open_folder(o->path);
    /* A temporary file of a killed process with the same number may be in the way. */
    for (int attempt = 0; attempt < 100; attempt++) {
        snprintf(o->tmp, size, "%s.tmp-%ld-%d", o->path, (long)getpid(), attempt);
        o->fd = open(o->tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (o->fd >= 0 || errno != EEXIST) break;
    }
    if (o->fd >= 0) return NN_OK;
    free(o->tmp);
    o->tmp = NULL;
    return out_failed(o, why, path, "create");
}

int nn_out_write(void *ctx, const void *data, size_t n)
{
    nn_out *o = ctx;
    const unsigned char *p = data;
    while (n > 0) {
        ssize_t w = write(o->fd, p, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return -1;
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

nn_status nn_out_commit(nn_out *o, char *why)
{
    if (o->tmp) {
        if (fsync(o->fd) != 0) return out_failed(o, why, o->path, "write");
        int closed = close(o->fd);
        o->fd = -1;
        if (closed != 0) return out_failed(o, why, o->path, "write");
        if (rename(o->tmp, o->path) != 0) return out_failed(o, why, o->path, "replace");
        /* The rename is durable once its folder is synced. File systems that cannot are no failure. */
        if (o->dir >= 0) (void)fsync(o->dir);
        free(o->tmp);
        o->tmp = NULL;
    } else {
        int closed = close(o->fd);
        o->fd = -1;
        if (closed != 0) return out_failed(o, why, "output", "write");
    }
    nn_out_abort(o);
    return NN_OK;
}

void nn_out_abort(nn_out *o)
{
    int error = errno;
    if (o->fd >= 0) close(o->fd);
    if (o->dir >= 0) close(o->dir);
    if (o->tmp) unlink(o->tmp);
    free(o->tmp);
    free(o->path);
    *o = (nn_out){ .fd = -1, .dir = -1 };
    errno = error;
}

/* ---- input ---- */

nn_status nn_in_open(nn_in *in, const char *path, char *why)
{
    struct stat st;
    /* Without O_NONBLOCK, opening a pipe would wait for a writer before it can be refused. */
    in->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (in->fd < 0 || fstat(in->fd, &st) != 0) {
        int error = errno;
        nn_say(why, "%s: cannot open: %s", path, strerror(error));
        nn_in_close(in);
        errno = error;
        return NN_EIO;
    }
    if (!S_ISREG(st.st_mode)) {
        nn_say(why, "%s: %s, not a regular file", path,
               S_ISDIR(st.st_mode) ? "a directory" : "a device or pipe");
        nn_in_close(in);
        errno = EINVAL;
        return NN_EIO;
    }
    in->size = (size_t)st.st_size;
    return NN_OK;
}

int nn_in_read(void *ctx, void *data, size_t n)
{
    nn_in *in = ctx;
    unsigned char *p = data;
    while (n > 0) {
        ssize_t r = read(in->fd, p, n);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return -1;
        p += r;
        n -= (size_t)r;
    }
    return 0;
}

int nn_in_at_end(nn_in *in)
{
    char c;
    ssize_t r;
    do r = read(in->fd, &c, 1);
    while (r < 0 && errno == EINTR);
    return r == 0;
}

void nn_in_close(nn_in *in)
{
    if (in->fd >= 0) close(in->fd);
    in->fd = -1;
}
