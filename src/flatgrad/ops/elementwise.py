"""Elementwise arithmetic: sums, products, division, powers, rounding, blends.

One scalar expression and one partial an input, declared once. Each partial says where its formula
comes from ("PyTorch": ``derivatives.yaml``), and why it has the form it has: it must be accurate at
the edges of the domain too. The other elementwise families: ``logic`` (comparison, logic, bits),
``selection`` (signs, where, extrema, clamp), ``transcendental``. Python's operators: ``operators``.
"""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..graph import dtypes
from ..graph.dtypes import BOOL, FLOAT, INTEGER
from ..graph.op import BadCall, Sample
from ..tensor import Tensor, node_of
from . import logic
from .declare import NUMBERS, Gate, alias, cast, composite, elementwise, operands, tensor_of
from .scalars import (
    OVER,
    PAIR,
    POSITIVE,
    REAL,
    copy_sign,
    is_bool,
    is_float,
    number_of,
    one_samples,
    operand_errors,
    pair_samples,
    triple_samples,
    with_arguments,
    written,
)
from .selection import maximum, minimum, select, where  # noqa: F401

# fmt: off
# -- sums and products ----------------------------------------------------------------------------

raw_add = elementwise(
    "add", 2, numpy=np.add, scalar=lambda s, x, y: x | y if is_bool(x) else x + y,
    partials=(lambda x, y, out: 1, lambda x, y, out: 1), domain=PAIR, public=False,
    doc="x + y; on bools: x or y.",
)
raw_sub = elementwise(
    "sub", 2, numpy=np.subtract, scalar=lambda s, x, y: x - y, rule="number",
    partials=(lambda x, y, out: 1, lambda x, y, out: -1), domain=PAIR, public=False, doc="x - y.",
)
mul = elementwise(
    "mul", 2, numpy=np.multiply, scalar=lambda s, x, y: x & y if is_bool(x) else x * y,
    partials=(lambda x, y, out: y, lambda x, y, out: x), domain=PAIR, ufuncs=(np.multiply,),
    doc="x * y; on bools: x and y.",
)
raw_div = elementwise(
    "div", 2, numpy=np.true_divide, scalar=lambda s, x, y: x / y, rule="float",
    # d/dy x/y = -(x/y)/y, with the one division that d/dx has too; y**2 would overflow.
    partials=(lambda x, y, out: 1 / y, lambda x, y, out: -(out * (1 / y))),
    domain=OVER, edges=((1.0, 1e-200), (1.0, 1e150), (0.0, 2.0)), public=False,
    doc="x / y, always floating.",
)
neg = elementwise(
    "neg", 1, numpy=np.negative, scalar=lambda s, x: -x, rule="number",
    partials=(lambda x, out: -1,), domain=REAL, ufuncs=(np.negative,), doc="-x.",
)
reciprocal = elementwise(
    "reciprocal", 1, numpy=lambda x: 1 / x, scalar=lambda s, x: 1 / x, rule="float",
    # PyTorch: -out**2.
    partials=(lambda x, out: -(out * out),), domain=POSITIVE, edges=(1e-150, 1e150, -0.5),
    ufuncs=(np.reciprocal,), doc="1 / x.",
)
# fmt: on


def _scaled_other(name: str, input, other, alpha):
    """``other * alpha`` with PyTorch's checks of `alpha`."""
    if type(alpha) not in NUMBERS:
        raise ArgumentError(f"{name}: alpha must be a number, got {type(alpha).__name__}")
    if alpha == 1:
        return other
    _, dtype = operands(name, (input, other))
    if dtype.category < FLOAT and type(alpha) is float:
        raise ArgumentError(
            f"{name}: for integer tensors alpha must be an integer, got {alpha}; convert a tensor "
            "with .to(), or give an int"
        )
    return mul(other, alpha) if isinstance(other, Tensor) else other * alpha


def _alpha_errors():
    yield from operand_errors()
    yield BadCall((np.ones(2, int), np.ones(2, int)), ArgumentError, "integer", {"alpha": 0.5})


@composite(
    op=raw_add.op, numpy=(np.add,), inplace=True, samples=with_arguments(pair_samples, alpha=0.7),
    errors=_alpha_errors,
)  # fmt: skip
def add(input: Tensor, other, *, alpha=1, out: Tensor | None = None) -> Tensor:
    """``input + alpha * other``."""
    return written("add", raw_add(input, _scaled_other("add", input, other, alpha)), out)


@composite(
    op=raw_sub.op, numpy=(np.subtract,), inplace=True,
    samples=with_arguments(pair_samples, alpha=0.7), errors=_alpha_errors,
)  # fmt: skip
def sub(input: Tensor, other, *, alpha=1, out: Tensor | None = None) -> Tensor:
    """``input - alpha * other``. Not defined for bools: use ``^``."""
    for operand in (input, other):
        if isinstance(operand, Tensor) and operand.dtype is dtypes.bool_:
            raise DTypeError(
                "sub: not defined for bool tensors; use ^, or convert with .to() first"
            )
    return written("sub", raw_sub(input, _scaled_other("sub", input, other, alpha)), out)


@composite(samples=pair_samples)
def true_divide(input: Tensor, other, *, out=None) -> Tensor:
    """``input / other``, always floating: :func:`flatgrad.div` without a rounding mode."""
    return div(input, other, out=out)


@composite(samples=with_arguments(pair_samples, alpha=0.7))
def rsub(input: Tensor, other, *, alpha=1) -> Tensor:
    """``other - alpha * input``."""
    return raw_sub(other, _scaled_other("rsub", other, input, alpha))


@composite(inplace=True, samples=one_samples, numpy=(np.square,))
def square(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``input ** 2``."""
    return written("square", pow(input, 2), out)


@composite(numpy=(np.positive,), samples=one_samples)
def positive(input: Tensor) -> Tensor:
    """``+input``: the tensor itself. Not defined for bools."""
    if node_of(tensor_of("positive", input)).dtype.category == BOOL:
        raise DTypeError("positive: not defined for bool tensors; convert with .to() first")
    return input


# -- division with rounding -----------------------------------------------------------------------
# Integers by zero give 0, as NumPy's do: a lazily recorded program has no line to raise at, and
# machine division would trap. The lowest integer divided by -1 wraps, as NumPy's does.


def _floor_divide(s, x, y):
    if not is_float(x):
        unsafe = y.eq(0) | y.eq(-1) if x.dtype.is_signed else y.eq(0)
        quotient = x // s.where(unsafe, 1, y)
        if x.dtype.is_signed:
            quotient = s.where(y.eq(-1), -x, quotient)
        return s.where(y.eq(0), 0, quotient)
    # Python's float floor division: exact remainder first, then a quotient next to an integer.
    rest = s.call("fmod", x, y)
    other_side = rest.ne(0) & ((y < 0) ^ (rest < 0))
    quotient = (x - rest) / y
    quotient = s.where(other_side, quotient - 1, quotient)
    floor = s.unary("floor", quotient)
    near = s.where(quotient - floor > 0.5, floor + 1, floor)
    result = s.where(quotient.ne(0), near, x / y * 0)
    return s.where(y.eq(0), x / y, result)


def _remainder(s, x, y):
    if not is_float(x):
        unsafe = y.eq(0) | y.eq(-1) if x.dtype.is_signed else y.eq(0)
        return s.where(unsafe, 0, x % s.where(unsafe, 1, y))
    rest = s.call("fmod", x, y)
    other_side = rest.ne(0) & ((y < 0) ^ (rest < 0))
    return s.where(other_side, rest + y, s.where(rest.eq(0), copy_sign(s, rest, y), rest))


def _fmod(s, x, y):
    if is_float(x):
        return s.call("fmod", x, y)
    floored = _remainder(s, x, y)
    return s.where(floored.ne(0) & ((x < 0) ^ (y < 0)), floored - y, floored)


# fmt: off
raw_floor_divide = elementwise(
    "floor_divide", 2, numpy=np.floor_divide, scalar=_floor_divide, rule="number",
    ufuncs=(np.floor_divide,), domain=OVER,
    doc="floor(x / y), not differentiable (use div with rounding_mode). Integers by zero give 0.",
)
remainder = elementwise(
    "remainder", 2, numpy=np.remainder, scalar=_remainder, rule="number",
    # x - y*floor(x/y) (PyTorch): 1 by x, -floor(x/y) by y.
    partials=(lambda x, y, out: 1, lambda x, y, out: -div(x, y, rounding_mode="floor")),
    ufuncs=(np.remainder,), domain=OVER,
    kinks="1 by x where x/y is an integer too",
    doc="x - y*floor(x/y): y's sign. Integers by 0 give 0.",
)
fmod = elementwise(
    "fmod", 2, numpy=np.fmod, scalar=_fmod, rule="number",
    # x - y*trunc(x/y) (PyTorch): 1 by x, -trunc(x/y) by y.
    partials=(lambda x, y, out: 1, lambda x, y, out: -div(x, y, rounding_mode="trunc")),
    ufuncs=(np.fmod,), domain=OVER,
    kinks="1 by x where x/y is an integer too",
    doc="x - y*trunc(x/y): x's sign. Integers by 0 give 0.",
)
floor_divide = raw_floor_divide
# fmt: on


def _div_samples(rng):
    yield from pair_samples(rng)
    for mode in ("floor", "trunc"):
        yield Sample((rng.uniform(-3, 3, (2, 3)), rng.uniform(0.5, 3, 3)), {"rounding_mode": mode})


def _div_errors():
    yield BadCall((np.ones((2, 3)), np.ones(2)), RuntimeError, "do not broadcast")
    yield BadCall((np.ones(2), 2), ArgumentError, "rounding_mode", {"rounding_mode": "up"})


@composite(
    op=raw_div.op, numpy=(np.true_divide,), inplace=True, samples=_div_samples, errors=_div_errors
)
def div(input: Tensor, other, *, rounding_mode: str | None = None, out=None) -> Tensor:
    """``input / other``.

    Parameters
    ----------
    input, other : Tensor or number
    rounding_mode : None, "trunc" or "floor"
        None divides truly and the result is floating; the others round it towards zero or down,
        keep integers integers, and have the derivative 0.
    out : Tensor, optional

    Raises
    ------
    ArgumentError
        For another rounding mode.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.div(fg.tensor([-7, 7]), 2, rounding_mode="trunc").tolist()
    [-3, 3]
    """
    if rounding_mode is None:
        return written("div", raw_div(input, other), out)
    if rounding_mode not in ("trunc", "floor"):
        raise ArgumentError(
            f'div: rounding_mode must be None, "trunc" or "floor", got {rounding_mode!r}'
        )
    _, dtype = operands("div", (input, other))
    if dtype.category < FLOAT:
        quotient = raw_floor_divide(input, other)
        if rounding_mode == "trunc":
            down = logic.ne(raw_sub(input, mul(quotient, other)), 0)
            across = logic.lt(quotient, 0) & down & logic.ne(other, 0)
            quotient = raw_add(quotient, cast(across, node_of(quotient).dtype))
        return written("div", quotient, out)
    if rounding_mode == "trunc":
        return written("div", trunc(raw_div(input, other)), out)
    return written("div", floor_quotient(input, other), out)


# fmt: off
floor_quotient = elementwise(
    "floor_quotient", 2, numpy=np.floor_divide, scalar=_floor_divide, rule="number",
    partials=(lambda x, y, out: 0, lambda x, y, out: 0), domain=OVER, public=False,
    doc="floor(x / y) with the derivative 0.",
)
# fmt: on


# -- powers ---------------------------------------------------------------------------------------


def _fixed_power(x, n):
    """``x ** n`` by multiplication where that is as accurate; None for other `n`."""
    if n == 1:
        return x
    if n == 2:
        return x * x
    if n == 3:
        return x * x * x
    if n == 4:
        return (x * x) * (x * x)
    return None


def _power_numpy(x, y):
    if y.ndim == 0:
        fixed = _fixed_power(x, y.item())
        if fixed is not None:
            return fixed
        if y == -1 and x.dtype.kind == "f":
            return 1 / x
    if x.dtype.kind in "iu":
        # A negative power of an integer is an integer for 1 and -1 only; PyTorch says 0 else.
        odd_sign = np.where(y % 2, x, 1)
        inverse = np.where((x == 1) | (x == -1), odd_sign, 0)
        return np.where(y < 0, inverse, np.power(x, np.maximum(y, 0))).astype(x.dtype)
    return np.power(x, y)


def _integer_power(s, x, y):
    """Square and multiply over the exponent's bits, wrapping like the multiplication itself."""
    if y.kind == "const" and y.arg >= 0:
        result, square, rest = s.const(1, x.dtype), x, y.arg
        while rest:
            result = result * square if rest & 1 else result
            square, rest = square * square, rest >> 1
        return result
    result, square = s.const(1, x.dtype), x
    for k in range(8 * x.dtype.itemsize - 1):
        result = s.where((y & (1 << k)).ne(0), result * square, result)
        square = square * square
    if x.dtype.is_signed:
        odd_sign = s.where((y & 1).ne(0), x, 1)
        result = s.where(y < 0, s.where(x.eq(1) | x.eq(-1), odd_sign, 0), result)
    else:
        result = s.where((y & 128).ne(0), result * square, result)
    return result


def _power(s, x, y):
    if not is_float(x):
        return _integer_power(s, x, y)
    if y.kind == "const":
        fixed = _fixed_power(x, y.arg)
        if fixed is not None:
            return fixed
        if y.arg == -1:
            return 1 / x
    return s.call("pow", x, y)


def _power_by_base(x, y, out):
    # y * x**(y-1), and 0 where y = 0 whatever x is (PyTorch, pow_backward).
    n = number_of(y)
    if n is None:
        return Gate(logic.ne(y, 0), y * raw_pow(x, y - 1))
    if n in (0, 1, 2):
        return (0, 1, 2 * x)[int(n)]
    return n * raw_pow(x, n - 1)


def _power_by_exponent(x, y, out):
    # x**y * log(x), and 0 where x = 0 and y >= 0 (PyTorch, pow_backward_exponent).
    from .transcendental import log

    return Gate(logic.logical_not(logic.eq(x, 0) & logic.ge(y, 0)), out * log(x))


# fmt: off
raw_pow = elementwise(
    "pow", 2, numpy=_power_numpy, scalar=_power, rule="number",
    partials=(_power_by_base, _power_by_exponent), domain=(POSITIVE[0], REAL[0]), public=False,
    edges=((2.0, 0.0), (1e-100, 2.0), (1e100, 1.5), (0.5, -1.0), (3.0, 2.0), (1e-5, 3.0)),
    kinks="0 by x where y = 0; 0 by y where x = 0 and y >= 0",
    doc="x**y.",
)
# fmt: on


def _pow_samples(rng):
    for a, b in (((3,), (3,)), ((2, 3), (3,)), ((), (2,)), ((2, 1), ()), ((0,), (1,))):
        yield Sample((rng.uniform(0.3, 3, a), rng.uniform(-2, 2, b)))
    for n in (0, 1, 2, 3, 4, 5, -1, -2, 0.5, 1.5, 2.0):
        yield Sample((rng.uniform(0.3, 3, (2, 2)), n))
    yield Sample((rng.uniform(-3, -0.3, 3), 3))
    yield Sample((2.0, rng.normal(size=3)))


def _pow_errors():
    yield BadCall((np.ones((2, 3)), np.ones(2)), RuntimeError, "do not broadcast")
    yield BadCall((np.ones(2, int), -1), ArgumentError, "negative integer power")
    yield BadCall((np.ones(2), "x"), TypeError, "argument 1 must be a Tensor")


@composite(op=raw_pow.op, numpy=(np.power,), inplace=True, samples=_pow_samples, errors=_pow_errors)
def pow(input: Tensor, exponent, *, out: Tensor | None = None) -> Tensor:
    """``input ** exponent``, each a tensor or a number.

    The derivative by the input is 0 where the exponent is 0; by the exponent it is 0 where the
    input is 0 and the exponent is not negative, as in PyTorch.

    Raises
    ------
    ArgumentError
        For an integer tensor and a negative integer exponent.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.pow(fg.tensor([1.0, 2.0, 3.0]), 2).tolist()
    [1.0, 4.0, 9.0]
    """
    if type(exponent) is int and exponent < 0 and isinstance(input, Tensor):
        dtype = node_of(input).dtype
        if dtype.category <= INTEGER:
            raise ArgumentError(
                f"pow: integers can't be raised to a negative integer power, got {dtype!r} ** "
                f"{exponent}; convert the tensor with .to(flatgrad.float64) first"
            )
    return written("pow", raw_pow(input, exponent), out)


@composite(numpy=(np.float_power,), samples=_pow_samples, inplace=True)
def float_power(input: Tensor, exponent, *, out: Tensor | None = None) -> Tensor:
    """``input ** exponent`` in float64."""
    both = [
        float(x) if type(x) in NUMBERS else cast(tensor_of("float_power", x, k), dtypes.float64)
        for k, x in enumerate((input, exponent))
    ]
    return written("float_power", raw_pow(*both), out)


# -- rounding -------------------------------------------------------------------------------------


def _rounding(name, numpy, doc, ufuncs=()):
    return elementwise(
        name,
        1,
        numpy=lambda x: numpy(x) if x.dtype.kind == "f" else x,
        scalar=lambda s, x: s.unary("rint" if name == "round" else name, x) if is_float(x) else x,
        rule="number",
        partials=(lambda x, out: 0,),
        domain=REAL,
        kinks="0 everywhere, as in PyTorch",
        ufuncs=ufuncs,
        public=name != "round",
        doc=doc,
    )


floor = _rounding("floor", np.floor, "The largest integer <= x.", (np.floor,))
ceil = _rounding("ceil", np.ceil, "The smallest integer >= x.", (np.ceil,))
trunc = _rounding("trunc", np.trunc, "x without its fraction.", (np.trunc,))
raw_round = _rounding("round", np.rint, "The nearest integer, ties to even.")


def _round_samples(rng):
    for shape in ((3,), (2, 2), (), (0,)):
        yield Sample((rng.uniform(-30, 30, shape),))
        yield Sample((rng.uniform(-30, 30, shape),), {"decimals": 1})
    yield Sample((rng.uniform(-300, 300, 4),), {"decimals": -2})


def _round_errors():
    yield BadCall((np.ones(2, int),), DTypeError, "decimals", {"decimals": 1})


@composite(
    op=raw_round.op, inplace=True, samples=_round_samples, errors=_round_errors, numpy=(np.rint,)
)
def round(input: Tensor, *, decimals: int = 0, out: Tensor | None = None) -> Tensor:
    """The nearest multiple of ``10**-decimals``, ties to even. The derivative is 0."""
    if decimals == 0:
        return written("round", raw_round(input), out)
    dtype = node_of(tensor_of("round", input)).dtype
    if dtype.category < FLOAT:
        raise DTypeError(f"round: decimals need a floating tensor, got {dtype!r}; leave them out")
    scale = 10.0 ** (decimals if decimals > 0 else -decimals)
    if decimals > 0:
        return written("round", raw_div(raw_round(mul(input, scale)), scale), out)
    return written("round", mul(raw_round(raw_div(input, scale)), scale), out)


def _need_float(name: str, input) -> None:
    dtype = node_of(tensor_of(name, input)).dtype
    if dtype.category < FLOAT:
        raise DTypeError(
            f"{name}: a floating tensor is required, got {dtype!r}; convert with .to()"
        )


def _float_errors():
    yield BadCall((np.ones(2, int),), DTypeError, "floating tensor is required")


@composite(inplace=True, samples=one_samples, errors=_float_errors)
def frac(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``input - trunc(input)``; the derivative is 1."""
    _need_float("frac", input)
    return written("frac", raw_sub(input, trunc(input)), out)


# -- blends ---------------------------------------------------------------------------------------


def _lerp_samples(rng):
    yield from triple_samples(rng)
    for weight in (0.25, 0.75):
        yield Sample((rng.normal(size=3), rng.normal(size=3), weight))


@composite(inplace=True, samples=_lerp_samples)
def lerp(input: Tensor, end: Tensor, weight, *, out: Tensor | None = None) -> Tensor:
    """``input + weight * (end - input)``, exact at both ends (from the nearer one)."""
    span = raw_sub(end, input)
    if type(weight) in NUMBERS:
        near = weight < 0.5
        result = input + weight * span if near else end - span * (1 - weight)
    else:
        near = logic.lt(weight, 0.5)
        result = select(near, input + weight * span, end - span * (1 - weight))
    return written("lerp", result, out)


@composite(inplace=True, samples=with_arguments(triple_samples, value=0.7))
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value=1, out=None) -> Tensor:
    """``input + value * tensor1 * tensor2``."""
    product = mul(tensor1, tensor2)
    return written("addcmul", raw_add(input, product if value == 1 else product * value), out)


@composite(inplace=True, samples=with_arguments(triple_samples, value=0.7))
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value=1, out=None) -> Tensor:
    """``input + value * tensor1 / tensor2``; the division is true."""
    scaled = tensor1 if value == 1 else mul(tensor1, value)
    return written("addcdiv", raw_add(input, raw_div(scaled, tensor2)), out)


alias("sub", "subtract")
alias("mul", "multiply")
alias("div", "divide")
alias("neg", "negative")
alias("trunc", "fix")
