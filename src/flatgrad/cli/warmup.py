"""``flatgrad warmup``: fill a cache that boards of the same kind can use, or see whether one is used."""

from __future__ import annotations

import os
import runpy
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from .given import add_function, found, given
from .screen import Progress, Screen, UsageError, size

DESCRIPTION = """Compile what functions (module.py:f) and scripts (script.py) use into a cache
that boards of the same kind can have a copy of."""
USAGE = "[--cache DIR] [--check] WHAT... [-- WORDS FOR A SCRIPT]"


def add_arguments(parser) -> None:
    add_function(parser, many=True)
    parser.add_argument("--cache", metavar="DIR", help="where (the usual cache if not given)")
    parser.add_argument(
        "--check", action="store_true", help="would it be hit? Writes nothing there"
    )


def run(options, screen: Screen) -> int:
    what, arguments = options.functions, options.behind
    if not what:
        raise UsageError("what to run is required: flatgrad warmup module.py:f, or script.py")
    directory = Path(options.cache).expanduser().absolute() if options.cache else None
    if options.check:
        return _checked(what, arguments, options, directory, screen)
    if directory is not None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with cache_at(directory):
        report = _filled(what, arguments, options)
    screen.result(report)
    screen.line(
        f"{report['directory']}: {_counted(report['programs'])}, {size(report['bytes'])}; "
        f"{report['compiled']} compiled now, {report['hits']} were there, in {report['seconds']:.1f} s"
    )
    if not report["compiled"] and not report["hits"]:
        screen.line("nothing was compiled: does it evaluate anything? Return what it shall compute")
        return 1
    if not report["stored"]:
        print("flatgrad: the cache could not be written", file=sys.stderr)
        return 1
    return 0


def _counted(programs: int) -> str:
    return f"{programs} program{'s' * (programs != 1)}"


@contextmanager
def cache_at(directory: Path | None):
    """The cache in `directory`, for the block."""
    before = os.environ.get("FLATGRAD_CACHE_DIR")
    if directory is not None:
        os.environ["FLATGRAD_CACHE_DIR"] = str(directory)
    try:
        yield
    finally:
        if before is not None:
            os.environ["FLATGRAD_CACHE_DIR"] = before
        elif directory is not None:
            del os.environ["FLATGRAD_CACHE_DIR"]


def _filled(what, arguments, options) -> dict:
    """Run it all with everything compiled; what that did to the cache."""
    import flatgrad

    from ..program.cache import cache

    hits, misses, errors = cache.hits, cache.misses, len(cache._warned)
    started = time.perf_counter()
    with flatgrad.set_compile("always"), Progress("warmup", len(what)) as progress:
        for text in what:
            _run(text, arguments, options)
            progress.step(1, text)
    entries = cache.entries()
    return {
        "directory": str(cache.path),
        "programs": len(entries),
        "bytes": sum(e.bytes for e in entries),
        "compiled": cache.misses - misses,
        "hits": cache.hits - hits,
        "seconds": time.perf_counter() - started,
        "stored": len(cache._warned) == errors and cache.enabled,
    }


def _run(text: str, arguments: list[str], options) -> None:
    if ":" not in text.removeprefix(os.path.splitdrive(text)[0]):
        _script(text, arguments)
        return
    options.function = text
    g = given(options)
    if g.example is None or not (g.example or g.keywords):
        function = found(text)[1] if options.transform is None else g.function
        _evaluate(function())  # one that needs no arguments is run for what it does
        return
    import flatgrad

    from ..func.compile import CompiledFunction
    from ..func.jit import JitFunction

    function = g.function
    if not isinstance(function, CompiledFunction | JitFunction):
        function = flatgrad.compile(function, *g.example, **g.keywords)
    _evaluate(function(*g.example, **g.keywords))


def _evaluate(result) -> None:
    """Compute what a function returned: nothing else may ask for it here."""
    from ..func.tree import flatten
    from ..tensor import Tensor, late, node_of

    late.evaluate([node_of(x) for x in flatten(result)[0] if isinstance(x, Tensor)])


def _script(text: str, arguments: list[str]) -> None:
    if not Path(text).is_file():
        raise UsageError(f"there is no script {text!r}; a function is given as module.py:f")
    before, path = sys.argv, list(sys.path)
    sys.argv = [text, *arguments]
    sys.path.insert(0, str(Path(text).resolve().parent))
    try:
        runpy.run_path(text, run_name="__main__")
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    finally:
        sys.argv, sys.path[:] = before, path


# -- checking ---------------------------------------------------------------------------------------


def _checked(what, arguments, options, directory: Path | None, screen: Screen) -> int:
    """Run it on a copy of the cache: what a board would find that got a copy, and nothing is written."""
    from ..program.cache import cache

    source = directory or cache.path
    if not source.is_dir():
        raise UsageError(f"there is no cache {source}; warmup without --check fills one")
    with tempfile.TemporaryDirectory(prefix="flatgrad-check-") as scratch:
        copied = Path(scratch) / "cache"
        # Without times and owners, as a careless copy is made.
        shutil.copytree(source, copied, copy_function=shutil.copyfile)
        os.chmod(copied, 0o700)
        there = list(copied.glob("*.o")) + list(copied.glob("*.json"))
        with cache_at(copied):
            report = _filled(what, arguments, options)
    for name in ("stored", "bytes"):
        del report[name]
    report |= {"directory": str(source), "programs": len(there)}
    report |= {"hit": not report["compiled"] and report["hits"] > 0}
    screen.result(report)
    verdict = "ok" if report["hit"] else "fail"
    screen.line(
        f"{source}: {_counted(report['hits'])} "
        + screen.coloured("found" if report["hit"] else "found, not all", verdict)
        + f", {report['compiled']} would be compiled, in {report['seconds']:.1f} s"
    )
    if not report["hit"]:
        from ..program.cache import _environment

        screen.line(f"entries must be made for: {_environment()}")
    return 0 if report["hit"] else 1
