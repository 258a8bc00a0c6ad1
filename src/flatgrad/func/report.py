"""``JitFunction.explain()``: each signature, why it was traced, and what its program costs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["JitReport", "SignatureReport", "differences"]


@dataclass(frozen=True)
class SignatureReport:
    """One signature of a jitted function.

    Attributes
    ----------
    arguments : tuple of (str, str)
        Names and kinds: ``("x", "float64[3]")``.
    statics : tuple of (str, str)
        Names and values of the static arguments.
    reason : str
        Why it was traced anew.
    calls, recorded : int
        How often it was called, and how many of these calls were recorded as part of a larger graph.
    trace_seconds, compile_seconds : float
    tier, tier_reason : str
        ``"compiled"``, ``"interpreted"`` or ``"recorded"``.
    kernels : int
        Outermost loops and library calls.
    arena : int
        Bytes of scratch memory a call uses.
    source : str
        The readable loops.
    """

    arguments: tuple
    statics: tuple
    reason: str
    calls: int
    recorded: int
    trace_seconds: float
    compile_seconds: float
    tier: str
    tier_reason: str
    kernels: int
    arena: int
    source: str


@dataclass(frozen=True)
class JitReport:
    """What a jitted function has done. Prints as a table.

    Attributes
    ----------
    name : str
    signatures : list of SignatureReport
        In the order of their traces.
    """

    name: str
    signatures: list

    def __repr__(self) -> str:
        count = len(self.signatures)
        lines = [f"{self.name}: traced {count} time{'' if count == 1 else 's'}"]
        for k, s in enumerate(self.signatures, 1):
            arguments = ", ".join(f"{n}: {kind}" for n, kind in s.arguments)
            statics = "".join(f", {n}={v}" for n, v in s.statics)
            lines += [
                f"{k}. ({(arguments + statics).removeprefix(', ')})",
                f"   traced    {s.reason}; {s.trace_seconds:.3f} s",
                f"   calls     {s.calls}, {s.recorded} of them recorded",
                f"   tier      {s.tier}: {s.tier_reason}",
            ]
            if s.tier == "compiled":
                size = f"{s.kernels} kernels, {s.arena} bytes of scratch"
                lines.append(f"   compiled  in {s.compile_seconds:.3f} s, {size}")
        return "\n".join(lines)


def differences(new, known: list) -> str:
    """Why `new` was traced: how it differs from the known signature that is nearest to it."""
    if not known:
        return "first call"
    return min([_between(new, old) for old in reversed(known)], key=len_of_reasons)[1]


def len_of_reasons(found: tuple) -> int:
    return found[0]


def _between(new, old) -> tuple[int, str]:
    """(how many things differ, which)."""
    if new.names != old.names:
        more = [n for n in new.names if n not in old.names]
        less = [n for n in old.names if n not in new.names]
        parts = [f"{', '.join(more)} is new"] * bool(more)
        parts += [f"{', '.join(less)} is gone"] * bool(less)
        return 100, "the structure of the arguments changed: " + ("; ".join(parts) or "their order")
    parts = [
        f"{name} changed from {before!r} to {now!r}"
        for name, before, now in zip(new.names, old.kinds, new.kinds, strict=True)
        if repr(before) != repr(now)
    ]
    parts += [
        f"the static argument {name} changed from {before} to {now}"
        for (name, now), (_, before) in zip(new.statics, old.statics, strict=False)
        if before != now
    ]
    if not parts:
        return 50, "the containers of the arguments, a module's mode or the default dtype changed"
    return len(parts), "; ".join(parts)
