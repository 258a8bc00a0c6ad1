"""Elementwise exponentials, logarithms, trigonometric, hyperbolic and special functions.

``scalar`` names the function of the loop IR's mathematical library, which has NumPy's meaning and
vectorises. Partials are written for accuracy where PyTorch's cancel or overflow (each says so), and
of smooth operations only, so that derivatives of every order are right.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import ArgumentError
from ..graph import dtypes
from ..graph.op import BadCall, Op, Sample, register
from ..tensor import DETACH, Tensor, node_of, record
from . import logic
from .declare import (
    Gate,
    alias,
    cast,
    composite,
    elementwise,
    operands,
    tensor_of,
    to_float,
)
from .elementwise import mul, raw_pow
from .scalars import PAIR, POSITIVE, REAL, larger, one_samples, pair_samples, written
from .selection import abs, clamp, select

LN2 = math.log(2.0)
LN10 = math.log(10.0)
_UNIT = ((-0.9, 0.9),)
_TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)


def _scipy(name: str):
    """SciPy's special function, imported when it is first needed."""

    def function(*arrays):
        import scipy.special

        return getattr(scipy.special, name)(*arrays)

    return function


# fmt: off
# -- roots, exponentials, logarithms --------------------------------------------------------------

sqrt = elementwise(
    "sqrt", 1, numpy=np.sqrt, scalar=lambda s, x: s.unary("sqrt", x), rule="float",
    # 1/(2 sqrt x), from the output; 1/sqrt x is often there already, and half of it is exact.
    partials=(lambda x, out: 0.5 * (1 / out),), domain=POSITIVE, edges=(0.0, 1e-300, 1e300),
    kinks="inf at 0", ufuncs=(np.sqrt,), doc="The square root; NaN for x < 0.",
)
rsqrt = elementwise(
    "rsqrt", 1, numpy=lambda x: 1 / np.sqrt(x), scalar=lambda s, x: 1 / s.unary("sqrt", x),
    rule="float",
    # -x**-1.5/2 as -out/(2x): one rounding less than PyTorch's out**3.
    partials=(lambda x, out: -0.5 * out / x,), domain=POSITIVE, edges=(1e-200, 1e200),
    doc="1 / sqrt(x).",
)
cbrt = elementwise(
    "cbrt", 1, numpy=np.cbrt, scalar="cbrt", rule="float",
    # 1/(3 out**2).
    partials=(lambda x, out: 1 / (3 * out * out),), domain=POSITIVE, edges=(1e-300, 1e300, -8.0),
    kinks="inf at 0", ufuncs=(np.cbrt,), torch=None, doc="The cube root.",
)
exp = elementwise(
    "exp", 1, numpy=np.exp, scalar="exp", rule="float", partials=(lambda x, out: out,), domain=REAL,
    edges=(-745.0, -700.0, 0.0, 709.0), ufuncs=(np.exp,), doc="e**x.",
)
exp2 = elementwise(
    "exp2", 1, numpy=np.exp2, scalar="exp2", rule="float", partials=(lambda x, out: out * LN2,),
    domain=REAL, edges=(-1000.0, 0.0, 1000.0), ufuncs=(np.exp2,), doc="2**x.",
)
expm1 = elementwise(
    "expm1", 1, numpy=np.expm1, scalar="expm1", rule="float",
    # e**x itself: out + 1 (PyTorch's) is 0 for x < -37.
    partials=(lambda x, out: exp(x),), domain=REAL, edges=(-100.0, -1e-10, 0.0, 1e-300, 700.0),
    ufuncs=(np.expm1,), doc="e**x - 1, accurate near 0.",
)
log = elementwise(
    "log", 1, numpy=np.log, scalar="log", rule="float", partials=(lambda x, out: 1 / x,),
    domain=POSITIVE, edges=(1e-300, 1.0, 1e300), ufuncs=(np.log,),
    doc="The natural logarithm; -inf at 0, NaN below.",
)
log2 = elementwise(
    "log2", 1, numpy=np.log2, scalar="log2", rule="float", partials=(lambda x, out: 1 / (x * LN2),),
    domain=POSITIVE, edges=(1e-300, 1.0, 1e300), ufuncs=(np.log2,), doc="The logarithm to base 2.",
)
log10 = elementwise(
    "log10", 1, numpy=np.log10, scalar="log10", rule="float",
    partials=(lambda x, out: 1 / (x * LN10),), domain=POSITIVE, edges=(1e-300, 1.0, 1e300),
    ufuncs=(np.log10,), doc="The logarithm to base 10.",
)
log1p = elementwise(
    "log1p", 1, numpy=np.log1p, scalar="log1p", rule="float",
    partials=(lambda x, out: 1 / (1 + x),),
    domain=((-0.7, 3.0),), edges=(-1 + 1e-12, -1e-300, 0.0, 1e-10, 1e300), ufuncs=(np.log1p,),
    doc="log(1 + x), accurate near 0.",
)

# -- trigonometry (radians) -----------------------------------------------------------------------

sin = elementwise(
    "sin", 1, numpy=np.sin, scalar="sin", rule="float", partials=(lambda x, out: cos(x),),
    domain=REAL,
    edges=(0.0, 1e-300, math.pi / 2, 1e5), ufuncs=(np.sin,), doc="The sine of x in radians.",
)
cos = elementwise(
    "cos", 1, numpy=np.cos, scalar="cos", rule="float", partials=(lambda x, out: -sin(x),),
    domain=REAL,
    edges=(0.0, 1e-300, math.pi, 1e5), ufuncs=(np.cos,), doc="The cosine of x in radians.",
)
tan = elementwise(
    "tan", 1, numpy=np.tan, scalar="tan", rule="float",
    # sec(x)**2 = 1 + tan(x)**2: a sum of squares, nothing cancels (PyTorch).
    partials=(lambda x, out: 1 + out * out,), domain=((-1.3, 1.3),),
    edges=(0.0, 1e-300, 1.5707, 3.0),
    ufuncs=(np.tan,), doc="The tangent of x in radians.",
)
asin = elementwise(
    "asin", 1, numpy=np.arcsin, scalar="asin", rule="float",
    # 1/sqrt(1-x**2) with 1-x**2 factored: 1-x is exact near 1, while x**2 (PyTorch's) cancels.
    partials=(lambda x, out: rsqrt((1 - x) * (1 + x)),), domain=_UNIT,
    edges=(1 - 1e-12, -1 + 1e-12, 0.0, 1e-300), kinks="inf at -1 and 1", ufuncs=(np.arcsin,),
    doc="The inverse sine, in radians.",
)
acos = elementwise(
    "acos", 1, numpy=np.arccos, scalar="acos", rule="float",
    # As asin.
    partials=(lambda x, out: -rsqrt((1 - x) * (1 + x)),), domain=_UNIT,
    edges=(1 - 1e-12, -1 + 1e-12, 0.0, 1e-300), kinks="-inf at -1 and 1", ufuncs=(np.arccos,),
    doc="The inverse cosine, in radians.",
)
atan = elementwise(
    "atan", 1, numpy=np.arctan, scalar="atan", rule="float",
    partials=(lambda x, out: 1 / (1 + x * x),),
    domain=REAL, edges=(0.0, 1e-300, 1e5, 1e150), ufuncs=(np.arctan,),
    doc="The inverse tangent, in radians.",
)


def _by_hypot(x, y):
    # A point's coordinate over its square distance, in two divisions: x**2 + y**2 (PyTorch's) over-
    # and underflows. 0 at the origin, as PyTorch.
    r = hypot(x, y)
    return lambda z: Gate(logic.ne(r, 0), z / r / r)


atan2 = elementwise(
    "atan2", 2, numpy=np.arctan2, scalar="atan2", rule="float",
    partials=(lambda y, x, out: _by_hypot(y, x)(x), lambda y, x, out: _by_hypot(y, x)(-y)),
    domain=(REAL[0], (0.3, 3.0)), edges=((1e-200, 1e-200), (1e150, -1e150), (0.0, 1.0), (1.0, 0.0)),
    kinks="0 at the origin", ufuncs=(np.arctan2,), doc="The angle of the point (y, x), in radians.",
)
hypot = elementwise(
    "hypot", 2, numpy=np.hypot, scalar="hypot", rule="float",
    partials=(lambda x, y, out: x / out, lambda x, y, out: y / out), domain=(REAL[0], (0.3, 3.0)),
    edges=((1e-200, 1e-200), (1e200, 1e200), (3.0, 0.0)), kinks="NaN at the origin, as in PyTorch",
    ufuncs=(np.hypot,), doc="sqrt(x**2 + y**2) without overflow.",
)

# -- hyperbolic -----------------------------------------------------------------------------------

sinh = elementwise(
    "sinh", 1, numpy=np.sinh, scalar="sinh", rule="float", partials=(lambda x, out: cosh(x),),
    domain=REAL, edges=(0.0, 1e-300, 700.0), ufuncs=(np.sinh,), doc="The hyperbolic sine.",
)
cosh = elementwise(
    "cosh", 1, numpy=np.cosh, scalar="cosh", rule="float", partials=(lambda x, out: sinh(x),),
    domain=REAL, edges=(0.0, 1e-300, 700.0), ufuncs=(np.cosh,), doc="The hyperbolic cosine.",
)
tanh = elementwise(
    "tanh", 1, numpy=np.tanh, scalar="tanh", rule="float",
    # sech(x)**2: 1 - out**2 (PyTorch's) has no digit left for |x| > 19.
    partials=(lambda x, out: sech_squared(x),), domain=REAL,
    edges=(0.0, 1e-300, 1.0, 10.0, 19.0, -40.0, 300.0),
    ufuncs=(np.tanh,), doc="The hyperbolic tangent.",
)


def _sech_squared_numpy(x):
    e = np.exp(-2 * np.abs(x))
    return 4 * e / ((1 + e) * (1 + e))


def _sech_squared(s, x):
    e = s.call("exp", -2 * s.unary("abs", x))
    return 4 * e / ((1 + e) * (1 + e))


sech_squared = elementwise(
    "sech_squared", 1, numpy=_sech_squared_numpy, scalar=_sech_squared, rule="float", public=False,
    # An op of its own, not a composite: by |x| its second derivative at 0 would be wrong.
    partials=(lambda x, out: -2 * tanh(x) * out,), domain=REAL,
    edges=(0.0, 1.0, 19.0, -40.0, 300.0),
    doc="1/cosh(x)**2.",
)
asinh = elementwise(
    "asinh", 1, numpy=np.arcsinh, scalar="asinh", rule="float",
    # 1/sqrt(x**2+1) by hypot: x**2 overflows for x > 1e154.
    partials=(lambda x, out: 1 / hypot(x, 1),), domain=REAL, edges=(0.0, 1e-300, -1e100, 1e200),
    ufuncs=(np.arcsinh,), doc="The inverse hyperbolic sine.",
)
acosh = elementwise(
    "acosh", 1, numpy=np.arccosh, scalar="acosh", rule="float",
    # 1/sqrt(x-1)/sqrt(x+1): x**2-1 (PyTorch's) cancels near 1 and overflows for x > 1e154.
    partials=(lambda x, out: 1 / (sqrt(x - 1) * sqrt(x + 1)),), domain=((1.2, 4.0),),
    edges=(1 + 1e-12, 1 + 1e-6, 1e155, 1e300), kinks="inf at 1", ufuncs=(np.arccosh,),
    doc="The inverse hyperbolic cosine.",
)
atanh = elementwise(
    "atanh", 1, numpy=np.arctanh, scalar="atanh", rule="float",
    # 1/(1-x**2), factored as asin's.
    partials=(lambda x, out: 1 / ((1 - x) * (1 + x)),), domain=_UNIT,
    edges=(1 - 1e-12, -1 + 1e-12, 0.0, 1e-300), kinks="inf at -1 and 1", ufuncs=(np.arctanh,),
    doc="The inverse hyperbolic tangent.",
)

# -- sigmoid and its kin --------------------------------------------------------------------------


def _sigmoid_numpy(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, x.dtype.type(1)) / (1 + e)


sigmoid = elementwise(
    "sigmoid", 1, numpy=_sigmoid_numpy, scalar="sigmoid", rule="float",
    # out * sigmoid(-x): out * (1 - out) (PyTorch's) has no digit left for x > 37.
    partials=(lambda x, out: out * sigmoid(-x),), domain=REAL,
    edges=(0.0, 20.0, 40.0, -40.0, -700.0),
    doc="1 / (1 + e**-x).",
)
softplus = elementwise(
    "softplus", 1, numpy=lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    scalar="softplus",
    rule="float", partials=(lambda x, out: sigmoid(x),), domain=REAL,
    edges=(0.0, 20.0, 40.0, -40.0, -700.0), torch=None,
    doc="log(1 + e**x), accurate in both tails.",
)


def _log_add_exp(exp_name, log_scale):
    def scalar(s, x, y):
        apart = s.unary("abs", x - y)
        more = s.call("log1p", s.call(exp_name, -apart))
        total = larger(s, x, y) + (more if log_scale is None else more * log_scale)
        return s.where(x.eq(y), x + (LN2 if log_scale is None else 1.0), total)

    return scalar


logaddexp = elementwise(
    "logaddexp", 2, numpy=np.logaddexp, scalar=_log_add_exp("exp", None), rule="float",
    # e**x / (e**x + e**y) as a sigmoid; NaN where both are the same infinity (PyTorch).
    partials=(lambda x, y, out: sigmoid(x - y), lambda x, y, out: sigmoid(y - x)), domain=PAIR,
    edges=((0.0, 50.0), (-1e5, 1e5), (-math.inf, 0.0), (1.0, -math.inf)), ufuncs=(np.logaddexp,),
    doc="log(e**x + e**y).",
)
logaddexp2 = elementwise(
    "logaddexp2", 2, numpy=np.logaddexp2, scalar=_log_add_exp("exp2", 1 / LN2), rule="float",
    # As logaddexp, with powers of 2.
    partials=(
        lambda x, y, out: sigmoid((x - y) * LN2),
        lambda x, y, out: sigmoid((y - x) * LN2),
    ),
    domain=PAIR, edges=((0.0, 50.0), (-math.inf, 0.0), (1.0, -math.inf)), ufuncs=(np.logaddexp2,),
    doc="log2(2**x + 2**y).",
)

# -- special --------------------------------------------------------------------------------------


def _times_log_numpy(x, y):
    return np.where(np.isnan(y), y, np.where(x == 0, 0, x * np.log(y)))


def _times_log(s, x, y):
    return s.where(y.ne(y), y, s.where(x.eq(0), 0, x * s.call("log", y)))


xlogy = elementwise(
    "xlogy", 2, numpy=_times_log_numpy, scalar=_times_log, rule="float",
    # log(y), and 0 where x = 0 and y <= 0; x/y (PyTorch).
    partials=(
        lambda x, y, out: Gate(logic.logical_not(logic.eq(x, 0) & logic.le(y, 0)), log(y)),
        lambda x, y, out: x / y,
    ),
    domain=(REAL[0], POSITIVE[0]), edges=((0.0, 1e-300), (0.0, 2.0), (1e-300, 3.0)),
    kinks="0 by x where x = 0 and y <= 0", doc="x * log(y), and 0 where x = 0 (unless y is NaN).",
)


def _split(x, factor):
    """x in two halves whose products are exact (Dekker 1971)."""
    scaled = x * factor
    high = scaled - (scaled - x)
    return high, x - high


def _gauss_numpy(x):
    x = np.clip(x, -40, 40)
    high, low = _split(x, x.dtype.type(134217729 if x.dtype == np.float64 else 4097))
    square = x * x
    rest = ((high * high - square) + 2 * high * low) + low * low
    return np.exp(-square) * (1 - rest)


def _gauss(s, x):
    x = s.where(s.unary("abs", x) > 40, 40, x)
    square = x * x
    return s.call("exp", -square) * (1 - s.fma(x, x, -square))


gauss = elementwise(
    "gauss", 1, numpy=_gauss_numpy, scalar=_gauss, rule="float", public=False,
    partials=(lambda x, out: -2 * x * out,), domain=REAL, edges=(0.0, 5.3, 26.0),
    # The rounding error of x**2 would be multiplied by x**2: it is computed and applied.
    doc="e**(-x**2), accurate where it is small.",
)
erf = elementwise(
    "erf", 1, numpy=_scipy("erf"), scalar="erf", rule="float",
    partials=(lambda x, out: _TWO_OVER_SQRT_PI * gauss(x),), domain=REAL,
    edges=(0.0, 1e-300, 5.3, 26.0),
    doc="The error function, 2/sqrt(pi) * integral of e**(-t**2) from 0 to x.",
)
erfc = elementwise(
    "erfc", 1, numpy=_scipy("erfc"), scalar="erfc", rule="float",
    partials=(lambda x, out: -_TWO_OVER_SQRT_PI * gauss(x),), domain=REAL,
    edges=(0.0, 1e-300, 5.3, 26.0),
    doc="1 - erf(x), accurate for large x.",
)


def _erfinv_slope(x, out):
    # 1/erf'(out). The rounding error of out, which that magnifies by 2*out**2, also moves erfc(|out|)
    # away from 1-|x|: their quotient takes it out again, and counts as a constant.
    off = select(logic.lt(abs(x), 1), erfc(abs(out)) / (1 - abs(x)), 1.0)
    return record(DETACH, (off,)) / (_TWO_OVER_SQRT_PI * gauss(out))


erfinv = elementwise(
    "erfinv", 1, numpy=lambda x: np.copysign(_scipy("erfinv")(x), x), scalar="erfinv", rule="float",
    partials=(_erfinv_slope,), domain=_UNIT, edges=(0.0, 1e-300, 0.999, -1 + 1e-12),
    kinks="inf at -1 and 1", doc="The inverse error function.",
)
lgamma = elementwise(
    "lgamma", 1, numpy=_scipy("gammaln"), scalar="lgamma", rule="float",
    partials=(lambda x, out: digamma(x),), domain=((0.3, 5.0),),
    edges=(1e-10, 0.5, 1.0, 2.0, 1e10, -0.5),
    doc="log |gamma(x)|.",
)
digamma = elementwise(
    "digamma", 1, numpy=_scipy("digamma"), scalar="digamma", rule="float",
    partials=(lambda x, out: trigamma(x),), domain=((0.3, 5.0),),
    edges=(1e-10, 0.5, 2.0, 1e10, -0.5),
    doc="The derivative of lgamma.",
)


# fmt: on


# -- polygamma ------------------------------------------------------------------------------------

# Bernoulli numbers B2, B4, ... of the asymptotic series.
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
_SHIFT = 12


def _inverse_power(inverse, n: int):
    result = inverse
    for _ in range(n - 1):
        result = result * inverse
    return result


def _polygamma_positive(s, x, n: int):
    """Abramowitz and Stegun 6.4.6 (recurrence up to x + 12), then 6.4.11 (asymptotic series)."""
    total = _inverse_power(1 / x, n + 1)
    for k in range(1, _SHIFT):
        total = total + _inverse_power(1 / (x + k), n + 1)
    inverse = 1 / (x + _SHIFT)
    series = s.const(0.0, x.dtype)
    for k in range(len(_BERNOULLI), 0, -1):
        ratio = math.factorial(2 * k + n - 1) / (math.factorial(2 * k) * math.factorial(n))
        series = (series + _BERNOULLI[k - 1] * ratio) * (inverse * inverse)
    series = _inverse_power(inverse, n) * (1 / n + 0.5 * inverse + series)
    return (total + series) * ((-1.0) ** (n + 1) * math.factorial(n))


def _cot_derivative(n: int) -> list[float]:
    """Coefficients in c = cot t of the n-th derivative of cot t, from cot' = -(1 + cot**2)."""
    poly = [0.0, 1.0]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(poly)][1:]
        poly = [0.0] * (len(slope) + 2)
        for k, c in enumerate(slope):
            poly[k] -= c
            poly[k + 2] -= c
    return poly


def _polygamma_scalar(s, x, n: int):
    wide = s.cast(x, dtypes.float64)
    negative = wide <= 0
    value = _polygamma_positive(s, s.where(negative, 1 - wide, wide), n)
    # Abramowitz and Stegun 6.4.7: reflection for x <= 0.
    cot = 1 / s.call("tan", math.pi * (wide - s.unary("rint", wide)))
    mirror = s.const(0.0, dtypes.float64)
    for c in reversed(_cot_derivative(n)):
        mirror = mirror * cot + c
    mirror = (-1.0) ** n * value - math.pi ** (n + 1) * mirror
    return s.cast(s.where(negative, mirror, value), x.dtype)


def _polygamma_numpy(x, n):
    import scipy.special

    return np.asarray(scipy.special.polygamma(n, x)).astype(x.dtype)


POLYGAMMA = register(
    Op(
        "polygamma",
        "elementwise",
        1,
        ("n",),
        infer=lambda x, n: (x.shape, x.dtype),
        numpy=_polygamma_numpy,
        pullback=lambda g, out, x, n: (g * polygamma(n + 1, x),),
        pushforward=lambda ts, out, x, n: ts[0] * polygamma(n + 1, x),
        loop=_polygamma_scalar,
        domain=((0.3, 5.0),),
        doc="The n-th derivative of digamma, n >= 1.",
    )
)


def _polygamma_samples(rng):
    for n in (0, 1, 2, 3):
        yield Sample((n, rng.uniform(0.3, 5, (2, 3))))
    yield Sample((2, np.array(-0.7)))
    yield Sample((1, np.ones((0,))))


def _polygamma_errors():
    yield BadCall((-1, np.ones(2)), ArgumentError, "n must be")
    yield BadCall((1.5, np.ones(2)), ArgumentError, "n must be")


@composite(op=POLYGAMMA, methods=(), samples=_polygamma_samples, errors=_polygamma_errors)
def polygamma(n: int, input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The n-th derivative of digamma.

    Parameters
    ----------
    n : int, >= 0
    input : Tensor

    Raises
    ------
    ArgumentError
        For a negative `n`.
    """
    if type(n) is not int or n < 0:
        raise ArgumentError(f"polygamma: n must be an int >= 0, got {n!r}")
    if n == 0:
        return digamma(input, out=out)
    x = tensor_of("polygamma", input, 1)
    x = cast(x, to_float(node_of(x).dtype))
    return written("polygamma", record(POLYGAMMA, (x,), (n,)), out)


Tensor.polygamma = lambda self, n: polygamma(n, self)


def trigamma(x: Tensor) -> Tensor:
    """The derivative of digamma."""
    return record(POLYGAMMA, (x,), (1,))


# -- sinc -----------------------------------------------------------------------------------------


def _sinc_scalar(s, x):
    z = x * math.pi
    return s.where(z.eq(0), 1, s.call("sin", z) / z)


def _sinc_numpy(x):
    z = x * x.dtype.type(math.pi)
    return np.where(z == 0, 1, np.sin(z) / z).astype(x.dtype)


def _sinc_slope(x, out):
    # (cos(pi x) - sinc(x)) / x; within |x| < 1/2, where that (PyTorch's) cancels, the series
    # pi * sum of (-1)**k 2k z**(2k-1) / (2k+1)!, z = pi x.
    near = logic.lt(abs(x), 0.5)
    z = select(near, x, 0.0) * math.pi
    square = z * z
    series = 0.0
    for k in range(12, 0, -1):
        series = series * square + (-1.0) ** k * 2 * k / math.factorial(2 * k + 1)
    far = select(near, 1.0, x)
    return select(near, math.pi * z * series, (cos(far * math.pi) - sinc(far)) / far)


# fmt: off
sinc = elementwise(
    "sinc", 1, numpy=_sinc_numpy, scalar=_sinc_scalar, rule="float",
    partials=(_sinc_slope,), domain=REAL, edges=(0.0, 1e-300, 1e-9, 1e-3, 0.3, 0.51, 1.0),
    doc="sin(pi x) / (pi x), and 1 at 0.",
)
# fmt: on


# -- angles, powers of two ------------------------------------------------------------------------


@composite(numpy=(np.deg2rad, np.radians), inplace=True, samples=one_samples)
def deg2rad(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Degrees to radians: ``input * pi / 180``."""
    return written("deg2rad", mul(input, math.pi / 180), out)


@composite(numpy=(np.rad2deg, np.degrees), inplace=True, samples=one_samples)
def rad2deg(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Radians to degrees: ``input * 180 / pi``."""
    return written("rad2deg", mul(input, 180 / math.pi), out)


@composite(numpy=(np.ldexp,), inplace=True, samples=pair_samples)
def ldexp(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``input * 2**other``."""
    # The power in the result's dtype, which has room for it.
    _, dtype = operands("ldexp", (input, other, 1.0))
    return written(
        "ldexp", mul(input, raw_pow(2.0, cast(tensor_of("ldexp", other, 1), dtype))), out
    )


def _logit_samples(rng):
    yield Sample((rng.uniform(0.1, 0.9, (2, 3)),))
    yield Sample((np.array([0.05, 0.5, 0.99]), 0.1))
    yield Sample((np.array(0.3),))


def _logit_slope(x, out):
    # 1/(x (1-x)), NaN outside [0, 1] as the function (PyTorch, logit_backward).
    return select(logic.ge(x, 0) & logic.le(x, 1), 1 / (x * (1 - x)), math.nan)


raw_logit = elementwise(
    "logit",
    1,
    numpy=lambda x: np.log(x / (1 - x)),
    scalar=lambda s, x: s.call("log", x / (1 - x)),
    rule="float",
    partials=(_logit_slope,),
    domain=((0.1, 0.9),),
    edges=(1e-300, 1e-10, 0.5, 1 - 1e-12),
    kinks="inf at 0 and 1",
    public=False,
    doc="log(x / (1 - x)).",
)


@composite(op=raw_logit.op, inplace=True, samples=_logit_samples)
def logit(input: Tensor, eps: float | None = None, *, out: Tensor | None = None) -> Tensor:
    """``log(x / (1 - x))``, the inverse of sigmoid; `eps` limits x to [eps, 1 - eps] first."""
    x = input if eps is None else clamp(input, eps, 1 - eps)
    return written("logit", raw_logit(x), out)


alias("asin", "arcsin")
alias("acos", "arccos")
alias("atan", "arctan")
alias("atan2", "arctan2")
alias("asinh", "arcsinh")
alias("acosh", "arccosh")
alias("atanh", "arctanh")
