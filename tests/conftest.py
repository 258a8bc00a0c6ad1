"""What every test gets: seeds, clean global settings, and a disk cache of its own."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import pytest

import flatgrad as fg
import flatgrad.nn  # its functions are in the registry, too, that many tests go through
from flatgrad.graph.modes import modes
from support.deadline import time_is_up

SEED = 20240917

# The user's own cache is neither read nor filled.
_cache_directory = tempfile.TemporaryDirectory(prefix="flatgrad-tests-")
os.environ["FLATGRAD_CACHE_DIR"] = _cache_directory.name


def pytest_collection_modifyitems(items) -> None:
    # All 2**32 floats of all functions take hours: last, should the time be limited.
    items.sort(key=lambda item: "test_every_float32" in item.nodeid)


def pytest_runtest_setup(item) -> None:
    limited = item.get_closest_marker("slow") or item.get_closest_marker("boards")
    if limited and time_is_up():
        pytest.skip("time is up (FLATGRAD_SLOW_SECONDS)")


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
    modes.grad = True
    modes.inference = False
    modes.anomaly = False
    for name, argument in (("set_compile", "auto"), ("manual_seed", SEED)):
        setting = getattr(fg, name, None)
        if setting is not None:
            setting(argument)
