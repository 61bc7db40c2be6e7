"""The PPK2's table in stations.toml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from drivers.base.interfaces import MonitorConfig

SUPPLY_MV = range(800, 5001)
LINES = ("d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7")


class Ppk2Config(MonitorConfig):
    """A Power Profiler Kit II on USB."""

    port: str = Field(description="its device, best from /dev/serial/by-id", min_length=1)
    mode: Literal["source", "ampere"] = Field(
        "source", description="whether it supplies the DUT, or measures in another supply's line"
    )
    lines: tuple[str, ...] = Field(
        ("d0",), description="its logic inputs that are wired; others float and chatter"
    )
    timestamp_line: str = Field("d0", description="the one with the DUT's timestamp pin")
    spike_filter: bool = Field(
        default=True,
        description="smooth the three samples after a change of range, as Nordic's software does",
    )
    answer_s: float = Field(2.0, gt=0, le=60, description="longest wait for an answer, seconds")

    @property
    def supply_range_mv(self) -> tuple[int, int]:
        """What it supplies, or switches where another supply feeds the DUT."""
        return SUPPLY_MV[0], SUPPLY_MV[-1]

    @field_validator("lines")
    @classmethod
    def _check_lines(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [line for line in lines if line not in LINES]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: the instrument has {', '.join(LINES)}")
        if len(set(lines)) != len(lines):
            raise ValueError("a line is named twice")
        return tuple(sorted(lines))

    @model_validator(mode="after")
    def _check_timestamp_line(self) -> Ppk2Config:
        if self.timestamp_line not in self.lines:
            raise ValueError(
                f"timestamp_line {self.timestamp_line} is not one of lines, {', '.join(self.lines)}"
            )
        return self
