"""Graph to flat loops: what is stored, loop nests, fusion, passes, the memory plan."""

from .lowering import lower

__all__ = ["lower"]
