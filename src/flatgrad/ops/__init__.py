"""Every operation, declared once. Importing this package fills the registry and Tensor's methods."""

from ..graph.op import PUBLIC, REGISTRY
from . import creation, elementwise, movement, reduction

__all__ = ["PUBLIC", "REGISTRY", "creation", "elementwise", "movement", "reduction"]
