"""Driver of any SCPI meter or source-measure unit.

The instrument must measure without gaps, by its own clock, and return each reading once. The
host's clock checks the number of readings, so that a meter that is slower than its table states,
skips readings or overwrites its memory gives an error and never a number.
"""

from __future__ import annotations

from functools import partial

from drivers.base.acquisition import refuse_virtual_time, refuse_while_acquiring
from drivers.base.closing import close_in_steps, close_on_failure
from drivers.base.registry import register_power_monitor
from drivers.scpi.codec import parse_values
from drivers.scpi.polling import Clock, PolledAcquisition
from drivers.scpi.record_clock import RecordClock
from drivers.scpi.record_stream import Records, RecordStream
from drivers.scpi.session import ScpiSession
from drivers.scpi_meter.config import ScpiMeterConfig, fill_placeholders
from labd.aio.host_time import host_time_ns
from labd.core.errors import JobError, LabdBug
from labd.core.model import Finding, Identity, Samples, StreamFormat, TimeBase

CLOSE_STEP_S = 4.0
NUMBER_BYTES = {"real32": 4, "real64": 8}


class ScpiMeterAcquisition(PolledAcquisition):
    """One measurement without gaps; ``unfinished`` if the one before was not stopped."""

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
        stream = RecordStream(records, self._to_samples)
        super().__init__(
            session,
            stream,
            clock,
            config.answer_s,
            config.poll_s,
            fills_answers=config.readings is not None,
        )
        self._config = config
        self._values = config.placeholder_values()
        self._volts = voltage_mv / 1000
        self._unfinished = unfinished
        width = NUMBER_BYTES.get(config.format, 0)
        self._block_bytes = width * (config.readings or 0)

    async def _prepare_log(self) -> None:
        """Stop the measurement before if it was not stopped."""
        if self._unfinished:
            await self._stop_log()

    async def _send_start_commands(self) -> None:
        await self._session.run_commands(
            *(fill_placeholders(c, self._values) for c in self._config.start)
        )

    async def _fetch_records(self) -> tuple[Records, bool]:
        query = fill_placeholders(self._config.read, self._values)
        payload = await self._session.ask_bytes(query, self._block_bytes)
        errors = await self._session.read_errors()  # a synchronised answer confirms the one before
        if errors:
            raise await self._record_error(f"'{query}' failed: {'; '.join(errors)}")
        try:
            values = parse_values(payload, self._config.format, self._config.byte_order)
        except ValueError as exc:
            what = f"'{query}' was answered by no {self._config.format} numbers: {exc}"
            raise await self._record_error(what) from exc
        most = self._config.readings
        if most and len(values) > most:
            raise await self._record_error(f"'{query}' gave {len(values)} readings, {most} at most")
        drained = most is None or len(values) < most
        return values.reshape(-1, 1) * self._config.scale, drained

    async def _stop_log(self) -> None:
        await self._session.run_commands(
            *(fill_placeholders(c, self._values) for c in self._config.stop)
        )

    def _to_samples(self, index: int, records: Records) -> Samples:
        values = records[:, 0]
        if self._config.quantity == "power":
            return Samples(index, values)
        return Samples(index, values * self._volts, values)


@register_power_monitor(config=ScpiMeterConfig)
class ScpiMeter:
    """The instrument that its table describes."""

    def __init__(self, config: ScpiMeterConfig, clock: Clock = host_time_ns) -> None:
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
        """Connect, identify, switch the DUT off, set up.

        Raises:
            TransportError: it is missing, busy or lost.
            InstrumentError: it is another instrument, or refused a command.
            DeadlineExceeded: it does not answer.
        """
        await self._session.open()
        self._known, self._acquisition = False, None
        self._voltage_mv = self.config.voltage_mv
        async with close_on_failure(self.close):
            identity = await self._session.identify("scpi-meter", self.config.expect)
            self._known = True
            await self._stop_predecessor()
            await self._session.run_commands(*self._fill_commands(self.config.setup))
            await self._session.run_commands(*self._fill_commands(self.config.supply_off))
        return identity

    @property
    def stream_format(self) -> StreamFormat:
        """What the stream's numbers mean."""
        current = self.config.quantity == "current"
        return StreamFormat(
            sample_rate_hz=self.config.rate_hz,
            edge_uncertainty_s=1 / self.config.rate_hz,
            clock_tolerance_ppm=self.config.clock_ppm,
            quantity=self.config.quantity,
            voltage_v=self._voltage_mv / 1000 if current and self._voltage_mv else None,
            delivery_interval_s=self.config.poll_s,
        )

    @property
    def can_supply_dut(self) -> bool:
        """Whether its table has commands to supply the DUT."""
        return self.config.can_supply_dut

    async def set_dut_supply(self, voltage_mv: int | None) -> None:
        """Power the DUT at this voltage, or switch it off with ``None``.

        Raises:
            JobError: the station does not supply this voltage.
            InstrumentError: the instrument refused a command.
        """
        self._require_open()
        if not self.can_supply_dut:
            raise LabdBug("no-supply", "this meter supplies nothing", where=self._session.where)
        if voltage_mv is None:
            await self._session.run_commands(*self._fill_commands(self.config.supply_off))
            return
        lowest, highest = self.config.supply_mv
        if not lowest <= voltage_mv <= highest:
            what = f"{voltage_mv} mV asked; this station supplies {lowest} to {highest} mV"
            raise JobError("voltage-range", what, "ask for one of these", self._session.where)
        if voltage_mv != self._voltage_mv:  # the power is computed with this one
            refuse_while_acquiring(self._acquisition, "another voltage", self._session.where)
        await self._session.run_commands(*self._fill_commands(self.config.supply_on, voltage_mv))
        self._voltage_mv = voltage_mv

    def acquire(self, time_base: TimeBase = TimeBase.HOST) -> ScpiMeterAcquisition:
        """See :class:`drivers.base.interfaces.PowerMonitor`."""
        refuse_virtual_time(time_base, self._session.where)
        self._require_open()
        refuse_while_acquiring(self._acquisition, "acquire", self._session.where)
        if self.config.quantity == "current" and self._voltage_mv is None:
            raise LabdBug("no-voltage", "acquire before supply", where=self._session.where)
        unfinished = self._acquisition is not None and self._acquisition.was_left_running
        self._acquisition = ScpiMeterAcquisition(
            self.config,
            self._session,
            self._clock,
            self._voltage_mv or 0,
            unfinished=unfinished,
        )
        return self._acquisition

    async def self_check(self) -> list[Finding]:
        """Report the errors in its error queue."""
        self._require_open()
        errors = await self._session.read_errors()
        return [
            Finding("scpi-meter-error", f"error queue of the instrument: {error}")
            for error in errors
        ]

    async def close(self) -> None:
        """Switch the DUT off, stop measuring, disconnect; 10 s at most.

        A lost connection is made again for this.
        """
        if not self._session.is_open:
            return
        async with close_in_steps(self._session.where, CLOSE_STEP_S, self._disconnect) as step:
            if self._acquisition:
                await self._acquisition.abandon()
            if self._known:
                for commands in (self.config.supply_off, self.config.stop):
                    run = partial(self._session.run_commands, *self._fill_commands(commands))
                    what = ", ".join(map(repr, commands))
                    await step(what, self._session.run_with_reconnect(run))

    async def _disconnect(self) -> None:
        self._known = False
        await self._session.close()

    # ---- steps ---------------------------------------------------------------------------

    async def _stop_predecessor(self) -> None:
        """Stop what a predecessor left running and clear the error queue."""
        for command in (
            *self._fill_commands(self.config.supply_off),
            *self._fill_commands(self.config.stop),
        ):
            await self._session.write(command)
        await self._session.read_errors()

    def _fill_commands(self, commands: tuple[str, ...], voltage_mv: int | None = None) -> list[str]:
        values = self.config.placeholder_values(voltage_mv)
        return [fill_placeholders(command, values) for command in commands]

    def _require_open(self) -> None:
        if not self._known:
            raise LabdBug("scpi-meter-closed", "it is not open", where=self._session.where)
