"""A trace from the first frame to its removal, through a daemon that is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest

from labd.client.lab_client import LabClient
from labd.core.errors import LabdError
from labd.store.traces.reader import Trace, is_being_written, read_trace
from labd.wire.frames import Frame
from labd.wire.job_events import WindowEvent
from tests.system.lab import Lab, finished

pytestmark = pytest.mark.timeout(600)


async def measure(client: LabClient, job: str) -> list[Frame]:
    """Run an energy job; the frames that came until it had finished."""
    frames: list[Frame] = []

    async def collect() -> None:
        async for frame in client.follow_trace_frames(job):
            frames.append(frame)  # noqa: PERF401 - it is cancelled in the end

    collecting = asyncio.create_task(collect())
    await asyncio.sleep(0.5)
    await client.send_request("submit", job=job, benchmark="digits01", modes=["energy"])
    events = await finished(client, job)
    collecting.cancel()
    assert events[-1].data.verdict == "pass", events[-1].data
    return frames


def frames_say_what_the_trace_says(frames: list[Frame], trace: Trace) -> None:
    assert len(frames) > 5
    assert frames[-1].last
    assert frames[-1].stop == len(trace.power_w)
    assert {(frame.attempt, frame.trace) for frame in frames} == {(1, 0)}
    numbers = [frame.number for frame in frames]
    assert numbers == sorted(set(numbers))
    for frame in frames:
        assert frame.sample_rate_hz == trace.sample_rate_hz
        for point, seen in enumerate(frame.points):
            first = frame.first + point * frame.samples_per_point
            some = trace.power_w[first : min(first + frame.samples_per_point, frame.stop)]
            known = some[~np.isnan(some)]  # the tail behind the last stamp may be lost
            if not len(known):
                assert np.isnan(seen).all()
                continue
            mean = np.float32(known.mean(dtype=np.float64))
            assert tuple(seen) == (known.min(), mean, known.max())


async def until_window(client: LabClient, job: str) -> None:
    async with asyncio.timeout(300):
        async for event in client.follow_events(job):
            if isinstance(event, WindowEvent):
                return


async def answers(lab: Lab) -> None:
    """Wait for the daemon, which may have a job at once."""
    async with asyncio.timeout(200):
        while True:
            with suppress(LabdError):
                async with lab.client("probe") as client:
                    await client.list_stations()
                    return
            await asyncio.sleep(0.2)


async def test_a_trace_is_published_live_survives_a_kill_and_is_removed_by_the_limits(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab()
    traces = lab.folder / "state" / "traces"
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        frames = await measure(client, "t1")
        trace = read_trace(traces / "t1" / "1" / "energy")
        assert trace.complete
        frames_say_what_the_trace_says(frames, trace)
        assert lab.labctl("trace", "t1").returncode == 2
        assert lab.labctl("pin", "t1").returncode == 0
        assert lab.labctl("pin", "t1", user="bob").returncode == 2
        await client.send_request("submit", job="t2", benchmark="digits01", modes=["energy"])
        await until_window(client, "t2")
    assert is_being_written(traces / "t2" / "1" / "energy")
    lab.kill()
    cut_off = read_trace(traces / "t2" / "1" / "energy")
    assert not cut_off.complete
    assert len(cut_off.edges) >= 3
    assert np.isfinite(cut_off.summarise_range(1).mean).all()
    lab.config.write_text(lab.config.read_text() + "\n[traces]\nkeep_gb = 0.000001\n")
    lab.start()
    await answers(lab)
    async with lab.client() as client:
        events = await finished(client, "t2")
        assert events[-1].data.verdict == "pass"
        sealed = read_trace(traces / "t2" / "1" / "energy")
        assert (sealed.edges, sealed.complete) == (cut_off.edges, False)
        assert not list(traces.glob("**/*.sigmf-events"))
        assert (traces / "t1" / "1" / "energy.sigmf-data").exists()
    assert lab.labctl("unpin", "t1").returncode == 0
    assert lab.stop() == 0
    lab.start()
    await lab.ready()
    async with lab.client() as client, asyncio.timeout(100):
        while traces.exists() and list(traces.iterdir()):
            await asyncio.sleep(0.2)
        assert [(await client.find_job(job)).removed for job in ("t1", "t2")] == [(1,), (1, 2)]
    shown = lab.labctl("show", "t1")
    assert "traces removed to make room: attempt 1" in shown.stdout
    assert len(json.loads(lab.labctl("events", "t1", "--json").stdout.splitlines()[-1])) > 3
