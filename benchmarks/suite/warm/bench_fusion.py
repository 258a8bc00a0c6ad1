"""Forward and backward in one program: losses, norms, an LSTM cell (beside C: benchmarks/fusion.py)."""

import flatgrad as fg

from ..fused import CASES

CALLS = 100


class Fusion:
    params = (list(CASES),)
    param_names = ("program",)
    timeout = 120

    def setup(self, program):
        import numba

        case = CASES[program]
        sizes = case.sizes[0]
        given = case.arguments(*sizes)
        fill = fg.compile(case.function, *given).njit_out
        arrays = (*given, *[r for r in case.results(*sizes) if r.shape])

        @numba.njit
        def loop(first, arrays):
            for k in range(CALLS):
                first.flat[0] += 1e-9 * (k % 2)  # or an inlined program is computed once
                fill(*arrays)

        self.run = lambda: loop(given[0], arrays)
        self.run()

    def time_hundred_calls(self, program):
        self.run()
