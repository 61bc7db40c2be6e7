"""Tables of every command on a narrow terminal: no id is broken, no line is too wide."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.cli import tables
from labd.cli.listing import Column, Listing, format_note
from labd.core.model import Mode, Verdict
from labd.core.retention import RunFiles
from labd.core.visible_text import make_visible
from labd.wire.messages import JobStatus, StationStatus
from labd.wire.results import WINDOW, MeasuredWindow

JOB = "digits01-1a2b3c4d"
PATH = "/dev/serial/by-id/usb-STMicroelectronics_STM32_STLink_066DFF515055657867-if02"
LONG_WHY = f"waiting for a station: virtual-1 is running; virtual-2 is bad (port {PATH} is missing)"


def job(**more: Any) -> JobStatus:
    whole = {
        "job": JOB,
        "user": "alice",
        "benchmark": "digits01",
        "modes": ("accuracy", "performance", "energy"),
        "priority": "normal",
        "state": "done",
        "verdict": "pass",
        "station": "virtual-1",
        "attempt": 1,
        "submitted_ns": 1,
        "updated_ns": 1,
        "next_seq": 9,
        "results": [
            {"mode": mode, "attempt": 1, "verdict": "pass", "score": score}
            for mode, score in (
                ("accuracy", {"top1_pct": 97.8}),
                ("performance", {"median_throughput_ips": 1290.358}),
                ("energy", {"median_energy_uj": 1254.773}),
            )
        ],
        "simulated": True,
        **more,
    }
    return JobStatus.model_validate_json(json.dumps(whole))


def queued(**more: Any) -> JobStatus:
    waits = {"state": "queued", "verdict": None, "station": "", "results": [], "simulated": False}
    return job(**(waits | {"waiting": LONG_WHY, "position": 12} | more))


def window() -> MeasuredWindow:
    whole = {
        "number": 1,
        "input_file": "a.bin",
        "inferences": 11949,
        "runtime_s": 10.507,
        "throughput_ips": 1190.32,
        "check": {"clock": "io-manager", "seconds": 10.50681, "tolerance_s": 0.009, "note": ""},
        "problems": [],
        "energy_per_inference_uj": 1054.8,
        "energy_uncertainty_uj": 9.905,
        "idle_power_uw": 1665.0,
        "not_counted": "repeated",
    }
    return MeasuredWindow.from_window(Mode.PERFORMANCE, WINDOW.validate_python(whole))


STATION = StationStatus.model_validate(
    {
        "station": "virtual-1",
        "host": "bench",
        "board": "nucleo-l4r5zi",
        "health": "bad",
        "activity": "running",
        "job": JOB,
        "why": LONG_WHY,
        "parts": dict.fromkeys(("dut", "io", "flasher", "power"), "a-driver"),
        "simulated": True,
        "updated_ns": 1,
    }
)
CHECKED = tables.StationCheck(
    station="virtual-1",
    board="nucleo-l4r5zi",
    emulated=True,
    voltage_mv=3000,
    parts={"dut": "serial-dut", "io": "mlcommons-interface", "power": "scpi-meter"},
    modes={"accuracy": "", "performance": "", "energy": "no way to see the DUT's timestamps"},
    warnings=[],
)
RUN = RunFiles(job=JOB, attempt=2, size_bytes=12_345_678, ended_ns=1)
TABLES = {
    "jobs": tables.make_jobs_table(
        [job(), queued(), job(verdict=Verdict.CANCELLED, reason="cancelled by ann: " + LONG_WHY)]
    ),
    "results": tables.make_results_table([job(), job(verdict="fail", reason=LONG_WHY)]),
    "stations": tables.make_stations_table([STATION]),
    "windows": tables.make_windows_table([window()]),
    "check": tables.make_check_table([CHECKED]),
    "runs": tables.make_runs_table([(RUN, "older than 90 days")], 10**15),
}


def lines_of(table: Listing, width: int) -> list[str]:
    return [line.plain for line in table.format_lines(width)]


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("name", TABLES)
def test_every_table_fits_and_breaks_no_word(name: str, width: int) -> None:
    table = TABLES[name]
    lines = lines_of(table, width)
    assert [line for line in lines if len(line) > width and PATH not in line] == []
    whole = {word for line in lines_of(table, 1000) for word in line.split()}
    assert {word for line in lines for word in line.split()} <= whole | set(lines[1:2])
    if name in {"jobs", "results", "stations", "runs"}:
        assert any(JOB in line for line in lines)


def test_what_decides_stays_on_80_columns() -> None:
    text = "\n".join(lines_of(TABLES["jobs"], 80))
    for word in ("queued #12", "97.8 %", "1290.358", "1254.773", "cancelled by ann", "is bad"):
        assert word in text
    assert "simulated" in "\n".join(lines_of(TABLES["results"], 80))
    assert "cannot run energy: no way" in "\n".join(lines_of(TABLES["check"], 80))


def test_the_longest_id_is_not_broken() -> None:
    long = "j" * 64
    for table in (
        tables.make_jobs_table([job(job=long)]),
        tables.make_results_table([job(job=long)]),
    ):
        assert any(line.startswith(long + "  ") for line in lines_of(table, 80))


def test_a_wide_terminal_shows_all_columns() -> None:
    [titles, *_] = lines_of(TABLES["jobs"], 200)
    every = "job user benchmark modes state station accuracy inf/s µJ/inf bench submitted"
    assert " ".join(titles.split()) == every


def test_columns_are_left_out_by_rank_and_when_they_are_empty() -> None:
    table = Listing(Column("a"), Column("b", rank=1), Column("c", rank=2), Column("d"))
    table.add_row("11", "22", "33", "", notes=["a note"])
    assert lines_of(table, 10) == ["a   b   c", "──────────", "11  22  33", "    a note"]
    assert lines_of(table, 9)[2] == "11  22"
    assert lines_of(table, 5)[2] == "11"
    assert lines_of(table, 1)[2] == "11"


@given(st.text(max_size=200), st.integers(20, 100))
def test_a_note_keeps_its_words(text: str, width: int) -> None:
    lines = [line.plain for line in format_note(text, width)]
    for line in lines:
        assert len(line) <= width or " " not in line.strip()
    assert all(make_visible(line) == line for line in lines)


def test_foreign_text_in_a_cell_stays_in_its_cell() -> None:
    table = Listing(Column("a"), Column("b"))
    table.add_row("x\ny\x1b[2J", "[red]")
    assert lines_of(table, 80)[2] == "x\\u000ay\\u001b[2J  [red]"
