/* SPDX-License-Identifier: MIT
 *
 * Collects diagnostics and prints them for people or, one JSON object a line, for editors.
 * In: messages with byte spans. Out: text that is a pure function of the messages and of the sources.
 * Invariant: whatever bytes a source holds, what is printed is valid UTF-8 without control characters.
 */
#include "base/diag.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/map.h"
#include "base/strbuf.h"
#include "base/vec.h"

enum {
    LINE_WINDOW = 96,  /* bytes of a source line that are shown around a span */
    MAX_INST_NOTES = 8 /* levels of the instantiation stack that are shown */
};

typedef struct Note {
    Span span;
    const char *text;
    bool says_where; /* the text names its place: only JSON prints the span */
} Note;

struct Diagnostic {
    Diag *diag;
    Severity severity;
    Span span;
    const char *id, *text, *hint;
    bool as_error; /* a warning that -Werror turned into an error */
    VEC(Span) also;
    VEC(Note) notes;
};

struct Diag {
    Arena *arena;
    DiagOptions options;
    VEC(Diagnostic *) pending;
    StrMap *said; /* place and text of every message: equal ones are shown once */
    int errors, warnings;
    bool cut; /* an error was dropped because of max_errors */
};

/* ---- sources and spans ---- */

Source *source_new(Arena *a, const char *name, const char *text, size_t len)
{
    size_t n_lines = 1;
    for (size_t i = 0; i < len; i++)
        if (text[i] == '\n' || (text[i] == '\r' && !(i + 1 < len && text[i + 1] == '\n')))
            n_lines++;
    uint32_t *start = ARENA_ARRAY(a, uint32_t, n_lines);
    size_t line = 1;
    for (size_t i = 0; i < len; i++)
        if (text[i] == '\n' || (text[i] == '\r' && !(i + 1 < len && text[i + 1] == '\n')))
            start[line++] = (uint32_t)(i + 1);
    Source *s = ARENA_NEW(a, Source);
    *s =
        (Source){ .name = name, .text = text, .len = len, .line_start = start, .n_lines = n_lines };
    return s;
}

static size_t line_of(const Source *s, uint32_t offset)
{
    size_t lo = 0, hi = s->n_lines;
    while (hi - lo > 1) {
        const size_t mid = lo + (hi - lo) / 2;
        if (s->line_start[mid] <= offset)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

Place span_place(Span s)
{
    if (!s.source) return (Place){ 1, 1 };
    const size_t line = line_of(s.source, s.start);
    return (Place){ (int)line + 1, (int)(s.start - s.source->line_start[line]) + 1 };
}

Span span_join(Span a, Span b)
{
    if (!a.source) return b;
    if (!b.source || a.source != b.source) return a;
    if (b.start < a.start) a.start = b.start;
    if (b.end > a.end) a.end = b.end;
    return a;
}

/* ---- collecting ---- */

Diag *diag_new(Arena *a, DiagOptions options)
{
    Diag *d = ARENA_NEW(a, Diag);
    d->arena = a;
    d->options = options;
    d->said = map_new(a);
    return d;
}

static bool has_word(const char *list, const char *word)
{
    const size_t n = strlen(word);
    for (const char *p = list; p && *p;) {
        const size_t len = strcspn(p, " ");
        if (len == n && memcmp(p, word, n) == 0) return true;
        p += len;
        while (*p == ' ') p++;
    }
    return false;
}

/* An unrolled loop or a block with many instances meets the same fault many times. */
static bool already_said(Diag *d, Span span, const char *text)
{
    const char *key = arena_printf(d->arena, "%s:%u:%u:%s", span.source ? span.source->name : "",
                                   (unsigned)span.start, (unsigned)span.end, text);
    if (map_get(d->said, key)) return true;
    map_set(d->said, key, d);
    return false;
}

static Diagnostic *add(Diag *d, Severity severity, bool as_error, Span span, const char *id,
                       const char *fmt, va_list ap)
{
    const bool is_error = severity == SEV_ERROR || as_error;
    const char *text = arena_vprintf(d->arena, fmt, ap);
    if (already_said(d, span, text)) return NULL;
    if (is_error && diag_full(d)) {
        d->cut = true;
        return NULL;
    }
    Diagnostic *m = ARENA_NEW(d->arena, Diagnostic);
    m->diag = d;
    m->severity = severity;
    m->as_error = as_error;
    m->span = span;
    m->id = id;
    m->text = text;
    vec_push(d->arena, &d->pending, m);
    if (is_error)
        d->errors++;
    else
        d->warnings++;
    return m;
}

Diagnostic *diag_verror(Diag *d, Span span, const char *id, const char *fmt, va_list ap)
{
    return add(d, SEV_ERROR, false, span, id, fmt, ap);
}

Diagnostic *diag_error(Diag *d, Span span, const char *id, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    Diagnostic *m = diag_verror(d, span, id, fmt, ap);
    va_end(ap);
    return m;
}

Diagnostic *diag_warning(Diag *d, Span span, const char *id, const char *fmt, ...)
{
    if (has_word(d->options.disabled, id)) return NULL;
    const bool as_error = d->options.werror || has_word(d->options.as_error, id);
    va_list ap;
    va_start(ap, fmt);
    Diagnostic *m = add(d, SEV_WARNING, as_error, span, id, fmt, ap);
    va_end(ap);
    return m;
}

void diag_also(Diagnostic *m, Span span)
{
    if (m && span.source) vec_push(m->diag->arena, &m->also, span);
}

void diag_note(Diagnostic *m, Span span, const char *fmt, ...)
{
    if (!m) return;
    va_list ap;
    va_start(ap, fmt);
    Note note = { span, arena_vprintf(m->diag->arena, fmt, ap), false };
    va_end(ap);
    vec_push(m->diag->arena, &m->notes, note);
}

void diag_hint(Diagnostic *m, const char *fmt, ...)
{
    if (!m) return;
    va_list ap;
    va_start(ap, fmt);
    m->hint = arena_vprintf(m->diag->arena, fmt, ap);
    va_end(ap);
}

void diag_inst(Diagnostic *m, const Inst *inst)
{
    if (!m) return;
    /* A fault that shows inside the standard library is the caller's: point at the user's call. */
    if (m->span.source && m->span.source->is_std) {
        const Inst *user = inst;
        while (user && user->call.source && user->call.source->is_std) user = user->parent;
        if (user && user->call.source) {
            const Place p = span_place(m->span);
            diag_note(m, (Span){ 0 }, "found at %s:%d:%d", m->span.source->name, p.line, p.col);
            m->span = user->call;
            m->also.len = 0;
        }
    }
    int shown = 0;
    for (; inst; inst = inst->parent) {
        if (++shown > MAX_INST_NOTES) {
            diag_note(m, (Span){ 0 }, "and further instantiations around it");
            break;
        }
        const bool labelled = inst->label && *inst->label;
        const Place p = span_place(inst->call);
        if (inst->call.source)
            diag_note(m, inst->call, "in %s(%s)%s%s, called at %s:%d:%d", inst->block,
                      inst->args ? inst->args : "", labelled ? " @" : "",
                      labelled ? inst->label : "", inst->call.source->name, p.line, p.col);
        else
            diag_note(m, (Span){ 0 }, "in %s(%s)%s%s", inst->block, inst->args ? inst->args : "",
                      labelled ? " @" : "", labelled ? inst->label : "");
        m->notes.data[m->notes.len - 1].says_where = true;
    }
}

int diag_errors(const Diag *d)
{
    return d->errors;
}

int diag_warnings(const Diag *d)
{
    return d->warnings;
}

bool diag_full(const Diag *d)
{
    return d->options.max_errors > 0 && d->errors >= d->options.max_errors;
}

/* ---- printing ---- */

/* Length of the well-formed, printable UTF-8 sequence at p, or 0. Bidirectional and zero-width controls
 * count as unprintable: a terminal would show a text other than the one that was compiled. */
static size_t printable(const unsigned char *p, size_t n)
{
    if (p[0] >= 0x20 && p[0] < 0x7f) return 1;
    const size_t len = p[0] >= 0xc2 && p[0] < 0xe0   ? 2
                       : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                       : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                                     : 0;
    if (!len || len > n) return 0;
    uint32_t code = p[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (p[i] & 0x3f);
    }
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    if (code < least[len] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return 0;
    if (code < 0xa0 || code == 0xad || code == 0x61c || code == 0xfeff) return 0;
    if ((code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e)) return 0;
    if (code >= 0x2060 && code <= 0x2069) return 0;
    return len;
}

static void put_safe(StrBuf *sb, const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    for (size_t n = strlen(s); n;) {
        const size_t len = printable(p, n);
        if (len)
            sb_putn(sb, (const char *)p, len);
        else
            sb_putc(sb, '?');
        p += len ? len : 1;
        n -= len ? len : 1;
    }
}

typedef struct Style {
    const char *bold, *error, *warning, *note, *mark, *off;
} Style;

static const Style plain = { "", "", "", "", "", "" };
static const Style colored = { "\033[1m",    "\033[1;31m", "\033[1;35m",
                               "\033[1;36m", "\033[1;32m", "\033[0m" };

static void put_place(StrBuf *sb, const Style *st, Span span)
{
    sb_puts(sb, st->bold);
    if (span.source) {
        const Place p = span_place(span);
        put_safe(sb, span.source->name);
        sb_printf(sb, ":%d:%d: ", p.line, p.col);
    } else {
        sb_puts(sb, "nnc: ");
    }
    sb_puts(sb, st->off);
}

static char mark_at(uint32_t at, Span primary, const Span *also, size_t n_also)
{
    if (at == primary.start) return '^';
    if (at > primary.start && at < primary.end) return '~';
    for (size_t i = 0; i < n_also; i++)
        if (at >= also[i].start && (at < also[i].end || at == also[i].start)) return '~';
    return ' ';
}

/* The source line with the span underlined; `also` are further spans on the same line. */
static void put_line(StrBuf *sb, const Style *st, Span span, const Span *also, size_t n_also)
{
    const Source *s = span.source;
    const size_t line = line_of(s, span.start);
    uint32_t from = s->line_start[line];
    uint32_t end = line + 1 < s->n_lines ? s->line_start[line + 1] : (uint32_t)s->len;
    while (end > from && (s->text[end - 1] == '\n' || s->text[end - 1] == '\r')) end--;
    bool cut_left = false, cut_right = false;
    if (end - from > 2 * LINE_WINDOW) {
        if (span.start - from > LINE_WINDOW) {
            from = span.start - LINE_WINDOW / 2;
            while (from < span.start && ((unsigned char)s->text[from] & 0xc0) == 0x80) from++;
            cut_left = true;
        }
        if (end - from > 2 * LINE_WINDOW) {
            end = from + 2 * LINE_WINDOW;
            cut_right = true;
        }
    }
    StrBuf under;
    sb_init(&under, sb->arena);
    sb_printf(sb, "%5zu | %s", line + 1, cut_left ? "..." : "");
    sb_puts(&under, cut_left ? "   " : "");
    uint32_t i = from;
    while (i < end) {
        const char mark = mark_at(i, span, also, n_also);
        if (s->text[i] == '\t') {
            sb_putc(sb, '\t');
            sb_putc(&under, mark == ' ' ? '\t' : mark);
            if (mark != ' ') sb_putc(&under, '\t');
            i++;
            continue;
        }
        const size_t len = printable((const unsigned char *)s->text + i, end - i);
        if (len)
            sb_putn(sb, s->text + i, len);
        else
            sb_putc(sb, '?');
        sb_putc(&under, mark);
        i += len ? (uint32_t)len : 1;
    }
    if (span.start >= end) sb_putc(&under, '^');
    while (under.len && (under.text[under.len - 1] == ' ' || under.text[under.len - 1] == '\t'))
        under.text[--under.len] = '\0';
    sb_printf(sb, "%s\n      | %s%s%s\n", cut_right ? "..." : "", st->mark, under.text, st->off);
}

static bool same_line(Span a, Span b)
{
    return a.source == b.source && line_of(a.source, a.start) == line_of(b.source, b.start);
}

static void put_text(StrBuf *sb, const Style *st, const Diagnostic *m)
{
    put_place(sb, st, m->span);
    const bool is_error = m->severity == SEV_ERROR || m->as_error;
    sb_printf(sb, "%s%s:%s %s", is_error ? st->error : st->warning, is_error ? "error" : "warning",
              st->off, st->bold);
    put_safe(sb, m->text);
    sb_puts(sb, st->off);
    if (m->severity == SEV_WARNING) sb_printf(sb, " [-W%s%s]", m->as_error ? "error=" : "", m->id);
    sb_putc(sb, '\n');
    if (m->span.source) {
        Arena *a = sb->arena;
        VEC(Span) here = { 0 };
        for (size_t i = 0; i < m->also.len; i++)
            if (same_line(m->span, m->also.data[i])) vec_push(a, &here, m->also.data[i]);
        put_line(sb, st, m->span, here.data, here.len);
        for (size_t i = 0; i < m->also.len; i++) {
            if (same_line(m->span, m->also.data[i])) continue;
            put_place(sb, st, m->also.data[i]);
            sb_printf(sb, "%snote:%s together with this\n", st->note, st->off);
            put_line(sb, st, m->also.data[i], NULL, 0);
        }
    }
    for (size_t i = 0; i < m->notes.len; i++) {
        const Note *note = &m->notes.data[i];
        const bool place = note->span.source && !note->says_where;
        if (place) put_place(sb, st, note->span);
        sb_printf(sb, "%snote:%s ", st->note, st->off);
        put_safe(sb, note->text);
        sb_putc(sb, '\n');
        if (place) put_line(sb, st, note->span, NULL, 0);
    }
    if (m->hint) {
        sb_printf(sb, "%shint:%s ", st->note, st->off);
        put_safe(sb, m->hint);
        sb_putc(sb, '\n');
    }
}

static void put_json_string(StrBuf *sb, const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    sb_putc(sb, '"');
    for (size_t n = strlen(s); n;) {
        const size_t len = printable(p, n);
        if (*p == '"' || *p == '\\')
            sb_printf(sb, "\\%c", *p);
        else if (len)
            sb_putn(sb, (const char *)p, len);
        else if (*p < 0x20 || *p == 0x7f)
            sb_printf(sb, "\\u%04x", *p);
        else
            sb_puts(sb, "\\ufffd");
        p += len ? len : 1;
        n -= len ? len : 1;
    }
    sb_putc(sb, '"');
}

/* The members of a place, with a comma in front unless they come first. */
static void put_json_span(StrBuf *sb, Span span, bool first)
{
    if (!span.source) return;
    const Place from = span_place(span);
    const Place to = span_place((Span){ span.source, span.end, span.end });
    sb_puts(sb, first ? "\"file\":" : ",\"file\":");
    put_json_string(sb, span.source->name);
    sb_printf(sb, ",\"line\":%d,\"column\":%d,\"end_line\":%d,\"end_column\":%d", from.line,
              from.col, to.line, to.col);
}

static void put_json(StrBuf *sb, const Diagnostic *m)
{
    const bool is_error = m->severity == SEV_ERROR || m->as_error;
    sb_printf(sb, "{\"severity\":\"%s\",\"id\":\"%s\"", is_error ? "error" : "warning", m->id);
    put_json_span(sb, m->span, false);
    sb_puts(sb, ",\"message\":");
    put_json_string(sb, m->text);
    sb_puts(sb, ",\"also\":[");
    for (size_t i = 0; i < m->also.len; i++) {
        sb_puts(sb, i ? ",{" : "{");
        put_json_span(sb, m->also.data[i], true);
        sb_putc(sb, '}');
    }
    sb_puts(sb, "],\"notes\":[");
    for (size_t i = 0; i < m->notes.len; i++) {
        sb_printf(sb, "%s{\"message\":", i ? "," : "");
        put_json_string(sb, m->notes.data[i].text);
        put_json_span(sb, m->notes.data[i].span, false);
        sb_putc(sb, '}');
    }
    sb_puts(sb, "]");
    if (m->hint) {
        sb_puts(sb, ",\"hint\":");
        put_json_string(sb, m->hint);
    }
    sb_puts(sb, "}\n");
}

void diag_flush(Diag *d, FILE *to)
{
    const char *no_color = getenv("NO_COLOR");
    const bool color =
        d->options.color == COLOR_ALWAYS ||
        (d->options.color == COLOR_AUTO && !(no_color && *no_color) && isatty(fileno(to)));
    StrBuf sb;
    sb_init(&sb, d->arena);
    for (size_t i = 0; i < d->pending.len; i++) {
        if (d->options.json)
            put_json(&sb, d->pending.data[i]);
        else
            put_text(&sb, color ? &colored : &plain, d->pending.data[i]);
    }
    if (d->cut && !d->options.json) sb_printf(&sb, "nnc: stopped after %d errors\n", d->errors);
    d->cut = false;
    d->pending.len = 0;
    fwrite(sb.text, 1, sb.len, to);
    fflush(to);
}
