/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: the reader of IDX files, plain and gzip-compressed.
 */
#include "nn_data.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nn_idx idx;
    char why[NN_ERROR_TEXT];
    if (nn_idx_parse(&idx, data, size, why) != NN_OK) {
        if (idx.data || !why[0]) abort();
        return 0;
    }
    /* Every byte the reader promises can be read. */
    unsigned sum = 0;
    const size_t bytes = (size_t)idx.count * nn_dtype_size(idx.dtype);
    for (size_t i = 0; i < bytes; i++) sum += ((const unsigned char *)idx.data)[i];
    volatile unsigned keep = sum;
    (void)keep;
    nn_idx_free(&idx);
    return 0;
}
