"""GradBench's protocol over standard input and output, for every module: one conversation with the tool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent
TOOL = ROOT / "benchmarks" / "gradbench" / "tool.py"
RNG = np.random.default_rng(5)
EXACT, DIFFERENCES = 1e-9, 1e-6  # relative to the largest element


def converse(*messages) -> list[dict]:
    """The tool's responses."""
    text = "".join(json.dumps({"id": k} | m) + "\n" for k, m in enumerate(messages))
    done = subprocess.run(
        [sys.executable, str(TOOL)],
        input=text,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def evaluate(module: str, function: str, given) -> dict:
    return {"kind": "evaluate", "module": module, "function": function, "input": given}


def test_messages_are_acknowledged_by_their_ids():
    lines = converse(
        {"kind": "start", "eval": "lse"},
        {"kind": "define", "module": "lse"},
        evaluate("lse", "primal", {"x": [1.0, 2.0], "min_runs": 3, "min_seconds": 0}),
        {"kind": "analysis", "of": 2, "valid": True},
        {"kind": "define", "module": "tensors"},
        evaluate("tensors", "primal", {}),
        evaluate("lse", "hessian", {"x": [1.0]}),
        evaluate("lse", "primal", {"y": [1.0]}),
        evaluate("lse", "primal", {"x": [1.0, 2.0], "min_runs": 1, "min_seconds": 0.01}),
        {"kind": "something new"},
    )
    assert [line["id"] for line in lines] == list(range(10))
    assert lines[0] == {"id": 0, "tool": "flatgrad"}
    assert lines[1] == {"id": 1, "success": True}
    assert lines[3] == {"id": 3}
    assert lines[9] == {"id": 9}
    for wrong, word in ((4, "tensors"), (5, "tensors"), (6, "hessian"), (7, "KeyError")):
        assert lines[wrong]["success"] is False
        assert word in lines[wrong]["error"]
        assert "output" not in lines[wrong]

    timings = lines[2]["timings"]
    assert [t["name"] for t in timings] == ["prepare"] + 3 * ["evaluate"]
    assert all(isinstance(t["nanoseconds"], int) and t["nanoseconds"] > 0 for t in timings)
    spent = sum(t["nanoseconds"] for t in lines[8]["timings"] if t["name"] == "evaluate")
    assert spent >= 10_000_000


# -- what each module must answer: independent, in NumPy ------------------------------------------


def slope(function, x, step=1e-5) -> np.ndarray:
    """The Jacobian by central differences, (outputs..., inputs...)."""
    x, columns = np.array(x, float), []
    for at in np.ndindex(x.shape):
        values = []
        for sign in (1, -1):
            moved = x.copy()
            moved[at] += sign * step
            values.append(np.asarray(function(moved)))
        columns.append((values[0] - values[1]) / (2 * step))
    found = np.stack(columns, -1)
    return found.reshape(*found.shape[:-1], *x.shape)


def of_det():
    a = RNG.normal(size=(4, 4))
    given = {"A": a.ravel().tolist(), "ell": 4}
    cofactors = np.linalg.det(a) * np.linalg.inv(a).T
    return given, {"primal": np.linalg.det(a), "gradient": cofactors.ravel()}, EXACT


def of_lse():
    x = RNG.normal(size=7)
    given, e = {"x": x.tolist()}, np.exp(x)
    return given, {"primal": np.log(e.sum()), "gradient": e / e.sum()}, EXACT


def of_llsq():
    x, n = RNG.normal(size=4), 9
    t = -1 + 2 * np.arange(n) / (n - 1)
    powers = t[:, None] ** np.arange(4)
    left = powers @ x - np.sign(t)
    given = {"x": x.tolist(), "n": n}
    return given, {"primal": 0.5 * left @ left, "gradient": powers.T @ left}, EXACT


def of_kmeans():
    points = RNG.normal(size=(12, 2))
    centroids = points[-3:]
    squares = ((points[:, None] - centroids) ** 2).sum(2)
    nearest = squares.argmin(1)
    means = np.stack([points[nearest == k].mean(0) for k in range(3)])
    given = {"points": points.tolist(), "centroids": centroids.tolist()}
    return given, {"cost": squares.min(1).sum(), "dir": centroids - means}, EXACT


def of_ode():
    x, s = RNG.uniform(0.5, 1.5, 4), 3

    def primal(x):
        y, h = np.zeros(4), 2 / s
        for _ in range(s):
            k, slopes = y, []
            for step in (h / 2, h / 2, h, 0):
                slopes.append(x * np.concatenate([[1.0], k[:-1]]))
                k = y + step * slopes[-1]
            y = y + h / 6 * (slopes[0] + 2 * slopes[1] + 2 * slopes[2] + slopes[3])
        return y

    wanted = {"primal": primal(x), "gradient": slope(lambda x: primal(x)[-1], x)}
    return {"x": x.tolist(), "s": s}, wanted, DIFFERENCES


def of_gmm():
    """With a prior that is not the workload's."""
    d, k, n, m, gamma = 2, 3, 6, 1, 1.5
    x = RNG.normal(size=(n, d))
    names = {"alpha": (k,), "mu": (k, d), "q": (k, d), "l": (k, 1)}
    values = {name: RNG.normal(size=shape) for name, shape in names.items()}

    def objective(alpha, mu, q, l):  # noqa: E741
        logs = np.empty((n, k))
        penalty = 0.0
        for c in range(k):
            triangle = np.array([[np.exp(q[c, 0]), 0], [l[c, 0], np.exp(q[c, 1])]])
            y = (x - mu[c]) @ triangle.T
            logs[:, c] = alpha[c] + q[c].sum() - 0.5 * (y * y).sum(1)
            penalty += 0.5 * gamma**2 * (triangle**2).sum() - m * q[c].sum()
        degrees = d + m + 1
        # the bivariate gamma function at 2: pi**0.5 * gamma(2) * gamma(1.5)
        log_gamma = np.log(np.sqrt(np.pi) * 1.0 * np.sqrt(np.pi) / 2)
        constant = degrees * d * np.log(gamma / np.sqrt(2)) - log_gamma
        likelihood = np.log(np.exp(logs).sum(1)).sum() - n * np.log(np.exp(alpha).sum())
        return likelihood - n * d / 2 * np.log(2 * np.pi) + k * constant - penalty

    jacobian = {
        name: slope(lambda v, name=name: objective(**(values | {name: v})), values[name])
        for name in names
    }
    given = {"d": d, "k": k, "n": n, "m": m, "gamma": gamma, "x": x.tolist()}
    given |= {name: v.tolist() for name, v in values.items()}
    return given, {"objective": objective(**values), "jacobian": jacobian}, DIFFERENCES


def of_lstm():
    """Five bits a character, not the workload's fourteen."""
    layers, bits, count = 2, 5, 4
    main, extra = RNG.normal(size=(2 * layers, 4 * bits)), RNG.normal(size=(3, bits))
    state = RNG.normal(size=(2 * layers, bits))
    sequence = RNG.integers(0, 2, (count, bits)).astype(float)

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    def objective(weights):
        main, extra = weights[: 8 * layers * bits], weights[8 * layers * bits :].reshape(3, bits)
        main, now, total = main.reshape(layers, 2, 4, bits), state.copy(), 0.0
        for t in range(count - 1):
            x = sequence[t] * extra[0]
            for layer in range(layers):
                w, b = main[layer]
                h, c = now[2 * layer], now[2 * layer + 1]
                change = sigmoid(h * w[1] + b[1]) * np.tanh(h * w[3] + b[3])
                c = c * sigmoid(x * w[0] + b[0]) + change
                x = sigmoid(x * w[2] + b[2]) * np.tanh(c)
                now[2 * layer], now[2 * layer + 1] = x, c
            y = x * extra[1] + extra[2]
            total += (sequence[t + 1] * (y - np.log(np.exp(y).sum() + 2))).sum()
        return -total / (bits * (count - 1))

    weights = np.concatenate([main.ravel(), extra.ravel()])
    names = {"main_params": main, "extra_params": extra, "state": state, "sequence": sequence}
    wanted = {"objective": objective(weights), "jacobian": slope(objective, weights)}
    return {k: v.tolist() for k, v in names.items()}, wanted, DIFFERENCES


def turned(axis, by) -> np.ndarray:
    """Rodrigues' formula."""
    angle = np.sqrt(axis @ axis)
    w = axis / angle
    along = w * (w @ by) * (1 - np.cos(angle))
    return by * np.cos(angle) + np.cross(w, by) * np.sin(angle) + along


def of_ba():
    n, m, p = 2, 5, 11
    cam, x, w, feat = (
        RNG.uniform(0.1, 0.4, 11),
        RNG.normal(size=3) + np.array([0, 0, 6]),
        0.7,
        [0.3, -0.2],
    )

    def errors(u):
        moved = turned(u[:3], u[11:14] - u[3:6])
        at = moved[:2] / moved[2]
        square = at @ at
        at = at * (1 + u[9] * square + u[10] * square**2) * u[6] + u[7:9]
        return u[14] * (at - feat)

    block = np.concatenate([cam, x, [w]])
    jacobian, starts = slope(errors, block), [15 * k for k in range(2 * p + 1)]

    def columns(k):
        point = 11 * n + 3 * (k % m)
        one = [*range(11 * (k % n), 11 * (k % n) + 11), *range(point, point + 3)]
        return 2 * [*one, 11 * n + 3 * m + k]

    every = [c for k in range(p) for c in columns(k)] + [11 * n + 3 * m + k for k in range(p)]
    starts += [30 * p + 1 + k for k in range(p)]
    values = [*np.tile(jacobian.ravel(), p), *(p * [-2 * w])]
    matrix = {
        name: np.array([*v[:30], v[-1]])
        for name, v in (("rows", starts), ("cols", every), ("vals", values))
    }
    objective = {
        "reproj_error": {"elements": errors(block), "repeated": p},
        "w_err": {"element": 1 - w * w, "repeated": p},
    }
    given = {"n": n, "m": m, "p": p, "cam": cam.tolist(), "x": x.tolist(), "w": w, "feat": feat}
    return given, {"objective": objective, "jacobian": matrix}, DIFFERENCES


def of_ht(simple: bool):
    """A wrist, five fingers of four bones, a forearm; mirrored where it is simple."""
    bones, vertices, count = 22, 9, 4
    parents = [-1, *[0 if b % 4 == 1 else b - 1 for b in range(1, 21)], 0]
    relatives, inverses = RNG.normal(size=(2, bones, 4, 4))
    relatives[:, 3] = inverses[:, 3] = [0, 0, 0, 1]
    skin = np.concatenate([RNG.normal(size=(vertices, 3)), np.ones((vertices, 1))], 1)
    weights = RNG.dirichlet(np.ones(bones), vertices)
    triangles = RNG.integers(0, vertices, (5, 3))
    seen, points = RNG.integers(0, 5, count), RNG.normal(size=(count, 3))
    theta, u = 0.3 * RNG.normal(size=26), RNG.uniform(0.1, 0.4, (0 if simple else count, 2))

    def rotation(axis, angle):
        return np.stack([turned(angle * np.eye(3)[axis], e) for e in np.eye(3)], 1)

    def residuals(theta, u):
        angles = np.zeros((bones, 3))
        for finger in range(5):
            t = theta[6 + 4 * finger : 10 + 4 * finger]
            first = 2 + 4 * finger
            angles[first, :2], angles[first + 1, 0], angles[first + 2, 0] = t[:2], t[2], t[3]
        whole, place = [], np.zeros((vertices, 3))
        for b in range(bones):
            motion = np.eye(4)
            x, z, y = angles[b] + 1e-30
            motion[:3, :3] = rotation(2, z) @ rotation(1, y) @ rotation(0, x)
            motion = relatives[b] @ motion
            whole.append(motion if parents[b] < 0 else whole[parents[b]] @ motion)
            place += weights[:, b, None] * (skin @ (whole[b] @ inverses[b]).T)[:, :3]
        if simple:
            place[:, 0] *= -1
        place = np.stack([turned(theta[:3], v) for v in place]) + theta[3:6]
        if simple:
            return (points - place[seen]).ravel()
        shares = np.stack([u[:, 0], u[:, 1], 1 - u.sum(1)], 1)
        return (points - (shares[:, :, None] * place[triangles[seen]]).sum(1)).ravel()

    jacobian = slope(lambda theta: residuals(theta, u), theta)
    if not simple:
        of_u = slope(lambda step: residuals(theta, u + step), np.zeros(2))
        jacobian = np.concatenate([of_u, jacobian], 1)
    model = {"base_relatives": relatives, "inverse_base_absolutes": inverses, "weights": weights}
    model |= {"base_positions": skin, "triangles": triangles}
    model = {name: v.tolist() for name, v in model.items()}
    model |= {"bone_count": bones, "parents": parents, "is_mirrored": simple}
    data = {"model": model, "correspondences": seen.tolist(), "points": points.tolist()}
    given = {"theta": theta.tolist(), "us": u.tolist(), "data": data}
    return given, {"objective": residuals(theta, u), "jacobian": jacobian}, DIFFERENCES


def cases():
    """{module, or module and a word: (input, {function: output}, tolerance)}."""
    found = {name: globals()[f"of_{name}"]() for name in MODULES}
    found |= {"ht, simple": of_ht(True), "ht": of_ht(False)}
    for x in (1.0, -3.5):
        found[f"hello, {x}"] = x, {"square": x * x, "double": 2 * x}, EXACT
    # What GradBench's own evals require.
    at = 0.2071918746486116
    found["particle"] = {"w": 0.0}, {"rf": at, "fr": at}, 1e-9
    least = np.full(4, 8.246324826140356e-06)
    found["saddle"] = {"start": [1.0, 1.0]}, {"rf": least, "fr": least}, 1e-6
    return found


MODULES = ("det", "lse", "llsq", "kmeans", "ode", "gmm", "lstm", "ba")


def agree(got, want, tolerance: float, where: str) -> None:
    """The same tree, lengths and numbers; whole numbers exactly."""
    if isinstance(want, dict):
        assert got.keys() == want.keys(), where
        for name in want:
            agree(got[name], want[name], tolerance, f"{where}: {name}")
        return
    want = np.asarray(want)
    if want.ndim == 0:
        assert isinstance(got, int if want.dtype.kind == "i" else float), where
    if want.dtype.kind == "i":
        np.testing.assert_array_equal(np.array(got), want, err_msg=where)
    scale = np.abs(want).max()
    assert np.shape(got) == want.shape, where
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale, err_msg=where)


@pytest.fixture(scope="module")
def conversation():
    """{(case, function): (wanted, tolerance, the tool's response)}, all from one process."""
    keys, messages = [], [{"kind": "start"}]
    for name, (given, wanted, tolerance) in cases().items():
        for function, want in wanted.items():
            given = given | {"min_runs": 2, "min_seconds": 0} if isinstance(given, dict) else given
            keys.append((name, function, want, tolerance))
            messages.append(evaluate(name.split(",")[0], function, given))
    replies = converse(*messages)[1:]
    return list(zip(keys, replies, strict=True))


def test_every_module_answers_what_its_eval_requires(conversation):
    for (name, function, want, tolerance), reply in conversation:
        assert reply["success"], f"{name}: {reply.get('error')}"
        agree(reply["output"], want, tolerance, f"{name}: {function}")


def test_every_module_of_the_benchmark_is_known():
    names = [p.stem for p in (TOOL.parent / "c").glob("*.c")]
    for reply in converse(*({"kind": "define", "module": name} for name in names)):
        assert reply["success"]
