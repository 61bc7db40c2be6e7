"""Settings of a SCPI meter: the table of its commands in stations.toml."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from drivers.base.interfaces import MonitorConfig
from drivers.scpi.codec import ByteOrder, NumberFormat
from drivers.scpi.resource import Resource, VisaBackend

SLOWEST_HZ = 1000
"""Two edges of ±1 ms in a window of 10 s: 0.02 %."""

FASTEST_HZ = 1_000_000

# ---- commands with placeholders ----------------------------------------------------------


def placeholders_in(command: str) -> list[str]:
    """Return the names between braces in a command.

    Raises:
        ValueError: a brace without its partner, or more than a name and a format in a pair.
    """
    names: list[str] = []
    for _, name, form, conversion in string.Formatter().parse(command):
        if name is None:
            continue
        if not name.isidentifier() or conversion or (form and "{" in form):
            raise ValueError(f"{command!r}: a placeholder is a name, such as {{volts}}")
        names.append(name)
    return names


def fill_placeholders(command: str, values: Mapping[str, float]) -> str:
    """Return a command with its placeholders replaced; ``{volts:.3f}`` formats a number.

    Raises:
        ValueError: a format does not fit a number.
        KeyError: a placeholder has no value.
    """
    parts: list[str] = []
    for plain, name, form, _ in string.Formatter().parse(command):
        parts.append(plain)
        if name is not None:
            parts.append(format(values[name], form or ".10g"))
    return "".join(parts)


def _check_is_command(command: str) -> str:
    if not command.isascii() or not command.strip() or "\n" in command:
        raise ValueError(f"{command!r} is no command: one line of plain characters")
    placeholders_in(command)
    return command


def _check_no_query(command: str) -> str:
    outside = command.replace("'", '"').split('"')[::2]
    if any("?" in part for part in outside):
        raise ValueError(f"{command!r} asks for an answer that is never read")
    return command


def _check_is_query(command: str) -> str:
    if "?" not in command:
        raise ValueError(f"{command!r} asks for nothing: a query has a question mark")
    return command


def _check_placeholders(*names: str) -> AfterValidator:
    """Fill the placeholders for a trial, so that a wrong one is reported with the table."""
    values = {name: _EXAMPLES[name] for name in names}

    def check_filled(command: str) -> str:
        for name in placeholders_in(command):
            if name not in values:
                raise ValueError(f"unknown placeholder {{{name}}}; known: {', '.join(values)}")
        try:
            fill_placeholders(command, values)
        except ValueError as exc:
            raise ValueError(f"{command!r}: {exc}") from exc
        return command

    return AfterValidator(check_filled)


_EXAMPLES = {"rate_hz": 1000.0, "period_s": 0.001, "volts": 3.0, "millivolts": 3000, "readings": 9}
"""An example value of each placeholder."""

Command = Annotated[str, AfterValidator(_check_is_command), AfterValidator(_check_no_query)]
Query = Annotated[str, AfterValidator(_check_is_command), AfterValidator(_check_is_query)]
Ordinary = Annotated[Command, _check_placeholders("rate_hz", "period_s", "readings")]
Supplying = Annotated[
    Command, _check_placeholders("rate_hz", "period_s", "volts", "millivolts", "readings")
]
Reading = Annotated[Query, _check_placeholders("rate_hz", "period_s", "readings")]


# ---- the table ---------------------------------------------------------------------------


class ScpiMeterConfig(MonitorConfig):
    """A SCPI meter or source-measure unit."""

    resource: Resource
    visa: VisaBackend = "@py"
    expect: str = Field(
        min_length=1, description="what its *IDN? answer must contain, such as 'KEITHLEY'"
    )
    identify: Query = "*IDN?"
    rate_hz: float = Field(
        ge=SLOWEST_HZ, le=FASTEST_HZ, description="exact readings per second of its own clock"
    )
    quantity: Literal["current", "power"] = Field(
        "current", description="unit of a reading: ampere or watt"
    )
    scale: float = Field(1.0, description="factor from a reading to ampere or watt (shunt, sign)")
    voltage_mv: int | None = Field(
        None, gt=0, description="the DUT's supply, if another instrument supplies it"
    )
    setup: tuple[Ordinary, ...] = Field((), description="sent after opening")
    supply_on: tuple[Supplying, ...] = Field(
        (), description="powers the DUT; {volts} or {millivolts} is replaced by the voltage"
    )
    supply_off: tuple[Ordinary, ...] = Field((), description="switches the DUT off")
    supply_mv: tuple[int, int] = Field(
        (1800, 3600), description="lowest and highest voltage a job may ask for"
    )
    start: tuple[Ordinary, ...] = Field(min_length=1, description="starts measuring without gaps")
    read: Reading = Field(description="returns the readings since the last time")
    readings: int | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="most readings per answer; fewer mean that there are no more",
    )
    stop: tuple[Ordinary, ...] = Field((), description="stops measuring")
    check: str = Field("SYST:ERR?", description="reads the oldest error; '' without error queue")
    format: NumberFormat = "ascii"
    byte_order: ByteOrder = "big"
    buffer_s: float = Field(
        1.0, ge=0, le=600, description="seconds of readings that its memory holds at this rate"
    )
    poll_s: float = Field(0.07, gt=0, le=0.5, description="pause when it has no more readings")
    clock_ppm: float = Field(100.0, gt=0, le=500, description="tolerance of its clock")
    answer_s: float = Field(5.0, gt=0, le=60, description="longest wait for an answer, seconds")

    @property
    def sees_timestamps(self) -> bool:
        """False: a meter has no input for them."""
        return False

    @property
    def supply_range_mv(self) -> tuple[int, int] | None:
        """See :class:`drivers.base.interfaces.MonitorConfig`."""
        return self.supply_mv if self.can_supply_dut else None

    @property
    def can_supply_dut(self) -> bool:
        """Whether the table has commands to supply the DUT."""
        return bool(self.supply_on)

    def placeholder_values(self, voltage_mv: int | None = None) -> dict[str, float]:
        """Return the values of the placeholders."""
        values: dict[str, float] = {"rate_hz": self.rate_hz, "period_s": 1 / self.rate_hz}
        if self.readings:
            values["readings"] = self.readings
        if voltage_mv is not None:
            values |= {"volts": voltage_mv / 1000, "millivolts": voltage_mv}
        return values

    @model_validator(mode="after")
    def _check_table(self) -> Self:
        if bool(self.supply_on) != bool(self.supply_off):
            raise ValueError("supply_on needs supply_off, and the reverse: a DUT must go off again")
        if self.can_supply_dut and self.voltage_mv is not None:
            raise ValueError("voltage_mv is for a DUT that another supply feeds; leave it out")
        if self.quantity == "current" and not self.can_supply_dut and self.voltage_mv is None:
            raise ValueError(
                "power needs a voltage beside the current: give supply_on and supply_off, or "
                "voltage_mv"
            )
        if not 0 < self.supply_mv[0] <= self.supply_mv[1]:
            raise ValueError("supply_mv is the lowest and the highest voltage, in millivolts")
        if self.check and "?" not in self.check:
            raise ValueError(f"check is {self.check!r}, which asks for nothing")
        if self.scale == 0 or not np.isfinite(self.scale):
            raise ValueError("scale is a number other than 0")
        for place, command in self._named_commands():
            if not self.readings and "readings" in placeholders_in(command):
                raise ValueError(f"{place}: {{readings}} has no value: give `readings` too")
        return self

    def _named_commands(self) -> Iterator[tuple[str, str]]:
        yield "read", self.read
        for name in ("setup", "supply_on", "supply_off", "start", "stop"):
            for number, command in enumerate(getattr(self, name)):
                yield f"{name}[{number}]", command
