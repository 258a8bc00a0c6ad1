"""Vectors of a few lanes, in C: GNU's vector types where the processor has such registers, else structs.

A vector type wider than the processor's registers would be taken apart through memory; a struct of an array
is something that every C99 compiler knows. Both do the same operations on the same lanes.
"""

from __future__ import annotations

from ...graph.dtypes import DType
from .words import ctype, short

__all__ = ["halved", "name_of", "vector"]

_HARDWARE = {
    64: "defined(__AVX512F__)",
    32: "defined(__AVX__)",
    16: "(defined(__SSE2__) || defined(__aarch64__){neon})",
}

_TYPE = """\
#if defined(__GNUC__) && {hardware}
typedef {f} {v} __attribute__((vector_size({bytes}), aligned({size}), may_alias));
#define fg_load_{n}(p) (*(const {v} *)(p))
#define fg_put_{n}(p, v) (*({v} *)(p) = (v))
#define fg_add_{n}(x, y) ((x) + (y))
#define fg_lane_{n}(v, k) ((v)[k])
#define fg_make_{n}({parameters}) (({v}){{{parameters}}})
{madd}
#else
typedef struct {{
    {f} lane[{count}];
}} {v};
#define fg_lane_{n}(v, k) ((v).lane[k])
FG_INLINE {v} fg_load_{n}(const {f} *p)
{{
    {v} v;
{load}
    return v;
}}
FG_INLINE void fg_put_{n}({f} *p, {v} v)
{{
{put}
}}
FG_INLINE {v} fg_add_{n}({v} x, {v} y)
{{
{add}
    return x;
}}
FG_INLINE {v} fg_make_{n}({typed})
{{
    {v} v;
{make}
    return v;
}}
FG_INLINE {v} fg_madd_{n}({v} x, {v} y, {v} z)
{{
{fma}
    return z;
}}
#endif
FG_INLINE {v} fg_splat_{n}({f} x)
{{
    return fg_make_{n}({splat});
}}
"""

_MADD_PLAIN = "#define fg_madd_{n}(x, y, z) ((x) * (y) + (z))"
# Lane by lane a compiler may take the vector apart again: the operation's own name where it has one.
_MADD = """\
#if {fused} && defined(__clang_major__) && __clang_major__ >= 18
#define fg_madd_{n}(x, y, z) __builtin_elementwise_fma(x, y, z)
{x86}#elif {fused}
FG_INLINE {v} fg_madd_{n}({v} x, {v} y, {v} z)
{{
    return fg_make_{n}({lanes});
}}
#else
#define fg_madd_{n}(x, y, z) ((x) * (y) + (z))
#endif"""

_X86 = """\
#elif defined(__FMA__) && !defined(__clang__)
#define fg_madd_{n}(x, y, z) {builtin}(x, y, z{end})
"""
_BUILTIN = {
    16: ("__builtin_ia32_vfmaddp{0}", ""),
    32: ("__builtin_ia32_vfmaddp{0}256", ""),
    64: ("__builtin_ia32_vfmaddp{0}512_mask", ", -1, 4"),  # all lanes; the present rounding mode
}

_HALVED = """\
FG_INLINE {v} {name}({parameters})
{{
    return fg_add_{n}({low},
        {high});
}}
"""


def name_of(dtype: DType, count: int) -> str:
    return f"{short(dtype)}x{count}"


def vector(dtype: DType, count: int, contract: bool) -> str:
    """The type of `count` lanes and its operations."""
    size = dtype.itemsize * count
    hardware = _HARDWARE[max(size, 16)]
    if size <= 16:
        neon = " || defined(__ARM_NEON)" if dtype.itemsize == 4 else ""
        hardware = hardware.format(neon=neon)
    parameters = [f"x{k}" for k in range(count)]
    f, n = ctype(dtype), name_of(dtype, count)
    lanes = [f"__builtin_fma{'f' * (f == 'float')}(x[{k}], y[{k}], z[{k}])" for k in range(count)]

    # Written out, as compilers make registers of what has constant indices.
    def each(line: str) -> str:
        return "\n".join("    " + line.replace("#", str(k)) for k in range(count))

    fma = "x.lane[#] * y.lane[#] + z.lane[#]"
    if contract:
        fma = f"fg_madd_{short(dtype)}(x.lane[#], y.lane[#], z.lane[#])"
    words = {
        "f": f,
        "n": n,
        "v": f"fg_{n}",
        "hardware": hardware,
        "bytes": size,
        "size": dtype.itemsize,
        "count": count,
        "parameters": ", ".join(parameters),
        "typed": ", ".join(f"{f} {p}" for p in parameters),
        "load": each("v.lane[#] = p[#];"),
        "put": each("p[#] = v.lane[#];"),
        "add": each("x.lane[#] += y.lane[#];"),
        "make": each("v.lane[#] = x#;"),
        "fma": each(f"z.lane[#] = {fma};"),
        "splat": ", ".join(["x"] * count),
        "lanes": ", ".join(lanes),
        "fused": f"FG_FUSED_{short(dtype).upper()}",
    }
    words["x86"] = ""
    if size in _BUILTIN:
        builtin, end = _BUILTIN[size]
        words["x86"] = _X86.format(n=n, builtin=builtin.format(f[0].replace("f", "s")), end=end)
    madd = (_MADD if contract else _MADD_PLAIN).format(**words)
    return _TYPE.format(madd=madd, **words)


def halved(dtype: DType, count: int, parts: int, given: int) -> str:
    """Of one or two vectors in `parts` parts each, the sums of the parts' halves, in order."""
    size = count // parts
    first = [k + j for k in range(0, count, size) for j in range(size // 2)]
    n, full = name_of(dtype, count), name_of(dtype, given * count // 2)

    def half(places) -> str:
        lanes = (f"fg_lane_{n}({v}, {k})" for v in "xy"[:given] for k in places)
        return f"fg_make_{full}({', '.join(lanes)})"

    name = f"fg_{'fold' if given == 2 else 'halve'}{parts}_{n}"
    parameters = ", ".join(f"fg_{n} {v}" for v in "xy"[:given])
    low, high = half(first), half([k + size // 2 for k in first])
    return _HALVED.format(
        v=f"fg_{full}", name=name, parameters=parameters, n=full, low=low, high=high
    )
