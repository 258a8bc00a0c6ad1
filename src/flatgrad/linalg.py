"""``flatgrad.linalg``: the registry's public functions whose names begin with "linalg."."""

from __future__ import annotations

from . import ops as _ops

globals().update(
    {
        name.removeprefix("linalg."): public.function
        for name, public in _ops.PUBLIC.items()
        if name.startswith("linalg.")
    }
)
