"""The firmware of a job is fixed when the job is accepted: a copy by hash is what it will run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from labd.core.errors import JobError
from labd.core.jobs import FixedImage, JobSpec
from labd.core.model import BUILD_FOR
from labd.core.schedule import StationView, why_station_unsuitable
from labd.daemon.background_tasks import log_failure
from labd.daemon.job_log import JobLog
from labd.station.config import LabConfig, StationConfig
from labd.station.firmware_images import find_image
from labd.store.firmware_store import FirmwareStore
from labd.store.journal.journal import Journal
from labd.store.journal.rows import Accepted, Duplicate

log = structlog.get_logger(__name__)


class JobFirmware:
    """Accepts jobs with their firmware, and removes the copies that no job needs any more.

    Args:
        config: names the folders of images.
        job_log: holds the jobs.
        store: keeps the copies.
        sweep_s: between two sweeps.
    """

    def __init__(
        self, config: LabConfig, job_log: JobLog, store: FirmwareStore, sweep_s: float = 3600.0
    ) -> None:
        self._config = config
        self._job_log = job_log
        self._store = store
        self._sweep_s = sweep_s
        self._in_use = asyncio.Lock()  # a copy is made before the journal knows its job

    async def accept_job(self, spec: JobSpec, views: Sequence[StationView]) -> Accepted | Duplicate:
        """Keep a copy of every image that the job may run, and queue the job.

        Raises:
            JobError: every suitable station has a flasher, and none has its images; or see
                :meth:`Journal.submit_job`.
            InfraError: a copy cannot be kept.
        """
        async with self._in_use:
            images: tuple[FixedImage, ...] = ()
            if await self._job_log.query_journal(Journal.find_job, spec.job) is None:
                images = await asyncio.to_thread(self._fix_images, spec, views)
            return await self._job_log.submit_job(spec, images)

    async def sweep_periodically(self) -> None:
        """Sweep at the start and once per interval, until cancelled; log what fails."""
        while True:
            await log_failure(self.sweep(), event="sweep-failed", what="firmware sweep")
            await asyncio.sleep(self._sweep_s)

    async def sweep(self) -> None:
        """Remove the copies that no queued or running job needs.

        Raises:
            InfraError: the journal or the disk failed.
        """
        async with self._in_use:
            needed = await self._job_log.query_journal(Journal.needed_images)
            removed = await asyncio.to_thread(self._store.sweep, needed)
        if removed:
            log.info("firmware-removed", files=len(removed))

    def _fix_images(self, spec: JobSpec, views: Sequence[StationView]) -> tuple[FixedImage, ...]:
        """Keep the images for every board on which the job may run."""
        suitable = {view.name for view in views if not why_station_unsuitable(spec, view)}
        stations = [station for station in self._config.stations if station.name in suitable]
        boards = {station.board for station in stations if station.flasher is not None}
        fixed: list[FixedImage] = []
        missing: JobError | None = None
        for board in sorted(boards):
            try:
                fixed += self._fix_board_images(spec, board)
            except JobError as error:
                missing = error
        if missing is not None and not fixed and all(map(_is_flashed, stations)):
            raise missing
        return tuple(fixed)

    def _fix_board_images(self, spec: JobSpec, board: str) -> list[FixedImage]:
        name = spec.firmware or spec.benchmark
        builds = sorted({BUILD_FOR[mode] for mode in spec.modes})
        images = {build: find_image(self._config.firmware, board, name, build) for build in builds}
        return [
            FixedImage(board, build, image.path.name, self._store.keep_copy(image.path))
            for build, image in images.items()
        ]


def _is_flashed(station: StationConfig) -> bool:
    return station.flasher is not None
