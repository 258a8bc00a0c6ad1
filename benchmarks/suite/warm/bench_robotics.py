"""Steps of an extended Kalman filter and of a model-predictive controller, called from Numba."""

import sys
from pathlib import Path

import numpy as np

import flatgrad as fg

CALLS = 1000


class Robotics:
    params = (["filter", "jacobians"],)
    param_names = ("step",)
    timeout = 120

    def setup(self, step):
        import numba

        sys.path.insert(0, str(Path(__file__).parents[3] / "examples"))
        import cartpole
        import ekf

        if step == "filter":
            given = ekf.START, ekf.SPREAD, ekf.measurement(fg.tensor(ekf.START)).numpy()
            out = np.empty(5), np.empty((5, 5))
            program = fg.compile(ekf.filter_step, *given)
        else:
            stages = cartpole.HORIZON
            given = np.full((stages, 4), 0.3), np.full((stages, 1), 0.3)
            out = np.empty((stages, 4, 4)), np.empty((stages, 4, 1))
            stage = fg.func.jacfwd(cartpole.step_of(cartpole.acceleration), argnums=(0, 1))
            program = fg.compile(fg.func.vmap(stage), *given)
        fill, arrays = program.njit_out, (*given, *out)

        @numba.njit
        def loop(arrays):
            for _ in range(CALLS):
                fill(*arrays)

        self.run = lambda: loop(arrays)
        self.run()

    def time_thousand_calls(self, step):
        self.run()
