/* SPDX-License-Identifier: MIT
 *
 * Second-order steps and their line search, see nn_second.h. Invariants: sums are taken in an order that
 * depends on their length alone; the weights of the object are always rounded copies of a vector in double,
 * so that differences of weights are exact; state is written after everything that can fail.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "canonical.h"
#include "nn_second.h"

/* ---- the line search ---- */

typedef struct Point {
    double step, value, slope;
} Point;

/* Minimum of the cubic through both points' values and slopes; NaN when it has none. */
static double cubic(const Point *a, const Point *b)
{
    const double d = a->slope + b->slope - 3 * (a->value - b->value) / (a->step - b->step);
    const double square = d * d - a->slope * b->slope;
    if (!(square >= 0)) return NAN;
    const double root = b->step > a->step ? sqrt(square) : -sqrt(square);
    return b->step - (b->step - a->step) * (b->slope + root - d) / (b->slope - a->slope + 2 * root);
}

typedef struct Search {
    const nn_line *line;
    nn_line_fn fn;
    void *ctx;
    Point start;
    int evals;
} Search;

static int evaluate(Search *s, double step, Point *p)
{
    if (s->evals >= s->line->max_evals || !(step > 0) || !isfinite(step)) return 0;
    s->evals++;
    p->step = step;
    p->value = s->fn(s->ctx, step, &p->slope);
    if (!isfinite(p->value) || !isfinite(p->slope)) p->value = p->slope = INFINITY;
    return 1;
}

/* What rounding can add to the difference of two values. */
static double slack(const Search *s, const Point *a, const Point *b)
{
    return s->line->rounding * fmax(fabs(a->value), fabs(b->value));
}

static int decreases(const Search *s, const Point *p)
{
    const double c1 = s->line->c1, slope = s->start.slope;
    if (!isfinite(p->value)) return 0;
    if (p->value <= s->start.value + c1 * p->step * slope) return 1;
    return fabs(p->value - s->start.value) <= slack(s, &s->start, p) &&
           p->slope <= (2 * c1 - 1) * slope;
}

static int is_flat(const Search *s, const Point *p)
{
    return fabs(p->slope) <= -s->line->c2 * s->start.slope;
}

/* Algorithm 3.6: lo satisfies the first condition and has the smallest value so far; between lo and hi
 * lies a step that satisfies both. */
static int zoom(Search *s, Point lo, Point hi, double *step)
{
    double before = INFINITY; /* width of the interval */
    for (;;) {
        const double width = hi.step - lo.step, margin = 0.1 * fabs(width);
        double at = isfinite(hi.value) ? cubic(&lo, &hi) : NAN;
        const double least = fmin(lo.step, hi.step) + margin,
                     most = fmax(lo.step, hi.step) - margin;
        /* Halving where the cubic says nothing, or keeps to one end for too long. */
        if (!isfinite(at) || fabs(width) > 0.66 * before)
            at = lo.step + 0.5 * width;
        else
            at = fmin(fmax(at, least), most);
        before = fabs(width);
        Point p;
        if (at == lo.step || at == hi.step || !evaluate(s, at, &p)) return 0;
        if (!decreases(s, &p) || p.value >= lo.value + slack(s, &lo, &p)) {
            hi = p;
            continue;
        }
        if (is_flat(s, &p)) {
            *step = p.step;
            return 1;
        }
        if (p.slope * width >= 0) hi = lo;
        lo = p;
    }
}

nn_status nn_line_search(const nn_line *line, nn_line_fn fn, void *ctx, double value0,
                         double slope0, double first, double *step)
{
    if (!(slope0 < 0) || !isfinite(slope0) || !isfinite(value0) || !(first > 0) ||
        !(line->c1 > 0) || !(line->c2 > line->c1) || !(line->c2 < 1))
        return NN_EINVAL;
    Search s = { .line = line, .fn = fn, .ctx = ctx, .start = { 0, value0, slope0 } };
    Point last = s.start, p;
    /* Algorithm 3.5: longer and longer steps until an interval holds an acceptable one. */
    for (double at = first; evaluate(&s, at, &p); last = p) {
        if (!decreases(&s, &p) || (s.evals > 1 && p.value >= last.value + slack(&s, &last, &p)))
            return zoom(&s, last, p, step) ? NN_OK : NN_ESEARCH;
        if (is_flat(&s, &p)) {
            *step = p.step;
            return NN_OK;
        }
        if (p.slope >= 0) return zoom(&s, p, last, step) ? NN_OK : NN_ESEARCH;
        const double guess = cubic(&last, &p);
        at = isfinite(guess) ? fmin(fmax(guess, 2 * p.step), 10 * p.step) : 2 * p.step;
    }
    return NN_ESEARCH;
}

/* ---- vectors ---- */

enum { LANES = 8 };

static double add_lanes(const double *sum)
{
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

static double dot(nn_dim n, const double *a, const double *b)
{
    double sum[LANES] = { 0 };
    nn_dim i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) sum[k] += a[i + k] * b[i + k];
    for (int k = 0; i < n; i++, k++) sum[k] += a[i] * b[i];
    return add_lanes(sum);
}

/* Largest absolute value; NaN when one is NaN. */
static double largest(nn_dim n, const double *a)
{
    double most = 0;
    for (nn_dim i = 0; i < n; i++) {
        if (isnan(a[i])) return NAN;
        most = fmax(most, fabs(a[i]));
    }
    return most;
}

/* ---- the object, seen as one vector ---- */

static int is_double(const nn_second *s)
{
    return s->model->info->real_bytes == 8;
}

static double precision(const nn_second *s)
{
    return is_double(s) ? DBL_EPSILON : (double)FLT_EPSILON;
}

/* Walks the trained elements in canonical order. */
typedef enum Direction { READ_WEIGHTS, WRITE_WEIGHTS, READ_GRADIENTS } Direction;

static void move(const nn_second *s, Direction what, double *x)
{
    for (int k = 0; k < s->n_tensors; k++) {
        const int index = s->tensors[k];
        const nn_tensor *t = &s->model->info->tensors[index];
        void *data = what == READ_GRADIENTS
                         ? nn_model_grad(s->model, index)
                         : (unsigned char *)s->model->params + t->offset * s->model->info->real_bytes;
        const int straight = nn_is_canonical(t);
        for (nn_dim i = 0; i < t->count; i++) {
            const nn_dim at = straight ? i : nn_canonical_to_storage(t, i);
            if (is_double(s)) {
                double *real = (double *)data + at;
                if (what == WRITE_WEIGHTS)
                    *real = x[i];
                else
                    x[i] = *real;
            } else {
                float *real = (float *)data + at;
                if (what == WRITE_WEIGHTS)
                    x[i] = (double)(*real = (float)x[i]);
                else
                    x[i] = (double)*real;
            }
        }
        x += t->count;
    }
}

/* What a method works with; each vector has n elements. */
typedef struct Work {
    const nn_second *s;
    double *x0, *g0, *d, *x, *g, *v; /* start, direction, current point, one for the method */
    double *rest;
} Work;

static Work work_of(const nn_second *s)
{
    double *at = s->work;
    Work w = { .s = s };
    double **vector[] = { &w.x0, &w.g0, &w.d, &w.x, &w.g, &w.v };
    for (size_t i = 0; i < sizeof vector / sizeof *vector; i++, at += s->n) *vector[i] = at;
    w.rest = at;
    return w;
}

/* Loss and gradient with the penalty weight_decay / 2 |x|^2. */
static double with_decay(const nn_second *s, double loss, const double *x, double *g)
{
    move(s, READ_GRADIENTS, g);
    if (s->weight_decay == 0) return loss;
    for (nn_dim i = 0; i < s->n; i++) g[i] += s->weight_decay * x[i];
    return loss + 0.5 * s->weight_decay * dot(s->n, x, x);
}

/* Puts x, which it rounds, into the object. */
static double evaluate_at(const nn_second *s, double *x, double *g)
{
    move(s, WRITE_WEIGHTS, x);
    return with_decay(s, s->evaluate(s->ctx), x, g);
}

static double along(void *ctx, double step, double *slope)
{
    Work *w = ctx;
    for (nn_dim i = 0; i < w->s->n; i++) w->x[i] = w->x0[i] + step * w->d[i];
    const double value = evaluate_at(w->s, w->x, w->g);
    *slope = dot(w->s->n, w->g, w->d);
    return value;
}

/* Where the step begins. */
static nn_status begin(Work *w, double *value)
{
    const nn_second *s = w->s;
    if (!(s->lr > 0) || !isfinite(s->lr) || !(s->c1 > 0) || !(s->c2 > s->c1) || !(s->c2 < 1) ||
        !(s->max_evals >= 1) || !(s->tolerance_grad >= 0) || !(s->weight_decay >= 0) ||
        !isfinite(s->weight_decay))
        return NN_EINVAL;
    move(s, READ_WEIGHTS, w->x0);
    *value = with_decay(s, s->loss, w->x0, w->g0);
    const double most = largest(s->n, w->g0);
    if (!isfinite(*value) || !isfinite(most)) return NN_ENONFINITE;
    return most <= s->tolerance_grad ? NN_ESEARCH : NN_OK;
}

/* Searches along w->d; on failure the weights are those of the beginning. On success w->x and w->g hold the
 * changes of weights and gradient. */
static nn_status search(Work *w, double value, double first)
{
    const nn_second *s = w->s;
    const nn_line line = { .c1 = s->c1,
                           .c2 = s->c2,
                           .max_evals = s->max_evals < 1e6 ? (int)s->max_evals : 1000000,
                           .rounding = 4 * precision(s) };
    const double slope = dot(s->n, w->d, w->g0);
    double step = 0;
    nn_status status = nn_line_search(&line, along, w, value, slope, first, &step);
    if (status != NN_OK) {
        move(s, WRITE_WEIGHTS, w->x0);
        return NN_ESEARCH;
    }
    for (nn_dim i = 0; i < s->n; i++) {
        w->x[i] -= w->x0[i];
        w->g[i] -= w->g0[i];
    }
    return NN_OK;
}

/* The first step of a method that knows nothing of the curvature: it changes no weight by more than lr. */
static nn_status search_downhill(Work *w, double value)
{
    double sum = 0;
    for (nn_dim i = 0; i < w->s->n; i++) {
        w->d[i] = -w->g0[i];
        sum += fabs(w->g0[i]);
    }
    return search(w, value, w->s->lr * fmin(1, 1 / sum));
}

/* Is the direction finite and does it lead down by more than rounding? */
static int leads_down(const Work *w)
{
    const nn_dim n = w->s->n;
    const double slope = dot(n, w->d, w->g0);
    return slope < -1e-12 * sqrt(dot(n, w->d, w->d)) * sqrt(dot(n, w->g0, w->g0));
}

/* Curvature along the step that was made, or 0 where it is not positive beyond rounding. */
static double curvature(const Work *w)
{
    const nn_dim n = w->s->n;
    const double ys = dot(n, w->x, w->g);
    const double scale = sqrt(dot(n, w->x, w->x)) * sqrt(dot(n, w->g, w->g));
    return ys > precision(w->s) * scale ? ys : 0;
}

/* ---- rows of state ---- */

static void *row(const nn_second *s, int block, nn_dim i)
{
    return (unsigned char *)s->model->slots +
           (size_t)(s->state[block].offset + i * s->state[block].cols) *
               (size_t)s->model->info->real_bytes;
}

static double row_at(const nn_second *s, const void *r, nn_dim i)
{
    return is_double(s) ? ((const double *)r)[i] : (double)((const float *)r)[i];
}

static void row_set(const nn_second *s, void *r, nn_dim i, double v)
{
    if (is_double(s))
        ((double *)r)[i] = v;
    else
        ((float *)r)[i] = (float)v;
}

static double row_dot(const nn_second *s, const void *r, const double *v)
{
    if (is_double(s)) return dot(s->n, r, v);
    const float *f = r;
    const nn_dim n = s->n;
    double sum[LANES] = { 0 };
    nn_dim i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) sum[k] += (double)f[i + k] * v[i + k];
    for (int k = 0; i < n; i++, k++) sum[k] += (double)f[i] * v[i];
    return add_lanes(sum);
}

/* v += a r */
static void row_add(const nn_second *s, double a, const void *r, double *v)
{
    for (nn_dim i = 0; i < s->n; i++) v[i] += a * row_at(s, r, i);
}

/* ---- lbfgs ---- */

enum { LBFGS_S, LBFGS_Y, LBFGS_MAX = 100 };

/* Two-loop recursion (algorithm 7.4). Rows are pairs from new to old; those that are not in use are zero. */
static int lbfgs_direction(Work *w)
{
    const nn_second *s = w->s;
    const nn_dim history = s->state[LBFGS_S].rows < LBFGS_MAX ? s->state[LBFGS_S].rows : LBFGS_MAX;
    double rho[LBFGS_MAX], alpha[LBFGS_MAX], scale = 0;
    int used = 0;
    for (nn_dim i = 0; i < s->n; i++) w->d[i] = -w->g0[i];
    for (; used < history; used++) {
        const void *si = row(s, LBFGS_S, used), *yi = row(s, LBFGS_Y, used);
        for (nn_dim i = 0; i < s->n; i++) w->v[i] = row_at(s, yi, i);
        const double ys = row_dot(s, si, w->v);
        if (!(ys > 0)) break;
        if (used == 0) scale = ys / dot(s->n, w->v, w->v);
        rho[used] = 1 / ys;
        alpha[used] = rho[used] * row_dot(s, si, w->d);
        row_add(s, -alpha[used], yi, w->d);
    }
    if (used == 0) return 0;
    for (nn_dim i = 0; i < s->n; i++) w->d[i] *= scale;
    for (int k = used; k-- > 0;) {
        const double beta = rho[k] * row_dot(s, row(s, LBFGS_Y, k), w->d);
        row_add(s, alpha[k] - beta, row(s, LBFGS_S, k), w->d);
    }
    return leads_down(w);
}

static void lbfgs_push(const nn_second *s, int block, const double *v)
{
    const size_t bytes = (size_t)s->state[block].cols * (size_t)s->model->info->real_bytes;
    unsigned char *first = row(s, block, 0);
    memmove(first + bytes, first, bytes * (size_t)(s->state[block].rows - 1));
    for (nn_dim i = 0; i < s->n; i++) row_set(s, first, i, v[i]);
}

static void forget(const nn_second *s, int block)
{
    const nn_block *b = &s->state[block];
    memset(row(s, block, 0), 0, (size_t)(b->rows * b->cols) * (size_t)s->model->info->real_bytes);
}

nn_status nn_lbfgs(const nn_second *s)
{
    Work w = work_of(s);
    double value;
    nn_status status = begin(&w, &value);
    if (status != NN_OK) return status;
    int fresh = !lbfgs_direction(&w);
    status = fresh ? NN_ESEARCH : search(&w, value, s->lr);
    if (status != NN_OK) {
        fresh = 1;
        status = search_downhill(&w, value);
    }
    if (status != NN_OK) return status;
    if (fresh) {
        forget(s, LBFGS_S);
        forget(s, LBFGS_Y);
    }
    if (curvature(&w) > 0) {
        lbfgs_push(s, LBFGS_S, w.x);
        lbfgs_push(s, LBFGS_Y, w.g);
    }
    return NN_OK;
}

/* ---- dfp and bfgs ---- */

enum { INVERSE };

/* d = -H g0. A matrix that was never set has a zero in its corner, which no positive definite one has. */
static int dense_direction(Work *w)
{
    const nn_second *s = w->s;
    if (!(row_at(s, row(s, INVERSE, 0), 0) > 0)) return 0;
    for (nn_dim i = 0; i < s->n; i++) w->d[i] = -row_dot(s, row(s, INVERSE, i), w->g0);
    return leads_down(w);
}

static void dense_update(Work *w, int is_bfgs, int fresh)
{
    const nn_second *s = w->s;
    const nn_dim n = s->n;
    const double *const step = w->x, *const y = w->g;
    double *const hy = w->v;
    const double ys = curvature(w);
    if (fresh) {
        /* The identity, scaled to the curvature just seen (6.20). */
        const double scale = ys > 0 ? ys / dot(n, y, y) : 0;
        forget(s, INVERSE);
        for (nn_dim i = 0; i < n; i++) row_set(s, row(s, INVERSE, i), i, scale);
    }
    if (!(ys > 0)) return;
    for (nn_dim i = 0; i < n; i++) hy[i] = row_dot(s, row(s, INVERSE, i), y);
    const double yhy = dot(n, y, hy), rho = 1 / ys;
    if (!is_bfgs && !(yhy > 0)) return;
    const double a = is_bfgs ? rho * (1 + rho * yhy) : rho;
    for (nn_dim i = 0; i < n; i++) {
        void *r = row(s, INVERSE, i);
        for (nn_dim j = 0; j < n; j++) {
            /* Symmetric bit for bit: every product and sum is the same with i and j exchanged. */
            const double change =
                is_bfgs ? rho * (step[i] * hy[j] + hy[i] * step[j]) : hy[i] * hy[j] / yhy;
            row_set(s, r, j, row_at(s, r, j) + (a * (step[i] * step[j]) - change));
        }
    }
}

static nn_status dense_step(const nn_second *s, int is_bfgs)
{
    Work w = work_of(s);
    double value;
    nn_status status = begin(&w, &value);
    if (status != NN_OK) return status;
    int fresh = !dense_direction(&w);
    status = fresh ? NN_ESEARCH : search(&w, value, s->lr);
    if (status != NN_OK) {
        fresh = 1;
        status = search_downhill(&w, value);
    }
    if (status != NN_OK) return status;
    dense_update(&w, is_bfgs, fresh);
    return NN_OK;
}

nn_status nn_bfgs(const nn_second *s)
{
    return dense_step(s, 1);
}

nn_status nn_dfp(const nn_second *s)
{
    return dense_step(s, 0);
}

/* ---- newton ---- */

/* The Hessian of loss and penalty, a column a product with a unit vector; made symmetric, which rounding is not.
 * Uses w->x and w->v, as memory of the object's type. */
static nn_status hessian(Work *w, double *h)
{
    const nn_second *s = w->s;
    const nn_dim n = s->n;
    void *const unit = w->x, *const product = w->v;
    for (nn_dim i = 0; i < n; i++) row_set(s, unit, i, 0);
    for (nn_dim j = 0; j < n; j++) {
        double *column = h + j * n;
        row_set(s, unit, j, 1);
        s->product(s->ctx, unit, product);
        row_set(s, unit, j, 0);
        for (nn_dim i = 0; i < n; i++) column[i] = row_at(s, product, i);
        column[j] += s->weight_decay;
        if (!isfinite(largest(n, column))) return NN_ENONFINITE;
    }
    for (nn_dim i = 0; i < n; i++)
        for (nn_dim j = 0; j < i; j++)
            h[i * n + j] = h[j * n + i] = 0.5 * (h[i * n + j] + h[j * n + i]);
    return NN_OK;
}

/* l l' = h + damping; 0 when that is not positive definite beyond rounding. */
static int cholesky(nn_dim n, const double *h, double damping, double least, double *l)
{
    for (nn_dim i = 0; i < n; i++)
        for (nn_dim j = 0; j <= i; j++) {
            const double sum = h[i * n + j] + (i == j ? damping : 0) - dot(j, l + i * n, l + j * n);
            if (i != j)
                l[i * n + j] = sum / l[j * n + j];
            else if (sum > least)
                l[i * n + i] = sqrt(sum);
            else
                return 0;
        }
    return 1;
}

/* d = -(l l')^-1 g */
static void solve(nn_dim n, const double *l, const double *g, double *d)
{
    for (nn_dim i = 0; i < n; i++) d[i] = (-g[i] - dot(i, l + i * n, d)) / l[i * n + i];
    for (nn_dim i = n; i-- > 0;) {
        d[i] /= l[i * n + i];
        for (nn_dim j = 0; j < i; j++) d[j] -= l[i * n + j] * d[i];
    }
}

nn_status nn_newton(const nn_second *s)
{
    Work w = work_of(s);
    const nn_dim n = s->n;
    double *const h = w.rest, *const l = h + n * n;
    double value;
    nn_status status = begin(&w, &value);
    if (status != NN_OK) return status;
    status = hessian(&w, h);
    if (status != NN_OK) return status;
    const double most = largest(n * n, h), least = 10 * precision(s) * most;
    double smallest = INFINITY;
    for (nn_dim i = 0; i < n; i++) smallest = fmin(smallest, h[i * n + i]);
    /* Levenberg: as much of the identity as makes it positive definite (algorithm 3.3). */
    double damping = smallest > 0 ? 0 : 1e-3 * most - smallest;
    int definite = 0;
    for (int tries = 0; tries < 64 && !definite; tries++) {
        definite = cholesky(n, h, damping, least, l);
        if (!definite) damping = fmax(2 * damping, 1e-3 * most);
    }
    status = NN_ESEARCH;
    if (definite) {
        solve(n, l, w.g0, w.d);
        if (leads_down(&w)) status = search(&w, value, s->lr);
    }
    return status == NN_OK ? NN_OK : search_downhill(&w, value);
}
