"""Merging loop nests: nests in program order become one tree of loops.

A nest joins a loop of its own extent if everything it reads from that loop is ready in the same
iteration (the reads match the writes in the loop's axes, and the writer is complete there) and if the
two share data, so that joining saves memory traffic. What is left is appended. Reading matches writing
when the index expressions have equal coefficients in the joined axes and stay within what one
iteration writes: a test on linear forms, no polyhedra.
"""

from __future__ import annotations

from . import ir
from .index import build, linear, value_range
from .ir import Axis, Buffer, Expr
from .nest import Nest, reads_of, substitute_statement

# Statements that one innermost body may collect: beyond, registers spill.
CROWDED = 48


class Item:
    """A piece of the tree: a loop with items, or (axis None) statements of one nest."""

    __slots__ = ("axis", "items", "reads", "statements", "writes")

    # reads: what is read in it -> where, as (reader, index) pairs; writes: what is written -> the writer.

    def __init__(self, axis: Axis | None = None, statements: list | None = None):
        self.axis = axis
        self.items: list[Item] = []
        self.statements = statements or []
        self.reads: dict[Buffer, list] = {}
        self.writes: dict[Buffer, Placed] = {}

    @property
    def weight(self) -> int:
        return len(self.statements) + sum(item.weight for item in self.items)


class Placed:
    """A nest in the tree: its axes renamed to the loops' it joined."""

    __slots__ = ("mapping", "nest", "renamed")

    def __init__(self, nest: Nest):
        self.nest = nest
        self.renamed: dict[Axis, Axis] = {}
        self.mapping: dict[Expr, Expr] = {}

    def axis(self, k: int) -> Axis:
        own = self.nest.axes[k]
        return self.renamed.get(own, own)

    def join(self, k: int, axis: Axis) -> None:
        own = self.nest.axes[k]
        if own is not axis:
            self.renamed[own] = axis
            self.mapping[ir.var(own)] = ir.var(axis)

    def coefficients(self, e: Expr) -> tuple[dict, Expr]:
        """Coefficients of `e` in the joined axes, and the rest of the form."""
        terms, offset = linear(e)
        joined, rest = {}, {}
        for atom, c in terms.items():
            axis = atom.arg if atom.kind == "var" else None
            if type(axis) is Axis:
                axis = self.renamed.get(axis, axis)
                joined[axis] = joined.get(axis, 0) + c
            else:
                rest[atom] = c
        return joined, (rest, offset)


def fuse(nests: list[Nest]) -> list[Item]:
    """The tree of loops of all `nests`, which are in dependency order."""
    top: list[Item] = []
    for nest in nests:
        _place(top, Placed(nest), 0)
    return top


def _place(items: list[Item], placed: Placed, depth: int) -> set[Buffer]:
    """Put the rest of a nest (its axes from `depth`) among `items`; returns nothing but its effects."""
    nest = placed.nest
    if depth == nest.complete:
        before = Item(statements=nest.before) if nest.before else None
        after = Item(statements=nest.after) if nest.after else None
        at = _place_loops(items, placed, depth)
        if before is not None:
            _note(before, placed, nest.before)
            items.insert(at, before)
            at += 1
        if after is not None:
            _note(after, placed, nest.after)
            items.insert(at + 1, after)
    else:
        _place_loops(items, placed, depth)


def _place_loops(items: list[Item], placed: Placed, depth: int) -> int:
    """Position among `items` where the nest's loops (or leaf) from `depth` now stand."""
    nest = placed.nest
    if depth == len(nest.axes):
        leaf = Item(statements=nest.leaf)
        _note(leaf, placed, nest.leaf)
        items.append(leaf)
        return len(items) - 1
    at = _joinable(items, placed, depth)
    if at is None:
        loop = Item(axis=nest.axes[depth])
        items.append(loop)
        at = len(items) - 1
    else:
        loop = items[at]
        placed.join(depth, loop.axis)
    _place(loop.items, placed, depth + 1)
    _note(loop, placed, (*nest.before, *nest.leaf, *nest.after))
    return at


def _note(item: Item, placed: Placed, statements) -> None:
    """Record in `item` what the nest's statements read and write there."""
    if placed.nest.leaf and statements:
        item.writes[placed.nest.buffer] = placed
        for buffer in placed.nest.also:
            item.writes[buffer] = placed
    for s in statements:
        for buffer, at in reads_of(s):
            item.reads.setdefault(buffer, []).append((placed, at))


def _joinable(items: list[Item], placed: Placed, depth: int) -> int | None:
    """The position of a loop among `items` that the nest's axis `depth` may join."""
    nest = placed.nest
    extent = nest.axes[depth].extent
    needed = {buffer for buffer, _ in nest.reads}
    last = -1
    for k, item in enumerate(items):
        overwrites = nest.updates and nest.buffer in item.reads
        if not needed.isdisjoint(item.writes) or _also_written(item, nest) or overwrites:
            last = k
    for k in range(max(last, 0), len(items)):
        item = items[k]
        if item.axis is None or item.axis.extent != extent or item.weight > CROWDED:
            continue
        if not _shares(item, nest, needed) or _also_written(item, nest):
            continue
        if k == last and not _aligned(item, placed, depth):
            continue
        if nest.updates and not _behind_readers(item, placed, depth):
            continue
        return k
    return None


def _also_written(item: Item, nest: Nest) -> bool:
    """Whether `item` writes the nest's buffer, but for other parts of it."""
    writer = item.writes.get(nest.buffer)
    return writer is not None and not (nest.part and writer.nest.part)


def _behind_readers(item: Item, placed: Placed, depth: int) -> bool:
    """Whether what is read of the buffer that the nest overwrites is what the same iteration overwrites."""
    nest = placed.nest
    if depth >= nest.complete or nest.store_at is None:
        return nest.buffer not in item.reads
    own = nest.axes[depth]
    joined = [placed.axis(k) for k in range(depth)] + [item.axis]
    written, written_rest = placed.coefficients(nest.store_at)
    if own is not item.axis and own in written:
        written[item.axis] = written.get(item.axis, 0) + written.pop(own)
    for reader, at in item.reads.get(nest.buffer, ()):
        read, read_rest = reader.coefficients(at)
        left = dict(written)
        for axis in joined:
            stride = left.pop(axis, 0)
            if read.pop(axis, 0) != stride or (stride == 0 and axis.extent > 1):
                return False
        if not _within(read, read_rest, left, written_rest):
            return False
    return True


def _shares(item: Item, nest: Nest, needed: set) -> bool:
    """Whether joining saves traffic: they share data as long as the loop, not just a few numbers."""
    if not needed.isdisjoint(item.writes):
        return True
    return any(buffer.size >= item.axis.extent for buffer in needed & item.reads.keys())


def _aligned(item: Item, placed: Placed, depth: int) -> bool:
    """Whether all reads from `item`'s loop are of what the same iteration has written."""
    joined = [placed.axis(k) for k in range(depth)] + [item.axis]
    own = placed.nest.axes[depth]
    for buffer, at in placed.nest.reads:
        writer = item.writes.get(buffer)
        if writer is None:
            continue
        if writer.nest.complete <= depth or writer.nest.store_at is None:
            return False
        read, read_rest = placed.coefficients(at)
        if own is not item.axis and own in read:
            read[item.axis] = read.get(item.axis, 0) + read.pop(own)
        written, written_rest = writer.coefficients(writer.nest.store_at)
        for axis in joined:
            if read.pop(axis, 0) != written.pop(axis, 0):
                return False
        if not _within(read, read_rest, written, written_rest):
            return False
    return True


def _within(read: dict, read_rest, written: dict, written_rest) -> bool:
    """Whether the reads of one iteration stay inside what one iteration writes."""

    def span(terms, rest):
        form = {ir.var(a): c for a, c in terms.items()} | rest[0]
        return value_range(build((form, rest[1])))

    low, high = span(read, read_rest)
    first, last = span(written, written_rest)
    return first <= low and high <= last


def statements(items: list[Item]) -> list:
    """The tree as IR statements."""
    return _statements(items, {})


def _statements(items: list[Item], mapping: dict) -> list:
    out = []
    for item in items:
        if item.axis is not None:
            out.append(ir.For(item.axis, _statements(item.items, mapping)))
            continue
        placed = next(iter(item.writes.values()), None)
        renames = placed.mapping if placed is not None else {}
        memo: dict = {}
        out.extend(
            substitute_statement(s, renames, memo) if renames else s for s in item.statements
        )
    return out
