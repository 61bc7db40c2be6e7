from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labd.core.errors import ConfigError, LabdBug
from labd.core.model import (
    ClockCheck,
    Edge,
    Gap,
    Identity,
    Samples,
    StreamFormat,
    StreamItem,
    Window,
)
from labd.store.traces import TraceFile, read_trace, summarise

FORMAT = StreamFormat(1000.0, 0.0005, 100.0, "energy", 3.0)
WHO = Identity("power", "LPM01A", "42", "1.0.6", simulated=True)
WINDOW = Window(
    1,
    "a.bin",
    10,
    0.012,
    833.3,
    ClockCheck("host", 0.012, 0.001),
    start_index=2.5,
    stop_index=14.25,
)


def samples(index: int, *power: float) -> Samples:
    return Samples(index, np.array(power, np.float64))


def write(path: Path, *items: StreamItem) -> None:
    with TraceFile(path, FORMAT, WHO) as file:
        file.write(items)


def test_a_trace_comes_back_as_it_was_measured(tmp_path: Path) -> None:
    edges = (Edge(2.5, "d7", rising=False), Edge(14.25, "d7", rising=False))
    path = tmp_path / "traces" / "power"
    with TraceFile(path, FORMAT, WHO) as file:
        file.write([samples(0, 0.5, 0.25, 1.0), edges[0]])
        file.write([Gap(3, 2, "buffer overflow")])
        file.write([samples(5, *[0.125] * 10), edges[1]])
        file.mark_windows([WINDOW])
    trace = read_trace(path)
    expected = [0.5, 0.25, 1.0, np.nan, np.nan, *[0.125] * 10]
    np.testing.assert_array_equal(trace.power_w, np.array(expected, np.float32))
    assert trace.edges == edges
    assert trace.gaps == (Gap(3, 2, "buffer overflow"),)
    assert trace.windows[0]["start_index"] == 2.5
    assert trace.sample_rate_hz == 1000.0
    assert trace.complete


def test_the_files_are_sigmf(tmp_path: Path) -> None:
    path = tmp_path / "power"
    with TraceFile(path, FORMAT, WHO) as file:
        file.write([samples(0, 0.5, 0.25), Gap(2, 20, "lost"), Edge(2.5, "d7", rising=True)])
        file.mark_windows([WINDOW])
    data = (tmp_path / "power.sigmf-data").read_bytes()
    meta = json.loads((tmp_path / "power.sigmf-meta").read_text())
    assert data[:8] == bytes.fromhex("0000003f 0000803e")
    assert len(data) == 4 * 22
    described = meta["global"]
    assert described["core:datatype"] == "rf32_le"
    assert described["core:sample_rate"] == 1000.0
    assert described["core:sha512"] == hashlib.sha512(data).hexdigest()
    assert described["labd:instrument"]["serial"] == "42"
    assert described["labd:instrument"]["simulated"] is True
    assert meta["captures"][0]["core:sample_start"] == 0
    starts = [each["core:sample_start"] for each in meta["annotations"]]
    assert starts == sorted(starts) == [2, 2, 2]
    counts = {each["core:label"]: each.get("core:sample_count") for each in meta["annotations"]}
    assert counts == {"gap": 20, "d7 rises": None, "window 1": 13}


def test_samples_out_of_place_are_refused(tmp_path: Path) -> None:
    with TraceFile(tmp_path / "power", FORMAT, WHO) as file:
        file.write([samples(0, 1.0)])
        for wrong in (samples(0, 1.0), samples(2, 1.0), Gap(2, 1)):
            with pytest.raises(LabdBug, match="at sample 1 was given sample"):
                file.write([wrong])
        file.write([samples(1, 2.0)])
    assert list(read_trace(tmp_path / "power").power_w) == [1.0, 2.0]


def test_evidence_is_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "power", samples(0, 1.0))
    with pytest.raises(FileExistsError):
        write(tmp_path / "power", samples(0, 2.0))
    assert list(read_trace(tmp_path / "power").power_w) == [1.0]


def test_a_long_gap_needs_no_long_memory(tmp_path: Path) -> None:
    write(tmp_path / "power", Gap(0, 200_000), samples(200_000, 1.0))
    power = read_trace(tmp_path / "power").power_w
    assert len(power) == 200_001
    assert np.isnan(power[:-1]).all()


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "power", FORMAT, WHO)
    file.close()
    file.close()
    trace = read_trace(tmp_path / "power")
    assert trace.complete
    assert len(trace.power_w) == 0


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from labd.core.model import Identity, Samples, StreamFormat
from labd.store.traces import TraceFile
file = TraceFile(Path(sys.argv[1]), StreamFormat(1000.0, 0.0, 0.0, "energy"), Identity("p", "x"))
file.write([Samples(0, np.full(1000, 0.5))])
file._data.write(b"\\0\\0")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_trace_cut_off_by_a_kill_is_readable_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "power"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    trace = read_trace(path)
    assert not trace.complete
    assert list(trace.power_w) == [0.5] * 1000
    assert trace.meta["global"]["labd:instrument"]["name"] == "x"


@pytest.mark.parametrize(
    "meta", [None, "", "{}", "[]", '{"global": 3}', '{"global": {"core:datatype": "cf32_le"}}']
)
def test_what_is_no_trace(tmp_path: Path, meta: str | None) -> None:
    (tmp_path / "power.sigmf-data").write_bytes(b"")
    if meta is not None:
        (tmp_path / "power.sigmf-meta").write_text(meta)
    with pytest.raises(ConfigError):
        read_trace(tmp_path / "power")


def plain_summary(power: np.ndarray, points: int) -> list[tuple[float, float, float]]:
    points = min(points, len(power))
    bounds = [int(bound) for bound in np.linspace(0, len(power), points + 1)]
    found = []
    for start, stop in pairwise(bounds):
        known = [float(value) for value in power[start:stop] if not np.isnan(value)]
        low, high = (min(known), max(known)) if known else (np.nan, np.nan)
        found.append((low, sum(known) / len(known) if known else np.nan, high))
    return found


powers = arrays(
    np.float32,
    st.integers(0, 400),
    elements=st.floats(0, 2, width=32) | st.just(float("nan")),
)


@given(power=powers, points=st.integers(1, 500), piece=st.integers(1, 50))
def test_a_summary_is_exact(power: np.ndarray, points: int, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labd.store.traces._SUMMARY_SAMPLES", piece)
        found = summarise(power, points)
    expected = np.array(plain_summary(power, points)).reshape(-1, 3)
    np.testing.assert_array_equal(found[0], expected[:, 0])
    np.testing.assert_allclose(found[1], expected[:, 1], rtol=1e-9)
    np.testing.assert_array_equal(found[2], expected[:, 2])


def test_a_spike_of_one_sample_is_seen() -> None:
    power = np.full(1_000_000, 0.001, np.float32)
    power[654_321] = 0.5
    lows, means, highs = summarise(power, 1000)
    assert highs.argmax() == 654
    assert highs.max() == 0.5
    assert lows.max() < 0.0011
    assert len(means) == 1000
