"""One application of a transform: the variables it differentiates by, and what lies outside of it.

A transform makes *fresh variables* over the user's arguments (aliases of their nodes), records the
function over them, and asks the graph for derivatives by these very nodes. So transforms nest without
levels: an inner one's variables are nodes like all others to an outer one.

Nodes are numbered as they are made. What is numbered below a frame's variables cannot depend on
them, so the walks of an inner transform end there, however large the outer graph is.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

from ..autograd.hooks import run_hooks
from ..autograd.modes import inference_mode, set_grad_enabled
from ..errors import GradientError
from ..graph.modes import modes
from ..graph.node import NUMBER, Node, const, leaf, placeholder
from ..graph.op import PUBLIC
from ..graph.shapes import numel
from ..ops.joining import unit
from ..tensor import ALIAS, Tensor, node_of, record, wrap
from ..transform.batch import batched, everywhere
from ..transform.call import call
from ..transform.loops import scan_loop
from ..transform.pullback import differentiable_order, pullback
from ..transform.pushforward import pushforward
from ..transform.trace import close, intern, quiet, settled

__all__ = ["Frame", "Linear", "filled", "forward_history", "variable_over"]

# Numbers that all rows of a linear function may have at once, to be computed at once.
BATCHED = 1 << 18

# Nodes of a linear function of several vectors that is recorded vector by vector; past it, a loop.
UNROLLED = 300

# A linear function of operations of these kinds is recorded unit vector by unit vector: of how many,
# and as how many operations in all.
DIRECTIONS, RECORDED = 8, 400
PLAIN = (
    "input",
    "const",
    "alias",
    "elementwise",
    "movement",
    "reduction",
    "cat",
    "pad",
    "view_scatter",
)


def zeros_like(t: Tensor) -> Tensor:
    """Zeros of the shape and dtype of `t`."""
    node = node_of(t)
    return wrap(const(0, node.dtype, node.shape))


def variable_over(name: str, t: Tensor, path: str = "") -> Tensor:
    """A tensor of the value of `t` to differentiate by; derivatives flow on to `t`.

    Raises
    ------
    GradientError
        If the dtype has no derivatives.
    """
    if not t.dtype.is_differentiable:
        raise GradientError(
            f"{name}: only floating-point arguments can be differentiated by, argument{path} has "
            f"dtype {t.dtype!r}; convert it (3.0 instead of 3, .to(flatgrad.float64)), or choose "
            "other argnums"
        )
    fresh = record(ALIAS, (t,))
    node = fresh._node
    node.value = node.inputs[0].value
    node.requires_grad = True
    node.mark = node.inputs[0].mark & NUMBER  # and not an inference tensor
    return fresh


def filled(found, like) -> list[Tensor]:
    """`found`, with zeros in the place of None."""
    return [zeros_like(t) if g is None else g for g, t in zip(found, like, strict=True)]


@contextmanager
def forward_history():
    """Inside, evaluated nodes keep their history: a forward derivative is going to follow it."""
    before, modes.forward = modes.forward, True
    try:
        yield
    finally:
        modes.forward = before


class Frame:
    """The variables of one transform.

    Attributes
    ----------
    grad : bool
        Whether the results are to be differentiable by what lies outside.
    tensors : list of Tensor
        What the function gets: variables, and constants as they were given.
    nodes : list of Node
        The variables' nodes.
    """

    def __init__(self, name: str, tensors, constant, paths):
        self.grad = modes.grad
        self.tensors: list[Tensor] = []
        self.nodes: list[Node] = []
        self.places: list[int] = []
        for k, (t, fixed, path) in enumerate(zip(tensors, constant, paths, strict=True)):
            if not fixed:
                t = variable_over(name, t, path)
                self.nodes.append(t._node)
                self.places.append(k)
            self.tensors.append(t)
        self.since = self.nodes[0].seq if self.nodes else 0
        self._variables = set(self.nodes)

    def run(self, function, args: tuple, kwargs: dict):
        """``function(*args, **kwargs)``, recorded for differentiation whatever the outer mode is."""
        with inference_mode(False):
            return function(*args, **kwargs)

    # -- what lies outside ------------------------------------------------------------------------

    def outside(self, tensors) -> set[Node]:
        """The nodes behind `tensors` that derivatives reach from what lies outside the frame."""
        found: set[Node] = set()
        if not self.grad:
            return found
        for node in differentiable_order([node_of(t) for t in tensors], self.since):
            if node in self._variables:
                flows = node.inputs[0].requires_grad
            elif (
                node.seq < self.since
                or not node.op.differentiable
                or node.op.kind in ("leaf", "input")
            ):
                flows = True
            else:
                flows = any(s in found for s in node.inputs)
            if flows:
                found.add(node)
        return found

    def leave(self, tensors) -> list[Tensor]:
        """`tensors` as the outside sees them: they require grad only if something there does."""
        if not any(isinstance(t, Tensor) and t.requires_grad for t in tensors):
            return list(tensors)
        found = self.outside([t for t in tensors if isinstance(t, Tensor)])
        return [
            _cut(t) if isinstance(t, Tensor) and node_of(t) not in found else t for t in tensors
        ]

    # -- derivatives ------------------------------------------------------------------------------

    def pull(self, outputs, cotangents) -> list[Tensor | None]:
        """The variables' cotangents, None where no derivative arrives."""
        with set_grad_enabled(bool(self.outside([*outputs, *cotangents]))):
            found = pullback(
                [node_of(t) for t in outputs],
                self.nodes,
                cotangents,
                visit=run_hooks,
                since=self.since,
            )
        return self.leave(found)

    def push(self, outputs, tangents) -> list[Tensor | None]:
        """The tangents of `outputs`, None for one that does not depend on the variables."""
        given = [t for t in tangents if t is not None]
        with set_grad_enabled(bool(self.outside([*outputs, *given]))):
            found = pushforward(
                [node_of(t) for t in outputs],
                self.nodes,
                [tangents[k] for k in self.places],
                self.since,
            )
        return self.leave(found)

    def spread(self, found) -> list[Tensor | None]:
        """What belongs to the variables, one for each of `tensors`: None for constants."""
        out: list[Tensor | None] = [None] * len(self.tensors)
        for k, g in zip(self.places, found, strict=True):
            out[k] = g
        return out

    def filled(self, found) -> list[Tensor]:
        """`spread` with zeros in the place of None."""
        return filled(self.spread(found), self.tensors)


def _cut(t: Tensor) -> Tensor:
    """`t` as a tensor that requires no grad. Forward derivatives still pass."""
    node = node_of(t)
    if not node.requires_grad:
        return t
    return wrap(Node(ALIAS, (node,), (), node.shape, node.dtype, False, node.value))


class Linear:
    """A linear function of vectors, traced once: one sub-graph that every call records as one node.

    Its values of the forward pass (*residuals*) are held, so that they are evaluated with the first
    result and not anew for each vector.

    Parameters
    ----------
    record : callable
        Takes a list of tensors, returns a list of (Tensor or None), linear in them.
    like : sequence of (Tensor or Node)
        Their shapes and dtypes are the vectors'.
    grad : bool
        Whether results are to be differentiable by what is outside.
    """

    def __init__(self, record, like, grad: bool):
        self.grad = grad
        self.record = record
        with quiet(grad=grad):
            seeds = [placeholder(k, *_kind(t)) for k, t in enumerate(like)]
            found = record([wrap(s) for s in seeds])
            self.reached = [k for k, t in enumerate(found) if t is not None]
            self.count = len(found)
            graph, captured = close(seeds, [node_of(found[k]) for k in self.reached], "linear")
        # One object for all recordings of one structure: a repeated call finds its program.
        self.graph = intern(settled(graph))
        self.residuals = [wrap(n) for n in captured]

    def __call__(self, vectors) -> list[Tensor | None]:
        """The images of `vectors`; None is zero."""
        with self._recording(vectors):
            results = call(self.graph, [*vectors, *self.residuals]) if self.reached else ()
        return self._spread(results)

    def rows(self, vectors, count: int) -> list[Tensor | None]:
        """The images of `count` vectors each, stacked along a first dimension as they are given."""
        if not self.reached:
            return [None] * self.count
        if count > 1 and self._suits_batching(count):
            flags = (True,) * len(vectors) + (False,) * len(self.residuals)
            many = batched(self.graph, flags, count)
            with self._recording(vectors):
                found = call(many.graph, [*vectors, *self.residuals, *many.extra])
                pairs = zip(found, many.flags, strict=True)
                return self._spread([everywhere(t, f, count) for t, f in pairs])
        if count > 1 and count * len(self.graph.order) > UNROLLED:
            with self._recording(vectors):
                return self._spread(scan_loop(self.graph, [], vectors, self.residuals, count))
        parts = [self([v[k] for v in vectors]) for k in range(count)]
        stack = PUBLIC["stack"].function
        return self._spread([stack([row[k] for row in parts]) for k in self.reached])

    def images(self, shape: tuple, dtype) -> list[Tensor | None]:
        """The images of all unit vectors of one argument, stacked; None is zero.

        A few short passes are recorded one by one: what is zero in one of them is not computed there.
        """
        count = numel(shape)
        kinds = [n.op.kind for n in self.graph.order]
        work = count * sum(k in ("elementwise", "reduction") for k in kinds)
        if count > DIRECTIONS or work > RECORDED or any(k not in PLAIN for k in kinds):
            units = np.eye(count, dtype=dtype.np).reshape((count, *shape))
            return self.rows([wrap(leaf(units, dtype))], count)
        rows = [self.record([unit(shape, at, dtype)]) for at in np.ndindex(shape)]
        return [_stacked(column) for column in zip(*rows, strict=True)]

    def _suits_batching(self, count: int) -> bool:
        """Whether all at once is better than one after the other: products of matrices, and small ones."""
        order = self.graph.order
        size = sum(numel(n.shape) for n in order if n.op.outputs == 1)
        heavy = any(n.op.kind in ("contraction", "window") for n in order)
        return heavy and count * size <= BATCHED

    def _recording(self, vectors):
        grad = modes.grad and (self.grad or any(v.requires_grad for v in vectors))
        return set_grad_enabled(grad)

    def _spread(self, results) -> list[Tensor | None]:
        out: list[Tensor | None] = [None] * self.count
        for k, t in zip(self.reached, results, strict=True):
            out[k] = t
        return out


def _stacked(column) -> Tensor | None:
    """Tensors of one shape as rows; None, which is zero, if all are."""
    known = next((t for t in column if t is not None), None)
    if known is None:
        return None
    return PUBLIC["stack"].function([zeros_like(known) if t is None else t for t in column])


def _kind(t: Tensor | Node) -> tuple:
    node = t if isinstance(t, Node) else node_of(t)
    return node.shape, node.dtype
