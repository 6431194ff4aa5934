/* SPDX-License-Identifier: MIT
 *
 * The command. In: options and one .nn (or .nnir) file. Out: files or text, diagnostics on stderr, an exit
 * code. Invariant: an output file appears whole or not at all; nothing is left behind by a run that fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "emit/emit.h"
#include "front/front.h"
#include "info.h"
#include "ir/text.h"
#include "options.h"
#include "passes/pass.h"

/* ---- output files ---- */

typedef struct OutFile {
    const char *path; /* "-": stdout */
    const char *temp; /* where the bytes are until all files are written; NULL: none */
    const char *text;
    size_t len;
} OutFile;

typedef struct Outputs {
    OutFile file[4];
    int n;
} Outputs;

static void out_add(Outputs *out, const char *path, const char *text, size_t len)
{
    out->file[out->n++] = (OutFile){ .path = path ? path : "-", .text = text, .len = len };
}

static bool io_error(const char *path)
{
    fprintf(stderr, "nnc: cannot write %s: %s\n", strcmp(path, "-") ? path : "standard output",
            strerror(errno));
    return false;
}

static bool write_all(int fd, const char *text, size_t len)
{
    while (len) {
        const ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

/* Devices and pipes are written in place: a rename would replace them by a file. */
static bool is_special(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISREG(st.st_mode);
}

static bool write_temp(Arena *a, OutFile *f)
{
    int fd = -1;
    const bool special = is_special(f->path);
    if (special) {
        fd = open(f->path, O_WRONLY);
    } else {
        for (int i = 0; i < 100 && fd < 0; i++) {
            f->temp = arena_printf(a, "%s.%ld-%d.tmp", f->path, (long)getpid(), i);
            fd = open(f->temp, O_WRONLY | O_CREAT | O_EXCL, 0666);
            if (fd < 0 && errno != EEXIST) break;
        }
    }
    if (fd < 0) {
        f->temp = NULL;
        return io_error(f->path);
    }
    const bool written = write_all(fd, f->text, f->len);
    const int error = errno;
    const bool closed = close(fd) == 0;
    if (!written) errno = error;
    return written && closed ? true : io_error(f->path);
}

/* All files are complete beside their places before the first is renamed. */
static bool out_write(Arena *a, Outputs *out)
{
    bool good = true;
    for (int i = 0; i < out->n && good; i++) {
        OutFile *f = &out->file[i];
        if (strcmp(f->path, "-"))
            good = write_temp(a, f);
        else if (fwrite(f->text, 1, f->len, stdout) != f->len || fflush(stdout))
            good = io_error("-");
    }
    for (int i = 0; i < out->n && good; i++) {
        OutFile *f = &out->file[i];
        if (!f->temp) continue;
        good = rename(f->temp, f->path) == 0 || io_error(f->path);
        if (good) f->temp = NULL;
    }
    for (int i = 0; i < out->n; i++)
        if (out->file[i].temp) unlink(out->file[i].temp);
    return good;
}

static bool same_file(const char *a, const char *b)
{
    struct stat sa, sb;
    if (!strcmp(a, b)) return true;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

/* ---- names of files ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* model.c -> model.h; what has no extension gets one. */
static const char *with_extension(Arena *a, const char *path, const char *extension)
{
    const char *dot = strrchr(base_name(path), '.');
    const size_t len = dot && dot != base_name(path) ? (size_t)(dot - path) : strlen(path);
    return arena_printf(a, "%.*s%s", (int)len, path, extension);
}

static bool has_extension(const char *path, const char *extension)
{
    const size_t n = strlen(path), e = strlen(extension);
    return n > e && !strcmp(path + n - e, extension);
}

/* Blanks, '#' and '$' mean something to make. */
static void put_make_name(StrBuf *sb, const char *path)
{
    for (; *path; path++) {
        if (*path == ' ' || *path == '#' || *path == '\t') sb_putc(sb, '\\');
        if (*path == '$') sb_putc(sb, '$');
        sb_putc(sb, *path == '\n' ? '?' : *path);
    }
}

static const char *make_rule(Arena *a, const Options *o, const char *header,
                             const FrontFiles *files)
{
    StrBuf sb;
    sb_init(&sb, a);
    put_make_name(&sb, o->output);
    if (header) {
        sb_putc(&sb, ' ');
        put_make_name(&sb, header);
    }
    sb_putc(&sb, ':');
    for (size_t i = 0; i < files->len; i++) {
        sb_puts(&sb, " \\\n  ");
        put_make_name(&sb, files->data[i]);
    }
    sb_putc(&sb, '\n');
    return sb.text;
}

/* ---- the pipeline ---- */

typedef struct Job {
    Arena *arena;
    const Options *o;
    Diag *diag;
    FrontFiles files;
    const Summary *summary; /* --emit=summary */
    int exit_code;
} Job;

static bool wants(const Options *o, const char *emit)
{
    return o->emit && !strcmp(o->emit, emit);
}

static Module *read_module(Job *job, const Source *source)
{
    const Options *o = job->o;
    if (has_extension(source->name, ".nnir")) {
        vec_push(job->arena, &job->files, source->name);
        return module_parse(job->arena, job->diag, source);
    }
    const FrontOptions front = {
        .include_dirs = o->include_dirs.data,
        .n_include_dirs = o->include_dirs.len,
        .defines = o->defines.data,
        .n_defines = o->defines.len,
        .model = o->model,
        .prefix = o->prefix,
    };
    return front_compile(job->arena, job->diag, source, &front, &job->files, &job->exit_code);
}

static bool internal_error(const char *text)
{
    fprintf(stderr, "nnc: internal error: %s\n", text);
    return false;
}

static bool verify(Job *job, Module *m, const char *after)
{
    Faults faults = { 0 };
    if (module_verify(m, &faults)) return true;
    for (size_t i = 0; i < faults.len; i++)
        internal_error(arena_printf(job->arena, "%s: %s%s%s", after, faults.data[i].text,
                                    faults.data[i].node ? " at " : "",
                                    faults.data[i].node ? faults.data[i].node->name : ""));
    job->exit_code = EXIT_INTERNAL;
    return false;
}

static int64_t rounded(int64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* What one object with all its routines takes, in the order of nn_model.h. */
static int64_t object_bytes(const ModelFace *f, int64_t *arena)
{
    const int64_t real = f->m->real_is_f64 ? 8 : 4;
    int64_t kept = 0;
    *arena = 0;
    for (size_t i = 0; i < f->m->routines.len; i++) {
        const int64_t bytes = face_arena_bytes(f->m->routines.data[i]);
        if (bytes > *arena) *arena = bytes;
        kept += face_kept_bytes(f, f->m->routines.data[i]);
    }
    return rounded((int64_t)f->m->hypers.len * 8) +
           real * (f->param_count * (f->keeps_grads ? 2 : 1)) +
           real * (f->slot_count + f->state_count) + *arena + kept;
}

static bool check_limits(Job *job, const ModelFace *f)
{
    int64_t arena;
    const int64_t bytes = object_bytes(f, &arena);
    const Options *o = job->o;
    if (!o->max_memory || bytes <= options_bytes(o->max_memory)) return true;
    diag_error(job->diag, f->m->span, "limit-memory",
               "model %s needs %lld bytes (%lld of them working memory), more than --max-memory=%s",
               f->m->name, (long long)bytes, (long long)arena, o->max_memory);
    job->exit_code = EXIT_LIMIT;
    return false;
}

/* The object keeps one bit per routine. */
static bool check_routines(Job *job, const Module *m)
{
    enum { MAX_ROUTINES = 32 };
    if (m->routines.len <= MAX_ROUTINES) return true;
    diag_error(job->diag, m->routines.data[MAX_ROUTINES]->span, "limit-routines",
               "model %s has %zu routines, at most %d are possible", m->name, m->routines.len,
               MAX_ROUTINES);
    job->exit_code = EXIT_LIMIT;
    return false;
}

/* --hvp and --trace name steps. */
static bool mark_steps(Job *job, Module *m, const char *option, const Words *steps, bool traces)
{
    Arena *a = job->arena;
    for (size_t i = 0; i < steps->len; i++) {
        VEC(const char *) names = { 0 };
        bool known = false;
        for (size_t k = 0; k < m->routines.len; k++) {
            Routine *r = m->routines.data[k];
            if (r->kind != ROUTINE_STEP) continue;
            vec_push(a, &names, r->name);
            if (strcmp(r->name, steps->data[i])) continue;
            known = true;
            *(traces ? &r->wants_trace : &r->wants_product) = true;
        }
        if (known) continue;
        const char *near = str_nearest(steps->data[i], names.data, names.len);
        fprintf(stderr, "nnc: %s=%s: model %s has no such step", option, steps->data[i], m->name);
        fprintf(stderr, near ? "; did you mean '%s'?\n" : "%s\n", near ? near : "");
        job->exit_code = EXIT_USAGE;
        return false;
    }
    return true;
}

/* --values belongs to one step, which --trace need not name where there is no other. */
static bool mark_drawn(Job *job, Module *m)
{
    const Words *named = &job->o->traces;
    if (!job->o->values || named->len == 1) return true;
    Routine *only = NULL;
    size_t n = 0;
    for (size_t k = 0; k < m->routines.len; k++)
        if (m->routines.data[k]->kind == ROUTINE_STEP) only = m->routines.data[k], n++;
    if (n == 1 && !named->len) return only->wants_trace = true;
    fprintf(stderr,
            n ? "nnc: --values: model %s has %zu steps; --trace=STEP tells which one the values are of\n"
              : "nnc: --values: model %s has no step\n",
            m->name, n);
    job->exit_code = EXIT_USAGE;
    return false;
}

/* The traced steps as pictures, with values where there are some. */
static bool draw_traces(Job *job, const Module *m, StrBuf *text)
{
    Values *values = NULL;
    if (job->o->values) {
        const char *fault = NULL;
        values = values_open(job->arena, job->o->values, &fault);
        if (fault) fprintf(stderr, "nnc: --values: %s: %s\n", job->o->values, fault);
        if (!values) {
            job->exit_code = EXIT_IO;
            return false;
        }
    }
    const char *fault = emit_picture(m, values, text);
    values_close(values);
    if (!fault) return true;
    fprintf(stderr, "nnc: --values: %s: %s\n", job->o->values, fault);
    job->exit_code = EXIT_IO;
    return false;
}

/* Everything a run prints or writes is collected first and written by out_write at the end. */
static bool generate(Job *job, Module *m, Outputs *out)
{
    Arena *a = job->arena;
    const Options *o = job->o;
    StrBuf text;
    sb_init(&text, a);
    if (o->report) emit_report(m, &text);
    const bool to_stdout = !o->output || !strcmp(o->output, "-");
    const bool c = !o->emit || wants(o, "c") || wants(o, "harness");
    const char *header = NULL;
    if (wants(o, "nnir"))
        module_print(&text, m);
    else if (wants(o, "dot") && (o->values || o->traces.len)) {
        if (!draw_traces(job, m, &text)) return false;
    } else if (wants(o, "dot"))
        emit_dot(m, &text);
    else if (wants(o, "summary"))
        emit_summary(job->summary, m, &text);
    else if (c && (o->emit || o->output || !(o->report || o->dump_ir))) {
        /* Beside a device or a pipe there is no place for a header. */
        const bool beside = !to_stdout && !is_special(o->output);
        header = o->header ? o->header : beside ? with_extension(a, o->output, ".h") : NULL;
        const char *included = header ? base_name(header) : arena_printf(a, "%s.h", m->name);
        const EmitOptions emit = { .prefix = o->prefix,
                                   .header = included,
                                   .harness = wants(o, "harness") };
        ModelFace *f = face_new(m, &emit);
        if (!check_limits(job, f)) return false;
        StrBuf source, head;
        sb_init(&source, a);
        sb_init(&head, a);
        emit_source(f, &source);
        emit_header(f, &head);
        if (f->fault) {
            job->exit_code = EXIT_INTERNAL;
            return internal_error(f->fault);
        }
        if (to_stdout) {
            sb_puts(&text, source.text);
        } else {
            if (text.len) out_add(out, "-", text.text, text.len);
            sb_init(&text, a);
            out_add(out, o->output, source.text, source.len);
        }
        if (header) out_add(out, header, head.text, head.len);
    }
    if (text.len) {
        const bool report_only = c && !to_stdout;
        out_add(out, report_only ? "-" : o->output, text.text, text.len);
    }
    if (o->depend || o->depfile) {
        const char *path = o->depfile ? o->depfile : with_extension(a, o->output, ".d");
        const char *rule = make_rule(a, o, header, &job->files);
        out_add(out, path, rule, strlen(rule));
    }
    return true;
}

/* The pipeline: one step a line, each stops the run when it has found an error. */
static bool compile(Job *job)
{
    const Options *o = job->o;
    Outputs out = { 0 };
    const PassOptions passes = {
        .dump = o->dump_ir, .stop_after = o->stop_after, .off = o->no_pass, .dump_to = stdout
    };
    const Source *source = front_read(job->arena, job->diag, o->input, &job->exit_code);
    if (!source) return false;
    if (wants(o, "ast")) return front_dump_ast(job->arena, job->diag, source, stdout);
    Module *m = read_module(job, source);
    if (!m || diag_errors(job->diag)) return false;
    m->real_is_f64 = o->real && !strcmp(o->real, "f64");
    m->use_blas = !o->no_blas;
    if (!verify(job, m, "front end") || !check_routines(job, m) || !mark_steps(job, m, "--hvp", &o->products, false) ||
        !mark_steps(job, m, "--trace", &o->traces, true) || !mark_drawn(job, m))
        return false;
    if (wants(o, "summary")) job->summary = summary_collect(m);
    const PassOutcome outcome = passes_run_until(m, &passes);
    if (outcome == PASSES_FAILED || diag_errors(job->diag) || !check_routines(job, m)) return false;
    if (outcome == PASSES_STOPPED) {
        StrBuf text;
        sb_init(&text, job->arena);
        if (!o->dump_ir) module_print(&text, m);
        if (text.len) out_add(&out, o->output, text.text, text.len);
    } else if (!generate(job, m, &out)) {
        return false;
    }
    if (out_write(job->arena, &out)) return true;
    job->exit_code = EXIT_IO;
    return false;
}

static const char *usage_fault(Arena *a, const Options *o, const PassOptions *passes)
{
    const bool file = o->output && strcmp(o->output, "-");
    if (file && same_file(o->output, o->input))
        return arena_printf(a, "-o %s would overwrite the input", o->output);
    if (o->header && same_file(o->header, o->input))
        return arena_printf(a, "--header=%s would overwrite the input", o->header);
    if (file && o->header && !strcmp(o->header, o->output))
        return "-o and --header name the same file";
    if (file && (!o->emit || wants(o, "c") || wants(o, "harness")) &&
        has_extension(o->output, ".h") && !o->header)
        return arena_printf(a, "-o %s: name the C file; the header is written beside it",
                            o->output);
    if (o->depend && !o->depfile && !file) return "-MD needs -o FILE or -MF FILE";
    if (o->depfile && !file) return "-MF needs -o FILE, the target of the rule";
    if (o->values && !wants(o, "dot")) return "--values is for --emit=dot, which draws them";
    if (o->values && o->traces.len > 1) return "--values is of one step; --trace is given more than once";
    return passes_check_options(a, passes);
}

/* A closed descriptor would otherwise be handed to the first file that is opened. */
static void hold_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 2 ? O_WRONLY : O_RDONLY) < 0)
            _exit(EXIT_IO);
}

int main(int argc, char **argv)
{
    hold_descriptors();
    sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
    sigaction(SIGXFSZ, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
    Arena *arena = arena_new();
    Options o;
    if (!options_parse(arena, &o, argc, argv, stderr)) {
        arena_free(arena);
        return EXIT_USAGE;
    }
    const DiagOptions diag_options = {
        .color = !o.color || !strcmp(o.color, "auto") ? COLOR_AUTO
                 : !strcmp(o.color, "always")         ? COLOR_ALWAYS
                                                      : COLOR_NEVER,
        .json = o.diagnostics && !strcmp(o.diagnostics, "json"),
        .werror = o.werror,
        .max_errors = 20,
        .disabled = o.disabled_warnings,
        .as_error = o.error_warnings,
    };
    Job job = { .arena = arena, .o = &o, .diag = diag_new(arena, diag_options) };
    const PassOptions passes = { .dump = o.dump_ir, .stop_after = o.stop_after, .off = o.no_pass };
    const char *fault;
    bool good;
    if (o.help || o.version || o.list || o.help_op || o.manual) {
        good = info_print(arena, job.diag, &o, stdout, &job.exit_code);
    } else if ((fault = usage_fault(arena, &o, &passes))) {
        fprintf(stderr, "nnc: %s\n", fault);
        job.exit_code = EXIT_USAGE;
        good = false;
    } else {
        good = compile(&job);
    }
    diag_flush(job.diag, stderr);
    if (fflush(stdout) || ferror(stdout)) {
        if (good) io_error("-");
        good = false;
        job.exit_code = EXIT_IO;
    }
    if (diag_errors(job.diag)) good = false;
    const int code = good ? EXIT_GOOD : job.exit_code ? job.exit_code : EXIT_PROGRAM;
    arena_free(arena);
    return code;
}
