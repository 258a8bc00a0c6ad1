"""Scratch memory of training steps, and what less of it costs: ``python benchmarks/memory.py [--quick]``.

For each network: the sum of all values that a step computes and no user sees, the arena of the compiled
step, the least that lifetimes allow, and the step's time where ``fg.memory_budget`` allows half of the arena.
Times are of the same process, taken in turn, each the least of many.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import flatgrad as fg
from flatgrad import nn

QUICK = "--quick" in sys.argv


def deep(layers: int = 12, width: int = 64):
    parts = [nn.Linear(width, width), nn.Tanh()]
    for _ in range(layers - 2):
        parts += [nn.Linear(width, width), nn.Tanh()]
    return nn.Sequential(*parts, nn.Linear(width, 10)), (64 if QUICK else 512, width)


def small_cnn():
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16 * 49, 10)),
    )
    return net, (4 if QUICK else 32, 1, 28, 28)


NETWORKS = {"MLP of 12 layers": deep, "small CNN": small_cnn}


def step_of(make, budget: int | None):
    """(a training step, its memory)."""
    fg.manual_seed(0)
    net, shape = make()
    rng = np.random.default_rng(0)
    x = fg.tensor(rng.standard_normal(shape).astype(np.float32))
    y = fg.tensor(rng.integers(0, 10, shape[0]))
    optimiser = fg.optim.SGD(net.parameters(), lr=0.01)
    loss_of = nn.CrossEntropyLoss()

    def step():
        with fg.memory_budget(budget):
            optimiser.zero_grad()
            loss = loss_of(net(x), y)
            loss.backward()
            optimiser.step()
            loss.item()
        return loss

    return step, fg.explain([step() for _ in range(3)][-1]).memory


def interleaved(steps: list, repeats: int) -> list[float]:
    best = [float("inf")] * len(steps)
    for _ in range(repeats):
        for k, step in enumerate(steps):
            started = time.perf_counter()
            step()
            best[k] = min(best[k], time.perf_counter() - started)
    return best


def main() -> None:
    fg.set_compile("always")
    print("| network | arena KB | lower bound KB | budget KB | arena in it | recomputed | time |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, make in NETWORKS.items():
        free, memory = step_of(make, None)
        for share in (0.75, 0.5):
            budget = int(share * memory["arena"])
            try:
                tight, less = step_of(make, budget)
            except fg.errors.BudgetError as error:
                print(
                    f"| {name} | {memory['arena'] / 1024:.0f} | | {budget / 1024:.0f} | {error} | | |"
                )
                continue
            t, u = interleaved([free, tight], 5 if QUICK else 40)
            print(
                f"| {name} | {memory['arena'] / 1024:.0f} | {memory['lower_bound'] / 1024:.0f} | "
                f"{budget / 1024:.0f} | {less['arena'] / 1024:.0f} | {less['recomputed']} | "
                f"{u / t:.2f} x |"
            )


if __name__ == "__main__":
    main()
