"""Hashes of the judged programs' results, compiled reproducibly on this machine: a line of JSON.

Run by itself, here and on emulated boards, whose lines must be equal:
``python tests/boards/bits.py [NAME ...]``. The hash is that of tools/boards/c/probe.c, and ``write`` has C
take the same steps.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

import flatgrad as fg
from flatgrad.func.tree import flatten, map_leaves

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.workloads import WORKLOADS, workload

__all__ = ["bits", "write"]

ROUNDS = 20
# How results become the next call's first arguments, of programs that are steps.
AGAIN = {
    "digits": lambda out: out[1:3],
    "cnn": lambda out: out[1:3],
    "ekf": lambda out: out[:2],
    "ekf_f32": lambda out: out[:2],
}


def bits(name: str) -> str:
    """The hash of all results of one call, or of twenty that go on from each other."""
    it = workload(name)
    given = map_leaves(np.copy, it.example)
    step = fg.compile(it.function, *it.example, donate_argnums=it.donate_argnums, reproducible=True)
    found, words = 0, 0
    for _ in range(ROUNDS if name in AGAIN else 1):
        out = step(*given)
        for x in flatten(out)[0]:
            x = np.asarray(x, it.dtype)  # a single number comes as Python's
            found += mixed(x, words)
            words += x.size
        if name in AGAIN:
            again = tuple(AGAIN[name](out))
            alike = map_leaves(lambda x, y: np.array(y, x.dtype), given[: len(again)], again)
            given = (*alike, *given[len(again) :])
    return f"{found % 2**64:016x}"


def mixed(x: np.ndarray, words: int) -> int:
    """The sum over the words of an array, each mixed with its place, of which `words` lie before."""
    if x.dtype.kind == "f":
        x = np.where(np.isnan(x), x.dtype.type(np.nan), x)
    word = np.ascontiguousarray(x).reshape(-1).view(f"u{x.dtype.itemsize}").astype(np.uint64)
    place = np.arange(words + 1, words + 1 + x.size, dtype=np.uint64)
    word += place * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ word >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ word >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return int((word ^ word >> np.uint64(31)).sum(dtype=np.uint64))


MAIN = """\
#include "{name}.h"
{arrays}
int main(void)
{{
    static const {type} *in[{inputs}];
    static {type} *out[{outputs}];
    static uint64_t work[{work} / 8 + 16];
    int round;
{places}
    for (round = 0; round < {rounds}; round++) {{
        size_t k;
        if ({name}(in, out, (void *)(((uintptr_t)work + 63) / 64 * 64)) != 0) return 1;
        for (k = 0; k < sizeof again / sizeof *again; k++)
            if (again[k][1] >= 0) move((void *)in[again[k][0]], out[again[k][1]], (size_t)again[k][2]);
    }}
    return 0;
}}
"""
MOVE = """\
static void move(void *to, const void *from, size_t bytes)
{
    size_t k;
    for (k = 0; k < bytes; k++) ((unsigned char *)to)[k] = ((const unsigned char *)from)[k];
}
"""


def write(made, folder: Path) -> None:
    """Replace the self-test of an export in `folder` by the calls of `bits`."""
    name = made.name.removeprefix("fn_")
    it = workload(name)
    leaves = [np.asarray(x) for x in flatten(it.example)[0]]
    results = made.printed.results
    arrays, places = [MOVE], []
    for k, x in enumerate(leaves):
        words = x.reshape(-1).view(f"u{x.dtype.itemsize}").tolist() or [0]
        numbers = ", ".join(f"UINT{8 * x.dtype.itemsize}_C({w})" for w in words)
        kind = f"uint{8 * x.dtype.itemsize}_t"
        arrays.append(f"static {kind} x{k}[] = {{{numbers}}};")
        places.append(f"    in[{k}] = (const void *)x{k};")
    for k, b in enumerate(results):
        if b in made.printed.inputs:  # updated where it is
            places.append(f"    out[{k}] = NULL;")
            continue
        arrays.append(f"static uint64_t y{k}[{b.size * b.dtype.itemsize // 8 + 1}];")
        places.append(f"    out[{k}] = (void *)y{k};")
    arrays.append(f"static const long again[][3] = {{{_again(name, it, results, made)}}};")
    text = MAIN.format(
        name=made.name,
        type=made.printed.ctype,
        arrays="\n".join(arrays),
        places="\n".join(places),
        inputs=len(leaves),
        outputs=len(results),
        work=made.memory["work"],
        rounds=ROUNDS if name in AGAIN else 1,
    )
    (folder / f"{made.name}_test.c").write_text(text)


def _again(name, it, results, made) -> str:
    """{argument, result, bytes} of what is handed on and not updated where it is; result -1: nothing."""
    rows = []
    if name in AGAIN:
        count = iter(range(len(results)))
        with fg.set_compile("never"):
            shapes = fg.jit(it.function)(*it.example)
        which = map_leaves(lambda _: next(count), shapes)
        for j, k in enumerate(flatten(tuple(AGAIN[name](which)))[0]):
            b = results[k]
            if b not in made.printed.inputs:
                rows.append(f"{{{j}, {k}, {b.size * b.dtype.itemsize}}}")
    return ", ".join(rows) or "{0, -1, 0}"


if __name__ == "__main__":
    fg.set_compile("always")
    print(json.dumps({name: bits(name) for name in sys.argv[1:] or WORKLOADS}))
