"""Settings of a Joulescope: its table in stations.toml, and what each model offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator, model_validator

from drivers.base.identity import SIMULATED
from drivers.base.interfaces import MonitorConfig
from drivers.joulescope.library import LIBRARY
from labd.core.errors import ConfigError, TransportError, Where

RATES_HZ = (1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
LINES = {"gpi0": "s/gpi/0", "gpi1": "s/gpi/1", "gpi2": "s/gpi/2", "gpi3": "s/gpi/3"}
ANALOG = {"i": "s/i", "v": "s/v"}
_SMALL_RANGES = ("180 mA", "18 mA", "1.8 mA", "180 µA", "18 µA")

Settings = tuple[tuple[str, str | int], ...]
"""Values to publish, by topic below the instrument's path."""


@dataclass(frozen=True, slots=True)
class JoulescopeModel:
    """Differences between the models.

    Args:
        current_ranges: ranges of the current measurement, besides ``auto``.
        gpio_voltages: reference voltages of the inputs, with the value that selects each.
        full_rate_hz: value of ``h/fs``.
        time_uncertainty_ns: of its time map, generous. A JS220 exchanges time stamps with the
            host (Jetperch forum, thread 844: ±100 µs typical), but its first time map, and a
            JS110's always, is estimated from the arrival of data.
    """

    name: str
    lines: tuple[str, ...]
    voltage_ranges: tuple[str, ...]
    current_ranges: tuple[str, ...]
    gpio_voltages: dict[str, str | int]
    full_rate_hz: int
    time_uncertainty_ns: int


MODELS = {
    "js220": JoulescopeModel(
        name="JS220",
        lines=tuple(LINES),
        voltage_ranges=("15 V", "2 V"),
        current_ranges=("10 A", *_SMALL_RANGES),
        gpio_voltages={"3.3 V": "3v3", "external": "external"},
        full_rate_hz=1_000_000,
        time_uncertainty_ns=5_000_000,
    ),
    "js110": JoulescopeModel(
        name="JS110",
        lines=("gpi0", "gpi1"),
        voltage_ranges=("15 V", "5 V"),
        current_ranges=("10 A", "2 A", *_SMALL_RANGES),
        gpio_voltages={
            f"{mv / 1000:.1f} V": mv for mv in (1800, 2100, 2500, 2700, 3000, 3300, 3600, 5000)
        },
        full_rate_hz=2_000_000,
        time_uncertainty_ns=20_000_000,
    ),
}


class JoulescopeConfig(MonitorConfig):
    """A Joulescope on USB, in the DUT's supply."""

    serial: str = Field("", description="its serial number; empty if it is the only one")
    rate_hz: int = Field(
        10_000,
        description="samples recorded per second, each the mean of the instrument's own samples; "
        "edges are timed to 0.5 µs at any rate",
    )
    voltage_range: Literal["15 V", "5 V", "2 V"] = Field("15 V", description="of the DUT's supply")
    current_range: str = Field("auto", description='"auto", or one fixed range, such as "18 mA"')
    timestamp_line: str = Field("gpi0", description="input wired to the DUT's timestamp pin")
    lines: tuple[str, ...] = Field((), description="further inputs to record")
    gpio_voltage: str = Field(
        "3.3 V", description='reference of the inputs; "external" uses the Vref pin'
    )
    answer_s: float = Field(3.0, gt=0, le=60, description="longest wait for an answer, seconds")
    library: str = Field(
        LIBRARY,
        description="module:class of its driver library; another one than the maker's is a "
        "simulation and has 'simulat' in its name",
    )

    @property
    def supply_range_mv(self) -> tuple[int, int]:
        """Up to the voltage range, above which no reading is valid; it supplies nothing."""
        return 1, 1000 * int(self.voltage_range.split()[0])

    @field_validator("library")
    @classmethod
    def _check_library(cls, library: str) -> str:
        if library != LIBRARY and SIMULATED not in library.lower():
            raise ValueError(f"'{library}' is neither {LIBRARY} nor named as a simulation")
        return library

    @field_validator("rate_hz")
    @classmethod
    def _check_rate(cls, rate_hz: int) -> int:
        if rate_hz not in RATES_HZ:
            raise ValueError(f"{rate_hz} Hz is none of {', '.join(map(str, RATES_HZ))} Hz")
        return rate_hz

    @field_validator("current_range")
    @classmethod
    def _check_current_range(cls, text: str) -> str:
        text = text.replace("uA", "µA").replace("\N{GREEK SMALL LETTER MU}A", "µA")
        known = {"auto", *(one for model in MODELS.values() for one in model.current_ranges)}
        if text not in known:
            raise ValueError(f"'{text}' is none of {', '.join(sorted(known))}")
        return text

    @model_validator(mode="after")
    def _check_lines(self) -> JoulescopeConfig:
        for line in self.all_lines:
            if line not in LINES:
                raise ValueError(f"'{line}' is none of {', '.join(LINES)}")
        return self

    @property
    def all_lines(self) -> tuple[str, ...]:
        """The inputs recorded, each once, the timestamp line first."""
        return tuple(dict.fromkeys((self.timestamp_line, *self.lines)))

    def stream_settings(self, *, on: bool) -> Settings:
        """Return what switches the streams; lines first, so that no sample waits long for them."""
        topics = (*(LINES[line] for line in self.all_lines), *ANALOG.values())
        return tuple((f"{topic}/ctrl", int(on)) for topic in topics)


def choose_path(paths: Sequence[str], serial: str, where: Where) -> str:
    """Return the path of the configured instrument, such as ``u/js220/000123``.

    Raises:
        TransportError: it is not connected.
        ConfigError: it is in its bootloader, of an unknown model, or one of several.
    """
    found = [path for path in paths if not serial or path.rpartition("/")[2] == serial]
    there = ", ".join(paths) or "none"
    if not found:
        what = f"no Joulescope {serial or 'is'} on USB; there: {there}"
        raise TransportError("port-missing", what, "check the cable and stations.toml", where)
    if len(found) > 1:
        what = f"several Joulescopes on USB: {there}"
        raise ConfigError("serial-needed", what, "name the serial in stations.toml", where)
    name = found[0].split("/")[1]
    if name.startswith("&"):
        remedy = "finish its update with the Joulescope UI or python -m pyjoulescope_driver program"
        raise ConfigError("bootloader", f"{found[0]} is in bootloader mode", remedy, where)
    if name not in MODELS:
        remedy = f"this driver supports {', '.join(MODELS)}"
        raise ConfigError("unknown-model", f"{found[0]} is of an unknown model", remedy, where)
    return found[0]


def settings_for(config: JoulescopeConfig, model: JoulescopeModel, where: Where) -> Settings:
    """Return the settings to publish after opening, in this order.

    Raises:
        ConfigError: the model does not have what the configuration asks for.
    """
    _require_allowed("gpio_voltage", config.gpio_voltage, model, tuple(model.gpio_voltages), where)
    _require_allowed("voltage_range", config.voltage_range, model, model.voltage_ranges, where)
    _require_allowed(
        "current_range", config.current_range, model, ("auto", *model.current_ranges), where
    )
    for line in config.all_lines:
        _require_allowed("line", line, model, model.lines, where)
    reference = model.gpio_voltages[config.gpio_voltage]
    common: Settings = (
        ("s/v/range/select", config.voltage_range),
        ("h/fs", model.full_rate_hz),
    )
    if model.name == "JS110":
        # Its inputs replace the lowest bits of current and voltage if selected here; otherwise
        # these bits are noise, which the library reads as edges (js110_sample_processor.c).
        return (
            *common,
            ("s/extio/voltage", reference),
            ("s/i/lsb_src", "gpi0" if "gpi0" in config.all_lines else "normal"),
            ("s/v/lsb_src", "gpi1" if "gpi1" in config.all_lines else "normal"),
            ("s/i/range/select", config.current_range),
        )
    current: Settings = (("s/i/range/mode", "auto"),)
    if config.current_range != "auto":
        current = (("s/i/range/select", config.current_range), ("s/i/range/mode", "manual"))
    return (*common, ("s/v/range/mode", "manual"), ("c/gpio/vref", reference), *current)


def _require_allowed(
    key: str, value: str, model: JoulescopeModel, allowed: Sequence[str], where: Where
) -> None:
    if value not in allowed:
        what = f"{key} = '{value}', but a {model.name} has {', '.join(allowed)}"
        raise ConfigError("model-lacks", what, "change stations.toml", where)
