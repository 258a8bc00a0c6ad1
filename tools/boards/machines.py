"""The boards that can be emulated here: how C is compiled for each, and what runs the program."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BOARDS", "PACKAGES", "Board", "missing"]

C = Path(__file__).parent / "c"

# The Debian package that has a command. `ziglang` is on the Python package index.
PACKAGES = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "arm-linux-gnueabihf-gcc": "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "gcc": "gcc libc6-dev",
    "mmdebstrap": "mmdebstrap",
    "proot": "proot",
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-arm-static": "qemu-user-static",
    "qemu-riscv64-static": "qemu-user-static",
    "qemu-system-arm": "qemu-system-arm",
}


@dataclass(frozen=True)
class Board:
    """A processor with a compiler and an emulator.

    Attributes
    ----------
    name : str
    target : str
        flatgrad's name of the export target, whose code it runs.
    compiler, flags, link : tuple of str
        The command, what every file is compiled with, and what the program is linked with.
    runner : tuple of str
        What stands before the program's path; nothing where it runs by itself.
    size : str
        The command that tells sections' sizes.
    bare : bool
        Whether it is a microcontroller, started by c/start.c.
    """

    name: str
    target: str
    compiler: tuple[str, ...]
    flags: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    runner: tuple[str, ...] = ()
    size: str = "size"
    bare: bool = False


def _arm64(cpu: str, target: str) -> Board:
    return Board(
        cpu.removeprefix("cortex-"),
        target,
        ("aarch64-linux-gnu-gcc",),
        (f"-mcpu={cpu}",),
        runner=("qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu", "-cpu", cpu),
        size="aarch64-linux-gnu-size",
    )


_BARE_LINK = (
    "-nostartfiles --specs=nano.specs --specs=rdimon.specs -Wl,--gc-sections "
    "-Wl,--no-warn-rwx-segments"
)
_BARE_RUN = (
    "-nographic -monitor none -serial none -semihosting-config enable=on,target=native -kernel"
)


def _bare(name: str, target: str, cpu: str, fpu: str, machine: str) -> Board:
    return Board(
        name,
        target,
        ("arm-none-eabi-gcc",),
        (f"-mcpu={cpu}", "-mthumb", "-mfloat-abi=hard", f"-mfpu={fpu}"),
        (*_BARE_LINK.split(), "-T", str(C / "mps2.ld")),
        ("qemu-system-arm", "-M", machine, *_BARE_RUN.split()),
        "arm-none-eabi-size",
        True,
    )


def _zig(name: str, target: str, triple: str, cpu: str, *runner: str) -> Board:
    flags = ("-target", triple, f"-mcpu={cpu}", "-fno-sanitize=all")
    return Board(name, target, (sys.executable, "-m", "ziglang", "cc"), flags, ("-static",), runner)


_ALL = [
    Board("x86-64", "x86-64", ("gcc",), ("-march=x86-64",)),
    Board("x86-64-native", "x86-64-v3", ("gcc",), ("-march=native",)),
    Board("x86-64-zig", "x86-64", (sys.executable, "-m", "ziglang", "cc"), ("-fno-sanitize=all",)),
    _arm64("cortex-a53", "rpi3"),
    _arm64("cortex-a72", "rpi4"),
    _arm64("cortex-a76", "rpi5"),
    Board(
        "a7",
        "rpi2",
        ("arm-linux-gnueabihf-gcc",),
        ("-mcpu=cortex-a7", "-mfpu=neon-vfpv4", "-mfloat-abi=hard"),
        runner=("qemu-arm-static", "-L", "/usr/arm-linux-gnueabihf", "-cpu", "cortex-a7"),
        size="arm-linux-gnueabihf-size",
    ),
    # Debian's C library for ARM needs an ARMv7, so this program carries musl with it.
    _zig(
        *("arm1176", "rpi0", "arm-linux-musleabihf", "arm1176jzf_s"),
        *("qemu-arm-static", "-cpu", "arm1176"),
    ),
    _bare("m4f", "cortex-m4f", "cortex-m4", "fpv4-sp-d16", "mps2-an386"),
    _bare("m7", "cortex-m7", "cortex-m7", "fpv5-d16", "mps2-an500"),
    _zig(
        *("riscv64", "riscv64", "riscv64-linux-musl", "generic_rv64+m+a+f+d+c"),
        "qemu-riscv64-static",
    ),
]

BOARDS = {b.name: b for b in _ALL}


def missing(board: Board) -> list[str]:
    """What has to be installed before `board` can be used, as commands of a shell."""
    found = []
    for command in (board.compiler[0], *board.runner[:1]):
        if shutil.which(command) is None:
            found.append(f"apt-get install {PACKAGES[command]}")
    if "ziglang" in board.compiler and importlib.util.find_spec("ziglang") is None:
        found.append("pip install ziglang")
    return found
