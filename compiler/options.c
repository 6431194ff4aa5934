/* SPDX-License-Identifier: MIT
 *
 * The option table and its parser. Every option has exactly one row; unknown words are errors with the
 * nearest known one, and an option with a value may be given once.
 */
#include "options.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/strbuf.h"

typedef enum Kind { GROUP, FLAG, TEXT, CHOICE, LIST, WARNING } Kind;

typedef struct Option {
    const char *name; /* as written: "--emit", "-o"; of a GROUP: its heading */
    Kind kind;
    size_t offset;     /* of the field in Options */
    const char *value; /* FLAG: NULL; CHOICE: the words, separated by '|' */
    const char *help;
} Option;

#define FIELD(f) offsetof(Options, f)

static const Option table[] = {
    { "Output", GROUP, 0, NULL, NULL },
    { "-o", TEXT, FIELD(output), "FILE",
      "write FILE (and the header beside it); - is standard output" },
    { "--header", TEXT, FIELD(header), "FILE", "write the header to FILE" },
    { "--emit", CHOICE, FIELD(emit), "c|nnir|dot|summary|harness|ast", "what to write (c)" },
    { "--prefix", TEXT, FIELD(prefix), "NAME",
      "begin every public name with NAME (the model's name)" },
    { "--real", CHOICE, FIELD(real), "f32|f64", "type that f32 tensors are computed in (f32)" },
    { "--hvp", LIST, FIELD(products), "STEP",
      "also write STEP_hvp, which multiplies a vector with the Hessian of the step's loss" },
    { "--trace", LIST, FIELD(traces), "STEP",
      "also write STEP_trace, which gives every value in the step and the loss's gradient by it" },
    { "--no-blas", FLAG, FIELD(no_blas), NULL, "never call OpenBLAS for large products" },
    { "--max-memory", TEXT, FIELD(max_memory), "SIZE",
      "fail when an object would need more than SIZE (64k, 10M, 2G)" },
    { "-MD", FLAG, FIELD(depend), NULL, "write a make rule of what was read beside the output" },
    { "-MF", TEXT, FIELD(depfile), "FILE", "write it to FILE" },
    { "--depfile", TEXT, FIELD(depfile), "FILE", "the same as -MF" },
    { "Program", GROUP, 0, NULL, NULL },
    { "-I", LIST, FIELD(include_dirs), "DIR", "look for imports in DIR too" },
    { "-D", LIST, FIELD(defines), "NAME=VALUE", "set a const of the program" },
    { "--model", TEXT, FIELD(model), "NAME", "which model, when the file has several" },
    { "Looking inside", GROUP, 0, NULL, NULL },
    { "--report", FLAG, FIELD(report), NULL, "print the memory plan of every routine" },
    { "--values", TEXT, FIELD(values), "FILE",
      "what STEP_trace gave, as safetensors: --emit=dot draws it on the edges" },
    { "--dump-ir", TEXT, FIELD(dump_ir), "WHEN",
      "print the graph: after-PASS[,after-PASS...], all, changed" },
    { "--stop-after", TEXT, FIELD(stop_after), "PASS", "stop there and print the graph" },
    { "--no-pass", TEXT, FIELD(no_pass), "PASS,...", "leave out optional passes" },
    { "Messages", GROUP, 0, NULL, NULL },
    { "-W", WARNING, 0, "[no-]ID", "switch a warning on or off" },
    { "-Werror", WARNING, 0, "", "treat warnings as errors; -Werror=ID: one of them" },
    { "--color", CHOICE, FIELD(color), "auto|always|never",
      "colour messages (auto: on a terminal)" },
    { "--diagnostics", CHOICE, FIELD(diagnostics), "text|json", "form of messages (text)" },
    { "Information", GROUP, 0, NULL, NULL },
    { "--list", CHOICE, FIELD(list),
      "ops|layers|activations|losses|metrics|functions|optimizers|options|schedules|inits|passes|samples",
      "print the names, one a line" },
    { "--help-op", TEXT, FIELD(help_op), "NAME",
      "explain an operator, layer, loss, optimizer ..." },
    { "--manual", FLAG, FIELD(manual), NULL, "print the operator manual as Markdown" },
    { "--help", FLAG, FIELD(help), NULL, "print this" },
    { "--version", FLAG, FIELD(version), NULL, "print the version" },
};
enum { N_OPTIONS = sizeof table / sizeof *table };

/* Identifiers of warnings, for -WID and its relatives. */
static const char *const warning_ids[] = { "rounding", "unused", "untrained", "underflow",
                                           "activation-twice" };
enum { N_WARNINGS = sizeof warning_ids / sizeof *warning_ids };

static bool usage_error(FILE *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool usage_error(FILE *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("nnc: ", err);
    vfprintf(err, fmt, ap);
    fputs("; `nnc --help` lists the options\n", err);
    va_end(ap);
    return false;
}

void options_help(FILE *to)
{
    fputs("usage: nnc model.nn -o model.c\n\nTurns the neural networks of a .nn file into C.\n",
          to);
    for (int i = 0; i < N_OPTIONS; i++) {
        const Option *o = &table[i];
        if (o->kind == GROUP) {
            fprintf(to, "\n%s:\n", o->name);
            continue;
        }
        char left[128];
        const bool is_long = o->name[1] == '-';
        snprintf(left, sizeof left, "%s%s%s", o->name,
                 !o->value || !*o->value || o->kind == WARNING ? ""
                 : is_long                                     ? "="
                                                               : " ",
                 o->value ? o->value : "");
        if (strlen(left) > 26)
            fprintf(to, "  %s\n  %-26s  %s\n", left, "", o->help);
        else
            fprintf(to, "  %-26s  %s\n", left, o->help);
    }
    fputs(
        "\nExit codes: 0 good, 1 errors in the program, 2 usage, 3 input or output, 4 limit or resource,\n"
        "70 internal error.\n",
        to);
}

static bool in_choices(const char *choices, const char *word)
{
    const size_t len = strlen(word);
    for (const char *p = choices; *p;) {
        const size_t n = strcspn(p, "|");
        if (n == len && !strncmp(p, word, n)) return true;
        p += n + (p[n] == '|');
    }
    return false;
}

static const char *nearest_choice(Arena *a, const char *choices, const char *word)
{
    const char *names[32];
    size_t n = 0;
    for (const char *p = choices; *p && n < 32;) {
        const size_t len = strcspn(p, "|");
        names[n++] = arena_strndup(a, p, len);
        p += len + (p[len] == '|');
    }
    return str_nearest(word, names, n);
}

static const char *without_word(Arena *a, const char *list, const char *word)
{
    StrBuf sb;
    sb_init(&sb, a);
    while (list && *list) {
        const size_t n = strcspn(list, " ");
        if (n != strlen(word) || strncmp(list, word, n)) {
            if (sb.len) sb_putc(&sb, ' ');
            sb_putn(&sb, list, n);
        }
        list += n + (list[n] == ' ');
    }
    return sb.text;
}

static const char *with_word(Arena *a, const char *list, const char *word)
{
    list = without_word(a, list, word);
    return *list ? arena_printf(a, "%s %s", list, word) : word;
}

/* -WID, -Wno-ID, -Werror, -Werror=ID */
static bool parse_warning(Arena *a, Options *o, const char *word, FILE *err)
{
    if (!strcmp(word, "error")) {
        o->werror = true;
        return true;
    }
    const bool error = !strncmp(word, "error=", 6), no = !strncmp(word, "no-", 3);
    const char *id = word + (error ? 6 : no ? 3 : 0);
    bool known = false;
    for (int i = 0; i < N_WARNINGS; i++) known |= !strcmp(warning_ids[i], id);
    if (!known) {
        const char *near = str_nearest(id, warning_ids, N_WARNINGS);
        if (near)
            return usage_error(err, "unknown warning '%s' in -W%s; did you mean '%s'?", id, word,
                               near);
        return usage_error(err, "unknown warning '%s' in -W%s", id, word);
    }
    if (error)
        o->error_warnings = with_word(a, o->error_warnings, id);
    else if (no)
        o->disabled_warnings = with_word(a, o->disabled_warnings, id);
    else
        o->disabled_warnings = without_word(a, o->disabled_warnings, id);
    return true;
}

static bool set_value(Arena *a, Options *o, const Option *opt, const char *value, FILE *err)
{
    char *base = (char *)o;
    if (opt->kind == LIST) {
        vec_push(a, (Words *)(void *)(base + opt->offset), value);
        return true;
    }
    if (opt->kind == CHOICE && !in_choices(opt->value, value)) {
        const char *near = nearest_choice(a, opt->value, value);
        if (near)
            return usage_error(err, "%s=%s: expected %s; did you mean '%s'?", opt->name, value,
                               opt->value, near);
        return usage_error(err, "%s=%s: expected %s", opt->name, value, opt->value);
    }
    const char **field = (const char **)(void *)(base + opt->offset);
    if (*field) return usage_error(err, "%s is given twice", opt->name);
    if (!*value) return usage_error(err, "%s needs a value that is not empty", opt->name);
    *field = value;
    return true;
}

static const Option *find(const char *name, size_t len)
{
    for (int i = 0; i < N_OPTIONS; i++)
        if (table[i].kind != GROUP && strlen(table[i].name) == len &&
            !strncmp(table[i].name, name, len))
            return &table[i];
    return NULL;
}

static bool unknown(FILE *err, const char *arg, size_t len)
{
    const char *names[N_OPTIONS];
    size_t n = 0;
    char word[64];
    for (int i = 0; i < N_OPTIONS; i++)
        if (table[i].kind != GROUP) names[n++] = table[i].name;
    snprintf(word, sizeof word, "%.*s", len < 60 ? (int)len : 60, arg);
    const char *near = len < 60 ? str_nearest(word, names, n) : NULL;
    if (near) return usage_error(err, "unknown option '%s'; did you mean '%s'?", word, near);
    return usage_error(err, "unknown option '%s'", word);
}

bool options_parse(Arena *a, Options *o, int argc, char **argv, FILE *err)
{
    *o = (Options){ .disabled_warnings =
                        "rounding" }; /* only on request: rounding is the rule, not a fault */
    bool only_files = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (only_files || arg[0] != '-' || !arg[1]) {
            if (o->input) return usage_error(err, "two input files: %s and %s", o->input, arg);
            if (!*arg) return usage_error(err, "the input file's name is empty");
            o->input = arg;
            continue;
        }
        if (!strcmp(arg, "--")) {
            only_files = true;
            continue;
        }
        if (!strncmp(arg, "-W", 2)) {
            if (!arg[2]) return usage_error(err, "-W needs the name of a warning");
            if (!parse_warning(a, o, arg + 2, err)) return false;
            continue;
        }
        const bool is_long = arg[1] == '-';
        const size_t len = is_long ? strcspn(arg, "=") : strlen(arg);
        const Option *opt = find(arg, len);
        const char *value = NULL;
        if (opt && arg[len] == '=') value = arg + len + 1;
        if (!opt && !is_long && (opt = find(arg, 3)) && opt->value)
            value = arg + 3; /* -MFfile */
        else if (!is_long && !value && !(opt = find(arg, len)) && (opt = find(arg, 2)) &&
                 opt->value)
            value = arg + 2; /* -Idir */
        else if (!is_long && !value)
            opt = find(arg, len);
        if (!opt) return unknown(err, arg, len);
        if (opt->kind == FLAG) {
            if (value) return usage_error(err, "%s takes no value", opt->name);
            *(bool *)(void *)((char *)o + opt->offset) = true;
            continue;
        }
        if (!value) {
            if (i + 1 >= argc)
                return usage_error(err, "%s needs a value: %s", opt->name, opt->value);
            value = argv[++i];
        }
        if (!set_value(a, o, opt, value, err)) return false;
    }
    const bool asks = o->help || o->version || o->list || o->help_op || o->manual;
    if (!o->input && !asks) return usage_error(err, "no input file");
    if (o->max_memory && options_bytes(o->max_memory) < 0)
        return usage_error(err, "--max-memory=%s: expected a size such as 64k, 10M or 2G",
                           o->max_memory);
    return true;
}

long long options_bytes(const char *text)
{
    long long n = 0;
    const char *p = text;
    if (*p < '0' || *p > '9') return -1;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(n, 10LL, &n) ||
            __builtin_add_overflow(n, (long long)(*p - '0'), &n))
            return -1;
    static const char units[] = "kMGT";
    const char *unit = *p ? strchr(units, *p == 'K' ? 'k' : *p) : NULL;
    if (*p && (!unit || p[1])) return -1;
    for (const char *u = units; unit && u <= unit; u++)
        if (__builtin_mul_overflow(n, 1024LL, &n)) return -1;
    return n;
}
