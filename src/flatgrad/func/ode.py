"""``odeint``: initial value problems by Runge-Kutta, whose steps are loops of the graph.

Derivatives are those of the very steps that were made (the discrete adjoint), in both modes. How long the
steps are is decided without being differentiated.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph.dtypes import int64, promote_types
from ..graph.node import const
from ..ops.declare import cast
from ..ops.elementwise import maximum, minimum
from ..ops.joining import cat, stack
from ..ops.selection import select
from ..ops.transcendental import sqrt
from ..tensor import Tensor, node_of, wrap
from .control import bounded_loop, scan
from .traced import tensors_of
from .tree import flatten, unflatten

__all__ = ["odeint"]

# Dormand and Prince 1980: stages, the weights of order 5, and their difference to those of order 4.
# (Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, table II.5.2.)
NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def odeint(
    f: Callable,
    y0,
    t,
    *params,
    method: str = "dopri5",
    substeps: int = 1,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    max_steps: int = 1000,
):
    """The solution of ``y' = f(y, t, *params)`` at the times `t`, from ``y = y0`` at ``t[0]``.

    Parameters
    ----------
    f : callable
        ``f(y, t, *params) -> y'``, a tree like `y`. It is traced; what it closes over is differentiated too.
    y0 : pytree of floating-point tensors
    t : tensor, array or list of numbers, shape (T,)
        Times, ascending or descending; T at least 1.
    *params : pytrees
        Handed to `f`.
    method : {"dopri5", "rk4"}
        Dormand and Prince's method of order 5 with steps as long as the tolerances allow, or the
        classical one of order 4 with `substeps` equal steps between two times.
    substeps : int
        For ``"rk4"``.
    rtol, atol : float
        For ``"dopri5"``: the error of a step is kept below ``atol + rtol * |y|``, in the root mean
        square over all of `y`.
    max_steps : int
        For ``"dopri5"``: at most so many steps, rejected ones included, between two times. Reverse mode
        keeps the state before each.

    Returns
    -------
    pytree
        Like `y0`, with a new first dimension of length T.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError
        For unknown methods, times that are no vector, or an `f` whose result is not like `y`.
    LoopError
        When it runs, if `max_steps` don't suffice.

    Examples
    --------
    >>> import flatgrad as fg
    >>> rate = fg.tensor(0.5, dtype=fg.float64, requires_grad=True)
    >>> y = fg.odeint(lambda y, t, r: -r * y, 2.0, fg.tensor([0.0, 1.0, 2.0]), rate)
    >>> y
    tensor([2.0000, 1.2131, 0.7358], dtype=flatgrad.float64,
           grad_fn=<CatBackward0>)
    >>> fg.autograd.grad(y[-1], rate)  # -4 exp(-2 r)
    (tensor(-1.4715, dtype=flatgrad.float64),)
    """
    if method not in ("dopri5", "rk4"):
        raise ArgumentError(f"odeint: method must be 'dopri5' or 'rk4', got {method!r}")
    for value, name in ((substeps, "substeps"), (max_steps, "max_steps")):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ArgumentError(f"odeint: {name} must be a positive int, got {value!r}")
    for value, name in ((rtol, "rtol"), (atol, "atol")):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
            raise ArgumentError(f"odeint: {name} must be a number >= 0, got {value!r}")
    times = _times(t)
    problem = Problem(f, y0, times, params)
    first = [y.unsqueeze(0) for y in problem.start]
    if node_of(times).shape[0] == 1:
        return unflatten(problem.spec, first)
    step = problem.fixed(substeps) if method == "rk4" else problem.adaptive(rtol, atol, max_steps)
    rows = step(problem.times[:-1], problem.times[1:])
    return unflatten(problem.spec, [cat(pair) for pair in zip(first, rows, strict=True)])


def _times(t) -> Tensor:
    if isinstance(t, (list, tuple)) and all(isinstance(x, (int, float)) for x in t):
        t = np.asarray(t, float)
    tensors, _ = tensors_of("odeint", "t", t)
    if len(tensors) != 1 or len(node_of(tensors[0]).shape) != 1 or not node_of(tensors[0]).shape[0]:
        shapes = [tuple(x.shape) for x in tensors]
        raise ShapeError(
            f"odeint: t must be a vector of at least one time, got shapes {shapes}; give a tensor of times"
        )
    return tensors[0]


class Problem:
    """`f` over flat lists of leaves in one floating-point dtype."""

    def __init__(self, f: Callable, y0, times: Tensor, params: tuple):
        leaves, self.spec = tensors_of("odeint", "y0", y0)
        if not leaves:
            raise ArgumentError("odeint: y0 holds no numbers; give the state at t[0]")
        kind = times.dtype if times.dtype.is_floating_point else leaves[0].dtype
        for leaf in leaves:
            kind = promote_types(kind, leaf.dtype)
        for leaf in flatten(params)[0]:
            if isinstance(leaf, (Tensor, np.ndarray)) and np.ndim(leaf) == 0:
                (leaf,), _ = tensors_of("odeint", "params", leaf)
                kind = promote_types(kind, leaf.dtype) if leaf.dtype.is_floating_point else kind
        if not kind.is_floating_point:
            raise DTypeError(
                f"odeint: y0 must be of a floating-point dtype, got {kind!r}; give 1.0 instead of 1"
            )
        self.kind = kind
        self.start = [cast(leaf, kind) for leaf in leaves]
        self.times = cast(times, kind)
        self.f, self.params = f, params

    def slope(self, ys: list, t: Tensor) -> list[Tensor]:
        """``f`` of leaves.

        Raises
        ------
        ArgumentError, ShapeError
            If the result is not like `y`.
        """
        result = self.f(unflatten(self.spec, ys), t, *self.params)
        tensors, spec = tensors_of("odeint", "the result of f", result)
        if spec != self.spec:
            raise ArgumentError(
                f"odeint: f must return a tree like y, {self.spec}, got {spec}; return a slope for each part"
            )
        for y, k in zip(ys, tensors, strict=True):
            if node_of(y).shape != node_of(k).shape:
                raise ShapeError(
                    f"odeint: f must return slopes of the shapes of y, {node_of(y).shape} is required, got "
                    f"{node_of(k).shape}; expand the slope"
                )
        return [cast(k, self.kind) for k in tensors]

    # -- fixed steps ------------------------------------------------------------------------------

    def fixed(self, substeps: int):
        def step(ys, t, h):
            k1 = self.slope(ys, t)
            k2 = self.slope(_moved(ys, (h * 0.5, k1)), t + h * 0.5)
            k3 = self.slope(_moved(ys, (h * 0.5, k2)), t + h * 0.5)
            k4 = self.slope(_moved(ys, (h, k3)), t + h)
            return _moved(ys, (h / 6, k1), (h / 3, k2), (h / 3, k3), (h / 6, k4))

        def interval(ys, ends):
            t, h = ends[0], (ends[1] - ends[0]) / substeps

            def one(state, _):
                at, ys = state
                return (at + h, step(ys, at, h)), None

            new = step(ys, t, h) if substeps == 1 else scan(one, (t, ys), length=substeps)[0][1]
            return new, new

        return lambda before, after: scan(interval, self.start, (before, after))[1]

    # -- steps as long as the tolerances allow ----------------------------------------------------

    def adaptive(self, rtol: float, atol: float, max_steps: int):
        def interval(carry, ends):
            ys, h = carry
            t, end = ends
            message = (
                f"odeint: more than max_steps={max_steps} steps are needed between two times; give "
                "more, larger tolerances, or more times"
            )
            going = wrap(const(1, int64))
            state = (t, ys, self.slope(ys, t), minimum(h, (end - t).abs()), going)
            found = bounded_loop(
                lambda s: s[4] > 0,
                lambda s: self._try(s, end, rtol, atol),
                state,
                max_steps,
                message,
            )
            return (found[1], found[3]), found[1]

        def run(before, after):
            h = self._first_step(rtol, atol)
            return scan(interval, (self.start, h), (before, after))[1]

        return run

    def _first_step(self, rtol: float, atol: float) -> Tensor:
        """A length for the first step: a hundredth of the time in which `y` would double."""
        ys = [y.detach() for y in self.start]
        slopes = self.slope(ys, self.times[0].detach())
        scale = [y.abs() * rtol + atol for y in ys]
        size, speed = _norm(ys, scale), _norm(slopes, scale)
        length = select((size > 1e-5) & (speed > 1e-5), size / speed, 1e-4)
        span = (self.times[1] - self.times[0]).abs()
        return minimum(length * 0.01, span).detach()

    def _try(self, state, end: Tensor, rtol: float, atol: float):
        """One step of Dormand and Prince, kept if its error is small enough."""
        t, ys, k1, length, _ = state
        rest = end - t
        last = (rest.abs() <= length * (1 + 1e-12)).detach()
        # The last step reaches the end exactly, and follows it where the end is differentiated.
        h = select(last, rest, length.detach() * rest.sign().detach())
        ks = [k1]
        for node, weights in zip(NODES[1:], STAGES[1:], strict=True):
            point = _moved(ys, *[(h * w, k) for w, k in zip(weights, ks, strict=True) if w])
            ks.append(self.slope(point, t + h * node))
        new, k7 = point, ks[-1]
        error = [
            sum(h.detach() * w * k[j].detach() for w, k in zip(ERROR, ks, strict=True) if w)
            for j in range(len(ys))
        ]
        scale = [
            maximum(a.detach().abs(), b.detach().abs()) * rtol + atol
            for a, b in zip(ys, new, strict=True)
        ]
        size = _norm(error, scale)
        good = size <= 1.0
        factor = 0.9 * maximum(size, 1e-10) ** -0.2
        factor = select(good, minimum(factor, 10.0), maximum(factor, 0.2))
        factor = select(size == size, factor, 0.2)  # an overflow on the way: a shorter step
        done = good & last
        # After the last step, cut short by the end, the length that was planned goes on.
        planned = select(
            done, maximum(length, h.detach().abs() * factor), h.detach().abs() * factor
        )
        keep = [select(good, b, a) for a, b in zip(ys, new, strict=True)]
        slopes = [select(good, b, a) for a, b in zip(k1, k7, strict=True)]
        at = select(good, select(last, end, t + h), t)
        return at, keep, slopes, planned, select(done, 0, wrap(const(1, int64)))


def _moved(ys: list, *terms) -> list[Tensor]:
    """``y + sum of h * k``, leaf by leaf."""
    out = []
    for j, y in enumerate(ys):
        total = y
        for h, k in terms:
            total = total + h * k[j]
        out.append(total)
    return out


def _norm(parts, scale) -> Tensor:
    """The root mean square of all parts over their scale."""
    sums = [((p / s) ** 2).sum() for p, s in zip(parts, scale, strict=True)]
    count = sum(int(np.prod(node_of(p).shape)) for p in parts)
    return sqrt(stack(sums).sum() / max(count, 1))
