"""What the commands show: tables, verdicts, progress, JSON; sizes and times as people write them."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time

from ..errors import FlatgradError

__all__ = ["Progress", "Screen", "UsageError", "duration", "size", "time_text", "written_size"]

COLOURS = {"ok": "32", "note": "36", "warn": "33", "fail": "31"}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


class UsageError(FlatgradError, ValueError):
    """The command line is wrong: exit code 2."""


class Screen:
    """Where a command's result goes: standard output, as text or as one JSON value.

    Attributes
    ----------
    json : bool
    """

    def __init__(self, json: bool = False):
        self.json = json
        self._out = sys.stdout  # under --json the user's own prints go elsewhere
        self._colour = (
            not json
            and self._out.isatty()
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM") != "dumb"
        )

    def line(self, text: str = "") -> None:
        """A line of text; nothing under --json."""
        if not self.json:
            print(text, file=self._out)

    def result(self, value) -> None:
        """The JSON value; nothing without --json."""
        if self.json:
            print(json.dumps(_plain(value), indent=2), file=self._out, flush=True)

    def coloured(self, text: str, verdict: str) -> str:
        if not self._colour or verdict not in COLOURS:
            return text
        return f"\033[{COLOURS[verdict]}m{text}\033[0m"

    def table(self, rows: list[tuple], right: tuple[int, ...] = ()) -> None:
        """Rows of texts in aligned columns, the numbers of `right` at their right edge."""
        widths = [max(len(str(row[k])) for row in rows) for k in range(len(rows[0]))]
        for row in rows:
            cells = [
                str(c).rjust(w) if k in right else str(c).ljust(w)
                for k, (c, w) in enumerate(zip(row, widths, strict=True))
            ]
            self.line("  ".join(cells).rstrip())

    def fail(self, text: str, kind: str, code: int) -> int:
        """The error, as one line on standard error, and as JSON where that was asked for."""
        print(f"flatgrad: {text}", file=sys.stderr)
        self.result({"error": text, "kind": kind})
        return code


def _plain(value):
    """`value` as JSON knows it: no NaN and no infinity, which other readers refuse."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


class Progress:
    """Long work on standard error, where that is a terminal: tqdm's bar if there is one, else lines.

    Used as ``with Progress("calls", total) as p: p.step(100)``.
    """

    def __init__(self, what: str, total: int | None = None):
        self.what, self.total, self.done = what, total, 0
        self._bar = None
        self._shown = time.monotonic()
        self._live = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        if self._live and self.total:
            try:
                from tqdm import tqdm
            except ImportError:
                return self
            self._bar = tqdm(total=self.total, desc=self.what, file=sys.stderr, leave=False)
        return self

    def step(self, count: int = 1, text: str = "") -> None:
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._live and (text or time.monotonic() - self._shown >= 1.0):
            self._shown = time.monotonic()
            where = f" {self.done}/{self.total}" if self.total else ""
            print(f"{self.what}{where} {text}".rstrip(), file=sys.stderr)

    def __exit__(self, *exc) -> None:
        if self._bar is not None:
            self._bar.close()


# -- sizes and times --------------------------------------------------------------------------------


def duration(text: str) -> float:
    """Seconds of ``"1ms"``, ``"250us"``, ``"0.5s"``."""
    found = re.fullmatch(r"([0-9.]+(?:[eE]-?\d+)?)\s*(ns|us|µs|ms|s|min)", text.strip())
    try:
        seconds = float(found[1]) * _SECONDS[found[2]]
    except (TypeError, ValueError):
        raise UsageError(
            f"a time with its unit (ns, us, ms, s, min) is required, got {text!r}: 1ms, for example"
        ) from None
    if not 0 < seconds < math.inf:
        raise UsageError(f"a time above zero is required, got {text!r}")
    return seconds


def written_size(text: str) -> int:
    """Bytes of ``"64K"``, ``"1.5M"``, ``"4096"``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise UsageError(f"a size in bytes is required, got {text!r}: 65536 or 64K, for example")
    return int(float(found[1]) * _BYTES[found[2].upper()])


def size(count: int) -> str:
    """Bytes, for people."""
    for unit, bytes_ in (("GB", 2**30), ("MB", 2**20), ("KB", 2**10)):
        if count >= bytes_:
            return f"{count / bytes_:.1f} {unit}"
    return f"{count} B"


def time_text(seconds: float) -> str:
    """Seconds, for people: three figures."""
    for unit, length in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= length:
            return (
                f"{seconds / length:.3g} {unit}" if seconds < 1000 * length else f"{seconds:.0f} s"
            )
    return f"{seconds * 1e9:.0f} ns"
