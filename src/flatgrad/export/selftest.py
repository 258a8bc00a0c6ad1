"""``NAME_test.c``: replays stored vectors on the machine that it runs on; its exit status tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .layout import Layout, Slot
from .names import line

__all__ = ["Vector", "selftest", "tolerances"]

ULPS = 64  # of a result's largest element, that the program may differ by from the interpreter
CONDITION = 16  # times what the results change by when every input moves by an ulp
GUARD = 64  # bytes around every array that must stay as they are


@dataclass
class Vector:
    """Arguments and what they must give.

    status : the status that the call must return; -1: any error.
    tolerance : for each result, how far an element may be off.
    """

    arguments: list[np.ndarray]
    results: list[np.ndarray] | None
    status: int
    tolerance: list[float]


def tolerances(results: list, moved: list) -> list[float]:
    """How far elements of each result may be off: `moved` are the results for inputs an ulp away."""
    found = []
    for value, other in zip(results, moved, strict=True):
        if value.dtype.kind != "f" or not value.size:
            found.append(0.0)
            continue
        with np.errstate(all="ignore"):
            finite = np.abs(np.where(np.isfinite(value), value, 0).astype(np.float64))
            change = np.abs(value.astype(np.float64) - other)
        change = np.where(np.isfinite(change), change, 0)
        kind = np.finfo(value.dtype)
        allowed = ULPS * kind.eps * finite.max() + CONDITION * change.max() + kind.tiny
        found.append(float(min(allowed, kind.max)))
    return found


HEAD = """\
/* Self-test of {name}: replays {count} stored call(s). Exit status 0 if all is well.
 * Made by fg.export; do not edit.
 * {how}
 * It also checks that results may be skipped, and that nothing is written outside of results and work.
 * Define FLATGRAD_QUIET where there is no <stdio.h>.
 */
#include "{name}.h"

#ifdef FLATGRAD_QUIET
#define FG_SAY(text, a, b) ((void)0)
#else
#include <stdio.h>
#define FG_SAY(text, a, b) ((void)printf(text, (long)(a), (long)(b)))
#endif

#define FG_GUARD {guard}
#define FG_CANARY 0xA5

"""

COPY = """\
static void fg_copy(void *to, const void *from, size_t bytes) {
    unsigned char *t = (unsigned char *)to;
    const unsigned char *f = (const unsigned char *)from;
    size_t i;
    for (i = 0; i < bytes; i++) t[i] = f[i];
}

"""

CLOSE = {
    "float64": """\
/* 0 if got is what was stored: within the tolerance where both are finite, else the same kind of number. */
static int fg_close64(const double *got, const uint64_t *stored, size_t n, double tolerance) {
    union { double x; uint64_t u; } a, b;
    size_t i;
    for (i = 0; i < n; i++) {
        uint64_t ea, eb;
        double d;
        a.x = got[i];
        b.u = stored[i];
        if (a.u == b.u) continue; /* the only way that counts if the tolerance is negative */
        ea = a.u & UINT64_C(0x7fffffffffffffff);
        eb = b.u & UINT64_C(0x7fffffffffffffff);
        if (ea > UINT64_C(0x7ff0000000000000) && eb > UINT64_C(0x7ff0000000000000)) continue;
        if (ea >= UINT64_C(0x7ff0000000000000) || eb >= UINT64_C(0x7ff0000000000000)) return (int)i + 1;
        d = a.x - b.x;
        if ((d < 0 ? -d : d) > tolerance || tolerance < 0) return (int)i + 1;
    }
    return 0;
}

""",
    "float32": """\
/* 0 if got is what was stored: within the tolerance where both are finite, else the same kind of number. */
static int fg_close32(const float *got, const uint32_t *stored, size_t n, float tolerance) {
    union { float x; uint32_t u; } a, b;
    size_t i;
    for (i = 0; i < n; i++) {
        uint32_t ea, eb;
        float d;
        a.x = got[i];
        b.u = stored[i];
        if (a.u == b.u) continue; /* the only way that counts if the tolerance is negative */
        ea = a.u & UINT32_C(0x7fffffff);
        eb = b.u & UINT32_C(0x7fffffff);
        if (ea > UINT32_C(0x7f800000) && eb > UINT32_C(0x7f800000)) continue;
        if (ea >= UINT32_C(0x7f800000) || eb >= UINT32_C(0x7f800000)) return (int)i + 1;
        d = a.x - b.x;
        if ((d < 0 ? -d : d) > tolerance || tolerance < 0) return (int)i + 1;
    }
    return 0;
}

""",
    "": """\
/* Whether got is what was stored, to the byte. */
static int fg_equal(const void *got, const void *stored, size_t n, size_t size) {
    const unsigned char *a = (const unsigned char *)got, *b = (const unsigned char *)stored;
    size_t i;
    for (i = 0; i < n * size; i++) if (a[i] != b[i]) return (int)(i / size) + 1;
    return 0;
}

""",
}


def selftest(layout: Layout, vectors: list[Vector]) -> str:
    """The text of ``NAME_test.c``."""
    how = (
        "Results must be equal to the last bit (all NaNs are one)."
        if layout.reproducible
        else f"Elements may be off by {ULPS} ulps of their array's largest, plus {CONDITION} times what\n"
        " * an ulp of the inputs changes."
    )
    parts = [HEAD.format(name=layout.name, count=len(vectors), how=how, guard=GUARD)]
    if any(a.size for a in layout.arguments):
        parts.append(COPY)
    kinds = {r.dtype.name if r.dtype.is_floating_point else "" for r in layout.results}
    kinds |= {""} if layout.updated else set()
    stored = any(v.results is not None for v in vectors)
    parts += [text for kind, text in CLOSE.items() if kind in kinds and stored]
    for k, v in enumerate(vectors):
        parts += [_table(f"fg_v{k}_in{j}", a) for j, a in enumerate(v.arguments) if a.size]
        parts += [_table(f"fg_v{k}_out{j}", a) for j, a in enumerate(v.results or []) if a.size]
    parts.append(_memory(layout))
    parts += [_vector(layout, k, v) for k, v in enumerate(vectors)]
    parts.append(_main(len(vectors)))
    return "\n".join(parts)


def _table(name: str, array: np.ndarray) -> str:
    """An array's bits. Read through unions and bytes, so no compiler sees a number that it could change."""
    width = 8 * array.dtype.itemsize
    bits = np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")
    if width > 16:
        words = [f"UINT{width}_C(0x{b:0{width // 4}x})" for b in bits.tolist()]
    else:
        words = [str(b) for b in bits.tolist()]
    per = {64: 4, 32: 6}.get(width, 16)
    rows = [", ".join(words[k : k + per]) for k in range(0, len(words), per)]
    return (
        f"static const uint{width}_t {name}[{len(words)}] = {{\n    "
        + ",\n    ".join(rows)
        + "\n};\n"
    )


def _slots(layout: Layout):
    """(variable, slot) of all arrays that the test owns."""
    for k, slot in enumerate(layout.arguments):
        yield f"fg_in{k}", slot
    for k, slot in enumerate(layout.results):
        yield f"fg_out{k}", slot


def _memory(layout: Layout) -> str:
    """Arrays between guards, and work, as static memory."""
    lines = []
    for name, slot in _slots(layout):
        # Guards are parts of a structure's array of the same type: no padding lies between.
        more = -(-GUARD // slot.dtype.itemsize)
        lines.append(f"static {slot.ctype} {name}_guarded[{more} + {slot.size} + {more}];")
        lines.append(f"static {slot.ctype} *const {name} = {name}_guarded + {more};")
    lines += [
        f"static unsigned char fg_work_bytes[FG_GUARD + {layout.work} + {layout.align} + FG_GUARD];",
        "static unsigned char *fg_work;",
        "",
        "static void fg_paint(void *from, size_t bytes) {",
        "    unsigned char *b = (unsigned char *)from;",
        "    size_t i;",
        "    for (i = 0; i < bytes; i++) b[i] = FG_CANARY;",
        "}",
        "",
        "static int fg_painted(const void *from, size_t bytes) {",
        "    const unsigned char *b = (const unsigned char *)from;",
        "    size_t i;",
        "    for (i = 0; i < bytes; i++) if (b[i] != FG_CANARY) return 0;",
        "    return 1;",
        "}",
        "",
        "static void fg_prepare(void) {",
        f"    const uintptr_t start = (uintptr_t)(fg_work_bytes + FG_GUARD), align = {max(layout.align, 1)};",
        "    fg_work = fg_work_bytes + FG_GUARD + (size_t)((align - start % align) % align);",
        "    fg_paint(fg_work_bytes, sizeof fg_work_bytes);",
        *[f"    fg_paint({n}_guarded, sizeof {n}_guarded);" for n, _ in _slots(layout)],
        "}",
        "",
        "/* 0, or 1 + the number of the array outside of which something was written. */",
        "static int fg_overrun(void) {",
    ]
    for at, (name, slot) in enumerate(_slots(layout), 1):
        more = -(-GUARD // slot.dtype.itemsize) * slot.dtype.itemsize
        end = f"(const unsigned char *)({name}_guarded) + {more + slot.bytes}"
        lines.append(
            f"    if (!fg_painted({name}_guarded, {more}) || !fg_painted({end}, {more})) return {at};"
        )
    lines += [
        "    if (!fg_painted(fg_work - FG_GUARD, FG_GUARD)) return 1000;",
        f"    if (!fg_painted(fg_work + {layout.work}, FG_GUARD)) return 1001;",
        "    return 0;",
        "}",
        "",
    ]
    return "\n".join(lines)


def _vector(layout: Layout, k: int, vector: Vector) -> str:
    """``fg_call_k(which)`` makes a call; ``fg_vector_k`` the checks of one stored vector."""
    t = layout.ctype
    lines = [
        "/* Call it; result k is skipped if bit k % 2 of fg_skip is set. */",
        f"static int fg_call_{k}(unsigned fg_skip) {{",
        f"    const {t} *in[{max(len(layout.arguments), 1)}];",
        f"    {t} *out[{max(len(layout.results), 1)}];",
        "    fg_prepare();",
    ]
    for j, a in enumerate(vector.arguments):
        if a.size:
            lines.append(f"    fg_copy(fg_in{j}, fg_v{k}_in{j}, sizeof fg_v{k}_in{j});")
    lines += [f"    in[{j}] = fg_in{j};" for j in range(len(layout.arguments))]
    if not layout.arguments:
        lines.append("    in[0] = NULL;")
    for j in range(len(layout.results)):
        lines.append(f"    out[{j}] = fg_skip & {1 << j % 2}u ? NULL : fg_out{j};")
    if not layout.results:
        lines.append("    out[0] = NULL;")
    lines += [f"    return {layout.name}(in, out, fg_work);", "}", ""]
    lines += _checks(layout, k, vector)
    return "\n".join(lines)


def _checks(layout: Layout, k: int, vector: Vector) -> list[str]:
    lines = [f"static int fg_vector_{k}(void) {{", f"    if (fg_bad_call_{k}(0)) return 1;"]
    if vector.results is None:
        return [*_bad_call(k, vector), *lines, "    return 0;", "}", ""]
    if any(slot.size for slot in layout.results):
        lines.insert(1, "    int at;")
    for j, slot in enumerate(layout.results):
        lines += _compare(f"fg_out{j}", slot, k, j, vector)
    for j in layout.updated:  # these results went elsewhere
        if layout.arguments[j].size:
            size = f"sizeof fg_v{k}_in{j}, 1"
            lines += _failing(
                f"fg_equal(fg_in{j}, fg_v{k}_in{j}, {size})", "argument", j, "written to"
            )
    # Each result alone must be what it is together with the others; updates go in place then.
    for skip in (1, 2, 3):
        lines.append(f"    if (fg_bad_call_{k}({skip})) return 1;")
        for j, slot in enumerate(layout.results):
            if not skip & 1 << j % 2:
                lines += _compare(f"fg_out{j}", slot, k, j, vector)
            elif slot.updates is not None:
                lines += _compare(f"fg_in{slot.updates}", slot, k, j, vector)
    return [*_bad_call(k, vector), *lines, "    return 0;", "}", ""]


def _bad_call(k: int, vector: Vector) -> list[str]:
    """A function that makes a call, and whether its status or its writing is wrong."""
    wrong = "status < 1" if vector.status < 0 else f"status != {vector.status}"
    want = "an error" if vector.status < 0 else str(vector.status)
    return [
        f"static int fg_bad_call_{k}(unsigned skip) {{",
        f"    const int status = fg_call_{k}(skip), at = fg_overrun();",
        f"    if ({wrong}) {{",
        f'        FG_SAY("vector %ld: status %ld, not {want}\\n", {k}, status);',
        "        return 1;",
        "    }",
        "    if (at != 0) {",
        f'        FG_SAY("vector %ld: wrote outside of array %ld\\n", {k}, at);',
        "        return 1;",
        "    }",
        "    return 0;",
        "}",
        "",
    ]


def _compare(got: str, slot: Slot, k: int, j: int, vector: Vector) -> list[str]:
    if not slot.size:
        return []
    stored = f"fg_v{k}_out{j}"
    tolerance = vector.tolerance[j]
    if slot.dtype.name == "float64":
        test = f"fg_close64({got}, {stored}, {slot.size}, {tolerance.hex()})"
    elif slot.dtype.name == "float32":
        test = f"fg_close32({got}, {stored}, {slot.size}, {float(np.float32(tolerance)).hex()}f)"
    else:
        test = f"fg_equal({got}, {stored}, {slot.size}, {slot.dtype.itemsize})"
    return [f"    /* {line(slot.name)} */", *_failing(test, "result", j, "not what was stored")]


def _failing(test: str, what: str, j: int, how: str) -> list[str]:
    return [
        f"    if ((at = {test}) != 0) {{",
        f'        FG_SAY("{what} %ld, element %ld: {how}\\n", {j}, at - 1);',
        "        return 1;",
        "    }",
    ]


def _main(count: int) -> str:
    calls = "\n".join(f"    failed += fg_vector_{k}();" for k in range(count))
    return f"""\
int main(void) {{
    int failed = 0;
{calls}
    FG_SAY(failed ? "FAILED: %ld of %ld vectors\\n" : "ok: %ld failures in %ld vectors\\n", failed, {count});
    return failed ? 1 : 0;
}}
"""
