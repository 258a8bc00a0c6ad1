"""``flatgrad export``: :func:`flatgrad.export` from the command line."""

from __future__ import annotations

from .given import add_function, given, need_example
from .memory import add_memory, fits, measured, show_memory
from .screen import Progress, Screen, UsageError, written_size

DESCRIPTION = "Write FUNCTION (module.py:f or package.module:f) as C99, for a board."
USAGE = "[-o FOLDER] [--target T] [options] FUNCTION"


def add_arguments(parser) -> None:
    add_function(parser)
    parser.add_argument("--name", metavar="N", help="of the C function (the function's own)")
    parser.add_argument("-o", dest="path", metavar="FOLDER", help="where to (a folder called NAME)")
    add_memory(parser)
    parser.add_argument("--build", action="store_true", help="compile the library too")
    parser.add_argument("--casadi", action="store_true", help="add casadi.external's function")
    parser.add_argument("--blas", choices=("cblas",), help="for large matrix products: cblas")


def run(options, screen: Screen) -> int:
    if options.target == "list":
        return targets(screen)
    how = export_options(options)
    g = need_example(given(options))
    more = {"casadi": options.casadi, "blas": options.blas}
    with Progress("export") as progress:
        progress.step(1, f"{g.label} for {options.target}")
        made = exported(g, **how, **more, name=options.name, path=options.path)
        if options.build:
            progress.step(1, "building; the first time for a processor zig takes a minute")
            made.build(options.cc)
        figures = measured(made, options.cc) if options.build or options.max_flash else made.memory
    limits = {"ram": how["max_ram"], "flash": how["max_flash"]}
    too_large = fits(figures, limits)
    screen.result(
        {
            "name": made.name,
            "prototype": made.prototype,
            "target": made.target.name,
            "folder": str(made.path),
            "files": sorted(made.files),
            "library": None if made.library is None else str(made.library),
            "memory": figures,
            "too_large": too_large,
        }
    )
    screen.line(made.prototype)
    for file in sorted(made.files.values()):
        screen.line(f"  {file}")
    if made.library is not None:
        screen.line(f"  {made.library}")
    screen.line()
    show_memory([(g.label, figures)], made.target.name, limits, screen)
    return 1 if too_large else 0


def targets(screen: Screen) -> int:
    """The list of targets."""
    from ..export.targets import TARGETS

    rows = [(t.name, t.about) for t in TARGETS.values()]
    rows.append(("native", "this machine, with all its instructions"))
    screen.result([{"name": name, "about": about} for name, about in rows])
    screen.table(rows)
    return 0


def export_options(options) -> dict:
    """What ``export`` and ``inspect`` hand on to fg.export, checked before the function is imported."""
    from ..export.targets import TARGETS

    if options.target not in (*TARGETS, "native"):
        raise UsageError(
            f"--target must be native or one of {', '.join(TARGETS)}, got {options.target!r}"
        )
    try:
        donated = tuple(int(k) for k in options.donate.split(",")) if options.donate else ()
    except ValueError:
        raise UsageError(
            f"--donate: positions like 0,1 are required, got {options.donate!r}"
        ) from None
    return {
        "target": options.target,
        "donate_argnums": donated,
        "reproducible": options.reproducible,
        "max_ram": None if options.max_ram is None else written_size(options.max_ram),
        "max_flash": None if options.max_flash is None else written_size(options.max_flash),
    }


def exported(g, **how):
    """The export of what was given."""
    from ..export import export

    function = g.function
    if g.keywords:  # beside export's own options some of these names would be taken
        names, count = tuple(g.keywords), len(g.example)

        def function(*args):
            keywords = dict(zip(names, args[count:], strict=True))
            return g.function(*args[:count], **keywords)

        function.__name__ = getattr(g.function, "__name__", "function")
    return export(function, *g.example, *g.keywords.values(), **how)
