"""Nanoseconds an element of the scalar functions beside PyTorch's: ``python benchmarks/functions.py``.

One thread, 16,384 elements (second-level cache), results written to given memory on both sides: ours by a
compiled program, PyTorch's by ``out=``. They run in turns; the least time of each counts, less that of the
same call for one element: a call's overhead (about 1 us for either) is not part of an element's time.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse  # noqa: E402
import time  # noqa: E402

import numpy as np  # noqa: E402

import flatgrad as fg  # noqa: E402
import tables  # noqa: E402

# name: the interval of its arguments
FUNCTIONS = {
    "exp": (-5, 5),
    "exp2": (-5, 5),
    "expm1": (-3, 3),
    "log": (0.1, 9),
    "log2": (0.1, 9),
    "log10": (0.1, 9),
    "log1p": (-0.9, 9),
    "sin": (-9, 9),
    "cos": (-9, 9),
    "tan": (-9, 9),
    "asin": (-1, 1),
    "acos": (-1, 1),
    "atan": (-5, 5),
    "sinh": (-5, 5),
    "cosh": (-5, 5),
    "tanh": (-5, 5),
    "asinh": (-9, 9),
    "acosh": (1, 9),
    "atanh": (-0.99, 0.99),
    "sigmoid": (-9, 9),
    "erf": (-3, 3),
    "erfc": (-3, 3),
    "erfinv": (-0.99, 0.99),
    "lgamma": (0.1, 20),
    "digamma": (0.1, 20),
    "rsqrt": (0.1, 9),
}
TWO = {"atan2": (-3, 3), "pow": (0.1, 3), "hypot": (-3, 3)}
LAYERS = ("softplus", "gelu", "silu", "logsigmoid")
CORE = ("exp", "log", "tanh", "sin", "erf", "sigmoid")  # their geometric mean has a target
CORE_TARGET = 1 / 1.5
SIZE = 16_384


def least(runs, budget: float) -> list[float]:
    """The least seconds of each, in turns."""
    best = [float("inf")] * len(runs)
    end = time.perf_counter() + budget
    while time.perf_counter() < end:
        for k, run in enumerate(runs):
            started = time.perf_counter()
            run()
            best[k] = min(best[k], time.perf_counter() - started)
    return best


def calls(torch, name: str, dtype, size: int):
    """The two calls that compute `size` elements into given memory."""
    rng = np.random.default_rng(0)
    low, high = FUNCTIONS.get(name) or TWO.get(name) or (-5, 5)
    arrays = [rng.uniform(low, high, size).astype(dtype) for _ in range(1 + (name in TWO))]
    tensors = [torch.from_numpy(a) for a in arrays]
    if name in LAYERS:
        mine, theirs = getattr(fg.nn.functional, name), getattr(torch.nn.functional, name)
    else:
        mine, theirs = getattr(fg, name), getattr(torch, name)
    program = fg.compile(mine, *arrays)
    out, given = np.empty(size, dtype), torch.empty(size, dtype=tensors[0].dtype)
    kernel = {"gelu": torch._C._nn.gelu, "softplus": torch._C._nn.softplus}.get(name, theirs)
    keywords = {} if name in ("silu", "logsigmoid") else {"out": given}
    program(*arrays, out=out)
    np.testing.assert_allclose(out, theirs(*tensors).numpy(), rtol=3e-5, atol=5e-6)
    return lambda: program(*arrays, out=out), lambda: kernel(*tensors, **keywords)


def measure(torch, name: str, dtype, budget: float) -> tuple[float, float]:
    """Nanoseconds an element, ours and PyTorch's."""
    whole = least(calls(torch, name, dtype, SIZE), budget)
    one = least(calls(torch, name, dtype, 1), budget / 4)
    return tuple((w - o) / SIZE * 1e9 for w, o in zip(whole, one, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short sample of each")
    parser.add_argument("--only", default="", help="names, with commas between")
    tables.add_option(parser)
    args = parser.parse_args()
    try:
        import torch
    except ImportError:
        raise SystemExit("functions.py: PyTorch is not installed; pip install torch") from None
    torch.set_num_threads(1)
    wanted = args.only.split(",") if args.only else [*FUNCTIONS, *TWO, *LAYERS]
    print("| function | float32 ns | PyTorch | ratio | float64 ns | PyTorch | ratio |")
    print("|---|---|---|---|---|---|---|")
    rows: list[dict] = []
    for name in wanted:
        cells = []
        for dtype in (np.float32, np.float64):
            mine, theirs = measure(torch, name, dtype, 0.02 if args.quick else 0.4)
            title = f"{name}, {np.dtype(dtype).name}"
            rows.append(tables.row(title, "PyTorch", mine, theirs, 1.0, "ns an element"))
            cells += [f"{mine:.2f}", f"{theirs:.2f}", f"{mine / theirs:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    core = [r for r in rows if r["name"].split(",")[0] in CORE]
    print(f"\nGeometric mean of all ratios {tables.geometric_mean(rows):.2f}", end="")
    print(f"; of {', '.join(CORE)}: {tables.geometric_mean(core):.2f} (at most {CORE_TARGET:.2f}).")
    tables.write(args.json, rows)


if __name__ == "__main__":
    main()
