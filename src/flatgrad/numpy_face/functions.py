"""``Tensor.__array_function__``: NumPy's functions that are no ufuncs."""

from __future__ import annotations

import numpy as np

from ..tensor import Tensor
from . import numerics, structure  # noqa: F401  (their adapters enter the table)
from .table import ADAPTERS
from .ufuncs import declared, operand, unsupported


def array_function(self, func, types, args, kwargs):
    """``Tensor.__array_function__``: record what a NumPy function does.

    Raises
    ------
    UnsupportedError
        For a function or an argument that flatgrad does not record.
    """
    if not all(issubclass(t, (Tensor, np.ndarray)) for t in types):
        return NotImplemented
    name = f"{func.__module__}.{func.__name__}"
    adapter = ADAPTERS.get(func)
    if adapter is not None:
        return adapter(*args, **kwargs)
    function = declared(func)
    if function is None:
        raise unsupported(name)
    return function(*map(operand, args), **kwargs)
