"""Every error of a DUT's command quotes the command that caused it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from drivers.base.interfaces import CommandChannel
from labd.core.errors import DeadlineExceeded, InfraError, LabdError, TransportError
from labd.protocol.lines import Line
from labd.station.dut import Dut

GOOD = {
    "name": ["m-name-dut-[x]"],
    "profile": ["m-profile-[p]", "m-model-[kws01]"],
    "timestamp": ["m-lap-us-1"],
    "db load 4": ["m-[Expecting 4 bytes]"],
    "db 0000": [],
    "db 0001": ["m-load-done"],
    "infer 1000 10": [
        *("m-warmup-start-10", "m-infer-start-1000", "m-lap-us-1", "m-lap-us-2"),
        *("m-infer-done", "m-results-[1.0]"),
    ],
}


class ScriptedChannel:
    """Answers as a sound DUT does, except for one command."""

    db_bytes = 2

    def __init__(self, command: str, reply: list[str] | Exception) -> None:
        self._replies: dict[str, list[str] | Exception] = {**GOOD, command: reply}

    async def run_command(self, text: str, deadline_s: float) -> list[Line]:  # noqa: ARG002
        reply = self._replies[text]
        if isinstance(reply, Exception):
            raise reply
        return [Line(each, number) for number, each in enumerate(reply)]

    async def resynchronise(self, deadline_s: float) -> None: ...


CALLS: dict[str, Callable[[Dut], Awaitable[Any]]] = {
    "name": lambda dut: dut.identify(1.0),
    "profile": lambda dut: dut.identify(1.0),
    "timestamp": lambda dut: dut.set_timestamp(),
    "db load 4": lambda dut: dut.load_input(b"\0\0\0\1"),
    "db 0000": lambda dut: dut.load_input(b"\0\0\0\1"),
    "db 0001": lambda dut: dut.load_input(b"\0\0\0\1"),
    "infer 1000 10": lambda dut: dut.run_inferences(1000, 10, 1.0),
}


async def error_of(command: str, reply: list[str] | Exception) -> LabdError:
    dut = Dut(cast("CommandChannel", ScriptedChannel(command, reply)))
    with pytest.raises(LabdError) as caught:
        await CALLS[command](dut)
    return caught.value


@pytest.mark.parametrize("command", CALLS)
async def test_an_error_that_the_dut_reports_quotes_the_command(command: str) -> None:
    error = await error_of(command, ["e-[Out of luck]"])
    assert f"{command}: " in error.what
    assert "Out of luck" in error.what


@pytest.mark.parametrize("command", CALLS)
async def test_a_port_that_goes_away_quotes_the_command(command: str) -> None:
    error = await error_of(command, TransportError("port-lost", "the port went away: unplugged"))
    assert error.what == f"{command}: the port went away: unplugged"
    assert str(error).startswith(f"{command}: ")


async def test_what_quotes_its_command_already_is_left_alone() -> None:
    late = DeadlineExceeded("no-answer", "'infer 1000 10': no answer within 1 s")
    assert (await error_of("infer 1000 10", late)).what == "'infer 1000 10': no answer within 1 s"


@pytest.mark.parametrize(
    ("command", "reply", "said"),
    [
        ("name", ["m-nome-dut-[x]"], "name, profile: the DUT does not report name and model"),
        ("timestamp", ["m-lap-us-1x"], "timestamp: m-lap-us- is not followed by a plain number"),
        ("db load 4", ["m-[Expecting 3 bytes]"], "db load 4: the DUT expects 3 bytes"),
        ("db 0000", ["m-load-done"], "db load 4, line 1 of 2, db 0000: m-load-done too early"),
        ("db 0001", [], "db load 4, line 2 of 2, db 0001: m-load-done too early or too late"),
        ("infer 1000 10", ["infer 1000 10%m-infer-start-1000"], "infer 1000 10: m-infer-start or"),
        ("infer 1000 10", GOOD["infer 1000 10"][:-1], "infer 1000 10: infer printed no results"),
        ("infer 1000 10", GOOD["infer 1000 10"][1:], "infer 1000 10: m-warmup-start-10 expected"),
    ],
)
async def test_a_reply_that_breaks_the_protocol_quotes_the_command(
    command: str, reply: list[str], said: str
) -> None:
    error = await error_of(command, reply)
    assert error.what.startswith(said)
    assert isinstance(error, InfraError) is command.startswith("db")
