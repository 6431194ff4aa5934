/* SPDX-License-Identifier: MIT
 *
 * Digits drawn with a pen. In: a label and a random stream; out: an anti-aliased picture. Each digit has one
 * to three ways of being written, as polylines and elliptic arcs in a unit box (x to the right, y down).
 * Control values are jittered, the points pass through an affine map and a smooth random field, and a
 * round pen of random width follows them. Invariant: a picture is a pure function of its arguments.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn_data.h"
#include "file.h"
#include "random.h"

enum { MAX_POINTS = 160, WAVES = 3, ARC_STEPS = 14 };

/* One piece of a stroke. A line goes from the pen's place to (a, b); an arc of the ellipse around (a, b) with
 * radii (c, d) goes from angle e to f, in degrees, 0 to the right and 90 down. */
typedef enum PieceKind { END, MOVE, LINE, ARC } PieceKind;
typedef struct Piece {
    PieceKind kind;
    double a, b, c, d, e, f;
} Piece;

/* clang-format off */
#define M(x, y) { MOVE, x, y, 0, 0, 0, 0 }
#define L(x, y) { LINE, x, y, 0, 0, 0, 0 }
#define A(x, y, rx, ry, from, to) { ARC, x, y, rx, ry, from, to }
#define E { END, 0, 0, 0, 0, 0, 0 }

static const Piece zero_oval[] = { A(.5, .5, .30, .42, -80, 290), E };
static const Piece zero_round[] = { A(.5, .5, .38, .42, -110, 245), E };
static const Piece one_bar[] = { M(.5, .06), L(.5, .94), E };
static const Piece one_flag[] = { M(.32, .26), L(.54, .06), L(.54, .94), E };
static const Piece one_base[] = { M(.34, .24), L(.52, .07), L(.52, .93), M(.30, .93), L(.74, .93), E };
static const Piece two_plain[] = { A(.49, .31, .29, .25, -165, 35), L(.20, .92), L(.82, .92), E };
static const Piece two_loop[] = { A(.50, .30, .28, .24, -170, 50), L(.34, .80), A(.27, .83, .10, .09, -40, -320),
                                  L(.55, .90), L(.84, .86), E };
static const Piece three_round[] = { A(.46, .29, .27, .22, -150, 90), A(.46, .71, .31, .22, -90, 150), E };
static const Piece three_flat[] = { M(.20, .09), L(.74, .09), L(.46, .42), A(.46, .68, .30, .25, -90, 150), E };
static const Piece four_open[] = { M(.26, .08), L(.20, .54), L(.80, .54), M(.68, .10), L(.64, .94), E };
static const Piece four_closed[] = { M(.66, .94), L(.66, .06), L(.16, .64), L(.86, .64), E };
static const Piece five_plain[] = { M(.76, .09), L(.32, .09), L(.27, .44), A(.47, .66, .30, .26, -125, 145), E };
static const Piece five_hat[] = { M(.34, .10), L(.27, .46), A(.46, .68, .31, .25, -120, 150), M(.34, .10),
                                  L(.80, .08), E };
static const Piece six_curved[] = { A(.66, .62, .46, .56, -100, -180), A(.49, .69, .29, .24, -180, 180), E };
static const Piece six_straight[] = { M(.62, .06), L(.26, .58), A(.49, .70, .27, .23, -155, 205), E };
static const Piece seven_plain[] = { M(.18, .10), L(.80, .10), L(.42, .94), E };
static const Piece seven_bar[] = { M(.20, .10), L(.80, .10), L(.44, .94), M(.36, .50), L(.76, .50), E };
static const Piece seven_hook[] = { M(.18, .22), L(.20, .10), L(.80, .10), L(.58, .46), L(.46, .94), E };
static const Piece eight_stacked[] = { A(.5, .29, .24, .21, 90, 450), A(.5, .72, .29, .22, -90, 270), E };
static const Piece eight_crossed[] = { A(.51, .28, .23, .20, -30, -225), L(.66, .58), A(.49, .73, .25, .20, -45, 225),
                                       L(.69, .36), E };
static const Piece nine_straight[] = { A(.48, .31, .26, .23, 0, -360), L(.70, .94), E };
static const Piece nine_curved[] = { A(.49, .30, .26, .23, 10, -350), A(.37, .34, .38, .58, 0, 95), E };

/* A repeated variant is drawn more often. */
static const Piece *const glyphs[10][3] = {
    { zero_oval, zero_oval, zero_round },       { one_bar, one_flag, one_base },
    { two_plain, two_plain, two_loop },         { three_round, three_round, three_flat },
    { four_open, four_closed, four_open },      { five_plain, five_hat, five_plain },
    { six_curved, six_straight, six_curved },   { seven_plain, seven_bar, seven_hook },
    { eight_stacked, eight_crossed, eight_stacked }, { nine_straight, nine_curved, nine_straight },
};
/* clang-format on */

typedef struct Point {
    double x, y;
    int pen_up; /* no line leads here from the point before */
} Point;

/* A smooth field of displacements: a few waves of low frequency. */
typedef struct Wave {
    double fx, fy, phase, ax, ay;
} Wave;

/* Uniform in [-1, 1), and in [a, b). */
static double sway(nn_draws *d)
{
    return 2 * nn_draw_unit(d) - 1;
}
static double between(nn_draws *d, double a, double b)
{
    return a + (b - a) * nn_draw_unit(d);
}

/* Nearly normal with standard deviation 1: the sum of three uniform numbers on [-1, 1). */
static double bell(nn_draws *d)
{
    double s = sway(d);
    s += sway(d);
    return s + sway(d);
}

/* `haste` scales everything that makes a digit irregular; 1 is a careful hand. */
static int trace(const Piece *p, nn_draws *d, double haste, Point *out)
{
    const double radians = 3.14159265358979323846 / 180, jitter = 0.022 * haste;
    int n = 0;
    for (; p->kind != END; p++) {
        double a = p->a + jitter * bell(d), b = p->b + jitter * bell(d);
        if (p->kind != ARC) {
            out[n++] = (Point){ a, b, p->kind == MOVE };
            continue;
        }
        double rx = p->c * (1 + 0.10 * haste * sway(d)), ry = p->d * (1 + 0.10 * haste * sway(d));
        double from = p->e + 9 * haste * sway(d), to = p->f + 9 * haste * sway(d);
        for (int i = 0; i <= ARC_STEPS; i++) {
            double angle = (from + (to - from) * i / ARC_STEPS) * radians;
            out[n] = (Point){ a + rx * cos(angle), b + ry * sin(angle), n == 0 };
            n++;
        }
    }
    return n;
}

/* Affine map and smooth field, from the unit box to pixels. The digit fills about 20/28 of the picture. */
static void distort(Point *p, int n, nn_draws *d, double haste, int size)
{
    Wave wave[WAVES];
    const double bend = 0.02 * haste;
    double angle = 0.14 * bell(d), shear = 0.17 * bell(d) - 0.05, unit = size * 20 / 28.0;
    double sx = unit * between(d, 0.72, 1.04), sy = unit * between(d, 0.84, 1.08);
    double dx = size * 0.5 + size / 28.0 * 1.1 * bell(d),
           dy = size * 0.5 + size / 28.0 * 1.1 * bell(d);
    for (int k = 0; k < WAVES; k++)
        wave[k] = (Wave){ between(d, -5, 5), between(d, -5, 5), between(d, 0, 6.2831853),
                          bend * bell(d), bend * bell(d) };
    for (int i = 0; i < n; i++) {
        double x = p[i].x - 0.5, y = p[i].y - 0.5, u = x, v = y;
        for (int k = 0; k < WAVES; k++) {
            double s = sin(wave[k].fx * x + wave[k].fy * y + wave[k].phase);
            u += wave[k].ax * s;
            v += wave[k].ay * s;
        }
        u -= shear * v;
        p[i].x = dx + sx * (u * cos(angle) - v * sin(angle));
        p[i].y = dy + sy * (u * sin(angle) + v * cos(angle));
    }
}

/* ink = max over segments of how much of the pixel the pen covers, in [0, 1]. */
static void stroke(double *ink, int size, const Point *p, int n, double radius)
{
    for (int i = 1; i < n; i++) {
        if (p[i].pen_up) continue;
        double ax = p[i - 1].x, ay = p[i - 1].y, ux = p[i].x - ax, uy = p[i].y - ay;
        double length2 = ux * ux + uy * uy, reach = radius + 1;
        int x0 = (int)fmax(0, fmin(ax, p[i].x) - reach),
            x1 = (int)fmin(size - 1, fmax(ax, p[i].x) + reach);
        int y0 = (int)fmax(0, fmin(ay, p[i].y) - reach),
            y1 = (int)fmin(size - 1, fmax(ay, p[i].y) + reach);
        for (int y = y0; y <= y1; y++)
            for (int x = x0; x <= x1; x++) {
                double qx = x + 0.5 - ax, qy = y + 0.5 - ay;
                double t = length2 > 0 ? (qx * ux + qy * uy) / length2 : 0;
                t = t < 0 ? 0 : t > 1 ? 1 : t;
                double cover = radius + 0.5 - hypot(qx - t * ux, qy - t * uy);
                cover = cover < 0 ? 0 : cover > 1 ? 1 : cover;
                if (cover > ink[y * size + x]) ink[y * size + x] = cover;
            }
    }
}

static unsigned char to_byte(double v)
{
    return (unsigned char)(v <= 0 ? 0 : v >= 1 ? 255 : v * 255 + 0.5);
}

void nn_digit_draw(unsigned char *image, int size, int channels, int label, uint64_t seed,
                   uint32_t part, uint32_t sample)
{
    enum { MAX_SIZE = 64 };
    double ink[MAX_SIZE * MAX_SIZE] = { 0 };
    Point points[MAX_POINTS];
    if (size < 12 || size > MAX_SIZE || (channels != 1 && channels != 3) || label < 0 || label > 9)
        return;
    /* 2^16 blocks of the stream per picture; one picture takes some hundreds. */
    nn_draws d = nn_draws_from(seed, NN_DOMAIN_DIGITS, part, (uint64_t)sample << 16);
    double haste = between(&d, 0.6, 2.4);
    int n = trace(glyphs[label][nn_draw_below(&d, 3)], &d, haste, points);
    distort(points, n, &d, haste, size);
    stroke(ink, size, points, n, size / 28.0 * between(&d, 0.75, 1.65));

    double strength = between(&d, 0.75, 1), noise = between(&d, 0, 0.06);
    double paper[3] = { 0 }, pen[3] = { 1, 1, 1 };
    if (channels == 3) {
        double distance = 0;
        /* Colours too much alike would hide the digit. */
        while (distance < 0.6) {
            distance = 0;
            for (int c = 0; c < 3; c++) {
                paper[c] = nn_draw_unit(&d);
                pen[c] = nn_draw_unit(&d);
                distance += fabs(pen[c] - paper[c]) / 1.5;
            }
        }
    }
    for (int c = 0; c < channels; c++)
        for (int i = 0; i < size * size; i++) {
            double v = paper[c] + (pen[c] - paper[c]) * strength * ink[i];
            *image++ = to_byte(v + noise * bell(&d) * (channels == 3 || ink[i] > 0 ? 1 : 0.5));
        }
}

nn_status nn_digits(nn_dataset *out, nn_dim n, int size, int channels, uint64_t seed, uint32_t part)
{
    memset(out, 0, sizeof *out);
    if (n < 1 || n > UINT32_MAX || size < 12 || size > 64 || (channels != 1 && channels != 3))
        return NN_EINVAL;
    size_t bytes = (size_t)channels * (size_t)size * (size_t)size;
    unsigned char *x = malloc((size_t)n * bytes);
    int32_t *y = malloc((size_t)n * sizeof *y);
    nn_dim *order = malloc((size_t)n * sizeof *order);
    if (!x || !y || !order) {
        free(x);
        free(y);
        free(order);
        return NN_ENOMEM;
    }
    nn_shuffle(order, n, seed, UINT64_MAX - 1 - part);
    for (nn_dim i = 0; i < n; i++) {
        y[i] = (int32_t)(order[i] % 10);
        nn_digit_draw(x + (size_t)i * bytes, size, channels, y[i], seed, part, (uint32_t)i);
    }
    free(order);
    *out = (nn_dataset){ .n = n,
                         .x_size = (nn_dim)bytes,
                         .x_rank = channels == 3 ? 3 : 2,
                         .x_type = NN_U8,
                         .scale = 1.0F / 255,
                         .x = x,
                         .y = y,
                         .classes = 10,
                         .owned = { x, y, NULL } };
    if (channels == 3) out->x_shape[0] = 3;
    out->x_shape[out->x_rank - 2] = out->x_shape[out->x_rank - 1] = size;
    return NN_OK;
}

static nn_status write_part(const char *dir, const char *stem, nn_dim n, uint64_t seed,
                            uint32_t part, char *why)
{
    nn_dataset d;
    char path[4096];
    nn_status s = nn_digits(&d, n, 28, 1, seed, part);
    if (s != NN_OK) {
        nn_say(why, "%lld digits: %s", (long long)n, nn_strerror(s));
        return s;
    }
    unsigned char *labels = malloc((size_t)n);
    if (!labels) s = NN_ENOMEM;
    for (nn_dim i = 0; labels && i < n; i++) labels[i] = (unsigned char)d.y[i];
    if (s == NN_OK) {
        snprintf(path, sizeof path, "%s/%s-images-idx3-ubyte", dir, stem);
        s = nn_idx_write(path, NN_U8, 3, (nn_dim[]){ n, 28, 28 }, d.x, why);
    }
    if (s == NN_OK) {
        snprintf(path, sizeof path, "%s/%s-labels-idx1-ubyte", dir, stem);
        s = nn_idx_write(path, NN_U8, 1, &n, labels, why);
    }
    free(labels);
    nn_dataset_free(&d);
    return s;
}

nn_status nn_digits_write(const char *dir, nn_dim n_train, nn_dim n_test, uint64_t seed, char *why)
{
    nn_status s = write_part(dir, "train", n_train, seed, NN_DIGITS_TRAIN, why);
    return s == NN_OK ? write_part(dir, "t10k", n_test, seed, NN_DIGITS_TEST, why) : s;
}

nn_status nn_digits_or_mnist(nn_dataset *train, nn_dataset *test, const char *dir, uint64_t seed,
                             char *why)
{
    if (dir) return nn_dataset_mnist(train, test, dir, why);
    nn_status s = nn_digits(train, 10000, 28, 1, seed, NN_DIGITS_TRAIN);
    memset(test, 0, sizeof *test);
    if (s == NN_OK && (s = nn_digits(test, 2000, 28, 1, seed, NN_DIGITS_TEST)) != NN_OK)
        nn_dataset_free(train);
    if (s != NN_OK) nn_say(why, "cannot draw digits: %s", nn_strerror(s));
    return s;
}

enum { COLORS = 3, SIDE = 32, PLANE = SIDE * SIDE };

/* Grey images of bytes as colour images: a black frame, three equal channels. */
static nn_status frame(nn_dataset *d, char *why)
{
    const nn_dim h = d->x_shape[0], w = d->x_shape[1];
    if (d->x_rank != 2 || h > SIDE || w > SIDE || d->x_type != NN_U8) {
        nn_say(why, "expected grey images of at most %d x %d", SIDE, SIDE);
        return NN_EFORMAT;
    }
    unsigned char *const x = calloc((size_t)d->n, COLORS * PLANE);
    if (!x) return NN_ENOMEM;
    for (nn_dim i = 0; i < d->n; i++) {
        const unsigned char *from = (const unsigned char *)d->x + i * d->x_size;
        unsigned char *to = x + i * COLORS * PLANE;
        for (nn_dim r = 0; r < h; r++)
            memcpy(to + (r + (SIDE - h) / 2) * SIDE + (SIDE - w) / 2, from + r * w, (size_t)w);
        for (int c = 1; c < COLORS; c++) memcpy(to + c * PLANE, to, PLANE);
    }
    free(d->owned[0]);
    d->owned[0] = x;
    d->x = x;
    d->x_size = COLORS * PLANE;
    d->x_rank = 3;
    d->x_shape[0] = COLORS;
    d->x_shape[1] = d->x_shape[2] = SIDE;
    return NN_OK;
}

nn_status nn_color_digits_or_mnist(nn_dataset *train, nn_dataset *test, const char *dir,
                                   uint64_t seed, char *why)
{
    nn_status s;
    memset(train, 0, sizeof *train);
    memset(test, 0, sizeof *test);
    if (why) why[0] = '\0';
    if (dir) {
        s = nn_dataset_mnist(train, test, dir, why);
        if (s == NN_OK) s = frame(train, why);
        if (s == NN_OK) s = frame(test, why);
    } else {
        s = nn_digits(train, 5000, SIDE, COLORS, seed, NN_DIGITS_TRAIN);
        if (s == NN_OK) s = nn_digits(test, 1000, SIDE, COLORS, seed, NN_DIGITS_TEST);
    }
    if (s != NN_OK) {
        nn_dataset_free(train);
        nn_dataset_free(test);
        if (why && !why[0]) nn_say(why, "cannot prepare digits: %s", nn_strerror(s));
        return s;
    }
    train->scale = test->scale = 2.0F / 255.0F;
    train->shift = test->shift = -1.0F;
    return NN_OK;
}
