/* SPDX-License-Identifier: MIT
 *
 * Reads source files. In: a path, or "-" for stdin. Out: a Source that holds well-formed text.
 * Invariant: no byte of the result can confuse a reader: no NUL, no malformed UTF-8, no control
 * characters, and none of the invisible characters that reorder or hide text in an editor.
 */
#include "front/front.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static Diagnostic *cannot(Diag *d, int *exit_code, int code, const char *path, const char *why)
{
    *exit_code = code;
    return diag_error(d, (Span){ 0 }, "input", "cannot read %s: %s", path, why);
}

/* The whole of a stream, or NULL after an error. */
static char *slurp(Arena *a, Diag *d, FILE *f, const char *name, size_t *len, int *exit_code)
{
    size_t cap = 1 << 16, n = 0;
    char *text = arena_alloc(a, cap + 1);
    for (;;) {
        n += fread(text + n, 1, cap - n, f);
        if (n < cap) break;
        if (cap > FRONT_MAX_BYTES) {
            cannot(d, exit_code, 4, name, "larger than the limit of 16 MiB");
            return NULL;
        }
        char *more = arena_alloc(a, 2 * cap + 1);
        memcpy(more, text, n);
        text = more;
        cap *= 2;
    }
    if (ferror(f)) {
        cannot(d, exit_code, 3, name, strerror(errno));
        return NULL;
    }
    if (n > FRONT_MAX_BYTES) {
        cannot(d, exit_code, 4, name, "larger than the limit of 16 MiB");
        return NULL;
    }
    text[n] = '\0';
    *len = n;
    return text;
}

/* Length of the well-formed UTF-8 sequence at p (n bytes are left), or 0. */
static size_t utf8_length(const unsigned char *p, size_t n, uint32_t *code)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    const size_t len = p[0] < 0x80                   ? 1
                       : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                       : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                       : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                                     : 0;
    if (len == 0 || len > n) return 0;
    *code = len == 1 ? p[0] : p[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        *code = *code << 6 | (p[i] & 0x3f);
    }
    if (len > 1 && *code < least[len]) return 0;
    return *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000) ? 0 : len;
}

static bool is_deceptive(uint32_t c)
{
    return (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x2069) || c == 0x61c || c == 0xfeff || c == 0xad;
}

static bool check_text(Diag *d, const Source *s)
{
    const unsigned char *text = (const unsigned char *)s->text;
    const int before = diag_errors(d);
    for (size_t i = 0; i < s->len && diag_errors(d) - before < 5;) {
        uint32_t code = 0;
        const size_t len = utf8_length(text + i, s->len - i, &code);
        const Span at = { s, (uint32_t)i, (uint32_t)(i + (len ? len : 1)) };
        if (len == 0)
            diag_error(d, at, "lex-utf8", "byte 0x%02x is not valid UTF-8 here", text[i]);
        else if (code < 0x20 && !strchr("\t\n\r\f\v", (int)code))
            diag_error(d, at, "lex-control", "byte 0x%02x is not allowed in a text",
                       (unsigned)code);
        else if (code == 0)
            diag_error(d, at, "lex-control", "byte 0x00 is not allowed in a text");
        else if (code == 0x7f || (code >= 0x80 && code < 0xa0))
            diag_error(d, at, "lex-control", "control character U+%04X is not allowed in a text",
                       (unsigned)code);
        else if (is_deceptive(code))
            diag_error(d, at, "lex-invisible",
                       "invisible character U+%04X is not allowed, not even in comments",
                       (unsigned)code);
        i += len ? len : 1;
    }
    return diag_errors(d) == before;
}

const Source *front_read(Arena *a, Diag *d, const char *path, int *exit_code)
{
    const bool is_stdin = strcmp(path, "-") == 0;
    const char *name = is_stdin ? "<stdin>" : arena_strdup(a, path);
    FILE *f = stdin;
    if (!is_stdin) {
        struct stat st;
        if (stat(path, &st) != 0) {
            cannot(d, exit_code, 3, path, strerror(errno));
            return NULL;
        }
        if (!S_ISREG(st.st_mode)) {
            cannot(d, exit_code, 3, path,
                   S_ISDIR(st.st_mode) ? "it is a directory" : "not a regular file");
            return NULL;
        }
        if (st.st_size > FRONT_MAX_BYTES) {
            cannot(d, exit_code, 4, path, "larger than the limit of 16 MiB");
            return NULL;
        }
        f = fopen(path, "rb");
        if (!f) {
            cannot(d, exit_code, 3, path, strerror(errno));
            return NULL;
        }
    }
    size_t len = 0;
    char *text = slurp(a, d, f, name, &len, exit_code);
    if (!is_stdin) fclose(f);
    if (!text) return NULL;
    const unsigned char *u = (const unsigned char *)text;
    if (len >= 3 && u[0] == 0xef && u[1] == 0xbb && u[2] == 0xbf) {
        text += 3;
        len -= 3;
    }
    const Source *s = source_new(a, name, text, len);
    if (len >= 2 && ((u[0] == 0xff && u[1] == 0xfe) || (u[0] == 0xfe && u[1] == 0xff) ||
                     (u[0] == 0 && u[1] != 0) || (u[0] != 0 && u[1] == 0))) {
        Diagnostic *m = diag_error(d, (Span){ s, 0, 1 }, "lex-utf16", "file looks like UTF-16");
        diag_hint(m, "save it as UTF-8");
        *exit_code = 1;
        return NULL;
    }
    if (!check_text(d, s)) {
        *exit_code = 1;
        return NULL;
    }
    return s;
}
