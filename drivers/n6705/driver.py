"""Keysight N6705 power analyser: supplies the DUT from one slot and logs its current.

Sourcing follows EEMBC's published example for this instrument (``*RST``, two-quadrant emulation,
voltage priority, current limit). It has no input for the DUT's timestamp line; where a second
slot supplies that line's pull-up or level shifter, its current shows the pulses.
"""

from __future__ import annotations

import re

from drivers.base.acquisition import refuse_virtual_time, refuse_while_acquiring
from drivers.base.closing import close_in_steps, close_on_failure
from drivers.base.registry import register_power_monitor
from drivers.n6705.config import LINE, SLOTS, N6705Config
from drivers.n6705.elog import ARM_S, BUFFER_S, POLL_S, SMU, ElogAcquisition, ElogPlan, ElogSettings
from drivers.scpi.polling import Clock
from drivers.scpi.record_clock import RecordClock
from drivers.scpi.record_stream import Records, RecordStream
from drivers.scpi.session import ScpiSession
from labd.aio.host_time import host_time_ns
from labd.core.errors import DeadlineExceeded, InstrumentError, JobError, LabdBug
from labd.core.host_clock import CRYSTAL_PPM
from labd.core.model import Finding, Identity, Samples, StreamFormat, TimeBase

VOLT_TOLERANCE = 0.01
CLOSE_STEP_S = 4.0

_LOAD = re.compile(r"N679\d")


@register_power_monitor(config=N6705Config)
class N6705:
    """The instrument."""

    def __init__(
        self,
        config: N6705Config,
        clock: Clock = host_time_ns,
        poll_s: float = POLL_S,
        arm_s: float = ARM_S,
    ) -> None:
        self.config = config
        self._clock = clock
        self._poll_s = poll_s
        self._arm_s = arm_s
        self._session = ScpiSession(config.resource, config.visa, "n6705", config.answer_s)
        self._is_n6705 = False
        self._elog: ElogSettings | None = None
        self._period_s = config.period_s
        self._voltage_mv: int | None = None
        self._highest_mv = config.max_mv
        self._acquisition: ElogAcquisition | None = None

    # ---- open and close ------------------------------------------------------------------

    async def open(self) -> Identity:
        """Connect, reset, check that all outputs are off, set up outputs and logger.

        Raises:
            TransportError: it is missing, busy or lost.
            InstrumentError: it is another instrument, or a module lacks a function.
            DeadlineExceeded: it does not answer.
        """
        await self._session.open()
        self._is_n6705, self._elog = False, None
        self._voltage_mv = self._acquisition = None
        async with close_on_failure(self.close):
            identity = await self._session.identify("n6705", "N6705")
            self._is_n6705 = True
            for command in (f"ABOR:ELOG (@1:{SLOTS})", "ABOR:DLOG", "*CLS"):
                await self._session.write(command)  # an error for an empty slot, or without a log
            await self._session.run_commands("*RST")
            await self._session.ask("*OPC?")
            plan = await self._make_plan()
            self._elog = ElogSettings(self._session, plan)
            if any(await self._session.ask_states(f"OUTP? {plan.slot_list}", len(plan.models))):
                raise self._session.mismatch_error("all outputs off after *RST", "one that is on")
            await self._set_up_outputs(plan)
            self._period_s = await self._elog.set_up(self.config.period_s)
        return identity

    async def close(self) -> None:
        """Switch the DUT off, stop the log, disconnect; 12 s at most.

        A lost connection is made again for this.
        """
        if not self._session.is_open:
            return
        async with close_in_steps(self._session.where, CLOSE_STEP_S, self._disconnect) as step:
            if self._acquisition:
                await self._acquisition.abandon()
            if self._is_n6705:
                off = self._session.run_with_reconnect(self._switch_off)
                await step("switching the DUT off", off)
            if self._elog:
                await step("stopping the log", self._elog.abort_log())

    async def _disconnect(self) -> None:
        self._is_n6705, self._elog = False, None
        await self._session.close()

    # ---- the power monitor ---------------------------------------------------------------

    @property
    def stream_format(self) -> StreamFormat:
        """What the stream's numbers mean; the rate is that of the period it rounded to."""
        set_v = self._voltage_mv / 1000 if self._voltage_mv else None
        return StreamFormat(
            sample_rate_hz=1 / self._period_s,
            edge_uncertainty_s=self._period_s,
            clock_tolerance_ppm=CRYSTAL_PPM,  # unpublished
            quantity="current",
            voltage_v=None if self.config.measure_voltage else set_v,
            timestamp_line=LINE if self.config.sees_timestamps else "",
            delivery_interval_s=self._poll_s,
        )

    @property
    def can_supply_dut(self) -> bool:
        """The instrument supplies the DUT."""
        return True

    async def set_dut_supply(self, voltage_mv: int | None) -> None:
        """Power the DUT at this voltage, or switch it off with ``None``.

        The slot of the level shifters is switched too, so that no pin powers a DUT that is off.

        Raises:
            JobError: more than the station allows or the module supplies.
            InstrumentError: the instrument refused or ignored a command.
        """
        plan = self._require_open().plan
        if voltage_mv is None:
            await self._switch_off()
            return
        if not 0 < voltage_mv <= self._highest_mv:
            what = f"{voltage_mv} mV asked; this station supplies up to {self._highest_mv} mV"
            raise JobError("voltage-range", what, "ask for less", self._session.where)
        if voltage_mv != self._voltage_mv:  # the power is computed with this one
            refuse_while_acquiring(self._acquisition, "another voltage", self._session.where)
        volts = voltage_mv / 1000
        await self._session.run_commands(f"VOLT {volts:.3f},{plan.output_list}")
        read_v = await self._session.ask_numbers(f"VOLT? {plan.output_list}", len(plan.supplying))
        if max(abs(read_v - volts)) > VOLT_TOLERANCE * volts:
            raise self._session.mismatch_error(f"{volts:g} V", f"{read_v.tolist()} V")
        await self._session.run_commands(f"OUTP ON,{plan.output_list}")
        if not all(
            await self._session.ask_states(f"OUTP? {plan.output_list}", len(plan.supplying))
        ):
            raise self._session.mismatch_error("the outputs on", "one that is off")
        self._voltage_mv = voltage_mv

    def acquire(self, time_base: TimeBase = TimeBase.HOST) -> ElogAcquisition:
        """See :class:`drivers.base.interfaces.PowerMonitor`."""
        refuse_virtual_time(time_base, self._session.where)
        elog = self._require_open()
        refuse_while_acquiring(self._acquisition, "acquire", self._session.where)
        if self._voltage_mv is None and not self.config.measure_voltage:
            raise LabdBug("no-voltage", "acquire before supply", where=self._session.where)
        clock = RecordClock(1 / self._period_s, BUFFER_S)
        stream = RecordStream(clock, self._to_samples, self.config.current_step_line)
        self._acquisition = ElogAcquisition(
            elog, stream, self._clock, self.config, self._period_s, self._poll_s, self._arm_s
        )
        return self._acquisition

    async def self_check(self) -> list[Finding]:
        """Report tripped protections of the outputs and wrong functions of the logger."""
        elog = self._require_open()
        plan = elog.plan
        states = await self._session.ask_numbers(
            f"STAT:QUES:COND? {plan.output_list}", len(plan.supplying)
        )
        findings = [
            Finding(
                "n6705-status",
                f"slot {channel}, {plan.models[channel]}: questionable status {int(state)}",
                "a protection has tripped: read the front panel, measure the DUT's current",
            )
            for channel, state in zip(plan.supplying, states.tolist(), strict=True)
            if state
        ]
        try:
            await elog.check_functions()
        except InstrumentError as fault:
            findings.append(Finding(fault.code, fault.what, fault.remedy))
        return findings

    # ---- steps ---------------------------------------------------------------------------

    async def _make_plan(self) -> ElogPlan:
        models = await self._read_models()
        supplying = [n for n in (self.config.channel, self.config.io_channel) if n is not None]
        for channel in supplying:
            model = models.get(channel, "no module")
            if channel not in models or _LOAD.match(model):
                found = ", ".join(f"{slot}: {name}" for slot, name in models.items())
                raise InstrumentError(
                    "module-unfit",
                    f"slot {channel} has {model}; there is {found or 'none at all'}",
                    "name a slot with a power supply module in stations.toml",
                    self._session.where,
                )
        logged = supplying if self.config.current_step_line else supplying[:1]
        return ElogPlan(models, tuple(supplying), tuple(logged), self.config.measure_voltage)

    async def _read_models(self) -> dict[int, str]:
        """Read the module in each slot; an empty slot answers with an error, or not at all."""
        count = int((await self._session.ask_numbers("SYST:CHAN?", 1))[0])
        models: dict[int, str] = {}
        for slot in range(1, SLOTS + 1):
            if len(models) == count:
                break
            if model := await self._read_model(slot):
                models[slot] = model
        return models

    async def _read_model(self, slot: int) -> str:
        """Read the module in a slot; empty if there is none."""
        try:
            answer = await self._session.ask(f"SYST:CHAN:MOD? (@{slot});:SYST:ERR?")
        except DeadlineExceeded:  # the error may end the message before its second query
            await self._session.read_errors()
            return ""
        model, _, error = answer.rpartition(";")
        refused = await self._session.read_errors()
        return "" if refused or not error.lstrip("+").startswith("0") else model.strip(' "')

    async def _set_up_outputs(self, plan: ElogPlan) -> None:
        limits = (self.config.current_limit_a, self.config.io_current_limit_a)
        for channel, limit_a in zip(plan.supplying, limits, strict=False):
            if SMU.match(plan.models[channel]):
                await self._session.run_commands(
                    f"EMUL PS2Q,(@{channel})",
                    f"FUNC VOLT,(@{channel})",
                    f"CURR:LIM {limit_a:g},(@{channel})",
                )
            else:
                await self._session.run_commands(f"CURR {limit_a:g},(@{channel})")
        highest_v = await self._session.ask_numbers(
            f"VOLT? MAX,{plan.output_list}", len(plan.supplying)
        )
        self._highest_mv = min(self.config.max_mv, int(min(highest_v) * 1000))

    async def _switch_off(self) -> None:
        if self._elog is None:
            await self._session.run_commands("*RST")  # opening failed before the modules were known
            return
        plan = self._elog.plan
        await self._session.run_commands(f"OUTP OFF,{plan.output_list}")
        if any(await self._session.ask_states(f"OUTP? {plan.output_list}", len(plan.supplying))):
            raise self._session.mismatch_error("the outputs off", "one that is on")

    def _require_open(self) -> ElogSettings:
        if self._elog is None:
            raise LabdBug("n6705-closed", "it is not open", where=self._session.where)
        return self._elog

    def _to_samples(self, index: int, records: Records) -> Samples:
        current_a = records[:, 0]
        if self.config.measure_voltage:
            return Samples(index, current_a * records[:, 1], current_a, records[:, 1])
        return Samples(index, current_a * ((self._voltage_mv or 0) / 1000), current_a)
