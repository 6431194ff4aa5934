/* SPDX-License-Identifier: MIT
 *
 * What long work shows on the screen, and pictures of its results. On a terminal a progress bar is redrawn
 * in place; elsewhere a plain key=value line appears every few seconds.
 */
#ifndef NN_LOG_H
#define NN_LOG_H

#include <stdio.h>

#include "nn.h"
#include "nn_safetensors.h" /* NN_ERROR_TEXT */

#ifdef __cplusplus
extern "C" {
#endif

typedef enum nn_progress_mode {
    NN_PROGRESS_AUTO, /* a bar when the stream is a terminal that can redraw, plain otherwise */
    NN_PROGRESS_BAR,
    NN_PROGRESS_PLAIN,
    NN_PROGRESS_NONE
} nn_progress_mode;

/* auto, bar, plain, none; NN_EINVAL for anything else. */
nn_status nn_progress_parse(const char *text, nn_progress_mode *mode);

/* Fields are private; a zeroed object is one that shows nothing. */
typedef struct nn_progress {
    FILE *to;
    nn_progress_mode mode;
    int colour; /* a terminal, and NO_COLOR is not set */
    char title[64];
    char status[256];
    const char *unit;      /* what is counted; NULL: no rate is shown */
    int64_t done, total;   /* total 0: unknown */
    double started, drawn; /* seconds */
    int width;             /* columns the last bar took */
} nn_progress;

/* Begins work of `total` units. `unit` must outlive the progress. */
void nn_progress_start(nn_progress *p, FILE *to, nn_progress_mode mode, const char *title,
                       int64_t total, const char *unit);
/* Says how far it is and what else is known ("loss=0.31"); draws at most every 0.1 s (plain: 5 s). */
void nn_progress_update(nn_progress *p, int64_t done, const char *status);
/* Removes the bar, so that other output starts on a clean line. */
void nn_progress_end(nn_progress *p);
double nn_progress_seconds(const nn_progress *p); /* since the start */

double nn_now(void); /* monotonic seconds */

/* ---- pictures: all are written atomically; `why` as in nn_safetensors.h ---- */

typedef struct nn_curve {
    const char *name;
    const double *y; /* at x = first, first + 1, ..; values that are not finite leave a gap */
    int n;           /* values */
} nn_curve;

/* An SVG line chart, each curve with its name in the legend. log_y: logarithmic axis, for positive values. */
nn_status nn_plot_curves(const char *path, const char *title, const char *x_label, double first,
                         const nn_curve *curves, int n_curves, int log_y, char *why);

/* A PNG of n images in a grid of `columns`, zoomed by an integer. images is [n][channels][height][width]
 * with channels 1 or 3; low..high maps to black..white, values beyond are clipped, NaN is black. */
nn_status nn_plot_images(const char *path, const float *images, int n, int channels, int height,
                         int width, int columns, int zoom, float low, float high, char *why);

/* One image as text, two rows of it per line, for a terminal; h x w values in [0, 1]. */
void nn_print_image(FILE *to, const float *image, int height, int width);

#ifdef __cplusplus
}
#endif
#endif
