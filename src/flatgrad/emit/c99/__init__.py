"""The C99 table: a loop program as one C function that stands alone."""

from .function import Printed, source

__all__ = ["Printed", "source"]
