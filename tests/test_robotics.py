"""The examples of robotics do what they say: estimates are consistent, pendulums end up upright."""

from __future__ import annotations

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("cartpole", None)


def by_hand(state, covariance, measured, ekf):
    """A step of the filter with derivatives by hand, all measurements at once."""
    dt = ekf.STEP
    x, y, heading, speed, turn = state
    middle = heading + dt / 2 * turn
    s, c = np.sin(middle), np.cos(middle)
    f = np.eye(5)
    f[0, 2:] = -dt * speed * s, dt * c, -dt * speed * s * dt / 2
    f[1, 2:] = dt * speed * c, dt * s, dt * speed * c * dt / 2
    f[2, 4] = dt
    state = np.array([x + dt * speed * c, y + dt * speed * s, heading + dt * turn, speed, turn])
    covariance = f @ covariance @ f.T + ekf.DRIVE
    d = ekf.LANDMARKS - state[:2]
    r = np.hypot(*d.T)
    h = np.zeros((6, 5))
    h[:3, :2] = -d / r[:, None]
    h[3:, 0], h[3:, 1], h[3:, 2] = d[:, 1] / r**2, -d[:, 0] / r**2, -1.0
    innovation = measured - np.concatenate([r, np.arctan2(d[:, 1], d[:, 0]) - state[2]])
    innovation[3:] = np.arctan2(np.sin(innovation[3:]), np.cos(innovation[3:]))
    s = h @ covariance @ h.T + np.diag(ekf.NOISE)
    gain = covariance @ h.T @ np.linalg.inv(s)
    squared = innovation @ np.linalg.solve(s, innovation)
    return state + gain @ innovation, covariance - gain @ s @ gain.T, squared


def test_the_filter_is_the_textbooks(load, rng):
    ekf = load("ekf")
    _, measured = ekf.simulate(50, 3)
    first = ekf.START + 0.3 * rng.normal(size=5)
    states, covariances, squared, _ = ekf.run_filter(measured, first)
    state, covariance = first, ekf.SPREAD
    for t in range(50):
        state, covariance, want = by_hand(state, covariance, measured[t], ekf)
        np.testing.assert_allclose(states[t], state, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(covariances[t], covariance, rtol=1e-6, atol=1e-10)
        np.testing.assert_allclose(squared[t], want, rtol=1e-6)


def test_the_filter_is_consistent(load, capsys):
    found = load("ekf").main(["--seed", "5"])
    assert found["rmse"] < 0.3  # better than a single range
    # The means of a consistent filter over 1,800 steps; wider than for independent errors, as these are not.
    assert 4.3 < found["nees"] < 5.8
    assert 5.7 < found["nis"] < 6.4
    assert "Jacobians and all" in capsys.readouterr().out


def test_the_pendulum_is_swung_up_and_held(load, capsys):
    found = load("mpc").main([])
    check_swing(found)
    assert "control step" in capsys.readouterr().out


def test_the_pendulum_is_swung_up_by_learned_dynamics(load, capsys):
    found = load("mpc_neural").main([])
    assert found["loss"] < 0.01
    check_swing(found)


def check_swing(found):
    assert np.degrees(found["tilt"]) < 2
    assert found["reach"] < 2
    assert found["force"] <= 12
    assert found["force"] > 11  # the bound was active: the swing needs all there is


def test_gauss_newton_steps_descend_and_converge(load):
    cartpole = sys.modules.get("cartpole") or load("cartpole")
    controller = cartpole.Controller(cartpole.acceleration)
    forces = np.zeros((cartpole.HORIZON, 1))
    start = np.array([0.0, 0.01, 0.0, 0.0])
    costs = [controller.control(start, forces, 1) for _ in range(30)]
    assert all(b <= a for a, b in pairwise(costs))
    assert costs[0] - costs[-1] > 1e-3
    assert costs[-2] - costs[-1] < 1e-9 * costs[-1]
    # At the minimum, no feasible change of one force makes it better.
    best = costs[-1]
    for t in (0, 7, 29):
        for change in (-1e-3, 1e-3):
            other = forces.copy()
            other[t] = np.clip(other[t] + change, -cartpole.FORCE, cartpole.FORCE)
            assert controller.control(start, other, 0) >= best - 1e-6


def test_pictures(load, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "drive.png"
    load("ekf").main(["--steps", "400", "--plot", str(path)])
    assert path.read_bytes()[:4] == b"\x89PNG"
