"""What `labctl trace` prints of frames."""

from __future__ import annotations

import json

import numpy as np

from labd.cli.trace import COLUMNS, PowerLines, format_frame_json
from labd.wire.frames import FrameMaker


def test_a_frame_as_json() -> None:
    maker = FrameMaker(2, 1, 200.0)
    maker.add_samples(np.array([0.5, np.nan], np.float32))
    frame = maker.take_frame()
    assert frame is not None
    assert json.loads(format_frame_json(frame)) == {
        "attempt": 2,
        "trace": 1,
        "number": 0,
        "last": False,
        "first": 0,
        "stop": 2,
        "samples_per_point": 1,
        "sample_rate_hz": 200.0,
        "points_w": [[0.5, 0.5, 0.5], [None, None, None]],
    }


def lines_of(*powers: np.ndarray) -> list[str]:
    """A frame for each array, at 200 samples a second; the last one ends the trace."""
    maker, lines, found = FrameMaker(1, 0, 200.0), PowerLines(), []
    for number, power in enumerate(powers):
        maker.add_samples(power.astype(np.float32))
        frame = maker.take_frame(last=number == len(powers) - 1)
        assert frame is not None
        found += lines.add_frame(frame)
    return found


def test_a_line_is_about_a_second_and_scaled_to_the_highest_so_far() -> None:
    ramp = np.repeat(np.arange(8) / 7e3, 25)
    found = lines_of(ramp[:100], ramp[100:], np.full(200, 0.0005), np.full(100, np.nan))
    assert len(found) == 3
    assert found[0].startswith("      0.0 s  ▁▁▁▁▁▂▂▂▂▂▃▃▃▃▃▄▄▄▄▄▅▅▅▅▅▆▆▆▆▆▇▇▇▇▇█████  ")
    assert found[0].endswith("0 … 0.5 … 1 mW")
    assert found[1].startswith("      1.0 s  " + COLUMNS * "▅")
    assert found[2].endswith("nothing but lost samples")


def test_a_hole_between_frames_begins_a_new_line() -> None:
    maker, lines = FrameMaker(1, 0, 200.0), PowerLines()
    maker.add_samples(np.full(100, 0.001, np.float32))
    first = maker.take_frame()
    maker.add_samples(np.full(100, 0.001, np.float32))
    dropped = maker.take_frame()
    maker.add_samples(np.full(100, 0.002, np.float32))
    third = maker.take_frame()
    assert first is not None
    assert dropped is not None
    assert third is not None
    assert lines.add_frame(first) == []
    [line] = lines.add_frame(third)
    assert "0.0 s" in line
    assert line.endswith("1 … 1 … 1 mW")
