/* SPDX-License-Identifier: MIT
 *
 * IDX files: round trips, gzip, every truncation, wrong formats and sizes that lie.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "nn_data.h"
#include "run_suite.h"

static char dir[] = "/tmp/nn-idx-XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[8][80];
    static int next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

/* Three 2 x 2 images. */
static const unsigned char images[] = { 0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0,   0,
                                        0, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255, 128 };
static const unsigned char labels[] = { 0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 9 };

/* gzip of n bytes into out; its length. */
static size_t squeeze(const void *bytes, size_t n, unsigned char *out, size_t room)
{
    z_stream z = { 0 };
    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, 31, 9, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)bytes;
    z.avail_in = (uInt)n;
    z.next_out = out;
    z.avail_out = (uInt)room;
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return room - z.avail_out;
}

static void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

START_TEST(bytes_are_read)
{
    nn_idx x;
    char why[NN_ERROR_TEXT];
    ck_assert_msg(nn_idx_parse(&x, images, sizeof images, why) == NN_OK, "%s", why);
    ck_assert(x.dtype == NN_U8 && x.rank == 3 && x.count == 12 && x.shape[0] == 3 &&
              x.shape[2] == 2);
    ck_assert_int_eq(((unsigned char *)x.data)[10], 255);
    nn_idx_free(&x);
    ck_assert_ptr_null(x.data);
}
END_TEST

START_TEST(every_type_is_written_and_read)
{
    static const int32_t i[2] = { -5, 1 << 30 };
    static const float f[2] = { -1.5F, 3e30F };
    static const double d[2] = { 0.1, -1e-300 };
    static const unsigned char u[2] = { 1, 255 };
    const struct {
        nn_dtype dtype;
        const void *data;
    } rows[] = { { NN_U8, u }, { NN_I32, i }, { NN_F32, f }, { NN_F64, d } };
    for (int k = 0; k < 4; k++) {
        nn_idx x;
        char why[NN_ERROR_TEXT] = "";
        ck_assert_int_eq(
            nn_idx_write(in_dir("x"), rows[k].dtype, 2, (nn_dim[]){ 1, 2 }, rows[k].data, why),
            NN_OK);
        ck_assert_msg(nn_idx_read(&x, in_dir("x"), why) == NN_OK, "%s", why);
        ck_assert(x.dtype == rows[k].dtype && x.count == 2);
        ck_assert(memcmp(x.data, rows[k].data, 2 * nn_dtype_size(x.dtype)) == 0);
        nn_idx_free(&x);
    }
    unlink(in_dir("x"));
    ck_assert_int_eq(nn_idx_write(in_dir("x"), NN_I64, 1, (nn_dim[]){ 1 }, d, NULL), NN_EINVAL);
    ck_assert_int_eq(nn_idx_write("/dev/full", NN_U8, 1, (nn_dim[]){ 2 }, u, NULL), NN_EIO);
}
END_TEST

START_TEST(every_truncation_is_found)
{
    unsigned char packed[256], long_file[64] = { 0 };
    char why[NN_ERROR_TEXT];
    nn_idx x;
    for (size_t n = 0; n < sizeof images; n++)
        ck_assert_msg(nn_idx_parse(&x, images, n, why) != NN_OK && why[0], "%zu bytes", n);
    memcpy(long_file, images, sizeof images);
    ck_assert_int_eq(nn_idx_parse(&x, long_file, sizeof images + 1, why), NN_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(why, "follow"));

    size_t size = squeeze(images, sizeof images, packed, sizeof packed);
    ck_assert_msg(nn_idx_parse(&x, packed, size, why) == NN_OK, "%s", why);
    ck_assert_int_eq(((unsigned char *)x.data)[11], 128);
    nn_idx_free(&x);
    for (size_t n = 2; n < size; n++)
        ck_assert_msg(nn_idx_parse(&x, packed, n, why) != NN_OK && why[0], "gzip of %zu bytes", n);
    packed[size] = 0;
    ck_assert_int_eq(nn_idx_parse(&x, packed, size + 1, why), NN_ECORRUPT);
    size = squeeze(long_file, sizeof images + 1, packed, sizeof packed);
    ck_assert_int_eq(nn_idx_parse(&x, packed, size, why), NN_ECORRUPT);
}
END_TEST

START_TEST(flipped_bits_of_gzip_never_change_the_content)
{
    unsigned char packed[256];
    char why[NN_ERROR_TEXT];
    nn_idx x;
    size_t size = squeeze(images, sizeof images, packed, sizeof packed);
    /* The time in the header and the padding behind the last code do not matter to the content. */
    int harmless = 0;
    for (size_t bit = 0; bit < size * 8; bit++) {
        packed[bit / 8] ^= (unsigned char)(1 << bit % 8);
        if (nn_idx_parse(&x, packed, size, why) == NN_OK) {
            harmless++;
            ck_assert(x.rank == 3 && x.shape[0] == 3 && memcmp(x.data, images + 16, 12) == 0);
            nn_idx_free(&x);
        }
        packed[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    ck_assert_int_lt(harmless, 70);
}
END_TEST

START_TEST(other_formats_are_named)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *reason;
        nn_status status;
    } rows[] = {
        { "", 0, "not an IDX file", NN_EFORMAT },
        { "hello, world", 12, "a text file", NN_EFORMAT },
        { "\x89PNG\r\n\x1a\n", 8, "a PNG image", NN_EFORMAT },
        { "PK\3\4....", 8, "a zip archive", NN_EFORMAT },
        { "\0\0\x0b\1\0\0\0\0", 8, "0x0b", NN_EFORMAT },
        { "\0\0\x08\0", 4, "0 axes", NN_EFORMAT },
        { "\0\0\x08\x09", 4, "9 axes", NN_EFORMAT },
        { "\0\0\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16, "overflow",
          NN_ECORRUPT },
        { "\0\0\x08\x02\x7f\xff\xff\xff\0\0\0\x10....", 16, "promises", NN_ECORRUPT },
        { "\0\0\x0e\x02\x7f\xff\xff\xff\x7f\xff\xff\xff....", 16, "promises", NN_ECORRUPT },
        { "\x1f\x8b\x08\0\0\0\0\0\0\3zzzz", 14, "gzip", NN_EFORMAT },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nn_idx x;
        char why[NN_ERROR_TEXT];
        nn_status s = nn_idx_parse(&x, rows[i].bytes, rows[i].n, why);
        ck_assert_msg(s == rows[i].status && strstr(why, rows[i].reason), "row %zu: %d %s", i, s,
                      why);
    }
}
END_TEST

START_TEST(a_gzip_bomb_allocates_nothing)
{
    /* The header promises 2^40 bytes; the file could not expand to them. */
    static const unsigned char head[] = { 0, 0, 8, 2, 0x7f, 0, 0, 0, 0, 0, 1, 0 };
    unsigned char packed[256];
    char why[NN_ERROR_TEXT];
    nn_idx x;
    size_t size = squeeze(head, sizeof head, packed, sizeof packed);
    ck_assert_int_eq(nn_idx_parse(&x, packed, size, why), NN_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(why, "promises"));
}
END_TEST

START_TEST(images_and_labels_must_belong_together)
{
    nn_dataset d;
    char why[NN_ERROR_TEXT];
    write_file(in_dir("i"), images, sizeof images);
    write_file(in_dir("l"), labels, sizeof labels);
    ck_assert_msg(nn_dataset_idx(&d, in_dir("i"), in_dir("l"), why) == NN_OK, "%s", why);
    ck_assert(d.n == 3 && d.x_size == 4 && d.x_rank == 2 && d.classes == 10 && d.y[2] == 9);
    nn_dataset_free(&d);

    unsigned char two[sizeof labels];
    memcpy(two, labels, sizeof labels);
    two[7] = 2;
    write_file(in_dir("l"), two, sizeof two - 1);
    ck_assert_int_eq(nn_dataset_idx(&d, in_dir("i"), in_dir("l"), why), NN_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(why, "3 images"));
    ck_assert_int_eq(nn_dataset_idx(&d, in_dir("l"), in_dir("i"), why), NN_EFORMAT);
    ck_assert_int_eq(nn_dataset_idx(&d, in_dir("absent"), in_dir("l"), why), NN_EIO);
    ck_assert_ptr_nonnull(strstr(why, "absent"));
    unlink(in_dir("i")), unlink(in_dir("l"));
}
END_TEST

START_TEST(real_mnist_is_read)
{
    const char *data = getenv("NN_TEST_MNIST") ? getenv("NN_TEST_MNIST") : "../shared/data/mnist";
    nn_dataset train, test;
    char why[NN_ERROR_TEXT];
    char probe[512];
    snprintf(probe, sizeof probe, "%s/t10k-labels-idx1-ubyte.gz", data);
    if (access(probe, R_OK) != 0) {
        printf("SKIPPED real_mnist_is_read: no %s\n", probe);
        return;
    }
    ck_assert_msg(nn_dataset_mnist(&train, &test, data, why) == NN_OK, "%s", why);
    ck_assert(test.n == 10000 && test.x_size == 784 && test.classes == 10 && train.x_size == 784);
    ck_assert_int_eq(test.y[0], 7);
    ck_assert_int_eq(test.y[1], 2);
    nn_dataset_free(&train), nn_dataset_free(&test);
}
END_TEST

int main(void)
{
    if (!mkdtemp(dir)) return 1;
    Suite *s = suite_create("idx");
    TCase *t = tcase_create("idx");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, bytes_are_read);
    tcase_add_test(t, every_type_is_written_and_read);
    tcase_add_test(t, every_truncation_is_found);
    tcase_add_test(t, flipped_bits_of_gzip_never_change_the_content);
    tcase_add_test(t, other_formats_are_named);
    tcase_add_test(t, a_gzip_bomb_allocates_nothing);
    tcase_add_test(t, images_and_labels_must_belong_together);
    tcase_add_test(t, real_mnist_is_read);
    suite_add_tcase(s, t);
    const int code = run_suite(s);
    rmdir(dir);
    return code;
}
