"""Contractions of a loop's iterations as one: sums of products over all steps, and products of rows.

Run backwards, a recurrence adds to the gradient of its weights at every step: many products of small
matrices, each reading and writing the whole sum. Nothing in the loop reads that sum, so it can wait: the
loop stacks what the products are of (most of which is stacked already), and one contraction over
steps and rows follows it. Likewise, what a loop multiplies each of its rows by, and the carries have no part
in, is one contraction of all rows in front of it; and a product that a loop only hands out, a row at a
time, is one contraction behind it.
"""

from __future__ import annotations

from ..graph.node import CONST, Graph, Node, placeholder
from ..graph.op import op_named
from ..graph.shapes import numel
from .loops import SCAN
from .tidy import Loop, loop_of, make_loop, pick, readers, replace
from .trace import rebuild

__all__ = ["stack_products"]

# Bytes that stacking may take, and multiply-adds an iteration from which it pays.
MEMORY = 64 << 20
WORK = 256

# Bytes that an operand may have to be stacked in the place of a product, as a multiple of the product's.
TIMES = 8


def stack_products(graph: Graph) -> Graph:
    """`graph` with the contractions of loops that can be one contraction before or after the loop."""
    for step in (_rows_before, _sums_after, _rows_after):
        swap: dict[Node, Node] = {}
        for node, read in readers(graph).items():
            if node.op is SCAN and not node.attrs[5]:  # of a known number of iterations
                swap.update(step(loop_of(node), read))
        graph = replace(graph, swap)
    return graph


def _op(name: str, inputs: tuple, attrs: tuple) -> Node:
    op = op_named(name)
    shape, dtype = op.infer(*inputs, *attrs)
    return Node(op, inputs, attrs, shape, dtype)


def _work(node: Node) -> int:
    """Multiply-adds of a contraction."""
    labels = {}
    for spec, source in zip(node.attrs[:2], node.inputs, strict=True):
        labels.update(zip(spec, source.shape, strict=True))
    return numel(tuple(labels.values()))


def _bytes(node: Node) -> int:
    return numel(node.shape) * node.dtype.itemsize


def _readers_in(body: Graph) -> dict[Node, list[Node]]:
    found: dict[Node, list[Node]] = {}
    for node in body.order:
        for s in node.inputs:
            found.setdefault(s, []).append(node)
    return found


class Rows:
    """Values of a loop's body as stacks outside: its own rows, turned and cut, are there already."""

    def __init__(self, loop: Loop, length: int):
        self.length = length
        holes = loop.body.inputs[loop.carries : loop.carries + len(loop.rows)]
        self.known = dict(zip(holes, loop.rows, strict=True))

    def find(self, node: Node) -> Node | None:
        """The stack of `node`, if its rows are rows of the loop or movements of them."""
        if node not in self.known and node.op.name in _SHIFTED:
            below = self.find(node.inputs[0])
            if below is not None:
                attrs = _SHIFTED[node.op.name](self.length, *node.attrs)
                shape = (self.length, *node.shape)
                self.known[node] = Node(node.op, (below,), attrs, shape, node.dtype)
        return self.known.get(node)


_SHIFTED = {
    "reshape": lambda n, shape: ((n, *shape),),
    "permute": lambda n, dims: ((0, *[d + 1 for d in dims]),),
    "expand": lambda n, shape: ((n, *shape),),
    "slice": lambda n, starts, steps, shape: ((0, *starts), (1, *steps), (n, *shape)),
}


def _with_steps(node: Node, a: Node, b: Node, sides: tuple, kept: bool) -> Node:
    """A contraction with the steps as a label of the operands on `sides`, and of the result if `kept`."""
    specs = list(node.attrs)
    fresh = max((label for spec in specs for label in spec), default=0) + 1
    for k in (*sides, *([2] if kept else [])):
        specs[k] = (fresh, *specs[k])
    return _op("contract", (a, b), tuple(specs))


# -- in front of the loop -------------------------------------------------------------------------


def _rows_before(loop: Loop, read: dict) -> dict[Node, Node]:
    """Products of rows with constants, or of rows, computed for all steps before the loop."""
    if not loop.carries:
        return {}  # all of it can be done at once, and storing nothing is what it is for
    length = loop.kind[1]
    rows = Rows(loop, length)
    start = loop.carries + len(loop.rows)
    constants = dict(zip(loop.body.inputs[start:], loop.fixed, strict=True))
    moved: dict[Node, Node] = {}
    for node in loop.body.order:
        if node.op.kind != "contraction" or _work(node) < WORK or length * _bytes(node) > MEMORY:
            continue
        sides, operands = [], []
        for k, source in enumerate(node.inputs):
            stack = rows.find(source)
            sides += [k] if stack is not None else []
            operands.append(constants.get(source) if stack is None else stack)
        if sides and None not in operands:
            moved[node] = _with_steps(node, *operands, tuple(sides), True)
    if not moved:
        return {}
    holes = {n: placeholder(-1, n.shape, n.dtype) for n in moved}
    mapping = {n: n for n in loop.body.inputs} | holes
    rebuild(loop.body.order, mapping)
    inputs = (*loop.body.inputs[:start], *holes.values(), *loop.body.inputs[start:])
    body = Graph(inputs, tuple([mapping[n] for n in loop.body.outputs]), loop.body.name)
    lines = [*loop.rows, *moved.values()]
    new = make_loop(loop.kind, None, body, loop.starts, lines, loop.fixed)
    return {proj: pick(new, k) for k, proj in read.items()}


# -- behind the loop ------------------------------------------------------------------------------


def _sums_after(loop: Loop, read: dict) -> dict[Node, Node]:
    """Carries that only add up products are contractions of stacks behind the loop."""
    reading = _readers_in(loop.body)
    rows = Rows(loop, loop.kind[1])
    sums: dict[int, list] = {}
    stacked: dict[Node, None] = {}
    for k in range(loop.carries):
        if loop.places(k)["history"] in read:
            continue
        terms = _terms(loop, k, reading)
        more = [
            s
            for chain in terms or ()
            for s in chain[-1].inputs
            if rows.find(s) is None and s not in loop.body.outputs[loop.carries :]
        ]
        target = loop.body.outputs[k]
        if terms and sum(map(_bytes, {*more})) <= _bytes(target):
            sums[k] = terms
            stacked.update(dict.fromkeys(more))
    if not sums or loop.kind[1] * sum(map(_bytes, stacked)) > MEMORY:
        return {}
    return _without_sums(loop, read, rows, sums, list(stacked))


def _terms(loop: Loop, k: int, reading: dict) -> list[list[Node]] | None:
    """The products that carry `k` adds up, each behind the movements that are made of it, outermost first."""
    start, end = loop.body.inputs[k], loop.body.outputs[k]
    if reading.get(start, []) != [end] or end.op.name != "add" or not end.dtype.is_floating_point:
        return None
    if loop.body.outputs.count(end) != 1 or reading.get(end) or start in loop.body.outputs:
        return None
    pending = [s for s in end.inputs if s is not start]
    found = []
    while pending:
        node = pending.pop()
        if node.op.name == "add" and all(s.shape == node.shape for s in node.inputs):
            pending += node.inputs
            continue
        chain = [node]
        while chain[-1].op.name in ("reshape", "permute"):
            chain.append(chain[-1].inputs[0])
        product = chain[-1]
        alone = all(len(reading[n]) == 1 and n not in loop.body.outputs for n in chain)
        if product.op.kind != "contraction" or not alone or _work(product) < WORK:
            return None
        if any(_does_not_vary(loop, s) for s in product.inputs):
            return None
        found.append(chain)
    return found or None


def _does_not_vary(loop: Loop, node: Node) -> bool:
    return node.op is CONST or node in loop.body.inputs[loop.carries + len(loop.rows) :]


def _without_sums(loop: Loop, read: dict, rows: Rows, sums: dict, stacked: list) -> dict:
    """What to replace: the loop has the carries of `sums` no more, and stacks `stacked` besides."""
    c = loop.carries
    kept = [k for k in range(c) if k not in sums]
    body = loop.body
    inputs = (*[body.inputs[k] for k in kept], *body.inputs[c:])
    outputs = (*[body.outputs[k] for k in kept], *body.outputs[c:], *stacked)
    starts = [loop.starts[k] for k in kept]
    new = make_loop(
        loop.kind, None, Graph(inputs, outputs, body.name), starts, loop.rows, loop.fixed
    )
    fresh = loop_of(new)
    swap: dict[Node, Node] = {}
    for place, proj in read.items():
        if place >= loop.first_row:
            swap[proj] = pick(new, fresh.first_row + place - loop.first_row)
        elif place % c not in sums:
            at = fresh.places(kept.index(place % c))
            swap[proj] = pick(new, at["final" if place < c else "history"])
    found = {n: pick(new, fresh.first_row + k) for k, n in enumerate(outputs[len(kept) :])}
    for k, chains in sums.items():
        total = loop.starts[k]
        for chain in chains:
            term = _summed(chain, rows, found)
            zero = total.op is CONST and total.attrs[0] == 0
            total = term if zero else _op("add", (total, term), ())
        if k in read:
            swap[read[k]] = total
    return swap


def _summed(chain: list[Node], rows: Rows, found: dict) -> Node:
    """The sum over all steps of the value of ``chain[0]``."""
    product = chain[-1]
    operands = [rows.find(s) or found[s] for s in product.inputs]
    total = _with_steps(product, *operands, (0, 1), False)
    for node in reversed(chain[:-1]):
        total = Node(node.op, (total,), node.attrs, node.shape, node.dtype)
    return total


def _rows_after(loop: Loop, read: dict) -> dict[Node, Node]:
    """Rows that are products, and nothing else, computed for all steps behind the loop."""
    body, c = loop.body, loop.carries
    rows, reading = Rows(loop, loop.kind[1]), _readers_in(body)
    constants = dict(zip(body.inputs[c + len(loop.rows) :], loop.fixed, strict=True))
    ys = body.outputs[c:]
    products: dict[int, Node] = {}
    stacked: dict[Node, None] = {}
    for k, node in enumerate(ys):
        alone = not reading.get(node) and body.outputs.count(node) == 1
        if not c or node.op.kind != "contraction" or not alone or _work(node) < WORK:
            continue
        varying = [s for s in node.inputs if s not in constants]
        more = [s for s in varying if rows.find(s) is None and s not in ys]
        if any(s.op is CONST for s in varying) or not varying:
            continue
        if loop.first_row + k in read and sum(map(_bytes, more)) <= TIMES * _bytes(node):
            products[k] = node
            stacked.update(dict.fromkeys(more))
    if not products or loop.kind[1] * sum(map(_bytes, stacked)) > MEMORY:
        return {}
    kept = [n for k, n in enumerate(ys) if k not in products]
    graph = Graph(body.inputs, (*body.outputs[:c], *kept, *stacked), body.name)
    new = make_loop(loop.kind, None, graph, loop.starts, loop.rows, loop.fixed)
    found = {n: pick(new, loop.first_row + k) for k, n in enumerate((*kept, *stacked))}
    swap: dict[Node, Node] = {}
    for place, proj in read.items():
        k = place - loop.first_row
        if k not in products:
            swap[proj] = pick(new, place) if k < 0 else found[ys[k]]
            continue
        node = products[k]
        operands = [constants.get(s) or rows.find(s) or found[s] for s in node.inputs]
        sides = tuple([at for at, s in enumerate(node.inputs) if s not in constants])
        swap[proj] = _with_steps(node, *operands, sides, True)
    return swap
