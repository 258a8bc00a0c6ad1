"""Exports on every board that can be emulated: right, alike to the bit where promised, of the sizes told."""

import functools
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tools.boards import emulate
from tools.boards.machines import BOARDS, missing
from tools.boards.roots import ARM64, ARMHF

import flatgrad as fg
from boards.bits import bits, write
from boards.emulated import STRICT, board_named, seen
from flatgrad.export.build import flags_for
from flatgrad.export.targets import TARGETS
from flatgrad.func.tree import flatten
from support.workloads import WORKLOADS, workload

pytestmark = pytest.mark.boards

FLAT = ["-O0", "-O2", "-O3", "-O3 -ffast-math", "-Ofast -march=native"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """exported(name, target, reproducible): made once."""

    @functools.cache
    def make(name, target, reproducible=False):
        it = workload(name)
        return fg.export(
            it.function,
            *it.example,
            name=f"fn_{name}",
            path=tmp_path_factory.mktemp(name),
            target=target,
            reproducible=reproducible,
            donate_argnums=it.donate_argnums,
        )

    return make


def on_board(made, board, place, *flags):
    libraries = tuple(made.libraries)
    return seen(made.path, made.name, board, place, *flags, libraries=libraries)


# One board of each kind runs everything; the others a few, and everything when bits are compared.
WHOLE = ("x86-64", "a72", "a7", "m4f")
FEW = ("ekf", "cnn", "scan_f32")
PAIRS = [(b, n) for b in BOARDS for n in WORKLOADS if b in WHOLE or n in FEW]


@pytest.mark.parametrize("board,name", PAIRS)
def test_it_gives_the_interpreters_numbers(exported, tmp_path, board, name):
    made = exported(name, BOARDS[board].target)
    _, found = on_board(made, board, tmp_path, "-O2", "-ffp-contract=off")
    # What is planned is what is touched, to the alignment of what lies last.
    planned = made.memory["work"]
    assert planned - 64 < found.work <= planned


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("board", ["x86-64-native", "a7", "a72"])
def test_fast_math_stays_within_tolerance(exported, tmp_path, board, name):
    """32-bit NEON is used only then."""
    made = exported(name, BOARDS[board].target)
    on_board(made, board, tmp_path, "-O3", "-ffast-math")


@pytest.mark.parametrize("name", WORKLOADS)
def test_reproducible_ones_agree_to_the_bit(exported, tmp_path, name):
    """C from every compiler on every board, and Numba here: steps of networks and filters are twenty."""
    with fg.set_compile("always"):
        found, skipped = {"Numba": bits(name)}, []
    for board in BOARDS.values():
        if missing(board):
            skipped.append(board.name)
            continue
        made = exported(name, board.target, True)
        folder = tmp_path / board.target
        if not folder.exists():
            shutil.copytree(made.path, folder)
            write(made, folder)
        for flags in FLAT if board.name == "x86-64" else ["-O3"]:
            place = tmp_path / f"{board.name}{flags}".replace(" ", "")
            libraries = tuple(made.libraries)
            _, there = seen(folder, made.name, board, place, *flags.split(), libraries=libraries)
            found[f"{board.name} {flags}"] = there.bits
    assert len(set(found.values())) == 1, found
    if skipped:
        pytest.skip(f"NOT COMPARED with {' '.join(skipped)}; equal: {' '.join(found)}")


def test_numba_on_64_bit_arm_gives_these_bits():
    """The digits' training steps and the filter, as the package compiles them on a Raspberry Pi 4."""
    lacking = ARM64.missing()
    if lacking:
        pytest.skip(f"NOTHING WAS COMPARED with 64-bit ARM: first {'; '.join(lacking)}")
    ARM64.make()
    ARM64.copy_project("src", "tests", "examples")
    ARM64.show_cpu("cortex-a72")
    names = ["digits", "ekf"]
    script = ["/usr/bin/python3", "/srv/flatgrad/tests/boards/bits.py", *names]
    done = subprocess.run(ARM64.command(script, "cortex-a72"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with fg.set_compile("always"):
        assert json.loads(done.stdout) == {name: bits(name) for name in names}


@pytest.mark.parametrize("name,limit", [("rosenbrock_f32", 2048), ("ekf_f32", 16384)])
def test_code_is_small_on_a_microcontroller(exported, tmp_path, name, limit):
    board = board_named("m4f")
    made = exported(name, "cortex-m4f")
    flags = flags_for(TARGETS["cortex-m4f"], zig=False, relaxed=False, bare=True)
    built = emulate.build(made.path, made.name, board, tmp_path, tuple(flags))
    assert emulate.run(built).passed
    assert 0 < built.sections["text"] <= limit
    assert built.sections["data"] == built.sections["bss"] == 0, "no globals"
    # Nothing is called but what the compiler itself brings, for double precision.
    symbols = subprocess.run(
        ["arm-none-eabi-nm", "-u", str(tmp_path / f"{made.name}.o")], capture_output=True, text=True
    )
    assert re.sub(r"\bU __aeabi_\w+", "", symbols.stdout).strip() == ""


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("board", ["x86-64", "x86-64-zig", "m7"])
def test_without_a_library_nothing_is_missing(exported, tmp_path, board, name):
    """A compiler that is told of no library calls none, whatever it was told of errno."""
    board = board_named(board)
    made = exported(name, board.target)
    goal = str(tmp_path / "alone.o")
    command = [*board.compiler, "-std=c99", *board.flags, *STRICT, "-O2", "-ffreestanding"]
    source = str(made.files[f"{made.name}.c"])
    subprocess.run([*command, "-c", source, "-o", goal], check=True)
    left = subprocess.run(["nm", "-u", goal], capture_output=True, text=True, check=True).stdout
    assert re.sub(r"\bU __aeabi_\w+", "", left).strip() == ""


@pytest.mark.parametrize("name", ["digits", "ekf_f32", "lstm"])
def test_numpys_loader_on_32_bits(exported, name):
    """The library that a7's gcc made, called through NAME.py by the Python and NumPy of Debian's armhf."""
    lacking = ARMHF.missing()
    if lacking:
        pytest.skip(f"NOTHING WAS LOADED on 32-bit ARM: first {'; '.join(lacking)}")
    board_named("a7")
    root = ARMHF.make()
    made = exported(name, "rpi2")
    made.build()
    inside = root / "srv" / "exports"
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir(parents=True)
    for file in (made.files[f"{made.name}.py"], made.library):
        shutil.copy(file, inside)
    it = workload(name)
    leaves = flatten(it.example)[0]
    np.savez(inside / "arguments.npz", *leaves)
    (inside / "call.py").write_text(
        f"import numpy as np\nimport sys\nsys.path.insert(0, '/srv/exports')\nimport {made.name} as m\n"
        "given = [x[()] for x in np.load('/srv/exports/arguments.npz').values()]\n"
        "def tree(t):\n"
        "    if isinstance(t, int): return given[t]\n"
        "    if isinstance(t, dict): return {k: tree(v) for k, v in t.items()}\n"
        "    return type(t)(tree(x) for x in t)\n"
        "out = []\n"
        "def put(x):\n"
        "    for y in x.values() if isinstance(x, dict) else x if isinstance(x, (list, tuple)) else ():\n"
        "        put(y)\n"
        "    if not isinstance(x, (dict, list, tuple)): out.append(x)\n"
        f"put(m.{made.name}(*tree(m.ARGUMENTS)))\n"
        "np.savez('/srv/exports/results.npz', *out)\nimport platform; print(platform.machine())\n"
    )
    command = ARMHF.command(["/usr/bin/python3", "/srv/exports/call.py"], "cortex-a7")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["armv7l"]
    expected = [np.asarray(x) for x in flatten(fg.jit(it.function)(*it.example))[0]]
    with np.load(inside / "results.npz") as found:
        for a, b in zip(found.values(), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_every_board_was_there():
    """Says in one line what the tests above left out."""
    lacking = {b.name: missing(b) for b in BOARDS.values() if missing(b)}
    if lacking:
        pytest.skip(f"NOTHING WAS RUN for {lacking} with {sys.executable}")
