"""Nanoseconds an element of the scalar functions, compiled, beside PyTorch's, in turns.

    python benchmarks/functions.py

One thread. Arrays of 100,000 elements; each figure is the median of calls that alternate with the
peer's, the allocation of the result included on both sides.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import statistics  # noqa: E402
import time  # noqa: E402

import numpy as np  # noqa: E402

import flatgrad as fg  # noqa: E402
from flatgrad.tensor import late, node_of  # noqa: E402

NAMES = ("exp", "log", "log1p", "expm1", "tanh", "sigmoid", "sin", "cos", "erf", "pow")
SIZE = 100_000
ROUNDS = 60


def in_turns(ours, theirs) -> tuple[float, float]:
    """Median seconds of each, called alternately."""
    for _ in range(5):
        ours()
        theirs()
    times: tuple[list, list] = ([], [])
    for _ in range(ROUNDS):
        for k, call in enumerate((ours, theirs)):
            started = time.perf_counter()
            call()
            times[k].append(time.perf_counter() - started)
    return statistics.median(times[0]), statistics.median(times[1])


def measure(torch, name: str, dtype) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.1, 3.0, SIZE).astype(dtype)]
    if name == "pow":
        arrays.append(rng.uniform(-2.0, 2.0, SIZE).astype(dtype))
    ours = [fg.tensor(a) for a in arrays]
    theirs = [torch.from_numpy(a) for a in arrays]
    function, peer = getattr(fg, name), getattr(torch, name)
    result = function(*ours).numpy()
    np.testing.assert_allclose(result, peer(*theirs).numpy(), rtol=1e-5)
    return in_turns(lambda: late.evaluate([node_of(function(*ours))]), lambda: peer(*theirs))


def main() -> None:
    try:
        import torch
    except ImportError:
        raise SystemExit("functions.py: PyTorch is not installed; pip install torch") from None
    torch.set_num_threads(1)
    print("| function | float32 ns | PyTorch | ratio | float64 ns | PyTorch | ratio |")
    print("|---|---|---|---|---|---|---|")
    ratios = []
    with fg.set_compile("always"):
        for name in NAMES:
            cells = []
            for dtype in (np.float32, np.float64):
                a, b = (t / SIZE * 1e9 for t in measure(torch, name, dtype))
                ratios.append(a / b)
                cells += [f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f}"]
            print(f"| {name} | {' | '.join(cells)} |")
    print(f"\ngeometric mean of the ratios: {np.exp(np.mean(np.log(ratios))):.2f}")


if __name__ == "__main__":
    main()
