"""Jobs through the whole daemon: broker, journal, drivers and the emulated bench are real."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from labd.rescore import find_tasks, rescore_folder
from labd.store.traces.reader import read_trace
from labd.wire.job_events import WindowEvent
from tests.system.lab import ONE_EMULATED, PREBUILT, HandBench, Lab, finished

pytestmark = pytest.mark.timeout(600)


async def test_a_whole_job_is_scored(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        await client.send_request("submit", job="whole", benchmark="digits01")
        events = await finished(client, "whole")
        status = await client.find_job("whole")
    assert [event.seq for event in events] == list(range(len(events)))
    assert status.next_seq == len(events)
    assert (status.state, status.verdict) == ("done", "pass")
    assert status.simulated
    score = {key: value for one in status.results for key, value in one.score.items()}
    assert score["inputs"] == 360
    assert score["top1_pct"] >= 95
    assert score["median_throughput_ips"] > 10
    assert score["median_energy_uj"] > 1
    windows = [event.data for event in events if isinstance(event, WindowEvent)]
    assert [w.mode for w in windows] == ["performance"] * 5 + ["energy"] * 5
    assert all(w.runtime_s >= 10 and w.inferences >= 10 for w in windows)
    assert all(w.check.clock == "io-manager" for w in windows)
    assert len({w.input_file for w in windows}) == 5


async def test_labctl_watches_a_job_and_its_status_is_the_verdict(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab()
    lab.start()
    await lab.ready()
    watched = lab.labctl("submit", "digits01", "--modes", "accuracy", "--job", "w1", "--watch")
    assert watched.returncode == 0, watched.stderr
    assert "accuracy" in watched.stdout
    assert "simulated" in watched.stdout
    listed = json.loads(lab.labctl("jobs", "--json").stdout)
    assert [(job["job"], job["verdict"], job["user"]) for job in listed] == [
        ("w1", "pass", "alice")
    ]
    shown = json.loads(lab.labctl("show", "w1", "--json").stdout)
    assert shown["events"][-1]["type"] == "finished"
    assert "firmware_sha256" in str(shown["events"])
    lines = lab.labctl("events", "w1").stdout.splitlines()
    assert len(lines) == shown["next_seq"]
    text = lab.labctl("show", "w1").stdout
    assert "digits01-performance.elf" in text
    assert lab.labctl("stations").stdout.count("v1") == 1


async def test_a_run_on_the_emulated_bench_states_it_in_names(
    make_lab: Callable[..., Lab],
) -> None:
    """A copied folder must not be taken for one of the real board."""
    lab = make_lab()
    lab.start()
    await lab.ready()
    watched = lab.labctl("submit", "digits01", "--modes", "accuracy", "--job", "e1", "--watch")
    assert watched.returncode == 0, watched.stderr
    (file,) = (lab.folder / "state").rglob("result-accuracy.json")
    details = json.loads(file.read_text())["details"]
    assert details["dut"].endswith(" (simulated)")
    for part in ("io", "power", "flasher"):
        who = details["instruments"][part]
        assert "simulated" in f"{who['name']} {who['serial']} {who['firmware']}", part
    shown = lab.labctl("show", "e1").stdout
    assert f"dut: {details['dut']}" in shown
    assert details["instruments"]["power"]["firmware"] in shown


async def test_a_dut_alone_does_accuracy_and_performance(
    make_lab: Callable[..., Lab], hand_bench: HandBench
) -> None:
    hand_bench.stop()
    hand_bench = HandBench(hand_bench.directory.parent, parts=["dut"])
    hand_bench.start()
    try:
        lab = make_lab(hand_bench.station("dut"))
        lab.start()
        await lab.ready()
        refused = lab.labctl("submit", "digits01")
        assert refused.returncode == 2
        assert "no power monitor for energy mode" in refused.stderr
        done = lab.labctl("submit", "digits01", "--modes", "performance", "--watch", "--json")
        assert done.returncode == 0, done.stderr
        events = [json.loads(line) for line in done.stdout.splitlines()]
        checks = [e["data"]["check"] for e in events if e["type"] == "window"]
        assert [check["clock"] for check in checks] == ["none"] * 5
        assert "simulated bench has its own time" in checks[0]["note"]
    finally:
        hand_bench.stop()


async def test_a_station_for_energy_alone_is_found_fit_and_measures(
    make_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    """Neither debug probe nor flasher: the board runs its energy build, behind the I/O manager."""
    image = PREBUILT / "nucleo-l4r5zi" / "digits01-energy.elf"
    bench = HandBench(tmp_path, parts=["io", "power"], image=str(image))
    bench.start()
    try:
        lab = make_lab(bench.station("io", "power"))
        lab.start()
        await lab.ready()
        async with lab.client() as client:
            await client.send_request("submit", job="e", benchmark="digits01", modes=["energy"])
            await finished(client, "e")
            status = await client.find_job("e")
    finally:
        bench.stop()
    assert (status.verdict, status.reason) == ("pass", "")


async def test_a_board_that_labd_cannot_flash_gets_the_jobs_of_its_firmware(
    make_lab: Callable[..., Lab], hand_bench: HandBench
) -> None:
    """An energy job waits for the performance board until somebody flashes the energy build."""
    ports = hand_bench.station("dut", "io", "power")
    lab = make_lab(ports)
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        [station] = await client.list_stations()
        assert station.firmware is not None
        assert (station.firmware.model, station.firmware.build) == ("digits01", "performance")
        await client.send_request("submit", job="e", benchmark="digits01", modes=["energy"])
        await client.send_request("submit", job="a", benchmark="digits01", modes=["accuracy"])
        assert (await finished(client, "a"))[-1].data.verdict == "pass"
        waiting = await client.find_job("e")
        assert (waiting.state, waiting.attempt) == ("queued", 0)
        assert "h1 holds digits01 (performance build), and labd cannot flash it" in waiting.waiting
    listed = lab.labctl("stations", "--json").stdout
    assert json.loads(listed)[0]["firmware"]["profile"]
    hand_bench.stop()
    image = PREBUILT / "nucleo-l4r5zi" / "digits01-energy.elf"
    flashed = HandBench(hand_bench.directory.parent, image=str(image))
    flashed.start()
    try:
        async with lab.client() as client:
            assert (await finished(client, "e"))[-1].data.verdict == "pass"
            [station] = await client.list_stations()
            assert station.firmware is not None
            assert station.firmware.build == "energy"
    finally:
        flashed.stop()


async def test_a_waiting_job_keeps_the_firmware_of_its_acceptance(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab()
    original = (PREBUILT / "nucleo-l4r5zi" / "digits01-performance.elf").read_bytes()
    mine = lab.folder / "firmware" / "nucleo-l4r5zi" / "mine-performance.elf"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(original)
    lab.start()
    await lab.ready()
    asked = {"benchmark": "digits01", "modes": ["accuracy"], "firmware": "mine"}
    async with lab.client() as client:
        for job in ("k1", "k2"):
            await client.send_request("submit", job=job, **asked)
        mine.write_bytes(original[:5000])
        await client.send_request("submit", job="k3", **asked)
        endings = {job: (await finished(client, job))[-1].data for job in ("k1", "k2", "k3")}
        status = await client.find_job("k2")
        events = await client.list_events("k2")
    assert [endings[job].verdict for job in ("k1", "k2")] == ["pass", "pass"]
    assert endings["k3"].verdict != "pass"
    sha256 = hashlib.sha256(original).hexdigest()
    assert [image.sha256 for image in status.images] == [sha256]
    assert sha256 in str([event.data for event in events if event.type == "result"])


async def test_two_jobs_run_at_once_and_the_third_waits(make_lab: Callable[..., Lab]) -> None:
    two = "".join(
        f'[[station]]\nname = "v{n}"\nboard = "nucleo-l4r5zi"\nemulated = {{ seed = {n} }}\n'
        for n in (1, 2)
    )
    lab = make_lab(two)
    lab.start()
    await lab.ready()
    async with lab.client("alice") as alice, lab.client("bob") as bob:
        for client, job in ((alice, "a1"), (bob, "b1"), (alice, "a2")):
            await client.send_request("submit", job=job, benchmark="digits01", modes=["accuracy"])
        events = {job: await finished(alice, job) for job in ("a1", "b1", "a2")}
    started = {job: e.t_ns for job, many in events.items() for e in many if e.type == "started"}
    ended = {job: many[-1].t_ns for job, many in events.items()}
    assert max(started["a1"], started["b1"]) < min(ended["a1"], ended["b1"])
    assert started["a2"] > min(ended["a1"], ended["b1"])
    assert events["a1"][0].type == "queued"


async def test_frozen_time_gives_the_same_numbers_twice(tmp_path: Path) -> None:
    """Two fresh labs, a job each: every window, energy and edge is the same to the last bit."""
    found: list[object] = []
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
        lab = Lab(tmp_path / run, ONE_EMULATED.format(mode="freeze"))
        lab.start()
        try:
            await lab.ready()
            async with lab.client() as client:
                modes = ["performance", "energy"]
                await client.send_request("submit", job="f", benchmark="digits01", modes=modes)
                events = await finished(client, "f")
                status = await client.find_job("f")
        finally:
            assert lab.stop() == 0
        windows = [event.data for event in events if isinstance(event, WindowEvent)]
        assert len(windows) == 10
        trace = read_trace(tmp_path / run / "state" / "traces" / "f" / "1" / "energy")
        scores = [result.score for result in status.results]
        found.append((windows, trace.edges, scores))
    assert found[0] == found[1]


async def test_energy_at_a_hundred_kilohertz_agrees_with_a_kilohertz(tmp_path: Path) -> None:
    """The same firmware on two monitors: each edge to 10 µs, or to a millisecond."""
    medians: dict[str, float] = {}
    for monitor in ("lpm01a", "ppk2"):
        (tmp_path / monitor).mkdir()
        one = ONE_EMULATED.format(mode="freeze").replace("seed", f'monitor = "{monitor}", seed')
        lab = Lab(tmp_path / monitor, one)
        lab.start()
        try:
            await lab.ready()
            async with lab.client() as client:
                asked = {"benchmark": "digits01", "modes": ["energy"], "energy_method": "mlcommons"}
                await client.send_request("submit", job="e", **asked)
                await finished(client, "e")
                status = await client.find_job("e")
        finally:
            assert lab.stop() == 0
        assert status.verdict == "pass", status.reason
        score = status.results[0].score
        assert score["median_energy_uj"] == score["median_energy_uj_mlcommons"]
        medians[monitor] = score["median_energy_uj_labd"]
        folder = tmp_path / monitor / "state" / "traces" / "e" / "1"
        assert read_trace(folder / "energy").sample_rate_hz == (1e5 if monitor == "ppk2" else 1e3)
        [task] = find_tasks([folder])
        assert [(found.mode, found.agrees) for found in rescore_folder(task)] == [("energy", True)]
    assert medians["ppk2"] == pytest.approx(medians["lpm01a"], rel=2e-4)
