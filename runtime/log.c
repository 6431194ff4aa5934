/* SPDX-License-Identifier: MIT
 *
 * Progress of long work. In: how much is done; out: a bar on a terminal or plain lines elsewhere.
 * Invariant: the bar occupies one line that nn_progress_end clears, so it never mixes with other output.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "nn_log.h"

static const double redraw_seconds = 0.1, line_seconds = 5;

double nn_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

nn_status nn_progress_parse(const char *text, nn_progress_mode *mode)
{
    static const char *const names[] = { "auto", "bar", "plain", "none" };
    for (int i = 0; text && i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *mode = (nn_progress_mode)i;
            return NN_OK;
        }
    return NN_EINVAL;
}

static int can_redraw(FILE *to)
{
    const char *term = getenv("TERM");
    return isatty(fileno(to)) && term && *term && strcmp(term, "dumb") != 0;
}

void nn_progress_start(nn_progress *p, FILE *to, nn_progress_mode mode, const char *title,
                       int64_t total, const char *unit)
{
    memset(p, 0, sizeof *p);
    p->to = to;
    p->mode = mode;
    if (mode == NN_PROGRESS_AUTO) p->mode = can_redraw(to) ? NN_PROGRESS_BAR : NN_PROGRESS_PLAIN;
    const char *no_color = getenv("NO_COLOR");
    p->colour = p->mode == NN_PROGRESS_BAR && can_redraw(to) && !(no_color && *no_color);
    snprintf(p->title, sizeof p->title, "%s", title ? title : "");
    p->unit = unit;
    p->total = total;
    p->started = nn_now();
    p->drawn = p->mode == NN_PROGRESS_BAR ? 0 : p->started;
}

double nn_progress_seconds(const nn_progress *p)
{
    return nn_now() - p->started;
}

/* 3:07 or 1:02:03. */
static void clock_text(char *out, size_t size, double seconds)
{
    if (!(seconds >= 0 && seconds < 1e9)) seconds = 0;
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
}

/* 840, 12.3k, 4.56M */
static void rate_text(char *out, size_t size, double rate)
{
    if (rate >= 1e6)
        snprintf(out, size, "%.3gM", rate / 1e6);
    else if (rate >= 1e3)
        snprintf(out, size, "%.3gk", rate / 1e3);
    else
        snprintf(out, size, "%.3g", rate);
}

/* Rate and remaining time, as far as they are known. */
static void forecast(const nn_progress *p, char *rate, char *eta, size_t size)
{
    double seconds = nn_progress_seconds(p),
           per_second = seconds > 0 ? (double)p->done / seconds : 0;
    rate[0] = eta[0] = '\0';
    if (p->unit && per_second > 0) rate_text(rate, size, per_second);
    if (p->total > 0 && per_second > 0)
        clock_text(eta, size, (double)(p->total - p->done) / per_second);
}

static int terminal_columns(FILE *to)
{
    struct winsize w;
    if (ioctl(fileno(to), TIOCGWINSZ, &w) == 0 && w.ws_col > 0) return w.ws_col;
    return 80;
}

/* The bar takes the room that title, numbers and forecast leave on the line, within limits. */
static void draw_bar(nn_progress *p)
{
    enum { LEAST = 6, MOST = 30 };
    char rate[24], eta[24], tail[400], bar[MOST + 1];
    int columns = terminal_columns(p->to) - 1;
    double part = p->total > 0 ? (double)p->done / (double)p->total : 0;
    part = part < 0 ? 0 : part > 1 ? 1 : part;
    forecast(p, rate, eta, sizeof rate);
    int n_tail =
        snprintf(tail, sizeof tail, " %3.0f%%  %s%s%s%s%s%s", 100 * part, p->status,
                 rate[0] ? "  " : "", rate, rate[0] ? "/s" : "", eta[0] ? "  eta " : "", eta);
    int n_title = (int)strlen(p->title), cells = columns - n_title - 3 - n_tail;
    cells = cells < LEAST ? LEAST : cells > MOST ? MOST : cells;
    int full = (int)(part * cells), n = n_title + 3 + cells + n_tail;
    for (int i = 0; i < cells; i++) bar[i] = i < full ? '#' : '-';
    if (n > columns) n_tail = n_tail > n - columns ? n_tail - (n - columns) : 0;
    fprintf(p->to, "\r%s [%s%.*s%s%.*s]%.*s", p->title, p->colour ? "\033[32m" : "", full, bar,
            p->colour ? "\033[0m" : "", cells - full, bar + full, n_tail, tail);
    /* Longer remains of the line before are blanked. */
    n = n_title + 3 + cells + n_tail;
    for (int i = n; i < p->width; i++) fputc(' ', p->to);
    fflush(p->to);
    p->width = n;
}

static void print_line(nn_progress *p)
{
    char rate[24], eta[24];
    forecast(p, rate, eta, sizeof rate);
    if (p->title[0]) fprintf(p->to, "%s ", p->title);
    fprintf(p->to, "done=%lld", (long long)p->done);
    if (p->total > 0) fprintf(p->to, "/%lld", (long long)p->total);
    if (p->status[0]) fprintf(p->to, " %s", p->status);
    if (rate[0]) fprintf(p->to, " rate=%s/s", rate);
    if (eta[0]) fprintf(p->to, " eta=%s", eta);
    fputc('\n', p->to);
    fflush(p->to);
}

void nn_progress_update(nn_progress *p, int64_t done, const char *status)
{
    if (!p->to || p->mode == NN_PROGRESS_NONE) return;
    double now = nn_now();
    int bar = p->mode == NN_PROGRESS_BAR;
    p->done = done;
    if (now - p->drawn < (bar ? redraw_seconds : line_seconds)) return;
    p->drawn = now;
    snprintf(p->status, sizeof p->status, "%s", status ? status : "");
    if (bar)
        draw_bar(p);
    else
        print_line(p);
}

void nn_progress_end(nn_progress *p)
{
    if (p->to && p->mode == NN_PROGRESS_BAR && p->width > 0) {
        fprintf(p->to, "\r%*s\r", p->width, "");
        fflush(p->to);
        p->width = 0;
    }
    p->mode = NN_PROGRESS_NONE;
}
