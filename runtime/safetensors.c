/* SPDX-License-Identifier: MIT
 *
 * The safetensors container: an 8-byte little-endian header length, a JSON header, the tensors' bytes.
 * In: bytes from a file or a callback; out: tensors in memory, or a status and a sentence. Invariant: the
 * tensors of an nn_st_file tile the data section without holes, and both the tensors and by_name list
 * every tensor once.
 *
 * Note [checksums]. A file written here begins with {"__metadata__":{"nn.crc32":"XXXXXXXX","nn.format":"1"
 * and has one "crc32.NAME" entry per tensor. XXXXXXXX is the CRC-32 of the length field and the header with
 * these eight digits set to 0. Every header bit is under that sum, every data bit under its tensor's, and a
 * flip inside the words that announce the sum leaves some other "nn." key behind, which demands it. Hence
 * any one damaged place is detected, while a file without "nn." keys is accepted as it is.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "nn_safetensors.h"
#include "file.h"
#include "safetensors.h"
#include "text.h"

#define PREFIX "{\"__metadata__\":{\"nn.crc32\":\""

enum { HEADER_MAX = 100000000, CRC_AT = sizeof PREFIX - 1, CRC_DIGITS = 8 };

typedef struct Meta {
    char *key, *value;
} Meta;

struct nn_st_file {
    nn_st_tensor **tensors; /* in the order of their data */
    nn_st_tensor **by_name; /* the same, sorted */
    int n_tensors, cap_tensors;
    Meta *meta; /* sorted by key */
    int n_meta, cap_meta;
};

static const struct {
    const char *name;
    nn_dtype dtype;
} dtype_names[] = { { "F32", NN_F32 }, { "F64", NN_F64 }, { "I32", NN_I32 },
                    { "I64", NN_I64 }, { "U8", NN_U8 },   { "BOOL", NN_BOOL } };
enum { N_DTYPES = sizeof dtype_names / sizeof *dtype_names };

const char *nn_dtype_name(nn_dtype t)
{
    for (int i = 0; i < N_DTYPES; i++)
        if (dtype_names[i].dtype == t) return dtype_names[i].name;
    return "?";
}

/* ---- the object ---- */

static void tensor_free(nn_st_tensor *t)
{
    if (!t) return;
    free(t->name);
    free(t->data);
    free(t);
}

nn_st_file *nn_st_new(void)
{
    return calloc(1, sizeof(nn_st_file));
}

void nn_st_close(nn_st_file *f)
{
    if (!f) return;
    for (int i = 0; i < f->n_tensors; i++) tensor_free(f->tensors[i]);
    for (int i = 0; i < f->n_meta; i++) {
        free(f->meta[i].key);
        free(f->meta[i].value);
    }
    free(f->tensors);
    free(f->by_name);
    free(f->meta);
    free(f);
}

int nn_st_count(const nn_st_file *f)
{
    return f ? f->n_tensors : 0;
}

nn_st_tensor *nn_st_at(const nn_st_file *f, int i)
{
    return f && i >= 0 && i < f->n_tensors ? f->tensors[i] : NULL;
}

/* First position in by_name whose name is not less than `name`. */
static int name_position(const nn_st_file *f, const char *name)
{
    int lo = 0, hi = f->n_tensors;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (strcmp(f->by_name[mid]->name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int nn_st_position(const nn_st_file *f, const char *name)
{
    if (!f || !name) return -1;
    int at = name_position(f, name);
    return at < f->n_tensors && strcmp(f->by_name[at]->name, name) == 0 ? at : -1;
}

nn_st_tensor *nn_st_find(const nn_st_file *f, const char *name)
{
    int at = nn_st_position(f, name);
    return at < 0 ? NULL : f->by_name[at];
}

static int meta_position(const nn_st_file *f, const char *key)
{
    int lo = 0, hi = f->n_meta;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (strcmp(f->meta[mid].key, key) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const char *nn_st_meta(const nn_st_file *f, const char *key)
{
    if (!f || !key) return NULL;
    int at = meta_position(f, key);
    return at < f->n_meta && strcmp(f->meta[at].key, key) == 0 ? f->meta[at].value : NULL;
}

double nn_st_value(const nn_st_tensor *t, nn_dim i)
{
    switch (t->dtype) {
    case NN_F32: return (double)((const float *)t->data)[i];
    case NN_F64: return ((const double *)t->data)[i];
    case NN_I32: return ((const int32_t *)t->data)[i];
    case NN_I64: return (double)((const int64_t *)t->data)[i];
    case NN_U8:
    case NN_BOOL: return ((const unsigned char *)t->data)[i];
    }
    return 0;
}

/* Grows an array of pointers or structs to hold one more. */
static int grow(void **array, int *cap, int len, size_t size)
{
    if (len < *cap) return 1;
    int wanted = *cap ? *cap * 2 : 16;
    if (*cap > INT_MAX / 2) return 0;
    void *more = realloc(*array, (size_t)wanted * size);
    if (!more) return 0;
    *array = more;
    *cap = wanted;
    return 1;
}

static int utf8_valid(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        int more;
        uint32_t c, least;
        if (*s < 0x80) {
            s++;
            continue;
        }
        if (*s >= 0xc2 && *s <= 0xdf)
            more = 1, c = *s & 0x1f, least = 0x80;
        else if ((*s & 0xf0) == 0xe0)
            more = 2, c = *s & 0x0f, least = 0x800;
        else if (*s >= 0xf0 && *s <= 0xf4)
            more = 3, c = *s & 0x07, least = 0x10000;
        else
            return 0;
        for (s++; more > 0; more--, s++) {
            if ((*s & 0xc0) != 0x80) return 0;
            c = c << 6 | (*s & 0x3f);
        }
        if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return 0;
    }
    return 1;
}

/* Elements and bytes of a shape; 0 when they overflow or a size is negative. */
static int measure(nn_dtype dtype, int rank, const nn_dim *shape, nn_dim *count, size_t *bytes)
{
    nn_dim n = 1;
    int empty = 0;
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0) return 0;
        if (shape[i] == 0)
            empty = 1;
        else if (__builtin_mul_overflow(n, shape[i], &n))
            return 0;
    }
    *count = empty ? 0 : n;
    return !__builtin_mul_overflow(*count, nn_dtype_size(dtype), bytes) &&
           *bytes <= (size_t)PTRDIFF_MAX - 64;
}

static void *data_alloc(size_t bytes)
{
    return aligned_alloc(64, bytes > 0 ? (bytes + 63) / 64 * 64 : 64);
}

nn_st_tensor *nn_st_add(nn_st_file *f, const char *name, nn_dtype dtype, int rank,
                        const nn_dim *shape, const void *data)
{
    if (!f || !name || !*name || strcmp(name, "__metadata__") == 0 || !utf8_valid(name))
        return NULL;
    if (rank < 0 || rank > NN_MAX_RANK || nn_dtype_size(dtype) == 0) return NULL;
    if (nn_st_find(f, name)) return NULL;
    nn_st_tensor *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->dtype = dtype;
    t->rank = rank;
    for (int i = 0; i < rank; i++) t->shape[i] = shape[i];
    int cap = f->cap_tensors; /* both arrays grow together */
    if (!measure(dtype, rank, shape, &t->count, &t->bytes) || !(t->name = strdup(name)) ||
        !(t->data = data_alloc(t->bytes)) ||
        !grow((void **)&f->by_name, &cap, f->n_tensors, sizeof *f->by_name) ||
        !grow((void **)&f->tensors, &f->cap_tensors, f->n_tensors, sizeof *f->tensors)) {
        tensor_free(t);
        return NULL;
    }
    if (data)
        memcpy(t->data, data, t->bytes);
    else
        memset(t->data, 0, t->bytes);
    int at = name_position(f, name);
    memmove(f->by_name + at + 1, f->by_name + at, (size_t)(f->n_tensors - at) * sizeof *f->by_name);
    f->by_name[at] = t;
    f->tensors[f->n_tensors++] = t;
    return t;
}

/* Takes over neither string. 0: out of memory. */
static int meta_insert(nn_st_file *f, const char *key, const char *value)
{
    Meta m = { strdup(key), strdup(value) };
    if (!m.key || !m.value || !grow((void **)&f->meta, &f->cap_meta, f->n_meta, sizeof *f->meta)) {
        free(m.key);
        free(m.value);
        return 0;
    }
    int at = meta_position(f, key);
    memmove(f->meta + at + 1, f->meta + at, (size_t)(f->n_meta - at) * sizeof *f->meta);
    f->meta[at] = m;
    f->n_meta++;
    return 1;
}

static int is_reserved(const char *key)
{
    return strncmp(key, "nn.", 3) == 0 || strncmp(key, "crc32.", 6) == 0;
}

nn_status nn_st_set_meta_any(nn_st_file *f, const char *key, const char *value)
{
    if (!f || !key || !value || !utf8_valid(key) || !utf8_valid(value)) return NN_EINVAL;
    if (nn_st_meta(f, key)) return NN_EINVAL;
    return meta_insert(f, key, value) ? NN_OK : NN_ENOMEM;
}

nn_status nn_st_set_meta(nn_st_file *f, const char *key, const char *value)
{
    return !key || is_reserved(key) ? NN_EINVAL : nn_st_set_meta_any(f, key, value);
}

/* ---- parsing the header ---- */

/* An entry of the header before its place in the data is checked. */
typedef struct Entry {
    nn_st_tensor *tensor;
    uint64_t begin, end;
} Entry;

typedef struct Parser {
    const char *at, *end, *start;
    nn_st_file *f;
    Entry *entries;
    int n_entries, cap_entries;
    nn_status status; /* of the first failure; later ones are silent */
    char *why;
} Parser;

#define FAIL(p, code, ...)                                                                         \
    do {                                                                                           \
        if ((p)->status == NN_OK) {                                                                \
            (p)->status = (code);                                                                  \
            nn_say((p)->why, __VA_ARGS__);                                                         \
        }                                                                                          \
    } while (0)

static void skip_space(Parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r'))
        p->at++;
}

/* Consumes `c`, after white space, if it is next. */
static int accept(Parser *p, char c)
{
    skip_space(p);
    if (p->at >= p->end || *p->at != c) return 0;
    p->at++;
    return 1;
}

static int expect(Parser *p, char c)
{
    if (p->status == NN_OK && accept(p, c)) return 1;
    FAIL(p, NN_ECORRUPT, "the header has no '%c' at byte %td", c, p->at - p->start);
    return 0;
}

static int hex4(const char *s, const char *end, uint32_t *out)
{
    *out = 0;
    if (end - s < 4) return 0;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) return 0;
        *out = *out << 4 | (uint32_t)d;
    }
    return 1;
}

static char *put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

/* The escape after a backslash at p->at - 1; 0 when it is not one. */
static int read_escape(Parser *p, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (p->at >= p->end) return 0;
    char c = *p->at++;
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        *(*out)++ = to[known - from];
        return 1;
    }
    uint32_t code, low;
    if (c != 'u' || !hex4(p->at, p->end, &code)) return 0;
    p->at += 4;
    if (code >= 0xd800 && code < 0xdc00) {
        if (p->end - p->at < 6 || p->at[0] != '\\' || p->at[1] != 'u' ||
            !hex4(p->at + 2, p->end, &low) || low < 0xdc00 || low > 0xdfff)
            return 0;
        p->at += 6;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code == 0) return 0; /* would end a C string early */
    *out = put_utf8(*out, code);
    return 1;
}

/* A JSON string in memory of its own, or NULL after FAIL. */
static char *read_string(Parser *p)
{
    if (!expect(p, '"')) return NULL;
    const char *close = p->at;
    while (close < p->end && *close != '"') close += *close == '\\' && close + 1 < p->end ? 2 : 1;
    if (close >= p->end) {
        FAIL(p, NN_ECORRUPT, "a string in the header does not end");
        return NULL;
    }
    char *text = malloc((size_t)(close - p->at) + 1), *out = text;
    if (!text) {
        FAIL(p, NN_ENOMEM, "out of memory");
        return NULL;
    }
    while (p->at < close) {
        char c = *p->at++;
        if ((unsigned char)c < 0x20 || (c == '\\' && !read_escape(p, &out))) {
            FAIL(p, NN_ECORRUPT, "the header has a bad character in a string at byte %td",
                 p->at - 1 - p->start);
            free(text);
            return NULL;
        }
        if (c != '\\') *out++ = c;
    }
    p->at = close + 1;
    *out = '\0';
    if (!utf8_valid(text)) {
        FAIL(p, NN_ECORRUPT, "the header has a string that is not UTF-8");
        free(text);
        return NULL;
    }
    return text;
}

static int read_number(Parser *p, uint64_t *out)
{
    skip_space(p);
    const char *start = p->at;
    uint64_t n = 0;
    int fits = 1;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9') {
        fits = fits && !__builtin_mul_overflow(n, 10U, &n) &&
               !__builtin_add_overflow(n, (unsigned)(*p->at - '0'), &n);
        p->at++;
    }
    if (p->at > start && fits && n <= INT64_MAX && (p->at - start == 1 || *start != '0')) {
        *out = n;
        return 1;
    }
    FAIL(p, NN_ECORRUPT, "the header has a bad number at byte %td", start - p->start);
    return 0;
}

static void read_metadata(Parser *p)
{
    if (!expect(p, '{') || accept(p, '}')) return;
    do {
        char *key = read_string(p);
        char *value = key && expect(p, ':') ? read_string(p) : NULL;
        if (value && nn_st_meta(p->f, key)) FAIL(p, NN_ECORRUPT, "two metadata entries '%s'", key);
        if (p->status == NN_OK && !meta_insert(p->f, key, value))
            FAIL(p, NN_ENOMEM, "out of memory");
        free(key);
        free(value);
    } while (p->status == NN_OK && accept(p, ','));
    expect(p, '}');
}

static void read_dtype(Parser *p, nn_st_tensor *t)
{
    char *name = read_string(p);
    int i = 0;
    while (name && i < N_DTYPES && strcmp(dtype_names[i].name, name) != 0) i++;
    if (name && i == N_DTYPES)
        FAIL(p, NN_EFORMAT,
             "tensor '%.80s' has elements of type %.16s; known are F32 F64 I32 I64 U8 BOOL",
             t->name, name);
    if (p->status == NN_OK) t->dtype = dtype_names[i].dtype;
    free(name);
}

static void read_shape(Parser *p, nn_st_tensor *t)
{
    if (!expect(p, '[') || accept(p, ']')) return;
    do {
        uint64_t n = 0;
        if (t->rank == NN_MAX_RANK) {
            FAIL(p, NN_EFORMAT, "tensor '%.80s' has more than %d axes", t->name, NN_MAX_RANK);
            return;
        }
        if (!read_number(p, &n)) return;
        t->shape[t->rank++] = (nn_dim)n;
    } while (accept(p, ','));
    expect(p, ']');
}

/* {"dtype": .., "shape": .., "data_offsets": ..}, in any order, each exactly once. */
static void read_entry(Parser *p, Entry *e)
{
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
    int seen = 0, now;
    if (!expect(p, '{')) return;
    do {
        char *key = read_string(p);
        if (!key) return;
        now = strcmp(key, "dtype") == 0          ? DTYPE
              : strcmp(key, "shape") == 0        ? SHAPE
              : strcmp(key, "data_offsets") == 0 ? OFFSETS
                                                 : 0;
        if (now == 0 || (seen & now))
            FAIL(p, NN_ECORRUPT, "tensor '%.80s' has %s '%.40s'", e->tensor->name,
                 now ? "two entries" : "an unknown entry", key);
        free(key);
        seen |= now;
        if (!expect(p, ':')) return;
        if (now == DTYPE)
            read_dtype(p, e->tensor);
        else if (now == SHAPE)
            read_shape(p, e->tensor);
        else if (expect(p, '[') && read_number(p, &e->begin) && expect(p, ',') &&
                 read_number(p, &e->end))
            expect(p, ']');
    } while (p->status == NN_OK && accept(p, ','));
    expect(p, '}');
    if (seen != (DTYPE | SHAPE | OFFSETS))
        FAIL(p, NN_ECORRUPT, "tensor '%.80s' lacks dtype, shape or data_offsets", e->tensor->name);
}

static void read_header(Parser *p)
{
    int has_metadata = 0;
    if (!expect(p, '{') || accept(p, '}')) goto end;
    do {
        char *name = read_string(p);
        if (!name) return;
        if (!expect(p, ':')) {
            free(name);
            return;
        }
        if (strcmp(name, "__metadata__") == 0) {
            free(name);
            if (has_metadata++) FAIL(p, NN_ECORRUPT, "the header has two __metadata__ entries");
            read_metadata(p);
            continue;
        }
        Entry e = { calloc(1, sizeof *e.tensor), 0, 0 };
        if (!e.tensor ||
            !grow((void **)&p->entries, &p->cap_entries, p->n_entries, sizeof *p->entries)) {
            FAIL(p, NN_ENOMEM, "out of memory");
            free(name);
            free(e.tensor);
            return;
        }
        e.tensor->name = name;
        if (!*name) FAIL(p, NN_ECORRUPT, "a tensor has an empty name");
        read_entry(p, &e);
        p->entries[p->n_entries++] = e;
    } while (p->status == NN_OK && accept(p, ','));
    expect(p, '}');
end:
    skip_space(p);
    if (p->at != p->end) FAIL(p, NN_ECORRUPT, "the header has text after its end");
}

static int entry_by_place(const void *a, const void *b)
{
    const Entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->tensor->name, y->tensor->name);
}

static int tensor_by_name(const void *a, const void *b)
{
    return strcmp((*(nn_st_tensor *const *)a)->name, (*(nn_st_tensor *const *)b)->name);
}

/* The tensors must tile the data section of `size` bytes exactly, and have different names. */
static void place_entries(Parser *p, size_t size)
{
    uint64_t at = 0;
    if (p->n_entries > 0)
        qsort(p->entries, (size_t)p->n_entries, sizeof *p->entries, entry_by_place);
    for (int i = 0; i < p->n_entries && p->status == NN_OK; i++) {
        Entry *e = &p->entries[i];
        nn_st_tensor *t = e->tensor;
        if (!measure(t->dtype, t->rank, t->shape, &t->count, &t->bytes))
            FAIL(p, NN_ECORRUPT, "tensor '%.80s' is too large", t->name);
        else if (e->begin != at)
            FAIL(p, NN_ECORRUPT, "tensor '%.80s' begins at byte %llu of the data, expected %llu",
                 t->name, (unsigned long long)e->begin, (unsigned long long)at);
        else if (e->end < e->begin || e->end - e->begin != t->bytes)
            FAIL(p, NN_ECORRUPT, "tensor '%.80s' has %llu bytes of data, its shape needs %zu",
                 t->name, (unsigned long long)(e->end - e->begin), t->bytes);
        else if (e->end > size)
            FAIL(p, NN_ECORRUPT, "truncated: tensor '%.80s' ends at byte %llu of %zu bytes of data",
                 t->name, (unsigned long long)e->end, size);
        at = e->end;
    }
    if (p->status == NN_OK && at != size)
        FAIL(p, NN_ECORRUPT, "%llu bytes after the last tensor", (unsigned long long)(size - at));
    if (p->status != NN_OK || p->n_entries == 0) return;

    nn_st_file *f = p->f;
    f->tensors = malloc((size_t)p->n_entries * sizeof *f->tensors);
    f->by_name = malloc((size_t)p->n_entries * sizeof *f->by_name);
    if (!f->tensors || !f->by_name) {
        FAIL(p, NN_ENOMEM, "out of memory");
        return;
    }
    for (int i = 0; i < p->n_entries; i++) {
        f->by_name[i] = f->tensors[i] = p->entries[i].tensor;
        p->entries[i].tensor = NULL;
    }
    f->n_tensors = f->cap_tensors = p->n_entries;
    qsort(f->by_name, (size_t)f->n_tensors, sizeof *f->by_name, tensor_by_name);
    for (int i = 1; i < f->n_tensors; i++)
        if (strcmp(f->by_name[i - 1]->name, f->by_name[i]->name) == 0)
            FAIL(p, NN_ECORRUPT, "two tensors are called '%.80s'", f->by_name[i]->name);
}

/* ---- checksums and byte order ---- */

static uint32_t header_crc(const unsigned char length[8], const char *header, size_t n)
{
    static const char zeros[] = "00000000";
    uLong crc = crc32_z(0, length, 8);
    crc = crc32_z(crc, (const unsigned char *)header, CRC_AT);
    crc = crc32_z(crc, (const unsigned char *)zeros, CRC_DIGITS);
    size_t rest = (size_t)CRC_AT + CRC_DIGITS;
    return (uint32_t)crc32_z(crc, (const unsigned char *)header + rest, n - rest);
}

/* See Note [checksums]. */
static void check_header_crc(Parser *p, const unsigned char length[8], size_t n)
{
    char digits[CRC_DIGITS + 1];
    int demanded = 0;
    for (int i = 0; i < p->f->n_meta; i++) demanded |= is_reserved(p->f->meta[i].key);
    if (!demanded) return;
    if (n < CRC_AT + CRC_DIGITS || memcmp(p->start, PREFIX, CRC_AT) != 0) {
        FAIL(p, NN_ECORRUPT, "the header's checksum is missing");
        return;
    }
    snprintf(digits, sizeof digits, "%08lx", (unsigned long)header_crc(length, p->start, n));
    if (memcmp(digits, p->start + CRC_AT, CRC_DIGITS) != 0)
        FAIL(p, NN_ECORRUPT, "the header's checksum is wrong");
}

static int is_big_endian(void)
{
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
}

static void swap_bytes(unsigned char *data, size_t bytes, size_t size)
{
    for (size_t i = 0; size > 1 && i + size <= bytes; i += size)
        for (size_t j = 0; j < size / 2; j++) {
            unsigned char c = data[i + j];
            data[i + j] = data[i + size - 1 - j];
            data[i + size - 1 - j] = c;
        }
}

static char *crc_key(const char *name)
{
    size_t n = strlen(name) + sizeof "crc32.";
    char *key = malloc(n);
    if (key) snprintf(key, n, "crc32.%s", name);
    return key;
}

/* ---- reading ---- */

static void read_tensors(Parser *p, nn_read_fn read, void *ctx)
{
    nn_st_file *f = p->f;
    for (int i = 0; i < f->n_tensors && p->status == NN_OK; i++) {
        nn_st_tensor *t = f->tensors[i];
        t->data = data_alloc(t->bytes);
        char *key = crc_key(t->name);
        if (!t->data || !key) {
            FAIL(p, NN_ENOMEM, "out of memory for tensor '%.80s' of %zu bytes", t->name, t->bytes);
        } else if (t->bytes > 0 && read(ctx, t->data, t->bytes) != 0) {
            FAIL(p, NN_ECORRUPT, "truncated: tensor '%.80s' cannot be read", t->name);
        } else {
            const char *expected = nn_st_meta(f, key);
            char digits[9];
            snprintf(digits, sizeof digits, "%08lx", (unsigned long)crc32_z(0, t->data, t->bytes));
            if (!expected && nn_st_meta(f, "nn.format"))
                FAIL(p, NN_ECORRUPT, "the checksum of tensor '%.80s' is missing", t->name);
            if (expected && strcmp(expected, digits) != 0)
                FAIL(p, NN_ECORRUPT, "the checksum of tensor '%.80s' is wrong", t->name);
            if (is_big_endian()) swap_bytes(t->data, t->bytes, nn_dtype_size(t->dtype));
            for (size_t b = 0; t->dtype == NN_BOOL && b < t->bytes; b++)
                if (((unsigned char *)t->data)[b] > 1)
                    FAIL(p, NN_ECORRUPT, "tensor '%.80s' has a BOOL that is neither 0 nor 1",
                         t->name);
        }
        free(key);
    }
}

nn_status nn_st_read(nn_st_file **out, nn_read_fn read, size_t size, void *ctx, char *why)
{
    unsigned char length[8];
    if (why) why[0] = '\0';
    *out = NULL;
    if (size < 8) {
        nn_say(why, "%zu bytes are too few for a safetensors file", size);
        return NN_EFORMAT;
    }
    if (read(ctx, length, 8) != 0) {
        nn_say(why, "cannot read the header's length");
        return NN_EIO;
    }
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--) n = n << 8 | length[i];
    const char *kind = nn_sniff(length, 8);
    if (n < 2 || n > HEADER_MAX || n > size - 8) {
        if (kind)
            nn_say(why, "this is %s, not a safetensors file", kind);
        else
            nn_say(why, "not a safetensors file: a header of %llu bytes in a file of %zu",
                   (unsigned long long)n, size);
        return NN_EFORMAT;
    }
    char *header = malloc((size_t)n);
    Parser p = { .f = header ? nn_st_new() : NULL, .why = why };
    if (!p.f) {
        nn_say(why, "out of memory for a header of %llu bytes", (unsigned long long)n);
        free(header);
        return NN_ENOMEM;
    }
    if (read(ctx, header, (size_t)n) != 0)
        FAIL(&p, NN_ECORRUPT, "truncated: the header cannot be read");
    if (p.status == NN_OK && header[0] != '{')
        FAIL(&p, NN_EFORMAT, "not a safetensors file: no header");
    if (p.status == NN_OK) {
        p.at = p.start = header;
        p.end = header + n;
        read_header(&p);
    }
    if (p.status == NN_OK) check_header_crc(&p, length, (size_t)n);
    if (p.status == NN_OK) place_entries(&p, size - 8 - (size_t)n);
    if (p.status == NN_OK) read_tensors(&p, read, ctx);
    for (int i = 0; i < p.n_entries; i++) tensor_free(p.entries[i].tensor);
    free(p.entries);
    free(header);
    if (p.status != NN_OK)
        nn_st_close(p.f);
    else
        *out = p.f;
    return p.status;
}

nn_status nn_st_open(nn_st_file **out, const char *path, char *why)
{
    nn_in in;
    char reason[NN_ERROR_TEXT] = "";
    *out = NULL;
    nn_status s = nn_in_open(&in, path, why);
    if (s != NN_OK) return s;
    s = nn_st_read(out, nn_in_read, in.size, &in, reason);
    if (s == NN_OK && !nn_in_at_end(&in)) {
        nn_st_close(*out);
        *out = NULL;
        s = NN_ECORRUPT;
        nn_say(reason, "the file grew while it was read");
    }
    nn_in_close(&in);
    if (s != NN_OK) nn_say(why, "%.100s: %.150s", path, reason);
    return s;
}

typedef struct Memory {
    const unsigned char *at;
    size_t left;
} Memory;

static int memory_read(void *ctx, void *data, size_t n)
{
    Memory *m = ctx;
    if (n > m->left) return -1;
    memcpy(data, m->at, n);
    m->at += n;
    m->left -= n;
    return 0;
}

nn_status nn_st_parse(nn_st_file **out, const void *bytes, size_t size, char *why)
{
    Memory m = { bytes, size };
    return nn_st_read(out, memory_read, size, &m, why);
}

/* ---- writing ---- */

static void text_puts(Text *t, const char *s)
{
    text_put(t, s, strlen(s));
}

static void text_string(Text *t, const char *s)
{
    char escape[8];
    text_puts(t, "\"");
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') {
            snprintf(escape, sizeof escape, "\\%c", *s);
            text_puts(t, escape);
        } else if ((unsigned char)*s < 0x20) {
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*s);
            text_puts(t, escape);
        } else {
            text_put(t, s, 1);
        }
    }
    text_puts(t, "\"");
}

/* Calls `write` with the tensor's bytes in file order, in pieces where they must be turned around. */
static int write_data(const nn_st_tensor *t, nn_write_fn write, void *ctx)
{
    if (!is_big_endian()) return t->bytes > 0 ? write(ctx, t->data, t->bytes) : 0;
    unsigned char piece[4096];
    for (size_t done = 0; done < t->bytes;) {
        size_t n = t->bytes - done < sizeof piece ? t->bytes - done : sizeof piece;
        memcpy(piece, (unsigned char *)t->data + done, n);
        swap_bytes(piece, n, nn_dtype_size(t->dtype));
        if (write(ctx, piece, n) != 0) return -1;
        done += n;
    }
    return 0;
}

static int add_crc(void *ctx, const void *data, size_t n)
{
    uLong *crc = ctx;
    *crc = crc32_z(*crc, data, n);
    return 0;
}

/* In falling order of element size, so that every tensor is aligned for readers that map the file. */
static const size_t size_order[] = { 8, 4, 1 };

static void text_tensor(Text *text, const nn_st_tensor *t, uint64_t *at)
{
    char number[48];
    text_puts(text, ",");
    text_string(text, t->name);
    text_puts(text, ":{\"dtype\":\"");
    text_puts(text, nn_dtype_name(t->dtype));
    text_puts(text, "\",\"shape\":[");
    for (int i = 0; i < t->rank; i++) {
        snprintf(number, sizeof number, "%s%lld", i ? "," : "", (long long)t->shape[i]);
        text_puts(text, number);
    }
    snprintf(number, sizeof number, "],\"data_offsets\":[%llu,", (unsigned long long)*at);
    text_puts(text, number);
    *at += t->bytes;
    snprintf(number, sizeof number, "%llu]}", (unsigned long long)*at);
    text_puts(text, number);
}

/* Length field and header, checksum included, ready to be written. */
static void text_header(Text *text, const nn_st_file *f)
{
    char digits[12];
    text_put(text, "\0\0\0\0\0\0\0", 8);
    text_puts(text, PREFIX "00000000\",\"nn.format\":\"1\"");
    for (int i = 0; i < f->n_meta; i++) {
        const Meta *m = &f->meta[i];
        /* What an opened file said about its own bytes does not hold for the new one. */
        if (strcmp(m->key, "nn.crc32") == 0 || strcmp(m->key, "nn.format") == 0 ||
            strncmp(m->key, "crc32.", 6) == 0)
            continue;
        text_puts(text, ",");
        text_string(text, m->key);
        text_puts(text, ":");
        text_string(text, m->value);
    }
    for (int i = 0; i < f->n_tensors; i++) {
        uLong crc = 0;
        write_data(f->tensors[i], add_crc, &crc);
        char *key = crc_key(f->tensors[i]->name);
        if (!key) text->failed = 1;
        text_puts(text, ",");
        text_string(text, key ? key : "");
        snprintf(digits, sizeof digits, ":\"%08lx\"", (unsigned long)crc);
        text_puts(text, digits);
        free(key);
    }
    text_puts(text, "}");
    uint64_t at = 0;
    for (size_t k = 0; k < sizeof size_order / sizeof *size_order; k++)
        for (int i = 0; i < f->n_tensors; i++)
            if (nn_dtype_size(f->tensors[i]->dtype) == size_order[k])
                text_tensor(text, f->tensors[i], &at);
    text_puts(text, "}");
    while (text->len % 8 != 0 && !text->failed) text_puts(text, " ");
    if (text->failed) return;
    size_t n = text->len - 8;
    for (int i = 0; i < 8; i++) text->data[i] = (char)((uint64_t)n >> (8 * i) & 0xff);
    uint32_t crc = header_crc((unsigned char *)text->data, text->data + 8, n);
    snprintf(digits, sizeof digits, "%08lx", (unsigned long)crc);
    memcpy(text->data + 8 + CRC_AT, digits, CRC_DIGITS);
}

nn_status nn_st_write(const nn_st_file *f, nn_write_fn write, void *ctx, char *why)
{
    Text text = { 0 };
    nn_status s = NN_OK;
    if (!f || !write) return NN_EINVAL;
    if (why) why[0] = '\0';
    text_header(&text, f);
    if (text.failed) {
        nn_say(why, "out of memory for the header");
        s = NN_ENOMEM;
    } else if (text.len - 8 > HEADER_MAX) {
        nn_say(why, "the header would have %zu bytes, more than %d", text.len - 8, HEADER_MAX);
        s = NN_ESIZE;
    } else if (write(ctx, text.data, text.len) != 0) {
        s = NN_EIO;
    }
    for (size_t k = 0; k < sizeof size_order / sizeof *size_order; k++)
        for (int i = 0; i < f->n_tensors && s == NN_OK; i++)
            if (nn_dtype_size(f->tensors[i]->dtype) == size_order[k] &&
                write_data(f->tensors[i], write, ctx) != 0)
                s = NN_EIO;
    if (s == NN_EIO) nn_say(why, "writing failed");
    free(text.data);
    return s;
}

nn_status nn_st_save(const nn_st_file *f, const char *path, char *why)
{
    nn_out o;
    if (!f || !path) return NN_EINVAL;
    nn_status s = nn_out_open(&o, path, why);
    if (s != NN_OK) return s;
    s = nn_st_write(f, nn_out_write, &o, why);
    if (s == NN_OK) return nn_out_commit(&o, why);
    if (s == NN_EIO) nn_say(why, "%s: cannot write: %s", path, strerror(errno));
    nn_out_abort(&o);
    return s;
}
