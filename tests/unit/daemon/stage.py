"""A supervisor with a real journal and a station whose running and closing the test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from drivers.base.interfaces import DriverConfig
from drivers.base.registry import PartConfig
from labd.core.health import Activity, Health
from labd.core.jobs import JobSpec
from labd.core.model import Finding, Mode, Part, Verdict
from labd.core.schedule import HeldFirmware
from labd.daemon.job_log import JobLog
from labd.daemon.run_recorder import RunEvidence
from labd.daemon.supervisor import Supervisor
from labd.station.config import StationConfig
from labd.wire.results import ModeResult

SPEC = JobSpec("j1", "alice", "digits01", (Mode.ACCURACY,))
RESULT = ModeResult(mode=Mode.ACCURACY, verdict=Verdict.PASS, score={"top1_pct": 99.0})

Step = Callable[[], Awaitable[None]]


class ScriptedBench:
    identities: dict[str, Any] = {}  # noqa: RUF012
    is_simulated = True
    held_firmware: HeldFirmware | None = None


class ScriptedRunner:
    """A station whose running and closing the test decides."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.closing = asyncio.Event()
        self.run_step: Step | None = None
        self.close_step: Step | None = None
        self.check_step: Step | None = None
        self.bench = ScriptedBench()
        self.findings: list[Finding] = []
        self.opened = 0
        self.closed = 0

    @asynccontextmanager
    async def create_bench(self, spec: JobSpec | None, _images: Any = ()) -> AsyncIterator[Any]:
        self.opened += 1
        try:
            yield self.bench
        finally:
            if spec is not None and self.close_step is not None:
                self.closing.set()
                await self.close_step()
            self.closed += 1

    async def run_job(self, *_: Any) -> AsyncIterator[ModeResult]:
        self.running.set()
        if self.run_step is not None:
            await self.run_step()
        yield RESULT

    async def check_health(self, _bench: Any) -> list[Finding]:
        if self.check_step is not None:
            await self.check_step()
        return self.findings


class Stage:
    """A supervisor with a real journal and a scripted station."""

    def __init__(self, job_log: JobLog, folder: Path, name: str = "s1") -> None:
        self.job_log = job_log
        self.changed: Callable[[], None] = lambda: None
        self.alternative = False
        self.runner = ScriptedRunner()
        self.supervisor = Supervisor(
            station=StationConfig(
                name=name,
                board="b",
                parts={Part.DUT: PartConfig(Part.DUT, "serial-dut", DriverConfig())},
                voltage_mv=3000,
                off_s=0.0,
                processing_wire=False,
                baud={},
                emulated=None,
            ),
            runner=self.runner,
            job_log=job_log,
            make_evidence_writer=lambda job, attempt: RunEvidence(
                folder / job / str(attempt), attempt, lambda _frame: None
            ),
            has_alternative=lambda _spec, _name: self.alternative,
            on_change=lambda _: self.changed(),
            defect_pause_s=0.01,
        )

    async def assign(self) -> None:
        await self.job_log.submit_job(SPEC)
        await self.again()

    async def again(self) -> None:
        async with asyncio.timeout(5):
            while self.supervisor.scheduling_view().activity is not Activity.IDLE or (
                self.supervisor.health is not Health.GOOD
            ):
                await asyncio.sleep(0.01)
        assert await self.job_log.lease_job(SPEC.job, "s1")
        assert self.supervisor.assign_job(SPEC)

    async def ended(self) -> tuple[str, str]:
        """State and verdict once the supervisor is through with the job."""
        async with asyncio.timeout(5):
            while self.supervisor.job:
                await asyncio.sleep(0.01)
        job = await self.job_log.require_job(SPEC.job)
        return job.state, job.verdict or ""


async def forever() -> None:
    await asyncio.Event().wait()


def failing(error: Exception) -> Step:
    async def step() -> None:
        raise error

    return step
