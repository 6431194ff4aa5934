/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: the reader of safetensors files. Whatever it accepts is also read element by element.
 */
#include "nn_safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nn_st_file *f = NULL;
    char why[NN_ERROR_TEXT];
    if (nn_st_parse(&f, data, size, why) != NN_OK) {
        if (f || !why[0]) abort();
        return 0;
    }
    double sum = 0;
    for (int i = 0; i < nn_st_count(f); i++) {
        const nn_st_tensor *t = nn_st_at(f, i);
        if (nn_st_find(f, t->name) != t) abort();
        for (nn_dim k = 0; k < t->count; k++) sum += nn_st_value(t, k);
    }
    nn_st_close(f);
    volatile double keep = sum;
    (void)keep;
    return 0;
}
