# SPDX-License-Identifier: MIT
# Attention, encodings of positions, and the transformer's layer.

def seq(name, code, fn, x, params=None, **more):
    case(name, code, fn, x=("F32", x, -1, 1), params=params or {}, f32=1e-5, **more)


def qkv(name, args, n, h, t_, s, d, **torch_args):
    case(name, f"attention(q, k, v{args})",
         lambda t: F.scaled_dot_product_attention(t["q"], t["k"], t["v"], **torch_args), f32=1e-5,
         q=("F32", [n, h, t_, d], -2, 2), k=("F32", [n, h, s, d], -2, 2), v=("F32", [n, h, s, d], -2, 2))


qkv("attention", "", 2, 3, 5, 5, 4)
qkv("attention_causal", ", causal = true", 2, 3, 5, 5, 4, is_causal=True)
qkv("attention_cross", "", 1, 2, 3, 7, 4)
qkv("attention_one", ", causal = true", 1, 1, 1, 1, 1, is_causal=True)


def heads(path, d, e, bias=True):
    out = {}
    for name, size in ("q", d), ("k", e), ("v", e), ("out", d):
        out[f"{path}{name}.weight"] = ([d, size], -0.5, 0.5)
        if bias:
            out[f"{path}{name}.bias"] = ([d], -0.5, 0.5)
    return out


def multi_head(t, path, x, memory, n, causal=False):
    """torch's own, from the four projections."""
    w = [t[f"{path}{k}.weight"] for k in "qkv"]
    b = [t.get(f"{path}{k}.bias") for k in "qkv"]
    mask = torch.triu(torch.ones(x.shape[1], memory.shape[1], dtype=torch.bool), 1) if causal else None
    y, _ = F.multi_head_attention_forward(
        x.transpose(0, 1), memory.transpose(0, 1), memory.transpose(0, 1), x.shape[2], n, None,
        None if b[0] is None else torch.cat(b), None, None, False, 0.0, t[f"{path}out.weight"],
        t.get(f"{path}out.bias"), training=False, need_weights=False, attn_mask=mask,
        use_separate_proj_weight=True, q_proj_weight=w[0], k_proj_weight=w[1], v_proj_weight=w[2])
    return y.transpose(0, 1)


seq("multi_head", "multi_head_attention(x, heads = 2) @op", lambda t: multi_head(t, "op.", t["x"], t["x"], 2), [2, 5, 6],
    heads("op.", 6, 6), no_grad=("op.k.bias",))
seq("multi_head_causal", "multi_head_attention(x, heads = 3, causal = true, bias = false) @op",
    lambda t: multi_head(t, "op.", t["x"], t["x"], 3, True), [2, 5, 6], heads("op.", 6, 6, False))
seq("multi_head_cross", "multi_head_attention(x, m, heads = 2) @op",
    lambda t: multi_head(t, "op.", t["x"], t["m"], 2), [2, 3, 6], heads("op.", 6, 4), no_grad=("op.k.bias",), m=("F32", [2, 5, 4], -1, 1))


def sinusoid(length, d):
    t = torch.arange(length).double().view(-1, 1)
    i = torch.arange(d // 2).double()
    angle = t / 10000 ** (2 * i / d)
    return torch.stack((torch.sin(angle), torch.cos(angle)), 2).view(length, d)


seq("positional_encoding", "positional_encoding(x)", lambda t: t["x"] + sinusoid(50, 8), [2, 50, 8])
seq("learned_positions", "learned_positions(x) @op", lambda t: t["x"] + t["op.weight"], [2, 5, 8],
    {"op.weight": ([5, 8], -1, 1)})


def encoder(name, args, torch_args, causal=False):
    d, n, hidden = 6, 2, 10
    params = heads("op.attention.", d, d)
    for k in "norm1", "norm2":
        params[f"op.{k}.weight"], params[f"op.{k}.bias"] = ([d], 0.5, 1.5), ([d], -0.5, 0.5)
    params.update({"op.ff.up.weight": ([hidden, d], -0.5, 0.5), "op.ff.up.bias": ([hidden], -0.5, 0.5),
                   "op.ff.down.weight": ([d, hidden], -0.5, 0.5), "op.ff.down.bias": ([d], -0.5, 0.5)})
    layer = torch.nn.TransformerEncoderLayer(d, n, hidden, 0.0, batch_first=True, **torch_args).double()

    def fn(t):
        p = {"self_attn.in_proj_weight": torch.cat([t[f"op.attention.{k}.weight"] for k in "qkv"]),
             "self_attn.in_proj_bias": torch.cat([t[f"op.attention.{k}.bias"] for k in "qkv"])}
        for ours, theirs in (("attention.out", "self_attn.out_proj"), ("ff.up", "linear1"), ("ff.down", "linear2"),
                             ("norm1", "norm1"), ("norm2", "norm2")):
            for k in "weight", "bias":
                p[f"{theirs}.{k}"] = t[f"op.{ours}.{k}"]
        mask = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1) if causal else None
        return torch.func.functional_call(layer, p, (t["x"],), {"src_mask": mask})

    # softmax takes no notice of the bias of k, whose gradient is zero.
    seq(name, f"transformer_encoder_layer(x, {n}, {hidden}, p = 0{args}) @op", fn, [2, 5, d], params,
        no_grad=("op.attention.k.bias",))


encoder("encoder_layer", "", {})
encoder("encoder_layer_causal", ", causal = true", {}, True)
encoder("encoder_layer_norm_first", ", norm_first = true, causal = true", {"norm_first": True}, True)
