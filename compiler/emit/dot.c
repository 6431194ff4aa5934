/* SPDX-License-Identifier: MIT
 *
 * --emit=dot: the graph as a picture. Every routine is a cluster, every layer a box inside it; what exists
 * only for gradients is drawn in another colour. Labels are escaped for Graphviz.
 */
#include "emit/emit.h"

#include <string.h>

static void put_label(StrBuf *out, const char *s)
{
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\' || c == '{' || c == '}' || c == '<' || c == '>' || c == '|')
            sb_putc(out, '\\');
        sb_putc(out, c < 32 || c > 126 ? '?' : (char)c);
    }
}

static bool *forward_nodes(const Module *m, const Routine *r)
{
    bool *forward = ARENA_ARRAY(m->arena, bool, r->nodes.len + 1);
    for (size_t i = r->nodes.len; i-- > 0;) {
        const Node *n = r->nodes.data[i];
        if (op_has(n, OPF_ROOT) && !op_is(n, &op_grad_store)) forward[i] = true;
        for (int k = 0; forward[i] && k < n->n_in; k++)
            if (n->in[k]) forward[n->in[k]->id] = true;
    }
    return forward;
}

static const char *root_target(const Module *m, const Routine *r, const Node *n)
{
    const int64_t i = ((const IndexAttrs *)n->attrs)->index;
    const bool port = op_is(n, &op_output) || op_is(n, &op_report);
    return port ? r->outputs.data[i].name : m->tensors.data[i]->path;
}

static void put_node(StrBuf *out, const Module *m, const Routine *r, const Node *n, bool forward)
{
    const bool source = op_has(n, OPF_SOURCE), root = op_has(n, OPF_ROOT);
    const char *fill = root ? "#f4cccc" : source ? "#eeeeee" : forward ? "#cfe2f3" : "#fce5cd";
    sb_printf(out, "    r%dn%d [shape=%s, fillcolor=\"%s\", label=\"", r->index, n->id,
              source || root ? "ellipse" : "box", fill);
    put_label(out, root ? n->op->name : n->name);
    if (root) {
        sb_puts(out, "\\n");
        put_label(out, root_target(m, r, n));
    } else if (op_is(n, &op_fused)) {
        const FusedAttrs *f = n->attrs;
        sb_puts(out, "\\n");
        for (int i = 0; i < f->n_steps; i++) {
            if (i) sb_puts(out, ", ");
            put_label(out, f->steps[i].op->name);
        }
    } else if (strncmp(n->name, n->op->name, strlen(n->op->name))) {
        sb_puts(out, "\\n");
        put_label(out, n->op->name);
    }
    sb_puts(out, "\"];\n");
}

void emit_dot(const Module *m, StrBuf *out)
{
    sb_printf(out, "digraph \"");
    put_label(out, m->name);
    sb_puts(out,
            "\" {\n  rankdir=TB;\n  node [style=filled, fontname=\"Helvetica\", fontsize=10];\n"
            "  edge [fontname=\"Helvetica\", fontsize=8];\n");
    for (size_t i = 0; i < m->routines.len; i++) {
        const Routine *r = m->routines.data[i];
        const bool *forward = forward_nodes(m, r);
        sb_printf(out, "  subgraph cluster_%d {\n    label=\"%s ", r->index,
                  r->kind == ROUTINE_STEP ? "step" : "infer");
        put_label(out, r->name);
        sb_puts(out, "\";\n");
        for (size_t k = 0; k < r->nodes.len; k++) put_node(out, m, r, r->nodes.data[k], forward[k]);
        for (size_t k = 0; k < r->nodes.len; k++) {
            const Node *n = r->nodes.data[k];
            for (int j = 0; j < n->n_in; j++) {
                if (!n->in[j]) continue;
                sb_printf(out, "    r%dn%d -> r%dn%d [label=\"", r->index, n->in[j]->id, r->index,
                          n->id);
                put_label(out, type_text(m->arena, &n->in[j]->type));
                sb_printf(out, "\"%s];\n",
                          forward[n->in[j]->id] && !forward[n->id] ? ", style=dashed" : "");
            }
        }
        sb_puts(out, "  }\n");
    }
    sb_puts(out, "}\n");
}
