/* SPDX-License-Identifier: MIT
 *
 * IDX files: two zero bytes, element type, rank, big-endian sizes, big-endian elements. In: a path or
 * bytes; out: one array, or a status and a sentence. Invariant: memory is allocated only after the sizes of
 * the header were found consistent with the file's length (for gzip: with the most it can expand to).
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "nn_data.h"
#include "file.h"

enum { GZIP_MAX_RATIO = 1032 }; /* of deflate */

static const struct {
    unsigned char code;
    nn_dtype dtype;
} idx_types[] = { { 0x08, NN_U8 }, { 0x0c, NN_I32 }, { 0x0d, NN_F32 }, { 0x0e, NN_F64 } };
enum { N_TYPES = sizeof idx_types / sizeof *idx_types };

/* Bytes that come either straight from memory or through inflate. */
typedef struct Source {
    const unsigned char *at;
    size_t left;
    int gzip, no_memory;
    z_stream z;
} Source;

/* Fills n bytes; how many it could. */
static size_t source_read(Source *s, unsigned char *out, size_t n)
{
    size_t done = 0;
    if (!s->gzip) {
        done = n < s->left ? n : s->left;
        memcpy(out, s->at, done);
        s->at += done;
        s->left -= done;
        return done;
    }
    while (done < n) {
        uInt in = s->left < UINT_MAX ? (uInt)s->left : UINT_MAX;
        uInt room = n - done < UINT_MAX ? (uInt)(n - done) : UINT_MAX;
        s->z.next_in = (unsigned char *)(uintptr_t)s->at;
        s->z.avail_in = in;
        s->z.next_out = out + done;
        s->z.avail_out = room;
        int code = inflate(&s->z, Z_NO_FLUSH);
        s->at += in - s->z.avail_in;
        s->left -= in - s->z.avail_in;
        done += room - s->z.avail_out;
        s->no_memory |= code == Z_MEM_ERROR;
        if (code != Z_OK || (in == s->z.avail_in && room == s->z.avail_out)) break;
    }
    return done;
}

/* Nothing is left, and the gzip checksum was right. */
static int source_is_complete(Source *s)
{
    unsigned char extra;
    if (!s->gzip) return s->left == 0;
    s->z.next_in = (unsigned char *)(uintptr_t)s->at;
    s->z.avail_in = s->left < UINT_MAX ? (uInt)s->left : UINT_MAX;
    uInt in = s->z.avail_in;
    s->z.next_out = &extra;
    s->z.avail_out = 1;
    int code = inflate(&s->z, Z_FINISH);
    s->left -= in - s->z.avail_in;
    return code == Z_STREAM_END && s->z.avail_out == 1 && s->left == 0;
}

static void from_big_endian(unsigned char *data, nn_dim count, size_t size)
{
    if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ || size == 1) return;
    for (nn_dim i = 0; i < count; i++, data += size)
        for (size_t j = 0; j < size / 2; j++) {
            unsigned char c = data[j];
            data[j] = data[size - 1 - j];
            data[size - 1 - j] = c;
        }
}

static nn_status idx_header(nn_idx *out, Source *s, size_t file_size, size_t *bytes, char *why)
{
    unsigned char head[4] = { 0 };
    size_t got = source_read(s, head, 4);
    int type = 0;
    if (got < 4 || head[0] != 0 || head[1] != 0) {
        const char *kind = nn_sniff(head, got);
        nn_say(why, "not an IDX file%s%s%s", s->gzip ? " inside gzip" : "",
               kind ? ": this looks like " : "", kind ? kind : "");
        return NN_EFORMAT;
    }
    while (type < N_TYPES && idx_types[type].code != head[2]) type++;
    if (type == N_TYPES) {
        nn_say(
            why,
            "IDX elements of type 0x%02x; known are 0x08 (bytes), 0x0c (int32), 0x0d, 0x0e (floats)",
            head[2]);
        return NN_EFORMAT;
    }
    out->dtype = idx_types[type].dtype;
    out->rank = head[3];
    if (out->rank < 1 || out->rank > NN_MAX_RANK) {
        nn_say(why, "an IDX file with %d axes; 1 to %d are known", out->rank, NN_MAX_RANK);
        return NN_EFORMAT;
    }
    out->count = 1;
    for (int i = 0; i < out->rank; i++) {
        unsigned char b[4];
        if (source_read(s, b, 4) != 4) {
            nn_say(why, "truncated within the header");
            return NN_ECORRUPT;
        }
        out->shape[i] =
            (nn_dim)((uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]);
        if (__builtin_mul_overflow(out->count, out->shape[i], &out->count)) {
            nn_say(why, "the sizes in the header overflow");
            return NN_ECORRUPT;
        }
    }
    size_t most =
        s->gzip ? (file_size > SIZE_MAX / GZIP_MAX_RATIO ? SIZE_MAX : file_size * GZIP_MAX_RATIO)
                : s->left;
    if (__builtin_mul_overflow(out->count, nn_dtype_size(out->dtype), bytes) || *bytes > most) {
        nn_say(why, "truncated: the header promises %lld elements, the file has %zu bytes",
               (long long)out->count, file_size);
        return NN_ECORRUPT;
    }
    return NN_OK;
}

nn_status nn_idx_parse(nn_idx *out, const void *bytes, size_t size, char *why)
{
    Source s = { .at = bytes, .left = size };
    size_t wanted = 0;
    memset(out, 0, sizeof *out);
    if (why) why[0] = '\0';
    s.gzip = size >= 2 && s.at[0] == 0x1f && s.at[1] == 0x8b;
    if (s.gzip && inflateInit2(&s.z, 16 + MAX_WBITS) != Z_OK) {
        nn_say(why, "out of memory");
        return NN_ENOMEM;
    }
    nn_status status = idx_header(out, &s, size, &wanted, why);
    if (status == NN_OK && !(out->data = malloc(wanted > 0 ? wanted : 1))) {
        nn_say(why, "out of memory for %zu bytes", wanted);
        status = NN_ENOMEM;
    }
    if (status == NN_OK) {
        size_t got = source_read(&s, out->data, wanted);
        if (got != wanted) {
            nn_say(why, "truncated or damaged: %zu of %zu bytes of data", got, wanted);
            status = NN_ECORRUPT;
        } else if (!source_is_complete(&s)) {
            nn_say(why, s.gzip ? "the gzip data is damaged, or bytes follow the last element"
                               : "bytes follow the last element");
            status = NN_ECORRUPT;
        } else {
            from_big_endian(out->data, out->count, nn_dtype_size(out->dtype));
        }
    }
    if (s.no_memory) {
        nn_say(why, "out of memory");
        status = NN_ENOMEM;
    }
    if (s.gzip) inflateEnd(&s.z);
    if (status != NN_OK) nn_idx_free(out);
    return status;
}

nn_status nn_idx_read(nn_idx *out, const char *path, char *why)
{
    nn_in in;
    char reason[NN_ERROR_TEXT] = "";
    memset(out, 0, sizeof *out);
    nn_status s = nn_in_open(&in, path, why);
    if (s != NN_OK) return s;
    unsigned char *bytes = malloc(in.size > 0 ? in.size : 1);
    if (!bytes) {
        s = NN_ENOMEM;
        nn_say(reason, "out of memory for %zu bytes", in.size);
    } else if (nn_in_read(&in, bytes, in.size) != 0) {
        s = NN_EIO;
        nn_say(reason, "cannot read %zu bytes", in.size);
    } else {
        s = nn_idx_parse(out, bytes, in.size, reason);
    }
    free(bytes);
    nn_in_close(&in);
    if (s != NN_OK) nn_say(why, "%.100s: %.150s", path, reason);
    return s;
}

void nn_idx_free(nn_idx *idx)
{
    if (!idx) return;
    free(idx->data);
    memset(idx, 0, sizeof *idx);
}

nn_status nn_idx_write(const char *path, nn_dtype dtype, int rank, const nn_dim *shape,
                       const void *data, char *why)
{
    unsigned char head[4 + 4 * NN_MAX_RANK] = { 0 };
    nn_dim count = 1;
    int type = 0;
    while (type < N_TYPES && idx_types[type].dtype != dtype) type++;
    if (type == N_TYPES || rank < 1 || rank > NN_MAX_RANK || !data) return NN_EINVAL;
    head[2] = idx_types[type].code;
    head[3] = (unsigned char)rank;
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0 || shape[i] > UINT32_MAX ||
            __builtin_mul_overflow(count, shape[i], &count))
            return NN_EINVAL;
        for (int j = 0; j < 4; j++)
            head[4 + 4 * i + j] = (unsigned char)(shape[i] >> (24 - 8 * j) & 0xff);
    }
    nn_out o;
    nn_status s = nn_out_open(&o, path, why);
    if (s != NN_OK) return s;
    int failed = nn_out_write(&o, head, 4 + 4 * (size_t)rank) != 0;
    /* In pieces, because the elements are turned around on the way. */
    const size_t size = nn_dtype_size(dtype), total = (size_t)count * size;
    unsigned char piece[4096];
    for (size_t at = 0; at < total && !failed;) {
        size_t n = total - at < sizeof piece ? total - at : sizeof piece;
        memcpy(piece, (const unsigned char *)data + at, n);
        from_big_endian(piece, (nn_dim)(n / size), size);
        failed = nn_out_write(&o, piece, n) != 0;
        at += n;
    }
    if (!failed) return nn_out_commit(&o, why);
    nn_say(why, "%s: cannot write", path);
    nn_out_abort(&o);
    return NN_EIO;
}
