/* SPDX-License-Identifier: MIT
 *
 * Values of every schedule at chosen steps. PyTorch's schedulers gave the numbers; those of inverse_time, which it
 * does not have, and of warm-up follow from the formula in the manual.
 */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define NN_REAL_F64 1
#include "kernels/schedule.h"
#include "nn_train.h"
#include "run_suite.h"

enum { N = 12 };
static const int64_t at[N] = { 0, 1, 2, 5, 6, 9, 10, 11, 19, 20, 21, 39 };

#define TABLE(name, call, ...)                                                                  \
    START_TEST(name)                                                                            \
    {                                                                                           \
        static const double expected[N] = { __VA_ARGS__ };                                      \
        for (int i = 0; i < N; i++) {                                                           \
            const int64_t step = at[i];                                                         \
            const double got = call;                                                            \
            ck_assert_msg(fabs(got - expected[i]) <= 1e-13, "step %d: %.17g, expected %.17g",   \
                          (int)step, got, expected[i]);                                         \
        }                                                                                       \
    }                                                                                           \
    END_TEST

TABLE(constant, nn_schedule_constant(0.2, step),
      0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2)

TABLE(step_decay, nn_schedule_step_decay(0.2, step, 10, 0.5),
      0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.025)

TABLE(multi_step, nn_schedule_multi_step(0.2, step, 0.1, 2, 10, 21, 0, 0, 0),
      0.2, 0.2, 0.020000000000000004, 0.020000000000000004, 0.020000000000000004,
      0.020000000000000004, 0.0020000000000000005, 0.0020000000000000005, 0.0020000000000000005,
      0.0020000000000000005, 0.00020000000000000006, 0.00020000000000000006)

TABLE(exp_decay, nn_schedule_exp_decay(0.2, step, 0.9, 1),
      0.2, 0.18000000000000002, 0.16200000000000003, 0.11809800000000004, 0.10628820000000004,
      0.07748409780000004, 0.06973568802000003, 0.06276211921800003, 0.027017034353459864,
      0.02431533091811388, 0.02188379782630249, 0.0032846406536521365)

TABLE(polynomial, nn_schedule_polynomial(0.2, step, 20, 2, 0),
      0.2, 0.1805, 0.162, 0.1125, 0.09799999999999999, 0.06050000000000002, 0.05000000000000001,
      0.0405, 0.000500000000000001, 0.0, 0.0, 0.0)

TABLE(cosine, nn_schedule_cosine(0.2, step, 20, 0.02, 0, 1),
      0.2, 0.1988919506535624, 0.19559508646656384, 0.1736396103067893, 0.16290067270632258,
      0.1240791018536208, 0.11000000000000001, 0.09592089814637926, 0.02110804934643761, 0.02,
      0.02, 0.02)

TABLE(cosine_restarts, nn_schedule_cosine(0.2, step, 6, 0.02, 1, 1),
      0.2, 0.1879422863405995, 0.155, 0.03205771365940052, 0.2, 0.11000000000000001,
      0.06500000000000003, 0.03205771365940052, 0.1879422863405995, 0.155, 0.11000000000000001,
      0.11000000000000001)

TABLE(cosine_longer_restarts, nn_schedule_cosine(0.2, step, 6, 0.02, 1, 2),
      0.2, 0.1879422863405995, 0.155, 0.03205771365940052, 0.2, 0.1736396103067893, 0.155,
      0.13329371405922688, 0.19923003752364296, 0.19693332436601615, 0.1931491579260158,
      0.026850842073984194)

TABLE(linear, nn_schedule_linear(0.2, step, 20, 0.02),
      0.020000000000000004, 0.029000000000000005, 0.038000000000000006, 0.06500000000000002,
      0.07400000000000001, 0.10100000000000003, 0.11000000000000004, 0.11900000000000004,
      0.1910000000000001, 0.2000000000000001, 0.2000000000000001, 0.2000000000000001)

TABLE(one_cycle, nn_schedule_one_cycle(0.2, step, 40, 0.3, 25, 1e4),
      0.008000000000000007, 0.011888674533008237, 0.02323966084820661, 0.09033777552576462,
      0.11766222447423537, 0.1847603391517934, 0.19611132546699175, 0.2, 0.1623491307899526,
      0.15320339483870307, 0.14338860035826018, 8e-07)

TABLE(one_cycle_held, nn_schedule_one_cycle(0.2, step, 20, 0.5, 10, 100),
      0.01999999999999999, 0.025427664129268224, 0.041056000119291974, 0.1256283359900237,
      0.15499999999999997, 0.2, 0.19511054597788585, 0.18092079773805725, 0.0002, 0.0002, 0.0002,
      0.0002)

TABLE(inverse_time, nn_schedule_inverse_time(0.2, step, 0.5, 10),
      0.2, 0.19047619047619047, 0.18181818181818182, 0.16, 0.15384615384615385,
      0.13793103448275862, 0.13333333333333333, 0.12903225806451613, 0.10256410256410257, 0.1,
      0.09756097560975611, 0.06779661016949153)

TABLE(warmup, nn_warmup(0.2, step, 10),
      0.020000000000000004, 0.04000000000000001, 0.06, 0.12, 0.13999999999999999, 0.2, 0.2, 0.2,
      0.2, 0.2, 0.2, 0.2)

/* The rate after each value, by torch.optim.lr_scheduler.ReduceLROnPlateau. */
START_TEST(plateau)
{
    static const double value[] = { 1,   0.9, 0.899, 0.898, 0.897, 0.8, 0.9, 0.9, 0.9,
                                    0.9, 0.9, 0.9,   0.9,   0.9,   0.9, 0.9, 0.1, 0.2 };
    static const double rate[] = { 0.8, 0.8, 0.8,  0.8,  0.4,  0.4,  0.4,  0.4,  0.2,
                                   0.2, 0.2, 0.2, 0.15, 0.15, 0.15, 0.15, 0.15, 0.15 };
    nn_plateau p = { .factor = 0.5, .patience = 2, .threshold = 1e-2, .cooldown = 1, .min = 0.15 };
    double lr = 0.8;
    for (size_t i = 0; i < sizeof value / sizeof *value; i++) {
        const double before = lr;
        const int lowered = nn_plateau_step(&p, value[i], &lr);
        ck_assert_msg(fabs(lr - rate[i]) < 1e-15, "value %d: rate %g", (int)i, lr);
        ck_assert_int_eq(lowered, lr < before);
    }
    nn_plateau up = { .factor = 0.1, .patience = 1, .threshold = 1e-4, .larger_is_better = 1 };
    lr = 1;
    ck_assert_int_eq(nn_plateau_step(&up, 0.5, &lr), 0);
    ck_assert_int_eq(nn_plateau_step(&up, 0.6, &lr), 0);
    ck_assert_int_eq(nn_plateau_step(&up, 0.6, &lr), 0);
    ck_assert_int_eq(nn_plateau_step(&up, NAN, &lr), 1); /* not a number is no improvement */
    ck_assert(fabs(lr - 0.1) < 1e-15);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("schedules");
    TCase *t = tcase_create("tables");
    tcase_add_test(t, constant);
    tcase_add_test(t, step_decay);
    tcase_add_test(t, multi_step);
    tcase_add_test(t, exp_decay);
    tcase_add_test(t, polynomial);
    tcase_add_test(t, cosine);
    tcase_add_test(t, cosine_restarts);
    tcase_add_test(t, cosine_longer_restarts);
    tcase_add_test(t, linear);
    tcase_add_test(t, one_cycle);
    tcase_add_test(t, one_cycle_held);
    tcase_add_test(t, inverse_time);
    tcase_add_test(t, warmup);
    tcase_add_test(t, plateau);
    suite_add_tcase(s, t);
    return run_suite(s);
}
