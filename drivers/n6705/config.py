"""Settings of an N6705: its table in stations.toml."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from drivers.base.interfaces import MonitorConfig
from drivers.scpi.record_stream import CurrentStepLine
from drivers.scpi.resource import Resource, VisaBackend

SLOTS = 4
LINE = "io"
SHORTEST_S = 102.4e-6  # per value of a record
LONGEST_S = 0.001


class N6705Config(MonitorConfig):
    """An N6705 that supplies the DUT; it serves this station alone."""

    resource: Resource
    visa: VisaBackend = "@py"
    channel: int = Field(1, ge=1, le=SLOTS, description="slot that supplies the DUT")
    period_s: float = Field(
        0.001,
        ge=SHORTEST_S,
        le=LONGEST_S,
        description="integration period; 1 ms as in the official settings, or shorter",
    )
    current_limit_a: float = Field(0.2, gt=0, le=20, description="current limit, ampere")
    max_mv: int = Field(3600, gt=0, le=60_000, description="highest supply a job may ask for")
    measure_voltage: bool = Field(
        default=False, description="log the voltage too, instead of assuming the set voltage"
    )
    io_channel: int | None = Field(
        None,
        ge=1,
        le=SLOTS,
        description="slot that supplies the level shifters, at the DUT's voltage",
    )
    io_current_limit_a: float = Field(0.2, gt=0, le=20, description="its current limit, ampere")
    io_threshold_a: float | None = Field(
        None,
        gt=0,
        description="its current between timestamp line high and low, ampere; enables timestamps "
        "from its log, whose pulses must last two integration periods",
    )
    io_hysteresis_a: float | None = Field(
        None, gt=0, description="band around the threshold; default: a quarter of the threshold"
    )
    answer_s: float = Field(5.0, gt=0, le=60, description="longest wait for an answer, seconds")

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.io_channel == self.channel:
            raise ValueError("io_channel is the slot that supplies the DUT; it must be another")
        if self.io_threshold_a is not None and self.io_channel is None:
            raise ValueError("io_threshold_a needs io_channel, the slot whose current it compares")
        if self.io_hysteresis_a is not None and self.io_threshold_a is None:
            raise ValueError("io_hysteresis_a needs io_threshold_a")
        values = 1 + self.measure_voltage + (self.io_threshold_a is not None)
        if self.period_s < values * SHORTEST_S:
            raise ValueError(
                f"period_s is {self.period_s:g}; with {values} values per record the shortest is "
                f"{values * SHORTEST_S:g} s"
            )
        return self

    @property
    def sees_timestamps(self) -> bool:
        """Whether the current of a second slot shows the timestamps."""
        return self.io_threshold_a is not None

    @property
    def supply_range_mv(self) -> tuple[int, int]:
        """Up to what the station allows; the module may have a lower limit."""
        return 1, self.max_mv

    @property
    def current_step_line(self) -> CurrentStepLine | None:
        """Reader of the timestamp line in the current of the second slot."""
        if self.io_threshold_a is None:
            return None
        band_a = self.io_hysteresis_a or self.io_threshold_a / 4
        return CurrentStepLine(LINE, self.io_threshold_a, band_a)
