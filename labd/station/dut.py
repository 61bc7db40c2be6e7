"""Operations of a DUT over any command channel, with every reply checked."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.base.interfaces import RELAY_DAMAGED, CommandChannel
from labd.core.errors import QUOTED_COMMAND, InfraError, LabdBug, LabdError, quoting_command
from labd.core.model import Build
from labd.protocol.lines import Line
from labd.protocol.replies import (
    DutProfile,
    InferReply,
    LoadReply,
    build_in,
    dut_error,
    errors_in,
    expected_bytes,
    format_db_commands,
    format_reply,
    is_load_done,
    laps_in,
    parse_identity,
    parse_infer,
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
        lines = await self._channel.wait_boot(deadline_s)
        self._build = build_in(lines)
        return lines

    async def identify(self, deadline_s: float) -> DutProfile:
        """Synchronise and return the DUT's identity.

        Raises:
            DutError: it answers without a name or a model.
        """
        await self._channel.resynchronise(deadline_s)
        named = await self._ask("name", deadline_s)
        profiled = await self._ask("profile", deadline_s)
        with quoting_command("name, profile"):
            return parse_identity(named, profiled, self._build)

    async def set_timestamp(self) -> int | None:
        """Set a timestamp; return the lap counter, or ``None`` from an energy build (a pulse)."""
        lines = await self._ask("timestamp", self._answer_s)
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

    async def _ask(self, text: str, deadline_s: float) -> list[Line]:
        lines = await self._run_command(text, deadline_s)
        if errors := errors_in(lines):
            raise dut_error(f"{text}-refused", f"{text}: {'; '.join(errors)}", lines)
        return lines

    async def _run_command(self, command: str, deadline_s: float) -> list[Line]:
        with quoting_command(command):
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
        errors, size = errors_in(opened), expected_bytes(opened)
        if any("exceeds maximum" in error for error in errors):
            raise dut_error("load-too-big", f"{load}: the DUT refuses {len(data)} bytes", opened)
        if errors or size not in {None, len(data)}:
            return _load_error(load, errors or [f"the DUT expects {size} bytes"], opened)
        commands = format_db_commands(data, self._channel.db_bytes)
        for number, command in enumerate(commands, start=1):
            lines = await self._run_command(command, self._answer_s)
            errors, done = errors_in(lines), is_load_done(lines)
            if errors or done != (number == len(commands)):
                where = f"{load}, line {number} of {len(commands)}, {command[:QUOTED_COMMAND]}"
                return _load_error(where, errors, lines)
        return None


def _load_error(command: str, errors: list[str], lines: Sequence[Line]) -> LabdError:
    """Return the error of a damaged load: firmware without ``db``, or bytes lost on the line."""
    what = f"{command}: {'; '.join(errors) or f'{LOAD_DONE} too early or too late'}"
    if "Unknown command: db" in errors:
        return dut_error("load-unknown", what, lines)
    return InfraError(
        "load-damaged",
        f"{what}; reply: {format_reply(lines)}",
        "check wiring and baud rate; if every station fails alike, the firmware",
    )
