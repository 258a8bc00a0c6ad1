"""The array face of a tensor: constructors, NumPy, printing, pickling, random numbers."""

from . import construct, printing, random
from .construct import *  # noqa: F403
from .convert import Device, device, is_tensor
from .printing import *  # noqa: F403
from .random import *  # noqa: F403

__all__ = ["Device", "device", "is_tensor"]
__all__ += construct.__all__
__all__ += printing.__all__
__all__ += random.__all__
