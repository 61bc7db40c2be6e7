"""How long a client waits for a broker or a lab that is away."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from labd.client.lab_client import LabClient
from labd.core.errors import JobError, TransportError

HOUR_S = 3600.0


class Lab:
    """A lab that is away for a number of requests, an hour each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, away: int) -> None:
        self.left = away
        self.now_s = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)

    async def ask(self) -> str:
        if self.left == 0:
            return "here"
        self.left -= 1
        self.now_s += HOUR_S
        raise TransportError("no-answer", "no answer")


def client(patience_s: float | None) -> LabClient:
    return LabClient("mqtt://127.0.0.1:1", "lab", "ann", patience_s)


async def test_without_a_limit_it_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    lab, patient = Lab(monkeypatch, 1000), client(None)
    assert await patient.wait_out_outages(lab.ask) == "here"
    assert patient.describe_outage() == ""


async def test_patience_ends_and_says_since_when(monkeypatch: pytest.MonkeyPatch) -> None:
    lab, impatient = Lab(monkeypatch, 1000), client(3 * HOUR_S)
    with pytest.raises(TransportError, match="no answer"):
        await impatient.wait_out_outages(lab.ask)
    assert lab.left == 997
    assert impatient.describe_outage().startswith("waiting for the lab since 20")


async def test_a_refusal_is_no_outage() -> None:
    async def refuse() -> None:
        raise JobError("no-such-job", "there is no job j1")

    with pytest.raises(JobError):
        await client(None).wait_out_outages(refuse)


def test_warnings_of_libraries_are_not_printed_into_the_output_of_a_command() -> None:
    """Without any handler Python prints them on standard error."""
    code = (
        "import logging, sys; from labd.cli.labctl import main\n"
        "try: main(['--broker', 'mqtt://127.0.0.1:1', 'jobs'])\n"
        "except SystemExit: logging.getLogger('mqtt').error('failed to receive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    [line] = done.stderr.splitlines()
    assert line.startswith("labctl: no broker at mqtt://127.0.0.1:1")
