"""Whatever breaks: the job ends with a true verdict, and the bench is left dark and free."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

from labd.client.lab_client import LabClient
from labd.wire.job_events import EventType, WindowEvent
from tests.system.lab import HandBench, Lab, finished

pytestmark = pytest.mark.timeout(600)


async def until_event(client: LabClient, job: str, kind: EventType, mode: str = "") -> None:
    async with asyncio.timeout(200):
        async for event in client.follow_events(job):
            if event.type is kind and mode in {"", getattr(event.data, "mode", "")}:
                return


def ports_are_free(bench: HandBench) -> None:
    """Every port opens exclusively: nobody else holds it."""
    import fcntl  # noqa: PLC0415
    import termios  # noqa: PLC0415

    for part in ("dut", "io", "power"):
        fd = os.open(bench.directory / bench.name / part, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            termios.tcgetattr(fd)
        finally:
            os.close(fd)


@pytest.mark.parametrize("mode", ["accuracy", "energy"])
async def test_kill_9_in_the_middle_of_a_job(make_lab: Callable[..., Lab], mode: str) -> None:
    lab = make_lab()
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        await client.send_request("submit", job="k1", benchmark="digits01", modes=[mode])
        kind = EventType.PROGRESS if mode == "accuracy" else EventType.WINDOW
        await until_event(client, "k1", kind, mode)
    lab.kill()
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        events = await finished(client, "k1")
        status = await client.find_job("k1")
    assert [event.seq for event in events] == list(range(len(events)))
    assert [e.type for e in events].count(EventType.FINISHED) == 1
    assert [e.type for e in events].count(EventType.STARTED) == 2
    requeued = next(e for e in events if e.type is EventType.REQUEUED)
    assert "labd was restarted while it was running on v1" in requeued.data.reason
    assert (status.verdict, status.attempt) == ("pass", 2)
    again = lab.labctl("submit", "digits01", "--modes", "accuracy", "--watch")
    assert again.returncode == 0, again.stderr


async def test_sigterm_leaves_the_bench_dark_and_free_and_the_job_queued(
    make_lab: Callable[..., Lab], hand_bench: HandBench
) -> None:
    lab = make_lab(hand_bench.station())
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        await client.send_request("submit", job="t1", benchmark="digits01", modes=["energy"])
        await until_event(client, "t1", EventType.WINDOW, "energy")
    assert hand_bench.order(query="state")["powered"]
    assert lab.stop() == 0
    assert not hand_bench.order(query="state")["powered"]
    ports_are_free(hand_bench)
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        events = await finished(client, "t1")
    assert events[-1].data.verdict == "pass"
    assert any("labd was stopped" in getattr(event.data, "reason", "") for event in events)


async def test_kill_9_of_the_daemon_leaves_a_bench_that_works_again(
    make_lab: Callable[..., Lab], hand_bench: HandBench
) -> None:
    lab = make_lab(hand_bench.station())
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        await client.send_request("submit", job="h1", benchmark="digits01", modes=["energy"])
        await until_event(client, "h1", EventType.WINDOW, "energy")
    lab.kill()
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        events = await finished(client, "h1")
        status = await client.find_job("h1")
    assert events[-1].data.verdict == "pass", events[-1].data
    assert status.attempt == 2
    assert not hand_bench.order(query="state")["powered"]


@pytest.mark.parametrize("mode", ["performance", "energy"])
async def test_cancelling_a_running_job_switches_the_board_off(
    make_lab: Callable[..., Lab], hand_bench: HandBench, mode: str
) -> None:
    """Even in the middle of an ``infer`` through the interface board; the next job runs."""
    lab = make_lab(hand_bench.station())
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        await client.send_request("submit", job="c1", benchmark="digits01", modes=[mode])
        await client.send_request("submit", job="c2", benchmark="digits01", modes=["accuracy"])
        await until_event(client, "c1", EventType.WINDOW, mode)
        assert (await client.send_request("cancel", job="c2")).text == "cancelled"
        await client.send_request("cancel", job="c1", reason="changed my mind")
        first = await finished(client, "c1")
        second = await finished(client, "c2")
        await lab.ready()
    assert first[-1].data.verdict == second[-1].data.verdict == "cancelled"
    assert "changed my mind" in str([event.data for event in first])
    assert not hand_bench.order(query="state")["powered"]
    ports_are_free(hand_bench)
    assert lab.labctl("watch", "c1").returncode == 5
    after = lab.labctl("submit", "digits01", "--modes", "energy", "--watch")
    assert after.returncode == 0, after.stdout


async def test_a_board_that_hangs_is_an_infra_fault_and_tried_again(
    make_lab: Callable[..., Lab], hand_bench: HandBench
) -> None:
    lab = make_lab(hand_bench.station())
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        await client.send_request("submit", job="b1", benchmark="digits01", modes=["accuracy"])
        await until_event(client, "b1", EventType.PROGRESS, "accuracy")
        hand_bench.order(fault="hang")
        events = await finished(client, "b1")
    types = [event.type for event in events]
    assert EventType.REQUEUED in types
    assert events[-1].data.verdict == "pass"


async def test_a_firmware_that_hangs_wherever_it_runs_is_a_fail(
    make_lab: Callable[..., Lab], hand_bench: HandBench
) -> None:
    """The station classifies its known images right after each hang."""
    lab = make_lab(hand_bench.station())
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        await client.send_request("submit", job="b2", benchmark="digits01", modes=["accuracy"])
        hung = 0
        async with asyncio.timeout(200):
            async for event in client.follow_events("b2"):
                if event.type is EventType.PROGRESS and event.attempt > hung:
                    hand_bench.order(fault="hang")
                    hung = event.attempt
        status = await client.find_job("b2")
        [station] = await client.list_stations()
    assert (status.verdict, hung) == ("fail", 2)
    assert "attempt 1 on h1" in status.reason
    assert "attempt 2 on h1" in status.reason
    assert station.health == "good"


async def test_a_lost_edge_is_never_a_number(
    make_lab: Callable[..., Lab], hand_bench: HandBench
) -> None:
    lab = make_lab(hand_bench.station())
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        await client.send_request("submit", job="e1", benchmark="digits01", modes=["energy"])
        await until_event(client, "e1", EventType.WINDOW, "energy")
        hand_bench.order(fault="lose_edge", wire="timestamp", count=1)
        events = await finished(client, "e1")
    windows = [event.data for event in events if isinstance(event, WindowEvent)]
    assert len(windows) == 5
    bad = [window for window in windows if not window.valid]
    assert len(bad) == 1
    assert bad[0].energy_uj is None
    assert "1 timestamp edges came" in str(bad[0].problems)
    assert events[-1].data.verdict == "invalid"


async def test_lost_samples_are_never_a_number(
    make_lab: Callable[..., Lab], hand_bench: HandBench
) -> None:
    lab = make_lab(hand_bench.station())
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        await client.send_request("submit", job="s1", benchmark="digits01", modes=["energy"])
        await until_event(client, "s1", EventType.WINDOW, "energy")
        hand_bench.order(fault="lose_samples", count=3)
        events = await finished(client, "s1")
    windows = [event.data for event in events if isinstance(event, WindowEvent)]
    assert events[-1].data.verdict == "invalid"
    assert any("lost" in str(window.problems) for window in windows), [
        window.problems for window in windows
    ]


async def test_a_broker_that_dies_comes_back_with_everything(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        await client.send_request("submit", job="m1", benchmark="digits01", modes=["accuracy"])
        await until_event(client, "m1", EventType.PROGRESS, "accuracy")
    pid = int((lab.folder / "state" / "broker" / "nats.pid").read_text())
    os.kill(pid, 9)
    await lab.ready()
    async with lab.client() as client:
        events = await finished(client, "m1")
    assert [event.seq for event in events] == list(range(len(events)))
    assert events[-1].data.verdict == "pass"
