"""Few passes for a sparse Jacobian: columns that share no row are computed together.

``columns`` colours columns so that two of one colour meet in no row (Curtis, Powell, Reid 1974), greedily;
``symmetric`` colours so that the Hessian's symmetry can be used: a star colouring (Coleman, Moré 1984;
Gebremedhin, Manne, Pothen 2005), under which one of H[i, j] and H[j, i] can be read from the
compressed matrix.
"""

from __future__ import annotations

import numpy as np

__all__ = ["columns", "symmetric"]


def columns(pattern) -> np.ndarray:
    """A colour from 0 for each column of a CSR matrix. Empty columns have colour 0.

    Columns are taken in their order and by falling number of elements; the better result counts.
    """
    by_column = pattern.tocsc()
    sizes = np.diff(by_column.indptr)
    natural = _greedy(by_column, np.flatnonzero(sizes))
    if int(natural.max(initial=-1)) + 1 == int(np.diff(pattern.indptr).max(initial=0)):
        return natural  # as many as the fullest row has elements: no fewer are possible
    busiest = np.argsort(-sizes, kind="stable")
    other = _greedy(by_column, busiest[sizes[busiest] > 0])
    return min(natural, other, key=lambda colours: int(colours.max(initial=0)))


def _greedy(by_column, order) -> np.ndarray:
    """Each column of `order` gets the least colour that is free in all of its rows."""
    starts, indices = by_column.indptr.tolist(), by_column.indices.tolist()
    taken = [0] * by_column.shape[0]  # of each row the colours in it, as bits
    colours = np.zeros(by_column.shape[1], np.int64)
    for j in order.tolist():
        rows = indices[starts[j] : starts[j + 1]]
        used = 0
        for i in rows:
            used |= taken[i]
        bit = ~used & (used + 1)
        for i in rows:
            taken[i] |= bit
        colours[j] = bit.bit_length() - 1
    return colours


def symmetric(pattern) -> np.ndarray:
    """A star colouring of the graph whose edges are the off-diagonal elements of a symmetric matrix."""
    starts, indices = pattern.indptr.tolist(), pattern.indices.tolist()
    count = pattern.shape[0]
    near = [[w for w in indices[starts[v] : starts[v + 1]] if w != v] for v in range(count)]
    colours = [-1] * count
    for v in sorted(range(count), key=lambda v: -len(near[v])):
        forbidden = set()
        for w in near[v]:
            if colours[w] >= 0:
                forbidden.add(colours[w])
            for x in near[w]:
                if x == v or colours[x] < 0 or colours[x] in forbidden:
                    continue
                # v - w - x: one colour at both ends needs a w of a third one next to nobody else of it.
                if colours[w] < 0 or any(y != w and colours[y] == colours[w] for y in near[x]):
                    forbidden.add(colours[x])
        colour = 0
        while colour in forbidden:
            colour += 1
        colours[v] = colour
    return np.array(colours, np.int64)
