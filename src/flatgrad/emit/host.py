"""The machine that Numba compiles for: its vector registers, read from LLVM's list of features."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from ..lower.machine import BASELINE, Machine


def host(parallel: bool = False) -> Machine:
    """The machine of Numba's target: the host, or what NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say."""
    return replace(_host(), parallel=True) if parallel else _host()


@lru_cache(maxsize=1)
def _host() -> Machine:
    from llvmlite import binding

    from .native import target

    features = {f[1:]: f[0] == "+" for f in target()[1].split(",") if f}
    return machine_of(binding.get_process_triple(), features)


def machine_of(triple: str, features: dict) -> Machine:
    """The vector registers of a target, by LLVM's names of its features."""
    if triple.startswith(("aarch64", "arm64")):
        return Machine(16, 32)
    if features.get("avx512f"):
        return Machine(64, 32, 2**30)
    if features.get("avx"):
        return Machine(32, 16)
    return BASELINE
