"""Where C's variables live: the innermost list of statements that has all their uses."""

from __future__ import annotations

from ...lower import ir
from ...lower.nest import expressions

__all__ = ["Scopes", "parts_of"]


def parts_of(s) -> list[ir.Expr]:
    """All expressions that a statement itself evaluates, each once."""
    stack, seen = list(expressions(s)), set()
    while stack:
        e = stack.pop()
        if e not in seen:
            seen.add(e)
            stack.extend(e.args)
    return list(seen)


class Scopes:
    """For a body: which changing names and local buffers are declared in which list, in front of what.

    before : {(id of the list, position): names and buffers in order of first use}
    read : names that somebody reads; others need not be.
    loaded : buffers that somebody reads.
    """

    def __init__(self, body: list):
        self.read: set[str] = set()
        self.loaded: set[ir.Buffer] = set()
        self.kinds: dict = {}  # changing name -> dtype
        self._paths: dict = {}  # name or local buffer -> path common to all uses
        self._visit(body, ())
        self.before: dict[tuple, list] = {}
        for what, path in self._paths.items():
            self.before.setdefault(path[-1], []).append(what)

    def _visit(self, body: list, path: tuple, start: int = 0, key: int | None = None) -> None:
        key = id(body) if key is None else key
        for k, s in enumerate(body, start):
            here = (*path, (key, k))
            for e in parts_of(s):
                if e.kind == "var" and type(e.arg) is str:
                    self.read.add(e.arg)
                    if e.arg in self._paths:
                        self._use(e.arg, here)
                elif e.kind == "load":
                    self._load(e.arg, here)
            self._statement(s, here)
            self._inside(s, here)

    def _inside(self, s, here: tuple) -> None:
        if isinstance(
            s, ir.While
        ):  # one block in C: what the condition reads is declared before it
            self._visit(s.before, here)
            self._visit(s.body, here, len(s.before) + 1, id(s.before))
        else:
            for body in ir.bodies(s):
                self._visit(body, here)

    def _statement(self, s, here: tuple) -> None:
        if isinstance(s, (ir.Set, ir.Accum)):
            self.kinds[s.name] = s.value.dtype
            self._use(s.name, here)
        elif isinstance(s, (ir.Store, ir.AccumStore)) and s.buffer.role == "local":
            self._use(s.buffer, here)
        elif isinstance(s, ir.Tile):
            for w in s.walks:
                self._load(w.a[0], here)
                self._load(w.b[0], here)
            if s.c[0].role == "local":
                self._use(s.c[0], here)
        elif isinstance(s, ir.Gemm):
            self.loaded |= {s.a[0], s.b[0]}

    def _load(self, buffer: ir.Buffer, here: tuple) -> None:
        self.loaded.add(buffer)
        if buffer.role == "local":
            self._use(buffer, here)

    def _use(self, what, here: tuple) -> None:
        known = self._paths.get(what)
        self._paths[what] = here if known is None else _meet(known, here)


def _meet(a: tuple, b: tuple) -> tuple:
    """The way to the last list that both ways share, and to the first of the two places in it."""
    out = []
    for x, y in zip(a, b, strict=False):
        if x[0] != y[0]:
            break
        out.append(min(x, y))
        if x[1] != y[1]:
            break
    return tuple(out)
