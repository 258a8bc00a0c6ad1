"""Evaluation: a pending graph is run by the interpreter or, once it is worth it, as a compiled program."""

from ..tensor import late
from .budget import memory_budget
from .evaluate import evaluate, flush
from .explain import explain
from .interpret import run
from .sweep import sections
from .threads import get_num_threads, set_num_threads
from .tiers import get_compile, set_compile

late.evaluate = evaluate
late.flush = flush
late.run = run
late.sections = sections

__all__ = [
    "evaluate",
    "explain",
    "flush",
    "get_compile",
    "get_num_threads",
    "memory_budget",
    "run",
    "set_compile",
    "set_num_threads",
]
