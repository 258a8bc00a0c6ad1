"""``NAME.py``: calls the shared library from Python, with ctypes and NumPy alone."""

from __future__ import annotations

from ..func.tree import Spec
from .form import Form
from .layout import Layout, Slot

__all__ = ["loader"]

TEMPLATE = '''\
"""{name}: a function that flatgrad compiled to C99, called from Python with ctypes and NumPy alone.

    from {name} import {name}
    result = {name}({call})

The shared library lies beside this file as lib{name}.so ({name}.so, .dylib and .dll are found as well);
load(path) takes it from elsewhere, and gives a function with memory of its own. Nothing is built here:
README.md says how.

Arguments:
{arguments}
Results:
{results}
Made by fg.export; do not edit.
"""

import ctypes
import os
import sys
from _thread import allocate_lock

import numpy as np

__all__ = ["{name}", "load"]

NAME = "{name}"
DIGEST = "{digest}"
# (name, shape, dtype, is a number)
INPUTS = {inputs}
OUTPUTS = {outputs}
UPDATES = {updates}  # result: the argument that it is written over
ERRORS = {errors}
WORK = {work}
ALIGN = {align}
# The structure of arguments, of keyword arguments and of the result: a number stands for that leaf.
ARGUMENTS = {tree}
KEYWORDS = {keywords}
RESULT = {result}


class ProgramError(RuntimeError):
    """The program stopped with a status; .status is its number."""

    def __init__(self, status):
        text = ERRORS[status - 1] if 0 < status <= len(ERRORS) else "unknown status"
        RuntimeError.__init__(self, "%s: %s (status %d)" % (NAME, text, status))
        self.status = status


def find():
    """The path of the library beside this file."""
    here = os.path.dirname(os.path.abspath(__file__))
    ends = {{"win32": (".dll",), "darwin": (".dylib", ".so")}}.get(sys.platform, (".so",))
    for end in ends:
        for start in ("lib", ""):
            path = os.path.join(here, start + NAME + end)
            if os.path.exists(path):
                return path
    raise OSError(
        "%s: no shared library beside %s; build it there with: cc -std=c99 -O3 -fPIC -shared %s.c -o lib%s%s"
        % (NAME, os.path.join(here, NAME + ".py"), NAME, NAME, ends[0])
    )


def load(path=None):
    """A function of the library at `path` (or beside this file), with memory of its own."""
    return Function(find() if path is None else path)


def _leaves(tree, given, path, found):
    """Put the leaves of `given`, a tree like `tree`, into the list `found`."""
    if isinstance(tree, int):
        found[tree] = given
    elif tree is None:
        if given is not None:
            raise TypeError("%s: %s must be None, got %s" % (NAME, path, type(given).__name__))
    elif isinstance(tree, dict):
        if not isinstance(given, dict) or set(given) != set(tree):
            raise TypeError(
                "%s: %s must be a dict with the keys %s, got %s"
                % (NAME, path, list(tree), list(given) if isinstance(given, dict) else type(given).__name__)
            )
        for key in tree:
            _leaves(tree[key], given[key], "%s[%r]" % (path, key), found)
    else:
        if not isinstance(given, (tuple, list)) or len(given) != len(tree):
            raise TypeError(
                "%s: %s must be a %s of %d, got %s"
                % (NAME, path, type(tree).__name__, len(tree),
                   len(given) if isinstance(given, (tuple, list)) else type(given).__name__)
            )
        for k, child in enumerate(tree):
            _leaves(child, given[k], "%s[%d]" % (path, k), found)


def _rebuilt(tree, values):
    if isinstance(tree, int):
        return values[tree]
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {{key: _rebuilt(child, values) for key, child in tree.items()}}
    return type(tree)([_rebuilt(child, values) for child in tree])


_address = ctypes.addressof
_memory = (ctypes.c_char * 0).from_buffer  # of an array that can be written; faster than .ctypes.data


def _is_flat(tree):
    return all(isinstance(child, int) for child in tree)


class Function:
    """{name}, loaded. Calls of one object run one after another; load() makes others for other threads.

    out= takes a list with an array, or None, for each result.
    """

    def __init__(self, path):
        self.path = path
        library = ctypes.CDLL(os.path.abspath(path))
        try:
            digest = library[NAME + "_id"]
        except AttributeError:
            digest = None  # built without these functions (FLATGRAD_BARE)
        if digest is not None:
            digest.restype = ctypes.c_char_p
        if digest is not None and digest() != DIGEST.encode():
            raise OSError(
                "%s: %s was built from another version of %s.c; build it again" % (NAME, path, NAME)
            )
        self._call = library[NAME]
        self._call.restype = ctypes.c_int
        self._call.argtypes = (ctypes.c_void_p,) * 3
        self._in = (ctypes.c_void_p * max(len(INPUTS), 1))()
        self._out = (ctypes.c_void_p * max(len(OUTPUTS), 1))()
        self._room = np.zeros(WORK + ALIGN, np.uint8)
        start = self._room.ctypes.data
        work = start + -start % ALIGN if WORK else None
        self._pointers = _address(self._in), _address(self._out), work
        self._dtypes = [np.dtype(d) for _, _, d, _ in INPUTS]
        self._kinds = [(k, s, np.dtype(d), UPDATES.get(k)) for k, (_, s, d, _) in enumerate(OUTPUTS)]
        self._scalars = [k for k, (_, _, _, number) in enumerate(OUTPUTS) if number]
        self._held = [None] * len(INPUTS)  # the arrays that _in points at
        self._copies = {{}}  # of arguments that are not contiguous
        self._numbers = {{}}
        for k, (_, shape, dtype, number) in enumerate(INPUTS):
            if number or not shape:
                self._numbers[k] = np.zeros((), dtype)
        self._taken = frozenset(UPDATES.values())
        self._flat = _is_flat(ARGUMENTS) and not KEYWORDS
        self._lock = allocate_lock()

    def __call__(self, *args, **keywords):
        out = keywords.pop("out", None) if "out" not in KEYWORDS else None
        if self._flat and len(args) == len(INPUTS) and not keywords:
            leaves = args
        else:
            leaves = self._arranged(args, keywords)
        with self._lock:
            held, fresh = self._held, False
            for k, x in enumerate(leaves):
                if x is not held[k]:
                    fresh = True
                    self._take(k, x)
            if fresh and UPDATES:
                self._check_apart()
            results = self._results(out)
            status = self._call(*self._pointers)
        if status:
            raise ProgramError(status)
        for k in self._scalars:
            if out is None or out[k] is None:
                results[k] = results[k].item()
        return _rebuilt(RESULT, results)

    def _arranged(self, args, keywords):
        if len(args) != len(ARGUMENTS) or set(keywords) != set(KEYWORDS):
            raise TypeError(
                "%s: %d arguments%s are required, got %d%s"
                % (NAME, len(ARGUMENTS), " and %s=" % "=, ".join(sorted(KEYWORDS)) if KEYWORDS else "",
                   len(args), " and %s=" % "=, ".join(sorted(keywords)) if keywords else "")
            )
        found = [None] * len(INPUTS)
        for k, (tree, given) in enumerate(zip(ARGUMENTS, args)):
            _leaves(tree, given, "argument %d" % k, found)
        for key, tree in KEYWORDS.items():
            _leaves(tree, keywords[key], key, found)
        return found

    def _take(self, k, x):
        """Point at argument k's memory, or at a copy's."""
        name, shape, _, number = INPUTS[k]
        dtype = self._dtypes[k]
        self._held[k] = None
        if k in self._numbers and not isinstance(x, np.ndarray):
            kept = self._numbers[k]
            usual = (bool, int, np.bool_, np.integer)
            if not isinstance(x, usual + (float, np.floating) if dtype.kind == "f" else usual):
                raise TypeError("%s: %s must be a number of %s, got %r" % (NAME, name, dtype, x))
            kept[()] = x
            self._in[k] = kept.ctypes.data
            return
        if not isinstance(x, np.ndarray):
            raise TypeError(
                "%s: %s must be a NumPy array of %s%s, got %s"
                % (NAME, name, dtype, list(shape), type(x).__name__)
            )
        if x.shape != shape:
            raise ValueError("%s: %s must have the shape %s, got %s" % (NAME, name, shape, x.shape))
        if x.dtype != dtype:
            raise TypeError(
                "%s: %s must have the dtype %s, got %s; convert it with astype" % (NAME, name, dtype, x.dtype)
            )
        whole = x.flags.c_contiguous and x.flags.aligned
        if k in self._taken:
            if not (whole and x.flags.writeable):
                raise ValueError(
                    "%s: %s is updated in place: a contiguous array that can be written is required; "
                    "give a copy" % (NAME, name)
                )
        elif not whole:
            x = self._copies[k] = np.array(x, order="C")
            self._in[k] = x.ctypes.data
            return
        self._in[k] = _address(_memory(x)) if x.flags.writeable else x.ctypes.data
        self._held[k] = x

    def _check_apart(self):
        """An array that is written over must be nobody else's."""
        for k in self._taken:
            for j, other in enumerate(self._held):
                if j != k and other is not None and np.may_share_memory(self._held[k], other):
                    self._held = [None] * len(INPUTS)
                    raise ValueError(
                        "%s: %s is updated in place and overlaps %s; give each memory of its own"
                        % (NAME, INPUTS[k][0], INPUTS[j][0])
                    )

    def _results(self, out):
        """An array for each result, fresh or from `out`; the program's pointers are set."""
        if out is not None and len(out) != len(OUTPUTS):
            raise ValueError(
                "%s: out must be a list of %d arrays or None, got %d" % (NAME, len(OUTPUTS), len(out))
            )
        results = []
        for k, shape, dtype, at in self._kinds:
            target = None if out is None else out[k]
            if at is not None:
                if target is not None:
                    raise ValueError(
                        "%s: out[%d] must be None: this result is written over %s" % (NAME, k, INPUTS[at][0])
                    )
                self._out[k] = None
                results.append(self._held[at])
                continue
            if target is None:
                target = np.empty(shape, dtype)
            elif (
                not isinstance(target, np.ndarray) or target.shape != shape or target.dtype != dtype
                or not target.flags.carray
            ):
                raise ValueError(
                    "%s: out[%d] must be a contiguous array of %s%s that can be written"
                    % (NAME, k, dtype, list(shape))
                )
            elif any(a is not None and np.may_share_memory(a, target) for a in self._held):
                raise ValueError("%s: out[%d] overlaps an argument; give it memory of its own" % (NAME, k))
            self._out[k] = _address(_memory(target))
            results.append(target)
        return results

    def __repr__(self):
        return "<%s from %s>" % (NAME, self.path)


_loaded = []


def {name}(*args, **keywords):
    """Call the function; the library is loaded at the first call."""
    if not _loaded:
        _loaded.append(load())
    return _loaded[0](*args, **keywords)
'''


def loader(layout: Layout, form: Form) -> str:
    """The text of ``NAME.py``."""
    count = iter(range(len(layout.arguments)))
    args, keywords = form.arguments.children
    trees = [_template(c, count) for c in args.children]
    named = {
        str(key): _template(c, count)
        for key, c in zip(keywords.context or (), keywords.children, strict=True)
    }
    if any(t is _OPAQUE for t in [*trees, *named.values()]):
        trees, named = tuple(range(len(layout.arguments))), {}
    result = _template(form.result, iter(range(len(layout.results))))
    if result is _OPAQUE:
        result = tuple(range(len(layout.results)))
    return TEMPLATE.format(
        name=layout.name,
        call=_call(trees, named),
        digest=layout.digest,
        arguments=_listed(layout.arguments),
        results=_listed(layout.results),
        inputs=_rows(layout.arguments),
        outputs=_rows(layout.results),
        updates=ascii(
            {k: r.updates for k, r in enumerate(layout.results) if r.updates is not None}
        ),
        errors=ascii([text for _, text in layout.errors]),
        work=layout.work,
        align=max(layout.align, 1),
        tree=ascii(tuple(trees)),
        keywords=ascii(named),
        result=ascii(result),
    )


class _Opaque:
    """Stands for a container that plain Python has no literal for (a module, a dataclass)."""


_OPAQUE = _Opaque()
_KEYS = (str, int, bool, type(None))


def _template(spec: Spec, leaf):
    """The structure as nested tuples, lists and dicts of leaf numbers."""
    if spec.kind is None:
        return next(leaf)
    children = [_template(c, leaf) for c in spec.children]
    if any(c is _OPAQUE for c in children):
        return _OPAQUE
    if spec.kind is type(None):
        return None
    if spec.kind in (tuple, list):
        return spec.kind(children)
    if spec.kind is dict and all(type(k) in _KEYS for k in spec.context):
        return dict(zip(spec.context, children, strict=True))
    return _OPAQUE


def _call(trees, named: dict) -> str:
    """How a call looks, in the module's docstring."""
    args = [_shown(t) for t in trees] + [f"{k}={_shown(t)}" for k, t in named.items()]
    return _text(", ".join(args))


def _shown(tree) -> str:
    if isinstance(tree, int):
        return f"x{tree}"
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{k!a}: {_shown(t)}" for k, t in tree.items()) + "}"
    if tree is None:
        return "None"
    inside = ", ".join(map(_shown, tree))
    if isinstance(tree, list):
        return f"[{inside}]"
    return f"({inside},)" if len(tree) == 1 else f"({inside})"


def _text(text: str) -> str:
    """Text inside the module's docstring."""
    return "".join(
        c if " " <= c <= "~" and c not in '\\"' else "'" if c == '"' else "?" for c in text
    )


def _listed(slots: list[Slot]) -> str:
    rows = []
    for k, s in enumerate(slots):
        note = f", written over argument {s.updates}" if s.updates is not None else ""
        rows.append(f"    {k}: {_text(s.name)}: {s.dtype.name}{list(s.shape)}{note}")
    return "\n".join(rows) or "    none"


def _rows(slots: list[Slot]) -> str:
    rows = [(s.name, tuple(s.shape), s.dtype.np.name, s.number) for s in slots]
    return "[" + "".join(f"\n    {row!a}," for row in rows) + "\n]"
