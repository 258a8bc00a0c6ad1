"""``Checkpointer``: what a training loop needs to go on where it was killed."""

from __future__ import annotations

import copy
import time

import numpy as np

from ..errors import ArgumentError, CheckpointError, MissingCheckpointError
from .files import load, save


class Checkpointer:
    """Saves the named parts of a training loop every so many seconds, and restores them.

    The interval is one of time, since what wears a memory card is writing, and how long a step takes is
    different on every board. It is measured by a clock that nobody sets.

    Parameters
    ----------
    path : str or os.PathLike
    every_seconds : float
        The least time between two checkpoints of :meth:`step`. 0 writes at every call.
    keep : int
        How many older checkpoints are kept, see :func:`save`.
    **parts
        What is saved and restored, by name: modules, optimisers, schedulers (anything with
        ``state_dict()``, ``load_state_dict()``), generators (``get_state()``, ``set_state()``), NumPy's.

    Raises
    ------
    ArgumentError
        If a part has no state of these kinds.

    Examples
    --------
    >>> import flatgrad as fg, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> x = fg.tensor([1.0], requires_grad=True)
    >>> opt = fg.optim.SGD([x], lr=0.1)
    >>> checkpoint = fg.io.Checkpointer(path, every_seconds=600, opt=opt, rng=fg.default_generator)
    >>> checkpoint.restore(step=0)
    {'step': 0}
    >>> checkpoint.step(step=1)
    False
    >>> checkpoint.save(step=1)
    >>> checkpoint.restore(step=0)
    {'step': 1}
    """

    def __init__(self, path, *, every_seconds: float = 600.0, keep: int = 1, **parts):
        if not every_seconds >= 0:
            raise ArgumentError(
                f"Checkpointer: every_seconds must be 0 or more, got {every_seconds}"
            )
        for name, part in parts.items():
            if _protocol(part) is None:
                raise ArgumentError(
                    f"Checkpointer: {name} is a {type(part).__name__}, without state_dict() or get_state(); "
                    "give plain values to step() and save()"
                )
        self.path, self.every_seconds, self.keep, self.parts = path, every_seconds, keep, parts
        self._saved = time.monotonic()

    def restore(self, **values) -> dict:
        """Restore all parts from the last whole checkpoint, if there is one.

        Parameters
        ----------
        **values
            What the loop starts with when there is none.

        Returns
        -------
        dict
            The values that were saved with the parts, over those given here.

        Raises
        ------
        CheckpointError
            If no checkpoint is whole, or it lacks a part.
        """
        try:
            found = load(self.path)
        except MissingCheckpointError:
            return values
        held = found.get("parts") if isinstance(found, dict) else None
        missing = sorted(self.parts.keys() - held.keys()) if isinstance(held, dict) else ["parts"]
        if missing:
            raise CheckpointError(
                f"Checkpointer.restore: {self.path} has no {', '.join(missing)}; it was written by another "
                "program, or another version of this one: give another path, or remove it"
            )
        for name, part in self.parts.items():
            _set_state(part, held[name])
        return {**values, **found["values"]}

    def step(self, **values) -> bool:
        """Save if `every_seconds` have passed since the last time. Returns whether it did."""
        if time.monotonic() - self._saved < self.every_seconds:
            return False
        self.save(**values)
        return True

    def save(self, **values) -> None:
        """Save all parts, and `values` with them, now."""
        parts = {name: _state(part) for name, part in self.parts.items()}
        save(self.path, {"parts": parts, "values": values}, keep=self.keep)
        self._saved = time.monotonic()


def _protocol(part) -> str | None:
    if isinstance(part, np.random.Generator):
        return "numpy"
    for name, read, write in (
        ("dict", "state_dict", "load_state_dict"),
        ("state", "get_state", "set_state"),
    ):
        if callable(getattr(part, read, None)) and callable(getattr(part, write, None)):
            return name
    return None


def _state(part):
    match _protocol(part):
        case "numpy":
            return part.bit_generator.state
        case "dict":
            return part.state_dict()
    return part.get_state()


def _set_state(part, state) -> None:
    match _protocol(part):
        case "numpy":
            part.bit_generator.state = copy.deepcopy(state)
        case "dict":
            part.load_state_dict(state)
        case _:
            part.set_state(state)
