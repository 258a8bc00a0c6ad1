"""What the C file brings instead of a library, bit for bit: formulas, instructions, 32-bit ARM."""

from __future__ import annotations

import itertools
import math
import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pytest

from flatgrad.emit.c99.helpers import head, helper
from flatgrad.graph import dtypes

UNARY = ("sqrt", "rint", "trunc", "floor", "ceil", "abs")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's own, at the edges

FLOATS = (dtypes.float64, dtypes.float32)
INTEGERS = (dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64, dtypes.uint8)

# How the helpers are compiled. A compiler that is not GNU's sees the formulas alone.
GCC = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror"]
ARM = ["arm-linux-gnueabihf-gcc", "-std=c99", "-mcpu=cortex-a7", "-mfpu=neon-vfpv4", "-O3"]
WAYS = {
    "formulas": [*GCC, "-O2", "-ffp-contract=off", "-U__GNUC__"],
    "formulas, not optimised": [*GCC, "-O0", "-U__GNUC__"],
    "gcc": [*GCC, "-O2"],
    "gcc, not optimised": [*GCC, "-O0"],
    "gcc, anything goes": [*GCC, "-Ofast", "-march=native"],
    "gcc, freestanding": [*GCC, "-O2", "-ffreestanding"],
    "ARM": ARM,
    "ARM, anything goes": [*ARM, "-Ofast"],
}

DRIVER = """\
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
{declared}
static struct {{
    const char *name;
    int size, count;
    void (*each)(const void *, void *, ptrdiff_t);
}} all[] = {{
{table}
}};
/* NAME ROWS, arguments from stdin column by column; results to stdout. */
int main(int argc, char **argv)
{{
    const size_t rows = (size_t)atol(argv[2]);
    size_t k;
    for (k = 0; argc == 3 && k < sizeof all / sizeof *all; k++)
        if (!strcmp(all[k].name, argv[1])) {{
            const size_t size = (size_t)all[k].size, count = (size_t)all[k].count;
            void *given = malloc(rows * count * size), *found = malloc(rows * size);
            if (fread(given, size, rows * count, stdin) != rows * count) return 2;
            all[k].each(given, found, (ptrdiff_t)rows);
            return fwrite(found, size, rows, stdout) != rows;
        }}
    return 3;
}}
"""

EACH = """\
void each_{name}(const void *given, void *found, ptrdiff_t n)
{{
    const {t} *const x = given;
    {t} *const y = found;
    ptrdiff_t k;
    for (k = 0; k < n; k++)
        y[k] = {call};
}}
"""


def functions():
    """(name in C, C type, dtype, number of arguments) of every helper that computes."""
    for dtype in FLOATS:
        t = "double" if dtype is dtypes.float64 else "float"
        for name in (*UNARY, "fmod", "fma"):
            count = {"fmod": 2, "fma": 3}.get(name, 1)
            yield name, f"f{8 * dtype.itemsize}", t, dtype, count
    for dtype in INTEGERS:
        for name in ("floordiv", "mod"):
            kind = "i" if dtype.is_signed else "u"
            yield name, f"{kind}{8 * dtype.itemsize}", f"{dtype.name}_t", dtype, 2


def sources():
    """(the helpers and a loop around each, the program that feeds them)."""
    texts, parts, declared, table = {}, [], [], []

    def need(name, dtype):
        if (name, dtype) not in texts:
            needs, text = helper(name, dtype)
            for other in needs:
                need(*other)
            texts[name, dtype] = text

    for name, short, t, dtype, count in functions():
        need(name, dtype)
        whole = f"{name}_{short}"
        given = ", ".join(f"x[k + {j} * n]" if j else "x[k]" for j in range(count))
        parts.append(EACH.format(name=whole, t=t, call=f"fg_{whole}({given})"))
        declared.append(f"void each_{whole}(const void *, void *, ptrdiff_t);")
        table.append(f'    {{"{whole}", sizeof({t}), {count}, each_{whole}}},')
    before = "\n".join(d for d in declared)
    library = "\n".join([head(contract=False, vectors=True), *texts.values(), before, *parts])
    return library, DRIVER.format(declared=before, table="\n".join(table))


@pytest.fixture(scope="module", params=WAYS)
def compiled(request, tmp_path_factory):
    """compiled(name, *columns): what the helper gives for each row."""
    command = WAYS[request.param]
    emulator = ["qemu-arm-static", "-L", "/usr/arm-linux-gnueabihf"] if command[0] == ARM[0] else []
    for tool in (command[0], *emulator[:1]):
        if shutil.which(tool) is None:
            pytest.skip(f"NOTHING WAS COMPILED: no {tool}")
    place = tmp_path_factory.mktemp("helpers")
    library, driver = sources()
    (place / "helpers.c").write_text(library)
    (place / "driver.c").write_text(driver)
    objects = [str(place / "helpers.o"), str(place / "driver.o")]
    # The program that feeds the helpers needs its C library's headers: a compiler as it is.
    for goal, how in zip(objects, (command, command[:1]), strict=True):
        subprocess.run([*how, "-c", goal.replace(".o", ".c"), "-o", goal], check=True)
    # Linked without -ffast-math, which would switch subnormal numbers off.
    program = str(place / "program")
    subprocess.run([command[0], *objects, "-o", program, "-lm"], check=True)

    def call(name, *columns):
        given = b"".join(np.ascontiguousarray(c).tobytes() for c in columns)
        run = [*emulator, program, name, str(len(columns[0]))]
        done = subprocess.run(run, input=given, capture_output=True, check=True)
        return np.frombuffer(done.stdout, columns[0].dtype)

    # NEON knows no subnormal floats, and is used for floats under -Ofast.
    call.flushes = command[0] == ARM[0] and "-Ofast" in command
    return call


def edges(dtype) -> np.ndarray:
    """Zeros, infinities, NaN, the smallest and largest numbers, halves and what lies beside them."""
    kind = dtype.np
    limits = np.finfo(kind)
    whole = 2.0**limits.nmant
    marks = [limits.smallest_subnormal, limits.tiny, limits.max, limits.eps, whole, whole / 2, 3]
    marks += [0.5, 1, 1.5, 2, 2.5, 4, 2.0**31, 2.0**62, 2 * whole, whole - 0.5, limits.tiny / 2]
    marks = np.array([*marks, 0.0, np.inf], kind)
    beside = [np.nextafter(marks, kind.type(np.inf)), np.nextafter(marks, kind.type(0))]
    found = np.unique(np.concatenate([marks, *beside]))
    return np.concatenate([found, -found, np.array([np.nan], kind)])


def numbers(dtype, count: int) -> np.ndarray:
    """Edges, any bit patterns, and numbers with few digits behind the point."""
    rng = np.random.default_rng(7)
    kind = dtype.np
    any_bits = rng.integers(0, 256, count * dtype.itemsize, dtype=np.uint8).view(kind)
    near = rng.integers(-4000, 4000, count) / 8
    return np.concatenate([edges(dtype), any_bits, near.astype(kind)])


def same_bits(found, expected):
    """Equal with the sign of zero; any NaN is a NaN."""
    word = f"u{found.dtype.itemsize}"
    if found.dtype.kind == "f":
        assert expected.dtype == found.dtype
        both = np.isnan(found) & np.isnan(expected)
        found, expected = np.where(both, 0, found), np.where(both, 0, expected)
    wrong = np.flatnonzero(found.view(word) != expected.view(word))
    assert not wrong.size, (wrong[:4], found[wrong[:4]], expected[wrong[:4]])


def subnormal(*arrays) -> np.ndarray:
    """Where one of some arrays of float32 has a number that NEON takes for zero."""
    found = [(a != 0) & (np.abs(a) < np.finfo(np.float32).tiny) for a in arrays]
    return (
        np.any(found, axis=0) if arrays[0].dtype == np.float32 else np.zeros(arrays[0].shape, bool)
    )


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_roundings_and_roots(compiled, name, dtype):
    x = numbers(dtype, 20000)
    if compiled.flushes:
        x = x[~subnormal(x)]
    found = compiled(f"{name}_f{8 * dtype.itemsize}", x)
    same_bits(found, getattr(np, name)(x))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_remainders_are_exact(compiled, dtype):
    e = np.array(list(itertools.product(edges(dtype), repeat=2)), dtype.np).T
    x, y = numbers(dtype, 3000), numbers(dtype, 3000)[::-1]
    x, y = np.concatenate([e[0], x]), np.concatenate([e[1], y])
    found = compiled(f"fmod_f{8 * dtype.itemsize}", x, y)
    expected = np.array([_fmod(float(a), float(b)) for a, b in zip(x, y, strict=True)], dtype.np)
    same_bits(found, expected)


def _fmod(x: float, y: float) -> float:
    if math.isinf(x) or y == 0 or math.isnan(x) or math.isnan(y):
        return math.nan
    return math.fmod(x, y)


def nearest(exact: Fraction, kind) -> float:
    """The floating-point number closest to a fraction, ties to even."""
    limits = np.finfo(kind)
    size = abs(exact)
    if size == 0:
        return 0.0
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > size
    unit = Fraction(2) ** (max(exponent, limits.minexp) - limits.nmant)
    whole = round(size / unit) * unit  # a fraction rounds ties to even
    if whole > Fraction(float(limits.max)):
        return math.copysign(math.inf, exact)
    return math.copysign(float(whole), exact)


def _fused(x: float, y: float, z: float, kind) -> float:
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
        return x * y + z
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    if exact == 0:  # zeros add up to one of their signs, and what cancels gives a positive one
        return x * y + z if x * y == 0 else 0.0
    return nearest(exact, kind)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_products_and_sums_round_once(compiled, dtype):
    kind, rng = dtype.np, np.random.default_rng(8)
    # Small numbers of few digits, sums that almost vanish or lie half way, and anything else.
    x, y = (rng.standard_normal(4000) * np.exp2(rng.integers(-60, 60, 4000)) for _ in range(2))
    x, y = x.astype(kind), y.astype(kind)
    scale = np.exp2(rng.integers(-60, 60, 4000))
    z = np.where(np.arange(4000) % 3, -x * y, x * y * scale).astype(kind)
    half = np.array([1, 1 + np.finfo(kind).eps, 3, -1, 0.5, 0.0, -0.0, np.inf, np.nan], kind)
    half = np.concatenate([half, half * kind.type(np.finfo(kind).eps / 4)])
    e = np.array(list(itertools.product(half, repeat=3)), kind).T
    x, y, z = (np.concatenate(p) for p in zip(e, (x, y, z), strict=True))
    found = compiled(f"fma_f{8 * dtype.itemsize}", x, y, z)
    rows = zip(x.tolist(), y.tolist(), z.tolist(), strict=True)
    expected = np.array([_fused(*row, kind) for row in rows], kind)
    told = ~subnormal(x, y, z, expected) if compiled.flushes else np.ones(len(x), bool)
    same_bits(found[told], expected[told])


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("name", ["floordiv", "mod"])
def test_integers_divide_downwards(compiled, name, dtype):
    limits = np.iinfo(dtype.np)
    ends = [limits.min, limits.min + 1, limits.max - 1, limits.max]
    several = [v for v in (-128, -100, -7, -3, -2, -1, 0, 1, 2, 3, 7, 100) if v >= limits.min]
    rows = list(itertools.product([*ends, *several], repeat=2))
    rng = np.random.default_rng(9)
    rows += rng.integers(limits.min, limits.max, (500, 2), endpoint=True).tolist()
    kind = "i" if dtype.is_signed else "u"
    x, y = np.array(rows, dtype.np).T
    found = compiled(f"{name}_{kind}{8 * dtype.itemsize}", x, y)
    wrap = 1 << 8 * dtype.itemsize
    for a, b, c in zip(x.tolist(), y.tolist(), found.tolist(), strict=True):
        expected = (a // b if name == "floordiv" else a % b) if b else 0
        assert (c - expected) % wrap == 0, (a, b, c, expected)


def test_without_a_library_nothing_is_called(tmp_path):
    """Roots too, whatever is said of errno, and on a processor without the instructions."""
    if shutil.which("gcc") is None:
        pytest.skip("NOTHING WAS COMPILED: no gcc")
    (tmp_path / "helpers.c").write_text(sources()[0])
    for flags in ("-O0", "-O2", "-Os", "-O3 -march=native", "-O3 -fno-math-errno", "-Ofast"):
        goal = str(tmp_path / "helpers.o")
        command = [*GCC, "-pedantic", "-ffreestanding", *flags.split(), "-c"]
        subprocess.run([*command, str(tmp_path / "helpers.c"), "-o", goal], check=True)
        left = subprocess.run(["nm", "-u", goal], capture_output=True, text=True, check=True)
        assert left.stdout == "", flags
