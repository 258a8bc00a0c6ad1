"""Constructors under PyTorch's names."""

from __future__ import annotations

import numpy as np

from ..graph import dtypes
from ..graph.node import SHARED, leaf
from ..tensor import Tensor, late, method, node_of, wrap


def tensor(data, *, dtype=None, requires_grad=False):
    value = np.array(data)
    if dtype is not None:
        value = value.astype(dtypes.as_dtype(dtype).np)
    elif value.dtype == np.float64 and not isinstance(data, (np.ndarray, np.generic)):
        value = value.astype(dtypes.get_default_dtype().np)
    return wrap(leaf(value, dtypes.as_dtype(value.dtype), requires_grad))


def from_numpy(array):
    node = leaf(array, dtypes.as_dtype(array.dtype))
    node.mark |= SHARED
    return wrap(node)


def as_tensor(data, dtype=None):
    return data if isinstance(data, Tensor) else tensor(data, dtype=dtype)


late.convert = as_tensor


@method()
def numpy(self):
    node = node_of(self)
    late.evaluate([node])
    return node.value


@method()
def item(self):
    return self.numpy().item()


@method("__repr__")
def _repr(self):
    return f"tensor({self.numpy()})"
