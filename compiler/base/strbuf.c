/* SPDX-License-Identifier: MIT
 *
 * StrBuf, Vec growth and small string helpers shared by every stage.
 */
#include "base/strbuf.h"
#include "base/vec.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *vec_grow(Arena *a, void *data, size_t len, size_t *cap, size_t size)
{
    const size_t new_cap = *cap ? *cap * 2 : 8;
    void *p = arena_alloc_array(a, new_cap, size);
    if (len) memcpy(p, data, len * size);
    *cap = new_cap;
    return p;
}

void sb_init(StrBuf *sb, Arena *a)
{
    *sb = (StrBuf){ .arena = a, .text = arena_alloc(a, 64), .cap = 64 };
}

void sb_putn(StrBuf *sb, const char *s, size_t n)
{
    if (sb->cap - sb->len <= n) {
        size_t cap = sb->cap;
        while (cap - sb->len <= n) cap *= 2;
        char *text = arena_alloc(sb->arena, cap);
        memcpy(text, sb->text, sb->len);
        sb->text = text;
        sb->cap = cap;
    }
    memcpy(sb->text + sb->len, s, n);
    sb->len += n;
    sb->text[sb->len] = '\0';
}

void sb_putc(StrBuf *sb, char c)
{
    sb_putn(sb, &c, 1);
}

void sb_puts(StrBuf *sb, const char *s)
{
    sb_putn(sb, s, strlen(s));
}

void sb_vprintf(StrBuf *sb, const char *fmt, va_list ap)
{
    char small[256];
    va_list again;
    va_copy(again, ap);
    const int n = vsnprintf(small, sizeof small, fmt, again);
    va_end(again);
    if (n < 0) return;
    if ((size_t)n < sizeof small) {
        sb_putn(sb, small, (size_t)n);
        return;
    }
    char *big = arena_alloc(sb->arena, (size_t)n + 1);
    vsnprintf(big, (size_t)n + 1, fmt, ap);
    sb_putn(sb, big, (size_t)n);
}

void sb_printf(StrBuf *sb, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    sb_vprintf(sb, fmt, ap);
    va_end(ap);
}

void sb_real(StrBuf *sb, double x)
{
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x || isnan(x)) break;
    }
    if (isnan(x))
        sb_puts(sb, "nan");
    else if (strchr(text, 'e') && fabs(x) < 1e15 && x == floor(x))
        sb_printf(sb, "%.0f", x); /* 100, not 1e+02 */
    else
        sb_puts(sb, text);
}

/* Edits between two words; neighbours that changed places count as one. Words longer than 63 bytes never count as
 * near. */
static size_t edit_distance(const char *a, const char *b)
{
    const size_t la = strlen(a), lb = strlen(b);
    size_t rows[3][64];
    if (la > 63 || lb > 63) return SIZE_MAX;
    for (size_t j = 0; j <= lb; j++) rows[0][j] = j;
    for (size_t i = 1; i <= la; i++) {
        const size_t *before = rows[(i + 1) % 3], *last = rows[(i - 1) % 3];
        size_t *row = rows[i % 3];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[la % 3][lb];
}

/* The letters and digits of a word, small. */
static void plain_word(const char *word, char out[64])
{
    size_t n = 0;
    for (; *word && n < 63; word++) {
        if (*word >= 'A' && *word <= 'Z')
            out[n++] = (char)(*word - 'A' + 'a');
        else if ((*word >= 'a' && *word <= 'z') || (*word >= '0' && *word <= '9'))
            out[n++] = *word;
    }
    out[n] = '\0';
}

/* How much longer one word is than the other where one begins with the other: maxpool and max_pool2d, BatchNorm2d and
 * batch_norm. SIZE_MAX: neither does, or the common part says too little. */
static size_t extension(const char *word, const char *name)
{
    char w[64], m[64];
    plain_word(word, w);
    plain_word(name, m);
    const size_t nw = strlen(w), nm = strlen(m), common = nw < nm ? nw : nm;
    if (common < (nw < nm ? 2 : 4) || strncmp(w, m, common)) return SIZE_MAX;
    return nw < nm ? nm - nw : nw - nm;
}

const char *str_nearest(const char *word, const char *const *names, size_t n)
{
    const size_t third = strlen(word) / 3;
    size_t best = third > 1 ? third + 1 : 2;
    const char *nearest = NULL;
    for (size_t i = 0; i < n; i++) {
        const size_t d = edit_distance(word, names[i]);
        /* Of two equally near names, the one with the same first letter is more likely meant. */
        if (d < best || (d == best && nearest && nearest[0] != word[0] && names[i][0] == word[0])) {
            best = d;
            nearest = names[i];
        }
    }
    best = SIZE_MAX;
    for (size_t i = 0; i < n && (!nearest || best < SIZE_MAX); i++) {
        const size_t d = extension(word, names[i]);
        if (d >= best) continue;
        best = d;
        nearest = names[i];
    }
    return nearest;
}
