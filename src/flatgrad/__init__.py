"""flatgrad: PyTorch's autograd on NumPy arrays, compiled to machine code for small computers."""

from . import ops, program  # noqa: F401
from . import autograd  # noqa: F401
from .array import *  # noqa: F403
from .graph.dtypes import *  # noqa: F403
from .graph.op import PUBLIC
from .tensor import Tensor

for _p in PUBLIC.values():
    globals()[_p.name] = _p.function

__version__ = "0.1.0"
