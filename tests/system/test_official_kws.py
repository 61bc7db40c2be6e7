"""The official kws01 model and set, from .tflite to verdict, through the whole daemon."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.system.lab import REPO, Lab, finished

SHARED = Path(os.environ.get("LABD_SHARED", REPO / ".." / "shared")).resolve()
MODEL = SHARED / "mlperf-tiny" / "models" / "kws01_int8.tflite"
SETS = SHARED / "mlperf-tiny" / "datasets"

needs_official = pytest.mark.skipif(
    not MODEL.is_file(), reason="the official models and sets are not here (LABD_SHARED)"
)


def build(folder: Path) -> None:
    """Convert and build as the README says."""
    subprocess.run(
        [
            *(sys.executable, REPO / "firmware" / "tools" / "build.py"),
            *("--model", MODEL, "--name", "kws01", "--out", folder / "firmware"),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )


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
