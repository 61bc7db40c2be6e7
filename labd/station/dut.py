"""Operations of a DUT over any command channel, with every reply checked."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from drivers.base.interfaces import RELAY_DAMAGED, CommandChannel
from labd.core.errors import (
    QUOTED_COMMAND,
    DeadlineExceeded,
    InfraError,
    LabdBug,
    LabdError,
    quoting_command,
)
from labd.core.model import Build
from labd.protocol.failure_texts import errors_in, failures_in
from labd.protocol.infer_reply import InferReply, parse_infer
from labd.protocol.lines import Line
from labd.protocol.replies import (
    DutProfile,
    LoadReply,
    build_in,
    dut_error,
    expected_bytes,
    format_db_commands,
    format_reply,
    is_damaged,
    is_load_done,
    laps_in,
    parse_identity,
    refused_command,
)
from labd.protocol.words import LOAD_DONE

LOAD_ATTEMPTS = 3


class Dut:
    """A DUT behind a command channel. Every error quotes the command that caused it.

    Args:
        channel: the way to it.
        answer_s: deadline of commands that do not run the model.
    """

    def __init__(self, channel: CommandChannel, answer_s: float = 5.0) -> None:
        self._channel = channel
        self._answer_s = answer_s
        self._build: Build | None = None

    async def wait_for_boot(self, deadline_s: float) -> list[Line]:
        """Wait for the boot prologue and keep the build that it announces."""
        with _suspecting_dut():
            lines = await self._channel.wait_boot(deadline_s)
        self._build = build_in(lines)
        return lines

    async def identify(self, deadline_s: float) -> DutProfile:
        """Synchronise and return the DUT's identity.

        Raises:
            DutError: it answers without a name or a model.
        """
        with _suspecting_dut():
            await self._channel.resynchronise(deadline_s)
        named = await self._run_accepted_command("name", deadline_s)
        profiled = await self._run_accepted_command("profile", deadline_s)
        with quoting_command("name, profile"):
            return parse_identity(named, profiled, self._build)

    async def observe_build(self) -> tuple[Build, str]:
        """Return the build by the answer to ``timestamp``, and both signs of it as text.

        It decides, not the boot text, which may be missed. A DUT that prints no lap is asked again,
        because the text may be lost.
        """
        laps: list[int] = []
        lines: list[Line] = []
        for _ in range(2):
            lines = await self._run_accepted_command("timestamp", self._answer_s)
            with quoting_command("timestamp"):
                laps = laps_in(lines)
            if laps:
                break
        boot = f"its boot text names the {self._build} build" if self._build else "no boot text"
        answers = f"{boot}; 'timestamp' is answered by {format_reply(lines)}"
        return Build.PERFORMANCE if laps else Build.ENERGY, answers

    async def set_timestamp(self) -> int | None:
        """Set a timestamp; return the lap counter, or ``None`` from an energy build (a pulse)."""
        lines = await self._run_accepted_command("timestamp", self._answer_s)
        with quoting_command("timestamp"):
            laps = laps_in(lines)
        return laps[0] if laps else None

    async def load_input(self, data: bytes) -> LoadReply:
        """Fill the input buffer; a damaged load is restarted, with three attempts in all.

        Raises:
            DutError: the firmware refuses this load, or does not finish it.
            InfraError: every attempt was damaged in transmission.
        """
        if not data:
            raise LabdBug("load-empty", "no bytes to load")
        failures: list[LabdError] = []
        while len(failures) < LOAD_ATTEMPTS:
            failure = await self._attempt_load(data)
            if failure is None:
                return LoadReply(len(data), tuple(f.what for f in failures))
            failures.append(failure)
        with _suspecting_dut():
            raise failures[-1]

    async def run_inferences(self, iterations: int, warmups: int, deadline_s: float) -> InferReply:
        """Run the model on the loaded input.

        Raises:
            DutError: see :func:`parse_infer`.
            DeadlineExceeded: the DUT did not finish in time.
        """
        command = f"infer {iterations} {warmups}"
        lines = await self._run_command(command, deadline_s)
        with quoting_command(command):
            return parse_infer(lines, iterations, warmups)

    async def _run_accepted_command(self, text: str, deadline_s: float) -> list[Line]:
        lines = await self._run_command(text, deadline_s)
        if errors := errors_in(lines):
            with quoting_command(text):
                raise refused_command(f"{text}-refused", text, errors, lines)
        return lines

    async def _run_command(self, command: str, deadline_s: float) -> list[Line]:
        with quoting_command(command), _suspecting_dut():
            return await self._channel.run_command(command, deadline_s)

    async def _attempt_load(self, data: bytes) -> LabdError | None:
        """Load once; return the fault if another attempt makes sense."""
        try:
            return await self._load_lines(data)
        except InfraError as fault:
            if fault.code != RELAY_DAMAGED:
                raise
            return fault

    async def _load_lines(self, data: bytes) -> LabdError | None:
        load = f"db load {len(data)}"
        opened = await self._run_command(load, self._answer_s)
        failures, size = failures_in(opened), expected_bytes(opened)
        if failures or size not in {None, len(data)}:
            return _load_fault(load, failures or [f"the DUT expects {size} bytes"], opened)
        commands = format_db_commands(data, self._channel.db_bytes)
        for number, command in enumerate(commands, start=1):
            lines = await self._run_command(command, self._answer_s)
            failures, done = failures_in(lines), is_load_done(lines)
            if failures or done != (number == len(commands)):
                where = f"{load}, line {number} of {len(commands)}, {command[:QUOTED_COMMAND]}"
                return _load_fault(where, failures, lines)
        return None


_DUT_FAULTS = {"dut-restarted", "load-damaged"}


@contextmanager
def _suspecting_dut() -> Generator[None]:
    """Mark the errors of the body that the firmware may have caused."""
    try:
        yield
    except InfraError as error:
        error.dut_suspected = isinstance(error, DeadlineExceeded) or error.code in _DUT_FAULTS
        raise


_LOST_BYTES = (
    "Insufficent",
    "Invalid hex digit",
    "Unknown command",
    "Command 'db",
    "Buffer not allocated",
    "the DUT expects",
)
"""Beginnings of the failures that bytes lost on the line cause."""


def _load_fault(command: str, failures: list[str], lines: Sequence[Line]) -> LabdError:
    """Return the fault of a load that is worth another attempt: bytes were lost on the line.

    Raises:
        DutError: the firmware has no ``db``, or refuses this load.
    """
    what = f"{command}: {'; '.join(failures) or f'{LOAD_DONE} too early or too late'}"
    if "Unknown command: db" in failures:
        raise dut_error("load-unknown", what, lines)
    if any("exceeds maximum" in failure or "malloc" in failure for failure in failures):
        raise dut_error("load-too-big", what, lines)
    if not all(failure.startswith(_LOST_BYTES) for failure in failures) and not is_damaged(lines):
        raise dut_error("load-refused", what, lines)
    return InfraError(
        "load-damaged",
        f"{what}; reply: {format_reply(lines)}",
        "check wiring and baud rate; if every station fails alike, the firmware",
    )
