"""pyright checks a driver class against its Protocol where it is registered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DRIFTING = Path(__file__).with_name("drifting_drivers.py")


def test_a_driver_that_does_not_fit_its_protocol_is_refused() -> None:
    command = [sys.executable, "-m", "pyright", "--outputjson", str(DRIFTING)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=50)
    errors = [
        each
        for each in json.loads(done.stdout)["generalDiagnostics"]
        if each["severity"] == "error" and each["rule"] == "reportArgumentType"
    ]
    lines = DRIFTING.read_text(encoding="utf-8").splitlines()
    marked = [number for number, line in enumerate(lines) if "# drift" in line]
    assert sorted({each["range"]["start"]["line"] for each in errors}) == marked
