"""Labs for system tests; every process started here is ended here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.lab import ONE_EMULATED, HandBench, Lab


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    """Makes labs; by default one emulated station."""
    labs: list[Lab] = []

    def make(stations: str = "", **more: Any) -> Lab:
        lab = Lab(tmp_path, stations or ONE_EMULATED.format(mode="freeze"), **more)
        labs.append(lab)
        return lab

    yield make
    for lab in labs:
        lab.stop()


@pytest.fixture
def hand_bench(tmp_path: Path) -> Iterator[HandBench]:
    """An emulated bench that labd does not own."""
    bench = HandBench(tmp_path)
    bench.start()
    yield bench
    bench.stop()
