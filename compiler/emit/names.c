/* SPDX-License-Identifier: MIT
 *
 * User names to C identifiers. In: words and paths of the .nn file. Out: identifiers that no header owns
 * and that are unique in their scope. Invariant: the result depends only on the order of requests.
 */
#include "emit/emit.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

struct NameTable {
    Arena *arena;
    const NameTable *parent;
    StrMap *taken;
};

/* Words that cannot be used as they are: keywords of C and C++, macros and functions of the headers that
 * generated code includes or that its users commonly include before it. */
/* clang-format off */
static const char *const owned[] = {
    /* C11 and C23 */
    "alignas", "alignof", "auto", "bool", "break", "case", "char", "const", "constexpr", "continue",
    "default", "do", "double", "else", "enum", "extern", "false", "float", "for", "goto", "if", "inline",
    "int", "long", "nullptr", "register", "restrict", "return", "short", "signed", "sizeof", "static",
    "static_assert", "struct", "switch", "thread_local", "true", "typedef", "typeof", "typeof_unqual",
    "union", "unsigned", "void", "volatile", "while", "asm", "fortran", "noreturn", "complex", "imaginary",
    /* C++ */
    "and", "and_eq", "bitand", "bitor", "catch", "char16_t", "char32_t", "char8_t", "class", "co_await",
    "co_return", "co_yield", "compl", "concept", "const_cast", "consteval", "constinit", "decltype",
    "delete", "dynamic_cast", "explicit", "export", "friend", "mutable", "namespace", "new", "noexcept",
    "not", "not_eq", "operator", "or", "or_eq", "private", "protected", "public", "reinterpret_cast",
    "requires", "static_cast", "template", "this", "throw", "try", "typeid", "typename", "using", "virtual",
    "wchar_t", "xor", "xor_eq", "final", "override", "import", "module",
    /* math.h */
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "copysign", "cos", "cosh",
    "erf", "erfc", "exp", "exp2", "exp10", "expm1", "fabs", "fdim", "floor", "fma", "fmax", "fmin", "fmod",
    "frexp", "gamma", "hypot", "ilogb", "j0", "j1", "jn", "ldexp", "lgamma", "llrint", "llround", "log",
    "log10", "log1p", "log2", "logb", "lrint", "lround", "modf", "nan", "nearbyint", "nextafter",
    "nexttoward", "pow", "remainder", "remquo", "rint", "round", "scalb", "scalbln", "scalbn", "significand",
    "signgam", "sin", "sincos", "sinh", "sqrt", "tan", "tanh", "tgamma", "trunc", "y0", "y1", "yn", "drem",
    "finite", "isinf", "isnan", "isfinite", "isnormal", "signbit", "isgreater", "isless", "islessgreater",
    "isunordered", "fpclassify", "isgreaterequal", "islessequal",
    "expf", "logf", "sqrtf", "fabsf", "tanhf", "powf", "fmaxf", "fminf", "log1pf", "expm1f", "erff", "floorf",
    "ceilf", "roundf", "fmaf", "copysignf", "sinf", "cosf", "exp2f", "log2f", "log10f", "cbrtf", "hypotf",
    /* stdlib.h, string.h, stdio.h, unistd.h, time.h, signal.h, strings.h ... */
    "abort", "abs", "access", "accept", "alarm", "assert", "atexit", "atof", "atoi", "atol", "bind", "bsearch",
    "calloc", "chdir", "chmod", "chown", "clock", "close", "connect", "creat", "ctime", "daylight", "difftime",
    "div", "dup", "dup2", "environ", "errno", "exit", "fclose", "feof", "ferror", "fflush", "fgetc", "fgets",
    "fopen", "fork", "fprintf", "fputs", "fread", "free", "fscanf", "fseek", "ftell", "fwrite", "getc",
    "getchar", "getenv", "getpid", "gets", "gmtime", "index", "rindex", "ffs", "ioctl", "kill", "labs", "ldiv",
    "link", "linux", "unix", "listen", "llabs", "localtime", "longjmp", "lseek", "main", "malloc", "memchr",
    "memcmp", "memcpy", "memmove", "memset", "mktime", "nice", "offsetof", "open", "optarg", "opterr",
    "optind", "optopt", "pause", "perror", "pipe", "printf", "putc", "putchar", "puts", "qsort", "raise",
    "rand", "random", "read", "realloc", "recv", "remove", "rename", "rewind", "scanf", "select", "send",
    "setjmp", "shutdown", "signal", "sleep", "snprintf", "socket", "sprintf", "srand", "srandom", "sscanf",
    "stat", "stderr", "stdin", "stdout", "strcat", "strchr", "strcmp", "strcpy", "strdup", "strlen", "strncmp",
    "strtod", "strtol", "swab", "sync", "system", "time", "timezone", "tmpfile", "truncate", "tzname", "umask",
    "ungetc", "unlink", "usleep", "va_arg", "va_end", "va_list", "va_start", "vfork", "wait", "write",
    "BUFSIZ", "CHAR_BIT", "EOF", "FILE", "I", "INFINITY", "NAN", "NULL", "RAND_MAX", "HUGE_VAL", "MAXFLOAT",
    "DOMAIN", "SING", "OVERFLOW", "UNDERFLOW", "PLOSS", "TLOSS", "SIZE_MAX", "INT_MAX", "DBL_MAX", "FLT_MAX",
    "int8_t", "int16_t", "int32_t", "int64_t", "uint8_t", "uint16_t", "uint32_t", "uint64_t", "size_t",
    "ssize_t", "ptrdiff_t", "intptr_t", "uintptr_t", "off_t", "pid_t", "float_t", "double_t",
};

/* First parts of names that whole families of functions and macros share: pthread_create, M_PI, SIGINT.
 * A name that begins like this gets another beginning even when no header is known to own it. */
static const char *const owned_prefixes[] = { "_",      "nn_",  "NN_",   "pthread_", "sem_", "mq_",
                                              "posix_", "shm_", "sched_", "M_",       "aio_", "FP_",
                                              "clock_", "timer_", "cblas_", "DBL_", "FLT_", "INT_",
                                          "EXIT_" };
/* clang-format on */

/* ENOENT, SIGINT: reserved for errno.h and signal.h as a whole. */
static bool is_code_name(const char *name)
{
    const size_t skip = name[0] == 'E' ? 1 : !strncmp(name, "SIG", 3) ? 3 : 0;
    return skip && name[skip] && name[skip + 1] &&
           !name[skip + strspn(name + skip, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")];
}

static bool is_owned(const char *name)
{
    if (is_code_name(name)) return true;
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        if (!strcmp(owned[i], name)) return true;
    return false;
}

static bool has_owned_prefix(const char *name)
{
    for (size_t i = 0; i < sizeof owned_prefixes / sizeof *owned_prefixes; i++)
        if (!strncmp(name, owned_prefixes[i], strlen(owned_prefixes[i]))) return true;
    return false;
}

NameTable *names_new(Arena *a, const NameTable *parent)
{
    NameTable *t = ARENA_NEW(a, NameTable);
    *t = (NameTable){ .arena = a, .parent = parent, .taken = map_new(a) };
    return t;
}

bool names_taken(const NameTable *t, const char *name)
{
    for (; t; t = t->parent)
        if (map_get(t->taken, name)) return true;
    return false;
}

void names_reserve(NameTable *t, const char *const *words)
{
    for (; *words; words++) map_set(t->taken, *words, t);
}

/* Separators become one '_', so a path reads like an identifier; names_add settles what collides. */
char *names_mangle(Arena *a, const char *path)
{
    StrBuf sb;
    sb_init(&sb, a);
    for (const char *p = path; *p; p++) {
        const unsigned char c = (unsigned char)*p;
        if (isalnum(c) && c < 128)
            sb_putc(&sb, (char)c);
        else if (c != ']' && sb.len && (c == '_' || sb.text[sb.len - 1] != '_'))
            sb_putc(&sb, '_');
        else if (c == '_' && !sb.len)
            sb_putc(&sb, '_');
    }
    if (!sb.len) sb_putc(&sb, 'v');
    if (isdigit((unsigned char)sb.text[0])) return arena_printf(a, "v%s", sb.text);
    if (sb.text[0] == '_') return arena_printf(a, "v%s", sb.text);
    return sb.text;
}

/* Compilers promise 63 significant characters inside a file; longer names keep their tail, which is what
 * tells the members of a deep path apart. */
static char *shorten(Arena *a, const char *name)
{
    const size_t len = strlen(name), keep = 56;
    if (len <= keep) return arena_strdup(a, name);
    return arena_printf(a, "%.24s_%s", name, name + len - (keep - 25));
}

const char *names_add(NameTable *t, const char *wanted)
{
    const char *base = shorten(t->arena, names_mangle(t->arena, wanted));
    if (has_owned_prefix(base)) base = arena_printf(t->arena, "v_%s", base);
    if (is_owned(base)) base = arena_printf(t->arena, "%s_", base);
    const char *name = base;
    const char *joint = base[strlen(base) - 1] == '_' ? "" : "_";
    for (int i = 2; names_taken(t, name); i++)
        name = arena_printf(t->arena, "%s%s%d", base, joint, i);
    map_set(t->taken, name, t);
    return name;
}

char *names_upper(Arena *a, const char *s)
{
    char *u = arena_strdup(a, s);
    for (char *p = u; *p; p++)
        if (*p >= 'a' && *p <= 'z') *p = (char)(*p - 'a' + 'A');
    return u;
}

char *comment_text(Arena *a, const char *s)
{
    char *text = arena_strdup(a, s);
    for (char *p = text; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr(" _.,:;()[]=*+-<>'", *p)) *p = '_';
    /* "*" followed by "/" cannot occur: '/' is not among the characters let through. */
    return text;
}

char *c_string(Arena *a, const char *s)
{
    StrBuf sb;
    sb_init(&sb, a);
    sb_putc(&sb, '"');
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            sb_printf(&sb, "\\%c", c);
        else if (c < 32 || c > 126 || c == '?')
            sb_printf(&sb, "\\%03o", c);
        else
            sb_putc(&sb, (char)c);
    }
    sb_putc(&sb, '"');
    return sb.text;
}
