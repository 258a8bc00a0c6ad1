"""``fg.explain``: which tier computed a tensor, and why."""

from __future__ import annotations

from ..errors import ArgumentError
from ..tensor import Tensor, late, node_of
from .tiers import Program

__all__ = ["Explanation", "explain"]


class Explanation:
    """How a tensor's value was computed.

    Attributes
    ----------
    tier : {"interpreted", "generic loop", "compiled", "leaf"}
    reason : str
    calls : int
        Times this signature was evaluated.
    interpreted_seconds, compile_seconds : float
    kernels : int
        Outermost loops and library calls of the compiled program.
    memory : dict
        Bytes of inputs, outputs, arena, and the least arena that lifetimes allow; of the generic loop's
        list and values.
    source : str
        The readable loops.
    """

    def __init__(self, program: Program | None):
        self.program = program
        self.tier = program.tier if program else "leaf"
        self.reason = program.reason if program else "its value was given, not computed"
        self.calls = program.calls if program else 0
        self.interpreted_seconds = program.interpreted_seconds if program else 0.0
        compiled = program.compiled if program and program.tier == "compiled" else None
        self.compile_seconds = compiled.compile_seconds if compiled else 0.0
        self.from_disk = compiled.from_disk if compiled else False
        self.kernels = sum(len(s.loops.body) for s in compiled.segments) if compiled else 0
        self.memory = compiled.memory if compiled else {}
        if self.tier == "generic loop" and program.generic is not None:
            self.memory = program.generic.memory
        self.source = compiled.source if compiled else ""

    def __repr__(self) -> str:
        lines = [f"tier      {self.tier}: {self.reason}"]
        if self.program:
            lines.append(
                f"calls     {self.calls}, {self.interpreted_seconds:.3f} s of them interpreted"
            )
        if self.tier == "compiled":
            how = "loaded from disk" if self.from_disk else "compiled"
            lines.append(f"compiling {self.compile_seconds:.3f} s ({how})")
            lines.append(f"kernels   {self.kernels}")
        if self.memory:
            sizes = ", ".join(f"{k} {v}" for k, v in self.memory.items())
            lines.append(f"bytes     {sizes}")
        return "\n".join(lines)


def explain(tensor: Tensor) -> Explanation:
    """Which tier computed `tensor`, why, in how many kernels and bytes. A pending one is evaluated.

    Parameters
    ----------
    tensor : Tensor

    Returns
    -------
    Explanation
        Prints as a short table; ``.source`` is the program as readable loops.

    Raises
    ------
    ArgumentError
        If `tensor` is no tensor.

    Examples
    --------
    >>> import flatgrad as fg
    >>> with fg.set_compile("never"):
    ...     fg.explain(fg.tensor([1.0, 2.0]).sum()).tier
    'interpreted'
    """
    if not isinstance(tensor, Tensor):
        raise ArgumentError(f"explain: a Tensor is required, got {type(tensor).__name__}")
    node = node_of(tensor)
    late.evaluate([node])
    return Explanation(node.program)
