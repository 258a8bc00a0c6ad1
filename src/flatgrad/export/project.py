"""``CMakeLists.txt`` and ``README.md``, which tell of all exported functions in a folder, a part each."""

from __future__ import annotations

from .layout import Layout, Slot
from .names import line
from .targets import Target

__all__ = ["CMAKE_HEAD", "README_HEAD", "cmake", "readme"]

CMAKE_HEAD = """\
# Made by fg.export. A library of each exported function in this folder, and its self-test (ctest).
cmake_minimum_required(VERSION 3.10)
project(flatgrad_export C)
option(BUILD_SHARED_LIBS "Build shared libraries" ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
enable_testing()
"""

CMAKE = """\
add_library({name} {sources})
set_target_properties({name} PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
target_include_directories({name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})
{link}if(NOT CMAKE_CROSSCOMPILING)
  add_executable({name}_test {name}_test.c)
  set_target_properties({name}_test PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
  target_link_libraries({name}_test {name})
  add_test(NAME {name}_test COMMAND {name}_test)
endif()
"""

README_HEAD = """\
<!-- Made by fg.export. -->
Functions that flatgrad compiled to C99.
"""


def cmake(layout: Layout, sources: list[str], libraries: list[str]) -> str:
    """The part of ``CMakeLists.txt`` about this function: identifiers alone."""
    link = ""
    if libraries:
        link = f"target_link_libraries({layout.name} PUBLIC {' '.join(libraries)})\n"
    return CMAKE.format(name=layout.name, sources=" ".join(sources), link=link)


README = """\
# {name}

`{label}`, compiled by flatgrad to C99 for {about}.

| file | what it is |
|---|---|
| `{name}.c`, `{name}.h` | the function: no malloc, no globals but constants, no C library{libm} |
| `{name}_test.c` | replays stored calls; exit status 0 if they give what they gave on the desk ({how}) |
| `{name}.py` | calls the shared library from Python, with NumPy alone |
| `CMakeLists.txt` | library and self-test |
{more}
## Memory

| | bytes |
|---|---|
| arguments that are only read | {inputs} |
| state: arguments that are updated in place | {state} |
| results | {outputs} |
| `work`: scratch memory, multiple of {align} | {work} |
| **RAM in all**, but for the stack | **{ram}** |
| constants (weights), in flash | {constants} |

## Arguments and results

`{prototype};`

| | name | type | shape | |
|---|---|---|---|---|
{rows}

Arrays are contiguous and row-major and do not overlap. `out[k] == NULL` skips result k. A result that updates
an argument is written over it, unless `out[k]` points elsewhere. Bools are `uint8_t`.

{errors}## Build and test

```
{build}
```

{use}"""

USE = """\
```c
#include "{name}.h"

{arrays}
{work}
int step(void) {{
    const {ctype} *in[] = {{{ins}}};
    {ctype} *out[] = {{{outs}}};
    return {name}(in, out, {passed}); /* {macro}_OK, or an error */
}}
```
"""


def readme(
    layout: Layout,
    target: Target,
    libm: list[str],
    files: list[tuple],
    how: str,
    sources: list[str],
) -> str:
    """The part of ``README.md`` about this function."""
    rows = [_row("in", k, s, _state(layout, k)) for k, s in enumerate(layout.arguments)]
    for k, s in enumerate(layout.results):
        rows.append(_row("out", k, s, f"updates in[{s.updates}]" if s.updates is not None else ""))
    more = "".join(f"| `{f}` | {about} |\n" for f, about in files)
    return README.format(
        name=layout.name,
        label=line(layout.label),
        about=target.about,
        libm=f", but for {', '.join(libm)} of libm" if libm else "",
        how=how,
        more=more,
        inputs=layout.input_bytes,
        state=layout.state,
        outputs=layout.output_bytes,
        align=layout.align,
        work=layout.work,
        ram=layout.ram,
        constants=layout.constants,
        prototype=layout.prototype,
        rows="\n".join(rows),
        errors=_errors(layout),
        build=_build(layout, target, bool(libm), sources),
        use=_use(layout),
    )


def _state(layout: Layout, k: int) -> str:
    return "state: updated in place" if k in layout.updated else ""


def _row(way: str, k: int, s: Slot, note: str) -> str:
    shape = " x ".join(map(str, s.shape)) or "1"
    return f"| `{way}[{k}]` | `{line(s.name)}` | {s.ctype} | {shape} | {note} |"


def _errors(layout: Layout) -> str:
    if not layout.errors:
        return "The function always returns 0: nothing in it can fail.\n\n"
    rows = [
        f"| {k} | `{layout.macro}_ERROR_{k}_{word}` | {line(text)} |"
        for k, (word, text) in enumerate(layout.errors, 1)
    ]
    return "\n".join(["| status | | |", "|---|---|---|", "| 0 | no error | |", *rows, "", ""])


def _build(layout: Layout, target: Target, libm: bool, sources: list[str]) -> str:
    n, m, files = layout.name, " -lm" if libm else "", " ".join(sources)
    cc = " ".join([target.gcc, "-std=c99", "-O2" if target.freestanding else "-O3", *target.flags])
    if target.freestanding:
        return f"{cc} -ffreestanding -ffunction-sections -fdata-sections -c {files}"
    return (
        f"{cc} -fPIC -shared {files} -o lib{n}.so{m}\n"
        f"{cc} {n}.c {n}_test.c -o {n}_test{m} && ./{n}_test"
    )


def _use(layout: Layout) -> str:
    """How C calls it."""
    arrays = []
    for way, slots in (("in", layout.arguments), ("out", layout.results)):
        for k, s in enumerate(slots):
            if way == "out" and s.updates is not None:
                continue
            arrays.append(
                f"static {s.ctype} {way}{k}[{layout.macro}_{way.upper()}{k}_SIZE]; /* {line(s.name)} */"
            )
    outs = ["NULL" if s.updates is not None else f"out{k}" for k, s in enumerate(layout.results)]
    work = ""
    if layout.work:
        unit = "double" if layout.align <= 8 else "unsigned char"
        size = (
            f"({layout.macro}_WORK_BYTES + 7) / 8"
            if unit == "double"
            else f"{layout.macro}_WORK_BYTES"
        )
        mark = "" if unit == "double" else f" __attribute__((aligned({layout.macro}_WORK_ALIGN)))"
        work = f"static {unit} work[{size}]{mark};\n"
    return USE.format(
        name=layout.name,
        macro=layout.macro,
        ctype=layout.ctype,
        arrays="\n".join(arrays),
        work=work,
        ins=", ".join(f"in{k}" for k in range(len(layout.arguments))) or "NULL",
        outs=", ".join(outs) or "NULL",
        passed="work" if layout.work else "NULL",
    )
