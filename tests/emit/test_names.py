"""Every scalar function that an operation names exists, for every float type."""

from __future__ import annotations

import flatgrad as fg
from flatgrad.emit.mathlib import FUNCTIONS
from flatgrad.graph.op import REGISTRY
from flatgrad.tensor import node_of

PRINTERS_OWN = {"fmod"}  # an instruction of its own


def test_every_named_function_is_in_the_library():
    named = {
        op.loop for op in REGISTRY.values() if op.kind == "elementwise" and isinstance(op.loop, str)
    }
    assert named - {"cast"} - PRINTERS_OWN <= set(FUNCTIONS)
    assert len(named) > 25


def test_fmod_is_exact_compiled():
    with fg.set_compile("always"):
        x = fg.tensor([5.5, -5.5, 1e300, 7.0], dtype=fg.float64)
        y = fg.tensor([2.0, 2.0, 3.7, -2.5], dtype=fg.float64)
        z = fg.fmod(x, y)
        assert fg.explain(z).tier == "compiled"
        import math

        pairs = zip(node_of(x).value, node_of(y).value, strict=True)
        assert z.tolist() == [math.fmod(a, b) for a, b in pairs]
