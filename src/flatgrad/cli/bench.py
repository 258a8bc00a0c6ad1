"""``flatgrad bench``: how long calls take, and whether they meet a deadline."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from contextlib import contextmanager

from .given import add_function, given, need_example
from .screen import Progress, Screen, UsageError, duration, time_text

DESCRIPTION = "Time calls of FUNCTION (module.py:f), compiled; exit 1 if a deadline is missed."
USAGE = "[--deadline 1ms] [options] FUNCTION"

PERCENTILES = (50.0, 99.0, 99.9)
CHUNK = 1000  # calls between looks at the clock, where there is no period
MOST = 2_000_000  # calls that are remembered
BAR = 40  # characters


def add_arguments(parser) -> None:
    add_function(parser)
    parser.add_argument("--deadline", metavar="T", help="1ms, 250us: what a call may take")
    parser.add_argument(
        "--percentile",
        type=float,
        default=99.9,
        metavar="P",
        help="percent of calls that must meet it (99.9)",
    )
    parser.add_argument("--calls", type=int, metavar="N", help="how many (as --seconds allows)")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="for how long (2)")
    parser.add_argument("--warmup", type=int, default=100, metavar="N", help="calls before (100)")
    parser.add_argument("--period", metavar="T", help="one call each T, as in a control loop")
    parser.add_argument("--cpu", type=int, metavar="K", help="stay on this core")
    parser.add_argument("--gc", choices=("on", "off"), default="on", help="garbage collector (on)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--njit", action="store_true", help="call from Numba code, not from Python")
    how.add_argument("--as-is", action="store_true", help="don't compile: time what is given")


def run(options, screen: Screen) -> int:
    deadline = None if options.deadline is None else duration(options.deadline)
    period = None if options.period is None else duration(options.period)
    _check(options, period)
    g = need_example(given(options))
    with _core(options.cpu):
        started = time.perf_counter()
        function, args = _compiled(g, options)
        compiled = time.perf_counter()
        if options.njit:
            times, first = _from_numba(function, args, options)
        else:
            times, first = _from_python(lambda: function(*args, **g.keywords), options, period)
    report = figures(times, deadline, options.percentile)
    report = {
        "function": g.label,
        "caller": "numba" if options.njit else "python",
        "tier": getattr(function, "tier", None),
        "compile_seconds": compiled - started,
        "first_call_seconds": first,
        "warmup_calls": options.warmup,
        "gc": options.gc,
        "cpu": options.cpu,
        "period_seconds": period,
        **report,
    }
    screen.result(report)
    _show(report, screen)
    return 1 if report["met"] is False else 0


def _check(options, period) -> None:
    if not 0 < options.percentile <= 100:
        raise UsageError(f"--percentile must be above 0 and at most 100, got {options.percentile}")
    if options.calls is not None and not 1 <= options.calls <= MOST:
        raise UsageError(f"--calls must be 1 to {MOST}, got {options.calls}")
    if not options.seconds > 0:
        raise UsageError(f"--seconds must be above 0, got {options.seconds}")
    if options.warmup < 0:
        raise UsageError(f"--warmup must be 0 or more, got {options.warmup}")
    if options.njit and period is not None:
        raise UsageError("--period times calls from Python; leave --njit out")


def _compiled(g, options) -> tuple[Callable, tuple]:
    import flatgrad

    from ..func.compile import CompiledFunction
    from ..func.jit import JitFunction

    ready = options.as_is or isinstance(g.function, CompiledFunction | JitFunction)
    function = g.function if ready else flatgrad.compile(g.function, *g.example, **g.keywords)
    if options.njit and (not isinstance(function, CompiledFunction) or g.keywords):
        raise UsageError(
            "--njit needs a function of fg.compile, or one to compile, with --arg by place"
        )
    if ready:
        return function, g.example
    from ..func.tree import flatten, unflatten
    from ..tensor import Tensor

    # Arrays, as a control loop has them: tensors would be unpacked at every call.
    leaves, spec = flatten(g.example)
    return function, unflatten(spec, [x.numpy() if isinstance(x, Tensor) else x for x in leaves])


@contextmanager
def _core(number: int | None):
    """This process on one core, for the block."""
    if number is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("--cpu: this system can't bind a process to a core")
    before = os.sched_getaffinity(0)
    if number not in before:
        raise UsageError(f"--cpu must be one of {sorted(before)}, got {number}")
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# -- the calls --------------------------------------------------------------------------------------


def _from_python(call: Callable, options, period: float | None):
    """(nanoseconds of each call, seconds of the first)."""
    import numpy as np

    clock = time.perf_counter_ns
    started = clock()
    call()
    first = (clock() - started) * 1e-9
    for _ in range(options.warmup):
        call()
    times = np.zeros(options.calls or MOST, np.int64)  # pages are touched as they are needed
    ends = time.monotonic() + options.seconds
    collecting = gc.isenabled()
    gc.collect()
    (gc.enable if options.gc == "on" else gc.disable)()
    count, due = 0, time.perf_counter()
    chunk = CHUNK if period is None else 1
    try:
        with Progress("calls", options.calls) as progress:
            while count < len(times) and time.monotonic() < ends:
                for k in range(count, min(count + chunk, len(times))):
                    if period is not None:
                        due = _wait(due + period)
                    before = clock()
                    call()
                    times[k] = clock() - before
                progress.step(k + 1 - count)
                count = k + 1
                if first > 1e-3:  # slow ones: look at the clock after each
                    chunk = 1
    finally:
        (gc.enable if collecting else gc.disable)()
    return times[:count], first


def _wait(due: float) -> float:
    """Sleep until `due`; a loop that is late goes on from now, and doesn't hurry after it."""
    left = due - time.perf_counter()
    if left > 0:
        time.sleep(left)
        return due
    return time.perf_counter()


def _from_numba(function, args: tuple, options):
    """The same from Numba code, which asks the system's clock itself."""
    import ctypes

    import numpy as np
    from numba import njit

    from ..func.tree import flatten

    if not hasattr(time, "CLOCK_MONOTONIC"):
        raise UsageError("--njit: this system has no clock_gettime; leave it out")
    read = ctypes.CDLL(None).clock_gettime
    read.argtypes, read.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_int
    which, inner = time.CLOCK_MONOTONIC, function.njit
    leaves = tuple(flatten(args)[0])

    @njit(nogil=True)
    def loop(times, leaves):
        now = np.zeros(2, np.int64)
        for k in range(len(times)):
            read(which, now.ctypes.data)
            before = now[0] * 1_000_000_000 + now[1]
            inner(*leaves)
            read(which, now.ctypes.data)
            times[k] = now[0] * 1_000_000_000 + now[1] - before

    started = time.perf_counter()
    loop(np.zeros(1, np.int64), leaves)
    first = time.perf_counter() - started
    trial = np.zeros(max(options.warmup, 10), np.int64)
    loop(trial, leaves)
    count = options.calls
    if count is None:
        each = max(float(np.median(trial)), 20.0) * 1e-9
        count = int(min(max(options.seconds / each, 10), MOST))
    times = np.zeros(count, np.int64)
    loop(times, leaves)
    return times, first


# -- figures ----------------------------------------------------------------------------------------


def figures(times, deadline: float | None, percentile: float) -> dict:
    """What the calls' nanoseconds say.

    A percentile is the smallest time that at least so many percent of the calls stayed within: one of the
    times, nothing between two of them.
    """
    import numpy as np

    ordered = np.sort(times)

    def at(percent: float) -> float:
        rank = int(np.ceil(percent / 100 * len(ordered) - 1e-9))
        return int(ordered[max(rank, 1) - 1]) * 1e-9

    report = {
        "calls": len(ordered),
        "minimum_seconds": int(ordered[0]) * 1e-9,
        "mean_seconds": float(ordered.mean()) * 1e-9,
        **{f"p{p:g}_seconds": at(p) for p in PERCENTILES},
        "maximum_seconds": int(ordered[-1]) * 1e-9,
        "histogram": histogram(ordered),
        "deadline_seconds": deadline,
        "percentile": percentile,
        "misses": None,
        "met": None,
    }
    if deadline is not None:
        report["misses"] = int((ordered > round(deadline * 1e9)).sum())
        report["at_percentile_seconds"] = at(percentile)
        report["met"] = at(percentile) <= deadline
    return report


def histogram(ordered) -> list[dict]:
    """Counts between edges that grow by a fixed ratio: 1, 2 or 5 steps a doubling, as the spread asks."""
    import numpy as np

    low, high = max(int(ordered[0]), 1), max(int(ordered[-1]), 1)
    doublings = np.log2(high / low)
    steps = 5 if doublings < 2.5 else 2 if doublings < 6 else 1
    first = np.floor(np.log2(low) * steps)
    edges = 2.0 ** (np.arange(first, np.floor(np.log2(high) * steps) + 2) / steps)
    counts, _ = np.histogram(np.maximum(ordered, 1), edges)
    return [
        {"from_seconds": float(a) * 1e-9, "to_seconds": float(b) * 1e-9, "calls": int(c)}
        for a, b, c in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def _show(report: dict, screen: Screen) -> None:
    tier = f", {report['tier']}" if report["tier"] else ""
    screen.line(f"{report['function']}: {report['calls']} calls from {report['caller']}{tier}")
    screen.line(
        f"compiled in {time_text(report['compile_seconds'])}, first call "
        f"{time_text(report['first_call_seconds'])}, {report['warmup_calls']} calls to warm up; "
        f"gc {report['gc']}"
    )
    screen.line()
    names = ["minimum", *(f"p{p:g}" for p in PERCENTILES), "maximum"]
    screen.table(
        [tuple(names), tuple(time_text(report[f"{n}_seconds"]) for n in names)], (0, 1, 2, 3, 4)
    )
    screen.line()
    most = max(b["calls"] for b in report["histogram"])
    limit = report["deadline_seconds"]
    rows = []
    for b in report["histogram"]:
        bar = "#" * -(-b["calls"] * BAR // most)  # one at least, for a single call of a million
        late = limit is not None and b["from_seconds"] > limit
        rows.append((time_text(b["from_seconds"]), bar.ljust(BAR), b["calls"], "late" * late))
    screen.table(rows, (0, 2))
    if report["met"] is None:
        return
    verdict = "ok" if report["met"] else "fail"
    screen.line()
    screen.line(
        screen.coloured("met" if report["met"] else "MISSED", verdict)
        + f": {report['percentile']:g} % of calls within {time_text(report['at_percentile_seconds'])}, "
        f"deadline {time_text(limit)}; {report['misses']} of {report['calls']} calls were later"
    )
