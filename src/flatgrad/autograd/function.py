"""``autograd.Function``: operations with a derivative of the user's own."""

from __future__ import annotations

from ..errors import ArgumentError, GradientError, ShapeError
from ..graph.modes import modes
from ..graph.node import DIRECT, PROJ, SHARED, Node, const
from ..graph.op import Op, register
from ..ops.declare import cast, sum_to
from ..tensor import ALIAS, Tensor, bind, make, node_of, snapshot, user_line, wrap
from ..transform.pushforward import transposed
from .modes import no_grad, set_grad_enabled

__all__ = ["Context", "Function", "Variable", "once_differentiable"]


class Context:
    """``ctx`` of a :class:`Function`: what forward hands to backward. Any attribute may be set.

    Attributes
    ----------
    needs_input_grad : tuple of bool
        One an argument of ``apply``.
    """

    def __init__(self, function: type):
        self._function = function
        self._saved: tuple = ()
        self._forward_saved: tuple = ()
        self._freed = False
        self._dirty: tuple = ()
        self._plain: tuple = ()
        self._materialize = True
        self.needs_input_grad: tuple[bool, ...] = ()

    @property
    def name(self) -> str:
        return self._function.__name__

    def save_for_backward(self, *tensors) -> None:
        """Keep tensors (or None) for backward, with the values that they have now.

        Raises
        ------
        ArgumentError
            For anything else; keep that as an attribute of ``ctx``.
        """
        self._saved = self._nodes_of("save_for_backward", tensors)

    def save_for_forward(self, *tensors) -> None:
        """Keep tensors (or None) for ``jvp``."""
        self._forward_saved = self._nodes_of("save_for_forward", tensors)

    def _nodes_of(self, name: str, tensors) -> tuple:
        nodes = []
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise ArgumentError(
                    f"{self.name}: {name} can only save Tensors and None, got "
                    f"{type(t).__name__}; set "
                    "other things as attributes: ctx.name = value"
                )
            node = None if t is None else node_of(t)
            nodes.append(snapshot(node) if node is not None and node.mark & SHARED else node)
        return tuple(nodes)

    @property
    def saved_tensors(self) -> tuple:
        """What ``save_for_backward`` kept (in ``jvp``, what ``save_for_forward`` kept).

        Raises
        ------
        GradientError
            After a backward without ``retain_graph`` has freed them.
        """
        if self._freed:
            raise GradientError(
                f"{self.name}: Trying to backward through the graph a second time: its saved "
                "tensors "
                "were freed by the first backward() or grad(); pass retain_graph=True to the "
                "first call"
            )
        return tuple(None if n is None else _shown(n) for n in self._saved or self._forward_saved)

    def mark_non_differentiable(self, *tensors) -> None:
        """Outputs that have no derivative."""
        self._plain = tuple(tensors)

    def mark_dirty(self, *tensors) -> None:
        """Inputs that forward has written in place; they must be among the outputs."""
        self._dirty = tuple(tensors)

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros (the default) or None for an output without gradient."""
        self._materialize = bool(value)

    def free(self) -> None:
        """Let the saved tensors go."""
        if self._saved:
            self._freed = True
            self._saved = ()


def _shown(node: Node) -> Tensor:
    """A handle beside the user's own."""
    holder = node.holder
    t = wrap(node)
    if holder is not None:
        node.holder = holder
    return t


class Function:
    """Base of operations with a derivative of the user's own; call ``apply``.

    Give it static methods ``forward(ctx, *args)``, or ``forward(*args)`` and
    ``setup_context(ctx, inputs, output)``; ``backward(ctx, *grads)`` that returns one gradient (or
    None) an argument; and for forward mode, if it should not be derived from ``backward``,
    ``jvp(ctx, *tangents)``.

    Examples
    --------
    >>> import flatgrad as fg
    >>> class Cube(fg.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return g * 3 * x * x
    >>> x = fg.tensor([2.0], requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor([12.])
    """

    def __call__(self, *args, **kwargs):
        raise GradientError(
            f"{type(self).__name__}: a Function is not called; use {type(self).__name__}.apply(...)"
        )

    @staticmethod
    def forward(*args, **kwargs):
        """The operation on tensors; recorded without derivatives."""
        raise GradientError("You must implement the forward function for custom autograd.Function")

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple, output):
        """Called after a forward without ``ctx``: save what backward needs."""
        raise GradientError("setup_context is not implemented for this autograd.Function")

    @staticmethod
    def backward(ctx: Context, *grads):
        """Gradients of the arguments, given those of the outputs."""
        raise GradientError(
            f"{ctx.name}: You must implement the backward method for your custom "
            "autograd.Function to "
            "use it with backward mode AD"
        )

    @staticmethod
    def jvp(ctx: Context, *tangents):
        """Tangents of the outputs, given those of the arguments (None for no tangent)."""
        raise GradientError(f"{ctx.name}: You must implement jvp to call it")

    @classmethod
    def apply(cls, *args):
        """Run forward on `args` and record it with this derivative.

        Returns
        -------
        Tensor, or what forward returned with each tensor of it recorded.
        """
        ctx = Context(cls)
        tensors = [a for a in args if isinstance(a, Tensor)]
        before = [node_of(t) for t in tensors]
        before = [snapshot(n) if n.mark & SHARED else n for n in before]
        needs = tuple([isinstance(a, Tensor) and a.requires_grad for a in args])
        ctx.needs_input_grad = needs
        with no_grad():
            if cls.setup_context is Function.setup_context:
                outputs = cls.forward(ctx, *args)
            else:
                outputs = cls.forward(*args)
                cls.setup_context(ctx, args, outputs)
        ctx._where = [k for k, a in enumerate(args) if isinstance(a, Tensor)]
        requires = modes.grad and any(needs)
        return _record(ctx, tensors, before, outputs, requires or modes.forward, requires)


def _record(ctx: Context, tensors, before, outputs, differentiable: bool, grad: bool):
    several = isinstance(outputs, tuple)
    items = outputs if several else (outputs,)
    chosen = [k for k, t in enumerate(items) if isinstance(t, Tensor)]
    for t in ctx._dirty:
        if not any(t is item for item in items):
            raise GradientError(
                f"{ctx.name}: a tensor that was marked dirty must be returned by forward, as the "
                "output"
            )
    if not chosen:
        return outputs
    plain = {id(t) for t in ctx._plain}
    dirty = {id(t) for t in ctx._dirty}
    given = {id(t) for t in tensors}
    results = [node_of(items[k]) for k in chosen]
    results = [snapshot(n) if n.mark & SHARED else n for n in results]
    shown = list(items)
    if not differentiable:
        for k, node in zip(chosen, results, strict=True):
            if id(items[k]) in given - dirty:
                shown[k] = make(ALIAS, (node,), (), node.shape, node.dtype)
        return tuple(shown) if several else shown[0]
    whole = Node(
        CUSTOM,
        (*before, *results),
        (ctx,),
        tuple([n.shape for n in results]),
        tuple([n.dtype for n in results]),
        grad,
    )
    whole.mark |= DIRECT
    if modes.anomaly:
        whole.where = user_line()
    projected: dict[Node, Node] = {}
    for position, (k, result) in enumerate(zip(chosen, results, strict=True)):
        requires = grad and result.dtype.is_differentiable and id(items[k]) not in plain
        node = Node(PROJ, (whole,), (position,), result.shape, result.dtype, requires)
        projected[result] = node
        if id(items[k]) in dirty:
            bind(items[k], node)
        else:
            shown[k] = wrap(node)
    inputs = set(before)
    ctx._saved = tuple([_connected(n, projected, inputs) for n in ctx._saved])
    ctx._forward_saved = tuple([_connected(n, projected, inputs) for n in ctx._forward_saved])
    return tuple(shown) if several else shown[0]


def _connected(node: Node | None, projected: dict, inputs: set) -> Node | None:
    """A saved output as the recorded output, so that second derivatives go through it."""
    return node if node in inputs else projected.get(node, node)


# -- the operation --------------------------------------------------------------------------------


def _infer(nodes, ctx):
    raise AssertionError("custom: recorded by Function.apply alone")


def _pullback(g, out, inputs, ctx: Context) -> tuple:
    count = len(inputs) - len(out)
    if ctx._materialize:
        g = [
            wrap(const(0, t.dtype, t._node.shape)) if c is None else c
            for c, t in zip(g, out, strict=True)
        ]
    grads = ctx._function.backward(ctx, *g)
    if not isinstance(grads, tuple):
        grads = tuple(grads) if isinstance(grads, list) else (grads,)
    expected = len(ctx.needs_input_grad)
    if len(grads) < expected or any(x is not None for x in grads[expected:]):
        raise GradientError(
            f"backward: function {ctx.name}Backward returned an incorrect number of gradients "
            f"(expected {expected}, got {len(grads)}): one an argument of apply, None where "
            "there is none"
        )
    result = []
    for k, grad in enumerate(grads[:expected]):
        if k in ctx._where:
            at = len(result)
            needed = ctx.needs_input_grad[k]
            result.append(_fitted(ctx, k, grad, inputs[at]) if needed else None)
        elif grad is not None:
            raise GradientError(
                f"backward: function {ctx.name}Backward returned a gradient different than None at "
                f"position {k + 1}, but the corresponding forward input was not a Tensor"
            )
    return (*result[:count], *[None] * len(out))


def _fitted(ctx: Context, position: int, grad, x: Tensor) -> Tensor | None:
    """`grad` with the shape and dtype of input `x`; broadcast dimensions are summed."""
    if grad is None:
        return None
    if not isinstance(grad, Tensor):
        raise ArgumentError(
            f"backward: function {ctx.name}Backward: expected Tensor or None at position "
            f"{position}, "
            f"got {type(grad).__name__}"
        )
    have, need = node_of(grad).shape, x._node.shape
    if have != need:
        lead = len(have) - len(need)
        fits = lead >= 0 and all(n in (1, h) for n, h in zip(need, have[lead:], strict=True))
        if not fits:
            raise ShapeError(
                f"backward: Function {ctx.name}Backward returned an invalid gradient at index "
                f"{position} - got {list(have)} but expected shape compatible with {list(need)}"
            )
        grad = sum_to(grad, need)
    return cast(grad, x.dtype)


def _pushforward(tangents, out, inputs, ctx: Context):
    if ctx._function.jvp is Function.jvp:
        return transposed(CUSTOM, tangents, out, inputs, (ctx,))
    given = dict(zip(ctx._where, tangents, strict=False))
    found = ctx._function.jvp(ctx, *[given.get(k) for k in range(len(ctx.needs_input_grad))])
    found = found if isinstance(found, tuple) else (found,)
    if len(found) != len(out):
        raise GradientError(
            f"pushforward: {ctx.name}.jvp must return one tangent an output ({len(out)}), got "
            f"{len(found)}"
        )
    for t, o in zip(found, out, strict=True):
        if t is not None and node_of(t).shape != o._node.shape:
            raise ShapeError(
                f"pushforward: {ctx.name}.jvp returned a tangent of shape {tuple(t.shape)} for "
                "an output "
                f"of shape {o._node.shape}"
            )
    return found


CUSTOM = register(
    Op(
        "custom",
        "custom",
        -1,
        ("ctx",),
        infer=_infer,
        numpy=lambda arrays, ctx: tuple(arrays[len(ctx._where) :]),
        pullback=_pullback,
        pushforward=_pushforward,
        loop=lambda node, k: len(node.attrs[0]._where) + k,
        outputs=-1,
        doc="A Function's outputs: its last inputs. ``loop(node, k)`` is the place of the k-th.",
    )
)


# -- once differentiable --------------------------------------------------------------------------


def _refuse(g, out, inputs, name):
    raise GradientError(
        "backward: trying to differentiate twice a function that was marked with "
        "@once_differentiable: "
        f"{name}; write its backward with differentiable operations and take the mark away"
    )


ONCE = register(
    Op(
        "once_differentiable",
        "alias",
        -1,
        ("name",),
        infer=lambda nodes, name: (nodes[0].shape, nodes[0].dtype),
        numpy=lambda arrays, name: arrays[0],
        pullback=_refuse,
        pushforward=lambda ts, out, inputs, name: _refuse(ts, out, inputs, name),
        doc="The first input; differentiating it raises.",
    )
)


def once_differentiable(function):
    """Mark a ``Function.backward`` that cannot be differentiated again: trying raises."""

    def backward(ctx: Context, *grads):
        with no_grad():
            found = function(ctx, *grads)
        if not modes.grad:
            return found
        origins = [node_of(g) for g in grads if g is not None and g.requires_grad]
        if not ctx._freed:
            origins += [n for n in ctx._saved if n is not None and n.requires_grad]
        if not origins:
            return found
        with set_grad_enabled(True):
            items = found if isinstance(found, tuple) else (found,)
            refused = tuple([_refusing(t, origins, ctx.name) for t in items])
        return refused if isinstance(found, tuple) else refused[0]

    backward.__wrapped__ = function
    return backward


def _refusing(t, origins, name: str):
    if not isinstance(t, Tensor):
        return t
    node = node_of(t)
    return make(ONCE, (node, *origins), (name,), node.shape, node.dtype)


def Variable(data, requires_grad: bool = False, volatile: bool = False) -> Tensor:
    """The tensor itself, as in PyTorch since Variables and tensors are one.

    Parameters
    ----------
    data : Tensor
    requires_grad : bool
    volatile : bool
        Ignored, as in PyTorch.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.autograd.Variable(fg.tensor([2.0]), requires_grad=True)
    >>> (x * x).backward()
    >>> x.grad
    tensor([4.])
    """
    if not isinstance(data, Tensor):
        raise ArgumentError(f"Variable: a Tensor is required, got {type(data).__name__}")
    fresh = data.detach()
    return fresh.requires_grad_() if requires_grad else fresh
