#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""same_numbers.py A B: every tensor of two safetensors files agrees to 1e-9 (relative, largest element)."""
import json
import struct
import sys


def read(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    out = {}
    for name, t in json.loads(data[8:8 + n]).items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            assert t["dtype"] == "F64", name
            out[name] = struct.unpack(f"<{(b - a) // 8}d", data[8 + n + a:8 + n + b])
    return out


a, b = read(sys.argv[1]), read(sys.argv[2])
bad = sorted(set(a) ^ set(b))
for name in set(a) & set(b):
    scale = max([abs(x) for x in a[name]] + [1e-300])
    worst = max([abs(x - y) for x, y in zip(a[name], b[name])] + [0.0])
    if not (len(a[name]) == len(b[name]) and worst <= 1e-9 * scale):
        bad.append(f"{name}: {worst / scale:.2e}")
print("\n".join(bad) or f"{len(a)} tensors agree")
sys.exit(1 if bad else 0)
