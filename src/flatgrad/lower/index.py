"""Index arithmetic in normal form: sums of ``coefficient * atom`` with known ranges.

Movement operations compose index maps with ``+ * // %``. Keeping every int64 expression as a linear
form makes the maps cancel: a reshape of a contiguous buffer becomes a plain running index again.
Atoms are loop axes, loads, and the floor divisions and remainders that did not simplify.
"""

from __future__ import annotations

from ..graph import dtypes
from .ir import Axis, Expr

_INF = float("inf")
_ranges: dict[Expr, tuple] = {}
_forms: dict[Expr, tuple] = {}


def _const(number: int) -> Expr:
    return Expr("const", dtypes.int64, (), int(number))


def value_range(e: Expr) -> tuple:
    """(lowest, highest) value that an int64 expression can have."""
    found = _ranges.get(e)
    if found is None:
        found = _ranges[e] = _range(e)
    return found


def _range(e: Expr) -> tuple:
    if e.kind == "const":
        return e.arg, e.arg
    if e.kind == "var" and type(e.arg) is Axis:
        return 0, max(e.arg.extent - 1, 0)
    if e.kind == "load" and e.arg.span is not None:
        return e.arg.span
    if e.kind == "binary":
        a, b = value_range(e.args[0]), value_range(e.args[1])
        if e.arg == "+":
            return a[0] + b[0], a[1] + b[1]
        if e.arg == "*" and e.args[1].kind == "const":
            ends = (_times(a[0], b[0]), _times(a[1], b[0]))
            return min(ends), max(ends)
        if e.arg == "//" and b[0] == b[1] and b[0] > 0:
            return _floor(a[0], b[0]), _floor(a[1], b[0])
        if e.arg == "%" and b[0] == b[1] and b[0] > 0:
            return 0, b[0] - 1
        if e.arg == "min":
            return min(a[0], b[0]), min(a[1], b[1])
        if e.arg == "max":
            return max(a[0], b[0]), max(a[1], b[1])
    return -_INF, _INF


def _times(x, k):
    return 0 if k == 0 else x * k


def _floor(x, k):
    return x if x in (_INF, -_INF) else x // k


def linear(e: Expr) -> tuple[dict, int]:
    """`e` as ({atom: coefficient}, constant)."""
    found = _forms.get(e)
    if found is None:
        found = _forms[e] = _linear(e)
        if len(_forms) > 200_000:
            _forms.clear()
            _ranges.clear()
    return found


def _linear(e: Expr) -> tuple[dict, int]:
    if e.kind == "const":
        return {}, e.arg
    if e.kind == "binary":
        if e.arg == "+":
            return _add(linear(e.args[0]), linear(e.args[1]))
        if e.arg == "*" and e.args[1].kind == "const":
            return _scale(linear(e.args[0]), e.args[1].arg)
    return {e: 1}, 0


def _add(a, b):
    terms = dict(a[0])
    for atom, k in b[0].items():
        total = terms.get(atom, 0) + k
        if total:
            terms[atom] = total
        else:
            terms.pop(atom, None)
    return terms, a[1] + b[1]


def _scale(a, k):
    if k == 0:
        return {}, 0
    return {atom: c * k for atom, c in a[0].items()}, a[1] * k


def build(form) -> Expr:
    """The expression of a linear form, largest strides first."""
    terms, offset = _rejoin(form)
    result = None
    for atom, k in sorted(terms.items(), key=lambda item: (-abs(item[1]), repr(item[0]))):
        term = atom if k == 1 else Expr("binary", dtypes.int64, (atom, _const(k)), "*")
        result = term if result is None else Expr("binary", dtypes.int64, (result, term), "+")
    if result is None:
        return _const(offset)
    if offset:
        result = Expr("binary", dtypes.int64, (result, _const(offset)), "+")
    return result


def _rejoin(form) -> tuple[dict, int]:
    """``k*c*(f // c) + k*(f % c)`` is ``k*f``: undo a split whose parts meet again."""
    terms, offset = form
    for atom, k in list(terms.items()):
        if atom.kind == "binary" and atom.arg == "%" and atom in terms:
            f, c = atom.args
            if c.kind != "const" or c.arg <= 0:  # a remainder that the data decides
                continue
            parts = linear(_divide("//", f, c))
            if parts[1] == 0 and len(parts[0]) == 1:
                q, one = next(iter(parts[0].items()))
                if one == 1 and terms.get(q) == k * c.arg:
                    rest = {a: n for a, n in terms.items() if a not in (atom, q)}
                    return _rejoin(_add((rest, offset), _scale(linear(f), k)))
    return terms, offset


def _split(form, c: int):
    """(part divisible by c) / c, and the rest."""
    whole: dict = {}
    rest: dict = {}
    for atom, k in form[0].items():
        (whole if k % c == 0 else rest)[atom] = k // c if k % c == 0 else k
    q, r = divmod(form[1], c)
    return (whole, q), (rest, r)


def simplify_binary(op: str, x: Expr, y: Expr) -> Expr | None:
    """The normal form of ``x op y`` over int64, or None if there is nothing to say."""
    if op == "+":
        return build(_add(linear(x), linear(y)))
    if op == "-":
        return build(_add(linear(x), _scale(linear(y), -1)))
    if op == "*":
        if x.kind == "const":
            x, y = y, x
        return build(_scale(linear(x), y.arg)) if y.kind == "const" else None
    if op in ("//", "%") and y.kind == "const" and y.arg > 0:
        return _divide(op, x, y)
    if op in ("min", "max"):
        a, b = value_range(x), value_range(y)
        if a[1] <= b[0]:
            return x if op == "min" else y
        if b[1] <= a[0]:
            return y if op == "min" else x
    if op in ("<", ">="):
        a, b = value_range(x), value_range(y)
        if a[1] < b[0]:
            return Expr("const", dtypes.bool_, (), op == "<")
        if a[0] >= b[1]:
            return Expr("const", dtypes.bool_, (), op == ">=")
    return None


def _divide(op: str, x: Expr, y: Expr) -> Expr:
    c = y.arg
    if c == 1:
        return x if op == "//" else _const(0)
    quotient, rest = _split(linear(x), c)
    r = build(rest)
    low, high = value_range(r)
    inside = low >= 0 and high < c
    coarse = None if inside else _by_a_divisor(op, rest, c)
    if coarse is not None:
        return coarse if op == "%" else build(_add(quotient, linear(coarse)))
    if op == "//":
        if inside:
            return build(quotient)
        if not rest[0]:
            return build((quotient[0], quotient[1] + rest[1] // c))
        if r.kind == "binary" and r.arg == "//" and r.args[1].kind == "const":
            inner = _divide("//", r.args[0], _const(r.args[1].arg * c))
        else:
            inner = Expr("binary", dtypes.int64, (r, y), "//")
        return build(_add(quotient, linear(inner)))
    if inside:
        return r
    if not rest[0]:
        return _const(rest[1] % c)
    return Expr("binary", dtypes.int64, (r, y), "%")


def _by_a_divisor(op: str, form, c: int) -> Expr | None:
    """``(g*q + r) op c`` where g divides c and 0 <= r < g: what is divided is q alone."""
    for g in sorted({abs(k) for k in form[0].values() if k and c % k == 0 and 1 < abs(k) < c}):
        (q, start), rest = _split(form, g)
        r = build(rest)
        low, high = value_range(r)
        if low >= 0 and high < g:
            divided = _divide(op, build((q, start)), _const(c // g))
            return divided if op == "//" else build(_add(_scale(linear(divided), g), linear(r)))
    return None


def has_division(e: Expr) -> bool:
    """Whether a ``//`` or ``%`` is left anywhere in an index expression."""
    if e.kind == "binary" and e.arg in ("//", "%"):
        return True
    return any(has_division(a) for a in e.args)


def axes_in(e: Expr) -> set:
    """The loop axes that an expression depends on."""
    found, stack, seen = set(), [e], set()
    while stack:
        x = stack.pop()
        if x in seen:
            continue
        seen.add(x)
        if x.kind == "var" and type(x.arg) is Axis:
            found.add(x.arg)
        stack.extend(x.args)
    return found
