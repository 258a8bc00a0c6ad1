"""sin, cos, tan and the inverse trigonometric functions.

The reduction is exact for every finite argument (Payne and Hanek, *Radian reduction for trigonometric
functions*, SIGNUM Newsletter 18, 1983), but without their table of digits: the window of 1/pi that
matters is shifted into place by selects, and the product is taken modulo 2 in integer arithmetic, so no
branch, gather or wide type stands in the way of vectorisation.
"""

from __future__ import annotations

from itertools import pairwise

from ...graph import dtypes
from ...lower import ir
from ...lower.ir import Expr
from .parts import (
    F32,
    F64,
    INFINITY,
    NAN,
    Word,
    choose,
    copysign,
    fast_two_sum,
    halves,
    layout,
    minimax,
    pick,
    split_constant,
    two_sum,
    word,
)
from .table import define

# floor(2**1344 / pi): enough digits for the largest float64.
INVERSE_PI = int(
    "517cc1b727220a94fe13abe8fa9a6ee06db14acc9e21c820ff28b1d5ef5de2b0db92371d2126e97003249775"
    "04e8c90e7f0ef58e5894d39f74411afa975da24274ce38135a2fbf209cc8eb1cc1a99cfa4e422fc5defc941d"
    "8ffc4bffef02cc07f79788c5ad05368fb69b3f6793e584dba7a31fb34f2ff516ba93dd63f5f2f8bd9e839cfb"
    "c529497535fdafd88fc6ae842b0198237e3db5d5f867de104d7a1b0ed4f1c8b0af730d84",
    16,
)
INVERSE_PI_BITS = 1344
PI = 3.141592653589793
PI_LOW = 1.2246467991473532e-16
INVERSE = 0.3183098861837907

# pi in three parts of 33 bits, and the rest; their products with numbers of turns below 2**20 are exact.
PI_PARTS = tuple(
    float.fromhex(part)
    for part in (
        "0x1.921fb544p+1",
        "0x1.0b4611a6p-33",
        "0x1.3198a2ep-68",
        "0x1.b839a252049c1p-103",
    )
)
MODERATE = 2.0**20
LOW_32 = 0xFFFFFFFF


def _digits(padding: int, count: int) -> list[int]:
    """The first 64 * count bits of 1/pi after `padding` zeros, as signed words."""
    number = INVERSE_PI >> (INVERSE_PI_BITS + padding - 64 * count)
    words = [(number >> (64 * i)) & (2**64 - 1) for i in reversed(range(count))]
    return [w - 2**64 if w >= 2**63 else w for w in words]


def _window(words: list[Word], shift: Word) -> list[Word]:
    """`words` moved up by `shift` < 64 bits; one word fewer."""
    back = 63 - shift
    return [(a << shift) | (b.lsr(1) >> back) for a, b in pairwise(words)]


def _constants(words: list[int]) -> list[Word]:
    return [Word(Expr("const", dtypes.int64, (), w)) for w in words]


def half_turns_32(magnitude: Word) -> Word:
    """x / pi modulo 2, in units of 2**-63, for the bits of a float32 |x| >= 1."""
    exponent = (magnitude >> 23) - 127
    exponent = choose(exponent < 0, 0, exponent)
    m = Word(ir.cast(((magnitude & 0x7FFFFF) | 0x800000).expr, dtypes.int64))
    q = Word(ir.cast(exponent.expr, dtypes.int64))
    # |x| = m * 2**(q - 23): the first word has weights 1 to 2**-63.
    digits = _constants(_digits(24, 4))
    upper = q >= 64
    high, low = _window([choose(upper, digits[i + 1], digits[i]) for i in range(3)], q & 63)
    return m * high + ((m * low.lsr(32)) >> 32)


def half_turns_64(magnitude: Word) -> tuple[Word, Word]:
    """x / pi modulo 2 as (high, low), in units of 2**-63 and 2**-127, for the bits of a float64 |x| >= 1."""
    exponent = (magnitude >> 52) - 1023
    q = choose(exponent < 0, 0, exponent)
    m = (magnitude & 0xFFFFFFFFFFFFF) | 0x10000000000000
    words = _constants(_digits(53, 19))
    for step, keep in ((8, 11), (4, 7), (2, 5), (1, 4)):
        move = (q & (64 * step)).ne(0)
        words = [choose(move, words[i + step], words[i]) for i in range(keep)]
    limbs = []
    for w in _window(words, q & 63):
        limbs += [w.lsr(32), w & LOW_32]
    return _product(m, limbs)


def _product(m: Word, limbs: list[Word]) -> tuple[Word, Word]:
    """The top 128 of 192 bits of m times six 32-bit limbs, modulo 2**192, nearly (error below 2**-125)."""
    upper, lower = m.lsr(32), m & LOW_32
    t = [lower * v for v in limbs[:5]]
    u = [upper * v for v in limbs]
    columns = [u[i + 1] + t[i + 1].lsr(32) + (t[i] & LOW_32) for i in range(4)]
    carry = columns[3] + u[5].lsr(32)
    third = carry & LOW_32
    carry = columns[2] + carry.lsr(32)
    second = carry & LOW_32
    carry = columns[1] + carry.lsr(32)
    return (columns[0] << 32) + carry, (second << 32) | third


def _sine_of_half_turns(x: Expr, quarter: bool) -> Expr:
    """sin(x), or with `quarter` sin(x + pi/2) = cos(x)."""
    form = layout(x)
    magnitude = word(x) & ~form.sign
    size = magnitude.real()
    sine = _sine_64 if form is F64 else _sine_32
    value, odd = sine(magnitude, size, size < 1.0, quarter)
    flip = odd if quarter else odd ^ (word(x) & form.sign)
    return ir.where(size < INFINITY, (word(value) ^ flip).real(), x - x)


def _sine_32(magnitude: Word, size: Expr, near: Expr, quarter: bool) -> tuple[Expr, Word]:
    """|sin|, up to the sign bit that comes second. The angle is float64 anyway, so its sine is too."""
    turns = half_turns_32(magnitude)
    if quarter:
        turns = turns + (1 << 62)
    angle = (turns << 1).to(dtypes.float64) * (PI * 2.0**-64)
    wide = ir.cast(size, dtypes.float64)
    angle = ir.where(near, PI / 2 - wide if quarter else wide, angle)
    z = angle * angle
    sine = angle + angle * z * minimax("sin", z, "float32")
    parity = Word(ir.cast(((turns + (1 << 62)) >> 32).expr, dtypes.int32)) & F32.sign
    return ir.cast(sine, dtypes.float32), choose(near, 0, parity)


def _sine_64(magnitude: Word, size: Expr, near: Expr, quarter: bool) -> tuple[Expr, Word]:
    """|sin|, up to the sign bit that comes second, of a double-length angle."""
    high, low, odd = _reduced_64(magnitude, size, near, quarter)
    return _sine_of_sum(high, low), odd


def _sine_of_sum(high: Expr, low: Expr) -> Expr:
    z = high * high
    tail = high * z * minimax("sin", z) + low * (1.0 - z * 0.5)
    return tail + high


def _short_sine(x: Expr, quarter: bool) -> tuple[Expr, Expr] | None:
    """(|x| < MODERATE, sin or cos of it): reduced as Cody and Waite do."""
    if layout(x) is not F64:
        return None
    size = ir.unary("abs", x)
    turns = size * INVERSE
    count = ir.unary("rint", turns + 0.5 if quarter else turns)
    times = count - 0.5 if quarter else count
    high, first = two_sum(size - times * PI_PARTS[0], -(times * PI_PARTS[1]))
    high, second = two_sum(high, -(times * PI_PARTS[2]))
    high, low = fast_two_sum(high, (first + second) - times * PI_PARTS[3])
    odd = (count - ir.unary("rint", count * 0.5) * 2.0).ne(0.0)
    flip = choose(odd, _constants([F64.sign])[0], 0)
    flip = flip if quarter else flip ^ (word(x) & F64.sign)
    return size < MODERATE, (word(_sine_of_sum(high, low)) ^ flip).real()


def _reduced_64(magnitude: Word, size: Expr, near: Expr, quarter: bool):
    """(high, low, sign bit) of |x|, or |x| + pi/2, less the nearest multiple of pi."""
    turns, rest = half_turns_64(magnitude)
    if quarter:
        turns = turns + (1 << 62)
    parity = (turns + (1 << 62)) & F64.sign
    high, low = _angle_64((turns << 1) | rest.lsr(63), rest << 1, PI, PI_LOW)
    if quarter:
        start, start_low = fast_two_sum(ir.const(PI / 2, dtypes.float64), -size)
        start_low = start_low + PI_LOW / 2
    else:
        start, start_low = size, ir.const(0.0, dtypes.float64)
    return ir.where(near, start, high), ir.where(near, start_low, low), choose(near, 0, parity)


def _angle_64(top: Word, bottom: Word, unit: float, unit_low: float) -> tuple[Expr, Expr]:
    """The signed 128-bit fraction times `unit`, in double length, however small it is."""
    sign = top >> 63
    top, bottom = top ^ sign, bottom ^ sign
    a = (top & ~0x7FF).to(dtypes.float64) * 2.0**-64
    b = (((top & 0x7FF) << 52) | bottom.lsr(12)).to(dtypes.float64) * 2.0**-116
    high, low = _times(*fast_two_sum(a, b), unit, unit_low)
    flip = sign & F64.sign
    return (word(high) ^ flip).real(), (word(low) ^ flip).real()


def _times(high: Expr, low: Expr, unit: float, unit_low: float) -> tuple[Expr, Expr]:
    """(high + low) * (unit + unit_low) in double length."""
    u1, u2 = split_constant((unit, 0.0), high)
    h1, h2 = halves(high)
    p = high * unit
    error = ((h1 * u1 - p) + h1 * u2 + h2 * u1) + h2 * u2
    return fast_two_sum(p, error + (high * unit_low + low * unit))


@define("sin", ulp=(1.0, 2.0), short=lambda x: _short_sine(x, False))
def sin(x: Expr) -> Expr:
    """``(-1)**k sin(x - k pi)``; NaN at infinities."""
    return _sine_of_half_turns(x, quarter=False)


@define("cos", ulp=(1.0, 2.0), short=lambda x: _short_sine(x, True))
def cos(x: Expr) -> Expr:
    """``sin(x + pi/2)``, the quarter turn added exactly to the reduced argument; NaN at infinities."""
    return _sine_of_half_turns(x, quarter=True)


@define("tan", ulp=(1.0, 2.0))
def tan(x: Expr) -> Expr:
    """``sin / cos`` or ``-cos / sin`` of x less the nearest multiple of pi/2; NaN at infinities."""
    form = layout(x)
    magnitude = word(x) & ~form.sign
    size = magnitude.real()
    near = size < 1.0
    reduce = _quadrant_64 if form is F64 else _quadrant_32
    high, low, odd = reduce(magnitude, size, near)
    z = high * high
    sine, sine_low = fast_two_sum(
        high, high * z * minimax("sin", z, x.dtype.name) + low * (1.0 - z * 0.5)
    )
    less = z * 0.5 - (z * z * minimax("cos", z, x.dtype.name) - high * low)
    cosine, cosine_low = fast_two_sum(ir.const(1.0, z.dtype), -less)
    above, below = ir.where(odd, -cosine, sine), ir.where(odd, sine, cosine)
    value = above / below
    if form is F64:  # what the two lost in rounding
        lost = ir.where(odd, -cosine_low, sine_low) - value * ir.where(odd, sine_low, cosine_low)
        value = value + lost / below
    value = (word(ir.cast(value, x.dtype)) ^ (word(x) & form.sign)).real()
    return ir.where(size < INFINITY, value, x - x)


def _quadrant_32(magnitude: Word, size: Expr, near: Expr):
    """(angle, 0, odd) in float64: |x| less the nearest multiple of pi/2, and whether that was odd."""
    turns = half_turns_32(magnitude) << 1
    odd = (turns + (1 << 62)) < 0
    angle = (turns << 1).to(dtypes.float64) * (PI * 2.0**-65)
    wide = ir.cast(size, dtypes.float64)
    return ir.where(near, wide, angle), ir.const(0.0, dtypes.float64), odd & ~near


def _quadrant_64(magnitude: Word, size: Expr, near: Expr):
    """The same in double length."""
    turns, rest = half_turns_64(magnitude)
    turns, rest = (turns << 1) | rest.lsr(63), rest << 1
    odd = (turns + (1 << 62)) < 0
    high, low = _angle_64((turns << 1) | rest.lsr(63), rest << 1, PI / 2, PI_LOW / 2)
    return ir.where(near, size, high), ir.where(near, 0.0, low), odd & ~near


# -- inverses -------------------------------------------------------------------------------------


def _arcsine_parts(size: Expr, made_for: str = "") -> tuple[Expr, Expr, Expr]:
    """(far, s, t): asin(s) = s + t for s = size, or s = sqrt((1 - size) / 2) where `far`, size > 1/2."""
    far = size > 0.5
    z = ir.where(far, (1.0 - size) * 0.5, size * size)
    s = ir.where(far, ir.unary("sqrt", z), size)
    return far, s, s * z * minimax("asin", z, made_for)


@define("asin", ulp=(2.0, 2.0))
def asin(x: Expr) -> Expr:
    """``x + x**3 p(x**2)`` to 1/2, then ``pi/2 - 2 asin(sqrt((1 - x) / 2))``; NaN outside [-1, 1]."""
    if x.dtype is dtypes.float32:  # twice the length for the sum alone
        wide = ir.cast(x, dtypes.float64)
        far, s, t = _arcsine_parts(ir.unary("abs", wide), "float32")
        value = ir.where(far, PI / 2 - (s + t) * 2.0, s + t)
        return ir.cast(copysign(value, wide), x.dtype)
    far, s, t = _arcsine_parts(ir.unary("abs", x))
    high, low = _pi_over(2, x)
    return copysign(ir.where(far, (high - (s + s)) - ((t + t) - low), s + t), x)


@define("acos", ulp=(2.0, 2.0))
def acos(x: Expr) -> Expr:
    """``pi/2 - asin x`` in the middle; ``2 asin(sqrt((1 - |x|) / 2))`` from 0 or pi at the ends."""
    far, s, t = _arcsine_parts(ir.unary("abs", x))
    a = s + t
    high, low = _pi_over(2, x)
    whole, whole_low = _pi_over(1, x)
    double = a + a
    negative = x < 0.0
    ends = ir.where(negative, whole - (double - whole_low), double)
    middle = high - (ir.where(negative, -a, a) - low)
    return ir.where(far, ends, middle)


def _pi_over(divisor: int, x: Expr) -> tuple[Expr, Expr]:
    """pi / divisor in two parts of x's dtype (divisor a power of two)."""
    high = float(x.dtype.np.type(PI))
    low = (PI - high) + PI_LOW
    return ir.const(high / divisor, x.dtype), ir.const(low / divisor, x.dtype)


def _arctangent(y: Expr, x: Expr) -> tuple[Expr, Expr]:
    """(eighth, a) for 0 <= y <= x: atan(y / x) is a, plus pi/4 where `eighth`; one division."""
    eighth = y * 2.0 > x
    t = ir.where(eighth, y - x, y) / ir.where(eighth, y + x, x)
    z = t * t
    return eighth, t * z * minimax("atan", z) + t


@define("atan", ulp=(2.0, 2.0))
def atan(x: Expr) -> Expr:
    """Reduced by 1/x beyond 1, then by (t - 1) / (t + 1) beyond 1/2."""
    return atan2(x, ir.const(1.0, x.dtype))


@define("atan2", arity=2, ulp=(2.0, 2.0))
def atan2(y: Expr, x: Expr) -> Expr:
    """The angle of the point (x, y) in [-pi, pi], by octants, with C99 Annex F's special cases."""
    ay, ax = ir.unary("abs", y), ir.unary("abs", x)
    steep = ay > ax
    large, small = ir.where(steep, ay, ax), ir.where(steep, ax, ay)
    # Infinite, huge and zero pairs become ordinary ones with the same ratio.
    infinite = large.eq(INFINITY)
    small = ir.where(infinite, ir.where(small.eq(INFINITY), ir.const(1.0, x.dtype), 0.0), small)
    large = ir.where(infinite | large.eq(0.0), 1.0, large)
    shrink = ir.where(large > pick(x, 2.0**100, 2.0**1000), ir.const(0.25, x.dtype), 1.0)
    eighth, a = _arctangent(small * shrink, large * shrink)
    # The result is k pi/4 + a or - a.
    count = ir.where(eighth, ir.const(1.0, x.dtype), 0.0)
    count = ir.where(steep, 2.0 - count, count)
    negative = word(x) < 0
    count = ir.where(negative, 4.0 - count, count)
    a = ir.where(steep ^ negative, -a, a)
    base, base_low = split_constant((PI / 4, PI_LOW / 4), x)
    value = count * base + (a + count * base_low)
    return ir.where(x.ne(x) | y.ne(y), NAN, copysign(ir.unary("abs", value), y))
