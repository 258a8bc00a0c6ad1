"""How an operation is declared: one helper a kind; what can be derived is derived here, once.

Each helper registers the ``Op``, publishes its function, attaches the tensor methods and returns
the public function, whose ``.op`` is the record. See CONTRIBUTING.md, "Add an op in five steps".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps

import numpy as np

from ..errors import ArgumentError, DTypeError, FlatgradError, ShapeError
from ..graph import dtypes
from ..graph.dtypes import BOOL, DType, combine, of_number, promote_types
from ..graph.modes import modes
from ..graph.node import NUMBER, Node, const
from ..graph.op import PUBLIC, BadCall, Op, Public, publish, register
from ..graph.shapes import broadcast
from ..tensor import ALIAS, Tensor, bind, late, make, node_of, record, wrap
from ..writing import assign

NUMBERS = (int, float, bool)


# -- operands -------------------------------------------------------------------------------------


def tensor_of(name: str, value, position: int = 0) -> Tensor:
    """`value` as a tensor; arrays and NumPy numbers are converted, anything else raises.

    Raises
    ------
    ArgumentError
        For a value that is not an array.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (np.ndarray, np.generic, *NUMBERS)):
        return late.convert(value)
    raise ArgumentError(
        f"{name}: argument {position} must be a Tensor, an array or a number, got "
        f"{type(value).__name__}; convert it with flatgrad.tensor"
    )


def operands(name: str, values: tuple) -> tuple[list, DType]:
    """Nodes (numbers stay numbers) and PyTorch's result type of `values`."""
    nodes: list = []
    dimensioned = zero_dim = number = None
    for k, value in enumerate(values):
        if isinstance(value, Tensor):
            node = node_of(value)
            nodes.append(node)
            if node.shape:
                dimensioned = (
                    node.dtype if dimensioned is None else promote_types(dimensioned, node.dtype)
                )
            elif node.mark & NUMBER:
                floating = node.dtype.is_floating_point
                kind = dtypes.get_default_dtype() if floating else node.dtype
                number = kind if number is None else promote_types(number, kind)
            else:
                zero_dim = node.dtype if zero_dim is None else promote_types(zero_dim, node.dtype)
            continue
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, NUMBERS):
            nodes.append(value)
            kind = of_number(value)
            number = kind if number is None else promote_types(number, kind)
            continue
        node = node_of(tensor_of(name, value, k))
        nodes.append(node)
        if node.shape:
            dimensioned = (
                node.dtype if dimensioned is None else promote_types(dimensioned, node.dtype)
            )
        else:
            zero_dim = node.dtype if zero_dim is None else promote_types(zero_dim, node.dtype)
    return nodes, combine(dimensioned, zero_dim, number)


def cast_node(node, dtype: DType) -> Node:
    """`node` (or a number) in `dtype`."""
    if type(node) is not Node:
        return const(node, dtype)
    if node.dtype is dtype:
        return node
    return make(CAST, (node,), (dtype,), node.shape, dtype)._node


def to_float(dtype: DType) -> DType:
    return dtype if dtype.category >= dtypes.FLOAT else dtypes.get_default_dtype()


# -- elementwise ----------------------------------------------------------------------------------


class Gate:
    """A partial derivative: `partial` where `condition` holds, 0 elsewhere, even against NaN."""

    __slots__ = ("condition", "partial")

    def __init__(self, condition: Tensor, partial: Tensor | float = 1):
        self.condition = condition
        self.partial = partial

    def __rmul__(self, g: Tensor) -> Tensor:
        from .selection import select

        return select(self.condition, scaled(g, self.partial), 0.0)


def scaled(g: Tensor, partial) -> Tensor:
    """Cotangent or tangent `g` times a partial derivative (a tensor, a number or a Gate)."""
    if type(partial) is Gate:
        return partial.__rmul__(g)
    if isinstance(partial, NUMBERS):
        if partial == 1:
            return g
        if partial == -1:
            return -g
        if partial == 0:
            from .creation import zeros_of

            return zeros_of(node_of(g))
    return g * partial


def sum_to(g: Tensor, shape: tuple) -> Tensor:
    """Undo broadcasting: sum `g` over the dimensions that `shape` was stretched along."""
    have = node_of(g).shape
    if have == shape:
        return g
    from .movement import reshape
    from .reduction import reduce_sum

    lead = len(have) - len(shape)
    dims = tuple(range(lead)) + tuple(
        k + lead for k, s in enumerate(shape) if s == 1 and have[k + lead] != 1
    )
    if dims:
        g = reduce_sum(g, dims)
    return reshape(g, shape)


def _elementwise_pullback(partials: tuple, arity: int) -> Callable:
    def pullback(g, out, *rest):
        inputs = rest[:arity]
        result = []
        for x, partial in zip(inputs, partials, strict=True):
            if partial is None or not x._node.requires_grad:
                result.append(None)
            else:
                value = partial(*inputs, out, *rest[arity:])
                result.append(sum_to(scaled(g, value), x._node.shape))
        return tuple(result)

    return pullback


def _elementwise_pushforward(partials: tuple, arity: int) -> Callable:
    def pushforward(tangents, out, *rest):
        inputs = rest[:arity]
        total = None
        for t, partial in zip(tangents, partials, strict=True):
            if t is None or partial is None:
                continue
            term = scaled(t, partial(*inputs, out, *rest[arity:]))
            total = term if total is None else total + term
        if total is not None and total._node.shape != out._node.shape:
            from .movement import expand

            total = expand(total, out._node.shape)
        return total

    return pushforward


# What the result's dtype is, and what the inputs are converted to before the loop.
RULES = ("promote", "float", "compare", "logical", "integer", "number", "where")


def elementwise_dtypes(name: str, rule: str, dtype: DType) -> tuple[DType, DType]:
    """(dtype the inputs are converted to, dtype of the result) under `rule`.

    Raises
    ------
    DTypeError
        If the rule has no meaning for `dtype`.
    """
    if rule in ("promote", "where"):
        return dtype, dtype
    if rule == "float":
        dtype = to_float(dtype)
        return dtype, dtype
    if rule == "compare":
        return dtype, dtypes.bool_
    if rule == "logical":
        return dtypes.bool_, dtypes.bool_
    if rule == "integer":
        if dtype.category > dtypes.INTEGER:
            raise DTypeError(
                f"{name}: integer or bool tensors are required, got {dtype!r}; convert with .to()"
            )
        return dtype, dtype
    if rule == "number":
        if dtype.category == BOOL:
            raise DTypeError(f"{name}: not defined for bool tensors; convert with .to() first")
        return dtype, dtype
    raise AssertionError(rule)


def elementwise(
    name: str,
    arity: int,
    *,
    numpy: Callable,
    scalar,
    partials: tuple = (),
    rule: str = "promote",
    domain: tuple = (),
    kinks: str = "",
    edges: tuple = (),
    doc: str = "",
    methods: tuple | None = None,
    ufuncs: tuple = (),
    torch: str | None = "",
    samples: Callable | None = None,
    errors: Callable | None = None,
    inplace: bool = True,
    public: bool = True,
    pullback: Callable | None = None,
    pushforward: Callable | None = None,
):
    """Declare a scalar function applied to every element of its broadcast inputs.

    Parameters
    ----------
    name : str
    arity : int
        Number of inputs.
    numpy : callable
        The meaning on arrays that already have the computing dtype.
    scalar : str or callable
        The loop's expression: the name of a scalar function (``"sin"``), or
        ``scalar(s, *xs) -> expression``, where `s` offers ``where call cast const`` and
        the operands have Python's operators.
    partials : tuple
        One an input: ``partial(*inputs, out) -> tensor, number or Gate``, or None. Empty if there
        is no derivative.
    rule : str
        How dtypes combine: see ``elementwise_dtypes``.
    public : bool
        False leaves the public face to a ``@composite(op=...)`` with more arguments.
    ufuncs : tuple
        NumPy ufuncs that record as this.
    torch : str or None
        The peer's dotted name; "" means the same name.
    """
    differentiable = bool(partials) or pullback is not None

    def infer(*nodes):
        _, result = elementwise_dtypes(name, rule, nodes[-1].dtype)
        return broadcast(name, *[n.shape for n in nodes]), result

    op = register(
        Op(
            name,
            "elementwise",
            arity,
            (),
            infer,
            numpy,
            pullback=pullback or (_elementwise_pullback(partials, arity) if partials else None),
            pushforward=pushforward
            or (_elementwise_pushforward(partials, arity) if partials else None),
            loop=scalar,
            domain=domain,
            kinks=kinks,
            edges=edges,
            doc=doc,
            differentiable=differentiable,
        )
    )

    if arity == 1:

        def function(input, *, out=None):
            node = node_of(input) if isinstance(input, Tensor) else node_of(tensor_of(name, input))
            compute, result = elementwise_dtypes(name, rule, node.dtype)
            if node.dtype is not compute:
                node = cast_node(node, compute)
            y = make(op, (node,), (), node.shape, result)
            return y if out is None else into(name, y, out)

    elif arity == 2:

        def function(input, other, *, out=None):
            if type(other) in NUMBERS and isinstance(input, Tensor):
                # The commonest case, kept short: a tensor and a number of no higher kind.
                a = node_of(input)
                if a.dtype.category >= (2 if type(other) is float else 1):
                    compute, result = elementwise_dtypes(name, rule, a.dtype)
                    if compute is a.dtype:
                        y = make(op, (a, const(other, compute)), (), a.shape, result)
                        return y if out is None else into(name, y, out)
            elif type(input) in NUMBERS and isinstance(other, Tensor):
                b = node_of(other)
                if b.dtype.category >= (2 if type(input) is float else 1):
                    compute, result = elementwise_dtypes(name, rule, b.dtype)
                    if compute is b.dtype:
                        y = make(op, (const(input, compute), b), (), b.shape, result)
                        return y if out is None else into(name, y, out)
            elif isinstance(other, Tensor) and isinstance(input, Tensor):
                a, b = node_of(input), node_of(other)
                if a.dtype is b.dtype:
                    compute, result = elementwise_dtypes(name, rule, a.dtype)
                    if compute is a.dtype:
                        shape = a.shape if a.shape == b.shape else broadcast(name, a.shape, b.shape)
                        y = make(op, (a, b), (), shape, result)
                        return y if out is None else into(name, y, out)
            y = apply_elementwise(op, rule, (input, other))
            return y if out is None else into(name, y, out)

    else:

        def function(*args, out=None):
            y = apply_elementwise(op, rule, args)
            return y if out is None else into(name, y, out)

    _dress(function, name, op, doc, kinks)
    if not public:
        return function
    if methods is None:
        methods = (name,)
    finish(
        Public(
            name,
            function,
            op,
            methods,
            tuple(ufuncs),
            samples,
            errors or (_operand_errors if arity == 2 else None),
            name if torch == "" else torch,
            differentiable,
        ),
        inplace=inplace and rule != "where",
    )
    return function


def _operand_errors():
    yield BadCall((np.ones((2, 3), np.int64), np.ones(2, np.int64)), ShapeError, "do not broadcast")
    yield BadCall((np.ones(2, np.int64), "x"), ArgumentError, "argument 1 must be a Tensor")


def apply_elementwise(op: Op, rule: str, args: tuple) -> Tensor:
    """Promote, convert and broadcast `args`, and record `op`."""
    if rule == "where":
        return _apply_where(op, args)
    nodes, dtype = operands(op.name, args)
    compute, result = elementwise_dtypes(op.name, rule, dtype)
    nodes = tuple([cast_node(n, compute) for n in nodes])
    return make(op, nodes, (), broadcast(op.name, *[n.shape for n in nodes]), result)


def _apply_where(op: Op, args: tuple) -> Tensor:
    condition = node_of(tensor_of(op.name, args[0]))
    if type(args[2]) in NUMBERS and isinstance(args[1], Tensor) and condition.dtype is dtypes.bool_:
        # The commonest case, kept short: a tensor where the condition holds, else a number.
        a, number = node_of(args[1]), args[2]
        if a.shape == condition.shape and a.dtype.category >= (2 if type(number) is float else 1):
            return make(op, (condition, a, const(number, a.dtype)), (), a.shape, a.dtype)
    nodes, dtype = operands(op.name, args[1:])
    nodes = (cast_node(condition, dtypes.bool_), *[cast_node(n, dtype) for n in nodes])
    return make(op, nodes, (), broadcast(op.name, *[n.shape for n in nodes]), dtype)


def into(name: str, result: Tensor, out: Tensor) -> Tensor:
    """Write `result` to the ``out=`` argument, as PyTorch: shapes must agree, dtype is converted.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError
        If `out` is no tensor, needs a gradient, or cannot hold the result.
    """
    from .movement import fit_inplace

    if not isinstance(out, Tensor):
        raise ArgumentError(f"{name}: out must be a Tensor, got {type(out).__name__}")
    if modes.grad and (result._node.requires_grad or out.requires_grad):
        raise ArgumentError(
            f"{name}: out=... arguments don't support automatic differentiation, but one of the "
            "arguments requires grad; call it without out"
        )
    target, shape = node_of(out), node_of(result).shape
    if target.shape != shape and 0 in target.shape and out._base is None:
        # PyTorch resizes an empty out, the idiom for "allocate it".
        room = wrap(const(0, target.dtype, shape))
        bind(out, node_of(record(ALIAS, (fit_inplace(name, room, result),))))
        return out
    return assign(name, out, fit_inplace(name, out, result, exact=True))


# -- the derived faces ----------------------------------------------------------------------------


def _dress(function: Callable, name: str, op: Op, doc: str, kinks: str) -> None:
    function.__name__ = function.__qualname__ = name
    function.op = op
    text = doc or f"{name} of each element."
    if kinks:
        text += f"\n\nGradient at kinks: {kinks}"
    function.__doc__ = text


def finish(public: Public, *, inplace: bool = False) -> Public:
    """Publish, and attach the methods (and the in-place methods ``name_``)."""
    publish(public)
    for name in public.methods:
        setattr(Tensor, name, public.function)
        if inplace:
            setattr(Tensor, name + "_", inplace_method(name, public.function))
    return public


def inplace_method(name: str, function: Callable) -> Callable:
    """``t.name_(...)``: ``t`` shows ``function(t, ...)``, which must fit its shape and dtype."""

    def method(self, *args, **kwargs):
        from .movement import fit_inplace

        result = function(self, *args, **kwargs)
        return assign(name + "_", self, fit_inplace(name + "_", self, result))

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"In-place :func:`flatgrad.{name}`. Returns the tensor."
    return method


def alias(name: str, *others: str) -> None:
    """Publish the function `name` under `others` too, with the same methods, samples and errors."""
    known = PUBLIC[name]
    inplace = hasattr(Tensor, name + "_")
    for other in others:
        methods = (other,) if known.methods else ()
        torch = known.torch and other
        finish(replace(known, name=other, methods=methods, numpy=(), torch=torch), inplace=inplace)


# What Python and NumPy raise when a function is given what it was not made for.
_PLAIN_ERRORS = (TypeError, ValueError, IndexError, KeyError, AttributeError, OverflowError)


def guarded(name: str, function: Callable) -> Callable:
    """`function` for the user: an argument that it did not foresee raises ArgumentError too."""

    @wraps(function)
    def public(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except FlatgradError:
            raise
        except _PLAIN_ERRORS as error:
            kinds = [type(a).__name__ for a in args]
            kinds += [f"{key}={type(a).__name__}" for key, a in kwargs.items()]
            raise ArgumentError(
                f"{name}: {error}; it was called with ({', '.join(kinds)}), "
                f"see help(flatgrad.{name})"
            ) from error

    return public


def composite(
    name: str | None = None,
    *,
    methods: tuple | None = None,
    numpy: tuple = (),
    samples: Callable | None = None,
    errors: Callable | None = None,
    torch: str | None = "",
    inplace: bool = False,
    differentiable: bool = True,
    op: Op | None = None,
):
    """Publish a plain function over other operations (or the face of primitive `op`).

    `methods` None attaches a method of the same name; () attaches none. The user's face is
    `guarded`; other operations call the plain function.
    """

    def publish_it(function: Callable) -> Callable:
        public_name = name or function.__name__
        function.op = op
        finish(
            Public(
                public_name,
                guarded(public_name, function),
                op,
                (public_name.rpartition(".")[2],) if methods is None else methods,
                tuple(numpy),
                samples,
                errors,
                public_name if torch == "" else torch,
                differentiable,
            ),
            inplace=inplace,
        )
        return function

    return publish_it


def primitive(
    name: str,
    kind: str,
    arity: int,
    attrs: tuple,
    *,
    infer: Callable,
    numpy: Callable,
    pullback: Callable | None = None,
    pushforward: Callable | None = None,
    loop=None,
    write: Callable | None = None,
    outputs: int = 1,
    doc: str = "",
    kinks: str = "",
) -> Op:
    """Declare an operation that is not elementwise; its face is a ``@composite(op=...)`` function."""
    return register(
        Op(
            name,
            kind,
            arity,
            attrs,
            infer,
            numpy,
            pullback=pullback,
            pushforward=pushforward,
            loop=loop,
            write=write,
            outputs=outputs,
            doc=doc,
            kinks=kinks,
            differentiable=pullback is not None,
        )
    )


def linear(ts: tuple, fn: Callable) -> Tensor | None:
    """The pushforward of a map that is linear in its one differentiable input."""
    return None if ts[0] is None else fn(ts[0])


# -- conversion -----------------------------------------------------------------------------------


def _cast_numpy(x, dtype):
    with np.errstate(all="ignore"):
        return x.astype(dtype.np)


CAST = register(
    Op(
        "cast",
        "elementwise",
        1,
        ("dtype",),
        infer=lambda x, dtype: (x.shape, dtype),
        numpy=_cast_numpy,
        pullback=lambda g, out, x, dtype: (
            wrap(cast_node(node_of(g), x.dtype)) if x.dtype.is_differentiable else None,
        ),
        pushforward=lambda ts, out, x, dtype: (
            wrap(cast_node(node_of(ts[0]), dtype)) if dtype.is_differentiable else None
        ),
        loop="cast",
        doc="Conversion to another dtype; floats to integers truncate towards zero.",
    )
)


def cast(t: Tensor, dtype: DType) -> Tensor:
    """`t` in `dtype` (itself if it has it already)."""
    node = node_of(t)
    if node.dtype is dtype:
        return t
    return record(CAST, (t,), (dtype,))
