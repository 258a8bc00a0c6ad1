"""``NAME.h``, and the part of ``NAME.c`` that tells sizes, shapes, names and errors at run time."""

from __future__ import annotations

from .layout import Layout, Slot
from .names import c_string, line

__all__ = ["header", "information"]


def header(layout: Layout) -> str:
    """The text of ``NAME.h``, for C99 and C++."""
    m, n = layout.macro, layout.name
    guard = f"FLATGRAD_{m}_H"
    lines = [
        f"/* {line(layout.label)}: compiled by flatgrad to C99. Made by fg.export; do not edit.",
        " *",
        " * Call it with a pointer to each argument and to each result, in the order below. All arrays are",
        " * contiguous and row-major, and no two of them overlap. A result whose pointer is NULL is skipped.",
        f" * work: {m}_WORK_BYTES bytes of scratch memory that start at a multiple of {m}_WORK_ALIGN; its",
        f" * contents mean nothing before and after a call. {_work_note(layout)}",
        " * Calls may run on several threads at once if each has its own work and results.",
        f" * Returns {m}_OK (0), or the number of an error; results are then not to be used.",
        " */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        f"#define {m}_N_IN {len(layout.arguments)}",
        f"#define {m}_N_OUT {len(layout.results)}",
        f"#define {m}_WORK_BYTES {layout.work}",
        f"#define {m}_WORK_ALIGN {layout.align}",
        f"#define {m}_CONST_BYTES {layout.constants} /* of flash: weights */",
        f"#define {m}_STATE_BYTES {layout.state} /* of arguments that are updated in place */",
        f'#define {m}_ID "{layout.digest}"',
        "",
    ]
    for k, slot in enumerate(layout.arguments):
        lines += _slot(m, "IN", k, slot, _argument_note(layout, k))
    for k, slot in enumerate(layout.results):
        lines += _slot(m, "OUT", k, slot, _result_note(layout, slot))
        if slot.updates is not None:
            lines[-1:] = [f"#define {m}_OUT{k}_UPDATES {slot.updates}", ""]
    lines += ["/* What a call returns. */", "enum {", f"    {m}_OK = 0{',' * bool(layout.errors)}"]
    for k, (word, text) in enumerate(layout.errors, 1):
        comma = "," if k < len(layout.errors) else ""
        lines.append(f"    {m}_ERROR_{k}_{word} = {k}{comma} /* {line(text)} */")
    lines += [
        "};",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        f"{layout.prototype};",
        "",
        "/* The same facts at run time. For k out of range they are 0, or NULL. Compiled with FLATGRAD_BARE",
        " * defined, there are none of these functions, and no text. */",
        *[p.replace(")", ");", 1) for p in _prototypes(n)],
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        f"#endif /* {guard} */",
        "",
    ]
    return "\n".join(lines)


def _work_note(layout: Layout) -> str:
    return "(None: NULL is fine.)" if layout.work == 0 else "It may be static."


def _slot(m: str, way: str, k: int, slot: Slot, note: str) -> list[str]:
    head = f"{m}_{way}{k}"
    shape = ", ".join(map(str, slot.shape))
    lines = [
        f"/* {way.lower()}[{k}]: {line(str(slot))}{note} */",
        f"#define {m}_{way}_{slot.word} {k}",
        f"#define {head}_TYPE {slot.ctype}",
        f"#define {head}_SIZE {slot.size}",
        f"#define {head}_BYTES {slot.bytes}",
        f"#define {head}_NDIM {len(slot.shape)}",
    ]
    if slot.shape:
        lines.append(f"#define {head}_SHAPE {{{shape}}}")
    return [*lines, ""]


def _argument_note(layout: Layout, k: int) -> str:
    if k in layout.updated:
        return f"; STATE: the call writes out[{layout.updated[k]}] over it, unless that points elsewhere"
    return ""


def _result_note(layout: Layout, slot: Slot) -> str:
    if slot.updates is None:
        return ""
    j = slot.updates
    return f"; STATE: NULL or in[{j}] updates in[{j}] in place, another pointer leaves in[{j}] as it was"


def _prototypes(n: str) -> list[str]:
    return [
        f"int {n}_n_in(void)",
        f"int {n}_n_out(void)",
        f"size_t {n}_in_size(int k) /* elements */",
        f"size_t {n}_out_size(int k)",
        f"int {n}_in_ndim(int k)",
        f"int {n}_out_ndim(int k)",
        f"const size_t *{n}_in_shape(int k)",
        f"const size_t *{n}_out_shape(int k)",
        f"const char *{n}_in_name(int k)",
        f"const char *{n}_out_name(int k)",
        f"size_t {n}_work_bytes(void)",
        f"size_t {n}_work_align(void)",
        f"const char *{n}_id(void) /* changes with the code */",
        f"const char *{n}_error(int status) /* what a status means */",
    ]


_TABLES = {"in": "arguments", "out": "results"}


def information(layout: Layout) -> str:
    """The end of ``NAME.c``: functions for what the header has as macros."""
    n = layout.name
    parts = [
        "",
        "/* Sizes, shapes, names and errors at run time. */",
        "#ifndef FLATGRAD_BARE",
        *[f"{p.partition(' /*')[0]};" for p in _prototypes(n)],
        "",
    ]
    for way, which in _TABLES.items():
        parts += _side(n, way, getattr(layout, which))
    parts += [
        f"size_t {n}_work_bytes(void) {{ return {layout.work}; }}",
        f"size_t {n}_work_align(void) {{ return {layout.align}; }}",
        f'const char *{n}_id(void) {{ return "{layout.digest}"; }}',
        "",
        f"const char *{n}_error(int status) {{",
        "    switch (status) {",
        '    case 0: return "no error";',
    ]
    for k, (_, text) in enumerate(layout.errors, 1):
        parts.append(f"    case {k}: return {c_string(text)};")
    parts += ['    default: return "unknown status";', "    }", "}", "#endif", ""]
    return "\n".join(parts)


def _side(n: str, way: str, slots: list[Slot]) -> list[str]:
    """The functions about all arguments, or about all results."""
    count = len(slots)
    lines = [f"int {n}_n_{way}(void) {{ return {count}; }}"]
    if not slots:
        for kind, name, none in _getters(n, way):
            lines.append(f"{kind}{name}(int k) {{ (void)k; return {none}; }}")
        return [*lines, ""]
    sizes = ", ".join(str(s.size) for s in slots)
    ndims = ", ".join(str(len(s.shape)) for s in slots)
    flat = [str(d) for s in slots for d in s.shape] or ["0"]
    starts, at = [], 0
    for s in slots:
        starts.append(str(at))
        at += len(s.shape)
    texts = ", ".join(c_string(s.name) for s in slots)
    lines += [
        f"static const size_t fg_{way}_size[{count}] = {{{sizes}}};",
        f"static const int fg_{way}_ndim[{count}] = {{{ndims}}};",
        f"static const size_t fg_{way}_dims[{len(flat)}] = {{{', '.join(flat)}}};",
        f"static const size_t fg_{way}_first[{count}] = {{{', '.join(starts)}}};",
        f"static const char *const fg_{way}_name[{count}] = {{{texts}}};",
    ]
    found = (
        f"fg_{way}_size[k]",
        f"fg_{way}_ndim[k]",
        f"fg_{way}_dims + fg_{way}_first[k]",
        f"fg_{way}_name[k]",
    )
    for (kind, name, none), value in zip(_getters(n, way), found, strict=True):
        # Of an empty array's element the address is not taken: an index out of range is a NULL.
        lines.append(f"{kind}{name}(int k) {{ return k >= 0 && k < {count} ? {value} : {none}; }}")
    return [*lines, ""]


def _getters(n: str, way: str) -> list[tuple[str, str, str]]:
    return [
        ("size_t ", f"{n}_{way}_size", "0"),
        ("int ", f"{n}_{way}_ndim", "0"),
        ("const size_t *", f"{n}_{way}_shape", "NULL"),
        ("const char *", f"{n}_{way}_name", "NULL"),
    ]
