"""Qoitech Otii Arc and Ace: supply the DUT, measure its current and voltage, time its pins.

The device is added to the server's project. A recording is the project's, of all its devices, so
a station needs its own server, or shares one only with devices that do not measure at the same
time. A growing recording is read channel by channel: current ``mc``, voltage ``mv`` and the DUT's
timestamp line on GPI1 or GPI2.
"""

from __future__ import annotations

from contextlib import suppress

from drivers.base.acquisition import (
    refuse_left_running,
    refuse_virtual_time,
    refuse_while_acquiring,
)
from drivers.base.closing import close_in_steps, close_on_failure
from drivers.base.identity import make_identity
from drivers.base.registry import register_power_monitor
from drivers.base.serial_link import Link
from drivers.otii.acquisition import POLL_S, Clock, OtiiAcquisition
from drivers.otii.config import LEAST_MV, OtiiConfig
from drivers.otii.session import (
    DeviceInfo,
    OtiiDevice,
    OtiiLicence,
    OtiiRefusedError,
    OtiiSession,
    as_objects,
)
from drivers.otii.stream import OtiiStream
from labd.aio.host_time import host_time_ns
from labd.core.errors import ConfigError, InstrumentError, JobError, LabdBug
from labd.core.host_clock import CRYSTAL_PPM
from labd.core.model import Finding, Identity, StreamFormat, TimeBase

ARC_RATE_HZ = 4000
ACE_RATES_HZ = range(1000, 50_001)
SLOW_RATE_HZ = 1000
EDGE_UNCERTAINTY_S = 1.0 / SLOW_RATE_HZ
MODELS = {"Arc", "Ace", "Simulator"}
CLOSE_STEP_S = 2.0
FIND_S = 5.0


@register_power_monitor(config=OtiiConfig)
class Otii:
    """One Arc or Ace."""

    def __init__(
        self, config: OtiiConfig, clock: Clock = host_time_ns, poll_s: float = POLL_S
    ) -> None:
        self.config = config
        self.clock = clock
        self._poll_s = poll_s
        self._link = Link(f"socket://{config.host}:{config.port}", 0, "otii")
        self._where = self._link.where
        self._session = OtiiSession(self._link, config.answer_s)
        self._licence: OtiiLicence | None = None
        self._device: OtiiDevice | None = None
        self._rates = (0.0, 0.0)
        self._powered = False
        self._acquisition: OtiiAcquisition | None = None

    async def open(self) -> Identity:
        """Connect, get a licence, find the device, stop a predecessor's recording, switch off.

        Raises:
            ConfigError: the server has several devices and the table names none of them, or the
                device does not have the rate in the table.
            InstrumentError: no licence, no device, or the server refused a request.
        """
        await self._link.open()
        self._session = OtiiSession(self._link, self.config.answer_s)
        self._licence = OtiiLicence(self._session, self.config)
        self._device = self._acquisition = None
        self._powered = False
        async with close_on_failure(self.close):
            greeting = await self._session.read_greeting()
            await self._licence.acquire()
            device = await self._find_device()
            self._device = OtiiDevice(self._session, device, await self._open_project())
            version = await self._set_up(self._device)
        server = str(greeting.get("otii_version", ""))
        firmware = f"{version} (Otii {server})"
        return make_identity("otii", f"Otii {device.model}", device.id, firmware)

    @property
    def stream_format(self) -> StreamFormat:
        """What the stream's numbers mean; the voltage is measured."""
        return StreamFormat(
            sample_rate_hz=self._rates[0],
            edge_uncertainty_s=EDGE_UNCERTAINTY_S,
            clock_tolerance_ppm=CRYSTAL_PPM,  # unpublished
            quantity="current",
            timestamp_line=self.config.timestamp_line,
            delivery_interval_s=self._poll_s,
        )

    @property
    def can_supply_dut(self) -> bool:
        """The instrument supplies the DUT."""
        return True

    async def set_dut_supply(self, voltage_mv: int | None) -> None:
        """Power the DUT at this voltage, or switch it off with ``None``.

        Raises:
            JobError: this voltage is out of the station's range.
        """
        refuse_while_acquiring(self._acquisition, "supply", self._where)
        device = self._require_open()
        if voltage_mv is None:
            await device.request("arc_set_main", enable=False)
            self._powered = False
            return
        if not LEAST_MV <= voltage_mv <= self.config.max_voltage_mv:
            most = self.config.max_voltage_mv
            what = f"{voltage_mv} mV asked; this station supplies {LEAST_MV} to {most} mV"
            remedy = "ask for another voltage, or raise max_voltage_mv in stations.toml"
            raise JobError("voltage-range", what, remedy, self._where)
        await device.request("arc_set_main_voltage", value=voltage_mv / 1000)
        await device.request("arc_set_main", enable=True)
        self._powered = True

    def acquire(self, time_base: TimeBase = TimeBase.HOST) -> OtiiAcquisition:
        """See :class:`drivers.base.interfaces.PowerMonitor`."""
        refuse_virtual_time(time_base, self._where)
        refuse_while_acquiring(self._acquisition, "acquire", self._where)
        refuse_left_running(self._acquisition, self._where)
        self._acquisition = OtiiAcquisition(
            self._require_open(),
            self.config,
            OtiiStream(*self._rates, self.config.timestamp_line, EDGE_UNCERTAINTY_S),
            self._check_supply,
            self.clock,
            self._where,
            self._poll_s,
        )
        return self._acquisition

    async def self_check(self) -> list[Finding]:
        """Report a device that the server has lost."""
        refuse_while_acquiring(self._acquisition, "self_check", self._where)
        connected = await self._require_open().request("arc_is_connected")
        if connected.get("connected") is False:
            text = "the server does not see the device any more"
            return [Finding("otii-device-gone", text, "check its USB cable and supply")]
        return []

    async def close(self) -> None:
        """Switch the DUT off, stop a recording, give the licence back, disconnect."""
        if not self._link.is_open:
            return
        step_s = min(CLOSE_STEP_S, self.config.answer_s)
        async with close_in_steps(self._where, step_s, self._disconnect) as step:
            if self._acquisition:
                await self._acquisition.abandon()
            if self._device:
                await step(
                    "switching the DUT off", self._device.request("arc_set_main", enable=False)
                )
            if self._device and self._acquisition and self._acquisition.was_left_running:
                await step("stopping the recording", self._stop_recording(self._device))
            if self._licence:
                await self._licence.return_licence(step)

    async def _disconnect(self) -> None:
        self._device = self._licence = None
        await self._link.close()

    # ---- steps ---------------------------------------------------------------------------

    def _require_open(self) -> OtiiDevice:
        if self._device is None:
            raise LabdBug("otii-closed", "the instrument is not open", where=self._where)
        return self._device

    async def _find_device(self) -> DeviceInfo:
        reply = await self._session.request("otii_get_devices", {"timeout": FIND_S}, FIND_S)
        devices = [
            DeviceInfo(str(item.get("device_id")), str(item.get("name")), str(item.get("type")))
            for item in as_objects(reply.get("devices"))
            if item.get("type") in MODELS
        ]
        wanted = self.config.device
        fitting = [item for item in devices if not wanted or wanted in {item.id, item.name}]
        if len(fitting) == 1:
            return fitting[0]
        have = ", ".join(f"{item.name} ({item.id})" for item in devices) or "none"
        if fitting:
            what = f"the server has {len(devices)} devices: {have}"
            raise ConfigError("otii-device", what, "name one by its id as `device`", self._where)
        raise InstrumentError(
            "otii-device",
            f"the server has no device {wanted!r}; it has {have}".replace(" ''", ""),
            "check its USB cable and supply, and `device` in stations.toml",
            self._where,
        )

    async def _open_project(self) -> int:
        active = (await self._session.request("otii_get_active_project")).get("project_id", -1)
        if not isinstance(active, int) or active < 0:
            active = (await self._session.request("otii_create_project")).get("project_id")
        if not isinstance(active, int):
            what = f"the server opened no project: {active!r}"
            raise InstrumentError("otii-project", what, "restart the Otii server", self._where)
        return active

    async def _set_up(self, device: OtiiDevice) -> str:
        """Set everything but the voltage; return the hardware and firmware versions."""
        await device.try_request("arc_add_to_project")
        await device.request("arc_set_main", enable=False)
        await self._stop_recording(device)
        await device.try_request("arc_set_supply_power_box")
        await device.try_request("arc_set_range", range="low")  # selects automatic ranging
        await device.request("arc_set_max_current", value=self.config.max_current_a)
        await device.request("arc_set_exp_voltage", value=self.config.io_voltage_mv / 1000)
        await device.request("arc_enable_exp_port", enable=True)
        for channel in ("mc", "mv", self.config.timestamp_line):
            await device.request("arc_enable_channel", channel=channel, enable=True)
        await self._set_rates(device)
        version = await device.request("arc_get_version")
        return f"{version.get('hw_version', '')}/{version.get('fw_version', '')}"

    async def _stop_recording(self, device: OtiiDevice) -> None:
        """Stop a recording that a predecessor left running, if there is one."""
        with suppress(OtiiRefusedError):
            await device.request_project("project_stop_recording")

    async def _set_rates(self, device: OtiiDevice) -> None:
        """Set the sample rates of an Ace; read back those of any device."""
        wanted, model = self.config.rate_hz, device.info.model
        if wanted is not None and model == "Ace" and wanted in ACE_RATES_HZ:
            for channel in ("mc", "mv"):
                await device.request("arc_set_channel_samplerate", channel=channel, value=wanted)
        defaults = {"mc": ARC_RATE_HZ, "mv": SLOW_RATE_HZ}
        rates = [await self._read_rate(device, channel, rate) for channel, rate in defaults.items()]
        if wanted is not None and rates[0] != wanted:
            raise ConfigError(
                "otii-rate",
                f"{wanted} Hz wanted, the {model} samples at {rates[0]:g} Hz",
                f"leave rate_hz out; an Arc has {ARC_RATE_HZ} Hz, an Ace "
                f"{ACE_RATES_HZ[0]} to {ACE_RATES_HZ[-1]} Hz",
                self._where,
            )
        self._rates = (rates[0], rates[1])

    async def _read_rate(self, device: OtiiDevice, channel: str, default: int) -> float:
        reply = await device.try_request("arc_get_channel_samplerate", channel=channel)
        value = reply.get("value") if reply else default
        if not isinstance(value, (int, float)) or value <= 0:
            what = f"the server reports a sample rate of {value!r} for {channel}"
            raise InstrumentError("otii-rate", what, "update the Otii software", self._where)
        return float(value)

    async def _check_supply(self) -> None:
        """Check that the DUT is still powered.

        Raises:
            InstrumentError: the supply has cut off.
        """
        state = await self._require_open().request("arc_get_main")
        if self._powered and state.get("value") is False:
            self._powered = False
            raise InstrumentError(
                "supply-cut-off",
                f"the supply switched itself off: the DUT drew more than "
                f"{self.config.max_current_a:g} A",
                "look for a short circuit, or raise max_current_a in stations.toml",
                self._where,
            )
