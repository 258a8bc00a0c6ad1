"""``flatgrad.implicit``: solutions of equations, with derivatives by the implicit function theorem."""

from .func.implicit import Iterative, fixed_point, linear_solve, minimize, root

__all__ = ["Iterative", "fixed_point", "linear_solve", "minimize", "root"]
