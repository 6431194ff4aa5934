/* SPDX-License-Identifier: MIT
 *
 * Trains the character model on a text, measures its perplexity on the last tenth of it, and writes a sample. The text
 * is cut into as many streams as there are rows in a batch; a row reads its stream from front to back, and the
 * model's state goes along from call to call.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "nn_log.h"
#include "nn_train.h"

enum { T = 64, V = 96, SAMPLE = 400, MADE_BYTES = 200000, MAX_BYTES = 1 << 26 };

/* ---- text ---- */

/* Printable ASCII and the end of a line; anything else reads as a blank. */
static int32_t id_of(unsigned char c)
{
    return c == '\n' ? V - 1 : c >= 32 && c < 127 ? c - 32 : 0;
}

static char char_of(int id)
{
    return (char)(id == V - 1 ? '\n' : id + 32);
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

static const char *pick(uint64_t *state, const char *const *words, int n)
{
    return words[next_random(state) % (uint32_t)n];
}

/* Sentences of a little grammar. The verb agrees with the subject, which may stand several words before it. */
static char *make_text(size_t *len, uint64_t seed)
{
    static const char *const adjectives[] = { "old",    "young", "small", "quiet",
                                              "clever", "tired", "brave", "gentle" };
    static const char *const nouns[] = { "cat",   "bird",  "farmer", "teacher",
                                         "river", "horse", "sailor", "garden" };
    static const char *const places[] = { "near the wood", "behind the house", "on the hill",
                                          "by the sea" };
    static const char *const verbs[] = { "watch", "follow", "remember", "admire", "need", "greet" };
    char *text = malloc(MADE_BYTES + 256);
    if (!text) return NULL;
    uint64_t state = seed;
    size_t n = 0;
    while (n < MADE_BYTES) {
        const bool many = next_random(&state) % 2;
        n += (size_t)sprintf(text + n, "%s %s %s%s ", many ? "the" : "one",
                             pick(&state, adjectives, 8), pick(&state, nouns, 8), many ? "s" : "");
        if (next_random(&state) % 2) n += (size_t)sprintf(text + n, "%s ", pick(&state, places, 4));
        n += (size_t)sprintf(text + n, "%s%s the %s %s.%c", pick(&state, verbs, 6), many ? "" : "s",
                             pick(&state, adjectives, 8), pick(&state, nouns, 8),
                             next_random(&state) % 4 ? ' ' : '\n');
    }
    *len = n;
    return text;
}

static nn_status read_text(const char *path, char **text, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f) return NN_EIO;
    *text = malloc(MAX_BYTES);
    *len = *text ? fread(*text, 1, MAX_BYTES, f) : 0;
    const bool failed = ferror(f) != 0;
    fclose(f);
    return !*text ? NN_ENOMEM : failed ? NN_EIO : NN_OK;
}

/* ---- streams ---- */

typedef struct Streams {
    const char *text;
    size_t each; /* characters of one stream */
    int n;
    int64_t calls; /* that read all of them once */
} Streams;

static Streams make_streams(const char *text, size_t len, int n)
{
    Streams s = { .text = text, .each = len / (size_t)n, .n = n };
    s.calls = s.each > 0 ? (int64_t)((s.each - 1) / T) : 0;
    return s;
}

/* Characters [k T, (k + 1) T) of every stream, and the ones that follow them. */
static void read_streams(const Streams *s, int64_t k, int32_t *ids, int32_t *tgt)
{
    for (int b = 0; b < s->n; b++) {
        const char *from = s->text + (size_t)b * s->each + (size_t)k * T;
        for (int t = 0; t < T; t++) {
            ids[b * T + t] = id_of((unsigned char)from[t]);
            tgt[b * T + t] = id_of((unsigned char)from[t + 1]);
        }
    }
}

static void forget(charlm *m)
{
    static const char *const names[] = { "h", "c" };
    for (int i = 0; i < 2; i++) {
        const int tensor = charlm_find(m, names[i]);
        memset(charlm_data(m, tensor), 0, (size_t)charlm_tensors[tensor].count * sizeof(float));
    }
}

static int32_t ids[CHARLM_B_MAX * T], tgt[CHARLM_B_MAX * T];

static nn_status train_epoch(charlm *m, const Streams *s, const nn_args *args, int epoch,
                             double *loss)
{
    nn_progress progress;
    char title[64], status[64];
    const int64_t calls =
        args->limit_batches && args->limit_batches < s->calls ? args->limit_batches : s->calls;
    snprintf(title, sizeof title, "epoch %d/%d", epoch + 1, args->epochs);
    nn_progress_start(&progress, stderr, args->progress, title, calls * s->n * T, "characters");
    forget(m);
    double sum = 0;
    nn_status status_of_step = NN_OK;
    for (int64_t k = 0; k < calls && status_of_step == NN_OK; k++) {
        charlm_train_out out = { 0 };
        read_streams(s, k, ids, tgt);
        status_of_step = charlm_train(m, s->n, ids, tgt, &out);
        sum += out.loss;
        snprintf(status, sizeof status, "loss=%.4f", sum / (double)(k + 1));
        nn_progress_update(&progress, (k + 1) * s->n * T, status);
    }
    nn_progress_end(&progress);
    *loss = calls ? sum / (double)calls : NAN;
    return status_of_step;
}

/* Exponential of the mean negative log-likelihood of a character. */
static nn_status perplexity(charlm *m, const Streams *s, double *value)
{
    static float nats[CHARLM_B_MAX * T];
    double sum = 0;
    forget(m);
    for (int64_t k = 0; k < s->calls; k++) {
        read_streams(s, k, ids, tgt);
        const nn_status status = charlm_score(m, s->n, ids, tgt, nats);
        if (status != NN_OK) return status;
        for (int i = 0; i < s->n * T; i++) sum += (double)nats[i];
    }
    *value = exp(sum / (double)(s->calls * s->n * T));
    return NN_OK;
}

static nn_status write_sample(charlm *m, uint64_t seed)
{
    float p[V];
    int32_t id = V - 1;
    forget(m);
    for (int i = 0; i < SAMPLE; i++) {
        const nn_status status = charlm_next(m, 1, &id, p);
        if (status != NN_OK) return status;
        double left = (double)next_random(&seed) / 2147483648.0;
        id = 0;
        while (id < V - 1 && (left -= (double)p[id]) > 0) id++;
        putchar(char_of(id));
    }
    putchar('\n');
    return NN_OK;
}

int main(int argc, char **argv)
{
    nn_args args = { .epochs = 10, .batch = 32, .seed = 1, .out = "charlm.safetensors" };
    const int code = nn_args_parse(&args, argc, argv,
                                   "Learns to write text, character by character (--data FILE).");
    if (code >= 0) return code;
    if (args.batch > CHARLM_B_MAX) return nn_fail(NN_ESIZE, "--batch may be at most 32");

    char *text = NULL, why[NN_ERROR_TEXT] = "";
    size_t len = 0;
    nn_status s = NN_OK;
    if (args.data)
        s = read_text(args.data, &text, &len);
    else if (!(text = make_text(&len, args.seed)))
        s = NN_ENOMEM;
    if (s != NN_OK) {
        free(text);
        return nn_fail(s, args.data);
    }
    const size_t cut = len / 10 * 9;
    const Streams train = make_streams(text, cut, args.batch),
                  test = make_streams(text + cut, len - cut, args.batch);
    if (train.calls < 1 || test.calls < 1) {
        free(text);
        return nn_fail(NN_EFORMAT, "the text is too short");
    }
    charlm *m = charlm_new(CHARLM_NEXT | CHARLM_SCORE | CHARLM_TRAIN,
                           &(nn_options){ .seed = args.seed, .threads = args.threads });
    if (!m) {
        free(text);
        return nn_fail(NN_ENOMEM, NULL);
    }
    if (args.lr > 0) charlm_hypers(m)->train_lr = args.lr;
    if (args.resume) {
        s = charlm_load(m, NN_WEIGHTS, args.resume, NULL);
        snprintf(why, sizeof why, "%s: cannot be loaded", args.resume);
    }
    double value = NAN;
    for (int epoch = 0; epoch < args.epochs && s == NN_OK; epoch++) {
        double loss = NAN;
        why[0] = '\0';
        s = train_epoch(m, &train, &args, epoch, &loss);
        if (s == NN_OK) s = perplexity(m, &test, &value);
        if (s == NN_OK)
            printf("epoch %d: loss %.4f, test perplexity %.4f\n", epoch + 1, loss, value);
        fflush(stdout);
    }
    if (s == NN_OK && args.epochs == 0) s = perplexity(m, &test, &value);
    if (s == NN_OK && args.out) {
        s = charlm_save(m, NN_WEIGHTS, args.out);
        snprintf(why, sizeof why, "%s: cannot be written", args.out);
    }
    if (s == NN_OK) s = write_sample(m, args.seed);
    if (s == NN_OK) printf("test perplexity: %.4f\n", value);
    charlm_free(m);
    free(text);
    return s == NN_OK ? 0 : nn_fail(s, why);
}
