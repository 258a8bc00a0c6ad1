"""The shape of the project: import direction, file sizes, lazy imports, and a whole registry."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flatgrad as fg
from flatgrad.graph.op import PUBLIC, REGISTRY

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "flatgrad"

# A package imports only from those before it.
LAYERS = [
    {"errors", "graph"},
    {"tensor"},
    {"writing"},
    {"ops"},
    {"transform"},
    {"lower"},
    {"emit"},
    {"program"},
    {"array", "autograd", "linalg", "numpy_face"},
    {"func"},
    {"implicit", "nn", "optim"},
    {"io", "export"},
    {"viz"},
    {"cli"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

SOURCES = sorted(PACKAGE.rglob("*.py"))
TEXTS = [
    file
    for folder in ("src", "tests", "benchmarks", "examples", "docs")
    for suffix in ("*.py", "*.md")
    for file in sorted((ROOT / folder).rglob(suffix))
] + [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "pyproject.toml", ROOT / ".ci" / "run"]


def layer_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_layers(file: Path):
    """(line, layer) of every import of flatgrad's own in `file`, inside functions too."""
    package = ["flatgrad", *file.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            path = base + (node.module.split(".") if node.module else [])
            for name in node.names:
                yield node.lineno, [*path, name.name]
        elif isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name.split(".")


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_go_one_way(file):
    own = layer_of(file)
    if own in ("__init__", "__main__"):
        return
    for line, path in imported_layers(file):
        if path[0] != "flatgrad" or len(path) < 2 or path[1] == own:
            continue
        assert path[1] in RANK, f"{file}:{line}: imports {'.'.join(path)}, of no known layer"
        assert RANK[path[1]] <= RANK[own], f"{file}:{line}: {own} must not import {path[1]}"


def test_every_package_has_its_place():
    here = {
        f.name.removesuffix(".py")
        for f in PACKAGE.iterdir()
        if f.suffix == ".py" or (f.is_dir() and any(f.rglob("*.py")))
    }
    assert here - {"__init__", "__main__"} <= RANK.keys()


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_are_of_readable_size(file):
    assert len(file.read_text().splitlines()) <= 700


def test_no_machine_paths_and_no_loose_ends():
    forbidden = re.compile(
        r"(?<![\w.~}])/(?:home|root|Users|work|opt|mnt)/\w|NotImplementedError|\bTODO|FIXME"
    )
    for file in TEXTS:
        if file != Path(__file__):
            found = forbidden.search(file.read_text())
            assert found is None, f"{file}: {found[0]!r}"


# -- imports of others ----------------------------------------------------------------------------


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout.strip()


def test_importing_flatgrad_imports_no_heavy_library():
    heavy = ("numba", "llvmlite", "scipy", "torch", "jax", "matplotlib", "tqdm", "sklearn")
    program = f"import flatgrad, sys; print([m for m in {heavy!r} if m in sys.modules])"
    assert run(program) == "[]"


def test_interpreting_imports_no_heavy_library():
    program = (
        "import flatgrad as fg, sys; x = fg.tensor([2.0], requires_grad=True);"
        "(x**2 + 3*x + 1).backward(); print(x.grad.item(), 'numba' in sys.modules, "
        "'scipy' in sys.modules)"
    )
    assert run(program) == "7.0 False False"


def test_typed_and_versioned():
    assert (PACKAGE / "py.typed").exists()
    assert re.fullmatch(r"\d+\.\d+\.\d+", fg.__version__)


# -- the registry ---------------------------------------------------------------------------------


@pytest.mark.parametrize("public", list(PUBLIC.values()), ids=lambda p: p.name)
def test_a_public_function_is_whole(public):
    assert callable(public.function)
    elementwise = public.op is not None and public.op.kind == "elementwise"
    assert public.samples is not None or elementwise, "samples= is missing"
    document = public.function.__doc__ or ""
    assert len(document) >= 3, "it has no docstring"
    assert isinstance(public.methods, tuple)
    for name in public.methods:
        assert hasattr(fg.Tensor, name), f"the method {name} is missing"
    target = fg
    for part in public.name.split("."):
        target = getattr(target, part)
    assert target is public.function, f"flatgrad.{public.name} is something else"


@pytest.mark.parametrize("public", list(PUBLIC.values()), ids=lambda p: p.name)
def test_the_peer_exists(public):
    torch = pytest.importorskip("torch")
    target = torch
    for part in (public.torch or "").split("."):
        target = getattr(target, part) if part else target
    assert callable(target) or target is torch


@pytest.mark.parametrize("op", list(REGISTRY.values()), ids=lambda o: o.name)
def test_an_operation_is_whole(op):
    structural = ("leaf", "const", "input", "proj")
    if op.kind in structural:
        return
    assert op.numpy is not None, "numpy= is missing"
    assert op.infer is not None
    assert op.differentiable == (op.pullback is not None) or not op.differentiable
    assert isinstance(op.attrs, tuple) and all(isinstance(a, str) for a in op.attrs)
    if op.domain:
        assert len(op.domain) == op.arity
        assert all(low < high for low, high in op.domain)


def test_pickled_operations_are_the_same_object():
    import pickle

    for op in REGISTRY.values():
        assert pickle.loads(pickle.dumps(op)) is op


def test_numpy_names_belong_to_one_function():
    owners: dict = {}
    for public in PUBLIC.values():
        for function in public.numpy:
            assert owners.setdefault(function, public.name) == public.name, function


def test_the_named_modules_of_the_layers_resolve():
    for name in RANK:
        if (PACKAGE / name).is_dir() and any((PACKAGE / name).glob("*.py")):
            assert importlib.util.find_spec(f"flatgrad.{name}") is not None
