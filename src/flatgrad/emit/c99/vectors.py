"""Vectors of a few lanes, in C: GNU's vector types where the processor has such registers, else structs.

A vector type wider than the processor's registers would be taken apart through memory; a struct of an array
is something that every C99 compiler knows. Both do the same operations on the same lanes.
"""

from __future__ import annotations

from ...graph.dtypes import DType
from .words import ctype, short

__all__ = ["name_of", "summed", "vector"]

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
_MADD = """\
#if {fused}
FG_INLINE {v} fg_madd_{n}({v} x, {v} y, {v} z)
{{
    return fg_make_{n}({lanes});
}}
#else
#define fg_madd_{n}(x, y, z) ((x) * (y) + (z))
#endif"""

_SUM = """\
/* All lanes, by halves. */
FG_INLINE {f} fg_sum_{n}({v} v)
{{
{body}
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
    madd = (_MADD if contract else _MADD_PLAIN).format(**words)
    return _TYPE.format(madd=madd, **words)


def summed(dtype: DType, count: int) -> str:
    """The sum of a vector's lanes; it needs the vector of half as many, if that has more than one lane."""
    f, n = ctype(dtype), name_of(dtype, count)
    half = count // 2
    lanes = [f"fg_lane_{n}(v, {k})" for k in range(count)]
    if half == 1:
        body = f"    return {lanes[0]} + {lanes[1]};"
    else:
        h = name_of(dtype, half)
        low, high = (f"fg_make_{h}({', '.join(part)})" for part in (lanes[:half], lanes[half:]))
        body = f"    return fg_sum_{h}(fg_add_{h}({low}, {high}));"
    return _SUM.format(f=f, n=n, v=f"fg_{n}", body=body)
