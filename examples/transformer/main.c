/* SPDX-License-Identifier: MIT
 *
 * Trains the transformer on text and lets it write. Without --data FILE the text is made up here: sentences of a
 * small grammar, in which verbs agree with their subjects, so that there is something to look back for.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "nn_data.h"
#include "nn_init.h"
#include "nn_train.h"

enum { T = 64, V = 96, MADE_UP = 120000, WRITTEN = 240 };

typedef struct Text {
    char *s;
    long n;
} Text;

static const Text *shared; /* the text that offsets point into: read only once training begins */

static int code_of(char c) { return c >= ' ' && c <= '~' ? c - ' ' : V - 1; }
static char char_of(int code) { return code < V - 1 ? (char)(' ' + code) : '\n'; }

static unsigned draw(unsigned *state, unsigned n)
{
    *state = *state * 1664525U + 1013904223U;
    return (*state >> 16) % n;
}

static void make_up(Text *t, uint64_t seed)
{
    static const char *const size[] = { "small", "old", "quiet", "red" };
    static const char *const who[] = { "cat", "bird", "child", "teacher", "robot" };
    static const char *const many[] = { "cats", "birds", "children", "teachers", "robots" };
    static const char *const does[] = { "sees", "follows", "likes", "paints" };
    static const char *const doing[] = { "see", "follow", "like", "paint" };
    unsigned r = (unsigned)seed;
    t->s = calloc(MADE_UP + 128, 1);
    for (t->n = 0; t->s && t->n < MADE_UP;) {
        const int plural = (int)draw(&r, 2), object_plural = (int)draw(&r, 2);
        const char *a = size[draw(&r, 4)], *b = size[draw(&r, 4)];
        const unsigned subject = draw(&r, 5), verb = draw(&r, 4), object = draw(&r, 5);
        t->n += sprintf(t->s + t->n, "the %s %s %s the %s %s.\n", a, plural ? many[subject] : who[subject],
                        plural ? doing[verb] : does[verb], b, object_plural ? many[object] : who[object]);
    }
}

static nn_status read_text(Text *t, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) return NN_EIO;
    if (fseek(f, 0, SEEK_END) == 0 && (t->n = ftell(f)) > 0) t->s = calloc((size_t)t->n + 1, 1);
    rewind(f);
    const int ok = t->s && fread(t->s, 1, (size_t)t->n, f) == (size_t)t->n;
    fclose(f);
    return ok ? NN_OK : NN_EIO;
}

/* x of the batch are offsets of pieces: T characters, and the T that come one later. */
static void pieces(const nn_batch *b, int32_t *ids, int32_t *target)
{
    for (int i = 0; i < b->n; i++)
        for (int k = 0; k < T; k++) {
            const char *at = shared->s + (long)b->x[i] + k;
            ids[i * T + k] = code_of(at[0]);
            target[i * T + k] = code_of(at[1]);
        }
}

static nn_status step(void *m, const nn_batch *b, double *value)
{
    int32_t ids[TRANSFORMER_B_MAX * T], target[TRANSFORMER_B_MAX * T];
    transformer_train_out out = { 0 };
    pieces(b, ids, target);
    nn_status s = transformer_train(m, b->n, ids, target, &out);
    value[0] = out.loss;
    return s;
}

static nn_status eval(void *m, const nn_batch *b, double *value)
{
    int32_t ids[TRANSFORMER_B_MAX * T], target[TRANSFORMER_B_MAX * T];
    float nll[TRANSFORMER_B_MAX];
    pieces(b, ids, target);
    nn_status s = transformer_score(m, b->n, ids, target, nll);
    value[0] = 0;
    for (int i = 0; i < b->n; i++) value[0] += (double)nll[i] / b->n;
    return s;
}

/* Writes on from a newline: each character is drawn from what the network gives after the last T. */
static nn_status write_on(transformer *m, uint64_t seed)
{
    static float p[T * V], u[WRITTEN];
    int32_t ids[T] = { V - 1 };
    nn_init_uniform(u, sizeof *u, WRITTEN, 0, 0, (double[4]){ 0, 1 }, seed, 0);
    for (int i = 0, n = 1; i < WRITTEN; i++) {
        nn_status s = transformer_next(m, 1, ids, p);
        if (s != NN_OK) return s;
        int c = 0;
        for (float rest = u[i]; c < V - 1 && rest >= p[(n - 1) * V + c]; c++) rest -= p[(n - 1) * V + c];
        putchar(char_of(c));
        if (n == T) memmove(ids, ids + 1, (T - 1) * sizeof *ids);
        else n++;
        ids[n - 1] = c;
    }
    putchar('\n');
    return NN_OK;
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 4, .batch = 32, .seed = 1, .limit_batches = 150, .out = "transformer.safetensors" };
    int code = nn_args_parse(&args, argc, argv, "Trains a transformer on text (--data FILE) and lets it write.");
    if (code >= 0) return code;
    if (args.batch > TRANSFORMER_B_MAX) return nn_fail(NN_ESIZE, "--batch may be at most 64");

    Text text = { 0 };
    if (args.data && read_text(&text, args.data) != NN_OK) return nn_fail(NN_EIO, "--data: the file cannot be read");
    if (!args.data) make_up(&text, args.seed);
    const long n = text.n - T - 1, held = n / 10 / T * T;
    float *offset = text.s && held > 0 ? calloc((size_t)n, sizeof *offset) : NULL;
    transformer *m = transformer_new(TRANSFORMER_TRAIN | TRANSFORMER_SCORE | TRANSFORMER_NEXT,
                                     &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m || !offset || n >= 1 << 24) {
        free(text.s);
        free(offset);
        transformer_free(m);
        return !m || !text.s ? nn_fail(NN_ENOMEM, NULL) : nn_fail(NN_ESIZE, "--data: expected 1 KB to 16 MB of text");
    }
    if (args.lr > 0) transformer_hypers(m)->train_lr = args.lr;

    /* The last tenth is held out, in pieces side by side. */
    const long first = n - held;
    for (long i = 0; i < first; i++) offset[i] = (float)i;
    for (long i = 0; i < held / T; i++) offset[first + i] = (float)(first + i * T);
    shared = &text;
    nn_dataset train = nn_dataset_wrap(first - T, 1, offset, NULL, 0, NULL);
    nn_dataset test = nn_dataset_wrap(held / T, 1, offset + first, NULL, 0, NULL);
    nn_trainer trainer = { .model = m, .args = &args, .train = &train, .valid = &test,
                           .step = step, .step_values = { "loss" },
                           .eval = eval, .eval_values = { "test_nll" }, .eval_smaller_is_better = 1 };
    nn_train_result result;
    code = nn_train(&trainer, &result);
    if (code == 0) {
        nn_status s = write_on(m, args.seed);
        if (s != NN_OK) code = nn_fail(s, NULL);
        else printf("test perplexity: %.3f\n", exp(result.eval[0]));
    }
    transformer_free(m);
    free(offset);
    free(text.s);
    return code;
}
