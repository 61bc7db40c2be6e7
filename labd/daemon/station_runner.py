"""How one station is opened, checked and used: drivers, firmware and procedure combined."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager

from drivers.base.registry import DUT_PORTS, FLASHERS, IO_MANAGERS, POWER_MONITORS, Registry
from labd.core.jobs import FixedImage, JobSpec
from labd.core.model import Build, Finding, Part
from labd.core.suite import ENERGY_BAUD, find_benchmark
from labd.daemon.run_recorder import RunEvidence, RunReporter
from labd.procedure.dataset import LABELS, find_dataset
from labd.procedure.health_check import KNOWN, check_station
from labd.procedure.run import run_benchmark
from labd.station.config import SEE_TIMESTAMPS, LabConfig, StationConfig
from labd.station.firmware_images import FirmwareImage
from labd.station.open_station import JobSetup, Parts, StationBench
from labd.store.firmware_store import FirmwareStore
from labd.wire.results import ModeResult


class StationRunner:
    """Opens, checks and uses one station for its supervisor.

    Args:
        lab: names the folders of firmware and data sets.
        station: its configuration.
        registry: the installed drivers.
        store: keeps the firmware of jobs.
    """

    def __init__(
        self, lab: LabConfig, station: StationConfig, registry: Registry, store: FirmwareStore
    ) -> None:
        self._lab = lab
        self._station = station
        self._registry = registry
        self._store = store

    def create_bench(
        self, spec: JobSpec | None, images: Sequence[FixedImage] = ()
    ) -> AbstractAsyncContextManager[StationBench]:
        """Return the station with new drivers, not open yet, for a job or (``None``) a check.

        ``images`` are those that the job was accepted with.
        """
        setup = JobSetup(
            firmware=(spec.firmware or spec.benchmark) if spec else KNOWN,
            folders=self._lab.firmware,
            baud={
                Build.PERFORMANCE: find_benchmark(spec.benchmark if spec else KNOWN).baud,
                Build.ENERGY: ENERGY_BAUD,
            },
            voltage_mv=spec.voltage_mv if spec else None,
            images={
                image.build: FirmwareImage(self._store.path(image.sha256), image.sha256, image.name)
                for image in images
                if image.board == self._station.board
            },
        )
        return StationBench(self._station, setup, self._create_drivers())

    async def run_job(
        self, bench: StationBench, spec: JobSpec, reporter: RunReporter, evidence: RunEvidence
    ) -> AsyncIterator[ModeResult]:
        """Run a job's modes on the open station."""
        dataset = await asyncio.to_thread(
            find_dataset,
            self._lab.datasets,
            find_benchmark(spec.benchmark),
            spec.modes,
            spec.labels or LABELS,
        )
        async for result in run_benchmark(bench, spec, dataset, reporter, evidence):
            yield result

    async def check_health(self, bench: StationBench) -> list[Finding]:
        """Check whether the open station may serve."""
        findings = await check_station(bench, self._lab.datasets)
        if blind := self._station.energy_obstacle:
            text = f"no energy jobs: {blind}"
            findings.append(Finding("no-timestamps", text, SEE_TIMESTAMPS, serious=False))
        return findings

    def _create_drivers(self) -> Parts:
        parts, make = self._station.parts, self._registry.make_driver
        return Parts(
            dut=make(DUT_PORTS, parts.get(Part.DUT)),
            io=make(IO_MANAGERS, parts.get(Part.IO)),
            power=make(POWER_MONITORS, parts.get(Part.POWER)),
            flasher=make(FLASHERS, parts.get(Part.FLASHER)),
        )
