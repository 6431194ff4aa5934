/* SPDX-License-Identifier: MIT
 *
 * Data sets in memory and shuffled batches. Invariant: the samples of batch k of epoch e are a pure
 * function of (set, batch size, seed, e, k), so that a resumed run sees what the uninterrupted one saw.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nn_data.h"
#include "file.h"
#include "random.h"

nn_dataset nn_dataset_wrap(nn_dim n, nn_dim x_size, const float *x, const int32_t *y, nn_dim t_size,
                           const float *t)
{
    nn_dataset d = { .n = n, .x_size = x_size, .x_rank = 1, .x_type = NN_F32, .scale = 1 };
    d.x_shape[0] = x_size;
    d.x = x;
    d.y = y;
    d.t = t;
    d.t_size = t ? t_size : 0;
    for (nn_dim i = 0; y && i < n; i++)
        if (y[i] >= d.classes) d.classes = y[i] + 1;
    return d;
}

void nn_dataset_free(nn_dataset *d)
{
    if (!d) return;
    for (size_t i = 0; i < sizeof d->owned / sizeof *d->owned; i++) free(d->owned[i]);
    free(d->rows);
    memset(d, 0, sizeof *d);
}

void nn_dataset_head(nn_dataset *d, nn_dim n)
{
    if (n >= 0 && n < d->n) d->n = n;
}

nn_status nn_dataset_idx(nn_dataset *out, const char *images, const char *labels, char *why)
{
    nn_idx x, y = { 0 };
    memset(out, 0, sizeof *out);
    nn_status s = nn_idx_read(&x, images, why);
    if (s == NN_OK) s = nn_idx_read(&y, labels, why);
    if (s == NN_OK && (x.dtype != NN_U8 || x.rank < 2 || y.dtype != NN_U8 || y.rank != 1)) {
        nn_say(why, "%.100s and %.100s are not images and labels of bytes", images, labels);
        s = NN_EFORMAT;
    } else if (s == NN_OK && x.shape[0] != y.shape[0]) {
        nn_say(why, "%lld images in %.90s, but %lld labels in %.90s", (long long)x.shape[0], images,
               (long long)y.shape[0], labels);
        s = NN_ECORRUPT;
    } else if (s == NN_OK && x.count == 0) {
        nn_say(why, "%.200s: no images", images);
        s = NN_ECORRUPT;
    }
    int32_t *classes = s == NN_OK ? malloc((size_t)y.count * sizeof *classes) : NULL;
    if (s == NN_OK && !classes) {
        nn_say(why, "out of memory");
        s = NN_ENOMEM;
    }
    if (s != NN_OK) {
        nn_idx_free(&x);
        nn_idx_free(&y);
        return s;
    }
    *out = (nn_dataset){
        .n = x.shape[0], .x_type = NN_U8, .scale = 1.0F / 255, .x = x.data, .y = classes
    };
    out->x_rank = x.rank - 1;
    out->x_size = 1;
    for (int i = 1; i < x.rank; i++) {
        out->x_shape[i - 1] = x.shape[i];
        out->x_size *= x.shape[i];
    }
    for (nn_dim i = 0; i < y.count; i++) {
        classes[i] = ((const unsigned char *)y.data)[i];
        if (classes[i] >= out->classes) out->classes = classes[i] + 1;
    }
    out->owned[0] = x.data;
    out->owned[1] = classes;
    nn_idx_free(&y);
    return NN_OK;
}

/* dir/name or dir/name.gz, whichever can be read; the plain name when neither can. */
static void find_file(char *path, size_t size, const char *dir, const char *name)
{
    snprintf(path, size, "%s/%s.gz", dir, name);
    if (access(path, R_OK) != 0) snprintf(path, size, "%s/%s", dir, name);
}

nn_status nn_dataset_mnist(nn_dataset *train, nn_dataset *test, const char *dir, char *why)
{
    char images[4096], labels[4096];
    memset(test, 0, sizeof *test);
    find_file(images, sizeof images, dir, "train-images-idx3-ubyte");
    find_file(labels, sizeof labels, dir, "train-labels-idx1-ubyte");
    nn_status s = nn_dataset_idx(train, images, labels, why);
    if (s != NN_OK) return s;
    find_file(images, sizeof images, dir, "t10k-images-idx3-ubyte");
    find_file(labels, sizeof labels, dir, "t10k-labels-idx1-ubyte");
    s = nn_dataset_idx(test, images, labels, why);
    if (s != NN_OK) nn_dataset_free(train);
    return s;
}

void nn_shuffle(nn_dim *order, nn_dim n, uint64_t seed, uint64_t round)
{
    /* Each round has 2^40 blocks of the stream to itself, more than any array needs. */
    nn_draws d = nn_draws_from(seed, NN_DOMAIN_SHUFFLE, (uint32_t)(round >> 24), round << 40);
    for (nn_dim i = 0; i < n; i++) order[i] = i;
    for (nn_dim i = n - 1; i > 0; i--) {
        nn_dim j = (nn_dim)nn_draw_below(&d, (uint64_t)i + 1);
        nn_dim t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
}

nn_status nn_dataset_split(const nn_dataset *all, double fraction, uint64_t seed, nn_dataset *rest,
                           nn_dataset *held)
{
    if (!(fraction >= 0 && fraction <= 1)) return NN_EINVAL;
    nn_dim n = all->n, n_held = (nn_dim)((double)n * fraction), r = 0, h = 0;
    *rest = *held = *all;
    memset(rest->owned, 0, sizeof rest->owned);
    memset(held->owned, 0, sizeof held->owned);
    nn_dim *order = malloc(((size_t)n + 1) * sizeof *order);
    char *is_held = calloc((size_t)n + 1, 1);
    rest->rows = malloc(((size_t)(n - n_held) + 1) * sizeof *rest->rows);
    held->rows = malloc(((size_t)n_held + 1) * sizeof *held->rows);
    int ok = order && is_held && rest->rows && held->rows;
    if (ok) {
        /* The last round is no epoch's. */
        nn_shuffle(order, n, seed, UINT64_MAX);
        for (nn_dim i = 0; i < n_held; i++) is_held[order[i]] = 1;
        for (nn_dim i = 0; i < n; i++) {
            nn_dim row = all->rows ? all->rows[i] : i;
            if (is_held[i])
                held->rows[h++] = row;
            else
                rest->rows[r++] = row;
        }
        rest->n = r;
        held->n = h;
    } else {
        nn_dataset_free(rest);
        nn_dataset_free(held);
    }
    free(order);
    free(is_held);
    return ok ? NN_OK : NN_ENOMEM;
}

nn_status nn_batches_init(nn_batches *b, const nn_dataset *data, int size, uint64_t seed)
{
    memset(b, 0, sizeof *b);
    if (!data || data->n < 1 || data->x_size < 1 || size < 1) return NN_EINVAL;
    b->data = data;
    b->size = data->n < size ? (int)data->n : size;
    b->seed = seed;
    b->shuffle = 1;
    size_t rows = (size_t)b->size;
    b->order = malloc((size_t)data->n * sizeof *b->order);
    b->x = calloc(rows * (size_t)data->x_size, sizeof *b->x);
    b->y = data->y ? calloc(rows, sizeof *b->y) : NULL;
    b->t = data->t ? calloc(rows * (size_t)data->t_size, sizeof *b->t) : NULL;
    if (b->order && b->x && (b->y || !data->y) && (b->t || !data->t)) {
        nn_batches_start(b, 0);
        return NN_OK;
    }
    nn_batches_free(b);
    return NN_ENOMEM;
}

void nn_batches_start(nn_batches *b, int64_t epoch)
{
    b->at = 0;
    if (b->shuffle)
        nn_shuffle(b->order, b->data->n, b->seed, (uint64_t)epoch);
    else
        for (nn_dim i = 0; i < b->data->n; i++) b->order[i] = i;
}

void nn_batches_skip(nn_batches *b, int64_t batches)
{
    nn_dim left = b->data->n - b->at;
    b->at += batches > left / b->size ? left : (nn_dim)batches * b->size;
}

int64_t nn_batches_count(const nn_batches *b)
{
    return (b->data->n + b->size - 1) / b->size;
}

static void gather_x(const nn_dataset *d, nn_dim row, float *out)
{
    if (d->x_type == NN_U8) {
        const unsigned char *x = (const unsigned char *)d->x + row * d->x_size;
        for (nn_dim i = 0; i < d->x_size; i++) out[i] = (float)x[i] * d->scale + d->shift;
    } else {
        const float *x = (const float *)d->x + row * d->x_size;
        for (nn_dim i = 0; i < d->x_size; i++) out[i] = x[i] * d->scale + d->shift;
    }
}

int nn_batches_next(nn_batches *b)
{
    const nn_dataset *d = b->data;
    nn_dim left = d->n - b->at;
    int n = left < b->size ? (int)left : b->size;
    for (int i = 0; i < n; i++) {
        nn_dim row = b->order[b->at + i];
        if (d->rows) row = d->rows[row];
        gather_x(d, row, b->x + i * d->x_size);
        if (b->y) b->y[i] = d->y[row];
        if (b->t)
            memcpy(b->t + i * d->t_size, d->t + row * d->t_size, (size_t)d->t_size * sizeof *b->t);
    }
    b->at += n;
    b->batch = (nn_batch){ n, b->x, b->y, b->t };
    return n;
}

void nn_batches_free(nn_batches *b)
{
    if (!b) return;
    free(b->order);
    free(b->x);
    free(b->y);
    free(b->t);
    memset(b, 0, sizeof *b);
}
