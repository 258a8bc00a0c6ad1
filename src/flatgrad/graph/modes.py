"""Thread-local modes: is gradient recording on, is inference mode on, is anomaly detection on."""

from __future__ import annotations

import threading


class Modes(threading.local):
    """One per thread; class attributes are each thread's initial values."""

    grad = True
    inference = False
    anomaly = False
    watch = False  # anomaly or inference: recording takes notes on each node
    anomaly_nan = True
    forward = False  # a forward derivative is under way: what is evaluated keeps its history
    pending = 0  # nodes recorded in this thread since its last evaluation; negative while tracing
    may_draw = True  # whether random numbers may be drawn (not while vmap traces one item)
    traced = False  # a program is being traced, which is to hold for every later call
    written: list | None = None  # where a trace notes the tensors that are written in place


modes = Modes()
