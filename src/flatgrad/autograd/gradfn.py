"""``Tensor.grad_fn``: PyTorch's look at the recorded graph, for people who inspect and print it."""

from __future__ import annotations

from ..graph.node import LEAF, PROJ, Node
from ..tensor import Tensor, node_of

__all__ = ["AccumulateGrad", "GradFn"]


class GradFn:
    """The derivative's side of one recorded operation. Equal for equal operations of one graph.

    Attributes
    ----------
    next_functions : tuple of (GradFn, AccumulateGrad or None, int)
        One an input: where its cotangent goes on, and which output of that it is.
    metadata : dict
        Empty, for the user to fill; it belongs to this object.
    """

    def __init__(self, node: Node):
        self._node = node.inputs[0] if node.op is PROJ and node.inputs else node
        self.metadata: dict = {}

    def name(self) -> str:
        """The operation's name as PyTorch would write it, such as ``MulBackward0``."""
        op = self._node.op
        if op.kind == "custom":
            return f"{self._node.attrs[0].name}Backward"
        name = self._node.attrs[0].name if op.kind == "call" else op.name
        return (
            "".join(w[:1].upper() + w[1:] for w in name.replace(".", "_").split("_")) + "Backward0"
        )

    @property
    def next_functions(self) -> tuple:
        return tuple(_edge(s) for s in self._node.inputs)

    def __eq__(self, other) -> bool:
        return isinstance(other, GradFn) and other._node is self._node

    def __hash__(self) -> int:
        return hash(self._node)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {hex(id(self._node))}>"


class AccumulateGrad(GradFn):
    """Where derivatives end: the gradient is accumulated into ``variable.grad``."""

    def name(self) -> str:
        return "AccumulateGrad"

    @property
    def variable(self) -> Tensor | None:
        """The leaf, or None once the user has let it go."""
        holder = self._node.holder
        return None if holder is None else holder()

    @property
    def next_functions(self) -> tuple:
        return ()


def _edge(node: Node) -> tuple:
    if not node.requires_grad:
        return (None, 0)
    if node.op is LEAF:
        return (AccumulateGrad(node), 0)
    return (GradFn(node), node.attrs[0] if node.op is PROJ else 0)


def _grad_fn(self: Tensor) -> GradFn | None:
    node = node_of(self)
    if not node.requires_grad or node.op is LEAF:
        return None
    return GradFn(node)


Tensor.grad_fn = property(
    _grad_fn, doc="The recorded operation behind this tensor; None for a leaf."
)
Tensor.output_nr = property(
    lambda self: node_of(self).attrs[0] if node_of(self).op is PROJ else 0,
    doc="Which output of its ``grad_fn`` this tensor is.",
)
