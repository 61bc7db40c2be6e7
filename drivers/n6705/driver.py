"""Keysight N6705 power analyser: feeds the DUT from one slot and logs what it draws.

Sourcing after EEMBC's published example for this instrument (*RST, two-quadrant emulation,
voltage priority, current limit). There is no input for the DUT's timestamp; where a second
slot feeds the timestamp line's pull-up or level shifter, its current shows the pulses.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable
from typing import Self

from pydantic import Field, model_validator

from drivers.base.acquisition import refuse_virtual_time, refuse_while_acquiring
from drivers.base.closing import closed_on_failure
from drivers.base.interfaces import MonitorConfig
from drivers.base.registry import power_monitor
from drivers.n6705.elog import BUFFER_S, SMU, ElogAcquisition, Logger, Plan
from drivers.scpi.polling import Clock
from drivers.scpi.record_clock import RecordClock, RecordStream, Rows, StepLine
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

SLOTS = 4
LINE = "io"
SHORTEST_S = 102.4e-6  # for each value of a record
LONGEST_S = 0.001
VOLT_TOLERANCE = 0.01
# The guide states no tolerance of the clock; twice the ±50 ppm of an ordinary crystal.
CLOCK_TOLERANCE_PPM = 100.0
CLOSE_STEP_S = 4.0

_LOAD = re.compile(r"N679\d")


class N6705Config(MonitorConfig):
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
    def sees_timestamps(self) -> bool:
        """Only by the current of a second slot."""
        return self.io_threshold_a is not None

    @property
    def supply_range_mv(self) -> tuple[int, int]:
        """Up to what the station allows; the module may have a lower limit of its own."""
        return 1, self.max_mv

    @property
    def line(self) -> StepLine | None:
        """The timestamp line as the second slot shows it."""
        if self.io_threshold_a is None:
            return None
        band_a = self.io_hysteresis_a or self.io_threshold_a / 4
        return StepLine(LINE, self.io_threshold_a, band_a)


@power_monitor(config=N6705Config)
class N6705:
    """The instrument.

    Args:
        config: its table in stations.toml.
        clock: the host's clock.
    """

    def __init__(self, config: N6705Config, clock: Clock = time.monotonic_ns) -> None:
        self.config = config
        self._clock = clock
        self._session = ScpiSession(config.resource, config.visa, "n6705", config.answer_s)
        self._is_n6705 = False
        self._logger: Logger | None = None
        self._period_s = config.period_s
        self._voltage_mv: int | None = None
        self._highest_mv = config.max_mv
        self._acquisition: ElogAcquisition | None = None

    # ---- open and close ------------------------------------------------------------------

    async def open(self) -> Identity:
        """Take the instrument, reset it, see that all outputs are off, set up its logger.

        Raises:
            TransportError: it is missing, busy or goes away.
            InstrumentError: it is another instrument, or a module cannot do what is asked.
            DeadlineExceeded: it does not answer.
        """
        await self._session.open()
        self._is_n6705, self._logger = False, None
        self._voltage_mv = self._acquisition = None
        async with closed_on_failure(self.close):
            identity = await self._identify()
            await self._session.run("*RST")
            await self._session.ask("*OPC?")
            plan = await self._planned()
            self._logger = Logger(self._session, plan)
            await self._see_off(plan)
            await self._set_up_outputs(plan)
            self._period_s = await self._logger.set_up(self.config.period_s)
        return identity

    async def close(self) -> None:
        """Switch the DUT off, stop the log, free the instrument; 12 s at most.

        A connection that was lost is made anew for that; what could not be done is raised
        when all is done.
        """
        if not self._session.is_open:
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
            self._is_n6705, self._logger = False, None
            await self._session.close()
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
        plan = self._logger_already().plan
        if voltage_mv is None:
            await self._switch_off(plan)
            return
        if not 0 < voltage_mv <= self._highest_mv:
            what = f"{voltage_mv} mV asked; this station supplies up to {self._highest_mv} mV"
            raise JobError("voltage-range", what, "ask for less", self._session.where)
        if self._is_acquiring and voltage_mv != self._voltage_mv:
            what = "another voltage while the power is computed with this one"
            raise LabdBug("acquiring", what, where=self._session.where)
        volts = voltage_mv / 1000
        await self._session.run(f"VOLT {volts:.3f},{plan.outputs}")
        told_v = await self._session.ask_numbers(f"VOLT? {plan.outputs}", len(plan.fed))
        if max(abs(told_v - volts)) > VOLT_TOLERANCE * volts:
            raise self._session.unlike(f"{volts:g} V", f"{told_v.tolist()} V")
        await self._session.run(f"OUTP ON,{plan.outputs}")
        if not all(await self._session.ask_switches(f"OUTP? {plan.outputs}", len(plan.fed))):
            raise self._session.unlike("the outputs on", "one that is off")
        self._voltage_mv = voltage_mv

    def acquire(self, time_base: TimeBase = TimeBase.HOST) -> ElogAcquisition:
        """See :class:`drivers.base.interfaces.PowerMonitor`."""
        refuse_virtual_time(time_base, self._session.where)
        logger = self._logger_already()
        refuse_while_acquiring(self._acquisition, "acquire", self._session.where)
        if self._voltage_mv is None and not self.config.measure_voltage:
            raise LabdBug("no-voltage", "acquire before supply", where=self._session.where)
        clock = RecordClock(1 / self._period_s, BUFFER_S)
        stream = RecordStream(clock, self._samples, self.config.line)
        self._acquisition = ElogAcquisition(
            logger,
            stream,
            self._clock,
            self.config.answer_s,
            self.config.current_limit_a,
            self._period_s,
        )
        return self._acquisition

    async def self_check(self) -> list[Finding]:
        """What the outputs' protections and the logger's functions say."""
        logger = self._logger_already()
        plan = logger.plan
        states = await self._session.ask_numbers(f"STAT:QUES:COND? {plan.outputs}", len(plan.fed))
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
            await logger.check()
        except InstrumentError as fault:
            findings.append(Finding(fault.code, fault.what, fault.remedy))
        return findings

    # ---- steps ---------------------------------------------------------------------------

    async def _identify(self) -> Identity:
        answer = await self._session.ask("*IDN?")
        if "N6705" not in answer.upper():
            raise InstrumentError(
                "other-instrument",
                f"an instrument that calls itself {quoted(answer)} answers",
                "check the address; this driver is for an N6705",
                self._session.where,
            )
        self._is_n6705 = True
        for command in (f"ABOR:ELOG (@1:{SLOTS})", "ABOR:DLOG", "*CLS"):
            await self._session.write(command)  # an empty slot, or no log, is an error here
        return identity_of("n6705", answer, simulated=self._session.simulated)

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
                    self._session.where,
                )
        logged = fed if self.config.line else fed[:1]
        return Plan(models, tuple(fed), tuple(logged), self.config.measure_voltage)

    async def _models(self) -> dict[int, str]:
        """The module in each slot; an empty slot answers with an error, or not at all."""
        count = int((await self._session.ask_numbers("SYST:CHAN?", 1))[0])
        models: dict[int, str] = {}
        for slot in range(1, SLOTS + 1):
            if len(models) == count:
                break
            if model := await self._model(slot):
                models[slot] = model
        return models

    async def _model(self, slot: int) -> str:
        """The module in a slot, empty if there is none."""
        try:
            answer = await self._session.ask(f"SYST:CHAN:MOD? (@{slot});:SYST:ERR?")
        except DeadlineExceeded:  # the error may have swallowed the rest of the message
            await self._session.errors()
            return ""
        model, _, error = answer.rpartition(";")
        refused = await self._session.errors()
        return "" if refused or not error.lstrip("+").startswith("0") else model.strip(' "')

    async def _see_off(self, plan: Plan) -> None:
        if any(await self._session.ask_switches(f"OUTP? {plan.slots}", len(plan.models))):
            raise self._session.unlike("all outputs off after *RST", "one that is on")

    async def _set_up_outputs(self, plan: Plan) -> None:
        limits = (self.config.current_limit_a, self.config.io_current_limit_a)
        for channel, limit_a in zip(plan.fed, limits, strict=False):
            if SMU.match(plan.models[channel]):
                await self._session.run(
                    f"EMUL PS2Q,(@{channel})",
                    f"FUNC VOLT,(@{channel})",
                    f"CURR:LIM {limit_a:g},(@{channel})",
                )
            else:
                await self._session.run(f"CURR {limit_a:g},(@{channel})")
        highest_v = await self._session.ask_numbers(f"VOLT? MAX,{plan.outputs}", len(plan.fed))
        self._highest_mv = min(self.config.max_mv, int(min(highest_v) * 1000))

    async def _switch_off(self, plan: Plan) -> None:
        await self._session.run(f"OUTP OFF,{plan.outputs}")
        if any(await self._session.ask_switches(f"OUTP? {plan.outputs}", len(plan.fed))):
            raise self._session.unlike("the outputs off", "one that is on")

    async def _switch_off_surely(self) -> None:
        """Switch off over a new connection if the old one is lost or out of step."""
        for last_try in (False, True):
            await self._session.reconnect()
            try:
                if self._logger:
                    await self._switch_off(self._logger.plan)
                else:
                    await self._session.run("*RST")  # opening failed before the slots were known
            except TransportError:
                if last_try:
                    raise
            else:
                return

    async def _stop_log(self) -> None:
        if self._logger:
            await self._logger.abort()

    async def _within(self, what: str, step: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(CLOSE_STEP_S):
                await step
        except TimeoutError as exc:
            text = f"{what} took longer than {CLOSE_STEP_S:g} s"
            todo = "see that its output is off; power-cycle the instrument"
            raise DeadlineExceeded("no-answer", text, todo, self._session.where) from exc

    # ---- small things --------------------------------------------------------------------

    @property
    def _is_acquiring(self) -> bool:
        return self._acquisition is not None and self._acquisition.running

    def _logger_already(self) -> Logger:
        if self._logger is None:
            raise LabdBug("n6705-closed", "it is not open", where=self._session.where)
        return self._logger

    def _samples(self, index: int, rows: Rows) -> Samples:
        current_a = rows[:, 0]
        if self.config.measure_voltage:
            return Samples(index, current_a * rows[:, 1], current_a, rows[:, 1])
        return Samples(index, current_a * ((self._voltage_mv or 0) / 1000), current_a)
