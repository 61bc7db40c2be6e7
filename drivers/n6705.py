"""Keysight N6705 power analyser: feeds the DUT from one slot and logs what it draws.

The external data logger (ELOG) after the N6705C Operating and Service Guide, chapter 4: an
integration period is rounded by the instrument, so its answer counts; a record holds, for
each function that is on, mean, minimum and maximum, current before voltage; the instrument
buffers about 20 s. What the functions of all slots are is set, read back and watched through
the rate of the records. There is no input for the DUT's timestamp; where a second slot feeds
the timestamp line's pull-up or level shifter, its current shows the pulses.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from drivers.interfaces import DriverConfig, driver
from drivers.link import quoted
from drivers.scpi import Resource, ScpiSession, VisaBackend, identity_of
from drivers.scpi_codec import error_in, switches_in, values_in
from drivers.scpi_polling import Clock, PolledAcquisition
from drivers.scpi_records import RecordClock, RecordStream, Rows, StepLine, Values
from labd.core.errors import (
    DeadlineExceeded,
    InfraError,
    InstrumentError,
    JobError,
    LabdBug,
    LabdError,
    TransportError,
)
from labd.core.model import Finding, Identity, Part, Samples, StreamFormat

SLOTS = 4
LINE = "io"
SHORTEST_S = 102.4e-6  # for each value of a record
LONGEST_S = 0.001
BUFFER_S = 15.0  # of "about 20 seconds"
FETCH_RECORDS = 4096
POLL_S = 0.07  # not a divisor of a round update interval
ARM_S = 0.1  # between INIT and TRIG
PERIOD_TOLERANCE = 0.05
VOLT_TOLERANCE = 0.01
# The guide states no tolerance of the clock; twice the ±50 ppm of an ordinary crystal.
CLOCK_TOLERANCE_PPM = 100.0
CLIPPED = 0.995  # of the current limit: the supply regulates current, not voltage
CLOSE_STEP_S = 4.0
FUNCTIONS = ("CURR", "CURR:MINM", "VOLT", "VOLT:MINM")

_SMU = re.compile(r"N678[12456]")  # voltage and current at once, ranges without a seam
_LOAD = re.compile(r"N679\d")


class N6705Config(DriverConfig):
    """An N6705 that feeds the DUT; it serves this station alone."""

    resource: Resource
    visa: VisaBackend = "@py"
    channel: int = Field(1, ge=1, le=SLOTS, description="slot that feeds the DUT")
    period_s: float = Field(
        0.001,
        ge=SHORTEST_S,
        le=LONGEST_S,
        description="integration period; 1 ms as in the official settings, or shorter",
    )
    current_limit_a: float = Field(0.2, gt=0, le=20, description="current limit, ampere")
    max_mv: int = Field(3600, gt=0, le=60_000, description="highest supply a job may ask for")
    measure_voltage: bool = Field(
        default=False, description="log the voltage too, instead of trusting the setting"
    )
    io_channel: int | None = Field(
        None, ge=1, le=SLOTS, description="slot that feeds the level shifters, at the DUT's voltage"
    )
    io_current_limit_a: float = Field(0.2, gt=0, le=20, description="its current limit, ampere")
    io_threshold_a: float | None = Field(
        None,
        gt=0,
        description="its current between timestamp line high and low, ampere; with it the "
        "timestamps are taken from its log, and pulses must last two periods",
    )
    io_hysteresis_a: float | None = Field(
        None, gt=0, description="band around the threshold; a quarter of it if not told"
    )
    answer_s: float = Field(5.0, gt=0, le=60, description="longest wait for an answer, seconds")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.io_channel == self.channel:
            raise ValueError("io_channel is the slot that feeds the DUT; it must be another")
        if self.io_threshold_a is not None and self.io_channel is None:
            raise ValueError("io_threshold_a needs io_channel, the slot whose current it is about")
        if self.io_hysteresis_a is not None and self.io_threshold_a is None:
            raise ValueError("io_hysteresis_a needs io_threshold_a")
        values = 1 + self.measure_voltage + (self.io_threshold_a is not None)
        if self.period_s < values * SHORTEST_S:
            raise ValueError(
                f"period_s is {self.period_s:g}; with {values} values a record the shortest is "
                f"{values * SHORTEST_S:g} s"
            )
        return self

    @property
    def line(self) -> StepLine | None:
        """The timestamp line as the second slot shows it."""
        if self.io_threshold_a is None:
            return None
        band_a = self.io_hysteresis_a or self.io_threshold_a / 4
        return StepLine(LINE, self.io_threshold_a, band_a)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which channels do what.

    Args:
        models: module in each slot that has one.
        fed: channels that are switched on and off together.
        logged: channels whose current is logged; the first is the DUT's.
        with_voltage: whether the DUT's voltage is logged behind its current.
    """

    models: dict[int, str]
    fed: tuple[int, ...]
    logged: tuple[int, ...]
    with_voltage: bool

    @property
    def slots(self) -> str:
        """All slots as a channel list."""
        return channel_list(self.models)

    @property
    def outputs(self) -> str:
        """What is switched on and off, as a channel list."""
        return channel_list(self.fed)

    @property
    def on(self) -> dict[str, set[int]]:
        """For each logging function the channels on which it has to be on."""
        voltage = {self.logged[0]} if self.with_voltage else set[int]()
        return {"CURR": set(self.logged), "CURR:MINM": set(), "VOLT": voltage, "VOLT:MINM": set()}


def channel_list(channels: Iterable[int]) -> str:
    """Channels as SCPI writes them: ``(@1,3)``."""
    return f"(@{','.join(map(str, channels))})"


def values_of(block: bytes, fields: int) -> Rows:
    """A block of float32, big-endian, as records, shape (n, fields).

    Raises:
        ValueError: it does not consist of whole records.
    """
    values = values_in(block, "real32", "big")
    if len(values) % fields:
        raise ValueError(f"{len(values)} values are no whole number of records of {fields}")
    return values.reshape(-1, fields)


class N6705Acquisition(PolledAcquisition):
    """One run of the external data logger."""

    def __init__(self, monitor: N6705, plan: Plan, stream: RecordStream) -> None:
        session, answer_s = monitor.session, monitor.config.answer_s
        super().__init__(session, stream, monitor.clock, answer_s, POLL_S)
        self._monitor = monitor
        self._plan = plan
        self._channels = channel_list(plan.logged)
        self._waiting: list[Rows] = [np.empty((0, 1)) for _ in plan.logged]
        self._limit_a = CLIPPED * monitor.config.current_limit_a

    async def _prepare(self) -> None:
        await self._session.run(f"ABOR:ELOG {self._channels}")
        await self._monitor.check_functions()
        await self._session.run(f"TRIG:ELOG:SOUR BUS,{self._channels}")
        await self._session.run(f"INIT:ELOG {self._channels}")
        await asyncio.sleep(ARM_S)

    async def _start(self) -> None:
        await self._session.run(f"TRIG:ELOG {self._channels}")

    async def _fetch(self) -> tuple[Rows, bool]:
        """Records of every channel logged, side by side, as far as all have them."""
        drained = True
        for place, channel in enumerate(self._plan.logged):
            fields = 1 + (self._plan.with_voltage and place == 0)
            rows = await self._fetch_from(channel, fields)
            drained = drained and len(rows) < FETCH_RECORDS
            if place == 0 and not self._plan.with_voltage:
                rows[rows[:, 0] >= self._limit_a] = np.nan  # there the voltage is not the set one
            before = self._waiting[place]
            self._waiting[place] = np.concatenate([before, rows]) if len(before) else rows
        whole = min(map(len, self._waiting))
        rows = np.hstack([waiting[:whole] for waiting in self._waiting])
        self._waiting = [waiting[whole:] for waiting in self._waiting]
        return rows, drained

    async def _fetch_from(self, channel: int, fields: int) -> Rows:
        query = f"FETC:ELOG? {FETCH_RECORDS},(@{channel})"
        block = await self._session.ask_bytes(query)
        errors = await self._session.errors()  # an answer in step vouches for the block before
        if errors:
            raise self._wrong(f"the log failed: {'; '.join(errors)}")
        try:
            return values_of(block, fields)
        except ValueError as exc:
            raise await self._explain(str(exc)) from exc

    async def _halt(self) -> None:
        await self._session.run(f"ABOR:ELOG {self._channels}")

    async def _explain(self, problem: str) -> InstrumentError:
        try:
            states = await self._monitor.functions()
        except InfraError as fault:
            return self._wrong(f"{problem}; its functions cannot be read: {fault.what}")
        return self._wrong(f"{problem}; functions that log: {told(states)}")

    def _wrong(self, what: str) -> InstrumentError:
        todo = (
            "let no other program or hand at the front panel use the instrument; a host that "
            "comes more than 20 s late loses records too"
        )
        return InstrumentError("elog-records", what, todo, self._where)


def told(states: dict[str, set[int]]) -> str:
    """Logging functions and their channels in words."""
    parts = [f"{name} on {channel_list(sorted(on))}" for name, on in states.items() if on]
    return ", ".join(parts) or "none"


@driver(part=Part.POWER, config=N6705Config)
class N6705:
    """The instrument.

    Args:
        config: its table in stations.toml.
        clock: the host's clock.
    """

    def __init__(self, config: N6705Config, clock: Clock = time.monotonic_ns) -> None:
        self.config = config
        self.clock = clock
        self.session = ScpiSession(config.resource, config.visa, "n6705", config.answer_s)
        self._is_n6705 = False
        self._plan: Plan | None = None
        self._period_s = config.period_s
        self._voltage_mv: int | None = None
        self._highest_mv = config.max_mv
        self._acquisition: N6705Acquisition | None = None

    # ---- open and close ------------------------------------------------------------------

    async def open(self) -> Identity:
        """Take the instrument, reset it, see that all outputs are off, set up its logger.

        Raises:
            TransportError: it is missing, busy or goes away.
            InstrumentError: it is another instrument, or a module cannot do what is asked.
            DeadlineExceeded: it does not answer.
        """
        await self.session.open()
        self._is_n6705, self._plan = False, None
        self._voltage_mv = self._acquisition = None
        try:
            identity = await self._identify()
            await self.session.run("*RST")
            await self.session.ask("*OPC?")
            self._plan = plan = await self._planned()
            await self._see_off(plan)
            await self._set_up_outputs(plan)
            await self._set_up_log(plan)
        except BaseException as exc:
            try:
                await self.close()
            except LabdError as fault:
                exc.add_note(f"closing it again failed too: {fault}")
            raise
        return identity

    async def close(self) -> None:
        """Switch the DUT off, stop the log, free the instrument; 12 s at most.

        A connection that was lost is made anew for that; what could not be done is raised
        when all is done.
        """
        if not self.session.is_open:
            return
        problem: LabdError | None = None
        try:
            if self._acquisition:
                await self._acquisition.abandon()
            if self._is_n6705:
                for what, step in (
                    ("switching the DUT off", self._switch_off_surely),
                    ("stopping the log", self._stop_log),
                ):
                    try:
                        await self._within(what, step())
                    except LabdError as fault:
                        problem = problem or fault
        finally:
            self._is_n6705 = False
            await self.session.close()
        if problem:
            raise problem

    # ---- the power monitor ---------------------------------------------------------------

    @property
    def format(self) -> StreamFormat:
        """What the stream's numbers mean; the rate is the one the instrument settled on."""
        set_v = self._voltage_mv / 1000 if self._voltage_mv else None
        return StreamFormat(
            sample_rate_hz=1 / self._period_s,
            edge_uncertainty_s=self._period_s,
            clock_tolerance_ppm=CLOCK_TOLERANCE_PPM,
            quantity="current",
            voltage_v=None if self.config.measure_voltage else set_v,
            timestamp_line=LINE if self.config.line else "",
        )

    @property
    def supplies(self) -> bool:
        """The instrument feeds the DUT."""
        return True

    async def supply(self, voltage_mv: int | None) -> None:
        """Power the DUT at this voltage, or switch it off with ``None``.

        The slot of the level shifters goes with it, so that no pin feeds a DUT that is off.

        Raises:
            JobError: more than the station allows or the module gives.
            InstrumentError: the instrument refuses, or does not do as it was told.
        """
        plan = self._planned_already()
        if voltage_mv is None:
            await self._switch_off(plan)
            return
        if not 0 < voltage_mv <= self._highest_mv:
            what = f"{voltage_mv} mV asked; this station supplies up to {self._highest_mv} mV"
            raise JobError("voltage-range", what, "ask for less", self.session.where)
        volts = voltage_mv / 1000
        await self.session.run(f"VOLT {volts:.3f},{plan.outputs}")
        told_v = await self._numbers(f"VOLT? {plan.outputs}", len(plan.fed))
        if max(abs(told_v - volts)) > VOLT_TOLERANCE * volts:
            raise self._unlike(f"{volts:g} V", f"{told_v.tolist()} V")
        await self.session.run(f"OUTP ON,{plan.outputs}")
        if not all(await self._switches(f"OUTP? {plan.outputs}", len(plan.fed))):
            raise self._unlike("the outputs on", "one that is off")
        self._voltage_mv = voltage_mv

    def acquire(self) -> N6705Acquisition:
        """See :class:`drivers.interfaces.PowerMonitor`."""
        plan = self._planned_already()
        if self._acquisition and self._acquisition.running:
            raise LabdBug("acquiring", "acquire in an acquisition", where=self.session.where)
        if self._voltage_mv is None and not plan.with_voltage:
            raise LabdBug("no-voltage", "acquire before supply", where=self.session.where)
        clock = RecordClock(1 / self._period_s, BUFFER_S)
        stream = RecordStream(clock, self._samples, self.config.line)
        self._acquisition = N6705Acquisition(self, plan, stream)
        return self._acquisition

    async def self_check(self) -> list[Finding]:
        """What the outputs' protections and the logger's functions say."""
        plan = self._planned_already()
        states = await self._numbers(f"STAT:QUES:COND? {plan.outputs}", len(plan.fed))
        findings = [
            Finding(
                "n6705-status",
                f"slot {channel}, {plan.models[channel]}: questionable status {int(state)}",
                "read the front panel: a protection has tripped; see what the DUT draws",
            )
            for channel, state in zip(plan.fed, states.tolist(), strict=True)
            if state
        ]
        try:
            await self.check_functions()
        except InstrumentError as fault:
            findings.append(Finding(fault.code, fault.what, fault.todo))
        return findings

    # ---- the logger's functions ----------------------------------------------------------

    async def functions(self) -> dict[str, set[int]]:
        """For each logging function the channels, of all slots, on which it is on."""
        plan = self._planned_already()
        found: dict[str, set[int]] = {}
        for name in FUNCTIONS:
            query = f"SENS:ELOG:FUNC:{name}? {plan.slots}"
            states = await self._switches(query, len(plan.models))
            found[name] = {slot for slot, on in zip(plan.models, states, strict=True) if on}
        return found

    async def check_functions(self) -> None:
        """See that exactly the wanted functions are on, on every slot.

        Raises:
            InstrumentError: ``elog-functions``; others would share the stream.
        """
        states, wanted = await self.functions(), self._planned_already().on
        if states != wanted:
            raise InstrumentError(
                "elog-functions",
                f"functions that log: {told(states)}; wanted: {told(wanted)}",
                "let nobody else use the instrument; power-cycle it if it refuses",
                self.session.where,
            )

    # ---- steps ---------------------------------------------------------------------------

    async def _identify(self) -> Identity:
        answer = await self.session.ask("*IDN?")
        if "N6705" not in answer.upper():
            raise InstrumentError(
                "other-instrument",
                f"an instrument that calls itself {quoted(answer)} answers",
                "check the address; this driver is for an N6705",
                self.session.where,
            )
        self._is_n6705 = True
        await self.session.write(f"ABOR:ELOG (@1:{SLOTS})")  # an empty slot is an error here
        await self.session.write("*CLS")
        return identity_of("n6705", answer, simulated=self.session.simulated)

    async def _planned(self) -> Plan:
        models = await self._models()
        fed = [n for n in (self.config.channel, self.config.io_channel) if n is not None]
        for channel in fed:
            model = models.get(channel, "no module")
            if channel not in models or _LOAD.match(model):
                found = ", ".join(f"{slot}: {name}" for slot, name in models.items())
                raise InstrumentError(
                    "module-unfit",
                    f"slot {channel} has {model}; there is {found or 'none at all'}",
                    "name a slot with a power supply module in stations.toml",
                    self.session.where,
                )
        logged = fed if self.config.line else fed[:1]
        return Plan(models, tuple(fed), tuple(logged), self.config.measure_voltage)

    async def _models(self) -> dict[int, str]:
        """The module in each slot; an empty slot answers with an error, or not at all."""
        count = int((await self._numbers("SYST:CHAN?", 1))[0])
        models: dict[int, str] = {}
        for slot in range(1, SLOTS + 1):
            if len(models) == count:
                break
            try:
                answer = await self.session.ask(f"SYST:CHAN:MOD? (@{slot});:SYST:ERR?")
            except DeadlineExceeded:
                continue
            model, _, error = answer.rpartition(";")
            if model and not error_in(error):
                models[slot] = model.strip(' "')
        await self.session.errors()
        return models

    async def _see_off(self, plan: Plan) -> None:
        if any(await self._switches(f"OUTP? {plan.slots}", len(plan.models))):
            raise self._unlike("all outputs off after *RST", "one that is on")

    async def _set_up_outputs(self, plan: Plan) -> None:
        limits = (self.config.current_limit_a, self.config.io_current_limit_a)
        for channel, limit_a in zip(plan.fed, limits, strict=False):
            if _SMU.match(plan.models[channel]):
                await self.session.run(
                    f"EMUL PS2Q,(@{channel})",
                    f"FUNC VOLT,(@{channel})",
                    f"CURR:LIM {limit_a:g},(@{channel})",
                )
            else:
                await self.session.run(f"CURR {limit_a:g},(@{channel})")
        highest_v = await self._numbers(f"VOLT? MAX,{plan.outputs}", len(plan.fed))
        self._highest_mv = min(self.config.max_mv, int(min(highest_v) * 1000))

    async def _set_up_log(self, plan: Plan) -> None:
        for name in FUNCTIONS:
            await self.session.run(f"SENS:ELOG:FUNC:{name} OFF,{plan.slots}")
        for name, channels in plan.on.items():
            for channel in sorted(channels):
                await self._switch_on(name, channel, plan.models[channel])
        logged = channel_list(plan.logged)
        for channel in plan.logged:
            if _SMU.match(plan.models[channel]):
                await self.session.run(f"SENS:ELOG:CURR:RANG:AUTO ON,(@{channel})")
        await self.session.run(
            "SENS:SWE:TINT:RES RES20",
            f"SENS:ELOG:PER {self.config.period_s:g},{logged}",
            "FORM REAL",
            "FORM:BORD NORM",
        )
        self._period_s = await self._settled_period(logged, len(plan.logged))
        await self.check_functions()

    async def _switch_on(self, name: str, channel: int, model: str) -> None:
        try:
            await self.session.run(f"SENS:ELOG:FUNC:{name} ON,(@{channel})")
        except InstrumentError as exc:
            raise InstrumentError(
                "module-unfit",
                f"slot {channel}, {model}, cannot log {name}: {exc.what}",
                "use a module that can (voltage beside current: N676x, N678x); an instrument "
                "with option 055 has no logger",
                self.session.where,
            ) from exc

    async def _settled_period(self, logged: str, count: int) -> float:
        """The period the instrument made of the one asked for: a multiple of 20.48 µs."""
        periods = await self._numbers(f"SENS:ELOG:PER? {logged}", count)
        wrong = abs(periods / self.config.period_s - 1) > PERIOD_TOLERANCE
        if any(wrong) or min(periods) != max(periods):
            raise self._unlike(f"a period of {self.config.period_s:g} s", f"{periods.tolist()} s")
        return float(periods[0])

    async def _switch_off(self, plan: Plan) -> None:
        await self.session.run(f"OUTP OFF,{plan.outputs}")
        if any(await self._switches(f"OUTP? {plan.outputs}", len(plan.fed))):
            raise self._unlike("the outputs off", "one that is on")

    async def _switch_off_surely(self) -> None:
        """Switch off over a new connection if the old one is lost or out of step."""
        for last_try in (False, True):
            await self.session.reconnect()
            try:
                if self._plan:
                    await self._switch_off(self._plan)
                else:
                    await self.session.run("*RST")  # opening failed before the slots were known
            except TransportError:
                if last_try:
                    raise
            else:
                return

    async def _stop_log(self) -> None:
        if self._plan:
            await self.session.run(f"ABOR:ELOG {channel_list(self._plan.logged)}")

    async def _within(self, what: str, step: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(CLOSE_STEP_S):
                await step
        except TimeoutError as exc:
            text = f"{what} took longer than {CLOSE_STEP_S:g} s"
            todo = "see that its output is off; power-cycle the instrument"
            raise DeadlineExceeded("no-answer", text, todo, self.session.where) from exc

    # ---- small things --------------------------------------------------------------------

    def _planned_already(self) -> Plan:
        if self._plan is None:
            raise LabdBug("n6705-closed", "it is not open", where=self.session.where)
        return self._plan

    async def _switches(self, query: str, count: int) -> list[bool]:
        answer = await self.session.ask(query)
        try:
            states = switches_in(answer)
        except ValueError:
            states = []
        if len(states) != count:
            raise self._unlike(f"{count} states to '{query}'", quoted(answer))
        return states

    async def _numbers(self, query: str, count: int) -> Values:
        answer = await self.session.ask(query)
        try:
            numbers = values_in(answer.encode("ascii"), "ascii", "big")
        except ValueError:
            numbers = np.empty(0)
        if len(numbers) != count or np.isnan(numbers).any():
            raise self._unlike(f"{count} numbers to '{query}'", quoted(answer))
        return numbers

    def _unlike(self, wanted: str, got: str) -> InstrumentError:
        return InstrumentError(
            "instrument-unlike",
            f"wanted {wanted}, it has {got}",
            "read the instrument's display; power-cycle it",
            self.session.where,
        )

    def _samples(self, index: int, rows: Rows) -> Samples:
        current_a = rows[:, 0]
        if self.config.measure_voltage:
            return Samples(index, current_a * rows[:, 1], current_a, rows[:, 1])
        return Samples(index, current_a * ((self._voltage_mv or 0) / 1000), current_a)
