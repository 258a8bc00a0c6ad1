"""The functions behind the layers and losses, under PyTorch's names: one file a family."""

from ...ops.joining import pad
from . import (
    activation,
    adaptive,
    attention,
    classification,
    convolution,
    dense,
    dropping,
    lookup,
    losses,
    normalization,
    pooling,
    resizing,
)
from .activation import *  # noqa: F403
from .adaptive import *  # noqa: F403
from .attention import *  # noqa: F403
from .classification import *  # noqa: F403
from .convolution import *  # noqa: F403
from .dense import *  # noqa: F403
from .dropping import *  # noqa: F403
from .lookup import *  # noqa: F403
from .losses import *  # noqa: F403
from .normalization import *  # noqa: F403
from .pooling import *  # noqa: F403
from .resizing import *  # noqa: F403

__all__ = ["pad"]
for _family in (
    activation,
    adaptive,
    attention,
    classification,
    convolution,
    dense,
    dropping,
    lookup,
    losses,
    normalization,
    pooling,
    resizing,
):
    __all__ += _family.__all__
