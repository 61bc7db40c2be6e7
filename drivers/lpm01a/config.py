"""The LPM01A's table in stations.toml: which settings work together, and the alternatives."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from drivers.base.interfaces import MonitorConfig

SUPPLY_MV = range(1800, 3301)
ASCII_RATES_HZ = (1000, 2000, 5000)
BINARY_RATES_HZ = (*ASCII_RATES_HZ, 10_000, 20_000, 50_000, 100_000)
SHORT_ASCII = {10_000: "one second", 20_000: "half a second"}
ENERGY_TOP_HZ = 10_000
HIGH_CURRENT_HZ = (50_000, 100_000)
THRESHOLD_A = (100e-9, 50e-3)
SLOWEST_HZ = 1000
"""Two edges of ±1 ms in a window of 10 s: 0.02 %."""


class Lpm01aConfig(MonitorConfig):
    """An X-NUCLEO-LPM01A on USB."""

    port: str = Field(description="its device, best from /dev/serial/by-id", min_length=1)
    format: Literal["ascii", "binary"] = Field(
        "ascii",
        description="ascii marks the DUT's edges and ends at 5 kHz, binary reaches 100 kHz and "
        "leaves the edges to the I/O manager",
    )
    rate_hz: int = Field(1000, description="samples per second, 1000 as in the official settings")
    output: Literal["energy", "current"] = Field(
        "energy",
        description="energy integrated over each sample period, or current",
        validate_default=True,
    )
    function_mode: Literal["optim", "high"] = Field(
        "optim", description="all of the range, or 30 µA to 10 mA at 50 and 100 kHz"
    )
    threshold_a: float | None = Field(
        None, description="current above which its LED and D2, D3 signal; 0 never"
    )
    answer_s: float = Field(5.0, gt=0, le=60, description="longest wait for an answer, seconds")
    restart_s: float = Field(
        15.0, ge=0, le=60, description="how long a restart may take, seconds; 0 never restarts it"
    )

    @property
    def sees_timestamps(self) -> bool:
        """The binary stream has no place for events."""
        return self.format == "ascii"

    @property
    def supply_range_mv(self) -> tuple[int, int]:
        """See :class:`drivers.base.interfaces.MonitorConfig`."""
        return SUPPLY_MV[0], SUPPLY_MV[-1]

    @field_validator("rate_hz")
    @classmethod
    def _check_rate(cls, rate_hz: int, info: ValidationInfo) -> int:
        if rate_hz < SLOWEST_HZ:
            raise ValueError(
                f"at {rate_hz} Hz a window's edges, known to one sample, are too imprecise; "
                f"use at least {SLOWEST_HZ} Hz"
            )
        if rate_hz not in BINARY_RATES_HZ:
            rates = ", ".join(map(str, BINARY_RATES_HZ))
            raise ValueError(f"{rate_hz} Hz is none of {rates} Hz")
        if info.data.get("format") == "binary" or rate_hz in ASCII_RATES_HZ:
            return rate_hz
        lasts = SHORT_ASCII.get(rate_hz)
        limit = f"lasts {lasts} at most" if lasts else "does not exist"
        raise ValueError(
            f'at {rate_hz} Hz the instrument\'s ASCII stream {limit}; use format = "binary", '
            "or 5000 Hz, the fastest without a limit"
        )

    @field_validator("output")
    @classmethod
    def _check_output(cls, output: str, info: ValidationInfo) -> str:
        rate_hz = info.data.get("rate_hz", 0)
        if output == "energy" and rate_hz > ENERGY_TOP_HZ:
            raise ValueError(
                f'at {rate_hz} Hz the instrument integrates no energy; use output = "current", '
                f"or {ENERGY_TOP_HZ} Hz at most"
            )
        return output

    @field_validator("function_mode")
    @classmethod
    def _check_function_mode(cls, mode: str, info: ValidationInfo) -> str:
        rate_hz = info.data.get("rate_hz")  # missing when it was refused itself
        if mode == "high" and rate_hz and rate_hz not in HIGH_CURRENT_HZ:
            raise ValueError(
                f"'high' works at 50000 and 100000 Hz, not at {rate_hz} Hz; use 'optim'"
            )
        return mode

    @field_validator("threshold_a")
    @classmethod
    def _check_threshold(cls, threshold_a: float | None) -> float | None:
        low, high = THRESHOLD_A
        if threshold_a and not low <= threshold_a <= high:
            raise ValueError(f"{threshold_a:g} A is not within {low:g} to {high:g} A; 0 is off")
        return threshold_a
