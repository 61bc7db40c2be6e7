"""Any SCPI meter or source-measure unit, described by a small table of commands.

The instrument must measure without a pause, by its own clock, and hand over each reading
once; what it has handed over is counted against the host's clock, so that a meter which is
slower than it says, skips, or overwrites its memory ends in an error and never in a number.
"""

from __future__ import annotations

import asyncio
import string
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from drivers.base.acquisition import refuse_virtual_time, refuse_while_acquiring
from drivers.base.closing import closed_on_failure
from drivers.base.interfaces import MonitorConfig
from drivers.base.registry import power_monitor
from drivers.scpi.codec import ByteOrder, NumberFormat, values_in
from drivers.scpi.polling import Clock, PolledAcquisition
from drivers.scpi.record_clock import RecordClock, RecordStream, Rows
from drivers.scpi.session import Resource, ScpiSession, VisaBackend, identity_of
from labd.core.errors import (
    DeadlineExceeded,
    InstrumentError,
    JobError,
    LabdBug,
    LabdError,
    TransportError,
)
from labd.core.model import Finding, Identity, Samples, StreamFormat, TimeBase
from labd.protocol.lines import quoted

SLOWEST_HZ = 1000
"""Two edges of ±1 ms in a window of 10 s: 0.02 %."""

FASTEST_HZ = 1_000_000
CLOSE_STEP_S = 4.0
NUMBER_BYTES = {"real32": 4, "real64": 8}
VALUES = ("rate_hz", "period_s", "readings")
VOLTAGES = ("volts", "millivolts")


def placeholders_in(command: str) -> list[str]:
    """The names between braces in a command.

    Raises:
        ValueError: a brace is alone, or there is more than a name and a format in a pair.
    """
    names: list[str] = []
    for _, name, form, conversion in string.Formatter().parse(command):
        if name is None:
            continue
        if not name.isidentifier() or conversion or (form and "{" in form):
            raise ValueError(f"{command!r}: a placeholder is a name, such as {{volts}}")
        names.append(name)
    return names


def filled(command: str, values: Mapping[str, float]) -> str:
    """A command with its placeholders replaced; ``{volts:.3f}`` sets the form of a number.

    Raises:
        ValueError: a form does not fit a number.
        KeyError: a placeholder has no value.
    """
    text = string.Formatter()
    parts: list[str] = []
    for plain, name, form, _ in text.parse(command):
        parts.append(plain)
        if name is not None:
            parts.append(format(values[name], form or ".10g"))
    return "".join(parts)


def _readable(command: str) -> str:
    if not command.isascii() or not command.strip() or "\n" in command:
        raise ValueError(f"{command!r} is no command: one line of plain characters")
    placeholders_in(command)
    return command


def _commanding(command: str) -> str:
    outside = command.replace("'", '"').split('"')[::2]
    if any("?" in part for part in outside):
        raise ValueError(f"{command!r} asks for an answer that nobody would read")
    return command


def _asking(command: str) -> str:
    if "?" not in command:
        raise ValueError(f"{command!r} asks for nothing: a query has a question mark")
    return command


def _filling(*names: str) -> AfterValidator:
    """Try the placeholders, so that a wrong one is found here and not in the night."""
    values = {name: _SAMPLES[name] for name in names}

    def check(command: str) -> str:
        for name in placeholders_in(command):
            if name not in values:
                raise ValueError(f"nothing is known of {{{name}}} here; known: {', '.join(values)}")
        try:
            filled(command, values)
        except ValueError as exc:
            raise ValueError(f"{command!r}: {exc}") from exc
        return command

    return AfterValidator(check)


_SAMPLES = {"rate_hz": 1000.0, "period_s": 0.001, "volts": 3.0, "millivolts": 3000, "readings": 9}
"""Of each placeholder, one value of the kind that will stand there."""

Command = Annotated[str, AfterValidator(_readable), AfterValidator(_commanding)]
Query = Annotated[str, AfterValidator(_readable), AfterValidator(_asking)]
Ordinary = Annotated[Command, _filling("rate_hz", "period_s", "readings")]
Supplying = Annotated[Command, _filling("rate_hz", "period_s", "volts", "millivolts", "readings")]
Reading = Annotated[Query, _filling("rate_hz", "period_s", "readings")]


class ScpiMeterConfig(MonitorConfig):
    """A SCPI meter or source-measure unit."""

    resource: Resource
    visa: VisaBackend = "@py"
    expect: str = Field(
        min_length=1, description="what its *IDN? answer must contain, such as 'KEITHLEY'"
    )
    identify: Query = "*IDN?"
    rate_hz: float = Field(
        ge=SLOWEST_HZ, le=FASTEST_HZ, description="readings a second by its own clock, exactly"
    )
    quantity: Literal["current", "power"] = Field(
        "current", description="what a reading is: ampere or watt"
    )
    scale: float = Field(1.0, description="a reading times this is ampere or watt (shunt, sign)")
    voltage_mv: int | None = Field(
        None, gt=0, description="the DUT's supply, where this instrument does not feed it"
    )
    setup: tuple[Ordinary, ...] = Field((), description="sent after opening")
    supply_on: tuple[Supplying, ...] = Field(
        (), description="feeds the DUT; {volts} or {millivolts} stands for the voltage"
    )
    supply_off: tuple[Ordinary, ...] = Field((), description="switches the DUT off")
    supply_mv: tuple[int, int] = Field(
        (1800, 3600), description="lowest and highest voltage a job may ask for"
    )
    start: tuple[Ordinary, ...] = Field(
        min_length=1, description="starts measuring without a pause"
    )
    read: Reading = Field(description="hands over the readings since the last time")
    readings: int | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="most readings in one answer; fewer mean that there are no more",
    )
    stop: tuple[Ordinary, ...] = Field((), description="ends measuring")
    check: str = Field("SYST:ERR?", description="reads the oldest error; '' where there is none")
    format: NumberFormat = "ascii"
    byte_order: ByteOrder = "big"
    buffer_s: float = Field(
        1.0, ge=0, le=600, description="how long its memory holds readings, at this rate"
    )
    poll_s: float = Field(0.07, gt=0, le=0.5, description="pause when it has no more readings")
    clock_ppm: float = Field(100.0, gt=0, le=500, description="tolerance of its clock")
    answer_s: float = Field(5.0, gt=0, le=60, description="longest wait for an answer, seconds")

    @property
    def sees_timestamps(self) -> bool:
        """A meter has no input for them."""
        return False

    @property
    def supply_range_mv(self) -> tuple[int, int] | None:
        """See :class:`drivers.base.interfaces.MonitorConfig`."""
        return self.supply_mv if self.supplies else None

    @property
    def supplies(self) -> bool:
        """Whether the table says how to feed the DUT."""
        return bool(self.supply_on)

    def values(self, voltage_mv: int | None = None) -> dict[str, float]:
        """What the placeholders stand for."""
        values: dict[str, float] = {"rate_hz": self.rate_hz, "period_s": 1 / self.rate_hz}
        if self.readings:
            values["readings"] = self.readings
        if voltage_mv is not None:
            values |= {"volts": voltage_mv / 1000, "millivolts": voltage_mv}
        return values

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.supply_on) != bool(self.supply_off):
            raise ValueError("supply_on and supply_off go together: a DUT must go off again")
        if self.supplies and self.voltage_mv is not None:
            raise ValueError("voltage_mv is for a DUT that another supply feeds; leave it out")
        if self.quantity == "current" and not self.supplies and self.voltage_mv is None:
            raise ValueError(
                "current alone is no power: give supply_on and supply_off, or voltage_mv"
            )
        if not 0 < self.supply_mv[0] <= self.supply_mv[1]:
            raise ValueError("supply_mv is the lowest and the highest voltage, in millivolts")
        if self.check and "?" not in self.check:
            raise ValueError(f"check is {self.check!r}, which asks for nothing")
        if self.scale == 0 or not np.isfinite(self.scale):
            raise ValueError("scale is a number other than 0")
        for place, command in self._commands():
            if not self.readings and "readings" in placeholders_in(command):
                raise ValueError(f"{place}: nothing is known of {{readings}}: give `readings` too")
        return self

    def _commands(self) -> Iterator[tuple[str, str]]:
        yield "read", self.read
        for name in ("setup", "supply_on", "supply_off", "start", "stop"):
            for number, command in enumerate(getattr(self, name)):
                yield f"{name}[{number}]", command


class ScpiMeterAcquisition(PolledAcquisition):
    """One measurement without a pause."""

    def __init__(
        self,
        config: ScpiMeterConfig,
        session: ScpiSession,
        clock: Clock,
        voltage_mv: int,
        *,
        unfinished: bool,
    ) -> None:
        records = RecordClock(config.rate_hz, config.buffer_s)
        stream = RecordStream(records, self._samples)
        never_dry = config.readings is not None
        super().__init__(
            session, stream, clock, config.answer_s, config.poll_s, never_dry=never_dry
        )
        self._config = config
        self._values = config.values()
        self._volts = voltage_mv / 1000
        self._unfinished = unfinished
        width = NUMBER_BYTES.get(config.format, 0)
        self._block_bytes = width * (config.readings or 0)

    async def _prepare(self) -> None:
        """End a measurement before this one that was broken off."""
        if self._unfinished:
            await self._halt()

    async def _start(self) -> None:
        await self._session.run(*(filled(c, self._values) for c in self._config.start))

    async def _fetch(self) -> tuple[Rows, bool]:
        query = filled(self._config.read, self._values)
        payload = await self._session.ask_bytes(query, self._block_bytes)
        errors = await self._session.errors()  # an answer in step vouches for the one before
        if errors:
            raise await self._explain(f"'{query}' failed: {'; '.join(errors)}")
        try:
            values = values_in(payload, self._config.format, self._config.byte_order)
        except ValueError as exc:
            what = f"'{query}' was answered by no {self._config.format} numbers: {exc}"
            raise await self._explain(what) from exc
        most = self._config.readings
        if most and len(values) > most:
            raise await self._explain(f"'{query}' gave {len(values)} readings, {most} at most")
        drained = most is None or len(values) < most
        return values.reshape(-1, 1) * self._config.scale, drained

    async def _halt(self) -> None:
        await self._session.run(*(filled(c, self._values) for c in self._config.stop))

    def _samples(self, index: int, rows: Rows) -> Samples:
        values = rows[:, 0]
        if self._config.quantity == "power":
            return Samples(index, values)
        return Samples(index, values * self._volts, values)


@power_monitor(config=ScpiMeterConfig)
class ScpiMeter:
    """The instrument its table describes.

    Args:
        config: its table in stations.toml.
        clock: the host's clock.
    """

    def __init__(self, config: ScpiMeterConfig, clock: Clock = time.monotonic_ns) -> None:
        self.config = config
        self._clock = clock
        self._session = ScpiSession(
            config.resource,
            config.visa,
            "scpi-meter",
            config.answer_s,
            config.check,
            config.identify,
        )
        self._known = False
        self._voltage_mv = config.voltage_mv
        self._acquisition: ScpiMeterAcquisition | None = None

    async def open(self) -> Identity:
        """Take the instrument, see who it is, switch the DUT off, set it up.

        Raises:
            TransportError: it is missing, busy or goes away.
            InstrumentError: it is another one, or refuses a command.
            DeadlineExceeded: it does not answer.
        """
        await self._session.open()
        self._known, self._acquisition = False, None
        self._voltage_mv = self.config.voltage_mv
        async with closed_on_failure(self.close):
            identity = await self._identify()
            await self._settle_down()
            await self._session.run(*self._filled(self.config.setup))
            await self._session.run(*self._filled(self.config.supply_off))
        return identity

    @property
    def format(self) -> StreamFormat:
        """What the stream's numbers mean."""
        current = self.config.quantity == "current"
        return StreamFormat(
            sample_rate_hz=self.config.rate_hz,
            edge_uncertainty_s=1 / self.config.rate_hz,
            clock_tolerance_ppm=self.config.clock_ppm,
            quantity=self.config.quantity,
            voltage_v=self._voltage_mv / 1000 if current and self._voltage_mv else None,
        )

    @property
    def supplies(self) -> bool:
        """Whether its table says how it feeds the DUT."""
        return self.config.supplies

    async def supply(self, voltage_mv: int | None) -> None:
        """Power the DUT at this voltage, or switch it off with ``None``.

        Raises:
            JobError: the station does not supply this voltage.
            InstrumentError: the instrument refuses a command.
        """
        self._is_open()
        if not self.supplies:
            raise LabdBug("no-supply", "this meter feeds nothing", where=self._session.where)
        if voltage_mv is None:
            await self._session.run(*self._filled(self.config.supply_off))
            return
        lowest, highest = self.config.supply_mv
        if not lowest <= voltage_mv <= highest:
            what = f"{voltage_mv} mV asked; this station supplies {lowest} to {highest} mV"
            raise JobError("voltage-range", what, "ask for one of these", self._session.where)
        if self._is_acquiring and voltage_mv != self._voltage_mv:
            what = "another voltage while the power is computed with this one"
            raise LabdBug("acquiring", what, where=self._session.where)
        await self._session.run(*self._filled(self.config.supply_on, voltage_mv))
        self._voltage_mv = voltage_mv

    def acquire(self, time_base: TimeBase = TimeBase.HOST) -> ScpiMeterAcquisition:
        """See :class:`drivers.base.interfaces.PowerMonitor`."""
        refuse_virtual_time(time_base, self._session.where)
        self._is_open()
        refuse_while_acquiring(self._acquisition, "acquire", self._session.where)
        if self.config.quantity == "current" and self._voltage_mv is None:
            raise LabdBug("no-voltage", "acquire before supply", where=self._session.where)
        unfinished = self._acquisition is not None and self._acquisition.left_running
        self._acquisition = ScpiMeterAcquisition(
            self.config,
            self._session,
            self._clock,
            self._voltage_mv or 0,
            unfinished=unfinished,
        )
        return self._acquisition

    async def self_check(self) -> list[Finding]:
        """The errors in its queue."""
        self._is_open()
        errors = await self._session.errors()
        return [Finding("scpi-meter-error", f"the instrument says: {error}") for error in errors]

    async def close(self) -> None:
        """Switch the DUT off, stop measuring, free the instrument; 10 s at most.

        A connection that was lost is made anew for that; what could not be done is raised
        when all is done.
        """
        if not self._session.is_open:
            return
        problem: LabdError | None = None
        try:
            if self._acquisition:
                await self._acquisition.abandon()
            if self._known:
                for commands in (self.config.supply_off, self.config.stop):
                    try:
                        await self._surely(*self._filled(commands))
                    except LabdError as fault:
                        problem = problem or fault
        finally:
            self._known = False
            await self._session.close()
        if problem:
            raise problem

    # ---- steps ---------------------------------------------------------------------------

    async def _identify(self) -> Identity:
        answer = await self._session.ask(self.config.identify)
        if self.config.expect.upper() not in answer.upper():
            raise InstrumentError(
                "other-instrument",
                f"an instrument that calls itself {quoted(answer)} answers, "
                f"not one with {self.config.expect!r} in its name",
                "check the address and 'expect' in stations.toml",
                self._session.where,
            )
        self._known = True
        return identity_of("scpi-meter", answer, simulated=self._session.simulated)

    async def _settle_down(self) -> None:
        """End what a predecessor left running and forget its errors."""
        for command in (*self._filled(self.config.supply_off), *self._filled(self.config.stop)):
            await self._session.write(command)
        await self._session.errors()

    async def _surely(self, *commands: str) -> None:
        """Run commands, over a new connection if the old one is lost or out of step."""
        try:
            async with asyncio.timeout(CLOSE_STEP_S):
                await self._session.reconnect()
                try:
                    await self._session.run(*commands)
                except TransportError:
                    await self._session.reconnect()
                    await self._session.run(*commands)
        except TimeoutError as exc:
            what = f"{', '.join(map(repr, commands))} took longer than {CLOSE_STEP_S:g} s"
            todo = "see that its output is off; power-cycle the instrument"
            raise DeadlineExceeded("no-answer", what, todo, self._session.where) from exc

    def _filled(self, commands: tuple[str, ...], voltage_mv: int | None = None) -> list[str]:
        values = self.config.values(voltage_mv)
        return [filled(command, values) for command in commands]

    @property
    def _is_acquiring(self) -> bool:
        return self._acquisition is not None and self._acquisition.running

    def _is_open(self) -> None:
        if not self._known:
            raise LabdBug("scpi-meter-closed", "it is not open", where=self._session.where)
