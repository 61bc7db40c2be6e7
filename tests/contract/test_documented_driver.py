"""The example of docs/writing-a-driver.md: its stream, and that the page shows what is tested."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from docs.examples.acme9000 import Acme9000, Acme9000Config, AcmeDecoder, checksum
from docs.examples.simulated_acme9000 import SimulatedAcme9000
from hypothesis import given
from hypothesis import strategies as st

from labd.core.model import Edge, Gap, Samples, StreamItem
from labd.simulation.instrument_cable import PtyCable
from tests.contract.acquisition import all_of, only, open_monitor, progress_to, runs_of

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-driver.md"


def stream(samples: int, lost: frozenset[int] = frozenset(), edges: int = 0) -> bytes:
    """The bytes of an acquisition; sample k is k µA, an edge follows each of the first samples."""
    texts: list[str] = []
    for k in range(samples):
        texts += [] if k in lost else [f"s {k % 10_000} {k * 1e-6:.6g}"]
        texts += ["t"] if k < edges else []
    texts.append(f"end {samples}")
    return "".join(f"{text}*{checksum(text)}\n" for text in texts).encode("ascii")


def decoded(data: bytes, cuts: list[int]) -> list[StreamItem]:
    decoder = AcmeDecoder(3.0)
    places = [0, *sorted(cuts), len(data)]
    items: list[StreamItem] = []
    for start, stop in pairwise(places):
        items += decoder.feed(data[start:stop])
    return items


def numbers(items: list[StreamItem]) -> dict[int, float]:
    return {
        item.index + k: value
        for item in items
        if isinstance(item, Samples)
        for k, value in enumerate(item.power_w)
    }


@given(st.lists(st.integers(0, 900), max_size=8))
def test_any_chunking_gives_the_same_samples(cuts: list[int]) -> None:
    items = decoded(stream(40, edges=3), cuts)
    assert numbers(items) == pytest.approx({k: 3e-6 * k for k in range(40)})
    assert [edge.index for edge in only(Edge, items)] == [1.0, 2.0, 3.0]


@given(st.frozensets(st.integers(1, 39)))
def test_lost_samples_are_gaps_and_never_numbers(lost: frozenset[int]) -> None:
    items = decoded(stream(40, lost), [])
    assert numbers(items) == pytest.approx({k: 3e-6 * k for k in range(40) if k not in lost})
    assert sum(gap.count for gap in only(Gap, items)) == len(lost)
    runs_of(items)


@given(st.integers(0, 600), st.integers(1, 255))
def test_a_damaged_byte_never_makes_a_number(place: int, flip: int) -> None:
    data = bytearray(stream(40, edges=2))
    data[place % len(data)] ^= flip
    got = numbers(decoded(bytes(data), []))
    assert all(value == pytest.approx(3e-6 * k) for k, value in got.items())


def test_an_edge_beside_a_gap_does_not_count() -> None:
    items = decoded(stream(10, lost=frozenset({1}), edges=1), [])
    assert only(Edge, items) == []


async def test_an_acquisition_delivers_samples_edges_and_gaps() -> None:
    device = SimulatedAcme9000()
    async with open_monitor(
        device, PtyCable, lambda port: Acme9000(Acme9000Config(port=port.path))
    ) as (monitor, _):
        await monitor.set_dut_supply(3000)
        async with monitor.acquire() as acquisition:
            device.produce(2e-3, 100)
            device.edge()
            device.produce(2e-3, 50)
            device.lose = 3
            device.produce(2e-3, 50)
            await progress_to(acquisition, 201, edges=1)
        items = await all_of(acquisition)
    assert [(gap.index, gap.count) for gap in only(Gap, items)] == [(151, 3)]
    assert [edge.index for edge in only(Edge, items)] == [101.0]
    assert numbers(items)[150] == pytest.approx(6e-3)
    assert runs_of(items)[-1].end == 201


def test_the_page_shows_the_files_that_are_tested() -> None:
    page = PAGE.read_text()
    for name in ("acme9000.py", "simulated_acme9000.py", "cases/acme9000.py"):
        assert f"{name}\n" in page
