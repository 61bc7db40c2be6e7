"""The official kws01 model and set, from .tflite to verdict, through the whole daemon."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labd.core.errors import LabdError
from labd.wire.job_events import Event
from labd.wire.results import ModeVerdict
from tests.system.lab import REPO, Lab, finished

SHARED = Path(os.environ.get("LABD_SHARED", REPO / ".." / "shared")).resolve()
MODEL = SHARED / "mlperf-tiny" / "models" / "kws01_int8.tflite"
SETS = SHARED / "mlperf-tiny" / "datasets"

needs_official = pytest.mark.skipif(
    not MODEL.is_file(), reason="the official models and sets are not here (LABD_SHARED)"
)


def build(folder: Path, name: str = "kws01") -> None:
    """Convert and build as the README says."""
    subprocess.run(
        [
            *(sys.executable, REPO / "firmware" / "tools" / "build.py"),
            *("--model", MODEL, "--name", name, "--out", folder / "firmware"),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )


def dataset_of(events: Sequence[Event]) -> dict[str, Any]:
    """The data set of the last result."""
    [*_, data] = [event.data for event in events if isinstance(event.data, ModeVerdict)]
    return data.model_dump(mode="json")["details"]["dataset"]


def make_part(folder: Path, files: int) -> None:
    """The first files of the official set, twice: as the whole list, and as a list of their own."""
    home = folder / "kws01"
    home.mkdir(parents=True)
    lines = (SETS / "kws01" / "y_labels.csv").read_text().splitlines(keepends=True)
    (home / "y_labels.csv").write_text("".join(lines))
    (home / "part.csv").write_text("".join(lines[:files]))
    for line in lines[:files]:
        name = line.split(",")[0]
        (home / name).write_bytes((SETS / "kws01" / name).read_bytes())


@needs_official
@pytest.mark.timeout(300)
async def test_an_own_variant_runs_on_a_part_of_the_set_and_is_never_official(
    make_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    make_part(tmp_path / "sets", 12)
    lab = make_lab(datasets=[tmp_path / "sets"])
    build(lab.folder, "kws01-mine")
    lab.start()
    await lab.ready()
    asked = {"benchmark": "kws01", "modes": ["accuracy"], "firmware": "kws01-mine"}
    async with lab.client() as client:
        with pytest.raises(LabdError, match="988 of 1000 inputs are missing in"):
            await client.send_request("submit", job="whole", **asked)
        reply = await client.send_request("submit", job="part", labels="part.csv", **asked)
        assert "queued; unofficial data set: 12 files, the official set holds 1000" in reply.text
        events = await finished(client, "part", 100)
        assert events[-1].data.verdict == "invalid"
        notes = [event.data.text for event in events if event.type == "note"]
        assert "the verdict will be invalid" in notes
        assert "12 files, the official set holds 1000" in events[-1].data.reason
        await client.send_request("submit", job="own", labels="part.csv", custom_data=True, **asked)
        events = await finished(client, "own", 100)
        status = await client.find_job("own")
    assert (events[-1].data.verdict, status.custom_data) == ("pass", True)
    assert dataset_of(events)["standing"] == "part"
    details = [e.data for e in events if isinstance(e.data, ModeVerdict)][-1].details
    assert (details.model, details.firmware) == ("kws01-mine", "kws01-mine-performance.elf")


@needs_official
@pytest.mark.timeout(900)
async def test_the_complete_official_set_is_read_as_tflite_micro_reads_it(
    make_lab: Callable[..., Lab],
) -> None:
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    lab = make_lab(datasets=[SETS])
    build(lab.folder)
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        await client.send_request("submit", job="kws", benchmark="kws01", modes=["accuracy"])
        events = await finished(client, "kws", 500)
        status = await client.find_job("kws")
    [result] = status.results
    assert events[-1].data.verdict == "pass"
    assert result.score["inputs"] == 1000
    data = dataset_of(events)
    assert (data["standing"], data["sent"]) == ("official", 1000)
    assert data["text"].endswith("all inputs as published")
    assert round(result.score["top1_pct"] * 10) == 901
    golden = runtime.Interpreter.from_file(str(MODEL))
    outputs = lab.folder / "state" / "traces" / "kws" / "1" / "accuracy-outputs.csv"
    rows = list(csv.reader(outputs.read_text().splitlines()))
    assert len(rows) == 1000
    for file, _, *printed in rows:
        data = np.fromfile(SETS / "kws01" / file, np.int8).reshape(1, 49, 10, 1)
        golden.set_input(data, 0)
        golden.invoke()
        printed_int8 = np.array([round(float(share) * 256) - 128 for share in printed], np.int8)
        np.testing.assert_array_equal(printed_int8, golden.get_output(0).ravel(), file)
