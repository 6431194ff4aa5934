/* SPDX-License-Identifier: MIT
 *
 * The model object and its checkpoints, on a model written down by hand: layout, initial values, access
 * in canonical order, saving, loading, conversion between precisions, reports.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nn_init.h"
#include "nn_model.h"
#include "nn_safetensors.h"
#include "run_suite.h"

/* clang-format off */
/* Two stored orders of the same weights: canonical, and as the compiler chooses ([in][out], [R][S][I][O]). */
#define W1(s0, s1, at, DT, INIT) \
    { "net.fc1.weight", "m.nn:1", DT, 2, { 5, 7 }, { s0, s1 }, 35, at, 1, 0, INIT, { 0 }, 7, 5 }
#define W2(s0, s1, s2, s3, at, DT)                                                                     \
    { "net.c.weight", "m.nn:2", DT, 4, { 4, 3, 2, 2 }, { s0, s1, s2, s3 }, 48, at, 1, 0, nn_init_he_normal, \
      { 0 }, 12, 16 }
#define B1(at, DT) \
    { "net.fc1.bias", "m.nn:1", DT, 1, { 5 }, { 1 }, 5, at, 1, 0, nn_init_zeros, { 0 }, 0, 0 }
#define S1(at, DT)                                                                                     \
    { "net.bn.var", "m.nn:3", DT, 1, { 3 }, { 1 }, 3, at, 0, 1, nn_init_ones, { 0 }, 0, 0 }

static const nn_tensor stored32[] = { W1(1, 5, 0, NN_F32, nn_init_xavier_uniform), B1(48, NN_F32),
                                      W2(1, 4, 24, 12, 64, NN_F32), S1(0, NN_F32) };
static const nn_tensor plain32[] = { W1(7, 1, 0, NN_F32, nn_init_xavier_uniform), B1(48, NN_F32),
                                     W2(12, 4, 2, 1, 64, NN_F32), S1(0, NN_F32) };
static const nn_tensor stored64[] = { W1(1, 5, 0, NN_F64, nn_init_xavier_uniform), B1(40, NN_F64),
                                      W2(1, 4, 24, 12, 48, NN_F64), S1(0, NN_F64) };
/* clang-format on */
static const nn_hyper_info hypers[] = { { "beta", 0.25 }, { "train.lr", 1e-3 } };
static const nn_range ranges32[] = { { 0, 112, 0 } }, ranges64[] = { { 0, 96, 0 } };
static const char *const slots[] = { "exp_avg", "exp_avg_sq" };
static const nn_routine_info routines32[] = {
    { .name = "predict", .arena_bytes = 1000, .kept_bytes = 100 },
    { .name = "train", .arena_bytes = 3000, .n_ranges = 1, .ranges = ranges32, .n_slots = 2, .slots = slots,
      .slot_count = 112 },
};
static const nn_routine_info routines64[] = {
    { .name = "predict", .arena_bytes = 1000, .kept_bytes = 100 },
    { .name = "train", .arena_bytes = 3000, .n_ranges = 1, .ranges = ranges64, .n_slots = 2, .slots = slots,
      .slot_count = 96 },
};

typedef struct Object {
    nn_model base;
    int own;
} Object;

#define INFO(REAL, TENSORS, ROUTINES, PARAMS)                                                      \
    {                                                                                              \
        "toy", 0x1234, REAL, sizeof(Object), 4, 2, 2, TENSORS, hypers, ROUTINES, PARAMS, PARAMS,   \
            2 * PARAMS, 16                                                                         \
    }
static const nn_model_info info32 = INFO(4, stored32, routines32, 112);
static const nn_model_info info_plain = INFO(4, plain32, routines32, 112);
static const nn_model_info info64 = INFO(8, stored64, routines64, 96);

enum { PREDICT = 1, TRAIN = 2 };

static nn_model *make(const nn_model_info *info, unsigned routines, uint64_t seed)
{
    nn_options o = { .seed = seed, .threads = 1 };
    nn_model *m = nn_model_new(info, routines, &o);
    ck_assert_ptr_nonnull(m);
    return m;
}

START_TEST(parts_lie_aligned_within_the_stated_bytes)
{
    size_t bytes = nn_model_bytes(&info32, PREDICT | TRAIN);
    ck_assert_uint_eq(bytes % 64, 0);
    ck_assert_uint_lt(nn_model_bytes(&info32, PREDICT), bytes);
    unsigned char *mem = aligned_alloc(64, bytes + 64);
    memset(mem, 0xa5, bytes + 64);
    nn_model *m;
    ck_assert_int_eq(nn_model_init(&info32, &m, mem, bytes - 1, 3, NULL), NN_ENOMEM);
    ck_assert_int_eq(nn_model_init(&info32, &m, mem + 4, bytes, 3, NULL), NN_EINVAL);
    ck_assert_int_eq(nn_model_init(&info32, &m, mem, bytes, 4, NULL), NN_EINVAL);
    ck_assert_int_eq(nn_model_init(&info32, &m, mem, bytes, 3, NULL), NN_OK);
    void *parts[] = { m->hypers, m->params, m->grads, m->slots, m->state, m->arena, m->kept[0] };
    for (size_t i = 0; i < 7; i++) ck_assert_uint_eq((uintptr_t)parts[i] % 64, 0);
    memset(m->arena, 1, 3000); /* the largest arena fits, and so do the kept values */
    ck_assert(m->kept[0] >= m->arena + 3000);
    memset(m->kept[0], 1, 100);
    for (size_t i = 0; i < 64; i++) ck_assert_uint_eq(mem[bytes + i], 0xa5);
    ck_assert(m->hypers[0] == 0.25 && m->hypers[1] == 1e-3);
    for (int i = 35; i < 48; i++) ck_assert(((float *)m->params)[i] == 0);
    nn_model_free(m);
    free(mem);
}
END_TEST

START_TEST(initial_values_ignore_layout_precision_and_choice_of_routines)
{
    nn_model *a = make(&info32, 3, 42), *b = make(&info_plain, 3, 42),
             *c = make(&info32, PREDICT, 42);
    nn_model *d = make(&info64, 3, 42), *e = make(&info32, 3, 43);
    for (int t = 0; t < 4; t++) {
        float xa[48], xb[48], xc[48], xe[48];
        double xd[48];
        nn_dim n = stored32[t].count;
        ck_assert_int_eq(nn_model_get(a, t, xa), NN_OK);
        nn_model_get(b, t, xb);
        nn_model_get(c, t, xc);
        nn_model_get(d, t, xd);
        nn_model_get(e, t, xe);
        ck_assert(memcmp(xa, xb, (size_t)n * 4) == 0);
        ck_assert(memcmp(xa, xc, (size_t)n * 4) == 0);
        for (nn_dim i = 0; i < n; i++) ck_assert(xa[i] == (float)xd[i]);
        if (t == 0 || t == 2) ck_assert(memcmp(xa, xe, (size_t)n * 4) != 0);
    }
    /* Canonical element (i, j) is where the strides say. */
    float x[35];
    nn_model_get(a, 0, x);
    ck_assert(x[2 * 7 + 3] == ((float *)nn_model_data(a, 0))[2 * 1 + 3 * 5]);
    ck_assert(((float *)nn_model_data(a, 3))[1] == 1);
    nn_model_free(a), nn_model_free(b), nn_model_free(c), nn_model_free(d), nn_model_free(e);
}
END_TEST

/* Whatever may change a weight makes kept values stale; a pointer that was handed out does so until data_end. */
START_TEST(kept_values_are_stale_when_weights_may_have_changed)
{
    nn_model *m = make(&info32, 3, 1);
    const float x[48] = { 1 };
    float y[48];
    ck_assert(nn_model_is_stale(m, 0));
#define SETTLE() (m->prepared[0] = m->weights, ck_assert(!nn_model_is_stale(m, 0)))
    SETTLE();
    ck_assert_int_eq(nn_model_get(m, 0, y), NN_OK);
    ck_assert_ptr_nonnull(nn_model_grad(m, 0));
    ck_assert(!nn_model_is_stale(m, 0));
    ck_assert_int_eq(nn_model_set(m, 0, x), NN_OK);
    ck_assert(nn_model_is_stale(m, 0));
    SETTLE();
    nn_model_reset(m, 2);
    ck_assert(nn_model_is_stale(m, 0));
    SETTLE();
    float *w = nn_model_data(m, 0);
    m->prepared[0] = m->weights;
    w[0] = 3;
    ck_assert(nn_model_is_stale(m, 0));
    nn_model_data_end(m);
    ck_assert(nn_model_is_stale(m, 0));
    SETTLE();
#undef SETTLE
    nn_model_free(m);
}
END_TEST

START_TEST(get_set_and_find)
{
    nn_model *m = make(&info32, 3, 1);
    float x[48], y[48];
    ck_assert_int_eq(nn_model_find(m, "net.c.weight"), 2);
    ck_assert_int_eq(nn_model_find(m, "net.d"), -1);
    for (int i = 0; i < 48; i++) x[i] = (float)i;
    ck_assert_int_eq(nn_model_set(m, 2, x), NN_OK);
    ck_assert_int_eq(nn_model_get(m, 2, y), NN_OK);
    ck_assert(memcmp(x, y, sizeof x) == 0);
    ck_assert(((float *)nn_model_data(m, 2))[1 * 1 + 2 * 4 + 1 * 24 + 1 * 12] ==
              (float)(1 * 12 + 2 * 4 + 3));
    ck_assert_int_eq(nn_model_get(m, 4, y), NN_EINVAL);
    ck_assert_int_eq(nn_model_get(m, -1, y), NN_EINVAL);
    ck_assert_int_eq(nn_model_get_grad(m, 2, y), NN_OK);
    ck_assert(y[0] == 0);
    ck_assert_int_eq(nn_model_get_grad(m, 3, y), NN_EINVAL);
    ck_assert_ptr_null(nn_model_grad(m, 3));
    nn_model *p = make(&info32, PREDICT, 1);
    ck_assert_ptr_null(nn_model_grad(p, 0));
    ck_assert_int_eq(nn_model_get_grad(p, 0, y), NN_EINVAL);
    nn_model_free(m);
    nn_model_free(p);
}
END_TEST

START_TEST(impossible_options_are_refused)
{
    nn_options o = { .threads = -1 };
    ck_assert_ptr_null(nn_model_new(&info32, 3, &o));
    o.threads = 1000000;
    ck_assert_ptr_null(nn_model_new(&info32, 3, &o));
    ck_assert_ptr_null(nn_model_new(NULL, 3, NULL));
    nn_model_free(NULL);
}
END_TEST

/* ---- distributions ---- */

static void moments(nn_init_fn f, nn_dim fan_in, nn_dim fan_out, const double *args, double *mean,
                    double *std, double *low, double *high)
{
    enum { N = 100001 };
    static double x[N];
    f(x, 8, N, fan_in, fan_out, args, 7, 3);
    double s = 0, q = 0;
    *low = INFINITY, *high = -INFINITY;
    for (int i = 0; i < N; i++) {
        s += x[i], q += x[i] * x[i];
        *low = fmin(*low, x[i]), *high = fmax(*high, x[i]);
    }
    *mean = s / N;
    *std = sqrt(q / N - *mean * *mean);
}

START_TEST(distributions_have_their_moments)
{
    static const struct {
        nn_init_fn f;
        double args[4], mean, std, bound; /* bound 0: none */
    } rows[] = {
        { nn_init_constant, { 2.5 }, 2.5, 0, 0 },
        { nn_init_normal, { 0.5, 3 }, 3, 0.5, 0 },
        { nn_init_uniform, { -1, 3 }, 1, 4 / 3.4641016, 3 },
        { nn_init_xavier_normal, { 0 }, 0, 0.1, 0 }, /* 2 / (120 + 80) */
        { nn_init_xavier_uniform, { 2 }, 0, 0.2, 0.34642 },
        { nn_init_he_normal, { 0 }, 0, 0.1290994, 0 }, /* 2 / 120 */
        { nn_init_he_uniform, { 0 }, 0, 0.1290994, 0.223607 },
        { nn_init_lecun_normal, { 0 }, 0, 0.0912871, 0 }, /* 1 / 120 */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double mean, std, low, high;
        moments(rows[i].f, 120, 80, rows[i].args, &mean, &std, &low, &high);
        /* Five standard errors of 100001 draws. */
        ck_assert_msg(fabs(mean - rows[i].mean) <= 0.016 * rows[i].std + 1e-12, "row %zu: mean %g",
                      i, mean);
        ck_assert_msg(fabs(std - rows[i].std) <= 0.012 * rows[i].std + 1e-7, "row %zu: std %g", i,
                      std);
        if (rows[i].bound > 0)
            ck_assert_msg(high <= rows[i].bound && high > 0.99 * rows[i].bound, "row %zu", i);
    }
}
END_TEST

START_TEST(orthogonal_matrices_are_orthogonal)
{
    static const nn_dim dims[][2] = { { 4, 9 }, { 9, 4 }, { 6, 6 } };
    static const double args[4] = { 2 };
    for (int k = 0; k < 3; k++) {
        nn_dim rows = dims[k][0], cols = dims[k][1], small = rows < cols ? rows : cols;
        float x[36];
        nn_init_orthogonal(x, 4, rows * cols, cols, rows, args, 1, 2);
        for (nn_dim a = 0; a < small; a++)
            for (nn_dim b = 0; b < small; b++) {
                double dot = 0;
                for (nn_dim i = 0; i < (rows > cols ? rows : cols); i++)
                    dot += rows > cols ? (double)x[i * cols + a] * (double)x[i * cols + b]
                                       : (double)x[a * cols + i] * (double)x[b * cols + i];
                ck_assert_msg(fabs(dot - (a == b ? 4 : 0)) < 1e-5, "%d: %g", k, dot);
            }
    }
}
END_TEST

/* ---- checkpoints ---- */

typedef struct Bytes {
    unsigned char data[1 << 15];
    size_t n, at;
} Bytes;

static int append(void *ctx, const void *data, size_t n)
{
    Bytes *b = ctx;
    if (n > sizeof b->data - b->n) return -1;
    memcpy(b->data + b->n, data, n);
    b->n += n;
    return 0;
}

static int take(void *ctx, void *data, size_t n)
{
    Bytes *b = ctx;
    if (n > b->n - b->at) return -1;
    memcpy(data, b->data + b->at, n);
    b->at += n;
    return 0;
}

static nn_status load(nn_model *m, unsigned what, Bytes *b, nn_load_report *r)
{
    b->at = 0;
    return nn_model_load_from(m, what, take, b->n, b, r);
}

/* An object whose every number differs from a fresh one's. */
static nn_model *trained(const nn_model_info *info)
{
    nn_model *m = make(info, 3, 99);
    for (int t = 0; t < 4; t++) {
        double xd[48];
        float xf[48];
        for (int i = 0; i < 48; i++) xf[i] = (float)(xd[i] = t * 100 + i + 0.5);
        nn_model_set(m, t, info->real_bytes == 8 ? (void *)xd : (void *)xf);
    }
    /* Slots: only elements of tensors, padding stays zero. */
    for (int k = 0; k < 2; k++)
        for (int t = 0; t < 3; t++)
            for (nn_dim i = 0; i < info->tensors[t].count; i++) {
                nn_dim at = k * info->routines[1].slot_count + info->tensors[t].offset + i;
                double v = k * 1000 + t * 100 + (double)i + 0.25;
                if (info->real_bytes == 8)
                    ((double *)m->slots)[at] = v;
                else
                    ((float *)m->slots)[at] = (float)v;
            }
    m->hypers[0] = 0.1;
    m->hypers[1] = 1e-300;
    m->calls[0] = 3, m->calls[1] = UINT64_C(1) << 60, m->steps[1] = 17;
    m->grads_ready[1] = 1;
    return m;
}

static void assert_same(const nn_model *a, const nn_model *b)
{
    size_t real = (size_t)a->info->real_bytes;
    ck_assert(memcmp(a->params, b->params, (size_t)a->info->param_count * real) == 0);
    ck_assert(memcmp(a->state, b->state, (size_t)a->info->state_count * real) == 0);
    ck_assert(memcmp(a->slots, b->slots, (size_t)a->info->slot_count * real) == 0);
    ck_assert(memcmp(a->hypers, b->hypers, 2 * sizeof(double)) == 0);
    ck_assert(memcmp(a->calls, b->calls, sizeof a->calls) == 0);
    ck_assert(memcmp(a->steps, b->steps, sizeof a->steps) == 0);
    ck_assert_uint_eq(a->seed, b->seed);
}

START_TEST(everything_saved_is_loaded_bit_for_bit)
{
    const nn_model_info *infos[] = { &info32, &info64 };
    for (int k = 0; k < 2; k++) {
        static Bytes b, again;
        nn_load_report r;
        nn_model *a = trained(infos[k]), *m = make(infos[k], 3, 1);
        b.n = again.n = 0;
        ck_assert_int_eq(nn_model_save_to(a, NN_ALL, append, &b), NN_OK);
        ck_assert_msg(load(m, NN_ALL, &b, &r) == NN_OK, "%s", r.message);
        assert_same(a, m);
        ck_assert_int_eq(r.loaded, 4 + 6 + 2 + 3 + 1);
        ck_assert_int_eq(r.missing + r.mismatched + r.unexpected, 0);
        ck_assert_int_eq(nn_model_save_to(m, NN_ALL, append, &again), NN_OK);
        ck_assert(b.n == again.n && memcmp(b.data, again.data, b.n) == 0);
        nn_model_free(a);
        nn_model_free(m);
    }
}
END_TEST

START_TEST(storage_order_does_not_show_in_files)
{
    static Bytes a, b;
    nn_model *m = trained(&info32), *n = make(&info_plain, 3, 1), *back = make(&info32, 3, 1);
    a.n = b.n = 0;
    ck_assert_int_eq(nn_model_save_to(m, NN_ALL, append, &a), NN_OK);
    ck_assert_int_eq(load(n, NN_ALL, &a, NULL), NN_OK);
    ck_assert_int_eq(nn_model_save_to(n, NN_ALL, append, &b), NN_OK);
    ck_assert(a.n == b.n && memcmp(a.data, b.data, a.n) == 0);
    ck_assert_int_eq(load(back, NN_ALL, &b, NULL), NN_OK);
    assert_same(m, back);
    nn_model_free(m), nn_model_free(n), nn_model_free(back);
}
END_TEST

START_TEST(precisions_convert)
{
    static Bytes b;
    nn_model *a = trained(&info32), *d = make(&info64, 3, 1), *back = make(&info32, 3, 1);
    b.n = 0;
    ck_assert_int_eq(nn_model_save_to(a, NN_ALL, append, &b), NN_OK);
    ck_assert_int_eq(load(d, NN_ALL, &b, NULL), NN_OK);
    b.n = 0;
    ck_assert_int_eq(nn_model_save_to(d, NN_ALL, append, &b), NN_OK);
    ck_assert_int_eq(load(back, NN_ALL, &b, NULL), NN_OK);
    assert_same(a, back);
    nn_model_free(a), nn_model_free(d), nn_model_free(back);
}
END_TEST

START_TEST(an_inference_object_takes_weights_of_a_full_checkpoint)
{
    static Bytes b;
    nn_load_report r;
    nn_model *a = trained(&info32), *p = make(&info32, PREDICT, 1);
    b.n = 0;
    nn_model_save_to(a, NN_ALL, append, &b);
    ck_assert_msg(load(p, NN_WEIGHTS, &b, &r) == NN_OK, "%s", r.message);
    ck_assert_int_eq(r.loaded, 4);
    ck_assert(memcmp(a->params, p->params, 112 * 4) == 0);
    ck_assert_uint_eq(p->seed, 1);
    nn_model_free(a), nn_model_free(p);
}
END_TEST

START_TEST(weights_alone_do_not_satisfy_a_full_load)
{
    static Bytes b;
    nn_load_report r;
    nn_model *a = trained(&info32), *m = make(&info32, 3, 5), *fresh = make(&info32, 3, 5);
    b.n = 0;
    nn_model_save_to(a, NN_WEIGHTS, append, &b);
    ck_assert_int_eq(load(m, NN_ALL, &b, &r), NN_EMISMATCH);
    ck_assert_str_eq(r.first, "training/hyper.beta");
    assert_same(m, fresh);
    ck_assert_int_eq(load(m, NN_WEIGHTS, &b, &r), NN_OK);
    nn_model_free(a), nn_model_free(m), nn_model_free(fresh);
}
END_TEST

/* A foreign file: one tensor of the model, one of another shape, one unknown. */
static void foreign(Bytes *b)
{
    nn_st_file *f = nn_st_new();
    static const double w[35] = { 1, 2, 3 };
    nn_st_add(f, "net.fc1.weight", NN_F64, 2, (nn_dim[]){ 5, 7 }, w);
    nn_st_add(f, "net.c.weight", NN_F32, 4, (nn_dim[]){ 4, 3, 3, 3 }, NULL);
    nn_st_add(f, "other", NN_F32, 1, (nn_dim[]){ 2 }, NULL);
    b->n = 0;
    ck_assert_int_eq(nn_st_write(f, append, b, NULL), NN_OK);
    nn_st_close(f);
}

START_TEST(mismatches_are_named_and_change_nothing)
{
    static Bytes b;
    nn_load_report r;
    nn_model *m = make(&info32, 3, 5), *fresh = make(&info32, 3, 5);
    foreign(&b);
    ck_assert_int_eq(load(m, NN_WEIGHTS, &b, &r), NN_EMISMATCH);
    ck_assert_int_eq(r.missing, 2); /* the bias and the state */
    ck_assert_int_eq(r.mismatched, 1);
    ck_assert_int_eq(r.unexpected, 1);
    ck_assert_str_eq(r.first, "net.fc1.bias");
    assert_same(m, fresh);

    ck_assert_int_eq(load(m, NN_WEIGHTS | NN_PARTIAL, &b, &r), NN_OK);
    ck_assert_int_eq(r.loaded, 1);
    ck_assert_int_eq(r.missing + r.mismatched + r.unexpected, 4);
    float x[35];
    nn_model_get(m, 0, x);
    ck_assert(x[1] == 2);
    ck_assert(memcmp((float *)m->params + 64, (float *)fresh->params + 64, 48 * 4) == 0);
    nn_model_free(m), nn_model_free(fresh);
}
END_TEST

START_TEST(damage_is_found_before_anything_changes)
{
    static Bytes b;
    nn_load_report r;
    nn_model *a = trained(&info32), *m = make(&info32, 3, 5), *fresh = make(&info32, 3, 5);
    b.n = 0;
    nn_model_save_to(a, NN_ALL, append, &b);
    /* A prime step visits bytes of header and data alike; test_safetensors flips every bit. */
    for (size_t i = 0; i < b.n; i += 7) {
        b.data[i] ^= 4;
        nn_status s = load(m, NN_ALL, &b, &r);
        ck_assert_msg(s == NN_ECORRUPT || s == NN_EFORMAT, "byte %zu: %d", i, s);
        ck_assert(r.message[0] != '\0');
        assert_same(m, fresh);
        b.data[i] ^= 4;
    }
    nn_model_free(a), nn_model_free(m), nn_model_free(fresh);
}
END_TEST

START_TEST(files_are_replaced_and_wrong_arguments_refused)
{
    char path[] = "/tmp/nn-model-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    nn_load_report r;
    nn_model *a = trained(&info32), *m = make(&info32, 3, 1);
    ck_assert_int_eq(nn_model_load(m, NN_ALL, path, &r), NN_EFORMAT);
    ck_assert_int_eq(nn_model_save(a, NN_ALL, path), NN_OK);
    ck_assert_int_eq(nn_model_load(m, NN_ALL, path, &r), NN_OK);
    ck_assert_int_eq(m->grads_ready[1], 0);
    assert_same(a, m);
    ck_assert_int_eq(nn_model_load(m, 0, path, &r), NN_EINVAL);
    ck_assert_int_eq(nn_model_save(a, NN_PARTIAL | NN_ALL, path), NN_EINVAL);
    ck_assert_int_eq(nn_model_save(a, NN_ALL, NULL), NN_EINVAL);
    unlink(path);
    ck_assert_int_eq(nn_model_load(m, NN_ALL, path, &r), NN_EIO);
    nn_model_reset(m, 5);
    nn_model *fresh = make(&info32, 3, 5);
    fresh->hypers[0] = m->hypers[0], fresh->hypers[1] = m->hypers[1];
    assert_same(m, fresh);
    nn_model_free(a), nn_model_free(m), nn_model_free(fresh);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("model");
    TCase *t = tcase_create("model");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, parts_lie_aligned_within_the_stated_bytes);
    tcase_add_test(t, initial_values_ignore_layout_precision_and_choice_of_routines);
    tcase_add_test(t, kept_values_are_stale_when_weights_may_have_changed);
    tcase_add_test(t, get_set_and_find);
    tcase_add_test(t, impossible_options_are_refused);
    tcase_add_test(t, distributions_have_their_moments);
    tcase_add_test(t, orthogonal_matrices_are_orthogonal);
    tcase_add_test(t, everything_saved_is_loaded_bit_for_bit);
    tcase_add_test(t, storage_order_does_not_show_in_files);
    tcase_add_test(t, precisions_convert);
    tcase_add_test(t, an_inference_object_takes_weights_of_a_full_checkpoint);
    tcase_add_test(t, weights_alone_do_not_satisfy_a_full_load);
    tcase_add_test(t, mismatches_are_named_and_change_nothing);
    tcase_add_test(t, damage_is_found_before_anything_changes);
    tcase_add_test(t, files_are_replaced_and_wrong_arguments_refused);
    suite_add_tcase(s, t);
    return run_suite(s);
}
