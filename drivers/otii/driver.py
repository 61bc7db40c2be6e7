"""Qoitech Otii Arc and Ace, by the TCP protocol of an Otii server or the Otii desktop app.

A device of a server is added to the server's project; the recording is the project's, of all
its devices together. So a station needs a server of its own, or shares one only with devices
that are not measured at the same time. While a recording grows it is read channel by channel:
current ``mc``, voltage ``mv`` and the DUT's timestamp line on GPI1 or GPI2.

Sources: Qoitech's TCP help and its own Python client (names and arguments of requests); that
a growing recording can be read is seen in published clients. Not tried on an instrument: how
fine the digital inputs are timed (taken for the 1 kHz of the slow channels, so a pulse must be
longer than that), how late data reach the recording, and the exact texts of errors.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Literal

from pydantic import Field

from drivers.base.acquisition import (
    PumpedAcquisition,
    refuse_left_running,
    refuse_virtual_time,
    refuse_while_acquiring,
)
from drivers.base.closing import closed_on_failure
from drivers.base.interfaces import MonitorConfig
from drivers.base.registry import power_monitor
from drivers.base.serial_link import Link
from drivers.otii.messages import Message, analog_block, digital_changes
from drivers.otii.session import (
    Device,
    OtiiDevice,
    OtiiRefusedError,
    OtiiSession,
    objects_in,
)
from drivers.otii.stream import OtiiStream
from labd.aio.host_time import host_time_ns
from labd.core.errors import ConfigError, InstrumentError, JobError, LabdBug, LabdError
from labd.core.model import Finding, Identity, StreamFormat, StreamItem, TimeBase

# ---- configuration -----------------------------------------------------------------------

ARC_RATE_HZ = 4000
ACE_RATES_HZ = range(1000, 50_001)
SLOW_RATE_HZ = 1000
LEAST_MV = 500
CLOCK_TOLERANCE_PPM = 100.0  # none is stated; as for any other instrument with a crystal
EDGE_UNCERTAINTY_S = 1.0 / SLOW_RATE_HZ
AUTOMATION = {"Automation", "All", "Admin", "Enterprise"}
MODELS = {"Arc", "Ace", "Simulator"}


class OtiiConfig(MonitorConfig):
    """A device of an Otii server."""

    host: str = Field("127.0.0.1", description="where the Otii server runs", min_length=1)
    port: int = Field(1905, description="its TCP port", ge=1, le=65_535)
    device: str = Field("", description="the device's name or id, where the server has several")
    rate_hz: int | None = Field(
        None, description="samples of current a second: an Arc has 4000, an Ace up to 50 000"
    )
    max_current_a: float = Field(0.5, gt=0, le=5, description="the supply cuts off above this")
    max_voltage_mv: int = Field(3600, ge=LEAST_MV, le=25_000, description="no job gets more")
    timestamp_line: Literal["i1", "i2"] = Field(
        "i1", description="input the DUT's timestamp pin is wired to: i1 is GPI1"
    )
    io_voltage_mv: int = Field(
        3300, ge=1200, le=5000, description="level of the digital inputs: the DUT's own"
    )
    user_env: str = Field("OTII_USERNAME", description="environment variable with the account")
    password_env: str = Field("OTII_PASSWORD", description="environment variable with its password")
    answer_s: float = Field(5.0, gt=0, le=60, description="longest wait for an answer, seconds")

    @property
    def supply_range_mv(self) -> tuple[int, int]:
        """What the station allows; the device may have a lower limit of its own."""
        return LEAST_MV, self.max_voltage_mv


# ---- the acquisition ---------------------------------------------------------------------

POLL_S = 0.1
CHUNK = 40_000
STOP_S = 15.0

Clock = Callable[[], int]
"""The host's monotonic time, ns."""


class OtiiAcquisition(PumpedAcquisition):
    """One recording, read while it grows.

    Args:
        otii: the open instrument.
        stream: what becomes of its channels.
    """

    def __init__(self, otii: Otii, stream: OtiiStream) -> None:
        super().__init__(otii.where, otii.config.answer_s, stream)
        self._otii = otii
        self._device = otii.opened
        self._recorded = stream
        self._line = otii.config.timestamp_line
        self._taken = {"mc": 0, "mv": 0, self._line: 0}
        self._recording: object = None
        self._touched = self._halted = self._drained = False
        self._started = asyncio.Event()
        self._stop_asked = asyncio.Event()

    @property
    def _at_rest(self) -> bool:
        return self._halted or not self._touched

    async def _begin(self) -> None:
        level = await self._device.try_ask("arc_get_gpi", pin=int(self._line[1]))
        high = bool(level["value"]) if level and "value" in level else None
        self._touched = True
        before_ns = self._otii.clock()
        await self._device.ask_project("project_start_recording")
        self._take(self._recorded.start(before_ns, self._otii.clock(), high=high))
        last = await self._device.ask_project("project_get_last_recording")
        self._recording = last.get("recording_id", -1)
        self._started.set()

    async def _pump(self) -> None:
        await self._started.wait()
        try:
            while not self._stop_asked.is_set():
                await self._poll()
                await self._pause()
            await self._device.ask_project("project_stop_recording")
            self._halted = True
            while await self._poll():
                pass
            await self._confirm_tail()
        except ValueError as problem:
            raise self._untrusted(problem) from problem
        with suppress(OtiiRefusedError):  # or the server fills up: recordings stay in its memory
            await self._read("recording_delete")
        await self._otii.check_supply()
        self._drained = True

    async def _end(self) -> None:
        self._stop_asked.set()
        await self._until(lambda: self._drained, "end of the recording", STOP_S)

    def _settle(self, reason: str) -> Sequence[StreamItem]:
        return self._recorded.settle(str(self._fault) if self._fault else reason)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._stop_asked.wait()
        except TimeoutError:
            return

    async def _poll(self) -> bool:
        """Take what the channels have gained; whether any had.

        Current first: what the others have by then reaches at least as far.
        """
        before_ns = self._otii.clock()
        gained = [await self._catch_up("mc")]
        if not self._halted:
            self._take(self._recorded.check(before_ns, self._otii.clock()))
        gained += [await self._catch_up("mv"), await self._catch_up(self._line)]
        self._take(self._recorded.release())
        return any(gained)

    async def _catch_up(self, channel: str) -> bool:
        reply = await self._read("recording_get_channel_data_count", channel=channel)
        total, first = reply.get("count"), self._taken[channel]
        if not isinstance(total, int) or total < first:
            raise ValueError(f"{channel} has {total} entries after it had {first}")
        for index in range(first, total, CHUNK):
            count = min(CHUNK, total - index)
            self._add(channel, await self._entries(channel, index, count), count)
            self._taken[channel] = index + count
        return total > first

    def _add(self, channel: str, data: Message, count: int) -> None:
        if channel == "mc":
            self._recorded.add_current(analog_block(data, count))
        elif channel == "mv":
            self._recorded.add_voltage(analog_block(data, count))
        else:
            self._recorded.add_changes(digital_changes(data, count))
        self._take([])  # wake who waits for progress

    async def _confirm_tail(self) -> None:
        """The times of the last samples say whether what came last was whole."""
        lasts = [await self._last_time("mc"), await self._last_time("mv")]
        self._take(self._recorded.finish(lasts[0], lasts[1], self._otii.clock()))

    async def _last_time(self, channel: str) -> float | None:
        total = self._taken[channel]
        if not total:
            return None
        return analog_block(await self._entries(channel, total - 1, 1), 1).t_s

    async def _entries(self, channel: str, index: int, count: int) -> Message:
        read = "recording_get_channel_data"
        return await self._read(read, channel=channel, index=index, count=count)

    async def _read(self, cmd: str, **data: object) -> Message:
        return await self._device.ask(cmd, recording_id=self._recording, **data)

    def _untrusted(self, problem: ValueError) -> InstrumentError:
        return InstrumentError(
            "recording",
            f"the recording cannot be trusted: {problem}",
            "close what else uses the Otii server and its host, and measure again",
            self._where,
        )


# ---- the instrument ----------------------------------------------------------------------

CLOSE_STEP_S = 2.0
FIND_S = 5.0


@power_monitor(config=OtiiConfig)
class Otii:
    """One Arc or Ace.

    Args:
        config: its table in stations.toml.
        clock: the host's monotonic time, ns.
    """

    def __init__(self, config: OtiiConfig, clock: Clock = host_time_ns) -> None:
        self.config = config
        self.clock = clock
        self._link = Link(f"socket://{config.host}:{config.port}", 0, "otii")
        self.where = self._link.where
        self._session = OtiiSession(self._link)
        self._device: OtiiDevice | None = None
        self._rates = (0.0, 0.0)
        self._powered = False
        self._licence: object = None
        self._logged_in = False
        self._acquisition: OtiiAcquisition | None = None

    @property
    def opened(self) -> OtiiDevice:
        """The device, while it is open."""
        if self._device is None:
            raise LabdBug("otii-closed", "the instrument is not open", where=self.where)
        return self._device

    async def open(self) -> Identity:
        """Connect, get a licence, take the device, end what a predecessor left, switch off.

        Raises:
            ConfigError: the server has several devices and the table names none of them, or
                wants a rate the device has not.
            InstrumentError: no licence, no device, or the server refuses something.
        """
        await self._link.open()
        self._session = OtiiSession(self._link)
        self._device = self._licence = self._acquisition = None
        self._powered = self._logged_in = False
        async with closed_on_failure(self.close):
            greeting = await self._session.greeting(self.config.answer_s)
            await self._get_licence()
            device = await self._find_device()
            self._device = OtiiDevice(
                self._session, device, await self._project(), self.config.answer_s
            )
            version = await self._set_up(self._device)
        server = str(greeting.get("otii_version", ""))
        firmware = f"{version} (Otii {server})"
        simulated = device.model == "Simulator" or "simulated" in server
        return Identity("otii", f"Otii {device.model}", device.id, firmware, simulated)

    @property
    def format(self) -> StreamFormat:
        """What the stream's numbers mean; the voltage is measured."""
        return StreamFormat(
            sample_rate_hz=self._rates[0],
            edge_uncertainty_s=EDGE_UNCERTAINTY_S,
            clock_tolerance_ppm=CLOCK_TOLERANCE_PPM,
            quantity="current",
            timestamp_line=self.config.timestamp_line,
        )

    @property
    def supplies(self) -> bool:
        """The instrument feeds the DUT."""
        return True

    async def supply(self, voltage_mv: int | None) -> None:
        """Power the DUT at this voltage, or switch it off with ``None``.

        Raises:
            JobError: this voltage is out of the station's range.
        """
        refuse_while_acquiring(self._acquisition, "supply", self.where)
        device = self.opened
        if voltage_mv is None:
            await device.ask("arc_set_main", enable=False)
            self._powered = False
            return
        if not LEAST_MV <= voltage_mv <= self.config.max_voltage_mv:
            most = self.config.max_voltage_mv
            what = f"{voltage_mv} mV asked; this station gives {LEAST_MV} to {most} mV"
            todo = "ask for another voltage, or raise max_voltage_mv in stations.toml"
            raise JobError("voltage-range", what, todo, self.where)
        await device.ask("arc_set_main_voltage", value=voltage_mv / 1000)
        await device.ask("arc_set_main", enable=True)
        self._powered = True

    def acquire(self, time_base: TimeBase = TimeBase.HOST) -> OtiiAcquisition:
        """See :class:`drivers.base.interfaces.PowerMonitor`."""
        refuse_virtual_time(time_base, self.where)
        refuse_while_acquiring(self._acquisition, "acquire", self.where)
        refuse_left_running(self._acquisition, self.where)
        line = self.config.timestamp_line
        stream = OtiiStream(*self._rates, line, EDGE_UNCERTAINTY_S)
        self._acquisition = OtiiAcquisition(self, stream)
        return self._acquisition

    async def self_check(self) -> list[Finding]:
        """Whether the server still has the device."""
        refuse_while_acquiring(self._acquisition, "self_check", self.where)
        connected = await self.opened.ask("arc_is_connected")
        if connected.get("connected") is False:
            text = "the server does not see the device any more"
            return [Finding("otii-device-gone", text, "check its USB cable and supply")]
        return []

    async def check_supply(self) -> None:
        """Whether the DUT is still powered.

        Raises:
            InstrumentError: the supply has cut off.
        """
        state = await self.opened.ask("arc_get_main")
        if self._powered and state.get("value") is False:
            self._powered = False
            raise InstrumentError(
                "supply-cut-off",
                f"the supply switched itself off: the DUT drew more than "
                f"{self.config.max_current_a:g} A",
                "look for a short circuit, or raise max_current_a in stations.toml",
                self.where,
            )

    async def close(self) -> None:
        """Switch the DUT off, end a recording, give the licence back, hang up.

        Every step is tried with its own deadline; the first fault is raised when all is done.
        """
        if not self._link.is_open:
            return
        problem: LabdError | None = None
        try:
            if self._acquisition:
                await self._acquisition.abandon()
            for step in self._last_steps():
                try:
                    await step()
                except LabdError as fault:
                    problem = problem or fault
        finally:
            self._device = None
            await self._link.close()
        if problem:
            raise problem

    # ---- steps ---------------------------------------------------------------------------

    def _last_steps(self) -> list[Callable[[], Awaitable[object]]]:
        last_s = min(CLOSE_STEP_S, self.config.answer_s)
        request, device, licence = self._session.request, self._device, self._licence
        steps: list[Callable[[], Awaitable[object]]] = []
        if device is not None:
            off = {"device_id": device.device.id, "enable": False}
            steps.append(lambda: request("arc_set_main", last_s, off))
        if device is not None and self._acquisition and self._acquisition.left_running:
            steps.append(self._stop_recording)
        if licence is not None:
            back = {"license_id": licence}
            steps.append(lambda: request("otii_return_license", last_s, back))
        if self._logged_in:
            steps.append(lambda: request("otii_logout", last_s))
        return steps

    async def _request(self, cmd: str, data: Mapping[str, object] | None = None) -> Message:
        return await self._session.request(cmd, self.config.answer_s, data)

    async def _get_licence(self) -> None:
        """Log in and reserve a licence where that has not been done by hand.

        A server before version 3 knows no licences.
        """
        try:
            logged_in = await self._request("otii_is_logged_in")
        except OtiiRefusedError as refusal:
            if refusal.unknown_command:
                return
            raise
        user, password = (
            os.environ.get(name) for name in (self.config.user_env, self.config.password_env)
        )
        if not logged_in.get("logged_in") and user and password:
            await self._request("otii_login", {"username": user, "password": password})
            self._logged_in = True
        has = await self._request("otii_has_license", {"license_type": "Automation"})
        if has.get("has_license"):
            return
        licences = objects_in((await self._request("otii_get_licenses")).get("licenses"))
        free = [licence for licence in licences if _is_free(licence)]
        if not free:
            raise self._no_licence(licences)
        await self._request("otii_reserve_license", {"license_id": free[0].get("id")})
        self._licence = free[0].get("id")

    def _no_licence(self, licences: Sequence[Message]) -> InstrumentError:
        listed = ", ".join(
            f"{licence.get('type')} ({licence.get('reserved_to') or 'not usable here'})"
            for licence in licences
        )
        return InstrumentError(
            "no-licence",
            f"no licence for the Automation Toolbox is free; the account has {listed or 'none'}",
            f"release one, or set {self.config.user_env} and {self.config.password_env} to an "
            "account that has one",
            self.where,
        )

    async def _find_device(self) -> Device:
        reply = await self._session.request(
            "otii_get_devices", FIND_S + self.config.answer_s, {"timeout": FIND_S}
        )
        devices = [
            Device(str(item.get("device_id")), str(item.get("name")), str(item.get("type")))
            for item in objects_in(reply.get("devices"))
            if item.get("type") in MODELS
        ]
        wanted = self.config.device
        fitting = [item for item in devices if not wanted or wanted in {item.id, item.name}]
        if len(fitting) == 1:
            return fitting[0]
        have = ", ".join(f"{item.name} ({item.id})" for item in devices) or "none"
        if fitting:
            what = f"the server has {len(devices)} devices: {have}"
            raise ConfigError("otii-device", what, "name one by its id as `device`", self.where)
        raise InstrumentError(
            "otii-device",
            f"the server has no device {wanted!r}; it has {have}".replace(" ''", ""),
            "check its USB cable and supply, and `device` in stations.toml",
            self.where,
        )

    async def _project(self) -> int:
        active = (await self._request("otii_get_active_project")).get("project_id", -1)
        if not isinstance(active, int) or active < 0:
            active = (await self._request("otii_create_project")).get("project_id")
        if not isinstance(active, int):
            what = f"the server opened no project: {active!r}"
            raise InstrumentError("otii-project", what, "restart the Otii server", self.where)
        return active

    async def _set_up(self, device: OtiiDevice) -> str:
        """Everything but the voltage; the firmware's version."""
        await device.try_ask("arc_add_to_project")
        await device.ask("arc_set_main", enable=False)
        await self._stop_recording()
        await device.try_ask("arc_set_supply_power_box")
        await device.try_ask("arc_set_range", range="low")  # means automatic
        await device.ask("arc_set_max_current", value=self.config.max_current_a)
        await device.ask("arc_set_exp_voltage", value=self.config.io_voltage_mv / 1000)
        await device.ask("arc_enable_exp_port", enable=True)
        for channel in ("mc", "mv", self.config.timestamp_line):
            await device.ask("arc_enable_channel", channel=channel, enable=True)
        await self._set_rates(device)
        version = await device.ask("arc_get_version")
        return f"{version.get('hw_version', '')}/{version.get('fw_version', '')}"

    async def _stop_recording(self) -> None:
        """End a recording that a predecessor left; that there is none is no fault."""
        with suppress(OtiiRefusedError):
            await self.opened.ask_project("project_stop_recording")

    async def _set_rates(self, device: OtiiDevice) -> None:
        """Let an Ace sample as wanted; ask every device how it does."""
        wanted, model = self.config.rate_hz, device.device.model
        if wanted is not None and model == "Ace" and wanted in ACE_RATES_HZ:
            for channel in ("mc", "mv"):
                await device.ask("arc_set_channel_samplerate", channel=channel, value=wanted)
        defaults = {"mc": ARC_RATE_HZ, "mv": SLOW_RATE_HZ}
        rates = [await self._rate(device, channel, rate) for channel, rate in defaults.items()]
        if wanted is not None and rates[0] != wanted:
            raise ConfigError(
                "otii-rate",
                f"{wanted} Hz wanted, the {model} samples at {rates[0]:g} Hz",
                f"leave rate_hz out; an Arc has {ARC_RATE_HZ} Hz, an Ace "
                f"{ACE_RATES_HZ[0]} to {ACE_RATES_HZ[-1]} Hz",
                self.where,
            )
        self._rates = (rates[0], rates[1])

    async def _rate(self, device: OtiiDevice, channel: str, default: int) -> float:
        reply = await device.try_ask("arc_get_channel_samplerate", channel=channel)
        value = reply.get("value") if reply else default
        if not isinstance(value, (int, float)) or value <= 0:
            what = f"the server tells a sample rate of {value!r} for {channel}"
            raise InstrumentError("otii-rate", what, "update the Otii software", self.where)
        return float(value)


def _is_free(licence: Message) -> bool:
    automates = licence.get("type") in AUTOMATION or any(
        addon.get("id") == "Automation" for addon in objects_in(licence.get("addons"))
    )
    return automates and bool(licence.get("available")) and not licence.get("reserved_to")
