/* SPDX-License-Identifier: MIT
 *
 * Runs scanner and parser over one source. In: a Source. Out: a File, or NULL after errors.
 */
#include "front/parse.h"

int scan_and_parse(Parse *p); /* grammar/nn.l */

Diagnostic *parse_error(Parse *p, Span span, const char *id, const char *fmt, ...)
{
    if (p->stop) return NULL;
    va_list ap;
    va_start(ap, fmt);
    Diagnostic *m = diag_verror(p->diag, span, id, fmt, ap);
    va_end(ap);
    p->errors++;
    return m;
}

File *parse_file(Arena *a, Diag *d, const Source *source)
{
    Parse p = { .arena = a, .diag = d, .source = source };
    p.file = ARENA_NEW(a, File);
    p.file->source = source;
    p.last = p.before = (Span){ source, 0, 0 };
    if (scan_and_parse(&p) != 0 && p.errors == 0)
        parse_error(&p, p.last, "syntax", "program could not be read");
    if (p.errors == 0 && !p.has_header && p.file->items.len) {
        Diagnostic *m = parse_error(&p, (Span){ source, 0, 0 }, "syntax-header",
                                    "file does not say its language version");
        diag_hint(m, "begin the file with: nn 1;");
    }
    return p.errors ? NULL : p.file;
}
