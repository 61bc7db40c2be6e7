"""What is kept of a run that was killed, cancelled, or ended well."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable

import pytest

from labd.client.lab_client import LabClient
from labd.daemon.run_logs import FLUSH_S
from labd.store.compressed_log import read_compressed_log
from labd.wire.job_events import ProgressEvent
from tests.system.lab import Lab, finished

pytestmark = pytest.mark.timeout(600)


async def reach_inputs(client: LabClient, job: str, inputs: int) -> None:
    """Wait until this many inputs of a job have been classified."""
    async for event in client.follow_events(job):
        if isinstance(event, ProgressEvent) and event.data.done >= inputs:
            return


def commands(text: str) -> list[str]:
    lines = (line.split(" ", 3) for line in text.splitlines())
    return [content for _, _, direction, content in lines if direction == ">"]


async def test_a_transcript_survives_a_kill_and_is_complete_after_a_cancel(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab()
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        modes = ["accuracy", "performance"]
        await client.send_request("submit", job="k", benchmark="digits01", modes=modes)
        await reach_inputs(client, "k", 60)
        await asyncio.sleep(1.5 * FLUSH_S)
    lab.kill()
    run = lab.folder / "state" / "traces" / "k" / "1"
    sent = commands(read_compressed_log(run / "transcript.txt.gz"))
    assert sent.count("infer 1 0%") >= 60
    rows = read_compressed_log(run / "accuracy-inferences.csv.gz").splitlines()
    assert len(rows) >= 60
    assert all(len(row.split(",")) == 6 + 10 for row in rows)
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        await client.send_request("submit", job="c", benchmark="digits01", modes=modes)
        await reach_inputs(client, "c", 60)
        await client.send_request("cancel", job="c")
        await finished(client, "c")
    cancelled = lab.folder / "state" / "traces" / "c" / "1" / "transcript.txt.gz"
    again = gzip.decompress(cancelled.read_bytes()).decode()
    assert commands(again).count("infer 1 0%") >= 60
    assert again.splitlines()[-1].endswith(" # closed")
    shown = lab.labctl("show", "c").stdout
    assert "files: what the attempt wrote until it ended" in shown
    assert "in traces/c/1 of the daemon's state directory" in shown


async def test_a_result_names_what_was_measured_and_what_is_kept(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab()
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        await client.send_request("submit", job="a", benchmark="digits01")
        await finished(client, "a")
    shown = json.loads(lab.labctl("show", "a", "--json").stdout)
    results = {e["data"]["mode"]: e["data"] for e in shown["events"] if e["type"] == "result"}
    folder = lab.folder / "state" / results["energy"]["details"]["folder"]
    for mode, result in results.items():
        details = result["details"]
        assert result["verdict"] == "pass", result["reasons"]
        assert details["model"] == "digits01"
        assert len(details["firmware_sha256"]) == 64
        assert (folder / details["transcript"]).is_file(), mode
    rows = read_compressed_log(folder / results["accuracy"]["details"]["inferences"]).splitlines()
    assert len(rows) == 360
    counts = results["energy"]["details"]["monitor_counts"]
    assert counts["gaps"] <= 1  # the samples after the last time stamp
    assert counts["confirmed_samples"] > 50_000
    assert counts["confirmed_samples"] + counts["lost_samples"] == counts["received_samples"]
    assert counts["confirmed_timestamps"] == counts["received_timestamps"] >= 12
    assert counts["time_stamps"] > 50
    windows = [event["data"] for event in shown["events"] if event["type"] == "window"]
    assert all(len(window["outputs"]) == 10 for window in windows)
    assert [bool(window["laps_us"]) for window in windows] == [True] * 5 + [False] * 5
    text = lab.labctl("show", "a").stdout
    assert "measured: model digits01, firmware digits01-performance.elf, SHA-256 " in text
    assert "files: transcript.txt.gz, accuracy-outputs.csv, accuracy-inferences.csv.gz" in text
