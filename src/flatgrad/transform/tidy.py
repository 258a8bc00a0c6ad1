"""Loops of a simplified graph made smaller: what nobody reads goes, what does not change moves out, and
independent loops of one shape become one, whose equal carries are one.

The last is what makes a value, its tangent and its gradient's loop share their work: each derivative rule
records a loop of its own that runs the primal once more, and says nothing of the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.node import CONST, PROJ, Graph, Node, const, placeholder
from ..graph.op import op_named
from ..ops.cost import CALL, scalar_cost
from .loops import SCAN, WHILE
from .trace import intern, rebuild

__all__ = ["tidy"]

# Kinds that are worth computing once outside a loop and keeping in memory meanwhile.
DEAR = (
    *("reduction", "contraction", "window", "library", "scan", "cat", "scatter"),
    *("loop", "while", "branch"),
)


def tidy(graph: Graph) -> Graph:
    """`graph` with smaller and fewer loops; the same graph if there is nothing to do."""
    if not any(n.op in (SCAN, WHILE) for n in graph.order):
        return graph
    from .residuals import keep_residuals
    from .stack import stack_products

    for step in (reduce_loops, hoist, merge, keep_residuals, stack_products):
        graph = step(graph)
    return graph


def replace(graph: Graph, swap: dict[Node, Node]) -> Graph:
    """`graph` with nodes replaced by others, which may be made of nodes of the old graph.

    What picks one output of a loop stays one node: `readers` knows a single one for each.
    """
    if not swap:
        return graph
    mapping: dict[Node, Node] = {}
    picked: dict[tuple, Node] = {}
    stack = [(n, False) for n in graph.outputs]
    while stack:
        node, ready = stack.pop()
        if node in mapping:
            continue
        new = swap.get(node, node)
        if not ready:
            stack.append((node, True))
            stack.extend((s, False) for s in new.inputs if s not in mapping)
            continue
        inputs = tuple([mapping[s] for s in new.inputs])
        same = all(a is b for a, b in zip(inputs, new.inputs, strict=True))
        made = new if same else Node(new.op, inputs, new.attrs, new.shape, new.dtype)
        if made.op is PROJ:
            made = picked.setdefault((inputs[0], made.attrs[0]), made)
        mapping[node] = made
    return Graph(graph.inputs, tuple([mapping[n] for n in graph.outputs]), graph.name)


@dataclass
class Loop:
    """A SCAN or WHILE taken apart."""

    node: Node
    condition: Graph | None  # of a WHILE
    body: Graph
    carries: int
    stop: tuple  # () or (node,)
    starts: tuple
    rows: tuple
    fixed: tuple

    @property
    def kind(self) -> tuple:
        """What two loops must share to run as one."""
        if self.condition is None:
            _, _, _, length, reverse, _ = self.node.attrs
            return SCAN, length, reverse, self.stop
        _, _, _, bound, partial = self.node.attrs
        return WHILE, bound, partial

    def places(self, k: int) -> dict:
        """Output positions of carry `k`: its last value and, if there is one, its history."""
        c = self.carries
        if self.condition is None:
            return {"final": k, "history": c + k}
        return {"final": k, "history": c + 1 + k}

    @property
    def first_row(self) -> int:
        """Position of the first of ys among the outputs."""
        return 2 * self.carries + (self.condition is not None)

    @property
    def rows_out(self) -> int:
        """How many ys there are."""
        return len(self.body.outputs) - self.carries


def loop_of(node: Node) -> Loop:
    if node.op is SCAN:
        body, c, xs, _, _, dynamic = node.attrs
        inputs = node.inputs[dynamic:]
        return Loop(
            node,
            None,
            body,
            c,
            node.inputs[:dynamic],
            inputs[:c],
            inputs[c : c + xs],
            inputs[c + xs :],
        )
    condition, body, c, _, _ = node.attrs
    return Loop(node, condition, body, c, (), node.inputs[:c], (), node.inputs[c:])


def make_loop(kind: tuple, condition, body: Graph, starts, rows, fixed) -> Node:
    """The node of a loop with these parts; bodies take carries, rows, constants."""
    c = len(starts)
    if kind[0] is SCAN:
        _, length, reverse, stop = kind
        inputs = (*stop, *starts, *rows, *fixed)
        attrs = (intern(body), c, len(rows), length, reverse, bool(stop))
    else:
        _, bound, partial = kind
        inputs = (*starts, *fixed)
        attrs = (intern(condition), intern(body), c, bound, partial)
    shape, dtype = kind[0].infer(inputs, *attrs)
    return Node(kind[0], inputs, attrs, shape, dtype)


def pick(whole: Node, k: int) -> Node:
    return Node(PROJ, (whole,), (k,), whole.shape[k], whole.dtype[k])


def readers(graph: Graph) -> dict[Node, dict[int, Node]]:
    """Loop -> {output position: the node that picks it}."""
    found: dict[Node, dict[int, Node]] = {}
    for node in graph.order:
        if node.op is PROJ and node.inputs[0].op in (SCAN, WHILE):
            found.setdefault(node.inputs[0], {})[node.attrs[0]] = node
    return found


def reaching(graph: Graph, outputs) -> set[Node]:
    """The nodes that `outputs` depend on, themselves included."""
    seen: set[Node] = set()
    stack = list(outputs)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(node.inputs)
    return seen


# -- what nobody reads ----------------------------------------------------------------------------


def reduce_loops(graph: Graph) -> Graph:
    """Loops without the carries, rows and constants that nothing read depends on."""
    swap: dict[Node, Node] = {}
    for node, read in readers(graph).items():
        swap.update(_reduced(loop_of(node), read))
    return replace(graph, swap)


def _reduced(loop: Loop, read: dict[int, Node]) -> dict[Node, Node]:
    body, c = loop.body, loop.carries
    ys = [k for k in range(loop.rows_out) if loop.first_row + k in read]
    needed = {k for k in range(c) if not read.keys().isdisjoint(loop.places(k).values())}
    tested = set() if loop.condition is None else reaching(loop.condition, loop.condition.outputs)
    if loop.condition is not None:
        needed |= {k for k in range(c) if loop.condition.inputs[k] in tested}
    while True:
        used = reaching(
            body, [*[body.outputs[k] for k in needed], *[body.outputs[c + k] for k in ys]]
        )
        more = {k for k in range(c) if body.inputs[k] in used} - needed
        if not more:
            break
        needed |= more
    still = {k for k in needed if body.outputs[k] is body.inputs[k]}
    moving = sorted(needed - still)
    xs = len(loop.rows)
    numbers = {k for k in range(xs) if loop.rows[k].op is CONST}
    rows = [k for k in range(xs) if body.inputs[c + k] in used and k not in numbers]
    places: dict[Node, list[int]] = {}
    for k, n in enumerate(loop.fixed):
        at = c + xs + k
        if body.inputs[at] in used or (tested and loop.condition.inputs[at] in tested):
            places.setdefault(n, []).append(at)
    fixed = [n for n in places if n.op is not CONST]
    same = len(moving) == c and len(rows) == xs and len(fixed) == len(loop.fixed)
    if same and len(ys) == len(body.outputs) - c:
        return {}

    def narrowed(old: Graph, outputs) -> Graph:
        state = {k: placeholder(-1, old.inputs[k].shape, old.inputs[k].dtype) for k in moving}
        lines = (
            {}
            if old is loop.condition
            else {
                c + k: placeholder(-1, old.inputs[c + k].shape, old.inputs[c + k].dtype)
                for k in rows
            }
        )
        mapping = {old.inputs[k]: n for k, n in (state | lines).items()}
        holes = []
        for n, ats in places.items():
            new = n if n.op is CONST else placeholder(-1, n.shape, n.dtype)
            mapping.update((old.inputs[at], new) for at in ats)
            holes += [] if n.op is CONST else [new]
        extra = []
        for k in sorted(still):
            extra.append(placeholder(-1, old.inputs[k].shape, old.inputs[k].dtype))
            mapping[old.inputs[k]] = extra[-1]
        if old is not loop.condition:
            for k in numbers:
                number = loop.rows[k]
                mapping[old.inputs[c + k]] = const(number.attrs[0], number.dtype, number.shape[1:])
        wanted = reaching(old, outputs)
        rebuild([n for n in old.order if n in wanted], mapping)
        inputs = (*state.values(), *lines.values(), *holes, *extra)
        return Graph(inputs, tuple([mapping[n] for n in outputs]), old.name)

    outputs = [*[body.outputs[k] for k in moving], *[body.outputs[c + k] for k in ys]]
    condition = None if loop.condition is None else narrowed(loop.condition, loop.condition.outputs)
    new = make_loop(
        loop.kind,
        condition,
        narrowed(body, outputs),
        [loop.starts[k] for k in moving],
        [loop.rows[k] for k in rows],
        [*fixed, *[loop.starts[k] for k in sorted(still)]],
    )
    return _moved(loop, new, read, moving, ys)


def _moved(loop: Loop, new: Node, read: dict, moving: list, ys: list) -> dict[Node, Node]:
    """Where what was read of the old loop is now."""
    fresh = loop_of(new)
    at: dict[int, int] = {}
    for k, old in enumerate(moving):
        for name, place in loop.places(old).items():
            at[place] = fresh.places(k)[name]
    for k, old in enumerate(ys):
        at[loop.first_row + old] = fresh.first_row + k
    if loop.condition is not None:
        at[loop.carries] = fresh.carries
    swap = {}
    for place, proj in read.items():
        if place in at:
            swap[proj] = pick(new, at[place])
        else:  # of a carry that does not change: its last value is the first, and so is every other
            k = place if place < loop.carries else place - loop.places(0)["history"]
            start = loop.starts[k]
            swap[proj] = start if place < loop.carries else _repeated(start, proj.shape)
    return swap


def _repeated(node: Node, shape: tuple) -> Node:
    row = Node(op_named("reshape"), (node,), ((1, *node.shape),), (1, *node.shape), node.dtype)
    return Node(op_named("expand"), (row,), (shape,), shape, node.dtype)


# -- what does not change -------------------------------------------------------------------------


def hoist(graph: Graph) -> Graph:
    """Dear computations in a loop's body that only constants enter move in front of the loop."""
    swap: dict[Node, Node] = {}
    for node, read in readers(graph).items():
        loop = loop_of(node)
        start = loop.carries + len(loop.rows)
        moved = _invariant(loop.body, start)
        if not moved:
            continue
        outside = dict(zip(loop.body.inputs[start:], loop.fixed, strict=True))
        rebuild([n for n in loop.body.order if n in reaching(loop.body, moved)], outside)
        holes = {n: placeholder(-1, n.shape, n.dtype) for n in moved}
        mapping = {n: n for n in loop.body.inputs} | holes
        rebuild(loop.body.order, mapping)
        body = Graph(
            (*loop.body.inputs, *holes.values()), tuple([mapping[n] for n in loop.body.outputs])
        )
        condition = loop.condition
        if condition is not None:
            extra = [placeholder(-1, n.shape, n.dtype) for n in moved]
            condition = Graph((*condition.inputs, *extra), condition.outputs)
        fixed = [*loop.fixed, *[outside[n] for n in moved]]
        new = make_loop(loop.kind, condition, body, loop.starts, loop.rows, fixed)
        swap.update((proj, pick(new, k)) for k, proj in read.items())
    return replace(graph, swap)


def _invariant(body: Graph, start: int) -> list[Node]:
    """Nodes of `body` to compute outside: of constants alone, dear, and read by what varies."""
    constant = set(body.inputs[start:])
    dear: set[Node] = set()
    readers_of: dict[Node, list] = {}
    for node in body.order:
        if node.op is CONST or (node.inputs and all(s in constant for s in node.inputs)):
            constant.add(node)
            if is_dear(node) or any(s in dear for s in node.inputs):
                dear.add(node)
        for s in node.inputs:
            readers_of.setdefault(s, []).append(node)
    outputs = set(body.outputs)
    return [
        n
        for n in body.order
        if n in dear
        and n.op.outputs == 1
        and (n in outputs or any(r not in constant for r in readers_of.get(n, ())))
    ]


def is_dear(node: Node) -> bool:
    """Whether a node is worth computing once and keeping."""
    if node.op.kind == "elementwise":
        return scalar_cost(node.op, node.attrs) >= CALL
    return node.op.kind in DEAR


# -- loops of one shape ---------------------------------------------------------------------------


def merge(graph: Graph) -> Graph:
    """Independent loops of one kind become one, as often as there are two."""
    for _ in readers(graph):  # each round has one loop less
        read = readers(graph)
        found = _mergeable(graph, read)
        if found is None:
            break
        graph = replace(graph, found)
    return graph


def _mergeable(graph: Graph, read: dict) -> dict | None:
    """What to replace for the first two loops that can be one."""
    behind: dict[Node, set] = {}
    for node in graph.order:
        own: set = set()
        for s in node.inputs:
            own |= behind[s]
            if s.op in (SCAN, WHILE):
                own.add(s)
        behind[node] = own
    loops = list(read)
    for k, second in enumerate(loops):
        b = loop_of(second)
        for first in loops[:k]:
            if first in behind[second] or second in behind[first] or first.op is not second.op:
                continue
            a = loop_of(first)
            if a.kind == b.kind:
                merged = _joined(a, b)
                if merged is not None:
                    return _after_joining(a, b, *merged, read)
    return None


def _joined(a: Loop, b: Loop):
    """(the joint loop, for each carry of `a` and then `b` its place), or None for different conditions."""
    from .simplify import Builder, copy_into

    starts = [*a.starts, *b.starts]
    outer = list(dict.fromkeys([*a.rows, *b.rows])), list(dict.fromkeys([*a.fixed, *b.fixed]))
    group = _first_guess(starts)
    while True:
        builder = Builder()
        state = {g: placeholder(-1, starts[g].shape, starts[g].dtype) for g in sorted(set(group))}
        rows = {n: placeholder(-1, n.shape[1:], n.dtype) for n in outer[0]}
        fixed = {n: placeholder(-1, n.shape, n.dtype) for n in outer[1]}
        new: list[Node] = []
        ys: list[Node] = []
        tests = []
        for loop, offset in ((a, 0), (b, a.carries)):
            given = [state[group[offset + k]] for k in range(loop.carries)]
            given += [rows[n] for n in loop.rows] + [fixed[n] for n in loop.fixed]
            mapping = dict(zip(loop.body.inputs, given, strict=True))
            copy_into(builder, loop.body.order, mapping)
            out = [mapping[n] for n in loop.body.outputs]
            new += out[: loop.carries]
            ys += out[loop.carries :]
            if loop.condition is not None:
                mapping = dict(zip(loop.condition.inputs, given, strict=True))
                copy_into(builder, loop.condition.order, mapping)
                tests.append(mapping[loop.condition.outputs[0]])
        finer = _refined(group, new)
        if finer == group:
            break
        group = finer
    if tests and tests[0] is not tests[1]:
        return None
    kept = sorted(set(group))
    inputs = (*[state[g] for g in kept], *rows.values(), *fixed.values())
    body = Graph(inputs, (*[new[g] for g in kept], *ys))
    condition = Graph(inputs, (tests[0],)) if tests else None
    joint = make_loop(a.kind, condition, body, [starts[g] for g in kept], *outer)
    return joint, [kept.index(g) for g in group]


def _first_guess(starts) -> list[int]:
    """Carries that start as the same node may be equal: each gets the first such one as its group."""
    first: dict[Node, int] = {}
    return [first.setdefault(n, k) for k, n in enumerate(starts)]


def _refined(group: list[int], new: list[Node]) -> list[int]:
    """Groups split where the new values differ."""
    first: dict = {}
    return [first.setdefault((g, new[k]), k) for k, g in enumerate(group)]


def _after_joining(a: Loop, b: Loop, joint: Node, places: list[int], read: dict) -> dict:
    fresh = loop_of(joint)
    swap: dict[Node, Node] = {}
    offset, before = 0, 0
    for loop in (a, b):
        at: dict[int, int] = {}
        for k in range(loop.carries):
            for name, place in loop.places(k).items():
                at[place] = fresh.places(places[offset + k])[name]
        if loop.condition is not None:
            at[loop.carries] = fresh.carries
        for k in range(loop.rows_out):
            at[loop.first_row + k] = fresh.first_row + before + k
        offset += loop.carries
        before += loop.rows_out
        swap.update((proj, pick(joint, at[k])) for k, proj in read[loop.node].items())
    return swap
