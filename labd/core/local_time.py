"""Times of the wall clock as people read them."""

from __future__ import annotations

import datetime as dt


def format_local_time(t_ns: int) -> str:
    """Format ns since the epoch as date and time of this host's time zone."""
    moment = dt.datetime.fromtimestamp(t_ns / 1e9).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")
