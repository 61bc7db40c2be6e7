"""Files that come with labd: firmware images and accuracy set of digits01, a stations.toml."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

_IN_CHECKOUT = {
    "stations.toml": "stations.toml",
    "firmware": "firmware/prebuilt",
    "datasets": "datasets",
}
"""Where a checkout has them; a wheel has them beside this file (see pyproject.toml)."""


def bundled(name: str) -> Path:
    """Return the path of ``stations.toml``, ``firmware`` or ``datasets`` of this installation."""
    folder = Path(str(files(__name__)))
    installed = folder / name
    return installed if installed.exists() else folder.parents[1] / _IN_CHECKOUT[name]
