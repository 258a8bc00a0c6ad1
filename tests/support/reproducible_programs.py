"""Programs whose results must have the same bits everywhere, and a digest of them.

``python -m tests.support.reproducible_programs`` computes all digests here and prints them; ``--write`` keeps
them in tests/program/reproducible.json, which every machine is compared with. ``--only`` chooses some.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np

import flatgrad as fg
from tests.support.workloads import WORKLOADS, workload

__all__ = ["GOLDEN", "PROGRAMS", "computed", "digest", "golden", "program"]

GOLDEN = Path(__file__).resolve().parents[1] / "program" / "reproducible.json"

UNARY = (
    *("exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "sigmoid", "lgamma", "digamma"),
    *(
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "acosh",
        "atanh",
    ),
    *("erf", "erfc", "erfinv", "sqrt", "rsqrt", "floor", "ceil", "round", "trunc", "abs", "sign"),
)
BINARY = ("pow", "atan2", "hypot", "fmod", "remainder", "maximum", "minimum")


def edges(dtype) -> np.ndarray:
    """Special values, numbers around thresholds of the formulas, and random ones of all sizes."""
    info = np.finfo(dtype)
    special = [0.0, 1.0, 0.5, 2.0, 1 / 3, 1 - info.eps, 1 + info.eps, np.inf]
    special += [info.tiny, info.smallest_subnormal, info.max, info.eps, 88.7, 103.9, 709.7, 745.1]
    special += [np.pi, np.pi / 2, 1e5, 1e22, 2.0**24, 2.0**53]
    rng = np.random.default_rng(7)
    # NumPy's own functions have other last bits on other machines; these are exact.
    special += [*rng.uniform(0, 4, 60), *np.ldexp(rng.uniform(1, 2, 60), rng.integers(-20, 20, 60))]
    with np.errstate(over="ignore"):
        numbers = np.array(special).astype(dtype)
    return np.concatenate([numbers, -numbers, [np.nan]]).astype(dtype)


def _unary(names: tuple, dtype: str):
    def make():
        return lambda x: [getattr(fg, n)(x) for n in names], (edges(dtype),)

    return make


def _binary(dtype: str):
    def make():
        x = edges(dtype)
        y = np.random.default_rng(8).permutation(x)
        return lambda x, y: [getattr(fg, n)(x, y) for n in BINARY], (x, y)

    return make


def _reductions(dtype: str):
    """Sums, products and extrema of lengths around the numbers of lanes, along either dimension."""

    def make():
        rng = np.random.default_rng(9)
        arrays = [rng.uniform(-2, 2, (5, n)).astype(dtype) for n in (7, 31, 163)]
        signs = np.where(rng.random(100) < 0.5, 0.0, -0.0).astype(dtype)
        holes = np.where(rng.random(100) < 0.05, np.nan, rng.uniform(-2, 2, 100)).astype(dtype)

        def f(*arrays):
            *matrices, signs, holes = arrays
            found = [signs.max(), signs.min(), signs.sum(), holes.max(), holes.min()]
            for x in matrices:
                found += [x.sum(), x.sum(0), x.sum(1), (1 + x / 9).prod(1), x.max(1), x.min(0)]
                found += [fg.softmax(x, 1), fg.logsumexp(x, 1), x.var(1), (x[0] * x[1]).sum()]
            return found

        return f, (*arrays, signs, holes)

    return make


def _products(dtype: str):
    """Contractions of shapes that fill tiles and that do not, with operands that lie either way."""

    def make():
        rng = np.random.default_rng(10)
        shapes = [(3, 5), (5, 9), (33, 40), (40, 29), (64,), (64,), (40,)]
        arrays = [rng.uniform(-2, 2, s).astype(dtype) for s in shapes]

        def f(a, b, c, d, u, v, w):
            return a @ b, b.T @ a.T, c @ d, d.T @ c.T, u @ v, c @ w, c.T @ c, fg.outer(u, v)

        return f, tuple(arrays)

    return make


def _workload(name: str):
    def make():
        found = workload(name)
        return found.function, steady(found.example)

    return make


def steady(tree):
    """A tree of arrays without their last bits, which may be NumPy's and this machine's."""
    if isinstance(tree, dict):
        return {k: steady(x) for k, x in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)(steady(x) for x in tree)
    return np.rint(tree * 2**20) / 2**20 if tree.dtype.kind == "f" else tree


_HALF = len(UNARY) // 2
PROGRAMS = {
    **{
        f"{kind}_{dtype}": make(dtype)
        for dtype in ("float32", "float64")
        for kind, make in {
            "reductions": _reductions,
            "products": _products,
            "unary_a": lambda d: _unary(UNARY[:_HALF], d),
            "unary_b": lambda d: _unary(UNARY[_HALF:], d),
            "binary": _binary,
        }.items()
    },
    **{name: _workload(name) for name in WORKLOADS},
}


def program(name: str) -> tuple:
    """(a function of trees of tensors, its arguments)."""
    return PROGRAMS[name]()


def digest(results) -> str:
    """A hash of all bits of a tree of arrays and numbers, in order; every NaN is the same one.

    Numbers count as wide ones of the same value, so it does not matter how a result without dimensions comes.
    """
    found = hashlib.sha256()
    for x in _leaves(results):
        a = np.asarray(x)
        a = a.astype("<f8" if a.dtype.kind == "f" else "<i8")
        if a.dtype.kind == "f":
            a = np.where(np.isnan(a), np.nan, a)
        found.update(f"{a.size};".encode())
        found.update(a.tobytes())
    return found.hexdigest()[:16]


def _leaves(tree):
    """Leaves as flatgrad orders them: dictionaries by key."""
    if isinstance(tree, dict):
        for key in sorted(tree):
            yield from _leaves(tree[key])
    elif isinstance(tree, (tuple, list)):
        for x in tree:
            yield from _leaves(x)
    else:
        yield tree


def computed(name: str) -> str:
    """The digest of what ``fg.compile(..., reproducible=True)`` gives here."""
    function, example = program(name)
    made = fg.compile(function, *example, reproducible=True)
    with np.errstate(all="ignore"):
        return digest(made(*example))


def golden() -> dict[str, str]:
    """The digests that every machine must give."""
    return json.loads(GOLDEN.read_text())


def main(args=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="keep the digests")
    parser.add_argument("--only", nargs="+", default=list(PROGRAMS), choices=list(PROGRAMS))
    options = parser.parse_args(args)
    found = {name: computed(name) for name in options.only}
    text = json.dumps(found, indent=2) + "\n"
    if options.write:
        GOLDEN.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
