"""What the driver of each part must do.

A driver is a file, or a folder of several: a pure codec, and a thin asynchronous class that fits
one of the Protocols here. :mod:`drivers.base.registry` registers it. Every ``open`` survives a
predecessor that died in a command (drain, resynchronise, identify), every ``close`` leaves the
instrument idle and the port free and may be called twice, every wait has a deadline, and every
library exception is translated into :mod:`labd.core.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from labd.core.model import Finding, Identity, StreamFormat, StreamItem, TimeBase
from labd.protocol.lines import Line


class DriverConfig(BaseModel):
    """Base of every driver's table in stations.toml: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MonitorConfig(DriverConfig):
    """Base of a power monitor's table: properties of the monitor that hold while it is closed."""

    @property
    def sees_timestamps(self) -> bool:
        """Whether its stream has the DUT's timestamps; else an I/O manager must time them.

        Then the stream must have time marks of the host's clock, about one per second.
        """
        return True

    @property
    def supply_range_mv(self) -> tuple[int, int] | None:
        """Lowest and highest voltage allowed for the DUT; ``None`` if unknown."""
        return None


class IoConfig(DriverConfig):
    """Base of an I/O manager's table: properties of the board that hold while it is closed."""

    @property
    def times_timestamps(self) -> bool:
        """Whether the DUT's timestamp line is wired to the board's counter."""
        return False


class Driver(Protocol):
    """What every driver does."""

    async def open(self) -> Identity:
        """Open the port, bring the device to a known state, return its identity.

        Raises:
            TransportError: the port is missing, busy or goes away.
            InstrumentError: the answers are not of this protocol.
            DeadlineExceeded: nothing answers.
        """
        ...

    async def self_check(self) -> list[Finding]:
        """Check the open device; an empty list means that it is sound."""
        ...

    async def close(self) -> None:
        """Leave the device idle and the port free; safe to call twice."""
        ...


RELAY_DAMAGED = "relay-damaged"
"""Code of the :class:`InfraError` for a command that reached a relaying board damaged."""


class CommandChannel(Protocol):
    """Carries DUT commands, one at a time, directly or through an I/O manager.

    ``db_bytes`` is the largest payload of one ``db`` line, in bytes. After a missed deadline the
    channel is out of sync, since the late answer may still come: it refuses commands until it has
    been resynchronised or the DUT has booted again.
    """

    db_bytes: int

    async def run_command(self, text: str, deadline_s: float) -> list[Line]:
        """Send one command (without its ``%``) and return the lines before ``m-ready``.

        Raises:
            TransportError: the port went away.
            DeadlineExceeded: no ``m-ready`` in time; the error quotes what arrived.
            InfraError: ``out-of-step`` after a missed deadline; ``dut-restarted`` after an
                unexpected boot prologue.
        """
        ...

    async def expect_boot(self) -> None:
        """Prepare for a prologue; call it while the DUT is off, before power or reset.

        Text that the DUT sent before is discarded. If the board forwards text only while a command
        is open, this opens one, so that the prologue is not mistaken for a later answer.

        Raises:
            TransportError: the port went away.
            DeadlineExceeded: the board does not answer.
        """
        ...

    async def wait_boot(self, deadline_s: float) -> list[Line]:
        """Wait for the prologue after power-on or flashing and return its lines.

        A prologue that has passed, or firmware without one, is no fault: then the channel
        resynchronises as :meth:`resynchronise` does and returns what it received.

        Raises:
            TransportError: the port went away.
            InstrumentError: the channel cannot resynchronise.
            DeadlineExceeded: the DUT stays silent. A board that waits for its DUT then stays
                blocked; the channel refuses commands until the next boot.
        """
        ...

    async def resynchronise(self, deadline_s: float) -> None:
        """Establish that the next reply belongs to the next command.

        Takes ``deadline_s`` at most, and 10 s more if a board has to be reset.

        Raises:
            TransportError: the port went away.
            InstrumentError: answers do not belong to their commands.
            DeadlineExceeded: the DUT, or the board before it, does not answer.
        """
        ...


class DutPort(Driver, Protocol):
    """The DUT's own serial port."""

    @property
    def command_channel(self) -> CommandChannel:
        """The way to the DUT while the port is open."""
        ...

    async def set_baud(self, baud: int) -> None:
        """Reopen the port at another speed if it differs."""
        ...


@dataclass(frozen=True, slots=True)
class TimerEdge:
    """Timestamp of the DUT by an I/O manager's counter.

    Args:
        ticks: the counter, modulo 2^32; see :attr:`IoManager.tick_s`.
        t_ns: host clock when the board reported it.
    """

    ticks: int
    t_ns: int


class IoManager(Driver, Protocol):
    """The board that relays the DUT's UART and may time its pins."""

    tick_s: ClassVar[float]
    clock_tolerance_ppm: ClassVar[float]  # tolerance of its counter's rate

    @property
    def config(self) -> IoConfig:
        """Its table in stations.toml."""
        ...

    def logged_timestamps(self) -> list[TimerEdge]:
        """Return the timestamps since :meth:`clear_intervals`, in order."""
        ...

    @property
    def command_channel(self) -> CommandChannel:
        """The way to the DUT through this board."""
        ...

    @property
    def waiting_for_dut(self) -> bool:
        """Whether a command is open, so that the board reads its DUT alone.

        True after an ``open`` without any answer: a predecessor may have died with a command
        open. Then the DUT has to be powered, and :meth:`wait_until_free` called, before anything
        else; the board's name has not been checked until then.
        """
        ...

    async def wait_until_free(self, deadline_s: float) -> Identity:
        """Wait until a powered DUT has ended the open command; return the board's identity.

        Raises:
            TransportError: the port went away.
            InstrumentError: it is another board.
            DeadlineExceeded: it stays silent until it is reset.
        """
        ...

    async def set_dut_baud(self, baud: int) -> None:
        """Set the speed of the DUT's UART; waits for the board's reset if it needs one."""
        ...

    async def clear_intervals(self) -> None:
        """Forget the intervals and timestamps logged so far."""
        ...

    async def read_intervals(self) -> list[tuple[int, int]]:
        """Return the start and stop ticks of the DUT's batches since the last clear.

        They are edges of the processing pin, or pairs of timestamps if the board times those.
        """
        ...


class Acquisition(Protocol):
    """A running acquisition: its confirmed stream, and counts of what has been received.

    Iteration yields the confirmed stream: samples in order from index 0, each index once, in a
    :class:`Samples` or a :class:`Gap`; an edge after the samples that precede it; time marks
    anywhere. A driver holds samples back until they are confirmed, so a consumer that waits for
    the DUT watches ``received_samples`` and ``edges_seen`` and reads the stream afterwards. After
    the context of :meth:`PowerMonitor.acquire` has ended, iteration yields the rest and stops. A
    fault of the instrument or its port is raised by whichever method is awaited.
    """

    @property
    def received_samples(self) -> int:
        """Sample periods received so far, confirmed or not; never decreases."""
        ...

    @property
    def edges_seen(self) -> int:
        """Timestamps received so far, confirmed or not, including those dropped later.

        A timestamp is a falling edge of the format's ``timestamp_line``.
        """
        ...

    @property
    def event_counts(self) -> Mapping[str, int]:
        """What the driver counted beside the stream, by name: evidence of how well it ran.

        Samples, gaps and edges are counted by the consumer.
        """
        ...

    def __aiter__(self) -> AsyncIterator[StreamItem]:
        """Yield the confirmed stream; only one iteration at a time."""
        ...

    async def wait_progress(self, deadline_s: float) -> None:
        """Wait until ``received_samples`` or ``edges_seen`` has increased since the call.

        Raises:
            TransportError: the port went away.
            InstrumentError: the acquisition stopped by itself.
            DeadlineExceeded: nothing arrived in time.
        """
        ...


class PowerMonitor(Driver, Protocol):
    """Measures, and often supplies, the DUT."""

    @property
    def config(self) -> MonitorConfig:
        """Its table in stations.toml."""
        ...

    @property
    def stream_format(self) -> StreamFormat:
        """Units, rate and tolerances of the stream; valid after ``open``."""
        ...

    @property
    def can_supply_dut(self) -> bool:
        """Whether :meth:`set_dut_supply` powers the DUT; otherwise another supply does."""
        ...

    async def set_dut_supply(self, voltage_mv: int | None) -> None:
        """Power the DUT at this voltage, or switch it off with ``None``.

        Called only if :attr:`can_supply_dut` is true.

        Raises:
            JobError: the instrument cannot supply this voltage.
        """
        ...

    def acquire(
        self, time_base: TimeBase = TimeBase.HOST
    ) -> AbstractAsyncContextManager[Acquisition]:
        """Start an acquisition; leaving the context stops it and drains the instrument.

        Only one acquisition runs at a time. A fault of the instrument while stopping does not
        hide an exception of the context's body.

        Args:
            time_base: the clock that the instrument follows. With ``virtual`` the host's
                clock checks no sample count and makes no time marks; a monitor whose samples
                only the host's clock can confirm raises :class:`LabdBug`.
        """
        ...


class Flasher(Driver, Protocol):
    """Writes firmware into the DUT's flash memory."""

    async def flash(self, image: Path) -> None:
        """Write the ELF ``image`` and let the board restart.

        Raises:
            JobError: the image does not fit this board.
            InstrumentError: the programmer refused or failed.
        """
        ...
