"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings

# How fast a machine is says nothing about the code: no test may fail for it.
settings.register_profile("labd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("labd")

SHARED = Path(__file__).parents[2] / "shared"

if SHARED.is_dir():  # official models, sets and published logs; tests that need them skip else
    os.environ.setdefault("LABD_SHARED", str(SHARED))
