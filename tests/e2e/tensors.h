/* SPDX-License-Identifier: MIT
 *
 * Reading and writing safetensors files for the test tools, apart from the library's own code so that a
 * fault there cannot hide itself. Everything is converted to double on reading; any fault ends the program
 * with exit code 3.
 */
#ifndef TESTS_TENSORS_H
#define TESTS_TENSORS_H

#include <stddef.h>
#include <stdint.h>

typedef struct Tensor {
    char *name;
    char dtype[8];     /* "F32", "F64", "I32", "I64", "U8", "BOOL" */
    int rank;
    int64_t shape[8];
    size_t count;
    double *data;
} Tensor;

typedef struct Tensors {
    Tensor *data;
    size_t len;
} Tensors;

Tensors tensors_read(const char *path);
const Tensor *tensors_find(const Tensors *t, const char *name);
void tensors_write(const char *path, const Tensors *t); /* in each tensor's dtype */

uint64_t mix64(uint64_t z); /* splitmix64's step, the source of all test data */
_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
