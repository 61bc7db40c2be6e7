"""A job runs the firmware that was there when it was accepted."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.base.registry import Registry
from labd.core.errors import InfraError, JobError
from labd.core.health import Activity, Health
from labd.core.jobs import JobSpec
from labd.core.model import Mode, Verdict
from labd.core.schedule import StationView
from labd.daemon.job_firmware import JobFirmware
from labd.daemon.job_log import JobLog
from labd.daemon.station_runner import StationRunner
from labd.station.config import LabConfig, load_config
from labd.station.firmware_images import FirmwareImage
from labd.store.firmware_store import FirmwareStore
from labd.store.journal.async_journal import AsyncJournal
from labd.store.journal.journal import Journal
from labd.store.journal.rows import Accepted, Duplicate
from labd.wire.topics import Topics

BOARD = "nucleo-l4r5zi"
SPEC = JobSpec("j1", "alice", "digits01", (Mode.ACCURACY, Mode.ENERGY), firmware="mine")


@pytest.fixture
def config(tmp_path: Path) -> LabConfig:
    file = tmp_path / "stations.toml"
    file.write_text(
        f"[lab]\nfirmware = ['images']\n[[station]]\nname = 's1'\nboard = '{BOARD}'\n"
        "emulated = { seed = 1 }\n"
    )
    return load_config(file, Registry.from_entry_points())


@pytest.fixture
async def job_log(tmp_path: Path) -> AsyncIterator[JobLog]:
    async with AsyncJournal(f"sqlite:///{tmp_path / 'j.sqlite3'}") as journal:
        yield JobLog(Topics("lab"), journal, lambda: 1)


@pytest.fixture
def store(tmp_path: Path) -> FirmwareStore:
    return FirmwareStore(tmp_path / "state" / "firmware")


@pytest.fixture
def firmware(config: LabConfig, job_log: JobLog, store: FirmwareStore) -> JobFirmware:
    return JobFirmware(config, job_log, store)


def views(config: LabConfig) -> list[StationView]:
    parts = frozenset(config.stations[0].parts)
    return [StationView("s1", parts, Health.GOOD, Activity.IDLE)]


def build(config: LabConfig, *contents: bytes, name: str = "mine") -> None:
    for mode, content in zip(("performance", "energy"), contents, strict=False):
        path = config.file.parent / "images" / BOARD / f"{name}-{mode}.elf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_two_equal_requests_keep_the_images_of_their_time(
    config: LabConfig, job_log: JobLog, store: FirmwareStore, firmware: JobFirmware
) -> None:
    build(config, b"one", b"energy")
    assert isinstance(await firmware.accept_job(SPEC, views(config)), Accepted)
    build(config, b"two")
    await firmware.accept_job(replace(SPEC, job="j2"), views(config))
    for job, performance in (("j1", b"one"), ("j2", b"two")):
        images = await job_log.query_journal(Journal.list_images, job)
        found = {image.build: store.path(image.sha256).read_bytes() for image in images}
        assert found == {"performance": performance, "energy": b"energy"}
        assert {image.name for image in images} == {"mine-performance.elf", "mine-energy.elf"}
    status = await job_log.job_status("j1")
    assert status is not None
    assert {image.sha256 for image in status.images} == {sha(b"one"), sha(b"energy")}


async def test_the_same_request_again_keeps_the_first_images(
    config: LabConfig, job_log: JobLog, firmware: JobFirmware
) -> None:
    build(config, b"one", b"energy")
    await firmware.accept_job(SPEC, views(config))
    build(config, b"two")
    assert isinstance(await firmware.accept_job(SPEC, views(config)), Duplicate)
    images = await job_log.query_journal(Journal.list_images, "j1")
    assert sha(b"two") not in {image.sha256 for image in images}


async def test_copies_go_when_no_job_needs_them(
    config: LabConfig, job_log: JobLog, store: FirmwareStore, firmware: JobFirmware
) -> None:
    build(config, b"one", b"energy")
    await firmware.accept_job(SPEC, views(config))
    build(config, b"two")
    await firmware.accept_job(replace(SPEC, job="j2"), views(config))
    await job_log.lease_job("j1", "s1")
    await job_log.start_attempt("j1")
    await firmware.sweep()
    assert store.path(sha(b"one")).exists()
    await job_log.finish_job("j1", Verdict.PASS, "")
    await firmware.sweep()
    kept = {path.stem for path in store.path("").parent.iterdir()}
    assert kept == {sha(b"two"), sha(b"energy")}


async def test_no_image_refuses_the_job(
    config: LabConfig, job_log: JobLog, firmware: JobFirmware
) -> None:
    build(config, b"one")  # and no energy build
    with pytest.raises(JobError, match=r"no mine-energy\.elf"):
        await firmware.accept_job(SPEC, views(config))
    assert await job_log.query_journal(Journal.find_job, "j1") is None


async def test_the_station_is_given_the_copy_and_checks_it(
    config: LabConfig, job_log: JobLog, store: FirmwareStore, firmware: JobFirmware
) -> None:
    build(config, b"one", b"energy")
    await firmware.accept_job(SPEC, views(config))
    images = await job_log.query_journal(Journal.list_images, "j1")
    runner = StationRunner(config, config.stations[0], Registry.from_entry_points(), store)
    given = runner.create_bench(SPEC, images)._setup.images  # type: ignore[attr-defined]
    assert {build: image.path.read_bytes() for build, image in given.items()} == {
        "performance": b"one",
        "energy": b"energy",
    }
    image: FirmwareImage = given["energy"]
    image.verify()
    image.path.write_bytes(b"changed")
    with pytest.raises(InfraError, match=r"a copy of mine-energy\.elf, was changed"):
        image.verify()
    image.path.unlink()
    with pytest.raises(InfraError, match="No such file"):
        image.verify()
