"""Model-predictive control through a neural network: the controller of ``mpc.py`` with learned dynamics.

Run it with ``python examples/mpc_neural.py [--plot neural.png]``. A small network is trained on accelerations
measured (with noise) on the true system; its exact Jacobians are part of the controller's program, whose
loop then swings up the true pendulum.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from cartpole import FORCE, Controller, acceleration, plot, report, step_of, swing_up

import flatgrad as fg
from flatgrad import nn

SAMPLES, WIDTH, NOISE = 6000, 24, 0.05


def measured(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """States and forces (N, 5), and the accelerations (N, 2) that they cause."""
    spread = np.array([2.0, np.pi, 3.0, 12.0, FORCE])
    inputs = rng.uniform(-1, 1, (SAMPLES, 5)) * spread
    true = fg.func.vmap(acceleration)(inputs[:, :4], inputs[:, 4:]).numpy()
    return inputs, true + NOISE * rng.normal(size=true.shape)


def features(state, force):
    """What the accelerations depend on, scaled to about one."""
    angle, spin = state[..., 1], state[..., 3]
    return fg.stack([fg.sin(angle), fg.cos(angle), spin / 12, force[..., 0] / FORCE], -1)


def train(steps: int, seed: int):
    """The network and its last loss."""
    fg.manual_seed(seed)
    inputs, targets = measured(np.random.default_rng(seed))
    scale = targets.std(0)
    x = features(fg.tensor(inputs[:, :4]), fg.tensor(inputs[:, 4:]))
    y = fg.tensor(targets / scale)
    model = nn.Sequential(
        nn.Linear(4, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 2)
    ).to(fg.float64)
    optimizer = fg.optim.Adam(model.parameters(), lr=1e-2)
    schedule = fg.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        schedule.step()

    def learned(state, force):
        return model(features(state, force)) * fg.from_numpy(scale)

    return learned, loss.item()


def main(arguments=None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of simulated time")
    parser.add_argument("--steps", type=int, default=2000, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", metavar="PATH", help="write a picture of the swing")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    learned, loss = train(options.steps, options.seed)
    print(f"trained in                    {time.perf_counter() - started:.1f} s, loss {loss:.4f}")
    controller = Controller(learned)
    print(f"traced and compiled in        {controller.compile_seconds:.1f} s")
    plant = fg.compile(step_of(acceleration), np.zeros(4), np.zeros(1))
    run = swing_up(controller, plant, options.seconds)
    found = report(*run)
    if options.plot:
        plot(options.plot, *run[:2], "Swing-up with learned dynamics")
    return found | {"loss": loss}


if __name__ == "__main__":
    main()
