"""no_grad and its kin: context managers and decorators, each thread its own."""

from __future__ import annotations

import functools
import inspect

from ..graph.modes import modes
from ..graph.node import INFERENCE
from ..tensor import Tensor, method, node_of

__all__ = [
    "enable_grad",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "set_grad_enabled",
]


class _Mode:
    """A context manager that is also a decorator of functions and generators.

    A fresh manager is entered at every call, and around every step of a generator.
    """

    def _fresh(self) -> _Mode:
        return type(self)()

    def __call__(self, function):
        if inspect.isgeneratorfunction(function):
            return self._decorate_generator(function)

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            with self._fresh():
                return function(*args, **kwargs)

        return wrapper

    def _decorate_generator(self, function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            generator = function(*args, **kwargs)
            step, value = generator.send, None
            try:
                while True:
                    with self._fresh():
                        item = step(value)
                    try:
                        step, value = generator.send, (yield item)
                    except GeneratorExit:
                        with self._fresh():
                            generator.close()
                        raise
                    except BaseException as error:
                        step, value = generator.throw, error
            except StopIteration as stop:
                return stop.value

        return wrapper


class _GradMode(_Mode):
    _flag: bool

    def __new__(cls, function=None):
        if function is None:
            return super().__new__(cls)
        return cls()(function)  # a bare decorator: @no_grad

    def __enter__(self) -> None:
        self._before = modes.grad
        modes.grad = self._flag

    def __exit__(self, *exc) -> None:
        modes.grad = self._before


class no_grad(_GradMode):
    """Nothing recorded inside requires grad. A context manager, or a decorator (``@no_grad()``).

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.tensor([1.0], requires_grad=True)
    >>> with fg.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    _flag = False


class enable_grad(_GradMode):
    """Undo :class:`no_grad` inside. A context manager, or a decorator."""

    _flag = True


class set_grad_enabled(_Mode):
    """Switch recording of derivatives by a flag: at once, or until a ``with`` is left.

    Parameters
    ----------
    mode : bool
    """

    def __init__(self, mode: bool):
        self._before = modes.grad
        self.mode = bool(mode)
        modes.grad = self.mode

    def _fresh(self) -> set_grad_enabled:
        return set_grad_enabled(self.mode)

    def __call__(self, function):
        modes.grad = self._before
        return super().__call__(function)

    def __enter__(self) -> None:
        modes.grad = self.mode

    def __exit__(self, *exc) -> None:
        modes.grad = self._before


class inference_mode(_Mode):
    """:class:`no_grad`, and tensors made inside can't be saved for a derivative later.

    Parameters
    ----------
    mode : bool
        False undoes an outer inference mode.
    """

    def __new__(cls, mode=True):
        if callable(mode):
            return cls()(mode)  # a bare decorator: @inference_mode
        return super().__new__(cls)

    def __init__(self, mode: bool = True):
        self.mode = bool(mode)

    def _fresh(self) -> inference_mode:
        return inference_mode(self.mode)

    def __enter__(self) -> None:
        self._before = modes.grad, modes.inference, modes.watch
        modes.inference = self.mode
        modes.grad = not self.mode
        modes.watch = self.mode or modes.anomaly

    def __exit__(self, *exc) -> None:
        modes.grad, modes.inference, modes.watch = self._before


def is_grad_enabled() -> bool:
    """Whether derivatives are being recorded in this thread."""
    return modes.grad


def is_inference_mode_enabled() -> bool:
    """Whether this thread is in :class:`inference_mode`."""
    return modes.inference


@method()
def is_inference(self: Tensor) -> bool:
    """Whether the tensor was made in :class:`inference_mode`."""
    return bool(node_of(self).mark & INFERENCE)
