"""Jetperch's driver library ``pyjoulescope_driver`` (an optional extra), shared by the process.

The library allows one ``Driver`` per process. It starts with the first instrument that uses it
and ends with the last.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol, cast

from labd.core.errors import ConfigError

LIBRARY = "pyjoulescope_driver:Driver"


class JoulescopeLibrary(Protocol):
    """The methods used of ``pyjoulescope_driver.Driver``; each may raise ``TimeoutError``."""

    def finalize(self, timeout: float | None = None) -> None:
        """Close everything."""
        ...

    def device_paths(self, timeout: float | None = None) -> list[str]:
        """Return the paths of the connected instruments, such as ``u/js220/000123``."""
        ...

    def open(
        self, device_prefix: str, mode: str | None = None, timeout: float | None = None
    ) -> None:
        """Open an instrument."""
        ...

    def close(self, device_prefix: str, timeout: float | None = None) -> None:
        """Close an instrument."""
        ...

    def publish(self, topic: str, value: str | int, timeout: float | None = None) -> None:
        """Publish a value and wait until the instrument has acknowledged it."""
        ...

    def query(self, topic: str, timeout: float | None = None) -> Any:
        """Return the last value of a topic."""
        ...

    def publish_and_wait(
        self,
        publish_topic: str,
        publish_value: str | int,
        response_topic: str,
        timeout: float | None = None,
    ) -> Any:
        """Publish a value and return the next value of another topic."""
        ...

    def subscribe(
        self, topic: str, flags: str, fn: Callable[[str, Any], None], timeout: float | None = None
    ) -> None:
        """Call ``fn`` on the library's thread for each value of a topic and those below it."""
        ...

    def unsubscribe_all(self, fn: Callable[[str, Any], None], timeout: float | None = None) -> None:
        """Remove all subscriptions of ``fn``."""
        ...


class SharedLibrary:
    """A running library, its number of users, and the owner of each open instrument by path."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.driver = _start_library(name)
        self.users = 0
        self._owners: dict[str, object] = {}

    def claim_instrument(self, path: str, owner: object) -> bool:
        """Make ``owner`` the owner of an instrument; return whether it is."""
        with _owning:
            return self._owners.setdefault(path, owner) is owner

    def release_instrument(self, path: str, owner: object) -> None:
        """Free an instrument if ``owner`` owns it."""
        with _owning:
            if self._owners.get(path) is owner:
                del self._owners[path]


_shared: dict[str, SharedLibrary] = {}
_lock = threading.Lock()  # held while a library starts or ends
_owning = threading.Lock()  # separate: the library's thread takes it while the library ends


def join_library(name: str) -> SharedLibrary:
    """Use the library ``module:class``; blocks while it starts.

    Raises:
        ConfigError: it is not installed.
    """
    with _lock:
        if name not in _shared:
            _shared[name] = SharedLibrary(name)
        _shared[name].users += 1
        return _shared[name]


def leave_library(shared: SharedLibrary) -> None:
    """Stop using the library; the last user ends it."""
    with _lock:
        shared.users -= 1
        if not shared.users:
            if _shared.get(shared.name) is shared:
                del _shared[shared.name]
            shared.driver.finalize()


def _start_library(name: str) -> JoulescopeLibrary:
    module, _, attribute = name.partition(":")
    try:
        factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as exc:
        raise ConfigError(
            "library-missing",
            f"the Python library {name} cannot be loaded: {exc}",
            "pip install labd[joulescope]",
        ) from exc
    return cast("JoulescopeLibrary", factory())
