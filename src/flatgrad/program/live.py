"""The compiled programs of this process: how many there are, and how large they may become.

Past the limits the least recently used ones go, and their code is unmapped; but only those that
have not run for a while. Where more programs take turns than there is room for, throwing each out
just before its next turn would mean to compile all the time: the ones beyond stay interpreted.
"""

from __future__ import annotations

import itertools
import threading

__all__ = ["Live", "live"]

DEFAULT_PROGRAMS = 1024
DEFAULT_BYTES = 128 * 2**20

# A program is idle if it has not run within the last evaluations, this many for each program that lives.
PATIENCE = 4


class Live:
    """Programs and the sizes of their machine code.

    Attributes
    ----------
    most_programs, most_bytes : int
        The limits.
    tick : callable
        Numbers evaluations; a program keeps that of its last one in ``used``.
    """

    def __init__(self):
        self.most_programs = DEFAULT_PROGRAMS
        self.most_bytes = DEFAULT_BYTES
        self.tick = itertools.count().__next__
        self._lock = threading.Lock()
        self._sizes: dict = {}  # program -> bytes

    @property
    def count(self) -> int:
        return len(self._sizes)

    @property
    def bytes(self) -> int:
        with self._lock:
            return sum(self._sizes.values())

    @property
    def _full(self) -> bool:
        sizes = self._sizes
        return len(sizes) >= self.most_programs or sum(sizes.values()) >= self.most_bytes

    def make_room(self) -> bool:
        """Whether another program may be compiled; the longest idle one is dropped for it if need be."""
        dropped = []
        with self._lock:
            now = self.tick()
            while self._full and self._sizes:
                oldest = min(self._sizes, key=lambda p: p.used)
                if now - oldest.used <= PATIENCE * len(self._sizes):
                    break
                del self._sizes[oldest]
                dropped.append(oldest)
            room = not self._full
        for program in dropped:
            program.drop()
        return room

    def add(self, program, size: int) -> None:
        with self._lock:
            self._sizes[program] = size

    def remove(self, program) -> None:
        with self._lock:
            self._sizes.pop(program, None)

    def trim(self) -> None:
        """Drop the least recently used programs until the limits hold."""
        dropped = []
        with self._lock:
            order = sorted(self._sizes, key=lambda p: p.used)
            for program in order:
                over = len(self._sizes) > self.most_programs
                if not over and sum(self._sizes.values()) <= self.most_bytes:
                    break
                del self._sizes[program]
                dropped.append(program)
        for program in dropped:
            program.drop()


live = Live()
