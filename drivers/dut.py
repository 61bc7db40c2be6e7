"""The DUT: what its text means, what may be asked of it, and its own serial port.

Protocol: MLPerf Tiny test harness as published with the reference firmware, read as
loosely as the published session logs demand: echoes glued to replies, text in between,
trailing commas, line noise. :class:`Dut` works over any command channel, so a DUT behind an
I/O manager is driven by the same code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from pydantic import Field

from drivers.interfaces import CommandChannel, DriverConfig, Line, driver
from drivers.link import LineReader, Link, before_ready, quoted
from drivers.passthrough import RELAY_DAMAGED
from labd.core.errors import DeadlineExceeded, DutError, InfraError, LabdBug, LabdError
from labd.core.model import Build, Finding, Identity, Part

BOOTED = "m-init-done"
LAP_MODULUS = 1 << 32
DB_BYTES_DIRECT = 38
LOAD_ATTEMPTS = 3

# ---- pure: what a reply says -------------------------------------------------------------

# An `e-[` that ends a message's own name (`m-profile-[`, `m-name-[`) is no error; an echo
# may be glued to either, so nothing is anchored.
_ERROR = re.compile(r"(?P<message>m-[a-z-]*)?e-\[(?P<text>[^\]]*)\]?")
_BARE_FAILURE = re.compile(
    r"Supplied buffer size \d+ exceeds maximum of \d+|Input db has \d+ elemented, expected \d+"
)
_NAME = re.compile(r"m-name-(?:dut-)?\[(.*)\]")
_PROFILE = re.compile(r"m-profile-\[([^\]]*)\]")
_MODEL = re.compile(r"m-model-\[([^\]]*)\]")
_TIMESTAMP_MODE = re.compile(r"m-timestamp-mode-(performance|energy)")
_LAP_WORD = "m-lap-us-"
_LAP = re.compile(r"m-lap-us-([0-9]{1,20})(?=m-|[^\w.]|$)")
_EXPECTING = re.compile(r"m-\[Expecting ([0-9]{1,20}) bytes\]")
_LOAD_DONE = re.compile(r"m-load-done")
_WARMUP_START = re.compile(r"m-warmup-start-([0-9]{1,20})")
_INFER_START = re.compile(r"m-infer-start-([0-9]{1,20})")
_INFER_DONE = re.compile(r"m-infer-done")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
_RESULTS = re.compile(r"m-results-\[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class DutProfile:
    """Who the DUT says it is; ``build`` is ``None`` when its prologue was not seen."""

    name: str
    model: str
    profile: str
    build: Build | None


@dataclass(frozen=True, slots=True)
class LoadReply:
    """A finished load; ``restarts`` says why each earlier attempt was given up."""

    size: int
    restarts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InferReply:
    """One checked ``infer`` command.

    Args:
        iterations: measured inferences, as echoed.
        warmups: inferences before them, as echoed.
        laps_us: the DUT's counter at both timestamps; ``None`` from an energy build.
        results: the output tensor of the last inference.
        start_ns: host's monotonic time at which ``m-infer-start`` arrived.
        done_ns: the same for ``m-infer-done``.
        lines: the whole reply.
    """

    iterations: int
    warmups: int
    laps_us: tuple[int, int] | None
    results: tuple[float, ...]
    start_ns: int
    done_ns: int
    lines: tuple[Line, ...]

    @property
    def runtime_us(self) -> int | None:
        """Time between the laps; the DUT's counter wraps every 71.6 minutes."""
        if self.laps_us is None:
            return None
        return (self.laps_us[1] - self.laps_us[0]) % LAP_MODULUS


def errors_in(lines: Sequence[Line]) -> list[str]:
    """The texts of all failures the firmware reported, prefixed or not."""
    found: list[str] = []
    for line in lines:
        found += [m["text"] for m in _ERROR.finditer(line.text) if m["message"] is None]
        found += _BARE_FAILURE.findall(line.text)
    return found


def first(pattern: re.Pattern[str], lines: Sequence[Line]) -> str | None:
    """The first group of the first match, anywhere in any line."""
    return next((m[1] for line in lines if (m := pattern.search(line.text))), None)


def laps_in(lines: Sequence[Line]) -> list[int]:
    """All lap counters, in order, even several in one line.

    Raises:
        DutError: one of them is no plain number.
    """
    laps = [int(lap) for line in lines for lap in _LAP.findall(line.text)]
    if len(laps) != sum(line.text.count(_LAP_WORD) for line in lines):
        raise _wrong("lap-damaged", f"a {_LAP_WORD} is followed by no plain number", lines)
    return laps


def build_in(lines: Sequence[Line]) -> Build | None:
    """The build a prologue announces."""
    mode = first(_TIMESTAMP_MODE, lines)
    return Build(mode) if mode else None


def has_booted(lines: Sequence[Line]) -> bool:
    """Whether a boot prologue is among these lines."""
    return any(BOOTED in line.text for line in lines)


def has_name(lines: Sequence[Line]) -> bool:
    """Whether an answer to ``name`` is among these lines."""
    return first(_NAME, lines) is not None


def parse_results(text: str) -> tuple[float, ...]:
    """Numbers between the brackets of ``m-results-[…]``; empty items are dropped.

    Raises:
        ValueError: an item is no number such as a DUT prints: no ``nan``, nothing infinite.
    """
    return tuple(_number(item.strip()) for item in text.split(",") if item.strip())


def _number(text: str) -> float:
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]!r} is no number")
    return number


def parse_infer(lines: Sequence[Line], iterations: int, warmups: int) -> InferReply:
    """Check a reply to ``infer N W`` and take it apart.

    Raises:
        DutError: an error was reported, an echo differs, or laps or results are wrong.
    """
    if errors := errors_in(lines):
        raise _wrong("infer-refused", f"infer failed: {'; '.join(errors)}", lines)
    start = _index(_INFER_START, lines)
    done = _index(_INFER_DONE, lines)
    if start is None or done is None or done < start:
        raise _wrong("infer-incomplete", "infer gave no m-infer-start … m-infer-done", lines)
    _check_echo("m-infer-start", first(_INFER_START, lines), iterations, lines)
    _check_echo("m-warmup-start", first(_WARMUP_START, lines), warmups, lines)
    laps = laps_in(lines[start : done + 1])
    if len(laps) not in {0, 2}:
        raise _wrong("infer-laps", f"infer gave {len(laps)} timestamps, not two", lines)
    return InferReply(
        iterations=iterations,
        warmups=warmups,
        laps_us=(laps[0], laps[1]) if laps else None,
        results=_results(lines),
        start_ns=lines[start].t_ns,
        done_ns=lines[done].t_ns,
        lines=tuple(lines),
    )


def _index(pattern: re.Pattern[str], lines: Sequence[Line]) -> int | None:
    return next((i for i, line in enumerate(lines) if pattern.search(line.text)), None)


def _check_echo(what: str, seen: str | None, asked: int, lines: Sequence[Line]) -> None:
    if seen is None and asked == 0:
        return
    if seen is None or int(seen) != asked:
        raise _wrong("infer-echo", f"{what}-{asked} expected, the DUT said {seen}", lines)


def _results(lines: Sequence[Line]) -> tuple[float, ...]:
    text = first(_RESULTS, lines)
    try:
        results = parse_results(text or "")
    except ValueError:
        raise _wrong("infer-results", f"m-results-[{text}] are no numbers", lines) from None
    if not results:
        raise _wrong("infer-results", "infer gave no results", lines)
    return results


def _wrong(code: str, what: str, lines: Sequence[Line]) -> DutError:
    return DutError(code, f"{what}; reply: {reply_text(lines)}", "see the firmware's protocol")


def reply_text(lines: Sequence[Line]) -> str:
    """A reply as an error message quotes it."""
    return quoted(" / ".join(line.text for line in lines))


def db_lines(data: bytes, db_bytes: int) -> list[str]:
    """The ``db`` commands that carry ``data``, each as long as the way allows."""
    return [f"db {data[i : i + db_bytes].hex()}" for i in range(0, len(data), db_bytes)]


# ---- what may be asked of a DUT ----------------------------------------------------------


class Dut:
    """A DUT behind any command channel, every reply checked.

    Args:
        channel: the way to it.
        answer_s: how long a command that does not run the model may take.
    """

    def __init__(self, channel: CommandChannel, answer_s: float = 5.0) -> None:
        self._channel = channel
        self._answer_s = answer_s
        self._build: Build | None = None

    async def boot(self, deadline_s: float) -> list[Line]:
        """Wait for the boot prologue and remember the build it names."""
        lines = await self._channel.wait_boot(deadline_s)
        self._build = build_in(lines)
        return lines

    async def identify(self, deadline_s: float) -> DutProfile:
        """Get in step and ask who answers.

        Raises:
            DutError: it answers, but not with a name and a model.
        """
        await self._channel.resynchronise(deadline_s)
        named = await self._ask("name", deadline_s)
        profiled = await self._ask("profile", deadline_s)
        name, model = first(_NAME, named), first(_MODEL, profiled)
        if name is None or model is None:
            both = [*named, *profiled]
            raise _wrong("identify", "the DUT does not tell its name and model", both)
        return DutProfile(name, model, first(_PROFILE, profiled) or "", self._build)

    async def timestamp(self) -> int | None:
        """Make one timestamp: the lap counter, or ``None`` from an energy build (a pulse)."""
        laps = laps_in(await self._ask("timestamp", self._answer_s))
        return laps[0] if laps else None

    async def load(self, data: bytes) -> LoadReply:
        """Fill the input buffer; a damaged load is started again, at most three times in all.

        Raises:
            DutError: the firmware refuses this load, or never finishes one.
            InfraError: the line damages every attempt.
        """
        if not data:
            raise LabdBug("load-empty", "there are no bytes to load")
        failures: list[LabdError] = []
        while len(failures) < LOAD_ATTEMPTS:
            failure = await self._attempt_load(data)
            if failure is None:
                return LoadReply(len(data), tuple(f.what for f in failures))
            failures.append(failure)
        raise failures[-1]

    async def infer(self, iterations: int, warmups: int, deadline_s: float) -> InferReply:
        """Run the model on the loaded input and return the checked reply.

        Raises:
            DutError: see :func:`parse_infer`.
            DeadlineExceeded: the DUT did not finish in time.
        """
        lines = await self._channel.command(f"infer {iterations} {warmups}", deadline_s)
        return parse_infer(lines, iterations, warmups)

    async def _ask(self, text: str, deadline_s: float) -> list[Line]:
        lines = await self._channel.command(text, deadline_s)
        if errors := errors_in(lines):
            raise _wrong(f"{text}-refused", f"{text} failed: {'; '.join(errors)}", lines)
        return lines

    async def _attempt_load(self, data: bytes) -> LabdError | None:
        """One load; the fault that spoilt it, if another attempt makes sense."""
        try:
            return await self._fill(data)
        except InfraError as fault:
            if fault.code != RELAY_DAMAGED:
                raise
            return fault

    async def _fill(self, data: bytes) -> LabdError | None:
        opened = await self._channel.command(f"db load {len(data)}", self._answer_s)
        errors, expecting = errors_in(opened), first(_EXPECTING, opened)
        if any("exceeds maximum" in error for error in errors):
            raise _wrong("load-too-big", f"the DUT refuses {len(data)} bytes", opened)
        if errors or (expecting is not None and int(expecting) != len(data)):
            return _spoilt("db load", errors, opened)
        commands = db_lines(data, self._channel.db_bytes)
        for number, command in enumerate(commands, start=1):
            lines = await self._channel.command(command, self._answer_s)
            errors, done = errors_in(lines), _index(_LOAD_DONE, lines) is not None
            if errors or done != (number == len(commands)):
                return _spoilt(f"db line {number} of {len(commands)}", errors, lines)
        return None


def _spoilt(where: str, errors: list[str], lines: Sequence[Line]) -> LabdError:
    """Whose fault a spoilt load is: bytes lost on the line, or firmware that cannot load."""
    what = f"load spoilt at {where}: {'; '.join(errors) or 'm-load-done came too early or late'}"
    if "Unknown command: db" in errors:
        return _wrong("load-unknown", what, lines)
    return InfraError(
        "load-damaged",
        f"{what}; reply: {reply_text(lines)}",
        "check wiring and baud rate; the firmware if every station fails alike",
    )


# ---- the DUT's own port ------------------------------------------------------------------

RESEND_AFTER_S = 1.0
LATE_S = 1.5 * RESEND_AFTER_S  # answers come that far apart, if they come at all
QUIET_S = 0.05


class DirectChannel:
    """Commands over the DUT's own UART: ``text%`` out, lines up to ``m-ready`` in."""

    db_bytes = DB_BYTES_DIRECT

    def __init__(self, link: Link) -> None:
        self._link = link
        self._reader = LineReader(link)
        self._out_of_step = False

    async def command(self, text: str, deadline_s: float) -> list[Line]:
        """See :class:`CommandChannel`."""
        if self._out_of_step:
            raise InfraError(
                "out-of-step",
                f"'{text}' was not sent: an earlier command got no answer",
                "resynchronise, or power-cycle the DUT",
                self._link.where,
            )
        self._refuse_restart(text, self._reader.arrived())
        reply = await self._transact(text, deadline_s)
        self._refuse_restart(text, reply)
        return reply

    async def expect_boot(self) -> None:
        """Throw away what the DUT said before."""
        self._reader.arrived()

    async def wait_boot(self, deadline_s: float) -> list[Line]:
        """See :class:`CommandChannel`."""
        heard: list[Line] = []
        try:
            async with self._reader.within(deadline_s, "boot", heard):
                while not has_booted(heard):
                    await self._until_ready(heard)
        except DeadlineExceeded:
            await self.resynchronise(deadline_s)
        self._out_of_step = False
        return heard

    async def resynchronise(self, deadline_s: float) -> None:
        """Send ``name`` until an answer to it has come whole.

        Never a bare ``%``: the reference firmware compares a null pointer then.
        """
        self._out_of_step = True
        heard: list[Line] = []
        todo = "check the DUT's power, its wiring (TX to RX) and the baud rate"
        async with self._reader.within(deadline_s, "name", heard, todo):
            await self._reader.until_quiet(QUIET_S, deadline_s)
            await self._link.write(b"name%")
            repeats = 0
            while not await self._hear_name(heard):
                await self._link.write(b"name%")
                repeats += 1
            if repeats:
                await self._reader.until_quiet(LATE_S, deadline_s)
        self._out_of_step = False

    async def _hear_name(self, heard: list[Line]) -> bool:
        """Listen for the answer; a refused half command, a prologue or silence is none."""
        answer: list[Line] = []
        try:
            async with self._reader.within(RESEND_AFTER_S, "name", answer):
                while not (has_name(answer) or errors_in(answer)):
                    await self._until_ready(answer)
        except DeadlineExceeded:
            return False
        finally:
            heard += answer
        return has_name(answer) and not has_booted(answer)

    async def _transact(self, text: str, deadline_s: float) -> list[Line]:
        heard: list[Line] = []
        self._out_of_step = True
        todo = "check the DUT's power, its wiring and the baud rate, or power-cycle it"
        async with self._reader.within(deadline_s, f"'{text[:40]}'", heard, todo):
            await self._link.write(text.encode("ascii") + b"%")
            await self._until_ready(heard)
        self._out_of_step = False
        return heard

    async def _until_ready(self, heard: list[Line]) -> None:
        """Append lines up to ``m-ready``; text before it on its line counts."""
        while True:
            line = await self._reader.line()
            head = before_ready(line.text)
            if head is None:
                heard.append(line)
                continue
            if head:
                heard.append(Line(head, line.t_ns))
            return

    def _refuse_restart(self, text: str, lines: Sequence[Line]) -> None:
        if has_booted(lines):
            raise InfraError(
                "dut-restarted",
                f"the DUT restarted by itself around '{text[:40]}': its input is gone; "
                f"heard {reply_text(lines)}",
                "check its supply; a crash if every station sees it",
                self._link.where,
            )


FIRST_BAUD = 115200
"""Until :meth:`SerialDut.set_baud` says otherwise."""


class SerialDutConfig(DriverConfig):
    """The DUT's own serial port."""

    port: str = Field(description="its device, best from /dev/serial/by-id", min_length=1)


@driver(part=Part.DUT, config=SerialDutConfig)
class SerialDut:
    """A DUT on a serial port of this host; silent at open when it is unpowered."""

    def __init__(self, config: SerialDutConfig) -> None:
        self.config = config
        self._link = Link(config.port, FIRST_BAUD, "serial-dut")
        self._channel: DirectChannel | None = None

    async def open(self) -> Identity:
        """Take the port and empty it. The DUT may be off, so it is not asked for its name."""
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self.close)
            await self._link.open()
            await self._link.read_until_quiet(QUIET_S, deadline_s=2.0)
            self._channel = DirectChannel(self._link)
            undo.pop_all()
        return Identity(kind="serial-dut", name="", simulated=self._link.simulated)

    @property
    def channel(self) -> CommandChannel:
        """The way to the DUT while the port is open."""
        if self._channel is None:
            raise LabdBug("dut-closed", "the DUT's port is not open", where=self._link.where)
        return self._channel

    async def set_baud(self, baud: int) -> None:
        """Reopen the port at another speed if it differs."""
        if baud == self._link.baud:
            return
        was_open = self._link.is_open
        await self.close()
        self._link = Link(self.config.port, baud, "serial-dut")
        if was_open:
            await self.open()

    async def self_check(self) -> list[Finding]:
        """Whether the port still lives; the DUT itself is checked by running it."""
        await self._link.read_until_quiet(QUIET_S, deadline_s=2.0)
        return []

    async def close(self) -> None:
        """Free the port; safe to call twice."""
        self._channel = None
        await self._link.close()
