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
    read : names that results depend on; others need not be.
    loaded : buffers that they depend on.
    """

    def __init__(self, body: list):
        self.kinds: dict = {}  # changing name -> dtype
        self._paths: dict = {}  # name or local buffer -> path common to all uses
        self._needs: dict = {None: set()}  # name, or None for what is stored -> names and buffers
        self._visit(body, ())
        needed = self._closure()
        self.read = {n for n in needed if type(n) is str}
        self.loaded = needed - self.read
        self.before: dict[tuple, list] = {}
        for what, path in self._paths.items():
            self.before.setdefault(path[-1], []).append(what)

    def _visit(self, body: list, path: tuple, start: int = 0, key: int | None = None) -> None:
        key = id(body) if key is None else key
        for k, s in enumerate(body, start):
            here = (*path, (key, k))
            named = s.name if isinstance(s, (ir.Let, ir.Set, ir.Accum)) else None
            needs = self._needs.setdefault(named, set())
            for e in parts_of(s):
                if e.kind == "var" and type(e.arg) is str:
                    needs.add(e.arg)
                    if e.arg in self._paths:
                        self._use(e.arg, here)
                elif e.kind == "load":
                    needs.add(e.arg)
                    self._load(e.arg, here)
            self._statement(s, here)
            self._inside(s, here)

    def _inside(self, s, here: tuple) -> None:
        if isinstance(s, ir.While):  # one block in C
            self._visit(s.before, here)
            self._visit(s.body, here, len(s.before) + 1, id(s.before))
        else:
            for body in ir.bodies(s):
                self._visit(body, here)

    def _closure(self) -> set:
        """All names and buffers that what is stored depends on."""
        found, stack = set(self._needs[None]), list(self._needs[None])
        while stack:
            new = self._needs.get(stack.pop(), set()) - found
            found |= new
            stack += new
        return found

    def _statement(self, s, here: tuple) -> None:
        if isinstance(s, (ir.Set, ir.Accum)):
            self.kinds[s.name] = s.value.dtype
            self._use(s.name, here)
        elif isinstance(s, (ir.Store, ir.AccumStore)) and s.buffer.role == "local":
            self._use(s.buffer, here)
        elif isinstance(s, ir.Tile):
            for buffer in (x[0] for w in s.walks for x in (w.a, w.b)):
                self._needs[None].add(buffer)
                self._load(buffer, here)
            if s.c[0].role == "local":
                self._use(s.c[0], here)
        elif isinstance(s, ir.Gemm):
            self._needs[None] |= {s.a[0], s.b[0]}

    def _load(self, buffer: ir.Buffer, here: tuple) -> None:
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
