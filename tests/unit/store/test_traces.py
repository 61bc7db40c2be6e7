from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.core.errors import ConfigError, LabdBug
from labd.core.model import (
    ClockCheck,
    Edge,
    Gap,
    Identity,
    Samples,
    StreamFormat,
    StreamItem,
    TimeMark,
    Window,
)
from labd.store.traces.reader import is_being_written, read_trace, seal_trace
from labd.store.traces.writer import TraceFile

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
        file.write_items(items)


def test_a_trace_comes_back_as_it_was_measured(tmp_path: Path) -> None:
    edges = (Edge(2.5, "d7", rising=False), Edge(14.25, "d7", rising=False))
    path = tmp_path / "traces" / "power"
    with TraceFile(path, FORMAT, WHO) as file:
        file.write_items([samples(0, 0.5, 0.25, 1.0), edges[0]])
        file.write_items([Gap(3, 2, "buffer overflow")])
        file.write_items([samples(5, *[0.125] * 10), edges[1]])
        file.annotate_windows([WINDOW])
    trace = read_trace(path)
    expected = [0.5, 0.25, 1.0, np.nan, np.nan, *[0.125] * 10]
    np.testing.assert_array_equal(trace.power_w, np.array(expected, np.float32))
    assert trace.edges == edges
    assert trace.gaps == (Gap(3, 2, "buffer overflow"),)
    assert trace.windows == (WINDOW,)
    assert trace.sample_rate_hz == 1000.0
    assert trace.complete


def test_the_files_are_sigmf(tmp_path: Path) -> None:
    path = tmp_path / "power"
    with TraceFile(path, FORMAT, WHO) as file:
        file.write_items([samples(0, 0.5, 0.25), Gap(2, 20, "lost"), Edge(2.5, "d7", rising=True)])
        file.annotate_windows([WINDOW])
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
    assert starts == sorted(starts) == [0, 2, 2, 2]
    counts = {each["core:label"]: each.get("core:sample_count") for each in meta["annotations"]}
    assert counts == {"LPM01A": 22, "gap": 20, "d7 rises": 1, "window 1": 13}
    whole = meta["annotations"][0]
    assert whole["core:comment"] == "power, serial 42, firmware 1.0.6, simulated"
    assert meta["captures"][0]["core:datetime"].endswith("Z")
    assert {each.name for each in tmp_path.iterdir()} == {
        "power.sigmf-data",
        "power.sigmf-meta",
        "power.sigmf-pyramid",
    }


def test_another_program_reads_the_trace_and_accepts_its_metadata(tmp_path: Path) -> None:
    sigmf = pytest.importorskip("sigmf", reason="the dev extra has it")
    path = tmp_path / "power"
    with TraceFile(path, FORMAT, WHO) as file:
        file.write_items([samples(0, 0.5, 0.25), Gap(2, 18, "lost"), Edge(2.5, "d7", rising=True)])
        file.annotate_windows([WINDOW])
    read = sigmf.fromfile(str(tmp_path / "power.sigmf-meta"))
    read.validate()
    np.testing.assert_array_equal(read.read_samples(), [0.5, 0.25, *[np.nan] * 18])
    assert len(read.get_annotations()) == 4


def test_another_program_finds_every_annotation_where_it_is(tmp_path: Path) -> None:
    sigmf = pytest.importorskip("sigmf", reason="the dev extra has it")
    unmeasured = replace(WINDOW, number=2, start_index=None, stop_index=None)
    columns = np.linspace(1, 2, 20), np.linspace(3, 4, 20), np.full(20, 3.0)
    with TraceFile(tmp_path / "power", FORMAT, WHO) as file:
        file.write_items([Samples(0, *columns), Edge(2.5, "d7", rising=False)])
        file.write_items([TimeMark(9.0, 1, 1, "host"), Edge(14.25, "d7", rising=False), Gap(20, 3)])
        file.annotate_windows([WINDOW, unmeasured])
    read = sigmf.fromfile(str(tmp_path / "power.sigmf-meta"))
    read.validate()
    np.testing.assert_array_equal(
        read.read_samples()[:20], np.array(columns, np.float32).transpose()
    )

    def labels(index: int) -> set[str]:
        found = {each["core:label"] for each in read.get_annotations(index)}
        assert "LPM01A" in found  # covers the whole recording
        return found - {"LPM01A"}

    assert [labels(index) for index in (0, 1, 19)] == [set()] * 3
    assert labels(2) == {"d7 falls", "window 1"}
    assert [labels(index) for index in (3, 8, 10, 13)] == [{"window 1"}] * 4
    assert labels(9) == {"host time", "window 1"}
    assert labels(14) == {"d7 falls", "window 1"}
    assert [labels(index) for index in (15, 20, 22)] == [set(), {"gap"}, {"gap"}]


def test_samples_out_of_place_are_refused(tmp_path: Path) -> None:
    with TraceFile(tmp_path / "power", FORMAT, WHO) as file:
        file.write_items([samples(0, 1.0)])
        for wrong in (samples(0, 1.0), samples(2, 1.0), Gap(2, 1)):
            with pytest.raises(LabdBug, match="at sample 1 was given sample"):
                file.write_items([wrong])
        file.write_items([samples(1, 2.0)])
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
from typing import Any
import numpy as np
from labd.core.model import Edge, Gap, Identity, Samples, StreamFormat
from labd.store.traces.writer import TraceFile
from labd.store.traces.reader import is_being_written
path = Path(sys.argv[1])
file = TraceFile(path, StreamFormat(1000.0, 0.0, 0.0, "energy"), Identity("p", "x"))
file.write_items([Samples(0, np.full(1000, 0.5)), Edge(12.5, "d7", rising=False)])
file.write_items([Gap(1000, 5, "lost"), Samples(1005, np.full(995, 0.25))])
assert is_being_written(path)
file._data.write(b"\\0\\0")
file._events.write(b'{"core:label": "d7 ri')
os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_writer(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_trace_cut_off_by_a_kill_is_readable_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "power"
    kill_a_writer(path)
    trace = read_trace(path)
    assert not trace.complete
    assert list(trace.power_w[:1000]) == [0.5] * 1000
    assert len(trace.power_w) == 2000
    assert trace.edges == (Edge(12.5, "d7", rising=False),)
    assert trace.gaps == (Gap(1000, 5, "lost"),)
    assert trace.meta["global"]["labd:instrument"]["name"] == "x"
    assert not is_being_written(path)
    found = trace.summarise_range(2, 0, 2000)
    assert list(found.mean) == [0.5, 0.25]
    assert list(found.count) == [1000, 995]


def test_a_killed_trace_is_sealed_for_any_reader(tmp_path: Path) -> None:
    path = tmp_path / "power"
    kill_a_writer(path)
    before = read_trace(path)
    assert seal_trace(path)
    assert not seal_trace(path)
    after = read_trace(path)
    assert not after.complete
    np.testing.assert_array_equal(after.values, before.values)
    assert (after.edges, after.gaps) == (before.edges, before.gaps)
    data = (tmp_path / "power.sigmf-data").read_bytes()
    meta = json.loads((tmp_path / "power.sigmf-meta").read_text())
    assert len(data) == 4 * 2000
    assert meta["global"]["core:sha512"] == hashlib.sha512(data).hexdigest()
    assert [each["core:label"] for each in meta["annotations"]] == ["x", "d7 falls", "gap"]
    assert not (tmp_path / "power.sigmf-events").exists()


def test_events_that_never_reached_the_disk_do_not_count(tmp_path: Path) -> None:
    """After a power cut a file may end in zeros."""
    path = tmp_path / "power"
    kill_a_writer(path)
    with (tmp_path / "power.sigmf-events").open("r+b") as file:
        file.seek(file.read().index(b"\n") + 1)
        file.write(bytes(40) + b"\n")
        file.seek(0, os.SEEK_END)
        later = {"core:sample_start": 3, "labd:edge": {"index": 3.0, "line": "d7", "rising": True}}
        file.write(b"\n" + json.dumps(later).encode() + b"\n")
    trace = read_trace(path)
    assert trace.edges == (Edge(12.5, "d7", rising=False),)
    assert trace.gaps == ()


def test_a_trace_is_readable_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "power"
    with TraceFile(path, FORMAT, WHO) as file:
        file.write_items([samples(0, *np.arange(10_000)), Edge(7.0, "d7", rising=True)])
        file.annotate_windows([WINDOW])
        file.annotate_windows([WINDOW, WINDOW])
        assert is_being_written(path)
        assert not seal_trace(path)
        trace = read_trace(path)
        assert not trace.complete
        assert trace.edges == (Edge(7.0, "d7", rising=True),)
        assert len(trace.windows) == 2
        assert list(trace.summarise_range(2).high) == [4999.0, 9999.0]
        assert not (tmp_path / "power.sigmf-pyramid" / "whole").exists()
        file.write_items([samples(10_000, 1.0)])
    assert not is_being_written(path)
    assert len(read_trace(path).windows) == 2


def test_current_and_voltage_are_kept_where_they_were_measured(tmp_path: Path) -> None:
    path = tmp_path / "power"
    power, current, voltage = np.array([[0.5, 0.75], [0.25, 0.375], [2.0, 2.0]])
    with TraceFile(path, FORMAT, WHO) as file:
        file.write_items([Gap(0, 1, "start"), Samples(1, power, current, voltage)])
        file.write_items([Samples(3, power, None, voltage)])
        with pytest.raises(LabdBug, match="given sample 9"):
            file.write_items([Samples(9, power, current)])
    trace = read_trace(path)
    assert trace.channels == ("power_w", "current_a", "voltage_v")
    np.testing.assert_array_equal(trace.power_w, [np.nan, 0.5, 0.75, 0.5, 0.75])
    np.testing.assert_array_equal(trace.current_a, [np.nan, 0.25, 0.375, np.nan, np.nan])
    np.testing.assert_array_equal(trace.voltage_v, [np.nan, 2.0, 2.0, 2.0, 2.0])
    assert trace.meta["global"]["core:num_channels"] == 3
    assert (tmp_path / "power.sigmf-data").stat().st_size == 5 * 12
    assert list(trace.summarise_range(1, channel="current_a").high) == [0.375]
    with pytest.raises(ConfigError, match="no charge"):
        trace.summarise_range(1, channel="charge")


def test_a_channel_cannot_appear_later(tmp_path: Path) -> None:
    with TraceFile(tmp_path / "power", FORMAT, WHO) as file:
        file.write_items([samples(0, 1.0)])
        with pytest.raises(LabdBug, match="current_a"):
            file.write_items([samples(1, 2.0), Samples(2, np.array([1.0]), np.array([1.0]))])
    trace = read_trace(tmp_path / "power")
    assert trace.current_a is None
    assert list(trace.power_w) == [1.0, 2.0]


def test_a_trace_of_nothing_but_a_gap(tmp_path: Path) -> None:
    write(tmp_path / "power", Gap(0, 3, "all of it"))
    trace = read_trace(tmp_path / "power")
    assert np.isnan(trace.power_w).all()
    assert len(trace.power_w) == 3


def test_a_run_that_failed_leaves_an_incomplete_trace(tmp_path: Path) -> None:
    path = tmp_path / "power"
    with pytest.raises(LabdBug), TraceFile(path, FORMAT, WHO) as file:
        file.write_items([samples(0, 1.0), Edge(0.5, "d7", rising=True), samples(7, 1.0)])
    trace = read_trace(path)
    assert not trace.complete
    assert trace.edges == (Edge(0.5, "d7", rising=True),)
    assert not (tmp_path / "power.sigmf-events").exists()


class FullDisk:
    """A file that takes some bytes of the next write and then refuses."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._refuse = False

    def write(self, data: memoryview) -> int:
        if self._refuse:
            raise OSError(28, "No space left on device")
        self._refuse = True
        return self._file.write(data[:6])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_full_disk_leaves_what_was_written_and_nothing_shifted(tmp_path: Path) -> None:
    path = tmp_path / "power"
    file = TraceFile(path, FORMAT, WHO)
    file.write_items([samples(0, 1.0, 2.0)])
    good = file._data
    file._data = FullDisk(good)  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space"):
        file.write_items([samples(2, 3.0, 4.0)])
    file._data = good
    with pytest.raises(OSError, match="No space"):
        file.write_items([samples(4, 5.0)])
    file.close()
    trace = read_trace(path)
    assert list(trace.power_w) == [1.0, 2.0]
    assert not trace.complete
    assert list(trace.summarise_range(1).mean) == [1.5]


@given(lengths=st.lists(st.integers(0, 90_000), max_size=6), cut=st.integers(1, 3))
def test_however_it_is_cut_the_trace_is_the_same(lengths: list[int], cut: int) -> None:
    """One item a write, or all at once; blocks larger than one write included."""
    items: list[StreamItem] = []
    at = 0
    for number, length in enumerate(lengths):
        if number % 2:
            items.append(Samples(at, np.linspace(0, number, length)))
        elif length:
            items.append(Gap(at, length))
        at += length
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for name, step in (("whole", 100), ("pieces", cut)):
            seen: list[np.ndarray] = []
            with TraceFile(Path(folder) / name, FORMAT, WHO, watch=seen.append) as file:
                for first in range(0, len(items), step):
                    file.write_items(items[first : first + step])
            trace = read_trace(Path(folder) / name)
            found.append((trace.values.tobytes(), trace.gaps))
            assert np.concatenate([*seen, np.empty(0, "<f4")]).tobytes() == found[-1][0]
        assert found[0] == found[1]
        assert len(found[0][0]) == 4 * at


@pytest.mark.parametrize(
    "meta", [None, "", "{}", "[]", '{"global": 3}', '{"global": {"core:datatype": "cf32_le"}}']
)
def test_what_is_no_trace(tmp_path: Path, meta: str | None) -> None:
    (tmp_path / "power.sigmf-data").write_bytes(b"")
    if meta is not None:
        (tmp_path / "power.sigmf-meta").write_text(meta)
    with pytest.raises(ConfigError):
        read_trace(tmp_path / "power")
