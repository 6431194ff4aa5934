/* SPDX-License-Identifier: MIT
 *
 * The object behind every generated model, and what generated code asks of the library about it. A
 * generated `struct NAME` starts with an nn_model; NAME_new, NAME_save and the like are one-line calls of
 * the functions below with the model's constant nn_model_info.
 *
 * One block of memory holds everything, each part 64-byte aligned:
 *   object | hypers | params | grads | optimizer slots | state | arena (largest of the chosen routines) | kept values
 *
 * Where there is less than an operating system, model.c, init.c and status.c are all that generated code needs, with
 * these macros defined for them and for it: NN_NO_THREADS (nn_threads.h), NN_NO_FILES (saving and loading return
 * NN_EIO), NN_NO_HEAP (nn_model_new returns NULL: objects live in memory given to nn_model_init).
 */
#ifndef NN_MODEL_H
#define NN_MODEL_H

#include "nn.h"
#include "nn_threads.h"
#include "trial.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Contiguous run of trained parameters: `count` reals at `offset` of the parameter and gradient blocks,
 * at `slot_offset` of each of the step's optimizer slots. */
typedef struct nn_range {
    nn_dim offset, count, slot_offset;
} nn_range;

/* State of a second-order step that belongs to all its parameters together: rows x cols reals from `offset` of
 * the slot block. */
typedef struct nn_block {
    const char *name; /* in checkpoints: "inverse_hessian" */
    nn_dim rows, cols, offset;
} nn_block;

typedef struct nn_hyper_info {
    const char *name; /* "beta", "train.lr": name in checkpoints */
    double value;     /* initial */
} nn_hyper_info;

/* One per routine, in order of declaration. */
typedef struct nn_routine_info {
    const char *name;
    size_t arena_bytes;
    int n_ranges;            /* 0 for infer routines */
    const nn_range *ranges;
    int n_slots;             /* optimizer slots; each holds slot_count reals */
    const char *const *slots; /* names: "exp_avg" */
    nn_dim slot_count;
    nn_dim slots_offset;     /* reals from the start of the slot block to this routine's first slot */
    int n_blocks;
    const nn_block *blocks;
    size_t kept_bytes;       /* infer: of what is computed from the weights and kept while they stay the same */
    int in_backward;         /* a step that updates each parameter as soon as its gradient is known: it keeps none */
    int is_product;          /* with a step's Hessian, or its trace: has no counters of its own */
} nn_routine_info;

typedef struct nn_model_info {
    const char *name;
    uint64_t hash;           /* of tensor names, shapes and dtypes */
    int real_bytes;          /* 4 or 8 */
    size_t object_bytes;     /* sizeof(struct NAME) */
    int n_tensors, n_hypers, n_routines;
    const nn_tensor *tensors;
    const nn_hyper_info *hypers;
    const nn_routine_info *routines;
    nn_dim param_count;      /* reals in the parameter block, padding included; grads likewise */
    nn_dim grad_count;       /* 0 when no step keeps gradients */
    nn_dim slot_count;       /* reals in the slot block */
    nn_dim state_count;      /* reals in the state block */
} nn_model_info;

enum { NN_MAX_ROUTINES = 32, NN_TRIED_CALLS = 32 };

typedef struct nn_model {
    const nn_model_info *info;
    unsigned routines;       /* bit i: routine i may be called */
    nn_pool *pool;           /* NULL: single-threaded */
    int owns_pool, owns_memory;
    int all_threads, flush_denormals; /* as in nn_options */
    uint64_t seed;
    double *hypers;          /* live scalars, in the order of info->hypers */
    void *params, *grads, *slots, *state; /* blocks of reals (info->real_bytes each) */
    unsigned char *arena;
    uint64_t calls[NN_MAX_ROUTINES]; /* calls so far: counter of the random streams */
    uint64_t steps[NN_MAX_ROUTINES]; /* updates applied so far: t of the optimizer and the schedules */
    int grads_ready[NN_MAX_ROUTINES]; /* _grad calls since the last _apply */
    /* Infer routines keep what depends on the weights alone: `weights` counts the states that parameters and state
     * have been in, and prepared[i] says of which one routine i's kept values are, 0: of none. */
    unsigned char *kept[NN_MAX_ROUTINES];
    uint64_t weights, prepared[NN_MAX_ROUTINES];
    int lent;          /* pointers from nn_model_data may still be written through */
    unsigned averaged; /* bit i: the weights that step i trains are exchanged with their averages */
#if !defined(NN_NO_THREADS)
    struct {
        nn_team_fn body;
        int64_t work_ns;
        nn_trial trial;
    } tried[NN_TRIED_CALLS]; /* calls whose number of threads was tried, placed by body and work */
#endif
} nn_model;

size_t nn_model_bytes(const nn_model_info *info, unsigned routines);

/* Lays the object out in `mem` (64-byte aligned, at least nn_model_bytes), fills hypers, initialises every
 * tensor from the seed. options may be NULL: seed 0, one thread. Starts threads only if options ask. */
nn_status nn_model_init(const nn_model_info *info, nn_model **out, void *mem, size_t bytes,
                        unsigned routines, const nn_options *options);
nn_model *nn_model_new(const nn_model_info *info, unsigned routines, const nn_options *options);
void nn_model_free(nn_model *m);

/* Runs a routine's body on the object's threads, or on the caller alone where that is expected or found to be about as
 * fast. work_ns: nanoseconds one thread takes, roughly; team_ns: what a team adds, by waiting and by fetching what
 * another processor wrote. Where they do not decide it, both are timed (trial.h). Bits do not depend on the choice. */
void nn_model_run(nn_model *m, nn_team_fn body, void *arg, int64_t work_ns, int64_t team_ns);

/* Must the values that routine i keeps be computed anew? */
static inline int nn_model_is_stale(const nn_model *m, int i)
{
    return m->lent || m->prepared[i] != m->weights;
}

/* Exchanges the weights of one step (a bit of NAME_STEP) with the averages it keeps (`ema`), or back. NN_ESTATE before
 * the first update, and while other averages of the same weights are in place. */
nn_status nn_model_swap_ema(nn_model *m, unsigned step);

/* Draws every parameter anew and clears slots, state and counters. */
void nn_model_reset(nn_model *m, uint64_t seed);

int nn_model_find(const nn_model *m, const char *name); /* tensor index, -1 when absent */
/* Copies between storage order and canonical row-major order; `x` holds tensor.count reals. */
nn_status nn_model_get(const nn_model *m, int tensor, void *x);
nn_status nn_model_set(nn_model *m, int tensor, const void *x);
nn_status nn_model_get_grad(const nn_model *m, int tensor, void *x);
/* In storage order, see nn_tensor.stride. The caller may write through the pointer: until nn_model_data_end, infer
 * routines trust no value that they kept. */
void *nn_model_data(nn_model *m, int tensor);
void nn_model_data_end(nn_model *m);
void *nn_model_grad(nn_model *m, int tensor); /* NULL when the object holds no gradients */

typedef int (*nn_write_fn)(void *ctx, const void *data, size_t n);
typedef int (*nn_read_fn)(void *ctx, void *data, size_t n);

#if defined(NN_NO_FILES)

static inline nn_status nn_model_save(const nn_model *m, unsigned what, const char *path)
{
    (void)m, (void)what, (void)path;
    return NN_EIO;
}

static inline nn_status nn_model_load(nn_model *m, unsigned what, const char *path, nn_load_report *report)
{
    (void)m, (void)what, (void)path, (void)report;
    return NN_EIO;
}

static inline nn_status nn_model_save_to(const nn_model *m, unsigned what, nn_write_fn write, void *ctx)
{
    (void)m, (void)what, (void)write, (void)ctx;
    return NN_EIO;
}

static inline nn_status nn_model_load_from(nn_model *m, unsigned what, nn_read_fn read, size_t size, void *ctx,
                                           nn_load_report *report)
{
    (void)m, (void)what, (void)read, (void)size, (void)ctx, (void)report;
    return NN_EIO;
}

#else

/* safetensors files. `what`: NN_WEIGHTS, NN_TRAINING or both. Saving writes a temporary file beside
 * `path`, syncs and renames it. Loading verifies everything before it changes anything; without
 * NN_PARTIAL every tensor must be there with the right shape. report may be NULL. */
nn_status nn_model_save(const nn_model *m, unsigned what, const char *path);
nn_status nn_model_load(nn_model *m, unsigned what, const char *path, nn_load_report *report);
/* The same through callbacks, for storage that is not a file. write returns 0 on success; read fills
 * exactly n bytes or returns non-zero; size is the total. */
nn_status nn_model_save_to(const nn_model *m, unsigned what, nn_write_fn write, void *ctx);
nn_status nn_model_load_from(nn_model *m, unsigned what, nn_read_fn read, size_t size, void *ctx,
                             nn_load_report *report);

#endif

#ifdef __cplusplus
}
#endif
#endif
