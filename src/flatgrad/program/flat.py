"""The flat list: a graph of scalars as arrays of operation codes and places, run by the generic loops.

Places number the elements of all values. Inputs and numbers stand in front, results follow in the order of
the operations. Operations that only rearrange elements (reshape, slice, stack, ...) make no
operation of their own: they are run once, on the places. So small vectors may be mixed with
scalars, and cost what their elements cost.
"""

from __future__ import annotations

import threading

import numpy as np

from ..graph import dtypes
from ..graph.dtypes import DType
from ..graph.node import CONST, Node
from ..graph.op import Exact, op_named
from ..graph.shapes import numel

__all__ = ["Encoder", "Tape", "loops"]

# Elements that one node may have to be counted as scalars, and to be rearranged by places.
ELEMENTS = 64
REARRANGED = 65_536

WIRING = ("movement", "cat", "pad", "view_scatter")

MODULE = '''"""flatgrad's generic {direction} loop over {dtype} scalars: operations {digest}."""
from numba import njit
from flatgrad.emit.generic import generic_kernel

run = generic_kernel("{direction}", "{dtype}")


@njit(cache=True, nogil=True, error_model="numpy")
def program({names}, base, lo, hi):
    return run(({names}), base, lo, hi)
'''

_loaded: dict[DType, tuple] = {}
_loading = threading.Lock()


def loops(dtype: DType) -> tuple:
    """The forward and the backward loop of a float type: Numba functions, from the disk cache."""
    with _loading:
        found = _loaded.get(dtype)
        if found is None:
            found = _loaded[dtype] = (_load("forward", dtype), _load("backward", dtype))
        return found


def loaded(dtype: DType) -> bool:
    return dtype in _loaded


def _load(direction: str, dtype: DType):
    import hashlib

    from numba import types
    from numba.np.numpy_support import from_dtype

    from ..emit.opcodes import table
    from .cache import compile_function

    names = ["codes", "a", "b", "c", "values", "cotangents"][: 5 if direction == "forward" else 6]
    digest = hashlib.sha256(table(dtype).describe().encode()).hexdigest()[:16]
    text = MODULE.format(
        direction=direction, dtype=dtype.name, digest=digest, names=", ".join(names)
    )
    array = [types.uint8, *[types.int32] * 3, *[from_dtype(dtype.np)] * (len(names) - 4)]
    signature = [types.Array(kind, 1, "C") for kind in array] + [types.int64] * 3
    return compile_function(text, "generic", "program", tuple(signature))[0]


class Encoder:
    """Builds the list. A node's *place* is an int (of a scalar) or an array of ints of its shape.

    Places in front are negative until `tape` knows how many there are.
    """

    def __init__(self, dtype: DType):
        from ..emit.opcodes import table

        self.dtype = dtype
        self.table = table(dtype)
        self.codes: list[int] = []
        self.reverse: list[int] = []
        self.operands: tuple[list[int], ...] = ([], [], [])
        self.front = 1  # place -1 is the number 0
        self.constants: dict[str, tuple[int, float]] = {"0.0": (-1, 0.0)}
        self.looked_at: set[Node] = set()  # numbers whose value decided how something is encoded
        self._add = self.table.find(op_named("add"), (), (dtype, dtype))
        self._mul = self.table.find(op_named("mul"), (), (dtype, dtype))
        self._reciprocal = self.table.find(op_named("reciprocal"), (), (dtype,))

    # -- places in front ------------------------------------------------------------------------

    def holds(self, dtype: DType) -> bool:
        return dtype is self.dtype or dtype is dtypes.bool_

    def room(self, shape: tuple):
        """Fresh places in front for an array that will be given."""
        size = numel(shape)
        start = self.front
        self.front += size
        return -1 - start if shape == () else (-1 - start - np.arange(size)).reshape(shape)

    def constant(self, number, shape: tuple = ()):
        """The place of a number; of `shape` that many times."""
        number = float(number)
        known = self.constants.get(repr(number))
        if known is None:
            known = self.constants[repr(number)] = (self.room(()), number)
        return known[0] if shape == () else np.full(shape, known[0])

    # -- operations -----------------------------------------------------------------------------

    def emit(self, code, places, wanted=None) -> int:
        """One operation on scalars; `wanted` says which operands' cotangents are asked for."""
        k = len(self.codes)
        self.codes.append(code.number)
        a, b, c = self.operands
        a.append(places[0])
        b.append(places[1] if len(places) > 1 else -1)
        c.append(places[2] if len(places) > 2 else -1)
        if wanted is None:
            self.reverse.append(0)
        else:
            rule = code.reverse_for(wanted)
            self.reverse.append(rule.number)
        return k

    def encode(self, node: Node, places: list, wanted=None):
        """The place of `node` given its inputs' places; None if it can't be said in scalars.

        wanted : for the backward loop, which inputs' cotangents are asked for.
        """
        if not self.holds(node.dtype):
            return None
        kind = node.op.kind
        if kind == "elementwise":
            return self._elementwise(node, places, wanted)
        if kind in WIRING:
            return self._wiring(node, places)
        if node.op.name == "reduce_sum" and node.dtype is self.dtype:
            return self._sum(node, places[0], wanted)
        if kind == "contraction" and node.dtype is self.dtype:
            return self._contraction(node, places, wanted)
        return None

    def _elementwise(self, node: Node, places, wanted):
        op = node.op
        if op.name == "pow" and node.inputs[1].op is CONST:
            found = self._power(node, places[0], wanted)
            if found is not None:
                return found
        code = self.table.find(op, node.attrs, tuple([s.dtype for s in node.inputs]))
        if code is None or (wanted is not None and code.reverse_for(wanted) is None):
            return None
        shape = node.shape
        if shape == ():
            return self.emit(code, places, wanted)
        if numel(shape) > ELEMENTS:
            return None
        rows = [np.broadcast_to(p, shape).ravel().tolist() for p in places]
        found = [self.emit(code, row, wanted) for row in zip(*rows, strict=True)]
        return np.array(found, np.int64).reshape(shape)

    def _power(self, node: Node, x, wanted):
        """``x ** n`` for the numbers that the operation itself multiplies out."""
        n = node.inputs[1].attrs[0]
        if n not in (1, 2, 3, 4, -1) or numel(node.shape) > ELEMENTS:
            return None
        if wanted is not None and wanted[1]:
            return None
        self.looked_at.add(node.inputs[1])
        n, flags = int(n), None if wanted is None else (True, True)
        found = []
        for p in np.broadcast_to(x, node.shape).ravel().tolist():
            if n == -1:
                p = self.emit(self._reciprocal, (p,), flags and flags[:1])
            elif n == 3:
                p = self.emit(self._mul, (self.emit(self._mul, (p, p), flags), p), flags)
            else:
                for _ in range(n // 2):
                    p = self.emit(self._mul, (p, p), flags)
            found.append(p)
        return found[0] if node.shape == () else np.array(found, np.int64).reshape(node.shape)

    def _wiring(self, node: Node, places):
        """The operation itself, run on places instead of values."""
        if numel(node.shape) > REARRANGED:
            return None
        op, attrs = node.op, node.attrs
        arrays = [np.asarray(p, np.int64) for p in places]
        if op.kind == "pad":
            attrs = (*attrs[:-1], Exact(self.constant(attrs[-1].number)))
        found = op.numpy(tuple(arrays), *attrs) if op.arity < 0 else op.numpy(*arrays, *attrs)
        return int(found) if node.shape == () else np.asarray(found)

    def _chain(self, places: list[int], wanted) -> int:
        """The sum of scalars."""
        if not places:
            return self.constant(0.0)
        total = places[0]
        for p in places[1:]:
            total = self.emit(self._add, (total, p), None if wanted is None else (True, True))
        return total

    def _sum(self, node: Node, x, wanted):
        x = np.asarray(x)
        dims = node.attrs[0]
        if x.size > REARRANGED:
            return None
        kept = [d for d in range(x.ndim) if d not in dims]
        rows = x.transpose([*kept, *dims]).reshape(numel(node.shape), -1).tolist()
        found = [self._chain(row, wanted) for row in rows]
        return found[0] if node.shape == () else np.array(found, np.int64).reshape(node.shape)

    def _contraction(self, node: Node, places, wanted):
        spec_a, spec_b, spec_out = node.attrs
        sizes: dict = {}
        for spec, source in zip((spec_a, spec_b), node.inputs, strict=True):
            sizes |= dict(zip(spec, source.shape, strict=True))
        labels = [*spec_out, *[s for s in sizes if s not in spec_out]]
        if len(set(spec_a)) < len(spec_a) or len(set(spec_b)) < len(spec_b):
            return None
        whole = tuple([sizes[s] for s in labels])
        if numel(whole) > ELEMENTS:
            return None
        rows = []
        for spec, p in zip((spec_a, spec_b), places, strict=True):
            there = [s for s in labels if s in spec]
            p = np.asarray(p).transpose([spec.index(s) for s in there])
            p = p.reshape([sizes[s] if s in spec else 1 for s in labels])
            rows.append(np.broadcast_to(p, whole).ravel().tolist())
        products = [self.emit(self._mul, row, wanted) for row in zip(*rows, strict=True)]
        terms = np.array(products, np.int64).reshape(numel(node.shape), -1).tolist()
        found = [self._chain(row, wanted) for row in terms]
        return found[0] if node.shape == () else np.array(found, np.int64).reshape(node.shape)

    # -- the end --------------------------------------------------------------------------------

    def final(self, place):
        """`place` counted from the beginning of the values."""
        at = np.asarray(place, np.int64)
        return np.where(at < 0, -1 - at, at + self.front)

    def tape(self) -> Tape:
        return Tape(self)


class Tape:
    """A finished list.

    Attributes
    ----------
    codes, reverse : array of uint8
        What each operation does, forward and backward.
    operands : list of three arrays of int32
    front : int
        Number of values before the first result.
    size : int
        Number of all values.
    constants : (array of places, array of numbers)
    """

    def __init__(self, encoder: Encoder):
        self.dtype = encoder.dtype
        self.front = encoder.front
        self.codes = np.array(encoder.codes, np.uint8)
        self.reverse = np.array(encoder.reverse, np.uint8)
        self.operands = [encoder.final(p).astype(np.int32) for p in encoder.operands]
        self.size = self.front + len(self.codes)
        where, numbers = zip(*encoder.constants.values(), strict=True)
        self.constants = (encoder.final(where), np.array(numbers, self.dtype.np))
        self._arenas: list = []

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def bytes(self) -> int:
        """Of the list itself."""
        return sum(x.nbytes for x in (self.codes, self.reverse, *self.operands))

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_arenas": []}

    def arena(self) -> np.ndarray:
        """Room for all values, the numbers among them filled in. Hand it back with `release`."""
        try:
            return self._arenas.pop()
        except IndexError:
            values = np.empty(self.size, self.dtype.np)
            values[self.constants[0]] = self.constants[1]
            return values

    def release(self, values: np.ndarray) -> None:
        self._arenas.append(values)

    def forget(self) -> None:
        """Drop the arenas: the numbers have changed."""
        self._arenas = []

    def forward(self, values: np.ndarray, lo: int = 0, hi: int | None = None) -> None:
        run = loops(self.dtype)[0]
        run(self.codes, *self.operands, values, self.front, lo, len(self) if hi is None else hi)

    def backward(self, values: np.ndarray, cotangents: np.ndarray) -> None:
        """Add to the cotangents of all values those that flow back from the results'."""
        run = loops(self.dtype)[1]
        run(self.reverse, *self.operands, values, cotangents, self.front, 0, len(self))
