"""Joulescope JS220 and JS110: measure the DUT's current and voltage, and time its pins.

The instrument stands in the DUT's supply and does not supply it. Opening it interrupts that
supply, so it is opened before the board boots and stays open: an acquisition only switches its
streams on and off. It always streams at its full rate; the merger averages the products of
current and voltage down to ``rate_hz``. The library's own decimation would filter current and
voltage apart, delay them against the inputs, and multiply means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator, model_validator

from drivers.base.acquisition import PumpedAcquisition, refuse_while_acquiring
from drivers.base.closing import closed_on_failure
from drivers.base.interfaces import MonitorConfig
from drivers.base.registry import power_monitor
from drivers.joulescope.aligner import TICK_HZ, Merger
from drivers.joulescope.usb import LIBRARY, Inbox, UsbInstrument
from labd.core.errors import (
    ConfigError,
    LabdBug,
    TransportError,
    Where,
)
from labd.core.model import Finding, Identity, StreamFormat, StreamItem, TimeBase

SILENCE_S = 0.8
"""An instrument that streams sends every 50 ms; so long without a word it is gone."""

LOST_SHARE_LIMIT = 0.001
"""The EEMBC runner fails a run above 0.1 % (``e-[Dropped more than 0.1% of packets]``)."""

# Jetperch states no tolerance of the sample clock; twice the ±50 ppm of an ordinary crystal.
CLOCK_TOLERANCE_PPM = 100.0
RATES_HZ = (1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
_LINES = {"gpi0": "s/gpi/0", "gpi1": "s/gpi/1", "gpi2": "s/gpi/2", "gpi3": "s/gpi/3"}
_ANALOG = {"i": "s/i", "v": "s/v"}
_SMALL_RANGES = ("180 mA", "18 mA", "1.8 mA", "180 µA", "18 µA")

Settings = tuple[tuple[str, str | int], ...]


@dataclass(frozen=True, slots=True)
class Model:
    """What differs between the models.

    Args:
        name: as printed on it.
        lines: its inputs.
        voltage_ranges: its ranges.
        current_ranges: its ranges, besides ``auto``.
        gpio_voltages: what its inputs can be compared with, and how it is told.
        full_rate_hz: what ``h/fs`` is set to.
        time_uncertainty_ns: of its time map, generously. A JS220 exchanges time stamps with
            the host (Jetperch, forum thread 844: ±100 µs typically), but its first map, and a
            JS110's always, is made of the arrival of data.
    """

    name: str
    lines: tuple[str, ...]
    voltage_ranges: tuple[str, ...]
    current_ranges: tuple[str, ...]
    gpio_voltages: dict[str, str | int]
    full_rate_hz: int
    time_uncertainty_ns: int


MODELS = {
    "js220": Model(
        name="JS220",
        lines=tuple(_LINES),
        voltage_ranges=("15 V", "2 V"),
        current_ranges=("10 A", *_SMALL_RANGES),
        gpio_voltages={"3.3 V": "3v3", "external": "external"},
        full_rate_hz=1_000_000,
        time_uncertainty_ns=5_000_000,
    ),
    "js110": Model(
        name="JS110",
        lines=("gpi0", "gpi1"),
        voltage_ranges=("15 V", "5 V"),
        current_ranges=("10 A", "2 A", *_SMALL_RANGES),
        gpio_voltages={
            f"{mv / 1000:.1f} V": mv for mv in (1800, 2100, 2500, 2700, 3000, 3300, 3600, 5000)
        },
        full_rate_hz=2_000_000,
        time_uncertainty_ns=20_000_000,
    ),
}


class JoulescopeConfig(MonitorConfig):
    """A Joulescope on USB, in the DUT's supply."""

    serial: str = Field("", description="its serial number; empty for the only one there is")
    rate_hz: int = Field(
        10_000,
        description="samples a second to record; every one is the mean of all the instrument "
        "took, and edges are timed to 0.5 µs at any rate",
    )
    voltage_range: Literal["15 V", "5 V", "2 V"] = Field("15 V", description="of the DUT's supply")
    current_range: str = Field("auto", description='"auto", or one that is never left: "18 mA"')
    timestamp_line: str = Field("gpi0", description="input the DUT's timestamp pin is wired to")
    lines: tuple[str, ...] = Field((), description="further inputs to record")
    gpio_voltage: str = Field("3.3 V", description='level of the inputs; "external" from Vref')
    answer_s: float = Field(3.0, gt=0, le=60, description="longest wait for an answer, seconds")
    library: str = Field(
        LIBRARY, description="module:class that speaks to it; another one makes it simulated"
    )

    @property
    def supply_range_mv(self) -> tuple[int, int]:
        """It supplies nothing; above its voltage range it measures nothing true."""
        return 1, 1000 * int(self.voltage_range.split()[0])

    @field_validator("rate_hz")
    @classmethod
    def _possible_rate(cls, rate_hz: int) -> int:
        if rate_hz not in RATES_HZ:
            raise ValueError(f"{rate_hz} Hz is none of {', '.join(map(str, RATES_HZ))} Hz")
        return rate_hz

    @field_validator("current_range")
    @classmethod
    def _possible_range(cls, text: str) -> str:
        text = text.replace("uA", "µA").replace("\N{GREEK SMALL LETTER MU}A", "µA")
        known = {"auto", *(one for model in MODELS.values() for one in model.current_ranges)}
        if text not in known:
            raise ValueError(f"'{text}' is none of {', '.join(sorted(known))}")
        return text

    @model_validator(mode="after")
    def _possible_lines(self) -> JoulescopeConfig:
        for line in self.all_lines:
            if line not in _LINES:
                raise ValueError(f"'{line}' is none of {', '.join(_LINES)}")
        return self

    @property
    def all_lines(self) -> tuple[str, ...]:
        """The inputs recorded, the timestamp's first, each once."""
        return tuple(dict.fromkeys((self.timestamp_line, *self.lines)))


# ---- pure: which instrument, and how it is set -----------------------------------------------


def choose(paths: Sequence[str], serial: str, where: Where) -> str:
    """The path of the instrument meant, ``u/js220/000123``.

    Raises:
        TransportError: it is not there.
        ConfigError: it is in its bootloader, of an unknown model, or one of several.
    """
    found = [path for path in paths if not serial or path.rpartition("/")[2] == serial]
    there = ", ".join(paths) or "none"
    if not found:
        what = f"no Joulescope {serial or 'is'} on USB; there: {there}"
        raise TransportError("port-missing", what, "check the cable and stations.toml", where)
    if len(found) > 1:
        what = f"several Joulescopes on USB: {there}"
        raise ConfigError("serial-needed", what, "name the serial in stations.toml", where)
    name = found[0].split("/")[1]
    if name.startswith("&"):
        todo = "python -m pyjoulescope_driver program, or the Joulescope UI, finishes its update"
        raise ConfigError("bootloader", f"{found[0]} is in bootloader mode", todo, where)
    if name not in MODELS:
        todo = f"this driver knows {', '.join(MODELS)}"
        raise ConfigError("unknown-model", f"{found[0]} is of an unknown model", todo, where)
    return found[0]


def settings_for(config: JoulescopeConfig, model: Model, where: Where) -> Settings:
    """What to publish after opening, in this order.

    Raises:
        ConfigError: this model does not have what is asked for.
    """
    _insist("gpio_voltage", config.gpio_voltage, model, tuple(model.gpio_voltages), where)
    _insist("voltage_range", config.voltage_range, model, model.voltage_ranges, where)
    _insist("current_range", config.current_range, model, ("auto", *model.current_ranges), where)
    for line in config.all_lines:
        _insist("line", line, model, model.lines, where)
    reference = model.gpio_voltages[config.gpio_voltage]
    common: Settings = (
        ("s/v/range/select", config.voltage_range),
        ("h/fs", model.full_rate_hz),
    )
    if model.name == "JS110":
        # Its inputs come in the lowest bits of current and voltage, if it is told so; else
        # those bits are noise, and the library makes edges of it (js110_sample_processor.c).
        return (
            *common,
            ("s/extio/voltage", reference),
            ("s/i/lsb_src", "gpi0" if "gpi0" in config.all_lines else "normal"),
            ("s/v/lsb_src", "gpi1" if "gpi1" in config.all_lines else "normal"),
            ("s/i/range/select", config.current_range),
        )
    current: Settings = (("s/i/range/mode", "auto"),)
    if config.current_range != "auto":
        current = (("s/i/range/select", config.current_range), ("s/i/range/mode", "manual"))
    return (*common, ("s/v/range/mode", "manual"), ("c/gpio/vref", reference), *current)


def _insist(key: str, value: str, model: Model, allowed: Sequence[str], where: Where) -> None:
    if value not in allowed:
        what = f"{key} = '{value}', but a {model.name} has {', '.join(allowed)}"
        raise ConfigError("model-lacks", what, "change stations.toml", where)


# ---- the instrument ----------------------------------------------------------------------


class JoulescopeAcquisition(PumpedAcquisition):
    """One acquisition: streams on, messages merged, streams off."""

    def __init__(self, usb: UsbInstrument, config: JoulescopeConfig, model: Model) -> None:
        self.merger = Merger(
            config.rate_hz,
            config.all_lines,
            config.timestamp_line,
            model.time_uncertainty_ns,
            usb.where,
        )
        super().__init__(usb.where, config.answer_s, self.merger)
        self.inbox = Inbox()
        self._usb = usb
        self._streams = streams_of(config)
        self._begun = False
        self._streaming = False
        self._all_off = False

    @property
    def _at_rest(self) -> bool:
        return self._all_off or not self._begun

    async def _begin(self) -> None:
        """A predecessor's streams off, then ours on: then no message is older than this."""
        await self._usb.publish("stopping the streams", self._switched(on=False))
        self._usb.inbox = self.inbox
        self._begun = True
        await self._usb.publish("starting the streams", self._switched(on=True))
        self._streaming = True
        self.inbox.wake()

    async def _pump(self) -> None:
        while not self.inbox.exhausted:
            try:
                messages = await self.inbox.take(SILENCE_S if self._streaming else None)
            except TimeoutError:
                raise self._silent() from None
            for signal, message in messages:
                self._take(self.merger.feed(signal, message))
            if self._usb.removed:
                raise self._usb.lost()
            await asyncio.sleep(0)  # sixteen of these share the loop

    def _silent(self) -> TransportError:
        return TransportError(
            "stream-silent",
            f"its streams have said nothing for {SILENCE_S:g} s",
            "check its cable and the load of this host",
            self._where,
        )

    async def _end(self) -> None:
        self._streaming = False
        self.inbox.wake()  # from here on silence is what we asked for
        await self._usb.publish("stopping the streams", self._switched(on=False))
        self._all_off = True
        self._usb.inbox = None
        self.inbox.close()
        await self._until(lambda: self._drained, "last message")

    @property
    def _drained(self) -> bool:
        return self._pumping is not None and self._pumping.done()

    def _settle(self, reason: str) -> list[StreamItem]:  # noqa: ARG002 - what came stands as it is
        self._usb.inbox = None
        return self.merger.finish()

    def _switched(self, *, on: bool) -> Settings:
        return tuple((f"{stream}/ctrl", int(on)) for stream in self._streams)


def streams_of(config: JoulescopeConfig) -> tuple[str, ...]:
    """The topics that stream: lines first, so that no sample waits long for its line."""
    return (*(_LINES[line] for line in config.all_lines), *_ANALOG.values())


@power_monitor(config=JoulescopeConfig)
class Joulescope:
    """The instrument, through ``pyjoulescope_driver``."""

    def __init__(self, config: JoulescopeConfig) -> None:
        self.config = config
        self._where = Where(device=f"joulescope {config.serial}".strip())
        self._usb: UsbInstrument | None = None
        self._model = MODELS["js220"]
        self._settings: Settings = ()
        self._acquisition: JoulescopeAcquisition | None = None

    async def open(self) -> Identity:
        """Find the instrument and set it; interrupts the supply through it for a moment."""
        if self._usb is not None:
            raise LabdBug("already-open", "open twice", where=self._where)
        self._acquisition = None
        self._usb = usb = UsbInstrument(self.config.library, self.config.answer_s, self._where)
        names = {**{_LINES[line]: line for line in self.config.all_lines}, "s/i": "i", "s/v": "v"}
        topics = {f"{topic}/!data": name for topic, name in names.items()}
        async with closed_on_failure(self.close):
            await usb.open(self._pick, topics)
            await usb.publish("setting it up", self._settings)
            firmware = await self._firmware(usb)
        serial, simulated = usb.path.rpartition("/")[2], self.config.library != LIBRARY
        return Identity("joulescope", f"Joulescope {self._model.name}", serial, firmware, simulated)

    @property
    def format(self) -> StreamFormat:
        """What the stream's numbers mean."""
        return StreamFormat(
            sample_rate_hz=float(self.config.rate_hz),
            edge_uncertainty_s=1.0 / TICK_HZ,
            clock_tolerance_ppm=CLOCK_TOLERANCE_PPM,
            quantity="power",
            timestamp_line=self.config.timestamp_line,
        )

    @property
    def supplies(self) -> bool:
        """It stands in the supply of somebody else."""
        return False

    async def supply(self, voltage_mv: int | None) -> None:
        """Not this instrument's business: see :attr:`supplies`."""
        raise LabdBug("no-supply", f"asked to supply {voltage_mv} mV", where=self._where)

    def acquire(self, time_base: TimeBase = TimeBase.HOST) -> JoulescopeAcquisition:  # noqa: ARG002
        """See :class:`drivers.base.interfaces.PowerMonitor`; its own counter checks the count."""
        usb = self._opened("acquire")
        refuse_while_acquiring(self._acquisition, "acquire", self._where)
        self._acquisition = JoulescopeAcquisition(usb, self.config, self._model)
        return self._acquisition

    async def self_check(self) -> list[Finding]:
        """Have it answer, and say what the last acquisition lost."""
        usb = self._opened("self_check")
        await usb.call(
            "reading its inputs",
            lambda library: library.publish_and_wait(
                f"{usb.path}/s/gpi/+/!req", 0, f"{usb.path}/s/gpi/+/!value", usb.call_s
            ),
        )
        last = self._acquisition
        if last is None or last.merger.lost_share <= LOST_SHARE_LIMIT:
            return []
        text = (
            f"{last.merger.lost_share:.2%} of the last acquisition's samples were lost "
            f"(limit {LOST_SHARE_LIMIT:.1%})"
        )
        if last.inbox.dropped:
            text += f"; this host was too slow for {last.inbox.dropped} messages"
        todo = "one USB root hub carries three JS220 (Jetperch): spread them; check the cable"
        return [Finding("samples-lost", text, todo)]

    async def close(self) -> None:
        """Stop its streams and let go of it; the supply through it may be cut."""
        usb, self._usb = self._usb, None
        if usb is None:
            return
        farewell: Settings = ()
        try:
            if self._acquisition is not None:
                await self._acquisition.abandon()
                if self._acquisition.left_running:
                    farewell = tuple((f"{stream}/ctrl", 0) for stream in streams_of(self.config))
        finally:
            await usb.close(farewell)

    def _pick(self, paths: Sequence[str]) -> str:
        """Choose the instrument, and see that it can be set as asked before it is touched."""
        path = choose(paths, self.config.serial, self._where)
        self._model = MODELS[path.split("/")[1]]
        self._settings = settings_for(self.config, self._model, self._where)
        return path

    async def _firmware(self, usb: UsbInstrument) -> str:
        if self._model.name == "JS110":
            return ""  # the library does not ask a JS110
        topic = f"{usb.path}/c/fw/version"
        number = int(await usb.call("reading its version", lambda lib: lib.query(topic)))
        return f"{number >> 24 & 0xFF}.{number >> 16 & 0xFF}.{number & 0xFFFF}"

    def _opened(self, what: str) -> UsbInstrument:
        if self._usb is None:
            raise LabdBug("not-open", f"'{what}' while it is closed", where=self._where)
        return self._usb
