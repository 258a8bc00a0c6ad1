"""The array face of a tensor: constructors, conversion to and from NumPy, printing, pickling."""

from .construct import as_tensor, from_numpy, tensor

__all__ = ["as_tensor", "from_numpy", "tensor"]
