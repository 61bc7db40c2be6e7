"""What the tests of the power monitors share: open a monitor, pass time, read its stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from drivers.base.interfaces import Acquisition, Driver
from labd.core.model import Gap, Samples, StreamItem
from labd.simulation.instrument_cable import Cable, Device
from tests.contract.case import plugged

M = TypeVar("M", bound=Driver)
C = TypeVar("C", bound=Cable)


@asynccontextmanager
async def open_monitor(
    device: Device, cable: Callable[[Device], C], make: Callable[[C], M]
) -> AsyncGenerator[tuple[M, C]]:
    """The open monitor that ``make`` returns for the cable; closed unless it was unplugged."""
    async with plugged(device, cable) as port:
        monitor = make(port)
        await monitor.open()
        try:
            yield monitor, port
        finally:
            if port.plugged:
                await monitor.close()


# ---- time --------------------------------------------------------------------------------


class HandClock:
    """A clock that a driver and its simulated instrument share, moved by the test."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def ns(self) -> int:
        return round(self.now_s * 1e9)


async def pass_time(
    acquisition: Acquisition, clock: HandClock, seconds: float, step_s: float = 0.125
) -> None:
    """Advance the clock; every step brings new samples."""
    for _ in range(round(seconds / step_s)):
        clock.now_s += step_s
        await acquisition.wait_progress(2.0)


async def let_pass(clock: HandClock, seconds: float) -> None:
    """Advance the clock as a polling host does, with or without new samples."""
    for _ in range(round(seconds / 0.01)):
        clock.now_s += 0.01
        await asyncio.sleep(0.002)


async def progress_to(acquisition: Acquisition, samples: int, edges: int = 0) -> None:
    while acquisition.received_samples < samples or acquisition.edges_seen < edges:
        await acquisition.wait_progress(5.0)


# ---- the stream --------------------------------------------------------------------------


async def all_of(
    acquisition: Acquisition, seen: list[StreamItem] | None = None
) -> list[StreamItem]:
    """Everything the acquisition yields; a fault leaves what came before it in ``seen``."""
    seen = [] if seen is None else seen
    async for item in acquisition:
        seen.append(item)
    return seen


def only(kind: type, items: Sequence[StreamItem]) -> list[Any]:
    return [item for item in items if isinstance(item, kind)]


def runs_of(items: Sequence[StreamItem]) -> list[Samples | Gap]:
    """Samples and gaps, after checking that each index came once and in order."""
    runs = [item for item in items if isinstance(item, (Samples, Gap))]
    end = 0
    for run in runs:
        assert run.index == end
        assert run.end > end
        end = run.end
    return runs


def joined(items: Sequence[StreamItem]) -> Samples:
    """All samples in one; a quantity that none of them has is ``None``."""
    samples = [run for run in runs_of(items) if isinstance(run, Samples)]
    current = [run.current_a for run in samples if run.current_a is not None]
    voltage = [run.voltage_v for run in samples if run.voltage_v is not None]
    return Samples(
        0,
        np.concatenate([run.power_w for run in samples]),
        np.concatenate(current) if current else None,
        np.concatenate(voltage) if voltage else None,
    )


def by_index(items: Sequence[StreamItem], value: Callable[[Samples], Any]) -> NDArray[np.float64]:
    """A quantity of each sample, shape (n,), NaN in gaps."""
    return np.concatenate(
        [
            value(run) if isinstance(run, Samples) else np.full(run.count, np.nan)
            for run in runs_of(items)
        ]
    )
