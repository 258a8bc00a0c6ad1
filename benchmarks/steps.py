"""Whole training steps beside PyTorch and JAX, on one thread: ``python benchmarks/steps.py [--quick]``.

A step is forward, backward and the optimiser's update. flatgrad runs it twice: in plain eager style
(``loss.backward(); opt.step()``), and compiled as one program that writes over parameters and state
(``fg.compile(step, ..., donate_argnums=(0, 1))``). PyTorch is eager, JAX ``jit`` with donated arguments.
All start from the same weights, and their losses are compared after a few steps; then they run in turns,
and the least time of each counts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import time
from pathlib import Path

for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np  # noqa: E402

import flatgrad as fg  # noqa: E402
import tables  # noqa: E402
from suite.networks import NETWORKS, OPTIMIZERS, compiled_step, first_state  # noqa: E402

TARGETS = {"PyTorch": 0.5, "JAX": 0.8}
CHECKED = 5  # steps after which losses must agree


def initial_weights(make) -> dict[str, np.ndarray]:
    fg.manual_seed(1)
    return {k: np.array(v.tolist(), np.float32) for k, v in make(fg.nn).state_dict().items()}


# -- the libraries --------------------------------------------------------------------------------


def eager(module, network, optimizer: str, weights, compiled=None):
    """``step()`` that returns the loss's tensor: the same text for flatgrad and PyTorch."""
    model = network.make(module.nn)
    convert = module.tensor if module is fg else module.from_numpy
    model.load_state_dict({k: convert(w.copy()) for k, w in weights.items()})
    opt = getattr(module.optim, optimizer)(model.parameters(), lr=OPTIMIZERS[optimizer])
    x, y = (convert(a.copy()) for a in network.batch())
    criterion = module.nn.CrossEntropyLoss()

    def step():
        opt.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        opt.step()
        return loss.detach()

    return step


def one_program(network, optimizer: str, weights):
    model = network.make(fg.nn)
    parameters = {k: w.copy() for k, w in weights.items()}
    state = first_state(parameters, optimizer)
    x, y = network.batch()
    function = compiled_step(fg, model, optimizer)
    program = fg.compile(function, parameters, state, x, y, donate_argnums=(0, 1))

    def step():
        nonlocal parameters, state
        loss, parameters, state = program(parameters, state, x, y)
        return loss

    step.program = program
    return step


def with_jax(name: str, optimizer: str, weights):
    import jax
    import jax.numpy as jnp

    import steps_jax

    rate = OPTIMIZERS[optimizer]

    def loss(parameters, x, y):
        scores = steps_jax.MODELS[name](parameters, x)
        return -jnp.mean(jax.nn.log_softmax(scores)[jnp.arange(y.shape[0]), y])

    def advance(parameters, state, x, y):
        value, grads = jax.value_and_grad(loss)(parameters, x, y)
        if optimizer == "SGD":
            new = jax.tree.map(lambda p, g: p - rate * g, parameters, grads)
            return value, new, state
        count, means, squares = state
        count = count + 1
        means = jax.tree.map(lambda m, g: m + 0.1 * (g - m), means, grads)
        squares = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, squares, grads)
        size, scale = rate / (1 - 0.9**count), (1 - 0.999**count) ** -0.5

        def update(p, m, s):
            return p - size * (m / (jnp.sqrt(s) * scale + 1e-8))

        new = jax.tree.map(update, parameters, means, squares)
        return value, new, (count, means, squares)

    compiled = jax.jit(advance, donate_argnums=(0, 1))
    parameters = {k: jnp.asarray(w) for k, w in weights.items()}
    state = jax.tree.map(jnp.asarray, first_state(weights, optimizer))
    x, y = (jnp.asarray(a) for a in NETWORKS[name].batch())

    def step():
        nonlocal parameters, state
        value, parameters, state = compiled(parameters, state, x, y)
        jax.block_until_ready(parameters)
        return value

    return step


def steps_of(name: str, optimizer: str, only_ours: bool) -> dict:
    network = NETWORKS[name]
    weights = initial_weights(network.make)
    found = {
        "flatgrad, eager": eager(fg, network, optimizer, weights),
        "flatgrad": one_program(network, optimizer, weights),
    }
    if only_ours:
        return found
    try:
        import torch

        torch.set_num_threads(1)
        found["PyTorch"] = eager(torch, network, optimizer, weights)
    except ImportError:
        pass
    with contextlib.suppress(ImportError):
        found["JAX"] = with_jax(name, optimizer, weights)
    return found


# -- measuring ------------------------------------------------------------------------------------


def check(name: str, steps: dict) -> None:
    """All libraries lose alike."""
    losses = {k: [float(step()) for _ in range(CHECKED)] for k, step in steps.items()}
    for k, values in losses.items():
        np.testing.assert_allclose(values, losses["flatgrad"], rtol=2e-3, err_msg=f"{name}: {k}")


def timed(steps: dict, seconds: float) -> dict:
    """Microseconds a step, each: the least of many short repetitions in turns."""
    for step in steps.values():
        for _ in range(3):
            step()
    best = dict.fromkeys(steps, float("inf"))
    end = time.perf_counter() + seconds * len(steps)
    while time.perf_counter() < end:
        for name, step in steps.items():
            for _ in range(5):
                started = time.perf_counter()
                step()
                best[name] = min(best[name], time.perf_counter() - started)
    return {k: 1e6 * t for k, t in best.items()}


def row(name: str, optimizer: str, times: dict) -> str:
    cells = [f"{times[k]:,.0f}" if k in times else "-" for k in ("flatgrad, eager", "flatgrad")]
    for peer in TARGETS:
        cells.append(f"{times[peer]:,.0f}" if peer in times else "-")
    for peer, target in TARGETS.items():
        ratio = times["flatgrad"] / times[peer] if peer in times else float("nan")
        cells.append(f"**{ratio:.2f}**" if ratio > target else f"{ratio:.2f}")
    return f"| {NETWORKS[name].title} | {optimizer} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest networks, one sample")
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--ours", action="store_true", help="without the other libraries")
    parser.add_argument("--seconds", type=float, default=1.5, help="for each library and network")
    tables.add_option(parser)
    given = parser.parse_args()
    rows = []
    names = [n for n in NETWORKS if given.only in n]
    if given.quick:
        names, given.seconds = [n for n in ("mlp", "lstm") if n in names], 0.05
    fg.set_compile("always")
    print(f"{platform.processor() or platform.machine()}; one thread; microseconds a step\n")
    print("| step | optimiser | eager | one program | PyTorch | JAX | / PyTorch | / JAX |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        for optimizer in OPTIMIZERS:
            steps = steps_of(name, optimizer, given.ours)
            check(name, steps)
            times = timed(steps, given.seconds)
            print(row(name, optimizer, times), flush=True)
            title = f"{NETWORKS[name].title}, {optimizer}"
            rows += [
                tables.row(title, peer, times["flatgrad"], times[peer], target)
                for peer, target in TARGETS.items()
                if peer in times
            ]
    tables.write(given.json, rows)
    print("\nBold: above the target (0.5 of PyTorch, 0.8 of JAX).")


if __name__ == "__main__":
    main()
