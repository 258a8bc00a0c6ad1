"""Compilation in a thread of its own: calls are interpreted meanwhile (``fg.set_compile("background")``)."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Task", "wait"]

_lock = threading.Lock()
_queue: list[Task] = []
_idle = threading.Condition(_lock)
_worker: threading.Thread | None = None


class Task:
    """One computation, run by the worker; ``result()`` gives its value or raises its error."""

    def __init__(self, work: Callable):
        global _worker
        self._work = work
        self._value = None
        self._error: BaseException | None = None
        self._done = threading.Event()
        with _lock:
            _queue.append(self)
            if _worker is None:
                # It ends when there is nothing left to do, and does not keep a process that exits.
                _worker = threading.Thread(target=_run, name="flatgrad compiler", daemon=True)
                _worker.start()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def result(self):
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value

    def run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:
            self._error = error
        self._work = None
        self._done.set()


def _run() -> None:
    global _worker
    while True:
        with _lock:
            if not _queue:
                _worker = None
                _idle.notify_all()
                return
            task = _queue.pop(0)
        task.run()


def wait() -> None:
    """Return when all that was to be compiled is."""
    with _idle:
        _idle.wait_for(lambda: _worker is None)
