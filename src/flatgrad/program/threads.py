"""How many threads programs with ``parallel=True`` run on: Numba's pool, and BLAS's."""

from __future__ import annotations

from operator import index

from ..errors import ArgumentError

__all__ = ["get_num_threads", "set_num_threads"]


def get_num_threads() -> int:
    """The number of threads that a program with ``parallel=True`` runs on.

    Returns
    -------
    int
        What `set_num_threads` said last in this thread; at first the number of processors (or
        ``NUMBA_NUM_THREADS``).

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.get_num_threads() >= 1
    True
    """
    import numba

    return numba.get_num_threads()


def set_num_threads(n: int) -> None:
    """Let programs with ``parallel=True`` run on `n` threads, when they are called from this thread.

    Numba's own ``parallel=True`` functions follow too: they share the pool.

    Parameters
    ----------
    n : int
        From 1 to the size of the pool, which is the number of processors unless ``NUMBA_NUM_THREADS``
        says otherwise when Numba is imported.

    Raises
    ------
    ArgumentError
        If `n` is no such number.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.set_num_threads(1)
    >>> fg.get_num_threads()
    1
    """
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    try:
        count = index(n)
    except TypeError:
        count = 0
    if isinstance(n, bool) or not 1 <= count <= most:
        raise ArgumentError(
            f"set_num_threads: a number from 1 to {most} is required, got {n!r}; the pool's size is set by "
            "NUMBA_NUM_THREADS before Numba is imported"
        )
    numba.set_num_threads(count)
