"""Summaries from the pyramid against plain Python over every sample."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labd.store.traces.pyramid import PyramidFile, load_pyramid
from labd.store.traces.summary import LEVELS, NODE, NODE_SAMPLES, Pyramid


def plain_summary(
    power: np.ndarray, start: int, stop: int, points: int
) -> list[tuple[float, float, float, int]]:
    points = min(points, stop - start)
    bounds = [start + k * (stop - start) // points for k in range(points + 1)] if points else []
    found = []
    for first, last in pairwise(bounds):
        known = [float(value) for value in power[first:last] if not np.isnan(value)]
        low, high = (min(known), max(known)) if known else (np.nan, np.nan)
        mean = math.fsum(known) / len(known) if known else np.nan
        found.append((low, mean, high, len(known)))
    return found


def same(pyramid: Pyramid, start: int, stop: int, points: int, channel: int = 0) -> None:
    found = pyramid.summarise_range(start, stop, points, channel)
    plain = plain_summary(pyramid.values[:, channel], start, stop, points)
    expected = np.array(plain).reshape(-1, 4)
    np.testing.assert_array_equal(found.low, expected[:, 0])
    np.testing.assert_allclose(found.mean, expected[:, 1], rtol=1e-13)
    np.testing.assert_array_equal(found.high, expected[:, 2])
    np.testing.assert_array_equal(found.count, expected[:, 3])
    assert len(found.bounds) == len(expected) + 1


def written(folder: Path, values: np.ndarray, pieces: list[int]) -> Pyramid:
    """A pyramid from the disk, its samples given in pieces of these lengths."""
    file = PyramidFile(folder, values.shape[1])
    at = 0
    for piece in [*pieces, len(values)]:
        file.append_samples(values[at : at + piece])
        at += piece
    file.close()
    return load_pyramid(folder, values, live=False)


powers = arrays(
    np.float32,
    st.tuples(st.integers(0, 700), st.integers(1, 3)),
    elements=st.floats(0, 2, width=32) | st.just(float("nan")),
)


@given(
    values=powers,
    points=st.integers(1, 500),
    span=st.tuples(st.integers(0, 700), st.integers(0, 700)),
    channel=st.integers(0, 2),
)
def test_a_summary_is_exact(
    values: np.ndarray, points: int, span: tuple[int, int], channel: int
) -> None:
    start, stop = sorted(min(each, len(values)) for each in span)
    same(Pyramid.from_samples(values), start, stop, points, min(channel, values.shape[1] - 1))


@pytest.fixture(scope="module")
def long() -> np.ndarray:
    """A stretch with nodes on every level, a gap of many nodes and one of a single sample."""
    values = np.random.default_rng(5).random((2 * LEVELS[-1] + 70_000, 2)).astype("<f4")
    values[5_000:90_000] = np.nan
    values[400_123] = np.nan
    return values


@pytest.fixture(scope="module")
def kept(long: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    pieces = [1, 62, 1, 64, 5, 4096, 10_000, 262_144, 17]
    return written(tmp_path_factory.mktemp("pyramid") / "p.sigmf-pyramid", long, pieces)


def test_a_pyramid_from_the_disk_is_that_made_at_once(long: np.ndarray, kept: Pyramid) -> None:
    made = Pyramid.from_samples(long)
    for ours, theirs, size in zip(kept.levels, made.levels, LEVELS, strict=True):
        assert len(ours) == len(theirs) == len(long) // size
        for key in ("low", "high", "count"):
            np.testing.assert_array_equal(ours[key], theirs[key])
        np.testing.assert_allclose(ours["sum"], theirs["sum"], rtol=1e-13)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_long_summary_is_exact(kept: Pyramid, data: st.DataObject) -> None:
    whole = len(kept.values)
    start = data.draw(st.integers(0, whole))
    stop = data.draw(st.integers(start, whole) | st.integers(start, min(whole, start + 5000)))
    same(kept, start, stop, data.draw(st.sampled_from([1, 2, 7, 100, 3000])), 1)


def test_a_range_is_cut_to_what_there_is() -> None:
    pyramid = Pyramid.from_samples(np.ones((100, 1), "<f4"))
    found = pyramid.summarise_range(-5, 1000, 4)
    assert list(found.bounds) == [0, 25, 50, 75, 100]
    assert len(pyramid.summarise_range(60, 50, 4).mean) == 0
    assert len(pyramid.summarise_range(200, 300, 4).mean) == 0


def test_a_spike_of_one_sample_is_seen() -> None:
    power = np.full((1_000_000, 1), 0.001, np.float32)
    power[654_321] = 0.5
    found = Pyramid.from_samples(power).summarise_range(0, len(power), 1000)
    assert found.high.argmax() == 654
    assert found.high.max() == 0.5
    assert found.low.max() < 0.0011
    assert len(found.mean) == 1000


VALUES = np.arange(10_000, dtype="<f4").reshape(-1, 1)


def check(folder: Path, *, live: bool = False) -> None:
    pyramid = load_pyramid(folder, VALUES, live=live)
    same(pyramid, 0, len(VALUES), 7)
    same(pyramid, 60, 9_990, 30)


def damage_nothing(folder: Path) -> None:
    """As it was closed."""


def damage_missing(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def damage_level(folder: Path) -> None:
    (folder / str(LEVELS[1])).unlink()


def damage_short(folder: Path) -> None:
    path = folder / str(NODE_SAMPLES)
    path.write_bytes(path.read_bytes()[:-7])


def damage_unclosed(folder: Path) -> None:
    (folder / "whole").unlink()


def damage_zeros(folder: Path) -> None:
    """As a power cut leaves a file whose pages were never written."""
    path = folder / str(NODE_SAMPLES)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2] + bytes(size - size // 2))


def damage_other(folder: Path) -> None:
    """It belongs to other samples."""
    damage_missing(folder)
    written(folder, VALUES + 1, [])


@pytest.mark.parametrize(
    "damage",
    [
        damage_nothing,
        damage_missing,
        damage_level,
        damage_short,
        damage_unclosed,
        damage_zeros,
        damage_other,
    ],
)
def test_a_pyramid_that_is_wrong_is_made_anew_and_kept(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    folder = tmp_path / "p.sigmf-pyramid"
    written(folder, VALUES, [])
    before = (folder / str(NODE_SAMPLES)).read_bytes()
    damage(folder)
    check(folder)
    assert (folder / str(NODE_SAMPLES)).read_bytes() == before
    assert json.loads((folder / "whole").read_text()) == {"samples": 10_000, "channels": 1}
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_pyramid_that_cannot_be_kept_still_answers(tmp_path: Path) -> None:
    (tmp_path / "p.sigmf-pyramid").write_text("a file where the folder should be")
    check(tmp_path / "p.sigmf-pyramid")
    check(tmp_path / "nowhere" / "p.sigmf-pyramid")


def test_a_pyramid_still_being_written_is_left_alone(tmp_path: Path) -> None:
    """Its last nodes may be on their way, or ahead of the samples a reader has mapped."""
    folder = tmp_path / "p.sigmf-pyramid"
    file = PyramidFile(folder, 1)
    file.append_samples(VALUES[:9_000])
    check(folder, live=True)
    file.append_samples(np.concatenate([VALUES[9_000:], VALUES]))
    check(folder, live=True)
    assert not (folder / "whole").exists()
    file.close_incomplete()


def test_a_node_is_as_documented() -> None:
    assert NODE.itemsize == 24
    values = np.arange(64, dtype="<f4").reshape(-1, 1)
    values[3] = np.nan
    node = Pyramid.from_samples(values).levels[0].tobytes()
    assert (
        node
        == np.array([2016 - 3], "<f8").tobytes()
        + np.array([0, 63], "<f4").tobytes()
        + np.array([63, 0], "<u4").tobytes()
    )
