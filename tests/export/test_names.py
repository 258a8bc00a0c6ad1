"""Whatever the user calls things, generated files hold identifiers and harmless text."""

import ast
import keyword
import re
import subprocess

import pytest

from flatgrad.errors import ArgumentError
from flatgrad.export.names import RESERVED, c_string, given_name, identifier, line, macro
from support.c import HOSTILE, STRICT, compiler


@pytest.mark.parametrize(
    "name", [*HOSTILE, "", "9", "int", "class", "exp", "sinf", "fg_dot", "_x", "numpy"]
)
def test_identifiers_are_identifiers(name):
    found = identifier(name)
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,30}", found)
    assert found not in RESERVED and not keyword.iskeyword(found)
    assert not found.startswith("fg_")


def test_a_good_name_stays():
    for name in ("rosenbrock", "EKF_step", "f2", "train_step"):
        assert given_name(name) == name
    with pytest.raises(ArgumentError, match="name must be a str"):
        given_name(3)


def test_identifiers_differ():
    taken: set[str] = set()
    names = ["f", "f", "f ", "y" * 80, "y" * 80, "int", "int"]
    assert len({identifier(n, taken) for n in names}) == len(names)
    taken = set()
    assert len({macro(n, taken) for n in ("a['b']", "a.b", "A_B", "!", "?")}) == 5


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_text(text):
    shown = line(text)
    assert shown.isascii() and shown.isprintable()
    for mark in ("*/", "/*", "??", "\\", "`", "<", ">", "|"):
        assert mark not in shown


def test_string_literals_hold_the_text(tmp_path):
    """What C prints is what was given, to the byte."""
    prints = "\n".join(f"    puts({c_string(t)});" for t in HOSTILE if "\0" not in t)
    source = tmp_path / "t.c"
    source.write_text(
        f"#include <stdio.h>\nint main(void) {{\n{prints}\n    return 0;\n}}\n", "ascii"
    )
    subprocess.run([*compiler(), *STRICT, str(source), "-o", str(tmp_path / "t")], check=True)
    got = subprocess.run([str(tmp_path / "t")], capture_output=True, check=True).stdout
    assert got.decode() == "".join(t + "\n" for t in HOSTILE if "\0" not in t)


def test_reserved_words_are_words():
    assert {
        "int",
        "restrict",
        "main",
        "exp",
        "expf",
        "memcpy",
        "class",
        "lambda",
        "json",
    } <= RESERVED
    assert all(ast.parse(f"x = {w!r}") for w in RESERVED)
