/* SPDX-License-Identifier: MIT */
#include "ir/type.h"

#include <string.h>

static const int64_t NUMEL_LIMIT = INT64_C(1) << 48;

TensorType type_scalar(DType t)
{
    return (TensorType){ .dtype = t };
}

TensorType type_of(DType t, int rank, const int64_t *dim)
{
    TensorType type = { .dtype = t, .rank = rank };
    for (int i = 0; i < rank; i++) type.dim[i] = dim[i];
    return type;
}

bool type_same_shape(const TensorType *a, const TensorType *b)
{
    if (a->rank != b->rank || a->batch != b->batch) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

bool type_equal(const TensorType *a, const TensorType *b)
{
    return a->dtype == b->dtype && type_same_shape(a, b);
}

bool type_is_scalar(const TensorType *t)
{
    return t->rank == 0;
}

int64_t type_numel_max(const TensorType *t)
{
    int64_t n = t->batch ? t->batch->hi : 1;
    for (int i = 0; i < t->rank; i++)
        if (__builtin_mul_overflow(n, t->dim[i], &n) || n > NUMEL_LIMIT) return -1;
    return n;
}

int64_t type_numel(const TensorType *t, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++) n *= t->dim[i];
    return n;
}

int64_t dtype_size(DType t, bool real_is_f64)
{
    static const int64_t size[] = { [DT_F32] = 4, [DT_I32] = 4, [DT_U8] = 1, [DT_BOOL] = 1 };
    return t == DT_F32 && real_is_f64 ? 8 : size[t];
}

const char *dtype_name(DType t)
{
    static const char *const name[] = {
        [DT_F32] = "f32", [DT_I32] = "i32", [DT_U8] = "u8", [DT_BOOL] = "bool"
    };
    return name[t];
}

const char *layout_name(Layout l)
{
    static const char *const name[] = { "canonical", "channels_last", "kernel", "kernel_t" };
    return name[l];
}

void layout_order(Layout l, int rank, int order[MAX_RANK])
{
    static const int orders4[N_LAYOUTS][4] = {
        [LAYOUT_CANONICAL] = { 0, 1, 2, 3 }, [LAYOUT_CHANNELS_LAST] = { 0, 2, 3, 1 },
        [LAYOUT_KERNEL] = { 2, 3, 1, 0 },    [LAYOUT_KERNEL_T] = { 2, 3, 0, 1 },
    };
    for (int i = 0; i < rank; i++)
        order[i] = rank == 4                                        ? orders4[l][i]
                   : (rank == 2 || rank == 3) && l == LAYOUT_KERNEL ? rank - 1 - i
                                                                    : i;
}

bool layout_suits(Layout l, int rank)
{
    return l == LAYOUT_CANONICAL || rank == 4 || (l == LAYOUT_KERNEL && (rank == 2 || rank == 3));
}

void type_strides(const TensorType *t, int64_t stride[MAX_RANK])
{
    int order[MAX_RANK];
    int64_t step = 1;
    layout_order(t->layout, t->rank, order);
    for (int i = t->rank - 1; i >= 0; i--) {
        stride[order[i]] = step;
        step *= t->dim[order[i]];
    }
}

/* The axes longer than one, from the slowest to the fastest varying; a batched axis counts as long. */
static int long_axes(const TensorType *t, Layout l, int axis[MAX_RANK])
{
    int order[MAX_RANK], n = 0;
    layout_order(l, t->rank, order);
    for (int i = 0; i < t->rank; i++)
        if (t->dim[order[i]] != 1 || (order[i] == 0 && t->batch)) axis[n++] = order[i];
    return n;
}

bool type_layouts_coincide(const TensorType *t, Layout a, Layout b)
{
    int oa[MAX_RANK], ob[MAX_RANK];
    const int na = long_axes(t, a, oa);
    long_axes(t, b, ob);
    for (int i = 0; i < na; i++)
        if (oa[i] != ob[i]) return false;
    return true;
}

bool type_carries_layout(const TensorType *from, const TensorType *to, Layout *l)
{
    int in[MAX_RANK], out[MAX_RANK], rank_in[MAX_RANK] = { 0 }, rank_out[MAX_RANK] = { 0 };
    const int n = long_axes(from, LAYOUT_CANONICAL, in);
    if (from->batch != to->batch || long_axes(to, LAYOUT_CANONICAL, out) != n) return false;
    for (int i = 0; i < n; i++) {
        if (from->dim[in[i]] != to->dim[out[i]]) return false;
        rank_in[in[i]] = rank_out[out[i]] = i;
    }
    long_axes(from, from->layout, in);
    for (*l = LAYOUT_CANONICAL; *l < N_LAYOUTS; (*l)++) {
        if (!layout_suits(*l, to->rank)) continue;
        int k = 0;
        long_axes(to, *l, out);
        while (k < n && rank_in[in[k]] == rank_out[out[k]]) k++;
        if (k == n) return true;
    }
    return false;
}

void type_print(StrBuf *sb, const TensorType *t)
{
    sb_printf(sb, "%s[", dtype_name(t->dtype));
    for (int i = 0; i < t->rank; i++) {
        if (i) sb_putc(sb, ',');
        if (i == 0 && t->batch) {
            if (t->dim[0] != 1) sb_printf(sb, "%lld*", (long long)t->dim[0]);
            sb_puts(sb, t->batch->name);
        } else {
            sb_printf(sb, "%lld", (long long)t->dim[i]);
        }
    }
    sb_putc(sb, ']');
}

const char *type_text(Arena *a, const TensorType *t)
{
    StrBuf sb;
    sb_init(&sb, a);
    type_print(&sb, t);
    return sb.text;
}

bool type_broadcast(const TensorType *a, const TensorType *b, TensorType *out, int *axis)
{
    const TensorType *big = a->rank >= b->rank ? a : b, *small = big == a ? b : a;
    const int lead = big->rank - small->rank;
    *out = *big;
    out->layout = LAYOUT_CANONICAL;
    for (int i = 0; i < small->rank; i++) {
        const int o = lead + i;
        const DimVar *db = o == 0 ? big->batch : NULL, *ds = i == 0 ? small->batch : NULL;
        const bool big_is_one = big->dim[o] == 1 && !db, small_is_one = small->dim[i] == 1 && !ds;
        if (big->dim[o] == small->dim[i] && db == ds) continue;
        if (small_is_one) continue;
        *axis = o;
        if (!big_is_one || (ds && o != 0)) return false;
        out->dim[o] = small->dim[i];
        if (o == 0) out->batch = ds;
    }
    return true;
}
