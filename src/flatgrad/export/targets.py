"""The boards that export knows: registers for lowering, compilers and their flags for building."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from ..errors import ArgumentError
from ..lower.machine import Machine

__all__ = ["TARGETS", "Target", "target_named"]

NEVER = 2**62  # multiply-adds from which BLAS is called: exported code calls none


@dataclass(frozen=True)
class Target:
    """A kind of machine.

    Attributes
    ----------
    name : str
    about : str
        What it is, for people.
    machine : Machine
    zig : str
        The triple for ``zig cc -target``; empty: the compiler's own machine.
    cpu : str
        For ``zig cc -mcpu=``.
    gcc : str
        The cross compiler's usual command; ``cc`` is the machine's own.
    flags : tuple of str
        For that compiler.
    pointer : int
        Bytes of a pointer.
    freestanding : bool
        No operating system: a static library without a C library is built.
    relaxed : bool
        Needs -ffast-math for gcc to use its vector unit; the C is written to bear it. clang is not given it:
        what it makes of NaN then, no pragma undoes.
    """

    name: str
    about: str
    machine: Machine
    zig: str = ""
    cpu: str = ""
    gcc: str = "cc"
    flags: tuple[str, ...] = ()
    pointer: int = 8
    freestanding: bool = False
    relaxed: bool = False


def _machine(vector: int, registers: int, align: int = 64, unroll: int = 6000) -> Machine:
    # Vectors of C compilers need sums in lanes; without vectors there would be nothing but more code.
    # Loops are written out where the processor's cache for instructions is large as well.
    large = vector >= 16
    return Machine(
        vector,
        registers,
        NEVER,
        align=align,
        split=128 if large else 0,
        unroll=unroll if large else 0,
    )


_NEON = _machine(16, 32)
_A7 = "-mcpu=cortex-a7 -mfpu=neon-vfpv4 -mfloat-abi=hard"
_V6 = "-marm -mcpu=arm1176jzf-s -mfpu=vfp -mfloat-abi=hard"
_M4 = "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16"
_M7 = "-mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-d16"


def _pi64(name: str, about: str, cpu: str) -> Target:
    return Target(
        name,
        about,
        _NEON,
        # The C library of Raspberry Pi OS since 2019; newer ones run it as well.
        zig="aarch64-linux-gnu.2.28",
        cpu=cpu.replace("-", "_"),
        gcc="aarch64-linux-gnu-gcc",
        flags=(f"-mcpu={cpu}",),
    )


_ALL = [
    Target("generic", "any machine with a C99 compiler", _machine(16, 16, unroll=0)),
    Target(
        "rpi0",
        "Raspberry Pi 1 and Zero: ARMv6, arm1176jzf-s",
        _machine(8, 16),
        # Without a C library, for that of Debian's ARM port needs an ARMv7.
        zig="arm-linux-gnueabihf",
        cpu="arm1176jzf_s",
        gcc="arm-linux-gnueabihf-gcc",
        flags=tuple(_V6.split()),
        pointer=4,
    ),
    Target(
        "rpi2",
        "Raspberry Pi 2, 32 bits: ARMv7, Cortex-A7 with NEON",
        _machine(16, 16),
        zig="arm-linux-gnueabihf",
        cpu="cortex_a7",
        gcc="arm-linux-gnueabihf-gcc",
        flags=tuple(_A7.split()),
        pointer=4,
        relaxed=True,
    ),
    _pi64("rpi3", "Raspberry Pi 3, 64 bits: Cortex-A53", "cortex-a53"),
    _pi64("rpi0-2", "Raspberry Pi Zero 2, 64 bits: Cortex-A53", "cortex-a53"),
    _pi64("rpi4", "Raspberry Pi 4, 64 bits: Cortex-A72", "cortex-a72"),
    _pi64("rpi5", "Raspberry Pi 5, 64 bits: Cortex-A76", "cortex-a76"),
    Target(
        "x86-64",
        "any 64-bit PC",
        _machine(16, 16),
        zig="x86_64-linux-gnu.2.28",
        cpu="x86_64",
        gcc="x86_64-linux-gnu-gcc",
        flags=("-march=x86-64",),
    ),
    Target(
        "x86-64-v3",
        "a PC with AVX2 and FMA, since about 2013",
        _machine(32, 16),
        zig="x86_64-linux-gnu.2.28",
        cpu="x86_64_v3",
        gcc="x86_64-linux-gnu-gcc",
        flags=("-march=x86-64-v3",),
    ),
    Target(
        "cortex-m4f",
        "microcontrollers with a Cortex-M4F: single precision in hardware",
        _machine(4, 32, 8),
        # Without +vfp4d16sp zig computes floats in software, and says nothing.
        zig="thumb-freestanding-eabihf",
        cpu="cortex_m4+vfp4d16sp",
        gcc="arm-none-eabi-gcc",
        flags=tuple(_M4.split()),
        pointer=4,
        freestanding=True,
    ),
    Target(
        "cortex-m7",
        "microcontrollers with a Cortex-M7: double precision in hardware",
        _machine(8, 16, 8),
        zig="thumb-freestanding-eabihf",
        cpu="cortex_m7+fp_armv8d16",
        gcc="arm-none-eabi-gcc",
        flags=tuple(_M7.split()),
        pointer=4,
        freestanding=True,
    ),
    Target(
        "riscv64",
        "64-bit RISC-V under Linux (RV64GC)",
        _machine(8, 32),
        zig="riscv64-linux-gnu.2.28",
        cpu="generic_rv64+m+a+f+d+c",
        gcc="riscv64-linux-gnu-gcc",
        flags=("-march=rv64gc", "-mabi=lp64d"),
    ),
]

TARGETS = {t.name: t for t in _ALL}


def target_named(name) -> Target:
    """The target of this name; ``"native"`` is this machine, with all its instructions.

    Raises
    ------
    ArgumentError
        If there is none.
    """
    if isinstance(name, Target):
        return name
    if name == "native":
        return _native()
    if name not in TARGETS:
        raise ArgumentError(
            f"export: target must be native or one of {', '.join(TARGETS)}, got {name!r}; generic suits any "
            "C99 compiler"
        )
    return TARGETS[name]


def _native() -> Target:
    try:
        from ..emit.host import host

        found = host()
        machine = _machine(found.vector, found.registers)
    except ImportError:  # Numba knows this machine; without it the generic one is good
        machine = TARGETS["generic"].machine
    arm = platform.machine().startswith(("arm", "aarch64"))
    flags = ("-mcpu=native",) if arm else ("-march=native",)
    return Target("native", "this machine", machine, flags=flags)
