"""What lowering knows of the processor: how many lanes a vector register has, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """`vector` bytes in a register, `registers` of them.

    blas_work : multiply-adds from which a BLAS call beats register tiles, which read their operands where
    they lie: with 512-bit registers, when a matrix has outgrown the second-level cache
    (measured: benchmarks/kernels.py); elsewhere we leave large ones to BLAS sooner.
    parallel : whether large loops run on Numba's threads.
    align : bytes; where scratch memory starts, and each buffer in it.
    split : bytes of lanes that a reduction of floats is spread over (lower/lanes.py); 0 leaves it to the
    compiler, which may then put additions into another order.
    exact : every result has the same bits wherever the program runs: see REPRODUCIBLE.
    unroll : operations that a program may have when its short loops are written out (lower/unroll.py); 0
    leaves them. It changes no order, hence no bits.
    """

    vector: int = 16
    registers: int = 16
    blas_work: int = 2**22
    parallel: bool = False
    align: int = 64
    split: int = 0
    exact: bool = False
    unroll: int = 0

    def lanes(self, dtype) -> int:
        return max(self.vector // dtype.itemsize, 1)


# What programs are lowered for when nobody says: the least that every processor of today has.
BASELINE = Machine()

# What a reproducible program is lowered for, wherever it will run: decisions about order, which decide about
# bits, are then the same ones everywhere. (`parallel` and `align` may differ: they change no order.)
REPRODUCIBLE = Machine(blas_work=2**62, split=128, exact=True)

_present = BASELINE


def present() -> Machine:
    """The machine that the program being lowered is for."""
    return _present


def lowering_for(machine: Machine | None) -> None:
    """Say, at the start of a lowering, which machine it is for."""
    global _present
    _present = machine or BASELINE
