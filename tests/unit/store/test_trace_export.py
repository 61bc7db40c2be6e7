"""Exports read back with the programs they are for."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labd.core.errors import ConfigError
from labd.core.model import ClockCheck, Edge, Gap, Identity, Samples, StreamFormat, Window
from labd.store.traces import export_formats as module
from labd.store.traces.export_formats import TraceRange, choose_range, export_csv, export_parquet
from labd.store.traces.jls import export_jls
from labd.store.traces.reader import Trace, read_trace
from labd.store.traces.writer import TraceFile

FORMAT = StreamFormat(1000.0, 0.0005, 100.0, "energy", 3.0, "d7")
WHO = Identity("power", "LPM01A", "42", "1.0.6", simulated=True)
EDGES = (
    Edge(100.25, "d7", rising=False),
    Edge(100.75, "nano", rising=True),
    Edge(600.5, "d7", rising=False),
)
WINDOW = Window(
    2,
    "a.bin",
    10,
    0.5,
    20.0,
    ClockCheck("host", 0.5, 0.001),
    start_index=100.25,
    stop_index=600.5,
)
SAMPLES = 1000


def make(folder: Path, *, channels: bool = False, rate: float = 1000.0) -> Trace:
    power = np.linspace(0.001, 0.002, SAMPLES)
    items = [Samples(0, power, power / 3, np.full(SAMPLES, 3.0)) if channels else Samples(0, power)]
    with TraceFile(folder / "energy", replace(FORMAT, sample_rate_hz=rate), WHO) as file:
        file.write_items([*items, *EDGES, Gap(SAMPLES, 50, "lost")])
        after = np.full(10, 0.5)
        file.write_items(
            [
                Samples(SAMPLES + 50, after, after, after)
                if channels
                else Samples(SAMPLES + 50, after)
            ]
        )
        file.annotate_windows(
            [WINDOW, replace(WINDOW, number=3, start_index=None, stop_index=None)]
        )
    return read_trace(folder / "energy")


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    return make(tmp_path)


class Counted:
    """Adds up what was reported of the progress."""

    def __init__(self) -> None:
        self.samples = 0

    def __call__(self, samples: int) -> None:
        self.samples += samples


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    lines = path.read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    return comments, list(csv.DictReader(lines[len(comments) :]))


# ---- which part --------------------------------------------------------------------------


def test_a_part_is_a_window_or_seconds_or_both(trace: Trace) -> None:
    assert choose_range(trace) == TraceRange(0, 1060)
    assert choose_range(trace, window=2) == TraceRange(100, 600)
    assert choose_range(trace, start_s=0.2) == TraceRange(200, 1060)
    assert choose_range(trace, start_s=0, stop_s=0.3, decimate=4) == TraceRange(0, 300, 4)
    assert choose_range(trace, window=2, stop_s=0.3) == TraceRange(100, 300)
    assert choose_range(trace, window=2, stop_s=9, decimate=500) == TraceRange(100, 600, 500)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"window": 1}, "has no window 1 (it has 2)"),
        ({"window": 3}, "has no window 3 (it has 2)"),
        ({"start_s": 2.0}, "has no samples there (it is 1.06 s long)"),
        ({"start_s": 0.5, "stop_s": 0.4}, "start at 0.5 s is not before the end at 0.4 s"),
        ({"start_s": 0.5, "stop_s": 0.5}, "not before the end"),
        ({"start_s": math.nan}, "nan s is not in a trace (use 0 to 1.06, the trace's seconds)"),
        ({"stop_s": math.nan}, "nan s is not in a trace (use 0 to 1.06"),
        ({"start_s": math.inf}, "inf s is not in a trace"),
        ({"stop_s": math.inf}, "inf s is not in a trace"),
        ({"start_s": -0.1}, "-0.1 s is not in a trace"),
        ({"stop_s": -math.inf}, "-inf s is not in a trace"),
        ({"start_s": 1e300}, "no samples there"),
        ({"window": 99}, "has no window 99 (it has 2)"),
        ({"decimate": 1061}, "1061 samples per row, but there are 1060 (use 1 to 1060)"),
        ({"window": 2, "decimate": 501}, "501 samples per row, but there are 500"),
        ({"window": 2, "start_s": 0.7}, "no samples there"),
    ],
)
def test_what_is_not_there(trace: Trace, wanted: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_range(trace, **wanted)
    assert said in str(caught.value)


# ---- CSV ---------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [7, 1 << 17])
def test_csv_has_every_sample(
    trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(module, "PIECE_ROWS", piece)
    done = Counted()
    export_csv(trace, choose_range(trace), tmp_path / "out.csv", done)
    comments, rows = read_csv(tmp_path / "out.csv")
    assert comments[1] == "# instrument: power LPM01A 42 1.0.6, simulated"
    assert "sample rate: 1000.0 Hz" in comments[2]
    assert list(rows[0]) == ["index", "t_s", "power_w", "window", "edges"]
    assert [int(row["index"]) for row in rows] == list(range(1060)) == list(range(done.samples))
    assert float(rows[250]["t_s"]) == 0.25
    power = [np.float32(row["power_w"] or "nan") for row in rows]
    np.testing.assert_array_equal(power, trace.power_w)
    assert rows[1010]["power_w"] == ""
    assert {row["edges"] for row in rows} == {
        "",
        "d7:fall@100.25 nano:rise@100.75",
        "d7:fall@600.5",
    }
    assert rows[100]["edges"].startswith("d7:fall")
    assert [row["index"] for row in rows if row["window"] == "2"] == [
        str(i) for i in range(100, 600)
    ]


def test_csv_of_a_window_and_all_channels(tmp_path: Path) -> None:
    trace = make(tmp_path, channels=True)
    export_csv(trace, choose_range(trace, window=2), tmp_path / "out.csv", Counted())
    comments, rows = read_csv(tmp_path / "out.csv")
    assert list(rows[0])[2:5] == ["power_w", "current_a", "voltage_v"]
    assert len(rows) == 500
    assert rows[0]["voltage_v"] == "3"
    assert "100 to 599 of 1060" in comments[3]


def test_csv_decimated(trace: Trace, tmp_path: Path) -> None:
    done = Counted()
    export_csv(trace, choose_range(trace, start_s=0.01, decimate=64), tmp_path / "out.csv", done)
    _, rows = read_csv(tmp_path / "out.csv")
    names = ["samples", "power_min_w", "power_mean_w", "power_max_w"]
    assert list(rows[0]) == ["index", "t_s", *names, "window", "edges"]
    assert done.samples == 1050
    for row, start in zip(rows, range(10, 1060, 64), strict=True):
        some = trace.power_w[start : min(start + 64, 1060)].astype(float)
        known = some[~np.isnan(some)]
        figures = [len(known), known.min(), known.mean(), known.max()]
        assert int(row["index"]) == start
        assert [float(row[name]) for name in names] == pytest.approx(figures, rel=1e-8)
    assert rows[1]["edges"] == "d7:fall@100.25 nano:rise@100.75"


def test_csv_says_that_a_trace_is_incomplete(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "energy", FORMAT, WHO)
    file.write_items([Samples(0, np.ones(3))])
    trace = read_trace(tmp_path / "energy")
    export_csv(trace, choose_range(trace), tmp_path / "out.csv", Counted())
    assert read_csv(tmp_path / "out.csv")[0][-1].startswith("# incomplete")
    file.close()


def test_an_export_that_fails_leaves_nothing(trace: Trace, tmp_path: Path) -> None:
    def fail(_: int) -> None:
        raise OSError("no space")

    (tmp_path / "out.csv").write_text("before")
    with pytest.raises(OSError, match="no space"):
        export_csv(trace, choose_range(trace), tmp_path / "out.csv", fail)
    assert (tmp_path / "out.csv").read_text() == "before"
    assert not list(tmp_path.glob(".*"))


# ---- Parquet -----------------------------------------------------------------------------


def test_parquet_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs labd[export]")
    monkeypatch.setattr(module, "PIECE_ROWS", 300)
    trace = make(tmp_path, channels=True)
    export_parquet(trace, choose_range(trace), tmp_path / "out.parquet", Counted())
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names == [
        *("index", "t_s", "power_w", "current_a", "voltage_v", "window", "edges")
    ]
    assert str(table.schema.field("power_w").type) == "float"
    units = {each.name: (each.metadata or {}).get(b"unit") for each in table.schema}
    assert units == {
        **dict.fromkeys(("index", "window", "edges")),
        "t_s": b"s",
        "power_w": b"W",
        "current_a": b"A",
        "voltage_v": b"V",
    }
    power = table["power_w"].to_numpy()
    np.testing.assert_array_equal(power, trace.power_w)
    assert table["power_w"].null_count == 50
    assert table["window"].to_pylist()[99:101] == [None, 2]
    assert table["edges"].to_pylist()[600] == "d7:fall@600.5"
    assert json.loads(table.schema.metadata[b"labd"]) == trace.meta


def test_parquet_decimated(trace: Trace, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs labd[export]")
    export_parquet(trace, choose_range(trace, decimate=10), tmp_path / "out.parquet", Counted())
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.num_rows == 106
    assert table.schema.field("power_mean_w").metadata == {b"unit": b"W"}
    assert table.schema.field("samples").metadata is None
    assert table["samples"].to_pylist()[100] == 0
    assert table["power_mean_w"].to_pylist()[100] is None
    assert table["power_max_w"].to_pylist()[105] == 0.5


# ---- JLS ---------------------------------------------------------------------------------


class Jls:
    """A JLS file read with its own library."""

    def __init__(self, path: Path) -> None:
        pyjls = pytest.importorskip("pyjls", reason="needs labd[export]")
        self.reader = pyjls.Reader(str(path))
        self.signals = {each.name: each for each in self.reader.signals.values() if each.signal_id}
        [self.source] = [each for each in self.reader.sources.values() if each.source_id]
        self.annotations: list[tuple[int, int, str]] = []
        self.marks: list[list[int]] = []
        self.meta: dict[str, Any] = {}
        power = self.signals["power"].signal_id
        self.reader.annotations(power, 0, self._annotation)
        self.reader.utc(power, 0, lambda found: bool(self.marks.extend(found.tolist())))
        self.reader.user_data(self._user_data)
        self.types = pyjls.AnnotationType
        self.seconds: Callable[[int], float] = pyjls.jls_to_utc

    def values(self, name: str) -> np.ndarray:
        signal = self.signals[name]
        return self.reader.fsr(signal.signal_id, 0, signal.length)

    def _annotation(self, index: int, _y: float, kind: int, _group: int, text: str) -> bool:
        self.annotations.append((index, kind, text))
        return False

    def _user_data(self, _kind: int, data: str) -> bool:
        if data:
            self.meta = json.loads(data)
        return False


@pytest.fixture
def jls(tmp_path: Path) -> Callable[..., tuple[Trace, Jls]]:
    pytest.importorskip("pyjls", reason="needs labd[export]")

    def make_jls(*, rate: float = 1000.0, channels: bool = True, **part: Any) -> tuple[Trace, Jls]:
        trace = make(tmp_path, channels=channels, rate=rate)
        export_jls(trace, choose_range(trace, **part), tmp_path / "out.jls", Counted())
        return trace, Jls(tmp_path / "out.jls")

    return make_jls


def test_jls_comes_back(jls: Callable[..., tuple[Trace, Jls]]) -> None:
    trace, found = jls()
    assert sorted(found.signals) == ["current", "power", "voltage"]
    assert [found.signals[name].units for name in ("power", "current", "voltage")] == [*"WAV"]
    assert found.signals["power"].sample_rate == 1000
    for name, column in (("power", 0), ("current", 1), ("voltage", 2)):
        np.testing.assert_array_equal(found.values(name), trace.values[:, column])
    assert np.isnan(found.values("power")[1010])
    text, marker = found.types.TEXT, found.types.VMARKER
    assert found.annotations == [
        (100, text, "d7 falls"),
        (100, marker, "2a"),
        (100, text, "nano rises"),
        (600, text, "d7 falls"),
        (600, marker, "2b"),
    ]
    assert found.source.serial_number == "42"
    assert found.meta == trace.meta
    begun = datetime.fromisoformat(trace.meta["captures"][0]["core:datetime"]).timestamp()
    assert [index for index, _ in found.marks] == [0, 1059]
    assert found.seconds(found.marks[0][1]) == pytest.approx(begun, abs=1e-6)
    assert found.seconds(found.marks[1][1]) == pytest.approx(begun + 1.059, abs=1e-6)
    found.reader.close()


def test_jls_of_power_alone(jls: Callable[..., tuple[Trace, Jls]]) -> None:
    trace, found = jls(channels=False)
    assert list(found.signals) == ["power"]
    np.testing.assert_array_equal(found.values("power"), trace.power_w)
    found.reader.close()


def test_jls_of_a_window_counts_from_its_start(jls: Callable[..., tuple[Trace, Jls]]) -> None:
    trace, found = jls(window=2, rate=1000.4)
    np.testing.assert_array_equal(found.values("power"), trace.power_w[100:600])
    assert [index for index, _, _ in found.annotations] == [0, 0, 0]
    assert found.signals["power"].sample_rate == 1000
    first, last = (found.seconds(t) for _, t in found.marks)
    assert last - first == pytest.approx(499 / 1000.4, abs=1e-6)
    found.reader.close()


def test_what_jls_cannot_hold(tmp_path: Path) -> None:
    pytest.importorskip("pyjls", reason="needs labd[export]")
    trace = make(tmp_path)
    with pytest.raises(ConfigError, match="contain their own summaries"):
        export_jls(trace, TraceRange(0, 10, 2), tmp_path / "out.jls", Counted())
    slow = replace(trace, format=replace(trace.format, sample_rate_hz=0.4))
    with pytest.raises(ConfigError, match="at least one sample per second"):
        export_jls(slow, TraceRange(0, 10), tmp_path / "out.jls", Counted())
    assert not (tmp_path / "out.jls").exists()


@pytest.mark.parametrize(("write", "library"), [(export_parquet, "pyarrow"), (export_jls, "pyjls")])
def test_a_missing_library_is_named_with_the_way_to_get_it(
    trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any, library: str
) -> None:
    monkeypatch.setitem(module.importlib.import_module("sys").modules, library, None)
    with pytest.raises(ConfigError, match=rf"need {library}.*labd\[export\]"):
        write(trace, TraceRange(0, 10), tmp_path / "out", Counted())
    assert not (tmp_path / "out").exists()
