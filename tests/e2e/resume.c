/* SPDX-License-Identifier: MIT
 *
 * A training program that may be interrupted at any moment: resume CHECKPOINT STEPS THREADS [EVERY]
 * It goes on from CHECKPOINT if there is one, saves all of its state there after every EVERY (1) updates and at the
 * end, and stops when STEPS updates have been made. Exit code 5: the checkpoint is damaged.
 */
#include "resume.h"

#include "nn_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BATCH = 24, IN = 20, CLASSES = 5 };

/* The batch of an update is a function of its number. */
static void batch(uint64_t step, float *x, int32_t *y)
{
    uint64_t z = step * 0x9E3779B97F4A7C15u + 1;
    for (int i = 0; i < BATCH * IN; i++) {
        z = z * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)(z >> 40) * 0x1p-23F - 1.0F;
    }
    for (int i = 0; i < BATCH; i++) y[i] = (x[i * IN] > 0) + 2 * (x[i * IN + 1] > 0);
}

int main(int argc, char **argv)
{
    if (argc < 4) return 2;
    const char *path = argv[1];
    const uint64_t steps = strtoull(argv[2], NULL, 10), every = argc > 4 ? strtoull(argv[4], NULL, 10) : 1;
    resume *m = resume_new(RESUME_TRAIN, &(nn_options){ .seed = 3, .threads = atoi(argv[3]), .all_threads = 1 });
    if (!m) return 4;
    if (access(path, F_OK) == 0) {
        nn_load_report report;
        const nn_status s = resume_load(m, NN_ALL, path, &report);
        if (s != NN_OK) {
            fprintf(stderr, "%s: %s %s\n", path, nn_strerror(s), report.message);
            return 5;
        }
    }
    /* The object begins with its nn_model, which counts the updates. */
    const nn_model *base = (const nn_model *)(const void *)m;
    int train = 0;
    while (base->info->routines[train].n_ranges == 0) train++;
    while (base->steps[train] < steps) {
        float x[BATCH * IN];
        int32_t y[BATCH];
        resume_train_out out;
        batch(base->steps[train], x, y);
        if (resume_train(m, BATCH, x, y, &out) != NN_OK) return 6;
        if (base->steps[train] % every == 0 || base->steps[train] == steps)
            if (resume_save(m, NN_ALL, path) != NN_OK) return 3;
    }
    resume_free(m);
    return 0;
}
