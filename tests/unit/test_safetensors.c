/* SPDX-License-Identifier: MIT
 *
 * safetensors: what is written reads back, every flipped bit and every truncation of our files is
 * detected, files of other programs are read, malformed ones are refused with a reason.
 */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "nn_safetensors.h"
#include "run_suite.h"

typedef struct Bytes {
    unsigned char data[1 << 16];
    size_t n;
} Bytes;

static int append(void *ctx, const void *data, size_t n)
{
    Bytes *b = ctx;
    if (n > sizeof b->data - b->n) return -1;
    memcpy(b->data + b->n, data, n);
    b->n += n;
    return 0;
}

static nn_st_file *sample(void)
{
    nn_st_file *f = nn_st_new();
    static const float w[6] = { 1, -2, 3.5F, -0.0F, 1e-30F, 7 };
    static const int64_t n[1] = { INT64_C(-1234567890123) };
    static const uint8_t bytes[3] = { 0, 128, 255 }, flags[2] = { 1, 0 };
    static const double d[2] = { 0.1, -1e300 };
    static const int32_t ids[4] = { 1, -2, 3, INT32_MIN };
    ck_assert_ptr_nonnull(nn_st_add(f, "net.fc1.weight", NN_F32, 2, (nn_dim[]){ 2, 3 }, w));
    ck_assert_ptr_nonnull(nn_st_add(f, "steps", NN_I64, 0, NULL, n));
    ck_assert_ptr_nonnull(nn_st_add(f, "bytes", NN_U8, 1, (nn_dim[]){ 3 }, bytes));
    ck_assert_ptr_nonnull(nn_st_add(f, "flags", NN_BOOL, 1, (nn_dim[]){ 2 }, flags));
    ck_assert_ptr_nonnull(nn_st_add(f, "d", NN_F64, 2, (nn_dim[]){ 1, 2 }, d));
    ck_assert_ptr_nonnull(
        nn_st_add(f, "ids \"quoted\" \\ \xc3\xa9", NN_I32, 1, (nn_dim[]){ 4 }, ids));
    ck_assert_ptr_nonnull(nn_st_add(f, "empty", NN_F32, 2, (nn_dim[]){ 0, 5 }, NULL));
    ck_assert_int_eq(nn_st_set_meta(f, "note", "two\nlines\tand \"quotes\""), NN_OK);
    return f;
}

static void write_sample(Bytes *b)
{
    char why[NN_ERROR_TEXT];
    nn_st_file *f = sample();
    b->n = 0;
    ck_assert_int_eq(nn_st_write(f, append, b, why), NN_OK);
    nn_st_close(f);
}

static void check_sample(const nn_st_file *g)
{
    ck_assert_int_eq(nn_st_count(g), 7);
    const nn_st_tensor *t = nn_st_find(g, "net.fc1.weight");
    ck_assert_ptr_nonnull(t);
    ck_assert_int_eq(t->dtype, NN_F32);
    ck_assert_int_eq(t->rank, 2);
    ck_assert_int_eq(t->shape[1], 3);
    ck_assert(memcmp(t->data, (float[]){ 1, -2, 3.5F, -0.0F, 1e-30F, 7 }, 24) == 0);
    ck_assert_int_eq(*(int64_t *)nn_st_find(g, "steps")->data, INT64_C(-1234567890123));
    ck_assert_int_eq(((int32_t *)nn_st_find(g, "ids \"quoted\" \\ \xc3\xa9")->data)[3], INT32_MIN);
    ck_assert(nn_st_value(nn_st_find(g, "d"), 1) == -1e300);
    ck_assert(nn_st_value(nn_st_find(g, "bytes"), 2) == 255);
    ck_assert_int_eq(nn_st_find(g, "empty")->count, 0);
    ck_assert_ptr_null(nn_st_find(g, "absent"));
    ck_assert_str_eq(nn_st_meta(g, "note"), "two\nlines\tand \"quotes\"");
}

START_TEST(written_reads_back)
{
    static Bytes b, again;
    char why[NN_ERROR_TEXT];
    nn_st_file *g;
    write_sample(&b);
    ck_assert_uint_eq((b.data[0] + 8U) % 8, 0);
    ck_assert_msg(nn_st_parse(&g, b.data, b.n, why) == NN_OK, "%s", why);
    check_sample(g);
    ck_assert_int_eq(nn_st_write(g, append, &again, why), NN_OK);
    nn_st_close(g);
    ck_assert_msg(nn_st_parse(&g, again.data, again.n, why) == NN_OK, "%s", why);
    check_sample(g);
    nn_st_close(g);
}
END_TEST

START_TEST(every_flipped_bit_is_detected)
{
    static Bytes b;
    char why[NN_ERROR_TEXT];
    nn_st_file *g;
    write_sample(&b);
    for (size_t bit = 0; bit < b.n * 8; bit++) {
        b.data[bit / 8] ^= (unsigned char)(1U << bit % 8);
        nn_status s = nn_st_parse(&g, b.data, b.n, why);
        ck_assert_msg(s != NN_OK && s != NN_ENOMEM && why[0], "bit %zu of byte %zu: %d", bit % 8,
                      bit / 8, s);
        ck_assert_ptr_null(g);
        b.data[bit / 8] ^= (unsigned char)(1U << bit % 8);
    }
}
END_TEST

START_TEST(every_truncation_and_extension_is_detected)
{
    static Bytes b;
    char why[NN_ERROR_TEXT];
    nn_st_file *g;
    write_sample(&b);
    for (size_t n = 0; n < b.n; n++)
        ck_assert_msg(nn_st_parse(&g, b.data, n, why) != NN_OK, "%zu bytes", n);
    b.data[b.n] = 0;
    ck_assert_int_eq(nn_st_parse(&g, b.data, b.n + 1, why), NN_ECORRUPT);
}
END_TEST

/* A file with the given header and `n` bytes of data, all 0. */
static nn_status parse_header(const char *header, size_t n, nn_st_file **g, char *why)
{
    static Bytes b;
    size_t len = strlen(header);
    memset(&b, 0, sizeof b);
    for (int i = 0; i < 8; i++) b.data[i] = (unsigned char)(len >> (8 * i));
    memcpy(b.data + 8, header, len);
    return nn_st_parse(g, b.data, 8 + len + n, why);
}

START_TEST(files_of_other_programs_are_read)
{
    char why[NN_ERROR_TEXT];
    nn_st_file *g;
    const char *good[] = {
        "{}",
        "{}    ",
        "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        (" {\"b\" : {\"data_offsets\" : [ 2 , 4 ], \"shape\" : [ 2 ], \"dtype\" : \"U8\"},\n\"a\""
         ":{\"dtype\":\"U8\",\"shape\":[2,1],\"data_offsets\":[0,2]}}"),
        "{\"\\u0061\\ud83d\\ude00\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}",
    };
    size_t data[] = { 0, 0, 4, 4, 4 };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        nn_status s = parse_header(good[i], data[i], &g, why);
        if (good[i][0] == ' ') {
            ck_assert_int_eq(s, NN_EFORMAT); /* the header must begin with a brace */
            s = parse_header(good[i] + 1, data[i], &g, why);
        }
        ck_assert_msg(s == NN_OK, "%s: %s", good[i], why);
        if (i == 3) ck_assert_str_eq(nn_st_at(g, 0)->name, "a");
        if (i == 4) ck_assert_str_eq(nn_st_at(g, 0)->name, "a\xf0\x9f\x98\x80");
        nn_st_close(g);
    }
}
END_TEST

START_TEST(malformed_headers_are_refused)
{
#define T(rest) "{\"a\":{\"dtype\":\"F32\",\"shape\":" rest "}"
    static const struct {
        const char *header, *reason;
        size_t data;
    } bad[] = {
        { "", "", 0 },
        { "[]", "no header", 0 },
        { "{", "not a safetensors file", 0 },
        { "{ ", "'\"'", 0 },
        { "{} x", "text after", 0 },
        { "{\"a\"}", "':'", 0 },
        { T("[1],\"data_offsets\":[0,4]}"), "truncated", 3 },
        { T("[1],\"data_offsets\":[0,4]}"), "bytes after", 5 },
        { T("[2],\"data_offsets\":[0,4]}"), "needs 8", 4 },
        { T("[1],\"data_offsets\":[4,8]}"), "begins at", 8 },
        { T("[1],\"data_offsets\":[4,0]}"), "begins at", 4 },
        { T("[-1],\"data_offsets\":[0,4]}"), "bad number", 4 },
        { T("[1.0],\"data_offsets\":[0,4]}"), "']'", 4 },
        { T("[01],\"data_offsets\":[0,4]}"), "bad number", 4 },
        { T("[18446744073709551617],\"data_offsets\":[0,4]}"), "bad number", 4 },
        { T("[9223372036854775807,9223372036854775807],\"data_offsets\":[0,4]}"), "too large", 4 },
        { T("[4611686018427387904],\"data_offsets\":[0,0]}"), "too large", 0 },
        { T("[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}"), "more than 8 axes", 4 },
        { T("[1],\"data_offsets\":[0,4],\"x\":1}"), "unknown entry", 4 },
        { T("[1],\"shape\":[1],\"data_offsets\":[0,4]}"), "two entries", 4 },
        { T("[1]}"), "lacks", 4 },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}", "F16", 2 },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
          "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
          "two tensors", 2 },
        { "{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "empty name", 1 },
        { "{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
          "bad character", 1 },
        { "{\"\\ud800\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "bad character",
          1 },
        { "{\"\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "UTF-8", 1 },
        { "{\"__metadata__\":{\"a\":1}}", "'\"'", 0 },
        { "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", "two metadata", 0 },
        { "{\"__metadata__\":{\"nn.hash\":\"1\"}}", "checksum is missing", 0 },
        { "{\"__metadata__\":{},\"__metadata__\":{}}", "two __metadata__", 0 },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},}", "'\"'", 1 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char why[NN_ERROR_TEXT];
        nn_st_file *g;
        ck_assert_msg(parse_header(bad[i].header, bad[i].data, &g, why) != NN_OK, "%s",
                      bad[i].header);
        ck_assert_msg(strstr(why, bad[i].reason) != NULL && why[0], "%s: %s", bad[i].header, why);
        ck_assert_ptr_null(g);
    }
}
END_TEST

START_TEST(deep_nesting_and_huge_lengths_are_harmless)
{
    static Bytes b;
    char why[NN_ERROR_TEXT];
    nn_st_file *g;
    memset(b.data, '[', sizeof b.data);
    memcpy(b.data, "\xf8\xff\0\0\0\0\0\0{\"a\":", 13);
    ck_assert_int_eq(nn_st_parse(&g, b.data, sizeof b.data, why), NN_ECORRUPT);
    memcpy(b.data, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    ck_assert_int_eq(nn_st_parse(&g, b.data, sizeof b.data, why), NN_EFORMAT);
}
END_TEST

START_TEST(names_that_cannot_be_written_are_refused)
{
    nn_st_file *f = nn_st_new();
    ck_assert_ptr_nonnull(nn_st_add(f, "a", NN_F32, 0, NULL, NULL));
    ck_assert_ptr_null(nn_st_add(f, "a", NN_F32, 0, NULL, NULL));
    ck_assert_ptr_null(nn_st_add(f, "", NN_F32, 0, NULL, NULL));
    ck_assert_ptr_null(nn_st_add(f, "\xff", NN_F32, 0, NULL, NULL));
    ck_assert_ptr_null(nn_st_add(f, "__metadata__", NN_F32, 0, NULL, NULL));
    ck_assert_ptr_null(nn_st_add(f, "b", NN_F32, 1, (nn_dim[]){ -1 }, NULL));
    ck_assert_ptr_null(nn_st_add(f, "b", NN_F32, 2, (nn_dim[]){ INT64_MAX, 2 }, NULL));
    ck_assert_int_eq(nn_st_set_meta(f, "nn.hash", "1"), NN_EINVAL);
    ck_assert_int_eq(nn_st_set_meta(f, "k", "1"), NN_OK);
    ck_assert_int_eq(nn_st_set_meta(f, "k", "2"), NN_EINVAL);
    nn_st_close(f);
}
END_TEST

/* ---- files ---- */

static char dir[] = "/tmp/nn-safetensors-XXXXXX";

static char *in_dir(const char *name)
{
    static char path[4][400];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static int files_in_dir(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

START_TEST(saving_replaces_and_leaves_nothing_behind)
{
    char why[NN_ERROR_TEXT];
    nn_st_file *f = sample(), *g;
    for (int i = 0; i < 2; i++)
        ck_assert_msg(nn_st_save(f, in_dir("a.st"), why) == NN_OK, "%s", why);
    ck_assert_int_eq(files_in_dir(), 1);
    ck_assert_msg(nn_st_open(&g, in_dir("a.st"), why) == NN_OK, "%s", why);
    check_sample(g);
    nn_st_close(g);
    /* A link stays a link: its target is replaced. */
    ck_assert_int_eq(symlink("a.st", in_dir("link.st")), 0);
    ck_assert_int_eq(nn_st_save(f, in_dir("link.st"), why), NN_OK);
    struct stat st;
    ck_assert_int_eq(lstat(in_dir("link.st"), &st), 0);
    ck_assert(S_ISLNK(st.st_mode));
    unlink(in_dir("link.st"));
    nn_st_close(f);
}
END_TEST

START_TEST(failing_writes_are_reported)
{
    char why[NN_ERROR_TEXT];
    nn_st_file *f = sample();
    ck_assert_int_eq(nn_st_save(f, in_dir("no/such/dir.st"), why), NN_EIO);
    ck_assert_ptr_nonnull(strstr(why, "No such file"));
    ck_assert_int_eq(nn_st_save(f, "/dev/full", why), NN_EIO);
    ck_assert_ptr_nonnull(strstr(why, "No space"));
    ck_assert_int_eq(nn_st_save(f, dir, why), NN_EIO);
    nn_st_close(f);
}
END_TEST

/* 0: the file at `path` is sound and holds version `v` of the sample, or any when v < 0. */
static int holds_version(const char *path, int v)
{
    nn_st_file *g;
    if (nn_st_open(&g, path, NULL) != NN_OK) return 1;
    const char *text = nn_st_meta(g, "version");
    int wrong = !text || (v >= 0 && atoi(text) != v) || nn_st_count(g) != 7;
    nn_st_close(g);
    return wrong;
}

static nn_st_file *version(int v)
{
    char text[16];
    nn_st_file *f = sample();
    snprintf(text, sizeof text, "%d", v);
    ck_assert_int_eq(nn_st_set_meta(f, "version", text), NN_OK);
    return f;
}

START_TEST(a_full_disk_leaves_the_old_file)
{
    const char *path = in_dir("a.st");
    nn_st_file *old = version(1), *new = version(2);
    struct stat st;
    ck_assert_int_eq(nn_st_save(old, path, NULL), NN_OK);
    ck_assert_int_eq(stat(path, &st), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int wrong = 0;
        signal(SIGXFSZ, SIG_IGN);
        for (off_t room = 0; room < st.st_size && !wrong; room += 3) {
            struct rlimit limit = { (rlim_t)room, RLIM_INFINITY };
            char why[NN_ERROR_TEXT];
            setrlimit(RLIMIT_FSIZE, &limit);
            wrong = nn_st_save(new, path, why) != NN_EIO || !strstr(why, "too large") ||
                    holds_version(path, 1) || files_in_dir() != 1;
        }
        _exit(wrong);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    nn_st_close(old), nn_st_close(new);
}
END_TEST

START_TEST(a_killed_writer_leaves_the_old_file_or_the_new)
{
    const char *path = in_dir("a.st");
    nn_st_file *f[2] = { version(0), version(1) };
    ck_assert_int_eq(nn_st_save(f[0], path, NULL), NN_OK);
    fflush(NULL);
    for (int kill_number = 0; kill_number < 60; kill_number++) {
        pid_t child = fork();
        if (child == 0)
            for (int i = 0;; i++)
                if (nn_st_save(f[i % 2], path, NULL) != NN_OK) _exit(1);
        /* Spread over a few saves; the exact moment does not matter. */
        nanosleep(&(struct timespec){ .tv_nsec = 200000 + 61000 * kill_number }, NULL);
        kill(child, SIGKILL);
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFSIGNALED(status));
        ck_assert_msg(holds_version(path, -1) == 0, "kill %d", kill_number);
    }
    /* What a killed process leaves is its temporary file, at most one each. */
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, ".tmp-")) unlink(in_dir(e->d_name));
    closedir(d);
    ck_assert_int_eq(files_in_dir(), 1);
    nn_st_close(f[0]), nn_st_close(f[1]);
}
END_TEST

START_TEST(unreadable_files_are_named)
{
    char why[NN_ERROR_TEXT];
    nn_st_file *g;
    ck_assert_int_eq(nn_st_open(&g, in_dir("absent"), why), NN_EIO);
    ck_assert_ptr_nonnull(strstr(why, "absent: cannot open"));
    ck_assert_int_eq(nn_st_open(&g, dir, why), NN_EIO);
    ck_assert_ptr_nonnull(strstr(why, "a directory"));
    ck_assert_int_eq(mkfifo(in_dir("pipe"), 0600), 0);
    ck_assert_int_eq(nn_st_open(&g, in_dir("pipe"), why), NN_EIO);
    unlink(in_dir("pipe"));
    int fd = open(in_dir("x.gz"), O_WRONLY | O_CREAT, 0600);
    ck_assert_int_eq(write(fd, "\x1f\x8b\x08 and so on", 13), 13);
    close(fd);
    ck_assert_int_eq(nn_st_open(&g, in_dir("x.gz"), why), NN_EFORMAT);
    ck_assert_ptr_nonnull(strstr(why, "gzip"));
    unlink(in_dir("x.gz"));
}
END_TEST

int main(void)
{
    if (!mkdtemp(dir)) return 1;
    Suite *s = suite_create("safetensors");
    TCase *t = tcase_create("safetensors");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, written_reads_back);
    tcase_add_test(t, every_flipped_bit_is_detected);
    tcase_add_test(t, every_truncation_and_extension_is_detected);
    tcase_add_test(t, files_of_other_programs_are_read);
    tcase_add_test(t, malformed_headers_are_refused);
    tcase_add_test(t, deep_nesting_and_huge_lengths_are_harmless);
    tcase_add_test(t, names_that_cannot_be_written_are_refused);
    tcase_add_test(t, saving_replaces_and_leaves_nothing_behind);
    tcase_add_test(t, failing_writes_are_reported);
    tcase_add_test(t, a_full_disk_leaves_the_old_file);
    tcase_add_test(t, a_killed_writer_leaves_the_old_file_or_the_new);
    tcase_add_test(t, unreadable_files_are_named);
    suite_add_tcase(s, t);
    const int code = run_suite(s);
    unlink(in_dir("a.st"));
    rmdir(dir);
    return code;
}
