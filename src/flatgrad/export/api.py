"""``fg.export``: trace, lower for a target, print C99, and write the files around it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..emit.c99 import Printed, source
from ..errors import ArgumentError
from ..lower import ir
from ..lower.machine import REPRODUCIBLE
from ..lower.recompute import lower_within
from ..program.budget import budget
from . import names, project
from .build import compile_library
from .casadi import parts_of, wrapper
from .files import merged, write_all
from .form import Form, form_of
from .header import header, information
from .layout import Layout, layout_of
from .loader import loader
from .memory import check_flash, size_of, within_ram
from .selftest import selftest
from .stored import stored_calls
from .targets import Target, target_named

__all__ = ["Export", "export"]

BLAS = (None, "cblas")

# Multiply-adds from which a CBLAS library is called, if it may be.
BLAS_WORK = 2**18


def export(
    f: Callable,
    *example,
    name: str | None = None,
    path: str | os.PathLike | None = None,
    target: str | Target = "generic",
    donate_argnums=(),
    reproducible: bool = False,
    max_ram: int | str | None = None,
    max_flash: int | str | None = None,
    build: bool = False,
    cc: str | None = None,
    casadi: bool | str = False,
    blas: str | None = None,
    **keywords,
) -> Export:
    """``f(*example, **keywords)`` as C99 that stands alone, with header, self-test and Python loader.

    Everything that `f` reads besides its arguments (parameters, closures) becomes constants, which a linker
    puts into flash. Files of the same names that an earlier export made are overwritten, others never.

    Parameters
    ----------
    f : callable
        Of trees of tensors, as for :func:`flatgrad.compile`; or a function that ``fg.compile`` or ``fg.jit``
        made. One of ``fg.compile`` needs no example.
    *example, **keywords : trees of arrays, tensors and numbers
        Their structure, shapes and dtypes are the program's; their values are replayed by the self-test.
    name : str, optional
        Of the C function and the files; the function's own name if not given. What is no identifier, or
        reserved in C, C++ or Python, is changed into one.
    path : str or Path, optional
        The folder that the files go to; one called `name` in the current folder if not given.
    target : str
        ``"generic"``, ``"native"``, or a board: see ``fg.export.TARGETS``.
    donate_argnums : int or tuple of int
        Arguments that results of their shapes and dtypes are written over: the state of a training step.
    reproducible : bool
        The same bits everywhere, on every target and from every compiler. So is what ``fg.compile`` or
        ``fg.jit`` made reproducible.
    max_ram, max_flash : int or str, optional
        Bytes (``"64K"``) that arguments, results and scratch memory may have; values are recomputed to
        meet it. And that constants may have (the command line counts the compiled code, too).
    build : bool
        Compile a shared library too (a static one on microcontrollers).
    cc : str, optional
        The compiler's command for that, with flags of your own; otherwise the target's, or zig's
        (package ``ziglang``).
    casadi : bool or str
        Add a function that ``casadi.external`` can call, with derivatives: ``NAME_casadi``, or as given.
    blas : {None, "cblas"}
        Who multiplies large matrices: loops, or a CBLAS library that is linked.

    Returns
    -------
    Export
        Where the files are, and what they need. ``.load()`` calls the library that was built.

    Raises
    ------
    TraceError, DTypeError
        As :func:`flatgrad.compile`.
    UnsupportedError
        If part of it is run by NumPy (``eigh``), and so has no loops.
    BudgetError
        If it cannot be as small as asked; it says what is least.
    ArgumentError
        For an unknown target, or where files of somebody else's would be overwritten.
    ToolError
        If it is to be built, and no compiler is here or it fails.

    Examples
    --------
    >>> import flatgrad as fg
    >>> import numpy as np
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> def rosenbrock(x):
    ...     return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()
    >>> made = fg.export(fg.value_and_grad(rosenbrock), np.zeros(3), name="rosenbrock", path=folder)
    >>> sorted(made.files)
    ['CMakeLists.txt', 'README.md', 'rosenbrock.c', 'rosenbrock.h', 'rosenbrock.py', 'rosenbrock_test.c']
    >>> made.prototype
    'int rosenbrock(const double *const *in, double *const *out, void *work)'
    """
    goal = target_named(target)
    if blas not in BLAS:
        raise ArgumentError(f"export: blas must be None or 'cblas', got {blas!r}")
    ram, flash = size_of("max_ram", max_ram), size_of("max_flash", max_flash)
    form = form_of(f, example, keywords, donate_argnums)
    reproducible = reproducible or form.reproducible
    if blas is not None and reproducible:
        raise ArgumentError(
            "export: reproducible=True needs the same order of additions everywhere, and libraries have "
            "their own; leave blas out"
        )
    name = names.given_name(form.label if name is None else name)
    folder = Path(name if path is None else path)
    program, printed = _printed(form, name, goal, reproducible, blas, ram)
    check_flash(form, flash, printed.constants)
    digest = hashlib.sha256(printed.text.encode()).hexdigest()[:16]
    layout = layout_of(form, printed, program.checks, name, digest, reproducible)
    vectors = stored_calls(form, program, reproducible)
    texts = {
        f"{name}.c": _source(layout, printed),
        f"{name}.h": header(layout),
        f"{name}_test.c": selftest(layout, vectors),
        f"{name}.py": loader(layout, form),
    }
    programs = {name: (program, printed)}
    if casadi:
        parts = parts_of(form, name, _casadi_symbol(name, casadi))
        for p in parts:
            programs[p.core] = _printed(p.form, p.core, goal, reproducible, blas, None)
            texts[f"{p.core}.c"] = _mark(p.core) + programs[p.core][1].text
        texts[f"{name}_casadi.c"] = wrapper(name, parts, {k: v[1] for k, v in programs.items()})
    sources = [n for n in texts if n.endswith(".c") and n != f"{name}_test.c"]
    libm = sorted({f for _, p in programs.values() for f in p.libm})
    libraries = ["m"] if libm else []
    if any(_calls_blas(p) for p, _ in programs.values()):
        libraries.append(blas)
    made = Export(name, folder, goal, layout, printed, program, sources, libraries)
    part = project.cmake(layout, sources, libraries)
    texts["CMakeLists.txt"] = merged(
        folder / "CMakeLists.txt", project.CMAKE_HEAD, name, part, ("#", "")
    )
    how = "to the last bit" if reproducible else "within a few ulps"
    part = project.readme(layout, goal, libm, _more(name, casadi), how, sources)
    texts["README.md"] = merged(
        folder / "README.md", project.README_HEAD, name, part, ("<!--", " -->")
    )
    made.files = write_all(folder, texts)
    if build:
        made.build(cc)
    return made


def _printed(form: Form, name: str, target: Target, reproducible, blas, ram: int | None):
    """(the loop program, its C)."""
    machine = target.machine
    if reproducible:
        machine = replace(REPRODUCIBLE, align=machine.align)
    elif blas is not None:
        machine = replace(machine, blas_work=BLAS_WORK)
    how = {"machine": machine, "updates": form.updates, "spans": form.spans}

    def make(arena: int | None):
        program = lower_within(form.graph, arena, **how)
        return program, source(
            program, name, form.stored, contract=not reproducible, machine=machine
        )

    return within_ram(form, ram, budget.bytes, make)


def _casadi_symbol(name: str, casadi: bool | str) -> str:
    symbol = names.given_name(casadi if isinstance(casadi, str) else f"{name}_casadi")
    if symbol == name:
        raise ArgumentError(
            f"export: casadi must be another name than {name!r}: CasADi calls its functions with "
            "other arguments; True makes one up"
        )
    return symbol


def _more(name: str, casadi: bool | str) -> list[tuple[str, str]]:
    """Further files, and what they are."""
    if not casadi:
        return []
    symbol = _casadi_symbol(name, casadi)
    return [
        (f"{name}_casadi.c", f'`casadi.external("{symbol}", library)`, with derivatives'),
        (f"{name}_casadi_*.c", "the functions behind it"),
    ]


def _mark(name: str) -> str:
    return f"/* {name}: compiled by flatgrad to C99. Made by fg.export; do not edit. */\n"


def _calls_blas(program: ir.Program) -> bool:
    stack = list(program.body)
    while stack:
        s = stack.pop()
        if isinstance(s, ir.Gemm):
            return True
        for body in ir.bodies(s):
            stack += body
    return False


def _source(layout: Layout, printed: Printed) -> str:
    head = (
        f"/* {names.line(layout.label)}: {names.line(layout.prototype)}\n"
        f" * Made by fg.export; do not edit. {layout.name}.h says how to call it. */\n"
    )
    return head + printed.text.rstrip("\n") + "\n" + information(layout)


# -- what was made --------------------------------------------------------------------------------


@dataclass
class Export:
    """An exported function; made by :func:`export`.

    Attributes
    ----------
    name : str
        Of the C function, and the beginning of the files' names.
    path : Path
        The folder.
    files : dict of str to Path
    sources : list of str
        The files that make the library.
    library : Path or None
        The compiled library, once it is built.
    memory : dict
        Bytes: ``inputs``, ``state``, ``outputs``, ``work``, ``ram`` (their sum), ``constants``.
    """

    name: str
    path: Path
    target: Target
    layout: Layout
    printed: Printed
    program: ir.Program
    sources: list[str]
    libraries: list[str]
    files: dict[str, Path] = field(default_factory=dict)
    library: Path | None = None

    @property
    def prototype(self) -> str:
        return self.layout.prototype

    @property
    def source(self) -> str:
        """The text of ``NAME.c``."""
        return self.files[f"{self.name}.c"].read_text()

    @property
    def memory(self) -> dict[str, int]:
        layout = self.layout
        return {
            "inputs": layout.input_bytes,
            "state": layout.state,
            "outputs": layout.output_bytes,
            "work": layout.work,
            "ram": layout.ram,
            "constants": layout.constants,
        }

    def build(self, cc: str | None = None) -> Path:
        """Compile the library, by ``cc`` or the target's compiler; where it is.

        Raises
        ------
        ToolError
            If there is no compiler, or it fails.
        """
        self.library = compile_library(
            [self.files[s] for s in self.sources],
            self.name,
            self.target,
            cc=cc,
            relaxed=not self.layout.reproducible,
            libraries=tuple(self.libraries),
        )
        return self.library

    def load(self) -> Callable:
        """The function of the library that was built, through ``NAME.py``.

        Raises
        ------
        ArgumentError
            If nothing was built.
        """
        if self.library is None:
            raise ArgumentError(f"{self.name}.load: nothing was built; call .build() first")
        place = self.files[f"{self.name}.py"]
        spec = importlib.util.spec_from_file_location(self.name, place)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.load(str(self.library))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{k} {v}" for k, v in self.memory.items())
        return f"<export {self.name} for {self.target.name} in {self.path}: {sizes} bytes>"
