"""A trace between a fast instrument, a slow disk and a person who cancels."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labd.core.errors import InfraError, LabdBug
from labd.core.model import Edge, Gap, Identity, Samples, StreamFormat
from labd.daemon import trace_writer as tracing
from labd.daemon.trace_writer import LiveFrames, open_trace
from labd.store.traces.reader import is_being_written, read_trace
from labd.store.traces.writer import TraceFile
from labd.wire.frames import FrameMaker, decode_frame

FORMAT = StreamFormat(1000.0, 0.0005, 100.0, "energy", 3.0)
WHO = Identity("power", "LPM01A")
RATE = 1000.0


def samples(at: int, count: int) -> Samples:
    return Samples(at, np.arange(at, at + count, dtype=float))


class Writing:
    """An open trace and the frames it sent."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "1" / "energy"
        self.frames: list[bytes] = []

    @asynccontextmanager
    async def open(self) -> Any:
        maker = FrameMaker(1, 0, RATE)
        async with open_trace(self.path, FORMAT, WHO, maker, self.frames.append) as trace:
            yield trace


@pytest.fixture
def writing(tmp_path: Path) -> Writing:
    return Writing(tmp_path)


async def test_everything_given_is_there_in_order(writing: Writing) -> None:
    async with writing.open() as trace:
        for at in range(0, 3000, 10):
            await trace.write_items(
                [samples(at, 9), Gap(at + 9, 1), Edge(at + 0.5, "d7", rising=False)]
            )
            if at % 1000 == 0:
                await asyncio.sleep(0.15)
        assert is_being_written(writing.path)
    found = read_trace(writing.path)
    assert found.complete
    assert not is_being_written(writing.path)
    expected = np.arange(3000.0)
    expected[9::10] = np.nan
    np.testing.assert_array_equal(found.power_w, expected)
    assert len(found.edges) == len(found.gaps) == 300


async def test_frames_are_few_and_agree_with_the_trace(writing: Writing) -> None:
    async with writing.open() as trace:
        for at in range(0, 5000, 10):
            await trace.write_items([samples(at, 10)])
            await asyncio.sleep(0.001)
        await trace.write_items([samples(5000, 3)])
    frames = [decode_frame(each) for each in writing.frames]
    assert 2 <= len(frames) <= 5000 // 100
    at = 0
    power = read_trace(writing.path).power_w
    for frame in frames:
        assert frame.first == at
        for point, (low, mean, high) in enumerate(frame.points):
            some = power[at + 5 * point : min(at + 5 * point + 5, frame.stop)]
            assert (low, mean, high) == (some.min(), some.mean(), some.max())
        at = frame.stop
    assert at == 5003
    assert [frame.last for frame in frames] == [False] * (len(frames) - 1) + [True]


async def test_a_disk_error_is_reported_at_the_next_write(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    async def run() -> None:
        async with writing.open() as trace:
            await trace.write_items([samples(0, 10)])
            await asyncio.sleep(0.2)
            monkeypatch.setattr(TraceFile, "write_items", refuse)
            await trace.write_items([samples(10, 10)])
            await asyncio.sleep(0.3)
            await trace.write_items([samples(20, 10)])
            pytest.fail("the error was not reported")

    with pytest.raises(InfraError, match="No space") as caught:
        await run()
    assert caught.value.code == "disk"
    found = read_trace(writing.path)
    assert not found.complete
    assert len(found.power_w) == 10


async def test_a_disk_error_at_the_very_end_is_reported_too(writing: Writing) -> None:
    async def run() -> None:
        async with writing.open() as trace:
            await trace.write_items([samples(0, 4)])
            await trace.write_items([samples(5, 4)])

    with pytest.raises(LabdBug, match="given sample 5"):
        await run()
    found = read_trace(writing.path)
    assert not found.complete
    assert len(found.power_w) == 4


async def test_the_bodys_fault_goes_before_the_writers(writing: Writing) -> None:
    async def run() -> None:
        async with writing.open() as trace:
            await trace.write_items([samples(5, 4)])
            raise ValueError("of the body")

    with pytest.raises(ValueError, match="of the body"):
        await run()


async def test_a_cancelled_run_keeps_what_it_had(writing: Writing) -> None:
    begun = asyncio.Event()

    async def run() -> None:
        async with writing.open() as trace:
            await trace.write_items([samples(0, 500)])
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    found = read_trace(writing.path)
    assert not found.complete
    assert len(found.power_w) == 500


async def test_a_slow_disk_slows_whoever_writes(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    real = TraceFile.write_items

    def slow(self: TraceFile, items: Any) -> None:
        assert gate.wait(30)
        real(self, items)

    monkeypatch.setattr(TraceFile, "write_items", slow)
    monkeypatch.setattr(tracing, "MAX_GATHERED", 1000)

    async def fill(trace: Any) -> None:
        for at in range(0, 50_000, 100):
            await trace.write_items([samples(at, 100)])

    async with writing.open() as trace:
        filling = asyncio.create_task(fill(trace))
        done, _ = await asyncio.wait({filling}, timeout=0.5)
        assert not done
        gate.set()
        await filling
    assert len(read_trace(writing.path).power_w) == 50_000


class SlowLink:
    """A broker that takes one frame and then holds the next one up."""

    is_connected = True

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.free = asyncio.Event()
        self.free.set()

    async def publish_message(
        self, topic: str, payload: bytes, *, qos: int, deadline_s: float
    ) -> None:
        assert (topic, qos) == ("t", 0)
        assert deadline_s <= 1.0
        await self.free.wait()
        self.sent.append(payload)


async def test_a_slow_broker_costs_frames_and_no_time() -> None:
    frames = LiveFrames()
    link = SlowLink()
    link.free.clear()
    delivering = asyncio.create_task(frames.publish_frames(link))  # type: ignore[arg-type]
    for number in range(1000):
        frames.queue_frame("t", b"%d" % number)
        if number == 0:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    link.free.set()
    await asyncio.sleep(0.05)
    assert link.sent == [b"0"] + [b"%d" % n for n in range(1000 - tracing.MAX_FRAMES, 1000)]
    link.sent.clear()
    link.is_connected = False
    frames.queue_frame("t", b"x")
    await asyncio.sleep(0.01)
    link.is_connected = True
    frames.queue_frame("t", b"y")
    await asyncio.sleep(0.01)
    assert link.sent == [b"y"]
    delivering.cancel()
