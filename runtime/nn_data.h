/* SPDX-License-Identifier: MIT
 *
 * Data for training programs: IDX files (the format of MNIST), data sets in memory, shuffled batches, and
 * a generator of rendered digits for machines without any data.
 *
 *   nn_dataset train, test;
 *   char why[NN_ERROR_TEXT];
 *   if (nn_digits_or_mnist(&train, &test, dir, 1, why) != NN_OK) ...      // dir = NULL: rendered digits
 *   nn_batches b;
 *   nn_batches_init(&b, &train, 64, seed);
 *   for (int epoch = 0; epoch < 5; epoch++) {
 *       nn_batches_start(&b, epoch);
 *       while (nn_batches_next(&b)) lenet_train(m, b.batch.n, b.batch.x, b.batch.y, &out);
 *   }
 *   nn_batches_free(&b);
 */
#ifndef NN_DATA_H
#define NN_DATA_H

#include "nn.h"
#include "nn_safetensors.h" /* NN_ERROR_TEXT */

#ifdef __cplusplus
extern "C" {
#endif

/* ---- IDX files ---- */

typedef struct nn_idx {
    nn_dtype dtype; /* NN_U8, NN_I32, NN_F32 or NN_F64 */
    int rank;
    nn_dim shape[NN_MAX_RANK]; /* shape[0] counts samples */
    nn_dim count;              /* elements */
    void *data;                /* in the machine's byte order; freed by nn_idx_free */
} nn_idx;

/* Reads a plain or gzip-compressed IDX file. On failure *out is empty and `why` (NN_ERROR_TEXT bytes, may
 * be NULL) holds one sentence: NN_EIO, NN_ENOMEM, NN_EFORMAT (not IDX, or elements of 8-bit signed or 16-bit
 * type), NN_ECORRUPT (truncated, trailing bytes, sizes that overflow, wrong gzip checksum). */
nn_status nn_idx_read(nn_idx *out, const char *path, char *why);
nn_status nn_idx_parse(nn_idx *out, const void *bytes, size_t size, char *why);
void nn_idx_free(nn_idx *idx);

/* Writes a plain IDX file, atomically. dtype as above. */
nn_status nn_idx_write(const char *path, nn_dtype dtype, int rank, const nn_dim *shape,
                       const void *data, char *why);

/* ---- data sets ---- */

/* n samples in memory. x is given to models as x * scale + shift. Sets made by nn_dataset_split share the
 * memory of the set they were split from, which must outlive them. */
typedef struct nn_dataset {
    nn_dim n;      /* samples */
    nn_dim x_size; /* elements of x per sample */
    int x_rank;    /* shape of one sample of x, row-major: 28, 28 or 3, 32, 32 */
    nn_dim x_shape[NN_MAX_RANK];
    nn_dtype x_type;    /* NN_U8 or NN_F32 */
    float scale, shift; /* 1/255 and 0 for images */
    const void *x;
    const int32_t *y; /* class of each sample; NULL: none */
    int classes;      /* 0 when y is NULL */
    const float *t;   /* real targets, t_size per sample; NULL: none */
    nn_dim t_size;
    nn_dim *rows;   /* NULL, or the n samples this set selects from x, y, t */
    void *owned[3]; /* what nn_dataset_free frees besides rows */
} nn_dataset;

/* Wraps arrays of the caller, which must outlive the set: x[n][x_size], y[n] and t[n][t_size] or NULL. */
nn_dataset nn_dataset_wrap(nn_dim n, nn_dim x_size, const float *x, const int32_t *y, nn_dim t_size,
                           const float *t);

/* Images and labels from IDX files: checks that both are bytes and as many. Plain or .gz. */
nn_status nn_dataset_idx(nn_dataset *out, const char *images, const char *labels, char *why);

/* The four files of MNIST in `dir`, with or without .gz: train-images-idx3-ubyte, train-labels-idx1-ubyte,
 * t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte. */
nn_status nn_dataset_mnist(nn_dataset *train, nn_dataset *test, const char *dir, char *why);

/* Splits into two: `held` gets floor(n * fraction) samples drawn by the seed, `rest` the others; both keep
 * the order of `all`. fraction in [0, 1]. NN_EINVAL, NN_ENOMEM. */
nn_status nn_dataset_split(const nn_dataset *all, double fraction, uint64_t seed, nn_dataset *rest,
                           nn_dataset *held);

/* Keeps the first n samples (all, when there are fewer). */
void nn_dataset_head(nn_dataset *d, nn_dim n);

void nn_dataset_free(nn_dataset *d); /* leaves it empty; an empty set is fine */

/* ---- batches ---- */

/* n samples ready for a routine. */
typedef struct nn_batch {
    int n;
    const float *x;   /* [n][x_size] */
    const int32_t *y; /* [n]; NULL when the set has no classes */
    const float *t;   /* [n][t_size]; NULL when the set has no targets */
} nn_batch;

typedef struct nn_batches {
    const nn_dataset *data;
    int size; /* samples per batch; the last of an epoch may be smaller */
    uint64_t seed;
    int shuffle;    /* 1; set to 0 before nn_batches_start for the order of the set */
    nn_dim *order;  /* permutation of the current epoch */
    nn_dim at;      /* samples handed out in this epoch */
    nn_batch batch; /* the current one; its memory is reused by the next */
    float *x, *t;
    int32_t *y;
} nn_batches;

/* NN_EINVAL: an empty set or size < 1. The set must outlive the batches. */
nn_status nn_batches_init(nn_batches *b, const nn_dataset *data, int size, uint64_t seed);
/* Begins an epoch. Its order is a pure function of (seed, epoch), whatever was drawn before. */
void nn_batches_start(nn_batches *b, int64_t epoch);
void nn_batches_skip(nn_batches *b, int64_t batches); /* passes over this many */
int nn_batches_next(nn_batches *b);            /* samples in b->batch, 0 at the end of the epoch */
int64_t nn_batches_count(const nn_batches *b); /* per epoch */
void nn_batches_free(nn_batches *b);

/* A uniform permutation of 0..n-1 (Fisher and Yates), a pure function of (seed, round). */
void nn_shuffle(nn_dim *order, nn_dim n, uint64_t seed, uint64_t round);

/* ---- rendered digits ---- */

enum { NN_DIGITS_TRAIN = 0, NN_DIGITS_TEST = 1 };

/* Draws digit `label` as a person might write it: strokes under a random affine map, smooth distortion,
 * pen width and noise. Writes channels x size x size bytes (size >= 12; channels 1: white on black, 3: one
 * random colour on another). A pure function of the arguments. */
void nn_digit_draw(unsigned char *image, int size, int channels, int label, uint64_t seed,
                   uint32_t part, uint32_t sample);

/* n digits with equally frequent labels in random order. `part` keeps training and test sets apart. */
nn_status nn_digits(nn_dataset *out, nn_dim n, int size, int channels, uint64_t seed,
                    uint32_t part);

/* Writes both sets as the four files of MNIST into `dir`, which must exist. */
nn_status nn_digits_write(const char *dir, nn_dim n_train, nn_dim n_test, uint64_t seed, char *why);

/* MNIST from `dir`, or, when dir is NULL, 10,000 and 2,000 rendered digits of 28 x 28. */
nn_status nn_digits_or_mnist(nn_dataset *train, nn_dataset *test, const char *dir, uint64_t seed,
                             char *why);

/* The same as 3 x 32 x 32 images from -1 to 1, for networks that expect photographs: MNIST grey in a black frame, or
 * 5,000 and 1,000 rendered digits in random colours. */
nn_status nn_color_digits_or_mnist(nn_dataset *train, nn_dataset *test, const char *dir,
                                   uint64_t seed, char *why);

#ifdef __cplusplus
}
#endif
#endif
