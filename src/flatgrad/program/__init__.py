"""Evaluation: a pending graph is run by the interpreter or, once it is worth it, as a compiled program."""

from ..tensor import late
from .evaluate import evaluate, flush

late.evaluate = evaluate
late.flush = flush

__all__ = ["evaluate", "flush"]
