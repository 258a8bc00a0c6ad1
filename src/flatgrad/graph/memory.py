"""Who else refers to an array: whether a node's memory can be written by anybody but flatgrad.

NumPy gives every view a reference to the array that owns the memory, so the owner's reference
count tells whether the user still holds a view of it. Counts are compared with those of a probe that
is held once, so that nothing depends on how an interpreter counts its own variables.
"""

from __future__ import annotations

import sys

import numpy as np


class _Probe:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


def _value_count(holder) -> int:
    return sys.getrefcount(holder.value)


def _owner_count(holder) -> int:
    return sys.getrefcount(holder.value.base)


_ONE_VALUE = _value_count(_Probe(np.zeros(1)))
_ONE_OWNER = _owner_count(_Probe(np.zeros(1).view()))


def sole_array(holder) -> bool:
    """Whether ``holder.value`` is memory that nothing else refers to.

    Parameters
    ----------
    holder : object with the attribute ``value``, an ndarray
    """
    owner = holder.value.base
    if owner is None:
        return holder.value.flags.owndata and _value_count(holder) <= _ONE_VALUE
    if type(owner) is not np.ndarray or owner.base is not None or not owner.flags.owndata:
        return False
    del owner
    return _value_count(holder) <= _ONE_VALUE and _owner_count(holder) <= _ONE_OWNER


def _node_count(tensor) -> int:
    return sys.getrefcount(tensor._node)


class _TensorProbe:
    def __init__(self):
        self._node = _Probe(None)


_ONE_NODE = _node_count(_TensorProbe())


def sole_node(tensor, besides: int = 0) -> bool:
    """Whether nothing but `tensor` (and so many others) refers to its node: no graph was recorded from it."""
    return _node_count(tensor) <= _ONE_NODE + besides
