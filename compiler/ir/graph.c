/* SPDX-License-Identifier: MIT */
#include "ir/graph.h"

#include <string.h>

void routine_renumber(Routine *r)
{
    for (size_t i = 0; i < r->nodes.len; i++) r->nodes.data[i]->id = (int)i;
}

Tensor *module_find_tensor(const Module *m, const char *path)
{
    for (size_t i = 0; i < m->tensors.len; i++)
        if (strcmp(m->tensors.data[i]->path, path) == 0) return m->tensors.data[i];
    return NULL;
}

const char *span_text(Arena *a, Span s)
{
    if (!s.source) return "";
    const char *slash = strrchr(s.source->name, '/');
    return arena_printf(a, "%s:%d", slash ? slash + 1 : s.source->name, span_place(s).line);
}
