"""``backward`` and ``grad``: PyTorch's faces over the pullback.

Nothing is computed here: gradients are recorded and evaluated, with the forward pass, when the
first of their values is needed. Plain graphs take the cached pullback (``cached.py``); those with
hooks, custom functions, anomaly detection or ``create_graph`` are differentiated rule by rule.
"""

from __future__ import annotations

import warnings

import numpy as np

from ..errors import ArgumentError, GradientError, ShapeError, TraceError, UnsupportedError
from ..graph.modes import modes
from ..graph.node import DIRECT, FREED, LEAF, Node, const, placeholder
from ..graph.shapes import numel
from ..ops.creation import zeros_of
from ..ops.declare import cast
from ..tensor import ALIAS, Tensor, demand, late, make, method, node_of, wrap
from ..transform.batch import batched, everywhere
from ..transform.call import call
from ..transform.pullback import differentiable_order, pullback
from ..transform.trace import close, intern, quiet
from .anomaly import Detective
from .cached import NODE_LIMIT, Survey, cached_pullback
from .hooks import run_hooks, run_post_hooks
from .modes import set_grad_enabled

__all__ = ["backward", "grad"]


def backward(
    tensors,
    grad_tensors=None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables=None,
    inputs=None,
) -> None:
    """Accumulate the gradients of `tensors` into the ``.grad`` of the leaves they depend on.

    Parameters
    ----------
    tensors : Tensor or sequence of Tensor
    grad_tensors : Tensor, None or sequence of them, optional
        The cotangent of each tensor, of its shape. May be None for a tensor of one element (then
        1).
    retain_graph : bool, optional
        Keep what a second backward needs; default `create_graph`.
    create_graph : bool
        Let the gradients be differentiable themselves.
    inputs : Tensor or sequence of Tensor, optional
        Accumulate into these only, leaves or not.

    Raises
    ------
    GradientError
        If a tensor requires no grad, if a cotangent is missing, or if the graph was freed.
    ShapeError
        If a cotangent has another shape than its tensor.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.tensor([1.0, 2.0], requires_grad=True)
    >>> fg.autograd.backward((x * x).sum())
    >>> x.grad
    tensor([2., 4.])
    """
    if grad_variables is not None:
        if grad_tensors is not None:
            raise GradientError(
                "backward: both grad_tensors and grad_variables were given; the latter is "
                "deprecated: give grad_tensors only"
            )
        warnings.warn(
            "backward: grad_variables is deprecated, use grad_tensors", FutureWarning, stacklevel=2
        )
        grad_tensors = grad_variables
    tensors = _sequence("backward", tensors)
    if inputs is not None:
        inputs = _sequence("backward", inputs)
        if not inputs:
            raise ArgumentError(
                "backward: `inputs` argument to `backward()` cannot be empty; leave it out to "
                "reach "
                "every leaf"
            )
        for t in inputs:
            _check_input("backward", t)
            if not t.is_leaf:
                t.retain_grad()
    roots, seeds = _prepare("backward", tensors, _grads_of(grad_tensors, len(tensors)))
    wanted = None
    if inputs is not None:
        wanted = [node_of(t) for t in dict.fromkeys(inputs)]
        wanted += _earlier(roots, inputs)
    retain = create_graph if retain_graph is None else retain_graph
    wanted, found = _differentiate(roots, seeds, wanted, retain, create_graph)
    demand(*roots)  # the loss, in the program of the gradients and not in one of its own
    for node, g in zip(wanted, found, strict=True):
        if g is not None and node.op is LEAF:
            _accumulate(node, g, create_graph)


def grad(
    outputs,
    inputs,
    grad_outputs=None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` with respect to `inputs`; no ``.grad`` is touched.

    Parameters
    ----------
    outputs, inputs : Tensor or sequence of Tensor
        Inputs may be leaves or results on the way.
    grad_outputs : Tensor, None or sequence of them, optional
        The cotangent of each output, of its shape. May be None for an output of one element (then
        1).
    retain_graph : bool, optional
        Keep what a second differentiation needs; default `create_graph`.
    create_graph : bool
        Let the gradients be differentiable themselves.
    only_inputs : bool
        As PyTorch, must be True.
    allow_unused : bool, optional
        Give None for an input that the outputs do not depend on, instead of raising.
    is_grads_batched : bool
        The first dimension of each of `grad_outputs` counts cotangents, and that of each result
        too.
    materialize_grads : bool
        Give zeros for unused inputs.

    Returns
    -------
    tuple of (Tensor or None)
        One an input, of its shape and dtype.

    Raises
    ------
    GradientError
        If an output or input requires no grad, an input is unused, a cotangent is missing, or the
        graph was freed.
    ShapeError
        If a cotangent has another shape than its output.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.tensor([2.0], requires_grad=True)
    >>> fg.autograd.grad(x * x * x, x)
    (tensor([12.]),)
    """
    if materialize_grads and allow_unused is False:
        raise ArgumentError(
            "grad: Expected allow_unused to be True or not passed when materialize_grads=True, but "
            "got: allow_unused=False; zeros take the place of unused gradients"
        )
    if not only_inputs:
        warnings.warn(
            "grad: only_inputs is deprecated and ignored; use backward() to accumulate in leaves",
            FutureWarning,
            stacklevel=2,
        )
    outputs = _sequence("grad", outputs)
    inputs = _sequence("grad", inputs)
    if not inputs:
        raise ArgumentError(
            "grad: `inputs` argument to `grad()` cannot be empty; name the tensors to "
            "differentiate by"
        )
    for t in inputs:
        _check_input("grad", t)
    given = _grads_of(grad_outputs, len(outputs))
    retain = create_graph if retain_graph is None else retain_graph
    if is_grads_batched:
        results = _batched(outputs, inputs, given, retain, create_graph)
    else:
        roots, seeds = _prepare("grad", outputs, given)
        wanted = [node_of(t) for t in inputs]
        earlier = _earlier(roots, inputs)
        _, results = _differentiate(roots, seeds, [*wanted, *earlier], retain, create_graph)
        results = _joined(inputs, results, earlier)
    return tuple(
        _unused(t, k, g, allow_unused, materialize_grads)
        for k, (t, g) in enumerate(zip(inputs, results, strict=True))
    )


def _unused(t: Tensor, position: int, g, allow_unused, materialize: bool):
    if g is not None:
        return g
    if materialize:
        return wrap(const(0, t.dtype, node_of(t).shape))
    if not allow_unused:
        raise GradientError(
            f"grad: The differentiated Tensor at index {position} (shape {tuple(t.shape)}) "
            "appears to "
            "not have been used in the graph of the outputs. Set allow_unused=True to get None "
            "for it"
        )
    return None


# -- arguments ------------------------------------------------------------------------------------


def _sequence(name: str, tensors) -> list:
    items = [tensors] if isinstance(tensors, Tensor) else tensors
    if not isinstance(items, (list, tuple)):
        try:
            items = list(items)
        except TypeError:
            raise ArgumentError(
                f"{name}: a Tensor or a sequence of Tensors is required, got "
                f"{type(tensors).__name__}"
            ) from None
    for t in items:
        if not isinstance(t, Tensor):
            raise ArgumentError(
                f"{name}: all inputs have to be Tensors, but got {type(t).__name__}"
            )
    return list(items)


def _grads_of(grads, count: int) -> list:
    if grads is None:
        return [None] * count
    if isinstance(grads, Tensor):
        grads = [grads]
    elif not isinstance(grads, (list, tuple)):
        raise ArgumentError(
            f"backward: gradients can be either Tensors or None, but got {type(grads).__name__}"
        )
    if len(grads) != count:
        raise ArgumentError(
            f"backward: got {count} tensors and {len(grads)} gradients; give one gradient (or "
            "None) each"
        )
    return list(grads)


def _check_input(name: str, t: Tensor) -> None:
    if not node_of(t).requires_grad:
        raise GradientError(
            f"{name}: One of the differentiated Tensors does not require grad (shape "
            f"{tuple(t.shape)}, {t.dtype!r}); call requires_grad_() on it before using it"
        )


def _prepare(name: str, tensors, grads) -> tuple[list[Node], list[Node | None]]:
    """The roots and their seeds (None is one), checked."""
    roots: list[Node] = []
    seeds: list[Node | None] = []
    for k, (t, g) in enumerate(zip(tensors, grads, strict=True)):
        root = node_of(t)
        if g is None:
            if not root.requires_grad:
                raise _no_history(name, k, root)
            if numel(root.shape) != 1:
                raise GradientError(
                    f"{name}: grad can be implicitly created only for scalar outputs, but output "
                    f"{k} "
                    f"has shape {root.shape}; reduce it (sum, mean) or give a gradient of its shape"
                )
            seeds.append(None)
        else:
            if not isinstance(g, Tensor):
                raise ArgumentError(
                    f"{name}: gradients can be either Tensors or None, but got {type(g).__name__}"
                )
            if node_of(g).shape != root.shape:
                raise ShapeError(
                    f"{name}: Mismatch in shape: grad_output[{k}] has a shape of "
                    f"{tuple(g.shape)} and "
                    f"output[{k}] has a shape of {root.shape}; they must be equal"
                )
            if not root.requires_grad:
                raise _no_history(name, k, root)
            seeds.append(node_of(g if g.dtype is root.dtype else cast(g, root.dtype)))
        roots.append(root)
    return roots, seeds


def _earlier(roots, inputs) -> dict[Node, Tensor]:
    """The leaves below `roots` that an input showed when they were recorded, before it was written.

    A leaf updated under ``no_grad`` shows another node from then on, and is the same variable still.
    """
    written = [t for t in inputs if t._writes and t._node.op is LEAF]
    if not written:
        return {}
    mine = {id(t) for t in written}
    now = {t._node for t in written}
    found = {}
    for node in differentiable_order(roots):
        if node.op is LEAF and node not in now and node.holder is not None:
            holder = node.holder()
            if id(holder) in mine:
                found[node] = holder
    return found


def _joined(inputs, results, earlier: dict[Node, Tensor]) -> list:
    """One gradient an input: those of the leaves it showed before are added to its own."""
    joined = list(results[: len(inputs)])
    for holder, g in zip(earlier.values(), results[len(inputs) :], strict=True):
        for k, t in enumerate(inputs):
            if t is holder and g is not None:
                joined[k] = g if joined[k] is None else joined[k] + g
    return joined


def _no_history(name: str, position: int, root: Node) -> GradientError:
    why = (
        "integer and bool tensors have no derivative"
        if not root.dtype.is_differentiable
        else "no input of it had requires_grad=True, or it was made under no_grad() or detached"
    )
    return GradientError(
        f"{name}: element {position} of tensors does not require grad and does not have a "
        f"grad_fn: {why}"
    )


# -- differentiating ------------------------------------------------------------------------------


def _differentiate(roots, seeds, wanted, retain: bool, create: bool):
    """(wanted nodes, their cotangents as new tensors or None). `wanted` None means every leaf."""
    if not create and not modes.anomaly and roots:
        survey = Survey(roots)
        if not survey.marks & (DIRECT | FREED) and len(survey.nodes) <= NODE_LIMIT:
            if wanted is None:
                wanted = survey.leaves
            nodes = cached_pullback(survey, roots, seeds, wanted, keep=retain)
            demand(*[node for node in nodes if node is not None])
            return wanted, [None if node is None else wrap(node) for node in nodes]
    return _direct(roots, seeds, wanted, retain, create)


def _direct(roots, seeds, wanted, retain: bool, create: bool):
    if wanted is None:
        wanted = [n for n in differentiable_order(roots) if n.op.kind in ("leaf", "input")]
    saved: list[Node] = []
    detective = Detective(roots) if modes.anomaly else None
    with set_grad_enabled(create):
        starts = []
        for root, seed in zip(roots, seeds, strict=True):
            if seed is None:
                seed = const(1, root.dtype, root.shape)
            starts.append(_alias(seed))
        found = pullback(
            roots,
            wanted,
            starts,
            visit=run_hooks,
            check=None if detective is None else detective.check,
            saved=None if retain else saved,
        )
        results = [None if t is None else _own(t) for t in found]
    _free(saved)
    for t in results:
        if t is not None:
            demand(t._node)
    return wanted, results


def _free(nodes) -> None:
    """Let go of what the rules of `nodes` needed; a second backward through one raises."""
    for node in nodes:
        if node.op.kind == "custom":
            node.attrs[0].free()
        else:
            node.mark |= FREED
            if node.value is not None:
                node.inputs = ()


def _alias(node: Node) -> Tensor:
    """A tensor of its own for a node that the user may hold."""
    return make(ALIAS, (node,), (), node.shape, node.dtype)


def _own(t: Tensor) -> Tensor:
    """`t`, or an alias of it: no two gradients may be one tensor that a write in place changes."""
    return _alias(node_of(t))


def _batched(outputs, inputs, given, retain: bool, create: bool):
    """The gradients for every cotangent of a batch, stacked."""
    count = _batch_size(outputs, given)
    wanted = [node_of(t) for t in inputs]
    if not count:
        return [wrap(const(0, n.dtype, (0, *n.shape))) for n in wanted]
    if not modes.anomaly:
        try:
            return _at_once(outputs, wanted, given, retain, create, count)
        except (TraceError, UnsupportedError):
            pass  # a custom function that asks for values, for example
    return _one_by_one(outputs, wanted, given, retain, create, count)


def _batch_size(outputs, given) -> int | None:
    count = None
    for t, g in zip(outputs, given, strict=True):
        if g is None or not isinstance(g, Tensor) or tuple(g.shape)[1:] != tuple(t.shape):
            have = None if g is None else tuple(g.shape)
            raise ShapeError(
                "grad: If `is_grads_batched=True`, we interpret the first dimension of each "
                "grad_output "
                f"as the batch dimension; a shape of (N, {', '.join(map(str, t.shape))}) is "
                "required, "
                f"got {have}"
            )
        if count not in (None, g.shape[0]):
            raise ShapeError(
                f"grad: is_grads_batched needs batches of equal size, got {count} and {g.shape[0]}"
            )
        count = g.shape[0]
    return count


def _at_once(outputs, wanted, given, retain: bool, create: bool, count: int):
    """One differentiation for a cotangent without a value; its graph is batched."""
    nodes = [node_of(t) for t in outputs]
    holes = [placeholder(k, n.shape, n.dtype) for k, n in enumerate(nodes)]
    with quiet(grad=create):
        roots, seeds = _prepare("grad", outputs, [wrap(n) for n in holes])
        found = _differentiate(roots, seeds, wanted, retain, create)[1]
    reached = [k for k, t in enumerate(found) if t is not None]
    results: list[Tensor | None] = [None] * len(wanted)
    if not reached:
        return results
    graph, captured = close(holes, [node_of(found[k]) for k in reached], "gradients", exact=True)
    flags = (True,) * len(holes) + (False,) * len(captured)
    many = batched(intern(graph), flags, count)
    with set_grad_enabled(create):
        seeds = [cast(g, n.dtype) for g, n in zip(given, nodes, strict=True)]
        made = call(many.graph, [*seeds, *[wrap(n) for n in captured], *many.extra])
        for k, t, flag in zip(reached, made, many.flags, strict=True):
            results[k] = everywhere(t, flag, count)
            demand(results[k]._node)
    return results


def _one_by_one(outputs, wanted, given, retain: bool, create: bool, count: int):
    from ..graph.op import PUBLIC

    rows = []
    for b in range(count):
        roots, seeds = _prepare("grad", outputs, [g[b] for g in given])
        last = b == count - 1
        rows.append(_differentiate(roots, seeds, wanted, retain or not last, create)[1])
    stack = PUBLIC["stack"].function
    results = []
    for k, n in enumerate(wanted):
        parts = [row[k] for row in rows]
        if all(p is None for p in parts):
            results.append(None)
        else:
            results.append(stack([zeros_of(n) if p is None else p for p in parts]))
    return results


# -- accumulation ---------------------------------------------------------------------------------


def _accumulate(node: Node, g: Tensor, create: bool) -> None:
    """Add `g` to the leaf's ``.grad``, in place unless the sum is to be differentiable."""
    t = node.holder() if node.holder is not None else None
    if t is None:
        return
    have = t._grad
    if have is None:
        t._grad = g
    elif create:
        t._grad = have + g
    else:
        with set_grad_enabled(False):
            have.add_(g)
        demand(node_of(have))
    if t._post_hooks:
        run_post_hooks(t)


@method("backward")
def _backward(self, gradient=None, retain_graph=None, create_graph=False, inputs=None) -> None:
    """Accumulate the gradients of this tensor into the leaves' ``.grad``.

    See :func:`flatgrad.autograd.backward`; `gradient` is the cotangent of this tensor's shape.
    """
    if gradient is not None and not isinstance(gradient, Tensor):
        if not isinstance(gradient, (np.ndarray, np.generic)):
            raise ArgumentError(
                "backward: gradients can be either Tensors or None, but got "
                f"{type(gradient).__name__}"
            )
        gradient = late.convert(gradient)
    backward((self,), (gradient,), retain_graph, create_graph, inputs=inputs)
