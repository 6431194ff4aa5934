/* SPDX-License-Identifier: MIT
 *
 * The object behind every generated model. In: the model's constant nn_model_info; out: one block of
 * memory with every part on a 64-byte boundary, and access to its tensors in canonical order. Invariant:
 * between tensors, and behind the last, the blocks hold zeros, which optimizers keep zero.
 */
#include <stdlib.h>
#include <string.h>
#if defined(__linux__) && !defined(NN_NO_HEAP)
#include <sys/mman.h>
#endif

#include "nn_model.h"
#include "canonical.h"

#if !defined(NN_NO_THREADS)
extern void openblas_set_num_threads(int n) __attribute__((weak));
#endif

/* Memory on a 64-byte boundary, NULL when there is none. A kernel that walks down the rows of a wide matrix is on
 * another page at every row: with pages of 4 KiB that takes more entries than the processor's table of pages has. Large
 * objects ask for huge pages. */
static void *take(size_t bytes)
{
#if defined(NN_NO_HEAP)
    (void)bytes;
    return NULL;
#else
#if defined(MADV_HUGEPAGE)
    enum { HUGE_PAGE = 2 << 20, LARGE = 4 * HUGE_PAGE };
    if (bytes >= LARGE && bytes <= SIZE_MAX - HUGE_PAGE) {
        bytes = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        void *mem = aligned_alloc(HUGE_PAGE, bytes);
        if (mem) (void)madvise(mem, bytes, MADV_HUGEPAGE); /* a system without them works all the same */
        return mem;
    }
#endif
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
#endif
}

static void give(void *p)
{
#if defined(NN_NO_HEAP)
    (void)p;
#else
    free(p);
#endif
}

/* A team must save at least this much: a sleeping worker takes that long to wake up on a plain machine. */
enum { TEAM_GAIN_NS = 8000 };

/* Byte offsets of the parts of an object. A part that is absent has the offset of the next one. */
typedef struct Layout {
    size_t hypers, params, grads, slots, state, arena, total, kept[NN_MAX_ROUTINES];
    int trains;      /* a step is among the chosen routines */
    int keeps_grads; /* and one that keeps its gradients */
} Layout;

/* Appends n items of `size` bytes at `*at`, which stays a multiple of 64. 0 on overflow. */
static int reserve(size_t *at, uint64_t n, size_t size)
{
    if (n > (SIZE_MAX - 64) / size) return 0;
    size_t bytes = ((size_t)n * size + 63) / 64 * 64;
    if (bytes > SIZE_MAX - *at) return 0;
    *at += bytes;
    return 1;
}

static int layout(const nn_model_info *info, unsigned routines, Layout *l)
{
    size_t arena = 0;
    *l = (Layout){ 0 };
    for (int i = 0; i < info->n_routines; i++) {
        if (!(routines >> i & 1)) continue;
        if (info->routines[i].arena_bytes > arena) arena = info->routines[i].arena_bytes;
        if (info->routines[i].n_ranges == 0) continue;
        l->trains = 1;
        if (!info->routines[i].in_backward) l->keeps_grads = 1;
    }
    size_t at = 0, real = (size_t)info->real_bytes;
    if (!reserve(&at, 1, info->object_bytes)) return 0;
    l->hypers = at;
    if (!reserve(&at, (uint64_t)info->n_hypers, sizeof(double))) return 0;
    l->params = at;
    if (!reserve(&at, (uint64_t)info->param_count, real)) return 0;
    l->grads = at;
    if (l->keeps_grads && !reserve(&at, (uint64_t)info->grad_count, real)) return 0;
    l->slots = at;
    if (l->trains && !reserve(&at, (uint64_t)info->slot_count, real)) return 0;
    l->state = at;
    if (!reserve(&at, (uint64_t)info->state_count, real)) return 0;
    l->arena = at;
    if (!reserve(&at, 1, arena > 0 ? arena : 1)) return 0;
    for (int i = 0; i < info->n_routines; i++) {
        l->kept[i] = at;
        if (routines >> i & 1 && !reserve(&at, info->routines[i].kept_bytes, 1)) return 0;
    }
    l->total = at;
    return 1;
}

size_t nn_model_bytes(const nn_model_info *info, unsigned routines)
{
    Layout l;
    return layout(info, routines, &l) ? l.total : SIZE_MAX;
}

static size_t block_bytes(const nn_model *m, nn_dim count)
{
    return (size_t)count * (size_t)m->info->real_bytes;
}

/* The tensor's part of `block`, the parameters, the gradients or the state. */
static void *tensor_at(const nn_model *m, const nn_tensor *t, void *block)
{
    return (unsigned char *)block + block_bytes(m, t->offset);
}

static void *storage(const nn_model *m, const nn_tensor *t)
{
    return tensor_at(m, t, t->is_state ? m->state : m->params);
}

/* ---- initial values ---- */

/* Moves values from canonical to storage order in place, by following each cycle of the permutation from
 * its smallest index. Slow, but needs no memory: the last resort of tensor_init. */
static void permute_in_place(const nn_tensor *t, void *x, int real_bytes)
{
    for (nn_dim start = 0; start < t->count; start++) {
        nn_dim i = nn_canonical_to_storage(t, start);
        while (i > start) i = nn_canonical_to_storage(t, i);
        if (i < start) continue; /* this cycle was moved when its smallest index came */
        unsigned char hand[8], other[8];
        size_t size = (size_t)real_bytes;
        unsigned char *base = x;
        memcpy(hand, base + (size_t)start * size, size);
        i = start;
        do {
            i = nn_canonical_to_storage(t, i);
            memcpy(other, base + (size_t)i * size, size);
            memcpy(base + (size_t)i * size, hand, size);
            memcpy(hand, other, size);
        } while (i != start);
    }
}

static void tensor_init(nn_model *m, int index)
{
    const nn_tensor *t = &m->info->tensors[index];
    int real_bytes = m->info->real_bytes;
    void *data = storage(m, t);
    if (!t->init) {
        memset(data, 0, block_bytes(m, t->count));
        return;
    }
    if (nn_is_canonical(t)) {
        t->init(data, real_bytes, t->count, t->fan_in, t->fan_out, t->init_args, m->seed,
                (uint32_t)index);
        return;
    }
    /* Gradients and slots are cleared afterwards, so that their blocks can serve as scratch memory. */
    void *scratch = m->grads && t->count <= m->info->grad_count   ? m->grads
                    : m->slots && t->count <= m->info->slot_count ? m->slots
                                                                  : NULL;
    int borrow = scratch != NULL;
    if (!borrow) scratch = take(block_bytes(m, t->count));
    void *canonical = scratch ? scratch : data;
    t->init(canonical, real_bytes, t->count, t->fan_in, t->fan_out, t->init_args, m->seed,
            (uint32_t)index);
    if (scratch)
        nn_canonical_write(t, data, scratch, real_bytes);
    else
        permute_in_place(t, data, real_bytes);
    if (!borrow) give(scratch);
}

void nn_model_reset(nn_model *m, uint64_t seed)
{
    const nn_model_info *info = m->info;
    m->seed = seed;
    memset(m->params, 0, block_bytes(m, info->param_count));
    memset(m->state, 0, block_bytes(m, info->state_count));
    for (int i = 0; i < info->n_tensors; i++) tensor_init(m, i);
    if (m->grads) memset(m->grads, 0, block_bytes(m, info->grad_count));
    if (m->slots) memset(m->slots, 0, block_bytes(m, info->slot_count));
    memset(m->calls, 0, sizeof m->calls);
    memset(m->steps, 0, sizeof m->steps);
    memset(m->grads_ready, 0, sizeof m->grads_ready);
    m->averaged = 0;
    m->weights++;
}

/* ---- averaged weights ---- */

static int ranges_meet(const nn_routine_info *a, const nn_routine_info *b)
{
    for (int i = 0; i < a->n_ranges; i++)
        for (int k = 0; k < b->n_ranges; k++)
            if (a->ranges[i].offset < b->ranges[k].offset + b->ranges[k].count &&
                b->ranges[k].offset < a->ranges[i].offset + a->ranges[i].count)
                return 1;
    return 0;
}

nn_status nn_model_swap_ema(nn_model *m, unsigned step)
{
    if (!m || !m->slots || (step & m->routines) != step) return NN_EINVAL;
    int r = 0, slot = 0;
    while (r < m->info->n_routines && step != 1U << r) r++;
    if (r == m->info->n_routines) return NN_EINVAL;
    const nn_routine_info *info = &m->info->routines[r];
    while (slot < info->n_slots && strcmp(info->slots[slot], "ema") != 0) slot++;
    if (slot == info->n_slots) return NN_EINVAL;
    if (m->steps[r] == 0) return NN_ESTATE;
    for (int i = 0; i < m->info->n_routines; i++)
        if (i != r && m->averaged >> i & 1 && ranges_meet(info, &m->info->routines[i]))
            return NN_ESTATE;
    for (int i = 0; i < info->n_ranges; i++) {
        const nn_range *range = &info->ranges[i];
        unsigned char *w = (unsigned char *)m->params + block_bytes(m, range->offset);
        unsigned char *e =
            (unsigned char *)m->slots +
            block_bytes(m, info->slots_offset + slot * info->slot_count + range->slot_offset);
        for (size_t k = 0; k < block_bytes(m, range->count); k++) {
            const unsigned char hand = w[k];
            w[k] = e[k];
            e[k] = hand;
        }
    }
    m->averaged ^= step;
    m->weights++;
    return NN_OK;
}

/* ---- running ---- */

/* The processor's rules for numbers below the normal range belong to each thread. */
typedef uint64_t ControlWord;
#if defined(__SSE__)
enum { FLUSH_BITS = 0x8040 }; /* MXCSR: results that would be denormal are zero, and so are such operands */
static ControlWord control_get(void)
{
    return __builtin_ia32_stmxcsr();
}
static void control_set(ControlWord w)
{
    __builtin_ia32_ldmxcsr((unsigned)w);
}
#elif defined(__aarch64__)
enum { FLUSH_BITS = 1 << 24 }; /* FPCR.FZ */
static ControlWord control_get(void)
{
    ControlWord w;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(w));
    return w;
}
static void control_set(ControlWord w)
{
    __asm__ __volatile__("msr fpcr, %0" : : "r"(w));
}
#else
enum { FLUSH_BITS = 0 };
static ControlWord control_get(void)
{
    return 0;
}
static void control_set(ControlWord w)
{
    (void)w;
}
#endif

typedef struct Run {
    nn_team_fn body;
    void *arg;
} Run;

static void run_flushed(void *arg, const nn_team *team)
{
    const Run *run = arg;
    const ControlWord before = control_get();
    control_set(before | FLUSH_BITS);
    run->body(run->arg, team);
    control_set(before);
}

static void run_on(nn_pool *pool, int flush_denormals, nn_team_fn body, void *arg)
{
    Run run = { body, arg };
    if (flush_denormals)
        nn_pool_run(pool, run_flushed, &run);
    else
        nn_pool_run(pool, body, arg);
}

#if defined(NN_NO_THREADS)
void nn_model_run(nn_model *m, nn_team_fn body, void *arg, int64_t work_ns, int64_t team_ns)
{
    (void)work_ns;
    (void)team_ns;
    run_on(NULL, m->flush_denormals, body, arg);
}
#else

/* The trial of a call. Two calls that fall on one place start it anew in turns, and run right all the same. */
static nn_trial *trial_of(nn_model *m, nn_team_fn body, int64_t work_ns)
{
    const uint64_t mixed = ((uint64_t)(uintptr_t)body + (uint64_t)work_ns) * 0x9e3779b97f4a7c15U;
    const unsigned at = (unsigned)(mixed >> 32) % NN_TRIED_CALLS;
    if (m->tried[at].body != body || m->tried[at].work_ns != work_ns) {
        m->tried[at].body = body;
        m->tried[at].work_ns = work_ns;
        m->tried[at].trial = (nn_trial){ 0 };
    }
    return &m->tried[at].trial;
}

void nn_model_run(nn_model *m, nn_team_fn body, void *arg, int64_t work_ns, int64_t team_ns)
{
    const int size = nn_pool_size(m->pool);
    const int64_t saved_ns = work_ns - work_ns / size, cost_ns = team_ns + TEAM_GAIN_NS;
    if (m->all_threads || size == 1 || !nn_trial_pays(saved_ns, cost_ns)) {
        run_on(m->all_threads || saved_ns >= cost_ns ? m->pool : NULL, m->flush_denormals, body, arg);
        return;
    }
    nn_trial *trial = trial_of(m, body, work_ns);
    const int timed = nn_trial_is_open(trial);
    const int64_t start = timed ? nn_now_ns() : 0;
    run_on(nn_trial_by_team(trial) ? m->pool : NULL, m->flush_denormals, body, arg);
    nn_trial_count(trial, timed ? nn_now_ns() - start : 0);
}
#endif

/* ---- making and freeing ---- */

nn_status nn_model_init(const nn_model_info *info, nn_model **out, void *mem, size_t bytes,
                        unsigned routines, const nn_options *options)
{
    static const nn_options defaults = { .seed = 0, .threads = 1, .pool = NULL };
    if (!options) options = &defaults;
    if (!info || !out || !mem || (uintptr_t)mem % 64 != 0) return NN_EINVAL;
    if (info->n_routines > NN_MAX_ROUTINES || options->threads < 0) return NN_EINVAL;
    if (options->flush_denormals && !FLUSH_BITS) return NN_EINVAL;
    unsigned known = info->n_routines == NN_MAX_ROUTINES ? ~0U : (1U << info->n_routines) - 1;
    if (routines & ~known) return NN_EINVAL;
    Layout l;
    if (!layout(info, routines, &l) || bytes < l.total) return NN_ENOMEM;
#if !defined(NN_NO_THREADS)
    if (openblas_set_num_threads) openblas_set_num_threads(1);
#endif

    unsigned char *base = mem;
    memset(base, 0, l.params);
    nn_model *m = mem;
    m->info = info;
    m->routines = routines;
    m->hypers = (double *)(void *)(base + l.hypers);
    for (int i = 0; i < info->n_hypers; i++) m->hypers[i] = info->hypers[i].value;
    m->params = base + l.params;
    m->grads = l.keeps_grads && info->grad_count > 0 ? base + l.grads : NULL;
    m->slots = l.trains && info->slot_count > 0 ? base + l.slots : NULL;
    m->state = base + l.state;
    m->arena = base + l.arena;
    for (int i = 0; i < info->n_routines; i++) m->kept[i] = base + l.kept[i];
    m->all_threads = options->all_threads != 0;
    m->flush_denormals = options->flush_denormals != 0;
    m->pool = options->pool;
#if defined(NN_NO_THREADS)
    if (options->threads > 1) return NN_ETHREAD;
#else
    if (!m->pool && options->threads != 1) {
        m->pool = nn_pool_new(options->threads);
        if (!m->pool) return NN_ETHREAD;
        m->owns_pool = 1;
    }
#endif
    nn_model_reset(m, options->seed);
    *out = m;
    return NN_OK;
}

nn_model *nn_model_new(const nn_model_info *info, unsigned routines, const nn_options *options)
{
    size_t bytes = info ? nn_model_bytes(info, routines) : SIZE_MAX;
    if (bytes == SIZE_MAX) return NULL;
    void *mem = take(bytes);
    nn_model *m = NULL;
    if (!mem) return NULL;
    if (nn_model_init(info, &m, mem, bytes, routines, options) != NN_OK) {
        give(mem);
        return NULL;
    }
    m->owns_memory = 1;
    return m;
}

void nn_model_free(nn_model *m)
{
    if (!m) return;
#if !defined(NN_NO_THREADS)
    if (m->owns_pool) nn_pool_free(m->pool);
#endif
    m->pool = NULL;
    m->owns_pool = 0;
    if (m->owns_memory) give(m);
}

/* ---- tensors ---- */

static int is_tensor(const nn_model *m, int tensor)
{
    return m != NULL && tensor >= 0 && tensor < m->info->n_tensors;
}

int nn_model_find(const nn_model *m, const char *name)
{
    for (int i = 0; name && i < m->info->n_tensors; i++)
        if (strcmp(m->info->tensors[i].name, name) == 0) return i;
    return -1;
}

void *nn_model_data(nn_model *m, int tensor)
{
    if (!is_tensor(m, tensor)) return NULL;
    m->lent = 1;
    return storage(m, &m->info->tensors[tensor]);
}

void nn_model_data_end(nn_model *m)
{
    if (!m) return;
    m->lent = 0;
    m->weights++;
}

void *nn_model_grad(nn_model *m, int tensor)
{
    if (!is_tensor(m, tensor) || !m->grads) return NULL;
    const nn_tensor *t = &m->info->tensors[tensor];
    if (t->is_state || t->offset + t->count > m->info->grad_count) return NULL;
    return tensor_at(m, t, m->grads);
}

nn_status nn_model_get(const nn_model *m, int tensor, void *x)
{
    if (!is_tensor(m, tensor) || !x) return NN_EINVAL;
    const nn_tensor *t = &m->info->tensors[tensor];
    nn_canonical_read(t, storage(m, t), x, m->info->real_bytes);
    return NN_OK;
}

nn_status nn_model_set(nn_model *m, int tensor, const void *x)
{
    if (!is_tensor(m, tensor) || !x) return NN_EINVAL;
    const nn_tensor *t = &m->info->tensors[tensor];
    nn_canonical_write(t, storage(m, t), x, m->info->real_bytes);
    m->weights++;
    return NN_OK;
}

nn_status nn_model_get_grad(const nn_model *m, int tensor, void *x)
{
    if (!is_tensor(m, tensor) || !x || !m->grads) return NN_EINVAL;
    const nn_tensor *t = &m->info->tensors[tensor];
    if (t->is_state || t->offset + t->count > m->info->grad_count) return NN_EINVAL;
    nn_canonical_read(t, tensor_at(m, t, m->grads), x, m->info->real_bytes);
    return NN_OK;
}
