"""What every test gets: seeds, clean global settings, and a disk cache of its own."""

from __future__ import annotations

import os
import tempfile

# Before flatgrad is imported by any test: the user's own cache is neither read nor filled.
_cache_dir = tempfile.TemporaryDirectory(prefix="flatgrad-tests-")
os.environ.setdefault("FLATGRAD_CACHE_DIR", _cache_dir.name)
# PyTorch and NumPy's BLAS on one thread: reproducible sums, and no fight over two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.graph.modes import modes

SEED = 20240917


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with the suite's fixed seed; the same numbers whichever tests run."""
    return np.random.default_rng(SEED)


@pytest.fixture(autouse=True)
def clean_settings():
    """Global settings as a fresh process has them, before the test and after it."""
    _reset()
    yield
    _reset()


def _reset() -> None:
    fg.set_default_dtype(fg.float32)
    np.random.seed(SEED)
    modes.grad = True
    modes.inference = False
    modes.anomaly = False
    for name, argument in (("set_compile", "auto"), ("manual_seed", SEED)):
        setting = getattr(fg, name, None)
        if setting is not None:
            setting(argument)
