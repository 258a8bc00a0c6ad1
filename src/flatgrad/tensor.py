"""``Tensor``: a handle on a graph node, with ``requires_grad``, ``grad``, views and in-place rebinding.

Recording is functional: a node never changes, an in-place operation binds its tensor to a new node.
A view keeps its base and the way from it, so that writes are seen in both directions.

This module knows the graph alone. The operations, evaluation, autograd and NumPy's face attach
their methods to ``Tensor`` when their packages are imported (``method``); what recording itself needs
of them is in ``late``.
"""

from __future__ import annotations

import os.path
import sys
import threading
import warnings
import weakref

import numpy as np

from .errors import GradientError, ShapeError
from .graph.dtypes import DType
from .graph.memory import sole_array
from .graph.modes import modes
from .graph.node import INFERENCE, LEAF, PROJ, SHARED, Node, leaf, variable
from .graph.op import Op, register

_ref = weakref.ref
_PACKAGE = os.path.dirname(__file__)

# Nodes that one thread may record before the pending graph is evaluated, and how long a chain of
# pending nodes may grow (a running total that nobody reads while other values are evaluated).
PENDING_LIMIT = 20_000
DEPTH_LIMIT = 5_000


class Late:
    """What later packages provide: ``evaluate(nodes)`` computes their values; ``flush(node)`` all of
    its graph's, ``run(order, values)`` interprets nodes, ``convert(value)`` makes a tensor of a
    user's value; ``saves(op, nodes, attrs)`` gives the inputs that an op's rule needs the values of,
    ``rebound(t, old, new)`` takes hooks along when `t` gets another node;
    ``sections(order, reaching, through, wanted)`` finds thousands of scalars to differentiate at once."""

    evaluate = None
    flush = None
    run = None
    convert = None
    saves = None
    rebound = None
    sections = None


late = Late()


class Demanded(threading.local):
    """Pending nodes that a thread's next evaluation must give values too. They are held weakly."""

    def __init__(self):
        self.nodes: list[weakref.ref] = []


demanded = Demanded()


def demand(*nodes: Node) -> None:
    """Let the next evaluation in this thread compute `nodes` as well, so that all is one program.

    Not while a sub-graph is traced (``quiet`` makes the count negative): its nodes have no values.
    """
    if modes.pending >= 0:
        demanded.nodes += [_ref(node) for node in nodes if node.value is None]
        if len(demanded.nodes) > 10_000:
            demanded.nodes = [_ref(n) for n in _live()]


def _live() -> list[Node]:
    nodes = [r() for r in demanded.nodes]
    return [n for n in nodes if n is not None and n.value is None]


def take_demanded() -> list[Node]:
    """The demanded nodes that are still alive and pending; the list starts anew."""
    if not demanded.nodes:
        return []
    nodes = _live()
    demanded.nodes = []
    return nodes


class Size(tuple):
    """A shape: a tuple with PyTorch's ``numel``."""

    __slots__ = ()

    def numel(self) -> int:
        n = 1
        for s in self:
            n *= s
        return n

    def __repr__(self) -> str:
        return f"flatgrad.Size([{', '.join(map(str, self))}])"


class Tensor:
    """An array whose operations are recorded, differentiated and compiled.

    Made by :func:`flatgrad.tensor`, :func:`flatgrad.from_numpy`, :func:`flatgrad.zeros` and their
    kin, not directly. See PyTorch's ``torch.Tensor``: names, arguments and gradients are its.
    """

    _node: Node
    _base: Tensor | None = None  # of a view: the tensor that owns the memory
    _path: tuple = ()  # of a view: ((op, attrs, grad mode), ...) from the base
    _several: str | None = None  # of a view: the function of several views that it came from
    _seen = 0  # of a view: the base's number of writes that _node was made from
    _writes = 0
    _viewed = False  # whether a view of this tensor was ever made
    _grad: Tensor | None = None
    _post_hooks = None
    _retains = False  # of a non-leaf: backward fills .grad (retain_grad)
    __array_priority__ = 1000

    def __init__(self, *args, **kwargs):
        raise TypeError(
            "Tensor: make tensors with flatgrad.tensor(...), zeros(...), from_numpy(...)"
        )

    # -- what it is -------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        return Size(self._node.shape)

    @property
    def dtype(self) -> DType:
        return self._node.dtype

    @property
    def ndim(self) -> int:
        return len(self._node.shape)

    @property
    def requires_grad(self) -> bool:
        return node_of(self).requires_grad

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        self.requires_grad_(flag)

    @property
    def is_leaf(self) -> bool:
        node = node_of(self)
        return node.op is LEAF or not node.requires_grad

    @property
    def grad(self) -> Tensor | None:
        if self._grad is None and not self._retains and not self.is_leaf:
            warnings.warn(
                "grad: this tensor is not a leaf, so backward() does not fill its .grad; call "
                ".retain_grad() on it first, or read the .grad of the leaf it was computed from",
                UserWarning,
                stacklevel=2,
            )
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"grad: a Tensor or None is required, got {type(value).__name__}; "
                    "wrap it with flatgrad.tensor"
                )
            if value._node.shape != self._node.shape:
                raise ShapeError(
                    f"grad: the gradient must have the tensor's shape {tuple(self.shape)}, "
                    f"got {tuple(value.shape)}"
                )
            if value._node.dtype is not self._node.dtype:
                raise GradientError(
                    f"grad: the gradient must have the tensor's dtype {self.dtype!r}, "
                    f"got {value.dtype!r}; convert it with .to()"
                )
        self._grad = value

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for derivatives with respect to this tensor; in place. Returns the tensor.

        Raises
        ------
        GradientError
            For a dtype without derivatives, or to turn it off on a tensor that was computed from
            others (detach it instead).
        """
        node = node_of(self)
        if bool(requires_grad) == node.requires_grad:
            return self
        if requires_grad:
            if not node.dtype.is_differentiable:
                raise GradientError(
                    f"requires_grad_: only floating-point tensors can require gradients, got "
                    f"{node.dtype!r}; convert it first with .to(flatgrad.float32)"
                )
            if node.mark & INFERENCE and not modes.inference:
                raise GradientError(
                    "requires_grad_: Setting requires_grad=True on inference tensor outside "
                    "InferenceMode is not allowed; call it on a clone()"
                )
            fresh = variable(node) if node.value is None else leaf(node.value, node.dtype, True)
        else:
            if node.op is not LEAF:
                raise GradientError(
                    "requires_grad_: only leaf tensors can stop requiring gradients; this one was "
                    f"computed by {node.op.name}. Use .detach() for a tensor without history"
                )
            fresh = node.inputs[0] if node.inputs else leaf(node.value, node.dtype)
        fresh.mark |= node.mark & SHARED
        bind(self, fresh)
        return self

    @property
    def _version(self) -> int:
        """How often the memory behind this tensor was written in place."""
        return root_of(self)._writes

    @property
    def _is_view(self) -> bool:
        return self._base is not None


_new = object.__new__


def wrap(node: Node) -> Tensor:
    """A tensor that shows `node`. Where the user holds one already, that one stays its holder."""
    t = _new(Tensor)
    t._node = node
    if node.holder is None or not node.held:
        node.holder = _ref(t)
    return t


def root_of(t: Tensor) -> Tensor:
    """The tensor that owns the memory which `t` shows."""
    base = t._base
    if base is None:
        return t
    while base._base is not None:  # transpose_() and its kin made a view of what was a base
        base = base._base
    return base


def node_of(t: Tensor) -> Node:
    """The node that `t` shows now; a view whose base was written is brought up to date first."""
    base = t._base
    if base is None:
        return t._node
    if base._base is not None:
        base = t._base = root_of(base)
    node = base._node
    if node.mark & SHARED:
        seen = node = snapshot(node) if modes.pending >= 0 else node
    else:
        seen = base._writes
    if t._seen == seen:
        return t._node
    for op, attrs, grad in t._path:
        node = step(op, node, attrs, grad)
    old = t._node
    if old.op is LEAF and old.requires_grad and not node.requires_grad:
        node = variable(node)  # requires_grad_() on a detached view
    _show(t, node)
    t._seen = seen
    return node


def step(op: Op, node: Node, attrs: tuple, grad: bool) -> Node:
    shape, dtype = op.infer(node, *attrs)
    requires = grad and op.differentiable and node.requires_grad
    return Node(op, (node,), attrs, shape, dtype, requires)


def _show(t: Tensor, node: Node) -> None:
    """Let `t` show `node`; its hooks come along."""
    old = t._node
    if old.hooks is not None:
        late.rebound(t, old, node)
    t._node = node
    node.holder = _ref(t)


def method(*names: str):
    """Attach the decorated function to ``Tensor``, under its own name or `names`."""

    def attach(fn):
        for name in names or (fn.__name__,):
            setattr(Tensor, name, fn)
        return fn

    return attach


# -- recording ------------------------------------------------------------------------------------


def record(op: Op, inputs: tuple, attrs: tuple = ()) -> Tensor:
    """Apply `op` to tensors: shape and dtype are checked now, values are computed when needed."""
    nodes = tuple([node_of(t) for t in inputs])
    if op.arity < 0:
        shape, dtype = op.infer(nodes, *attrs)
    else:
        shape, dtype = op.infer(*nodes, *attrs)
    return make(op, nodes, attrs, shape, dtype)


def make(op: Op, nodes: tuple, attrs: tuple, shape, dtype) -> Tensor:
    """`record` for a caller that has inferred shape and dtype itself."""
    requires, depth = False, 0
    for node in nodes:
        if node.value is None and node.depth > depth:
            depth = node.depth
        if node.requires_grad:
            requires = modes.grad and op.differentiable
        if node.mark & _SPECIAL:
            nodes = _settled_inputs(op, nodes, attrs)
    if requires and op.outputs == 1:
        requires = dtype.category >= 2
    node = Node(op, nodes, attrs, shape, dtype, requires)
    node.depth = depth + 1
    if modes.watch:
        _watch(node)
    modes.pending += 1
    if modes.pending > PENDING_LIMIT or (depth > DEPTH_LIMIT and modes.pending > 0):
        late.flush(node)
    t = _new(Tensor)
    t._node = node
    node.holder = _ref(t)
    return t


_SPECIAL = SHARED | INFERENCE


def _settled_inputs(op: Op, nodes: tuple, attrs: tuple) -> tuple:
    """`nodes` with shared memory replaced by its present values.

    Raises
    ------
    GradientError
        If the derivative would need the value of a tensor that was made in inference mode.
    """
    if modes.grad and op.differentiable and any(n.requires_grad for n in nodes):
        for node in late.saves(op, nodes, attrs) if any(n.mark & INFERENCE for n in nodes) else ():
            if node.mark & INFERENCE:
                raise GradientError(
                    f"{op.name}: Inference tensors cannot be saved for backward, and the derivative of "
                    f"{op.name} needs this one's value; clone() it outside inference_mode() first"
                )
    if modes.pending < 0:  # a trace is no use of values: its calls will take them
        return nodes
    return tuple([snapshot(n) if n.mark & SHARED else n for n in nodes])


def _watch(node: Node) -> None:
    """What anomaly detection and inference mode note on each new node."""
    if modes.anomaly:
        node.where = user_line()
    if modes.inference:
        node.mark |= INFERENCE


def record_view(op: Op, t: Tensor, attrs: tuple) -> Tensor:
    """`record` for an op of one input whose result is a view of it."""
    node = node_of(t)
    shape, dtype = op.infer(node, *attrs)
    grad = modes.grad
    base = t if t._base is None else t._base
    tracing = modes.pending < 0
    if node.mark & SHARED and not tracing:
        node = snapshot(node)
    view = make(op, (node,), attrs, shape, dtype)
    known = node.value is not None and op.kind == "movement" and not tracing
    if known and not (node.requires_grad or modes.forward):
        # A part of known values is known: batches cut from a data set at different places are
        # inputs of one program, rather than a program for each place.
        value = op.numpy(node.value, *attrs)
        if value.flags.c_contiguous:
            view._node.value, view._node.inputs = value, ()
    view._base = base
    view._path = (*t._path, (op, attrs, grad))
    if t._several is not None:
        view._several = t._several
    if t is not base:
        view._seen = t._seen
    else:
        base._viewed = True
        view._seen = node if base._node.mark & SHARED else base._writes
    return view


def several(name: str, views: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """`views` of one tensor that `name` gives together: derivatives forbid to write to one of them."""
    for view in views:
        view._several = name
    return views


def record_outputs(op: Op, inputs: tuple, attrs: tuple = ()) -> tuple[Tensor, ...]:
    """`record` for an op with several outputs: one tensor each."""
    return outputs_of(record(op, inputs, attrs)._node)


def outputs_of(whole: Node) -> tuple[Tensor, ...]:
    """Tensors for the outputs of a node that has several."""
    out = []
    requires = whole.requires_grad
    for k, (shape, dtype) in enumerate(zip(whole.shape, whole.dtype, strict=True)):
        node = Node(PROJ, (whole,), (k,), shape, dtype, requires and dtype.category >= 2)
        out.append(wrap(node))
    return tuple(out)


def user_line() -> str:
    """``file:line`` of the innermost frame outside flatgrad."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "<unknown>"


# -- aliases, shared memory -----------------------------------------------------------------------

ALIAS = register(
    Op(
        "alias",
        "alias",
        1,
        (),
        infer=lambda x: (x.shape, x.dtype),
        numpy=lambda x: x,
        pullback=lambda g, out, x: (g,),
        pushforward=lambda ts, out, x: ts[0],
        write=lambda base, source: source,
        doc="Another node with the same value and derivative.",
    )
)

DETACH = register(
    Op(
        "detach",
        "alias",
        1,
        (),
        infer=lambda x: (x.shape, x.dtype),
        numpy=lambda x: x,
        differentiable=False,
        write=lambda base, source: source,
        doc="The same value; derivatives stop here.",
    )
)

_snapshots: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def snapshot(node: Node) -> Node:
    """A node with the present values of a leaf whose memory the user's own array shares.

    What is recorded now must not see what the user writes into the array later. While the array
    is unchanged the same snapshot serves (found by comparing), so that it is one input of a program.
    Once the user has let the array go, the leaf is an ordinary one again.
    """
    if sole_array(node):
        node.mark &= ~SHARED
        _snapshots.pop(node, None)
        return node
    taken = _snapshots.get(node)
    bits = f"u{node.dtype.itemsize}"  # compared as bits: NaN equals itself, -0.0 is not 0.0
    if taken is not None and np.array_equal(taken.value.view(bits), node.value.view(bits)):
        return taken
    value = node.value.copy()
    if node.requires_grad:
        taken = Node(ALIAS, (node,), (), node.shape, node.dtype, True, value)
    else:
        taken = leaf(value, node.dtype)
    _snapshots[node] = taken
    return taken


# -- in-place -------------------------------------------------------------------------------------


def bind(t: Tensor, node: Node) -> None:
    """Let `t` show `node` from now on; views of `t` will follow."""
    if modes.written is not None:
        modes.written.append((t, t._node))
    _show(t, node)
    if t._base is None:
        t._writes += 1
    else:
        root = root_of(t)
        t._seen = snapshot(root._node) if root._node.mark & SHARED else root._writes
