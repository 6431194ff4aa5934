/* SPDX-License-Identifier: MIT
 *
 * Checkpoints: a model's tensors and training state as a safetensors file. In: an object and what to save,
 * or a file; out: a file, or an object changed all at once. Invariant: nothing of the object changes
 * before every byte that is wanted from the file has been verified.
 *
 * Contents, in canonical order and shape:
 *   PATH                              parameters and state, by their path in the .nn file
 *   training/ROUTINE.SLOT.PATH        optimizer slots, of the shape of their parameter
 *   training/ROUTINE.BLOCK            state of a second-order step, a matrix
 *   training/hyper.NAME               live scalars, F64
 *   training/ROUTINE.steps, .calls    counters, I64
 *   training/seed                     I64
 * A path holds no '/', so the two groups cannot collide. Other names with a '/' belong to the application and
 * are passed over. Metadata: nn.model, nn.hash.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn_model.h"
#include "canonical.h"
#include "file.h"
#include "safetensors.h"

#define TRAINING "training/"

/* One thing that is saved and loaded: where it lies in the object and how. */
typedef struct Item {
    char name[512];
    const nn_tensor *tensor; /* reals at `data` in storage order; NULL: one number at `data` */
    nn_dtype dtype;          /* in files written by this object */
    void *data;
    int training;
} Item;

/* Calls visit for every item of `what`, in a fixed order, until it returns a failure. */
typedef nn_status (*visit_fn)(void *ctx, const Item *item);

static void *real_at(const nn_model *m, void *block, nn_dim offset)
{
    return (unsigned char *)block + (size_t)offset * (size_t)m->info->real_bytes;
}

static nn_status item_named(Item *it, const char *a, const char *b, const char *c)
{
    int n = snprintf(it->name, sizeof it->name, "%s%s%s%s%s", it->training ? TRAINING : "", a,
                     b ? "." : "", b ? b : "", c);
    return n < 0 || (size_t)n >= sizeof it->name ? NN_ESIZE : NN_OK;
}

static nn_status visit_slots(const nn_model *m, const nn_routine_info *r, visit_fn visit, void *ctx)
{
    nn_status s = NN_OK;
    for (int k = 0; k < r->n_slots; k++)
        for (int j = 0; j < r->n_ranges; j++)
            for (int i = 0; i < m->info->n_tensors && s == NN_OK; i++) {
                const nn_tensor *t = &m->info->tensors[i];
                const nn_range *range = &r->ranges[j];
                if (t->is_state || t->offset < range->offset ||
                    t->offset >= range->offset + range->count)
                    continue;
                nn_dim at = r->slots_offset + k * r->slot_count + range->slot_offset + t->offset -
                            range->offset;
                Item it = {
                    .tensor = t, .dtype = t->dtype, .data = real_at(m, m->slots, at), .training = 1
                };
                char path[400];
                int n = snprintf(path, sizeof path, ".%s", t->name);
                if (n < 0 || (size_t)n >= sizeof path) return NN_ESIZE;
                s = item_named(&it, r->name, r->slots[k], path);
                if (s == NN_OK) s = visit(ctx, &it);
            }
    return s;
}

static nn_status visit_blocks(const nn_model *m, const nn_routine_info *r, visit_fn visit,
                              void *ctx)
{
    nn_status s = NN_OK;
    for (int k = 0; k < r->n_blocks && s == NN_OK; k++) {
        const nn_block *b = &r->blocks[k];
        const nn_dtype dtype = m->info->real_bytes == 8 ? NN_F64 : NN_F32;
        const nn_tensor matrix = { .name = b->name,
                                   .dtype = dtype,
                                   .rank = 2,
                                   .shape = { b->rows, b->cols },
                                   .stride = { b->cols, 1 },
                                   .count = b->rows * b->cols };
        Item it = { .tensor = &matrix,
                    .dtype = dtype,
                    .data = real_at(m, m->slots, b->offset),
                    .training = 1 };
        s = item_named(&it, r->name, b->name, "");
        if (s == NN_OK) s = visit(ctx, &it);
    }
    return s;
}

static nn_status visit_number(const char *a, const char *b, nn_dtype dtype, void *data,
                              visit_fn visit, void *ctx)
{
    Item it = { .dtype = dtype, .data = data, .training = 1 };
    nn_status s = item_named(&it, a, b, "");
    return s == NN_OK ? visit(ctx, &it) : s;
}

static nn_status visit_items(nn_model *m, unsigned what, visit_fn visit, void *ctx)
{
    const nn_model_info *info = m->info;
    nn_status s = NN_OK;
    for (int i = 0; i < info->n_tensors && s == NN_OK && (what & NN_WEIGHTS); i++) {
        const nn_tensor *t = &info->tensors[i];
        Item it = { .tensor = t, .dtype = t->dtype };
        it.data = real_at(m, t->is_state ? m->state : m->params, t->offset);
        s = item_named(&it, t->name, NULL, "");
        if (s == NN_OK) s = visit(ctx, &it);
    }
    if (!(what & NN_TRAINING)) return s;
    for (int i = 0; i < info->n_hypers && s == NN_OK; i++)
        s = visit_number("hyper", info->hypers[i].name, NN_F64, &m->hypers[i], visit, ctx);
    for (int i = 0; i < info->n_routines && s == NN_OK; i++) {
        const nn_routine_info *r = &info->routines[i];
        if (m->slots) s = visit_slots(m, r, visit, ctx);
        if (m->slots && s == NN_OK) s = visit_blocks(m, r, visit, ctx);
        if (r->is_product) continue;
        if (s == NN_OK) s = visit_number(r->name, "calls", NN_I64, &m->calls[i], visit, ctx);
        if (s == NN_OK && r->n_ranges > 0)
            s = visit_number(r->name, "steps", NN_I64, &m->steps[i], visit, ctx);
    }
    if (s == NN_OK) s = visit_number("seed", NULL, NN_I64, &m->seed, visit, ctx);
    return s;
}

/* ---- saving ---- */

static nn_status save_item(void *ctx, const Item *it)
{
    const nn_tensor *t = it->tensor;
    nn_st_tensor *out =
        nn_st_add(ctx, it->name, it->dtype, t ? t->rank : 0, t ? t->shape : NULL, NULL);
    if (!out) return NN_ENOMEM;
    if (t)
        nn_canonical_read(t, it->data, out->data, (int)nn_dtype_size(it->dtype));
    else
        memcpy(out->data, it->data, 8);
    return NN_OK;
}

nn_status nn_model_to_st(const nn_model *m, unsigned what, nn_st_file **out)
{
    char hash[24];
    *out = NULL;
    if (!m || (what & ~(unsigned)NN_ALL) || !(what & NN_ALL)) return NN_EINVAL;
    if (what & NN_TRAINING && m->averaged)
        return NN_ESTATE; /* the slots of the averages hold weights */
    nn_st_file *f = nn_st_new();
    if (!f) return NN_ENOMEM;
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)m->info->hash);
    nn_status s = nn_st_set_meta_any(f, "nn.model", m->info->name);
    if (s == NN_OK) s = nn_st_set_meta_any(f, "nn.hash", hash);
    /* Items are only read here; the walk is shared with loading. */
    if (s == NN_OK) s = visit_items((nn_model *)(uintptr_t)m, what, save_item, f);
    if (s != NN_OK)
        nn_st_close(f);
    else
        *out = f;
    return s;
}

nn_status nn_model_save(const nn_model *m, unsigned what, const char *path)
{
    nn_st_file *f;
    if (!path) return NN_EINVAL;
    nn_status s = nn_model_to_st(m, what, &f);
    if (s == NN_OK) s = nn_st_save(f, path, NULL);
    int error = errno;
    nn_st_close(f);
    errno = error;
    return s;
}

nn_status nn_model_save_to(const nn_model *m, unsigned what, nn_write_fn write, void *ctx)
{
    nn_st_file *f;
    if (!write) return NN_EINVAL;
    nn_status s = nn_model_to_st(m, what, &f);
    if (s == NN_OK) s = nn_st_write(f, write, ctx, NULL);
    nn_st_close(f);
    return s;
}

/* ---- loading ---- */

typedef struct Load {
    const nn_st_file *file;
    nn_load_report *report;
    char *wanted; /* by nn_st_position: an item asked for this tensor of the file */
    const nn_model_info *info;
} Load;

static void first_offender(Load *l, const char *name)
{
    if (l->report->first[0] == '\0')
        snprintf(l->report->first, sizeof l->report->first, "%.*s",
                 (int)sizeof l->report->first - 1, name);
}

/* "f32[10,784]" as text. */
static void type_text(char *out, size_t size, nn_dtype dtype, int rank, const nn_dim *shape)
{
    size_t n = (size_t)snprintf(out, size, "%s[", nn_dtype_name(dtype));
    for (int i = 0; i < rank && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%lld", i ? "," : "", (long long)shape[i]);
    if (n < size) snprintf(out + n, size - n, "]");
}

static int is_real(nn_dtype t)
{
    return t == NN_F32 || t == NN_F64;
}

static int item_fits(const Item *it, const nn_st_tensor *t)
{
    if (!it->tensor) return t->dtype == it->dtype && t->count == 1 && t->rank == 0;
    if (!is_real(t->dtype) || t->rank != it->tensor->rank) return 0;
    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] != it->tensor->shape[i]) return 0;
    return 1;
}

static nn_status check_item(void *ctx, const Item *it)
{
    Load *l = ctx;
    const nn_st_tensor *t = nn_st_find(l->file, it->name);
    int first = l->report->missing + l->report->mismatched == 0;
    if (!t) {
        l->report->missing++;
        first_offender(l, it->name);
        if (first) nn_say(l->report->message, "'%.100s' is not in the checkpoint", it->name);
        return NN_OK;
    }
    l->wanted[nn_st_position(l->file, it->name)] = 1;
    if (item_fits(it, t)) return NN_OK;
    l->report->mismatched++;
    first_offender(l, it->name);
    if (first) {
        char has[80], wants[80];
        type_text(has, sizeof has, t->dtype, t->rank, t->shape);
        type_text(wants, sizeof wants, it->dtype, it->tensor ? it->tensor->rank : 0,
                  it->tensor ? it->tensor->shape : NULL);
        nn_say(l->report->message, "'%.80s' is %s in the checkpoint and %s in the model", it->name,
               has, wants);
    }
    return NN_OK;
}

/* Copies into the object. Everything is verified by now, so it cannot fail. */
static nn_status load_item(void *ctx, const Item *it)
{
    Load *l = ctx;
    const nn_st_tensor *t = nn_st_find(l->file, it->name);
    if (!t || !item_fits(it, t)) return NN_OK;
    l->report->loaded++;
    if (!it->tensor) {
        memcpy(it->data, t->data, 8);
    } else if (t->dtype == it->dtype) {
        nn_canonical_write(it->tensor, it->data, t->data, (int)nn_dtype_size(it->dtype));
    } else {
        for (nn_dim i = 0; i < t->count; i++) {
            nn_dim at = nn_canonical_to_storage(it->tensor, i);
            if (it->dtype == NN_F64)
                ((double *)it->data)[at] = nn_st_value(t, i);
            else
                ((float *)it->data)[at] = (float)nn_st_value(t, i);
        }
    }
    return NN_OK;
}

/* Tensors of the file that this model has no place for. Training state is none when it was not asked for,
 * or when the object holds no optimizer slots. */
static void check_unexpected(Load *l, const nn_model *m, unsigned what)
{
    for (int i = 0; i < nn_st_count(l->file); i++) {
        const char *name = nn_st_at(l->file, i)->name;
        int training = strncmp(name, TRAINING, sizeof TRAINING - 1) == 0;
        if (training ? !(what & NN_TRAINING) || !m->slots
                     : !(what & NN_WEIGHTS) || strchr(name, '/'))
            continue;
        if (l->wanted[nn_st_position(l->file, name)]) continue;
        l->report->unexpected++;
        first_offender(l, name);
        if (l->report->message[0] == '\0')
            nn_say(l->report->message, "'%.100s' of the checkpoint is not in the model", name);
    }
}

/* Puts what the checkpoint is of in front of the reason, when it is of another model. */
static void name_models(Load *l)
{
    const char *name = nn_st_meta(l->file, "nn.model"), *hash = nn_st_meta(l->file, "nn.hash");
    char own[24], reason[NN_ERROR_TEXT];
    snprintf(own, sizeof own, "%016llx", (unsigned long long)l->info->hash);
    if (!name || !hash || strcmp(hash, own) == 0) return;
    memcpy(reason, l->report->message, sizeof reason);
    nn_say(l->report->message, "checkpoint of %.40s (%.16s), this is %.40s (%s): %.140s", name,
           hash, l->info->name, own, reason);
}

static int load_arguments_ok(nn_model *m, unsigned what)
{
    return m && (what & NN_ALL) && !(what & ~(unsigned)(NN_ALL | NN_PARTIAL));
}

nn_status nn_model_from_st(nn_model *m, unsigned what, const nn_st_file *f, nn_load_report *report)
{
    nn_load_report own;
    if (!report) report = &own;
    memset(report, 0, sizeof *report);
    if (!load_arguments_ok(m, what) || !f) return NN_EINVAL;
    if (m->averaged) return NN_ESTATE; /* the slots of the averages hold weights */
    Load l = { .file = f, .report = report, .info = m->info };
    unsigned parts = what & NN_ALL;
    l.wanted = calloc((size_t)nn_st_count(f) + 1, 1);
    if (!l.wanted) return NN_ENOMEM;
    nn_status s = visit_items(m, parts, check_item, &l);
    if (s == NN_OK) check_unexpected(&l, m, parts);
    free(l.wanted);
    if (s != NN_OK) return s;
    if (!(what & NN_PARTIAL) && report->missing + report->mismatched + report->unexpected > 0) {
        name_models(&l);
        return NN_EMISMATCH;
    }
    s = visit_items(m, parts, load_item, &l);
    /* Gradients of a half-done step belong to the old weights. */
    memset(m->grads_ready, 0, sizeof m->grads_ready);
    m->weights++;
    return s;
}

nn_status nn_model_load(nn_model *m, unsigned what, const char *path, nn_load_report *report)
{
    nn_load_report own;
    nn_st_file *f;
    if (!report) report = &own;
    memset(report, 0, sizeof *report);
    if (!load_arguments_ok(m, what) || !path) return NN_EINVAL;
    nn_status s = nn_st_open(&f, path, report->message);
    if (s == NN_OK) s = nn_model_from_st(m, what, f, report);
    nn_st_close(f);
    return s;
}

nn_status nn_model_load_from(nn_model *m, unsigned what, nn_read_fn read, size_t size, void *ctx,
                             nn_load_report *report)
{
    nn_load_report own;
    nn_st_file *f;
    if (!report) report = &own;
    memset(report, 0, sizeof *report);
    if (!load_arguments_ok(m, what) || !read) return NN_EINVAL;
    nn_status s = nn_st_read(&f, read, size, ctx, report->message);
    if (s == NN_OK) s = nn_model_from_st(m, what, f, report);
    nn_st_close(f);
    return s;
}
