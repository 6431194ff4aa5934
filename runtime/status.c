/* SPDX-License-Identifier: MIT
 *
 * Names of the status codes and sizes of the element types.
 */
#include "nn.h"

const char *nn_strerror(nn_status s)
{
    switch (s) {
    case NN_OK: return "no error";
    case NN_EINVAL: return "invalid argument";
    case NN_ESIZE: return "a size is outside its declared bounds";
    case NN_EINDEX: return "a class index or embedding id is out of range";
    case NN_ENONFINITE: return "the loss or the gradient is not finite";
    case NN_ESTATE: return "no gradients to apply: call the _grad half first";
    case NN_ENOMEM: return "not enough memory";
    case NN_ETHREAD: return "a thread could not be started";
    case NN_EIO: return "input/output error";
    case NN_EFORMAT: return "not a file of the expected format";
    case NN_ECORRUPT: return "the file is damaged or truncated";
    case NN_EMISMATCH: return "the checkpoint belongs to another model";
    case NN_ESEARCH: return "no step along the search direction lowers the loss";
    }
    return "unknown status";
}

size_t nn_dtype_size(nn_dtype t)
{
    switch (t) {
    case NN_F32:
    case NN_I32: return 4;
    case NN_U8:
    case NN_BOOL: return 1;
    case NN_F64:
    case NN_I64: return 8;
    }
    return 0;
}
