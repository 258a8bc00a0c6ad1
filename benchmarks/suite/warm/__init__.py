"""Calls of programs that are compiled and loaded: what a user pays every time.

What the first compilation imports is imported here: asv forks a process for each benchmark from one that has
imported the suites, so this is paid once.
"""

import contextlib

with contextlib.suppress(ImportError):  # where there is no Numba, flatgrad interprets
    import numba  # noqa: F401
    import scipy.linalg  # noqa: F401
