"""Long sweeps may be given an end: ``FLATGRAD_SLOW_SECONDS``, counted from the start of the tests.

What has been found wrong by then fails; what was not reached is skipped, and says so.
"""

from __future__ import annotations

import os
import time

_started = time.monotonic()


def time_is_up() -> bool:
    """Whether slow tests should end now. Without the variable, never."""
    limit = os.environ.get("FLATGRAD_SLOW_SECONDS")
    return limit is not None and time.monotonic() - _started > float(limit)
