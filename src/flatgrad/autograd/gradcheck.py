"""gradcheck and gradgradcheck: derivatives against finite differences.

The finite differences are independent of everything else: central differences in float64 of values
computed by the interpreter, node by node, never by a compiled program.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from ..errors import ArgumentError, GradientError
from ..graph import dtypes
from ..graph.node import leaf, toposort
from ..program import interpret
from ..tensor import Tensor, node_of, wrap
from ..transform.pushforward import pushforward
from .engine import grad
from .modes import enable_grad

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class GradcheckError(GradientError):
    """A derivative disagrees with finite differences; the message shows both Jacobians."""


def gradcheck(
    func: Callable,
    inputs,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_ad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Check the derivatives of ``func(*inputs)`` against central finite differences.

    Parameters
    ----------
    func : callable
        Takes the inputs, returns a Tensor or a sequence of them.
    inputs : Tensor or tuple
        Tensors that require grad should be float64, and away from kinks.
    eps : float
        Step of the differences.
    atol, rtol : float
        Tolerances: ``|a - n| <= atol + rtol * |n|`` for each element.
    raise_exception : bool
        False returns False instead of raising.
    nondet_tol : float
        How much two runs of backward may differ.
    check_undefined_grad : bool
        With several outputs: a cotangent of None must act as one of zeros.
    check_grad_dtypes : bool
        Gradients must have their inputs' dtype.
    check_batched_grad, check_batched_forward_ad : bool
        Also compare a batch of cotangents (tangents) with one at a time.
    check_forward_ad, check_backward_ad : bool
        Which modes are checked.
    fast_mode : bool
        Compare in one random direction instead of the whole Jacobian.
    masked : bool, optional
        Accepted for PyTorch's signature; there are no sparse tensors.

    Returns
    -------
    bool

    Raises
    ------
    GradcheckError
        If a derivative is wrong, or nothing could be learned: the outputs are not finite.
    ArgumentError
        If no input requires grad.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.tensor([0.5, 1.5], dtype=fg.float64, requires_grad=True)
    >>> fg.autograd.gradcheck(lambda x: x * x * x, (x,))
    True
    """
    check = _Check(func, inputs, eps, atol, rtol)
    try:
        check.finite_outputs()
        if not check.differentiable:
            check.constant()
            return True
        if check_backward_ad:
            check.jacobians("reverse", check.reverse, fast_mode)
            check.repeatable(nondet_tol)
            if check_undefined_grad:
                check.undefined()
            if check_grad_dtypes:
                check.dtypes()
            if check_batched_grad:
                check.batched()
        if check_forward_ad or check_batched_forward_ad:
            check.jacobians("forward", check.forward, fast_mode)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable,
    inputs,
    grad_outputs=None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Check second derivatives: :func:`gradcheck` of the gradient of ``func``.

    Parameters are :func:`gradcheck`'s, and

    grad_outputs : Tensor or sequence of Tensor, optional
        The cotangents at which the gradient is taken; random if not given. They are differentiated
        too.
    check_fwd_over_rev, check_rev_over_rev : bool
        Which modes differentiate the gradient.

    Returns
    -------
    bool

    Raises
    ------
    GradcheckError, ArgumentError
        As :func:`gradcheck`.
    """
    inputs = _tuple(inputs)
    with enable_grad():
        outputs = [t for t in _tuple(func(*inputs)) if _is_float(t) and t.requires_grad]
    if not outputs:
        raise GradcheckError("gradgradcheck: no output of the function requires grad")
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        seeds = tuple(
            _leaf(rng.uniform(0.1, 1.1, tuple(t.shape)).astype(t.dtype.np), True) for t in outputs
        )
    else:
        seeds = _tuple(grad_outputs)
    count = len(inputs)

    def gradient(*args):
        given, cotangents = args[:count], args[count:]
        results = [t for t in _tuple(func(*given)) if _is_float(t) and t.requires_grad]
        needed = [t for t in given if _is_float(t) and t.requires_grad]
        found = grad(results, needed, cotangents, create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(
        gradient,
        (*inputs, *seeds),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad,
        check_forward_ad=check_fwd_over_rev,
        check_backward_ad=check_rev_over_rev,
        fast_mode=fast_mode,
        masked=masked,
    )


def _tuple(items) -> tuple:
    return (
        (items,)
        if isinstance(items, Tensor) or not isinstance(items, (tuple, list))
        else tuple(items)
    )


def _is_float(t) -> bool:
    return isinstance(t, Tensor) and t.dtype.is_differentiable


def _leaf(array: np.ndarray, requires_grad: bool = False) -> Tensor:
    return wrap(leaf(array, dtypes.as_dtype(array.dtype), requires_grad))


def interpreted(tensors) -> list[np.ndarray]:
    """The values of `tensors` by the interpreter alone; nothing is stored in the graph."""
    nodes = [node_of(t) for t in tensors]
    order = toposort(nodes, stop=lambda n: n.value is not None)
    values = {n: n.value for n in order if n.value is not None}
    interpret.run(order, values)
    return [np.array(values[n]) for n in nodes]


class _Check:
    """One gradcheck: the function, its inputs as arrays, and the pieces of the comparison."""

    def __init__(self, func, inputs, eps, atol, rtol):
        self.func = func
        self.inputs = _tuple(inputs)
        self.eps, self.atol, self.rtol = eps, atol, rtol
        self.wanted = [k for k, t in enumerate(self.inputs) if _is_float(t) and t.requires_grad]
        if not self.wanted:
            raise ArgumentError(
                "gradcheck: gradcheck expects at least one input tensor to require gradient, but "
                "none "
                "of them have requires_grad=True"
            )
        for k in self.wanted:
            if self.inputs[k].dtype is not dtypes.float64:
                warnings.warn(
                    f"gradcheck: Input #{k} requires gradient and is not a double precision "
                    "floating "
                    "point tensor; finite differences will be too rough: make it float64",
                    UserWarning,
                    stacklevel=4,
                )
        self.arrays = {k: interpreted([self.inputs[k]])[0] for k in self.wanted}
        outputs = self.call({})
        self.shapes = [tuple(t.shape) for t in outputs]
        self.needs = [t.requires_grad for t in outputs]
        self.values = interpreted(outputs)
        self.rng = np.random.default_rng(0)

    @property
    def differentiable(self) -> bool:
        return any(self.needs)

    def arguments(self, changed: dict) -> list:
        """Fresh leaves for the differentiated inputs, with some arrays changed."""
        args = list(self.inputs)
        for k in self.wanted:
            args[k] = _leaf(changed.get(k, self.arrays[k]).copy(), True)
        return args

    def call(self, changed: dict) -> list[Tensor]:
        """The floating outputs."""
        return self._results(self.arguments(changed))

    def _results(self, args) -> list[Tensor]:
        with enable_grad():
            return [t for t in _tuple(self.func(*args)) if _is_float(t)]

    # -- the two sides ----------------------------------------------------------------------------

    def finite_outputs(self) -> None:
        """Refuse to compare where nothing can be learned: NaN agrees with NaN."""
        if not self.values:
            raise GradcheckError(
                "gradcheck: the function returned no floating-point tensor, so there is nothing "
                "to check"
            )
        for k, value in enumerate(self.values):
            if not np.isfinite(value).all():
                at = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
                raise GradcheckError(
                    f"gradcheck: output {k} is {value[at]} at index {at}, where no difference "
                    "can be "
                    "formed; choose inputs inside the function's domain"
                )

    def numerical(self, k: int) -> list[np.ndarray]:
        """Jacobians (input elements, output elements) of every output by input `k`."""
        x = self.arrays[k]
        rows = [np.empty((x.size, v.size)) for v in self.values]
        for i in range(x.size):
            direction = np.zeros(x.size)
            direction[i] = 1.0
            for row, column in zip(
                rows, self.difference({k: direction.reshape(x.shape)}), strict=True
            ):
                row[i] = column.ravel()
        return rows

    def difference(self, directions: dict) -> list[np.ndarray]:
        """Central differences of the outputs along ``{input: direction}``."""
        ends = []
        for sign in (1.0, -1.0):
            moved = {}
            for k, direction in directions.items():
                x = self.arrays[k]
                moved[k] = (x + sign * self.eps * direction).astype(x.dtype)
            ends.append(interpreted(self.call(moved)))
        if [v.shape for v in ends[0]] != [v.shape for v in ends[1]]:
            raise GradcheckError(
                "gradcheck: the shapes of the outputs depend on the inputs' values"
            )
        return [
            (a.astype(np.float64) - b.astype(np.float64)) / (2 * self.eps)
            for a, b in zip(*ends, strict=True)
        ]

    def cotangents(self, outputs, args, seeds) -> list[np.ndarray]:
        """J^T seeds for each differentiated input, by reverse mode."""
        pairs = [
            (t, s) for t, s in zip(outputs, seeds, strict=True) if t.requires_grad and s is not None
        ]
        needed = [args[k] for k in self.wanted]
        found = grad(
            [t for t, _ in pairs],
            needed,
            [_leaf(s) for _, s in pairs],
            retain_graph=True,
            allow_unused=True,
        )
        for t, g in zip(needed, found, strict=True):
            if g is not None and g.shape != t.shape:
                raise GradcheckError(
                    f"gradcheck: a gradient of shape {tuple(g.shape)} for an input of "
                    f"{tuple(t.shape)}"
                )
        got = iter(interpreted([g for g in found if g is not None]))
        return [
            np.zeros(tuple(t.shape)) if g is None else next(got)
            for t, g in zip(needed, found, strict=True)
        ]

    def tangents(self, outputs, args, directions: dict) -> list[np.ndarray]:
        """J directions for each output, by forward mode."""
        with enable_grad():
            found = pushforward(
                [node_of(t) for t in outputs],
                [node_of(args[k]) for k in directions],
                [_leaf(d.astype(self.arrays[k].dtype)) for k, d in directions.items()],
            )
        got = iter(interpreted([t for t in found if t is not None]))
        return [
            np.zeros(shape) if t is None else next(got)
            for t, shape in zip(found, self.shapes, strict=True)
        ]

    def reverse(self) -> list[list[np.ndarray]]:
        """Jacobians[input][output] by reverse mode."""
        args = self.arguments({})
        outputs = self._results(args)
        table = [
            [np.zeros((self.arrays[k].size, v.size)) for v in self.values] for k in self.wanted
        ]
        for o, value in enumerate(self.values):
            if not self.needs[o]:
                continue
            for j in range(value.size):
                seeds: list = [None] * len(outputs)
                seeds[o] = np.zeros(value.shape, value.dtype)
                seeds[o].flat[j] = 1.0
                for row, g in zip(table, self.cotangents(outputs, args, seeds), strict=True):
                    row[o][:, j] = g.ravel()
        return table

    def forward(self) -> list[list[np.ndarray]]:
        """Jacobians[input][output] by forward mode."""
        args = self.arguments({})
        outputs = self._results(args)
        table = []
        for k in self.wanted:
            x = self.arrays[k]
            rows = [np.zeros((x.size, v.size)) for v in self.values]
            for i in range(x.size):
                direction = np.zeros(x.shape)
                direction.flat[i] = 1.0
                for row, t in zip(rows, self.tangents(outputs, args, {k: direction}), strict=True):
                    row[i] = t.ravel()
            table.append(rows)
        return table

    # -- comparisons ------------------------------------------------------------------------------

    def close(self, analytical, numerical) -> bool:
        return np.allclose(analytical, numerical, rtol=self.rtol, atol=self.atol, equal_nan=False)

    def jacobians(self, mode: str, analytical: Callable, fast: bool) -> None:
        """Compare whole Jacobians, or in fast mode one random direction each way."""
        if fast:
            self._directional(mode)
            return
        table = analytical()
        for rows, k in zip(table, self.wanted, strict=True):
            for o, numerical in enumerate(self.numerical(k)):
                if not self.close(rows[o], numerical):
                    raise GradcheckError(_mismatch(mode, o, k, rows[o], numerical))

    def _directional(self, mode: str) -> None:
        args = self.arguments({})
        outputs = self._results(args)
        seeds = [self.rng.uniform(0.5, 1.5, v.shape).astype(v.dtype) for v in self.values]
        for position, k in enumerate(self.wanted):
            direction = self.rng.standard_normal(self.arrays[k].shape)
            norm = np.linalg.norm(direction)
            direction = direction / norm if norm else direction
            difference = self.difference({k: direction})
            if mode == "reverse":
                numerical = sum(np.vdot(s, d) for s, d in zip(seeds, difference, strict=True))
                analytical = np.vdot(self.cotangents(outputs, args, seeds)[position], direction)
                if not self.close(analytical, numerical):
                    raise GradcheckError(
                        _mismatch("reverse (one direction)", 0, k, analytical, numerical)
                    )
                continue
            found = self.tangents(outputs, args, {k: direction})
            for o, (analytical, numerical) in enumerate(zip(found, difference, strict=True)):
                if not self.close(analytical, numerical):
                    raise GradcheckError(
                        _mismatch("forward (one direction)", o, k, analytical, numerical)
                    )

    def constant(self) -> None:
        """No output requires grad: then the function must be constant."""
        for k in self.wanted:
            for o, numerical in enumerate(self.numerical(k)):
                if not self.close(np.zeros_like(numerical), numerical):
                    raise GradcheckError(
                        "gradcheck: Numerical gradient for function expected to be zero: output "
                        f"{o} "
                        f"does not require grad, but depends on input {k}:\n{numerical}"
                    )

    def repeatable(self, tolerance: float) -> None:
        """Two backward passes must agree to `tolerance`."""
        args = self.arguments({})
        outputs = self._results(args)
        seeds = [np.ones(v.shape, v.dtype) for v in self.values]
        first, second = (self.cotangents(outputs, args, seeds) for _ in range(2))
        for k, a, b in zip(self.wanted, first, second, strict=True):
            if np.abs(a - b).max(initial=0.0) > tolerance:
                raise GradcheckError(
                    "gradcheck: Backward is not reentrant, i.e., running backward with same "
                    "input and "
                    f"grad_output multiple times gives different values: input {k}, greatest "
                    "difference "
                    f"{np.abs(a - b).max()}, nondet_tol {tolerance}"
                )

    def undefined(self) -> None:
        """Without a cotangent an output must contribute what a cotangent of zeros does."""
        if sum(self.needs) < 2:
            return
        args = self.arguments({})
        outputs = self._results(args)
        for o, need in enumerate(self.needs):
            if not need:
                continue
            ones = [np.ones(v.shape, v.dtype) for v in self.values]
            zeroed = [np.zeros_like(s) if k == o else s for k, s in enumerate(ones)]
            missing = [None if k == o else s for k, s in enumerate(ones)]
            for k, a, b in zip(
                self.wanted,
                self.cotangents(outputs, args, zeroed),
                self.cotangents(outputs, args, missing),
                strict=True,
            ):
                if not self.close(a, b):
                    raise GradcheckError(
                        "gradcheck: Expected backward function to handle undefined output grads: "
                        "input "
                        f"{k} gets {b} without a gradient of output {o}, {a} with zeros"
                    )

    def dtypes(self) -> None:
        """Gradients must have their inputs' dtype."""
        args = self.arguments({})
        outputs = [t for t in self._results(args) if t.requires_grad]
        needed = [args[k] for k in self.wanted]
        seeds = [_leaf(np.ones(tuple(t.shape), t.dtype.np)) for t in outputs]
        for k, t, g in zip(
            self.wanted, needed, grad(outputs, needed, seeds, allow_unused=True), strict=True
        ):
            if g is not None and g.dtype is not t.dtype:
                raise GradcheckError(
                    f"gradcheck: the gradient of input {k} is {g.dtype!r}, the input {t.dtype!r}"
                )

    def batched(self) -> None:
        """A batch of two cotangents must give what the two give one at a time."""
        args = self.arguments({})
        outputs = [t for t in self._results(args) if t.requires_grad]
        needed = [args[k] for k in self.wanted]
        seeds = [self.rng.uniform(0.5, 1.5, (2, *t.shape)).astype(t.dtype.np) for t in outputs]
        whole = grad(
            outputs,
            needed,
            [_leaf(s) for s in seeds],
            retain_graph=True,
            is_grads_batched=True,
            materialize_grads=True,
        )
        for b in range(2):
            single = grad(
                outputs,
                needed,
                [_leaf(s[b]) for s in seeds],
                retain_graph=True,
                materialize_grads=True,
            )
            for k, a, n in zip(self.wanted, interpreted(whole), interpreted(single), strict=True):
                if not np.allclose(a[b], n):
                    raise GradcheckError(
                        f"gradcheck: a batch of gradients differs from single ones for input {k}:\n"
                        f"{a[b]}\n{n}"
                    )


def _mismatch(mode: str, output: int, position: int, analytical, numerical) -> str:
    difference = np.abs(np.asarray(analytical) - numerical)
    worst = "NaN" if np.isnan(difference).any() else f"{difference.max():.3g}"
    return (
        f"gradcheck: Jacobian mismatch for output {output} with respect to input {position} "
        f"({mode} "
        f"mode), greatest difference {worst}; rows are the input's elements\n"
        f"numerical:\n{numerical}\nanalytical:\n{analytical}"
    )
