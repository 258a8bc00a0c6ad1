"""``Parameter``: a leaf tensor that a module counts among its parameters."""

from __future__ import annotations

import weakref

import numpy as np

from ..errors import ArgumentError, GradientError
from ..graph.dtypes import float32
from ..graph.node import leaf
from ..tensor import Tensor, late, node_of


class Parameter(Tensor):
    """A tensor that a :class:`Module` registers when it is assigned to an attribute.

    Parameters
    ----------
    data : Tensor, shape (*S), optional
        Its values; default an empty tensor.
    requires_grad : bool

    Raises
    ------
    ArgumentError
        If `data` is no tensor.
    GradientError
        If it is to require grad and its dtype has no derivatives.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.Parameter(fg.ones(2))
    Parameter containing:
    tensor([1., 1.], requires_grad=True)
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True):
        if data is None:
            node = leaf(np.zeros(0, np.float32), float32)
        elif isinstance(data, Tensor):
            node = node_of(data)
        else:
            raise ArgumentError(
                f"Parameter: a Tensor is required, got {type(data).__name__}; "
                "convert it with flatgrad.tensor"
            )
        if requires_grad and not node.dtype.is_differentiable:
            raise GradientError(
                "Parameter: only floating-point tensors can require gradients, got "
                f"{node.dtype!r}; give requires_grad=False or convert it"
            )
        late.evaluate([node])
        t = object.__new__(cls)
        # A memory of its own, so that it can be handed out by numpy() without another copy.
        t._node = leaf(node.value.copy(), node.dtype, bool(requires_grad))
        t._node.holder = weakref.ref(t)
        return t

    def __init__(self, data=None, requires_grad: bool = True):
        """Everything is done by ``__new__``; a Tensor's own ``__init__`` refuses direct calls."""

    def __repr__(self) -> str:
        return "Parameter containing:\n" + Tensor.__repr__(self)
