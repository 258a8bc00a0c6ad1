"""Every operation, declared once. Importing this package fills the registry and Tensor's methods."""

from ..graph.op import PUBLIC, REGISTRY
from . import contraction, creation, elementwise, movement, reduction, scan

__all__ = [
    "PUBLIC",
    "REGISTRY",
    "contraction",
    "creation",
    "elementwise",
    "movement",
    "reduction",
    "scan",
]
