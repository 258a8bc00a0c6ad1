"""Evaluation: a pending graph is run by the interpreter or, once it is worth it, as a compiled program."""

from ..tensor import late
from .evaluate import evaluate, flush
from .interpret import run

late.evaluate = evaluate
late.flush = flush
late.run = run

__all__ = ["evaluate", "flush"]
