/* SPDX-License-Identifier: MIT
 *
 * Pictures: curves as SVG, images as PNG or text. In: numbers; out: a file that is a pure function of them.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "nn_log.h"
#include "file.h"
#include "text.h"

/* ---- text that grows ---- */

__attribute__((format(printf, 2, 3))) static void put(Text *t, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n > 0) text_put(t, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

static void put_escaped(Text *t, const char *s)
{
    for (; s && *s; s++) {
        if (*s == '<')
            put(t, "&lt;");
        else if (*s == '&')
            put(t, "&amp;");
        else if ((unsigned char)*s >= 0x20)
            text_put(t, s, 1);
    }
}

static nn_status write_text(const char *path, Text *t, char *why)
{
    nn_out o;
    nn_status s = NN_ENOMEM;
    if (t->failed) {
        nn_say(why, "%s: out of memory", path);
    } else if ((s = nn_out_open(&o, path, why)) == NN_OK) {
        if (nn_out_write(&o, t->data, t->len) == 0) {
            s = nn_out_commit(&o, why);
        } else {
            nn_say(why, "%s: cannot write", path);
            nn_out_abort(&o);
            s = NN_EIO;
        }
    }
    free(t->data);
    return s;
}

/* ---- curves ---- */

enum { WIDTH = 720, HEIGHT = 420, LEFT = 70, RIGHT = 20, TOP = 40, BOTTOM = 50, N_COLOURS = 6 };

static const char *const colours[N_COLOURS] = { "#1f77b4", "#d62728", "#2ca02c",
                                                "#9467bd", "#ff7f0e", "#17becf" };

typedef struct Axes {
    double x0, x1, y0, y1;
    int log_y;
} Axes;

static double x_at(const Axes *a, double x)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (x - a->x0) / (a->x1 - a->x0);
}
static double y_at(const Axes *a, double y)
{
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - a->y0) / (a->y1 - a->y0);
}

/* A round number near range / 6: 1, 2 or 5 times a power of ten. */
static double tick_step(double range)
{
    double raw = range / 6, power = pow(10, floor(log10(raw))), lead = raw / power;
    return (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10) * power;
}

static int usable(double v, int log_y)
{
    return isfinite(v) && (!log_y || v > 0);
}

static Axes axes_of(double first, const nn_curve *curves, int n_curves, int log_y)
{
    Axes a = { first, first, INFINITY, -INFINITY, log_y };
    for (int k = 0; k < n_curves; k++) {
        a.x1 = fmax(a.x1, first + curves[k].n - 1);
        for (int i = 0; i < curves[k].n; i++) {
            if (!usable(curves[k].y[i], log_y)) continue;
            double v = log_y ? log10(curves[k].y[i]) : curves[k].y[i];
            a.y0 = fmin(a.y0, v);
            a.y1 = fmax(a.y1, v);
        }
    }
    if (!(a.y0 <= a.y1)) a.y0 = 0, a.y1 = 1;
    if (a.x1 <= a.x0) a.x1 = a.x0 + 1;
    double margin = a.y1 > a.y0 ? 0.05 * (a.y1 - a.y0) : fmax(0.5 * fabs(a.y0), 0.5);
    a.y0 -= margin;
    a.y1 += margin;
    return a;
}

static void draw_axes(Text *t, const Axes *a)
{
    double step = tick_step(a->y1 - a->y0);
    for (double v = ceil(a->y0 / step) * step; v <= a->y1; v += step) {
        double y = y_at(a, v);
        put(t, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", LEFT, y,
            WIDTH - RIGHT, y);
        put(t, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n", LEFT - 8, y + 4,
            a->log_y                ? pow(10, v)
            : fabs(v) < step * 1e-6 ? 0
                                    : v);
    }
    step = fmax(1, tick_step(a->x1 - a->x0));
    for (double v = ceil(a->x0 / step) * step; v <= a->x1; v += step)
        put(t, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n", x_at(a, v),
            HEIGHT - BOTTOM + 18, v);
    put(t, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#444\"/>\n",
        LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
}

static void draw_curve(Text *t, const Axes *a, const nn_curve *c, double first, const char *colour)
{
    put(t, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.8\" d=\"", colour);
    for (int i = 0, drawing = 0; i < c->n; i++) {
        if (!usable(c->y[i], a->log_y)) {
            drawing = 0;
            continue;
        }
        double v = a->log_y ? log10(c->y[i]) : c->y[i];
        put(t, "%c%.2f %.2f", drawing ? 'L' : 'M', x_at(a, first + i), y_at(a, v));
        drawing = 1;
    }
    put(t, "\"/>\n");
}

nn_status nn_plot_curves(const char *path, const char *title, const char *x_label, double first,
                         const nn_curve *curves, int n_curves, int log_y, char *why)
{
    Text t = { 0 };
    Axes a = axes_of(first, curves, n_curves, log_y);
    put(&t,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
        "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
        WIDTH, HEIGHT, WIDTH, HEIGHT);
    put(&t, "<text x=\"%d\" y=\"24\" font-size=\"15\">", LEFT);
    put_escaped(&t, title);
    put(&t, "</text>\n<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", (WIDTH + LEFT - RIGHT) / 2,
        HEIGHT - 12);
    put_escaped(&t, x_label);
    put(&t, "</text>\n");
    draw_axes(&t, &a);
    for (int k = 0; k < n_curves; k++)
        draw_curve(&t, &a, &curves[k], first, colours[k % N_COLOURS]);
    for (int k = 0; k < n_curves; k++) {
        int y = TOP + 18 + 16 * k;
        put(&t, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"%s\" stroke-width=\"2\"/>",
            WIDTH - 170, y - 4, WIDTH - 146, y - 4, colours[k % N_COLOURS]);
        put(&t, "<text x=\"%d\" y=\"%d\">", WIDTH - 140, y);
        put_escaped(&t, curves[k].name);
        put(&t, "</text>\n");
    }
    put(&t, "</svg>\n");
    return write_text(path, &t, why);
}

/* ---- images ---- */

static void put_u32(unsigned char *out, uint32_t v)
{
    for (int i = 0; i < 4; i++) out[i] = (unsigned char)(v >> (24 - 8 * i));
}

static void put_chunk(Text *t, const char *type, const unsigned char *data, size_t n)
{
    unsigned char word[4];
    put_u32(word, (uint32_t)n);
    text_put(t, word, 4);
    text_put(t, type, 4);
    if (n > 0) text_put(t, data, n);
    uLong crc = crc32(0, (const unsigned char *)type, 4);
    if (n > 0) crc = crc32_z(crc, data, n);
    put_u32(word, (uint32_t)crc);
    text_put(t, word, 4);
}

static unsigned char grey(float v, float low, float high)
{
    float part = (v - low) / (high - low);
    if (!(part > 0)) return 0; /* NaN, too */
    return part >= 1 ? 255 : (unsigned char)(part * 255 + 0.5F);
}

nn_status nn_plot_images(const char *path, const float *images, int n, int channels, int height,
                         int width, int columns, int zoom, float low, float high, char *why)
{
    if (!path || !images || n < 1 || (channels != 1 && channels != 3) || height < 1 || width < 1 ||
        columns < 1 || zoom < 1 || !(high > low))
        return NN_EINVAL;
    if (columns > n) columns = n;
    /* One pixel of border around every image. */
    size_t rows = ((size_t)n + (size_t)columns - 1) / (size_t)columns, z = (size_t)zoom,
           ch = (size_t)channels;
    size_t w = ((size_t)columns * ((size_t)width + 1) + 1) * z,
           h = (rows * ((size_t)height + 1) + 1) * z;
    if (w > 100000 || h > 100000 || w * h > 400000000) return NN_ESIZE;
    size_t line = 1 + w * ch, size = h * line; /* each line begins with its filter: 0, none */
    uLongf packed_size = compressBound((uLong)size);
    unsigned char *raw = malloc(size), *packed = malloc(packed_size);
    if (!raw || !packed) {
        free(raw);
        free(packed);
        nn_say(why, "%s: out of memory", path);
        return NN_ENOMEM;
    }
    memset(raw, 64, size);
    for (size_t y = 0; y < h; y++) {
        unsigned char *out = raw + y * line;
        *out++ = 0;
        for (size_t x = 0; x < w; x++, out += ch) {
            size_t py = y / z, px = x / z;
            if (py == 0 || px == 0 || py % ((size_t)height + 1) == 0 ||
                px % ((size_t)width + 1) == 0)
                continue;
            size_t row = (py - 1) / ((size_t)height + 1), column = (px - 1) / ((size_t)width + 1);
            size_t i = row * (size_t)columns + column;
            if (i >= (size_t)n) continue;
            size_t iy = (py - 1) % ((size_t)height + 1), ix = (px - 1) % ((size_t)width + 1);
            for (size_t c = 0; c < ch; c++)
                out[c] = grey(images[((i * ch + c) * (size_t)height + iy) * (size_t)width + ix],
                              low, high);
        }
    }
    Text t = { 0 };
    unsigned char head[13] = { 0 };
    if (compress2(packed, &packed_size, raw, (uLong)size, 6) != Z_OK) t.failed = 1;
    put_u32(head, (uint32_t)w);
    put_u32(head + 4, (uint32_t)h);
    head[8] = 8;
    head[9] = channels == 3 ? 2 : 0;
    text_put(&t, "\x89PNG\r\n\x1a\n", 8);
    put_chunk(&t, "IHDR", head, sizeof head);
    put_chunk(&t, "IDAT", packed, packed_size);
    put_chunk(&t, "IEND", NULL, 0);
    free(raw);
    free(packed);
    return write_text(path, &t, why);
}

void nn_print_image(FILE *to, const float *image, int height, int width)
{
    static const char shades[] = " .:-=+*#%@";
    for (int y = 0; y < height; y += 2) {
        char line[512];
        int n = 0;
        for (int x = 0; x < width && n < (int)sizeof line - 1; x++) {
            float v = image[y * width + x];
            if (y + 1 < height) v = 0.5F * (v + image[(y + 1) * width + x]);
            int shade = !(v > 0) ? 0 : v >= 1 ? 9 : (int)(v * 10);
            line[n++] = shades[shade];
        }
        while (n > 0 && line[n - 1] == ' ') n--;
        fprintf(to, "%.*s\n", n, line);
    }
}
