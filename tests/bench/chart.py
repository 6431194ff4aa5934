# SPDX-License-Identifier: MIT
"""The picture of a run: every model as a fraction of the FMA ceiling, beside its peers."""
from html import escape

COLOURS = {"nnc": "#1b6ca8", "eager": "#d98a29", "compile": "#b5542b", "channels_last": "#c9b037",
           "onnxruntime": "#5a8f53"}
NAMES = {"nnc": "nnc", "eager": "PyTorch eager", "compile": "torch.compile", "channels_last": "PyTorch channels last",
         "onnxruntime": "ONNX Runtime"}
LEFT, WIDE, BAR, GAP, TOP = 150, 560, 9, 10, 74


def text(x, y, s, **attributes):
    extra = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in attributes.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{extra}>{escape(s)}</text>'


def model_number(name):
    digits = "".join(c for c in name if c.isdigit())
    return (int(digits) if digits else 0, name)


def svg(records, details):
    """One group of bars for each record with the most threads of the run; longer is faster."""
    notes = {tuple(n["cell"]): n for n in details["notes"]}
    most = max((r["threads"] for r in records), default=1)
    rows = []
    for r in sorted(records, key=lambda r: (r["what"] != "train", model_number(r["model"]), r["batch"])):
        note = notes.get((r["model"], r["what"], r["batch"], r["threads"]))
        if r["threads"] != most or not note:
            continue
        bars = [("nnc", r["ours_ms"])] + [(p, r["peers"][p]) for p in COLOURS if p in r["peers"]]
        rows.append((f"{r['model']} {r['what']} B={r['batch']}",
                     [(p, note["gflop"] / (ms * 1e-3) / note["ceiling_gflops"]) for p, ms in bars]))
    top = max([1.0] + [f for _, bars in rows for _, f in bars])
    scale = WIDE / (1.02 * top)
    shown = [p for p in COLOURS if any(p == q for _, bars in rows for q, _ in bars)]
    out, y = [], TOP
    for label, bars in rows:
        out.append(text(LEFT - 8, y + BAR * len(bars) / 2 + 4, label, text_anchor="end"))
        for p, f in bars:
            out.append(f'<rect x="{LEFT}" y="{y}" width="{max(f * scale, 0.5):.1f}" height="{BAR - 1}" fill="{COLOURS[p]}"/>')
            out.append(text(LEFT + f * scale + 4, y + BAR - 1.5, f"{100 * f:.0f} %" if f >= 0.095 else f"{100 * f:.1f} %",
                            font_size=8, fill="#555"))
            y += BAR
        y += GAP
    lines = [f'<line x1="{LEFT + t / 4 * scale:.1f}" x2="{LEFT + t / 4 * scale:.1f}" y1="{TOP - 6}" y2="{y}" '
             f'stroke="{"#888" if t == 4 else "#ddd"}"/>' + text(LEFT + t / 4 * scale, TOP - 10, f"{25 * t} %",
                                                                 text_anchor="middle", font_size=9, fill="#555")
             for t in range(int(4 * top) + 1)]
    legend, x = [], LEFT
    for p in shown:
        legend.append(f'<rect x="{x}" y="34" width="10" height="10" fill="{COLOURS[p]}"/>' + text(x + 14, 43, NAMES[p]))
        x += 24 + 7 * len(NAMES[p])
    title = f"Fraction of the FMA ceiling, {most} thread{'s' if most > 1 else ''} (operations of the direct algorithm)"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDE + 50}" height="{y + 10}" '
            'font-family="sans-serif" font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n'
            + text(LEFT, 20, title, font_size=13) + "\n" + "\n".join(legend + lines + out) + "\n</svg>\n")
