"""The logs of a run: written while it goes, closed on every path."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from labd.aio.transcript import PortTranscript
from labd.core.errors import DutError, InfraError
from labd.daemon import run_logs
from labd.daemon.run_logs import TRANSCRIPT, RunLogs
from labd.store.compressed_log import CompressedLog, read_compressed_log


@pytest.fixture(autouse=True)
def fast_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_logs, "FLUSH_S", 0.02)


def complete_text(path: Path) -> str:
    """Read a log that was closed; anything else is an error here."""
    return gzip.decompress(path.read_bytes()).decode()


async def test_text_reaches_the_disk_while_the_run_goes(tmp_path: Path) -> None:
    async with RunLogs(tmp_path / "1") as logs:
        port = PortTranscript(logs.transcript, "dut")
        port.add_sent(b"name%")
        logs.append_text("other.csv.gz", "a,b\n")
        async with asyncio.timeout(5):
            while not (tmp_path / "1" / "other.csv.gz").exists():
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert read_compressed_log(tmp_path / "1" / "other.csv.gz") == "a,b\n"
        assert read_compressed_log(tmp_path / "1" / TRANSCRIPT).endswith(" dut > name%\n")
        port.add_sent(b"last%")
    assert complete_text(tmp_path / "1" / TRANSCRIPT).endswith(" dut > last%\n")


async def test_a_run_without_text_has_no_files(tmp_path: Path) -> None:
    async with RunLogs(tmp_path / "1"):
        await asyncio.sleep(0.05)
    assert not (tmp_path / "1").exists()


async def test_a_cancelled_run_closes_its_logs(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def run() -> None:
        async with RunLogs(tmp_path) as logs:
            logs.append_text("log.gz", "before\n")
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                logs.append_text("log.gz", "while closing\n")

    task = asyncio.create_task(run())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert complete_text(tmp_path / "log.gz") == "before\nwhile closing\n"


async def fail(logs: RunLogs) -> None:
    async with logs:
        logs.append_text("log.gz", "text\n")
        raise DutError("x", "crashed")


async def write_until_refused(logs: RunLogs, lines: int) -> None:
    async with logs:
        for _ in range(lines):
            logs.append_text("log.gz", "text\n")
            await asyncio.sleep(0.01)
        if lines > 1:
            raise AssertionError("nothing said that the disk is full")


async def test_a_failed_run_closes_its_logs_and_keeps_its_error(tmp_path: Path) -> None:
    with pytest.raises(DutError, match="crashed"):
        await fail(RunLogs(tmp_path))
    assert complete_text(tmp_path / "log.gz") == "text\n"


async def test_a_full_disk_is_a_fault_of_the_bench_at_the_next_text_or_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: CompressedLog, _text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CompressedLog, "write", refuse)
    for lines in (200, 1):
        with pytest.raises(InfraError, match="No space left on device") as caught:
            await write_until_refused(RunLogs(tmp_path / str(lines)), lines)
        assert caught.value.code == "disk"
    with pytest.raises(DutError, match="crashed"):
        await fail(RunLogs(tmp_path / "3"))
