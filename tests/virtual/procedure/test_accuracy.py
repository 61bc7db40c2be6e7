"""Accuracy mode on a simulated DUT: what a dispute needs is kept."""

from __future__ import annotations

import csv
import gzip
from datetime import UTC, datetime
from pathlib import Path

from labd.core.model import Mode
from labd.daemon.run_recorder import RunEvidence
from labd.procedure.accuracy import measure_accuracy
from labd.procedure.run import provenance_of_run
from labd.simulation.instruments.reference_dut import SimulatedDut
from tests.virtual.procedure.dut_station import open_dut_run


def read_lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


async def test_every_inference_of_every_window_is_kept(tmp_path: Path) -> None:
    dut = SimulatedDut(random_results=True)
    async with open_dut_run(dut, tmp_path, inputs=3, windows=2, mode=Mode.ACCURACY) as (run, _):
        result = await measure_accuracy(run)
        assert isinstance(run.evidence, RunEvidence)
    assert result.details.inferences == "accuracy-inferences.csv.gz"
    rows = list(csv.reader(read_lines(tmp_path / "run" / "accuracy-inferences.csv.gz")))
    assert [row[:2] for row in rows] == [
        [f"tst_{number}.bin", window] for number in range(3) for window in "12"
    ]
    for row in rows:
        start_ns, done_ns, start_us, stop_us = map(int, row[2:6])
        assert start_ns <= done_ns
        assert stop_us - start_us == dut.us_per_inference
        assert len(row[6:]) == 12
    means = csv.reader((tmp_path / "run" / "accuracy-outputs.csv").read_text().splitlines())
    for number, mean in enumerate(means):
        of_file = [[float(x) for x in row[6:]] for row in rows[2 * number : 2 * number + 2]]
        expected = [sum(pair) / 2 for pair in zip(*of_file, strict=True)]
        assert [float(x) for x in mean[2:]] == expected


async def test_the_transcript_has_both_directions_of_the_whole_dialogue(tmp_path: Path) -> None:
    dut = SimulatedDut()
    async with open_dut_run(dut, tmp_path, inputs=2, mode=Mode.ACCURACY) as (run, _):
        await measure_accuracy(run)
        provenance = provenance_of_run(run)
    assert (provenance.model, provenance.dut) == ("kws01", run.ready.profile.name)
    assert provenance.profile == "ULPMark for tinyML Firmware V0.0.1"
    assert provenance.transcript == "transcript.txt.gz"
    assert provenance.folder is not None
    assert provenance.folder.endswith("/run")
    lines = read_lines(tmp_path / "run" / "transcript.txt.gz")
    fields = [line.split(" ", 3) for line in lines]
    assert {device for _, device, _, _ in fields} == {"serial-dut"}
    times = [int(t_ns) for t_ns, *_ in fields]
    assert times == sorted(times)
    sent = [text.removesuffix("%") for _, _, direction, text in fields if direction == ">"]
    assert sent == dut.commands
    received = [text for _, _, direction, text in fields if direction == "<"]
    assert received.count(r"m-load-done\r\n") == 2
    assert received[-2] == rf"m-results-[{'0.000,' * 11}1.000]\r\n"
    opened, closed = (text for _, _, direction, text in fields if direction == "#")
    at = datetime.fromisoformat(opened.partition(" at 115200 baud, UTC ")[2])
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
    assert closed == "closed"
