"""The function that a command is given, ``module.py:f``, and the arguments it is to be called with.

Nothing on the command line is evaluated: a module is imported, as its user would, and names in it are
looked up; arguments are dtypes and shapes, numbers, or ``.npy`` files (which are not unpickled).
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from .screen import UsageError

__all__ = ["Given", "add_function", "argument", "found", "given", "module_of", "need_example"]

TRANSFORMS = ("grad", "value_and_grad", "jacfwd", "jacrev", "hessian")

_ALIASES = {
    "f8": "float64",
    "f4": "float32",
    "double": "float64",
    "float": "float32",
    "i8": "int64",
    "i4": "int32",
    "i2": "int16",
    "i1": "int8",
    "u1": "uint8",
    "b1": "bool",
}
_ARGUMENT = re.compile(r"([A-Za-z]\w*)(?:\[([\d,\s]*)\])?(?:=(.+))?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SEED = 0


@dataclass
class Given:
    """A function with its arguments.

    Attributes
    ----------
    label : str
        As the user named it.
    function : callable
    example : tuple or None
        None where no arguments are known.
    keywords : dict
    """

    label: str
    function: Callable
    example: tuple | None
    keywords: dict


def add_function(parser, many: bool = False) -> None:
    """The arguments of commands that take a function, or `many`; their descriptions say how it is named."""
    if many:
        parser.add_argument("functions", nargs="*", help=argparse.SUPPRESS)
    else:
        parser.add_argument("function", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument(
        "--arg",
        action="append",
        default=[],
        metavar="A",
        help="argument: float64[8,3], f4[4]=0.5, 2.5, x.npy, key:f8[3]",
    )
    parser.add_argument("--example", metavar="E", help="module.py:g, arguments or what makes them")
    parser.add_argument(
        "--transform",
        metavar="T",
        help="apply first: grad, value_and_grad, jacrev, jacfwd, hessian",
    )


def given(options) -> Given:
    """The function of a command's options, with its arguments."""
    if options.function is None:
        raise UsageError(f"a function is required: flatgrad {options.command} module.py:f")
    module, function = found(options.function)
    example, keywords = _example(options, module, function)
    label = options.function.rpartition(":")[2]
    transform = options.transform
    if not callable(function):
        raise UsageError(f"{options.function} is no function but {type(function).__name__}")
    if transform is not None:
        if transform not in TRANSFORMS:
            raise UsageError(
                f"--transform must be one of {', '.join(TRANSFORMS)}, got {transform!r}"
            )
        import flatgrad

        function, label = getattr(flatgrad, transform)(function), f"{transform}({label})"
    return Given(label, function, example, keywords)


# -- the function -----------------------------------------------------------------------------------


def found(text: str) -> tuple[ModuleType, object]:
    """(the module, what `text` names in it)."""
    place, _, name = text.rpartition(":")
    if not place or not name or not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"a function is required as module.py:f or package.module:f, got {text!r}")
    module = module_of(place)
    value = module
    for part in name.split("."):
        if not hasattr(value, part):
            raise UsageError(f"{place} has no {name!r}{_hint(part, value)}")
        value = getattr(value, part)
    return module, value


def module_of(place: str) -> ModuleType:
    """The imported module: a file's, or one that Python finds from here."""
    if place.endswith(".py") or os.sep in place:
        return _file_module(Path(place))
    if not all(part.isidentifier() for part in place.split(".")):
        raise UsageError(f"a module's file or name is required, got {place!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as python -m does
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(f"{error.name}.")):
            raise UsageError(
                f"there is no module {place!r} here; for a file: {place}.py:f"
            ) from None
        raise


def _file_module(file: Path) -> ModuleType:
    if not file.is_file():
        raise UsageError(f"there is no file {str(file)!r}")
    name, path = file.stem, file.resolve()
    known = sys.modules.get(name)
    if known is not None:
        same = getattr(known, "__file__", None)
        if same is not None and Path(same).resolve() == path:
            return known
        name = f"{name}_{abs(hash(str(path))):x}"  # another module has that name
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise UsageError(f"{str(file)!r} is no Python module: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # as running the file does
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _hint(name: str, owner) -> str:
    functions = [n for n, v in vars(owner).items() if callable(v) and not n.startswith("_")]
    close = difflib.get_close_matches(name, functions, 1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; it has {', '.join(functions[:8])}" if functions else ""


# -- its arguments ----------------------------------------------------------------------------------


def _example(options, module: ModuleType, function) -> tuple[tuple | None, dict]:
    if options.arg and options.example:
        raise UsageError("--arg and --example were both given; give one of them")
    if options.arg:
        return _arguments(options.arg)
    if options.example:
        text = options.example
        own = ":" in text
        value = found(text)[1] if own else found(f"{options.function.rpartition(':')[0]}:{text}")[1]
    elif hasattr(function, "example"):
        value = function.example
    elif hasattr(module, "example_arguments"):
        value = module.example_arguments
    else:
        return _compiled_example(function), {}
    value = value() if callable(value) else value
    return (value if isinstance(value, tuple) else (value,)), {}


def _compiled_example(function) -> tuple | None:
    """Arguments of what fg.compile made, which knows them; no arguments for a function of none."""
    import inspect

    from ..func.compile import CompiledFunction, parts_of
    from ..func.tree import unflatten

    if isinstance(function, CompiledFunction):
        _, kinds, arguments, _ = parts_of(function)
        leaves = [_filled(k.dtype.np, k.shape, k.number, None) for k in kinds]
        args, keywords = unflatten(arguments, leaves)
        return None if keywords else tuple(args)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None
    return None if parameters else ()


def need_example(g: Given) -> Given:
    """`g`, if its arguments are known."""
    if g.example is None:
        raise UsageError(
            f"{g.label} needs arguments: --arg float64[4] for each, --example module.py:g, or an "
            "attribute f.example or function example_arguments() in the module"
        )
    return g


def _arguments(texts: list[str]) -> tuple[tuple, dict]:
    args, keywords = [], {}
    for text in texts:
        name, colon, rest = text.partition(":")
        if colon and name.isidentifier():
            keywords[name] = argument(rest)
        else:
            args.append(argument(text))
    return tuple(args), keywords


def argument(text: str):
    """The array or number of ``float64[8,3]``, ``f4[4]=0.5``, ``float64``, ``2.5``, ``true`` or ``x.npy``."""
    import numpy as np

    text = text.strip()
    if text.endswith(".npy"):
        try:
            return np.load(text, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UsageError(f"--arg {text}: {error}") from None
    if _NUMBER.fullmatch(text):
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    if text in ("true", "false"):
        return text == "true"
    parts = _ARGUMENT.fullmatch(text)
    dtype = _dtype(parts[1]) if parts else None
    if dtype is None:
        raise UsageError(
            f"--arg: a dtype with a shape (float64[8,3]), a dtype alone for a number, a number or a .npy "
            f"file is required, got {text!r}"
        )
    number = parts[2] is None
    shape = () if number else tuple(int(n) for n in parts[2].split(",") if n.strip())
    if parts[3] is not None and not _NUMBER.fullmatch(parts[3]):
        raise UsageError(f"--arg {text}: behind = a number is required, got {parts[3]!r}")
    return _filled(dtype, shape, number, None if parts[3] is None else float(parts[3]))


def _dtype(name: str):
    from ..graph import dtypes

    name = _ALIASES.get(name, name)
    return next((d.np for d in dtypes.ALL if d.name == name), None)


def _filled(dtype, shape: tuple, number: bool, value: float | None):
    """An argument of ordinary numbers: floats of 0.5 to 1.5, which suit logarithms and divisors, else 0."""
    import numpy as np

    if value is not None:
        made = np.full(shape, value, dtype)
    elif dtype.kind == "f":
        made = np.random.default_rng(_SEED).uniform(0.5, 1.5, shape).astype(dtype)
        made = np.asarray(made, dtype)
    else:
        made = np.zeros(shape, dtype)
    return made[()] if number else made
