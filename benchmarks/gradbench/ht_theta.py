"""ht_theta: hand tracking where points stay in their places on triangles: the pose's 26 columns alone."""

from __future__ import annotations

import ht
import numpy as np
from ht import FG, QUICK, SIZES, formulations, inputs

import flatgrad as fg

__all__ = ["FORMULATIONS", "LIBRARY", "QUICK", "SIZES", "inputs", "reference"]

LIBRARY = "ht"  # the C that has it
FORMULATIONS = formulations(fg.func.jacfwd, FG, False)


def reference(*arrays) -> np.ndarray:
    return ht.reference(*arrays)[:, 2:]


def c_derivative(arrays, library):
    return ht.c_derivative(arrays, library, False)


def torch_derivative(arrays):
    return ht.torch_derivative(arrays, False)


def jax_derivative(arrays):
    return ht.jax_derivative(arrays, False)
