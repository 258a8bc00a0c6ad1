"""What one element of an elementwise operation costs, counted by running its expression on counters."""

from __future__ import annotations

from ..graph.dtypes import float64
from ..graph.op import Op

__all__ = ["CALL", "scalar_cost"]

# A function or a division, in additions.
CALL = 8


class _Count:
    """Stands for a scalar, and for the functions of scalars; counts what is done with it."""

    dtype = float64
    total = 0

    def _one(self, *args):
        return self  # a few additions and choices cost less than reading memory

    def _dear(self, *args, **kwargs):
        self.total += CALL
        return self

    def where(self, *args):
        return self._one()

    def unary(self, name, *args):
        return self._dear() if name == "sqrt" else self._one()

    def __getattr__(self, name: str):
        return self._dear if name == "call" else self._one


for _name in ("add", "sub", "mul", "and", "or", "xor", "lshift", "rshift"):
    setattr(_Count, f"__{_name}__", _Count._one)
    setattr(_Count, f"__r{_name}__", _Count._one)
for _name in ("truediv", "floordiv", "mod"):
    setattr(_Count, f"__{_name}__", _Count._dear)
    setattr(_Count, f"__r{_name}__", _Count._dear)
for _name in ("neg", "invert", "lt", "le", "gt", "ge"):
    setattr(_Count, f"__{_name}__", _Count._one)

_known: dict[Op, int] = {}


def scalar_cost(op: Op, attrs: tuple = ()) -> int:
    """Rough cost of one element of an elementwise `op`, its operands given: 1, or by its functions."""
    found = _known.get(op)
    if found is None:
        loop = op.loop
        if isinstance(loop, str):
            found = 1 if loop == "cast" else CALL
        else:
            count = _Count()
            loop(count, *[count] * op.arity, *attrs)
            found = max(count.total, 1)
        _known[op] = found
    return found
