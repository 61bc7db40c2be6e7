"""The host's clock: one reading for everything that arrives."""

from __future__ import annotations

import time


def host_time_ns() -> int:
    """Return the time of CLOCK_MONOTONIC_RAW, ns; see :mod:`labd.core.host_clock` for why."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
