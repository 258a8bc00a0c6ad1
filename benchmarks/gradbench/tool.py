"""flatgrad as a tool of GradBench, in its protocol: one JSON message a line in, one response a line out.

    gradbench run --eval "gradbench repo eval gmm" --tool "python benchmarks/gradbench/tool.py"

``define`` says whether a module is known; ``evaluate`` compiles the function for the input's sizes and calls
it once (the timing named ``prepare``), and then runs it at least ``min_runs`` times and ``min_seconds``
seconds (a timing named ``evaluate`` for each run); any other message is acknowledged. One thread,
unless ``--multithreaded``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from pathlib import Path


def value(result) -> object:
    """A result's arrays as NumPy's, in the tree that it has."""
    import numpy as np

    if isinstance(result, tuple):
        return tuple([value(part) for part in result])
    return np.asarray(result)


def evaluated(question, given, parallel: bool) -> dict:
    """The output and timings of a `Question`; `given` may ask for repetitions."""
    import flatgrad as fg

    wanted = given if isinstance(given, dict) else {}
    least_runs, least_seconds = wanted.get("min_runs", 1), wanted.get("min_seconds", 0)
    started = time.perf_counter_ns()
    program = fg.compile(question.function, *question.arrays, parallel=parallel)
    program(*question.arrays)
    timings = [{"name": "prepare", "nanoseconds": time.perf_counter_ns() - started}]
    runs, spent = 0, 0
    while runs < max(1, least_runs) or spent < 1e9 * least_seconds:
        started = time.perf_counter_ns()
        result = program(*question.arrays)
        timings.append({"name": "evaluate", "nanoseconds": time.perf_counter_ns() - started})
        spent += timings[-1]["nanoseconds"]
        runs += 1
    return {"success": True, "output": question.write(value(result)), "timings": timings}


def answer(message: dict, modules: dict, parallel: bool) -> dict:
    """The response to a message, without its id."""
    kind, name = message["kind"], message.get("module")
    if kind == "start":
        return {"tool": "flatgrad"}
    if kind not in ("define", "evaluate"):
        return {}
    if name not in modules:
        return {"success": False, "error": f"there is no module {name!r}; {', '.join(modules)}"}
    if kind == "define":
        return {"success": True}
    functions, function = modules[name], message["function"]
    if function not in functions:
        known = ", ".join(functions)
        return {"success": False, "error": f"{name} has no function {function!r}; {known}"}
    try:
        return evaluated(functions[function](message["input"]), message["input"], parallel)
    except Exception:
        return {"success": False, "error": traceback.format_exc()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--multithreaded", action="store_true", help="all of the machine's threads")
    options = parser.parse_args()
    if not options.multithreaded:
        for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
            os.environ[f"{library}_NUM_THREADS"] = "1"
    replies, sys.stdout = sys.stdout, sys.stderr  # nothing but replies may be printed there
    sys.path.insert(0, str(Path(__file__).parent))
    from questions import MODULES

    for line in sys.stdin:
        if line.strip():
            message = json.loads(line)
            response = answer(message, MODULES, options.multithreaded)
            print(json.dumps({"id": message["id"]} | response), file=replies, flush=True)


if __name__ == "__main__":
    main()
