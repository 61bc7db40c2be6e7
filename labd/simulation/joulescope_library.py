"""A stand-in for ``pyjoulescope_driver.Driver``, with simulated instruments on its USB.

A Joulescope has no public byte protocol: what a host sees is this library's publish and
subscribe. :class:`SimulatedDriver` has the library's methods, arguments, message fields and
types, its own thread that calls back, and its limit of one driver per process; instruments are
plugged into :data:`USB`.

For use without a test: set ``library = "labd.simulation.joulescope_library:LiveDriver"`` in a
station's power monitor; it has one JS220 that measures a made-up board in real time.
"""

# ruff: noqa: ARG002 - the arguments are the library's

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from labd.simulation.instruments.joulescope import SimulatedJoulescope

LIVE_STEP_S = 0.05

Subscriber = Callable[[str, Any], None]


class Usb:
    """Instruments on the USB of this machine."""

    def __init__(self) -> None:
        self.devices: dict[str, SimulatedJoulescope] = {}
        self.host: SimulatedDriver | None = None

    def plug(self, device: SimulatedJoulescope) -> None:
        """Plug an instrument in."""
        self.devices[device.path] = device
        device.set_library_host(self.host)
        if self.host is not None:
            self.host.notify_subscribers("@/!add", device.path)

    def unplug(self, device: SimulatedJoulescope) -> None:
        """Pull it; safe to call twice."""
        if self.devices.pop(device.path, None) is not None and self.host is not None:
            self.host.notify_subscribers("@/!remove", device.path)
        device.set_library_host(None)


USB = Usb()


class UsbCable:
    """A cable to :data:`USB`: its path is the instrument's serial number."""

    def __init__(self, device: SimulatedJoulescope) -> None:
        self.device: Any = device
        self.received = b""
        self.plugged = True
        self.waiting_bytes = 0
        self.path = device.serial
        device.send = self.send  # type: ignore[attr-defined] - messages, not bytes, are sent
        USB.plug(device)

    @property
    def mute(self) -> bool:
        """Whether the instrument answers nothing and sends nothing."""
        return self.device.mute

    @mute.setter
    def mute(self, mute: bool) -> None:
        self.device.mute = mute

    def send(self, data: bytes) -> None:
        """Do nothing: there are no bytes."""

    def unplug(self) -> None:
        """Pull the cable; safe to call twice."""
        self.plugged = False
        USB.unplug(self.device)


class SimulatedDriver:
    """The library's class: same methods, same arguments, same errors."""

    def __init__(self, timeout: float | None = None) -> None:
        if USB.host is not None:
            text = "jsdrv_initialize failed 21 IN_USE | The requested resource is currently in use."
            raise RuntimeError(text)
        self.log_level = -1
        self._ended = threading.Event()
        self._subscribers: list[tuple[str, Subscriber]] = []
        self._queue: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run_callbacks, name="simulated jsdrv", daemon=True
        )
        USB.host = self
        for device in USB.devices.values():
            device.set_library_host(self)
        self._thread.start()

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(
        self,
        type: type[BaseException] | None,  # noqa: A002 - the library's names
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        self.finalize()

    def finalize(self, timeout: float | None = None) -> None:
        """End it; close what is open."""
        if not self._ended.is_set():
            self._ended.set()
            for device in USB.devices.values():
                device.set_library_host(None)
            USB.host = None
            self._queue.put(None)
            self._thread.join()

    def device_paths(self, timeout: float | None = None) -> list[str]:
        """Return the instruments that are plugged in."""
        return sorted(USB.devices)

    def open(
        self, device_prefix: str, mode: str | None = None, timeout: float | None = None
    ) -> None:
        """Open an instrument."""
        device = self._wait_for_device("jsdrv_open", device_prefix, timeout)
        if device.is_open:
            self._raise_refused("jsdrv_open", "21 IN_USE", device_prefix)
        device.open()

    def close(self, device_prefix: str, timeout: float | None = None) -> None:
        """Close it."""
        self._wait_for_device("jsdrv_close", device_prefix, timeout).close()

    def publish(self, topic: str, value: Any, timeout: float | None = None) -> None:
        """Set a value or give a command."""
        if not isinstance(value, str | int | float | bytes):
            raise ValueError(f"Unsupported value type: {type(value)}")  # noqa: TRY004 - as it does
        prefix, rest = self._split_topic(topic)
        code = self._wait_for_device("jsdrv_publish", prefix, timeout, topic).set_topic(rest, value)
        if code:
            self._raise_refused("jsdrv_publish", code, topic)

    def query(self, topic: str, timeout: float | None = None) -> Any:
        """Return the last value of a topic, from the library's memory."""
        prefix, rest = self._split_topic(topic)
        values = USB.devices[prefix].values if prefix in USB.devices else {}
        if rest not in values:
            self._raise_refused("jsdrv_query", "16 NOT_FOUND", topic)
        return values[rest]

    def publish_and_wait(
        self,
        publish_topic: str,
        publish_value: Any,
        response_topic: str,
        timeout: float | None = None,
    ) -> Any:
        """Publish, and return the next value of another topic."""
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def on_answer(_: str, value: Any) -> None:
            answers.put(value)

        self.subscribe(response_topic, "pub", on_answer)
        try:
            self.publish(publish_topic, publish_value, timeout)
            return answers.get(timeout=timeout or 1.0)
        except queue.Empty:
            raise TimeoutError(f"publish_and_wait timed out: publish={publish_topic}") from None
        finally:
            self.unsubscribe(response_topic, on_answer)

    def subscribe(
        self, topic: str, flags: Any, fn: Subscriber, timeout: float | None = None
    ) -> None:
        """Call ``fn`` with the values of a topic and of those below it."""
        self._subscribers.append((topic, fn))

    def unsubscribe(self, topic: str, fn: Subscriber, timeout: float | None = None) -> None:
        """Call ``fn`` no more for this topic."""
        self._subscribers = [one for one in self._subscribers if one != (topic, fn)]

    def unsubscribe_all(self, fn: Subscriber, timeout: float | None = None) -> None:
        """Call ``fn`` no more."""
        self._subscribers = [one for one in self._subscribers if one[1] is not fn]

    # ---- inside ----------------------------------------------------------------------------

    def notify_subscribers(self, topic: str, value: Any) -> None:
        """Have the library's thread call the subscribers."""
        self._queue.put((topic, value))

    def _run_callbacks(self) -> None:
        while (one := self._queue.get()) is not None:
            topic, value = one
            for wanted, subscriber in list(self._subscribers):
                if topic == wanted or topic.startswith(f"{wanted}/"):
                    subscriber(topic, value)

    def _split_topic(self, topic: str) -> tuple[str, str]:
        """Return the instrument's path and the topic below it."""
        parts = topic.split("/", 3)
        return "/".join(parts[:3]), "".join(parts[3:])

    def _wait_for_device(
        self, call: str, prefix: str, timeout: float | None, cause: str = ""
    ) -> SimulatedJoulescope:
        """Return the instrument if it answers within the timeout."""
        device = USB.devices.get(prefix)
        until = time.monotonic() + (1.0 if timeout is None else timeout)
        while (device is None or device.mute) and not self._ended.is_set():
            if time.monotonic() >= until:
                raise TimeoutError(f"{call} timed out | {cause or prefix}")
            time.sleep(0.005)
        if device is None:
            raise TimeoutError(f"{call} timed out | {cause or prefix}")
        return device

    def _raise_refused(self, call: str, code: str, topic: str) -> None:
        raise RuntimeError(f"{call} failed {code} | Refused by the simulation | {topic}")


class LiveDriver(SimulatedDriver):
    """One JS220 that measures a made-up board in real time."""

    def __init__(self, timeout: float | None = None) -> None:
        super().__init__(timeout)
        self._device = SimulatedJoulescope(serial="simulated")
        USB.plug(self._device)
        self._living = threading.Thread(
            target=self._measure_by_wall_clock, name="simulated joulescope", daemon=True
        )
        self._living.start()

    def finalize(self, timeout: float | None = None) -> None:
        """End it and its instrument."""
        super().finalize(timeout)
        self._living.join()
        USB.unplug(self._device)

    def _measure_by_wall_clock(self) -> None:
        began, done = time.monotonic(), 0.0
        while not self._ended.wait(LIVE_STEP_S):
            elapsed = time.monotonic() - began
            self._device.measure_for(elapsed - done)
            done = elapsed
