/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: the whole compiler, from bytes to generated C. Compiled twice, for .nn and (with -DNNIR) for
 * .nnir input. The compiler ends some runs through exit(); the linker's --wrap=exit turns that into a
 * return to here. Exit code 70, an internal error, counts as a crash.
 */
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int nnc_main(int argc, char **argv); /* compiler/main.c, compiled with -Dmain=nnc_main */
_Noreturn void __real_exit(int code);
_Noreturn void __wrap_exit(int code);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static jmp_buf leave;
static bool inside;

_Noreturn void __wrap_exit(int code)
{
    if (!inside) __real_exit(code);
    inside = false;
    longjmp(leave, code + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char path[64];
    if (!path[0]) {
        const char *dir = getenv("FUZZ_TMP");
#ifdef NNIR
        snprintf(path, sizeof path, "%s/%ld.nnir", dir ? dir : "/tmp", (long)getpid());
#else
        snprintf(path, sizeof path, "%s/%ld.nn", dir ? dir : "/tmp", (long)getpid());
#endif
    }
    FILE *f = fopen(path, "wb");
    if (!f) abort();
    fwrite(data, 1, size, f);
    fclose(f);

    char *argv[] = { "nnc", path, "-o", "-", "--color=never", NULL };
    inside = true;
    int code = setjmp(leave);
    if (code == 0) code = nnc_main(5, argv) + 1;
    inside = false;
    if (code - 1 == 70) abort();
    return 0;
}
