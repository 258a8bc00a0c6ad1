"""Every scalar function under -ffast-math: the bits that it gives without, for NaN and infinity as well."""

import functools
import subprocess

import numpy as np
import pytest
from tools.boards.machines import BOARDS

import flatgrad as fg
from boards.emulated import board_named, seen
from flatgrad.emit.mathlib import FUNCTIONS

pytestmark = pytest.mark.boards

ONE = [n for n, d in FUNCTIONS.items() if d.arity == 1]
ONE += ["isnan", "isinf", "isfinite", "signbit", "sign", "sqrt", "abs", "relu"]
ONE += ["floor", "ceil", "trunc", "round"]
TWO = [n for n, d in FUNCTIONS.items() if d.arity == 2]
TWO += ["maximum", "minimum", "fmax", "fmin", "fmod", "remainder", "floor_divide", "copysign"]
TWO += ["lt", "ge", "eq", "ne"]

# Of gcc: clang assumes away NaN and infinity on its command line's word, which no pragma takes back.
WAYS = [
    ("x86-64", "-O3 -ffast-math"),
    ("x86-64-native", "-Ofast"),
    ("a53", "-O3 -ffast-math"),
    ("a72", "-Ofast"),
    ("m4f", "-O2 -ffast-math"),
    ("m7", "-O2 -ffast-math"),
]


def everything(x, y):
    """Results of all functions, and what choices and extrema make of NaN."""
    found = [getattr(fg, name)(x) for name in ONE] + [getattr(fg, name)(x, y) for name in TWO]
    found += [fg.where(x != x, y, x), x.amax(), x.amin(), fg.nan_to_num(x), x.clamp(-1.0, 1.0)]
    return [r.to(x.dtype) if r.dtype == fg.bool else r for r in found]


def points(dtype, subnormal: bool):
    """Two columns: edges of all kinds in every pairing, and numbers of all sizes."""
    limits = np.finfo(dtype)
    edges = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 40.0, limits.eps, limits.max, np.inf, 1e5, 2.0**30]
    edges += [limits.smallest_subnormal, limits.tiny / 4] if subnormal else []
    edges = np.array([*edges, *(-e for e in edges), np.nan], dtype)
    x, y = (p.ravel() for p in np.meshgrid(edges, edges))
    rng = np.random.default_rng(3)
    sizes = [rng.standard_normal(60) * s for s in (0.1, 1.0, 10.0)]
    mixed = np.concatenate(sizes).astype(dtype)
    return np.concatenate([x, mixed]), np.concatenate([y, mixed[::-1]])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    @functools.cache
    def make(dtype, target, subnormal=True):
        place = tmp_path_factory.mktemp("everything")
        given = points(np.dtype(dtype), subnormal)
        how = {"name": "everything", "path": place, "target": target, "reproducible": True}
        return fg.export(everything, *given, **how)

    return make


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("board,flags", WAYS)
def test_bits_do_not_change(exported, tmp_path, board, flags, dtype):
    found = []
    for where, how in (("x86-64", "-O1"), (board, flags)):
        made = exported(dtype, BOARDS[where].target)
        place = tmp_path / f"{where}{how[:3]}"
        libraries = tuple(made.libraries)
        found.append(seen(made.path, made.name, where, place, *how.split(), libraries=libraries)[1])
    assert found[0].bits == found[1].bits


MAIN = """\
#include <stdio.h>
#include "everything.h"
int main(void)
{{
    static {t} x[2][{n}];
    static uint64_t work[{work} / 8 + 16];
    const {t} *in[2] = {{x[0], x[1]}};
{arrays}
    {t} *out[] = {{{names}}};
    if (fread(x, sizeof x, 1, stdin) != 1) return 2;
    if (everything(in, out, (void *)(((uintptr_t)work + 63) / 64 * 64)) != 0) return 1;
{writes}
    return 0;
}}
"""


def results(made, board, flags, place, x, y):
    """All results of a call, from a program for `board`."""
    place.mkdir()
    sizes = [b.size for b in made.printed.results]
    t = made.printed.ctype
    words = {
        "t": t,
        "n": x.size,
        "work": made.memory["work"],
        "arrays": "\n".join(f"    static {t} y{k}[{n}];" for k, n in enumerate(sizes)),
        "names": ", ".join(f"y{k}" for k in range(len(sizes))),
        "writes": "\n".join(
            f"    if (fwrite(y{k}, sizeof y{k}, 1, stdout) != 1) return 3;"
            for k in range(len(sizes))
        ),
    }
    (place / "main.c").write_text(MAIN.format(**words))
    command = [*board.compiler, "-std=c99", *board.flags, "-I", str(made.path)]
    objects = [str(place / "everything.o"), str(place / "main.o")]
    source = made.files["everything.c"]
    subprocess.run([*command, *flags, "-c", str(source), "-o", objects[0]], check=True)
    subprocess.run([*command, "-c", str(place / "main.c"), "-o", objects[1]], check=True)
    program = str(place / "program")
    subprocess.run([*board.compiler, *board.flags, *objects, "-o", program, "-lm"], check=True)
    given = x.tobytes() + y.tobytes()
    done = subprocess.run([*board.runner, program], input=given, capture_output=True, check=True)
    return np.split(np.frombuffer(done.stdout, x.dtype), np.cumsum(sizes)[:-1])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_neon_of_32_bits_is_close(exported, tmp_path, dtype):
    """gcc uses it for floats under -ffast-math alone, and then sums are put together in other ways."""
    board = board_named("a7")
    made = exported(dtype, "rpi2", False)
    x, y = points(np.dtype(dtype), False)
    exact = results(made, board, ["-O1"], tmp_path / "exact", x, y)
    fast = results(made, board, ["-O3", "-ffast-math"], tmp_path / "fast", x, y)
    for name, a, b in zip(
        [*ONE, *TWO, "where", "amax", "amin", "nan_to_num", "clamp"], exact, fast, strict=True
    ):
        limits = np.finfo(dtype)
        np.testing.assert_allclose(b, a, rtol=2 * limits.eps, atol=limits.tiny, err_msg=name)
        told = np.abs(a) >= limits.tiny
        np.testing.assert_array_equal(np.signbit(a[told]), np.signbit(b[told]), err_msg=name)
