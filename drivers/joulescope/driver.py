"""Joulescope JS220 and JS110: measure the DUT's current and voltage, and time its pins.

The instrument is wired into the DUT's supply and supplies nothing. Opening it interrupts that
supply, so it is opened before the board boots and stays open; an acquisition only switches its
streams on and off. It always streams at its full rate, and the products of current and voltage
are averaged here to ``rate_hz``: the library's own decimation filters current and voltage
separately, delays them against the inputs, and would give the product of means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from drivers.base.acquisition import BackgroundAcquisition, refuse_while_acquiring
from drivers.base.closing import close_on_failure
from drivers.base.identity import make_identity
from drivers.base.registry import register_power_monitor
from drivers.joulescope.aligner import TICK_HZ, MessageAligner
from drivers.joulescope.config import (
    ANALOG,
    LINES,
    MODELS,
    JoulescopeConfig,
    JoulescopeModel,
    Settings,
    choose_path,
    settings_for,
)
from drivers.joulescope.usb import (
    GRACE_S,
    INBOX_MESSAGES,
    REMOVAL_NOTICE_S,
    MessageInbox,
    UsbInstrument,
)
from labd.core.errors import LabdBug, TransportError, Where
from labd.core.host_clock import CRYSTAL_PPM
from labd.core.model import Finding, Identity, StreamFormat, StreamItem, TimeBase

SILENCE_S = 0.8
"""A streaming instrument sends every 50 ms; without a message for this long it is lost."""

LOST_SHARE_LIMIT = 0.001
"""The EEMBC runner fails a run above 0.1 % (``e-[Dropped more than 0.1% of packets]``)."""


# ---- the acquisition -----------------------------------------------------------------------


class JoulescopeAcquisition(BackgroundAcquisition):
    """One acquisition: streams on, messages aligned, streams off."""

    def __init__(
        self,
        usb: UsbInstrument,
        config: JoulescopeConfig,
        model: JoulescopeModel,
        inbox: MessageInbox,
        silence_s: float,
    ) -> None:
        self.aligner = MessageAligner(
            config.rate_hz,
            config.all_lines,
            config.timestamp_line,
            model.time_uncertainty_ns,
            usb.where,
        )
        super().__init__(usb.where, config.answer_s, self.aligner)
        self.inbox = inbox
        self._usb = usb
        self._silence_s = silence_s
        self._config = config
        self._begun = False
        self._streaming = False
        self._all_off = False

    @property
    def event_counts(self) -> dict[str, int]:
        """The instrument's own samples, those lost, and messages this host was too slow for."""
        return {
            "instrument_samples": self.aligner.total_samples,
            "lost_instrument_samples": self.aligner.lost_samples,
            "dropped_messages": self.inbox.dropped,
        }

    @property
    def _is_idle(self) -> bool:
        return self._all_off or not self._begun

    async def _start_instrument(self) -> None:
        """Stop a predecessor's streams, then start: no message is older than this."""
        await self._usb.publish_values(
            "stopping the streams", self._config.stream_settings(on=False)
        )
        self._usb.inbox = self.inbox
        self._begun = True
        await self._usb.publish_values(
            "starting the streams", self._config.stream_settings(on=True)
        )
        self._streaming = True
        self.inbox.wake_reader()

    async def _read_stream(self) -> None:
        while not self.inbox.is_exhausted:
            try:
                messages = await self.inbox.take_messages(
                    self._silence_s if self._streaming else None
                )
            except TimeoutError:
                raise TransportError(
                    "stream-silent",
                    f"its streams sent nothing for {self._silence_s:g} s",
                    "check its cable and the load of this host",
                    self._where,
                ) from None
            for signal, message in messages:
                self._queue_items(self.aligner.feed(signal, message))
            if self._usb.is_removed:
                raise self._usb.removed_error()
            await asyncio.sleep(0)  # sixteen instruments share the loop

    async def _stop_instrument(self) -> None:
        self._streaming = False
        self.inbox.wake_reader()  # no message is expected from now on
        await self._usb.publish_values(
            "stopping the streams", self._config.stream_settings(on=False)
        )
        self._all_off = True
        self._usb.inbox = None
        self.inbox.close()
        pumping = self._reader_task
        await self._wait_until(lambda: pumping is None or pumping.done(), "last message")

    def _settle_unconfirmed_tail(self, reason: str) -> list[StreamItem]:  # noqa: ARG002 - its gaps have reasons
        self._usb.inbox = None
        return self.aligner.finish()


# ---- the instrument ------------------------------------------------------------------------


@register_power_monitor(config=JoulescopeConfig)
class Joulescope:
    """The instrument, through ``pyjoulescope_driver``."""

    def __init__(
        self,
        config: JoulescopeConfig,
        silence_s: float = SILENCE_S,
        inbox_messages: int = INBOX_MESSAGES,
        grace_s: float = GRACE_S,
        removal_s: float = REMOVAL_NOTICE_S,
    ) -> None:
        self.config = config
        self._silence_s = silence_s
        self._inbox_messages = inbox_messages
        self._grace_s = grace_s
        self._removal_s = removal_s
        self._where = Where(device=f"joulescope {config.serial}".strip())
        self._usb: UsbInstrument | None = None
        self._model = MODELS["js220"]
        self._settings: Settings = ()
        self._acquisition: JoulescopeAcquisition | None = None

    async def open(self) -> Identity:
        """Find and set up the instrument; interrupts the supply through it for a moment."""
        if self._usb is not None:
            raise LabdBug("already-open", "open twice", where=self._where)
        self._acquisition = None
        self._usb = usb = UsbInstrument(
            self.config.library, self.config.answer_s, self._where, self._grace_s, self._removal_s
        )
        signals = {
            **{LINES[line]: line for line in self.config.all_lines},
            **{topic: name for name, topic in ANALOG.items()},
        }
        topics = {f"{topic}/!data": name for topic, name in signals.items()}
        async with close_on_failure(self.close):
            await usb.open(self._choose_instrument, topics)
            await usb.publish_values("setting it up", self._settings)
            firmware = await self._read_firmware(usb)
        serial, library = usb.path.rpartition("/")[2], self.config.library
        name = f"Joulescope {self._model.name}"
        return make_identity("joulescope", name, serial, firmware, address=library)

    @property
    def stream_format(self) -> StreamFormat:
        """What the stream's numbers mean."""
        return StreamFormat(
            sample_rate_hz=float(self.config.rate_hz),
            edge_uncertainty_s=1.0 / TICK_HZ,
            clock_tolerance_ppm=CRYSTAL_PPM,  # unpublished
            quantity="power",
            timestamp_line=self.config.timestamp_line,
        )

    @property
    def can_supply_dut(self) -> bool:
        """False: another instrument supplies the DUT."""
        return False

    async def set_dut_supply(self, voltage_mv: int | None) -> None:
        """Refuse: see :attr:`can_supply_dut`."""
        raise LabdBug("no-supply", f"asked to supply {voltage_mv} mV", where=self._where)

    def acquire(self, time_base: TimeBase = TimeBase.HOST) -> JoulescopeAcquisition:  # noqa: ARG002
        """See :class:`drivers.base.interfaces.PowerMonitor`; ``sample_id`` checks the count."""
        usb = self._require_open("acquire")
        refuse_while_acquiring(self._acquisition, "acquire", self._where)
        inbox = MessageInbox(self._inbox_messages)
        self._acquisition = JoulescopeAcquisition(
            usb, self.config, self._model, inbox, self._silence_s
        )
        return self._acquisition

    async def self_check(self) -> list[Finding]:
        """Read the inputs; report the share of samples that the last acquisition lost."""
        usb = self._require_open("self_check")
        await usb.call_library(
            "reading its inputs",
            lambda library: library.publish_and_wait(
                f"{usb.path}/s/gpi/+/!req", 0, f"{usb.path}/s/gpi/+/!value", usb.call_s
            ),
        )
        last = self._acquisition
        if last is None or last.aligner.lost_share <= LOST_SHARE_LIMIT:
            return []
        text = (
            f"{last.aligner.lost_share:.2%} of the last acquisition's samples were lost "
            f"(limit {LOST_SHARE_LIMIT:.1%})"
        )
        if last.inbox.dropped:
            text += f"; this host was too slow for {last.inbox.dropped} messages"
        remedy = "check the cable; spread the JS220s: one USB root hub carries three (Jetperch)"
        return [Finding("samples-lost", text, remedy)]

    async def close(self) -> None:
        """Stop its streams and close it; the supply through it may be cut."""
        usb, self._usb = self._usb, None
        if usb is None:
            return
        streams_off: Settings = ()
        try:
            if self._acquisition is not None:
                await self._acquisition.abandon()
                if self._acquisition.was_left_running:
                    streams_off = self.config.stream_settings(on=False)
        finally:
            await usb.close(streams_off)

    def _choose_instrument(self, paths: Sequence[str]) -> str:
        """Choose the instrument, and check the settings before its supply is interrupted."""
        path = choose_path(paths, self.config.serial, self._where)
        self._model = MODELS[path.split("/")[1]]
        self._settings = settings_for(self.config, self._model, self._where)
        return path

    async def _read_firmware(self, usb: UsbInstrument) -> str:
        if self._model.name == "JS110":
            return ""  # the library does not ask a JS110
        topic = f"{usb.path}/c/fw/version"
        number = int(await usb.call_library("reading its version", lambda lib: lib.query(topic)))
        return f"{number >> 24 & 0xFF}.{number >> 16 & 0xFF}.{number & 0xFFFF}"

    def _require_open(self, what: str) -> UsbInstrument:
        if self._usb is None:
            raise LabdBug("not-open", f"'{what}' while it is closed", where=self._where)
        return self._usb
