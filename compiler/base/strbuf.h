/* SPDX-License-Identifier: MIT
 *
 * Text under construction, in an arena, always NUL-terminated. Number formatting never consults the
 * locale: the compiler does not call setlocale, and sb_real prints the shortest digits that read
 * back as the same double.
 */
#ifndef NNC_BASE_STRBUF_H
#define NNC_BASE_STRBUF_H

#include "base/arena.h"

typedef struct StrBuf {
    Arena *arena;
    char *text; /* NUL-terminated; never NULL after sb_init */
    size_t len, cap;
} StrBuf;

void sb_init(StrBuf *sb, Arena *a);
void sb_putc(StrBuf *sb, char c);
void sb_puts(StrBuf *sb, const char *s);
void sb_putn(StrBuf *sb, const char *s, size_t n);
void sb_printf(StrBuf *sb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sb_vprintf(StrBuf *sb, const char *fmt, va_list ap);
void sb_real(StrBuf *sb, double x); /* shortest exact decimal: 0.1, 1e-05, 16777217, inf, nan */

/* The nearest of `names` (n of them) to `word`: by edit distance at most max(1, len/3), or else the one that differs
 * least in length among those that begin with `word` or that it begins with, case and underscores apart; NULL if
 * none. */
const char *str_nearest(const char *word, const char *const *names, size_t n);

#endif
