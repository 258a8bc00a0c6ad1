"""Anomaly detection: where the first NaN came from, forward and backward, with the user's line."""

from __future__ import annotations

import numpy as np

from ..errors import GradientError
from ..graph.modes import modes
from ..graph.node import Node, toposort
from ..tensor import late, node_of
from .modes import _Mode

__all__ = ["detect_anomaly", "set_detect_anomaly"]


class set_detect_anomaly(_Mode):
    """Switch anomaly detection by a flag: at once, and until the ``with`` is left if it is one.

    Parameters
    ----------
    mode : bool
    check_nan : bool
        Whether ``backward`` raises at the first NaN; else only lines are noted.
    """

    def __init__(self, mode: bool, check_nan: bool = True):
        self._before = modes.anomaly, modes.anomaly_nan, modes.watch
        self._arguments = bool(mode), bool(check_nan)
        self._switch()

    def _switch(self) -> None:
        modes.anomaly, modes.anomaly_nan = self._arguments
        modes.watch = modes.anomaly or modes.inference

    def _fresh(self) -> _Mode:
        return set_detect_anomaly(*self._arguments)

    def __call__(self, function):
        self.__exit__()
        return super().__call__(function)

    def __enter__(self) -> None:
        self._switch()

    def __exit__(self, *exc) -> None:
        modes.anomaly, modes.anomaly_nan, modes.watch = self._before


class detect_anomaly(set_detect_anomaly):
    """Note the user's line of each operation; let ``backward`` raise where the first NaN arises.

    The message names the backward rule, the line of its operation, the input and the first bad
    index, and also the first operation of the forward pass that made a NaN or infinity of finite
    inputs. It is slow: values are computed one by one. For finding errors only.

    Parameters
    ----------
    check_nan : bool
        Whether ``backward`` raises at the first NaN.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.tensor([0.0], requires_grad=True)
    >>> with fg.autograd.detect_anomaly():
    ...     y = (x / x).sum()
    ...     y.backward()  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    flatgrad.errors.GradientError: ...
    """

    def __init__(self, check_nan: bool = True):
        self._before = modes.anomaly, modes.anomaly_nan, modes.watch
        self._arguments = True, bool(check_nan)

    def _fresh(self) -> _Mode:
        return detect_anomaly(self._arguments[1])

    def __call__(self, function):
        return _Mode.__call__(self, function)

    def __enter__(self) -> None:
        self._before = modes.anomaly, modes.anomaly_nan, modes.watch
        self._switch()


class Detective:
    """Watches one backward: knows the forward values, and checks what each rule returns.

    Raises
    ------
    GradientError
        At once, if an output itself is NaN.
    """

    def __init__(self, roots):
        self._checks = modes.anomaly_nan
        if not self._checks:
            return
        self._values: dict[Node, object] = {}
        self._first_bad = self._survey(roots)
        for root in roots:
            if _has_nan(self._values[root]):
                raise GradientError(
                    f"backward: the output of {_described(root)} is NaN itself, at index "
                    f"{_first_index(self._values[root])}.{self._forward_report()}"
                )

    def _survey(self, roots) -> Node | None:
        """Compute every forward value; the first node that is not finite though its inputs were."""
        order = toposort(roots)
        self._values = {n: n.value for n in order if n.value is not None}
        late.run(order, self._values)
        for node in order:
            if node.inputs and node.op.kind not in ("leaf", "alias", "proj"):
                bad = not _finite(self._values[node])
                if bad and all(_finite(self._values[s]) for s in node.inputs):
                    return node
        return None

    def check(self, node: Node, grads) -> None:
        """See the cotangents that the rule of `node` returned.

        Raises
        ------
        GradientError
            If one of them has a NaN.
        """
        if not self._checks:
            return
        with_values = [(k, node_of(t)) for k, t in enumerate(grads) if t is not None]
        late.evaluate([n for _, n in with_values])
        for k, cotangent in with_values:
            if _has_nan(cotangent.value):
                raise GradientError(
                    f"backward: Function '{node.op.name}' returned nan values in its {k}th "
                    "output (the "
                    f"cotangent of its input {k}, shape {cotangent.shape}), first at index "
                    f"{_first_index(cotangent.value)}. The forward pass was {_described(node)}."
                    f"{self._forward_report()}"
                )

    def _forward_report(self) -> str:
        node = self._first_bad
        if node is None:
            return " All values of the forward pass were finite."
        value = self._values[node]
        parts = value if isinstance(value, tuple) else (value,)
        bad = next(v for v in parts if not _finite(v))
        where = np.argwhere(~np.isfinite(bad))[0]
        index = tuple(int(i) for i in where)
        operands = ", ".join(_operand(self._values[s], index, bad.shape) for s in node.inputs)
        return (
            " The first value that is not finite was made in the forward pass by "
            f"{_described(node)}: "
            f"{bad[index]} at index {index}, from inputs {operands}."
        )


def _described(node: Node) -> str:
    where = node.where or "an unknown line (it was recorded outside anomaly detection)"
    return f"{node.op.name} at {where}"


def _operand(value, index: tuple, shape: tuple) -> str:
    """The element of an input that an output's element was made from, as far as shapes tell."""
    if not isinstance(value, np.ndarray):
        return "(several values)"
    try:
        return str(np.broadcast_to(value, shape)[index])
    except ValueError:
        return f"an array of shape {value.shape}"


def _finite(value) -> bool:
    if isinstance(value, tuple):
        return all(_finite(v) for v in value)
    return value.dtype.kind not in "fc" or bool(np.isfinite(value).all())


def _has_nan(value) -> bool:
    if isinstance(value, tuple):
        return any(_has_nan(v) for v in value)
    return value.dtype.kind in "fc" and bool(np.isnan(value).any())


def _first_index(value) -> tuple:
    if isinstance(value, tuple):
        value = next(v for v in value if _has_nan(v))
    return tuple(int(i) for i in np.argwhere(np.isnan(value))[0])
