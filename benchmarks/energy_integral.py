"""Energy of a 10 s window at 1 MS/s, by every method, beside a plain Python sum.

python benchmarks/energy_integral.py
"""

import time

import numpy as np

from labd.core.model import ClockCheck, Edge, EnergyMethod, StreamFormat
from labd.core.recording import Recording
from labd.core.windows import Batch, energies_by_method, energy_window

RATE_HZ = 1_000_000
FORMAT = StreamFormat(float(RATE_HZ), 0.5 / RATE_HZ, 50.0, "power", timestamp_line="gpi0")
FIRST, SECOND = 20_000.25, 10_020_000.75
PLAIN_SAMPLES = 1_000_000


def plain(power_w: list[float], first: float, second: float) -> float:
    """Return the same integral by a plain loop, in µJ."""
    total = 0.0
    for k in range(int(first), int(second) + 1):
        share = min(k + 1, second) - max(k, first)
        total += power_w[k] * share
    return total / RATE_HZ * 1e6


def best_s(work: object, *args: object) -> float:
    """Return the shortest of five runs, in seconds."""
    found = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        work(*args)  # type: ignore[operator]
        found = min(found, time.perf_counter() - start)
    return found


def main() -> None:
    power_w = np.random.default_rng(1).uniform(0.01, 0.02, 10_100_000)
    recording = Recording(FORMAT, power_w, (), ())
    edges = [Edge(at, "gpi0", rising=False) for at in (FIRST, SECOND)]
    check = ClockCheck("none", None, 0.0)
    integral = best_s(recording.energy_uj, FIRST, SECOND)
    every = best_s(energies_by_method, recording, FIRST, SECOND)
    span = (0, 10_100_000)
    window = best_s(energy_window, Batch(1, "a", 50), recording, edges, span, check)
    few = power_w[: PLAIN_SAMPLES + 1].tolist()
    slow = best_s(plain, few, 0.25, PLAIN_SAMPLES - 0.25) * 10
    exact = plain(few, 0.25, PLAIN_SAMPLES - 0.25)
    ours = energies_by_method(recording, 0.25, PLAIN_SAMPLES - 0.25)[EnergyMethod.LABD].energy_uj
    assert abs(ours - exact) < 1e-9 * exact, (ours, exact)
    print(f"10 s at 1 MS/s, the integral only:          {integral * 1e3:8.1f} ms")
    print(f"10 s at 1 MS/s, all three methods:          {every * 1e3:8.1f} ms")
    print(f"10 s at 1 MS/s, window with checks, charge: {window * 1e3:8.1f} ms")
    print(f"10 s at 1 MS/s, plain Python (from 1 s):    {slow * 1e3:8.1f} ms")
    print(f"ratio, integral: {slow / integral:.0f}")


if __name__ == "__main__":
    main()
