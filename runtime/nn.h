/* SPDX-License-Identifier: MIT
 *
 * nn.h: the types every generated header uses. Usable from C11 and C++11; includes nothing but
 * stddef/stdint. Nothing here has global state: a model is one object, a thread pool another.
 */
#ifndef NN_H
#define NN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { NN_MAX_RANK = 8 };

typedef int64_t nn_dim; /* element counts, sizes and strides, in elements */

/* What every generated routine and library call returns. Routines that fail change no weight, no
 * state and no counter. */
typedef enum nn_status {
    NN_OK = 0,
    NN_EINVAL,     /* a null pointer, an unknown tensor, a routine this object was not made for */
    NN_ESIZE,      /* a run-time size outside its declared bounds */
    NN_EINDEX,     /* a class index or embedding id outside its range */
    NN_ENONFINITE, /* the loss or the gradient norm is NaN or infinite; the step was not applied */
    NN_ESTATE,     /* _apply without a _grad before it */
    NN_ENOMEM,     /* the memory given or the system's is too small */
    NN_ETHREAD,    /* a thread could not be started */
    NN_EIO,        /* the file could not be opened, read or written; errno says why */
    NN_EFORMAT,    /* not a file of the expected format */
    NN_ECORRUPT,   /* right format, but truncated, inconsistent or with a wrong checksum */
    NN_EMISMATCH,  /* a sound checkpoint, but of another model */
    NN_ESEARCH     /* a second-order step found no lower loss: the weights are at a minimum, as far as numbers tell */
} nn_status;

const char *nn_strerror(nn_status s); /* one sentence, never NULL */

typedef enum nn_dtype { NN_F32, NN_I32, NN_U8, NN_BOOL, NN_F64, NN_I64 } nn_dtype;
size_t nn_dtype_size(nn_dtype t); /* bytes */

/* What an object is made of, for NAME_save and NAME_load. */
enum {
    NN_WEIGHTS = 1, /* parameters and state (batch-norm statistics, recurrent state) */
    NN_TRAINING = 2, /* optimizer slots, hypers, step and random counters */
    NN_ALL = 3,
    NN_PARTIAL = 16 /* load only: take what matches by name and shape, report the rest */
};

typedef struct nn_pool nn_pool; /* nn_threads.h */

typedef struct nn_options {
    uint64_t seed;  /* initial weights and every random operator; 0 is a seed like any other */
    int threads;    /* 0: as many as the machine has processors; 1: none are started */
    nn_pool *pool;  /* not NULL: use this pool (it must outlive the object) and ignore `threads` */
    /* 0: a call so short that threads would spend their time waiting for each other runs on the caller's alone;
     * near that length some calls are timed to find out.
     * 1: every call runs on all threads. The results have the same bits either way. */
    int all_threads;
    /* 1: while a routine runs, numbers below the normal range (1.2e-38 in single precision) count as zero, in its
     * threads only. Changes results; many times faster where such numbers arise. NN_EINVAL where the processor
     * cannot. See docs/runtime.md. */
    int flush_denormals;
} nn_options;

/* Fills in [0, n) of x; fan_in and fan_out are 0 where the shape gives them no meaning. `real_bytes` is
 * 4 or 8 and says what x points to. Same (seed, index) gives the same values in either precision up to
 * rounding. */
typedef void (*nn_init_fn)(void *x, int real_bytes, nn_dim n, nn_dim fan_in, nn_dim fan_out,
                           const double args[4], uint64_t seed, uint32_t index);

/* One row of NAME_tensors[]: a parameter or a state tensor. */
typedef struct nn_tensor {
    const char *name;   /* its path in the .nn file: "net.fc1.weight" */
    const char *where;  /* "mlp.nn:5" */
    nn_dtype dtype;     /* NN_F32, or NN_F64 under --real=f64 */
    int rank;
    nn_dim shape[NN_MAX_RANK];  /* canonical: dense [out,in], convolution [O,I,R,S] */
    nn_dim stride[NN_MAX_RANK]; /* of the storage, in elements: element (i,j,..) is data[i*stride[0] + ..] */
    nn_dim count;       /* number of elements; storage is dense, count elements from `offset` */
    nn_dim offset;      /* elements from the start of the parameter block (or of the state block) */
    int trainable;      /* 1: parameter with a gradient; 0: state, or a parameter no step trains */
    int is_state;
    nn_init_fn init;
    double init_args[4];
    nn_dim fan_in, fan_out;
} nn_tensor;

/* What a load did. Counts of tensors; the first offender by name ("" when none). */
typedef struct nn_load_report {
    int loaded, missing, mismatched, unexpected;
    char first[128];   /* name of the first tensor that was missing, mismatched or unexpected */
    char message[256]; /* why the load failed, or "" */
} nn_load_report;

#ifdef __cplusplus
}
#endif
#endif
