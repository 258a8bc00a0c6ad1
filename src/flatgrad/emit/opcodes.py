"""Operations as numbers: the table behind the generic loop, derived from the registry.

Every elementwise operation on scalars of one float type (and on the truth values among them) is an
opcode. Its value is the operation's own scalar expression; its derivatives are what its pullback
rule records on scalar placeholders, read as expressions. Nothing is written twice.

Truth values are kept as 1.0 and 0.0 among the floats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import product

from ..errors import FlatgradError
from ..graph import dtypes
from ..graph.dtypes import DType
from ..graph.node import CONST, Node, placeholder, toposort
from ..graph.op import REGISTRY, Op
from ..lower import ir
from ..lower.ir import Expr
from ..lower.pull import scalar_expression
from ..tensor import wrap
from ..transform.pullback import run_rule
from ..transform.trace import quiet

__all__ = ["Opcode", "Reverse", "Table", "table"]


@dataclass(frozen=True, slots=True)
class Reverse:
    """How one pattern of wanted cotangents is computed.

    partials : one an input, an expression over ``g``, ``out`` and ``x0, x1, x2``; None adds nothing.
    """

    number: int
    partials: tuple[Expr | None, ...]

    @property
    def reads_values(self) -> bool:
        """Whether it needs values of the forward pass."""
        return any(e is not None and _variables(e) - {"g"} for e in self.partials)


@dataclass(frozen=True, slots=True)
class Opcode:
    """One operation on scalars of given kinds.

    value : expression over ``x0, x1, x2``; reverse : pattern of wanted inputs -> Reverse.
    """

    number: int
    name: str
    kinds: tuple[DType, ...]
    result: DType
    value: Expr
    reverse: dict = field(default_factory=dict)

    def reverse_for(self, wanted: tuple[bool, ...]) -> Reverse | None:
        """What computes at least the `wanted` cotangents; None if the operation has no such rule."""
        found = self.reverse.get(wanted)
        if found is None:
            found = self.reverse.get(tuple([k is self.result for k in self.kinds]))
        return found


class Table:
    """All opcodes of one float type.

    Attributes
    ----------
    dtype : DType
    codes : list of Opcode
        Numbered from 0.
    reverses : list of (Opcode, Reverse)
        Numbered from 1: 0 says that nothing flows.
    """

    def __init__(self, dtype: DType):
        self.dtype = dtype
        self.codes: list[Opcode] = []
        self.reverses: list[tuple[Opcode, Reverse]] = []
        self._by_key: dict = {}
        for op in list(REGISTRY.values()):
            if op.kind == "elementwise" and op.arity <= 3:
                self._enter_all(op)

    @cached_property
    def linear(self) -> frozenset[str]:
        """Names of the operations whose derivative needs no values of the forward pass."""
        reading = {code.name for code, rule in self.reverses if rule.reads_values}
        other = {
            "reduce_sum",
            "reshape",
            "permute",
            "expand",
            "slice",
            "cat",
            "constant_pad",
            "alias",
        }
        return frozenset(other | {code.name for code, _ in self.reverses} - reading)

    def find(self, op: Op, attrs: tuple, kinds: tuple) -> Opcode | None:
        return self._by_key.get((op, attrs, kinds))

    def _enter_all(self, op: Op) -> None:
        if op.name == "cast":
            self._enter(op, (dtypes.bool_,), (self.dtype,))
            self._enter(op, (self.dtype,), (dtypes.bool_,))
        elif not op.attrs:
            for kinds in product((self.dtype, dtypes.bool_), repeat=op.arity):
                self._enter(op, (), kinds)

    def _enter(self, op: Op, attrs: tuple, kinds: tuple) -> None:
        nodes = [placeholder(k, (), kind) for k, kind in enumerate(kinds)]
        mixed = len(set(kinds)) > 1 and kinds != (dtypes.bool_, self.dtype, self.dtype)
        if mixed or (op.name == "where" and kinds[0] is not dtypes.bool_):
            return  # recording casts operands to one type
        try:
            result = op.infer(*nodes, *attrs)[1]
            whole = Node(op, tuple(nodes), attrs, (), result)
            value = scalar_expression(whole, [_x(k, n.dtype) for k, n in enumerate(nodes)])
        except (FlatgradError, AssertionError, AttributeError, KeyError):
            return  # the operation is not defined for these kinds
        if value.dtype is not result or result not in (self.dtype, dtypes.bool_):
            return
        code = Opcode(len(self.codes), op.name, kinds, result, value)
        self.codes.append(code)
        self._by_key[op, attrs, kinds] = code
        if result is self.dtype and op.differentiable and op.pullback is not None:
            self._enter_reverses(code, op, attrs)

    def _enter_reverses(self, code: Opcode, op: Op, attrs: tuple) -> None:
        floats = tuple([k is self.dtype for k in code.kinds])
        if not any(floats):
            return
        patterns = {floats}
        if sum(floats) == 2:
            patterns |= {tuple([k == j for k in range(len(floats))]) for j in _places(floats)}
        elif sum(floats) == 3:
            patterns.add((True, False, False))
        for wanted in sorted(patterns):
            partials = _partials(op, attrs, code.kinds, self.dtype, wanted)
            if partials is not None:
                rule = Reverse(len(self.reverses) + 1, partials)
                self.reverses.append((code, rule))
                code.reverse[wanted] = rule

    def describe(self) -> str:
        """All that machine code depends on, as text: one line an opcode."""
        lines = [
            f"{c.number} {c.name}({', '.join(k.name for k in c.kinds)}) -> {c.result.name}: {c.value}"
            for c in self.codes
        ]
        for code, rule in self.reverses:
            lines.append(f"{rule.number} d {code.name}: {', '.join(map(repr, rule.partials))}")
        return "\n".join(lines)


@cache
def table(dtype: DType) -> Table:
    """The opcodes of one float type, made once a process."""
    return Table(dtype)


def _x(k: int, dtype: DType) -> Expr:
    return ir.var(f"x{k}", dtype)


def _places(flags) -> list[int]:
    return [k for k, flag in enumerate(flags) if flag]


def _partials(op: Op, attrs, kinds, dtype: DType, wanted) -> tuple | None:
    """What the pullback rule adds to each wanted input; None if it can't be said in scalars."""
    with quiet():
        xs = [
            placeholder(k, (), kind, w)
            for k, (kind, w) in enumerate(zip(kinds, wanted, strict=True))
        ]
        out, g = placeholder(-1, (), dtype, True), placeholder(-2, (), dtype)
        found = run_rule(op, wrap(g), wrap(out), [wrap(x) for x in xs], attrs)
        roots = [
            None if t is None or not w else t._node for t, w in zip(found, wanted, strict=True)
        ]
    given = {x: _x(k, x.dtype) for k, x in enumerate(xs)}
    given |= {out: ir.var("out", dtype), g: ir.var("g", dtype)}
    for node in toposort([r for r in roots if r is not None]):
        if node in given:
            continue
        if node.op is CONST:
            given[node] = ir.const(node.attrs[0], node.dtype)
        elif node.op.kind == "alias":
            given[node] = given[node.inputs[0]]
        elif node.op.kind == "elementwise":
            given[node] = scalar_expression(node, [given[s] for s in node.inputs])
        else:
            return None
    return tuple([None if r is None or _is_zero(given[r]) else given[r] for r in roots])


def _is_zero(e: Expr) -> bool:
    return e.kind == "const" and e.arg == 0


def _variables(e: Expr) -> set[str]:
    names, stack = set(), [e]
    while stack:
        e = stack.pop()
        if e.kind == "var":
            names.add(e.arg)
        stack.extend(e.args)
    return names
