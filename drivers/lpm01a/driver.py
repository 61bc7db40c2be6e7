"""STMicroelectronics X-NUCLEO-LPM01A (PowerShield): supplies the DUT and measures it.

Host mode of UM2269. In ASCII (up to 5 kHz) edges of the D7 input are marked in the stream; in
binary (up to 100 kHz) nothing documents such marks, so windows have to be timed by the I/O
manager. In both formats a sample is delivered when the next time stamp has confirmed that
exactly 1000 came since the last one; samples that no stamp confirms become a gap.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from drivers.base.acquisition import refuse_left_running, refuse_while_acquiring
from drivers.base.closing import close_in_steps, close_on_failure
from drivers.base.identity import make_identity
from drivers.base.line_reader import LineReader
from drivers.base.registry import register_power_monitor
from drivers.base.serial_link import Link
from drivers.lpm01a.acquisition import STAMP_S, STOP_S, Lpm01aAcquisition
from drivers.lpm01a.ascii_framer import AsciiFramer
from drivers.lpm01a.binary_framer import BinaryFramer
from drivers.lpm01a.commands import find_reply, format_number, format_rate
from drivers.lpm01a.config import SLOWEST_HZ, SUPPLY_MV, Lpm01aConfig
from drivers.lpm01a.stamp_check import TIMESTAMP_LINE, Quantity
from labd.core.errors import (
    DeadlineExceeded,
    InstrumentError,
    JobError,
    LabdBug,
    TransportError,
)
from labd.core.host_clock import CRYSTAL_PPM, MinimumDelayFilter
from labd.core.model import Finding, Identity, StreamFormat, TimeBase
from labd.protocol.lines import Line, format_quote

log = logging.getLogger(__name__)

BAUD = 3_686_400
CALIBRATION_S = 15.0
QUIET_S = 0.25
LOOK_S = 0.1
MARK_S = 0.5  # one time mark per this interval
CLOSE_STEP_S = 4.0  # at most three steps, then 2 s for the port; independent of ``answer_s``


@register_power_monitor(config=Lpm01aConfig)
class Lpm01a:
    """The instrument in host mode.

    Args:
        config: its table in stations.toml.
        stamp_s: longest wait for a time stamp before an acquisition is stopped.
        stop_s: longest wait for the end of an acquisition after the stop.
        close_step_s: longest time of each step of :meth:`close`.
    """

    def __init__(
        self,
        config: Lpm01aConfig,
        stamp_s: float = STAMP_S,
        stop_s: float = STOP_S,
        close_step_s: float = CLOSE_STEP_S,
    ) -> None:
        self.config = config
        self._stamp_s, self._stop_s, self._close_step_s = stamp_s, stop_s, close_step_s
        self._link = Link(config.port, BAUD, "lpm01a")
        self._reader = LineReader(self._link)
        self._findings: list[Finding] = []
        self._voltage_mv: int | None = None
        self._can_switch_off = True
        self._silenced = False  # no predecessor's acquisition streams
        self._obstacle: Finding | None = None  # why this firmware cannot measure as configured
        self._acquisition: Lpm01aAcquisition | None = None

    async def open(self) -> Identity:
        """Take the port, stop what a predecessor left running, set up, switch the DUT off.

        An instrument that gives no or wrong answers is restarted once. When that fails too it is
        closed as after use: a predecessor may have left the DUT powered.
        """
        await self._link.open()
        self._reader = LineReader(self._link)
        self._findings, self._voltage_mv, self._acquisition = [], None, None
        self._can_switch_off, self._silenced, self._obstacle = True, False, None
        async with close_on_failure(self.close):
            serial, firmware = await self._take_control()
            await self._set_up(firmware)
        return make_identity("lpm01a", "X-NUCLEO-LPM01A", serial, firmware, address=self._link.port)

    @property
    def stream_format(self) -> StreamFormat:
        """What the stream's numbers mean."""
        rate_hz = float(self.config.rate_hz)
        return StreamFormat(
            sample_rate_hz=rate_hz,
            edge_uncertainty_s=1.0 / rate_hz,
            clock_tolerance_ppm=CRYSTAL_PPM,
            quantity=self.config.output,
            voltage_v=self._voltage_mv / 1000 if self._voltage_mv else None,
            timestamp_line=TIMESTAMP_LINE if self.config.sees_timestamps else "",
        )

    @property
    def can_supply_dut(self) -> bool:
        """The instrument supplies the DUT."""
        return True

    async def set_dut_supply(self, voltage_mv: int | None) -> None:
        """Power the DUT at this voltage, or switch it off with ``None``.

        Raises:
            JobError: the instrument cannot supply this voltage.
            InstrumentError: it refuses, as firmware before 1.0.6 does to switch off.
        """
        if voltage_mv is None:
            await self._run_command("pwr off")
            return
        if voltage_mv not in SUPPLY_MV:
            what = f"{voltage_mv} mV asked; the LPM01A supplies 1800 to 3300 mV"
            raise JobError("voltage-range", what, "ask for less", self._link.where)
        if voltage_mv != self._voltage_mv:
            await self._run_command(f"volt {voltage_mv}m", CALIBRATION_S)
            self._voltage_mv = voltage_mv
        await self._run_command("pwr on nostatus")

    def acquire(self, time_base: TimeBase = TimeBase.HOST) -> Lpm01aAcquisition:
        """See :class:`drivers.base.interfaces.PowerMonitor`."""
        refuse_while_acquiring(self._acquisition, "acquire", self._link.where)
        if self._obstacle:
            what, remedy = self._obstacle.text, self._obstacle.remedy
            raise InstrumentError("firmware-too-old", what, remedy, self._link.where)
        refuse_left_running(self._acquisition, self._link.where)
        self._collect_findings()
        config, ascii_format = self.config, self.config.format == "ascii"
        framer = (AsciiFramer if ascii_format else BinaryFramer)(
            config.rate_hz, self._sample_quantity(), self._voltage_mv
        )
        host_time = time_base is TimeBase.HOST and not ascii_format
        arrivals = MinimumDelayFilter(config.rate_hz, MARK_S) if host_time else None
        self._acquisition = Lpm01aAcquisition(
            self._link, framer, arrivals, config.answer_s, self._stamp_s, self._stop_s
        )
        return self._acquisition

    async def self_check(self) -> list[Finding]:
        """Return the findings of the setup and the acquisitions, and the instrument's status."""
        status = await self._run_command("status")
        self._collect_findings()
        if not status or status == "ok":
            return list(self._findings)
        return [*self._findings, Finding("lpm01a-status", f"the instrument reports: {status}")]

    async def close(self) -> None:
        """Switch the DUT off, stop, give the instrument back, free the port.

        The DUT's power first: it may be switched while the instrument acquires, and must be
        off even if a caller cuts the rest short. Every step is tried with its own deadline, 14 s
        in all; the first fault is raised at the end.
        """
        if not self._link.is_open:
            return
        async with close_in_steps(self._link.where, self._close_step_s, self._link.close) as step:
            if self._acquisition:
                await self._acquisition.abandon()
            await step("switching the DUT off", self._switch_off())
            await step("stopping the acquisition", self._stop_leftover_acquisition())
            await step("giving the instrument back", self._run_command("hrc"))

    # ---- steps ---------------------------------------------------------------------------

    async def _take_control(self) -> tuple[str, str]:
        """Return serial number and firmware; restart the instrument if it gives none."""
        try:
            return await self._identify()
        except (DeadlineExceeded, InstrumentError) as exc:
            if not self.config.restart_s:
                raise
            await self._restart_instrument()
            found = await self._identify()
            text = f"the instrument had to be restarted: {exc.what}"
            self._findings.append(Finding("restarted", text, serious=False))
            return found

    async def _identify(self) -> tuple[str, str]:
        await self._stop_streaming(self.config.answer_s)
        await self._run_command("htc")
        return await self._run_command("powershield"), await self._run_command("version")

    async def _restart_instrument(self) -> None:
        """Restart it and wait until it is back: its port vanishes for some seconds.

        The port is closed first: held open, it would come back under another name.

        Raises:
            TransportError: it did not come back.
        """
        log.info("%s: restarting", self._link.where.device)
        await self._link.write(b"psrst\r\n")
        await asyncio.sleep(LOOK_S)
        await self._link.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.config.restart_s
        port, vanished = Path(self.config.port), False
        while loop.time() < deadline:
            there = await asyncio.to_thread(port.exists)
            if there and vanished:
                break
            vanished |= not there
            await asyncio.sleep(LOOK_S)
        await self._reopen_port(deadline)
        self._reader = LineReader(self._link)

    async def _reopen_port(self, deadline: float) -> None:
        """Open a port that has just appeared: the system may still be setting it up."""
        while True:
            try:
                await self._link.open()
            except TransportError:
                if asyncio.get_running_loop().time() >= deadline:
                    raise
                await asyncio.sleep(LOOK_S)
            else:
                return

    async def _stop_streaming(self, patience_s: float) -> None:
        """Stop an acquisition; half a command of a predecessor may corrupt the first try.

        The predecessor may have streamed in binary: drained bytes are not interpreted.
        """
        for last_try in (False, True):
            await self._link.write(b"stop\r\n")
            try:
                await self._reader.read_until_quiet(QUIET_S, max(patience_s, 2 * QUIET_S))
            except DeadlineExceeded:
                if last_try:
                    raise
            else:
                self._silenced = True
                return

    async def _set_up(self, firmware: str) -> None:
        for command in self._setup_commands():
            await self._run_command(command)
        update = f"update its firmware from {firmware} to 1.0.6 or later"
        if self.config.output == "energy" and not await self._try_command("output energy"):
            remedy = f'{update}, or set output = "current"'
            self._obstacle = self._add_finding(
                "no-energy-output", f"firmware {firmware} integrates no energy at this rate", remedy
            )
        if self.config.format == "ascii" and not await self._try_command("eventsrc d7 fal"):
            remedy = f'{update}, or set format = "binary" and let the I/O manager time the edges'
            self._obstacle = self._add_finding(
                "no-edge-marks", "the instrument cannot mark edges on D7", remedy
            )
        self._can_switch_off = await self._try_command("pwr off")
        if not self._can_switch_off:
            self._add_finding("no-power-off", "the instrument cannot switch the DUT off", update)

    def _setup_commands(self) -> list[str]:
        """Return the commands up to the output, in an order that works whatever was set before."""
        config = self.config
        return [
            *("funcmode optim", "output current", "freq 1k", "acqtime inf"),
            *("trigsrc sw", "trigdelay 0", "acqmode dyn"),
            f"format {'ascii_dec' if config.format == 'ascii' else 'bin_hexa'}",
            *([f"freq {format_rate(config.rate_hz)}"] if config.rate_hz != SLOWEST_HZ else []),
            *(["funcmode high"] if config.function_mode == "high" else []),
            *([] if config.threshold_a is None else [f"currthres {self._format_threshold()}"]),
        ]

    def _format_threshold(self) -> str:
        return format_number(self.config.threshold_a) if self.config.threshold_a else "0"

    def _add_finding(self, code: str, text: str, remedy: str) -> Finding:
        self._findings.append(Finding(code, text, remedy))
        return self._findings[-1]

    def _collect_findings(self) -> None:
        """Keep the findings of the last acquisition."""
        found = self._acquisition.findings if self._acquisition else []
        self._findings += [finding for finding in found if finding not in self._findings]

    async def _try_command(self, command: str) -> bool:
        try:
            await self._run_command(command)
        except InstrumentError:
            return False
        return True

    async def _stop_leftover_acquisition(self) -> None:
        """Stop an acquisition that may still run, this driver's or a predecessor's."""
        if self._was_left_running or not self._silenced:
            await self._stop_streaming(min(self.config.answer_s, self._close_step_s / 2))

    @property
    def _was_left_running(self) -> bool:
        return self._acquisition is not None and self._acquisition.was_left_running

    async def _switch_off(self) -> None:
        """Switch the DUT off; with old firmware hold it in reset."""
        if self._can_switch_off:
            await self._run_command("pwr off")
        else:
            await self._try_command("targrst 0")

    async def _run_command(self, text: str, deadline_s: float | None = None) -> str:
        """Send a command, wait for its ack and return its data."""
        refuse_while_acquiring(self._acquisition, text, self._link.where)
        self._reader.take_arrived_lines()
        lines: list[Line] = []
        remedy = "check that this port is an LPM01A, and its display"
        limit_s = deadline_s or self.config.answer_s
        async with self._reader.answer_deadline(limit_s, f"'{text}'", lines, remedy):
            await self._link.write(text.encode("ascii") + b"\r\n")
            while not lines or (answer := find_reply(lines[-1].text, text)) is None:
                lines.append(await self._reader.read_line())
        if not answer.accepted:
            lines += await self._reader.read_until_quiet(QUIET_S, self.config.answer_s)
            raise InstrumentError(
                "command-refused",
                f"'{text}' refused: {format_quote(' / '.join(line.text for line in lines))}",
                "check the instrument's firmware version and stations.toml",
                self._link.where,
            )
        return answer.data

    def _sample_quantity(self) -> Quantity:
        if self.config.output == "energy":
            return Quantity(power_factor=float(self.config.rate_hz), is_current=False)
        if self._voltage_mv is None:
            raise LabdBug("no-voltage", "acquire before supply", where=self._link.where)
        return Quantity(power_factor=self._voltage_mv / 1000, is_current=True)
