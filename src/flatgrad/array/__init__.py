"""The array face of a tensor: constructors, conversion to and from NumPy, printing, pickling, random numbers."""

from . import construct, convert, printing, random
from .construct import *  # noqa: F403
from .convert import Device, device, is_tensor
from .printing import *  # noqa: F403
from .random import *  # noqa: F403

__all__ = [
    *construct.__all__,
    *printing.__all__,
    *random.__all__,
    "Device",
    "device",
    "is_tensor",
]
