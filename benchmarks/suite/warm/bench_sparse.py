"""Sparse Jacobians of a chain of residuals and of bundle adjustment; the pattern is known after one call."""

import sys
from pathlib import Path

import numpy as np

import flatgrad as fg


def chain(x):
    return fg.cat([x[1:] * fg.sin(x[:-1]) - 1, x[:1] ** 2])


def bundle():
    """(residuals of all unknowns, the unknowns): 300 observations of 50 points by 10 cameras."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "gradbench"))
    import ba

    n, m, p = 10, 50, 300
    cameras, points, weights, seen, features = ba.inputs(n, m, p)

    def residuals(x):
        parts = x[: 11 * n].reshape(n, 11), x[11 * n : -p].reshape(m, 3), x[-p:]
        rows = ba.unknowns(*parts, seen, fg.cat)
        return fg.vmap(lambda u, f: ba.residual(u, f, fg))(rows, fg.from_numpy(features)).reshape(
            -1
        )

    return residuals, np.concatenate([cameras.ravel(), points.ravel(), weights])


class Sparse:
    params = (["chain", "bundle adjustment"],)
    param_names = ("residuals",)
    timeout = 120

    def setup(self, residuals):
        f, self.x = (chain, np.linspace(0, 1, 2000)) if residuals == "chain" else bundle()
        self.jacobian = fg.func.jacobian(f, sparse=True)
        fg.set_compile("always")  # as it is after some calls
        self.jacobian(self.x)

    def teardown(self, residuals):
        fg.set_compile("auto")

    def time_again(self, residuals):
        self.jacobian(self.x)
