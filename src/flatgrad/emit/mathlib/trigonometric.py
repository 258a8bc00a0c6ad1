"""sin, cos, tan and the inverse trigonometric functions.

The reduction is exact for every finite argument (Payne and Hanek, *Radian reduction for trigonometric
functions*, SIGNUM Newsletter 18, 1983), but without their table of digits: the window of 1/pi that
matters is shifted into place by selects, and the product is taken modulo 2 in integer arithmetic, so no
branch, gather or wide type stands in the way of vectorisation.
"""

from __future__ import annotations

from ...graph import dtypes
from ...lower import ir
from ...lower.ir import Expr
from .parts import (
    F32,
    F64,
    INFINITY,
    Word,
    choose,
    fast_two_sum,
    halves,
    layout,
    minimax,
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
LOW_32 = 0xFFFFFFFF


def _digits(padding: int, count: int) -> list[int]:
    """The first 64 * count bits of 1/pi after `padding` zeros, as signed words."""
    number = INVERSE_PI >> (INVERSE_PI_BITS + padding - 64 * count)
    words = [(number >> (64 * i)) & (2**64 - 1) for i in reversed(range(count))]
    return [w - 2**64 if w >= 2**63 else w for w in words]


def _window(words: list[Word], shift: Word) -> list[Word]:
    """`words` moved up by `shift` < 64 bits; one word fewer."""
    back = 63 - shift
    return [
        (a << shift) | (b.lsr(1) >> back) for a, b in zip(words[:-1], words[1:], strict=True)
    ]


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
    z = high * high
    tail = high * z * minimax("sin", z) + low * (1.0 - z * 0.5)
    return tail + high, odd


def _reduced_64(magnitude, size, near, quarter):
    turns, rest = half_turns_64(magnitude)
    if quarter:
        turns = turns + (1 << 62)
    parity = (turns + (1 << 62)) & F64.sign
    top, bottom = (turns << 1) | rest.lsr(63), rest << 1
    sign = top >> 63
    top, bottom = top ^ sign, bottom ^ sign
    a = (top & ~0x7FF).to(dtypes.float64) * 2.0**-64
    b = (((top & 0x7FF) << 52) | bottom.lsr(12)).to(dtypes.float64) * 2.0**-116
    high, low = _times_pi(*fast_two_sum(a, b))
    flip = sign & F64.sign
    high, low = (word(high) ^ flip).real(), (word(low) ^ flip).real()
    if quarter:
        start, start_low = fast_two_sum(ir.const(PI / 2, dtypes.float64), -size)
        start_low = start_low + PI_LOW / 2
    else:
        start, start_low = size, ir.const(0.0, dtypes.float64)
    return ir.where(near, start, high), ir.where(near, start_low, low), choose(near, 0, parity)


def _times_pi(high: Expr, low: Expr) -> tuple[Expr, Expr]:
    """(high + low) * pi in double length."""
    pi_1 = 3.1415926218032837  # the upper half of the digits of PI
    pi_2 = PI - pi_1
    h1, h2 = halves(high)
    p = high * PI
    error = ((h1 * pi_1 - p) + h1 * pi_2 + h2 * pi_1) + h2 * pi_2
    return fast_two_sum(p, error + (high * PI_LOW + low * PI))


@define("sin", ulp=(2.0, 2.0))
def sin(x: Expr) -> Expr:
    """``(-1)**k sin(x - k pi)``; NaN at infinities."""
    return _sine_of_half_turns(x, quarter=False)


@define("cos", ulp=(2.0, 2.0))
def cos(x: Expr) -> Expr:
    """``sin(x + pi/2)``, the quarter turn added exactly to the reduced argument; NaN at infinities."""
    return _sine_of_half_turns(x, quarter=True)
