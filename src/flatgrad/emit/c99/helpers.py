"""What C99 lacks, as text: exact roundings, square roots, remainders and bit patterns without a library.

Each entry of `HELPERS` is a template over one float or integer type; ``{f}`` its name in C, ``{s}`` the short
name in helpers, ``{u}``, ``{i}`` the integers of its size. Where the processor has an instruction the
compiler's builtin is it; elsewhere these are formulas that no compiler flag can change.
"""

from __future__ import annotations

from ...graph import dtypes
from ...graph.dtypes import DType
from .words import ctype, short

__all__ = ["head", "helper"]

_HEAD = """\
#include <stddef.h>
#include <stdint.h>

/* The formulas below are meant as they are written, whatever the command line says: no sum is put into
   another order, no NaN assumed away, and products are fused with sums {fused}. */
#if defined(__clang__)
#if defined(__x86_64__) || defined(__aarch64__)
#pragma float_control(precise, on) /* allows contraction, so that comes next */
#else
#pragma clang fp reassociate(off)
#endif
#if __clang_major__ >= 18
#pragma clang fp reciprocal(off)
#endif
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off", "no-associative-math", "no-reciprocal-math")
#pragma GCC optimize("no-finite-math-only", "signed-zeros", "no-tree-loop-distribute-patterns")
#if !defined(__ARM_NEON) || defined(__aarch64__) /* NEON of 32 bits is used for floats only with these */
#pragma GCC optimize("no-unsafe-math-optimizations")
#endif
#endif

/* A function that is not inlined keeps its loop from becoming one of vectors. */
#if defined(__GNUC__) && !defined(__OPTIMIZE_SIZE__) && {vectors}
#define FG_INLINE static inline __attribute__((always_inline, unused))
#elif defined(__GNUC__)
#define FG_INLINE static inline __attribute__((unused))
#else
#define FG_INLINE static inline
#endif

/* Scratch memory holds numbers of several types, one after the other. */
#if defined(__GNUC__)
#define FG_ALIAS __attribute__((may_alias))
#else
#define FG_ALIAS
#endif
"""


def head(contract: bool, vectors: bool) -> str:
    """How every file begins; `vectors`: whether its machine has vector registers."""
    return _HEAD.format(fused="only in fg_madd" if contract else "nowhere", vectors=int(vectors))


# A shared helper that is no loop's business, and so need not be in every one of them.
CALLED = """\
#if defined(__GNUC__)
#define FG_CALLED static __attribute__((noinline))
#else
#define FG_CALLED static
#endif
"""

# gcc 12 forgets that a pointer is restrict once the function is inlined where it is a sum: vectors then read
# an array before they wrote it. (Microcontrollers have no such vectors, and every byte counts.)
APART = """\
#if defined(__GNUC__) && !defined(__clang__) && !(defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M')
#define FG_APART static __attribute__((noinline, noclone))
#else
#define FG_APART static
#endif
"""

FUSED_TEXT = """\
#if {hardware}
#define FG_FUSED_{upper} 1
#else
#define FG_FUSED_{upper} 0
#endif
#if defined(__clang_major__) && __clang_major__ >= 18 /* an instruction whatever is said of errno */
#define fg_fused_{s}(x, y, z) __builtin_elementwise_fma(({f})(x), ({f})(y), ({f})(z))
#else
#define fg_fused_{s}(x, y, z) __builtin_fma{x}(x, y, z)
#endif
"""

MADD = """\
#if FG_FUSED_{upper}
#define fg_madd_{s}(x, y, z) fg_fused_{s}(x, y, z)
#else
#define fg_madd_{s}(x, y, z) ((x) * (y) + (z))
#endif
"""

BITS = """\
typedef union {{
    {u} u;
    {i} i;
    {f} x;
}} fg_word_{s};

FG_INLINE {i} fg_to_bits_{s}({f} x)
{{
    fg_word_{s} w;
    w.x = x;
    return w.i;
}}

FG_INLINE {f} fg_from_bits_{s}({i} i)
{{
    fg_word_{s} w;
    w.i = i;
    return w.x;
}}
"""

ABS = """\
#if defined(__GNUC__)
#define fg_abs_{s}(x) __builtin_fabs{x}(x)
#else
#define fg_abs_{s}(x) fg_from_bits_{s}(fg_to_bits_{s}(x) & {largest})
#endif
"""

SQRT = """\
#if defined(__GNUC__) && defined(__arm__) && {arm}
/* The builtin would call the C library for the sake of errno. */
FG_INLINE {f} fg_sqrt_{s}({f} x)
{{
    {f} r;
    __asm__("{vsqrt}" : "={register}"(r) : "{register}"(x));
    return r;
}}
#elif defined(__clang_major__) && __clang_major__ >= 18 && {hardware}
#define fg_sqrt_{s}(x) __builtin_elementwise_sqrt(x)
#elif defined(__GNUC__) && !defined(__clang__) && __STDC_HOSTED__ && {hardware}
/* An instruction, once nobody minds errno; by itself the builtin would be a branch to a call. */
{f} sqrt{x}({f}) __attribute__((const));
#define fg_sqrt_{s}(x) sqrt{x}(x)
#elif defined(__GNUC__) && !defined(__clang__) && !defined(__NO_MATH_ERRNO__) && {hardware}
/* Without a C library there is nothing to call. */
FG_INLINE {f} fg_sqrt_{s}({f} x)
{{
    {f} r;
{own}
    return r;
}}
#elif defined(__GNUC__) && {hardware}
#define fg_sqrt_{s}(x) __builtin_sqrt{x}(x)
#else
/* Digit by digit: correctly rounded, for processors without the instruction. */
FG_CALLED {f} fg_sqrt_{s}({f} x)
{{
    fg_word_{s} w;
    {u} m, root, twice, bit;
    int e;
    w.x = x;
    if (x != x || x == 0 || w.u == {infinity})
        return x + x;
    if (w.u >> {top}) {{
        w.u = {nan};
        return w.x;
    }}
    e = (int)(w.u >> {mantissa});
    m = w.u & {fraction};
    if (e)
        m |= {one};
    else
        for (e = 1; !(m & {one}); --e)
            m <<= 1;
    e -= {bias};
    if (e & 1)
        m <<= 1;
    e = (e - (e & 1)) / 2;
    m <<= 1;
    root = 0;
    twice = 0;
    for (bit = {two}; bit; bit >>= 1) {{
        const {u} t = twice + bit;
        if (t <= m) {{
            twice = t + bit;
            m -= t;
            root += bit;
        }}
        m <<= 1;
    }}
    if (m)
        root += root & 1;
    w.u = (root >> 1) + (({u})({bias} - 1 + e) << {mantissa});
    return w.x;
}}
#endif
"""

_OWN_SQRT = """\
#if defined(__aarch64__)
    __asm__("fsqrt %{d}0, %{d}1" : "=w"(r) : "w"(x));
#elif defined(__riscv)
    __asm__("fsqrt.{d} %0, %1" : "=f"(r) : "f"(x));
#elif defined(__AVX__)
    __asm__("vsqrts{d} %1, %1, %0" : "=x"(r) : "x"(x));
#else
    __asm__("sqrts{d} %1, %0" : "=x"(r) : "x"(x));
#endif"""

# floor, ceil, trunc, rint: by one instruction where there is one.
ROUND = """\
#if defined(__GNUC__) && {hardware}
#define fg_{name}_{s}(x) __builtin_{name}{x}(x)
#else
FG_INLINE {f} fg_{name}_{s}({f} x)
{{
{body}
}}
#endif
"""

# Numbers from `whole` on have no fraction; adding it to a smaller one and taking it away rounds, ties to
# even. The sign of zero is the number's.
_NEAREST = """\
    const {f} a = fg_abs_{s}(x);
    const {f} t = a < {whole} ? (a + {whole}) - {whole} : a;
"""
_SIGNED = "fg_from_bits_{{s}}(fg_to_bits_{{s}}({0}) | (fg_to_bits_{{s}}(x) & {{sign}}))"
_ROUND = {
    "rint": f"""    return {_SIGNED.format("t")};""",
    "trunc": f"""    const {{f}} r = t > a ? t - 1 : t;
    return {_SIGNED.format("r")};""",
    "floor": f"""    const {{f}} n = {_SIGNED.format("t")}, r = n > x ? n - 1 : n;
    return {_SIGNED.format("r")};""",
    "ceil": f"""    const {{f}} n = {_SIGNED.format("t")}, r = n < x ? n + 1 : n;
    return {_SIGNED.format("r")};""",
}

FMOD = """\
/* The remainder with the sign of x; exact. */
FG_CALLED {f} fg_fmod_{s}({f} x, {f} y)
{{
    fg_word_{s} p, q;
    {u} a, b, sign;
    int e, d;
    p.x = x;
    q.x = y;
    sign = p.u & {top_bit};
    a = p.u ^ sign;
    b = q.u & ~{top_bit};
    if (b == 0 || a >= {infinity} || b > {infinity}) {{
        p.u = {nan};
        return p.x;
    }}
    if (a < b)
        return x;
    e = (int)(a >> {mantissa});
    d = (int)(b >> {mantissa});
    a = e ? (a & {fraction}) | {one} : a << 1;
    b = d ? (b & {fraction}) | {one} : b << 1;
    for (; !(a & {one}); --e)
        a <<= 1;
    for (; !(b & {one}); --d)
        b <<= 1;
    for (; e > d; --e) {{
        if (a >= b)
            a -= b;
        a <<= 1;
    }}
    if (a >= b)
        a -= b;
    if (a == 0) {{
        p.u = sign;
        return p.x;
    }}
    for (; !(a & {one}); --e)
        a <<= 1;
    p.u = sign | (e > 0 ? (a & {fraction}) | (({u})e << {mantissa}) : a >> (1 - e));
    return p.x;
}}
"""

# x * y + z with one rounding, for float64 where no instruction does it (Boldo and Melquiond 2008: the sum's
# error is rounded to odd before it joins). Exact where neither split * x overflows nor the product's error
# underflows: factors below 2^995, products above 2^-960.
FMA_64 = """\
#if FG_FUSED_F64
#define fg_fma_f64(x, y, z) fg_fused_f64(x, y, z)
#else
FG_CALLED double fg_fma_f64(double x, double y, double z)
{{
    const double split = 134217729.0, p = x * y;
    const double cx = split * x, cy = split * y;
    const double hx = cx - (cx - x), hy = cy - (cy - y), lx = x - hx, ly = y - hy;
    const double low = lx * ly - (((p - hx * hy) - lx * hy) - hx * ly);
    const double s = z + low, sv = s - z, se = (z - (s - sv)) + (low - sv);
    const double t = p + s, tv = t - p, te = (p - (t - tv)) + (s - tv);
    double u = te + se;
    const double uv = u - te, ue = (te - (u - uv)) + (se - uv);
    if (!(t - t == 0) || t + u == 0) /* not finite, or a zero with its sign */
        return p + z;
    if (ue != 0) {{
        fg_word_f64 w;
        w.x = u;
        if (!(w.u & 1))
            w.u += (ue > 0) == (u > 0) ? 1 : (uint64_t)-1;
        u = w.x;
    }}
    return t + u;
}}
#endif
"""

# A float32 product is exact in float64; the sum's rounding is made odd before the second one.
FMA_32 = """\
#if FG_FUSED_F32
#define fg_fma_f32(x, y, z) fg_fused_f32(x, y, z)
#else
FG_INLINE float fg_fma_f32(float x, float y, float z)
{
    const double p = (double)x * (double)y, c = (double)z, s = p + c, v = s - p;
    const double e = (p - (s - v)) + (c - v);
    fg_word_f64 w;
    w.x = s;
    if (e != 0 && s - s == 0 && !(w.u & 1))
        w.u += (e > 0) == (s > 0) ? 1 : (uint64_t)-1;
    return (float)w.x;
}
#endif
"""

DIVIDE = """\
/* Floored; by zero gives 0, and the one overflow wraps. */
FG_INLINE {i} fg_{name}_{s}({i} x, {i} y)
{{
    const {i} safe = y == 0 || y == -1 ? 1 : y;
    const {i} q = ({i})(x / safe), r = ({i})(x - q * safe);
    const int odd = r != 0 && (r < 0) != (safe < 0);
    return {result};
}}
"""
_DIVIDE = {
    "floordiv": "y == 0 ? 0 : y == -1 ? ({i})(0 - ({u})x) : ({i})(q - odd)",
    "mod": "y == 0 || y == -1 ? 0 : ({i})(odd ? r + safe : r)",
}
UDIVIDE = """\
FG_INLINE {i} fg_{name}_{s}({i} x, {i} y)
{{
    return y == 0 ? 0 : ({i})(x {op} y);
}}
"""

# Where a product is fused with a sum by one instruction.
_FMA = {
    4: "defined(__GNUC__) && (defined(__FMA__) || defined(__FP_FAST_FMAF) || "
    "(defined(__ARM_FEATURE_FMA) && (__ARM_FP & 4)))",
    8: "defined(__GNUC__) && (defined(__FMA__) || defined(__FP_FAST_FMA) || "
    "(defined(__ARM_FEATURE_FMA) && (__ARM_FP & 8)))",
}
_SQRT = {
    4: "(defined(__SSE__) || defined(__aarch64__) || (defined(__riscv_flen) && __riscv_flen >= 32))",
    8: "(defined(__SSE2__) || defined(__aarch64__) || (defined(__riscv_flen) && __riscv_flen >= 64))",
}
_ROUNDS = {
    4: "(defined(__SSE4_1__) || defined(__aarch64__) || (defined(__ARM_FEATURE_DIRECTED_ROUNDING) && "
    "(__ARM_FP & 4)))",
    8: "(defined(__SSE4_1__) || defined(__aarch64__) || (defined(__ARM_FEATURE_DIRECTED_ROUNDING) && "
    "(__ARM_FP & 8)))",
}


def helper(name: str, dtype: DType) -> tuple[list, str]:
    """(what it needs: pairs of a name and a dtype, its text)."""
    if dtype.category == dtypes.INTEGER:
        return [], _divide(name, dtype)
    words = _words(dtype)
    if name == "bits":
        return [], BITS.format(**words)
    if name == "madd":
        return [("fused", dtype)], MADD.format(**words)
    if name == "fused":
        return [], FUSED_TEXT.format(hardware=_FMA[dtype.itemsize], **words)
    if name == "abs":
        return [("bits", dtype)], ABS.format(**words)
    if name == "sqrt":
        needs = [("called", dtypes.float64), ("bits", dtype)]
        return needs, SQRT.format(hardware=_SQRT[dtype.itemsize], **words)
    if name == "called":
        return [], CALLED
    if name == "apart":
        return [], APART
    if name == "fmod":
        return [("called", dtypes.float64), ("bits", dtype)], FMOD.format(**words)
    if name == "fma":
        needs = [("called", dtypes.float64), ("bits", dtypes.float64), ("fused", dtype)]
        return needs, FMA_32 if dtype.itemsize == 4 else FMA_64.format()
    body = (_NEAREST + _ROUND[name]).format(**words)
    return [("abs", dtype)], ROUND.format(
        name=name, body=body, hardware=_ROUNDS[dtype.itemsize], **words
    )


def _words(dtype: DType) -> dict[str, str]:
    wide = dtype.itemsize == 8
    bits = 64 if wide else 32
    mantissa, bias = (52, 1023) if wide else (23, 127)

    def u(number: int) -> str:
        return f"UINT{bits}_C(0x{number:x})"

    end = "" if wide else "f"
    return {
        "f": ctype(dtype),
        "s": short(dtype),
        "arm": f"(__ARM_FP & {dtype.itemsize})",
        "vsqrt": "vsqrt.f64 %P0, %P1" if wide else "vsqrt.f32 %0, %1",
        "register": "w" if wide else "t",
        "own": _OWN_SQRT.format(d="d" if wide else "s"),
        "upper": short(dtype).upper(),
        "x": end,
        "u": f"uint{bits}_t",
        "i": f"int{bits}_t",
        "mantissa": str(mantissa),
        "bias": str(bias),
        "top": str(bits - 1),
        "top_bit": u(1 << (bits - 1)),
        "infinity": u((2 * bias + 1) << mantissa),
        "nan": u((4 * bias + 3) << (mantissa - 1)),
        "fraction": u((1 << mantissa) - 1),
        "one": u(1 << mantissa),
        "two": u(1 << (mantissa + 1)),
        "largest": f"INT{bits}_MAX",
        "sign": f"INT{bits}_MIN",
        "whole": f"0x1p{mantissa}{end}",
        "half": f"0x1p{mantissa - 1}{end}",
        "magic": f"0x1.8p{mantissa}{end}",
    }


def _divide(name: str, dtype: DType) -> str:
    kind, s = ctype(dtype), short(dtype)
    if not dtype.is_signed:
        op = "/" if name == "floordiv" else "%"
        return UDIVIDE.format(i=kind, s=s, name=name, op=op)
    unsigned = f"u{kind}"
    result = _DIVIDE[name].format(i=kind, u=unsigned)
    return DIVIDE.format(i=kind, s=s, name=name, result=result)
