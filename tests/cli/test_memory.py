"""``flatgrad inspect`` and ``export``: files, sizes, limits."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

pytest.importorskip("flatgrad.emit.c99")

from flatgrad.cli.elf import STACK_FLAG, Object
from flatgrad.errors import ToolError

GCC = shutil.which("gcc")
needs_gcc = pytest.mark.skipif(GCC is None, reason="no gcc here")
SOURCE = """
static const double table[32] = {1.5, 2.5};
int writable[4] = {1, 2, 3, 4};
double f(int k) { return table[k & 31] + writable[k & 3]; }
"""


def compiled(tmp_path, text, *command):
    (tmp_path / "x.c").write_text(text)
    subprocess.run([*command, "-O2", "-c", "x.c", "-o", "x.o"], cwd=tmp_path, check=True)
    return (tmp_path / "x.o").read_bytes()


@needs_gcc
@pytest.mark.parametrize("command", ["gcc", "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb"])
def test_sections_are_what_binutils_says(tmp_path, command):
    tool = command.split()[0]
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool} here")
    code, constants = Object(compiled(tmp_path, SOURCE, *command.split())).code_and_constants()
    listed = subprocess.run(
        [tool.replace("gcc", "objdump") if "-" in tool else "objdump", "-h", "x.o"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = [line.split() for line in listed.splitlines() if len(line.split()) == 7]
    sizes = {r[1]: int(r[2], 16) for r in rows}
    assert code == sum(v for k, v in sizes.items() if k.startswith(".text")) > 0
    assert constants == sum(v for k, v in sizes.items() if k.startswith(".rodata")) >= 256


FRAMES = """
double other(int k);
__attribute__((noinline)) static double inner(int k) { volatile double y[300]; y[k] = 1.0; return y[k / 2]; }
double f(int k) { volatile double y[20]; y[k] = inner(k); return CALL(k) + y[k / 2]; }
"""


PLAIN = ("-fno-sanitize=all", "-fno-stack-protector")


@pytest.mark.parametrize("triple", ["x86_64-linux-gnu", "arm-linux-gnueabihf", "aarch64-linux-gnu"])
def test_frames_that_clang_tells(tmp_path, triple):
    pytest.importorskip("ziglang", reason="ziglang is not installed: clang's frames were NOT read")
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", triple, *PLAIN)
    found = Object(compiled(tmp_path, FRAMES, *zig, STACK_FLAG, "-DCALL=other"))
    assert 2560 <= found.frames() + found.red_zone < 2700
    assert found.calls_others()
    assert not Object(compiled(tmp_path, FRAMES, *zig, STACK_FLAG, "-DCALL=inner")).calls_others()
    assert Object(compiled(tmp_path, FRAMES, *zig, "-DCALL=other")).frames() is None


def test_what_is_no_object():
    with pytest.raises(ToolError, match="ELF"):
        Object(b"MZ")


def test_export_writes_what_it_says(cli, cli_json, module, tmp_path):
    words = ("--transform", "value_and_grad", "--arg", "f8[4]", f"{module}:rosenbrock")
    code, out, _ = cli("export", "-o", tmp_path / "out", *words)
    assert code == 0 and "int rosenbrock(const double *const *in" in out
    names = {"rosenbrock.c", "rosenbrock.h", "rosenbrock_test.c", "rosenbrock.py", "CMakeLists.txt"}
    assert names <= {f.name for f in (tmp_path / "out").iterdir()}
    code, report = cli_json("export", "-o", tmp_path / "out", "--name", "banana", *words)
    assert code == 0 and report["name"] == "banana" and "banana.c" in report["files"]
    assert report["memory"]["inputs"] == 32 and report["memory"]["outputs"] == 40


@needs_gcc
def test_export_builds(cli_json, module, tmp_path):
    code, report = cli_json(
        *("export", "-o", tmp_path / "out", "--build", "--cc", "gcc", "--example", "make"),
        *("--reproducible", f"{module}:scaled"),
    )
    assert code == 0 and report["library"].startswith(str(tmp_path / "out"))
    assert report["memory"]["code"] > 0
    assert report["memory"]["flash"] == report["memory"]["code"] + report["memory"]["constants"]


def test_keywords_and_state(cli_json, module, tmp_path):
    words = ("export", "-o", tmp_path / "out", "--arg", "f8[3]", "--arg", "factor:f8[3]=2")
    code, report = cli_json(*words, f"{module}:scaled")
    assert code == 0 and report["memory"]["inputs"] == 48
    code, report = cli_json("inspect", "--donate", "0", "--example", "make", f"{module}:moved")
    assert code == 0 and report["programs"][0]["state"] == 24


@needs_gcc
def test_inspect_judges(cli, cli_json, module):
    words = ("inspect", "--cc", "gcc", f"{module}:with_example")
    code, report = cli_json(*words, f"{module}:with_example", "--max-ram", "64K")
    assert code == 0 and len(report["programs"]) == 2 and report["too_large"] == {}
    assert report["programs"][0]["ram"] >= 32 and report["programs"][0]["code"] > 0
    code, out, err = cli(*words, "--max-ram", "16")
    assert code == 1 and ("TOO LARGE" in out or "16" in err)
    code, out, err = cli(*words, "--max-flash", "8")
    assert code == 1 and ("TOO LARGE" in out or "8" in err)


@pytest.mark.parametrize(
    "wrong",
    [("--target", "rpi44"), ("--max-ram", "much"), ("--donate", "first"), ("--blas", "mkl")],
)
def test_wrong_use(cli, module, wrong):
    code, _, err = cli("export", *wrong, f"{module}:with_example")
    assert code == 2 and err.count("\n") == 1


def test_targets(cli, cli_json):
    code, out, _ = cli("export", "--target", "list")
    assert code == 0 and "rpi4 " in out and "native" in out
    assert {t["name"] for t in cli_json("inspect", "--target", "list")[1]} >= {"rpi0", "cortex-m4f"}


def test_a_missing_compiler_is_a_failure(cli, module, tmp_path):
    words = ("export", "-o", tmp_path / "out", "--build", "--cc", "no-such-compiler-anywhere")
    code, _, err = cli(*words, f"{module}:with_example")
    assert code == 1 and "no-such-compiler-anywhere" in err and err.count("\n") == 1
