"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How fast a machine is says nothing about the code: no test may fail for it.
settings.register_profile("labd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("labd")

SHARED = Path(__file__).parents[2] / "shared"

if SHARED.is_dir():  # official models, sets and published logs; tests that need them skip else
    os.environ.setdefault("LABD_SHARED", str(SHARED))


TIMEOUT_S = 60
"""Time limit of a test without a mark (pyproject.toml)."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the tests with the longest time limits first: no worker is left with one at the end."""

    def limit_s(item: pytest.Item) -> float:
        mark = item.get_closest_marker("timeout")
        return float(mark.args[0]) if mark else TIMEOUT_S

    items.sort(key=limit_s, reverse=True)
