"""An open station: its parts are opened in order and always closed again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import structlog

from drivers.base.interfaces import (
    CommandChannel,
    Driver,
    DutPort,
    Flasher,
    IoManager,
    PowerMonitor,
)
from labd.aio.shielded import wait_shielded
from labd.core.errors import (
    ConfigError,
    DeadlineExceeded,
    DutError,
    InfraError,
    JobError,
    LabdError,
    TransportError,
    Where,
)
from labd.core.model import Build, Finding, Identity, Part, TimeBase
from labd.core.schedule import HeldFirmware
from labd.protocol.replies import DutProfile
from labd.station.config import StationConfig
from labd.station.dut import Dut
from labd.station.firmware_images import FirmwareImage, find_image

log = structlog.get_logger(__name__)

BOOT_DEADLINE_S = 10.0
IDENTIFY_DEADLINE_S = 10.0
FLASH_DEADLINE_S = 120.0
OPEN_DEADLINE_S = 60.0  # includes the restart of an LPM01A that does not answer
CLOSE_DEADLINE_S = 20.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parts:
    """The drivers of one station."""

    dut: DutPort | None = None
    io: IoManager | None = None
    power: PowerMonitor | None = None
    flasher: Flasher | None = None

    def in_opening_order(self) -> list[tuple[Part, Driver]]:
        """Return the station's parts in the order in which they are opened.

        The power monitor is first, so that the DUT can be switched off whatever else fails.
        """
        every: list[tuple[Part, Driver | None]] = [
            (Part.POWER, self.power),
            (Part.IO, self.io),
            (Part.DUT, self.dut),
            (Part.FLASHER, self.flasher),
        ]
        return [(part, driver) for part, driver in every if driver is not None]


@dataclass(frozen=True, slots=True)
class JobSetup:
    """What a job, or the health check, needs of a station.

    Args:
        firmware: firmware name; its images are ``<firmware>-<build>.elf``.
        folders: where images are searched, in order.
        baud: speed of the reference firmware's UART, by build; a station may override it.
        voltage_mv: supply of the DUT; ``None`` for the station's own.
        images: images that were fixed before; others are searched in ``folders``.
    """

    firmware: str
    folders: Sequence[Path]
    baud: Mapping[Build, int]
    voltage_mv: int | None = None
    images: Mapping[Build, FirmwareImage] = field(default_factory=dict[Build, FirmwareImage])


@dataclass(frozen=True, slots=True)
class Ready:
    """A DUT that runs the requested build and answers.

    Args:
        dut: its commands, over the route chosen for this build.
        profile: its identity.
        build: how it marks time, as observed.
        route: ``dut`` (its own port) or ``io`` (through the I/O manager).
        firmware: name of the image flashed; empty when labd did not flash.
        firmware_sha256: of that image.
        voltage_mv: supply that was set; ``None`` when the station does not supply the DUT.
    """

    dut: Dut
    profile: DutProfile
    build: Build
    route: str
    firmware: str
    firmware_sha256: str
    voltage_mv: int | None


class StationBench:
    """One station while it is open; an asynchronous context manager.

    Its exit switches the DUT off and closes every port, also after an error or a cancellation.

    Args:
        station: its configuration.
        setup: what the job needs.
        parts: its drivers, not open yet.
    """

    def __init__(self, station: StationConfig, setup: JobSetup, parts: Parts) -> None:
        self._station = station
        self._setup = setup
        self._parts = parts
        self._voltage_mv = setup.voltage_mv or station.voltage_mv
        self._identities: dict[str, Identity] = {}
        self._held_firmware: HeldFirmware | None = None

    async def __aenter__(self) -> Self:
        """Open every part and switch the DUT off.

        Raises:
            LabdError: a part did not open; those opened before are closed again.
        """
        try:
            for part, driver in self._parts.in_opening_order():
                identity = await self._with_deadline(
                    driver.open(), OPEN_DEADLINE_S, f"opening {part}"
                )
                self._identities[part] = identity
                log.debug("opened", part=part, name=identity.name, firmware=identity.firmware)
            await self._release_waiting_io_manager()
            await self._with_deadline(self._set_supply(None), OPEN_DEADLINE_S, "power off")
        except BaseException:
            await self.switch_off_and_close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close; see :meth:`switch_off_and_close`.

        Raises:
            InfraError: closing failed, and nothing before it.
        """
        failures = await self.switch_off_and_close()
        if failures and kind is None:
            raise InfraError("teardown", "; ".join(failures), "check that the board is off")

    async def switch_off_and_close(self) -> list[str]:
        """Switch the DUT off and close every part; return what failed.

        A cancellation waits until this is finished; every step has a deadline.
        """
        closing = asyncio.create_task(self._close_all_parts(), name=f"close {self._station.name}")
        if await wait_shielded(closing):
            raise asyncio.CancelledError
        return closing.result()

    @property
    def is_simulated(self) -> bool:
        """Whether any part of the station is emulated."""
        emulated = self._station.emulated is not None
        return emulated or any(who.simulated for who in self._identities.values())

    def is_dut_simulated(self, route: str) -> bool:
        """Return whether the DUT behind this route (``dut`` or ``io``) is simulated."""
        part = self._identities.get(route)
        return self._station.emulated is not None or (part is not None and part.simulated)

    @property
    def time_base(self) -> TimeBase:
        """The clock that the station's instruments follow."""
        return self._station.time_base

    @property
    def identities(self) -> dict[str, Identity]:
        """Identity of every open part."""
        return dict(self._identities)

    @property
    def power_monitor(self) -> PowerMonitor | None:
        """The power monitor."""
        return self._parts.power

    def dut_baud(self, build: Build) -> int:
        """Return the speed of the DUT's UART in this build, bit/s."""
        return self._station.baud.get(build, self._setup.baud[build])

    def batch_timer(self, build: Build) -> IoManager | None:
        """Return the I/O manager if a wire lets it time this build's batches.

        The processing pin shows the batches of both builds; the timestamp pin pulses in the
        energy build only.
        """
        io = self._parts.io
        if io is None:
            return None
        pulses = io.config.times_timestamps and build is Build.ENERGY
        return io if self._station.processing_wire or pulses else None

    @property
    def _monitor_supplies_dut(self) -> bool:
        """Whether the power monitor supplies the DUT."""
        return self._parts.power is not None and self._parts.power.can_supply_dut

    async def _set_supply(self, voltage_mv: int | None) -> None:
        """Supply the DUT, or switch it off with ``None``, if the power monitor supplies it."""
        if self._parts.power is not None and self._parts.power.can_supply_dut:
            await self._parts.power.set_dut_supply(voltage_mv)

    async def prepare_dut(self, build: Build) -> Ready:
        """Flash, supply and identify the DUT so that it runs this build.

        Raises:
            JobError: there is no such image, or a board without flasher runs another build.
            DutError: the flashed firmware is another build than its name states.
            InfraError: the bench failed.
        """
        image = await self._flash_build(build)
        route, channel = await self._open_route(build)
        voltage = await self._power_up_dut(channel)
        dut = Dut(channel)
        if self._monitor_supplies_dut or image is not None:
            await dut.wait_for_boot(BOOT_DEADLINE_S)  # nothing else restarts the board
        profile = await dut.identify(IDENTIFY_DEADLINE_S)
        seen, signs = await dut.observe_build()
        if seen is not build:
            raise self._wrong_build_error(seen, build, image, signs)
        name, sha256 = (image.name, image.sha256) if image else ("", "")
        return Ready(dut, profile, build, route, name, sha256, voltage)

    @property
    def held_firmware(self) -> HeldFirmware | None:
        """Firmware that was found on a board that labd does not flash."""
        return self._held_firmware

    @property
    def can_flash(self) -> bool:
        """Whether labd flashes this station's board."""
        return self._parts.flasher is not None

    async def identify_any_build(self) -> DutProfile:
        """Supply the DUT and identify it, whichever build it runs; see :attr:`held_firmware`.

        Raises:
            InfraError: it does not answer.
            DutError: its answer violates the protocol.
        """
        await self._set_supply(None)
        refusals: list[LabdError] = []
        for build in self._likely_builds():
            try:
                _, channel = await self._open_route(build)
                await self._power_up_dut(channel)
                dut = Dut(channel)
                if self._monitor_supplies_dut:
                    await dut.wait_for_boot(BOOT_DEADLINE_S)
                profile = await dut.identify(IDENTIFY_DEADLINE_S)
                if not self.can_flash:
                    observed, _ = await dut.observe_build()
                    self._held_firmware = HeldFirmware(profile.model, observed, profile.profile)
            except (DeadlineExceeded, DutError, ConfigError) as error:
                refusals.append(error)
            else:
                return profile
            await self._set_supply(None)
        raise refusals[0]

    def _likely_builds(self) -> list[Build]:
        """Return the builds that a board without flasher may run, the likelier one first.

        A board that is reached only through an I/O manager is meant for energy. A wrong guess
        is expensive: at the wrong baud rate the interface board does not respond until reset.
        """
        first = Build.PERFORMANCE if self._parts.dut is not None else Build.ENERGY
        return [first, *(build for build in Build if build is not first)]

    async def self_check(self, *parts: Part) -> list[Finding]:
        """Return the findings of the self-checks of all parts, or of these."""
        findings: list[Finding] = []
        for part, driver in self._parts.in_opening_order():
            if parts and part not in parts:
                continue
            findings += await self._with_deadline(
                driver.self_check(), OPEN_DEADLINE_S, f"self-check of {part}"
            )
        return findings

    async def _release_waiting_io_manager(self) -> None:
        """Release an I/O manager that waits for a DUT whose power was cut during a command.

        The DUT's boot prologue ends that command.
        """
        io = self._parts.io
        if io is None or not io.waiting_for_dut:
            return
        log.info("io-manager-released", station=self._station.name)
        if self._monitor_supplies_dut:
            await self._set_supply(None)
            await asyncio.sleep(self._station.off_s)
            await self._set_supply(self._voltage_mv)
        self._identities[Part.IO] = await io.wait_until_free(BOOT_DEADLINE_S)

    async def _flash_build(self, build: Build) -> FirmwareImage | None:
        flasher, setup = self._parts.flasher, self._setup
        if flasher is None:
            await self._set_supply(None)
            return None
        image = setup.images.get(build) or await asyncio.to_thread(
            find_image, setup.folders, self._station.board, setup.firmware, build
        )
        await asyncio.to_thread(image.verify)
        await self._set_supply(self._voltage_mv)
        await self._with_deadline(
            flasher.flash(image.path), FLASH_DEADLINE_S, f"flashing {image.name}"
        )
        await self._set_supply(None)
        return image

    async def _open_route(self, build: Build) -> tuple[str, CommandChannel]:
        """Open the route to the DUT: its own port, but the I/O manager's for energy.

        A debug probe on the DUT's own port would supply the board beside the power monitor.
        """
        io, dut = self._parts.io, self._parts.dut
        if io is not None and (build is Build.ENERGY or dut is None):
            await io.set_dut_baud(self.dut_baud(build))
            return Part.IO, io.command_channel
        if dut is not None:
            await dut.set_baud(self.dut_baud(build))
            return Part.DUT, dut.command_channel
        raise InfraError("no-route", "the station has neither dut nor io")

    async def _power_up_dut(self, channel: CommandChannel) -> int | None:
        if not self._monitor_supplies_dut:
            return None
        await asyncio.sleep(self._station.off_s)
        await channel.expect_boot()
        await self._set_supply(self._voltage_mv)
        return self._voltage_mv

    def _wrong_build_error(
        self, seen: Build, wanted: Build, image: FirmwareImage | None, signs: str
    ) -> LabdError:
        where = Where(station=self._station.name, device="dut")
        if image is None:
            what = f"the board runs the {seen} build, this mode needs the {wanted} build ({signs})"
            return JobError("wrong-build", what, "flash it, or give the station a flasher", where)
        what = f"{image.name} marks time as the {seen} build does ({signs})"
        return DutError("wrong-build", what, f"build it as {wanted}", where)

    async def _close_all_parts(self) -> list[str]:
        failures: list[str] = []
        for part, driver in reversed(self._parts.in_opening_order()):
            try:
                await self._with_deadline(driver.close(), CLOSE_DEADLINE_S, f"closing {part}")
            except TransportError as error:  # the attempt, or the next check, reports the reason
                failures.append(f"closing {part}: {error}")
            except LabdError as error:
                log.warning("close-failed", station=self._station.name, part=part, error=str(error))
                failures.append(f"closing {part}: {error}")
            except Exception as error:  # a defect: the other parts must be closed all the same
                log.exception("labd-bug", station=self._station.name, part=part)
                failures.append(f"closing {part}: {error!r}")
        return failures

    async def _with_deadline(self, work: Awaitable[T], deadline_s: float, doing: str) -> T:
        try:
            async with asyncio.timeout(deadline_s):
                return await work
        except TimeoutError:
            raise DeadlineExceeded(
                "deadline",
                f"{doing} took more than {deadline_s:g} s",
                where=Where(station=self._station.name),
            ) from None
