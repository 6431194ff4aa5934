/* SPDX-License-Identifier: MIT
 *
 * As much of libcheck as unit tests use, for processors that have no libcheck: everything runs in one process, one
 * after another, and each test prints a line "ok NAME". A failed assertion ends the program.
 */
#ifndef TARGETS_CHECK_H
#define TARGETS_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CK_ENV };
enum { CHECK_MAX_TESTS = 64 };

typedef struct TCase {
    void (*setup)(void), (*teardown)(void);
    void (*test[CHECK_MAX_TESTS])(void);
    const char *name[CHECK_MAX_TESTS];
    int n;
} TCase;
typedef struct Suite {
    TCase *only;
} Suite;
typedef Suite SRunner;

#define START_TEST(NAME) static void NAME(void)
#define END_TEST
#define ck_abort_msg(...) \
    (printf("%s:%d: ", __FILE__, __LINE__), printf(__VA_ARGS__), putchar('\n'), fflush(stdout), exit(1))
#define ck_assert_msg(condition, ...) ((condition) ? (void)0 : ck_abort_msg(__VA_ARGS__))
#define ck_assert(condition) ck_assert_msg(condition, "%s", #condition)
#define ck_assert_int_eq(a, b) ck_assert_msg((a) == (b), "%s is %lld, not %s", #a, (long long)(a), #b)
#define ck_assert_int_lt(a, b) ck_assert_msg((a) < (b), "%s is %lld, not below %s", #a, (long long)(a), #b)
#define ck_assert_uint_eq(a, b) ck_assert_msg((a) == (b), "%s is %llu, not %s", #a, (unsigned long long)(a), #b)
#define ck_assert_ptr_null(a) ck_assert((a) == NULL)
#define ck_assert_ptr_nonnull(a) ck_assert((a) != NULL)
#define ck_assert_mem_eq(a, b, n) ck_assert(memcmp(a, b, n) == 0)
#define ck_assert_str_eq(a, b) ck_assert_msg(strcmp(a, b) == 0, "%s is \"%s\", not \"%s\"", #a, a, b)

static inline Suite *suite_create(const char *name)
{
    (void)name;
    return calloc(1, sizeof(Suite));
}

static inline TCase *tcase_create(const char *name)
{
    (void)name;
    return calloc(1, sizeof(TCase));
}

static inline void tcase_set_timeout(TCase *t, double seconds)
{
    (void)t, (void)seconds;
}

static inline void tcase_add_checked_fixture(TCase *t, void (*setup)(void), void (*teardown)(void))
{
    t->setup = setup;
    t->teardown = teardown;
}

static inline void check_add(TCase *t, void (*test)(void), const char *name)
{
    if (t->n == CHECK_MAX_TESTS) abort();
    t->name[t->n] = name;
    t->test[t->n++] = test;
}
#define tcase_add_test(t, NAME) check_add(t, NAME, #NAME)

static inline void suite_add_tcase(Suite *s, TCase *t)
{
    if (s->only) abort();
    s->only = t;
}

static inline SRunner *srunner_create(Suite *s)
{
    return s;
}

static inline void srunner_run_all(SRunner *r, int mode)
{
    TCase *t = r->only;
    (void)mode;
    for (int i = 0; i < t->n; i++) {
        if (t->setup) t->setup();
        t->test[i]();
        if (t->teardown) t->teardown();
        printf("ok %s\n", t->name[i]);
        fflush(stdout);
    }
}

static inline int srunner_ntests_failed(SRunner *r)
{
    (void)r;
    return 0; /* the first failure has ended the program */
}

static inline void srunner_free(SRunner *r)
{
    free(r->only);
    free(r);
}

#endif
