"""Every operation, declared once. Importing this package fills the registry and Tensor's methods."""

from ..graph.op import PUBLIC, REGISTRY
from . import (
    contraction,
    counting,
    creation,
    einsum,
    elementwise,
    logic,
    movement,
    operators,
    reduction,
    scan,
    selection,
    sorting,
    statistics,
    transcendental,
)

__all__ = [
    "PUBLIC",
    "REGISTRY",
    "contraction",
    "counting",
    "creation",
    "einsum",
    "elementwise",
    "logic",
    "movement",
    "operators",
    "reduction",
    "scan",
    "selection",
    "sorting",
    "statistics",
    "transcendental",
]
