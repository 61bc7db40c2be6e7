"""Finds drivers by the entry point group ``labd.drivers``; imports only those in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Self, cast

from drivers.base.interfaces import Driver, DriverConfig
from labd.core.errors import ConfigError
from labd.core.model import Part

GROUP = "labd.drivers"


@dataclass(frozen=True, slots=True)
class PartConfig:
    """One part of one station: its driver's name and checked configuration."""

    part: Part
    driver: str
    config: DriverConfig


class Registry:
    """The drivers there are.

    Args:
        loaders: a function by driver name that imports the driver's class.
    """

    def __init__(self, loaders: Mapping[str, Callable[[], type[Any]]]) -> None:
        self._loaders = dict(loaders)
        self._classes: dict[str, type[Driver]] = {}

    @classmethod
    def installed(cls) -> Self:
        """Every driver installed in this Python; none of them is imported yet."""
        return cls({entry.name: entry.load for entry in entry_points(group=GROUP)})

    @classmethod
    def of(cls, drivers: Mapping[str, type[Any]]) -> Self:
        """These drivers only."""
        return cls({name: _constant(driver) for name, driver in drivers.items()})

    def find(self, name: str) -> type[Driver] | None:
        """A driver's class, or ``None`` when nothing of that name is installed.

        Raises:
            ConfigError: it is installed, but cannot be imported or is no driver.
        """
        if name not in self._classes and name in self._loaders:
            self._classes[name] = self._load(name)
        return self._classes.get(name)

    def names(self, part: Part) -> list[str]:
        """The drivers for one part, by name; imports all drivers, so for error texts only.

        One that cannot be imported is left out.
        """
        return [name for name in sorted(self._loaders) if self._part(name) is part]

    def make(self, part: PartConfig) -> Driver:
        """A new driver object for one part of a station.

        Raises:
            ConfigError: no such driver is installed.
        """
        driver = self.find(part.driver)
        if driver is None:
            raise ConfigError("no-driver", f"there is no driver {part.driver!r}")
        return cast("Callable[[DriverConfig], Driver]", driver)(part.config)

    def configure(self, part: Part, name: str, values: Mapping[str, Any]) -> PartConfig:
        """One part's configuration made by labd itself.

        Raises:
            ConfigError: no such driver is installed.
        """
        driver = self.find(name)
        if driver is None:
            raise ConfigError("no-driver", f"there is no driver {name!r}", "reinstall labd")
        return PartConfig(part, name, driver.config_model.model_validate(values))

    def _part(self, name: str) -> Part | None:
        try:
            driver = self.find(name)
        except ConfigError:
            return None
        return driver.part if driver else None

    def _load(self, name: str) -> type[Driver]:
        try:
            driver = self._loaders[name]()
        except (ImportError, AttributeError) as error:
            todo = "install what it needs, or correct its entry point"
            raise ConfigError(
                "driver-import", f"driver {name} cannot be loaded: {error}", todo
            ) from error
        if not isinstance(getattr(driver, "part", None), Part):
            what = f"{driver.__name__}, installed as driver {name}, is not marked with @driver"
            raise ConfigError("driver-import", what)
        return driver


def _constant(driver: type[Any]) -> Callable[[], type[Any]]:
    return lambda: driver
