#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Finds spills in hot loops: spills.py FILE reads what `objdump -d --no-show-raw-insn` of an x86-64 object prints. A
hot loop is an innermost one that does little but multiply-adds of whole vectors; what it must not do is to keep what it
computes in slots of the stack. Prints, for each function with a hot loop, `NAME: good` or what such loops do. Not meant
are arrays on the stack, which are reached through a pointer or an index, and values that a loop only reads, one for a
multiply-add at most: read from memory, an operand costs the same there as anywhere."""
import re
import sys

FMA = re.compile(r"vf(n?m(add|sub))\d*[ps][sd] .*%[yz]mm")
SLOT = re.compile(r"(?<![\w)])(-?0x[0-9a-f]+|)\(%(rsp|rbp)\)")
VECTOR = re.compile(r"%([yz])mm")
ARITHMETIC = re.compile(r"v(p?(add|sub|mul|div|max|min)|f\w+)\w*[ps][sd] .*%[yz]mm")


def functions(lines):
    name, body = None, []
    for line in lines:
        head = re.match(r"[0-9a-f]+ <([^>]+)>:$", line)
        if head:
            if name:
                yield name, body
            name, body = head[1], []
        else:
            code = re.match(r"\s*([0-9a-f]+):\s+(.*?)\s*$", line)
            if code:
                body.append((int(code[1], 16), code[2]))
    if name:
        yield name, body


def loops(body):
    """(first, last) addresses of innermost loops: from the target of a jump backwards to the jump."""
    found = []
    for at, text in body:
        jump = re.match(r"j\w+\s+([0-9a-f]+) ", text)
        if jump and int(jump[1], 16) <= at:
            found.append((int(jump[1], 16), at))
    return [a for a in found if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in found)]


def slots_of(code, framed):
    """Vectors moved from and to slots of the stack: (address, text, whether stored). What stores a register that the
    loop does not change prepares a slot for pieces of a row's end, and what reads such a slot or one that smaller
    pieces are stored to reads that end: neither is a spill."""
    changed = {text.split(",")[-1] for _, text in code}
    moves, pieces, ends = [], [], set()
    for at, text in code:
        slot = SLOT.search(text)
        if not slot or (slot[2] == "rbp" and not framed):
            continue
        size = max((64 if v == "z" else 32 for v in VECTOR.findall(text)), default=0)
        where, stored = (slot[2], int(slot[1] or "0", 16)), text.endswith(slot[0])
        if stored:
            pieces.append((where, size))
        if size and "broadcast" not in text:
            moves.append((at, text, stored, where, size))
            if stored and text.split()[1].split(",")[0] not in changed:
                ends.add(where)
    for move in moves:
        (base, at), size = move[3:]
        if any(p[0] == base and at <= p[1] < at + size and piece < size for p, piece in pieces):
            ends.add(move[3])
    return [move[:3] for move in moves if move[3] not in ends]


def spills(body):
    """How many hot loops there are, and for each that spills its multiply-adds and moves."""
    framed = any(re.match(r"mov\s+%rsp,%rbp", text) for _, text in body)
    hot, bad = 0, []
    for first, last in loops(body):
        code = [(at, text) for at, text in body if first <= at <= last]
        fma = sum(bool(FMA.match(text)) for _, text in code)
        if 4 * fma < 3 * sum(bool(ARITHMETIC.match(text)) for _, text in code) or not fma:
            continue
        hot += 1
        moves = slots_of(code, framed)
        if any(m[2] for m in moves) or len(moves) > fma:
            bad.append((fma, moves))
    return hot, bad


def callees(body):
    return {m[1] for _, text in body if (m := re.match(r"(?:call|jmp)\s+[0-9a-f]+ <([\w.]+)>", text))}


def main():
    seen = {}
    with open(sys.argv[1]) as f:
        for name, body in functions(f.read().splitlines()):
            seen[name] = (*spills(body), callees(body))
    for name, (hot, bad, calls) in seen.items():
        # A function may leave its loop to one that serves all layers.
        if not bad and (hot or any(seen[c][0] and not seen[c][1] for c in calls & seen.keys())):
            print(f"{name}: good")
        for fma, moves in bad:
            print(f"{name}: a loop of {fma} multiply-adds moves {len(moves)} vectors to or from the stack, first "
                  f"{moves[0][0]:x}: {moves[0][1]}")


if __name__ == "__main__":
    main()
