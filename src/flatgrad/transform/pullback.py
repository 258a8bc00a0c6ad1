"""Reverse mode: a graph in, the graph of its cotangents out."""

from __future__ import annotations

from ..errors import GradientError
from ..graph.node import CONST, FREED, LEAF, PROJ, Node, placeholder
from ..graph.op import Op
from ..tensor import Tensor, late, wrap
from .assemble import Parts, add, total
from .trace import depends_on, quiet

__all__ = ["differentiable_order", "pullback"]


def differentiable_order(roots, since: int = 0) -> list[Node]:
    """The nodes that derivatives flow through from `roots`, each after its inputs. Iterative.

    Nodes numbered below `since` are listed and not followed.
    """
    order: list[Node] = []
    seen: set[Node] = set()
    stack = [(r, False) for r in roots if r.requires_grad]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
            continue
        if node in seen:
            continue
        seen.add(node)
        stops = node.seq < since or not node.op.differentiable
        if stops or node.op.kind in ("leaf", "input"):
            order.append(node)
            continue
        stack.append((node, True))
        for source in node.inputs:
            if source.requires_grad and source not in seen:
                stack.append((source, False))
    return order


def pullback(
    outputs,
    inputs,
    cotangents,
    *,
    visit=None,
    check=None,
    saved=None,
    handles=None,
    since=0,
    sweeping=True,
) -> list[Tensor | None]:
    """Cotangents of `inputs` given those of `outputs`, as newly recorded graph.

    Parameters
    ----------
    outputs, inputs : sequence of Node
    cotangents : sequence of (Tensor or None)
        One an output, of its shape and dtype; None is zero.
    visit : callable, optional
        ``visit(node, g) -> g`` sees each node's whole cotangent before its rule runs (hooks).
    check : callable, optional
        ``check(node, grads)`` sees what each rule returned (anomaly detection).
    saved : list, optional
        Filled with the nodes whose rule needed values of the forward pass.
    handles : dict, optional
        Tensors that the rules get in place of nodes (placeholders, while a pullback is traced).
    since : int
        Nodes numbered below it don't depend on the inputs: what an outer transform has recorded.
    sweeping : bool
        Whether thousands of scalars may become one operation (``program/sweep.py``).

    Returns
    -------
    list of (Tensor or None)
        One an input; None where no derivative reaches it.

    Raises
    ------
    GradientError
        If a rule on the way needs values that an earlier backward has let go.
    """
    wanted = set(inputs)
    seeded = [n for n, g in zip(outputs, cotangents, strict=True) if g is not None]
    order = differentiable_order(seeded, since)
    reaching, through = _reaching(order, wanted, since)
    cots: dict[Node, Tensor | Parts | list] = {}
    for node, g in zip(outputs, cotangents, strict=True):
        if g is not None and node in reaching:
            cots[node] = add(cots.get(node), g)
    done: dict[Node, Tensor | None] = {}
    sections: list = [order]
    if sweeping and handles is None and check is None and late.sections is not None:
        sections = late.sections(order, reaching, through, wanted)
    if handles is None:
        handles = {}
    for section in reversed(sections):
        if type(section) is not list:
            section.pull(cots, saved)
            continue
        for node in reversed(section):
            g = total(cots.pop(node, None))
            if g is None or node not in reaching:
                continue
            if visit is not None and type(g) is not list:
                g = visit(node, g)
            if node in wanted:
                done[node] = g
            if node not in through:
                continue
            if node.op is PROJ:
                _collect(node, g, cots)
                continue
            if node.mark & FREED:
                raise GradientError(freed_message(node))
            grads = _apply_rule(node, g, handles)
            if saved is not None and _used_values(node, g, grads, handles):
                saved.append(node)
            if check is not None:
                check(node, grads)
            for source, grad in zip(node.inputs, grads, strict=True):
                if grad is not None and source in reaching:
                    cots[source] = add(cots.get(source), grad)
    return [done.get(node) for node in inputs]


def freed_message(node: Node) -> str:
    where = f", recorded at {node.where}," if node.where else ""
    return (
        "backward: Trying to backward through the graph a second time: the values that the "
        "derivative "
        f"of {node.op.name}{where} needs were freed by the first backward() or grad(); pass "
        "retain_graph=True to the first call, or compute the outputs anew"
    )


def _reaching(order, wanted, since: int) -> tuple[set[Node], set[Node]]:
    """The nodes that lead to a wanted one, and those of them whose rules must run."""
    reaching, through = set(), set()
    for node in order:
        if any(s in reaching for s in node.inputs) and node.op is not LEAF:
            through.add(node)
        elif node.mark & FREED and not node.inputs and node not in wanted and node.seq >= since:
            through.add(node)  # its inputs are forgotten: they may have led there
        elif node not in wanted:
            continue
        reaching.add(node)
    return reaching, through


def _collect(node: Node, g: Tensor, cots: dict) -> None:
    """One output's cotangent joins the list of those of the whole node."""
    whole = node.inputs[0]
    parts = cots.get(whole)
    if parts is None:
        parts = cots[whole] = [None] * len(whole.shape)
    parts[node.attrs[0]] = add(parts[node.attrs[0]], g)


def handle(node: Node, handles: dict) -> Tensor:
    """A tensor for `node` that leaves the user's own handle on it alone."""
    t = handles.get(node)
    if t is None:
        holder = node.holder
        t = wrap(node)
        node.holder = holder
        handles[node] = t
    return t


def output_handles(node: Node, handles: dict):
    """What a rule gets as ``out``: a tensor, or a tuple of them."""
    if node.op.outputs == 1:
        return handle(node, handles)
    whole = handles[node]._node if node in handles else node
    out = []
    for k, (shape, dtype) in enumerate(zip(node.shape, node.dtype, strict=True)):
        requires = whole.requires_grad and dtype.is_differentiable
        out.append(wrap(Node(PROJ, (whole,), (k,), shape, dtype, requires)))
    return tuple(out)


def _apply_rule(node: Node, g, handles: dict) -> tuple:
    inputs = [handle(s, handles) for s in node.inputs]
    out = output_handles(node, handles)
    if node.op.outputs != 1:
        g = tuple(g)
    return run_rule(node.op, g, out, inputs, node.attrs)


def run_rule(op: Op, g, out, inputs, attrs) -> tuple:
    """The op's pullback, in its calling convention."""
    if op.pullback is None:
        raise GradientError(
            f"backward: {op.name} has no derivative; detach() its inputs, or write an "
            "autograd.Function with a backward of your own"
        )
    if op.arity < 0:
        return op.pullback(g, out, tuple(inputs), *attrs)
    return op.pullback(g, out, *inputs, *attrs)


def _used_values(node: Node, g, grads, handles: dict) -> bool:
    """Whether the rule's results depend on values of the forward pass, and not on `g` alone."""
    if node.op.kind == "custom":
        return True  # what it saved is its context's to free
    given = g if type(g) is list else (g,)
    stop = {t._node for t in given if t is not None}
    saved = {handles[s]._node for s in node.inputs if s.op is not CONST}
    saved.add(handles[node]._node if node in handles else node)
    return depends_on([t._node for t in grads if t is not None], saved - stop, stop)


def saves(op: Op, nodes: tuple, attrs: tuple) -> list[Node]:
    """Those of `nodes` whose values the op's rule needs, found by running it on placeholders."""
    with quiet():
        cuts = [placeholder(k, n.shape, n.dtype, n.requires_grad) for k, n in enumerate(nodes)]
        infer_from = (tuple(cuts),) if op.arity < 0 else cuts
        shape, dtype = op.infer(*infer_from, *attrs)
        whole = Node(op, tuple(cuts), attrs, shape, dtype, True)
        handles = {n: wrap(n) for n in cuts}
        if op.outputs == 1:
            handles[whole] = wrap(placeholder(-1, shape, dtype))
            g = wrap(placeholder(-2, shape, dtype))
        else:
            handles[whole] = wrap(placeholder(-1, shape, dtype, True))
            g = [
                wrap(placeholder(-2 - k, *sd))
                for k, sd in enumerate(zip(shape, dtype, strict=True))
            ]
        grads = _apply_rule(whole, g, handles)
        roots = [t._node for t in grads if t is not None]
        return [n for n, cut in zip(nodes, cuts, strict=True) if depends_on(roots, {cut}, set())]


late.saves = saves
