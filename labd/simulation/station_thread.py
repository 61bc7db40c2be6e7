"""One emulated station: a thread that advances its virtual time and serves its ports."""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from labd.simulation.flash_drive import FlashDrive
from labd.simulation.instruments.lpm01a.device import TRANSMIT_BUFFER
from labd.simulation.mcu.image import FlashContents, ImageError, parse_image
from labd.simulation.pacing import OVERRUN_S, Freeze, Pace
from labd.simulation.station_hardware import StationHardware
from labd.wire.emulation import EmulatedStation

Order = Callable[[], bool]
"""An action in the station's thread; returns whether it changed anything."""


class StationThread:
    """The ports, the drive and the thread of one station."""

    def __init__(self, config: EmulatedStation, image: FlashContents, directory: Path) -> None:
        self.name = config.name
        self.log = logging.LoggerAdapter(
            logging.getLogger("labd.simulation"), {"station": self.name}
        )
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self.wiring = StationHardware(config, image, directory / config.name, self.log)
        self._ports = list(self.wiring.ports.values())
        self._power_port = self.wiring.ports.get("power")
        self.drive = FlashDrive(directory / config.name / "drive")
        self._directory = directory / config.name
        self._mode = (
            Freeze(self.wiring, self)
            if config.mode == "freeze"
            else Pace(self.wiring, self, time.monotonic_ns)
        )
        self._stopping = False
        self._thread = threading.Thread(target=self._run_until_stopped, name=self.name, daemon=True)

    # -- the bench's side

    @property
    def port_paths(self) -> dict[str, str]:
        """The pseudo-terminals by part."""
        return {part: port.path for part, port in self.wiring.ports.items()}

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and remove everything the station has put into the file system."""
        self._stopping = True
        self._wake_thread()
        self._thread.join()
        for port in self.wiring.ports.values():
            port.unplug()
        self.drive.remove_folder()
        if self._directory.is_dir() and not any(self._directory.iterdir()):
            self._directory.rmdir()

    def submit_order(
        self, action: Callable[[StationHardware], dict[str, object]], *, changes: bool
    ) -> Future[dict[str, object]]:
        """Run an action in the station's thread, between two steps of its time.

        Args:
            action: returns the answer.
            changes: whether it changes anything if it succeeds.
        """
        answer: Future[dict[str, object]] = Future()

        def carry_out() -> bool:
            result = action(self.wiring)
            answer.set_result(result)
            return changes and bool(result.get("ok", True))

        self._enqueue_order(carry_out)
        return answer

    def poll_drive(self) -> None:
        """Flash firmware that was copied onto the drive."""
        data = self.drive.take_complete_file()
        if data is None:
            return

        def flash() -> bool:
            try:
                reason = self.wiring.flash_board(parse_image(data))
            except ImageError as error:
                reason = str(error)
            if reason:
                self.log.warning("firmware refused: %s", reason)
                self.drive.write_failure_report(reason)
            return not reason

        self._enqueue_order(flash)

    def _enqueue_order(self, order: Order) -> None:
        self._orders.put(order)
        self._wake_thread()

    def _wake_thread(self) -> None:
        os.write(self._wake_write, b"\0")

    # -- its thread

    def _run_until_stopped(self) -> None:
        while not self._stopping:
            self._wait_for_power_reader()
            self._mode.step()
            for port in self._ports:
                if port.waiting_bytes and (port.has_whole_line or not self.wiring.is_executing):
                    port.flush()

    def _wait_for_power_reader(self) -> None:
        """Wait for a slow reader of the power stream, at most :data:`OVERRUN_S`."""
        port, monitor = self._power_port, self.wiring.monitor
        if port is None or monitor is None or port.waiting_bytes <= TRANSMIT_BUFFER:
            return
        deadline = time.monotonic() + OVERRUN_S
        while monitor.is_acquiring and port.waiting_bytes > TRANSMIT_BUFFER and not self._stopping:
            if port.blocked or time.monotonic() > deadline:
                self.log.warning("no program reads the power stream: overrun")
                monitor.on_overrun()
                port.blocked = False
            elif port.flush():
                deadline = time.monotonic() + OVERRUN_S
            else:
                time.sleep(0.005)

    # -- Outside

    def wait_for_input(self, timeout_s: float | None) -> None:
        """Pass waiting output on and sleep until input arrives."""
        ports = self.wiring.ports.values()
        for port in ports:
            port.flush()
        readers = [port.fileno for port in ports if port.fileno is not None]
        writers = [
            p.fileno for p in ports if p.fileno is not None and p.waiting_bytes and not p.blocked
        ]
        ready, _, _ = select.select([*readers, self._wake_read], writers, [], timeout_s)
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)

    def receive_input(self) -> list[tuple[str, bytes]]:
        """Return what hosts have sent."""
        received = [(part, port.receive()) for part, port in self.wiring.ports.items()]
        return [(part, data) for part, data in received if data]

    def execute_orders(self) -> bool:
        """Execute the orders given meanwhile."""
        changed = False
        while True:
            try:
                order = self._orders.get_nowait()
            except queue.Empty:
                return changed
            changed = order() or changed
