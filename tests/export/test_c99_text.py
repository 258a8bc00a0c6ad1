"""C99 literals keep every bit through a compiler; identifiers are valid, distinct and harmless."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from flatgrad.emit.c99_text import KEYWORDS, bit_pattern, identifier, literal
from flatgrad.graph import dtypes

FLOATS = [0.0, -0.0, 0.1, -1 / 3, 1e-40, 5e-324, 3e38]
WHOLE = [dtypes.int64, dtypes.int32]


def cases():
    for dtype in (dtypes.float64, dtypes.float32):
        for number in FLOATS:
            value = dtype.np.type(number)
            yield dtype, float(value), int(value.view(f"u{dtype.itemsize}"))
    for dtype in WHOLE:
        ends = np.iinfo(dtype.np)
        for number in (ends.min, -1, 0, ends.max):
            yield dtype, number, number % 2 ** (8 * dtype.itemsize)


def test_literals_are_exact_in_c(tmp_path):
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not installed: C99 literals were NOT compiled")
    names = {"float64": "double", "float32": "float", "int64": "int64_t", "int32": "int32_t"}
    checks = []
    for code, (dtype, number, pattern) in enumerate(cases(), 1):
        width = 8 * dtype.itemsize
        c = names[str(dtype.np)]
        checks.append(
            f"{{ union {{ {c} x; uint{width}_t u; }} v; v.x = {literal(number, dtype)};"
            f" if (v.u != UINT{width}_C({pattern})) return {code}; }}"
        )
    source = tmp_path / "t.c"
    source.write_text(
        "#include <stdint.h>\nint main(void) {\n" + "\n".join(checks) + "\nreturn 0; }\n"
    )
    flags = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([gcc, *flags, str(source), "-o", str(tmp_path / "t")], check=True)
    assert subprocess.run([str(tmp_path / "t")]).returncode == 0


def test_what_is_not_finite_is_bits():
    assert bit_pattern(float("inf"), dtypes.float32) == "UINT32_C(0x7f800000)"
    assert bit_pattern(float("-inf"), dtypes.float64) == "UINT64_C(0xfff0000000000000)"
    with pytest.raises(ValueError, match="bit_pattern"):
        literal(float("nan"), dtypes.float64)


def test_hostile_names():
    taken = set()
    hostile = [
        "f",
        "f",
        "int",
        "",
        "9",
        "a*/ system(1); /*",
        "é",
        'x"\n#include',
        "y" * 80,
        "y" * 80,
        "main",
    ]
    found = [identifier(name, taken) for name in hostile]
    assert len(set(found)) == len(hostile)
    for name in found:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,30}", name) and name not in KEYWORDS
