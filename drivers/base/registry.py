"""Registration of driver classes, and the drivers installed in this Python.

A driver class is registered for one part by a decorator that pyright checks: the class must fit
the part's Protocol, and its constructor must take the configuration model it is registered with::

    @register_power_monitor(config=Acme9000Config)
    class Acme9000: ...

Drivers are found by the entry point group ``labd.drivers``; only those in use are imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Generic, Self, TypeVar, cast

from drivers.base.interfaces import (
    Driver,
    DriverConfig,
    DutPort,
    Flasher,
    IoManager,
    MonitorConfig,
    PowerMonitor,
)
from labd.core.errors import ConfigError, LabdBug
from labd.core.model import Part

GROUP = "labd.drivers"

D = TypeVar("D", bound=Driver)
T = TypeVar("T")
D_co = TypeVar("D_co", bound=Driver, covariant=True)
C = TypeVar("C", bound=DriverConfig)
M = TypeVar("M", bound=MonitorConfig)
DutPortT = TypeVar("DutPortT", bound=DutPort)
IoManagerT = TypeVar("IoManagerT", bound=IoManager)
PowerMonitorT = TypeVar("PowerMonitorT", bound=PowerMonitor)
FlasherT = TypeVar("FlasherT", bound=Flasher)


# ---- registration ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registration(Generic[D_co]):
    """A registered driver class.

    Args:
        part: what it drives.
        driver: the class.
        config_model: checks its table in stations.toml.
        make_driver: return a new driver with this configuration, which must be a ``config_model``.
    """

    part: Part
    driver: object
    config_model: type[DriverConfig]
    make_driver: Callable[[DriverConfig], D_co]


class DriverKind(Generic[D]):
    """The driver classes registered for one part; the decorators below check that they fit it."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.registered: dict[object, Registration[D]] = {}

    def register(self, driver: Callable[[C], T], model: type[C]) -> type[T]:
        """Register a class that is constructed from its configuration; return the class."""

        def make_driver(config: DriverConfig) -> D:
            if not isinstance(config, model):
                raise LabdBug("driver-config", f"{config!r} is not a {model.__name__}")
            return cast("D", driver(config))

        self.registered[driver] = Registration(self.part, driver, model, make_driver)
        return cast("type[T]", driver)


DUT_PORTS: DriverKind[DutPort] = DriverKind(Part.DUT)
IO_MANAGERS: DriverKind[IoManager] = DriverKind(Part.IO)
POWER_MONITORS: DriverKind[PowerMonitor] = DriverKind(Part.POWER)
FLASHERS: DriverKind[Flasher] = DriverKind(Part.FLASHER)


def register_dut_port(*, config: type[C]) -> Callable[[Callable[[C], DutPortT]], type[DutPortT]]:
    """Register a class that drives a DUT's own serial port."""
    return lambda driver: DUT_PORTS.register(driver, config)


def register_io_manager(
    *, config: type[C]
) -> Callable[[Callable[[C], IoManagerT]], type[IoManagerT]]:
    """Register a class that drives an I/O manager."""
    return lambda driver: IO_MANAGERS.register(driver, config)


def register_power_monitor(
    *, config: type[M]
) -> Callable[[Callable[[M], PowerMonitorT]], type[PowerMonitorT]]:
    """Register a class that drives a power monitor."""
    return lambda driver: POWER_MONITORS.register(driver, config)


def register_flasher(*, config: type[C]) -> Callable[[Callable[[C], FlasherT]], type[FlasherT]]:
    """Register a class that flashes the DUT."""
    return lambda driver: FLASHERS.register(driver, config)


# ---- installed drivers -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PartConfig:
    """One part of one station: its driver's name and checked configuration."""

    part: Part
    driver: str
    config: DriverConfig


class Registry:
    """The drivers that stations.toml may name.

    Args:
        loaders: a function by driver name that imports the driver's class.
    """

    def __init__(self, loaders: Mapping[str, Callable[[], object]]) -> None:
        self._loaders = dict(loaders)
        self._found: dict[str, Registration[Driver]] = {}

    @classmethod
    def from_entry_points(cls) -> Self:
        """Every driver installed in this Python; none of them is imported yet."""
        return cls({entry.name: entry.load for entry in entry_points(group=GROUP)})

    def find_driver(self, name: str) -> Registration[Driver] | None:
        """Return a driver's registration, or ``None`` when no driver of that name is installed.

        Raises:
            ConfigError: it is installed, but cannot be imported or is no driver.
        """
        if name not in self._found and name in self._loaders:
            self._found[name] = self._load_driver(name)
        return self._found.get(name)

    def driver_names(self, part: Part) -> list[str]:
        """Return the names of the drivers for one part; imports all drivers, for error texts only.

        One that cannot be imported is left out.
        """
        return [name for name in sorted(self._loaders) if self._part_of_driver(name) is part]

    def make_driver(self, kind: DriverKind[D], part: PartConfig | None) -> D | None:
        """Return a new driver for one part of a station, ``None`` where it has no such part.

        Raises:
            ConfigError: no such driver is installed.
        """
        if part is None:
            return None
        driver = self._require_driver(part.driver).driver
        return kind.registered[driver].make_driver(part.config)

    def configure_part(self, part: Part, name: str, values: Mapping[str, Any]) -> PartConfig:
        """Return the configuration of a part that labd itself chose.

        Raises:
            ConfigError: no such driver is installed.
        """
        return PartConfig(
            part, name, self._require_driver(name).config_model.model_validate(values)
        )

    def _require_driver(self, name: str) -> Registration[Driver]:
        registration = self.find_driver(name)
        if registration is None:
            raise ConfigError("no-driver", f"there is no driver {name!r}", "reinstall labd")
        return registration

    def _part_of_driver(self, name: str) -> Part | None:
        try:
            registration = self.find_driver(name)
        except ConfigError:
            return None
        return registration.part if registration else None

    def _load_driver(self, name: str) -> Registration[Driver]:
        try:
            driver = self._loaders[name]()
        except (ImportError, AttributeError) as error:
            remedy = "install what it needs, or correct its entry point"
            raise ConfigError(
                "driver-import", f"driver {name} cannot be loaded: {error}", remedy
            ) from error
        for kind in (DUT_PORTS, IO_MANAGERS, POWER_MONITORS, FLASHERS):
            if driver in kind.registered:
                return kind.registered[driver]
        what = f"{driver}, installed as driver {name}, is not registered as a driver"
        remedy = "decorate the class with @register_power_monitor, or that of its part"
        raise ConfigError("driver-import", what, remedy)
