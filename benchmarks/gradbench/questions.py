"""What GradBench's evals ask, in its own input and output forms, over the workloads of this folder.

``MODULES[module][function]`` takes the decoded ``"input"`` of an evaluate message and gives a `Question`. The
forms are those of the evals' own pages (``evals/*/README.md`` of GradBench).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ba
import det
import gmm
import hand
import hello
import kmeans
import llsq
import lse
import lstm
import numpy as np
import ode
import particle
import saddle

import flatgrad as fg


@dataclass(frozen=True)
class Question:
    """One function, the arrays that it takes, and what turns its results into JSON's values."""

    function: Callable
    arrays: tuple
    write: Callable


def array(values, *shape) -> np.ndarray:
    found = np.array(values, np.float64)  # its own memory, contiguous
    return found.reshape(shape) if shape else found


def nested(result) -> list:
    return result.tolist()


def flat(*results) -> list:
    return np.concatenate([np.ravel(r) for r in results]).tolist()


# -- one function for each module -----------------------------------------------------------------


def of_hello(function):
    return lambda given: Question(function, (array(given),), float)


def of_det(function, write):
    def question(given):
        size = given["ell"]
        return Question(function, (array(given["A"], size, size),), write)

    return question


def determinant(a):
    return det.determinant(a, fg.from_numpy, fg.ones(1, dtype=fg.float64))


def of_gmm(wrap, write):
    def question(given):
        d, k = given["d"], given["k"]
        shapes = {"alpha": (k,), "mu": (k, d), "q": (k, d), "l": (k, d * (d - 1) // 2)}
        arrays = [array(given[name], *shape) for name, shape in shapes.items()]
        x = array(given["x"], given["n"], d)
        prior = given["gamma"], given["m"]
        rows = gmm.ROWS if len(x) % gmm.ROWS == 0 else None

        def objective(*arrays):
            return gmm.objective(*arrays, rows=rows, prior=prior)

        return Question(wrap(objective), (*arrays, x), write)

    return question


def gmm_gradient(objective):
    return fg.grad(objective, argnums=(0, 1, 2, 3))


def gmm_jacobian(results) -> dict:
    return dict(zip(("alpha", "mu", "q", "l"), map(nested, results), strict=True))


def of_kmeans(function, write):
    def question(given):
        return Question(function, (array(given["points"]), array(given["centroids"])), write)

    return question


def of_llsq(function, write):
    def question(given):
        x = array(given["x"])
        return Question(function, (x, *llsq.inputs(given["n"], len(x))[1:]), write)

    return question


def of_lse(function, write):
    return lambda given: Question(function, (array(given["x"]),), write)


def of_ode(function):
    return lambda given: Question(function, (array(given["x"]), np.zeros(given["s"])), nested)


def of_lstm(function, write):
    def question(given):
        main, extra, state, sequence = (
            array(given[name]) for name in ("main_params", "extra_params", "state", "sequence")
        )
        hidden, cell = array(state[::2]), array(state[1::2])
        return Question(function, (main, extra, hidden, cell, sequence), write)

    return question


def of_ba(function, write):
    def question(given):
        """One camera, point, weight and feature are sent; there are `n`, `m`, `p` and `p` of them."""
        n, m, p = given["n"], given["m"], given["p"]
        cameras, points = np.tile(array(given["cam"]), (n, 1)), np.tile(array(given["x"]), (m, 1))
        seen = np.stack([np.arange(p) % n, np.arange(p) % m], 1)
        features = np.tile(array(given["feat"]), (p, 1))
        arrays = cameras, points, np.full(p, float(given["w"])), seen, features
        return Question(function, arrays, write)

    return question


def ba_objective(cameras, points, weights, seen, features):
    """(residuals (p, 2), those of the weights (p,))."""
    rows = ba.unknowns(cameras, points, weights, seen, fg.cat)
    return fg.vmap(lambda u, feature: ba.residual(u, feature, fg))(rows, features), 1 - weights**2


def ba_jacobian(cameras, points, weights, seen, features):
    """The matrix of compressed rows: where each row begins, columns, values."""
    values, columns = ba.by_blocks(cameras, points, weights, seen, features)
    p = len(weights)
    return fg.cat([15 * fg.arange(2 * p + 1), 30 * p + 1 + fg.arange(p)], 0), columns, values


def ba_errors(results) -> dict:
    residuals, of_weights = results
    return {
        "reproj_error": {"elements": residuals[0].tolist(), "repeated": len(residuals)},
        "w_err": {"element": float(of_weights[0]), "repeated": len(of_weights)},
    }


def ba_matrix(results) -> dict:
    """Only the first 30 entries of each list and the last are sent."""
    names = "rows", "cols", "vals"
    return {name: [*r[:30].tolist(), r[-1].item()] for name, r in zip(names, results, strict=True)}


def of_particle(function):
    return lambda given: Question(function, (array([given["w"]]),), lambda w: w.item())


def of_saddle(function):
    return lambda given: Question(function, (array(given["start"]),), nested)


MODULES = {
    "hello": {"square": of_hello(hello.square), "double": of_hello(hello.derivative)},
    "det": {"primal": of_det(determinant, float), "gradient": of_det(det.derivative, flat)},
    "gmm": {
        "objective": of_gmm(lambda objective: objective, float),
        "jacobian": of_gmm(gmm_gradient, gmm_jacobian),
    },
    "kmeans": {
        "cost": of_kmeans(kmeans.cost_by_blocks, float),
        "dir": of_kmeans(kmeans.direction(kmeans.cost_by_blocks), nested),
    },
    "llsq": {"primal": of_llsq(llsq.cost, float), "gradient": of_llsq(llsq.by_horner, nested)},
    "lse": {
        "primal": of_lse(lambda x: fg.logsumexp(x, 0), float),
        "gradient": of_lse(lse.derivative, nested),
    },
    "ode": {"primal": of_ode(ode.solution), "gradient": of_ode(ode.derivative)},
    "lstm": {
        "objective": of_lstm(lstm.loss, float),
        "jacobian": of_lstm(lstm.derivative, lambda results: flat(*results)),
    },
    "ba": {
        "objective": of_ba(ba_objective, ba_errors),
        "jacobian": of_ba(ba_jacobian, ba_matrix),
    },
    "ht": {
        "objective": lambda given: Question(*hand.objective(given), nested),
        "jacobian": lambda given: Question(*hand.jacobian(given), nested),
    },
    "particle": {name: of_particle(particle.variant(*name)) for name in ("ff", "fr", "rf", "rr")},
    "saddle": {name: of_saddle(saddle.variant(*name)) for name in ("ff", "fr", "rf", "rr")},
}
