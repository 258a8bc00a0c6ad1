"""Loops inside compiled code, so that what is timed is a program and not Python's way to it."""


def looped(fill, calls: int):
    """``run(arrays)``: so many calls of a compiled function's ``njit_out`` from one compiled loop.

    The first array is changed a little before each, or LLVM computes an inlined program once.
    """
    import numba

    @numba.njit
    def run(arrays):
        first = arrays[0]
        for k in range(calls):
            first.flat[0] += 1e-9 * (k % 2)
            fill(*arrays)

    return run
