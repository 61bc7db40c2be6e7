"""Logging of a process: the error that ends it, or one of its threads, is a line like any other."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import threading
from labd.aio.logs import set_up_logging
set_up_logging(as_json=True, verbose=False)
def fail():
    raise ValueError("no such thing")
{call}
"""


@pytest.mark.parametrize(
    "call", ["fail()", "each = threading.Thread(target=fail); each.start(); each.join()"]
)
def test_an_uncaught_error_is_one_json_line(call: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(call=call)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    [line] = done.stderr.splitlines()
    record = json.loads(line)
    assert (record["event"], record["level"], record["logger"]) == ("labd-bug", "critical", "labd")
    assert "ValueError: no such thing" in record["exception"]
    assert record["timestamp"]
