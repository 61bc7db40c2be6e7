"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

SHARED = Path(__file__).parents[2] / "shared"

if SHARED.is_dir():  # official models, sets and published logs; tests that need them skip else
    os.environ.setdefault("LABD_SHARED", str(SHARED))
