"""The LPM01A's settings as values: what each command may set, and what an acquisition may be."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from labd.simulation.instruments.lpm01a.sample_stream import AcquisitionPlan
from labd.simulation.virtual_time import PS_PER_S

FREQUENCIES = (
    *(100_000, 50_000, 20_000, 10_000, 5_000, 2_000, 1_000),
    *(500, 200, 100, 50, 20, 10, 5, 2, 1),
)
_ASCII_LIMITS_S = {10_000: Fraction(1), 20_000: Fraction(1, 2)}  # unlimited up to 5 kHz
_ENERGY_TOP_HZ = 10_000
_STATIC_HZ = 1
_UNITS = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(1000),
    "": Fraction(1),
}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(?:([numk])|([+-]\d{1,2}))?")


class RefusedError(Exception):
    """A command the instrument answers with ``error``; the text is the error's detail."""


@dataclass(frozen=True, slots=True)
class Lpm01aSettings:
    """What ``start`` starts with, and what happens to the supply; the firmware's defaults."""

    voltage_mv: int = 3300
    hz: int = 100
    acqtime_s: Fraction | None = Fraction(10)
    static: bool = False
    energy: bool = False
    binary: bool = False
    trigger_d7: bool = False
    trigdelay_s: Fraction = Fraction(1, 1000)
    mark_falls: bool = False
    power_auto: bool = True
    power_status: bool = False
    power_after: bool = True


def parse_number(text: str) -> Fraction:
    """``3300m``, ``3300-3``, ``5k``, ``2``: a number in the firmware's notations.

    Raises:
        RefusedError: it is none of them.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise RefusedError(f"'{text}' is not a number")
    digits, unit, power = match.groups()
    return Fraction(digits) * _UNITS[unit or ""] * Fraction(10) ** int(power or 0)


def parse_choice(text: str, *choices: str) -> str:
    """One of the words allowed.

    Raises:
        RefusedError: another one.
    """
    if text not in choices:
        raise RefusedError(f"Argument must be one of: {', '.join(choices)}")
    return text


def parse_number_between(text: str, low: Fraction | int, high: Fraction | int) -> Fraction:
    """A number in a closed range.

    Raises:
        RefusedError: outside, or no number.
    """
    value = parse_number(text)
    if not low <= value <= high:
        raise RefusedError(f"Argument out of range [{float(low):g}; {float(high):g}]")
    return value


def _set_frequency(settings: Lpm01aSettings, text: str) -> Lpm01aSettings:
    hertz = parse_number(text)
    if hertz not in FREQUENCIES:
        raise RefusedError("Argument not in the list of sampling frequencies")
    return replace(settings, hz=int(hertz))


def _set_acquisition_time(settings: Lpm01aSettings, text: str) -> Lpm01aSettings:
    seconds = None if text in ("inf", "0") else parse_number_between(text, Fraction(1, 10_000), 100)
    return replace(settings, acqtime_s=seconds)


def _set_acquisition_mode(settings: Lpm01aSettings, text: str) -> Lpm01aSettings:
    return replace(settings, static=parse_choice(text, "dyn", "stat") == "stat")


def _check_function_mode(settings: Lpm01aSettings, text: str) -> Lpm01aSettings:
    parse_choice(text, "optim", "high")  # an analog matter: the virtual front end is one range
    return settings


def _set_output_quantity(settings: Lpm01aSettings, text: str) -> Lpm01aSettings:
    return replace(settings, energy=parse_choice(text, "current", "energy") == "energy")


def _set_sample_format(settings: Lpm01aSettings, text: str) -> Lpm01aSettings:
    return replace(settings, binary=parse_choice(text, "ascii_dec", "bin_hexa") == "bin_hexa")


def _set_trigger_source(settings: Lpm01aSettings, text: str) -> Lpm01aSettings:
    return replace(settings, trigger_d7=parse_choice(text, "sw", "d7") == "d7")


def _set_trigger_delay(settings: Lpm01aSettings, text: str) -> Lpm01aSettings:
    return replace(settings, trigdelay_s=parse_number_between(text, 0, 30))


def _set_event_source(settings: Lpm01aSettings, text: str) -> Lpm01aSettings:
    parse_choice(text, "d7 fal")
    return replace(settings, mark_falls=True)


def _check_current_threshold(settings: Lpm01aSettings, text: str) -> Lpm01aSettings:
    if parse_number(text) != 0:  # drives D2/D3 and a LED: nothing hangs on them
        parse_number_between(text, Fraction(1, 10**7), Fraction(5, 100))
    return settings


def _set_power_after_acquisition(settings: Lpm01aSettings, text: str) -> Lpm01aSettings:
    return replace(settings, power_after=parse_choice(text, "on", "off") == "on")


SETTERS: dict[str, Callable[[Lpm01aSettings, str], Lpm01aSettings]] = {
    "freq": _set_frequency,
    "acqtime": _set_acquisition_time,
    "acqmode": _set_acquisition_mode,
    "funcmode": _check_function_mode,
    "output": _set_output_quantity,
    "format": _set_sample_format,
    "trigsrc": _set_trigger_source,
    "trigdelay": _set_trigger_delay,
    "eventsrc": _set_event_source,
    "currthres": _check_current_threshold,
    "pwrend": _set_power_after_acquisition,
}
"""Commands that only change a setting: (settings, argument) -> settings, or ``RefusedError``."""


def plan_acquisition(settings: Lpm01aSettings) -> AcquisitionPlan:
    """What ``start`` would do.

    Raises:
        RefusedError: the line could not carry it (limits for 3 686 400 baud).
    """
    if settings.static:
        return _make_plan(settings, _STATIC_HZ, 1)
    if settings.energy and settings.hz > _ENERGY_TOP_HZ:
        raise RefusedError(f"Output energy is limited to {_ENERGY_TOP_HZ} Hz")
    if not settings.binary:
        _check_ascii_limits(settings)
    samples = None
    if settings.acqtime_s is not None:
        samples = max(1, int(settings.acqtime_s * settings.hz))
    return _make_plan(settings, settings.hz, samples)


def _make_plan(settings: Lpm01aSettings, hz: int, samples: int | None) -> AcquisitionPlan:
    return AcquisitionPlan(
        hz,
        samples,
        energy=settings.energy,
        static=settings.static,
        mark_falls=settings.mark_falls and not settings.static,
        binary=settings.binary,
    )


def _check_ascii_limits(settings: Lpm01aSettings) -> None:
    if settings.hz > max(_ASCII_LIMITS_S):
        raise RefusedError(f"{settings.hz} Hz is not possible in format ascii_dec")
    limit = _ASCII_LIMITS_S.get(settings.hz)
    if limit is not None and (settings.acqtime_s is None or settings.acqtime_s > limit):
        raise RefusedError(f"Acquisition time is limited to {float(limit):g} s at {settings.hz} Hz")


def seconds_to_ps(seconds: Fraction) -> int:
    """Seconds as picoseconds."""
    return int(seconds * PS_PER_S)
